package proto_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"

	contract "github.com/cordum-serverless/cordum/proto"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
)

type binding struct {
	Selector     string `yaml:"selector"`
	Get          string `yaml:"get"`
	Put          string `yaml:"put"`
	Post         string `yaml:"post"`
	Delete       string `yaml:"delete"`
	Body         string `yaml:"body"`
	ResponseBody string `yaml:"response_body"`
}

func (b binding) route() string {
	for method, path := range map[string]string{"GET ": b.Get, "PUT ": b.Put, "POST ": b.Post, "DELETE ": b.Delete} {
		if path != "" {
			return method + path
		}
	}
	return ""
}

func table(t *testing.T) []binding {
	t.Helper()
	var doc struct {
		HTTP struct {
			Rules []binding `yaml:"rules"`
		} `yaml:"http"`
	}
	if err := yaml.UnmarshalWithOptions(contract.RoutesYAML, &doc, yaml.DisallowUnknownField(), yaml.AllowFieldPrefixes("type", "config_version")); err != nil {
		t.Fatal(err)
	}
	return doc.HTTP.Rules
}

const (
	page  = "page"  // an object with next_cursor
	array = "array" // a bare list
)

// index is Appendix A of the REST contract, WebSocket routes and /health aside, and the routes that we add: route, roles, status, and what lists look like.
var index = []struct {
	route, roles string
	status       int32
	list         string
}{
	{"GET /auth/config", "public", 200, ""},
	{"POST /auth/login", "public", 200, ""},
	{"GET /auth/session", "any", 200, ""},
	{"POST /auth/logout", "any", 204, ""},
	{"POST /auth/password", "any", 204, ""},
	{"POST /users", "admin", 201, ""},
	{"GET /users", "admin", 200, ""},
	{"PUT /users/{id}", "admin", 200, ""},
	{"DELETE /users/{id}", "admin", 204, ""},
	{"POST /users/{id}/password", "admin", 204, ""},
	{"GET /auth/keys", "admin", 200, ""},
	{"POST /auth/keys", "admin", 201, ""},
	{"DELETE /auth/keys/{id}", "admin", 204, ""},
	{"GET /status", "any", 200, ""},
	{"GET /workers", "admin", 200, array},
	{"POST /jobs", "admin operator user", 200, ""},
	{"GET /jobs", "any", 200, page},
	{"GET /jobs/{id}", "any", 200, ""},
	{"GET /jobs/{id}/decisions", "any", 200, array},
	{"POST /jobs/{id}/cancel", "admin", 200, ""},
	{"POST /jobs/{id}/remediate", "admin", 200, ""},
	{"GET /traces/{id}", "any", 200, array},
	{"GET /workflows", "any", 200, array},
	{"POST /workflows", "admin", 201, ""},
	{"GET /workflows/{id}", "any", 200, ""},
	{"DELETE /workflows/{id}", "admin", 204, ""},
	{"POST /workflows/{id}/runs", "admin", 200, ""},
	{"GET /workflows/{id}/runs", "any", 200, array},
	{"POST /workflows/{id}/runs/{run_id}/cancel", "admin", 204, ""},
	{"POST /workflows/{id}/runs/{run_id}/steps/{step_id}/approve", "admin", 204, ""},
	{"POST /workflows/{id}/dry-run", "admin", 200, ""},
	{"GET /workflow-runs", "any", 200, page},
	{"GET /workflow-runs/{id}", "any", 200, ""},
	{"GET /workflow-runs/{id}/timeline", "any", 200, array},
	{"POST /workflow-runs/{id}/rerun", "admin", 200, ""},
	{"DELETE /workflow-runs/{id}", "admin", 204, ""},
	{"GET /workflow-runs/{id}/chat", "any", 200, page},
	{"POST /workflow-runs/{id}/chat", "admin operator", 200, ""},
	{"GET /approvals", "admin", 200, page},
	{"POST /approvals/{job_id}/approve", "admin", 200, ""},
	{"POST /approvals/{job_id}/reject", "admin", 200, ""},
	{"POST /policy/evaluate", "any", 200, ""},
	{"POST /policy/simulate", "any", 200, ""},
	{"POST /policy/explain", "any", 200, ""},
	{"GET /policy/snapshots", "any", 200, ""},
	{"GET /policy/rules", "admin", 200, ""},
	{"GET /policy/bundles", "admin", 200, ""},
	{"GET /policy/bundles/{id=**}", "admin", 200, ""},
	{"PUT /policy/bundles/{id=**}", "admin", 200, ""},
	{"DELETE /policy/bundles/{id=**}", "admin", 204, ""},
	{"POST /policy/bundles/{id=**}/simulate", "admin", 200, ""},
	{"GET /policy/bundles/snapshots", "admin", 200, ""},
	{"POST /policy/bundles/snapshots", "admin", 200, ""},
	{"GET /policy/bundles/snapshots/{id}", "admin", 200, ""},
	{"POST /policy/publish", "admin", 200, ""},
	{"POST /policy/rollback", "admin", 200, ""},
	{"GET /policy/audit", "admin", 200, page},
	{"GET /config", "admin operator", 200, ""},
	{"POST /config", "admin", 204, ""},
	{"GET /config/effective", "admin operator", 200, ""},
	{"POST /schemas", "admin", 204, ""},
	{"GET /schemas", "admin operator viewer user", 200, ""},
	{"GET /schemas/{id=**}", "admin operator viewer user", 200, ""},
	{"DELETE /schemas/{id=**}", "admin", 204, ""},
	{"GET /packs", "admin", 200, ""},
	{"GET /packs/{id}", "admin", 200, ""},
	{"POST /packs/install", "admin", 200, ""},
	{"POST /packs/{id}/uninstall", "admin", 200, ""},
	{"POST /packs/{id}/verify", "admin", 200, ""},
	{"GET /marketplace/packs", "admin", 200, ""},
	{"POST /marketplace/install", "admin", 200, ""},
	{"POST /artifacts", "any", 200, ""},
	{"GET /artifacts/{ptr=**}", "any", 200, ""},
	{"GET /locks", "any", 200, ""},
	{"GET /locks/list", "any", 200, ""}, // ours
	{"POST /locks/acquire", "admin", 200, ""},
	{"POST /locks/release", "admin", 200, ""},
	{"POST /locks/renew", "admin", 200, ""},
	{"GET /dlq", "admin", 200, array},
	{"GET /dlq/page", "admin", 200, page},
	{"DELETE /dlq/{job_id}", "admin", 204, ""},
	{"POST /dlq/{job_id}/retry", "admin", 200, ""},
	{"POST /dlq/retry", "admin", 200, ""},                          // ours
	{"POST /dlq/delete", "admin", 200, ""},                         // ours
	{"POST /worker/claim", "worker admin", 200, ""},                // ours
	{"POST /worker/heartbeat", "worker admin", 200, ""},            // ours
	{"GET /worker/jobs/{job_id}/context", "worker admin", 200, ""}, // ours
	{"POST /worker/jobs/{job_id}/result", "worker admin", 200, ""}, // ours
	{"GET /memory", "admin", 200, ""},
}

func TestEveryRouteIsBound(t *testing.T) {
	bound := map[string]binding{}
	for _, b := range table(t) {
		if _, twice := bound[b.route()]; twice {
			t.Errorf("%s is bound twice", b.route())
		}
		bound[b.route()] = b
	}
	all := methods()
	for _, want := range index {
		t.Run(want.route, func(t *testing.T) {
			method, path, _ := strings.Cut(want.route, " ")
			route := method + " /api/v1" + path
			b, ok := bound[route]
			delete(bound, route)
			m := all[b.Selector]
			if !ok || m == nil {
				t.Fatalf("bound to %q, which is no method", b.Selector)
			}
			if roles(m) != want.roles {
				t.Errorf("for %q, want %q", roles(m), want.roles)
			}
			if status := max(ruleOf(m).GetStatus(), 200); status != want.status {
				t.Errorf("status %d, want %d", status, want.status)
			}
			if list := shape(t, m, b); list != want.list {
				t.Errorf("list is %q, want %q", list, want.list)
			}
			if err := fieldsExist(m, b); err != "" {
				t.Error(err)
			}
			if b.Body == "" && ruleOf(m).GetBody() != 0 {
				t.Error("a rule about a body that is not read")
			}
			if b.Body != "" && ruleOf(m).GetBody() == 0 {
				t.Error("no rule about the body")
			}
		})
	}
	for route := range bound {
		t.Errorf("%s is not in the index", route)
	}
}

func shape(t *testing.T, m protoreflect.MethodDescriptor, b binding) string {
	t.Helper()
	if b.ResponseBody != "" {
		f := m.Output().Fields().ByName(protoreflect.Name(b.ResponseBody))
		if f == nil || !f.IsList() {
			t.Fatalf("%s has no list %s", m.Output().FullName(), b.ResponseBody)
		}
		return array
	}
	if m.Output().Fields().ByName("next_cursor") != nil {
		return page
	}
	return ""
}

// fieldsExist says what is wrong with the names that a binding uses.
func fieldsExist(m protoreflect.MethodDescriptor, b binding) string {
	fields := m.Input().Fields()
	if b.Body != "" && b.Body != "*" && fields.ByName(protoreflect.Name(b.Body)) == nil {
		return "no field for the body " + b.Body
	}
	for segment := range strings.SplitSeq(b.route(), "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			name = strings.TrimSuffix(strings.TrimSuffix(name, "}"), "=**")
			if f := fields.ByName(protoreflect.Name(name)); f == nil || f.Kind() != protoreflect.StringKind {
				return "no text field for {" + name + "}"
			}
		}
	}
	return ""
}

// The generated gateway, alone, reaches the method that the table names, also where a literal path is beside a parameterised one.
func TestGatewayReachesEveryRoute(t *testing.T) {
	var reached string
	mux := runtime.NewServeMux(runtime.WithMetadata(func(ctx context.Context, _ *http.Request) metadata.MD {
		reached, _ = runtime.RPCMethod(ctx)
		return nil
	}))
	register(t, mux)
	for _, b := range table(t) {
		method, path, _ := strings.Cut(b.route(), " ")
		for _, name := range []string{"{id}", "{run_id}", "{step_id}", "{job_id}", "{id=**}", "{ptr=**}"} {
			path = strings.ReplaceAll(path, name, "x:[1]@2")
		}
		reached = ""
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader("{}")))
		dot := strings.LastIndexByte(b.Selector, '.')
		if want := "/" + b.Selector[:dot] + "/" + b.Selector[dot+1:]; reached != want {
			t.Errorf("%s reaches %q, want %s", b.route(), reached, want)
		}
	}
}

func register(t *testing.T, mux *runtime.ServeMux) {
	t.Helper()
	ctx := t.Context()
	errs := []error{
		cordumv1.RegisterAuthHandlerServer(ctx, mux, cordumv1.UnimplementedAuthServer{}),
		cordumv1.RegisterUsersHandlerServer(ctx, mux, cordumv1.UnimplementedUsersServer{}),
		cordumv1.RegisterStatusHandlerServer(ctx, mux, cordumv1.UnimplementedStatusServer{}),
		cordumv1.RegisterJobsHandlerServer(ctx, mux, cordumv1.UnimplementedJobsServer{}),
		cordumv1.RegisterTracesHandlerServer(ctx, mux, cordumv1.UnimplementedTracesServer{}),
		cordumv1.RegisterWorkflowsHandlerServer(ctx, mux, cordumv1.UnimplementedWorkflowsServer{}),
		cordumv1.RegisterRunsHandlerServer(ctx, mux, cordumv1.UnimplementedRunsServer{}),
		cordumv1.RegisterApprovalsHandlerServer(ctx, mux, cordumv1.UnimplementedApprovalsServer{}),
		cordumv1.RegisterPolicyHandlerServer(ctx, mux, cordumv1.UnimplementedPolicyServer{}),
		cordumv1.RegisterBundlesHandlerServer(ctx, mux, cordumv1.UnimplementedBundlesServer{}),
		cordumv1.RegisterConfigHandlerServer(ctx, mux, cordumv1.UnimplementedConfigServer{}),
		cordumv1.RegisterSchemasHandlerServer(ctx, mux, cordumv1.UnimplementedSchemasServer{}),
		cordumv1.RegisterPacksHandlerServer(ctx, mux, cordumv1.UnimplementedPacksServer{}),
		cordumv1.RegisterMarketplaceHandlerServer(ctx, mux, cordumv1.UnimplementedMarketplaceServer{}),
		cordumv1.RegisterArtifactsHandlerServer(ctx, mux, cordumv1.UnimplementedArtifactsServer{}),
		cordumv1.RegisterLocksHandlerServer(ctx, mux, cordumv1.UnimplementedLocksServer{}),
		cordumv1.RegisterDeadLettersHandlerServer(ctx, mux, cordumv1.UnimplementedDeadLettersServer{}),
		cordumv1.RegisterWorkersHandlerServer(ctx, mux, cordumv1.UnimplementedWorkersServer{}),
		cordumv1.RegisterMemoryHandlerServer(ctx, mux, cordumv1.UnimplementedMemoryServer{}),
	}
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		t.Fatal(errs[i])
	}
}
