package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// document is what cases look at of a document of the configuration.
type document struct {
	Scope    string                     `json:"scope"`
	ScopeID  string                     `json:"scope_id"`
	Data     map[string]json.RawMessage `json:"data"`
	Revision int64                      `json:"revision"`
}

// hearsOf waits for the word that a document has changed. Of the system's only operators of the default tenant hear.
func (w *watcher) hearsOf(document string) {
	w.s.Helper()
	if strings.HasPrefix(document, "system/") && w.s.target.Tenant != "default" {
		return
	}
	if f := w.tells(document, "alert"); f.Message != "config changed" {
		w.s.Errorf("the alert: %+v", f)
	}
}

// configCases are about configuration. What they write of the documents that all use is their own, and they take it back.
var configCases = []testCase{
	{"a document is merged, is an object when it is large, and is effective", 0, func(s *story) {
		team := s.fresh()
		all := s.watch("/stream", s.admin())
		s.set("team", team, map[string]any{"slo": 1, "long": strings.Repeat("all of it ", 10_000)})
		all.hearsOf("team/" + team)
		s.set("team", team, map[string]any{"slo": 2})
		d := s.document("team", team)
		if d.Revision != 2 || string(d.Data["slo"]) != "2" || len(d.Data["long"]) != 100_002 {
			s.Errorf("revision %d, %d members", d.Revision, len(d.Data))
		}
		var e struct {
			Version string                     `json:"version"`
			Data    map[string]json.RawMessage `json:"data"`
		}
		s.ok(s.get("/config/effective?team_id="+team), &e)
		if !strings.Contains(e.Version, "|team:2|") || string(e.Data["slo"]) != "2" || len(e.Data["long"]) != 100_002 {
			s.Errorf("effective is version %s", e.Version)
		}
		s.set("team", team, map[string]any{"slo": nil, "long": nil})
		var flat map[string]any
		if s.ok(s.get("/config?scope=team&envelope=false&scope_id="+team), &flat); len(flat) != 0 {
			s.Errorf("%v is left", flat)
		}
		s.refused(s.get("/config?scope=team&scope_id="+s.fresh()), http.StatusNotFound, "config not found")
		s.refused(s.post("/config", map[string]any{"scope": s.fresh()}), http.StatusBadRequest, "invalid scope")
	}},
	{"a pool that is added gets jobs", 0, func(s *story) {
		pools := func(change func(topics map[string]any)) {
			s.Helper()
			s.alter("default", "pools", func(in map[string]json.RawMessage) {
				var topics map[string]any
				if err := json.Unmarshal(in["topics"], &topics); err != nil {
					s.Fatalf("topics are %s: %v", in["topics"], err)
				}
				change(topics)
				in["topics"] = s.text(topics)
			})
		}
		pools(func(topics map[string]any) { topics[TopicAdded] = PoolAdded })
		defer pools(func(topics map[string]any) { delete(topics, TopicAdded) })
		time.Sleep(3 * time.Second) // whatever is old by then is read again
		if rc := s.submit("topic", TopicAdded); rc.Status != "scheduled" {
			s.Errorf("%+v", rc)
		}
	}},
	{"the document of the policy has the bundles in force", 0, func(s *story) {
		name := s.fresh()
		id, topic := "e2e/"+name, "job.documented."+name
		bundles := func(change func(map[string]json.RawMessage)) {
			s.Helper()
			s.alter("policy", "bundles", change)
		}
		bundles(func(in map[string]json.RawMessage) {
			in[id] = s.text(map[string]string{"content": fmt.Sprintf("rules: [{id: %s, match: {topics: [%s]}, decision: deny, reason: documented}]", name, topic)})
		})
		if rc := s.submit("topic", topic); rc.Reason != "documented" {
			s.Errorf("%+v", rc)
		}
		var b struct{ Content string }
		if s.ok(s.get("/policy/bundles/e2e~"+name), &b); !strings.Contains(b.Content, topic) {
			s.Errorf("bundle: %+v", b)
		}
		bundles(func(in map[string]json.RawMessage) { delete(in, id) })
		if rc := s.submit("topic", topic); rc.Reason != "no matching rule" {
			s.Errorf("%+v", rc)
		}
		s.document("system", "policy_audit")
		s.document("system", "policy_snapshots")
	}},
	{"the document of packs has their records", 0, func(s *story) {
		id := s.fresh()
		installed := func(change func(map[string]json.RawMessage)) {
			s.Helper()
			s.alter("packs", "installed", change)
		}
		installed(func(in map[string]json.RawMessage) {
			in[id] = s.text(map[string]any{"id": id, "status": "INACTIVE", "of": "e2e"})
		})
		installed(func(in map[string]json.RawMessage) {
			if !strings.Contains(string(in[id]), `"of":"e2e"`) {
				s.Errorf("the record is %s", in[id])
			}
			delete(in, id)
		})
		installed(func(in map[string]json.RawMessage) {
			if in[id] != nil {
				s.Errorf("the record is still there: %s", in[id])
			}
		})
	}},
	{"a change is of what was read, or is not made", 0, func(s *story) {
		note := s.fresh()
		s.set("system", "policy", map[string]any{note: 1})
		defer s.set("system", "policy", map[string]any{note: nil})
		var read int64
		s.eventually(s.patience(), func() (bool, string) { // others may change the bundles
			read = s.document("system", "policy").Revision
			a := s.setAt(read, "policy", map[string]any{note: 2})
			return a.Status == http.StatusNoContent, a.String()
		})
		if a := s.setAt(read, "policy", map[string]any{note: 3}); a.Status != http.StatusConflict {
			s.Error(a)
		}
		if d := s.document("system", "policy"); string(d.Data[note]) != "2" {
			s.Errorf("the note is %s", d.Data[note])
		}
	}},
	{"a document is its tenant's", needOther, func(s *story) {
		team := s.fresh()
		s.set("team", team, map[string]any{"a": 1})
		defer s.set("team", team, map[string]any{"a": nil})
		s.refused(s.call(s.other(call{method: http.MethodGet, path: "/api/v1/config?scope=team&scope_id=" + team})), http.StatusNotFound, "config not found")
		s.refused(s.call(s.other(call{method: http.MethodGet, path: "/api/v1/config?scope=org&scope_id=" + s.target.Tenant})), http.StatusForbidden, "tenant access denied")
	}},
}

// document reads a document as an envelope.
func (s *story) document(scope, id string) (d document) {
	s.Helper()
	if s.ok(s.get("/config?scope="+scope+"&scope_id="+id), &d); d.Scope != scope || d.ScopeID != id {
		s.Fatalf("%s/%s is %+v", scope, id, d)
	}
	return d
}

// set changes members of a document.
func (s *story) set(scope, id string, data map[string]any) {
	s.Helper()
	s.gone(s.post("/config", map[string]any{"scope": scope, "scope_id": id, "data": data}))
}

// setAt changes members of a document of the system that is at a revision.
func (s *story) setAt(revision int64, id string, data map[string]any) answer {
	s.Helper()
	return s.call(call{
		method: http.MethodPost, path: "/api/v1/config", body: s.text(map[string]any{"scope": "system", "scope_id": id, "data": data}),
		header: http.Header{"If-Match": {fmt.Sprint(revision)}},
	})
}

// alter changes what is in a member of a document of the system, while others may.
func (s *story) alter(id, member string, change func(in map[string]json.RawMessage)) {
	s.Helper()
	s.eventually(s.patience(), func() (bool, string) {
		var d document
		in := map[string]json.RawMessage{}
		if a := s.get("/config?scope=system&scope_id=" + id); a.Status != http.StatusNotFound {
			if s.ok(a, &d); d.Data[member] != nil && json.Unmarshal(d.Data[member], &in) != nil {
				s.Fatal(a)
			}
		}
		change(in)
		a := s.setAt(d.Revision, id, map[string]any{member: in})
		return a.Status == http.StatusNoContent, a.String()
	})
}
