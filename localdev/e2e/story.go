package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// run is one run of the suite.
type run struct {
	t      *testing.T
	target Target
	name   string
	http   *http.Client
	told   atomic.Int64 // stories, to name them
	runs   ledger
	cast   []func() // what stops the workers of the run
}

func newRun(t *testing.T, target Target) *run {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 2 * atOnce
	t.Cleanup(transport.CloseIdleConnections)
	return &run{
		t: t, target: target, name: "e2e-" + randomHex(), http: &http.Client{Transport: transport, Timeout: time.Minute},
		runs: ledger{runs: map[string]int{}, stopped: map[string]bool{}},
	}
}

func randomHex() string {
	b := make([]byte, 5)
	_, _ = rand.Read(b) // it does not fail
	return hex.EncodeToString(b)
}

// story is a case that is played: the doors, and a name for everything that it makes.
type story struct {
	*testing.T
	*run

	tag string

	mu    sync.Mutex
	named int
	jobs  map[string]bool // by id: whether it has been seen to end
}

func (r *run) story(t *testing.T) *story {
	s := &story{T: t, run: r, tag: fmt.Sprintf("%s-%d", r.name, r.told.Add(1)), jobs: map[string]bool{}}
	t.Cleanup(s.tidy)
	return s
}

// tidy cancels what has not been seen to end, and deletes the dead letters.
func (s *story) tidy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, ended := range s.jobs {
		if !ended {
			_, _ = s.send(call{method: http.MethodPost, path: "/api/v1/jobs/" + url.PathEscape(id) + "/cancel"}) // the case has its verdict
		}
	}
	for ids := range slices.Chunk(slices.Collect(maps.Keys(s.jobs)), 100) {
		text, _ := json.Marshal(map[string]any{"job_ids": ids})
		_, _ = s.send(call{method: http.MethodPost, path: "/api/v1/dlq/delete", body: text}) // likewise
	}
}

// mine makes a job one to tidy up after.
func (s *story) mine(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.jobs[id]; !known {
		s.jobs[id] = false
	}
	return id
}

func (s *story) ended(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs[id] = true
}

// fresh is a name that nobody else uses.
func (s *story) fresh() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.named++
	return fmt.Sprintf("%s-%d", s.tag, s.named)
}

// call is a request: as the administrator, of his tenant, unless it says otherwise.
type call struct {
	method, path string
	body         []byte
	key          string
	tenant       string
	keyless      bool // neither a key nor a tenant
	header       http.Header
}

// answer is what comes back.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

func (a answer) String() string {
	return fmt.Sprintf("HTTP %d %s", a.Status, strings.TrimSpace(a.Body))
}

// send is for goroutines: it does not end the test.
func (r *run) send(c call) (answer, error) {
	req, err := http.NewRequestWithContext(context.Background(), c.method, r.target.URL+c.path, bytes.NewReader(c.body))
	if err != nil {
		return answer{}, err
	}
	if len(c.body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if !c.keyless {
		req.Header.Set("X-API-Key", or(c.key, r.target.AdminKey))
		req.Header.Set("X-Tenant-ID", or(c.tenant, r.target.Tenant))
	}
	for name, values := range c.header { // an empty list takes a header away
		req.Header.Del(name)
		for _, v := range values {
			req.Header.Add(name, v)
		}
	}
	res, err := r.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = res.Body.Close() }() // read to its end below
	text, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(text)}, err
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func (s *story) call(c call) answer {
	s.Helper()
	a, err := s.send(c)
	if err != nil {
		s.Fatalf("%s %s: %v", c.method, c.path, err)
	}
	return a
}

func (s *story) get(path string) answer {
	s.Helper()
	return s.call(call{method: http.MethodGet, path: "/api/v1" + path})
}

// post sends a value as JSON, or a text as it is.
func (s *story) post(path string, body any) answer {
	s.Helper()
	return s.call(call{method: http.MethodPost, path: "/api/v1" + path, body: s.text(body)})
}

func (s *story) text(body any) []byte {
	s.Helper()
	switch b := body.(type) {
	case nil:
		return nil
	case string:
		return []byte(b)
	}
	text, err := json.Marshal(body)
	if err != nil {
		s.Fatal(err)
	}
	return text
}

// other makes a call the second tenant's.
func (s *story) other(c call) call {
	c.key, c.tenant = s.target.OtherKey, s.target.OtherTenant
	return c
}

// ok fails the case unless the answer is 200, and reads it.
func (s *story) ok(a answer, into any) {
	s.Helper()
	s.answers(a, http.StatusOK, into)
}

// created is ok for 201.
func (s *story) created(a answer, into any) {
	s.Helper()
	s.answers(a, http.StatusCreated, into)
}

func (s *story) answers(a answer, status int, into any) {
	s.Helper()
	if a.Status != status {
		s.Fatal(a)
	}
	if err := json.Unmarshal([]byte(a.Body), into); err != nil {
		s.Fatalf("%v in %s", err, a)
	}
}

// refused checks an error.
func (s *story) refused(a answer, status int, text string) {
	s.Helper()
	var body struct {
		Error  string `json:"error"`
		Status int    `json:"status"`
	}
	if err := json.Unmarshal([]byte(a.Body), &body); err != nil || a.Status != status || body.Status != status || body.Error != text {
		s.Errorf("%s, want %d %q", a, status, text)
	}
}

// receipt is the answer to a submission.
type receipt struct {
	JobID   string `json:"job_id"`
	TraceID string `json:"trace_id"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
}

func (s *story) receipt(a answer) (rc receipt) {
	s.Helper()
	s.ok(a, &rc)
	if rc.JobID == "" || rc.TraceID == "" {
		s.Fatalf("a receipt without ids: %s", a)
	}
	s.mine(rc.JobID)
	return rc
}

// body is a submission; what is not said in pairs of names and values is as for any job of this story.
func (s *story) body(pairs ...any) map[string]any {
	b := map[string]any{"topic": TopicWork, "prompt": "end to end: " + s.Name(), "team_id": s.tag}
	for i := 0; i+1 < len(pairs); i += 2 {
		b[pairs[i].(string)] = pairs[i+1]
	}
	return b
}

func (s *story) submit(pairs ...any) receipt {
	s.Helper()
	return s.receipt(s.post("/jobs", s.body(pairs...)))
}

// here are the labels that send a job to this story's own workers, and to nobody when it has none.
func (s *story) here() map[string]string { return map[string]string{placeLabel: s.tag} }

const placeLabel = "place.e2e"

// job is what cases look at of a job.
type job struct {
	ID           string            `json:"id"`
	State        string            `json:"state"`
	Topic        string            `json:"topic"`
	Tenant       string            `json:"tenant"`
	TraceID      string            `json:"trace_id"`
	Attempts     int               `json:"attempts"`
	UpdatedAt    int64             `json:"updated_at"`
	WorkerID     string            `json:"worker_id"`
	Labels       map[string]string `json:"labels"`
	ParentJobID  string            `json:"parent_job_id"`
	ContextPtr   string            `json:"context_ptr"`
	ResultPtr    string            `json:"result_ptr"`
	Context      json.RawMessage   `json:"context"`
	Result       json.RawMessage   `json:"result"`
	Decision     string            `json:"safety_decision"`
	Rule         string            `json:"safety_rule_id"`
	Reason       string            `json:"safety_reason"`
	Constraints  constraints       `json:"safety_constraints"`
	ErrorCode    string            `json:"error_code"`
	ErrorMessage string            `json:"error_message"`
	ErrorStatus  string            `json:"error_status"`
	ExecutionMS  int64             `json:"execution_ms"`
	NeedsHuman   bool              `json:"approval_required"`
	ApprovalBy   string            `json:"approval_by"`
	ApprovalRole string            `json:"approval_role"`
	Approval     string            `json:"approval_status"`
	Remediations []string          `json:"remediation_jobs"`
	Capability   string            `json:"capability"`
	Progress     *struct {
		Percent int    `json:"percent"`
		Message string `json:"message"`
	} `json:"progress"`
}

type constraints struct {
	Budgets struct {
		MaxRuntimeMS int64 `json:"max_runtime_ms"`
		MaxRetries   int   `json:"max_retries"`
	} `json:"budgets"`
	RedactionLevel string `json:"redaction_level"`
}

func (j job) over() bool {
	return slices.Contains([]string{"SUCCEEDED", "FAILED", "CANCELLED", "TIMEOUT", "DENIED"}, j.State)
}

func (s *story) job(id string) (j job) {
	s.Helper()
	s.ok(s.get("/jobs/"+url.PathEscape(id)), &j)
	return j
}

// patience is how long something may take that a plane does at once; what it is not told it finds with a sweep.
func (s *story) patience() time.Duration { return 30*time.Second + 2*s.target.Sweep }

// await waits until a job is in a state. One that has ended otherwise fails the case at once.
func (s *story) await(id, state string) job {
	s.Helper()
	return s.awaitFor(id, state, s.patience())
}

func (s *story) awaitFor(id, state string, limit time.Duration) (j job) {
	s.Helper()
	s.eventually(limit, func() (bool, string) {
		j = s.job(id)
		if j.over() {
			s.ended(id)
			if j.State != state {
				s.Fatalf("job %s ended %s, not %s: %+v", id, j.State, state, j)
			}
		}
		return j.State == state, fmt.Sprintf("job %s is %s, not %s", id, j.State, state)
	})
	return j
}

// eventually asks until the answer is yes.
func (s *story) eventually(limit time.Duration, ask func() (yes bool, otherwise string)) {
	s.Helper()
	end := time.Now().Add(limit)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 400*time.Millisecond) {
		yes, otherwise := ask()
		if yes {
			return
		}
		if time.Now().After(end) {
			s.Fatalf("after %s: %s", limit, otherwise)
		}
		time.Sleep(pause)
	}
}

// crowd does something n times at once and answers what came of it.
func crowd[T any](n int, do func(i int) T) []T {
	out := make([]T, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { out[i] = do(i) })
	}
	all.Wait()
	return out
}
