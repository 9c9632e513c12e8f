package bundles

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/canonical"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Kept is a copy of all bundles, without them. They are not the snapshots of the policy: those name what decisions go by.
type Kept struct {
	// ID is when, and a hash of the bundles: 2026-02-12T09:05:00Z-b61f0a9c22.
	ID string `json:"id"`
	// CreatedAt is RFC 3339.
	CreatedAt string `json:"created_at"`
	Note      string `json:"note,omitempty"`
	// Content names what was in force; "" is nothing at all. It is immutable, so that a copy costs nothing.
	Content string `json:"content,omitempty"`
}

// Copy is a copy with its bundles.
type Copy struct {
	Kept

	Bundles map[string]json.RawMessage
}

// maxCopies is how many are kept.
const maxCopies = 10

// copies is the item that lists them, newest first, and says when bundles were last changed.
type copies struct {
	list []Kept
	at   time.Time
	rev  int64
}

var copiesKey = store.Key{PK: "POLICY#BUNDLES", SK: "L"}

func (s *Store) copies(ctx context.Context) (*copies, error) {
	it, err := s.Table.Get(ctx, copiesKey)
	if errors.Is(err, store.ErrNotFound) {
		return &copies{}, nil
	}
	if err != nil {
		return nil, err
	}
	c := &copies{rev: it.Attrs.Int("rev")}
	if micros := it.Attrs.Int("at"); micros > 0 {
		c.at = time.UnixMicro(micros)
	}
	if err := json.Unmarshal(it.Attrs.Bytes("list"), &c.list); err != nil {
		return nil, fmt.Errorf("snapshots of bundles: %w", err)
	}
	return c, nil
}

// op writes the list as it was changed, unless somebody else has.
func (c *copies) op() store.Op {
	text, err := json.Marshal(c.list)
	if err != nil {
		panic("bundles: encode: " + err.Error()) // texts always encode
	}
	attrs := store.Attrs{"list": text, "rev": c.rev + 1}
	if !c.at.IsZero() {
		attrs["at"] = c.at.UnixMicro()
	}
	return store.Put(store.Item{Key: copiesKey, Attrs: attrs}).If(at(c.rev))
}

// Unchanged makes a transaction that changes no bundles depend on them: it holds while they are at a revision.
func Unchanged(revision int64) store.Op { return store.Check(copiesKey, at(revision)) }

func at(revision int64) store.Cond {
	if revision == 0 {
		return store.NotExists()
	}
	return store.Equal("rev", revision)
}

// add keeps a copy and answers its id. The same bundles in the same second are the same copy.
func (c *copies) add(content string, bundles map[string]json.RawMessage, note string, at time.Time) string {
	k := Kept{ID: stamp(at) + "-" + hashOf(bundles)[:10], CreatedAt: stamp(at), Note: note, Content: content}
	if i := c.find(k.ID); i >= 0 {
		if note == "" {
			k.Note = c.list[i].Note
		}
		c.list = slices.Delete(c.list, i, i+1)
	}
	c.list = slices.Insert(c.list, 0, k)
	c.list = c.list[:min(len(c.list), maxCopies)]
	return k.ID
}

func (c *copies) find(id string) int {
	return slices.IndexFunc(c.list, func(k Kept) bool { return k.ID == id })
}

// hashOf is the SHA-256 of the bundles as canonical JSON, in hex: members in the order of their names, no spaces.
func hashOf(bundles map[string]json.RawMessage) string {
	text, err := canonical.Object(bundles)
	if err != nil {
		panic("bundles: stored JSON: " + err.Error()) // it was part of JSON that was read
	}
	return canonical.Hash(text)
}

// Copies answers what is kept, newest first.
func (s *Store) Copies(ctx context.Context) ([]Kept, error) {
	c, err := s.copies(ctx)
	if err != nil {
		return nil, err
	}
	return c.list, nil
}

// Copy answers a copy with its bundles.
func (s *Store) Copy(ctx context.Context, id string) (Copy, error) {
	c, err := s.copies(ctx)
	if err != nil {
		return Copy{}, err
	}
	return s.load(ctx, c, id)
}

func (s *Store) load(ctx context.Context, c *copies, id string) (Copy, error) {
	i := c.find(id)
	if i < 0 {
		return Copy{}, errNoSnapshot
	}
	content, err := s.Head.Load(ctx, c.list[i].Content)
	return Copy{Kept: c.list[i], Bundles: content.Bundles}, err
}

// Newest answers the kept copies with their bundles, newest first, for as long as these have at most so many bytes together.
func (s *Store) Newest(ctx context.Context, most int) ([]Copy, error) {
	c, err := s.copies(ctx)
	if err != nil {
		return nil, err
	}
	var all []Copy
	for _, k := range c.list {
		full, err := s.load(ctx, c, k.ID)
		if err != nil {
			return nil, err
		}
		for id, raw := range full.Bundles {
			most -= len(id) + len(raw)
		}
		if most < 0 {
			break
		}
		all = append(all, full)
	}
	return all, nil
}

// Same says whether two bundles are the same JSON, however each is written.
func Same(a, b json.RawMessage) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return bytes.Equal(a, b) || hashOf(map[string]json.RawMessage{"": a}) == hashOf(map[string]json.RawMessage{"": b})
}

// Capture keeps a copy of what is in force. Drafts are not in it.
func (s *Store) Capture(ctx context.Context, by identity.Identity, note string) (out Copy, err error) {
	if err := checkNote(note); err != nil {
		return Copy{}, err
	}
	err = again(ctx, func() error {
		c, err := s.copies(ctx)
		if err != nil {
			return err
		}
		now, err := s.Head.Latest(ctx)
		if err != nil {
			return err
		}
		at := s.Clock.Now()
		id := c.add(now.Name, now.Content.Bundles, note, at)
		out = Copy{Kept: c.list[c.find(id)], Bundles: now.Content.Bundles}
		entry := s.entry(by, at.UTC(), "capture", "policy_snapshot", id)
		entry.Message, entry.After = note, id
		return s.Table.Write(ctx, c.op(), entry.Op())
	})
	return out, err
}
