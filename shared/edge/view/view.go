// Package view shows what the domain holds as the contract's messages.
package view

import (
	"encoding/json"
	"maps"
	"time"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/policy"
)

// Records shows the rows of a list.
func Records(records []*job.Record) []*cordumv1.JobRecord {
	rows := make([]*cordumv1.JobRecord, len(records))
	for i, r := range records {
		rows[i] = Record(r)
	}
	return rows
}

// Record shows a row of a list.
func Record(r *job.Record) *cordumv1.JobRecord {
	return &cordumv1.JobRecord{
		Id: r.ID, State: string(r.State), UpdatedAt: r.UpdatedAt, TraceId: r.Trace, Topic: r.Topic, Tenant: r.Tenant, Team: r.Team,
		Principal: r.Principal, ActorId: r.ActorID, ActorType: r.ActorType, IdempotencyKey: r.IdemKey, Capability: r.Capability,
		PackId: r.PackID, RiskTags: r.RiskTags, Requires: r.Requires, Attempts: int32(r.Attempts), SafetyDecision: r.Decision.Verdict,
		SafetyReason: r.Decision.Reason, SafetyRuleId: r.Decision.RuleID, SafetySnapshot: r.Decision.Snapshot,
		DeadlineUnix: deadline(r),
	}
}

// TraceJob shows a job of a trace.
func TraceJob(r *job.Record) *cordumv1.TraceJob {
	return &cordumv1.TraceJob{
		Id: r.ID, JobId: r.ID, State: string(r.State), UpdatedAt: r.UpdatedAt,
		CreatedAt: time.UnixMicro(r.CreatedAt).UTC().Format(time.RFC3339), ParentJobId: r.Parent, ErrorMessage: r.ErrorMessage,
		TraceId: r.Trace, Topic: r.Topic, Tenant: r.Tenant, Team: r.Team, Principal: r.Principal, ActorId: r.ActorID, ActorType: r.ActorType,
		IdempotencyKey: r.IdemKey, Capability: r.Capability, PackId: r.PackID, RiskTags: r.RiskTags, Requires: r.Requires,
		Attempts: int32(r.Attempts), SafetyDecision: r.Decision.Verdict, SafetyReason: r.Decision.Reason,
		SafetyRuleId: r.Decision.RuleID, SafetySnapshot: r.Decision.Snapshot, DeadlineUnix: deadline(r),
	}
}

// deadline is when a job's time is up, in seconds; 0 for never, and for a job that has ended.
func deadline(r *job.Record) int64 {
	if r.State.Terminal() {
		return 0
	}
	return r.DeadlineAt / 1e6
}

// Job shows everything about a job.
func Job(f *job.Full) *cordumv1.Job {
	r, request := f.Record, f.Body.Request
	out := &cordumv1.Job{
		Id: r.ID, State: string(r.State), TraceId: r.Trace, Topic: r.Topic, Tenant: r.Tenant, ActorId: r.ActorID, ActorType: r.ActorType,
		IdempotencyKey: r.IdemKey, Capability: r.Capability, PackId: r.PackID, RiskTags: r.RiskTags, Requires: r.Requires,
		Attempts: int32(r.Attempts), ContextPtr: job.ContextPointer(r.ID), Context: JSON(f.Body.Context), ResultPtr: r.ResultPtr,
		Result: JSON(f.ResultData), SafetyDecision: r.Decision.Verdict, SafetyReason: r.Decision.Reason,
		SafetyRuleId: r.Decision.RuleID, SafetySnapshot: r.Decision.Snapshot, SafetyJobHash: r.Decision.JobHash,
		SafetyConstraints: Constraints(r.Decision.Constraints), ApprovalRequired: r.Decision.ApprovalRequired && r.State == job.ApprovalRequired,
		Labels: labels(f), WorkflowId: first(request.GetWorkflowId(), request.GetLabels()["workflow_id"]),
		RunId: request.GetLabels()["run_id"], StepId: request.GetLabels()["step_id"],
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, ParentJobId: r.Parent, DeadlineUnix: deadline(r),
		WorkerId: r.Worker, ExecutionMs: r.ExecutionMS, ArtifactPtrs: r.Artifacts,
	}
	if out.GetResultPtr() == "" && f.ResultData != nil {
		out.ResultPtr = job.ResultPointer(r.ID)
	}
	if out.GetApprovalRequired() {
		out.ApprovalRef = r.ID
	}
	out.ApprovalRevision, out.RemediationJobs = int32(r.Asked), f.Remediations
	if r.State == job.ApprovalRequired {
		out.ApprovalStatus, out.ApprovalExpiresAt = Pending, r.ApproveBy
	}
	if a := f.Approval; a != nil {
		out.ApprovalBy, out.ApprovalRole, out.ApprovalAt, out.ApprovalReason, out.ApprovalNote = a.By, a.Role, a.At, a.Reason, a.Note
		out.ApprovalPolicySnapshot, out.ApprovalJobHash, out.ApprovalDecision = a.Decision.Snapshot, a.Decision.JobHash, a.Resolution
		if out.GetApprovalStatus() == "" {
			out.ApprovalStatus = Resolutions[a.Resolution]
		}
	}
	if len(f.Decisions) > 0 {
		out.SafetyRemediations = Remediations(f.Decisions[0].Remediations)
	}
	if r.State.Unsuccessful() && (r.ErrorCode != "" || r.ErrorMessage != "") {
		out.ErrorMessage, out.ErrorCode, out.ErrorStatus, out.LastState = r.ErrorMessage, r.ErrorCode, job.WireStatus(r.State), string(r.State)
	}
	if p := r.Progress; p != nil {
		out.Progress = &cordumv1.Progress{Percent: p.Percent, Message: p.Message, StepId: p.StepID, UpdatedAt: p.At}
	}
	return out
}

// Pending is the status of an approval that nobody has resolved.
const Pending = "pending"

// Resolutions are the statuses of approvals by how they were resolved.
var Resolutions = map[string]string{job.Approve: "approved", job.Reject: "rejected", job.Expire: "expired"}

// labels are those of the approval that the job runs under, of the request, and of its metadata; of one name the last has its way.
func labels(f *job.Full) map[string]string {
	all := f.Labels()
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, f.Body.Request.GetLabels())
	maps.Copy(all, f.Body.Request.GetMeta().GetLabels())
	return all
}

// JSON shows stored bytes: a JSON value as it is, null when there is none, and what is not JSON as null too; the memory route shows those.
func JSON(data []byte) *cordumv1.Json {
	if len(data) == 0 || !json.Valid(data) {
		return nil
	}
	return &cordumv1.Json{Raw: data}
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// Decisions shows a job's decisions.
func Decisions(jobID string, ds []job.Decision) []*cordumv1.SafetyDecision {
	out := make([]*cordumv1.SafetyDecision, len(ds))
	for i, d := range ds {
		out[i] = &cordumv1.SafetyDecision{
			Decision: d.Verdict, Reason: d.Reason, RuleId: d.RuleID, PolicySnapshot: d.Snapshot, JobHash: d.JobHash,
			Constraints: Constraints(d.Constraints), ApprovalRequired: d.ApprovalRequired, Remediations: Remediations(d.Remediations),
			CheckedAt: d.CheckedAt,
		}
		if d.ApprovalRequired {
			out[i].ApprovalRef = jobID
		}
	}
	return out
}

// Constraints shows constraints in their snake_case form; nil for none.
func Constraints(c *policy.Constraints) *cordumv1.PolicyConstraints {
	w := dispatch.WireConstraints(c)
	if w == nil {
		return nil
	}
	return &cordumv1.PolicyConstraints{
		Budgets: &cordumv1.BudgetConstraints{
			MaxRuntimeMs: w.GetBudgets().GetMaxRuntimeMs(), MaxRetries: w.GetBudgets().GetMaxRetries(),
			MaxArtifactBytes: w.GetBudgets().GetMaxArtifactBytes(), MaxConcurrentJobs: w.GetBudgets().GetMaxConcurrentJobs(),
		},
		Sandbox: &cordumv1.SandboxProfile{
			Isolated: w.GetSandbox().GetIsolated(), NetworkAllowlist: w.GetSandbox().GetNetworkAllowlist(),
			FsReadOnly: w.GetSandbox().GetFsReadOnly(), FsReadWrite: w.GetSandbox().GetFsReadWrite(),
		},
		Toolchain: &cordumv1.ToolchainConstraints{AllowedTools: w.GetToolchain().GetAllowedTools(), AllowedCommands: w.GetToolchain().GetAllowedCommands()},
		Diff: &cordumv1.DiffConstraints{
			MaxFiles: w.GetDiff().GetMaxFiles(), MaxLines: w.GetDiff().GetMaxLines(), DenyPathGlobs: w.GetDiff().GetDenyPathGlobs(),
		},
		RedactionLevel: w.GetRedactionLevel(),
	}
}

// Remediations shows what a denied job may become.
func Remediations(rs []policy.Remediation) []*cordumv1.PolicyRemediation {
	out := make([]*cordumv1.PolicyRemediation, len(rs))
	for i, r := range rs {
		out[i] = &cordumv1.PolicyRemediation{
			Id: r.ID, Title: r.Title, Summary: r.Summary, ReplacementTopic: r.ReplacementTopic,
			ReplacementCapability: r.ReplacementCapability, AddLabels: r.AddLabels, RemoveLabels: r.RemoveLabels,
		}
	}
	return out
}
