package dispatch

import (
	"context"
	"errors"
	"time"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/dlq"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Sweep takes the jobs from workers that fell silent, then looks again at every job that is due, shard by shard, at most limit of each.
// It answers how many jobs it looked at. A job that fails does not stop the others: it stays due, and the next sweep finds it.
func (d *Dispatcher) Sweep(ctx context.Context, limit int) (int, error) {
	looked := 0
	failed := d.sweepWorkers(ctx, limit)
	for shard := range job.DueShards {
		records, err := d.Jobs.Due(ctx, shard, limit, d.now())
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		for _, r := range records {
			looked++
			if err := d.Look(ctx, r); err != nil && !isStale(err) {
				d.Log.ErrorContext(ctx, "due job not handled", "job", r.ID, "state", r.State, "error", err)
				failed = errors.Join(failed, err)
			}
		}
	}
	return looked, failed
}

func (d *Dispatcher) sweepWorkers(ctx context.Context, limit int) error {
	silent, err := d.Workers.Silent(ctx, limit, d.now())
	for _, w := range silent {
		d.Log.WarnContext(ctx, "worker is lost", "worker", w.ID(), "tenant", w.Tenant)
		e := d.Lost(ctx, w.Tenant, w.ID())
		if e == nil {
			e = d.Workers.Forget(ctx, w)
		}
		err = errors.Join(err, e)
	}
	return err
}

func isStale(err error) bool {
	var stale *job.StaleError
	return errors.As(err, &stale)
}

// Look does what is due for a job: end it at its deadline, decide it again, send it again, or see after its worker. A job that is not due
// yet is filed where it belongs.
func (d *Dispatcher) Look(ctx context.Context, r *job.Record) error {
	now := d.now()
	if r.DeadlineAt != 0 && now.UnixMicro() >= r.DeadlineAt && !r.State.Terminal() {
		return d.timeout(ctx, r, dlq.DeadlineExceeded, "deadline exceeded")
	}
	switch r.State {
	case job.Pending:
		return d.redecide(ctx, r, now)
	case job.Scheduled:
		return d.resend(ctx, r, now)
	case job.Dispatched, job.Running:
		return d.attend(ctx, r, now)
	default:
		return d.file(ctx, r, time.Time{})
	}
}

// timeout ends a job that took too long and tells its worker.
func (d *Dispatcher) timeout(ctx context.Context, r *job.Record, code, text string) error {
	_, err := d.finish(ctx, r, job.Timeout, func(n *job.Record) {
		n.ErrorCode, n.ErrorMessage, n.ResultPtr = code, text, job.ResultPointer(n.ID)
	})
	if err == nil {
		d.tell(ctx, r)
	}
	return err
}

// redecide asks the policy and the pools again, about a job that could not go on.
func (d *Dispatcher) redecide(ctx context.Context, r *job.Record, now time.Time) error {
	if r.DueAt > now.UnixMicro() {
		return nil
	}
	body, err := d.Jobs.Body(ctx, r, now)
	if err != nil {
		return err
	}
	_, err = d.decideAgain(ctx, r, body.Request, now)
	return err
}

// decideAgain makes a new decision of a stored job, records it, and acts on it, in one transaction.
func (d *Dispatcher) decideAgain(ctx context.Context, r *job.Record, request *agentv1.JobRequest, now time.Time) (*job.Record, error) {
	p := d.plan(ctx, r, request, now)
	p.decision.CheckedAt = d.micros.Micros(now)
	moved, err := d.act(ctx, r, request, p, now)
	if errors.Is(err, job.ErrLimit) {
		p.pend(reasonLimit, backoff(retryLimit, r.Tries, r.ID))
		moved, err = d.act(ctx, r, request, p, now)
	}
	if err != nil {
		return nil, err
	}
	return d.dispatch(ctx, moved), nil
}

func (d *Dispatcher) act(ctx context.Context, r *job.Record, request *agentv1.JobRequest, p *plan, now time.Time) (*job.Record, error) {
	micros := d.micros.Micros(now)
	change := func(n *job.Record) {
		if n.DeadlineAt == 0 {
			setDeadline(n, request, p.decision, now)
		}
		p.apply(n, now)
		n.UpdatedAt = micros
		if n.State.Terminal() || n.State == job.ApprovalRequired {
			n.ListedAt = micros
		}
	}
	extra := []store.Op{job.DecisionOp(r, p.decision)}
	if p.state.Unsuccessful() {
		end := *r
		end.State = p.state
		change(&end)
		extra = append(extra, dlq.Of(&end, "").Put(d.Jobs.Shards))
	}
	return d.Jobs.Move(ctx, r, p.state, p.limit, change, extra...)
}

// resend sends a job again that nobody claimed, after times that double, so that a backlog does not multiply. A targeted job is routed
// anew: its worker may be gone, or another one there.
func (d *Dispatcher) resend(ctx context.Context, r *job.Record, now time.Time) error {
	if r.DueAt > now.UnixMicro() {
		return nil
	}
	return d.sendAgain(ctx, r, now)
}

func (d *Dispatcher) sendAgain(ctx context.Context, r *job.Record, now time.Time) error {
	to := route{pool: r.Pool}
	if r.Targeted {
		body, err := d.Jobs.Body(ctx, r, now)
		if err != nil {
			return err
		}
		settings, err := d.Settings.Current(ctx)
		if err != nil {
			return err
		}
		want := schedule.Job{Topic: r.Topic, Tenant: r.Tenant, Requires: r.Requires, Labels: body.Request.GetLabels()}
		to, err = d.choose(ctx, settings, want, now)
		if refused, ok := errors.AsType[*schedule.Error](err); ok {
			return d.unroutable(ctx, r, refused)
		}
		if err != nil {
			return err
		}
	}
	sent, err := d.Jobs.Touch(ctx, r, func(n *job.Record) {
		to.put(n)
		n.Sends++
		n.DueAt = due(n, now.Add(resendTime(n)))
	})
	if err != nil {
		return err
	}
	return d.send(ctx, sent)
}

// unroutable ends a job that no pool takes any more.
func (d *Dispatcher) unroutable(ctx context.Context, r *job.Record, refused *schedule.Error) error {
	_, err := d.finish(ctx, r, job.Failed, func(n *job.Record) {
		n.ErrorCode, n.ErrorMessage, n.ResultPtr = string(refused.Code), refused.Error(), job.ResultPointer(n.ID)
	})
	return err
}

// resendTime is how long a job that was sent waits for a claim before it is sent again.
func resendTime(r *job.Record) time.Duration {
	base := resendAfter
	if r.Targeted {
		base = retargetAfter
	}
	return min(base<<min(max(r.Sends-1, 0), 12), resendMax)
}

// attend sees after a job that a worker holds: the worker may be gone, the job may run too long, or it is simply not due yet.
func (d *Dispatcher) attend(ctx context.Context, r *job.Record, now time.Time) error {
	settings, err := d.Settings.Current(ctx)
	if err != nil {
		return err
	}
	_, alive, err := d.Workers.Get(ctx, r.WorkerTenant, r.Worker, now)
	if err != nil {
		return err
	}
	if !alive {
		return d.lost(ctx, r, settings, now)
	}
	limit := settings.Timeouts.Running(r.Topic)
	if r.State == job.Dispatched {
		limit = settings.Timeouts.Dispatch()
	}
	since := time.UnixMicro(r.HeldAt)
	if now.Sub(since) >= limit {
		if r.State == job.Dispatched && r.Attempts < d.attempts(r, settings) {
			return d.again(ctx, r, now)
		}
		return d.timeout(ctx, r, dlq.TimedOut, "timed out after "+limit.String())
	}
	return d.file(ctx, r, since.Add(limit))
}

// lost takes a job from a worker that fell silent: its next attempt, or its end.
func (d *Dispatcher) lost(ctx context.Context, r *job.Record, settings *schedule.Settings, now time.Time) error {
	if r.Attempts < d.attempts(r, settings) {
		return d.again(ctx, r, now)
	}
	code, text := dlq.WorkerLost, "worker "+r.Worker+" is lost"
	if r.Attempts > 1 {
		text = dlq.MaxRetriesExceeded + ": " + text
	}
	_, err := d.finish(ctx, r, job.Failed, func(n *job.Record) {
		n.ErrorCode, n.ErrorMessage, n.ResultPtr = code, text, job.ResultPointer(n.ID)
	})
	return err
}

// Lost takes all jobs from a worker that is known to be gone, without waiting until each is due.
func (d *Dispatcher) Lost(ctx context.Context, tenant, worker string) error {
	now := d.now()
	settings, err := d.Settings.Current(ctx)
	if err != nil {
		return err
	}
	records, err := d.Jobs.HeldBy(ctx, tenant, worker, now)
	if err != nil {
		return err
	}
	for _, r := range records {
		if r.Held() && r.Worker == worker && r.WorkerTenant == tenant {
			if e := d.lost(ctx, r, settings, now); e != nil && !isStale(e) {
				err = errors.Join(err, e)
			}
		}
	}
	return err
}

// again schedules a job for its next attempt. The attempt is counted when it is handed over.
func (d *Dispatcher) again(ctx context.Context, r *job.Record, now time.Time) error {
	micros := d.micros.Micros(now)
	moved, err := d.Jobs.Move(ctx, r, job.Scheduled, 0, func(n *job.Record) {
		n.UpdatedAt, n.Worker, n.WorkerTenant, n.HeldAt, n.Target, n.Delivery = micros, "", "", 0, "", ""
		n.Sends, n.Progress = 1, nil
		n.DueAt = due(n, now.Add(resendTime(n)))
	})
	if err != nil {
		return err
	}
	return d.send(ctx, moved)
}

// defaultAttempts is how often a job is handed over when neither the policy nor its topic says.
const defaultAttempts = 3

// attempts is how often a job may be handed over: one more than the retries that the policy, else its topic, allows.
func (d *Dispatcher) attempts(r *job.Record, settings *schedule.Settings) int64 {
	if c := r.Decision.Constraints; c != nil && c.Budgets.MaxRetries > 0 {
		return c.Budgets.MaxRetries + 1
	}
	if n, ok := settings.Timeouts.MaxRetries(r.Topic); ok {
		return int64(n) + 1
	}
	return defaultAttempts
}

// file moves a job's entry in the due index to when it must be looked at next; the zero time means its deadline alone.
func (d *Dispatcher) file(ctx context.Context, r *job.Record, next time.Time) error {
	_, err := d.Jobs.Touch(ctx, r, func(n *job.Record) {
		n.DueAt = n.DeadlineAt
		if !next.IsZero() {
			n.DueAt = due(n, next)
		}
	})
	return err
}
