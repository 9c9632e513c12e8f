package plane_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
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
    match: { topics: ["job.test.*", "job.default", "job.unmapped"] }
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
	// listeners are those of the gRPC containers, web reaches the HTTP door over connections.
	listeners []*bufconn.Listener
	web       *http.Transport
	api       cordumv1.CordumApiClient // made when it is first used
	doors     *grpc.ClientConn         // the same

	mu    sync.Mutex
	conns []net.Conn
}

func config() plane.Config {
	env := map[string]string{
		"CORDUM_API_KEYS": keys, "API_RATE_LIMIT_RPS": "1000000", "API_RATE_LIMIT_BURST": "1000000",
		"CORDUM_PACK_CATALOG_DEFAULT_DISABLED": "yes", // tests read nothing from the internet
	}
	return plane.Config{
		Getenv: func(name string) string { return env[name] },
		Policy: []byte(testPolicy), Pools: []byte(testPools), Timeouts: []byte(testTimeouts),
		Log: slog.New(slog.NewTextHandler(logTo(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// having is the test plane's configuration with further variables: name, value pairs.
func having(pairs ...string) plane.Config { return set(config(), pairs...) }

// set is a configuration with further variables.
func set(cfg plane.Config, pairs ...string) plane.Config {
	env := cfg.Getenv
	cfg.Getenv = func(name string) string {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return env(name)
	}
	return cfg
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
	r := &rig{t: t, plane: p}
	var serving sync.WaitGroup
	for _, c := range p.Containers {
		l := bufconn.Listen(1 << 20)
		serving.Go(func() { _ = c.Server.Serve(l) })
		r.listeners = append(r.listeners, l)
	}
	web := bufconn.Listen(1 << 20)
	server := &http.Server{Handler: p.HTTP, ReadHeaderTimeout: time.Minute}
	serving.Go(func() { _ = server.Serve(web) })
	r.web = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return web.DialContext(ctx) },
		// A deadline of such a connection can strike after it was lifted; the server takes that for a client that has gone, in every request that follows.
		DisableKeepAlives: true,
	}
	t.Cleanup(func() {
		r.web.CloseIdleConnections()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		_ = server.Close() // what is open is the test's own
		serving.Wait()
	})
	r.dial = r.dialer(0)
	return r
}

// hibernate switches the plane off for so long, and on again: virtual days in which it merely idles would cost real seconds. Its configuration must
// name a folder. Streams and gRPC connections end with it.
func (r *rig) hibernate(cfg plane.Config, d time.Duration) {
	r.t.Helper()
	if err := r.plane.Close(); err != nil {
		r.t.Fatal(err)
	}
	time.Sleep(d)
	again, err := plane.Open(r.t.Context(), cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	again.Start()
	r.t.Cleanup(func() {
		if err := again.Close(); err != nil {
			r.t.Error(err)
		}
	})
	r.plane = again
}

// dialer connects to one of the containers; to another one while that is drained.
func (r *rig) dialer(n int) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) {
		var c net.Conn
		err := errors.New("no container")
		for i := range r.listeners {
			if c, err = r.listeners[(n+i)%len(r.listeners)].DialContext(ctx); err == nil {
				break
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if err == nil {
			r.conns = append(r.conns, c)
		}
		return c, err
	}
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
	r.documented(method, path, rec.Code)
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
	return r.awaitFor(id, state, 5*time.Minute)
}

func (r *rig) awaitFor(id, state string, limit time.Duration) map[string]any {
	r.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		j := r.job(id)
		if j["state"] == state {
			return j
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("job %s is %v, not %s: %v", id, j["state"], state, j)
		}
		time.Sleep(max(5*time.Millisecond, limit/5000))
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

// send puts a message into a queue.
func (r *rig) send(name, body string) {
	r.t.Helper()
	if err := r.plane.Dispatcher.Queues.Send(r.t.Context(), name, queue.Message{Body: body}); err != nil {
		r.t.Fatal(err)
	}
}

// depth is how many messages a queue holds.
func (r *rig) depth(name string) int {
	r.t.Helper()
	n, err := r.plane.Dispatcher.Queues.Depth(r.t.Context(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// conn is a gRPC connection to the plane.
func (r *rig) conn() *grpc.ClientConn { return r.connTo(r.dial) }

func (r *rig) connTo(dial func(context.Context, string) (net.Conn, error)) *grpc.ClientConn {
	r.t.Helper()
	c, err := grpc.NewClient("passthrough:///plane", grpc.WithContextDialer(dial),
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
