package rest_test

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
)

// served runs a test at every door with the fake services behind it.
func served(t *testing.T, env map[string]string, test func(t *testing.T, p *plane, do func(ask) reply, f *fake)) {
	f := &fake{}
	through(t, func() map[string]string { return copied(env) }, f.groups, func(t *testing.T, p *plane, do func(ask) reply) { test(t, p, do, f) })
}

func copied(env map[string]string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, env)
	return out
}

// One request that is wrong in every way is refused for one reason after the other, as each is put right.
func TestOrderOfRefusals(t *testing.T) {
	served(t, map[string]string{"API_RATE_LIMIT_RPS": "1", "API_RATE_LIMIT_BURST": "7"}, func(t *testing.T, p *plane, do func(ask) reply, f *fake) {
		wrong := ask{method: "POST", target: "/api/v1/jobs", body: `{"tenant_id":"b"`}
		steps := []struct {
			name    string
			req     ask
			status  int
			message string
		}{
			{"origin", wrong.with("Origin", "https://evil.example", "X-API-Key", "nope"), 403, "origin not allowed"},
			{"credential", wrong.with("X-API-Key", "nope"), 401, "unauthorized"},
			{"tenant header", wrong.with("X-API-Key", "k-viewer"), 403, "tenant id required"},
			{"foreign tenant header", wrong.with("X-API-Key", "k-viewer", "X-Tenant-ID", "b"), 403, "tenant access denied"},
			{"role", wrong.with("X-API-Key", "k-viewer", "X-Tenant-ID", "default"), 403, "access denied"},
			{"body", wrong.with("X-API-Key", "k-user", "X-Tenant-ID", "default"), 400, "invalid json"},
			{"T-011: tenant named in the body", wrong.with("X-API-Key", "k-user", "X-Tenant-ID", "default").send(`{"tenant_id":"b"}`), 403, "tenant access denied"},
			{"what the service says", wrong.with("X-API-Key", "k-user", "X-Tenant-ID", "default").send(`{}`), 400, "prompt is required"},
			{"nothing", wrong.with("X-API-Key", "k-user", "X-Tenant-ID", "default").send(`{"prompt":"p"}`), 200, ""},
			{"T-020: rate, before the tenant header", wrong.with("X-API-Key", "k-user"), 429, "rate limited"},
			{"credential before rate", wrong.with("X-API-Key", "nope"), 401, "unauthorized"},
		}
		for _, s := range steps {
			r := do(s.req)
			if r.status != s.status {
				t.Errorf("%s: got %d %s, want %d %s", s.name, r.status, r.body, s.status, s.message)
				continue
			}
			if s.status != 200 && r.message(t) != s.message {
				t.Errorf("%s: got %s, want %q", s.name, r.body, s.message)
			}
			if s.status == 429 && r.header.Get("Retry-After") != "1" {
				t.Errorf("no Retry-After: %v", r.header)
			}
		}
		p.clock.turn(time.Second)
		if r := do(as("k-user", "GET", "/api/v1/jobs")); r.status != 200 {
			t.Errorf("a second later: %d %s", r.status, r.body)
		}
	})
}

func TestT020_KeyNeededUnderAPIOnly(t *testing.T) {
	served(t, nil, func(t *testing.T, _ *plane, do func(ask) reply, _ *fake) {
		for _, target := range []string{"/api/v1/jobs", "/api/v1/status", "/api/v1/nowhere", "/api/v1/jobs/", "/api/", "/api/v1/auth/nowhere"} {
			if r := do(ask{method: "GET", target: target}); r.status != 401 || r.message(t) != "unauthorized" {
				t.Errorf("%s: %d %s", target, r.status, r.body)
			}
		}
		if r := do(ask{method: "GET", target: "/health"}); r.status != 200 || r.body != "ok" || !strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") {
			t.Errorf("health: %+v", r)
		}
		if r := do(ask{method: "HEAD", target: "/health"}); r.status != 200 || r.body != "" {
			t.Errorf("health by HEAD: %+v", r)
		}
		if r := do(ask{method: "POST", target: "/health"}); r.status != 405 || r.header.Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("health by POST: %+v", r)
		}
		for _, target := range []string{"/", "/healthz", "/metrics", "/health/", "/apis"} {
			if r := do(ask{method: "GET", target: target}); r.status != 404 || r.message(t) != "not found" {
				t.Errorf("%s: %d %s", target, r.status, r.body)
			}
		}
	})
}

func TestRouting(t *testing.T) {
	served(t, nil, func(t *testing.T, _ *plane, do func(ask) reply, f *fake) {
		tests := []struct {
			name, method, target string
			status               int
			got                  string // what reached the service, or the methods allowed
		}{
			{"list", "GET", "/api/v1/jobs", 200, "list"},
			{"get", "GET", "/api/v1/jobs/a", 200, "get a"},
			{"characters of run jobs", "GET", "/api/v1/jobs/r:s[1]@2", 200, "get r:s[1]@2"},
			{"escaped characters", "GET", "/api/v1/jobs/r%3As%5B1%5D%402", 200, "get r:s[1]@2"},
			{"percent", "GET", "/api/v1/jobs/100%25", 200, "get 100%"},
			{"percent and digits", "GET", "/api/v1/jobs/a%252Fb", 200, "get a%2Fb"},
			{"question mark", "GET", "/api/v1/jobs/a%3Fb", 200, "get a?b"},
			{"hash", "GET", "/api/v1/jobs/a%23b", 200, "get a#b"},
			{"space and plus", "GET", "/api/v1/jobs/a%20b+c", 200, "get a b+c"},
			{"beyond ASCII", "GET", "/api/v1/jobs/%C3%A9", 200, "get é"},
			{"trailing slash", "GET", "/api/v1/jobs/", 404, ""},
			{"trailing slash after an id", "GET", "/api/v1/jobs/a/", 404, ""},
			{"doubled slash", "GET", "/api/v1//jobs", 404, ""},
			{"dot segments", "GET", "/api/v1/x/../jobs", 404, ""},
			{"unknown", "GET", "/api/v1/nowhere", 404, ""},
			{"capitals", "GET", "/api/v1/Jobs", 404, ""},
			{"greedy list", "GET", "/api/v1/schemas", 200, "schemas"},
			{"greedy, empty id", "GET", "/api/v1/schemas/", 404, ""},
			{"greedy", "GET", "/api/v1/schemas/p/n", 200, "schema p/n"},
			{"greedy, escaped", "GET", "/api/v1/schemas/p%2Fn", 200, "schema p/n"},
			{"greedy, pointer", "GET", "/api/v1/schemas/redis://art:x", 200, "schema redis://art:x"},
			{"greedy, pointer escaped", "GET", "/api/v1/schemas/redis%3A%2F%2Fart%3Ax", 200, "schema redis://art:x"},
			{"greedy, collapsed", "GET", "/api/v1/schemas/redis:/art:x", 200, "schema redis:/art:x"},
			{"wrong method", "DELETE", "/api/v1/jobs", 405, "GET, HEAD, OPTIONS, POST"},
			{"wrong method of an id", "PUT", "/api/v1/jobs/a", 405, "GET, HEAD, OPTIONS"},
			{"unknown method", "BREW", "/api/v1/jobs", 405, "GET, HEAD, OPTIONS, POST"},
			{"query", "GET", "/api/v1/jobs?state=%zz&x=1;2#", 200, "list"},
		}
		for _, tt := range tests {
			_ = f.see(t.Context(), "nothing")
			r := do(as("k-admin", tt.method, tt.target))
			_, got := f.last()
			if r.status != tt.status {
				t.Errorf("%s: got %d %s, want %d", tt.name, r.status, r.body, tt.status)
			}
			switch {
			case r.status == 200 && got != tt.got:
				t.Errorf("%s: the service got %q, want %q", tt.name, got, tt.got)
			case r.status == 404 && r.message(t) != "not found":
				t.Errorf("%s: %s", tt.name, r.body)
			case r.status == 405 && (r.message(t) != "method not allowed" || r.header.Get("Allow") != tt.got):
				t.Errorf("%s: %s, Allow %q", tt.name, r.body, r.header.Get("Allow"))
			}
		}
	})
}

// What a form or an override header could reach in grpc-gateway stays out of reach.
func TestMethodCannotBeChanged(t *testing.T) {
	served(t, nil, func(t *testing.T, _ *plane, do func(ask) reply, f *fake) {
		form := as("k-admin", "POST", "/api/v1/status").with("Content-Type", "application/x-www-form-urlencoded").send("a=b")
		if r := do(form); r.status != 405 {
			t.Errorf("a form reached a GET route: %d %s", r.status, r.body)
		}
		if r := do(form.with("X-HTTP-Method-Override", "GET")); r.status != 405 {
			t.Errorf("an override reached a GET route: %d %s", r.status, r.body)
		}
		odd := as("k-admin", "POST", "/api/v1/jobs").with("Content-Type", "application/x-www-form-urlencoded", "X-HTTP-Method-Override", "DELETE",
			"Grpc-Timeout", "nonsense", "TE", "trailers", "X-Bad-Bin", "%%%", "Accept", "text/html").send(`{"prompt":"p"}`)
		r := do(odd)
		if _, got := f.last(); r.status != 200 || got != "submit p" || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("got %+v, service %q", r, got)
		}
	})
}

func TestBodies(t *testing.T) {
	served(t, map[string]string{"GATEWAY_MAX_JSON_BODY_BYTES": "64"}, func(t *testing.T, _ *plane, do func(ask) reply, _ *fake) {
		submit, remediate := as("k-admin", "POST", "/api/v1/jobs"), as("k-admin", "POST", "/api/v1/jobs/a/remediate")
		long := `{"prompt":"` + strings.Repeat("p", 64-len(`{"prompt":""}`)) + `"}`
		tests := []struct {
			name    string
			req     ask
			status  int
			message string
		}{
			{"JSON", submit.send(`{"prompt":"p"}`), 200, ""},
			{"spaces around", submit.send(" \n{\"prompt\":\"p\"}\r\n"), 200, ""},
			{"unknown member", submit.send(`{"prompt":"p","color":7}`), 200, ""},
			{"any content type", submit.with("Content-Type", "text/xml").send(`{"prompt":"p"}`), 200, ""},
			{"none", submit, 400, "invalid json"},
			{"null", submit.send("null"), 400, "invalid json"},
			{"list", submit.send("[]"), 400, "invalid json"},
			{"number", submit.send("7"), 400, "invalid json"},
			{"half", submit.send(`{"prompt":`), 400, "invalid json"},
			{"two values", submit.send(`{"prompt":"p"}{}`), 400, "invalid json"},
			{"text after", submit.send(`{"prompt":"p"} x`), 400, "invalid json"},
			{"member of a wrong type", submit.send(`{"prompt":["p"]}`), 400, "invalid json"},
			{"not UTF-8 and no JSON", submit.send("\xff\xfe"), 400, "invalid json"},
			{"at the limit", submit.send(long), 200, ""},
			{"over the limit", submit.send(long + " "), 413, "request body too large"},
			{"optional: none", remediate, 200, ""},
			{"optional: spaces", remediate.send(" \n"), 200, ""},
			{"optional: null", remediate.send(" null "), 200, ""},
			{"optional: object", remediate.send(`{"x":1}`), 200, ""},
			{"optional: half", remediate.send("{"), 400, "invalid body"},
			{"optional: over the limit", remediate.send(long + " "), 413, "request body too large"},
			{"GET ignores it", as("k-admin", "GET", "/api/v1/status").send("{"), 200, ""},
		}
		for _, tt := range tests {
			r := do(tt.req)
			if r.status != tt.status || r.status != 200 && r.message(t) != tt.message {
				t.Errorf("%s: got %d %s, want %d %s", tt.name, r.status, r.body, tt.status, tt.message)
			}
		}
	})
}

func TestDefaultBodyLimit(t *testing.T) {
	served(t, nil, func(t *testing.T, _ *plane, do func(ask) reply, _ *fake) {
		body := func(n int) string { return `{"prompt":"` + strings.Repeat("p", n-len(`{"prompt":""}`)) + `"}` }
		if r := do(as("k-admin", "POST", "/api/v1/jobs").send(body(2 << 20))); r.status != 200 {
			t.Errorf("2 MiB: %d %.80s", r.status, r.body)
		}
		if r := do(as("k-admin", "POST", "/api/v1/jobs").send(body(2<<20 + 1))); r.status != 413 {
			t.Errorf("2 MiB and a byte: %d %.80s", r.status, r.body)
		}
		if r := do(as("k-viewer", "POST", "/api/v1/jobs").send(body(2<<20 + 1))); r.status != 403 {
			t.Errorf("the role comes before the body: %d %.80s", r.status, r.body)
		}
	})
}

// A body without a length, as it is sent in chunks, is measured while it is read.
func TestBodyWithoutLength(t *testing.T) {
	f := &fake{}
	p := newPlane(t, map[string]string{"GATEWAY_MAX_JSON_BODY_BYTES": "16"}, f.groups()...)
	for body, want := range map[string]int{`{"prompt":"pqr"}`: 200, `{"prompt":"pqrs"}`: 413} {
		r := httptest.NewRequest("POST", "/api/v1/jobs", io.MultiReader(strings.NewReader(body)))
		r.Header.Set("X-API-Key", "k-admin")
		r.Header.Set("X-Tenant-ID", "default")
		w := httptest.NewRecorder()
		p.handler.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s: got %d %s", body, w.Code, w.Body)
		}
	}
}

func TestHeadersTooLarge(t *testing.T) {
	p := newPlane(t, plainEnv())
	r := overLambda(t, p)(as("k-admin", "GET", "/api/v1/status").with("X-Long", strings.Repeat("x", rest.MaxHeaderBytes)))
	if r.status != 431 || r.message(t) != "request headers too large" {
		t.Errorf("got %d %.100s", r.status, r.body)
	}
}

func TestStatusesOfSuccess(t *testing.T) {
	served(t, nil, func(t *testing.T, _ *plane, do func(ask) reply, _ *fake) {
		if r := do(as("k-admin", "POST", "/api/v1/users").send(`{"username":"maya"}`)); r.status != 201 || !strings.Contains(r.body, "maya") {
			t.Errorf("created: %+v", r)
		}
		if r := do(as("k-admin", "DELETE", "/api/v1/schemas/p/n")); r.status != 204 || r.body != "" || r.header.Get("Content-Type") != "" {
			t.Errorf("no content: %+v", r)
		}
		get := do(as("k-admin", "GET", "/api/v1/status"))
		if get.status != 200 || get.header.Get("Content-Type") != "application/json" || !strings.Contains(get.body, "4512") {
			t.Errorf("get: %+v", get)
		}
		head := do(as("k-admin", "HEAD", "/api/v1/status"))
		if head.status != 200 || head.body != "" || head.header.Get("Content-Type") != "application/json" ||
			head.header.Get("Content-Length") != strconv.Itoa(len(get.body)) {
			t.Errorf("head: %+v", head)
		}
		if r := do(as("k-admin", "HEAD", "/api/v1/nowhere")); r.status != 404 || r.body != "" {
			t.Errorf("head of nothing: %+v", r)
		}
	})
}

func TestFaults(t *testing.T) {
	served(t, nil, func(t *testing.T, p *plane, do func(ask) reply, f *fake) {
		tests := []struct {
			name   string
			fail   func() error
			status int
			body   string
			logged string
		}{
			{"not found", func() error { return fault.New(fault.NotFound, "job not found") }, 404, `{"error":"job not found","status":404}`, ""},
			{"details", func() error {
				return fault.New(fault.Conflict, "stale <snapshot>").With("retryable", false).With("code", "approval_stale_snapshot")
			}, 409, `{"error":"stale <snapshot>","status":409,"code":"approval_stale_snapshot","retryable":false}`, ""},
			{"details that are no JSON", func() error { return fault.New(fault.Conflict, "x").With("f", func() {}) }, 409, `{"error":"x","status":409,"f":null}`, ""},
			{"internal", func() error { return errors.New("pass-1") }, 500, `{"error":"internal error","status":500}`, "pass-1"},
			{"upstream", func() error { return fault.Wrap(fault.Upstream, errors.New("pass-2"), "kernel") }, 502, `{"error":"upstream service error","status":502}`, "pass-2"},
			{"unavailable", func() error { return fault.Wrap(fault.Unavailable, errors.New("pass-3"), "table") }, 503, `{"error":"service unavailable","status":503}`, "pass-3"},
			{"panic", func() error { panic("pass-4") }, 500, `{"error":"internal error","status":500}`, "pass-4"},
		}
		for _, tt := range tests {
			f.failing(tt.fail)
			p.log.take()
			r := do(as("k-admin", "GET", "/api/v1/jobs/a"))
			if r.status != tt.status || r.body != tt.body || r.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: got %d %s, want %s", tt.name, r.status, r.body, tt.body)
			}
			if log := p.log.take(); tt.logged != "" && !strings.Contains(log, tt.logged) || tt.logged == "" && strings.Contains(log, "level=ERROR") {
				t.Errorf("%s: log %s", tt.name, log)
			}
		}
		f.failing(nil)
	})
}

// A route of the table that no group serves, and a method that a group has not built, are the same to a caller.
func TestNotImplemented(t *testing.T) {
	through(t, plainEnv, noGroups, func(t *testing.T, _ *plane, do func(ask) reply) {
		if r := do(as("k-admin", "GET", "/api/v1/status")); r.status != 501 || r.body != `{"error":"not implemented","status":501}` {
			t.Errorf("got %d %s", r.status, r.body)
		}
	})
	through(t, plainEnv, unbuilt, func(t *testing.T, _ *plane, do func(ask) reply) {
		if r := do(as("k-admin", "GET", "/api/v1/status")); r.status != 501 || r.body != `{"error":"not implemented","status":501}` {
			t.Errorf("got %d %s", r.status, r.body)
		}
	})
}

// Every route of the table, called in every role, is let in or refused as its method's option says, and nothing is asked of a public one.
func TestRolesOfEveryRoute(t *testing.T) {
	limits := func() map[string]string {
		return map[string]string{"API_RATE_LIMIT_BURST": "1000000", "API_PUBLIC_RATE_LIMIT_BURST": "1000000"}
	}
	through(t, limits, noGroups, func(t *testing.T, _ *plane, do func(ask) reply) {
		for _, route := range routes.All() {
			target := strings.NewReplacer("{", "", "}", "", "=**", "/x").Replace(route.Path)
			for _, role := range []identity.Role{identity.Admin, identity.Operator, identity.User, identity.Viewer, identity.Worker} {
				want := 403
				if route.Rule.Public || slices.Contains(route.Rule.Roles, role) || route.Rule.Any && role != identity.Worker {
					want = 501 // let in, and nobody is at home
				}
				if r := do(as("k-"+string(role), route.Method, target)); r.status != want {
					t.Errorf("%s %s as %s: got %d %s, want %d", route.Method, route.Path, role, r.status, r.body, want)
				}
			}
			want := 401
			if route.Rule.Public {
				want = 501
			}
			if r := do(ask{method: route.Method, target: target}); r.status != want {
				t.Errorf("%s %s without a credential: got %d, want %d", route.Method, route.Path, r.status, want)
			}
			want = 403
			if route.Rule.Public {
				want = 501
			}
			if r := do(ask{method: route.Method, target: target, header: []string{"X-API-Key", "k-admin"}}); r.status != want {
				t.Errorf("%s %s without a tenant: got %d, want %d", route.Method, route.Path, r.status, want)
			}
		}
	})
}

func TestTenantsAndPrincipals(t *testing.T) {
	served(t, nil, func(t *testing.T, _ *plane, do func(ask) reply, f *fake) {
		tests := []struct {
			name    string
			header  []string
			status  int
			message string
			tenant  string
		}{
			{"own", []string{"X-API-Key", "k-b", "X-Tenant-ID", "b"}, 200, "", "b"},
			{"none", []string{"X-API-Key", "k-b"}, 403, "tenant id required", ""},
			{"T-011: foreign", []string{"X-API-Key", "k-b", "X-Tenant-ID", "default"}, 403, "tenant access denied", ""},
			{"foreign, cross-tenant", []string{"X-API-Key", "k-x", "X-Tenant-ID", "b"}, 200, "", "b"},
			{"none, optional for the key: the query chooses none", []string{"X-API-Key", "k-lax"}, 403, "tenant access denied", ""},
			{"twice", []string{"X-API-Key", "k-b", "X-Tenant-ID", "b", "X-Tenant-ID", "b"}, 403, "tenant access denied", ""},
			{"key twice", []string{"X-API-Key", "k-b", "X-API-Key", "k-b", "X-Tenant-ID", "b"}, 401, "unauthorized", ""},
			{"authorization twice", []string{"Authorization", "Bearer k-b", "Authorization", "Bearer k-b", "X-Tenant-ID", "b"}, 401, "unauthorized", ""},
			{"principal twice", []string{"X-API-Key", "k-b", "X-Tenant-ID", "b", "X-Principal-Id", "a", "X-Principal-Id", "b"}, 400,
				"x-principal-id must be one name of at most 256 printable characters without a comma", ""},
			{"bearer", []string{"Authorization", "Bearer k-b", "X-Tenant-ID", "b"}, 200, "", "b"},
			{"key in quotes", []string{"X-API-Key", `"k-b"`, "X-Tenant-ID", "b"}, 200, "", "b"},
		}
		for _, tt := range tests {
			r := do(ask{method: "GET", target: "/api/v1/status?tenant_id=b&tenant=b", header: tt.header})
			if r.status != tt.status || r.status != 200 && r.message(t) != tt.message {
				t.Errorf("%s: got %d %s", tt.name, r.status, r.body)
			}
			if id, _ := f.last(); r.status == 200 && id.Tenant != tt.tenant {
				t.Errorf("%s: got %+v", tt.name, id)
			}
		}
	})
}

func TestTenantOptional(t *testing.T) {
	served(t, map[string]string{"CORDUM_TENANT_HEADER": "optional"}, func(t *testing.T, _ *plane, do func(ask) reply, f *fake) {
		r := do(ask{method: "GET", target: "/api/v1/status", header: []string{"X-API-Key", "k-b"}})
		if id, _ := f.last(); r.status != 200 || id.Tenant != "b" {
			t.Errorf("got %d %s %+v", r.status, r.body, id)
		}
		r = do(ask{method: "GET", target: "/api/v1/status", header: []string{"X-API-Key", "k-b", "X-Tenant-ID", "default"}})
		if r.status != 403 {
			t.Errorf("got %d %s", r.status, r.body)
		}
	})
}

func TestT012_PrincipalReachesTheService(t *testing.T) {
	served(t, nil, func(t *testing.T, _ *plane, do func(ask) reply, f *fake) {
		do(as("k-user", "POST", "/api/v1/jobs").with("X-Principal-Id", "alice", "X-Principal-Role", "admin", "X-Request-Id", "req-1").send(`{"prompt":"p"}`))
		id, _ := f.last()
		if id.Principal != "alice" || id.PrincipalFixed || id.Role != identity.User || id.RequestID != "req-1" {
			t.Errorf("got %+v", id)
		}
		do(as("k-bot", "GET", "/api/v1/status").with("X-Principal-Id", "alice"))
		if id, _ := f.last(); id.Principal != "bot" || !id.PrincipalFixed {
			t.Errorf("got %+v", id)
		}
	})
}

func TestPublicRoutes(t *testing.T) {
	served(t, map[string]string{"API_PUBLIC_RATE_LIMIT_RPS": "1", "API_PUBLIC_RATE_LIMIT_BURST": "2", "API_RATE_LIMIT_BURST": "1"},
		func(t *testing.T, _ *plane, do func(ask) reply, f *fake) {
			config := ask{method: "GET", target: "/api/v1/auth/config"}
			r := do(config.with("X-API-Key", "nope", "X-Request-Id", "req-2"))
			if id, got := f.last(); r.status != 200 || got != "config" || id.RequestID != "req-2" || id.Role != "" || id.Tenant != "" {
				t.Errorf("got %d %s %+v", r.status, r.body, id)
			}
			do(config)
			if r := do(config); r.status != 429 || r.message(t) != "rate limited" {
				t.Errorf("got %d %s", r.status, r.body)
			}
			if r := do(as("k-admin", "GET", "/api/v1/status")); r.status != 200 {
				t.Errorf("protected routes have a rate of their own: %d %s", r.status, r.body)
			}
			for range 5 {
				if r := do(ask{method: "GET", target: "/health"}); r.status != 200 {
					t.Errorf("health: %d", r.status)
				}
				if r := do(ask{method: "OPTIONS", target: "/api/v1/status"}); r.status != 204 {
					t.Errorf("OPTIONS: %d", r.status)
				}
			}
		})
}

func TestCORS(t *testing.T) {
	tests := []struct {
		name, list, origin, host string
		allowed, credentials     bool
	}{
		{"no origin, all", "*", "", "", true, false},
		{"no origin", "", "", "", true, false},
		{"localhost", "", "http://localhost:5173", "", true, true},
		{"loopback", "", "http://127.0.0.1:3000", "", true, true},
		{"same host", "", "https://plane.example", "plane.example", true, true},
		{"foreign", "", "https://evil.example", "plane.example", false, false},
		{"null", "", "null", "", false, false},
		{"listed", "https://a.example,https://b.example", "https://b.example", "", true, true},
		{"not listed", "https://a.example", "http://localhost:5173", "", false, false},
		{"all", "*", "https://evil.example", "", true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			served(t, map[string]string{"CORDUM_ALLOWED_ORIGINS": tt.list}, func(t *testing.T, _ *plane, do func(ask) reply, _ *fake) {
				var header []string
				if tt.origin != "" {
					header = append(header, "Origin", tt.origin)
				}
				if tt.host != "" {
					header = append(header, "Host", tt.host)
				}
				preflight := do(ask{method: "OPTIONS", target: "/api/v1/jobs", header: append(header, "Access-Control-Request-Method", "PUT")})
				refusal := do(ask{method: "GET", target: "/api/v1/jobs", header: header})
				answer := do(as("k-admin", "GET", "/api/v1/jobs").with(header...))
				if !tt.allowed {
					for _, r := range []reply{preflight, refusal, answer} {
						if r.status != 403 || r.message(t) != "origin not allowed" || r.header.Get("Access-Control-Allow-Origin") != "" {
							t.Errorf("got %+v", r)
						}
					}
					return
				}
				if preflight.status != 204 || preflight.body != "" || refusal.status != 401 || answer.status != 200 {
					t.Errorf("got %d %q, %d, %d", preflight.status, preflight.body, refusal.status, answer.status)
				}
				for _, want := range []string{"GET", "POST", "PUT", "DELETE", "OPTIONS"} {
					if !strings.Contains(preflight.header.Get("Access-Control-Allow-Methods"), want) {
						t.Errorf("no %s in %v", want, preflight.header)
					}
				}
				for _, want := range []string{"Content-Type", "Authorization", "X-API-Key", "X-Tenant-ID", "X-Principal-Id", "X-Principal-Role",
					"X-Request-Id", "Idempotency-Key", "X-Idempotency-Key"} {
					if !strings.Contains(preflight.header.Get("Access-Control-Allow-Headers"), want) {
						t.Errorf("no %s in %v", want, preflight.header)
					}
				}
				for _, r := range []reply{preflight, refusal, answer} {
					if got := r.header.Get("Access-Control-Allow-Origin"); got != tt.origin {
						t.Errorf("allowed origin %q, want %q", got, tt.origin)
					}
					if got := r.header.Get("Access-Control-Allow-Credentials") == "true"; got != tt.credentials {
						t.Errorf("credentials %v, want %v", got, tt.credentials)
					}
					if !strings.Contains(r.header.Get("Vary"), "Origin") {
						t.Errorf("no Vary: %v", r.header)
					}
				}
				if tt.origin != "" && answer.header.Get("Access-Control-Expose-Headers") != "X-Request-Id, X-Trace-Id" {
					t.Errorf("got %v", answer.header)
				}
			})
		})
	}
}

func TestSecurityHeaders(t *testing.T) {
	served(t, nil, func(t *testing.T, _ *plane, do func(ask) reply, _ *fake) {
		for _, a := range []ask{as("k-admin", "GET", "/api/v1/status"), {method: "GET", target: "/api/v1/status"}, {method: "GET", target: "/health"},
			{method: "OPTIONS", target: "/api/v1/status"}, as("k-admin", "DELETE", "/api/v1/schemas/x")} {
			r := do(a)
			for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
				"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Strict-Transport-Security": ""} {
				if got := r.header.Get(name); got != want {
					t.Errorf("%s %s: %s is %q", a.method, a.target, name, got)
				}
			}
		}
	})
}

func TestStrictTransportSecurity(t *testing.T) {
	env := map[string]string{"CORDUM_ENV": "production"}
	p := newPlane(t, env)
	if r := overLambda(t, p)(ask{method: "GET", target: "/health"}); r.header.Get("Strict-Transport-Security") != "max-age=63072000; includeSubDomains" {
		t.Errorf("API Gateway speaks TLS: %v", r.header)
	}
	if r := overHTTP(t, p)(ask{method: "GET", target: "/health"}); r.header.Get("Strict-Transport-Security") != "" {
		t.Errorf("no TLS, and yet %v", r.header)
	}
}

func TestRequestAndTraceIDs(t *testing.T) {
	served(t, nil, func(t *testing.T, _ *plane, do func(ask) reply, _ *fake) {
		submit := as("k-user", "POST", "/api/v1/jobs").send(`{"prompt":"p"}`)
		if r := do(submit.with("X-Request-Id", "req-3")); r.header.Get("X-Request-Id") != "req-3" || r.header.Get("X-Trace-Id") != "t1" {
			t.Errorf("got %v", r.header)
		}
		if r := do(ask{method: "GET", target: "/api/v1/jobs", header: []string{"X-Request-Id", "req-4"}}); r.header.Get("X-Request-Id") != "req-4" {
			t.Errorf("a refusal: %v", r.header)
		}
		for _, sent := range [][]string{nil, {"X-Request-Id", "two words"}, {"X-Request-Id", "a,b"}, {"X-Request-Id", strings.Repeat("x", 129)},
			{"X-Request-Id", "a", "X-Request-Id", "b"}} {
			if got := do(submit.with(sent...)).header.Get("X-Request-Id"); len(got) != 16 || strings.Trim(got, "0123456789abcdef") != "" {
				t.Errorf("%v: got %q", sent, got)
			}
		}
	})
}

func TestWhatAServiceReadsBesideTheMessage(t *testing.T) {
	tests := []struct {
		name, query string
		header      []string
		key         string // "refused" is a 400
	}{
		{"none", "", nil, ""},
		{"header", "", []string{"Idempotency-Key", "k1"}, "k1"},
		{"older header", "", []string{"X-Idempotency-Key", "k2"}, "k2"},
		{"query", "?idempotency_key=k3", nil, "k3"},
		{"query with a hyphen", "?idempotency-key=k4", nil, "k4"},
		{"order", "?idempotency-key=k4&idempotency_key=k3", []string{"X-Idempotency-Key", "k2", "Idempotency-Key", "k1"}, "k1"},
		{"an empty one is none", "?idempotency_key=k3", []string{"Idempotency-Key", " ", "X-Idempotency-Key", ""}, "k3"},
		{"commas", "", []string{"Idempotency-Key", "a, b,c"}, "a,b,c"},
		{"beyond ASCII", "?idempotency_key=%C3%A9", nil, "refused"},
		{"too long", "?idempotency_key=" + strings.Repeat("k", 257), nil, "refused"},
	}
	served(t, nil, func(t *testing.T, _ *plane, do func(ask) reply, f *fake) {
		for _, tt := range tests {
			r := do(as("k-user", "POST", "/api/v1/jobs"+tt.query).with(tt.header...).with("X-Max-Artifact-Bytes", "77", "If-Match", "7", "X-Secret", "s").send(`{"prompt":"p"}`))
			if tt.key == "refused" {
				if r.status != 400 || !strings.Contains(r.message(t), "idempotency key") {
					t.Errorf("%s: got %+v", tt.name, r)
				}
				continue
			}
			if r.status != 200 || f.key != tt.key || f.max != "77" || f.match != "7" {
				t.Errorf("%s: got %d %s, key %q, max %q, match %q", tt.name, r.status, r.body, f.key, f.max, f.match)
			}
			for _, name := range []string{"x-api-key", "authorization", "x-secret", "x-tenant-id"} {
				if len(f.md.Get(name)) != 0 {
					t.Errorf("%s: the service sees %s: %v", tt.name, name, f.md)
				}
			}
		}
	})
}

// One line per request, with the route's template and nothing that a client may want to keep to itself.
func TestAccessLog(t *testing.T) {
	served(t, nil, func(t *testing.T, p *plane, do func(ask) reply, _ *fake) {
		p.log.take()
		tests := []struct {
			req  ask
			want string
		}{
			{as("k-user", "GET", "/api/v1/jobs/SECRET-ID?token=SECRET-QUERY").with("X-Request-Id", "r1"), "request_id=r1 tenant=default method=GET route=/api/v1/jobs/{id} status=200 ms=0"},
			{as("k-user", "POST", "/api/v1/jobs").with("X-Request-Id", "r2").send(`{"prompt":"SECRET-BODY","tenant_id":"b"}`), "request_id=r2 tenant=default method=POST route=/api/v1/jobs status=403"},
			{ask{method: "GET", target: "/api/v1/jobs", header: []string{"Authorization", "Bearer SECRET-KEY", "X-Request-Id", "r3"}}, "request_id=r3 tenant=\"\" method=GET route=/api/v1/jobs status=401"},
			{ask{method: "GET", target: "/SECRET-PATH", header: []string{"X-Request-Id", "r4"}}, "request_id=r4 tenant=\"\" method=GET route=- status=404"},
			{ask{method: "OPTIONS", target: "/api/v1/jobs", header: []string{"X-Request-Id", "r5"}}, "request_id=r5 tenant=\"\" method=OPTIONS route=- status=204"},
		}
		for _, tt := range tests {
			do(tt.req)
			log := p.log.take()
			if !strings.Contains(log, tt.want) || strings.Count(log, "\n") != 1 {
				t.Errorf("got %q, want %q", log, tt.want)
			}
			if strings.Contains(log, "SECRET") || strings.Contains(log, "k-user") {
				t.Errorf("the log tells %q", log)
			}
		}
	})
}

// A plain handler serves the route of a method in place of the generated code, behind the same gate, and sees no credential.
func TestPlainHandler(t *testing.T) {
	var header http.Header
	var tenant string
	f := &fake{}
	groups := func() []rest.Group {
		return append([]rest.Group{rest.Plain("/cordum.v1.Jobs/GetJob", func(w http.ResponseWriter, r *http.Request, params map[string]string) error {
			header, tenant = r.Header, identity.From(r.Context()).Tenant
			if params["id"] == "half" {
				w.WriteHeader(http.StatusAccepted)
				return fault.New(fault.Internal, "broke off")
			}
			if params["id"] == "none" {
				return fault.New(fault.NotFound, "no such job")
			}
			_, err := w.Write([]byte("raw " + params["id"]))
			return err
		})}, f.groups()...)
	}
	through(t, plainEnv, groups, func(t *testing.T, _ *plane, do func(ask) reply) {
		r := do(as("k-admin", "GET", "/api/v1/jobs/a").with("Cookie", "c=1", "Content-Type", "multipart/form-data"))
		if r.status != 200 || r.body != "raw a" || tenant != "default" {
			t.Errorf("got %+v for %q", r, tenant)
		}
		if header.Get("X-Api-Key")+header.Get("Cookie") != "" || header.Get("Content-Type") != "multipart/form-data" {
			t.Errorf("the handler sees %v", header)
		}
		if r := do(as("k-admin", "GET", "/api/v1/jobs/none")); r.status != 404 || r.message(t) != "no such job" {
			t.Errorf("got %+v", r)
		}
		if r := do(as("k-admin", "GET", "/api/v1/jobs/half")); r.status != 202 || r.body != "" {
			t.Errorf("an answer that has begun is not begun again: %+v", r)
		}
		if r := do(ask{method: "GET", target: "/api/v1/jobs/a"}); r.status != 401 {
			t.Errorf("got %+v", r)
		}
	})
}

// API Gateway's events are JSON and cannot hold such a path.
func TestPathThatIsNotUTF8(t *testing.T) {
	f := &fake{}
	p := newPlane(t, plainEnv(), f.groups()...)
	if r := overHTTP(t, p)(as("k-admin", "GET", "/api/v1/jobs/%ff")); r.status != 400 || r.message(t) != "invalid path" {
		t.Errorf("got %+v", r)
	}
	if r := overHTTP(t, p)(ask{method: "GET", target: "/api/v1/jobs/%ff"}); r.status != 401 {
		t.Errorf("the credential comes first: %+v", r)
	}
}

func TestNewPanicsOnMistakes(t *testing.T) {
	tests := map[string]rest.Group{
		"a method that is no route":  rest.Plain("/cordum.v1.Jobs/Nope", nil),
		"a service of another name":  misnamed(),
		"a registration that failed": rest.Service("cordum.v1.Jobs", failing),
	}
	for name, group := range tests {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			newPlane(t, plainEnv(), group)
		})
	}
}

func TestFromEnv(t *testing.T) {
	for _, text := range []string{"0", "-1", "2MiB"} {
		if _, err := rest.FromEnv(func(string) string { return text }); err == nil || !strings.Contains(err.Error(), "GATEWAY_MAX_JSON_BODY_BYTES") {
			t.Errorf("%s: got %v", text, err)
		}
	}
}
