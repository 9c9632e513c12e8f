// Package memory keeps what agents remember: each memory of a tenant has a history of its newest events, a summary, and chunks of files, which language
// models see in their next window. What is in it is gone 30 days after it was written; an event also when there are 20 newer ones.
package memory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

const (
	// MaxEvents is how many events a history has; an older one goes when a new one comes.
	MaxEvents = 20
	// MaxText is the longest text of one entry, in bytes: of a message, a summary, a chunk. A longer one is refused, not cut: whoever has it can say what
	// of it matters.
	MaxText = 64 << 10
	// Retention is how long something is kept after it was written.
	Retention = 30 * 24 * time.Hour

	// maxID is the longest id of a memory, in bytes. That of a job's own memory is longer than one that a client may choose, and has other characters.
	maxID = 512
)

// Event is an event of a history.
type Event struct {
	// Number is its place in the history: one more than that of the event before.
	Number int64
	// ID tells it from others.
	ID string
	// At is when it was added, in whole seconds.
	At   time.Time
	Text json.RawMessage
}

// Store keeps memories.
type Store struct{ Table store.Table }

// CheckID says what is wrong with the id of a memory.
func CheckID(id string) error {
	if len(id) > maxID || !utf8.ValidString(id) {
		return fault.New(fault.Invalid, "invalid memory id")
	}
	return nil
}

// head is the item that changes with every write of a memory, so that of two writers one is told.
type head struct {
	next  int64
	calls []byte
	// The chunks.
	generation, nextChunk, chunks, size int64
}

func (s *Store) head(ctx context.Context, pk string, now time.Time) (head, error) {
	it, err := s.Table.Get(ctx, headKey(pk))
	if errors.Is(err, store.ErrNotFound) {
		return head{}, nil
	}
	a := it.Attrs
	h := head{next: a.Int(attrNext), calls: a.Bytes(attrCalls), generation: a.Int(attrGeneration)}
	if it.Live(now.Unix()) {
		h.nextChunk, h.chunks, h.size = a.Int(attrNextChunk), a.Int(attrChunks), a.Int(attrSize)
	}
	return h, err
}

// put writes the head, if nobody has changed it since it knew these calls.
func (h head) put(pk string, calls []byte, expires int64) store.Op {
	return store.Put(store.Item{Key: headKey(pk), Attrs: store.Attrs{
		attrNext: h.next, attrCalls: h.calls, attrGeneration: h.generation, attrNextChunk: h.nextChunk, attrChunks: h.chunks, attrSize: h.size,
	}, Expires: expires}).If(still(calls))
}

// still holds while the calls that a head knows are the same: no two heads ever know the same ones, also not that of a memory which was forgotten and the
// one after.
func still(calls []byte) store.Cond {
	if len(calls) == 0 {
		return store.HasNot(attrCalls)
	}
	return store.Equal(attrCalls, calls)
}

// The newest calls are remembered by the first bytes of their hashes, so that one whose answer was lost is known when it comes again.
const (
	callBytes = 8
	maxCalls  = 64
)

func hashed(call string) []byte {
	sum := sha256.Sum256([]byte(call))
	return sum[:callBytes]
}

// knows says whether a call has taken effect.
func (h head) knows(call string) bool {
	own := hashed(call)
	for c := range slices.Chunk(h.calls, callBytes) {
		if bytes.Equal(c, own) {
			return true
		}
	}
	return false
}

func (h *head) remember(call string) {
	h.calls = append(slices.Clip(h.calls), hashed(call)...)
	h.calls = h.calls[max(0, len(h.calls)-maxCalls*callBytes):]
}

const (
	// tries is how often a write that met another one is made, longest how long it rests between two of them.
	tries   = 100
	longest = 50 * time.Millisecond
)

// errBusy is for whoever may try again.
var errBusy = fault.New(fault.Unavailable, "others keep changing the memory; retry").Aloud()

// retry makes a write again, whoever else writes, until it is not overtaken. Of those that meet each rests for another time, by its name.
func retry(ctx context.Context, name string, write func() error) error {
	step := time.Duration(hashed(name)[0]) * time.Millisecond / 256
	rest := time.Duration(0)
	for range tries {
		if err := write(); !store.Overtaken(err) {
			return err
		}
		if err := clock.Pause(ctx, rest); err != nil {
			return err
		}
		rest = min(longest, rest+step)
	}
	return errBusy
}

// change makes a change of a memory in one transaction, once for each call, whoever else changes it at that time. edit says what it changes beside the
// head, and changes the head that it is given.
func (s *Store) change(ctx context.Context, pk, call string, now time.Time, edit func(*head) ([]store.Op, error)) error {
	return retry(ctx, call, func() error {
		h, err := s.head(ctx, pk, now)
		if err != nil || h.knows(call) {
			return err
		}
		before := h.calls
		h.remember(call)
		ops, err := edit(&h)
		if err != nil {
			return err
		}
		return s.Table.Write(ctx, append(ops, h.put(pk, before, now.Add(Retention).Unix()))...)
	})
}

// Append adds events, all or none, once for each call, whoever else adds at that time. Their numbers and times are given to them.
func (s *Store) Append(ctx context.Context, tenant, memory, call string, now time.Time, events ...Event) error {
	pk := partition(tenant, memory)
	return s.change(ctx, pk, "events "+call, now, func(h *head) ([]store.Op, error) {
		var ops []store.Op
		for _, e := range events {
			ops = append(ops, store.Put(store.Item{
				Key: eventKey(pk, h.next), Attrs: store.Attrs{attrText: []byte(e.Text), attrID: e.ID}, Expires: now.Add(Retention).Unix(),
			}))
			if h.next >= MaxEvents {
				ops = append(ops, store.Delete(eventKey(pk, h.next-MaxEvents)))
			}
			h.next++
		}
		return ops, nil
	})
}

// Events answers the history, the newest event first.
func (s *Store) Events(ctx context.Context, tenant, memory string, now time.Time) ([]Event, error) {
	var out []Event
	q := store.Query{PK: partition(tenant, memory), Prefix: eventPrefix, Desc: true, Limit: MaxEvents}
	for it, err := range store.Items(ctx, s.Table, q) {
		if err != nil {
			return nil, err
		}
		if !it.Live(now.Unix()) {
			continue
		}
		n, err := number(it, eventPrefix)
		if err != nil {
			return nil, err
		}
		at := time.Unix(it.Expires, 0).Add(-Retention).UTC()
		if out = append(out, Event{Number: n, ID: it.Attrs.String(attrID), At: at, Text: it.Attrs.Bytes(attrText)}); len(out) == MaxEvents {
			break
		}
	}
	return out, nil
}

// number is that of an item, which follows a prefix in its key.
func number(it store.Item, prefix string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimPrefix(it.SK, prefix), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("memory: %s: %w", it.Key, err)
	}
	return n, nil
}

// Forget removes a memory. One that is not there is no error.
func (s *Store) Forget(ctx context.Context, tenant, memory string) error {
	pk := partition(tenant, memory)
	return retry(ctx, pk, func() error {
		if err := s.clear(ctx, store.Query{PK: pk, Prefix: chunkPrefix}); err != nil { // they are too many for one write
			return err
		}
		ops, err := s.removal(ctx, pk)
		if err != nil {
			return err
		}
		return s.Table.Write(ctx, ops...)
	})
}

// removal deletes what lies in a partition, if nobody changes it meanwhile.
func (s *Store) removal(ctx context.Context, pk string) ([]store.Op, error) {
	var ops []store.Op
	var calls []byte
	for it, err := range store.Items(ctx, s.Table, store.Query{PK: pk}) {
		switch {
		case err != nil:
			return nil, err
		case strings.HasPrefix(it.SK, chunkPrefix):
			return nil, store.ErrConflict // somebody has stored it since
		case it.SK == headSK:
			calls = it.Attrs.Bytes(attrCalls)
		}
		ops = append(ops, store.Delete(it.Key))
	}
	ops = slices.DeleteFunc(ops, func(o store.Op) bool { return o.Key == headKey(pk) })
	return append(ops, store.Delete(headKey(pk)).If(still(calls))), nil
}

// clear removes what a query finds.
func (s *Store) clear(ctx context.Context, q store.Query) error {
	for page, err := range store.Pages(ctx, s.Table, q) {
		if err != nil {
			return err
		}
		for some := range slices.Chunk(page, store.MaxTransaction) {
			ops := make([]store.Op, len(some))
			for i, it := range some {
				ops[i] = store.Delete(it.Key)
			}
			if err := store.Transact(ctx, s.Table, ops...); err != nil {
				return err
			}
		}
	}
	return nil
}
