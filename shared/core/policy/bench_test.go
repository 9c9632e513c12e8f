package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/policy"
)

// manyRules is a policy of the kind that plants have: most rules are for one topic family, some for everybody, and a general one at the
// end, which is what the benchmarked request matches. A document has a thousand of them.
func manyRules(t testing.TB, n int) *policy.Policy {
	base, fragments := manyRulesText(n)
	return compile(t, base, fragments...)
}

func manyRulesText(n int) (base string, fragments []policy.Fragment) {
	var b strings.Builder
	rule := func(i int, match, decision string) {
		fmt.Fprintf(&b, "  - {id: r%d, match: {%s}, decision: %s, reason: because of %d}\n", i, match, decision, i)
	}
	for i := range n - 1 {
		if i%1000 == 0 {
			if i > 0 {
				fragments = append(fragments, fragment(fmt.Sprintf("rules%02d", i/1000), b.String()))
			}
			b.Reset()
			b.WriteString("rules:\n")
		}
		switch i % 10 {
		case 0:
			rule(i, fmt.Sprintf("topics: [job.team%d.run]", i), "allow")
		case 1:
			rule(i, fmt.Sprintf("topics: [job.team%d.*], risk_tags: [prod], labels: {env: prod}", i), "require_approval")
		case 2:
			rule(i, fmt.Sprintf("capabilities: [cap%d.run], actor_types: [service]", i), "throttle")
		case 3:
			rule(i, fmt.Sprintf("topics: ['job.*'], risk_tags: [tag%d]", i), "deny")
		case 4:
			rule(i, fmt.Sprintf("pack_ids: [pack%d], requires: [docker]", i), "allow")
		case 5:
			rule(i, fmt.Sprintf("topics: ['job.*'], tenants: [tenant%d], secrets_present: true", i), "deny")
		case 6:
			rule(i, fmt.Sprintf("mcp: {allow_servers: [server%d]}", i), "allow")
		case 7:
			rule(i, fmt.Sprintf("labels: {project: p%d, env: prod}", i), "deny")
		case 8:
			rule(i, fmt.Sprintf("requires: [gpu, cluster%d]", i), "allow")
		case 9:
			rule(i, fmt.Sprintf("topics: [job.team%d.a*.b?], actor_ids: [user%d]", i, i), "deny")
		}
	}
	rule(n-1, "topics: ['job.demo.*']", "allow")
	fragments = append(fragments, fragment("rules99", b.String()))
	return "version: bench\ntenants: {acme: {deny_topics: [job.demo.wipe], max_concurrent_jobs: 50, mcp: {deny_tools: [wipe]}}}\n", fragments
}

func typical() *policy.Request {
	return &policy.Request{
		JobID: "j", Topic: "job.demo.summarise", Tenant: "Acme", Principal: "Maya", ActorType: "human", Capability: "Demo.Summarise",
		RiskTags: []string{"network", "Write"}, Requires: []string{"docker", "gpu"}, PackID: "demo",
		Labels: map[string]string{"env": "prod", "project": "p", "mcp.server": "GitHub", "mcp.tool": "search", "step_id": "s"},
	}
}

func benchmarkDecide(b *testing.B, rules int) {
	p, r := manyRules(b, rules), typical()
	if d := p.Decide(r); d.Verdict != policy.Allow || d.RuleID != fmt.Sprintf("r%d", rules-1) {
		b.Fatalf("%+v", d)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Decide(r)
	}
}

func BenchmarkDecide100(b *testing.B)   { benchmarkDecide(b, 100) }
func BenchmarkDecide10000(b *testing.B) { benchmarkDecide(b, 10_000) }

func benchmarkCompile(b *testing.B, rules int) {
	base, fragments := manyRulesText(rules)
	b.ReportAllocs()
	for b.Loop() {
		compile(b, base, fragments...)
	}
}

func BenchmarkCompile1000(b *testing.B)  { benchmarkCompile(b, 1000) }
func BenchmarkCompile10000(b *testing.B) { benchmarkCompile(b, 10_000) }

func TestDecideDoesNotAllocate(t *testing.T) {
	p := manyRules(t, 1000)
	busy := typical()
	busy.Effective = policy.ParseEffective([]byte(`{"safety":{"denied_topics":["job.x.*"],"allowed_topics":["job.d*.?ummarise"],"mcp":{"deny_tools":["x"]}}}`))
	crowded := typical()
	for i := range 40 {
		crowded.RiskTags = append(crowded.RiskTags, fmt.Sprintf("unheard-of-%d", i))
	}
	constrained := compile(t, "rules: [{match: {capabilities: ['demo.*'], secrets_present: false}, decision: allow, constraints: {redaction_level: high}}]")
	tests := []struct {
		name    string
		policy  *policy.Policy
		request *policy.Request
		verdict policy.Verdict
	}{
		{"typical", p, typical(), policy.Allow},
		{"with restrictions", p, busy, policy.Allow},
		{"words that no rule uses", p, crowded, policy.Allow},
		{"bare", p, &policy.Request{Topic: "job.demo.x"}, policy.Allow},
		{"constrained", constrained, typical(), policy.AllowWithConstraints},
		{"no rule", p, &policy.Request{Topic: "job.nobody"}, policy.Deny},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := tt.policy.Decide(tt.request); d.Verdict != tt.verdict {
				t.Fatalf("%+v", d)
			}
			if n := testing.AllocsPerRun(100, func() { tt.policy.Decide(tt.request) }); n != 0 {
				t.Errorf("%.0f allocations", n)
			}
		})
	}
}
