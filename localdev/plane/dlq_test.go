package plane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
)

// The dead letters of core.md 2.8 and api.md 2.17.

// letters pages through the dead letters of a tenant.
func (r *rig) letters(key, query string, limit int) []map[string]any {
	r.t.Helper()
	var all []map[string]any
	cursor := ""
	for pages := 0; ; pages++ {
		if pages > 1000 {
			r.t.Fatal("the list does not end")
		}
		var page struct {
			Items []map[string]any `json:"items"`
			Next  *json.Number     `json:"next_cursor"`
		}
		path := fmt.Sprintf("/api/v1/dlq/page?limit=%d&%s", limit, query)
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

func (r *rig) letter(id string) map[string]any {
	r.t.Helper()
	for _, e := range r.letters("k-admin", "", 100) {
		if e["job_id"] == id {
			return e
		}
	}
	return nil
}

func (r *rig) retry(id string) answer {
	r.t.Helper()
	return r.post("/api/v1/dlq/"+url.PathEscape(id)+"/retry", nil)
}

func failing(context.Context, *worker.Job) (any, error) {
	return nil, &worker.Error{Code: "out_of_paper", Message: "the printer has no paper"}
}

func TestEveryUnsuccessfulEndLeavesADeadLetter(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.work(map[string]worker.Handler{"job.test.*": failing})
		failed := r.submit()
		r.await(failed.JobID, "FAILED")
		denied := r.submit("topic", "job.test.wipe")
		lost := r.submit("topic", "job.test.gpu", "deadline_ms", 1000)
		r.await(lost.JobID, "TIMEOUT")
		unroutable := r.submit("labels", map[string]string{"preferred_pool": "gpu"})
		want := map[string][4]string{
			failed.JobID:     {"JOB_STATUS_FAILED", "out_of_paper", "the printer has no paper", "FAILED"},
			denied.JobID:     {"JOB_STATUS_DENIED", "safety_denied", "nothing may be deleted", "DENIED"},
			lost.JobID:       {"JOB_STATUS_TIMEOUT", "deadline_exceeded", "deadline exceeded", "TIMEOUT"},
			unroutable.JobID: {"JOB_STATUS_FAILED", "no_pool_mapping", "", "FAILED"},
		}
		all := r.letters("k-admin", "", 100)
		if len(all) != len(want) {
			t.Fatalf("%d letters: %v", len(all), all)
		}
		for _, e := range all {
			w := want[e["job_id"].(string)]
			if e["status"] != w[0] || e["reason_code"] != w[1] || (w[2] != "" && e["reason"] != w[2]) || e["last_state"] != w[3] || e["created_at"] == nil {
				t.Errorf("letter %v, want %v", e, w)
			}
		}
		e := r.letter(failed.JobID)
		if e["attempts"] != 1.0 || e["last_worker"] != "w1" || e["topic"] != "job.test.work" || e["first_failure_at"] != e["last_failure_at"] {
			t.Errorf("letter of the failed job %v", e)
		}
		if d := r.letter(denied.JobID); d["attempts"] != nil || d["last_worker"] != nil {
			t.Errorf("letter of the denied job %v", d)
		}
		var bare []map[string]any
		r.get("/api/v1/dlq?limit=2").ok(200).json(&bare)
		if len(bare) != 2 || bare[0]["job_id"] != unroutable.JobID {
			t.Errorf("bare list %v", bare)
		}
		for query, n := range map[string]int{"reason_code=safety_denied": 1, "topic=job.test.work": 2, "status=JOB_STATUS_FAILED": 2, "reason_code=x": 0, "topic=job.test.work&reason_code=out_of_paper": 1} {
			if got := r.letters("k-admin", query, 1); len(got) != n {
				t.Errorf("%s: %v", query, got)
			}
		}
		r.as("k-user", "GET", "/api/v1/dlq", nil).refused(403, "access denied")
	})
}

func TestFirstAndLastFailure(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		rc := r.submit("topic", "job.test.once")
		for i := range 2 {
			w := r.connect("k-worker", fmt.Sprintf("w%d", i), "main", 1)
			w.job()
			w.cancel()
			time.Sleep(45 * time.Second)
		}
		e := r.letter(rc.JobID)
		first, err1 := time.Parse(time.RFC3339Nano, e["first_failure_at"].(string))
		last, err2 := time.Parse(time.RFC3339Nano, e["last_failure_at"].(string))
		if err1 != nil || err2 != nil || last.Sub(first) < 30*time.Second || e["attempts"] != 2.0 || e["last_worker"] != "w1" || e["reason_code"] != "worker_lost" {
			t.Errorf("letter %v", e)
		}
	})
}

func TestT075_T076_ARetryKeepsWhatPolicySees(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		stop := r.work(map[string]worker.Handler{"job.test.*": failing})
		rc := r.submit("risk_tags", []string{"write"}, "capability", "print", "pack_id", "office", "priority", "batch", "memory_id", "mem:m",
			"labels", map[string]string{"floor": "3"}, "max_total_tokens", 77, "team_id", "red", "context", map[string]int{"n": 1},
			"idempotency_key", "k")
		r.await(rc.JobID, "FAILED")
		stop()
		var again receipt
		r.retry(rc.JobID).ok(200).json(&again)
		if !strings.HasPrefix(again.JobID, rc.JobID+"-retry-") || len(again.JobID) != len(rc.JobID)+len("-retry-")+8 ||
			again.TraceID != "dlq-retry-"+rc.JobID || again.Status != "scheduled" || again.Reason != "tests may" {
			t.Errorf("answer %+v", again)
		}
		r.retry(rc.JobID).refused(404, "dlq entry not found")
		jobs := make(chan *worker.Job, 1)
		r.work(map[string]worker.Handler{"job.test.*": keep(jobs)}, func(c *worker.Config) { c.ID = "w2" })
		j := r.await(again.JobID, "SUCCEEDED")
		labels := j["labels"].(map[string]any)
		if labels["floor"] != "3" || labels["retry"] != "true" || labels["dlq_entry"] != rc.JobID || labels["retry_of_job"] != rc.JobID ||
			j["capability"] != "print" || j["pack_id"] != "office" || fmt.Sprint(j["risk_tags"]) != "[write]" || j["idempotency_key"] != "" ||
			j["context"].(map[string]any)["context"].(map[string]any)["n"] != 1.0 {
			t.Errorf("job %v", j)
		}
		got := <-jobs
		if got.Env["retry_of_job"] != rc.JobID || got.Env["team_id"] != "red" || got.Request.GetBudget().GetMaxTotalTokens() != 77 ||
			got.Request.GetMemoryId() != "mem:m" || got.Request.GetPriority().String() != "JOB_PRIORITY_BATCH" {
			t.Errorf("request %v", got.Request)
		}
		if same := r.submit("idempotency_key", "k"); same.JobID != rc.JobID {
			t.Error("the retry took the idempotency key")
		}
		denied := r.submit("topic", "job.test.wipe")
		var still receipt
		r.retry(denied.JobID).ok(200).json(&still)
		if still.Status != "denied" || r.letter(denied.JobID) != nil || r.letter(still.JobID) == nil {
			t.Errorf("a denied job was not judged again: %+v", still)
		}
	})
}

func TestT077_ARetryWithoutItsContext(t *testing.T) {
	cfg := config()
	cfg.Dir = t.TempDir()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		rc := r.submit("topic", "job.test.wipe", "team_id", "red")
		r.hibernate(cfg, 25*time.Hour)
		var again receipt
		r.retry(rc.JobID).ok(200).json(&again)
		if j := r.job(again.JobID); j["context"] != nil || j["topic"] != "job.test.wipe" {
			t.Errorf("job %v", j)
		}
		r.hibernate(cfg, 8*24*time.Hour) // the job has gone, its dead letter has not
		var late receipt
		r.retry(again.JobID).ok(200).json(&late)
		if j := r.job(late.JobID); j["topic"] != "job.test.wipe" || j["state"] != "DENIED" || j["labels"].(map[string]any)["retry"] != "true" {
			t.Errorf("job %v", j)
		}
		r.hibernate(cfg, 31*24*time.Hour)
		if n := len(r.letters("k-admin", "", 10)); n != 0 {
			t.Errorf("after a month %d letters are left", n)
		}
	})
}

func TestT078_T079_UnknownAndForeignDeadLetters(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		mine := r.submit("topic", "job.test.wipe")
		theirs := r.submitAs("k-other", "topic", "job.test.wipe")
		if got := r.letters("k-other", "", 10); len(got) != 1 || got[0]["job_id"] != theirs.JobID {
			t.Errorf("the other tenant sees %v", got)
		}
		r.retry("nobody").refused(404, "dlq entry not found")
		if a, b := r.retry(theirs.JobID), r.retry("nobody"); a.Status != b.Status || a.Body != b.Body {
			t.Errorf("a foreign letter answers %s, an unknown one %s", a.Body, b.Body)
		}
		for _, id := range []string{"nobody", theirs.JobID, mine.JobID, mine.JobID} {
			if a := r.as("k-admin", "DELETE", "/api/v1/dlq/"+id, nil).ok(204); a.Body != "" {
				t.Errorf("delete answered %q", a.Body)
			}
		}
		if r.letter(mine.JobID) != nil || len(r.letters("k-other", "", 10)) != 1 {
			t.Error("the wrong letter was deleted")
		}
		r.job(mine.JobID) // the job stays
	})
}

func TestT080_DeadLettersOfOneSecond(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		sent := map[string]bool{}
		for range 150 {
			sent[r.submit("topic", "job.test.wipe").JobID] = true
		}
		all := r.letters("k-admin", "", 100)
		for _, e := range all {
			delete(sent, e["job_id"].(string))
		}
		if len(all) != 150 || len(sent) != 0 {
			t.Errorf("%d rows, %d were not seen", len(all), len(sent))
		}
	})
}

func TestManyDeadLettersAtOnce(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		type result struct {
			Items []struct {
				JobID string `json:"job_id"`
				OK    bool   `json:"ok"`
				Error string `json:"error"`
				New   string `json:"new_job_id"`
				State string `json:"status"`
			} `json:"items"`
			More bool `json:"more"`
		}
		bulk := func(action string, body any) result {
			var res result
			r.post("/api/v1/dlq/"+action, body).ok(200).json(&res)
			return res
		}
		var ids []string
		for range 7 {
			ids = append(ids, r.submit("topic", "job.test.wipe").JobID)
		}
		gone := r.submit("topic", "job.nowhere").JobID
		theirs := r.submitAs("k-other", "topic", "job.test.wipe").JobID
		r.post("/api/v1/dlq/retry", "{}").refused(400, "job_ids or filter is required; the filter {} means all")
		r.post("/api/v1/dlq/retry", map[string]any{"job_ids": make([]string, 101)}).refused(400, "at most 100 job_ids")
		some := bulk("retry", map[string]any{"job_ids": []string{ids[0], "nobody", theirs}})
		if len(some.Items) != 3 || !some.Items[0].OK || some.Items[0].State != "denied" || some.Items[1].OK ||
			some.Items[1].Error != "dlq entry not found" || some.Items[2].Error != some.Items[1].Error {
			t.Errorf("by id: %+v", some)
		}
		first := bulk("retry", map[string]any{"filter": map[string]string{"reason_code": "safety_denied", "topic": "job.test.wipe"}, "limit": 3})
		if len(first.Items) != 3 || !first.More || !first.Items[0].OK {
			t.Errorf("by filter: %+v", first)
		}
		removed := bulk("delete", map[string]any{"filter": map[string]string{"topic": "job.test.wipe"}})
		if len(removed.Items) != 7 || removed.More {
			t.Errorf("deleted: %+v", removed)
		}
		if left := r.letters("k-admin", "", 10); len(left) != 1 || left[0]["job_id"] != gone {
			t.Errorf("left: %v", left)
		}
		if bulk("delete", map[string]any{"filter": map[string]any{}}); len(r.letters("k-admin", "", 10)) != 0 || len(r.letters("k-other", "", 10)) != 1 {
			t.Error("the filter {} did not mean all of one's own")
		}
	})
}

func TestOfManyRetriesOneSucceeds(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		rc := r.submit("topic", "job.test.wipe")
		var mu sync.Mutex
		status := map[int]int{}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				a := r.retry(rc.JobID)
				mu.Lock()
				defer mu.Unlock()
				status[a.Status]++
			})
		}
		wg.Wait()
		jobs := r.jobs("")
		if status[200] < 1 || status[200]+status[404] != 8 || len(jobs) != 2 {
			t.Errorf("answers %v, %d jobs", status, len(jobs))
		}
	})
}

func TestMessagesThatNobodyCouldHandle(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		send := func(name, body string) {
			t.Helper()
			if err := r.plane.Dispatcher.Queues.Send(t.Context(), name, queue.Message{Body: body}); err != nil {
				t.Fatal(err)
			}
		}
		rc := r.submit()
		loseMessages(t, r, "pool-main")
		send("dead-letters", `{"job":"`+rc.JobID+`","attempt":1}`) // a ticket that was received too often
		send("dead-letters", `{"attempt":1,"packet":{"protocolVersion":1,"jobResult":{"jobId":"x"}}}`)
		send("dead-letters", "rubbish")
		time.Sleep(5 * time.Second)
		all := r.letters("k-admin", "", 10)
		if len(all) != 2 {
			t.Fatalf("letters %v", all)
		}
		for _, e := range all {
			if e["reason_code"] != "undeliverable" || e["queue"] != "inbox" || !strings.HasPrefix(e["job_id"].(string), "message:") {
				t.Errorf("letter %v", e)
			}
		}
		if a := r.retry(all[0]["job_id"].(string)); a.Status != 200 {
			t.Errorf("retry: %d %s", a.Status, a.Body)
		}
		time.Sleep(time.Second)
		if n := len(r.letters("k-admin", "", 10)); n != 1 {
			t.Errorf("%d letters are left", n)
		}
		r.work(map[string]worker.Handler{"job.test.*": succeed})
		r.await(rc.JobID, "SUCCEEDED")
	})
}
