package plane_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/audit"
	docs "github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/pack/registry"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

const configPath = "/api/v1/config"

// envelope is a document as clients see it.
type envelope struct {
	Scope     string            `json:"scope"`
	ScopeID   string            `json:"scope_id"`
	Data      map[string]any    `json:"data"`
	Revision  int64             `json:"revision"`
	UpdatedAt time.Time         `json:"updated_at"`
	Meta      map[string]string `json:"meta,omitempty"`
}

// envelope reads a document as cordumctl does: by scope and scope_id.
func (r *rig) envelope(scope, id string) (e envelope) {
	r.t.Helper()
	r.get(configPath + "?scope=" + scope + "&scope_id=" + url.QueryEscape(id)).ok(200).json(&e)
	if e.Scope != scope || e.ScopeID != id || e.Data == nil {
		r.t.Fatalf("%s/%s is %+v", scope, id, e)
	}
	return e
}

// change posts data to a document.
func (r *rig) change(scope, id string, data any) answer {
	r.t.Helper()
	return r.post(configPath, pairs("scope", scope, "scope_id", id, "data", data))
}

type effective struct {
	Version string         `json:"version"`
	Hash    string         `json:"hash"`
	Data    map[string]any `json:"data"`
}

func (r *rig) effective(query string) (e effective) {
	r.t.Helper()
	r.get(configPath + "/effective" + query).ok(200).json(&e)
	return e
}

// forget takes a document away, as if it had never been.
func (r *rig) forget(scope, id string) {
	r.t.Helper()
	if err := r.plane.Dispatcher.Jobs.Table.Write(r.t.Context(), store.Delete(store.Key{PK: "CFG#" + scope + "#" + id, SK: "D"})); err != nil {
		r.t.Fatal(err)
	}
}

// submitTo submits a job to one of the containers, and answers its id.
func (r *rig) submitTo(container int, topic string) string {
	r.t.Helper()
	admin := metadata.AppendToOutgoingContext(r.t.Context(), "x-api-key", "k-admin")
	res, err := cordumv1.NewCordumApiClient(r.connTo(r.dialer(container))).SubmitJob(admin, &cordumv1.SubmitJobRequest{Topic: topic, Prompt: "p"})
	if err != nil {
		r.t.Fatal(err)
	}
	return res.GetJobId()
}

func TestF01_OnlyTheDocumentDefaultOfTheSystemIsEffective(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		before := r.effective("")
		r.change("system", "policy", pairs("x", 1, "bundles", pairs())).ok(204)
		r.change("system", "packs", pairs("installed", pairs("a", pairs("id", "a")))).ok(204)
		r.change("system", "anything", pairs("x", 1)).ok(204)
		if got := r.effective(""); got.Hash != before.Hash || got.Version != before.Version {
			t.Errorf("%+v, before %+v", got, before)
		}
		r.change("system", "default", pairs("x", 2)).ok(204)
		if got := r.effective(""); got.Data["x"] != 2.0 || got.Hash == before.Hash {
			t.Errorf("%+v", got)
		}
	})
}

func TestF02_LaterScopesReplaceMembers(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.change("system", "default", pairs("safety", pairs("allowed_topics", []string{"a"}), "budget", 1, "pools", nil, "timeouts", nil)).ok(204)
		r.change("org", "default", pairs("safety", pairs("denied_topics", []string{"b"}))).ok(204)
		r.change("team", "blue", pairs("slo", "team", "budget", 2)).ok(204)
		r.change("workflow", "flow", pairs("slo", "workflow")).ok(204)
		r.change("step", "s", pairs("slo", "step")).ok(204)
		for query, want := range map[string]string{
			"":                             "system:2|org:1|team:0|workflow:0|step:0 map[budget:1 safety:map[denied_topics:[b]]]",
			"?org_id=default&team_id=blue": "system:2|org:1|team:1|workflow:0|step:0 map[budget:2 safety:map[denied_topics:[b]] slo:team]",
			"?team_id=blue&workflow_id=flow&step_id=s": "system:2|org:1|team:1|workflow:1|step:1 map[budget:2 safety:map[denied_topics:[b]] slo:step]",
			"?team_id=none&workflow_id=flow":           "system:2|org:1|team:0|workflow:1|step:0 map[budget:1 safety:map[denied_topics:[b]] slo:workflow]",
		} {
			if e := r.effective(query); fmt.Sprintf("%s %v", e.Version, e.Data) != want {
				t.Errorf("%q: %+v", query, e)
			}
		}
		var theirs effective
		r.as("k-other", "GET", configPath+"/effective?team_id=blue&workflow_id=flow&step_id=s", nil).ok(200).json(&theirs)
		if got := fmt.Sprintf("%s %v", theirs.Version, theirs.Data); got != "system:2|org:0|team:0|workflow:0|step:0 map[budget:1 safety:map[allowed_topics:[a]]]" {
			t.Errorf("another tenant has %s", got)
		}
	})
}

func TestF03_F04_TheHashOfWhatIsEffective(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.change("system", "default", pairs("pools", nil, "timeouts", nil)).ok(204)
		want := effective{"system:2|org:0|team:0|workflow:0|step:0", "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", map[string]any{}}
		if got := r.effective(""); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%+v", got)
		}
		var hashes []string
		for _, data := range []string{`{"b":{"y":1,"x":"<é>"},"a":[1.50]}`, `{ "a" : [1.50], "b":{"x":"\u003cé>", "y":1}}`} {
			r.post(configPath, `{"scope":"org","data":`+data+`}`).ok(204)
			hashes = append(hashes, r.effective("").Hash)
		}
		const canonical = "7a8a2443c2cd91d6f65509fc78a250bbb6482aff418819850e8991ee6a52e929" // of {"a":[1.50],"b":{"x":"\u003cé\u003e","y":1}}
		if hashes[0] != canonical || hashes[1] != canonical {
			t.Errorf("%v, want %s twice", hashes, canonical)
		}
	})
}

func TestF05_EveryWriteIsARevision(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		for i := range 3 {
			r.post(configPath, pairs("scope", "org", "data", pairs("a", 1))).ok(204)
			if e := r.envelope("org", "default"); e.Revision != int64(i+1) || !e.UpdatedAt.Equal(time.Now().Truncate(time.Microsecond)) {
				t.Errorf("%+v at %v", e, time.Now())
			}
			time.Sleep(250 * time.Millisecond)
		}
		if text := r.get(configPath + "?scope=org&scope_id=").ok(200).Body; !strings.Contains(text, `"updated_at":"2026-11-23T12:00:00.5Z"`) {
			t.Errorf("%s", text)
		}
		r.post(configPath, `{"scope":"org"}`).ok(204)
		if e := r.envelope("org", "default"); e.Revision != 4 || e.Data["a"] != 1.0 {
			t.Errorf("nothing merged: %+v", e)
		}
		var said []string
		for _, e := range r.entries("default") {
			said = append(said, fmt.Sprintf("%s %s %s %q %q", e.Action, e.ResourceType, e.ResourceID, e.Before, e.After))
		}
		slices.Reverse(said)
		if want := []string{
			`set config org/default "" "1"`, `set config org/default "1" "2"`, `set config org/default "2" "3"`, `set config org/default "3" "4"`,
		}; !slices.Equal(said, want) {
			t.Errorf("%q", said)
		}
	})
}

func TestF05_AChangeOfWhatTheClientHasRead(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		set := func(at, scope, id string, data any) answer {
			return r.as("k-admin", "POST", configPath, pairs("scope", scope, "scope_id", id, "data", data), "If-Match", at)
		}
		bundle := pairs("a/b", pairs("content", "rules: []"))
		for _, c := range []struct {
			scope, id string
			first     any // moves the document by the part that is kept elsewhere, where there is one
		}{
			{"team", "blue", pairs("x", 1)}, {"system", "policy", pairs("bundles", bundle)}, {"system", "packs", pairs("installed", pairs("a", pairs("id", "a")))},
		} {
			name := c.scope + "/" + c.id
			set("1", c.scope, c.id, c.first).refused(409, "config update conflict: "+name+" is at revision 0, not at 1")
			set("0", c.scope, c.id, c.first).ok(204)
			set("0", c.scope, c.id, pairs("note", 1)).refused(409, "config update conflict: "+name+" is at revision 1, not at 0")
			set(`"1"`, c.scope, c.id, pairs("note", 1)).ok(204)
			set(" 2 ", c.scope, c.id, c.first).ok(204)
			set("2", c.scope, c.id, c.first).refused(409, "config update conflict: "+name+" is at revision 3, not at 2")
			if e := r.envelope(c.scope, c.id); e.Revision != 3 || e.Data["note"] != 1.0 {
				t.Errorf("%s: %+v", name, e)
			}
		}
		for _, at := range []string{"*", "seven", "-1", `W/"1"`, `"1", "2"`} {
			set(at, "team", "blue", pairs("x", 2)).refused(400, "invalid If-Match: it is the revision of a document")
		}
		if n := len(r.entries("default")); n != 9 {
			t.Errorf("what was refused is audited: %d entries", n)
		}
	})
}

func TestF06_APostMerges(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.post(configPath, pairs("scope", "team", "scope_id", "a", "data", pairs("x", pairs("a", 1, "n", nil), "y", 2), "meta", pairs("by", "maya", "why", "new"))).ok(204)
		r.post(configPath, `{"scope":"team","scope_id":"a","data":{"x":{"b":2}, "z":"<3>"}}`).ok(204)
		if e := r.envelope("team", "a"); fmt.Sprint(e.Data, e.Meta) != "map[x:map[b:2] y:2 z:<3>] map[by:maya why:new]" {
			t.Errorf("%+v", e)
		}
		r.post(configPath, pairs("scope", "team", "scope_id", "a", "data", pairs("x", nil, "none", nil), "meta", pairs("by", "ada"))).ok(204)
		if e := r.envelope("team", "a"); fmt.Sprint(e.Data, e.Meta) != "map[y:2 z:<3>] map[by:ada]" || e.Revision != 3 {
			t.Errorf("%+v", e)
		}
		r.post(configPath, pairs("scope", "team", "scope_id", "a", "data", nil, "meta", pairs())).ok(204)
		if text := r.get(configPath + "?scope=team&scope_id=a").ok(200).Body; strings.Contains(text, "meta") || !strings.Contains(text, `"data":{"y":2,"z":"<3>"}`) {
			t.Errorf("%s", text)
		}
	})
}

func TestF07_WhatAPostIs(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		before := r.envelope("system", "default")
		for i, flat := range []string{`{"foo":1}`, `{"scope":"","foo":2}`, `{"scope":7,"foo":3}`, `{"scope":null,"foo":4}`} {
			r.post(configPath, flat).ok(204)
			if e := r.envelope("system", "default"); e.Data["foo"] != float64(i+1) || e.Revision != before.Revision+int64(i)+1 || e.Data["pools"] == nil {
				t.Errorf("%s: %+v", flat, e)
			}
		}
		for body, want := range map[string]string{
			``: "invalid json", `[]`: "invalid json", `"x"`: "invalid json", `null`: "invalid json", `{`: "invalid json",
			`{"scope":"org","data":[]}`: "invalid json", `{"scope":"org","data":"x"}`: "invalid json", `{"scope":"org","scope_id":7}`: "invalid json",
			`{"scope":"org","meta":{"a":1}}`:                                                                                "invalid json",
			`{"scope":"orgs","data":{}}`:                                                                                    "invalid scope",
			`{"scope":"team","data":{}}`:                                                                                    "scope_id required for non-system scope",
			`{"scope":"step","scope_id":" "}`:                                                                               "scope_id required for non-system scope",
			`{"scope":"team","scope_id":"a\u0001"}`:                                                                         "invalid scope_id: it has at most 512 bytes, and no control characters",
			`{"scope":"team","scope_id":"` + strings.Repeat("a", 513) + `"}`:                                                "invalid scope_id: it has at most 512 bytes, and no control characters",
			`{"bundles":{}}`:                                                                                                "bundles go to config system/policy",
			`{"scope":"system","data":{"bundles":null}}`:                                                                    "bundles go to config system/policy",
			`{"scope":"org","meta":{"a":"` + strings.Repeat("x", 16<<10) + `"}}`:                                            "meta has 16385 bytes, more than 16384",
			`{"scope":"system","scope_id":"policy_audit","data":{"entries":[]}}`:                                            "config system/policy_audit is not written through this route, but by every change",
			`{"scope":"system","scope_id":"policy_snapshots"}`:                                                              "config system/policy_snapshots is not written through this route, but by POST /api/v1/policy/bundles/snapshots, /policy/publish and /policy/rollback",
			`{"scope":"system","scope_id":"policy","data":{"bundles":[]}}`:                                                  "config system/policy: bundles must be an object",
			`{"scope":"system","scope_id":"packs","data":{"installed":7}}`:                                                  "config system/packs: installed must be an object",
			`{"scope":"system","scope_id":"packs","data":{"installed":{"a":7}}}`:                                            "pack a: its record must be an object",
			`{"scope":"system","scope_id":"packs","data":{"installed":{"A":{}}}}`:                                           `pack id "A": it has 1 to 63 of a-z, 0-9 and -`,
			`{"scope":"system","scope_id":"packs","data":{"installed":{"a":{"x":"` + strings.Repeat("x", 256<<10) + `"}}}}`: "pack a: its record has 262152 bytes, more than 262144",
		} {
			r.post(configPath, body).refused(400, want)
		}
		for query, want := range map[string]string{
			"?scope=orgs": "invalid scope", "?scope=team": "scope_id required for non-system scope", "?scope=step&scope_id=": "scope_id required for non-system scope",
		} {
			r.get(configPath+query).refused(400, want)
		}
		r.get(configPath+"?scope=team&scope_id=a").refused(404, "config not found")
		r.get(configPath+"?scope=system&scope_id=anything").refused(404, "config not found")
		if n := len(r.entries("default")); n != 4 {
			t.Errorf("what was refused is audited: %d entries", n)
		}
	})
}

func TestF08_DocumentsAreOfTheirTenant(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.post(configPath, pairs("scope", "org", "scope_id", "other", "data", pairs("x", 1))).refused(403, "tenant access denied")
		r.get(configPath+"?scope=org&scope_id=other").refused(403, "tenant access denied")
		r.get(configPath+"/effective?org_id=other").refused(403, "tenant access denied")
		r.post(configPath, pairs("scope", "org", "scope_id", "", "data", pairs("x", "mine"))).ok(204)
		r.change("team", "blue", pairs("x", "mine")).ok(204)
		r.as("k-other", "GET", configPath+"?scope=org&scope_id=other", nil).refused(404, "config not found")
		r.as("k-other", "GET", configPath+"?scope=team&scope_id=blue", nil).refused(404, "config not found")
		r.as("k-other", "POST", configPath, pairs("scope", "team", "scope_id", "blue", "data", pairs("x", "theirs"))).ok(204)
		if e := r.envelope("team", "blue"); e.Data["x"] != "mine" || e.Revision != 1 {
			t.Errorf("%+v", e)
		}
		if e := r.envelope("org", "default"); e.Data["x"] != "mine" {
			t.Errorf("%+v", e)
		}
		r.as("k-cross", "POST", configPath, pairs("scope", "org", "data", pairs("x", "across")), "X-Tenant-ID", "other").ok(204)
		var theirs envelope
		if r.as("k-other", "GET", configPath+"?scope=org&envelope=1", nil).ok(200).json(&theirs); theirs.Data["x"] != "across" {
			t.Errorf("%+v", theirs)
		}
	})
}

func TestWhoMayDoWhatWithDocuments(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.change("org", "default", pairs("x", 1)).ok(204)
		for _, key := range []string{"k-user", "k-viewer", "k-worker-default"} {
			r.as(key, "GET", configPath+"?scope=org", nil).refused(403, "access denied")
			r.as(key, "GET", configPath+"/effective", nil).refused(403, "access denied")
			r.as(key, "POST", configPath, pairs("x", 1)).refused(403, "access denied")
		}
		r.as("k-operator", "GET", configPath+"?scope=org", nil).ok(200)
		r.as("k-operator", "GET", configPath+"/effective", nil).ok(200)
		r.as("k-operator", "POST", configPath, pairs("scope", "org", "data", pairs())).refused(403, "access denied")
		for _, id := range []string{"default", "policy", "packs", "policy_audit", "none"} {
			r.as("k-operator", "GET", configPath+"?scope=system&scope_id="+id, nil).refused(403, "access denied")
		}
		r.as("k-operator", "GET", configPath, nil).refused(403, "access denied")
	})
}

// Denied topics hold for every decision that begins after the answer: each goes by the revision of the head.
func TestF09_DeniedTopicsHoldAtOnce(t *testing.T) {
	cfg := config()
	cfg.Containers = 2
	virtually(t, cfg, func(t *testing.T, r *rig) {
		r.decides("job.test.x", "scheduled: tests may")
		for n := range 2 {
			r.submitTo(n, "job.test.x")
		}
		r.change("org", "default", pairs("safety", pairs("denied_topics", []string{"job.test.x"}))).ok(204)
		r.decides("job.test.x", "denied: topic 'job.test.x' denied by effective config")
		for n := range 2 {
			if j := r.now(r.submitTo(n, "job.test.x")); j.State != "DENIED" {
				t.Errorf("by container %d a job is %s", n, j.State)
			}
		}
		var v verdict
		r.post("/api/v1/policy/evaluate", pairs("topic", "job.test.x")).ok(200).json(&v)
		if v.Decision != "DECISION_TYPE_DENY" || v.Reason != "topic 'job.test.x' denied by effective config" {
			t.Errorf("%+v", v)
		}
		if rc := r.submitAs("k-other", "topic", "job.test.x"); rc.Status != "scheduled" {
			t.Errorf("another tenant's is %+v", rc)
		}
		r.change("org", "default", pairs("safety", nil)).ok(204)
		r.decides("job.test.x", "scheduled: tests may")
	})
}

func TestT112_T113_SafetyOfDocuments(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.post(configPath, `{"safety":{"denied_topics":["job.test.x"]}}`).ok(204)
		r.decides("job.test.x", "denied: topic 'job.test.x' denied by effective config")
		r.change("org", "default", pairs("safety", pairs("pii_action", "log"))).ok(204) // replaces the whole member
		r.decides("job.test.x", "scheduled: tests may")
		r.change("org", "default", pairs("safety", pairs("denied_topics", "job.test.y"))).ok(204)
		if rc := r.submit("topic", "job.test.x"); rc.Status != "denied" {
			t.Errorf("by a malformed member a job is %+v", rc)
		}
		r.change("org", "default", pairs("safety", "none")).ok(204)
		if rc := r.submit("topic", "job.test.x"); rc.Status != "denied" {
			t.Errorf("by a malformed member a job is %+v", rc)
		}
	})
}

// Who asks how expects what: the table of the contract.
func TestChecklist4_ShapesOfDocuments(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		flat := r.get(configPath).ok(200).Body // the second dashboard
		full := r.get(configPath + "?scope=system&scope_id=default").ok(200).Body
		if !strings.HasPrefix(flat, `{"pools":{`) || !strings.HasPrefix(full, `{"scope":"system","scope_id":"default","data":`+flat+`,"revision":1,"updated_at":"2026-11-23T12:00:00Z"`) {
			t.Fatalf("%s and %s", flat, full)
		}
		for query, want := range map[string]string{
			"?scope=system": flat, "?scope_id=default": flat, "?scope=&scope_id=": full, "?scope=system&scope_id=": full,
			"?envelope=true": full, "?envelope=1": full, "?envelope=YES": full, "?envelope=on": full, "?envelope=y": full,
			"?envelope=false": flat, "?envelope=": flat, "?envelope=x": flat, "?scope=system&scope_id=default&envelope=false": flat,
		} {
			if got := r.get(configPath + query).ok(200).Body; got != want {
				t.Errorf("%q: %s", query, got)
			}
		}
		// The first dashboard posts what it has read, whole; the second one what it has changed.
		r.post(configPath, strings.Replace(full, `"timeouts":`, `"limits":{"max_concurrent_runs":5},"timeouts":`, 1)).ok(204)
		r.post(configPath, pairs("observability", pairs("level", "debug"))).ok(204)
		e := r.envelope("system", "default")
		if e.Revision != 3 || len(e.Data) != 4 || fmt.Sprint(e.Data["limits"], e.Data["observability"]) != "map[max_concurrent_runs:5] map[level:debug]" {
			t.Errorf("%+v", e)
		}
		r.post(configPath, pairs("pools", nil, "timeouts", nil, "limits", nil, "observability", nil)).ok(204)
		if got := r.get(configPath).ok(200).Body; got != "{}" {
			t.Errorf("nothing is left: %s", got)
		}
	})
}

func TestADocumentThatWasNeverWritten(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.forget(docs.SystemScope, docs.DefaultID)
		if got := r.get(configPath).ok(200).Body; got != "{}" {
			t.Errorf("flat: %s", got)
		}
		const want = `{"scope":"system","scope_id":"default","data":{},"revision":0,"updated_at":"0001-01-01T00:00:00Z"}`
		if got := r.get(configPath + "?envelope=true").ok(200).Body; got != want {
			t.Errorf("envelope: %s", got)
		}
		for _, id := range []string{"policy", "packs", "pack_catalogs", "policy_snapshots", "policy_audit"} {
			r.get(configPath+"?scope=system&scope_id="+id).refused(404, "config not found")
		}
		r.post(configPath, want).ok(204)
		if e := r.envelope("system", "default"); e.Revision != 1 {
			t.Errorf("%+v", e)
		}
	})
}

// Within two seconds every instance routes by what was posted, and the queue of a pool that is new is there before.
func TestT097_WhatWasReadIsPostedAndRoutesTheSame(t *testing.T) {
	cfg := config()
	cfg.Containers = 2
	said := listenTo(&cfg)
	virtually(t, cfg, func(t *testing.T, r *rig) {
		for n := range 2 { // every instance has settings by now
			r.submitTo(n, "job.test.work")
		}
		r.post(configPath, r.get(configPath+"?envelope=true").ok(200).Body).ok(204)
		time.Sleep(2 * time.Second)
		r.decides("job.test.gpu", "scheduled: tests may")
		if rc := r.submit("topic", "job.test.gpu"); r.now(rc.JobID).Pool != "gpu" || said.said("section refused") {
			t.Errorf("routed to %q", r.now(rc.JobID).Pool)
		}
		var topics map[string]any
		e := r.envelope("system", "default")
		topics, _ = e.Data["pools"].(map[string]any)["topics"].(map[string]any)
		topics["job.test.fresh"] = "brand-new"
		r.post(configPath, pairs("pools", e.Data["pools"])).ok(204)
		if n, err := r.plane.Dispatcher.Queues.Depth(t.Context(), resources.Pool("brand-new")); err != nil || n != 0 {
			t.Errorf("its queue: %d, %v", n, err)
		}
		time.Sleep(2 * time.Second)
		for _, id := range []string{r.submit("topic", "job.test.fresh").JobID, r.submitTo(0, "job.test.fresh"), r.submitTo(1, "job.test.fresh")} {
			if got := r.now(id).Pool; got != "brand-new" {
				t.Errorf("%s is routed to %q", id, got)
			}
		}
		if n := r.depth(resources.Pool("brand-new")); n != 3 {
			t.Errorf("%d messages", n)
		}
		many := pairs()
		for i := range 51 {
			many[fmt.Sprintf("job.test.m%d", i)] = fmt.Sprintf("many-%d", i)
		}
		r.post(configPath, pairs("pools", pairs("topics", many))).refused(400, "51 new pools at once; add at most 50 with one write")
	})
}

func TestT098_AnInvalidSectionIsStoredAndNotInForce(t *testing.T) {
	cfg := config()
	said := listenTo(&cfg)
	virtually(t, cfg, func(t *testing.T, r *rig) {
		r.post(configPath, pairs("pools", pairs("topics", pairs("job.test.work", "")), "timeouts", 7)).ok(204)
		time.Sleep(2 * time.Second)
		rc := r.submit()
		if got := r.now(rc.JobID).Pool; got != "main" || !said.said("level=ERROR", "section refused", "pools") || !said.said("section refused", "timeouts") {
			t.Errorf("routed to %q", got)
		}
		if e := r.envelope("system", "default"); e.Data["timeouts"] != 7.0 {
			t.Errorf("%+v", e)
		}
	})
}

// The bundles of system/policy are those of their own routes.
func TestTrap12_TheDocumentOfThePolicyAndTheRoutesOfBundlesAreOne(t *testing.T) {
	virtually(t, bare(), func(t *testing.T, r *rig) {
		bundle := func(rule, decision string) map[string]any {
			return pairs("content", aRule(rule, "topics: [job.b.*]", decision), "version", "1.0", "unknown", []int{1})
		}
		// cordumctl installs a pack: it reads, adds its fragment, and posts the whole.
		r.get(configPath+"?scope=system&scope_id=policy").refused(404, "config not found")
		r.change("system", "policy", pairs("bundles", pairs("db/safety", bundle("one", "allow")), "note", "x")).ok(204)
		r.decides("job.b.x", "scheduled: because of one")
		e := r.envelope("system", "policy")
		if e.Revision != 1 || e.Data["note"] != "x" || fmt.Sprint(e.Data["bundles"]) != fmt.Sprint(pairs("db/safety", bundle("one", "allow"))) {
			t.Errorf("%+v", e)
		}
		if got := r.bundle("db/safety"); got["content"] != strings.TrimSpace(bundle("one", "allow")["content"].(string)) {
			t.Errorf("%v", got)
		}
		// The studio publishes another.
		r.draft("secops/a", aRule("two", "topics: [job.b.y]", "deny"))
		if got := r.envelope("system", "policy"); got.Revision != 1 {
			t.Errorf("a draft is a revision: %+v", got)
		}
		time.Sleep(time.Second)
		r.publishBundles(`{}`)
		e = r.envelope("system", "policy")
		bundles, _ := e.Data["bundles"].(map[string]any)
		if e.Revision != 2 || len(bundles) != 2 || e.Data["note"] != "x" || !e.UpdatedAt.Equal(time.Now().Truncate(time.Microsecond)) {
			t.Errorf("%+v", e)
		}
		// What is there already changes no bundle, whoever writes it how; the revision of the policy stays, and so does what waits for a human.
		before, entries := r.inForce(), len(r.entries("default"))
		r.post(configPath, r.get(configPath+"?scope=system&scope_id=policy").ok(200).Body).ok(204)
		if got := r.envelope("system", "policy"); got.Revision != 3 || fmt.Sprint(r.inForce()) != fmt.Sprint(before) || len(r.entries("default")) != entries+1 {
			t.Errorf("%+v", got)
		}
		// What does not compile changes nothing, not even beside.
		r.change("system", "policy", pairs("bundles", pairs("db/safety", pairs("content", "rules: 7")), "note", "y")).refused(400, `invalid policy bundle "db/safety": 1:8 must be a list`)
		r.change("system", "policy", pairs("bundles", pairs("db/safety", 7))).refused(400, `invalid policy bundle "db/safety": a bundle must be an object with content, or a text`)
		if got := r.envelope("system", "policy"); got.Revision != 3 || got.Data["note"] != "x" {
			t.Errorf("%+v", got)
		}
		r.change("system", "policy", pairs("bundles", pairs("db/safety", bundle("three", "deny")))).ok(204)
		r.decides("job.b.x", "denied: because of three")
		r.decides("job.b.y", "denied: because of three")
		r.change("system", "policy", pairs("bundles", nil)).ok(204)
		r.decides("job.b.x", unmatched)
		if got := r.get(configPath + "?scope=system&scope_id=policy&envelope=false").ok(200).Body; got != `{"bundles":{},"note":"x"}` {
			t.Errorf("%s", got)
		}
		if got := r.envelope("system", "policy"); got.Revision != 5 {
			t.Errorf("%+v", got)
		}
		var said []string
		for _, e := range r.entries("default") {
			if e.ResourceType == "config" {
				said = append(said, e.ResourceID+" "+e.Before+" "+e.After)
			}
		}
		if want := []string{"system/policy 4 5", "system/policy 3 4", "system/policy 2 3", "system/policy  1"}; !slices.Equal(said, want) {
			t.Errorf("%q", said)
		}
	})
}

func TestDocumentsOfCopiesAndOfTheTrail(t *testing.T) {
	virtually(t, bare(), func(t *testing.T, r *rig) {
		r.draft("secops/a", aRule("one", "topics: [job.b.*]", "allow"))
		c := r.publishBundles(`{"note":"n","message":"m"}`)
		e := r.envelope("system", "policy_snapshots")
		list, _ := e.Data["snapshots"].([]any)
		if len(list) != 2 || e.Revision == 0 {
			t.Fatalf("%+v", e)
		}
		newest, _ := list[0].(map[string]any)
		if newest["id"] != c.After || newest["note"] != "n" || newest["created_at"] == nil || newest["bundles"].(map[string]any)["secops/a"] == nil {
			t.Errorf("%v", newest)
		}
		e = r.envelope("system", "policy_audit")
		var items []any
		for _, i := range r.items("/api/v1/policy/audit") {
			for _, name := range []string{"request_id", "before", "after"} { // newer than the document
				delete(i, name)
			}
			items = append(items, i)
		}
		entries, _ := e.Data["entries"].([]any)
		if fmt.Sprint(entries) != fmt.Sprint(items) || len(entries) != 2 {
			t.Errorf("%v\n%v", entries, items)
		}
		if first, _ := entries[0].(map[string]any); first["action"] != "publish" || first["snapshot_after"] != c.After {
			t.Errorf("%v", first)
		}
		r.as("k-other", "GET", configPath+"?scope=system&scope_id=policy_audit", nil).refused(404, "config not found")

		for i := range 6 { // ten copies of a quarter of a megabyte are more than is shown
			time.Sleep(time.Second)
			r.draft("secops/a", aRule(fmt.Sprintf("r%d", i), "topics: [job.b.*]", "allow")+strings.Repeat("# "+strings.Repeat("x", 997)+"\n", 250))
			r.publishBundles(`{}`)
		}
		list, _ = r.envelope("system", "policy_snapshots").Data["snapshots"].([]any)
		if len(list) != 8 {
			t.Errorf("%d snapshots", len(list))
		}
	})
}

// Records of packs come back as they were written, one by one, whatever else is in them.
func TestTheDocumentOfPacks(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		packs := &registry.Store{Table: r.plane.Dispatcher.Jobs.Table}
		all := func() registry.Snapshot {
			t.Helper()
			s, err := packs.All(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		record := func(id, version string, more ...any) map[string]any {
			return pairs(append([]any{"id", id, "version", version, "unknown", pairs("x", "<1>"), "overlays", pairs("config", []any{})}, more...)...)
		}
		r.change("system", "packs", pairs("installed", pairs("a", record("a", "1"), "b", record("b", "1")), "note", 1)).ok(204)
		e := r.envelope("system", "packs")
		if e.Revision != 1 || fmt.Sprint(e.Data["installed"]) != fmt.Sprint(pairs("a", record("a", "1"), "b", record("b", "1"))) {
			t.Errorf("%+v", e)
		}
		if s := all(); s.Revision != 1 || s.Records["a"].Tenant != "default" || s.Records["a"].Revision != 1 {
			t.Errorf("%+v", s)
		}
		// The installer keeps beside a record what undoes it; who rewrites the record keeps that, unless its overlays are others.
		before := all()
		mine := before.Records["a"]
		mine.Undo = []byte("undo")
		if err := r.plane.Dispatcher.Jobs.Table.Write(t.Context(), registry.Put(before, mine, time.Now().UnixMicro())...); err != nil {
			t.Fatal(err)
		}
		r.change("system", "packs", pairs("installed", pairs("a", record("a", "2"), "b", record("b", "1")))).ok(204)
		s := all()
		if a := s.Records["a"]; string(a.Undo) != "undo" || a.Tenant != "default" || a.Revision != 3 || s.Records["b"].Revision != 1 || s.Revision != 3 {
			t.Errorf("%+v", s)
		}
		// What was there before a pack is known to its uninstallation alone, and what is installed for one tenant is no other's to change.
		r.change("system", "packs", pairs("installed", pairs("b", record("b", "1")))).refused(409, "pack a is installed; uninstall it")
		change := func(installed any) answer {
			return r.as("k-other", "POST", configPath, pairs("scope", "system", "scope_id", "packs", "data", pairs("installed", installed)), "X-Tenant-ID", "other")
		}
		for _, installed := range []any{
			pairs("a", record("a", "2", "status", "DISABLED"), "b", record("b", "1")), pairs("a", record("a", "2")), pairs("a", nil, "b", record("b", "1")), pairs(), nil,
		} {
			change(installed).refused(403, "tenant access denied")
		}
		change(pairs("a", record("a", "2"), "b", record("b", "1"), "c", record("c", "1"))).ok(204) // a client writes all of them, to add one
		if got := all(); len(got.Records) != 3 || got.Records["c"].Tenant != "other" || got.Records["a"].Tenant != "default" {
			t.Errorf("%+v", got)
		}
		change(pairs("a", record("a", "2"), "b", record("b", "1"))).ok(204)
		r.change("system", "packs", pairs("installed", pairs("a", record("a", "2", "overlays", pairs("config", []any{pairs("name", "x")}))))).ok(204)
		s = all()
		if a := s.Records["a"]; a.Undo != nil || a.Tenant != "default" || len(s.Records) != 1 {
			t.Errorf("%+v", s)
		}
		revision := r.envelope("system", "packs").Revision
		r.post(configPath, r.get(configPath+"?scope=system&scope_id=packs").ok(200).Body).ok(204) // the same once more
		if e := r.envelope("system", "packs"); e.Revision != revision+1 || all().Revision != s.Revision || e.Data["note"] != 1.0 {
			t.Errorf("%+v", e)
		}
		r.change("system", "packs", pairs("note", 2)).ok(204) // says nothing of packs
		if e := r.envelope("system", "packs"); e.Revision != revision+2 || e.Data["note"] != 2.0 || len(all().Records) != 1 {
			t.Errorf("%+v", e)
		}
		many := pairs()
		for i := range 91 {
			many[fmt.Sprintf("p%d", i)] = pairs()
		}
		many["a"] = record("a", "2", "overlays", pairs("config", []any{pairs("name", "x")}))
		if got := r.change("system", "packs", pairs("installed", many)).ok(400).object()["error"]; got != "91 packs, of 182 bytes, change at once; at most 90, of 3145728 bytes, do" {
			t.Errorf("%v", got)
		}
		delete(many, "p90")
		r.change("system", "packs", pairs("installed", many)).ok(204)
		if got := len(all().Records); got != 91 {
			t.Errorf("%d packs", got)
		}
		r.change("system", "packs", pairs("installed", pairs())).refused(400, "91 packs, of 0 bytes, change at once; at most 90, of 3145728 bytes, do")
		delete(many, "a")
		r.change("system", "packs", pairs("installed", pairs("a", pairs()))).ok(400)
		r.change("system", "packs", pairs("installed", pairs("p0", pairs(), "p1", pairs()))).ok(204)
		r.change("system", "packs", pairs("installed", nil)).ok(204)
		if got := r.get(configPath + "?scope=system&scope_id=packs&envelope=false").ok(200).Body; got != `{"installed":{},"note":2}` {
			t.Errorf("%s", got)
		}
	})
}

// What several write at once is all there, each a revision, and each entry of the trail begins where another ended.
func TestWritersAtOnceLoseNothing(t *testing.T) {
	for _, test := range []struct {
		scope, id string
		data      func(i int) map[string]any
	}{
		{"org", "default", func(i int) map[string]any { return pairs(fmt.Sprintf("k%d", i), i) }},
		{"system", "default", func(i int) map[string]any { return pairs(fmt.Sprintf("k%d", i), i) }},
		{"system", "policy", func(i int) map[string]any {
			return pairs(fmt.Sprintf("k%d", i), i, "bundles", pairs("db/safety", pairs("content", aRule(fmt.Sprintf("r%d", i), "topics: [job.b.*]", "allow"))))
		}},
		{"system", "packs", func(i int) map[string]any {
			return pairs(fmt.Sprintf("k%d", i), i, "installed", pairs("a", pairs("version", fmt.Sprint(i))))
		}},
	} {
		virtually(t, bare(), func(t *testing.T, r *rig) {
			const writers = 8
			var first int64
			if a := r.get(configPath + "?scope=" + test.scope + "&scope_id=" + test.id); a.Status == 200 {
				first = r.envelope(test.scope, test.id).Revision
			}
			var all sync.WaitGroup
			for i := range writers {
				all.Go(func() { r.change(test.scope, test.id, test.data(i)).ok(204) })
			}
			all.Wait()
			e := r.envelope(test.scope, test.id)
			for i := range writers {
				if e.Data[fmt.Sprintf("k%d", i)] != float64(i) {
					t.Errorf("%s/%s: k%d is lost: %+v", test.scope, test.id, i, e)
				}
			}
			if e.Revision != first+writers {
				t.Errorf("%s/%s: revision %d after %d writes on %d", test.scope, test.id, e.Revision, writers, first)
			}
			entries := slices.DeleteFunc(r.entries("default"), func(e audit.Entry) bool { return e.ResourceType != "config" })
			after := map[string]bool{}
			for _, e := range entries {
				after[e.After] = true
			}
			if len(entries) != writers || len(after) != writers {
				t.Errorf("%s/%s: %+v", test.scope, test.id, entries)
			}
		})
	}
}

// A document of megabytes is an object, and everything that reads it goes on.
func TestALargeDocument(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		long := strings.Repeat("all of it ", 150_000)
		r.change("system", "default", pairs("long", long)).ok(204)
		r.change("org", "default", pairs("long", long+"!", "safety", pairs("denied_topics", []string{"job.test.x"}))).ok(204)
		if e := r.envelope("system", "default"); e.Data["long"] != long || e.Data["pools"] == nil {
			t.Errorf("%d members", len(e.Data))
		}
		if e := r.effective(""); e.Data["long"] != long+"!" || e.Version != "system:2|org:1|team:0|workflow:0|step:0" {
			t.Errorf("%s", e.Version)
		}
		time.Sleep(2 * time.Second)
		r.decides("job.test.x", "denied: topic 'job.test.x' denied by effective config")
		if rc := r.submit("topic", "job.test.gpu"); r.now(rc.JobID).Pool != "gpu" {
			t.Errorf("%+v", rc)
		}
		r.post(configPath, pairs("more", strings.Repeat("x", 700_000))).ok(413)
		if got := r.post(configPath, pairs("more", strings.Repeat("x", 700_000))).object()["error"]; !strings.HasPrefix(fmt.Sprint(got), "config system/default would have 22") {
			t.Errorf("%v", got)
		}
		r.post(configPath, pairs("more", strings.Repeat("x", 2<<20))).ok(413)
		if e := r.envelope("system", "default"); e.Revision != 2 {
			t.Errorf("revision %d", e.Revision)
		}
		r.change("system", "default", pairs("long", nil)).ok(204)
		if e := r.envelope("system", "default"); e.Data["long"] != nil || e.Revision != 3 {
			t.Errorf("revision %d", e.Revision)
		}
	})
}

// A fault at any call of a change: it happened with its entry, or not at all, and who tries again after a failure has it.
func TestAChangeOfADocumentIsNeverHalfDone(t *testing.T) {
	for name, data := range map[string]func(n int) (scope, id string, data map[string]any){
		"org": func(n int) (string, string, map[string]any) {
			return "org", "default", pairs("n", n, "long", strings.Repeat("x", 40<<10)+fmt.Sprint(n))
		},
		"pools": func(n int) (string, string, map[string]any) {
			return "system", "default", pairs("n", n, "pools", pairs("topics", pairs("job.b.*", fmt.Sprintf("new-%d", n))))
		},
		"policy": func(n int) (string, string, map[string]any) {
			return "system", "policy", pairs("n", n, "bundles", pairs("a/b", pairs("content", aRule(fmt.Sprintf("r%d", n), "topics: [job.b.*]", "allow"))))
		},
		"packs": func(n int) (string, string, map[string]any) {
			return "system", "packs", pairs("n", n, "installed", pairs(fmt.Sprintf("p%d", n), pairs("n", n)))
		},
	} {
		n := 0
		everywhere(t, bare(), func(t *testing.T, r *rig, deed func(func() answer) answer) {
			n++
			scope, id, wanted := data(n)
			revision := func() int64 {
				if a := r.get(configPath + "?scope=" + scope + "&scope_id=" + id); a.Status == 404 {
					return 0
				}
				return r.envelope(scope, id).Revision
			}
			before, entries := revision(), r.entriesOf(scope+"/"+id)
			a := deed(func() answer { return r.change(scope, id, wanted) })
			changed := revision() - before
			if got := r.entriesOf(scope+"/"+id) - entries; int64(got) != changed || changed > 1 || a.Status == 204 && changed != 1 {
				t.Errorf("%s: answered %d, %d revisions, %d entries", name, a.Status, changed, got)
			}
			if a.Status != 204 {
				if a.Status/100 != 5 {
					t.Errorf("%s: answered %d %s", name, a.Status, a.Body)
				}
				r.change(scope, id, wanted).ok(204)
			}
			e := r.envelope(scope, id)
			text, err := json.Marshal(wanted)
			if err != nil {
				t.Fatal(err)
			}
			var want map[string]any
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			for member, v := range want {
				if fmt.Sprint(e.Data[member]) != fmt.Sprint(v) {
					t.Errorf("%s: %s is not what was posted", name, member)
				}
			}
		})
	}
}

// Who listens hears of a change: of the system's the default tenant, of others their own. Policy and packs are documents as well, whatever changes them.
func TestListenersHearOfChanges(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		mine, theirs := r.watch("k-admin", "/api/v1/stream"), r.watch("k-other", "/api/v1/stream")
		r.change("org", "default", pairs("x", 1)).ok(204)
		r.as("k-other", "POST", configPath, pairs("scope", "org", "data", pairs("x", 1))).ok(204)
		r.as("k-other", "POST", configPath, pairs("scope", "system", "scope_id", "pack_catalogs", "data", pairs("x", 1))).ok(204)
		r.post(configPath, pairs("scope", "orgs")).ok(400)
		r.draft("secops/a", aRule("r", "topics: [job.a]", "allow"))
		before := r.publishBundles(pairs()).Before
		time.Sleep(time.Second) // alerts of one moment with one text are one
		r.rollback(before)
		bundle := parcels(t).tgz()
		r.install(bundle).ok(200)
		time.Sleep(time.Second)
		r.install(bundle).ok(200) // changes nothing
		r.uninstall("parcels", true).ok(200)
		r.post("/api/v1/policy/publish", pairs("bundle_ids", []string{"secops/none"})).ok(400)
		time.Sleep(2 * time.Second)
		for _, side := range []struct {
			w    *watcher
			want []string
		}{{mine, []string{"org/default", "system/pack_catalogs", "system/packs", "system/packs", "system/policy", "system/policy"}}, {theirs, []string{"org/other"}}} {
			var heard []string
			for len(side.w.frames) > 0 {
				m := <-side.w.frames
				if alert, ok := m["alert"].(map[string]any); ok {
					heard = append(heard, fmt.Sprint(alert["code"]))
					if alert["level"] != "INFO" || alert["message"] != "config changed" || alert["component"] != "config" || m["createdAt"] == nil {
						t.Errorf("%v", m)
					}
				}
			}
			slices.Sort(heard)
			if !slices.Equal(heard, side.want) {
				t.Errorf("heard of %v, not of %v", heard, side.want)
			}
		}
	})
}

var configExample = regexp.MustCompile("(?s)```json (post|get)(?:=(\\S+))?\n(.*?)```")

// TestTheExamplesOfConfiguration plays docs/configuration.md as it stands there.
func TestTheExamplesOfConfiguration(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := configExample.FindAllStringSubmatch(string(text), -1)
	if len(examples) < 7 {
		t.Fatalf("%d examples", len(examples))
	}
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.forget(docs.SystemScope, docs.DefaultID)
		r.post(configPath, "{}").ok(204)
		for _, e := range examples {
			if e[1] == "post" {
				r.post(configPath, e[3]).ok(204)
				continue
			}
			got := r.get(configPath + e[2]).ok(200).object()
			delete(got, "updated_at")
			delete(got, "hash")
			var want map[string]any
			if err := json.Unmarshal([]byte(e[3]), &want); err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: %v, the page says %v", e[2], got, want)
			}
		}
	})
}
