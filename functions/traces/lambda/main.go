// Command lambda is the door of the traces function: configuration, dependencies, start.
package main

import (
	"context"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/cordum-serverless/cordum/functions/traces"
	"github.com/cordum-serverless/cordum/shared/edge/boot"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/platform/aws"
)

func main() {
	log := boot.Log()
	names, err := aws.NamesFromEnv(os.Getenv)
	boot.Must(log, err)
	p, err := aws.Open(context.Background(), names, nil)
	boot.Must(log, err)
	f, err := boot.Function(os.Getenv, boot.Ports{Table: p.Table, Queues: p.Queues, Blobs: p.Blobs}, log)
	boot.Must(log, err)
	lambda.Start(rest.Lambda(rest.New(f.Edge, traces.New(f.Dispatcher).Group())))
}
