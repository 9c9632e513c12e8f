package plane_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Time as it is on AWS: a sweep every minute, and delayed messages for what is due in between.

func everyMinute() plane.Config {
	cfg := config()
	cfg.Sweep = time.Minute
	return cfg
}

// within fails unless a job reaches a state in between two moments from now.
func (r *rig) within(id, state string, from, to time.Duration) map[string]any {
	r.t.Helper()
	began := time.Now()
	j := r.awaitFor(id, state, to+time.Minute)
	if took := time.Since(began); took < from || took > to {
		r.t.Errorf("job %s was %s after %s, not between %s and %s", id, state, took, from, to)
	}
	return j
}

func TestDeadlinesArePreciseToASecond(t *testing.T) {
	virtually(t, everyMinute(), func(t *testing.T, r *rig) {
		time.Sleep(7 * time.Second)
		for _, d := range []time.Duration{time.Second, 5 * time.Second, 90 * time.Second, 10 * time.Minute} {
			rc := r.submit("topic", "job.test.ask", "deadline_ms", d.Milliseconds())
			j := r.within(rc.JobID, "TIMEOUT", d, d+1100*time.Millisecond)
			if j["error_code"] != "deadline_exceeded" {
				t.Errorf("%s: %v", d, j["error_code"])
			}
		}
	})
}

func TestADeadlineLongAfterTheRetention(t *testing.T) {
	cfg := config()
	cfg.Sweep, cfg.Dir = time.Hour, t.TempDir()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		const long = 9 * 24 * time.Hour // longer than a record is kept, so that it is kept longer twice; a year is more of the same
		rc := r.submit("topic", "job.test.ask", "deadline_ms", long.Milliseconds(), "context", map[string]string{"big": strings.Repeat("x", 50_000)})
		time.Sleep(long - time.Hour)
		j := r.job(rc.JobID)
		if j["state"] != "APPROVAL_REQUIRED" || j["context"] == nil {
			t.Fatalf("an hour before: %v", j["state"])
		}
		time.Sleep(2 * time.Hour)
		if j := r.job(rc.JobID); j["state"] != "TIMEOUT" {
			t.Errorf("an hour after: %v", j["state"])
		}
		r.hibernate(cfg, 8*24*time.Hour)
		r.get("/api/v1/jobs/"+rc.JobID).refused(404, "job not found")
	})
}

func TestRunningTimeoutsArePreciseToASecond(t *testing.T) {
	cfg := everyMinute()
	cfg.Timeouts = []byte("topics: { job.test.brief: { timeout_seconds: 3 } }")
	virtually(t, cfg, func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 2)
		rc := r.submit("topic", "job.test.brief")
		w.send(progressOf(w.job().GetJobId()))
		r.within(rc.JobID, "TIMEOUT", 2*time.Second, 4100*time.Millisecond)
		waited := r.submit("topic", "job.test.brief", "labels", map[string]string{"region": "mars"}) // nobody there yet
		time.Sleep(20 * time.Minute)
		if j := r.job(waited.JobID); j["state"] != "SCHEDULED" {
			t.Fatalf("waiting: %v", j["state"])
		}
	})
}

func TestAWorkerThatVanishesLosesItsJobsWithinSeconds(t *testing.T) {
	cfg := everyMinute()
	cfg.Timeouts = []byte("topics: { job.test.frail: { max_retries: 0 } }")
	virtually(t, cfg, func(t *testing.T, r *rig) {
		for i := range 5 {
			time.Sleep(time.Duration(i) * 13 * time.Second)
			w := r.connect("k-worker", fmt.Sprintf("v%d", i), "main", 1)
			rc := r.submit("topic", "job.test.frail") // one attempt
			w.job()
			time.Sleep(time.Duration(i) * 41 * time.Second / 5)
			w.cancel()
			j := r.within(rc.JobID, "FAILED", 24*time.Second, 35*time.Second)
			if j["error_code"] != "worker_lost" {
				t.Errorf("%v", j)
			}
		}
	})
}

func TestThrottledJobsBackOff(t *testing.T) {
	virtually(t, everyMinute(), func(t *testing.T, r *rig) {
		rc := r.submit("topic", "job.test.slow")
		time.Sleep(10 * time.Minute)
		var decisions []struct {
			At       int64  `json:"checked_at"`
			Decision string `json:"decision"`
		}
		r.get("/api/v1/jobs/" + rc.JobID + "/decisions?limit=100").ok(200).json(&decisions)
		if n := len(decisions); n < 10 || n > 25 {
			t.Fatalf("%d decisions in ten minutes", n)
		}
		first, second := decisions[len(decisions)-1], decisions[len(decisions)-2]
		if wait := time.Duration(second.At-first.At) * time.Microsecond; wait < 5*time.Second || wait > 6*time.Second {
			t.Errorf("the first wait was %s", wait)
		}
		if last := time.Duration(decisions[0].At-decisions[1].At) * time.Microsecond; last < 25*time.Second || last > 62*time.Second {
			t.Errorf("the last wait was %s", last)
		}
	})
}

func TestPatienceEnds(t *testing.T) {
	cfg := everyMinute()
	cfg.Timeouts = []byte("reconciler: { pending_timeout_seconds: 600 }")
	cfg.Settings = map[string]json.RawMessage{"limits": json.RawMessage(`{"max_concurrent_jobs":1}`), "rate_limits": json.RawMessage(`{"queue_size":10}`)}
	virtually(t, cfg, func(t *testing.T, r *rig) {
		first := r.submit()
		cases := map[string]string{
			first.JobID: "no_workers", r.submit().JobID: "tenant_limit", r.submit("topic", "job.test.slow").JobID: "throttled",
		}
		kept := r.submit("topic", "job.test.ask", "deadline_ms", time.Hour.Milliseconds())
		time.Sleep(10*time.Minute + 65*time.Second)
		for id, code := range cases {
			if j := r.job(id); j["state"] != "FAILED" || j["error_code"] != code {
				t.Errorf("%v %v, want %s", j["state"], j["error_code"], code)
			}
		}
		if j := r.job(kept.JobID); j["state"] != "APPROVAL_REQUIRED" {
			t.Errorf("a job with a deadline: %v", j["state"])
		}
		busy := r.connect("k-worker", "w1", "main", 1)
		r.submit()
		busy.job()
		late := r.submit("topic", "job.test.ask") // the limit is used up by the running one
		_ = late
	})
}

func TestIdleJobsCostNothing(t *testing.T) {
	meter := &store.Meter{}
	cfg := everyMinute()
	cfg.Meter = meter
	virtually(t, cfg, func(t *testing.T, r *rig) {
		hour := func() store.Usage {
			time.Sleep(15*time.Minute + 30*time.Second) // what was done is sealed
			before := meter.Read()
			time.Sleep(time.Hour)
			return meter.Read().Since(before)
		}
		without := hour() // the sweeps' own queries, and the containers' leases
		for range 200 {
			r.submit("topic", "job.test.ask", "deadline_ms", (48 * time.Hour).Milliseconds())
		}
		minute := without.ReadUnits / 60 // an hour may hold one run more of what runs each minute
		if with := hour(); with.WriteUnits > without.WriteUnits+10 || with.ReadUnits > without.ReadUnits+minute+10 {
			t.Errorf("an hour costs %+v, with 200 waiting jobs %+v", without, with)
		}
	})
}

func TestT039_OneJobThatFailsDoesNotStopTheSweep(t *testing.T) {
	cfg := config()
	var broken atomic.Pointer[string]
	var tries atomic.Int32
	cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
		p.Table = breakable{p.Table, &broken, &tries}
		return p
	}
	virtually(t, cfg, func(t *testing.T, r *rig) {
		var ids []string
		for range 5 {
			ids = append(ids, r.submit("topic", "job.test.ask", "deadline_ms", 1000).JobID)
		}
		broken.Store(&ids[2])
		time.Sleep(1500 * time.Millisecond)
		if n := tries.Load(); n < 1 || n > 3 {
			t.Errorf("%d tries for the job that fails", n)
		}
		broken.Store(nil)
		for i, id := range ids {
			state := r.job(id)["state"]
			if (state == "TIMEOUT") == (i == 2) {
				t.Errorf("job %d: %v", i, state)
			}
		}
		r.await(ids[2], "TIMEOUT")
	})
}

// breakable fails the writes of one job.
type breakable struct {
	store.Table
	id    *atomic.Pointer[string]
	tries *atomic.Int32
}

func (b breakable) Write(ctx context.Context, ops ...store.Op) error {
	if id := b.id.Load(); id != nil && strings.HasSuffix(ops[0].Key.PK, *id) {
		b.tries.Add(1)
		return errors.New("broken")
	}
	return b.Table.Write(ctx, ops...)
}

func TestT040_TwoSweepsTogether(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.watch("k-admin", "/api/v1/stream")
		var ids []string
		for range 20 {
			ids = append(ids, r.submit("topic", "job.test.ask", "deadline_ms", 500).JobID)
		}
		time.Sleep(600 * time.Millisecond)
		done := make(chan error, 4)
		for range 4 {
			go func() { _, err := r.plane.Dispatcher.Sweep(t.Context(), 1000); done <- err }()
		}
		for range 4 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		for _, id := range ids {
			r.await(id, "TIMEOUT")
		}
		ends := map[string]int{}
		for _, line := range w.said() {
			if strings.HasPrefix(line, "jobResult") {
				ends[line]++
			}
		}
		if len(ends) != 20 || len(r.letters("k-admin", "", 100)) != 20 {
			t.Errorf("%d ends, %d letters", len(ends), len(r.letters("k-admin", "", 100)))
		}
		for line, n := range ends {
			if n != 1 {
				t.Errorf("%s came %d times", line, n)
			}
		}
	})
}

func TestT059_ALimitDoesNotBlockItself(t *testing.T) {
	cfg := config()
	cfg.Settings = map[string]json.RawMessage{"limits": json.RawMessage(`{"max_concurrent_jobs":1}`), "rate_limits": json.RawMessage(`{"queue_size":10}`)}
	virtually(t, cfg, func(t *testing.T, r *rig) {
		r.work(map[string]worker.Handler{"job.test.*": func(context.Context, *worker.Job) (any, error) { time.Sleep(time.Second); return nil, nil }})
		var ids []string
		for range 4 {
			ids = append(ids, r.submit().JobID)
		}
		for _, id := range ids {
			r.await(id, "SUCCEEDED")
		}
	})
}

func TestT071_ACancelReachesTheChildren(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 10)
		parent := r.submit("topic", "job.test.ask")
		var children []receipt
		for range 3 {
			children = append(children, r.submit("parent_job_id", parent.JobID))
			w.send(progressOf(w.job().GetJobId()))
		}
		grandchild := r.submit("topic", "job.test.ask", "parent_job_id", children[0].JobID)
		w.result(children[2].JobID, ok, "")
		w.answer(children[2].JobID)
		r.post("/api/v1/jobs/"+parent.JobID+"/cancel", nil).ok(200)
		for id, state := range map[string]string{
			parent.JobID: "CANCELLED", children[0].JobID: "CANCELLED", children[1].JobID: "CANCELLED", children[2].JobID: "SUCCEEDED", grandchild.JobID: "CANCELLED",
		} {
			if j := r.job(id); j["state"] != state {
				t.Errorf("%s is %v, want %s", id, j["state"], state)
			}
		}
		told := map[string]bool{}
		for range 2 {
			told[w.cancelled()] = true
		}
		if !told[children[0].JobID] || !told[children[1].JobID] {
			t.Errorf("the worker was told of %v", told)
		}
	})
}
