package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/cordum-serverless/cordum/functions/approvals"
	"github.com/cordum-serverless/cordum/functions/broadcast"
	"github.com/cordum-serverless/cordum/functions/deadletter"
	dlqfn "github.com/cordum-serverless/cordum/functions/dlq"
	"github.com/cordum-serverless/cordum/functions/engine"
	"github.com/cordum-serverless/cordum/functions/grpc"
	"github.com/cordum-serverless/cordum/functions/inbox"
	"github.com/cordum-serverless/cordum/functions/jobs"
	runsfn "github.com/cordum-serverless/cordum/functions/runs"
	"github.com/cordum-serverless/cordum/functions/scheduler"
	"github.com/cordum-serverless/cordum/functions/sweep"
	"github.com/cordum-serverless/cordum/functions/workers"
	"github.com/cordum-serverless/cordum/localdev/seed"
	"github.com/cordum-serverless/cordum/shared/core/audit/chain"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/event"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	coreseed "github.com/cordum-serverless/cordum/shared/core/seed"
	"github.com/cordum-serverless/cordum/shared/core/workflow/runs"
	"github.com/cordum-serverless/cordum/shared/edge/batch"
	"github.com/cordum-serverless/cordum/shared/edge/boot"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

const simPolicy = `
version: sim
default_decision: deny
approvals: { expire_after: 150s }
rules:
  - { id: no, match: { topics: ["job.no"] }, decision: deny, reason: never }
  - { id: slow, match: { topics: ["job.slow"] }, decision: throttle, reason: not so fast }
  - { id: ask, match: { topics: ["job.ask"] }, decision: require_approval, reason: a human must look }
  - { id: once, match: { topics: ["job.once"] }, decision: allow, constraints: { budgets: { max_retries: 1 } } }
  - { id: few, match: { topics: ["job.few"] }, decision: allow, constraints: { budgets: { max_concurrent_jobs: 2 } } }
  - { id: rest, match: { topics: ["job.*"] }, decision: allow, reason: fine }
`

const simPools = `
topics: { job.no: main, job.slow: main, job.ask: main, job.once: main, job.few: main, job.work: main, job.brief: main }
`

const simTimeouts = `
topics: { job.brief: { timeout_seconds: 20 } }
reconciler: { pending_timeout_seconds: 300, dispatch_timeout_seconds: 120, running_timeout_seconds: 240 }
`

const simKeys = `[
 {"key":"k-a","tenant":"a","role":"admin"}, {"key":"k-b","tenant":"b","role":"admin"},
 {"key":"w-a","tenant":"a","role":"worker","pools":["*"]}, {"key":"w-b","tenant":"b","role":"worker","pools":["*"]}
]`

var tenants = []string{"a", "b"}

// topicAsk is the topic whose jobs need an approval.
const topicAsk = "job.ask"

// Options say what a run is made of.
type Options struct {
	// Seed is what everything is drawn from: the same seed gives the same run.
	Seed string
	// Steps is how much happens; then the plane is left in peace until all is done.
	Steps int
	// Weak switches a protection off.
	Weak Weakness
	// Trace gets a line for every step; nil does not.
	Trace io.Writer
}

// world is a running plane with everything around it.
type world struct {
	opts     Options
	platform *embedded.Platform
	gate     *gate
	weak     Weakness
	raw      *job.Store
	heads    *head.Store
	dice     *rand.Rand
	steps    int

	api        *process
	apiHTTP    http.Handler
	functions  map[string]*function
	containers []*container
	workers    []*simWorker
	pollers    []*simPoller
	clients    sync.WaitGroup

	mu         sync.Mutex
	violations []string
	acked      map[string]*acked
	keys       map[string]string // idempotency key -> job
	states     map[string][]job.State
	handed     map[string]string // job and attempt -> worker
	heard      map[string][]frame
	busy       map[string]*process // functions that run, and in which process
	seen       map[string]int
	received   map[string]string // receipt -> body
	runs       map[string]*ackedRun
	rawRuns    *runs.Runs
	flows      []flow
	rules      []rules          // that were in force, the newest last
	began      map[string]int64 // process and ticket -> the head's revision when the first claim with it began
}

// met counts something that a run went through.
func (w *world) met(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[what]++
}

// Report is what came of a run.
type Report struct {
	// Violations of what must always hold; none is the good end.
	Violations []string
	// Met counts what the run went through, by name: states that jobs reached, attempts, faults, crashes.
	Met map[string]int
}

// acked is a job that a client knows of.
type acked struct {
	id, tenant string
	cancelled  bool // by an acknowledged cancel
	// resolved are the acknowledged resolutions of its waits for approval, approve or reject.
	resolved []string
}

// function is one of those that queues or the schedule drive.
type function struct {
	name    string
	proc    *process
	handler batch.Handler
	run     func(context.Context) error // of those that a schedule drives
	queue   string
	gen     int
}

// container is a gRPC container.
type container struct {
	name    string
	gen     int
	proc    *process
	workers *grpc.Workers
	stop    context.CancelFunc
	done    chan struct{}
}

func (w *world) trace(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steps++
	if w.opts.Trace != nil {
		_, _ = fmt.Fprintf(w.opts.Trace, "%04d %s "+format+"\n", append([]any{w.steps, time.Now().Format("15:04:05.000")}, args...)...)
	}
}

func (w *world) violated(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

// draw answers a number below n.
func (w *world) draw(n int) int { return w.dice.IntN(n) }

func newWorld(opts Options) (*world, error) {
	p, err := embedded.Open("", embedded.Options{Memory: true})
	if err != nil {
		return nil, err
	}
	w := &world{
		opts: opts, platform: p, dice: rand.New(rand.NewChaCha8(sha256.Sum256([]byte(opts.Seed)))), gate: &gate{}, weak: opts.Weak,
		raw:   &job.Store{Table: p.Table(), Blobs: p.Blobs(), Shards: 1},
		acked: map[string]*acked{}, keys: map[string]string{}, states: map[string][]job.State{}, handed: map[string]string{},
		heard: map[string][]frame{}, functions: map[string]*function{}, busy: map[string]*process{}, seen: map[string]int{}, received: map[string]string{},
		runs: map[string]*ackedRun{}, heads: &head.Store{Table: p.Table(), Blobs: p.Blobs(), Pick: func(int) int { return 0 }}, began: map[string]int64{},
	}
	files := coreseed.Files{Policy: []byte(simPolicy), Pools: []byte(simPools), Timeouts: []byte(simTimeouts)}
	if err := seed.Apply(context.Background(), p.Table(), p.Queues(), w.heads, files, time.Now()); err != nil {
		return nil, err
	}
	if err := w.prepareRuns(); err != nil {
		return nil, err
	}
	w.govern(map[string]bool{})
	w.startAPI(0)
	for name, queueName := range map[string]string{
		"scheduler": resources.Dispatch, "inbox": resources.Inbox, "deadletter": resources.DeadLetters, "broadcast": resources.Events, "engine": resources.Runs, "sweep": "", "sealer": "",
	} {
		f := &function{name: name, queue: queueName}
		w.functions[name] = f
		w.startFunction(f)
	}
	for i := range 2 {
		c := &container{name: fmt.Sprintf("container%d", i)}
		w.containers = append(w.containers, c)
		w.startContainer(c)
	}
	for _, t := range tenants {
		for i := range 2 {
			w.workers = append(w.workers, &simWorker{w: w, tenant: t, name: fmt.Sprintf("w%s%d", t, i)})
		}
		w.pollers = append(w.pollers, &simPoller{w: w, tenant: t, name: "p" + t})
	}
	for _, t := range append(slices.Clone(tenants), event.Everybody) {
		w.listenTo(t)
	}
	return w, nil
}

// dispatcher builds one for a process, on ports that park.
func (w *world) dispatcher(p *process) *dispatch.Dispatcher {
	d := dispatch.New(dispatch.Platform{
		Table: table{w.platform.Table(), p, w}, Queues: queues{w.platform.Queues(), p, w}, Blobs: blobs{w.platform.Blobs(), p},
		Connections: connections{w.platform.Connections(), p}, Clock: p.skew, IDs: ids.Source{Reader: p.random},
		Log: slog.New(slog.DiscardHandler), Shards: 1, SweepEvery: time.Minute, Yield: p.yield,
	})
	d.Policy.Pick = func(int) int { return 0 }
	return d
}

func env(name string) string {
	return map[string]string{"CORDUM_API_KEYS": simKeys, "API_RATE_LIMIT_RPS": "1000000", "API_RATE_LIMIT_BURST": "1000000"}[name]
}

func (w *world) startAPI(gen int) {
	w.api = newProcess(w.gate, fmt.Sprintf("api.%d", gen), &skew{})
	d := w.dispatcher(w.api)
	edge, err := boot.Edge(boot.With(env, nil), d.Jobs.Table, w.api.skew, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err) // the keys above are wrong
	}
	edge.IDs, edge.Metrics = ids.Source{Reader: w.api.random}, nil
	w.apiHTTP = rest.New(edge, jobs.New(d).Group(), approvals.New(d).Group(), dlqfn.New(d).Group(), workers.New(d, nil).Group(),
		runsfn.New(d).Group())
}

func (w *world) startFunction(f *function) {
	f.gen++
	f.proc = newProcess(w.gate, fmt.Sprintf("%s.%d", f.name, f.gen), &skew{})
	d := w.dispatcher(f.proc)
	switch f.name {
	case "scheduler":
		f.handler = scheduler.Handler(d)
	case "inbox":
		f.handler = inbox.Handler(d)
	case "deadletter":
		f.handler = deadletter.Handler(d)
	case "broadcast":
		f.handler = broadcast.Handler(d)
	case "engine":
		f.handler = engine.Handler(runs.New(d))
	case "sweep":
		f.run = func(ctx context.Context) error { _, err := sweep.Handler(d)(ctx); return err }
	case "sealer":
		s := &chain.Sealer{Table: sealersTable{table{w.platform.Table(), f.proc, w}}, Blobs: blobs{w.platform.Blobs(), f.proc}, Keys: auditKeys(), Clock: f.proc.skew}
		f.run = func(ctx context.Context) error { _, err := s.Run(ctx); return err }
	}
}

func (w *world) startContainer(c *container) {
	c.gen++
	c.proc = newProcess(w.gate, fmt.Sprintf("%s.%d", c.name, c.gen), &skew{})
	c.workers = grpc.NewWorkers(w.dispatcher(c.proc), slog.New(slog.DiscardHandler), "")
	var ctx context.Context
	ctx, c.stop = context.WithCancel(context.Background())
	c.done = make(chan struct{})
	go func(workers *grpc.Workers, done chan struct{}) {
		defer close(done)
		_ = workers.Run(ctx) // it ends when it is told to
	}(c.workers, c.done)
}

// kill ends a process between two of its steps. Calls that it had made may take effect or not; that was drawn when they were released.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.dead {
		p.dead = true
		close(p.died)
	}
}

func (w *world) crash(name string) {
	w.trace("crash %s", name)
	w.met("crash")
	switch {
	case name == "api":
		w.api.kill()
		w.wait()
		var gen int
		_, _ = fmt.Sscanf(w.api.name, "api.%d", &gen)
		w.startAPI(gen + 1)
	case strings.HasPrefix(name, "container"):
		for _, c := range w.containers {
			if c.name == name {
				w.end(c)
				w.startContainer(c)
			}
		}
	default:
		f := w.functions[name]
		f.proc.kill()
		w.wait()
		w.mu.Lock()
		delete(w.busy, name)
		w.mu.Unlock()
		w.startFunction(f)
	}
}

// end kills a container; the streams of its workers break with it.
func (w *world) end(c *container) {
	for _, s := range w.workers {
		if s.at == c {
			s.deaf()
		}
	}
	c.proc.kill()
	w.wait()
	for _, s := range w.workers {
		if s.at == c {
			s.cut()
		}
	}
	c.stop()
	w.wait()
}

// request calls the API as a client; then gets the answer unless the process dies meanwhile.
func (w *world) request(tenant, key, method, path string, body any, then func(status int, body []byte)) {
	var text []byte
	if body != nil {
		text, _ = json.Marshal(body)
	}
	handler, proc := w.apiHTTP, w.api
	w.clients.Go(func() {
		req := httptest.NewRequestWithContext(context.Background(), method, "/api/v1"+path, bytes.NewReader(text))
		req.Header.Set("X-API-Key", key)
		req.Header.Set("X-Tenant-ID", tenant)
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, req)
		if !proc.isDead() { // the answer of a dead process never arrives
			then(rec.Code, rec.Body.Bytes())
		}
	})
}

// drive runs a function on what its queue holds.
func (w *world) drive(f *function) {
	w.mu.Lock()
	busy := w.busy[f.name]
	w.mu.Unlock()
	if busy != nil {
		return
	}
	q := w.platform.Queues()
	var msgs []events.SQSMessage
	if f.queue != "" {
		got, err := q.Receive(context.Background(), f.queue, 10, 0, 30*time.Second)
		if err != nil || len(got) == 0 {
			return
		}
		for _, m := range got {
			msgs = append(msgs, events.SQSMessage{MessageId: m.ID, ReceiptHandle: m.Receipt, Body: m.Body, Attributes: map[string]string{"MessageGroupId": m.Group}})
		}
	}
	var bodies []string
	for _, m := range msgs {
		bodies = append(bodies, m.Body[:min(len(m.Body), 60)])
	}
	w.trace("drive %s: %s", f.name, strings.Join(bodies, " "))
	proc, handler, run := f.proc, f.handler, f.run
	w.mu.Lock()
	w.busy[f.name] = proc
	w.mu.Unlock()
	w.clients.Go(func() {
		defer func() {
			w.mu.Lock()
			if w.busy[f.name] == proc { // of a dead process something may end late
				delete(w.busy, f.name)
			}
			w.mu.Unlock()
		}()
		if run != nil {
			_ = run(context.Background()) // what failed is due still
			return
		}
		res, err := handler(context.Background(), events.SQSEvent{Records: msgs})
		if err != nil || proc.isDead() {
			return
		}
		for _, m := range msgs {
			failed := slices.ContainsFunc(res.BatchItemFailures, func(i events.SQSBatchItemFailure) bool { return i.ItemIdentifier == m.MessageId })
			if failed {
				_ = q.Extend(context.Background(), f.queue, m.ReceiptHandle, time.Second) // it comes again anyhow
				continue
			}
			_ = q.Delete(context.Background(), f.queue, m.ReceiptHandle) // likewise, and takes effect once
		}
	})
}

// wrote judges a write that a process made to the state of jobs.
func (w *world) wrote(p *process, ops []store.Op) {
	for _, op := range ops {
		id, ok := strings.CutPrefix(op.Key.PK, "J#")
		if !ok || op.Key.SK != "S" || op.Kind == store.OpCheck {
			continue
		}
		r, err := w.raw.Load(context.Background(), job.AnyTenant, id, time.Now())
		if err != nil {
			w.violated("job %s cannot be read after a write: %v", id, err)
			continue
		}
		w.mu.Lock()
		history := w.states[id]
		last := job.State("")
		if len(history) > 0 {
			last = history[len(history)-1]
		}
		if r.State != last || op.Kind == store.OpPut {
			w.states[id] = append(history, r.State)
			w.seen["job "+string(r.State)]++
		}
		w.mu.Unlock()
		if last == job.Scheduled && r.State == job.Dispatched {
			w.judgeClaim(p, r)
		}
		switch {
		case op.Kind == store.OpPut && last != "":
			w.violated("job %s was created twice, %s and %s", id, last, r.State)
		case last.Terminal() && r.State != last:
			w.violated("job %s left its end: %s -> %s", id, last, r.State)
		case r.Topic == topicAsk && r.Held() && r.Grant == nil:
			w.violated("job %s runs without the approval that it needs", id)
		case last != r.State && !job.May(last, r.State):
			w.violated("job %s moved from %q to %s, which may not be", id, last, r.State)
		}
	}
}

// Run plays a whole run; it must be called inside a testing/synctest bubble.
func Run(opts Options) Report {
	w, err := newWorld(opts)
	if err != nil {
		return Report{Violations: []string{err.Error()}}
	}
	for range opts.Steps {
		w.wait()
		w.step()
	}
	w.settle()
	w.judge()
	w.close()
	return Report{Violations: w.violations, Met: w.seen}
}

// close ends everything, so that no goroutine is left in the bubble. All processes die: nothing happens any more that nobody judges.
func (w *world) close() {
	for _, p := range append(w.procs(), w.api) {
		p.kill()
	}
	for _, c := range w.containers {
		w.end(c)
		<-c.done
	}
	w.clients.Wait()
	synctest.Wait()
	if err := w.platform.Close(); err != nil {
		w.violated("close: %v", err)
	}
}
