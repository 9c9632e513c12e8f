package plane_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// counted is a pack whose only workflow makes what its only schema asks for, which is another number in each version.
func counted(version int) files {
	return files{
		"pack.yaml": fmt.Sprintf(`
metadata: { id: counted, version: %d.0.0 }
compatibility: { protocolVersion: 1 }
resources:
  schemas: [{ id: counted/N, path: n.json }]
  workflows: [{ id: counted.make, path: make.yaml }]
`, version),
		"n.json": fmt.Sprintf(`{"type": "object", "required": ["n"], "properties": {"n": {"const": %d}}}`, version),
		"make.yaml": fmt.Sprintf(`
steps:
  look: { type: approval }
  make: { type: transform, depends_on: [look], input: { n: %d }, output_schema_id: counted/N }
`, version),
	}
}

// approveStep approves the step that a run waits at.
func (r *rig) approveStep(workflow, run, step string) {
	r.t.Helper()
	r.post("/api/v1/workflows/"+workflow+"/runs/"+run+"/steps/"+step+"/approve", pairs("approved", true)).ok(204)
}

// What a run began with is what it goes on by, until its workflow is deleted.
func TestARunOutlivesTheUpgradeOfItsPackAndNotItsPurge(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.install(counted(1).tgz()).ok(200)
		first := r.start("counted.make", pairs())
		time.Sleep(time.Second)
		r.install(counted(2).tgz(), "upgrade", "on").ok(200)
		second := r.start("counted.make", pairs())
		time.Sleep(time.Second)
		r.uninstall("counted", false).ok(200)
		third := r.start("counted.make", pairs())
		time.Sleep(time.Second)
		for n, run := range []string{first, second} {
			r.approveStep("counted.make", run, "look")
			done := r.awaitRun(run, "succeeded")
			if got := stepOf(done, "make")["output"]; !equal(got, pairs("n", n+1)) {
				t.Errorf("run %d made %v", n+1, got)
			}
		}
		r.uninstall("counted", true).ok(200)
		r.post("/api/v1/workflows/counted.make/runs", pairs()).refused(404, "workflow not found")
		r.approveStep("counted.make", third, "look")
		if got := fmt.Sprint(r.awaitRun(third, "failed")["error"]); got != "map[message:workflow deleted]" {
			t.Errorf("it says %s", got)
		}
	})
}

// A run that starts while its pack is upgraded has the workflow and the schemas of one version.
func TestARunHasOneVersionOfItsPack(t *testing.T) {
	r := open(t, config())
	r.install(counted(1).tgz()).ok(200)
	var upgrading sync.WaitGroup
	upgrading.Go(func() {
		for n := range 20 {
			r.install(counted(n%2+1).tgz(), "upgrade", "on").ok(200)
		}
	})
	var mu sync.Mutex
	var runs []string
	var starting sync.WaitGroup
	for range 3 {
		starting.Go(func() {
			for range 15 {
				got := r.post("/api/v1/workflows/counted.make/runs", pairs())
				if got.Status == 409 {
					continue // it changes too fast
				}
				mu.Lock()
				runs = append(runs, got.ok(200).object()["run_id"].(string))
				mu.Unlock()
			}
		})
	}
	upgrading.Wait()
	starting.Wait()
	if len(runs) < 10 {
		t.Fatalf("only %d runs", len(runs))
	}
	for _, run := range runs {
		for stepOf(r.run(run), "look")["status"] != "waiting" {
			time.Sleep(5 * time.Millisecond)
		}
		r.approveStep("counted.make", run, "look")
		r.awaitRun(run, "succeeded")
	}
}

// The jobs of a run are judged and routed as everybody's are: without its pack there is neither a policy that allows them nor a pool.
func TestARunWhosePackIsUninstalledEnds(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		p := parcels(t)
		r.install(p.with("workflows/batch.yaml", strings.Replace(p["workflows/batch.yaml"], "steps:\n", "steps:\n  look: { type: approval }\n", 1)).
			say("workflows/batch.yaml", "    topic: job.parcels.book\n", "    topic: job.parcels.book\n    depends_on: [look]\n").tgz()).ok(200)
		run := r.start("parcels.batch", pairs("parcels", []any{pairs("id", "a"), pairs("id", "b"), pairs("id", "c")}))
		time.Sleep(time.Second)
		r.uninstall("parcels", false).ok(200)
		r.approveStep("parcels.batch", run, "look")
		r.awaitRun(run, "denied")
	})
}

func TestSchemasOfARunAreThoseOfItsStart(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.register("n", pairs("properties", pairs("n", pairs("const", 1)))).ok(204)
		r.post("/api/v1/workflows", pairs("id", "w", "steps", pairs(
			"wait", pairs("type", "delay", "delay_sec", 5), "make", pairs("type", "transform", "depends_on", []any{"wait"}, "input", pairs("n", 1), "output_schema_id", "n"),
		))).ok(201)
		old := r.start("w", pairs())
		r.register("n", pairs("properties", pairs("n", pairs("const", 2)))).ok(204)
		r.awaitRun(old, "succeeded")
		r.awaitRun(r.start("w", pairs()), "failed")
	})
}
