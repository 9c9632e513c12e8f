package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/schema"
	"github.com/cordum-serverless/cordum/shared/core/workflow"
)

func TestO01_AResultIsAnOutput(t *testing.T) {
	big := `{"pad":"` + strings.Repeat("x", MaxInline-10) + `"}`
	newWorld(t, `{"x":{"output_path":"out.x"}}`, `{}`).begin().ok("x@1", `{"n":12345678901234567890}`).
		context(`{"out":{"x":{"n":12345678901234567890}},"steps":{"x":{"output":{"n":12345678901234567890},"result_ptr":"redis://res:r1:x@1"}}}`)
	newWorld(t, `{"x":{}}`, `{}`).begin().ok("x@1", big).context(`{"steps":{"x":{"output":` + big + `,"result_ptr":"redis://res:r1:x@1"}}}`)
	newWorld(t, `{"x":{"result_data_path":"data.n"}}`, `{}`).begin().ok("x@1", `{"data":{"n":3}}`).
		context(`{"steps":{"x":{"output":3,"result_ptr":"redis://res:r1:x@1"}}}`)
}

func TestO02_ALargeResultIsItsPointer(t *testing.T) {
	newWorld(t, `{"x":{"output_path":"out"}}`, `{}`).begin().ok("x@1", `"`+strings.Repeat("x", MaxInline)+`"`).
		context(`{"out":"redis://res:r1:x@1","steps":{"x":{"result_ptr":"redis://res:r1:x@1"}}}`)
}

func TestO03_TextIsText(t *testing.T) {
	newWorld(t, `{"x":{}}`, `{}`).begin().ok("x@1", `hello {`).context(`{"steps":{"x":{"output":"hello {","result_ptr":"redis://res:r1:x@1"}}}`)
}

func TestO04_NoPointerNoEntry(t *testing.T) {
	w := newWorld(t, `{"x":{"output_path":"out"}}`, `{}`).begin().ok("x@1").status(Succeeded).context(`{"steps":{}}`)
	if w.load("x").HasOutput {
		t.Error("an output")
	}
}

func TestO05_AnOutputThatItsSchemaRefuses(t *testing.T) {
	w := newWorld(t, `{"x":{"output_schema":{"type":"object"},"retry":{"max_retries":3}}}`, `{}`).begin().ok("x@1", `[1]`).status(Failed)
	message := w.errorOf("x")
	if !strings.HasPrefix(message, "output schema validation failed: ") {
		t.Error(message)
	}
	w.want(`
		step_dispatched x running x@1
		run_status running
		step_output_invalid x failed x@1 "` + message + `"
		step_completed x failed x@1 "` + message + `"
		run_status failed`)
}

func TestO06_AResultThatCannotBeReadIsNotValidated(t *testing.T) {
	w := newWorld(t, `{"x":{"output_schema":{"type":"object"}}}`, `{}`).begin()
	w.do(JobResult{JobID: "r1:x@1", Status: JobSucceeded, ResultPtr: "redis://res:r1:x@1"}).status(Succeeded).
		context(`{"steps":{"x":{"result_ptr":"redis://res:r1:x@1"}}}`)
}

func TestO07_Retries(t *testing.T) {
	steps := `{"x":{"retry":{"max_retries":1}}}`
	newWorld(t, steps, `{}`).begin().job("x@1", JobFailed, "boom").step("x", Pending).status(Running).after(time.Second).ok("x@2").want(`
		step_dispatched x running x@1
		run_status running
		step_dispatched x running x@2
		step_completed x succeeded x@2
		run_status succeeded`)
	w := newWorld(t, steps, `{}`).begin().job("x@1", JobFailed, "boom")
	r := w.load("x")
	if r.Attempts != 1 || r.JobID != "r1:x@1" || r.Error["message"] != "boom" || !r.NextAttemptAt.Equal(w.now.Add(time.Second)) {
		t.Errorf("%+v", r)
	}
	w.after(time.Second).job("x@2", JobTimeout).status(TimedOut).step("x", TimedOut)
	newWorld(t, steps, `{}`).begin().job("x@1", JobFatal, "boom").status(Failed)
	newWorld(t, steps, `{}`).begin().job("x@1", JobRetryable, "boom").status(Running).after(time.Second).job("x@2", JobRetryable, "boom").status(Failed)
	if got := w.jobOf("x@2").Meta.IdempotencyKey; got != "wf:r1:x:2" {
		t.Error(got)
	}
}

func TestRetriesOfChildren(t *testing.T) {
	w := newWorld(t, `{"fan":{"for_each":"input.items","max_parallel":1,"retry":{"max_retries":1}}}`, `{"items":[1,2,3]}`).begin()
	w.job("fan[0]@1", JobFailed, "x").sent(DispatchKind, "fan[0]@1", "fan[1]@1") // a backoff takes no place
	w.after(time.Second).sent(DispatchKind, "fan[0]@1", "fan[1]@1")              // but a retry needs one
	w.ok("fan[1]@1").sent(DispatchKind, "fan[0]@1", "fan[1]@1", "fan[0]@2").ok("fan[0]@2").ok("fan[2]@1").status(Succeeded)
	newWorld(t, `{"loop":{"type":"loop","input":{"max_iterations":1},"retry":{"max_retries":1}}}`, `{}`).begin().job("loop[0]@1", JobFailed, "x").
		status(Running).after(time.Second).ok("loop[0]@2").status(Succeeded)
}

func TestO08_Backoff(t *testing.T) {
	for _, c := range []struct {
		retry workflow.Retry
		want  []int
	}{
		{workflow.Retry{InitialBackoffSec: 2, Multiplier: 1.5, MaxBackoffSec: 8}, []int{2, 3, 4, 6, 8}},
		{workflow.Retry{InitialBackoffSec: 1, Multiplier: 1}, []int{1, 2, 4, 8, 16}},
		{workflow.Retry{}, []int{1, 2, 4, 8, 16}},
		{workflow.Retry{InitialBackoffSec: 1 << 60, Multiplier: 1e300}, []int{1<<31 - 1, 1<<31 - 1}},
	} {
		for k, want := range c.want {
			if got := Backoff(&c.retry, k+1); got != time.Duration(want)*time.Second {
				t.Errorf("%+v: retry %d after %s, want %d s", c.retry, k+1, got, want)
			}
		}
	}
}

func TestO09_ALateResultOfAnEarlierAttemptIsIgnored(t *testing.T) {
	w := newWorld(t, `{"x":{"retry":{"max_retries":1}}}`, `{}`).begin().job("x@1", JobTimeout).after(time.Second).job("x@1", JobFailed, "late")
	w.step("x", Running).status(Running)
	if !slices.Equal(w.ignored, []string{Stale}) {
		t.Error(w.ignored)
	}
}

func TestO10_ADuplicateResultIsIgnored(t *testing.T) {
	w := newWorld(t, `{"a":{},"b":{"depends_on":["a"]}}`, `{}`).begin().ok("a@1")
	lines, sent := len(w.lines), len(w.effects)
	w.do(w.result("a@1", JobSucceeded), w.result("a@1", JobFailed, "x"))
	if len(w.lines) != lines || len(w.effects) != sent || !slices.Equal(w.ignored, []string{Duplicate, Duplicate}) || w.last.Changed {
		t.Error(w.history(), w.ignored)
	}
}

func TestO11_ADuplicateFailureDuringABackoffIsIgnored(t *testing.T) {
	w := newWorld(t, `{"x":{"retry":{"max_retries":3}}}`, `{}`).begin().job("x@1", JobFailed, "x").job("x@1", JobFailed, "y").step("x", Pending)
	if r := w.load("x"); r.Attempts != 1 || r.Error["message"] != "x" || !slices.Equal(w.ignored, []string{Duplicate}) {
		t.Errorf("%+v %v", r, w.ignored)
	}
}

func TestO12_ADenialIsNotRetried(t *testing.T) {
	newWorld(t, `{"x":{"retry":{"max_retries":3}}}`, `{}`).begin().job("x@1", JobDenied, "no").want(`
		step_dispatched x running x@1
		run_status running
		step_completed x denied x@1 "no"
		run_status denied`).step("x", Denied)
	newWorld(t, `{"fan":{"for_each":"input.i"}}`, `{"i":[1]}`).begin().job("fan[0]@1", JobDenied, "no").step("fan", Denied).status(Denied)
}

func TestO13_ACancelledJobFailsTheRun(t *testing.T) {
	newWorld(t, `{"x":{"retry":{"max_retries":3},"on_error":"h"},"h":{}}`, `{}`).begin().job("x@1", JobCancelled).step("x", Cancelled).status(Failed)
}

func TestO14_WhatIsNoEndIsIgnored(t *testing.T) {
	for _, s := range []JobStatus{"RUNNING", "DISPATCHED", "APPROVAL_REQUIRED", "", "succeeded"} {
		w := newWorld(t, `{"x":{}}`, `{}`).begin().job("x@1", s).step("x", Running)
		if !slices.Equal(w.ignored, []string{NotAnEnd}) {
			t.Error(s, w.ignored)
		}
	}
}

func TestO15_AResultForARunThatHasEndedIsIgnored(t *testing.T) {
	w := newWorld(t, `{"a":{},"b":{}}`, `{}`).begin().job("a@1", JobFailed, "x").status(Failed).ok("b@1")
	if !slices.Equal(w.ignored, []string{RunEnded}) {
		t.Error(w.ignored)
	}
	for _, id := range []string{"other:a@1", "r1:zzz@1", "r1", "", "r1:a[0]@1", "r1:b"} {
		w = newWorld(t, `{"a":{},"b":{}}`, `{}`).begin().do(JobResult{JobID: id, Status: JobSucceeded})
		if len(w.ignored) != 1 || w.last.Changed {
			t.Error(id, w.ignored)
		}
	}
}

func TestO16_AnErrorHandlerRecovers(t *testing.T) {
	w := newWorld(t, `{"x":{"on_error":"h"},"h":{"input":{"a":1}},"y":{"depends_on":["x"]},"j":{"depends_on":["x","h"]}}`, `{}`).begin()
	w.sent(DispatchKind, "x@1").job("x@1", JobFailed, "boom").ok("h@1").ok("y@1").ok("j@1").want(`
		step_dispatched x running x@1
		run_status running
		step_completed x failed x@1 "boom"
		step_error_redirect x failed "h"
		step_dispatched h running h@1
		step_completed h succeeded h@1
		step_dispatched j running j@1
		step_dispatched y running y@1
		step_completed y succeeded y@1
		step_completed j succeeded j@1
		run_status succeeded`).step("x", Failed)
	if got := string(mustJSON(t, w.jobOf("h@1").Payload)); got != `{"a":1,"error":{"message":"boom","step_id":"x"}}` {
		t.Error(got)
	}
	// A handler that is not needed is left alone, and so is what only it leads to.
	newWorld(t, `{"x":{"on_error":"h"},"h":{},"after":{"depends_on":["h"]},"join":{"depends_on":["x","h"]}}`, `{}`).begin().ok("x@1").ok("join@1").
		status(Succeeded).step("h", "").step("after", Cancelled)
	newWorld(t, `{"g":{"type":"approval","on_error":"h"},"h":{}}`, `{}`).begin().approve("g", false).status(Running).ok("h@1").status(Succeeded)
	newWorld(t, `{"x":{"condition":"==","on_error":"h"},"h":{"type":"transform"}}`, `{}`).begin().status(Succeeded)
}

func TestO17_ErrorHandlersAllFail(t *testing.T) {
	w := newWorld(t, `{"x":{"on_error":"h1"},"h1":{"on_error":"h2"},"h2":{"on_error":"h1"},"y":{"depends_on":["x"]},"z":{"depends_on":["y"]},
		"apart":{"depends_on":["slow"]},"slow":{}}`, `{}`).begin()
	w.job("x@1", JobDenied, "no").status(Running).job("h1@1", JobDenied, "no").status(Running).job("h2@1", JobTimeout).status(Denied).
		step("y", Skipped).step("z", Skipped).step("apart", "").step("slow", Cancelled)
	if got := w.shown("z").SkipReason; got != "dependency x denied" {
		t.Error(got)
	}
	newWorld(t, `{"x":{"on_error":"h1"},"h1":{"on_error":"h2"},"h2":{},"y":{"depends_on":["x"]}}`, `{}`).begin().
		job("x@1", JobFailed).job("h1@1", JobFailed).ok("h2@1").ok("y@1").status(Succeeded)
}

// Definitions from before such circles were refused are still run.
func TestHandlersThatOnlyLeadToEachOtherAreNoSuccess(t *testing.T) {
	for _, steps := range []string{
		`{"a":{"on_error":"b"},"b":{"on_error":"a","depends_on":["a"]}}`, `{"a":{"on_error":"b"},"b":{"type":"parallel","input":{"steps":["a"]}}}`,
	} {
		w := newWorld(t, steps, `{}`).begin().status(Failed).step("a", Skipped).step("b", Skipped).sent(DispatchKind).sent(GateKind)
		if w.run.Error != "steps can never run: a, b" || w.shown("a").SkipReason != "can never run" {
			t.Errorf("%s: %q, %+v", steps, w.run.Error, w.shown("a"))
		}
	}
	newWorld(t, `{"x":{},"a":{"on_error":"b"},"b":{"on_error":"a"}}`, `{}`).begin().ok("x@1").status(Succeeded).step("a", "")
	newWorld(t, `{}`, `{}`).begin().status(Succeeded)
}

func timeout(n int64) func(*world, *workflow.Workflow, *Run) {
	return func(_ *world, d *workflow.Workflow, _ *Run) { d.TimeoutSec = n }
}

func TestO18_ARunTimesOut(t *testing.T) {
	w := newWorld(t, `{"a":{},"g":{"type":"approval"},"d":{"type":"delay","delay_sec":90},"never":{"depends_on":["a"]},"done":{"type":"transform"}}`, `{}`, timeout(60))
	w.begin().after(59*time.Second).status(Waiting).after(time.Second).status(TimedOut).want(`
		step_dispatched a running a@1
		step_delay_started d running "delay started" {"delay_ms":90000}
		step_transform_completed done succeeded
		step_waiting g waiting g@1 "approval requested"
		run_status waiting
		run_status timed_out "run timed out" {"timeout_sec":60}`).sent(CancelJobKind, "a@1", "g@1")
	for _, id := range []string{"a", "g", "d", "never"} {
		if w.step(id, TimedOut).errorOf(id) != "workflow run timed out" {
			t.Error(id, w.errorOf(id))
		}
	}
	if w.step("done", Succeeded).run.Error != "workflow run timed out" {
		t.Error(w.run.Error)
	}
	// It is seen with whatever comes first after the time.
	w = newWorld(t, `{"a":{}}`, `{}`, timeout(60)).begin()
	w.now = w.now.Add(time.Hour)
	if w.ok("a@1").status(TimedOut); !slices.Equal(w.ignored, []string{RunEnded}) {
		t.Error(w.ignored)
	}
	// A run that was not started does not.
	w = newWorld(t, `{"a":{}}`, `{}`, timeout(60))
	w.now = w.now.Add(time.Hour)
	w.begin().status(Running)
}

func TestWhatOthersWriteIsCut(t *testing.T) {
	long := strings.Repeat("é", MaxMessage)
	if got := newWorld(t, `{"a":{}}`, `{}`).begin().job("a@1", JobFailed, long).errorOf("a"); len(got) > MaxMessage+3 {
		t.Errorf("%d bytes", len(got))
	}
	w := newWorld(t, `{"a":{"type":"notify","input":{"message":"${input.x}"}},"b":{"route_labels":{"l":"${input.x}"}}}`, `{"x":"`+long+`"}`).begin()
	if got := w.jobOf("b@1").Labels["l"]; got != "${input.x}" || len(w.history()) > 2*MaxMessage || len(w.effects[0].Alert.Message) != len(long) {
		t.Error(got, len(w.history()))
	}
}

func TestO19_ALostResult(t *testing.T) {
	w := newWorld(t, `{"x":{}}`, `{}`).begin().do(JobResult{JobID: "r1:x@1", Status: JobFailed, Error: "old", Found: true}).status(Failed)
	if got := w.errorOf("x"); got != "job state: FAILED" {
		t.Error(got)
	}
	newWorld(t, `{"x":{}}`, `{}`).begin().do(JobResult{JobID: "r1:x@1", Status: JobSucceeded, Found: true}).status(Succeeded)
}

// The same events give the same run, however often they are delivered.
func TestAnEventThatIsDeliveredAgainIsAppliedOnce(t *testing.T) {
	w := newWorld(t, `{"x":{}}`, `{}`).begin()
	e := w.result("x@1", JobSucceeded)
	a, err := Advance(w.plan, w.run, everything{w}, []Event{e}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Advance(w.plan, w.run, everything{w}, []Event{e, e}, w.now)
	if err != nil || string(mustJSON(t, a.Run)) != string(mustJSON(t, b.Run)) || len(b.Ignored) != 1 {
		t.Error(err, b.Ignored)
	}
}

func TestE02_AnAbsentOptionalInputIsLeftOut(t *testing.T) {
	j := newWorld(t, `{"a":{"input":{"m":"${input.m}","n":"${input.n}"}}}`, `{"m":1}`).begin().jobOf("a@1")
	if got := string(mustJSON(t, j.Payload)); got != `{"m":1}` {
		t.Error(got)
	}
}

func TestE03_AnAbsentRequiredInputFailsTheStep(t *testing.T) {
	newWorld(t, `{"a":{"input":{"m":"${input.m}"},"input_schema":{"required":["m"]}}}`, `{}`).begin().want(`
		step_failed a failed "input m is required, and its template ${input.m} gives nothing"
		run_status failed`)
}

func TestE06_WithoutInputThePayloadIsThatOfTheRun(t *testing.T) {
	for _, input := range []string{"", `,"input":{}`} {
		j := newWorld(t, `{"a":{"topic":"job.a"`+input+`}}`, `{"m":1}`).begin().jobOf("a@1")
		if got := string(mustJSON(t, j.Payload)); got != `{"m":1}` {
			t.Error(got)
		}
	}
}

func TestF15_AMissingSchemaFailsTheStep(t *testing.T) {
	newWorld(t, `{"a":{"input_schema_id":"p/gone"}}`, `{}`).begin().want(`
		step_failed a failed "input schema: p/gone not found"
		run_status failed`)
	s, err := schema.Compile([]byte(`{"required":["x"]}`), "p/there")
	if err != nil {
		t.Fatal(err)
	}
	registered := func(w *world, _ *workflow.Workflow, _ *Run) { w.schema = map[string]*schema.Schema{"p/there": s} }
	newWorld(t, `{"a":{"input_schema_id":"p/there"}}`, `{"x":1}`, registered).begin().status(Running)
	newWorld(t, `{"a":{"input_schema_id":"p/there"}}`, `{}`, registered).begin().status(Failed)
}

func TestC01_ACancelEndsEverything(t *testing.T) {
	w := newWorld(t, `{"a":{},"b":{"for_each":"input.i"},"g":{"type":"approval"},"c":{"depends_on":["a"]},"z":{"type":"transform"}}`, `{"i":[1]}`).begin()
	w.do(Cancel{By: "maya"}).status(Cancelled).sent(CancelJobKind, "a@1", "b[0]@1", "g@1")
	w.step("a", Cancelled).step("b", Cancelled).step("b[0]", Cancelled).step("g", Cancelled).step("c", Cancelled).step("z", Succeeded)
	if got := w.lines[len(w.lines)-1]; got != `run_status cancelled "run cancelled" {"cancelled_by":"maya"}` {
		t.Error(got)
	}
	c := w.effects[len(w.effects)-1].Cancel
	if *c != (CancelJob{"r1:g@1", "workflow run cancelled", "workflow-engine"}) {
		t.Errorf("%+v", c)
	}
	newWorld(t, `{"a":{}}`, `{}`).do(Cancel{}).status(Cancelled).step("a", Cancelled).sent(DispatchKind).begin().sent(DispatchKind)
}

func TestC02_ACancelOfAnEndedRunChangesNothing(t *testing.T) {
	w := newWorld(t, `{}`, `{}`).begin().do(Cancel{}).status(Succeeded)
	if w.last.Changed || !slices.Equal(w.ignored, []string{RunEnded}) {
		t.Error(w.ignored)
	}
}

// again makes the world of a run that repeats another.
func again(w *world, plan *Plan, from string, dry bool) (*world, error) {
	made := *w
	made.plan = plan
	run, records, err := Rerun(plan, w.plan, w.run, everything{w}, "r2", from, dry, w.now)
	if err != nil {
		return nil, err
	}
	made.run, made.lines, made.effects, made.times, made.records = run, nil, nil, map[string]int{}, map[string][]byte{}
	made.keep(&Result{Run: run, Records: records})
	return &made, nil
}

func TestC03_ARerunFromAStepTakesOverWhatItDependsOn(t *testing.T) {
	w := newWorld(t, `{"s1":{"output_path":"one"},"fan":{"for_each":"input.i","depends_on":["s1"]},"s2":{"depends_on":["fan"],"input":{"a":"${steps.s1.output}",
		"b":"${steps.fan[0].output}"}},"other":{"output_path":"two"},"s3":{"depends_on":["s2"]}}`, `{"i":[1]}`)
	w.run.Labels, w.run.IdempotencyKey = map[string]string{"l": "v"}, "k"
	w.begin().ok("s1@1", `"A"`).ok("other@1", `"O"`).ok("fan[0]@1", `"F"`).job("s2@1", JobFailed, "x").status(Failed)
	v, err := again(w, w.plan, "s2", false)
	if err != nil {
		t.Fatal(err)
	}
	if r := v.run; r.RerunOf != runID || r.RerunStep != "s2" || r.Metadata["rerun_of"] != runID || r.Metadata["rerun_step"] != "s2" || r.Labels["l"] != "v" ||
		r.IdempotencyKey != "" || r.Status != Pending || r.DryRun || r.TriggeredBy != "maya" {
		t.Errorf("%+v", r)
	}
	v.context(`{"one":"A","two":"O","steps":{"s1":{"output":"A","result_ptr":"redis://res:r1:s1@1"},"fan[0]":{"output":"F","result_ptr":"redis://res:r1:fan[0]@1"}}}`)
	v.begin().want(`
		step_dispatched other running r2:other@1
		step_dispatched s2 running r2:s2@1
		run_status running`).step("s1", Succeeded)
	if got := string(mustJSON(t, v.effects[1].Job.Payload)); got != `{"a":"A","b":"F"}` {
		t.Error(got)
	}
	if v, err = again(w, w.plan, "", false); err != nil || len(v.records) != 0 || v.run.RerunOf != runID || v.run.RerunStep != "" {
		t.Errorf("%v %+v", err, v)
	}
}

func TestRerunKeepsWhatASwitchDecided(t *testing.T) {
	w := newWorld(t, `{"sw":{"type":"switch","condition":"input.k","input":{"cases":{"a":"one","b":"two"}}},"one":{},"two":{},
		"par":{"type":"parallel","depends_on":["one"],"input":{"steps":["c","d"],"strategy":"any"}},"c":{},"d":{},"end":{"depends_on":["par"]}}`, `{"k":"a"}`).
		begin().ok("one@1").ok("c@1").job("end@1", JobFailed).status(Failed)
	v, err := again(w, w.plan, "end", false)
	if err != nil {
		t.Fatal(err)
	}
	v.begin().want(`
		step_dispatched end running r2:end@1
		run_status running`)
}

func TestC04_RerunsThatAreRefused(t *testing.T) {
	w := newWorld(t, `{"a":{},"b":{"depends_on":["a"]},"c":{"depends_on":["b"]}}`, `{}`).begin().job("a@1", JobFailed, "x")
	for step, want := range map[string]string{"b": "dependency a not succeeded", "c": "dependency b not succeeded", "zzz": "step not found"} {
		if _, err := again(w, w.plan, step, false); err == nil || err.Error() != want {
			t.Errorf("%s: %v", step, err)
		}
	}
}

func TestC05_ADryRerun(t *testing.T) {
	v, err := again(newWorld(t, `{"a":{}}`, `{}`).begin(), newWorld(t, `{"a":{}}`, `{}`).plan, "", true)
	if err != nil || !v.run.DryRun || v.run.Labels["dry_run"] != "true" || v.run.Metadata["dry_run"] != "true" {
		t.Errorf("%v %+v", err, v)
	}
}

func TestA01_AnApprovedGateLetsTheRunGoOn(t *testing.T) {
	w := newWorld(t, `{"g":{"type":"approval","name":"Pay?","input":{"amount":"${input.n}"}},"b":{"depends_on":["g"]}}`, `{"n":5}`).begin().status(Waiting).sent(DispatchKind)
	j := w.jobOf("g@1")
	payload := `{"decision":{"amount":5},"kind":"workflow_approval_context","version":1,"workflow":{"requested_at":"2026-02-13T01:00:00Z","run_id":"r1","step_id":"g",` +
		`"step_name":"Pay?","team_id":"core","tenant_id":"acme","triggered_by":"maya","workflow_id":"wf","workflow_name":"Flow"}}`
	if got := string(mustJSON(t, j.Payload)); got != payload || !j.Gate || j.Priority != "interactive" || j.Labels["gate_type"] != "workflow_approval" ||
		j.Meta.IdempotencyKey != "wf:r1:g:1:approval" {
		t.Errorf("%+v", j)
	}
	w.approve("g", true).ok("b@1").want(`
		step_waiting g waiting g@1 "approval requested"
		run_status waiting
		step_approved g succeeded g@1 {"by":"alice"}
		step_dispatched b running b@1
		run_status running
		step_completed b succeeded b@1
		run_status succeeded`)
}

func TestA02_ARejectedGateFailsTheRun(t *testing.T) {
	newWorld(t, `{"g":{"type":"approval","retry":{"max_retries":3}},"b":{"depends_on":["g"]}}`, `{}`).begin().approve("g", false).want(`
		step_waiting g waiting g@1 "approval requested"
		run_status waiting
		step_rejected g failed g@1 "approval rejected" {"by":"alice"}
		run_status failed`).step("g", Failed).step("b", Skipped)
}

func TestA03_AGateIsDecidedOnce(t *testing.T) {
	w := newWorld(t, `{"g":{"type":"approval"},"b":{"depends_on":["g"]}}`, `{}`).begin().approve("g", true)
	for _, c := range []struct {
		e    Approval
		want string
	}{
		{Approval{JobID: "r1:g@1", Approved: true}, NotWaiting}, {Approval{JobID: "r1:g@1"}, NotWaiting}, {Approval{JobID: "r1:b@1", Approved: true}, NotWaiting},
		{Approval{JobID: "r1:zzz@1", Approved: true}, NoStep},
	} {
		if w.do(c.e); !slices.Equal(w.ignored, []string{c.want}) {
			t.Errorf("%+v: %v", c.e, w.ignored)
		}
	}
	w.step("g", Succeeded).status(Running)
}

// The other door: the gate's job was decided.
func TestAGateIsDecidedThroughItsJob(t *testing.T) {
	steps := `{"g":{"type":"approval"},"b":{"depends_on":["g"]}}`
	w := newWorld(t, steps, `{}`).begin().do(Approval{JobID: "r1:g@1", Approved: true, By: "bob", Reason: "fine"}).sent(DispatchKind, "b@1")
	if got := w.lines[2]; got != `step_approved g succeeded g@1 {"by":"bob","reason":"fine"}` {
		t.Error(got)
	}
	newWorld(t, steps, `{}`).begin().do(Approval{JobID: "r1:g@1", Reason: "too much"}).step("g", Failed).status(Failed)
	if w = newWorld(t, steps, `{}`).begin().do(Approval{JobID: "r1:g@2", Approved: true}).step("g", Waiting); !slices.Equal(w.ignored, []string{Stale}) {
		t.Error(w.ignored)
	}
	// A result decides nothing, but a job that is no more asks nobody.
	if w = newWorld(t, steps, `{}`).begin().ok("g@1").step("g", Waiting); !slices.Equal(w.ignored, []string{NotAGate}) {
		t.Error(w.ignored)
	}
	w = newWorld(t, steps, `{}`).begin().job("g@1", JobDenied, "too much").step("g", Failed).status(Failed)
	if got := w.lines[2]; got != `step_rejected g failed g@1 "too much" {"reason":"too much"}` {
		t.Error(got)
	}
	newWorld(t, steps, `{}`).begin().job("g@1", JobCancelled).step("g", Cancelled).status(Failed).sent(DispatchKind)
	// A gate that nobody could judge is not opened.
	newWorld(t, `{"g":{"type":"approval","input":{"a":"${"}}}`, `{}`).begin().status(Failed).sent(GateKind)
}

func TestA13_ADecisionAfterTheRunWasCancelledIsRefused(t *testing.T) {
	w := newWorld(t, `{"g":{"type":"approval"}}`, `{}`).begin().do(Cancel{}).approve("g", true).status(Cancelled)
	if !slices.Equal(w.ignored, []string{RunEnded}) {
		t.Error(w.ignored)
	}
}

// A thousand children: what one costs does not depend on how many there are.
func TestAThousandChildren(t *testing.T) {
	items, err := json.Marshal(slices.Repeat([]string{"item"}, MaxItems))
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, `{"fan":{"for_each":"input.items","max_parallel":10,"retry":{"max_retries":1},"input":{"x":"${item}"}},"end":{"depends_on":["fan"]}}`,
		`{"items":`+string(items)+`}`).begin()
	if len(w.records) != 11 {
		t.Errorf("%d records after the start", len(w.records))
	}
	for i := range MaxItems {
		w.ok(fmt.Sprintf("fan[%d]@1", i), `{"v":1}`)
		if len(w.touched) > 3 || w.loads > 5 {
			t.Fatalf("child %d: records %v, %d loads", i, w.touched, w.loads)
		}
		if n := len(mustJSON(t, w.run)); n > 4<<10 {
			t.Fatalf("child %d: a header of %d bytes", i, n)
		}
	}
	w.sent(CancelJobKind).step("fan", Succeeded).step("end", Running)
}

// All at once: never more than MaxSend effects are outstanding, and a failure is swept in slices.
func TestAThousandChildrenAtOnce(t *testing.T) {
	w := newWorld(t, `{"fan":{"for_each":"input.items"}}`, `{"items":[`+strings.TrimSuffix(strings.Repeat("1,", MaxItems), ",")+`]}`)
	w.hold = true
	w.begin()
	if n := len(w.run.Outbox); n != MaxSend-1 {
		t.Errorf("%d effects at first", n)
	}
	w.hold = false
	w.do(Resend{})
	if n := len(w.effects); n != MaxItems {
		t.Errorf("%d effects", n)
	}
	w.job("fan[500]@1", JobFailed, "x").status(Failed).step("fan[0]", Cancelled)
	cancels := 0
	for id, n := range w.times {
		if strings.HasPrefix(id, "cancel:") {
			cancels += n
		}
	}
	if cancels != MaxItems-1 || len(w.run.Sweeps) > 0 {
		t.Errorf("%d cancels", cancels)
	}
}

// Five hundred steps: an event reads and writes its step and what it starts.
func TestFiveHundredSteps(t *testing.T) {
	w := newWorld(t, string(mustJSON(t, chain(500))), `{}`).begin()
	for i := range 500 {
		w.ok(fmt.Sprintf("s%03d@1", i), `{"v":1}`)
		if len(w.touched) > 2 || w.rounds > 1 {
			t.Fatalf("step %d: records %v, %d rounds", i, w.touched, w.rounds)
		}
	}
	w.status(Succeeded)
	wide := map[string]any{}
	for i := range 500 {
		wide[fmt.Sprintf("s%03d", i)] = map[string]any{"type": "transform"}
	}
	newWorld(t, string(mustJSON(t, wide)), `{}`).begin().status(Succeeded)
	// A cancel, too, goes in slices, and its header stays small.
	for id := range wide {
		wide[id] = map[string]any{}
	}
	w = newWorld(t, string(mustJSON(t, wide)), `{}`)
	if w.begin().do(Cancel{}).status(Cancelled).step("s499", Cancelled); len(w.effects) != 1000 {
		t.Errorf("%d effects", len(w.effects))
	}
}

// A definition can make steps wait for one another in many ways. Looking at them takes no longer for that.
func TestWaysDoNotMultiply(t *testing.T) {
	steps := map[string]any{"start": map[string]any{"on_error": "p23"}, "h": map[string]any{}, "end": map[string]any{"depends_on": []string{"h"}}}
	handler := "h"
	for level := range 24 {
		var children []string
		for k := range 10 {
			id := fmt.Sprintf("g%02d_%d", level, k)
			children = append(children, id)
			steps[id] = map[string]any{"on_error": handler}
		}
		handler = fmt.Sprintf("p%02d", level)
		steps[handler] = map[string]any{"type": "parallel", "input": map[string]any{"steps": children}}
	}
	start := time.Now()
	newWorld(t, string(mustJSON(t, steps)), `{}`).begin().ok("start@1").status(Succeeded).step("end", Cancelled)
	if time.Since(start) > 5*time.Second {
		t.Error("it takes for ever")
	}
}

func TestAThousandInlineChildren(t *testing.T) {
	w := newWorld(t, `{"fan":{"type":"transform","for_each":"input.items","input":{"x":"${item}"}},"sum":{"type":"transform","depends_on":["fan"],"input":{"x":"${steps.fan[999].output.x}"}}}`,
		`{"items":[`+strings.TrimSuffix(strings.Repeat("7,", MaxItems), ",")+`]}`).begin().status(Succeeded)
	if got := string(mustJSON(t, w.load("sum").Output.Inline)); got != `{"x":7}` || w.passes > 30 {
		t.Error(got, w.passes)
	}
}

// chain is steps that each need the one before.
func chain(n int) map[string]any {
	steps := map[string]any{"s000": map[string]any{}}
	for i := 1; i < n; i++ {
		steps[fmt.Sprintf("s%03d", i)] = map[string]any{
			"depends_on": []string{fmt.Sprintf("s%03d", i-1)}, "input": map[string]any{"p": fmt.Sprintf("${steps.s%03d.output}", i-1)},
		}
	}
	return steps
}

// Blamed are steps that nothing mended; Why is what the one says that ended the run, whatever was taken down with it.
func TestWhyARunHasFailed(t *testing.T) {
	for _, c := range []struct {
		name, steps string
		do          func(w *world)
		blamed, why string
	}{
		{"none", `{"a":{}}`, func(w *world) { w.ok("a@1") }, "", ""},
		{"mended", `{"a":{"on_error":"h"},"h":{},"z":{}}`, func(w *world) { w.job("a@1", JobFailed, "x").ok("h@1").job("z@1", JobFailed, "y") }, "z", "y"},
		{"the handler too", `{"a":{"on_error":"h"},"h":{}}`, func(w *world) { w.job("a@1", JobFailed, "x").job("h@1", JobFailed, "y") }, "a", "x"},
		{"two, one after the other", `{"a":{"on_error":"h"},"b":{},"h":{}}`,
			func(w *world) { w.job("a@1", JobFailed, "x").after(time.Second).job("b@1", JobFailed, "y") }, "a b", "y"},
		{"a child of a parallel", `{"p":{"type":"parallel","input":{"steps":["a"]}},"a":{}}`, func(w *world) { w.job("a@1", JobFailed, "x") }, "p", "parallel all: 1 of 1 steps failed"},
		{"cancelled", `{"a":{},"b":{}}`, func(w *world) { w.job("b@1", JobCancelled) }, "a b", "job cancelled"},
	} {
		w := newWorld(t, c.steps, `{}`).begin()
		c.do(w)
		blamed := Blamed(w.plan, w.run)
		var records []*Record
		for _, id := range blamed {
			records = append(records, w.load(id))
		}
		if got, why := strings.Join(blamed, " "), Why(records); got != c.blamed || why != c.why {
			t.Errorf("%s: %q for %q", c.name, got, why)
		}
	}
}
