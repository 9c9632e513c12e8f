// Command lambda is the door of the bundles function: configuration, dependencies, start.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/cordum-serverless/cordum/functions/bundles"
	"github.com/cordum-serverless/cordum/shared/edge/boot"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/platform/aws"
	"github.com/cordum-serverless/cordum/shared/platform/aws/dynamo"
	"github.com/cordum-serverless/cordum/shared/platform/aws/s3"
	"github.com/cordum-serverless/cordum/shared/platform/aws/secrets"
	"github.com/cordum-serverless/cordum/shared/platform/aws/sqs"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

func main() {
	log, cfg := boot.Log(), aws.FromEnv(os.Getenv)
	names, err := aws.NamesFromEnv(os.Getenv)
	boot.Must(log, err)
	table := dynamo.New(cfg, names.Table, nil)
	edge, err := boot.Edge(boot.With(os.Getenv, secrets.Source(cfg, os.Getenv)), table, clock.System{}, log)
	boot.Must(log, err)
	d, err := boot.Dispatcher(os.Getenv, boot.Ports{
		Table:  table,
		Queues: sqs.New(cfg, names.QueueURL),
		Blobs:  s3.New(cfg, names.Bucket),
	}, log)
	boot.Must(log, err)
	lambda.Start(rest.Lambda(rest.New(edge, bundles.New(d).Group())))
}
