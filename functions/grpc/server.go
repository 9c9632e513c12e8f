package grpc

import (
	"log/slog"
	"time"

	grpcgo "google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/memory"
	"github.com/cordum-serverless/cordum/shared/edge/asking"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/rpc"
)

// Register adds route-group services that this container serves natively too; the host knows them.
type Register func(grpcgo.ServiceRegistrar)

// keepAlive is below what a load balancer takes for idle (350 s), on both sides.
const keepAlive = 60 * time.Second

// maxMessage is the largest message of either direction: a result's payload, with room around it.
const maxMessage = 16 << 20

// NewServer assembles the container: CordumApi, SafetyKernel, ContextEngine, the workers' streams, health and reflection, and what the host registers.
// Secure is how it is reached: rpc.Transport.
func NewServer(d *dispatch.Dispatcher, w *Workers, edge rest.Config, secure credentials.TransportCredentials, log *slog.Logger, more ...Register) *grpcgo.Server {
	opts := append(rpc.Options(rpc.Config{Gate: edge.Gate, Log: log, Clock: edge.Clock, IDs: edge.IDs}),
		grpcgo.Creds(secure), grpcgo.KeepaliveParams(keepalive.ServerParameters{Time: keepAlive}),
		grpcgo.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepAlive / 4, PermitWithoutStream: true}),
		grpcgo.MaxRecvMsgSize(maxMessage), grpcgo.MaxSendMsgSize(maxMessage))
	s := grpcgo.NewServer(opts...)
	cordumv1.RegisterCordumApiServer(s, &API{d: d})
	cordumv1.RegisterWorkersServer(s, w)
	cordumv1.RegisterContextEngineServer(s, &ContextEngine{memories: &memory.Store{Table: d.Jobs.Table}, clock: d.Clock, ids: d.IDs})
	agentv1.RegisterSafetyKernelServer(s, &SafetyKernel{kernel: asking.NewKernel(d)})
	for _, register := range more {
		register(s)
	}
	healthpb.RegisterHealthServer(s, health.NewServer())
	reflection.Register(s)
	return s
}
