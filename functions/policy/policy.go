// Package policy is the function of the routes that ask policy: evaluate, simulate, explain, and the policies of late. It stores nothing.
package policy

import (
	"context"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/edge/asking"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
)

// Service serves cordum.v1.Policy.
type Service struct {
	cordumv1.UnimplementedPolicyServer
	kernel *asking.Kernel
}

// New makes the service.
func New(d *dispatch.Dispatcher) *Service { return &Service{kernel: asking.NewKernel(d)} }

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Service(cordumv1.Policy_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterPolicyHandlerServer(ctx, mux, s)
	})
}

// Evaluate judges a job that need not exist.
func (s *Service) Evaluate(ctx context.Context, req *cordumv1.PolicyRequest) (*agentv1.PolicyCheckResponse, error) {
	return s.decide(ctx, req)
}

// Simulate is Evaluate under another name.
func (s *Service) Simulate(ctx context.Context, req *cordumv1.PolicyRequest) (*agentv1.PolicyCheckResponse, error) {
	return s.decide(ctx, req)
}

func (s *Service) decide(ctx context.Context, req *cordumv1.PolicyRequest) (*agentv1.PolicyCheckResponse, error) {
	q, err := asking.Of(ctx, req)
	if err != nil {
		return nil, err
	}
	return s.kernel.Decide(ctx, q)
}

// Explain judges, and answers what was looked at.
func (s *Service) Explain(ctx context.Context, req *cordumv1.PolicyRequest) (*agentv1.ExplainResponse, error) {
	q, err := asking.Of(ctx, req)
	if err != nil {
		return nil, err
	}
	return s.kernel.Explain(ctx, q)
}

// ListPolicySnapshots answers the ids of the policies that are and were in force.
func (s *Service) ListPolicySnapshots(
	ctx context.Context, _ *cordumv1.ListPolicySnapshotsRequest,
) (*cordumv1.ListPolicySnapshotsResponse, error) {
	snapshots, err := s.kernel.Snapshots(ctx)
	return &cordumv1.ListPolicySnapshotsResponse{Snapshots: snapshots}, err
}
