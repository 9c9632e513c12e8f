package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/workflow"
)

// A gate that a parallel step took back was never decided: what names it as a dependency does not run, whatever else it depends on.
func TestNothingRunsBehindAGateThatWasTakenBack(t *testing.T) {
	w := newWorld(t, `{"par":{"type":"parallel","input":{"steps":["gate","a"],"strategy":"any"}},"gate":{"type":"approval"},"a":{},
		"pay":{"depends_on":["gate","par"]},"free":{"depends_on":["par"]}}`, `{}`).begin().ok("a@1").sent(DispatchKind, "a@1", "free@1")
	w.step("gate", Cancelled).step("pay", Cancelled).ok("free@1").status(Succeeded).sent(CancelJobKind, "gate@1")
}

// An approval that is an item of a list asks for each.
func TestGatesOfAFanOut(t *testing.T) {
	w := newWorld(t, `{"g":{"type":"approval","for_each":"input.i","input":{"what":"${item}"}},"b":{"depends_on":["g"]}}`, `{"i":["x","y"]}`).begin()
	w.sent(GateKind, "g[0]@1", "g[1]@1").approve("g[1]", true).sent(DispatchKind).do(Approval{JobID: "r1:g[0]@1", Approved: true}).sent(DispatchKind, "b@1")
}

func TestParallelWaitsForTheHandlersOfItsChildren(t *testing.T) {
	w := newWorld(t, `{"par":{"type":"parallel","input":{"steps":["a"]}},"a":{"on_error":"h"},"h":{},"z":{"depends_on":["par"]},"slow":{}}`, `{}`).begin()
	w.job("a@1", JobFailed, "x").step("par", Running).ok("h@1").step("par", Succeeded).ok("z@1").ok("slow@1").status(Succeeded)
	w = newWorld(t, `{"par":{"type":"parallel","input":{"steps":["a","b"],"strategy":"any"}},"a":{"on_error":"h"},"b":{"retry":{"max_retries":1}},"h":{}}`, `{}`).begin()
	w.job("a@1", JobFailed, "x").job("h@1", JobFailed, "y").status(Running).job("b@1", JobFailed).after(time.Second).ok("b@2").status(Succeeded)
}

// A parallel in a parallel: when the outer one is decided, so are all below.
func TestParallelsInEachOther(t *testing.T) {
	w := newWorld(t, `{"out":{"type":"parallel","input":{"steps":["in","a"],"strategy":"any"}},"in":{"type":"parallel","input":{"steps":["b","c"]}},"a":{},"b":{},"c":{}}`, `{}`)
	w.begin().sent(DispatchKind, "a@1", "b@1", "c@1").ok("a@1").status(Succeeded).sent(CancelJobKind, "b@1", "c@1").step("in", Cancelled).step("b", Cancelled)
}

func TestAChildOfAParallelThatCannotStartHasFailed(t *testing.T) {
	w := newWorld(t, `{"p":{"type":"parallel","input":{"steps":["a","b"],"strategy":"any"}},"q":{"type":"parallel","input":{"steps":["c","d"]}},
		"a":{},"b":{},"c":{"depends_on":["a"]},"d":{}}`, `{}`).begin().job("a@1", JobFailed, "x").step("p", Running).ok("d@1").status(Failed)
	if got := w.errorOf("q"); got != "parallel all: 1 of 2 steps failed" {
		t.Error(got)
	}
}

func TestTheWholeContext(t *testing.T) {
	w := newWorld(t, `{"fan":{"for_each":"input.i"},"loop":{"type":"loop","input":{"max_iterations":1}},"s":{"type":"storage","input":{"operation":"write","key":"k","value":1}},
		"all":{"type":"transform","depends_on":["fan","loop","s"],"input":{"c":"${ctx}","n":"${length(steps)}","l":"${steps.loop[0].output}","none":"${steps.loop[7].output}"}}}`,
		`{"i":[1]}`).begin().ok("fan[0]@1", `"f"`).ok("loop[0]@1", `"l"`).status(Succeeded)
	out, _ := tree(t, w.contextOf()).(map[string]any)
	v, _ := at(out, []string{"steps", "all", "output"})
	m, _ := v.(map[string]any)
	if got := string(mustJSON(t, m["n"])) + string(mustJSON(t, m["l"])); got != `4"l"` || m["none"] != nil {
		t.Error(got)
	}
	if fan, ok := at(m["c"], []string{"steps", "fan[0]", "output"}); !ok || fan != "f" {
		t.Errorf("%v", m["c"])
	}
}

func TestLoopTermsMayBeTemplates(t *testing.T) {
	steps := `{"loop":{"type":"loop","input":{"max_iterations":"${input.n}","until":"steps.x.output"}},"x":{}}`
	w := newWorld(t, steps, `{"n":1}`).begin().ok("loop[0]@1").status(Failed)
	if got := w.errorOf("loop"); got != "loop max_iterations exceeded (1)" {
		t.Error(got)
	}
	newWorld(t, steps, `{"n":"many"}`).begin().status(Failed)
	newWorld(t, `{"loop":{"type":"loop","input":{"body":"gone"}}}`, `{}`).begin().status(Failed)
	newWorld(t, `{"loop":{"type":"loop","input":{"body":"p"}},"p":{"type":"parallel"}}`, `{}`).begin().status(Failed)
	newWorld(t, `{"loop":{"type":"loop","input":{"condition":"input =="}}}`, `{}`).begin().status(Failed)
	// A gate as the body of a loop asks each time.
	newWorld(t, `{"loop":{"type":"loop","input":{"body":"g","max_iterations":2}},"g":{"type":"approval"}}`, `{}`).begin().
		approve("loop[0]", true).approve("loop[1]", true).status(Succeeded).sent(GateKind, "loop[0]@1", "loop[1]@1")
}

func TestOutputsOfTheEnginesOwnAreChecked(t *testing.T) {
	newWorld(t, `{"t":{"type":"transform","input":{"a":"${input.a}"},"output_schema":{"required":["a"]}}}`, `{}`).begin().status(Failed)
	newWorld(t, `{"t":{"type":"transform","input":{"a":"${"}}}`, `{}`).begin().status(Failed)
	newWorld(t, `{"t":{"type":"notify","input":{"a":"${"}}}`, `{}`).begin().status(Failed)
	newWorld(t, `{"t":{"output_schema":{"type":"objekt"}}}`, `{}`).begin().ok("t@1", `1`).status(Failed)
	newWorld(t, `{"p":{"type":"parallel","input":{"steps":["a"]},"output_schema":{"type":"array"}},"a":{}}`, `{}`).begin().ok("a@1").status(Failed)
}

func TestContextPaths(t *testing.T) {
	put := func(path string) *world {
		return newWorld(t, `{"a":{"type":"transform","input":{"v":1},"output_path":"k"},"b":{"type":"transform","depends_on":["a"],"output_path":"`+path+`"}}`, `{}`).begin().status(Succeeded)
	}
	rest := `"steps":{"a":{"output":{"v":1}},"b":{"output":{}}}`
	put("k.v.w").context(`{"k":{"v":{"w":{}}},` + rest + `}`)
	put("k..w").context(`{"k":{"v":1},` + rest + `}`)
	put("steps.a").context(`{"k":{"v":1},` + rest + `}`)
	w := newWorld(t, `{"a":{"type":"storage","input":{"operation":"write","key":"k.x","value":1}},"b":{"type":"storage","depends_on":["a"],"input":{"operation":"delete","key":"k"}},
		"c":{"type":"storage","depends_on":["b"],"input":{"operation":"delete","key":"k.x.y"}},"d":{"type":"storage","depends_on":["c"],"input":{"operation":"read","key":"steps.a.output.key"}},
		"e":{"depends_on":["d"]},"f":{"type":"storage","depends_on":["e"],"input":{"operation":"write","key":"k.y","value":2}}}`, `{}`).begin()
	if got := w.ok("e@1").status(Succeeded).contextOf(); !strings.HasPrefix(got, `{"k":{"y":2},`) {
		t.Error(got)
	}
}

func TestSubworkflowsAreTriedAgain(t *testing.T) {
	w := newWorld(t, `{"s":{"type":"subworkflow","input":{"workflow_id":"B","output_mapping":{"x":"${ctx.x"}},"retry":{"max_retries":1}}}`, `{}`).begin()
	end := func(attempt int, s Status) ChildEnded {
		return ChildEnded{Record: "s", RunID: childRunID(runID, "s", attempt), Status: s, Context: map[string]any{}}
	}
	w.do(end(1, Running)).step("s", Running).do(end(1, Failed)).step("s", Pending).do(end(1, Succeeded)).step("s", Pending).after(time.Second)
	w.sent(StartRunKind, childRunID(runID, "s", 1), childRunID(runID, "s", 2)).do(end(2, Succeeded)).status(Failed)
	if got := w.errorOf("s"); !strings.HasPrefix(got, "output_mapping: /x") {
		t.Error(got)
	}
	newWorld(t, `{"x":{"on_error":"s"},"s":{"type":"subworkflow","input":{"workflow_id":"B"}}}`, `{}`).begin().job("x@1", JobFailed, "boom").do(end(1, Succeeded)).
		status(Succeeded).context(`{"steps":{"s":{"output":{}}}}`)
	newWorld(t, `{"s":{"type":"subworkflow"}}`, `{}`).begin().status(Failed)
	newWorld(t, `{"s":{}}`, `{}`).begin().do(end(1, Succeeded)).step("s", Running)
}

func TestRerunTakesLoopsOver(t *testing.T) {
	w := newWorld(t, `{"loop":{"type":"loop","input":{"max_iterations":2}},"end":{"depends_on":["loop"],"input":{"x":"${steps.loop[1].output}"}}}`, `{}`).begin().
		ok("loop[0]@1", `1`).ok("loop[1]@1", `2`).job("end@1", JobFailed, "x")
	v, err := again(w, w.plan, "end", false)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(mustJSON(t, v.begin().effects[0].Job.Payload)); got != `{"x":2}` {
		t.Error(got)
	}
	var m *Missing
	if _, _, err := Rerun(w.plan, w.plan, w.run, &loaded{}, "r2", "end", false, w.now); !errors.As(err, &m) || !strings.Contains(m.Error(), "loop") {
		t.Error(err)
	}
	other := newWorld(t, `{"a":{}}`, `{}`).plan
	if _, _, err := Rerun(other, other, w.run, everything{w}, "r2", "", false, w.now); !errors.Is(err, ErrPlan) {
		t.Error(err)
	}
	if _, err := Advance(other, w.run, everything{w}, nil, w.now); !errors.Is(err, ErrPlan) {
		t.Error(err)
	}
}

// What a definition says about a child run is part of its header.
func TestAChildRunKnowsItsParent(t *testing.T) {
	w := newWorld(t, `{}`, `{}`, func(_ *world, _ *workflow.Workflow, r *Run) {
		r.Parent, r.CallStack = &Parent{"r0", "sub"}, []string{"A", "B"}
	}).begin()
	m := w.run.Metadata
	if m["parent_run_id"] != "r0" || m["parent_step_id"] != "sub" || m["call_stack"] != "A,B" {
		t.Error(m)
	}
	if n := w.effects[0].Notify; *n != (Notify{Parent{"r0", "sub"}, runID, Succeeded, ""}) {
		t.Errorf("%+v", n)
	}
}

// Effects that were not confirmed are made again, exactly, and only those.
func TestEffectsAreMadeAgainUntilTheyAreConfirmed(t *testing.T) {
	w := newWorld(t, `{"a":{"input":{"x":1}},"g":{"type":"approval"},"n":{"type":"notify"},"s":{"type":"subworkflow","input":{"workflow_id":"B"}}}`, `{}`)
	w.hold = true
	w.begin()
	first := mustJSON(t, w.last.Effects)
	if w.do(Resend{}); string(mustJSON(t, w.last.Effects)) != string(first) {
		t.Errorf("%s, not %s", mustJSON(t, w.last.Effects), first)
	}
	w.do(Sent{[]string{"dispatch:r1:a@1", "gate:r1:g@1", "unknown"}}, Sent{[]string{"dispatch:r1:a@1"}}, Resend{})
	if len(w.last.Effects) != 2 || !slices.Equal(w.ignored, []string{Duplicate}) {
		t.Errorf("%+v %v", w.last.Effects, w.ignored)
	}
}

func TestStartTwice(t *testing.T) {
	w := newWorld(t, `{"a":{}}`, `{}`).begin().begin()
	if !slices.Equal(w.ignored, []string{Duplicate}) || len(w.effects) != 1 {
		t.Error(w.ignored)
	}
}

func TestTimersThatAreNotDue(t *testing.T) {
	w := newWorld(t, `{"d":{"type":"delay","delay_sec":5},"a":{}}`, `{}`).begin()
	for id, want := range map[string]string{"": Early, "d": Early, "a": Duplicate, "zzz": NoStep, "a[0]": NoStep} {
		if w.do(Timer{id}); !slices.Equal(w.ignored, []string{want}) || w.last.Changed {
			t.Errorf("%q: %v", id, w.ignored)
		}
	}
}

// BenchmarkAdvance is one step of a chain: its result, and the start of the next.
func BenchmarkAdvance(b *testing.B) {
	w := newWorld(b, `{"a":{},"b":{"depends_on":["a"],"input":{"x":"${steps.a.output.v}","y":"${input.z}"}},"c":{"depends_on":["b"]}}`, `{"z":1}`).begin()
	src := everything{w}
	events := []Event{w.result("a@1", JobSucceeded, `{"v":7}`), Sent{[]string{"dispatch:r1:a@1"}}}
	records := &loaded{records: map[string]*Record{"a": src.load("a"), "b": nil}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Advance(w.plan, w.run, records, events, w.now); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAdvanceOf500 is the same in a run of 500 steps.
func BenchmarkAdvanceOf500(b *testing.B) {
	w := newWorld(b, string(mustJSON(b, chain(500))), `{}`).begin()
	records := &loaded{records: map[string]*Record{"s000": w.load("s000"), "s001": nil}}
	events := []Event{w.result("s000@1", JobSucceeded, `{"v":7}`)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Advance(w.plan, w.run, records, events, w.now); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChildOf1000 is the result of a child, and the start of the next.
func BenchmarkChildOf1000(b *testing.B) {
	w := newWorld(b, `{"fan":{"for_each":"input.i","max_parallel":10}}`, `{"i":[`+strings.TrimSuffix(strings.Repeat("1,", 1000), ",")+`]}`).begin()
	records := &loaded{records: map[string]*Record{"fan": w.load("fan"), "fan[3]": w.load("fan[3]")}, values: map[string]any{}}
	records.values[w.run.Input.Ref], _ = everything{w}.Value(w.run.Input.Ref)
	events := []Event{w.result("fan[3]@1", JobSucceeded, `{"v":7}`)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Advance(w.plan, w.run, records, events, w.now); err != nil {
			b.Fatal(err)
		}
	}
}

// A definition of the largest kind, in which every switch leads everywhere, is compiled in no time.
func TestCompileIsBounded(t *testing.T) {
	steps := map[string]any{}
	for i := range 250 {
		cases, deps := map[string]any{}, []string{}
		for k := range 250 {
			cases[fmt.Sprint(k)] = fmt.Sprintf("t%03d", k)
			if k < i {
				deps = append(deps, fmt.Sprintf("s%03d", k))
			}
		}
		steps[fmt.Sprintf("s%03d", i)] = map[string]any{"type": "switch", "condition": "1", "input": map[string]any{"cases": cases}, "depends_on": deps}
		steps[fmt.Sprintf("t%03d", i)] = map[string]any{}
	}
	start := time.Now()
	w := newWorld(t, string(mustJSON(t, steps)), `{}`)
	compiled := time.Since(start)
	w.begin().status(Running)
	if all := time.Since(start); all > time.Minute {
		t.Errorf("compiled after %s, started after %s", compiled, all)
	}
}

func BenchmarkCompileOf500(b *testing.B) {
	w := newWorld(b, string(mustJSON(b, chain(500))), `{}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(w.plan.workflow, nil, ""); err != nil {
			b.Fatal(err)
		}
	}
}
