package schedule_test

import (
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cordum-serverless/cordum/shared/core/schedule"
)

func wantPick(t *testing.T, f schedule.Fleet, j schedule.Job, id string, code schedule.Code, pools ...string) {
	t.Helper()
	w, got := f.Pick(j, pools...)
	var gotID string
	if w != nil {
		gotID = w.ID
	}
	if gotID != id || got != code {
		t.Errorf("Pick = %q, %q; want %q, %q", gotID, got, id, code)
	}
}

func TestT081_LeastLoadedOfThePool(t *testing.T) {
	first := with(busy("first", "a", 2), func(w *schedule.Worker) { w.CPULoad = 50 })
	second := with(busy("second", "a", 1), func(w *schedule.Worker) { w.CPULoad, w.GPUUtilization = 4, 6 })
	if a, b := schedule.Score(first), schedule.Score(second); a != 2.5 || math.Abs(b-1.1) > 1e-9 {
		t.Errorf("scores %v and %v, want 2.5 and 1.1", a, b)
	}
	wantPick(t, fleet(first, second, idle("elsewhere", "b")), job("job.x", nil), "second", "", "a")
}

func TestT082_LowerCPUWins(t *testing.T) {
	hot := with(busy("a-hot", "a", 3), func(w *schedule.Worker) { w.CPULoad = 80 })
	cool := with(busy("b-cool", "a", 3), func(w *schedule.Worker) { w.CPULoad = 10 })
	wantPick(t, fleet(hot, cool), job("job.x", nil), "b-cool", "", "a")
}

func TestT083_Overloaded(t *testing.T) {
	tests := []struct {
		name             string
		parallel, active int
		cpu, gpu         float64
		want             bool
	}{
		{"nine of ten slots", 10, 9, 0, 0, true},
		{"eight of ten slots", 10, 8, 0, 0, false},
		{"the only slot is free", 1, 0, 0, 0, false},
		{"the only slot is taken", 1, 1, 0, 0, true},
		{"no number of slots, CPU 89", 0, 50, 89, 0, false},
		{"no number of slots, CPU 90", 0, 0, 90, 0, true},
		{"GPU 90", 0, 0, 0, 90, true},
		{"CPU counts where there are slots too", 10, 0, 90, 0, true},
		{"a load that is no number", 10, 0, math.NaN(), 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := schedule.Worker{MaxParallelJobs: tt.parallel, ActiveJobs: tt.active, CPULoad: tt.cpu, GPUUtilization: tt.gpu}
			if got := schedule.Overloaded(w); got != tt.want {
				t.Errorf("Overloaded = %t, want %t", got, tt.want)
			}
		})
	}
}

func TestT084_T085_WhyNobody(t *testing.T) {
	wantPick(t, fleet(busy("1", "a", 9), busy("2", "a", 10)), job("job.x", nil), "", schedule.PoolOverloaded, "a")
	wantPick(t, fleet(), job("job.x", nil), "", schedule.NoWorkers, "a")
	wantPick(t, fleet(idle("1", "b")), job("job.x", nil), "", schedule.NoWorkers, "a")
}

func TestT088_PreferredWorker(t *testing.T) {
	labelled := func(w schedule.Worker) schedule.Worker { w.Labels = labels{"zone": "z1"}; return w }
	prefer := labels{"preferred_worker_id": "p"}
	tests := []struct {
		name      string
		preferred schedule.Worker
		labels    labels
		want      string
	}{
		{"healthy but busier", busy("p", "a", 7), prefer, "p"},
		{"overloaded", busy("p", "a", 9), prefer, "least"},
		{"dead", with(idle("p", "a"), func(w *schedule.Worker) { w.LastHeartbeat = now.Add(-time.Minute) }), prefer, "least"},
		{"wrong pool", idle("p", "b"), prefer, "least"},
		{"label mismatch", idle("p", "a"), labels{"preferred_worker_id": "p", "zone": "z1"}, "least"},
		{"another tenant's", with(idle("p", "a"), func(w *schedule.Worker) { w.Tenant = "other" }), prefer, "least"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			others := []schedule.Worker{labelled(busy("more", "a", 5)), labelled(busy("least", "a", 4))}
			wantPick(t, fleet(append(others, tt.preferred)...), job("job.x", tt.labels), tt.want, "", "a")
			wantPick(t, fleet(append([]schedule.Worker{tt.preferred}, others...)...), job("job.x", tt.labels), tt.want, "", "a")
		})
	}
}

func TestTieBreak(t *testing.T) {
	roomy := with(busy("z", "a", 2), func(w *schedule.Worker) { w.MaxParallelJobs = 20 })
	silent := with(busy("a", "a", 2), func(w *schedule.Worker) { w.MaxParallelJobs = 0 })
	tests := []struct {
		name    string
		workers []schedule.Worker
		want    string
	}{
		{"the emptier of two with equal score", []schedule.Worker{busy("b", "a", 2), roomy}, "z"},
		{"one that names no slots counts as one slot", []schedule.Worker{silent, busy("b", "a", 2)}, "b"},
		{"then by id", []schedule.Worker{busy("c", "a", 2), busy("b", "a", 2), busy("d", "a", 2)}, "b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { wantPick(t, fleet(tt.workers...), job("job.x", nil), tt.want, "", "a") })
	}
}

func TestPlacement(t *testing.T) {
	tests := []struct {
		name        string
		placement   schedule.Placement
		job, worker labels
		want        bool
	}{
		{"T092 values are compared with case", nil, labels{"region": "eu"}, labels{"region": "EU"}, false},
		{"equal values", nil, labels{"region": "eu", "gpu": "a100"}, labels{"region": "eu", "gpu": "a100", "x": "y"}, true},
		{"one of two is missing", nil, labels{"region": "eu", "gpu": "a100"}, labels{"region": "eu"}, false},
		{"a worker without labels", nil, labels{"zone": "z"}, nil, false},
		{"an empty value must be there too", nil, labels{"zone": ""}, nil, false},
		{"the prefix is part of the key", nil, labels{"place.rack": "7"}, labels{"rack": "7"}, false},
		{"T093 labels of policy and history", nil, labels{"env": "prod", "mcp.server": "s", "approval_reason": "r", "approval_note": "n",
			"retry": "1", "retry_of_job": "j", "dlq_entry": "d", "remediation_of": "j", "remediation_id": "r", "dry_run": "true"}, nil, true},
		{"T094 labels of provenance", nil, labels{"workflow_id": "w", "run_id": "r", "step_id": "s", "node_id": "n", "worker_id": "x",
			"cordum.x": "y", "approval_granted": "true", "secrets_present": "true"}, nil, true},
		{"a list of the operator's own", schedule.Placement{"rack"}, labels{"rack": "7", "region": "eu"}, labels{"rack": "7"}, true},
		{"... which constrains", schedule.Placement{"rack"}, labels{"rack": "7"}, labels{"rack": "8"}, false},
		{"an empty list leaves the prefix", schedule.Placement{}, labels{"region": "eu", "place.a": "b"}, labels{"place.a": "b"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := fleet(with(idle("w", "a"), func(w *schedule.Worker) { w.Labels = tt.worker }))
			f.Placement = tt.placement
			if w, _ := f.Pick(job("job.x", tt.job), "a"); (w != nil) != tt.want {
				t.Errorf("picked = %t, want %t", w != nil, tt.want)
			}
		})
	}
}

func TestTenants(t *testing.T) {
	foreign := with(idle("a", "a"), func(w *schedule.Worker) { w.Tenant = "other" })
	wantPick(t, fleet(foreign), job("job.x", nil), "", schedule.NoWorkers, "a")
	foreign.CrossTenant = true
	wantPick(t, fleet(foreign, busy("b", "a", 1)), job("job.x", nil), "a", "", "a")

	for _, f := range []schedule.Fleet{fleet(foreign, idle("a", "a")), fleet(idle("a", "a"), foreign)} {
		if w, _ := f.Pick(job("job.x", nil), "a"); w == nil || w.Tenant != "acme" {
			t.Errorf("of two workers with one id, picked %+v, want acme's", w)
		}
	}
}

func TestT095_SilentForThirtySeconds(t *testing.T) {
	w := idle("w", "a")
	f := fleet(w)
	f.Now = now.Add(30 * time.Second)
	wantPick(t, f, job("job.x", nil), "w", "", "a")
	f.Now = now.Add(31 * time.Second)
	wantPick(t, f, job("job.x", nil), "", schedule.NoWorkers, "a")
	f.Workers[0].LastHeartbeat = f.Now
	wantPick(t, f, job("job.x", nil), "w", "", "a")
	if schedule.Live(schedule.Worker{}, now) {
		t.Error("a worker that was never heard of is live")
	}
}

// The choice is the same whatever the order of the workers, and no worker that could be chosen has a lower score.
func TestPick_IsTheMinimumInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 12).Draw(t, "workers")
		workers := make([]schedule.Worker, n)
		for i := range workers {
			workers[i] = schedule.Worker{
				ID: strconv.Itoa(i), Pool: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "pool"), Tenant: "acme",
				ActiveJobs:      rapid.IntRange(-1, 4).Draw(t, "active"),
				MaxParallelJobs: rapid.IntRange(0, 5).Draw(t, "parallel"),
				CPULoad:         rapid.SampledFrom([]float64{-5, 0, 50, 90, math.Inf(1), math.NaN()}).Draw(t, "cpu"),
				LastHeartbeat:   now.Add(-time.Duration(rapid.IntRange(0, 60).Draw(t, "age")) * time.Second),
			}
		}
		j := job("job.x", nil)
		best, code := fleet(workers...).Pick(j, "a", "b")
		for _, w := range workers {
			able := w.Pool != "c" && schedule.Live(w, now) && !schedule.Overloaded(w)
			if able && (best == nil || schedule.Score(w) < schedule.Score(*best)) {
				t.Fatalf("picked %+v, but %+v is better", best, w)
			}
		}
		if (best == nil) == (code == "") {
			t.Fatalf("worker %v with code %q", best, code)
		}
		id := func(w *schedule.Worker) string {
			if w == nil {
				return "nobody"
			}
			return w.ID
		}
		first := id(best)
		slices.Reverse(workers)
		again, codeAgain := fleet(workers...).Pick(j, "a", "b")
		if id(again) != first || codeAgain != code {
			t.Fatalf("in another order: %s %q, want %s %q", id(again), codeAgain, first, code)
		}
	})
}
