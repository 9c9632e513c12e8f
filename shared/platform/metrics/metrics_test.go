package metrics_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/metrics"
)

// line is what CloudWatch reads of a line of the log.
type line struct {
	Msg   string `json:"msg"`
	Topic string `json:"topic"`
	Stage string `json:"Stage"`
	AWS   *struct {
		Timestamp         int64
		CloudWatchMetrics []struct {
			Namespace  string
			Dimensions [][]string
			Metrics    []struct{ Name, Unit string }
		}
	} `json:"_aws"`
}

type fixed struct{}

func (fixed) Now() time.Time { return time.UnixMilli(1234) }

func record(t *testing.T, about []slog.Attr, samples ...metrics.Sample) (line, map[string]any) {
	t.Helper()
	var text bytes.Buffer
	e := metrics.Embedded{Log: slog.New(slog.NewJSONHandler(&text, nil)), Stage: "prod", Clock: fixed{}}
	e.Record(t.Context(), "job", about, samples...)
	var l line
	var all map[string]any
	for _, into := range []any{&l, &all} {
		if err := json.Unmarshal(text.Bytes(), into); err != nil {
			t.Fatalf("%v: %s", err, text.String())
		}
	}
	return l, all
}

// TestALineIsAMetric: every dimension and value that the directive names is a member of the line, as the format asks for.
func TestALineIsAMetric(t *testing.T) {
	about := []slog.Attr{slog.String("topic", "job.x"), slog.String("status", "SUCCEEDED")}
	l, all := record(t, about, metrics.Sample{Metric: metrics.JobsCompleted, Value: 1}, metrics.Sample{Metric: metrics.JobWait, Value: 0.5})
	if l.Msg != "job" || l.Topic != "job.x" || l.Stage != "prod" || l.AWS == nil || l.AWS.Timestamp != 1234 || len(l.AWS.CloudWatchMetrics) != 2 {
		t.Fatalf("%v", all)
	}
	for _, m := range l.AWS.CloudWatchMetrics {
		for _, set := range m.Dimensions {
			for _, d := range set {
				if _, ok := all[d].(string); !ok {
					t.Errorf("dimension %s is no text of the line: %v", d, all[d])
				}
			}
		}
		if _, ok := all[m.Metrics[0].Name].(float64); !ok {
			t.Errorf("%s has no value", m.Metrics[0].Name)
		}
	}
	if d := l.AWS.CloudWatchMetrics[0].Dimensions; !slices.EqualFunc(d, [][]string{{"Stage"}, {"Stage", "status"}}, slices.Equal) {
		t.Errorf("dimensions %v", d)
	}
}

func TestALineWithoutValuesIsALine(t *testing.T) {
	if l, all := record(t, []slog.Attr{slog.String("topic", "job.x")}); l.AWS != nil || l.Topic != "job.x" {
		t.Errorf("%v", all)
	}
}

func TestDimensionsAreLabels(t *testing.T) {
	for _, m := range metrics.All {
		for _, d := range m.Dimensions {
			if !slices.Contains(m.Labels, d) {
				t.Errorf("%s: dimension %s is no label", m.Name, d)
			}
		}
	}
}
