// Command lambda is the demo worker as a Lambda function: the queue of its pool is its event source.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/cordum-serverless/cordum/localdev/demoworker"
	"github.com/cordum-serverless/cordum/shared/edge/boot"
	"github.com/cordum-serverless/cordum/shared/platform/aws"
)

func main() {
	log := boot.Log()
	f, err := demoworker.Function(demoworker.Queues{
		URL: os.Getenv("CORDUM_URL"), Key: os.Getenv("CORDUM_API_KEY"), Pool: os.Getenv("CORDUM_POOL"), InboxURL: os.Getenv("CORDUM_INBOX_URL"),
		AWS: aws.FromEnv(os.Getenv),
	}, log)
	boot.Must(log, err)
	lambda.Start(f)
}
