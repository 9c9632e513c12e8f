// Package schedule decides where a job goes and how long it may take: which pool takes a topic, which worker of the pool is offered the
// job, when a job that makes no progress is given up, and how long to wait before the next try.
//
// Everything here is a pure function of a configuration, a list of workers and a time that the caller passes in. The configuration is
// the document system/default: ParseSettings compiles it once, and what it answers is never changed afterwards, so that it may be shared
// by goroutines. At submit, Topology.Route chooses the pool, and the worker of a job that only one certain worker may take; a host that
// holds workers' streams asks Fleet.Pick whom to offer a job.
package schedule
