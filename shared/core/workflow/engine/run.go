package engine

import (
	"maps"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/workflow"
)

// Limits of a run.
const (
	// MaxSend is how many effects may be outstanding.
	MaxSend = 25
	// MaxRecords is how many changed records stop a pass from starting more steps; it may end as many again as may be sent.
	MaxRecords = 40
	// MaxItems is the most children of a for_each.
	MaxItems = 1000
	// MaxInline is the largest result, in bytes, that becomes an output in the context.
	MaxInline = 256 << 10
	// MaxMessage is the longest error of a job, in bytes, that a step keeps.
	MaxMessage = 4 << 10
	// maxLabel is the longest value of a route label that a template makes, in bytes, and maxData the largest payload in the timeline.
	maxLabel = 1 << 10
	maxData  = 8 << 10
	// itemChunk is how many frozen items share one value.
	itemChunk = 25
)

// Status is that of a run or a step, in the words of the wire.
type Status string

// The statuses. A run is never skipped.
const (
	Pending   Status = "pending"
	Running   Status = "running"
	Waiting   Status = "waiting"
	Succeeded Status = "succeeded"
	Failed    Status = "failed"
	Denied    Status = "denied"
	Cancelled Status = "cancelled"
	TimedOut  Status = "timed_out"
	Skipped   Status = "skipped"
)

// Terminal says that nothing can change it.
func (s Status) Terminal() bool { return s != Pending && s != Running && s != Waiting && s != "" }

// Value is a JSON tree with json.Number for numbers, or the name of one that is kept elsewhere. The engine makes inline ones only; a caller
// may put large ones elsewhere before it stores a record, and a Source gives them back by their Ref. The zero value is none.
type Value struct {
	Inline any    `json:"inline,omitempty"`
	Ref    string `json:"ref,omitzero"`
}

// Run is the header.
type Run struct {
	ID         string `json:"id,omitzero"`
	WorkflowID string `json:"workflow_id,omitzero"`
	OrgID      string `json:"org,omitzero"`
	TeamID     string `json:"team,omitzero"`
	// Plan is the fingerprint of the definition that the run began with and keeps to.
	Plan   string `json:"plan,omitzero"`
	Status Status `json:"status,omitzero"`
	// Input is an object.
	Input Value `json:"input,omitzero"`
	// Priority is batch, interactive or critical.
	Priority string `json:"priority,omitzero"`
	MemoryID string `json:"memory_id,omitzero"`
	// Error is what went wrong with the run as a whole, "" for nothing.
	Error          string            `json:"error,omitzero"`
	TriggeredBy    string            `json:"triggered_by,omitzero"`
	Labels         map[string]string `json:"labels,omitempty"`
	Metadata       map[string]string `json:"metadata,omitempty"`
	IdempotencyKey string            `json:"idempotency_key,omitzero"`
	RerunOf        string            `json:"rerun_of,omitzero"`
	RerunStep      string            `json:"rerun_step,omitzero"`
	DryRun         bool              `json:"dry_run,omitzero"`
	// StartedWith is the id of the credential that started it.
	StartedWith string `json:"started_with,omitzero"`
	// Parent is the step that started this run, if one did, and CallStack the workflows above this one, the outermost first.
	Parent    *Parent  `json:"parent,omitzero"`
	CallStack []string `json:"call_stack,omitempty"`

	CreatedAt   time.Time `json:"created_at,omitzero"`
	UpdatedAt   time.Time `json:"updated_at,omitzero"`
	StartedAt   time.Time `json:"started_at,omitzero"`
	CompletedAt time.Time `json:"completed_at,omitzero"`
	// Deadline is when the run times out, zero for never.
	Deadline time.Time `json:"deadline,omitzero"`
	// Version counts commits.
	Version int64 `json:"version,omitzero"`

	// Marks has a letter for each step in the order of their ids: see mark.
	Marks []byte `json:"marks,omitempty"`
	// Owners says which parallel step runs a step, where a template said so.
	Owners map[string]string `json:"owners,omitempty"`
	// Roots are the members of the context beside steps, sorted.
	Roots []string `json:"roots,omitempty"`
	// Outbox is what is not known to have been sent, in order.
	Outbox []PendingEffect `json:"outbox,omitempty"`
	// Sweeps are steps that have ended while something of them was live, and is to be cancelled.
	Sweeps []Sweep `json:"sweeps,omitempty"`
	// SkipReason is why steps are skipped that have no record.
	SkipReason string `json:"skip_reason,omitzero"`
}

// Parent is the step of another run.
type Parent struct {
	RunID  string `json:"run,omitzero"`
	StepID string `json:"step,omitzero"`
}

// Sweep are steps whose live jobs, child runs and children are to be ended.
type Sweep struct {
	Steps []string `json:"steps,omitempty"`
	// Status and Error are for their records.
	Status Status `json:"status,omitzero"`
	Error  string `json:"error,omitzero"`
	// Reason is for the workers.
	Reason string `json:"reason,omitzero"`
}

func (r *Run) clone() *Run {
	c := *r
	c.Marks = slices.Clone(r.Marks)
	c.Owners = maps.Clone(r.Owners)
	c.Roots = slices.Clone(r.Roots)
	c.Outbox = slices.Clone(r.Outbox)
	c.Sweeps = slices.Clone(r.Sweeps)
	return &c
}

// mark is how a step stands, as far as other steps need to know. For steps of the definition it is what holds: a record may lag behind it
// while a Sweep is under way.
type mark = byte

const (
	untouched mark = '.'
	chosen    mark = 'p' // pending, waits for its dependencies like an untouched one
	activated mark = 'h' // pending, to be started whatever its dependencies
	backoff   mark = 'z' // pending until a timer
	running   mark = 'r'
	starting  mark = 'g' // running, and has children to start
	waiting   mark = 'w'
	succeeded mark = 's'
	failed    mark = 'f'
	denied    mark = 'd'
	cancelled mark = 'c'
	timedOut  mark = 't'
	skipped   mark = 'k'
	notTaken  mark = 'b' // cancelled by a switch, and counts as completed
	released  mark = 'q' // cancelled by a parallel step, and counts as completed
)

var statuses = map[mark]Status{
	chosen: Pending, activated: Pending, backoff: Pending, running: Running, starting: Running, waiting: Waiting, succeeded: Succeeded,
	failed: Failed, denied: Denied, cancelled: Cancelled, timedOut: TimedOut, skipped: Skipped, notTaken: Cancelled, released: Cancelled,
}

var marks = map[Status]mark{
	Pending: chosen, Running: running, Waiting: waiting, Succeeded: succeeded, Failed: failed, Denied: denied, Cancelled: cancelled,
	TimedOut: timedOut, Skipped: skipped,
}

func ended(m mark) bool { return strings.IndexByte("sfdctkbq", m) >= 0 }

func live(m mark) bool { return strings.IndexByte("hzrgw", m) >= 0 }

// Record is one step or child that was reached, or a root of the context.
type Record struct {
	// ID is the step, "<step>[<index>]" for a child, "$<name>" for a root of the context.
	ID          string    `json:"id,omitzero"`
	Status      Status    `json:"status,omitzero"`
	StartedAt   time.Time `json:"started_at,omitzero"`
	CompletedAt time.Time `json:"completed_at,omitzero"`
	// NextAttemptAt is the end of a delay or of a backoff; it stays after it has passed.
	NextAttemptAt time.Time `json:"next_attempt_at,omitzero"`
	// Due is when the record wants a Timer, zero for never.
	Due      time.Time `json:"due,omitzero"`
	Attempts int       `json:"attempts,omitzero"`
	// JobID is that of the last attempt; of a subworkflow the child run.
	JobID string `json:"job_id,omitzero"`
	// Input is the payload.
	Input Value `json:"input,omitzero"`
	// Item is that of a child of a for_each, and Index the position of a child.
	Item  Value `json:"item,omitzero"`
	Index int   `json:"index,omitzero"`
	// Output is what the context shows, if Recorded; HasOutput tells a null from nothing.
	Output    Value  `json:"output,omitzero"`
	HasOutput bool   `json:"has_output,omitzero"`
	Recorded  bool   `json:"recorded,omitzero"`
	ResultPtr string `json:"result_ptr,omitzero"`
	// Error has at least a message.
	Error map[string]any `json:"error,omitempty"`
	// SkipReason is only in what Show answers.
	SkipReason string `json:"skip_reason,omitzero"`
	// Cause is the error that an error handler was started for.
	Cause map[string]any `json:"cause,omitempty"`
	// Labels are the route labels.
	Labels map[string]string `json:"labels,omitempty"`
	Fan    *Fan              `json:"fan,omitzero"`
	Group  *Group            `json:"group,omitzero"`
	Loop   *Loop             `json:"loop,omitzero"`
}

func (r *Record) clone() *Record {
	c := *r
	if r.Fan != nil {
		f := *r.Fan
		f.Live, f.Due, f.Done, f.Items = slices.Clone(f.Live), slices.Clone(f.Due), slices.Clone(f.Done), slices.Clone(f.Items)
		c.Fan = &f
	}
	if r.Loop != nil {
		l := *r.Loop
		c.Loop = &l
	}
	return &c
}

// Values are all that a record has, for a store that keeps large ones apart.
func (r *Record) Values() []*Value {
	all := []*Value{&r.Input, &r.Output, &r.Item}
	if r.Fan != nil {
		for i := range r.Fan.Items {
			all = append(all, &r.Fan.Items[i])
		}
	}
	if r.Loop != nil {
		all = append(all, &r.Loop.Previous)
	}
	return all
}

// Fan is what the parent of a for_each knows of its children.
type Fan struct {
	Count int `json:"count,omitzero"`
	// Next is the first child that was never started; those from it on have no records.
	Next int `json:"next,omitzero"`
	// Busy counts the children that take a place of max_parallel.
	Busy int `json:"busy,omitzero"`
	// Live are the started children that have not ended, Due those of them whose backoff is over, Done those that succeeded.
	Live Bits `json:"live,omitempty"`
	Due  Bits `json:"due,omitempty"`
	Done Bits `json:"done,omitempty"`
	// Items are frozen when the step starts, itemChunk a value.
	Items []Value `json:"items,omitempty"`
}

// Group is a parallel step: it has succeeded with so many of its children.
type Group struct {
	Children []string          `json:"children,omitempty"`
	Strategy workflow.Strategy `json:"strategy,omitzero"`
	Required int               `json:"required,omitzero"`
}

// Loop is how far a loop is.
type Loop struct {
	Index    int   `json:"index,omitzero"`
	Max      int   `json:"max,omitzero"`
	Previous Value `json:"previous,omitzero"`
}

// Bits is a set of small numbers.
type Bits []byte

func (b *Bits) set(i int, on bool) {
	for len(*b) <= i/8 {
		*b = append(*b, 0)
	}
	if on {
		(*b)[i/8] |= 1 << (i % 8)
	} else {
		(*b)[i/8] &^= 1 << (i % 8)
	}
}

// first is the smallest member, -1 when there is none.
func (b Bits) first() int {
	for i, x := range b {
		if x != 0 {
			return 8*i + bits.TrailingZeros8(x)
		}
	}
	return -1
}

func (b Bits) count() int {
	n := 0
	for _, x := range b {
		n += bits.OnesCount8(x)
	}
	return n
}

// ChildID names a child.
func ChildID(step string, index int) string { return step + "[" + strconv.Itoa(index) + "]" }

// splitChild reads the id of a child; ok is false for one that is none.
func splitChild(id string) (step string, index int, ok bool) {
	step, rest, found := strings.Cut(id, "[")
	digits, closed := strings.CutSuffix(rest, "]")
	n, err := strconv.Atoi(digits)
	if !found || !closed || err != nil || n < 0 || strconv.Itoa(n) != digits {
		return id, 0, false
	}
	return step, n, true
}

// JobID names the job of an attempt.
func JobID(run, record string, attempt int) string {
	return run + ":" + record + "@" + strconv.Itoa(attempt)
}

// SplitJobID reads the run and the record that a job is of; ok is false for a job that is none of a run.
func SplitJobID(job string) (run, record string, ok bool) {
	run, rest, found := strings.Cut(job, ":")
	if !found || run == "" {
		return "", "", false
	}
	record = rest
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		record = rest[:at]
	}
	return run, record, record != ""
}

func contextPtr(job string) string { return "redis://ctx:" + job }

// Show is a step or child as readers see it, nil for one that was not reached. r is its record and parent that of the step that a child is of,
// nil where there is none: what was cancelled or skipped before it began has none, and one that is being swept still looks live.
func Show(p *Plan, run *Run, id string, r, parent *Record) *Record {
	step, index, child := splitChild(id)
	n := p.node(step)
	if n == nil {
		return nil
	}
	m := run.Marks[n.i]
	if child {
		return showChild(id, index, m, r, parent)
	}
	if m == untouched {
		return nil
	}
	made := &Record{ID: id}
	if r != nil {
		made = r.clone()
	}
	made.Status = statuses[m]
	if !ended(m) {
		return made
	}
	if made.CompletedAt.IsZero() {
		made.CompletedAt = run.CompletedAt
	}
	if m == skipped {
		made.SkipReason = run.SkipReason
	}
	if made.Error == nil {
		made.Error = defaultError(m, run)
	}
	return made
}

// defaultError is that of a step that ended without anything of its own going wrong.
func defaultError(m mark, run *Run) map[string]any {
	switch m {
	case notTaken:
		return map[string]any{"message": notTakenMessage, "reason": "switch_branch_not_taken"}
	case released:
		return map[string]any{"message": releasedMessage}
	case timedOut:
		return map[string]any{"message": run.Error}
	}
	return nil
}

const (
	notTakenMessage  = "branch not taken"
	releasedMessage  = "cancelled by parallel strategy"
	takenDownMessage = "the run has ended"
)

func showChild(id string, index int, parentMark mark, r, parent *Record) *Record {
	switch {
	case parent == nil:
		return nil
	case r == nil && (parent.Fan == nil || index >= parent.Fan.Count):
		return nil
	case r == nil:
		r = &Record{ID: id, Status: Pending, Index: index}
	}
	made := r.clone()
	if ended(parentMark) && !made.Status.Terminal() {
		made.Status = Cancelled
	}
	return made
}
