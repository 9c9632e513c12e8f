package plane_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/localdev/prometheus"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/platform/metrics"
)

// notebook keeps the lines about jobs.
type notebook struct {
	mu    sync.Mutex
	lines []map[string]string
}

func (n *notebook) Record(_ context.Context, line string, about []slog.Attr, samples ...metrics.Sample) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := map[string]string{"line": line}
	for _, a := range about {
		l[a.Key] = a.Value.String()
	}
	for _, s := range samples {
		l["counts"] += s.Metric.Name + " "
	}
	n.lines = append(n.lines, l)
}

// steps is the way of a job, one text a step.
func (n *notebook) steps(t *testing.T, rc receipt) []string {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, l := range n.lines {
		if l["line"] != dispatch.MovedLine || l["job_id"] != rc.JobID {
			continue
		}
		if l["trace_id"] != rc.TraceID {
			t.Errorf("%v is not of trace %s", l, rc.TraceID)
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s>%s %s", l["from"], l["status"], l["counts"])))
	}
	return out
}

// TestTheWayOfAJobIsInTheLog: from its submission to its end, under its id and its trace, each step once.
func TestTheWayOfAJobIsInTheLog(t *testing.T) {
	cfg := config()
	notes := &notebook{}
	cfg.Metrics = notes
	virtually(t, cfg, func(t *testing.T, r *rig) {
		r.work(map[string]worker.Handler{"job.test.*": func(_ context.Context, j *worker.Job) (any, error) {
			j.Progress(10, "begun")
			time.Sleep(time.Second)
			return nil, nil
		}})
		done, denied := r.submit(), r.submit("topic", "job.test.wipe")
		r.await(done.JobID, "SUCCEEDED")
		want := []string{
			">SCHEDULED jobs_received_total", "SCHEDULED>DISPATCHED jobs_dispatched_total job_wait_seconds", "DISPATCHED>RUNNING",
			"RUNNING>SUCCEEDED jobs_completed_total",
		}
		if got := notes.steps(t, done); !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
		want = []string{">DENIED jobs_received_total safety_denied_total jobs_completed_total"}
		if got := notes.steps(t, denied); !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
	})
}

// TestPrometheusReadsTheSameFigures by the names that dashboards know.
func TestPrometheusReadsTheSameFigures(t *testing.T) {
	cfg := config()
	figures := prometheus.New(metrics.Lines{Log: slog.New(slog.DiscardHandler)})
	cfg.Metrics = figures
	virtually(t, cfg, func(t *testing.T, r *rig) {
		r.work(map[string]worker.Handler{"job.test.*": succeed})
		r.await(r.submit("topic", "job.test.a").JobID, "SUCCEEDED")
		r.submit("topic", "job.test.wipe")
	})
	res := httptest.NewRecorder()
	figures.Handler().ServeHTTP(res, httptest.NewRequest("GET", "/metrics", nil))
	page, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`cordum_scheduler_jobs_received_total{topic="job.test.a"} 1`, `cordum_scheduler_jobs_dispatched_total{topic="job.test.a"} 1`,
		`cordum_scheduler_jobs_completed_total{status="SUCCEEDED",topic="job.test.a"} 1`,
		`cordum_scheduler_safety_denied_total{topic="job.test.wipe"} 1`,
		`cordum_api_gateway_http_requests_total{method="POST",route="/api/v1/jobs",status="200"} 2`,
		`cordum_api_gateway_http_request_duration_seconds_count{method="POST",route="/api/v1/jobs"} 2`,
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("%s is not on the page", want)
		}
	}
}
