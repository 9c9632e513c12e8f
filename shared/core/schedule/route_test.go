package schedule_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/schedule"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

type labels = map[string]string

func topology(t testing.TB, text string) *schedule.Topology {
	t.Helper()
	top, err := schedule.ParsePools([]byte(text))
	if err != nil {
		t.Fatalf("ParsePools: %v", err)
	}
	return top
}

// idle is a live worker without work.
func idle(id, pool string) schedule.Worker {
	return schedule.Worker{ID: id, Pool: pool, Tenant: "acme", MaxParallelJobs: 10, LastHeartbeat: now}
}

func busy(id, pool string, active int) schedule.Worker {
	w := idle(id, pool)
	w.ActiveJobs = active
	return w
}

func with(w schedule.Worker, change func(*schedule.Worker)) schedule.Worker {
	change(&w)
	return w
}

func job(topic string, l labels, requires ...string) schedule.Job {
	return schedule.Job{Topic: topic, Tenant: "acme", Labels: l, Requires: requires}
}

func fleet(workers ...schedule.Worker) schedule.Fleet {
	return schedule.Fleet{Workers: workers, Now: now}
}

func wantError(t *testing.T, err error, code schedule.Code, message string) {
	t.Helper()
	var e *schedule.Error
	if !errors.As(err, &e) {
		t.Fatalf("error = %v, want a *schedule.Error", err)
	}
	if e.Code != code || e.Message != message || e.Error() != message {
		t.Errorf("error = %s %q, want %s %q", e.Code, e.Message, code, message)
	}
}

func TestT086_UnmappedTopic(t *testing.T) {
	top := topology(t, `topics: {job.known: a}`)
	_, err := top.Route(job("job.other", nil), fleet(idle("w", "a")))
	wantError(t, err, schedule.NoPoolMapping, `no_pool_mapping: topic "job.other"`)

	var none schedule.Topology
	_, err = none.Route(job("job.known", nil), fleet())
	wantError(t, err, schedule.NoPoolMapping, `no_pool_mapping: topic "job.known"`)
}

func TestRoute_BlankTopicIsDispatchFailed(t *testing.T) {
	for _, topic := range []string{"", " "} {
		_, err := topology(t, `topics: {"*": a}`).Route(job(topic, nil), fleet())
		wantError(t, err, schedule.DispatchFailed, "dispatch_failed: the job has no topic")
	}
}

func TestT087_PreferredPoolOutsideTheMapping(t *testing.T) {
	top := topology(t, `{topics: {job.x: [a, b], job.y: c}, pools: {c: {}}}`)
	_, err := top.Route(job("job.x", labels{"preferred_pool": "c"}), fleet(idle("w", "c")))
	wantError(t, err, schedule.NoPoolMapping, `no_pool_mapping: topic "job.x" is not mapped to preferred pool "c"`)

	got, err := top.Route(job("job.x", labels{"preferred_pool": "b"}), fleet(idle("w", "a")))
	if err != nil || got.Pool != "b" || got.Targeted {
		t.Errorf("preferred pool b: %+v, %v; want pool b although only a has a worker", got, err)
	}
}

func TestRequires(t *testing.T) {
	const pools = `
topics: {job.x: [bare, small, gpu]}
pools:
  bare: {}
  small: {requires: [docker]}
  gpu: {requires: [" gpu", Linux]}
`
	tests := []struct {
		name     string
		requires []string
		want     string // eligible pools; "" is no_pool_mapping
	}{
		{"T089 needs are compared without case and space", []string{"GPU", "linux "}, "gpu"},
		{"T089 a pool without requires offers nothing", []string{"docker"}, "small"},
		{"T090 blank needs do not count", []string{""}, "bare small gpu"},
		{"T090 a blank need beside a real one", []string{" ", "docker"}, "small"},
		{"T091 no needs, every pool", nil, "bare small gpu"},
		{"needs that no single pool has", []string{"docker", "gpu"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := topology(t, pools).Eligible(job("job.x", nil, tt.requires...))
			if tt.want == "" {
				wantError(t, err, schedule.NoPoolMapping,
					`no_pool_mapping: topic "job.x": no pool satisfies requires [docker, gpu]`)
				return
			}
			if err != nil || strings.Join(got, " ") != tt.want {
				t.Errorf("Eligible = %v, %v; want %s", got, err, tt.want)
			}
		})
	}
}

func TestRequires_AreCheckedAgainstThePreferredPoolAlone(t *testing.T) {
	top := topology(t, `{topics: {job.x: [a, b]}, pools: {b: {requires: [gpu]}}}`)
	_, err := top.Route(job("job.x", labels{"preferred_pool": "a"}, "gpu"), fleet())
	wantError(t, err, schedule.NoPoolMapping, `no_pool_mapping: topic "job.x": no pool satisfies requires [gpu]`)
}

func TestTopicLookup(t *testing.T) {
	top := topology(t, `
topics:
  job.mcp.tool: exact
  job.mcp.*: long
  job.*: short
  job.[ab]cd.*: set
  job.?cd.ef: same-length
`)
	tests := []struct{ name, topic, want string }{
		{"the exact entry before every glob", "job.mcp.tool", "exact"},
		{"the longest glob", "job.mcp.other", "long"},
		{"a star crosses dots", "job.mcp.a.b.c", "long"},
		{"a shorter glob takes the rest", "job.else", "short"},
		{"a set of letters", "job.bcd.xy", "set"},
		{"longer before shorter, not first before second", "job.acd.ef", "set"},
		{"nothing matches half a topic", "jobs", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := top.Route(job(tt.topic, nil), fleet())
			if (err != nil) != (tt.want == "") || got.Pool != tt.want {
				t.Errorf("Route(%s) = %q, %v; want %q", tt.topic, got.Pool, err, tt.want)
			}
		})
	}
}

// T-084 and T-085: that nobody can take a job now is no failure.
func TestRoute_ChoiceOfPool(t *testing.T) {
	small := func(id, pool string, active int) schedule.Worker {
		return with(busy(id, pool, active), func(w *schedule.Worker) { w.MaxParallelJobs = 2 })
	}
	tests := []struct {
		name    string
		workers []schedule.Worker
		want    string
	}{
		{"T085 no worker anywhere: the pool that is listed first", nil, "a"},
		{"T084 all overloaded: the least loaded", []schedule.Worker{busy("1", "a", 10), busy("2", "b", 9)}, "b"},
		{"a pool with workers before an empty one", []schedule.Worker{busy("1", "b", 10)}, "b"},
		{"a free worker before overloaded ones", []schedule.Worker{small("1", "a", 2), busy("2", "b", 8)}, "b"},
		{"a free worker before one that is idle but hot", []schedule.Worker{
			with(idle("1", "a"), func(w *schedule.Worker) { w.CPULoad = 95 }), busy("2", "b", 8)}, "b"},
		{"the least load for each slot", []schedule.Worker{small("1", "a", 1), busy("2", "b", 4)}, "b"},
		{"equal load: the most slots", []schedule.Worker{small("1", "a", 1), busy("2", "b", 5)}, "b"},
		{"all equal: the pool that is listed first", []schedule.Worker{idle("1", "b"), idle("2", "a")}, "a"},
		{"T095 the silent do not count", []schedule.Worker{
			with(idle("1", "a"), func(w *schedule.Worker) { w.LastHeartbeat = now.Add(-31 * time.Second) }), busy("2", "b", 8)}, "b"},
		{"workers of another tenant do not count", []schedule.Worker{
			with(idle("1", "a"), func(w *schedule.Worker) { w.Tenant = "other" }), busy("2", "b", 8)}, "b"},
		{"pools outside the mapping do not count", []schedule.Worker{idle("1", "c"), busy("2", "b", 8)}, "b"},
	}
	top := topology(t, `topics: {job.x: [a, b], job.y: c}`)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := top.Route(job("job.x", nil), fleet(tt.workers...))
			if want := (schedule.Routing{Pool: tt.want}); err != nil || got != want {
				t.Errorf("Route = %+v, %v; want %+v", got, err, want)
			}
		})
	}
}

func TestRoute_Targets(t *testing.T) {
	inEU := func(w schedule.Worker) schedule.Worker {
		w.Labels = labels{"region": "eu", "place.rack": "7"}
		return w
	}
	pullOnly := func(w schedule.Worker) schedule.Worker { w.PullOnly = true; return w }
	tests := []struct {
		name    string
		labels  labels
		workers []schedule.Worker
		want    string // pool, targeted, worker, waiting
	}{
		{"no label that matters", labels{"env": "prod"}, []schedule.Worker{inEU(idle("1", "a"))}, "a false - "},
		{"a listed placement label", labels{"region": "eu"},
			[]schedule.Worker{idle("1", "a"), inEU(busy("2", "b", 3))}, "b true 2 "},
		{"the placement prefix", labels{"place.rack": "7"}, []schedule.Worker{idle("1", "a"), inEU(busy("2", "b", 3))}, "b true 2 "},
		{"nobody carries the label", labels{"region": "us"}, []schedule.Worker{inEU(idle("1", "b"))}, "b true - no_workers"},
		{"who carries it is overloaded", labels{"region": "eu"}, []schedule.Worker{inEU(busy("1", "b", 9))}, "b true - pool_overloaded"},
		{"who carries it cannot be sent to", labels{"region": "eu"},
			[]schedule.Worker{pullOnly(inEU(idle("1", "a")))}, "a true - no_workers"},
		{"T088 preferred worker, although busier", labels{"preferred_worker_id": "2"},
			[]schedule.Worker{idle("1", "a"), busy("2", "b", 8)}, "b true 2 "},
		{"T088 preferred worker overloaded: any worker", labels{"preferred_worker_id": "2"},
			[]schedule.Worker{busy("1", "a", 1), busy("2", "b", 9)}, "a false - "},
		{"T088 preferred worker unknown: any worker", labels{"preferred_worker_id": "9"},
			[]schedule.Worker{idle("1", "b")}, "b false - "},
		{"preferred worker that cannot be sent to: any worker", labels{"preferred_worker_id": "1"},
			[]schedule.Worker{pullOnly(idle("1", "b"))}, "b false - "},
		{"preferred worker without the placement label", labels{"preferred_worker_id": "1", "region": "eu"},
			[]schedule.Worker{idle("1", "a"), inEU(busy("2", "b", 5))}, "b true 2 "},
	}
	top := topology(t, `topics: {job.x: [a, b]}`)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := top.Route(job("job.x", tt.labels), fleet(tt.workers...))
			id := "-"
			if r.Worker != nil {
				id = r.Worker.ID
			}
			if got := fmt.Sprintf("%s %t %s %s", r.Pool, r.Targeted, id, r.Waiting); err != nil || got != tt.want {
				t.Errorf("Route = %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestNeedsFleet(t *testing.T) {
	top := topology(t, `{topics: {job.one: a, job.two: [a, b]}, pools: {b: {requires: [gpu]}}}`)
	tests := []struct {
		name string
		job  schedule.Job
		want bool
	}{
		{"one pool, any worker", job("job.one", labels{"env": "prod"}), false},
		{"two pools", job("job.two", nil), true},
		{"two pools of which one is able", job("job.two", nil, "gpu"), false},
		{"two pools of which one is preferred", job("job.two", labels{"preferred_pool": "a"}), false},
		{"a placement label", job("job.one", labels{"zone": "a"}), true},
		{"a preferred worker", job("job.one", labels{"preferred_worker_id": "w"}), true},
		{"an unmapped topic", job("job.none", labels{"zone": "a"}), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := top.NeedsFleet(tt.job, nil); got != tt.want {
				t.Errorf("NeedsFleet = %t, want %t", got, tt.want)
			}
		})
	}
}
