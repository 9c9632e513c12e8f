package plane_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"google.golang.org/grpc"

	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/sdk/worker/lambdaworker"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
)

// The three ways in which the SDK brings jobs to handlers, under one suite: whatever the transport, a handler sees and causes the same.

// line is what a worker reaches the plane by, of every kind: streams, routes, queues. A test may cut it and mend it.
type line struct {
	*rig

	cut atomic.Bool

	mu    sync.Mutex
	conns []net.Conn
}

var errCut = errors.New("the line is cut")

func (l *line) sever() {
	l.cut.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close() // it may be closed
	}
	l.conns = nil
}

func (l *line) mend() { l.cut.Store(false) }

func (l *line) stream(ctx context.Context, to string) (net.Conn, error) {
	if l.cut.Load() {
		return nil, errCut
	}
	c, err := l.rig.dial(ctx, to)
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns, c)
		l.mu.Unlock()
	}
	return c, err
}

// RoundTrip calls a route. It fails as well when the line is cut before the answer is there.
func (l *line) RoundTrip(req *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	if !l.cut.Load() {
		l.plane.HTTP.ServeHTTP(rec, req)
	}
	if l.cut.Load() {
		return nil, errCut
	}
	return rec.Result(), nil
}

// poolQueue and inboxQueue are the plane's queues as the SDK wants them.
type (
	poolQueue struct {
		*line
		name string
	}
	inboxQueue struct{ *line }
)

func (q poolQueue) Receive(ctx context.Context, most int, hidden time.Duration) ([]worker.Message, error) {
	if q.cut.Load() {
		return nil, errCut
	}
	msgs, err := q.plane.Dispatcher.Queues.Receive(ctx, q.name, most, 20*time.Second, hidden)
	var out []worker.Message
	for _, m := range msgs {
		out = append(out, worker.Message{ID: m.ID, Body: m.Body, Receipt: m.Receipt})
	}
	return out, err
}

func (q poolQueue) Delete(ctx context.Context, ms ...worker.Message) error {
	if q.cut.Load() {
		return errCut
	}
	var receipts []string
	for _, m := range ms {
		receipts = append(receipts, m.Receipt)
	}
	return q.plane.Dispatcher.Queues.Delete(ctx, q.name, receipts...)
}

func (q poolQueue) Return(ctx context.Context, m worker.Message, hidden time.Duration) error {
	if q.cut.Load() {
		return errCut
	}
	return q.plane.Dispatcher.Queues.Extend(ctx, q.name, m.Receipt, hidden)
}

func (q inboxQueue) Send(ctx context.Context, bodies ...string) error {
	if q.cut.Load() {
		return errCut
	}
	var ms []queue.Message
	for _, b := range bodies {
		ms = append(ms, queue.Message{Body: b})
	}
	return q.plane.Dispatcher.Queues.Send(ctx, "inbox", ms...)
}

// handling is what a worker of a suite does: one handler for all topics, under a name.
type handling struct {
	*line
	id string
	h  worker.Handler
}

func (w handling) polling() worker.PollingConfig {
	return worker.PollingConfig{
		URL: "http://plane", APIKey: "k-worker", ID: w.id, Pool: "main", MaxParallel: 4, HTTP: &http.Client{Transport: w.line},
		Queue: poolQueue{w.line, "pool-main"}, Inbox: inboxQueue{w.line}, Logger: slog.New(slog.NewTextHandler(logTo(), nil)),
	}
}

// transports start a worker; stop tells it to finish what it has and waits.
var transports = map[string]func(w handling) (stop func()){
	"stream": func(w handling) func() {
		return w.work(map[string]worker.Handler{"job.*": w.h}, func(c *worker.Config) {
			c.ID, c.DialOptions = w.id, []grpc.DialOption{grpc.WithContextDialer(w.line.stream)}
		})
	},
	"polling": func(w handling) func() {
		p, err := worker.NewPolling(w.polling())
		if err != nil {
			w.t.Fatal(err)
		}
		p.Handle("job.*", w.h)
		return w.background(func(ctx context.Context) {
			if err := p.Run(ctx); err != nil {
				w.t.Errorf("polling worker: %v", err)
			}
		})
	},
	"lambda": func(w handling) func() {
		return w.background(func(ctx context.Context) {
			var instances sync.WaitGroup
			for i := range 4 {
				instances.Go(func() { w.instance(ctx, fmt.Sprintf("%s-%d", w.id, i)) })
			}
			instances.Wait()
		})
	},
}

// background runs until the test ends or is stopped.
func (w handling) background(run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	stop = func() { cancel(); <-done }
	w.t.Cleanup(stop)
	return stop
}

// instance is one instance of a worker function with the pool's queue as its event source: it gets the bytes of an event, and what it does not name
// as failed is deleted. The queue shows messages again while the function still runs.
func (w handling) instance(ctx context.Context, id string) {
	cfg := w.polling()
	cfg.ID, cfg.Queue = id, nil
	f, err := lambdaworker.New(cfg, lambdaworker.Handle("job.*", w.h))
	if err != nil {
		w.t.Error(err)
		return
	}
	function, source := lambda.NewHandler(f), poolQueue{w.line, "pool-main"}
	for ctx.Err() == nil {
		msgs, err := source.Receive(ctx, 10, 0)
		if err != nil || len(msgs) == 0 {
			time.Sleep(time.Second)
			continue
		}
		var event events.SQSEvent
		for _, m := range msgs {
			event.Records = append(event.Records, events.SQSMessage{MessageId: m.ID, Body: m.Body, ReceiptHandle: m.Receipt})
		}
		raw, _ := json.Marshal(event)
		invocation, end := context.WithTimeout(context.Background(), 15*time.Minute)
		answer, err := function.Invoke(invocation, raw)
		end()
		var res events.SQSEventResponse
		if err != nil || json.Unmarshal(answer, &res) != nil {
			continue
		}
		spent := slices.DeleteFunc(msgs, func(m worker.Message) bool {
			return slices.ContainsFunc(res.BatchItemFailures, func(f events.SQSBatchItemFailure) bool { return f.ItemIdentifier == m.ID })
		})
		_ = source.Delete(ctx, spent...) // they come again otherwise, as on AWS
	}
}

// deliver puts a job's ticket into the pool's queue once more.
func (r *rig) deliver(jobID string, attempt int) {
	r.t.Helper()
	err := r.plane.Dispatcher.Queues.Send(r.t.Context(), "pool-main", queue.Message{Body: fmt.Sprintf(`{"job":%q,"attempt":%d}`, jobID, attempt)})
	if err != nil {
		r.t.Fatal(err)
	}
}

// suite is one behaviour on one transport: start runs a worker and answers its line and what stops it.
type suite struct {
	*rig
	start func(id string, h worker.Handler) (l *line, stop func())
}

// insist submits a job as clients do: again after a 503, under the same key.
func (r *rig) insist(key string) (rc receipt) {
	r.t.Helper()
	for {
		a := r.post("/api/v1/jobs", body("idempotency_key", key))
		if a.Status != http.StatusServiceUnavailable {
			a.ok(200).json(&rc)
			return rc
		}
		time.Sleep(time.Second)
	}
}

// behaviours are what every transport must show.
var behaviours = map[string]func(s suite){
	"success": func(s suite) {
		s.start("w", func(ctx context.Context, j *worker.Job) (any, error) {
			var in struct{ Context map[string]int }
			if err := j.DecodeContext(ctx, &in); err != nil {
				return nil, err
			}
			j.Progress(60, "half way")
			time.Sleep(5 * time.Second)
			return map[string]any{"n": in.Context["n"] + 1, "attempt": j.Attempt, "trace": j.TraceID}, nil
		})
		rc := s.submit("context", map[string]int{"n": 1})
		if j := s.await(rc.JobID, "RUNNING"); j["progress"].(map[string]any)["percent"] != 60.0 {
			s.t.Errorf("progress %v", j["progress"])
		}
		j := s.await(rc.JobID, "SUCCEEDED")
		if res := j["result"].(map[string]any); res["n"] != 2.0 || res["attempt"] != 1.0 || res["trace"] != rc.TraceID || j["attempts"] != 1.0 {
			s.t.Errorf("result %v", j)
		}
		if ms := j["execution_ms"].(float64); ms < 5000 || ms > 7000 {
			s.t.Errorf("execution_ms %v", ms)
		}
	},
	"failure": func(s suite) {
		s.start("w", func(context.Context, *worker.Job) (any, error) {
			return nil, &worker.Error{Code: "E42", Message: "broken"}
		})
		rc := s.submit()
		if j := s.await(rc.JobID, "FAILED"); j["error_code"] != "E42" || j["error_message"] != "broken" || j["attempts"] != 1.0 {
			s.t.Errorf("job %v", j)
		}
		time.Sleep(time.Second) // an index may lag
		var letters []map[string]any
		s.get("/api/v1/dlq").ok(200).json(&letters)
		if len(letters) != 1 || letters[0]["job_id"] != rc.JobID || letters[0]["reason_code"] != "E42" {
			s.t.Errorf("dead letters %v", letters)
		}
	},
	"panic": func(s suite) {
		s.start("w", func(_ context.Context, j *worker.Job) (any, error) {
			if j.Labels["calm"] == "" {
				panic("ouch")
			}
			return nil, nil
		})
		if j := s.await(s.submit().JobID, "FAILED"); j["error_code"] != "panic" || j["error_message"] != "handler panicked: ouch" {
			s.t.Errorf("job %v", j)
		}
		s.await(s.submit("labels", map[string]string{"calm": "yes"}).JobID, "SUCCEEDED") // the worker lives on
	},
	"cancel": func(s suite) {
		started, ended := make(chan struct{}, 1), make(chan error, 1)
		s.start("w", func(ctx context.Context, _ *worker.Job) (any, error) {
			started <- struct{}{}
			<-ctx.Done()
			ended <- ctx.Err()
			return "too late", nil
		})
		rc := s.submit()
		<-started
		time.Sleep(3 * time.Second)
		s.post("/api/v1/jobs/"+rc.JobID+"/cancel", nil).ok(200)
		began := time.Now()
		if err := <-ended; !errors.Is(err, context.Canceled) || time.Since(began) > 11*time.Second {
			s.t.Errorf("the handler heard of it after %s: %v", time.Since(began), err)
		}
		time.Sleep(time.Minute)
		if j := s.job(rc.JobID); j["state"] != "CANCELLED" || j["result"] != nil {
			s.t.Errorf("job %v", j)
		}
	},
	"cancel before it is claimed": func(s suite) {
		rc := s.submit()
		s.post("/api/v1/jobs/"+rc.JobID+"/cancel", nil).ok(200)
		var ran atomic.Int32
		s.start("w", func(context.Context, *worker.Job) (any, error) { ran.Add(1); return nil, nil })
		s.await(s.submit().JobID, "SUCCEEDED")
		if ran.Load() != 1 || s.job(rc.JobID)["state"] != "CANCELLED" {
			s.t.Errorf("%d ran", ran.Load())
		}
	},
	"deadline": func(s suite) {
		s.start("w", func(ctx context.Context, _ *worker.Job) (any, error) { <-ctx.Done(); return nil, ctx.Err() })
		if j := s.await(s.submit("topic", "job.test.boxed").JobID, "TIMEOUT"); j["error_code"] != "deadline_exceeded" { // 2 seconds by the policy
			s.t.Errorf("job %v", j)
		}
	},
	"duplicate delivery": func(s suite) {
		var runs atomic.Int32
		rc := s.submit()
		for range 5 {
			s.deliver(rc.JobID, 1)
		}
		s.start("w", func(context.Context, *worker.Job) (any, error) {
			n := runs.Add(1)
			time.Sleep(20 * time.Second)
			return n, nil
		})
		s.start("v", func(context.Context, *worker.Job) (any, error) {
			n := runs.Add(1)
			time.Sleep(20 * time.Second)
			return n, nil
		})
		time.Sleep(10 * time.Second)
		s.deliver(rc.JobID, 1)
		j := s.await(rc.JobID, "SUCCEEDED")
		s.deliver(rc.JobID, 1)
		time.Sleep(2 * time.Minute)
		if after := s.job(rc.JobID); runs.Load() != 1 || after["attempts"] != 1.0 || after["updated_at"] != j["updated_at"] {
			s.t.Errorf("%d runs, %v", runs.Load(), after)
		}
		n, err := 1, error(nil)
		for until := time.Now().Add(time.Hour); n != 0 && err == nil && time.Now().Before(until); time.Sleep(time.Minute) { // one that was hidden comes again
			n, err = s.plane.Dispatcher.Queues.Depth(s.t.Context(), "pool-main")
		}
		if err != nil || n != 0 {
			s.t.Errorf("%d messages are left: %v", n, err)
		}
	},
	"silence": func(s suite) {
		s.start("w", func(context.Context, *worker.Job) (any, error) { time.Sleep(13 * time.Minute); return nil, nil })
		rc := s.submit()
		time.Sleep(17 * time.Second) // a heartbeat, or what the SDK says by itself
		if j := s.job(rc.JobID); j["state"] != "RUNNING" {
			s.t.Errorf("job %v", j["state"])
		}
		time.Sleep(13 * time.Minute)
		if j := s.await(rc.JobID, "SUCCEEDED"); j["attempts"] != 1.0 { // the dispatch timeout is 5 minutes
			s.t.Errorf("attempts %v", j["attempts"])
		}
	},
	"vanish, and the next attempt": func(s suite) {
		started, release := make(chan int, 10), make(chan struct{})
		handler := func(name string) worker.Handler {
			return func(_ context.Context, j *worker.Job) (any, error) {
				started <- j.Attempt
				<-release // whatever the context says
				return name, nil
			}
		}
		l, _ := s.start("a", handler("a"))
		rc := s.submit()
		if n := <-started; n != 1 {
			s.t.Errorf("attempt %d", n)
		}
		l.sever()
		time.Sleep(18 * time.Second)
		s.within(rc.JobID, "SCHEDULED", time.Second, 18*time.Second)
		second := make(chan struct{})
		s.start("b", func(_ context.Context, j *worker.Job) (any, error) {
			started <- j.Attempt
			<-second
			return "b", nil
		})
		if n := <-started; n != 2 {
			s.t.Errorf("attempt %d", n)
		}
		l.mend()
		close(release) // the first worker's result comes late
		time.Sleep(time.Minute)
		if j := s.job(rc.JobID); j["state"] != "RUNNING" || j["attempts"] != 2.0 {
			s.t.Errorf("after a late result: %v attempts %v", j["state"], j["attempts"])
		}
		close(second)
		if j := s.await(rc.JobID, "SUCCEEDED"); j["result"] != "b" || j["attempts"] != 2.0 {
			s.t.Errorf("result %v, attempts %v", j["result"], j["attempts"])
		}
	},
	"vanish, with no attempt left": func(s suite) {
		started, release := make(chan struct{}, 1), make(chan struct{})
		l, _ := s.start("a", func(context.Context, *worker.Job) (any, error) {
			started <- struct{}{}
			<-release
			return "late", nil
		})
		rc := s.submit("topic", "job.test.brief") // one attempt, a minute
		<-started
		l.sever()
		time.Sleep(18 * time.Second)
		j := s.within(rc.JobID, "FAILED", time.Second, 18*time.Second)
		if j["error_code"] != "worker_lost" {
			s.t.Errorf("job %v", j)
		}
		l.mend()
		close(release)
		time.Sleep(time.Minute)
		if after := s.job(rc.JobID); after["state"] != "FAILED" || after["updated_at"] != j["updated_at"] {
			s.t.Errorf("after a late result: %v", after)
		}
	},
	"a short cut": func(s suite) {
		started := make(chan struct{}, 1)
		l, _ := s.start("a", func(_ context.Context, j *worker.Job) (any, error) {
			started <- struct{}{}
			time.Sleep(5 * time.Second) // it ends while the line is cut
			return "once", nil
		})
		rc := s.submit()
		<-started
		l.sever()
		time.Sleep(15 * time.Second)
		l.mend()
		if j := s.await(rc.JobID, "SUCCEEDED"); j["result"] != "once" || j["attempts"] != 1.0 || len(started) != 0 {
			s.t.Errorf("result %v, attempts %v", j["result"], j["attempts"])
		}
	},
	"stop": func(s suite) {
		started := make(chan struct{}, 1)
		_, stop := s.start("a", func(context.Context, *worker.Job) (any, error) {
			started <- struct{}{}
			time.Sleep(12 * time.Second)
			return nil, nil
		})
		rc := s.submit()
		<-started
		stop()
		time.Sleep(time.Second)
		if j := s.job(rc.JobID); j["state"] != "SUCCEEDED" || j["attempts"] != 1.0 {
			s.t.Errorf("job %v", j)
		}
		if j := s.submit(); s.job(j.JobID)["state"] != "SCHEDULED" {
			s.t.Error("a stopped worker takes jobs")
		}
		time.Sleep(time.Minute) // a function does not say good-bye
		var workers []map[string]any
		s.get("/api/v1/workers").ok(200).json(&workers)
		if len(workers) != 0 {
			s.t.Errorf("workers %v", workers)
		}
	},
	"a crowd": func(s suite) {
		var runs atomic.Int32
		for _, id := range []string{"a", "b"} {
			s.start(id, func(context.Context, *worker.Job) (any, error) {
				time.Sleep(200 * time.Millisecond)
				return runs.Add(1), nil
			})
		}
		var ids []string
		for i := range 60 {
			ids = append(ids, s.insist(fmt.Sprint(i)).JobID)
		}
		for _, id := range ids {
			if j := s.await(id, "SUCCEEDED"); j["attempts"] != 1.0 {
				s.t.Errorf("attempts %v", j["attempts"])
			}
		}
		if n := runs.Load(); n != 60 {
			s.t.Errorf("%d runs of 60 jobs", n)
		}
	},
}

// unruly is a plane on a platform that makes use of the freedom that AWS has.
func unruly(seed uint64) plane.Config {
	cfg := config()
	cfg.Embedded = embedded.Options{Unruly: seed}
	return cfg
}

func TestTransports(t *testing.T) {
	for transport, start := range transports {
		for name, behaviour := range behaviours {
			for at, cfg := range map[string]plane.Config{"orderly": everyMinute(), "unruly": unruly(7)} {
				t.Run(transport+"/"+name+"/"+at, func(t *testing.T) {
					virtually(t, cfg, func(t *testing.T, r *rig) {
						behaviour(suite{r, func(id string, h worker.Handler) (*line, func()) {
							l := &line{rig: r}
							return l, start(handling{l, id, h})
						}})
					})
				})
			}
		}
	}
}

// TestTheProtocolsExample plays the worked example of docs/AGENT_PROTOCOL.md on a plane: each request gets the answer that the page shows.
func TestTheProtocolsExample(t *testing.T) {
	page, err := os.ReadFile("../../docs/AGENT_PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n### An example\n")
	blocks := regexp.MustCompile("(?s)```([a-z]+ ?[a-z-]*)\n(.*?)```").FindAllStringSubmatch(section, -1)
	virtually(t, everyMinute(), func(t *testing.T, r *rig) {
		e := example{rig: r, names: map[string]string{}}
		for _, b := range blocks {
			e.play(b[1], b[2])
		}
		if e.answers != 7 || e.job == "" {
			t.Fatalf("%d answers of job %q", e.answers, e.job)
		}
		if j := r.job(e.job); j["state"] != "SUCCEEDED" || j["result"].(map[string]any)["summary"] != "short" || j["execution_ms"] != 14210.0 {
			t.Errorf("job %v", j)
		}
	})
}

// example is the page's example as it goes on here: what has another name on every run is known by both.
type example struct {
	*rig

	names   map[string]string // the page's word, and this run's
	job     string
	last    answer
	answers int
}

// here is a text of the page with this run's names.
func (e *example) here(text string) string {
	for page, here := range e.names {
		text = strings.ReplaceAll(text, page, here)
	}
	return text
}

func (e *example) play(kind, text string) {
	e.t.Helper()
	switch kind {
	case "http":
		head, payload, _ := strings.Cut(text, "\n\n")
		line, header, _ := strings.Cut(head, "\n")
		method, path, _ := strings.Cut(line, " ")
		e.last = e.as(strings.TrimSpace(strings.TrimPrefix(header, "X-API-Key: ")), method, e.here(path), e.here(payload), "X-Tenant-ID", "").ok(200)
	case "json answer":
		e.answers++
		e.compare(text)
	case "json pool-main":
		rc := e.submit("topic", "job.test.report", "prompt", "summarise", "context", map[string]int{"pages": 3})
		e.job = rc.JobID
		msgs, err := e.plane.Dispatcher.Queues.Receive(e.t.Context(), "pool-main", 1, 20*time.Second, 0)
		if err != nil || len(msgs) != 1 {
			e.t.Fatal(len(msgs), err)
		}
		e.last = answer{t: e.t, Body: msgs[0].Body}
		e.compare(text)
	case "json inbox":
		if err := e.plane.Dispatcher.Queues.Send(e.t.Context(), "inbox", queue.Message{Body: e.here(text)}); err != nil {
			e.t.Fatal(err)
		}
		time.Sleep(time.Second)
		if j := e.job; strings.Contains(text, "jobProgress") && e.rig.job(j)["state"] != "RUNNING" {
			e.t.Errorf("after its progress the job is %v", e.rig.job(j)["state"])
		}
	default:
		e.t.Errorf("a block of kind %q", kind)
	}
}

// compare checks what came against the page. Ids and secrets are learnt from what comes; what the page leaves out must be empty.
func (e *example) compare(text string) {
	e.t.Helper()
	var page, came any
	if err := errors.Join(json.Unmarshal([]byte(text), &page), json.Unmarshal([]byte(e.last.Body), &came)); err != nil {
		e.t.Fatalf("%v in %s", err, text)
	}
	e.same("", page, came)
}

func (e *example) same(name string, page, came any) {
	e.t.Helper()
	switch p := page.(type) {
	case map[string]any:
		c, _ := came.(map[string]any)
		for k := range p {
			e.same(name+"."+k, p[k], c[k])
		}
		for k, v := range c {
			if _, shown := p[k]; !shown && !empty(v) {
				e.t.Errorf("%s.%s is %v and not shown", name, k, v)
			}
		}
	case []any:
		c, _ := came.([]any)
		if len(p) != len(c) {
			e.t.Errorf("%s is %v, the page says %v", name, came, page)
			return
		}
		for i := range p {
			e.same(name, p[i], c[i])
		}
	case string:
		c, _ := came.(string)
		if (name == ".session_token" || name == ".job" || name == ".packet.traceId") && p != "" {
			if known, ok := e.names[p]; !ok {
				e.names[p] = c
			} else if known != c {
				e.t.Errorf("%s is %s now, was %s", name, c, known)
			}
			return
		}
		if e.here(p) != c {
			e.t.Errorf("%s is %q, the page says %q", name, c, e.here(p))
		}
	default:
		if page != came {
			e.t.Errorf("%s is %v, the page says %v", name, came, page)
		}
	}
}

// empty says whether a JSON value says nothing, as all its members.
func empty(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for _, m := range v {
			if !empty(m) {
				return false
			}
		}
		return true
	case []any:
		return len(v) == 0
	default:
		return v == nil || v == "" || v == 0.0 || v == false || v == "0" || v == "ACTOR_TYPE_UNSPECIFIED"
	}
}
