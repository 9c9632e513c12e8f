package stream_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/edge/stream"
)

// FuzzSubprotocol: the protocol that a handshake names is one that was offered, whatever was offered, and a key in either form is found again.
func FuzzSubprotocol(f *testing.F) {
	for _, seed := range []string{"cordum-api-key, a2V5", "cordum-api-key.a2V5", "chat, Cordum-API-Key,,x", "cordum-api-key", "cordum-api-key.", ",", "cordum-api-key, %%%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key, echo := stream.Subprotocol(text)
		if key != "" && echo == "" {
			t.Errorf("%q: a key %q, and no protocol to answer with", text, key)
		}
		offered := echo == ""
		for offer := range strings.SplitSeq(text, ",") {
			offered = offered || strings.TrimSpace(offer) == echo
		}
		if !offered {
			t.Errorf("%q: the answer %q was not offered", text, echo)
		}
		if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return
		}
		encoded := base64.RawURLEncoding.EncodeToString([]byte(text))
		for _, header := range []string{"cordum-api-key, " + encoded, "cordum-api-key." + encoded} {
			if got, _ := stream.Subprotocol(header); got != text {
				t.Errorf("%q: the key is %q", header, got)
			}
		}
	})
}

// FuzzJobOf: the job of a path is one segment of it.
func FuzzJobOf(f *testing.F) {
	for _, seed := range []string{"/api/v1/stream", "/api/v1/jobs/j-1/stream", "/api/v1/jobs//stream", "/api/v1/jobs/a/b/stream"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if job, ok := stream.JobOf(path); ok && (strings.Contains(job, "/") || job != "" && path != "/api/v1/jobs/"+job+"/stream") {
			t.Errorf("%q: job %q", path, job)
		}
	})
}
