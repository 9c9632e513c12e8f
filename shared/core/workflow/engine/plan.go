package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/schema"
	"github.com/cordum-serverless/cordum/shared/core/workflow"
	"github.com/cordum-serverless/cordum/shared/core/workflow/expr"
)

// Plan is a definition prepared for runs. It never changes and may be shared.
type Plan struct {
	// Fingerprint stands for the steps, the schemas that they name and the timeout: a run keeps to the plan that it began with.
	Fingerprint string

	workflow *workflow.Workflow
	// nodes are in the order of their ids, as Run.Marks.
	nodes []*node
	index map[string]int
	// order has dependencies before what depends on them.
	order []int
}

// node is a step.
type node struct {
	*workflow.Step
	i    int
	kind workflow.Kind
	deps []int
	// dependents are the steps that have this one among their dependencies.
	dependents []int
	// broken is a dependency that does not exist.
	broken bool
	// after are steps that decide whether this one runs: the switches that it is a case of.
	after []int
	// owner is the parallel or loop that runs this step, -1 for none; children are those that this one runs.
	owner    int
	children []int
	// guards are the steps that name this one in on_error.
	guards  []int
	onError int
	// reads are the records that its expressions name.
	reads reads
	// in and out check payloads and outputs.
	in, out check
}

// check is a schema, or why there is none; the zero value accepts everything.
type check struct {
	schema *schema.Schema
	err    error
}

func (c check) of(what string, v any) error {
	switch {
	case c.err != nil:
		return fmt.Errorf("%s schema: %w", what, c.err)
	case c.schema == nil:
		return nil
	}
	if err := c.schema.Validate(v); err != nil {
		return fmt.Errorf("%s %w", what, err)
	}
	return nil
}

// checkOf finds what a step says: its own schema, or else the one with that id.
func checkOf(own workflow.JSON, id string, registered map[string]*schema.Schema) check {
	switch {
	case !own.IsZero():
		s, err := schema.Compile(own, "inline")
		return check{s, err}
	case id == "":
		return check{}
	}
	s, ok := registered[id]
	if !ok {
		return check{err: fmt.Errorf("%s not found", id)}
	}
	return check{schema: s}
}

// Compile prepares a definition; registered are the schemas that its steps name by id, and schemas stands for them, "" for none. It accepts any
// definition, also ones with faults: their steps fail when they are reached.
func Compile(w *workflow.Workflow, registered map[string]*schema.Schema, schemas string) (*Plan, error) {
	text, err := json.Marshal(struct {
		Steps   workflow.Steps
		Timeout int64
		Schemas string `json:",omitempty"`
	}{w.Steps, w.TimeoutSec, schemas})
	if err != nil {
		return nil, fmt.Errorf("engine: workflow %s: %w", w.ID, err)
	}
	sum := sha256.Sum256(text)
	p := &Plan{Fingerprint: hex.EncodeToString(sum[:16]), workflow: w, index: make(map[string]int, len(w.Steps))}
	for i, id := range slices.Sorted(maps.Keys(w.Steps)) {
		made := *w.Steps[id]
		step := &made
		step.Condition, step.ForEach = strings.TrimSpace(step.Condition), strings.TrimSpace(step.ForEach)
		p.nodes = append(p.nodes, &node{
			Step: step, i: i, kind: step.Kind(), owner: -1, onError: -1, reads: readsOf(step),
			in: checkOf(step.InputSchema, step.InputSchemaID, registered), out: checkOf(step.OutputSchema, step.OutputSchemaID, registered),
		})
		p.index[id] = i
	}
	for _, n := range p.nodes {
		for _, id := range n.DependsOn {
			if d, ok := p.index[id]; ok {
				n.deps = append(n.deps, d)
				p.nodes[d].dependents = append(p.nodes[d].dependents, n.i)
			} else {
				n.broken = true
			}
		}
		if h, ok := p.index[n.OnError]; ok && h != n.i {
			n.onError = h
			p.nodes[h].guards = append(p.nodes[h].guards, n.i)
		}
		p.own(n)
	}
	for _, n := range p.nodes {
		p.lead(n)
	}
	p.sort()
	return p, nil
}

// own notes which steps a step runs. What cannot be read is said when the step is reached.
func (p *Plan) own(n *node) {
	var ids []string
	switch n.kind {
	case workflow.Parallel:
		ids, _ = n.Children()
	case workflow.Loop:
		body, _ := n.Body()
		ids = []string{body}
	default:
	}
	for _, id := range ids {
		if c, ok := p.index[id]; ok && p.nodes[c].owner < 0 && !within(n.i, c, func(i int) int { return p.nodes[i].owner }) {
			p.nodes[c].owner = n.i
			n.children = append(n.children, c)
		}
	}
}

// within says whether a step is another one, or run by it, directly or not.
func within(i, of int, owner func(int) int) bool {
	for ; i >= 0; i = owner(i) {
		if i == of {
			return true
		}
	}
	return false
}

// lead notes which steps a switch decides about: they wait for it, unless it waits for them.
func (p *Plan) lead(n *node) {
	if n.kind != workflow.Switch {
		return
	}
	seen := make([]bool, 2*len(p.nodes))
	p.waits(n.i, true, seen)
	b, _ := n.Branches()
	for _, id := range b.Targets() {
		if c := p.node(id); c != nil && c != n && !seen[2*c.i] && !seen[2*c.i+1] {
			c.after = append(c.after, n.i)
		}
	}
}

// waits finds what the start, or the end, of a step waits for: 2i is the start of a step, 2i+1 its end. The end waits for the start and for the
// steps that it runs, the start for what the step depends on and for the start of the step that runs it.
func (p *Plan) waits(i int, end bool, seen []bool) {
	n, key := p.nodes[i], 2*i
	if end {
		key++
	}
	if seen[key] {
		return
	}
	seen[key] = true
	if end {
		for _, c := range n.children {
			p.waits(c, true, seen)
		}
		p.waits(i, false, seen)
		return
	}
	for _, d := range n.deps {
		if d != n.owner {
			p.waits(d, true, seen)
		}
	}
	for _, d := range n.after {
		p.waits(d, true, seen)
	}
	if n.owner >= 0 {
		p.waits(n.owner, false, seen)
	}
}

// sort orders the steps, by their ids where nothing else orders them. What is in a cycle comes last.
func (p *Plan) sort() {
	need := make([]int, len(p.nodes))
	out := make([][]int, len(p.nodes))
	for _, n := range p.nodes {
		before := append(slices.Clone(n.deps), n.after...)
		if n.owner >= 0 {
			before = append(before, n.owner)
		}
		need[n.i] = len(before)
		for _, d := range before {
			out[d] = append(out[d], n.i)
		}
	}
	done := make([]bool, len(p.nodes))
	var queue []int
	for i, k := range need {
		if k == 0 {
			queue = append(queue, i)
		}
	}
	for len(queue) > 0 {
		i := queue[0]
		queue = queue[1:]
		done[i] = true
		p.order = append(p.order, i)
		for _, next := range out[i] {
			if need[next]--; need[next] == 0 {
				queue = append(queue, next)
			}
		}
	}
	for i := range p.nodes {
		if !done[i] {
			p.order = append(p.order, i)
		}
	}
}

// Timeout bounds a run, 0 for not at all.
func (p *Plan) Timeout() time.Duration { return time.Duration(p.workflow.TimeoutSec) * time.Second }

// reads are the records that expressions name.
type reads struct {
	// ids are steps, children, and roots of the context as "$<name>".
	ids []string
	// input, steps and context say that the input of the run, all steps, or the context as a whole are read.
	input, steps, context bool
}

func (r *reads) add(o reads) {
	r.input, r.steps, r.context = r.input || o.input, r.steps || o.steps, r.context || o.context
	for _, id := range o.ids {
		if !slices.Contains(r.ids, id) {
			r.ids = append(r.ids, id)
		}
	}
}

// readsOf finds what the expressions of a step read. It may find too much, in quoted text, and never too little.
func readsOf(s *workflow.Step) reads {
	r := reads{input: len(payloadOf(s).Input) == 0}
	for _, text := range []string{s.Condition, s.ForEach, s.DelayUntil} {
		r.scan(text)
	}
	for _, text := range s.RouteLabels {
		r.scan(text)
	}
	for key, v := range s.Input {
		// The terms of a loop stand without ${}, and the mapping of an output reads another run.
		if s.Kind() != workflow.Subworkflow || key != "output_mapping" {
			r.walk(v, s.Kind() == workflow.Loop)
		}
	}
	slices.Sort(r.ids)
	return r
}

// payloadOf is the step whose input is the payload: a loop that repeats itself is the job that it repeats.
func payloadOf(s *workflow.Step) *workflow.Step {
	if body, err := s.Body(); s.Kind() == workflow.Loop && err == nil && body == s.ID {
		return ownBody(s)
	}
	return s
}

func (r *reads) walk(v any, bare bool) {
	switch v := v.(type) {
	case map[string]any:
		for _, m := range v {
			r.walk(m, bare)
		}
	case []any:
		for _, m := range v {
			r.walk(m, bare)
		}
	case string:
		if bare || expr.IsTemplate(v) {
			r.scan(v)
		}
	}
}

// scan finds the words of a text that are paths of the context.
func (r *reads) scan(text string) {
	for _, word := range strings.FieldsFunc(text, func(c rune) bool {
		return c <= ' ' || strings.ContainsRune("(){}'\"=!<>&|,", c)
	}) {
		word = strings.TrimPrefix(word, "$")
		keys := strings.Split(word, ".")
		if keys[0] == "ctx" {
			switch {
			case len(keys) == 1:
				r.context = true
				continue
			case keys[1] != "steps":
				r.add(reads{ids: []string{rootID(keys[1])}})
				continue
			}
			keys = keys[1:]
		}
		switch {
		case keys[0] == "input":
			r.input = true
		case keys[0] != "steps":
		case len(keys) == 1:
			r.steps = true
		default:
			r.add(reads{ids: []string{keys[1]}})
		}
	}
}

func rootID(name string) string { return "$" + name }

// Steps are the ids of its steps, sorted.
func (p *Plan) Steps() []string {
	ids := make([]string, len(p.nodes))
	for i, n := range p.nodes {
		ids[i] = n.ID
	}
	return ids
}

// Has says whether a record of that id may come to be: a step, or a child of one.
func (p *Plan) Has(id string) bool {
	step, _, _ := splitChild(id)
	return p.node(step) != nil
}
