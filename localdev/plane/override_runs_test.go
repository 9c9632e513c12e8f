package plane_test

import (
	"fmt"
	"testing"
	"time"
)

func TestAJobOfARunGoesByTheRulesOfItsWorkflow(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		steps := pairs("a", stepJob("job.test.drop"))
		r.saved("w", "steps", steps, "policy_override", restrictive)
		r.saved("v", "steps", steps)
		r.awaitRun(r.start("v", nil), "succeeded")
		run := r.awaitRun(r.start("w", nil), "denied")
		if d := r.job(fmt.Sprint(stepOf(run, "a")["job_id"])); d["safety_rule_id"] != "not-here" || d["safety_reason"] != "this workflow drops nothing" {
			t.Errorf("%v", d)
		}

		r.saved("w", "steps", pairs("a", stepJob("job.test.boxed")))
		id := r.start("w", nil)
		r.awaitRun(id, "running")
		waits := fmt.Sprint(stepOf(r.run(id), "a")["job_id"])
		r.await(waits, "APPROVAL_REQUIRED")
		r.approve(waits, nil).ok(200)
		r.awaitRun(id, "succeeded")

		r.saved("w", "steps", pairs("a", stepJob("job.test.late")))
		id = r.start("w", nil)
		time.Sleep(5 * time.Minute)
		if s := r.run(id)["status"]; s != "running" {
			t.Errorf("what is throttled is %v", s)
		}
		r.saved("w", "policy_override", " ")
		r.awaitRun(id, "succeeded")
	})
}

// What is denied while a job waits for a worker is denied, though a human has approved it.
func TestRulesThatComeLaterHoldForWhatWaits(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		type waiting struct{ run, job string }
		var all []waiting
		for _, topic := range []string{"job.test.a", "job.test.ask"} {
			r.saved("w", "steps", pairs("a", stepJob(topic)), "policy_override", restrictive)
			run := r.start("w", nil)
			w := waiting{run, fmt.Sprint(stepOf(r.run(run), "a")["job_id"])}
			if topic != "job.test.a" {
				r.await(w.job, "APPROVAL_REQUIRED")
				r.approve(w.job, nil).ok(200)
			}
			r.await(w.job, "SCHEDULED")
			all = append(all, w)
		}
		r.saved("w", "policy_override", "rules: [{id: shut, decision: deny, reason: closed}]")
		r.labourers()
		for _, w := range all {
			r.awaitRun(w.run, "denied")
			if j := r.job(w.job); j["state"] != "DENIED" || j["safety_rule_id"] != "shut" {
				t.Errorf("%v", j)
			}
		}
	})
}

func TestADryRunGoesByTheRulesOfTheWorkflow(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "steps", pairs("a", stepJob("job.test.drop"), "b", stepJob("job.test.a")), "policy_override", restrictive)
		if got := r.post("/api/v1/workflows/w/dry-run", pairs()).ok(200).Body; got != `{"workflow_id":"w","steps":[`+
			`{"step_id":"a","step_name":"","step_type":"","decision":"DENY","reason":"this workflow drops nothing","rule_id":"not-here"},`+
			`{"step_id":"b","step_name":"","step_type":"","decision":"ALLOW","reason":"tests may","rule_id":"rest"}]}` {
			t.Error(got)
		}
	})
}
