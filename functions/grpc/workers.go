// Package grpc is the container behind the load balancer: native gRPC for clients, and the streams of workers. It pulls the pool queues
// only for the capacity that its connected workers have announced, hands jobs over, takes their results, and sends cancels down the
// streams.
package grpc

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/cordum-serverless/cordum/functions/workers"
	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/worker"
)

// Workers serves worker streams. One exists in a container; Run pulls for it.
//
// The methods that have routes are those of the workers' function; the stream is the container's own.
type Workers struct {
	*workers.Service

	d     *dispatch.Dispatcher
	log   *slog.Logger
	owner string // of the delivery queue's lease

	mu       sync.Mutex
	delivery string
	sessions map[string]*session // by tenant and worker id
	pools    map[string]*puller
	changed  chan struct{} // closed and replaced when a session or a free slot appears
	stopping bool
	// running is what goes on until base ends; pulling, and handing over what was pulled, ends first, so that what a worker is given reaches it.
	running, handing sync.WaitGroup
	base, pulling    context.Context
	stop, stopPulls  context.CancelFunc
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

// NewWorkers makes the service. owner names the container among those that lease delivery queues: a name that no other has, and that a
// container which takes its place may have again; "" is a random one. Close ends what it started.
func NewWorkers(d *dispatch.Dispatcher, log *slog.Logger, owner string) *Workers {
	w := &Workers{
		d: d, log: log, owner: cmp.Or(owner, d.IDs.UUID()), sessions: map[string]*session{}, pools: map[string]*puller{}, changed: make(chan struct{}),
	}
	w.Service = workers.New(d, w.remembered)
	w.base, w.stop = context.WithCancel(context.Background())
	w.pulling, w.stopPulls = context.WithCancel(w.base)
	return w
}

// Connect is a worker's stream of BusPackets in both directions. Its first packet is a heartbeat, which names the worker, its pool and its
// capacity; from then on jobs come as they fit. docs/AGENT_PROTOCOL.md describes the whole.
func (w *Workers) Connect(stream cordumv1.Workers_ConnectServer) error {
	ctx := stream.Context()
	s, err := w.register(ctx, stream)
	if err != nil || s == nil { // nil: it left before it said who it is
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
		p, err := w.next(ctx, stream)
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
		id: id, name: beat.GetWorkerId(), done: make(chan struct{}),
		beat: proto.CloneOf(beat), beatAt: now, storedAt: now, jobs: map[string]*held{}, claiming: map[string]bool{},
	}
	if err := w.storeBeat(ctx, s, true); err != nil {
		return nil, err
	}
	// a worker that comes back still holds what it held: send it again, it knows what it has done already
	records, err := w.d.Jobs.HeldBy(ctx, id.Home, s.name, now)
	if err != nil {
		return nil, status.Error(codes.Unavailable, "worker registry is not available")
	}
	s.out = make(chan *agentv1.BusPacket, maxPackets+len(records)) // nobody takes from it yet
	w.handBack(ctx, s, records)
	behind, err := w.admit(s)
	if err != nil {
		return nil, err
	}
	if behind { // the container's delivery queue came in between
		_ = w.storeBeat(ctx, s, false) // logged; the next heartbeat tries again
	}
	w.log.InfoContext(ctx, "worker connected", "worker", s.name, "tenant", id.Home, "pool", beat.GetPool(), "reattached", len(records))
	return s, nil
}

// admit makes the session the worker's present one, and says whether its record names another delivery queue than the container's.
func (w *Workers) admit(s *session) (behind bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopping {
		return false, status.Error(codes.Unavailable, "the container is shutting down; connect again")
	}
	key := sessionKey(s.id.Home, s.name)
	if old := w.sessions[key]; old != nil {
		old.end() // the worker came back before its old stream was seen to be dead
	}
	w.sessions[key] = s
	w.pull(s.beat.GetPool())
	w.wake()
	return s.delivery != w.delivery, nil
}

// handBack sends a worker jobs that it holds by the record, as far as the session does not know of them.
func (w *Workers) handBack(ctx context.Context, s *session, records []*job.Record) {
	for _, r := range records {
		if !r.Held() || r.Worker != s.name || !s.claim(r.ID) {
			continue
		}
		if c, err := w.d.Again(ctx, r); err == nil {
			s.hold(r)
			s.send(w.request(c))
		} else {
			w.log.WarnContext(ctx, "a job is not sent to its worker; a heartbeat tries again", "job", r.ID, "worker", s.name, "error", err)
			s.wonder()
		}
		s.claimed(r.ID)
	}
}

func sessionKey(tenant, name string) string { return tenant + "\x00" + name }

func (w *Workers) storeBeat(ctx context.Context, s *session, first bool) error {
	row := s.holder()
	w.mu.Lock()
	row.Delivery, s.delivery = w.delivery, w.delivery
	w.mu.Unlock()
	err := w.d.Beat(ctx, row, first)
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

// next waits for a packet. One that is not signed as it must be is dropped, and its sender is not told.
func (w *Workers) next(ctx context.Context, stream cordumv1.Workers_ConnectServer) (*agentv1.BusPacket, error) {
	for {
		p, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if err = w.d.Senders.Check(p); err == nil {
			return p, nil
		}
		w.log.WarnContext(ctx, "packet dropped", "sender", p.GetSenderId(), "error", err)
	}
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
		p, err := w.next(ctx, stream)
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
		} else {
			w.revoke(ctx, s)
		}
	}
	if s.wondered() {
		if records, err := w.d.Jobs.HeldBy(ctx, s.id.Home, s.name, w.d.Clock.Now()); err == nil {
			w.handBack(ctx, s, records)
		} else {
			s.wonder()
		}
	}
	if err := ctx.Err(); err != nil {
		return err // it has gone: there is no slot to tell of
	}
	w.notify()
	return nil
}

// revoke sends the worker a cancel for every job in its hands that is not its own any more, whatever became of the message that should have
// told it.
func (w *Workers) revoke(ctx context.Context, s *session) {
	records, err := w.d.Jobs.Heads(ctx, s.held(), w.d.Clock.Now())
	if err != nil {
		w.log.WarnContext(ctx, "it is not known which jobs a worker must stop; the next heartbeat asks again", "worker", s.name, "error", err)
		return
	}
	for _, r := range records {
		had := s.record(r.ID)
		if had == nil || (r.Held() && r.Worker == s.name && r.WorkerTenant == s.id.Home) {
			continue
		}
		s.send(dispatch.CancelPacket(r, w.d.Clock.Now()))
		late := w.d.Clock.Now().Sub(time.UnixMicro(r.UpdatedAt)) > revokeGrace
		if !r.State.Terminal() || r.Attempts != had.Attempts || late { // what it says of the job counts no more: its slot is free
			s.release(r.ID)
		}
	}
}

// revokeGrace is how long a worker may take to say that it has stopped a job.
const revokeGrace = 30 * time.Second

// word takes what a worker says of a job. A result is answered with a result: the state that was recorded.
func (w *Workers) word(ctx context.Context, s *session, p *agentv1.BusPacket) {
	w.d.Yield.At(ctx, s.name+" on "+jobOf(p))
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
	code, ends := "", true
	var ignored *dispatch.Ignored
	switch {
	case errors.As(err, &ignored):
		w.log.InfoContext(ctx, "result ignored", "worker", s.name, "job", res.GetJobId(), "why", ignored.Why)
		code, ends = "IGNORED", dispatch.Ends(res.GetStatus()) // after another status the worker still has the job
	case err != nil: // not answered: the worker sends it again
		w.log.ErrorContext(ctx, "result not stored", "worker", s.name, "job", res.GetJobId(), "error", err)
		return
	default:
		w.log.DebugContext(ctx, "job ended", "job", done.ID, "state", done.State, "worker", s.name)
	}
	if ends { // before it is answered: who has the answer knows that the slot is free
		s.release(res.GetJobId())
		w.notify()
	}
	s.send(accepted(p, code))
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

func (w *Workers) request(c *dispatch.Claimed) *agentv1.BusPacket { return c.Packet(w.d.Clock.Now()) }

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
