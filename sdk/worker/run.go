package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
)

// running is a job between its request and its result.
type running struct {
	attempt int
	cancel  context.CancelCauseFunc
}

// outcome is a finished job: its result, and whether the plane has it.
type outcome struct {
	id      string
	attempt int
	packet  *agentv1.BusPacket
	sent    time.Time
}

// errCancelled is why a handler's context ends when its job is cancelled.
var errCancelled = errors.New("worker: job cancelled")

func (w *Worker) client() cordumv1.WorkersClient {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.link == nil {
		return nil
	}
	return w.link.client
}

// request takes a job, unless it runs already or has run: then it goes on, or its result is sent again.
func (w *Worker) request(l *link, trace string, r *agentv1.JobRequest) {
	id := r.GetJobId()
	if id == "" || r.GetTopic() == "" {
		w.log.Warn("a request without job or topic is passed over")
		return
	}
	attempt, _ := strconv.Atoi(r.GetEnv()["CORDUM_ATTEMPT"])
	w.mu.Lock()
	if now := w.jobs[id]; now != nil {
		if now.attempt == attempt {
			w.mu.Unlock()
			return
		}
		now.cancel(errCancelled) // it was given to this worker anew
	}
	if o, ok := w.finished.get(id); ok && o.attempt == attempt {
		w.unacked[id] = o
		w.mu.Unlock()
		w.transmit(l, o)
		return
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	w.jobs[id] = &running{attempt: attempt, cancel: cancel}
	if _, ok := w.revoked.get(id); ok {
		cancel(errCancelled)
	}
	w.mu.Unlock()
	job := w.newJob(trace, r, attempt)
	w.handling.Go(func() {
		defer cancel(nil)
		w.execute(ctx, job)
	})
}

// cancel stops a job, or remembers that it must not start.
func (w *Worker) cancel(c *agentv1.JobCancel) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := w.jobs[c.GetJobId()]; now != nil {
		now.cancel(errCancelled)
		return
	}
	w.revoked.put(c.GetJobId(), struct{}{})
}

// execute waits for a slot, runs the handler and sends the result.
func (w *Worker) execute(ctx context.Context, j *Job) {
	began := time.Now()
	if ms := j.Request.GetBudget().GetDeadlineMs(); ms > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(ms)*time.Millisecond, context.DeadlineExceeded)
		defer cancel()
	}
	var value any
	err := context.Cause(ctx)
	if err == nil {
		select {
		case w.slots <- struct{}{}:
			value, err = w.call(ctx, j)
			<-w.slots
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	res := w.result(ctx, j, value, err)
	res.ExecutionMs = time.Since(began).Milliseconds()
	w.finish(j, res)
}

// call runs the handler; a panic is a failure like another.
func (w *Worker) call(ctx context.Context, j *Job) (value any, err error) {
	h := w.handler(j.Topic)
	if h == nil {
		return nil, &Error{Code: "no_handler", Message: fmt.Sprintf("worker %s has no handler for topic %s", w.cfg.ID, j.Topic)}
	}
	defer func() {
		if cause := recover(); cause != nil {
			w.log.Error("handler panicked", "job", j.ID, "panic", cause, "stack", string(debug.Stack()))
			err = &Error{Code: "panic", Message: fmt.Sprintf("handler panicked: %v", cause)}
		}
	}()
	return h(ctx, j)
}

// result turns what a handler answered into a packet's words. A success stores its payload first.
func (w *Worker) result(ctx context.Context, j *Job, value any, err error) *agentv1.JobResult {
	res := &agentv1.JobResult{JobId: j.ID, WorkerId: w.cfg.ID, Status: agentv1.JobStatus_JOB_STATUS_SUCCEEDED}
	if err == nil && value != nil {
		var data []byte
		if data, err = payload(value); err == nil {
			res.ResultPtr, err = w.store(ctx, j, data)
		}
	}
	if err == nil {
		return res
	}
	res.Status, res.ErrorMessage = agentv1.JobStatus_JOB_STATUS_FAILED, err.Error()
	var coded *Error
	switch {
	case errors.As(err, &coded):
		res.ErrorCode = coded.Code
	case errors.Is(context.Cause(ctx), errCancelled):
		res.Status, res.ErrorMessage = agentv1.JobStatus_JOB_STATUS_CANCELLED, "cancelled"
	case errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		res.Status, res.ErrorCode, res.ErrorMessage = agentv1.JobStatus_JOB_STATUS_TIMEOUT, "deadline_exceeded", "the job's deadline passed"
	case errors.Is(err, context.Canceled):
		res.Status = agentv1.JobStatus_JOB_STATUS_CANCELLED
	}
	return res
}

func payload(value any) ([]byte, error) {
	switch v := value.(type) {
	case []byte:
		return v, nil
	case json.RawMessage:
		return v, nil
	}
	data, err := json.Marshal(value)
	if err != nil {
		return nil, &Error{Code: "invalid_result", Message: "the result is no JSON: " + err.Error()}
	}
	return data, nil
}

// store brings a payload to the plane.
func (w *Worker) store(ctx context.Context, j *Job, data []byte) (string, error) {
	res, err := ask(ctx, w, func(c cordumv1.WorkersClient) (*cordumv1.WriteResultResponse, error) {
		return c.WriteResult(w.credentials(ctx), &cordumv1.WriteResultRequest{
			JobId: j.ID, Attempt: int32(j.Attempt), Data: data, ContentType: "application/json",
		})
	})
	if err != nil {
		return "", fmt.Errorf("store result: %w", err)
	}
	return res.GetResultPtr(), nil
}

// ask asks the plane for as long as it takes: through reconnects, until it answers or ctx ends.
func ask[T any](ctx context.Context, w *Worker, call func(cordumv1.WorkersClient) (T, error)) (T, error) {
	for try := 0; ; try++ {
		if client := w.client(); client != nil {
			res, err := call(client)
			switch status.Code(err) {
			case codes.Unavailable, codes.Internal, codes.ResourceExhausted, codes.Aborted: // later
			default:
				return res, err
			}
		}
		select {
		case <-time.After(backoff(min(try, 4))):
		case <-ctx.Done():
			var none T
			return none, context.Cause(ctx)
		}
	}
}

// finish sends a result and keeps it until the plane has it.
func (w *Worker) finish(j *Job, res *agentv1.JobResult) {
	o := &outcome{id: j.ID, attempt: j.Attempt, packet: w.envelope(j.TraceID, &agentv1.BusPacket{
		Payload: &agentv1.BusPacket_JobResult{JobResult: res},
	})}
	w.mu.Lock()
	if now := w.jobs[j.ID]; now != nil && now.attempt == j.Attempt {
		delete(w.jobs, j.ID)
	}
	w.unacked[j.ID] = o
	w.finished.put(j.ID, o)
	l := w.link
	w.done()
	w.mu.Unlock()
	if l != nil {
		w.transmit(l, o)
	}
}

func (w *Worker) transmit(l *link, o *outcome) {
	w.mu.Lock()
	o.sent = time.Now()
	w.mu.Unlock()
	if err := l.send(o.packet); err != nil {
		w.log.Debug("result not sent; it goes with the next connection", "job", o.id, "error", err)
	}
}

// acknowledged forgets that a result must be sent. The plane names the job alone, so an answer to an older attempt counts too: it will never
// take that one.
func (w *Worker) acknowledged(res *agentv1.JobResult) {
	if code := res.GetErrorCode(); code != "" {
		w.log.Info("result had no effect", "job", res.GetJobId(), "code", code)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.unacked, res.GetJobId())
	w.done()
}
