package plane_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/cordum-serverless/cordum/localdev/plane"
	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Who is offered a job, and the document that says so: core.md 10 F, through the doors. The pure functions have tests of their own in
// shared/core/schedule, under the same numbers.

// journal keeps what a plane logs.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *journal) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// said says whether a line has all these words.
func (l *journal) said(words ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
lines:
	for line := range strings.Lines(l.text.String()) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue lines
			}
		}
		return true
	}
	return false
}

// listenTo keeps the log of the planes that are opened with the configuration.
func listenTo(cfg *plane.Config) *journal {
	l := &journal{}
	cfg.Log = slog.New(slog.NewTextHandler(l, nil))
	return l
}

// configure replaces members of the document system/default, and waits until every process has read it.
func (r *rig) configure(members map[string]string) {
	r.t.Helper()
	data := map[string]json.RawMessage{}
	for name, text := range members {
		data[name] = json.RawMessage(text)
	}
	r.post(configPath, data).ok(204)
	time.Sleep(3 * time.Second)
}

func limits(text string) map[string]json.RawMessage {
	return map[string]json.RawMessage{"limits": json.RawMessage(text), "rate_limits": json.RawMessage(`{"queue_size":100}`)}
}

// beats opens a stream for a worker that says of itself what the test wants.
func (r *rig) beats(beat *agentv1.Heartbeat) *raw {
	r.t.Helper()
	w := r.stream("k-worker", beat.GetWorkerId())
	w.send(&agentv1.BusPacket{Payload: &agentv1.BusPacket_Heartbeat{Heartbeat: beat}})
	return w
}

func TestT081_T082_TheLeastLoadedWorkerIsOfferedTheJob(t *testing.T) {
	cases := map[string][2]*agentv1.Heartbeat{
		"T081 scores of 2.5 and 1.1": {
			{WorkerId: "a", Pool: "main", MaxParallelJobs: 10, CpuLoad: 50}, {WorkerId: "b", Pool: "main", MaxParallelJobs: 10, CpuLoad: 4, GpuUtilization: 6},
		},
		"T082 CPU of 80 and 10": {
			{WorkerId: "a", Pool: "main", MaxParallelJobs: 10, CpuLoad: 80}, {WorkerId: "b", Pool: "main", MaxParallelJobs: 10, CpuLoad: 10},
		},
	}
	for name, beats := range cases {
		t.Run(name, func(t *testing.T) {
			virtually(t, config(), func(t *testing.T, r *rig) {
				hot, cool := r.beats(beats[0]), r.beats(beats[1])
				elsewhere := r.beats(&agentv1.Heartbeat{WorkerId: "c", Pool: "gpu", MaxParallelJobs: 10})
				time.Sleep(time.Second)
				for range 2 { // one job does not outweigh the difference of load in the first place; two would
					rc := r.submit()
					if got := cool.job().GetJobId(); got != rc.JobID {
						t.Errorf("got %s", got)
					}
					cool.result(rc.JobID, ok, "")
					cool.answer(rc.JobID)
				}
				for _, w := range []*raw{hot, elsewhere} {
					if len(w.in) != 0 {
						t.Errorf("another worker was offered the job: %v", <-w.in)
					}
				}
			})
		})
	}
}

// TestT083_WhoHasRoom: slots are filled to the last, whatever the ninety per cent of the contract, which decide between workers and pools
// (docs/adr/0008-workers-and-tenants.md). A busy machine gets nothing.
func TestT083_WhoHasRoom(t *testing.T) {
	cases := []struct {
		name string
		beat *agentv1.Heartbeat
		gets int // of twelve jobs
	}{
		{"ten slots", &agentv1.Heartbeat{MaxParallelJobs: 10}, 10},
		{"one slot", &agentv1.Heartbeat{MaxParallelJobs: 1}, 1},
		{"no number of slots, CPU 89", &agentv1.Heartbeat{CpuLoad: 89}, 12},
		{"no number of slots, CPU 90", &agentv1.Heartbeat{CpuLoad: 90}, 0},
		{"ten slots, CPU 90", &agentv1.Heartbeat{MaxParallelJobs: 10, CpuLoad: 90}, 0},
		{"ten slots, GPU 90", &agentv1.Heartbeat{MaxParallelJobs: 10, GpuUtilization: 90}, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			virtually(t, config(), func(t *testing.T, r *rig) {
				for range 12 {
					r.submit()
				}
				c.beat.WorkerId, c.beat.Pool = "w1", "main"
				w := r.beats(c.beat)
				time.Sleep(20 * time.Second)
				if n := len(w.in); n != c.gets {
					t.Errorf("it got %d jobs, want %d", n, c.gets)
				}
			})
		})
	}
}

func TestT088_APreferredWorkerIsChosenAlthoughBusier(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.beats(&agentv1.Heartbeat{WorkerId: "idle", Pool: "main", MaxParallelJobs: 10})
		busy := r.beats(&agentv1.Heartbeat{WorkerId: "busy", Pool: "main", MaxParallelJobs: 10, ActiveJobs: 5, CpuLoad: 70})
		time.Sleep(3 * time.Second)
		rc := r.submit("labels", map[string]string{"preferred_worker_id": "busy"})
		if got := busy.job().GetJobId(); got != rc.JobID {
			t.Errorf("got %s", got)
		}
		for _, name := range []string{"nobody", "hot"} {
			if name == "hot" {
				r.beats(&agentv1.Heartbeat{WorkerId: "hot", Pool: "main", MaxParallelJobs: 10, CpuLoad: 95})
				time.Sleep(3 * time.Second)
			}
			id := r.submit("labels", map[string]string{"preferred_worker_id": name}).JobID
			time.Sleep(time.Second)
			if j := r.job(id); j["state"] != "DISPATCHED" || j["worker_id"] == name {
				t.Errorf("preferred %s: %v with %v", name, j["state"], j["worker_id"])
			}
		}
	})
}

func TestT089_T090_T091_Requires(t *testing.T) {
	cases := []struct {
		name, topic string
		requires    []string
		state       string
	}{
		{"T089 the pool has what is required, in its own spelling", "job.test.needs", []string{"GPU", "linux "}, "SCHEDULED"},
		{"T089 it has only a part", "job.test.needs", []string{"gpu", "tpu"}, "FAILED"},
		{"T089 a pool that declares nothing", "job.test.work", []string{"gpu"}, "FAILED"},
		{"T090 blanks alone, and a pool that declares nothing", "job.test.work", []string{""}, "SCHEDULED"},
		{"T091 nothing required, and a pool that declares something", "job.test.needs", nil, "SCHEDULED"},
	}
	virtually(t, config(), func(t *testing.T, r *rig) {
		for _, c := range cases {
			r.step(c.name, func() {
				rc := r.submit("topic", c.topic, "requires", c.requires)
				if j := r.job(rc.JobID); j["state"] != c.state || (c.state == "FAILED") != (j["error_code"] == "no_pool_mapping") {
					t.Errorf("%v %v", j["state"], j["error_code"])
				}
			})
		}
	})
}

func TestT092_T093_T094_LabelsAndPlacement(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		bare := r.connect("k-worker", "bare", "main", 10)
		upper := r.beats(&agentv1.Heartbeat{WorkerId: "upper", Pool: "main", MaxParallelJobs: 10, CpuLoad: 80, Labels: map[string]string{"region": "EU"}})
		time.Sleep(3 * time.Second)
		for name, labels := range map[string]map[string]string{
			"T093 policy and history": {
				"env": "prod", "mcp.server": "s", "approval_reason": "r", "retry": "true", "retry_of_job": "j", "dlq_entry": "d", "remediation_of": "j",
				"remediation_id": "r", "dry_run": "true",
			},
			"T094 provenance": {"workflow_id": "w", "run_id": "r", "step_id": "s", "node_id": "n", "worker_id": "x", "cordum.x": "y"},
		} {
			r.step(name, func() {
				rc := r.submit("labels", labels)
				if got := bare.job().GetJobId(); got != rc.JobID { // a worker without labels
					t.Errorf("got %s", got)
				}
				bare.result(rc.JobID, ok, "")
				bare.answer(rc.JobID)
			})
		}
		r.step("T092 case counts", func() {
			lower := r.submit("labels", map[string]string{"region": "eu"})
			time.Sleep(10 * time.Second)
			if j := r.job(lower.JobID); j["state"] != "SCHEDULED" || j["attempts"] != 0.0 {
				t.Errorf("region eu, and a worker in EU: %v", j["state"])
			}
			same := r.submit("labels", map[string]string{"region": "EU"})
			if got := upper.job().GetJobId(); got != same.JobID {
				t.Errorf("got %s", got)
			}
		})
	})
}

// A heartbeat reaches one container; every process that routes or answers knows the worker from then on.
func TestT096_EveryProcessSeesAWorker(t *testing.T) {
	virtually(t, twoContainers(), func(t *testing.T, r *rig) {
		w := r.connectTo(r.dialer(0), "k-worker-default", "w1", "main", 4)
		time.Sleep(3 * time.Second)
		var workers []map[string]any
		if r.get("/api/v1/workers").ok(200).json(&workers); len(workers) != 1 || workers[0]["worker_id"] != "w1" {
			t.Errorf("the routes see %v", workers)
		}
		r.submit("labels", map[string]string{"preferred_worker_id": "w1"})
		if j := w.job(); j.GetLabels()["preferred_worker_id"] != "w1" {
			t.Errorf("from the routes it got %v", j)
		}
		other := cordumv1.NewCordumApiClient(r.connTo(r.dialer(1)))
		res, err := other.SubmitJob(metadata.AppendToOutgoingContext(t.Context(), "x-api-key", "k-admin"),
			&cordumv1.SubmitJobRequest{Prompt: "p", Topic: "job.test.work", Labels: map[string]string{"preferred_worker_id": "w1"}})
		if err != nil {
			t.Fatal(err)
		}
		if got := w.job().GetJobId(); got != res.GetJobId() {
			t.Errorf("from the other container it got %s", got)
		}
	})
}

// What a plane wrote at its first start is what it reads at the next one, whatever its files say then: an operator may have changed it.
func TestT097_APlaneReadsItsOwnDocument(t *testing.T) {
	cfg := config()
	cfg.Dir = t.TempDir()
	routed := func(r *rig) string {
		r.t.Helper()
		var out []string
		for _, fields := range [][]any{
			{}, {"topic", "job.test.gpu"}, {"topic", "job.test.needs", "requires", []string{"GPU", "linux"}}, {"topic", "job.test.needs", "requires", []string{"tpu"}},
		} {
			rec := r.now(r.submit(fields...).JobID)
			out = append(out, rec.Topic+"="+string(rec.State)+" "+rec.Pool)
		}
		return fmt.Sprint(out)
	}
	first := open(t, cfg)
	want := routed(first)
	if err := first.plane.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Pools, cfg.Timeouts = []byte("topics: { '*': gpu }"), []byte("{}")
	again := open(t, cfg)
	if got := routed(again); got != want {
		t.Errorf("routed\n%s, before\n%s", got, want)
	}
	settings, err := again.plane.Dispatcher.Settings.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n, limited := settings.Timeouts.MaxRetries("job.test.brief"); settings.Timeouts.Running("job.test.brief") != time.Minute || n != 0 || !limited {
		t.Errorf("timeouts %v, %d retries", settings.Timeouts.Running("job.test.brief"), n)
	}
}

func TestT098_AnInvalidOverlayKeepsTheRouting(t *testing.T) {
	cfg := config()
	said := listenTo(&cfg)
	virtually(t, cfg, func(t *testing.T, r *rig) {
		pool := func() string { return r.now(r.submit().JobID).Pool }
		r.configure(map[string]string{"pools": `{"topics":{"job.test.work":""}}`})
		if p := pool(); p != "main" || !said.said("level=ERROR", "section refused", "pools") {
			t.Errorf("with an overlay that is not valid jobs go to %q", p)
		}
		r.configure(map[string]string{"pools": `{"pools":{"gpu":{}},"topics":{"job.test.*":"gpu"}}`})
		if p := pool(); p != "gpu" {
			t.Errorf("with a valid one jobs go to %q", p)
		}
		r.configure(map[string]string{"pools": `{"topics":{"job.test.*":["gpu"]},"pools":{"gpu":{}}}`}) // the same in another order
		if p := pool(); p != "gpu" {
			t.Errorf("with its keys in another order jobs go to %q", p)
		}
		r.configure(map[string]string{"pools": `{"topics":[]}`})
		if p := pool(); p != "gpu" {
			t.Errorf("with one that is not valid any more jobs go to %q", p)
		}
	})
}

// TestT099_WhatIsOutOfReachIsTriedAgain: there is no lock that could be held (docs/adr/0003-claims-and-due.md); two at once are T100.
func TestT099_WhatIsOutOfReachIsTriedAgain(t *testing.T) {
	t.Run("T099 publish error: two seconds", func(t *testing.T) {
		cfg, s := faulty()
		virtually(t, cfg, func(t *testing.T, r *rig) {
			w := r.connect("k-worker", "w1", "main", 1)
			s.queues.Store(true)
			rc := r.submit()
			began := time.Now()
			s.queues.Store(false)
			if got := w.job().GetJobId(); got != rc.JobID {
				t.Errorf("got %s", got)
			}
			if took := time.Since(began); took < time.Second || took > 3*time.Second {
				t.Errorf("it was sent after %s", took)
			}
		})
	})
	t.Run("T099 store error: a second", func(t *testing.T) {
		cfg := config()
		claims := &claims{}
		cfg.Wrap = claims.wrap
		virtually(t, cfg, func(t *testing.T, r *rig) {
			w := r.connect("k-worker", "w1", "main", 1)
			claims.fail(1)
			began := time.Now()
			rc := r.submit()
			if got := w.job().GetJobId(); got != rc.JobID {
				t.Errorf("got %s", got)
			}
			if took := time.Since(began); took < time.Second || took > 1100*time.Millisecond {
				t.Errorf("it was handed over after %s", took)
			}
			if j := r.job(rc.JobID); j["attempts"] != 1.0 {
				t.Errorf("attempts %v", j["attempts"])
			}
		})
	})
}

// claims is a table that cannot be reached for so many claims.
type claims struct {
	store.Table
	left atomic.Int32
}

func (c *claims) wrap(p dispatch.Platform) dispatch.Platform {
	c.Table, p.Table = p.Table, c
	return p
}

func (c *claims) fail(n int32) { c.left.Store(n) }

func (c *claims) Update(ctx context.Context, op store.Op) (store.Item, error) {
	if c.left.Add(-1) >= 0 {
		return store.Item{}, store.ErrUnavailable
	}
	return c.Table.Update(ctx, op)
}
