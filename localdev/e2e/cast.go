package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
)

// plain says that gRPC goes without TLS.
func (t Target) plain() bool { return strings.HasPrefix(t.URL, "http://") }

// start brings the workers that serve the whole run: one with a stream, one that reads a queue.
func (r *run) start() {
	if r.target.lacks(needStream) == "" {
		w, err := worker.New(r.config(PoolWork, r.name+"-stream"))
		if err != nil {
			r.t.Fatal(err)
		}
		w.Handle("job.e2e.*", r.runs.handler(Handler))
		r.background("worker", w.Run)
	}
	if r.target.lacks(needPolling) == "" {
		w, err := worker.NewPolling(r.polling())
		if err != nil {
			r.t.Fatal(err)
		}
		w.Handle("job.e2e.*", r.runs.handler(Handler))
		r.background("polling worker", w.Run)
	}
}

func (r *run) config(pool, id string) worker.Config {
	return worker.Config{
		Target: r.target.GRPC, APIKey: r.target.WorkerKey, Pool: pool, ID: id, MaxParallel: 16, Insecure: r.target.plain(),
		Logger: slog.New(slog.DiscardHandler),
	}
}

func (r *run) polling() worker.PollingConfig {
	tickets, err := r.target.Queue("pool-" + PoolPolled)
	if err != nil {
		r.t.Fatal(err)
	}
	inbox, err := r.target.Queue("inbox")
	if err != nil {
		r.t.Fatal(err)
	}
	return worker.PollingConfig{
		URL: r.target.URL, APIKey: r.target.WorkerKey, Pool: PoolPolled, ID: r.name + "-polling", MaxParallel: 8, Queue: tickets, Inbox: inbox,
		Logger: slog.New(slog.DiscardHandler),
	}
}

// background runs a worker until the run ends.
func (r *run) background(what string, work func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	r.cast = append(r.cast, func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("%s: %v", what, err)
		}
	})
}

// dismiss has the workers of the run leave.
func (r *run) dismiss() {
	for _, stop := range r.cast {
		stop()
	}
}

// hire brings a worker of the SDK for the jobs that are placed here, and answers when the plane knows it. stop tells it to leave, and waits.
func (s *story) hire(here map[string]string, h worker.Handler, edit ...func(*worker.Config)) (id string, stop func()) {
	s.Helper()
	id = s.fresh()
	cfg := s.config(PoolPlaced, id)
	cfg.Labels, cfg.MaxParallel = here, 1
	for _, e := range edit {
		e(&cfg)
	}
	w, err := worker.New(cfg)
	if err != nil {
		s.Fatal(err)
	}
	w.Handle("job.e2e.*", h)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.Run(ctx); err != nil {
			s.Errorf("worker: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	s.Cleanup(stop)
	s.known(id, true)
	return id, stop
}

// seenAfter is how long a plane takes at most until it routes jobs to a new worker, rather than letting them wait for one.
const seenAfter = 2500 * time.Millisecond

// known waits until the plane lists a worker, or does not.
func (s *story) known(id string, want bool) {
	s.Helper()
	s.eventually(s.patience(), func() (bool, string) {
		var workers []struct {
			ID   string `json:"worker_id"`
			Pool string `json:"pool"`
		}
		s.ok(s.get("/workers"), &workers)
		listed := false
		for _, w := range workers {
			listed = listed || w.ID == id
		}
		return listed == want, fmt.Sprintf("worker %s is listed: %v", id, listed)
	})
}

// puppet is a worker without the SDK: it does what the case tells it, and nothing else but to say that it lives.
type puppet struct {
	s    *story
	id   string
	api  cordumv1.WorkersClient
	in   chan *agentv1.BusPacket
	end  chan error
	ctx  context.Context
	stop context.CancelFunc
	wire *wire

	mu     sync.Mutex // a stream takes one message at a time
	stream cordumv1.Workers_ConnectClient
}

// beatEvery is how often a puppet says that it lives.
const beatEvery = 5 * time.Second

// puppet connects a worker for the jobs of this story under an id, with room for one job.
func (s *story) puppet(id string) *puppet {
	s.Helper()
	w := &wire{}
	conn := s.dial(grpc.WithContextDialer(w.dial))
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(context.Background(), "x-api-key", s.target.WorkerKey))
	s.Cleanup(cancel)
	p := &puppet{
		s: s, id: id, api: cordumv1.NewWorkersClient(conn), in: make(chan *agentv1.BusPacket, 100), end: make(chan error, 1), ctx: ctx, stop: cancel, wire: w,
	}
	var err error
	if p.stream, err = p.api.Connect(ctx); err != nil {
		s.Fatal(err)
	}
	if err := p.beat(); err != nil {
		s.Fatal(err)
	}
	go p.receive()
	go p.live()
	s.known(id, true)
	return p
}

// dial makes a gRPC connection to the plane.
func (s *story) dial(opts ...grpc.DialOption) *grpc.ClientConn {
	s.Helper()
	creds := credentials.NewTLS(nil)
	if s.target.plain() {
		creds = insecure.NewCredentials()
	}
	conn, err := grpc.NewClient(s.target.GRPC, append(opts, grpc.WithTransportCredentials(creds))...)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.Close() }) // the case is over
	return conn
}

// wire keeps connections, to cut them.
type wire struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (w *wire) dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	w.conns = append(w.conns, c)
	return c, nil
}

// vanish cuts the puppet's connection, as when its machine dies.
func (p *puppet) vanish() {
	p.wire.mu.Lock()
	defer p.wire.mu.Unlock()
	p.wire.cut = true
	for _, c := range p.wire.conns {
		_ = c.Close() // that is the point
	}
	p.stop()
}

func (p *puppet) receive() {
	for {
		packet, err := p.stream.Recv()
		if err != nil {
			p.end <- err
			return
		}
		p.in <- packet
	}
}

func (p *puppet) live() {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-tick.C:
			_ = p.beat() // receive tells of a broken stream
		}
	}
}

func (p *puppet) beat() error {
	return p.say(&agentv1.BusPacket{Payload: &agentv1.BusPacket_Heartbeat{Heartbeat: &agentv1.Heartbeat{
		WorkerId: p.id, Pool: PoolPlaced, MaxParallelJobs: 1, Labels: p.s.here(),
	}}})
}

func (p *puppet) say(packet *agentv1.BusPacket) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	packet.SenderId, packet.CreatedAt, packet.ProtocolVersion = p.id, timestamppb.Now(), 1
	return p.stream.Send(packet)
}

// onMyWay is what a puppet says of its progress.
const onMyWay = "on my way"

func (p *puppet) progress(id string, percent int32) {
	p.s.Helper()
	err := p.say(&agentv1.BusPacket{Payload: &agentv1.BusPacket_JobProgress{JobProgress: &agentv1.JobProgress{
		JobId: id, Percent: percent, Message: onMyWay,
	}}})
	if err != nil {
		p.s.Fatal(err)
	}
}

// result tells how a job ended, and answers what the plane says to that: "" or an error code.
func (p *puppet) result(id string, status agentv1.JobStatus) string {
	p.s.Helper()
	err := p.say(&agentv1.BusPacket{Payload: &agentv1.BusPacket_JobResult{JobResult: &agentv1.JobResult{
		JobId: id, Status: status, WorkerId: p.id, ExecutionMs: 7,
	}}})
	if err != nil {
		p.s.Fatal(err)
	}
	for {
		if r := p.next("answer to the result", id).GetJobResult(); r.GetJobId() == id {
			return r.GetErrorCode()
		}
	}
}

// takes waits for a job and fails the case unless it is that one, in that attempt.
func (p *puppet) takes(id, attempt string) {
	p.s.Helper()
	for {
		r := p.next("request", id).GetJobRequest()
		if r == nil {
			continue
		}
		if r.GetJobId() != id || r.GetEnv()["CORDUM_ATTEMPT"] != attempt {
			p.s.Fatalf("worker %s got attempt %s of job %s, not attempt %s of %s", p.id, r.GetEnv()["CORDUM_ATTEMPT"], r.GetJobId(), attempt, id)
		}
		return
	}
}

// isTold waits for the cancel of a job.
func (p *puppet) isTold(id string) {
	p.s.Helper()
	for {
		if c := p.next("cancel", id).GetJobCancel(); c.GetJobId() == id {
			return
		}
	}
}

// next waits for a packet; what and id say which one.
func (p *puppet) next(what, id string) *agentv1.BusPacket {
	p.s.Helper()
	select {
	case packet := <-p.in:
		return packet
	case err := <-p.end:
		p.s.Fatalf("worker %s waits for a %s of job %s, and its stream ends: %v", p.id, what, id, err)
	case <-time.After(lostAfter + p.s.patience()):
		p.s.Fatalf("worker %s got no %s of job %s: %+v", p.id, what, id, p.s.job(id))
	}
	return nil
}

// lostAfter is how long a worker may be silent.
const lostAfter = 30 * time.Second
