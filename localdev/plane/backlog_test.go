package plane_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// ports makes a rig's ports available to its test.
func ports(cfg *plane.Config) *dispatch.Platform {
	var kept dispatch.Platform
	cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
		kept = p
		return p
	}
	return &kept
}

func TestABacklogFlows(t *testing.T) {
	virtually(t, everyMinute(), func(t *testing.T, r *rig) {
		var ids []string
		for range 400 {
			ids = append(ids, r.submit().JobID)
		}
		began := time.Now()
		r.work(map[string]worker.Handler{"job.test.*": func(context.Context, *worker.Job) (any, error) {
			time.Sleep(300 * time.Millisecond)
			return nil, nil
		}}, func(c *worker.Config) { c.MaxParallel = 16 })
		for _, id := range ids {
			r.awaitFor(id, "SUCCEEDED", time.Minute)
		}
		if took, ideal := time.Since(began), 400/16*300*time.Millisecond; took > ideal+3*time.Second {
			t.Errorf("400 jobs of 300 ms on 16 slots took %s, not about %s", took, ideal)
		}
	})
}

func TestAWorkerWithManyJobsConnectsAgain(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		const n = 300
		first := r.connect("k-worker", "w1", "main", n)
		for range n {
			r.submit()
		}
		for range n {
			first.job()
		}
		first.cancel()
		time.Sleep(time.Second)
		second := r.connect("k-worker", "w1", "main", n)
		for range n {
			id := second.job().GetJobId()
			second.result(id, ok, "")
			r.await(id, "SUCCEEDED")
		}
	})
}

func TestATicketReceivedTooOftenIsReplaced(t *testing.T) {
	cfg := everyMinute()
	p := ports(&cfg)
	virtually(t, cfg, func(t *testing.T, r *rig) {
		id := r.submit().JobID
		time.Sleep(130 * time.Second) // it was sent again after half a minute, one and two, and will be after four
		for {
			msgs, err := p.Queues.Receive(t.Context(), resources.Pool("main"), 10, 0, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if len(msgs) == 0 {
				break
			}
			for _, m := range msgs {
				if err := p.Queues.Delete(t.Context(), resources.Pool("main"), m.Receipt); err != nil {
					t.Fatal(err)
				}
			}
		}
		ticket := queue.Message{Body: fmt.Sprintf(`{"job":%q,"attempt":1}`, id)}
		if err := p.Queues.Send(t.Context(), resources.DeadLetters, ticket); err != nil {
			t.Fatal(err)
		}
		r.work(map[string]worker.Handler{"job.test.*": func(context.Context, *worker.Job) (any, error) { return nil, nil }})
		r.within(id, "SUCCEEDED", 25*time.Second, 35*time.Second)
		if items := r.get("/api/v1/dlq").ok(200); strings.Contains(items.Body, id) {
			t.Errorf("a ticket is no dead letter: %s", items.Body)
		}
	})
}

func TestManyRestartsLeaveADeliveryQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(today))
		cfg := config()
		cfg.Dir = t.TempDir()
		for range 2 * resources.DeliveryQueues {
			p, err := plane.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			p.Start()
			time.Sleep(time.Second)
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
		}
		r := open(t, cfg)
		w := r.connect("k-worker", "w1", "main", 1)
		time.Sleep(3 * time.Second)
		began := time.Now()
		id := r.submit("labels", map[string]string{"preferred_worker_id": "w1"}).JobID
		if got := w.job().GetJobId(); got != id || time.Since(began) > time.Second {
			t.Errorf("%s came after %s, not %s at once", got, time.Since(began), id)
		}
	})
}
