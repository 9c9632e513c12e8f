// Package catalog keeps the definitions of workflows: one for each id of a tenant, as it was last saved. It is kept until somebody deletes it: a
// definition is what its author made, not a trace of something that happened, so that nothing in it ages.
package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	"github.com/cordum-serverless/cordum/shared/core/policy/override"
	"github.com/cordum-serverless/cordum/shared/core/schema"
	"github.com/cordum-serverless/cordum/shared/core/workflow"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Store keeps definitions. One is shared by everything in a process; all its methods may be called at once.
type Store struct {
	Table store.Table
	Blobs blob.Store
	Clock clock.Clock
	IDs   ids.Source

	micros clock.Unique

	mu       sync.Mutex
	versions map[store.Key]Kept
}

// What callers hear.
var (
	ErrUnknown  = fault.New(fault.NotFound, "not found")
	errConflict = fault.New(fault.Conflict, "workflow was changed by somebody else meanwhile; retry")
)

// A definition is the item WF#<tenant>#<id> | D. Its text is in the item or, when it is larger than job.InlineLimit, in the blob store under its
// hash. The hash is the item's revision too: the text has the time of saving in it, so that no two are the same. Texts in the blob store are
// never removed: a run goes on by the one that it began with, whatever becomes of the workflow.
//
//	by_time  WF#<tenant>   definitions of a tenant, by the microsecond of their last saving
func key(tenant, id string) store.Key {
	return store.Key{PK: partition(tenant) + "#" + id, SK: "D"}
}

// keptKey is that of a version that runs began with: V#<name> in the same partition.
func keptKey(tenant, id, name string) store.Key {
	return store.Key{PK: partition(tenant) + "#" + id, SK: "V#" + name}
}

func partition(tenant string) string { return "WF#" + listing.Segment(tenant) }

// Names of the attributes of the item: the hash of the text, its length in bytes, and itself unless it is in the blob store; and of a version that runs
// began with, the registered schemas that its steps name.
const (
	attrHash    = "hash"
	attrSize    = "size"
	attrText    = "text"
	attrSchemas = "schemas"
)

func object(hash string) string { return resources.WorkflowObjects + "/" + hash }

// Version is a definition as it is stored, or is about to be. It never changes.
type Version struct {
	*workflow.Workflow

	// Hash is its revision.
	Hash string
	text []byte

	once  sync.Once
	input *schema.Schema
	err   error
}

// Kept is a version that runs began with.
type Kept struct {
	*Version

	// Schemas are the registered schemas that its steps name, as they were at that time: their hashes by their ids. nil is not known: it was kept by a
	// release whose runs went by the schemas of the day.
	Schemas map[string]string
}

// CheckInput says what is wrong with the input of a run.
func (v *Version) CheckInput(input any) error {
	v.once.Do(func() {
		if !v.InputSchema.IsZero() {
			v.input, v.err = schema.Compile(v.InputSchema, "input_schema")
		}
	})
	if v.err != nil || v.input == nil {
		return v.err
	}
	return v.input.Validate(input)
}

// SchemaIDs are the registered schemas that its steps name, sorted.
func (v *Version) SchemaIDs() []string {
	var ids []string
	for _, s := range v.Steps {
		for _, id := range []string{s.InputSchemaID, s.OutputSchemaID} {
			if id != "" {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func versionOf(w *workflow.Workflow) (*Version, error) {
	text, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("workflow %s: encode: %w", w.ID, err)
	}
	sum := sha256.Sum256(text)
	return &Version{Workflow: w, Hash: hex.EncodeToString(sum[:]), text: text}, nil
}

// revision is what the audit trail calls it; "" for none.
func (v *Version) revision() string {
	if v == nil {
		return ""
	}
	return v.Hash
}

// stored is the definition of a version; nil for none.
func (v *Version) stored() *workflow.Workflow {
	if v == nil {
		return nil
	}
	return v.Workflow
}

// rules are those that it has beside the policy; "" for none.
func (v *Version) rules() string {
	if v == nil {
		return ""
	}
	return v.PolicyOverride
}

// unchanged holds while the stored definition is this one; nil was not there.
func (v *Version) unchanged() store.Cond {
	if v == nil {
		return store.NotExists()
	}
	return store.Equal(attrHash, v.Hash)
}

// attrs are what an item says of it; its text must be in the blob store when it is large.
func (v *Version) attrs() store.Attrs {
	attrs := store.Attrs{attrHash: v.Hash, attrSize: int64(len(v.text))}
	if !v.large() {
		attrs[attrText] = v.text
	}
	return attrs
}

func (v *Version) put(micros int64) store.Op {
	return store.Put(store.Item{
		Key: key(v.OrgID, v.ID), Attrs: v.attrs(),
		Index: map[store.Index]store.Key{store.ByTime: {PK: partition(v.OrgID), SK: listing.Sortable(micros) + "#" + v.ID}},
	})
}

func (v *Version) large() bool { return len(v.text) > job.InlineLimit }

func (s *Store) read(ctx context.Context, it store.Item) (*Version, error) {
	v := &Version{Hash: it.Attrs.String(attrHash), text: it.Attrs.Bytes(attrText)}
	var err error
	if v.text == nil {
		if v.text, _, err = s.Blobs.Get(ctx, object(v.Hash), 0); err != nil {
			return nil, fmt.Errorf("workflow %s: %w", it.Key, err)
		}
	}
	v.Workflow, err = workflow.Decode(v.text)
	return v, err
}

// Current answers a tenant's definition as it is now, for whom its revision matters; nil for an id that the tenant has not.
func (s *Store) Current(ctx context.Context, tenant, id string) (*Version, error) {
	if !workflow.ValidID(id) {
		return nil, nil
	}
	it, err := s.Table.Get(ctx, key(tenant, id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	k, err := s.learned(ctx, keptKey(tenant, id, it.Attrs.String(attrHash)), it)
	return k.Version, err
}

// Get answers a tenant's definition; an unknown one is ErrUnknown.
func (s *Store) Get(ctx context.Context, tenant, id string) (*workflow.Workflow, error) {
	v, err := s.Current(ctx, tenant, id)
	switch {
	case err != nil:
		return nil, err
	case v == nil:
		return nil, ErrUnknown
	}
	return v.Workflow, nil
}

// Exists says whether the tenant has a definition.
func (s *Store) Exists(ctx context.Context, tenant, id string) (bool, error) {
	_, err := s.Table.Get(ctx, key(tenant, id))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Keep stores a version for the runs that begin with it, whatever becomes of the workflow and of the schemas that it names; they know it by a name.
func (s *Store) Keep(ctx context.Context, kept Kept, name string) error {
	k := keptKey(kept.OrgID, kept.ID, name)
	if _, known := s.known(k); known {
		return nil
	}
	attrs := kept.attrs()
	if kept.Schemas != nil {
		text, err := json.Marshal(kept.Schemas)
		if err != nil {
			return fmt.Errorf("workflow %s: encode: %w", kept.ID, err)
		}
		attrs[attrSchemas] = text
	}
	if err := store.Transact(ctx, s.Table, store.Put(store.Item{Key: k, Attrs: attrs})); err != nil {
		return err
	}
	s.learn(k, kept)
	return nil
}

// Kept answers a version that was kept by a name.
func (s *Store) Kept(ctx context.Context, tenant, id, name string) (Kept, error) {
	k := keptKey(tenant, id, name)
	if kept, known := s.known(k); known {
		return kept, nil
	}
	it, err := s.Table.Get(ctx, k)
	if err != nil {
		return Kept{}, fmt.Errorf("workflow %s: version %s: %w", id, name, err)
	}
	return s.learned(ctx, k, it)
}

// learned reads an item of a definition, once for each key that stands for its content.
func (s *Store) learned(ctx context.Context, k store.Key, it store.Item) (Kept, error) {
	if kept, known := s.known(k); known {
		return kept, nil
	}
	v, err := s.read(ctx, it)
	if err != nil {
		return Kept{}, err
	}
	kept := Kept{Version: v}
	if text := it.Attrs.Bytes(attrSchemas); text != nil {
		if err := json.Unmarshal(text, &kept.Schemas); err != nil {
			return Kept{}, fmt.Errorf("workflow %s: schemas: %w", it.Key, err)
		}
	}
	s.learn(k, kept)
	return kept, nil
}

// remembered is how many versions a process keeps.
const remembered = 256

func (s *Store) known(k store.Key) (Kept, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, ok := s.versions[k]
	return kept, ok
}

func (s *Store) learn(k store.Key, kept Kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.versions == nil || len(s.versions) >= remembered {
		s.versions = map[store.Key]Kept{}
	}
	s.versions[k] = kept
}

// tries is how often a change that collided with another is made anew.
const tries = 20

// Save stores what the posted definition makes of the stored one, or of nothing: see workflow.Merge. It belongs to the caller's tenant, and gets
// an id when it has none. Its rules are in force with it. Everything that is wrong with it is one fault, and nothing is stored. When others save it
// meanwhile it is merged anew with what they stored. It answers the id.
func (s *Store) Save(ctx context.Context, by identity.Identity, posted *workflow.Workflow) (id string, err error) {
	mine := *posted
	if mine.OrgID = by.Tenant; mine.ID == "" {
		mine.ID = s.IDs.UUID()
	}
	var tried *Version
	for range tries {
		before, err := s.Current(ctx, by.Tenant, mine.ID)
		if err != nil {
			return "", err
		}
		if tried != nil && before.revision() == tried.Hash { // it was stored, and the answer was lost
			return mine.ID, nil
		}
		micros := s.micros.Micros(s.Clock.Now())
		var ops []store.Op
		if tried, ops, err = s.Replace(ctx, before, workflow.Merge(before.stored(), &mine, time.UnixMicro(micros))); err != nil {
			return "", err
		}
		entry := audit.By(by, micros, "create", "workflow", mine.ID)
		entry.ResourceName, entry.Before, entry.After = tried.Name, before.revision(), tried.revision()
		if ops = append(ops, entry.Op()); before.rules() != tried.rules() {
			ops = append(ops, head.Moved()...)
		}
		if err := s.Table.Write(ctx, ops...); !store.Overtaken(err) {
			return mine.ID, err
		}
	}
	return "", errConflict
}

// Replace answers the operations that put a definition in the place of another one of its tenant and id, with its rules; before is nil for none. They
// do not hold when that has changed meanwhile. When the rules change whoever writes them must move the head of the policy. What is large is stored
// before they are answered. Everything that is wrong with it is one fault.
func (s *Store) Replace(ctx context.Context, before *Version, w *workflow.Workflow) (*Version, []store.Op, error) {
	if problems := workflow.Validate(w).Fault(); problems != nil {
		return nil, nil, problems
	}
	v, err := versionOf(w)
	if err != nil {
		return nil, nil, err
	}
	if v.large() {
		if err := s.Blobs.Put(ctx, object(v.Hash), v.text, blob.PutOptions{ContentType: "application/json"}); err != nil {
			return nil, nil, err
		}
	}
	ops := []store.Op{v.put(w.UpdatedAt.UnixMicro()).If(before.unchanged())}
	return v, append(ops, override.Change(w.OrgID, w.ID, before.rules(), v.rules())...), nil
}

// Remove answers the operations that remove a definition, with its rules, as Replace does for another one.
func Remove(v *Version) []store.Op {
	return append([]store.Op{store.Delete(key(v.OrgID, v.ID)).If(v.unchanged())}, override.Change(v.OrgID, v.ID, v.rules(), "")...)
}

// Delete removes a definition of the caller's tenant, and its rules with it; an unknown one is ErrUnknown. Its runs stay.
func (s *Store) Delete(ctx context.Context, by identity.Identity, id string) error {
	for range tries {
		before, err := s.Current(ctx, by.Tenant, id)
		switch {
		case err != nil:
			return err
		case before == nil:
			return ErrUnknown
		}
		entry := audit.By(by, s.micros.Micros(s.Clock.Now()), "delete", "workflow", id)
		entry.ResourceName, entry.Before = before.Name, before.revision()
		ops := append(Remove(before), entry.Op())
		if before.rules() != "" {
			ops = append(ops, head.Moved()...)
		}
		if err := s.Table.Write(ctx, ops...); !store.Overtaken(err) {
			return err
		}
	}
	return errConflict
}

// Limits of a list. A function answers 6 MB at most, after what it answers was quoted once more, which at worst doubles it.
const (
	listLength = 100
	listBytes  = 2 << 20
)

// List answers the definitions of a tenant that were saved last, the newest first: at most 100, fewer when they are large.
func (s *Store) List(ctx context.Context, tenant string) ([]*workflow.Workflow, error) {
	left := int64(listBytes)
	l := listing.List[workflow.Workflow]{Table: s.Table, Partitions: []string{partition(tenant)}}
	l.Load = func(ctx context.Context, entries []listing.Entry) ([]*workflow.Workflow, error) {
		out := make([]*workflow.Workflow, len(entries))
		if left < 0 {
			return out, nil
		}
		keys := make([]store.Key, len(entries))
		place := make(map[store.Key]int, len(entries))
		for i, e := range entries {
			keys[i], place[e.Key] = e.Key, i
		}
		items, err := s.Table.BatchGet(ctx, keys)
		if err != nil {
			return nil, err
		}
		for _, it := range items {
			if left -= it.Attrs.Int(attrSize); left < 0 {
				break // what is older is not listed, though it be small
			}
			v, err := s.read(ctx, it)
			if err != nil {
				return nil, err
			}
			out[place[it.Key]] = v.Workflow
		}
		return out, nil
	}
	all, _, err := l.Page(ctx, listLength)
	return all, err
}
