// Package eventsource stands in for Lambda's event source mappings of SQS queues, with ReportBatchItemFailures: it receives batches, invokes the
// function with the bytes of an SQS event, and deletes what the function does not name as failed.
package eventsource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/cordum-serverless/cordum/shared/platform/queue"
)

// Function is a Lambda function: bytes of an event in, bytes of an answer out.
type Function interface {
	Invoke(ctx context.Context, event []byte) ([]byte, error)
}

// Mapping is a queue that drives a function.
type Mapping struct {
	Queues queue.Queues
	// Queue is its name, Batch the most messages of one invocation.
	Queue string
	Batch int
	// Function is what it drives, Name its name.
	Function Function
	Name     string
	// Pollers is how many batches are under way at one time, at most.
	Pollers int
	// Retry hides a message that was not handled before it comes again; 0 leaves it to the queue's visibility timeout, as AWS does.
	Retry time.Duration
	// Region and Account are of the queue's ARN.
	Region, Account string
	Log             *slog.Logger
}

const (
	// wait is how long a receive waits, pause the rest after one that failed.
	wait  = 20 * time.Second
	pause = time.Second
)

// Run drives the function until ctx ends. What has begun then is finished.
func (m Mapping) Run(ctx context.Context) {
	var polling sync.WaitGroup
	for range m.Pollers {
		polling.Go(func() { m.poll(ctx) })
	}
	polling.Wait()
}

func (m Mapping) poll(ctx context.Context) {
	for ctx.Err() == nil {
		msgs, err := m.Queues.Receive(ctx, m.Queue, m.Batch, wait, 0)
		if err != nil {
			if ctx.Err() == nil {
				m.Log.Error("queue cannot be read", "queue", m.Queue, "error", err)
				select {
				case <-time.After(pause):
				case <-ctx.Done():
				}
			}
			continue
		}
		if len(msgs) == 0 {
			continue
		}
		if err := m.Deliver(context.WithoutCancel(ctx), msgs); err != nil {
			m.Log.Error("batch not handled; it comes again", "queue", m.Queue, "function", m.Name, "error", err)
		}
	}
}

// Deliver drives the function with one batch.
func (m Mapping) Deliver(ctx context.Context, msgs []queue.Received) error {
	payload, err := json.Marshal(m.event(msgs))
	if err != nil {
		return err
	}
	var again map[string]bool
	answer, failed := m.Function.Invoke(ctx, payload)
	if failed == nil {
		again, failed = failures(answer, msgs)
	}
	var done []string
	for _, msg := range msgs {
		if failed == nil && !again[msg.ID] {
			done = append(done, msg.Receipt)
			continue
		}
		if m.Retry == 0 {
			continue
		}
		if err := m.Queues.Extend(ctx, m.Queue, msg.Receipt, m.Retry); err != nil {
			m.Log.Warn("message not given back; it comes again by itself", "queue", m.Queue, "error", err)
		}
	}
	if len(done) > 0 {
		err = m.Queues.Delete(ctx, m.Queue, done...)
	}
	return errors.Join(failed, err)
}

// failures reads a function's answer. As on AWS, one that is no batch response, or names what is not in the batch, fails the whole batch.
func failures(answer []byte, msgs []queue.Received) (map[string]bool, error) {
	var res events.SQSEventResponse
	if len(answer) > 0 {
		if err := json.Unmarshal(answer, &res); err != nil {
			return nil, fmt.Errorf("its answer is no batch response: %w", err)
		}
	}
	ids := make(map[string]bool, len(msgs))
	for _, m := range msgs {
		ids[m.ID] = true
	}
	again := map[string]bool{}
	for _, f := range res.BatchItemFailures {
		if !ids[f.ItemIdentifier] {
			return nil, fmt.Errorf("its answer names the message %q, which is not in the batch", f.ItemIdentifier)
		}
		again[f.ItemIdentifier] = true
	}
	return again, nil
}

// event is what Lambda gives a function for a batch.
func (m Mapping) event(msgs []queue.Received) events.SQSEvent {
	var e events.SQSEvent
	for _, msg := range msgs {
		attributes := map[string]string{
			"ApproximateReceiveCount": strconv.Itoa(msg.Receives), "SentTimestamp": strconv.FormatInt(msg.SentAt.UnixMilli(), 10),
		}
		if msg.Group != "" {
			attributes["MessageGroupId"] = msg.Group
		}
		e.Records = append(e.Records, events.SQSMessage{
			MessageId: msg.ID, ReceiptHandle: msg.Receipt, Body: msg.Body, Attributes: attributes, EventSource: "aws:sqs",
			EventSourceARN: "arn:aws:sqs:" + m.Region + ":" + m.Account + ":" + m.Queue, AWSRegion: m.Region,
		})
	}
	return e
}
