package plane_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/core/event"
)

// The streams of api.md 3.

// watcher is a client's WebSocket.
type watcher struct {
	t      *testing.T
	conn   *websocket.Conn
	frames chan map[string]any
	closed chan websocket.StatusCode
	texts  transcript // of all frames
}

// open tries a handshake.
func (r *rig) open(path string, header http.Header, protocols ...string) (*websocket.Conn, *http.Response, error) {
	return websocket.Dial(r.t.Context(), "ws://plane"+path, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: r.web}, HTTPHeader: header, Subprotocols: protocols,
	})
}

// echoes opens a stream that must be let in, and fails the test unless the answer names the protocol.
func (r *rig) echoes(name, want, path string, header http.Header, protocols ...string) {
	r.t.Helper()
	conn, res, err := r.open(path, header, protocols...)
	if err != nil {
		r.t.Errorf("%s: %v", name, err)
		return
	}
	if echo := res.Header.Get("Sec-WebSocket-Protocol"); echo != want {
		r.t.Errorf("%s: protocol %q, want %q", name, echo, want)
	}
	_ = conn.CloseNow()
}

// watch opens a stream with a key of a tenant.
func (r *rig) watch(key, path string) *watcher {
	r.t.Helper()
	tenant := "default"
	if strings.HasSuffix(key, "-other") {
		tenant = "other"
	}
	conn, _, err := r.open(path, http.Header{"X-Api-Key": {key}, "X-Tenant-Id": {tenant}})
	if err != nil {
		r.t.Fatal(err)
	}
	return r.listen(conn)
}

func (r *rig) listen(conn *websocket.Conn) *watcher {
	w := &watcher{t: r.t, conn: conn, frames: make(chan map[string]any, 10_000), closed: make(chan websocket.StatusCode, 1)}
	go func() {
		for {
			_, data, err := conn.Read(context.Background())
			if err != nil {
				w.closed <- websocket.CloseStatus(err)
				return
			}
			w.texts.add(data)
			var m map[string]any
			if err := json.Unmarshal(data, &m); err != nil {
				w.t.Errorf("frame %q: %v", data, err)
			}
			w.frames <- m
		}
	}()
	r.t.Cleanup(func() { _ = conn.CloseNow() })
	return w
}

// ended waits until the stream is closed, which takes seconds where it is revoked, and answers how.
func (w *watcher) ended() websocket.StatusCode {
	w.t.Helper()
	select {
	case code := <-w.closed:
		return code
	case <-time.After(10 * time.Second):
		w.t.Error("the stream is still open")
		return 0
	}
}

// open says whether the stream still is.
func (w *watcher) open() bool {
	select {
	case code := <-w.closed:
		w.t.Logf("closed with %d", code)
		return false
	default:
		return true
	}
}

// said answers the members of the frames that came until now, heartbeats and signs of life aside: "jobRequest <id>" or "jobResult <id> <status>".
func (w *watcher) said() []string {
	w.t.Helper()
	time.Sleep(2 * time.Second)
	synctest.Wait()
	var out []string
	for len(w.frames) > 0 {
		m := <-w.frames
		for _, name := range []string{"jobRequest", "jobProgress", "jobResult", "jobCancel", "alert"} {
			body, ok := m[name].(map[string]any)
			if !ok {
				continue
			}
			twin := m["payload"].(map[string]any)[name]
			if fmt.Sprint(twin) != fmt.Sprint(body) {
				w.t.Errorf("payload.%s is %v, not %v", name, twin, body)
			}
			text := fmt.Sprint(name, " ", body["jobId"])
			if s, ok := body["status"].(string); ok && name == "jobResult" {
				text += " " + strings.TrimPrefix(s, "JOB_STATUS_") + " by " + fmt.Sprint(m["senderId"])
			}
			out = append(out, text)
		}
	}
	return out
}

func want(t *testing.T, what string, got []string, lines ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(lines, "\n") {
		t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(lines, "\n"))
	}
}

func TestAStreamTellsTheLifeOfAJob(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.watch("k-admin", "/api/v1/stream")
		r.work(map[string]worker.Handler{"job.test.*": func(_ context.Context, j *worker.Job) (any, error) {
			j.Progress(40, "half way")
			time.Sleep(time.Second)
			if j.Labels["fail"] != "" {
				return nil, &worker.Error{Code: "X", Message: "broken"}
			}
			return nil, nil
		}})
		good, bad := r.submit(), r.submit("labels", map[string]string{"fail": "1"})
		r.await(good.JobID, "SUCCEEDED")
		r.await(bad.JobID, "FAILED")
		var ofGood, ofBad []string
		for _, line := range w.said() {
			if strings.Contains(line, good.JobID) {
				ofGood = append(ofGood, line)
			} else {
				ofBad = append(ofBad, line)
			}
		}
		want(t, "success", ofGood, "jobRequest "+good.JobID, "jobProgress "+good.JobID, "jobResult "+good.JobID+" SUCCEEDED by w1")
		want(t, "failure", ofBad, "jobRequest "+bad.JobID, "jobProgress "+bad.JobID, "jobResult "+bad.JobID+" FAILED by w1",
			"jobResult "+bad.JobID+" FAILED by cordum-scheduler")
		denied := r.submit("topic", "job.test.wipe")
		want(t, "denied", w.said(), "jobRequest "+denied.JobID, "jobResult "+denied.JobID+" DENIED by cordum-scheduler")
		waiting := r.submit("topic", "job.test.ask")
		r.post("/api/v1/jobs/"+waiting.JobID+"/cancel", nil).ok(200)
		r.post("/api/v1/jobs/"+waiting.JobID+"/cancel", nil).ok(200)
		want(t, "cancelled", w.said(), "jobRequest "+waiting.JobID, "jobResult "+waiting.JobID+" CANCELLED by api-gateway", "jobCancel "+waiting.JobID)
	})
}

// A job that waits is decided again and again: clients hear of it when it was submitted, and when it moves.
func TestAJobThatWaitsIsToldOnce(t *testing.T) {
	cfg := config()
	cfg.Policy = []byte(strings.Replace(testPolicy, "max_runtime_ms: 2000, max_retries: 2, max_artifact_bytes: 1024, max_concurrent_jobs: 0",
		"max_runtime_ms: 600000, max_concurrent_jobs: 1", 1))
	virtually(t, cfg, func(t *testing.T, r *rig) {
		w := r.watch("k-admin", "/api/v1/stream")
		throttled, first, second := r.submit("topic", "job.test.slow").JobID, r.submit("topic", "job.test.boxed").JobID, r.submit("topic", "job.test.boxed").JobID
		time.Sleep(30 * time.Second)
		for id, state := range map[string]string{throttled: "PENDING", first: "SCHEDULED", second: "PENDING"} {
			r.await(id, state)
		}
		asked := []string{"jobRequest " + throttled, "jobRequest " + first, "jobRequest " + second}
		want(t, "while they wait", slices.Sorted(slices.Values(w.said())), slices.Sorted(slices.Values(asked))...)
		r.post("/api/v1/jobs/"+first+"/cancel", nil).ok(200)
		r.await(second, "SCHEDULED")
		want(t, "when one can go on", w.said(), "jobResult "+first+" CANCELLED by api-gateway", "jobCancel "+first, "jobRequest "+second)
	})
}

func TestFramesAreProtobufJSON(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.watch("k-admin", "/api/v1/stream")
		rc := r.submit("max_total_tokens", 5000, "labels", map[string]string{"team": "a<b"})
		time.Sleep(time.Second)
		m := <-w.frames
		req := m["jobRequest"].(map[string]any)
		if m["traceId"] != rc.TraceID || m["senderId"] != "api-gateway-http" || m["protocolVersion"] != 1.0 || m["createdAt"] == nil ||
			req["priority"] != "JOB_PRIORITY_INTERACTIVE" || req["budget"].(map[string]any)["maxTotalTokens"] != "5000" ||
			req["tenantId"] != "default" || req["labels"].(map[string]any)["team"] != "a<b" || req["contextPtr"] != "redis://ctx:"+rc.JobID {
			t.Errorf("frame %v", m)
		}
		if _, there := req["adapterId"]; there {
			t.Error("an unset member was sent")
		}
	})
}

func TestChecklist3_Handshakes(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		raw := base64.RawURLEncoding.EncodeToString([]byte("k-admin"))
		padded := base64.StdEncoding.EncodeToString([]byte("k-admin"))
		good := []struct {
			name      string
			path      string
			header    http.Header
			protocols []string
			echo      string
		}{
			{"two tokens", "/api/v1/stream?tenant_id=default", nil, []string{"cordum-api-key", raw}, "cordum-api-key"},
			{"dot", "/api/v1/stream?tenant=default", nil, []string{"cordum-api-key." + raw}, "cordum-api-key." + raw},
			{"any case", "/api/v1/stream?tenant_id=default", nil, []string{"Cordum-API-Key", raw}, "Cordum-API-Key"},
			{"standard base64", "/api/v1/stream?tenant_id=default", nil, []string{"cordum-api-key", strings.TrimRight(padded, "=")}, "cordum-api-key"},
			{"plain text", "/api/v1/stream?tenant_id=default", nil, []string{"cordum-api-key", "k-admin"}, "cordum-api-key"},
			{"header wins", "/api/v1/stream", http.Header{"X-Api-Key": {"k-admin"}, "X-Tenant-Id": {"default"}}, []string{"cordum-api-key", "bm8"}, "cordum-api-key"},
			{"header alone", "/api/v1/stream", http.Header{"Authorization": {"Bearer k-admin"}, "X-Tenant-Id": {"default"}}, nil, ""},
			{"a page of this machine", "/api/v1/stream", http.Header{"X-Api-Key": {"k-admin"}, "X-Tenant-Id": {"default"}, "Origin": {"http://localhost:3000"}}, nil, ""},
		}
		for _, c := range good {
			r.echoes(c.name, c.echo, c.path, c.header, c.protocols...)
		}
		id := r.submit().JobID
		bad := []struct {
			name, path, key, tenant, origin string
			status                          int
			text                            string
		}{
			{"no key", "/api/v1/stream", "", "default", "", 401, "unauthorized"},
			{"bad key", "/api/v1/stream", "k-nobody", "default", "", 401, "unauthorized"},
			{"no tenant", "/api/v1/stream", "k-admin", "", "", 403, "tenant id required"},
			{"foreign tenant", "/api/v1/stream", "k-admin", "other", "", 403, "tenant access denied"},
			{"not an admin", "/api/v1/stream", "k-user", "default", "", 403, "access denied"},
			{"a worker", "/api/v1/jobs/" + id + "/stream", "k-worker-default", "default", "", 403, "access denied"},
			{"foreign page", "/api/v1/stream", "k-admin", "default", "https://evil.example", 403, "origin not allowed"},
			{"unknown job", "/api/v1/jobs/nobody/stream", "k-user", "default", "", 404, "job not found"},
			{"foreign job", "/api/v1/jobs/" + id + "/stream", "k-other", "other", "", 404, "job not found"},
			{"no job", "/api/v1/jobs//stream", "k-user", "default", "", 400, "job id is required"},
		}
		for _, c := range bad {
			header := http.Header{}
			for name, v := range map[string]string{"X-Api-Key": c.key, "X-Tenant-Id": c.tenant, "Origin": c.origin} {
				if v != "" {
					header.Set(name, v)
				}
			}
			_, res, err := r.open(c.path, header)
			if err == nil || res == nil {
				t.Errorf("%s was let in", c.name)
				continue
			}
			var body struct{ Error string }
			if err := json.NewDecoder(res.Body).Decode(&body); err != nil || res.StatusCode != c.status || body.Error != c.text {
				t.Errorf("%s: %d %q %v", c.name, res.StatusCode, body.Error, err)
			}
			if id := res.Header.Get("X-Request-Id"); len(id) != 16 {
				t.Errorf("%s: request id %q", c.name, id)
			}
		}
		_, res, _ := r.open("/api/v1/stream", http.Header{"X-Request-Id": {"mine"}})
		if res == nil || res.Header.Get("X-Request-Id") != "mine" {
			t.Errorf("the client's request id is not answered: %v", res)
		}
	})
}

// The answer repeats no key where that is switched off.
func TestTheKeyIsNotEchoed(t *testing.T) {
	virtually(t, having("CORDUM_WS_ECHO_KEY", "off"), func(t *testing.T, r *rig) {
		key := base64.RawURLEncoding.EncodeToString([]byte("k-admin"))
		for _, c := range []struct {
			offers []string
			echo   string
		}{
			{[]string{"cordum-api-key." + key}, ""},
			{[]string{"cordum-api-key", key}, "cordum-api-key"},
			{[]string{"cordum-api-key." + key, "cordum-api-key", key}, "cordum-api-key"},
		} {
			r.echoes(fmt.Sprintf("%q", c.offers), c.echo, "/api/v1/stream?tenant_id=default", nil, c.offers...)
		}
	})
}

// What is no handshake on the path of a stream is refused as on every other path: origin first, then the credential, in the one shape.
func TestWhatIsNoHandshake(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		shake := []string{"Connection", "keep-alive, Upgrade", "Upgrade", "WebSocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="}
		but := func(name, value string) []string { return append(slices.Clone(shake), name, value) }
		for _, path := range []string{"/api/v1/stream", "/api/v1/jobs/nobody/stream"} {
			for name, c := range map[string]struct {
				method  string
				headers []string
				status  int
				text    string
			}{
				"plain":   {"GET", nil, 400, "this is a WebSocket: upgrade to it"},
				"version": {"GET", but("Sec-WebSocket-Version", "8"), 400, "this is a WebSocket: upgrade to it"},
				"key":     {"GET", but("Sec-WebSocket-Key", "short"), 400, "this is a WebSocket: upgrade to it"},
				"no key":  {"GET", shake[:6], 400, "this is a WebSocket: upgrade to it"},
				"upgrade": {"GET", but("Connection", "close"), 400, "this is a WebSocket: upgrade to it"},
				"method":  {"POST", shake, 405, "method not allowed"},
			} {
				r.step(name+" "+path, func() {
					a := r.as("k-admin", c.method, path, nil, c.headers...)
					a.refused(c.status, c.text)
					if id := a.Header.Get("X-Request-Id"); len(id) != 16 || a.Header.Get("Sec-WebSocket-Version") != "13" {
						t.Errorf("headers %v", a.Header)
					}
					r.as("", c.method, path, nil, c.headers...).refused(401, "unauthorized")
					r.as("", c.method, path, nil, append(slices.Clone(c.headers), "Origin", "https://evil.example")...).refused(403, "origin not allowed")
				})
			}
		}
	})
}

func TestStreamsOfTenantsAndJobs(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		mine := r.submit("topic", "job.test.ask")
		all, other, cross := r.watch("k-admin", "/api/v1/stream"), r.watch("k-other", "/api/v1/stream"), r.watch("k-cross", "/api/v1/stream")
		one := r.watch("k-viewer", "/api/v1/jobs/"+mine.JobID+"/stream")
		theirs := r.submitAs("k-other", "topic", "job.test.ask")
		second := r.submit("topic", "job.test.ask")
		r.post("/api/v1/jobs/"+mine.JobID+"/cancel", nil).ok(200)
		ends := []string{"jobRequest " + mine.JobID, "jobResult " + mine.JobID + " CANCELLED by api-gateway", "jobCancel " + mine.JobID}
		want(t, "one job", one.said(), ends...)
		want(t, "another tenant", other.said(), "jobRequest "+theirs.JobID)
		if got := all.said(); len(got) != 3 || strings.Contains(fmt.Sprint(got), theirs.JobID) || !strings.Contains(fmt.Sprint(got), second.JobID) {
			t.Errorf("a tenant's administrator got %v", got)
		}
		if got := cross.said(); len(got) != 4 {
			t.Errorf("a cross-tenant administrator got %v", got)
		}
	})
}

func TestHeartbeatsOnTheStream(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		mine, other := r.watch("k-admin", "/api/v1/stream"), r.watch("k-other", "/api/v1/stream")
		r.connect("k-worker-default", "w-mine", "main", 1)
		r.connect("k-worker-other", "w-theirs", "main", 1)
		time.Sleep(11 * time.Second)
		for name, w := range map[string]*watcher{"w-mine": mine, "w-theirs": other} {
			n := 0
			for len(w.frames) > 0 {
				m := <-w.frames
				if b, ok := m["heartbeat"].(map[string]any); !ok || b["workerId"] != name {
					t.Errorf("stream of %s: %v", name, m)
				}
				n++
			}
			if n < 2 {
				t.Errorf("%d heartbeats of %s", n, name)
			}
		}
	})
}

func TestConnectionsComeAndGo(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.watch("k-admin", "/api/v1/stream")
		time.Sleep(6 * time.Minute)
		quiet := 0
		for len(w.frames) > 0 {
			if m := <-w.frames; len(m) == 0 {
				quiet++
			}
		}
		if quiet == 0 {
			t.Error("no sign of life in six minutes")
		}
		listening := func() bool { return r.plane.Dispatcher.Events.Listened(t.Context(), "default") }
		if !listening() {
			t.Error("it is not known that somebody listens")
		}
		_ = w.conn.Close(websocket.StatusNormalClosure, "")
		time.Sleep(event.Linger / 2)
		r.submit()
		if !listening() {
			t.Error("who comes back at once will have missed something")
		}
		time.Sleep(event.Linger)
		r.submit()
		time.Sleep(time.Minute)
		if listening() {
			t.Error("nobody listens, and events are still made")
		}
		again := r.watch("k-admin", "/api/v1/stream")
		rc := r.submit()
		want(t, "a new connection", again.said(), "jobRequest "+rc.JobID)
		time.Sleep(3 * time.Hour)
		if code := <-again.closed; code != websocket.StatusGoingAway {
			t.Errorf("closed with %d after two hours", code)
		}
		if listening() {
			t.Error("a connection outlives its two hours")
		}
	})
}

func TestASlowClientIsCutOff(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		conn, _, err := r.open("/api/v1/stream", http.Header{"X-Api-Key": {"k-admin"}, "X-Tenant-Id": {"default"}})
		if err != nil {
			t.Fatal(err)
		}
		good := r.watch("k-admin", "/api/v1/stream")
		var ids []string
		label := map[string]string{"pad": strings.Repeat("x", 4000)}
		for range 800 {
			ids = append(ids, r.submit("topic", "job.test.ask", "labels", label).JobID)
		}
		if got := good.said(); len(got) != len(ids) {
			t.Errorf("the client that reads got %d of %d frames", len(got), len(ids))
		}
		slow := r.listen(conn)
		select {
		case code := <-slow.closed:
			if code != websocket.StatusTryAgainLater && code != -1 {
				t.Errorf("closed with %d", code)
			}
		case <-time.After(time.Minute):
			t.Error("a client that never reads is still connected")
		}
	})
}

func TestAClientThatReadsKeepsItsStream(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		conn, _, err := r.open("/api/v1/stream", http.Header{"X-Api-Key": {"k-admin"}, "X-Tenant-Id": {"default"}})
		if err != nil {
			t.Fatal(err)
		}
		missing := map[string]bool{}
		for range 1500 { // more than its connection holds, in a burst that it is not ready for
			missing["jobRequest "+r.submit("topic", "job.test.ask", "labels", map[string]string{"pad": strings.Repeat("x", 400)}).JobID] = true
		}
		time.Sleep(3 * time.Second)
		for _, line := range r.listen(conn).said() {
			delete(missing, line)
		}
		if len(missing) > 0 {
			t.Errorf("a client that was busy for a while lost %d frames", len(missing))
		}
	})
}

func TestAStreamEndsWithThePlane(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.watch("k-admin", "/api/v1/stream")
		if err := r.plane.Close(); err != nil {
			t.Fatal(err)
		}
		if code := <-w.closed; code != websocket.StatusGoingAway {
			t.Errorf("closed with %d", code)
		}
	})
}

func TestT151_TracesOfChildren(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.watch("k-admin", "/api/v1/stream")
		parent := r.submit("topic", "job.test.ask")
		child := r.submit("topic", "job.test.wipe", "parent_job_id", parent.JobID)
		if child.TraceID != parent.TraceID {
			t.Errorf("the child's trace is %s, its parent's %s", child.TraceID, parent.TraceID)
		}
		if j := r.job(child.JobID); j["parent_job_id"] != parent.JobID || j["trace_id"] != parent.TraceID {
			t.Errorf("child %v", j)
		}
		r.post("/api/v1/jobs/"+parent.JobID+"/cancel", nil).ok(200)
		time.Sleep(2 * time.Second)
		n := 0
		for len(w.frames) > 0 {
			if m := <-w.frames; m["traceId"] != parent.TraceID {
				t.Errorf("frame without the trace: %v", m)
			}
			n++
		}
		if n != 5 { // two requests, the child's dead letter, the parent's result and cancel
			t.Errorf("%d frames", n)
		}
		r.as("k-admin", "POST", "/api/v1/jobs", body("parent_job_id", "nobody")).refused(404, "parent job not found")
		r.as("k-other", "POST", "/api/v1/jobs", body("parent_job_id", parent.JobID)).refused(404, "parent job not found")
		r.as("k-admin", "POST", "/api/v1/jobs", body("parent_job_id", parent.JobID)).refused(409, "parent job was cancelled")
	})
}

func TestAClientHearsFromItsFirstMomentOn(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		for range 20 {
			w := r.watch("k-admin", "/api/v1/stream")
			id := r.submit().JobID
			time.Sleep(time.Second)
			want(t, "at once", w.said(), "jobRequest "+id)
			_ = w.conn.CloseNow()
			time.Sleep(3 * time.Second)
		}
	})
}
