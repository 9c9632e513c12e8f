package schedule

import "strings"

// Routing says where a job goes.
type Routing struct {
	// Pool is the pool that takes the job; never empty.
	Pool string
	// Targeted jobs must not go to the pool's queue, since not every worker of the pool may take them.
	Targeted bool
	// Worker is who gets a targeted job, one of the fleet's; nil when nobody can take it now.
	Worker *Worker
	// Waiting says why a targeted job has no worker yet, NoWorkers or PoolOverloaded; "" in every other case.
	Waiting Code
}

// Route chooses the pool of a job: of the topic's pools those that satisfy its needs, and of these the one whose live workers have room
// and the least load; the one that the topic lists first when nothing else tells them apart. That nobody can take the job at once is no
// error: it waits. A job with placement labels, or whose preferred worker can take it now, is targeted at one worker.
//
// Every error is an *Error.
func (t *Topology) Route(job Job, f Fleet) (Routing, error) {
	pools, err := t.Eligible(job)
	if err != nil {
		return Routing{}, err
	}
	must := f.Placement.constraints(job.Labels)
	preferred := job.Labels[LabelPreferredWorker]
	if len(must) == 0 && preferred == "" {
		return Routing{Pool: f.emptiest(job, pools)}, nil
	}
	w, waiting := f.pick(job, pools, must, true)
	switch {
	case w != nil && (len(must) > 0 || w.ID == preferred):
		return Routing{Pool: w.Pool, Targeted: true, Worker: w}, nil
	case len(must) > 0:
		return Routing{Pool: f.emptiest(job, pools), Targeted: true, Waiting: waiting}, nil
	default:
		return Routing{Pool: f.emptiest(job, pools)}, nil
	}
}

// NeedsFleet says whether Route reads the workers for this job. For most jobs it does not: their topic has one pool, and any of its
// workers will do, so that the caller need not load them.
func (t *Topology) NeedsFleet(job Job, p Placement) bool {
	pools, err := t.Eligible(job)
	if err != nil {
		return false
	}
	return len(pools) > 1 || job.Labels[LabelPreferredWorker] != "" || len(p.constraints(job.Labels)) > 0
}

// Eligible answers the pools that may take the job, in the order in which the topic lists them; at least one. It does not look at
// workers. Every error is an *Error.
func (t *Topology) Eligible(job Job) ([]string, error) {
	if strings.TrimSpace(job.Topic) == "" {
		return nil, unroutable(DispatchFailed, "the job has no topic")
	}
	pools, ok := t.topics.lookup(job.Topic)
	if !ok {
		return nil, unroutable(NoPoolMapping, "topic %q", job.Topic)
	}
	if want := job.Labels[LabelPreferredPool]; want != "" {
		if pools = only(pools, want); pools == nil {
			return nil, unroutable(NoPoolMapping, "topic %q is not mapped to preferred pool %q", job.Topic, want)
		}
	}
	needs := wanted(job.Requires)
	if len(needs) == 0 {
		return pools, nil
	}
	var able []string
	for _, p := range pools {
		if t.offers[p].covers(needs) {
			able = append(able, p)
		}
	}
	if able == nil {
		return nil, unroutable(NoPoolMapping, "topic %q: no pool satisfies requires [%s]", job.Topic, strings.Join(needs, ", "))
	}
	return able, nil
}

// only answers the part of pools that is one pool, without copying; nil when it is not among them.
func only(pools []string, name string) []string {
	for i, p := range pools {
		if p == name {
			return pools[i : i+1 : i+1]
		}
	}
	return nil
}

// wanted answers the needs in the form for comparison, without the blank ones.
func wanted(requires []string) []string {
	var needs []string
	for _, r := range requires {
		if n := fold(r); n != "" {
			needs = append(needs, n)
		}
	}
	return needs
}

func (o offer) covers(needs []string) bool {
	for _, n := range needs {
		if !o.set[n] {
			return false
		}
	}
	return true
}
