// Package engine is how runs of workflows get on: Advance takes a run and what happened to it, and answers the run as it is then and what is
// to be done. It is pure: it does not wait, send, load or look at a clock, and the same inputs give the same history.
//
// # What a run is made of
//
// A Run is the header: status, one letter a step, what is not sent yet. Everything else is a Record of its own: one per step that was reached,
// one per child of a for_each or loop, one per root of the context. A parent of children keeps bit sets and counts, so that the result of one
// child of a thousand needs the header, the parent and that child.
//
// # Loading
//
// Advance reads records and large values through a Source, which may hold only a part of them. What it misses comes back as a *Missing error
// that names everything known to be missing; the caller loads it and calls again with the same arguments. Needs answers what an event is sure
// to need, so that most events need one round. A Value may be a reference; Advance resolves one only where an expression reads it.
//
// # Effects
//
// What is to be sent is an Effect. Its Pending entry stays in the header, which is committed before anything is sent, until a Sent event names
// it; a Resend event makes the outstanding effects again. There are never more than MaxSend outstanding: a step that would make another waits
// for Sent. Ids are made from the run, the step and the attempt, so that receivers drop what comes twice. Effects are sent in their order.
//
// One pass changes about MaxRecords + MaxSend records at most, and a few for each of its events. When more could be done at once, Result.More
// asks for another pass without events.
//
// # Timers
//
// A Record wants a Timer event when it is Due, the header one at Deadline while it has not ended. Early and superfluous ones do nothing.
package engine
