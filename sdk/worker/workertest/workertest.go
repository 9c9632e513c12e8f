// Package workertest makes jobs without a plane, to test handlers with.
package workertest

import (
	"maps"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
)

// Input is what a test says of a job.
type Input struct {
	ID, Topic string
	Labels    map[string]string
	Env       map[string]string
	// Context is what the job's Context answers.
	Context []byte
	// MemoryID is the job's memory, ContextEngine what it reaches it by; nil makes a job that reaches none.
	MemoryID      string
	ContextEngine cordumv1.ContextEngineClient
	// Constraints are what the policy allows it only under.
	Constraints *agentv1.PolicyConstraints
	// Progress, when set, is told what the handler says of its progress.
	Progress func(percent int, message string)
}

// Job makes a job as a handler gets it.
func Job(in Input) *worker.Job {
	j := worker.NewJob(&agentv1.JobRequest{
		JobId: in.ID, Topic: in.Topic, Labels: maps.Clone(in.Labels), Env: maps.Clone(in.Env), MemoryId: in.MemoryID,
	}, in.Constraints, in.Context, in.Progress)
	if in.ContextEngine != nil {
		j.UseContextEngine(in.ContextEngine)
	}
	return j
}
