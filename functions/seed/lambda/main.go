// Command lambda is the door of the seed function: configuration, dependencies, start.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/cordum-serverless/cordum/functions/seed"
	"github.com/cordum-serverless/cordum/shared/edge/boot"
	"github.com/cordum-serverless/cordum/shared/platform/aws"
	"github.com/cordum-serverless/cordum/shared/platform/aws/dynamo"
	"github.com/cordum-serverless/cordum/shared/platform/aws/s3"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
)

func main() {
	log, cfg := boot.Log(), aws.FromEnv(os.Getenv)
	names, err := aws.NamesFromEnv(os.Getenv)
	boot.Must(log, err)
	d, err := boot.Dispatcher(os.Getenv, boot.Ports{Table: dynamo.New(cfg, names.Table, nil), Blobs: s3.New(cfg, names.Bucket)}, log)
	boot.Must(log, err)
	lambda.Start(seed.Handler(d, boot.Catalog(os.Getenv), func(bucket string) blob.Store { return s3.New(cfg, bucket) }))
}
