// Package config is the function of the routes of configuration: documents, their changes, and what holds of them for a step.
package config

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/types/known/emptypb"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/config/documents"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/pack/registry"
	"github.com/cordum-serverless/cordum/shared/core/policy/bundles"
	"github.com/cordum-serverless/cordum/shared/core/word"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/rpc"
	"github.com/cordum-serverless/cordum/shared/edge/wire"
)

// Service serves cordum.v1.Config.
type Service struct {
	cordumv1.UnimplementedConfigServer
	documents  *documents.Store
	dispatcher *dispatch.Dispatcher
}

// New makes the service.
func New(d *dispatch.Dispatcher) *Service {
	table := d.Jobs.Table
	return &Service{dispatcher: d, documents: &documents.Store{
		Config: &config.Store{Table: table, Blobs: d.Jobs.Blobs}, Bundles: &bundles.Store{Table: table, Head: d.Policy, Clock: d.Clock, IDs: d.IDs},
		Packs: &registry.Store{Table: table}, Audit: &audit.Log{Table: table}, Queues: d.Queues, Clock: d.Clock, IDs: d.IDs,
	}}
}

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Service(cordumv1.Config_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterConfigHandlerServer(ctx, mux, s)
	})
}

// GetConfig answers a document.
func (s *Service) GetConfig(ctx context.Context, req *cordumv1.GetConfigRequest) (*cordumv1.Json, error) {
	d, err := s.documents.Get(ctx, identity.From(ctx), req.GetScope(), req.GetScopeId())
	if err != nil {
		return nil, err
	}
	if !enveloped(req) {
		return &cordumv1.Json{Raw: d.Data}, nil
	}
	text, err := wire.Append(nil, &cordumv1.ConfigDocument{
		Scope: d.Scope, ScopeId: d.ID, Data: &cordumv1.Json{Raw: d.Data}, Revision: d.Revision, UpdatedAt: d.UpdatedAt.Format(time.RFC3339Nano), Meta: d.Meta,
	})
	return &cordumv1.Json{Raw: text}, err
}

// enveloped says which of the two shapes a client expects: who names a document in full was made for envelopes.
func enveloped(req *cordumv1.GetConfigRequest) bool {
	if req.Envelope == nil {
		return req.Scope != nil && req.ScopeId != nil
	}
	return word.True(req.GetEnvelope())
}

// revision reads the one that a client says it has read, with the quotes that HTTP wants or without; nil for none.
func revision(text string) (*int64, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // none is not wrong
	}
	n, err := strconv.ParseInt(strings.Trim(strings.TrimSpace(text), `"`), 10, 64)
	if err != nil || n < 0 {
		return nil, fault.New(fault.Invalid, "invalid If-Match: it is the revision of a document")
	}
	return &n, nil
}

// SetConfig changes a document, and tells whoever listens.
func (s *Service) SetConfig(ctx context.Context, req *cordumv1.SetConfigRequest) (*emptypb.Empty, error) {
	c, err := documents.Parse(req.GetDocument().GetRaw())
	if err != nil {
		return nil, err
	}
	if c.At, err = revision(rpc.IfMatch(ctx)); err != nil {
		return nil, err
	}
	by := identity.From(ctx)
	changed, err := s.documents.Set(ctx, by, c)
	if err != nil {
		return nil, err
	}
	s.dispatcher.ConfigChanged(ctx, by.Tenant, changed)
	return &emptypb.Empty{}, nil
}

// GetEffectiveConfig answers what holds for a step.
func (s *Service) GetEffectiveConfig(ctx context.Context, req *cordumv1.GetEffectiveConfigRequest) (*cordumv1.EffectiveConfig, error) {
	if err := auth.SameTenant(ctx, req.GetOrgId()); err != nil {
		return nil, err
	}
	revision, err := s.dispatcher.Policy.Revision(ctx)
	if err != nil {
		return nil, err
	}
	e, err := s.dispatcher.Config.At(ctx, revision, config.Subject{
		Tenant: identity.From(ctx).Tenant, Team: strings.TrimSpace(req.GetTeamId()), Workflow: strings.TrimSpace(req.GetWorkflowId()),
		Step: strings.TrimSpace(req.GetStepId()),
	})
	if err != nil {
		return nil, err
	}
	return &cordumv1.EffectiveConfig{Version: e.Version, Hash: e.Hash, Data: &cordumv1.Json{Raw: e.Data}}, nil
}
