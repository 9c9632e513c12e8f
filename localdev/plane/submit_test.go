package plane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/metadata"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
)

// The behaviours of core.md 10 A and B, through the doors. Each has its number.

func TestT001_DefaultsOfASubmission(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		var rc receipt
		r.post("/api/v1/jobs", `{"prompt":"hello"}`).ok(200).json(&rc)
		if rc.Status != "scheduled" || rc.Reason != "tests may" {
			t.Errorf("receipt %+v", rc)
		}
		packets := make(chan *worker.Job, 1)
		r.work(map[string]worker.Handler{"job.default": keep(packets)})
		req := (<-packets).Request
		if req.GetTopic() != "job.default" || req.GetMemoryId() != "mem:"+rc.JobID || req.GetPriority().String() != "JOB_PRIORITY_INTERACTIVE" {
			t.Errorf("request %v", req)
		}
		if b := req.GetBudget(); b.GetMaxInputTokens() != 8000 || b.GetMaxOutputTokens() != 1024 || b.GetDeadlineMs() != 0 {
			t.Errorf("budget %v", b)
		}
		if env := req.GetEnv(); env["max_input_tokens"] != "8000" || env["max_output_tokens"] != "1024" || env["tenant_id"] != "default" {
			t.Errorf("env %v", env)
		}
		if j := r.job(rc.JobID); j["tenant"] != "default" || j["trace_id"] != rc.TraceID {
			t.Errorf("job %v", j)
		}
	})
}

func TestRefusedSubmissionsStoreNothing(t *testing.T) {
	long := strings.Repeat("x", 300)
	many := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint("l", i)] = "v"
		}
		return m
	}
	cases := []struct {
		name string
		body any
		text string
	}{
		{"T002 empty prompt", body("prompt", ""), "prompt is required"},
		{"T002 no prompt", body("prompt", nil), "prompt is required"},
		{"T003 60000 two-byte characters", body("prompt", strings.Repeat("é", 60000)), "prompt too long (>100000 chars)"},
		{"T004 topic of the system", body("topic", "sys.x"), "topic must start with job."},
		{"T004 topic without a dot", body("topic", "bad"), "topic must start with job."},
		{"T004 topic with nothing behind job.", body("topic", "job."), "invalid topic format"},
		{"T004 topic with a space", body("topic", "job.a b"), "invalid topic format"},
		{"T004 topic that ends in a dash", body("topic", "job.a-"), "invalid topic format"},
		{"T004 long topic", body("topic", "job."+long), "invalid topic format"},
		{"T005 negative tokens", body("max_input_tokens", -1), "token limits must be non-negative"},
		{"T005 negative output tokens", body("max_output_tokens", -1), "token limits must be non-negative"},
		{"T005 negative total tokens", body("max_total_tokens", -1), "token limits must be non-negative"},
		{"T005 negative deadline", body("deadline_ms", -1), "deadline_ms must be non-negative"},
		{"T006 actor type", body("actor_type", "robot"), "actor_type must be 'human' or 'service'"},
		{"T007 labels", body("labels", many(51)), "too many labels (max 50)"},
		{"T007 tags", body("tags", slices.Collect(maps.Keys(many(51)))), "too many tags (max 50)"},
		{"label key", body("labels", map[string]string{long: "v"}), "label key too long (max 256 bytes)"},
		{"label value", body("labels", map[string]string{"k": strings.Repeat("v", 4097)}), "label value too long (max 4096 bytes)"},
		{"memory id", body("memory_id", "a b"), "invalid memory id"},
		{"malformed", `{"prompt":`, "invalid json"},
		{"empty body", ``, "invalid json"},
		{"not an object", `[]`, "invalid json"},
		{"wrong type", `{"prompt":7}`, "invalid json"},
		{"two values", `{"prompt":"a"}{"prompt":"b"}`, "invalid json"},
	}
	virtually(t, config(), func(t *testing.T, r *rig) {
		for _, c := range cases {
			r.step(c.name, func() { r.post("/api/v1/jobs", c.body).refused(400, c.text) })
		}
		if jobs, sent := r.jobs(""), r.depth("pool-main"); len(jobs) != 0 || sent != 0 {
			t.Errorf("%d jobs were stored, %d sent", len(jobs), sent)
		}
	})
}

func TestAcceptedSubmissions(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.step("T003 100000 ASCII bytes pass", func() { r.submit("prompt", strings.Repeat("x", 100000)) })
		r.step("T006 HUMAN is human", func() {
			if j := r.job(r.submit("actor_type", "HUMAN", "actor_id", "maya").JobID); j["actor_type"] != "human" || j["actor_id"] != "maya" {
				t.Errorf("job %v", j)
			}
		})
		r.step("T007 50 labels pass", func() {
			labels := map[string]string{"approval_granted": "true", "_x": "y", "cordum.bus_msg_id": "z"}
			for i := range 50 {
				labels[fmt.Sprint("l", i)] = "v"
			}
			j := r.job(r.submit("labels", labels).JobID)
			if got := j["labels"].(map[string]any); len(got) != 50 || got["approval_granted"] != nil {
				t.Errorf("labels %v", got)
			}
		})
		r.step("T007 50 tags pass", func() {
			var tags []string
			for i := range 50 {
				tags = append(tags, fmt.Sprint("t", i))
			}
			r.submit("tags", tags)
		})
		r.step("unknown members are ignored", func() { r.submit("colour", "red", "id", "mine") })
		r.step("a context comes back byte for byte", func() {
			text := `{"n":12345678901234567890,"f":1.0,"s":"<é>","z":1,"a":[null]}`
			var rc receipt
			r.post("/api/v1/jobs", `{"prompt":"p","topic":"job.test.work","context":`+text+`}`).ok(200).json(&rc)
			id := rc.JobID
			if got := r.get("/api/v1/jobs/" + id).ok(200).Body; !strings.Contains(got, text) {
				t.Errorf("%s is not in %s", text, got)
			}
		})
	})
}

func TestT008_AnUnknownPriorityIsInteractive(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		jobs := make(chan *worker.Job, 1)
		r.work(map[string]worker.Handler{"job.test.*": keep(jobs)})
		for word, want := range map[string]string{"weird": "INTERACTIVE", "": "INTERACTIVE", "Batch": "BATCH", "CRITICAL": "CRITICAL"} {
			r.submit("priority", word)
			if got := (<-jobs).Request.GetPriority().String(); got != "JOB_PRIORITY_"+want {
				t.Errorf("%q became %s", word, got)
			}
		}
	})
}

func TestT009_OversizeBody(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.post("/api/v1/jobs", `{"prompt":"x","context":"`+strings.Repeat("x", 3<<20)+`"}`).refused(413, "request body too large")
		if len(r.jobs("")) != 0 {
			t.Error("a job was stored")
		}
	})
}

func TestT010_T011_TenantsNamedInABody(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		for _, fields := range [][]any{{"org_id", "other"}, {"tenant_id", "other"}, {"org_id", "default", "tenant_id", "other"}, {"org_id", "other", "tenant_id", "default"}} {
			r.post("/api/v1/jobs", body(fields...)).refused(403, "tenant access denied")
		}
		r.as("k-admin", "POST", "/api/v1/jobs", body(), "X-Tenant-ID", "other").refused(403, "tenant access denied")
		rc := r.submit("org_id", "default", "tenant_id", "default")
		if j := r.job(rc.JobID); j["tenant"] != "default" {
			t.Errorf("tenant %v", j["tenant"])
		}
		if len(r.jobs("")) != 1 {
			t.Error("a refused job was stored")
		}
	})
}

func TestT012_PrincipalFromTheHeader(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		var rc receipt
		r.as("k-admin", "POST", "/api/v1/jobs", body(), "X-Principal-Id", "alice").ok(200).json(&rc)
		if row := r.jobs("")[0]; row["principal"] != "alice" || row["actor_id"] != "alice" {
			t.Errorf("row %v", row)
		}
		rc = r.submit("principal_id", "bob")
		if row := r.jobs("")[0]; row["principal"] != "bob" || row["actor_id"] != "bob" || row["id"] != rc.JobID {
			t.Errorf("row %v", row)
		}
	})
}

func TestT013_T014_SecretReferences(t *testing.T) {
	secret := []struct {
		name   string
		fields []any
		marked bool
	}{
		{"prompt with space around it", []any{"prompt", "  secret://v/k"}, true},
		{"prompt with the tag already", []any{"prompt", "secret://v/k", "risk_tags", []string{"Secrets"}}, true},
		{"nested in the context", []any{"context", map[string]any{"a": []any{map[string]any{"b": " secret://v/k"}}}}, true},
		{"hidden by an escape", []any{"context", json.RawMessage(`{"a":"\u0073ecret://v/k"}`)}, true},
		{"embedded in the prompt", []any{"prompt", "use secret://v/k"}, false},
		{"a key of the context", []any{"context", map[string]any{"secret://v/k": "x"}}, false},
	}
	virtually(t, config(), func(t *testing.T, r *rig) {
		for _, c := range secret {
			r.step(c.name, func() {
				rc := r.submit(c.fields...)
				j := r.job(rc.JobID)
				tags, _ := j["risk_tags"].([]any)
				labels, _ := j["labels"].(map[string]any)
				if marked := labels["secrets_present"] == "true"; marked != c.marked || (len(tags) == 1) != c.marked || (c.marked && !strings.EqualFold(tags[0].(string), "secrets")) {
					t.Errorf("tags %v labels %v", tags, labels)
				}
				if want := map[bool]string{true: "DENIED", false: "SCHEDULED"}[c.marked]; j["state"] != want {
					t.Errorf("state %v, want %s", j["state"], want)
				}
			})
		}
	})
}

func TestT017_ReservedLabelsGrantNothing(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		rc := r.submit("topic", "job.test.ask", "labels", map[string]string{"approval_granted": "true", "APPROVAL_reason": "x"})
		if j := r.job(rc.JobID); j["state"] != "APPROVAL_REQUIRED" || len(j["labels"].(map[string]any)) != 0 || j["approval_required"] != true {
			t.Errorf("job %v", j)
		}
	})
}

func TestT017_TheEnvironmentIsThePlanes(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		forged := map[string]string{"CORDUM_EFFECTIVE_CONFIG": "{}", "CORDUM_ATTEMPT": "9", "CORDUM_MAX_RETRIES": "9"}
		byREST := r.submit("env", forged, "labels", forged)
		api := cordumv1.NewCordumApiClient(r.conn())
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", "k-admin")
		byGRPC, err := api.SubmitJob(ctx, &cordumv1.SubmitJobRequest{Prompt: "p", Topic: "job.test.work", Labels: forged})
		if err != nil {
			t.Fatal(err)
		}
		jobs := make(chan *worker.Job, 2)
		r.work(map[string]worker.Handler{"job.test.*": keep(jobs)})
		for _, id := range []string{byREST.JobID, byGRPC.GetJobId()} {
			r.await(id, "SUCCEEDED")
			env := (<-jobs).Request.GetEnv()
			if _, there := env["CORDUM_EFFECTIVE_CONFIG"]; there || env["CORDUM_ATTEMPT"] != "1" || env["CORDUM_MAX_RETRIES"] != "" {
				t.Errorf("env %v", env)
			}
		}
	})
}

func TestT018_T019_GRPC(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		api := cordumv1.NewCordumApiClient(r.conn())
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", "k-ada")
		res, err := api.SubmitJob(ctx, &cordumv1.SubmitJobRequest{Prompt: "p", Topic: "job.test.work", PrincipalId: "bob"})
		if err != nil {
			t.Fatal(err)
		}
		packets := make(chan *worker.Job, 1)
		r.work(map[string]worker.Handler{"job.test.*": keep(packets)})
		req := (<-packets).Request
		if req.GetEnv()["context_mode"] != "raw" || req.GetBudget().GetMaxInputTokens() != 8000 || req.GetBudget().GetMaxOutputTokens() != 1024 ||
			req.GetBudget().GetDeadlineMs() != 0 {
			t.Errorf("request %v", req)
		}
		if req.GetPrincipalId() != "ada" {
			t.Errorf("principal %q: the credential's must win", req.GetPrincipalId())
		}
		r.await(res.GetJobId(), "SUCCEEDED")
		for id, want := range map[string]string{res.GetJobId(): "SUCCEEDED", "nobody": "UNKNOWN", "": "UNKNOWN"} {
			st, err := api.GetJobStatus(ctx, &cordumv1.GetJobStatusRequest{JobId: id})
			if err != nil || st.GetStatus() != want {
				t.Errorf("status of %q: %v, %v", id, st, err)
			}
		}
		other := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", "k-other")
		st, err := api.GetJobStatus(other, &cordumv1.GetJobStatusRequest{JobId: res.GetJobId()})
		if err != nil || st.GetStatus() != "UNKNOWN" || st.GetResultPtr() != "" {
			t.Errorf("a foreign job's status: %v, %v", st, err)
		}
	})
}

func TestT020_Credentials(t *testing.T) {
	cfg := config()
	env := map[string]string{"CORDUM_API_KEYS": keys, "API_RATE_LIMIT_RPS": "1", "API_RATE_LIMIT_BURST": "3"}
	cfg.Getenv = func(name string) string { return env[name] }
	virtually(t, cfg, func(t *testing.T, r *rig) {
		r.as("", "GET", "/api/v1/jobs", nil).refused(401, "unauthorized")
		r.as("nobody", "GET", "/api/v1/jobs", nil).refused(401, "unauthorized")
		r.as("", "GET", "/api/v1/nowhere", nil).refused(401, "unauthorized")
		if a := r.as("", "GET", "/health", nil).ok(200); a.Body != "ok" {
			t.Errorf("health %q", a.Body)
		}
		for range 3 {
			r.get("/api/v1/jobs").ok(200)
		}
		r.get("/api/v1/jobs").refused(429, "rate limited")
	})
}

func TestT021_T022_Idempotency(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		first := r.submit("idempotency_key", "k")
		again := r.submit("idempotency_key", " k ", "prompt", "something else", "topic", "job.test.wipe")
		if first != again {
			t.Errorf("replay %+v, first %+v", again, first)
		}
		var header receipt
		r.as("k-admin", "POST", "/api/v1/jobs", body(), "Idempotency-Key", "k").ok(200).json(&header)
		if header != first {
			t.Errorf("replay by header %+v", header)
		}
		other := r.submitAs("k-other", "idempotency_key", "k")
		if other.JobID == first.JobID {
			t.Error("two tenants share a job")
		}
		if n, sent := len(r.jobs("")), r.depth("pool-main"); n != 1 || sent != 2 { // one of each tenant
			t.Errorf("%d jobs, %d sent", n, sent)
		}
		starts := make(chan *worker.Job, 8)
		r.work(map[string]worker.Handler{"job.test.*": keep(starts)})
		r.await(first.JobID, "SUCCEEDED")
		if done := r.submit("idempotency_key", "k"); done.JobID != first.JobID || done.Status != "succeeded" {
			t.Errorf("replay of a finished job %+v", done)
		}
	})
}

func TestT023_AFailedValidationReservesNothing(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		api := cordumv1.NewCordumApiClient(r.conn())
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", "k-admin")
		if _, err := api.SubmitJob(ctx, &cordumv1.SubmitJobRequest{Topic: "job.test.work", IdempotencyKey: "k"}); err == nil {
			t.Fatal("a job without a prompt was accepted")
		}
		res, err := api.SubmitJob(ctx, &cordumv1.SubmitJobRequest{Prompt: "p", Topic: "job.test.work", IdempotencyKey: "k"})
		if err != nil {
			t.Fatal(err)
		}
		r.work(map[string]worker.Handler{"job.test.*": succeed})
		r.await(res.GetJobId(), "SUCCEEDED") // a real job, and it was sent
	})
}

func TestT024_ParallelSubmitsWithOneKey(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		var mu sync.Mutex
		ids := map[string]int{}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				rc := r.submit("idempotency_key", "k", "prompt", fmt.Sprint("p", i))
				mu.Lock()
				ids[rc.JobID]++
				mu.Unlock()
			})
		}
		wg.Wait()
		if len(ids) != 1 || len(r.jobs("")) != 1 {
			t.Errorf("ids %v, %d jobs", ids, len(r.jobs("")))
		}
	})
}

// TestNoKeyIsFoundFromAnotherTenant: there are no keys without a tenant, not even in what tenant and key make together
// (docs/adr/0005-idempotency.md).
func TestT025_NoKeyIsFoundFromAnotherTenant(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		seen := map[string]string{}
		for _, c := range []struct{ as, key string }{
			{"k-admin", "k"}, {"k-other", "k"}, {"k-other", "default k"}, {"k-other", "default:k"}, {"k-other", "default/k"}, {"k-other", "default#k"},
			{"k-other", "default\x00k"}, {"k-admin", "other\x00k"}, {"k-admin", "K"},
		} {
			id := r.submitAs(c.as, "idempotency_key", c.key).JobID
			if by, there := seen[id]; there {
				t.Errorf("%s with key %q found the job of %s", c.as, c.key, by)
			}
			seen[id] = c.as
			if again := r.submitAs(c.as, "idempotency_key", c.key).JobID; again != id {
				t.Errorf("%s with key %q found %s, not its own job", c.as, c.key, again)
			}
		}
	})
}

// keep is a handler that succeeds and hands its job to the test.
func keep(jobs chan *worker.Job) worker.Handler {
	return func(_ context.Context, job *worker.Job) (any, error) {
		jobs <- job
		return map[string]bool{"ok": true}, nil
	}
}
