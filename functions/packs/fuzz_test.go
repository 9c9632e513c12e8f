package packs

import (
	"bytes"
	"mime/multipart"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/pack/archive"
)

// FuzzUpload: a form is an installation or a refusal, and what is taken of it is within the limits.
func FuzzUpload(f *testing.F) {
	form := func(parts ...string) (string, []byte) {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		for i := 0; i+1 < len(parts); i += 2 {
			if parts[i] == "bundle" {
				part, _ := w.CreateFormFile("bundle", "pack.tgz") // a buffer takes everything
				_, _ = part.Write([]byte(parts[i+1]))
				continue
			}
			_ = w.WriteField(parts[i], parts[i+1])
		}
		_ = w.Close()
		return w.FormDataContentType(), b.Bytes()
	}
	for _, parts := range [][]string{{"bundle", "bytes", "force", "true"}, {"bundle_ptr", "redis://art:1", "upgrade", "no"}, {"more", strings.Repeat("a", 2000)}, {}} {
		kind, body := form(parts...)
		f.Add(kind, body)
	}
	f.Add("multipart/form-data; boundary=a", []byte("--a\r\nContent-Disposition: form-data; name=bundle; filename=\"x\"\r\n\r\nx\r\n--a--"))
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/packs/install", bytes.NewReader(body))
		r.Header.Set("Content-Type", kind)
		req, err := upload(httptest.NewRecorder(), r)
		switch {
		case err != nil && !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.TooLarge):
			t.Errorf("%v", err)
		case err == nil && (len(req.GetBundle()) > archive.MaxBundle || len(req.GetBundlePtr()) > wordBytes || len(req.GetBundle()) > 0 && req.GetFilename() == ""):
			t.Errorf("%d bytes of %q, pointer %q", len(req.GetBundle()), req.GetFilename(), req.GetBundlePtr())
		}
	})
}
