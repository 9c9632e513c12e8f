package plane_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/sdk/worker"
)

// counted fails the test unless the tenant's counter stands so.
func (r *rig) counted(active, queued int64) {
	r.t.Helper()
	a, q, err := r.plane.Dispatcher.Jobs.Counts(r.t.Context(), "default")
	if err != nil || a != active || q != queued {
		r.t.Errorf("%d active and %d queued, %v; want %d and %d", a, q, err, active, queued)
	}
}

// full fails the test unless a submission finds the queue full.
func (r *rig) full(active, limit int) {
	r.t.Helper()
	r.post("/api/v1/jobs", body()).refused(429, fmt.Sprintf("job queue full (active=%d, limit=%d)", active, limit))
}

func TestAQueueIsFull(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.configure(map[string]string{"limits": `{"max_concurrent_jobs":2}`, "rate_limits": `{"queue_size":2}`})
		first := []string{r.submit().JobID, r.submit().JobID}
		queued := []receipt{r.submit("idempotency_key", "k"), r.submit()}
		for _, rc := range queued {
			if rc.Status != "pending" || rc.Reason != "tenant_limit" {
				t.Errorf("over the limit: %+v", rc)
			}
		}
		time.Sleep(time.Minute) // they are decided again and again
		r.counted(2, 2)
		r.full(4, 4)
		if again := r.submit("idempotency_key", "k"); again.JobID != queued[0].JobID {
			t.Errorf("a key that was used before made %s", again.JobID)
		}
		r.post("/api/v1/jobs/"+queued[1].JobID+"/cancel", nil).ok(200) // one that waits gives its place in the queue back
		r.post("/api/v1/jobs/"+queued[1].JobID+"/cancel", nil).ok(200)
		r.counted(2, 1)
		last := r.submit("deadline_ms", 30_000).JobID
		r.full(4, 4)
		r.await(last, "TIMEOUT")
		r.counted(2, 1)
		r.post("/api/v1/jobs/"+first[0]+"/cancel", nil).ok(200) // its place is the next one's
		r.await(queued[0].JobID, "SCHEDULED")
		r.counted(2, 0)
		r.work(map[string]worker.Handler{"job.test.*": succeed})
		r.await(first[1], "SUCCEEDED")
		r.await(queued[0].JobID, "SUCCEEDED")
		r.counted(0, 0)
	})
}

// What waits for something else has no place in the queue, and what is retried or approved finds none where it is full.
func TestWhatWaitsOtherwiseIsNotInTheQueue(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		denied, asking := r.submit("topic", "job.test.wipe").JobID, r.submit("topic", "job.test.ask").JobID
		r.configure(map[string]string{"limits": `{"max_concurrent_jobs":1}`})
		r.submit("topic", "job.test.slow")
		r.counted(0, 0)
		r.submit()
		r.full(1, 1)
		r.post("/api/v1/dlq/"+denied+"/retry", nil).refused(429, "job queue full (active=1, limit=1)")
		r.get("/api/v1/dlq/page").ok(200)
		r.post("/api/v1/approvals/"+asking+"/approve", nil).ok(200) // it is there already
		r.await(asking, "PENDING")
		r.counted(1, 1)
		r.configure(map[string]string{"limits": `{}`})
		r.await(asking, "SCHEDULED")
		if _, queued, err := r.plane.Dispatcher.Jobs.Counts(t.Context(), "default"); err != nil || queued != 0 {
			t.Errorf("%d are queued without a limit, %v", queued, err)
		}
		r.post("/api/v1/dlq/"+denied+"/retry", nil).ok(200) // the letter was still there
	})
}

func TestLimitsOfATenantsOwnConfiguration(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.configure(map[string]string{"limits": `{"max_concurrent_jobs":9}`})
		set := func(scope, id string, data map[string]any) {
			r.post(configPath, pairs("scope", scope, "scope_id", id, "data", data)).ok(204)
		}
		set("org", "default", pairs("limits", pairs("max_concurrent_jobs", 1), "rate_limits", pairs("queue_size", 1)))
		first, second := r.submit(), r.submit()
		if first.Status != "scheduled" || second.Status != "pending" || second.Reason != "tenant_limit" {
			t.Errorf("with a limit of 1: %+v, %+v", first, second)
		}
		r.full(2, 2)
		set("team", "red", pairs("limits", pairs("max_concurrent_jobs", 3))) // the last document has its way
		if rc := r.submit("team_id", "red"); rc.Status != "scheduled" {
			t.Errorf("of a team with a higher limit: %+v", rc)
		}
		r.full(3, 2)
		set("org", "default", pairs("limits", []int{1})) // of no use: system/default's hold
		if rc := r.submit(); rc.Status != "scheduled" {
			t.Errorf("with limits that cannot be read: %+v", rc)
		}
		r.as("k-other", "POST", "/api/v1/jobs", body()).ok(200)
	})
}

// The effective configuration may forbid memories; what a job or a run has without naming one is its own.
func TestForbiddenMemories(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.change("org", "default", pairs("context", pairs("allowed_memory_ids", []string{"team:*"}, "denied_memory_ids", []string{"team:secret"}))).ok(204)
		for memory, status := range map[string]int{"team:a": 200, "team:secret": 403, "other": 403, "": 200} {
			r.post("/api/v1/jobs", body("memory_id", memory)).ok(status)
		}
		r.post("/api/v1/jobs", body("memory_id", "other")).refused(403, "memory_id other is not allowed")
		if n := len(r.get("/api/v1/jobs").ok(200).object()["items"].([]any)); n != 2 {
			t.Errorf("%d jobs, of which two were refused", n)
		}
		r.work(map[string]worker.Handler{"job.test.*": succeed})
		r.as("k-other", "POST", "/api/v1/jobs", body("memory_id", "other"), "X-Tenant-ID", "other").ok(200) // whose lists these are not
		r.post("/api/v1/workflows", pairs("id", "memo", "steps", pairs("a", pairs("topic", "job.test.work")))).ok(201)
		for input, want := range map[string]string{`{}`: "succeeded", `{"memory_id":"team:b"}`: "succeeded", `{"memory_id":"team:secret"}`: "failed"} {
			run := r.post("/api/v1/workflows/memo/runs", input).ok(200).object()["run_id"].(string)
			time.Sleep(time.Minute)
			got := r.get("/api/v1/workflow-runs/" + run).ok(200).object()
			if got["status"] != want {
				t.Errorf("with %s: %v, want %s", input, got, want)
			}
		}
	})
}
