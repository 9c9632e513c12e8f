package policy_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/reference"
)

// rulesOfWorkflow makes a document that an override may be.
func rulesOfWorkflow(t *testing.T, draw reference.Draw) (rules []policy.Rule, text []byte) {
	t.Helper()
	rules = reference.Document(draw, "d").Rules
	for i := range rules {
		r := &rules[i]
		r.Constraints, r.Velocity = nil, nil
		if strings.HasPrefix(r.Decision, "allow") {
			r.Decision = "allow"
		}
	}
	text, err := json.Marshal(map[string]any{"rules": rules})
	if err != nil {
		t.Fatal(err)
	}
	d, err := policy.Parse("d", text)
	if err != nil {
		t.Fatal(err)
	}
	return d.Rules, text
}

var lenience = []policy.Verdict{policy.Deny, policy.Throttle, policy.RequireApproval, policy.AllowWithConstraints, policy.Allow}

func stricter(a, b policy.Verdict) bool {
	allows := func(v policy.Verdict) policy.Verdict {
		if v == policy.AllowWithConstraints {
			return policy.Allow
		}
		return v
	}
	return slices.Index(lenience, allows(a)) < slices.Index(lenience, allows(b))
}

// Whatever the policy, the rules of a workflow and the job are: what is decided with the rules is what is decided without them or what their first
// match says, whichever is stricter, and what the configuration denies it denies.
func TestAnOverrideOnlyRestricts(t *testing.T) {
	t.Parallel()
	restricted, passed := 0, 0
	for seed := range uint64(3000) {
		draw := rand.New(rand.NewPCG(seed, 7)).IntN
		base, fragments := reference.Documents(draw)
		p, err := policy.Compile(base, fragments)
		if err != nil {
			t.Fatal(err)
		}
		rules, text := rulesOfWorkflow(t, draw)
		o, err := policy.CompileOverride("wf", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		for range 5 {
			r, _ := reference.Request(draw)
			if draw(4) > 0 {
				r.WorkflowID = "wf"
			}
			without := p.Decide(r)
			free := *r
			free.Effective = nil
			byPolicy, before := p.Explain(&free)
			free.Override = o
			_, after := p.Explain(&free)
			want := byPolicy
			i := slices.IndexFunc(after[len(before):], func(e policy.TraceEntry) bool { return e.Matched })
			if i >= 0 && stricter(rules[i].Verdict, want.Verdict) {
				want.Verdict, want.Reason, want.RuleID = rules[i].Verdict, rules[i].Reason, rules[i].ID
			}
			if without.Verdict != byPolicy.Verdict || without.Reason != byPolicy.Reason { // the configuration denies
				want.Verdict, want.Reason = policy.Deny, without.Reason
			}
			with := *r
			with.Override = o
			got := p.Decide(&with)
			if got.Verdict != want.Verdict || got.Reason != want.Reason || got.RuleID != want.RuleID || got.Snapshot != without.Snapshot ||
				got.Constraints != without.Constraints || got.MaxConcurrentJobs != without.MaxConcurrentJobs ||
				got.ApprovalRequired != (got.Verdict == policy.RequireApproval) || (got.ThrottleFor > 0) != (got.Verdict == policy.Throttle) {
				t.Fatalf("got %+v\nwant %+v\nwithout %+v\nrules %s\nrequest %+v", got, want, without, text, *r)
			}
			if r.WorkflowID != "wf" && got.Verdict != without.Verdict {
				t.Fatalf("a job of %q is %s, without the rules of wf it is %s", r.WorkflowID, got.Verdict, without.Verdict)
			}
			if got.Verdict == without.Verdict {
				passed++
			} else {
				restricted++
			}
		}
	}
	if restricted < 200 || passed < 200 {
		t.Errorf("%d restricted, %d not: the generator is too one-sided", restricted, passed)
	}
}

func TestWhatAnOverrideMayNotSay(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"rules: [{decision: allow_with_constraints}]":                                                                "rule 1: the rules of a workflow have no constraints and no velocity",
		"rules: [{decision: deny, constraints: {budgets: {max_retries: 1}}}]":                                        "rule 1: the rules of a workflow have no constraints and no velocity",
		"rules: [{decision: allow}, {decision: deny, velocity: {max_requests: 1, window_seconds: 60, key: tenant}}]": "rule 2: ",
		"tenants: {a: {deny_topics: [job.x]}}":                                                                       `workflow/wf/policy:1:1: "tenants" would reach beyond the workflow`,
		"rules: [{decision: maybe}]":                                                                                 "workflow/wf/policy:1:",
		"# " + strings.Repeat("x", policy.MaxOverride):                                                               "at most 32768 bytes",
	} {
		if _, err := policy.CompileOverride("wf", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{"", " \n"} {
		if o, err := policy.CompileOverride("wf", []byte(text)); o != nil || err != nil {
			t.Errorf("%q: %v, %v", text, o, err)
		}
	}
	if o, err := policy.CompileOverride("wf", []byte("# nothing yet")); o == nil || err != nil {
		t.Errorf("a document without rules: %v, %v", o, err)
	}
}
