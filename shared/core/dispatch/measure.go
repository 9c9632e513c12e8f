package dispatch

import (
	"context"
	"log/slog"

	"github.com/cordum-serverless/cordum/shared/core/dlq"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/platform/metrics"
)

// MovedLine is the text of the line that tells of every step of every job. All steps of a job have its job_id, all jobs of a trace its trace_id,
// whatever function took the step.
const MovedLine = "job"

// measure tells of the steps of jobs, and counts them.
func measure(sink metrics.Sink) func(context.Context, job.State, *job.Record) {
	return func(ctx context.Context, from job.State, r *job.Record) {
		about := []slog.Attr{
			slog.String("job_id", r.ID), slog.String("trace_id", r.Trace), slog.String("tenant", r.Tenant), slog.String("topic", r.Topic),
			slog.String("from", string(from)), slog.String("status", string(r.State)), slog.Int64("attempt", r.Attempts),
			slog.Int64("ms", (r.UpdatedAt-r.CreatedAt)/1000),
		}
		for _, a := range []slog.Attr{
			slog.String("pool", r.Pool), slog.String("worker", r.Worker), slog.String("reason", r.Reason), slog.String("code", r.ErrorCode),
		} {
			if a.Value.String() != "" {
				about = append(about, a)
			}
		}
		sink.Record(ctx, MovedLine, about, counts(from, r)...)
	}
}

func counts(from job.State, r *job.Record) []metrics.Sample {
	var out []metrics.Sample
	add := func(m *metrics.Metric, v float64) { out = append(out, metrics.Sample{Metric: m, Value: v}) }
	if from == "" {
		add(metrics.JobsReceived, 1)
	}
	if r.State == job.Dispatched {
		add(metrics.JobsDispatched, 1)
		if r.Attempts == 1 {
			add(metrics.JobWait, float64(r.UpdatedAt-r.CreatedAt)/1e6)
		}
	}
	if r.State == job.Denied && r.ErrorCode == dlq.SafetyDenied {
		add(metrics.SafetyDenied, 1)
	}
	if r.State.Terminal() {
		add(metrics.JobsCompleted, 1)
	}
	return out
}
