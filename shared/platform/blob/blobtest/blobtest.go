// Package blobtest is what every blob.Store must do, as tests: two lines per adapter.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
)

// Options say what is different about the place where a suite runs. The zero value leaves nothing out.
type Options struct {
	// Unreachable is the reason why presigned URLs cannot be followed from here; "" when they can. They are made and checked for form anyway.
	Unreachable string
	// Unverified is the reason why what serves the URLs does not verify signatures, as emulators do not; "" when it does.
	Unverified string
}

// Run tests a store, the subtests in parallel. open is called once for each subtest and may answer the same store every time: the subtests
// use keys of their own, all beginning with "test-". What open starts it ends with t.Cleanup.
func Run(t *testing.T, open func(t testing.TB) blob.Store, opts Options) {
	for _, c := range slices.Concat(objectCases, presignCases) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(&suite{T: t, blobs: open(t), opts: opts, prefix: "test-" + ids.Source{}.Hex(8) + "/"})
		})
	}
}

type testCase struct {
	name string
	run  func(*suite)
}

type suite struct {
	*testing.T

	blobs  blob.Store
	opts   Options
	prefix string
}

var objectCases = []testCase{
	{"object/put_get_head_delete", testRoundTrip},
	{"object/replaced", testReplace},
	{"object/if_absent", testIfAbsent},
	{"object/one_creator_wins", testOneCreator},
	{"object/unknown", testUnknown},
	{"object/metadata_and_class", testMetadata},
	{"object/sizes", testSizes},
	{"object/limit", testLimit},
	{"object/legal_keys", testLegalKeys},
	{"object/refused", testRefused},
	{"object/ended_context", testContext},
	{"object/caller_may_reuse_what_it_gave", testNoAliasing},
}

func (s *suite) ctx() context.Context { return s.Context() }

func (s *suite) put(key string, data []byte, opts blob.PutOptions) {
	s.Helper()
	if err := s.blobs.Put(s.ctx(), key, data, opts); err != nil {
		s.Fatalf("put %s: %v", key, err)
	}
}

func (s *suite) want(key string, data []byte) blob.Object {
	s.Helper()
	got, o, err := s.blobs.Get(s.ctx(), key, 0)
	if err != nil {
		s.Fatalf("get %s: %v", key, err)
	}
	if !bytes.Equal(got, data) || o.Size != int64(len(data)) {
		s.Fatalf("get %s: got %d bytes, said to be %d, want %d", key, len(got), o.Size, len(data))
	}
	return o
}

func (s *suite) wantError(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("got %v, want %v", err, want)
	}
}

func (s *suite) wantAbsent(key string) {
	s.Helper()
	_, _, err := s.blobs.Get(s.ctx(), key, 0)
	s.wantError(err, blob.ErrNotFound)
	_, err = s.blobs.Head(s.ctx(), key)
	s.wantError(err, blob.ErrNotFound)
}

func testRoundTrip(s *suite) {
	key := s.prefix + "a"
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	s.put(key, every, blob.PutOptions{ContentType: "application/json; charset=utf-8"})
	got := s.want(key, every)
	head, err := s.blobs.Head(s.ctx(), key)
	if err != nil {
		s.Fatal(err)
	}
	for _, o := range []blob.Object{got, head} {
		if o.ContentType != "application/json; charset=utf-8" || o.Size != 256 || o.Class != "" || len(o.Metadata) != 0 {
			s.Fatalf("got %+v", o)
		}
	}
	if err := s.blobs.Delete(s.ctx(), key); err != nil {
		s.Fatal(err)
	}
	s.wantAbsent(key)
}

func testReplace(s *suite) {
	key := s.prefix + "a"
	s.put(key, []byte("a long first body"), blob.PutOptions{ContentType: "text/plain", Class: "short", Metadata: map[string]string{"a": "b"}})
	s.put(key, []byte("second"), blob.PutOptions{})
	if o := s.want(key, []byte("second")); o.ContentType != blob.DefaultType || o.Class != "" || len(o.Metadata) != 0 {
		s.Fatalf("got %+v", o)
	}
}

func testIfAbsent(s *suite) {
	key := s.prefix + "a"
	s.put(key, []byte("first"), blob.PutOptions{IfAbsent: true})
	s.wantError(s.blobs.Put(s.ctx(), key, []byte("second"), blob.PutOptions{IfAbsent: true}), blob.ErrExists)
	s.want(key, []byte("first"))
	if err := s.blobs.Delete(s.ctx(), key); err != nil {
		s.Fatal(err)
	}
	s.put(key, []byte("third"), blob.PutOptions{IfAbsent: true})
	s.want(key, []byte("third"))
}

func testOneCreator(s *suite) {
	key := s.prefix + "a"
	errs := make(chan error)
	const creators = 4
	for i := range creators {
		go func() {
			errs <- s.blobs.Put(s.ctx(), key, bytes.Repeat([]byte{byte('a' + i)}, 1000), blob.PutOptions{IfAbsent: true})
		}()
	}
	winners := 0
	for range creators {
		switch err := <-errs; {
		case err == nil:
			winners++
		case !errors.Is(err, blob.ErrExists):
			s.Errorf("got %v, want ErrExists", err)
		}
	}
	got, _, err := s.blobs.Get(s.ctx(), key, 0)
	if winners != 1 || err != nil || len(got) != 1000 || len(bytes.Trim(got, string(got[:1]))) != 0 {
		s.Fatalf("%d creators won; %d bytes, %v", winners, len(got), err)
	}
}

func testUnknown(s *suite) {
	s.wantAbsent(s.prefix + "unknown")
	if err := s.blobs.Delete(s.ctx(), s.prefix+"unknown"); err != nil {
		s.Fatal(err)
	}
	s.put(s.prefix+"dir/file", []byte("x"), blob.PutOptions{})
	s.wantAbsent(s.prefix + "dir")
	s.put(s.prefix+"dir", []byte("y"), blob.PutOptions{}) // a key may begin with another one
	s.want(s.prefix+"dir", []byte("y"))
	s.want(s.prefix+"dir/file", []byte("x"))
}

func testMetadata(s *suite) {
	key := s.prefix + "a"
	meta := map[string]string{"tenant": "acme", "job-id": "j:1/2", "note": `spaces, "quotes" & <more>`}
	s.put(key, []byte("x"), blob.PutOptions{ContentType: "text/plain", Class: "audit", Metadata: meta})
	head, err := s.blobs.Head(s.ctx(), key)
	if err != nil {
		s.Fatal(err)
	}
	for _, o := range []blob.Object{head, s.want(key, []byte("x"))} {
		if o.Class != "audit" || o.ContentType != "text/plain" || len(o.Metadata) != len(meta) {
			s.Fatalf("got %+v", o)
		}
		for name, value := range meta {
			if o.Metadata[name] != value {
				s.Fatalf("metadata %s: got %q, want %q", name, o.Metadata[name], value)
			}
		}
	}
}

func testSizes(s *suite) {
	for _, n := range []int{0, 1, 4096, 1 << 20, 6 << 20} {
		data := bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
		s.put(s.prefix+"a", data, blob.PutOptions{})
		s.want(s.prefix+"a", data)
	}
}

func testLimit(s *suite) {
	key := s.prefix + "a"
	s.put(key, make([]byte, 100), blob.PutOptions{})
	_, _, err := s.blobs.Get(s.ctx(), key, 99)
	s.wantError(err, blob.ErrTooLarge)
	if got, _, err := s.blobs.Get(s.ctx(), key, 100); err != nil || len(got) != 100 {
		s.Fatalf("got %d bytes, %v", len(got), err)
	}
	s.wantError(s.blobs.Put(s.ctx(), s.prefix+"b", make([]byte, blob.MaxInline+1), blob.PutOptions{}), blob.ErrTooLarge)
	s.wantAbsent(s.prefix + "b")
}

func testLegalKeys(s *suite) {
	keys := []string{
		"x", "X", "a/b/c", "...", ".hidden", "a..b", "-", "~", "a:b@c=d+e~f", "redis:art", "con", "a.meta", "a.tmp", "a/b.json", "a+b", "0",
		strings.Repeat("k", 255), strings.Repeat("long/", 100) + "end", strings.Repeat("x", blob.MaxKey-len(s.prefix)),
	}
	for _, k := range keys {
		s.put(s.prefix+k, []byte(k), blob.PutOptions{})
	}
	for _, k := range keys {
		s.want(s.prefix+k, []byte(k))
	}
}

func testRefused(s *suite) {
	for _, key := range []string{
		"", "/a", "a/", "a//b", "a b", "a%b", "a\\b", "a?b", "a#b", "ż", "a\x00b", "a\nb", "..", ".", "a/../b", "a/./b", "../a", "a*",
		strings.Repeat("x", blob.MaxKey+1),
	} {
		_, _, get := s.blobs.Get(s.ctx(), key, 0)
		_, head := s.blobs.Head(s.ctx(), key)
		_, presignGet := s.blobs.PresignGet(s.ctx(), key, time.Minute)
		_, presignPut := s.blobs.PresignPut(s.ctx(), key, blob.Upload{ContentType: "text/plain", Size: 1}, time.Minute)
		for name, err := range map[string]error{
			"put": s.blobs.Put(s.ctx(), key, nil, blob.PutOptions{}), "get": get, "head": head, "delete": s.blobs.Delete(s.ctx(), key),
			"presign get": presignGet, "presign put": presignPut,
		} {
			if !errors.Is(err, blob.ErrInvalid) {
				s.Errorf("%s %.40q: got %v, want ErrInvalid", name, key, err)
			}
		}
	}
	for name, opts := range map[string]blob.PutOptions{
		"upper-case name": {Metadata: map[string]string{"A": "b"}}, "no name": {Metadata: map[string]string{"": "b"}},
		"unicode": {Metadata: map[string]string{"a": "ż"}}, "line break": {Metadata: map[string]string{"a": "b\nc"}},
		"space around it": {Metadata: map[string]string{"a": " b"}}, "too much": {Metadata: map[string]string{"a": strings.Repeat("x", 2048)}},
		"content type": {ContentType: "a\r\nb: c"}, "class": {Class: "a b"},
	} {
		if err := s.blobs.Put(s.ctx(), s.prefix+"a", nil, opts); !errors.Is(err, blob.ErrInvalid) {
			s.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	s.wantAbsent(s.prefix + "a")
}

func testContext(s *suite) {
	ctx, cancel := context.WithCancel(s.ctx())
	cancel()
	key := s.prefix + "a"
	_, _, get := s.blobs.Get(ctx, key, 0)
	_, head := s.blobs.Head(ctx, key)
	for name, err := range map[string]error{
		"put": s.blobs.Put(ctx, key, []byte("x"), blob.PutOptions{}), "get": get, "head": head, "delete": s.blobs.Delete(ctx, key),
	} {
		if !errors.Is(err, context.Canceled) {
			s.Errorf("%s: got %v, want context.Canceled", name, err)
		}
	}
	s.wantAbsent(key)
}

func testNoAliasing(s *suite) {
	data, meta := []byte("before"), map[string]string{"a": "b"}
	s.put(s.prefix+"a", data, blob.PutOptions{Metadata: meta})
	copy(data, "AFTER!")
	meta["a"] = "c"
	if o := s.want(s.prefix+"a", []byte("before")); o.Metadata["a"] != "b" {
		s.Fatalf("got %+v", o)
	}
	got, _, _ := s.blobs.Get(s.ctx(), s.prefix+"a", 0)
	copy(got, "CHANGE")
	s.want(s.prefix+"a", []byte("before"))
}

var presignCases = []testCase{
	{"presigned/get", testPresignGet},
	{"presigned/put", testPresignPut},
	{"presigned/put_without_class", testPresignPutClassless},
	{"presigned/ends", testPresignEnds},
	{"presigned/tampered", testPresignTampered},
	{"presigned/refused", testPresignRefused},
}

// followed answers false when URLs cannot be followed here; the reason is in the log.
func (s *suite) followed() bool {
	if s.opts.Unreachable != "" {
		s.Logf("URLs are made, not followed: %s", s.opts.Unreachable)
	}
	return s.opts.Unreachable == ""
}

func (s *suite) url(url string, err error) string {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
	if !strings.HasPrefix(url, "http://") && !strings.HasPrefix(url, "https://") {
		s.Fatalf("got %q, want a URL", url)
	}
	return url
}

// do makes a request as any HTTP client does, and answers status, content type and body.
func (s *suite) do(method, url string, header map[string]string, body []byte) (int, string, []byte) {
	s.Helper()
	var r io.Reader
	if method == http.MethodPut {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(s.ctx(), method, url, r)
	if err != nil {
		s.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		s.Fatal(err)
	}
	return res.StatusCode, res.Header.Get("Content-Type"), got
}

func testPresignGet(s *suite) {
	for _, key := range []string{s.prefix + "a", s.prefix + "a:b@c=d+e~f/g.txt"} {
		s.put(key, []byte("content"), blob.PutOptions{ContentType: "text/x-special"})
		url := s.url(s.blobs.PresignGet(s.ctx(), key, time.Minute))
		if !s.followed() {
			return
		}
		if status, kind, body := s.do(http.MethodGet, url, nil, nil); status != http.StatusOK || kind != "text/x-special" || string(body) != "content" {
			s.Fatalf("got %d %s %q", status, kind, body)
		}
	}
	url := s.url(s.blobs.PresignGet(s.ctx(), s.prefix+"unknown", time.Minute))
	if status, _, _ := s.do(http.MethodGet, url, nil, nil); status != http.StatusNotFound {
		s.Fatalf("unknown object: got %d", status)
	}
}

func testPresignPut(s *suite) {
	key, data := s.prefix+"dir/a+b=c", bytes.Repeat([]byte("x"), 1000)
	signed, err := s.blobs.PresignPut(s.ctx(), key, blob.Upload{ContentType: "image/png", Size: int64(len(data)), Class: "short"}, time.Minute)
	url := s.url(signed.URL, err)
	if signed.Header["Content-Type"] != "image/png" {
		s.Fatalf("headers %v", signed.Header)
	}
	s.wantAbsent(key)
	if !s.followed() {
		return
	}
	put := func(header map[string]string, data []byte) (int, string) {
		status, _, body := s.do(http.MethodPut, url, header, data)
		return status, string(body)
	}
	if s.opts.Unverified == "" {
		for name, body := range map[string][]byte{"less": data[1:], "more": append(slices.Clip(data), 'y')} {
			if status, _ := put(signed.Header, body); status < 400 || status > 499 {
				s.Errorf("%s: got %d, want it refused", name, status)
			}
		}
		for name := range signed.Header {
			without, other := maps.Clone(signed.Header), maps.Clone(signed.Header)
			delete(without, name)
			other[name] = "text/html"
			for what, header := range map[string]map[string]string{"without": without, "another": other} {
				if status, _ := put(header, data); status < 400 || status > 499 {
					s.Errorf("%s %s: got %d, want it refused", what, name, status)
				}
			}
		}
		s.wantAbsent(key)
	}
	if status, body := put(signed.Header, data); status != http.StatusOK {
		s.Fatalf("got %d %s", status, body)
	}
	if o := s.want(key, data); o.ContentType != "image/png" || o.Class != "short" {
		s.Fatalf("got %+v", o)
	}
	if status, body := put(signed.Header, bytes.Repeat([]byte("y"), len(data))); status != http.StatusPreconditionFailed {
		s.Errorf("once more: got %d %s", status, body)
	}
	s.want(key, data)
}

// An upload may have no class.
func testPresignPutClassless(s *suite) {
	key := s.prefix + "a"
	signed, err := s.blobs.PresignPut(s.ctx(), key, blob.Upload{ContentType: "text/plain", Size: 1}, time.Minute)
	url := s.url(signed.URL, err)
	if !s.followed() {
		return
	}
	if status, _, body := s.do(http.MethodPut, url, signed.Header, []byte("x")); status != http.StatusOK {
		s.Fatalf("got %d %s", status, body)
	}
	if o := s.want(key, []byte("x")); o.Class != "" {
		s.Fatalf("got %+v", o)
	}
}

func testPresignEnds(s *suite) {
	if s.opts.Unverified != "" {
		s.Logf("nothing to test: %s", s.opts.Unverified)
		return
	}
	if !s.followed() {
		return
	}
	key := s.prefix + "a"
	s.put(key, []byte("x"), blob.PutOptions{})
	url := s.url(s.blobs.PresignGet(s.ctx(), key, time.Second))
	status := 0
	for start := time.Now(); time.Since(start) < 30*time.Second; time.Sleep(200 * time.Millisecond) {
		if status, _, _ = s.do(http.MethodGet, url, nil, nil); status == http.StatusForbidden {
			return
		}
	}
	s.Fatalf("still %d after 30 s, although the URL was for one", status)
}

func testPresignTampered(s *suite) {
	if s.opts.Unverified != "" {
		s.Logf("nothing to test: %s", s.opts.Unverified)
		return
	}
	s.put(s.prefix+"a", []byte("x"), blob.PutOptions{})
	s.put(s.prefix+"b", []byte("secret"), blob.PutOptions{})
	url := s.url(s.blobs.PresignGet(s.ctx(), s.prefix+"a", time.Minute))
	if !s.followed() {
		return
	}
	path, query, _ := strings.Cut(url, "?")
	for name, forged := range map[string]string{
		"other object": strings.TrimSuffix(path, "a") + "b?" + query, "no signature": path, "other key and query": path + "?x=y",
	} {
		if status, _, body := s.do(http.MethodGet, forged, nil, nil); status != http.StatusForbidden {
			s.Errorf("%s: got %d %q", name, status, body)
		}
	}
	if status, _, _ := s.do(http.MethodPut, url, map[string]string{"Content-Type": "text/plain"}, []byte("overwritten")); status != http.StatusForbidden {
		s.Errorf("put with a URL for get: got %d", status)
	}
	s.want(s.prefix+"a", []byte("x"))
}

func testPresignRefused(s *suite) {
	get := func(ttl time.Duration) error {
		_, err := s.blobs.PresignGet(s.ctx(), s.prefix+"a", ttl)
		return err
	}
	put := func(contentType string, size int64, ttl time.Duration) error {
		_, err := s.blobs.PresignPut(s.ctx(), s.prefix+"a", blob.Upload{ContentType: contentType, Size: size}, ttl)
		return err
	}
	_, class := s.blobs.PresignPut(s.ctx(), s.prefix+"a", blob.Upload{ContentType: "a/b", Size: 1, Class: "a b"}, time.Minute)
	for name, err := range map[string]error{
		"class": class, "no time": get(0), "negative": get(-time.Hour), "too long": get(blob.MaxTTL + time.Second), "put too long": put("a/b", 1, blob.MaxTTL+time.Second),
		"no type": put("", 1, time.Minute), "bad type": put("a\nb", 1, time.Minute), "negative size": put("a/b", -1, time.Minute),
		"too large": put("a/b", blob.MaxUpload+1, time.Minute),
	} {
		if !errors.Is(err, blob.ErrInvalid) {
			s.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	s.url(s.blobs.PresignGet(s.ctx(), s.prefix+"a", blob.MaxTTL))
}
