package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordum-serverless/cordum/localdev/client"
	"github.com/cordum-serverless/cordum/localdev/demoworker"
)

type benchCmd struct {
	Duration time.Duration `default:"4s" help:"How long each figure is measured."`
	Only     string        `placeholder:"NAME" help:"Run only benchmarks whose name contains this: ${benchmarks}."`
	Jobs     int           `default:"1000000" help:"How many jobs there are when lists are measured."`
	Dead     int           `default:"100000" help:"How many dead letters there are when their list is measured."`
	Due      int           `default:"100000" help:"How many jobs are due when a sweep is measured."`
	Sockets  int           `default:"200" help:"How many clients listen."`
	Events   int           `default:"1000" help:"How many events each of them gets."`
	Crowd    int           `default:"1000" help:"How many clients listen where there are very many; each gets a fifth of the events."`
}

type workCmd struct {
	Target   string `default:"localhost:8080" help:"The gRPC address of a plane."`
	Key      string `default:"local-worker-key" env:"CORDUM_WORKER_KEY" help:"A key of role worker."`
	ID       string `default:"demo-worker-2"`
	Parallel int    `default:"8"`
}

// Run serves jobs until it is told to stop.
func (c *workCmd) Run(ctx context.Context) error {
	w, err := demoworker.Stream(c.Target, c.Key, c.ID, c.Parallel, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

// benchmarks are what can be measured. Each has data and planes of its own.
var benchmarks = []struct {
	names []string
	run   func(*bench, context.Context) error
}{
	{[]string{"memory", "roundtrip", "submit", "get_job", "status", "evaluate"}, (*bench).requests},
	{[]string{"workflows"}, (*bench).workflows},
	{[]string{"events"}, (*bench).events},
	{[]string{"sockets"}, (*bench).sockets},
	{[]string{"crowd"}, (*bench).crowd},
	{[]string{"sweep"}, (*bench).sweep},
	{[]string{"letters"}, (*bench).letters},
	{[]string{"lists"}, (*bench).lists},
	{[]string{"decide"}, (*bench).decisions},
}

// benchmarkNames are the words that --only knows.
func benchmarkNames() string {
	var all []string
	for _, m := range benchmarks {
		all = append(all, m.names...)
	}
	return strings.Join(all, ", ")
}

// Run measures what is wanted, one after the other. A figure that cannot be trusted, such as of frames of which one is missing, is an error.
func (c *benchCmd) Run(ctx context.Context) error { return c.measure(ctx, os.Stdout) }

func (c *benchCmd) measure(ctx context.Context, out io.Writer) error {
	if min(c.Jobs, c.Dead, c.Due, c.Sockets, c.Events, c.Crowd) < 1 {
		return errors.New("--jobs, --dead, --due, --sockets, --events and --crowd must be at least 1")
	}
	b := &bench{cmd: c, out: out, client: &client.Client{Key: localKey, Tenant: localTenant, HTTP: benchHTTP()}}
	fmt.Fprintf(out, "# %s %s/%s, %d cores, embedded plane, data on disk, load generator on the same machine\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	measured := false
	for _, m := range benchmarks {
		if !slices.ContainsFunc(m.names, b.wanted) {
			continue
		}
		measured = true
		if err := m.run(b, ctx); err != nil {
			return err
		}
	}
	if !measured {
		return fmt.Errorf("no benchmark has %q in its name; there are %s", c.Only, benchmarkNames())
	}
	return nil
}

// requests measures what clients wait for, on a plane and a worker that are processes of their own.
func (b *bench) requests(ctx context.Context) error {
	p, done, err := b.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	b.line("plane_memory_idle", p.rss(), "MB")
	worker, err := child(ctx, nil, "work", "--target", p.grpc, "--parallel", "64")
	if err != nil {
		return err
	}
	if err := errors.Join(workersReady(ctx, b.client), b.roundTrips(ctx)); err != nil {
		worker.stop()
		return err
	}
	worker.stop() // what is submitted from here on waits
	if err := errors.Join(b.submits(ctx), b.reads(ctx)); err != nil {
		return err
	}
	b.line("plane_memory_after", p.rss(), "MB")
	return nil
}

// benchDir is a folder for the data of one benchmark.
func benchDir() (dir string, remove func(), err error) {
	dir, err = os.MkdirTemp("", "cordum-bench-")
	return dir, func() { _ = os.RemoveAll(dir) }, err // what is left is in the machine's temporary folder
}

// planeProcess is a plane in a process of its own.
type planeProcess struct {
	*process

	grpc string // its address
}

// start starts a plane on the data of a folder, and points the client at it.
func (b *bench) start(ctx context.Context, dir string) (*planeProcess, error) {
	httpAddr, grpcAddr, err := freePorts()
	if err != nil {
		return nil, err
	}
	env := []string{"API_RATE_LIMIT_RPS=1000000", "API_RATE_LIMIT_BURST=1000000"}
	p, err := child(ctx, env, "dev", "--http", httpAddr, "--grpc", grpcAddr, "--data", dir, "--no-worker")
	if err != nil {
		return nil, err
	}
	b.client.Base = "http://" + httpAddr
	if err := until(ctx, func() bool { return healthy(ctx, b.client.Base) }); err != nil {
		p.stop()
		return nil, err
	}
	return &planeProcess{process: p, grpc: grpcAddr}, nil
}

// open starts a plane on a folder of its own; done ends both.
func (b *bench) open(ctx context.Context) (p *planeProcess, done func(), err error) {
	dir, remove, err := benchDir()
	if err != nil {
		return nil, nil, err
	}
	if p, err = b.start(ctx, dir); err != nil {
		remove()
		return nil, nil, err
	}
	return p, func() { p.stop(); remove() }, nil
}

type bench struct {
	cmd    *benchCmd
	out    io.Writer
	client *client.Client
	jobs   []string // some that exist
}

func (b *bench) line(name string, value float64, unit string) {
	fmt.Fprintf(b.out, "bench %s %s %s\n", name, strconv.FormatFloat(value, 'f', 2, 64), unit)
}

func (b *bench) wanted(name string) bool { return strings.Contains(name, b.cmd.Only) }

var benchBody = map[string]any{"topic": "job.demo.hash", "prompt": "hash it", "context": map[string]any{"text": "abc"}, "labels": map[string]string{"run": "bench"}}

func (b *bench) submits(ctx context.Context) error {
	var mu sync.Mutex
	for _, n := range []int{1, 16} {
		if !b.wanted("submit") {
			continue
		}
		err := b.measure(ctx, fmt.Sprintf("submit_c%d", n), n, func(ctx context.Context) error {
			r, err := b.client.Submit(ctx, benchBody)
			if err == nil && r.Status != "scheduled" {
				err = fmt.Errorf("job is %s: %s", r.Status, r.Reason)
			}
			mu.Lock()
			if len(b.jobs) < 1000 {
				b.jobs = append(b.jobs, r.JobID)
			}
			mu.Unlock()
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) reads(ctx context.Context) error {
	if len(b.jobs) == 0 {
		r, err := b.client.Submit(ctx, benchBody)
		if err != nil {
			return err
		}
		b.jobs = append(b.jobs, r.JobID)
	}
	var next atomic.Int64
	if b.wanted("get_job") {
		err := b.measure(ctx, "get_job_c16", 16, func(ctx context.Context) error {
			return b.client.Do(ctx, http.MethodGet, "/jobs/"+b.jobs[int(next.Add(1))%len(b.jobs)], nil, nil)
		})
		if err != nil {
			return err
		}
	}
	if b.wanted("status") {
		err := b.measure(ctx, "status_c16", 16, func(ctx context.Context) error {
			return b.client.Do(ctx, http.MethodGet, "/status", nil, nil)
		})
		if err != nil {
			return err
		}
	}
	if !b.wanted("evaluate") {
		return nil
	}
	return b.measure(ctx, "evaluate_c16", 16, func(ctx context.Context) error {
		return b.client.Do(ctx, http.MethodPost, "/policy/evaluate", benchQuestion, nil)
	})
}

// benchQuestion is about a job that falls under a rule with constraints.
var benchQuestion = map[string]any{
	"job_id": "job-1", "topic": "job.demo.fetch", "principal_id": "maya", "priority": "batch", "labels": map[string]string{"env": "test", "run": "bench"},
	"meta": map[string]any{"actor_id": "maya", "actor_type": "human", "capability": "demo.fetch", "risk_tags": []string{"network"}},
}

func (b *bench) roundTrips(ctx context.Context) error {
	for _, n := range []int{1, 16} {
		if !b.wanted("roundtrip") {
			continue
		}
		var usual atomic.Int64
		err := b.measure(ctx, fmt.Sprintf("roundtrip_c%d", n), n, func(ctx context.Context) error { return b.roundTrip(ctx, n, &usual) })
		if err != nil {
			return err
		}
	}
	return nil
}

// roundTrip takes a job, one of n at a time, to its end, which is learned by reading it. So that the readers of many jobs do not take the machine from the
// plane, a first look waits for most of the time that earlier jobs took, and later ones come at intervals. The reader of one job looks again at once: a
// sleep would be longer than the job.
func (b *bench) roundTrip(ctx context.Context, n int, usual *atomic.Int64) error {
	wait := time.Sleep
	if n == 1 {
		wait = func(time.Duration) {}
	}
	began := time.Now()
	r, err := b.client.Submit(ctx, benchBody)
	if err != nil {
		return err
	}
	wait(time.Duration(usual.Load())*3/4 - time.Since(began))
	for {
		j, err := b.client.Get(ctx, r.JobID)
		switch {
		case err != nil:
			return err
		case j.State == "SUCCEEDED":
			usual.Store((usual.Load()*15 + int64(time.Since(began))) / 16)
			return nil
		case j.Ended():
			return fmt.Errorf("job %s ended %s", j.ID, j.State)
		}
		wait(time.Duration(n) * 100 * time.Microsecond)
	}
}

// measure calls fn from n goroutines and prints rate, median and 99th percentile.
func (b *bench) measure(ctx context.Context, name string, n int, fn func(context.Context) error) error {
	for range 20 { // warm up connections and caches
		if err := fn(ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	took := make([][]time.Duration, n)
	errs := make([]error, n)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for time.Since(began) < b.cmd.Duration && ctx.Err() == nil {
				t := time.Now()
				if errs[i] = fn(ctx); errs[i] != nil {
					return
				}
				took[i] = append(took[i], time.Since(t))
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	all := slices.Concat(took...)
	if len(all) == 0 {
		return fmt.Errorf("%s: nothing was measured", name)
	}
	b.line(name+"_rate", float64(len(all))/elapsed.Seconds(), "per_s")
	b.spread(name, all)
	return ctx.Err()
}

// spread prints the median and the 99th percentile of times, of which there is at least one.
func (b *bench) spread(name string, took []time.Duration) {
	slices.Sort(took)
	b.line(name+"_p50", ms(took[len(took)/2]), "ms")
	b.line(name+"_p99", ms(took[len(took)*99/100]), "ms")
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func benchHTTP() *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}
}

func freePorts() (a, b string, err error) {
	addrs := make([]string, 2)
	for i := range addrs {
		l, err := net.Listen("tcp", "localhost:0")
		if err != nil {
			return "", "", err
		}
		defer func() { _ = l.Close() }() // only its number is wanted
		addrs[i] = l.Addr().String()
	}
	return addrs[0], addrs[1], nil
}

// process is this program, started again in another role.
type process struct{ cmd *exec.Cmd }

func child(ctx context.Context, env []string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr, cmd.Stdout = os.Stderr, io.Discard
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	return &process{cmd}, cmd.Start()
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt) // it may have ended
	_ = p.cmd.Wait()
}

// rss is the resident memory of the process in MB; 0 where the system does not say.
func (p *process) rss() float64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }() // read only
	for s := bufio.NewScanner(f); s.Scan(); {
		if kb, ok := strings.CutPrefix(s.Text(), "VmRSS:"); ok {
			n, _ := strconv.ParseFloat(strings.Fields(kb)[0], 64)
			return n / 1024
		}
	}
	return 0
}

func until(ctx context.Context, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			return errors.New("the plane did not come up")
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}
