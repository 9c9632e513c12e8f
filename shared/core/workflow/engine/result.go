package engine

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/workflow"
	"github.com/cordum-serverless/cordum/shared/core/workflow/expr"
)

// jobResult applies the end of a job to its step.
func (t *tx) jobResult(e JobResult) string {
	run, id, ok := SplitJobID(e.JobID)
	u := t.unit(id)
	if !ok || run != t.run.ID || u == nil {
		return NoStep
	}
	r := t.get(id)
	switch {
	case r == nil:
		return NoStep
	case r.JobID != e.JobID:
		return Stale
	case r.Status.Terminal() || r.Status == Pending || !live(t.run.Marks[u.top.i]):
		return Duplicate
	}
	status, known := stepStatus[e.Status]
	if !known {
		return NotAnEnd
	}
	switch {
	case u.kind != workflow.Approval:
	case status == Succeeded:
		return NotAGate
	case status == Denied:
		return t.approval(Approval{JobID: e.JobID, Reason: shorten(e.Error)})
	}
	if e.Found && status != Succeeded {
		e.Error = "job state: " + string(e.Status)
	}
	if status == Succeeded {
		t.jobSucceeded(u, e)
		return ""
	}
	r = t.edit(id)
	e.Error = shorten(e.Error)
	cause := map[string]any{"message": e.Error}
	if e.Error == "" {
		cause["message"] = "job " + strings.ToLower(string(e.Status))
	}
	if e.Status != JobFatal && (status == Failed || status == TimedOut) && t.retry(u, r, cause) {
		return ""
	}
	t.log(Entry{Type: "step_completed", StepID: id, JobID: e.JobID, Status: status, ResultPtr: e.ResultPtr, Message: e.Error})
	t.fail(u, status, cause)
	return ""
}

// shorten cuts what others have written.
func shorten(message string) string {
	if len(message) <= MaxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:MaxMessage], "") + "…"
}

// stepStatus is how a step ends with its job.
var stepStatus = map[JobStatus]Status{
	JobSucceeded: Succeeded, JobFailed: Failed, JobRetryable: Failed, JobFatal: Failed, JobTimeout: TimedOut, JobDenied: Denied, JobCancelled: Cancelled,
}

// retry puts a unit off that may be tried again.
func (t *tx) retry(u *unit, r *Record, cause map[string]any) bool {
	policy := u.step.Retry
	if policy == nil || r.Attempts > policy.MaxRetries || u.kind == workflow.Approval {
		return false
	}
	r.Status, r.Error = Pending, cause
	r.NextAttemptAt = t.now.Add(Backoff(policy, r.Attempts))
	r.Due = r.NextAttemptAt
	switch {
	case !u.child:
		t.mark(u.top.i, backoff)
		t.poke(u.top.i, nil)
	case u.inFan():
		t.edit(u.top.ID).Fan.Busy--
		t.mark(u.top.i, starting)
	}
	return true
}

// Backoff is the wait before retry k, from 1: initial × multiplier^(k-1), at most the maximum, in whole seconds.
func Backoff(r *workflow.Retry, k int) time.Duration {
	initial := float64(r.InitialBackoffSec)
	if initial <= 0 {
		initial = 1
	}
	multiplier := r.Multiplier
	if !(multiplier > 1) {
		multiplier = 2
	}
	wait := initial * math.Pow(multiplier, float64(k-1))
	if most := float64(r.MaxBackoffSec); most > 0 {
		wait = min(wait, most)
	}
	return seconds(int64(min(wait, math.MaxInt32)))
}

func (t *tx) jobSucceeded(u *unit, e JobResult) {
	r := t.edit(u.id)
	r.ResultPtr = e.ResultPtr
	output, readable := t.output(u, e)
	if readable {
		if err := u.out.of("output", output); err != nil {
			t.log(Entry{Type: "step_output_invalid", StepID: u.id, JobID: e.JobID, Status: Failed, ResultPtr: e.ResultPtr, Message: err.Error()})
			t.log(Entry{Type: "step_completed", StepID: u.id, JobID: e.JobID, Status: Failed, ResultPtr: e.ResultPtr, Message: err.Error()})
			t.fail(u, Failed, map[string]any{"message": err.Error()})
			return
		}
	}
	t.log(Entry{Type: "step_completed", StepID: u.id, JobID: e.JobID, Status: Succeeded, ResultPtr: e.ResultPtr})
	if e.ResultPtr != "" {
		r.Recorded = true
		var stored any = e.ResultPtr
		if readable && len(e.Result) <= MaxInline {
			r.Output, r.HasOutput = Value{Inline: output}, true
			stored = output
		}
		t.recordPath(u, stored)
	}
	r.Status, r.CompletedAt, r.Error = Succeeded, t.now, nil
	t.ended(u, Succeeded, nil)
}

// output is what a result says, JSON or text; false for one that cannot be read.
func (t *tx) output(u *unit, e JobResult) (any, bool) {
	if e.ResultPtr == "" || e.Result == nil {
		return nil, false
	}
	v, err := expr.Decode(e.Result)
	if err != nil {
		v = strings.ToValidUTF8(string(e.Result), "\uFFFD")
	}
	if path := u.step.ResultDataPath; path != "" {
		v, _ = at(v, strings.Split(path, "."))
	}
	return v, true
}

// childEnded applies the end of the run of a subworkflow.
func (t *tx) childEnded(e ChildEnded) string {
	u := t.unit(e.Record)
	if u == nil || u.kind != workflow.Subworkflow {
		return NoStep
	}
	r := t.get(u.id)
	switch {
	case r == nil:
		return NoStep
	case r.JobID != e.RunID:
		return Stale
	case r.Status != Running || !live(t.run.Marks[u.top.i]):
		return Duplicate
	case !e.Status.Terminal() || e.Status == Skipped:
		return NotAnEnd
	}
	r = t.edit(u.id)
	e.Error = shorten(e.Error)
	call, _ := t.value(r.Input).(map[string]any)
	shown := map[string]any{"workflow_id": call["workflow_id"], "run_id": e.RunID, "status": string(e.Status)}
	entry := Entry{
		Type: "step_subworkflow_completed", StepID: u.id, JobID: e.RunID, Status: e.Status, Message: e.Error,
		Data: map[string]any{"workflow_id": call["workflow_id"], "run_id": e.RunID},
	}
	if e.Status != Succeeded {
		r.Output = Value{Inline: shown}
		message := e.Error
		if message == "" {
			message = "run " + string(e.Status)
		}
		cause := map[string]any{"message": message, "child_run_id": e.RunID, "child_status": string(e.Status)}
		if (e.Status == Failed || e.Status == TimedOut) && t.retry(u, r, cause) {
			return ""
		}
		t.log(entry)
		t.fail(u, e.Status, cause)
		return ""
	}
	output, err := mapped(u, e)
	if err == nil {
		err = u.out.of("output", output)
	}
	if err != nil {
		t.log(Entry{Type: "step_output_invalid", StepID: u.id, JobID: e.RunID, Status: Failed, Message: err.Error()})
		entry.Status, entry.Message = Failed, err.Error()
		t.log(entry)
		t.fail(u, Failed, map[string]any{"message": err.Error(), "child_run_id": e.RunID, "child_status": string(e.Status)})
		return ""
	}
	t.log(entry)
	t.succeed(u, output, true)
	return ""
}

// mapped is the output of a subworkflow: its mapping, in which input, ctx and steps are the child's, or the context of the child.
func mapped(u *unit, e ChildEnded) (any, error) {
	c, err := u.step.Child()
	if err != nil {
		return nil, err
	}
	if c.Output == nil {
		return e.Context, nil
	}
	ctx, _ := e.Context.(map[string]any)
	v, _, err := expr.Template(c.Output, expr.Scope{Input: e.Input, Ctx: e.Context, Steps: ctx["steps"]})
	if err != nil {
		return nil, fmt.Errorf("output_mapping: %w", err)
	}
	return v, nil
}

// Blamed are the steps that a run has not succeeded for, by their ids: those that failed for good, without the handlers that failed after them; where
// there are none, those that were cancelled.
func Blamed(p *Plan, run *Run) []string {
	t := &tx{p: p, run: run}
	var failures, cancels []string
	for i, n := range p.nodes {
		switch m := run.Marks[i]; {
		case t.owner(i) >= 0:
		case m == cancelled:
			cancels = append(cancels, n.ID)
		case (m == failed || m == denied || m == timedOut) && !t.handles(n) && t.recovery(i, nil) == exhausted:
			failures = append(failures, n.ID)
		}
	}
	if len(failures) > 0 {
		return failures
	}
	return cancels
}

// Why is the message of the blamed record that ended its run: the last, since one before it was still being mended; "" where none says anything.
func Why(blamed []*Record) string {
	var last *Record
	why := ""
	for _, r := range blamed {
		message, _ := r.Error["message"].(string)
		if message != "" && message != takenDownMessage && (last == nil || r.CompletedAt.After(last.CompletedAt)) {
			last, why = r, message
		}
	}
	return why
}
