// Package approvals is the function of the approvals' routes: what waits for a human, approve, reject.
package approvals

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/word"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/view"
)

// Service serves cordum.v1.Approvals.
type Service struct {
	cordumv1.UnimplementedApprovalsServer
	d *dispatch.Dispatcher
}

// New makes the service.
func New(d *dispatch.Dispatcher) *Service { return &Service{d: d} }

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Service(cordumv1.Approvals_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterApprovalsHandlerServer(ctx, mux, s)
	})
}

// defaultPage is the size of a page when the request does not say.
const defaultPage = 100

// How much input a page shows, in bytes: of one job, and of all.
const (
	maxInput  = 8 << 10
	maxInputs = 1 << 20
)

// ListApprovals lists what waits, and, where that is asked for, what was resolved.
func (s *Service) ListApprovals(ctx context.Context, req *cordumv1.ListApprovalsRequest) (*cordumv1.ListApprovalsResponse, error) {
	now := s.d.Clock.Now()
	jobs, next, err := s.d.Jobs.Approvals(
		ctx, identity.From(ctx).Tenant, word.True(req.GetIncludeResolved()), job.UpperBound(req.GetCursor()), job.Limit(req.GetLimit(), defaultPage), now)
	if err != nil {
		return nil, err
	}
	inForce := ""
	if slices.ContainsFunc(jobs, func(a *job.Approvable) bool { return a.Resolved == nil }) {
		head, err := s.d.Policy.Current(ctx)
		if err != nil {
			return nil, err
		}
		inForce = head.Policy.Snapshot()
	}
	res := &cordumv1.ListApprovalsResponse{NextCursor: next}
	room := maxInputs
	for _, a := range jobs {
		item := shown(a, inForce, now)
		if n := len(a.Context); n <= maxInput && n <= room {
			item.JobInput = view.JSON(a.Context)
			room -= n
		}
		item.DecisionSummary = summary(a, item)
		describe(a, item)
		res.Items = append(res.Items, item)
	}
	return res, nil
}

// shown is a job that waits, or waited, with all but its input. inForce is the policy as it is now.
func shown(a *job.Approvable, inForce string, now time.Time) *cordumv1.Approval {
	asked := a.Decision
	item := &cordumv1.Approval{
		JobId: a.ID, Job: view.Record(a.Record), ApprovalRef: a.ID, ContextPtr: job.ContextPointer(a.ID), ApprovalRevision: int32(a.Asked),
		WorkflowId: or(a.WorkflowID, a.RequestLabels["workflow_id"]), WorkflowRunId: a.RequestLabels["run_id"], WorkflowStepId: a.RequestLabels["step_id"],
	}
	switch r := a.Resolved; {
	case r != nil:
		asked = r.Decision
		item.ApprovalRevision, item.ApprovalStatus, item.ApprovalActionability = int32(r.Revision), view.Resolutions[r.Resolution], "resolved"
		if r.Resolution == job.Expire {
			item.ApprovalActionability = "expired"
		}
		item.ApprovalDecision, item.ResolvedBy, item.ResolvedRole, item.ResolvedAt = r.Resolution, r.By, r.Role, r.At
		item.Resolution, item.ResolvedComment = r.Reason, r.Note
	case a.ApproveBy != 0 && a.ApproveBy <= now.UnixMicro():
		item.ApprovalStatus, item.ApprovalActionability = view.Resolutions[job.Expire], "expired"
	case asked.Snapshot != inForce && !a.Gate: // a gate is the workflow's, whatever the policy says
		item.ApprovalStatus, item.ApprovalActionability = "invalidated", "invalidated"
	default:
		item.ApprovalStatus, item.ApprovalActionability = view.Pending, "actionable"
	}
	if a.Resolved == nil {
		item.ApprovalRequired, item.ExpiresAt = true, a.ApproveBy
	}
	item.Decision, item.PolicySnapshot, item.PolicyRuleId, item.PolicyReason = policy.RequireApproval.String(), asked.Snapshot, asked.RuleID, asked.Reason
	item.Constraints, item.JobHash = view.Constraints(asked.Constraints), asked.JobHash
	return item
}

// maxSubject is how much of a prompt a summary repeats, in bytes.
const maxSubject = 200

// summary says in words what there is to decide.
func summary(a *job.Approvable, item *cordumv1.Approval) *cordumv1.DecisionSummary {
	s := &cordumv1.DecisionSummary{
		Source: "policy_only", Completeness: "partial", ContextStatus: "available", Title: a.Topic, Why: item.GetPolicyReason(),
		NextEffect: effects[item.GetApprovalStatus()],
	}
	if item.GetWorkflowId() != "" {
		s.Source = "workflow_labels"
	}
	switch {
	case !a.HadContext:
		s.ContextStatus, s.Completeness = "absent", "full"
	case !a.HasContext:
		s.ContextStatus = "missing"
	case a.Context != nil && view.JSON(a.Context) == nil:
		s.ContextStatus = "malformed"
	case item.GetJobInput() != nil:
		s.Completeness = "full"
	}
	if s.Subject = job.Prompt(a.Context); len(s.GetSubject()) > maxSubject {
		s.Subject = strings.ToValidUTF8(s.GetSubject()[:maxSubject], "") + "…"
	}
	return s
}

// gateContext is what an approval step shows to who decides: see package engine.
type gateContext struct {
	Workflow struct {
		StepName string `json:"step_name"`
	} `json:"workflow"`
	Decision map[string]any `json:"decision"`
}

// describe adds what the approval step of a workflow says of itself.
func describe(a *job.Approvable, item *cordumv1.Approval) {
	if !a.Gate {
		return
	}
	item.GateType = a.RequestLabels["gate_type"]
	var c gateContext
	if json.Unmarshal(a.Context, &c) != nil {
		return // it is large, or has gone
	}
	item.StepName = c.Workflow.StepName
	word := func(name string) string {
		switch v := c.Decision[name].(type) {
		case string:
			return v
		case float64:
			return strconv.FormatFloat(v, 'f', -1, 64)
		}
		return ""
	}
	s := item.GetDecisionSummary()
	s.Source, s.Subject = "workflow_payload", word("subject")
	s.Title = cmp.Or(word("title"), item.GetStepName(), item.GetWorkflowStepId())
	s.Amount, s.Currency, s.Vendor = word("amount"), word("currency"), word("vendor")
	if why := word("why"); why != "" {
		s.Why = why
	}
	if effect := gateEffects[item.GetApprovalStatus()]; effect != "" {
		s.NextEffect = effect
	}
}

// gateEffects say what comes of the approval of a step, by its status.
var gateEffects = map[string]string{
	view.Pending:                  "approved, the workflow goes on; rejected, the step fails",
	view.Resolutions[job.Approve]: "the workflow went on",
	view.Resolutions[job.Reject]:  "the step failed",
	view.Resolutions[job.Expire]:  "the step failed: nobody approved it in time",
}

// effects say what comes of an approval, by its status.
var effects = map[string]string{
	view.Pending:                  "approved, the job goes to its workers; rejected, it is denied",
	"invalidated":                 "the policy has changed: the job can be rejected, or cancelled and submitted again",
	view.Resolutions[job.Approve]: "the job was let run",
	view.Resolutions[job.Reject]:  "the job was denied",
	view.Resolutions[job.Expire]:  "the job is denied: nobody approved it in time",
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// ApproveJob lets a job run.
func (s *Service) ApproveJob(ctx context.Context, req *cordumv1.ApproveJobRequest) (*cordumv1.ResolveApprovalResponse, error) {
	return answer(s.d.Approve(ctx, identity.From(ctx), req.GetJobId(), dispatch.Word{Reason: req.GetReason(), Note: req.GetNote()}))
}

// RejectJob denies a job.
func (s *Service) RejectJob(ctx context.Context, req *cordumv1.RejectJobRequest) (*cordumv1.ResolveApprovalResponse, error) {
	return answer(s.d.Reject(ctx, identity.From(ctx), req.GetJobId(), dispatch.Word{Reason: req.GetReason(), Note: req.GetNote()}))
}

func answer(r *job.Record, err error) (*cordumv1.ResolveApprovalResponse, error) {
	if err != nil {
		return nil, err
	}
	return &cordumv1.ResolveApprovalResponse{JobId: r.ID, TraceId: r.Trace}, nil
}
