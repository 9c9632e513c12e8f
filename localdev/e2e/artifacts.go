package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// artifact is what cases look at of an artifact, and of the answer to one that is stored.
type artifact struct {
	Ptr      string `json:"artifact_ptr"`
	Size     int64  `json:"size_bytes"`
	Content  []byte `json:"content_base64"`
	Metadata struct {
		ContentType string            `json:"content_type"`
		Size        int64             `json:"size_bytes"`
		Retention   string            `json:"retention"`
		Labels      map[string]string `json:"labels"`
	} `json:"metadata"`
	Upload struct {
		URL     string            `json:"url"`
		Method  string            `json:"method"`
		Headers map[string]string `json:"headers"`
	} `json:"upload"`
	Download struct {
		URL string `json:"url"`
	} `json:"download"`
}

// artifactCases are about files that jobs make or use. They go by themselves, within a day.
var artifactCases = []testCase{
	{"an artifact is read by its pointer, however that stands in the path", 0, func(s *story) {
		text := "end to end: " + s.tag
		made := s.storeArtifact(map[string]any{"content": text, "content_type": "text/plain", "retention": "short", "labels": map[string]any{"story": s.tag}})
		id := strings.TrimPrefix(made.Ptr, "redis://art:")
		for _, form := range []string{made.Ptr, "redis:/art:" + id, url.PathEscape(made.Ptr), "art:" + id, id} {
			var a artifact
			s.ok(s.get("/artifacts/"+form), &a)
			if string(a.Content) != text || a.Ptr != made.Ptr || a.Metadata.ContentType != "text/plain" || a.Metadata.Retention != "short" ||
				a.Metadata.Size != int64(len(text)) || a.Metadata.Labels["story"] != s.tag || a.Metadata.Labels["tenant_id"] != s.target.Tenant {
				s.Errorf("%s: %+v", form, a)
			}
		}
		s.refused(s.get("/artifacts/"+made.Ptr+"?max_bytes=1"), http.StatusRequestEntityTooLarge, "artifact too large")
		s.refused(s.get("/artifacts/redis://ctx:"+id), http.StatusBadRequest, "invalid pointer")
		s.refused(s.get("/artifacts/art:00000000-0000-4000-8000-000000000000"), http.StatusNotFound, "artifact not found")
		s.refused(s.post("/artifacts", map[string]any{}), http.StatusBadRequest, "content required")
		s.refused(s.post("/artifacts", map[string]any{"content_base64": "?"}), http.StatusBadRequest, "invalid base64 content")
	}},
	{"an artifact of 4 MiB comes and goes with the JSON", 0, func(s *story) {
		data := randomBytes(4 << 20)
		made := s.storeArtifact(map[string]any{"content_base64": data, "retention": "short"})
		var a artifact
		if s.ok(s.get("/artifacts/"+made.Ptr), &a); !bytes.Equal(a.Content, data) || a.Download.URL != "" {
			s.Errorf("%d bytes, %+v", len(a.Content), a.Metadata)
		}
	}},
	{"a larger artifact is uploaded and downloaded directly", 0, func(s *story) {
		data := randomBytes(5 << 20)
		sum := sha256.Sum256(data)
		made := s.storeArtifact(map[string]any{
			"size_bytes": len(data), "sha256": hex.EncodeToString(sum[:]), "content_type": "application/x-random", "retention": "short",
		})
		if made.Upload.Method != http.MethodPut || made.Size != int64(len(data)) {
			s.Fatalf("%+v", made)
		}
		s.refused(s.get("/artifacts/"+made.Ptr), http.StatusNotFound, "artifact not found")
		if status, text := s.direct(http.MethodPut, made.Upload.URL, made.Upload.Headers, data); status != http.StatusOK {
			s.Fatalf("upload: %d %s", status, text)
		}
		if status, _ := s.direct(http.MethodPut, made.Upload.URL, made.Upload.Headers, randomBytes(len(data))); status != http.StatusPreconditionFailed {
			s.Errorf("it is uploaded again: %d", status)
		}
		var a artifact
		s.ok(s.get("/artifacts/"+made.Ptr), &a)
		if len(a.Content) != 0 || a.Metadata.Size != int64(len(data)) || a.Metadata.ContentType != "application/x-random" {
			s.Errorf("%d bytes, %+v", len(a.Content), a.Metadata)
		}
		if status, got := s.direct(http.MethodGet, a.Download.URL, nil, nil); status != http.StatusOK || !bytes.Equal(got, data) {
			s.Errorf("download: %d, %d bytes", status, len(got))
		}
	}},
	{"an artifact is its tenant's", needOther, func(s *story) {
		made := s.storeArtifact(map[string]any{"content": s.tag, "retention": "short"})
		foreign := s.call(s.other(call{method: http.MethodGet, path: "/api/v1/artifacts/" + made.Ptr}))
		s.refused(foreign, http.StatusNotFound, "artifact not found")
		s.refused(s.post("/artifacts", map[string]any{"content": "x", "labels": map[string]any{"tenant_id": s.target.OtherTenant}}),
			http.StatusForbidden, "tenant access denied")
	}},
}

func (s *story) storeArtifact(body map[string]any) (a artifact) {
	s.Helper()
	if s.ok(s.post("/artifacts", body), &a); !strings.HasPrefix(a.Ptr, "redis://art:") {
		s.Fatalf("stored: %+v", a)
	}
	return a
}

// direct makes a request to an address that the plane has told, without a credential.
func (s *story) direct(method, address string, headers map[string]string, body []byte) (int, []byte) {
	s.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, address, bytes.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	res, err := s.http.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // read to its end below
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.Fatal(err)
	}
	return res.StatusCode, text
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it does not fail
	return b
}
