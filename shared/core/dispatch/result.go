package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/dlq"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Ignored says why a worker's word had no effect. It is logged and acknowledged, never sent again.
type Ignored struct{ Why string }

func (e *Ignored) Error() string { return "dispatch: ignored: " + e.Why }

func ignored(format string, args ...any) error { return &Ignored{Why: fmt.Sprintf(format, args...)} }

// Holder is a worker that says something about a job: the identity of its credential, and its own id.
type Holder struct {
	identity.Identity
	// Worker is "" where only the credential is known: then it speaks for every worker of the credential.
	Worker string
	// Attempt is the one that it speaks of, 0 when it does not say.
	Attempt int64
}

// held loads a job for what its worker says. known, which may be nil, is the job as the caller last saw it and saves the read.
func (d *Dispatcher) held(ctx context.Context, h Holder, jobID string, known *job.Record) (*job.Record, error) {
	if strings.TrimSpace(jobID) == "" {
		return nil, ignored("it names no job")
	}
	r := known
	if r == nil {
		var err error
		r, err = d.Jobs.Load(ctx, job.AnyTenant, jobID, d.now())
		if fault.Is(err, fault.NotFound) {
			return nil, ignored("job %s is unknown", jobID)
		}
		if err != nil {
			return nil, err
		}
	}
	return r, h.mayspeak(r)
}

// mayspeak checks that the worker holds the job, in the attempt that it speaks of.
func (h Holder) mayspeak(r *job.Record) error {
	switch {
	case r.State.Terminal():
		return ignored("job %s is %s already", r.ID, r.State)
	case r.State != job.Dispatched && r.State != job.Running:
		return ignored("job %s is %s, no worker has it", r.ID, r.State)
	case r.WorkerTenant != h.Home || !h.MayServe(r.Pool) || (h.Worker != "" && r.Worker != h.Worker):
		return ignored("job %s is not held by worker %q of tenant %s", r.ID, h.Worker, h.Home)
	case h.Attempt != 0 && h.Attempt != r.Attempts:
		return ignored("job %s is in attempt %d, not %d", r.ID, r.Attempts, h.Attempt)
	}
	return nil
}

// outcomes maps the statuses that end a job. A worker cannot deny: its DENIED is a failure with its own code.
var outcomes = map[agentv1.JobStatus]job.State{
	agentv1.JobStatus_JOB_STATUS_SUCCEEDED: job.Succeeded,
	agentv1.JobStatus_JOB_STATUS_FAILED:    job.Failed,
	agentv1.JobStatus_JOB_STATUS_CANCELLED: job.Cancelled,
	agentv1.JobStatus_JOB_STATUS_TIMEOUT:   job.Timeout,
	agentv1.JobStatus_JOB_STATUS_DENIED:    job.Failed,
}

// Ends says whether a result of that status ends its job.
func Ends(status agentv1.JobStatus) bool {
	_, ends := outcomes[status]
	return ends
}

// Limits of what a worker says; longer texts are cut.
const (
	maxErrorText = 4096
	maxErrorCode = 256
	maxArtifacts = 256
	maxPointer   = 1024
)

// Result takes a worker's result: the first one for the attempt ends the job. What has no effect is an *Ignored.
func (d *Dispatcher) Result(ctx context.Context, h Holder, res *agentv1.JobResult, known *job.Record) (*job.Record, error) {
	to, ends := outcomes[res.GetStatus()]
	if !ends {
		return nil, ignored("result of job %s has status %s, which ends nothing", res.GetJobId(), res.GetStatus())
	}
	r, err := d.held(ctx, h, res.GetJobId(), known)
	if err != nil {
		return nil, d.suspect(ctx, h, r, err)
	}
	done, err := d.finish(ctx, r, to, func(n *job.Record) {
		n.ResultPtr = cut(res.GetResultPtr(), maxPointer)
		n.ExecutionMS = max(res.GetExecutionMs(), 0)
		for _, p := range res.GetArtifactPtrs()[:min(len(res.GetArtifactPtrs()), maxArtifacts)] {
			n.Artifacts = append(n.Artifacts, cut(p, maxPointer))
		}
		if to != job.Succeeded {
			n.ErrorCode, n.ErrorMessage = cut(res.GetErrorCode(), maxErrorCode), cut(res.GetErrorMessage(), maxErrorText)
			if n.ResultPtr == "" {
				n.ResultPtr = job.ResultPointer(n.ID)
			}
		}
	}, func(done *job.Record) []*agentv1.BusPacket {
		return []*agentv1.BusPacket{d.fromWorker(done, &agentv1.BusPacket{Payload: &agentv1.BusPacket_JobResult{JobResult: resultOf(done)}})}
	})
	if stale, ok := errors.AsType[*job.StaleError](err); ok {
		if known != nil { // what the caller remembered is old: look
			return d.Result(ctx, h, res, nil)
		}
		return nil, ignored("job %s moved on: %v", r.ID, stale)
	}
	return done, err
}

// suspect leaves an audit entry of a result that was ignored since its worker is not the one that has the job, or had it last: one for a job and a
// worker, however often it comes. It answers why the result was ignored, or that it could not be noted.
func (d *Dispatcher) suspect(ctx context.Context, h Holder, r *job.Record, why error) error {
	reason, ok := errors.AsType[*Ignored](why)
	if !ok || r == nil || r.WorkerTenant == h.Home && (h.Worker == "" || r.Worker == h.Worker) && h.MayServe(r.Pool) {
		return why
	}
	entry := audit.By(h.Identity, d.micros.Micros(d.now()), "ignore_result", "job", r.ID)
	entry.Tenant, entry.ActorID = r.Tenant, cmp.Or(h.Worker, entry.ActorID)
	entry.Before, entry.After, entry.Message = string(r.State), string(r.State), cut(reason.Why, maxErrorText)
	err := d.Jobs.Table.Write(ctx, job.Suspected(r, h.Home, entry.ActorID), entry.Op())
	if _, known := errors.AsType[*store.ConditionError](err); known || err == nil {
		return why
	}
	return fmt.Errorf("note an ignored result of job %s: %w", r.ID, err)
}

// finish ends a job and leaves its dead letter in the same transaction. packets, when given, are what clients hear of it beside the dead letter.
func (d *Dispatcher) finish(
	ctx context.Context, r *job.Record, to job.State, change func(*job.Record), packets ...func(*job.Record) []*agentv1.BusPacket,
) (*job.Record, error) {
	done, err := d.end(ctx, r, to, d.micros.Micros(d.now()), change)
	if err != nil {
		return nil, err
	}
	for _, of := range packets {
		if p := of(done); len(p) > 0 {
			d.Events.Job(ctx, done, 0, p...)
		}
	}
	if to.Unsuccessful() {
		d.bury(ctx, done)
	}
	return done, nil
}

// end writes the end of a job, its dead letter, and what else belongs into the transaction.
func (d *Dispatcher) end(
	ctx context.Context, r *job.Record, to job.State, micros int64, change func(*job.Record), extra ...store.Op,
) (*job.Record, error) {
	end := *r
	full := func(n *job.Record) {
		n.UpdatedAt, n.ListedAt, n.Reason = micros, micros, ""
		change(n)
	}
	end.State = to
	full(&end)
	if to.Unsuccessful() {
		extra = append(extra, dlq.Of(&end, r.Worker).Put(d.Jobs.Shards))
	}
	return d.Jobs.Move(ctx, r, to, 0, full, extra...)
}

// Progress takes a worker's word on a job that it runs: the first makes it RUNNING. The percentage never goes back.
func (d *Dispatcher) Progress(ctx context.Context, h Holder, p *agentv1.JobProgress, known *job.Record) (*job.Record, error) {
	r, err := d.held(ctx, h, p.GetJobId(), known)
	if err != nil {
		return nil, err
	}
	micros := d.micros.Micros(d.now())
	moved, err := d.Jobs.Move(ctx, r, job.Running, 0, func(n *job.Record) {
		next := &job.Progress{
			Percent: min(max(p.GetPercent(), 0), 100), Message: cut(p.GetMessage(), maxErrorText), StepID: cut(p.GetStepId(), MaxName), At: micros,
		}
		if n.Progress != nil {
			next.Percent = max(next.Percent, n.Progress.Percent)
		}
		n.UpdatedAt, n.Progress = micros, next
	})
	if stale, ok := errors.AsType[*job.StaleError](err); ok {
		if known != nil {
			return d.Progress(ctx, h, p, nil)
		}
		return nil, ignored("job %s moved on: %v", r.ID, stale)
	}
	if err == nil {
		said := &agentv1.JobProgress{
			JobId: r.ID, StepId: moved.Progress.StepID, Percent: moved.Progress.Percent, Message: moved.Progress.Message,
			ResultPtr: cut(p.GetResultPtr(), maxPointer), Status: agentv1.JobStatus_JOB_STATUS_RUNNING,
		}
		d.Events.Job(ctx, moved, 0, d.fromWorker(moved, &agentv1.BusPacket{Payload: &agentv1.BusPacket_JobProgress{JobProgress: said}}))
	}
	return moved, err
}

// ReadContext answers the context payload of a job that the worker holds; nil when there is none.
func (d *Dispatcher) ReadContext(ctx context.Context, h Holder, jobID string, known *job.Record) ([]byte, error) {
	r, err := d.held(ctx, h, jobID, known)
	if err != nil {
		return nil, notHeld(err)
	}
	b, err := d.Jobs.Body(ctx, r, d.now())
	if err != nil {
		return nil, err
	}
	return b.Context, nil
}

// WriteResult stores what the worker made in its present attempt and answers the pointer for its result. More than the policy's
// max_artifact_bytes is TooLarge: the worker still has the job, and may end it without that.
func (d *Dispatcher) WriteResult(ctx context.Context, h Holder, jobID string, data []byte, contentType string, known *job.Record) (string, error) {
	r, err := d.held(ctx, h, jobID, known)
	if err != nil {
		return "", notHeld(err)
	}
	if limit := r.MaxArtifactBytes(); limit > 0 && int64(len(data)) > limit {
		return "", fault.New(fault.TooLarge, "result of %d bytes is larger than max_artifact_bytes of the policy (%d)", len(data), limit)
	}
	return d.Jobs.PutResult(ctx, r.ID, r.Attempts, data, contentType, d.now())
}

// notHeld is what a worker sees of a job that it does not hold: the same as for one that does not exist.
func notHeld(err error) error {
	if _, ok := errors.AsType[*Ignored](err); ok {
		return job.ErrUnknown
	}
	return err
}

// cut keeps the first n bytes of a text, whole characters only.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
