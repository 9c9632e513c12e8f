package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/cordum-serverless/cordum/shared/core/schema"
	"github.com/cordum-serverless/cordum/shared/core/workflow"
	"github.com/cordum-serverless/cordum/shared/core/workflow/expr"
)

// world keeps a run as a store would: as bytes, large values apart, and loads only what Advance asks for.
type world struct {
	t       rapid.TB
	plan    *Plan
	run     *Run
	now     time.Time
	start   time.Time
	records map[string][]byte
	values  map[string][]byte
	// lines are the history: the timeline, one line an event.
	lines []string
	// effects are all that were sent, by id, in order.
	effects []Effect
	// times counts how often each effect was handed out.
	times map[string]int
	// hold keeps effects unconfirmed.
	hold bool
	// last is the last pass, ignored what it ignored.
	last    *Result
	ignored []string
	// touched counts what the last event cost: records loaded or written, values loaded, passes.
	touched map[string]bool
	loads   int
	passes  int
	// rounds are the most calls of Advance that a pass took.
	rounds int
	// inline is the size from which values are kept apart.
	inline int
	schema map[string]*schema.Schema
}

const runID = "r1"

// newWorld makes a run of the steps, JSON, with an input, JSON.
func newWorld(t rapid.TB, steps, input string, options ...func(*world, *workflow.Workflow, *Run)) *world {
	t.Helper()
	w := &world{
		t: t, now: time.Date(2026, 2, 13, 1, 0, 0, 0, time.UTC), records: map[string][]byte{}, values: map[string][]byte{}, times: map[string]int{}, touched: map[string]bool{}, inline: 512,
	}
	w.start = w.now
	def, err := workflow.Decode([]byte(`{"id":"wf","name":"Flow","steps":` + steps + `}`))
	if err != nil {
		t.Fatal(err)
	}
	given := Run{ID: runID, OrgID: "acme", TeamID: "core", TriggeredBy: "maya", Input: Value{Inline: tree(t, input)}}
	for _, o := range options {
		o(w, def, &given)
	}
	if w.plan, err = Compile(def, w.schema, ""); err != nil {
		t.Fatal(err)
	}
	w.run = NewRun(w.plan, given, w.now)
	return w
}

func tree(t rapid.TB, text string) any {
	t.Helper()
	if text == "" {
		text = "{}"
	}
	v, err := expr.Decode([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// loaded is a Source that has what was asked for.
type loaded struct {
	records map[string]*Record
	values  map[string]any
}

func (l *loaded) Record(id string) (*Record, bool) {
	r, ok := l.records[id]
	return r, ok
}

func (l *loaded) Value(ref string) (any, bool) {
	v, ok := l.values[ref]
	return v, ok
}

func (w *world) load(id string) *Record {
	data, ok := w.records[id]
	if !ok {
		return nil
	}
	r := &Record{}
	decode(w.t, data, r)
	return r
}

func decode(t rapid.TB, data []byte, v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		t.Fatal(err)
	}
}

// apart puts a large value where a reference finds it.
func (w *world) apart(name string, v *Value) {
	if v.Ref != "" || v.Inline == nil {
		return
	}
	data := mustJSON(w.t, v.Inline)
	if len(data) <= w.inline {
		return
	}
	ref := fmt.Sprintf("%s#%d", name, len(w.values))
	w.values[ref] = data
	*v = Value{Ref: ref}
}

func mustJSON(t rapid.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// do applies events, and whatever follows from them, until nothing does.
func (w *world) do(events ...Event) *world {
	w.t.Helper()
	w.touched, w.loads, w.passes, w.rounds = map[string]bool{}, 0, 0, 0
	w.ignored = nil
	w.pass(events)
	for range 1000 {
		var ids []string
		if !w.hold {
			for _, e := range w.run.Outbox {
				ids = append(ids, e.ID)
			}
		}
		switch {
		case len(ids) > 0:
			w.pass([]Event{Sent{ids}})
		case w.last.More:
			w.pass(nil)
		default:
			return w
		}
	}
	w.t.Fatalf("the run never rests:\n%s", w.history())
	return w
}

// pass is one Advance, with what it needs loaded, and stored.
func (w *world) pass(events []Event) {
	w.t.Helper()
	src := &loaded{records: map[string]*Record{}, values: map[string]any{}}
	w.passes++
	w.fetch(src, &Missing{Records: Needs(w.plan, w.run, events)})
	for round := range 100 {
		w.rounds = max(w.rounds, round+1)
		before := mustJSON(w.t, w.run)
		res, err := Advance(w.plan, w.run, src, events, w.now)
		if !bytes.Equal(before, mustJSON(w.t, w.run)) {
			w.t.Fatal("Advance has changed its run")
		}
		if m, ok := errors.AsType[*Missing](err); ok {
			w.fetch(src, m)
			continue
		}
		if err != nil {
			w.t.Fatal(err)
		}
		w.check(src, events, res)
		w.keep(res)
		return
	}
	w.t.Fatal("Advance is never satisfied")
}

func (w *world) fetch(src *loaded, m *Missing) {
	for _, id := range m.Records {
		if _, ok := src.records[id]; ok {
			w.t.Fatalf("%s was loaded", id)
		}
		src.records[id] = w.load(id)
		w.touched[id] = true
		w.loads++
	}
	for _, ref := range m.Refs {
		src.values[ref] = tree(w.t, string(w.values[ref]))
		w.loads++
	}
}

// check holds the pass against what must always be so: the same inputs give the same history, and sources stay as they are.
func (w *world) check(src *loaded, events []Event, res *Result) {
	w.t.Helper()
	again, err := Advance(w.plan, w.run, src, events, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	if !bytes.Equal(mustJSON(w.t, again), mustJSON(w.t, res)) {
		w.t.Fatalf("the same inputs gave\n%s\nand\n%s", mustJSON(w.t, res), mustJSON(w.t, again))
	}
	for id, r := range src.records {
		if r != nil && !bytes.Equal(mustJSON(w.t, r), mustJSON(w.t, w.load(id))) {
			w.t.Fatalf("Advance has changed its source, %s", id)
		}
	}
	if len(res.Run.Outbox) > MaxSend {
		w.t.Fatalf("%d effects are outstanding", len(res.Run.Outbox))
	}
	if len(res.Records) > MaxRecords+MaxSend+4+3*len(events) {
		w.t.Fatalf("%d records changed in one pass", len(res.Records))
	}
	if !res.Changed && (len(res.Records) > 0 || !bytes.Equal(mustJSON(w.t, w.run), mustJSON(w.t, res.Run))) {
		w.t.Fatal("changes of which the result says nothing")
	}
}

func (w *world) keep(res *Result) {
	w.last = res
	for _, r := range res.Records {
		made := r.clone()
		for _, v := range made.Values() {
			w.apart(r.ID, v)
		}
		w.records[r.ID] = mustJSON(w.t, made)
		w.touched[r.ID] = true
	}
	run := &Run{}
	decode(w.t, mustJSON(w.t, res.Run), run)
	w.apart("input", &run.Input)
	w.run = run
	for _, e := range res.Effects {
		if w.times[e.ID]++; w.times[e.ID] == 1 {
			w.effects = append(w.effects, e)
		}
	}
	for _, e := range res.Timeline {
		w.lines = append(w.lines, w.line(e))
	}
	for _, i := range res.Ignored {
		w.ignored = append(w.ignored, i.Why)
	}
}

// line is an event of the timeline as text: type, step, status, job, message, data.
func (w *world) line(e Entry) string {
	words := []string{e.Type}
	for _, s := range []string{e.StepID, string(e.Status), strings.TrimPrefix(e.JobID, runID+":")} {
		if s != "" {
			words = append(words, s)
		}
	}
	if e.Message != "" {
		words = append(words, "\""+e.Message+"\"")
	}
	data := maps.Clone(e.Data)
	if ptr, ok := data["context_ptr"]; ok {
		if ptr != "redis://ctx:"+e.JobID {
			w.t.Errorf("%s: context_ptr %v", e.Type, ptr)
		}
		delete(data, "context_ptr")
	}
	if len(data) > 0 {
		words = append(words, string(mustJSON(w.t, data)))
	}
	return strings.Join(words, " ")
}

func (w *world) history() string { return strings.Join(w.lines, "\n") }

// begin starts the run.
func (w *world) begin() *world {
	w.t.Helper()
	return w.do(Start{})
}

// after lets time pass and the timers ring that it brings.
func (w *world) after(d time.Duration) *world {
	w.t.Helper()
	w.now = w.now.Add(d)
	for {
		id, at := w.nextTimer()
		if at.IsZero() || at.After(w.now) {
			break
		}
		w.do(Timer{id})
		if again, later := w.nextTimer(); again == id && later.Equal(at) {
			w.t.Fatalf("timer %s rings in vain: %v", id, w.ignored)
		}
	}
	if w.last == nil || !w.run.Status.Terminal() {
		w.do(Timer{})
	}
	return w
}

// nextTimer is the earliest timer, as an index by time would find it.
func (w *world) nextTimer() (id string, at time.Time) {
	if w.run.Status.Terminal() {
		return "", time.Time{}
	}
	for _, key := range slices.Sorted(maps.Keys(w.records)) {
		if r := w.load(key); !r.Due.IsZero() && (at.IsZero() || r.Due.Before(at)) {
			id, at = key, r.Due
		}
	}
	return id, at
}

// job ends a job: "a@1".
func (w *world) job(name string, status JobStatus, result ...string) *world {
	w.t.Helper()
	return w.do(w.result(name, status, result...))
}

func (w *world) result(name string, status JobStatus, result ...string) JobResult {
	id := runID + ":" + name
	e := JobResult{JobID: id, Status: status}
	if len(result) > 0 && status == JobSucceeded {
		e.ResultPtr, e.Result = "redis://res:"+id, []byte(result[0])
	} else if len(result) > 0 {
		e.Error = result[0]
	}
	return e
}

func (w *world) ok(name string, result ...string) *world {
	w.t.Helper()
	return w.job(name, JobSucceeded, result...)
}

func (w *world) approve(step string, approved bool) *world {
	w.t.Helper()
	return w.do(Approval{JobID: JobID(runID, step, 1), Approved: approved, By: "alice"})
}

// want compares the history.
func (w *world) want(lines ...string) *world {
	w.t.Helper()
	var want []string
	for _, l := range lines {
		for line := range strings.SplitSeq(l, "\n") {
			if line = strings.TrimSpace(line); line != "" {
				want = append(want, line)
			}
		}
	}
	if !slices.Equal(want, w.lines) {
		w.t.Errorf("history\n%s\nwant\n%s", w.history(), strings.Join(want, "\n"))
	}
	return w
}

// sent compares the effects of a kind: what stands after "<kind>:".
func (w *world) sent(kind Kind, want ...string) *world {
	w.t.Helper()
	var got []string
	for _, e := range w.effects {
		if id, ok := strings.CutPrefix(e.ID, string(kind)+":"); ok {
			got = append(got, strings.TrimPrefix(id, runID+":"))
		}
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("%s: %v, want %v", kind, got, want)
	}
	return w
}

// jobOf is the job that was sent under an id.
func (w *world) jobOf(name string) *Job {
	w.t.Helper()
	for _, e := range w.effects {
		if e.Job != nil && e.Job.ID == runID+":"+name {
			return e.Job
		}
	}
	w.t.Fatalf("no job %s\n%s", name, w.history())
	return nil
}

// status is that of the run.
func (w *world) status(want Status) *world {
	w.t.Helper()
	if w.run.Status != want {
		w.t.Errorf("run %s %q, want %s\n%s", w.run.Status, w.run.Error, want, w.history())
	}
	return w
}

// step compares the status of a step or child; "" is one that was not reached.
func (w *world) step(id string, want Status) *world {
	w.t.Helper()
	if got := w.statusOf(id); got != want {
		w.t.Errorf("step %s %q, want %q\n%s", id, got, want, w.history())
	}
	return w
}

func (w *world) statusOf(id string) Status {
	if r := w.shown(id); r != nil {
		return r.Status
	}
	return ""
}

// shown is a record as readers see it.
func (w *world) shown(id string) *Record {
	step, _, _ := splitChild(id)
	return Show(w.plan, w.run, id, w.load(id), w.load(step))
}

// everything is a Source that has all there is.
type everything struct{ *world }

func (e everything) Record(id string) (*Record, bool) { return e.load(id), true }

func (e everything) Value(ref string) (any, bool) { return tree(e.t, string(e.values[ref])), true }

// contextOf is the context of the run, as JSON.
func (w *world) contextOf() string {
	w.t.Helper()
	t := &tx{p: w.plan, run: w.run, src: everything{w}, recs: map[string]*Record{}}
	return string(mustJSON(w.t, t.scope(nil, reads{context: true}).Ctx))
}

func (w *world) context(want string) *world {
	w.t.Helper()
	if got := w.contextOf(); got != string(mustJSON(w.t, tree(w.t, want))) {
		w.t.Errorf("context %s, want %s", got, want)
	}
	return w
}

func (w *world) errorOf(id string) string {
	r := w.shown(id)
	if r == nil {
		return ""
	}
	m, _ := r.Error["message"].(string)
	return m
}
