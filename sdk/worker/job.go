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
		read: func(context.Context) ([]byte, error) { return input, nil },
	}
}

func (w *Worker) newJob(trace string, r *agentv1.JobRequest, attempt int) *Job {
	var c *agentv1.PolicyConstraints
	if text := r.GetEnv()["CORDUM_POLICY_CONSTRAINTS"]; text != "" {
		c = &agentv1.PolicyConstraints{}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(text), c); err != nil {
			w.log.Warn("constraints of a job cannot be read", "job", r.GetJobId(), "error", err)
			c = nil
		}
	}
	j := NewJob(r, c, nil, func(percent int, message string) { w.progress(trace, r.GetJobId(), percent, message) })
	j.TraceID, j.Attempt = trace, attempt
	j.read = func(ctx context.Context) ([]byte, error) { return w.context(ctx, r) }
	return j
}

// context reads a job's input from the plane.
func (w *Worker) context(ctx context.Context, r *agentv1.JobRequest) ([]byte, error) {
	if r.GetContextPtr() == "" {
		return nil, nil
	}
	res, err := ask(ctx, w, func(c cordumv1.WorkersClient) (*cordumv1.ReadContextResponse, error) {
		return c.ReadContext(w.credentials(ctx), &cordumv1.ReadContextRequest{JobId: r.GetJobId(), Pointer: r.GetContextPtr()})
	})
	if err != nil {
		return nil, fmt.Errorf("read context: %w", err)
	}
	return res.GetData(), nil
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

func (w *Worker) progress(trace, jobID string, percent int, message string) {
	w.mu.Lock()
	l := w.link
	w.mu.Unlock()
	if l == nil {
		return
	}
	_ = l.send(w.envelope(trace, &agentv1.BusPacket{Payload: &agentv1.BusPacket_JobProgress{JobProgress: &agentv1.JobProgress{
		JobId: jobID, Percent: int32(min(max(percent, 0), 100)), Message: message, Status: agentv1.JobStatus_JOB_STATUS_RUNNING,
	}}})) // best effort
}
