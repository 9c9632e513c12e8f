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

	w    *Worker
	once sync.Once
	data []byte
	err  error
}

func (w *Worker) newJob(trace string, r *agentv1.JobRequest, attempt int) *Job {
	j := &Job{
		ID: r.GetJobId(), Topic: r.GetTopic(), TraceID: trace, TenantID: r.GetTenantId(), PrincipalID: r.GetPrincipalId(), Attempt: attempt,
		Labels: r.GetLabels(), Env: r.GetEnv(), Request: r, w: w,
	}
	if text := r.GetEnv()["CORDUM_POLICY_CONSTRAINTS"]; text != "" {
		c := &agentv1.PolicyConstraints{}
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(text), c); err == nil {
			j.Constraints = c
		}
	}
	return j
}

// Context answers the job's input, read from the plane when it is first asked for; nil when there is none.
func (j *Job) Context(ctx context.Context) ([]byte, error) {
	j.once.Do(func() {
		if j.Request.GetContextPtr() == "" {
			return
		}
		client := j.w.client()
		if client == nil {
			j.err = errStopped
			return
		}
		res, err := client.ReadContext(j.w.credentials(ctx), &cordumv1.ReadContextRequest{JobId: j.ID, Pointer: j.Request.GetContextPtr()})
		if err != nil {
			j.err = fmt.Errorf("read context: %w", err)
			return
		}
		j.data = res.GetData()
	})
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
func (j *Job) Progress(percent int, message string) {
	j.w.mu.Lock()
	l := j.w.link
	j.w.mu.Unlock()
	if l == nil {
		return
	}
	_ = l.send(j.w.envelope(j.TraceID, &agentv1.BusPacket{Payload: &agentv1.BusPacket_JobProgress{JobProgress: &agentv1.JobProgress{
		JobId: j.ID, Percent: int32(min(max(percent, 0), 100)), Message: message, Status: agentv1.JobStatus_JOB_STATUS_RUNNING,
	}}})) // best effort
}
