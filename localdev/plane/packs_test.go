package plane_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/cordum-serverless/cordum/sdk/worker"
)

// packFiles are what a pack brings, as far as its workflows need it.
type packFiles struct {
	Resources struct {
		Schemas, Workflows []struct{ ID, Path string }
	}
}

// readYAML reads a file of a pack.
func readYAML(t *testing.T, into any, path ...string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestPacks runs the workflows of packs to their ends, with workers that answer as the schemas say: of the packs in testdata, and of those in the folder
// that PACKS names (`make try-packs`).
func TestPacks(t *testing.T) {
	dirs := []string{"testdata/packs"}
	if more := os.Getenv("PACKS"); more != "" {
		dirs = append(dirs, more)
	}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*", "pack.yaml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no pack in %s: %v", dir, err)
		}
		for _, file := range files {
			t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) { runPack(t, filepath.Dir(file)) })
		}
	}
}

func runPack(t *testing.T, dir string) {
	var pack packFiles
	readYAML(t, &pack, dir, "pack.yaml")
	schemas, flows, needs := map[string]map[string]any{}, map[string]map[string]any{}, map[string]bool{}
	for _, s := range pack.Resources.Schemas {
		var made map[string]any
		readYAML(t, &made, dir, s.Path) // JSON is YAML
		schemas[s.ID] = made
	}
	for _, f := range pack.Resources.Workflows {
		var made map[string]any
		readYAML(t, &made, dir, f.Path)
		flows[f.ID] = made
		for _, s := range made["steps"].(map[string]any) {
			meta, _ := s.(map[string]any)["meta"].(map[string]any)
			requires, _ := meta["requires"].([]any)
			for _, r := range requires {
				needs[fmt.Sprint(r)] = true
			}
		}
	}
	cfg := config()
	offers, _ := json.Marshal(slices.Sorted(maps.Keys(needs)))
	cfg.Policy = []byte("default_decision: allow\nrules: []\n")
	cfg.Pools = []byte("topics: { job.*: main }\npools: { main: { requires: " + string(offers) + " } }\n")
	virtually(t, cfg, func(t *testing.T, r *rig) {
		for id, s := range schemas {
			r.post("/api/v1/schemas", pairs("id", id, "schema", s)).ok(204)
		}
		answers := map[string]any{} // by topic
		for id, f := range flows {
			r.post("/api/v1/workflows", f).ok(201)
			for name, s := range f["steps"].(map[string]any) {
				s := s.(map[string]any)
				out, _ := s["output_schema"].(map[string]any)
				if named, ok := s["output_schema_id"].(string); ok {
					out = schemas[named]
				}
				answers[id+"/"+name] = instance(out, out, 0)
			}
		}
		r.work(map[string]worker.Handler{"job.*": func(_ context.Context, j *worker.Job) (any, error) {
			step, _, _ := strings.Cut(j.Env["step_id"], "[")
			return answers[j.Env["workflow_id"]+"/"+step], nil
		}}, func(c *worker.Config) { c.MaxParallel = 16 })
		for id, f := range flows {
			run := r.start(id, inputOf(f, schemas))
			for s := range f["steps"].(map[string]any) {
				time.Sleep(time.Second)
				if stepOf(r.run(run), s)["status"] == "waiting" {
					r.post("/api/v1/workflows/"+id+"/runs/"+run+"/steps/"+s+"/approve", pairs("approved", true)).ok(204)
				}
			}
			for s, v := range r.awaitRun(run, "succeeded")["steps"].(map[string]any) {
				t.Logf("%-24s %-10s %v", id, s, v.(map[string]any)["status"])
			}
		}
	})
}

// inputOf is an input of a workflow: as its own schema says, or as that of its first step that has one.
func inputOf(flow map[string]any, schemas map[string]map[string]any) any {
	if s, ok := flow["input_schema"].(map[string]any); ok {
		return instance(s, s, 0)
	}
	steps, _ := flow["steps"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(steps)) {
		s, _ := steps[name].(map[string]any)
		if id, ok := s["input_schema_id"].(string); ok {
			return instance(schemas[id], schemas[id], 0)
		}
	}
	return map[string]any{}
}

// instance makes a value that a schema accepts: what it requires, and nothing else. It knows the words that schemas of packs use.
func instance(s, root map[string]any, depth int) any {
	if depth > 20 || s == nil {
		return map[string]any{}
	}
	if ref, ok := s["$ref"].(string); ok {
		at := any(root)
		for key := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
			m, _ := at.(map[string]any)
			at = m[key]
		}
		target, _ := at.(map[string]any)
		return instance(target, root, depth+1)
	}
	if v, ok := s["const"]; ok {
		return v
	}
	if all, ok := s["enum"].([]any); ok && len(all) > 0 {
		return all[0]
	}
	for _, word := range []string{"oneOf", "anyOf", "allOf"} {
		if all, ok := s[word].([]any); ok && len(all) > 0 && s["type"] == nil {
			one, _ := all[0].(map[string]any)
			return instance(one, root, depth+1)
		}
	}
	kind, _ := s["type"].(string)
	if many, ok := s["type"].([]any); ok && len(many) > 0 {
		kind, _ = many[0].(string)
	}
	switch kind {
	case "string":
		if s["format"] == "date-time" {
			return "2026-02-13T01:00:00Z"
		}
		return strings.Repeat("x", cmp.Or(number(s["minLength"]), 1))
	case "integer", "number":
		return cmp.Or(number(s["minimum"]), number(s["exclusiveMinimum"])+1)
	case "boolean":
		return true
	case "null":
		return nil
	case "array":
		items, _ := s["items"].(map[string]any)
		made := make([]any, number(s["minItems"]))
		for i := range made {
			made[i] = instance(items, root, depth+1)
		}
		return made
	}
	made := map[string]any{}
	properties, _ := s["properties"].(map[string]any)
	required, _ := s["required"].([]any)
	for _, word := range []string{"oneOf", "anyOf"} { // beside a type they say what else is required
		if all, ok := s[word].([]any); ok && len(all) > 0 {
			more, _ := all[0].(map[string]any)["required"].([]any)
			required = append(required, more...)
		}
	}
	for _, name := range required {
		p, _ := properties[fmt.Sprint(name)].(map[string]any)
		made[fmt.Sprint(name)] = instance(p, root, depth+1)
	}
	return made
}

// number reads a number of YAML.
func number(v any) int {
	switch v := v.(type) {
	case uint64:
		return int(v)
	case int64:
		return int(v)
	case float64:
		return int(v)
	}
	return 0
}
