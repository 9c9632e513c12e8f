package e2e

import (
	"net/http"
	"net/url"
	"slices"
)

// lock is what cases look at of a lock.
type lock struct {
	Resource string         `json:"resource"`
	Mode     string         `json:"mode"`
	Owners   map[string]int `json:"owners"`
	Token    int64          `json:"fencing_token"`
}

// lockCases are about locks.
var lockCases = []testCase{
	{"a lock is one owner's until he gives it back", 0, func(s *story) {
		resource := s.fresh()
		body := func(owner string) map[string]any {
			return map[string]any{"resource": resource, "owner": owner, "ttl_ms": 60_000}
		}
		s.Cleanup(func() { // the case has its verdict
			for _, owner := range []string{"a", "b"} {
				_, _ = s.send(call{method: http.MethodPost, path: "/api/v1/locks/release", body: s.text(body(owner))})
			}
		})
		var first, now lock
		s.ok(s.post("/locks/acquire", body("a")), &first)
		if first.Resource != resource || first.Mode != "exclusive" || first.Owners["a"] != 1 {
			s.Errorf("acquired: %+v", first)
		}
		s.refused(s.post("/locks/acquire", body("b")), http.StatusConflict, "lock unavailable")
		s.refused(s.post("/locks/release", body("b")), http.StatusConflict, "lock not held")
		s.refused(s.post("/locks/renew", body("b")), http.StatusNotFound, "lock not held")
		s.ok(s.post("/locks/renew", body("a")), &now)
		if s.ok(s.get("/locks?resource="+url.QueryEscape(resource)), &now); now.Token != first.Token || now.Owners["a"] != 1 {
			s.Errorf("renewed: %+v after %+v", now, first)
		}
		listed := func() bool {
			var all struct {
				Items []lock `json:"items"`
			}
			s.ok(s.get("/locks/list?prefix="+url.QueryEscape(resource)), &all)
			return slices.ContainsFunc(all.Items, func(l lock) bool { return l.Resource == resource && l.Token == first.Token })
		}
		s.eventually(s.patience(), func() (bool, string) { return listed(), "it is not listed" })
		var released struct {
			Lock     *lock `json:"lock"`
			Released bool  `json:"released"`
		}
		if s.ok(s.post("/locks/release", body("a")), &released); released.Lock != nil || !released.Released || listed() {
			s.Errorf("released: %+v", released)
		}
		s.refused(s.get("/locks?resource="+url.QueryEscape(resource)), http.StatusNotFound, "lock not found")
		if s.ok(s.post("/locks/acquire", body("b")), &now); now.Token <= first.Token {
			s.Errorf("token %d after %d", now.Token, first.Token)
		}
	}},
	{"a lock is its tenant's, and that of a pack is the plane's", needOther, func(s *story) {
		for resource, own := range map[string]bool{s.fresh(): true, "pack:" + s.fresh(): false} {
			mine := call{method: http.MethodPost, path: "/api/v1/locks/release", body: s.text(map[string]any{"resource": resource, "owner": "a"})}
			theirs := s.other(call{method: http.MethodPost, path: "/api/v1/locks/release", body: s.text(map[string]any{"resource": resource, "owner": "b"})})
			s.Cleanup(func() { _, _ = s.send(mine); _, _ = s.send(theirs) }) // the case has its verdict
			var l lock
			s.ok(s.post("/locks/acquire", map[string]any{"resource": resource, "owner": "a"}), &l)
			a := s.call(s.other(call{method: http.MethodPost, path: "/api/v1/locks/acquire", body: s.text(map[string]any{"resource": resource, "owner": "b"})}))
			if own {
				s.ok(a, &l)
			} else {
				s.refused(a, http.StatusConflict, "lock unavailable")
			}
		}
	}},
}
