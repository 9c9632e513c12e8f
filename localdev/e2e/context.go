package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
)

// contextCases are about what workers show to language models, and remember.
var contextCases = []testCase{
	{"a window has what the memory holds, and GET /memory shows it", needStream, func(s *story) {
		engine, ctx := s.engine(s.target.WorkerKey, s.target.Tenant)
		id := s.fresh()
		window := func(mode cordumv1.ContextMode, payload string, want ...string) {
			s.Helper()
			s.window(ctx, engine, &cordumv1.BuildWindowRequest{MemoryId: id, Mode: mode, LogicalPayload: []byte(payload)}, want...)
		}
		for i := range 11 {
			_, err := engine.UpdateMemory(ctx, &cordumv1.UpdateMemoryRequest{
				MemoryId: id, Mode: cordumv1.ContextMode_CONTEXT_MODE_CHAT, LogicalPayload: fmt.Appendf(nil, `{"prompt":"q%d"}`, i), ModelResponse: fmt.Append(nil, "a", i),
			})
			if err != nil {
				s.Fatal(err)
			}
		}
		var history []string
		for i := 1; i < 11; i++ { // the newest 20
			history = append(history, fmt.Sprint("user: q", i), fmt.Sprint("assistant: a", i))
		}
		for _, content := range []string{"package old", "package a"} {
			_, err := engine.StoreMemory(ctx, &cordumv1.StoreMemoryRequest{MemoryId: id, Summary: []byte("a shop"), ReplaceChunks: true, Chunks: []*cordumv1.MemoryChunk{
				{Path: "src/a.go", Content: []byte(content), Language: "go", Loc: 1}, {Path: "src/b.go", Language: "go", Bytes: 120, Loc: 7},
			}})
			if err != nil {
				s.Fatal(err)
			}
		}
		window(cordumv1.ContextMode_CONTEXT_MODE_RAW, "now", "user: now")
		window(cordumv1.ContextMode_CONTEXT_MODE_CHAT, "now", append(slices.Clone(history), "user: now")...)
		window(cordumv1.ContextMode_CONTEXT_MODE_RAG, `{"message":"now"}`, append(slices.Clone(history), "system: a shop", "user: now")...)
		window(cordumv1.ContextMode_CONTEXT_MODE_RAG, `{"message":"now","file_path":".go"}`, append(slices.Clone(history), "system: File: src/a.go\npackage a",
			"system: File: src/b.go (language go, 120 bytes, 7 lines of code)", "user: now")...)
		for key, want := range map[string]string{
			"summary": `{"redis_type":"string","value":"a shop"}`,
			"chunks":  fmt.Sprintf(`{"redis_type":"set","length":2,"items":["mem:%s:chunk:0","mem:%s:chunk:1"]}`, id, id),
			"chunk:0": `{"redis_type":"hash","length":5,"items":{"bytes":9,"content":"package a","language":"go","loc":1,"path":"src/a.go"}}`,
		} {
			if m := s.memory("key=mem:" + id + ":" + key); m.Kind != "memory" || m.Text != want || m.Size != len(want) || m.Pointer != "redis://mem:"+id+":"+key {
				s.Errorf("%s is %+v", key, m)
			}
		}
		var m struct {
			JSON struct {
				Type   string `json:"redis_type"`
				Length int
				Items  []struct{ Role, Content string }
			}
		}
		if s.ok(s.get("/memory?key=mem:"+id+":events"), &m); m.JSON.Type != "list" || m.JSON.Length != 20 || len(m.JSON.Items) != 20 || m.JSON.Items[19].Content != "a10" {
			s.Errorf("events are %+v", m.JSON)
		}
		s.refused(s.get("/memory?key=mem:"+id+":chunk:2"), http.StatusNotFound, "not found")
	}},
	{"a run's chat and its workers' memory are one", needStream, func(s *story) {
		engine, ctx := s.engine(s.target.WorkerKey, s.target.Tenant)
		id := s.starts(s.flow(map[string]any{"gate": map[string]any{"type": "approval"}}), nil)
		s.reaches(id, "waiting")
		path, memoryID := "/workflow-runs/"+id, "run:"+id
		var said struct{ ID string }
		s.ok(s.post(path+"/chat", map[string]any{"content": "hello", "role": "agent"}), &said)
		_, err := engine.UpdateMemory(ctx, &cordumv1.UpdateMemoryRequest{
			MemoryId: memoryID, Mode: cordumv1.ContextMode_CONTEXT_MODE_RAG, LogicalPayload: []byte("what now?"), ModelResponse: []byte("we wait"),
		})
		if err != nil {
			s.Fatal(err)
		}
		s.window(ctx, engine, &cordumv1.BuildWindowRequest{MemoryId: memoryID, Mode: cordumv1.ContextMode_CONTEXT_MODE_CHAT},
			"assistant: hello", "user: what now?", "assistant: we wait")
		var chat struct {
			Items []struct{ Role, Content string }
		}
		if s.ok(s.get(path+"/chat"), &chat); fmt.Sprint(chat.Items) != "[{agent we wait} {user what now?} {agent hello}]" {
			s.Errorf("the chat is %v", chat.Items)
		}
	}},
	{"a handler has the window of its job, and remembers", needStream, func(s *story) {
		seen := make(chan []string, 10)
		here := s.here()
		s.hire(here, func(ctx context.Context, j *worker.Job) (any, error) {
			w, err := j.Window(ctx, j.ContextMode())
			if err != nil {
				return nil, err
			}
			seen <- said(w)
			return nil, j.Remember(ctx, j.ContextMode(), []byte("well"))
		})
		id := s.fresh()
		for i, want := range [][]string{{"user: p0"}, {"user: p0", "assistant: well", "user: p1"}} {
			rc := s.submit("topic", TopicPlaced, "labels", here, "prompt", fmt.Sprint("p", i), "memory_id", id, "context_mode", "chat")
			s.await(rc.JobID, "SUCCEEDED")
			if got := <-seen; !slices.Equal(got, want) {
				s.Errorf("job %d saw %q, want %q", i, got, want)
			}
		}
	}},
	{"a memory is its tenant's", needStream | needOther, func(s *story) {
		ours, ctx := s.engine(s.target.WorkerKey, s.target.Tenant)
		theirs, other := s.engine(s.target.OtherKey, s.target.OtherTenant)
		id := s.fresh()
		if _, err := ours.StoreMemory(ctx, &cordumv1.StoreMemoryRequest{MemoryId: id, Summary: []byte("ours")}); err != nil {
			s.Fatal(err)
		}
		s.window(other, theirs, &cordumv1.BuildWindowRequest{MemoryId: id, Mode: cordumv1.ContextMode_CONTEXT_MODE_RAG})
		s.refused(s.call(s.other(call{method: http.MethodGet, path: "/api/v1/memory?key=mem:" + id + ":summary"})), http.StatusNotFound, "not found")
		_, strange := s.engine(s.target.OtherKey, s.target.Tenant)
		if _, err := theirs.BuildWindow(strange, &cordumv1.BuildWindowRequest{MemoryId: id}); status.Code(err) != codes.PermissionDenied {
			s.Errorf("a foreign tenant is named: %v", err)
		}
	}},
}

// engine is the context engine, and a context with a key for a tenant.
func (s *story) engine(key, tenant string) (cordumv1.ContextEngineClient, context.Context) {
	s.Helper()
	return cordumv1.NewContextEngineClient(s.dial()), metadata.AppendToOutgoingContext(s.Context(), "x-api-key", key, "x-tenant-id", tenant)
}

func (s *story) window(ctx context.Context, engine cordumv1.ContextEngineClient, req *cordumv1.BuildWindowRequest, want ...string) {
	s.Helper()
	res, err := engine.BuildWindow(ctx, req)
	if err != nil {
		s.Fatal(err)
	}
	if got := said(res); !slices.Equal(got, want) {
		s.Errorf("%s of %q is %q, want %q", req.GetMode(), req.GetLogicalPayload(), got, want)
	}
}

// said are the messages of a window.
func said(w *cordumv1.BuildWindowResponse) (lines []string) {
	for _, m := range w.GetMessages() {
		lines = append(lines, m.GetRole()+": "+m.GetContent())
	}
	return lines
}
