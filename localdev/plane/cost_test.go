package plane_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/localdev/cost"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// budgetDollars is the most that a million single-step jobs may cost, with everything but subscribers.
const budgetDollars = 12.0

// TestCost measures each part of a job's life on a plane of its own and holds the budget of the whole.
func TestCost(t *testing.T) {
	meter := &store.Meter{}
	queues := &cost.Queues{}
	cfg := config()
	cfg.Meter = meter
	cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
		queues.Queues = p.Queues
		p.Queues = queues
		p.Shards = 4 // as on AWS
		return p
	}
	virtually(t, cfg, func(t *testing.T, r *rig) {
		started, release := make(chan *worker.Job, 1), make(chan struct{})
		r.work(map[string]worker.Handler{"job.test.*": func(ctx context.Context, job *worker.Job) (any, error) {
			var in map[string]any
			if err := job.DecodeContext(ctx, &in); err != nil {
				return nil, err
			}
			started <- job
			<-release
			job.Progress(50, "half way")
			time.Sleep(100 * time.Millisecond)
			return map[string]any{"digest": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}, nil
		}}, func(c *worker.Config) { c.Heartbeat = time.Hour }) // heartbeats belong to workers, not to jobs
		warm(r, started, release)

		var total cost.Life
		part := func(name string, http float64, do func()) {
			before, calls := meter.Read(), queues.Calls.Load()
			do()
			l := cost.Life{Usage: meter.Read().Since(before), QueueCalls: float64(queues.Calls.Load() - calls), HTTPRequests: http, Invocations: http}
			l.Print(os.Stdout, name)
			total.Add(l)
		}
		var rc receipt
		part("submit+claim", 1, func() {
			rc = r.submit("context", map[string]string{"text": "abc"})
			<-started
			time.Sleep(time.Millisecond)
		})
		part("progress+result", 0, func() {
			release <- struct{}{}
			time.Sleep(500 * time.Millisecond)
		})
		if j := r.job(rc.JobID); j["state"] != "SUCCEEDED" {
			t.Fatalf("job %v", j)
		}
		before := meter.Read()
		r.get("/api/v1/jobs?limit=50").ok(200)
		list := cost.Life{Usage: meter.Read().Since(before), HTTPRequests: 1, Invocations: 1}
		list.Print(os.Stdout, "list_page")
		list.Divide(50).Print(os.Stdout, "listed_row")
		total.Add(list.Divide(50)) // every job is looked at once, on a page of 50
		total.Print(os.Stdout, "job")
		sealedCost(r, meter)
		if d := total.Dollars(); d > budgetDollars {
			t.Errorf("a million jobs cost %.2f dollars, the budget is %.2f", d, budgetDollars)
		}
	})
}

// later is a clock two minutes ahead.
type later struct{}

func (later) Now() time.Time { return time.Now().Add(2 * time.Minute) }

// sealedCost measures what the audit trail takes for a job after its end, where many are sealed at once. Objects, one for a chain and a run, come on top.
func sealedCost(r *rig, meter *store.Meter) {
	const jobs = 200
	s := *r.plane.Sealer
	s.Clock = later{}
	seal := func() cost.Life {
		before := meter.Read()
		if _, err := s.Run(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
		return cost.Life{Usage: meter.Read().Since(before)}
	}
	seal()
	for range jobs {
		r.submit("topic", "job.test.ask")
	}
	seal().Divide(jobs).Print(os.Stdout, "sealed")
}

// warm reads what is read once in a while: settings and the compiled policy.
func warm(r *rig, started chan *worker.Job, release chan struct{}) {
	rc := r.submit()
	<-started
	release <- struct{}{}
	r.await(rc.JobID, "SUCCEEDED")
}

// TestCostOfARun measures what the engine takes for a step beside its job: of a chain of ten, as a difference to ten jobs.
func TestCostOfARun(t *testing.T) {
	const steps = 10
	meter := &store.Meter{}
	queues := &cost.Queues{}
	cfg := everyMinute()
	cfg.Meter = meter
	cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
		queues.Queues = p.Queues
		p.Queues = queues
		p.Shards = 4 // as on AWS
		return p
	}
	virtually(t, cfg, func(t *testing.T, r *rig) {
		r.work(map[string]worker.Handler{"job.test.*": answering("done")}, func(c *worker.Config) { c.Heartbeat = time.Hour })
		chain := map[string]any{}
		for i := range steps {
			chain[string(rune('a'+i))] = stepJob("job.test.a")
			if i > 0 {
				chain[string(rune('a'+i))] = stepJob("job.test.a", "depends_on", deps(string(rune('a'+i-1))))
			}
		}
		r.saved("w", "steps", chain)
		took := func(do func()) cost.Life {
			before, calls := meter.Read(), queues.Calls.Load()
			do()
			time.Sleep(time.Second)
			return cost.Life{Usage: meter.Read().Since(before), QueueCalls: float64(queues.Calls.Load() - calls)}
		}
		run := func() { r.start("w", nil) }
		alone := func() {
			for range steps {
				r.submit("topic", "job.test.a")
				time.Sleep(50 * time.Millisecond)
			}
		}
		took(run)
		took(alone)
		time.Sleep(10 * time.Second)
		jobs, whole := took(alone), took(run)
		jobs.Divide(steps).Print(os.Stdout, "job_alone")
		whole.Divide(steps).Print(os.Stdout, "step_of_run")
		requests := func(l cost.Life) float64 { return float64(l.Writes+l.Reads) / steps }
		fmt.Printf("cost engine_requests %.1f of a step, %.1f of its job alone\n", requests(whole)-requests(jobs), requests(jobs))
		if n := requests(whole) - requests(jobs); n > 12 {
			t.Errorf("the engine makes %.1f requests to the table for a step", n)
		}
	})
}
