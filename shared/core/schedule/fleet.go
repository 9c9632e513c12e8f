package schedule

import (
	"cmp"
	"slices"
	"time"
)

// Fleet is the workers as seen at one time. Those that are silent or serve other tenants may be among them; they are passed over.
type Fleet struct {
	Workers []Worker
	// Now is the time by which workers are live.
	Now time.Time
	// Placement says which labels of a job a worker must carry; nil is DefaultPlacement.
	Placement Placement
}

// Pick chooses who is offered the job: the preferred worker if it can take it, else the least loaded worker of these pools that carries
// the job's placement labels and is not overloaded. When there is none, the code says why: NoWorkers or PoolOverloaded. The worker
// belongs to f.Workers.
func (f Fleet) Pick(job Job, pools ...string) (*Worker, Code) {
	return f.pick(job, pools, f.Placement.constraints(job.Labels), false)
}

// pick leaves out workers that nothing can be sent to when the job must be sent to one of them.
func (f Fleet) pick(job Job, pools []string, must []label, send bool) (*Worker, Code) {
	preferred := job.Labels[LabelPreferredWorker]
	var best *Worker
	var favoured, overloaded bool
	for i := range f.Workers {
		w := &f.Workers[i]
		if !f.candidate(w, job, pools) || !w.carries(must) || send && w.PullOnly {
			continue
		}
		if Overloaded(*w) {
			overloaded = true
			continue
		}
		named := preferred != "" && w.ID == preferred
		if best == nil || named && !favoured || named == favoured && w.compare(best) < 0 {
			best, favoured = w, named
		}
	}
	switch {
	case best != nil:
		return best, ""
	case overloaded:
		return nil, PoolOverloaded
	default:
		return nil, NoWorkers
	}
}

func (f Fleet) candidate(w *Worker, job Job, pools []string) bool {
	return slices.Contains(pools, w.Pool) && w.serves(job.Tenant) && Live(*w, f.Now)
}

// load sums up the live workers of one pool that serve a tenant.
type load struct {
	// free are the workers that are not overloaded.
	free  int
	score float64
	slots int
}

// compare orders pools by preference: one with a free worker, then the least load for each slot, then the most slots, so that a pool
// without workers comes last.
func (l load) compare(o load) int {
	return cmp.Or(
		cmp.Compare(min(o.free, 1), min(l.free, 1)),
		cmp.Compare(l.score*float64(o.slots), o.score*float64(l.slots)),
		cmp.Compare(o.slots, l.slots),
	)
}

// emptiest chooses among pools, which is not empty; of equal ones the first.
func (f Fleet) emptiest(job Job, pools []string) string {
	if len(pools) == 1 {
		return pools[0]
	}
	loads := make([]load, len(pools))
	for i := range f.Workers {
		w := &f.Workers[i]
		if !f.candidate(w, job, pools) {
			continue
		}
		l := &loads[slices.Index(pools, w.Pool)]
		l.score += Score(*w)
		l.slots += w.slots()
		if !Overloaded(*w) {
			l.free++
		}
	}
	best := 0
	for i := range loads {
		if loads[i].compare(loads[best]) < 0 {
			best = i
		}
	}
	return pools[best]
}
