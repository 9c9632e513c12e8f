package asking

import (
	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/policy"
)

var verdicts = [...]agentv1.DecisionType{
	policy.Deny:                 agentv1.DecisionType_DECISION_TYPE_DENY,
	policy.Allow:                agentv1.DecisionType_DECISION_TYPE_ALLOW,
	policy.RequireApproval:      agentv1.DecisionType_DECISION_TYPE_REQUIRE_HUMAN,
	policy.Throttle:             agentv1.DecisionType_DECISION_TYPE_THROTTLE,
	policy.AllowWithConstraints: agentv1.DecisionType_DECISION_TYPE_ALLOW_WITH_CONSTRAINTS,
}

// Answer shows a decision about a job.
func Answer(d policy.Decision, jobID string) *agentv1.PolicyCheckResponse {
	return &agentv1.PolicyCheckResponse{
		Decision: verdicts[d.Verdict], Reason: d.Reason, PolicySnapshot: d.Snapshot, RuleId: d.RuleID,
		Constraints: dispatch.WireConstraints(d.Constraints), ApprovalRequired: d.ApprovalRequired, ApprovalRef: approvalRef(d, jobID),
		Remediations: remediations(d.Remediations),
	}
}

// explanation shows a decision and the way to it.
func explanation(d policy.Decision, trace []policy.TraceEntry, jobID string) *agentv1.ExplainResponse {
	out := &agentv1.ExplainResponse{
		Decision: verdicts[d.Verdict], Reason: d.Reason, PolicySnapshot: d.Snapshot, RuleId: d.RuleID,
		Constraints: dispatch.WireConstraints(d.Constraints), ApprovalRequired: d.ApprovalRequired, ApprovalRef: approvalRef(d, jobID),
		Remediations: remediations(d.Remediations), Trace: make([]*agentv1.ExplainStep, len(trace)),
	}
	for i, step := range trace {
		out.Trace[i] = &agentv1.ExplainStep{RuleId: step.RuleID, Matched: step.Matched, FirstFailedField: step.FirstFailedField}
	}
	return out
}

func approvalRef(d policy.Decision, jobID string) string {
	if !d.ApprovalRequired {
		return ""
	}
	return jobID
}

func remediations(rs []policy.Remediation) []*agentv1.PolicyRemediation {
	out := make([]*agentv1.PolicyRemediation, len(rs))
	for i, r := range rs {
		out[i] = &agentv1.PolicyRemediation{
			Id: r.ID, Title: r.Title, Summary: r.Summary, ReplacementTopic: r.ReplacementTopic,
			ReplacementCapability: r.ReplacementCapability, AddLabels: r.AddLabels, RemoveLabels: r.RemoveLabels,
		}
	}
	return out
}
