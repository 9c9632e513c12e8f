package plane_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	contract "github.com/cordum-serverless/cordum/proto"
	optionsv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/options/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/audit/chain"
	"github.com/cordum-serverless/cordum/shared/core/job"
)

// mutation is how a test makes a route change something.
type mutation struct {
	// given makes what the route works on, and answers its name.
	given func(r *rig) string
	// path has %s for the name; body may be nil.
	path string
	body func(name string) any
	// before and after are what the entry says of the change; "*" is anything.
	before, after string
	// wrong are calls that change nothing: path and body.
	wrong []call
	// again says that the same call once more changes nothing.
	again bool
	// about is what the entry is about, where that is not the name.
	about func(name string) string
	// form says that the bodies are forms.
	form bool
	// as logs in who calls; nil is the key of ada.
	as func(r *rig) string
}

func (m mutation) caller(r *rig) string {
	if m.as == nil {
		return "k-ada"
	}
	return m.as(r)
}

type call struct {
	path string
	body any
}

// small is a bundle that brings nothing.
func small(id, version string) []byte {
	return files{"pack.yaml": fmt.Sprintf("metadata: { id: %q, version: %q }\ncompatibility: { protocolVersion: 1 }\n", id, version)}.tgz()
}

// form is a form with a small bundle.
func form(id, version string) string {
	return "--x\r\nContent-Disposition: form-data; name=\"bundle\"; filename=\"p.tgz\"\r\n\r\n" + string(small(id, version)) + "\r\n--x--\r\n"
}

// onlySmall is an internet with one catalog, which has one small bundle.
type onlySmall struct{}

// Get answers the catalog or the bundle.
func (onlySmall) Get(_ context.Context, address string, _ []string, _ int64) ([]byte, error) {
	bundle := small("small", "1.0.0")
	if strings.HasSuffix(address, ".tgz") {
		return bundle, nil
	}
	return json.Marshal(pairs("packs", []any{pairs("id", "small", "version", "1.0.0", "url", "https://packs.example.com/small.tgz", "sha256", digestOf(bundle))}))
}

func denied(r *rig) string { return r.submit("topic", "job.test.wipe").JobID }

// bundle is a document that decides nothing.
var bundle = map[string]any{"content": "rules: [{id: a, match: {topics: [job.none]}, decision: deny}]"}

// waiting is a run that waits for a human.
func waiting(r *rig) string {
	r.saved("flow", "steps", pairs("g", pairs("type", "approval")))
	return r.start("flow", nil)
}

func drafted(r *rig) string {
	r.as("k-ada", "PUT", "/api/v1/policy/bundles/secops~a", bundle).ok(200)
	return "secops/a"
}

func captured(r *rig) string {
	id, _ := r.as("k-ada", "POST", "/api/v1/policy/bundles/snapshots", nil).ok(200).object()["id"].(string)
	return id
}

func waits(r *rig) string { return r.submit("topic", "job.test.ask").JobID }

// mutations are the routes that are built, by the method that answers them. A route that is built and says in the contract that it leaves an audit
// entry must be here: TestEveryMutationLeavesOneEntry asks.
var mutations = map[string]mutation{
	"cordum.v1.Jobs.CreateJob": {
		given: func(*rig) string { return "" }, path: "/api/v1/jobs%s",
		body: func(string) any {
			return map[string]any{"prompt": "x", "topic": "job.test.work", "idempotency_key": "once"}
		},
		wrong: []call{{"/api/v1/jobs", map[string]any{"prompt": ""}}, {"/api/v1/jobs", map[string]any{"prompt": "x", "topic": "nonsense"}}},
		again: true,
	},
	"cordum.v1.Jobs.CancelJob": {
		given: waits, path: "/api/v1/jobs/%s/cancel", before: "APPROVAL_REQUIRED", after: "CANCELLED",
		wrong: []call{{"/api/v1/jobs/unknown/cancel", nil}}, again: true,
	},
	"cordum.v1.Jobs.RemediateJob": {
		given: denied, path: "/api/v1/jobs/%s/remediate", before: "DENIED", after: "*",
		wrong: []call{{"/api/v1/jobs/unknown/remediate", nil}},
	},
	"cordum.v1.Approvals.ApproveJob": {
		given: waits, path: "/api/v1/approvals/%s/approve", before: "APPROVAL_REQUIRED", after: "SCHEDULED",
		wrong: []call{{"/api/v1/approvals/unknown/approve", nil}}, again: true,
	},
	"cordum.v1.Approvals.RejectJob": {
		given: waits, path: "/api/v1/approvals/%s/reject", before: "APPROVAL_REQUIRED", after: "DENIED",
		wrong: []call{{"/api/v1/approvals/unknown/reject", nil}}, again: true,
	},
	"cordum.v1.Bundles.PutBundle": {
		given: func(*rig) string { return "secops/a" }, path: "/api/v1/policy/bundles/%s", after: "*",
		body:  func(string) any { return bundle },
		wrong: []call{{"/api/v1/policy/bundles/secops~a", map[string]any{"content": "rulez: []"}}, {"/api/v1/policy/bundles/a", bundle}},
	},
	"cordum.v1.Bundles.DeleteBundle": {
		given: drafted, path: "/api/v1/policy/bundles/%s", before: "*", wrong: []call{{"/api/v1/policy/bundles/secops~none", nil}}, again: true,
	},
	"cordum.v1.Bundles.CreateBundleSnapshot": {
		given: func(*rig) string { return "*" }, path: "/api/v1/policy/bundles/snapshots", after: "*",
		wrong: []call{{"/api/v1/policy/bundles/snapshots", []int{1}}},
	},
	"cordum.v1.Bundles.Publish": {
		given: func(r *rig) string { drafted(r); return "" }, path: "/api/v1/policy/publish", body: func(string) any { return map[string]any{} },
		before: "*", after: "*", wrong: []call{{"/api/v1/policy/publish", map[string]any{"bundle_ids": []string{"secops/none"}}}},
	},
	"cordum.v1.Bundles.Rollback": {
		given: captured, path: "/api/v1/policy/rollback", body: func(id string) any { return map[string]any{"snapshot_id": id} },
		before: "*", after: "*", wrong: []call{{"/api/v1/policy/rollback", map[string]any{"snapshot_id": "none"}}},
	},
	"cordum.v1.Config.SetConfig": {
		given: func(*rig) string { return "org/default" }, path: "/api/v1/config", after: "1",
		body: func(string) any { return map[string]any{"scope": "org", "data": map[string]any{"a": 1}} },
		wrong: []call{
			{"/api/v1/config", map[string]any{"scope": "orgs"}}, {"/api/v1/config", map[string]any{"scope": "org", "scope_id": "other"}},
			{"/api/v1/config", map[string]any{"bundles": map[string]any{}}},
		},
	},
	"cordum.v1.Auth.ChangePassword": {
		given: func(r *rig) string { return r.user("ada", "admin") }, as: func(r *rig) string { return r.login("ada", password) }, path: "/api/v1/auth/password",
		body: func(string) any { return pairs("current_password", password, "new_password", another) },
		wrong: []call{
			{"/api/v1/auth/password", pairs("current_password", another, "new_password", another)},
			{"/api/v1/auth/password", pairs("current_password", password, "new_password", "weak")},
		},
		again: true,
	},
	"cordum.v1.Users.CreateUser": {
		given: func(*rig) string { return "*" }, path: usersPath, after: "viewer",
		body:  func(string) any { return pairs("username", "maya", "password", password, "role", "viewer") },
		wrong: []call{{usersPath, pairs("username", "maya")}, {usersPath, pairs("username", "maya", "password", password, "tenant", "other")}}, again: true,
	},
	"cordum.v1.Users.UpdateUser": {
		given: func(r *rig) string { return r.user("maya", "viewer") }, path: usersPath + "/%s", before: "viewer", after: "admin",
		body:  func(string) any { return pairs("roles", []string{"admin"}) },
		wrong: []call{{usersPath + "/unknown", pairs("email", "a@b.c")}, {usersPath + "/unknown", pairs("roles", []string{"king"})}},
	},
	"cordum.v1.Users.DeleteUser": {
		given: func(r *rig) string { return r.user("maya", "viewer") }, path: usersPath + "/%s", wrong: []call{{usersPath + "/unknown", nil}}, again: true,
	},
	"cordum.v1.Users.SetPassword": {
		given: func(r *rig) string { return r.user("maya", "viewer") }, path: usersPath + "/%s/password", body: func(string) any { return pairs("password", another) },
		wrong: []call{{usersPath + "/unknown/password", pairs("password", another)}, {usersPath + "/unknown/password", pairs("password", "weak")}},
	},
	"cordum.v1.Users.CreateApiKey": {
		given: func(*rig) string { return "*" }, path: keysPath, after: "jobs:read", body: func(string) any { return pairs("name", "ci", "scopes", []string{"jobs:read"}) },
		wrong: []call{{keysPath, pairs("name", "")}, {keysPath, pairs("name", "ci", "scopes", []string{"all"})}},
	},
	"cordum.v1.Users.DeleteApiKey": {
		given: func(r *rig) string { id, _ := r.key("ci", "jobs:read"); return id }, path: keysPath + "/%s", before: "jobs:read",
		wrong: []call{{keysPath + "/unknown", nil}}, again: true,
	},
	"cordum.v1.Workflows.CreateWorkflow": {
		given: func(*rig) string { return "flow" }, path: "/api/v1/workflows", after: "*",
		body: func(id string) any { return map[string]any{"id": id} },
		wrong: []call{
			{"/api/v1/workflows", map[string]any{"id": "a b"}}, {"/api/v1/workflows", map[string]any{"id": "flow", "org_id": "other"}},
			{"/api/v1/workflows", map[string]any{"id": "flow", "policy_override": "nonsense"}},
		},
	},
	"cordum.v1.Workflows.DeleteWorkflow": {
		given: func(r *rig) string { r.saved("flow"); return "flow" }, path: "/api/v1/workflows/%s", before: "*",
		wrong: []call{{"/api/v1/workflows/unknown", nil}}, again: true,
	},
	"cordum.v1.Runs.StartRun": {
		given: func(r *rig) string { waiting(r); return "*" }, path: "/api/v1/workflows/flow/runs?idempotency_key=once", after: "*",
		wrong: []call{{"/api/v1/workflows/unknown/runs", nil}, {"/api/v1/workflows/flow/runs", []int{1}}}, again: true,
	},
	"cordum.v1.Runs.CancelRun": {
		given: waiting, path: "/api/v1/workflows/flow/runs/%s/cancel", before: "waiting", after: "cancelled",
		wrong: []call{{"/api/v1/workflows/flow/runs/unknown/cancel", nil}}, again: true,
	},
	"cordum.v1.Runs.ApproveStep": {
		given: waiting, path: "/api/v1/workflows/flow/runs/%s/steps/g/approve", body: func(string) any { return map[string]any{"approved": true} },
		before: "APPROVAL_REQUIRED", after: "SUCCEEDED", about: func(run string) string { return run + ":g@1" },
		wrong: []call{{"/api/v1/workflows/flow/runs/unknown/steps/g/approve", map[string]any{"approved": true}}}, again: true,
	},
	"cordum.v1.Runs.DeleteRun": {
		given: waiting, path: "/api/v1/workflow-runs/%s", before: "waiting", wrong: []call{{"/api/v1/workflow-runs/unknown", nil}}, again: true,
	},
	"cordum.v1.Runs.RerunRun": {
		given: waiting, path: "/api/v1/workflow-runs/%s/rerun", before: "waiting", after: "*",
		wrong: []call{{"/api/v1/workflow-runs/unknown/rerun", nil}, {"/api/v1/workflow-runs/unknown/rerun", []int{1}}},
	},
	"cordum.v1.Schemas.RegisterSchema": {
		given: func(*rig) string { return "a/b" }, path: "/api/v1/schemas", after: "*",
		body:  func(id string) any { return map[string]any{"id": id, "schema": map[string]any{}} },
		wrong: []call{{"/api/v1/schemas", map[string]any{"id": "a/b"}}, {"/api/v1/schemas", map[string]any{"id": "", "schema": map[string]any{}}}},
	},
	"cordum.v1.Schemas.DeleteSchema": {
		given: func(r *rig) string {
			r.post("/api/v1/schemas", map[string]any{"id": "a", "schema": map[string]any{}}).ok(204)
			return "a"
		}, path: "/api/v1/schemas/%s", before: "*", wrong: []call{{"/api/v1/schemas/unknown", nil}}, again: true,
	},
	"cordum.v1.Packs.InstallPack": {
		given: func(*rig) string { return "small" }, path: "/api/v1/packs/install", form: true, body: func(id string) any { return form(id, "1.0.0") },
		after: "1.0.0 INACTIVE", again: true,
		wrong: []call{{"/api/v1/packs/install", form("small", "")}, {"/api/v1/packs/install", form("No Id", "1")}, {"/api/v1/packs/install", nil}},
	},
	"cordum.v1.Packs.UninstallPack": {
		given: func(r *rig) string { r.install(small("small", "1.0.0")).ok(200); return "small" }, path: "/api/v1/packs/%s/uninstall",
		before: "1.0.0 INACTIVE", after: "1.0.0 DISABLED", again: true, wrong: []call{{"/api/v1/packs/unknown/uninstall", nil}},
	},
	"cordum.v1.Marketplace.InstallMarketplacePack": {
		given: func(r *rig) string { r.stock(`[{"id":"c","url":"https://packs.example.com/c.json"}]`); return "small" }, path: "/api/v1/marketplace/install",
		body: func(id string) any { return pairs("catalog_id", "c", "pack_id", id) }, after: "1.0.0 INACTIVE", again: true,
		wrong: []call{{"/api/v1/marketplace/install", pairs("catalog_id", "c", "pack_id", "unknown")}, {"/api/v1/marketplace/install", pairs("pack_id", "small")}},
	},
	"cordum.v1.DeadLetters.DeleteDeadLetter": {
		given: denied, path: "/api/v1/dlq/%s", before: "JOB_STATUS_DENIED", wrong: []call{{"/api/v1/dlq/unknown", nil}}, again: true,
	},
	"cordum.v1.DeadLetters.RetryDeadLetter": {
		given: denied, path: "/api/v1/dlq/%s/retry", before: "JOB_STATUS_DENIED", after: "*", wrong: []call{{"/api/v1/dlq/unknown/retry", nil}}, again: true,
	},
	"cordum.v1.DeadLetters.DeleteDeadLetters": {
		given: denied, path: "/api/v1/dlq/delete", before: "JOB_STATUS_DENIED",
		body:  func(id string) any { return map[string]any{"job_ids": []string{id}} },
		wrong: []call{{"/api/v1/dlq/delete", map[string]any{}}, {"/api/v1/dlq/delete", map[string]any{"job_ids": []string{"unknown"}}}}, again: true,
	},
	"cordum.v1.DeadLetters.RetryDeadLetters": {
		given: denied, path: "/api/v1/dlq/retry", before: "JOB_STATUS_DENIED", after: "*",
		body:  func(id string) any { return map[string]any{"job_ids": []string{id}} },
		wrong: []call{{"/api/v1/dlq/retry", map[string]any{}}, {"/api/v1/dlq/retry", map[string]any{"job_ids": []string{"unknown"}}}}, again: true,
	},
}

// auditedRoutes are the routes of the contract that leave an entry: method, verb and what the entry says.
func auditedRoutes(t *testing.T) map[string]struct{ verb, path, audit string } {
	t.Helper()
	var doc struct {
		HTTP struct {
			Rules []map[string]string `yaml:"rules"`
		} `yaml:"http"`
	}
	if err := yaml.Unmarshal(contract.RoutesYAML, &doc); err != nil {
		t.Fatal(err)
	}
	out := map[string]struct{ verb, path, audit string }{}
	for _, rule := range doc.HTTP.Rules {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(rule["selector"]))
		if err != nil {
			t.Fatal(err)
		}
		said, _ := proto.GetExtension(d.Options(), optionsv1.E_Rule).(*optionsv1.MethodRule)
		if said.GetAudit() == "" || strings.HasPrefix(said.GetAudit(), "none") {
			continue
		}
		for _, verb := range []string{"put", "post", "delete"} {
			if path := rule[verb]; path != "" {
				out[rule["selector"]] = struct{ verb, path, audit string }{strings.ToUpper(verb), path, said.GetAudit()}
			}
		}
	}
	return out
}

// trail answers the entries of a tenant, and the first decisions of its jobs, with the request id.
func (r *rig) trail(tenant, requestID string) (entries []audit.Entry, submitted []job.Decision) {
	r.t.Helper()
	l := &audit.Log{Table: r.plane.Dispatcher.Jobs.Table}
	for until := int64(0); ; {
		page, next, err := l.List(r.t.Context(), tenant, 50, until)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, e := range page {
			if requestID == "" || e.RequestID == requestID {
				entries = append(entries, e)
			}
		}
		if until = next; next == 0 {
			break
		}
	}
	for e, err := range chain.List(r.t.Context(), r.plane.Dispatcher.Jobs.Table, r.plane.Dispatcher.Jobs.Blobs, time.Now()) {
		if err != nil {
			r.t.Fatal(err)
		}
		var d job.Decision
		if e.Decision != nil && json.Unmarshal(e.Decision, &d) == nil && d.By != nil && d.By.Tenant == tenant && (requestID == "" || d.By.RequestID == requestID) {
			submitted = append(submitted, d)
		}
	}
	return entries, submitted
}

// entries answers all entries of a tenant, newest first.
func (r *rig) entries(tenant string) []audit.Entry {
	r.t.Helper()
	entries, _ := r.trail(tenant, "")
	return entries
}

func TestEveryMutationLeavesOneEntry(t *testing.T) {
	routes := auditedRoutes(t)
	for method := range mutations {
		if _, ok := routes[method]; !ok {
			t.Errorf("%s leaves no entry by the contract", method)
		}
	}
	built := 0
	cfg := config()
	cfg.Internet = onlySmall{}
	for method, route := range routes {
		m, known := mutations[method]
		t.Run(method, func(t *testing.T) {
			virtually(t, cfg, func(t *testing.T, r *rig) {
				if !known {
					if got := r.as("k-ada", route.verb, strings.NewReplacer("{", "", "}", "", "=**", "").Replace(route.path), map[string]any{}); got.Status != 501 {
						t.Errorf("it is built (%d) and no mutation of this test", got.Status)
					}
					return
				}
				built++
				r.mutate(route.verb, route.audit, m)
			})
		})
	}
	if built != len(mutations) {
		t.Errorf("%d of %d mutations were tried", built, len(mutations))
	}
}

func (r *rig) mutate(verb, said string, m mutation) {
	r.t.Helper()
	name := m.given(r)
	var body any
	if m.body != nil {
		body = m.body(name)
	}
	path := m.path
	if strings.Contains(path, "%s") {
		path = fmt.Sprintf(path, strings.ReplaceAll(name, "/", "~"))
	}
	key := m.caller(r)
	do := func(id, path string, body any) answer {
		headers := []string{"X-Request-Id", id}
		if m.form {
			headers = append(headers, "Content-Type", "multipart/form-data; boundary=x")
		}
		return r.as(key, verb, path, body, headers...)
	}
	for i, wrong := range m.wrong {
		id := fmt.Sprintf("wrong-%d", i)
		do(id, wrong.path, wrong.body)
		if entries, submitted := r.trail("default", id); len(entries)+len(submitted) != 0 {
			r.t.Errorf("what changes nothing (%s) left %v %v", wrong.path, entries, submitted)
		}
	}
	before := time.Now().UnixMicro()
	if got := do("the-request", path, body); got.Status/100 != 2 {
		r.t.Fatalf("status %d: %s", got.Status, got.Body)
	}
	entries, submitted := r.trail("default", "the-request")
	action, resource, _ := strings.Cut(said, " ")
	if action == "submit" {
		if len(entries) != 0 || len(submitted) != 1 {
			r.t.Fatalf("entries %v, decisions %v", entries, submitted)
		}
		if d := submitted[0]; *d.By != (audit.Origin{Cause: "submit", Tenant: "default", ActorID: "ada", Role: "admin", KeyID: d.By.KeyID, RequestID: "the-request"}) ||
			d.By.KeyID == "" || d.CheckedAt < before || d.CheckedAt > before+time.Second.Microseconds() {
			r.t.Errorf("decision %+v by %+v", d, d.By)
		}
	} else {
		if len(entries) != 1 {
			r.t.Fatalf("%d entries: %+v", len(entries), entries)
		}
		e := entries[0]
		if m.about != nil {
			name = m.about(name)
		}
		if e.Action != action || e.ResourceType != resource || !says(name, e.ResourceID) || e.ActorID != "ada" || e.Role != "admin" || e.KeyID == "" || e.Tenant != "default" {
			r.t.Errorf("entry %+v", e)
		}
		if e.At < before || e.At > before+time.Second.Microseconds() || !says(m.before, e.Before) || !says(m.after, e.After) {
			r.t.Errorf("entry at %d (now is %d) from %q to %q", e.At, before, e.Before, e.After)
		}
	}
	if m.again {
		do("once-more", path, body)
		if entries, submitted := r.trail("default", "once-more"); len(entries)+len(submitted) != 0 {
			r.t.Errorf("once more changes nothing, and left %v %v", entries, submitted)
		}
	}
	if entries, submitted := r.trail("other", ""); len(entries)+len(submitted) != 0 {
		r.t.Errorf("another tenant sees %v %v", entries, submitted)
	}
}

func says(want, got string) bool { return want == got || want == "*" && got != "" }

// A result of a worker that does not have the job leaves one entry, however often it comes.
func TestT150_AResultFromAnotherWorkerIsInTheTrail(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		holder := r.connect("k-worker-default", "w1", "main", 1)
		id := r.submit().JobID
		holder.job()
		for _, liar := range []*raw{r.connect("k-worker-other", "w2", "main", 1), r.connect("k-worker-default", "w3", "main", 1)} {
			for range 20 {
				liar.result(id, ok, "")
				if code := liar.answer(id); code != "IGNORED" {
					t.Errorf("answer %q", code)
				}
			}
		}
		queued := r.poller("k-worker-other", "p9", "main")
		for range 3 {
			queued.say(1, "jobResult", map[string]any{"jobId": id, "status": "JOB_STATUS_SUCCEEDED", "workerId": "p9"})
		}
		holder.result(id, ok, "")
		holder.answer(id)
		holder.result(id, ok, "") // a repetition of its own word is none
		holder.answer(id)
		entries, _ := r.trail("default", "")
		var actors []string
		for _, e := range entries {
			actors = append(actors, e.ActorID)
			if e.Action != "ignore_result" || e.ResourceID != id || e.Role != "worker" || !strings.Contains(e.Message, "not held by worker") {
				t.Errorf("entry %+v", e)
			}
		}
		if slices.Sort(actors); fmt.Sprint(actors) != "[p9 w2 w3]" {
			t.Errorf("entries of %v", actors)
		}
		if entries, _ := r.trail("other", ""); len(entries) != 0 {
			t.Errorf("another tenant sees %v", entries)
		}
	})
}

// An order to cancel leaves an entry for every job that it ends.
func TestChildrenThatAreCancelledHaveEntries(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		parent := waits(r)
		child := r.submit("topic", "job.test.ask", "parent_job_id", parent).JobID
		r.post("/api/v1/jobs/"+parent+"/cancel", nil).ok(200)
		entries, _ := r.trail("default", "")
		if len(entries) != 2 || entries[1].ResourceID != parent || entries[0].ResourceID != child || entries[0].Message != "parent job "+parent+" was cancelled" {
			t.Errorf("entries %+v", entries)
		}
	})
}

// A decision that the plane makes again says why; all decisions are sealed, once, and the chains hold.
func TestDecisionsAreSealed(t *testing.T) {
	virtually(t, everyMinute(), func(t *testing.T, r *rig) {
		slow := r.submit("topic", "job.test.slow").JobID
		for range 20 {
			r.submit("topic", "job.test.ask")
		}
		time.Sleep(10*time.Minute + 30*time.Second) // between two runs of the sealer
		var causes []string
		sealed := 0
		for e, err := range chain.List(t.Context(), r.plane.Dispatcher.Jobs.Table, r.plane.Dispatcher.Jobs.Blobs, time.Now()) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Block > 0 {
				sealed++
			}
			var d job.Decision
			if err := json.Unmarshal(e.Decision, &d); err == nil && e.PK == job.Partition(slow) {
				causes = append(causes, d.By.Cause)
			}
		}
		if len(causes) < 3 || causes[len(causes)-1] != "submit" || causes[0] != "it was due" || sealed < 22 {
			t.Errorf("causes %v, %d entries are sealed", causes, sealed)
		}
		if v := r.verify(nil); len(v.Findings) != 0 || v.Sealed != sealed || v.Head == nil {
			t.Errorf("verdict %+v", v)
		}
	})
}

// A submission that came to nothing is no entry: its body lies in the log, and no job names it.
func TestASubmissionThatCameToNothingIsNotSealed(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		d := r.plane.Dispatcher
		kept := r.submit("topic", "job.test.ask")
		rec, err := d.Jobs.Load(t.Context(), "default", kept.JobID, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		body, err := d.Jobs.Body(t.Context(), rec, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		again := *rec
		again.Body = "another"
		var stale *job.StaleError
		if err := d.Jobs.Create(t.Context(), &again, body, 0); !errors.As(err, &stale) {
			t.Fatalf("created twice: %v", err)
		}
		time.Sleep(20*time.Minute + 30*time.Second)
		if v := r.verify(nil); len(v.Findings) != 0 || v.Sealed != 1 {
			t.Errorf("verdict %+v", v)
		}
	})
}

func (r *rig) verify(earlier *chain.Head) *chain.Verdict {
	r.t.Helper()
	d := r.plane.Dispatcher
	v := &chain.Verifier{Table: d.Jobs.Table, Blobs: d.Jobs.Blobs, Now: time.Now(), Trusted: r.plane.Sealer.Keys.Public(), Earlier: earlier}
	verdict, err := v.Run(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return verdict
}

// Entries that share a microsecond, more than a page holds, are all answered.
func TestPagingOverEntriesOfOneMicrosecondIsComplete(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		table := r.plane.Dispatcher.Jobs.Table
		const one, many = int64(1_790_000_000_000_000), 1000
		write := func(at int64, name string) {
			e := audit.Entry{Tenant: "crowd", At: at, Action: "test", ResourceType: "thing", ResourceID: name}
			if err := table.Write(context.Background(), e.Op()); err != nil {
				t.Fatal(err)
			}
		}
		for i := range many {
			write(one, fmt.Sprint("same ", i))
		}
		for i := range 10 {
			write(one+int64(1+i/2), fmt.Sprint("newer ", i))
			write(one-int64(1+i/2), fmt.Sprint("older ", i))
		}
		for _, limit := range []int{1, 2, 3, 7, 100, 999, 1000, 1010, 5000} {
			seen, last, pages := map[string]bool{}, int64(1<<62), 0
			l := &audit.Log{Table: table}
			for until := int64(0); ; pages++ {
				page, next, err := l.List(t.Context(), "crowd", limit, until)
				if err != nil {
					t.Fatal(err)
				}
				if len(page) > limit && page[0].At != page[len(page)-1].At {
					t.Errorf("a page of %d entries, more than %d", len(page), limit)
				}
				for _, e := range page {
					if seen[e.ResourceID] || e.At > last {
						t.Fatalf("limit %d: %s comes twice or late", limit, e.ResourceID)
					}
					seen[e.ResourceID], last = true, e.At
				}
				if until = next; next == 0 {
					break
				}
			}
			if len(seen) != many+20 || pages > many {
				t.Errorf("limit %d: %d entries on %d pages", limit, len(seen), pages)
			}
		}
	})
}

// The doors of gRPC that change something leave what those of REST do.
func TestASubmissionOverGRPCNamesItsRequest(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", "k-ada", "x-request-id", "by-grpc")
		res, err := cordumv1.NewCordumApiClient(r.conn()).SubmitJob(ctx, &cordumv1.SubmitJobRequest{Prompt: "p", Topic: "job.test.work"})
		if err != nil {
			t.Fatal(err)
		}
		if entries, submitted := r.trail("default", "by-grpc"); len(entries) != 0 || len(submitted) != 1 || submitted[0].By.ActorID != "ada" || res.GetJobId() == "" {
			t.Errorf("entries %v, decisions %v", entries, submitted)
		}
	})
}
