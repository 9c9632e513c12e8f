package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/sdk/worker"
)

// letterCases are about dead letters.
var letterCases = []testCase{
	{"dead letters are filtered and paged", needStream, func(s *story) {
		code, ids := s.failures(5)
		for limit := range 3 {
			s.holds(fmt.Sprintf("reason_code=%s&limit=%d", code, limit+1), ids...)
		}
		s.holds("reason_code="+code+"&topic="+TopicWork, ids...)
		s.holds("reason_code="+code+"&status=JOB_STATUS_FAILED", ids...)
		s.holds("reason_code=" + code + "&status=JOB_STATUS_DENIED")
		s.holds("reason_code=" + code + "&topic=" + TopicDenied)
		letters := s.letters("reason_code=" + code + "&limit=2")
		if !slices.IsSortedFunc(letters, func(a, b letter) int { return b.CreatedAt.Compare(a.CreatedAt) }) {
			s.Errorf("not newest first: %+v", letters)
		}
		var bare []letter
		if s.ok(s.get("/dlq?limit=1"), &bare); len(bare) != 1 {
			s.Errorf("%d letters on a list of one", len(bare))
		}
	}},
	{"a dead letter can be deleted", needStream, func(s *story) {
		code, ids := s.failures(2)
		for range 2 { // the second changes nothing
			s.gone(s.call(call{method: http.MethodDelete, path: "/api/v1/dlq/" + ids[0]}))
		}
		s.gone(s.call(call{method: http.MethodDelete, path: "/api/v1/dlq/" + s.fresh()}))
		s.holds("reason_code="+code, ids[1])
		if j := s.job(ids[0]); j.State != "FAILED" {
			s.Errorf("its job: %+v", j)
		}
	}},
	{"a dead letter can be sent again", needStream, func(s *story) {
		code := s.fresh()
		text := strings.Repeat("again ", 10_000) // more than an item holds
		rc := s.submit("labels", map[string]string{"floor": "3"}, "context", Task{Do: "mend", Code: code, Echo: text}, "idempotency_key", code)
		s.await(rc.JobID, "FAILED")
		s.holds("reason_code="+code, rc.JobID)
		again := s.receipt(s.post("/dlq/"+rc.JobID+"/retry", nil))
		if !strings.HasPrefix(again.JobID, rc.JobID+"-retry-") || again.TraceID != "dlq-retry-"+rc.JobID || again.Status != "scheduled" {
			s.Errorf("receipt %+v", again)
		}
		j := s.await(again.JobID, "SUCCEEDED")
		if o := s.outcome(j); o.Echo != text || j.Labels["floor"] != "3" || j.Labels["retry_of_job"] != rc.JobID {
			s.Errorf("job %s, labels %v, %d bytes of echo", j.ID, j.Labels, len(o.Echo))
		}
		s.refused(s.post("/dlq/"+rc.JobID+"/retry", nil), http.StatusNotFound, "dlq entry not found")
		s.holds("reason_code=" + code)
		if j := s.job(rc.JobID); j.State != "FAILED" {
			s.Errorf("the first job: %+v", j)
		}
	}},
	{"a dead letter goes back to the place of its job", needStream, func(s *story) {
		roomy := func(c *worker.Config) { c.MaxParallel = 8 } // with one slot it would pass for busy until its next heartbeat
		id, _ := s.hire(s.here(), Handler, roomy)
		time.Sleep(seenAfter)
		rc := s.submit("topic", TopicPlaced, "labels", s.here(), "context", Task{Do: "mend", Code: s.fresh()})
		s.await(rc.JobID, "FAILED")
		if j := s.await(s.receipt(s.post("/dlq/"+rc.JobID+"/retry", nil)).JobID, "SUCCEEDED"); j.WorkerID != id || j.Attempts != 1 {
			s.Errorf("job %+v", j)
		}
	}},
	{"a denied job is denied again", 0, func(s *story) {
		rc := s.submit("topic", TopicDenied)
		again := s.receipt(s.post("/dlq/"+rc.JobID+"/retry", nil))
		if again.Status != "denied" || s.job(again.JobID).Rule != "e2e-denied" {
			s.Errorf("receipt %+v", again)
		}
		s.letter(again.JobID, "reason_code=safety_denied&topic="+TopicDenied)
	}},
	{"many dead letters are sent again or deleted at once", needStream, func(s *story) {
		code, ids := s.failures(5)
		s.refused(s.post("/dlq/retry", `{}`), http.StatusBadRequest, "job_ids or filter is required; the filter {} means all")
		named := s.bulk("retry", map[string]any{"job_ids": []string{ids[0], s.fresh()}})
		if len(named.Items) != 2 || !named.Items[0].OK || named.Items[0].JobID != ids[0] || named.Items[1].OK || named.Items[1].Error != "dlq entry not found" {
			s.Errorf("by id: %+v", named)
		}
		some := s.bulk("retry", map[string]any{"filter": map[string]string{"reason_code": code}, "limit": 2})
		if len(some.Items) != 2 || !some.More {
			s.Errorf("by filter: %+v", some)
		}
		for _, i := range slices.Concat(named.Items[:1], some.Items) {
			s.await(i.New, "SUCCEEDED")
		}
		left := s.letters("reason_code=" + code)
		all := s.bulk("delete", map[string]any{"filter": map[string]string{"reason_code": code}})
		if len(left) != 2 || len(all.Items) != 2 || all.More {
			s.Errorf("%d were left, %+v", len(left), all)
		}
		s.holds("reason_code=" + code)
	}},
}

// letter is what cases look at of a dead letter.
type letter struct {
	JobID      string    `json:"job_id"`
	Topic      string    `json:"topic"`
	Status     string    `json:"status"`
	Reason     string    `json:"reason"`
	ReasonCode string    `json:"reason_code"`
	LastState  string    `json:"last_state"`
	Attempts   int       `json:"attempts"`
	LastWorker string    `json:"last_worker"`
	CreatedAt  time.Time `json:"created_at"`
}

// failures makes jobs that fail with a code of their own. A retry of them succeeds.
func (s *story) failures(n int) (code string, ids []string) {
	s.Helper()
	code = s.fresh()
	for range n {
		ids = append(ids, s.submit("context", Task{Do: "mend", Code: code}).JobID)
	}
	for _, id := range ids {
		s.await(id, "FAILED")
	}
	s.holds("reason_code="+code, ids...)
	return code, ids
}

// letters follows the cursors to the end.
func (s *story) letters(query string) (all []letter) {
	s.Helper()
	for cursor := ""; ; {
		var page struct {
			Items []letter `json:"items"`
			Next  *int64   `json:"next_cursor"` // a number, as clients want it
		}
		s.ok(s.get("/dlq/page?"+query+cursor), &page)
		all = append(all, page.Items...)
		if page.Next == nil {
			return all
		}
		cursor = fmt.Sprint("&cursor=", *page.Next)
	}
}

// holds waits until the dead letters of a query are those of these jobs, each once: an index may lag.
func (s *story) holds(query string, want ...string) {
	s.Helper()
	want = slices.Sorted(slices.Values(want))
	s.eventually(s.patience(), func() (bool, string) {
		var got []string
		for _, l := range s.letters(query) {
			got = append(got, l.JobID)
		}
		slices.Sort(got)
		return slices.Equal(got, want), fmt.Sprintf("%s: %d letters, not %d: %v", query, len(got), len(want), got)
	})
}

// letter waits for the dead letter of a job, among those of a query.
func (s *story) letter(id, query string) (found letter) {
	s.Helper()
	s.eventually(s.patience(), func() (bool, string) {
		for _, l := range s.letters(query) {
			if l.JobID == id {
				found = l
			}
		}
		return found.JobID == id, "there is no letter of job " + id
	})
	return found
}

func (s *story) gone(a answer) {
	s.Helper()
	if a.Status != http.StatusNoContent || a.Body != "" {
		s.Error(a)
	}
}

// bulk is the answer to a deed on many dead letters.
type bulk struct {
	Items []struct {
		JobID string `json:"job_id"`
		OK    bool   `json:"ok"`
		Error string `json:"error"`
		New   string `json:"new_job_id"`
	} `json:"items"`
	More bool `json:"more"`
}

func (s *story) bulk(deed string, body any) (b bulk) {
	s.Helper()
	s.ok(s.post("/dlq/"+url.PathEscape(deed), body), &b)
	for _, i := range b.Items {
		if i.New != "" {
			s.mine(i.New)
		}
	}
	return b
}
