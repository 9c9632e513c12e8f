package e2e

import (
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
)

// tenantCases are about what one tenant can do with what another has: the same as with what does not exist.
var tenantCases = []testCase{
	{"another tenant's job answers as one that does not exist", needOther, func(s *story) {
		waiting, denied := s.submit("topic", TopicAsked), s.submit("topic", TopicDenied)
		s.letter(denied.JobID, "reason_code=safety_denied&topic="+TopicDenied)
		unknown := strings.NewReplacer(waiting.JobID, s.fresh(), denied.JobID, s.fresh(), waiting.TraceID, s.fresh())
		for route, status := range map[string]int{
			"GET /jobs/" + waiting.JobID: 404, "POST /jobs/" + waiting.JobID + "/cancel": 404,
			"GET /jobs/" + denied.JobID + "/decisions": 200, "GET /traces/" + waiting.TraceID: 200, "GET /jobs?trace_id=" + waiting.TraceID: 200,
			"GET /jobs?team=" + s.tag: 200, "GET /memory?key=ctx:" + waiting.JobID: 404, "GET /memory?key=res:" + denied.JobID: 404,
			"POST /dlq/" + denied.JobID + "/retry": 404, "DELETE /dlq/" + denied.JobID: 204,
		} {
			method, path, _ := strings.Cut(route, " ")
			foreign := s.call(s.other(call{method: method, path: "/api/v1" + path}))
			none := s.call(s.other(call{method: method, path: "/api/v1" + unknown.Replace(path)}))
			if foreign.Status != status || foreign.Status != none.Status || foreign.Body != none.Body {
				s.Errorf("%s: %s, and %s for what does not exist", route, foreign, none)
			}
		}
		s.turnedAway("/jobs/"+waiting.JobID+"/stream", http.Header{"X-Api-Key": {s.target.OtherKey}, "X-Tenant-Id": {s.target.OtherTenant}},
			http.StatusNotFound, "job not found")
		child := s.call(s.other(call{method: http.MethodPost, path: "/api/v1/jobs", body: s.text(s.body("topic", TopicAsked, "parent_job_id", waiting.JobID))}))
		s.refused(child, http.StatusNotFound, "parent job not found")
		if j := s.job(waiting.JobID); j.State != "APPROVAL_REQUIRED" || j.Tenant != s.target.Tenant {
			s.Errorf("the job changed: %+v", j)
		}
		s.letter(denied.JobID, "reason_code=safety_denied&topic="+TopicDenied) // it is still there
	}},
	{"many dead letters at once are one's own", needOther, func(s *story) {
		denied := s.submit("topic", TopicDenied)
		s.letter(denied.JobID, "reason_code=safety_denied&topic="+TopicDenied)
		for _, deed := range []string{"retry", "delete"} {
			a := s.call(s.other(call{method: http.MethodPost, path: "/api/v1/dlq/" + deed, body: s.text(map[string]any{"job_ids": []string{denied.JobID}})}))
			if a.Status != http.StatusOK {
				s.Errorf("%s: %s", deed, a)
			}
		}
		s.letter(denied.JobID, "reason_code=safety_denied&topic="+TopicDenied)
	}},
	{"a worker gets no job of another tenant", needStream | needOther, func(s *story) {
		id := s.theirs(TopicWork)
		time.Sleep(3 * time.Second)
		var j job
		s.ok(s.call(s.other(call{method: http.MethodGet, path: "/api/v1/jobs/" + id})), &j)
		if j.State == "SUCCEEDED" && s.outcome(j).Tenant == s.target.OtherTenant {
			s.Log("the worker's key serves every tenant")
			return
		}
		if j.State != "SCHEDULED" || j.Attempts != 0 || j.WorkerID != "" {
			s.Errorf("job %+v", j)
		}
	}},
	{"two tenants may use one idempotency key", needOther, func(s *story) {
		key := s.fresh()
		mine := s.submit("topic", TopicDenied, "idempotency_key", key)
		if theirs := s.theirs(TopicDenied, "idempotency_key", key); theirs == mine.JobID {
			s.Error("they share a job")
		}
	}},
	{"CordumApi tells one tenant nothing of another", needGRPC | needOther, func(s *story) {
		id := s.submit("topic", TopicAsked).JobID
		ctx := metadata.AppendToOutgoingContext(s.Context(), "x-api-key", s.target.OtherKey)
		st, err := cordumv1.NewCordumApiClient(s.dial()).GetJobStatus(ctx, &cordumv1.GetJobStatusRequest{JobId: id})
		if err != nil || st.GetStatus() != "UNKNOWN" || st.GetResultPtr() != "" {
			s.Errorf("%v, %v", st, err)
		}
	}},
}

// theirs submits a job as the second tenant, and tidies up after it.
func (s *story) theirs(topic string, pairs ...any) (id string) {
	s.Helper()
	var rc receipt
	body := s.text(s.body(append([]any{"topic", topic}, pairs...)...))
	s.ok(s.call(s.other(call{method: http.MethodPost, path: "/api/v1/jobs", body: body})), &rc)
	s.Cleanup(func() {
		_, _ = s.send(s.other(call{method: http.MethodPost, path: "/api/v1/jobs/" + rc.JobID + "/cancel"})) // the case has its verdict
		_, _ = s.send(s.other(call{method: http.MethodDelete, path: "/api/v1/dlq/" + rc.JobID}))            // likewise
	})
	return rc.JobID
}
