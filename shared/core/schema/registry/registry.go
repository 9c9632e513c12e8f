// Package registry keeps the schemas that steps of workflows name by id: one for each id of a tenant, as it was last registered. A schema is kept until
// somebody deletes it: it is what its author made.
package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/core/schema"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Store keeps schemas. One is shared by everything in a process; all its methods may be called at once.
type Store struct {
	Table store.Table
	Clock clock.Clock

	micros   clock.Unique
	mu       sync.Mutex
	compiled map[string]*schema.Schema // by the hash of the text
	size     int                       // bytes of their texts
	kept     map[store.Key]bool
}

// ErrUnknown is the answer for a schema that a tenant has not.
var ErrUnknown = fault.New(fault.NotFound, "schema not found")

// maxID is the longest id, in bytes. The text of a schema, which schema.MaxSize bounds, lies in one item.
const maxID = 256

// A schema is the item SC#<tenant>#<id> | D; its revision is the hash of its text.
//
//	by_time  SC#<tenant>   schemas of a tenant, by the microsecond of their last registration
func key(tenant, id string) store.Key {
	return store.Key{PK: partition(tenant) + "#" + listing.Segment(id), SK: "D"}
}

// versionKey is that of a schema as it was when a run began: V#<hash> in the same partition. It is never removed.
func versionKey(tenant, id, hash string) store.Key {
	return store.Key{PK: key(tenant, id).PK, SK: "V#" + hash}
}

func partition(tenant string) string { return "SC#" + listing.Segment(tenant) }

// Names of the attributes: the id, the text as it was registered, its hash, and the microsecond of its registration, which items of older releases
// do not have: the same text may be registered again.
const (
	attrID   = "id"
	attrText = "text"
	attrHash = "hash"
	attrAt   = "at"
)

// Register saves a schema of the caller's tenant, new or not.
//
// Faults: Invalid for an id or a schema that is none, TooLarge, Conflict when others keep changing it.
func (s *Store) Register(ctx context.Context, by identity.Identity, id string, text json.RawMessage) error {
	id = strings.TrimSpace(id)
	if err := Check(id, text); err != nil {
		return err
	}
	return s.change(ctx, by, "register", id, text)
}

// Check says what is wrong with an id or a schema: Invalid or TooLarge.
func Check(id string, text json.RawMessage) error {
	switch {
	case id == "":
		return fault.New(fault.Invalid, "schema id required")
	case len(id) > maxID:
		return fault.New(fault.Invalid, "schema id too long (max %d bytes)", maxID)
	case len(text) > schema.MaxSize:
		return fault.New(fault.TooLarge, "schema of %d bytes is larger than %d", len(text), schema.MaxSize)
	}
	if t := bytes.TrimSpace(text); len(t) == 0 || t[0] != '{' {
		return fault.New(fault.Invalid, "invalid schema: it must be an object")
	}
	if _, err := schema.Compile(text, id); err != nil {
		return fault.New(fault.Invalid, "invalid schema: %s", err.Error())
	}
	return nil
}

// Registered is a schema as it is registered; without a text there is none.
type Registered struct {
	ID   string
	Text json.RawMessage
	hash string
	at   int64
}

func registered(id string, it store.Item) Registered {
	return Registered{ID: id, Text: it.Attrs.Bytes(attrText), hash: it.Attrs.String(attrHash), at: it.Attrs.Int(attrAt)}
}

// unchanged holds while that is what is registered.
func (r Registered) unchanged() store.Cond {
	if r.Text == nil {
		return store.NotExists()
	}
	return store.All(store.Equal(attrHash, r.hash), store.Any(store.HasNot(attrAt), store.Equal(attrAt, r.at)))
}

// Replace is the operation that puts a text, or nothing, in the place of what a tenant has registered; it does not hold when that has changed
// meanwhile.
func (r Registered) Replace(tenant string, text json.RawMessage, micros int64) store.Op {
	op := store.Delete(key(tenant, r.ID))
	if text != nil {
		op = put(tenant, r.ID, text, micros)
	}
	return op.If(r.unchanged())
}

// Registered answers what a tenant has registered under ids, in their order.
func (s *Store) Registered(ctx context.Context, tenant string, ids []string) ([]Registered, error) {
	items, err := s.items(ctx, tenant, ids)
	if err != nil {
		return nil, err
	}
	out := make([]Registered, len(ids))
	for i, id := range ids {
		out[i].ID = id
		if it, ok := items[id]; ok {
			out[i] = registered(id, it)
		}
	}
	return out, nil
}

// items reads what is registered under ids.
func (s *Store) items(ctx context.Context, tenant string, ids []string) (map[string]store.Item, error) {
	keys := make([]store.Key, 0, len(ids))
	for _, id := range ids {
		if id != "" && len(id) <= maxID {
			keys = append(keys, key(tenant, id))
		}
	}
	items, err := s.Table.BatchGet(ctx, keys)
	if err != nil {
		return nil, err
	}
	out := make(map[string]store.Item, len(items))
	for _, it := range items {
		out[it.Attrs.String(attrID)] = it
	}
	return out, nil
}

// tries is how often a change that collided with another is made anew.
const tries = 20

var errConflict = fault.New(fault.Conflict, "schema was changed by somebody else meanwhile; retry")

// change puts a text, or nothing, in the place of what is registered under an id, with its entry in the trail. When others change it meanwhile, it is
// made anew after what they did.
func (s *Store) change(ctx context.Context, by identity.Identity, action, id string, text json.RawMessage) error {
	tried := int64(-1)
	for range tries {
		it, err := s.Table.Get(ctx, key(by.Tenant, id))
		before := registered(id, it)
		switch {
		case errors.Is(err, store.ErrNotFound):
			if text == nil {
				return nil
			}
		case err != nil:
			return err
		case before.at == tried && text != nil && before.hash == hash(text): // it was written, and the answer was lost
			return nil
		}
		tried = s.micros.Micros(s.Clock.Now())
		entry := audit.By(by, tried, action, "schema", id)
		if entry.Before = before.hash; text != nil {
			entry.After = hash(text)
		}
		if err := s.Table.Write(ctx, before.Replace(by.Tenant, text, tried), entry.Op()); !store.Overtaken(err) {
			return err
		}
	}
	return errConflict
}

func put(tenant, id string, text []byte, micros int64) store.Op {
	return store.Put(store.Item{
		Key: key(tenant, id), Attrs: store.Attrs{attrID: id, attrText: text, attrHash: hash(text), attrAt: micros},
		Index: map[store.Index]store.Key{store.ByTime: {PK: partition(tenant), SK: listing.Sortable(micros) + "#" + id}},
	})
}

func hash(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Get answers the text of a tenant's schema; an unknown one is ErrUnknown.
func (s *Store) Get(ctx context.Context, tenant, id string) (json.RawMessage, error) {
	if id = strings.TrimSpace(id); id == "" || len(id) > maxID {
		return nil, ErrUnknown
	}
	it, err := s.Table.Get(ctx, key(tenant, id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrUnknown
	}
	return it.Attrs.Bytes(attrText), err
}

// Delete removes a schema of the caller's tenant. For one that is not there nothing happens.
//
// Faults: Conflict when others keep changing it.
func (s *Store) Delete(ctx context.Context, by identity.Identity, id string) error {
	if id = strings.TrimSpace(id); id == "" || len(id) > maxID {
		return nil
	}
	return s.change(ctx, by, "delete", id, nil)
}

// List answers the ids of a tenant's schemas that were registered last, the newest first.
func (s *Store) List(ctx context.Context, tenant string, limit int) ([]string, error) {
	ids := []string{}
	q := store.Query{Index: store.ByTime, PK: partition(tenant), Desc: true, Limit: limit}
	for it, err := range store.Items(ctx, s.Table, q) {
		if err != nil {
			return nil, err
		}
		if ids = append(ids, listing.Parse(it).Rest); len(ids) == limit {
			break
		}
	}
	return ids, nil
}

// remembered is how many bytes of schemas a process keeps compiled, which take about 30 times as many.
const remembered = 2 << 20

// Set are schemas as they were at one time.
type Set struct {
	// Compiled are those that there were, by their ids.
	Compiled map[string]*schema.Schema
	// Hashes stand for their texts.
	Hashes map[string]string
	texts  map[string][]byte
}

// Revision stands for schemas, their hashes by their ids; "" for none.
func Revision(hashes map[string]string) string {
	if len(hashes) == 0 {
		return ""
	}
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(hashes)) {
		b.WriteString(id + " " + hashes[id] + "\n")
	}
	return hash([]byte(b.String()))
}

// Named answers the schemas of a tenant that have these ids, as they are now, and all at one time: of several that are changed at once, as by an upgrade
// of a pack, it has all or none. Those that do not exist are left out. Its fault is Conflict when others keep changing them.
func (s *Store) Named(ctx context.Context, tenant string, ids []string) (Set, error) {
	items, err := s.items(ctx, tenant, ids)
	if err != nil {
		return Set{}, err
	}
	if len(ids) < 2 {
		return s.set(items)
	}
	for range tries { // they are read one by one, and what is the same twice was there in between
		again, err := s.items(ctx, tenant, ids)
		if err != nil {
			return Set{}, err
		}
		if maps.EqualFunc(items, again, sameRegistration) {
			return s.set(items)
		}
		items = again
	}
	return Set{}, errConflict
}

func sameRegistration(a, b store.Item) bool {
	return a.Attrs.String(attrHash) == b.Attrs.String(attrHash) && a.Attrs.Int(attrAt) == b.Attrs.Int(attrAt)
}

func (s *Store) set(items map[string]store.Item) (Set, error) {
	out := Set{Compiled: make(map[string]*schema.Schema, len(items)), Hashes: make(map[string]string, len(items)), texts: make(map[string][]byte, len(items))}
	for id, it := range items {
		made, err := s.compile(id, it)
		if err != nil {
			return Set{}, err
		}
		out.Compiled[id], out.Hashes[id], out.texts[id] = made, it.Attrs.String(attrHash), it.Attrs.Bytes(attrText)
	}
	return out, nil
}

// Keep stores schemas for whoever goes on by them, whatever becomes of what is registered.
func (s *Store) Keep(ctx context.Context, tenant string, of Set) error {
	for id, name := range of.Hashes {
		k := versionKey(tenant, id, name)
		if s.isKept(k) {
			continue
		}
		op := store.Put(store.Item{Key: k, Attrs: store.Attrs{attrID: id, attrText: of.texts[id], attrHash: name}})
		if err := store.Transact(ctx, s.Table, op); err != nil {
			return err
		}
		s.noteKept(k)
	}
	return nil
}

// rememberedKeys is how many kept schemas a process knows to be there.
const rememberedKeys = 1024

func (s *Store) isKept(k store.Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept[k]
}

func (s *Store) noteKept(k store.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil || len(s.kept) >= rememberedKeys {
		s.kept = map[store.Key]bool{}
	}
	s.kept[k] = true
}

// Kept answers schemas that were kept, by their hashes.
func (s *Store) Kept(ctx context.Context, tenant string, hashes map[string]string) (Set, error) {
	keys := make([]store.Key, 0, len(hashes))
	for id, name := range hashes {
		keys = append(keys, versionKey(tenant, id, name))
	}
	items, err := s.Table.BatchGet(ctx, keys)
	if err != nil {
		return Set{}, err
	}
	if len(items) < len(keys) {
		return Set{}, fmt.Errorf("schemas: %d of %d that were kept are not there", len(keys)-len(items), len(keys))
	}
	byID := make(map[string]store.Item, len(items))
	for _, it := range items {
		byID[it.Attrs.String(attrID)] = it
	}
	return s.set(byID)
}

func (s *Store) compile(id string, it store.Item) (*schema.Schema, error) {
	name := it.Attrs.String(attrHash)
	s.mu.Lock()
	known := s.compiled[name]
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	text := it.Attrs.Bytes(attrText)
	made, err := schema.Compile(text, id)
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.compiled == nil || s.size+len(text) > remembered {
		s.compiled, s.size = map[string]*schema.Schema{}, 0
	}
	if s.compiled[name] == nil {
		s.size += len(text)
	}
	s.compiled[name] = made
	return made, nil
}
