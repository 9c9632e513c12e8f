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
	"github.com/cordum-serverless/cordum/shared/platform/aws/secrets"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

func main() {
	log, cfg := boot.Log(), aws.FromEnv(os.Getenv)
	names, err := aws.NamesFromEnv(os.Getenv)
	boot.Must(log, err)
	settings, table := boot.With(os.Getenv, secrets.Source(cfg, os.Getenv)), dynamo.New(cfg, names.Table, nil)
	d, err := boot.Dispatcher(os.Getenv, boot.Ports{Table: table, Blobs: s3.New(cfg, names.Bucket)}, log)
	boot.Must(log, err)
	accounts, err := boot.Accounts(settings, table, nil, clock.System{}, log)
	boot.Must(log, err)
	admin, err := boot.FirstAdmin(settings)
	boot.Must(log, err)
	begin := seed.Beginning{Catalog: boot.Catalog(os.Getenv), Admin: admin, Users: accounts.Users}
	lambda.Start(seed.Handler(d, begin, func(bucket string) blob.Store { return s3.New(cfg, bucket) }))
}
