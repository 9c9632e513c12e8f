// Package corpus runs tests of policies that are written as YAML, so that who writes a policy can say what it must decide, and have it
// checked before it is published:
//
//	policy: |                       # the base document; may be missing
//	  rules: [{id: demo, match: {topics: [job.demo.*]}, decision: allow}]
//	fragments:                      # bundles by key; may be missing
//	  secops/rules: |
//	    rules: []
//	cases:
//	  - name: demo jobs run
//	    request: {topic: job.demo.echo, tenant: acme, labels: {env: prod}, meta: {risk_tags: [prod]}}
//	    expect: {decision: ALLOW, rule: demo}
//
// A request has the members of POST /api/v1/policy/evaluate that policies look at. What a case does not expect is not compared.
package corpus

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"

	"github.com/cordum-serverless/cordum/shared/core/policy"
)

// Result is what became of one case.
type Result struct {
	Name string
	Got  policy.Decision
	// Problems are the expectations that do not hold, never nil; none is a case that passed.
	Problems []string
}

type file struct {
	Policy    string            `yaml:"policy"`
	Fragments map[string]string `yaml:"fragments"`
	Cases     []testCase        `yaml:"cases"`
}

type testCase struct {
	Name    string  `yaml:"name"`
	Request request `yaml:"request"`
	Expect  expect  `yaml:"expect"`
}

type request struct {
	JobID           string            `yaml:"job_id"`
	Topic           string            `yaml:"topic"`
	Tenant          string            `yaml:"tenant"`
	PrincipalID     string            `yaml:"principal_id"`
	WorkflowID      string            `yaml:"workflow_id"`
	Labels          map[string]string `yaml:"labels"`
	Meta            meta              `yaml:"meta"`
	EffectiveConfig any               `yaml:"effective_config"`
}

type meta struct {
	ActorID    string   `yaml:"actor_id"`
	ActorType  string   `yaml:"actor_type"`
	Capability string   `yaml:"capability"`
	RiskTags   []string `yaml:"risk_tags"`
	Requires   []string `yaml:"requires"`
	PackID     string   `yaml:"pack_id"`
}

type expect struct {
	Decision string  `yaml:"decision"`
	Rule     *string `yaml:"rule"`
	Reason   *string `yaml:"reason"`
	// Constraints and Remediations say whether there are any.
	Constraints      *bool `yaml:"constraints"`
	Remediations     *bool `yaml:"remediations"`
	ApprovalRequired *bool `yaml:"approval_required"`
}

// Run decides every case of a corpus file; name is what errors call it. An error means that the file or a policy in it is not valid, or
// that a case expects no decision.
func Run(name string, raw []byte) ([]Result, error) {
	var f file
	if err := yaml.UnmarshalWithOptions(raw, &f, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("%s: %s", name, yaml.FormatError(err, false, false))
	}
	if len(f.Cases) == 0 {
		return nil, errors.New(name + ": no cases")
	}
	fragments := make([]policy.Fragment, 0, len(f.Fragments))
	for key, content := range f.Fragments {
		fragments = append(fragments, policy.Fragment{Key: key, Content: []byte(content)})
	}
	p, err := policy.Compile(&policy.Source{Name: name + " policy", Content: []byte(f.Policy)}, fragments)
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(f.Cases))
	for i, c := range f.Cases {
		if c.Expect.Decision == "" {
			return nil, fmt.Errorf("%s: case %q expects no decision", name, c.Name)
		}
		r, err := c.Request.policy()
		if err != nil {
			return nil, fmt.Errorf("%s: case %q: %w", name, c.Name, err)
		}
		got := p.Decide(r)
		results[i] = Result{Name: c.Name, Got: got, Problems: c.Expect.compare(got)}
	}
	return results, nil
}

func (r request) policy() (*policy.Request, error) {
	out := &policy.Request{
		JobID: r.JobID, Topic: r.Topic, Tenant: r.Tenant, Principal: r.PrincipalID, ActorID: r.Meta.ActorID, ActorType: r.Meta.ActorType,
		Capability: r.Meta.Capability, RiskTags: r.Meta.RiskTags, Requires: r.Meta.Requires, PackID: r.Meta.PackID, Labels: r.Labels,
		WorkflowID: r.WorkflowID,
	}
	if r.EffectiveConfig != nil {
		raw, err := json.Marshal(r.EffectiveConfig)
		if err != nil {
			return nil, fmt.Errorf("effective_config: %w", err)
		}
		out.Effective = policy.ParseEffective(raw)
	}
	return out, nil
}

func (e expect) compare(got policy.Decision) []string {
	problems := []string{}
	differs := func(what string, want, have any) {
		if want != have {
			problems = append(problems, fmt.Sprintf("%s is %v, want %v", what, have, want))
		}
	}
	differs("decision", e.Decision, got.Verdict.String())
	if e.Rule != nil {
		differs("rule", *e.Rule, got.RuleID)
	}
	if e.Reason != nil {
		differs("reason", *e.Reason, got.Reason)
	}
	if e.Constraints != nil {
		differs("constraints", *e.Constraints, got.Constraints != nil)
	}
	if e.Remediations != nil {
		differs("remediations", *e.Remediations, len(got.Remediations) > 0)
	}
	if e.ApprovalRequired != nil {
		differs("approval_required", *e.ApprovalRequired, got.ApprovalRequired)
	}
	return problems
}
