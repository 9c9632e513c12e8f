package plane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/cordum-serverless/cordum/localdev/plane"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/memory"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

const (
	modeRaw  = cordumv1.ContextMode_CONTEXT_MODE_RAW
	modeChat = cordumv1.ContextMode_CONTEXT_MODE_CHAT
	modeRAG  = cordumv1.ContextMode_CONTEXT_MODE_RAG
)

// contexts is the context engine as a key sees it; pairs are metadata beside.
type contexts struct {
	*rig
	api cordumv1.ContextEngineClient
	ctx context.Context
}

func (r *rig) contexts(key string, pairs ...string) contexts {
	r.t.Helper()
	ctx := metadata.AppendToOutgoingContext(r.t.Context(), append([]string{"x-api-key", key}, pairs...)...)
	return contexts{r, cordumv1.NewContextEngineClient(r.conn()), ctx}
}

// window builds one, with a budget of the default size, and answers its messages, each as "role: content".
func (c contexts) window(memoryID string, mode cordumv1.ContextMode, payload string) []string {
	c.t.Helper()
	res, err := c.api.BuildWindow(c.ctx, &cordumv1.BuildWindowRequest{MemoryId: memoryID, Mode: mode, LogicalPayload: []byte(payload)})
	if err != nil {
		c.t.Fatal(err)
	}
	return lines(res)
}

func lines(res *cordumv1.BuildWindowResponse) (out []string) {
	for _, m := range res.GetMessages() {
		out = append(out, m.GetRole()+": "+m.GetContent())
	}
	return out
}

func (c contexts) update(memoryID, question, answer string) error {
	_, err := c.api.UpdateMemory(c.ctx, &cordumv1.UpdateMemoryRequest{
		MemoryId: memoryID, Mode: modeChat, LogicalPayload: []byte(question), ModelResponse: []byte(answer),
	})
	return err
}

func (c contexts) updated(memoryID, question, answer string) {
	c.t.Helper()
	if err := c.update(memoryID, question, answer); err != nil {
		c.t.Fatal(err)
	}
}

func (c contexts) stored(req *cordumv1.StoreMemoryRequest) {
	c.t.Helper()
	if _, err := c.api.StoreMemory(c.ctx, req); err != nil {
		c.t.Fatal(err)
	}
}

func (c contexts) refused(err error, code codes.Code, text string) {
	c.t.Helper()
	if st := status.Convert(err); st.Code() != code || st.Message() != text {
		c.t.Errorf("%v, want %s %q", err, code, text)
	}
}

// value is what GET /memory says of a key.
func (r *rig) value(key string) answer {
	r.t.Helper()
	return r.get("/api/v1/memory?key=" + url.QueryEscape(key))
}

func is(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestT128_T129_T132_WindowsOfAHistory(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		c := r.contexts("k-worker-default")
		c.updated("m", `{"prompt":"hi"}`, " ho \n")
		is(t, "chat", c.window("m", modeChat, `{"prompt":"and now?"}`), "user: hi", "assistant: ho", "user: and now?")
		is(t, "rag", c.window(" m ", modeRAG, `{"message":"and now?"}`), "user: hi", "assistant: ho", "user: and now?")
		for _, mode := range []cordumv1.ContextMode{modeRaw, 0, 99} {
			is(t, "raw", c.window("m", mode, `just text`), "user: just text")
		}
		is(t, "no memory", c.window(" ", modeChat, `x`), "user: x")
		is(t, "nothing asked", c.window("m", modeChat, ""), "user: hi", "assistant: ho")
		is(t, "nothing at all", c.window("", modeRaw, ""))
		is(t, "a memory that does not exist", c.window("none", modeRAG, `{"file_path":"a.go"}`), `user: {"file_path":"a.go"}`)
		build := func(in, out int32, payload string) *cordumv1.BuildWindowResponse {
			t.Helper()
			res, err := c.api.BuildWindow(c.ctx, &cordumv1.BuildWindowRequest{
				MemoryId: "m", Mode: modeChat, Model: "any", LogicalPayload: []byte(payload), MaxInputTokens: in, MaxOutputTokens: out,
			})
			if err != nil {
				t.Fatal(err)
			}
			return res
		}
		if res := build(0, 0, "eight by"); res.GetInputTokens() != 2 || res.GetOutputTokens() != 1024 || len(res.GetMessages()) != 3 {
			t.Errorf("defaults: %v", res)
		}
		long := strings.Repeat("x", 400)
		if res := build(50, 77, long); res.GetInputTokens() != 100 || res.GetOutputTokens() != 77 || len(res.GetMessages()) != 1 || res.GetMessages()[0].GetContent() != long {
			t.Errorf("a budget below the user's message: %v", res)
		}
		if res := build(-1, 0, strings.Repeat("x", 100_000)); res.GetInputTokens() != 25_000 || len(res.GetMessages()) != 3 {
			t.Errorf("no budget: %d tokens, %d messages", res.GetInputTokens(), len(res.GetMessages()))
		}
		for _, req := range []*cordumv1.UpdateMemoryRequest{
			{MemoryId: "w", Mode: modeRaw, LogicalPayload: []byte("q"), ModelResponse: []byte("a")}, {MemoryId: "w", LogicalPayload: []byte("q")},
			{MemoryId: " ", Mode: modeChat, LogicalPayload: []byte("q")}, {MemoryId: "w", Mode: modeChat, ModelResponse: []byte(" \n")},
		} {
			if _, err := c.api.UpdateMemory(c.ctx, req); err != nil {
				t.Errorf("%v: %v", req, err)
			}
		}
		r.value("mem:w:events").refused(404, "not found")
		c.updated("w", "", "only an answer")
		is(t, "half an exchange", c.window("w", modeChat, ""), "assistant: only an answer")
	})
}

func TestT130_TheLast20EventsAreKept(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		c := r.contexts("k-admin")
		var want []string
		for i := range 13 {
			c.updated("m", fmt.Sprint("q", i), fmt.Sprint("a", i))
			want = append(want, fmt.Sprint("user: q", i), fmt.Sprint("assistant: a", i))
		}
		want = want[len(want)-20:]
		is(t, "the window", c.window("m", modeChat, "now"), append(slices.Clone(want), "user: now")...)
		m := r.value("mem:m:events").ok(200).object()["json"].(map[string]any)
		items, _ := m["items"].([]any)
		if m["redis_type"] != "list" || m["length"] != 20.0 || len(items) != 20 {
			t.Fatalf("%v", m)
		}
		for i, item := range items {
			e := item.(map[string]any)
			if got := fmt.Sprintf("%s: %s", e["role"], e["content"]); got != want[i] || e["ts"] != float64(today.Unix()) || len(e) != 3 {
				t.Errorf("item %d is %v, want %s", i, e, want[i])
			}
		}
	})
}

// knowledge is a memory with a summary and two files.
func knowledge(memoryID string) *cordumv1.StoreMemoryRequest {
	return &cordumv1.StoreMemoryRequest{MemoryId: memoryID, Summary: []byte("a shop"), Chunks: []*cordumv1.MemoryChunk{
		{Path: "src/a.go", Content: []byte("package a"), Language: "go", Loc: 1},
		{Path: "src/b.go", Language: "go", Bytes: 120, Loc: 7},
	}}
}

func TestT131_WindowsOfFiles(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		c := r.contexts("k-worker-default")
		c.stored(knowledge("m"))
		c.updated("m", "hi", "ho")
		is(t, "the summary", c.window("m", modeRAG, `{"prompt":"p"}`), "user: hi", "assistant: ho", "system: a shop", "user: p")
		is(t, "a file", c.window("m", modeRAG, `{"prompt":"p","file_path":"a.go"}`), "user: hi", "assistant: ho", "system: File: src/a.go\npackage a", "user: p")
		is(t, "a file without content", c.window("m", modeRAG, `{"prompt":"p","file_path":"/home/me/src/b.go"}`),
			"user: hi", "assistant: ho", "system: File: src/b.go (language go, 120 bytes, 7 lines of code)", "user: p")
		is(t, "chat", c.window("m", modeChat, `{"prompt":"p","file_path":"a.go"}`), "user: hi", "assistant: ho", "user: p")
		n := int64(1)
		c.stored(&cordumv1.StoreMemoryRequest{MemoryId: "m", Chunks: []*cordumv1.MemoryChunk{{Index: &n, Path: "src/b.go", Content: []byte("package b")}}})
		is(t, "both files", c.window("m", modeRAG, `{"prompt":"p","file_path":".go"}`),
			"user: hi", "assistant: ho", "system: File: src/a.go\npackage a", "system: File: src/b.go\npackage b", "user: p")
		c.stored(&cordumv1.StoreMemoryRequest{MemoryId: "m", ReplaceChunks: true, Summary: []byte{}})
		for _, payload := range []string{`{"prompt":"p"}`, `{"prompt":"p","file_path":".go"}`} {
			is(t, "nothing is known", c.window("m", modeRAG, payload), "user: hi", "assistant: ho", "user: p")
		}
	})
}

// Pointers and keys of memories are read as those of jobs are; the id of a memory may have colons.
func TestT121_T122_T123_T124_MemoriesByPointer(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		const id = "mem:job-1"
		c := r.contexts("k-worker-default")
		c.updated(id, "hi", `{"n":1}`)
		c.stored(knowledge(id))
		doc := func(key, kind, want string) {
			t.Helper()
			for _, query := range []string{"key=" + key, "ptr=" + url.QueryEscape(`"redis://`+key+`"`), "key=" + url.QueryEscape(`'redis://`+key+`'`)} {
				var m struct {
					Pointer, Key, Kind, Text string
					Base64                   []byte
					Size                     int `json:"size_bytes"`
					JSON                     json.RawMessage
				}
				r.get("/api/v1/memory?" + query).ok(200).json(&m)
				if m.Text != want || string(m.JSON) != want || string(m.Base64) != want || m.Size != len(want) || m.Kind != "memory" || m.Key != key || m.Pointer != "redis://"+key {
					t.Errorf("%s, a %s: %+v\nwant %s", query, kind, m, want)
				}
			}
		}
		ts := today.Unix()
		doc("mem:"+id+":events", "list", fmt.Sprintf(
			`{"redis_type":"list","length":2,"items":[{"role":"user","content":"hi","ts":%d},{"role":"assistant","content":"{\"n\":1}","ts":%d}]}`, ts, ts))
		doc("mem:"+id+":summary", "string", `{"redis_type":"string","value":"a shop"}`)
		doc("mem:"+id+":chunks", "set", `{"redis_type":"set","length":2,"items":["mem:mem:job-1:chunk:0","mem:mem:job-1:chunk:1"]}`)
		doc("mem:"+id+":chunk:0", "hash", `{"redis_type":"hash","length":5,"items":{"bytes":9,"content":"package a","language":"go","loc":1,"path":"src/a.go"}}`)
		c.stored(&cordumv1.StoreMemoryRequest{MemoryId: id, Summary: []byte("\xff\x00")})
		doc("mem:"+id+":summary", "binary string", `{"redis_type":"string","base64":"/wA="}`)
		for _, key := range []string{
			"mem:" + id, "mem:" + id + ":", "mem:" + id + ":other", "mem:" + id + ":chunk:2", "mem:" + id + ":chunk:x", "mem:job-1:events", "mem:events",
			"mem:" + strings.Repeat("x", 5000) + ":events",
		} {
			r.value(key).refused(404, "not found")
		}
		for _, part := range []string{"events", "summary", "chunks", "chunk:0"} {
			path := "/api/v1/memory?key=mem:" + id + ":" + part
			r.as("k-other", "GET", path, nil).refused(404, "not found")
			r.as("k-worker-default", "GET", path, nil).ok(403)
		}
		r.value("mem:").refused(400, "invalid pointer")
		r.value("memx:a:events").refused(400, "unsupported pointer key (only ctx:*, res:*, or mem:*)")
	})
}

// A memory of a name is each tenant's own. Who serves several tenants says for which it asks; who serves one may not name another.
func TestMemoriesAreOfATenant(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		ours, theirs := r.contexts("k-worker-default"), r.contexts("k-worker-other")
		ours.updated("m", "ours", "")
		ours.stored(&cordumv1.StoreMemoryRequest{MemoryId: "m", Summary: []byte("our summary")})
		is(t, "theirs is empty", theirs.window("m", modeRAG, ""))
		theirs.updated("m", "theirs", "")
		is(t, "theirs", theirs.window("m", modeRAG, ""), "user: theirs")
		is(t, "ours", ours.window("m", modeRAG, ""), "user: ours", "system: our summary")
		is(t, "theirs for one who serves all", r.contexts("k-worker", "x-tenant-id", "other").window("m", modeRAG, ""), "user: theirs")
		is(t, "its own", r.contexts("k-worker").window("m", modeRAG, ""), "user: ours", "system: our summary")
		strange := r.contexts("k-worker-other", "x-tenant-id", "default")
		_, err := strange.api.BuildWindow(strange.ctx, &cordumv1.BuildWindowRequest{MemoryId: "m", Mode: modeRAG})
		strange.refused(err, codes.PermissionDenied, "tenant access denied")
		strange.refused(strange.update("m", "x", "x"), codes.PermissionDenied, "tenant access denied")
		_, err = strange.api.StoreMemory(strange.ctx, knowledge("m"))
		strange.refused(err, codes.PermissionDenied, "tenant access denied")
		is(t, "ours at last", ours.window("m", modeRAG, ""), "user: ours", "system: our summary")
	})
}

func TestWhoMayUseTheContextEngine(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		for key, want := range map[string]codes.Code{
			"k-admin": codes.OK, "k-worker-default": codes.OK, "k-worker-gpu": codes.OK, "k-operator": codes.PermissionDenied, "k-user": codes.PermissionDenied,
			"k-viewer": codes.PermissionDenied, "k-nobody": codes.Unauthenticated,
		} {
			c := r.contexts(key)
			_, build := c.api.BuildWindow(c.ctx, &cordumv1.BuildWindowRequest{MemoryId: "m"})
			_, learn := c.api.StoreMemory(c.ctx, knowledge("m"))
			for _, err := range []error{build, c.update("m", "q", "a"), learn} {
				if status.Code(err) != want {
					t.Errorf("%s: %v", key, err)
				}
			}
		}
	})
}

func TestWhatTheContextEngineRefuses(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		c := r.contexts("k-worker-default")
		long := strings.Repeat("x", 64<<10+1)
		_, err := c.api.BuildWindow(c.ctx, &cordumv1.BuildWindowRequest{LogicalPayload: make([]byte, 2<<20+1)})
		c.refused(err, codes.InvalidArgument, "logical_payload too long (max 2097152 bytes)")
		_, err = c.api.BuildWindow(c.ctx, &cordumv1.BuildWindowRequest{MemoryId: strings.Repeat("x", 513)})
		c.refused(err, codes.InvalidArgument, "invalid memory id")
		c.refused(c.update(strings.Repeat("x", 513), "q", "a"), codes.InvalidArgument, "invalid memory id")
		c.refused(c.update("m", long, "a"), codes.InvalidArgument, "message of the user too long for a memory (max 65536 bytes)")
		c.refused(c.update("m", "q", long), codes.InvalidArgument, "message of the assistant too long for a memory (max 65536 bytes)")
		minus := int64(-1)
		for text, req := range map[string]*cordumv1.StoreMemoryRequest{
			"memory_id is required":                       {MemoryId: " ", Summary: []byte("s")},
			"neither a summary nor chunks are given":      {MemoryId: "m"},
			"an index must not be negative":               {MemoryId: "m", Chunks: []*cordumv1.MemoryChunk{{Index: &minus}}},
			"summary too long (max 65536 bytes)":          {MemoryId: "m", Summary: []byte(long)},
			"chunk 0: content too long (max 65536 bytes)": {MemoryId: "m", Chunks: []*cordumv1.MemoryChunk{{Content: []byte(long)}}},
			"91 chunks are too many at once (max 90); store them one part after the other": {
				MemoryId: "m", Chunks: slices.Repeat([]*cordumv1.MemoryChunk{{Path: "a"}}, 91),
			},
		} {
			_, err := c.api.StoreMemory(c.ctx, req)
			c.refused(err, codes.InvalidArgument, text)
		}
		for _, part := range []string{"events", "summary", "chunks"} {
			r.value("mem:m:"+part).refused(404, "not found")
		}
		binary := "a\xffb"
		c.updated("m", binary, binary) // what is no text is shown as far as it is
		is(t, "binary", c.window("m", modeChat, binary), "user: a\uFFFDb", "assistant: a\uFFFDb", "user: a\uFFFDb")
	})
}

// What is said in a run's chat is the history of the run's memory, and what its workers remember is said in its chat.
func TestARunsChatIsItsMemory(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		id := r.gated(nil)
		c := r.contexts("k-worker-default")
		memoryID := "run:" + id
		r.said(id, "hello")
		r.post(runPath(id)+"/chat", pairs("content", "hello yourself", "role", "assistant", "agent_name", "Ada", "metadata", pairs("n", 1))).ok(200)
		r.post(runPath(id)+"/chat", pairs("content", "be brief", "role", "system")).ok(200)
		c.updated(memoryID, `{"prompt":"what now?"}`, "we wait")
		is(t, "the window", c.window(memoryID, modeChat, "go on"),
			"user: hello", "assistant: hello yourself", "system: be brief", "user: what now?", "assistant: we wait", "user: go on")
		var page struct {
			Items []struct {
				ID, Role, Content string
				RunID             string `json:"run_id"`
				CreatedAt         string `json:"created_at"`
			}
		}
		r.get(runPath(id) + "/chat").ok(200).json(&page)
		var got []string
		ids := map[string]bool{}
		for _, m := range page.Items {
			got = append(got, m.Role+": "+m.Content)
			if ids[m.ID] = true; m.ID == "" || m.RunID != id || m.CreatedAt != time.Now().UTC().Format(time.RFC3339) {
				t.Errorf("not whole: %+v", m)
			}
		}
		is(t, "the chat", got, "agent: we wait", "user: what now?", "system: be brief", "agent: hello yourself", "user: hello")
		if len(ids) != 5 {
			t.Errorf("ids %v", ids)
		}
		for i := range 9 { // the last 20, whoever said them
			c.updated(memoryID, fmt.Sprint("q", i), fmt.Sprint("a", i))
		}
		if contents, _ := r.chatted(id, ""); len(contents) != 20 || contents[19] != "what now?" || contents[0] != "a8" {
			t.Errorf("%v", contents)
		}
	})
}

// A run that is deleted takes all that its memory knows, in however many writes.
func TestADeletedRunTakesItsMemory(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		id := r.gated(nil)
		c := r.contexts("k-worker-default")
		c.updated("run:"+id, "q", "a")
		for range 4 {
			c.stored(&cordumv1.StoreMemoryRequest{
				MemoryId: "run:" + id, Summary: []byte("s"), Chunks: slices.Repeat([]*cordumv1.MemoryChunk{{Path: "a", Content: []byte("x")}}, memory.MaxAtOnce),
			})
		}
		if got := c.window("run:"+id, modeRAG, `{"file_path":"a"}`); len(got) != 2+4*memory.MaxAtOnce+1 {
			t.Fatalf("%d messages", len(got))
		}
		r.as("k-admin", "DELETE", runPath(id), nil).ok(204)
		time.Sleep(5 * time.Minute)
		for _, part := range []string{"events", "summary", "chunks", "chunk:0"} {
			r.value("mem:run:"+id+":"+part).refused(404, "not found")
		}
		page, err := r.plane.Dispatcher.Jobs.Table.Query(t.Context(), store.Query{PK: "M#default#run:" + id})
		if err != nil || len(page.Items) != 0 {
			t.Errorf("left are %d items, %v", len(page.Items), err)
		}
	})
}

func TestMemoriesAreForgottenAfter30Days(t *testing.T) {
	cfg := config()
	cfg.Dir = t.TempDir()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		c := r.contexts("k-worker-default")
		c.stored(knowledge("m"))
		c.updated("m", "old", "")
		day := 24 * time.Hour
		later := func(d time.Duration) {
			t.Helper()
			r.hibernate(cfg, d)
			l := bufconn.Listen(1 << 20)
			server := r.plane.Containers[0].Server
			go func() { _ = server.Serve(l) }()
			r.dial = func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }
			c = r.contexts("k-worker-default")
		}
		later(20 * day)
		is(t, "after 20 days", c.window("m", modeRAG, ""), "user: old", "system: a shop")
		c.updated("m", "new", "")
		later(10*day + time.Second)
		is(t, "after 30 days", c.window("m", modeRAG, ""), "user: new")
		is(t, "of files", c.window("m", modeRAG, `{"prompt":"p","file_path":".go"}`), "user: new", "user: p")
		for _, part := range []string{"summary", "chunks", "chunk:0"} {
			r.value("mem:m:"+part).refused(404, "not found")
		}
		if n := r.value("mem:m:events").ok(200).object()["json"].(map[string]any)["length"]; n != 1.0 {
			t.Errorf("%v events", n)
		}
		later(20 * day)
		is(t, "at last", c.window("m", modeRAG, ""))
		r.value("mem:m:events").refused(404, "not found")
	})
}

// moody tables lose the answers of transactions on memories, or are out of reach for them, or slow, so that those who read at one time write at one time.
type moody struct {
	store.Table
	lose, down *atomic.Int32
	slow       *atomic.Bool
}

func (m moody) Write(ctx context.Context, ops ...store.Op) error {
	ours := strings.HasPrefix(ops[0].Key.PK, "M#")
	if ours && m.down.Add(-1) >= 0 {
		return store.ErrUnavailable
	}
	err := m.Table.Write(ctx, ops...)
	if ours && err == nil && m.lose.Add(-1) >= 0 {
		return store.ErrConflict
	}
	return err
}

func (m moody) Get(ctx context.Context, key store.Key) (store.Item, error) {
	if strings.HasPrefix(key.PK, "M#") && m.down.Load() > 0 {
		return store.Item{}, store.ErrUnavailable
	}
	it, err := m.Table.Get(ctx, key)
	if m.slow.Load() {
		time.Sleep(5 * time.Millisecond)
	}
	return it, err
}

func (m moody) Query(ctx context.Context, q store.Query) (store.Page, error) {
	if strings.HasPrefix(q.PK, "M#") && m.down.Load() > 0 {
		return store.Page{}, store.ErrUnavailable
	}
	return m.Table.Query(ctx, q)
}

func moodily() (plane.Config, moody) {
	cfg, m := config(), moody{lose: &atomic.Int32{}, down: &atomic.Int32{}, slow: &atomic.Bool{}}
	cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
		p.Table = moody{p.Table, m.lose, m.down, m.slow}
		return p
	}
	return cfg, m
}

func TestAStoreOutOfReachIsUnavailable(t *testing.T) {
	cfg, m := moodily()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		c := r.contexts("k-worker-default")
		c.updated("m", "hi", "ho")
		c.stored(knowledge("m"))
		m.down.Store(1000)
		for _, payload := range []string{"p", `{"file_path":"a.go"}`} {
			_, err := c.api.BuildWindow(c.ctx, &cordumv1.BuildWindowRequest{MemoryId: "m", Mode: modeRAG, LogicalPayload: []byte(payload)})
			c.refused(err, codes.Unavailable, "service unavailable")
		}
		is(t, "raw needs no store", c.window("m", modeRaw, "p"), "user: p")
		c.refused(c.update("m", "q", "a"), codes.Unavailable, "service unavailable")
		_, err := c.api.StoreMemory(c.ctx, knowledge("m"))
		c.refused(err, codes.Unavailable, "service unavailable")
		r.value("mem:m:events").ok(503)
		m.down.Store(0)
		is(t, "afterwards", c.window("m", modeRAG, "p"), "user: hi", "assistant: ho", "system: a shop", "user: p")
	})
}

// An update whose answer the plane loses is made again, and is there once. A client that gets no answer may ask again under the same key.
func TestAnUpdateWhoseAnswerIsLost(t *testing.T) {
	cfg, m := moodily()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		c := r.contexts("k-worker-default")
		m.lose.Store(3)
		c.updated("m", "q1", "a1")
		m.lose.Store(1)
		c.stored(knowledge("m"))
		is(t, "once", c.window("m", modeRAG, `{"file_path":"a.go"}`), "user: q1", "assistant: a1", "system: File: src/a.go\npackage a", `user: {"file_path":"a.go"}`)
		keyed := r.contexts("k-worker-default", "idempotency-key", "k1")
		for range 3 {
			keyed.updated("m", "q2", "a2")
			keyed.stored(knowledge("m2"))
		}
		c.updated("m", "q2", "a2") // without a key it is another one
		is(t, "the history", c.window("m", modeChat, ""), "user: q1", "assistant: a1", "user: q2", "assistant: a2", "user: q2", "assistant: a2")
		if n := r.value("mem:m2:chunks").ok(200).object()["json"].(map[string]any)["length"]; n != 2.0 {
			t.Errorf("%v chunks", n)
		}
		other := r.contexts("k-worker-other", "idempotency-key", "k1")
		other.updated("m", "theirs", "")
		is(t, "the same key of another tenant", other.window("m", modeChat, ""), "user: theirs")
	})
}

// Of many updates at once the newest 20 events are there, question and answer side by side, in some order.
func TestUpdatesAtOnce(t *testing.T) {
	cfg, m := moodily()
	cfg.Containers = 2
	virtually(t, cfg, func(t *testing.T, r *rig) {
		m.slow.Store(true)
		const writers = 40
		var all sync.WaitGroup
		for i := range writers {
			c := r.contexts("k-worker-default")
			c.api = cordumv1.NewContextEngineClient(r.connTo(r.dialer(i % 2)))
			all.Go(func() {
				if err := c.update("m", fmt.Sprint("q", i), fmt.Sprint("a", i)); err != nil {
					t.Error(err)
				}
			})
		}
		began := time.Now()
		all.Wait()
		if took := time.Since(began); took < 50*time.Millisecond || took > 5*time.Second { // they did meet
			t.Errorf("it took %s", took)
		}
		got := r.contexts("k-admin").window("m", modeChat, "")
		if len(got) != memory.MaxEvents {
			t.Fatalf("%d messages", len(got))
		}
		seen := map[string]bool{}
		for i := 0; i < len(got); i += 2 {
			q := strings.TrimPrefix(got[i], "user: q")
			if got[i+1] != "assistant: a"+q || seen[q] {
				t.Errorf("%q is followed by %q", got[i], got[i+1])
			}
			seen[q] = true
		}
		page, err := r.plane.Dispatcher.Jobs.Table.Query(t.Context(), store.Query{PK: "M#default#m", Prefix: "E#"})
		if err != nil || len(page.Items) != memory.MaxEvents || page.Items[0].SK != fmt.Sprintf("E#%012d", 2*writers-memory.MaxEvents) {
			t.Errorf("%d items, %v", len(page.Items), err)
		}
	})
}

// A handler gets the window of its job, in the job's tenant, and what it remembers is there for the next job with that memory.
func TestAHandlerHasAWindow(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		windows := make(chan []string, 10)
		r.work(map[string]worker.Handler{"job.*": func(ctx context.Context, j *worker.Job) (any, error) {
			w, err := j.Window(ctx, j.ContextMode())
			if err != nil {
				return nil, err
			}
			windows <- append(lines(w), fmt.Sprint(w.GetInputTokens(), " ", w.GetOutputTokens()))
			return nil, j.Remember(ctx, j.ContextMode(), []byte("answer to "+w.GetMessages()[len(w.GetMessages())-1].GetContent()))
		}})
		for _, key := range []string{"k-admin", "k-other"} {
			ask := func(prompt, mode string, more ...any) []string {
				t.Helper()
				rc := r.submitAs(key, append([]any{"prompt", prompt, "memory_id", "shared", "context_mode", mode}, more...)...)
				w := <-windows
				time.Sleep(time.Second)
				if j := r.as(key, "GET", "/api/v1/jobs/"+rc.JobID, nil).ok(200).object(); j["state"] != "SUCCEEDED" {
					t.Errorf("job %v", j)
				}
				return w
			}
			is(t, key+" first", ask("one", "chat"), "user: one", "0 1024")
			is(t, key+" second", ask("two", "chat", "max_output_tokens", 7), "user: one", "assistant: answer to one", "user: two", "3 7")
			is(t, key+" raw", ask("three", "raw"), "user: three", "1 1024")
			is(t, key+" small", ask("four", "rag", "max_input_tokens", 1), "user: four", "1 1024")
			is(t, key+" unknown", ask("five", "vivid"), "user: five", "1 1024")
		}
	})
}
