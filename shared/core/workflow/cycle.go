package workflow

import (
	"maps"
	"slices"
	"strings"
)

// graph says what waits for what. A step is two nodes, its start (2i) and its end (2i+1): its end waits for its start and for the steps that
// it runs; its start waits for the ends of its dependencies and for the start of the step that runs it.
type graph struct {
	ids  []string
	next [][]int
}

// unlinked is the graph of the steps in which nothing waits yet, and the place of each step.
func unlinked(w *Workflow) (g *graph, index map[string]int) {
	g = &graph{ids: slices.Sorted(maps.Keys(w.Steps))}
	index = make(map[string]int, len(g.ids))
	for i, id := range g.ids {
		index[id] = i
	}
	g.next = make([][]int, 2*len(g.ids))
	return g, index
}

func graphOf(w *Workflow) *graph {
	g, index := unlinked(w)
	owner := map[int]int{}
	for i, id := range g.ids {
		g.next[2*i+1] = append(g.next[2*i+1], 2*i)
		for _, child := range w.Steps[id].owned() {
			c, ok := index[child]
			if _, taken := owner[c]; !ok || taken || c == i {
				continue
			}
			owner[c] = i
			g.next[2*i+1] = append(g.next[2*i+1], 2*c+1)
			g.next[2*c] = append(g.next[2*c], 2*i)
		}
	}
	for i, id := range g.ids {
		for _, on := range w.Steps[id].DependsOn {
			d, ok := index[on]
			if o, owned := owner[i]; !ok || d == i || owned && o == d {
				continue // named elsewhere; or the step that runs it, which has begun when it does
			}
			g.next[2*i] = append(g.next[2*i], 2*d+1)
		}
	}
	return g
}

// cycles names one circle for each knot of steps that wait for each other.
func (v *validator) cycles() {
	g := graphOf(v.w)
	for _, knot := range g.knots() {
		path := g.circle(knot)
		v.add(path[0], "depends_on", "the step waits for itself: %s", strings.Join(path, " → "))
	}
}

// starts says which steps can begin another one, node 2i for a step: those that name it in on_error, that run it, or whose case it is. A parallel that
// a template tells what to run may run any.
func starts(w *Workflow) *graph {
	g, index := unlinked(w)
	for i, id := range g.ids {
		s := w.Steps[id]
		begun := append([]string{s.OnError}, s.owned()...)
		switch {
		case s.Kind() == Switch:
			b, _ := s.Branches() // the step that cannot be read has its own problem
			begun = append(begun, b.Targets()...)
		case s.Kind() == Parallel && templated(s.Input["steps"]):
			begun = append(begun, g.ids...)
		}
		for _, other := range begun {
			if o, ok := index[other]; ok && o != i {
				g.next[2*i] = append(g.next[2*i], 2*o)
			}
		}
	}
	return g
}

// dead leaves of the graph only the steps that nothing leads to: error handlers, and what steps run, begin when another step begins them, and no step
// that begins by itself does, be it through others.
func (g *graph) dead(w *Workflow) {
	waits := map[string]bool{}
	for _, s := range w.Steps {
		for _, other := range append(s.owned(), s.OnError) {
			waits[other] = waits[other] || other != s.ID
		}
	}
	alive := make([]bool, len(g.next))
	var queue []int
	for i, id := range g.ids {
		if !waits[id] {
			queue = append(queue, 2*i)
		}
	}
	for ; len(queue) > 0; queue = queue[1:] {
		n := queue[0]
		if alive[n] {
			continue
		}
		alive[n] = true
		queue = append(queue, g.next[n]...)
	}
	for n := range g.next {
		if alive[n] {
			g.next[n] = nil
		}
	}
}

// handlers names one circle for each knot of error handlers that nothing but themselves leads to: they would never begin, and a run of nothing else
// would have done nothing. A circle that a step outside leads into is no fault: the run ends when each of its handlers has failed.
func (v *validator) handlers() {
	g := starts(v.w)
	g.dead(v.w)
	for _, knot := range g.knots() {
		path := g.circle(knot)
		if !slices.ContainsFunc(path, func(id string) bool { return slices.Contains(path, v.w.Steps[id].OnError) }) {
			continue // steps that run each other, which is a circle of those above
		}
		v.add(path[0], "on_error", "the step never begins, since nothing else leads to it: %s", strings.Join(path, " → "))
	}
}

// knots are the strongly connected components of more than one node, by Tarjan's algorithm; deep as the longest chain, which MaxSteps bounds.
func (g *graph) knots() [][]int {
	var knots [][]int
	var stack []int
	order := make([]int, len(g.next)) // 0 is unseen
	low := make([]int, len(g.next))
	on := make([]bool, len(g.next))
	seen := 0
	var visit func(n int)
	visit = func(n int) {
		seen++
		order[n], low[n] = seen, seen
		stack, on[n] = append(stack, n), true
		for _, m := range g.next[n] {
			switch {
			case order[m] == 0:
				visit(m)
				low[n] = min(low[n], low[m])
			case on[m]:
				low[n] = min(low[n], order[m])
			}
		}
		if low[n] != order[n] {
			return
		}
		i := slices.Index(stack, n)
		knot := slices.Clone(stack[i:])
		stack = stack[:i]
		for _, m := range knot {
			on[m] = false
		}
		if len(knot) > 1 {
			slices.Sort(knot)
			knots = append(knots, knot)
		}
	}
	for n := range g.next {
		if order[n] == 0 {
			visit(n)
		}
	}
	return knots
}

// circle is a shortest way from the first step of the knot back to it, as ids, the first of which stands at both ends.
func (g *graph) circle(knot []int) []string {
	from := knot[0]
	before := map[int]int{}
	for queue := []int{from}; len(queue) > 0; queue = queue[1:] {
		for _, m := range g.next[queue[0]] {
			if _, seen := before[m]; seen || !slices.Contains(knot, m) {
				continue
			}
			before[m] = queue[0]
			queue = append(queue, m)
		}
		if _, back := before[from]; back {
			break
		}
	}
	path := []string{g.ids[from/2]}
	for n := before[from]; ; n = before[n] {
		if id := g.ids[n/2]; path[0] != id {
			path = slices.Insert(path, 0, id)
		}
		if n == from {
			break
		}
	}
	if last := path[len(path)-1]; path[0] != last {
		path = slices.Insert(path, 0, last)
	}
	return path
}
