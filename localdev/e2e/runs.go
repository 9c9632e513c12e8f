package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// workflowRun is what cases look at of a run.
type workflowRun struct {
	ID         string         `json:"id"`
	WorkflowID string         `json:"workflow_id"`
	OrgID      string         `json:"org_id"`
	Status     string         `json:"status"`
	Input      map[string]any `json:"input"`
	Context    map[string]any `json:"context"`
	RerunOf    string         `json:"rerun_of"`
	Error      map[string]any `json:"error"`
	Steps      map[string]struct {
		Status   string         `json:"status"`
		JobID    string         `json:"job_id"`
		Attempts int            `json:"attempts"`
		Error    map[string]any `json:"error"`
	} `json:"steps"`
}

// flow saves a workflow that is gone when the case is over, and answers its id.
func (s *story) flow(steps map[string]any) string {
	s.Helper()
	id := s.fresh()
	if a := s.post("/workflows", map[string]any{"id": id, "steps": steps}); a.Status != http.StatusCreated {
		s.Fatal(a)
	}
	s.Cleanup(func() { _, _ = s.send(call{method: http.MethodDelete, path: "/api/v1/workflows/" + id}) }) // the case has its verdict
	return id
}

// starts begins a run, which is deleted when the case is over.
func (s *story) starts(workflow string, input any) string {
	s.Helper()
	var r struct {
		RunID string `json:"run_id"`
	}
	s.ok(s.post("/workflows/"+workflow+"/runs", input), &r)
	s.Cleanup(func() { _, _ = s.send(s.removal(r.RunID)) }) // likewise
	return r.RunID
}

func (*story) removal(run string) call {
	return call{method: http.MethodDelete, path: "/api/v1/workflow-runs/" + run}
}

// reaches waits until a run has a status.
func (s *story) reaches(run, status string) (r workflowRun) {
	s.Helper()
	s.eventually(2*s.patience(), func() (bool, string) {
		r = workflowRun{}
		s.ok(s.get("/workflow-runs/"+run), &r)
		return r.Status == status, fmt.Sprintf("run %s is %s: %+v", run, r.Status, r.Steps)
	})
	return r
}

// asked waits until the job of a gate stands: a run waits before it does, since its job comes by the outbox.
func (s *story) asked(gate string) {
	s.Helper()
	s.eventually(s.patience(), func() (bool, string) {
		a := s.get("/jobs/" + url.PathEscape(gate))
		if a.Status != http.StatusNotFound {
			s.ok(a, &job{})
		}
		return a.Status == http.StatusOK, "no job " + gate + " yet"
	})
}

// work is a step that Handler does, with an input that it understands.
func work(topic string, fields ...any) map[string]any {
	s := map[string]any{"topic": topic, "input": map[string]any{"prompt": "${input.prompt}", "context": map[string]any{"echo": "${input.echo}"}}}
	for i := 0; i+1 < len(fields); i += 2 {
		s[fields[i].(string)] = fields[i+1]
	}
	return s
}

var flowInput = map[string]any{"prompt": "step by step", "echo": "hello"}

// runCases are about runs of workflows, and about the schemas that their steps name.
var runCases = []testCase{
	{"a run goes through its steps and its gate to its end", needStream, func(s *story) {
		schema := s.fresh() + "/Outcome"
		s.gone(s.post("/schemas", map[string]any{"id": schema, "schema": map[string]any{"type": "object", "required": []string{"echo"}}}))
		s.Cleanup(func() { _, _ = s.send(call{method: http.MethodDelete, path: "/api/v1/schemas/" + schema}) }) // the case has its verdict
		flow := s.flow(map[string]any{
			"first": work(TopicWork, "output_schema_id", schema), "ok": map[string]any{"type": "approval", "depends_on": []string{"first"}},
			"each": work(TopicWork, "for_each", "input.of", "max_parallel", 2, "depends_on", []string{"ok"}),
			"wait": map[string]any{"type": "delay", "delay_sec": 1, "depends_on": []string{"each"}},
			"last": map[string]any{"type": "transform", "depends_on": []string{"wait"}, "input": map[string]any{"said": "${steps.first.output.echo}"}},
		})
		input := map[string]any{"prompt": "step by step", "echo": "hello", "of": []int{1, 2, 3}, "large": strings.Repeat("all of it ", 10_000)}
		run := s.starts(flow, input)
		r := s.reaches(run, "waiting")
		gate := r.Steps["ok"].JobID
		if r.OrgID != s.target.Tenant || gate != run+":ok@1" || r.Input["large"] != input["large"] {
			s.Errorf("run %.300v", r)
		}
		s.asked(gate)
		if a := s.post("/approvals/"+url.PathEscape(gate)+"/approve", nil); a.Status != http.StatusOK {
			s.Fatal(a)
		}
		r = s.reaches(run, "succeeded")
		steps, _ := r.Context["steps"].(map[string]any)
		last, _ := steps["last"].(map[string]any)
		if text := fmt.Sprint(last["output"]); text != "map[said:hello]" || len(r.Steps) != 8 {
			s.Errorf("left %s, %d steps", text, len(r.Steps))
		}
		var events []struct{ Type, Status string }
		if s.ok(s.get("/workflow-runs/"+run+"/timeline"), &events); len(events) < 10 || events[len(events)-1].Status != "succeeded" {
			s.Errorf("timeline %v", events)
		}
		if j := s.job(run + ":each[2]@1"); j.State != "SUCCEEDED" || j.Labels["run_id"] != run || j.TraceID != run {
			s.Errorf("job %+v", j)
		}
		var again struct {
			RunID string `json:"run_id"`
		}
		s.ok(s.post("/workflow-runs/"+run+"/rerun", map[string]any{"from_step": "each"}), &again)
		s.Cleanup(func() { _, _ = s.send(s.removal(again.RunID)) }) // likewise
		if r := s.reaches(again.RunID, "succeeded"); r.RerunOf != run || r.Steps["first"].JobID != run+":first@1" {
			s.Errorf("rerun %+v", r)
		}
		s.gone(s.call(s.removal(run)))
		s.refused(s.get("/workflow-runs/"+run), http.StatusNotFound, "not found")
	}},
	{"a cancelled run takes its jobs along", 0, func(s *story) {
		flow := s.flow(map[string]any{"a": work(TopicPlaced, "route_labels", s.here()), "g": map[string]any{"type": "approval"}})
		run := s.starts(flow, flowInput)
		s.reaches(run, "waiting")
		s.gone(s.post("/workflows/"+flow+"/runs/"+run+"/cancel", nil))
		for _, j := range []string{"a", "g"} {
			s.await(run+":"+j+"@1", "CANCELLED")
		}
		s.conflict(url.PathEscape(run+":g@1"), "approval_terminal_run")
		r := s.reaches(run, "cancelled")
		if r.Steps["a"].Status != "cancelled" {
			s.Errorf("run %+v", r)
		}
	}},
	{"a step that policy denies, an error that is handled, and a gate that is closed", 0, func(s *story) {
		flow := s.flow(map[string]any{
			"no": work(TopicDenied, "on_error", "mend"), "mend": map[string]any{"type": "notify", "input": map[string]any{"message": "mended"}},
			"g": map[string]any{"type": "approval", "depends_on": []string{"no"}},
		})
		run := s.starts(flow, flowInput)
		r := s.reaches(run, "waiting")
		if r.Steps["no"].Status != "denied" || r.Steps["mend"].Status != "succeeded" {
			s.Errorf("run %+v", r)
		}
		s.asked(r.Steps["g"].JobID)
		s.gone(s.post("/workflows/"+flow+"/runs/"+run+"/steps/g/approve", map[string]any{"approved": false}))
		s.reaches(run, "failed")
		var list struct {
			Items []workflowRun `json:"items"`
		}
		s.eventually(s.patience(), func() (bool, string) {
			s.ok(s.get("/workflow-runs?status=failed&workflow_id="+flow), &list)
			return slices.ContainsFunc(list.Items, func(r workflowRun) bool { return r.ID == run }), "it is not listed"
		})
		var of []workflowRun
		s.eventually(s.patience(), func() (bool, string) {
			s.ok(s.get("/workflows/"+flow+"/runs"), &of)
			return len(of) == 1 && of[0].ID == run, fmt.Sprintf("its workflow has %v", of)
		})
		var dry struct {
			Steps []struct {
				StepID   string `json:"step_id"`
				Decision string `json:"decision"`
			} `json:"steps"`
		}
		if s.ok(s.post("/workflows/"+flow+"/dry-run", map[string]any{"input": flowInput}), &dry); len(dry.Steps) != 2 || dry.Steps[0].Decision != "DENY" {
			s.Errorf("dry run %+v", dry)
		}
	}},
	{"a workflow within a workflow, and one that is a chat about", needStream, func(s *story) {
		inner := s.flow(map[string]any{"a": work(TopicWork)})
		outer := s.flow(map[string]any{"sub": map[string]any{"type": "subworkflow", "input": map[string]any{"workflow_id": inner, "input": flowInput}}})
		run := s.starts(outer, nil)
		r := s.reaches(run, "succeeded")
		child := r.Steps["sub"].JobID
		s.Cleanup(func() { _, _ = s.send(s.removal(child)) }) // the case has its verdict
		if c := s.reaches(child, "succeeded"); c.WorkflowID != inner {
			s.Errorf("child %+v", c)
		}
		if a := s.post("/workflow-runs/"+run+"/chat", map[string]any{"content": "well done"}); a.Status != http.StatusOK {
			s.Fatal(a)
		}
		var chat struct {
			Items []struct{ Content string }
		}
		if s.ok(s.get("/workflow-runs/"+run+"/chat"), &chat); len(chat.Items) != 1 || chat.Items[0].Content != "well done" {
			s.Errorf("chat %+v", chat)
		}
	}},
	{"a run is its tenant's", needOther, func(s *story) {
		run := s.starts(s.flow(map[string]any{"g": map[string]any{"type": "approval"}}), nil)
		s.reaches(run, "waiting")
		for _, c := range []call{
			{method: http.MethodGet, path: "/api/v1/workflow-runs/" + run}, {method: http.MethodGet, path: "/api/v1/workflow-runs/" + run + "/timeline"},
			s.removal(run), {method: http.MethodPost, path: "/api/v1/workflow-runs/" + run + "/rerun"},
		} {
			if a := s.call(s.other(c)); a.Status != http.StatusNotFound {
				s.Errorf("%s %s: %v", c.method, c.path, a)
			}
		}
	}},
	{"schemas are registered, listed and deleted", 0, func(s *story) {
		id := s.fresh() + "/Input"
		s.gone(s.post("/schemas", map[string]any{"id": id, "schema": map[string]any{"type": "object"}}))
		for _, path := range []string{"/schemas/" + id, "/schemas/" + url.PathEscape(id)} {
			var got struct {
				ID     string          `json:"id"`
				Schema json.RawMessage `json:"schema"`
			}
			if s.ok(s.get(path), &got); got.ID != id || string(got.Schema) != `{"type":"object"}` {
				s.Errorf("%+v", got)
			}
		}
		s.eventually(s.patience(), func() (bool, string) {
			var all struct {
				Schemas []string `json:"schemas"`
			}
			s.ok(s.get("/schemas?limit=500"), &all)
			return slices.Contains(all.Schemas, id), "it is not listed"
		})
		remove := call{method: http.MethodDelete, path: "/api/v1/schemas/" + id}
		s.gone(s.call(remove))
		s.gone(s.call(remove))
		s.refused(s.get("/schemas/"+id), http.StatusNotFound, "schema not found")
	}},
}
