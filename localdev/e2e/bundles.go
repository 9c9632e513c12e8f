package e2e

import (
	"fmt"
	"net/http"
	"strings"
)

// bundleCases are about policy bundles. Whoever else uses the plane meanwhile is judged by them too: what they say is about topics that nobody else has.
var bundleCases = []testCase{
	{"a bundle is a draft, then in force, then gone", 0, func(s *story) {
		name := s.fresh()
		path, topic := "/policy/bundles/secops~"+name, "job.bundled."+name
		content := func(reason string) string {
			return fmt.Sprintf("rules: [{id: %s, match: {topics: [%s]}, decision: deny, reason: %s}]", name, topic, reason)
		}
		put := func(reason string) {
			s.Helper()
			var said struct{ ID string }
			body := s.text(map[string]any{"content": content(reason), "author": "e2e"})
			if s.ok(s.call(call{method: http.MethodPut, path: "/api/v1" + path, body: body}), &said); said.ID != "secops/"+name {
				s.Errorf("put: %+v", said)
			}
		}
		reason := func(want string) {
			s.Helper()
			if rc := s.submit("topic", topic); rc.Status != "denied" || rc.Reason != want {
				s.Errorf("a job is %q: %q, want %q", rc.Status, rc.Reason, want)
			}
			var v struct{ Decision, Reason string }
			if s.ok(s.post("/policy/evaluate", map[string]string{"topic": topic}), &v); v.Decision != "DECISION_TYPE_DENY" || v.Reason != want {
				s.Errorf("evaluate: %+v, want %q", v, want)
			}
		}
		simulated := func(body map[string]any, want string) {
			s.Helper()
			var v struct{ Reason, PolicySnapshot string }
			body["request"] = map[string]string{"topic": topic}
			if s.ok(s.post(path+"/simulate", body), &v); v.Reason != want || v.PolicySnapshot == "" {
				s.Errorf("simulated: %+v, want %q", v, want)
			}
		}
		const unmatched = "no matching rule"
		put("first")
		s.Cleanup(func() { _, _ = s.send(call{method: http.MethodDelete, path: "/api/v1" + path}) }) // the case has its verdict
		reason(unmatched)
		simulated(map[string]any{}, "first")
		simulated(map[string]any{"content": content("other")}, "other")
		all := s.watch("/stream", s.admin())
		var c struct {
			Before    string   `json:"snapshot_before"`
			After     string   `json:"snapshot_after"`
			Published []string `json:"published"`
		}
		s.ok(s.post("/policy/publish", map[string]any{"bundle_ids": []string{"secops/" + name}, "message": name}), &c)
		if len(c.Published) != 1 || c.Before == "" || c.After == "" {
			s.Errorf("publish: %+v", c)
		}
		all.hearsOf("system/policy")
		reason("first")
		var rules struct {
			Items []struct{ ID, Reason string } `json:"items"`
		}
		if s.ok(s.get("/policy/rules"), &rules); !strings.Contains(fmt.Sprint(rules.Items), "{"+name+" first}") {
			s.Errorf("rules: %+v", rules)
		}
		put("second")
		reason("first")

		// What others publish between these two would be undone: there is next to nothing between.
		var kept struct{ ID string }
		s.ok(s.post("/policy/bundles/snapshots", map[string]string{"note": name}), &kept)
		s.ok(s.post("/policy/rollback", map[string]string{"snapshot_id": kept.ID, "message": name}), &c)
		reason("first")
		s.ok(s.get("/policy/bundles/snapshots/"+kept.ID), &kept)
		var audit struct {
			Items []struct{ Action, Message string }
		}
		s.ok(s.get("/policy/audit"), &audit)
		for _, action := range []string{"publish", "rollback"} {
			if !strings.Contains(fmt.Sprint(audit.Items), "{"+action+" "+name+"}") {
				s.Errorf("no %s in the audit trail: %+v", action, audit.Items)
			}
		}
		s.gone(s.call(call{method: http.MethodDelete, path: "/api/v1" + path}))
		reason(unmatched)
		s.refused(s.get(path), http.StatusNotFound, "bundle not found")
	}},
}
