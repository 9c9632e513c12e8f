package rest_test

import (
	"cmp"
	"context"
	"sync"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/rpc"
)

// fake stands behind a few of the generated services and remembers what reached it.
type fake struct {
	cordumv1.UnimplementedJobsServer
	mu    sync.Mutex
	id    identity.Identity
	got   string // method and what it was asked
	key   string // idempotency key
	max   string // limit of an artifact
	match string // revision that was read
	md    metadata.MD
	fail  func() error
	job   *cordumv1.Job // what GetJob answers; nil is one that has an id
}

func (f *fake) see(ctx context.Context, got string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.id, f.got, f.key, f.max, f.match = identity.From(ctx), got, rpc.IdempotencyKey(ctx), rpc.MaxArtifactBytes(ctx), rpc.IfMatch(ctx)
	f.md, _ = metadata.FromIncomingContext(ctx)
	if f.fail != nil {
		return f.fail()
	}
	return nil
}

func (f *fake) last() (identity.Identity, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.id, f.got
}

func (f *fake) failing(fail func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

func (f *fake) CreateJob(ctx context.Context, r *cordumv1.CreateJobRequest) (*cordumv1.SubmitJobResponse, error) {
	if err := f.see(ctx, "submit "+r.GetPrompt()); err != nil {
		return nil, err
	}
	if err := auth.SameTenant(ctx, r.GetOrgId(), r.GetTenantId()); err != nil {
		return nil, err
	}
	if r.GetPrompt() == "" {
		return nil, fault.New(fault.Invalid, "prompt is required")
	}
	return &cordumv1.SubmitJobResponse{JobId: "j1", TraceId: "t1"}, rpc.SetTraceID(ctx, "t1")
}

func (f *fake) ListJobs(ctx context.Context, _ *cordumv1.ListJobsRequest) (*cordumv1.ListJobsResponse, error) {
	return &cordumv1.ListJobsResponse{}, f.see(ctx, "list")
}

func (f *fake) GetJob(ctx context.Context, r *cordumv1.GetJobRequest) (*cordumv1.Job, error) {
	return cmp.Or(f.job, &cordumv1.Job{Id: r.GetId()}), f.see(ctx, "get "+r.GetId())
}

func (f *fake) CancelJob(ctx context.Context, r *cordumv1.CancelJobRequest) (*cordumv1.CancelJobResponse, error) {
	return &cordumv1.CancelJobResponse{Id: r.GetId()}, f.see(ctx, "cancel "+r.GetId())
}

func (f *fake) RemediateJob(ctx context.Context, r *cordumv1.RemediateJobRequest) (*cordumv1.SubmitJobResponse, error) {
	return &cordumv1.SubmitJobResponse{}, f.see(ctx, "remediate "+r.GetId()+" "+r.GetRemediationId())
}

type fakeStatus struct {
	cordumv1.UnimplementedStatusServer
	see func(context.Context, string) error
}

func (f fakeStatus) GetStatus(ctx context.Context, _ *cordumv1.GetStatusRequest) (*cordumv1.GetStatusResponse, error) {
	return &cordumv1.GetStatusResponse{Time: "2026-02-13T09:38:23Z", UptimeSeconds: 4512}, f.see(ctx, "status")
}

type fakeAuth struct {
	cordumv1.UnimplementedAuthServer
	*fake
}

func (f fakeAuth) GetAuthConfig(ctx context.Context, _ *cordumv1.GetAuthConfigRequest) (*cordumv1.AuthConfig, error) {
	return &cordumv1.AuthConfig{}, f.see(ctx, "config")
}

type fakeSchemas struct {
	cordumv1.UnimplementedSchemasServer
	*fake
}

func (f fakeSchemas) ListSchemas(ctx context.Context, _ *cordumv1.ListSchemasRequest) (*cordumv1.ListSchemasResponse, error) {
	return &cordumv1.ListSchemasResponse{}, f.see(ctx, "schemas")
}

func (f fakeSchemas) GetSchema(ctx context.Context, r *cordumv1.GetSchemaRequest) (*cordumv1.Schema, error) {
	return &cordumv1.Schema{Id: r.GetId()}, f.see(ctx, "schema "+r.GetId())
}

func (f fakeSchemas) DeleteSchema(ctx context.Context, r *cordumv1.DeleteSchemaRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, f.see(ctx, "delete schema "+r.GetId())
}

type fakeUsers struct {
	cordumv1.UnimplementedUsersServer
	*fake
}

func (f fakeUsers) CreateUser(ctx context.Context, r *cordumv1.CreateUserRequest) (*cordumv1.User, error) {
	return &cordumv1.User{Username: r.GetUsername()}, f.see(ctx, "create "+r.GetUsername())
}

func (f *fake) groups() []rest.Group {
	return []rest.Group{
		rest.Service("cordum.v1.Jobs", func(ctx context.Context, mux *runtime.ServeMux) error {
			return cordumv1.RegisterJobsHandlerServer(ctx, mux, f)
		}),
		status(fakeStatus{see: f.see}),
		rest.Service("cordum.v1.Auth", func(ctx context.Context, mux *runtime.ServeMux) error {
			return cordumv1.RegisterAuthHandlerServer(ctx, mux, fakeAuth{fake: f})
		}),
		rest.Service("cordum.v1.Schemas", func(ctx context.Context, mux *runtime.ServeMux) error {
			return cordumv1.RegisterSchemasHandlerServer(ctx, mux, fakeSchemas{fake: f})
		}),
		rest.Service("cordum.v1.Users", func(ctx context.Context, mux *runtime.ServeMux) error {
			return cordumv1.RegisterUsersHandlerServer(ctx, mux, fakeUsers{fake: f})
		}),
	}
}

func status(s cordumv1.StatusServer) rest.Group {
	return rest.Service("cordum.v1.Status", func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterStatusHandlerServer(ctx, mux, s)
	})
}

// unbuilt is a service of which nothing is written yet.
func unbuilt() []rest.Group { return []rest.Group{status(cordumv1.UnimplementedStatusServer{})} }

func misnamed() rest.Group {
	return rest.Service("cordum.v1.Jobs", func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterStatusHandlerServer(ctx, mux, cordumv1.UnimplementedStatusServer{})
	})
}

func failing(context.Context, *runtime.ServeMux) error { return fault.New(fault.Internal, "no") }

// trivial is a service that does next to nothing.
func trivial() rest.Group {
	return status(fakeStatus{see: func(context.Context, string) error { return nil }})
}
