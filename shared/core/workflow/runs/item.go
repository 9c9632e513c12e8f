package runs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/workflow/engine"
	"github.com/cordum-serverless/cordum/shared/core/workflow/expr"
	"github.com/cordum-serverless/cordum/shared/core/workflow/inbox"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Names of attributes. Those of the header that others read are in package inbox.
const (
	attrRun     = "r"  // header: the engine's run, JSON
	attrVersion = "v"  // header: how many commits there were
	attrCommit  = "w"  // header: a nonce of the last commit
	attrDue     = "du" // header: the microsecond of its entry in by_due
	attrCounted = "cn" // header: it is counted among the tenant's live runs
	attrDeleted = "dl" // header: it was deleted, and is there until everything else is gone
	attrRecord  = "p"  // record: the engine's record, JSON
	attrEntries = "t"  // timeline: entries, JSON
	attrText    = "x"  // value: its JSON text
	attrBytes   = "n"  // value: the length of its text, which is in the blob store unless it is here
	attrStarted = "id" // idempotency key: the run
	attrUntil   = "ut" // idempotency key: until when, in Unix seconds
	attrCount   = "n"  // counter
)

// header is a run, and what only the store knows of it.
type header struct {
	*engine.Run

	counted bool
	deleted bool
	due     int64 // in microseconds, 0 for never
	commit  string
}

func (h *header) item(shards job.Shards) (store.Item, error) {
	text, err := json.Marshal(h.Run)
	if err != nil {
		return store.Item{}, fmt.Errorf("run %s: encode: %w", h.ID, err)
	}
	attrs := store.Attrs{
		inbox.Status: string(h.Status), inbox.Tenant: h.OrgID, attrRun: text, attrVersion: h.Version, attrCommit: h.commit,
	}
	if h.due != 0 {
		attrs[attrDue] = h.due
	}
	if h.counted {
		attrs[attrCounted] = true
	}
	if h.deleted {
		attrs[attrDeleted] = true
	}
	return store.Item{Key: inbox.Header(h.ID), Attrs: attrs, Index: h.entries(shards)}, nil
}

func parseHeader(it store.Item) (*header, error) {
	h := &header{
		Run: &engine.Run{}, counted: it.Attrs[attrCounted] == true, deleted: it.Attrs[attrDeleted] == true, due: it.Attrs.Int(attrDue),
		commit: it.Attrs.String(attrCommit),
	}
	if err := decode(it.Attrs.Bytes(attrRun), h.Run); err != nil {
		return nil, fmt.Errorf("run %s: %w", it.Key, err)
	}
	return h, nil
}

// decode keeps numbers as they are written.
func decode(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(into)
}

func parseRecord(it store.Item) (*engine.Record, error) {
	r := &engine.Record{}
	if err := decode(it.Attrs.Bytes(attrRecord), r); err != nil {
		return nil, fmt.Errorf("record %s: %w", it.Key, err)
	}
	return r, nil
}

// How large an item may be before its largest values are put apart, in bytes: the header is written with every commit.
const (
	headerBytes = 2 << 10
	recordBytes = 4 << 10
	// worthwhile is the smallest value that is put apart.
	worthwhile = 128
)

// value is one that is kept apart.
type value struct {
	ref  string
	text []byte
	tree any
}

// apart replaces the largest of some values by references until what holds them is small, and answers those that are to be stored. holder is what
// they are in.
func apart(holder any, values []*engine.Value, most int) ([]value, error) {
	whole, err := json.Marshal(holder)
	if err != nil || len(whole) <= most {
		return nil, err
	}
	type candidate struct {
		of   *engine.Value
		text []byte
	}
	var all []candidate
	for _, v := range values {
		if v.Inline == nil {
			continue
		}
		text, err := json.Marshal(v.Inline)
		if err != nil {
			return nil, err
		}
		if len(text) >= worthwhile {
			all = append(all, candidate{v, text})
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return len(b.text) - len(a.text) })
	var out []value
	size := len(whole)
	for _, c := range all {
		if size <= most {
			break
		}
		sum := sha256.Sum256(c.text)
		v := value{hex.EncodeToString(sum[:12]), c.text, c.of.Inline}
		size -= len(c.text)
		*c.of = engine.Value{Ref: v.ref}
		out = append(out, v)
	}
	return out, nil
}

// putValues stores values of a run. They are named by what is in them, so that storing one twice changes nothing; who uses them writes them first.
func (r *Runs) putValues(ctx context.Context, run string, values []value) error {
	for _, v := range values {
		attrs := store.Attrs{attrBytes: int64(len(v.text))}
		if len(v.text) <= job.InlineLimit {
			attrs[attrText] = v.text
		} else if err := r.Blobs.Put(ctx, object(run, v.ref), v.text, blob.PutOptions{ContentType: "application/json"}); err != nil {
			return err
		}
		if err := store.Transact(ctx, r.Table, store.Put(store.Item{Key: valueKey(run, v.ref), Attrs: attrs})); err != nil {
			return err
		}
	}
	return nil
}

// value reads an item of a value.
func (r *Runs) value(ctx context.Context, run string, it store.Item) (any, error) {
	text := it.Attrs.Bytes(attrText)
	if text == nil {
		var err error
		ref := it.SK[len(valuePrefix):]
		if text, _, err = r.Blobs.Get(ctx, object(run, ref), 0); err != nil {
			return nil, fmt.Errorf("run %s: value %s: %w", run, ref, err)
		}
	}
	return expr.Decode(text)
}

// timelineBytes is how much of a timeline one item takes.
const timelineBytes = 256 << 10

// timelineOps store the entries of a commit.
func timelineOps(run string, version int64, entries []engine.Entry) ([]store.Op, error) {
	var ops []store.Op
	var texts []json.RawMessage
	size := 0
	flush := func() error {
		if len(texts) == 0 {
			return nil
		}
		text, err := json.Marshal(texts)
		ops = append(ops, store.Put(store.Item{Key: timelineKey(run, version, len(ops)), Attrs: store.Attrs{attrEntries: text}}))
		texts, size = nil, 0
		return err
	}
	for _, e := range told(&engine.Run{}, entries) { // whose they are, the partition says
		text, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("run %s: timeline: %w", run, err)
		}
		if size += len(text); size > timelineBytes {
			if err := flush(); err != nil {
				return nil, err
			}
			size = len(text)
		}
		texts = append(texts, text)
	}
	return ops, flush()
}

// loaded is what is known of a run, for the engine.
type loaded struct {
	records map[string]*engine.Record
	values  map[string]any
}

func newLoaded() *loaded {
	return &loaded{map[string]*engine.Record{}, map[string]any{}}
}

// Record is of engine.Source.
func (l *loaded) Record(id string) (*engine.Record, bool) {
	r, ok := l.records[id]
	return r, ok
}

// Value is of engine.Source.
func (l *loaded) Value(ref string) (any, bool) {
	v, ok := l.values[ref]
	return v, ok
}

// isValue tells the item of a value.
func isValue(it store.Item) bool { return strings.HasPrefix(it.SK, valuePrefix) }

// load reads records and values; of records that do not exist it is known then that they do not.
func (r *Runs) load(ctx context.Context, run string, into *loaded, records, refs []string) error {
	var keys []store.Key
	for _, id := range records {
		keys = append(keys, inbox.Record(run, id))
		into.records[id] = nil
	}
	for _, ref := range refs {
		keys = append(keys, valueKey(run, ref))
	}
	if len(keys) == 0 {
		return nil
	}
	items, err := r.Table.BatchGet(ctx, keys)
	if err != nil {
		return err
	}
	for _, it := range items {
		if isValue(it) {
			if into.values[it.SK[len(valuePrefix):]], err = r.value(ctx, run, it); err != nil {
				return err
			}
			continue
		}
		rec, err := parseRecord(it)
		if err != nil {
			return err
		}
		into.records[rec.ID] = rec
	}
	for _, ref := range refs {
		if _, ok := into.values[ref]; !ok {
			return fmt.Errorf("run %s: value %s is not there", run, ref)
		}
	}
	return nil
}

// filled runs something that asks for what it misses, until it misses nothing.
func (r *Runs) filled(ctx context.Context, run string, src *loaded, do func() error) error {
	for {
		err := do()
		missing, ok := errors.AsType[*engine.Missing](err)
		if !ok {
			return err
		}
		if err := r.load(ctx, run, src, missing.Records, missing.Refs); err != nil {
			return err
		}
	}
}
