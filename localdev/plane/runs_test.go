package plane_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/sdk/worker"
	docs "github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/workflow/inbox"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// start begins a run of a workflow and answers its id.
func (r *rig) start(workflow string, input any, headers ...string) string {
	r.t.Helper()
	a := r.as("k-admin", "POST", "/api/v1/workflows/"+workflow+"/runs", input, headers...).ok(200)
	id, _ := a.object()["run_id"].(string)
	if id == "" || a.Header.Get("X-Trace-Id") != id {
		r.t.Fatalf("started: %s, trace %q", a.Body, a.Header.Get("X-Trace-Id"))
	}
	return id
}

func runPath(id string) string { return "/api/v1/workflow-runs/" + url.PathEscape(id) }

func (r *rig) run(id string) map[string]any {
	r.t.Helper()
	return r.get(runPath(id)).ok(200).object()
}

// awaitRun waits until a run has a status, for two hours at most.
func (r *rig) awaitRun(id, status string) map[string]any {
	r.t.Helper()
	var run map[string]any
	for wait := 10 * time.Millisecond; wait < 2*time.Hour; wait *= 2 {
		if run = r.run(id); run["status"] == status {
			return run
		}
		time.Sleep(wait)
	}
	text, _ := json.Marshal(run)
	r.t.Fatalf("run is %v, want %s: %s\n%s", run["status"], status, text, strings.Join(r.history(id), "\n"))
	return nil
}

// step is a step of a run.
func stepOf(run map[string]any, id string) map[string]any {
	steps, _ := run["steps"].(map[string]any)
	s, _ := steps[id].(map[string]any)
	return s
}

// leftOf is what is stored in a partition.
func (r *rig) leftOf(partition string) []string {
	r.t.Helper()
	page, err := r.plane.Dispatcher.Jobs.Table.Query(r.t.Context(), store.Query{PK: partition})
	if err != nil {
		r.t.Fatal(err)
	}
	var keys []string
	for _, it := range page.Items {
		keys = append(keys, it.SK)
	}
	return keys
}

type happening struct {
	Type      string          `json:"type"`
	StepID    string          `json:"step_id"`
	JobID     string          `json:"job_id"`
	Status    string          `json:"status"`
	ResultPtr string          `json:"result_ptr"`
	Message   string          `json:"message"`
	Data      json.RawMessage `json:"data"`
}

// history is the timeline of a run, one line an event.
func (r *rig) history(id string, query ...string) []string {
	r.t.Helper()
	var all []happening
	r.get(runPath(id) + "/timeline?limit=500&" + strings.Join(query, "&")).ok(200).json(&all)
	lines := make([]string, len(all))
	for i, e := range all {
		words := []string{e.Type}
		for _, w := range []string{e.StepID, e.Status} {
			if w != "" {
				words = append(words, w)
			}
		}
		if _, attempt, ok := strings.Cut(e.JobID, "@"); ok {
			words = append(words, "@"+attempt)
		}
		if e.Message != "" {
			words = append(words, fmt.Sprintf("%q", e.Message))
		}
		lines[i] = strings.Join(words, " ")
	}
	return lines
}

// tells compares the history of a run.
func (r *rig) tells(id, want string) {
	r.t.Helper()
	got := strings.Join(r.history(id), "\n")
	var lines []string
	for line := range strings.Lines(want) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	if want = strings.Join(lines, "\n"); got != want {
		r.t.Errorf("history:\n%s\nwant:\n%s", got, want)
	}
}

// answering answers every job with a value.
func answering(v any) worker.Handler {
	return func(context.Context, *worker.Job) (any, error) { return v, nil }
}

// echo answers what it was asked.
func echo(ctx context.Context, j *worker.Job) (any, error) {
	var input any
	err := j.DecodeContext(ctx, &input)
	return input, err
}

// failingJob fails as often as it says, and then succeeds.
func failingJob(times int) worker.Handler {
	var mu sync.Mutex
	return func(context.Context, *worker.Job) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		if times--; times >= 0 {
			return nil, errors.New("not today")
		}
		return "done", nil
	}
}

// labourers takes all topics of these tests.
func (r *rig) labourers() {
	r.work(map[string]worker.Handler{
		"job.test.a": answering(map[string]any{"v": 1}), "job.test.b": echo, "job.test.fail": failingJob(1 << 20), "job.test.once-failing": failingJob(1),
		"job.default": echo, "job.test.*": echo,
	}, func(c *worker.Config) { c.MaxParallel = 64 })
}

func stepJob(topic string, fields ...any) map[string]any {
	return pairs(append(fields, "topic", topic)...)
}

func deps(steps ...string) []string { return steps }

func TestR01_ARunStartsWithAnEmptyBody(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "steps", pairs("a", stepJob("job.test.a")))
		for _, body := range []any{nil, pairs()} {
			run := r.run(r.start("w", body))
			if text, _ := json.Marshal(run["input"]); string(text) != "{}" || run["workflow_id"] != "w" || run["org_id"] != "default" || run["context"] != nil {
				t.Errorf("%v", run)
			}
		}
		for _, wrong := range []string{"[]", `"x"`, "7"} {
			r.as("k-admin", "POST", "/api/v1/workflows/w/runs", json.RawMessage(wrong)).refused(400, "invalid json")
		}
		r.post("/api/v1/workflows/none/runs", nil).refused(404, "workflow not found")
		r.as("k-viewer", "POST", "/api/v1/workflows/w/runs", nil).ok(403)
	})
}

func TestR02_AnInputThatViolatesItsSchemaStartsNothing(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "steps", pairs("a", stepJob("job.test.a")), "input_schema", pairs("type", "object", "required", deps("x")))
		r.as("k-admin", "POST", "/api/v1/workflows/w/runs", pairs(), "Idempotency-Key", "k").refused(400, "input schema validation failed: '' does not validate with #/required: missing properties: 'x'")
		r.post("/api/v1/workflows/w/runs", pairs("x", 1, "memory_id", 7)).refused(400, "memory_id must be a string")
		r.post("/api/v1/workflows/w/runs", pairs("x", 1, "memory_id", "a b")).refused(400, "invalid memory id")
		if n := len(r.get("/api/v1/workflow-runs").ok(200).object()["items"].([]any)); n != 0 {
			t.Errorf("%d runs", n)
		}
		r.start("w", pairs("x", 1), "Idempotency-Key", "k") // the key is free
	})
}

func TestR03_R04_AKeyStartsOneRun(t *testing.T) {
	cfg := config()
	cfg.Dir = t.TempDir()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		r.saved("w", "steps", pairs("a", stepJob("job.test.a")))
		first := r.start("w", pairs("n", 1), "Idempotency-Key", "k")
		for _, again := range []func() string{
			func() string { return r.start("w", pairs("n", 2), "Idempotency-Key", "k") },
			func() string { return r.start("w", nil, "X-Idempotency-Key", "k") },
			func() string { return r.start("w", nil, "Idempotency-Key", "k", "X-Idempotency-Key", "other") },
		} {
			if got := again(); got != first {
				t.Errorf("%s, first %s", got, first)
			}
		}
		for _, name := range []string{"idempotency_key", "idempotency-key"} {
			if got := r.post("/api/v1/workflows/w/runs?"+name+"=k", nil).ok(200).object()["run_id"]; got != first {
				t.Errorf("%s: %v", name, got)
			}
		}
		if n := len(r.jobs("")); n != 1 {
			t.Errorf("%d jobs", n)
		}
		if run := r.run(first); run["idempotency_key"] != "k" || fmt.Sprint(run["input"]) != "map[n:1]" {
			t.Errorf("%v", run)
		}
		r.hibernate(cfg, 8*24*time.Hour)
		if got := r.start("w", nil, "Idempotency-Key", "k"); got == first {
			t.Error("a key is eternal")
		}
	})
}

func TestManyAtOnceWithOneKeyStartOneRun(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "steps", pairs("a", stepJob("job.test.a")))
		ids := make([]string, 20)
		var all sync.WaitGroup
		for i := range ids {
			all.Go(func() { ids[i] = r.start("w", pairs("i", i), "Idempotency-Key", "k") })
		}
		all.Wait()
		if slices.Sort(ids); len(slices.Compact(ids)) != 1 || len(r.jobs("")) != 1 {
			t.Errorf("%v, %d jobs", ids, len(r.jobs("")))
		}
	})
}

func TestR05_R06_ARunThatWaitsCounts(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		r.document(docs.OrgScope, "default", `{"limits":{"max_concurrent_runs":1}}`)
		r.saved("w", "steps", pairs("g", pairs("type", "approval")))
		first := r.start("w", nil)
		if s := r.run(first)["status"]; s != "waiting" {
			t.Fatalf("run is %v", s)
		}
		full := r.as("k-admin", "POST", "/api/v1/workflows/w/runs", nil, "Idempotency-Key", "K")
		full.refused(429, "max concurrent workflow runs exceeded")
		if o := full.object(); o["current"] != 1.0 || o["limit"] != 1.0 {
			t.Errorf("%s", full.Body)
		}
		r.post(runPath(first)+"/rerun", nil).refused(429, "max concurrent workflow runs exceeded")
		r.saved("none")
		r.saved("brief", "steps", pairs("t", pairs("type", "transform")))
		for _, workflow := range []string{"none", "brief"} { // what ends at once begins as well
			at := "/api/v1/workflows/" + workflow + "/runs"
			full := r.as("k-admin", "POST", at, nil, "Idempotency-Key", workflow)
			full.refused(429, "max concurrent workflow runs exceeded")
			if o := full.object(); o["current"] != 1.0 || o["limit"] != 1.0 || r.get(at).ok(200).Body != "[]" {
				t.Errorf("%s", full.Body)
			}
		}
		r.post("/api/v1/workflows/w/runs/"+first+"/steps/g/approve", pairs("approved", true)).ok(204)
		r.awaitRun(first, "succeeded")
		for _, workflow := range []string{"none", "brief", "none"} {
			r.awaitRun(r.start(workflow, nil), "succeeded")
		}
		second := r.start("w", nil, "Idempotency-Key", "K")
		if r.run(second)["status"] != "waiting" || second == first {
			t.Error("the key stands for nothing")
		}
		r.as("k-admin", "DELETE", runPath(second), nil).ok(204)
		r.start("w", nil)
	})
}

func TestR07_WhereTheLimitStands(t *testing.T) {
	for name, c := range map[string]struct {
		data  string
		limit int
	}{
		"rate limits alone": {`{"rate_limits":{"concurrent_workflows":2}}`, 2}, "a text": {`{"rate_limits":{"concurrent_workflows":"2"}}`, 2},
		"limits win": {`{"limits":{"max_concurrent_runs":1},"rate_limits":{"concurrent_workflows":3}}`, 1}, "an invalid one beside a valid one": {`{"limits":{"max_concurrent_runs":"many"},"rate_limits":{"concurrent_workflows":2}}`, 2},
		"no number": {`{"limits":{"max_concurrent_runs":"many"}}`, 0},
		"zero":      {`{"limits":{"max_concurrent_runs":0}}`, 0}, "another shape": {`{"limits":7}`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, config(), func(t *testing.T, r *rig) {
				r.document(docs.OrgScope, "default", c.data)
				r.saved("w", "steps", pairs("g", pairs("type", "approval")))
				for range cmp.Or(c.limit, 4) {
					r.start("w", nil)
				}
				if got := r.post("/api/v1/workflows/w/runs", nil); c.limit > 0 != (got.Status == 429) {
					t.Errorf("%d %s", got.Status, got.Body)
				}
			})
		})
	}
}

func TestR08_R10_DryRunsAndEmptyOnes(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		r.saved("none")
		if run := r.run(r.start("none", nil)); run["status"] != "succeeded" {
			t.Errorf("%v", run)
		}
		r.saved("w", "steps", pairs("a", stepJob("job.test.a")))
		id := r.post("/api/v1/workflows/w/runs?dry_run=yes", nil).ok(200).object()["run_id"].(string)
		run := r.awaitRun(id, "succeeded")
		if fmt.Sprint(run["dry_run"], run["labels"], run["metadata"]) != "true map[dry_run:true] map[dry_run:true]" {
			t.Errorf("%v", run)
		}
		j := r.job(id + ":a@1")
		if labels := j["labels"].(map[string]any); labels["dry_run"] != "true" || labels["workflow_id"] != "w" || labels["run_id"] != id || labels["step_id"] != "a" {
			t.Errorf("%v", j)
		}
	})
}

func TestR12_R13_TenantsHaveTheirOwnKeysAndRuns(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "steps", pairs("g", pairs("type", "approval")))
		r.as("k-other", "POST", "/api/v1/workflows", pairs("id", "w", "steps", pairs("g", pairs("type", "approval")))).ok(201)
		mine := r.start("w", nil, "Idempotency-Key", "k")
		other := r.as("k-other", "POST", "/api/v1/workflows/w/runs", nil, "Idempotency-Key", "k").ok(200).object()["run_id"].(string)
		if mine == other {
			t.Fatal("two tenants share a key")
		}
		r.post("/api/v1/workflows/w/runs?org_id=other", nil).refused(403, "tenant access denied")
		for _, c := range []struct{ method, path string }{
			{"GET", ""}, {"GET", "/timeline"}, {"GET", "/chat"}, {"POST", "/chat"}, {"POST", "/rerun"}, {"DELETE", ""},
			{"POST", "cancel"}, {"POST", "approve"},
		} {
			at := func(id string) string {
				switch c.path {
				case "cancel":
					return "/api/v1/workflows/w/runs/" + id + "/cancel"
				case "approve":
					return "/api/v1/workflows/w/runs/" + id + "/steps/g/approve"
				}
				return runPath(id) + c.path
			}
			body := pairs("content", "hello", "approved", true)
			foreign, unknown := r.as("k-admin", c.method, at(other), body), r.as("k-admin", c.method, at("no-such-run"), body)
			if foreign.Status != 404 || foreign.Body != unknown.Body || unknown.Status != 404 {
				t.Errorf("%s %s: foreign %d %s, unknown %d %s", c.method, c.path, foreign.Status, foreign.Body, unknown.Status, unknown.Body)
			}
		}
		if text := r.get("/api/v1/workflow-runs").ok(200).Body + r.get("/api/v1/workflows/w/runs").ok(200).Body; strings.Contains(text, other) || !strings.Contains(text, mine) {
			t.Errorf("lists: %s", text)
		}
		if s := r.as("k-other", "GET", runPath(other), nil).ok(200).object()["status"]; s != "waiting" {
			t.Errorf("the other run is %v", s)
		}
	})
}

func TestW11_W12_WhatBecomesOfADefinition(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "steps", pairs("a", pairs("type", "frobnicate"), "b", stepJob("job.test.b", "type", "http", "depends_on", deps("a"))))
		id := r.start("w", nil)
		if j := r.job(id + ":a@1"); j["topic"] != "job.workflow.w" {
			t.Errorf("%v", j)
		}
		r.saved("gone", "steps", pairs("a", stepJob("job.test.a"), "b", stepJob("job.test.b", "depends_on", deps("a"))))
		r.saved("changed", "steps", pairs("a", stepJob("job.test.a"), "b", stepJob("job.test.b", "depends_on", deps("a"))))
		gone, changed := r.start("gone", nil), r.start("changed", nil)
		r.as("k-admin", "DELETE", "/api/v1/workflows/gone", nil).ok(204)
		r.saved("changed", "steps", pairs("z", stepJob("job.test.a")))
		r.labourers()
		if run := r.awaitRun(gone, "failed"); fmt.Sprint(run["error"]) != "map[message:workflow deleted]" {
			t.Errorf("%v", run)
		}
		if run := r.awaitRun(changed, "succeeded"); stepOf(run, "b") == nil || stepOf(run, "z") != nil {
			t.Errorf("a run keeps to what it began with: %v", run)
		}
		if runs := r.get("/api/v1/workflows/gone/runs").ok(200).Body; !strings.Contains(runs, gone) {
			t.Errorf("%s", runs)
		}
		r.get("/api/v1/workflows/none/runs").refused(404, "workflow not found")
	})
}

func TestC01_T072_ACancelEndsEverything(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "steps", pairs("a", stepJob("job.test.a"), "b", stepJob("job.test.b"), "c", stepJob("job.test.a", "depends_on", deps("a"))))
		id := r.start("w", nil)
		r.post("/api/v1/workflows/other/runs/"+id+"/cancel", nil).refused(404, "run not found")
		r.post("/api/v1/workflows/w/runs/"+id+"/cancel", nil).ok(204)
		run := r.run(id)
		for _, s := range []string{"a", "b", "c"} {
			if stepOf(run, s)["status"] != "cancelled" {
				t.Errorf("%s: %v", s, stepOf(run, s))
			}
		}
		for _, s := range []string{"a", "b"} {
			r.await(id+":"+s+"@1", "CANCELLED")
		}
		if n := len(r.jobs("")); run["status"] != "cancelled" || n != 2 {
			t.Errorf("%v, %d jobs", run["status"], n)
		}
		r.tells(id, `
			step_dispatched a running @1
			step_dispatched b running @1
			run_status running
			run_status cancelled "run cancelled"`)
	})
}

func TestC02_ACancelOfWhatHasEndedChangesNothing(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		r.saved("w", "steps", pairs("a", stepJob("job.test.a")))
		id := r.start("w", nil)
		before := r.awaitRun(id, "succeeded")
		r.post("/api/v1/workflows/w/runs/"+id+"/cancel", nil).ok(204)
		if now := r.run(id); now["status"] != "succeeded" || now["updated_at"] != before["updated_at"] {
			t.Errorf("%v", now)
		}
	})
}

func TestC03_C04_C05_RerunsBeginWhereTheyAreAsked(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		r.saved("w", "steps", pairs("one", stepJob("job.test.a", "output_path", "first"), "two", stepJob("job.test.fail", "depends_on", deps("one")),
			"three", stepJob("job.test.b", "depends_on", deps("two"), "input", pairs("v", "${steps.one.output.v}"))))
		id := r.start("w", pairs("k", "x"))
		r.awaitRun(id, "failed")
		r.post(runPath(id)+"/rerun", pairs("from_step", "three")).refused(400, "dependency two not succeeded")
		r.post(runPath(id)+"/rerun", pairs("from_step", "zzz")).refused(400, "step not found")
		r.saved("w", "steps", pairs("one", stepJob("job.test.a"), "two", stepJob("job.test.b", "depends_on", deps("one")),
			"three", stepJob("job.test.b", "depends_on", deps("two"), "input", pairs("v", "${steps.one.output.v}"))))
		again := r.post(runPath(id)+"/rerun", pairs("from_step", "two", "dry_run", true)).ok(200).object()["run_id"].(string)
		run := r.awaitRun(again, "succeeded")
		if run["rerun_of"] != id || run["rerun_step"] != "two" || fmt.Sprint(run["metadata"]) != "map[dry_run:true rerun_of:"+id+" rerun_step:two]" ||
			stepOf(run, "one")["job_id"] != id+":one@1" || fmt.Sprint(stepOf(run, "three")["input"]) != "map[v:1]" || run["dry_run"] != true {
			t.Errorf("%v", run)
		}
		if n := len(r.jobs("")); n != 4 {
			t.Errorf("%d jobs", n)
		}
		if c := run["context"].(map[string]any); fmt.Sprint(c["first"]) != "map[v:1]" {
			t.Errorf("context %v", c)
		}
	})
}

func TestC06_ADeletedRunIsGone(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.saved("w", "steps", pairs("a", stepJob("job.test.a")))
		id := r.start("w", pairs("large", strings.Repeat("x", 100_000)))
		r.as("k-admin", "DELETE", runPath(id), nil).ok(204)
		r.get(runPath(id)).refused(404, "not found")
		r.get(runPath(id)+"/timeline").refused(404, "run not found")
		r.as("k-admin", "DELETE", runPath(id), nil).refused(404, "not found")
		if items := r.get("/api/v1/workflow-runs").ok(200).object()["items"].([]any); len(items) != 0 {
			t.Errorf("%v", items)
		}
		r.await(id+":a@1", "CANCELLED")
		time.Sleep(5 * time.Minute)
		if left := r.leftOf("R#" + id); len(left) != 0 {
			t.Errorf("left of the run: %v", left)
		}
	})
}

func TestARunIsKeptForAMonth(t *testing.T) {
	cfg := config()
	cfg.Dir = t.TempDir()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		r.saved("none")
		id := r.start("none", nil)
		r.hibernate(cfg, 29*24*time.Hour)
		r.run(id)
		r.hibernate(cfg, 2*24*time.Hour)
		time.Sleep(5 * time.Minute)
		r.get(runPath(id)).refused(404, "not found")
		if left := r.leftOf("R#" + id); len(left) != 0 {
			t.Errorf("left of the run: %v", left)
		}
	})
}

func TestC07_C08_C09_C11_ListsOfRuns(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		r.saved("good")
		r.saved("bad", "steps", pairs("c", pairs("type", "condition")))
		var all []string
		for i := range 60 {
			all = append(all, r.start([]string{"good", "bad"}[i%2], nil))
			if i%3 == 0 {
				time.Sleep(7 * time.Second)
			}
		}
		page := r.get("/api/v1/workflow-runs?status=failed&limit=20").ok(200).object()
		if items := page["items"].([]any); len(items) != 20 || page["next_cursor"] == nil {
			t.Errorf("%d items, cursor %v", len(items), page["next_cursor"])
		}
		for _, limit := range []int{1, 7, 60, 500} {
			var seen []string
			for cursor := ""; ; {
				p := r.get(fmt.Sprintf("/api/v1/workflow-runs?limit=%d&cursor=%s", limit, cursor)).ok(200).object()
				for _, it := range p["items"].([]any) {
					seen = append(seen, it.(map[string]any)["id"].(string))
				}
				if p["next_cursor"] == nil {
					break
				}
				cursor = fmt.Sprintf("%.0f", p["next_cursor"])
			}
			want := slices.Clone(all)
			if slices.Reverse(want); !slices.Equal(seen, want) {
				t.Errorf("limit %d: %d runs, want %d", limit, len(seen), len(want))
			}
		}
		of := func(query string) int {
			return len(r.get("/api/v1/workflow-runs?limit=500&" + query).ok(200).object()["items"].([]any))
		}
		at := time.Now().Add(-30 * time.Second)
		in := []int{of(fmt.Sprint("updated_after=", at.Unix())), of(fmt.Sprint("updated_after=", at.UnixMilli())), of(fmt.Sprint("updated_after=", at.UnixMicro()))}
		if in[0] != in[1] || in[1] != in[2] || in[0] == 0 || in[0] == 60 {
			t.Errorf("updated_after in s, ms, µs: %v", in)
		}
		out := []int{of(fmt.Sprint("updated_before=", at.Unix())), of(fmt.Sprint("updated_before=", at.UnixMicro()))}
		if out[0] != 60-in[0] || out[1] != 60-in[0] {
			t.Errorf("updated_before: %v, after %v", out, in)
		}
		if n := of("workflow_id=bad"); n != 30 {
			t.Errorf("%d runs of bad", n)
		}
		if n := of("team_id=none") + of("status=running"); n != 0 {
			t.Errorf("%d", n)
		}
		r.get("/api/v1/workflow-runs?org_id=other").refused(403, "tenant access denied")
	})
}

// A step whose job finds the tenant's queue full is tried again after two seconds, and then after times that double up to half a minute.
func TestStepsWaitForAPlaceInTheQueue(t *testing.T) {
	cfg := config()
	cfg.Sweep = time.Minute
	cfg.Settings = map[string]json.RawMessage{"limits": json.RawMessage(`{"max_concurrent_jobs":1}`)}
	virtually(t, cfg, func(t *testing.T, r *rig) {
		const each = time.Second
		r.work(map[string]worker.Handler{
			"job.test.a": func(context.Context, *worker.Job) (any, error) { time.Sleep(each); return 1, nil },
			"job.test.b": func(ctx context.Context, _ *worker.Job) (any, error) { <-ctx.Done(); return nil, ctx.Err() },
		}, func(c *worker.Config) { c.MaxParallel = 4 })
		r.saved("w", "steps", pairs("a", stepJob("job.test.a"), "b", stepJob("job.test.a"), "c", stepJob("job.test.a"), "d", stepJob("job.test.a")))
		began := time.Now()
		id := r.start("w", nil)
		for r.run(id)["status"] != "succeeded" && time.Since(began) < time.Hour {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took < 4*each || took > 20*time.Second {
			t.Errorf("four jobs of %s, one after the other, took %s", each, took)
		}

		// The place is taken by somebody else's job, for longer than anybody should ask every two seconds.
		other := r.submit("topic", "job.test.b")
		id = r.start("w", nil)
		before := r.version(id)
		time.Sleep(10 * time.Minute)
		if n := r.version(id) - before; n > 60 {
			t.Errorf("the run was written %d times in ten minutes", n)
		}
		r.post("/api/v1/jobs/"+other.JobID+"/cancel", nil).ok(200)
		time.Sleep(2 * time.Minute)
		if run := r.run(id); run["status"] != "succeeded" {
			t.Errorf("%v", run)
		}
	})
}

// version is how often a run was committed.
func (r *rig) version(id string) int64 {
	r.t.Helper()
	it, err := r.plane.Dispatcher.Jobs.Table.Get(r.t.Context(), inbox.Header(id))
	if err != nil {
		r.t.Fatal(err)
	}
	return it.Attrs.Int("v")
}

// A list reads headers: what it says of a step is how that stands, and what only the record of the step knows it does not make up.
func TestListsOfRunsSayOfAStepItsStatus(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		r.saved("w", "steps", pairs("a", stepJob("job.test.a"), "d", pairs("type", "delay", "delay_sec", 60), "g", pairs("type", "approval", "timeout_sec", 90),
			"z", stepJob("job.test.a", "depends_on", deps("g"))))
		id := r.start("w", nil)
		r.awaitRun(id, "timed_out")
		if a := stepOf(r.run(id), "a"); a["completed_at"] == nil || a["completed_at"] == r.run(id)["completed_at"] {
			t.Errorf("%v", a)
		}
		want := fmt.Sprint(pairs("a", "succeeded", "d", "succeeded", "g", "timed_out", "z", "skipped"))
		for _, path := range []string{"/api/v1/workflow-runs?workflow_id=w&limit=1", "/api/v1/workflows/w/runs"} {
			var runs []map[string]any
			if body := r.get(path).ok(200).Body; strings.HasPrefix(body, "[") {
				r.get(path).json(&runs)
			} else {
				var page struct{ Items []map[string]any }
				r.get(path).json(&page)
				runs = page.Items
			}
			got := map[string]any{}
			for step, shown := range runs[0]["steps"].(map[string]any) {
				s := shown.(map[string]any)
				got[step] = s["status"]
				if len(s) != 2 || s["step_id"] != step {
					t.Errorf("%s: %v", path, s)
				}
			}
			if fmt.Sprint(got) != want {
				t.Errorf("%s: %v, want %v", path, got, want)
			}
		}
	})
}

func TestC10_ATimelineBeginsWithTheOldest(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.labourers()
		r.saved("w", "steps", pairs("a", stepJob("job.test.a"), "b", stepJob("job.test.b", "depends_on", deps("a"))))
		id := r.start("w", nil)
		r.awaitRun(id, "succeeded")
		var two []happening
		r.get(runPath(id) + "/timeline?limit=2").ok(200).json(&two)
		if len(two) != 2 || two[0].Type != "step_dispatched" || two[1].Type != "run_status" {
			t.Errorf("%v", two)
		}
		r.get(runPath("none")+"/timeline").refused(404, "run not found")
	})
}
