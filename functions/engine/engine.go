// Package engine is the function that gets runs of workflows on when a message says that something has happened to them.
package engine

import (
	"context"

	"github.com/cordum-serverless/cordum/shared/core/workflow/inbox"
	"github.com/cordum-serverless/cordum/shared/core/workflow/runs"
	"github.com/cordum-serverless/cordum/shared/edge/batch"
)

// Handler gets each run on that the messages of a batch are about.
func Handler(r *runs.Runs) batch.Handler {
	log := r.Jobs.Log
	return batch.Grouped(log, r.Jobs.Yield, func(ctx context.Context, messages []batch.Message) (int, error) {
		timers := map[string][]string{}
		var order []string
		for _, m := range messages {
			w, ok := inbox.ParseWake(m.Body)
			if !ok {
				log.WarnContext(ctx, "message on the queue of runs is no wake-up", "message", m.ID)
				continue
			}
			if _, known := timers[w.Run]; !known {
				timers[w.Run] = nil
				order = append(order, w.Run)
			}
			if w.Timer != "" {
				timers[w.Run] = append(timers[w.Run], w.Timer)
			}
		}
		for _, run := range order { // a group is a run
			if err := r.Woken(ctx, run, timers[run]); err != nil {
				return 0, err
			}
		}
		return len(messages), nil
	})
}
