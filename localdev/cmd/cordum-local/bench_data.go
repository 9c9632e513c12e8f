package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// A million jobs over HTTP would take many minutes. They are written by the code that submissions go through, from a job that really was
// submitted, but many in one transaction.

// bulk is a table whose writes wait until a transaction is full. What was written last is there after flush.
type bulk struct {
	store.Table

	ops []store.Op
}

// Write implements store.Table.
func (b *bulk) Write(ctx context.Context, ops ...store.Op) error {
	if len(b.ops)+len(ops) > store.MaxTransaction {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	b.ops = append(b.ops, ops...)
	return nil
}

func (b *bulk) flush(ctx context.Context) error {
	ops := b.ops
	b.ops = nil
	if len(ops) == 0 {
		return nil
	}
	return b.Table.Write(ctx, ops...)
}

// sample is a job as a submission leaves it.
type sample struct {
	record *job.Record
	body   *job.Body
}

// newSample submits a job to a plane in memory.
func newSample(ctx context.Context) (_ *sample, err error) {
	p, err := plane.Open(ctx, plane.Config{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	d := p.Dispatcher
	who := identity.Identity{Tenant: localTenant, Home: localTenant, Role: identity.Admin, Principal: "you"}
	rc, err := d.Submit(ctx, who, dispatch.Submission{
		Topic: "job.demo.hash", Prompt: "hash it", Context: []byte(`{"text":"abc"}`), Labels: map[string]string{"run": "bench"},
	})
	if err != nil {
		return nil, err
	}
	now := d.Clock.Now()
	r, err := d.Jobs.Load(ctx, localTenant, rc.JobID, now)
	if err != nil {
		return nil, err
	}
	b, err := d.Jobs.Body(ctx, r, now)
	return &sample{r, b}, err
}

// job is another one like the sample, submitted at a microsecond.
func (s *sample) job(micros int64) (*job.Record, *job.Body) {
	r, b := *s.record, *s.body
	// Traces in their order: nothing here reads their index, and random ones double what filling writes to the disk.
	r.ID, r.Trace, r.Body = ids.Source{}.UUID(), uuid.Must(uuid.NewV7()).String(), ids.Source{}.Hex(6)
	r.DueAt += micros - r.CreatedAt
	r.CreatedAt, r.UpdatedAt, r.ListedAt, r.ExpiresAt = micros, micros, micros, job.NewExpiry(micros)
	b.Request = proto.CloneOf(s.body.Request)
	b.Request.JobId, b.Request.ContextPtr = r.ID, job.ContextPointer(r.ID)
	return &r, &b
}

// end makes of a record what an end leaves of it.
func end(r *job.Record, state job.State) {
	r.State, r.DueAt, r.Attempts, r.Worker, r.WorkerTenant = state, 0, 1, "demo-worker", localTenant
	r.HeldAt, r.ExecutionMS, r.ResultPtr = r.CreatedAt, 1, job.ResultPointer(r.ID)
	if state.Unsuccessful() {
		r.ErrorCode, r.ErrorMessage = "on_purpose", "it was to fail"
	}
}

// fillers is how many goroutines make items. The store commits the transactions of all of them as one: the more there are, the seldomer a page of
// an index is written.
const fillers = 256

// fill writes n jobs into a folder: for each number what write makes of it.
func fill(ctx context.Context, dir string, n int, write func(context.Context, *job.Store, int) error) (err error) {
	p, err := plane.Open(ctx, plane.Config{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	errs := make([]error, fillers)
	var filling sync.WaitGroup
	for f := range fillers {
		filling.Go(func() {
			into := *p.Dispatcher.Jobs
			table := &bulk{Table: into.Table}
			into.Table = table
			for i := f; i < n && errs[f] == nil && ctx.Err() == nil; i += fillers {
				errs[f] = write(ctx, &into, i)
			}
			errs[f] = errors.Join(errs[f], table.flush(ctx))
		})
	}
	filling.Wait()
	return errors.Join(errors.Join(errs...), ctx.Err())
}

// moments spreads n things evenly over some days before now, all at different microseconds.
type moments struct{ from, step int64 }

// filledDays is less than the time for which jobs are kept.
const filledDays = 5

func newMoments(n int) moments {
	span := (filledDays * 24 * time.Hour).Microseconds()
	return moments{time.Now().UnixMicro() - span, max(1, span/int64(n))}
}

func (m moments) at(i int) int64 { return m.from + int64(i)*m.step }
