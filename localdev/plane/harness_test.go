package plane_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/sdk/worker"
)

// Keys of the planes under test: two tenants, every role.
const keys = `[
 {"key":"k-admin","tenant":"default","role":"admin"},
 {"key":"k-ada","tenant":"default","role":"admin","principal_id":"ada"},
 {"key":"k-operator","tenant":"default","role":"operator"},
 {"key":"k-user","tenant":"default","role":"user"},
 {"key":"k-viewer","tenant":"default","role":"viewer"},
 {"key":"k-other","tenant":"other","role":"admin"},
 {"key":"k-cross","tenant":"default","role":"admin","allow_cross_tenant":true},
 {"key":"k-worker","tenant":"default","role":"worker","pools":["*"],"allow_cross_tenant":true},
 {"key":"k-worker-default","tenant":"default","role":"worker","pools":["*"]},
 {"key":"k-worker-gpu","tenant":"default","role":"worker","pools":["gpu"]},
 {"key":"k-worker-other","tenant":"other","role":"worker","pools":["*"]}
]`

const testPolicy = `
version: "t1"
default_decision: deny
rules:
  - id: no-secrets
    match: { topics: ["job.test.*"], secrets_present: true }
    decision: deny
    reason: no secrets here
  - id: no-wipe
    match: { topics: ["job.test.wipe"] }
    decision: deny
    reason: nothing may be deleted
    remediations:
      - { id: list, title: List, summary: List only, replacement_topic: job.test.list }
  - id: ask
    match: { topics: ["job.test.ask"] }
    decision: require_approval
    reason: a human must look
  - id: slow
    match: { topics: ["job.test.slow"] }
    decision: throttle
    reason: not so fast
  - id: boxed
    match: { topics: ["job.test.boxed"] }
    decision: allow_with_constraints
    reason: in a box
    constraints:
      budgets: { max_runtime_ms: 2000, max_retries: 2, max_artifact_bytes: 1024, max_concurrent_jobs: 0 }
      redaction_level: high
  - id: once
    match: { topics: ["job.test.once"] }
    decision: allow
    constraints: { budgets: { max_retries: 1 } }
  - id: rest
    match: { topics: ["job.test.*", "job.default"] }
    decision: allow
    reason: tests may
`

const testPools = `
topics:
  job.default: main
  job.test.gpu: gpu
  job.test.pair: [main, gpu]
  job.test.needs: needy
  job.test.*: main
  job.test.nowhere.*: main
pools:
  needy: { requires: [" gpu", "Linux"] }
`

const testTimeouts = `
topics:
  job.test.brief: { timeout_seconds: 60, max_retries: 0 }
`

// rig is a plane under test and the doors to it.
type rig struct {
	t     *testing.T
	plane *plane.Plane
	dial  func(context.Context, string) (net.Conn, error)

	mu    sync.Mutex
	conns []net.Conn
}

func config() plane.Config {
	env := map[string]string{"CORDUM_API_KEYS": keys, "API_RATE_LIMIT_RPS": "1000000", "API_RATE_LIMIT_BURST": "1000000"}
	return plane.Config{
		Getenv: func(name string) string { return env[name] },
		Policy: []byte(testPolicy), Pools: []byte(testPools), Timeouts: []byte(testTimeouts),
		Log: slog.New(slog.NewTextHandler(logTo(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// logTo shows the plane's log only where somebody asked for it: CORDUM_TEST_LOG=1.
func logTo() io.Writer {
	if os.Getenv("CORDUM_TEST_LOG") != "" {
		return os.Stderr
	}
	return io.Discard
}

// today is when tests in virtual time begin.
var today = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// virtually runs a test on a plane of its own inside a bubble of virtual time: an hour passes when everything waits.
func virtually(t *testing.T, cfg plane.Config, test func(*testing.T, *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(today)) // a bubble begins in 2000, when microseconds still looked like milliseconds
		test(t, open(t, cfg))
	})
}

// step names a part of a test in its output. A bubble of virtual time has no subtests.
func (r *rig) step(name string, do func()) {
	r.t.Helper()
	before := r.t.Failed()
	do()
	if !before && r.t.Failed() {
		r.t.Logf("in %q", name)
	}
}

func open(t *testing.T, cfg plane.Config) *rig {
	t.Helper()
	p, err := plane.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	l := bufconn.Listen(1 << 20)
	served := make(chan struct{})
	go func() { defer close(served); _ = p.GRPC.Serve(l) }()
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		<-served
	})
	r := &rig{t: t, plane: p}
	r.dial = func(ctx context.Context, _ string) (net.Conn, error) {
		c, err := l.DialContext(ctx)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.conns = append(r.conns, c)
		return c, err
	}
	return r
}

// disconnect breaks every connection that was made to the plane.
func (r *rig) disconnect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close() // it may be closed
	}
	r.conns = nil
}

// answer is an HTTP response.
type answer struct {
	t      *testing.T
	Status int
	Header http.Header
	Body   string
}

// as calls a route with a key; the tenant header is the key's tenant.
func (r *rig) as(key, method, path string, body any, headers ...string) answer {
	r.t.Helper()
	var text []byte
	switch b := body.(type) {
	case nil:
	case string:
		text = []byte(b)
	default:
		var err error
		if text, err = json.Marshal(b); err != nil {
			r.t.Fatal(err)
		}
	}
	req := httptest.NewRequestWithContext(r.t.Context(), method, path, bytes.NewReader(text))
	if key != "" {
		req.Header.Set("X-API-Key", key)
	}
	tenant := "default"
	if strings.HasSuffix(key, "-other") {
		tenant = "other"
	}
	req.Header.Set("X-Tenant-ID", tenant)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Del(headers[i])
		if headers[i+1] != "" {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	rec := httptest.NewRecorder()
	r.plane.HTTP.ServeHTTP(rec, req)
	return answer{r.t, rec.Code, rec.Header(), rec.Body.String()}
}

func (r *rig) get(path string) answer { r.t.Helper(); return r.as("k-admin", "GET", path, nil) }
func (r *rig) post(path string, body any) answer {
	r.t.Helper()
	return r.as("k-admin", "POST", path, body)
}

// ok fails the test unless the status is that.
func (a answer) ok(status int) answer {
	a.t.Helper()
	if a.Status != status {
		a.t.Fatalf("HTTP %d, want %d: %s", a.Status, status, a.Body)
	}
	return a
}

// json reads the body.
func (a answer) json(into any) {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.Body), into); err != nil {
		a.t.Fatalf("%v in %s", err, a.Body)
	}
}

func (a answer) object() map[string]any {
	a.t.Helper()
	var m map[string]any
	a.json(&m)
	return m
}

// refused checks an error answer.
func (a answer) refused(status int, text string) {
	a.t.Helper()
	a.ok(status)
	m := a.object()
	if m["error"] != text || m["status"] != float64(status) {
		a.t.Fatalf("answer %s, want error %q and status %d", a.Body, text, status)
	}
}

type receipt struct {
	JobID   string `json:"job_id"`
	TraceID string `json:"trace_id"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
}

// submit submits a job as admin of the default tenant; fields are name, value pairs.
func (r *rig) submit(fields ...any) receipt {
	r.t.Helper()
	return r.submitAs("k-admin", fields...)
}

func (r *rig) submitAs(key string, fields ...any) receipt {
	r.t.Helper()
	var rc receipt
	r.as(key, "POST", "/api/v1/jobs", body(fields...)).ok(200).json(&rc)
	if rc.JobID == "" || rc.TraceID == "" {
		r.t.Fatalf("receipt without ids: %+v", rc)
	}
	return rc
}

// body makes a submission; without a prompt it gets one, without a topic job.test.work.
func body(fields ...any) map[string]any {
	b := map[string]any{"prompt": "do it", "topic": "job.test.work"}
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i+1] == nil {
			delete(b, fields[i].(string))
			continue
		}
		b[fields[i].(string)] = fields[i+1]
	}
	return b
}

func (r *rig) job(id string) map[string]any {
	r.t.Helper()
	return r.get("/api/v1/jobs/" + url.PathEscape(id)).ok(200).object()
}

// state waits until the job is in a state, in virtual or real time.
func (r *rig) await(id, state string) map[string]any {
	r.t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for {
		j := r.job(id)
		if j["state"] == state {
			return j
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("job %s is %v, not %s: %v", id, j["state"], state, j)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// jobs lists, following the cursor to the end.
func (r *rig) jobs(query string) []map[string]any {
	r.t.Helper()
	var all []map[string]any
	cursor := ""
	for pages := 0; ; pages++ {
		if pages > 1000 {
			r.t.Fatal("the list does not end")
		}
		var page struct {
			Items []map[string]any `json:"items"`
			Next  *json.Number     `json:"next_cursor"`
		}
		path := "/api/v1/jobs?" + query
		if cursor != "" {
			path += "&cursor=" + cursor
		}
		r.get(path).ok(200).json(&page)
		if page.Items == nil {
			r.t.Fatal("items is null")
		}
		all = append(all, page.Items...)
		if page.Next == nil {
			return all
		}
		cursor = page.Next.String()
	}
}

// conn is a gRPC connection to the plane.
func (r *rig) conn() *grpc.ClientConn {
	r.t.Helper()
	c, err := grpc.NewClient("passthrough:///plane", grpc.WithContextDialer(r.dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// work runs a worker of the SDK until the test ends; edit changes its configuration.
func (r *rig) work(handlers map[string]worker.Handler, edit ...func(*worker.Config)) (stop func()) {
	r.t.Helper()
	cfg := worker.Config{
		Target: "passthrough:///plane", APIKey: "k-worker", ID: "w1", Pool: "main", MaxParallel: 4, Insecure: true,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(r.dial)},
		Logger:      slog.New(slog.NewTextHandler(logTo(), nil)),
	}
	for _, e := range edit {
		e(&cfg)
	}
	w, err := worker.New(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	for topic, h := range handlers {
		w.Handle(topic, h)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.Run(ctx); err != nil && ctx.Err() == nil {
			r.t.Errorf("worker: %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	r.t.Cleanup(stop)
	return stop
}
