package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/dlq"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
	"github.com/cordum-serverless/cordum/shared/core/worker"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Swept is what a sweep did.
type Swept struct {
	// Looked is how many due jobs it looked at, Woken how many it has woken before the next sweep, Failed how many it could not handle.
	Looked int `json:"looked"`
	Woken  int `json:"woken"`
	Failed int `json:"failed"`
	// Runs is how many headers, events and timers of runs were due, or will be before the next sweep.
	Runs int `json:"runs"`
}

// How a sweep works.
const (
	sweepPage   = 200
	sweepAtOnce = 16
)

// Sweep takes the jobs from workers that fell silent, then looks at every job that is due, shard by shard, at most limit of them. What is due
// before the next sweep gets a delayed message that wakes somebody in time. A job that fails does not stop the others: it stays due, and the
// next sweep finds it.
func (d *Dispatcher) Sweep(ctx context.Context, limit int) (Swept, error) {
	var done Swept
	failed := d.sweepWorkers(ctx, limit)
	now := d.now()
	until := now
	if d.SweepEvery > precise {
		until = now.Add(d.SweepEvery)
	}
	failed = errors.Join(failed, d.sweepRuns(ctx, limit, now, until, &done))
	for shard := range job.DueShards {
		start := ""
		for first := true; (first || start != "") && ctx.Err() == nil && done.Looked < limit; first = false {
			var entries []job.DueEntry
			var err error
			if entries, start, err = d.Jobs.Due(ctx, shard, min(sweepPage, limit-done.Looked), until, start); err != nil {
				failed = errors.Join(failed, err)
				break
			}
			failed = errors.Join(failed, d.sweepPage(ctx, entries, now, &done))
		}
	}
	return done, failed
}

// sweepPage looks at the jobs of some entries that are due, several at once, and wakes those that will be.
func (d *Dispatcher) sweepPage(ctx context.Context, entries []job.DueEntry, now time.Time, done *Swept) error {
	var due []string
	var wakes []queue.Message
	for _, e := range entries {
		if wait := time.UnixMicro(e.At).Sub(now); wait > 0 {
			wakes = append(wakes, Wake{Wake: "job", Job: e.ID}.message(wait))
		} else {
			due = append(due, e.ID)
		}
	}
	var failed error
	if len(wakes) > 0 {
		done.Woken += len(wakes)
		failed = d.Queues.Send(ctx, resources.Dispatch, wakes...)
	}
	records, err := d.Jobs.Heads(ctx, due, now)
	if err != nil {
		return errors.Join(failed, err)
	}
	errs := make([]error, len(records))
	slots := make(chan struct{}, sweepAtOnce)
	var looking sync.WaitGroup
	for i, r := range records {
		slots <- struct{}{}
		looking.Go(func() {
			defer func() { <-slots }()
			d.Yield.At(ctx, "look at "+r.ID)
			if err := d.Look(ctx, r); err != nil && !isStale(err) {
				d.Log.ErrorContext(ctx, "due job not handled", "job", r.ID, "state", r.State, "error", err)
				errs[i] = err
			}
		})
	}
	looking.Wait()
	done.Looked += len(records)
	for _, err := range errs {
		if err != nil {
			done.Failed++
		}
	}
	return errors.Join(failed, errors.Join(errs...))
}

func (d *Dispatcher) sweepWorkers(ctx context.Context, limit int) error {
	due, err := d.Workers.Due(ctx, limit, d.now())
	for _, id := range due {
		err = errors.Join(err, d.lookAtWorker(ctx, id.Tenant, id.Worker))
	}
	return err
}

func isStale(err error) bool {
	var stale *job.StaleError
	return errors.As(err, &stale)
}

// Look does what is due for a job: end it at its deadline or at the end of its patience, decide it again, send it again, or see after its
// worker. A job that is not due yet is filed where it belongs.
func (d *Dispatcher) Look(ctx context.Context, r *job.Record) error {
	now := d.now()
	if r.State.Terminal() {
		return nil
	}
	r = r.Once()
	if expired(r, now) {
		return d.expire(ctx, r)
	}
	if r.DeadlineAt != 0 && now.UnixMicro() >= r.DeadlineAt {
		return d.timeout(ctx, r, dlq.DeadlineExceeded, "deadline exceeded")
	}
	if now.UnixMicro() >= r.KeepAt() {
		kept, err := d.Jobs.Keep(ctx, r, now)
		if err != nil {
			return err
		}
		r = kept
	}
	switch r.State {
	case job.Pending, job.Scheduled:
		return d.attendWaiting(ctx, r, now)
	case job.Dispatched, job.Running:
		return d.attend(ctx, r, now)
	default:
		return d.file(ctx, r, approveBy(r))
	}
}

// attendWaiting sees after a job that waits: its patience may be at its end, or it is time to try again.
func (d *Dispatcher) attendWaiting(ctx context.Context, r *job.Record, now time.Time) error {
	if r.DueAt > now.UnixMicro() {
		return nil
	}
	settings, err := d.Settings.Current(ctx)
	if err != nil {
		return err
	}
	if patience := settings.Timeouts.Pending(); r.DeadlineAt == 0 && r.Waited(now) >= patience {
		return d.giveUp(ctx, r, patience)
	}
	if r.State == job.Pending {
		return d.redecide(ctx, r, now)
	}
	return d.sendAgain(ctx, r, now)
}

// giveUp ends a job that waited as long as a job may.
func (d *Dispatcher) giveUp(ctx context.Context, r *job.Record, patience time.Duration) error {
	code := dlq.DispatchFailed
	switch {
	case r.State == job.Scheduled:
		code = dlq.NoWorkers
		serving, err := d.Workers.Serving(ctx, r.Tenant, d.now())
		if err != nil {
			return err
		}
		if slices.ContainsFunc(serving, func(w worker.Worker) bool { return w.Beat.GetPool() == r.Pool }) {
			code = dlq.PoolOverloaded
		}
	case r.Reason == reasonLimit:
		code = dlq.TenantLimit
	case r.Decision.Verdict == policy.Throttle.String():
		code = dlq.Throttled
	}
	text := fmt.Sprintf("%s: waited for %s", code, patience)
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return d.fail(ctx, r, code, text)
}

// fail ends a job that the plane gives up.
func (d *Dispatcher) fail(ctx context.Context, r *job.Record, code, text string) error {
	_, err := d.finish(ctx, r, job.Failed, func(n *job.Record) {
		n.ErrorCode, n.ErrorMessage, n.ResultPtr = code, text, job.ResultPointer(n.ID)
	})
	return err
}

// timeout ends a job that took too long and tells its worker.
func (d *Dispatcher) timeout(ctx context.Context, r *job.Record, code, text string) error {
	_, err := d.finish(ctx, r, job.Timeout, func(n *job.Record) {
		n.ErrorCode, n.ErrorMessage, n.ResultPtr, n.CancelReason = code, text, job.ResultPointer(n.ID), text
	}, func(done *job.Record) []*agentv1.BusPacket {
		if !r.Held() {
			return nil
		}
		return []*agentv1.BusPacket{cancelPacket(done, senderScheduler, d.now())}
	})
	if err == nil {
		d.tell(ctx, r)
	}
	return err
}

// redecide asks the policy and the pools again, about a job that could not go on.
func (d *Dispatcher) redecide(ctx context.Context, r *job.Record, now time.Time) error {
	body, err := d.Jobs.Body(ctx, r, now)
	if err != nil {
		return err
	}
	_, err = d.decideAgain(ctx, r, body.Request, CauseDue, now)
	return err
}

// What makes the plane itself decide about a job again, as the audit trail has it.
const (
	CauseDue   = "it was due"
	CauseMoved = "the policy moved while it waited"
)

// decideAgain makes a new decision of a stored job, records it, and acts on it, in one transaction.
func (d *Dispatcher) decideAgain(ctx context.Context, r *job.Record, request *agentv1.JobRequest, cause string, now time.Time) (*job.Record, error) {
	p := d.plan(ctx, r, request, now)
	p.decision.By = &audit.Origin{Cause: cause, Tenant: r.Tenant}
	return d.carryOut(ctx, r, request, p, now)
}

// reconsider decides a job again that waits for a worker, since the policy has moved since it was decided. A job that may still run stays where it
// waits. It answers the job as it is then; a job that nobody can decide now is an error, and stays as it is. Of several that reconsider a job at
// one time, one has its way: the others saw it as it is no more.
func (d *Dispatcher) reconsider(ctx context.Context, r *job.Record, now time.Time) (*job.Record, error) {
	r = r.Once()
	body, err := d.Jobs.Body(ctx, r, now)
	if err != nil {
		return nil, err
	}
	t, err := d.terms(ctx, r, body.Request)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "%s", reasonUnavailable)
	}
	j, err := d.judge(ctx, t, r, body.Request, now)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "%s", reasonUnavailable)
	}
	p := d.planFor(j, r)
	switch {
	case !j.allows():
		p.stop(j, r)
	case j.decision.Same(r.Decision) && j.counts(r.Tenant) == r.Counted:
		return d.Jobs.Touch(ctx, r, func(n *job.Record) { n.PolicyRevision = p.revision })
	default:
		p.send(j, r.Tenant, route{r.Pool, r.Targeted, r.Target, r.Delivery})
	}
	p.decision.By = &audit.Origin{Cause: CauseMoved, Tenant: r.Tenant}
	return d.carryOut(ctx, r, body.Request, p, now)
}

// carryOut records what was decided and acts on it.
func (d *Dispatcher) carryOut(
	ctx context.Context, r *job.Record, request *agentv1.JobRequest, p *plan, now time.Time, also ...effect,
) (*job.Record, error) {
	p.decision.CheckedAt = d.micros.Micros(now)
	moved, err := d.act(ctx, r, request, p, now, also...)
	if errors.Is(err, job.ErrLimit) {
		p.pend(reasonLimit, backoff(retryLimit, r.Tries+1, r.ID))
		moved, err = d.act(ctx, r, request, p, now, also...)
	}
	switch {
	case err != nil:
		return nil, err
	case moved.State == r.State: // it waits on, or is in its queue, and clients know
		d.wake(ctx, moved)
		return moved, nil
	}
	return d.carriedOut(ctx, moved, request), nil
}

// carriedOut is what follows when a decision has been written: clients hear of it, and workers. What is not sent now the sweep finds.
func (d *Dispatcher) carriedOut(ctx context.Context, moved *job.Record, request *agentv1.JobRequest) *job.Record {
	if moved.State.Terminal() {
		d.bury(ctx, moved)
		return moved
	}
	d.announce(ctx, moved, request)
	return d.dispatch(ctx, moved)
}

// effect is what happens together with a decision: a change of the job, before the plan is applied, and operations of the same transaction.
type effect struct {
	change func(n *job.Record, micros int64)
	ops    func(to job.State, micros int64) []store.Op
}

func (d *Dispatcher) act(
	ctx context.Context, r *job.Record, request *agentv1.JobRequest, p *plan, now time.Time, also ...effect,
) (*job.Record, error) {
	micros := p.decision.CheckedAt
	change := func(n *job.Record) {
		for _, e := range also {
			e.change(n, micros)
		}
		if n.DeadlineAt == 0 || p.decision.Allows() && runtimeLimit(p.decision) != runtimeLimit(r.Decision) {
			setDeadline(n, request, p.decision, time.UnixMicro(r.CreatedAt), now)
		}
		p.apply(n, now)
		n.UpdatedAt = micros
		if n.State.Terminal() || n.State == job.ApprovalRequired {
			n.ListedAt = micros
		}
	}
	extra := []store.Op{job.DecisionOp(r, p.decision)}
	for _, e := range also {
		extra = append(extra, e.ops(p.state, micros)...)
	}
	if p.state.Unsuccessful() {
		end := *r
		end.State = p.state
		change(&end)
		extra = append(extra, dlq.Of(&end, "").Put(d.Jobs.Shards))
	}
	return d.Jobs.Move(ctx, r, p.state, p.limit, change, extra...)
}

// sendAgain sends a job again that nobody claimed.
func (d *Dispatcher) sendAgain(ctx context.Context, r *job.Record, now time.Time) error {
	to, err := d.routeAgain(ctx, r, now)
	if err != nil || to == nil {
		return err
	}
	return d.send(ctx, to)
}

// routeAgain notes that a job that nobody claimed is to be sent again, and when it is next due: after times that double, so that a backlog
// does not multiply. A targeted job is routed anew: its worker may be gone, or another one there; where no pool takes it, it ends, and nil comes back.
func (d *Dispatcher) routeAgain(ctx context.Context, r *job.Record, now time.Time) (*job.Record, error) {
	to := route{pool: r.Pool}
	settings, err := d.Settings.Current(ctx)
	if err != nil {
		return nil, err
	}
	if r.Targeted {
		body, err := d.Jobs.Body(ctx, r, now)
		if err != nil {
			return nil, err
		}
		want := schedule.Job{Topic: r.Topic, Tenant: r.Tenant, Requires: r.Requires, Labels: body.Request.GetLabels()}
		to, err = d.choose(ctx, settings, want, now)
		if refused, ok := errors.AsType[*schedule.Error](err); ok {
			return nil, d.fail(ctx, r, string(refused.Code), refused.Error())
		}
		if err != nil {
			return nil, err
		}
	}
	sent, err := d.Jobs.Touch(ctx, r, func(n *job.Record) {
		to.put(n)
		n.Sends++
		n.DueAt = waitDue(n, now.Add(resendTime(n)), settings.Timeouts.Pending())
	})
	if err == nil {
		d.wake(ctx, sent)
	}
	return sent, err
}

// resendTime is how long a job that was sent waits for a claim before it is sent again.
func resendTime(r *job.Record) time.Duration {
	base, most := resendAfter, resendMax
	if r.Targeted {
		base, most = retargetAfter, retargetMax
	}
	return min(base<<min(max(r.Sends-1, 0), 12), most)
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
	since := time.UnixMicro(r.HeldAt)
	limit, silent := settings.Timeouts.Running(r.Topic), settings.Timeouts.Dispatch()
	switch held := now.Sub(since); {
	case held >= limit:
		return d.timeout(ctx, r, dlq.TimedOut, "timed out after "+limit.String())
	case r.State == job.Running:
		return d.file(ctx, r, since.Add(limit))
	case held < silent:
		return d.file(ctx, r, since.Add(min(silent, limit)))
	case r.Attempts < d.attempts(r, settings):
		d.tell(ctx, r)
		return d.again(ctx, r, now)
	default:
		return d.timeout(ctx, r, dlq.TimedOut, "no word from the worker for "+silent.String())
	}
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
	return d.fail(ctx, r, code, text)
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
		n.UpdatedAt, n.Worker, n.WorkerTenant, n.HeldAt, n.Target, n.Delivery, n.ClaimKey = micros, "", "", 0, "", "", ""
		n.Sends, n.Progress, n.WaitingSince = 1, nil, micros
		n.FailedAt = cmp.Or(n.FailedAt, micros)
		n.DueAt = due(n, now.Add(resendTime(n)))
	})
	if err != nil {
		return err
	}
	d.wake(ctx, moved)
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

// never is so far away that a deadline or the end of the record's retention comes first.
var never = time.Unix(1<<40, 0)

// file moves a job's entry in the due index to when it must be looked at next; the zero time means when there is nothing but its deadline.
func (d *Dispatcher) file(ctx context.Context, r *job.Record, next time.Time) error {
	if next.IsZero() {
		next = never
	}
	filed, err := d.Jobs.Touch(ctx, r, func(n *job.Record) {
		n.DueAt = 0
		if !n.State.Terminal() {
			n.DueAt = due(n, next)
		}
	})
	if err == nil {
		d.wake(ctx, filed)
	}
	return err
}
