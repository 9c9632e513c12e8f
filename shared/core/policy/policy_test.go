package policy_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/corpus"
)

func compile(t testing.TB, base string, fragments ...policy.Fragment) *policy.Policy {
	t.Helper()
	p, err := policy.Compile(&policy.Source{Name: "policy.yaml", Content: []byte(base)}, fragments)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func fragment(key, content string) policy.Fragment {
	return policy.Fragment{Key: key, Content: []byte(content)}
}

// want compares a decision in short: verdict, rule, reason.
func want(t *testing.T, d policy.Decision, verdict policy.Verdict, rule, reason string) {
	t.Helper()
	if d.Verdict != verdict || d.RuleID != rule || d.Reason != reason {
		t.Errorf("got %s by %q: %q; want %s by %q: %q", d.Verdict, d.RuleID, d.Reason, verdict, rule, reason)
	}
	if d.ApprovalRequired != (d.Verdict == policy.RequireApproval) {
		t.Errorf("approval required: %v on %s", d.ApprovalRequired, d.Verdict)
	}
}

func runCorpus(t *testing.T, dir string, cases int) {
	t.Helper()
	suite, err := corpus.Load(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	report := suite.Run()
	if len(report.Results) != cases || len(report.Uncovered) > 0 {
		t.Fatalf("%d cases, want %d; not covered: %v", len(report.Results), cases, report.Uncovered)
	}
	for _, r := range report.Results {
		t.Run(r.Name, func(t *testing.T) {
			for _, problem := range r.Problems {
				t.Error(problem)
			}
		})
	}
}

func TestT101_WorkedExample(t *testing.T) { runCorpus(t, "testdata/corpus/worked-example", 23) }

func TestT103_T104_TenantTopics(t *testing.T) { runCorpus(t, "testdata/corpus/tenants", 10) }

// The policy that is shipped as an example decides what its cases say, and every rule has one.
func TestExamplePolicy(t *testing.T) { runCorpus(t, "../../../docs/example-policy", 24) }

func TestT102_FirstMatchInOrder(t *testing.T) {
	rule := func(id string) string { return fmt.Sprintf("rules: [{id: %s, decision: allow}]", id) }
	b, a := fragment("b/rules", rule("b")), fragment("a/rules", rule("a"))
	upper := fragment("Z/rules", rule("Z"))
	tests := []struct {
		name string
		p    *policy.Policy
		rule string
	}{
		{"file order", compile(t, "rules: [{id: one, decision: deny}, {id: two, decision: allow}]"), "one"},
		{"base before fragments", compile(t, rule("base"), a, b), "base"},
		{"fragments by key", compile(t, "", b, a), "a"},
		{"keys by bytes, not by alphabet", compile(t, "", b, a, upper), "Z"},
		{"a specific rule does not come before a general one", compile(t,
			"rules: [{id: all, decision: deny}, {id: exact, match: {topics: [job.a], tenants: [default]}, decision: allow}]"), "all"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := tt.p.Decide(&policy.Request{Topic: "job.a"}); d.RuleID != tt.rule {
				t.Errorf("rule %q, want %q", d.RuleID, tt.rule)
			}
		})
	}
}

func TestT108_ClauseAboutMCPIsForMCPJobs(t *testing.T) {
	p := compile(t, "default_decision: allow\nrules: [{id: no-github, match: {mcp: {allow_servers: [github]}}, decision: deny, reason: no}]")
	want(t, p.Decide(&policy.Request{Topic: "job.a"}), policy.Allow, "", "no matching rule")
	mcp := map[string]string{"mcpServer": " GITHUB "}
	want(t, p.Decide(&policy.Request{Topic: "job.a", Labels: mcp}), policy.Deny, "no-github", "no")
}

func TestT109_AllowListDeniesAbsence(t *testing.T) {
	p := compile(t, "rules: [{id: all, decision: allow}]\ntenants: {acme: {mcp: {allow_servers: [github]}}}")
	labels := map[string]string{"mcp.tool": "search"}
	want(t, p.Decide(&policy.Request{Topic: "job.a", Tenant: "acme", Labels: labels}), policy.Deny, "all", `mcp server "" not allowed`)
}

func TestMCPLabels(t *testing.T) {
	p := compile(t, `
rules: [{id: all, decision: allow}]
tenants: {acme: {mcp: {allow_servers: [a, b], deny_tools: [wipe], deny_resources: [db], allow_actions: [read]}}}`)
	read := func(more ...string) map[string]string {
		m := map[string]string{"mcp.server": "a", "mcp.action": "read"}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	tests := []struct {
		name, reason string
		labels       map[string]string
	}{
		{"all in order", "", read()},
		{"not MCP at all", "", map[string]string{"mcp.server": "  ", "other": "x"}},
		{"the dotted label comes first", "", read("mcp_server", "c", "mcpServer", "c")},
		{"the underscored one before camel case", `mcp server "c" not allowed`, map[string]string{"mcp_server": "c", "mcpServer": "a"}},
		{"server before tool", `mcp server "c" not allowed`, read("mcp.server", "c", "mcp.tool", "wipe")},
		{"tool before resource", `mcp tool "Wipe" denied`, read("mcp.tool", "Wipe", "mcp.resource", "db")},
		{"resource before action", `mcp resource "db" denied`, read("mcp.resource", "db", "mcp.action", "WRITE")},
		{"actions in lower case", `mcp action "write" not allowed`, read("mcp.action", "WRITE")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := p.Decide(&policy.Request{Topic: "job.a", Tenant: "acme", Labels: tt.labels})
			if verdict := map[bool]policy.Verdict{true: policy.Allow, false: policy.Deny}[tt.reason == ""]; d.Verdict != verdict || d.Reason != tt.reason {
				t.Errorf("%s: %q, want %s: %q", d.Verdict, d.Reason, verdict, tt.reason)
			}
		})
	}
}

func TestT110_Constraints(t *testing.T) {
	p := compile(t, `
rules:
  - {id: word-only, match: {topics: [job.word]}, decision: allow-with-constraints}
  - {id: empty, match: {topics: [job.empty]}, decision: allow, constraints: {budgets: {max_retries: 0}, sandbox: {isolated: false}}}
  - {id: upgraded, match: {topics: [job.up]}, decision: permit, constraints: {redaction_level: high}}
  - {id: kept, match: {topics: [job.kept]}, decision: block, constraints: {diff: {max_files: 3}}}`)
	tests := []struct {
		topic       string
		verdict     policy.Verdict
		constraints bool
	}{
		{"job.word", policy.AllowWithConstraints, false},
		{"job.empty", policy.Allow, false},
		{"job.up", policy.AllowWithConstraints, true},
		{"job.kept", policy.Deny, true},
	}
	for _, tt := range tests {
		t.Run(tt.topic, func(t *testing.T) {
			d := p.Decide(&policy.Request{Topic: tt.topic})
			if d.Verdict != tt.verdict || (d.Constraints != nil) != tt.constraints {
				t.Errorf("%s with constraints %+v", d.Verdict, d.Constraints)
			}
		})
	}
}

func TestT111_T112_EffectiveConfig(t *testing.T) {
	p := compile(t, "rules: [{id: ask, decision: require_approval, reason: ask}]")
	const denied, malformed = "topic 'job.a.b' denied by effective config", "effective config is not valid"
	tests := []struct{ name, config, reason string }{
		{"none", ``, ""},
		{"null", `null`, ""},
		{"no section", `{"retry":{"max":3}}`, ""},
		{"an empty section", `{"safety":{}}`, ""},
		{"null lists", `{"safety":{"denied_topics":null,"mcp":null}}`, ""},
		{"other members are not for policy", `{"safety":{"pii":true}}`, ""},
		{"T-111 denied", `{"safety":{"denied_topics":["job.a.*"]}}`, denied},
		{"denied before allowed", `{"safety":{"denied_topics":["job.a.*"],"allowed_topics":["job.b"]}}`, denied},
		{"in data", `{"data":{"safety":{"denied_topics":["job.a.?"]}}}`, denied},
		{"the first place counts", `{"safety":{},"data":{"safety":{"denied_topics":["job.*"]}}}`, ""},
		{"not allowed", `{"safety":{"allowed_topics":["job.a"]}}`, "topic 'job.a.b' not allowed by effective config"},
		{"allowed", `{"safety":{"allowed_topics":["job.[a-z].b"]}}`, ""},
		{"mcp", `{"safety":{"mcp":{"deny_tools":["WIPE"]}}}`, `mcp tool "wipe" denied`},
		{"T-112 not JSON", `{"safety":`, malformed},
		{"T-112 not an object", `[1]`, malformed},
		{"T-112 a section of text", `{"safety":"strict"}`, malformed},
		{"T-112 data of text", `{"data":"x"}`, malformed},
		{"T-112 a list of numbers", `{"safety":{"denied_topics":[1]}}`, malformed},
		{"T-112 a list that is none", `{"safety":{"denied_topics":"job.*"}}`, malformed},
		{"T-112 a glob that is none", `{"safety":{"denied_topics":["job.["]}}`, malformed},
		{"T-112 an allowed glob that is none", `{"safety":{"allowed_topics":["job.*","["]}}`, malformed},
		{"T-112 a misspelt mcp list", `{"safety":{"mcp":{"deny_tool":["wipe"]}}}`, malformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := p.Decide(&policy.Request{
				Topic: "job.a.b", Labels: map[string]string{"mcp.tool": "wipe"}, Effective: policy.ParseEffective([]byte(tt.config)),
			})
			if tt.reason == "" {
				want(t, d, policy.RequireApproval, "ask", "ask")
			} else {
				want(t, d, policy.Deny, "ask", tt.reason)
			}
		})
	}
}

// What T-113 asks of policy: only the section that is handed over counts. That an organisation's section replaces the system's is the
// merge of configuration documents.
func TestT113_OnlyTheSectionHandedOverCounts(t *testing.T) {
	p := compile(t, "default_decision: allow")
	merged := policy.ParseEffective([]byte(`{"safety":{"allowed_topics":["job.*"]}}`))
	want(t, p.Decide(&policy.Request{Topic: "job.secret.x", Effective: merged}), policy.Allow, "", "no matching rule")
}

func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
}

func TestT116_SnapshotIDs(t *testing.T) {
	const versioned, plain, body = "version: v1\n", "rules: []\n", "rules: [] # a comment"
	f := fragment("secops/a", body)
	off := policy.Fragment{Key: "secops/off", Content: []byte(body), Disabled: true}
	source := func(content string) *policy.Source {
		return &policy.Source{Name: "policy.yaml", Content: []byte(content)}
	}
	tests := []struct {
		name      string
		base      *policy.Source
		fragments []policy.Fragment
		want      string
	}{
		{"nothing", nil, nil, "empty"},
		{"a blank base and a blank fragment are nothing", source(" \n"), []policy.Fragment{fragment("secops/a", "\n")}, "empty"},
		{"a version", source(versioned), nil, "v1:" + hash(versioned)},
		{"no version", source(plain), nil, hash(plain)},
		{"fragments alone", nil, []policy.Fragment{f}, "cfg:" + hash("secops/a", "\x00", body)},
		{"both", source(versioned), []policy.Fragment{f}, "v1:" + hash(versioned) + "|cfg:" + hash("secops/a", "\x00", body)},
		{"a fragment's version is not the base's", source(plain), []policy.Fragment{fragment("b", versioned)},
			hash(plain) + "|cfg:" + hash("b", "\x00", versioned)},
		{"in the order of keys", nil, []policy.Fragment{fragment("b", plain), fragment("a", body)},
			"cfg:" + hash("a", "\x00", body, "b", "\x00", plain)},
		{"a disabled fragment leaves no trace", nil, []policy.Fragment{f, off}, "cfg:" + hash("secops/a", "\x00", body)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := policy.Compile(tt.base, tt.fragments)
			if err != nil {
				t.Fatal(err)
			}
			if p.Snapshot() != tt.want {
				t.Errorf("%s, want %s", p.Snapshot(), tt.want)
			}
			if d := p.Decide(&policy.Request{Topic: "job.a"}); d.Snapshot != tt.want {
				t.Errorf("decision carries %s", d.Snapshot)
			}
			if d := p.Decide(&policy.Request{Topic: "other"}); d.Snapshot != "" {
				t.Errorf("an unsupported topic carries %s", d.Snapshot)
			}
		})
	}
	a, b := compile(t, plain), compile(t, plain+"# edited\n")
	if a.Snapshot() == b.Snapshot() {
		t.Error("an edited comment is the same snapshot")
	}
}

// What T-118 asks of policy: nothing is compiled. That the policy in force stays is package head's.
func TestT118_OneBrokenFragmentFailsTheWhole(t *testing.T) {
	base := &policy.Source{Name: "policy.yaml", Content: []byte("rules: [{id: a, decision: allow}]")}
	p, err := policy.Compile(base, []policy.Fragment{fragment("a/good", "rules: []"), fragment("b/bad", "rules:\n  - id: x\n    decison: deny\n")})
	var e *policy.Error
	if p != nil || !errors.As(err, &e) {
		t.Fatalf("policy %v, error %v", p, err)
	}
	if e.Source != "b/bad" || e.Line != 3 || e.Column != 5 {
		t.Errorf("%+v", e)
	}
	twice := []policy.Fragment{fragment("a", "rules: []"), fragment("a", "rules: []")}
	if _, err := policy.Compile(nil, twice); err == nil || err.Error() != "a: two fragments have this key" {
		t.Errorf("two of one key: %v", err)
	}
}

func TestNoPolicyDenies(t *testing.T) {
	p, err := policy.Compile(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want(t, p.Decide(&policy.Request{Topic: "job.a"}), policy.Deny, "", "no matching rule")
}

func TestMergedSettings(t *testing.T) {
	p := compile(t, "tenants: {acme: {max_concurrent_jobs: 5}}",
		fragment("a/pack", "default_tenant: acme\ndefault_decision: allow\ntenants: {Acme: {max_concurrent_jobs: 3, mcp: {deny_tools: [x]}}}"),
		fragment("core", "default_tenant: other\ndefault_decision: deny\ntenants: {acme: {max_concurrent_jobs: 0, mcp: {deny_tools: [y]}}}"),
		fragment("secops/rules", "default_decision: allow\n"))
	d := p.Decide(&policy.Request{Topic: "job.a"})
	want(t, d, policy.Deny, "", "no matching rule")
	if d.MaxConcurrentJobs != 3 {
		t.Errorf("limit %d: the default tenant, or the lowest limit, is wrong", d.MaxConcurrentJobs)
	}
	for _, tool := range []string{"x", "y"} {
		d := p.Decide(&policy.Request{Topic: "job.a", Labels: map[string]string{"mcp.tool": tool}})
		want(t, d, policy.Deny, "", `mcp tool "`+tool+`" denied`)
	}
	open := compile(t, "", fragment("secops/rules", "default_decision: allow"), fragment("z", "default_decision: deny"))
	want(t, open.Decide(&policy.Request{Topic: "job.a"}), policy.Allow, "", "no matching rule")
}

func TestApprovalTerms(t *testing.T) {
	terms := func(content string) string { return "approvals: {" + content + "}" }
	tests := []struct {
		name      string
		base      string
		fragments []policy.Fragment
		want      policy.Approvals
	}{
		{"none", "rules: []", nil, policy.Approvals{}},
		{"an empty section", terms(""), nil, policy.Approvals{}},
		{"allow is what holds anyway", terms("self_approval: allow"), nil, policy.Approvals{}},
		{"both", terms("expire_after: 24h, self_approval: forbid"), nil, policy.Approvals{ExpireAfter: 24 * time.Hour, SelfApprovalForbidden: true}},
		{"a year", terms("expire_after: 8760h"), nil, policy.Approvals{ExpireAfter: 365 * 24 * time.Hour}},
		{"a pack tightens", terms("expire_after: 24h, self_approval: allow"),
			[]policy.Fragment{fragment("pack/rules", terms("expire_after: 90m, self_approval: forbid"))},
			policy.Approvals{ExpireAfter: 90 * time.Minute, SelfApprovalForbidden: true}},
		{"nobody loosens", terms("expire_after: 1h, self_approval: forbid"),
			[]policy.Fragment{fragment("pack/rules", terms("expire_after: 2h")), fragment("secops/rules", terms("self_approval: allow"))},
			policy.Approvals{ExpireAfter: time.Hour, SelfApprovalForbidden: true}},
		{"only a fragment", "", []policy.Fragment{fragment("secops/rules", terms("expire_after: 1s"))}, policy.Approvals{ExpireAfter: time.Second}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := compile(t, tt.base, tt.fragments...).Approvals(); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestMaxConcurrentJobs(t *testing.T) {
	p := compile(t, `
rules:
  - {id: a, match: {topics: [job.a], tenants: [Beta]}, decision: allow, constraints: {budgets: {max_concurrent_jobs: 4}}}
  - {id: b, decision: allow}
tenants: {acme: {max_concurrent_jobs: 2}, beta: {max_concurrent_jobs: 9}, gamma: {}}`)
	tests := []struct {
		tenant, topic string
		limit         int64
		counted       bool
	}{
		{"beta", "job.a", 4, true}, {"beta", "job.b", 9, true}, {"ACME", "job.a", 2, true}, {"gamma", "job.a", 0, false}, {"", "job.a", 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.tenant+" "+tt.topic, func(t *testing.T) {
			if d := p.Decide(&policy.Request{Topic: tt.topic, Tenant: tt.tenant}); d.MaxConcurrentJobs != tt.limit {
				t.Errorf("limit %d, want %d", d.MaxConcurrentJobs, tt.limit)
			}
			if got := p.CountsJobs(tt.tenant); got != tt.counted {
				t.Errorf("counted: %v", got)
			}
		})
	}
	all := compile(t, "rules: [{decision: allow, constraints: {budgets: {max_concurrent_jobs: 4}}}]")
	if !all.CountsJobs("anybody") {
		t.Error("a rule for every tenant limits nobody")
	}
}

func TestThrottle(t *testing.T) {
	p := compile(t, `
rules:
  - {id: a, match: {topics: [job.a]}, decision: throttle, throttle_duration: 1m30s}
  - {id: b, match: {topics: [job.b]}, decision: throttle}
  - {id: c, decision: allow}`)
	for topic, wait := range map[string]time.Duration{"job.a": 90 * time.Second, "job.b": 5 * time.Second, "job.c": 0} {
		if d := p.Decide(&policy.Request{Topic: topic}); d.ThrottleFor != wait {
			t.Errorf("%s waits %s, want %s", topic, d.ThrottleFor, wait)
		}
	}
	denied := policy.ParseEffective([]byte(`{"safety":{"denied_topics":["job.*"]}}`))
	if d := p.Decide(&policy.Request{Topic: "job.a", Effective: denied}); d.ThrottleFor != 0 {
		t.Errorf("a denied job waits %s", d.ThrottleFor)
	}
}

func TestMatchFields(t *testing.T) {
	full := policy.Request{
		Topic: " job.a.b ", Tenant: " Acme ", Principal: "maya", ActorType: "Human", Capability: "Db.Migrate", RiskTags: []string{"PROD", "write"},
		Requires: []string{"Docker", "git"}, PackID: "DB", Labels: map[string]string{"env": "prod", "Zone": "a"},
	}
	with := func(change func(*policy.Request)) policy.Request {
		r := full
		change(&r)
		return r
	}
	tests := []struct {
		name, match string
		request     policy.Request
		matches     bool
	}{
		{"everything at once", `{tenants: [acme], topics: [job.x, "job.a.?"], capabilities: ["db.*"], risk_tags: [net, prod], requires: [DOCKER, git],
			pack_ids: [db], actor_ids: [MAYA], actor_types: [human], labels: {env: prod}, secrets_present: false}`, full, true},
		{"an empty list does not count", `{tenants: [], labels: {}, mcp: {}}`, full, true},
		{"tenants", `{tenants: [beta]}`, full, false},
		{"topics are case-sensitive", `{topics: [job.A.b]}`, full, false},
		{"a class", `{topics: ["job.[^b].[a-c]"]}`, full, true},
		{"an escaped star is a star", `{topics: ['job.\*']}`, full, false},
		{"the whole topic", `{topics: [job.a]}`, full, false},
		{"a capability by glob", `{capabilities: ["*.MIGRATE"]}`, full, true},
		{"a capability that is not set", `{capabilities: ["*"]}`, with(func(r *policy.Request) { r.Capability = "" }), false},
		{"a capability with a slash", `{capabilities: ["*"]}`, with(func(r *policy.Request) { r.Capability = "a/b" }), false},
		{"all of requires", `{requires: [docker, gpu]}`, full, false},
		{"requires of a job without any", `{requires: [docker]}`, with(func(r *policy.Request) { r.Requires = nil }), false},
		{"the actor before the principal", `{actor_ids: [maya]}`, with(func(r *policy.Request) { r.ActorID = "robot" }), false},
		{"an actor type that is not set", `{actor_types: [human, service]}`, with(func(r *policy.Request) { r.ActorType = "" }), false},
		{"all labels", `{labels: {env: prod, zone: a}}`, full, false},
		{"the case of label values", `{labels: {env: Prod}}`, full, false},
		{"a label that is absent is not empty", `{labels: {missing: ""}}`, full, false},
		{"words beyond ASCII", `{tenants: [ÄCME]}`, with(func(r *policy.Request) { r.Tenant = "äcme" }), true},
		{"secrets by tag", `{secrets_present: true}`, with(func(r *policy.Request) { r.RiskTags = []string{" Secrets"} }), true},
		{"secrets by label", `{secrets_present: true}`, with(func(r *policy.Request) { r.Labels = map[string]string{"secrets_present": "TRUE"} }), true},
		{"no secrets by label", `{secrets_present: true}`, with(func(r *policy.Request) { r.Labels = map[string]string{"secrets_present": "0"} }), false},
		{"no secrets", `{secrets_present: false}`, with(func(r *policy.Request) { r.RiskTags = []string{"secrets"} }), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := compile(t, "rules: [{id: it, match: "+tt.match+", decision: allow}]")
			if d := p.Decide(&tt.request); (d.RuleID == "it") != tt.matches {
				t.Errorf("matched: %v", !tt.matches)
			}
		})
	}
}

// A request may have more words than a decision keeps on the stack.
func TestT102_ManyWords(t *testing.T) {
	var rules strings.Builder
	var words []string
	for i := range 50 {
		words = append(words, fmt.Sprintf("w%d", i))
		fmt.Fprintf(&rules, "  - {id: r%d, match: {risk_tags: [w%d], requires: [other]}, decision: deny}\n", i, i)
	}
	p := compile(t, "rules:\n"+rules.String()+"  - {id: last, match: {risk_tags: [w49]}, decision: allow}\n")
	want(t, p.Decide(&policy.Request{Topic: "job.a", RiskTags: words}), policy.Allow, "last", "")
}

func TestExplain(t *testing.T) {
	p := compile(t, `
rules:
  - {id: topics, match: {topics: [job.b], risk_tags: [x]}, decision: allow}
  - {id: tags, match: {topics: [job.a], risk_tags: [x]}, decision: allow}
  - {id: it, match: {topics: [job.a]}, decision: allow}
  - {id: mcp, match: {mcp: {allow_servers: [b]}}, decision: deny}
  - {id: later, decision: deny}
tenants: {acme: {deny_topics: [job.c], allow_topics: [job.a], mcp: {deny_tools: [wipe]}}}`)
	d, trace := p.Explain(&policy.Request{
		Topic: "job.a", Tenant: "acme", Labels: map[string]string{"mcp.tool": "wipe"},
		Effective: policy.ParseEffective([]byte(`{"safety":{"allowed_topics":["job.b"]}}`)),
	})
	want(t, d, policy.Deny, "it", "topic 'job.a' not allowed by effective config")
	wantTrace(t, trace, []policy.TraceEntry{
		{RuleID: "topics", FirstFailedField: "topics"}, {RuleID: "tags", FirstFailedField: "risk_tags"}, {RuleID: "it", Matched: true},
		{RuleID: "mcp", FirstFailedField: "mcp"}, {RuleID: "later", Matched: true},
		{RuleID: "legacy:acme:deny:1", FirstFailedField: "topics"}, {RuleID: "legacy:acme:allow:1", Matched: true},
		{RuleID: "tenant:mcp", FirstFailedField: "deny_tools"}, {RuleID: "effective_config", FirstFailedField: "allowed_topics"},
	})
	_, trace = p.Explain(&policy.Request{Topic: "job.a", Tenant: "beta"})
	if len(trace) != 5 {
		t.Errorf("nothing but rules was consulted, and the trace is %+v", trace)
	}
	d, trace = p.Explain(&policy.Request{Topic: "sys.a"})
	if d.Reason != "unsupported topic" || trace == nil || len(trace) != 0 {
		t.Errorf("%+v, %+v", d, trace)
	}
}

func wantTrace(t *testing.T, got, want []policy.TraceEntry) {
	t.Helper()
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("trace\n%+v\nwant\n%+v", got, want)
	}
}

func TestVelocity(t *testing.T) {
	p := compile(t, `
rules:
  - {id: other, match: {topics: [job.b]}, decision: throttle, velocity: {max_requests: 1, window_seconds: 60, key: tenant}}
  - {id: burst, decision: throttle, velocity: {max_requests: 3, window_seconds: 60, key: "tenant:labels.env"}}
  - {id: all, match: {topics: [job.*]}, decision: allow}
  - {id: behind, decision: deny, velocity: {max_requests: 1, window_seconds: 60}}`)
	request := &policy.Request{Topic: "job.a", Tenant: "Acme", Labels: map[string]string{"env": "a:b"}}
	buckets := p.Buckets(request)
	if len(buckets) != 1 || buckets[0].RuleID != "burst" || buckets[0].Window != time.Minute || buckets[0].Max != 3 {
		t.Fatalf("buckets %+v", buckets)
	}
	if key := buckets[0].Key; key != "policy.yaml:burst:acme:a%3Ab" {
		t.Errorf("key %s", key)
	}
	for count, rule := range map[int64]string{0: "all", 3: "all", 4: "burst"} {
		request.Counts = map[string]int64{buckets[0].Key: count}
		if d := p.Decide(request); d.RuleID != rule {
			t.Errorf("after %d requests: %q, want %q", count, d.RuleID, rule)
		}
		if again := p.Buckets(request); len(again) != 1 || again[0] != buckets[0] {
			t.Errorf("after %d requests the buckets are %+v", count, again)
		}
	}
	if b := p.Buckets(&policy.Request{Topic: "sys.a"}); b != nil {
		t.Errorf("buckets of no job: %+v", b)
	}
}

func TestVelocityKeys(t *testing.T) {
	request := &policy.Request{
		Topic: " job.a", Principal: "Maya", ActorType: "Human", Capability: "C", PackID: "P", Labels: map[string]string{"Env": "Prod"},
	}
	for key, want := range map[string]string{
		"": "default", "tenant": "default", "topic": "job.a", "actor_id": "maya", "actor_type": "human", "capability": "c", "pack_id": "p",
		"labels.Env": "Prod", "labels.env": "", "topic:labels.Env": "job.a:Prod",
	} {
		clause := "max_requests: 1, window_seconds: 1"
		if key != "" {
			clause += ", key: '" + key + "'"
		}
		p := compile(t, "rules: [{decision: deny, velocity: {"+clause+"}}]")
		if b := p.Buckets(request); len(b) != 1 || b[0].Key != "policy.yaml:%231:"+want {
			t.Errorf("%s: %+v, want %s", key, b, want)
		}
	}
}

func TestVerdictNames(t *testing.T) {
	for v, name := range map[policy.Verdict]string{
		policy.Deny: "DENY", policy.Allow: "ALLOW", policy.RequireApproval: "REQUIRE_APPROVAL", policy.Throttle: "THROTTLE",
		policy.AllowWithConstraints: "ALLOW_WITH_CONSTRAINTS", 77: "DENY",
	} {
		if v.String() != name {
			t.Errorf("%d is %s, want %s", v, v, name)
		}
	}
}
