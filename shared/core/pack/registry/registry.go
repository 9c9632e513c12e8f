// Package registry keeps what is known of packs: one record for each, which clients see in the document system/packs and on the routes of packs. A
// record is the JSON that its writer wrote, and what the plane keeps beside it for itself. All records together have a revision, and whoever changes
// one says which revision it has read: of two who write at once one hears of it, and nothing is lost.
package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Store reads records. They are written as a part of larger transactions: see Put and Change.
type Store struct{ Table store.Table }

// Record is what is known of a pack.
type Record struct {
	ID string
	// JSON is an object, as it was written.
	JSON json.RawMessage
	// Tenant is whose workflows and schemas the pack brought.
	Tenant string
	// Undo is what the installer needs to take the pack away; nil is unknown.
	Undo []byte
	// Revision grows by one with every write of the record; 0 is one that was never written.
	Revision int64
}

// Snapshot is all records as they were at one time.
type Snapshot struct {
	Records map[string]Record
	// Revision grows by one with every change of any record; 0 is none ever.
	Revision  int64
	UpdatedAt time.Time
}

// Limits of records, in bytes: one lies in an item, and all together are answered at once.
const (
	maxRecord = 256 << 10
	maxUndo   = 120 << 10
	maxAll    = 3 << 20
)

// The items: PACKS | H is the header, with the revision of all; PACKS | P#<id> a record.
const (
	partition = "PACKS"
	prefix    = "P#"
)

var headerKey = store.Key{PK: partition, SK: "H"}

func key(id string) store.Key { return store.Key{PK: partition, SK: prefix + id} }

// Names of the attributes.
const (
	attrJSON     = "json"
	attrTenant   = "tenant"
	attrUndo     = "undo"
	attrRevision = "rev"
	attrAt       = "at"
)

var validID = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

// ErrConflict says that others keep changing records.
var ErrConflict = fault.New(fault.Conflict, "the registry of packs was changed by somebody else meanwhile; retry")

// tries is how often all records are read while somebody changes them.
const tries = 20

// All answers every record.
func (s *Store) All(ctx context.Context) (Snapshot, error) {
	before, err := s.header(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	for range tries {
		all := map[string]Record{}
		for it, err := range store.Items(ctx, s.Table, store.Query{PK: partition, Prefix: prefix}) {
			if err != nil {
				return Snapshot{}, err
			}
			r := read(it)
			all[r.ID] = r
		}
		after, err := s.header(ctx)
		if err != nil {
			return Snapshot{}, err
		}
		if before.Revision == after.Revision { // nobody has written between the reads
			after.Records = all
			return after, nil
		}
		before = after
	}
	return Snapshot{}, ErrConflict
}

func (s *Store) header(ctx context.Context) (Snapshot, error) {
	it, err := s.Table.Get(ctx, headerKey)
	if errors.Is(err, store.ErrNotFound) {
		return Snapshot{}, nil
	}
	return Snapshot{Revision: it.Attrs.Int(attrRevision), UpdatedAt: time.UnixMicro(it.Attrs.Int(attrAt)).UTC()}, err
}

// Get answers one record; ok is false for a pack that is not known.
func (s *Store) Get(ctx context.Context, id string) (r Record, ok bool, err error) {
	if !validID.MatchString(id) {
		return Record{}, false, nil
	}
	it, err := s.Table.Get(ctx, key(id))
	if errors.Is(err, store.ErrNotFound) {
		return Record{}, false, nil
	}
	return read(it), err == nil, err
}

func read(it store.Item) Record {
	return Record{
		ID: strings.TrimPrefix(it.SK, prefix), JSON: it.Attrs.Bytes(attrJSON), Tenant: it.Attrs.String(attrTenant), Undo: it.Attrs.Bytes(attrUndo),
		Revision: it.Attrs.Int(attrRevision),
	}
}

// Check says what is wrong with a record that is to be written. Faults: Invalid.
func (r Record) Check() error {
	object := bytes.TrimSpace(r.JSON)
	switch {
	case !validID.MatchString(r.ID):
		return fault.New(fault.Invalid, "pack id %q: it has 1 to 63 of a-z, 0-9 and -", r.ID)
	case len(object) == 0 || object[0] != '{' || !json.Valid(object):
		return fault.New(fault.Invalid, "pack %s: its record must be an object", r.ID)
	case len(r.JSON) > maxRecord:
		return fault.New(fault.Invalid, "pack %s: its record has %d bytes, more than %d", r.ID, len(r.JSON), maxRecord)
	case len(r.Undo) > maxUndo:
		return fault.New(fault.Invalid, "pack %s: what is needed to take it away has %d bytes, more than %d", r.ID, len(r.Undo), maxUndo)
	}
	if _, err := pack.ReadRecord(r.JSON); err != nil { // one that cannot be read would be in the way of whoever reads all
		return fault.New(fault.Invalid, "pack %s: %s", r.ID, err.Error())
	}
	return nil
}

// Fits says whether all records together are not too large once those are written. Faults: TooLarge.
func (s Snapshot) Fits(written ...Record) error {
	size := 0
	sizes := make(map[string]int, len(s.Records))
	for id, r := range s.Records {
		sizes[id] = len(r.JSON)
	}
	for _, r := range written {
		sizes[r.ID] = len(r.JSON)
	}
	for _, n := range sizes {
		size += n
	}
	if size > maxAll {
		return fault.New(fault.TooLarge, "the records of all packs would have %d bytes, more than %d", size, maxAll)
	}
	return nil
}

// Put are the operations that write a record, for a larger transaction. The last of them holds while nobody has changed any record since before was
// read.
func Put(before Snapshot, r Record, micros int64) []store.Op {
	return Change(before, []Record{r}, nil, micros)
}

// Change is Put of several records, and of the removal of others.
func Change(before Snapshot, puts []Record, removals []string, micros int64) []store.Op {
	ops := make([]store.Op, 0, len(puts)+len(removals)+1)
	for _, r := range puts {
		attrs := store.Attrs{attrJSON: []byte(r.JSON), attrTenant: r.Tenant, attrRevision: before.Records[r.ID].Revision + 1}
		if r.Undo != nil {
			attrs[attrUndo] = r.Undo
		}
		ops = append(ops, store.Put(store.Item{Key: key(r.ID), Attrs: attrs}))
	}
	for _, id := range removals {
		ops = append(ops, store.Delete(key(id)))
	}
	header := store.Put(store.Item{Key: headerKey, Attrs: store.Attrs{attrRevision: before.Revision + 1, attrAt: micros}})
	return append(ops, header.If(before.unchanged()))
}

// Unchanged makes a transaction that writes no record depend on all of them: it holds while they are what they were.
func (s Snapshot) Unchanged() store.Op { return store.Check(headerKey, s.unchanged()) }

func (s Snapshot) unchanged() store.Cond {
	if s.Revision == 0 {
		return store.NotExists()
	}
	return store.Equal(attrRevision, s.Revision)
}

// Document is the records as the document system/packs has them: by id.
func (s Snapshot) Document() map[string]json.RawMessage {
	out := make(map[string]json.RawMessage, len(s.Records))
	for id, r := range s.Records {
		out[id] = r.JSON
	}
	return out
}
