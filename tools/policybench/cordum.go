package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/policy"
)

type cordum struct{ policy *policy.Policy }

// load writes bundles of a thousand rules.
func (e *cordum) load(_ context.Context, rules []rule) (err error) {
	var bundles []policy.Fragment
	for start := 0; start < len(rules); start += 1000 {
		var b strings.Builder
		b.WriteString("rules:\n")
		for _, r := range rules[start:min(start+1000, len(rules))] {
			fmt.Fprintf(&b, "  - {id: %s, match: {%s}, decision: %s}\n", r.id, r.match(), map[bool]string{true: "allow", false: "deny"}[r.allow])
		}
		bundles = append(bundles, policy.Fragment{Key: fmt.Sprintf("secops/%02d", start/1000), Content: []byte(b.String())})
	}
	e.policy, err = policy.Compile(nil, bundles)
	return err
}

func (r rule) match() string {
	var m []string
	add := func(form, value string) {
		if value != "" {
			m = append(m, fmt.Sprintf(form, value))
		}
	}
	if r.prefix != "" {
		add("topics: ['%s']", r.prefix+"*")
	}
	add("topics: ['%s']", r.topic)
	add("risk_tags: [%s]", r.tag)
	add("labels: {team: %s}", r.team)
	add("capabilities: [%s]", r.capability)
	return strings.Join(m, ", ")
}

func (e *cordum) ask(r request) func() (bool, error) {
	q := &policy.Request{Topic: r.topic, Capability: r.capability, RiskTags: r.tags, Labels: map[string]string{"team": r.team}}
	return func() (bool, error) {
		d := e.policy.Decide(q)
		return d.Verdict == policy.Allow, nil
	}
}
