// Package broadcast is the function that brings live events from their queue to the clients that listen, and what they have missed to those that come
// back; it closes the connections of whoever may not listen any more.
package broadcast

import (
	"context"
	"sync"

	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/event"
	"github.com/cordum-serverless/cordum/shared/edge/batch"
)

// Handler closes what has ended before it delivers the events of a batch, whose order within a job is the queue's, and catches up the connections that it names, all at once and
// shortly where there are events beside them: until the batch is done no more of those jobs are delivered.
func Handler(d *dispatch.Dispatcher) batch.Handler {
	return batch.Whole(func(ctx context.Context, messages []batch.Message) (again []batch.Message) {
		var all []event.Event
		var of, behind, ended []batch.Message
		for _, m := range messages {
			if _, ok := event.ParseBehind(m.Body); ok {
				behind = append(behind, m)
			} else if _, ok := event.ParseEnding(m.Body); ok {
				ended = append(ended, m)
			} else if e, ok := event.ParseEvent(m.Body); ok {
				all, of = append(all, e), append(of, m)
			} else {
				d.Log.WarnContext(ctx, "message on the events queue is no event", "message", m.ID)
			}
		}
		for _, m := range ended {
			e, _ := event.ParseEnding(m.Body) // it is one
			if err := d.Streams.End(ctx, e); err != nil {
				d.Log.ErrorContext(ctx, "connections not closed; it is tried again", "tenant", e.Tenant, "of", e.Of, "error", err)
				again = append(again, m)
			}
		}
		within := event.CatchUpAlone
		if len(all) > 0 {
			within = event.CatchUpBeside
			if err := d.Streams.Deliver(ctx, all); err != nil {
				d.Log.ErrorContext(ctx, "events not delivered; they come again", "messages", len(of), "error", err)
				again = append(again, of...)
			}
		}
		failed := make([]bool, len(behind))
		var catching sync.WaitGroup
		for i, m := range behind {
			catching.Go(func() {
				d.Yield.At(ctx, "catch up "+m.ID)
				b, _ := event.ParseBehind(m.Body) // it is one
				if err := d.Streams.CatchUp(ctx, b.Connection, within); err != nil {
					d.Log.ErrorContext(ctx, "connection not caught up; it is tried again", "connection", b.Connection, "error", err)
					failed[i] = true
				}
			})
		}
		catching.Wait()
		for i, m := range behind {
			if failed[i] {
				again = append(again, m)
			}
		}
		return again
	})
}
