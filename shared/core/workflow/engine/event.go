package engine

import "time"

// Event is something that happened to a run. Each applies at most once; what comes twice, late or early is answered in Result.Ignored.
type Event interface{ record() string }

// Start begins a run.
type Start struct{}

// JobStatus is how a job ended, in the words of results and of job states.
type JobStatus string

// The ends of jobs. Any other word is ignored.
const (
	JobSucceeded JobStatus = "SUCCEEDED"
	JobFailed    JobStatus = "FAILED"
	JobRetryable JobStatus = "FAILED_RETRYABLE"
	JobFatal     JobStatus = "FAILED_FATAL"
	JobTimeout   JobStatus = "TIMEOUT"
	JobDenied    JobStatus = "DENIED"
	JobCancelled JobStatus = "CANCELLED"
)

// JobResult is the end of a job.
type JobResult struct {
	JobID     string
	Status    JobStatus
	ResultPtr string
	// Result is what ResultPtr names, whatever its size; nil when there is none or it cannot be read.
	Result []byte
	Error  string
	// Found says that the result was lost, and the state of the job was found instead.
	Found bool
}

// Timer says that the time has come that a record asked for; Record is "" for the deadline of the run.
type Timer struct{ Record string }

// Approval is the decision about a gate job, whichever way it came.
type Approval struct {
	JobID    string
	Approved bool
	// By, Reason and Note are for the timeline.
	By, Reason, Note string
}

// Cancel ends the run.
type Cancel struct{ By string }

// ChildEnded is the end of the run of a subworkflow.
type ChildEnded struct {
	// Record is the step that started it.
	Record string
	RunID  string
	Status Status
	Error  string
	// Input and Context are those of the child run, for the output mapping.
	Input, Context any
}

// Sent confirms effects.
type Sent struct{ IDs []string }

// Resend asks for everything that was not confirmed.
type Resend struct{}

// Deleted says that the workflow of the run is no more.
type Deleted struct{}

func (Start) record() string { return "" }
func (e JobResult) record() string {
	_, record, _ := SplitJobID(e.JobID)
	return record
}
func (e Timer) record() string { return e.Record }
func (e Approval) record() string {
	_, record, _ := SplitJobID(e.JobID)
	return record
}
func (Cancel) record() string       { return "" }
func (e ChildEnded) record() string { return e.Record }
func (Sent) record() string         { return "" }
func (Resend) record() string       { return "" }
func (Deleted) record() string      { return "" }

// Why an event is ignored. Callers of routes read some of these texts.
const (
	NoStep     = "step not found"
	NotWaiting = "step not waiting"
	RunEnded   = "run terminal"
	Stale      = "not the current attempt"
	Duplicate  = "already applied"
	Early      = "not yet due"
	NotAnEnd   = "not the end of a job"
	NotAGate   = "a result does not decide an approval"
)

// Ignored is an event that changed nothing.
type Ignored struct {
	// Event is its position in the list.
	Event int
	Why   string
}

// Entry is an event of the timeline.
type Entry struct {
	Time      time.Time
	Type      string
	StepID    string
	JobID     string
	Status    Status
	ResultPtr string
	Message   string
	Data      map[string]any
}
