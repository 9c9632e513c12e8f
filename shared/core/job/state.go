// Package job is what a job is: its states and who may move it from one to the next, its record, where it is stored, and every change to
// it as one conditional write. Nothing in it waits, sends or looks at a clock.
package job

import (
	"slices"
	"strings"
)

// State is where a job stands.
type State string

// The states. Their words are on the wire.
const (
	// Pending is stored and in no queue: throttled, over a limit, or a dependency could not be reached.
	Pending State = "PENDING"
	// ApprovalRequired waits for a human.
	ApprovalRequired State = "APPROVAL_REQUIRED"
	// Scheduled is in its pool's queue, whether or not a worker is there.
	Scheduled State = "SCHEDULED"
	// Dispatched was handed to a worker.
	Dispatched State = "DISPATCHED"
	// Running: the worker said so.
	Running State = "RUNNING"

	Succeeded State = "SUCCEEDED"
	Failed    State = "FAILED"
	Cancelled State = "CANCELLED"
	Timeout   State = "TIMEOUT"
	Denied    State = "DENIED"
)

// States lists every state, in the order of a job's life.
var States = []State{Pending, ApprovalRequired, Scheduled, Dispatched, Running, Succeeded, Failed, Cancelled, Timeout, Denied}

// Active are the states that count against a concurrency limit.
var Active = []State{Scheduled, Dispatched, Running}

// Held says whether a worker has the job.
func (r *Record) Held() bool { return r.State == Dispatched || r.State == Running }

// Transition is one legal move and what causes it.
type Transition struct {
	From, To State // From "" is a new job
	Cause    string
}

// Transitions is the state machine: the only list of legal moves. The diagram in docs/states.md is made from it.
var Transitions = []Transition{
	{"", Pending, "submit: throttled, over a limit, or a dependency is out of reach"},
	{"", ApprovalRequired, "submit: the policy asks for a human"},
	{"", Scheduled, "submit: allowed and routed"},
	{"", Denied, "submit: the policy denies"},
	{"", Failed, "submit: no pool takes the topic"},
	{Pending, ApprovalRequired, "decided again: the policy asks for a human"},
	{Pending, Scheduled, "decided again: allowed and routed"},
	{Pending, Denied, "decided again: the policy denies"},
	{Pending, Failed, "no pool takes the topic, or it waited too long"},
	{Pending, Timeout, "deadline"},
	{Pending, Cancelled, "cancel"},
	{ApprovalRequired, Pending, "approved, and over a limit, or its queue could not be reached"},
	{ApprovalRequired, Scheduled, "approved and routed"},
	{ApprovalRequired, Succeeded, "approved, and it is the gate of a workflow"},
	{ApprovalRequired, Denied, "rejected, nobody resolved it in time, or approved and forbidden by the configuration meanwhile"},
	{ApprovalRequired, Failed, "approved, but no pool takes the topic"},
	{ApprovalRequired, Timeout, "deadline"},
	{ApprovalRequired, Cancelled, "cancel"},
	{Scheduled, Pending, "its queue could not be reached, or the policy changed before a worker claimed it and throttles"},
	{Scheduled, ApprovalRequired, "the policy changed before a worker claimed it, and asks for a human"},
	{Scheduled, Dispatched, "a worker claims it"},
	{Scheduled, Failed, "it waited too long"},
	{Scheduled, Denied, "the policy changed before a worker claimed it"},
	{Scheduled, Timeout, "deadline"},
	{Scheduled, Cancelled, "cancel"},
	{Dispatched, Running, "the worker's first progress, or a heartbeat that names it"},
	{Dispatched, Scheduled, "the worker is lost and an attempt is left"},
	{Dispatched, Succeeded, "result"},
	{Dispatched, Failed, "result, or the worker is lost and no attempt is left"},
	{Dispatched, Timeout, "result, deadline, or no word from the worker"},
	{Dispatched, Cancelled, "cancel, or result"},
	{Running, Scheduled, "the worker is lost and an attempt is left"},
	{Running, Succeeded, "result"},
	{Running, Failed, "result, or the worker is lost and no attempt is left"},
	{Running, Timeout, "result, deadline, or running too long"},
	{Running, Cancelled, "cancel, or result"},
}

// May says whether a job may move. A state may always be written to itself.
func May(from, to State) bool {
	if from == to && from != "" {
		return true
	}
	return slices.ContainsFunc(Transitions, func(t Transition) bool { return t.From == from && t.To == to })
}

// From lists the states that may move to a state, itself not included.
func From(to State) []State {
	var out []State
	for _, t := range Transitions {
		if t.To == to && t.From != "" {
			out = append(out, t.From)
		}
	}
	return out
}

// Terminal says whether nothing follows.
func (s State) Terminal() bool {
	return slices.Contains([]State{Succeeded, Failed, Cancelled, Timeout, Denied}, s)
}

// Unsuccessful says whether it is an end that leaves a dead letter, or a cancel.
func (s State) Unsuccessful() bool { return s.Terminal() && s != Succeeded }

// ParseState reads a state's word in any case.
func ParseState(word string) (State, bool) {
	s := State(strings.ToUpper(strings.TrimSpace(word)))
	return s, slices.Contains(States, s)
}
