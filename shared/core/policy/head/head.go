// Package head keeps the policy in force: immutable content in the blob store, under its hash, and a head in the table that names it. The
// head stands in several copies, since every decision reads one of them, strongly consistent. Its revision grows with everything that
// decisions depend on: every publish, and every write of a configuration document.
package head

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/signed"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
	"github.com/cordum-serverless/cordum/shared/platform/turn"
)

// copies of the head: one partition serves about 3,000 strong reads a second.
const copies = 4

func key(n int) store.Key { return store.Key{PK: fmt.Sprintf("POLICY#HEAD#%d", n), SK: "H"} }

// historyKey is the item that lists the policies that were in force.
var historyKey = store.Key{PK: "POLICY#HISTORY", SK: "H"}

// historyLength is how many of them.
const historyLength = 10

// Content is what a policy is compiled from, and all that is said about it.
type Content struct {
	Base *policy.Source `json:"base,omitempty"`
	// Signature is the base's, as it came beside it; empty for none.
	Signature []byte `json:"signature,omitempty"`
	// Bundles are the policy bundles in force or disabled, by id, as they were written: see ParseBundle. Drafts are not among them.
	Bundles map[string]json.RawMessage `json:"bundles,omitempty"`
}

func (c *Content) clone() Content {
	out := Content{Base: c.Base, Signature: c.Signature, Bundles: maps.Clone(c.Bundles)}
	if out.Bundles == nil {
		out.Bundles = map[string]json.RawMessage{}
	}
	return out
}

// Head is the policy in force at one time.
type Head struct {
	Policy *policy.Policy
	// Revision grows whenever something changes that decisions depend on; 0 is a plane where nothing was written yet.
	Revision int64
	// Signature says what this process knows of the base's.
	Signature Signature
}

// Version is one content that was or is in force.
type Version struct {
	Content Content
	// Name is the content's key in the blob store; "" for nothing.
	Name     string
	Revision int64
	// Snapshot is the id of the policy, a pure function of the documents that are in force.
	Snapshot string
}

// Store keeps the head. One is shared by everything in a process, for its cache of the compiled policy.
type Store struct {
	Table store.Table
	Blobs blob.Store
	// Pick answers a number below n; nil is a random one.
	Pick func(n int) int
	// Key is whose signature the base must carry, or there is no decision; nil looks at no signature.
	Key *signed.Key
	// Turn is taken to load a policy.
	Turn turn.Turn

	name      string
	compiled  *policy.Policy
	signature Signature
}

// ErrConflict says that others moved the head again and again.
var ErrConflict = fault.New(fault.Conflict, "policy was changed by somebody else meanwhile; retry")

// Current answers the policy in force at the time of the call. A plane without a policy has one that denies everything. Any error means
// that no decision can be made now.
func (s *Store) Current(ctx context.Context) (Head, error) {
	now, err := s.read(ctx, s.pick(copies))
	if err != nil {
		return Head{}, err
	}
	if err := s.Turn.Take(ctx); err != nil {
		return Head{}, err
	}
	defer s.Turn.Give()
	if s.compiled != nil && s.name == now.Name {
		return Head{s.compiled, now.Revision, s.signature}, nil
	}
	c, err := s.Load(ctx, now.Name)
	if err != nil {
		return Head{}, err
	}
	p, err := s.Compile(&c)
	if err != nil {
		return Head{}, fmt.Errorf("policy %s: %w", now.Name, err)
	}
	s.name, s.compiled, s.signature = now.Name, p, s.signatureOf(&c)
	return Head{p, now.Revision, s.signature}, nil
}

// Revision answers the head's revision at the time of the call.
func (s *Store) Revision(ctx context.Context) (int64, error) {
	now, err := s.read(ctx, s.pick(copies))
	return now.Revision, err
}

// Latest answers the content in force. It may be changed by the caller.
func (s *Store) Latest(ctx context.Context) (Version, error) {
	now, err := s.read(ctx, 0)
	if err != nil {
		return Version{}, err
	}
	c, err := s.Load(ctx, now.Name)
	now.Content = c.clone()
	return now, err
}

// Change is what an edit makes of the content in force.
type Change struct {
	Content Content
	// With are operations that take effect with the change, in the same transaction. They get the version as it will be.
	With func(next Version) []store.Op
}

// MaxChangeOps is how many operations a Change has beside those of its With.
const MaxChangeOps = copies + 1

// changeTries is how often a change that collided with another is made anew.
const changeTries = 10

// Change puts new content in force, in one transaction with whatever edit wants to be written with it. edit gets the version in force; it is
// called again when others changed that meanwhile, so that no change is lost. A nil *Change leaves everything as it is. Content that does not
// compile is a *policy.Error, and nothing changes. It answers the versions before and after.
func (s *Store) Change(ctx context.Context, edit func(now Version) (*Change, error)) (before, after Version, err error) {
	for range changeTries {
		if before, err = s.Latest(ctx); err != nil {
			return before, before, err
		}
		editable := before
		editable.Content = before.Content.clone()
		c, err := edit(editable)
		if err != nil || c == nil {
			return before, before, err
		}
		after, err := s.publish(ctx, before, c)
		if !errors.Is(err, ErrConflict) {
			return before, after, err
		}
	}
	return before, before, ErrConflict
}

func (s *Store) publish(ctx context.Context, before Version, c *Change) (Version, error) {
	p, err := s.Compile(&c.Content)
	if err != nil {
		return before, err
	}
	text, err := json.Marshal(c.Content)
	if err != nil {
		return before, fmt.Errorf("policy: encode: %w", err)
	}
	next := Version{Content: c.Content, Name: nameOf(text), Revision: before.Revision + 1, Snapshot: p.Snapshot()}
	if err := s.Blobs.Put(ctx, next.Name, text, blob.PutOptions{ContentType: "application/json"}); err != nil {
		return before, err
	}
	unmoved := store.NotExists()
	if before.Revision > 0 {
		unmoved = store.Equal("rev", before.Revision)
	}
	mark := strconv.FormatUint(rand.Uint64(), 36)
	ops := make([]store.Op, copies, copies+1)
	for n := range copies {
		ops[n] = store.Put(store.Item{
			Key: key(n), Attrs: store.Attrs{"content": next.Name, "snapshot": next.Snapshot, "rev": next.Revision, "mark": mark},
		}).If(unmoved)
	}
	history, err := s.remember(ctx, before, next.Snapshot)
	if err != nil {
		return before, err
	}
	if history != nil {
		ops = append(ops, *history)
	}
	if c.With != nil {
		ops = append(ops, c.With(next)...)
	}
	err = s.Table.Write(ctx, ops...)
	if moved, ok := errors.AsType[*store.ConditionError](err); ok && moved.Op < copies || errors.Is(err, store.ErrConflict) {
		return before, ErrConflict
	}
	if err != nil && !s.written(ctx, mark, err) {
		return before, err
	}
	return next, nil
}

// written says whether a write whose answer was lost has taken effect. It is known by its mark: a write of something else that decisions depend on makes
// the same revision of the same content.
func (s *Store) written(ctx context.Context, mark string, failed error) bool {
	if _, ok := errors.AsType[*store.ConditionError](failed); ok || errors.Is(failed, store.ErrInvalid) || errors.Is(failed, store.ErrTooLarge) {
		return false
	}
	it, err := s.Table.Get(ctx, key(0))
	return err == nil && it.Attrs.String("mark") == mark
}

// remember lists a policy as the newest that is in force, unless it is already.
func (s *Store) remember(ctx context.Context, before Version, snapshot string) (*store.Op, error) {
	snapshots, err := s.History(ctx)
	if err != nil || len(snapshots) > 0 && snapshots[0] == snapshot {
		return nil, err
	}
	if len(snapshots) == 0 && before.Name != "" && before.Snapshot != snapshot { // written by a release that kept no history
		snapshots = []string{before.Snapshot}
	}
	snapshots = slices.Insert(snapshots, 0, snapshot)
	list, err := json.Marshal(snapshots[:min(len(snapshots), historyLength)])
	if err != nil {
		return nil, fmt.Errorf("policy: history: %w", err)
	}
	op := store.Put(store.Item{Key: historyKey, Attrs: store.Attrs{"snapshots": list}})
	return &op, nil
}

// History answers the ids of the policies that are and were in force, the newest first, at most 10.
func (s *Store) History(ctx context.Context) ([]string, error) {
	it, err := s.Table.Get(ctx, historyKey)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var snapshots []string
	if err := json.Unmarshal(it.Attrs.Bytes("snapshots"), &snapshots); err != nil {
		return nil, fmt.Errorf("policy: history: %w", err)
	}
	return snapshots, nil
}

// Moved are the operations that make the head's revision grow with a write of something else that decisions depend on.
func Moved() []store.Op {
	ops := make([]store.Op, copies)
	for n := range ops {
		ops[n] = store.Update(key(n)).AddInt("rev", 1)
	}
	return ops
}

// read answers a copy of the head: a version without its content.
func (s *Store) read(ctx context.Context, n int) (Version, error) {
	it, err := s.Table.Get(ctx, key(n))
	if errors.Is(err, store.ErrNotFound) {
		return Version{Snapshot: policy.Empty}, nil
	}
	return Version{Name: it.Attrs.String("content"), Revision: it.Attrs.Int("rev"), Snapshot: cmp.Or(it.Attrs.String("snapshot"), policy.Empty)}, err
}

// Load reads the content of that name; "" is no content. What is stored under the name must be what the name is the hash of.
func (s *Store) Load(ctx context.Context, name string) (Content, error) {
	var c Content
	if name == "" {
		return c, nil
	}
	text, _, err := s.Blobs.Get(ctx, name, 0)
	if err != nil {
		return c, fmt.Errorf("policy %s: %w", name, err)
	}
	if nameOf(text) != name {
		return c, fmt.Errorf("policy %s: the object is not what was stored", name)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("policy %s: %w", name, err)
	}
	return c, nil
}

// nameOf is where content lies in the blob store.
func nameOf(text []byte) string {
	sum := sha256.Sum256(text)
	return resources.PolicyObjects + "/" + hex.EncodeToString(sum[:])
}

func (s *Store) pick(n int) int {
	if s.Pick != nil {
		return s.Pick(n)
	}
	return rand.IntN(n)
}
