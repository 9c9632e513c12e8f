package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/workflow"
)

func TestS01_AStepWaitsForWhatItDependsOn(t *testing.T) {
	w := newWorld(t, `{"a":{"topic":"job.a"},"b":{"topic":"job.b","depends_on":["a"]}}`, `{}`).begin()
	w.sent(DispatchKind, "a@1").ok("a@1").sent(DispatchKind, "a@1", "b@1").ok("b@1").status(Succeeded)
	w.want(`
		step_dispatched a running a@1
		run_status running
		step_completed a succeeded a@1
		step_dispatched b running b@1
		step_completed b succeeded b@1
		run_status succeeded`)
}

func TestS02_IndependentStepsStartTogether(t *testing.T) {
	w := newWorld(t, `{"a":{},"b":{}}`, `{}`)
	w.hold = true
	w.begin().want(`
		step_dispatched a running a@1
		step_dispatched b running b@1
		run_status running`)
	if w.passes != 1 {
		t.Errorf("%d passes", w.passes)
	}
}

func TestS03_AFanOutSucceedsWithItsChildren(t *testing.T) {
	w := newWorld(t, `{"fan":{"topic":"job.f","for_each":"input.items"}}`, `{"items":["x","y"]}`).begin()
	w.ok("fan[0]@1").ok("fan[1]@1").status(Succeeded).step("fan", Succeeded)
	w.want(`
		step_dispatched fan[0] running fan[0]@1 {"foreach_index":0}
		step_dispatched fan[1] running fan[1]@1 {"foreach_index":1}
		run_status running
		step_completed fan[0] succeeded fan[0]@1
		step_completed fan[1] succeeded fan[1]@1
		run_status succeeded`)
}

func TestS04_MaxParallelHoldsChildrenBack(t *testing.T) {
	w := newWorld(t, `{"fan":{"for_each":"input.items","max_parallel":1}}`, `{"items":[1,2,3]}`).begin()
	w.sent(DispatchKind, "fan[0]@1")
	w.ok("fan[0]@1").sent(DispatchKind, "fan[0]@1", "fan[1]@1")
	w.ok("fan[1]@1").sent(DispatchKind, "fan[0]@1", "fan[1]@1", "fan[2]@1")
	w.ok("fan[2]@1").status(Succeeded)
}

func TestS05_NoItemsSucceedAtOnce(t *testing.T) {
	w := newWorld(t, `{"fan":{"for_each":"input.items"},"next":{"depends_on":["fan"]}}`, `{}`).begin()
	w.want(`
		step_completed fan succeeded {"items":0}
		step_dispatched next running next@1
		run_status running`)
}

func TestS06_WhatIsNoArrayFails(t *testing.T) {
	newWorld(t, `{"fan":{"for_each":"input"}}`, `{}`).begin().want(`
		step_foreach_failed fan failed "for_each: an array is wanted"
		run_status failed`)
}

func TestS07_TooManyItemsFail(t *testing.T) {
	newWorld(t, `{"fan":{"for_each":"input.items"}}`, `{"items":[`+strings.TrimSuffix(strings.Repeat("1,", 1001), ",")+`]}`).begin().want(`
		step_foreach_failed fan failed "for_each: 1001 items, the limit is 1000" {"count":1001,"limit":1000}
		run_status failed`)
}

func TestS08_AChildThatTimesOutFailsItsParent(t *testing.T) {
	newWorld(t, `{"fan":{"for_each":"input.items"}}`, `{"items":[1]}`).begin().job("fan[0]@1", JobTimeout, "too slow").want(`
		step_dispatched fan[0] running fan[0]@1 {"foreach_index":0}
		run_status running
		step_completed fan[0] timed_out fan[0]@1 "too slow"
		run_status failed`).step("fan", Failed)
}

func TestS09_SiblingsOfAFailedChildAreCancelled(t *testing.T) {
	w := newWorld(t, `{"fan":{"for_each":"input.items","max_parallel":3}}`, `{"items":[1,2,3,4]}`).begin().job("fan[1]@1", JobFailed, "boom")
	w.want(`
		step_dispatched fan[0] running fan[0]@1 {"foreach_index":0}
		step_dispatched fan[1] running fan[1]@1 {"foreach_index":1}
		step_dispatched fan[2] running fan[2]@1 {"foreach_index":2}
		run_status running
		step_completed fan[1] failed fan[1]@1 "boom"
		step_foreach_orphan_cancelled fan cancelled "fan[1] failed" {"cancelled":2}
		run_status failed`)
	w.sent(CancelJobKind, "fan[0]@1", "fan[2]@1").step("fan[0]", Cancelled).step("fan[3]", Cancelled)
	if got := w.errorOf("fan"); got != "fan[1] failed: boom" {
		t.Error(got)
	}
}

func TestS10_ItemsReachTheirJobs(t *testing.T) {
	w := newWorld(t, `{"fan":{"for_each":"input.items","input":{"a":1}}}`, `{"items":[null,{"k":1}]}`).begin()
	for i, want := range []string{`null {"a":1}`, `{"k":1} {"a":1,"item":{"k":1}}`} {
		j := w.jobOf(fmt.Sprintf("fan[%d]@1", i))
		if got := j.Env["foreach_item"] + " " + string(mustJSON(t, j.Payload)); got != want || j.Env["foreach_index"] != fmt.Sprint(i) {
			t.Errorf("%s %s, want %s", j.Env["foreach_index"], got, want)
		}
	}
}

func TestS11_OutputsOfChildrenAreInTheContext(t *testing.T) {
	w := newWorld(t, `{"fan":{"for_each":"input.items","output_path":"never"},"next":{"depends_on":["fan"],"input":{"v":"${steps.fan[0].output.v}"}}}`,
		`{"items":[1]}`).begin().ok("fan[0]@1", `{"v":7}`)
	if got := string(mustJSON(t, w.jobOf("next@1").Payload)); got != `{"v":7}` {
		t.Error(got)
	}
	w.context(`{"steps":{"fan[0]":{"output":{"v":7},"result_ptr":"redis://res:r1:fan[0]@1"}}}`)
}

func TestS12_ItemsAreFrozen(t *testing.T) {
	w := newWorld(t, `{"put":{"type":"storage","input":{"operation":"write","key":"list","value":"${input.items}"}},
		"fan":{"depends_on":["put"],"for_each":"ctx.list","max_parallel":1},
		"gate":{"type":"delay","delay_sec":1,"depends_on":["put"]},
		"less":{"type":"storage","depends_on":["gate"],"input":{"operation":"write","key":"list","value":[]}}}`, `{"items":["x","y"]}`).begin()
	w.after(time.Second).step("less", Succeeded).ok("fan[0]@1")
	if got := w.jobOf("fan[1]@1").Env["foreach_item"]; got != `"y"` {
		t.Error(got)
	}
}

func TestS13_AFalseConditionSkipsAndDependentsRun(t *testing.T) {
	newWorld(t, `{"a":{"condition":"input.go"},"b":{"depends_on":["a"]}}`, `{}`).begin().ok("b@1").want(`
		step_condition_skipped a succeeded
		step_dispatched b running b@1
		run_status running
		step_completed b succeeded b@1
		run_status succeeded`).context(`{"steps":{}}`)
}

func TestBlankIsNothing(t *testing.T) {
	newWorld(t, `{"a":{"condition":"  ","for_each":" "}}`, `{}`).begin().sent(DispatchKind, "a@1")
}

func TestS14_AConditionThatCannotBeReadFails(t *testing.T) {
	newWorld(t, `{"a":{"condition":"input.x =="}}`, `{}`).begin().want(`
		step_condition_failed a failed "condition: unexpected end at 11"
		run_status failed`)
}

func TestS15_AConditionStepHasAnOutput(t *testing.T) {
	newWorld(t, `{"cond":{"type":"condition","condition":"input.n > 3","output_path":"decision.allowed"}}`, `{"n":5}`).begin().want(`
		step_condition_evaluated cond succeeded {"value":true}
		run_status succeeded`).context(`{"decision":{"allowed":true},"steps":{"cond":{"output":true}}}`)
}

func TestS16_AConditionNeedsAnExpression(t *testing.T) {
	w := newWorld(t, `{"cond":{"type":"condition"}}`, `{}`).begin().status(Failed)
	if got := w.errorOf("cond"); got != "condition expression required" {
		t.Error(got)
	}
}

func TestS17_AChainOfInlineStepsIsOnePass(t *testing.T) {
	for range 20 {
		w := newWorld(t, `{"e":{"type":"transform"},"d":{"type":"transform","depends_on":["e"]},"c":{"type":"condition","condition":"true","depends_on":["d"]},
			"b":{"type":"storage","input":{"operation":"write","key":"k","value":1},"depends_on":["c"]},"a":{"type":"delay","depends_on":["b"]}}`, `{}`).begin()
		if w.passes != 1 {
			t.Fatalf("%d passes", w.passes)
		}
		w.want(`
			step_transform_completed e succeeded
			step_transform_completed d succeeded
			step_condition_evaluated c succeeded {"value":true}
			step_storage_completed b succeeded {"key":"k","operation":"write"}
			step_delay_completed a succeeded "delay completed"
			run_status succeeded`)
	}
}

func TestS18_AnApprovalDoesNotHoldOtherBranchesUp(t *testing.T) {
	newWorld(t, `{"gate":{"type":"approval"},"x":{},"y":{"depends_on":["x"]}}`, `{}`).begin().ok("x@1").want(`
		step_waiting gate waiting gate@1 "approval requested"
		step_dispatched x running x@1
		run_status waiting
		step_completed x succeeded x@1
		step_dispatched y running y@1`).status(Waiting)
}

func TestS19_NotifySendsAnAlert(t *testing.T) {
	w := newWorld(t, `{"n":{"type":"notify","input":{"message":"hello","code":7}}}`, `{}`).begin().status(Succeeded).want(`
		step_event_emitted n succeeded "hello" {"payload":{"code":7,"message":"hello"}}
		run_status succeeded`).context(`{"steps":{}}`)
	if len(w.effects) != 1 || *w.effects[0].Alert != (Alert{"INFO", "hello", "", "workflow-engine", runID}) {
		t.Errorf("%+v", w.effects)
	}
}

func TestS20_Delays(t *testing.T) {
	w := newWorld(t, `{"d":{"type":"delay","delay_sec":1}}`, `{}`).begin().after(999 * time.Millisecond).status(Running).after(time.Millisecond).want(`
		step_delay_started d running "delay started" {"delay_ms":1000}
		run_status running
		step_delay_completed d succeeded "delay completed"
		run_status succeeded`)
	if len(w.effects) > 0 {
		t.Errorf("%+v", w.effects)
	}
	newWorld(t, `{"d":{"type":"delay","delay_sec":-1}}`, `{}`).begin().want(`
		step_delay_failed d failed "delay_sec must be non-negative"
		run_status failed`)
	newWorld(t, `{"d":{"type":"delay","delay_until":"2020-01-01T00:00:00Z"}}`, `{}`).begin().want(`
		step_delay_completed d succeeded "delay completed"
		run_status succeeded`)
	newWorld(t, `{"d":{"type":"delay","delay_until":"${input.at}"}}`, `{"at":"2026-02-13T01:00:05Z"}`).begin().status(Running).after(5 * time.Second).status(Succeeded)
	newWorld(t, `{"d":{"type":"delay","timeout_sec":2}}`, `{}`).begin().status(Running).after(2 * time.Second).status(Succeeded)
	if got := newWorld(t, `{"d":{"type":"delay","delay_until":"soon"}}`, `{}`).begin().status(Failed).errorOf("d"); !strings.HasPrefix(got, "invalid delay_until: ") {
		t.Error(got)
	}
}

func TestS21_ParallelAnyTakesTheFirst(t *testing.T) {
	w := newWorld(t, `{"par":{"type":"parallel","input":{"steps":["a","b"],"strategy":"any"}},"a":{},"b":{},"after":{"depends_on":["par"]}}`, `{}`).begin()
	w.ok("a@1", `1`).sent(CancelJobKind, "b@1").ok("b@1").ok("after@1").want(`
		step_parallel_started par running {"steps":["a","b"],"strategy":"any"}
		step_dispatched a running a@1
		step_dispatched b running b@1
		run_status running
		step_completed a succeeded a@1
		step_parallel_completed par succeeded {"failed":0,"succeeded":1}
		step_dispatched after running after@1
		step_completed after succeeded after@1
		run_status succeeded`).step("b", Cancelled)
	if w.errorOf("b") != "cancelled by parallel strategy" {
		t.Error(w.errorOf("b"))
	}
}

func TestS22_ParallelNOfMFailsOnceItCannotSucceed(t *testing.T) {
	w := newWorld(t, `{"par":{"type":"parallel","input":{"steps":"a, b,c,a","strategy":"N-of-M","required":"2"}},"a":{},"b":{},"c":{}}`, `{}`).begin()
	w.job("a@1", JobFailed, "x").status(Running).job("b@1", JobFailed, "x").status(Failed).sent(CancelJobKind, "c@1").step("par", Failed)
	if got := w.errorOf("par"); got != "parallel n_of_m: 2 of 3 steps failed" {
		t.Error(got)
	}
}

func TestParallelAll(t *testing.T) {
	w := newWorld(t, `{"par":{"type":"parallel","max_parallel":1,"input":{"steps":["a","b"]}},"a":{},"b":{"type":"transform","input":{"x":1}}}`, `{}`).begin()
	w.sent(DispatchKind, "a@1").step("b", "").ok("a@1").step("par", Succeeded).status(Succeeded)
	w.context(`{"steps":{"b":{"output":{"x":1}},"par":{"output":{"a":null,"b":{"output":{"x":1}}}}}}`)
	newWorld(t, `{"par":{"type":"parallel","input":{"steps":[]}}}`, `{}`).begin().status(Succeeded).context(`{"steps":{"par":{"output":{}}}}`)
	newWorld(t, `{"par":{"type":"parallel","depends_on":["x"],"input":{"steps":"${input.of}"}},"x":{},"a":{"depends_on":["x"]},"b":{"depends_on":["x"]},
		"z":{"depends_on":["par"]}}`, `{"of":["a","b"]}`).begin().ok("x@1").sent(DispatchKind, "x@1", "a@1", "b@1").ok("a@1").step("par", Running).ok("b@1").ok("z@1").status(Succeeded)
	newWorld(t, `{"p":{"type":"parallel","input":{"steps":["a"]}},"q":{"type":"parallel","input":{"steps":["a"]}},"a":{}}`, `{}`).begin().
		status(Failed).step("q", Failed)
}

func TestS23_Switch(t *testing.T) {
	steps := `{"sw":{"type":"switch","condition":"input.kind","input":{"cases":{"a":"one","b":"two"}}},
		"one":{"depends_on":["sw"]},"two":{"depends_on":["sw"]},"more":{"depends_on":["two"]},"join":{"depends_on":["one","two"]}}`
	newWorld(t, steps, `{"kind":"z"}`).begin().want(`
		step_failed sw failed "no matching case"
		run_status failed`)
	w := newWorld(t, steps, `{"kind":"a"}`).begin().ok("one@1").ok("join@1").want(`
		step_switch_evaluated sw succeeded {"matched_case":"a","target_step":"one"}
		step_dispatched one running one@1
		run_status running
		step_completed one succeeded one@1
		step_dispatched join running join@1
		step_completed join succeeded join@1
		run_status succeeded`).step("two", Cancelled).step("more", Cancelled)
	if got := string(mustJSON(t, w.shown("two").Error)); got != `{"message":"branch not taken","reason":"switch_branch_not_taken"}` {
		t.Error(got)
	}
	w.context(`{"steps":{"sw":{"output":{"matched_case":"a","matched_value":"a","target_step":"one"}}}}`)
	// Targets wait for their switch, also where they do not say so.
	newWorld(t, `{"slow":{},"sw":{"type":"switch","condition":"input.n","depends_on":["slow"],"input":{"cases":[{"value":1,"step":"one"},{"match":2,"step":"two"}],
		"default":"two"}},"one":{},"two":{}}`, `{"n":9}`).begin().sent(DispatchKind, "slow@1").ok("slow@1").sent(DispatchKind, "slow@1", "two@1").
		ok("two@1").status(Succeeded)
	newWorld(t, `{"sw":{"type":"switch","condition":"1","input":{"cases":{"1":"gone"}}}}`, `{}`).begin().want(`
		step_failed sw failed "switch target "gone" does not exist"
		run_status failed`)
}

func TestS24_ACountedLoop(t *testing.T) {
	w := newWorld(t, `{"loop":{"type":"loop","topic":"job.l","input":{"max_iterations":3,"x":"${loop_iteration}"}}}`, `{}`).begin()
	w.ok("loop[0]@1", `"p"`).ok("loop[1]@1", `{"q":1}`).ok("loop[2]@1", `"last"`).want(`
		step_loop_iteration loop running {"loop_index":0}
		step_dispatched loop[0] running loop[0]@1 {"loop_index":0}
		run_status running
		step_completed loop[0] succeeded loop[0]@1
		step_loop_iteration loop running {"loop_index":1}
		step_dispatched loop[1] running loop[1]@1 {"loop_index":1}
		step_completed loop[1] succeeded loop[1]@1
		step_loop_iteration loop running {"loop_index":2}
		step_dispatched loop[2] running loop[2]@1 {"loop_index":2}
		step_completed loop[2] succeeded loop[2]@1
		step_loop_completed loop succeeded {"iterations":3}
		run_status succeeded`)
	j := w.jobOf("loop[2]@1")
	if got := j.Env["loop_index"] + j.Env["loop_iteration"] + j.Env["loop_previous_output"] + string(mustJSON(t, j.Payload)); got != `23{"q":1}{"x":3}` {
		t.Error(got)
	}
	if got := string(mustJSON(t, w.load("loop").Output.Inline)); got != `{"iterations":3,"last_output":"last"}` {
		t.Error(got)
	}
}

// What says how long a loop goes on is no payload: a loop that is its own body and has nothing else works on the input of the run, like any step.
func TestE06_ALoopOfItselfWithoutAPayloadGetsTheInputOfTheRun(t *testing.T) {
	for _, c := range []struct{ input, want string }{
		{`{"max_iterations":2}`, `{"prompt":"q"}`},
		{`{"body":"loop","max_iterations":2,"condition":"true"}`, `{"prompt":"q"}`},
		{`{"max_iterations":2,"until":"input.never"}`, `{"prompt":"q"}`},
		{`{"max_iterations":2,"x":1}`, `{"x":1}`},
	} {
		w := newWorld(t, `{"loop":{"type":"loop","topic":"job.l","input":`+c.input+`}}`, `{"prompt":"q"}`).begin().ok("loop[0]@1", `1`)
		for _, name := range []string{"loop[0]@1", "loop[1]@1"} {
			if got := string(mustJSON(t, w.jobOf(name).Payload)); got != c.want {
				t.Errorf("%s: %s works on %s, want %s", c.input, name, got, c.want)
			}
		}
	}
}

func TestLoops(t *testing.T) {
	body := func(more string) string {
		return `{"loop":{"type":"loop","input":{"body_step":"work"` + more + `}},"work":{"topic":"job.w","input":{"i":"${loop_index}"}},"next":{"depends_on":["loop"]}}`
	}
	w := newWorld(t, body(`,"until":"loop_previous_output.done"`), `{}`).begin().sent(DispatchKind, "loop[0]@1")
	w.ok("loop[0]@1", `{"done":false}`).ok("loop[1]@1", `{"done":true}`).step("loop", Succeeded).sent(DispatchKind, "loop[0]@1", "loop[1]@1", "next@1")
	if w.jobOf("loop[1]@1").Topic != "job.w" {
		t.Error("not the body's topic")
	}
	w = newWorld(t, body(`,"until":"false","max_iterations":2`), `{}`).begin().ok("loop[0]@1").ok("loop[1]@1").status(Failed)
	if got := w.errorOf("loop"); got != "loop max_iterations exceeded (2)" {
		t.Error(got)
	}
	newWorld(t, body(`,"condition":"loop_index == 0","max_iterations":5`), `{}`).begin().ok("loop[0]@1").step("loop", Succeeded)
	w = newWorld(t, body(``), `{}`).begin().job("loop[0]@1", JobFailed, "boom").status(Failed)
	if got := w.errorOf("loop"); got != "loop[0] failed: boom" {
		t.Error(got)
	}
	// A body of the engine's own.
	newWorld(t, `{"loop":{"type":"loop","input":{"body":"work","max_iterations":100}},"work":{"type":"transform","input":{"i":"${loop_index}"}}}`, `{}`).
		begin().status(Succeeded).step("loop[99]", Succeeded)
}

func TestS25_ACircleOfWorkflowsFails(t *testing.T) {
	inner := func(w *world, d *workflow.Workflow, r *Run) {
		d.ID = "B"
		r.CallStack, r.Parent = []string{"A"}, &Parent{"r0", "sub"}
	}
	w := newWorld(t, `{"again":{"type":"subworkflow","input":{"workflow_id":"A"}}}`, `{}`, inner).begin().want(`
		step_failed again failed "circular workflow reference detected: A"
		run_status failed`)
	if len(w.effects) != 1 || *w.effects[0].Notify != (Notify{Parent{"r0", "sub"}, runID, Failed, ""}) {
		t.Errorf("%+v", w.effects)
	}
}

func TestSubworkflows(t *testing.T) {
	steps := `{"sub":{"type":"subworkflow","input":{"workflow_id":"B","input":{"n":"${input.n}"},"output_mapping":{"sum":"${ctx.sum}"}}},
		"next":{"depends_on":["sub"],"input":{"s":"${steps.sub.output.sum}"}}}`
	w := newWorld(t, steps, `{"n":4}`, dryRun).begin()
	child := childRunID(runID, "sub", 1)
	s := w.effects[0].StartRun
	if s == nil || s.RunID != child || s.WorkflowID != "B" || string(mustJSON(t, s.Input)) != `{"n":4}` || !s.DryRun || s.OrgID != "acme" ||
		!slices.Equal(s.CallStack, []string{"wf"}) || s.Parent != (Parent{runID, "sub"}) {
		t.Fatalf("%+v", s)
	}
	if got := string(mustJSON(t, w.load("sub").Output.Inline)); got != `{"run_id":"`+child+`","status":"running","workflow_id":"B"}` {
		t.Error(got)
	}
	w.do(ChildEnded{Record: "sub", RunID: "other", Status: Succeeded}).step("sub", Running)
	w.do(ChildEnded{Record: "sub", RunID: child, Status: Succeeded, Context: tree(t, `{"sum":9}`)})
	if got := string(mustJSON(t, w.jobOf("next@1").Payload)); got != `{"s":9}` {
		t.Error(got)
	}
	w = newWorld(t, steps, `{}`).begin().do(ChildEnded{Record: "sub", RunID: child, Status: Denied, Error: "no"}).status(Denied).step("sub", Denied)
	if got := string(mustJSON(t, w.load("sub").Error)); got != `{"child_run_id":"`+child+`","child_status":"denied","message":"no"}` {
		t.Error(got)
	}
	newWorld(t, steps, `{}`).begin().do(Cancel{}).sent(CancelRunKind, child)
}

func TestS26_Storage(t *testing.T) {
	step := func(op string) string { return `{"s":{"type":"storage","input":` + op + `}}` }
	newWorld(t, step(`{"operation":"read","key":"gone"}`), `{}`).begin().want(`
		step_storage_failed s failed "storage key "gone" not found"
		run_status failed`)
	newWorld(t, `{"a":{"type":"storage","input":{"operation":"write","key":"k.v","value":{"x":1}}},
		"b":{"type":"storage","depends_on":["a"],"input":{"operation":"read","key":"k.v.x"}},
		"c":{"type":"storage","depends_on":["b"],"input":{"operation":"delete","key":"k.v"}}}`, `{}`).begin().status(Succeeded).
		context(`{"k":{},"steps":{"a":{"output":{"key":"k.v","operation":"write","value":{"x":1}}},"b":{"output":{"key":"k.v.x","operation":"read","value":1}},
		"c":{"output":{"key":"k.v","operation":"delete"}}}}`)
	newWorld(t, step(`{"operation":"rename","key":"k"}`), `{}`).begin().status(Failed)
	newWorld(t, step(`{"operation":"write"}`), `{}`).begin().status(Failed)
	newWorld(t, step(`{"operation":"write","key":"steps.x"}`), `{}`).begin().status(Failed)
}

func TestS27_ATransformWithoutInputIsEmpty(t *testing.T) {
	newWorld(t, `{"t":{"type":"transform"}}`, `{"x":1}`).begin().context(`{"steps":{"t":{"output":{}}}}`).status(Succeeded)
}

func TestW11_AnyTypeIsAJob(t *testing.T) {
	for _, kind := range []string{"", "worker", "llm", "http", "container", "script", "input", "frobnicate"} {
		w := newWorld(t, `{"a":{"type":"`+kind+`","topic":"job.mine"},"b":{"type":"`+kind+`"}}`, `{}`).begin().sent(DispatchKind, "a@1", "b@1")
		if w.jobOf("a@1").Topic != "job.mine" || w.jobOf("b@1").Topic != "job.workflow.wf" {
			t.Errorf("%q: %s, %s", kind, w.jobOf("a@1").Topic, w.jobOf("b@1").Topic)
		}
	}
}

func TestW12_ARunWhoseWorkflowIsGoneFails(t *testing.T) {
	w := newWorld(t, `{"a":{},"b":{"depends_on":["a"]}}`, `{}`).begin().do(Deleted{}, JobResult{JobID: "r1:a@1", Status: JobSucceeded}).want(`
		step_dispatched a running a@1
		run_status running
		run_status failed "workflow deleted"`).sent(CancelJobKind, "a@1")
	if w.run.Error != "workflow deleted" || !slices.Equal(w.ignored, []string{RunEnded}) {
		t.Error(w.run.Error, w.ignored)
	}
}

func TestR08_NoStepsSucceedAtOnce(t *testing.T) {
	newWorld(t, `{}`, `{}`).begin().want(`run_status succeeded`).status(Succeeded)
}

func dryRun(_ *world, _ *workflow.Workflow, r *Run) { r.DryRun = true }

func TestR09_ADryRunSaysSoEverywhere(t *testing.T) {
	w := newWorld(t, `{"a":{}}`, `{}`, dryRun).begin()
	j := w.jobOf("a@1")
	if w.run.Labels["dry_run"] != "true" || w.run.Metadata["dry_run"] != "true" || j.Env["dry_run"] != "true" || j.Labels["dry_run"] != "true" || !w.run.DryRun {
		t.Errorf("%+v %+v", w.run, j)
	}
}

func TestR11_PriorityAndMemory(t *testing.T) {
	for _, c := range []struct{ input, priority, memory string }{
		{`{"priority":"critical","memory_id":"m1"}`, "critical", "m1"},
		{`{"priority":" Interactive "}`, "interactive", "run:r1"},
		{`{"priority":"urgent","memory_id":"  "}`, "batch", "run:r1"},
		{`{}`, "batch", "run:r1"},
	} {
		j := newWorld(t, `{"a":{}}`, c.input).begin().jobOf("a@1")
		if j.Priority != c.priority || j.MemoryID != c.memory || j.Env["memory_id"] != c.memory {
			t.Errorf("%s: %s %s", c.input, j.Priority, j.MemoryID)
		}
	}
}

// A switch that waits for a step does not hold it up.
func TestASwitchMayDecideAboutWhatItWaitsFor(t *testing.T) {
	newWorld(t, `{"par":{"type":"parallel","input":{"steps":["a","b"]}},"a":{},"b":{},"sw":{"type":"switch","condition":"1","depends_on":["par"],
		"input":{"cases":{"1":"c","2":"a"},"default":"par"}},"c":{}}`, `{}`).begin().sent(DispatchKind, "a@1", "b@1").ok("a@1").ok("b@1").ok("c@1").status(Succeeded)
}

// The whole of a job, once.
func TestJobOfAStep(t *testing.T) {
	w := newWorld(t, `{"a":{"topic":"job.a","worker_id":"wk","timeout_sec":30,"input":{"x":"${input.x}","n":[1,"${input.y}"]},
		"route_labels":{"zone":"${input.zone}","bad":"${","step_id":"mine"},
		"meta":{"actor_id":" bot ","actor_type":"robot","pack_id":"p","risk_tags":[" a ",""],"labels":{"l":" v "}}}}`, `{"x":{"k":1},"zone":"eu"}`).begin()
	got := string(mustJSON(t, w.jobOf("a@1")))
	want := `{"ID":"r1:a@1","TraceID":"r1","Gate":false,"Topic":"job.a","Priority":"batch","AdapterID":"wk","WorkflowID":"wf","RunID":"r1","StepID":"a",` +
		`"MemoryID":"run:r1","TenantID":"acme","TeamID":"core","PrincipalID":"maya","Payload":{"n":[1,null],"x":{"k":1}},"ContextPtr":"redis://ctx:r1:a@1",` +
		`"Env":{"context_mode":"raw","memory_id":"run:r1","run_id":"r1","step_id":"a","team_id":"core","tenant_id":"acme","workflow_id":"wf"},` +
		`"Labels":{"_source":"workflow","bad":"${","run_id":"r1","step_id":"mine","worker_id":"wk","workflow_id":"wf","zone":"eu"},` +
		`"Meta":{"actor_id":"bot","idempotency_key":"wf:r1:a:1","pack_id":"p","risk_tags":["a"],"labels":{"l":"v"}},"DeadlineMS":30000}`
	if got != want {
		t.Errorf("\n%s\nwant\n%s", got, want)
	}
}

func TestWhatCanNeverRunFailsTheRun(t *testing.T) {
	newWorld(t, `{"a":{"type":"parallel","input":{"steps":["b"]}},"b":{"type":"parallel","input":{"steps":["a"]}}}`, `{}`).begin().status(Failed)
	newWorld(t, `{"a":{"type":"parallel","input":{"steps":["b"]}},"b":{"type":"loop","input":{"body":"a"}}}`, `{}`).begin().status(Failed)
	for name, steps := range map[string]string{
		"unknown dependency": `{"a":{"depends_on":["gone"]}}`,
		"cycle":              `{"a":{"depends_on":["b"]},"b":{"depends_on":["a"]}}`,
		"parallels":          `{"p":{"type":"parallel","input":{"steps":["a"]}},"q":{"type":"parallel","input":{"steps":["b"]}},"a":{"depends_on":["b"]},"b":{"depends_on":["a"]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, steps, `{}`).begin().status(Failed).step("a", Skipped)
			if !strings.HasPrefix(w.run.Error, "steps can never run: a") {
				t.Error(w.run.Error)
			}
		})
	}
}
