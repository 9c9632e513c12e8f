package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"

	"github.com/cordum-serverless/cordum/localdev/e2e"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/sdk/worker/lambdaworker"
)

// Of a Lambda worker's function: how many instances run, how large a batch is, and its timeout, which is the queue's visibility timeout too.
const (
	lambdaInstances = 3
	lambdaBatch     = 4
	lambdaTimeout   = time.Minute
)

// serveLambda is a worker function with a pool's queue as its event source, until the test ends: each instance gets the bytes of events, and
// what it does not name as failed is deleted.
func serveLambda(t *testing.T, source worker.Queue, cfg worker.PollingConfig) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var instances sync.WaitGroup
	for range lambdaInstances {
		f, err := lambdaworker.New(cfg, lambdaworker.Handle("job.e2e.*", e2e.Handler))
		if err != nil {
			t.Fatal(err)
		}
		instances.Go(func() {
			for ctx.Err() == nil {
				if err := invoke(ctx, lambda.NewHandler(f), source); err != nil && ctx.Err() == nil {
					t.Logf("Lambda worker: %v; its messages come again", err)
					time.Sleep(time.Second)
				}
			}
		})
	}
	t.Cleanup(func() { cancel(); instances.Wait() })
}

// invoke waits for a batch and runs the function on it.
func invoke(ctx context.Context, function lambda.Handler, source worker.Queue) error {
	messages, err := source.Receive(ctx, lambdaBatch, lambdaTimeout)
	if err != nil || len(messages) == 0 {
		return err
	}
	var event events.SQSEvent
	for _, m := range messages {
		event.Records = append(event.Records, events.SQSMessage{MessageId: m.ID, Body: m.Body, ReceiptHandle: m.Receipt})
	}
	raw, err := json.Marshal(event)
	if err != nil {
		return err
	}
	running, end := context.WithTimeout(context.WithoutCancel(ctx), lambdaTimeout)
	defer end()
	text, err := function.Invoke(running, raw)
	if err != nil {
		return fmt.Errorf("invoke: %w", err)
	}
	var answer events.SQSEventResponse
	if err := json.Unmarshal(text, &answer); err != nil {
		return err
	}
	spent := slices.DeleteFunc(messages, func(m worker.Message) bool {
		return slices.ContainsFunc(answer.BatchItemFailures, func(f events.SQSBatchItemFailure) bool { return f.ItemIdentifier == m.ID })
	})
	return source.Delete(running, spent...)
}
