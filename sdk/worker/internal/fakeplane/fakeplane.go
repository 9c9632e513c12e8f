// Package fakeplane is the side of the plane that workers without a stream see, in the hands of a test: its routes, a pool's queue and the inbox,
// in memory and in one process.
package fakeplane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
)

// Key is the API key that the plane takes, Pool the pool that it names.
const (
	Key  = "k-worker"
	Pool = "main"
)

// ErrDown is why something cannot be reached.
var ErrDown = errors.New("fakeplane: out of reach")

// Job is a job as the plane has it.
type Job struct {
	// State is SCHEDULED, DISPATCHED, RUNNING, or how it ended.
	State   string
	Attempt int
	Worker  string
	Input   []byte
	// Key is that of the claim that Worker made.
	Key string
	// Output is what the worker stored, Result what it said in the end, Taken how many results took effect.
	Output []byte
	Result *agentv1.JobResult
	Taken  int
	// Words are the progress packets that were taken.
	Words []*agentv1.JobProgress

	request *agentv1.JobRequest
}

func (j *Job) held() bool { return j.State == "DISPATCHED" || j.State == "RUNNING" }

// Beat is a heartbeat that was taken.
type Beat struct {
	*agentv1.Heartbeat

	At      time.Time
	Jobs    []string
	Leaving bool
}

// Return is a message that was given back, or kept.
type Return struct {
	Body   string
	Hidden time.Duration
}

type message struct {
	body    string
	receipt int
	shown   time.Time
}

// Plane is the fake. It is a worker.Queue, a worker.Sender and an http.Handler.
type Plane struct {
	mu       sync.Mutex
	jobs     map[string]*Job
	queue    []*message
	receipts int
	came     chan struct{} // closed and replaced when there may be a message
	token    int

	seen   Seen
	faults Faults
}

// Faults is what goes wrong.
type Faults struct {
	// REST, Inbox and Queue cannot be reached.
	REST, Inbox, Queue bool
	// LostClaims is to how many of the next claims the answer gets lost.
	LostClaims int
	// ClaimAs has claims answered with an outcome whatever the job; "" is the truth.
	ClaimAs string
	// Refuse has every route answer with a status, in the plane's own words; 0 does not.
	Refuse int
}

// Seen is what the plane has seen so far.
type Seen struct {
	Beats   []Beat
	Returns []Return
	// Claims are the outcomes of claims.
	Claims []string
	// Ignored counts packets that had no effect, Sends the calls of Send that were taken.
	Ignored, Sends int
	// Waiting is how many messages the queue has, hidden ones included.
	Waiting int
}

// New makes one.
func New() *Plane { return &Plane{jobs: map[string]*Job{}, came: make(chan struct{}), token: 1} }

// Config is that of a worker on this plane.
func (p *Plane) Config() worker.PollingConfig {
	return worker.PollingConfig{
		URL: "http://plane.test", APIKey: Key, Pool: Pool, ID: "w", Queue: p, Inbox: p, HTTP: p.Client(),
	}
}

// Client reaches the plane without a network.
func (p *Plane) Client() *http.Client { return &http.Client{Transport: wire{p}} }

type wire struct{ p *Plane }

func (w wire) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.p.broken(func(f *Faults) bool { return f.REST }) {
		return nil, ErrDown
	}
	rec := httptest.NewRecorder()
	w.p.ServeHTTP(rec, r)
	if strings.HasSuffix(r.URL.Path, "/claim") && w.p.broken(func(f *Faults) bool { f.LostClaims--; return f.LostClaims >= 0 }) {
		return nil, ErrDown
	}
	return rec.Result(), nil
}

func (p *Plane) broken(is func(*Faults) bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return is(&p.faults)
}

// Fault changes what goes wrong.
func (p *Plane) Fault(change func(*Faults)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.faults)
}

// Seen answers what the plane has seen.
func (p *Plane) Seen() Seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.seen
	s.Beats, s.Returns, s.Claims, s.Waiting = slices.Clone(s.Beats), slices.Clone(s.Returns), slices.Clone(s.Claims), len(p.queue)
	return s
}

// Forget makes the worker's token another, as when it registers anew.
func (p *Plane) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.token++
}

// Job answers a copy of a job.
func (p *Plane) Job(id string) Job {
	p.mu.Lock()
	defer p.mu.Unlock()
	return *p.jobs[id]
}

// Submit schedules a job of topic job.t for its first attempt, and sends its ticket. env are names and values.
func (p *Plane) Submit(id string, env ...string) {
	r := &agentv1.JobRequest{JobId: id, Topic: "job.t", ContextPtr: "redis://ctx:" + id, Env: map[string]string{}}
	for i := 0; i+1 < len(env); i += 2 {
		r.Env[env[i]] = env[i+1]
	}
	p.Request(r)
}

// Request is Submit with a request of the caller's.
func (p *Plane) Request(r *agentv1.JobRequest) {
	p.mu.Lock()
	p.jobs[r.GetJobId()] = &Job{State: "SCHEDULED", Input: []byte(`{"prompt":"p of ` + r.GetJobId() + `"}`), request: r}
	p.mu.Unlock()
	p.Ticket(r.GetJobId(), 1)
}

// Ticket sends a ticket.
func (p *Plane) Ticket(id string, attempt int) {
	p.Put(fmt.Sprintf(`{"job":%q,"attempt":%d}`, id, attempt))
}

// Put puts a body into the pool's queue.
func (p *Plane) Put(body string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.queue, &message{body: body, shown: time.Now()})
	p.stir()
}

// stir wakes receivers. The caller holds p.mu.
func (p *Plane) stir() {
	close(p.came)
	p.came = make(chan struct{})
}

// Again takes a job from its worker and schedules its next attempt, as when the worker is lost.
func (p *Plane) Again(id string) {
	p.mu.Lock()
	j := p.jobs[id]
	j.State, j.Worker = "SCHEDULED", ""
	next := j.Attempt + 1
	p.mu.Unlock()
	p.Ticket(id, next)
}

// Cancel ends a job.
func (p *Plane) Cancel(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.jobs[id].State = "CANCELLED"
}

// Receive implements worker.Queue; it waits up to 20 seconds.
func (p *Plane) Receive(ctx context.Context, most int, hidden time.Duration) ([]worker.Message, error) {
	timeout := time.After(20 * time.Second)
	for {
		p.mu.Lock()
		if p.faults.Queue {
			p.mu.Unlock()
			return nil, ErrDown
		}
		found, next := p.visible(most, hidden)
		came := p.came
		p.mu.Unlock()
		if len(found) > 0 {
			return found, nil
		}
		select {
		case <-came:
		case <-time.After(next):
		case <-timeout:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// visible hides and answers what may be received, and says when there will be more. The caller holds p.mu.
func (p *Plane) visible(most int, hidden time.Duration) (found []worker.Message, next time.Duration) {
	next = time.Hour
	now := time.Now()
	for _, m := range p.queue {
		if wait := m.shown.Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		if len(found) == most {
			break
		}
		p.receipts++
		m.receipt, m.shown = p.receipts, now.Add(hidden)
		receipt := strconv.Itoa(m.receipt)
		found = append(found, worker.Message{ID: "m" + receipt, Body: m.body, Receipt: receipt})
	}
	return found, next
}

// Delete implements worker.Queue.
func (p *Plane) Delete(_ context.Context, messages ...worker.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.faults.Queue {
		return ErrDown
	}
	for _, gone := range messages {
		kept := p.queue[:0]
		for _, m := range p.queue {
			if strconv.Itoa(m.receipt) != gone.Receipt {
				kept = append(kept, m)
			}
		}
		p.queue = kept
	}
	return nil
}

// Return implements worker.Queue.
func (p *Plane) Return(_ context.Context, back worker.Message, hidden time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen.Returns = append(p.seen.Returns, Return{back.Body, hidden})
	for _, m := range p.queue {
		if strconv.Itoa(m.receipt) == back.Receipt {
			m.shown = time.Now().Add(hidden)
		}
	}
	p.stir()
	return nil
}

// Send implements worker.Sender: the packets take effect at once.
func (p *Plane) Send(_ context.Context, bodies ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.faults.Inbox {
		return ErrDown
	}
	p.seen.Sends++
	for _, body := range bodies {
		if !p.say(body) {
			p.seen.Ignored++
		}
	}
	return nil
}

// say takes a packet and says whether it has an effect. The caller holds p.mu.
func (p *Plane) say(body string) bool {
	var m struct {
		Attempt int             `json:"attempt"`
		Packet  json.RawMessage `json:"packet"`
	}
	var packet agentv1.BusPacket
	if json.Unmarshal([]byte(body), &m) != nil || protojson.Unmarshal(m.Packet, &packet) != nil {
		return false
	}
	res, word := packet.GetJobResult(), packet.GetJobProgress()
	j := p.jobs[res.GetJobId()+word.GetJobId()]
	if packet.GetAuthToken() != p.session() || packet.GetProtocolVersion() != 1 || j == nil || !j.held() ||
		j.Worker != packet.GetSenderId() || j.Attempt != m.Attempt {
		return false
	}
	if word != nil {
		j.State, j.Words = "RUNNING", append(j.Words, word)
		return true
	}
	j.State, j.Result = strings.TrimPrefix(res.GetStatus().String(), "JOB_STATUS_"), res
	j.Taken++
	return true
}

func (p *Plane) session() string { return "wt1." + strconv.Itoa(p.token) }

// ServeHTTP is the plane's routes for workers.
func (p *Plane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var body bytes.Buffer
	if r.Body != nil {
		if _, err := body.ReadFrom(r.Body); err != nil {
			fail(w, http.StatusBadRequest, "unreadable")
			return
		}
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/api/v1/worker/")
	switch {
	case p.faults.Refuse != 0:
		fail(w, p.faults.Refuse, "refused")
	case !ok:
		fail(w, http.StatusNotFound, "not found")
	case r.Header.Get("X-Api-Key") != Key:
		fail(w, http.StatusUnauthorized, "unauthorized")
	case path == "claim":
		p.claim(w, body.Bytes())
	case path == "heartbeat":
		p.beat(w, body.Bytes())
	case strings.HasPrefix(path, "jobs/"):
		p.payload(w, r, path, body.Bytes())
	default:
		fail(w, http.StatusNotFound, "not found")
	}
}

func fail(w http.ResponseWriter, status int, text string) {
	w.WriteHeader(status)
	answer(w, map[string]any{"error": text, "status": status})
}

func answer(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(err)
	}
}

func (p *Plane) claim(w http.ResponseWriter, body []byte) {
	var in struct {
		Worker  string `json:"worker_id"`
		Job     string `json:"job_id"`
		Attempt int    `json:"attempt"`
		Key     string `json:"key"`
	}
	if err := json.Unmarshal(body, &in); err != nil || in.Worker == "" || in.Job == "" || in.Attempt < 1 {
		fail(w, http.StatusBadRequest, "job_id and attempt are required, as the ticket says")
		return
	}
	j, outcome := p.jobs[in.Job], p.faults.ClaimAs
	if outcome == "" {
		outcome = "gone"
		if j != nil && (j.State == "SCHEDULED" && j.Attempt == in.Attempt-1 ||
			j.held() && j.Attempt == in.Attempt && j.Worker == in.Worker && j.Key == in.Key && in.Key != "") {
			outcome = "claimed"
		}
	}
	p.seen.Claims = append(p.seen.Claims, outcome)
	if outcome != "claimed" {
		answer(w, map[string]any{"outcome": outcome})
		return
	}
	j.State, j.Attempt, j.Worker, j.Key = "DISPATCHED", in.Attempt, in.Worker, in.Key
	j.request.Env["CORDUM_ATTEMPT"] = strconv.Itoa(in.Attempt)
	packet, err := protojson.Marshal(&agentv1.BusPacket{
		TraceId: "trace-" + in.Job, SenderId: "plane", ProtocolVersion: 1, Payload: &agentv1.BusPacket_JobRequest{JobRequest: j.request},
	})
	if err != nil {
		panic(err)
	}
	answer(w, map[string]any{"outcome": outcome, "packet": json.RawMessage(packet)})
}

func (p *Plane) beat(w http.ResponseWriter, body []byte) {
	var in struct {
		Heartbeat json.RawMessage `json:"heartbeat"`
		Jobs      []string        `json:"jobs"`
		Leaving   bool            `json:"leaving"`
	}
	h := &agentv1.Heartbeat{}
	if json.Unmarshal(body, &in) != nil || protojson.Unmarshal(in.Heartbeat, h) != nil || h.GetWorkerId() == "" || h.GetPool() == "" {
		fail(w, http.StatusBadRequest, "worker_id is required")
		return
	}
	if h.GetPool() != Pool {
		fail(w, http.StatusForbidden, "this credential may not serve this pool")
		return
	}
	p.seen.Beats = append(p.seen.Beats, Beat{h, time.Now(), in.Jobs, in.Leaving})
	cancels := []map[string]string{}
	for _, id := range in.Jobs {
		j := p.jobs[id]
		if j == nil || !j.held() || j.Worker != h.GetWorkerId() {
			cancels = append(cancels, map[string]string{"jobId": id})
			continue
		}
		j.State = "RUNNING"
	}
	answer(w, map[string]any{"cancels": cancels, "session_token": p.session()})
}

func (p *Plane) payload(w http.ResponseWriter, r *http.Request, path string, body []byte) {
	id, what := path[len("jobs/"):strings.LastIndex(path, "/")], path[strings.LastIndex(path, "/")+1:]
	j := p.jobs[id]
	switch {
	case j == nil || !j.held():
		fail(w, http.StatusNotFound, "job not found")
	case what == "context" && r.Method == http.MethodGet:
		answer(w, map[string]any{"data": j.Input})
	case what == "result" && r.Method == http.MethodPost:
		var in struct{ Data []byte }
		if err := json.Unmarshal(body, &in); err != nil {
			fail(w, http.StatusBadRequest, "malformed")
			return
		}
		j.Output = in.Data
		answer(w, map[string]any{"result_ptr": "redis://res:" + id})
	default:
		fail(w, http.StatusNotFound, "not found")
	}
}
