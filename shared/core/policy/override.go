package policy

import (
	"strconv"
	"strings"
)

// Override are the rules that one workflow has beside the policy: they restrict its jobs further. It is immutable.
type Override struct{ policy *Policy }

// MaxOverride is the largest document of an override, in bytes.
const MaxOverride = 32 << 10

// CompileOverride reads the rules of a workflow, a document as a bundle workflow/<id>/policy is; a blank one is nil. An override only restricts, so
// that a rule of it has no constraints, which would have to be weighed against those of the policy, and no velocity, which would have to be
// counted. Every error is an *Error.
func CompileOverride(workflow string, raw []byte) (*Override, error) {
	if blank(raw) {
		return nil, nil
	}
	name := workflowKeys + workflow + "/policy"
	if len(raw) > MaxOverride {
		return nil, &Error{Source: name, Message: "the rules of a workflow have at most " + strconv.Itoa(MaxOverride) + " bytes"}
	}
	d, err := Parse(name, raw)
	if err != nil {
		return nil, err
	}
	for i, r := range d.Rules {
		if r.Verdict == AllowWithConstraints || r.Constraints != nil || r.Velocity != nil {
			return nil, &Error{Source: name, Message: "rule " + strconv.Itoa(i+1) + ": the rules of a workflow have no constraints and no velocity"}
		}
	}
	p, err := Compile(nil, []Fragment{{Key: name, Content: raw}})
	return &Override{p}, err
}

// strictness orders the verdicts by what they leave of a job. What is throttled comes before what is asked for: whoever approves a job
// does not let it past a throttle that it never met.
var strictness = [...]uint8{Allow: 0, AllowWithConstraints: 0, RequireApproval: 1, Throttle: 2, Deny: 3}

// restrict lets the first rule that matches have its say, if it is stricter than what was decided. Constraints stay.
func (o *Override) restrict(d *Decision, r *Request) {
	if o == nil || d.Verdict == Deny {
		return
	}
	f := o.facts(r)
	i := o.policy.first(&f)
	if int(i) >= len(o.policy.rules) {
		return
	}
	said := &o.policy.rules[i].decision
	if strictness[said.Verdict] <= strictness[d.Verdict] {
		return
	}
	d.Verdict, d.Reason, d.RuleID, d.Remediations = said.Verdict, said.Reason, said.RuleID, said.Remediations
	d.ApprovalRequired, d.ThrottleFor = said.ApprovalRequired, said.ThrottleFor
}

// trace are its rules as Explain shows them.
func (o *Override) trace(r *Request) []TraceEntry {
	if o == nil {
		return nil
	}
	f := o.facts(r)
	var out []TraceEntry
	for i := range o.policy.rules {
		out = append(out, step(o.policy.rules[i].decision.RuleID, fieldNames[o.policy.rules[i].mismatch(&f)]))
	}
	return out
}

func (o *Override) facts(r *Request) facts {
	var f facts
	f.topic = strings.TrimSpace(r.Topic)
	o.policy.look(&f, r)
	return f
}
