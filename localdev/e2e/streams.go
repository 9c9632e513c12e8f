package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// streamCases are about live streams.
var streamCases = []testCase{
	{"a browser shakes hands with a subprotocol", 0, func(s *story) {
		key := base64.RawURLEncoding.EncodeToString([]byte(s.target.AdminKey))
		for _, offered := range [][]string{{"cordum-api-key", key}, {"cordum-api-key." + key}} {
			conn, res, err := s.shake("/stream?tenant_id="+s.target.Tenant, nil, offered...)
			if err != nil {
				s.Errorf("%d tokens: %v", len(offered), err)
				continue
			}
			if got := res.Header.Get("Sec-WebSocket-Protocol"); got != offered[0] {
				s.Errorf("%d tokens: the answer names %q", len(offered), got)
			}
			_ = conn.CloseNow()
		}
	}},
	{"a stream is for who may see it", 0, func(s *story) {
		id := s.submit("topic", TopicAsked).JobID
		for _, c := range []struct {
			path   string
			header http.Header
			status int
			text   string
		}{
			{"/stream", http.Header{"X-Tenant-Id": {s.target.Tenant}}, http.StatusUnauthorized, "unauthorized"},
			{"/stream", http.Header{"X-Api-Key": {s.target.AdminKey}}, http.StatusForbidden, "tenant id required"},
			{"/stream", http.Header{"X-Api-Key": {s.target.AdminKey}, "X-Tenant-Id": {"somebody-else"}}, http.StatusForbidden, "tenant access denied"},
			{"/jobs/" + s.fresh() + "/stream", s.admin(), http.StatusNotFound, "job not found"},
			{"/jobs/" + id + "/stream", http.Header{"X-Tenant-Id": {s.target.Tenant}}, http.StatusUnauthorized, "unauthorized"},
		} {
			s.turnedAway(c.path, c.header, c.status, c.text)
		}
		if a := s.get("/stream"); a.Status != http.StatusBadRequest {
			s.Errorf("without an upgrade: %s", a)
		}
	}},
	{"a stream tells the life of a job in order", needStream, func(s *story) {
		all := s.watch("/stream", s.admin())
		rc := s.submit("topic", TopicPlaced, "labels", s.here())
		one := s.watchJob(rc.JobID)
		all.tells(rc.JobID, "jobRequest")
		p := s.puppet(s.fresh())
		p.takes(rc.JobID, "1")
		p.progress(rc.JobID, 40)
		for _, w := range []*watcher{all, one} {
			if f := w.tells(rc.JobID, "jobProgress"); f.Percent != 40 || f.Message != onMyWay || f.TraceID != rc.TraceID {
				s.Errorf("progress %+v", f)
			}
		}
		p.result(rc.JobID, succeeded)
		for _, w := range []*watcher{all, one} {
			if f := w.tells(rc.JobID, "jobResult"); f.Status != "JOB_STATUS_SUCCEEDED" || f.WorkerID != p.id || f.TraceID != rc.TraceID {
				s.Errorf("result %+v", f)
			}
		}
		if one.strangers > 0 {
			s.Errorf("the stream of one job told %d things of others", one.strangers)
		}
	}},
	{"a stream tells of a worker that reads the queue", needPolling, func(s *story) {
		all := s.watch("/stream", s.admin())
		rc := s.submit("topic", TopicPolled, "context", Task{MS: 1500})
		all.tells(rc.JobID, "jobRequest")
		all.tells(rc.JobID, "jobProgress")
		if f := all.tells(rc.JobID, "jobResult"); f.Status != "JOB_STATUS_SUCCEEDED" || f.WorkerID == "" {
			s.Errorf("result %+v", f)
		}
	}},
	{"a stream tells that a worker lives", needWorkerKey, func(s *story) {
		all := s.watch("/stream", s.admin())
		id := s.fresh()
		says := func(leaving bool) {
			beat := map[string]any{"workerId": id, "pool": PoolPolled, "maxParallelJobs": 1, "labels": map[string]string{"tenant": s.target.Tenant}}
			a := s.call(call{
				method: http.MethodPost, path: "/api/v1/worker/heartbeat", key: s.target.WorkerKey, body: s.text(map[string]any{"heartbeat": beat, "leaving": leaving}),
			})
			if a.Status != http.StatusOK {
				s.Fatal(a)
			}
		}
		says(false)
		all.tells(id, "heartbeat")
		s.known(id, true)
		says(true)
		s.known(id, false)
	}},
	{"a stream tells of cancels, deadlines and dead letters", 0, func(s *story) {
		all := s.watch("/stream", s.admin())
		denied := s.submit("topic", TopicDenied)
		all.tells(denied.JobID, "jobRequest")
		if f := all.tells(denied.JobID, "jobResult"); f.Status != "JOB_STATUS_DENIED" {
			s.Errorf("denied: %+v", f)
		}
		waiting := s.submit("topic", TopicAsked)
		one := s.watchJob(waiting.JobID)
		all.tells(waiting.JobID, "jobRequest")
		s.cancels(waiting.JobID)
		for _, w := range []*watcher{all, one} {
			if f := w.tells(waiting.JobID, "jobResult"); f.Status != "JOB_STATUS_CANCELLED" {
				s.Errorf("cancelled: %+v", f)
			}
			w.tells(waiting.JobID, "jobCancel")
		}
		late := s.submit("topic", TopicAsked, "deadline_ms", 1000)
		all.tells(late.JobID, "jobRequest")
		if f := all.tells(late.JobID, "jobResult"); f.Status != "JOB_STATUS_TIMEOUT" {
			s.Errorf("late: %+v", f)
		}
		again := s.receipt(s.post("/dlq/"+denied.JobID+"/retry", nil))
		all.tells(again.JobID, "jobRequest")
		all.tells(again.JobID, "jobResult")
	}},
	{"a client that comes back has missed nothing", 0, func(s *story) {
		first := s.watch("/stream?since=now", s.admin())
		first.state("live")
		seen := s.submit("topic", TopicDenied)
		first.tells(seen.JobID, "jobRequest")
		last := first.tells(seen.JobID, "jobResult")
		_ = first.conn.Close(websocket.StatusNormalClosure, "")
		missed := s.submit("topic", TopicAsked)
		s.cancels(missed.JobID)
		back := s.watch("/stream?since="+last.EventID, s.admin())
		back.tells(missed.JobID, "jobRequest")
		back.tells(missed.JobID, "jobResult")
		f := back.tells(missed.JobID, "jobCancel")
		if f.EventID <= last.EventID {
			s.Errorf("event %s comes after %s", f.EventID, last.EventID)
		}
		live := s.submit("topic", TopicDenied)
		back.tells(live.JobID, "jobRequest")
		job := s.watch("/jobs/"+missed.JobID+"/stream", s.admin()) // from its beginning, though it is over
		for _, kind := range []string{"jobRequest", "jobResult", "jobCancel"} {
			job.tells(missed.JobID, kind)
		}
		old := s.watch("/stream?since=1", s.admin())
		old.state("gap")
		s.turnedAway("/stream?since=yesterday", s.admin(), http.StatusBadRequest, "since is not the id of an event")
	}},
	{"a stream tells one tenant nothing of another", needOther, func(s *story) {
		own := s.watch("/stream", s.admin())
		other := s.watch("/stream", http.Header{"X-Api-Key": {s.target.OtherKey}, "X-Tenant-Id": {s.target.OtherTenant}})
		mine := s.submit("topic", TopicDenied)
		own.tells(mine.JobID, "jobRequest")
		own.tells(mine.JobID, "jobResult")
		theirs := s.theirs(TopicDenied)
		other.tells(theirs, "jobRequest") // what was told of the other job would have come before
		other.tells(theirs, "jobResult")
		if other.saw(mine.JobID) || own.saw(theirs) {
			s.Error("a stream told of another tenant's job")
		}
	}},
}

func (s *story) admin() http.Header {
	return http.Header{"X-Api-Key": {s.target.AdminKey}, "X-Tenant-Id": {s.target.Tenant}}
}

// shake tries a handshake.
func (s *story) shake(path string, header http.Header, protocols ...string) (*websocket.Conn, *http.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.patience())
	defer cancel()
	return websocket.Dial(ctx, "ws"+strings.TrimPrefix(s.target.URL, "http")+"/api/v1"+path, &websocket.DialOptions{
		HTTPHeader: header, Subprotocols: protocols, HTTPClient: s.http,
	})
}

// turnedAway checks a handshake that must fail, and how.
func (s *story) turnedAway(path string, header http.Header, status int, text string) {
	s.Helper()
	conn, res, err := s.shake(path, header)
	if err == nil {
		_ = conn.CloseNow()
		s.Errorf("%s was let in", path)
		return
	}
	if res == nil {
		s.Errorf("%s: %v", path, err)
		return
	}
	var body struct{ Error string }
	if err := json.NewDecoder(res.Body).Decode(&body); err != nil || res.StatusCode != status || body.Error != text {
		s.Errorf("%s: %d %q, want %d %q", path, res.StatusCode, body.Error, status, text)
	}
}

// frame is what cases look at of a frame.
type frame struct {
	kind     string
	of       string // the job, the worker of a heartbeat, or the code of an alert
	TraceID  string `json:"-"`
	JobID    string `json:"jobId"`
	Status   string `json:"status"`
	WorkerID string `json:"workerId"`
	Percent  int    `json:"percent"`
	Message  string `json:"message"`
	Code     string `json:"code"`
	State    string `json:"state"`
	EventID  string `json:"-"`
}

// watcher is a client's stream.
type watcher struct {
	s         *story
	conn      *websocket.Conn
	frames    chan frame
	end       chan error
	states    chan string     // what the stream says of itself
	told      map[string]bool // the jobs and workers that were heard of
	strangers int             // frames about other jobs than those asked for
	late      bool            // it was opened after the submit, whose frame may have been on its way
}

// watchJob opens the stream of one job.
func (s *story) watchJob(id string) *watcher {
	s.Helper()
	w := s.watch("/jobs/"+id+"/stream", s.admin())
	w.late = true
	return w
}

// watch opens a stream. It hears everything from the moment of the handshake on.
func (s *story) watch(path string, header http.Header) *watcher {
	s.Helper()
	conn, _, err := s.shake(path, header)
	if err != nil {
		s.Fatalf("%s: %v", path, err)
	}
	conn.SetReadLimit(1 << 20)
	s.Cleanup(func() { _ = conn.CloseNow() }) // the case is over
	w := &watcher{s: s, conn: conn, states: make(chan string, 100), frames: make(chan frame, 10_000), end: make(chan error, 1), told: map[string]bool{}}
	go func() {
		for {
			_, text, err := conn.Read(context.Background())
			if err != nil {
				w.end <- err
				return
			}
			f, err := parseFrame(text)
			if err != nil {
				w.end <- fmt.Errorf("frame %s: %w", text, err)
				return
			}
			switch {
			case f.kind == "stream":
				w.states <- f.State
			case f.of != "":
				w.frames <- f
			}
		}
	}()
	return w
}

// listen opens the stream of everything with a session of the tenant.
func (s *story) listen(token string) *watcher {
	s.Helper()
	return s.watch("/stream?tenant_id="+url.QueryEscape(s.target.Tenant), http.Header{"X-Api-Key": {token}})
}

// closes waits until the plane closes the stream.
func (w *watcher) closes() {
	w.s.Helper()
	select {
	case err := <-w.end:
		w.s.Logf("closed: %v", err)
	case <-time.After(w.s.patience()):
		w.s.Error("the stream is still open")
	}
}

func parseFrame(text []byte) (f frame, err error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(text, &m); err != nil {
		return f, err
	}
	if id := m["eventId"]; id != nil {
		if err := json.Unmarshal(id, &f.EventID); err != nil {
			return f, err
		}
	}
	for _, kind := range []string{"jobRequest", "jobProgress", "jobResult", "jobCancel", "heartbeat", "alert", "stream"} {
		if m[kind] == nil {
			continue
		}
		f.kind = kind
		if err := json.Unmarshal(m[kind], &f); err != nil {
			return f, err
		}
		f.of = or(or(f.JobID, f.WorkerID), f.Code)
		if kind == "heartbeat" || kind == "alert" || kind == "stream" {
			return f, nil
		}
		return f, json.Unmarshal(m["traceId"], &f.TraceID)
	}
	return f, nil
}

// tells waits for what the stream says next of a job, or of a worker, and fails the case when it is of another kind.
func (w *watcher) tells(of, kind string) frame {
	w.s.Helper()
	late := time.After(w.s.patience())
	for {
		select {
		case f := <-w.frames:
			w.told[f.of] = true
			if f.of != of {
				w.strangers++
				continue
			}
			if w.late && f.kind == "jobRequest" {
				continue
			}
			if f.kind != kind {
				w.s.Fatalf("the stream tells %+v of %s, not a %s", f, of, kind)
			}
			return f
		case err := <-w.end:
			w.s.Fatalf("the stream ended: %v", err)
		case <-late:
			w.s.Fatalf("the stream tells no %s of %s", kind, of)
		}
	}
}

// state waits until the stream says that of itself.
func (w *watcher) state(want string) {
	w.s.Helper()
	select {
	case got := <-w.states:
		if got != want {
			w.s.Fatalf("the stream says %s, not %s", got, want)
		}
	case err := <-w.end:
		w.s.Fatalf("the stream ended: %v", err)
	case <-time.After(w.s.patience()):
		w.s.Fatalf("the stream does not say %s", want)
	}
}

func (w *watcher) saw(job string) bool { return w.told[job] }
