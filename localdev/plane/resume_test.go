package plane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/event"
	"github.com/cordum-serverless/cordum/shared/platform/push"
)

// Streams that go on where they ended: issue 9, and api.md 3.5 where clients reconnect by themselves.

// told is a frame as a client that resumes reads it.
type told struct {
	id   int64
	text string // "jobRequest <id>", "stream gap", "chatMessage", "workflowEvent"
}

// hear reads what has come until now, heartbeats and signs of life aside.
func (w *watcher) hear() []told {
	w.t.Helper()
	time.Sleep(2 * time.Second)
	synctest.Wait()
	var out []told
	for len(w.frames) > 0 {
		if f, ok := parseTold(<-w.frames); ok {
			out = append(out, f)
		}
	}
	return out
}

func parseTold(m map[string]any) (told, bool) {
	var f told
	if text, ok := m["eventId"].(string); ok {
		f.id, _ = strconv.ParseInt(text, 10, 64)
	}
	for _, name := range []string{"jobRequest", "jobProgress", "jobResult", "jobCancel"} {
		if body, ok := m[name].(map[string]any); ok {
			f.text = fmt.Sprint(name, " ", body["jobId"])
			return f, true
		}
	}
	if s, ok := m["stream"].(map[string]any); ok {
		f.text = fmt.Sprint("stream ", s["state"])
		return f, true
	}
	for _, name := range []string{"chatMessage", "workflowEvent", "alert"} {
		if m[name] != nil {
			f.text = name
			return f, true
		}
	}
	return f, false
}

func texts(all []told) []string {
	out := make([]string, len(all))
	for i, f := range all {
		out[i] = f.text
	}
	return out
}

func lastID(all []told) string {
	var last int64
	for _, f := range all {
		last = max(last, f.id)
	}
	return strconv.FormatInt(last, 10)
}

// grows checks that ids grow, and that no frame about something is without.
func grows(t *testing.T, all []told) {
	t.Helper()
	for i, f := range all {
		if f.id == 0 || i > 0 && f.id < all[i-1].id {
			t.Errorf("ids do not grow: %v", all)
			return
		}
	}
}

func TestAClientThatComesBackMissesNothing(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.watch("k-admin", "/api/v1/stream?since=now")
		if first := w.hear(); fmt.Sprint(texts(first)) != "[stream live]" || first[0].id == 0 {
			t.Fatalf("a client that asked is told %v", first)
		}
		before := r.submit("topic", "job.test.ask")
		seen := w.hear()
		want(t, "while it listens", texts(seen), "jobRequest "+before.JobID)
		_ = w.conn.Close(websocket.StatusNormalClosure, "")
		var missed []string
		for range 120 { // more than a page of the log
			rc := r.submit("topic", "job.test.ask")
			missed = append(missed, "jobRequest "+rc.JobID)
			time.Sleep(100 * time.Millisecond)
		}
		for _, parameter := range []string{"since", "last_event_id"} {
			back := r.watch("k-admin", "/api/v1/stream?"+parameter+"="+lastID(seen))
			after := r.submit("topic", "job.test.ask")
			missed = append(missed, "jobRequest "+after.JobID)
			all := dedupe(back.hear())
			grows(t, all)
			got := slices.DeleteFunc(texts(all), func(s string) bool { return s == "stream live" })
			want(t, parameter, got, missed...)
			_ = back.conn.CloseNow()
			time.Sleep(time.Second)
		}
		again := r.watch("k-admin", "/api/v1/stream?since=now")
		seen = again.hear()
		want(t, "from now on", texts(seen), "stream live")
		_ = again.conn.CloseNow()
		time.Sleep(time.Second)
		nothing := r.watch("k-admin", "/api/v1/stream?since="+lastID(seen))
		want(t, "nothing was missed", texts(nothing.hear()), "stream live")
	})
}

// A client that is away for longer than the log is written is told that it has missed something.
func TestAClientThatWasAwayForLongIsTold(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.watch("k-admin", "/api/v1/stream")
		r.submit("topic", "job.test.ask")
		seen := w.hear()
		_ = w.conn.CloseNow()
		time.Sleep(event.Linger + time.Minute)
		r.submit("topic", "job.test.ask")
		time.Sleep(2 * time.Second)
		back := r.watch("k-admin", "/api/v1/stream?since="+lastID(seen))
		live := r.submit("topic", "job.test.ask")
		all := back.hear()
		want(t, "after a gap", slices.DeleteFunc(texts(all), func(s string) bool { return s == "stream live" }), "stream gap", "jobRequest "+live.JobID)
		if all[len(all)-1].id <= seen[0].id {
			t.Errorf("ids begin anew: %v after %v", all, seen)
		}
		for _, since := range []string{"1", "9007199254740991"} { // older than everything, and newer
			w := r.watch("k-admin", "/api/v1/stream?since="+since)
			if got := texts(w.hear()); len(got) == 0 || got[0] != "stream gap" {
				t.Errorf("since %s: %v", since, got)
			}
		}
		// one that listens all the time, while the log forgets
		stays := r.watch("k-admin", "/api/v1/stream")
		r.submit("topic", "job.test.ask")
		seen = stays.hear()
		r.submit("topic", "job.test.ask")
		time.Sleep(event.LogKeep + time.Minute)
		late := r.watch("k-admin", "/api/v1/stream?since="+lastID(seen))
		want(t, "after an hour", texts(late.hear()), "stream gap", "stream live")
	})
}

func TestSinceWhatIsNoEvent(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		for _, since := range []string{"x", "-5", "1.5", "99999999999999999999"} {
			_, res, err := r.open("/api/v1/stream?since="+since, http.Header{"X-Api-Key": {"k-admin"}, "X-Tenant-Id": {"default"}})
			if err == nil || res == nil || res.StatusCode != 400 {
				t.Errorf("since %s: %v %v", since, res, err)
			}
		}
	})
}

// Who listens to a job late hears all of it, and the next one hears the same.
func TestAJobIsToldFromItsBeginning(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		step := make(chan bool)
		r.work(map[string]worker.Handler{"job.test.*": func(_ context.Context, j *worker.Job) (any, error) {
			for i := range 4 {
				j.Progress(20*i+20, fmt.Sprint("step ", i))
				<-step
			}
			return nil, nil
		}})
		rc := r.submit()
		r.await(rc.JobID, "RUNNING")
		step <- true
		path := "/api/v1/jobs/" + rc.JobID + "/stream"
		time.Sleep(time.Second)
		one := r.watch("k-viewer", path)
		first := one.hear()
		want(t, "until now", texts(first), "jobRequest "+rc.JobID, "jobProgress "+rc.JobID)
		step <- true
		first = append(first, one.hear()...)
		_ = one.conn.CloseNow()
		step <- true
		time.Sleep(3 * time.Second)
		back := r.watch("k-viewer", path+"?since="+lastID(first))
		step <- true
		r.await(rc.JobID, "SUCCEEDED")
		rest := back.hear()
		want(t, "what was missed", slices.DeleteFunc(texts(rest), func(s string) bool { return s == "stream live" }), "jobProgress "+rc.JobID, "jobResult "+rc.JobID)
		whole := slices.DeleteFunc(append(first, rest...), func(f told) bool { return strings.HasPrefix(f.text, "stream") })
		grows(t, whole)
		if len(whole) != 5 { // request, three times progress, since the first was over when somebody began to listen, and result
			t.Errorf("of the job %v", whole)
		}
		late := r.watch("k-viewer", path)
		if all := late.hear(); fmt.Sprint(all) != fmt.Sprint(whole) {
			t.Errorf("who comes late hears %v, not %v", all, whole)
		}
		time.Sleep(event.Linger + event.LogKeep)
		_ = late.conn.CloseNow()
		_ = back.conn.CloseNow()
		time.Sleep(event.Linger + time.Minute)
		much := r.watch("k-viewer", path+"?since="+lastID(whole))
		want(t, "much later", texts(much.hear()), "stream gap", "jobRequest "+rc.JobID, "jobProgress "+rc.JobID, "jobResult "+rc.JobID, "stream live")
		for _, end := range []struct {
			topic string
			kinds []string
		}{
			{"job.test.wipe", []string{"jobRequest", "jobResult"}},
			{"job.test.ask", []string{"jobRequest", "jobResult", "jobCancel"}},
		} {
			rc := r.submit("topic", end.topic)
			if end.topic == "job.test.ask" {
				r.post("/api/v1/jobs/"+rc.JobID+"/cancel", nil).ok(200)
			}
			var lines []string
			for _, k := range end.kinds {
				lines = append(lines, k+" "+rc.JobID)
			}
			want(t, end.topic, texts(r.watch("k-viewer", "/api/v1/jobs/"+rc.JobID+"/stream").hear()), lines...)
		}
	})
}

// Of clients that come and go while jobs are worked on, none misses anything: what one heard over all its connections is all, each event once by its id,
// in the order of its job.
func TestClientsThatComeAndGoUnderLoad(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.work(map[string]worker.Handler{"job.test.*": func(_ context.Context, j *worker.Job) (any, error) {
			j.Progress(50, "half way")
			time.Sleep(30 * time.Millisecond)
			return nil, nil
		}}, func(c *worker.Config) { c.MaxParallel = 16 })
		stays := r.watch("k-admin", "/api/v1/stream?since=now")
		const clients = 5
		var over atomic.Bool
		heard := make([][]told, clients)
		var listening sync.WaitGroup
		for i := range clients {
			since := lastID(r.watch("k-admin", "/api/v1/stream?since=now").hear())
			listening.Go(func() {
				for round := 0; ; round++ {
					last := over.Load()
					conn, _, err := r.open("/api/v1/stream?since="+since, http.Header{"X-Api-Key": {"k-admin"}, "X-Tenant-Id": {"default"}})
					if err != nil {
						t.Error(err)
						return
					}
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(200+170*i+90*(round%5))*time.Millisecond)
					if last {
						ctx, cancel = context.WithTimeout(context.Background(), 20*time.Second)
					}
					for {
						_, data, err := conn.Read(ctx)
						if err != nil {
							break
						}
						var m map[string]any
						if json.Unmarshal(data, &m) != nil {
							t.Errorf("frame %s", data)
						}
						if f, ok := parseTold(m); ok {
							heard[i] = append(heard[i], f)
						}
					}
					cancel()
					_ = conn.CloseNow()
					if since = lastID(append(heard[i], told{id: mustInt(since)})); last {
						return
					}
					time.Sleep(time.Duration(30*i) * time.Millisecond)
				}
			})
		}
		var submitting sync.WaitGroup
		for range 4 {
			submitting.Go(func() {
				for range 60 {
					r.submit()
					time.Sleep(20 * time.Millisecond)
				}
			})
		}
		submitting.Wait()
		time.Sleep(5 * time.Second)
		over.Store(true)
		listening.Wait()
		all := map[int64]string{}
		for _, f := range stays.hear() {
			if !strings.HasPrefix(f.text, "stream") {
				all[f.id] = f.text
			}
		}
		if len(all) != 3*240 {
			t.Fatalf("who stayed heard %d events", len(all))
		}
		for i, mine := range heard {
			got, order, repeats := map[int64]string{}, map[string]int64{}, 0
			for _, f := range mine {
				if strings.HasPrefix(f.text, "stream") {
					if f.text != "stream live" {
						t.Errorf("client %d: %v", i, f)
					}
					continue
				}
				if got[f.id] != "" {
					repeats++
					continue
				}
				got[f.id] = f.text
				_, job, _ := strings.Cut(f.text, " ")
				if f.id < order[job] {
					t.Errorf("client %d: events of job %s are out of order", i, job)
				}
				order[job] = f.id
			}
			if !maps.Equal(got, all) {
				t.Errorf("client %d heard %d of %d events", i, len(got), len(all))
			}
			t.Logf("client %d: %d events, %d of them again", i, len(got), repeats)
		}
	})
}

func mustInt(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// Chats and runs are on the stream of their tenant, and can be read again like what is about jobs.
func TestRunsAndChatsAreResumedToo(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.watch("k-admin", "/api/v1/stream?since=now")
		seen := w.hear()
		_ = w.conn.CloseNow()
		id := r.gated(nil)
		r.said(id, "hello")
		r.as("k-other", "POST", "/api/v1/jobs", body("topic", "job.test.ask")).ok(200)
		all := r.watch("k-admin", "/api/v1/stream?since="+lastID(seen)).hear()
		grows(t, all)
		got := texts(all)
		if !slices.Contains(got, "workflowEvent") || !slices.Contains(got, "chatMessage") {
			t.Errorf("missed %v", got)
		}
		again := r.watch("k-admin", "/api/v1/stream?since="+lastID(seen)).hear()
		live := func(f told) bool { return f.text == "stream live" } // it may come before the last of them
		if fmt.Sprint(slices.DeleteFunc(again, live)) != fmt.Sprint(slices.DeleteFunc(all, live)) {
			t.Errorf("read again %v, first %v", again, all)
		}
		// a client of another tenant reads nothing of it, whatever it names
		for _, f := range r.watch("k-other", "/api/v1/stream?since="+lastID(seen)).hear() {
			if f.text == "workflowEvent" || f.text == "chatMessage" || strings.HasPrefix(f.text, "job") {
				t.Errorf("another tenant reads %v", f)
			}
		}
	})
}

// broken is a door to clients that fails as a test says.
type broken struct {
	push.Connections

	mu   sync.Mutex
	fail func(frame []byte) error
}

func (b *broken) Post(ctx context.Context, id string, frame []byte) error {
	b.mu.Lock()
	fail := b.fail
	b.mu.Unlock()
	if fail != nil {
		if err := fail(frame); err != nil {
			return err
		}
	}
	return b.Connections.Post(ctx, id, frame)
}

func (b *broken) set(fail func([]byte) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = fail
}

func brokenDoor() (*broken, func(dispatch.Platform) dispatch.Platform) {
	b := &broken{}
	return b, func(p dispatch.Platform) dispatch.Platform {
		b.Connections = p.Connections
		p.Connections = b
		return p
	}
}

// A client that cannot be reached for a while is caught up, in order; for longer, it is dropped and comes back.
func TestAClientThatCannotBeReachedIsCaughtUp(t *testing.T) {
	cfg := config()
	door, wrap := brokenDoor()
	cfg.Wrap = wrap
	virtually(t, cfg, func(t *testing.T, r *rig) {
		w := r.watch("k-admin", "/api/v1/stream")
		var lines []string
		submit := func(n int) {
			for range n {
				lines = append(lines, "jobRequest "+r.submit("topic", "job.test.ask").JobID)
				time.Sleep(50 * time.Millisecond)
			}
		}
		submit(3)
		door.set(func([]byte) error { return push.ErrUnavailable })
		submit(5)
		door.set(nil)
		submit(3)
		all := w.hear()
		once := dedupe(all)
		grows(t, once)
		want(t, "caught up", texts(once), lines...)
		door.set(func([]byte) error { return push.ErrUnavailable })
		lines = nil
		submit(1)
		time.Sleep(30 * time.Second)
		if code := <-w.closed; code != websocket.StatusTryAgainLater {
			t.Errorf("closed with %d", code)
		}
		door.set(nil)
		back := r.watch("k-admin", "/api/v1/stream?since="+lastID(all))
		want(t, "after it was dropped", texts(back.hear()), append(lines, "stream live")...)
	})
}

// dedupe leaves out what came again.
func dedupe(all []told) []told {
	seen := map[int64]bool{}
	return slices.DeleteFunc(slices.Clone(all), func(f told) bool {
		again := seen[f.id]
		seen[f.id] = true
		return again
	})
}

// A connection that hangs holds up no other.
func TestASlowConnectionHoldsUpNoOther(t *testing.T) {
	cfg := config()
	hangs := &hanging{}
	cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
		hangs.Connections = p.Connections
		p.Connections = hangs
		return p
	}
	virtually(t, cfg, func(t *testing.T, r *rig) {
		slow := r.watch("k-admin", "/api/v1/stream")
		r.submit("topic", "job.test.ask")
		seen := slow.hear()
		hangs.hang(true)
		good := r.watch("k-admin", "/api/v1/stream")
		for range 20 {
			rc := r.submit("topic", "job.test.ask")
			time.Sleep(time.Second)
			synctest.Wait()
			if len(good.frames) != 1 {
				t.Fatalf("%d frames of job %s reached the client that reads", len(good.frames), rc.JobID)
			}
			<-good.frames
		}
		hangs.hang(false)
		if code := <-slow.closed; code != websocket.StatusTryAgainLater {
			t.Errorf("the client that hung was closed with %d", code)
		}
		if got := r.watch("k-admin", "/api/v1/stream?since="+lastID(seen)).hear(); len(got) != 21 {
			t.Errorf("the client that hung and came back has %d of 20 events", len(got)-1)
		}
	})
}

// hanging hangs at the first connection that it has ever posted to.
type hanging struct {
	push.Connections

	mu    sync.Mutex
	first string
	hangs bool
}

func (h *hanging) hang(on bool) { h.mu.Lock(); h.hangs = on; h.mu.Unlock() }

func (h *hanging) Post(ctx context.Context, id string, frame []byte) error {
	h.mu.Lock()
	if h.first == "" {
		h.first = id
	}
	wait := h.hangs && id == h.first
	h.mu.Unlock()
	if wait {
		<-ctx.Done()
		return ctx.Err()
	}
	return h.Connections.Post(ctx, id, frame)
}

// A batch that fails half way comes again: those who had its events know them by their ids.
func TestABatchThatComesAgainHasItsIDs(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.watch("k-admin", "/api/v1/stream?since=now")
		w.hear()
		rc := r.submit("topic", "job.test.ask")
		first := w.hear()
		d := r.plane.Dispatcher
		e := event.Event{Tenant: "default", Group: "job:" + rc.JobID, Job: rc.JobID, Version: "9", Frames: []json.RawMessage{[]byte(`{"jobCancel":{"jobId":"x"}}`)}}
		for range 3 {
			if err := d.Streams.Deliver(t.Context(), []event.Event{e}); err != nil {
				t.Fatal(err)
			}
		}
		again := w.hear()
		if len(again) != 3 || again[0] != again[1] || again[1] != again[2] || again[0].id <= first[0].id {
			t.Errorf("frames %v", again)
		}
		late := e
		late.Version = "8"
		if err := d.Streams.Deliver(t.Context(), []event.Event{late}); err != nil {
			t.Fatal(err)
		}
		if got := w.hear(); len(got) != 0 {
			t.Errorf("what came too late was told: %v", got)
		}
		all := dedupe(r.watch("k-admin", "/api/v1/stream?since="+lastID(first)).hear())
		want(t, "read again", texts(all), "jobCancel x", "stream live")
	})
}

// What the story of a job has told is no news when it is announced afterwards, as it is when it was on its way while the client connected.
func TestWhatAStoryHasToldIsNoNews(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		step := make(chan bool)
		r.work(map[string]worker.Handler{"job.test.*": func(_ context.Context, j *worker.Job) (any, error) {
			j.Progress(40, "on my way")
			<-step
			return nil, nil
		}})
		rc := r.submit()
		r.await(rc.JobID, "RUNNING")
		time.Sleep(time.Second)
		one, all := r.watch("k-viewer", "/api/v1/jobs/"+rc.JobID+"/stream"), r.watch("k-admin", "/api/v1/stream")
		want(t, "the story", texts(one.hear()), "jobRequest "+rc.JobID, "jobProgress "+rc.JobID)
		d := r.plane.Dispatcher
		rec, err := d.Jobs.Load(t.Context(), "default", rc.JobID, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		e := event.Event{
			Tenant: "default", Group: "job:" + rc.JobID, Job: rc.JobID, Version: event.Version(rec, 0),
			Frames: []json.RawMessage{[]byte(`{"jobProgress":{"jobId":"` + rc.JobID + `"}}`)},
		}
		if err := d.Streams.Deliver(t.Context(), []event.Event{e}); err != nil {
			t.Fatal(err)
		}
		want(t, "who was told no story", texts(all.hear()), "jobProgress "+rc.JobID)
		want(t, "who knows", texts(one.hear()))
		step <- true
		r.await(rc.JobID, "SUCCEEDED")
		want(t, "the end", texts(one.hear()), "jobResult "+rc.JobID)
	})
}

// Who opens the stream of a job and is gone at once is forgotten, and holds up nobody; neither does who takes long to open.
func TestConnectionsThatOpenHoldUpNoOther(t *testing.T) {
	cfg := config()
	door, wrap := brokenDoor()
	cfg.Wrap = wrap
	log := &transcript{}
	cfg.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	virtually(t, cfg, func(t *testing.T, r *rig) {
		other := r.watch("k-other", "/api/v1/stream")
		of := r.submit("topic", "job.test.ask").JobID
		time.Sleep(time.Minute)
		opening := func(frame []byte) error { // the platform does not know the clients of this job
			if strings.Contains(string(frame), of) {
				return push.ErrGone
			}
			return nil
		}
		// prompt checks that another tenant has its events at once.
		prompt := func(most time.Duration) {
			t.Helper()
			for range 20 {
				began := time.Now()
				r.submitAs("k-other", "topic", "job.test.ask")
				<-other.frames
				if took := time.Since(began); took > most {
					t.Errorf("another tenant waited %v for its event", took)
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
		several := func(n int) (all []*watcher) {
			for range n {
				all = append(all, r.watch("k-viewer", "/api/v1/jobs/"+of+"/stream"))
			}
			return all
		}
		r.step("gone at once", func() {
			door.set(opening)
			for _, n := range []int{1, 10} { // the first waits until it is known that somebody listens
				all := several(n)
				synctest.Wait()
				for _, w := range all {
					_ = w.conn.CloseNow()
				}
			}
			prompt(100 * time.Millisecond)
		})
		r.step("slow to open", func() {
			slow := several(10)
			prompt(2 * event.CatchUpBeside)
			door.set(nil)
			for _, w := range slow {
				want(t, "its job from the beginning", texts(w.hear()), "jobRequest "+of)
			}
		})
		r.step("gone without a word", func() {
			door.set(opening)
			several(10)
			prompt(2 * event.CatchUpBeside)
			time.Sleep(20 * time.Second)
			prompt(10 * time.Millisecond)
		})
		if text := log.String(); text != "" {
			t.Errorf("the plane complains: %s", text)
		}
	})
}
