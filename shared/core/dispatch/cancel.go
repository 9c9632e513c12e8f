package dispatch

import (
	"context"
	"errors"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Cancelled is the answer to a cancel.
type Cancelled struct {
	JobID string
	State job.State
	// Reason is set when the job had ended before.
	Reason string
}

// Bounds of a cancel.
const (
	// cancelTries is how often a cancel that met a change of state is tried again.
	cancelTries = 10
	// cancelDepth is how many generations of children are cancelled with a job.
	cancelDepth = 16
)

// Cancel ends a job from any state, and all jobs that it asked for, generation by generation, and tells the workers that hold them. A job that
// has ended stays as it is, and says so. An API cancel leaves no dead letter: nobody needs to look at what they asked for. Cancelling again
// cancels what the first time did not reach.
// Each job that ends leaves an audit entry.
func (d *Dispatcher) Cancel(ctx context.Context, by identity.Identity, id, reason string) (Cancelled, error) {
	return d.cancelAll(ctx, id, reason, canceller{by.Tenant, senderGateway, func(micros int64, id string) audit.Entry {
		return audit.By(by, micros, "cancel", "job", id)
	}})
}

// CancelStep ends the job of a step, as Cancel does, for a run that ends it: that run's own entry in the audit trail says who did. A job that is not
// there, or has ended, is no error.
func (d *Dispatcher) CancelStep(ctx context.Context, tenant, id, reason string) error {
	_, err := d.cancelAll(ctx, id, reason, canceller{tenant: tenant, sender: senderEngine})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// canceller is who cancels: for which tenant, and as whom clients and workers hear of it. entry begins the audit entry of a job; nil leaves none.
type canceller struct {
	tenant string
	sender string
	entry  func(micros int64, id string) audit.Entry
}

// cancelAll ends a job and all that it asked for.
func (d *Dispatcher) cancelAll(ctx context.Context, id, reason string, by canceller) (Cancelled, error) {
	done, err := d.cancel(ctx, by, id, reason)
	if err != nil || done.State != job.Cancelled {
		return done, err
	}
	generation := []string{id}
	for range cancelDepth {
		var next []string
		for _, parent := range generation {
			children, err := d.Jobs.Children(ctx, parent)
			if err != nil {
				return Cancelled{}, err
			}
			for _, child := range children {
				if _, err := d.cancel(ctx, by, child, "parent job "+parent+" was cancelled"); err != nil && !fault.Is(err, fault.NotFound) {
					return Cancelled{}, err
				}
			}
			next = append(next, children...)
		}
		if generation = next; len(generation) == 0 {
			break
		}
	}
	return done, nil
}

// cancel ends one job.
func (d *Dispatcher) cancel(ctx context.Context, by canceller, id, reason string) (Cancelled, error) {
	for range cancelTries {
		r, err := d.Jobs.Load(ctx, by.tenant, id, d.now())
		if err != nil {
			return Cancelled{}, err
		}
		if r.State == job.Cancelled {
			return Cancelled{JobID: id, State: r.State}, nil
		}
		if r.State.Terminal() {
			return Cancelled{JobID: id, State: r.State, Reason: "job already terminal"}, nil
		}
		micros := d.micros.Micros(d.now())
		var extra []store.Op
		if by.entry != nil {
			entry := by.entry(micros, id)
			entry.Before, entry.After, entry.Message = string(r.State), string(job.Cancelled), reason
			extra = append(extra, entry.Op())
		}
		done, err := d.Jobs.Move(ctx, r, job.Cancelled, 0, func(n *job.Record) {
			n.UpdatedAt, n.ListedAt, n.Reason, n.CancelReason = micros, micros, "", reason
		}, extra...)
		if _, ok := errors.AsType[*job.StaleError](err); ok {
			continue
		}
		if err != nil {
			return Cancelled{}, err
		}
		result := envelope(done, by.sender, d.now(), &agentv1.BusPacket{Payload: &agentv1.BusPacket_JobResult{JobResult: resultOf(done)}})
		d.Events.Job(ctx, done, 0, result, cancelPacket(done, by.sender, d.now()))
		d.tell(ctx, r)
		return Cancelled{JobID: id, State: done.State}, nil
	}
	return Cancelled{}, errors.New("dispatch: cancel: the job changes too fast")
}

// tell asks the container that holds a job's worker to send it a cancel. What cannot be told now the worker learns from its next
// heartbeat, or when its result is refused.
func (d *Dispatcher) tell(ctx context.Context, r *job.Record) {
	if r.Worker == "" {
		return
	}
	queue := r.Delivery
	if w, known, err := d.Workers.Known(ctx, r.WorkerTenant, r.Worker); err == nil && known && w.Delivery != "" {
		queue = w.Delivery // it may have connected elsewhere since, or before its container had a queue
	}
	if queue == "" {
		return
	}
	t := Ticket{Job: r.ID, Attempt: r.Attempts, Cancel: true}
	if err := d.Queues.Send(ctx, queue, t.message()); err != nil {
		d.Log.WarnContext(ctx, "cancel not sent to the worker's container", "job", r.ID, "queue", queue, "error", err)
	}
}
