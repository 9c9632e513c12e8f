package engine

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/workflow"
)

// proceed gets a run on as far as it goes: steps that may start, its status, and what is to be ended.
func (t *tx) proceed() {
	if t.run.Status == Running || t.run.Status == Waiting {
		t.schedule()
		t.settle()
	}
	t.sweep()
}

// schedule starts what may start, until nothing more does. Of the steps it goes over those that may start now in the order of the plan, and
// then looks again.
func (t *tx) schedule() {
	for {
		ready, progress := t.ready()
		var r reads
		for _, i := range ready {
			r.add(t.p.nodes[i].reads)
		}
		t.want(t.existing(r))
		for _, i := range ready {
			if t.fatal && t.outcome().Terminal() {
				return
			}
			if len(t.order) >= MaxRecords {
				t.more = true
				return
			}
			if t.startable(t.p.nodes[i]) == yes && t.visit(t.p.nodes[i]) {
				progress = true // what was visited before may have changed what follows
			}
		}
		if !progress {
			return
		}
	}
}

// visit starts a step, or more children of one; it answers whether anything changed.
func (t *tx) visit(n *node) bool {
	if t.run.Marks[n.i] != starting {
		return t.begin(n)
	}
	switch n.kind {
	case workflow.Parallel:
		t.decide(n)
	case workflow.Loop:
		return t.pumpLoop(n)
	default:
		return t.pumpFan(n)
	}
	return true
}

// ready are the steps to visit. It settles those that will not run, and says whether there were any.
func (t *tx) ready() (ready []int, settled bool) {
	for _, i := range t.p.order {
		switch n := t.p.nodes[i]; t.startable(n) {
		case yes:
			ready = append(ready, i)
		case off:
			t.abandon(n, notTaken, notTakenMessage)
			settled = true
		default:
		}
	}
	return ready, settled
}

// startable says whether a step is to be visited now; off is one that will not run.
func (t *tx) startable(n *node) answer {
	switch t.run.Marks[n.i] {
	case starting, activated:
		return yes
	case untouched, chosen:
		if t.eligible(n) {
			return t.verdict(n)
		}
	}
	return no
}

// eligible says whether a step is started by its dependencies now: error handlers are not, and what a parallel step or a loop runs only by it.
func (t *tx) eligible(n *node) bool {
	o := t.owner(n.i)
	if o < 0 {
		return len(n.guards) == 0 || t.run.Marks[n.i] == chosen
	}
	return t.p.nodes[o].kind == workflow.Parallel && live(t.run.Marks[o])
}

// owner is the parallel step or loop that runs a step, -1 for none.
func (t *tx) owner(i int) int {
	n := t.p.nodes[i]
	if n.owner < 0 && len(t.run.Owners) > 0 {
		if o := t.p.node(t.run.Owners[n.ID]); o != nil {
			return o.i
		}
	}
	return n.owner
}

// answer is how a dependency stands.
type answer uint8

// The answers, each outweighing those before it.
const (
	yes   answer = iota // completed
	off                 // completed by not running: a branch that was not taken
	no                  // not yet
	never               // it ended otherwise
)

// verdict says whether a step may start: every dependency is completed, and not all of them by not running.
func (t *tx) verdict(n *node) answer {
	if n.broken {
		return never
	}
	return max(t.together(n.deps, t.owner(n.i)), t.together(n.after, -1))
}

// together is the answer of several dependencies, without the parallel step that runs the asking one. Whatever else has run: behind a gate
// that a parallel step took back undecided, nothing runs.
func (t *tx) together(deps []int, owner int) answer {
	worst, ran, offs, shut := yes, false, false, false
	for _, d := range deps {
		if d == owner {
			continue
		}
		switch a := t.dependency(d, nil); a {
		case yes:
			ran = true
		case off:
			offs = true
			shut = shut || t.run.Marks[d] == released && t.p.nodes[d].kind == workflow.Approval
		default:
			worst = max(worst, a)
		}
	}
	if worst == yes && (shut || offs && !ran) {
		return off
	}
	return worst
}

// dependency says how a step stands for those that depend on it.
func (t *tx) dependency(i int, seen map[int]bool) answer {
	n := t.p.nodes[i]
	switch t.run.Marks[i] {
	case succeeded:
		return yes
	case notTaken, released:
		return off
	case failed, denied, timedOut:
		switch t.recovery(i, nil) {
		case recovered:
			return yes
		case recovering:
			return no
		default:
			return never
		}
	case cancelled, skipped:
		return never
	case untouched, chosen:
		if seen == nil {
			seen = map[int]bool{}
		}
		return t.unreached(n, seen)
	}
	return no
}

// unreached is the dependency on a step that has not begun. One that will not, because nothing that could start it is going to, is off; what
// was seen before is taken to be so, which is right when nothing else objects.
func (t *tx) unreached(n *node, seen map[int]bool) answer {
	if seen[n.i] {
		return off
	}
	seen[n.i] = true
	if o := t.owner(n.i); o >= 0 {
		switch a := t.dependency(o, seen); {
		case t.p.nodes[o].kind == workflow.Loop:
			return a
		case a == yes:
			return off
		default:
			return a
		}
	}
	if len(n.guards) == 0 || t.run.Marks[n.i] == chosen {
		return no
	}
	for _, g := range append(slices.Clone(n.guards), n.after...) {
		if !ended(t.run.Marks[g]) && t.dependency(g, seen) != off {
			return no
		}
	}
	return off
}

type rescue uint8

const (
	exhausted rescue = iota
	recovering
	recovered
)

// recovery says what the error handlers of a failed step have come to.
func (t *tx) recovery(i int, seen []int) rescue {
	h := t.p.nodes[i].onError
	if h < 0 || slices.Contains(seen, i) {
		return exhausted
	}
	switch m := t.run.Marks[h]; {
	case m == succeeded:
		return recovered
	case live(m) || m == chosen:
		return recovering
	case m == failed || m == denied || m == timedOut:
		return t.recovery(h, append(seen, i))
	}
	return exhausted
}

// redirect starts the error handler of a failed step, if it has one that did not run yet.
func (t *tx) redirect(n *node, cause map[string]any) {
	t.fatal = true
	if n.onError < 0 || t.run.Marks[n.onError] != untouched {
		return
	}
	h := t.p.nodes[n.onError]
	made := maps.Clone(cause)
	made["step_id"] = n.ID
	r := t.create(h.ID)
	r.Cause = made
	r.Input = Value{Inline: map[string]any{"error": made}}
	t.mark(h.i, activated)
	t.log(Entry{Type: "step_error_redirect", StepID: n.ID, Status: statuses[t.run.Marks[n.i]], Message: h.ID})
}

// poke lets parallel steps look again whose children a step is, or whose children it is the error handler of.
func (t *tx) poke(i int, seen []int) {
	if slices.Contains(seen, i) {
		return
	}
	if o := t.owner(i); o >= 0 && t.p.nodes[o].kind == workflow.Parallel && t.run.Marks[o] == running {
		t.mark(o, starting)
	}
	for _, g := range t.p.nodes[i].guards {
		t.poke(g, append(seen, i))
	}
}

// outcome is the status that the steps give the run.
func (t *tx) outcome() Status {
	var failures [4]bool // failed, denied, timed out; then unfinished
	wait, idle := false, t.idle()
	for i, n := range t.p.nodes {
		if t.owner(i) >= 0 {
			continue
		}
		switch t.run.Marks[i] {
		case succeeded, notTaken, released, skipped:
		case waiting:
			wait = true
		case cancelled:
			failures[0] = true
		case failed, denied, timedOut:
			if !t.handles(n) { // what does counts through the step that it handles
				t.countFailure(i, &failures)
			}
		case untouched:
			failures[3] = failures[3] || len(n.guards) == 0 || idle
		default:
			failures[3] = true
		}
	}
	switch {
	case failures[0]:
		return Failed
	case failures[1]:
		return Denied
	case failures[2]:
		return TimedOut
	case wait:
		return Waiting
	case failures[3]:
		return Running
	}
	return Succeeded
}

// idle says that there are steps and that none was reached: handlers that only each other's errors lead to are no success.
func (t *tx) idle() bool {
	return len(t.run.Marks) > 0 && !slices.ContainsFunc(t.run.Marks, func(m mark) bool { return m != untouched })
}

// handles says that a step ran as the error handler of a failed one, not because a switch chose it.
func (t *tx) handles(n *node) bool {
	return slices.ContainsFunc(n.guards, func(g int) bool {
		m := t.run.Marks[g]
		return m == failed || m == denied || m == timedOut
	})
}

// countFailure notes how a step failed for good, with the handlers that failed after it.
func (t *tx) countFailure(i int, failures *[4]bool) {
	switch t.recovery(i, nil) {
	case recovered:
		return
	case recovering:
		failures[3] = true
		return
	default:
	}
	for seen := []int{}; i >= 0 && !slices.Contains(seen, i); i = t.p.nodes[i].onError {
		seen = append(seen, i)
		switch t.run.Marks[i] {
		case failed, cancelled:
			failures[0] = true
		case denied:
			failures[1] = true
		case timedOut:
			failures[2] = true
		}
	}
}

// settle gives the run its status.
func (t *tx) settle() {
	s := t.outcome()
	if s == Running && t.stuck() {
		for i, n := range t.p.nodes {
			if n.kind == workflow.Parallel && t.run.Marks[i] == running {
				t.mark(i, starting)
			}
		}
		t.schedule()
		if s = t.outcome(); s == Running && t.stuck() {
			t.strand()
			s = Failed
		}
	}
	if s == t.run.Status {
		return
	}
	t.run.Status = s
	t.touched = true
	if !s.Terminal() {
		return
	}
	t.run.CompletedAt = t.now
	if s != Succeeded {
		t.skipDependents()
		t.takeDown(takenDownMessage, "workflow run "+string(s))
	}
}

// takeDown ends what is under way of a run that has ended: nobody waits for it, and nobody would hear of it.
func (t *tx) takeDown(message, reason string) {
	var ids []string
	for i, n := range t.p.nodes {
		if live(t.run.Marks[i]) {
			ids = append(ids, n.ID)
			t.mark(i, cancelled)
		}
	}
	t.sweepLater(Sweep{Steps: ids, Status: Cancelled, Error: message, Reason: reason})
}

// stuck says that nothing is under way that could get the run on.
func (t *tx) stuck() bool {
	if t.more || t.blocked {
		return false
	}
	for i, n := range t.p.nodes {
		if live(t.run.Marks[i]) && (n.kind != workflow.Parallel || n.ForEach != "" || t.run.Marks[i] != running) {
			return false
		}
	}
	return true
}

// strand names the steps that cannot run, because of what the definition says.
func (t *tx) strand() {
	var ids, parents []string
	idle := t.idle()
	for i, n := range t.p.nodes {
		switch m := t.run.Marks[i]; {
		case m == chosen, m == untouched && (len(n.guards) == 0 || idle):
			ids = append(ids, n.ID)
			t.mark(i, skipped)
		case live(m):
			t.mark(i, cancelled)
			parents = append(parents, n.ID)
		}
	}
	t.sweepLater(Sweep{Steps: parents, Status: Cancelled, Error: "its steps can never run"})
	t.run.Error = "steps can never run: " + strings.Join(ids, ", ")
	t.run.SkipReason = "can never run"
	t.message = t.run.Error
}

// skipDependents marks what depends on a failed step, directly or not, and has not begun.
func (t *tx) skipDependents() {
	reason := t.run.SkipReason
	lost := map[int]bool{}
	for _, i := range t.p.order {
		n := t.p.nodes[i]
		m := t.run.Marks[i]
		if t.dependency(i, nil) == never && m != untouched && m != chosen {
			lost[i] = true
			continue
		}
		if m != chosen && (m != untouched || len(n.guards) > 0) {
			continue
		}
		for _, d := range append(slices.Clone(n.deps), n.after...) {
			if lost[d] {
				lost[i] = true
				t.mark(i, skipped)
				if reason == "" {
					reason = "dependency " + t.p.nodes[d].ID + " " + string(statuses[t.run.Marks[d]])
				}
				break
			}
		}
	}
	t.run.SkipReason = reason
}

// stop ends a run at once; what is live of it is swept.
func (t *tx) stop(run Status, step mark, message, reason string) {
	t.touched = true
	t.run.Status, t.run.CompletedAt = run, t.now
	var ids []string
	for i, n := range t.p.nodes {
		switch m := t.run.Marks[i]; {
		case live(m):
			ids = append(ids, n.ID)
			t.mark(i, step)
		case !ended(m):
			t.mark(i, step)
		}
	}
	t.sweepLater(Sweep{Steps: ids, Status: statuses[step], Error: message, Reason: reason})
}

// sweepLater has what is live of steps ended.
func (t *tx) sweepLater(s Sweep) {
	if len(s.Steps) > 0 {
		t.run.Sweeps = append(t.run.Sweeps, s)
		t.touched = true
	}
}

// sweep ends what is live of steps that have ended, as far as effects may be outstanding.
func (t *tx) sweep() {
	for len(t.run.Sweeps) > 0 {
		s := t.run.Sweeps[0]
		for len(s.Steps) > 0 {
			if !t.sweepStep(s.Steps[0], s) {
				t.run.Sweeps[0] = s
				return
			}
			s.Steps = s.Steps[1:]
			t.touched = true
		}
		t.run.Sweeps = t.run.Sweeps[1:]
	}
}

func (t *tx) sweepStep(id string, s Sweep) bool {
	r := t.get(id)
	if r == nil {
		return true
	}
	switch {
	case r.Fan != nil:
		for i := r.Fan.Live.first(); i >= 0; i = r.Fan.Live.first() {
			if !t.end(ChildID(id, i), s) {
				return false
			}
			r = t.edit(id)
			r.Fan.Live.set(i, false)
		}
	case r.Loop != nil:
		if !t.end(ChildID(id, r.Loop.Index), s) {
			return false
		}
	}
	return t.end(id, s)
}

// end ends a record that is live, with its job or run; false asks for another pass.
func (t *tx) end(id string, s Sweep) bool {
	if len(t.order) >= MaxRecords+MaxSend {
		t.more = true
		return false
	}
	r := t.get(id)
	if r == nil || r.Status.Terminal() {
		return true
	}
	if r.JobID != "" && r.Status != Pending {
		if !t.room() {
			return false
		}
		kind := CancelJobKind
		if t.unit(id).kind == workflow.Subworkflow {
			kind = CancelRunKind
		}
		t.send(PendingEffect{Kind: kind, Record: id, Target: r.JobID, Reason: s.Reason})
	}
	r = t.edit(id)
	r.Status, r.CompletedAt, r.Due = s.Status, t.now, time.Time{}
	if s.Error != "" {
		r.Error = map[string]any{"message": s.Error}
	}
	return true
}
