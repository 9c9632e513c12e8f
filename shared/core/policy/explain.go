package policy

import "strings"

// Names of trace entries that are not rules.
const (
	TraceTenantMCP = "tenant:mcp"
	TraceEffective = "effective_config"
)

// TraceEntry is one step on the way to a decision.
type TraceEntry struct {
	// RuleID is a rule's, legacy:<tenant>:deny|allow:<n> of a tenant's topic lists, TraceTenantMCP or TraceEffective.
	RuleID string
	// Matched says that the job fits. A job that does not fit the last two is denied.
	Matched bool
	// FirstFailedField is the first member of match, or the list, that the job does not fit; workflow_id for a rule of another workflow's
	// bundle; "" when it fits.
	FirstFailedField string
}

// Explain decides, and answers the way to the decision: every rule in order, also those behind the first that matched, which is the one
// that counts; then, if there are any, the tenant's topic lists, its MCP lists, the rules of the workflow itself, and the effective
// configuration. A topic that is not acceptable leaves no trace.
func (p *Policy) Explain(r *Request) (Decision, []TraceEntry) {
	trace := []TraceEntry{}
	if topicFault(r) != "" {
		return p.Decide(r), trace
	}
	var f facts
	f.topic = strings.TrimSpace(r.Topic)
	p.look(&f, r)
	for i := range p.rules {
		trace = append(trace, step(p.rules[i].decision.RuleID, fieldNames[p.rules[i].mismatch(&f)]))
	}
	if t := p.tenant(&f); t != nil {
		for _, list := range [][]topicRule{t.deny, t.allow} {
			for i := range list {
				failed := ""
				if !list[i].glob.match(f.topic) {
					failed = fieldNames[fieldTopics]
				}
				trace = append(trace, step(list[i].decision.RuleID, failed))
			}
		}
		if t.mcp != nil && f.mcp.any() {
			failed := ""
			if fault, ok := t.mcp.check(&f.mcp); ok {
				failed = fault.list()
			}
			trace = append(trace, step(TraceTenantMCP, failed))
		}
	}
	trace = append(trace, r.Override.trace(r)...)
	if r.Effective != nil {
		_, failed, _ := r.Effective.check(&f)
		trace = append(trace, step(TraceEffective, failed))
	}
	return p.conclude(&f, p.first(&f)), trace
}

func step(id, failed string) TraceEntry {
	return TraceEntry{RuleID: id, Matched: failed == "", FirstFailedField: failed}
}
