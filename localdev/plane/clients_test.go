package plane_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dlq"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
)

// What clients depend on: the checklist of api.md 6.6 and the traps of 6.4, as far as jobs, dead letters and streams go.

// One key is one job, through whatever door, one after the other and at once.
func TestChecklist7_OneKeyThroughBothDoors(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		api := cordumv1.NewCordumApiClient(r.conn())
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", "k-admin")
		byGRPC := func(key string) string {
			res, err := api.SubmitJob(ctx, &cordumv1.SubmitJobRequest{Prompt: "p", Topic: "job.test.work", IdempotencyKey: key})
			if err != nil {
				t.Error(err)
			}
			return res.GetJobId()
		}
		if a, b := r.submit("idempotency_key", "first").JobID, byGRPC("first"); a != b {
			t.Errorf("jobs %s and %s", a, b)
		}
		var mu sync.Mutex
		ids := map[string]bool{}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				submit := byGRPC
				if i%2 == 0 {
					submit = func(key string) string { return r.submit("idempotency_key", key).JobID }
				}
				id := submit("second")
				mu.Lock()
				defer mu.Unlock()
				ids[id] = true
			})
		}
		wg.Wait()
		if len(ids) != 1 || len(r.jobs("")) != 2 {
			t.Errorf("ids %v, %d jobs", ids, len(r.jobs("")))
		}
	})
}

// A thousand rows of one moment, with a filter: none lost, none twice, and the list ends.
func TestChecklist8_AThousandRowsOfOneMoment(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		var all, wiped []string
		for i := range 1000 {
			topic := "job.test.wipe"
			if i%4 == 0 {
				topic = "job.unmapped"
			}
			id := r.submit("topic", topic).JobID
			all = append(all, id)
			if topic == "job.test.wipe" {
				wiped = append(wiped, id)
			}
		}
		newest := func(want []string) []string {
			out := slices.Clone(want)
			slices.Reverse(out)
			return out
		}
		for query, want := range map[string][]string{
			"": all, "reason_code=safety_denied": wiped, "topic=job.test.wipe&status=JOB_STATUS_DENIED": wiped, "topic=job.none": nil,
		} {
			for _, limit := range []int{7, 100, 500} {
				var got []string
				for _, e := range r.letters("k-admin", query, limit) {
					got = append(got, e["job_id"].(string))
				}
				if !slices.Equal(got, newest(want)) {
					t.Errorf("dead letters %q by %d: %d rows, want %d, newest first", query, limit, len(got), len(want))
				}
			}
		}
		for query, want := range map[string][]string{"limit=100": all, "limit=100&topic=job.test.wipe": wiped, "limit=100&state=DENIED": wiped} {
			if got := ids(r.jobs(query)); !slices.Equal(got, newest(want)) {
				t.Errorf("jobs %q: %d rows, want %d, newest first", query, len(got), len(want))
			}
		}
	})
}

// Asking for what belongs to another tenant teaches nothing.
func TestChecklist9_AnotherTenantsDeadLettersAndStreams(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		own := r.submit("topic", "job.test.wipe").JobID
		const unknown = "00000000-0000-4000-8000-000000000000"
		theirs := r.watch("k-other", "/api/v1/stream")
		for _, route := range []string{
			"POST /api/v1/dlq/%s/retry", "DELETE /api/v1/dlq/%s", "GET /api/v1/jobs/%s", "POST /api/v1/jobs/%s/cancel", "GET /api/v1/memory?key=res:%s",
		} {
			method, path, _ := strings.Cut(route, " ")
			a := r.as("k-other", method, fmt.Sprintf(path, own), nil)
			b := r.as("k-other", method, fmt.Sprintf(path, unknown), nil)
			if a.Status != b.Status || a.Body != b.Body {
				t.Errorf("%s: foreign %d %s, unknown %d %s", route, a.Status, a.Body, b.Status, b.Body)
			}
		}
		for _, action := range []string{"retry", "delete"} {
			answer := func(id string) string {
				a := r.as("k-other", "POST", "/api/v1/dlq/"+action, map[string]any{"job_ids": []string{id}}).ok(200)
				return strings.ReplaceAll(a.Body, id, "id")
			}
			if a, b := answer(own), answer(unknown); a != b {
				t.Errorf("bulk %s: foreign %s, unknown %s", action, a, b)
			}
			r.as("k-other", "POST", "/api/v1/dlq/"+action, map[string]any{"filter": map[string]any{}}).ok(200)
		}
		handshake := func(id string) string {
			_, res, err := r.open("/api/v1/jobs/"+id+"/stream", http.Header{"X-Api-Key": {"k-other"}, "X-Tenant-Id": {"other"}})
			if err == nil || res == nil {
				t.Fatalf("a stream of %s was opened", id)
			}
			text, _ := io.ReadAll(res.Body)
			return res.Status + " " + string(text)
		}
		if a, b := handshake(own), handshake(unknown); a != b {
			t.Errorf("stream: foreign %s, unknown %s", a, b)
		}
		if a := r.as("k-other", "GET", "/api/v1/dlq", nil); a.Body != "[]" {
			t.Errorf("list %s", a.Body)
		}
		if a := r.as("k-other", "GET", "/api/v1/dlq/page", nil); a.Body != `{"items":[],"next_cursor":null}` {
			t.Errorf("page %s", a.Body)
		}
		for _, path := range []string{"/api/v1/dlq", "/api/v1/dlq/page", "/api/v1/jobs"} {
			r.as("k-other", "GET", path, nil, "X-Tenant-ID", "default").refused(403, "tenant access denied")
		}
		var again receipt
		r.retry(own).ok(200).json(&again) // it is still there
		want(t, "the other tenant's stream", theirs.said())
	})
}

// Without a tenant nothing is answered, on any route; who is unknown hears that first. A worker's tenant is its credential's.
func TestChecklist10_EveryRouteNeedsATenant(t *testing.T) {
	parameters := regexp.MustCompile(`\{[^}]*\}`)
	virtually(t, config(), func(t *testing.T, r *rig) {
		tried := 0
		for _, route := range routes.All() {
			if route.Rule.Public || route.Service() == "cordum.v1.Workers" {
				continue
			}
			tried++
			path := parameters.ReplaceAllString(route.Path, "x")
			if a := r.as("k-admin", route.Method, path, "{}", "X-Tenant-ID", ""); a.Status != 403 || a.object()["error"] != "tenant id required" {
				t.Errorf("%s %s without a tenant: %d %s", route.Method, path, a.Status, a.Body)
			}
			if a := r.as("nobody", route.Method, path, "{}", "X-Tenant-ID", ""); a.Status != 401 {
				t.Errorf("%s %s with an unknown key: %d %s", route.Method, path, a.Status, a.Body)
			}
		}
		if tried < 70 {
			t.Errorf("only %d routes were tried", tried)
		}
		for _, path := range []string{"/api/v1/stream", "/api/v1/jobs/x/stream"} {
			for key, status := range map[string]int{"k-admin": 403, "nobody": 401} {
				if _, res, err := r.open(path, http.Header{"X-Api-Key": {key}}); err == nil || res == nil || res.StatusCode != status {
					t.Errorf("%s with %s: %v", path, key, err)
				}
			}
		}
	})
}

func TestChecklist12_StatesAreTruthful(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		rc := r.submit()
		shows := func(state string, attempts float64) {
			t.Helper()
			if j := r.job(rc.JobID); j["state"] != state || j["attempts"] != attempts {
				t.Errorf("%v with %v attempts, want %s with %v", j["state"], j["attempts"], state, attempts)
			}
			if row := r.jobs("")[0]; row["state"] != state {
				t.Errorf("the list says %v", row["state"])
			}
		}
		time.Sleep(time.Minute)
		shows("SCHEDULED", 0)
		w := r.connect("k-worker", "w1", "main", 1)
		w.job()
		time.Sleep(time.Minute)
		shows("DISPATCHED", 1)
		w.send(progressOf(rc.JobID))
		time.Sleep(time.Second)
		shows("RUNNING", 1)
	})
}

// A retry carries no approval with it: neither its labels nor the key that would make the bus take it for another.
func TestTrap2_ARetryAsksAgain(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		now := time.Now().UnixMicro()
		labels := map[string]string{"approval_granted": "true", "APPROVAL_note": "n", "cordum.bus_msg_id": "approval:x", "floor": "3"}
		old := &job.Record{
			ID: "approved-once", State: job.Running, Tenant: "default", Trace: "t", Topic: "job.test.ask", Body: "b", CreatedAt: now, UpdatedAt: now,
			ListedAt: now, ExpiresAt: job.NewExpiry(now), Worker: "w9", WorkerTenant: "default", Attempts: 1,
		}
		request := &agentv1.JobRequest{JobId: old.ID, Topic: old.Topic, Labels: labels, Meta: &agentv1.JobMetadata{Labels: labels}}
		if err := r.plane.Dispatcher.Jobs.Create(t.Context(), old, &job.Body{Request: request}, 0); err != nil {
			t.Fatal(err)
		}
		e := dlq.Of(old, "w9")
		e.LastState, e.Status, e.ReasonCode = job.Failed, "JOB_STATUS_FAILED", "X"
		if err := r.plane.Dispatcher.Letters().Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		var again receipt
		r.retry(old.ID).ok(200).json(&again)
		j := r.job(again.JobID)
		if again.Status != "approval_required" || j["state"] != "APPROVAL_REQUIRED" {
			t.Errorf("answer %+v, job %v", again, j["state"])
		}
		if got := j["labels"].(map[string]any); got["floor"] != "3" || got["retry"] != "true" || got["approval_granted"] != nil || got["APPROVAL_note"] != nil ||
			got["cordum.bus_msg_id"] != nil {
			t.Errorf("labels %v", got)
		}
	})
}

// A dead letter has a tenant of its own: it is its tenant's, and nobody else's, when the job has long gone.
func TestTrap5_ADeadLetterOutlivesItsJob(t *testing.T) {
	cfg := config()
	cfg.Dir = t.TempDir()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		id := r.submit("topic", "job.test.wipe").JobID
		r.hibernate(cfg, 20*24*time.Hour)
		r.get("/api/v1/jobs/"+id).refused(404, "job not found")
		if e := r.letter(id); e == nil || e["reason_code"] != "safety_denied" || e["topic"] != "job.test.wipe" {
			t.Errorf("letter %v", e)
		}
		if all := r.letters("k-other", "", 10); len(all) != 0 {
			t.Errorf("the other tenant sees %v", all)
		}
		r.as("k-other", "POST", "/api/v1/dlq/"+id+"/retry", nil).refused(404, "dlq entry not found")
	})
}

// A heartbeat has no tenant on the wire: it is its credential's; one that serves every tenant may say whose clients see it.
func TestTrap16_WhoSeesAHeartbeat(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		streams := map[string]*watcher{
			"default": r.watch("k-admin", "/api/v1/stream"), "other": r.watch("k-other", "/api/v1/stream"), "all": r.watch("k-cross", "/api/v1/stream"),
		}
		r.connect("k-worker-other", "w-other", "main", 1)
		r.connect("k-worker", "w-any", "main", 1)
		lent := r.stream("k-worker", "w-lent")
		lent.send(&agentv1.BusPacket{Payload: &agentv1.BusPacket_Heartbeat{Heartbeat: &agentv1.Heartbeat{
			WorkerId: "w-lent", Pool: "main", Labels: map[string]string{"tenant": "other"},
		}}})
		time.Sleep(11 * time.Second)
		for name, want := range map[string]string{"default": "[w-any]", "other": "[w-lent w-other]", "all": "[w-any w-lent w-other]"} {
			seen := map[string]bool{}
			for s := streams[name]; len(s.frames) > 0; {
				if b, ok := (<-s.frames)["heartbeat"].(map[string]any); ok {
					seen[b["workerId"].(string)] = true
				}
			}
			var got []string
			for id := range seen {
				got = append(got, id)
			}
			slices.Sort(got)
			if fmt.Sprint(got) != want {
				t.Errorf("%s sees %v, want %s", name, got, want)
			}
		}
	})
}

// What a client says is passed over; a client that says too much at once is cut off, and so is one that does not answer pings.
func TestAClientMayTalk(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		w := r.watch("k-admin", "/api/v1/stream")
		for _, text := range []string{"", "hello", `{"subscribe":"all"}`, strings.Repeat("x", 30_000)} {
			if err := w.conn.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		rc := r.submit()
		want(t, "after it talked", w.said(), "jobRequest "+rc.JobID)
		_ = w.conn.Write(t.Context(), websocket.MessageText, []byte(strings.Repeat("x", 40_000))) // it may be cut off on the way
		select {
		case <-w.closed:
		case <-time.After(time.Minute):
			t.Error("a frame of 40,000 bytes was taken")
		}
		// this one never reads, so it never answers a ping either
		deaf, _, err := r.open("/api/v1/stream", http.Header{"X-Api-Key": {"k-admin"}, "X-Tenant-Id": {"default"}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(41 * time.Second)
		if _, _, err := deaf.Read(t.Context()); err == nil {
			t.Error("it is still connected")
		}
	})
}

// What stands before a stream is what stands before every route: the rate of the tenant, too.
func TestAHandshakeOverTheRate(t *testing.T) {
	cfg := config()
	env := map[string]string{"CORDUM_API_KEYS": keys, "API_RATE_LIMIT_RPS": "1", "API_RATE_LIMIT_BURST": "2"}
	cfg.Getenv = func(name string) string { return env[name] }
	virtually(t, cfg, func(t *testing.T, r *rig) {
		header := http.Header{"X-Api-Key": {"k-admin"}, "X-Tenant-Id": {"default"}}
		for range 2 {
			if _, res, err := r.open("/api/v1/jobs/nobody/stream", header); err == nil || res == nil || res.StatusCode != 404 {
				t.Errorf("within the rate: %v", err)
			}
		}
		if _, res, err := r.open("/api/v1/stream", header); err == nil || res == nil || res.StatusCode != 429 {
			t.Errorf("over the rate: %v", err)
		}
		time.Sleep(2 * time.Second)
		r.watch("k-admin", "/api/v1/stream")
	})
}

// A connection does not outlive what its credential may: it is looked at every two minutes, closed with 1008, and others stay.
func TestAStreamEndsWithItsCredential(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const lent = `{"key":"k-lent","tenant":"default","role":"admin"}`
	const serves = `,{"key":"k-taken","role":"worker","pools":["main"]},{"key":"k-bound","role":"worker","pools":["main"]},{"key":"k-stays","role":"worker","pools":["main"]}`
	write(`[` + lent + serves + `,{"key":"k-less","tenant":"default","role":"admin"},
		{"key":"k-brief","tenant":"default","role":"admin","expires_at":"` + today.Add(5*time.Minute).Format(time.RFC3339) + `"}]`)
	cfg := having("CORDUM_API_KEYS_PATH", file)
	virtually(t, cfg, func(t *testing.T, r *rig) {
		job := r.submit("topic", "job.test.ask").JobID
		kept, cross := r.watch("k-admin", "/api/v1/stream"), r.watch("k-cross", "/api/v1/stream")
		brief, lent, less := r.watch("k-brief", "/api/v1/stream"), r.watch("k-lent", "/api/v1/jobs/"+job+"/stream"), r.watch("k-less", "/api/v1/stream")
		lessOfOne := r.watch("k-less", "/api/v1/jobs/"+job+"/stream")
		ends := func(name string, w *watcher) {
			t.Helper()
			began := time.Now()
			if code := <-w.closed; code != websocket.StatusPolicyViolation || time.Since(began) > 125*time.Second {
				t.Errorf("%s: closed with %d after %s", name, code, time.Since(began))
			}
		}
		taken, bound, stays := r.streamAs("k-taken", "w-taken", "main", 1), r.streamAs("k-bound", "w-bound", "main", 1), r.streamAs("k-stays", "w-stays", "main", 1)
		time.Sleep(time.Until(today.Add(5 * time.Minute)))
		ends("a key that has expired", brief)
		write(`[{"key":"k-less","tenant":"default","role":"viewer"},{"key":"k-stays","role":"worker","pools":["main"]},{"key":"k-bound","role":"worker","pools":["gpu"]}]`)
		for name, w := range map[string]*raw{"a key that was taken away": taken, "a key that may serve another pool": bound} {
			began := time.Now()
			if err := <-w.end; status.Code(err) != codes.Unauthenticated || time.Since(began) > time.Minute+5*time.Second {
				t.Errorf("a worker with %s: %v after %s", name, err, time.Since(began))
			}
		}
		ends("a key that was taken away", lent)
		ends("a key that may less", less)
		time.Sleep(5 * time.Minute)
		r.post("/api/v1/jobs/"+job+"/cancel", nil).ok(200)
		select {
		case err := <-stays.end:
			t.Errorf("a worker whose key is good: %v", err)
		default:
		}
		for name, w := range map[string]*watcher{"all": kept, "every tenant": cross, "one job, which a viewer may see": lessOfOne} {
			want(t, name, slices.DeleteFunc(w.said(), func(line string) bool { return strings.HasPrefix(line, "jobRequest") }),
				"jobResult "+job+" CANCELLED by api-gateway", "jobCancel "+job)
		}
	})
}

// The members of a dead letter, as two generations of dashboards read them.
func TestTheShapeOfADeadLetter(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		id := r.submit("topic", "job.test.wipe").JobID
		var bare []json.RawMessage
		r.get("/api/v1/dlq").ok(200).json(&bare)
		at := time.Now().UTC().Format(time.RFC3339Nano)
		want := fmt.Sprintf(`{"job_id":%q,"created_at":%q,"topic":"job.test.wipe","status":"JOB_STATUS_DENIED","reason":"nothing may be deleted",`+
			`"reason_code":"safety_denied","last_state":"DENIED","first_failure_at":%q,"last_failure_at":%q}`, id, at, at, at)
		if len(bare) != 1 || !same(t, string(bare[0]), want) {
			t.Errorf("letter %s, want %s", bare, want)
		}
		if a := r.get("/api/v1/dlq/page?limit=1"); !same(t, a.Body, `{"items":[`+want+`],"next_cursor":null}`) {
			t.Errorf("page %s", a.Body)
		}
	})
}

func same(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal([]byte(a), &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(b), &y); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}
