package sim

import (
	"maps"
	"slices"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/workflow/inbox"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Weakness switches one protection of the plane off, to show that the simulation finds it.
type Weakness string

// The protections.
const (
	// NoConditions writes job states without any condition.
	NoConditions Weakness = "conditional write"
	// NoAttemptFence leaves attempt and worker out of the conditions.
	NoAttemptFence Weakness = "attempt fence"
	// NoDueEntries leaves jobs out of the due index.
	NoDueEntries Weakness = "due entry"
	// NoDedupe makes every submission create its job, whether or not it is there.
	NoDedupe Weakness = "dedupe"
	// NoTenantCheck lets workers claim jobs of any tenant.
	NoTenantCheck Weakness = "tenant check"
	// NoPolicyFence lets workers claim jobs that were decided under a policy that is in force no more.
	NoPolicyFence Weakness = "policy fence"
	// NoWaitFence resolves waits for approval whether or not the job still waits.
	NoWaitFence Weakness = "wait fence"
	// NoRunFence commits steps of a run whatever others have made of it meanwhile.
	NoRunFence Weakness = "run fence"
	// NoRunDueEntries leaves runs, and what has happened to them, out of the due index.
	NoRunDueEntries Weakness = "run due entry"
)

// Weaknesses lists them.
var Weaknesses = []Weakness{NoConditions, NoAttemptFence, NoDueEntries, NoDedupe, NoTenantCheck, NoPolicyFence, NoWaitFence, NoRunFence, NoRunDueEntries}

// apply rewrites operations on jobs and runs.
func (w Weakness) apply(ops []store.Op) []store.Op {
	if w == "" {
		return ops
	}
	out := slices.Clone(ops)
	for i, op := range out {
		if strings.HasPrefix(op.Key.PK, "J#") && op.Key.SK == "S" {
			out[i] = w.weaken(op)
		}
		if strings.HasPrefix(op.Key.PK, inbox.Partition("")) {
			out[i] = w.weakenRun(op)
		}
	}
	return out
}

func (w Weakness) weakenRun(op store.Op) store.Op {
	switch {
	case w == NoRunFence && op.Key == inbox.Header(inbox.RunOf(op.Key.PK)) && op.Kind == store.OpPut && op.Cond.Kind == store.CondEqual:
		op.Cond = store.Cond{}
	case w == NoRunDueEntries && op.Kind == store.OpPut:
		op.Item.Index = maps.Clone(op.Item.Index)
		delete(op.Item.Index, store.ByDue)
	}
	return op
}

func (w Weakness) weaken(op store.Op) store.Op {
	puts := op.Kind == store.OpPut
	switch w {
	case NoConditions:
		if !puts {
			op.Cond = store.Cond{}
		}
	case NoDedupe:
		if puts {
			op.Cond = store.Cond{}
		}
	case NoAttemptFence:
		op.Cond = without(op.Cond, "n", "wk", "wt")
	case NoWaitFence:
		if fenced := slices.ContainsFunc(op.Cond.Conds, func(c store.Cond) bool { return c.Attr == "up" }); fenced {
			op.Cond.Conds = slices.DeleteFunc(slices.Clone(op.Cond.Conds), func(c store.Cond) bool {
				return c.Attr == "up" || c.Attr == "st" && c.Kind == store.CondEqual
			})
		}
	case NoTenantCheck:
		op.Cond = without(op.Cond, "tn")
	case NoPolicyFence:
		op.Cond = without(op.Cond, "pv")
	case NoDueEntries:
		if puts {
			op.Item.Index = maps.Clone(op.Item.Index)
			delete(op.Item.Index, store.ByDue)
		} else if _, moves := op.SetIndex[store.ByDue]; moves {
			op = op.Move(store.ByDue, store.Key{})
		}
	}
	return op
}

// without takes comparisons of attributes out of a condition.
func without(c store.Cond, attrs ...string) store.Cond {
	if slices.Contains(attrs, c.Attr) && c.Attr != "" {
		return store.Cond{}
	}
	if len(c.Conds) == 0 {
		return c
	}
	var kept []store.Cond
	for _, sub := range c.Conds {
		if s := without(sub, attrs...); s.Kind != 0 {
			kept = append(kept, s)
		}
	}
	switch len(kept) {
	case 0:
		return store.Cond{}
	case 1:
		return kept[0]
	}
	c.Conds = kept
	return c
}
