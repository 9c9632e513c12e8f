// Package asking is how policy is asked about jobs that need not exist, over REST and over gRPC: what a question means, and what the answer
// looks like. Nothing that it asks is stored.
package asking

import (
	"bytes"
	"cmp"
	"context"
	"strings"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
)

// Question is a job to judge.
type Question struct {
	// Request is what rules look at; a Kernel adds the effective configuration and what velocities ask for.
	Request policy.Request
	// Subject is whose effective configuration holds.
	Subject config.Subject
	// Config is an effective configuration that the asker gave, JSON; nil is the one in force.
	Config []byte
}

// Of reads a question as REST asks it. The tenant is the caller's; the actor is the principal unless named, and the principal is the caller
// unless named, as for a job that is submitted. Faults: Invalid "topic is required", Denied for a foreign tenant.
func Of(ctx context.Context, r *cordumv1.PolicyRequest) (*Question, error) {
	if strings.TrimSpace(r.GetTopic()) == "" {
		return nil, fault.New(fault.Invalid, "topic is required")
	}
	if err := auth.SameTenant(ctx, r.GetTenant(), r.GetOrgId()); err != nil {
		return nil, err
	}
	id, meta := identity.From(ctx), r.GetMeta()
	q := &Question{
		Request: policy.Request{
			JobID: r.GetJobId(), Topic: r.GetTopic(), Tenant: id.Tenant, Principal: cmp.Or(r.GetPrincipalId(), id.Principal),
			ActorID: meta.GetActorId(), ActorType: meta.GetActorType(), Capability: meta.GetCapability(), RiskTags: meta.GetRiskTags(),
			Requires: meta.GetRequires(), PackID: meta.GetPackId(), Labels: r.GetLabels(), WorkflowID: r.GetWorkflowId(),
		},
		Subject: config.Subject{Tenant: id.Tenant, Team: r.GetTeamId(), Workflow: r.GetWorkflowId(), Step: r.GetStepId()},
		Config:  given(r.GetEffectiveConfig().GetRaw()),
	}
	return q, nil
}

// OfCheck reads a question as gRPC asks it. A blank topic is no fault but a DENY. A job of a workflow says so in its labels. Its fault is Denied
// for a tenant that the caller may not act for.
func OfCheck(ctx context.Context, r *agentv1.PolicyCheckRequest) (*Question, error) {
	id, meta := identity.From(ctx), r.GetMeta()
	if named := strings.TrimSpace(r.GetTenant()); named != "" && id.CrossTenant {
		id.Tenant = named
	} else if err := auth.SameTenant(ctx, named); err != nil {
		return nil, err
	}
	workflow := r.GetLabels()["workflow_id"]
	q := &Question{
		Request: policy.Request{
			JobID: r.GetJobId(), Topic: r.GetTopic(), Tenant: id.Tenant, Principal: cmp.Or(r.GetPrincipalId(), id.Principal),
			ActorID: meta.GetActorId(), ActorType: dispatch.ActorWord(meta.GetActorType()), Capability: meta.GetCapability(),
			RiskTags: meta.GetRiskTags(), Requires: meta.GetRequires(), PackID: meta.GetPackId(), Labels: r.GetLabels(), WorkflowID: workflow,
		},
		Subject: config.Subject{Tenant: id.Tenant, Workflow: workflow, Step: r.GetLabels()["step_id"]},
		Config:  given(r.GetEffectiveConfig()),
	}
	return q, nil
}

// given is nil for a configuration that nobody gave.
func given(raw []byte) []byte {
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	return raw
}
