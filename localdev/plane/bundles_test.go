package plane_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/cordum-serverless/cordum/localdev/plane"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	question "github.com/cordum-serverless/cordum/shared/edge/asking"
)

// bare is a plane whose base policy has nothing to say about job.b.*, which its pool takes.
func bare() plane.Config {
	cfg := config()
	cfg.Policy, cfg.Pools = []byte("version: v1\nrules: [{id: base, match: {topics: [job.base]}, decision: allow}]"), []byte("topics: {job.b.*: main, job.base: main}")
	return cfg
}

// aRule is a document with one rule.
func aRule(id, match, decision string) string {
	return fmt.Sprintf("rules:\n  - {id: %s, match: {%s}, decision: %s, reason: because of %s}\n", id, match, decision, id)
}

const bundlesPath = "/api/v1/policy/bundles"

func (r *rig) put(id string, body any) answer {
	r.t.Helper()
	return r.as("k-ada", "PUT", bundlesPath+"/"+strings.ReplaceAll(id, "/", "~"), body)
}

// draft puts a bundle and nothing but its content.
func (r *rig) draft(id, content string) {
	r.t.Helper()
	r.put(id, map[string]any{"content": content}).ok(200)
}

type changed struct {
	Before    string   `json:"snapshot_before"`
	After     string   `json:"snapshot_after"`
	Published []string `json:"published"`
	To        string   `json:"rollback_to"`
}

func (r *rig) publishBundles(body any) (c changed) {
	r.t.Helper()
	r.as("k-ada", "POST", "/api/v1/policy/publish", body).ok(200).json(&c)
	return c
}

func (r *rig) rollback(to string) (c changed) {
	r.t.Helper()
	r.as("k-ada", "POST", "/api/v1/policy/rollback", map[string]any{"snapshot_id": to, "message": "back"}).ok(200).json(&c)
	return c
}

func (r *rig) bundle(id string) map[string]any {
	r.t.Helper()
	return r.get(bundlesPath + "/" + strings.ReplaceAll(id, "/", "~")).ok(200).object()
}

// items are the objects of a list.
func (r *rig) items(path string) (items []map[string]any) {
	r.t.Helper()
	var list struct {
		Items []map[string]any `json:"items"`
	}
	if r.get(path).ok(200).json(&list); list.Items == nil {
		r.t.Fatalf("%s: items is not a list", path)
	}
	return list.Items
}

func idsOf(items []map[string]any) (ids []string) {
	for _, i := range items {
		ids = append(ids, i["id"].(string))
	}
	return ids
}

// says submits a job of a topic: "scheduled: because of r".
func (r *rig) says(topic string, fields ...any) string {
	r.t.Helper()
	rc := r.submit(append([]any{"topic", topic}, fields...)...)
	return rc.Status + ": " + rc.Reason
}

const unmatched = "denied: no matching rule"

// decides fails the test unless a job of the topic becomes that.
func (r *rig) decides(topic, want string, fields ...any) {
	r.t.Helper()
	if got := r.says(topic, fields...); got != want {
		r.t.Errorf("a job of %s is %q, want %q", topic, got, want)
	}
}

// verdict is an answer of simulate.
type verdict struct {
	Decision         string `json:"decision"`
	Reason           string `json:"reason"`
	RuleID           string `json:"ruleId"`
	PolicySnapshot   string `json:"policySnapshot"`
	ApprovalRequired bool   `json:"approvalRequired"`
	ApprovalRef      string `json:"approvalRef"`
}

// simulate asks what would become of a job; content "" is what is stored.
func (r *rig) simulate(id, content string, request map[string]any) (v verdict) {
	r.t.Helper()
	body := map[string]any{"request": request}
	if content != "" {
		body["content"] = content
	}
	r.post(bundlesPath+"/"+strings.ReplaceAll(id, "/", "~")+"/simulate", body).ok(200).json(&v)
	return v
}

// enforce puts bundles in force through the configuration document. A nil takes one away.
func (r *rig) enforce(what map[string]any) {
	r.t.Helper()
	all := map[string]any{}
	if is := r.get("/api/v1/config?scope=system&scope_id=policy&envelope=no"); is.Status == 200 {
		all = is.object()["bundles"].(map[string]any)
	}
	for id, b := range what {
		if all[id] = b; b == nil {
			delete(all, id)
		}
	}
	r.post("/api/v1/config", pairs("scope", "system", "scope_id", "policy", "data", pairs("bundles", all))).ok(204)
}

// inForce are the bundles that decisions go by, and the disabled ones.
func (r *rig) inForce() map[string]json.RawMessage {
	r.t.Helper()
	now, err := r.plane.Dispatcher.Policy.Latest(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return now.Content.Bundles
}

func TestP01_IDsInURLs(t *testing.T) {
	r := open(t, bare())
	content := aRule("r", "topics: [job.b.*]", "allow")
	var said map[string]any
	r.put("secops/test", map[string]any{"content": "\n" + content + "\n\n"}).ok(200).json(&said)
	if said["id"] != "secops/test" || said["updated_at"] == nil || len(said) != 2 {
		t.Errorf("%v", said)
	}
	for _, path := range []string{
		"/secops~test", "/secops%2Ftest", "/secops%7Etest", "/x?bundle_id=secops~test", "/secops~none?bundle_id=secops/test", "/y?bundle_id=secops%2Ftest",
	} {
		a := r.get(bundlesPath + path)
		if a.Status != 200 {
			t.Errorf("%s: %s", path, a.Body)
			continue
		}
		b := a.object()
		if b["id"] != "secops/test" || b["content"] != strings.TrimSpace(content) || b["enabled"] != true || b["draft"] != true {
			t.Errorf("%s: %v", path, b)
		}
	}
	r.as("k-ada", "PUT", bundlesPath+"/mypack~x?bundle_id=secops~other", map[string]any{"content": content}).ok(200)
	if got := idsOf(r.items(bundlesPath)); !slices.Equal(got, []string{"secops/other", "secops/test"}) {
		t.Errorf("%v", got)
	}
	r.as("k-admin", "DELETE", bundlesPath+"/secops~test?bundle_id=secops~other", nil).ok(204)
	r.get(bundlesPath+"/secops~other").refused(404, "bundle not found")
	r.bundle("secops/test")
}

func TestP02_WhatAPutRefuses(t *testing.T) {
	r := open(t, bare())
	for name, test := range map[string]struct {
		id, body, want string
	}{
		"a pack's":              {"mypack/safety", `{"content":"rules: []"}`, "bundle id must start with secops/"},
		"core":                  {"core", `{"content":"rules: []"}`, "bundle id must start with secops/"},
		"no name":               {"secops/", `{"content":"rules: []"}`, `bundle id "secops/" needs a name`},
		"no body":               {"secops/a", ``, "invalid json"},
		"no JSON":               {"secops/a", `{`, "invalid json"},
		"no content":            {"secops/a", `{}`, "content required"},
		"blank content":         {"secops/a", `{"content":" \n"}`, "content required"},
		"bad YAML":              {"secops/a", `{"content":"rules: ["}`, "invalid policy content: "},
		"unknown rule key":      {"secops/a", `{"content":"rules:\n- id: a\n  decision: deny\n  why: x"}`, `invalid policy content: 4:3 unknown key "why" in a rule; known are `},
		"unknown top-level key": {"secops/a", `{"content":"rulez: []"}`, `invalid policy content: 1:1 unknown key "rulez" in a policy; known are `},
		"no decision":           {"secops/a", `{"content":"rules: [{id: a}]"}`, `invalid policy content: 1:9 rule "a" has no decision`},
		"unknown decision":      {"secops/a", `{"content":"rules: [{id: a, decision: DENY}]"}`, `invalid policy content: 1:27 "DENY" is not a decision`},
		"larger than a document": {
			"secops/a", `{"content":"rules: []` + strings.Repeat("#", 300<<10) + `"}`, "invalid policy content: 307209 bytes; a policy document has at most 262144 (256 KiB)",
		},
	} {
		a := r.put(test.id, test.body).ok(400)
		if text, _ := a.object()["error"].(string); text != test.want && (!strings.HasPrefix(text, test.want) || !strings.HasPrefix(test.want, "invalid policy content: ")) {
			t.Errorf("%s: %q, want %q", name, text, test.want)
		}
	}
	if got := r.items(bundlesPath); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if got := r.items("/api/v1/policy/audit"); len(got) != 0 {
		t.Errorf("what was refused is audited: %v", got)
	}
	r.as("k-user", "PUT", bundlesPath+"/secops~a", `{"content":"rules: []"}`).ok(403)
}

func TestP03_DraftsAndDoorsWithoutThem(t *testing.T) {
	r := open(t, bare())
	allow := aRule("r", "topics: [job.b.*]", "allow")
	r.draft("secops/new", allow)
	if b := r.bundle("secops/new"); b["enabled"] != true {
		t.Errorf("a new one is %v", b)
	}
	r.decides("job.b.x", unmatched) // it is a draft
	if len(r.inForce()) != 0 {
		t.Errorf("in force: %s", r.inForce())
	}
	r.publishBundles(`{}`)
	r.decides("job.b.x", "scheduled: because of r")
	if b := r.bundle("secops/new"); b["draft"] != nil || b["enabled"] != true {
		t.Errorf("published: %v", b)
	}
	r.draft("secops/new", aRule("r2", "topics: [job.b.*]", "deny")) // what is in force stays until the next publish
	r.decides("job.b.x", "scheduled: because of r")

	r.put("secops/off", map[string]any{"content": aRule("off", "topics: [job.b.y]", "deny"), "enabled": false, "author": "ada", "message": "first"}).ok(200)
	r.draft("secops/off", aRule("off2", "topics: [job.b.y]", "deny")) // what is not said stays
	if b := r.bundle("secops/off"); b["enabled"] != false || b["author"] != "ada" || b["message"] != "first" {
		t.Errorf("%v", b)
	}

	r.enforce(map[string]any{ // in force at once
		"secops/direct": map[string]any{"content": aRule("direct", "topics: [job.b.direct]", "deny")},
		"pack/idle":     map[string]any{"content": aRule("idle", "topics: [job.b.idle]", "deny"), "enabled": "no"},
	})
	r.decides("job.b.direct", "denied: because of direct") // pack/… and secops/direct come before secops/new
	r.decides("job.b.idle", "scheduled: because of r")
}

func TestP04_Publish(t *testing.T) {
	virtually(t, bare(), func(t *testing.T, r *rig) {
		r.put("secops/b", map[string]any{"content": aRule("b", "topics: [job.b.b]", "allow"), "author": "maya", "enabled": false}).ok(200)
		r.draft("secops/a", aRule("a", "topics: [job.b.a]", "allow"))
		first := r.bundle("secops/a")["created_at"]
		time.Sleep(time.Minute)
		c := r.publishBundles(map[string]any{"author": "ada", "message": "tighten", "note": "before release"})
		if !slices.Equal(c.Published, []string{"secops/a", "secops/b"}) || c.Before == c.After {
			t.Errorf("%+v", c)
		}
		at := time.Now().UTC().Format(time.RFC3339)
		for _, id := range []string{c.Before, c.After} {
			if hash, ok := strings.CutPrefix(id, at+"-"); !ok || len(hash) != 10 || strings.Trim(hash, "0123456789abcdef") != "" {
				t.Errorf("snapshot id %s at %s", id, at)
			}
		}
		r.decides("job.b.a", "scheduled: because of a")
		r.decides("job.b.b", "scheduled: because of b")
		for _, id := range []string{"secops/a", "secops/b"} {
			b := r.bundle(id)
			if b["enabled"] != true || b["author"] != "ada" || b["message"] != "tighten" || b["updated_at"] != at || b["created_at"] != first || b["draft"] != nil {
				t.Errorf("%v", b)
			}
		}
		e := r.items("/api/v1/policy/audit")[0]
		if id, _ := e["id"].(string); !strings.HasPrefix(id, at+"-") || len(id) != len(at)+13 {
			t.Errorf("audit id %v", e["id"])
		}
		delete(e, "id")
		if e["request_id"] == nil {
			t.Errorf("no request_id: %v", e)
		}
		delete(e, "request_id")
		if got, want := fmt.Sprint(e), fmt.Sprint(map[string]any{
			"action": "publish", "created_at": at, "actor_id": "ada", "role": "admin", "bundle_ids": []any{"secops/a", "secops/b"}, "message": "tighten",
			"snapshot_before": c.Before, "snapshot_after": c.After, "resource_type": "policy",
		}); got != want {
			t.Errorf("entry %s, want %s", got, want)
		}
		kept := r.items(bundlesPath + "/snapshots")
		if !slices.Equal(idsOf(kept), []string{c.After, c.Before}) || kept[0]["note"] != "before release" || kept[0]["created_at"] != at {
			t.Errorf("%v", kept)
		}
		whole := r.get(bundlesPath + "/snapshots/" + c.After).ok(200).object() // with its colons as they are
		if whole["id"] != c.After || len(whole["bundles"].(map[string]any)) != 2 {
			t.Errorf("%v", whole)
		}
		if whole = r.get(bundlesPath + "/snapshots/" + url.PathEscape(c.Before)).ok(200).object(); fmt.Sprint(whole["bundles"]) != "map[]" {
			t.Errorf("%v", whole)
		}
		r.get(bundlesPath+"/snapshots/none").refused(404, "snapshot not found")

		if c = r.publishBundles(map[string]any{"bundle_ids": []string{"secops/b", "pack/x", "secops/none", "secops/b"}}); !slices.Equal(c.Published, []string{"secops/b"}) {
			t.Errorf("%+v", c)
		}
		if b := r.bundle("secops/b"); b["author"] != "ada" || b["message"] != "tighten" {
			t.Errorf("what is not said stays: %v", b)
		}
	})
}

func TestP05_NothingToPublish(t *testing.T) {
	r := open(t, bare())
	for body, want := range map[string]string{"": "invalid json", "{": "invalid json", "{}": "no bundles configured"} {
		r.post("/api/v1/policy/publish", body).refused(400, want)
	}
	r.enforce(map[string]any{"pack/x": map[string]any{"content": aRule("x", "topics: [job.b.x]", "allow")}})
	for _, body := range []string{`{}`, `{"bundle_ids":["pack/x","secops/none"]}`} {
		r.post("/api/v1/policy/publish", body).refused(400, "no policy bundles to publish")
	}
	if kept := r.items(bundlesPath + "/snapshots"); len(kept) != 0 {
		t.Errorf("%v", kept)
	}
}

func TestP06_APublishThatIsNotValid(t *testing.T) {
	r := open(t, bare())
	r.enforce(map[string]any{"secops/bad": map[string]any{"content": "rules:\n  - {id: a, decision: perhaps}", "enabled": false}})
	r.draft("secops/good", aRule("good", "topics: [job.b.*]", "allow"))
	before, seen := fmt.Sprint(r.inForce()), r.get(bundlesPath).Body
	a := r.post("/api/v1/policy/publish", `{}`).ok(400)
	if text := a.object()["error"].(string); !strings.HasPrefix(text, `invalid policy bundle "secops/bad": 2:23 "perhaps" is not a decision`) {
		t.Error(text)
	}
	if fmt.Sprint(r.inForce()) != before || r.get(bundlesPath).Body != seen || len(r.items(bundlesPath+"/snapshots")) != 0 {
		t.Errorf("it has changed something: %s", r.get(bundlesPath).Body)
	}
	r.decides("job.b.x", unmatched)
	r.publishBundles(`{"bundle_ids":["secops/good"]}`)
	r.decides("job.b.x", "scheduled: because of good")
}

func TestP07_RollbackToTheOldestOfTen(t *testing.T) {
	virtually(t, bare(), func(t *testing.T, r *rig) {
		var oldest string
		for i := range 6 { // twelve copies, of which ten are kept
			r.draft("secops/a", aRule(fmt.Sprint("v", i), "topics: [job.b.x]", "allow"))
			r.publishBundles(`{}`)
			time.Sleep(time.Second)
		}
		kept := r.items(bundlesPath + "/snapshots")
		if len(kept) != 10 {
			t.Fatalf("P10: %d copies", len(kept))
		}
		oldest = kept[9]["id"].(string)
		r.draft("secops/a", aRule("draft", "topics: [job.b.x]", "deny"))
		c := r.rollback(oldest)
		if c.To != oldest || c.Before == c.After {
			t.Errorf("%+v", c)
		}
		r.decides("job.b.x", "scheduled: because of v0")
		kept = r.items(bundlesPath + "/snapshots")
		if got := idsOf(kept); len(got) != 10 || got[0] != c.After || got[1] != c.Before || slices.Contains(got, oldest) {
			t.Errorf("%v", got)
		}
		if b := r.bundle("secops/a"); b["draft"] != true || !strings.Contains(b["content"].(string), "id: draft") {
			t.Errorf("the draft has not stayed one: %v", b)
		}
		e := r.items("/api/v1/policy/audit")[0]
		if e["action"] != "rollback" || e["snapshot_before"] != c.Before || e["snapshot_after"] != c.After || e["message"] != "back" || e["resource_id"] != oldest {
			t.Errorf("%v", e)
		}
	})
}

func TestP08_RollbackToNothing(t *testing.T) {
	r := open(t, bare())
	r.draft("secops/a", aRule("a", "topics: [job.b.x]", "allow"))
	r.publishBundles(`{}`)
	before := r.get(bundlesPath + "/snapshots").Body
	for body, want := range map[string]string{``: "invalid json", `{}`: "snapshot_id required", `{"snapshot_id":" "}`: "snapshot_id required"} {
		r.post("/api/v1/policy/rollback", body).refused(400, want)
	}
	r.post("/api/v1/policy/rollback", `{"snapshot_id":"2026-01-01T00:00:00Z-0123456789"}`).refused(404, "snapshot not found")
	if after := r.get(bundlesPath + "/snapshots").Body; after != before {
		t.Errorf("%s, before %s", after, before)
	}
}

func TestP09_RollbackAcrossAPack(t *testing.T) {
	virtually(t, bare(), func(t *testing.T, r *rig) {
		r.enforce(map[string]any{"old/x": map[string]any{"content": aRule("old", "topics: [job.b.old]", "allow")}, "core": "rules: []"})
		r.draft("secops/a", aRule("a", "topics: [job.b.a]", "allow"))
		was := r.publishBundles(`{}`).After
		time.Sleep(time.Second)
		r.enforce(map[string]any{
			"old/x": nil, "new/x": map[string]any{"content": aRule("new", "topics: [job.b.new]", "allow"), "version": "1.0.0"},
			"core": map[string]any{"content": aRule("core", "topics: [job.b.core]", "allow")},
		})
		r.as("k-ada", "DELETE", bundlesPath+"/secops~a", nil).ok(204)
		r.decides("job.b.core", "scheduled: because of core")
		r.rollback(was)
		r.decides("job.b.a", "scheduled: because of a")     // secops/ comes back
		r.decides("job.b.core", unmatched)                  // and so does core
		r.decides("job.b.new", "scheduled: because of new") // packs stay as the registry has them
		r.decides("job.b.old", unmatched)
	})
}

func TestP10_CopiesAndAuditAreLimited(t *testing.T) {
	r := open(t, bare())
	for i := range 105 {
		r.draft("secops/a", aRule(fmt.Sprint("v", i), "topics: [job.b.x]", "allow"))
	}
	if got := r.items("/api/v1/policy/audit"); len(got) != 100 || got[0]["action"] != "put" || got[0]["resource_id"] != "secops/a" {
		t.Errorf("%d entries, the newest %v", len(got), got[0])
	}
	seen := map[string]bool{}
	for cursor := ""; ; {
		var page struct {
			Items []map[string]any `json:"items"`
			Next  *int64           `json:"next_cursor"`
		}
		r.get("/api/v1/policy/audit?limit=30" + cursor).ok(200).json(&page)
		for _, i := range page.Items {
			if seen[i["id"].(string)] {
				t.Fatalf("%v comes twice", i)
			}
			seen[i["id"].(string)] = true
		}
		if page.Next == nil {
			break
		}
		cursor = fmt.Sprint("&cursor=", *page.Next)
	}
	if len(seen) != 105 {
		t.Errorf("%d entries on all pages", len(seen))
	}
	if got := r.as("k-other", "GET", "/api/v1/policy/audit", nil).ok(200).Body; got != `{"items":[],"next_cursor":null}` {
		t.Errorf("another tenant sees %s", got)
	}
	for i := range 12 {
		r.post(bundlesPath+"/snapshots", map[string]any{"note": fmt.Sprint(i)}).ok(200)
		r.enforce(map[string]any{"core": aRule(fmt.Sprint("c", i), "topics: [job.b.x]", "allow")})
	}
	if kept := r.items(bundlesPath + "/snapshots"); len(kept) != 10 || kept[0]["note"] != "11" || kept[9]["note"] != "2" {
		t.Errorf("%v", kept)
	}
}

func TestP11_NoBundles(t *testing.T) {
	r := open(t, bare())
	for path, want := range map[string]string{
		bundlesPath: `{"bundles":{},"items":[],"updated_at":""}`, bundlesPath + "/snapshots": `{"items":[]}`, "/api/v1/policy/rules": `{"items":[]}`,
		"/api/v1/policy/audit": `{"items":[],"next_cursor":null}`,
	} {
		if got := r.get(path).ok(200).Body; got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	r.get(bundlesPath+"/secops~a").refused(404, "bundle not found")
	r.as("k-ada", "DELETE", bundlesPath+"/secops~a", nil).refused(404, "bundle not found")
	c := r.as("k-ada", "POST", bundlesPath+"/snapshots", nil).ok(200).object() // works without any, and without a body
	if id, _ := c["id"].(string); !strings.HasSuffix(id, "Z-44136fa355") || fmt.Sprint(c["bundles"]) != "map[]" || c["note"] != nil {
		t.Errorf("%v", c)
	}
}

func TestP12_Simulate(t *testing.T) {
	r := open(t, bare())
	r.draft("secops/a", aRule("a", "topics: [job.b.*]", "allow"))
	r.publishBundles(`{}`)
	request := map[string]any{"topic": "job.b.x", "job_id": "job-1"}
	before := r.get(bundlesPath).Body
	ask := aRule("ask", "topics: [job.b.*]", "require_approval")
	v := r.simulate("secops/a", ask, request)
	if v.Decision != "DECISION_TYPE_REQUIRE_HUMAN" || !v.ApprovalRequired || v.RuleID != "ask" || v.ApprovalRef != "job-1" || v.Reason != "because of ask" {
		t.Errorf("%+v", v)
	}
	if r.get(bundlesPath).Body != before || len(r.items("/api/v1/policy/audit")) != 2 {
		t.Errorf("something was stored: %s", r.get(bundlesPath).Body)
	}
	r.draft("secops/a", ask) // without content: the draft
	if again := r.simulate("secops/a", "", request); again.PolicySnapshot == "" || again.RuleID != "ask" {
		t.Errorf("%+v", again)
	}
	if v = r.simulate("secops/other", "", request); v.RuleID != "a" { // the others as they are in force
		t.Errorf("%+v", v)
	}
	if v = r.simulate("secops/a", ask, map[string]any{"topic": "job.base"}); v.RuleID != "base" || v.ApprovalRef != "" { // the base is in it
		t.Errorf("%+v", v)
	}
	v = r.simulate("secops/a", ask, request)
	h, err := r.plane.Dispatcher.Policy.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v.PolicySnapshot == h.Policy.Snapshot() || !strings.HasPrefix(v.PolicySnapshot, "v1:") || !strings.Contains(v.PolicySnapshot, "|cfg:") {
		t.Errorf("%s beside %s", v.PolicySnapshot, h.Policy.Snapshot())
	}
	r.enforce(map[string]any{"secops/a": ask})
	if h, err = r.plane.Dispatcher.Policy.Current(t.Context()); err != nil || h.Policy.Snapshot() != v.PolicySnapshot {
		t.Errorf("it was to be %s and is %s, %v", v.PolicySnapshot, h.Policy.Snapshot(), err)
	}
	for _, spelled := range []string{"/secops~a", "/secops%2Fa", "/secops%2fa", "/secops/a"} {
		r.post(bundlesPath+spelled+"/simulate", map[string]any{"request": request}).ok(200)
	}
	simulate := bundlesPath + "/secops~a/simulate"
	for _, test := range []struct{ body, want string }{
		{``, "invalid json"}, {`[]`, "invalid json"}, {`{}`, "topic is required"}, {`{"request":{"topic":" "}}`, "topic is required"},
		{`{"request":{"topic":"job.b.x"},"content":"rules: 7"}`, `parse policy bundle "secops/a": 1:8 must be a list`},
	} {
		r.post(simulate, test.body).refused(400, test.want)
	}
	r.post(simulate, `{"request":{"topic":"job.b.x","tenant":"other"}}`).ok(403)
	r.as("k-user", "POST", simulate, `{"request":{"topic":"job.b.x"}}`).ok(403)
}

func TestP13_SimulateWithoutAnything(t *testing.T) {
	cfg := config()
	cfg.Policy = []byte("\n")
	r := open(t, cfg)
	v := r.simulate("secops/a", "", map[string]any{"topic": "job.b.x"})
	if v.Decision != "DECISION_TYPE_DENY" || v.Reason != "no matching rule" || v.PolicySnapshot != "empty" || v.RuleID != "" {
		t.Errorf("%+v", v)
	}
}

func TestP14_TheFirstIDDecides(t *testing.T) {
	r := open(t, bare())
	r.draft("secops/b", aRule("later", "topics: [job.b.*]", "allow"))
	r.draft("secops/a", aRule("first", "topics: [job.b.*]", "deny"))
	r.publishBundles(`{}`)
	r.decides("job.b.x", "denied: because of first")
	r.enforce(map[string]any{"github/x": aRule("pack", "topics: [job.b.*]", "allow")})
	r.decides("job.b.x", "scheduled: because of pack")
	if got := idsOf(r.items("/api/v1/policy/rules")); !slices.Equal(got, []string{"pack", "first", "later"}) {
		t.Errorf("%v", got)
	}
}

func TestP15_ListsOfTenants(t *testing.T) {
	r := open(t, bare())
	r.draft("secops/lists", "default_decision: allow\ntenants: {default: {deny_topics: [job.b.no], allow_topics: [job.b.*]}}")
	r.publishBundles(`{}`)
	const denied = `denied: topic "job.b.no" denied by tenant policy`
	r.decides("job.b.no", denied)
	r.draft("secops/rules", aRule("a", "topics: [job.b.*]", "allow"))
	r.publishBundles(`{}`)
	r.decides("job.b.no", denied)
	r.decides("job.b.yes", "scheduled: because of a")
	items := r.items("/api/v1/policy/rules")
	if got := idsOf(items); !slices.Equal(got, []string{"legacy:default:deny:1", "legacy:default:allow:1", "a"}) {
		t.Fatalf("%v", got)
	}
	if got := fmt.Sprintf("%v %v %v", items[0]["match"], items[0]["decision"], items[0]["reason"]); got != `map[tenants:[default] topics:[job.b.no]] deny topic "job.b.no" denied by tenant policy` {
		t.Error(got)
	}
}

func TestP16_WhatRulesMatch(t *testing.T) {
	r := open(t, bare())
	for _, test := range []struct {
		match string
		meta  map[string]any
		want  bool
	}{
		{"risk_tags: [a, b]", map[string]any{"risk_tags": []string{"B"}}, true},
		{"risk_tags: [a, b]", map[string]any{"risk_tags": []string{"c"}}, false},
		{"requires: [a, b]", map[string]any{"requires": []string{"b", "x", "a"}}, true},
		{"requires: [a, b]", map[string]any{"requires": []string{"a"}}, false},
		{"capabilities: [c]", map[string]any{"capability": "C"}, true},
		{"capabilities: [c]", nil, false},
	} {
		v := r.simulate("secops/a", aRule("r", test.match, "allow"), map[string]any{"topic": "job.b.x", "meta": test.meta})
		if (v.RuleID == "r") != test.want {
			t.Errorf("%s, %v: %+v", test.match, test.meta, v)
		}
	}
}

func TestP17_StarsCrossDots(t *testing.T) {
	r := open(t, bare())
	for topic, want := range map[string]string{"job.a.b": "r", "job.a": "r", "job.a/b": ""} {
		if v := r.simulate("secops/a", aRule("r", `topics: ["job.*"]`, "allow"), map[string]any{"topic": topic}); v.RuleID != want {
			t.Errorf("%s: %+v", topic, v)
		}
	}
}

func TestP18_DisabledBundles(t *testing.T) {
	r := open(t, bare())
	snapshot := func() string { return r.simulate("secops/none", "", map[string]any{"topic": "job.b.x"}).PolicySnapshot }
	before := snapshot()
	r.enforce(map[string]any{
		"secops/off": map[string]any{"content": aRule("off", "topics: [job.b.*]", "allow"), "enabled": false},
		"broken/x":   map[string]any{"content": "rules: 7", "enabled": 0},
	})
	if after := snapshot(); after != before {
		t.Errorf("the snapshot was %s and is %s", before, after)
	}
	r.decides("job.b.x", unmatched)
	if v := r.simulate("secops/off", "", map[string]any{"topic": "job.b.x"}); v.RuleID != "" {
		t.Errorf("%+v", v)
	}
	if got := r.get("/api/v1/policy/rules").ok(200).Body; got != `{"items":[]}` {
		t.Error(got)
	}
	r.draft("secops/drafted", aRule("drafted", "topics: [job.b.*]", "allow"))
	if got := r.items("/api/v1/policy/rules?include_disabled=no"); len(got) != 0 {
		t.Errorf("%v", got)
	}
	for _, yes := range []string{"true", "1", "YES", "on"} {
		var list struct {
			Items  []map[string]any    `json:"items"`
			Errors []map[string]string `json:"errors"`
		}
		r.get("/api/v1/policy/rules?include_disabled=" + yes).ok(200).json(&list)
		if got := idsOf(list.Items); !slices.Equal(got, []string{"drafted", "off"}) || fmt.Sprint(list.Errors) != "[map[error:1:8 must be a list fragment_id:broken/x]]" {
			t.Errorf("%v, %v", got, list.Errors)
		}
	}
}

func TestListsOfBundlesAndRules(t *testing.T) {
	virtually(t, bare(), func(t *testing.T, r *rig) {
		const sha = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
		r.enforce(map[string]any{
			"core": "rules: []",
			"db/safety": map[string]any{
				"content": "rules:\n- id: w\n  match: {topics: [job.db.*], risk_tags: [prod]}\n  decision: require_approval\n  reason: r\n" +
					"  constraints: {budgets: {max_retries: 1}}\n  remediations: [{id: dry, title: t, summary: s, replacement_topic: job.db.dry}]\n",
				"version": "1.2.0", "installed_at": "2026-01-01T00:00:00Z", "sha256": sha, "vendor": "x",
			},
		})
		time.Sleep(time.Minute)
		r.put("secops/rules", map[string]any{"content": aRule("a", "topics: [job.b.*]", "allow"), "author": "maya"}).ok(200)
		now := time.Now().UTC().Format(time.RFC3339)
		var list struct {
			Bundles   map[string]any   `json:"bundles"`
			Items     []map[string]any `json:"items"`
			UpdatedAt string           `json:"updated_at"`
		}
		r.get(bundlesPath).ok(200).json(&list)
		if list.UpdatedAt != now || !slices.Equal(idsOf(list.Items), []string{"core", "db/safety", "secops/rules"}) {
			t.Errorf("%+v", list)
		}
		if list.Bundles["core"] != "rules: []" || list.Bundles["db/safety"].(map[string]any)["vendor"] != "x" ||
			list.Bundles["secops/rules"].(map[string]any)["enabled"] != true {
			t.Errorf("%v", list.Bundles)
		}
		computed := r.items("/api/v1/policy/rules?include_disabled=1")[1]["source"].(map[string]any)["sha256"]
		sum := sha256.Sum256([]byte("rules: []"))
		for i, want := range []map[string]any{
			{"id": "core", "enabled": true, "source": "core", "sha256": hex.EncodeToString(sum[:])},
			{"id": "db/safety", "enabled": true, "source": "pack", "version": "1.2.0", "installed_at": "2026-01-01T00:00:00Z", "sha256": sha, "rule_count": 1},
			{
				"id": "secops/rules", "enabled": true, "source": "secops", "author": "maya", "created_at": now, "updated_at": now, "sha256": computed,
				"rule_count": 1, "draft": true,
			},
		} {
			if got := fmt.Sprint(list.Items[i]); got != fmt.Sprint(want) {
				t.Errorf("%s, want %s", got, fmt.Sprint(want))
			}
		}
		const want = `{"id":"w","match":{"topics":["job.db.*"],"risk_tags":["prod"]},"decision":"require_approval","reason":"r","constraints":` +
			`{"budgets":{"max_retries":1},"sandbox":{},"toolchain":{},"diff":{}},"remediations":[{"id":"dry","title":"t","summary":"s",` +
			`"replacement_topic":"job.db.dry"}],"source":{"fragment_id":"db/safety","pack_id":"db","overlay_name":"safety","version":"1.2.0",` +
			`"installed_at":"2026-01-01T00:00:00Z","sha256":"` + sha + `"}}`
		if got := r.get("/api/v1/policy/rules").ok(200).Body; got != `{"items":[`+want+`]}` {
			t.Error(got)
		}
	})
}

// TestDelete: a bundle goes out of force with its draft, at once, and can be brought back.
func TestDelete(t *testing.T) {
	virtually(t, bare(), func(t *testing.T, r *rig) {
		r.draft("secops/a", aRule("a", "topics: [job.b.*]", "allow"))
		r.publishBundles(`{}`)
		time.Sleep(time.Second)
		r.draft("secops/a", aRule("a2", "topics: [job.b.*]", "allow"))
		remove := func(id string) answer { return r.as("k-ada", "DELETE", bundlesPath+"/"+id, nil) }
		if a := remove("secops~a").ok(204); a.Body != "" {
			t.Error(a.Body)
		}
		r.decides("job.b.x", unmatched)
		r.get(bundlesPath+"/secops~a").refused(404, "bundle not found")
		e := r.items("/api/v1/policy/audit")[0]
		if e["action"] != "delete" || e["resource_type"] != "policy_bundle" || e["resource_id"] != "secops/a" || fmt.Sprint(e["bundle_ids"]) != "[secops/a]" {
			t.Errorf("%v", e)
		}
		time.Sleep(time.Second)
		r.rollback(e["snapshot_before"].(string))
		r.decides("job.b.x", "scheduled: because of a")

		r.draft("secops/only", aRule("o", "topics: [job.b.*]", "allow")) // a draft alone: nothing in force changes
		kept := r.get(bundlesPath + "/snapshots").Body
		remove("secops~only").ok(204)
		if r.get(bundlesPath+"/snapshots").Body != kept {
			t.Error("copies were kept of no change")
		}
		remove("secops~only").refused(404, "bundle not found")
		r.enforce(map[string]any{"db/x": "rules: []", "core": "rules: []"})
		for _, id := range []string{"db~x", "core", "none"} {
			remove(id).refused(400, "bundle id must start with secops/")
		}
		r.as("k-user", "DELETE", bundlesPath+"/secops~a", nil).ok(403)
	})
}

func TestConcurrentPublishesOverREST(t *testing.T) {
	r := open(t, bare())
	const n = 20
	for i := range n {
		r.draft(fmt.Sprintf("secops/p%02d", i), aRule(fmt.Sprintf("r%02d", i), fmt.Sprintf("topics: [job.b.p%02d]", i), "allow"))
	}
	var publishing sync.WaitGroup
	answers := make([]answer, n)
	for i := range n {
		publishing.Go(func() {
			for {
				answers[i] = r.as("k-ada", "POST", "/api/v1/policy/publish", fmt.Sprintf(`{"bundle_ids":["secops/p%02d"]}`, i))
				if answers[i].Status != 409 {
					return
				}
			}
		})
	}
	publishing.Wait()
	for i, a := range answers {
		a.ok(200)
		r.decides(fmt.Sprintf("job.b.p%02d", i), fmt.Sprintf("scheduled: because of r%02d", i))
	}
}

// TestAPublishHoldsEverywhere: once it is acknowledged, whoever decides next decides by it, however warm.
func TestAPublishHoldsEverywhere(t *testing.T) {
	cfg := bare()
	cfg.Containers = 2
	r := open(t, cfg)
	d := r.plane.Dispatcher
	another := question.NewKernel(dispatch.New(dispatch.Platform{ // another instance of a function
		Table: d.Jobs.Table, Queues: d.Queues, Blobs: d.Jobs.Blobs, Clock: d.Clock, IDs: d.IDs, Log: d.Log, Shards: 1,
	}))
	var containers []cordumv1.CordumApiClient
	for n := range 2 {
		containers = append(containers, cordumv1.NewCordumApiClient(r.connTo(r.dialer(n))))
	}
	admin := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", "k-admin")
	check := func(want string) {
		t.Helper()
		allowed := want != ""
		for n, c := range containers {
			res, err := c.SubmitJob(admin, &cordumv1.SubmitJobRequest{Topic: "job.b.x", Prompt: "p"})
			if err != nil {
				t.Fatal(err)
			}
			if (res.GetStatus() == "scheduled") != allowed {
				t.Errorf("container %d: %v", n, res)
			}
		}
		ctx := identity.With(t.Context(), identity.Identity{Tenant: "default", Role: identity.User})
		q, err := question.Of(ctx, &cordumv1.PolicyRequest{Topic: "job.b.x"})
		if err != nil {
			t.Fatal(err)
		}
		v, err := another.Decide(ctx, q)
		if err != nil || v.GetRuleId() != want {
			t.Errorf("another instance: %+v, %v", v, err)
		}
		if got := r.says("job.b.x"); strings.HasPrefix(got, "scheduled") != allowed {
			t.Errorf("REST: %s", got)
		}
	}
	check("")
	r.draft("secops/a", aRule("a", "topics: [job.b.*]", "allow"))
	check("")
	was := r.publishBundles(`{}`).Before
	check("a")
	r.rollback(was)
	check("")
	r.enforce(map[string]any{"db/x": aRule("p", "topics: [job.b.*]", "allow")})
	check("p")
}

func TestT116_IDsOfPolicies(t *testing.T) {
	r := open(t, bare())
	snapshot := func() string { return r.simulate("secops/none", "", map[string]any{"topic": "job.b.x"}).PolicySnapshot }
	base := snapshot()
	if hash, ok := strings.CutPrefix(base, "v1:"); !ok || len(hash) != 64 {
		t.Errorf("the base alone: %s", base)
	}
	set := func(content string, enabled bool) string {
		r.enforce(map[string]any{"secops/a": map[string]any{"content": content, "enabled": enabled, "author": content}})
		return snapshot()
	}
	content := aRule("a", "topics: [job.b.*]", "allow")
	with := set(content, true)
	if hash, ok := strings.CutPrefix(with, base+"|cfg:"); !ok || len(hash) != 64 {
		t.Errorf("with a fragment: %s", with)
	}
	if got := set(content, false); got != base {
		t.Errorf("a disabled fragment: %s", got)
	}
	if got := set(content+"# a comment", true); got == with || !strings.HasPrefix(got, base+"|cfg:") {
		t.Errorf("a comment: %s", got)
	}
	if got := set(content, true); got != with {
		t.Errorf("the same again is %s, it was %s", got, with)
	}
}

func TestT117_TheLastTenPolicies(t *testing.T) {
	r := open(t, bare())
	var want []string
	for i := range 12 {
		r.draft("secops/a", aRule(fmt.Sprint("v", i), "topics: [job.b.x]", "allow"))
		r.publishBundles(`{}`)
		want = append(want, r.simulate("secops/none", "", map[string]any{"topic": "job.b.x"}).PolicySnapshot)
	}
	slices.Reverse(want)
	var list struct{ Snapshots []string }
	if r.get("/api/v1/policy/snapshots").ok(200).json(&list); !slices.Equal(list.Snapshots, want[:10]) {
		t.Errorf("%v, want %v", list.Snapshots, want[:10])
	}
}

func TestT120_BareTexts(t *testing.T) {
	virtually(t, bare(), func(t *testing.T, r *rig) {
		content := aRule("bare", "topics: [job.b.*]", "allow")
		r.enforce(map[string]any{"secops/bare": content, "core": "rules: []"})
		if b := r.bundle("secops/bare"); b["content"] != strings.TrimSpace(content) || b["enabled"] != true {
			t.Errorf("%v", b)
		}
		c := r.publishBundles(map[string]any{"bundle_ids": []string{"secops/bare", "core"}})
		if !slices.Equal(c.Published, []string{"secops/bare"}) {
			t.Errorf("%+v", c)
		}
		b := r.bundle("secops/bare")
		if b["content"] != strings.TrimSpace(content) || b["created_at"] != time.Now().UTC().Format(time.RFC3339) {
			t.Errorf("%v", b)
		}
		r.decides("job.b.x", "scheduled: because of bare")
		audit := slices.DeleteFunc(r.items("/api/v1/policy/audit"), func(e map[string]any) bool { return e["action"] != "publish" })
		if len(audit) != 1 || audit[0]["snapshot_before"] != c.Before || audit[0]["snapshot_after"] != c.After {
			t.Errorf("%v", audit)
		}
		time.Sleep(time.Second)
		r.as("k-ada", "DELETE", bundlesPath+"/secops~bare", nil).ok(204)
		r.decides("job.b.x", unmatched)
		r.rollback(c.Before)
		r.decides("job.b.x", "scheduled: because of bare")
		if string(r.inForce()["secops/bare"]) != mustJSON(t, content) {
			t.Errorf("%s", r.inForce()["secops/bare"])
		}
	})
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestAPublishMakesApprovalsStale: a draft does not, and neither does a bundle that is not in force.
func TestAPublishMakesApprovalsStale(t *testing.T) {
	r := open(t, bare())
	r.enforce(map[string]any{"secops/ask": aRule("ask", "topics: [job.b.ask]", "require_approval")})
	waiting := []receipt{r.submit("topic", "job.b.ask"), r.submit("topic", "job.b.ask")}
	r.draft("secops/a", aRule("a", "topics: [job.b.a]", "allow"))
	r.enforce(map[string]any{"db/x": map[string]any{"content": aRule("x", "topics: [job.b.x]", "allow"), "enabled": false}})
	r.as("k-ada", "POST", "/api/v1/approvals/"+waiting[0].JobID+"/approve", nil).ok(200)
	r.publishBundles(`{"bundle_ids":["secops/a"]}`)
	if a := r.as("k-ada", "POST", "/api/v1/approvals/"+waiting[1].JobID+"/approve", nil).ok(409); a.object()["code"] != "approval_stale_snapshot" {
		t.Error(a.Body)
	}
}
