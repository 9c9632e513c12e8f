// Package seed puts the first configuration into a plane: the policy, the pools and the timeouts of files, and a catalog of packs.
package seed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/marketplace"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
)

// Files is what a plane begins with, as YAML.
type Files struct {
	Policy, Pools, Timeouts []byte
	// Signature is the policy's; nil for none.
	Signature []byte
	// Settings are further members of the document system/default.
	Settings map[string]json.RawMessage
	// Catalog is the first catalog of packs; nil for none.
	Catalog *marketplace.Catalog
}

// Apply stores what is not stored yet: pools, timeouts and settings that an operator has changed stay as they are. The policy file is the
// base policy: a file that has changed since takes effect. Files that are not valid are refused, as is a policy without the signature that heads
// want, and nothing is stored. So is a plane whose policy, with all bundles, cannot be loaded then. It answers the pools that the plane has.
func Apply(ctx context.Context, documents *config.Store, heads *head.Store, f Files, now time.Time) (pools []string, err error) {
	members, err := f.members()
	if err != nil {
		return nil, err
	}
	source := Base(f.Policy)
	if err := heads.Check(source, f.Signature); err != nil {
		return nil, err
	}
	if _, err := documents.Seed(ctx, config.SystemScope, config.DefaultID, members, now); err != nil {
		return nil, fmt.Errorf("seed settings: %w", err)
	}
	if f.Catalog != nil {
		if err := marketplace.Seed(ctx, documents, *f.Catalog, now); err != nil {
			return nil, fmt.Errorf("seed catalogs of packs: %w", err)
		}
	}
	d, err := documents.Get(ctx, config.SystemScope, config.DefaultID)
	if err != nil {
		return nil, err
	}
	settings, _, err := documents.Compile(ctx, d, nil) // what is not valid is logged by who reads it
	if err != nil {
		return nil, fmt.Errorf("stored settings: %w", err)
	}
	if _, err := heads.SetBase(ctx, source, f.Signature, now); err != nil {
		return nil, fmt.Errorf("seed policy: %w", err)
	}
	if _, err := heads.Current(ctx); err != nil {
		return nil, err
	}
	return settings.Topology.Pools(), nil
}

// Base is a policy file as the base policy.
func Base(text []byte) policy.Source { return policy.Source{Name: "policy.yaml", Content: text} }

func (f Files) members() (map[string]json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	for name, text := range map[string][]byte{"pools": f.Pools, "timeouts": f.Timeouts} {
		raw, err := yaml.YAMLToJSON(text)
		if err != nil {
			return nil, fmt.Errorf("%s.yaml: %w", name, err)
		}
		members[name] = raw
	}
	maps.Copy(members, f.Settings)
	all, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	if _, problems := schedule.ParseSettings(all, nil); len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return members, nil
}
