package bundles

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
)

// Words are what a client says about a change of what is in force.
type Words struct {
	// Author and Message go to the bundles, and the message to the audit trail; Note to the copies.
	Author, Message, Note string
}

const maxNote = 4 << 10

func checkNote(note string) error {
	if len(note) > maxNote {
		return fault.New(fault.Invalid, "note is longer than %d bytes", maxNote)
	}
	return nil
}

func (w Words) check() error {
	if len(w.Author)+len(w.Message) > maxWords {
		return fault.New(fault.Invalid, "author and message are longer than %d bytes", maxWords)
	}
	return checkNote(w.Note)
}

// Changed is what became of a change: the ids of the copies from before and after, and the bundles.
type Changed struct {
	Before, After string
	IDs           []string
}

// One transaction takes up so many drafts, and so many bytes of them.
const (
	maxDrafts     = 80
	maxDraftBytes = 3 << 20
)

// Publish puts drafts in force and enables their bundles: those that are named, begin with secops/ and exist, or all that do.
func (s *Store) Publish(ctx context.Context, by identity.Identity, wanted []string, w Words) (out Changed, err error) {
	if err := w.check(); err != nil {
		return Changed{}, err
	}
	out.Before, out.After, err = s.change(ctx, func(now head.Version, _ *copies, at time.Time) (*edit, error) {
		drafts, err := s.drafts(ctx) // one that was taken up since the head was read has moved the head
		if err != nil {
			return nil, err
		}
		e := &edit{bundles: now.Content.Bundles, note: w.Note}
		if out.IDs, err = targets(e.bundles, drafts, wanted); err != nil {
			return nil, err
		}
		size := 0
		for _, id := range out.IDs {
			if d := drafts[id]; d != nil {
				e.drafts, size = append(e.drafts, d), size+len(d.Content)
				e.bundles[id] = d.onto(e.bundles[id])
			}
			e.bundles[id] = published(e.bundles[id], w, at)
		}
		if len(e.drafts) > maxDrafts || size > maxDraftBytes {
			return nil, fault.New(fault.Invalid, "at most %d drafts, of %d bytes together, are published at once; name some in bundle_ids",
				maxDrafts, maxDraftBytes)
		}
		e.entry = s.entry(by, at, "publish", "policy", "")
		e.entry.Message, e.entry.BundleIDs = w.Message, out.IDs
		return e, nil
	})
	if err != nil {
		return Changed{}, err
	}
	return out, nil
}

func targets(bundles map[string]json.RawMessage, drafts map[string]*draft, wanted []string) ([]string, error) {
	known := map[string]bool{}
	for id := range bundles {
		known[id] = true
	}
	for id := range drafts {
		known[id] = true
	}
	if len(known) == 0 {
		return nil, fault.New(fault.Invalid, "no bundles configured")
	}
	maps.DeleteFunc(known, func(id string, _ bool) bool {
		return !strings.HasPrefix(id, head.Editable) || len(wanted) > 0 && !slices.Contains(wanted, id)
	})
	if len(known) == 0 {
		return nil, fault.New(fault.Invalid, "no policy bundles to publish")
	}
	return slices.Sorted(maps.Keys(known)), nil
}

// published is a bundle as a publish leaves it.
func published(raw json.RawMessage, w Words, at time.Time) json.RawMessage {
	m := members(raw)
	m.set("enabled", true)
	m.set("updated_at", stamp(at))
	m.say("author", w.Author)
	m.say("message", w.Message)
	if view("", raw).CreatedAt == "" {
		m.set("created_at", stamp(at))
	}
	return m.raw()
}

// Rollback brings back the bundles of a copy, in place of those in force. Bundles of packs stay, and so do drafts.
func (s *Store) Rollback(ctx context.Context, by identity.Identity, target string, w Words) (out Changed, err error) {
	if err := w.check(); err != nil {
		return Changed{}, err
	}
	if strings.TrimSpace(target) == "" {
		return Changed{}, fault.New(fault.Invalid, "snapshot_id required")
	}
	out.Before, out.After, err = s.change(ctx, func(now head.Version, kept *copies, at time.Time) (*edit, error) {
		old, err := s.load(ctx, kept, target) // the copy from before may take its place in the list
		if err != nil {
			return nil, err
		}
		after := maps.Clone(now.Content.Bundles)
		maps.DeleteFunc(after, func(id string, _ json.RawMessage) bool { return head.Source(id) != "pack" })
		for id, raw := range old.Bundles {
			if head.Source(id) != "pack" {
				after[id] = raw
			}
		}
		e := &edit{bundles: after, note: w.Note, entry: s.entry(by, at, "rollback", "policy", target)}
		out.IDs = different(now.Content.Bundles, after)
		e.entry.Message, e.entry.BundleIDs = w.Message, out.IDs
		return e, nil
	})
	if err != nil {
		return Changed{}, err
	}
	return out, nil
}

// different are the bundles that one has and the other has not, or not as they are.
func different(a, b map[string]json.RawMessage) []string {
	ids := map[string]bool{}
	for id, raw := range a {
		ids[id] = string(b[id]) != string(raw)
	}
	for id, raw := range b {
		ids[id] = string(a[id]) != string(raw)
	}
	maps.DeleteFunc(ids, func(_ string, differs bool) bool { return !differs })
	return slices.Sorted(maps.Keys(ids))
}

// Delete takes a bundle out of force, and its draft with it, at once.
func (s *Store) Delete(ctx context.Context, by identity.Identity, id string) error {
	if err := checkEditable(id); err != nil {
		return err
	}
	return again(ctx, func() error {
		var d *draft
		_, _, err := s.change(ctx, func(now head.Version, _ *copies, at time.Time) (*edit, error) {
			var err error
			if d, err = s.draft(ctx, id); err != nil {
				return nil, err
			}
			_, there := now.Content.Bundles[id]
			switch {
			case !there && d == nil:
				return nil, errNotFound
			case !there:
				return nil, nil // nothing in force changes
			}
			delete(now.Content.Bundles, id)
			e := &edit{bundles: now.Content.Bundles, entry: s.deletion(by, at, id)}
			if d != nil {
				e.drafts = []*draft{d}
			}
			d = nil
			return e, nil
		})
		if err != nil || d == nil {
			return err
		}
		entry := s.deletion(by, s.Clock.Now(), id)
		entry.Before = d.revision()
		return s.Table.Write(ctx, d.delete(), entry.Op())
	})
}

func (s *Store) deletion(by identity.Identity, at time.Time, id string) *audit.Entry {
	e := s.entry(by, at, "delete", "policy_bundle", id)
	e.BundleIDs = []string{id}
	return e
}
