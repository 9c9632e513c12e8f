package plane_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// A fault at every call to a port that an approval, a rejection or a remediation makes, one after the other, of two kinds: the call is not made, or it
// is made and its answer is lost. Nothing may be half done.

// trap lets calls pass until it is set.
type trap struct {
	left  atomic.Int64 // calls until the fault, 0 for none
	cruel atomic.Bool
}

func (t *trap) set(n int, cruel bool) { t.cruel.Store(cruel); t.left.Store(int64(n)) }

// spring says whether the trap has not been stepped on, and takes it away.
func (t *trap) spring() bool { return t.left.Swap(0) > 0 }

// through makes a call, unless it is the one.
func (t *trap) through(call func() error) error {
	if left := t.left.Load(); left <= 0 || t.left.Add(-1) != 0 {
		return call()
	}
	if t.cruel.Load() {
		_ = call() // its answer is lost
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, os.ErrDeadlineExceeded)
}

type trappedTable struct {
	store.Table
	trap *trap
}

func (t trappedTable) Get(ctx context.Context, key store.Key) (it store.Item, err error) {
	err = t.trap.through(func() (err error) { it, err = t.Table.Get(ctx, key); return err })
	return it, err
}

func (t trappedTable) BatchGet(ctx context.Context, keys []store.Key) (items []store.Item, err error) {
	err = t.trap.through(func() (err error) { items, err = t.Table.BatchGet(ctx, keys); return err })
	return items, err
}

func (t trappedTable) Query(ctx context.Context, q store.Query) (page store.Page, err error) {
	err = t.trap.through(func() (err error) { page, err = t.Table.Query(ctx, q); return err })
	return page, err
}

func (t trappedTable) Write(ctx context.Context, ops ...store.Op) error {
	return t.trap.through(func() error { return t.Table.Write(ctx, ops...) })
}

func (t trappedTable) Update(ctx context.Context, op store.Op) (it store.Item, err error) {
	err = t.trap.through(func() (err error) { it, err = t.Table.Update(ctx, op); return err })
	return it, err
}

type trappedQueues struct {
	queue.Queues
	trap *trap
}

func (q trappedQueues) Send(ctx context.Context, name string, msgs ...queue.Message) error {
	return q.trap.through(func() error { return q.Queues.Send(ctx, name, msgs...) })
}

type trappedBlobs struct {
	blob.Store
	trap *trap
}

func (b trappedBlobs) Put(ctx context.Context, key string, data []byte, o blob.PutOptions) error {
	return b.trap.through(func() error { return b.Store.Put(ctx, key, data, o) })
}

func (b trappedBlobs) Get(ctx context.Context, key string, limit int64) (data []byte, info blob.Object, err error) {
	err = b.trap.through(func() (err error) { data, info, err = b.Store.Get(ctx, key, limit); return err })
	return data, info, err
}

// everywhere plays a scene with a fault at its first call, at its second and so on, until it makes no more.
func everywhere(t *testing.T, cfg plane.Config, scene func(t *testing.T, r *rig, deed func(func() answer) answer)) {
	t.Helper()
	for _, cruel := range []bool{false, true} {
		faults := &trap{}
		cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
			p.Table, p.Queues, p.Blobs = trappedTable{p.Table, faults}, trappedQueues{p.Queues, faults}, trappedBlobs{p.Blobs, faults}
			return p
		}
		virtually(t, cfg, func(t *testing.T, r *rig) {
			for n := 1; ; n++ {
				missed := false
				r.step(fmt.Sprintf("call %d, cruel: %t", n, cruel), func() {
					scene(t, r, func(do func() answer) answer {
						faults.set(n, cruel)
						a := do()
						missed = faults.spring()
						return a
					})
				})
				if missed {
					if n <= 3 {
						t.Errorf("only %d calls were made", n-1)
					}
					t.Logf("%d calls", n-1)
					return
				}
				if n > 100 || t.Failed() {
					t.Fatalf("after %d calls", n)
				}
			}
		})
	}
}

// entriesOf counts the audit entries about a job.
func (r *rig) entriesOf(id string) (n int) {
	for _, e := range r.entries("default") {
		if e.ResourceID == id {
			n++
		}
	}
	return n
}

func TestAnApprovalIsNeverHalfDone(t *testing.T) {
	var runs atomic.Int64
	everywhere(t, asking(), func(t *testing.T, r *rig, deed func(func() answer) answer) {
		stop := r.work(map[string]worker.Handler{"job.*": func(context.Context, *worker.Job) (any, error) { runs.Add(1); return 1, nil }})
		defer stop()
		runs.Store(0)
		id := r.submit("topic", "job.fragile", "deadline_ms", int64(time.Hour/time.Millisecond)).JobID // with a limit that is counted
		a := deed(func() answer { return r.approve(id, map[string]string{"reason": "go"}) })
		j := r.job(id)
		switch {
		case a.Status == 200 && j["approval_by"] != "ada":
			t.Errorf("acknowledged, and the job is %v", j)
		case a.Status != 200 && a.Status != 503:
			t.Errorf("HTTP %d %s", a.Status, a.Body)
		case j["state"] == "APPROVAL_REQUIRED":
			if j["approval_by"] != nil || r.entriesOf(id) != 0 || len(r.approvals("k-admin", "", 10)) != 1 {
				t.Errorf("half done: %v", j)
			}
			r.approve(id, nil).ok(200)
		}
		if j := r.await(id, "SUCCEEDED"); runs.Load() != 1 || r.entriesOf(id) != 1 || j["safety_reason"] != "approval granted" {
			t.Errorf("%d runs, %d entries, job %v", runs.Load(), r.entriesOf(id), j)
		}
		var decisions []map[string]any
		if r.get("/api/v1/jobs/" + id + "/decisions").ok(200).json(&decisions); len(decisions) < 2 || decisions[0]["reason"] != "approval granted" {
			t.Errorf("decisions %v", decisions)
		}
	})
}

func TestARejectionIsNeverHalfDone(t *testing.T) {
	everywhere(t, asking(), func(t *testing.T, r *rig, deed func(func() answer) answer) {
		id := r.submit("topic", "job.test.ask").JobID
		a := deed(func() answer { return r.reject(id, map[string]string{"reason": "no"}) })
		j := r.job(id)
		denied := j["state"] == "DENIED"
		if a.Status != 200 && a.Status != 503 || a.Status == 200 && !denied || denied != (j["approval_by"] == "ada") || denied != (r.letter(id) != nil) ||
			denied != (r.entriesOf(id) == 1) || denied != (len(r.approvals("k-admin", "", 10)) == 0) {
			t.Errorf("HTTP %d %s, half done: %v", a.Status, a.Body, j)
		}
		if !denied {
			r.reject(id, nil).ok(200)
		}
	})
}

func TestARemediationIsNeverHalfDone(t *testing.T) {
	everywhere(t, suggest(), func(t *testing.T, r *rig, deed func(func() answer) answer) {
		rc := r.submit("topic", "job.test.wipe")
		key := []string{"Idempotency-Key", "k"}
		a := deed(func() answer { return r.remediate(rc.JobID, nil, key...) })
		links, _ := r.job(rc.JobID)["remediation_jobs"].([]any)
		if a.Status != 200 && a.Status != 503 && a.Status != 500 || a.Status == 200 && len(links) != 1 || len(links) != r.entriesOf(rc.JobID) ||
			len(r.jobs("trace_id="+rc.TraceID)) != 1+len(links) {
			t.Errorf("HTTP %d %s, half done: links %v, %d entries, %d jobs", a.Status, a.Body, links, r.entriesOf(rc.JobID), len(r.jobs("trace_id="+rc.TraceID)))
		}
		id := r.remediate(rc.JobID, nil, key...).ok(200).object()["job_id"].(string)
		if len(links) == 1 && links[0] != id {
			t.Errorf("a second job %s beside %v", id, links)
		}
		stop := r.work(map[string]worker.Handler{"job.*": succeed})
		r.await(id, "SUCCEEDED")
		stop()
	})
}
