package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/policy"
)

// teams is a policy as a plane of many teams has one: rules by a team's topics, by exact topic, by pack, by label and by capability. The last
// one allows what is asked. A bundle has a thousand rules.
func teams(n int) []policy.Fragment {
	var bundles []policy.Fragment
	var b strings.Builder
	bundle := func() {
		bundles = append(bundles, policy.Fragment{Key: fmt.Sprintf("secops/%02d", len(bundles)), Content: []byte("rules:\n" + b.String())})
		b.Reset()
	}
	for i := range n - 1 {
		if i > 0 && i%1000 == 0 {
			bundle()
		}
		switch i % 5 {
		case 0:
			fmt.Fprintf(&b, "  - {id: r%d, match: {topics: ['job.team%d.*'], risk_tags: [prod]}, decision: deny}\n", i, i)
		case 1:
			fmt.Fprintf(&b, "  - {id: r%d, match: {topics: ['job.tool%d.run']}, decision: allow}\n", i, i)
		case 2:
			fmt.Fprintf(&b, "  - {id: r%d, match: {pack_ids: [pack%d]}, decision: allow}\n", i, i)
		case 3:
			fmt.Fprintf(&b, "  - {id: r%d, match: {topics: ['job.*'], labels: {team: t%d}}, decision: require_approval}\n", i, i)
		default:
			fmt.Fprintf(&b, "  - {id: r%d, match: {topics: ['job.*'], capabilities: [cap%d]}, decision: throttle}\n", i, i)
		}
	}
	b.WriteString("  - {id: last, match: {topics: ['job.work.*']}, decision: allow}\n")
	bundle()
	return bundles
}

func (b *bench) decisions(context.Context) error {
	request := &policy.Request{
		JobID: "j", Topic: "job.work.load", Tenant: "default", ActorID: "maya", ActorType: "human", Capability: "work.load", PackID: "work",
		RiskTags: []string{"write"}, Requires: []string{"docker"}, Labels: map[string]string{"team": "core", "env": "dev"},
	}
	for _, n := range []int{100, 10000} {
		p, err := policy.Compile(nil, teams(n))
		if err != nil {
			return err
		}
		var last policy.Decision
		r := testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				last = p.Decide(request)
			}
		})
		if last.RuleID != "last" {
			return fmt.Errorf("decision by rule %q", last.RuleID)
		}
		b.line(fmt.Sprintf("decide_%d_rules", n), float64(r.NsPerOp()), "ns")
		b.line(fmt.Sprintf("decide_%d_rules_allocs", n), float64(r.AllocsPerOp()), "allocs")
	}
	return nil
}
