// Command lambda is the door of the fallback function: configuration, dependencies, start.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/cordum-serverless/cordum/functions/fallback"
	"github.com/cordum-serverless/cordum/shared/edge/boot"
	"github.com/cordum-serverless/cordum/shared/platform/aws"
	"github.com/cordum-serverless/cordum/shared/platform/aws/secrets"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

func main() {
	log, cfg := boot.Log(), aws.FromEnv(os.Getenv)
	edge, err := boot.Edge(os.Getenv, secrets.Source(cfg, os.Getenv), clock.System{}, log)
	boot.Must(log, err)
	lambda.Start(fallback.Handler(edge))
}
