package plane_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/sdk/worker"
)

// Remediation: core.md 2.7, api.md 2.4.

const suggesting = testPolicy + `
  - id: several
    match: { topics: ["job.several"] }
    decision: deny
    reason: another way, please
    remediations:
      - { id: read, title: Read, summary: Read only, replacement_topic: job.test.list, replacement_capability: fs.list,
          add_labels: { mode: read, " ": blank, floor: "4" }, remove_labels: [danger, remediation_id] }
      - { id: ask, title: Ask, summary: Ask first, replacement_topic: job.test.ask }
      - { id: same, title: Same, summary: The same again }
`

func suggest() plane.Config {
	cfg := config()
	cfg.Policy = []byte(suggesting)
	return cfg
}

func (r *rig) remediate(id string, body any, headers ...string) answer {
	r.t.Helper()
	return r.as("k-ada", "POST", "/api/v1/jobs/"+id+"/remediate", body, headers...)
}

func TestT060_Checklist6_ARemediationIsANewJob(t *testing.T) {
	virtually(t, suggest(), func(t *testing.T, r *rig) {
		rc := r.submit("topic", "job.test.wipe", "capability", "fs.wipe", "idempotency_key", "k", "labels", map[string]string{"floor": "3"}, "context", map[string]int{"n": 1},
			"risk_tags", []string{"write"}, "team_id", "red", "memory_id", "")
		time.Sleep(time.Second)
		a := r.remediate(rc.JobID, nil).ok(200)
		var again receipt
		a.json(&again)
		if again.JobID == rc.JobID || again.TraceID != rc.TraceID || again.Status != "scheduled" || again.Reason != "tests may" || a.Header.Get("X-Trace-Id") != rc.TraceID {
			t.Fatalf("receipt %+v", again)
		}
		j := r.job(again.JobID)
		labels := j["labels"].(map[string]any)
		if j["parent_job_id"] != rc.JobID || j["topic"] != "job.test.list" || j["capability"] != "fs.wipe" || j["idempotency_key"] != "" || j["trace_id"] != rc.TraceID ||
			fmt.Sprint(labels) != fmt.Sprintf("map[floor:3 remediation_id:list remediation_of:%s]", rc.JobID) || fmt.Sprint(j["risk_tags"]) != "[write]" ||
			j["context_ptr"] != "redis://ctx:"+again.JobID {
			t.Errorf("job %v", j)
		}
		if c := j["context"].(map[string]any); c["topic"] != "job.test.wipe" || c["context"].(map[string]any)["n"] != 1.0 { // the text of the first
			t.Errorf("context %v", c)
		}
		old := r.job(rc.JobID)
		if fmt.Sprint(old["remediation_jobs"]) != "["+again.JobID+"]" || old["state"] != "DENIED" || r.letter(rc.JobID) == nil || old["parent_job_id"] != nil {
			t.Errorf("the first job %v", old)
		}
		if same := r.submit("idempotency_key", "k"); same.JobID != rc.JobID {
			t.Error("the remediation took the idempotency key")
		}
	})
}

func TestARemediationIsLikeAnySubmission(t *testing.T) {
	virtually(t, suggest(), func(t *testing.T, r *rig) {
		clients := r.watch("k-admin", "/api/v1/stream")
		rc := r.submit("topic", "job.test.wipe", "team_id", "red")
		time.Sleep(time.Second)
		var again receipt
		r.remediate(rc.JobID, nil).ok(200).json(&again)
		jobs := make(chan *worker.Job, 1)
		r.work(map[string]worker.Handler{"job.test.*": keep(jobs)})
		r.await(again.JobID, "SUCCEEDED")
		got := (<-jobs).Request
		if got.GetParentJobId() != rc.JobID || got.GetMemoryId() != "mem:"+again.JobID || got.GetEnv()["memory_id"] != "mem:"+again.JobID || got.GetEnv()["team_id"] != "red" ||
			!maps.Equal(got.GetLabels(), got.GetMeta().GetLabels()) || got.GetMeta().GetIdempotencyKey() != "" {
			t.Errorf("the worker got %v", got)
		}
		time.Sleep(time.Second)
		want(t, "clients", clients.said(), "jobRequest "+rc.JobID, "jobResult "+rc.JobID+" DENIED by cordum-scheduler", "jobRequest "+again.JobID,
			"jobResult "+again.JobID+" SUCCEEDED by w1")
		e := r.entries("default")
		if len(e) != 1 || e[0].Action != "remediate" || e[0].ResourceID != rc.JobID || e[0].After != "job "+again.JobID || e[0].ActorID != "ada" || e[0].Message != "remediation list" {
			t.Errorf("trail %+v", e)
		}
		var trace []map[string]any
		r.get("/api/v1/traces/" + rc.TraceID).ok(200).json(&trace)
		if len(trace) != 2 || trace[1]["parent_job_id"] != rc.JobID {
			t.Errorf("trace %v", trace)
		}
	})
}

func TestT060_WhichRemediation(t *testing.T) {
	virtually(t, suggest(), func(t *testing.T, r *rig) {
		one, several := r.submit("topic", "job.test.wipe").JobID, r.submit("topic", "job.several", "labels", map[string]string{"danger": "1", "floor": "3"}).JobID
		theirs := r.submitAs("k-other", "topic", "job.test.wipe").JobID
		named := func(id string) map[string]string { return map[string]string{"remediation_id": id} }
		r.remediate("nobody", nil).refused(404, "job not found")
		if a, b := r.remediate(theirs, nil), r.remediate("nobody", nil); a.Status != b.Status || a.Body != b.Body {
			t.Errorf("a foreign job: %s", a.Body)
		}
		r.remediate(one, "{").refused(400, "invalid body")
		r.remediate(one, `{"remediation_id":1}`).refused(400, "invalid body")
		r.remediate(one, named("nope")).refused(404, "remediation not found")
		r.remediate(several, nil).refused(400, "remediation_id required")
		r.remediate(several, "null").refused(400, "remediation_id required")
		r.remediate(several, named("nope")).refused(404, "remediation not found")
		r.remediate(r.submit().JobID, nil).refused(409, "no remediations available")
		r.remediate(r.submit("topic", "job.unmatched").JobID, named("x")).refused(409, "no remediations available")
		for _, key := range []string{"k-user", "k-viewer", "k-operator", "k-worker"} {
			r.as(key, "POST", "/api/v1/jobs/"+one+"/remediate", nil).refused(403, "access denied")
		}
		var rc receipt
		r.remediate(several, named(" read ")).ok(200).json(&rc)
		j := r.job(rc.JobID)
		if j["topic"] != "job.test.list" || j["capability"] != "fs.list" || fmt.Sprint(j["labels"]) != fmt.Sprintf("map[floor:4 mode:read remediation_of:%s]", several) {
			t.Errorf("job %v", j)
		}
		var asked, denied receipt
		r.remediate(several, named("ask")).ok(200).json(&asked)
		r.remediate(several, named("same")).ok(200).json(&denied)
		if asked.Status != "approval_required" || denied.Status != "denied" || r.letter(denied.JobID)["reason_code"] != "safety_denied" {
			t.Errorf("receipts %+v, %+v", asked, denied)
		}
		r.remediate(denied.JobID, named("read")).ok(200) // a remediation of a remediation
		if got := r.job(several)["remediation_jobs"].([]any); len(got) != 3 || got[0] != rc.JobID || got[2] != denied.JobID {
			t.Errorf("remediations %v", got)
		}
	})
}

func TestARemediationTwice(t *testing.T) {
	virtually(t, suggest(), func(t *testing.T, r *rig) {
		id := r.submit("topic", "job.test.wipe").JobID
		ids := map[string]int{}
		for range 2 { // each is a job of its own
			ids[r.remediate(id, nil).ok(200).object()["job_id"].(string)]++
		}
		for range 2 {
			for _, header := range []string{"Idempotency-Key", "X-Idempotency-Key"} { // these are one
				ids[r.remediate(id, nil, header, "k").ok(200).object()["job_id"].(string)]++
			}
		}
		other := r.submit("topic", "job.test.wipe").JobID
		ids[r.remediate(other, nil, "Idempotency-Key", "k").ok(200).object()["job_id"].(string)]++ // of another job
		ids[r.submit("idempotency_key", "k").JobID]++                                              // and of a submission
		if got := slices.Sorted(maps.Values(ids)); !slices.Equal(got, []int{1, 1, 1, 1, 4}) {
			t.Errorf("jobs %v", ids)
		}
		if n := len(r.job(id)["remediation_jobs"].([]any)); n != 3 {
			t.Errorf("%d remediations", n)
		}
		if n := len(r.entries("default")); n != 4 {
			t.Errorf("%d entries", n)
		}
	})
}

func TestARemediationOutlivesTheCancelOfItsJob(t *testing.T) {
	cfg := suggest()
	cfg.Policy = []byte(strings.Replace(suggesting, "reason: a human must look", "reason: a human must look\n    remediations: [{ id: list, replacement_topic: job.test.list }]", 1))
	virtually(t, cfg, func(t *testing.T, r *rig) {
		waiting := r.submit("topic", "job.test.ask").JobID // it need not be denied
		var rc receipt
		r.remediate(waiting, nil).ok(200).json(&rc)
		child := r.submit("parent_job_id", waiting).JobID
		r.post("/api/v1/jobs/"+waiting+"/cancel", nil).ok(200)
		if r.job(rc.JobID)["state"] != "SCHEDULED" || r.job(child)["state"] != "CANCELLED" {
			t.Errorf("the remediation is %v, the child %v", r.job(rc.JobID)["state"], r.job(child)["state"])
		}
		r.remediate(waiting, nil).ok(200)
	})
}

func TestARemediationWithoutItsContext(t *testing.T) {
	cfg := suggest()
	cfg.Dir = t.TempDir()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		large := strings.Repeat("x", 50_000)
		id := r.submit("topic", "job.test.wipe", "context", large).JobID
		var rc receipt
		r.remediate(id, nil).ok(200).json(&rc)
		if j := r.job(rc.JobID); j["context"].(map[string]any)["context"] != large {
			t.Error("the large context is not there")
		}
		r.hibernate(cfg, 25*time.Hour)
		r.remediate(id, nil).ok(200).json(&rc)
		if j := r.job(rc.JobID); j["context"] != nil || j["state"] != "SCHEDULED" {
			t.Errorf("job %v", j)
		}
	})
}
