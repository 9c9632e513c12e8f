package policy

import "strings"

const (
	reasonNoRule      = "no matching rule"
	reasonNoTopic     = "missing topic"
	reasonUnsupported = "unsupported topic"
)

// Decide answers what may become of a job: the first rule that matches, then the restrictions, none of which allows anything. It does not
// allocate unless something is denied or a request is unusually large.
func (p *Policy) Decide(r *Request) Decision {
	if reason := topicFault(r); reason != "" {
		return Decision{Reason: reason}
	}
	var f facts
	f.topic = strings.TrimSpace(r.Topic)
	p.look(&f, r)
	return p.conclude(&f, p.first(&f))
}

func topicFault(r *Request) string {
	switch topic := strings.TrimSpace(r.Topic); {
	case topic == "":
		return reasonNoTopic
	case !strings.HasPrefix(topic, "job.") || strings.ContainsFunc(topic, func(r rune) bool { return !isPlain(r) }):
		return reasonUnsupported // a topic with a letter that passes for another is nobody's
	default:
		return ""
	}
}

// conclude turns the rule that matched, len(p.rules) for none, into a decision.
func (p *Policy) conclude(f *facts, matched uint32) Decision {
	d, byRule := p.fallback, int(matched) < len(p.rules)
	if byRule {
		d = p.rules[matched].decision
	}
	if t := p.tenant(f); t != nil {
		if !byRule || d.Verdict != Deny {
			d = t.restrict(d, f.topic, byRule)
		}
		d.MaxConcurrentJobs = lowest(d.MaxConcurrentJobs, t.maxJobs)
		if fault, ok := t.mcp.check(&f.mcp); ok {
			d.deny(fault.reason())
		}
	}
	f.request.Override.restrict(&d, f.request)
	if reason, _, ok := f.request.Effective.check(f); ok {
		d.deny(reason)
	}
	return d
}

// deny keeps which rule matched and what it offers.
func (d *Decision) deny(reason string) {
	d.Verdict, d.Reason, d.ApprovalRequired, d.ThrottleFor = Deny, reason, false, 0
}

// tenant is what the documents say about the request's tenant, nil for nothing.
func (p *Policy) tenant(f *facts) *tenant {
	if int(f.tenant) < len(p.tenants) {
		return p.tenants[f.tenant]
	}
	return nil
}

// tenant is what all documents together say about one tenant.
type tenant struct {
	deny, allow []topicRule
	maxJobs     int64
	mcp         *mcpLists
}

// topicRule is one entry of a tenant's topic lists.
type topicRule struct {
	glob     glob
	decision Decision
}

// restrict applies the topic lists to what the rules said. An entry decides by itself only when no rule matched; after that a deny entry,
// or missing from the allow list, denies.
func (t *tenant) restrict(d Decision, topic string, matched bool) Decision {
	for i := range t.deny {
		if t.deny[i].glob.match(topic) {
			return t.deny[i].decision
		}
	}
	for i := range t.allow {
		switch {
		case !t.allow[i].glob.match(topic):
		case matched:
			return d
		default:
			return t.allow[i].decision
		}
	}
	if len(t.allow) > 0 {
		d.deny(`topic "` + topic + `" not allowed by tenant policy`)
	}
	return d
}

// lowest is the lower of two limits of which 0 is none.
func lowest(a, b int64) int64 {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

func isBlank(s string) bool { return strings.TrimSpace(s) == "" }
