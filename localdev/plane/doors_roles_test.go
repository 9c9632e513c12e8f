package plane_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
	"github.com/cordum-serverless/cordum/shared/edge/stream"
)

// player is somebody with a role.
type player struct {
	role identity.Role
	name string // as the credential says it
	key  string // "" is nobody: who is let in without a credential, where that is switched on
}

var players = []player{
	{identity.Admin, "admin", "k-chief"}, {identity.Admin, "SecOps", "k-secops"}, {identity.Operator, "operator", "k-operator"}, {identity.User, "user", "k-user"},
	{identity.Viewer, "viewer", "k-viewer"}, {identity.Worker, "worker", "k-worker-default"}, {identity.Anonymous, "anonymous", ""},
}

// caller is how the player sends his credential; who has none is of the default tenant.
func (p player) caller() caller {
	if p.key == "" {
		return caller{"X-Tenant-ID", "default"}
	}
	return keyed(p.key, "default")
}

// may says whether a rule lets a role in. It is the sentence of the contract's options, not the gate's code.
func may(rule auth.Rule, role identity.Role) bool {
	return rule.Public || slices.Contains(rule.Roles, role) || rule.Any && role != identity.Worker
}

// noPool says that an administrator was let in, as the rules of workers say, and then had no pool: keys of administrators name none.
func noPool(p player, text string) bool {
	return p.role == identity.Admin && (strings.Contains(text, "this credential may serve no pool") || strings.Contains(text, "this credential may not serve pool"))
}

const refusedRole = `{"error":"access denied","status":403}`

// Every route, every method of gRPC and both streams, with every role: who may not is told so and changes nothing, who may is let in.
func TestDoors_EveryRole(t *testing.T) {
	cfg, written := house("CORDUM_ALLOW_INSECURE_NO_AUTH", "1")
	virtually(t, cfg, func(t *testing.T, r *rig) {
		w := r.mine()
		refused := 0
		every(t, func(route routes.Route, d door) {
			for _, p := range players {
				if !may(route.Rule, p.role) {
					refused++
					a := d.with(t, w.fixed)
					var got answer
					if changed := written.during(func() { got = r.knock(route, d, a, p.caller(), "X-Principal-Role", "admin") }); got.Status != 403 || got.Body != refusedRole || len(changed) != 0 {
						t.Errorf("%s as %s: %d %s, and it wrote %v", nameOf(route), p.name, got.Status, got.Body, changed)
					}
					continue
				}
				if got := r.knock(route, d, d.with(t, w.fresh()), p.caller()); (got.Status == 401 || got.Status == 403 || got.Status >= 500) && !noPool(p, got.Body) {
					t.Errorf("%s as %s: %d %s", nameOf(route), p.name, got.Status, got.Body)
				}
			}
		})
		if refused < 300 {
			t.Errorf("only %d were refused", refused)
		}
		for _, name := range r.served() {
			rule, found := auth.RuleOf(methodPath(name))
			if !found {
				t.Errorf("%s has no rule", name)
			}
			for _, p := range players {
				var md []string
				if p.key != "" {
					md = []string{"x-api-key", p.key}
				}
				d := methods[name]
				if may(rule, p.role) {
					if got := r.callMethod(name, d.with(t, w.fresh()).body, md...); slices.Contains([]codes.Code{codes.Unauthenticated, codes.PermissionDenied, codes.Internal}, got.code) && !noPool(p, got.text) {
						t.Errorf("%s as %s: %v", name, p.name, got)
					}
					continue
				}
				body := d.with(t, w.fixed).body
				var got said
				changed := written.during(func() { got = r.callMethod(name, body, md...) })
				if got != (said{codes.PermissionDenied, "access denied"}) || len(changed) != 0 {
					t.Errorf("%s as %s: %v, and it wrote %v", name, p.name, got, changed)
				}
			}
		}
		for _, path := range streams {
			rule := auth.Rule{Roles: []identity.Role{identity.Admin}} // api.md 3.1: there is no .proto file of streams
			if path != stream.Path {
				rule = auth.Rule{Any: true}
			}
			path = ask{path: path}.with(t, w.fixed).path
			for _, p := range players {
				var conn interface{ CloseNow() error }
				var res *http.Response
				open := func() {
					c, answer, err := r.open(path, p.caller().header())
					if res = answer; err == nil {
						conn = c
					}
				}
				if may(rule, p.role) {
					if open(); conn == nil {
						t.Errorf("%s as %s: %v", path, p.name, res)
						continue
					}
					_ = conn.CloseNow()
					continue
				}
				if changed := written.during(open); conn != nil || bodyOf(t, res) != refusedRole || res.StatusCode != 403 || len(changed) != 0 {
					t.Errorf("%s as %s: %v, and it wrote %v", path, p.name, res, changed)
				}
			}
		}
	})
}
