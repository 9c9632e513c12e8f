package policy_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/policy"
)

func TestT105_T106_T107_RefusedWithTheirPlace(t *testing.T) {
	rule := func(rest string) string { return "rules:\n  - id: a\n    decision: deny\n" + rest }
	tests := []struct{ name, text, want string }{
		{"T-105 topic glob", rule("    match:\n      topics: [job.a, 'job.[']"), `p:5:23: "job.[" is not a valid glob`},
		{"T-105 capability glob", rule("    match: {capabilities: ['a[b-']}"), `p:4:28: "a[b-" is not a valid glob`},
		{"T-105 tenant glob", "tenants: {a: {deny_topics: ['job.\\']}}", `p:1:29: "job.\\" is not a valid glob`},
		{"T-106 top level", "rulez: []", `p:1:1: unknown key "rulez" in a policy; known are approvals, default_decision, default_tenant, input_policy, output_policy,` +
			` output_rules, rules, tenants, version`},
		{"T-106 rule", rule("    matches: {}"), `p:4:5: unknown key "matches" in a rule; known are constraints, decision, id, match, reason,` +
			` remediations, throttle_duration, velocity`},
		{"T-106 match", rule("    match: {topic: [job.a]}"), `p:4:13: unknown key "topic" in match; known are`},
		{"T-106 mcp", rule("    match: {mcp: {allow_server: [a]}}"), `p:4:19: unknown key "allow_server" in mcp; known are`},
		{"T-106 constraints", rule("    constraints: {budget: {}}"), `p:4:19: unknown key "budget" in constraints; known are`},
		{"T-106 budgets", rule("    constraints: {budgets: {max_runtime: 1}}"), `p:4:29: unknown key "max_runtime" in budgets; known are`},
		{"T-106 sandbox", rule("    constraints: {sandbox: {isolate: true}}"), `p:4:29: unknown key "isolate" in sandbox; known are`},
		{"T-106 toolchain", rule("    constraints: {toolchain: {tools: []}}"), `p:4:31: unknown key "tools" in toolchain; known are`},
		{"T-106 diff", rule("    constraints: {diff: {files: 1}}"), `p:4:26: unknown key "files" in diff; known are`},
		{"T-106 remediation", rule("    remediations: [{name: x}]"), `p:4:21: unknown key "name" in a remediation; known are`},
		{"T-106 velocity", rule("    velocity: {max: 1}"), `p:4:16: unknown key "max" in velocity; known are key, max_requests, window_seconds`},
		{"T-106 tenant", "tenants:\n  acme: {allow: []}", `p:2:10: unknown key "allow" in a tenant; known are`},
		{"T-106 in JSON", "{\n  \"rules\": [\n    {\"id\": \"a\", \"decision\": \"deny\", \"wrong\": 1}]}", `p:3:37: unknown key "wrong" in a rule`},
		{"T-106 approvals", "approvals: {expires_after: 1h}", `p:1:13: unknown key "expires_after" in approvals; known are expire_after, self_approval`},
		{"approvals that are no object", "approvals: forbid", `p:1:12: approvals must be an object`},
		{"an expiry of a number", "approvals: {expire_after: 3600}", `p:1:27: must be a duration from 1s to 8760h, such as 24h`},
		{"an expiry of days", "approvals: {expire_after: 1d}", `p:1:27: must be a duration from 1s to 8760h, such as 24h`},
		{"an expiry of zero", "approvals: {expire_after: 0s}", `p:1:27: must be a duration from 1s to 8760h, such as 24h`},
		{"an expiry of more than a year", "approvals:\n  expire_after: 8760h1s", `p:2:17: must be a duration from 1s to 8760h, such as 24h`},
		{"self-approval of another word", "approvals: {self_approval: deny}", `p:1:28: must be allow or forbid`},
		{"self-approval of a boolean", "approvals: {self_approval: false}", `p:1:28: must be allow or forbid`},
		{"T-107 no decision", "rules:\n  - id: a\n    reason: b", `p:2:5: rule "a" has no decision`},
		{"T-107 a null decision", "rules: [{id: a, decision: }]", `p:1:9: rule "a" has no decision`},
		{"decision in upper case", "rules: [{id: a, decision: DENY}]", `p:1:27: "DENY" is not a decision; one of allow, allow-with-constraints,` +
			` allow_with_constraints, block, deny, permit, require-approval, require-human, require_approval, require_human, throttle`},
		{"decision of a number", "rules: [{id: a, decision: 1}]", `p:1:27: "" is not a decision; one of`},
		{"default of another word", "default_decision: permit", `p:1:19: must be allow or deny`},
		{"two rules of one id", "rules:\n  - {id: a, decision: deny}\n  - {id: ' a', decision: allow}",
			`p:3:5: rule id "a" is taken by the rule at line 2`},
		{"a key twice", "version: a\nversion: b", `p:2:1: mapping key "version" already defined at [1:1]`},
		{"a key twice in JSON", `{"version": "a", "version": "b"}`, `p:1:18: key "version" stands here twice`},
		{"a tenant twice", "tenants: {acme: {}, ACME: {}}", `p:1:21: tenant "acme" stands here twice; case does not count`},
		{"a tenant without a name", `tenants: {" ": {}}`, `p:1:11: a tenant needs a name`},
		{"a version that is a number", "version: 2026.02", `p:1:10: must be text; quote it`},
		{"rules that are no list", "rules: {id: a}", `p:1:8: must be a list`},
		{"a rule that is no object", "rules: [deny]", `p:1:9: a rule must be an object`},
		{"a word where a list belongs", rule("    match: {topics: job.a}"), `p:4:21: must be a list`},
		{"a blank word", rule("    match: {tenants: [' ']}"), `p:4:23: must be text that is not blank; quote numbers and true, false`},
		{"a number among words", rule("    match: {tenants: [12]}"), `p:4:23: must be text that is not blank; quote numbers and true, false`},
		{"a null among words", rule("    match: {tenants: [~]}"), `p:4:23: must be text that is not blank; quote numbers and true, false`},
		{"an actor type", rule("    match: {actor_types: [human, robot]}"), `p:4:34: must be human or service`},
		{"a label that is a number", rule("    match: {labels: {port: 80}}"), `p:4:28: must be text; quote it`},
		{"labels that are a list", rule("    match: {labels: [a]}"), `p:4:21: labels must be an object`},
		{"secrets_present that is text", rule("    match: {secrets_present: yes}"), `p:4:30: must be true or false`},
		{"isolated that is text", rule("    constraints: {sandbox: {isolated: yes}}"), `p:4:39: must be true or false`},
		{"a negative limit", rule("    constraints: {budgets: {max_retries: -1}}"), `p:4:42: must not be negative`},
		{"half a retry", rule("    constraints: {budgets: {max_retries: 1.5}}"), `p:4:42: must be a whole number`},
		{"a limit beyond the wire", rule("    constraints: {diff: {max_files: 2147483648}}"), `p:4:37: must be at most 2147483647`},
		{"a limit beyond everything", rule("    constraints: {budgets: {max_artifact_bytes: 18446744073709551615}}"), `p:4:49: must be a whole number`},
		{"a run time of a century", rule("    constraints: {budgets: {max_runtime_ms: 3153600000000}}"), `p:4:45: must be at most 315360000000`},
		{"throttle_duration of a number", rule("    throttle_duration: 30"), `p:4:24: must be a duration above zero, such as 30s`},
		{"throttle_duration of zero", rule("    throttle_duration: 0s"), `p:4:24: must be a duration above zero, such as 30s`},
		{"throttle_duration of a deny", rule("    throttle_duration: 30s"), `p:2:5: rule "a": throttle_duration is for the decision throttle`},
		{"velocity without a window", rule("    velocity: {max_requests: 1}"), `p:4:15: velocity needs max_requests and window_seconds, both above zero`},
		{"velocity of two days", rule("    velocity: {max_requests: 1, window_seconds: 172800}"), `p:4:49: must be at most 86400`},
		{"velocity by something else", rule("    velocity: {max_requests: 1, window_seconds: 1, key: 'tenant:zone'}"),
			`p:4:57: "zone" is not part of a job; one of tenant, topic, actor_id, actor_type, capability, pack_id, labels.<name>`},
		{"velocity by a label without a name", rule("    velocity: {max_requests: 1, window_seconds: 1, key: labels.}"),
			`p:4:57: "labels." is not part of a job`},
		{"not YAML", "rules: [", `p:1:8: sequence end token ']' not found`},
		{"tabs", "rules:\n\t- id: a", `p:2:1: found character '	' that cannot start any token`},
		{"two documents", "version: a\n---\nversion: b", `p:3:1: more than one document`},
		{"a list", "- id: a", `p:1:1: a policy must be an object`},
		{"JSON of a word", `"rules"`, `p:1:1: a policy must be an object`},
		{"a key that is no text", "1: 2", `p:1:1: a key must be text; quote it`},
		{"merge keys", "rules: [{<<: {id: a}, decision: deny}]", `p:1:10: merge keys are not supported; write the members out`},
		{"an unknown anchor", "version: *v", `p:1:10: no anchor is called "v"`},
		{"an anchor inside itself", "rules: &r [*r]", `p:1:12: no anchor is called "r"`},
		{"a tag", "version: !!str 1", `p:1:10: Tag is not supported here`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := policy.Parse("p", []byte(tt.text))
			var e *policy.Error
			if d != nil || !errors.As(err, &e) {
				t.Fatalf("document %+v, error %v", d, err)
			}
			if !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
		})
	}
}

func TestParseLimits(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"nesting of YAML", strings.Repeat("[", 100_000), "p: nested deeper than 100 levels"},
		{"nesting of lists", strings.Repeat("- ", 100_000), "p: nested deeper than 100 levels"},
		{"nesting of lists in a list", "rules: [" + strings.Repeat("- ", 100_000), "p: nested deeper than 100 levels"},
		{"nesting that the parser takes", "rules: " + strings.Repeat("[", 200) + "x" + strings.Repeat("]", 200), "p:1:108: nested deeper than 100 levels"},
		{"nesting of JSON", strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "p:1:102: nested deeper than 100 levels"},
		{"aliases of aliases", bomb(), "more than 131072 values"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			if _, err := policy.Parse("p", []byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %s", err, tt.want)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestParseEverything(t *testing.T) {
	const text = `
# A comment.
version: "1"
default_tenant: acme
default_decision: allow
approvals: {expire_after: 36h, self_approval: forbid}
input_policy: {fail_mode: closed}
output_policy: {enabled: true, fail_mode: open}
output_rules: [{id: x, anything: [goes]}]
rules:
  - id: full
    match:
      tenants: &names [acme]
      topics: ["job.*"]
      capabilities: [a.b]
      risk_tags: [prod]
      requires: [docker]
      pack_ids: *names
      actor_ids: [maya]
      actor_types: [human]
      labels: {env: prod, port: "80"}
      secrets_present: false
      mcp:
        allow_servers: [s]
        deny_servers: [s2]
        allow_tools: [t]
        deny_tools: [t2]
        allow_resources: [r]
        deny_resources: [r2]
        allow_actions: [a]
        deny_actions: [a2]
    decision: throttle
    reason: >-
      because
      so
    constraints:
      budgets: {max_runtime_ms: 1, max_retries: 2, max_artifact_bytes: 3, max_concurrent_jobs: 4}
      sandbox: {isolated: true, network_allowlist: [n], fs_read_only: [ro], fs_read_write: [rw]}
      toolchain: {allowed_tools: [t], allowed_commands: [c]}
      diff: {max_files: 5, max_lines: 6, deny_path_globs: ["**"]}
      redaction_level: high
    remediations:
      - {id: m, title: T, summary: S, replacement_topic: job.m, replacement_capability: c, add_labels: {a: b}, remove_labels: [c]}
    velocity: {max_requests: 7, window_seconds: 8, key: "tenant:labels.env"}
    throttle_duration: 9s
tenants:
  Acme:
    allow_topics: [job.a]
    deny_topics: [job.b]
    allowed_repo_hosts: [h]
    denied_repo_hosts: [h2]
    max_concurrent_jobs: 10
    mcp: {allow_servers: [s]}
`
	no := false
	want := &policy.Document{
		Name: "p", Version: "1", DefaultTenant: "acme", DefaultDecision: "allow",
		Approvals: policy.ApprovalTerms{ExpireAfter: "36h", Expiry: 36 * time.Hour, SelfApproval: "forbid"},
		Rules: []policy.Rule{{
			ID: "full",
			Match: policy.Match{
				Tenants: []string{"acme"}, Topics: []string{"job.*"}, Capabilities: []string{"a.b"}, RiskTags: []string{"prod"},
				Requires: []string{"docker"}, PackIDs: []string{"acme"}, ActorIDs: []string{"maya"}, ActorTypes: []string{"human"},
				Labels: map[string]string{"env": "prod", "port": "80"}, SecretsPresent: &no,
				MCP: policy.MCP{
					AllowServers: []string{"s"}, DenyServers: []string{"s2"}, AllowTools: []string{"t"}, DenyTools: []string{"t2"},
					AllowResources: []string{"r"}, DenyResources: []string{"r2"}, AllowActions: []string{"a"}, DenyActions: []string{"a2"},
				},
			},
			Decision: "throttle", Verdict: policy.Throttle, Reason: "because so",
			Constraints: &policy.Constraints{
				Budgets:        policy.Budgets{MaxRuntimeMS: 1, MaxRetries: 2, MaxArtifactBytes: 3, MaxConcurrentJobs: 4},
				Sandbox:        policy.Sandbox{Isolated: true, NetworkAllowlist: []string{"n"}, FSReadOnly: []string{"ro"}, FSReadWrite: []string{"rw"}},
				Toolchain:      policy.Toolchain{AllowedTools: []string{"t"}, AllowedCommands: []string{"c"}},
				Diff:           policy.Diff{MaxFiles: 5, MaxLines: 6, DenyPathGlobs: []string{"**"}},
				RedactionLevel: "high",
			},
			Remediations: []policy.Remediation{{
				ID: "m", Title: "T", Summary: "S", ReplacementTopic: "job.m", ReplacementCapability: "c",
				AddLabels: map[string]string{"a": "b"}, RemoveLabels: []string{"c"},
			}},
			Velocity:         &policy.Velocity{MaxRequests: 7, WindowSeconds: 8, Key: "tenant:labels.env"},
			ThrottleDuration: "9s", Throttle: 9 * time.Second,
		}},
		Tenants: map[string]policy.Tenant{"acme": {
			AllowTopics: []string{"job.a"}, DenyTopics: []string{"job.b"}, AllowedRepoHosts: []string{"h"}, DeniedRepoHosts: []string{"h2"},
			MaxConcurrentJobs: 10, MCP: policy.MCP{AllowServers: []string{"s"}},
		}},
	}
	got, err := policy.Parse("p", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	again, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if got, err = policy.Parse("p", again); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("through JSON: %v\n%s", err, again)
	}
}

func TestParseNothing(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "null", "{}", "rules:\ntenants:\nversion: ~\n", "rules: []"} {
		if d, err := policy.Parse("p", []byte(text)); err != nil || len(d.Rules)+len(d.Tenants) != 0 || d.Version != "" {
			t.Errorf("%q: %+v, %v", text, d, err)
		}
	}
}

func TestDecisionWords(t *testing.T) {
	for word, verdict := range map[string]policy.Verdict{
		"allow": policy.Allow, "permit": policy.Allow, "deny": policy.Deny, "block": policy.Deny,
		"require_approval": policy.RequireApproval, "require-approval": policy.RequireApproval,
		"require_human": policy.RequireApproval, "require-human": policy.RequireApproval, "throttle": policy.Throttle,
		"allow_with_constraints": policy.AllowWithConstraints, "allow-with-constraints": policy.AllowWithConstraints,
	} {
		p := compile(t, "rules: [{decision: "+word+"}]")
		if d := p.Decide(&policy.Request{Topic: "job.a"}); d.Verdict != verdict {
			t.Errorf("%s is %s", word, d.Verdict)
		}
	}
}

func TestConstraintsAsJSON(t *testing.T) {
	p := compile(t, "rules: [{decision: allow, constraints: {budgets: {max_runtime_ms: 60000}}}]")
	text, err := json.Marshal(p.Decide(&policy.Request{Topic: "job.a"}).Constraints)
	if want := `{"budgets":{"max_runtime_ms":60000},"sandbox":{},"toolchain":{},"diff":{}}`; err != nil || string(text) != want {
		t.Errorf("%s, %v; want %s", text, err, want)
	}
}

// The policy of every pack in testdata, the local plane's, and that of a new deployment, load.
func TestExamplesLoad(t *testing.T) {
	files, err := filepath.Glob("testdata/packs/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range append(files, "../../../localdev/seed/policy.yaml", "../../../infra/seed/policy.yaml") {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := policy.Parse(file, raw); err != nil || len(d.Rules) == 0 {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "rules: [{id: a, decision: deny}]", `{"rules": [{"id": "\u00e4\/", "decision": "allow"}]}`,
		"version: &v '1'\ndefault_tenant: *v\n", "rules:\n  - id: a\n    match: {topics: [job.*], labels: {a: b}}\n    decision: throttle\n    throttle_duration: 5s\n",
		"tenants: {a: {mcp: {deny_tools: [x]}, allow_topics: [job.a]}}", "a: |\n  b\n---\n- ? c\n  : d\n", "rules: [{<<: *a}]", "\xef\xbb\xbfversion: a",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := policy.Parse("fuzz", raw)
		var e *policy.Error
		if err != nil {
			if !errors.As(err, &e) || e.Source != "fuzz" || e.Message == "" || d != nil {
				t.Fatalf("%+v, %v", d, err)
			}
			return
		}
		p, err := policy.Compile(&policy.Source{Name: "fuzz", Content: raw}, nil)
		if err != nil {
			t.Fatalf("parses, but does not compile: %v", err)
		}
		p.Explain(&policy.Request{Topic: "job.a", Tenant: "a", Labels: map[string]string{"mcp.tool": "x"}})
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > policy.MaxDocument { // JSON has no aliases
			return
		}
		if _, err := policy.Parse("again", text); err != nil {
			t.Fatalf("its JSON is refused: %v\n%s", err, text)
		}
	})
}
