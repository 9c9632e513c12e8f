// Package runs is the function of the routes of runs: start, show, cancel, approve a step, repeat, delete, chat.
package runs

import (
	"context"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/types/known/emptypb"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/word"
	"github.com/cordum-serverless/cordum/shared/core/workflow/chat"
	"github.com/cordum-serverless/cordum/shared/core/workflow/engine"
	"github.com/cordum-serverless/cordum/shared/core/workflow/runs"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/rpc"
)

// Service serves cordum.v1.Runs.
type Service struct {
	cordumv1.UnimplementedRunsServer
	runs  *runs.Runs
	chats *chat.Chats
}

// New makes the service.
func New(d *dispatch.Dispatcher) *Service {
	r := runs.New(d)
	return &Service{runs: r, chats: &chat.Chats{Memory: r.Memory}}
}

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Service(cordumv1.Runs_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterRunsHandlerServer(ctx, mux, s)
	})
}

// The sizes of pages when the request does not say.
const (
	defaultPage     = 50
	defaultTimeline = 200
)

// StartRun starts a workflow.
func (s *Service) StartRun(ctx context.Context, req *cordumv1.StartRunRequest) (*cordumv1.StartRunResponse, error) {
	if err := auth.SameTenant(ctx, req.GetOrgId()); err != nil {
		return nil, err
	}
	key := rpc.IdempotencyKey(ctx)
	if key == "" {
		key = strings.TrimSpace(req.GetIdempotencyKey())
	}
	run, err := s.runs.Start(ctx, identity.From(ctx), runs.Start{
		Workflow: req.GetId(), Team: strings.TrimSpace(req.GetTeamId()), Input: req.GetInput().GetRaw(), DryRun: word.True(req.GetDryRun()), Key: key,
	})
	return s.began(ctx, run, err)
}

// began tells of a run that was started, and of its trace beside.
func (s *Service) began(ctx context.Context, run string, err error) (*cordumv1.StartRunResponse, error) {
	if err != nil {
		return nil, err
	}
	if err := rpc.SetTraceID(ctx, run); err != nil {
		s.runs.Jobs.Log.WarnContext(ctx, "trace id not sent beside the answer", "run", run, "error", err)
	}
	return &cordumv1.StartRunResponse{RunId: run}, nil
}

// ListWorkflowRuns lists the newest runs of a workflow.
func (s *Service) ListWorkflowRuns(ctx context.Context, req *cordumv1.ListWorkflowRunsRequest) (*cordumv1.ListWorkflowRunsResponse, error) {
	views, err := s.runs.Of(ctx, identity.From(ctx).Tenant, req.GetId())
	if err != nil {
		return nil, err
	}
	all, err := shownAll(views)
	return &cordumv1.ListWorkflowRunsResponse{Runs: all}, err
}

// ListRuns lists runs of the tenant.
func (s *Service) ListRuns(ctx context.Context, req *cordumv1.ListRunsRequest) (*cordumv1.ListRunsResponse, error) {
	if err := auth.SameTenant(ctx, req.GetOrgId()); err != nil {
		return nil, err
	}
	f := runs.Filter{
		Status: engine.Status(strings.ToLower(strings.TrimSpace(req.GetStatus()))), Workflow: strings.TrimSpace(req.GetWorkflowId()),
		Team: strings.TrimSpace(req.GetTeamId()), After: job.LowerBound(req.GetUpdatedAfter()), Before: job.UpperBound(req.GetUpdatedBefore()),
	}
	if cursor := job.UpperBound(req.GetCursor()); cursor > 0 && (f.Before == 0 || cursor < f.Before) {
		f.Before = cursor
	}
	views, next, err := s.runs.List(ctx, identity.From(ctx).Tenant, f, job.Limit(req.GetLimit(), defaultPage))
	if err != nil {
		return nil, err
	}
	items, err := shownAll(views)
	return &cordumv1.ListRunsResponse{Items: items, NextCursor: next}, err
}

// notFound is what the routes of one run say of one that is not there, as they always have.
var notFound = fault.New(fault.NotFound, "not found")

func orNotFound(err error) error {
	if fault.Is(err, fault.NotFound) {
		return notFound
	}
	return err
}

// GetRun answers a run with all its steps.
func (s *Service) GetRun(ctx context.Context, req *cordumv1.GetRunRequest) (*cordumv1.Run, error) {
	v, err := s.runs.Get(ctx, identity.From(ctx).Tenant, req.GetId())
	if err != nil {
		return nil, orNotFound(err)
	}
	res, err := shown(v)
	if err != nil {
		return nil, err
	}
	steps := func(of func(*cordumv1.StepRun)) func() {
		return func() {
			for _, s := range res.GetSteps() {
				of(s)
			}
		}
	}
	// A run with many children may be too much for an answer: what it says twice goes first.
	for _, leave := range []func(){
		steps(func(s *cordumv1.StepRun) { s.Children = nil }), steps(func(s *cordumv1.StepRun) { s.Input = nil }), func() { res.Context = nil },
	} {
		if fits, err := rest.Fits(res); err != nil || fits {
			return res, err
		}
		leave()
	}
	return res, nil
}

// DeleteRun removes a run.
func (s *Service) DeleteRun(ctx context.Context, req *cordumv1.DeleteRunRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, orNotFound(s.runs.Delete(ctx, identity.From(ctx), req.GetId()))
}

// CancelRun stops a run.
func (s *Service) CancelRun(ctx context.Context, req *cordumv1.CancelRunRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.runs.Cancel(ctx, identity.From(ctx), req.GetId(), req.GetRunId())
}

// ApproveStep approves or rejects a step that waits.
func (s *Service) ApproveStep(ctx context.Context, req *cordumv1.ApproveStepRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.runs.ApproveStep(ctx, identity.From(ctx), req.GetId(), req.GetRunId(), req.GetStepId(), req.GetApproved())
}

// RerunRun starts a run that repeats another.
func (s *Service) RerunRun(ctx context.Context, req *cordumv1.RerunRunRequest) (*cordumv1.StartRunResponse, error) {
	run, err := s.runs.Rerun(ctx, identity.From(ctx), runs.Rerun{Run: req.GetId(), FromStep: strings.TrimSpace(req.GetFromStep()), DryRun: req.GetDryRun()})
	return s.began(ctx, run, err)
}

// GetTimeline lists what happened in a run.
func (s *Service) GetTimeline(ctx context.Context, req *cordumv1.GetTimelineRequest) (*cordumv1.GetTimelineResponse, error) {
	entries, err := s.runs.Timeline(ctx, identity.From(ctx).Tenant, req.GetId(), job.Limit(req.GetLimit(), defaultTimeline))
	if err != nil {
		return nil, err
	}
	res := &cordumv1.GetTimelineResponse{Events: make([]*cordumv1.TimelineEvent, len(entries))}
	for i, e := range entries {
		event := &cordumv1.TimelineEvent{
			Time: e.Time, Type: e.Type, RunId: e.RunID, WorkflowId: e.WorkflowID, StepId: e.StepID, JobId: e.JobID, Status: e.Status, ResultPtr: e.ResultPtr,
			Message: e.Message,
		}
		if e.Data != nil {
			if event.Data, err = written(e.Data); err != nil {
				return nil, err
			}
		}
		res.Events[i] = event
	}
	return res, nil
}
