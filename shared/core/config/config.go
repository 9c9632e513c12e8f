// Package config keeps the configuration documents of the plane: JSON under a scope and an id, with a revision that grows with every
// write. It also answers the settings that are compiled from them.
package config

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/canonical"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Document is one configuration document.
type Document struct {
	Scope, ID string
	// Data is a JSON object.
	Data json.RawMessage
	// Meta are notes of clients; nil is none.
	Meta map[string]string
	// Revision grows by one with every write; 0 is a document that was never written.
	Revision  int64
	UpdatedAt time.Time
	// Mark is a name that a writer gave to its write, to know it again when its answer was lost; "" for none.
	Mark string
	// Beside is how many of the revisions are not counted for clients: what changed then stands elsewhere, and is counted there.
	Beside int64
}

// The well-known document that holds pools, timeouts and limits.
const (
	SystemScope = "system"
	DefaultID   = "default"
)

// MaxSize is the largest data of a document, in bytes.
const MaxSize = 2 << 20

// ErrConflict says that the document was written by somebody else since it was read.
var ErrConflict = fault.New(fault.Conflict, "config update conflict; read it again and retry")

// Store keeps documents in the table, one item each: CFG#<scope>#<id> | D. Beside system/default lies what was last valid of it, | V. Data that is
// larger than job.InlineLimit lies in the blob store, under its hash, and its item names it.
type Store struct {
	Table store.Table
	// Blobs may be nil in processes that read no configuration.
	Blobs blob.Store
}

func key(scope, id string) store.Key { return store.Key{PK: "CFG#" + scope + "#" + id, SK: "D"} }

var validKey = store.Key{PK: key(SystemScope, DefaultID).PK, SK: "V"}

// Names of the attributes of an item: the data, or its hash when it lies in the blob store.
const (
	attrData     = "data"
	attrHash     = "hash"
	attrMeta     = "meta"
	attrRevision = "rev"
	attrUpdated  = "up"
	attrMark     = "mark"
	attrBeside   = "beside"
)

func object(hash string) string { return resources.ConfigObjects + "/" + hash }

// keep puts data into the attributes of an item, or, when it is large, into the blob store, before anything names it.
func (s *Store) keep(ctx context.Context, attrs store.Attrs, data []byte) error {
	if len(data) <= job.InlineLimit {
		attrs[attrData] = data
		return nil
	}
	if s.Blobs == nil {
		return errNoBlobs
	}
	hash := canonical.Hash(data)
	attrs[attrHash] = hash
	return s.Blobs.Put(ctx, object(hash), data, blob.PutOptions{ContentType: "application/json"})
}

var errNoBlobs = errors.New("config: this process has no objects, and a document that is one")

// data reads what was kept.
func (s *Store) data(ctx context.Context, it store.Item) ([]byte, error) {
	hash := it.Attrs.String(attrHash)
	switch {
	case hash == "":
		return it.Attrs.Bytes(attrData), nil
	case s.Blobs == nil:
		return nil, errNoBlobs
	}
	data, _, err := s.Blobs.Get(ctx, object(hash), 0)
	if err == nil && canonical.Hash(data) != hash {
		err = errors.New("the object is not what was stored")
	}
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", it.Key, err)
	}
	return data, nil
}

// lastValid reads the members of system/default as they were when each was last valid.
func (s *Store) lastValid(ctx context.Context) ([]byte, error) {
	it, err := s.Table.Get(ctx, validKey)
	if errors.Is(err, store.ErrNotFound) {
		return []byte("{}"), nil
	}
	if err != nil {
		return nil, err
	}
	return s.data(ctx, it)
}

// Compile makes settings of the document system/default. A member that is not valid keeps what previous has, or, where that is nil, what it
// was when it was last valid; problems says which.
func (s *Store) Compile(ctx context.Context, d Document, previous *schedule.Settings) (compiled *schedule.Settings, problems []error, err error) {
	compiled, problems = schedule.ParseSettings(d.Data, previous)
	if len(schedule.Refused(problems)) == 0 || previous != nil {
		return compiled, problems, nil
	}
	kept, err := s.lastValid(ctx)
	if err != nil {
		return nil, nil, err
	}
	previous, _ = schedule.ParseSettings(kept, nil)
	compiled, problems = schedule.ParseSettings(d.Data, previous)
	return compiled, problems, nil
}

// Get reads a document; one that was never written has Revision 0 and Data {}.
func (s *Store) Get(ctx context.Context, scope, id string) (Document, error) {
	it, err := s.item(ctx, scope, id)
	if err != nil {
		return Document{}, err
	}
	return s.document(ctx, scope, id, it)
}

// item reads the item of a document; one that was never written has none of its attributes.
func (s *Store) item(ctx context.Context, scope, id string) (store.Item, error) {
	it, err := s.Table.Get(ctx, key(scope, id))
	if errors.Is(err, store.ErrNotFound) {
		return store.Item{Key: key(scope, id)}, nil
	}
	return it, err
}

// document is what an item says of a document.
func (s *Store) document(ctx context.Context, scope, id string, it store.Item) (Document, error) {
	d := Document{Scope: scope, ID: id, Data: json.RawMessage("{}"), Revision: it.Attrs.Int(attrRevision)}
	if d.Revision == 0 {
		return d, nil
	}
	d.UpdatedAt, d.Mark, d.Beside = time.UnixMicro(it.Attrs.Int(attrUpdated)).UTC(), it.Attrs.String(attrMark), it.Attrs.Int(attrBeside)
	if meta := it.Attrs.Bytes(attrMeta); meta != nil {
		if err := json.Unmarshal(meta, &d.Meta); err != nil {
			return d, fmt.Errorf("config %s/%s: stored meta: %w", scope, id, err)
		}
	}
	var err error
	d.Data, err = s.data(ctx, it)
	return d, err
}

// Put writes a document that was read at d.Revision, in one transaction with more operations, and answers its new revision. ErrConflict when it, or
// what those depend on, has moved on. Of system/default it also keeps what was last valid: a process that starts while a member is not goes on with
// that. Decisions that begin after the write go by it.
func (s *Store) Put(ctx context.Context, d Document, now time.Time, more ...store.Op) (int64, error) {
	ops, err := s.Ops(ctx, d, now)
	if err != nil {
		return 0, err
	}
	if decides(d.Scope, d.ID) {
		ops = append(ops, head.Moved()...)
	}
	err = store.Transact(ctx, s.Table, append(ops, more...)...)
	if store.Overtaken(err) {
		return 0, ErrConflict
	}
	if err != nil {
		return 0, fmt.Errorf("config %s/%s: %w", d.Scope, d.ID, err)
	}
	return d.Revision + 1, nil
}

// Ops are the operations of a Put, for a larger transaction that moves the head itself: see head.Moved. The first of them holds while the document is
// as it was read. Large data is in the blob store when they are answered.
func (s *Store) Ops(ctx context.Context, d Document, now time.Time) ([]store.Op, error) {
	if trimmed := bytes.TrimSpace(d.Data); !json.Valid(trimmed) || trimmed[0] != '{' {
		return nil, fault.New(fault.Invalid, "config %s/%s: data must be a JSON object", d.Scope, d.ID)
	}
	if len(d.Data) > MaxSize {
		return nil, fault.New(fault.TooLarge, "config %s/%s would have %d bytes; a document has at most %d", d.Scope, d.ID, len(d.Data), MaxSize)
	}
	if len(d.ID) > maxKey {
		return nil, fault.New(fault.Invalid, "scope_id is longer than %d bytes", maxID)
	}
	unread := store.NotExists()
	if d.Revision > 0 {
		unread = store.Equal(attrRevision, d.Revision)
	}
	attrs := store.Attrs{attrRevision: d.Revision + 1, attrUpdated: now.UnixMicro()}
	if d.Mark != "" {
		attrs[attrMark] = d.Mark
	}
	if d.Beside != 0 {
		attrs[attrBeside] = d.Beside
	}
	if len(d.Meta) > 0 {
		meta, err := json.Marshal(d.Meta)
		if err != nil {
			return nil, fmt.Errorf("config %s/%s: encode meta: %w", d.Scope, d.ID, err)
		}
		attrs[attrMeta] = meta
	}
	if err := s.keep(ctx, attrs, d.Data); err != nil {
		return nil, err
	}
	ops := []store.Op{store.Put(store.Item{Key: key(d.Scope, d.ID), Attrs: attrs}).If(unread)}
	if d.Scope != SystemScope || d.ID != DefaultID {
		return ops, nil
	}
	valid, err := s.keepValid(ctx, d)
	return append(ops, valid), err
}

// keepValid keeps what is valid of system/default, and of what is not what was last valid.
func (s *Store) keepValid(ctx context.Context, d Document) (store.Op, error) {
	before, err := s.lastValid(ctx)
	if err != nil {
		return store.Op{}, err
	}
	kept, err := schedule.LastValid(d.Data, before)
	if err != nil {
		return store.Op{}, fmt.Errorf("config %s/%s: %w", d.Scope, d.ID, err)
	}
	attrs := store.Attrs{}
	if err := s.keep(ctx, attrs, kept); err != nil {
		return store.Op{}, err
	}
	return store.Put(store.Item{Key: validKey, Attrs: attrs}), nil
}

// Seed adds top-level members that the document does not have yet, so that what an operator changed stays. It says whether anything was
// added.
func (s *Store) Seed(ctx context.Context, scope, id string, members map[string]json.RawMessage, now time.Time) (bool, error) {
	for {
		d, err := s.Get(ctx, scope, id)
		if err != nil {
			return false, err
		}
		var data map[string]json.RawMessage
		if err := json.Unmarshal(d.Data, &data); err != nil {
			return false, fmt.Errorf("config %s/%s: stored data: %w", scope, id, err)
		}
		changed := false
		for name, v := range members {
			if _, ok := data[name]; !ok {
				data[name], changed = v, true
			}
		}
		if !changed {
			return false, nil
		}
		if d.Data, err = json.Marshal(data); err != nil {
			return false, fmt.Errorf("config %s/%s: %w", scope, id, err)
		}
		if _, err = s.Put(ctx, d, now); !errors.Is(err, ErrConflict) {
			return err == nil, err
		}
	}
}
