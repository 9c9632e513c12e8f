package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cordum-serverless/cordum/shared/core/workflow"
)

// Random definitions under random schedules: results in any order, twice and late, crashes between effects and their confirmation, jumps of the
// clock, decisions, cancels. What must hold is checked after every pass; in the end everything is answered, and every run must have ended.

func TestRunsKeepTheirPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := newGame(t)
		for range rapid.IntRange(0, 40).Draw(t, "moves") {
			g.move()
		}
		g.finish()
		g.replay()
	})
}

// The same over many definitions without faults in the schedule, so that runs get far.
func TestRunsThatGoWellEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := newGame(t)
		g.finish()
	})
}

type game struct {
	*world
	rt *rapid.T
	// open are jobs, gates and child runs that were handed out and not answered.
	open []Effect
	// old are events that were applied once.
	old []Event
	// log is everything that was given to Advance, for the replay.
	log []given
	// first is how each effect looked when it was first made, arrived those that were sent, not lost in a crash after the commit.
	first   map[string]string
	arrived map[string]bool
	crash   bool
	// current is the last attempt of each record, over what has ended.
	current map[string]string
	over    map[string]bool
	seen    int
	// approved are the gates that somebody said yes to.
	approved map[string]bool
}

type given struct {
	events []Event
	now    time.Time
}

func newGame(t *rapid.T) *game {
	steps := drawSteps(t)
	input := one(t, "input", `{"k":"a"}`, `{"items":[1],"k":"a","required":1,"of":"s3,s4"}`, `{"items":[1,{"x":2},null],"k":"b","n":3,"required":1,"of":"s3,s4"}`,
		`{"items":[1,2,3,4],"k":"a","n":3,"required":2,"of":["s5","s2"]}`, `{"items":[1,2],"k":"c","n":3,"required":1,"of":"s3,s4"}`)
	limit := []int64{0, 0, 0, 20}[pick(t, "timeout", 4)]
	w := newWorld(t, string(mustJSON(t, steps)), input, timeout(limit))
	w.hold = true
	w.inline = 40
	g := &game{world: w, rt: t, first: map[string]string{}, approved: map[string]bool{}, arrived: map[string]bool{}, current: map[string]string{}, over: map[string]bool{}}
	t.Logf("steps %s", mustJSON(t, steps))
	g.give(Start{})
	return g
}

// pick draws from 0 to n-1, as rapid's own ranges do not: evenly.
func pick(t *rapid.T, label string, n int) int {
	return int((uint64(rapid.Uint32().Draw(t, label)) + 77777) * 0x9E3779B97F4A7C15 >> 33 % uint64(n))
}

func one(t *rapid.T, label string, of ...string) string { return of[pick(t, label, len(of))] }

func drawSteps(t *rapid.T) map[string]any {
	n, sparse := 1+pick(t, "steps", 12), 2+pick(t, "sparse", 4)
	name := func(i int) string { return fmt.Sprintf("s%d", i) }
	steps := map[string]any{}
	for i := range n {
		s := map[string]any{}
		later := func(label string, most int) []string {
			var ids []string
			for j := i + 1; j < n; j++ {
				ids = append(ids, name(j))
			}
			if len(ids) == 0 {
				return nil
			}
			var some []string
			for range pick(t, label, min(most, len(ids))+1) {
				if id := ids[pick(t, label, len(ids))]; !slices.Contains(some, id) {
					some = append(some, id)
				}
			}
			return some
		}
		for j := range i {
			if pick(t, "edge", sparse) == 0 {
				deps, _ := s["depends_on"].([]string)
				s["depends_on"] = append(deps, name(j))
			}
		}
		kind := one(t, "type",
			"worker", "worker", "worker", "approval", "approval", "condition", "delay", "notify", "switch", "transform", "storage", "parallel", "loop", "subworkflow",
		)
		s["type"] = kind
		drawKind(t, s, kind, later)
		if again := kind != "switch" && kind != "parallel" && kind != "loop"; again && pick(t, "fan", 5) == 0 || pick(t, "fan of anything", 50) == 0 {
			s["for_each"] = "input.items"
			s["max_parallel"] = pick(t, "most", 3)
		}
		if kind != "condition" && kind != "switch" && pick(t, "conditional", 6) == 0 {
			s["condition"] = "input.n"
		}
		if pick(t, "retries", 4) == 0 {
			s["retry"] = map[string]any{"max_retries": 1 + pick(t, "retry", 2), "initial_backoff_sec": 1}
		}
		if pick(t, "output path", 5) == 0 {
			s["output_path"] = "out.v"
		}
		if h := later("handler", 1); len(h) > 0 && pick(t, "handled", 3) == 0 {
			s["on_error"] = h[0]
		}
		steps[name(i)] = s
	}
	return steps
}

// drawKind makes what is particular to a type; later answers some of the steps that come after.
func drawKind(t *rapid.T, s map[string]any, kind string, later func(string, int) []string) {
	switch kind {
	case "condition":
		s["condition"] = one(t, "condition", "input.n > 2", "steps.s0.output", "input.n", "length(input.items) > 1", "steps.s1.output", "ctx.out", "input.n ==")
	case "delay":
		s["delay_sec"] = pick(t, "delay", 6)
	case "switch":
		s["condition"] = "input.k"
		cases := map[string]any{}
		for k, id := range later("cases", 3) {
			cases[string(rune('a'+k))] = id
		}
		s["input"] = map[string]any{"cases": cases}
		if d := later("default", 1); len(d) > 0 {
			s["input"] = map[string]any{"cases": cases, "default": d[0]}
		}
	case "transform":
		s["input"] = map[string]any{"a": "${input.n}", "b": "${steps.s0.output}", "c": "${ctx.shared}"}
	case "storage":
		s["input"] = map[string]any{"operation": one(t, "op", "write", "write", "write", "delete", "delete", "read"), "key": "shared.x", "value": "${input}"}
	case "parallel":
		s["input"] = map[string]any{
			"steps": later("children", 4), "strategy": one(t, "strategy", "all", "any", "n_of_m"), "required": "${input.required}",
		}
		if pick(t, "templated", 4) == 1 {
			s["input"] = map[string]any{"steps": "${input.of}"}
		}
		s["max_parallel"] = pick(t, "max", 3)
	case "loop":
		input := map[string]any{"max_iterations": 1 + pick(t, "iterations", 4)}
		if b := later("body", 1); len(b) > 0 && pick(t, "has body", 2) == 0 {
			input["body_step"] = b[0]
		}
		if pick(t, "has until", 2) == 0 {
			input["until"] = "loop_previous_output == 'ok'"
		}
		s["input"] = input
	case "subworkflow":
		s["input"] = map[string]any{"workflow_id": one(t, "child", "B", "B", "B", "B", "wf")}
	default:
		if pick(t, "has input", 2) == 0 {
			s["input"] = map[string]any{"x": "${steps.s0.output}", "y": "${ctx.out}"}
		}
	}
}

// give applies events as one pass and checks what must hold.
func (g *game) give(events ...Event) {
	before := g.run
	g.log = append(g.log, given{events, g.now})
	for _, e := range events {
		if a, ok := e.(Approval); ok && a.Approved {
			g.approved[a.record()] = true
		}
	}
	g.pass(events)
	for _, e := range g.last.Effects {
		text := string(mustJSON(g.t, e))
		if was, ok := g.first[e.ID]; ok && was != text {
			g.rt.Fatalf("effect %s was\n%s\nand is\n%s", e.ID, was, text)
		}
		g.first[e.ID] = text
		if !g.crash && !g.arrived[e.ID] {
			g.arrived[e.ID] = true
			if e.Job != nil || e.StartRun != nil {
				g.open = append(g.open, e)
			}
		}
	}
	g.crash = false
	for _, e := range g.last.Timeline {
		g.happened(e)
	}
	for _, e := range g.effects[g.seen:] {
		g.made(e, before)
	}
	g.seen = len(g.effects)
	if before.Status.Terminal() && g.run.Status != before.Status {
		g.rt.Fatalf("an ended run, %s, became %s", before.Status, g.run.Status)
	}
	if g.run.Status.Terminal() && !before.Status.Terminal() && g.run.CompletedAt.IsZero() {
		g.rt.Fatal("ended at no time")
	}
}

// made checks an effect that is new. Which steps it may be for is told from how they stand now: nothing that lets a step start is undone.
func (g *game) made(e Effect, before *Run) {
	var id string
	switch {
	case e.Job != nil:
		id = e.Job.StepID
	case e.StartRun != nil:
		id = e.StartRun.Parent.StepID
	default:
		return
	}
	if before.Status.Terminal() {
		g.rt.Fatalf("%s was started in a run that had ended\n%s", e.ID, g.history())
	}
	step, _, _ := splitChild(id)
	n := g.plan.node(step)
	if r := g.load(id); r.Attempts > retries(g.plan, id)+1 {
		g.rt.Fatalf("%s: attempt %d", id, r.Attempts)
	}
	if handler(g.plan, n) {
		return // it does not wait for its dependencies
	}
	for _, d := range n.DependsOn {
		if !g.completed(d, n) {
			g.rt.Fatalf("%s started before %s was completed: %s\n%s", id, d, g.statusOf(d), g.history())
		}
	}
	for gate := range g.gatesBefore(n, map[string]bool{}) {
		if s := g.statusOf(gate); s == Waiting || s == Running || s == Pending {
			g.rt.Fatalf("%s started while the gate %s was %s\n%s", id, gate, s, g.history())
		}
		if r := g.load(gate); r != nil && r.JobID != "" && r.Status == Succeeded && !g.approved[gate] {
			g.rt.Fatalf("%s started after the gate %s that nobody approved\n%s", id, gate, g.history())
		}
	}
}

// happened checks an event of the timeline: a step ends once, and with the job that it had last.
func (g *game) happened(e Entry) {
	switch {
	case e.Type == "step_dispatched" || e.Type == "step_waiting" || e.Type == "step_subworkflow_started":
		g.current[e.StepID] = e.JobID
		if g.over[e.StepID] {
			g.rt.Fatalf("%s goes on after its end\n%s", e.StepID, g.history())
		}
	case e.StepID == "" || !e.Status.Terminal() || e.Type == "step_output_invalid" || e.Type == "step_error_redirect" || e.Type == "step_foreach_orphan_cancelled":
	case g.over[e.StepID]:
		g.rt.Fatalf("%s ends twice\n%s", e.StepID, g.history())
	default:
		g.over[e.StepID] = true
		if e.JobID != "" && e.JobID != g.current[e.StepID] {
			g.rt.Fatalf("%s ends with %s, not %s\n%s", e.StepID, e.JobID, g.current[e.StepID], g.history())
		}
	}
}

func retries(p *Plan, id string) int {
	t := &tx{p: p}
	if r := t.unit(id).step.Retry; r != nil {
		return r.MaxRetries
	}
	return 0
}

// handler says that a step is named by an on_error.
func handler(p *Plan, n *node) bool {
	for _, o := range p.workflow.Steps {
		if o.OnError == n.ID && o.ID != n.ID {
			return true
		}
	}
	return false
}

// completed is what a dependency must be, said another way than the engine does.
func (g *game) completed(id string, of *node) bool {
	n := g.plan.node(id)
	r := g.shown(id)
	if r == nil && g.owner(n) >= 0 && g.plan.nodes[g.owner(n)].kind == workflow.Loop {
		return g.completed(g.plan.nodes[g.owner(n)].ID, of)
	}
	if g.owner(of) == n.i {
		return true
	}
	if r == nil {
		if g.owner(n) >= 0 {
			o := g.plan.nodes[g.owner(n)].ID
			return g.statusOf(o).Terminal() || g.statusOf(o) == "" && g.completed(o, of)
		}
		return handler(g.plan, n)
	}
	switch r.Status {
	case Succeeded:
		return true
	case Cancelled:
		return r.Error["reason"] == "switch_branch_not_taken" || r.Error["message"] == notTakenMessage || r.Error["message"] == releasedMessage
	case Failed, Denied, TimedOut:
		for seen := map[string]bool{}; n != nil && n.OnError != "" && !seen[n.ID]; {
			seen[n.ID] = true
			if g.statusOf(n.OnError) == Succeeded {
				return true
			}
			n = g.plan.node(n.OnError)
		}
	default:
	}
	return false
}

func (g *game) owner(n *node) int {
	t := &tx{p: g.plan, run: g.run}
	return t.owner(n.i)
}

// gatesBefore are the approvals on any way to a step, as far as steps wait for one another.
func (g *game) gatesBefore(n *node, seen map[string]bool) map[string]bool {
	gates := map[string]bool{}
	for _, id := range n.DependsOn {
		d := g.plan.node(id)
		if seen[id] || d.i == g.owner(n) {
			continue
		}
		seen[id] = true
		if d.kind == workflow.Approval && g.owner(d) < 0 {
			gates[id] = true
		}
		// What did not run, or was an error handler, did not wait for what is before it.
		if r := g.load(id); r != nil && !r.StartedAt.IsZero() && !handler(g.plan, d) {
			maps.Copy(gates, g.gatesBefore(d, seen))
		}
	}
	return gates
}

// move is something that happens.
func (g *game) move() {
	g.crash = g.draw("crash", 8) == 1
	switch g.draw("move", 13) {
	case 0, 1, 2:
		if len(g.open) > 0 {
			g.answer(g.draw("which", len(g.open)), JobStatus(one(g.rt, "status",
				"SUCCEEDED", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED", "FAILED", "FAILED", "FAILED_RETRYABLE", "FAILED_FATAL", "TIMEOUT",
				"DENIED", "CANCELLED", "RUNNING")))
		}
	case 3:
		if len(g.old) > 0 { // again, or late
			g.give(g.old[g.draw("old", len(g.old))])
		}
	case 4: // several at once, one of them twice
		var events []Event
		for range g.draw("batch", 3) {
			if len(g.open) > 0 {
				e := g.eventFor(g.open[g.draw("of", len(g.open))], JobSucceeded)
				events = append(events, e, e)
			}
		}
		g.give(events...)
	case 5:
		g.confirm(g.draw("sent", len(g.run.Outbox)+1))
	case 6:
		g.give(Resend{})
	case 7:
		g.now = g.now.Add(time.Duration(g.draw("seconds", 8)) * time.Second)
		g.ring()
	case 8: // too early, or nobody's
		g.give(Timer{one(g.rt, "timer", "", "s0", "s1", "s2[0]", "zzz")})
	case 9:
		g.now = g.now.Add(-time.Duration(g.draw("back", 3)) * time.Second)
	case 10:
		g.give()
	case 11:
		if g.draw("cancel", 10) == 0 {
			g.give(Cancel{})
		}
	case 12: // a worker claims to have done what only a human may
		if len(g.open) > 0 {
			if e := g.open[g.draw("forged", len(g.open))]; e.Job != nil && e.Job.Gate {
				g.give(JobResult{JobID: e.Job.ID, Status: JobSucceeded, ResultPtr: "redis://res:" + e.Job.ID})
			}
		}
	}
}

func (g *game) draw(label string, n int) int {
	if n <= 1 {
		return 0
	}
	return pick(g.rt, label, n)
}

// eventFor answers an effect.
func (g *game) eventFor(e Effect, s JobStatus) Event {
	switch {
	case e.StartRun != nil:
		status, ok := stepStatus[s]
		if !ok {
			status = Running
		}
		return ChildEnded{Record: e.StartRun.Parent.StepID, RunID: e.StartRun.RunID, Status: status, Context: map[string]any{"v": "ok"}}
	case e.Job.Gate:
		if s == JobCancelled || s == "RUNNING" {
			return JobResult{JobID: e.Job.ID, Status: s}
		}
		return Approval{JobID: e.Job.ID, Approved: s == JobSucceeded}
	}
	return JobResult{JobID: e.Job.ID, Status: s, ResultPtr: "redis://res:" + e.Job.ID, Result: []byte(`"ok"`)}
}

func (g *game) answer(i int, s JobStatus) {
	e := g.open[i]
	event := g.eventFor(e, s)
	g.give(event)
	if s != "RUNNING" {
		g.open = slices.Delete(g.open, i, i+1)
		g.old = append(g.old, event)
	}
	g.ignored = nil
}

func (g *game) confirm(n int) {
	var ids []string
	for _, e := range g.run.Outbox[:min(n, len(g.run.Outbox))] {
		if g.arrived[e.ID] {
			ids = append(ids, e.ID)
		}
	}
	g.give(Sent{ids})
}

func (g *game) ring() {
	for range 100 {
		id, at := g.nextTimer()
		if at.IsZero() || at.After(g.now) {
			return
		}
		g.give(Timer{id})
	}
	g.rt.Fatalf("timers without end\n%s", g.history())
}

// finish answers everything, until nothing is open any more.
func (g *game) finish() {
	g.crash = false
	for range 400 {
		switch {
		case len(g.run.Outbox) > 0:
			g.give(Resend{})
			g.confirm(len(g.run.Outbox))
		case g.last.More:
			g.give()
		case len(g.open) > 0:
			g.answer(0, JobSucceeded)
		default:
			_, at := g.nextTimer()
			if at.IsZero() {
				if !g.run.Status.Terminal() {
					g.rt.Fatalf("the run does not end: %s, marks %s\n%s", g.run.Status, g.run.Marks, g.history())
				}
				if len(g.run.Sweeps) > 0 {
					g.rt.Fatalf("sweeps are left: %v", g.run.Sweeps)
				}
				g.allEnded()
				return
			}
			if at.After(g.now) {
				g.now = at
			}
			g.ring()
		}
	}
	g.rt.Fatalf("the run has no end: %s, marks %s\n%s", g.run.Status, g.run.Marks, g.history())
}

// allEnded: a run that succeeded or was stopped has left nothing live behind.
func (g *game) allEnded() {
	if g.run.Status == Failed || g.run.Status == Denied || g.run.Status == TimedOut && g.run.Error == "" {
		return // what else was under way is left alone
	}
	for i, n := range g.plan.nodes {
		if live(g.run.Marks[i]) {
			g.rt.Fatalf("run %s, step %s %s\n%s", g.run.Status, n.ID, statuses[g.run.Marks[i]], g.history())
		}
	}
	for _, id := range slices.Sorted(maps.Keys(g.records)) {
		r := g.load(id)
		if id[0] != '$' && !r.Status.Terminal() {
			g.rt.Fatalf("run %s, record %s %s\n%s", g.run.Status, id, r.Status, g.history())
		}
	}
}

// replay gives a fresh run the same events: the history is the same.
func (g *game) replay() {
	w := *g.world
	w.run = NewRun(g.plan, Run{ID: runID, OrgID: "acme", TeamID: "core", TriggeredBy: "maya", Input: Value{Inline: everything{g.world}.inputOfRun()}}, g.start)
	w.records, w.values, w.lines, w.effects, w.times = map[string][]byte{}, map[string][]byte{}, nil, nil, map[string]int{}
	for _, l := range g.log {
		w.now = l.now
		w.pass(l.events)
	}
	if w.history() != g.history() {
		g.rt.Fatalf("the same events gave\n%s\nand\n%s", g.history(), w.history())
	}
	if strings.Join(slices.Sorted(maps.Keys(w.records)), " ") != strings.Join(slices.Sorted(maps.Keys(g.records)), " ") {
		g.rt.Fatal("other records")
	}
}

func (e everything) inputOfRun() any {
	if e.run.Input.Ref == "" {
		return e.run.Input.Inline
	}
	v, _ := e.Value(e.run.Input.Ref)
	return v
}
