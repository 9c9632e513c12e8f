package plane_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Golden data is what a release left in table, bucket and queues, and what it answered about it. Every later release reads it: an upgrade
// breaks no stored data. Make the file of a new release with
//
//	go test ./localdev/plane -run TestGolden -golden testdata/golden/<release>.json
//
// and never change that of an earlier one.
var goldenOut = flag.String("golden", "", "write golden data of this release to a new file")

type goldenData struct {
	// At is when it was left.
	At      time.Time                  `json:"at"`
	Items   []goldenItem               `json:"items"`
	Objects []goldenObject             `json:"objects"`
	Queues  map[string][]string        `json:"queues"`
	Answers map[string]json.RawMessage `json:"answers"`
	// Jobs, Runs and Files are ids, and pointers, by what they stand for.
	Jobs  map[string]string `json:"jobs"`
	Runs  map[string]string `json:"runs,omitempty"`
	Files map[string]string `json:"files,omitempty"`
	// Credentials are secrets of nobody but this data, by what they open.
	Credentials map[string]string `json:"credentials,omitempty"`
}

type goldenItem struct {
	PK      string                     `json:"pk"`
	SK      string                     `json:"sk"`
	Index   map[store.Index]store.Key  `json:"index,omitempty"`
	Expires int64                      `json:"expires,omitempty"`
	Attrs   map[string]json.RawMessage `json:"attrs"`
}

type goldenObject struct {
	Key         string `json:"key"`
	ContentType string `json:"content_type"`
	Class       string `json:"class,omitempty"`
	Data        []byte `json:"data"`
}

// goldenTable and goldenBlobs remember what was written through them.
type goldenTable struct {
	store.Table

	mu   sync.Mutex
	keys map[store.Key]bool
}

func (p *goldenTable) wrote(ops ...store.Op) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, op := range ops {
		p.keys[op.Key] = true
	}
}

func (p *goldenTable) Write(ctx context.Context, ops ...store.Op) error {
	p.wrote(ops...)
	return p.Table.Write(ctx, ops...)
}

func (p *goldenTable) Update(ctx context.Context, op store.Op) (store.Item, error) {
	p.wrote(op)
	return p.Table.Update(ctx, op)
}

type goldenBlobs struct {
	blob.Store

	mu   sync.Mutex
	keys map[string]bool
}

func (p *goldenBlobs) Put(ctx context.Context, key string, data []byte, opts blob.PutOptions) error {
	p.mu.Lock()
	p.keys[key] = true
	p.mu.Unlock()
	return p.Store.Put(ctx, key, data, opts)
}

// goldenQueues are those whose messages an upgrade finds.
var goldenQueues = []string{resources.Pool("main"), resources.Pool("gpu")}

func TestGoldenDataOfThisRelease(t *testing.T) {
	table, blobs := &goldenTable{keys: map[store.Key]bool{}}, &goldenBlobs{keys: map[string]bool{}}
	cfg := config()
	cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
		table.Table, blobs.Store = p.Table, p.Blobs
		p.Table, p.Blobs = table, blobs
		return p
	}
	var g goldenData
	virtually(t, cfg, func(t *testing.T, r *rig) {
		g = goldenData{Queues: map[string][]string{}, Answers: map[string]json.RawMessage{}}
		g.Files = goldenPacks(r) // before anything is decided: a pack brings policy
		g.Jobs, g.Runs = goldenLife(r), goldenRuns(r)
		g.Credentials = goldenAccounts(r)
		g.At = time.Now()
		for _, key := range slices.SortedFunc(maps.Keys(table.keys), func(a, b store.Key) int { return strings.Compare(a.String(), b.String()) }) {
			if it, err := table.Get(t.Context(), key); err == nil {
				g.Items = append(g.Items, toGolden(t, it))
			}
		}
		for _, key := range slices.Sorted(maps.Keys(blobs.keys)) {
			data, o, err := blobs.Get(t.Context(), key, 0)
			if err != nil {
				t.Fatal(err)
			}
			g.Objects = append(g.Objects, goldenObject{key, o.ContentType, o.Class, data})
		}
		for _, path := range g.paths() {
			g.Answers[path] = json.RawMessage(r.get(path).ok(200).Body)
		}
		for _, name := range goldenQueues {
			msgs, err := r.plane.Dispatcher.Queues.Receive(t.Context(), name, queue.MaxBatch, 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range msgs {
				g.Queues[name] = append(g.Queues[name], m.Body)
			}
		}
	})
	if *goldenOut != "" {
		text, err := json.MarshalIndent(g, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(*goldenOut); err == nil {
			t.Fatalf("%s is there: golden data of a release never changes", *goldenOut)
		}
		if err := os.WriteFile(*goldenOut, append(text, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g.outlive(t)
}

// TestGoldenDataOfEarlierReleases: this release answers what the other one did, and carries its jobs to their ends.
func TestGoldenDataOfEarlierReleases(t *testing.T) {
	files, err := filepath.Glob("testdata/golden/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var g goldenData
			if err := json.Unmarshal(text, &g); err != nil {
				t.Fatal(err)
			}
			g.outlive(t)
		})
	}
}

// goldenLife leaves a job in every state that this release has, and answers their ids.
func goldenLife(r *rig) map[string]string {
	jobs := map[string]string{}
	large := strings.Repeat("payload ", 4200)
	stop := r.work(map[string]worker.Handler{
		"job.test.large": func(context.Context, *worker.Job) (any, error) { return map[string]string{"text": large}, nil },
		"job.test.fail": func(context.Context, *worker.Job) (any, error) {
			return nil, &worker.Error{Code: "BROKEN", Message: "it broke"}
		},
	}, func(c *worker.Config) { c.ID = "w-done" })
	jobs["succeeded"] = r.submit("topic", "job.test.large", "context", map[string]string{"text": large}, "labels", map[string]string{"team": "blue"}).JobID
	jobs["failed"] = r.submit("topic", "job.test.fail", "idempotency_key", "golden").JobID
	r.await(jobs["succeeded"], "SUCCEEDED")
	r.await(jobs["failed"], "FAILED")
	stop()
	jobs["denied"] = r.submit("topic", "job.test.wipe").JobID
	jobs["asked"] = r.submit("topic", "job.test.ask").JobID
	jobs["throttled"] = r.submit("topic", "job.test.slow").JobID
	jobs["cancelled"] = r.submit("topic", "job.test.gpu").JobID
	r.post("/api/v1/jobs/"+jobs["cancelled"]+"/cancel", nil).ok(200)
	jobs["targeted"] = r.submit("labels", map[string]string{"place.rack": "r7"}).JobID
	jobs["held"] = r.submit("priority", "critical", "parent_job_id", jobs["succeeded"]).JobID
	w := r.connect("k-worker", "w-held", "main", 1)
	w.job()
	r.await(jobs["held"], "DISPATCHED")
	jobs["waiting"] = r.submit("context", map[string]int{"n": 1}).JobID
	goldenGovernance(r, jobs)
	return jobs
}

// goldenGovernance leaves what people decide: bundles in force and as drafts, approvals, a remediation, a workflow.
func goldenGovernance(r *rig, jobs map[string]string) {
	bundle := func(topic string) map[string]any {
		return map[string]any{"content": "rules: [{id: " + topic + ", match: {topics: [job.golden." + topic + "]}, decision: deny, reason: golden}]", "author": "maya"}
	}
	r.as("k-ada", "PUT", "/api/v1/policy/bundles/secops~published", bundle("published")).ok(200)
	r.as("k-ada", "POST", "/api/v1/policy/publish", map[string]any{"note": "first"}).ok(200)
	r.as("k-ada", "PUT", "/api/v1/policy/bundles/secops~draft", bundle("draft")).ok(200)
	jobs["approved"] = r.submit("topic", "job.test.ask").JobID
	r.as("k-ada", "POST", "/api/v1/approvals/"+jobs["approved"]+"/approve", map[string]any{"reason": "golden", "note": "and why"}).ok(200)
	jobs["rejected"] = r.submit("topic", "job.test.ask").JobID
	r.as("k-ada", "POST", "/api/v1/approvals/"+jobs["rejected"]+"/reject", map[string]any{"reason": "not golden"}).ok(200)
	jobs["remedy"], _ = r.as("k-ada", "POST", "/api/v1/jobs/"+jobs["denied"]+"/remediate", nil).ok(200).object()["job_id"].(string)
	r.as("k-ada", "POST", "/api/v1/workflows", map[string]any{
		"id": "golden.flow", "name": "Golden", "steps": map[string]any{"a": map[string]any{"topic": "job.test.work", "input": map[string]any{"n": 12345678901234567}}},
	}).ok(201)
}

// goldenRuns leaves a run that waits for a human behind steps that are done, one that waits for the time, one that has ended, a chat and a schema.
func goldenRuns(r *rig) map[string]string {
	r.post("/api/v1/schemas", pairs("id", "golden/Any", "schema", pairs("type", "object"))).ok(204)
	r.saved("golden.run", "steps", pairs(
		"make", pairs("type", "transform", "input", pairs("text", "${input.text}", "n", 12345678901234567), "output_path", "made"),
		"gate", pairs("type", "approval", "name", "Go on?", "depends_on", deps("make")),
		"each", stepJob("job.test.work", "for_each", "input.of", "max_parallel", 1, "depends_on", deps("gate"), "input_schema_id", "golden/Any"),
		"nap", pairs("type", "delay", "delay_sec", 600, "depends_on", deps("each"))))
	runs := map[string]string{}
	input := pairs("text", strings.Repeat("payload ", 5000), "of", []int{1, 2})
	runs["gated"] = r.start("golden.run", input, "Idempotency-Key", "golden")
	runs["cancelled"] = r.start("golden.run", input)
	r.post("/api/v1/workflows/golden.run/runs/"+runs["cancelled"]+"/cancel", nil).ok(204)
	r.saved("golden.nap", "steps", pairs("nap", pairs("type", "delay", "delay_sec", 600)))
	runs["napping"] = r.start("golden.nap", nil)
	r.post(runPath(runs["gated"])+"/chat", pairs("content", "what next?")).ok(200)
	time.Sleep(time.Second)
	return runs
}

// runsGoOn takes the runs that waited to their ends.
func (g goldenData) runsGoOn(r *rig) {
	if g.Runs == nil {
		return // of a release that had none
	}
	if again := r.start("golden.run", nil, "Idempotency-Key", "golden"); again != g.Runs["gated"] {
		r.t.Errorf("a key that was used before the upgrade starts another run %s", again)
	}
	r.post("/api/v1/workflows/golden.run/runs/"+g.Runs["gated"]+"/steps/gate/approve", pairs("approved", true)).ok(204)
	r.awaitRun(g.Runs["gated"], "succeeded")
	r.awaitRun(g.Runs["napping"], "succeeded")
}

// goldenPacks leaves documents, packs, one of them taken away, files, of which it answers the pointers, a lock and a memory.
func goldenPacks(r *rig) map[string]string {
	r.change("system", "default", pairs("limits", pairs("max_concurrent_runs", 50))).ok(204)
	r.change("org", "default", pairs("budget", pairs("daily_limit_usd", 12345678901234567))).ok(204)
	r.post(configPath, pairs("scope", "team", "scope_id", "golden", "data", pairs("slo", pairs("critical", true)), "meta", pairs("by", "maya"))).ok(204)
	r.change("system", "pack_catalogs", pairs("catalogs", []any{pairs("id", "golden", "title", "Golden", "url", "https://packs.example.com/c.json", "enabled", false)})).ok(204)
	r.install(parcels(r.t).tgz()).ok(200)
	r.install(files{"pack.yaml": "metadata: { id: small, version: 1 }\ncompatibility: { protocolVersion: 1 }\n"}.tgz()).ok(200)
	r.uninstall("small", false).ok(200)
	r.post("/api/v1/policy/bundles/snapshots", pairs("note", "golden")).ok(200)
	r.acquire("golden", "maya", "mode", "shared", "ttl_ms", time.Hour.Milliseconds()).ok(200)
	c := r.contexts("k-worker-default")
	c.updated("golden", "hi", "ho")
	c.stored(knowledge("golden"))
	time.Sleep(time.Second)
	return map[string]string{
		"short":    r.keep("content", "żółw", "retention", "short", "labels", pairs("kind", "note")).Ptr,
		"standard": r.keep("content", strings.Repeat("golden ", 10_000), "content_type", "text/plain").Ptr,
	}
}

// packsGoOn upgrades what was installed, and takes it away; whoever held a lock holds it, and a memory goes on.
func (g goldenData) packsGoOn(r *rig) {
	if g.Files == nil {
		return // of a release that had none
	}
	r.verified("parcels")
	r.install(parcels(r.t).say("pack.yaml", "1.0.0", "99.0.0").tgz(), "upgrade", "true").ok(200)
	r.verified("parcels")
	r.uninstall("parcels", true).ok(200)
	r.nothingOf("parcels")
	if text := fmt.Sprint(r.data("system", "default")); strings.Contains(text, "parcels") {
		r.t.Errorf("left over: %s", text)
	}
	r.acquire("golden", "noah").refused(409, "lock unavailable")
	r.free("golden", r.release("golden", "maya"))
	c := r.contexts("k-worker-default")
	c.updated("golden", "and", "so")
	is(r.t, "a memory of an earlier release", c.window("golden", modeChat, `"?"`), "user: hi", "assistant: ho", "user: and", "assistant: so", `user: "?"`)
	r.change("team", "golden", pairs("slo", nil)).ok(204)
	if e := r.envelope("team", "golden"); e.Revision != 2 || e.Meta["by"] != "maya" {
		r.t.Errorf("%+v", e)
	}
}

// goldenAccounts leaves a user who has logged in, one who is disabled, a key of an administrator and a key that may read, and answers what opens what.
func goldenAccounts(r *rig) map[string]string {
	r.user("maya", "operator")
	r.as("k-admin", "DELETE", usersPath+"/"+r.user("noah", "viewer"), nil).ok(204)
	_, reads := r.key("reads", "jobs:read")
	_, all := r.key("all", "admin")
	r.as(reads, "GET", "/api/v1/jobs", nil).ok(200)
	opened := map[string]string{"user": r.login("maya", password), "reads": reads, "all": all}
	var s struct {
		Token string `json:"token"`
	}
	r.as("", "POST", loginPath, pairs("password", all)).ok(200).json(&s)
	opened["session of all"] = s.Token
	time.Sleep(time.Second)
	return opened
}

// accountsGoOn opens what was opened by the same, logs in with the same password, and ends it.
func (g goldenData) accountsGoOn(r *rig) {
	if g.Credentials == nil {
		return // of a release that had none
	}
	for what, credential := range g.Credentials {
		r.as(credential, "GET", "/api/v1/jobs", nil).ok(200)
		if what == "reads" {
			r.as(credential, "GET", usersPath, nil).refused(403, "forbidden")
		}
	}
	var me struct {
		User struct{ ID, Username string }
	}
	r.as(r.login("maya", password), "GET", session, nil).ok(200).json(&me)
	r.as("k-admin", "POST", loginPath, pairs("username", "noah", "password", password)).refused(403, "user is disabled")
	if me.User.Username != "maya" {
		r.t.Errorf("%+v", me)
	}
	r.as(g.Credentials["user"], "POST", "/api/v1/auth/logout", nil).ok(204)
	r.as("k-admin", "DELETE", usersPath+"/"+me.User.ID, nil).ok(204)
	time.Sleep(known)
	r.as(g.Credentials["user"], "GET", session, nil).refused(401, "unauthorized")
}

// paths are what is asked of it.
func (g goldenData) paths() []string {
	paths := []string{
		"/api/v1/jobs?limit=50", "/api/v1/jobs?state=FAILED", "/api/v1/dlq", "/api/v1/dlq/page", "/api/v1/workers", "/api/v1/approvals?include_resolved=true",
		"/api/v1/policy/bundles", "/api/v1/policy/bundles/secops~draft", "/api/v1/policy/bundles/snapshots", "/api/v1/policy/rules?include_disabled=true",
		"/api/v1/policy/snapshots", "/api/v1/policy/audit", "/api/v1/workflows", "/api/v1/workflows/golden.flow",
	}
	for _, what := range slices.Sorted(maps.Keys(g.Runs)) {
		paths = append(paths, runPath(g.Runs[what]), runPath(g.Runs[what])+"/timeline", runPath(g.Runs[what])+"/chat")
	}
	if g.Runs != nil {
		paths = append(paths, "/api/v1/workflow-runs", "/api/v1/workflows/golden.run/runs", "/api/v1/schemas", "/api/v1/schemas/golden/Any")
	}
	for _, what := range slices.Sorted(maps.Keys(g.Jobs)) {
		paths = append(paths, "/api/v1/jobs/"+g.Jobs[what], "/api/v1/jobs/"+g.Jobs[what]+"/decisions", "/api/v1/memory?ptr=redis://ctx:"+g.Jobs[what])
	}
	for _, what := range slices.Sorted(maps.Keys(g.Files)) {
		paths = append(paths, "/api/v1/artifacts/"+g.Files[what])
	}
	if g.Files != nil {
		paths = append(paths, "/api/v1/packs", "/api/v1/packs/parcels", "/api/v1/packs/small", "/api/v1/schemas/parcels/Weight", "/api/v1/workflows/parcels.ship",
			"/api/v1/config", "/api/v1/config/effective?team_id=golden", "/api/v1/marketplace/packs", "/api/v1/locks?resource=golden", "/api/v1/locks/list")
		for _, document := range []string{
			"system&scope_id=default", "system&scope_id=policy", "system&scope_id=packs", "system&scope_id=pack_catalogs", "system&scope_id=policy_snapshots",
			"system&scope_id=policy_audit", "org&scope_id=default", "team&scope_id=golden",
		} {
			paths = append(paths, "/api/v1/config?scope="+document)
		}
		for _, part := range []string{"events", "summary", "chunks", "chunk:0"} {
			paths = append(paths, "/api/v1/memory?key=mem:golden:"+part)
		}
	}
	if g.Credentials != nil {
		paths = append(paths, usersPath, keysPath, session)
	}
	return append(paths, "/api/v1/memory?ptr=redis://res:"+g.Jobs["succeeded"])
}

// notGolden are the reads of which golden data has no answer, and why.
var notGolden = map[string]string{
	"/api/v1/status":                        "it is of the moment",
	"/api/v1/auth/config":                   "it is not stored",
	"/api/v1/traces/{id}":                   "jobs, by another index",
	"/api/v1/policy/bundles/snapshots/{id}": "the document system/policy_snapshots has them whole",
	"/api/v1/worker/jobs/{job_id}/context":  "a worker's, of a job that it runs",
}

// Every route that reads has answers in the golden data of this release, or a reason why not.
func TestGoldenDataAsksEveryRouteThatReads(t *testing.T) {
	asked := goldenData{Jobs: map[string]string{"a": "x"}, Runs: map[string]string{"a": "x"}, Files: map[string]string{"a": "redis://art:x"}, Credentials: map[string]string{}}.paths()
	greedy, segment := regexp.MustCompile(`\\\{[a-z_]+=\\\*\\\*\\\}`), regexp.MustCompile(`\\\{[a-z_]+\\\}`)
	for _, route := range routes.All() {
		if route.Method != "GET" {
			continue
		}
		form := segment.ReplaceAllString(greedy.ReplaceAllString(regexp.QuoteMeta(route.Path), ".+"), "[^/]+")
		matches := regexp.MustCompile("^" + form + `(\?.*)?$`).MatchString
		switch is, why := slices.ContainsFunc(asked, matches), notGolden[route.Path]; {
		case !is && why == "":
			t.Errorf("no golden data of %s", route.Path)
		case is && why != "":
			t.Errorf("there is golden data of %s (%s)", route.Path, why)
		}
	}
}

// outlive opens a plane on the data, at the time at which it was left.
func (g goldenData) outlive(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(g.At))
		cfg := config()
		cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
			g.load(t, p)
			return p
		}
		r := open(t, cfg)
		for name, bodies := range g.Queues {
			for _, b := range bodies {
				r.send(name, b)
			}
		}
		for _, path := range slices.Sorted(maps.Keys(g.Answers)) {
			var was, is any
			if err := json.Unmarshal(g.Answers[path], &was); err != nil {
				t.Fatal(err)
			}
			unsay(path, was)
			r.get(path).ok(200).json(&is)
			if where := lacks(is, was); where != "" {
				t.Errorf("%s: %s\nthen %s\nnow  %v", path, where, g.Answers[path], is)
			}
		}
		g.goOn(r)
	})
}

// unsay takes out of an earlier answer what was wrong about it: lists of runs gave the end of a run as that of each of its steps, where they know no more
// of a step than its status.
func unsay(path string, was any) {
	list, _ := was.([]any) // of a workflow
	if m, ok := was.(map[string]any); ok {
		list, _ = m["items"].([]any)
	}
	if !regexp.MustCompile(`^/api/v1/(workflow-runs|workflows/[^/]+/runs)(\?.*)?$`).MatchString(path) {
		return
	}
	for _, run := range list {
		steps, _ := run.(map[string]any)["steps"].(map[string]any)
		for _, s := range steps {
			maps.DeleteFunc(s.(map[string]any), func(name string, _ any) bool { return name != "step_id" && name != "status" })
		}
	}
}

// goOn takes the jobs that were on their way to their ends: those in a queue, with a worker, and in the dead letters.
func (g goldenData) goOn(r *rig) {
	r.work(map[string]worker.Handler{"job.test.*": succeed}, func(c *worker.Config) { c.ID = "w-held" })
	r.work(map[string]worker.Handler{"job.test.*": succeed}, func(c *worker.Config) { c.Labels = map[string]string{"place.rack": "r7"} })
	for _, what := range []string{"held", "waiting", "targeted", "approved", "remedy"} {
		if g.Jobs[what] == "" {
			continue // of a release that had none
		}
		if j := r.await(g.Jobs[what], "SUCCEEDED"); j["attempts"] != 1.0 {
			r.t.Errorf("the %s job took %v attempts", what, j["attempts"])
		}
	}
	var retried struct {
		JobID string `json:"job_id"`
	}
	r.post("/api/v1/dlq/"+g.Jobs["failed"]+"/retry", nil).ok(200).json(&retried)
	r.await(retried.JobID, "SUCCEEDED")
	if rc := r.submit("topic", "job.test.fail", "idempotency_key", "golden"); rc.JobID != g.Jobs["failed"] {
		r.t.Errorf("a key that was used before the upgrade makes a new job %s", rc.JobID)
	}
	if g.Jobs["approved"] != "" { // what was published is in force, and the draft can be
		denies := func(topic, reason string) {
			if rc := r.submit("topic", "job.golden."+topic); rc.Status != "denied" || rc.Reason != reason {
				r.t.Errorf("%s: %+v", topic, rc)
			}
		}
		denies("published", "golden")
		denies("draft", "no matching rule")
		r.as("k-ada", "POST", "/api/v1/policy/publish", map[string]any{"bundle_ids": []string{"secops/draft"}}).ok(200)
		denies("draft", "golden")
	}
	g.runsGoOn(r)
	g.packsGoOn(r)
	g.accountsGoOn(r)
	r.post("/api/v1/jobs/"+g.Jobs["throttled"]+"/cancel", nil).ok(200)
	r.await(g.Jobs["throttled"], "CANCELLED")
	r.post("/api/v1/jobs/"+g.Jobs["asked"]+"/cancel", nil).ok(200)
	r.await(g.Jobs["asked"], "CANCELLED")
}

// lacks says where an answer of today lacks something of an earlier one: members may be added, none may change or go.
func lacks(is, was any) string {
	switch w := was.(type) {
	case map[string]any:
		m, ok := is.(map[string]any)
		if !ok {
			return fmt.Sprintf("%v is no object", is)
		}
		for _, name := range slices.Sorted(maps.Keys(w)) {
			if where := lacks(m[name], w[name]); where != "" {
				return name + ": " + where
			}
		}
	case []any:
		l, ok := is.([]any)
		if !ok || len(l) != len(w) {
			return fmt.Sprintf("%v is no list of %d", is, len(w))
		}
		for i := range w {
			if where := lacks(l[i], w[i]); where != "" {
				return fmt.Sprintf("%d: %s", i, where)
			}
		}
	default:
		if !reflect.DeepEqual(is, was) {
			return fmt.Sprintf("%v is not %v", is, was)
		}
	}
	return ""
}

func (g goldenData) load(t *testing.T, p dispatch.Platform) {
	t.Helper()
	for _, i := range g.Items {
		if err := p.Table.Write(t.Context(), store.Put(fromGolden(t, i))); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range g.Objects {
		if err := p.Blobs.Put(t.Context(), o.Key, o.Data, blob.PutOptions{ContentType: o.ContentType, Class: o.Class}); err != nil {
			t.Fatal(err)
		}
	}
}

// Attributes are written with their types, as {"S": "text"}, {"N": 1}, {"F": true} and {"B": "base64"}.
func toGolden(t *testing.T, it store.Item) goldenItem {
	t.Helper()
	g := goldenItem{PK: it.PK, SK: it.SK, Index: it.Index, Expires: it.Expires, Attrs: map[string]json.RawMessage{}}
	for name, v := range it.Attrs {
		kind := map[reflect.Kind]string{reflect.String: "S", reflect.Int64: "N", reflect.Bool: "F", reflect.Slice: "B"}[reflect.TypeOf(v).Kind()]
		text, err := json.Marshal(map[string]any{kind: v})
		if err != nil || kind == "" {
			t.Fatalf("%s of %v: %v", name, it.Key, err)
		}
		g.Attrs[name] = text
	}
	return g
}

func fromGolden(t *testing.T, g goldenItem) store.Item {
	t.Helper()
	it := store.Item{Key: store.Key{PK: g.PK, SK: g.SK}, Index: g.Index, Expires: g.Expires, Attrs: store.Attrs{}}
	for name, text := range g.Attrs {
		var v struct {
			S *string
			N *int64
			F *bool
			B *string
		}
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		switch {
		case v.S != nil:
			it.Attrs[name] = *v.S
		case v.N != nil:
			it.Attrs[name] = *v.N
		case v.F != nil:
			it.Attrs[name] = *v.F
		case v.B != nil:
			raw, err := base64.StdEncoding.DecodeString(*v.B)
			if err != nil {
				t.Fatal(err)
			}
			it.Attrs[name] = raw
		}
	}
	return it
}
