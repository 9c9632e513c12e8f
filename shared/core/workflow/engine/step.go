package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/workflow"
	"github.com/cordum-serverless/cordum/shared/core/workflow/expr"
)

// begin starts a step of the definition; it answers false when that has to wait.
func (t *tx) begin(n *node) bool {
	u := t.unit(n.ID)
	if n.ForEach == "" && t.sends(u) && !t.room() {
		t.blocked = true
		return false
	}
	if o := t.owner(n.i); o >= 0 && t.full(o) {
		return false
	}
	var r *Record
	if m := t.run.Marks[n.i]; m == untouched || m == chosen {
		r = t.create(n.ID)
	} else {
		r = t.edit(n.ID)
	}
	if r.Attempts > 0 {
		t.dispatch(u, r)
		return true
	}
	r.Status, r.StartedAt = Running, t.now
	t.mark(n.i, running)
	if n.Condition != "" && n.kind != workflow.Condition && n.kind != workflow.Switch {
		v, err := expr.Eval(n.Condition, t.scope(u, n.reads))
		switch {
		case err != nil:
			t.refuse(u, "step_condition_failed", "condition: "+err.Error())
			return true
		case !expr.Truthy(v):
			t.log(Entry{Type: "step_condition_skipped", StepID: u.id, Status: Succeeded})
			t.succeed(u, nil, false)
			return true
		}
	}
	if n.ForEach != "" {
		t.fanOut(u, r)
		return true
	}
	t.carryOut(u, r)
	return true
}

// sends says whether a unit makes an effect when it starts.
func (t *tx) sends(u *unit) bool {
	switch u.kind {
	case workflow.Job, workflow.Approval, workflow.Notify, workflow.Subworkflow:
		return true
	default:
		return false
	}
}

// full says whether a parallel step has as many children under way as it may.
func (t *tx) full(o int) bool {
	n := t.p.nodes[o]
	if n.MaxParallel <= 0 {
		return false
	}
	busy := 0
	for i := range t.p.nodes {
		if m := t.run.Marks[i]; (m == running || m == starting || m == waiting) && t.owner(i) == o {
			busy++
		}
	}
	return busy >= n.MaxParallel
}

// carryOut does what a unit is for, once everything before it is settled.
func (t *tx) carryOut(u *unit, r *Record) {
	switch u.kind {
	case workflow.Job:
		t.dispatch(u, r)
	case workflow.Approval:
		t.openGate(u, r)
	case workflow.Condition:
		t.condition(u)
	case workflow.Switch:
		t.switchTo(u)
	case workflow.Parallel:
		t.openParallel(u, r)
	case workflow.Loop:
		t.openLoop(u, r)
	case workflow.Delay:
		t.delay(u, r)
	case workflow.Notify:
		t.notify(u, r)
	case workflow.Transform:
		t.transform(u)
	case workflow.Storage:
		t.storage(u)
	case workflow.Subworkflow:
		t.subworkflow(u, r)
	}
}

// refuse fails a unit that the engine could not carry out.
func (t *tx) refuse(u *unit, event, message string) {
	t.refuseWith(u, event, message, nil)
}

func (t *tx) refuseWith(u *unit, event, message string, data map[string]any) {
	t.log(Entry{Type: event, StepID: u.id, Status: Failed, Message: message, Data: data})
	t.fail(u, Failed, map[string]any{"message": message})
}

// fail ends a unit that did not succeed.
func (t *tx) fail(u *unit, s Status, e map[string]any) {
	r := t.edit(u.id)
	r.Status, r.CompletedAt, r.Error = s, t.now, e
	t.ended(u, s, e)
}

// succeed ends a unit well, with an output of the engine's own if there is one.
func (t *tx) succeed(u *unit, output any, has bool) {
	r := t.edit(u.id)
	r.Status, r.CompletedAt, r.Error = Succeeded, t.now, nil
	if has {
		r.Output, r.HasOutput, r.Recorded = Value{Inline: output}, true, true
		t.recordPath(u, output)
	}
	t.ended(u, Succeeded, nil)
}

// recordPath also stores an output where the step says.
func (t *tx) recordPath(u *unit, output any) {
	if u.step.OutputPath != "" && !u.child {
		t.setPath(u.step.OutputPath, output)
	}
}

func (t *tx) ended(u *unit, s Status, e map[string]any) {
	if u.child {
		t.childEndedWith(u, s, e)
		return
	}
	t.mark(u.top.i, marks[s])
	switch s {
	case Failed, Denied, TimedOut:
		t.redirect(u.top, e)
	case Cancelled:
		t.fatal = true
	default:
	}
	t.poke(u.top.i, nil)
}

func (t *tx) readsOf(u *unit) reads {
	r := u.top.reads
	if u.step != u.top.Step {
		r.ids = slices.Clone(r.ids)
		r.add(t.p.node(u.step.ID).reads)
	}
	return r
}

// fill evaluates the template of a unit's input; without one there is nothing.
func (t *tx) fill(u *unit) (map[string]any, error) {
	if len(u.step.Input) == 0 {
		return map[string]any{}, nil
	}
	return u.step.Payload(t.scope(u, t.readsOf(u)))
}

// payload is what a unit works on, with the error that an error handler is for, as its schema wants it.
func (t *tx) payload(u *unit, r *Record) (map[string]any, error) {
	m, err := u.step.Payload(t.scope(u, t.readsOf(u)))
	if err != nil {
		return nil, err
	}
	if r.Cause != nil {
		m["error"] = r.Cause
	}
	return m, u.in.of("input", m)
}

// dispatch sends a job, the first or that of a retry.
func (t *tx) dispatch(u *unit, r *Record) {
	if u.kind == workflow.Subworkflow {
		t.startChildRun(u, r)
		return
	}
	if r.Attempts == 0 {
		payload, err := t.payload(u, r)
		if err != nil {
			t.refuse(u, "step_failed", err.Error())
			return
		}
		r.Input = Value{Inline: payload}
		r.Labels = t.routeLabels(u)
	}
	t.attempt(u, r)
	r.JobID = JobID(t.run.ID, r.ID, r.Attempts)
	data := map[string]any{"context_ptr": contextPtr(r.JobID)}
	switch {
	case u.inFan():
		data["foreach_index"] = u.index
	case u.inLoop():
		data["loop_index"] = u.index
	}
	t.log(Entry{Type: "step_dispatched", StepID: r.ID, JobID: r.JobID, Status: Running, Data: data})
	t.send(PendingEffect{Kind: DispatchKind, Record: r.ID, Target: r.JobID})
}

// attempt notes that a unit is tried, again perhaps.
func (t *tx) attempt(u *unit, r *Record) {
	r.Attempts++
	r.Status = Running
	if r.StartedAt.IsZero() {
		r.StartedAt = t.now
	}
	if !u.child {
		t.mark(u.top.i, running)
	}
}

// routeLabels fills the templates of a unit's labels; one that cannot be filled, or becomes too long, is sent as it is.
func (t *tx) routeLabels(u *unit) map[string]string {
	if len(u.step.RouteLabels) == 0 {
		return nil
	}
	return fillLabels(u.step, t.scope(u, t.readsOf(u)))
}

// openGate asks a human. What cannot be shown is never asked.
func (t *tx) openGate(u *unit, r *Record) {
	if len(u.step.Input) > 0 || r.Cause != nil {
		decision, err := t.payloadOrNothing(u, r)
		if err != nil {
			t.refuse(u, "step_failed", err.Error())
			return
		}
		r.Input = Value{Inline: decision}
	}
	r.Attempts, r.Status = 1, Waiting
	r.JobID = JobID(t.run.ID, r.ID, 1)
	if !u.child {
		t.mark(u.top.i, waiting)
	}
	t.log(Entry{
		Type: "step_waiting", StepID: r.ID, JobID: r.JobID, Status: Waiting, Message: "approval requested",
		Data: map[string]any{"context_ptr": contextPtr(r.JobID)},
	})
	t.send(PendingEffect{Kind: GateKind, Record: r.ID, Target: r.JobID})
}

// payloadOrNothing is the payload of what does not fall back to the input of the run.
func (t *tx) payloadOrNothing(u *unit, r *Record) (map[string]any, error) {
	if len(u.step.Input) > 0 {
		return t.payload(u, r)
	}
	m := map[string]any{}
	if r.Cause != nil {
		m["error"] = r.Cause
	}
	return m, nil
}

func (t *tx) condition(u *unit) {
	if u.step.Condition == "" {
		t.refuse(u, "step_condition_failed", "condition expression required")
		return
	}
	v, err := expr.Eval(u.step.Condition, t.scope(u, t.readsOf(u)))
	if err != nil {
		t.refuse(u, "step_condition_failed", err.Error())
		return
	}
	t.finish(u, expr.Truthy(v), Entry{Type: "step_condition_evaluated", Data: map[string]any{"value": expr.Truthy(v)}}, "step_condition_failed")
}

// finish ends a step of the engine's own with an output, if that is what its schema wants.
func (t *tx) finish(u *unit, output any, e Entry, failure string) {
	if err := u.out.of("output", output); err != nil {
		t.refuse(u, failure, err.Error())
		return
	}
	e.StepID, e.Status = u.id, Succeeded
	t.log(e)
	t.succeed(u, output, true)
}

func (t *tx) switchTo(u *unit) {
	b, err := u.step.Branches()
	for _, id := range b.Targets() {
		if t.p.node(id) == nil && err == nil {
			err = fmt.Errorf("switch target %q does not exist", id)
		}
	}
	if err == nil && u.step.Condition == "" {
		err = errors.New("condition expression required")
	}
	var value any
	if err == nil {
		value, err = expr.Eval(u.step.Condition, t.scope(u, t.readsOf(u)))
	}
	var target, matched string
	if err == nil {
		target, matched, err = choose(b, value)
	}
	if err == nil && target == "" {
		err = errors.New("no matching case")
	}
	if err != nil {
		t.refuse(u, "step_failed", err.Error())
		return
	}
	for _, id := range b.Targets() {
		if c := t.p.node(id); id != target && !ended(t.run.Marks[c.i]) && c != u.top {
			t.abandon(c, notTaken, notTakenMessage)
		}
	}
	if c := t.p.node(target); t.run.Marks[c.i] == untouched && t.owner(c.i) < 0 && slices.Contains(c.after, u.top.i) {
		t.mark(c.i, chosen)
	}
	output := map[string]any{"matched_case": matched, "matched_value": value, "target_step": target}
	t.finish(u, output, Entry{Type: "step_switch_evaluated", Data: map[string]any{"matched_case": matched, "target_step": target}}, "step_failed")
}

// abandon cancels a step that is not wanted: it counts as completed.
func (t *tx) abandon(c *node, m mark, message string) {
	if live(t.run.Marks[c.i]) {
		t.sweepLater(Sweep{Steps: []string{c.ID}, Status: Cancelled, Error: message, Reason: message})
	}
	t.mark(c.i, m)
	t.poke(c.i, nil)
	if c.kind != workflow.Parallel {
		return
	}
	for _, child := range t.p.nodes {
		if t.owner(child.i) == c.i && live(t.run.Marks[child.i]) {
			t.abandon(child, released, releasedMessage)
		}
	}
}

func (t *tx) delay(u *unit, r *Record) {
	wait, err := t.duration(u)
	if err != nil {
		t.refuse(u, "step_delay_failed", err.Error())
		return
	}
	if wait <= 0 {
		t.delayOver(u)
		return
	}
	r.NextAttemptAt = t.now.Add(wait)
	r.Due = r.NextAttemptAt
	t.log(Entry{
		Type: "step_delay_started", StepID: u.id, Status: Running, Message: "delay started", Data: map[string]any{"delay_ms": wait.Milliseconds()},
	})
}

func (t *tx) duration(u *unit) (time.Duration, error) {
	switch s := u.step; {
	case s.DelaySec < 0:
		return 0, errors.New("delay_sec must be non-negative")
	case s.DelaySec > 0:
		return seconds(s.DelaySec), nil
	case s.DelayUntil != "":
		v, _, err := expr.Template(s.DelayUntil, t.scope(u, t.readsOf(u)))
		if err != nil {
			return 0, fmt.Errorf("invalid delay_until: %w", err)
		}
		text, _ := v.(string)
		at, err := time.Parse(time.RFC3339, strings.TrimSpace(text))
		if err != nil {
			return 0, fmt.Errorf("invalid delay_until: %w", err)
		}
		return at.Sub(t.now), nil
	default:
		return seconds(s.TimeoutSec), nil
	}
}

// seconds is a duration that does not overflow: 100 years are for ever.
func seconds(n int64) time.Duration {
	return time.Duration(min(n, 100*366*24*3600)) * time.Second
}

func (t *tx) delayOver(u *unit) {
	t.log(Entry{Type: "step_delay_completed", StepID: u.id, Status: Succeeded, Message: "delay completed"})
	t.succeed(u, nil, false)
}

func (t *tx) notify(u *unit, r *Record) {
	payload, err := t.payloadOrNothing(u, r)
	if err != nil {
		t.refuse(u, "step_event_failed", err.Error())
		return
	}
	r.Input = Value{Inline: payload}
	t.send(PendingEffect{Kind: AlertKind, Record: u.id, Target: JobID(t.run.ID, u.id, 1)})
	data := map[string]any{"payload": payload}
	if size := len(jsonText(payload)); size > maxData {
		data = map[string]any{"payload_bytes": size}
	}
	t.log(Entry{Type: "step_event_emitted", StepID: u.id, Status: Succeeded, Message: shorten(t.alert(r).Message), Data: data})
	t.succeed(u, nil, false)
}

func (t *tx) transform(u *unit) {
	output, err := t.fill(u)
	if err != nil {
		t.refuse(u, "step_transform_failed", err.Error())
		return
	}
	t.finish(u, output, Entry{Type: "step_transform_completed"}, "step_transform_failed")
}

func (t *tx) storage(u *unit) {
	output, err := t.store(u)
	if err != nil {
		t.refuse(u, "step_storage_failed", err.Error())
		return
	}
	t.finish(u, output, Entry{
		Type: "step_storage_completed", Data: map[string]any{"operation": output["operation"], "key": output["key"]},
	}, "step_storage_failed")
}

// store reads, writes or deletes at a path of the context.
func (t *tx) store(u *unit) (map[string]any, error) {
	input, err := t.fill(u)
	if err != nil {
		return nil, err
	}
	o, err := readOperation(input)
	if err != nil {
		return nil, err
	}
	output := map[string]any{"operation": o.op, "key": o.key}
	switch o.op {
	case "read":
		v, ok := t.lookUp(o.keys)
		if !ok {
			return nil, fmt.Errorf("storage key %q not found", o.key)
		}
		output["value"] = v
	case "write":
		t.setPath(o.key, o.value)
		output["value"] = o.value
	default:
		t.remove(o.keys)
	}
	return output, nil
}

// lookUp reads a path of the context.
func (t *tx) lookUp(keys []string) (any, bool) {
	var r reads
	r.scan("ctx." + strings.Join(keys, "."))
	return at(t.scope(nil, r).Ctx, keys)
}

func (t *tx) remove(keys []string) {
	name := keys[0]
	if !slices.Contains(t.run.Roots, name) {
		return
	}
	r := t.root(name)
	if len(keys) == 1 {
		t.run.Roots = slices.DeleteFunc(t.run.Roots, func(s string) bool { return s == name })
		r.Output, r.HasOutput = Value{}, false
		return
	}
	r.Output = Value{Inline: without(t.value(r.Output), keys[1:])}
}

// without answers a tree that lacks a path; what it was made from stays.
func without(tree any, keys []string) any {
	m, ok := tree.(map[string]any)
	if !ok {
		return tree
	}
	v, has := m[keys[0]]
	if !has {
		return tree
	}
	m = maps.Clone(m)
	if len(keys) == 1 {
		delete(m, keys[0])
	} else {
		m[keys[0]] = without(v, keys[1:])
	}
	return m
}

func (t *tx) subworkflow(u *unit, r *Record) {
	c, err := u.step.Child()
	var made any
	if err == nil {
		made, _, err = expr.Template(map[string]any{"workflow_id": c.WorkflowID, "input": c.Input}, t.scope(u, t.readsOf(u)))
	}
	if err != nil {
		t.refuse(u, "step_failed", err.Error())
		return
	}
	call, _ := made.(map[string]any)
	target, _ := call["workflow_id"].(string)
	if target == "" {
		t.refuse(u, "step_failed", "workflow_id must be the id of a workflow")
		return
	}
	if target == t.run.WorkflowID || slices.Contains(t.run.CallStack, target) {
		t.refuse(u, "step_failed", "circular workflow reference detected: "+target)
		return
	}
	if r.Cause != nil {
		input, _ := call["input"].(map[string]any)
		input["error"] = r.Cause
	}
	r.Input = Value{Inline: call}
	t.startChildRun(u, r)
}

func (t *tx) startChildRun(u *unit, r *Record) {
	t.attempt(u, r)
	r.JobID = childRunID(t.run.ID, r.ID, r.Attempts)
	call, _ := t.value(r.Input).(map[string]any)
	r.Output = Value{Inline: map[string]any{"workflow_id": call["workflow_id"], "run_id": r.JobID, "status": string(Running)}}
	r.HasOutput = true
	t.log(Entry{
		Type: "step_subworkflow_started", StepID: r.ID, JobID: r.JobID, Status: Running, Data: map[string]any{"workflow_id": call["workflow_id"], "run_id": r.JobID},
	})
	t.send(PendingEffect{Kind: StartRunKind, Record: r.ID, Target: r.JobID})
}
