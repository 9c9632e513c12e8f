package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/event"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/platform/push"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
)

// holding is a job in a worker's hands.
type holding struct {
	id      string
	attempt string
	trace   string
}

func (h holding) key() string { return h.id + "/" + h.attempt }

// simWorker is a worker with a stream.
type simWorker struct {
	w            *world
	tenant, name string
	at           *container
	link         *link

	mu    sync.Mutex
	jobs  []holding
	said  []*agentv1.BusPacket // results that were not acknowledged
	asked []string             // jobs that it was asked to stop
}

// link is the in-process stream of a worker.
type link struct {
	ctx    context.Context
	cancel context.CancelFunc
	in     chan *agentv1.BusPacket
	worker *simWorker
	closed bool
	mu     sync.Mutex
}

func (l *link) Send(p *agentv1.BusPacket) error {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return io.ErrClosedPipe
	}
	l.worker.got(p)
	return nil
}

func (l *link) Recv() (*agentv1.BusPacket, error) {
	if err := l.ctx.Err(); err != nil { // a select would draw lots
		return nil, err
	}
	select {
	case p := <-l.in:
		return p, nil
	case <-l.ctx.Done():
		return nil, l.ctx.Err()
	}
}

func (l *link) Context() context.Context     { return l.ctx }
func (l *link) SetHeader(metadata.MD) error  { return nil }
func (l *link) SendHeader(metadata.MD) error { return nil }
func (l *link) SetTrailer(metadata.MD)       {}
func (l *link) SendMsg(any) error            { return errors.New("sim: not used") }
func (l *link) RecvMsg(any) error            { return errors.New("sim: not used") }

func (s *simWorker) identity() identity.Identity {
	return identity.Identity{Tenant: s.tenant, Home: s.tenant, Role: identity.Worker, Pools: []string{"*"}, KeyID: "w-" + s.tenant}
}

// connect opens a stream to a container.
func (s *simWorker) connect(c *container) {
	s.cut()
	s.w.wait() // one stimulus at a time
	ctx, cancel := context.WithCancel(identity.With(context.Background(), s.identity()))
	l := &link{ctx: ctx, cancel: cancel, in: make(chan *agentv1.BusPacket, 1000), worker: s}
	s.at, s.link = c, l
	s.w.trace("%s connects to %s", s.name, c.proc.name)
	workers := c.workers
	s.w.clients.Go(func() {
		_ = workers.Connect(l) // whatever the end, the worker connects again
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		cancel()
	})
	s.beat()
	s.mu.Lock()
	said := s.said
	s.mu.Unlock()
	for _, p := range said {
		l.in <- p
	}
}

// deaf has nothing of the plane reach the worker any more.
func (s *simWorker) deaf() {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	s.link.closed = true
}

// cut breaks the stream.
func (s *simWorker) cut() {
	if s.link != nil {
		s.deaf()
		s.link.cancel()
	}
	s.link, s.at = nil, nil
}

// forget is a worker process that dies: its jobs are nobody's.
func (s *simWorker) forget() {
	s.cut()
	s.mu.Lock()
	s.jobs, s.said, s.asked = nil, nil, nil
	s.mu.Unlock()
}

func (s *simWorker) send(p *agentv1.BusPacket) {
	if s.link == nil {
		return
	}
	p.SenderId, p.ProtocolVersion, p.CreatedAt = s.name, 1, timestamppb.Now()
	select {
	case s.link.in <- p:
	default:
	}
}

func (s *simWorker) beat() {
	s.send(&agentv1.BusPacket{Payload: &agentv1.BusPacket_Heartbeat{Heartbeat: &agentv1.Heartbeat{WorkerId: s.name, Pool: "main", MaxParallelJobs: 3}}})
}

// got takes a packet of the plane.
func (s *simWorker) got(p *agentv1.BusPacket) {
	switch {
	case p.GetJobRequest() != nil:
		r := p.GetJobRequest()
		h := holding{id: r.GetJobId(), attempt: r.GetEnv()["CORDUM_ATTEMPT"], trace: p.GetTraceId()}
		s.w.handover(h, s.tenant, s.name)
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, have := range s.jobs {
			if have.id == h.id {
				s.jobs[i] = h
				return
			}
		}
		s.jobs = append(s.jobs, h)
	case p.GetJobResult() != nil: // the acknowledgement
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, r := range s.said {
			if r.GetJobResult().GetJobId() == p.GetJobResult().GetJobId() {
				s.said = append(s.said[:i:i], s.said[i+1:]...)
				break
			}
		}
	case p.GetJobCancel() != nil:
		s.mu.Lock()
		s.asked = append(s.asked, p.GetJobCancel().GetJobId())
		s.mu.Unlock()
	}
}

// holds lists what the worker has in its hands.
func (s *simWorker) holds() []holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.jobs)
}

// take removes the n-th job from the worker's hands.
func (s *simWorker) take(n int) (holding, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.jobs) == 0 {
		return holding{}, false
	}
	n %= len(s.jobs)
	h := s.jobs[n]
	s.jobs = append(s.jobs[:n:n], s.jobs[n+1:]...)
	return h, true
}

// finish reports a result; how is 0 for success.
func (s *simWorker) finish(h holding, how int) {
	res := resultPacket(h, s.name, how)
	s.mu.Lock()
	s.said = append(s.said, res)
	s.mu.Unlock()
	s.w.trace("%s says %s %s", s.name, h.key(), res.GetJobResult().GetStatus())
	s.w.said(h)
	s.send(res)
}

func resultPacket(h holding, worker string, how int) *agentv1.BusPacket {
	r := &agentv1.JobResult{JobId: h.id, WorkerId: worker, Status: agentv1.JobStatus_JOB_STATUS_SUCCEEDED, ExecutionMs: 1}
	if how != 0 {
		r.Status, r.ErrorCode, r.ErrorMessage = agentv1.JobStatus_JOB_STATUS_FAILED, "by_worker", worker+" "+h.attempt
	} else {
		r.ArtifactPtrs = []string{worker + " " + h.attempt}
	}
	return &agentv1.BusPacket{TraceId: h.trace, SenderId: worker, ProtocolVersion: 1, Payload: &agentv1.BusPacket_JobResult{JobResult: r}}
}

// said counts results that come too late: for a later attempt, or after the end.
func (w *world) said(h holding) {
	r, err := w.raw.Load(context.Background(), job.AnyTenant, h.id, time.Now())
	switch {
	case err != nil:
	case r.State.Terminal():
		w.met("result after the end")
	case fmt.Sprint(r.Attempts) != h.attempt:
		w.met("result of an older attempt")
	default:
		w.met("result")
	}
}

// progress tells of the n-th job.
func (s *simWorker) progress(n int) {
	s.mu.Lock()
	if len(s.jobs) == 0 {
		s.mu.Unlock()
		return
	}
	h := s.jobs[n%len(s.jobs)]
	s.mu.Unlock()
	s.w.trace("%s makes progress on %s", s.name, h.key())
	s.send(&agentv1.BusPacket{TraceId: h.trace, Payload: &agentv1.BusPacket_JobProgress{JobProgress: &agentv1.JobProgress{JobId: h.id, Percent: int32(n)}}})
}

// handover judges a job that a worker was given.
func (w *world) handover(h holding, tenant, worker string) {
	w.trace("%s gets %s", worker, h.key())
	w.met("handover")
	if h.attempt != "1" {
		w.met("handover again")
	}
	w.mu.Lock()
	before, there := w.handed[h.key()]
	w.handed[h.key()] = worker
	w.mu.Unlock()
	if there && before != worker {
		w.violated("%s was handed to %s and to %s", h.key(), before, worker)
	}
	ctx := context.Background()
	full, err := w.raw.Full(ctx, tenant, h.id, time.Now())
	if err != nil {
		w.violated("%s of tenant %s got job %s: %v", worker, tenant, h.id, err)
		return
	}
	allowed := false
	for _, d := range full.Decisions {
		allowed = allowed || d.Allows()
	}
	if !allowed || !full.Decision.Allows() {
		w.violated("job %s runs without a recorded allow: %+v", h.id, full.Decision)
	}
}

// simPoller is a worker that takes tickets from the queue and speaks through the inbox.
type simPoller struct {
	w            *world
	tenant, name string

	mu    sync.Mutex
	token string
	jobs  []holding
}

func (s *simPoller) key() string { return "w-" + s.tenant }

// beat sends a heartbeat over REST.
func (s *simPoller) beat() {
	s.mu.Lock()
	var ids []string
	for _, h := range s.jobs {
		ids = append(ids, h.id)
	}
	s.mu.Unlock()
	body := map[string]any{"heartbeat": map[string]any{"workerId": s.name, "pool": "main", "maxParallelJobs": 3}, "jobs": ids}
	s.w.request(s.tenant, s.key(), "POST", "/worker/heartbeat", body, func(status int, answer []byte) {
		var res struct {
			Token   string `json:"session_token"`
			Cancels []struct {
				JobID string `json:"jobId"`
			} `json:"cancels"`
		}
		if status != 200 || json.Unmarshal(answer, &res) != nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.token = res.Token
		for _, c := range res.Cancels {
			for i, h := range s.jobs {
				if h.id == c.JobID {
					s.jobs = append(s.jobs[:i:i], s.jobs[i+1:]...)
					break
				}
			}
		}
	})
}

// pull takes a ticket and claims it.
func (s *simPoller) pull() {
	q := s.w.platform.Queues()
	s.mu.Lock()
	ready := s.token != "" && len(s.jobs) < 3
	s.mu.Unlock()
	if !ready {
		return
	}
	msgs, err := q.Receive(context.Background(), "pool-main", 1, 0, 10*time.Second)
	if err != nil || len(msgs) == 0 {
		return
	}
	var t struct {
		Job     string `json:"job"`
		Attempt int64  `json:"attempt"`
	}
	_ = json.Unmarshal([]byte(msgs[0].Body), &t) // the plane's own words
	s.w.trace("%s claims %s/%d", s.name, t.Job, t.Attempt)
	key := msgs[0].ID // the same when the message comes again
	s.w.begin(s.w.api, msgs[0].Body)
	body := map[string]any{"worker_id": s.name, "job_id": t.Job, "attempt": t.Attempt, "key": key}
	s.w.request(s.tenant, s.key(), "POST", "/worker/claim", body, func(status int, answer []byte) {
		var res struct {
			Outcome string `json:"outcome"`
			Packet  struct {
				TraceID string `json:"traceId"`
			} `json:"packet"`
		}
		if status != 200 || json.Unmarshal(answer, &res) != nil {
			return // the message comes again
		}
		if res.Outcome == "elsewhere" {
			_ = q.Extend(context.Background(), "pool-main", msgs[0].Receipt, 0) // it comes again anyhow
			return
		}
		_ = q.Delete(context.Background(), "pool-main", msgs[0].Receipt) // likewise, and is refused
		if res.Outcome != "claimed" {
			return
		}
		h := holding{id: t.Job, attempt: fmt.Sprint(t.Attempt), trace: res.Packet.TraceID}
		s.w.handover(h, s.tenant, s.name+" by message "+key)
		s.mu.Lock()
		defer s.mu.Unlock()
		if !slices.Contains(s.jobs, h) { // two answers to one claim
			s.jobs = append(s.jobs, h)
		}
	})
}

// finish puts the result of the n-th job into the inbox; late leaves the job in the worker's hands, so that the result comes twice.
func (s *simPoller) finish(n, how int, late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.jobs) == 0 {
		return
	}
	n %= len(s.jobs)
	h := s.jobs[n]
	if !late {
		s.jobs = append(s.jobs[:n:n], s.jobs[n+1:]...)
	}
	p := resultPacket(h, s.name, how).GetJobResult()
	body := map[string]any{"attempt": json.Number(h.attempt), "packet": map[string]any{
		"protocolVersion": 1, "senderId": s.name, "authToken": s.token, "traceId": h.trace,
		"jobResult": map[string]any{
			"jobId": h.id, "status": p.GetStatus().String(), "workerId": s.name, "errorCode": p.GetErrorCode(), "errorMessage": p.GetErrorMessage(),
			"artifactPtrs": p.GetArtifactPtrs(),
		},
	}}
	text, _ := json.Marshal(body)
	s.w.trace("%s says %s through the inbox", s.name, h.key())
	s.w.said(h)
	_ = s.w.platform.Queues().Send(context.Background(), "inbox", queue.Message{Body: string(text)}) // the adapter in memory does not fail
}

// holds lists what the worker has in its hands.
func (s *simPoller) holds() []holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.jobs)
}

func (s *simPoller) forget() {
	s.mu.Lock()
	s.jobs = nil
	s.mu.Unlock()
}

// frame is what a client heard of a job.
type frame struct {
	kind, id string
	text     string // the whole
}

// listenTo opens a stream of a tenant that keeps what it hears.
func (w *world) listenTo(tenant string) {
	id := "client-" + tenant
	w.platform.Connections().Register(id, func(_ context.Context, data []byte) error {
		w.hear(tenant, data)
		return nil
	}, func(push.Reason) {})
	c := &event.Connections{Table: w.platform.Table()}
	if _, err := c.Open(context.Background(), event.Connection{ID: id, Tenant: tenant, OpenedAt: time.Now().UnixMicro()}, time.Now()); err != nil {
		w.violated("listen: %v", err)
	}
}

func (w *world) hear(tenant string, data []byte) {
	var m map[string]json.RawMessage
	if json.Unmarshal(data, &m) != nil {
		w.violated("frame that is no JSON: %s", data)
		return
	}
	for _, kind := range []string{"jobRequest", "jobProgress", "jobResult", "jobCancel"} {
		var body struct {
			JobID string `json:"jobId"`
		}
		if m[kind] == nil || json.Unmarshal(m[kind], &body) != nil {
			continue
		}
		w.mu.Lock()
		w.heard[tenant] = append(w.heard[tenant], frame{kind, body.JobID, string(data)})
		w.mu.Unlock()
		if tenant == event.Everybody {
			continue
		}
		if r, err := w.raw.Load(context.Background(), job.AnyTenant, body.JobID, time.Now()); err == nil && r.Tenant != tenant {
			w.violated("tenant %s heard of job %s of tenant %s", tenant, body.JobID, r.Tenant)
		}
	}
}
