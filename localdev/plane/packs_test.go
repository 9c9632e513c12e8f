package plane_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
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
	Metadata  struct{ ID, Version string }
	Resources struct {
		Schemas, Workflows []struct{ ID, Path string }
	}
	Tests struct {
		Simulations []struct{ Name string } `yaml:"policySimulations"`
	}
}

// readYAML reads a file of a pack.
func readYAML(t *testing.T, into any, text string) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

// Packs are taken through their lives, with workers that answer as the schemas say: the examples, and those in the folder that PACKS names
// (`make try-packs`). They are installed, verified, upgraded, run to the ends of all their workflows, and uninstalled.
func TestPacks_K19_EveryPackIsVerified(t *testing.T) {
	dirs := []string{"../../docs/example-packs"}
	if more := os.Getenv("PACKS"); more != "" {
		dirs = append(dirs, more)
	}
	for _, dir := range dirs {
		manifests, err := filepath.Glob(filepath.Join(dir, "*", "pack.yaml"))
		if err != nil || len(manifests) == 0 {
			t.Fatalf("no pack in %s: %v", dir, err)
		}
		var all []files
		for _, file := range manifests {
			all = append(all, folder(t, filepath.Dir(file)))
			t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) { livePack(t, all[len(all)-1]) })
			t.Run(filepath.Base(filepath.Dir(file))+" by the command line", func(t *testing.T) { carryPack(t, all[len(all)-1]) })
		}
		t.Run("all of them", func(t *testing.T) { installAll(t, all) })
	}
}

// livePack takes one pack through its life.
func livePack(t *testing.T, p files) {
	var pack packFiles
	readYAML(t, &pack, p["pack.yaml"])
	id := pack.Metadata.ID
	schemas, flows := map[string]map[string]any{}, map[string]map[string]any{}
	for _, s := range pack.Resources.Schemas {
		var made map[string]any
		readYAML(t, &made, p[s.Path]) // JSON is YAML
		schemas[s.ID] = made
	}
	for _, f := range pack.Resources.Workflows {
		var made map[string]any
		readYAML(t, &made, p[f.Path])
		flows[f.ID] = made
	}
	cfg := config()
	cfg.Pools = []byte("topics: { job.test: main }\npools: { main: {} }\n")
	virtually(t, cfg, func(t *testing.T, r *rig) {
		clean := r.data("system", "default")
		if got := r.install(p.tgz()).ok(200).object(); got["status"] != "ACTIVE" {
			t.Errorf("status %v", got["status"])
		}
		r.install(p.tgz()).ok(200)
		if n := r.verified(id); n != len(pack.Tests.Simulations) {
			t.Errorf("%d results of %d simulations", n, len(pack.Tests.Simulations))
		}
		before := r.picture()
		r.install(p.say("pack.yaml", "version: "+pack.Metadata.Version, "version: 99.0.0").tgz(), "upgrade", "true").ok(200)
		r.verified(id)
		r.install(p.tgz(), "upgrade", "true").ok(200)
		if after := r.picture(); len(before) != len(after) { // but for times
			t.Errorf("upgraded and back again:\n%s", difference(before, after))
		}
		answers := map[string]any{} // by workflow and step
		for id, f := range flows {
			for name, s := range f["steps"].(map[string]any) {
				s := s.(map[string]any)
				out, _ := s["output_schema"].(map[string]any)
				if named, ok := s["output_schema_id"].(string); ok {
					out = schemas[named]
				}
				answers[id+"/"+name] = instance(out, out, 0)
			}
		}
		pools, _ := r.data("system", "default")["pools"].(map[string]any)["pools"].(map[string]any)
		for pool := range pools {
			r.work(map[string]worker.Handler{"job.*": func(_ context.Context, j *worker.Job) (any, error) {
				step, _, _ := strings.Cut(j.Env["step_id"], "[")
				return answers[j.Env["workflow_id"]+"/"+step], nil
			}}, func(c *worker.Config) { c.MaxParallel, c.ID, c.Pool = 16, "of "+pool, pool })
		}
		for id, f := range flows {
			r.runToItsEnd(id, f, inputOf(f, schemas))
		}
		r.uninstall(id, false).ok(200)
		r.verifiedWith(id, false)
		r.uninstall(id, true).ok(200)
		packs := r.get("/api/v1/packs").ok(200).object()["items"].([]any)
		if len(packs) != 1 || packs[0].(map[string]any)["status"] != "DISABLED" {
			t.Errorf("packs are %v", packs)
		}
		if doc := r.data("system", "default"); !equal(doc, clean) {
			t.Errorf("left over: %v, was %v", doc, clean)
		}
		if ids := r.schemas("k-admin", ""); len(ids) > 0 {
			t.Errorf("left over: %v", ids)
		}
	})
}

// carryPack has the command line install a pack, and the routes take it away.
func carryPack(t *testing.T, p files) {
	virtually(t, optional(), func(t *testing.T, r *rig) {
		c, clean := &cordumctl{r: r, key: "k-ada"}, r.data("system", "default")
		c.must(c.install(p, false))
		for id := range c.list() {
			c.shownAlike(id)
			n := r.verified(id)
			lines := c.verify(id)
			if len(lines) != n {
				t.Errorf("%d results, and the plane has %d", len(lines), n)
			}
			for _, line := range lines {
				if !strings.HasSuffix(line, ", true") {
					t.Error(line)
				}
			}
			r.uninstall(id, true).ok(200)
			r.nothingOf(id)
		}
		if doc := r.data("system", "default"); !equal(doc, clean) {
			t.Errorf("left over: %v, was %v", doc, clean)
		}
	})
}

// runToItsEnd runs a workflow; people approve whatever asks them.
func (r *rig) runToItsEnd(id string, flow map[string]any, input any) {
	r.t.Helper()
	run := r.start(id, input)
	for range len(flow["steps"].(map[string]any)) {
		time.Sleep(time.Second)
		var waiting struct {
			Items []struct {
				JobID string `json:"job_id"`
			}
		}
		r.get("/api/v1/approvals").ok(200).json(&waiting)
		for _, a := range waiting.Items {
			r.post("/api/v1/approvals/"+url.PathEscape(a.JobID)+"/approve", nil).ok(200)
		}
	}
	for s, v := range r.awaitRun(run, "succeeded")["steps"].(map[string]any) {
		r.t.Logf("%-24s %-10s %v", id, s, v.(map[string]any)["status"])
	}
}

// verified fails unless the policy decides as a pack expects, and answers how many results there are.
func (r *rig) verified(id string) int { r.t.Helper(); return r.verifiedWith(id, true) }

func (r *rig) verifiedWith(id string, good bool) int {
	r.t.Helper()
	results, ok := r.post("/api/v1/packs/"+id+"/verify", nil).ok(200).object()["results"].([]any)
	if !ok {
		r.t.Fatal("no list of results")
	}
	for _, res := range results {
		if got := res.(map[string]any); got["ok"] != good {
			r.t.Errorf("%s: %v", id, got)
		}
	}
	return len(results)
}

// installAll has all packs at the same time, which must not get into each other's way.
func installAll(t *testing.T, all []files) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		clean := r.data("system", "default")
		var ids []string
		for _, p := range all {
			ids = append(ids, fmt.Sprint(r.install(p.tgz()).ok(200).object()["id"]))
		}
		for _, id := range ids {
			r.verified(id)
		}
		for _, id := range ids {
			r.uninstall(id, true).ok(200)
		}
		if doc := r.data("system", "default"); !equal(doc, clean) {
			t.Errorf("left over: %v, was %v", doc, clean)
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
