// Package inbox keeps what has happened to runs until their engine has taken it in. Whoever ends the job of a step, decides a gate or ends a child
// run writes an Event in that very transaction, and then wakes the engine. The event is gone in the transaction in which the run moves on, so that
// it counts once; a wake-up that is lost costs time, nothing else: the sweep finds what lies there.
package inbox

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Kind is what happened.
type Kind string

// The kinds of events.
const (
	// JobEnded is the end of a job of the run: Job.
	JobEnded Kind = "job"
	// GateDecided is the decision about a gate job: Job, Approved, By, Reason, Note.
	GateDecided Kind = "gate"
	// ChildEnded is the end of the run of a subworkflow: Child, and Record, the step that asked for it. Status and Error are of a child that
	// could not be started, and exists nowhere else.
	ChildEnded Kind = "child"
	// Cancelled asks for the end of the run: By.
	Cancelled Kind = "cancel"
	// Preparing stands there while a run is being made whose parts come before its header; what is left of one that was never made is removed.
	Preparing Kind = "preparing"
)

// Event is something that happened to a run.
type Event struct {
	Kind     Kind   `json:"kind"`
	Job      string `json:"job,omitempty"`
	Approved bool   `json:"approved,omitempty"`
	By       string `json:"by,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Note     string `json:"note,omitempty"`
	Child    string `json:"child,omitempty"`
	Record   string `json:"record,omitempty"`
	Status   string `json:"status,omitempty"`
	Error    string `json:"error,omitempty"`
}

// Everything of one run lies in one partition, R#<run>; package runs says what else.
//
//	E#<event>   what has happened and is not taken in
//	H           the header; it stands right behind, so that one query reads both
//	P#<record>  a step, a child or a root of the context
//
// In by_due at DR#<shard> stands, by the microsecond when somebody must look: an event that nobody has taken in, the header of a run that has
// something to send, a deadline, or an end of its retention, and a record of a step that has a timer.
const (
	headerSK     = "H"
	eventPrefix  = "E#"
	recordPrefix = "P#"
	attrEvent    = "ev"
	attrDue      = "du"
	// Status is the attribute of the header that says how the run stands, and Tenant whose it is.
	Status = "st"
	Tenant = "tn"
)

// Live are the statuses of a run that has not ended.
var Live = []string{"pending", "running", "waiting"}

// Partition names the partition of a run, and RunOf answers the run of a partition.
func Partition(run string) string { return "R#" + run }

// RunOf answers the run of a partition.
func RunOf(partition string) string { return strings.TrimPrefix(partition, "R#") }

// Header is the key of the header of a run.
func Header(run string) store.Key { return store.Key{PK: Partition(run), SK: headerSK} }

// Record is the key of a record of a run.
func Record(run, id string) store.Key {
	return store.Key{PK: Partition(run), SK: recordPrefix + id}
}

// Records is the query that answers all records of a run.
func Records(run string) store.Query { return store.Query{PK: Partition(run), Prefix: recordPrefix} }

// most is how many events are read at once.
const most = 25

// News is the query that answers the header of a run first, and then what has happened to it, at most 25 events. Parse reads those.
func News(run string) store.Query {
	return store.Query{PK: Partition(run), From: eventPrefix, To: headerSK, Desc: true, Limit: most + 1}
}

// IsHeader tells the header from an event.
func IsHeader(it store.Item) bool { return it.SK == headerSK }

// grace is how long an event may lie before the sweep wakes the engine.
const grace = 30 * time.Second

// Put writes an event to a run's inbox. The same event twice is one.
func Put(run string, e Event, now time.Time) store.Op { return PutUntil(run, e, now.Add(grace)) }

// PutUntil is Put of an event that may lie there until a time.
func PutUntil(run string, e Event, until time.Time) store.Op {
	text, err := json.Marshal(e)
	if err != nil {
		panic("inbox: encode: " + err.Error()) // an Event always encodes
	}
	return store.Put(store.Item{
		Key:   Key(run, e),
		Attrs: store.Attrs{attrEvent: text, attrDue: until.UnixMicro()},
		Index: map[store.Index]store.Key{store.ByDue: Due(run, until.UnixMicro())},
	})
}

// Key is where an event lies: two of one kind and one job, or child, are the same.
func Key(run string, e Event) store.Key {
	return store.Key{PK: Partition(run), SK: eventPrefix + string(e.Kind) + "#" + e.Job + e.Child}
}

// Parse reads an item of the inbox: what has happened, and when the sweep wakes the engine for it.
func Parse(it store.Item) (e Event, due time.Time, err error) {
	if err := json.Unmarshal(it.Attrs.Bytes(attrEvent), &e); err != nil {
		return e, due, fmt.Errorf("inbox: %s: %w", it.Key, err)
	}
	return e, time.UnixMicro(it.Attrs.Int(attrDue)), nil
}

// StillLive makes a transaction depend on a run that has not ended.
func StillLive(run string) store.Op {
	return store.Check(Header(run), store.OneOf(Status, Live...))
}

// IsLive says whether a header is of a run that has not ended.
func IsLive(header store.Item) bool { return slices.Contains(Live, header.Attrs.String(Status)) }

// DueShards is the number of partitions of what is due of runs.
const DueShards = 4

// Due is the key in by_due of an item of a run.
func Due(run string, micros int64) store.Key {
	return store.Key{PK: DuePartition(int(listing.Hash(run) % DueShards)), SK: listing.Sortable(micros) + "#" + run}
}

// DuePartition names a partition of what is due of runs, 0 to DueShards-1.
func DuePartition(shard int) string { return fmt.Sprintf("DR#%d", shard) }

// DueEntry reads an entry of by_due: whom to wake, and when.
func DueEntry(it store.Item) (w Wake, at time.Time) {
	w.Run = RunOf(it.PK)
	if record, ok := strings.CutPrefix(it.SK, recordPrefix); ok {
		w.Timer = record
	}
	return w, time.UnixMicro(listing.ParseIn(store.ByDue, it).Micros)
}

// Wake is a message of the runs queue: see what has happened to this run. It may come early, late, twice or for nothing.
type Wake struct {
	Run string `json:"run"`
	// Timer is the record whose time has come, "" for none.
	Timer string `json:"timer,omitempty"`
}

// ParseWake reads a message of the runs queue; ok is false for one that is none.
func ParseWake(body string) (w Wake, ok bool) {
	err := json.Unmarshal([]byte(body), &w)
	return w, err == nil && w.Run != ""
}

// Message is the wake-up as a message; unique tells it from all others, so that none is dropped for one that came too early.
func (w Wake) Message(unique string) queue.Message {
	b, err := json.Marshal(w)
	if err != nil {
		panic("inbox: wake: " + err.Error())
	}
	return queue.Message{Body: string(b), Group: w.Run, Dedup: unique}
}
