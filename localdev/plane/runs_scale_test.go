//go:build !race

package plane_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// What is large is run without the race detector: it says nothing there that small runs do not, and takes ten times as long.

func TestScaleARunOfAThousandChildren(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		r.saved("w", "steps", pairs("f", stepJob("job.test.b", "for_each", "input.of", "max_parallel", 200), "join", stepJob("job.test.b", "depends_on", deps("f"),
			"input", pairs("last", "${steps.f[999].output.item}"))))
		items := make([]int, 1000)
		for i := range items {
			items[i] = i
		}
		id := r.start("w", pairs("of", items))
		run := r.awaitRun(id, "succeeded")
		steps := run["steps"].(map[string]any)
		if len(steps) != 1002 || stepOf(run, "f")["children"] != nil || fmt.Sprint(stepOf(run, "join")["input"]) != "map[last:999]" { // 4 MB, each child once
			t.Errorf("%d steps, join saw %v", len(steps), stepOf(run, "join")["input"])
		}
		if h := r.history(id); len(h) != 500 {
			t.Errorf("%d lines", len(h))
		}
		r.post("/api/v1/workflows/w/runs", pairs("of", make([]int, 1001))).ok(200)
		many := r.start("w", pairs("of", make([]int, 1001)))
		if s := r.awaitRun(many, "failed"); !strings.Contains(fmt.Sprint(stepOf(s, "f")["error"]), "1001") {
			t.Errorf("%v", stepOf(s, "f"))
		}
		r.as("k-admin", "DELETE", runPath(id), nil).ok(204)
		time.Sleep(time.Minute)
		if left := r.leftOf("R#" + id); len(left) != 0 {
			t.Errorf("%d items are left", len(left))
		}
	})
}

func TestScaleACancelOfAThousandChildren(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "steps", pairs("f", stepJob("job.test.b", "for_each", "input.of")))
		id := r.start("w", pairs("of", make([]int, 1000)))
		time.Sleep(time.Minute)
		if n := r.states("SCHEDULED"); n != 1000 {
			t.Errorf("%d jobs are scheduled", n)
		}
		r.post("/api/v1/workflows/w/runs/"+id+"/cancel", nil).ok(204)
		if s := r.run(id)["status"]; s != "cancelled" {
			t.Errorf("run is %v", s)
		}
		time.Sleep(time.Minute)
		if n := r.states("CANCELLED"); n != 1000 {
			t.Errorf("%d jobs are cancelled", n)
		}
	})
}

// states counts the jobs in a state.
func (r *rig) states(state string) int {
	r.t.Helper()
	n, cursor := 0, ""
	for {
		p := r.get("/api/v1/jobs?limit=500&state=" + state + "&cursor=" + url.QueryEscape(cursor)).ok(200).object()
		n += len(p["items"].([]any))
		if p["next_cursor"] == nil {
			return n
		}
		cursor = fmt.Sprintf("%.0f", p["next_cursor"])
	}
}

// A chain of 250 steps, half of them of the engine's own, beside 250 that depend on one.
func TestScaleARunOf500Steps(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		steps := map[string]any{}
		for i := range 250 {
			s := pairs("type", "transform", "input", pairs("n", i))
			if i%2 == 0 {
				s = stepJob("job.test.a")
			}
			if i > 0 {
				s["depends_on"] = deps(fmt.Sprintf("c%03d", i-1))
			}
			steps[fmt.Sprintf("c%03d", i)] = s
			steps[fmt.Sprintf("w%03d", i)] = stepJob("job.test.a", "depends_on", deps("c000"))
		}
		r.saved("w", "steps", steps)
		id := r.start("w", nil)
		run := r.awaitRun(id, "succeeded")
		for s, v := range run["steps"].(map[string]any) {
			if v.(map[string]any)["status"] != "succeeded" {
				t.Errorf("%s: %v", s, v)
			}
		}
		if n := len(run["steps"].(map[string]any)); n != 500 {
			t.Errorf("%d steps", n)
		}
	})
}

func TestScaleALoopOfAHundred(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		r.saved("w", "steps", pairs("l", stepJob("job.test.a", "type", "loop", "input", pairs("max_iterations", 100))))
		run := r.awaitRun(r.start("w", nil), "succeeded")
		if n := len(run["steps"].(map[string]any)); n != 101 {
			t.Errorf("%d steps", n)
		}
	})
}

// Runs that wait, for a human or for a year, cost nothing while they wait: whoever waits is in an index, and nobody looks.
func TestScaleWaitingRunsCostNothing(t *testing.T) {
	meter := &store.Meter{}
	cfg := everyMinute()
	cfg.Meter = meter
	virtually(t, cfg, func(t *testing.T, r *rig) {
		hour := func() store.Usage {
			time.Sleep(15*time.Minute + 30*time.Second) // what was done is sealed
			before := meter.Read()
			time.Sleep(time.Hour)
			return meter.Read().Since(before)
		}
		without := hour()
		r.saved("gate", "steps", pairs("g", pairs("type", "approval")))
		r.saved("year", "steps", pairs("d", pairs("type", "delay", "delay_sec", 365*24*3600)))
		for range 500 {
			r.start("gate", nil)
			r.start("year", nil)
		}
		minute := without.ReadUnits / 60
		if with := hour(); with.WriteUnits > without.WriteUnits+10 || with.ReadUnits > without.ReadUnits+minute+10 {
			t.Errorf("an hour costs %+v, with 1,000 waiting runs %+v", without, with)
		}
	})
}
