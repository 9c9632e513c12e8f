package schedule

import "fmt"

// Job is what routing reads of a job.
type Job struct {
	// Topic is required.
	Topic string
	// Tenant is the job's; only workers that serve it are considered.
	Tenant string
	// Requires are the needs of the job: words, compared without case and surrounding space; blank ones do not count.
	Requires []string
	Labels   map[string]string
}

// Labels that routing reads besides the placement labels.
const (
	// LabelPreferredPool restricts the job to one of its topic's pools.
	LabelPreferredPool = "preferred_pool"
	// LabelPreferredWorker names the worker that gets the job if it can take it now; otherwise the label has no effect.
	LabelPreferredWorker = "preferred_worker_id"
)

// Code says why a job cannot be routed or handed over. It is what a dead letter carries as its reason code.
type Code string

// The codes. The first two are final, the others may pass.
const (
	NoPoolMapping  Code = "no_pool_mapping"
	DispatchFailed Code = "dispatch_failed"
	NoWorkers      Code = "no_workers"
	PoolOverloaded Code = "pool_overloaded"
	TenantLimit    Code = "tenant_limit"
)

// Error is a job that can never be routed as it is: its Code is NoPoolMapping or DispatchFailed.
type Error struct {
	Code Code
	// Message is the whole text for people; it begins with the code.
	Message string
}

func (e *Error) Error() string { return e.Message }

func unroutable(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: string(code) + ": " + fmt.Sprintf(format, args...)}
}
