package policy_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/policy"
)

// Documents that are broken, huge, or not what they look like: each is refused with a message that names the place, as a base and as a
// bundle, soon and in little memory.
func TestHostileDocuments(t *testing.T) {
	const open = "default_decision: allow\nrules:\n  - id: all\n    decision: allow\n"
	million := strings.Repeat("a,", 1_000_000)
	rule := func(match string) string {
		return "rules:\n  - id: no\n    decision: deny\n    match: {" + match + "}\n"
	}
	tests := []struct{ name, text, want string }{
		{"malformed YAML", open + "  - {id: b, decision: deny", `p:5:5: could not find flow mapping end token '}'`},
		{"indentation that does not fit", "rules:\n  - id: a\n   decision: deny", `p:3:4: `},
		{"not text", "\x00\x01\x02\xff", `p:1:1: a policy must be an object`},
		{"an unknown key", open + "allow_all: true", `p:5:1: unknown key "allow_all" in a policy; known are`},
		{"an unknown key in a match", rule("topic: [job.a]"), `p:4:13: unknown key "topic" in match; known are`},
		{"a glob", rule("topics: [job.a, 'job.[']"), `p:4:29: "job.[" is not a valid glob`},
		{"a glob that ends in an escape", rule(`topics: ['job.\']`), `p:4:22: "job.\\" is not a valid glob`},
		{"two rules of one id", open + "  - {id: all, decision: deny}", `p:5:5: rule id "all" is taken by the rule at line 3`},

		{"a megabyte", open + "#" + strings.Repeat("x", 1<<20), `p: 1048640 bytes; a policy document has at most 262144 (256 KiB)`},
		{"one byte too much", "#" + strings.Repeat("x", policy.MaxDocument), `p: 262145 bytes; a policy document has at most 262144 (256 KiB)`},
		{"a list of a million", rule("topics: [" + million + "a]"), `p: 2000062 bytes; a policy document has at most 262144`},
		{"a line without end", open + "  - {id: b, decision: deny, reason: \"" + strings.Repeat("-\t", 60_000) + "\"}", `p:5:1: a line of 120039 bytes; at most 32768`},
		{"a list of a million in JSON", `{"rules":[` + million + `0]}`, `p: 2000013 bytes; a policy document has at most 262144`},
		{"the longest list that fits", rule("topics: [" + strings.Repeat("a,\n", 80_000) + "a]"), `p:4:21: 80001 entries; a list or object has at most 10000`},
		{"the same in JSON", `{"rules": [` + strings.Repeat("1,", 100_000) + `1]}`, `p:1:11: 100001 entries; a list or object has at most 10000`},
		{"the longest object that fits", "tenants: {" + numbered(20_000, "t%d: {},\n") + "}", `entries; a list or object has at most 10000`},
		{"the same in JSON again", `{"tenants": {` + numbered(20_000, `"t%d":0,`) + `"t":0}}`, `p:1:13: 20001 entries; a list or object has at most 10000`},
		{"the most rules that fit", "rules:\n" + strings.Repeat("- {decision: deny}\n", 13_000), `p:2:1: 13000 entries; a list or object has at most 10000`},
		{"aliases that stand for a million", bomb(), `p:5:44: more than 131072 values`},

		{"a Cyrillic letter in a topic", rule("topics: [job.demo, job.\u0430dmin.*]"),
			`p:4:32: "job.\u0430dmin.*" has U+0430 (Cyrillic) at character 5; topics and capabilities are printable ASCII`},
		{"the same written as an escape", `{"rules":[{"id":"a","decision":"deny","match":{"topics":["job.\u0430"]}}]}`,
			`p:1:58: "job.\u0430" has U+0430 (Cyrillic) at character 5`},
		{"a Greek letter in a tenant's topics", "tenants: {acme: {deny_topics: [job.\u03bf]}}", `p:1:32: "job.\u03bf" has U+03BF (Greek) at character 5`},
		{"a full-width letter in a capability", rule("capabilities: [\uff44b.drop]"), `p:4:28: "\uff44b.drop" has U+FF44 at character 1`},
		{"a space that cannot be seen in a topic", rule("topics: [\"job.a\u200b\"]"), `p:4:22: "job.a\u200b" has U+200B at character 6`},
		{"a control character in a topic", `{"tenants":{"a":{"deny_topics":["job.\u0007a"]}}}`, `p:1:33: "job.\aa" has U+0007 at character 5`},
		{"a remediation's topic", "rules: [{id: a, decision: deny, remediations: [{replacement_topic: job.\u0435}]}]",
			`p:1:68: "job.\u0435" has U+0435 (Cyrillic) at character 5`},
		{"a Cyrillic letter in a tenant", "tenants: {\u0430cme: {max_concurrent_jobs: 1}}", `p:1:11: "\u0430cme" has U+0430 (Cyrillic) at character 1 among Latin letters`},
		{"a Cyrillic letter in a rule's tenants", rule("tenants: [acm\u0435]"), `p:4:23: "acm\u0435" has U+0435 (Cyrillic) at character 4 among Latin letters`},
		{"a Greek letter in a risk tag", rule("risk_tags: [pr\u03bfd]"), `p:4:25: "pr\u03bfd" has U+03BF (Greek) at character 3 among Latin letters`},
		{"an Armenian letter in an MCP tool", rule("mcp: {deny_tools: [dr\u0585p]}"), `p:4:32: "dr\u0585p" has U+0585 (Armenian) at character 3`},
		{"a Cyrillic letter in a label's name", rule("labels: {\u0435nv: prod}"), `p:4:22: "\u0435nv" has U+0435 (Cyrillic) at character 1`},
		{"and in its value", rule("labels: {env: pr\u043ed}"), `p:4:27: "pr\u043ed" has U+043E (Cyrillic) at character 3`},
		{"and in a rule's id", "rules: [{id: n\u043e, decision: deny}]", `p:1:14: "n\u043e" has U+043E (Cyrillic) at character 2`},
		{"and in the default tenant", "default_tenant: acm\u0435", `p:1:17: "acm\u0435" has U+0435 (Cyrillic) at character 4`},
		{"and in a bucket's key", "rules: [{id: a, decision: deny, velocity: {max_requests: 1, window_seconds: 1, key: labels.\u0435nv}}]",
			`p:1:85: "labels.\u0435nv" has U+0435 (Cyrillic) at character 8`},
		{"a word that cannot be seen all of", rule("actor_ids: [\"ma\u00adya\"]"), `p:4:25: "ma\u00adya" has U+00AD at character 3, which cannot be seen`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			p, err := policy.Compile(&policy.Source{Name: "p", Content: []byte(tt.text)}, nil)
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			var e *policy.Error
			if p != nil || !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("policy %v, error\n%v, want\n%s", p, err, tt.want)
			}
			if len(err.Error()) > 400 {
				t.Errorf("the message has %d characters", len(err.Error()))
			}
			if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 200 || took > 10*time.Second {
				t.Errorf("took %s and %d MiB", took, mib)
			}
			base := &policy.Source{Name: "base", Content: []byte(open)}
			if p, err := policy.Compile(base, []policy.Fragment{fragment("secops/p", tt.text)}); p != nil || err == nil {
				t.Errorf("as a bundle: policy %v, error %v", p, err)
			}
		})
	}
}

func numbered(n int, form string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, form, i)
	}
	if b.Len() > policy.MaxDocument-100 {
		return b.String()[:strings.LastIndex(b.String()[:policy.MaxDocument-100], ",")]
	}
	return b.String()
}

// bomb is a short document of aliases that stand for ten million values.
func bomb() string {
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for _, c := range "bcdefg" {
		bomb += fmt.Sprintf("%c: &%c [*%c%s]\n", c, c, c-1, strings.Repeat(", *"+string(c-1), 9))
	}
	return bomb
}

func TestHostilePolicies(t *testing.T) {
	var fragments []policy.Fragment
	for i := range 17 {
		fragments = append(fragments, fragment(fmt.Sprintf("secops/%02d", i), strings.Repeat("#xxxxxx\n", policy.MaxDocument/8)))
	}
	if _, err := policy.Compile(nil, fragments); err == nil || err.Error() != "the documents of the policy have 4456448 bytes together; at most 4194304" {
		t.Errorf("error %v", err)
	}
	if _, err := policy.Compile(nil, fragments[:16]); err != nil {
		t.Errorf("as much as is allowed: %v", err)
	}
}

// A topic that looks like one that is allowed is denied, whatever pattern would take it.
func TestTopicsThatLookLikeOthers(t *testing.T) {
	p := compile(t, "default_decision: allow\nrules: [{id: all, match: {topics: ['job.*', '*']}, decision: allow}]\ntenants: {default: {allow_topics: ['*']}}")
	for _, topic := range []string{"job.\u0430dmin", "job.a\u200b", "job.\uff41", "job.\u00e9", "j\u043eb.a", "job.a\x00", "job.a\nb", "job.\xff"} {
		want(t, p.Decide(&policy.Request{Topic: topic}), policy.Deny, "", "unsupported topic")
		if d, trace := p.Explain(&policy.Request{Topic: topic}); d.Verdict != policy.Deny || len(trace) != 0 {
			t.Errorf("%q: explained as %+v, %+v", topic, d, trace)
		}
	}
	for _, config := range []string{
		`{"safety":{"denied_topics":["job.\u0430"]}}`, `{"safety":{"allowed_topics":["job.*","job.\u200b"]}}`, `{"safety":{"mcp":{"deny_tools":["dr\u043ep"]}}}`,
		`{"safety":{"denied_topics":[` + strings.Repeat(`"a",`, 10_000) + `"a"]}}`,
	} {
		d := p.Decide(&policy.Request{Topic: "job.a", Effective: policy.ParseEffective([]byte(config))})
		want(t, d, policy.Deny, "all", "effective config is not valid")
	}
	for _, name := range []string{"\u0430\u0441\u043c\u0435", "Ωμέγα", "Ångström", "日本語", "K\u212a"} {
		compile(t, "rules: [{id: "+name+", match: {tenants: ["+name+"]}, decision: allow}]\ntenants: {"+name+": {}}") // one alphabet is a name
	}
}

func TestWorkflowBundles(t *testing.T) {
	const rules = "rules:\n  - {id: w, match: {topics: ['job.*']}, decision: deny, reason: not in this workflow}\n"
	p := compile(t, "rules: [{id: base, match: {topics: [job.base]}, decision: allow}]",
		fragment("workflow/deploy.v2/policy", "version: w\n"+rules), fragment("workflow/other/policy", strings.ReplaceAll(rules, "deny", "throttle")),
		fragment("z/pack", "rules: [{id: z, decision: allow}]"))
	tests := []struct {
		workflow, topic string
		verdict         policy.Verdict
		rule            string
	}{
		{"deploy.v2", "job.a", policy.Deny, "w"}, {" deploy.v2 ", "job.a", policy.Deny, "w"}, {"Deploy.v2", "job.a", policy.Allow, "z"},
		{"", "job.a", policy.Allow, "z"}, {"other", "job.a", policy.Throttle, "w"}, {"third", "job.a", policy.Allow, "z"},
		{"deploy.v2", "job.base", policy.Allow, "base"}, {"deploy.v2", "job.a/b", policy.Allow, "z"},
	}
	for _, tt := range tests {
		t.Run(tt.workflow+" "+tt.topic, func(t *testing.T) {
			d := p.Decide(&policy.Request{Topic: tt.topic, WorkflowID: tt.workflow})
			if d.Verdict != tt.verdict || d.RuleID != tt.rule {
				t.Errorf("%s by %q", d.Verdict, d.RuleID)
			}
		})
	}
	_, trace := p.Explain(&policy.Request{Topic: "job.a", WorkflowID: "other"})
	wantTrace(t, trace, []policy.TraceEntry{
		{RuleID: "base", FirstFailedField: "topics"}, {RuleID: "w", FirstFailedField: "workflow_id"}, {RuleID: "w", Matched: true}, {RuleID: "z", Matched: true},
	})
	const form = "a bundle of a workflow is called workflow/<id>/policy; the id is letters, digits, '.', '_' and '-'"
	refused := []struct{ key, text, want string }{
		{"workflow/a/policy", "version: v\ntenants: {acme: {}}", `workflow/a/policy:2:1: "tenants" would reach beyond the workflow; a bundle of a workflow has rules only`},
		{"workflow/a/policy", "default_decision: allow", `workflow/a/policy:1:1: "default_decision" would reach`},
		{"workflow/a/policy", "rules: []\ndefault_tenant: a", `workflow/a/policy:2:1: "default_tenant" would reach`},
		{"workflow/a/policy", "approvals: {self_approval: allow}", `workflow/a/policy:1:1: "approvals" would reach`},
		{"workflow/a/polcy", rules, "workflow/a/polcy: " + form}, {"workflow/a", rules, form}, {"workflow//policy", rules, form},
		{"workflow/a/b/policy", rules, form}, {"workflow/-a/policy", rules, form}, {"workflow/a/policy/", rules, form}, {"workflow/", rules, form},
		{"workflow/" + strings.Repeat("a", 129) + "/policy", rules, form},
	}
	for _, tt := range refused {
		if _, err := policy.Compile(nil, []policy.Fragment{fragment(tt.key, tt.text)}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %s", tt.key, err, tt.want)
		}
	}
	if _, err := policy.Compile(&policy.Source{Name: "workflow/a/policy", Content: []byte("tenants: {}")}, nil); err != nil {
		t.Errorf("a base document may be called as it likes: %v", err)
	}
}
