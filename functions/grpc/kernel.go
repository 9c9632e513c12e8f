package grpc

import (
	"context"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/edge/asking"
)

// SafetyKernel serves cordum.agent.v1.SafetyKernel, policy as the original's other services asked it.
type SafetyKernel struct {
	agentv1.UnimplementedSafetyKernelServer
	kernel *asking.Kernel
}

// Check judges a job that is about to run: it alone counts for velocities.
func (s *SafetyKernel) Check(ctx context.Context, req *agentv1.PolicyCheckRequest) (*agentv1.PolicyCheckResponse, error) {
	q, err := asking.OfCheck(ctx, req)
	if err != nil {
		return nil, err
	}
	return s.kernel.Count(ctx, q)
}

// Evaluate judges a job that somebody thinks about.
func (s *SafetyKernel) Evaluate(ctx context.Context, req *agentv1.PolicyCheckRequest) (*agentv1.PolicyCheckResponse, error) {
	return s.decide(ctx, req)
}

// Simulate is Evaluate under another name.
func (s *SafetyKernel) Simulate(ctx context.Context, req *agentv1.PolicyCheckRequest) (*agentv1.PolicyCheckResponse, error) {
	return s.decide(ctx, req)
}

func (s *SafetyKernel) decide(ctx context.Context, req *agentv1.PolicyCheckRequest) (*agentv1.PolicyCheckResponse, error) {
	q, err := asking.OfCheck(ctx, req)
	if err != nil {
		return nil, err
	}
	return s.kernel.Decide(ctx, q)
}

// Explain judges, and answers what was looked at.
func (s *SafetyKernel) Explain(ctx context.Context, req *agentv1.PolicyCheckRequest) (*agentv1.ExplainResponse, error) {
	q, err := asking.OfCheck(ctx, req)
	if err != nil {
		return nil, err
	}
	return s.kernel.Explain(ctx, q)
}

// ListSnapshots answers the ids of the policies that are and were in force.
func (s *SafetyKernel) ListSnapshots(ctx context.Context, _ *agentv1.ListSnapshotsRequest) (*agentv1.ListSnapshotsResponse, error) {
	snapshots, err := s.kernel.Snapshots(ctx)
	return &agentv1.ListSnapshotsResponse{Snapshots: snapshots}, err
}
