package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/dlq"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
	"github.com/cordum-serverless/cordum/shared/core/worker"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Receipt is the answer to a submission.
type Receipt struct {
	JobID, TraceID string
	State          job.State
	Reason         string
}

func receipt(r *job.Record) Receipt {
	return Receipt{JobID: r.ID, TraceID: r.Trace, State: r.State, Reason: reason(r)}
}

// reason is why a job is where it is: the plane's own word, the end's message, or the policy's.
func reason(r *job.Record) string {
	switch {
	case r.Reason != "":
		return r.Reason
	case r.ErrorMessage != "":
		return r.ErrorMessage
	default:
		return r.Decision.Reason
	}
}

// Submit stores a job and, when the policy allows it and a pool takes it, sends it. Once it has answered without an error the job exists,
// whatever happens next. A key that was used before answers with the first job, and nothing is created.
//
// Faults: Invalid, Denied (a tenant that is not the caller's), Limited (queue full), Unavailable (nothing was stored).
func (d *Dispatcher) Submit(ctx context.Context, id identity.Identity, s Submission) (Receipt, error) {
	if err := s.normalise(id); err != nil {
		return Receipt{}, err
	}
	now := d.now()
	r := &job.Record{Trace: d.IDs.UUID(), Tenant: id.Tenant, IdemKey: s.IdempotencyKey, Submitter: id.KeyID}
	r.ID = job.RootID(r.Trace)
	if s.Parent != "" {
		r.ID = d.IDs.UUID()
	}
	if s.IdempotencyKey != "" {
		r.ID, r.Trace = ids.Named("job", id.Tenant, s.IdempotencyKey), ids.Named("trace", id.Tenant, s.IdempotencyKey)
		first, err := d.Jobs.Load(ctx, id.Tenant, r.ID, now)
		if err == nil {
			return receipt(first), nil
		}
		if !fault.Is(err, fault.NotFound) {
			return Receipt{}, fault.Wrap(fault.Internal, err, "idempotency reservation failed")
		}
	}
	request := s.request(r.ID, id.Tenant)
	var extra []store.Op
	if s.Parent != "" {
		var err error
		if extra, err = d.adopt(ctx, r, request, s.Parent); err != nil {
			return Receipt{}, err
		}
	}
	rc, err := d.accept(ctx, r, request, s.contextPayload(id.Tenant, now), s.TeamID, audit.Caused("submit", id), now, extra...)
	if errors.Is(err, errExtra) {
		return Receipt{}, errParentCancelled
	}
	return rc, err
}

var errParentCancelled = fault.New(fault.Conflict, "parent job was cancelled")

// adopt makes a new job the child of another one: trace and workflow are the parent's, and a parent that was cancelled gets no more children.
func (d *Dispatcher) adopt(ctx context.Context, r *job.Record, request *agentv1.JobRequest, parent string) ([]store.Op, error) {
	p, err := d.Jobs.Load(ctx, r.Tenant, parent, d.now())
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.NotFound, "parent job not found")
	}
	if err != nil {
		return nil, err
	}
	if p.State == job.Cancelled {
		return nil, errParentCancelled
	}
	body, err := d.Jobs.Body(ctx, p, d.now())
	if err != nil {
		return nil, err
	}
	r.Trace = p.Trace
	request.ParentJobId, request.WorkflowId = p.ID, body.Request.GetWorkflowId()
	return []store.Op{job.NotCancelled(p.ID)}, nil
}

// queueRoom refuses a new job when its tenant has as many that run, or wait for a place, as the limits allow.
func (d *Dispatcher) queueRoom(ctx context.Context, tenant string, l schedule.Limits) error {
	if l.MaxConcurrentJobs <= 0 {
		return nil
	}
	active, queued, err := d.Jobs.Counts(ctx, tenant)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "job queue state is not available")
	}
	if active += queued; l.JobsFull(int(active)) {
		return fault.New(fault.Limited, "job queue full (active=%d, limit=%d)", active, l.MaxConcurrentJobs+l.QueueSize)
	}
	return nil
}

// accept decides, routes, stores and sends a new job, where its tenant's queue has room. Its first decision is the audit entry of who asked for it.
func (d *Dispatcher) accept(
	ctx context.Context, r *job.Record, request *agentv1.JobRequest, payload []byte, team string, by *audit.Origin, now time.Time, extra ...store.Op,
) (Receipt, error) {
	if strings.HasPrefix(request.GetTopic(), reservedTopics) && !r.Gate {
		return Receipt{}, fault.New(fault.Invalid, "topics %s* are reserved", reservedTopics)
	}
	meta := request.GetMeta()
	r.Topic, r.Team, r.Principal, r.Parent = request.GetTopic(), team, request.GetPrincipalId(), request.GetParentJobId()
	r.ActorID, r.ActorType = meta.GetActorId(), ActorWord(meta.GetActorType())
	r.Capability, r.PackID, r.RiskTags, r.Requires = meta.GetCapability(), meta.GetPackId(), meta.GetRiskTags(), meta.GetRequires()
	r.Body = d.IDs.Hex(6)
	r.CreatedAt = d.micros.Micros(now)
	r.UpdatedAt, r.ListedAt, r.ExpiresAt = r.CreatedAt, r.CreatedAt, job.NewExpiry(r.CreatedAt)

	p, err := d.first(ctx, r, request, now)
	if err != nil {
		return Receipt{}, err
	}
	p.decision.By = by
	setDeadline(r, request, p.decision, now, now)
	p.apply(r, now)
	body := &job.Body{Request: request, Context: payload, First: p.decision}
	err = d.Jobs.Create(ctx, r, body, p.limit, append(d.letter(r), extra...)...)
	if errors.Is(err, job.ErrLimit) {
		p.pend(reasonLimit, retryLimit)
		p.apply(r, now)
		err = d.Jobs.Create(ctx, r, body, 0, extra...)
	}
	var there *job.StaleError
	switch {
	case errors.As(err, &there) && there.Current != nil && there.Current.Body == r.Body: // this very job: the answer to its write was lost
	case errors.As(err, &there) && there.Current != nil && there.Current.Tenant == r.Tenant:
		return receipt(there.Current), nil
	case errors.As(err, &there) && there.Current != nil:
		return Receipt{}, fault.New(fault.Conflict, "idempotency key already used")
	case errors.As(err, &there):
		return Receipt{}, errExtra
	case errors.Is(err, store.ErrTooLarge):
		return Receipt{}, fault.Wrap(fault.Invalid, err, "job too large")
	case err != nil:
		return Receipt{}, fault.Wrap(fault.Unavailable, err, "failed to persist job")
	}
	d.announce(ctx, r, request)
	if r.State.Unsuccessful() {
		d.bury(ctx, r)
	}
	return receipt(d.dispatch(ctx, r)), nil
}

// errExtra says that a condition which the creation of a job depended on does not hold.
var errExtra = errors.New("dispatch: what the new job depends on has changed")

// dispatch sends a job that is stored as scheduled. When its queue is out of reach the job waits, and is sent later.
func (d *Dispatcher) dispatch(ctx context.Context, r *job.Record) *job.Record {
	d.wake(ctx, r)
	if r.State != job.Scheduled {
		return r
	}
	err := d.send(ctx, r)
	if err == nil {
		return r
	}
	d.Log.WarnContext(ctx, "queue out of reach, the job waits", "job", r.ID, "pool", r.Pool, "error", err)
	now := d.now()
	waiting, err := d.Jobs.Move(ctx, r, job.Pending, 0, func(n *job.Record) {
		n.Reason, n.UpdatedAt = reasonQueue, d.micros.Micros(now)
		n.DueAt = due(n, now.Add(retryUnreachable))
	})
	if err != nil { // scheduled and due: the sweep sends it
		d.Log.WarnContext(ctx, "job stays scheduled until the sweep", "job", r.ID, "error", err)
		return r
	}
	d.wake(ctx, waiting)
	return waiting
}

// letter is the dead letter that a job's end leaves; none for a job that is not at its end.
func (d *Dispatcher) letter(r *job.Record) []store.Op {
	if !r.State.Unsuccessful() {
		return nil
	}
	return []store.Op{dlq.Of(r, "").Put(d.Jobs.Shards)}
}

// Why a job waits, as clients read it.
const (
	reasonLimit       = "tenant_limit"
	reasonUnavailable = "safety kernel unavailable"
	reasonQueue       = "queue unavailable"
)

// plan is what shall become of a job: the policy's decision and the way to a pool, as data.
type plan struct {
	decision job.Decision
	revision int64 // of the policy's head
	state    job.State
	reason   string
	code     string // of a dead letter
	to       route
	wait     time.Duration
	counted  bool
	queued   bool
	limit    int64
	hold     int64 // the job's HoldLimit
	patience time.Duration
	expiry   time.Duration // of a wait for approval; 0 is never
}

func (p *plan) pend(reason string, wait time.Duration) {
	p.state, p.reason, p.wait, p.counted, p.queued = job.Pending, reason, wait, false, reason == reasonLimit
}

// apply writes the plan into a record.
func (p *plan) apply(r *job.Record, now time.Time) {
	r.State, r.Decision, r.PolicyRevision, r.Counted, r.Queued = p.state, p.decision.Head(), p.revision, p.counted, p.queued
	r.Reason, r.ErrorCode, r.ErrorMessage, r.DueAt, r.ApproveBy = p.reason, "", "", 0, 0
	p.to.put(r)
	r.Sends = 0
	switch p.state {
	case job.Scheduled:
		r.Sends, r.HoldLimit = 1, p.hold
		r.DueAt = waitDue(r, now.Add(resendTime(r)), p.patience)
	case job.Pending:
		r.Tries++
		r.DueAt = waitDue(r, now.Add(p.wait), p.patience)
	case job.ApprovalRequired:
		r.DueAt = due(r, never)
		r.Asked++
		if p.expiry > 0 {
			r.ApproveBy = now.Add(p.expiry).UnixMicro()
			r.DueAt = min(r.DueAt, r.ApproveBy)
		}
	default:
		r.ErrorCode, r.ErrorMessage, r.Reason = p.code, p.reason, ""
	}
}

// first plans a new job. The only errors are those of queueRoom and of a memory that is not allowed, before the policy has counted the job.
func (d *Dispatcher) first(ctx context.Context, r *job.Record, request *agentv1.JobRequest, now time.Time) (*plan, error) {
	if r.Gate {
		return d.gate(ctx, request, now), nil
	}
	t, err := d.terms(ctx, r, request)
	if err != nil {
		return d.undecided(ctx, r, err, now), nil
	}
	if memory := request.GetMemoryId(); !ownMemory(r, memory) && !t.effective.Memories.Allow(memory) {
		return nil, fault.New(fault.Denied, "memory_id %s is not allowed", memory)
	}
	if err := d.queueRoom(ctx, r.Tenant, t.limits); err != nil {
		return nil, err
	}
	return d.planUnder(ctx, t, r, request, now), nil
}

// ownMemory says whether a memory is the one that a job, or the run that it is a step of, has when it names none.
func ownMemory(r *job.Record, memory string) bool {
	run, ofRun := job.RunOf(r.ID)
	return memory == "mem:"+r.ID || ofRun && memory == "run:"+run
}

// plan decides and routes. It never fails: what cannot be decided now waits.
func (d *Dispatcher) plan(ctx context.Context, r *job.Record, request *agentv1.JobRequest, now time.Time) *plan {
	t, err := d.terms(ctx, r, request)
	if err != nil {
		return d.undecided(ctx, r, err, now)
	}
	return d.planUnder(ctx, t, r, request, now)
}

// undecided is for a job about which nothing can be decided now.
func (d *Dispatcher) undecided(ctx context.Context, r *job.Record, why error, now time.Time) *plan {
	d.Log.ErrorContext(ctx, "no decision can be made", "job", r.ID, "error", why)
	p := &plan{decision: job.Decision{Verdict: job.Unavailable, Reason: reasonUnavailable, CheckedAt: now.UnixMicro()}, revision: r.PolicyRevision}
	p.pend(reasonUnavailable, backoff(retryUnreachable, r.Tries+1, r.ID))
	return p
}

// planUnder is plan under certain terms.
func (d *Dispatcher) planUnder(ctx context.Context, t *terms, r *job.Record, request *agentv1.JobRequest, now time.Time) *plan {
	j, err := d.judge(ctx, t, r, request, now)
	if err != nil {
		return d.undecided(ctx, r, err, now)
	}
	p := d.planFor(j, r)
	if j.allows() {
		d.route(ctx, p, r, request, j, now)
	} else {
		p.stop(j, r)
	}
	return p
}

// planFor begins a plan with what was decided.
func (*Dispatcher) planFor(j *ruling, r *job.Record) *plan {
	p := &plan{decision: j.decision, revision: j.head.Revision, patience: j.settings.Timeouts.Pending()}
	if held := j.settings.Timeouts.Held(r.Topic); held < j.settings.Timeouts.HeldUsually() {
		p.hold = held.Microseconds()
	}
	return p
}

// stop is for a job that may not run, or not now.
func (p *plan) stop(j *ruling, r *job.Record) {
	switch j.verdict.Verdict {
	case policy.RequireApproval:
		p.state = job.ApprovalRequired
		p.expiry = j.head.Policy.Approvals().ExpireAfter
	case policy.Throttle:
		p.pend(j.verdict.Reason, throttle(j.verdict.ThrottleFor, r.Tries, r.ID))
	default:
		p.state, p.reason, p.code = job.Denied, j.verdict.Reason, dlq.SafetyDenied
	}
}

// send is for a job that may run, and where.
func (p *plan) send(j *ruling, tenant string, to route) {
	p.state, p.to = job.Scheduled, to
	p.limit, p.counted = j.limit(), j.counts(tenant)
	if p.counted && p.limit <= 0 {
		p.limit = noLimit
	}
}

// route finds the pool, and the one worker where only one may take the job.
func (d *Dispatcher) route(
	ctx context.Context, p *plan, r *job.Record, request *agentv1.JobRequest, j *ruling, now time.Time,
) {
	want := schedule.Job{Topic: r.Topic, Tenant: r.Tenant, Requires: r.Requires, Labels: request.GetLabels()}
	to, err := d.choose(ctx, j.settings, want, now)
	var refused *schedule.Error
	switch {
	case errors.As(err, &refused):
		p.state, p.reason, p.code = job.Failed, refused.Error(), string(refused.Code)
		return
	case err != nil:
		d.Log.ErrorContext(ctx, "job cannot be routed now", "job", r.ID, "error", err)
		p.pend(reasonQueue, backoff(retryUnreachable, r.Tries+1, r.ID))
		return
	}
	p.send(j, r.Tenant, to)
}

// noLimit counts a job that is itself not limited, for those of its tenant that are.
const noLimit = 1 << 40

// route is where a job goes: its pool, and, for a job that one certain worker must take, that worker and the queue of its container.
type route struct {
	pool     string
	targeted bool
	worker   string // "" when nobody can take a targeted job now
	delivery string
}

// choose reads the workers only where they matter: several pools may take the job, or one worker is asked for.
func (d *Dispatcher) choose(ctx context.Context, s *schedule.Settings, j schedule.Job, now time.Time) (route, error) {
	fleet := schedule.Fleet{Now: now, Placement: s.Placement}
	var serving []worker.Worker
	if s.Topology.NeedsFleet(j, s.Placement) {
		var err error
		if serving, err = d.Workers.Serving(ctx, j.Tenant, now); err != nil {
			return route{}, fmt.Errorf("read workers: %w", err)
		}
		for _, w := range serving {
			fleet.Workers = append(fleet.Workers, w.Candidate())
		}
	}
	chosen, err := s.Topology.Route(j, fleet)
	if err != nil {
		return route{}, err
	}
	to := route{pool: chosen.Pool, targeted: chosen.Targeted}
	for i := range fleet.Workers {
		if &fleet.Workers[i] == chosen.Worker {
			to.worker, to.delivery = chosen.Worker.ID, serving[i].Delivery
		}
	}
	return to, nil
}

// put writes where a job goes into its record.
func (to route) put(r *job.Record) {
	r.Pool, r.Targeted, r.Target, r.Delivery = to.pool, to.targeted, to.worker, to.delivery
}

func lowest(a, b int64) int64 {
	switch {
	case a <= 0:
		return b
	case b <= 0:
		return a
	default:
		return min(a, b)
	}
}

func policyRequest(r *job.Record, request *agentv1.JobRequest) *policy.Request {
	return &policy.Request{
		JobID: r.ID, Topic: r.Topic, Tenant: r.Tenant, Principal: r.Principal, ActorID: r.ActorID, ActorType: r.ActorType,
		Capability: r.Capability, RiskTags: r.RiskTags, Requires: r.Requires, PackID: r.PackID, Labels: request.GetLabels(),
		WorkflowID: request.GetWorkflowId(),
	}
}

func decision(v policy.Decision, request *agentv1.JobRequest, now time.Time) job.Decision {
	d := job.Decision{
		Verdict: v.Verdict.String(), Reason: v.Reason, RuleID: v.RuleID, Snapshot: v.Snapshot, ApprovalRequired: v.ApprovalRequired,
		Constraints: v.Constraints, Remediations: v.Remediations, CheckedAt: now.UnixMicro(),
	}
	if v.ApprovalRequired {
		d.JobHash = job.Hash(request)
	}
	return d
}

// setDeadline makes a job's deadline: the client's, since its submission, or the policy's limit on run time, since now, whichever comes first.
func setDeadline(r *job.Record, request *agentv1.JobRequest, decided job.Decision, submitted, now time.Time) {
	var asked, allowed int64
	if ms := request.GetBudget().GetDeadlineMs(); ms > 0 {
		asked = submitted.UnixMicro() + ms*1000
	}
	if ms := runtimeLimit(decided); ms > 0 {
		allowed = now.UnixMicro() + ms*1000
	}
	r.DeadlineAt = lowest(asked, allowed)
}

func runtimeLimit(decided job.Decision) int64 {
	if !decided.Allows() || decided.Constraints == nil {
		return 0
	}
	return decided.Constraints.Budgets.MaxRuntimeMS
}

// ActorWord is an actor type as records and rules spell it: human, service or "".
func ActorWord(t agentv1.ActorType) string {
	switch t {
	case agentv1.ActorType_ACTOR_TYPE_HUMAN:
		return "human"
	case agentv1.ActorType_ACTOR_TYPE_SERVICE:
		return "service"
	default:
		return ""
	}
}

// throttle is how long a throttled job waits: the rule's time first, then doubling up to a minute, and never less than the rule's time.
func throttle(base time.Duration, tries int64, id string) time.Duration {
	if tries == 0 {
		return base
	}
	return max(base, backoff(base, tries+1, id))
}

// backoff spreads retries: doubling, up to a minute, with a part that differs from job to job.
func backoff(base time.Duration, tries int64, id string) time.Duration {
	return schedule.Backoff(base, int(tries), retryMax, float64(listing.Hash(id))/(1<<32))
}

// StatusWord is a state as the answer to a submission spells it.
func StatusWord(s job.State) string { return strings.ToLower(string(s)) }
