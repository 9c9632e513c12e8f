package plane_test

import (
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"github.com/cordum-serverless/cordum/sdk/worker"
)

var guideExample = regexp.MustCompile("(?s)```json workflow=(\\S+) input=(\\S+) ends=(\\S+)\n(.*?)```")

// TestTheExamplesOfTheGuide runs every workflow of docs/workflows.md as it stands there; gates are approved.
func TestTheExamplesOfTheGuide(t *testing.T) {
	text, err := os.ReadFile("../../docs/workflows.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := guideExample.FindAllStringSubmatch(string(text), -1)
	if len(examples) < 3 {
		t.Fatalf("%d examples", len(examples))
	}
	for _, e := range examples {
		t.Run(e[1], func(t *testing.T) {
			cfg := config()
			cfg.Policy, cfg.Pools = []byte("default_decision: allow\nrules: []\n"), []byte("topics: { job.*: main }\n")
			virtually(t, cfg, func(t *testing.T, r *rig) {
				r.work(map[string]worker.Handler{"job.etl.fails": failingJob(1 << 20), "job.*": echo}, func(c *worker.Config) { c.MaxParallel = 16 })
				r.post("/api/v1/workflows", json.RawMessage(e[4])).ok(201)
				id := r.start(e[1], json.RawMessage(e[2]))
				for s, v := range r.run(id)["steps"].(map[string]any) {
					if v.(map[string]any)["status"] == "waiting" {
						r.post("/api/v1/workflows/"+e[1]+"/runs/"+id+"/steps/"+s+"/approve", pairs("approved", true)).ok(204)
					}
				}
				r.awaitRun(id, e[3])
			})
		})
	}
}
