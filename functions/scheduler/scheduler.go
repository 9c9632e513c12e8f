// Package scheduler is the function that looks at jobs and workers when a delayed message says that it is time.
package scheduler

import (
	"context"

	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/edge/batch"
)

// Handler does what each wake-up asks for.
func Handler(d *dispatch.Dispatcher) batch.Handler {
	return batch.Each(d.Log, d.Yield, func(ctx context.Context, m batch.Message) error {
		w, ok := dispatch.ParseWake(m.Body)
		if !ok {
			d.Log.WarnContext(ctx, "message on the dispatch queue is no wake-up", "message", m.ID)
			return nil
		}
		return d.Woken(ctx, w)
	})
}
