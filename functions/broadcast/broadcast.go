// Package broadcast is the function that brings live events from their queue to the clients that listen, and what they have missed to those that come
// back; it closes the connections of whoever may not listen any more.
package broadcast

import (
	"context"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/event"
	"github.com/cordum-serverless/cordum/shared/edge/batch"
)

// Handler closes what has ended before it delivers the events of a batch, whose order within a job is the queue's, and catches up the connections that it
// names, all at once and shortly where there are events beside them: until the batch is done no more of those jobs are delivered.
func Handler(d *dispatch.Dispatcher) batch.Handler {
	return batch.Whole(func(ctx context.Context, messages []batch.Message) (again []batch.Message) {
		b := sorted(ctx, d, messages)
		again = b.end(ctx, d)
		within := event.CatchUpAlone
		if len(b.events) > 0 {
			within = event.CatchUpBeside
			if err := d.Streams.Deliver(ctx, b.events); err != nil {
				d.Log.ErrorContext(ctx, "events not delivered; they come again", "messages", len(b.of), "error", err)
				again = append(again, b.of...)
			}
		}
		return append(again, b.catchUp(ctx, d, within)...)
	})
}

// parcel is a batch by what its messages say: events, which are of the messages in of, connections that are behind, and credentials that have ended.
type parcel struct {
	events []event.Event
	of     []batch.Message
	behind []said[event.Behind]
	ended  []said[event.Ending]
}

// said is a message, and what it says.
type said[T any] struct {
	batch.Message

	what T
}

func sorted(ctx context.Context, d *dispatch.Dispatcher, messages []batch.Message) (p parcel) {
	for _, m := range messages {
		if e, ok := event.ParseEvent(m.Body); ok { // most are
			p.events, p.of = append(p.events, e), append(p.of, m)
		} else if b, ok := event.ParseBehind(m.Body); ok {
			p.behind = append(p.behind, said[event.Behind]{m, b})
		} else if e, ok := event.ParseEnding(m.Body); ok {
			p.ended = append(p.ended, said[event.Ending]{m, e})
		} else {
			d.Log.WarnContext(ctx, "message on the events queue is no event", "message", m.ID)
		}
	}
	return p
}

// end closes connections, and answers what must be tried again.
func (p parcel) end(ctx context.Context, d *dispatch.Dispatcher) (again []batch.Message) {
	for _, m := range p.ended {
		if err := d.Streams.End(ctx, m.what); err != nil {
			d.Log.ErrorContext(ctx, "connections not closed; it is tried again", "tenant", m.what.Tenant, "of", m.what.Of, "error", err)
			again = append(again, m.Message)
		}
	}
	return again
}

// catchUp brings connections what they have missed, all at once, and answers what must be tried again.
func (p parcel) catchUp(ctx context.Context, d *dispatch.Dispatcher, within time.Duration) (again []batch.Message) {
	failed := make([]bool, len(p.behind))
	var catching sync.WaitGroup
	for i, m := range p.behind {
		catching.Go(func() {
			d.Yield.At(ctx, "catch up "+m.ID)
			if err := d.Streams.CatchUp(ctx, m.what.Connection, within); err != nil {
				d.Log.ErrorContext(ctx, "connection not caught up; it is tried again", "connection", m.what.Connection, "error", err)
				failed[i] = true
			}
		})
	}
	catching.Wait()
	for i, m := range p.behind {
		if failed[i] {
			again = append(again, m.Message)
		}
	}
	return again
}
