package lambdaworker_test

import (
	"context"
	"fmt"

	"github.com/aws/aws-lambda-go/events"

	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/sdk/worker/internal/fakeplane"
	"github.com/cordum-serverless/cordum/sdk/worker/lambdaworker"
)

// The main function of such a Lambda makes the function and gives it to lambda.Start. Here an event is handed to it as Lambda would.
func ExampleNew() {
	plane := fakeplane.New() // stands for your plane and its inbox
	function, err := lambdaworker.New(worker.PollingConfig{
		URL: "https://api.example.com", APIKey: fakeplane.Key, Pool: "main",
		Inbox: plane, // sqsqueue.New(awsConfig, inboxURL)
		HTTP:  plane.Client(),
	}, lambdaworker.Handle("job.t", func(ctx context.Context, job *worker.Job) (any, error) {
		var in struct{ Prompt string }
		if err := job.DecodeContext(ctx, &in); err != nil {
			return nil, err
		}
		return map[string]string{"answer": "you said: " + in.Prompt}, nil
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	// lambda.Start(function)

	plane.Submit("job-1")
	answer, err := function(context.Background(), events.SQSEvent{Records: []events.SQSMessage{
		{MessageId: "m-1", Body: `{"job":"job-1","attempt":1}`},
	}})
	fmt.Println(plane.Job("job-1").State, string(plane.Job("job-1").Output))
	fmt.Println("to come again:", len(answer.BatchItemFailures), err)
	// Output:
	// SUCCEEDED {"answer":"you said: p of job-1"}
	// to come again: 0 <nil>
}
