package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/localdev/client"
)

type demoCmd struct {
	URL     string        `env:"CORDUM_GATEWAY" default:"http://localhost:8081" help:"A plane that may run already."`
	Key     string        `env:"CORDUM_API_KEY" default:"local-admin-key" help:"Its key."`
	Timeout time.Duration `default:"60s" help:"How long the demo may take."`
}

// scene is one job of the demo and how it must end.
type scene struct {
	title  string
	body   map[string]any
	cancel bool // once it runs
	// approve has a human let it run. remediated, unless "", has the policy's suggestion submitted instead of the job that it denied: the new job must
	// succeed with this result.
	approve    bool
	remediated string
	// mend, when given, makes good what the job failed of; then its dead letter is retried, and the new job must succeed with this result.
	mend    func() error
	retried string
	state   string
	// decision must be the policy's; code, unless "", the dead letter's; result must appear in the result.
	decision, code, result string
}

func scenes(printer *lateServer) []scene {
	return append(plainScenes, scene{
		title: "timed out: a job that takes longer than its deadline allows",
		body: map[string]any{
			"topic": "job.demo.sleep", "prompt": "wait", "context": map[string]any{"ms": 60000, "steps": 60}, "deadline_ms": 1500,
		},
		state: "TIMEOUT", decision: "ALLOW_WITH_CONSTRAINTS", code: "deadline_exceeded",
	}, scene{
		title: "retried: a server is down, comes back, and the dead letter is sent again",
		body:  map[string]any{"topic": "job.demo.fetch", "prompt": "fetch", "context": map[string]any{"url": "http://" + printer.addr}},
		state: "FAILED", decision: "ALLOW_WITH_CONSTRAINTS", code: "fetch_failed",
		mend: printer.start, retried: "backagain",
	})
}

// lateServer is a web server of the demo that is not there at first.
type lateServer struct {
	addr   string
	server *http.Server
}

func newLateServer() (*lateServer, error) {
	addr, _, err := freePorts()
	if err != nil {
		return nil, err
	}
	return &lateServer{addr: addr, server: &http.Server{
		ReadHeaderTimeout: time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, "back again") // whoever asked may have gone
		}),
	}}, nil
}

func (s *lateServer) start() error {
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return err
	}
	go func() { _ = s.server.Serve(l) }() // until close
	return nil
}

func (s *lateServer) close() { _ = s.server.Close() } // nothing of it is kept

var plainScenes = []scene{
	{
		title: "allowed: count the words of a text",
		body:  map[string]any{"topic": "job.demo.wordcount", "prompt": "the quick brown fox jumps over the lazy dog"},
		state: "SUCCEEDED", decision: "ALLOW", result: `"words":9`,
	},
	{
		title: "allowed: a SHA-256",
		body:  map[string]any{"topic": "job.demo.hash", "prompt": "hash it", "context": map[string]any{"text": "abc"}},
		state: "SUCCEEDED", decision: "ALLOW", result: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
	},
	{
		title: "constrained: wait a little, with a limit on its run time",
		body:  map[string]any{"topic": "job.demo.sleep", "prompt": "wait", "context": map[string]any{"ms": 2500, "steps": 5}},
		state: "SUCCEEDED", decision: "ALLOW_WITH_CONSTRAINTS",
	},
	{
		title: "denied: the policy forbids it, and suggests another way",
		body:  map[string]any{"topic": "job.demo.wipe", "prompt": "delete everything"},
		state: "DENIED", decision: "DENY", code: "safety_denied", remediated: `"words":2`,
	},
	{
		title: "approved: a write to production waits for a human, who lets it run",
		body: map[string]any{
			"topic": "job.demo.hash", "prompt": "write it down", "risk_tags": []string{"write"}, "labels": map[string]string{"env": "prod"},
			"context": map[string]any{"text": "abc"},
		},
		state: "SUCCEEDED", decision: "ALLOW", approve: true, result: "ba7816bf8f01cfea",
	},
	{
		title: "denied: a secret may not reach the network",
		body: map[string]any{
			"topic": "job.demo.fetch", "prompt": "fetch", "context": map[string]any{"url": "http://localhost/", "token": "secret://vault/key"},
		},
		state: "DENIED", decision: "DENY", code: "safety_denied",
	},
	{
		title: "failed: the worker says so, and a dead letter keeps it",
		body: map[string]any{
			"topic": "job.demo.fail", "prompt": "fail", "context": map[string]any{"code": "out_of_paper", "message": "the printer has no paper"},
		},
		state: "FAILED", decision: "ALLOW", code: "out_of_paper",
	},
	{
		title: "cancelled: a long job, stopped while it runs",
		body:  map[string]any{"topic": "job.demo.sleep", "prompt": "wait", "context": map[string]any{"ms": 60000, "steps": 60}},
		state: "CANCELLED", decision: "ALLOW_WITH_CONSTRAINTS", cancel: true,
	},
	{
		title: "unroutable: allowed, but no pool of that name takes the topic",
		body: map[string]any{
			"topic": "job.demo.hash", "prompt": "hash it", "labels": map[string]string{"preferred_pool": "gpu"},
		},
		state: "FAILED", decision: "ALLOW", code: "no_pool_mapping",
	},
}

// Run plays every scene and fails when one ends otherwise than it should.
func (c *demoCmd) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	plane := &client.Client{Base: c.URL, Key: c.Key, Tenant: localTenant}
	if !healthy(ctx, c.URL) {
		dev := &devCmd{HTTP: "localhost:0", GRPC: "localhost:0", Memory: true, Worker: true}
		l, err := dev.start(ctx, os.Stderr)
		if err != nil {
			return err
		}
		defer l.close()
		plane.Base, plane.Key = "http://"+l.http.Addr().String(), or(l.key, c.Key)
		say("", "started a plane on %s, gRPC on %s, with a worker of pool \"demo\" connected over gRPC", plane.Base, l.grpc.Addr())
	} else {
		say("", "using the plane that runs on %s", c.URL)
	}
	if err := workersReady(ctx, plane); err != nil {
		return err
	}
	printer, err := newLateServer()
	if err != nil {
		return err
	}
	defer printer.close()
	live, err := follow(ctx, plane)
	if err != nil {
		return fmt.Errorf("live stream: %w", err)
	}
	defer live.close()
	say("", "listening to ws%s/api/v1/stream; its frames are marked ⇠", strings.TrimPrefix(plane.Base, "http"))
	wrong, all := 0, scenes(printer)
	for i, s := range all {
		fmt.Printf("\n%s %s\n", bold(fmt.Sprintf("%d/%d", i+1, len(all)+1)), bold(s.title))
		if err := s.play(ctx, plane, live); err != nil {
			wrong++
			say(red("✗"), "%v", err)
		}
	}
	fmt.Printf("\n%s %s\n", bold(fmt.Sprintf("%d/%d", len(all)+1, len(all)+1)), bold("workflow: count three texts two at a time, ask a human, hash"))
	if err := playWorkflow(ctx, plane); err != nil {
		wrong++
		say(red("✗"), "%v", err)
	}
	fmt.Println()
	if wrong > 0 {
		return fmt.Errorf("%d of %d scenes did not end as they should", wrong, len(all)+1)
	}
	say(green("✓"), "all %d scenes ended as they should", len(all)+1)
	return nil
}

// feed keeps what the live stream says of each job until somebody asks for it.
type feed struct {
	stream *client.Stream
	mu     sync.Mutex
	jobs   map[string]chan client.Frame
	ended  chan error
}

func follow(ctx context.Context, c *client.Client) (*feed, error) {
	s, err := c.Stream(ctx)
	if err != nil {
		return nil, err
	}
	f := &feed{stream: s, jobs: map[string]chan client.Frame{}, ended: make(chan error, 1)}
	go func() {
		for {
			frame, err := s.Next(ctx)
			if err != nil {
				f.ended <- err
				return
			}
			if frame.JobID == "" {
				continue
			}
			select {
			case f.of(frame.JobID) <- frame:
			default: // a job of somebody else, which nobody reads
			}
		}
	}()
	return f, nil
}

func (f *feed) of(job string) chan client.Frame {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.jobs[job] == nil {
		f.jobs[job] = make(chan client.Frame, 200)
	}
	return f.jobs[job]
}

func (f *feed) close() { f.stream.Close() }

// watch shows the frames of a job until the one of its end.
func (f *feed) watch(ctx context.Context, job string, seen func(client.Frame) error) error {
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the stream says no end of job %s: %w", job, ctx.Err())
		case err := <-f.ended:
			return fmt.Errorf("live stream: %w", err)
		case frame := <-f.of(job):
			say("⇠", "%s", live(frame))
			if frame.Kind == "jobResult" {
				return nil
			}
			if err := seen(frame); err != nil {
				return err
			}
		}
	}
}

func live(f client.Frame) string {
	switch f.Kind {
	case "jobProgress":
		return fmt.Sprintf("%s %s %3d%%  %s", f.Kind, bar(f.Percent), f.Percent, f.Message)
	case "jobResult":
		return fmt.Sprintf("%s %s by %s%s", f.Kind, bold(f.Status), f.Sender, grey(because(f.Error)))
	default:
		return f.Kind + " by " + f.Sender
	}
}

func (s scene) play(ctx context.Context, c *client.Client, live *feed) error {
	began := time.Now()
	r, err := c.Submit(ctx, s.body)
	if err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	say("→", "POST /jobs %s", grey(string(must(json.Marshal(s.body)))))
	say("←", "job %s is %s%s", r.JobID, bold(r.Status), grey(because(r.Reason)))
	if s.approve {
		if err := approve(ctx, c, r.JobID); err != nil {
			return err
		}
	}
	cancelled := false
	err = live.watch(ctx, r.JobID, func(f client.Frame) error {
		if !s.cancel || cancelled || f.Kind != "jobProgress" {
			return nil
		}
		cancelled = true
		say("→", "POST /jobs/%s/cancel", r.JobID)
		return c.Cancel(ctx, r.JobID)
	})
	if err != nil {
		return err
	}
	j, err := c.Get(ctx, r.JobID)
	if err != nil {
		return err
	}
	tell(j, time.Since(began))
	switch err := s.judge(j); {
	case err != nil:
		return err
	case s.mend != nil:
		return s.again(ctx, c, live, r.JobID)
	case s.remediated != "":
		return s.instead(ctx, c, live, r.JobID)
	}
	return nil
}

// approve finds the job among those that wait for a human, and lets it run.
func approve(ctx context.Context, c *client.Client, id string) error {
	waiting, err := c.Approvals(ctx)
	if err != nil {
		return err
	}
	n := slices.IndexFunc(waiting, func(a client.Approval) bool { return a.JobID == id })
	if n < 0 {
		return fmt.Errorf("job %s is not among the approvals", id)
	}
	say("←", "GET /approvals: %s%s", waiting[n].Rule, grey(because(waiting[n].Reason)))
	say("→", "POST /approvals/%s/approve", id)
	return c.Approve(ctx, id, "looked at it")
}

// instead has the policy's suggestion submitted.
func (s scene) instead(ctx context.Context, c *client.Client, live *feed, id string) error {
	began := time.Now()
	say("→", "POST /jobs/%s/remediate", id)
	r, err := c.Remediate(ctx, id)
	if err != nil {
		return fmt.Errorf("remediate: %w", err)
	}
	s.result = s.remediated
	return s.follows(ctx, c, live, r, began)
}

// follows waits for the job that came of another one, which must succeed.
func (s scene) follows(ctx context.Context, c *client.Client, live *feed, r client.Receipt, began time.Time) error {
	say("←", "job %s is %s%s", r.JobID, bold(r.Status), grey(because(r.Reason)))
	if err := live.watch(ctx, r.JobID, func(client.Frame) error { return nil }); err != nil {
		return err
	}
	j, err := c.Get(ctx, r.JobID)
	if err != nil {
		return err
	}
	tell(j, time.Since(began))
	s.state, s.decision, s.code = "SUCCEEDED", j.Decision, ""
	return s.judge(j)
}

// again mends what the job failed of, and sends it again from the dead letters.
func (s scene) again(ctx context.Context, c *client.Client, live *feed, id string) error {
	letters, err := c.DeadLetters(ctx)
	if err != nil {
		return err
	}
	n := slices.IndexFunc(letters, func(l client.DeadLetter) bool { return l.JobID == id })
	if n < 0 {
		return fmt.Errorf("job %s has no dead letter", id)
	}
	say("←", "GET /dlq/page: %s, last worker %s", letters[n].ReasonCode, letters[n].LastWorker)
	if err := s.mend(); err != nil {
		return err
	}
	began := time.Now()
	r, err := c.Retry(ctx, id)
	if err != nil {
		return fmt.Errorf("retry: %w", err)
	}
	say("→", "POST /dlq/%s/retry", id)
	s.result = s.retried
	return s.follows(ctx, c, live, r, began)
}

// tell shows how a job ended.
func tell(j client.Job, took time.Duration) {
	say(mark(j.State), "%s after %s, %d attempt(s), decision %s by rule %q%s", bold(j.State),
		took.Round(time.Millisecond), j.Attempts, j.Decision, j.Rule, grey(because(j.Reason)))
	if j.ErrorCode != "" {
		say(" ", "dead letter: %s: %s", j.ErrorCode, j.ErrorMessage)
	}
	if len(j.Result) > 0 && string(j.Result) != "null" {
		say(" ", "result: %s", grey(short(string(j.Result))))
	}
	if len(j.Constraints) > 0 && string(j.Constraints) != "null" {
		say(" ", "constraints: %s", grey(short(string(j.Constraints))))
	}
}

func (s scene) judge(j client.Job) error {
	compact := strings.NewReplacer(" ", "", "\n", "").Replace(string(j.Result))
	switch {
	case j.State != s.state:
		return fmt.Errorf("ended %s, not %s", j.State, s.state)
	case j.Decision != s.decision:
		return fmt.Errorf("decision %s, not %s", j.Decision, s.decision)
	case j.ErrorCode != s.code:
		return fmt.Errorf("error code %q, not %q", j.ErrorCode, s.code)
	case !strings.Contains(compact, s.result):
		return fmt.Errorf("the result lacks %s", s.result)
	}
	return nil
}

// workersReady waits until a worker is there, so that the demo shows jobs and not waiting.
func workersReady(ctx context.Context, c *client.Client) error {
	for {
		var workers []struct {
			ID   string `json:"worker_id"`
			Pool string `json:"pool"`
		}
		if err := c.Do(ctx, http.MethodGet, "/workers", nil, &workers); err != nil {
			return err
		}
		for _, w := range workers {
			if w.Pool == "demo" {
				say("", "worker %s serves pool %s", w.ID, w.Pool)
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errors.New("no worker of pool \"demo\" came; start one with: cordum-local work")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func healthy(ctx context.Context, base string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/health", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

func say(mark, format string, args ...any) {
	fmt.Printf("  %s %s\n", or(mark, " "), fmt.Sprintf(format, args...))
}

func mark(state string) string {
	switch state {
	case "SUCCEEDED":
		return green("✓")
	case "CANCELLED":
		return "■"
	default:
		return red("■")
	}
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

func bar(percent int) string {
	n := max(min(percent/5, 20), 0)
	return strings.Repeat("█", n) + strings.Repeat("░", 20-n)
}

func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 160 {
		return s[:157] + "..."
	}
	return s
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// colour only where a person looks
var colour = func() bool {
	info, err := os.Stdout.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}()

func paint(code, s string) string {
	if !colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func bold(s string) string  { return paint("1", s) }
func grey(s string) string  { return paint("90", s) }
func red(s string) string   { return paint("31", s) }
func green(s string) string { return paint("32", s) }
