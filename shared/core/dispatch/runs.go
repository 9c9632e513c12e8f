package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/core/workflow/inbox"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// WakeRun has a run looked at: now, for the zero time, or when a record's timer is due, if that is before the next sweep. The queue of runs takes no
// delay, so a delayed wake-up goes the way of those of jobs. That it is not sent costs time, nothing else: the sweep finds what is due.
func (d *Dispatcher) WakeRun(ctx context.Context, run, timer string, at time.Time) {
	w := inbox.Wake{Run: run, Timer: timer}
	if !at.IsZero() && at.After(d.now()) {
		d.wakeAt(ctx, Wake{Wake: "run", Run: &w}, at.UnixMicro())
		return
	}
	if err := d.Queues.Send(ctx, resources.Runs, w.Message(d.IDs.UUID())); err != nil {
		d.Log.WarnContext(ctx, "run not woken; the sweep comes later", "run", run, "error", err)
	}
}

// sweepRuns wakes the runs of which something is due, and those of which something will be before the next sweep.
func (d *Dispatcher) sweepRuns(ctx context.Context, limit int, now, until time.Time, done *Swept) error {
	var failed error
	for shard := range inbox.DueShards {
		if ctx.Err() != nil || done.Runs >= limit {
			break
		}
		q := store.Query{Index: store.ByDue, PK: inbox.DuePartition(shard), To: listing.UpTo(until.UnixMicro()), Limit: sweepPage}
		for page, err := range store.Pages(ctx, d.Jobs.Table, q) {
			if err != nil {
				failed = errors.Join(failed, err)
				break
			}
			failed = errors.Join(failed, d.wakeRuns(ctx, page, now))
			if done.Runs += len(page); ctx.Err() != nil || done.Runs >= limit {
				break
			}
		}
	}
	return failed
}

// wakeRuns sends the wake-ups for some entries of what is due.
func (d *Dispatcher) wakeRuns(ctx context.Context, items []store.Item, now time.Time) error {
	var due, later []queue.Message
	for _, it := range items {
		w, at := inbox.DueEntry(it)
		if wait := at.Sub(now); wait > 0 {
			later = append(later, Wake{Wake: "run", Run: &w}.message(wait))
		} else {
			due = append(due, w.Message(d.IDs.UUID()))
		}
	}
	var failed error
	if len(due) > 0 {
		failed = d.Queues.Send(ctx, resources.Runs, due...)
	}
	if len(later) > 0 {
		failed = errors.Join(failed, d.Queues.Send(ctx, resources.Dispatch, later...))
	}
	return failed
}
