package plane_test

import (
	"fmt"
	"testing"

	docs "github.com/cordum-serverless/cordum/shared/core/config"
)

func TestADryRunAsksAboutEveryStep(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "input_schema", pairs("type", "object", "properties", pairs("n", pairs("type", "integer"))), "steps", pairs(
			"last", stepJob("job.test.a", "depends_on", deps("gate", "wipe"), "name", "Last"), "gate", pairs("type", "approval", "depends_on", deps("wipe")),
			"wipe", stepJob("job.test.wipe", "type", "worker"), "inline", pairs("type", "transform"), "own", pairs("type", "http"),
			"each", stepJob("job.test.ask", "for_each", "input.of")))
		ask := func(body any) []string {
			var out []string
			o := r.post("/api/v1/workflows/w/dry-run", body).ok(200).object()
			for _, s := range o["steps"].([]any) {
				s := s.(map[string]any)
				out = append(out, fmt.Sprint(s["step_id"], " ", s["step_name"], " ", s["step_type"], " ", s["decision"], " ", s["rule_id"]))
			}
			return out
		}
		want(t, "dry run", ask(pairs("input", pairs("n", 1))), "each   REQUIRE_APPROVAL ask", "own  http DENY ", "wipe  worker DENY no-wipe",
			"gate  approval REQUIRE_APPROVAL ", "last Last  ALLOW rest")
		r.document(docs.WorkflowScope, docs.ID(docs.WorkflowScope, "default", "w"), `{"safety":{"denied_topics":["job.test.a"]}}`)
		if got := ask(nil); got[4] != "last Last  DENY rest" {
			t.Errorf("under the configuration of the workflow: %v", got)
		}
		r.post("/api/v1/workflows/w/dry-run", pairs("input", []any{})).refused(400, "invalid json")
		r.post("/api/v1/workflows/w/dry-run", pairs("input", pairs("n", "x"))).ok(400)
		r.as("k-other", "POST", "/api/v1/workflows/w/dry-run", nil).refused(404, "workflow not found")
		r.as("k-viewer", "POST", "/api/v1/workflows/w/dry-run", nil).ok(403)
		if n := len(r.jobs("")); n != 0 {
			t.Errorf("%d jobs", n)
		}
	})
}

func TestF10_F12_Schemas(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		save := func(id string, schema any) answer {
			return r.post("/api/v1/schemas", pairs("id", id, "schema", schema))
		}
		save("test/schema", pairs("type", "object", "required", deps("id"))).ok(204)
		save(" other ", pairs("type", "string")).ok(204)
		for _, path := range []string{"test%2Fschema", "test/schema"} {
			if got := r.get("/api/v1/schemas/" + path).ok(200).Body; got != `{"id":"test/schema","schema":{"required":["id"],"type":"object"}}` {
				t.Errorf("%s: %s", path, got)
			}
		}
		if got := r.get("/api/v1/schemas").ok(200).Body; got != `{"schemas":["other","test/schema"]}` {
			t.Errorf("%s", got)
		}
		if got := r.get("/api/v1/schemas?limit=1").ok(200).Body; got != `{"schemas":["other"]}` {
			t.Errorf("%s", got)
		}
		save("", pairs()).refused(400, "schema id required")
		for name, bad := range map[string]any{"null": nil, "list": []any{}, "broken": pairs("type", "nothing"), "foreign": pairs("$ref", "file:///etc/passwd")} {
			if got := save("bad", bad).ok(400).Body; len(got) < 20 {
				t.Errorf("%s: %s", name, got)
			}
		}
		r.get("/api/v1/schemas/bad").refused(404, "schema not found")
		r.as("k-other", "GET", "/api/v1/schemas/test/schema", nil).refused(404, "schema not found")
		r.as("k-other", "DELETE", "/api/v1/schemas/test%2Fschema", nil).ok(204)
		r.as("k-viewer", "POST", "/api/v1/schemas", pairs("id", "x", "schema", pairs())).ok(403)
		r.saved("w", "steps", pairs("a", stepJob("job.test.a", "input_schema_id", "test/schema"), "b", stepJob("job.test.a", "output_schema_id", "other")))
		r.labourers()
		id := r.start("w", pairs("id", 1))
		run := r.awaitRun(id, "failed") // a's output is no text
		if stepOf(run, "b")["status"] != "failed" {
			t.Errorf("%v", run)
		}
		for _, path := range []string{"test%2Fschema", "test%2Fschema", "none"} {
			r.as("k-admin", "DELETE", "/api/v1/schemas/"+path, nil).ok(204)
		}
		r.get("/api/v1/schemas/test/schema").refused(404, "schema not found")
	})
}
