// Package broadcast is the function that brings live events from their queue to the clients that listen, and what they have missed to those that come
// back.
package broadcast

import (
	"context"

	"github.com/aws/aws-lambda-go/events"

	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/event"
	"github.com/cordum-serverless/cordum/shared/edge/batch"
)

// Handler delivers a batch of events, whose order within a job is the queue's, or catches up the connections of a batch, several at once. A batch is of
// one queue.
func Handler(d *dispatch.Dispatcher) batch.Handler {
	deliver := batch.Together(d.Log, func(ctx context.Context, messages []batch.Message) error {
		all := make([]event.Event, 0, len(messages))
		for _, m := range messages {
			e, ok := event.ParseEvent(m.Body)
			if !ok {
				d.Log.WarnContext(ctx, "message on the events queue is no event", "message", m.ID)
				continue
			}
			all = append(all, e)
		}
		return d.Streams.Deliver(ctx, all)
	})
	catchUp := batch.Each(d.Log, d.Yield, func(ctx context.Context, m batch.Message) error {
		behind, _ := event.ParseBehind(m.Body) // without a connection there is nothing to do
		return d.Streams.CatchUp(ctx, behind.Connection)
	})
	return func(ctx context.Context, e events.SQSEvent) (events.SQSEventResponse, error) {
		if len(e.Records) > 0 {
			if _, ok := event.ParseBehind(e.Records[0].Body); ok {
				return catchUp(ctx, e)
			}
		}
		return deliver(ctx, e)
	}
}
