package plane_test

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// Lists, reads, and what another tenant sees.

func ids(rows []map[string]any) []string {
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i], _ = r["id"].(string)
	}
	return out
}

// once checks that a list holds exactly the wanted jobs, each once.
func once(t *testing.T, what string, got, want []string) {
	t.Helper()
	got, want = slices.Clone(got), slices.Clone(want)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: %d rows, want %d", what, len(got), len(want))
	}
}

func TestPagingWithIdenticalTimestamps(t *testing.T) {
	for _, shards := range []int{1, 4} {
		cfg := config()
		cfg.Wrap = func(p dispatch.Platform) dispatch.Platform { p.Shards = 4; return p }
		if shards == 1 {
			cfg.Wrap = nil
		}
		virtually(t, cfg, func(t *testing.T, r *rig) {
			var all, denied, team []string
			for i := range 400 { // in virtual time all at the same instant
				fields := []any{"topic", "job.test.work"}
				if i%3 == 0 {
					fields = []any{"topic", "job.test.wipe"}
				}
				if i%5 == 0 {
					fields = append(fields, "team_id", "core")
				}
				rc := r.submit(fields...)
				all = append(all, rc.JobID)
				if i%3 == 0 {
					denied = append(denied, rc.JobID)
				}
				if i%5 == 0 {
					team = append(team, rc.JobID)
				}
			}
			for _, limit := range []int{1, 7, 50, 500} {
				if limit == 1 && shards == 4 {
					continue // slow, and the same as 7
				}
				q := fmt.Sprint("limit=", limit)
				got := ids(r.jobs(q))
				once(t, "all by "+q, got, all)
				newest := slices.Clone(all)
				slices.Reverse(newest)
				if !slices.Equal(got, newest) {
					t.Errorf("by %s: not newest first", q)
				}
				once(t, "denied by "+q, ids(r.jobs(q+"&state=denied")), denied)
				once(t, "team by "+q, ids(r.jobs(q+"&team=core")), team)
				once(t, "topic by "+q, ids(r.jobs(q+"&topic=job.test.wipe&state=DENIED")), denied)
			}
			if n := len(r.jobs("limit=50&state=weird")); n != 0 {
				t.Errorf("an unknown state lists %d", n)
			}
			if n := len(r.jobs("limit=50&state=SUCCEEDED")); n != 0 {
				t.Errorf("SUCCEEDED lists %d", n)
			}
		})
	}
}

func TestListParameters(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		var all []string
		begin := time.Now()
		for range 10 {
			all = append(all, r.submit().JobID)
			time.Sleep(time.Second)
		}
		for _, q := range []string{"", "limit=abc", "limit=-1", "limit=0", "limit=100000", "cursor=abc", "cursor=", "updated_after=x", "limit=5&limit=7", "unknown=1"} {
			once(t, q, ids(r.jobs(q)), all)
		}
		at := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Second) }
		for q, want := range map[string][]string{
			fmt.Sprint("updated_after=", at(5).Unix()):                                       all[5:],
			fmt.Sprint("updated_before=", at(5).Unix()):                                      all[:6],
			fmt.Sprint("updated_after=", at(5).UnixMilli()):                                  all[5:],
			fmt.Sprint("updated_before=", at(4).UnixMicro()+1000):                            all[:5],
			fmt.Sprint("updated_after=", at(2).UnixNano(), "&updated_before=", at(3).Unix()): all[2:4],
		} {
			once(t, q, ids(r.jobs(q)), want)
		}
		for _, name := range []string{"tenant", "tenant_id", "org_id"} {
			r.get("/api/v1/jobs?"+name+"=other").refused(403, "tenant access denied")
			r.get("/api/v1/jobs?"+name+"=default&"+name+"=other").refused(403, "tenant access denied")
			r.post("/api/v1/workflows/none/runs?"+name+"=other", nil).refused(403, "tenant access denied")
			r.get("/api/v1/jobs?" + name + "=default").ok(200)
		}
		once(t, "own tenant named", ids(r.jobs("tenant=default")), all)
	})
}

func TestTraces(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		rc := r.submit()
		var jobs []map[string]any
		r.get("/api/v1/traces/" + rc.TraceID).ok(200).json(&jobs)
		if len(jobs) != 1 || jobs[0]["job_id"] != rc.JobID || jobs[0]["id"] != rc.JobID || jobs[0]["created_at"] != time.Now().UTC().Format(time.RFC3339) {
			t.Errorf("trace %v", jobs)
		}
		once(t, "trace filter", ids(r.jobs("trace_id="+rc.TraceID)), []string{rc.JobID})
		if body := r.get("/api/v1/traces/nothing").ok(200).Body; body != "[]" {
			t.Errorf("unknown trace: %s", body)
		}
	})
}

func TestJobsOfATrace(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		first := r.submit()
		r.submit()
		all := []string{first.JobID}
		begin := time.Now()
		for _, fields := range [][]any{{"team_id", "core"}, {"topic", "job.test.wipe"}, {"topic", "job.test.ask"}} {
			time.Sleep(time.Second)
			all = append(all, r.submit(append(fields, "parent_job_id", first.JobID)...).JobID)
		}
		at := func(n int) int64 { return begin.Add(time.Duration(n) * time.Second).Unix() }
		slices.Reverse(all)
		for query, want := range map[string][]string{
			"":                 all,
			"&limit=1":         all, // on one page
			"&state=denied":    all[1:2],
			"&state=scheduled": all[2:],
			"&topic=job.test.ask&state=APPROVAL_REQUIRED": all[:1],
			"&topic=job.test.ask&state=denied":            {},
			"&state=weird":                                {},
			"&team=core":                                  all[2:3],
			fmt.Sprint("&updated_after=", at(2)):          all[:2],
			fmt.Sprint("&updated_before=", at(2)):         all[1:],
		} {
			if got := ids(r.jobs("trace_id=" + first.TraceID + query)); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", query, got, want)
			}
		}
		var trace []map[string]any
		r.get("/api/v1/traces/" + first.TraceID).ok(200).json(&trace)
		if got := ids(trace); got[0] != all[3] || got[3] != all[0] {
			t.Errorf("the trace itself is oldest first: %v", got)
		}
	})
}

func TestADeadlineGoesWhenTheJobEnds(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		rc := r.submit("deadline_ms", time.Hour.Milliseconds())
		shown := func() []any {
			var trace []map[string]any
			r.get("/api/v1/traces/" + rc.TraceID).ok(200).json(&trace)
			return []any{r.job(rc.JobID)["deadline_unix"], r.jobs("")[0]["deadline_unix"], trace[0]["deadline_unix"]}
		}
		want := float64(time.Now().Add(time.Hour).Unix())
		if got := shown(); !slices.Equal(got, []any{want, want, want}) {
			t.Errorf("deadlines %v, want %v", got, want)
		}
		r.post("/api/v1/jobs/"+rc.JobID+"/cancel", nil).ok(200)
		if got := shown(); !slices.Equal(got, []any{nil, nil, nil}) {
			t.Errorf("deadlines of a job that has ended: %v", got)
		}
	})
}

func TestLabelsOfTheMetadataComeLast(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		meta := pairs("labels", pairs("b", "meta", "c", "meta", "_source", "me", "approval_granted", "true"))
		r.saved("w", "steps", pairs("a", stepJob("job.test.a", "route_labels", pairs("a", "step", "b", "step"), "meta", meta)))
		run := r.start("w", nil)
		time.Sleep(10 * time.Second)
		jobs := r.jobs("trace_id=" + run)
		if len(jobs) != 1 {
			t.Fatalf("jobs of the run: %v", jobs)
		}
		labels := r.job(jobs[0]["id"].(string))["labels"].(map[string]any)
		for name, want := range map[string]any{"a": "step", "b": "meta", "c": "meta", "_source": "workflow", "approval_granted": nil} {
			if labels[name] != want {
				t.Errorf("label %s is %v, want %v, of %v", name, labels[name], want, labels)
			}
		}
	})
}

func TestT121_T122_T124_MemoryPointers(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 1)
		rc := r.submit("context", map[string]int{"n": 1})
		id := w.job().GetJobId()
		writeResult(t, w, id, `{"rows":9}`)
		w.result(id, ok, "")
		w.answer(id)
		read := func(query string) answer { return r.get("/api/v1/memory?" + query) }
		m := read("ptr=" + url.QueryEscape(`"redis://res:`+id+`"`)).ok(200).object()
		if m["kind"] != "result" || m["text"] != `{"rows":9}` || fmt.Sprint(m["json"]) != "map[rows:9]" || m["size_bytes"] != 10.0 || m["base64"] != "eyJyb3dzIjo5fQ==" ||
			m["key"] != "res:"+id || m["pointer"] != "redis://res:"+id {
			t.Errorf("result %v", m)
		}
		if m := read("key=ctx:" + rc.JobID).ok(200).object(); m["kind"] != "context" || !strings.Contains(m["text"].(string), `"context":{"n":1}`) {
			t.Errorf("context %v", m)
		}
		if a := read("key=redis://res:" + id).ok(200); a.object()["kind"] != "result" {
			t.Errorf("a whole pointer as key: %s", a.Body)
		}
		read("").refused(400, "missing ptr or key")
		read("ptr=invalid").refused(400, "invalid pointer")
		read("ptr=redis://").refused(400, "invalid pointer")
		read("key=redis://").refused(400, "invalid pointer")
		read("ptr=res:"+id).refused(400, "invalid pointer") // a key is no pointer
		read("ptr=").refused(400, "missing ptr or key")
		read("ptr=%22%20%27").refused(400, "missing ptr or key")
		for _, query := range []string{"key=nothing", "key=:", "ptr=redis://nothing", "ptr=redis://sys:workers:snapshot"} {
			read(query).refused(400, "unsupported pointer key (only ctx:*, res:*, or mem:*)")
		}
		read("key=art:x").refused(400, "unsupported pointer key (only ctx:*, res:*, or mem:*)")
		read("key=res:nobody").refused(404, "not found")
		r.as("k-other", "GET", "/api/v1/memory?key=res:"+id, nil).refused(404, "not found")
		r.as("k-user", "GET", "/api/v1/memory?key=res:"+id, nil).ok(403)
	})
}

// A large payload is answered, with what of its three forms has room.
func TestLargeMemoryPointers(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 1)
		for _, c := range []struct {
			payload           string
			text, json, alone bool // alone: the job shows none of it
		}{
			{`"` + strings.Repeat("x", 1_500_000) + `"`, true, true, false},
			{`"` + strings.Repeat("x", 2_000_000) + `"`, false, true, false},
			{`["` + strings.Repeat(`","`, 700_000) + `"]`, false, false, false},
			{strings.Repeat("x", 4_000_000), false, false, true}, // no JSON
			{`["` + strings.Repeat(`","`, 1_400_000) + `"]`, false, false, true},
		} {
			id := r.submit().JobID
			w.job()
			writeResult(t, w, id, c.payload)
			w.result(id, ok, "")
			w.answer(id)
			m := r.get("/api/v1/memory?key=res:" + id).ok(200).object()
			data, err := base64.StdEncoding.DecodeString(m["base64"].(string))
			if err != nil || string(data) != c.payload || m["size_bytes"] != float64(len(c.payload)) {
				t.Errorf("%d bytes of %d, %v", len(data), len(c.payload), err)
			}
			if j := r.job(id); (j["result"] == nil) != c.alone || j["result_ptr"] != "redis://res:"+id {
				t.Errorf("of %d bytes the job shows %t at %v", len(c.payload), j["result"] != nil, j["result_ptr"])
			}
			if (m["text"] != nil) != c.text || (m["json"] != nil) != c.json {
				t.Errorf("of %d bytes there is text %v, json %v", len(c.payload), m["text"] != nil, m["json"] != nil)
			}
		}
	})
}

func TestPayloadsExpire(t *testing.T) {
	cfg := config()
	cfg.Dir = t.TempDir()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		w := r.connect("k-worker", "w1", "main", 1)
		id := r.submit().JobID
		w.job()
		writeResult(t, w, id, `{}`)
		w.result(id, ok, "")
		w.answer(id)
		w.cancel()
		r.hibernate(cfg, 25*time.Hour)
		if j := r.job(id); j["state"] != "SUCCEEDED" || j["context"] != nil || j["result"] != nil {
			t.Errorf("after a day: %v", j)
		}
		r.hibernate(cfg, 7*24*time.Hour)
		r.get("/api/v1/jobs/"+id).refused(404, "job not found")
		if n := len(r.jobs("")); n != 0 {
			t.Errorf("after eight days %d jobs are listed", n)
		}
	})
}

// A cross-tenant credential acts where it says, and what it makes there is of that tenant alone. What another tenant sees: TestDoors_AnotherTenant.
func TestACrossTenantCredential(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.as("k-other", "GET", "/api/v1/jobs", nil, "X-Tenant-ID", "default").refused(403, "tenant access denied")
		cross := r.as("k-cross", "POST", "/api/v1/jobs", body(), "X-Tenant-ID", "other").ok(200)
		var rc receipt
		cross.json(&rc)
		r.as("k-other", "GET", "/api/v1/jobs/"+rc.JobID, nil).ok(200)
		r.get("/api/v1/jobs/"+rc.JobID).refused(404, "job not found")
	})
}

func TestTenantHeaderIsRequired(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		for _, path := range []string{"/api/v1/status", "/api/v1/jobs", "/api/v1/jobs/x"} {
			r.as("k-admin", "GET", path, nil, "X-Tenant-ID", "").refused(403, "tenant id required")
		}
	})
	virtually(t, optional(), func(t *testing.T, r *rig) {
		for _, path := range []string{"/api/v1/status", "/api/v1/jobs"} {
			r.as("k-admin", "GET", path, nil, "X-Tenant-ID", "").ok(200)
		}
	})
}

// optional is the setting for clients that never send the tenant header.
func optional() plane.Config {
	return having("CORDUM_TENANT_HEADER", "optional")
}

func TestStatus(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.connect("k-worker", "w1", "main", 1)
		time.Sleep(10 * time.Second)
		m := r.get("/api/v1/status").ok(200).object()
		nats, redis, workers := m["nats"].(map[string]any), m["redis"].(map[string]any), m["workers"].(map[string]any)
		if nats["connected"] != true || nats["status"] != "CONNECTED" || redis["ok"] != true || redis["error"] != "" || workers["count"] != 1.0 ||
			m["uptime_seconds"] != 10.0 || m["time"] != time.Now().UTC().Format(time.RFC3339) {
			t.Errorf("status %v", m)
		}
		if v := m["build"].(map[string]any)["version"]; v != "0.9.0" {
			t.Errorf("version %v", v)
		}
	})
}

// Every route of the contract is answered by a function of its own; what is none is told so.
func TestEveryRouteIsBuilt(t *testing.T) {
	for _, route := range routes.All() {
		if f := resources.Serves(route.Service()); f.Default {
			t.Errorf("%s %s is answered by %s", route.Method, route.Path, f.Name)
		}
	}
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.get("/api/v1/nowhere").refused(404, "not found")
		if a := r.as("k-admin", "DELETE", "/api/v1/jobs", nil); a.Status != 405 || a.Header.Get("Allow") == "" {
			t.Errorf("wrong method: %d %v", a.Status, a.Header)
		}
	})
}
