package skills_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/cordum-serverless/cordum/localdev/skills"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/sdk/worker/workertest"
)

func do(t *testing.T, h worker.Handler, input string) (map[string]any, error) {
	t.Helper()
	value, err := h(t.Context(), workertest.Job(workertest.Input{Topic: "job.demo.x", Context: []byte(input)}))
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	return out, json.Unmarshal(text, &out)
}

func code(err error) string {
	if coded, ok := errors.AsType[*worker.Error](err); ok {
		return coded.Code
	}
	return ""
}

func TestHash(t *testing.T) {
	for input, want := range map[string]string{
		`{"prompt":"abc"}`: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		`{"prompt":"p","context":{"text":"abc","algorithm":"MD5"}}`:     "900150983cd24fb0d6963f7d28e17f72",
		`{"prompt":"p","context":{"base64":"YWJj","algorithm":"sha1"}}`: "a9993e364706816aba3e25717850c26c9cd0d89d",
		`{"prompt":"p","context":{"text":""}}`:                          "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	} {
		if out, err := do(t, skills.Hash, input); err != nil || out["digest"] != want {
			t.Errorf("%s: %v, %v", input, out, err)
		}
	}
	for _, input := range []string{`{"prompt":"p","context":{"algorithm":"crc"}}`, `{"prompt":"p","context":{"base64":"?"}}`, `{"prompt":"p","context":7}`, `no`} {
		if _, err := do(t, skills.Hash, input); code(err) != "invalid_input" {
			t.Errorf("%s: %v", input, err)
		}
	}
}

func TestWordCount(t *testing.T) {
	out, err := do(t, skills.WordCount, `{"prompt":"p","context":{"text":"The cat.\nThe dog's cat","top":1}}`)
	if err != nil || out["words"] != 5.0 || out["lines"] != 2.0 || out["unique"] != 3.0 {
		t.Errorf("%v, %v", out, err)
	}
	if top := out["top"].([]any); len(top) != 1 || top[0].(map[string]any)["word"] != "cat" {
		t.Errorf("top %v", top)
	}
}

func TestSleepCanBeStopped(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	cancel(stopped)
	_, err := skills.Sleep(ctx, workertest.Job(workertest.Input{Context: []byte(`{"context":{"ms":60000}}`)}))
	if !errors.Is(err, stopped) {
		t.Errorf("%v", err)
	}
	if _, err := do(t, skills.Sleep, `{"context":{"ms":-1}}`); code(err) != "invalid_input" {
		t.Errorf("negative: %v", err)
	}
}

func TestFail(t *testing.T) {
	if _, err := do(t, skills.Fail, `{"prompt":"p","context":{"code":"c","message":"m"}}`); code(err) != "c" || err.Error() != "m" {
		t.Errorf("%v", err)
	}
	if _, err := do(t, skills.Fail, `{"prompt":"p"}`); code(err) != "failed_on_purpose" || err.Error() != "p" {
		t.Errorf("%v", err)
	}
}

func TestFetch(t *testing.T) {
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	mux.HandleFunc("/text", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte("hello"))
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
	})
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	mux.HandleFunc("/much", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) })
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	fetch := skills.Fetcher([]string{u.Hostname()})
	input := func(address string) string { return `{"context":{"url":"` + address + `"}}` }
	if out, err := do(t, fetch, input(server.URL+"/text")); err != nil || out["text"] != "hello" || out["status"] != 200.0 || out["bytes"] != 5.0 {
		t.Errorf("text: %v, %v", out, err)
	}
	if out, err := do(t, fetch, input(server.URL+"/much")); err != nil || out["truncated"] != true || out["bytes"] != 262144.0 {
		t.Errorf("much: %v, %v", out, err)
	}
	for address, want := range map[string]string{
		server.URL + "/away": "host_not_allowed", "http://169.254.169.254/latest": "host_not_allowed", "file:///etc/passwd": "invalid_input",
		server.URL + "/round": "fetch_failed", "": "invalid_input", "http://[": "invalid_input",
	} {
		if _, err := do(t, fetch, input(address)); code(err) != want {
			t.Errorf("%q: %v, want %s", address, err, want)
		}
	}
}
