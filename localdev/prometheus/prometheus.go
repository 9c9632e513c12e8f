// Package prometheus shows the plane's metrics to Prometheus, where there is no CloudWatch.
package prometheus

import (
	"context"
	"log/slog"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cordum-serverless/cordum/shared/platform/metrics"
)

// Sink counts, and hands every line on.
type Sink struct {
	next      metrics.Sink
	registry  *prometheus.Registry
	counters  map[*metrics.Metric]*prometheus.CounterVec
	durations map[*metrics.Metric]*prometheus.HistogramVec
}

var _ metrics.Sink = (*Sink)(nil)

// New makes a sink with every metric of the plane.
func New(next metrics.Sink) *Sink {
	s := &Sink{
		next: next, registry: prometheus.NewRegistry(), counters: map[*metrics.Metric]*prometheus.CounterVec{},
		durations: map[*metrics.Metric]*prometheus.HistogramVec{},
	}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, m := range metrics.All {
		if m.Unit == metrics.Count {
			s.counters[m] = prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: m.Namespace, Name: m.Name, Help: m.Help}, m.Labels)
			s.registry.MustRegister(s.counters[m])
			continue
		}
		s.durations[m] = prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: m.Namespace, Name: m.Name, Help: m.Help}, m.Labels)
		s.registry.MustRegister(s.durations[m])
	}
	return s
}

// Record counts the values.
func (s *Sink) Record(ctx context.Context, line string, about []slog.Attr, samples ...metrics.Sample) {
	for _, sample := range samples {
		labels := make([]string, len(sample.Metric.Labels))
		for i, name := range sample.Metric.Labels {
			if at := slices.IndexFunc(about, func(a slog.Attr) bool { return a.Key == name }); at >= 0 {
				labels[i] = about[at].Value.String()
			}
		}
		if c := s.counters[sample.Metric]; c != nil {
			c.WithLabelValues(labels...).Add(sample.Value)
		} else {
			s.durations[sample.Metric].WithLabelValues(labels...).Observe(sample.Value)
		}
	}
	s.next.Record(ctx, line, about, samples...)
}

// Handler serves the page that Prometheus reads.
func (s *Sink) Handler() http.Handler { return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}) }
