package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/sdk/worker"
)

// Task is the context of a job for Handler. The zero one is an echo.
type Task struct {
	// Do is "fail", "mend": fail unless it is a retry from the dead letters, "linger": take MS only in the first attempt, or "".
	Do string `json:"do,omitempty"`
	// Code is that of the failure.
	Code string `json:"code,omitempty"`
	// MS is how long it takes.
	MS int `json:"ms,omitempty"`
	// Echo comes back, and so many bytes more.
	Echo  string `json:"echo,omitempty"`
	Bytes int    `json:"bytes,omitempty"`
}

// Outcome is the result of a Task.
type Outcome struct {
	Echo    string `json:"echo"`
	Prompt  string `json:"prompt"`
	Attempt int    `json:"attempt"`
	TraceID string `json:"trace_id"`
	Tenant  string `json:"tenant"`
	// Run is another one for every time that the handler runs.
	Run string `json:"run"`
	Pad string `json:"pad,omitempty"`
}

// halfWay is what Handler says when it is there.
const halfWay = "half way"

// Handler does what a job's context asks for, the same over every transport.
func Handler(ctx context.Context, j *worker.Job) (any, error) {
	var in struct {
		Prompt  string `json:"prompt"`
		Context Task   `json:"context"`
	}
	if err := j.DecodeContext(ctx, &in); err != nil {
		return nil, err
	}
	task := in.Context
	j.Progress(50, halfWay)
	if task.Do == "linger" && j.Attempt > 1 {
		task.MS = 0
	}
	select {
	case <-time.After(time.Duration(task.MS) * time.Millisecond):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if task.Do == "fail" || task.Do == "mend" && j.Labels["retry"] != "true" {
		return nil, &worker.Error{Code: task.Code, Message: "asked to fail: " + task.Echo}
	}
	return Outcome{
		Echo: task.Echo, Prompt: in.Prompt, Attempt: j.Attempt, TraceID: j.TraceID, Tenant: j.TenantID, Run: randomHex(), Pad: strings.Repeat("x", task.Bytes),
	}, nil
}

// outcome reads the result of a job that Handler did.
func (s *story) outcome(j job) (o Outcome) {
	s.Helper()
	if err := json.Unmarshal(j.Result, &o); err != nil {
		s.Fatalf("result %s of job %s: %v", j.Result, j.ID, err)
	}
	return o
}

// ledger notes how often this process ran a job, and whether it was told to stop.
type ledger struct {
	mu      sync.Mutex
	runs    map[string]int
	stopped map[string]bool
}

func (l *ledger) handler(h worker.Handler) worker.Handler {
	return func(ctx context.Context, j *worker.Job) (any, error) {
		l.mu.Lock()
		l.runs[j.ID]++
		l.mu.Unlock()
		v, err := h(ctx, j)
		l.mu.Lock()
		l.stopped[j.ID] = ctx.Err() != nil
		l.mu.Unlock()
		return v, err
	}
}

func (l *ledger) of(id string) (runs int, stopped bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.runs[id], l.stopped[id]
}
