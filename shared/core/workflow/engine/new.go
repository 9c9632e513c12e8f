package engine

import (
	"bytes"
	"maps"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/workflow"
)

// OwnMemory is the memory of a run whose input names none.
func OwnMemory(run string) string { return "run:" + run }

// NewRun makes a run that a Start event begins. Of the given run it takes everything that a starter says: ids, tenant, team, input (an object,
// inline), labels, metadata, keys, who starts it, the parent, dry run.
func NewRun(p *Plan, given Run, now time.Time) *Run {
	r := given
	r.WorkflowID = p.workflow.ID
	r.Plan = p.Fingerprint
	r.Status = Pending
	r.CreatedAt, r.UpdatedAt = now, now
	r.Marks = bytes.Repeat([]byte{untouched}, len(p.nodes))
	r.Labels, r.Metadata = maps.Clone(given.Labels), maps.Clone(given.Metadata)
	input, ok := given.Input.Inline.(map[string]any)
	if !ok {
		input = map[string]any{}
	}
	r.Input = Value{Inline: input}
	r.MemoryID = OwnMemory(r.ID)
	if s, ok := input["memory_id"].(string); ok && strings.TrimSpace(s) != "" {
		r.MemoryID = s
	}
	r.Priority = "batch"
	if s, ok := input["priority"].(string); ok {
		switch s = strings.ToLower(strings.TrimSpace(s)); s {
		case "critical", "interactive":
			r.Priority = s
		}
	}
	if r.DryRun {
		note(&r.Labels, "dry_run", "true")
		note(&r.Metadata, "dry_run", "true")
	}
	if r.Parent != nil {
		note(&r.Metadata, "parent_run_id", r.Parent.RunID)
		note(&r.Metadata, "parent_step_id", r.Parent.StepID)
		note(&r.Metadata, "call_stack", strings.Join(r.CallStack, ","))
	}
	return &r
}

func note(m *map[string]string, key, value string) {
	if *m == nil {
		*m = map[string]string{}
	}
	(*m)[key] = value
}

// Rerun makes a run that repeats another one, from the beginning or from a step: what that step depends on, directly or not, is taken over as it
// ended, with what it left in the context. The records are to be stored before the run. before is the plan that the old run kept to; p
// the current one. It answers a fault for a step that is not there or cannot be rerun from, and *Missing.
func Rerun(p, before *Plan, old *Run, src Source, id, fromStep string, dryRun bool, now time.Time) (run *Run, records []*Record, err error) {
	if old.Plan != before.Fingerprint {
		return nil, nil, ErrPlan
	}
	t := &tx{p: before, run: old.clone(), src: src, now: now, recs: map[string]*Record{}, dirty: map[string]bool{}}
	defer func() {
		if r := recover(); r != nil {
			m, ok := r.(*Missing)
			if !ok {
				panic(r)
			}
			run, records, err = nil, nil, m
		}
	}()
	given := Run{
		ID: id, OrgID: old.OrgID, TeamID: old.TeamID, Input: Value{Inline: t.runInput()}, TriggeredBy: old.TriggeredBy, Labels: old.Labels,
		Metadata: maps.Clone(old.Metadata), RerunOf: old.ID, RerunStep: fromStep, DryRun: dryRun || old.DryRun,
	}
	note(&given.Metadata, "rerun_of", old.ID)
	if fromStep != "" {
		note(&given.Metadata, "rerun_step", fromStep)
	}
	run = NewRun(p, given, now)
	if fromStep == "" {
		return run, nil, nil
	}
	n := p.node(fromStep)
	if n == nil {
		return nil, nil, fault.New(fault.Invalid, "step not found")
	}
	c := copier{t: t, p: p, run: run, done: map[int]bool{}}
	if err := c.before(n); err != nil {
		return nil, nil, err
	}
	for _, name := range old.Roots {
		c.take(rootID(name))
	}
	run.Roots = t.run.Roots
	return run, c.records, nil
}

// copier takes records of an old run over into a new one.
type copier struct {
	t       *tx
	p       *Plan
	run     *Run
	done    map[int]bool
	records []*Record
}

// before takes over what a step depends on.
func (c *copier) before(n *node) error {
	deps := append(append([]int{}, n.deps...), n.after...)
	for _, d := range deps {
		if c.done[d] {
			continue
		}
		c.done[d] = true
		dep := c.p.nodes[d]
		old := c.t.p.node(dep.ID)
		if old == nil {
			return fault.New(fault.Invalid, "dependency %s not succeeded", dep.ID)
		}
		m := c.t.run.Marks[old.i]
		if m != succeeded && m != notTaken && m != released {
			return fault.New(fault.Invalid, "dependency %s not succeeded", dep.ID)
		}
		c.step(dep, old, m)
		if err := c.before(dep); err != nil {
			return err
		}
	}
	return nil
}

// step takes over a step, with its children and with what it decided about other steps.
func (c *copier) step(n, old *node, m mark) {
	c.run.Marks[n.i] = m
	c.done[n.i] = true
	r := c.take(n.ID)
	if r == nil {
		return
	}
	switch {
	case r.Fan != nil:
		for i := range r.Fan.Next {
			c.take(ChildID(n.ID, i))
		}
	case r.Loop != nil:
		for i := range r.Loop.Index + 1 {
			c.take(ChildID(n.ID, i))
		}
	case r.Group != nil:
		for _, id := range r.Group.Children {
			c.also(id, ended)
			if owner, ok := c.t.run.Owners[id]; ok {
				note(&c.run.Owners, id, owner)
			}
		}
	case old.kind == workflow.Switch:
		b, _ := n.Branches()
		for _, id := range b.Targets() {
			c.also(id, func(m mark) bool { return m == notTaken || m == released })
		}
	}
}

// also takes over another step of both plans, if it stands as wanted.
func (c *copier) also(id string, wanted func(mark) bool) {
	n, old := c.p.node(id), c.t.p.node(id)
	if n == nil || old == nil || c.done[n.i] {
		return
	}
	if m := c.t.run.Marks[old.i]; wanted(m) {
		c.step(n, old, m)
	}
}

// take copies a record, nil for one that does not exist. Its job is that of the old run.
func (c *copier) take(id string) *Record {
	r := c.t.get(id)
	if r == nil {
		return nil
	}
	made := r.clone()
	c.records = append(c.records, made)
	return made
}
