package workflow

import "strings"

// The words for types of steps. Any other word, and none, is a job like worker.
const (
	TypeWorker      = "worker"
	TypeLLM         = "llm"
	TypeHTTP        = "http"
	TypeContainer   = "container"
	TypeScript      = "script"
	TypeInput       = "input"
	TypeApproval    = "approval"
	TypeCondition   = "condition"
	TypeSwitch      = "switch"
	TypeParallel    = "parallel"
	TypeLoop        = "loop"
	TypeDelay       = "delay"
	TypeNotify      = "notify"
	TypeTransform   = "transform"
	TypeStorage     = "storage"
	TypeSubworkflow = "subworkflow"
)

// Kind is how a step is carried out.
type Kind uint8

// The kinds: a job for a worker, or one of those that the engine does itself.
const (
	Job Kind = iota
	Approval
	Condition
	Switch
	Parallel
	Loop
	Delay
	Notify
	Transform
	Storage
	Subworkflow
)

var kinds = map[string]Kind{
	TypeApproval: Approval, TypeCondition: Condition, TypeSwitch: Switch, TypeParallel: Parallel, TypeLoop: Loop, TypeDelay: Delay,
	TypeNotify: Notify, TypeTransform: Transform, TypeStorage: Storage, TypeSubworkflow: Subworkflow,
}

// Kind reads the type without regard to case and surrounding space: "Approval" must not turn out as a job that nobody approves.
func (s *Step) Kind() Kind { return kinds[strings.ToLower(strings.TrimSpace(s.Type))] }

// String is the word of the kind, "job" for Job.
func (k Kind) String() string {
	for word, kind := range kinds {
		if kind == k {
			return word
		}
	}
	return "job"
}
