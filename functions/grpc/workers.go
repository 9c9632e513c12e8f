// Package grpc is the container behind the load balancer: native gRPC for clients, and the streams of workers. It pulls the pool queues
// only for the capacity that its connected workers have announced, hands jobs over, takes their results, and sends cancels down the
// streams.
package grpc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/worker"
)

// Workers serves worker streams. One exists in a container; Run pulls for it.
type Workers struct {
	cordumv1.UnimplementedWorkersServer

	d     *dispatch.Dispatcher
	log   *slog.Logger
	owner string // of the delivery queue's lease

	mu       sync.Mutex
	delivery string
	sessions map[string]*session // by tenant and worker id
	pools    map[string]*puller
	changed  chan struct{} // closed and replaced when a session or a free slot appears
	stopping bool
	running  sync.WaitGroup
	stop     context.CancelFunc
	base     context.Context
}

// Times of a worker's stream.
const (
	// beatWrite is the least time between two writes of a worker's heartbeat.
	beatWrite = 5 * time.Second
	// progressWrite is the least time between two writes of a job's progress; the first is written at once.
	progressWrite = time.Second
	// maxPacket bounds what is buffered for a worker that reads slowly, in packets.
	maxPackets = 256
)

// NewWorkers makes the service. Close ends what it started.
func NewWorkers(d *dispatch.Dispatcher, log *slog.Logger) *Workers {
	w := &Workers{
		d: d, log: log, owner: d.IDs.UUID(), sessions: map[string]*session{}, pools: map[string]*puller{}, changed: make(chan struct{}),
	}
	w.base, w.stop = context.WithCancel(context.Background())
	return w
}

// Connect is a worker's stream of BusPackets in both directions. Its first packet is a heartbeat, which names the worker, its pool and its
// capacity; from then on jobs come as they fit. docs/AGENT_PROTOCOL.md describes the whole.
func (w *Workers) Connect(stream cordumv1.Workers_ConnectServer) error {
	ctx := stream.Context()
	s, err := w.register(ctx, stream)
	if err != nil {
		return err
	}
	defer w.unregister(s)
	sent := make(chan error, 1)
	go func() { sent <- pump(stream, s) }()
	received := make(chan error, 1)
	go func() { received <- w.receive(ctx, stream, s) }()
	select {
	case err = <-received:
	case err = <-sent:
	case <-w.base.Done():
		err = status.Error(codes.Unavailable, "the container is shutting down; connect again")
	}
	return err
}

// register waits for the first heartbeat and enters the worker.
func (w *Workers) register(ctx context.Context, stream cordumv1.Workers_ConnectServer) (*session, error) {
	id := identity.From(ctx)
	for {
		p, err := stream.Recv()
		if err != nil {
			return nil, streamEnd(err)
		}
		if code, text := w.broken(p); code != "" {
			if err := stream.Send(alert(code, text)); err != nil {
				return nil, err
			}
			continue
		}
		beat := p.GetHeartbeat()
		if beat == nil {
			if p.GetHandshake() != nil {
				continue
			}
			return nil, status.Error(codes.FailedPrecondition, "the first packet must be a heartbeat")
		}
		return w.enter(ctx, id, beat)
	}
}

func (w *Workers) enter(ctx context.Context, id identity.Identity, beat *agentv1.Heartbeat) (*session, error) {
	if err := worker.Validate(beat); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if !id.MayServe(beat.GetPool()) {
		return nil, status.Errorf(codes.PermissionDenied, "this credential may not serve pool %q", beat.GetPool())
	}
	now := w.d.Clock.Now()
	s := &session{
		id: id, name: beat.GetWorkerId(), out: make(chan *agentv1.BusPacket, maxPackets), done: make(chan struct{}),
		beat: proto.CloneOf(beat), beatAt: now, storedAt: now, jobs: map[string]*held{},
	}
	if err := w.storeBeat(ctx, s, true); err != nil {
		return nil, err
	}
	// a worker that comes back still holds what it held: send it again, it knows what it has done already
	records, err := w.d.Jobs.HeldBy(ctx, id.Home, s.name, now)
	if err != nil {
		return nil, status.Error(codes.Unavailable, "worker registry is not available")
	}
	for _, r := range records {
		if !r.Held() || r.Worker != s.name {
			continue
		}
		s.hold(r)
		if c, err := w.d.Again(ctx, r); err == nil {
			s.out <- w.request(c)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopping {
		return nil, status.Error(codes.Unavailable, "the container is shutting down; connect again")
	}
	key := sessionKey(id.Home, s.name)
	if old := w.sessions[key]; old != nil {
		old.end() // the worker came back before its old stream was seen to be dead
	}
	w.sessions[key] = s
	w.pull(beat.GetPool())
	w.wake()
	w.log.InfoContext(ctx, "worker connected", "worker", s.name, "tenant", id.Home, "pool", beat.GetPool(), "reattached", len(records))
	return s, nil
}

func sessionKey(tenant, name string) string { return tenant + "\x00" + name }

func (w *Workers) storeBeat(ctx context.Context, s *session, first bool) error {
	row := s.holder()
	w.mu.Lock()
	row.Delivery = w.delivery
	w.mu.Unlock()
	err := w.d.Workers.Put(ctx, row, first)
	if err != nil && !fault.Is(err, fault.Invalid) {
		w.log.WarnContext(ctx, "heartbeat not stored", "worker", s.name, "error", err)
		return status.Error(codes.Unavailable, "worker registry is not available")
	}
	return err
}

func (w *Workers) unregister(s *session) {
	s.end()
	w.mu.Lock()
	if key := sessionKey(s.id.Home, s.name); w.sessions[key] == s {
		delete(w.sessions, key)
	}
	w.mu.Unlock()
	if s.drained() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(w.base), storeTimeout)
		defer cancel()
		if err := w.d.Workers.Remove(ctx, s.id.Home, s.name); err != nil {
			w.log.Warn("worker not removed from the registry", "worker", s.name, "error", err)
		}
	}
	w.log.Info("worker disconnected", "worker", s.name, "tenant", s.id.Home)
}

// storeTimeout bounds a write that must not be given up with the stream that caused it.
const storeTimeout = 5 * time.Second

func pump(stream cordumv1.Workers_ConnectServer, s *session) error {
	for {
		select {
		case p := <-s.out:
			if err := stream.Send(p); err != nil {
				return err
			}
		case <-s.done:
			return status.Error(codes.Aborted, "the worker connected again")
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

func streamEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// broken says what is wrong with a packet: a code for the alert that answers it. "" is nothing.
func (w *Workers) broken(p *agentv1.BusPacket) (code, text string) {
	switch {
	case p.GetProtocolVersion() != protocolVersion:
		return "VERSION_MISMATCH", "protocol_version must be 1"
	case p.GetPayload() == nil:
		return "UNKNOWN_PAYLOAD", "the packet has no payload that is known here"
	}
	return "", ""
}

const protocolVersion = 1

// receive handles a worker's packets in the order they come. What concerns one job is handled in order, different jobs at once.
func (w *Workers) receive(ctx context.Context, stream cordumv1.Workers_ConnectServer, s *session) error {
	var handling sync.WaitGroup
	defer handling.Wait()
	slots := make(chan struct{}, maxHandling)
	for {
		p, err := stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				s.leave()
			}
			return streamEnd(err)
		}
		if code, text := w.broken(p); code != "" {
			s.send(alert(code, text))
			continue
		}
		switch payload := p.GetPayload().(type) {
		case *agentv1.BusPacket_Heartbeat:
			if err := w.heartbeat(ctx, s, payload.Heartbeat); err != nil {
				return err
			}
		case *agentv1.BusPacket_JobResult, *agentv1.BusPacket_JobProgress:
			unlock := s.order(jobOf(p))
			slots <- struct{}{}
			handling.Go(func() {
				defer func() { <-slots; unlock() }()
				w.word(context.WithoutCancel(ctx), s, p)
			})
		}
	}
}

// maxHandling bounds the packets of one worker that are handled at once.
const maxHandling = 64

func jobOf(p *agentv1.BusPacket) string {
	if r := p.GetJobResult(); r != nil {
		return r.GetJobId()
	}
	return p.GetJobProgress().GetJobId()
}

func (w *Workers) heartbeat(ctx context.Context, s *session, beat *agentv1.Heartbeat) error {
	if err := worker.Validate(beat); err != nil {
		s.send(alert("MALFORMED_PACKET", err.Error()))
		return nil
	}
	if beat.GetWorkerId() != s.name || beat.GetPool() != s.pool() {
		return status.Error(codes.FailedPrecondition, "worker_id and pool are fixed for a connection")
	}
	if s.beatNow(beat, w.d.Clock.Now()) {
		if err := w.storeBeat(ctx, s, false); err != nil {
			s.unstored() // the next one tries again
		}
	}
	w.notify()
	return nil
}

// word takes what a worker says of a job. A result is answered with a result: the state that was recorded.
func (w *Workers) word(ctx context.Context, s *session, p *agentv1.BusPacket) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if progress := p.GetJobProgress(); progress != nil {
		w.progress(ctx, s, progress)
		return
	}
	res := p.GetJobResult()
	h := s.find(res.GetJobId())
	by := dispatch.Holder{Identity: s.id, Worker: s.name}
	var known *job.Record
	if h != nil {
		known, by.Attempt = h.record, h.record.Attempts
	}
	done, err := w.d.Result(ctx, by, res, known)
	var ignored *dispatch.Ignored
	switch {
	case errors.As(err, &ignored):
		w.log.InfoContext(ctx, "result ignored", "worker", s.name, "job", res.GetJobId(), "why", ignored.Why)
		s.send(accepted(p, "IGNORED"))
	case err != nil: // not answered: the worker sends it again
		w.log.ErrorContext(ctx, "result not stored", "worker", s.name, "job", res.GetJobId(), "error", err)
		return
	default:
		w.log.DebugContext(ctx, "job ended", "job", done.ID, "state", done.State, "worker", s.name)
		s.send(accepted(p, ""))
	}
	s.release(res.GetJobId())
	w.notify()
}

func (w *Workers) progress(ctx context.Context, s *session, p *agentv1.JobProgress) {
	h := s.find(p.GetJobId())
	if h == nil {
		w.log.WarnContext(ctx, "progress ignored: the worker does not hold the job", "worker", s.name, "job", p.GetJobId())
		return
	}
	now := w.d.Clock.Now()
	if now.Sub(h.progress) < progressWrite {
		return // the next one says more
	}
	by := dispatch.Holder{Identity: s.id, Worker: s.name, Attempt: h.record.Attempts}
	r, err := w.d.Progress(ctx, by, p, h.record)
	if err != nil {
		w.log.WarnContext(ctx, "progress not stored", "worker", s.name, "job", p.GetJobId(), "error", err)
		return
	}
	s.remember(h, r)
	h.progress = now
}

// accepted is the answer to a result.
func accepted(p *agentv1.BusPacket, code string) *agentv1.BusPacket {
	res := p.GetJobResult()
	return &agentv1.BusPacket{
		TraceId: p.GetTraceId(), SenderId: senderID, CreatedAt: timestamppb.Now(), ProtocolVersion: protocolVersion,
		Payload: &agentv1.BusPacket_JobResult{JobResult: &agentv1.JobResult{
			JobId: res.GetJobId(), Status: res.GetStatus(), WorkerId: res.GetWorkerId(), ErrorCode: code,
		}},
	}
}

const senderID = "cordum-scheduler"

func alert(code, text string) *agentv1.BusPacket {
	return &agentv1.BusPacket{
		SenderId: senderID, CreatedAt: timestamppb.Now(), ProtocolVersion: protocolVersion,
		Payload: &agentv1.BusPacket_Alert{Alert: &agentv1.SystemAlert{Level: "WARN", Code: code, Message: text, Component: senderID}},
	}
}

func (w *Workers) request(c *dispatch.Claimed) *agentv1.BusPacket {
	return &agentv1.BusPacket{
		TraceId: c.Record.Trace, SenderId: senderID, CreatedAt: timestamppb.New(w.d.Clock.Now()), ProtocolVersion: protocolVersion,
		Payload: &agentv1.BusPacket_JobRequest{JobRequest: c.Request},
	}
}

func (w *Workers) cancelPacket(r *job.Record) *agentv1.BusPacket {
	return &agentv1.BusPacket{
		TraceId: r.Trace, SenderId: senderID, CreatedAt: timestamppb.New(w.d.Clock.Now()), ProtocolVersion: protocolVersion,
		Payload: &agentv1.BusPacket_JobCancel{JobCancel: &agentv1.JobCancel{
			JobId: r.ID, Reason: r.CancelReason, RequestedBy: "api-gateway",
		}},
	}
}

// ReadContext answers the context of a job that a worker of this credential holds.
func (w *Workers) ReadContext(ctx context.Context, req *cordumv1.ReadContextRequest) (*cordumv1.ReadContextResponse, error) {
	p, err := w.pointer(req)
	if err != nil {
		return nil, err
	}
	id := identity.From(ctx)
	data, err := w.d.ReadContext(ctx, dispatch.Holder{Identity: id}, p, w.remembered(id, p))
	if err != nil {
		return nil, err
	}
	return &cordumv1.ReadContextResponse{Data: data}, nil
}

// pointer answers the job whose context is asked for.
func (w *Workers) pointer(req *cordumv1.ReadContextRequest) (string, error) {
	if req.GetPointer() == "" {
		return req.GetJobId(), nil
	}
	p, err := job.ParsePointer(strings.TrimSpace(req.GetPointer()))
	if err != nil {
		return "", err
	}
	if p.Kind != "ctx" || (req.GetJobId() != "" && req.GetJobId() != p.ID) {
		return "", job.ErrUnknown
	}
	return p.ID, nil
}

// WriteResult stores the payload that a worker made for a job that it holds.
func (w *Workers) WriteResult(ctx context.Context, req *cordumv1.WriteResultRequest) (*cordumv1.WriteResultResponse, error) {
	by := dispatch.Holder{Identity: identity.From(ctx), Attempt: int64(req.GetAttempt())}
	ptr, err := w.d.WriteResult(ctx, by, req.GetJobId(), req.GetData(), req.GetContentType(), w.remembered(by.Identity, req.GetJobId()))
	if err != nil {
		return nil, err
	}
	return &cordumv1.WriteResultResponse{ResultPtr: ptr}, nil
}

// remembered is the record of a job that a worker of this container and of the same credential's tenant holds, nil when there is none: it
// saves a read. It may be a little old, which harms nobody: the result that ends a job is checked against what is stored.
func (w *Workers) remembered(id identity.Identity, jobID string) *job.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sessions {
		if s.id.Home != id.Home {
			continue
		}
		if r := s.record(jobID); r != nil {
			return r
		}
	}
	return nil
}
