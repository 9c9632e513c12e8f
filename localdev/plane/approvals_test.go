package plane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/cordum-serverless/cordum/localdev/plane"
	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Approvals and rejections: core.md 2.6, api.md 2.8, workflows.md 3.3.

// strictly is the policy of these tests: the usual one, whose approvals have constraints.
const strictly = testPolicy + `
  - id: fragile
    match: { topics: ["job.fragile"] }
    decision: require_approval
    reason: handle with care
    constraints: { budgets: { max_runtime_ms: 90000, max_retries: 2, max_artifact_bytes: 64, max_concurrent_jobs: 1 } }
`

func asking() plane.Config {
	cfg := config()
	cfg.Policy, cfg.Pools = []byte(strictly), []byte(strings.Replace(testPools, "topics:", "topics:\n  job.fragile: main", 1))
	return cfg
}

func (r *rig) approve(id string, body any, headers ...string) answer {
	r.t.Helper()
	return r.as("k-ada", "POST", "/api/v1/approvals/"+url.PathEscape(id)+"/approve", body, headers...)
}

func (r *rig) reject(id string, body any, headers ...string) answer {
	r.t.Helper()
	return r.as("k-ada", "POST", "/api/v1/approvals/"+url.PathEscape(id)+"/reject", body, headers...)
}

// conflict checks the answer of a 409, all of it.
func (a answer) conflict(code, text string) {
	a.t.Helper()
	want := fmt.Sprintf(`{"error":%q,"status":409,"code":%q,"retryable":%t}`, text, code, code == "approval_retryable_lock")
	if a.Status != 409 || a.Body != want {
		a.t.Errorf("HTTP %d %s, want %s", a.Status, a.Body, want)
	}
}

// resolved checks the answer of an approval or a rejection, all of it.
func (a answer) resolved(rc receipt) {
	a.t.Helper()
	if want := fmt.Sprintf(`{"job_id":%q,"trace_id":%q}`, rc.JobID, rc.TraceID); a.Status != 200 || a.Body != want {
		a.t.Errorf("HTTP %d %s, want %s", a.Status, a.Body, want)
	}
}

type approvalItem = map[string]any

// approvals pages through the list.
func (r *rig) approvals(key, query string, limit int) []approvalItem {
	r.t.Helper()
	var all []approvalItem
	cursor := ""
	for pages := 0; ; pages++ {
		if pages > 1000 {
			r.t.Fatal("the list does not end")
		}
		var page struct {
			Items []approvalItem `json:"items"`
			Next  *json.Number   `json:"next_cursor"`
		}
		path := fmt.Sprintf("/api/v1/approvals?limit=%d&%s", limit, query)
		if cursor != "" {
			path += "&cursor=" + cursor
		}
		r.as(key, "GET", path, nil).ok(200).json(&page)
		all = append(all, page.Items...)
		if page.Next == nil {
			return all
		}
		cursor = page.Next.String()
	}
}

func TestT056_A04_A10_A12_AnApprovedJobRuns(t *testing.T) {
	virtually(t, asking(), func(t *testing.T, r *rig) {
		clients := r.watch("k-admin", "/api/v1/stream")
		rc := r.submit("topic", "job.fragile", "labels", map[string]string{"floor": "3"})
		before := r.job(rc.JobID)
		if before["approval_status"] != "pending" || before["approval_revision"] != 1.0 || before["approval_by"] != nil || before["approval_ref"] != rc.JobID {
			t.Errorf("waiting: %v", before)
		}
		time.Sleep(time.Hour)
		a := r.approve(rc.JobID, map[string]string{"reason": "looks right", "note": "seen by two"}).ok(200)
		a.resolved(rc)
		j := r.job(rc.JobID)
		hash := before["safety_job_hash"]
		for name, want := range map[string]any{
			"state": "SCHEDULED", "approval_by": "ada", "approval_role": "admin", "approval_reason": "looks right", "approval_note": "seen by two",
			"approval_policy_snapshot": before["safety_snapshot"], "approval_job_hash": hash, "approval_status": "approved", "approval_decision": "approve",
			"safety_decision": "ALLOW", "safety_reason": "approval granted", "safety_rule_id": "fragile", "safety_snapshot": before["safety_snapshot"],
			"safety_job_hash": hash, "approval_required": false, "approval_ref": "", "attempts": 0.0,
		} {
			if j[name] != want {
				t.Errorf("%s is %v, want %v", name, j[name], want)
			}
		}
		if at := j["approval_at"].(float64); time.Since(time.UnixMicro(int64(at))) > time.Second {
			t.Errorf("approved at %v", at)
		}
		if fmt.Sprint(j["safety_constraints"]) != fmt.Sprint(before["safety_constraints"]) || j["safety_constraints"] == nil {
			t.Errorf("constraints %v, were %v", j["safety_constraints"], before["safety_constraints"])
		}
		labels := j["labels"].(map[string]any)
		if labels["approval_granted"] != "true" || labels["approval_reason"] != "looks right" || labels["approval_note"] != "seen by two" || labels["floor"] != "3" ||
			!strings.HasPrefix(labels["cordum.bus_msg_id"].(string), "approval:") {
			t.Errorf("labels %v", labels)
		}
		if n := r.depth("pool-main"); n != 1 {
			t.Errorf("%d messages in its pool's queue", n)
		}
		var decisions []map[string]any
		r.get("/api/v1/jobs/" + rc.JobID + "/decisions").ok(200).json(&decisions)
		if len(decisions) != 2 || decisions[0]["decision"] != "ALLOW" || decisions[0]["reason"] != "approval granted" || decisions[0]["rule_id"] != "fragile" ||
			decisions[0]["constraints"] == nil || decisions[1]["decision"] != "REQUIRE_APPROVAL" || decisions[1]["approval_ref"] != rc.JobID {
			t.Errorf("decisions %v", decisions)
		}
		jobs := make(chan *worker.Job, 1)
		r.work(map[string]worker.Handler{"job.*": keep(jobs)}) // a worker without labels
		r.await(rc.JobID, "SUCCEEDED")
		got := (<-jobs).Request
		if fmt.Sprint(got.GetLabels()) != fmt.Sprint(labels) || job.Hash(got) == "" || got.GetEnv()["CORDUM_MAX_RETRIES"] != "2" {
			t.Errorf("the worker got %v", got)
		}
		want(t, "clients", clients.said(), "jobRequest "+rc.JobID, "jobRequest "+rc.JobID, "jobResult "+rc.JobID+" SUCCEEDED by w1")
		r.approve(rc.JobID, nil).conflict("approval_already_resolved", "job not awaiting approval")
	})
}

func TestAnApprovalIsInTheTrail(t *testing.T) {
	virtually(t, asking(), func(t *testing.T, r *rig) {
		rc := r.submit("topic", "job.fragile")
		r.approve(rc.JobID, map[string]string{"reason": "looks right"}, "X-Request-Id", "r-1").ok(200)
		trail := r.entries("default")
		if len(trail) != 1 {
			t.Fatalf("trail %+v", trail)
		}
		e := trail[0]
		if e.Action != "approve" || e.ResourceType != "job" || e.ResourceID != rc.JobID || e.ActorID != "ada" || e.Role != "admin" || e.Message != "looks right" ||
			e.Before != "APPROVAL_REQUIRED" || e.After != "SCHEDULED" || e.RequestID != "r-1" {
			t.Errorf("entry %+v", e)
		}
	})
}

func TestT060_A08_ARejectedJobIsDenied(t *testing.T) {
	virtually(t, asking(), func(t *testing.T, r *rig) {
		clients := r.watch("k-admin", "/api/v1/stream")
		for reason, text := range map[string]string{"too risky": "too risky", "": "approval rejected"} {
			rc := r.submit("topic", "job.test.ask")
			a := r.reject(rc.JobID, map[string]string{"reason": reason, "note": "ask again"}).ok(200)
			a.resolved(rc)
			j := r.job(rc.JobID)
			if j["state"] != "DENIED" || j["error_code"] != "approval_rejected" || j["error_message"] != text || j["error_status"] != "JOB_STATUS_DENIED" ||
				j["approval_by"] != "ada" || j["approval_note"] != "ask again" || j["approval_job_hash"] != j["safety_job_hash"] || j["approval_status"] != "rejected" ||
				j["safety_decision"] != "REQUIRE_APPROVAL" || j["labels"].(map[string]any)["approval_granted"] != nil ||
				j["result"].(map[string]any)["processed_by"] != "cordum-scheduler" {
				t.Errorf("job %v", j)
			}
			if e := r.letter(rc.JobID); e["reason_code"] != "approval_rejected" || e["reason"] != text || e["status"] != "JOB_STATUS_DENIED" {
				t.Errorf("letter %v", e)
			}
			r.reject(rc.JobID, nil).conflict("approval_already_resolved", "job not awaiting approval")
			r.approve(rc.JobID, nil).conflict("approval_already_resolved", "job not awaiting approval")
			if e := r.entries("default")[0]; e.Action != "reject" || e.ResourceID != rc.JobID || e.Message != reason || e.After != "DENIED" {
				t.Errorf("entry %+v", e)
			}
			time.Sleep(time.Second)
			want(t, "clients", clients.said(), "jobRequest "+rc.JobID, "jobResult "+rc.JobID+" DENIED by cordum-scheduler")
		}
	})
}

func TestT057_A05_A06_Checklist5_AnApprovalIsForOnePolicyAndOneRequest(t *testing.T) {
	virtually(t, asking(), func(t *testing.T, r *rig) {
		stale, mutated, labelled, kept := r.submit("topic", "job.test.ask").JobID, r.submit("topic", "job.test.ask").JobID, r.submit("topic", "job.test.ask").JobID,
			r.submit("topic", "job.test.ask").JobID
		r.approve(kept, nil).ok(200)
		rewrite(t, r, mutated, func(q *agentv1.JobRequest) { q.Topic = "job.test.wipe" })
		rewrite(t, r, labelled, func(q *agentv1.JobRequest) {
			q.Labels = map[string]string{"approval_granted": "true", "Approval_Reason": "x", "cordum.bus_msg_id": "y"}
			q.Env["CORDUM_EFFECTIVE_CONFIG"] = "{}"
		})
		r.approve(mutated, nil).conflict("approval_stale_request", "job request changed; approval rejected")
		r.approve(labelled, nil).ok(200)
		r.publish(strictly + "# changed")
		r.approve(stale, nil).conflict("approval_stale_snapshot", "policy snapshot changed; re-evaluate before approving")
		r.approve(mutated, nil).conflict("approval_stale_snapshot", "policy snapshot changed; re-evaluate before approving")
		for _, id := range []string{stale, mutated} {
			if j := r.job(id); j["state"] != "APPROVAL_REQUIRED" || j["approval_by"] != nil || len(r.entries("default")) != 2 {
				t.Errorf("job %v", j)
			}
		}
		r.publish(strictly) // the snapshot is one of what stands in the documents
		r.approve(stale, nil).ok(200)
		r.publish(strictly + "# changed again")
		r.reject(mutated, nil).ok(200) // the way out
		w := r.connect("k-worker", "w1", "main", 4)
		for range 4 {
			time.Sleep(10 * time.Second)
		}
		for _, id := range []string{stale, labelled, kept} { // approved under a policy that is not in force any more: asked for again, when a worker comes
			if j := r.job(id); j["state"] != "APPROVAL_REQUIRED" || j["attempts"] != 0.0 || j["approval_revision"] != 2.0 || j["labels"].(map[string]any)["cordum.bus_msg_id"] == "approval" {
				t.Errorf("job %v", j)
			}
		}
		if len(w.in) > 1 {
			t.Errorf("the worker got %v", <-w.in)
		}
		r.approve(kept, nil).ok(200)
		if got := w.job(); got.GetJobId() != kept {
			t.Errorf("the worker got %v", got)
		}
	})
}

// rewrite changes the stored request of a job, which nothing of the plane does.
func rewrite(t *testing.T, r *rig, id string, change func(*agentv1.JobRequest)) {
	t.Helper()
	table := r.plane.Dispatcher.Jobs.Table
	page, err := table.Query(t.Context(), store.Query{PK: "J#" + id, Prefix: "B#"})
	if err != nil || len(page.Items) != 1 {
		t.Fatal(err, page)
	}
	it := page.Items[0]
	request := &agentv1.JobRequest{}
	if err := proto.Unmarshal(it.Attrs.Bytes("rq"), request); err != nil {
		t.Fatal(err)
	}
	change(request)
	raw, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Write(t.Context(), store.Update(it.Key).SetAttr("rq", raw)); err != nil {
		t.Fatal(err)
	}
}

func TestA07_WhatCannotBeApproved(t *testing.T) {
	cfg, s := faulty()
	cfg.Policy, cfg.Pools = asking().Policy, asking().Pools
	virtually(t, cfg, func(t *testing.T, r *rig) {
		theirs := r.submitAs("k-other", "topic", "job.test.ask").JobID
		for _, do := range []func(string, any, ...string) answer{r.approve, r.reject} {
			unknown := do("nobody", nil)
			unknown.refused(404, "job not found")
			if foreign := do(theirs, nil); foreign.Status != unknown.Status || foreign.Body != unknown.Body {
				t.Errorf("a foreign job: %s", foreign.Body)
			}
			do("nobody", "{").refused(400, "invalid body")
			do("nobody", `{"reason":7}`).refused(400, "invalid body")
			do("nobody", map[string]string{"reason": strings.Repeat("x", 4097)}).refused(400, "reason too long (max 4096 bytes)")
			do("nobody", map[string]string{"note": strings.Repeat("x", 4097)}).refused(400, "note too long (max 4096 bytes)")
			for _, topic := range []string{"job.test.work", "job.test.wipe", "job.test.slow"} {
				do(r.submit("topic", topic).JobID, nil).conflict("approval_not_actionable", "job not awaiting approval")
			}
			cancelled := r.submit("topic", "job.test.ask").JobID
			r.post("/api/v1/jobs/"+cancelled+"/cancel", nil).ok(200)
			do(cancelled, nil).conflict("approval_not_actionable", "job not awaiting approval")
		}
		for _, key := range []string{"k-user", "k-viewer", "k-operator", "k-worker"} {
			r.as(key, "POST", "/api/v1/approvals/"+theirs+"/approve", nil).refused(403, "access denied")
			r.as(key, "GET", "/api/v1/approvals", nil).refused(403, "access denied")
		}
		// records that are not as this plane writes them
		odd := func(id string, d job.Decision) string {
			now := time.Now().UnixMicro()
			rec := &job.Record{
				ID: id, State: job.ApprovalRequired, Tenant: "default", Trace: "t", Topic: "job.test.ask", Body: "b", CreatedAt: now, UpdatedAt: now, ListedAt: now,
				ExpiresAt: job.NewExpiry(now), Decision: d,
			}
			if err := r.plane.Dispatcher.Jobs.Create(t.Context(), rec, &job.Body{Request: &agentv1.JobRequest{JobId: id}}, 0); err != nil {
				t.Fatal(err)
			}
			return id
		}
		r.approve(odd("o1", job.Decision{Verdict: "ALLOW"}), nil).conflict("approval_not_actionable", "job not awaiting approval")
		r.approve(odd("o2", job.Decision{Verdict: "REQUIRE_APPROVAL", ApprovalRequired: true, Snapshot: "s"}), nil).
			conflict("approval_not_actionable", "approval job hash unavailable")
		r.approve(odd("o3", job.Decision{Verdict: "REQUIRE_APPROVAL", ApprovalRequired: true, JobHash: "h"}), nil).
			conflict("approval_not_actionable", "approval policy snapshot unavailable")
		gone := r.submit("topic", "job.test.ask").JobID
		page, err := r.plane.Dispatcher.Jobs.Table.Query(t.Context(), store.Query{PK: "J#" + gone, Prefix: "B#"})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.plane.Dispatcher.Jobs.Table.Write(t.Context(), store.Delete(page.Items[0].Key)); err != nil {
			t.Fatal(err)
		}
		r.approve(gone, nil).refused(404, "job request not found")
		r.reject(gone, nil).ok(200)
		rc := r.submit("topic", "job.test.ask")
		s.policy.Store(true)
		r.approve(rc.JobID, nil).refused(503, "service unavailable")
		s.policy.Store(false)
		if j := r.job(rc.JobID); j["state"] != "APPROVAL_REQUIRED" {
			t.Errorf("job %v", j)
		}
		r.approve(rc.JobID, `null`).ok(200)
	})
}

func TestA09_NobodyBringsAnApproval(t *testing.T) {
	labels := map[string]string{"approval_granted": "true", "Approval_Note": "n", " approval_reason": "r", "cordum.bus_msg_id": "approval:x", "CORDUM.bus_msg_id": "y", "floor": "3"}
	suggest := strings.Replace(strictly, "replacement_topic: job.test.list }",
		`replacement_topic: job.test.ask, add_labels: { approval_granted: "true", cordum.bus_msg_id: "approval:z", mode: safe } }`, 1)
	cfg := asking()
	cfg.Policy = []byte(suggest)
	virtually(t, cfg, func(t *testing.T, r *rig) {
		api := cordumv1.NewCordumApiClient(r.conn())
		res, err := api.SubmitJob(metadata.AppendToOutgoingContext(t.Context(), "x-api-key", "k-admin"), &cordumv1.SubmitJobRequest{Prompt: "p", Topic: "job.test.ask", Labels: labels})
		if err != nil {
			t.Fatal(err)
		}
		ids := []string{r.submit("topic", "job.test.ask", "labels", labels).JobID, res.GetJobId()}
		var rc receipt
		r.post("/api/v1/jobs/"+r.submit("topic", "job.test.wipe", "labels", labels).JobID+"/remediate", nil).ok(200).json(&rc)
		ids = append(ids, rc.JobID)
		// a job that was approved, and is dead
		dead := r.submit("topic", "job.test.ask", "labels", labels).JobID
		r.approve(dead, map[string]string{"reason": "go"}).ok(200)
		stop := r.work(map[string]worker.Handler{"job.*": failing})
		r.await(dead, "FAILED")
		stop()
		r.retry(dead).ok(200).json(&rc)
		for _, id := range append(ids, rc.JobID) {
			j := r.job(id)
			got := j["labels"].(map[string]any)
			for name := range got {
				if strings.Contains(strings.ToLower(name), "approval") || strings.Contains(name, "bus_msg_id") {
					t.Errorf("job %s has the label %q", id, name)
				}
			}
			if j["state"] != "APPROVAL_REQUIRED" || got["floor"] != "3" {
				t.Errorf("job %v", j)
			}
		}
	})
}

func TestA11_Checklist8_ApprovalsArePaged(t *testing.T) {
	virtually(t, asking(), func(t *testing.T, r *rig) {
		var ids []string
		for range 3 {
			ids = append(ids, r.submit("topic", "job.test.ask").JobID)
			time.Sleep(time.Second)
		}
		r.submitAs("k-other", "topic", "job.test.ask")
		r.submit()
		var page struct {
			Items []approvalItem `json:"items"`
			Next  *int64         `json:"next_cursor"`
		}
		r.get("/api/v1/approvals?limit=2").ok(200).json(&page)
		if len(page.Items) != 2 || page.Items[0]["job_id"] != ids[2] || page.Items[1]["job_id"] != ids[1] || page.Next == nil {
			t.Fatalf("first page %v", page)
		}
		r.get(fmt.Sprintf("/api/v1/approvals?limit=2&cursor=%d", *page.Next)).ok(200).json(&page)
		if len(page.Items) != 1 || page.Items[0]["job_id"] != ids[0] || page.Next != nil {
			t.Errorf("second page %v", page)
		}
		// a thousand in one microsecond, and as many that are resolved in another
		now := time.Now().UnixMicro()
		want := map[string]bool{}
		for i := range 1000 {
			rec := &job.Record{
				ID: fmt.Sprintf("same-%04d", i), State: job.ApprovalRequired, Tenant: "default", Trace: "t", Topic: "job.test.ask", Body: "b", CreatedAt: now, UpdatedAt: now,
				ListedAt: now, ExpiresAt: job.NewExpiry(now), Decision: job.Decision{Verdict: "REQUIRE_APPROVAL", ApprovalRequired: true, Snapshot: "s", JobHash: "h"},
			}
			if i%2 == 1 {
				rec.State = job.Denied
			}
			body := &job.Body{Request: &agentv1.JobRequest{JobId: rec.ID}, Context: []byte(`{"prompt":"` + strings.Repeat("p", 3000) + `"}`)}
			var extra []store.Op
			if rec.State == job.Denied {
				extra = append(extra, job.Approval{Resolution: job.Reject, By: "ada", At: now, Decision: rec.Decision, Revision: 1}.Op(rec))
			}
			if err := r.plane.Dispatcher.Jobs.Create(t.Context(), rec, body, 0, extra...); err != nil {
				t.Fatal(err)
			}
			want[rec.ID] = true
		}
		for _, limit := range []int{100, 500, 7} {
			left := maps.Clone(want)
			all := r.approvals("k-admin", "include_resolved=true", limit)
			for _, a := range all {
				delete(left, a["job_id"].(string))
			}
			if len(all) != 1003 || len(left) != 0 {
				t.Errorf("limit %d: %d rows, %d were not seen", limit, len(all), len(left))
			}
		}
		if n := len(r.approvals("k-admin", "", 100)); n != 503 {
			t.Errorf("%d wait", n)
		}
		if a := r.get("/api/v1/approvals?include_resolved=on"); len(a.Body) > 4<<20 {
			t.Errorf("a page of %d bytes", len(a.Body))
		}
		if other := r.approvals("k-other", "include_resolved=1", 100); len(other) != 1 {
			t.Errorf("the other tenant sees %v", other)
		}
	})
}

func TestTheListOfApprovals(t *testing.T) {
	cfg := asking()
	cfg.Policy = []byte(strictly + "approvals: { expire_after: 2h }\n")
	virtually(t, cfg, func(t *testing.T, r *rig) {
		submit := func(name string, more ...any) string {
			time.Sleep(time.Minute)
			return r.submit(append([]any{"topic", "job.fragile", "prompt", name, "labels", map[string]string{"run_id": "r", "step_id": "s"}, "context", map[string]int{"n": 1}}, more...)...).JobID
		}
		expiring := submit("expiring")
		time.Sleep(time.Hour)
		pending, approved, rejected, cancelled := submit("pending"), submit("approved"), submit("rejected"), submit("cancelled")
		large := submit("large", "context", strings.Repeat("x", 9000))
		r.approve(approved, map[string]string{"reason": "yes", "note": "but"}).ok(200)
		r.reject(rejected, map[string]string{"reason": "no"}).ok(200)
		r.post("/api/v1/jobs/"+cancelled+"/cancel", nil).ok(200)
		time.Sleep(58 * time.Minute)
		ids := func(items []approvalItem) (ids []string) {
			for _, i := range items {
				ids = append(ids, i["job_id"].(string))
			}
			return ids
		}
		if got := ids(r.approvals("k-admin", "", 1)); !slices.Equal(got, []string{large, pending}) {
			t.Errorf("waiting: %v", got)
		}
		for _, word := range []string{"0", "false", "nonsense", ""} {
			if got := r.approvals("k-admin", "include_resolved="+word, 9); len(got) != 2 {
				t.Errorf("%q: %v", word, ids(got))
			}
		}
		all := r.approvals("k-admin", "include_resolved=TRUE", 2)
		if got := ids(all); !slices.Equal(got, []string{expiring, rejected, approved, large, pending}) {
			t.Fatalf("all: %v", got)
		}
		j := r.job(pending)
		p := all[4]
		for name, want := range map[string]any{
			"decision": "REQUIRE_APPROVAL", "policy_snapshot": j["safety_snapshot"], "policy_rule_id": "fragile", "policy_reason": "handle with care",
			"job_hash": j["safety_job_hash"], "approval_required": true, "approval_ref": pending, "approval_status": "pending", "approval_actionability": "actionable",
			"approval_revision": 1.0, "context_ptr": "redis://ctx:" + pending, "workflow_run_id": "r", "workflow_step_id": "s", "approval_decision": nil, "resolved_by": nil,
			"resolved_at": nil, "expires_at": j["approval_expires_at"],
		} {
			if p[name] != want {
				t.Errorf("%s is %v, want %v", name, p[name], want)
			}
		}
		if row := p["job"].(map[string]any); row["id"] != pending || row["state"] != "APPROVAL_REQUIRED" || fmt.Sprint(p["constraints"]) != fmt.Sprint(j["safety_constraints"]) ||
			fmt.Sprint(p["job_input"]) != fmt.Sprint(j["context"]) {
			t.Errorf("item %v", p)
		}
		if s := fmt.Sprint(p["decision_summary"]); s != "map[completeness:full context_status:available next_effect:approved, the job goes to its workers; rejected, it is denied "+
			"source:policy_only subject:pending title:job.fragile why:handle with care]" {
			t.Errorf("summary %s", s)
		}
		if l := all[3]; l["job_input"] != nil || l["decision_summary"].(map[string]any)["completeness"] != "partial" || l["decision_summary"].(map[string]any)["context_status"] != "available" {
			t.Errorf("large: %v", l)
		}
		for i, want := range []string{
			"expired expired expire   ", "rejected resolved reject ada no ", "approved resolved approve ada yes but",
		} {
			a := all[i]
			text := func(name string) string { s, _ := a[name].(string); return s }
			got := fmt.Sprintf("%s %s %s %s %s %s", a["approval_status"], a["approval_actionability"], a["approval_decision"], text("resolved_by"), text("resolution"), text("resolved_comment"))
			if got != want || a["approval_required"] != false || a["resolved_at"].(float64) < 1e15 || a["policy_rule_id"] != "fragile" || a["decision"] != "REQUIRE_APPROVAL" {
				t.Errorf("%q, want %q: %v", got, want, a)
			}
		}
		r.publish(strictly + "# other")
		for _, a := range r.approvals("k-admin", "", 9) {
			if a["approval_status"] != "invalidated" || a["approval_actionability"] != "invalidated" {
				t.Errorf("item %v", a)
			}
		}
	})
}

func TestAnApprovalExpires(t *testing.T) {
	cfg := asking()
	cfg.Sweep = time.Minute
	cfg.Policy = []byte(strictly + "approvals: { expire_after: 90s }\n")
	virtually(t, cfg, func(t *testing.T, r *rig) {
		clients := r.watch("k-admin", "/api/v1/stream")
		time.Sleep(7 * time.Second)
		rc := r.submit("topic", "job.test.ask")
		brief := r.submit("topic", "job.test.ask", "deadline_ms", 5000) // its own deadline comes first
		if at := r.job(rc.JobID)["approval_expires_at"].(float64); time.Until(time.UnixMicro(int64(at))).Round(time.Second) != 90*time.Second {
			t.Errorf("expires at %v", at)
		}
		j := r.within(rc.JobID, "DENIED", 89*time.Second, 91100*time.Millisecond)
		if j["error_code"] != "approval_expired" || j["approval_status"] != "expired" || j["approval_decision"] != "expire" || j["approval_by"] != nil || j["approval_expires_at"] != nil {
			t.Errorf("job %v", j)
		}
		if e := r.letter(rc.JobID); e["reason_code"] != "approval_expired" || e["status"] != "JOB_STATUS_DENIED" {
			t.Errorf("letter %v", e)
		}
		if j := r.job(brief.JobID); j["state"] != "TIMEOUT" {
			t.Errorf("job %v", j["state"])
		}
		time.Sleep(2 * time.Second)
		want(t, "clients", clients.said(), "jobRequest "+rc.JobID, "jobRequest "+brief.JobID, "jobResult "+brief.JobID+" TIMEOUT by cordum-scheduler",
			"jobResult "+rc.JobID+" DENIED by cordum-scheduler")
		r.approve(rc.JobID, nil).conflict("approval_not_actionable", "job not awaiting approval")
		r.reject(rc.JobID, nil).conflict("approval_not_actionable", "job not awaiting approval")
		if n := len(r.entries("default")); n != 0 {
			t.Errorf("%d audit entries", n)
		}
	})
}

func TestAnApprovalThatIsOverdueCannotBeGiven(t *testing.T) {
	cfg, s := faulty()
	cfg.Sweep = 24 * time.Hour // nobody comes by
	cfg.Policy = []byte(strictly + "approvals: { expire_after: 48h }\n")
	virtually(t, cfg, func(t *testing.T, r *rig) {
		rc, brief := r.submit("topic", "job.test.ask"), r.submit("topic", "job.test.ask", "deadline_ms", int64(47*time.Hour/time.Millisecond))
		s.queues.Store(true) // and nobody can be woken
		time.Sleep(48 * time.Hour)
		for id, state := range map[string]string{rc.JobID: "DENIED", brief.JobID: "TIMEOUT"} {
			r.approve(id, nil).conflict("approval_not_actionable", "job not awaiting approval")
			if j := r.job(id); j["state"] != state {
				t.Errorf("job %v", j["state"])
			}
		}
	})
}

func TestAWaitOfAYearExpiresInTime(t *testing.T) {
	const year = 365 * 24 * time.Hour
	cfg := asking()
	cfg.Dir, cfg.Sweep = t.TempDir(), 12*time.Hour
	cfg.Policy = []byte(strictly + fmt.Sprintf("approvals: { expire_after: %s }\n", 4*24*time.Hour))
	virtually(t, cfg, func(t *testing.T, r *rig) {
		rc := r.submit("topic", "job.test.ask")
		time.Sleep(4*24*time.Hour - time.Hour)
		if j := r.job(rc.JobID); j["state"] != "APPROVAL_REQUIRED" || j["context"] == nil {
			t.Fatalf("an hour before: %v", j)
		}
		time.Sleep(61 * time.Minute)
		if j := r.job(rc.JobID); j["state"] != "DENIED" || j["approval_status"] != "expired" {
			t.Errorf("an hour after: %v", j)
		}
		r.publish(strictly + fmt.Sprintf("approvals: { expire_after: %s }\n", year))
		at := r.job(r.submit("topic", "job.test.ask").JobID)["approval_expires_at"].(float64)
		if left := time.Until(time.UnixMicro(int64(at))); left.Round(time.Hour) != year {
			t.Errorf("it expires after %s", left)
		}
	})
}

func TestSelfApproval(t *testing.T) {
	cfg := asking()
	cfg.Policy = []byte(strictly + "approvals: { self_approval: forbid }\n")
	virtually(t, cfg, func(t *testing.T, r *rig) {
		const refusal = `{"error":"self-approval is forbidden by policy","status":403,"code":"approval_self_approval","retryable":false}`
		approve := func(key, id string) answer { return r.as(key, "POST", "/api/v1/approvals/"+id+"/approve", nil) }
		own := r.submitAs("k-ada", "topic", "job.test.ask").JobID
		onBehalf := r.submitAs("k-user", "topic", "job.test.ask", "principal_id", "ada").JobID
		asActor := r.submitAs("k-user", "topic", "job.test.ask", "principal_id", "bob", "actor_id", "ada").JobID
		disguised := r.submitAs("k-ada", "topic", "job.test.ask", "principal_id", "bob", "actor_id", "bob").JobID
		for _, id := range []string{own, onBehalf, asActor, disguised} {
			if a := approve("k-ada", id); a.Status != 403 || a.Body != refusal {
				t.Errorf("HTTP %d %s", a.Status, a.Body)
			}
			if j := r.job(id); j["state"] != "APPROVAL_REQUIRED" {
				t.Errorf("job %v", j["state"])
			}
			approve("k-admin", id).ok(200)
		}
		mine := r.submit("topic", "job.test.ask").JobID
		if a := r.as("k-admin", "POST", "/api/v1/approvals/"+mine+"/approve", nil, "X-Principal-Id", "somebody"); a.Body != refusal { // the same credential
			t.Errorf("HTTP %d %s", a.Status, a.Body)
		}
		r.as("k-admin", "POST", "/api/v1/approvals/"+mine+"/reject", nil).ok(200) // nobody has to keep their own job
		r.publish(strictly)
		approve("k-ada", r.submitAs("k-ada", "topic", "job.test.ask").JobID).ok(200)
	})
}

func TestT058_AnApprovedJobIsNotAskedForAgain(t *testing.T) {
	cfg := asking()
	cfg.Timeouts = []byte("reconciler: { pending_timeout_seconds: 900 }")
	virtually(t, cfg, func(t *testing.T, r *rig) {
		rc := r.submit("topic", "job.test.ask", "labels", map[string]string{"region": "mars"}) // nobody is there
		time.Sleep(3 * time.Hour)
		r.approve(rc.JobID, nil).ok(200)
		time.Sleep(14 * time.Minute) // its patience of 15 began with the approval
		if j := r.job(rc.JobID); j["state"] != "SCHEDULED" {
			t.Fatalf("job %v", j)
		}
		r.document("org", "default", `{"x":1}`) // decisions are made anew
		there := func(id string) func(*worker.Config) {
			return func(c *worker.Config) { c.ID, c.Labels = id, map[string]string{"region": "mars"} }
		}
		started := make(chan *worker.Job, 4)
		stop := r.work(map[string]worker.Handler{"job.*": block(started, nil)}, vanishing, there("w1"))
		<-started
		r.await(rc.JobID, "DISPATCHED")
		stop() // the worker is lost
		r.work(map[string]worker.Handler{"job.*": succeed}, there("w2"))
		if j := r.await(rc.JobID, "SUCCEEDED"); j["attempts"] != 2.0 || j["approval_revision"] != 1.0 {
			t.Errorf("job %v", j)
		}
		var decisions []map[string]any
		r.get("/api/v1/jobs/" + rc.JobID + "/decisions").ok(200).json(&decisions)
		if len(decisions) != 2 || decisions[0]["reason"] != "approval granted" {
			t.Errorf("decisions %v", decisions)
		}
	})
}

func TestAnApprovedJobRunsAsLongAsItsPolicyLets(t *testing.T) {
	cfg := asking()
	cfg.Sweep = time.Minute // hours pass
	virtually(t, cfg, func(t *testing.T, r *rig) {
		for ms, want := range map[int64]time.Duration{0: 90 * time.Second, int64(2 * time.Hour / time.Millisecond): 90 * time.Second, 3_630_000: 30 * time.Second} {
			rc := r.submit("topic", "job.fragile", "deadline_ms", ms)
			time.Sleep(time.Hour)
			r.approve(rc.JobID, nil).ok(200)
			at := time.Unix(int64(r.job(rc.JobID)["deadline_unix"].(float64)), 0)
			if left := time.Until(at).Round(time.Second); left != want {
				t.Errorf("with deadline_ms %d, %s after an hour's wait, not %s", ms, left, want)
			}
			r.await(rc.JobID, "TIMEOUT")
		}
	})
}

func TestT059_ALimitOfOneDoesNotBlockAnApprovedJob(t *testing.T) {
	virtually(t, asking(), func(t *testing.T, r *rig) {
		jobs := make(chan *worker.Job, 4)
		var ids []string
		for range 3 {
			ids = append(ids, r.submit("topic", "job.fragile").JobID) // max_concurrent_jobs is 1
		}
		for _, id := range ids {
			r.approve(id, nil).ok(200)
		}
		states := map[any]int{}
		for _, id := range ids {
			states[r.job(id)["state"]]++
		}
		if states["SCHEDULED"] != 1 || states["PENDING"] != 2 {
			t.Errorf("states %v", states)
		}
		r.work(map[string]worker.Handler{"job.*": keep(jobs)})
		for _, id := range ids {
			r.await(id, "SUCCEEDED")
		}
	})
}

func TestT055_TheHashOfAJob(t *testing.T) {
	base := func() *agentv1.JobRequest {
		return &agentv1.JobRequest{
			JobId: "j", Topic: "job.a", Labels: map[string]string{"a": "1"}, Env: map[string]string{"b": "2"}, Meta: &agentv1.JobMetadata{Capability: "c"},
		}
	}
	hash := job.Hash(base())
	if len(hash) != 64 {
		t.Errorf("hash %q", hash)
	}
	for name, c := range map[string]struct {
		change func(*agentv1.JobRequest)
		same   bool
	}{
		"approval labels":  {func(q *agentv1.JobRequest) { q.Labels["approval_granted"], q.Labels["APPROVAL_x"] = "true", "y" }, true},
		"bus id":           {func(q *agentv1.JobRequest) { q.Labels["cordum.bus_msg_id"] = "approval:x" }, true},
		"effective config": {func(q *agentv1.JobRequest) { q.Env["CORDUM_EFFECTIVE_CONFIG"] = "{}" }, true},
		"another label":    {func(q *agentv1.JobRequest) { q.Labels["z"] = "1" }, false},
		"another env":      {func(q *agentv1.JobRequest) { q.Env["z"] = "1" }, false},
		"topic":            {func(q *agentv1.JobRequest) { q.Topic = "job.b" }, false},
		"meta":             {func(q *agentv1.JobRequest) { q.Meta.Capability = "d" }, false},
		"meta's labels":    {func(q *agentv1.JobRequest) { q.Meta.Labels = map[string]string{"approval_granted": "true"} }, false},
		"budget":           {func(q *agentv1.JobRequest) { q.Budget = &agentv1.Budget{DeadlineMs: 1} }, false},
	} {
		q := base()
		c.change(q)
		if (job.Hash(q) == hash) != c.same {
			t.Errorf("%s: the same is %t", name, !c.same)
		}
	}
}

// What was approved under a policy that counts jobs stays approved when the count has gone down; what the configuration forbids is forbidden.
func TestTheRulesAreNotAskedAgainAndTheConfigurationIs(t *testing.T) {
	cfg := asking()
	cfg.Policy = []byte(`
default_decision: deny
rules:
  - { id: burst, match: { topics: ["job.test.*"] }, velocity: { max_requests: 1, window_seconds: 60, key: tenant }, decision: require_approval, reason: many, constraints: { budgets: { max_retries: 5 } } }
  - { id: few, match: { topics: ["job.test.work"] }, decision: allow }
`)
	virtually(t, cfg, func(t *testing.T, r *rig) {
		r.submit()
		r.submit()
		rc, forbidden := r.submit("topic", "job.test.other"), r.submit("topic", "job.test.forbidden")
		if rc.Status != "approval_required" || forbidden.Status != "approval_required" {
			t.Fatalf("receipts %+v, %+v", rc, forbidden)
		}
		time.Sleep(time.Hour) // nobody would ask for approval now: the rule does not fire, and nothing else allows the topic
		r.document("org", "default", `{"safety":{"denied_topics":["job.test.forbidden"]}}`)
		r.approve(rc.JobID, nil).ok(200)
		r.approve(forbidden.JobID, nil).ok(200)
		if j := r.job(forbidden.JobID); j["state"] != "DENIED" || j["error_code"] != "safety_denied" || j["approval_by"] != "ada" {
			t.Errorf("job %v", j)
		}
		r.document("org", "default", `{"safety":{"denied_topics":["job.test.x"]}}`) // decided again when it is claimed
		r.work(map[string]worker.Handler{"job.*": succeed})
		j := r.await(rc.JobID, "SUCCEEDED")
		if j["safety_rule_id"] != "burst" || j["safety_reason"] != "approval granted" || j["safety_constraints"] == nil {
			t.Errorf("job %v", j)
		}
	})
}

func TestAnApprovedJobWithoutAPoolFails(t *testing.T) {
	virtually(t, asking(), func(t *testing.T, r *rig) {
		rc := r.submit("topic", "job.test.ask", "labels", map[string]string{"preferred_pool": "nowhere"})
		r.approve(rc.JobID, nil).ok(200)
		if j := r.job(rc.JobID); j["state"] != "FAILED" || j["error_code"] != "no_pool_mapping" || j["approval_status"] != "approved" {
			t.Errorf("job %v", j)
		}
		if e := r.letter(rc.JobID); e["reason_code"] != "no_pool_mapping" {
			t.Errorf("letter %v", e)
		}
	})
}

func TestAHundredWhoResolveOneJob(t *testing.T) {
	r := open(t, asking())
	for round := range 10 {
		rc := r.submit("topic", "job.test.ask")
		answers := make([]answer, 100)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				if i%2 == 0 {
					answers[i] = r.approve(rc.JobID, nil)
				} else {
					answers[i] = r.reject(rc.JobID, nil)
				}
			})
		}
		all.Wait()
		won := ""
		for i, a := range answers {
			if a.Status == 200 {
				won += []string{"approved ", "rejected "}[i%2]
				continue
			}
			a.conflict("approval_already_resolved", "job not awaiting approval")
		}
		j := r.job(rc.JobID)
		if fmt.Sprint(j["approval_status"], " ") != won {
			t.Errorf("won: %s; the job is %v", won, j["state"])
		}
		if n := len(r.entries("default")); n != round+1 {
			t.Errorf("%d entries after %d rounds", n, round+1)
		}
		if (r.letter(rc.JobID) != nil) != (j["state"] == "DENIED") {
			t.Errorf("letter %v", r.letter(rc.JobID))
		}
	}
}

func TestApproveAgainstCancelAndExpiry(t *testing.T) {
	r := open(t, asking())
	for range 20 {
		rc := r.submit("topic", "job.test.ask")
		var approved answer
		var all sync.WaitGroup
		all.Go(func() { approved = r.approve(rc.JobID, nil) })
		all.Go(func() { r.post("/api/v1/jobs/"+rc.JobID+"/cancel", nil).ok(200) })
		all.Wait()
		j := r.job(rc.JobID)
		if j["state"] != "CANCELLED" || (approved.Status == 200) != (j["approval_status"] == "approved") {
			t.Errorf("the approval answered %d: %v", approved.Status, j)
		}
		if approved.Status != 200 {
			approved.conflict("approval_not_actionable", "job not awaiting approval")
		}
	}
}

// colliding transactions meet others that often.
type colliding struct {
	store.Table
	left *atomic.Int64
}

func (c colliding) Write(ctx context.Context, ops ...store.Op) error {
	if len(ops) > 1 && c.left.Add(-1) >= 0 {
		return store.ErrConflict
	}
	return c.Table.Write(ctx, ops...)
}

func TestResolutionsThatCollide(t *testing.T) {
	cfg, left := asking(), &atomic.Int64{}
	cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
		p.Table = colliding{p.Table, left}
		return p
	}
	virtually(t, cfg, func(t *testing.T, r *rig) {
		for _, do := range []func(string, any, ...string) answer{r.approve, r.reject} {
			rc := r.submit("topic", "job.test.ask")
			left.Store(1000)
			do(rc.JobID, nil).conflict("approval_retryable_lock", "approval is being resolved by others; retry")
			left.Store(7)
			do(rc.JobID, nil).resolved(rc)
			left.Store(0)
		}
	})
}

// A result that is larger than the policy lets it be is refused, whatever the transport, and the job can still fail.
func TestT054_ResultsAreAsLargeAsThePolicyLets(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		const limit = 1024 // of job.test.boxed
		r.work(map[string]worker.Handler{"job.test.*": func(_ context.Context, j *worker.Job) (any, error) {
			var in struct {
				Prompt string `json:"prompt"`
			}
			if err := j.DecodeContext(context.Background(), &in); err != nil {
				return nil, err
			}
			return json.RawMessage(`"` + strings.Repeat("x", len(in.Prompt)-2) + `"`), nil
		}})
		good, bad := r.submit("topic", "job.test.boxed", "prompt", strings.Repeat("p", limit)), r.submit("topic", "job.test.boxed", "prompt", strings.Repeat("p", limit+1))
		r.await(good.JobID, "SUCCEEDED")
		if j := r.await(bad.JobID, "FAILED"); !strings.Contains(j["error_message"].(string), "result of 1025 bytes is larger than max_artifact_bytes of the policy (1024)") || j["attempts"] != 1.0 {
			t.Errorf("job %v", j)
		}
		free := r.submit("prompt", strings.Repeat("p", 5000)) // no limit
		r.await(free.JobID, "SUCCEEDED")
	})
}

func TestT054_ResultsOverREST(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		p := r.poller("k-worker-default", "p1", "main")
		rc := r.submit("topic", "job.test.boxed")
		p.claim(p.ticket())
		store := func(n int) answer {
			return p.call("jobs/"+rc.JobID+"/result", map[string]any{"attempt": 1, "data": []byte(`"` + strings.Repeat("x", n-2) + `"`)})
		}
		store(1025).refused(413, "result of 1025 bytes is larger than max_artifact_bytes of the policy (1024)")
		p.say(1, "jobProgress", map[string]any{"jobId": rc.JobID, "percent": 30})
		if j := r.job(rc.JobID); j["state"] != "RUNNING" || j["result"] != nil {
			t.Errorf("job %v", j)
		}
		store(1024).ok(200)
		p.say(1, "jobResult", map[string]any{"jobId": rc.JobID, "status": "JOB_STATUS_FAILED", "workerId": "p1", "errorCode": "too_large"})
		if j := r.job(rc.JobID); j["state"] != "FAILED" || j["error_code"] != "too_large" {
			t.Errorf("job %v", j)
		}
	})
}

// What the original's demo shows, on the policy of the local plane: a write that waits for a human, and a denied job that becomes another.
func TestTheDemoOfTheOriginal(t *testing.T) {
	cfg := config()
	cfg.Policy, cfg.Pools, cfg.Timeouts = nil, nil, nil
	virtually(t, cfg, func(t *testing.T, r *rig) {
		r.work(map[string]worker.Handler{"job.demo.*": succeed}, func(c *worker.Config) { c.Pool = "demo" })
		write := r.submit("topic", "job.demo.hash", "risk_tags", []string{"write"}, "labels", map[string]string{"env": "prod"})
		if write.Status != "approval_required" {
			t.Fatalf("receipt %+v", write)
		}
		item := r.approvals("k-admin", "", 1)[0] // as its script reads it
		r.approve(item["job_id"].(string), nil).ok(200)
		r.await(write.JobID, "SUCCEEDED")
		danger := r.submit("topic", "job.demo.wipe")
		var instead receipt
		r.remediate(danger.JobID, nil).ok(200).json(&instead)
		if j := r.await(instead.JobID, "SUCCEEDED"); danger.Status != "denied" || j["parent_job_id"] != danger.JobID || j["topic"] != "job.demo.wordcount" {
			t.Errorf("job %v", j)
		}
	})
}
