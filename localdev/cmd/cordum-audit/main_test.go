package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/shared/core/audit/chain"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

func noEnv(string) string { return "" }

// lived makes a data folder of a plane that took so many jobs, cancelled one, and sealed.
func lived(t *testing.T, dir string, jobs int) {
	t.Helper()
	keys := `[{"key":"k-ada","tenant":"default","role":"admin","principal_id":"ada"}]`
	p, err := plane.Open(t.Context(), plane.Config{Dir: dir, Sweep: time.Minute, Getenv: func(name string) string {
		return map[string]string{"CORDUM_API_KEYS": keys}[name]
	}})
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	call := func(path, body string) map[string]any {
		req := httptest.NewRequestWithContext(t.Context(), "POST", path, strings.NewReader(body))
		for name, v := range map[string]string{"X-API-Key": "k-ada", "X-Tenant-ID": "default", "X-Request-Id": "req-7"} {
			req.Header.Set(name, v)
		}
		rec := httptest.NewRecorder()
		p.HTTP.ServeHTTP(rec, req)
		var answer map[string]any
		if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil || rec.Code != 200 {
			t.Fatalf("%s: %d %s", path, rec.Code, rec.Body)
		}
		return answer
	}
	var id any
	for range jobs {
		id = call("/api/v1/jobs", `{"prompt":"x","topic":"job.demo.wordcount"}`)["job_id"]
	}
	call(fmt.Sprintf("/api/v1/jobs/%s/cancel", id), "")
	time.Sleep(20 * time.Minute)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

func audited(t *testing.T, want int, args ...string) string {
	t.Helper()
	var out, wrong bytes.Buffer
	if code := run(t.Context(), args, noEnv, &out, &wrong); code != want {
		t.Errorf("%v ends with %d, not %d: %s%s", args, code, want, out.String(), wrong.String())
	}
	return out.String() + wrong.String()
}

func TestTheCommand(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)))
		data := "--data=" + dir
		lived(t, dir, 5)
		if out := audited(t, sound, data, "verify"); !strings.Contains(out, "the audit trail is sound\ncheckpoint ") || !strings.Contains(out, "with 6 entries: 6 compared") {
			t.Error(out)
		}
		list := strings.Split(strings.TrimSpace(audited(t, sound, data, "list")), "\n")
		if len(list) != 6 || !strings.Contains(list[0], "default cancel job") || !strings.Contains(list[0], "SCHEDULED -> CANCELLED) by ada (admin) req-7") ||
			!strings.Contains(list[5], "default submit job") || !strings.Contains(list[5], "(ALLOW) by ada (admin) req-7") {
			t.Errorf("list %q", list)
		}
		for line := range strings.Lines(audited(t, sound, data, "--json", "list")) {
			var e chain.Listed
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Block == 0 || e.SHA256 == "" || e.PK == "" {
				t.Errorf("%s: %v", line, err)
			}
		}
		if out := audited(t, sound, data, "list", "--limit=2"); strings.Count(out, "\n") != 2 {
			t.Error(out)
		}
		key := strings.TrimSpace(audited(t, sound, data, "public-key"))
		audited(t, sound, data, "--public-key="+key, "verify")

		checkpoint := filepath.Join(t.TempDir(), "checkpoint")
		if err := os.WriteFile(checkpoint, []byte(audited(t, sound, data, "export-checkpoint")), 0o600); err != nil {
			t.Fatal(err)
		}
		lived(t, dir, 3)
		audited(t, sound, data, "verify", "--checkpoint="+checkpoint)

		tamper(t, dir)
		out := audited(t, hasFinding, data, "verify", "--checkpoint="+checkpoint)
		if !strings.Contains(out, "tampered entry: chain ") || !strings.Contains(out, `is now {"pk":"AU#default#`) || !strings.Contains(out, "not sound: 1 findings") {
			t.Error(out)
		}
		var verdict chain.Verdict
		if err := json.Unmarshal([]byte(audited(t, hasFinding, data, "--json", "verify")), &verdict); err != nil || len(verdict.Findings) != 1 || verdict.Findings[0].Kind != chain.Tampered {
			t.Errorf("verdict %+v, %v", verdict, err)
		}
		other, _ := chain.ParseKeys("a key that has nothing to do with it")
		if out := audited(t, hasFinding, data, "--public-key="+chain.SpellKey(other.Public()[0]), "verify"); !strings.Contains(out, "bad signature: head: ") {
			t.Error(out)
		}

		audited(t, failed, data, "verify", "--checkpoint=/nowhere")
		audited(t, failed, data, "--public-key=short", "verify")
		audited(t, failed, data, "no-such-command")
		audited(t, failed, "--data="+t.TempDir(), "verify")
		audited(t, sound, "--help")
	})
}

// tamper changes the entry of the cancel.
func tamper(t *testing.T, dir string) {
	t.Helper()
	p, err := embedded.Open(dir, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	for e, err := range chain.List(t.Context(), p.Table(), p.Blobs(), time.Now()) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Entry == nil {
			continue
		}
		it, err := p.Table().Get(t.Context(), e.Key())
		if err != nil {
			t.Fatal(err)
		}
		it.Attrs["e"] = bytes.ReplaceAll(it.Attrs.Bytes("e"), []byte("ada"), []byte("eve"))
		if err := p.Table().Write(t.Context(), store.Put(it)); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("no entry")
}
