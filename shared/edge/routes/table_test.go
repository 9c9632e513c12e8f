package routes_test

import (
	"math/rand/v2"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/proto"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
)

func get(path string) routes.Route { return routes.Route{Method: "GET", Path: path, RPC: "/t/" + path} }

func TestFind(t *testing.T) {
	all := []routes.Route{
		get("/api/v1/jobs"), get("/api/v1/jobs/{id}"), get("/api/v1/jobs/{id}/decisions"),
		{Method: "POST", Path: "/api/v1/jobs", RPC: "/t/submit"},
		get("/api/v1/policy/bundles"), get("/api/v1/policy/bundles/{id}"), {Method: "PUT", Path: "/api/v1/policy/bundles/{id}", RPC: "/t/put"},
		get("/api/v1/policy/bundles/snapshots"), get("/api/v1/policy/bundles/snapshots/{id}"),
		{Method: "POST", Path: "/api/v1/policy/bundles/{id=**}/simulate", RPC: "/t/simulate"},
		get("/api/v1/schemas"), get("/api/v1/schemas/{id=**}"), get("/api/v1/artifacts/{ptr=**}"),
		{Method: "POST", Path: "/api/v1/workflows/{id}/runs/{run_id}/cancel", RPC: "/t/cancel"},
		get("/back/x/{p}/end"), get("/back/{q}/{r}/other"), get("/back/{whole=**}"),
		get("/both/{id=**}"), {Method: "POST", Path: "/both/{id=**}/simulate", RPC: "/t/both"},
	}
	type params = map[string]string
	tests := []struct {
		name, method, path string
		want               string // template, or the methods allowed, or "-"
		params             params
	}{
		{"literal", "GET", "/api/v1/jobs", "/api/v1/jobs", params{}},
		{"another method", "POST", "/api/v1/jobs", "/api/v1/jobs", params{}},
		{"HEAD is GET", "HEAD", "/api/v1/jobs/a", "/api/v1/jobs/{id}", params{"id": "a"}},
		{"parameter", "GET", "/api/v1/jobs/a", "/api/v1/jobs/{id}", params{"id": "a"}},
		{"id of a run's job", "GET", "/api/v1/jobs/r1:step[2]@3", "/api/v1/jobs/{id}", params{"id": "r1:step[2]@3"}},
		{"id of a run's job, escaped", "GET", "/api/v1/jobs/r1%3Astep%5B2%5D%403", "/api/v1/jobs/{id}", params{"id": "r1:step[2]@3"}},
		{"escaped slash in a segment", "GET", "/api/v1/jobs/a%2Fb", "/api/v1/jobs/{id}", params{"id": "a/b"}},
		{"escaped percent", "GET", "/api/v1/jobs/100%25", "/api/v1/jobs/{id}", params{"id": "100%"}},
		{"plus stays plus", "GET", "/api/v1/jobs/a+b", "/api/v1/jobs/{id}", params{"id": "a+b"}},
		{"escaped literal", "GET", "/api/v1/%6Aobs", "/api/v1/jobs", params{}},
		{"after a parameter", "GET", "/api/v1/jobs/a/decisions", "/api/v1/jobs/{id}/decisions", params{"id": "a"}},
		{"two parameters", "POST", "/api/v1/workflows/w/runs/r/cancel", "/api/v1/workflows/{id}/runs/{run_id}/cancel", params{"id": "w", "run_id": "r"}},
		{"sibling", "GET", "/api/v1/policy/bundles/snapshots", "/api/v1/policy/bundles/snapshots", params{}},
		{"below a sibling", "GET", "/api/v1/policy/bundles/snapshots/2026:01", "/api/v1/policy/bundles/snapshots/{id}", params{"id": "2026:01"}},
		{"sibling, method of the parameter", "PUT", "/api/v1/policy/bundles/snapshots", "GET HEAD OPTIONS", nil},
		{"sibling's name as a parameter deeper", "POST", "/api/v1/policy/bundles/snapshots/simulate", "GET HEAD OPTIONS", nil},
		{"parameter beside the sibling", "POST", "/api/v1/policy/bundles/core~x/simulate", "/api/v1/policy/bundles/{id=**}/simulate", params{"id": "core~x"}},
		{"greedy in the middle", "POST", "/api/v1/policy/bundles/secops/x/simulate", "/api/v1/policy/bundles/{id=**}/simulate", params{"id": "secops/x"}},
		{"greedy in the middle, escaped", "POST", "/api/v1/policy/bundles/secops%2Fx/simulate", "/api/v1/policy/bundles/{id=**}/simulate", params{"id": "secops/x"}},
		{"greedy in the middle, its end in it too", "POST", "/api/v1/policy/bundles/a/simulate/simulate", "/api/v1/policy/bundles/{id=**}/simulate", params{"id": "a/simulate"}},
		{"greedy in the middle, a method of the whole", "GET", "/both/a/simulate", "OPTIONS POST", nil},
		{"greedy in the middle, the whole without a slash", "GET", "/both/a~simulate", "/both/{id=**}", params{"id": "a~simulate"}},
		{"greedy in the middle, beside the whole", "POST", "/both/a/b/simulate", "/both/{id=**}/simulate", params{"id": "a/b"}},
		{"greedy in the middle, beside the whole, another method", "PUT", "/both/a/b/simulate", "OPTIONS POST", nil},
		{"greedy in the middle, without its end", "POST", "/api/v1/policy/bundles/secops/x", "-", nil},
		{"greedy in the middle, with an end of its own", "POST", "/api/v1/policy/bundles/secops/x/simulate/now", "-", nil},
		{"greedy in the middle, empty", "POST", "/api/v1/policy/bundles//simulate", "-", nil},
		{"greedy", "GET", "/api/v1/schemas/p/n", "/api/v1/schemas/{id=**}", params{"id": "p/n"}},
		{"greedy, escaped", "GET", "/api/v1/schemas/p%2Fn", "/api/v1/schemas/{id=**}", params{"id": "p/n"}},
		{"greedy, not there", "GET", "/api/v1/schemas", "/api/v1/schemas", params{}},
		{"greedy, empty", "GET", "/api/v1/schemas/", "-", nil},
		{"pointer", "GET", "/api/v1/artifacts/redis://art:x", "/api/v1/artifacts/{ptr=**}", params{"ptr": "redis://art:x"}},
		{"pointer, collapsed", "GET", "/api/v1/artifacts/redis:/art:x", "/api/v1/artifacts/{ptr=**}", params{"ptr": "redis:/art:x"}},
		{"pointer, escaped", "GET", "/api/v1/artifacts/redis%3A%2F%2Fart%3Ax", "/api/v1/artifacts/{ptr=**}", params{"ptr": "redis://art:x"}},
		{"pointer, bare", "GET", "/api/v1/artifacts/art:x", "/api/v1/artifacts/{ptr=**}", params{"ptr": "art:x"}},
		{"literal first", "GET", "/back/x/1/end", "/back/x/{p}/end", params{"p": "1"}},
		{"literal led nowhere", "GET", "/back/x/1/other", "/back/{q}/{r}/other", params{"q": "x", "r": "1"}},
		{"literal and parameters led nowhere", "GET", "/back/x/1/2", "/back/{whole=**}", params{"whole": "x/1/2"}},
		{"trailing slash", "GET", "/api/v1/jobs/", "-", nil},
		{"trailing slash after an id", "GET", "/api/v1/jobs/a/", "-", nil},
		{"doubled slash", "GET", "/api//v1/jobs", "-", nil},
		{"doubled slash in front", "GET", "//api/v1/jobs", "-", nil},
		{"empty parameter inside", "GET", "/api/v1/jobs//decisions", "-", nil},
		{"dot segments are not resolved", "GET", "/api/v1/../v1/jobs", "-", nil},
		{"prefix of a path", "GET", "/api/v1", "-", nil},
		{"root", "GET", "/", "-", nil},
		{"no path", "GET", "", "-", nil},
		{"asterisk", "OPTIONS", "*", "-", nil},
		{"wrong method", "DELETE", "/api/v1/jobs", "GET HEAD OPTIONS POST", nil},
		{"wrong method of a parameter", "POST", "/api/v1/jobs/a", "GET HEAD OPTIONS", nil},
		{"no HEAD without GET", "HEAD", "/api/v1/workflows/w/runs/r/cancel", "OPTIONS POST", nil},
	}
	for round := range 8 { // whatever the order of the routes
		rand.New(rand.NewPCG(1, uint64(round))).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		table, err := routes.NewTable(all)
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range tests {
			m, err := table.Find(tt.method, tt.path)
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			got := "-"
			switch {
			case m.Route != nil:
				got = m.Route.Path
			case m.Allow != nil:
				got = strings.Join(m.Allow, " ")
			}
			if got != tt.want || !reflect.DeepEqual(m.Params, tt.params) {
				t.Errorf("%s: got %s %v, want %s %v", tt.name, got, m.Params, tt.want, tt.params)
			}
		}
	}
}

func TestFindMalformedEscape(t *testing.T) {
	table, err := routes.NewTable([]routes.Route{get("/jobs/{id}"), get("/schemas/{id=**}")})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/jobs/100%", "/jobs/%zz", "/%", "/schemas/a/%2"} {
		if m, err := table.Find("GET", path); err == nil {
			t.Errorf("%s: got %+v", path, m)
		}
	}
}

func TestNewTableRefuses(t *testing.T) {
	tests := []struct {
		name string
		all  []routes.Route
		want string
	}{
		{"no slash", []routes.Route{get("api")}, "does not begin"},
		{"empty segment", []routes.Route{get("/api//jobs")}, "neither a word"},
		{"verb", []routes.Route{get("/jobs:cancel")}, "neither a word"},
		{"open brace", []routes.Route{get("/{id")}, "neither {name}"},
		{"nameless", []routes.Route{get("/{}")}, "neither {name}"},
		{"pattern", []routes.Route{get("/{id=a/*}")}, "neither"},
		{"a parameter after a greedy one", []routes.Route{get("/{id=**}/x/{p}")}, "{p} follows a greedy parameter"},
		{"two greedy ones", []routes.Route{get("/{id=**}/{p=**}")}, "{p} follows a greedy parameter"},
		{"twice", []routes.Route{get("/jobs/{id}"), get("/jobs/{job}")}, "also the path of"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := routes.NewTable(tt.all); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestParse(t *testing.T) {
	known := func(rpc string) (auth.Rule, bool) {
		return auth.Rule{Any: true, Status: 201}, rpc == "/cordum.v1.Jobs/SubmitJob"
	}
	tests := []struct{ name, text, want string }{
		{"unknown method", `http: {rules: [{selector: cordum.v1.Jobs.Nope, get: /a}]}`, "cordum.v1.Jobs.Nope has no rule option"},
		{"no name", `http: {rules: [{selector: Jobs, get: /a}]}`, "not a method's full name"},
		{"no path", `http: {rules: [{selector: cordum.v1.Jobs.SubmitJob}]}`, "exactly one"},
		{"two paths", `http: {rules: [{selector: cordum.v1.Jobs.SubmitJob, get: /a, post: /a}]}`, "exactly one"},
		{"no path in another binding", `http: {rules: [{selector: cordum.v1.Jobs.SubmitJob, get: /a, additional_bindings: [{body: "*"}]}]}`, "exactly one"},
		{"no YAML", "\t:", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := routes.Parse([]byte(tt.text), known); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	all, err := routes.Parse([]byte(`http: {rules: [{selector: cordum.v1.Jobs.SubmitJob, post: /a, body: "*", additional_bindings: [{get: "/a/{id}"}]}]}`), known)
	if err != nil || len(all) != 2 || all[0].Method != "POST" || !all[0].Body || all[1].Path != "/a/{id}" || all[1].Body ||
		all[1].Service() != "cordum.v1.Jobs" || all[1].Rule.Status != 201 {
		t.Errorf("got %+v %v", all, err)
	}
}

// The real table: whatever is literal is reached although a parameter stands beside it, and every route is reached by its own template.
func TestEveryRouteIsReached(t *testing.T) {
	if len(routes.All()) < 60 {
		t.Fatalf("only %d routes", len(routes.All()))
	}
	siblings := 0
	for _, r := range routes.All() {
		path := strings.NewReplacer("{", "", "}", "", "=**", "/x").Replace(r.Path)
		m, err := routes.Default().Find(r.Method, path)
		if err != nil || m.Route == nil || m.Route.Path != r.Path || m.Route.RPC != r.RPC {
			t.Errorf("%s %s: got %+v %v", r.Method, r.Path, m.Route, err)
		}
		for _, other := range routes.All() {
			if other.Path != r.Path && swallows(other.Path, r.Path) {
				siblings++
			}
		}
	}
	if siblings == 0 {
		t.Error("no literal route has a parameter beside it: this test proves nothing")
	}
}

// swallows says whether a template's parameters would match another template's words.
func swallows(template, other string) bool {
	a, b := strings.Split(template, "/"), strings.Split(other, "/")
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && !strings.HasPrefix(a[i], "{") {
			return false
		}
	}
	return true
}

// The options say the same as HTTP does: nothing is created or emptied by GET, and a rule that lets nobody in is a mistake.
func TestEveryRuleMakesSense(t *testing.T) {
	for _, r := range routes.All() {
		name := r.Method + " " + r.Path
		if !r.Rule.Public && !r.Rule.Any && len(r.Rule.Roles) == 0 {
			t.Errorf("%s: nobody may call it", name)
		}
		if r.Rule.Status < 200 || r.Rule.Status > 299 {
			t.Errorf("%s: status of success %d", name, r.Rule.Status)
		}
		if r.Method == http.MethodGet && (r.Body || r.Rule.BodyRequired || r.Rule.Status != http.StatusOK) {
			t.Errorf("%s: body %v, required %v, status %d", name, r.Body, r.Rule.BodyRequired, r.Rule.Status)
		}
		if r.Rule.MaxBody > 6_000_000 || r.Rule.MaxBody != 0 && !r.Body {
			t.Errorf("%s: a body of %d bytes, which Lambda does not take, or nobody reads", name, r.Rule.MaxBody)
		}
		if r.Rule.BodyRequired && !r.Body {
			t.Errorf("%s: a body is required and not bound", name)
		}
		if !strings.HasPrefix(r.Path, "/api/v1/") {
			t.Errorf("%s: not under /api/v1/", name)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	table := routes.Default()
	for b.Loop() {
		_, _ = table.Find("GET", "/api/v1/jobs/9d1c:s[1]@2")
	}
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := routes.Parse(proto.RoutesYAML, auth.RuleOf); err != nil {
			b.Fatal(err)
		}
	}
}
