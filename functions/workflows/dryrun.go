package workflows

import (
	"cmp"
	"context"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/workflow/engine"
	"github.com/cordum-serverless/cordum/shared/core/workflow/runs"
	"github.com/cordum-serverless/cordum/shared/edge/asking"
)

// DryRunWorkflow asks policy about the jobs of every step.
func (s *Service) DryRunWorkflow(ctx context.Context, req *cordumv1.DryRunWorkflowRequest) (*cordumv1.DryRunWorkflowResponse, error) {
	id := identity.From(ctx)
	input, err := runs.ReadInput(req.GetInput().GetRaw())
	if err != nil {
		return nil, err
	}
	v, err := s.catalog.Current(ctx, id.Tenant, req.GetId())
	switch {
	case err != nil:
		return nil, err
	case v == nil:
		return nil, runs.ErrWorkflow
	}
	if err := runs.CheckInput(v, input); err != nil {
		return nil, err
	}
	plan, err := engine.Compile(v.Workflow, nil, "")
	if err != nil {
		return nil, err
	}
	res := &cordumv1.DryRunWorkflowResponse{WorkflowId: v.ID, Steps: []*cordumv1.DryRunStep{}}
	for _, p := range engine.Previews(plan, input) {
		step := &cordumv1.DryRunStep{StepId: p.StepID, StepName: p.Name, StepType: p.Type}
		if res.Steps = append(res.Steps, step); p.Gate {
			step.Decision, step.Reason = policy.RequireApproval.String(), "workflow approval step"
			continue
		}
		if req.GetEnvironment() != "" {
			p.Labels["env"] = req.GetEnvironment()
		}
		principal := cmp.Or(id.Principal, p.Meta.ActorID)
		d, err := s.kernel.Verdict(ctx, &asking.Question{
			Request: policy.Request{
				Topic: p.Topic, Tenant: id.Tenant, Principal: principal, ActorID: cmp.Or(p.Meta.ActorID, principal), ActorType: p.Meta.ActorType,
				Capability: p.Meta.Capability, RiskTags: p.Meta.RiskTags, Requires: p.Meta.Requires, PackID: p.Meta.PackID, Labels: p.Labels, WorkflowID: v.ID,
			},
			Subject: config.Subject{Tenant: id.Tenant, Team: v.TeamID, Workflow: v.ID, Step: p.StepID},
		})
		if err != nil {
			return nil, err
		}
		step.Decision, step.Reason, step.RuleId = d.Verdict.String(), d.Reason, d.RuleID
	}
	return res, nil
}
