package dispatch

import (
	"context"
	"errors"

	"github.com/cordum-serverless/cordum/shared/core/job"
)

// Cancelled is the answer to a cancel.
type Cancelled struct {
	JobID string
	State job.State
	// Reason is set when the job had ended before.
	Reason string
}

// cancelTries bounds how often a cancel that met a change of state is tried again.
const cancelTries = 10

// Cancel ends a job from any state and tells the worker that holds it. A job that has ended stays as it is, and says so. An API cancel
// leaves no dead letter: nobody needs to look at what they asked for.
func (d *Dispatcher) Cancel(ctx context.Context, tenant, id, reason string) (Cancelled, error) {
	for range cancelTries {
		r, err := d.Jobs.Load(ctx, tenant, id, d.now())
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
		done, err := d.Jobs.Move(ctx, r, job.Cancelled, 0, func(n *job.Record) {
			n.UpdatedAt, n.ListedAt, n.Reason, n.CancelReason = micros, micros, "", reason
		})
		if _, ok := errors.AsType[*job.StaleError](err); ok {
			continue
		}
		if err != nil {
			return Cancelled{}, err
		}
		d.tell(ctx, r)
		return Cancelled{JobID: id, State: done.State}, nil
	}
	return Cancelled{}, errors.New("dispatch: cancel: the job changes too fast")
}

// tell asks the container that holds a job's worker to send it a cancel. What cannot be told now the worker learns from its next
// heartbeat, or when its result is refused.
func (d *Dispatcher) tell(ctx context.Context, r *job.Record) {
	if r.Worker == "" || r.Delivery == "" {
		return
	}
	t := Ticket{Job: r.ID, Attempt: r.Attempts, Cancel: true}
	if err := d.Queues.Send(ctx, r.Delivery, t.message()); err != nil {
		d.Log.WarnContext(ctx, "cancel not sent to the worker's container", "job", r.ID, "queue", r.Delivery, "error", err)
	}
}
