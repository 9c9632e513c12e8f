package plane_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/cordum-serverless/cordum/localdev/plane"
	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	docs "github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
)

// Asking policy: REST, gRPC, and what becomes of jobs that are submitted under the same policy.

// workedExample is the document of core.md 4.12.
const workedExample = `
version: "2026.02"
default_tenant: acme
default_decision: deny
rules:
  - id: r1-secrets-net
    match: {secrets_present: true, risk_tags: [network, egress]}
    decision: deny
    reason: secret material may not leave the sandbox
    remediations:
      - id: offline
        title: Run without network
        summary: Use the offline variant of this job
        replacement_topic: job.scan.offline
        replacement_capability: scan.offline
        add_labels: {net: none}
        remove_labels: [egress_host]
  - id: r2-prod-write
    match: {topics: ["job.deploy.*"], risk_tags: [prod], labels: {env: prod}}
    decision: require_approval
    reason: production deploys need a human
    constraints: {budgets: {max_runtime_ms: 900000, max_retries: 1}}
  - id: r3-robots-slow
    match: {capabilities: [report.generate], actor_types: [service]}
    decision: throttle
    reason: service accounts may not burst reports
  - id: r4-gh-read
    match: {topics: ["job.mcp.*"], mcp: {allow_servers: [github], allow_actions: [read, list]}}
    decision: allow
    constraints: {toolchain: {allowed_tools: [search_issues, get_issue]}}
  - id: r5-code-lab
    match: {pack_ids: [code-lab], requires: [docker]}
    decision: allow_with_constraints
    constraints:
      budgets: {max_concurrent_jobs: 3, max_artifact_bytes: 1048576}
      sandbox: {isolated: true, network_allowlist: ["proxy.internal:3128"]}
      diff: {max_files: 20, max_lines: 800, deny_path_globs: ["**/.github/**"]}
      redaction_level: strict
  - id: r6-acme-default
    match: {tenants: [acme], topics: ["job.*"]}
    decision: allow
tenants:
  acme:
    mcp: {deny_tools: [delete_repo]}
`

func workedPlane() plane.Config {
	cfg := config()
	cfg.Policy = []byte(workedExample)
	cfg.Pools = []byte("topics: {job.code.*: code, job.*: main}\npools: {code: {requires: [git, docker]}}")
	return cfg
}

// asked is a job to judge, as all doors take it.
type asked struct {
	topic, tenant   string
	labels          map[string]string
	risk, requires  []string
	capability      string
	actorType, pack string
	safety          string // the safety section of the effective configuration
}

// judged is what a row expects. Constraints, approval and remediations are those of the rule.
type judged struct {
	decision, rule, reason string
	constrained            bool
	remediations           int
}

const (
	r1, r2, r3, r4, r5, r6 = "r1-secrets-net", "r2-prod-write", "r3-robots-slow", "r4-gh-read", "r5-code-lab", "r6-acme-default"
)

var workedRows = []struct {
	name string
	job  asked
	want judged
}{
	{"W-1 secrets by label", asked{topic: "job.scan.full", risk: []string{"network"}, labels: map[string]string{"secrets_present": "true"}},
		judged{"DENY", r1, "secret material may not leave the sandbox", false, 1}},
	{"W-2 tags in any case", asked{topic: "job.scan.full", risk: []string{"Network", "Secrets"}},
		judged{"DENY", r1, "secret material may not leave the sandbox", false, 1}},
	{"W-3 a label does not silence a tag", asked{topic: "job.scan.full", risk: []string{"network", "secrets"}, labels: map[string]string{"secrets_present": "no"}},
		judged{"DENY", r1, "secret material may not leave the sandbox", false, 1}},
	{"W-4 approval", asked{topic: "job.deploy.api", risk: []string{"prod", "write"}, labels: map[string]string{"env": "prod"}},
		judged{"REQUIRE_HUMAN", r2, "production deploys need a human", true, 0}},
	{"W-5 labels know cases", asked{topic: "job.deploy.api", risk: []string{"prod", "write"}, labels: map[string]string{"env": "Prod"}},
		judged{"ALLOW", r6, "", false, 0}},
	{"W-6 throttle", asked{topic: "job.report", capability: "Report.Generate", actorType: "service"},
		judged{"THROTTLE", r3, "service accounts may not burst reports", false, 0}},
	{"W-7 no actor type", asked{topic: "job.report", capability: "report.generate"}, judged{"ALLOW", r6, "", false, 0}},
	{"W-8 mcp", asked{topic: "job.mcp.call", labels: map[string]string{"mcp.server": "GitHub", "mcp.action": "READ", "mcp.tool": "search_issues"}},
		judged{"ALLOW_WITH_CONSTRAINTS", r4, "", true, 0}},
	{"W-9 no mcp", asked{topic: "job.mcp.call"}, judged{"ALLOW", r6, "", false, 0}},
	{"W-10 another action", asked{topic: "job.mcp.call", labels: map[string]string{"mcp.server": "github", "mcp.action": "write"}},
		judged{"ALLOW", r6, "", false, 0}},
	{"W-11 the tenant's tools", asked{topic: "job.mcp.call", labels: map[string]string{"mcp_server": "github", "mcpAction": "read", "mcp.tool": "delete_repo"}},
		judged{"DENY", r4, `mcp tool "delete_repo" denied`, true, 0}},
	{"W-12 a pack", asked{topic: "job.code.run", pack: "code-lab", requires: []string{"git", "Docker"}},
		judged{"ALLOW_WITH_CONSTRAINTS", r5, "", true, 0}},
	{"W-13 without what the rule requires", asked{topic: "job.code.run", pack: "code-lab"}, judged{"ALLOW", r6, "", false, 0}},
	{"W-14 another tenant", asked{topic: "job.x", tenant: "beta"}, judged{"DENY", "", "no matching rule", false, 0}},
	{"W-15 no topic of jobs", asked{topic: "sys.job.submit"}, judged{"DENY", "", "unsupported topic", false, 0}},
	{"W-16 blank topic", asked{topic: " "}, judged{"DENY", "", "missing topic", false, 0}},
	{"W-17 approval, and denied by configuration", asked{
		topic: "job.deploy.api", risk: []string{"prod", "write"}, labels: map[string]string{"env": "prod"}, safety: `{"denied_topics":["job.deploy.*"]}`,
	}, judged{"DENY", r2, "topic 'job.deploy.api' denied by effective config", true, 0}},
	{"W-18 a star spans dots", asked{topic: "job.a.b.c"}, judged{"ALLOW", r6, "", false, 0}},
	{"W-19 a star stops at a slash", asked{topic: "job.a/b"}, judged{"DENY", "", "no matching rule", false, 0}},
	{"W-20 no tenant in the body", asked{topic: "job.a"}, judged{"ALLOW", r6, "", false, 0}},
	{"W-21 tenants in any case", asked{topic: "job.a", tenant: "ACME"}, judged{"ALLOW", r6, "", false, 0}},
	{"W-22 and their lists too", asked{topic: "job.a", tenant: "ACME", labels: map[string]string{"mcp.tool": "delete_repo"}},
		judged{"DENY", r6, `mcp tool "delete_repo" denied`, false, 0}},
	{"W-23 not among what configuration allows", asked{topic: "job.a", safety: `{"allowed_topics":["job.b"]}`},
		judged{"DENY", r6, "topic 'job.a' not allowed by effective config", false, 0}},
}

func (a asked) tenantOr(other string) string {
	if a.tenant != "" {
		return a.tenant
	}
	return other
}

// body is the question over REST.
func (a asked) body() map[string]any {
	b := map[string]any{"job_id": "job-1", "topic": a.topic, "labels": a.labels, "meta": map[string]any{
		"tenant_id": "whatever", "actor_type": a.actorType, "capability": a.capability, "risk_tags": a.risk, "requires": a.requires, "pack_id": a.pack,
	}}
	if a.tenant != "" {
		b["tenant"] = a.tenant
	}
	if a.safety != "" {
		b["effective_config"] = json.RawMessage(`{"safety":` + a.safety + `}`)
	}
	return b
}

// check is the question over gRPC.
func (a asked) check() *agentv1.PolicyCheckRequest {
	q := &agentv1.PolicyCheckRequest{JobId: "job-1", Topic: a.topic, Tenant: a.tenantOr("acme"), Labels: a.labels, Meta: &agentv1.JobMetadata{
		Capability: a.capability, RiskTags: a.risk, Requires: a.requires, PackId: a.pack,
	}}
	if a.actorType == "service" {
		q.Meta.ActorType = agentv1.ActorType_ACTOR_TYPE_SERVICE
	}
	if a.safety != "" {
		q.EffectiveConfig = []byte(`{"safety":` + a.safety + `}`)
	}
	return q
}

// holds compares an answer in protobuf JSON.
func (want judged) holds(t *testing.T, name string, got map[string]any) {
	t.Helper()
	approval := want.decision == "REQUIRE_HUMAN"
	ref := ""
	if approval {
		ref = "job-1"
	}
	constraints, remediations := got["constraints"], got["remediations"].([]any)
	if got["decision"] != "DECISION_TYPE_"+want.decision || got["ruleId"] != want.rule || got["reason"] != want.reason ||
		got["approvalRequired"] != approval || got["approvalRef"] != ref || (constraints != nil) != want.constrained ||
		len(remediations) != want.remediations {
		t.Errorf("%s: %v, want %+v", name, got, want)
	}
	snapshot, _ := got["policySnapshot"].(string)
	if faulty := want.reason == "unsupported topic" || want.reason == "missing topic"; strings.HasPrefix(snapshot, "2026.02:") == faulty {
		t.Errorf("%s: snapshot %q", name, snapshot)
	}
}

func TestT101_TheWorkedExampleOverREST(t *testing.T) {
	virtually(t, workedPlane(), func(t *testing.T, r *rig) {
		for _, row := range workedRows {
			for _, route := range []string{"evaluate", "simulate", "explain"} {
				a := r.as("k-cross", "POST", "/api/v1/policy/"+route, row.job.body(), "X-Tenant-ID", row.job.tenantOr("acme"))
				if row.job.topic == " " { // W-16: over REST the topic is required
					a.refused(http.StatusBadRequest, "topic is required")
					continue
				}
				row.want.holds(t, row.name+" "+route, a.ok(200).object())
			}
		}
		if jobs := r.jobs(""); len(jobs) != 0 {
			t.Errorf("asking has made jobs: %v", jobs)
		}
	})
}

// kernel is a client of SafetyKernel, with a context that carries a key.
func (r *rig) kernel(key string, pairs ...string) (context.Context, agentv1.SafetyKernelClient) {
	r.t.Helper()
	return metadata.AppendToOutgoingContext(r.t.Context(), append([]string{"x-api-key", key}, pairs...)...), agentv1.NewSafetyKernelClient(r.conn())
}

func TestT101_TheWorkedExampleOverGRPC(t *testing.T) {
	virtually(t, workedPlane(), func(t *testing.T, r *rig) {
		ctx, kernel := r.kernel("k-cross")
		for _, row := range workedRows {
			for name, call := range map[string]func(context.Context, *agentv1.PolicyCheckRequest) (*agentv1.PolicyCheckResponse, error){
				"Check": func(ctx context.Context, q *agentv1.PolicyCheckRequest) (*agentv1.PolicyCheckResponse, error) {
					return kernel.Check(ctx, q)
				},
				"Evaluate": func(ctx context.Context, q *agentv1.PolicyCheckRequest) (*agentv1.PolicyCheckResponse, error) {
					return kernel.Evaluate(ctx, q)
				},
				"Simulate": func(ctx context.Context, q *agentv1.PolicyCheckRequest) (*agentv1.PolicyCheckResponse, error) {
					return kernel.Simulate(ctx, q)
				},
			} {
				got, err := call(ctx, row.job.check())
				if err != nil {
					t.Fatalf("%s %s: %v", row.name, name, err)
				}
				text, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(got)
				if err != nil {
					t.Fatal(err)
				}
				var m map[string]any
				if err := json.Unmarshal(text, &m); err != nil {
					t.Fatal(err)
				}
				row.want.holds(t, row.name+" "+name, m)
			}
			explained, err := kernel.Explain(ctx, row.job.check())
			if err != nil || strings.TrimPrefix(explained.GetDecision().String(), "DECISION_TYPE_") != row.want.decision ||
				explained.GetRuleId() != row.want.rule {
				t.Errorf("%s Explain: %v %v", row.name, explained, err)
			}
		}
	})
}

func TestT101_TheWorkedExampleByJobs(t *testing.T) {
	virtually(t, workedPlane(), func(t *testing.T, r *rig) {
		refused := map[string]string{
			"W-15": "topic must start with job.", "W-19": "invalid topic format",
		}
		for _, row := range workedRows {
			name, _, _ := strings.Cut(row.name, " ")
			tenant := row.job.tenantOr("acme")
			if row.job.safety != "" {
				r.document(docs.OrgScope, tenant, `{"safety":`+row.job.safety+`}`)
			}
			b := body("topic", row.job.topic, "labels", row.job.labels, "risk_tags", row.job.risk, "requires", row.job.requires,
				"capability", row.job.capability, "actor_type", row.job.actorType, "pack_id", row.job.pack)
			a := r.as("k-cross", "POST", "/api/v1/jobs", b, "X-Tenant-ID", tenant)
			if text := refused[name]; text != "" {
				a.refused(http.StatusBadRequest, text)
				continue
			}
			want := row.want
			if name == "W-16" { // a submission without a topic is for job.default
				want = judged{"ALLOW", r6, "", false, 0}
			}
			want.decision = strings.Replace(want.decision, "REQUIRE_HUMAN", "REQUIRE_APPROVAL", 1)
			var rc receipt
			a.ok(200).json(&rc)
			var decisions []map[string]any
			r.as("k-cross", "GET", "/api/v1/jobs/"+rc.JobID+"/decisions", nil, "X-Tenant-ID", tenant).ok(200).json(&decisions)
			if len(decisions) != 1 {
				t.Fatalf("%s: %d decisions", row.name, len(decisions))
			}
			d := decisions[0]
			for member, v := range map[string]string{"decision": want.decision, "rule_id": want.rule, "reason": want.reason} {
				if text, _ := d[member].(string); text != v {
					t.Errorf("%s: %s is %q, want %q", row.name, member, text, v)
				}
			}
			remediations, _ := d["remediations"].([]any)
			if (d["constraints"] != nil) != want.constrained || len(remediations) != want.remediations ||
				(d["approval_required"] == true) != (want.decision == "REQUIRE_APPROVAL") {
				t.Errorf("%s: %v", row.name, d)
			}
			if row.job.safety != "" {
				r.document(docs.OrgScope, tenant, `{}`)
			}
		}
	})
}

// document writes a configuration document, whatever it was before.
func (r *rig) document(scope, id, data string) {
	r.t.Helper()
	s := &docs.Store{Table: r.plane.Dispatcher.Jobs.Table}
	d, err := s.Get(r.t.Context(), scope, id)
	if err != nil {
		r.t.Fatal(err)
	}
	d.Data = json.RawMessage(data)
	if _, err := s.Put(r.t.Context(), d, time.Now()); err != nil {
		r.t.Fatal(err)
	}
}

// publish puts a document in force as the base policy.
func (r *rig) publish(document string) {
	r.t.Helper()
	if _, err := r.plane.Dispatcher.Policy.SetBase(r.t.Context(), policy.Source{Content: []byte(document)}, nil, time.Now()); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) evaluate(q map[string]any) map[string]any {
	r.t.Helper()
	return r.post("/api/v1/policy/evaluate", q).ok(200).object()
}

func TestTheShapesOfPolicyAnswers(t *testing.T) {
	virtually(t, workedPlane(), func(t *testing.T, r *rig) {
		ask := func(route, q string) string {
			t.Helper()
			body := r.as("k-cross", "POST", "/api/v1/policy/"+route, q, "X-Tenant-ID", "acme").ok(200).Body
			var m struct {
				Snapshot string `json:"policySnapshot"`
			}
			if err := json.Unmarshal([]byte(body), &m); err != nil {
				t.Fatal(err)
			}
			if m.Snapshot != "" {
				body = strings.Replace(body, m.Snapshot, "SNAP", 1)
			}
			return body
		}
		for _, c := range []struct{ name, route, q, want string }{
			{
				"approval", "evaluate", `{"job_id":"job-1","topic":"job.deploy.a","org_id":"acme","labels":{"env":"prod"},"meta":{"risk_tags":["prod"]},"priority":"batch",
				"estimated_cost":0.4,"budget":{"maxInputTokens":"4000","deadline_ms":60000},"unknown":{"a":[1]}}`,
				`{"decision":"DECISION_TYPE_REQUIRE_HUMAN","reason":"production deploys need a human","redactedContextPtr":"","policySnapshot":"SNAP",` +
					`"ruleId":"r2-prod-write","constraints":{"budgets":{"maxRuntimeMs":"900000","maxRetries":1,"maxArtifactBytes":"0","maxConcurrentJobs":0},` +
					`"sandbox":{"isolated":false,"networkAllowlist":[],"fsReadOnly":[],"fsReadWrite":[]},"toolchain":{"allowedTools":[],"allowedCommands":[]},` +
					`"diff":{"maxFiles":0,"maxLines":0,"denyPathGlobs":[]},"redactionLevel":""},"approvalRequired":true,"approvalRef":"job-1","remediations":[]}`,
			},
			{
				"remediation", "simulate", `{"topic":"job.scan","labels":{"secrets_present":"yes"},"meta":{"riskTags":["egress"]}}`,
				`{"decision":"DECISION_TYPE_DENY","reason":"secret material may not leave the sandbox","redactedContextPtr":"","policySnapshot":"SNAP",` +
					`"ruleId":"r1-secrets-net","constraints":null,"approvalRequired":false,"approvalRef":"","remediations":[{"id":"offline",` +
					`"title":"Run without network","summary":"Use the offline variant of this job","replacementTopic":"job.scan.offline",` +
					`"replacementCapability":"scan.offline","addLabels":{"net":"none"},"removeLabels":["egress_host"]}]}`,
			},
			{
				"a topic that is none", "evaluate", `{"topic":"sys.x"}`,
				`{"decision":"DECISION_TYPE_DENY","reason":"unsupported topic","redactedContextPtr":"","policySnapshot":"","ruleId":"","constraints":null,` +
					`"approvalRequired":false,"approvalRef":"","remediations":[]}`,
			},
			{
				"explained", "explain", `{"topic":"job.a","labels":{"mcp.tool":"x"},"effective_config":{"safety":{"denied_topics":["job.b"]}}}`,
				`{"decision":"DECISION_TYPE_ALLOW","reason":"","redactedContextPtr":"","policySnapshot":"SNAP","ruleId":"r6-acme-default","constraints":null,` +
					`"approvalRequired":false,"approvalRef":"","remediations":[],"trace":[` +
					`{"ruleId":"r1-secrets-net","matched":false,"firstFailedField":"risk_tags"},{"ruleId":"r2-prod-write","matched":false,"firstFailedField":"topics"},` +
					`{"ruleId":"r3-robots-slow","matched":false,"firstFailedField":"capabilities"},{"ruleId":"r4-gh-read","matched":false,"firstFailedField":"topics"},` +
					`{"ruleId":"r5-code-lab","matched":false,"firstFailedField":"requires"},{"ruleId":"r6-acme-default","matched":true,"firstFailedField":""},` +
					`{"ruleId":"tenant:mcp","matched":true,"firstFailedField":""},{"ruleId":"effective_config","matched":true,"firstFailedField":""}]}`,
			},
		} {
			if got := ask(c.route, c.q); got != c.want {
				t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
			}
		}
	})
}

func TestWhoMayAskPolicy(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		q := map[string]any{"topic": "job.test.work"}
		for _, key := range []string{"k-admin", "k-operator", "k-user", "k-viewer", "k-other"} {
			r.as(key, "POST", "/api/v1/policy/evaluate", q).ok(200)
			r.as(key, "GET", "/api/v1/policy/snapshots", nil).ok(200)
		}
		r.as("k-worker", "POST", "/api/v1/policy/evaluate", q).refused(403, "access denied")
		r.as("", "POST", "/api/v1/policy/evaluate", q).refused(401, "unauthorized")
		r.post("/api/v1/policy/evaluate", "{").refused(400, "invalid json")
		r.post("/api/v1/policy/evaluate", map[string]any{"topic": ""}).refused(400, "topic is required")
		for _, member := range []string{"tenant", "org_id"} {
			for _, key := range []string{"k-admin", "k-cross"} {
				r.as(key, "POST", "/api/v1/policy/evaluate", map[string]any{"topic": "job.test.work", member: "other"}).refused(403, "tenant access denied")
			}
		}
		for _, c := range []struct {
			name, key, tenant string
			want              codes.Code
			more              []string
		}{
			{"own tenant", "k-viewer", "default", codes.OK, nil}, {"unnamed", "k-user", "", codes.OK, nil}, {"foreign", "k-admin", "other", codes.PermissionDenied, nil},
			{"across", "k-cross", "other", codes.OK, nil}, {"worker", "k-worker", "", codes.PermissionDenied, nil}, {"nobody", "wrong", "", codes.Unauthenticated, nil},
			{"foreign in metadata", "k-admin", "", codes.PermissionDenied, []string{"x-tenant-id", "other"}},
		} {
			ctx, kernel := r.kernel(c.key, c.more...)
			if _, err := kernel.Check(ctx, &agentv1.PolicyCheckRequest{Topic: "job.test.work", Tenant: c.tenant}); status.Code(err) != c.want {
				t.Errorf("gRPC %s: %v, want %v", c.name, err, c.want)
			}
		}
	})
}

func TestPolicyOutOfReachAnswersNothing(t *testing.T) {
	cfg, s := faulty()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		s.policy.Store(true)
		for _, route := range []string{"evaluate", "simulate", "explain"} {
			r.post("/api/v1/policy/"+route, map[string]any{"topic": "job.test.work"}).refused(503, "safety kernel unavailable")
		}
		r.get("/api/v1/policy/snapshots").refused(503, "safety kernel unavailable")
		ctx, kernel := r.kernel("k-admin")
		if _, err := kernel.Check(ctx, &agentv1.PolicyCheckRequest{Topic: "job.test.work"}); status.Code(err) != codes.Unavailable ||
			!strings.Contains(err.Error(), "safety kernel unavailable") {
			t.Errorf("check: %v", err)
		}
		if _, err := kernel.ListSnapshots(ctx, &agentv1.ListSnapshotsRequest{}); status.Code(err) != codes.Unavailable {
			t.Errorf("snapshots: %v", err)
		}
		s.policy.Store(false)
		s.config.Store(true)
		r.post("/api/v1/policy/evaluate", map[string]any{"topic": "job.test.work", "team_id": "new"}).refused(503, "safety kernel unavailable")
		r.post("/api/v1/policy/evaluate", map[string]any{"topic": "job.test.work", "team_id": "new", "effective_config": map[string]any{}}).ok(200)
	})
}

func TestT117_PoliciesOfLate(t *testing.T) {
	cfg := config()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		list := func() []string {
			var got struct {
				Snapshots []string `json:"snapshots"`
			}
			r.get("/api/v1/policy/snapshots").ok(200).json(&got)
			ctx, kernel := r.kernel("k-viewer")
			same, err := kernel.ListSnapshots(ctx, &agentv1.ListSnapshotsRequest{})
			if err != nil || !slices.Equal(same.GetSnapshots(), got.Snapshots) {
				t.Errorf("gRPC %v %v, REST %v", same, err, got.Snapshots)
			}
			return got.Snapshots
		}
		var want []string
		for n := range 12 {
			r.publish(strings.Replace(testPolicy, `"t1"`, `"v`+string(rune('a'+n))+`"`, 1))
			now := r.evaluate(map[string]any{"topic": "job.test.work"})["policySnapshot"].(string)
			want = slices.Insert(want, 0, now)
			if got := list(); got[0] != now {
				t.Fatalf("in force is %s, the list begins with %s", now, got[0])
			}
		}
		if got := list(); !slices.Equal(got, want[:10]) {
			t.Errorf("%v, want %v", got, want[:10])
		}
		r.document(docs.OrgScope, "default", `{"a":1}`)
		if got := list(); !slices.Equal(got, want[:10]) {
			t.Errorf("a configuration has moved the list: %v", got)
		}
	})
}

func TestP13_NoPolicyAtAll(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		_, _, err := r.plane.Dispatcher.Policy.Change(t.Context(), func(head.Version) (*head.Change, error) { return &head.Change{}, nil })
		if err != nil {
			t.Fatal(err)
		}
		got := r.evaluate(map[string]any{"topic": "job.test.work"})
		if got["decision"] != "DECISION_TYPE_DENY" || got["reason"] != "no matching rule" || got["policySnapshot"] != "empty" {
			t.Errorf("%v", got)
		}
		var list struct{ Snapshots []string }
		if r.get("/api/v1/policy/snapshots").ok(200).json(&list); list.Snapshots[0] != "empty" || len(list.Snapshots) != 2 {
			t.Errorf("%v", list)
		}
		if rc := r.submit(); rc.Status != "denied" || rc.Reason != "no matching rule" {
			t.Errorf("%+v", rc)
		}
	})
}

func TestT114_T115_EveryQuestionGetsItsOwnAnswerByThePolicyInForce(t *testing.T) {
	virtually(t, twoContainers(), func(t *testing.T, r *rig) {
		ask := func(id string) map[string]any {
			return r.evaluate(map[string]any{"job_id": id, "topic": "job.test.ask"})
		}
		a, b := ask("job-a"), ask("job-b")
		if a["approvalRef"] != "job-a" || b["approvalRef"] != "job-b" {
			t.Errorf("%v %v", a, b)
		}
		delete(a, "approvalRef")
		delete(b, "approvalRef")
		if !maps.EqualFunc(a, b, func(x, y any) bool { return equalJSON(x, y) }) {
			t.Errorf("%v\n%v", a, b)
		}
		for n, word := range []string{"deny", "allow", "throttle", "deny", "require_approval"} {
			r.publish(strings.Replace(testPolicy, "decision: require_approval", "decision: "+word, 1))
			want := map[string]string{"deny": "DENY", "allow": "ALLOW", "throttle": "THROTTLE", "require_approval": "REQUIRE_HUMAN"}[word]
			got := ask("job-c")
			if got["decision"] != "DECISION_TYPE_"+want || (got["policySnapshot"] == a["policySnapshot"]) != (word == "require_approval") {
				t.Errorf("%d, %s: %v", n, word, got)
			}
			for c := range r.listeners {
				ctx := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", "k-admin")
				over, err := agentv1.NewSafetyKernelClient(r.connTo(r.dialer(c))).Check(ctx, &agentv1.PolicyCheckRequest{Topic: "job.test.ask"})
				if err != nil || over.GetPolicySnapshot() != got["policySnapshot"] || over.GetDecision().String() != got["decision"] {
					t.Errorf("container %d: %v %v", c, over, err)
				}
			}
		}
	})
}

func equalJSON(a, b any) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && string(x) == string(y)
}
