package e2e

import (
	"net/http"
	"strings"
	"time"
)

// doorCases are about what a plane lets in, whatever is behind.
var doorCases = []testCase{
	{"health is open to all", 0, func(s *story) {
		if a := s.call(call{method: http.MethodGet, path: "/health", keyless: true}); a.Status != http.StatusOK || a.Body != "ok" {
			s.Error(a)
		}
	}},
	{"status tells how the plane is", 0, func(s *story) {
		var st struct {
			Time  time.Time `json:"time"`
			Build struct {
				Version string `json:"version"`
			} `json:"build"`
			NATS struct {
				Connected bool   `json:"connected"`
				Status    string `json:"status"`
			} `json:"nats"`
			Redis struct {
				OK bool `json:"ok"`
			} `json:"redis"`
			Workers struct {
				Count *int `json:"count"`
			} `json:"workers"`
			Policy struct {
				Snapshot string `json:"snapshot"`
			} `json:"policy"`
		}
		s.eventually(s.patience(), func() (bool, string) { // an instance that just began may find everything slow
			a := s.get("/status")
			s.ok(a, &st)
			return st.NATS.Connected && st.NATS.Status == "CONNECTED" && st.Redis.OK && st.Policy.Snapshot != "", a.String()
		})
		if strings.Count(st.Build.Version, ".") != 2 || st.Workers.Count == nil || time.Since(st.Time).Abs() > time.Minute {
			s.Errorf("status %+v", st)
		}
	}},
	{"an unknown route is 404", 0, func(s *story) {
		s.refused(s.get("/nowhere"), http.StatusNotFound, "not found")
		s.refused(s.get("/jobs/"), http.StatusNotFound, "not found") // a slash at the end makes another path
	}},
	{"a wrong method is 405", 0, func(s *story) {
		a := s.call(call{method: http.MethodDelete, path: "/api/v1/jobs"})
		s.refused(a, http.StatusMethodNotAllowed, "method not allowed")
		if a.Header.Get("Allow") == "" {
			s.Error("it does not say which methods there are")
		}
	}},
	{"without a key everything is 401", 0, func(s *story) {
		for _, path := range []string{"/api/v1/jobs", "/api/v1/status", "/api/v1/nowhere", "/api/v1/dlq"} {
			s.refused(s.call(call{method: http.MethodGet, path: path, keyless: true}), http.StatusUnauthorized, "unauthorized")
		}
		s.refused(s.call(call{method: http.MethodPost, path: "/api/v1/jobs", key: "no-such-key-" + s.tag, body: s.text(s.body())}),
			http.StatusUnauthorized, "unauthorized")
	}},
	{"a key works as a bearer too", 0, func(s *story) {
		h := http.Header{"X-Api-Key": nil, "Authorization": {"Bearer " + s.target.AdminKey}}
		if a := s.call(call{method: http.MethodGet, path: "/api/v1/status", header: h}); a.Status != http.StatusOK {
			s.Error(a)
		}
	}},
	{"a request names its tenant", 0, func(s *story) {
		for _, path := range []string{"/api/v1/status", "/api/v1/jobs", "/api/v1/jobs/x", "/api/v1/workers"} {
			s.refused(s.call(call{method: http.MethodGet, path: path, header: http.Header{"X-Tenant-Id": nil}}), http.StatusForbidden, "tenant id required")
		}
	}},
	{"a key is good for its own tenant", needOther, func(s *story) {
		s.refused(s.call(call{method: http.MethodGet, path: "/api/v1/jobs", key: s.target.OtherKey}), http.StatusForbidden, "tenant access denied")
	}},
	{"a body names no other tenant", 0, func(s *story) {
		for _, member := range []string{"org_id", "tenant_id"} {
			s.refused(s.post("/jobs", s.body(member, "somebody-else")), http.StatusForbidden, "tenant access denied")
		}
	}},
	{"a worker's key opens nothing but a worker's doors", needWorkerKey, func(s *story) {
		for _, c := range []call{
			{method: http.MethodGet, path: "/api/v1/jobs"}, {method: http.MethodPost, path: "/api/v1/jobs", body: s.text(s.body())},
			{method: http.MethodGet, path: "/api/v1/dlq"}, {method: http.MethodGet, path: "/api/v1/workers"},
		} {
			c.key = s.target.WorkerKey
			s.refused(s.call(c), http.StatusForbidden, "access denied")
		}
		s.refused(s.post("/worker/claim", `{"worker_id":"w","job_id":"x","attempt":1}`), http.StatusForbidden, "this credential may serve no pool")
	}},
	{"answers carry the request's id and keep browsers in check", 0, func(s *story) {
		a := s.call(call{method: http.MethodGet, path: "/api/v1/status", header: http.Header{"X-Request-Id": {s.tag}}})
		for name, want := range map[string]string{"X-Request-Id": s.tag, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"} {
			if got := a.Header.Get(name); got != want {
				s.Errorf("%s is %q, not %q", name, got, want)
			}
		}
		foreign := http.Header{"Origin": {"https://evil.example"}}
		s.refused(s.call(call{method: http.MethodGet, path: "/api/v1/status", header: foreign}), http.StatusForbidden, "origin not allowed")
	}},
	{"a body of more than 2 MiB is 413", 0, func(s *story) {
		big := s.body("context", strings.Repeat("x", 2<<20))
		s.refused(s.post("/jobs", big), http.StatusRequestEntityTooLarge, "request body too large")
	}},
	{"what a job cannot be is 400", 0, func(s *story) {
		labels := map[string]string{}
		for len(labels) < 51 {
			labels[s.fresh()] = "v"
		}
		for text, bodies := range map[string][]any{
			"prompt is required":                      {s.body("prompt", "")},
			"prompt too long (>100000 chars)":         {s.body("prompt", strings.Repeat("x", 100_001))},
			"topic must start with job.":              {s.body("topic", "sys.x"), s.body("topic", "bad")},
			"invalid topic format":                    {s.body("topic", "job."), s.body("topic", "job.a b"), s.body("topic", "job."+strings.Repeat("x", 300))},
			"token limits must be non-negative":       {s.body("max_input_tokens", -1), s.body("max_total_tokens", -1)},
			"deadline_ms must be non-negative":        {s.body("deadline_ms", -1)},
			"actor_type must be 'human' or 'service'": {s.body("actor_type", "robot")},
			"too many labels (max 50)":                {s.body("labels", labels)},
			"label value too long (max 4096 bytes)":   {s.body("labels", map[string]string{"k": strings.Repeat("v", 4097)})},
			"invalid memory id":                       {s.body("memory_id", "a b")},
			"invalid json":                            {`{"prompt":`, `[]`, `{"prompt":7}`, ``},
		} {
			for _, b := range bodies {
				s.refused(s.post("/jobs", b), http.StatusBadRequest, text)
			}
		}
		if n := len(s.list("team=" + s.tag)); n != 0 {
			s.Errorf("%d of them were stored", n)
		}
	}},
}
