// Package workflows is the function of the routes of workflow definitions: save, read, list and delete them, and ask policy about their steps.
package workflows

import (
	"context"
	"encoding/json"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/types/known/emptypb"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/workflow"
	"github.com/cordum-serverless/cordum/shared/core/workflow/catalog"
	"github.com/cordum-serverless/cordum/shared/edge/asking"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/wire"
)

// Service serves cordum.v1.Workflows.
type Service struct {
	cordumv1.UnimplementedWorkflowsServer
	catalog *catalog.Store
	kernel  *asking.Kernel
}

// New makes the service.
func New(d *dispatch.Dispatcher) *Service {
	return &Service{
		catalog: &catalog.Store{Table: d.Jobs.Table, Blobs: d.Jobs.Blobs, Clock: d.Clock, IDs: d.IDs}, kernel: asking.NewKernel(d),
	}
}

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Service(cordumv1.Workflows_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterWorkflowsHandlerServer(ctx, mux, s)
	})
}

// ListWorkflows lists what was saved last.
func (s *Service) ListWorkflows(ctx context.Context, req *cordumv1.ListWorkflowsRequest) (*cordumv1.ListWorkflowsResponse, error) {
	if err := auth.SameTenant(ctx, req.GetOrgId()); err != nil {
		return nil, err
	}
	all, err := s.catalog.List(ctx, identity.From(ctx).Tenant)
	if err != nil {
		return nil, err
	}
	res := &cordumv1.ListWorkflowsResponse{Workflows: make([]*cordumv1.Workflow, len(all))}
	for i, w := range all {
		if res.Workflows[i], err = shown(w); err != nil {
			return nil, err
		}
	}
	return res, nil
}

// CreateWorkflow saves a workflow, new or not.
func (s *Service) CreateWorkflow(ctx context.Context, req *cordumv1.CreateWorkflowRequest) (*cordumv1.CreateWorkflowResponse, error) {
	if err := auth.SameTenant(ctx, req.GetOrgId()); err != nil {
		return nil, err
	}
	posted, err := definition(req)
	if err != nil {
		return nil, err
	}
	id, err := s.catalog.Save(ctx, identity.From(ctx), posted)
	return &cordumv1.CreateWorkflowResponse{Id: id}, err
}

// definition reads what was posted. Definitions have the members of the contract, so JSON is the way from one to the other.
func definition(req *cordumv1.CreateWorkflowRequest) (*workflow.Workflow, error) {
	text, err := wire.Append(nil, req)
	if err != nil {
		return nil, err
	}
	w, err := workflow.Decode(text)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "invalid json")
	}
	if req.GetSteps() == nil { // not said, which is written {} as well
		w.Steps = nil
	}
	return w, nil
}

// shown is a definition as the contract has it.
func shown(w *workflow.Workflow) (*cordumv1.Workflow, error) {
	text, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	out := &cordumv1.Workflow{}
	return out, wire.Unmarshal(text, out)
}

// GetWorkflow answers a definition.
func (s *Service) GetWorkflow(ctx context.Context, req *cordumv1.GetWorkflowRequest) (*cordumv1.Workflow, error) {
	w, err := s.catalog.Get(ctx, identity.From(ctx).Tenant, req.GetId())
	if err != nil {
		return nil, err
	}
	return shown(w)
}

// DeleteWorkflow removes a definition.
func (s *Service) DeleteWorkflow(ctx context.Context, req *cordumv1.DeleteWorkflowRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.catalog.Delete(ctx, identity.From(ctx), req.GetId())
}
