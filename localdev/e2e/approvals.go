package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// approvalCases are about jobs that a human lets run, or does not, and about what is suggested instead of a denied one.
var approvalCases = []testCase{
	{"an approved job runs", needStream, func(s *story) {
		s.hire(s.here(), Handler)
		for _, pairs := range [][]any{
			{"topic", TopicChecked}, {"topic", TopicAsked, "labels", s.here()}, // to the queue of a pool, and to one worker
		} {
			rc := s.submit(pairs...)
			s.listed(rc.JobID, "pending", "")
			s.resolves(rc, "approve", map[string]string{"reason": "looks right", "note": "twice"})
			j := s.await(rc.JobID, "SUCCEEDED")
			if j.Attempts != 1 || j.Decision != "ALLOW" || j.Reason != "approval granted" || j.Rule != "e2e-asked" || j.ApprovalRole != "admin" || j.ApprovalBy == "" ||
				j.Approval != "approved" || j.Labels["approval_granted"] != "true" || j.Labels["approval_reason"] != "looks right" ||
				!strings.HasPrefix(j.Labels["cordum.bus_msg_id"], "approval:") {
				s.Errorf("job %+v", j)
			}
			s.listed(rc.JobID, "approved", "include_resolved=true")
			s.conflict(rc.JobID, "approval_already_resolved")
		}
	}},
	{"a rejected job is denied, and lies in the dead letters", 0, func(s *story) {
		rc := s.submit("topic", TopicAsked)
		s.resolves(rc, "reject", map[string]string{"reason": "not today"})
		j := s.job(rc.JobID)
		s.ended(rc.JobID)
		if j.State != "DENIED" || j.ErrorCode != "approval_rejected" || j.ErrorMessage != "not today" || j.Approval != "rejected" {
			s.Errorf("job %+v", j)
		}
		if l := s.letter(rc.JobID, "reason_code=approval_rejected&topic="+TopicAsked); l.Reason != "not today" || l.Status != "JOB_STATUS_DENIED" {
			s.Errorf("letter %+v", l)
		}
		s.listed(rc.JobID, "rejected", "include_resolved=true")
		s.conflict(rc.JobID, "approval_already_resolved")
	}},
	{"of many who resolve a job one wins", 0, func(s *story) {
		rc := s.submit("topic", TopicAsked, "labels", s.here())
		var won []string
		for i, a := range crowd(12, func(i int) answer {
			a, err := s.send(call{method: http.MethodPost, path: "/api/v1/approvals/" + rc.JobID + "/" + []string{"approve", "reject"}[i%2]})
			if err != nil {
				s.Errorf("resolution %d: %v", i, err)
			}
			return a
		}) {
			switch a.Status {
			case http.StatusOK:
				won = append(won, []string{"approved", "rejected"}[i%2])
			case http.StatusConflict:
			default:
				s.Errorf("resolution %d: %s", i, a)
			}
		}
		if j := s.job(rc.JobID); !slices.Equal(won, []string{j.Approval}) {
			s.Errorf("%q won: %+v", won, j)
		}
	}},
	{"what does not wait cannot be approved", 0, func(s *story) {
		s.refused(s.post("/approvals/"+s.fresh()+"/approve", nil), http.StatusNotFound, "job not found")
		s.refused(s.post("/approvals/"+s.fresh()+"/reject", nil), http.StatusNotFound, "job not found")
		rc := s.submit("topic", TopicPlaced, "labels", s.here())
		s.refused(s.post("/approvals/"+rc.JobID+"/approve", "{"), http.StatusBadRequest, "invalid body")
		s.conflict(rc.JobID, "approval_not_actionable")
	}},
	{"a denied job is remediated", needStream, func(s *story) {
		id, _ := s.hire(s.here(), Handler)
		large := strings.Repeat("z", 60<<10)
		denied := s.submit("topic", TopicDenied, "labels", s.here(), "context", Task{Echo: large})
		rc := s.receipt(s.post("/jobs/"+denied.JobID+"/remediate", nil))
		if rc.TraceID != denied.TraceID || rc.Status != "scheduled" {
			s.Errorf("receipt %+v", rc)
		}
		j := s.await(rc.JobID, "SUCCEEDED")
		if o := s.outcome(j); o.Echo != large || j.WorkerID != id || j.ParentJobID != denied.JobID || j.Topic != TopicPlaced || j.Capability != "e2e.place" ||
			j.Labels["remediation_of"] != denied.JobID || j.Labels["remediation_id"] != "placed" {
			s.Errorf("job %s of %s, labels %v, %d bytes of echo", j.ID, j.ParentJobID, j.Labels, len(o.Echo))
		}
		if first := s.job(denied.JobID); !slices.Equal(first.Remediations, []string{rc.JobID}) || first.State != "DENIED" {
			s.Errorf("the first job %+v", first)
		}
		s.refused(s.post("/jobs/"+denied.JobID+"/remediate", map[string]string{"remediation_id": "x"}), http.StatusNotFound, "remediation not found")
		s.refused(s.post("/jobs/"+rc.JobID+"/remediate", nil), http.StatusConflict, "no remediations available")
	}},
}

// resolves approves or rejects a job.
func (s *story) resolves(rc receipt, how string, said map[string]string) {
	s.Helper()
	var got struct {
		JobID   string `json:"job_id"`
		TraceID string `json:"trace_id"`
	}
	s.ok(s.post("/approvals/"+url.PathEscape(rc.JobID)+"/"+how, said), &got)
	if got.JobID != rc.JobID || got.TraceID != rc.TraceID {
		s.Errorf("%s answers %+v", how, got)
	}
}

// conflict expects that a job can be neither approved nor rejected.
func (s *story) conflict(id, code string) {
	s.Helper()
	for _, how := range []string{"approve", "reject"} {
		var body struct {
			Code      string `json:"code"`
			Retryable *bool  `json:"retryable"`
		}
		a := s.post("/approvals/"+url.PathEscape(id)+"/"+how, nil)
		s.refused(a, http.StatusConflict, "job not awaiting approval")
		if err := json.Unmarshal([]byte(a.Body), &body); err != nil || body.Code != code || body.Retryable == nil || *body.Retryable {
			s.Errorf("%s, want code %s", a, code)
		}
	}
}

// listed waits until the list of approvals shows a job with a status: an index may lag.
func (s *story) listed(id, status, query string) {
	s.Helper()
	s.eventually(s.patience(), func() (bool, string) {
		for cursor := ""; ; {
			var page struct {
				Items []struct {
					JobID  string `json:"job_id"`
					Status string `json:"approval_status"`
				} `json:"items"`
				Next *int64 `json:"next_cursor"`
			}
			s.ok(s.get("/approvals?limit=500&"+query+cursor), &page)
			for _, i := range page.Items {
				if i.JobID == id && i.Status == status {
					return true, ""
				}
			}
			if page.Next == nil {
				return false, fmt.Sprintf("no approval of job %s is %s", id, status)
			}
			cursor = fmt.Sprint("&cursor=", *page.Next)
		}
	})
}
