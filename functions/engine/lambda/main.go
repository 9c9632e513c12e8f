// Command lambda is the door of the engine function: configuration, dependencies, start.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/cordum-serverless/cordum/functions/engine"
	"github.com/cordum-serverless/cordum/shared/core/workflow/runs"
	"github.com/cordum-serverless/cordum/shared/edge/boot"
	"github.com/cordum-serverless/cordum/shared/platform/aws"
	"github.com/cordum-serverless/cordum/shared/platform/aws/dynamo"
	"github.com/cordum-serverless/cordum/shared/platform/aws/s3"
	"github.com/cordum-serverless/cordum/shared/platform/aws/sqs"
)

func main() {
	log, cfg := boot.Log(), aws.FromEnv(os.Getenv)
	names, err := aws.NamesFromEnv(os.Getenv)
	boot.Must(log, err)
	d, err := boot.Dispatcher(os.Getenv, boot.Ports{
		Table:  dynamo.New(cfg, names.Table, nil),
		Queues: sqs.New(cfg, names.QueueURL),
		Blobs:  s3.New(cfg, names.Bucket),
	}, log)
	boot.Must(log, err)
	lambda.Start(engine.Handler(runs.New(d)))
}
