package bundles

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
)

// Hash is the SHA-256 of the content, in hex: the one that was stored, or else computed.
func (v View) Hash() string {
	sum := sha256.Sum256([]byte(v.Content))
	return cmp.Or(v.SHA256, hex.EncodeToString(sum[:]))
}

// Rules answers the rules of the bundle as its content says. A document without rules has those that its tenants' lists of topics amount to.
func (v View) Rules() ([]policy.Rule, error) {
	d, err := policy.Parse(v.ID, []byte(v.Content))
	if err != nil {
		if bad, ok := errors.AsType[*policy.Error](err); ok {
			err = errors.New(where(bad))
		}
		return nil, err
	}
	if len(d.Rules) > 0 {
		return d.Rules, nil
	}
	var rules []policy.Rule
	for _, name := range slices.Sorted(maps.Keys(d.Tenants)) {
		derived := func(kind, does string, patterns []string) {
			for n, pattern := range patterns {
				rules = append(rules, policy.Rule{
					ID: fmt.Sprintf("legacy:%s:%s:%d", name, kind, n+1), Match: policy.Match{Tenants: []string{name}, Topics: []string{pattern}},
					Decision: kind, Reason: fmt.Sprintf("topic %q %s by tenant policy", pattern, does),
				})
			}
		}
		derived("deny", "denied", d.Tenants[name].DenyTopics)
		derived("allow", "allowed", d.Tenants[name].AllowTopics)
	}
	return rules, nil
}

// Pack is the part of the id before its first slash, and Overlay what comes after; an id without one is all overlay.
func (v View) Pack() (pack, overlay string) {
	pack, overlay, ok := strings.Cut(v.ID, "/")
	if !ok {
		return "", v.ID
	}
	return pack, overlay
}

// Try answers the policy as it would be with another content of a bundle, enabled; "" is the bundle's draft, or what is in force.
func (s *Store) Try(ctx context.Context, id, content string) (head.Head, error) {
	d, err := s.draft(ctx, id)
	if err != nil {
		return head.Head{}, err
	}
	now, err := s.Head.Latest(ctx)
	if err != nil {
		return head.Head{}, err
	}
	switch {
	case strings.TrimSpace(content) != "":
		if err := checkID(id); err != nil {
			return head.Head{}, err
		}
		m := object{}
		m.set("content", content)
		now.Content.Bundles[id] = m.raw()
	case d != nil:
		now.Content.Bundles[id] = d.onto(now.Content.Bundles[id])
	}
	h, err := s.Head.Compile(&now.Content)
	if bad, ok := errors.AsType[*policy.Error](err); ok {
		if bad.Source == "" {
			return head.Head{}, fault.New(fault.Invalid, "parse policy bundles: %s", where(bad))
		}
		return head.Head{}, fault.New(fault.Invalid, "parse policy bundle %q: %s", bad.Source, where(bad))
	}
	return head.Head{Policy: h, Revision: now.Revision}, err
}
