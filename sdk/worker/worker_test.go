package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
)

// plane is the other end of a worker's stream, in the hands of a test.
type plane struct {
	cordumv1.UnimplementedWorkersServer
	t       *testing.T
	streams chan *stream
	stored  chan *cordumv1.WriteResultRequest
	engine  engine
	refuse  error
	conns   []net.Conn
}

type stream struct {
	cordumv1.Workers_ConnectServer
	in  chan *agentv1.BusPacket
	end chan error
}

func (p *plane) Connect(s cordumv1.Workers_ConnectServer) error {
	if p.refuse != nil {
		return p.refuse
	}
	st := &stream{s, make(chan *agentv1.BusPacket, 100), make(chan error, 1)}
	p.streams <- st
	go func() {
		for {
			m, err := s.Recv()
			if err != nil {
				close(st.in)
				return
			}
			st.in <- m
		}
	}()
	select {
	case err := <-st.end:
		return err
	case <-s.Context().Done():
		return nil
	}
}

func (p *plane) ReadContext(_ context.Context, r *cordumv1.ReadContextRequest) (*cordumv1.ReadContextResponse, error) {
	return &cordumv1.ReadContextResponse{Data: []byte(`{"prompt":"p of ` + r.GetJobId() + `"}`)}, nil
}

func (p *plane) WriteResult(_ context.Context, r *cordumv1.WriteResultRequest) (*cordumv1.WriteResultResponse, error) {
	p.stored <- r
	return &cordumv1.WriteResultResponse{ResultPtr: "redis://res:" + r.GetJobId()}, nil
}

// send gives the worker a packet.
func (s *stream) send(p *agentv1.BusPacket) {
	p.ProtocolVersion, p.CreatedAt = 1, timestamppb.Now()
	_ = s.Send(p) // the stream may have ended; the test sees what follows
}

func (s *stream) job(id string, env ...string) {
	r := &agentv1.JobRequest{JobId: id, Topic: "job.t", ContextPtr: "redis://ctx:" + id, Env: map[string]string{"CORDUM_ATTEMPT": "1"}}
	for i := 0; i+1 < len(env); i += 2 {
		r.Env[env[i]] = env[i+1]
	}
	s.send(&agentv1.BusPacket{TraceId: "trace-" + id, Payload: &agentv1.BusPacket_JobRequest{JobRequest: r}})
}

func (s *stream) acknowledge(id string) {
	s.send(&agentv1.BusPacket{Payload: &agentv1.BusPacket_JobResult{JobResult: &agentv1.JobResult{JobId: id}}})
}

func (s *stream) cancel(id string) {
	s.send(&agentv1.BusPacket{Payload: &agentv1.BusPacket_JobCancel{JobCancel: &agentv1.JobCancel{JobId: id}}})
}

// next waits for the next packet of a kind.
func next[T any](t *testing.T, s *stream, get func(*agentv1.BusPacket) *T) (*T, *agentv1.BusPacket) {
	t.Helper()
	for {
		p, open := <-s.in
		if !open {
			t.Fatal("the worker left")
		}
		if v := get(p); v != nil {
			return v, p
		}
	}
}

func (s *stream) result(t *testing.T) *agentv1.JobResult {
	t.Helper()
	r, _ := next(t, s, (*agentv1.BusPacket).GetJobResult)
	return r
}

func (s *stream) heartbeat(t *testing.T) *agentv1.Heartbeat {
	t.Helper()
	h, _ := next(t, s, (*agentv1.BusPacket).GetHeartbeat)
	return h
}

// run tests a worker in virtual time. stop tells it to drain and waits.
func run(t *testing.T, h worker.Handler, test func(t *testing.T, p *plane, s *stream, stop func()), edit ...func(*worker.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &plane{t: t, streams: make(chan *stream, 10), stored: make(chan *cordumv1.WriteResultRequest, 100)}
		l := bufconn.Listen(1 << 16)
		server := grpc.NewServer()
		cordumv1.RegisterWorkersServer(server, p)
		cordumv1.RegisterContextEngineServer(server, &p.engine)
		go func() { _ = server.Serve(l) }()
		defer server.Stop()
		cfg := worker.Config{
			Target: "passthrough:///p", APIKey: "k", ID: "w", Pool: "main", MaxParallel: 2, Insecure: true, Logger: slog.New(slog.DiscardHandler),
			DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				c, err := l.DialContext(ctx)
				p.conns = append(p.conns, c)
				return c, err
			})},
		}
		for _, e := range edit {
			e(&cfg)
		}
		w, err := worker.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		w.Handle("job.*", h)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		stopped := false
		stop := func() {
			if !stopped {
				stopped = true
				cancel()
				if err := <-done; err != nil {
					t.Errorf("run: %v", err)
				}
			}
		}
		defer stop()
		test(t, p, <-p.streams, stop)
	})
}

func TestT145_WhatAHandlerAnswers(t *testing.T) {
	cases := map[string]struct {
		h      worker.Handler
		status agentv1.JobStatus
		code   string
		text   string
		stored bool
	}{
		"a value":         {func(context.Context, *worker.Job) (any, error) { return map[string]int{"n": 1}, nil }, agentv1.JobStatus_JOB_STATUS_SUCCEEDED, "", "", true},
		"nil":             {func(context.Context, *worker.Job) (any, error) { return nil, nil }, agentv1.JobStatus_JOB_STATUS_SUCCEEDED, "", "", false},
		"an error":        {func(context.Context, *worker.Job) (any, error) { return nil, errors.New("broken") }, agentv1.JobStatus_JOB_STATUS_FAILED, "", "broken", false},
		"a coded error":   {func(context.Context, *worker.Job) (any, error) { return nil, &worker.Error{Code: "C", Message: "m"} }, agentv1.JobStatus_JOB_STATUS_FAILED, "C", "m", false},
		"a panic":         {func(context.Context, *worker.Job) (any, error) { panic("ouch") }, agentv1.JobStatus_JOB_STATUS_FAILED, "panic", "handler panicked: ouch", false},
		"what is no JSON": {func(context.Context, *worker.Job) (any, error) { return func() {}, nil }, agentv1.JobStatus_JOB_STATUS_FAILED, "invalid_result", "", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			run(t, c.h, func(t *testing.T, p *plane, s *stream, _ func()) {
				s.job("j")
				r, packet := next(t, s, (*agentv1.BusPacket).GetJobResult)
				if r.GetJobId() != "j" || r.GetStatus() != c.status || r.GetErrorCode() != c.code || (c.text != "" && r.GetErrorMessage() != c.text) {
					t.Errorf("result %v", r)
				}
				if packet.GetTraceId() != "trace-j" || packet.GetSenderId() != "w" || packet.GetProtocolVersion() != 1 || r.GetWorkerId() != "w" {
					t.Errorf("packet %v", packet)
				}
				if (len(p.stored) == 1) != c.stored || (r.GetResultPtr() != "") != c.stored {
					t.Errorf("stored %d, pointer %q", len(p.stored), r.GetResultPtr())
				}
				s.acknowledge("j")
			})
		})
	}
}

func TestT145_CancelAndDeadline(t *testing.T) {
	wait := func(ctx context.Context, _ *worker.Job) (any, error) { <-ctx.Done(); return nil, ctx.Err() }
	run(t, wait, func(t *testing.T, _ *plane, s *stream, _ func()) {
		s.job("a")
		synctest.Wait()
		s.cancel("a")
		if r := s.result(t); r.GetStatus() != agentv1.JobStatus_JOB_STATUS_CANCELLED {
			t.Errorf("cancelled: %v", r)
		}
		s.acknowledge("a")
		s.cancel("b") // before it comes
		synctest.Wait()
		s.job("b")
		if r := s.result(t); r.GetJobId() != "b" || r.GetStatus() != agentv1.JobStatus_JOB_STATUS_CANCELLED {
			t.Errorf("cancelled before it started: %v", r)
		}
		s.acknowledge("b")
		began := time.Now()
		s.send(&agentv1.BusPacket{Payload: &agentv1.BusPacket_JobRequest{JobRequest: &agentv1.JobRequest{
			JobId: "c", Topic: "job.t", Budget: &agentv1.Budget{DeadlineMs: 2000},
		}}})
		if r := s.result(t); r.GetStatus() != agentv1.JobStatus_JOB_STATUS_TIMEOUT || time.Since(began) != 2*time.Second {
			t.Errorf("deadline after %s: %v", time.Since(began), r)
		}
		s.acknowledge("c")
	})
}

func TestT146_NoMoreThanMaxParallel(t *testing.T) {
	var running, most atomic.Int32
	h := func(context.Context, *worker.Job) (any, error) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer running.Add(-1)
		time.Sleep(time.Second)
		return nil, nil
	}
	run(t, h, func(t *testing.T, _ *plane, s *stream, _ func()) {
		for _, id := range []string{"a", "b", "c"} {
			s.job(id)
		}
		for range 3 {
			s.acknowledge(s.result(t).GetJobId())
		}
		if most.Load() != 2 {
			t.Errorf("%d ran at once", most.Load())
		}
	})
}

func TestT143_T148_PacketsThatAreNotKnown(t *testing.T) {
	run(t, func(context.Context, *worker.Job) (any, error) { return nil, nil }, func(t *testing.T, _ *plane, s *stream, _ func()) {
		s.send(&agentv1.BusPacket{})
		s.send(&agentv1.BusPacket{Payload: &agentv1.BusPacket_JobRequest{JobRequest: &agentv1.JobRequest{}}})
		s.send(&agentv1.BusPacket{Payload: &agentv1.BusPacket_Alert{Alert: &agentv1.SystemAlert{Code: "X"}}})
		future := &agentv1.JobRequest{JobId: "j", Topic: "job.t"}
		future.ProtoReflect().SetUnknown([]byte{0xfa, 0x07, 0x01, 0x78})
		s.send(&agentv1.BusPacket{Payload: &agentv1.BusPacket_JobRequest{JobRequest: future}})
		if r := s.result(t); r.GetJobId() != "j" {
			t.Errorf("result %v", r)
		}
		s.acknowledge("j")
	})
}

func TestT149_AFinishedJobIsNotRunAgain(t *testing.T) {
	var runs atomic.Int32
	h := func(context.Context, *worker.Job) (any, error) { return map[string]int32{"run": runs.Add(1)}, nil }
	run(t, h, func(t *testing.T, p *plane, s *stream, _ func()) {
		s.job("j")
		first := s.result(t)
		s.acknowledge("j")
		synctest.Wait()
		s.job("j")
		again := s.result(t)
		s.acknowledge("j")
		if runs.Load() != 1 || again.GetResultPtr() != first.GetResultPtr() || len(p.stored) != 1 {
			t.Errorf("%d runs, %d stored", runs.Load(), len(p.stored))
		}
		s.job("j", "CORDUM_ATTEMPT", "2")
		s.result(t)
		s.acknowledge("j")
		if runs.Load() != 2 {
			t.Errorf("the next attempt was not run")
		}
	})
}

func TestAResultIsKeptUntilItIsAcknowledged(t *testing.T) {
	var runs atomic.Int32
	run(t, func(context.Context, *worker.Job) (any, error) { runs.Add(1); return nil, nil }, func(t *testing.T, p *plane, s *stream, _ func()) {
		s.job("j")
		s.result(t)
		if r := s.result(t); r.GetJobId() != "j" { // five seconds later
			t.Errorf("resent %v", r)
		}
		s.end <- status.Error(codes.Unavailable, "shutting down")
		s = <-p.streams
		s.heartbeat(t)
		if r := s.result(t); r.GetJobId() != "j" {
			t.Errorf("after the reconnect %v", r)
		}
		s.acknowledge("j")
		synctest.Wait()
		time.Sleep(time.Minute)
		for len(s.in) > 0 {
			if p := <-s.in; p.GetJobResult() != nil {
				t.Error("an acknowledged result was sent again")
			}
		}
		if runs.Load() != 1 {
			t.Errorf("%d runs", runs.Load())
		}
	})
}

func TestDrain(t *testing.T) {
	started := make(chan struct{})
	h := func(ctx context.Context, j *worker.Job) (any, error) {
		var in struct{ Prompt string }
		if err := j.DecodeContext(ctx, &in); err != nil || in.Prompt != "p of j" {
			return nil, errors.New("context " + in.Prompt)
		}
		close(started)
		time.Sleep(3 * time.Second)
		return "done", nil
	}
	run(t, h, func(t *testing.T, _ *plane, s *stream, stop func()) {
		if b := s.heartbeat(t); b.GetWorkerId() != "w" || b.GetPool() != "main" || b.GetMaxParallelJobs() != 2 || b.GetActiveJobs() != 0 {
			t.Errorf("first packet %v", b)
		}
		s.job("j")
		<-started
		stopped := make(chan struct{})
		go func() { defer close(stopped); stop() }()
		if b := s.heartbeat(t); b.GetMaxParallelJobs() != b.GetActiveJobs() {
			t.Errorf("while it drains %v", b)
		}
		if r := s.result(t); r.GetStatus() != agentv1.JobStatus_JOB_STATUS_SUCCEEDED {
			t.Errorf("result %v", r)
		}
		s.acknowledge("j")
		<-stopped
		for range s.in { // until the worker has closed its side
		}
	})
}

func TestRunReturnsWhenThePlaneRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := bufconn.Listen(1 << 16)
		server := grpc.NewServer()
		cordumv1.RegisterWorkersServer(server, &plane{refuse: status.Error(codes.Unauthenticated, "unauthorized")})
		go func() { _ = server.Serve(l) }()
		defer server.Stop()
		w, err := worker.New(worker.Config{
			Target: "passthrough:///p", APIKey: "bad", Pool: "main", Insecure: true, Logger: slog.New(slog.DiscardHandler),
			DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) })},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Run(t.Context()); status.Code(errors.Unwrap(err)) != codes.Unauthenticated {
			t.Errorf("%v", err)
		}
	})
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	good := worker.Config{Target: "t", APIKey: "k", Pool: "p"}
	for name, edit := range map[string]func(*worker.Config){
		"no target": func(c *worker.Config) { c.Target = "" }, "no key": func(c *worker.Config) { c.APIKey = "" },
		"no pool": func(c *worker.Config) { c.Pool = "" }, "negative parallelism": func(c *worker.Config) { c.MaxParallel = -1 },
		"a key with the end of its line": func(c *worker.Config) { c.APIKey += "\n" },
	} {
		c := good
		edit(&c)
		if _, err := worker.New(c); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
