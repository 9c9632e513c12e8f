package dispatch

import (
	"context"
	"errors"
	"time"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/dlq"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Word is what somebody says who approves or rejects a job.
type Word struct{ Reason, Note string }

func (w Word) check() error {
	for name, v := range map[string]string{"reason": w.Reason, "note": w.Note} {
		if len(v) > job.MaxLabelValueBytes { // they become labels
			return fault.New(fault.Invalid, "%s too long (max %d bytes)", name, job.MaxLabelValueBytes)
		}
	}
	return nil
}

// unresolved is a refusal to resolve an approval, with the code that clients go by.
func unresolved(code, text string) *fault.Error {
	return fault.New(fault.Conflict, "%s", text).With("code", code).With("retryable", false)
}

// Why an approval cannot be resolved.
var (
	errNotActionable = unresolved("approval_not_actionable", "job not awaiting approval")
	errResolved      = unresolved("approval_already_resolved", "job not awaiting approval")
	errNoHash        = unresolved("approval_not_actionable", "approval job hash unavailable")
	errNoSnapshot    = unresolved("approval_not_actionable", "approval policy snapshot unavailable")
	errStalePolicy   = unresolved("approval_stale_snapshot", "policy snapshot changed; re-evaluate before approving")
	errStaleRequest  = unresolved("approval_stale_request", "job request changed; approval rejected")
	errContended     = unresolved("approval_retryable_lock", "approval is being resolved by others; retry").With("retryable", true)
	errTerminalRun   = unresolved("approval_terminal_run", "job not awaiting approval")
	errSelfApproval  = fault.New(fault.Denied, "self-approval is forbidden by policy").With("code", "approval_self_approval").With("retryable", false)
)

// resolveTries is how often a resolution that met a change of the job is tried again.
const resolveTries = 5

// Approve lets a job run that waits for a human, if the policy in force and the request are those that the approval was asked for. In one
// transaction the job gets its grant, moves on as its route and its limits say, and a record and an audit entry are written. Of any number of
// resolutions, cancels and expiries of one wait one takes effect; the others are Conflict.
//
// Faults: NotFound, Conflict with the members code and retryable, Denied where who submitted may not approve, Unavailable when the policy cannot
// be asked: nothing has changed then.
func (d *Dispatcher) Approve(ctx context.Context, id identity.Identity, jobID string, w Word) (*job.Record, error) {
	message := "approval:" + d.IDs.UUID()
	return d.resolve(ctx, id, jobID, w,
		func(r *job.Record) bool { return r.Grant != nil && r.Grant.Message == message },
		func(r *job.Record, now time.Time) (*job.Record, error) { return d.approve(ctx, id, r, w, message, now) })
}

// Reject denies a job that waits for a human. It leaves a dead letter with the reason. Who rejects may be who submitted.
//
// Faults: NotFound, Conflict as for Approve.
func (d *Dispatcher) Reject(ctx context.Context, id identity.Identity, jobID string, w Word) (*job.Record, error) {
	micros := d.micros.Micros(d.now())
	return d.resolve(ctx, id, jobID, w,
		func(r *job.Record) bool { return r.ErrorCode == dlq.ApprovalRejected && r.UpdatedAt == micros },
		func(r *job.Record, _ time.Time) (*job.Record, error) { return d.reject(ctx, id, r, w, micros) })
}

// resolve does something to a job that waits for a human, once more where the job changed meanwhile. mine says whether it has been done already: by
// a write whose answer was lost.
func (d *Dispatcher) resolve(
	ctx context.Context, id identity.Identity, jobID string, w Word, mine func(*job.Record) bool,
	do func(*job.Record, time.Time) (*job.Record, error),
) (*job.Record, error) {
	if err := w.check(); err != nil {
		return nil, err
	}
	var failed error
	for range resolveTries {
		now := d.now()
		r, err := d.Jobs.Load(ctx, id.Tenant, jobID, now)
		switch {
		case failed != nil && err != nil:
			return nil, failed
		case err != nil:
			return nil, err
		case failed != nil && mine(r):
			return d.resumed(ctx, r, now)
		case failed != nil && !isStale(failed) && !errors.Is(failed, store.ErrConflict): // it was not done
			return nil, failed
		case r.State != job.ApprovalRequired:
			return nil, notWaiting(r)
		}
		if err := d.runIsLive(ctx, r); err != nil {
			return nil, err
		}
		if err := d.overdue(ctx, r, now); err != nil {
			failed = err
			continue
		}
		r, err = do(r.Unmoved(), now)
		if err == nil || fault.From(err).Code != fault.Internal {
			return r, err
		}
		failed = err
	}
	return nil, errContended
}

// resumed goes on where a resolution was written and its answer lost.
func (d *Dispatcher) resumed(ctx context.Context, r *job.Record, now time.Time) (*job.Record, error) {
	if r.State == job.Denied || r.State == job.Failed {
		d.bury(ctx, r)
		return r, nil
	}
	if r.State != job.Scheduled && r.State != job.Pending { // others have gone on with it
		return r, nil
	}
	body, err := d.Jobs.Body(ctx, r, now)
	if err != nil {
		d.Log.WarnContext(ctx, "approved job not sent; the sweep does it", "job", r.ID, "error", err)
		return r, nil
	}
	return d.carriedOut(ctx, r, body.Request), nil
}

// notWaiting says why a job cannot be resolved.
func notWaiting(r *job.Record) error {
	if r.Grant != nil || r.ErrorCode == dlq.ApprovalRejected {
		return errResolved
	}
	if _, ok := job.RunOf(r.ID); ok && r.State == job.Cancelled {
		return errTerminalRun
	}
	return errNotActionable
}

// overdue ends a job whose wait, or whose time, is over although nobody has come by yet.
func (d *Dispatcher) overdue(ctx context.Context, r *job.Record, now time.Time) error {
	switch {
	case expired(r, now):
		if err := d.expire(ctx, r); err != nil {
			return err
		}
	case r.DeadlineAt != 0 && now.UnixMicro() >= r.DeadlineAt:
		if err := d.timeout(ctx, r.Unmoved(), dlq.DeadlineExceeded, "deadline exceeded"); err != nil {
			return err
		}
	default:
		return nil
	}
	return &job.StaleError{Current: r}
}

func (d *Dispatcher) approve(ctx context.Context, id identity.Identity, r *job.Record, w Word, message string, now time.Time) (*job.Record, error) {
	if r.Gate {
		return d.approveGate(ctx, id, r, w, message)
	}
	request, err := d.Jobs.Request(ctx, r)
	if errors.Is(err, job.ErrNoRequest) {
		return nil, fault.Wrap(fault.NotFound, err, "job request not found")
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "job request is not available")
	}
	if err := d.mayApprove(ctx, id, r, request); err != nil {
		return nil, err
	}
	grant := effect{
		change: func(n *job.Record, micros int64) {
			n.Grant, n.WaitingSince = job.NewGrant(r.Decision, w.Reason, w.Note, message), micros
		},
		ops: func(to job.State, micros int64) []store.Op {
			a := resolution(job.Approve, id, r, w, micros)
			a.Message = message
			return append(ofRun(r), a.Op(r), resolved(id, r, "approve", to, w, micros))
		},
	}
	granted := *r
	grant.change(&granted, now.UnixMicro())
	p := d.plan(ctx, &granted, request, now)
	switch {
	case p.decision.Verdict == job.Unavailable:
		return nil, fault.New(fault.Unavailable, "%s", reasonUnavailable)
	case p.decision.Snapshot != r.Decision.Snapshot: // the policy has moved this very moment
		return nil, errStalePolicy
	}
	p.decision.By = audit.Caused("approve", id)
	return d.carryOut(ctx, r, request, p, now, grant)
}

// mayApprove checks that an approval is for what the job is now, and that it is the caller's to give.
func (d *Dispatcher) mayApprove(ctx context.Context, id identity.Identity, r *job.Record, request *agentv1.JobRequest) error {
	switch asked := r.Decision; {
	case !asked.ApprovalRequired:
		return errNotActionable
	case asked.JobHash == "":
		return errNoHash
	case asked.Snapshot == "":
		return errNoSnapshot
	}
	head, err := d.Policy.Current(ctx)
	switch {
	case err != nil:
		return fault.Wrap(fault.Unavailable, err, "%s", reasonUnavailable)
	case head.Policy.Snapshot() != r.Decision.Snapshot:
		return errStalePolicy
	case job.Hash(request) != r.Decision.JobHash:
		return errStaleRequest
	case head.Policy.Approvals().SelfApprovalForbidden && own(id, r):
		return errSelfApproval
	}
	return nil
}

// own says whether a job is the caller's: submitted with the same credential, on the caller's behalf, or as the caller.
func own(id identity.Identity, r *job.Record) bool {
	return id.KeyID != "" && id.KeyID == r.Submitter || id.Principal != "" && (id.Principal == r.Principal || id.Principal == r.ActorID)
}

func (d *Dispatcher) reject(ctx context.Context, id identity.Identity, r *job.Record, w Word, micros int64) (*job.Record, error) {
	text := w.Reason
	if text == "" {
		text = "approval rejected"
	}
	a := resolution(job.Reject, id, r, w, micros)
	extra := append(ofRun(r), a.Op(r), resolved(id, r, "reject", job.Denied, w, micros))
	extra = append(extra, decided(r, a, w.Reason, d.now())...)
	done, err := d.end(ctx, r, job.Denied, micros, deniedFor(dlq.ApprovalRejected, text), extra...)
	if err == nil {
		d.bury(ctx, done)
	}
	return done, err
}

func deniedFor(code, text string) func(*job.Record) {
	return func(n *job.Record) {
		n.ErrorCode, n.ErrorMessage, n.ResultPtr, n.ApproveBy = code, text, job.ResultPointer(n.ID), 0
	}
}

// resolution is the record of an approval that somebody resolves.
func resolution(how string, id identity.Identity, r *job.Record, w Word, micros int64) job.Approval {
	return job.Approval{
		Resolution: how, By: audit.By(id, micros, how, "job", r.ID).ActorID, Role: string(id.Role), Reason: w.Reason, Note: w.Note, At: micros,
		Decision: r.Decision, Revision: r.Asked,
	}
}

// resolved is the entry of a resolution in the audit trail.
func resolved(id identity.Identity, r *job.Record, action string, to job.State, w Word, micros int64) store.Op {
	e := audit.By(id, micros, action, "job", r.ID)
	e.ResourceName, e.Message, e.Before, e.After = r.Topic, w.Reason, string(r.State), string(to)
	return e.Op()
}

// expired says whether nobody has resolved the job in time. A deadline that comes first ends it otherwise.
func expired(r *job.Record, now time.Time) bool {
	return r.State == job.ApprovalRequired && r.ApproveBy != 0 && now.UnixMicro() >= r.ApproveBy && (r.DeadlineAt == 0 || r.ApproveBy <= r.DeadlineAt)
}

// approveBy is when a wait for approval ends; the zero time for never.
func approveBy(r *job.Record) time.Time {
	if r.State != job.ApprovalRequired || r.ApproveBy == 0 {
		return time.Time{}
	}
	return time.UnixMicro(r.ApproveBy)
}

// expire ends a job that nobody approved in time.
func (d *Dispatcher) expire(ctx context.Context, r *job.Record) error {
	r = r.Unmoved()
	micros := d.micros.Micros(d.now())
	a := resolution(job.Expire, identity.Identity{}, r, Word{}, micros)
	const text = "approval expired: nobody approved or rejected in time"
	done, err := d.end(ctx, r, job.Denied, micros, deniedFor(dlq.ApprovalExpired, text), append(decided(r, a, text, d.now()), a.Op(r))...)
	if err == nil {
		d.bury(ctx, done)
	}
	return err
}
