package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
)

// executor runs handlers for jobs, by whatever transport those come: each attempt of a job once, no more at one time than the worker may, until
// it is done or the plane calls it back. What comes of a job is kept until the plane has it.
type executor struct {
	me       profile
	log      *slog.Logger
	plane    plane
	handlers []route
	slots    chan struct{}
	handling sync.WaitGroup

	mu       sync.Mutex
	jobs     map[string]*running
	unacked  map[string]*outcome
	finished *recent[*outcome]
	revoked  *recent[struct{}] // cancels that came before their job
	claiming int               // tickets at hand that may become jobs
	draining bool
	stopped  bool          // nothing may start any more
	idle     chan struct{} // closed and replaced when something of the above goes away
}

// plane is what a transport does for the jobs that an executor runs.
type plane interface {
	// input and output bring a job's payloads. They ask for as long as it takes: until the plane answers, or ctx ends.
	input(ctx context.Context, r *agentv1.JobRequest) ([]byte, error)
	output(ctx context.Context, j *Job, data []byte) (pointer string, err error)
	// engine is the context engine as the job sees it.
	engine(r *agentv1.JobRequest) cordumv1.ContextEngineClient
	// said is told that a running job has a new word for the plane, done that a job has ended. Both are called without e.mu.
	said(now *running)
	done(o *outcome)
}

// profile is what a worker says of itself.
type profile struct {
	id, pool, region, kind string
	parallel               int
	labels                 map[string]string
	capabilities           []string
	load                   func() (cpu, gpu, memory float32)
}

type route struct {
	pattern string
	handle  Handler
}

// running is a job between its request and its result.
type running struct {
	id, trace string
	attempt   int
	// base ends when the time of everything that runs is over; a handler that goes on is left behind. cancel ends this job alone.
	base   context.Context
	cancel context.CancelCauseFunc
	over   chan struct{} // closed when there is a result, or will be none

	began  time.Time            // when its handler was called; zero while it waits for a slot
	word   *agentv1.JobProgress // its latest progress, nil for none
	said   bool                 // whether the plane was told the word
	saidAt time.Time
}

// outcome is a finished job: its result, and when the plane was told, zero for not yet.
type outcome struct {
	id, trace string
	attempt   int
	result    *agentv1.JobResult
	sent      time.Time
}

// Why a handler's context ends before its job is done, besides the job's deadline.
var (
	errCancelled = errors.New("worker: job cancelled")
	errStopped   = errors.New("worker: stopped")
)

const (
	// remembered is how many finished jobs are kept, to answer one that is handed out again.
	remembered = 1024
	// silence is after how long a job that has said nothing is said to be running: the plane takes a job without a word for stuck.
	silence = 10 * time.Second
	// patience is how long a handler whose time is over may go on before it is left behind.
	patience = 2 * time.Second
	// maxText and maxCode are the longest texts that the plane keeps, in bytes.
	maxText = 4096
	maxCode = 256
)

func (e *executor) init(me profile, log *slog.Logger, p plane) {
	e.me, e.log, e.plane = me, log.With("worker", me.id), p
	e.slots = make(chan struct{}, me.parallel)
	e.jobs, e.unacked, e.idle = map[string]*running{}, map[string]*outcome{}, make(chan struct{})
	e.finished, e.revoked = newRecent[*outcome](remembered), newRecent[struct{}](remembered)
}

// Handle runs jobs of a topic with a handler. The topic may be a pattern of package path: "job.etl.*". An exact topic wins over patterns, an
// earlier pattern over a later one. It panics on a malformed pattern. Call it before Run.
func (e *executor) Handle(topic string, h Handler) {
	if _, err := path.Match(topic, ""); err != nil {
		panic(fmt.Sprintf("worker: malformed topic %q", topic))
	}
	e.handlers = append(e.handlers, route{topic, h})
}

func (e *executor) handler(topic string) Handler {
	for _, r := range e.handlers {
		if r.pattern == topic {
			return r.handle
		}
	}
	for _, r := range e.handlers {
		if ok, _ := path.Match(r.pattern, topic); ok {
			return r.handle
		}
	}
	return nil
}

// take runs a job, unless this attempt of it runs already or has run: then it goes on, or its result is told again. What is answered is closed
// when there is nothing (more) to run.
func (e *executor) take(base context.Context, trace string, r *agentv1.JobRequest) <-chan struct{} {
	now := &running{id: r.GetJobId(), trace: trace, base: base, over: make(chan struct{})}
	if now.id == "" || r.GetTopic() == "" {
		e.log.Warn("a request without job or topic is passed over")
		close(now.over)
		return now.over
	}
	now.attempt, _ = strconv.Atoi(r.GetEnv()["CORDUM_ATTEMPT"])
	ctx, cancel := context.WithCancelCause(base)
	now.cancel = cancel
	e.mu.Lock()
	known, again := e.repeated(now.id, now.attempt)
	if !known {
		if older := e.jobs[now.id]; older != nil {
			older.cancel(errCancelled) // its result counts no more
		}
		delete(e.unacked, now.id) // nor does that of an earlier attempt
		e.jobs[now.id] = now
		if _, ok := e.revoked.get(now.id); ok {
			cancel(errCancelled)
		}
		if e.stopped {
			cancel(errStopped)
		}
	}
	e.mu.Unlock()
	if known {
		cancel(nil)
		close(now.over)
		e.tellAgain(again)
		return now.over
	}
	job := e.newJob(now, r)
	e.handling.Go(func() {
		defer cancel(nil)
		e.execute(ctx, now, job)
	})
	return now.over
}

// repeated says whether an attempt of a job runs or has run here. The result of one that has run must be told again. The caller holds e.mu.
func (e *executor) repeated(id string, attempt int) (known bool, again *outcome) {
	if now := e.jobs[id]; now != nil && now.attempt == attempt {
		return true, nil
	}
	o, ok := e.unacked[id]
	if !ok {
		o, ok = e.finished.get(id)
	}
	if !ok || o.attempt != attempt {
		return false, nil
	}
	o.sent = time.Time{}
	e.unacked[id] = o
	return true, o
}

func (e *executor) tellAgain(o *outcome) {
	if o != nil {
		e.plane.done(o)
	}
}

// revoke stops a job, or remembers that it must not start.
func (e *executor) revoke(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := e.jobs[id]; now != nil {
		now.cancel(errCancelled)
		return
	}
	e.revoked.put(id, struct{}{})
}

// execute waits for a slot, runs the handler and keeps the result.
func (e *executor) execute(ctx context.Context, now *running, j *Job) {
	arrived := time.Now()
	if ms := j.Request.GetBudget().GetDeadlineMs(); ms > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(ms)*time.Millisecond, context.DeadlineExceeded)
		defer cancel()
	}
	var value any
	err := context.Cause(ctx)
	if err == nil {
		select {
		case e.slots <- struct{}{}:
			e.begin(now)
			value, err = e.call(ctx, now.base, j)
			<-e.slots
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	res := e.result(ctx, j, value, err)
	res.ExecutionMs = time.Since(arrived).Milliseconds()
	e.finish(ctx, now, res)
}

func (e *executor) begin(now *running) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now.began = time.Now()
}

// call runs the handler; a panic is a failure like another. A handler that is still running a little after base has ended is left behind.
func (e *executor) call(ctx, base context.Context, j *Job) (any, error) {
	h := e.handler(j.Topic)
	if h == nil {
		return nil, &Error{Code: "no_handler", Message: fmt.Sprintf("worker %s has no handler for topic %s", e.me.id, j.Topic)}
	}
	type answer struct {
		value any
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		a := answer{err: &Error{Code: "panic", Message: "handler ended its goroutine"}}
		defer func() {
			if cause := recover(); cause != nil {
				e.log.Error("handler panicked", "job", j.ID, "panic", cause, "stack", string(debug.Stack()))
				a.err = &Error{Code: "panic", Message: fmt.Sprintf("handler panicked: %v", cause)}
			}
			answered <- a
		}()
		a.value, a.err = h(ctx, j)
	}()
	select {
	case a := <-answered:
		return a.value, a.err
	case <-base.Done():
	}
	select {
	case a := <-answered:
		return a.value, a.err
	case <-time.After(patience):
		e.log.Error("handler does not heed the end of its context; it is left behind", "job", j.ID)
		return nil, context.Cause(base)
	}
}

// result turns what a handler answered into a packet's words. A success stores its payload first.
func (e *executor) result(ctx context.Context, j *Job, value any, err error) *agentv1.JobResult {
	res := &agentv1.JobResult{JobId: j.ID, WorkerId: e.me.id, Status: agentv1.JobStatus_JOB_STATUS_SUCCEEDED}
	if err == nil && value != nil {
		var data []byte
		if data, err = payload(value); err == nil {
			res.ResultPtr, err = e.plane.output(ctx, j, data)
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
	case errors.As(context.Cause(ctx), &coded): // the time of everything that runs is over
		res.ErrorCode, res.ErrorMessage = coded.Code, coded.Message
	case errors.Is(err, context.Canceled):
		res.Status = agentv1.JobStatus_JOB_STATUS_CANCELLED
	}
	res.ErrorCode, res.ErrorMessage = clean(res.GetErrorCode(), maxCode), clean(res.GetErrorMessage(), maxText)
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

// clean makes a text fit for a packet: valid UTF-8 without what queues do not carry, and no longer than the plane keeps.
func clean(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	return strings.Map(func(r rune) rune {
		if r == '\uFFFE' || r == '\uFFFF' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}

// finish keeps a result until the plane has it. A job that was given to this worker anew, or that was stopped with the worker, has none.
func (e *executor) finish(ctx context.Context, now *running, res *agentv1.JobResult) {
	defer close(now.over)
	o := &outcome{id: now.id, trace: now.trace, attempt: now.attempt, result: res}
	e.mu.Lock()
	counts := e.jobs[now.id] == now
	if counts {
		delete(e.jobs, now.id)
	}
	if counts = counts && !errors.Is(context.Cause(ctx), errStopped); counts {
		e.unacked[now.id] = o
		e.finished.put(now.id, o)
	}
	e.changed()
	e.mu.Unlock()
	if counts {
		e.plane.done(o)
	}
}

// progress keeps the latest word on a job and has it told.
func (e *executor) progress(now *running, percent int, message string) {
	word := progressOf(now.id, percent, message)
	e.mu.Lock()
	here := e.jobs[now.id] == now
	if here {
		now.word, now.said = word, false
	}
	e.mu.Unlock()
	if here {
		e.plane.said(now)
	}
}

func progressOf(jobID string, percent int, message string) *agentv1.JobProgress {
	return &agentv1.JobProgress{
		JobId: jobID, Percent: int32(min(max(percent, 0), 100)), Message: clean(message, maxText), Status: agentv1.JobStatus_JOB_STATUS_RUNNING,
	}
}

// told records that the plane was told a job's word, unless there is a newer one.
func (e *executor) told(now *running, word *agentv1.JobProgress) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now.said, now.saidAt = now.word == word, time.Now()
}

// heartbeat is the worker's heartbeat now. One that drains has as much room as it uses.
func (e *executor) heartbeat() *agentv1.Heartbeat {
	e.mu.Lock()
	active, room := len(e.jobs), e.me.parallel
	if e.draining {
		room = max(active, 1)
		active = room
	}
	e.mu.Unlock()
	h := &agentv1.Heartbeat{
		WorkerId: e.me.id, Pool: e.me.pool, Region: e.me.region, Type: e.me.kind, Capabilities: e.me.capabilities,
		Labels: maps.Clone(e.me.labels), ActiveJobs: int32(active), MaxParallelJobs: int32(room),
	}
	if e.me.load != nil {
		h.CpuLoad, h.GpuUtilization, h.MemoryLoad = e.me.load()
	}
	return h
}

func (e *executor) envelope(trace string, p *agentv1.BusPacket) *agentv1.BusPacket {
	p.TraceId, p.SenderId, p.CreatedAt, p.ProtocolVersion = trace, e.me.id, timestamppb.Now(), 1
	return p
}

func progressPacket(word *agentv1.JobProgress) *agentv1.BusPacket {
	return &agentv1.BusPacket{Payload: &agentv1.BusPacket_JobProgress{JobProgress: word}}
}

func resultPacket(res *agentv1.JobResult) *agentv1.BusPacket {
	return &agentv1.BusPacket{Payload: &agentv1.BusPacket_JobResult{JobResult: res}}
}

// startDraining has the next heartbeats tell that there is no room.
func (e *executor) startDraining() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.draining = true
}

// empty waits until no job runs and the plane has all results, until limit is over, or stop is closed. It answers how many are left.
func (e *executor) empty(stop <-chan struct{}, limit time.Duration) (left int) {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for {
		e.mu.Lock()
		left, idle := e.claiming+len(e.jobs)+len(e.unacked), e.idle
		e.mu.Unlock()
		if left == 0 {
			return 0
		}
		select {
		case <-idle:
		case <-timeout.C:
			e.log.Warn("drain timed out; other workers get the rest", "jobs", left)
			return left
		case <-stop:
			return left
		}
	}
}

// changed wakes who waits for something to go away. The caller holds e.mu.
func (e *executor) changed() {
	close(e.idle)
	e.idle = make(chan struct{})
}

// abandon stops what still runs, and what would start; no result of it is told.
func (e *executor) abandon() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopped = true
	for _, now := range e.jobs {
		now.cancel(errStopped)
	}
}

// pause waits for d, or until ctx ends; it answers whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
