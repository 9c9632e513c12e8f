package e2e

import (
	"net/http"
	"slices"
	"strings"
)

// definition is what cases look at of a workflow.
type definition struct {
	ID        string                    `json:"id"`
	OrgID     string                    `json:"org_id"`
	Name      string                    `json:"name"`
	Steps     map[string]map[string]any `json:"steps"`
	CreatedAt string                    `json:"created_at"`
	UpdatedAt string                    `json:"updated_at"`
}

// workflowCases are about definitions of workflows.
var workflowCases = []testCase{
	{"a workflow is saved, saved again, listed and deleted", 0, func(s *story) {
		id := s.fresh()
		path := "/workflows/" + id
		save := func(body map[string]any) {
			s.Helper()
			body["id"] = id
			if a := s.post("/workflows", body); a.Status != http.StatusCreated || a.Body != `{"id":"`+id+`"}` {
				s.Fatal(a)
			}
		}
		remove := call{method: http.MethodDelete, path: "/api/v1" + path}
		s.Cleanup(func() { _, _ = s.send(remove) }) // the case has its verdict
		read := func() (w definition) {
			s.Helper()
			s.ok(s.get(path), &w)
			return w
		}
		long := strings.Repeat("all of it ", 10_000) // more than an item holds
		save(map[string]any{"name": "End to end", "steps": map[string]any{
			"load": map[string]any{"topic": TopicWork}, "tell": map[string]any{"type": "notify", "depends_on": []string{"load"}, "input": map[string]any{"message": long}},
		}})
		first := read()
		message, _ := first.Steps["tell"]["input"].(map[string]any)
		if first.ID != id || first.OrgID != s.target.Tenant || len(first.Steps) != 2 || message["message"] != long {
			s.Errorf("saved: %.300v", first)
		}
		save(map[string]any{"steps": map[string]any{"load": map[string]any{"topic": TopicWork}}})
		if w := read(); w.Name != "End to end" || len(w.Steps) != 1 || w.CreatedAt != first.CreatedAt || w.UpdatedAt == first.UpdatedAt {
			s.Errorf("saved again: %+v", w)
		}
		listed := func() bool {
			var all []definition
			s.ok(s.get("/workflows"), &all)
			return slices.ContainsFunc(all, func(w definition) bool { return w.ID == id })
		}
		s.eventually(s.patience(), func() (bool, string) { return listed(), "it is not listed" })
		s.gone(s.call(remove))
		s.refused(s.get(path), http.StatusNotFound, "not found")
		s.refused(s.call(remove), http.StatusNotFound, "not found")
		s.eventually(s.patience(), func() (bool, string) { return !listed(), "it is still listed" })
	}},
	{"a workflow that could not run is not saved", 0, func(s *story) {
		id := s.fresh()
		s.refused(s.post("/workflows", map[string]any{"id": id, "timeout_sec": -1, "steps": map[string]any{
			"a": map[string]any{"depends_on": []string{"b"}}, "b": map[string]any{"depends_on": []string{"a", "c"}},
		}}), http.StatusBadRequest, `invalid workflow: timeout_sec: -1 must be from 0 to 604800; step "a": depends_on: the step waits for itself: a → b → a; `+
			`step "b": depends_on: there is no step "c"`)
		s.refused(s.get("/workflows/"+id), http.StatusNotFound, "not found")
	}},
	{"a workflow is its tenant's", needOther, func(s *story) {
		id := s.fresh()
		path := "/api/v1/workflows/" + id
		mine := call{method: http.MethodDelete, path: path}
		s.Cleanup(func() { _, _ = s.send(mine); _, _ = s.send(s.other(mine)) }) // the case has its verdict
		for _, c := range []call{{}, s.other(call{})} {
			c.method, c.path, c.body = http.MethodPost, "/api/v1/workflows", s.text(map[string]any{"id": id, "name": c.tenant})
			if a := s.call(c); a.Status != http.StatusCreated {
				s.Fatal(a)
			}
		}
		s.gone(s.call(mine))
		var w definition
		if s.ok(s.call(s.other(call{method: http.MethodGet, path: path})), &w); w.Name != s.target.OtherTenant {
			s.Errorf("the other tenant's is %+v", w)
		}
		s.refused(s.post("/workflows", map[string]any{"id": id, "org_id": s.target.OtherTenant}), http.StatusForbidden, "tenant access denied")
	}},
}
