// Package runs keeps runs of workflows and gets them on: it loads what package engine needs to go a step further, commits what became of it, and
// sends what is to be sent.
//
// # One writer at a time, and any number of crashes
//
// Every commit is one transaction, under the condition that the header is the one that the pass began with: of two who advance a run at once one
// begins again. What is to be sent is in the header before it is sent, and leaves it in a later commit; whoever finds something there that is
// older than half a minute sends it again, and everybody who receives it drops what comes twice. What has happened lies in the inbox (package
// inbox) until the commit that takes it in.
//
// # Who wakes a run
//
// Messages on the runs queue, grouped by run: from whoever put something into the inbox, from the sweep for whatever is due, and from a run that has
// more to do than one invocation should. A run that waits for a human, for a job or for a year costs nothing.
package runs
