// Package traces is the function that shows the jobs of a trace.
package traces

import (
	"context"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/view"
)

// Service serves cordum.v1.Traces.
type Service struct {
	cordumv1.UnimplementedTracesServer
	d *dispatch.Dispatcher
}

// New makes the service.
func New(d *dispatch.Dispatcher) *Service { return &Service{d: d} }

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Service(cordumv1.Traces_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterTracesHandlerServer(ctx, mux, s)
	})
}

// GetTrace answers the jobs of a trace, in the order of their creation; none for a trace that the tenant does not have.
func (s *Service) GetTrace(ctx context.Context, req *cordumv1.GetTraceRequest) (*cordumv1.GetTraceResponse, error) {
	records, err := s.d.Jobs.Trace(ctx, identity.From(ctx).Tenant, req.GetId(), s.d.Clock.Now())
	if err != nil {
		return nil, err
	}
	jobs := make([]*cordumv1.TraceJob, len(records))
	for i, r := range records {
		jobs[i] = view.TraceJob(r)
	}
	return &cordumv1.GetTraceResponse{Jobs: jobs}, nil
}
