// Package deadletter is the function behind the dead-letter queues: it tells clients of jobs that ended without success, and makes messages that
// nobody could handle into dead letters that an operator can see, retry and delete.
package deadletter

import (
	"context"

	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/edge/batch"
)

// Handler takes each message of a dead-letter queue.
func Handler(d *dispatch.Dispatcher) batch.Handler {
	return batch.Each(d.Log, d.Yield, func(ctx context.Context, m batch.Message) error {
		notice, ok := dispatch.ParseDeadNotice(m.Body)
		if !ok {
			return d.Unhandled(ctx, m.ID, m.Body)
		}
		r, err := d.Jobs.Load(ctx, job.AnyTenant, notice.Dead, d.Clock.Now())
		switch {
		case fault.Is(err, fault.NotFound):
			return nil
		case err != nil:
			return err
		}
		d.Log.InfoContext(ctx, "job ended without success", "job", r.ID, "tenant", r.Tenant, "topic", r.Topic, "state", r.State,
			"code", r.ErrorCode, "attempts", r.Attempts)
		d.Buried(ctx, r)
		return nil
	})
}
