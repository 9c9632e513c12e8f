package rpc_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	optionsv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/options/v1"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/rpc"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	submit    = "/cordum.v1.CordumApi/SubmitJob"    // admin, operator, user
	getStatus = "/cordum.v1.CordumApi/GetJobStatus" // any
)

const keys = `[{"key":"k-admin","role":"admin"},{"key":"k-operator","role":"operator"},{"key":"k-user","role":"user"},{"key":"k-viewer","role":"viewer"},
	{"key":"k-worker","role":"worker","pools":["*"]},{"key":"k-b","tenant":"b"},{"key":"k-x","allow_cross_tenant":true},{"key":"k-bot","principal_id":"bot"}]`

// plane is a server whose CordumApi runs what a test wants, behind the real interceptors.
type plane struct {
	conn *grpc.ClientConn
	log  *lockedLog

	mu     sync.Mutex
	handle func(ctx context.Context) error
}

func (p *plane) serve(handle func(ctx context.Context) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handle = handle
}

func (p *plane) run(ctx context.Context) error {
	p.mu.Lock()
	handle := p.handle
	p.mu.Unlock()
	return handle(ctx)
}

func start(t *testing.T, env map[string]string) *plane {
	t.Helper()
	p := &plane{log: &lockedLog{}, handle: func(context.Context) error { return nil }}
	log := slog.New(slog.NewTextHandler(p.log, nil))
	cfg, err := auth.FromEnv(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	gate, err := auth.New(cfg, clock.System{}, log)
	if err != nil {
		t.Fatal(err)
	}
	unknown := grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return p.run(stream.Context()) })
	server := grpc.NewServer(append(rpc.Options(rpc.Config{Gate: gate, Log: log, Clock: clock.System{}}), unknown)...)
	healthpb.RegisterHealthServer(server, health.NewServer())
	reflection.Register(server)
	server.RegisterService(&grpc.ServiceDesc{ServiceName: "cordum.v1.CordumApi", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{
		p.method("SubmitJob"), p.method("GetJobStatus"),
	}}, p)
	listener := bufconn.Listen(1 << 16)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	p.conn, err = grpc.NewClient("passthrough:plane", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.conn.Close()
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *plane) method(name string) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(_ any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		in := &emptypb.Empty{}
		if err := decode(in); err != nil {
			return nil, err
		}
		info := &grpc.UnaryServerInfo{Server: p, FullMethod: "/cordum.v1.CordumApi/" + name}
		return interceptor(ctx, in, info, func(ctx context.Context, _ any) (any, error) { return &emptypb.Empty{}, p.run(ctx) })
	}}
}

func (p *plane) call(method string, md ...string) error {
	ctx := metadata.AppendToOutgoingContext(context.Background(), md...)
	return p.conn.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{})
}

type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestAdmission(t *testing.T) {
	env := map[string]string{"CORDUM_API_KEYS": keys}
	tests := []struct {
		name, method string
		md           []string
		code         codes.Code
		message      string
	}{
		{"no credential", getStatus, nil, codes.Unauthenticated, "unauthorized"},
		{"no credential, no rule", "/cordum.v1.CordumApi/Nope", nil, codes.Unauthenticated, "unauthorized"},
		{"unknown key", getStatus, []string{"x-api-key", "nope"}, codes.Unauthenticated, "unauthorized"},
		{"key", getStatus, []string{"x-api-key", "k-admin"}, codes.OK, ""},
		{"key under its short name", getStatus, []string{"api-key", "k-admin"}, codes.OK, ""},
		{"x-api-key wins", getStatus, []string{"api-key", "k-admin", "x-api-key", "nope"}, codes.Unauthenticated, "unauthorized"},
		{"key sent twice", getStatus, []string{"x-api-key", "k-admin", "x-api-key", "k-admin"}, codes.Unauthenticated, "unauthorized"},
		{"bearer key", getStatus, []string{"authorization", "Bearer k-admin"}, codes.OK, ""},
		{"bad bearer with a good key", getStatus, []string{"authorization", "Bearer nope", "x-api-key", "k-admin"}, codes.Unauthenticated, "unauthorized"},
		{"JWT without validator", getStatus, []string{"authorization", "Bearer a.b.c", "x-api-key", "k-admin"}, codes.Unauthenticated, "unauthorized"},
		{"own tenant", getStatus, []string{"x-api-key", "k-b", "x-tenant-id", "b"}, codes.OK, ""},
		{"T-011: foreign tenant", getStatus, []string{"x-api-key", "k-b", "x-tenant-id", "a"}, codes.PermissionDenied, "tenant access denied"},
		{"foreign tenant, cross-tenant", getStatus, []string{"x-api-key", "k-x", "x-tenant-id", "a"}, codes.OK, ""},
		{"role", submit, []string{"x-api-key", "k-viewer"}, codes.PermissionDenied, "access denied"},
		{"tenant before role", submit, []string{"x-api-key", "k-viewer", "x-tenant-id", "zz"}, codes.PermissionDenied, "tenant access denied"},
		{"no rule", "/cordum.v1.CordumApi/Nope", []string{"x-api-key", "k-admin"}, codes.PermissionDenied, "access denied"},
		{"principal sent twice", getStatus, []string{"x-api-key", "k-admin", "x-principal-id", "a", "x-principal-id", "b"}, codes.InvalidArgument,
			"x-principal-id must be one name of at most 256 printable characters without a comma"},
	}
	p := start(t, env)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := status.Convert(p.call(tt.method, tt.md...))
			if st.Code() != tt.code || st.Message() != tt.message {
				t.Errorf("got %v %q, want %v %q", st.Code(), st.Message(), tt.code, tt.message)
			}
		})
	}
}

func TestIdentityReachesTheService(t *testing.T) {
	p := start(t, map[string]string{"CORDUM_API_KEYS": keys})
	see := func(method string, md ...string) (id identity.Identity, in metadata.MD) {
		t.Helper()
		p.serve(func(ctx context.Context) error {
			id = identity.From(ctx)
			in, _ = metadata.FromIncomingContext(ctx)
			return nil
		})
		if err := p.call(method, md...); err != nil {
			t.Fatal(err)
		}
		return id, in
	}
	id, _ := see(getStatus, "x-api-key", "k-b", "x-principal-id", "alice", "x-request-id", "req-1")
	if id.Tenant != "b" || id.Home != "b" || id.Role != identity.Admin || id.Principal != "alice" || id.PrincipalFixed || id.RequestID != "req-1" {
		t.Errorf("got %+v", id)
	}
	id, _ = see(getStatus, "x-api-key", "k-bot", "x-principal-id", "alice")
	if id.Principal != "bot" || !id.PrincipalFixed || len(id.RequestID) != 16 {
		t.Errorf("got %+v", id)
	}
	id, _ = see(getStatus, "x-api-key", "k-x", "x-tenant-id", "a")
	if id.Tenant != "a" || id.Home != "default" {
		t.Errorf("got %+v", id)
	}
	_, in := see(getStatus, "x-api-key", "k-b", "authorization", "Basic x", "api-key", "y", "idempotency-key", "once")
	if len(in.Get("x-api-key"))+len(in.Get("authorization"))+len(in.Get("api-key")) != 0 || in.Get("idempotency-key")[0] != "once" {
		t.Errorf("the service sees %v", in)
	}
}

// Every method of the contract, called in every role, is let in or refused as its option says; a stream is treated like a single call.
func TestRolesOfEveryMethod(t *testing.T) {
	p := start(t, map[string]string{"CORDUM_API_KEYS": keys, "API_RATE_LIMIT_BURST": "1000000", "API_PUBLIC_RATE_LIMIT_BURST": "1000000"})
	roles := map[optionsv1.Role]string{optionsv1.Role_ROLE_ADMIN: "k-admin", optionsv1.Role_ROLE_OPERATOR: "k-operator",
		optionsv1.Role_ROLE_USER: "k-user", optionsv1.Role_ROLE_VIEWER: "k-viewer", optionsv1.Role_ROLE_WORKER: "k-worker"}
	calls := 0
	for method, rule := range methods() {
		for role, key := range roles {
			calls++
			want := allowed(rule, role)
			err := p.call(method, "x-api-key", key)
			// An answer of another shape than this test's empty message is an answer all the same.
			if got := status.Code(err) != codes.PermissionDenied; got != want {
				t.Errorf("%s as %v: let in %v, want %v (%v)", method, role, got, want, err)
			}
		}
		public := allowed(rule, optionsv1.Role_ROLE_PUBLIC)
		if got := status.Code(p.call(method)) != codes.Unauthenticated; got != public {
			t.Errorf("%s without a credential: let in %v, want %v", method, got, public)
		}
	}
	if calls < 200 {
		t.Errorf("only %d calls", calls)
	}
}

func methods() map[string]*optionsv1.MethodRule {
	all := map[string]*optionsv1.MethodRule{}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			for j, service := 0, file.Services().Get(i); j < service.Methods().Len(); j++ {
				m := service.Methods().Get(j)
				if proto.HasExtension(m.Options(), optionsv1.E_Rule) {
					all["/"+string(service.FullName())+"/"+string(m.Name())] = proto.GetExtension(m.Options(), optionsv1.E_Rule).(*optionsv1.MethodRule)
				}
			}
		}
		return true
	})
	return all
}

func allowed(rule *optionsv1.MethodRule, role optionsv1.Role) bool {
	for _, r := range rule.GetRoles() {
		if r == role || r == optionsv1.Role_ROLE_PUBLIC || r == optionsv1.Role_ROLE_ANY && role != optionsv1.Role_ROLE_WORKER && role != optionsv1.Role_ROLE_PUBLIC {
			return true
		}
	}
	return false
}

func TestStreamHasIdentity(t *testing.T) {
	p := start(t, map[string]string{"CORDUM_API_KEYS": keys})
	all := methods()
	var method string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if slices.Contains(all[name].GetRoles(), optionsv1.Role_ROLE_ADMIN) && !strings.HasPrefix(name, "/cordum.v1.CordumApi/") {
			method = name
		}
	}
	var id identity.Identity
	p.serve(func(ctx context.Context) error {
		id = identity.From(ctx)
		return fault.New(fault.Conflict, "stale")
	})
	ctx := metadata.AppendToOutgoingContext(context.Background(), "x-api-key", "k-b")
	stream, err := p.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&emptypb.Empty{}); status.Code(err) != codes.AlreadyExists || id.Tenant != "b" {
		t.Errorf("%s: got %v, %+v", method, err, id)
	}
}

func TestFailures(t *testing.T) {
	p := start(t, map[string]string{"CORDUM_API_KEYS": keys})
	tests := []struct {
		name    string
		handle  func(ctx context.Context) error
		code    codes.Code
		message string
		logged  string
	}{
		{"fault", func(context.Context) error { return fault.New(fault.Invalid, "prompt is required") }, codes.InvalidArgument, "prompt is required", ""},
		{"not built", func(context.Context) error { return status.Error(codes.Unimplemented, "method X") }, codes.Unimplemented, "not implemented", ""},
		{"a status of the service's own", func(context.Context) error { return status.Error(codes.FailedPrecondition, "attempt 1 is over") },
			codes.FailedPrecondition, "attempt 1 is over", ""},
		{"a failure as a status", func(context.Context) error { return status.Error(codes.Internal, "dial: pass-0") }, codes.Internal, "internal error", "pass-0"},
		{"foreign", func(context.Context) error { return errors.New("dial: pass-1") }, codes.Internal, "internal error", "pass-1"},
		{"unavailable", func(context.Context) error { return fault.Wrap(fault.Unavailable, errors.New("pass-2"), "table") }, codes.Unavailable, "service unavailable", "pass-2"},
		{"panic", func(context.Context) error { panic("pass-3") }, codes.Internal, "internal error", "pass-3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p.serve(tt.handle)
			st := status.Convert(p.call(getStatus, "x-api-key", "k-admin", "x-request-id", "req-7"))
			if st.Code() != tt.code || st.Message() != tt.message {
				t.Errorf("got %v %q", st.Code(), st.Message())
			}
			if !strings.Contains(p.log.String(), tt.logged) {
				t.Errorf("the log does not say why")
			}
		})
	}
	p.serve(func(context.Context) error { return nil })
	if err := p.call(getStatus, "x-api-key", "k-admin"); err != nil {
		t.Errorf("after a panic: %v", err)
	}
}

// A caller that goes away is an everyday thing, and no error of the plane's; a call that is cancelled while its caller waits is one.
func TestTheCallerLeaves(t *testing.T) {
	p := start(t, map[string]string{"CORDUM_API_KEYS": keys})
	running, ended := make(chan struct{}), make(chan struct{})
	p.serve(func(ctx context.Context) error {
		defer close(ended)
		close(running)
		<-ctx.Done()
		return ctx.Err()
	})
	ctx, leave := context.WithCancel(metadata.AppendToOutgoingContext(context.Background(), "x-api-key", "k-admin"))
	go func() { <-running; leave() }()
	if err := p.conn.Invoke(ctx, getStatus, &emptypb.Empty{}, &emptypb.Empty{}); status.Code(err) != codes.Canceled {
		t.Errorf("%v", err)
	}
	<-ended
	for !strings.Contains(p.log.String(), "code=Canceled") {
		time.Sleep(time.Millisecond)
	}
	if strings.Contains(p.log.String(), "level=ERROR") {
		t.Errorf("it was logged as an error: %s", p.log.String())
	}
	p.serve(func(context.Context) error { return context.Canceled })
	if err := p.call(getStatus, "x-api-key", "k-admin"); status.Code(err) != codes.Canceled || !strings.Contains(p.log.String(), "level=ERROR") {
		t.Errorf("%v, and the log says %s", err, p.log.String())
	}
}

func TestRate(t *testing.T) {
	p := start(t, map[string]string{"CORDUM_API_KEYS": keys, "API_RATE_LIMIT_RPS": "1", "API_RATE_LIMIT_BURST": "1"})
	if err := p.call(getStatus, "x-api-key", "k-admin"); err != nil {
		t.Fatal(err)
	}
	st := status.Convert(p.call(getStatus, "x-api-key", "k-admin", "x-tenant-id", "zz"))
	if st.Code() != codes.ResourceExhausted || st.Message() != "rate limited" {
		t.Errorf("got %v %q", st.Code(), st.Message())
	}
	if err := p.call(getStatus, "x-api-key", "k-b"); err != nil {
		t.Errorf("another tenant: %v", err)
	}
}

func TestHealthAndReflectionAreOpen(t *testing.T) {
	p := start(t, map[string]string{"CORDUM_API_KEYS": keys, "API_RATE_LIMIT_RPS": "1", "API_RATE_LIMIT_BURST": "1"})
	for range 3 {
		answer, err := healthpb.NewHealthClient(p.conn).Check(context.Background(), &healthpb.HealthCheckRequest{})
		if err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Fatalf("got %v %v", answer, err)
		}
	}
	stream, err := reflectionpb.NewServerReflectionClient(p.conn).ServerReflectionInfo(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	if answer, err := stream.Recv(); err != nil || len(answer.GetListServicesResponse().GetService()) == 0 {
		t.Errorf("got %v %v", answer, err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Errorf("got %v", err)
	}
}

func TestTraceID(t *testing.T) {
	p := start(t, map[string]string{"CORDUM_API_KEYS": keys})
	p.serve(func(ctx context.Context) error { return rpc.SetTraceID(ctx, "tr-1") })
	var header metadata.MD
	ctx := metadata.AppendToOutgoingContext(context.Background(), "x-api-key", "k-admin")
	if err := p.conn.Invoke(ctx, getStatus, &emptypb.Empty{}, &emptypb.Empty{}, grpc.Header(&header)); err != nil || header.Get("x-trace-id")[0] != "tr-1" {
		t.Errorf("got %v %v", header, err)
	}
}

// The log tells each call's request, tenant, method and code, and holds no credential.
func TestLog(t *testing.T) {
	p := start(t, map[string]string{"CORDUM_API_KEYS": keys})
	_ = p.call(getStatus, "x-api-key", "k-b", "x-request-id", "req-9")
	_ = p.call(submit, "authorization", "Bearer SECRET-TOKEN", "x-request-id", "req-10")
	log := p.log.String()
	for _, want := range []string{"request_id=req-9 tenant=b method=" + getStatus + " code=OK", "request_id=req-10 tenant=\"\" method=" + submit + " code=Unauthenticated"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %q in %s", want, log)
		}
	}
	if strings.Contains(log, "k-b") || strings.Contains(log, "SECRET") {
		t.Errorf("a credential in %s", log)
	}
}
