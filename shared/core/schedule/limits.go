package schedule

import (
	"math"
	"strconv"
	"strings"
)

// Limits are what a tenant may have at one time. 0 is no limit.
type Limits struct {
	// MaxConcurrentJobs counts jobs that are SCHEDULED, DISPATCHED or RUNNING; QueueSize is how many more may wait for a place.
	MaxConcurrentJobs int
	QueueSize         int
	// MaxConcurrentRuns counts workflow runs that are pending, running or waiting.
	MaxConcurrentRuns int
}

// ParseLimits reads the members limits and rate_limits of the data of a configuration document, of an effective one too. A value that is
// not a positive number is no limit; numbers may be written as text. An error names a member that is not an object.
func ParseLimits(data []byte) (Limits, error) {
	doc, err := parse(data)
	if err != nil {
		return Limits{}, err
	}
	members, err := doc.entries()
	if err != nil {
		return Limits{}, err
	}
	limits, err := members["limits"].entries()
	if err != nil {
		return Limits{}, err
	}
	rates, err := members["rate_limits"].entries()
	if err != nil {
		return Limits{}, err
	}
	return Limits{
		MaxConcurrentJobs: firstPositive(limits["max_concurrent_jobs"], rates["concurrent_jobs"]),
		QueueSize:         firstPositive(rates["queue_size"]),
		MaxConcurrentRuns: firstPositive(limits["max_concurrent_runs"], rates["concurrent_workflows"]),
	}, nil
}

func firstPositive(nodes ...node) int {
	for _, n := range nodes {
		f, ok := number(n.value)
		if s, isText := n.value.(string); isText {
			var err error
			f, err = strconv.ParseFloat(strings.TrimSpace(s), 64)
			ok = err == nil
		}
		if ok && f >= 1 {
			return int(min(f, math.MaxInt32))
		}
	}
	return 0
}

// JobsFull says whether a tenant with so many jobs, active ones and those that wait for a place, may submit no more.
func (l Limits) JobsFull(active int) bool {
	return l.MaxConcurrentJobs > 0 && active >= l.MaxConcurrentJobs+l.QueueSize
}

// RunsFull says whether a tenant with so many active workflow runs may start no more.
func (l Limits) RunsFull(active int) bool {
	return l.MaxConcurrentRuns > 0 && active >= l.MaxConcurrentRuns
}
