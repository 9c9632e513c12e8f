package schedule

import (
	"cmp"
	"math"
	"time"
)

// WorkerTTL is how long a worker counts as live after its last heartbeat.
const WorkerTTL = 30 * time.Second

// Worker is what scheduling knows of a worker: its last heartbeat.
type Worker struct {
	// ID is unique within Tenant.
	ID     string
	Pool   string
	Tenant string
	// CrossTenant workers take the jobs of every tenant, others only those of their own.
	CrossTenant bool
	// PullOnly workers take jobs only from their pool's queue: nothing can be sent to one of them in particular.
	PullOnly bool
	Region   string
	Type     string
	// ActiveJobs is how many jobs it runs; MaxParallelJobs how many it can, 0 when it does not say.
	ActiveJobs      int
	MaxParallelJobs int
	// CPULoad, GPUUtilization and MemoryLoad are percentages, 0 to 100.
	CPULoad        float64
	GPUUtilization float64
	MemoryLoad     float64
	Capabilities   []string
	Labels         map[string]string
	LastHeartbeat  time.Time
}

// Live says whether the worker was heard of within WorkerTTL before now.
func Live(w Worker, now time.Time) bool { return now.Sub(w.LastHeartbeat) <= WorkerTTL }

// Overloaded says whether the worker should be given no more: nine tenths of its slots are taken, or its CPU or GPU is at 90 %.
func Overloaded(w Worker) bool {
	full := w.MaxParallelJobs > 0 && 10*w.ActiveJobs >= 9*w.MaxParallelJobs
	return full || Busy(w)
}

// Busy says whether the worker's CPU or GPU is at 90 %, whatever jobs that comes from.
func Busy(w Worker) bool { return percent(w.CPULoad) >= 90 || percent(w.GPUUtilization) >= 90 }

// Score is the load of the worker; the lowest is the best.
func Score(w Worker) float64 {
	return float64(max(w.ActiveJobs, 0)) + percent(w.CPULoad)/100 + percent(w.GPUUtilization)/100
}

// percent brings what a worker says into 0..100; what is no number counts as fully loaded, so that it cannot win every comparison.
func percent(x float64) float64 {
	if math.IsNaN(x) {
		return 100
	}
	return min(max(x, 0), 100)
}

// slots is how many jobs the worker can run; one that does not say is taken for one.
func (w *Worker) slots() int { return max(w.MaxParallelJobs, 1) }

func (w *Worker) serves(tenant string) bool { return w.CrossTenant || w.Tenant == tenant }

// compare orders workers by preference: the lower score, then the emptier one, then by name so that the choice is always the same.
func (w *Worker) compare(o *Worker) int {
	return cmp.Or(
		cmp.Compare(Score(*w), Score(*o)),
		cmp.Compare(w.ActiveJobs*o.slots(), o.ActiveJobs*w.slots()),
		cmp.Compare(w.ID, o.ID),
		cmp.Compare(w.Tenant, o.Tenant),
	)
}
