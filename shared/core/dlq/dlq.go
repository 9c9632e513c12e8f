// Package dlq is the dead letter: the record that every unsuccessful end of a job leaves, for an operator to look at, retry or delete.
package dlq

import (
	"fmt"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Retention is how long a dead letter is kept.
const Retention = 30 * 24 * time.Hour

// The reason codes of ends that the plane decides. A worker's own error code is passed through as it is.
const (
	SafetyDenied       = "safety_denied"
	NoPoolMapping      = "no_pool_mapping"
	NoWorkers          = "no_workers"
	TenantLimit        = "tenant_limit"
	MaxRetriesExceeded = "max_retries_exceeded"
	TimedOut           = "timeout"
	DeadlineExceeded   = "deadline_exceeded"
	WorkerLost         = "worker_lost"
)

// Entry is a dead letter. It carries its tenant, since it outlives the job.
type Entry struct {
	JobID, Tenant, Topic string
	// Status is the CAP name of the end: JOB_STATUS_FAILED.
	Status string
	// Reason is for people, ReasonCode for programs.
	Reason, ReasonCode string
	LastState          job.State
	LastWorker         string
	Attempts           int64
	// CreatedAt is when the job ended, in microseconds.
	CreatedAt int64
}

// The item lies in the job's partition (job/keys.go) and is listed in
//
//	by_time  X#<tenant>#<shard>   dead letters of a tenant, newest first
func key(id string) store.Key { return store.Key{PK: job.Partition(id), SK: "X"} }

// Of is the dead letter of a job that ended. held is the worker that had it last, "" when none had.
func Of(r *job.Record, held string) Entry {
	return Entry{
		JobID: r.ID, Tenant: r.Tenant, Topic: r.Topic, Status: job.WireStatus(r.State), Reason: r.ErrorMessage, ReasonCode: r.ErrorCode,
		LastState: r.State, LastWorker: held, Attempts: r.Attempts, CreatedAt: r.UpdatedAt,
	}
}

// Put stores the dead letter; it takes part in the transaction that ends the job. One job has one dead letter, the newest.
func (e Entry) Put(shards job.Shards) store.Op {
	list := fmt.Sprintf("X#%s#%d", job.Segment(e.Tenant), shards.Of(e.JobID))
	return store.Put(store.Item{
		Key: key(e.JobID), Expires: e.CreatedAt/1e6 + int64(Retention/time.Second),
		Index: map[store.Index]store.Key{store.ByTime: {PK: list, SK: fmt.Sprintf("%016d#%s", e.CreatedAt, e.JobID)}},
		Attrs: store.Attrs{
			"tn": e.Tenant, "tp": e.Topic, "st": e.Status, "re": e.Reason, "rc": e.ReasonCode, "ls": string(e.LastState),
			"wk": e.LastWorker, "n": e.Attempts, "cr": e.CreatedAt,
		},
	})
}

// Parse reads a stored dead letter.
func Parse(it store.Item) Entry {
	a := it.Attrs
	return Entry{
		JobID: it.PK[len(job.Partition("")):], Tenant: a.String("tn"), Topic: a.String("tp"), Status: a.String("st"), Reason: a.String("re"),
		ReasonCode: a.String("rc"), LastState: job.State(a.String("ls")), LastWorker: a.String("wk"), Attempts: a.Int("n"), CreatedAt: a.Int("cr"),
	}
}
