// Command lambda is the door of the broadcast function: configuration, dependencies, start.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/cordum-serverless/cordum/functions/broadcast"
	"github.com/cordum-serverless/cordum/shared/edge/boot"
	"github.com/cordum-serverless/cordum/shared/platform/aws"
	"github.com/cordum-serverless/cordum/shared/platform/aws/apigateway"
	"github.com/cordum-serverless/cordum/shared/platform/aws/dynamo"
	"github.com/cordum-serverless/cordum/shared/platform/aws/sqs"
)

func main() {
	log, cfg := boot.Log(), aws.FromEnv(os.Getenv)
	names, err := aws.NamesFromEnv(os.Getenv)
	boot.Must(log, err)
	clients, err := apigateway.New(cfg, names.PushEndpoint)
	boot.Must(log, err)
	d, err := boot.Dispatcher(os.Getenv, boot.Ports{
		Table: dynamo.New(cfg, names.Table, nil), Queues: sqs.New(cfg, names.QueueURL), Connections: clients,
	}, log)
	boot.Must(log, err)
	lambda.Start(broadcast.Handler(d))
}
