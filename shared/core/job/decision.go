package job

import (
	"bytes"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/policy"
)

// Unavailable is the decision of a check that could not be made: the engine, or the policy's store, was out of reach.
const Unavailable = "UNAVAILABLE"

// Decision is the record of one policy check of a job.
type Decision struct {
	// Verdict is ALLOW, DENY, REQUIRE_APPROVAL, THROTTLE, ALLOW_WITH_CONSTRAINTS or UNAVAILABLE; "" is no decision.
	Verdict  string `json:"v"`
	Reason   string `json:"r,omitempty"`
	RuleID   string `json:"u,omitempty"`
	Snapshot string `json:"s,omitempty"`
	// JobHash binds an approval to the request; set when approval is required.
	JobHash          string              `json:"h,omitempty"`
	ApprovalRequired bool                `json:"a,omitempty"`
	Constraints      *policy.Constraints `json:"c,omitempty"`
	// Remediations are kept in the decision's own record, not in the state item.
	Remediations []policy.Remediation `json:"m,omitempty"`
	// CheckedAt is when, in microseconds.
	CheckedAt int64 `json:"t"`
	// By is who or what caused the check. It is kept in the decision's own record, which is its entry in the audit trail.
	By *audit.Origin `json:"b,omitempty"`
}

// Same says whether two decisions come to the same, whenever they were made.
func (d Decision) Same(other Decision) bool {
	d.CheckedAt, other.CheckedAt = 0, 0
	return bytes.Equal(encode(d.Head()), encode(other.Head()))
}

// Allows says whether a job may run under the decision.
func (d Decision) Allows() bool {
	return d.Verdict == policy.Allow.String() || d.Verdict == policy.AllowWithConstraints.String()
}

// Head is what the state item keeps of it.
func (d Decision) Head() Decision {
	d.Remediations, d.By = nil, nil
	return d
}
