package plane_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// goClient is the Go client of January 2026: it sends a key and no tenant, takes every 2xx for success, follows redirects, and writes ids and pointers
// into its paths as they are.
type goClient struct {
	t    *testing.T
	base string
	http *http.Client
	// redirected are the addresses to which it was sent.
	redirected []string
}

// sdk is a client of the plane, over connections of the machine. inFront stands between the two.
func (r *rig) sdk(inFront func(http.Handler) http.Handler) *goClient {
	r.t.Helper()
	server := httptest.NewServer(inFront(r.plane.HTTP))
	r.t.Cleanup(server.Close)
	c := &goClient{t: r.t, base: server.URL}
	c.http = &http.Client{Timeout: 15 * time.Second, CheckRedirect: func(req *http.Request, _ []*http.Request) error {
		c.redirected = append(c.redirected, req.URL.Path)
		return nil
	}}
	return c
}

func directly(plane http.Handler) http.Handler { return plane }

// do sends a request and reads the answer into a value, unless that is nil.
func (c *goClient) do(method, path string, body, into any, headers ...string) error {
	c.t.Helper()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			c.t.Fatal(err)
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+"/api/v1"+path, content)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("X-API-Key", "k-admin")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // it has been read
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("%s %s: %d: %s", method, path, res.StatusCode, text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

// must fails the test where a call did.
func (c *goClient) must(method, path string, body, into any, headers ...string) {
	c.t.Helper()
	if err := c.do(method, path, body, into, headers...); err != nil {
		c.t.Fatal(err)
	}
}

// putArtifact is PutArtifact: labels may be null.
func (c *goClient) putArtifact(query string, content []byte, labels map[string]string) (ptr string, err error) {
	var res struct {
		Ptr string `json:"artifact_ptr"`
	}
	err = c.do("POST", "/artifacts"+query, struct {
		Content   []byte            `json:"content_base64"`
		Type      string            `json:"content_type"`
		Retention string            `json:"retention"`
		Labels    map[string]string `json:"labels"`
	}{content, "text/plain", "short", labels}, &res)
	return res.Ptr, err
}

type sdkArtifact struct {
	Ptr      string `json:"artifact_ptr"`
	Content  string `json:"content_base64"`
	Metadata struct {
		Type      string            `json:"content_type"`
		Size      int64             `json:"size_bytes"`
		Retention string            `json:"retention"`
		Labels    map[string]string `json:"labels"`
	} `json:"metadata"`
}

// getArtifact is GetArtifact: the pointer stands in the path as it is.
func (c *goClient) getArtifact(ptr string) (a sdkArtifact, err error) {
	err = c.do("GET", "/artifacts/"+ptr, nil, &a)
	return a, err
}

// A pointer has two slashes, which Go's client sends as they are, and which Go's mux, and many a proxy, makes one of with a redirect.
func TestPointersThroughGosClientAndMux(t *testing.T) {
	r := open(t, optional())
	mux := func(plane http.Handler) http.Handler {
		m := http.NewServeMux()
		m.Handle("/", plane)
		return m
	}
	for name, test := range map[string]struct {
		inFront   func(http.Handler) http.Handler
		redirects int
	}{"the plane itself": {directly, 0}, "a mux": {mux, 1}} {
		t.Run(name, func(t *testing.T) {
			c := r.sdk(test.inFront)
			c.t = t
			content := []byte("a\x00b\xff")
			for _, labels := range []map[string]string{nil, {"kind": "log"}} {
				ptr, err := c.putArtifact("?max_bytes=4", content, labels)
				if err != nil || !strings.HasPrefix(ptr, "redis://art:") {
					t.Fatal(ptr, err)
				}
				c.redirected = nil
				a, err := c.getArtifact(ptr)
				if err != nil || a.Ptr != ptr || a.Content != base64.StdEncoding.EncodeToString(content) || a.Metadata.Type != "text/plain" || a.Metadata.Size != 4 ||
					a.Metadata.Retention != "short" || a.Metadata.Labels["kind"] != labels["kind"] || a.Metadata.Labels["tenant_id"] != "default" {
					t.Errorf("%+v, %v", a, err)
				}
				if len(c.redirected) != test.redirects {
					t.Errorf("redirected to %q", c.redirected)
				}
			}
			if _, err := c.putArtifact("?max_bytes=3", content, nil); err == nil || !strings.Contains(err.Error(), `413: {"error":"artifact too large"`) {
				t.Errorf("%v", err)
			}
			if _, err := c.getArtifact(unknownArtifact); err == nil || !strings.Contains(err.Error(), `404: {"error":"artifact not found"`) {
				t.Errorf("%v", err)
			}
			if _, err := c.getArtifact("redis://ctx:x"); err == nil || !strings.Contains(err.Error(), `400: {"error":"invalid pointer"`) {
				t.Errorf("%v", err)
			}
		})
	}
}

// Every method of the Go client, without a tenant, over connections of the machine.
func TestChecklist1_TheGoClient(t *testing.T) {
	r := open(t, optional())
	r.labourers()
	c := r.sdk(directly)
	var flow struct{ ID string }
	c.must("POST", "/workflows", pairs("id", "sdk.flow", "name", "SDK", "steps", pairs("gate", pairs("type", "approval", "name", "Go on?"),
		"work", stepJob("job.test.a", "depends_on", deps("gate"), "output_path", "made"))), &flow)
	if flow.ID != "sdk.flow" {
		t.Errorf("created %+v", flow)
	}
	start := func(query string, input any, headers ...string) string {
		t.Helper()
		var run struct {
			ID string `json:"run_id"`
		}
		c.must("POST", "/workflows/sdk.flow/runs"+query, input, &run, headers...)
		return run.ID
	}
	var none map[string]any
	id := start("", &none, "Idempotency-Key", "sdk") // a map that is nil is the text null
	if again := start("", &none, "Idempotency-Key", "sdk"); id == "" || again != id {
		t.Errorf("runs %q and %q", id, again)
	}
	dry := start("?dry_run=true", pairs("n", 1))
	type stepRun struct {
		StepID string `json:"step_id"`
		Status string `json:"status"`
		JobID  string `json:"job_id"`
	}
	type run struct {
		ID         string             `json:"id"`
		WorkflowID string             `json:"workflow_id"`
		Status     string             `json:"status"`
		Steps      map[string]stepRun `json:"steps"`
		UpdatedAt  string             `json:"updated_at"`
		Metadata   map[string]string  `json:"metadata"`
		Labels     map[string]string  `json:"labels"`
		Context    map[string]any     `json:"context"`
		Output     map[string]any     `json:"output"`
		Error      map[string]any     `json:"error"`
	}
	until := func(id, status string) (got run) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); got.Status != status; time.Sleep(10 * time.Millisecond) {
			if got = (run{}); time.Now().After(deadline) {
				t.Fatalf("run %s is not %s: %+v", id, status, got)
			}
			c.must("GET", "/workflow-runs/"+id, nil, &got)
		}
		return got
	}
	until(id, "waiting")
	c.must("POST", "/workflows/sdk.flow/runs/"+id+"/steps/gate/approve", pairs("approved", true), nil)
	got := until(id, "succeeded")
	if got.ID != id || got.WorkflowID != "sdk.flow" || got.Steps["work"].JobID == "" || got.Steps["gate"].StepID != "gate" || got.Context["made"] == nil || got.UpdatedAt == "" {
		t.Errorf("%+v", got)
	}
	until(dry, "waiting")
	c.must("POST", "/workflows/sdk.flow/runs/"+dry+"/steps/gate/approve", pairs("approved", false), nil)
	if got := until(dry, "failed"); got.Metadata["dry_run"] != "true" || got.Labels["dry_run"] != "true" {
		t.Errorf("%+v", got)
	}
	var timeline []struct {
		Time                    time.Time
		Type                    string
		RunID                   string `json:"run_id"`
		WorkflowID              string `json:"workflow_id"`
		StepID                  string `json:"step_id"`
		JobID                   string `json:"job_id"`
		Status, Message, Result string
		ResultPtr               string         `json:"result_ptr"`
		Data                    map[string]any `json:"data"`
	}
	c.must("GET", "/workflow-runs/"+id+"/timeline", nil, &timeline)
	var types []string
	for _, e := range timeline {
		if types = append(types, e.Type); e.Time.IsZero() || e.RunID != id || e.WorkflowID != "sdk.flow" {
			t.Errorf("%+v", e)
		}
	}
	for _, want := range []string{"step_approved", "step_dispatched", "step_completed"} {
		if !slices.Contains(types, want) {
			t.Errorf("no %s in the timeline: %q", want, types)
		}
	}
	c.jobs()
	var status map[string]any
	c.must("GET", "/status", nil, &status)
	if status["build"] == nil {
		t.Errorf("status %v", status)
	}
	ptr, err := c.putArtifact("", []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.getArtifact(ptr); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"/workflow-runs/" + id, "/workflow-runs/" + dry, "/workflows/sdk.flow"} {
		c.must("DELETE", path, nil, nil)
		if err := c.do("GET", path, nil, nil); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("%s is deleted, and answers %v", path, err)
		}
	}
}

// jobs goes through the methods of jobs: one that ends, one that is approved, one that is rejected, and one that is tried again.
func (c *goClient) jobs() {
	c.t.Helper()
	submit := func(topic string) string {
		c.t.Helper()
		var job receipt
		c.must("POST", "/jobs", pairs("prompt", "p", "topic", topic, "context", nil, "org_id", "", "tenant_id", "", "principal_id", "sdk", "actor_id", "", "actor_type", "",
			"idempotency_key", "", "pack_id", "", "capability", "", "risk_tags", nil, "requires", nil, "labels", nil), &job)
		if job.JobID == "" || job.TraceID == "" {
			c.t.Errorf("submitted: %+v", job)
		}
		return job.JobID
	}
	until := func(id, state string) {
		c.t.Helper()
		var job map[string]any
		for deadline := time.Now().Add(30 * time.Second); job["state"] != state; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				c.t.Fatalf("job %s is not %s: %v", id, state, job)
			}
			c.must("GET", "/jobs/"+id, nil, &job)
		}
	}
	until(submit("job.test.a"), "SUCCEEDED")
	for action, state := range map[string]string{"approve": "SUCCEEDED", "reject": "DENIED"} {
		id := submit("job.test.ask")
		c.must("POST", "/approvals/"+id+"/"+action, nil, nil)
		until(id, state)
	}
	failed := submit("job.test.fail")
	until(failed, "FAILED")
	c.must("POST", "/dlq/"+failed+"/retry", nil, nil)
	if err := c.do("POST", "/dlq/"+failed+"/retry", nil, nil); err == nil || !strings.Contains(err.Error(), "dlq entry not found") {
		c.t.Errorf("tried again twice: %v", err)
	}
}
