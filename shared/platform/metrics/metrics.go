// Package metrics is the port to counters and durations: what the plane measures, by the names that dashboards know, and where it goes.
//
// Values travel with the line of the log that tells of the same thing. On AWS the line is in CloudWatch's embedded metric format
// (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html): the log is the only thing
// that is written, and the metric can always be traced back to the lines that made it.
package metrics

import (
	"context"
	"log/slog"
	"slices"

	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

// Metric is one name under which values are gathered.
type Metric struct {
	Namespace, Name string
	Unit            Unit
	Help            string
	// Labels are the attributes of the line that tell values apart where that costs nothing.
	Labels []string
	// Dimensions are those that CloudWatch tells apart too. Every value of a dimension is paid for as a metric of its own, so only what has few
	// values is one.
	Dimensions []string
}

// Unit is CloudWatch's word for what a value counts.
type Unit string

// The units.
const (
	Count   Unit = "Count"
	Seconds Unit = "Seconds"
)

// What is measured.
var (
	JobsReceived = &Metric{
		Namespace: "cordum_scheduler", Name: "jobs_received_total", Unit: Count, Help: "Jobs that were accepted.", Labels: []string{"topic"},
	}
	JobsDispatched = &Metric{
		Namespace: "cordum_scheduler", Name: "jobs_dispatched_total", Unit: Count, Help: "Attempts of jobs that were handed to a worker.",
		Labels: []string{"topic"},
	}
	JobsCompleted = &Metric{
		Namespace: "cordum_scheduler", Name: "jobs_completed_total", Unit: Count, Help: "Jobs that ended.",
		Labels: []string{"topic", "status"}, Dimensions: []string{"status"},
	}
	SafetyDenied = &Metric{
		Namespace: "cordum_scheduler", Name: "safety_denied_total", Unit: Count, Help: "Jobs that the policy denied.", Labels: []string{"topic"},
	}
	JobWait = &Metric{
		Namespace: "cordum_scheduler", Name: "job_wait_seconds", Unit: Seconds, Help: "From a job's submission to its first worker.",
		Labels: []string{"topic"},
	}
	HTTPRequests = &Metric{
		Namespace: "cordum_api_gateway", Name: "http_requests_total", Unit: Count, Help: "Requests that were answered.",
		Labels: []string{"method", "route", "status"},
	}
	HTTPDuration = &Metric{
		Namespace: "cordum_api_gateway", Name: "http_request_duration_seconds", Unit: Seconds, Help: "From a request to its answer.",
		Labels: []string{"method", "route"},
	}
)

// All are the metrics of the plane.
var All = []*Metric{JobsReceived, JobsDispatched, JobsCompleted, SafetyDenied, JobWait, HTTPRequests, HTTPDuration}

// Sample is a value of a metric.
type Sample struct {
	Metric *Metric
	Value  float64
}

// Sink takes what was measured. It never fails, and may be used by several goroutines at once.
type Sink interface {
	// Record takes values that were measured together, with the line of the log that they belong to: its text and attributes, among them
	// every label of the metrics.
	Record(ctx context.Context, line string, about []slog.Attr, samples ...Sample)
}

// Lines writes the lines and drops the values.
type Lines struct{ Log *slog.Logger }

// Record writes the line.
func (l Lines) Record(ctx context.Context, line string, about []slog.Attr, _ ...Sample) {
	l.Log.LogAttrs(ctx, slog.LevelInfo, line, about...)
}

// Embedded writes lines in the embedded metric format. The logger's handler must write JSON with attributes at the top.
type Embedded struct {
	Log *slog.Logger
	// Stage is the dimension that all metrics have: which plane of the account it is.
	Stage string
	Clock clock.Clock
}

// directive says which members of a line are metrics.
type directive struct {
	Timestamp         int64      `json:"Timestamp"`
	CloudWatchMetrics []gathered `json:"CloudWatchMetrics"`
}

type gathered struct {
	Namespace  string     `json:"Namespace"`
	Dimensions [][]string `json:"Dimensions"`
	Metrics    []named    `json:"Metrics"`
}

type named struct {
	Name string `json:"Name"`
	Unit Unit   `json:"Unit"`
}

const stageDimension = "Stage"

// Record writes the line with its values.
func (e Embedded) Record(ctx context.Context, line string, about []slog.Attr, samples ...Sample) {
	if len(samples) > 0 {
		d := directive{Timestamp: e.Clock.Now().UnixMilli()}
		about = append(slices.Clip(about), slog.String(stageDimension, e.Stage))
		for _, s := range samples {
			sets := [][]string{{stageDimension}}
			for _, more := range s.Metric.Dimensions {
				sets = append(sets, []string{stageDimension, more})
			}
			d.CloudWatchMetrics = append(d.CloudWatchMetrics, gathered{s.Metric.Namespace, sets, []named{{s.Metric.Name, s.Metric.Unit}}})
			about = append(about, slog.Float64(s.Metric.Name, s.Value))
		}
		about = append(about, slog.Any("_aws", d))
	}
	e.Log.LogAttrs(ctx, slog.LevelInfo, line, about...)
}
