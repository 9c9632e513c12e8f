package corpus_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/corpus"
)

func dir(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range files {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

const base = `
rules:
  - {id: prod, match: {labels: {env: prod}}, decision: require_approval, reason: ask}
  - {match: {topics: [job.nobody]}, decision: deny}
`

const bundle = `
rules:
  - id: wipe
    match: {topics: [job.wipe]}
    decision: deny
    reason: never
    remediations: [{id: list}, {id: count}]
    constraints: {redaction_level: high, budgets: {max_retries: 2, max_concurrent_jobs: 3}, toolchain: {allowed_tools: [a, b]}}
  - {id: burst, match: {topics: [job.burst]}, decision: throttle, throttle_duration: 7s, velocity: {max_requests: 3, window_seconds: 60}}
  - {id: rest, match: {actor_ids: [maya], pack_ids: [p], requires: [docker]}, decision: allow}
`

const cases = `
cases:
  - name: right
    request: {topic: job.wipe}
    expect:
      decision: DENY
      rule: wipe
      reason: never
      constraints: {redaction_level: high, budgets: {max_retries: 2}, toolchain: {allowed_tools: [a, b]}}
      remediations: [list, count]
      approval_required: false
      limit: 3
  - name: wrong in everything
    request: {topic: job.wipe, labels: {env: prod}}
    expect: {decision: DENY, rule: wipe, reason: "", constraints: true, remediations: true, approval_required: false, limit: 3, throttle: 7s}
  - name: wrong in parts
    request: {topic: job.wipe}
    expect:
      {decision: DENY, constraints: {redaction_level: low, budgets: {max_retries: 1, max_runtime_ms: 5}, toolchain: {allowed_tools: [a]}}, remediations: [list]}
  - name: all of a request
    request:
      {job_id: j, topic: job.a, tenant: t, org_id: t, team_id: x, principal_id: other, workflow_id: w, step_id: s, priority: batch, estimated_cost: 0.4,
       budget: {deadline_ms: 60000}, memory_id: m,
       meta: {tenant_id: t, actor_id: maya, actor_type: human, idempotency_key: k, capability: c, risk_tags: [r], requires: [docker], pack_id: p, labels: {a: b}}}
    expect: {decision: ALLOW, rule: rest, constraints: false, remediations: false}
  - name: effective config
    request: {topic: job.wipe, labels: {env: prod}, effective_config: {safety: {denied_topics: [job.w*]}}}
    expect: {decision: DENY, rule: prod}
  - name: a burst
    request: {topic: job.burst}
    counts: {burst: 4}
    expect: {decision: THROTTLE, throttle: 7s}
  - name: no burst yet
    request: {topic: job.burst}
    counts: {burst: 3}
    expect: {decision: DENY, rule: ""}
`

func TestRun(t *testing.T) {
	suite, err := corpus.Load(dir(map[string]string{
		"policy.yaml": base, "bundles/secops/rules.yaml": bundle, "cases/all.yaml": cases, "cases/more/last.yml": strings.Replace(cases, "right", "again", 1),
		"README.md": "is not looked at",
	}))
	if err != nil {
		t.Fatal(err)
	}
	report := suite.Run()
	want := [][]string{
		{},
		{
			"decision is REQUIRE_APPROVAL, want DENY", "rule is prod, want wipe", `reason is ask, want ""`, "approval_required is true, want false",
			"limit is 0, want 3", "throttle is 0s, want 7s", "constraints is false, want true", "remediations is false, want true",
		},
		{
			"constraints.budgets.max_retries is 2, want 1", "constraints.budgets.max_runtime_ms is null, want 5", `constraints.redaction_level is "high", want "low"`,
			`constraints.toolchain.allowed_tools is ["a","b"], want ["a"]`, "remediations are [list count], want [list]",
		},
		{}, {}, {}, {},
	}
	if len(report.Results) != 2*len(want) {
		t.Fatalf("%d results", len(report.Results))
	}
	for i, problems := range want {
		if r := report.Results[i]; !slices.Equal(r.Problems, problems) || r.Problems == nil {
			t.Errorf("%s: %q, want %q", r.Name, r.Problems, problems)
		}
	}
	second := report.Results[1]
	if second.Name != "wrong in everything" || second.Got.Verdict != policy.RequireApproval || second.File != "cases/all.yaml" || second.Line != 13 ||
		len(second.Trace) != 5 || !second.Trace[0].Matched {
		t.Errorf("%+v", second)
	}
	if last := report.Results[7]; last.Name != "again" || last.File != "cases/more/last.yml" || last.Line != 3 {
		t.Errorf("%+v", last)
	}
	if !slices.Equal(report.Uncovered, []corpus.Rule{{Document: "policy.yaml", ID: "#2"}}) || len(report.Rules) != 5 {
		t.Errorf("uncovered %+v of %+v", report.Uncovered, report.Rules)
	}
}

func TestLoadRefuses(t *testing.T) {
	with := func(old, replacement string) string { return strings.Replace(cases, old, replacement, 1) }
	tests := []struct {
		name, file, text, want string
	}{
		{"a misspelt expectation", "cases/all.yaml", with("rule: wipe", "ruel: wipe"), `cases/all.yaml:7:7: unknown field "ruel"`},
		{"a misspelt member of a request", "cases/all.yaml", with("{topic: job.wipe}", "{topics: job.wipe}"), `cases/all.yaml:4:15: unknown field "topics"`},
		{"a key beside the cases", "cases/all.yaml", cases + "policy: x\n", `: unknown field "policy"`},
		{"not YAML", "cases/all.yaml", "cases: [", `cases/all.yaml:1:8: sequence end token ']' not found`},
		{"two documents", "cases/all.yaml", cases + "---\ncases: []\n", `cases/all.yaml: more than one document`},
		{"no cases", "cases/all.yaml", "", "no cases: a file in cases/ has them"},
		{"a case without a name", "cases/all.yaml", with("name: right", "name: ''"), "cases/all.yaml: a case has no name"},
		{"a case that expects nothing", "cases/all.yaml", with("decision: DENY", ""), `cases/all.yaml:3: case "right" expects no decision`},
		{"a decision that is none", "cases/all.yaml", with("decision: DENY", "decision: deny"),
			`cases/all.yaml:3: case "right" expects the decision "deny"; one of ALLOW, DENY, REQUIRE_APPROVAL, THROTTLE, ALLOW_WITH_CONSTRAINTS`},
		{"constraints of a word", "cases/all.yaml", with("constraints: true", "constraints: some"), `cases/all.yaml:13: case "wrong in everything" expects constraints`},
		{"remediations of a word", "cases/all.yaml", with("remediations: true", "remediations: list"), `cases/all.yaml:13: case "wrong in everything" expects remediations`},
		{"counts of no rule", "cases/all.yaml", with("counts: {burst: 4}", "counts: {bursts: 4}"), `case "a burst" counts for "bursts", which is no rule`},
		{"a case that nothing would look at", "cases/all.yaml.orig", cases, "cases/all.yaml.orig: not a .yaml file, so nothing would look at it"},
		{"a policy that is not valid", "policy.yaml", strings.Replace(base, "require_approval", "ask", 1), `policy.yaml:3:`},
		{"a bundle that is not valid", "bundles/secops/rules.yaml", strings.Replace(bundle, "decision: deny", "decision: never", 1), `secops/rules:5:`},
		{"a bundle of a misspelt workflow", "bundles/workflow/deploy.yaml", "rules: []", "workflow/deploy: a bundle of a workflow is called"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"policy.yaml": base, "bundles/secops/rules.yaml": bundle, "cases/all.yaml": cases}
			files[tt.file] = tt.text
			_, err := corpus.Load(dir(files))
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
	if _, err := corpus.Load(dir(map[string]string{"cases/all.yaml": cases})); err == nil || err.Error() != "no policy: neither policy.yaml nor a file in bundles/" {
		t.Errorf("without a policy: %v", err)
	}
	if _, err := corpus.Load(dir(map[string]string{"policy.yaml": base})); err == nil || err.Error() != "no cases: a file in cases/ has them" {
		t.Errorf("without cases: %v", err)
	}
}
