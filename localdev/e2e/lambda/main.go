// Command lambda is the suite's worker as a Lambda function: the queue of the pool e2e-lambda is its event source.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/cordum-serverless/cordum/localdev/e2e"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/sdk/worker/lambdaworker"
	"github.com/cordum-serverless/cordum/sdk/worker/sqsqueue"
	"github.com/cordum-serverless/cordum/shared/edge/boot"
	"github.com/cordum-serverless/cordum/shared/platform/aws"
)

func main() {
	log := boot.Log()
	f, err := lambdaworker.New(worker.PollingConfig{
		URL: os.Getenv("CORDUM_URL"), APIKey: os.Getenv("CORDUM_API_KEY"), Pool: e2e.PoolLambda,
		Inbox: sqsqueue.New(aws.FromEnv(os.Getenv), os.Getenv("CORDUM_INBOX_URL")), Logger: log,
	}, lambdaworker.Handle("job.e2e.*", e2e.Handler))
	boot.Must(log, err)
	lambda.Start(f)
}
