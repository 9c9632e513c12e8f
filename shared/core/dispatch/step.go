package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"time"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/workflow/inbox"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// StepJob is the job of a step of a run.
type StepJob struct {
	// ID is "<run>:<step>@<attempt>".
	ID, RunID, WorkflowID, StepID string
	// Gate says that it waits for a human, and is for no worker.
	Gate                                                        bool
	Topic, Priority, Adapter, MemoryID, Tenant, Team, Principal string
	// Payload becomes the job's context; nil for none.
	Payload                                                json.RawMessage
	Env, Labels, MetaLabels                                map[string]string
	ActorID, ActorType, IdempotencyKey, PackID, Capability string
	RiskTags, Requires                                     []string
	DeadlineMS                                             int64
	// Submitter is the id of the credential that started the run.
	Submitter string
}

// SubmitStep stores the job of a step and, when the policy allows it and a pool takes it, sends it, like any job. One of that id that is there already
// is answered as it is, so that it may be asked for again.
//
// Faults: Invalid and Denied for what can never be submitted, Limited and Unavailable for what can be later.
func (d *Dispatcher) SubmitStep(ctx context.Context, s StepJob) (Receipt, error) {
	request, err := s.request()
	if err != nil {
		return Receipt{}, err
	}
	now := d.now()
	first, err := d.Jobs.Load(ctx, s.Tenant, s.ID, now)
	if err == nil {
		return receipt(first), nil
	}
	if !fault.Is(err, fault.NotFound) {
		return Receipt{}, err
	}
	r := &job.Record{ID: s.ID, Trace: s.RunID, Tenant: s.Tenant, IdemKey: s.IdempotencyKey, Gate: s.Gate, Submitter: s.Submitter}
	by := audit.Caused("workflow", identity.Identity{Tenant: s.Tenant, Principal: s.Principal})
	return d.accept(ctx, r, request, s.Payload, s.Team, by, now)
}

// reservedTopics begin the topics that only the plane uses: of gates, which are for no worker.
const reservedTopics = "job.cordum."

// labelSource tells the jobs of workflows from others; only the plane sets it.
const (
	labelSource    = "_source"
	sourceWorkflow = "workflow"
)

// request is the job as a worker will get it. It is checked like a client's submission: what an author wrote reaches it through templates.
func (s *StepJob) request() (*agentv1.JobRequest, error) {
	like := Submission{
		Topic: s.Topic, Priority: s.Priority, Adapter: s.Adapter, TeamID: s.Team, Principal: s.Principal, ActorID: s.ActorID, ActorType: s.ActorType,
		IdempotencyKey: s.IdempotencyKey, PackID: s.PackID, Capability: s.Capability, RiskTags: words(s.RiskTags), Requires: words(s.Requires),
		Labels: s.Labels, MemoryID: s.MemoryID, Context: s.Payload, DeadlineMS: s.DeadlineMS,
	}
	for _, check := range []func() error{like.checkTopic, like.checkDeadline, like.checkLabels, like.checkNames} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	if len(like.RiskTags) > MaxWords || len(like.Requires) > MaxWords {
		return nil, fault.New(fault.Invalid, "too many risk_tags or requires (max %d)", MaxWords)
	}
	if like.ActorID == "" {
		like.ActorID = like.Principal
	}
	like.scanSecrets()
	request := like.request(s.ID, s.Tenant)
	request.WorkflowId, request.ContextHints = s.WorkflowID, nil
	request.Budget = &agentv1.Budget{DeadlineMs: s.DeadlineMS}
	if s.Payload == nil {
		request.ContextPtr = ""
	}
	request.Env = maps.Clone(request.GetEnv())
	for _, name := range []string{"max_input_tokens", "max_output_tokens"} { // a step has no such budget
		delete(request.GetEnv(), name)
	}
	maps.Copy(request.GetEnv(), s.Env)
	if request.GetLabels() == nil {
		request.Labels = map[string]string{}
	}
	request.GetLabels()[labelSource] = sourceWorkflow
	request.Meta.Labels = relabel(s.MetaLabels, nil)
	return request, nil
}

// ended tells the run of a step that its job has ended. A decision about a gate says so itself.
func (d *Dispatcher) ended(r *job.Record) []store.Op {
	run, ok := job.RunOf(r.ID)
	if !ok || r.Gate && (r.State == job.Succeeded || r.State == job.Denied) {
		return nil
	}
	return []store.Op{inbox.Put(run, inbox.Event{Kind: inbox.JobEnded, Job: r.ID}, d.now())}
}

// reasonGate is why a gate waits, as clients read it.
const reasonGate = "workflow approval step"

// gate plans the wait of an approval step. It is the workflow that asks for a human, whatever the policy says; that only bounds how long. Where it is
// out of reach nothing does.
func (d *Dispatcher) gate(ctx context.Context, request *agentv1.JobRequest, now time.Time) *plan {
	p := &plan{state: job.ApprovalRequired}
	p.decision = job.Decision{
		Verdict: policy.RequireApproval.String(), Reason: reasonGate, ApprovalRequired: true, JobHash: job.Hash(request), CheckedAt: now.UnixMicro(),
	}
	h, err := d.Policy.Current(ctx)
	if err != nil {
		d.Log.WarnContext(ctx, "no policy: the gate waits without end", "job", request.GetJobId(), "error", err)
		return p
	}
	p.revision, p.expiry, p.decision.Snapshot = h.Revision, h.Policy.Approvals().ExpireAfter, h.Policy.Snapshot()
	return p
}

// approveGate ends a gate: the step has what it waited for. A policy that has moved meanwhile does not matter, since none of it was asked.
func (d *Dispatcher) approveGate(ctx context.Context, id identity.Identity, r *job.Record, w Word, message string) (*job.Record, error) {
	h, err := d.Policy.Current(ctx)
	switch {
	case err != nil:
		return nil, fault.Wrap(fault.Unavailable, err, "%s", reasonUnavailable)
	case h.Policy.Approvals().SelfApprovalForbidden && own(id, r):
		return nil, errSelfApproval
	}
	micros := d.micros.Micros(d.now())
	a := resolution(job.Approve, id, r, w, micros)
	a.Message = message
	extra := append(ofRun(r), a.Op(r), resolved(id, r, "approve", job.Succeeded, w, micros))
	done, err := d.end(ctx, r, job.Succeeded, micros, func(n *job.Record) {
		n.Grant, n.ApproveBy = job.NewGrant(r.Decision, w.Reason, w.Note, message), 0
	}, append(extra, decided(r, a, w.Reason, d.now())...)...)
	if err != nil {
		return nil, err
	}
	result := &agentv1.BusPacket{Payload: &agentv1.BusPacket_JobResult{JobResult: resultOf(done)}}
	d.Events.Job(ctx, done, 0, envelope(done, senderGateway, d.now(), result))
	return done, nil
}

// decided tells the run of a gate how it was decided; nothing for another job.
func decided(r *job.Record, a job.Approval, reason string, now time.Time) []store.Op {
	run, ok := job.RunOf(r.ID)
	if !ok || !r.Gate {
		return nil
	}
	e := inbox.Event{Kind: inbox.GateDecided, Job: r.ID, Approved: a.Resolution == job.Approve, By: a.By, Reason: reason, Note: a.Note}
	return []store.Op{inbox.Put(run, e, now)}
}

// ofRun makes a resolution depend on the run of a step's job: who decides about one that has ended decides nothing.
func ofRun(r *job.Record) []store.Op {
	run, ok := job.RunOf(r.ID)
	if !ok {
		return nil
	}
	return []store.Op{inbox.StillLive(run)}
}

// runIsLive refuses a resolution for the job of a run that has ended.
func (d *Dispatcher) runIsLive(ctx context.Context, r *job.Record) error {
	run, ok := job.RunOf(r.ID)
	if !ok {
		return nil
	}
	it, err := d.Jobs.Table.Get(ctx, inbox.Header(run))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return errTerminalRun
	case err != nil:
		return err
	case !inbox.IsLive(it):
		return errTerminalRun
	}
	return nil
}
