package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
)

// jobCases are about jobs that no worker touches: submits, decisions, lists, cancels.
var jobCases = []testCase{
	{"a denied job has a decision, and lies in the dead letters", 0, func(s *story) {
		rc := s.submit("topic", TopicDenied, "labels", map[string]string{"floor": "3"})
		if rc.Status != "denied" || rc.Reason != "nothing may be deleted end to end" {
			s.Errorf("receipt %+v", rc)
		}
		j := s.job(rc.JobID)
		if j.State != "DENIED" || j.Decision != "DENY" || j.Rule != "e2e-denied" || j.Attempts != 0 || j.ErrorCode != "safety_denied" ||
			j.ErrorStatus != "JOB_STATUS_DENIED" || j.Labels["floor"] != "3" {
			s.Errorf("job %+v", j)
		}
		var decisions []struct {
			Decision string `json:"decision"`
			Rule     string `json:"rule_id"`
			Snapshot string `json:"policy_snapshot"`
			At       int64  `json:"checked_at"`
		}
		s.ok(s.get("/jobs/"+rc.JobID+"/decisions"), &decisions)
		if len(decisions) != 1 || decisions[0].Decision != "DENY" || decisions[0].Rule != "e2e-denied" || decisions[0].Snapshot == "" ||
			time.Since(time.UnixMicro(decisions[0].At)).Abs() > time.Minute {
			s.Errorf("decisions %+v", decisions)
		}
		if l := s.letter(rc.JobID, "reason_code=safety_denied&topic="+TopicDenied); l.Status != "JOB_STATUS_DENIED" || l.Reason != rc.Reason || l.LastState != "DENIED" {
			s.Errorf("letter %+v", l)
		}
	}},
	{"a job that nobody may decide but a human waits for one", 0, func(s *story) {
		rc := s.submit("topic", TopicAsked)
		if j := s.job(rc.JobID); rc.Status != "approval_required" || j.State != "APPROVAL_REQUIRED" || !j.NeedsHuman || j.Rule != "e2e-asked" {
			s.Errorf("receipt %+v, job %+v", rc, j)
		}
	}},
	{"a job that is throttled is decided again", 0, func(s *story) {
		rc := s.submit("topic", TopicSlow)
		if j := s.job(rc.JobID); rc.Status != "pending" || j.State != "PENDING" || j.Decision != "THROTTLE" || j.Rule != "e2e-slow" {
			s.Errorf("receipt %+v, job %+v", rc, j)
		}
		s.eventually(s.patience(), func() (bool, string) {
			var decisions []struct {
				Decision string `json:"decision"`
			}
			s.ok(s.get("/jobs/"+rc.JobID+"/decisions"), &decisions)
			return len(decisions) > 1 && decisions[0].Decision == "THROTTLE", fmt.Sprintf("decisions %+v", decisions)
		})
	}},
	{"a job that no pool takes fails at once", 0, func(s *story) {
		for _, pairs := range [][]any{{"topic", TopicUnrouted}, {"topic", TopicWork, "labels", map[string]string{"preferred_pool": "nowhere"}}} {
			rc := s.submit(pairs...)
			j := s.job(rc.JobID)
			if rc.Status != "failed" || !strings.HasPrefix(rc.Reason, "no_pool_mapping") || j.State != "FAILED" || j.ErrorCode != "no_pool_mapping" || j.Decision != "ALLOW" {
				s.Errorf("receipt %+v, job %+v", rc, j)
			}
		}
	}},
	{"the same submit twice is one job", 0, func(s *story) {
		key := s.fresh()
		first := s.submit("topic", TopicPlaced, "labels", s.here(), "idempotency_key", key)
		again := s.submit("topic", TopicDenied, "prompt", "something else", "idempotency_key", key)
		header := s.receipt(s.call(call{
			method: http.MethodPost, path: "/api/v1/jobs", body: s.text(s.body()), header: http.Header{"Idempotency-Key": {key}},
		}))
		if again != first || header != first {
			s.Errorf("first %+v, again %+v, by header %+v", first, again, header)
		}
		s.lists("team="+s.tag, first.JobID)
	}},
	{"twenty submits at once with one key are one job", 0, func(s *story) {
		key := s.fresh()
		ids := map[string]bool{}
		for i, a := range crowd(20, func(i int) answer {
			text := s.text(s.body("topic", TopicPlaced, "labels", s.here(), "prompt", fmt.Sprint("number ", i), "idempotency_key", key))
			a, err := s.send(call{method: http.MethodPost, path: "/api/v1/jobs", body: text})
			if err != nil {
				s.Errorf("submit %d: %v", i, err)
			}
			return a
		}) {
			if a.Status != http.StatusOK {
				s.Fatalf("submit %d: %s", i, a)
			}
			ids[s.receipt(a).JobID] = true
		}
		if len(ids) != 1 {
			s.Errorf("%d jobs", len(ids))
		}
		for id := range ids {
			s.lists("team="+s.tag, id)
		}
	}},
	{"lists are filtered and paged", 0, func(s *story) {
		var denied, waiting []string
		var traces []string
		for i := range 7 {
			rc := s.submit("topic", TopicDenied)
			denied, traces = append(denied, rc.JobID), append(traces, rc.TraceID)
			if i%2 == 0 {
				waiting = append(waiting, s.submit("topic", TopicPlaced, "labels", s.here()).JobID)
			}
		}
		all := slices.Concat(denied, waiting)
		team := "team=" + s.tag
		for query, want := range map[string][]string{
			team: all, team + "&limit=3": all, team + "&limit=1&state=denied": denied, team + "&topic=" + TopicPlaced + "&limit=2": waiting,
			team + "&state=SCHEDULED&topic=" + TopicPlaced: waiting, team + "&state=SUCCEEDED": nil, team + "&state=weird": nil,
			"trace_id=" + traces[3]: {denied[3]}, team + "&limit=abc&cursor=abc": all,
		} {
			s.lists(query, want...)
		}
		rows := s.list(team + "&limit=3")
		if !slices.IsSortedFunc(rows, func(a, b job) int { return int(b.UpdatedAt - a.UpdatedAt) }) {
			s.Error("the list is not newest first")
		}
		s.lists(fmt.Sprintf("%s&updated_after=%d", team, rows[2].UpdatedAt), rows[0].ID, rows[1].ID, rows[2].ID)
		s.lists(fmt.Sprintf("%s&updated_before=%d", team, rows[len(rows)-1].UpdatedAt), rows[len(rows)-1].ID)
	}},
	{"a trace holds a job and its children", 0, func(s *story) {
		parent := s.submit("topic", TopicAsked)
		child := s.submit("topic", TopicDenied, "parent_job_id", parent.JobID)
		s.eventually(s.patience(), func() (bool, string) {
			var rows []struct {
				JobID   string    `json:"job_id"`
				State   string    `json:"state"`
				Parent  string    `json:"parent_job_id"`
				Created time.Time `json:"created_at"`
			}
			a := s.get("/traces/" + parent.TraceID)
			s.ok(a, &rows)
			return len(rows) == 2 && rows[0].JobID == parent.JobID && rows[1].JobID == child.JobID && rows[1].Parent == parent.JobID &&
				rows[1].State == "DENIED" && !rows[0].Created.IsZero(), "the trace is " + a.Body
		})
	}},
	{"a job that waits can be cancelled", 0, func(s *story) {
		for _, pairs := range [][]any{{"topic", TopicPlaced, "labels", s.here()}, {"topic", TopicAsked}} {
			rc := s.submit(pairs...)
			for range 2 { // the second changes nothing
				s.cancels(rc.JobID)
			}
			if j := s.job(rc.JobID); j.State != "CANCELLED" || j.Attempts != 0 {
				s.Errorf("job %+v", j)
			}
		}
		denied := s.submit("topic", TopicDenied)
		var a struct{ State, Reason string }
		s.ok(s.post("/jobs/"+denied.JobID+"/cancel", nil), &a)
		if a.State != "DENIED" || a.Reason != "job already terminal" {
			s.Errorf("the cancel of a denied job answers %+v", a)
		}
		s.refused(s.post("/jobs/"+s.fresh()+"/cancel", nil), http.StatusNotFound, "job not found")
	}},
	{"a deadline ends a job that waits", 0, func(s *story) {
		rc := s.submit("topic", TopicPlaced, "labels", s.here(), "deadline_ms", 1000)
		if j := s.await(rc.JobID, "TIMEOUT"); j.ErrorCode != "deadline_exceeded" || j.ErrorStatus != "JOB_STATUS_TIMEOUT" || j.Attempts != 0 {
			s.Errorf("job %+v", j)
		}
	}},
	{"a context comes back byte for byte, whatever its size", 0, func(s *story) {
		odd := `{"n":12345678901234567890,"f":1.0,"s":"<é>","z":1,"a":[null]}`
		for _, text := range []string{odd, `"` + strings.Repeat("y", 100<<10) + `"`} {
			rc := s.receipt(s.post("/jobs", `{"topic":"`+TopicAsked+`","prompt":"p","context":`+text+`}`))
			if a := s.get("/jobs/" + rc.JobID); !strings.Contains(a.Body, text) {
				s.Errorf("%d bytes of context are not in the job", len(text))
			}
			if m := s.memory("ptr=redis://ctx:" + rc.JobID); m.Kind != "context" || !strings.Contains(m.Text, text) {
				s.Errorf("%d bytes of context are not behind the pointer: %s", len(text), m.Kind)
			}
		}
	}},
	{"memory pointers are checked", 0, func(s *story) {
		for query, want := range map[string]string{
			"": "missing ptr or key", "ptr=invalid": "invalid pointer", "key=art:x": "unsupported pointer key (only ctx:*, res:*, or mem:*)",
		} {
			s.refused(s.get("/memory?"+query), http.StatusBadRequest, want)
		}
		s.refused(s.get("/memory?key=res:"+s.fresh()), http.StatusNotFound, "not found")
	}},
	{"CordumApi submits a job and tells its status", needGRPC, func(s *story) {
		api := cordumv1.NewCordumApiClient(s.dial())
		as := func(key string) context.Context {
			return metadata.AppendToOutgoingContext(s.Context(), "x-api-key", key)
		}
		key := s.fresh()
		submit := func(ctx context.Context, topic string) (*cordumv1.SubmitJobResponse, error) {
			return api.SubmitJob(ctx, &cordumv1.SubmitJobRequest{Prompt: "p", Topic: topic, IdempotencyKey: key, TeamId: s.tag, Labels: s.here()})
		}
		res, err := submit(as(s.target.AdminKey), TopicPlaced)
		if err != nil {
			s.Fatal(err)
		}
		id := s.mine(res.GetJobId())
		if again, err := submit(as(s.target.AdminKey), TopicPlaced); err != nil || again.GetJobId() != id || again.GetTraceId() != res.GetTraceId() {
			s.Errorf("submitted again: %v, %v", again, err)
		}
		for ask, want := range map[string]string{id: "SCHEDULED", s.fresh(): "UNKNOWN", "": "UNKNOWN"} {
			st, err := api.GetJobStatus(as(s.target.AdminKey), &cordumv1.GetJobStatusRequest{JobId: ask})
			if err != nil || st.GetStatus() != want {
				s.Errorf("status of %q: %v, %v", ask, st, err)
			}
		}
		if _, err := submit(as(s.target.AdminKey), "sys.x"); status.Code(err) != codes.InvalidArgument {
			s.Errorf("a topic of the system: %v", err)
		}
		if _, err := submit(as("no-such-key-"+s.tag), TopicPlaced); status.Code(err) != codes.Unauthenticated {
			s.Errorf("a bad key: %v", err)
		}
	}},
	{"CordumApi follows a job to its end", needStream, func(s *story) {
		api := cordumv1.NewCordumApiClient(s.dial())
		ctx := metadata.AppendToOutgoingContext(s.Context(), "x-api-key", s.target.AdminKey)
		s.hire(s.here(), Handler)
		time.Sleep(seenAfter)
		for topic, prompt := range map[string]string{TopicWork: strings.Repeat("hello ", 10_000), TopicPlaced: "hello"} {
			req := &cordumv1.SubmitJobRequest{Prompt: prompt, Topic: topic, TeamId: s.tag}
			if topic == TopicPlaced {
				req.Labels = s.here()
			}
			res, err := api.SubmitJob(ctx, req)
			if err != nil {
				s.Fatal(err)
			}
			j := s.await(s.mine(res.GetJobId()), "SUCCEEDED")
			st, err := api.GetJobStatus(ctx, &cordumv1.GetJobStatusRequest{JobId: j.ID})
			if err != nil || st.GetStatus() != "SUCCEEDED" || st.GetResultPtr() != "redis://res:"+j.ID || s.outcome(j).Prompt != prompt {
				s.Errorf("%v, %v; job %s", st, err, j.ID)
			}
		}
	}},
}

// list follows the cursors to the end.
func (s *story) list(query string) (all []job) {
	s.Helper()
	for cursor := ""; ; {
		var page struct {
			Items []job  `json:"items"`
			Next  *int64 `json:"next_cursor"` // a number, as clients want it
		}
		s.ok(s.get("/jobs?"+query+cursor), &page)
		if page.Items == nil || len(all) > 1000 {
			s.Fatalf("%s: items is null, or the list does not end", query)
		}
		all = append(all, page.Items...)
		if page.Next == nil {
			return all
		}
		cursor = fmt.Sprint("&cursor=", *page.Next)
	}
}

// lists waits until a list holds these jobs and no others, each once: an index may lag.
func (s *story) lists(query string, want ...string) {
	s.Helper()
	want = slices.Sorted(slices.Values(want))
	s.eventually(s.patience(), func() (bool, string) {
		var got []string
		for _, j := range s.list(query) {
			got = append(got, j.ID)
		}
		slices.Sort(got)
		return slices.Equal(got, want), fmt.Sprintf("%s lists %d jobs, not %d: %v", query, len(got), len(want), got)
	})
}

func (s *story) cancels(id string) {
	s.Helper()
	var a struct{ ID, State, Reason string }
	s.ok(s.post("/jobs/"+id+"/cancel", nil), &a)
	if a.ID != id || a.State != "CANCELLED" || a.Reason != "" {
		s.Errorf("the cancel answers %+v", a)
	}
	s.ended(id)
}

// memory is what a pointer leads to.
type memory struct {
	Pointer string `json:"pointer"`
	Kind    string `json:"kind"`
	Size    int    `json:"size_bytes"`
	Text    string `json:"text"`
}

func (s *story) memory(query string) (m memory) {
	s.Helper()
	s.ok(s.get("/memory?"+query), &m)
	return m
}
