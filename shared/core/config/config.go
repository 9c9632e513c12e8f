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

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Document is one configuration document.
type Document struct {
	Scope, ID string
	// Data is a JSON object.
	Data json.RawMessage
	// Revision grows by one with every write; 0 is a document that was never written.
	Revision  int64
	UpdatedAt time.Time
}

// The well-known document that holds pools, timeouts and limits.
const (
	SystemScope = "system"
	DefaultID   = "default"
)

// ErrConflict says that the document was written by somebody else since it was read.
var ErrConflict = fault.New(fault.Conflict, "config update conflict; read it again and retry")

// Store keeps documents in the table, one item each: CFG#<scope>#<id> | D. Beside system/default lies what was last valid of it, | V.
type Store struct{ Table store.Table }

func key(scope, id string) store.Key { return store.Key{PK: "CFG#" + scope + "#" + id, SK: "D"} }

var validKey = store.Key{PK: key(SystemScope, DefaultID).PK, SK: "V"}

// lastValid reads the members of system/default as they were when each was last valid.
func (s *Store) lastValid(ctx context.Context) ([]byte, error) {
	it, err := s.Table.Get(ctx, validKey)
	if errors.Is(err, store.ErrNotFound) {
		return []byte("{}"), nil
	}
	return it.Attrs.Bytes("data"), err
}

// Compile makes settings of the document system/default. A member that is not valid keeps what previous has, or, where that is nil, what it
// was when it was last valid; problems says which.
func (s *Store) Compile(ctx context.Context, d Document, previous *schedule.Settings) (compiled *schedule.Settings, problems []error, err error) {
	compiled, problems = schedule.ParseSettings(d.Data, previous)
	if len(problems) == 0 || previous != nil {
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
	d := Document{Scope: scope, ID: id, Data: json.RawMessage("{}")}
	it, err := s.Table.Get(ctx, key(scope, id))
	if errors.Is(err, store.ErrNotFound) {
		return d, nil
	}
	if err != nil {
		return d, err
	}
	return document(d, it), nil
}

// document is what an item says of a document.
func document(d Document, it store.Item) Document {
	d.Data, d.Revision = it.Attrs.Bytes("data"), it.Attrs.Int("rev")
	d.UpdatedAt = time.UnixMicro(it.Attrs.Int("up")).UTC()
	return d
}

// Put writes a document that was read at d.Revision, and answers its new revision. ErrConflict when it has moved on. Of system/default it also
// keeps what was last valid: a process that starts while a member is not goes on with that. Decisions that begin after the write go by it.
func (s *Store) Put(ctx context.Context, d Document, now time.Time) (int64, error) {
	if trimmed := bytes.TrimSpace(d.Data); !json.Valid(trimmed) || trimmed[0] != '{' {
		return 0, fault.New(fault.Invalid, "config %s/%s: data must be a JSON object", d.Scope, d.ID)
	}
	if len(d.ID) > maxID {
		return 0, fault.New(fault.Invalid, "config: scope_id is longer than %d bytes", maxID)
	}
	unread := store.NotExists()
	if d.Revision > 0 {
		unread = store.Equal("rev", d.Revision)
	}
	ops := []store.Op{store.Put(store.Item{
		Key:   key(d.Scope, d.ID),
		Attrs: store.Attrs{"data": []byte(d.Data), "rev": d.Revision + 1, "up": now.UnixMicro()},
	}).If(unread)}
	if decides(d.Scope, d.ID) {
		ops = append(ops, head.Moved()...)
	}
	if d.Scope == SystemScope && d.ID == DefaultID {
		before, err := s.lastValid(ctx)
		if err != nil {
			return 0, err
		}
		kept, err := schedule.LastValid(d.Data, before)
		if err != nil {
			return 0, fmt.Errorf("config %s/%s: %w", d.Scope, d.ID, err)
		}
		ops = append(ops, store.Put(store.Item{Key: validKey, Attrs: store.Attrs{"data": kept}}))
	}
	err := store.Transact(ctx, s.Table, ops...)
	if _, ok := errors.AsType[*store.ConditionError](err); ok {
		return 0, ErrConflict
	}
	if err != nil {
		return 0, fmt.Errorf("config %s/%s: %w", d.Scope, d.ID, err)
	}
	return d.Revision + 1, nil
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
