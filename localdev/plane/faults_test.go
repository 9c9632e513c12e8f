package plane_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/cordum-serverless/cordum/localdev/plane"
	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/chaos"
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
	writes, updates, policy, config, repeats *atomic.Bool
}

func (t table) BatchGet(ctx context.Context, keys []store.Key) ([]store.Item, error) {
	if t.config.Load() && len(keys) > 0 && strings.HasPrefix(keys[0].PK, "CFG#") {
		return nil, store.ErrUnavailable
	}
	return t.Table.BatchGet(ctx, keys)
}

func (t table) Write(ctx context.Context, ops ...store.Op) error {
	if t.writes.Load() {
		return store.ErrUnavailable
	}
	if t.repeats.Load() && len(ops) == 1 { // as AWS's SDK does when an answer is lost; transactions carry a token
		if err := t.Table.Write(ctx, ops...); err != nil {
			return err
		}
	}
	return t.Table.Write(ctx, ops...)
}

func (t table) Update(ctx context.Context, op store.Op) (store.Item, error) {
	if t.updates.Load() {
		return store.Item{}, store.ErrUnavailable
	}
	return t.Table.Update(ctx, op)
}

func (t table) Get(ctx context.Context, key store.Key) (store.Item, error) {
	if t.policy.Load() && strings.HasPrefix(key.PK, "POLICY#") {
		return store.Item{}, store.ErrUnavailable
	}
	return t.Table.Get(ctx, key)
}

type blobs struct {
	blob.Store
	down, unread *atomic.Bool
}

func (b blobs) Put(ctx context.Context, key string, data []byte, o blob.PutOptions) error {
	if b.down.Load() {
		return blob.ErrUnavailable
	}
	return b.Store.Put(ctx, key, data, o)
}

func (b blobs) Get(ctx context.Context, key string, limit int64) ([]byte, blob.Object, error) {
	if b.unread.Load() {
		return nil, blob.Object{}, blob.ErrUnavailable
	}
	return b.Store.Get(ctx, key, limit)
}

type switches struct{ queues, writes, updates, policy, config, blobs, unread, repeats atomic.Bool }

func faulty() (plane.Config, *switches) {
	s, cfg := &switches{}, config()
	cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
		p.Queues = switchable{p.Queues, &s.queues}
		p.Table = table{p.Table, &s.writes, &s.updates, &s.policy, &s.config, &s.repeats}
		p.Blobs = blobs{p.Blobs, &s.blobs, &s.unread}
		return p
	}
	return cfg, s
}

func TestT015_T027_T044_AQueueOutOfReach(t *testing.T) {
	cfg, s := faulty()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		s.queues.Store(true)
		rc := r.submit("labels", map[string]string{"kept": "yes"}, "max_total_tokens", 77)
		if rc.Status != "pending" || rc.Reason != "queue unavailable" {
			t.Errorf("receipt %+v", rc)
		}
		if j := r.job(rc.JobID); j["state"] != "PENDING" || j["error_code"] != nil {
			t.Errorf("job %v %v", j["state"], j["error_code"])
		}
		time.Sleep(6 * time.Minute) // longer than the dispatch timeout
		if e := r.letter(rc.JobID); e != nil {
			t.Errorf("a job that waits has a dead letter: %v", e)
		}
		s.queues.Store(false)
		for range 5 { // whoever looks at it meanwhile: it is sent once
			r.send("dispatch", `{"wake":"job","job":"`+rc.JobID+`"}`)
		}
		jobs := make(chan *worker.Job, 4)
		r.work(map[string]worker.Handler{"job.test.*": keep(jobs)})
		if j := r.await(rc.JobID, "SUCCEEDED"); j["attempts"] != 1.0 || len(jobs) != 1 {
			t.Fatalf("%d runs, attempts %v", len(jobs), j["attempts"])
		}
		if j := <-jobs; j.TraceID != rc.TraceID || j.Labels["kept"] != "yes" || j.Request.GetBudget().GetMaxTotalTokens() != 77 {
			t.Errorf("it did not run as it was submitted: %v", j.Request)
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

func TestASubmissionThatIsWrittenTwiceIsSentAtOnce(t *testing.T) {
	cfg, s := faulty()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		s.repeats.Store(true)
		plain, named := r.submit(), r.submit("idempotency_key", "k")
		if again := r.submit("idempotency_key", "k"); again.JobID != named.JobID {
			t.Errorf("the key made %s and %s", named.JobID, again.JobID)
		}
		s.repeats.Store(false)
		r.connect("k-worker", "w1", "main", 4)
		for _, rc := range []receipt{plain, named} {
			r.awaitFor(rc.JobID, "DISPATCHED", 5*time.Second) // not at the resend, after 30
		}
	})
}

func TestASlotWhoseClaimFailedIsPulledForAgain(t *testing.T) {
	cfg, s := faulty()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		w := r.streamTo(r.dial, "k-worker", "w1")
		beat := &agentv1.Heartbeat{WorkerId: "w1", Pool: "main", MaxParallelJobs: 1}
		w.send(&agentv1.BusPacket{Payload: &agentv1.BusPacket_Heartbeat{Heartbeat: beat}}) // and no other
		time.Sleep(time.Second)
		s.updates.Store(true)
		id := r.submit().JobID
		time.Sleep(time.Second)
		s.updates.Store(false)
		r.awaitFor(id, "DISPATCHED", 10*time.Second)
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
		handed := time.Now()
		first.cancel()
		second := r.connect("k-worker", "w2", "main", 1)
		if got := second.job(); got.GetEnv()["CORDUM_ATTEMPT"] != "2" || time.Since(handed) > 2*time.Minute { // the window of the original's bus
			t.Errorf("after %s got %v", time.Since(handed), got)
		}
	})
}

func TestT035_RunningTooLong(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 3)
		brief, long := r.submit("topic", "job.test.brief"), r.submit()
		for range 2 {
			w.send(progressOf(w.job().GetJobId()))
		}
		done := r.submit("topic", "job.test.brief")
		w.result(w.job().GetJobId(), ok, "")
		w.answer(done.JobID)
		ended := r.job(done.JobID)
		time.Sleep(2 * time.Minute)
		if j := r.job(brief.JobID); j["state"] != "TIMEOUT" {
			t.Errorf("over its limit: %v", j["state"])
		}
		if j := r.job(done.JobID); j["state"] != "SUCCEEDED" || j["updated_at"] != ended["updated_at"] {
			t.Errorf("a finished job was touched: %v", j)
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
	virtually(t, twoContainers(), func(t *testing.T, r *rig) {
		rc := r.submit()
		for range 9 {
			r.deliver(rc.JobID, 1)
		}
		jobs := make(chan *worker.Job, 10)
		for n := range 2 { // both containers take tickets at once
			r.work(map[string]worker.Handler{"job.test.*": keep(jobs)}, func(c *worker.Config) {
				c.ID, c.MaxParallel = fmt.Sprint("w", n), 10
				c.DialOptions = []grpc.DialOption{grpc.WithContextDialer(r.dialer(n))}
			})
		}
		r.await(rc.JobID, "SUCCEEDED")
		time.Sleep(time.Minute)
		if j := r.job(rc.JobID); len(jobs) != 1 || j["attempts"] != 1.0 {
			t.Errorf("it ran %d times, attempts %v", len(jobs), j["attempts"])
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

func TestAPlaneOnChaos(t *testing.T) {
	for _, text := range []string{"mild", "rough", "cruel"} {
		for seed := range 3 {
			profile, err := chaos.Parse(fmt.Sprintf("%s,seed=%d", text, seed))
			if err != nil {
				t.Fatal(err)
			}
			faults := chaos.New(profile)
			faults.Off()
			cfg := everyMinute()
			cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
				p.Table, p.Queues = faults.Table(p.Table), faults.Queues(p.Queues)
				p.Blobs, p.Connections = faults.Blobs(p.Blobs), faults.Connections(p.Connections)
				return p
			}
			virtually(t, cfg, func(t *testing.T, r *rig) {
				var runs atomic.Int32
				r.work(map[string]worker.Handler{"job.test.*": func(context.Context, *worker.Job) (any, error) {
					runs.Add(1)
					time.Sleep(200 * time.Millisecond)
					return nil, nil
				}}, func(c *worker.Config) { c.MaxParallel = 10 })
				time.Sleep(time.Second)
				faults.On()
				var ids []string
				for i := range 60 {
					res := r.post("/api/v1/jobs", body("idempotency_key", fmt.Sprint("k", i)))
					for tries := 0; res.Status >= 500 && tries < 30; tries++ { // the key makes asking again safe
						time.Sleep(time.Second)
						res = r.post("/api/v1/jobs", body("idempotency_key", fmt.Sprint("k", i)))
					}
					var rc receipt
					res.ok(200).json(&rc)
					ids = append(ids, rc.JobID)
				}
				time.Sleep(5 * time.Minute) // in which faults go on
				done := 0
				for _, id := range ids {
					var j map[string]any
					if res := r.get("/api/v1/jobs/" + id); res.Status == 200 {
						res.json(&j)
					}
					if j["state"] == "SUCCEEDED" {
						done++
					}
				}
				faults.Off()
				if done < 50 {
					t.Errorf("%s: after five minutes %d of 60 jobs are done", profile, done)
				}
				for _, id := range ids {
					r.awaitFor(id, "SUCCEEDED", 15*time.Minute)
				}
				if n := runs.Load(); n > 80 {
					t.Errorf("%s: %d runs of 60 jobs", profile, n)
				}
			})
		}
	}
}
