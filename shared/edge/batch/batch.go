// Package batch is the door of functions that a queue drives: a batch of SQS messages in, the ids of those that must come again out.
package batch

import (
	"context"
	"log/slog"
	"sync"

	"github.com/aws/aws-lambda-go/events"

	"github.com/cordum-serverless/cordum/shared/platform/turn"
)

// Message is one message of a batch.
type Message struct {
	ID   string
	Body string
	// Group is the group of a FIFO queue, "" on others.
	Group string
}

const groupAttribute = "MessageGroupId"

// Handler is a Lambda function on a queue.
type Handler func(context.Context, events.SQSEvent) (events.SQSEventResponse, error)

// Each handles every message by itself, several at once on a standard queue and in order within a group of a FIFO queue. A message whose
// handling fails comes again, and so do those that follow it in its group. yield is called where the handling of a group begins.
func Each(log *slog.Logger, yield turn.Yield, handle func(context.Context, Message) error) Handler {
	return Grouped(log, yield, func(ctx context.Context, group []Message) (done int, err error) {
		for i, m := range group {
			if err := handle(ctx, m); err != nil {
				return i, err
			}
		}
		return len(group), nil
	})
}

// Grouped hands the messages of each group of a FIFO queue to one call, several groups at once. It says how many of them are done; those that are not
// come again.
func Grouped(log *slog.Logger, yield turn.Yield, handle func(context.Context, []Message) (done int, err error)) Handler {
	return func(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
		var order []string
		groups := map[string][]Message{}
		for _, r := range event.Records {
			m := message(r)
			lane := m.Group
			if lane == "" {
				lane = "\x00" + m.ID // a group of its own
			}
			if groups[lane] == nil {
				order = append(order, lane)
			}
			groups[lane] = append(groups[lane], m)
		}
		failed := make([][]Message, len(order))
		var handling sync.WaitGroup
		for i, lane := range order {
			handling.Go(func() {
				yield.At(ctx, "handle "+groups[lane][0].ID)
				done, err := handle(ctx, groups[lane])
				if failed[i] = groups[lane][done:]; err != nil {
					log.ErrorContext(ctx, "message not handled; it comes again", "message", failed[i][0].ID, "error", err)
				}
			})
		}
		handling.Wait()
		var again []Message
		for _, f := range failed {
			again = append(again, f...)
		}
		return Again(again...), nil
	}
}

// Whole hands a whole batch to one call, which answers the messages that must come again.
func Whole(handle func(context.Context, []Message) (again []Message)) Handler {
	return func(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
		all := make([]Message, len(event.Records))
		for i, r := range event.Records {
			all[i] = message(r)
		}
		return Again(handle(ctx, all)...), nil
	}
}

// Again is the answer that names messages which must come again.
func Again(messages ...Message) events.SQSEventResponse {
	res := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
	for _, m := range messages {
		res.BatchItemFailures = append(res.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.ID})
	}
	return res
}

func message(r events.SQSMessage) Message {
	return Message{ID: r.MessageId, Body: r.Body, Group: r.Attributes[groupAttribute]}
}
