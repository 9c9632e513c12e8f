// Package sweep is the function that a schedule starts: it finds what is due and does it.
package sweep

import (
	"context"
	"errors"

	"github.com/cordum-serverless/cordum/shared/core/dispatch"
)

// batch is the most jobs, and the most connections, that one sweep looks at; the rest is due for the next.
const batch = 20_000

// Handler looks at what is due: jobs, workers that fell silent, connections that want a sign of life. An error means that something of it is
// still due; the next sweep finds it again.
func Handler(d *dispatch.Dispatcher) func(context.Context) (dispatch.Swept, error) {
	return func(ctx context.Context) (dispatch.Swept, error) {
		done, err := d.Sweep(ctx, batch)
		if d.Streams.Push != nil {
			err = errors.Join(err, d.Streams.KeepAlive(ctx, batch))
		}
		return done, err
	}
}
