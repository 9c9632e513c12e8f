package plane_test

import (
	"strings"
	"testing"
	"time"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/core/dlq"
)

// Results, cancels and dead letters: core.md 10 E, where one number needs a scene of its own.

func TestT061_T068_AResultForNobodyLeavesNothingBehind(t *testing.T) {
	cfg := config()
	journal := listenTo(&cfg)
	virtually(t, cfg, func(t *testing.T, r *rig) {
		p := r.poller("k-worker", "p1", "main")
		for _, id := range []string{"nobody", "", "  "} {
			p.say(1, "jobResult", map[string]any{"jobId": id, "status": "JOB_STATUS_SUCCEEDED", "workerId": "p1"})
		}
		time.Sleep(10 * time.Minute) // it does not come again
		if n := r.depth("inbox"); n != 0 || len(r.letters("k-admin", "", 10)) != 0 || len(r.jobs("")) != 0 {
			t.Errorf("%d messages, %v, %v", n, r.letters("k-admin", "", 10), r.jobs(""))
		}
		for _, why := range []string{"job nobody is unknown", "it names no job"} {
			if !journal.said("packet ignored", why) {
				t.Errorf("it was not logged that %s", why)
			}
		}
	})
}

func TestT063_T064_TheFirstResultOfARunningJob(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		clients := r.watch("k-admin", "/api/v1/stream")
		w := r.connect("k-worker", "w1", "main", 1)
		rc := r.submit()
		id := w.job().GetJobId()
		w.send(progressOf(id))
		r.await(id, "RUNNING")
		writeResult(t, w, id, `{"rows":9}`)
		w.send(&agentv1.BusPacket{Payload: &agentv1.BusPacket_JobResult{JobResult: &agentv1.JobResult{
			JobId: id, Status: ok, ResultPtr: "redis://res:" + id, WorkerId: "w1", ExecutionMs: 842,
		}}})
		w.answer(id)
		w.result(id, failed, "late")
		w.answer(id)
		time.Sleep(time.Second)
		j := r.job(id)
		if j["state"] != "SUCCEEDED" || j["result_ptr"] != "redis://res:"+id || j["result"].(map[string]any)["rows"] != 9.0 || j["execution_ms"] != 842.0 {
			t.Errorf("job %v", j)
		}
		if all := r.letters("k-admin", "", 10); len(all) != 0 || j["error_code"] != nil {
			t.Errorf("dead letters %v, code %v", all, j["error_code"])
		}
		want(t, "clients", clients.said(), "jobRequest "+rc.JobID, "jobProgress "+rc.JobID, "jobResult "+rc.JobID+" SUCCEEDED by w1")
	})
}

// The original's other name for success is a name alone: on the wire both are 5.
func TestT067_StatusFiveIsSuccess(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 1)
		streamed := r.submit().JobID
		w.job()
		w.result(streamed, agentv1.JobStatus(5), "")
		if code := w.answer(streamed); code != "" {
			t.Errorf("answered %s", code)
		}
		w.cancel()
		time.Sleep(35 * time.Second)
		p := r.poller("k-worker", "p1", "main")
		queued := r.submit().JobID
		p.claim(p.ticket())
		p.say(1, "jobResult", map[string]any{"jobId": queued, "status": 5, "workerId": "p1"})
		for _, id := range []string{streamed, queued} {
			if j := r.job(id); j["state"] != "SUCCEEDED" {
				t.Errorf("%v", j["state"])
			}
		}
	})
}

func TestT069_ACancelIsToldOnceAndALateResultIsIgnored(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		clients := r.watch("k-admin", "/api/v1/stream")
		w := r.connect("k-worker", "w1", "main", 1)
		rc := r.submit()
		w.job()
		w.send(progressOf(rc.JobID))
		r.await(rc.JobID, "RUNNING")
		for range 3 { // the same again says so, and tells nobody anew
			if a := r.post("/api/v1/jobs/"+rc.JobID+"/cancel", nil).ok(200).object(); a["id"] != rc.JobID || a["state"] != "CANCELLED" || a["reason"] != nil {
				t.Errorf("answer %v", a)
			}
		}
		if id := w.cancelled(); id != rc.JobID {
			t.Errorf("the worker was told to stop %s", id)
		}
		w.result(rc.JobID, ok, "")
		if code := w.answer(rc.JobID); code != "IGNORED" {
			t.Errorf("the late result was answered %q", code)
		}
		time.Sleep(time.Minute)
		if j := r.job(rc.JobID); j["state"] != "CANCELLED" || r.letter(rc.JobID) != nil {
			t.Errorf("job %v, letter %v", j["state"], r.letter(rc.JobID))
		}
		want(t, "clients", clients.said(), "jobRequest "+rc.JobID, "jobProgress "+rc.JobID, "jobResult "+rc.JobID+" CANCELLED by api-gateway",
			"jobCancel "+rc.JobID)
	})
}

// TestT074_ThePlaceholderBehindThePointer: it is computed when it is read (docs/adr/0009-dead-letters.md).
func TestT074_ThePlaceholderBehindThePointer(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		cases := map[string][2]string{
			r.submit("topic", "job.test.wipe").JobID: {"JOB_STATUS_DENIED", "nothing may be deleted"},
			r.submit("topic", "job.unmapped").JobID:  {"JOB_STATUS_FAILED", `no_pool_mapping: topic "job.unmapped"`},
		}
		late := r.submit("deadline_ms", 1000).JobID
		r.await(late, "TIMEOUT")
		cases[late] = [2]string{"JOB_STATUS_TIMEOUT", "deadline exceeded"}
		for id, c := range cases {
			if j := r.job(id); j["result_ptr"] != "redis://res:"+id {
				t.Errorf("result_ptr %v", j["result_ptr"])
			}
			text := r.get("/api/v1/memory?ptr=redis://res:" + id).ok(200).object()["json"].(map[string]any)
			if text["job_id"] != id || text["status"] != c[0] || text["error"].(map[string]any)["message"] != c[1] || text["processed_by"] != "cordum-scheduler" {
				t.Errorf("%v", text)
			}
			if _, err := time.Parse(time.RFC3339, text["completed_at"].(string)); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestT077_ARetryWithoutItsContextNamesNone(t *testing.T) {
	cfg := config()
	cfg.Sweep = time.Hour
	virtually(t, cfg, func(t *testing.T, r *rig) {
		old := r.submit("deadline_ms", 1000, "context", map[string]int{"n": 1})
		r.awaitFor(old.JobID, "TIMEOUT", 2*time.Hour)
		kept := r.letter(old.JobID)
		time.Sleep(25 * time.Hour) // the context has gone, the job has not
		var again receipt
		r.retry(kept["job_id"].(string)).ok(200).json(&again)
		w := r.connect("k-worker", "w1", "main", 1)
		if got := w.job(); got.GetJobId() != again.JobID || got.GetContextPtr() != "" {
			t.Errorf("got %s with context %q", got.GetJobId(), got.GetContextPtr())
		}
	})
}

// No end of a job leaves a dead letter without a topic; one that is there all the same cannot be retried.
func TestT078_ADeadLetterWithoutATopic(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		now := time.Now().UnixMicro()
		e := dlq.Entry{JobID: "odd", Tenant: "default", Status: "JOB_STATUS_FAILED", LastState: "FAILED", CreatedAt: now, FirstAt: now}
		if err := r.plane.Dispatcher.Letters().Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		r.retry("odd").refused(400, "missing topic for retry")
		if r.letter("odd") == nil {
			t.Error("the letter has gone")
		}
		r.retry("nobody").refused(404, "dlq entry not found")
	})
}

// A retried job meets the policy of today, with everything that the policy of then saw.
func TestT075_ARetryMeetsThePolicyWithAllThatItSaw(t *testing.T) {
	cfg := config()
	cfg.Policy = []byte(strings.Replace(testPolicy, "rules:", `rules:
  - id: no-prod
    match: { topics: ["job.test.*"], risk_tags: ["prod"], labels: { retry: "true" } }
    decision: deny
    reason: not in production
`, 1))
	virtually(t, cfg, func(t *testing.T, r *rig) {
		stop := r.work(map[string]worker.Handler{"job.test.*": failing})
		rc := r.submit("risk_tags", []string{"prod"})
		r.await(rc.JobID, "FAILED")
		stop()
		time.Sleep(time.Second)
		var again receipt
		r.retry(rc.JobID).ok(200).json(&again)
		if again.Status != "denied" || again.Reason != "not in production" {
			t.Errorf("answer %+v", again)
		}
		if e := r.letter(again.JobID); e["reason_code"] != "safety_denied" || r.letter(rc.JobID) != nil {
			t.Errorf("letter %v, the old one %v", e, r.letter(rc.JobID))
		}
	})
}
