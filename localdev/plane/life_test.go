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

	"github.com/cordum-serverless/cordum/sdk/worker"
)

// The behaviours of core.md 10 C, E, F and J that concern jobs and their workers.

func succeed(context.Context, *worker.Job) (any, error) { return map[string]bool{"ok": true}, nil }

// block runs until the test lets it go, or until it is cancelled.
func block(started chan<- *worker.Job, release <-chan struct{}) worker.Handler {
	return func(ctx context.Context, job *worker.Job) (any, error) {
		started <- job
		select {
		case <-release:
			return map[string]bool{"ok": true}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func TestT026_WhatIsDeliveredAgainOfAJobThatGoesOnChangesNothing(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		started, release := make(chan *worker.Job, 8), make(chan struct{})
		r.work(map[string]worker.Handler{"job.test.*": func(ctx context.Context, job *worker.Job) (any, error) {
			job.Progress(1, "on my way")
			return block(started, release)(ctx, job)
		}})
		rc := r.submit("idempotency_key", "k")
		<-started
		again := func(state string) {
			t.Helper()
			before := r.await(rc.JobID, state)
			ticket := `{"job":"` + rc.JobID + `","attempt":1}`
			r.send("pool-main", ticket)
			r.send("dead-letters", ticket) // as one that was received too often
			r.send("dispatch", `{"wake":"job","job":"`+rc.JobID+`"}`)
			if same := r.submit("idempotency_key", "k"); same.JobID != rc.JobID { // the submission itself
				t.Errorf("submitted again: %+v", same)
			}
			time.Sleep(5 * time.Second)
			if j := r.job(rc.JobID); j["state"] != state || j["attempts"] != before["attempts"] || len(started) != 0 {
				t.Errorf("%s: the job changed: %v, was %v", state, j, before)
			}
			for _, q := range []string{"pool-main", "dispatch", "dead-letters"} {
				if n := r.depth(q); n != 0 {
					t.Errorf("%s: %d messages are left in %s", state, n, q)
				}
			}
		}
		again("RUNNING")
		close(release)
		again("SUCCEEDED")
	})
}

func TestT031_T032_CancelFromEveryState(t *testing.T) {
	cfg := config()
	cfg.Settings = map[string]json.RawMessage{"limits": json.RawMessage(`{"max_concurrent_jobs":2}`)}
	virtually(t, cfg, func(t *testing.T, r *rig) {
		cases := map[string]string{"job.test.work": "SCHEDULED", "job.test.ask": "APPROVAL_REQUIRED", "job.test.slow": "PENDING"}
		for topic, state := range cases {
			for range 3 { // more often than the limit: a cancel gives the place back
				rc := r.submit("topic", topic)
				if j := r.job(rc.JobID); j["state"] != state {
					t.Fatalf("%s: %v, want %s", topic, j["state"], state)
				}
				a := r.post("/api/v1/jobs/"+rc.JobID+"/cancel", nil).ok(200).object()
				if a["id"] != rc.JobID || a["state"] != "CANCELLED" || a["reason"] != nil {
					t.Errorf("cancel answered %v", a)
				}
				if b := r.post("/api/v1/jobs/"+rc.JobID+"/cancel", nil).ok(200).object(); b["state"] != "CANCELLED" || b["reason"] != nil {
					t.Errorf("second cancel answered %v", b)
				}
			}
		}
	})
}

func TestT031_T070_CancelOfAFinishedAndOfAnUnknownJob(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		stop := r.work(map[string]worker.Handler{"job.test.work": succeed, "job.test.bad": failing})
		ends := map[string]string{r.submit().JobID: "SUCCEEDED", r.submit("topic", "job.test.bad").JobID: "FAILED"}
		ends[r.submit("topic", "job.test.wipe").JobID] = "DENIED"
		for id, state := range ends {
			r.await(id, state)
		}
		stop()
		late := r.submit("deadline_ms", 1000).JobID
		r.await(late, "TIMEOUT")
		ends[late] = "TIMEOUT"
		time.Sleep(time.Second)
		clients := r.watch("k-admin", "/api/v1/stream")
		for id, state := range ends {
			before := r.job(id)
			a := r.post("/api/v1/jobs/"+id+"/cancel", nil).ok(200).object()
			if a["id"] != id || a["state"] != state || a["reason"] != "job already terminal" {
				t.Errorf("cancel of a job that is %s answered %v", state, a)
			}
			if after := r.job(id); after["state"] != state || after["updated_at"] != before["updated_at"] {
				t.Errorf("the cancel changed a job that was %s: %v", state, after)
			}
		}
		r.post("/api/v1/jobs/nobody/cancel", nil).refused(404, "job not found")
		want(t, "clients", clients.said())
	})
}

func TestT034_AttemptsCountHandOvers(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		rc := r.submit()
		if j := r.job(rc.JobID); j["state"] != "SCHEDULED" || j["attempts"] != 0.0 {
			t.Fatalf("untaken: %v attempts %v", j["state"], j["attempts"])
		}
		started := make(chan *worker.Job, 4)
		stop := r.work(map[string]worker.Handler{"job.test.*": block(started, nil)}, vanishing)
		if job := <-started; job.Attempt != 1 {
			t.Errorf("first attempt is %d", job.Attempt)
		}
		if j := r.await(rc.JobID, "DISPATCHED"); j["attempts"] != 1.0 {
			t.Errorf("taken: attempts %v", j["attempts"])
		}
		stop() // without a result: the worker is lost
		r.work(map[string]worker.Handler{"job.test.*": succeed}, func(c *worker.Config) { c.ID = "w2" })
		if j := r.await(rc.JobID, "SUCCEEDED"); j["attempts"] != 2.0 {
			t.Errorf("after a lost worker: attempts %v", j["attempts"])
		}
	})
}

// vanishing makes a worker that, when it is stopped, is simply gone.
func vanishing(c *worker.Config) { c.DrainTimeout = -1 }

func TestT033_AttemptsAreUsedUp(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		rc := r.submit("topic", "job.test.once") // max_retries 1: two attempts
		for i := 1; i <= 2; i++ {
			started := make(chan *worker.Job, 1)
			stop := r.work(map[string]worker.Handler{"job.test.*": block(started, nil)}, vanishing,
				func(c *worker.Config) { c.ID = fmt.Sprint("w", i) })
			<-started
			stop()
		}
		j := r.await(rc.JobID, "FAILED")
		if j["attempts"] != 2.0 || j["error_code"] != "worker_lost" || j["error_status"] != "JOB_STATUS_FAILED" {
			t.Errorf("job %v", j)
		}
		time.Sleep(time.Second)
		if e := r.letter(rc.JobID); e["attempts"] != 2.0 || !strings.HasPrefix(e["reason"].(string), "max_retries_exceeded") {
			t.Errorf("letter %v", e)
		}
	})
}

func TestT037_ADeadlineEndsAnyState(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		ids := map[string]string{}
		for _, topic := range []string{"job.test.work", "job.test.ask", "job.test.slow"} {
			ids[topic] = r.submit("topic", topic, "deadline_ms", 1000).JobID
		}
		time.Sleep(3 * time.Second)
		for topic, id := range ids {
			if j := r.job(id); j["state"] != "TIMEOUT" || j["error_code"] != "deadline_exceeded" || j["error_status"] != "JOB_STATUS_TIMEOUT" {
				t.Errorf("%s: %v %v", topic, j["state"], j["error_code"])
			}
		}
	})
}

func TestT038_ATimeoutCancelsTheWorker(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		started, ended := make(chan *worker.Job, 1), make(chan error, 1)
		r.work(map[string]worker.Handler{"job.test.*": func(ctx context.Context, job *worker.Job) (any, error) {
			job.Progress(1, "on my way")
			started <- job
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		}})
		clients := r.watch("k-admin", "/api/v1/stream")
		rc := r.submit("topic", "job.test.brief") // 60 s
		<-started
		r.await(rc.JobID, "RUNNING")
		if j := r.await(rc.JobID, "TIMEOUT"); j["error_code"] != "timeout" {
			t.Errorf("job %v", j)
		}
		want(t, "clients", clients.said(), "jobRequest "+rc.JobID, "jobProgress "+rc.JobID, "jobCancel "+rc.JobID,
			"jobResult "+rc.JobID+" TIMEOUT by cordum-scheduler")
		if e := r.letter(rc.JobID); e["status"] != "JOB_STATUS_TIMEOUT" || e["reason_code"] != "timeout" || e["last_worker"] != "w1" {
			t.Errorf("letter %v", e)
		}
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the handler ended with %v", err)
		}
	})
}

func TestT036_AJobWhoseMessageWasLostIsSentAgain(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		rc := r.submit()
		loseMessages(t, r, "pool-main")
		r.work(map[string]worker.Handler{"job.test.*": succeed})
		began := time.Now()
		r.await(rc.JobID, "SUCCEEDED")
		if d := time.Since(began); d > 35*time.Second {
			t.Errorf("it took %s", d)
		}
	})
}

// loseMessages takes everything out of a queue.
func loseMessages(t *testing.T, r *rig, name string) {
	t.Helper()
	q := r.plane.Dispatcher.Queues
	for {
		msgs, err := q.Receive(t.Context(), name, 10, 0, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if len(msgs) == 0 {
			return
		}
		for _, m := range msgs {
			if err := q.Delete(t.Context(), name, m.Receipt); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestT046_T048_Checklist11_TheDecisionIsInTheAnswer(t *testing.T) {
	cases := []struct{ topic, status, reason, code string }{
		{"job.test.work", "scheduled", "tests may", ""},
		{"job.test.boxed", "scheduled", "in a box", ""},
		{"job.test.ask", "approval_required", "a human must look", ""},
		{"job.test.wipe", "denied", "nothing may be deleted", "safety_denied"},
		{"job.test.slow", "pending", "not so fast", ""},
		{"job.unmatched", "denied", "no matching rule", "safety_denied"},
		{"job.test.needs", "failed", "", "no_pool_mapping"},
	}
	virtually(t, config(), func(t *testing.T, r *rig) {
		for _, c := range cases {
			r.step(c.status+" "+c.topic, func() {
				fields := []any{"topic", c.topic}
				if c.topic == "job.test.needs" {
					fields = append(fields, "requires", []string{"fpga"})
				}
				rc := r.submit(fields...)
				if rc.Status != c.status || (c.reason != "" && rc.Reason != c.reason) {
					t.Errorf("receipt %+v", rc)
				}
				j := r.job(rc.JobID)
				if code, _ := j["error_code"].(string); code != c.code {
					t.Errorf("error code %q, want %q", code, c.code)
				}
				if e := r.letter(rc.JobID); (e == nil) != (c.code == "") || (e != nil && e["reason_code"] != c.code) {
					t.Errorf("letter %v", e)
				}
				if hash, _ := j["safety_job_hash"].(string); (hash != "") != (c.status == "approval_required") {
					t.Errorf("job hash %q", hash)
				}
			})
		}
	})
}

func TestT047_AThrottledJobIsDecidedAgain(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		rc := r.submit("topic", "job.test.slow")
		time.Sleep(7 * time.Second)
		var decisions []map[string]any
		r.get("/api/v1/jobs/" + rc.JobID + "/decisions").ok(200).json(&decisions)
		if len(decisions) != 2 || decisions[0]["decision"] != "THROTTLE" {
			t.Errorf("decisions %v", decisions)
		}
		if decisions[0]["checked_at"].(float64) <= decisions[1]["checked_at"].(float64) {
			t.Error("the newest decision is not first")
		}
	})
}

func TestT054_ConstraintsReachTheWorker(t *testing.T) {
	cfg := config()
	cfg.Policy = []byte(strings.Replace(testPolicy, "max_concurrent_jobs: 0", "max_concurrent_jobs: 3", 1))
	virtually(t, cfg, func(t *testing.T, r *rig) {
		jobs := make(chan *worker.Job, 1)
		r.work(map[string]worker.Handler{"job.test.*": keep(jobs)})
		for deadline, want := range map[int64]int64{5000: 2000, 1000: 1000, 0: 2000} {
			r.submit("topic", "job.test.boxed", "deadline_ms", deadline)
			req := (<-jobs).Request
			env := req.GetEnv()
			if env["CORDUM_MAX_RETRIES"] != "2" || env["CORDUM_MAX_ARTIFACT_BYTES"] != "1024" || env["CORDUM_REDACTION_LEVEL"] != "high" ||
				env["CORDUM_MAX_CONCURRENT_JOBS"] != "3" || env["CORDUM_POLICY_CONSTRAINTS"] == "" {
				t.Errorf("env %v", env)
			}
			if got := req.GetBudget().GetDeadlineMs(); got != want {
				t.Errorf("deadline %d became %d, want %d", deadline, got, want)
			}
		}
	})
}

func TestT063_T065_Results(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.work(map[string]worker.Handler{
			"job.test.work": succeed,
			"job.test.fail": func(context.Context, *worker.Job) (any, error) {
				return nil, &worker.Error{Code: "X", Message: "it broke"}
			},
		})
		good, bad := r.submit(), r.submit("topic", "job.test.fail")
		j := r.await(good.JobID, "SUCCEEDED")
		if j["result_ptr"] != "redis://res:"+good.JobID || fmt.Sprint(j["result"]) != "map[ok:true]" || j["error_code"] != nil {
			t.Errorf("job %v", j)
		}
		j = r.await(bad.JobID, "FAILED")
		if j["error_code"] != "X" || j["error_message"] != "it broke" || j["error_status"] != "JOB_STATUS_FAILED" || j["last_state"] != "FAILED" {
			t.Errorf("job %v", j)
		}
		time.Sleep(time.Second)
		if e := r.letter(bad.JobID); e["reason_code"] != "X" || e["reason"] != "it broke" || e["status"] != "JOB_STATUS_FAILED" || r.letter(good.JobID) != nil {
			t.Errorf("letter %v, of the good one %v", e, r.letter(good.JobID))
		}
	})
}

func TestT069_CancelOfARunningJob(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		started, ended := make(chan *worker.Job, 1), make(chan struct{})
		r.work(map[string]worker.Handler{"job.test.*": func(ctx context.Context, job *worker.Job) (any, error) {
			job.Progress(10, "busy")
			started <- job
			<-ctx.Done()
			close(ended)
			return nil, ctx.Err()
		}})
		rc := r.submit()
		<-started
		r.await(rc.JobID, "RUNNING")
		asked := time.Now()
		r.post("/api/v1/jobs/"+rc.JobID+"/cancel", nil).ok(200)
		<-ended
		if d := time.Since(asked); d > time.Second {
			t.Errorf("the worker was told after %s", d)
		}
		time.Sleep(time.Second)
		if j := r.job(rc.JobID); j["state"] != "CANCELLED" || j["error_code"] != nil {
			t.Errorf("job %v", j)
		}
	})
}

func TestT074_AJobThatNeverReachedAWorkerHasAPlaceholder(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		rc := r.submit("topic", "job.test.wipe")
		j := r.job(rc.JobID)
		res, _ := j["result"].(map[string]any)
		if j["result_ptr"] != "redis://res:"+rc.JobID || res["processed_by"] != "cordum-scheduler" || res["status"] != "JOB_STATUS_DENIED" {
			t.Errorf("job %v", j)
		}
	})
}

func TestT084_T085_WithoutARoomForItAJobWaits(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		first, second := r.submit(), r.submit()
		time.Sleep(2 * time.Minute)
		if j := r.job(first.JobID); j["state"] != "SCHEDULED" || j["attempts"] != 0.0 {
			t.Fatalf("without a worker: %v", j["state"])
		}
		started, release := make(chan *worker.Job, 2), make(chan struct{})
		r.work(map[string]worker.Handler{"job.test.*": block(started, release)}, func(c *worker.Config) { c.MaxParallel = 1 })
		running := <-started
		time.Sleep(time.Minute)
		waiting := second.JobID
		if running.ID == second.JobID {
			waiting = first.JobID
		}
		if j := r.job(waiting); j["state"] != "SCHEDULED" {
			t.Errorf("with a busy worker: %v", j["state"])
		}
		close(release)
		r.await(first.JobID, "SUCCEEDED")
		r.await(second.JobID, "SUCCEEDED")
	})
}

func TestT086_T087_Unroutable(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		for _, fields := range [][]any{
			{"topic", "job.unmapped"},
			{"labels", map[string]string{"preferred_pool": "gpu"}}, // there is such a pool, but not for this topic
			{"topic", "job.test.needs", "requires", []string{"tpu"}},
		} {
			rc := r.submit(fields...)
			if j := r.job(rc.JobID); rc.Status != "failed" || j["state"] != "FAILED" || j["error_code"] != "no_pool_mapping" || j["attempts"] != 0.0 {
				t.Errorf("%v: %v %v", fields, j["state"], j["error_code"])
			}
			if e := r.letter(rc.JobID); e["reason_code"] != "no_pool_mapping" || e["status"] != "JOB_STATUS_FAILED" {
				t.Errorf("%v: letter %v", fields, e)
			}
		}
	})
}

func TestT088_T144_ATargetedJobReachesItsWorker(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		jobs := map[string]chan *worker.Job{"eu": make(chan *worker.Job, 8), "us": make(chan *worker.Job, 8)}
		for region, ch := range jobs {
			r.work(map[string]worker.Handler{"job.test.*": keep(ch)}, func(c *worker.Config) {
				c.ID, c.Labels = "w-"+region, map[string]string{"region": region}
			})
		}
		time.Sleep(5 * time.Second) // both are in the registry
		for range 3 {
			rc := r.submit("labels", map[string]string{"region": "us", "env": "prod", "mcp.server": "x"})
			if job := <-jobs["us"]; job.ID != rc.JobID {
				t.Errorf("job %s, want %s", job.ID, rc.JobID)
			}
			r.await(rc.JobID, "SUCCEEDED")
		}
		rc := r.submit("labels", map[string]string{"preferred_worker_id": "w-eu"})
		if job := <-jobs["eu"]; job.ID != rc.JobID {
			t.Errorf("preferred: job %s, want %s", job.ID, rc.JobID)
		}
		nobody := r.submit("labels", map[string]string{"region": "mars"})
		time.Sleep(time.Minute)
		if j := r.job(nobody.JobID); j["state"] != "SCHEDULED" {
			t.Errorf("without a worker there: %v", j["state"])
		}
	})
}

func TestT095_T096_Workers(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		stop := r.work(map[string]worker.Handler{"job.test.*": succeed}, vanishing)
		time.Sleep(time.Second)
		var workers []map[string]any
		r.get("/api/v1/workers").ok(200).json(&workers)
		if len(workers) != 1 || workers[0]["worker_id"] != "w1" || workers[0]["pool"] != "main" || workers[0]["max_parallel_jobs"] != 4.0 {
			t.Fatalf("workers %v", workers)
		}
		stop()
		time.Sleep(31 * time.Second)
		if body := r.get("/api/v1/workers").ok(200).Body; body != "[]" {
			t.Errorf("31 s later: %s", body)
		}
		r.connect("k-worker-default", "w1", "main", 1) // its next heartbeat
		time.Sleep(time.Second)
		if r.get("/api/v1/workers").ok(200).json(&workers); len(workers) != 1 || workers[0]["worker_id"] != "w1" {
			t.Errorf("heard again: %v", workers)
		}
	})
}

func TestT146_ParallelJobsOfAWorker(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		var running, most atomic.Int32
		r.work(map[string]worker.Handler{"job.test.*": func(ctx context.Context, _ *worker.Job) (any, error) {
			n := running.Add(1)
			defer running.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Second)
			return nil, nil
		}}, func(c *worker.Config) { c.MaxParallel = 2 })
		var ids []string
		for range 6 {
			ids = append(ids, r.submit().JobID)
		}
		for _, id := range ids {
			r.await(id, "SUCCEEDED")
		}
		if most.Load() != 2 {
			t.Errorf("%d ran at once, want 2", most.Load())
		}
	})
}

func TestT149_AReconnectDoesNotRunAJobTwice(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		started, release := make(chan *worker.Job, 4), make(chan struct{})
		r.work(map[string]worker.Handler{"job.test.*": block(started, release)})
		rc := r.submit()
		<-started
		r.disconnect()
		time.Sleep(10 * time.Second) // it has connected again
		close(release)
		j := r.await(rc.JobID, "SUCCEEDED")
		if len(started) != 0 || j["attempts"] != 1.0 {
			t.Errorf("ran %d times more, attempts %v", len(started), j["attempts"])
		}
	})
}
