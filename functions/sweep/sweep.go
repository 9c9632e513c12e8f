// Package sweep is the function that a schedule starts: it finds what is due and does it.
package sweep

import (
	"context"

	"github.com/cordum-serverless/cordum/shared/core/dispatch"
)

// Answer says what a sweep did.
type Answer struct {
	// Looked is how many due jobs were looked at.
	Looked int `json:"looked"`
}

// batch is the most jobs of a shard that one sweep looks at; the rest is due for the next.
const batch = 200

// Handler looks at what is due. An error means that something of it is still due; the next sweep finds it again.
func Handler(d *dispatch.Dispatcher) func(context.Context) (Answer, error) {
	return func(ctx context.Context) (Answer, error) {
		n, err := d.Sweep(ctx, batch)
		return Answer{Looked: n}, err
	}
}
