package dispatch

import (
	"context"
	"encoding/json"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/worker"
	"github.com/cordum-serverless/cordum/shared/core/workflow/inbox"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// Wake is a message of the dispatch queue: look at this job, this worker or this run, now. It may come early, late, twice or for nothing.
type Wake struct {
	Wake   string `json:"wake"` // "job", "worker" or "run"
	Job    string `json:"job,omitempty"`
	Tenant string `json:"tenant,omitempty"`
	Worker string `json:"worker,omitempty"`
	// Run is handed on to the queue of runs.
	Run *inbox.Wake `json:"run,omitempty"`
}

// ParseWake reads a message of the dispatch queue; ok is false for one that is none.
func ParseWake(body string) (w Wake, ok bool) {
	err := json.Unmarshal([]byte(body), &w)
	return w, err == nil && (w.Wake == "job" && w.Job != "" || w.Wake == "worker" && w.Worker != "" || w.Wake == "run" && w.Run != nil)
}

// message hides the wake-up until a time; whole seconds, rounded up, and at least one, so that no two of them chase each other.
func (w Wake) message(until time.Duration) queue.Message {
	b, err := json.Marshal(w)
	if err != nil {
		panic("dispatch: wake: " + err.Error())
	}
	return queue.Message{Body: string(b), Delay: min(max((until+time.Second-1).Truncate(time.Second), time.Second), queue.MaxDelay)}
}

// precise is the interval of sweeps below which nobody needs to be woken between two of them.
const precise = 2 * time.Second

// wakeAt sends a wake-up for what is due before the next sweep. That it is not sent costs precision, nothing else: the sweep finds what is due.
func (d *Dispatcher) wakeAt(ctx context.Context, w Wake, micros int64) {
	until := time.UnixMicro(micros).Sub(d.now())
	if micros == 0 || d.SweepEvery <= precise || until > d.SweepEvery {
		return
	}
	if err := d.Queues.Send(ctx, resources.Dispatch, w.message(until)); err != nil {
		d.Log.WarnContext(ctx, "wake-up not sent; the sweep comes later", "job", w.Job, "worker", w.Worker, "error", err)
	}
}

// wake has a job looked at when it is due, if that is before the next sweep. A job that merely lies in its pool's queue can wait for the sweep.
func (d *Dispatcher) wake(ctx context.Context, r *job.Record) {
	if r.State == job.Scheduled && !r.Targeted && r.DueAt != r.DeadlineAt {
		return
	}
	d.wakeAt(ctx, Wake{Wake: "job", Job: r.ID}, r.DueAt)
}

// Woken does what a wake-up asks for. An error means that it must come again.
func (d *Dispatcher) Woken(ctx context.Context, w Wake) error {
	switch w.Wake {
	case "worker":
		return d.lookAtWorker(ctx, w.Tenant, w.Worker)
	case "run":
		return d.Queues.Send(ctx, resources.Runs, w.Run.Message(d.IDs.UUID()))
	}
	r, err := d.Jobs.Load(ctx, job.AnyTenant, w.Job, d.now())
	switch {
	case fault.Is(err, fault.NotFound):
		return nil
	case err != nil:
		return err
	case r.State.Terminal():
		return nil
	case r.DueAt > d.now().UnixMicro():
		if r.DueAt < d.now().Add(precise).UnixMicro() { // the clocks of two machines, or whole seconds
			d.wakeAt(ctx, w, r.DueAt)
		}
		return nil
	}
	if err := d.Look(ctx, r); err != nil && !isStale(err) {
		return err
	}
	return nil
}

// Beat records a heartbeat; first says that it is the first of a connection, or of a worker without one.
func (d *Dispatcher) Beat(ctx context.Context, w worker.Worker, first bool) error {
	registered, err := d.Workers.Put(ctx, w, first)
	if err != nil {
		return err
	}
	d.Beating(ctx, w.Watchers(), w.Beat)
	if registered {
		d.wakeAt(ctx, Wake{Wake: "worker", Tenant: w.Tenant, Worker: w.ID()}, worker.LostAt(w))
	}
	return nil
}

// lookAtWorker takes the jobs of a worker that fell silent, and has one that did not looked at again when it would be lost.
func (d *Dispatcher) lookAtWorker(ctx context.Context, tenant, id string) error {
	w, state, err := d.Workers.Look(ctx, tenant, id, d.now())
	if err != nil {
		return err
	}
	switch state {
	case worker.Refiled:
		d.wakeAt(ctx, Wake{Wake: "worker", Tenant: tenant, Worker: id}, worker.LostAt(w))
	case worker.LostContact:
		return d.loseWorker(ctx, w)
	}
	return nil
}

// loseWorker takes all jobs of a worker that fell silent, and forgets it.
func (d *Dispatcher) loseWorker(ctx context.Context, w worker.Worker) error {
	d.Log.WarnContext(ctx, "worker is lost", "worker", w.ID(), "tenant", w.Tenant)
	if err := d.Lost(ctx, w.Tenant, w.ID()); err != nil {
		return err
	}
	return d.Workers.Forget(ctx, w)
}
