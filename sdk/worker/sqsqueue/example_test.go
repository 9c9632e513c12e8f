package sqsqueue_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/sdk/worker/sqsqueue"
)

// A worker's two queues are on SQS. The configuration usually comes from config.LoadDefaultConfig of aws-sdk-go-v2.
func ExampleNew() {
	cfg := aws.Config{
		Region: "eu-central-1",
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret"}, nil
		}),
		HTTPClient: &http.Client{Transport: &service{t: &testing.T{}}}, // stands for SQS here
	}
	w, err := worker.NewPolling(worker.PollingConfig{
		URL: "https://api.example.com", APIKey: "wk-1", Pool: "main",
		Queue: sqsqueue.New(cfg, "https://sqs.eu-central-1.amazonaws.com/123456789012/cordum-pool-main"),
		Inbox: sqsqueue.New(cfg, "https://sqs.eu-central-1.amazonaws.com/123456789012/cordum-inbox"),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	w.Handle("job.report", func(context.Context, *worker.Job) (any, error) { return "done", nil })
	fmt.Println("ready to Run")
	// Output: ready to Run
}
