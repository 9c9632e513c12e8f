// Package broadcast is the function that brings live events from their queue to the clients that listen.
package broadcast

import (
	"context"

	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/event"
	"github.com/cordum-serverless/cordum/shared/edge/batch"
)

// Handler delivers a batch of events; their order within a job is the queue's.
func Handler(d *dispatch.Dispatcher) batch.Handler {
	return batch.Together(d.Log, func(ctx context.Context, messages []batch.Message) error {
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
}
