// Package jobs is the function of the jobs' routes: submit, list, get, decisions, cancel, remediate.
package jobs

import (
	"context"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/rpc"
	"github.com/cordum-serverless/cordum/shared/edge/view"
)

// Service serves cordum.v1.Jobs.
type Service struct {
	cordumv1.UnimplementedJobsServer
	d *dispatch.Dispatcher
}

// New makes the service.
func New(d *dispatch.Dispatcher) *Service { return &Service{d: d} }

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Service(cordumv1.Jobs_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterJobsHandlerServer(ctx, mux, s)
	})
}

// The sizes of pages when the request does not say.
const (
	defaultPage      = 50
	defaultDecisions = 50
)

// CreateJob submits a job.
func (s *Service) CreateJob(ctx context.Context, req *cordumv1.CreateJobRequest) (*cordumv1.SubmitJobResponse, error) {
	r, err := s.d.Submit(ctx, identity.From(ctx), submission(ctx, req))
	if err != nil {
		return nil, err
	}
	return s.submitted(ctx, r), nil
}

// submitted tells of a job that was submitted, and of its trace beside.
func (s *Service) submitted(ctx context.Context, r dispatch.Receipt) *cordumv1.SubmitJobResponse {
	if err := rpc.SetTraceID(ctx, r.TraceID); err != nil {
		s.d.Log.WarnContext(ctx, "trace id not sent beside the answer", "job", r.JobID, "error", err)
	}
	return &cordumv1.SubmitJobResponse{JobId: r.JobID, TraceId: r.TraceID, Status: dispatch.StatusWord(r.State), Reason: r.Reason}
}

func submission(ctx context.Context, req *cordumv1.CreateJobRequest) dispatch.Submission {
	key := req.GetIdempotencyKey()
	if key == "" {
		key = rpc.IdempotencyKey(ctx)
	}
	return dispatch.Submission{
		Prompt: req.GetPrompt(), Context: req.GetContext().GetRaw(), Topic: req.GetTopic(), Priority: req.GetPriority(),
		Adapter: req.GetAdapterId(), OrgID: req.GetOrgId(), TenantID: req.GetTenantId(), TeamID: req.GetTeamId(),
		ProjectID: req.GetProjectId(), Principal: req.GetPrincipalId(), ActorID: req.GetActorId(), ActorType: req.GetActorType(),
		IdempotencyKey: key, PackID: req.GetPackId(), Capability: req.GetCapability(), RiskTags: req.GetRiskTags(),
		Requires: req.GetRequires(), Labels: req.GetLabels(), MemoryID: req.GetMemoryId(), ContextMode: req.GetContextMode(),
		MaxInputTokens: int64(req.GetMaxInputTokens()), MaxOutputTokens: req.GetMaxOutputTokens(),
		MaxTotalTokens: req.GetMaxTotalTokens(), DeadlineMS: req.GetDeadlineMs(),
		AllowSummarization: req.GetAllowSummarization(), AllowRetrieval: req.GetAllowRetrieval(), Tags: req.GetTags(),
		Parent: strings.TrimSpace(req.GetParentJobId()),
	}
}

// ListJobs lists the tenant's jobs, newest first.
func (s *Service) ListJobs(ctx context.Context, req *cordumv1.ListJobsRequest) (*cordumv1.ListJobsResponse, error) {
	id, now := identity.From(ctx), s.d.Clock.Now()
	if err := auth.SameTenant(ctx, req.GetTenant()); err != nil {
		return nil, err
	}
	f := job.Filter{
		Topic: req.GetTopic(), Team: req.GetTeam(), Trace: req.GetTraceId(),
		After: job.LowerBound(req.GetUpdatedAfter()), Before: job.UpperBound(req.GetUpdatedBefore()),
	}
	if word := req.GetState(); word != "" {
		var ok bool
		if f.State, ok = job.ParseState(word); !ok {
			return &cordumv1.ListJobsResponse{}, nil
		}
	}
	if cursor := job.UpperBound(req.GetCursor()); cursor > 0 && (f.Before == 0 || cursor < f.Before) {
		f.Before = cursor
	}
	records, next, err := s.d.Jobs.List(ctx, id.Tenant, f, job.Limit(req.GetLimit(), defaultPage), now)
	if err != nil {
		return nil, err
	}
	return &cordumv1.ListJobsResponse{Items: view.Records(records), NextCursor: next}, nil
}

// GetJob answers everything about a job.
func (s *Service) GetJob(ctx context.Context, req *cordumv1.GetJobRequest) (*cordumv1.Job, error) {
	f, err := s.d.Jobs.Full(ctx, identity.From(ctx).Tenant, req.GetId(), s.d.Clock.Now())
	if err != nil {
		return nil, err
	}
	res := view.Job(f)
	// What does not fit into an answer lies behind the pointers.
	for _, leave := range []func(){func() { res.Result = nil }, func() { res.Context = nil }} {
		if fits, err := rest.Fits(res); err != nil || fits {
			return res, err
		}
		leave()
	}
	return res, nil
}

// ListJobDecisions answers the decisions of a job, newest first.
func (s *Service) ListJobDecisions(ctx context.Context, req *cordumv1.ListJobDecisionsRequest) (*cordumv1.ListJobDecisionsResponse, error) {
	limit := job.Limit(req.GetLimit(), defaultDecisions)
	decisions, err := s.d.Jobs.Decisions(ctx, identity.From(ctx).Tenant, req.GetId(), limit, s.d.Clock.Now())
	if err != nil {
		return nil, err
	}
	return &cordumv1.ListJobDecisionsResponse{Decisions: view.Decisions(req.GetId(), decisions)}, nil
}

// CancelJob ends a job.
func (s *Service) CancelJob(ctx context.Context, req *cordumv1.CancelJobRequest) (*cordumv1.CancelJobResponse, error) {
	c, err := s.d.Cancel(ctx, identity.From(ctx), req.GetId(), "cancelled via api")
	if err != nil {
		return nil, err
	}
	return &cordumv1.CancelJobResponse{Id: c.JobID, State: string(c.State), Reason: c.Reason}, nil
}

// RemediateJob submits what the policy suggests instead of a job.
func (s *Service) RemediateJob(ctx context.Context, req *cordumv1.RemediateJobRequest) (*cordumv1.SubmitJobResponse, error) {
	r, err := s.d.Remediate(ctx, identity.From(ctx), req.GetId(), req.GetRemediationId(), rpc.IdempotencyKey(ctx))
	if err != nil {
		return nil, err
	}
	return s.submitted(ctx, r), nil
}
