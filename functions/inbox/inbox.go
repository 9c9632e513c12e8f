// Package inbox is the function that takes what workers without a stream say: results, progress, heartbeats.
package inbox

import (
	"context"
	"errors"

	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/edge/batch"
)

// Handler takes each packet. One that has no effect is logged and does not come again.
func Handler(d *dispatch.Dispatcher) batch.Handler {
	return batch.Each(d.Log, d.Yield, func(ctx context.Context, m batch.Message) error {
		p, err := dispatch.ParsePacket(m.Body)
		if err != nil {
			d.Log.WarnContext(ctx, "message on the inbox queue is no packet", "message", m.ID, "error", err)
			return nil
		}
		err = d.Received(ctx, p)
		if ignored, ok := errors.AsType[*dispatch.Ignored](err); ok {
			d.Log.WarnContext(ctx, "packet ignored", "message", m.ID, "sender", p.Packet.GetSenderId(), "why", ignored.Why)
			return nil
		}
		return err
	})
}
