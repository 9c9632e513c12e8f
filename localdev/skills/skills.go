// Package skills is what the demo worker can do: a few small things, but real ones. Each reads its input from the job's context, what was
// submitted as {"prompt": ..., "context": {...}}.
package skills

import (
	"cmp"
	"context"
	"crypto/md5"  //nolint:gosec // a digest that people ask for, not a protection
	"crypto/sha1" //nolint:gosec // likewise
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/cordum-serverless/cordum/sdk/worker"
)

// Options say what the skills may reach.
type Options struct {
	// AllowedHosts are the hosts that the fetch skill may ask; none when empty.
	AllowedHosts []string
}

// Handlers answers all skills by their topics.
func Handlers(o Options) map[string]worker.Handler {
	return map[string]worker.Handler{
		"job.default": WordCount, "job.demo.hash": Hash, "job.demo.wordcount": WordCount, "job.demo.sleep": Sleep, "job.demo.fail": Fail,
		"job.demo.fetch": Fetcher(o.AllowedHosts),
	}
}

// Register adds all skills to a worker, of any transport.
func Register(w interface {
	Handle(topic string, h worker.Handler)
}, o Options,
) {
	for topic, h := range Handlers(o) {
		w.Handle(topic, h)
	}
}

// input reads a job's context; the prompt stands in for a text that is not given.
func input(ctx context.Context, job *worker.Job, into any) (prompt string, err error) {
	var submitted struct {
		Prompt  string          `json:"prompt"`
		Context json.RawMessage `json:"context"`
	}
	if err := job.DecodeContext(ctx, &submitted); err != nil {
		return "", err
	}
	if len(submitted.Context) > 0 {
		if err := json.Unmarshal(submitted.Context, into); err != nil {
			return "", invalid("the context is not what this job expects: %v", err)
		}
	}
	return submitted.Prompt, nil
}

func invalid(format string, args ...any) error {
	return &worker.Error{Code: "invalid_input", Message: fmt.Sprintf(format, args...)}
}

var algorithms = map[string]func() hash.Hash{"md5": md5.New, "sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New}

// Hash digests a text or bytes. Context: {"text"? | "base64"?, "algorithm"? md5|sha1|sha256 (default)|sha512}; without either the prompt is
// digested. Result: {"algorithm", "digest" (hex), "bytes"}.
func Hash(ctx context.Context, job *worker.Job) (any, error) {
	var in struct {
		Text      *string `json:"text"`
		Base64    *string `json:"base64"`
		Algorithm string  `json:"algorithm"`
	}
	prompt, err := input(ctx, job, &in)
	if err != nil {
		return nil, err
	}
	name := cmp.Or(strings.ToLower(in.Algorithm), "sha256")
	algorithm, ok := algorithms[name]
	if !ok {
		return nil, invalid("algorithm %q is none of %s", in.Algorithm, strings.Join(slices.Sorted(maps.Keys(algorithms)), ", "))
	}
	data := []byte(prompt)
	switch {
	case in.Base64 != nil:
		if data, err = base64.StdEncoding.DecodeString(*in.Base64); err != nil {
			return nil, invalid("base64: %v", err)
		}
	case in.Text != nil:
		data = []byte(*in.Text)
	}
	h := algorithm()
	h.Write(data)
	return map[string]any{"algorithm": name, "digest": hex.EncodeToString(h.Sum(nil)), "bytes": len(data)}, nil
}

// WordCount counts a text. Context: {"text"?, "top"? (default 3)}; without a text the prompt is counted. Result: {"words", "lines",
// "unique", "top": [{"word", "count"}]}.
func WordCount(ctx context.Context, job *worker.Job) (any, error) {
	var in struct {
		Text *string `json:"text"`
		Top  *int    `json:"top"`
	}
	text, err := input(ctx, job, &in)
	if err != nil {
		return nil, err
	}
	if in.Text != nil {
		text = *in.Text
	}
	counts := map[string]int{}
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) && r != '\'' })
	for _, w := range words {
		counts[w]++
	}
	type entry struct {
		Word  string `json:"word"`
		Count int    `json:"count"`
	}
	top := []entry{}
	for w, n := range counts {
		top = append(top, entry{w, n})
	}
	slices.SortFunc(top, func(a, b entry) int { return cmp.Or(b.Count-a.Count, strings.Compare(a.Word, b.Word)) })
	n := 3
	if in.Top != nil {
		n = max(*in.Top, 0)
	}
	lines := strings.Count(text, "\n")
	if text != "" && !strings.HasSuffix(text, "\n") {
		lines++
	}
	return map[string]any{"words": len(words), "lines": lines, "unique": len(counts), "top": top[:min(n, len(top))]}, nil
}

// maxSleep is the longest a sleep may take.
const maxSleep = 10 * time.Minute

// Sleep waits, and tells how far it is. Context: {"ms", "steps"? (default 10)}. Result: {"slept_ms", "steps"}.
func Sleep(ctx context.Context, job *worker.Job) (any, error) {
	in := struct {
		MS    int64 `json:"ms"`
		Steps int   `json:"steps"`
	}{Steps: 10}
	if _, err := input(ctx, job, &in); err != nil {
		return nil, err
	}
	total := time.Duration(in.MS) * time.Millisecond
	if in.MS < 0 || total > maxSleep || in.Steps < 1 || in.Steps > 1000 {
		return nil, invalid("ms must be from 0 to %d, steps from 1 to 1000", maxSleep.Milliseconds())
	}
	for step := range in.Steps {
		job.Progress(100*step/in.Steps, fmt.Sprintf("step %d of %d", step+1, in.Steps))
		select {
		case <-time.After(total / time.Duration(in.Steps)):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return map[string]any{"slept_ms": in.MS, "steps": in.Steps}, nil
}

// Fail fails, as the context says: {"code"?, "message"?}. It shows what a dead letter keeps.
func Fail(ctx context.Context, job *worker.Job) (any, error) {
	var in struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	prompt, err := input(ctx, job, &in)
	if err != nil {
		return nil, err
	}
	return nil, &worker.Error{Code: cmp.Or(in.Code, "failed_on_purpose"), Message: cmp.Or(in.Message, prompt)}
}

// Limits of a fetch.
const (
	fetchTimeout = 10 * time.Second
	maxFetch     = 256 << 10
	maxRedirects = 3
)

// Fetcher reads a URL whose host is on the list, by http or https; redirects must stay on the list. A policy's network_allowlist narrows
// it further. Context: {"url"}. Result: {"status", "content_type", "bytes", "sha256", "text" (when it is text), "truncated"}.
func Fetcher(hosts []string) worker.Handler {
	return func(ctx context.Context, job *worker.Job) (any, error) {
		var in struct {
			URL string `json:"url"`
		}
		if _, err := input(ctx, job, &in); err != nil {
			return nil, err
		}
		allowed := func(u *url.URL) error {
			if u.Scheme != "http" && u.Scheme != "https" {
				return invalid("%s is no http or https URL", u.Redacted())
			}
			narrower := job.Constraints.GetSandbox().GetNetworkAllowlist()
			if !slices.Contains(hosts, u.Hostname()) || len(narrower) > 0 && !slices.Contains(narrower, u.Hostname()) {
				return &worker.Error{Code: "host_not_allowed", Message: fmt.Sprintf("host %q is not on the list of allowed hosts", u.Hostname())}
			}
			return nil
		}
		return fetch(ctx, in.URL, allowed)
	}
}

func fetch(ctx context.Context, address string, allowed func(*url.URL) error) (any, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, invalid("malformed URL")
	}
	if err := allowed(u); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, invalid("malformed URL")
	}
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errors.New("too many redirects")
			}
			return allowed(r.URL)
		},
	}
	res, err := client.Do(req)
	if refused, ok := errors.AsType[*worker.Error](err); ok {
		return nil, refused
	}
	if err != nil {
		return nil, &worker.Error{Code: "fetch_failed", Message: err.Error()}
	}
	defer func() { _ = res.Body.Close() }() // the body was read, or given up
	data, err := io.ReadAll(io.LimitReader(res.Body, maxFetch+1))
	if err != nil {
		return nil, &worker.Error{Code: "fetch_failed", Message: err.Error()}
	}
	truncated := len(data) > maxFetch
	data = data[:min(len(data), maxFetch)]
	sum := sha256.Sum256(data)
	out := map[string]any{
		"status": res.StatusCode, "content_type": res.Header.Get("Content-Type"), "bytes": len(data), "sha256": hex.EncodeToString(sum[:]),
		"truncated": truncated,
	}
	if kind := res.Header.Get("Content-Type"); strings.HasPrefix(kind, "text/") || strings.Contains(kind, "json") {
		out["text"] = strings.ToValidUTF8(string(data), "\ufffd")
	}
	return out, nil
}
