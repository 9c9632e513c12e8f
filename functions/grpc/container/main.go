// Command container is the gRPC service behind the load balancer. On SIGTERM it stops pulling, ends its streams, and leaves; its workers
// connect elsewhere and keep their jobs.
package main

import (
	"cmp"
	"context"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/cordum-serverless/cordum/functions/grpc"
	"github.com/cordum-serverless/cordum/shared/edge/boot"
	"github.com/cordum-serverless/cordum/shared/platform/aws"
)

func main() {
	log := boot.Log()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	names, err := aws.NamesFromEnv(os.Getenv)
	boot.Must(log, err)
	p, err := aws.Open(ctx, names, nil)
	boot.Must(log, err)
	f, err := boot.Function(os.Getenv, boot.Ports{Table: p.Table, Queues: p.Queues, Blobs: p.Blobs}, log)
	boot.Must(log, err)
	listener, err := net.Listen("tcp", cmp.Or(os.Getenv("GATEWAY_GRPC_ADDR"), ":8080"))
	boot.Must(log, err)
	workers := grpc.NewWorkers(f.Dispatcher, log)
	server := grpc.NewServer(f.Dispatcher, workers, f.Edge, log)
	go func() { boot.Must(log, server.Serve(listener)) }()
	boot.Must(log, workers.Run(ctx))
	server.GracefulStop()
}
