package engine

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cordum-serverless/cordum/shared/core/workflow"
	"github.com/cordum-serverless/cordum/shared/core/workflow/expr"
)

// fanOut freezes the items of a for_each and lets the first children start.
func (t *tx) fanOut(u *unit, r *Record) {
	switch u.kind {
	case workflow.Switch, workflow.Parallel, workflow.Loop:
		t.refuse(u, "step_foreach_failed", "for_each is not possible with type "+u.kind.String())
		return
	default:
	}
	v, err := expr.Eval(u.step.ForEach, t.scope(u, u.top.reads))
	if err != nil {
		t.refuse(u, "step_foreach_failed", "for_each: "+err.Error())
		return
	}
	items, ok := v.([]any)
	if !ok && v != nil {
		t.refuse(u, "step_foreach_failed", "for_each: an array is wanted")
		return
	}
	if n := len(items); n > MaxItems {
		t.refuseWith(u, "step_foreach_failed", fmt.Sprintf("for_each: %d items, the limit is %d", n, MaxItems), map[string]any{"count": n, "limit": MaxItems})
		return
	}
	if len(items) == 0 {
		t.log(Entry{Type: "step_completed", StepID: u.id, Status: Succeeded, Data: map[string]any{"items": 0}})
		t.succeed(u, nil, false)
		return
	}
	r.Fan = &Fan{Count: len(items)}
	for chunk := range slices.Chunk(items, itemChunk) {
		r.Fan.Items = append(r.Fan.Items, Value{Inline: slices.Clone(chunk)})
	}
	t.mark(u.top.i, starting)
}

// pumpFan starts children as far as max_parallel, the outbox and the pass allow; it answers whether any did.
func (t *tx) pumpFan(n *node) bool {
	progress := false
	for t.run.Marks[n.i] == starting {
		p := t.get(n.ID)
		i := p.Fan.Due.first()
		again := i >= 0
		if !again {
			i = p.Fan.Next
		}
		if i >= p.Fan.Count || n.MaxParallel > 0 && p.Fan.Busy >= n.MaxParallel {
			t.mark(n.i, running)
			return progress
		}
		u := t.unit(ChildID(n.ID, i))
		if t.sends(u) && !t.room() {
			t.blocked = true
			return progress
		}
		if len(t.order) >= MaxRecords {
			t.more = true
			return progress
		}
		progress = true
		t.startChild(u, again)
	}
	return progress
}

func (t *tx) startChild(u *unit, again bool) {
	f := t.edit(u.top.ID).Fan
	f.Busy++
	if again {
		f.Due.set(u.index, false)
		t.dispatch(u, t.edit(u.id))
		return
	}
	f.Next++
	f.Live.set(u.index, true)
	chunk, _ := t.value(f.Items[u.index/itemChunk]).([]any)
	r := t.create(u.id)
	r.Index, r.Item = u.index, Value{Inline: chunk[u.index%itemChunk]}
	r.Status, r.StartedAt = Running, t.now
	t.carryOut(u, r)
}

// childEndedWith takes the end of a child into its parent.
func (t *tx) childEndedWith(u *unit, s Status, e map[string]any) {
	p := t.edit(u.top.ID)
	if u.inLoop() {
		t.iterated(u, p, s, e)
		return
	}
	f := p.Fan
	f.Busy--
	f.Live.set(u.index, false)
	top := t.unit(u.top.ID)
	switch {
	case s != Succeeded:
		if orphans := f.Live.count(); orphans > 0 {
			t.log(Entry{
				Type: "step_foreach_orphan_cancelled", StepID: top.id, Status: Cancelled, Message: u.id + " " + string(s), Data: map[string]any{"cancelled": orphans},
			})
			reason := u.id + " " + string(s)
			t.sweepLater(Sweep{Steps: []string{top.id}, Status: Cancelled, Error: "cancelled: " + reason, Reason: reason})
		}
		t.fail(top, childFailure(s), childError(u, s, e))
	default:
		f.Done.set(u.index, true)
		if f.Done.count() == f.Count {
			t.succeed(top, nil, false)
			return
		}
		t.mark(u.top.i, starting)
	}
}

// childFailure is how a parent fails with a child.
func childFailure(s Status) Status {
	if s == Denied {
		return Denied
	}
	return Failed
}

func childError(u *unit, s Status, e map[string]any) map[string]any {
	message := u.id + " " + string(s)
	if m, ok := e["message"].(string); ok && m != "" {
		message += ": " + m
	}
	return map[string]any{"message": message, "child": u.id}
}

// openParallel takes over the children of a parallel step.
func (t *tx) openParallel(u *unit, r *Record) {
	ids, err := t.claim(u)
	g := &Group{Children: ids}
	if err == nil && len(ids) > 0 {
		var input any
		terms := map[string]any{"strategy": u.step.Input["strategy"], "required": u.step.Input["required"]}
		if input, _, err = expr.Template(terms, t.scope(u, u.top.reads)); err == nil {
			filled, _ := input.(map[string]any)
			g.Strategy, g.Required, err = workflow.ParallelTerms(filled, len(ids))
		}
	}
	if err != nil {
		t.refuse(u, "step_failed", err.Error())
		return
	}
	if len(ids) == 0 {
		t.finish(u, map[string]any{}, Entry{Type: "step_parallel_completed"}, "step_parallel_completed")
		return
	}
	r.Group = g
	t.log(Entry{Type: "step_parallel_started", StepID: u.id, Status: Running, Data: map[string]any{"steps": ids, "strategy": string(g.Strategy)}})
	t.mark(u.top.i, starting)
}

// claim reads which steps a parallel step runs. Those that a template says become its own only now; one that has begun counts as it stands.
func (t *tx) claim(u *unit) ([]string, error) {
	v, _, err := expr.Template(u.step.Input["steps"], t.scope(u, u.top.reads))
	if err != nil {
		return nil, fmt.Errorf("steps: %w", err)
	}
	filled := *u.step
	filled.Input = map[string]any{"steps": v}
	ids, err := filled.Children()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		switch c := t.p.node(id); {
		case c == nil:
			return nil, fmt.Errorf("parallel step %q does not exist", id)
		case within(u.top.i, c.i, t.owner):
			return nil, fmt.Errorf("parallel step %q cannot run itself", id)
		case t.owner(c.i) >= 0 && t.owner(c.i) != u.top.i:
			return nil, fmt.Errorf("parallel step %q belongs to %s", id, t.p.nodes[t.owner(c.i)].ID)
		case c.owner < 0 && len(c.guards) > 0: // others may have gone on without it
			return nil, fmt.Errorf("parallel step %q is an error handler", id)
		}
	}
	for _, id := range ids {
		if t.p.node(id).owner < 0 {
			note(&t.run.Owners, id, u.id)
		}
	}
	return ids, nil
}

// decide looks whether a parallel step has come to its end.
func (t *tx) decide(n *node) {
	g := t.get(n.ID).Group
	t.mark(n.i, running)
	var ok, bad int
	for _, id := range g.Children {
		c := t.p.node(id)
		a := t.dependency(c.i, nil)
		if m := t.run.Marks[c.i]; (m == untouched || m == chosen) && a != off {
			a = t.verdict(c)
			if a == yes {
				a = no // it may start, and has not
			}
		}
		switch a {
		case yes:
			ok++
		case off:
			if g.Strategy == workflow.All {
				ok++
			} else {
				bad++
			}
		case never:
			bad++
		default:
		}
	}
	all, need := len(g.Children), g.Required
	u := t.unit(n.ID)
	switch {
	case ok >= need:
		output := t.outputs(g)
		t.release(g)
		if err := n.out.of("output", output); err != nil {
			t.refuse(u, "step_parallel_completed", err.Error())
			return
		}
		t.log(Entry{Type: "step_parallel_completed", StepID: n.ID, Status: Succeeded, Data: map[string]any{"succeeded": ok, "failed": bad}})
		t.succeed(u, output, true)
	case all-bad < need:
		t.release(g)
		message := fmt.Sprintf("parallel %s: %d of %d steps failed", g.Strategy, bad, all)
		t.refuseWith(u, "step_parallel_completed", message, map[string]any{"succeeded": ok, "failed": bad})
	}
}

// release cancels the children that a decided parallel step does not wait for.
func (t *tx) release(g *Group) {
	for _, id := range g.Children {
		if c := t.p.node(id); !ended(t.run.Marks[c.i]) {
			t.abandon(c, released, releasedMessage)
		}
	}
}

// outputs are the children's entries in the context, or what else there is of them.
func (t *tx) outputs(g *Group) map[string]any {
	var ids []string
	for _, id := range g.Children {
		if m := t.run.Marks[t.p.node(id).i]; m != untouched && m != chosen {
			ids = append(ids, id)
		}
	}
	t.want(ids)
	made := map[string]any{}
	for _, id := range g.Children {
		switch r := t.recs[id]; {
		case r == nil:
			made[id] = nil
		case r.Recorded:
			made[id] = t.entry(r)
		case r.Error != nil:
			made[id] = map[string]any{"error": r.Error}
		default:
			made[id] = nil
		}
	}
	return made
}

// openLoop reads what a loop repeats.
func (t *tx) openLoop(u *unit, r *Record) {
	body, err := u.step.Body()
	n := t.p.node(body)
	switch {
	case err != nil:
	case n == nil:
		err = fmt.Errorf("loop body %q does not exist", body)
	case n != u.top && (n.kind == workflow.Parallel || n.kind == workflow.Loop || n.kind == workflow.Switch):
		err = fmt.Errorf("loop body cannot be of type %s", n.kind)
	case n != u.top && t.owner(n.i) != u.top.i:
		err = fmt.Errorf("loop body %q belongs to %s", body, t.p.nodes[t.owner(n.i)].ID)
	}
	var terms workflow.LoopTerms
	if err == nil {
		terms, err = t.loopTerms(u.top)
	}
	if err != nil {
		t.refuse(u, "step_failed", err.Error())
		return
	}
	r.Loop = &Loop{Max: terms.Max}
	t.mark(u.top.i, starting)
}

// loopTerms reads how long a loop goes on; max_iterations may be a template.
func (t *tx) loopTerms(n *node) (workflow.LoopTerms, error) {
	most, ok := n.Input["max_iterations"].(string)
	if !ok || !expr.IsTemplate(most) {
		return n.LoopTerms()
	}
	v, _, err := expr.Template(most, t.scope(nil, n.reads))
	if err != nil {
		return workflow.LoopTerms{}, fmt.Errorf("max_iterations: %w", err)
	}
	made := *n.Step
	made.Input = maps.Clone(n.Input)
	made.Input["max_iterations"] = v
	return made.LoopTerms()
}

// until reads the expressions of a loop that has begun.
func until(n *node) workflow.LoopTerms {
	made := *n.Step
	made.Input = map[string]any{"condition": n.Input["condition"], "until": n.Input["until"]}
	terms, _ := made.LoopTerms() // read without error when the loop began
	return terms
}

// pumpLoop starts the iteration that a loop is at, or a retry of it.
func (t *tx) pumpLoop(n *node) bool {
	p := t.get(n.ID)
	u := t.unit(ChildID(n.ID, p.Loop.Index))
	if t.sends(u) && !t.room() {
		t.blocked = true
		return false
	}
	t.mark(n.i, running)
	p = t.edit(n.ID)
	if r := t.get(u.id); r != nil {
		t.dispatch(u, t.edit(u.id))
		return true
	}
	scope := expr.Loop{Index: u.index, Previous: t.value(p.Loop.Previous)}
	if e := until(n).Condition; e != nil {
		on, err := t.loopTest(n, e, scope)
		switch {
		case err != nil:
			t.refuse(t.unit(n.ID), "step_loop_completed", "loop condition: "+err.Error())
			return true
		case !on:
			t.loopDone(n, p)
			return true
		}
	}
	if p.Loop.Index >= p.Loop.Max {
		t.loopOver(n, p)
		return true
	}
	r := t.create(u.id)
	r.Index, r.Item = u.index, p.Loop.Previous
	r.Status, r.StartedAt = Running, t.now
	t.log(Entry{Type: "step_loop_iteration", StepID: n.ID, Status: Running, Data: map[string]any{"loop_index": u.index}})
	t.carryOut(u, r)
	return true
}

func (t *tx) loopTest(n *node, e *expr.Expr, l expr.Loop) (bool, error) {
	s := t.scope(nil, n.reads)
	s.Loop = &l
	v, err := e.Eval(s)
	return expr.Truthy(v), err
}

// iterated takes the end of an iteration into its loop.
func (t *tx) iterated(u *unit, p *Record, s Status, e map[string]any) {
	if s != Succeeded {
		message := childError(u, s, e)
		text, _ := message["message"].(string)
		t.log(Entry{Type: "step_loop_completed", StepID: p.ID, Status: childFailure(s), Message: text})
		t.fail(t.unit(p.ID), childFailure(s), message)
		return
	}
	p.Loop.Previous = t.recs[u.id].Output
	p.Loop.Index++
	terms := until(u.top)
	if terms.Until != nil {
		over, err := t.loopTest(u.top, terms.Until, expr.Loop{Index: u.index, Previous: t.value(p.Loop.Previous)})
		switch {
		case err != nil:
			t.refuse(t.unit(p.ID), "step_loop_completed", "loop until: "+err.Error())
			return
		case over:
			t.loopDone(u.top, p)
			return
		}
	}
	if p.Loop.Index >= p.Loop.Max && terms.Condition == nil {
		t.loopOver(u.top, p)
		return
	}
	t.mark(u.top.i, starting)
}

// loopOver ends a loop that has gone round as often as it may: that is what a counted one is for.
func (t *tx) loopOver(n *node, p *Record) {
	if terms := until(n); terms.Condition == nil && terms.Until == nil {
		t.loopDone(n, p)
		return
	}
	t.refuse(t.unit(n.ID), "step_loop_completed", fmt.Sprintf("loop max_iterations exceeded (%d)", p.Loop.Max))
}

func (t *tx) loopDone(n *node, p *Record) {
	output := map[string]any{"iterations": expr.Number(int64(p.Loop.Index)), "last_output": t.value(p.Loop.Previous)}
	t.finish(t.unit(n.ID), output, Entry{Type: "step_loop_completed", Data: map[string]any{"iterations": p.Loop.Index}}, "step_loop_completed")
}
