package plane_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/fetch/fetchtest"
)

// The pages of both dashboards that show configuration, packs and tools, and each member that they read, of the kind of which they take it to be.

// dashboard calls as one of them does.
type dashboard struct {
	r       *rig
	headers []string
}

// dashboards are that of January 2026, which never sends a tenant, and that of February.
func (r *rig) dashboards() map[string]dashboard {
	who := []string{"Accept", "application/json", "X-Principal-Id", "ada", "X-Principal-Role", "admin"}
	return map[string]dashboard{
		"January":  {r, append([]string{"X-Tenant-ID", ""}, who...)},
		"February": {r, append([]string{"X-Tenant-ID", "default", "X-Request-Id", "9f1c"}, who...)},
	}
}

func (d dashboard) call(method, path string, body any, more ...string) answer {
	d.r.t.Helper()
	return d.r.as("k-ada", method, "/api/v1"+path, body, append(slices.Clone(d.headers), more...)...)
}

// reads fails unless an answer has members of those kinds. "items[].id string" is the text id of each element of the list items, of which there is one at
// least, and "installed{}.id string" that of each member of an object.
func (a answer) reads(members ...string) answer {
	a.t.Helper()
	if got := a.ok(200).Header.Get("Content-Type"); got != "application/json" {
		a.t.Errorf("content type %q", got)
	}
	var v any
	a.json(&v)
	for _, m := range members {
		path, kind, _ := strings.Cut(m, " ")
		if problem := lookFor(v, path, kind); problem != "" {
			a.t.Errorf("%s: %s in %s", m, problem, a.Body)
		}
	}
	return a
}

func lookFor(v any, path, kind string) string {
	if path == "" {
		return isA(v, kind)
	}
	if rest, ok := strings.CutPrefix(path, "[]"); ok {
		l, ok := v.([]any)
		if !ok || len(l) == 0 {
			return fmt.Sprintf("%v is no list of anything", v)
		}
		for _, one := range l {
			if problem := lookFor(one, strings.TrimPrefix(rest, "."), kind); problem != "" {
				return problem
			}
		}
		return ""
	}
	m, ok := v.(map[string]any)
	if rest, each := strings.CutPrefix(path, "{}"); each {
		if !ok || len(m) == 0 {
			return fmt.Sprintf("%v is no object with anything", v)
		}
		for _, name := range slices.Sorted(maps.Keys(m)) {
			if problem := lookFor(m[name], strings.TrimPrefix(rest, "."), kind); problem != "" {
				return problem
			}
		}
		return ""
	}
	end := strings.IndexAny(path, ".[{")
	name, rest := path, ""
	if end > 0 {
		name, rest = path[:end], strings.TrimPrefix(path[end:], ".")
	}
	if there, has := m[name]; has || kind == "nothing" {
		return lookFor(there, rest, kind)
	}
	return "no " + name
}

func isA(v any, kind string) string {
	fits := false
	switch kind {
	case "string":
		_, fits = v.(string)
	case "text": // that says something
		s, ok := v.(string)
		fits = ok && s != ""
	case "time":
		s, _ := v.(string)
		_, err := time.Parse(time.RFC3339, s)
		fits = err == nil
	case "number":
		_, fits = v.(float64)
	case "bool":
		_, fits = v.(bool)
	case "list":
		_, fits = v.([]any)
	case "object":
		_, fits = v.(map[string]any)
	case "null", "nothing":
		fits = v == nil
	}
	if fits {
		return ""
	}
	return fmt.Sprintf("%v is no %s", v, kind)
}

// record is what both read of the record of a pack; under is where it stands.
func recordMembers(under string) (members []string) {
	for _, m := range []string{
		"id text", "version text", "status text", "installed_at time", "installed_by text", "manifest.metadata.id text", "manifest.metadata.version text",
		"manifest.metadata.title text", "manifest.metadata.description text", "manifest.metadata.image text", "manifest.compatibility.protocolVersion number",
		"manifest.compatibility.minCoreVersion string", "manifest.compatibility.maxCoreVersion string", "manifest.topics[].name text",
		"manifest.topics[].capability text", "resources.schemas{} text", "resources.workflows{} text", "overlays.config[].name text",
		"overlays.config[].scope text", "overlays.config[].scope_id text", "overlays.config[].key text", "overlays.config[].patch object",
		"overlays.policy[].name text", "overlays.policy[].fragment_id text", "tests.policySimulations[].name text",
		"tests.policySimulations[].expectDecision text", "tests.policySimulations[].request.topic text", "tests.policySimulations[].request.tenantId string",
		"tests.policySimulations[].request.capability string", "tests.policySimulations[].request.packId string",
		"tests.policySimulations[].request.actorId string", "tests.policySimulations[].request.actorType string",
	} {
		members = append(members, under+m)
	}
	return members
}

func TestThePageOfPacks(t *testing.T) {
	tradingOn(t, optional(), func(t *testing.T, r *rig, n *fetchtest.Internet) {
		p := parcels(t).say("pack.yaml", "title: Parcels,", "title: Parcels, image: https://img.example.com/p.svg,")
		s := newShop(n, packsHost)
		bundle := p.tgz()
		s.mux.HandleFunc("GET /parcels.tgz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bundle) })
		s.list("parcels", "1.0.0", s.url("/parcels.tgz"), digestOf(bundle), "title", "Parcels", "description", "d", "author", "me", "homepage", "h", "source", "s",
			"image", "i", "license", "MIT", "capabilities", []string{"parcels.weigh"}, "requires", []string{"scales"}, "risk_tags", []string{"read"})
		r.catalogOf(s)
		r.connect("k-worker", "w1", "main", 1)
		time.Sleep(time.Second)
		for name, d := range r.dashboards() {
			t.Log(name)
			d.call("GET", "/packs", nil).reads("items list")
			d.call("GET", "/marketplace/packs", nil).reads("catalogs[].id text", "catalogs[].title text", "catalogs[].url text", "catalogs[].enabled bool",
				"catalogs[].updated_at time", "fetched_at time", "items[].id text", "items[].version text", "items[].title text", "items[].description text",
				"items[].author text", "items[].homepage text", "items[].source text", "items[].image text", "items[].license text", "items[].url text",
				"items[].sha256 text", "items[].catalog_id text", "items[].catalog_title text", "items[].capabilities[] text", "items[].requires[] text",
				"items[].risk_tags[] text")
			form, kind := formOf("parcels-1.0.0.tgz", bundle, "force", "false", "upgrade", "true", "inactive", "false")
			installed := d.call("POST", "/packs/install", form, "Content-Type", kind).reads(recordMembers("")...)
			if got := d.call("GET", "/packs/parcels", nil).Body; got != installed.Body {
				t.Errorf("another record: %s, was %s", got, installed.Body)
			}
			d.call("GET", "/packs", nil).reads(recordMembers("items[].")...)
			d.call("GET", "/marketplace/packs", nil).reads("items[].installed_version text", "items[].installed_status text", "items[].installed_at time", "cached bool")
			d.call("POST", "/packs/parcels/verify", nil).reads("pack_id text", "results[].name text", "results[].expected text", "results[].got text",
				"results[].reason string", "results[].ok bool")
			d.call("POST", "/packs/parcels/uninstall", pairs("purge", true)).reads("status text", "id text")
			d.call("POST", "/marketplace/install", pairs("catalog_id", "c", "pack_id", "parcels", "version", "1.0.0", "force", false, "upgrade", true, "inactive", false)).
				reads(recordMembers("")...)
			d.call("POST", "/packs/parcels/uninstall", pairs("purge", false)).reads("status text")
			d.call("POST", "/packs/install", form, "Content-Type", kind).reads("status text") // without its workflows having been purged
			d.call("POST", "/packs/parcels/uninstall", pairs("purge", true)).reads("status text")
			d.call("GET", "/workers", nil).reads("[].worker_id text", "[].pool text", "[].updated_at time")
			for _, a := range []answer{
				d.call("POST", "/packs/nobody/uninstall", nil), d.call("POST", "/packs/nobody/verify", nil), d.call("GET", "/packs/nobody", nil),
				d.call("POST", "/marketplace/install", pairs("catalog_id", "c")), d.call("POST", "/packs/install", "{}"),
			} {
				if problem := lookFor(a.object(), "error", "text"); a.Status < 400 || problem != "" {
					t.Errorf("%d %s: %s", a.Status, a.Body, problem)
				}
			}
		}
	})
}

func TestThePagesOfPoolsAndTheSystem(t *testing.T) {
	virtually(t, optional(), func(t *testing.T, r *rig) {
		r.connect("k-worker", "w1", "main", 1)
		time.Sleep(time.Second)
		r.register("parcels/Weight", pairs("type", "object")).ok(204)
		r.post("/api/v1/config", `{"scope":"system","scope_id":"default","data":{"exact":[12345678901234567890,1.50,"<é>"]},"meta":{"by":"maya"}}`).ok(204)
		const path = "/config?scope=system&scope_id=default"
		for name, d := range r.dashboards() {
			t.Log(name)
			d.call("GET", "/workers", nil).reads("[].worker_id text", "[].pool text", "[].cpu_load number", "[].memory_load number", "[].updated_at time",
				"[].active_jobs number", "[].max_parallel_jobs number", "[].capabilities list", "[].labels object")
			d.call("GET", "/status", nil).reads("time time", "uptime_seconds number", "build.version text", "nats.connected bool", "nats.status text", "redis.ok bool",
				"redis.error string", "workers.count number")
			d.call("GET", "/schemas", nil).reads("schemas[] text")
			d.call("GET", "/schemas/parcels%2FWeight", nil).reads("id text", "schema.type text")
			d.call("GET", "/dlq/page?limit=200", nil).reads("items list", "next_cursor null")
			d.call("GET", path, nil).reads("scope text", "scope_id text", "revision number", "updated_at time", "meta{} text", "data.pools.topics object",
				"data.pools.pools{} object", "data.timeouts.topics object")
			d.call("GET", "/config/effective", nil).reads("version text", "hash text", "data.pools object")
		}
		first, second := r.dashboards()["January"], r.dashboards()["February"]
		before := first.call("GET", path, nil).object()["data"].(map[string]any)
		// One edits the document in its envelope and writes it back, the other its bare data; what neither has touched is as it was, to the letter.
		envelope := first.call("GET", path, nil).Body
		first.call("POST", "/config", strings.Replace(envelope, `"timeouts":{`, `"limits":{"max_concurrent_runs":5},"timeouts":{`, 1)).ok(204)
		flat := second.call("GET", "/config", nil).reads("pools.topics object", "timeouts.topics object", "limits.max_concurrent_runs number", "data nothing", "scope nothing")
		second.call("POST", "/config", strings.Replace(flat.Body, `"max_concurrent_runs":5`, `"max_concurrent_runs":6`, 1)).ok(204)
		second.call("POST", "/config", pairs("observability", pairs("level", "debug"))).ok(204) // a patch
		want := maps.Clone(before)
		want["limits"], want["observability"] = pairs("max_concurrent_runs", 6), pairs("level", "debug")
		after := first.call("GET", path, nil)
		if got := after.object(); !equal(got["data"], want) || !equal(got["meta"], pairs("by", "maya")) {
			t.Errorf("%s\nwant %v", after.Body, want)
		}
		if !strings.Contains(after.Body, `"exact":[12345678901234567890,1.50,"<é>"]`) {
			t.Errorf("numbers or letters are not what they were: %s", after.Body)
		}
		if flat := second.call("GET", "/config", nil).Body; !strings.Contains(after.Body, `"data":`+flat) {
			t.Errorf("the two read different data: %s and %s", flat, after.Body)
		}
		r.decides("job.test.gpu", "scheduled: tests may")
	})
}

func TestThePageOfTools(t *testing.T) {
	virtually(t, optional(), func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 1)
		id := r.submit("context", pairs("n", 1)).JobID
		w.job()
		writeResult(t, w, id, `{"rows":9}`)
		w.result(id, ok, "")
		w.answer(id)
		for name, d := range r.dashboards() {
			t.Log(name)
			lock := []string{"resource text", "mode text", "owners{} number", "updated_at time", "expires_at time"}
			under := func(prefix string) (out []string) {
				for _, m := range lock {
					out = append(out, prefix+m)
				}
				return out
			}
			for range 2 {
				d.call("POST", "/locks/acquire", pairs("resource", "db:main", "owner", name, "mode", "shared", "ttl_ms", 30_000)).reads(lock...)
			}
			d.call("GET", "/locks?resource=db%3Amain", nil).reads(lock...)
			d.call("POST", "/locks/renew", pairs("resource", "db:main", "owner", name, "ttl_ms", 60_000)).reads(lock...)
			d.call("POST", "/locks/release", pairs("resource", "db:main", "owner", name)).reads(append(under("lock."), "released bool")...)
			d.call("POST", "/locks/release", pairs("resource", "db:main", "owner", name)).reads("lock null", "released bool")
			d.call("GET", "/locks?resource=db%3Amain", nil).refused(404, "lock not found")
			d.call("POST", "/locks/renew", pairs("resource", "db:main", "owner", name, "ttl_ms", 1)).refused(404, "lock not held")

			for _, kind := range []string{"ctx", "res"} {
				for _, query := range []string{"ptr=" + url.QueryEscape("redis://"+kind+":"+id), "key=" + kind + ":" + id} {
					d.call("GET", "/memory?"+query, nil).reads("pointer text", "key text", "kind text", "size_bytes number", "base64 text", "text text", "json object")
				}
			}
			d.call("GET", "/memory?key=res:none", nil).refused(404, "not found")

			made := d.call("POST", "/artifacts", pairs("content", "hello", "content_type", "text/plain", "retention", "standard", "labels", pairs("kind", "note"))).
				reads("artifact_ptr text", "size_bytes number").object()
			ptr := fmt.Sprint(made["artifact_ptr"])
			d.call("GET", "/artifacts/"+url.PathEscape(ptr), nil).reads("artifact_ptr text", "content_base64 text", "metadata.content_type text",
				"metadata.size_bytes number", "metadata.retention text", "metadata.labels{} text")
			d.call("GET", "/artifacts/"+url.PathEscape(unknownArtifact), nil).refused(404, "artifact not found")
		}
	})
}
