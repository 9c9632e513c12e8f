package corpus_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/corpus"
)

const example = `
policy: |
  rules:
    - {id: prod, match: {labels: {env: prod}}, decision: require_approval, reason: ask}
fragments:
  secops/rules: |
    rules:
      - {id: wipe, match: {topics: [job.wipe]}, decision: deny, reason: never, remediations: [{id: list}], constraints: {redaction_level: high}}
      - {id: rest, match: {actor_ids: [maya], pack_ids: [p], requires: [docker]}, decision: allow}
cases:
  - name: right
    request: {topic: job.wipe}
    expect: {decision: DENY, rule: wipe, reason: never, constraints: true, remediations: true, approval_required: false}
  - name: wrong in everything
    request: {topic: job.wipe, labels: {env: prod}}
    expect: {decision: DENY, rule: wipe, reason: never, constraints: true, remediations: true, approval_required: false}
  - name: all of a request
    request:
      {job_id: j, topic: job.a, tenant: t, principal_id: other, workflow_id: w,
       meta: {actor_id: maya, actor_type: human, capability: c, risk_tags: [r], requires: [docker], pack_id: p}}
    expect: {decision: ALLOW, rule: rest}
  - name: effective config
    request: {topic: job.wipe, labels: {env: prod}, effective_config: {safety: {denied_topics: [job.w*]}}}
    expect: {decision: DENY, rule: prod}
`

func TestRun(t *testing.T) {
	results, err := corpus.Run("example", []byte(example))
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{{}, {
		"decision is REQUIRE_APPROVAL, want DENY", "rule is prod, want wipe", "reason is ask, want never", "constraints is false, want true",
		"remediations is false, want true", "approval_required is true, want false",
	}, {}, {}}
	for i, r := range results {
		if !slices.Equal(r.Problems, want[i]) || r.Problems == nil {
			t.Errorf("%s: %q, want %q", r.Name, r.Problems, want[i])
		}
	}
	if results[1].Name != "wrong in everything" || results[1].Got.Verdict != policy.RequireApproval {
		t.Errorf("%+v", results[1])
	}
}

func TestRunRefuses(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"a misspelt expectation", strings.Replace(example, "rule: prod", "ruel: prod", 1), `unknown field "ruel"`},
		{"no cases", "policy: ''", "example: no cases"},
		{"a case that expects nothing", "cases: [{name: a, request: {topic: job.a}}]", `example: case "a" expects no decision`},
		{"a policy that is not valid", strings.Replace(example, "decision: require_approval", "decision: ask", 1), `example policy:2:`},
		{"a fragment that is not valid", strings.Replace(example, "decision: deny", "decision: never", 1), `secops/rules:2:`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := corpus.Run("example", []byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
	var e *policy.Error
	if _, err := corpus.Run("example", []byte("policy: 'rulez: []'\ncases: [{name: a, expect: {decision: DENY}}]")); !errors.As(err, &e) {
		t.Errorf("error %v is no *policy.Error", err)
	}
}
