package plane_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// What happens while something that the plane stands on is out of reach.

var errDown = errors.New("out of reach")

// switchable queues and tables fail while their switch is on.
type switchable struct {
	queue.Queues
	down *atomic.Bool
}

func (q switchable) Send(ctx context.Context, name string, msgs ...queue.Message) error {
	if q.down.Load() {
		return errDown
	}
	return q.Queues.Send(ctx, name, msgs...)
}

type table struct {
	store.Table
	writes, policy *atomic.Bool
}

func (t table) Write(ctx context.Context, ops ...store.Op) error {
	if t.writes.Load() {
		return store.ErrUnavailable
	}
	return t.Table.Write(ctx, ops...)
}

func (t table) Get(ctx context.Context, key store.Key) (store.Item, error) {
	if t.policy.Load() && strings.HasPrefix(key.PK, "POLICY#") {
		return store.Item{}, store.ErrUnavailable
	}
	return t.Table.Get(ctx, key)
}

type blobs struct {
	blob.Store
	down *atomic.Bool
}

func (b blobs) Put(ctx context.Context, key string, data []byte, o blob.PutOptions) error {
	if b.down.Load() {
		return blob.ErrUnavailable
	}
	return b.Store.Put(ctx, key, data, o)
}

type switches struct{ queues, writes, policy, blobs atomic.Bool }

func faulty() (plane.Config, *switches) {
	s, cfg := &switches{}, config()
	cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
		p.Queues = switchable{p.Queues, &s.queues}
		p.Table = table{p.Table, &s.writes, &s.policy}
		p.Blobs = blobs{p.Blobs, &s.blobs}
		return p
	}
	return cfg, s
}

func TestT015_T027_T044_AQueueOutOfReach(t *testing.T) {
	cfg, s := faulty()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		s.queues.Store(true)
		rc := r.submit()
		if rc.Status != "pending" || rc.Reason != "queue unavailable" {
			t.Errorf("receipt %+v", rc)
		}
		if j := r.job(rc.JobID); j["state"] != "PENDING" || j["error_code"] != nil {
			t.Errorf("job %v %v", j["state"], j["error_code"])
		}
		time.Sleep(time.Minute)
		s.queues.Store(false)
		jobs := make(chan *worker.Job, 4)
		r.work(map[string]worker.Handler{"job.test.*": keep(jobs)})
		r.await(rc.JobID, "SUCCEEDED")
		if len(jobs) != 1 || (<-jobs).TraceID != rc.TraceID {
			t.Error("it did not run exactly once with its trace id")
		}
	})
}

func TestT016_AStoreOutOfReachStoresNothing(t *testing.T) {
	cfg, s := faulty()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		s.writes.Store(true)
		a := r.post("/api/v1/jobs", body())
		s.writes.Store(false)
		a.refused(503, "service unavailable")
		s.blobs.Store(true)
		b := r.post("/api/v1/jobs", body("context", strings.Repeat("x", 40000)))
		s.blobs.Store(false)
		b.refused(503, "service unavailable")
		if n := len(r.jobs("")); n != 0 {
			t.Errorf("%d jobs were stored", n)
		}
	})
}

func TestT052_WithoutAPolicyAJobWaits(t *testing.T) {
	cfg, s := faulty()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		s.policy.Store(true)
		rc := r.submit()
		if rc.Status != "pending" || rc.Reason != "safety kernel unavailable" {
			t.Errorf("receipt %+v", rc)
		}
		time.Sleep(time.Minute)
		var decisions []map[string]any
		r.get("/api/v1/jobs/" + rc.JobID + "/decisions").ok(200).json(&decisions)
		if len(decisions) < 3 || len(decisions) > 12 || decisions[0]["decision"] != "UNAVAILABLE" {
			t.Errorf("%d decisions, the last %v", len(decisions), decisions[0])
		}
		s.policy.Store(false)
		r.work(map[string]worker.Handler{"job.test.*": succeed})
		if j := r.await(rc.JobID, "SUCCEEDED"); j["safety_decision"] != "ALLOW" {
			t.Errorf("job %v", j["safety_decision"])
		}
	})
}

func TestT028_TheSecondAttemptIsDelivered(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		first := r.connect("k-worker", "w1", "main", 1)
		r.submit()
		first.job()
		first.cancel()
		second := r.connect("k-worker", "w2", "main", 1)
		if got := second.job(); got.GetEnv()["CORDUM_ATTEMPT"] != "2" {
			t.Errorf("got %v", got)
		}
	})
}

func TestT035_RunningTooLong(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 2)
		brief, long := r.submit("topic", "job.test.brief"), r.submit()
		for range 2 {
			w.send(progressOf(w.job().GetJobId()))
		}
		time.Sleep(2 * time.Minute)
		if j := r.job(brief.JobID); j["state"] != "TIMEOUT" {
			t.Errorf("over its limit: %v", j["state"])
		}
		if j := r.job(long.JobID); j["state"] != "RUNNING" {
			t.Errorf("within its limit: %v", j["state"])
		}
		time.Sleep(14 * time.Minute)
		if j := r.job(long.JobID); j["state"] != "TIMEOUT" || j["error_code"] != "timeout" {
			t.Errorf("over the default limit: %v", j["state"])
		}
	})
}

func TestT073_AWorkersOwnErrorPayloadSurvives(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 1)
		rc := r.submit()
		id := w.job().GetJobId()
		writeResult(t, w, id, `{"stack":"mine"}`)
		w.result(id, failed, "X")
		w.answer(id)
		if j := r.job(rc.JobID); j["state"] != "FAILED" || j["result"].(map[string]any)["stack"] != "mine" {
			t.Errorf("job %v", j["result"])
		}
	})
}

func TestT100_DuplicateDeliveriesDispatchOnce(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		rc := r.submit()
		for range 5 {
			body := `{"job":"` + rc.JobID + `","attempt":1}`
			if err := r.plane.Dispatcher.Queues.Send(t.Context(), "pool-main", queue.Message{Body: body}); err != nil {
				t.Fatal(err)
			}
		}
		jobs := make(chan *worker.Job, 10)
		r.work(map[string]worker.Handler{"job.test.*": keep(jobs)})
		r.await(rc.JobID, "SUCCEEDED")
		time.Sleep(time.Minute)
		if len(jobs) != 1 {
			t.Errorf("it ran %d times", len(jobs))
		}
	})
}

func TestT143_MessagesThatAreNoTickets(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		for _, text := range []string{"x", "{}", `{"job":7}`, `{"job":"nobody","attempt":1}`} {
			if err := r.plane.Dispatcher.Queues.Send(t.Context(), "pool-main", queue.Message{Body: text}); err != nil {
				t.Fatal(err)
			}
		}
		r.work(map[string]worker.Handler{"job.test.*": succeed})
		r.await(r.submit().JobID, "SUCCEEDED")
		if n, err := r.plane.Dispatcher.Queues.Depth(t.Context(), "pool-main"); err != nil || n != 0 {
			t.Errorf("%d messages are left, %v", n, err)
		}
	})
}

func TestAPlaneOnUnrulyAdaptersLosesNothing(t *testing.T) {
	for seed := range uint64(3) {
		cfg := config()
		cfg.Embedded = embedded.Options{Unruly: seed + 1}
		virtually(t, cfg, func(t *testing.T, r *rig) {
			var runs atomic.Int32
			r.work(map[string]worker.Handler{"job.test.*": func(context.Context, *worker.Job) (any, error) { runs.Add(1); return nil, nil }})
			var ids []string
			for len(ids) < 30 {
				a := r.post("/api/v1/jobs", body())
				if a.Status == 503 { // a write that collided more often than it is tried; nothing was stored
					continue
				}
				var rc receipt
				a.ok(200).json(&rc)
				ids = append(ids, rc.JobID)
			}
			for _, id := range ids {
				r.await(id, "SUCCEEDED")
			}
			if n := runs.Load(); n != 30 {
				t.Errorf("seed %d: %d runs of 30 jobs", seed, n)
			}
		})
	}
}

func TestAPlaneKeepsItsJobsAcrossARestart(t *testing.T) {
	cfg := config()
	cfg.Dir = t.TempDir()
	r := open(t, cfg)
	rc := r.submit("context", map[string]int{"n": 1})
	if err := r.plane.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, cfg)
	again.work(map[string]worker.Handler{"job.test.*": succeed})
	if j := again.await(rc.JobID, "SUCCEEDED"); j["attempts"] != 1.0 {
		t.Errorf("job %v", j)
	}
}
