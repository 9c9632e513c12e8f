package schedule_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/schedule"
)

// crowd is 1,000 live workers in two pools with a spread of load and zones.
func crowd() schedule.Fleet {
	workers := make([]schedule.Worker, 1000)
	for i := range workers {
		w := busy(strconv.Itoa(i), []string{"a", "b"}[i%2], i%9)
		w.Labels = labels{"zone": strconv.Itoa(i % 10), "host": strconv.Itoa(i)}
		workers[i] = w
	}
	return fleet(workers...)
}

func BenchmarkPick(b *testing.B) {
	f := crowd()
	for _, c := range []struct {
		name   string
		labels labels
	}{{"any", nil}, {"placed", labels{"zone": "7", "env": "prod"}}, {"preferred", labels{"preferred_worker_id": "998"}}} {
		b.Run(c.name+"/1000", func(b *testing.B) {
			b.ReportAllocs()
			j := job("job.x", c.labels)
			for b.Loop() {
				if w, _ := f.Pick(j, "a", "b"); w == nil {
					b.Fatal("nobody")
				}
			}
		})
	}
}

func BenchmarkRoute(b *testing.B) {
	text := "pools: {a: {requires: [docker, gpu]}, b: {requires: [docker, gpu]}}\ntopics:\n"
	for i := range 200 {
		text += fmt.Sprintf("  job.t%d: a\n  job.p%d.*: b\n", i, i)
	}
	top := topology(b, text+"  job.x: [a, b]\n")
	for _, c := range []struct {
		name  string
		job   schedule.Job
		fleet schedule.Fleet
	}{
		{"one pool", job("job.t7", nil), schedule.Fleet{}},
		{"one pool by glob of 200", job("job.p7.x", nil), schedule.Fleet{}},
		{"one pool with needs", job("job.t7", nil, "Docker", "gpu "), schedule.Fleet{}},
		{"two pools, 1000 workers", job("job.x", nil), crowd()},
		{"targeted, 1000 workers", job("job.x", labels{"zone": "7"}), crowd()},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := top.Route(c.job, c.fleet); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
