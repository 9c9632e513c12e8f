// Package memory keeps what agents remember: for each memory of a tenant a history of its newest events, which language models see in their next
// window. An event is gone after 30 days, or when there are 20 newer ones.
package memory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

const (
	// MaxEvents is how many events a history has; an older one goes when a new one comes.
	MaxEvents = 20
	// Retention is how long an event is kept.
	Retention = 30 * 24 * time.Hour
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

// Store keeps histories.
type Store struct{ Table store.Table }

// A history lies in one partition, M#<tenant>#<memory>:
//
//	E#<number>  an event, by its number
//	H           the number of the next one
const (
	headSK      = "H"
	eventPrefix = "E#"
)

func partition(tenant, memory string) string {
	return "M#" + listing.Segment(tenant) + "#" + listing.Segment(memory)
}

func eventKey(partition string, n int64) store.Key {
	return store.Key{PK: partition, SK: fmt.Sprintf("%s%012d", eventPrefix, n)}
}

// Names of attributes: of the head the next number, of an event its text and what tells it from others.
const (
	attrNext = "n"
	attrText = "x"
	attrID   = "id"
)

// tries is how often an event that met another one is appended.
const tries = 20

var errBusy = fault.New(fault.Conflict, "others keep adding to the memory; retry")

// Append adds an event, once for each id, whoever else adds at that time.
func (s *Store) Append(ctx context.Context, tenant, memory, id string, event json.RawMessage, now time.Time) error {
	pk := partition(tenant, memory)
	expires := now.Add(Retention).Unix()
	tried := int64(-1)
	for range tries {
		head, err := s.Table.Get(ctx, store.Key{PK: pk, SK: headSK})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		n := head.Attrs.Int(attrNext)
		if tried >= 0 && n > tried { // it may be there, and only the answer was lost
			if it, err := s.Table.Get(ctx, eventKey(pk, tried)); err == nil && it.Attrs.String(attrID) == id {
				return nil
			}
		}
		tried = n
		unchanged := store.NotExists()
		if err == nil {
			unchanged = store.Equal(attrNext, n)
		}
		ops := []store.Op{
			store.Put(store.Item{Key: store.Key{PK: pk, SK: headSK}, Attrs: store.Attrs{attrNext: n + 1}, Expires: expires}).If(unchanged),
			store.Put(store.Item{Key: eventKey(pk, n), Attrs: store.Attrs{attrText: []byte(event), attrID: id}, Expires: expires}),
		}
		if n >= MaxEvents {
			ops = append(ops, store.Delete(eventKey(pk, n-MaxEvents)))
		}
		if err := s.Table.Write(ctx, ops...); !store.Overtaken(err) {
			return err
		}
	}
	return errBusy
}

// Forget removes a history. One that is not there is no error.
func (s *Store) Forget(ctx context.Context, tenant, memory string) error {
	for range tries {
		ops, err := s.removal(ctx, partition(tenant, memory))
		if err != nil || len(ops) == 0 {
			return err
		}
		if err := s.Table.Write(ctx, ops...); !store.Overtaken(err) {
			return err
		}
	}
	return errBusy
}

// removal deletes what lies in a partition, if nobody adds to it meanwhile.
func (s *Store) removal(ctx context.Context, pk string) ([]store.Op, error) {
	var ops []store.Op
	head := store.Delete(store.Key{PK: pk, SK: headSK}).If(store.NotExists())
	for it, err := range store.Items(ctx, s.Table, store.Query{PK: pk}) {
		if err != nil {
			return nil, err
		}
		if it.SK == headSK {
			head = store.Delete(it.Key).If(store.Equal(attrNext, it.Attrs.Int(attrNext)))
		} else {
			ops = append(ops, store.Delete(it.Key))
		}
	}
	if len(ops) == 0 {
		return nil, nil
	}
	return append(ops, head), nil
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
		e, err := parse(it)
		if err != nil {
			return nil, err
		}
		if out = append(out, e); len(out) == MaxEvents {
			break
		}
	}
	return out, nil
}

func parse(it store.Item) (Event, error) {
	n, err := strconv.ParseInt(strings.TrimPrefix(it.SK, eventPrefix), 10, 64)
	if err != nil {
		return Event{}, fmt.Errorf("memory: %s: %w", it.Key, err)
	}
	at := time.Unix(it.Expires, 0).Add(-Retention).UTC()
	return Event{Number: n, ID: it.Attrs.String(attrID), At: at, Text: it.Attrs.Bytes(attrText)}, nil
}
