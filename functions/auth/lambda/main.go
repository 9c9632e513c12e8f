// Command lambda is the door of the auth function: configuration, dependencies, start.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/cordum-serverless/cordum/functions/auth"
	"github.com/cordum-serverless/cordum/shared/core/event"
	"github.com/cordum-serverless/cordum/shared/edge/boot"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/platform/aws"
	"github.com/cordum-serverless/cordum/shared/platform/aws/dynamo"
	"github.com/cordum-serverless/cordum/shared/platform/aws/secrets"
	"github.com/cordum-serverless/cordum/shared/platform/aws/sqs"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

func main() {
	log, cfg := boot.Log(), aws.FromEnv(os.Getenv)
	names, err := aws.NamesFromEnv(os.Getenv)
	boot.Must(log, err)
	settings, table := boot.With(os.Getenv, secrets.Source(cfg, os.Getenv)), dynamo.New(cfg, names.Table, nil)
	edge, err := boot.Edge(settings, table, clock.System{}, log)
	boot.Must(log, err)
	bus := &event.Bus{Table: table, Queues: sqs.New(cfg, names.QueueURL), Clock: clock.System{}, Log: log}
	accounts, err := boot.Accounts(settings, table, bus.Ended, clock.System{}, log)
	boot.Must(log, err)
	lambda.Start(rest.Lambda(rest.New(edge, auth.New(accounts, edge.Gate).Group())))
}
