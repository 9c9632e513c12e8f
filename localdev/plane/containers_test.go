package plane_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/sdk/worker"
)

// Two containers behind one load balancer.

func twoContainers() plane.Config {
	cfg := config()
	cfg.Containers = 2
	return cfg
}

func TestTargetedJobsGoThroughTheContainerOfTheirWorker(t *testing.T) {
	virtually(t, twoContainers(), func(t *testing.T, r *rig) {
		a := r.connectTo(r.dialer(0), "k-worker", "wa", "main", 4)
		b := r.connectTo(r.dialer(1), "k-worker", "wb", "main", 4)
		time.Sleep(3 * time.Second)
		for range 3 {
			ja := r.submit("labels", map[string]string{"preferred_worker_id": "wa"}).JobID
			jb := r.submit("labels", map[string]string{"preferred_worker_id": "wb"}).JobID
			if got := a.job().GetJobId(); got != ja {
				t.Errorf("wa got %s", got)
			}
			if got := b.job().GetJobId(); got != jb {
				t.Errorf("wb got %s", got)
			}
			began := time.Now()
			r.post("/api/v1/jobs/"+jb+"/cancel", nil).ok(200)
			if got := b.cancelled(); got != jb || time.Since(began) > time.Second {
				t.Errorf("cancel of %s after %s", got, time.Since(began))
			}
			a.result(ja, ok, "")
			if code := a.answer(ja); code != "" {
				t.Errorf("result: %s", code)
			}
		}
	})
}

func TestResultsAndCancelsThroughTheOtherContainer(t *testing.T) {
	virtually(t, twoContainers(), func(t *testing.T, r *rig) {
		first := r.connectTo(r.dialer(0), "k-worker", "w1", "main", 4)
		kept, stopped := r.submit().JobID, r.submit().JobID
		first.job()
		first.job()
		first.cancel()
		time.Sleep(2 * time.Second)
		second := r.connectTo(r.dialer(1), "k-worker", "w1", "main", 4) // the same worker, through the other one
		for range 2 {
			if j := second.job(); j.GetEnv()["CORDUM_ATTEMPT"] != "1" {
				t.Errorf("attempt %s", j.GetEnv()["CORDUM_ATTEMPT"])
			}
		}
		began := time.Now()
		r.post("/api/v1/jobs/"+stopped+"/cancel", nil).ok(200)
		if got := second.cancelled(); got != stopped || time.Since(began) > time.Second {
			t.Errorf("cancel of %s after %s", got, time.Since(began))
		}
		second.result(kept, ok, "")
		if code := second.answer(kept); code != "" {
			t.Errorf("result: %s", code)
		}
		r.await(kept, "SUCCEEDED")
	})
}

func TestALostCancelComesWithTheNextHeartbeat(t *testing.T) {
	cfg, s := faulty()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 1)
		id := r.submit().JobID
		w.job()
		s.queues.Store(true)
		r.post("/api/v1/jobs/"+id+"/cancel", nil).ok(200)
		s.queues.Store(false)
		began := time.Now()
		if got := w.cancelled(); got != id || time.Since(began) > 11*time.Second {
			t.Errorf("cancel of %s after %s", got, time.Since(began))
		}
	})
}

func TestAContainerDrainsUnderLoad(t *testing.T) {
	virtually(t, twoContainers(), func(t *testing.T, r *rig) {
		var runs atomic.Int32
		handler := func(context.Context, *worker.Job) (any, error) {
			runs.Add(1)
			time.Sleep(700 * time.Millisecond)
			return nil, nil
		}
		for i, name := range []string{"w1", "w2", "w3", "w4"} {
			r.work(map[string]worker.Handler{"job.test.*": handler}, func(c *worker.Config) {
				c.ID = name
				c.DialOptions = []grpc.DialOption{grpc.WithContextDialer(r.dialer(i % 2))}
			})
		}
		var ids []string
		for i := range 120 {
			ids = append(ids, r.submit().JobID)
			time.Sleep(50 * time.Millisecond)
			if i == 40 {
				go r.plane.Drain(r.plane.Containers[0])
			}
		}
		for _, id := range ids {
			if j := r.await(id, "SUCCEEDED"); j["attempts"] != 1.0 {
				t.Errorf("job %s took %v attempts", id, j["attempts"])
			}
		}
		if n := runs.Load(); n != 120 {
			t.Errorf("%d runs of 120 jobs", n)
		}
	})
}
