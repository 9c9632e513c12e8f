package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"mime/multipart"
	"net/http"
)

// packRecord is what cases look at of a pack's record.
type packRecord struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	Status  string `json:"status"`
}

// bundle is a small pack of everything that packs may bring. Its workflow is large enough to lie in an object.
func (s *story) bundle(id, version string) []byte {
	s.Helper()
	long := bytes.Repeat([]byte("all of it "), 10_000)
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	w := tar.NewWriter(gz)
	for name, text := range map[string]string{
		"pack.yaml": fmt.Sprintf(`
metadata: { id: %[1]s, version: %[2]s }
compatibility: { protocolVersion: 1 }
topics: [{ name: job.%[1]s.work }]
resources:
  schemas: [{ id: %[1]s/Input, path: input.json }]
  workflows: [{ id: %[1]s.work, path: work.json }]
overlays:
  config: [{ name: pools, key: pools, path: pools.yaml }]
  policy: [{ name: safety, path: safety.yaml }]
tests: { policySimulations: [{ name: works, request: { topic: job.%[1]s.work }, expectDecision: ALLOW }] }
`, id, version),
		"input.json":  `{"type": "object"}`,
		"work.json":   fmt.Sprintf(`{"description": %q, "steps": {"work": {"topic": "job.%s.work", "input_schema_id": "%s/Input"}}}`, long, id, id),
		"pools.yaml":  fmt.Sprintf("topics: { job.%[1]s.work: %[1]s }\npools: { %[1]s: {} }\n", id),
		"safety.yaml": fmt.Sprintf("rules: [{ id: %[1]s, match: { topics: [job.%[1]s.*] }, decision: allow }]\n", id),
	} {
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}) // a buffer takes everything
		_, _ = w.Write([]byte(text))
	}
	_, _ = w.Close(), gz.Close()
	return out.Bytes()
}

// install uploads a form; without a bundle it has only its fields, which are name, value pairs.
func (s *story) install(bundle []byte, fields ...string) answer {
	s.Helper()
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	if bundle != nil {
		part, err := w.CreateFormFile("bundle", "pack.tgz")
		if err != nil {
			s.Fatal(err)
		}
		_, _ = part.Write(bundle) // a buffer takes everything
	}
	for i := 0; i+1 < len(fields); i += 2 {
		_ = w.WriteField(fields[i], fields[i+1])
	}
	_ = w.Close()
	return s.unlocked(call{
		method: http.MethodPost, path: "/api/v1/packs/install", body: form.Bytes(), header: http.Header{"Content-Type": {w.FormDataContentType()}},
	})
}

// unlocked makes a call about packs, again while somebody else changes one.
func (s *story) unlocked(c call) (a answer) {
	s.Helper()
	s.eventually(s.patience(), func() (bool, string) {
		a = s.call(c)
		return a.Status != http.StatusConflict, a.Body
	})
	return a
}

// packCases are about packs. They change the policy in force, and so does nothing beside them.
var packCases = []testCase{
	{"a pack is installed, verified, upgraded, routed to and taken away", 0, func(s *story) {
		id := s.fresh()
		purge := call{method: http.MethodPost, path: "/api/v1/packs/" + id + "/uninstall", body: []byte(`{"purge":true}`)}
		s.Cleanup(func() { _, _ = s.send(purge) }) // the case has its verdict
		stream := s.watch("/stream", s.admin())
		var r packRecord
		if s.ok(s.install(s.bundle(id, "1.0.0")), &r); r != (packRecord{id, "1.0.0", "ACTIVE"}) {
			s.Errorf("installed: %+v", r)
		}
		stream.hearsOf("system/packs")
		s.ok(s.install(s.bundle(id, "1.0.0")), &r)
		var verdict struct{ Results []struct{ OK bool } }
		if s.ok(s.post("/packs/"+id+"/verify", nil), &verdict); len(verdict.Results) != 1 || !verdict.Results[0].OK {
			s.Errorf("verified: %+v", verdict)
		}
		if s.ok(s.install(s.bundle(id, "1.1.0"), "upgrade", "true"), &r); r.Version != "1.1.0" {
			s.Errorf("upgraded: %+v", r)
		}
		var all struct{ Items []packRecord }
		if s.ok(s.call(call{method: http.MethodGet, path: "/api/v1/packs"}), &all); len(all.Items) == 0 {
			s.Error("no pack is listed")
		}
		s.eventually(s.patience(), func() (bool, string) {
			rc := s.receipt(s.post("/jobs", s.body("topic", "job."+id+".work")))
			return rc.Status == "scheduled", "a job of the pack is " + rc.Status + ": " + rc.Reason
		})
		s.refused(s.install(nil), http.StatusBadRequest, "bundle file required")
		if s.ok(s.unlocked(purge), &r); r.Status != "DISABLED" {
			s.Errorf("taken away: %+v", r)
		}
		s.refused(s.get("/workflows/"+id+".work"), http.StatusNotFound, "not found")
		s.refused(s.get("/schemas/"+id+"/Input"), http.StatusNotFound, "schema not found")
	}},
	{"a pack that was uploaded on its own is installed", 0, func(s *story) {
		id := s.fresh()
		s.Cleanup(func() { // the case has its verdict
			_, _ = s.send(call{method: http.MethodPost, path: "/api/v1/packs/" + id + "/uninstall", body: []byte(`{"purge":true}`)})
		})
		bundle := s.bundle(id, "1.0.0")
		made := s.storeArtifact(map[string]any{"size_bytes": len(bundle), "content_type": "application/gzip", "retention": "short"})
		if status, text := s.direct(http.MethodPut, made.Upload.URL, made.Upload.Headers, bundle); status != http.StatusOK {
			s.Fatalf("upload: %d %s", status, text)
		}
		var r packRecord
		if s.ok(s.install(nil, "bundle_ptr", made.Ptr), &r); r != (packRecord{id, "1.0.0", "ACTIVE"}) {
			s.Errorf("installed: %+v", r)
		}
		s.refused(s.install(nil, "bundle_ptr", "redis://art:00000000-0000-4000-8000-000000000000"), http.StatusNotFound, "artifact not found")
	}},
}
