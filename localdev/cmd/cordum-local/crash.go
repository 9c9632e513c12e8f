package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/cordum-serverless/cordum/localdev/client"
	"github.com/cordum-serverless/cordum/localdev/skills"
	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
)

// crashCmd kills a plane that is under load, again and again, and judges whether it kept what it acknowledged.
type crashCmd struct {
	Rounds int           `default:"50" help:"How often the plane is killed."`
	Seed   uint64        `help:"Seed of what is asked and when the plane is killed; 0 takes a new one."`
	Load   int           `default:"4" help:"How many clients ask at one time."`
	Settle time.Duration `default:"150s" help:"How long jobs may take to end after the last restart."`
	Brief  bool          `help:"Short deadlines for all jobs, and workers that always come back, so that all have ended soon after the last round."`
}

// Run is the whole trial. What it finds wrong is its error; then the data stays.
func (c *crashCmd) Run(ctx context.Context) error {
	if c.Rounds < 1 || c.Load < 1 {
		return fmt.Errorf("--rounds is %d and --load is %d; both must be at least 1", c.Rounds, c.Load)
	}
	c.Seed = cmp.Or(c.Seed, rand.Uint64N(1_000_000))
	dir, err := os.MkdirTemp("", "cordum-crash-")
	if err != nil {
		return err
	}
	err = c.try(ctx, dir)
	if err == nil || ctx.Err() != nil {
		return errors.Join(ctx.Err(), os.RemoveAll(dir))
	}
	return fmt.Errorf("%w\nthe data and the plane's log stay in %s; this was --seed %d", err, dir, c.Seed)
}

func (c *crashCmd) try(ctx context.Context, dir string) error {
	log, err := os.Create(filepath.Join(dir, "log.txt"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // for people, who look at it when something is wrong
	t := &trial{cmd: c, dir: dir, log: log, rng: c.random(0), steady: make(chan struct{}), rec: newRecorder()}
	if t.http, t.grpc, err = quietPorts(); err != nil {
		return err
	}
	t.client = &client.Client{Base: "http://" + t.http, Key: localKey, Tenant: localTenant, HTTP: &http.Client{
		Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
	}}
	fmt.Printf("  killing a plane %d times under the load of %d clients; seed %d\n\n", c.Rounds, c.Load, c.Seed)
	return t.run(ctx)
}

// random is a source of its own for each of those who throw dice: what one does changes nothing for the others.
func (c *crashCmd) random(stream int) *rand.Rand {
	return rand.New(rand.NewPCG(c.Seed, uint64(stream)))
}

// quietPorts answers two free addresses outside the range from which systems take the ports of outgoing connections: none of the clients that
// dial while the plane is down can be given the plane's own.
func quietPorts() (a, b string, err error) {
	var free []string
	for range 1000 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+rand.IntN(20_000)))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		_ = l.Close() // only its number is wanted
		if free = append(free, addr); len(free) == 2 && free[0] != free[1] {
			return free[0], free[1], nil
		}
	}
	return "", "", errors.New("no two free ports between 10000 and 30000 on 127.0.0.1")
}

// trial is a plane that is killed, those who use it, and what they were told.
type trial struct {
	cmd        *crashCmd
	dir        string
	log        *os.File
	http, grpc string
	client     *client.Client
	rng        *rand.Rand
	rec        *recorder
	// steady is closed when nobody dies any more.
	steady chan struct{}
	usual  time.Duration // how long the plane took to serve, the last time
}

// Numbers of a trial.
const (
	inProcess   = 3 // workers of this process; one more has a process of its own
	slots       = 16
	settlePause = 250 * time.Millisecond
	readers     = 8
)

func (t *trial) run(ctx context.Context) error {
	all, dismiss := context.WithCancel(ctx)
	var staff sync.WaitGroup
	defer staff.Wait()
	defer dismiss()
	for i := range inProcess {
		staff.Go(func() { t.employ(all, fmt.Sprintf("crash-worker-%d", i+1), t.cmd.random(100+i)) })
	}
	staff.Go(func() { t.employMortal(all, t.cmd.random(200)) })
	staff.Go(func() { t.listen(all) })

	calling, hangUp := context.WithCancel(ctx)
	var callers sync.WaitGroup
	defer callers.Wait()
	defer hangUp()
	for i := range t.cmd.Load {
		callers.Go(func() { t.call(calling, i, t.cmd.random(300+i)) })
	}
	for n := range t.cmd.Rounds {
		if err := t.round(ctx, n+1); err != nil {
			return err
		}
	}
	hangUp()
	callers.Wait()

	plane, err := t.start(ctx)
	if err != nil {
		return err
	}
	defer plane.kill()
	if _, err := t.serving(ctx, plane); err != nil {
		return err
	}
	close(t.steady)
	if err := t.settle(ctx); err != nil {
		return err
	}
	f, err := t.readAll(ctx)
	if err != nil {
		return err
	}
	return t.conclude(ctx, f)
}

// round starts the plane and kills it: while it starts, or while it serves.
func (t *trial) round(ctx context.Context, n int) error {
	plane, err := t.start(ctx)
	if err != nil {
		return err
	}
	defer plane.kill()
	var how string
	if t.rng.IntN(6) == 0 {
		after := time.Duration(t.rng.Int64N(int64(cmp.Or(t.usual, 100*time.Millisecond))))
		rest(ctx, after)
		how = fmt.Sprintf("killed %4d ms after its start", after.Milliseconds())
	} else {
		if t.usual, err = t.serving(ctx, plane); err != nil {
			return err
		}
		after := 50*time.Millisecond + time.Duration(t.rng.Int64N(int64(1950*time.Millisecond)))
		rest(ctx, after)
		how = fmt.Sprintf("served after %4d ms, killed %4d ms later", t.usual.Milliseconds(), after.Milliseconds())
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if plane.ended() {
		return fmt.Errorf("round %d: the plane ended by itself: %s", n, plane.cmd.ProcessState)
	}
	plane.kill()
	fmt.Printf("  round %2d/%d  %-44s acknowledged: %s\n", n, t.cmd.Rounds, how, t.rec.sum())
	return nil
}

// victim is a plane in a process of its own.
type victim struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has gone
}

func (t *trial) start(ctx context.Context) (*victim, error) {
	v := &victim{done: make(chan struct{})}
	var err error
	v.cmd, err = t.program(ctx, "dev", "--http", t.http, "--grpc", t.grpc, "--data", filepath.Join(t.dir, "data"), "--no-worker")
	if err != nil {
		return nil, err
	}
	if err := v.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = v.cmd.Wait() // how it ended is in its state
		close(v.done)
	}()
	return v, nil
}

// program is this program in another role. It is killed when ctx ends, and knows nothing of settings in our environment.
func (t *trial) program(ctx context.Context, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = []string{"API_RATE_LIMIT_RPS=1000000", "API_RATE_LIMIT_BURST=1000000"}
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.Stderr, cmd.Stdout = t.log, io.Discard
	return cmd, nil
}

// kill is kill -9. Killing again does nothing.
func (v *victim) kill() {
	_ = v.cmd.Process.Kill() // it may have gone
	<-v.done
}

func (v *victim) ended() bool {
	select {
	case <-v.done:
		return true
	default:
		return false
	}
}

// serving waits until the plane answers and says how long that took.
func (t *trial) serving(ctx context.Context, v *victim) (time.Duration, error) {
	began := time.Now()
	for time.Since(began) < 30*time.Second {
		switch {
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case v.ended():
			return 0, fmt.Errorf("the plane does not start again: %s", v.cmd.ProcessState)
		case healthy(ctx, t.client.Base):
			return time.Since(began), nil
		}
		rest(ctx, 5*time.Millisecond)
	}
	return 0, errors.New("the plane does not serve again within 30 s")
}

// rest waits, at most until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// settle waits until every job has ended, or for as long as that may take: then the judge says which have not.
func (t *trial) settle(ctx context.Context) error {
	began := time.Now()
	for time.Since(began) < t.cmd.Settle {
		busy, err := t.busy(ctx)
		if err != nil {
			return fmt.Errorf("read jobs after the last restart: %w", err)
		}
		if !busy {
			fmt.Printf("\n  every job has ended %.1f s after the last restart\n", time.Since(began).Seconds())
			return nil
		}
		rest(ctx, settlePause)
	}
	fmt.Printf("\n  not every job has ended %.0f s after the last restart\n", t.cmd.Settle.Seconds())
	return nil
}

// busy says whether there is a job that has not ended.
func (t *trial) busy(ctx context.Context) (bool, error) {
	for _, state := range []string{"PENDING", "APPROVAL_REQUIRED", "SCHEDULED", "DISPATCHED", "RUNNING"} {
		var page struct {
			Items []listed `json:"items"`
		}
		err := t.client.Do(ctx, http.MethodGet, "/jobs?limit=1&state="+state, nil, &page)
		if err != nil || len(page.Items) > 0 {
			return true, err
		}
	}
	return false, nil
}

// readAll reads every job twice, some time apart, and between that all lists. The workers go on meanwhile.
func (t *trial) readAll(ctx context.Context) (*facts, error) {
	before, err := pages[listed](ctx, t.client, "/jobs")
	if err != nil {
		return nil, fmt.Errorf("list the jobs: %w", err)
	}
	known := t.rec.freeze()
	known.listed = before
	first, err := t.read(ctx, known.jobs())
	if err != nil {
		return nil, err
	}
	after, err := pages[listed](ctx, t.client, "/jobs")
	if err != nil {
		return nil, fmt.Errorf("list the jobs again: %w", err)
	}
	letters, err := pages[letter](ctx, t.client, "/dlq/page")
	if err != nil {
		return nil, fmt.Errorf("list the dead letters: %w", err)
	}
	between := 6 * time.Second // a worker sends a result again after five
	if t.cmd.Brief {
		between = time.Second
	}
	rest(ctx, between)
	f := t.rec.freeze() // whatever anybody was told until now must hold
	f.first, f.listed, f.letters = first, after, letters
	f.second, err = t.read(ctx, f.jobs())
	return f, err
}

// pages reads a list to its end.
func pages[T any](ctx context.Context, c *client.Client, path string) ([]T, error) {
	var all []T
	for cursor := ""; ; {
		var page struct {
			Items []T    `json:"items"`
			Next  *int64 `json:"next_cursor"`
		}
		if err := c.Do(ctx, http.MethodGet, path+"?limit=500&cursor="+cursor, nil, &page); err != nil {
			return nil, err
		}
		if all = append(all, page.Items...); page.Next == nil {
			return all, nil
		}
		cursor = strconv.FormatInt(*page.Next, 10)
	}
}

// read reads jobs as they are now; one that does not exist is absent from the answer.
func (t *trial) read(ctx context.Context, ids []string) (map[string]reading, error) {
	var mu sync.Mutex
	found := make(map[string]reading, len(ids))
	errs := make([]error, readers)
	var looking sync.WaitGroup
	for n := range readers {
		looking.Go(func() {
			for i := n; i < len(ids) && errs[n] == nil; i += readers {
				r, err := t.look(ctx, ids[i])
				answer, refused := errors.AsType[*client.Error](err)
				switch {
				case refused && answer.Status == http.StatusNotFound:
				case err != nil:
					errs[n] = fmt.Errorf("read job %s: %w", ids[i], err)
				default:
					mu.Lock()
					found[ids[i]] = r
					mu.Unlock()
				}
			}
		})
	}
	looking.Wait()
	return found, errors.Join(errs...)
}

func (t *trial) look(ctx context.Context, id string) (reading, error) {
	var r reading
	err := t.client.Do(ctx, http.MethodGet, "/jobs/"+url.PathEscape(id), nil, &r)
	return r, err
}

// conclude prints the judgement; what is wrong is its error.
func (t *trial) conclude(ctx context.Context, f *facts) error {
	ends := map[string]int{}
	for _, r := range f.second {
		ends[r.State]++
	}
	fmt.Printf("  %d jobs:", len(f.second))
	for _, state := range slices.Sorted(maps.Keys(ends)) {
		fmt.Printf(" %d %s", ends[state], state)
	}
	fmt.Printf("\n  acknowledged: %s\n  without an answer, or refused: %s\n\n", t.rec.sum(), t.rec.unanswered())
	if len(f.submits) == 0 {
		return errors.New("no submission was acknowledged: the trial says nothing")
	}
	verdicts := judge(f)
	fmt.Printf("  %-52s %9s %10s\n", "rule", "looked at", "violations")
	wrong := 0
	for _, v := range verdicts {
		count := strconv.Itoa(len(v.violations))
		if len(v.violations) > 0 {
			count = red(fmt.Sprintf("%10s", count))
		}
		fmt.Printf("  %-52s %9d %10s\n", v.rule, v.looked, count)
		wrong += len(v.violations)
	}
	fmt.Println()
	if wrong == 0 {
		say(green("✓"), "the plane kept what it acknowledged")
		return nil
	}
	for _, v := range verdicts {
		for _, x := range v.violations[:min(len(v.violations), accused)] {
			t.accuse(ctx, f, x)
		}
	}
	return fmt.Errorf("%d violations; above are the histories of up to %d for each rule", wrong, accused)
}

// accused is how many violations of a rule are shown with the history of their job.
const accused = 5

func (t *trial) accuse(ctx context.Context, f *facts, v violation) {
	fmt.Printf("  %s %s\n", red("✗"), v)
	for _, line := range t.rec.history(v.job, f.second[v.job].Key) {
		fmt.Println("      ", line)
	}
	for _, path := range []string{"/jobs/" + url.PathEscape(v.job), "/jobs/" + url.PathEscape(v.job) + "/decisions"} {
		var now json.RawMessage
		if err := t.client.Do(ctx, http.MethodGet, path, nil, &now); err != nil {
			now = json.RawMessage(err.Error())
		}
		fmt.Printf("       GET %s: %s\n", path, strings.Join(strings.Fields(string(now)), " "))
	}
}

// life is a context for one life of a worker: it ends by chance after a while, and when everything becomes steady. Lives that begin after that
// last.
func (t *trial) life(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	life, end := context.WithCancel(ctx)
	select {
	case <-t.steady:
		return life, end
	default:
	}
	go func() {
		select {
		case <-t.steady:
		case <-time.After(d):
		case <-life.Done():
		}
		end()
	}()
	return life, end
}

// employ runs a worker of this process, life after life under one name. Half of them vanish without a word, the others take their leave.
func (t *trial) employ(ctx context.Context, id string, rng *rand.Rand) {
	log := slog.New(slog.NewTextHandler(t.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	for ctx.Err() == nil {
		drain := -time.Second
		if rng.IntN(2) == 0 {
			drain = time.Second
		}
		life, end := t.life(ctx, 2*time.Second+time.Duration(rng.Int64N(int64(4*time.Second))))
		w, err := worker.New(worker.Config{
			Target: t.grpc, APIKey: localWorkerKey, ID: id, Pool: "demo", MaxParallel: slots, Labels: map[string]string{"region": "local"},
			Insecure: true, Logger: log, DrainTimeout: drain, DialOptions: t.dialing(),
		})
		if err == nil {
			skills.Register(w, skills.Options{})
			err = w.Run(life)
		}
		end()
		if err != nil {
			log.Error("worker ended", "worker", id, "error", err)
			rest(ctx, settlePause)
		}
	}
}

// dialing has a worker connect as soon as the plane is back, and notes which of its results were acknowledged.
func (t *trial) dialing() []grpc.DialOption {
	quick := backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: 300 * time.Millisecond}
	return []grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: quick, MinConnectTimeout: time.Second}),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithStreamInterceptor(func(
			ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			s, err := open(ctx, desc, conn, method, opts...)
			return &overheard{s, t.rec}, err
		}),
	}
}

// overheard is a worker's stream whose acknowledgements are noted.
type overheard struct {
	grpc.ClientStream

	rec *recorder
}

// RecvMsg notes the answers to results that took effect.
func (s *overheard) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if p, ok := m.(*agentv1.BusPacket); ok && err == nil {
		if res := p.GetJobResult(); res != nil && res.GetErrorCode() == "" {
			s.rec.resulted(res.GetJobId(), stateOf(res.GetStatus().String()), res.GetWorkerId())
		}
	}
	return err
}

// stateOf is the state that a status of the wire means.
func stateOf(status string) string { return strings.TrimPrefix(status, "JOB_STATUS_") }

// employMortal runs a worker in a process of its own, which is killed, and comes back under its name or, a third of the time, never.
func (t *trial) employMortal(ctx context.Context, rng *rand.Rand) {
	for n := 1; ctx.Err() == nil; {
		life, end := t.life(ctx, 500*time.Millisecond+time.Duration(rng.Int64N(int64(4*time.Second))))
		cmd, err := t.program(life, "work", "--target", t.grpc, "--id", fmt.Sprintf("crash-mortal-%d", n), "--parallel", strconv.Itoa(slots))
		if err == nil {
			_ = cmd.Run() // killed
		}
		end()
		if rng.IntN(3) == 0 && !t.cmd.Brief {
			n++
		}
		rest(ctx, time.Duration(rng.Int64N(int64(500*time.Millisecond))))
	}
}

// listen hears the live events, and notes the ends that they tell of.
func (t *trial) listen(ctx context.Context) {
	for ctx.Err() == nil {
		t.hear(ctx)
		rest(ctx, 20*time.Millisecond)
	}
}

func (t *trial) hear(ctx context.Context) {
	opts := &websocket.DialOptions{HTTPHeader: http.Header{"X-Api-Key": {localKey}, "X-Tenant-Id": {localTenant}}}
	conn, _, err := websocket.Dial(ctx, "ws://"+t.http+"/api/v1/stream", opts) //nolint:bodyclose // the package says that it needs no closing
	if err != nil {
		return
	}
	defer func() { _ = conn.CloseNow() }() // the plane may have gone
	conn.SetReadLimit(1 << 20)
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			return
		}
		var frame struct {
			Result *struct {
				JobID  string `json:"jobId"`
				Status string `json:"status"`
			} `json:"jobResult"`
		}
		if json.Unmarshal(data, &frame) == nil && frame.Result != nil {
			t.rec.told(frame.Result.JobID, stateOf(frame.Result.Status), "a live event")
		}
	}
}

// call is one client: it asks for this and that until ctx ends.
func (t *trial) call(ctx context.Context, n int, rng *rand.Rand) {
	c := &caller{trial: t, rng: rng, name: fmt.Sprintf("c%d", n+1)}
	for ctx.Err() == nil {
		c.act(ctx)
		rest(ctx, 5*time.Millisecond+time.Duration(rng.Int64N(int64(30*time.Millisecond))))
	}
}

// caller is a client of the plane.
type caller struct {
	*trial

	rng    *rand.Rand
	name   string
	orders int
}

func (c *caller) act(ctx context.Context) {
	switch dice := c.rng.IntN(100); {
	case dice < 60:
		c.submit(ctx, c.order())
	case dice < 70:
		if o, ok := c.rec.keyed(c.rng); ok {
			c.submit(ctx, o)
		}
	case dice < 80:
		c.cancel(ctx, c.rec.recent(c.rng))
	case dice < 88:
		c.see(ctx, c.rec.recent(c.rng))
	default:
		c.bury(ctx)
	}
}

// order is a job to be submitted: what is sent, and what must come of it.
type order struct {
	body map[string]any
	key  string
	// ends are the ways in which it may end by itself: a state, with a colon and a code where it failed. nil is not known.
	ends []string
	// deadline says that it may also time out.
	deadline bool
	// want is in the result of a success.
	want string
}

// Ends by themselves of the jobs of a trial.
var (
	endsWell   = []string{"SUCCEEDED", "FAILED:worker_lost"}
	endsBadly  = []string{"FAILED:on_purpose", "FAILED:worker_lost"}
	endsDenied = []string{"DENIED:safety_denied"}
	endsAtOnce = []string{"FAILED:no_pool_mapping"}
)

// order makes up a job. Three of four have a deadline that fits the patience of the trial; two of five have a key.
func (c *caller) order() order {
	c.orders++
	nonce := fmt.Sprintf("%s-%d", c.name, c.orders)
	input, labels := map[string]any{"text": nonce}, map[string]string{}
	o := order{ends: endsWell, body: map[string]any{"topic": "job.demo.hash", "prompt": nonce, "context": input, "labels": labels}}
	switch dice := c.rng.IntN(100); {
	case dice < 50:
		o.want = fmt.Sprintf("%x", sha256.Sum256([]byte(nonce)))
	case dice < 75:
		ms := 50 + c.rng.IntN(1200)
		o.body["topic"], input["ms"], input["steps"] = "job.demo.sleep", ms, 3
		o.want, o.deadline = fmt.Sprintf(`"slept_ms":%d,`, ms), true // the policy bounds it
	case dice < 90:
		o.body["topic"], input["code"], o.ends = "job.demo.fail", "on_purpose", endsBadly
	case dice < 95:
		o.body["topic"], o.ends = "job.demo.wipe", endsDenied
	default:
		labels["preferred_pool"], o.ends = "nowhere", endsAtOnce
	}
	// a job for certain workers always has a deadline: the times between attempts to reach one double
	targeted := c.rng.IntN(20) == 0 && len(labels) == 0
	if targeted {
		labels["region"] = "local"
	}
	if c.cmd.Brief {
		o.deadline, o.body["deadline_ms"] = true, 2000+c.rng.IntN(3000)
	} else if targeted || c.rng.IntN(4) > 0 {
		o.deadline, o.body["deadline_ms"] = true, 10_000+c.rng.IntN(10_000)
	}
	if c.rng.IntN(5) < 2 {
		o.key = "key-" + nonce
		o.body["idempotency_key"] = o.key
	}
	return o
}

func (c *caller) submit(ctx context.Context, o order) {
	c.rec.ordered(o)
	r, err := c.client.Submit(ctx, o.body)
	if err != nil {
		c.rec.failed("submit", o.key, err)
		return
	}
	c.rec.submitted(o, r, c.name)
}

func (c *caller) cancel(ctx context.Context, id string) {
	if id == "" {
		return
	}
	c.rec.cancelling(id)
	var answer struct {
		State string `json:"state"`
	}
	if err := c.client.Do(ctx, http.MethodPost, "/jobs/"+url.PathEscape(id)+"/cancel", nil, &answer); err != nil {
		c.rec.failed("cancel", id, err)
		return
	}
	c.rec.cancelled(id, answer.State, c.name)
}

func (c *caller) see(ctx context.Context, id string) {
	if id == "" {
		return
	}
	r, err := c.look(ctx, id)
	if err != nil {
		c.rec.failed("read", id, err)
		return
	}
	c.rec.told(id, r.State, c.name+", who read it")
}

// bury retries or deletes one of the newest dead letters.
func (c *caller) bury(ctx context.Context) {
	var page struct {
		Items []letter `json:"items"`
	}
	if err := c.client.Do(ctx, http.MethodGet, "/dlq/page?limit=30", nil, &page); err != nil {
		c.rec.failed("list dead letters", "", err)
		return
	}
	// messages that nobody could handle lie there too; none of them is a job
	page.Items = slices.DeleteFunc(page.Items, func(l letter) bool { return strings.HasPrefix(l.JobID, "message:") })
	if len(page.Items) == 0 {
		return
	}
	l := page.Items[c.rng.IntN(len(page.Items))]
	c.rec.told(l.JobID, stateOf(l.Status), c.name+", who read its dead letter")
	c.rec.removing(l.JobID)
	if c.rng.IntN(2) == 0 {
		if err := c.client.Do(ctx, http.MethodDelete, "/dlq/"+url.PathEscape(l.JobID), nil, nil); err != nil {
			c.rec.failed("delete dead letter", l.JobID, err)
			return
		}
		c.rec.removed(l.JobID, client.Receipt{}, c.name)
		return
	}
	var r client.Receipt
	if err := c.client.Do(ctx, http.MethodPost, "/dlq/"+url.PathEscape(l.JobID)+"/retry", nil, &r); err != nil {
		c.rec.failed("retry dead letter", l.JobID, err)
		return
	}
	c.rec.removed(l.JobID, r, c.name)
}

// recorder notes what everybody asks and is told.
type recorder struct {
	mu     sync.Mutex
	began  time.Time
	facts  facts
	notes  map[string][]string // by job, or by key where the job is not known
	ids    []string            // acknowledged jobs, in order
	orders map[string]order    // by job
	keys   []order             // the last ones that had a key
	errors map[string]int
}

func newRecorder() *recorder {
	return &recorder{
		began: time.Now(), notes: map[string][]string{}, orders: map[string]order{}, errors: map[string]int{},
		facts: facts{cancelling: map[string]bool{}, removing: map[string]bool{}},
	}
}

// note adds a line to a job's history. The caller holds r.mu.
func (r *recorder) note(job, format string, args ...any) {
	r.notes[job] = append(r.notes[job], fmt.Sprintf("%8.3f s  ", time.Since(r.began).Seconds())+fmt.Sprintf(format, args...))
}

// history is all that is known of a job and of its key.
func (r *recorder) history(job, key string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := slices.Clone(r.notes[job])
	if key != "" {
		lines = append(lines, r.notes[key]...)
	}
	slices.Sort(lines)
	return lines
}

// freeze answers the facts as they are now.
func (r *recorder) freeze() *facts {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.facts // its slices only grow, and its maps change no more once the clients have gone
	return &f
}

// sum says how much was acknowledged so far.
func (r *recorder) sum() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := &r.facts
	return fmt.Sprintf("%d submissions, %d results, %d cancels, %d dead letters removed", len(f.submits), len(f.results), len(f.cancels), len(f.removed))
}

// unanswered says what got no good answer.
func (r *recorder) unanswered() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(r.errors)) {
		parts = append(parts, fmt.Sprintf("%d %s", r.errors[what], what))
	}
	return or(strings.Join(parts, ", "), "nothing")
}

// failed notes a request that was not acknowledged: the plane may have done it.
func (r *recorder) failed(what, job string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kind := what
	if answer, ok := errors.AsType[*client.Error](err); ok {
		kind += fmt.Sprintf(" (HTTP %d)", answer.Status)
	}
	r.errors[kind]++
	if job != "" {
		r.note(job, "%s: not acknowledged: %v", what, err)
	}
}

// ordered makes the key of an order known, so that others use it too, whether or not there was an answer.
func (r *recorder) ordered(o order) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.key != "" && !slices.ContainsFunc(r.keys, func(k order) bool { return k.key == o.key }) {
		r.keys = append(r.keys, o)
	}
	if len(r.keys) > 100 {
		r.keys = r.keys[1:]
	}
}

// keyed answers an order of before whose key is used again.
func (r *recorder) keyed(rng *rand.Rand) (order, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.keys) == 0 {
		return order{}, false
	}
	return r.keys[rng.IntN(len(r.keys))], true
}

// recent answers one of the last acknowledged jobs; "" when there is none.
func (r *recorder) recent(rng *rand.Rand) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.ids[max(len(r.ids)-60, 0):]
	if len(last) == 0 {
		return ""
	}
	return last[rng.IntN(len(last))]
}

func (r *recorder) submitted(o order, to client.Receipt, by string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := strings.ToUpper(to.Status)
	r.note(to.JobID, "%s submitted it (key %q): acknowledged, it is %s", by, o.key, state)
	r.accept(o, to.JobID, state, "the answer to its submission")
}

// accept notes an acknowledged job. The caller holds r.mu.
func (r *recorder) accept(o order, id, state, where string) {
	r.facts.submits = append(r.facts.submits, submitted{job: id, order: o})
	r.orders[id] = o
	r.ids = append(r.ids, id)
	r.end(id, state, where)
}

// end notes an end that somebody was told of. The caller holds r.mu.
func (r *recorder) end(id, state, where string) {
	if terminal(state) {
		r.facts.told = append(r.facts.told, ending{id, state, where})
	}
}

func (r *recorder) told(id, state, where string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(id, "%s: it is %s", where, state)
	r.end(id, state, where)
}

func (r *recorder) resulted(id, state, by string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(id, "worker %s: result %s acknowledged", by, state)
	r.facts.results = append(r.facts.results, ending{id, state, "worker " + by})
}

func (r *recorder) cancelling(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.facts.cancelling[id] = true
}

func (r *recorder) cancelled(id, state, by string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(id, "%s cancelled it: acknowledged, it is %s", by, state)
	r.facts.cancels = append(r.facts.cancels, ending{id, state, by + ", who cancelled it"})
}

func (r *recorder) removing(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.facts.removing[id] = true
}

// removed notes a dead letter that was retried or, without a new job, deleted.
func (r *recorder) removed(id string, retry client.Receipt, by string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.facts.removed = append(r.facts.removed, removal{id, retry.JobID})
	if retry.JobID == "" {
		r.note(id, "%s deleted its dead letter: acknowledged", by)
		return
	}
	state := strings.ToUpper(retry.Status)
	r.note(id, "%s retried it: acknowledged, as %s", by, retry.JobID)
	r.note(retry.JobID, "%s retried %s: acknowledged, it is %s", by, id, state)
	o := r.orders[id]
	o.key = ""
	r.accept(o, retry.JobID, state, "the answer to the retry")
}

// facts are what clients and workers were told, and what was read when everything was over. The judge knows nothing else.
type facts struct {
	submits []submitted
	// told are ends that somebody read or heard of, results those whose acknowledgement reached the worker, cancels the answers to cancels.
	told, results, cancels []ending
	removed                []removal
	// cancelling and removing are jobs that somebody asked to cancel, and dead letters that somebody asked to remove, answered or not.
	cancelling, removing map[string]bool
	// first and second are two readings of every job, some time apart.
	first, second map[string]reading
	listed        []listed
	letters       []letter
}

// submitted is an acknowledged submission.
type submitted struct {
	job string
	order
}

// ending is a state that somebody was told of, and who that was.
type ending struct{ job, state, where string }

// removal is a dead letter that went: deleted, or retried as another job.
type removal struct{ job, as string }

// reading is what GET /jobs/{id} says.
type reading struct {
	State     string          `json:"state"`
	Code      string          `json:"error_code"`
	Key       string          `json:"idempotency_key"`
	UpdatedAt int64           `json:"updated_at"`
	Result    json.RawMessage `json:"result"`
}

// listed is what GET /jobs says of a job, letter what GET /dlq/page says of a dead letter.
type (
	listed struct {
		ID    string `json:"id"`
		State string `json:"state"`
		Key   string `json:"idempotency_key"`
	}
	letter struct {
		JobID  string `json:"job_id"`
		Status string `json:"status"`
	}
)

// jobs are all whose names anybody has heard.
func (f *facts) jobs() []string {
	known := map[string]bool{}
	for _, s := range f.submits {
		known[s.job] = true
	}
	for _, l := range f.listed {
		known[l.ID] = true
	}
	for _, e := range slices.Concat(f.told, f.results, f.cancels) {
		known[e.job] = true
	}
	return slices.Sorted(maps.Keys(known))
}

// distinct are the submissions without those that repeat a key.
func (f *facts) distinct() []submitted {
	seen := map[string]bool{}
	var out []submitted
	for _, s := range f.submits {
		if !seen[s.job] {
			seen[s.job] = true
			out = append(out, s)
		}
	}
	return out
}

// ended are the jobs that had ended when they were read first: what the lists say, which were read after that, must agree with them.
func (f *facts) ended() []string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(f.first)) {
		if terminal(f.first[id].State) {
			ids = append(ids, id)
		}
	}
	return ids
}

// terminal says whether a state is an end.
func terminal(state string) bool { return client.Job{State: state}.Ended() }

// violation is a broken promise.
type violation struct{ rule, job, text string }

func (v violation) String() string { return fmt.Sprintf("%s: job %s %s", v.rule, v.job, v.text) }

// verdict is what the judge says about one rule: how much it looked at, and what was wrong.
type verdict struct {
	rule       string
	looked     int
	violations []violation
}

func (v *verdict) wrong(job, format string, args ...any) {
	v.violations = append(v.violations, violation{v.rule, job, fmt.Sprintf(format, args...)})
}

// rules are what a plane promises.
var rules = []struct {
	name  string
	check func(*facts, *verdict)
}{
	{"what was acknowledged exists", checkThere},
	{"every job has ended", checkEnded},
	{"an end stays as it is", checkFinal},
	{"an end that somebody was told of holds", func(f *facts, v *verdict) { f.hold(v, f.told) }},
	{"an acknowledged result holds", func(f *facts, v *verdict) { f.hold(v, f.results) }},
	{"an acknowledged cancel holds", checkCancels},
	{"a job ends in a way that it may", checkWays},
	{"a success has its result", checkResults},
	{"what failed has a dead letter, what succeeded none", checkLetters},
	{"a dead letter that was removed stays away", checkRemoved},
	{"a dead letter is retried once", checkRetries},
	{"a key is one job", checkKeys},
	{"a job is listed once, as it is", checkLists},
}

// judge says which promises were kept. It is a pure function of the facts.
func judge(f *facts) []verdict {
	verdicts := make([]verdict, len(rules))
	for i, r := range rules {
		verdicts[i].rule = r.name
		r.check(f, &verdicts[i])
	}
	return verdicts
}

func checkThere(f *facts, v *verdict) {
	for _, id := range f.jobs() {
		v.looked++
		if _, ok := f.second[id]; !ok {
			v.wrong(id, "does not exist")
		}
	}
}

func checkEnded(f *facts, v *verdict) {
	for _, id := range slices.Sorted(maps.Keys(f.second)) {
		v.looked++
		if r := f.second[id]; !terminal(r.State) {
			v.wrong(id, "is still %s", r.State)
		}
	}
}

func checkFinal(f *facts, v *verdict) {
	for _, id := range f.ended() {
		was, is := f.first[id], f.second[id]
		v.looked++
		if was.way() != is.way() || was.UpdatedAt != is.UpdatedAt {
			v.wrong(id, "was %s (updated at %d), and then %s (updated at %d)", was.way(), was.UpdatedAt, is.way(), is.UpdatedAt)
		}
	}
}

// way is how a job ended: its state, and the code of a failure.
func (r reading) way() string {
	if r.State == "FAILED" || r.State == "DENIED" {
		return r.State + ":" + r.Code
	}
	return r.State
}

// hold checks that jobs are in the end what somebody was told that they are.
func (f *facts) hold(v *verdict, said []ending) {
	for _, e := range said {
		v.looked++
		if is := f.second[e.job].State; is != e.state {
			v.wrong(e.job, "is %q; %s was told that it is %s", is, e.where, e.state)
		}
	}
}

func checkCancels(f *facts, v *verdict) {
	f.hold(v, f.cancels)
	for _, e := range f.cancels {
		if !terminal(e.state) {
			v.wrong(e.job, "was cancelled, and the answer was that it is %s", e.state)
		}
	}
}

func checkWays(f *facts, v *verdict) {
	for _, s := range f.distinct() {
		r, ok := f.second[s.job]
		if !ok || s.ends == nil || !terminal(r.State) {
			continue
		}
		v.looked++
		may := slices.Contains(s.ends, r.way()) || r.State == "TIMEOUT" && s.deadline || r.State == "CANCELLED" && f.cancelling[s.job]
		if !may {
			v.wrong(s.job, "ended %s; it may end %s (deadline %v, cancel asked for %v)",
				r.way(), strings.Join(s.ends, " or "), s.deadline, f.cancelling[s.job])
		}
	}
}

func checkResults(f *facts, v *verdict) {
	for _, s := range f.distinct() {
		r := f.second[s.job]
		if r.State != "SUCCEEDED" || s.ends == nil {
			continue
		}
		v.looked++
		text := strings.NewReplacer(" ", "", "\n", "").Replace(string(r.Result))
		if !strings.Contains(text, s.want) {
			v.wrong(s.job, "succeeded with the result %s, which lacks %s", or(text, "(none)"), s.want)
		}
	}
}

func checkLetters(f *facts, v *verdict) {
	there := map[string]bool{}
	for _, l := range f.letters {
		there[l.JobID] = true
	}
	for _, id := range f.ended() {
		v.looked++
		switch r := f.second[id]; r.State {
		case "FAILED", "TIMEOUT", "DENIED":
			if !there[id] && !f.removing[id] {
				v.wrong(id, "is %s and has no dead letter, though nobody removed it", r.State)
			}
		case "SUCCEEDED":
			if there[id] {
				v.wrong(id, "succeeded and has a dead letter")
			}
		}
	}
}

func checkRemoved(f *facts, v *verdict) {
	there := map[string]bool{}
	for _, l := range f.letters {
		there[l.JobID] = true
	}
	for _, r := range f.removed {
		v.looked++
		if there[r.job] {
			v.wrong(r.job, "has a dead letter, which was deleted or retried (as %q)", r.as)
		}
	}
}

func checkRetries(f *facts, v *verdict) {
	retries := map[string]map[string]bool{}
	add := func(job, as string) {
		if retries[job] == nil {
			retries[job] = map[string]bool{}
		}
		retries[job][as] = true
	}
	for _, r := range f.removed {
		if r.as != "" {
			add(r.job, r.as)
		}
	}
	for _, l := range f.listed {
		if i := strings.LastIndex(l.ID, "-retry-"); i >= 0 {
			add(l.ID[:i], l.ID)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(retries)) {
		v.looked++
		if as := slices.Sorted(maps.Keys(retries[id])); len(as) > 1 {
			v.wrong(id, "was retried %d times: as %s", len(as), strings.Join(as, ", "))
		}
	}
}

func checkKeys(f *facts, v *verdict) {
	owners := map[string]map[string]bool{}
	add := func(key, job string) {
		if key == "" {
			return
		}
		if owners[key] == nil {
			owners[key] = map[string]bool{}
		}
		owners[key][job] = true
	}
	for _, s := range f.submits {
		add(s.key, s.job)
		if r, ok := f.second[s.job]; ok && s.key != "" && r.Key != s.key {
			v.wrong(s.job, "has the key %q, not %q", r.Key, s.key)
		}
	}
	for _, l := range f.listed {
		add(l.Key, l.ID)
	}
	for _, key := range slices.Sorted(maps.Keys(owners)) {
		v.looked++
		if jobs := slices.Sorted(maps.Keys(owners[key])); len(jobs) > 1 {
			v.wrong(jobs[0], "is not alone with the key %q: %s", key, strings.Join(jobs, ", "))
		}
	}
}

func checkLists(f *facts, v *verdict) {
	states, times := map[string]string{}, map[string]int{}
	for _, l := range f.listed {
		states[l.ID] = l.State
		times[l.ID]++
	}
	for _, id := range f.ended() {
		v.looked++
		if is := f.second[id].State; times[id] != 1 || states[id] != is {
			v.wrong(id, "is %s; it is listed %d times, as %q", is, times[id], states[id])
		}
	}
	letters := map[string]bool{}
	for _, l := range f.letters {
		if letters[l.JobID] {
			v.wrong(l.JobID, "has two dead letters in the list")
		}
		letters[l.JobID] = true
	}
}
