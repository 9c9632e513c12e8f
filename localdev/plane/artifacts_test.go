package plane_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/localdev/lambdahost"
	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/shared/core/artifact"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/chaos"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

const artifactsPath = "/api/v1/artifacts"

// storing is the configuration of a plane that presigns, with further settings as name, value pairs.
func storing(settings ...string) plane.Config {
	cfg := having(settings...)
	cfg.Embedded.BlobURL = "http://plane.test/objects"
	return cfg
}

// stored is an answer to a POST.
type stored struct {
	Ptr    string `json:"artifact_ptr"`
	Size   int64  `json:"size_bytes"`
	Upload *struct {
		URL     string            `json:"url"`
		Method  string            `json:"method"`
		Headers map[string]string `json:"headers"`
		Expires string            `json:"expires_at"`
	} `json:"upload"`
}

// file is an answer to a GET.
type file struct {
	Ptr      string `json:"artifact_ptr"`
	Content  []byte `json:"content_base64"`
	Metadata struct {
		Type      string            `json:"content_type"`
		Size      int64             `json:"size_bytes"`
		Retention string            `json:"retention"`
		Labels    map[string]string `json:"labels"`
	} `json:"metadata"`
	Download *struct {
		URL     string `json:"url"`
		Expires string `json:"expires_at"`
	} `json:"download"`
}

func (a answer) stored() (s stored) { a.t.Helper(); a.ok(200).json(&s); return s }
func (a answer) file() (f file)     { a.t.Helper(); a.ok(200).json(&f); return f }

// keep stores a file as user of the default tenant.
func (r *rig) keep(fields ...any) stored {
	r.t.Helper()
	return r.as("k-user", "POST", artifactsPath, pairs(fields...)).stored()
}

func (r *rig) read(ptr string) answer {
	r.t.Helper()
	return r.as("k-viewer", "GET", artifactsPath+"/"+ptr, nil)
}

// follow makes a request to a presigned URL, without a credential.
func (r *rig) follow(method, address string, header map[string]string, body []byte) (int, []byte) {
	r.t.Helper()
	req := httptest.NewRequestWithContext(r.t.Context(), method, address, bytes.NewReader(body))
	for name, value := range header {
		req.Header.Set(name, value)
	}
	rec := httptest.NewRecorder()
	r.plane.HTTP.ServeHTTP(rec, req)
	return rec.Code, rec.Body.Bytes()
}

// upload does what the answer to an announcement says.
func (r *rig) upload(s stored, body []byte) {
	r.t.Helper()
	if status, text := r.follow(s.Upload.Method, s.Upload.URL, s.Upload.Headers, body); status != 200 {
		r.t.Fatalf("upload: %d %s", status, text)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it does not fail
	return b
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

const unknownArtifact = "redis://art:00000000-0000-4000-8000-000000000000"

func TestT126_WhatIsStoredAndWhatIsNot(t *testing.T) {
	virtually(t, storing(), func(t *testing.T, r *rig) {
		every := make([]byte, 256)
		for i := range every {
			every[i] = byte(i)
		}
		text := base64.StdEncoding.EncodeToString(every)
		a := r.as("k-user", "POST", artifactsPath, pairs("content_base64", text, "content", "not this", "content_type", "x/y", "retention", "audit",
			"labels", pairs("a", "b")))
		var s stored
		a.ok(200).json(&s)
		if s.Size != 256 || !strings.HasPrefix(s.Ptr, "redis://art:") || strings.Contains(a.Body, "upload") {
			t.Fatal(a.Body)
		}
		want := `{"artifact_ptr":"` + s.Ptr + `","content_base64":"` + text +
			`","metadata":{"content_type":"x/y","size_bytes":256,"retention":"audit","labels":{"a":"b","tenant_id":"default"}}}`
		if got := r.read(url.PathEscape(s.Ptr)).ok(200).Body; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		plain := r.keep("content", "żółw\n", "labels", nil)
		if f := r.read(plain.Ptr).file(); string(f.Content) != "żółw\n" || f.Metadata.Type != "" || f.Metadata.Retention != "standard" ||
			len(f.Metadata.Labels) != 1 || plain.Size != 8 {
			t.Errorf("%+v", f)
		}
		odd := r.keep("content", "x", "content_type", "no media type") // it is the client's word; its bytes have another one
		if f := r.read(odd.Ptr).file(); f.Metadata.Type != "no media type" {
			t.Errorf("%+v", f)
		}
		many := map[string]string{}
		for i := range 51 {
			many[fmt.Sprint(i)] = ""
		}
		for name, c := range map[string]struct {
			query, header string
			body          any
			status        int
			text          string
		}{
			"T126 max_bytes":         {"?max_bytes=4", "", pairs("content", "12345"), 413, "artifact too large"},
			"T126 header":            {"", "4", pairs("content", "12345"), 413, "artifact too large"},
			"the query before it":    {"?max_bytes=4", "5", pairs("content", "12345"), 413, "artifact too large"},
			"no number in the query": {"?max_bytes=x", "4", pairs("content", "12345"), 413, "artifact too large"},
			"zero in the query":      {"?max_bytes=0", "4", pairs("content", "12345"), 413, "artifact too large"},
			"T126 bad base64":        {"", "", pairs("content_base64", "a?", "content", "fine"), 400, "invalid base64 content"},
			"other base64":           {"", "", pairs("content_base64", "_-==", "content", "fine"), 400, "invalid base64 content"},
			"T126 nothing":           {"", "", pairs("content_type", "text/plain"), 400, "content required"},
			"line breaks alone":      {"", "", pairs("content_base64", "\r\n"), 400, "content required"},
			"less than nothing":      {"", "", pairs("size_bytes", -1), 400, "content required"},
			"no object":              {"", "", "[]", 400, "invalid json"},
			"no body":                {"", "", nil, 400, "invalid json"},
			"another tenant":         {"", "", pairs("content", "x", "labels", pairs("tenant_id", "other")), 403, "tenant access denied"},
			"no tenant":              {"", "", pairs("content", "x", "labels", pairs("tenant_id", "")), 403, "tenant access denied"},
			"another one, announced": {"", "", pairs("size_bytes", 5, "labels", pairs("tenant_id", "other")), 403, "tenant access denied"},
			"many labels":            {"", "", pairs("content", "x", "labels", many), 400, "too many labels (max 50)"},
			"long type":              {"", "", pairs("content", "x", "content_type", strings.Repeat("x", 257)), 400, "content_type too long (max 256 bytes)"},
			"short digest":           {"", "", pairs("content", "x", "sha256", "abcd"), 400, "invalid sha256: it has 64 hexadecimal digits"},
			"no digest":              {"", "", pairs("size_bytes", 1, "sha256", strings.Repeat("x", 64)), 400, "invalid sha256: it has 64 hexadecimal digits"},
			"another digest":         {"", "", pairs("content", "x", "sha256", digest([]byte("y"))), 400, "content does not have this sha256"},
		} {
			var headers []string
			if c.header != "" {
				headers = []string{"X-Max-Artifact-Bytes", c.header}
			}
			r.step(name, func() { r.as("k-user", "POST", artifactsPath+c.query, c.body, headers...).refused(c.status, c.text) })
		}
		for name, a := range map[string]answer{
			"own tenant": r.as("k-user", "POST", artifactsPath, pairs("content", "12345", "labels", pairs("tenant_id", "default"))),
			"at limit":   r.as("k-user", "POST", artifactsPath+"?max_bytes=5", pairs("content", "12345")),
			"no limits":  r.as("k-user", "POST", artifactsPath+"?max_bytes=-1", pairs("content", "12345"), "X-Max-Artifact-Bytes", "many"),
			"its digest": r.as("k-user", "POST", artifactsPath, pairs("content", "12345", "sha256", strings.ToUpper(digest([]byte("12345"))))),
			"most labels": r.as("k-user", "POST", artifactsPath, pairs("content", "12345", "labels", func() map[string]string {
				most := map[string]string{}
				for i := range 50 {
					most[fmt.Sprint(i)] = strings.Repeat("x", 4096)
				}
				return most
			}())),
		} {
			if f := r.read(a.stored().Ptr).file(); string(f.Content) != "12345" || f.Metadata.Labels["tenant_id"] != "default" {
				t.Errorf("%s: %+v", name, f)
			}
		}
		s = r.keep("content", "12345")
		for query, status := range map[string]int{"?max_bytes=4": 413, "?max_bytes=5": 200, "?max_bytes=x": 200, "?max_bytes=4&download=true": 413} {
			r.read(s.Ptr + query).ok(status)
		}
		r.as("k-viewer", "GET", artifactsPath+"/"+s.Ptr, nil, "X-Max-Artifact-Bytes", "4").refused(413, "artifact too large")
	})
}

// raw sends a request line as it stands, which no client library would, and answers status and body.
func (r *rig) raw(target string) (int, string) {
	r.t.Helper()
	c, err := r.web.DialContext(r.t.Context(), "", "")
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = c.Close() }() // the answer has been read
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: plane.test\r\nX-API-Key: k-user\r\nX-Tenant-ID: default\r\n\r\n", target); err != nil {
		r.t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // likewise
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// invoked is the function's answer to a path, as something in front of it may have left it: the bytes that Lambda sees.
func (r *rig) invoked(path string) []byte {
	r.t.Helper()
	event, err := json.Marshal(map[string]any{
		"version": "2.0", "rawPath": path, "headers": map[string]string{"x-api-key": "k-user", "x-tenant-id": "default"},
		"requestContext": map[string]any{"domainName": "plane.test", "http": map[string]any{"method": "GET", "path": path}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	i := slices.IndexFunc(r.plane.Functions, func(f *plane.Function) bool { return f.Name == "artifacts" })
	answer, err := r.plane.Functions[i].Invoke(r.t.Context(), event)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer
}

// delivered is what a client hears of it.
func (r *rig) delivered(path string) (int, string) {
	r.t.Helper()
	var res struct {
		StatusCode int
		Body       string
	}
	if err := json.Unmarshal(r.invoked(path), &res); err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, res.Body
}

// A pointer is read however it stands in the path: as it is, with a slash that was lost, percent-encoded, bare.
func TestT127_PointersInPaths(t *testing.T) {
	virtually(t, storing(), func(t *testing.T, r *rig) {
		ptr := r.keep("content", "here").Ptr
		id := strings.TrimPrefix(ptr, "redis://art:")
		want := r.read(id).ok(200).Body
		for _, form := range []string{
			ptr, "redis:/art:" + id, url.PathEscape(ptr), url.PathEscape("redis:/art:" + id), strings.ReplaceAll(url.PathEscape(ptr), "%", "%25"),
			"redis%3a%2f%2fart%3a" + id, "redis:%2F%2Fart:" + id, "redis://art%3A" + id, "art:" + id, "art%3A" + id, id, strings.ToUpper(id), "art:" + strings.ToUpper(id), "%20" + ptr,
		} {
			for door, ask := range map[string]func(string) (int, string){
				"connection": r.raw, "event": r.delivered,
				"event, decoded": func(path string) (int, string) {
					decoded, err := url.PathUnescape(path)
					if err != nil {
						t.Fatal(err)
					}
					return r.delivered(decoded)
				},
			} {
				if status, body := ask(artifactsPath + "/" + form); status != 200 || body != want {
					t.Errorf("%s, %s: %d %s", door, form, status, body)
				}
			}
		}
		for _, form := range []string{"art:none", "redis://art:none", "art:" + strings.Repeat("x", 3000), "art:a/b", "redis://art:" + id + "/", unknownArtifact} {
			if status, body := r.raw(artifactsPath + "/" + form); status != 404 || !strings.Contains(body, "artifact not found") {
				t.Errorf("%s: %d %s", form, status, body)
			}
		}
		for _, form := range []string{
			"none", "redis://ctx:" + id, "ctx:" + id, "redis://" + id, "art:", "redis://art:", "redis:art:" + id, "s3://art:" + id, "redis:///art:" + id,
			"%25zz", "urn:uuid:" + id, "{" + id + "}", strings.ReplaceAll(id, "-", ""),
		} {
			if status, body := r.raw(artifactsPath + "/" + form); status != 400 || !strings.Contains(body, "invalid pointer") {
				t.Errorf("%s: %d %s", form, status, body)
			}
		}
	})
}

// Another tenant learns nothing: not that it exists, nor how large it is, nor that it is to be uploaded.
func TestT124_AnotherTenantsArtifact(t *testing.T) {
	virtually(t, storing(), func(t *testing.T, r *rig) {
		inline, announced := r.keep("content", "ours"), r.keep("size_bytes", 4)
		large := r.keep("size_bytes", 5<<20)
		r.upload(large, random(5<<20))
		none := r.as("k-other", "GET", artifactsPath+"/"+unknownArtifact, nil)
		none.refused(404, "artifact not found")
		for _, ptr := range []string{inline.Ptr, announced.Ptr, large.Ptr} {
			for _, query := range []string{"", "?max_bytes=1", "?download=true"} {
				if a := r.as("k-other", "GET", artifactsPath+"/"+ptr+query, nil); a.Status != none.Status || a.Body != none.Body {
					t.Errorf("%s%s: %d %s", ptr, query, a.Status, a.Body)
				}
			}
		}
		r.as("k-cross", "GET", artifactsPath+"/"+inline.Ptr, nil, "X-Tenant-ID", "other").refused(404, "artifact not found")
		r.as("k-cross", "GET", artifactsPath+"/"+inline.Ptr, nil).ok(200)
		for _, key := range []string{"k-admin", "k-operator", "k-user", "k-viewer"} {
			r.as(key, "POST", artifactsPath, pairs("content", key)).ok(200)
		}
		r.as("k-worker", "GET", artifactsPath+"/"+inline.Ptr, nil).refused(403, "access denied")
		r.as("k-worker", "POST", artifactsPath, pairs("content", "x")).refused(403, "access denied")
	})
}

// An artifact is there until the last second of its class, by its own clock: what it is named, what the settings say, and where they say nonsense.
func TestT125_HowLongArtifactsAreKept(t *testing.T) {
	for name, c := range map[string]struct {
		settings []string
		keep     map[string]time.Duration
	}{
		"T125 by default": {nil, map[string]time.Duration{
			"": 7 * 24 * time.Hour, "24h": 7 * 24 * time.Hour, "standard": 7 * 24 * time.Hour, " Short ": 24 * time.Hour, "short": 24 * time.Hour, "audit": 30 * 24 * time.Hour,
		}},
		"T125 no durations": {
			[]string{"ARTIFACT_TTL_SHORT", "soon", "ARTIFACT_TTL_STANDARD", "-1h", "ARTIFACT_TTL_AUDIT", "0"},
			map[string]time.Duration{"short": 24 * time.Hour, "": 7 * 24 * time.Hour, "audit": 30 * 24 * time.Hour},
		},
		"T125 as set": {
			[]string{"ARTIFACT_TTL_SHORT", "90s", "ARTIFACT_TTL_STANDARD", "240h", "ARTIFACT_TTL_AUDIT", "8760h"},
			map[string]time.Duration{"short": 90 * time.Second, "": 240 * time.Hour, "audit": 30 * 24 * time.Hour},
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := storing(c.settings...)
			cfg.Dir = t.TempDir()
			virtually(t, cfg, func(t *testing.T, r *rig) {
				until := map[string]time.Time{} // by pointer
				began := time.Now()
				for word, keep := range c.keep {
					up := r.keep("size_bytes", 2, "retention", word)
					r.upload(up, []byte("up"))
					for _, ptr := range []string{up.Ptr, r.keep("content", "inline", "retention", word).Ptr} {
						until[ptr] = began.Add(keep)
					}
				}
				check := func() {
					for ptr, end := range until {
						if got, want := r.read(ptr).Status, map[bool]int{true: 200, false: 404}[time.Now().Before(end)]; got != want {
							t.Errorf("after %v, of %v: %d", time.Since(began), end.Sub(began), got)
						}
					}
				}
				for _, end := range slices.SortedFunc(maps.Values(until), time.Time.Compare) {
					if wait := time.Until(end); wait > 0 {
						r.hibernate(cfg, wait-time.Second)
						check()
						time.Sleep(time.Second)
						check()
					}
				}
			})
		})
	}
}

// The borders of what is sent and answered with the JSON, and what a client does beyond them.
func TestLargeArtifacts(t *testing.T) {
	virtually(t, storing(), func(t *testing.T, r *rig) {
		how := fmt.Sprintf("artifact too large to be sent as content (max %d bytes): send size_bytes instead, and upload it to the URL of the answer", artifact.MaxInline)
		largest := random(artifact.MaxInline)
		inline := r.keep("content_base64", base64.StdEncoding.EncodeToString(largest))
		if f := r.read(inline.Ptr).file(); !bytes.Equal(f.Content, largest) || f.Download != nil {
			t.Errorf("%d bytes, %+v", len(f.Content), f.Download)
		}
		for _, n := range []int{artifact.MaxInline + 1, 4_600_000, 7 << 20} { // the last two are more than the route reads
			r.as("k-user", "POST", artifactsPath, pairs("content_base64", base64.StdEncoding.EncodeToString(make([]byte, n)))).refused(413, how)
		}
		larger := random(artifact.MaxInline + 1)
		up := r.keep("size_bytes", len(larger), "content_type", "image/png", "retention", "audit")
		if up.Size != int64(len(larger)) || up.Upload == nil || up.Upload.Method != "PUT" || up.Upload.Headers["Content-Type"] != "image/png" ||
			up.Upload.Headers["X-Amz-Tagging"] != "class=audit" || up.Upload.Expires != time.Now().Add(15*time.Minute).UTC().Format(time.RFC3339) {
			t.Fatalf("%+v", up)
		}
		for _, query := range []string{"", "?download=true", "?max_bytes=1"} {
			r.read(up.Ptr+query).refused(404, "artifact not found")
		}
		for _, wrong := range [][]byte{nil, larger[1:], append(slices.Clip(larger), 'x')} {
			if status, _ := r.follow("PUT", up.Upload.URL, up.Upload.Headers, wrong); status != 403 {
				t.Errorf("%d bytes: %d", len(wrong), status)
			}
		}
		r.upload(up, larger)
		if status, _ := r.follow("PUT", up.Upload.URL, up.Upload.Headers, random(len(larger))); status != 412 {
			t.Errorf("uploaded again: %d", status)
		}
		f := r.read(up.Ptr).file()
		if len(f.Content) != 0 || f.Metadata.Size != int64(len(larger)) || f.Metadata.Type != "image/png" || f.Download == nil ||
			f.Download.Expires != time.Now().Add(15*time.Minute).UTC().Format(time.RFC3339) {
			t.Fatalf("%+v", f)
		}
		if status, got := r.follow("GET", f.Download.URL, nil, nil); status != 200 || !bytes.Equal(got, larger) {
			t.Errorf("downloaded: %d, %d bytes", status, len(got))
		}
		r.read(up.Ptr+"?max_bytes="+fmt.Sprint(len(larger)-1)).refused(413, "artifact too large")
		small := r.read(inline.Ptr + "?download=TRUE").file()
		if status, got := r.follow("GET", small.Download.URL, nil, nil); status != 200 || !bytes.Equal(got, largest) || len(small.Content) != 0 {
			t.Errorf("downloaded: %d, %d bytes", status, len(got))
		}
		time.Sleep(15*time.Minute + time.Second)
		if status, _ := r.follow("GET", f.Download.URL, nil, nil); status != 403 {
			t.Errorf("a quarter of an hour later: %d", status)
		}
		for size, status := range map[int64]int{blob.MaxInline: 200, blob.MaxInline + 1: 413, 1 << 60: 413} {
			r.as("k-user", "POST", artifactsPath, pairs("size_bytes", size)).ok(status)
		}
		r.as("k-user", "POST", artifactsPath+"?max_bytes=99", pairs("size_bytes", 100)).refused(413, "artifact too large")
		if up := r.keep("content", "x", "size_bytes", 99); up.Upload != nil || up.Size != 1 {
			t.Errorf("with a content: %+v", up)
		}
	})
}

// TestTheRouteSaysWhatTheStoreDoes: a request that is too large for the route hears what one hears that is too large for the store.
func TestTheRouteSaysWhatTheStoreDoes(t *testing.T) {
	for _, route := range routes.All() {
		if route.Method+" "+route.Path != "POST "+artifactsPath {
			continue
		}
		if route.Rule.MaxBody < artifact.MaxInline*4/3 || route.Rule.MaxBody > 6_000_000 || !strings.Contains(route.Rule.LargeBody, fmt.Sprint(artifact.MaxInline)) {
			t.Errorf("%+v", route.Rule)
		}
		return
	}
	t.Error("no such route")
}

// An operator may lower both limits, and not raise them.
func TestLimitsOfArtifacts(t *testing.T) {
	virtually(t, storing("ARTIFACT_MAX_BYTES", "10", "ARTIFACT_MAX_UPLOAD_BYTES", "20"), func(t *testing.T, r *rig) {
		post := func(fields ...any) answer {
			return r.as("k-user", "POST", artifactsPath+"?max_bytes=1000", pairs(fields...))
		}
		post("content", strings.Repeat("x", 10)).ok(200)
		post("content", strings.Repeat("x", 11)).refused(413, "artifact too large")
		post("size_bytes", 20).ok(200)
		post("size_bytes", 21).refused(413, "artifact too large")
	})
	virtually(t, storing("GATEWAY_MAX_JSON_BODY_BYTES", "1000"), func(t *testing.T, r *rig) { // the route has a limit of its own
		r.keep("content", strings.Repeat("x", 3<<20))
		r.post("/api/v1/jobs", pairs("prompt", strings.Repeat("x", 1000))).refused(413, "request body too large")
	})
	virtually(t, storing("ARTIFACT_MAX_BYTES", "99999999", "ARTIFACT_MAX_UPLOAD_BYTES", "9999999999"), func(t *testing.T, r *rig) {
		r.as("k-user", "POST", artifactsPath, pairs("content", strings.Repeat("x", artifact.MaxInline+1))).ok(413)
		r.as("k-user", "POST", artifactsPath, pairs("size_bytes", blob.MaxInline+1)).ok(413)
	})
	virtually(t, storing("ARTIFACT_MAX_BYTES", "many", "ARTIFACT_MAX_UPLOAD_BYTES", "-1"), func(t *testing.T, r *rig) {
		r.keep("content", strings.Repeat("x", artifact.MaxInline))
		r.keep("size_bytes", blob.MaxInline)
	})
}

// Who announced a digest never gets other bytes, in whatever way they are read.
func TestUploadsHaveTheirDigest(t *testing.T) {
	virtually(t, storing(), func(t *testing.T, r *rig) {
		for _, n := range []int{10, artifact.MaxInline + 1} {
			data := random(n)
			good, bad := r.keep("size_bytes", n, "sha256", digest(data)), r.keep("size_bytes", n, "sha256", digest(random(n)))
			for _, s := range []stored{good, bad} {
				r.read(s.Ptr).refused(404, "artifact not found")
				r.upload(s, data)
			}
			for range 2 {
				for _, query := range []string{"", "?download=1"} {
					r.read(bad.Ptr+query).refused(409, "what was uploaded is not what was announced; store it again")
				}
				link := r.read(good.Ptr + "?download=1").file().Download
				if status, got := r.follow("GET", link.URL, nil, nil); status != 200 || !bytes.Equal(got, data) {
					t.Errorf("%d bytes: %d, %d bytes", n, status, len(got))
				}
			}
			if f := r.read(good.Ptr).file(); n <= artifact.MaxInline && !bytes.Equal(f.Content, data) {
				t.Errorf("%d bytes: %d bytes", n, len(f.Content))
			}
		}
	})
}

// blobs count reads, and fail or lose answers on demand.
type unreliableBlobs struct {
	blob.Store
	down, lose *atomic.Bool
	gets       *atomic.Int64
}

func (b unreliableBlobs) Put(ctx context.Context, key string, data []byte, opts blob.PutOptions) error {
	if b.down.Load() {
		return blob.ErrUnavailable
	}
	if err := b.Store.Put(ctx, key, data, opts); err != nil || !b.lose.Load() {
		return err
	}
	return blob.ErrUnavailable
}

func (b unreliableBlobs) Get(ctx context.Context, key string, limit int64) ([]byte, blob.Object, error) {
	b.gets.Add(1)
	if b.down.Load() {
		return nil, blob.Object{}, blob.ErrUnavailable
	}
	return b.Store.Get(ctx, key, limit)
}

func (b unreliableBlobs) Head(ctx context.Context, key string) (blob.Object, error) {
	if b.down.Load() {
		return blob.Object{}, blob.ErrUnavailable
	}
	return b.Store.Head(ctx, key)
}

// unreliableTable notes the artifacts that were written, and fails or loses answers on demand.
type unreliableTable struct {
	store.Table
	down, lose *atomic.Bool
	written    *atomic.Int64
}

func (u unreliableTable) Write(ctx context.Context, ops ...store.Op) error {
	if !strings.HasPrefix(ops[0].Key.PK, "AR#") {
		return u.Table.Write(ctx, ops...)
	}
	if u.down.Load() {
		return store.ErrUnavailable
	}
	if err := u.Table.Write(ctx, ops...); err != nil {
		return err
	}
	u.written.Add(1)
	if u.lose.Load() {
		return store.ErrUnavailable
	}
	return nil
}

// What fails is answered 503, and a read that fails is no absence: who asks again finds what is there.
func TestArtifactsWhileSomethingIsOutOfReach(t *testing.T) {
	var tableDown, tableLoses, blobsDown, blobsLose atomic.Bool
	var written, gets atomic.Int64
	cfg := storing()
	cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
		p.Table = unreliableTable{p.Table, &tableDown, &tableLoses, &written}
		p.Blobs = unreliableBlobs{p.Blobs, &blobsDown, &blobsLose, &gets}
		return p
	}
	virtually(t, cfg, func(t *testing.T, r *rig) {
		s := r.keep("content", "safe")
		up := r.keep("size_bytes", 2, "sha256", digest([]byte("up")))
		for name, is := range map[string]*atomic.Bool{"no table": &tableDown, "no objects": &blobsDown, "a lost answer of objects": &blobsLose} {
			before := written.Load()
			is.Store(true)
			r.step(name, func() {
				r.as("k-user", "POST", artifactsPath, pairs("content", "x")).refused(503, "service unavailable")
			})
			is.Store(false)
			if written.Load() != before {
				t.Errorf("%s: what was refused is in the table", name)
			}
		}
		tableDown.Store(true)
		r.as("k-user", "POST", artifactsPath, pairs("size_bytes", 2)).refused(503, "service unavailable")
		tableDown.Store(false)
		tableLoses.Store(true) // it is there, and nobody knows its id
		r.as("k-user", "POST", artifactsPath, pairs("content", "x")).refused(503, "service unavailable")
		tableLoses.Store(false)

		blobsDown.Store(true)
		for _, query := range []string{"", "?download=1", "?max_bytes=1"} {
			r.read(s.Ptr+query).refused(503, "service unavailable")
			r.read(up.Ptr+query).refused(503, "service unavailable")
		}
		blobsDown.Store(false)
		r.read(up.Ptr).refused(404, "artifact not found")
		r.upload(up, []byte("up"))
		tableLoses.Store(true)
		r.read(up.Ptr+"?download=1").refused(503, "service unavailable")
		tableLoses.Store(false)
		before := gets.Load()
		r.read(up.Ptr + "?download=1").ok(200)
		if gets.Load() != before {
			t.Error("what was verified is read again")
		}
		r.read(s.Ptr).ok(200)
	})
}

// Whatever goes wrong between the bytes and their item: what was acknowledged is there, whole, and what was not is not there under any name that was told.
func TestArtifactsThroughFaults(t *testing.T) {
	profile, err := chaos.Parse("errors=0.2,cruel=0.2,seed=11")
	if err != nil {
		t.Fatal(err)
	}
	faults := chaos.New(profile)
	faults.Off()
	cfg := storing()
	cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
		p.Table, p.Blobs = faults.Table(p.Table), faults.Blobs(p.Blobs)
		return p
	}
	virtually(t, cfg, func(t *testing.T, r *rig) {
		faults.On()
		kept, failed := map[string][]byte{}, 0
		for i := range 200 {
			data := fmt.Appendf(nil, "artifact %d", i)
			fields := pairs("content", string(data))
			if i%2 == 0 {
				fields = pairs("size_bytes", len(data), "sha256", digest(data))
			}
			a := r.as("k-user", "POST", artifactsPath, fields)
			if a.Status != 200 {
				a.refused(503, "service unavailable")
				failed++
				continue
			}
			s := a.stored()
			if s.Upload != nil {
				r.upload(s, data)
			}
			kept[s.Ptr] = data
			if a := r.read(s.Ptr + "?download=1"); a.Status != 200 && a.Status != 503 {
				t.Errorf("%s: %d %s", s.Ptr, a.Status, a.Body)
			}
		}
		faults.Off()
		if failed < 20 || len(kept) < 20 {
			t.Fatalf("%d failed, %d were kept: this test proves nothing", failed, len(kept))
		}
		for ptr, data := range kept {
			if f := r.read(ptr).file(); !bytes.Equal(f.Content, data) {
				t.Errorf("%s: %q, want %q", ptr, f.Content, data)
			}
		}
	})
}

// TestTheLargestAnswerFitsLambda: the most content with the worst labels, as the function answers it.
func TestTheLargestAnswerFitsLambda(t *testing.T) {
	virtually(t, storing(), func(t *testing.T, r *rig) {
		labels := map[string]string{}
		for i := range 31 { // quotes double in JSON, and double again in JSON that is in JSON
			labels[fmt.Sprint(i)] = strings.Repeat(`"`, 4096)
		}
		s := r.keep("size_bytes", artifact.MaxInline, "labels", labels)
		r.upload(s, make([]byte, artifact.MaxInline))
		r.read(s.Ptr).ok(200)
		if n := len(r.invoked(artifactsPath + "/" + s.Ptr)); n < artifact.MaxInline || n > lambdahost.MaxPayload {
			t.Errorf("%d bytes", n)
		}
		labels["more"] = strings.Repeat(`"`, 4096)
		r.as("k-user", "POST", artifactsPath, pairs("content", "x", "labels", labels)).refused(400, "labels too large (max 262144 bytes of JSON)")
	})
}

// Many store and read at once; each reads what it stored.
func TestArtifactsAtOnce(t *testing.T) {
	virtually(t, storing(), func(t *testing.T, r *rig) {
		var mu sync.Mutex
		seen := map[string]bool{}
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				data := bytes.Repeat([]byte{byte(i)}, 1000+i)
				s := r.keep("content_base64", base64.StdEncoding.EncodeToString(data))
				if i%2 == 0 {
					s = r.keep("size_bytes", len(data), "sha256", digest(data))
					var uploads sync.WaitGroup
					var first atomic.Int64
					for range 3 {
						uploads.Go(func() {
							if status, _ := r.follow("PUT", s.Upload.URL, s.Upload.Headers, data); status == 200 {
								first.Add(1)
							}
							r.read(s.Ptr + "?download=1").ok(200)
						})
					}
					uploads.Wait()
					if first.Load() != 1 {
						t.Errorf("%d uploads were the first", first.Load())
					}
				}
				if f := r.read(s.Ptr).file(); !bytes.Equal(f.Content, data) {
					t.Errorf("%d: %d bytes", i, len(f.Content))
				}
				mu.Lock()
				defer mu.Unlock()
				seen[s.Ptr] = true
			})
		}
		all.Wait()
		if len(seen) != 40 {
			t.Errorf("%d pointers", len(seen))
		}
	})
}

// Other parts of the plane read by pointer: the tenant's own, whole, and no more than they take.
func TestArtifactsForTheRestOfThePlane(t *testing.T) {
	virtually(t, storing(), func(t *testing.T, r *rig) {
		files := &artifact.Store{Table: r.plane.Dispatcher.Jobs.Table, Blobs: r.plane.Dispatcher.Jobs.Blobs}
		data := random(6 << 20)
		up := r.keep("size_bytes", len(data), "sha256", digest(data), "content_type", "application/gzip")
		id, err := artifact.ParsePointer(up.Ptr)
		if err != nil {
			t.Fatal(err)
		}
		read := func(tenant string, limit int64) ([]byte, artifact.Meta, error) {
			return files.Read(t.Context(), tenant, id, limit, time.Now())
		}
		if _, _, err := read("default", 0); !errors.Is(err, artifact.ErrUnknown) {
			t.Errorf("before it is uploaded: %v", err)
		}
		r.upload(up, data)
		got, m, err := read("default", int64(len(data)))
		if err != nil || !bytes.Equal(got, data) || m.Size != int64(len(data)) || m.ContentType != "application/gzip" || m.Labels["tenant_id"] != "default" {
			t.Errorf("%d bytes, %+v, %v", len(got), m, err)
		}
		if _, _, err := read("default", int64(len(data))-1); !fault.Is(err, fault.TooLarge) {
			t.Errorf("over the limit: %v", err)
		}
		if _, _, err := read("other", 0); !errors.Is(err, artifact.ErrUnknown) {
			t.Errorf("another tenant's: %v", err)
		}
	})
}

// TestTheLastMomentOfAnArtifact: a link that is asked for in the last second works for one.
func TestTheLastMomentOfAnArtifact(t *testing.T) {
	virtually(t, storing("ARTIFACT_TTL_SHORT", "10s"), func(t *testing.T, r *rig) {
		s := r.keep("content", "brief", "retention", "short")
		time.Sleep(9900 * time.Millisecond)
		link := r.read(s.Ptr + "?download=1").file().Download
		if status, _ := r.follow("GET", link.URL, nil, nil); status != 200 {
			t.Errorf("%d", status)
		}
		up := r.keep("size_bytes", 1, "retention", "short")
		if want := time.Now().Add(9 * time.Second).UTC().Truncate(time.Second); up.Upload.Expires > want.Add(time.Second).Format(time.RFC3339) {
			t.Errorf("the upload may begin until %s, the artifact is gone at %s", up.Upload.Expires, want)
		}
	})
}
