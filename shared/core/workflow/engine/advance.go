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

// Source is what is loaded of a run.
type Source interface {
	// Record answers a record, nil for one that does not exist; ok is false for one that was not loaded. It is not changed.
	Record(id string) (r *Record, ok bool)
	// Value answers what a reference stands for; ok is false for one that was not loaded.
	Value(ref string) (v any, ok bool)
}

// Missing is the error of a pass that needs more than its Source has.
type Missing struct{ Records, Refs []string }

func (m *Missing) Error() string {
	return fmt.Sprintf("engine: not loaded: records %v, values %v", m.Records, m.Refs)
}

// ErrPlan is the error of a run that began with another definition than the given one.
var ErrPlan = errors.New("engine: the run began with another definition")

// Result is a run after a pass, and what to do: store Run and Records in one transaction, the timeline with it, then send Effects.
type Result struct {
	Run *Run
	// Records are those that changed, in the order of their change.
	Records []*Record
	Effects []Effect
	// Timeline is what happened, in order.
	Timeline []Entry
	// Ignored are events that changed nothing.
	Ignored []Ignored
	// More asks for another pass at once, without events.
	More bool
	// Changed is false when there is nothing to store.
	Changed bool
}

// sure are the records that events read.
func sure(events []Event) []string {
	var ids []string
	for _, e := range events {
		id := e.record()
		if id == "" {
			continue
		}
		if parent, _, ok := splitChild(id); ok {
			ids = append(ids, parent)
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Needs answers the records that events read, and those that steps read which may start then. It is a guess that saves a round: what else is
// needed is *Missing.
func Needs(p *Plan, run *Run, events []Event) []string {
	ids := sure(events)
	var r reads
	for _, id := range ids {
		step, _, child := splitChild(id)
		n := p.node(step)
		if n == nil {
			continue
		}
		if child {
			r.add(n.reads)
		}
		for _, d := range n.dependents {
			r.add(p.nodes[d].reads)
		}
	}
	for _, id := range r.ids {
		name, root := strings.CutPrefix(id, "$")
		step, _, _ := splitChild(id)
		n := p.node(step)
		if root && slices.Contains(run.Roots, name) || n != nil && run.Marks[n.i] != untouched {
			ids = append(ids, id)
			if step != id {
				ids = append(ids, step)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Advance applies events to a run, in their order, and gets it on as far as one pass goes. The run and what the source holds stay as they
// were. The error is a *Missing, or ErrPlan.
func Advance(p *Plan, run *Run, src Source, events []Event, now time.Time) (result *Result, err error) {
	if run.Plan != p.Fingerprint {
		return nil, fmt.Errorf("%w: run %s, %s, not %s", ErrPlan, run.ID, run.Plan, p.Fingerprint)
	}
	t := &tx{p: p, run: run.clone(), src: src, now: now, recs: map[string]*Record{}, dirty: map[string]bool{}}
	// Misses are found deep in evaluations; they unwind as a panic that stays in here.
	defer func() {
		if r := recover(); r != nil {
			m, ok := r.(*Missing)
			if !ok {
				panic(r)
			}
			result, err = nil, m
		}
	}()
	before := run.Status
	t.want(sure(events))
	t.expire()
	for i, e := range events {
		if why := t.apply(e); why != "" {
			t.ignored = append(t.ignored, Ignored{i, why})
		}
	}
	t.proceed()
	if t.run.Status != before {
		t.statusChanged()
	}
	return t.result(), nil
}

// tx is a pass.
type tx struct {
	p   *Plan
	run *Run
	src Source
	now time.Time
	// recs are working copies, dirty those that changed, in order.
	recs     map[string]*Record
	dirty    map[string]bool
	order    []string
	effects  []Effect
	timeline []Entry
	ignored  []Ignored
	// touched says that the header changed.
	touched bool
	// more says that a step could go on and the pass has done enough; blocked that one waits for effects to be confirmed.
	more, blocked bool
	// message and data are for the run_status event of this pass.
	message string
	data    map[string]any
	// fatal says that a step has failed, so that the run may be over.
	fatal bool
	// input is that of the run, when it was read.
	input any
}

func (t *tx) result() *Result {
	r := &Result{Run: t.run, Effects: t.effects, Timeline: t.timeline, Ignored: t.ignored, More: t.more}
	for _, id := range t.order {
		r.Records = append(r.Records, t.recs[id])
	}
	r.Changed = t.touched || len(r.Records) > 0 || len(t.timeline) > 0
	if r.Changed {
		t.run.Version++
		t.run.UpdatedAt = t.now
	}
	return r
}

// want asks for records together, so that one round loads them.
func (t *tx) want(ids []string) {
	var missing []string
	for _, id := range ids {
		if _, ok := t.recs[id]; ok {
			continue
		}
		r, ok := t.src.Record(id)
		switch {
		case !ok:
			missing = append(missing, id)
		case r == nil:
			t.recs[id] = nil
		default:
			t.recs[id] = r.clone()
		}
	}
	if len(missing) > 0 {
		panic(&Missing{Records: missing})
	}
}

// get reads a record, nil for one that does not exist.
func (t *tx) get(id string) *Record {
	t.want([]string{id})
	return t.recs[id]
}

// edit reads a record to change it, and makes one that does not exist.
func (t *tx) edit(id string) *Record {
	r := t.get(id)
	if r == nil {
		return t.create(id)
	}
	t.change(id)
	return r
}

// create makes a record that is known not to exist.
func (t *tx) create(id string) *Record {
	r := &Record{ID: id, Status: Pending}
	t.recs[id] = r
	t.change(id)
	return r
}

func (t *tx) change(id string) {
	if !t.dirty[id] {
		t.dirty[id] = true
		t.order = append(t.order, id)
	}
}

func (t *tx) value(v Value) any {
	if v.Ref == "" {
		return v.Inline
	}
	made, ok := t.src.Value(v.Ref)
	if !ok {
		panic(&Missing{Refs: []string{v.Ref}})
	}
	return made
}

func (t *tx) log(e Entry) {
	e.Time = t.now
	t.timeline = append(t.timeline, e)
}

func (t *tx) mark(i int, m mark) {
	t.run.Marks[i] = m
	t.touched = true
}

// unit is what is carried out: a step, or a child of one.
type unit struct {
	id   string
	step *workflow.Step
	kind workflow.Kind
	in   check
	out  check
	// top is the step of the definition whose record aggregates it, or that it is.
	top   *node
	child bool
	index int
}

func (u *unit) inFan() bool { return u.child && u.top.kind != workflow.Loop }

func (u *unit) inLoop() bool { return u.child && u.top.kind == workflow.Loop }

// unit finds what a record is of, nil when the definition does not have it.
func (t *tx) unit(id string) *unit {
	step, index, child := splitChild(id)
	i, ok := t.p.index[step]
	if !ok {
		return nil
	}
	n := t.p.nodes[i]
	u := &unit{id: id, step: n.Step, kind: n.kind, in: n.in, out: n.out, top: n, child: child, index: index}
	if u.inLoop() {
		body, _ := n.Body()
		if b := t.p.node(body); b != nil && b != n {
			u.step, u.kind, u.in, u.out = b.Step, b.kind, b.in, b.out
		} else {
			u.step, u.kind = ownBody(n.Step), workflow.Job
		}
	}
	if child && !u.inLoop() && n.ForEach == "" {
		return nil
	}
	return u
}

// ownBody is a loop without a body as the job that it repeats: what the input says of the loop is no payload.
func ownBody(s *workflow.Step) *workflow.Step {
	made := *s
	made.Input = maps.Clone(s.Input)
	for _, key := range []string{"body_step", "body", "max_iterations", "condition", "until"} {
		delete(made.Input, key)
	}
	return &made
}

// node finds a step, nil when there is none.
func (p *Plan) node(id string) *node {
	if i, ok := p.index[id]; ok {
		return p.nodes[i]
	}
	return nil
}

// apply applies an event, and answers why not.
func (t *tx) apply(e Event) string {
	switch e := e.(type) {
	case Sent:
		return t.sent(e)
	case Resend:
		for _, p := range t.run.Outbox {
			t.effects = append(t.effects, t.effect(p))
		}
		return ""
	default:
	}
	if t.run.Status.Terminal() {
		return RunEnded
	}
	switch e := e.(type) {
	case Start:
		return t.start()
	case JobResult:
		return t.jobResult(e)
	case Timer:
		return t.timer(e)
	case Approval:
		return t.approval(e)
	case Cancel:
		t.message = "run cancelled"
		if e.By != "" {
			t.data = map[string]any{"cancelled_by": e.By}
		}
		t.stop(Cancelled, cancelled, "", "workflow run cancelled")
	case ChildEnded:
		return t.childEnded(e)
	case Deleted:
		t.run.Error = "workflow deleted"
		t.message = t.run.Error
		t.stop(Failed, cancelled, t.run.Error, "workflow deleted")
	}
	return ""
}

func (t *tx) start() string {
	if t.run.Status != Pending {
		return Duplicate
	}
	t.touched = true
	t.run.Status, t.run.StartedAt = Running, t.now
	if d := t.p.Timeout(); d > 0 {
		t.run.Deadline = t.now.Add(d)
	}
	return ""
}

func (t *tx) sent(e Sent) string {
	n := len(t.run.Outbox)
	t.run.Outbox = slices.DeleteFunc(t.run.Outbox, func(p PendingEffect) bool { return slices.Contains(e.IDs, p.ID) })
	if len(t.run.Outbox) == n {
		return Duplicate
	}
	t.touched = true
	return ""
}

// timer wakes what a record waits for.
func (t *tx) timer(e Timer) string {
	if e.Record == "" {
		return Early // the deadline was looked at before
	}
	u := t.unit(e.Record)
	if u == nil {
		return NoStep
	}
	r := t.get(u.id)
	if r == nil || r.Due.IsZero() || !live(t.run.Marks[u.top.i]) {
		return Duplicate
	}
	if t.now.Before(r.Due) {
		return Early
	}
	r = t.edit(u.id)
	r.Due = time.Time{}
	switch {
	case r.Status == Running:
		t.delayOver(u)
	case !u.child:
		t.mark(u.top.i, activated)
	default:
		if u.inFan() {
			t.edit(u.top.ID).Fan.Due.set(u.index, true)
		}
		t.mark(u.top.i, starting)
	}
	return ""
}

// approval decides a gate.
func (t *tx) approval(e Approval) string {
	id := e.record()
	u := t.unit(id)
	if u == nil {
		return NoStep
	}
	r := t.get(id)
	switch {
	case u.kind != workflow.Approval, r == nil, r.Status != Waiting, !live(t.run.Marks[u.top.i]):
		return NotWaiting
	case e.JobID != r.JobID:
		return Stale
	}
	data := map[string]any{}
	for k, v := range map[string]string{"by": e.By, "reason": e.Reason, "note": e.Note} {
		if v != "" {
			data[k] = v
		}
	}
	if len(data) == 0 {
		data = nil
	}
	entry := Entry{Type: "step_approved", StepID: id, JobID: r.JobID, Status: Succeeded, Data: data}
	if !e.Approved {
		entry.Type, entry.Status, entry.Message = "step_rejected", Failed, "approval rejected"
		if e.Reason != "" {
			entry.Message = e.Reason
		}
	}
	t.log(entry)
	if e.Approved {
		t.succeed(u, Value{}, false)
	} else {
		t.fail(u, Failed, map[string]any{"message": entry.Message})
	}
	return ""
}

// expire ends a run whose time is over.
func (t *tx) expire() {
	if t.run.Status.Terminal() || t.run.Deadline.IsZero() || t.now.Before(t.run.Deadline) {
		return
	}
	t.run.Error = "workflow run timed out"
	t.message = "run timed out"
	t.data = map[string]any{"timeout_sec": t.p.workflow.TimeoutSec}
	t.stop(TimedOut, timedOut, t.run.Error, t.run.Error)
}

func (t *tx) statusChanged() {
	t.log(Entry{Type: "run_status", Status: t.run.Status, Message: t.message, Data: t.data})
	if t.run.Status.Terminal() && t.run.Parent != nil {
		t.send(PendingEffect{Kind: NotifyKind, Target: t.run.ID})
	}
}

// scope is what the expressions of a unit see: only what they name is loaded.
func (t *tx) scope(u *unit, r reads) expr.Scope {
	s := expr.Scope{}
	if r.input {
		s.Input = t.runInput()
	}
	if u != nil && u.child {
		if rec := t.recs[u.id]; rec != nil {
			if u.inFan() {
				s.Item = t.value(rec.Item)
			} else {
				s.Loop = &expr.Loop{Index: u.index, Previous: t.value(rec.Item)}
			}
		}
	}
	ids := t.existing(r)
	t.want(ids)
	steps, ctx := map[string]any{}, map[string]any{}
	for _, id := range ids {
		rec := t.recs[id]
		switch {
		case rec == nil:
		case id[0] == '$':
			ctx[id[1:]] = t.value(rec.Output)
		case rec.Recorded:
			steps[id] = t.entry(rec)
		}
	}
	ctx["steps"] = steps
	s.Ctx, s.Steps = ctx, steps
	return s
}

func (t *tx) runInput() any {
	if t.input == nil {
		t.input = t.value(t.run.Input)
	}
	return t.input
}

// entry is what the context has of a record.
func (t *tx) entry(r *Record) any {
	e := map[string]any{}
	if r.ResultPtr != "" {
		e["result_ptr"] = r.ResultPtr
	}
	if r.HasOutput {
		e["output"] = t.value(r.Output)
	}
	return e
}

// existing answers those of the wanted records that may exist.
func (t *tx) existing(r reads) []string {
	var ids []string
	for _, id := range r.ids {
		if name, ok := strings.CutPrefix(id, "$"); ok {
			if !slices.Contains(t.run.Roots, name) {
				continue
			}
		} else {
			step, index, child := splitChild(id)
			n := t.p.node(step)
			if n == nil || t.run.Marks[n.i] == untouched {
				continue
			}
			if child && !t.hasChild(n, index) {
				continue
			}
		}
		ids = append(ids, id)
	}
	if r.context {
		for _, name := range t.run.Roots {
			ids = append(ids, rootID(name))
		}
	}
	if r.context || r.steps {
		ids = append(ids, t.reached()...)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// hasChild says whether a child has a record.
func (t *tx) hasChild(n *node, index int) bool {
	r := t.get(n.ID)
	switch {
	case r == nil:
		return false
	case r.Fan != nil:
		return index < r.Fan.Next
	case r.Loop != nil:
		return index <= r.Loop.Index
	}
	return false
}

// reached are all records of steps and their children.
func (t *tx) reached() []string {
	var ids []string
	for i, n := range t.p.nodes {
		if t.run.Marks[i] != untouched {
			ids = append(ids, n.ID)
		}
	}
	t.want(ids)
	for _, id := range slices.Clone(ids) {
		r := t.recs[id]
		switch {
		case r == nil:
		case r.Fan != nil:
			for i := range r.Fan.Next {
				ids = append(ids, ChildID(id, i))
			}
		case r.Loop != nil:
			for i := range r.Loop.Index + 1 {
				ids = append(ids, ChildID(id, i))
			}
		}
	}
	return ids
}

// setPath stores a value at a path of the context; intermediates that are no objects are overwritten. A path with an empty key, or into
// steps, is passed over.
func (t *tx) setPath(path string, v any) {
	keys := strings.Split(path, ".")
	if slices.Contains(keys, "") || keys[0] == "steps" {
		return
	}
	r := t.root(keys[0])
	r.Output = Value{Inline: with(t.value(r.Output), keys[1:], v)}
	r.HasOutput = true
}

// root is a member of the context, to be changed.
func (t *tx) root(name string) *Record {
	if at, ok := slices.BinarySearch(t.run.Roots, name); !ok {
		t.run.Roots = slices.Insert(t.run.Roots, at, name)
		t.touched = true
		return t.create(rootID(name))
	}
	return t.edit(rootID(name))
}

// with answers a tree in which the value at a path is another; what it was made from stays.
func with(tree any, keys []string, v any) any {
	if len(keys) == 0 {
		return v
	}
	m, _ := tree.(map[string]any)
	m = maps.Clone(m)
	if m == nil {
		m = map[string]any{}
	}
	m[keys[0]] = with(m[keys[0]], keys[1:], v)
	return m
}

// at reads a path of a tree.
func at(tree any, keys []string) (any, bool) {
	for _, key := range keys {
		m, _ := tree.(map[string]any)
		v, ok := m[key]
		if !ok {
			return nil, false
		}
		tree = v
	}
	return tree, true
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }
