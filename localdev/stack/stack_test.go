package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/localdev/client"
	"github.com/cordum-serverless/cordum/localdev/demoworker"
	"github.com/cordum-serverless/cordum/localdev/seed"
	"github.com/cordum-serverless/cordum/localdev/stack"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

const pools = `
topics:
  job.default: demo
  job.demo.*: [demo, demo-polled, demo-lambda]
pools:
  demo: { requires: [network] }
`

// open runs a plane of its own for one test.
func open(t *testing.T, edit ...func(*stack.Config)) *rig {
	t.Helper()
	endpoint := os.Getenv("AWS_ENDPOINT_URL")
	if endpoint == "" {
		t.Skip("no AWS_ENDPOINT_URL: `make test-aws` runs the plane's real binaries on an emulator (LocalStack)")
	}
	cfg := stack.Config{
		Endpoint: endpoint, Name: "cordum-test-" + ids.Source{}.Hex(4), Pools: []byte(pools),
		Every: 2 * time.Second, Retry: time.Second, Output: logTo(), Log: slog.New(slog.NewTextHandler(logTo(), nil)),
		Workers: []stack.Worker{{Name: "demo-worker", Package: "./localdev/demoworker/lambda", Pool: demoworker.PoolLambda}},
	}
	for _, e := range edit {
		e(&cfg)
	}
	began := time.Now()
	s, err := stack.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("open after %s", time.Since(began).Round(time.Millisecond))
	r := &rig{T: t, Stack: s, client: &client.Client{Base: s.URL, Key: seed.AdminKey, Tenant: seed.Tenant}}
	t.Cleanup(func() {
		began := time.Now()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		t.Logf("closed after %s", time.Since(began).Round(time.Millisecond))
	})
	return r
}

// logTo shows the logs only where somebody asked for them: CORDUM_TEST_LOG=1.
func logTo() io.Writer {
	if os.Getenv("CORDUM_TEST_LOG") != "" {
		return os.Stderr
	}
	return io.Discard
}

type rig struct {
	*testing.T
	*stack.Stack

	client *client.Client
	asked  int // jobs of insist so far
}

// stream runs a worker of the pool demo, polled one of demo-polled, until the test ends.
func (r *rig) stream() {
	r.Helper()
	w, err := demoworker.Stream(r.GRPC, seed.WorkerKey, "streamer", 4, slog.New(slog.NewTextHandler(logTo(), nil)))
	if err != nil {
		r.Fatal(err)
	}
	r.background(w.Run)
}

func (r *rig) polled() {
	r.Helper()
	w, err := demoworker.Polling(demoworker.Queues{
		URL: r.URL, Key: seed.WorkerKey, Pool: demoworker.PoolPolled, AWS: r.AWS("poller"), InboxURL: r.QueueURL(resources.Inbox),
		PoolURL: r.QueueURL(resources.Pool(demoworker.PoolPolled)),
	}, slog.New(slog.NewTextHandler(logTo(), nil)))
	if err != nil {
		r.Fatal(err)
	}
	r.background(w.Run)
}

func (r *rig) background(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := run(ctx); err != nil && ctx.Err() == nil {
			r.Error(err)
		}
	})
	r.Cleanup(func() { cancel(); running.Wait() })
}

// submit sends a job to a pool.
func (r *rig) submit(pool, topic string, context map[string]any) string {
	r.Helper()
	rc, err := r.client.Submit(r.Context(), map[string]any{
		"topic": topic, "prompt": "one two three", "context": context, "labels": map[string]string{"preferred_pool": pool},
	})
	if err != nil {
		r.Fatal(err)
	}
	return rc.JobID
}

// await waits until a job has ended.
func (r *rig) await(id, state string) client.Job {
	r.Helper()
	for deadline := time.Now().Add(4 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		j, err := r.client.Get(r.Context(), id)
		if said, ok := errors.AsType[*client.Error](err); ok && said.Status >= 500 && time.Now().Before(deadline) {
			continue // a fault that the test made
		}
		if err != nil {
			r.Fatal(err)
		}
		if j.Ended() || time.Now().After(deadline) {
			if j.State != state {
				var all json.RawMessage
				_ = r.client.Do(r.Context(), "GET", "/jobs/"+id, nil, &all) // as far as it goes
				r.Fatalf("job %s is %s, not %s: %s", id, j.State, state, all)
			}
			return j
		}
	}
}

// TestJobs: a job goes through real binaries and comes back, over each of the three ways to workers.
func TestJobs(t *testing.T) {
	r := open(t)
	r.stream()
	r.polled()
	for _, pool := range []string{demoworker.Pool, demoworker.PoolPolled, demoworker.PoolLambda} {
		for try := range 3 {
			began := time.Now()
			id := r.submit(pool, "job.demo.wordcount", nil)
			submitted := time.Since(began)
			j := r.await(id, "SUCCEEDED")
			var result struct{ Words int }
			if err := json.Unmarshal(j.Result, &result); err != nil || result.Words != 3 {
				t.Errorf("%s: result %s", pool, j.Result)
			}
			t.Logf("%s %d: submitted after %s, back after %s", pool, try, submitted.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
		}
	}
	for _, name := range r.Functions() {
		if s := r.Function(name).Stats(); s.Invocations > 0 {
			t.Logf("%-12s %3d invocations, %d cold starts %v, %d errors, %d timeouts, %d crashes", name, s.Invocations, s.ColdStarts, s.Inits, s.Errors, s.Timeouts, s.Crashes)
		}
	}
	for _, u := range r.Used() {
		t.Log(u, u.Times)
	}
}

// TestContainers: a container leaves while its workers run jobs, another one comes, and no job notices.
func TestContainers(t *testing.T) {
	r := open(t, func(c *stack.Config) { c.Containers = 2 })
	r.stream()
	first := r.Containers()
	if len(first) != 2 {
		t.Fatalf("containers %v", first)
	}
	for _, leaving := range first {
		var ids []string
		for range 4 {
			ids = append(ids, r.submit(demoworker.Pool, "job.demo.sleep", map[string]any{"ms": 3000, "steps": 3}))
		}
		time.Sleep(time.Second)
		began := time.Now()
		r.Drain(leaving)
		t.Logf("drained after %s", time.Since(began).Round(time.Millisecond))
		if _, err := r.AddContainer(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if j := r.await(id, "SUCCEEDED"); j.Attempts != 1 {
				t.Errorf("job %s took %d attempts", id, j.Attempts)
			}
		}
	}
	if now := r.Containers(); len(now) != 2 || slices.Contains(now, first[0]) || slices.Contains(now, first[1]) {
		t.Errorf("containers %v, were %v", now, first)
	}
}
