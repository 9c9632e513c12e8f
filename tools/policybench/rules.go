package main

import "fmt"

// rule is a rule that all three languages can say. Cedar has no order, only that forbid overrides permit; so every rule that denies stands
// before every rule that allows, and what no rule names is denied.
type rule struct {
	id    string
	allow bool
	// prefix is what a topic begins with, topic the whole; one of them may be set.
	prefix, topic string
	// tag, team and capability must be the request's; "" does not matter.
	tag, team, capability string
}

// makeRules makes n rules as a plane of many teams has them: half deny, half allow, by a team's topics and a tag, by an exact topic, by a label,
// by a capability. The last one is the general one.
func makeRules(n int) []rule {
	rules := make([]rule, 0, n)
	for i := range n - 1 {
		r := rule{id: fmt.Sprintf("r%d", i), allow: i >= n/2}
		switch i % 4 {
		case 0:
			r.prefix, r.tag = fmt.Sprintf("job.team%d.", i), "prod"
		case 1:
			r.topic = fmt.Sprintf("job.tool%d.run", i)
		case 2:
			r.prefix, r.team = "job.", fmt.Sprintf("t%d", i)
		default:
			r.capability = fmt.Sprintf("cap%d", i)
		}
		rules = append(rules, r)
	}
	return append(rules, rule{id: "last", allow: true, prefix: "job.work."})
}

type request struct {
	name                    string
	topic, capability, team string
	tags                    []string
	allowed                 bool
}

// requests are for a policy of n rules, which is a multiple of 4.
func requests(n int) []request {
	early, late := 0, n/2+n/4
	late -= late % 4
	tags := []string{"write", "prod"}
	return []request{
		{name: "allowed by the last", topic: "job.work.load", capability: "work.load", team: "core", tags: []string{"write"}, allowed: true},
		{name: "allowed by a topic", topic: fmt.Sprintf("job.tool%d.run", late+1), capability: "work", team: "core", tags: tags, allowed: true},
		{name: "denied by the first", topic: fmt.Sprintf("job.team%d.x", early), capability: "work", team: "core", tags: tags},
		{name: "denied by a label", topic: "job.work.load", capability: "work", team: "t2", tags: tags},
		{name: "denied by no rule", topic: "job.other.x", capability: "work", team: "core", tags: tags},
	}
}
