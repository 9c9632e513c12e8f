package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
)

// Job is a job that was handed to this worker. Its fields are not to be changed.
type Job struct {
	ID          string
	Topic       string
	TraceID     string
	TenantID    string
	PrincipalID string
	// Attempt counts the hand-overs of the job, from 1.
	Attempt int
	Labels  map[string]string
	Env     map[string]string
	// Constraints are what the policy allows the job only under; nil for none.
	Constraints *agentv1.PolicyConstraints
	// Request is the whole request.
	Request *agentv1.JobRequest

	engine   cordumv1.ContextEngineClient
	read     func(context.Context) ([]byte, error)
	progress func(percent int, message string)
	once     sync.Once
	data     []byte
	err      error
}

// NewJob makes a job that no plane has handed out, for tests of handlers: see package workertest.
func NewJob(r *agentv1.JobRequest, c *agentv1.PolicyConstraints, input []byte, progress func(percent int, message string)) *Job {
	if progress == nil {
		progress = func(int, string) {}
	}
	return &Job{
		ID: r.GetJobId(), Topic: r.GetTopic(), TenantID: r.GetTenantId(), PrincipalID: r.GetPrincipalId(), Attempt: 1, Labels: r.GetLabels(),
		Env: r.GetEnv(), Constraints: c, Request: r, progress: progress,
		read:   func(context.Context) ([]byte, error) { return input, nil },
		engine: noEngine{},
	}
}

func (e *executor) newJob(now *running, r *agentv1.JobRequest) *Job {
	var c *agentv1.PolicyConstraints
	if text := r.GetEnv()["CORDUM_POLICY_CONSTRAINTS"]; text != "" {
		c = &agentv1.PolicyConstraints{}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(text), c); err != nil {
			e.log.Warn("constraints of a job cannot be read", "job", r.GetJobId(), "error", err)
			c = nil
		}
	}
	j := NewJob(r, c, nil, func(percent int, message string) { e.progress(now, percent, message) })
	j.TraceID, j.Attempt, j.engine = now.trace, now.attempt, e.plane.engine(r)
	j.read = func(ctx context.Context) ([]byte, error) {
		if r.GetContextPtr() == "" {
			return nil, nil
		}
		data, err := e.plane.input(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("read context: %w", err)
		}
		return data, nil
	}
	return j
}

// Context answers the job's input, read from the plane when it is first asked for; nil when there is none.
func (j *Job) Context(ctx context.Context) ([]byte, error) {
	j.once.Do(func() { j.data, j.err = j.read(ctx) })
	return j.data, j.err
}

// DecodeContext reads the job's input as JSON into v. What was submitted with POST /jobs is an object with the members prompt and context.
func (j *Job) DecodeContext(ctx context.Context, v any) error {
	data, err := j.Context(ctx)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return &Error{Code: "invalid_input", Message: "the context is not what this job expects: " + err.Error()}
	}
	return nil
}

// Progress tells how far the job is: percent from 0 to 100, and a word for people. It never fails and never waits for an answer; the plane
// stores about one a second.
func (j *Job) Progress(percent int, message string) { j.progress(percent, message) }
