// Package head keeps the policy in force: immutable content in the blob store, under its hash, and a head in the table that names it. The
// head stands in several copies, since every decision reads one of them, strongly consistent.
package head

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/store"
	"github.com/cordum-serverless/cordum/shared/platform/turn"
)

// copies of the head: one partition serves about 3,000 strong reads a second.
const copies = 4

func key(n int) store.Key { return store.Key{PK: fmt.Sprintf("POLICY#HEAD#%d", n), SK: "H"} }

// Content is what a snapshot is compiled from.
type Content struct {
	Base      *policy.Source    `json:"base,omitempty"`
	Fragments []policy.Fragment `json:"fragments,omitempty"`
}

// Store keeps the head. One is shared by everything in a process, for its cache of the compiled policy.
type Store struct {
	Table store.Table
	Blobs blob.Store
	// Pick answers a number below n; nil is a random one.
	Pick func(n int) int
	// Turn is taken to load a policy.
	Turn turn.Turn

	name     string
	compiled *policy.Policy
}

// ErrConflict says that somebody else moved the head.
var ErrConflict = fault.New(fault.Conflict, "policy was published by somebody else meanwhile; retry")

// Current answers the policy in force at the time of the call. A plane without a policy has one that denies everything. Any error means
// that no decision can be made now.
func (s *Store) Current(ctx context.Context) (*policy.Policy, error) {
	name, _, err := s.read(ctx, s.pick(copies))
	if err != nil {
		return nil, err
	}
	if err := s.Turn.Take(ctx); err != nil {
		return nil, err
	}
	defer s.Turn.Give()
	if s.compiled != nil && s.name == name {
		return s.compiled, nil
	}
	c, err := s.content(ctx, name)
	if err != nil {
		return nil, err
	}
	p, err := policy.Compile(c.Base, c.Fragments)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", name, err)
	}
	s.name, s.compiled = name, p
	return p, nil
}

// SetBase puts a document in force as the base policy, keeping the fragments. It says whether anything changed. A document that does not
// compile is refused and changes nothing.
func (s *Store) SetBase(ctx context.Context, base policy.Source) (bool, error) {
	name, revision, err := s.read(ctx, 0)
	if err != nil {
		return false, err
	}
	c, err := s.content(ctx, name)
	if err != nil {
		return false, err
	}
	if c.Base != nil && string(c.Base.Content) == string(base.Content) {
		return false, nil
	}
	c.Base = &base
	return true, s.publish(ctx, c, revision)
}

func (s *Store) publish(ctx context.Context, c Content, revision int64) error {
	p, err := policy.Compile(c.Base, c.Fragments)
	if err != nil {
		return err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("policy: encode: %w", err)
	}
	sum := sha256.Sum256(text)
	name := "policy/" + hex.EncodeToString(sum[:])
	if err := s.Blobs.Put(ctx, name, text, blob.PutOptions{ContentType: "application/json"}); err != nil {
		return err
	}
	unmoved := store.NotExists()
	if revision > 0 {
		unmoved = store.Equal("rev", revision)
	}
	ops := make([]store.Op, copies)
	for n := range ops {
		ops[n] = store.Put(store.Item{
			Key: key(n), Attrs: store.Attrs{"content": name, "snapshot": p.Snapshot(), "rev": revision + 1},
		}).If(unmoved)
	}
	err = s.Table.Write(ctx, ops...)
	var moved *store.ConditionError
	if errors.As(err, &moved) || errors.Is(err, store.ErrConflict) {
		return ErrConflict
	}
	return err
}

// read answers the name of the content in force, "" when there is none, and the head's revision.
func (s *Store) read(ctx context.Context, n int) (string, int64, error) {
	it, err := s.Table.Get(ctx, key(n))
	if errors.Is(err, store.ErrNotFound) {
		return "", 0, nil
	}
	return it.Attrs.String("content"), it.Attrs.Int("rev"), err
}

func (s *Store) content(ctx context.Context, name string) (Content, error) {
	var c Content
	if name == "" {
		return c, nil
	}
	text, _, err := s.Blobs.Get(ctx, name, 0)
	if err != nil {
		return c, fmt.Errorf("policy %s: %w", name, err)
	}
	return c, json.Unmarshal(text, &c)
}

func (s *Store) pick(n int) int {
	if s.Pick != nil {
		return s.Pick(n)
	}
	return rand.IntN(n)
}
