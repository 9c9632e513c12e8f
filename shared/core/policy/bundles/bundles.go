// Package bundles edits the policy bundles. What is in force is the content of the policy head; what clients put is a draft, an item of its own,
// until it is published. Every change of what is in force is one transaction: the content, the copies from before and after, the drafts that it
// takes up, and its audit entry, or nothing of all that.
package bundles

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Store edits bundles. One is shared by everything in a process; all its methods may be called at once.
type Store struct {
	Table store.Table
	Head  *head.Store
	Clock clock.Clock
	IDs   ids.Source

	micros clock.Unique
}

// What callers hear.
var (
	errNotFound   = fault.New(fault.NotFound, "bundle not found")
	errNoSnapshot = fault.New(fault.NotFound, "snapshot not found")
	errPrefix     = fault.New(fault.Invalid, "bundle id must start with "+head.Editable)
	errConflict   = fault.New(fault.Conflict, "bundles were changed by somebody else meanwhile; retry")
)

// maxID is the longest id of a bundle, in bytes.
const maxID = 256

// checkID says what is wrong with an id that is to be written. A NUL would make two contents one snapshot.
func checkID(id string) error {
	switch {
	case strings.Trim(id, "/") == "" || strings.HasSuffix(id, "/"):
		return fault.New(fault.Invalid, "bundle id %q needs a name", id)
	case len(id) > maxID:
		return fault.New(fault.Invalid, "bundle id is longer than %d bytes", maxID)
	case !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl) || strings.TrimSpace(id) != id || strings.Contains(id, "~"):
		return fault.New(fault.Invalid, "bundle id %q has characters that an id must not have", id)
	}
	return nil
}

// checkEditable is checkID for what the routes may write.
func checkEditable(id string) error {
	if !strings.HasPrefix(id, head.Editable) {
		return errPrefix
	}
	return checkID(id)
}

func editable(id string) bool { return checkEditable(id) == nil }

// View is a bundle as clients see it: what is in force, or, where there is one, its draft in its place.
type View struct {
	head.Bundle

	ID  string
	Raw json.RawMessage
	// Draft says that this is a draft.
	Draft bool
}

// view reads what was stored; what cannot be read has no content.
func view(id string, raw json.RawMessage) View {
	b, _ := head.ParseBundle(raw)
	b.Content = strings.TrimSpace(b.Content)
	return View{Bundle: b, ID: id, Raw: raw}
}

// List answers all bundles by id, with their drafts in place of what is in force, and when anything last changed: RFC 3339, "" when there is
// nothing.
func (s *Store) List(ctx context.Context) (all []View, updatedAt string, err error) {
	drafts, err := s.drafts(ctx) // before the head: what is published between the two reads is seen twice, not never
	if err != nil {
		return nil, "", err
	}
	now, err := s.Head.Latest(ctx)
	if err != nil {
		return nil, "", err
	}
	copies, err := s.copies(ctx)
	if err != nil {
		return nil, "", err
	}
	newest := stamp(copies.at)
	for id, raw := range now.Content.Bundles {
		if _, drafted := drafts[id]; !drafted {
			all = append(all, view(id, raw))
		}
	}
	for id, d := range drafts {
		all = append(all, d.over(now.Content.Bundles[id]))
		newest = max(newest, d.UpdatedAt)
	}
	slices.SortFunc(all, func(a, b View) int { return cmp.Compare(a.ID, b.ID) })
	if len(all) == 0 {
		newest = ""
	}
	return all, newest, nil
}

// InForce answers the bundles without their drafts, by id.
func (s *Store) InForce(ctx context.Context) ([]View, error) {
	now, err := s.Head.Latest(ctx)
	if err != nil {
		return nil, err
	}
	var all []View
	for _, id := range slices.Sorted(maps.Keys(now.Content.Bundles)) {
		all = append(all, view(id, now.Content.Bundles[id]))
	}
	return all, nil
}

// State is what is in force, as it was written.
type State struct {
	Bundles map[string]json.RawMessage
	// Revision grows with every change of the bundles, and with every copy of them.
	Revision int64
	// At is when bundles were last changed; zero is never.
	At time.Time
}

// State answers what is in force.
func (s *Store) State(ctx context.Context) (State, error) {
	before, err := s.copies(ctx)
	if err != nil {
		return State{}, err
	}
	for range tries {
		now, err := s.Head.Latest(ctx)
		if err != nil {
			return State{}, err
		}
		after, err := s.copies(ctx)
		if err != nil {
			return State{}, err
		}
		if before.rev == after.rev { // nobody has changed them between the reads
			return State{Bundles: now.Content.Bundles, Revision: after.rev, At: after.at}, nil
		}
		before = after
	}
	return State{}, errConflict
}

// Revision answers that of State.
func (s *Store) Revision(ctx context.Context) (int64, error) {
	c, err := s.copies(ctx)
	if err != nil {
		return 0, err
	}
	return c.rev, nil
}

// Get answers a bundle's draft, or what is in force.
func (s *Store) Get(ctx context.Context, id string) (View, error) {
	d, err := s.draft(ctx, id)
	if err != nil {
		return View{}, err
	}
	now, err := s.Head.Latest(ctx)
	if err != nil {
		return View{}, err
	}
	raw, ok := now.Content.Bundles[id]
	switch {
	case d != nil:
		return d.over(raw), nil
	case ok:
		return view(id, raw), nil
	default:
		return View{}, errNotFound
	}
}

// tries is how often a change that collided with another of the bundles is made anew.
const tries = 20

// again repeats a change for as long as others come before it.
func again(ctx context.Context, change func() error) error {
	for range tries {
		err := change()
		if !store.Overtaken(err) && !errors.Is(err, head.ErrConflict) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errConflict
}

// edit is a change of what is in force, as it is made of the version before.
type edit struct {
	// bundles are to be in force.
	bundles map[string]json.RawMessage
	// drafts are taken up, or go.
	drafts []*draft
	// note is that of the copies; bare keeps none.
	note string
	bare bool
	// entry is for the audit trail; nil is none. It gets the copies' ids.
	entry *audit.Entry
	with  func(before, after head.Version) []store.Op
}

// change puts an edit in force. before and after are the ids of the copies.
func (s *Store) change(ctx context.Context, plan func(now head.Version, kept *copies, at time.Time) (*edit, error)) (before, after string, err error) {
	err = again(ctx, func() error {
		before, after = "", ""
		_, _, err := s.Head.Change(ctx, func(now head.Version) (*head.Change, error) {
			kept, err := s.copies(ctx)
			if err != nil {
				return nil, err
			}
			old, at := now, s.Clock.Now().UTC()
			old.Content.Bundles = maps.Clone(now.Content.Bundles)
			e, err := plan(now, kept, at)
			if err != nil || e == nil {
				return nil, err
			}
			now.Content.Bundles = e.bundles
			return &head.Change{Content: now.Content, With: func(next head.Version) []store.Op {
				if !e.bare {
					before = kept.add(old.Name, old.Content.Bundles, e.note, at)
					after = kept.add(next.Name, e.bundles, e.note, at)
				}
				kept.at = at
				ops := []store.Op{kept.op()}
				for _, d := range e.drafts {
					ops = append(ops, d.delete())
				}
				if e.entry != nil {
					e.entry.Before, e.entry.After = before, after
					ops = append(ops, e.entry.Op())
				}
				if e.with != nil {
					ops = append(ops, e.with(old, next)...)
				}
				return ops
			}}, nil
		})
		return err
	})
	return before, after, refused(err)
}

// refused tells a client what is wrong with a bundle.
func refused(err error) error {
	bad, ok := errors.AsType[*policy.Error](err)
	switch {
	case !ok:
		return err
	case bad.Source == "":
		return fault.New(fault.Invalid, "invalid policy bundles: %s", where(bad))
	default:
		return fault.New(fault.Invalid, "invalid policy bundle %q: %s", bad.Source, where(bad))
	}
}

// where reads "3:5 unknown key …".
func where(e *policy.Error) string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("%d:%d %s", e.Line, e.Column, e.Message)
}

// MaxEditOps is how many operations an Edit has beside those of its with: the copies of the head, its history, and the list of snapshots.
const MaxEditOps = head.MaxChangeOps + 1

// Edit is for the doors that have no step of publishing: the configuration document system/policy, the installation of a pack. What edit makes of
// the bundles in force takes effect at once, in one transaction with the operations of with, which may be nil. edit may be called again, with what others
// have made of them meanwhile. Drafts stay. Bundles that do not compile are refused, and nothing changes.
func (s *Store) Edit(
	ctx context.Context, alter func(bundles map[string]json.RawMessage) error, with func(before, after head.Version) []store.Op,
) error {
	_, _, err := s.change(ctx, func(now head.Version, _ *copies, _ time.Time) (*edit, error) {
		if err := alter(now.Content.Bundles); err != nil {
			return nil, err
		}
		for id := range now.Content.Bundles {
			if err := checkID(id); err != nil {
				return nil, err
			}
		}
		return &edit{bundles: now.Content.Bundles, bare: true, with: with}, nil
	})
	return err
}

// entry is what an identity does now.
func (s *Store) entry(by identity.Identity, at time.Time, action, resource, id string) *audit.Entry {
	e := audit.By(by, s.micros.Micros(at), action, resource, id)
	return &e
}

// stamp writes a time as bundles have it; "" for none.
func stamp(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}
