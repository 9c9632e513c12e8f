// Command lambda is the door of the sealer function: configuration, dependencies, start.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/cordum-serverless/cordum/functions/sealer"
	"github.com/cordum-serverless/cordum/shared/core/audit/chain"
	"github.com/cordum-serverless/cordum/shared/edge/boot"
	"github.com/cordum-serverless/cordum/shared/platform/aws"
	"github.com/cordum-serverless/cordum/shared/platform/aws/dynamo"
	"github.com/cordum-serverless/cordum/shared/platform/aws/s3"
	"github.com/cordum-serverless/cordum/shared/platform/aws/secrets"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

func main() {
	log, cfg := boot.Log(), aws.FromEnv(os.Getenv)
	names, err := aws.NamesFromEnv(os.Getenv)
	boot.Must(log, err)
	keys, err := boot.AuditKeys(boot.With(os.Getenv, secrets.Source(cfg, os.Getenv)))
	boot.Must(log, err)
	lambda.Start(sealer.Handler(&chain.Sealer{
		Table: dynamo.New(cfg, names.Table, nil), Blobs: s3.New(cfg, names.Bucket), Keys: keys, Clock: clock.System{},
	}, log))
}
