// Package schemas is the function of the routes of registered schemas.
package schemas

import (
	"context"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/types/known/emptypb"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/schema/registry"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
)

// Service serves cordum.v1.Schemas.
type Service struct {
	cordumv1.UnimplementedSchemasServer
	registry *registry.Store
}

// New makes the service.
func New(d *dispatch.Dispatcher) *Service {
	return &Service{registry: &registry.Store{Table: d.Jobs.Table, Clock: d.Clock}}
}

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Service(cordumv1.Schemas_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterSchemasHandlerServer(ctx, mux, s)
	})
}

// defaultPage is how many ids a list has when the request does not say.
const defaultPage = 100

// RegisterSchema saves a schema.
func (s *Service) RegisterSchema(ctx context.Context, req *cordumv1.RegisterSchemaRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.registry.Register(ctx, identity.From(ctx), req.GetId(), req.GetSchema().GetRaw())
}

// GetSchema answers a schema.
func (s *Service) GetSchema(ctx context.Context, req *cordumv1.GetSchemaRequest) (*cordumv1.Schema, error) {
	text, err := s.registry.Get(ctx, identity.From(ctx).Tenant, req.GetId())
	if err != nil {
		return nil, err
	}
	return &cordumv1.Schema{Id: strings.TrimSpace(req.GetId()), Schema: &cordumv1.Json{Raw: text}}, nil
}

// DeleteSchema removes a schema.
func (s *Service) DeleteSchema(ctx context.Context, req *cordumv1.DeleteSchemaRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.registry.Delete(ctx, identity.From(ctx), req.GetId())
}

// ListSchemas lists ids.
func (s *Service) ListSchemas(ctx context.Context, req *cordumv1.ListSchemasRequest) (*cordumv1.ListSchemasResponse, error) {
	ids, err := s.registry.List(ctx, identity.From(ctx).Tenant, job.Limit(req.GetLimit(), defaultPage))
	return &cordumv1.ListSchemasResponse{Schemas: ids}, err
}
