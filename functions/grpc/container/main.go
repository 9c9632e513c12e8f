// Command container is the gRPC service behind the load balancer. On SIGTERM it stops pulling, ends its streams, and leaves; its workers
// connect elsewhere and keep their jobs.
package main

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/cordum-serverless/cordum/functions/grpc"
	"github.com/cordum-serverless/cordum/shared/edge/boot"
	"github.com/cordum-serverless/cordum/shared/edge/rpc"
	"github.com/cordum-serverless/cordum/shared/platform/aws"
	"github.com/cordum-serverless/cordum/shared/platform/aws/dynamo"
	"github.com/cordum-serverless/cordum/shared/platform/aws/s3"
	"github.com/cordum-serverless/cordum/shared/platform/aws/secrets"
	"github.com/cordum-serverless/cordum/shared/platform/aws/sqs"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

func main() {
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	cfg, err := config.LoadDefaultConfig(ctx) // a task has its credentials from an endpoint
	boot.Must(log, err)
	names, err := aws.NamesFromEnv(os.Getenv)
	boot.Must(log, err)
	table := dynamo.New(cfg, names.Table, nil)
	edge, err := boot.Edge(boot.With(os.Getenv, secrets.Source(cfg, os.Getenv)), table, clock.System{}, log)
	boot.Must(log, err)
	d, err := boot.Dispatcher(os.Getenv, boot.Ports{
		Table: table, Queues: sqs.New(cfg, names.QueueURL), Blobs: s3.New(cfg, names.Bucket),
	}, log)
	boot.Must(log, err)
	secure, err := rpc.Transport(os.Getenv, edge.Gate.Production(), clock.System{}, log)
	boot.Must(log, err)
	listener, err := net.Listen("tcp", cmp.Or(os.Getenv("GATEWAY_GRPC_ADDR"), ":8080"))
	boot.Must(log, err)
	workers := grpc.NewWorkers(d, log, "")
	server := grpc.NewServer(d, workers, edge, secure, log)
	go func() { boot.Must(log, server.Serve(listener)) }()
	boot.Must(log, workers.Run(ctx))
	server.GracefulStop()
}
