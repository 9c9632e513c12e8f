package grpc

import (
	"context"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
)

// API serves cordum.v1.CordumApi, the original's gRPC door.
type API struct {
	cordumv1.UnimplementedCordumApiServer
	d *dispatch.Dispatcher
}

// SubmitJob submits a job as POST /jobs does, with fixed token limits and no deadline. The credential's principal wins over the field.
func (a *API) SubmitJob(ctx context.Context, req *cordumv1.SubmitJobRequest) (*cordumv1.SubmitJobResponse, error) {
	id := identity.From(ctx)
	s := dispatch.Submission{
		Prompt: req.GetPrompt(), Topic: req.GetTopic(), Adapter: req.GetAdapterId(), Priority: req.GetPriority(), OrgID: req.GetOrgId(),
		TeamID: req.GetTeamId(), ProjectID: req.GetProjectId(), Principal: req.GetPrincipalId(), IdempotencyKey: req.GetIdempotencyKey(),
		ActorID: req.GetActorId(), ActorType: req.GetActorType(), PackID: req.GetPackId(), Capability: req.GetCapability(),
		RiskTags: req.GetRiskTags(), Requires: req.GetRequires(), Labels: req.GetLabels(), MemoryID: req.GetMemoryId(), ContextMode: "raw",
	}
	if id.Principal != "" {
		s.Principal = id.Principal
	}
	if id.CrossTenant && s.OrgID != "" {
		id.Tenant = s.OrgID
	}
	r, err := a.d.Submit(ctx, id, s)
	if err != nil {
		return nil, err
	}
	return &cordumv1.SubmitJobResponse{JobId: r.JobID, TraceId: r.TraceID, Status: dispatch.StatusWord(r.State), Reason: r.Reason}, nil
}

// GetJobStatus answers a job's state; one that the caller's tenant does not have is UNKNOWN.
func (a *API) GetJobStatus(ctx context.Context, req *cordumv1.GetJobStatusRequest) (*cordumv1.GetJobStatusResponse, error) {
	r, err := a.d.Jobs.Load(ctx, identity.From(ctx).Tenant, req.GetJobId(), a.d.Clock.Now())
	if fault.Is(err, fault.NotFound) {
		return &cordumv1.GetJobStatusResponse{JobId: req.GetJobId(), Status: "UNKNOWN"}, nil
	}
	if err != nil {
		return nil, err
	}
	return &cordumv1.GetJobStatusResponse{JobId: r.ID, Status: string(r.State), ResultPtr: r.ResultPtr}, nil
}
