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
	switch id = strings.TrimSpace(id); {
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
	return s.change(ctx, by, "register", id, text)
}

// tries is how often a change that collided with another is made anew.
const tries = 20

var errConflict = fault.New(fault.Conflict, "schema was changed by somebody else meanwhile; retry")

// change puts a text, or nothing, in the place of what is registered under an id, with its entry in the trail. When others change it meanwhile, it is
// made anew after what they did.
func (s *Store) change(ctx context.Context, by identity.Identity, action, id string, text json.RawMessage) error {
	tried := int64(-1)
	for range tries {
		before, err := s.Table.Get(ctx, key(by.Tenant, id))
		at := before.Attrs.Int(attrAt)
		unchanged := store.All(store.Equal(attrHash, before.Attrs.String(attrHash)), store.Any(store.HasNot(attrAt), store.Equal(attrAt, at)))
		switch {
		case errors.Is(err, store.ErrNotFound) && text == nil:
			return nil
		case errors.Is(err, store.ErrNotFound):
			unchanged = store.NotExists()
		case err != nil:
			return err
		case at == tried && text != nil && before.Attrs.String(attrHash) == hash(text): // it was written, and the answer was lost
			return nil
		}
		tried = s.micros.Micros(s.Clock.Now())
		entry := audit.By(by, tried, action, "schema", id)
		entry.Before = before.Attrs.String(attrHash)
		op := store.Delete(key(by.Tenant, id))
		if text != nil {
			entry.After = hash(text)
			op = put(by.Tenant, id, text, tried)
		}
		if err := s.Table.Write(ctx, op.If(unchanged), entry.Op()); !store.Overtaken(err) {
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

// Named answers the schemas of a tenant that have these ids, compiled; those that do not exist are left out. revision stands for what was found.
func (s *Store) Named(ctx context.Context, tenant string, ids []string) (found map[string]*schema.Schema, revision string, err error) {
	keys := make([]store.Key, 0, len(ids))
	for _, id := range ids {
		if len(id) <= maxID {
			keys = append(keys, key(tenant, id))
		}
	}
	items, err := s.Table.BatchGet(ctx, keys)
	if err != nil {
		return nil, "", err
	}
	found = make(map[string]*schema.Schema, len(items))
	var revisions strings.Builder
	for _, it := range items {
		id := it.Attrs.String(attrID)
		if found[id], err = s.compile(id, it); err != nil {
			return nil, "", err
		}
		revisions.WriteString(id + " " + it.Attrs.String(attrHash) + "\n")
	}
	return found, hash([]byte(revisions.String())), nil
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
