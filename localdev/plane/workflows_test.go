package plane_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// save posts a workflow as an administrator of the default tenant; fields are name, value pairs.
func (r *rig) save(fields ...any) answer {
	r.t.Helper()
	return r.post("/api/v1/workflows", pairs(fields...))
}

func pairs(fields ...any) map[string]any {
	m := map[string]any{}
	for i := 0; i+1 < len(fields); i += 2 {
		m[fields[i].(string)] = fields[i+1]
	}
	return m
}

// saved is save of a workflow that has nothing wrong with it.
func (r *rig) saved(id string, fields ...any) {
	r.t.Helper()
	if got := r.save(append(fields, "id", id)...).ok(201); got.Body != fmt.Sprintf(`{"id":%q}`, id) {
		r.t.Fatalf("saved: %s", got.Body)
	}
}

func (r *rig) workflow(id string) map[string]any {
	r.t.Helper()
	return r.get("/api/v1/workflows/" + url.PathEscape(id)).ok(200).object()
}

// workflows are the ids on the list.
func (r *rig) workflows(key string) []string {
	r.t.Helper()
	var all []map[string]any
	r.as(key, "GET", "/api/v1/workflows", nil).ok(200).json(&all)
	ids := make([]string, len(all))
	for i, w := range all {
		ids[i], _ = w["id"].(string)
	}
	return ids
}

func TestW01_AWorkflowWithoutIDGetsOne(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		id, _ := r.save("name", "Nightly").ok(201).object()["id"].(string)
		if w := r.workflow(id); len(id) != 36 || strings.Count(id, "-") != 4 || w["id"] != id || w["name"] != "Nightly" {
			t.Errorf("%q is %v", id, w)
		}
	})
}

func TestW02_W07_WhatARequestLeavesEmptyStays(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("etl.nightly", "team_id", "data", "name", "Nightly", "description", "d", "version", "3", "timeout_sec", 600, "created_by", "maya",
			"config", pairs("a", 1), "input_schema", pairs("type", "object"), "parameters", []any{pairs("name", "p")}, "steps", pairs("a", pairs("name", "A")))
		before := r.workflow("etl.nightly")
		time.Sleep(time.Minute)
		r.saved("etl.nightly", "steps", pairs("b", pairs("name", "B")), "config", nil)
		after := r.workflow("etl.nightly")
		steps, _ := after["steps"].(map[string]any)
		if after["updated_at"] == before["updated_at"] || len(steps) != 1 || steps["b"] == nil {
			t.Errorf("saved again: %v", after)
		}
		for name, want := range before {
			if name != "steps" && name != "updated_at" && fmt.Sprint(after[name]) != fmt.Sprint(want) {
				t.Errorf("%s is %v, was %v", name, after[name], want)
			}
		}
		r.saved("etl.nightly", "name", "Renamed", "config", pairs(), "parameters", []any{})
		if w := r.workflow("etl.nightly"); w["name"] != "Renamed" || w["config"] != nil || w["parameters"] != nil || w["input_schema"] == nil {
			t.Errorf("what is said replaces: %v", w)
		}
	})
}

func TestW03_StepsThatAreNotSaidStay(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		steps := func() string { return fmt.Sprint(r.workflow("w")["steps"]) }
		r.saved("w")
		if got := steps(); got != "map[]" {
			t.Errorf("a new one without steps has %s", got)
		}
		r.saved("w", "steps", pairs("a", pairs("name", "A")))
		before := steps()
		r.saved("w", "name", "n")
		r.saved("w", "steps", nil)
		if got := steps(); got != before || !strings.Contains(got, "name:A") {
			t.Errorf("steps %s, were %s", got, before)
		}
		r.saved("w", "steps", pairs())
		if got := steps(); got != "map[]" {
			t.Errorf("{} leaves %s", got)
		}
	})
}

func TestW04_TheKeyOfAStepIsItsID(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "steps", pairs("a", pairs("id", "b")))
		if steps := fmt.Sprint(r.workflow("w")["steps"]); steps != "map[a:map[id:a name: type:]]" {
			t.Errorf("steps %s", steps)
		}
	})
}

func TestW05_AForeignTenantInABodyIs403(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.save("id", "w", "org_id", "other").refused(403, "tenant access denied")
		r.as("k-cross", "POST", "/api/v1/workflows", pairs("id", "w", "org_id", "other")).refused(403, "tenant access denied")
		r.get("/api/v1/workflows?org_id=other").refused(403, "tenant access denied")
		r.get("/api/v1/workflows?org_id=default").ok(200)
		r.as("k-cross", "POST", "/api/v1/workflows", pairs("id", "w", "org_id", "other"), "X-Tenant-ID", "other").ok(201)
		if got := r.workflows("k-other"); !slices.Equal(got, []string{"w"}) {
			t.Errorf("the other tenant has %v", got)
		}
	})
}

func TestW06_IDsAreOfATenant(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "name", "ours")
		r.as("k-other", "POST", "/api/v1/workflows", pairs("id", "w", "name", "theirs")).ok(201)
		theirs := r.as("k-other", "GET", "/api/v1/workflows/w", nil).ok(200).object()
		if ours := r.workflow("w"); ours["name"] != "ours" || ours["org_id"] != "default" || theirs["name"] != "theirs" || theirs["org_id"] != "other" {
			t.Errorf("ours %v, theirs %v", ours, theirs)
		}
		r.as("k-other", "DELETE", "/api/v1/workflows/w", nil).ok(204)
		r.as("k-other", "GET", "/api/v1/workflows/w", nil).refused(404, "not found")
		r.workflow("w")
	})
}

func TestW08_TheListIsBareAndNewestFirst(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		if got := r.get("/api/v1/workflows").ok(200).Body; got != "[]" {
			t.Errorf("nothing is %s", got)
		}
		for i := range 102 {
			r.saved(fmt.Sprintf("w%03d", i))
		}
		r.saved("w000")
		r.as("k-admin", "DELETE", "/api/v1/workflows/w050", nil).ok(204)
		got := r.workflows("k-viewer")
		want := []string{"w000"}
		for i := 101; len(want) < 100; i-- {
			if i != 50 {
				want = append(want, fmt.Sprintf("w%03d", i))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d workflows: %v", len(got), got)
		}
		if others := r.workflows("k-other"); len(others) != 0 {
			t.Errorf("another tenant lists %v", others)
		}
	})
}

func TestW09_AnUnknownWorkflowIs404(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w")
		for _, key := range []string{"k-other", "k-admin"} {
			for _, id := range []string{"w", "none", "a%20b", strings.Repeat("x", 3000)} {
				if key == "k-admin" && id == "w" {
					continue
				}
				r.as(key, "GET", "/api/v1/workflows/"+id, nil).refused(404, "not found")
				r.as(key, "DELETE", "/api/v1/workflows/"+id, nil).refused(404, "not found")
			}
		}
		for _, key := range []string{"k-operator", "k-user", "k-viewer"} {
			r.as(key, "GET", "/api/v1/workflows/w", nil).ok(200)
			r.as(key, "DELETE", "/api/v1/workflows/w", nil).refused(403, "access denied")
			r.as(key, "POST", "/api/v1/workflows", pairs("id", "w")).refused(403, "access denied")
		}
	})
}

func TestW10_WhatCouldNotRunIsRefusedAllAtOnce(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		got := r.save("id", "w", "name", strings.Repeat("n", 257), "timeout_sec", 604801, "steps", pairs(
			"a", pairs("depends_on", []string{"b"}), "b", pairs("depends_on", []string{"a"}), "c", pairs("depends_on", []string{"d"}), "e.f", pairs(),
			"g", pairs("on_error", "h", "input_schema", pairs("type", 7), "retry", pairs("max_retries", -1)),
		)).ok(400).object()
		var seen []string
		problems, _ := got["problems"].([]any)
		for _, p := range problems {
			m, _ := p.(map[string]any)
			seen = append(seen, fmt.Sprintf("%v.%v", m["step"], m["field"]))
		}
		want := []string{".name", ".timeout_sec", "a.depends_on", "c.depends_on", "e.f.id", "g.input_schema", "g.on_error", "g.retry.max_retries"}
		text, _ := got["error"].(string)
		if !slices.Equal(seen, want) || !strings.Contains(text, "a → b → a") || !strings.Contains(text, `step "c": depends_on: there is no step "d"`) {
			t.Errorf("problems %v, %s", seen, text)
		}
		r.get("/api/v1/workflows/w").refused(404, "not found")

		r.saved("w", "steps", pairs("a", pairs()))
		r.save("id", "w", "steps", pairs("a", pairs("depends_on", []string{"b"}))).refused(400, `invalid workflow: step "a": depends_on: there is no step "b"`)
		r.save("id", "w", "steps", pairs("a", pairs("on_error", "b"), "b", pairs("on_error", "a"))).
			refused(400, `invalid workflow: step "a": on_error: the step never begins, since nothing else leads to it: a → b → a`)
		if w := r.workflow("w"); fmt.Sprint(w["steps"]) != "map[a:map[id:a name: type:]]" {
			t.Errorf("what was refused has changed it: %v", w)
		}
		for _, id := range []string{"a b", ".a", "a/b", strings.Repeat("x", 129), strings.Repeat("x", 3000)} {
			if got := r.save("id", id).ok(400).object(); !strings.HasPrefix(fmt.Sprint(got["error"]), "invalid workflow: id: ") {
				t.Errorf("%.20s: %v", id, got)
			}
		}
	})
}

func TestABodyThatIsNoWorkflowIs400(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		for _, body := range []string{"", "[]", `"w"`, `{"id":7}`, `{"steps":[]}`, `{"steps":{"a":7}}`, `{"steps":{"a":{"input":[1]}}}`, `{"timeout_sec":"soon"}`} {
			r.as("k-admin", "POST", "/api/v1/workflows", body).refused(400, "invalid json")
		}
		r.saved("w", "policy_override", "", "apiVersion", "v1", "kind", pairs("x", 1))
	})
}

// everything is a step with all its members.
const everything = `{"id":"all","name":"A","type":"worker","worker_id":"w","topic":"job.etl.load","depends_on":["gate"],"condition":"input.x > 1.50",` +
	`"for_each":"input.files","max_parallel":2,"input":{"big":12345678901234567890,"f":1.50,"t":"${item}","z":null},"input_schema":{"type":"object"},` +
	`"input_schema_id":"in","output_path":"a.b","result_data_path":"c.d","output_schema":{"type":"array"},"output_schema_id":"out",` +
	`"meta":{"actor_id":"a","actor_type":"service","idempotency_key":"k","pack_id":"p","capability":"c","risk_tags":["r"],"requires":["q"],"labels":{"l":"v"}},` +
	`"on_error":"oops","retry":{"max_retries":1,"initial_backoff_sec":2,"max_backoff_sec":3,"multiplier":1.5},"timeout_sec":4,"delay_sec":5,` +
	`"delay_until":"2026-02-10T08:00:00Z","route_labels":{"zone":"${input.zone}"},"policy_gate":"deny"}`

func TestAWorkflowIsShownAsItWasSaved(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		const config = `{"deep":{"list":[1,2.0,"x"]}}`
		r.as("k-admin", "POST", "/api/v1/workflows", `{"id":"etl.nightly","config":`+config+`,"steps":{"all":`+everything+`,"gate":{"type":"approval"},"oops":{}}}`).ok(201)
		const at = `"2026-11-23T12:00:00.000`
		got := r.get("/api/v1/workflows/etl.nightly").ok(200).Body
		head, times, _ := strings.Cut(got, `"created_at":`)
		want := `{"id":"etl.nightly","org_id":"default","team_id":"","name":"","description":"","version":"","timeout_sec":0,"steps":{"all":` + everything +
			`,"gate":{"id":"gate","name":"","type":"approval"},"oops":{"id":"oops","name":"","type":""}},"config":` + config + `,"created_by":"",`
		if head != want || strings.Count(times, "2026-11-23T12:00:00") != 2 {
			t.Errorf("got\n%s\nwant\n%s%s", got, want, at)
		}
		if list := r.get("/api/v1/workflows").ok(200).Body; list != "["+got+"]" {
			t.Errorf("on the list it is\n%s", list)
		}
	})
}

// Definitions of any size that is allowed are kept whole; a list ends before it is more than a function may answer.
func TestLargeWorkflows(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		sized := func(n int) map[string]any {
			return pairs("a", pairs("input", pairs("text", strings.Repeat(`"<`, n/2))))
		}
		for i, n := range []int{30 << 10, 40 << 10, 120 << 10} {
			id := fmt.Sprintf("w%d", i)
			r.saved(id, "steps", sized(n))
			if got := fmt.Sprint(r.workflow(id)["steps"]); got != fmt.Sprintf("map[a:%v]", pairs("id", "a", "name", "", "type", "", "input", sized(n)["a"].(map[string]any)["input"])) {
				t.Errorf("%d: %d bytes of steps", n, len(got))
			}
			r.saved(id, "name", "again") // from the one place to the other and back
			r.saved(id, "steps", pairs())
		}
		for i := range 9 {
			r.saved(fmt.Sprintf("big%d", i), "steps", pairs("a", pairs("input", pairs("text", strings.Repeat("x", 400_000)))))
		}
		if got := r.workflows("k-admin"); !slices.Equal(got, []string{"big8", "big7", "big6", "big5", "big4"}) {
			t.Errorf("on the list are %v", got)
		}
		got := r.save("id", "huge", "steps", pairs("a", pairs("input", pairs("text", strings.Repeat("x", 1<<20)))))
		got.refused(400, "invalid workflow: larger than 1048576 bytes")
		r.save("id", "huge", "name", strings.Repeat("x", 2<<20)).refused(413, "request body too large")
	})
}

// Workflows that are saved at once are one of them, whole, and what each leaves empty is what another said.
func TestSavesAtOnceDoNotMix(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		const writers = 8
		r.saved("w", "description", "kept")
		var all sync.WaitGroup
		for i := range writers {
			all.Go(func() {
				name := fmt.Sprint("n", i)
				r.saved("w", "name", name, "version", name, "steps", pairs(name, pairs("name", name)), "config", pairs(name, i))
			})
			all.Go(func() { r.saved("w", "team_id", fmt.Sprint("t", i)) })
		}
		all.Wait()
		w := r.workflow("w")
		name, _ := w["name"].(string)
		steps, _ := w["steps"].(map[string]any)
		config, _ := w["config"].(map[string]any)
		if w["version"] != name || steps[name] == nil || len(steps) != 1 || config[name] == nil || len(config) != 1 || w["description"] != "kept" || w["team_id"] == "" {
			t.Errorf("mixed: %v", w)
		}
		before := ""
		entries := r.entries("default")
		for _, e := range slices.Backward(entries) { // each begins where the one before ended
			if e.Action != "create" || e.ResourceType != "workflow" || e.ResourceID != "w" || e.Before != before || e.After == "" {
				t.Errorf("entry %+v, before it was %q", e, before)
			}
			before = e.After
		}
		if len(entries) != 1+2*writers {
			t.Errorf("%d entries", len(entries))
		}
	})
}
