// Package dlq is the dead letter: the record that every unsuccessful end of a job leaves, for an operator to look at, retry or delete.
package dlq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Retention is how long a dead letter is kept.
const Retention = 30 * 24 * time.Hour

// The reason codes of ends that the plane decides. A worker's own error code is passed through as it is.
const (
	SafetyDenied = "safety_denied"
	// ApprovalRejected is of jobs that a human denied, ApprovalExpired of those that nobody looked at in time.
	ApprovalRejected = "approval_rejected"
	ApprovalExpired  = "approval_expired"
	NoPoolMapping    = "no_pool_mapping"
	NoWorkers        = "no_workers"
	PoolOverloaded   = "pool_overloaded"
	TenantLimit      = "tenant_limit"
	Throttled        = "throttled"
	DispatchFailed   = "dispatch_failed"
	// Undeliverable is of messages that were received too often.
	Undeliverable      = "undeliverable"
	MaxRetriesExceeded = "max_retries_exceeded"
	TimedOut           = "timeout"
	DeadlineExceeded   = "deadline_exceeded"
	WorkerLost         = "worker_lost"
)

// Entry is a dead letter. It carries its tenant, since it outlives the job.
type Entry struct {
	JobID, Tenant, Topic string
	// Team and Principal are the job's, for a retry after the job's own record has gone.
	Team, Principal string
	// Status is the CAP name of the end: JOB_STATUS_FAILED.
	Status string
	// Reason is for people, ReasonCode for programs.
	Reason, ReasonCode string
	LastState          job.State
	LastWorker         string
	Attempts           int64
	// CreatedAt is when the job ended, FirstAt when an attempt failed for the first time, in microseconds.
	CreatedAt, FirstAt int64
	// Queue and Message are of a message that could not be handled and ends no job: where it belongs, and what it says.
	Queue   string
	Message string
}

// The item of a job's dead letter lies in the job's partition (job/keys.go), that of a message in one of its own, M#<id> | X. Both are listed in
//
//	by_time  X#<tenant>#<shard>   dead letters of a tenant, newest first; the sort key carries hashes of code, topic and status
func key(id string) store.Key {
	if strings.HasPrefix(id, messagePrefix) {
		return store.Key{PK: "M#" + id, SK: letterSK}
	}
	return store.Key{PK: job.Partition(id), SK: letterSK}
}

const letterSK = "X"

// messagePrefix begins the ids of dead letters that are messages. No job has such an id.
const messagePrefix = "message:"

// MessageID makes the id of the dead letter of a message.
func MessageID(id string) string { return messagePrefix + id }

// Of is the dead letter of a job that ended. held is the worker that had it last, "" when none had.
func Of(r *job.Record, held string) Entry {
	return Entry{
		JobID: r.ID, Tenant: r.Tenant, Topic: r.Topic, Team: r.Team, Principal: r.Principal, Status: job.WireStatus(r.State),
		Reason: r.ErrorMessage, ReasonCode: r.ErrorCode, LastState: r.State, LastWorker: held, Attempts: r.Attempts, CreatedAt: r.UpdatedAt,
		FirstAt: cmp.Or(r.FailedAt, r.UpdatedAt),
	}
}

// Put stores the dead letter; it takes part in the transaction that ends the job. One job has one dead letter, the newest.
func (e Entry) Put(shards job.Shards) store.Op {
	attrs := store.Attrs{"st": e.Status, "ls": string(e.LastState), "n": e.Attempts, "cr": e.CreatedAt, "ff": e.FirstAt}
	for name, v := range map[string]string{
		"id": e.JobID, "tn": e.Tenant, "tp": e.Topic, "tm": e.Team, "pr": e.Principal, "re": e.Reason, "rc": e.ReasonCode, "wk": e.LastWorker,
		"qu": e.Queue, "ms": e.Message,
	} {
		if v != "" {
			attrs[name] = v
		}
	}
	marks := job.Mark(e.ReasonCode) + job.Mark(e.Topic) + job.Mark(e.Status)
	return store.Put(store.Item{
		Key: key(e.JobID), Expires: e.CreatedAt/1e6 + int64(Retention/time.Second), Attrs: attrs,
		Index: map[store.Index]store.Key{store.ByTime: {
			PK: partition(e.Tenant, shards.Of(e.JobID)), SK: listing.Sortable(e.CreatedAt) + "#" + marks + "#" + e.JobID,
		}},
	})
}

func partition(tenant string, shard int) string {
	return fmt.Sprintf("X#%s#%d", listing.Segment(tenant), shard)
}

// Delete removes the dead letter if it is still this one; it takes part in the transaction that retries the job.
func (e Entry) Delete() store.Op {
	return store.Delete(key(e.JobID)).If(store.Equal("cr", e.CreatedAt))
}

// parse reads a stored dead letter.
func parse(it store.Item) Entry {
	a := it.Attrs
	return Entry{
		JobID: a.String("id"), Tenant: a.String("tn"), Topic: a.String("tp"), Team: a.String("tm"), Principal: a.String("pr"),
		Status: a.String("st"), Reason: a.String("re"), ReasonCode: a.String("rc"), LastState: job.State(a.String("ls")),
		LastWorker: a.String("wk"), Attempts: a.Int("n"), CreatedAt: a.Int("cr"), FirstAt: a.Int("ff"), Queue: a.String("qu"),
		Message: a.String("ms"),
	}
}

// Store reads and removes dead letters.
type Store struct {
	Table  store.Table
	Shards job.Shards
}

// ErrUnknown is the answer for a dead letter that does not exist, has expired or belongs to another tenant.
var ErrUnknown = fault.New(fault.NotFound, "dlq entry not found")

// Get reads a tenant's dead letter of a job.
func (s *Store) Get(ctx context.Context, tenant, id string, now time.Time) (Entry, error) {
	if id == "" {
		return Entry{}, ErrUnknown
	}
	it, err := s.Table.Get(ctx, key(id))
	if errors.Is(err, store.ErrNotFound) {
		return Entry{}, ErrUnknown
	}
	if err != nil {
		return Entry{}, err
	}
	e := parse(it)
	if !it.Live(now.Unix()) || e.Tenant != tenant {
		return Entry{}, ErrUnknown
	}
	return e, nil
}

// Add stores the dead letter of a message.
func (s *Store) Add(ctx context.Context, e Entry) error { return s.Table.Write(ctx, e.Put(s.Shards)) }

// Remove removes a tenant's dead letter of a job; one that is not there is no error. trail makes what the removal leaves, in its transaction.
func (s *Store) Remove(ctx context.Context, tenant, id string, now time.Time, trail func(Entry) store.Op) error {
	e, err := s.Get(ctx, tenant, id, now)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	err = store.Transact(ctx, s.Table, e.Delete(), trail(e))
	if _, ok := errors.AsType[*store.ConditionError](err); ok {
		return nil
	}
	return err
}

// Filter says which dead letters a list shows. Zero values do not filter.
type Filter struct {
	ReasonCode, Topic, Status string
	// After and Before bound CreatedAt, inclusive, in microseconds.
	After, Before int64
}

func (f Filter) matches(e Entry) bool {
	return (f.ReasonCode == "" || e.ReasonCode == f.ReasonCode) && (f.Topic == "" || e.Topic == f.Topic) && (f.Status == "" || e.Status == f.Status)
}

const markLength = 8

func (f Filter) mayMatch(e listing.Entry) bool {
	marks, _, _ := strings.Cut(e.Rest, "#")
	for _, want := range []string{f.ReasonCode, f.Topic, f.Status} {
		if len(marks) < markLength || want != "" && marks[:markLength] != job.Mark(want) {
			return false
		}
		marks = marks[markLength:]
	}
	return true
}

// List answers at most limit dead letters of a tenant, newest first, and the cursor of the next page in microseconds, 0 at the end.
func (s *Store) List(ctx context.Context, tenant string, f Filter, limit int, now time.Time) ([]*Entry, int64, error) {
	l := listing.List[Entry]{
		Table: s.Table, After: f.After, Before: f.Before,
		Load: func(ctx context.Context, entries []listing.Entry) ([]*Entry, error) {
			return s.load(ctx, tenant, f, entries, now)
		},
	}
	for shard := range max(int(s.Shards), 1) {
		l.Partitions = append(l.Partitions, partition(tenant, shard))
	}
	if f.ReasonCode != "" || f.Topic != "" || f.Status != "" {
		l.Keep = f.mayMatch
	}
	return l.Page(ctx, limit)
}

func (s *Store) load(ctx context.Context, tenant string, f Filter, entries []listing.Entry, now time.Time) ([]*Entry, error) {
	keys := make([]store.Key, len(entries))
	place := make(map[store.Key]int, len(entries))
	for i, e := range entries {
		keys[i], place[e.Key] = e.Key, i
	}
	items, err := s.Table.BatchGet(ctx, keys)
	if err != nil {
		return nil, err
	}
	out := make([]*Entry, len(entries))
	for _, it := range items {
		if e := parse(it); it.Live(now.Unix()) && e.Tenant == tenant && f.matches(e) {
			out[place[it.Key]] = &e
		}
	}
	return out, nil
}
