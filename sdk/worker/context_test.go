package worker_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/sdk/worker/internal/fakeplane"
	"github.com/cordum-serverless/cordum/sdk/worker/workertest"
)

// engine is the plane's context engine: it notes what it is asked, and is out of reach for some calls.
type engine struct {
	cordumv1.UnimplementedContextEngineServer
	mu    sync.Mutex
	down  int
	calls []engineCall
}

type engineCall struct {
	req proto.Message
	md  metadata.MD
}

func (e *engine) asked(ctx context.Context, req proto.Message) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	md, _ := metadata.FromIncomingContext(ctx)
	e.calls = append(e.calls, engineCall{req, md})
	if e.down--; e.down >= 0 {
		return status.Error(codes.Unavailable, "later")
	}
	return nil
}

func (e *engine) BuildWindow(ctx context.Context, req *cordumv1.BuildWindowRequest) (*cordumv1.BuildWindowResponse, error) {
	return &cordumv1.BuildWindowResponse{Messages: []*cordumv1.ModelMessage{{Role: "user", Content: "hi"}}}, e.asked(ctx, req)
}

func (e *engine) UpdateMemory(ctx context.Context, req *cordumv1.UpdateMemoryRequest) (*cordumv1.UpdateMemoryResponse, error) {
	return &cordumv1.UpdateMemoryResponse{}, e.asked(ctx, req)
}

func (e *engine) StoreMemory(ctx context.Context, req *cordumv1.StoreMemoryRequest) (*cordumv1.StoreMemoryResponse, error) {
	return &cordumv1.StoreMemoryResponse{}, e.asked(ctx, req)
}

// What a handler asks is about its job's memory, tenant, input and budget. A call is made until it is answered, always under one key.
func TestAHandlerAsksTheContextEngine(t *testing.T) {
	handler := func(ctx context.Context, j *worker.Job) (any, error) {
		w, err := j.Window(ctx, j.ContextMode())
		if err != nil {
			return nil, err
		}
		if err := j.Remember(ctx, j.ContextMode(), []byte("re: "+w.GetMessages()[0].GetContent())); err != nil {
			return nil, err
		}
		if _, err = j.ContextEngine().StoreMemory(ctx, &cordumv1.StoreMemoryRequest{MemoryId: "m", Summary: []byte("s")}); err != nil {
			return nil, err
		}
		if err := j.Remember(ctx, j.ContextMode(), make([]byte, 17<<20)); status.Code(err) != codes.InvalidArgument {
			return nil, fmt.Errorf("more than a message holds: %w", err)
		}
		return nil, nil
	}
	run(t, handler, func(t *testing.T, p *plane, s *stream, _ func()) {
		p.engine.mu.Lock()
		p.engine.down = 2
		p.engine.mu.Unlock()
		s.send(&agentv1.BusPacket{Payload: &agentv1.BusPacket_JobRequest{JobRequest: &agentv1.JobRequest{
			JobId: "j", Topic: "job.t", ContextPtr: "redis://ctx:j", TenantId: "acme", MemoryId: "m", Budget: &agentv1.Budget{MaxInputTokens: 1 << 40, MaxOutputTokens: 5},
			Env: map[string]string{"CORDUM_ATTEMPT": "1", "context_mode": "rag"},
		}}})
		if r := s.result(t); r.GetStatus() != agentv1.JobStatus_JOB_STATUS_SUCCEEDED {
			t.Fatal(r)
		}
		p.engine.mu.Lock()
		defer p.engine.mu.Unlock()
		build := &cordumv1.BuildWindowRequest{
			MemoryId: "m", Mode: cordumv1.ContextMode_CONTEXT_MODE_RAG, LogicalPayload: []byte(`{"prompt":"p of j"}`), MaxInputTokens: 1<<31 - 1, MaxOutputTokens: 5,
		}
		want := []proto.Message{
			build, build, build,
			&cordumv1.UpdateMemoryRequest{MemoryId: "m", Mode: build.GetMode(), LogicalPayload: build.GetLogicalPayload(), ModelResponse: []byte("re: hi")},
			&cordumv1.StoreMemoryRequest{MemoryId: "m", Summary: []byte("s")},
		}
		if len(p.engine.calls) != len(want) {
			t.Fatalf("%d calls: %v", len(p.engine.calls), p.engine.calls)
		}
		keys := map[string]bool{}
		for i, c := range p.engine.calls {
			if !proto.Equal(c.req, want[i]) {
				t.Errorf("call %d is %v, want %v", i, c.req, want[i])
			}
			if got := fmt.Sprint(c.md.Get("x-tenant-id"), c.md.Get("x-api-key")); got != "[acme] [k]" || len(c.md.Get("idempotency-key")) != 1 {
				t.Errorf("call %d has %v", i, c.md)
			}
			keys[strings.Join(c.md.Get("idempotency-key"), "")] = true
		}
		if len(keys) != 3 {
			t.Errorf("three calls have %d keys", len(keys))
		}
	})
}

func TestContextModes(t *testing.T) {
	for word, want := range map[string]cordumv1.ContextMode{
		"chat": cordumv1.ContextMode_CONTEXT_MODE_CHAT, "rag": cordumv1.ContextMode_CONTEXT_MODE_RAG, "raw": cordumv1.ContextMode_CONTEXT_MODE_RAW,
		"": cordumv1.ContextMode_CONTEXT_MODE_RAW, "vivid": cordumv1.ContextMode_CONTEXT_MODE_RAW,
	} {
		if got := workertest.Job(workertest.Input{Env: map[string]string{"context_mode": word}}).ContextMode(); got != want {
			t.Errorf("%q is %s", word, got)
		}
	}
}

// A worker without a stream is told that it reaches no context engine, at once.
func TestAPollingWorkerHasNoContextEngine(t *testing.T) {
	errs := make(chan error, 3)
	poll(t, func(ctx context.Context, j *worker.Job) (any, error) {
		_, err := j.Window(ctx, cordumv1.ContextMode_CONTEXT_MODE_CHAT)
		errs <- err
		errs <- j.Remember(ctx, cordumv1.ContextMode_CONTEXT_MODE_CHAT, nil)
		_, err = j.ContextEngine().StoreMemory(ctx, &cordumv1.StoreMemoryRequest{})
		errs <- err
		return nil, nil
	}, func(t *testing.T, p *fakeplane.Plane, _ func()) {
		p.Submit("j")
		await(t, p, "j", "SUCCEEDED")
		for range 3 {
			if err := <-errs; status.Code(err) != codes.Unimplemented {
				t.Error(err)
			}
		}
	})
}

// A handler shows its model the window of its job, and remembers the answer.
func ExampleJob_Window() {
	handler := func(ctx context.Context, job *worker.Job) (any, error) {
		w, err := job.Window(ctx, cordumv1.ContextMode_CONTEXT_MODE_CHAT)
		if err != nil {
			return nil, err
		}
		answer := model(w.GetMessages(), w.GetOutputTokens())
		return answer, job.Remember(ctx, cordumv1.ContextMode_CONTEXT_MODE_CHAT, []byte(answer))
	}
	job := workertest.Job(workertest.Input{MemoryID: "m", Context: []byte(`{"prompt":"and now?"}`), ContextEngine: noted{}})
	fmt.Println(handler(context.Background(), job))
	// Output:
	// m remembers: 3 messages read
	// 3 messages read <nil>
}

// model stands for a language model.
func model(messages []*cordumv1.ModelMessage, _ int32) string {
	return fmt.Sprint(len(messages), " messages read")
}

// noted is a context engine for examples.
type noted struct{ cordumv1.ContextEngineClient }

func (noted) BuildWindow(_ context.Context, req *cordumv1.BuildWindowRequest, _ ...grpc.CallOption) (*cordumv1.BuildWindowResponse, error) {
	return &cordumv1.BuildWindowResponse{OutputTokens: 1024, Messages: []*cordumv1.ModelMessage{
		{Role: "user", Content: "hi"}, {Role: "assistant", Content: "hello"}, {Role: "user", Content: string(req.GetLogicalPayload())},
	}}, nil
}

func (noted) UpdateMemory(_ context.Context, req *cordumv1.UpdateMemoryRequest, _ ...grpc.CallOption) (*cordumv1.UpdateMemoryResponse, error) {
	fmt.Println(req.GetMemoryId(), "remembers:", string(req.GetModelResponse()))
	return &cordumv1.UpdateMemoryResponse{}, nil
}
