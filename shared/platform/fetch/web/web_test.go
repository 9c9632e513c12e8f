package web_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/fetch"
	"github.com/cordum-serverless/cordum/shared/platform/fetch/fetchtest"
	"github.com/cordum-serverless/cordum/shared/platform/fetch/web"
)

const (
	packs = "packs.example.com"
	cdn   = "cdn.example.com"
	limit = 1000
)

var hosts = []string{packs, cdn}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

// online runs a test in an internet of its own, in virtual time.
func online(t *testing.T, test func(t *testing.T, n *fetchtest.Internet, get func(address string) (string, error))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := fetchtest.New(t)
		c := n.Client(fetch.Allow{})
		test(t, n, func(address string) (string, error) {
			body, err := c.Get(t.Context(), address, hosts, limit)
			return string(body), err
		})
	})
}

// because checks why nothing was fetched.
func because(t *testing.T, err error, want string) {
	t.Helper()
	f, ok := errors.AsType[*fetch.Error](err)
	if !ok || f.Reason != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestWhatIsFetched(t *testing.T) {
	online(t, func(t *testing.T, n *fetchtest.Internet, get func(string) (string, error)) {
		t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
		var asked http.Header
		n.Site(packs, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = r.Header.Clone()
			http.SetCookie(w, &http.Cookie{Name: "who", Value: "you"})
			_, _ = io.WriteString(w, r.URL.RequestURI())
		}))
		for range 2 {
			if body, err := get("https://" + packs + "/a%2Fb?c=d"); err != nil || body != "/a%2Fb?c=d" {
				t.Error(body, err)
			}
			for name := range asked {
				if !slices.Contains([]string{"User-Agent", "Accept-Encoding", "Connection"}, name) {
					t.Errorf("it sends %s", name)
				}
			}
		}
	})
}

func TestStatusesThatAreNoAnswer(t *testing.T) {
	online(t, func(t *testing.T, n *fetchtest.Internet, get func(string) (string, error)) {
		n.Site(packs, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			code, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
			if err != nil {
				t.Error(err)
			}
			w.WriteHeader(code)
		}))
		for code, want := range map[int]string{
			204: "204 No Content", 206: "206 Partial Content", 304: "304 Not Modified", 404: "404 Not Found", 500: "500 Internal Server Error",
			301: "redirect to nowhere", 299: "299 ",
		} {
			_, err := get(fmt.Sprintf("https://%s/%d", packs, code))
			because(t, err, want)
		}
	})
}

// A server says of its answer's length what it likes.
func TestNoMoreThanTheLimit(t *testing.T) {
	online(t, func(t *testing.T, n *fetchtest.Internet, get func(string) (string, error)) {
		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		_, _ = z.Write(make([]byte, 1<<20))
		_ = z.Close()
		raw := func(text string) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+text)
				_ = conn.Close()
			}
		}
		sent := 0
		mux := http.NewServeMux()
		mux.Handle("/exactly", says(strings.Repeat("x", limit)))
		mux.Handle("/more", says(strings.Repeat("x", limit+1)))
		mux.Handle("/says-more", raw(fmt.Sprintf("Content-Length: %d\r\n\r\nx", 1<<40)))
		mux.Handle("/short", raw("Content-Length: 10\r\n\r\nxx"))
		mux.Handle("/says-less", raw("Content-Length: 2\r\n\r\n"+strings.Repeat("x", 5000)))
		mux.Handle("/to-the-end", raw("\r\n"+strings.Repeat("x", 5000)))
		mux.Handle("/no-length", raw("\r\nxyz"))
		mux.Handle("/headers", raw("X: "+strings.Repeat("x", 1<<20)+"\r\n\r\n"))
		mux.Handle("/no-http", raw("\x00\x01\x02"))
		mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
			for {
				k, err := w.Write(make([]byte, 100))
				if sent += k; err != nil {
					return
				}
				w.(http.Flusher).Flush()
			}
		})
		mux.HandleFunc("/zipped", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(zipped.Bytes()[:900])
		})
		n.Site(packs, mux)
		for path, want := range map[string]string{
			"exactly": strings.Repeat("x", limit), "says-less": "xx", "no-length": "xyz", "zipped": string(zipped.Bytes()[:900]), // as it was sent
		} {
			if body, err := get("https://" + packs + "/" + path); err != nil || body != want {
				t.Errorf("%s: %d bytes, %v", path, len(body), err)
			}
		}
		for path, want := range map[string]string{
			"more": "larger than 1000 bytes", "says-more": "larger than 1000 bytes", "to-the-end": "larger than 1000 bytes", "endless": "larger than 1000 bytes",
			"short": "answer cut short", "headers": "connection failed", "no-http": "connection failed",
		} {
			_, err := get("https://" + packs + "/" + path)
			because(t, err, want)
		}
		if sent > 2<<20 {
			t.Errorf("%d bytes were sent before it was given up", sent)
		}
	})
}

func TestRedirects(t *testing.T) {
	online(t, func(t *testing.T, n *fetchtest.Internet, get func(string) (string, error)) {
		mux := http.NewServeMux()
		to := func(code int, where string) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", where)
				w.WriteHeader(code)
			}
		}
		mux.Handle("/end", says("here"))
		mux.Handle("/1", to(301, "/end"))
		mux.Handle("/2", to(302, "https://"+cdn+"/1"))
		mux.Handle("/3", to(307, "//"+packs+":443/2"))
		mux.Handle("/4", to(308, "3"))
		mux.Handle("/round", to(303, "/round"))
		for name, where := range map[string]string{
			"metadata": "https://169.254.169.254/latest/meta-data/", "plain-metadata": "http://169.254.169.254/latest/meta-data/", "localhost": "https://localhost/",
			"plain": "http://" + packs + "/end", "elsewhere": "https://evil.example.com/", "user": "https://you@" + packs + "/end", "port": "https://" + packs + ":8443/end",
			"file": "file:///etc/passwd", "inside": "https://" + cdn + "/inside",
		} {
			mux.Handle("/"+name, to(302, where))
		}
		n.Site(packs, mux)
		n.Site(cdn, mux)
		for i := 1; i <= 3; i++ {
			if body, err := get(fmt.Sprintf("https://%s/%d", packs, i)); err != nil || body != "here" {
				t.Errorf("%d redirects: %q, %v", i, body, err)
			}
		}
		for path, want := range map[string]string{
			"4": "more than 3 redirects", "round": "more than 3 redirects", "metadata": `redirect: url host "169.254.169.254" not allowed`,
			"plain-metadata": `redirect from https to "http"`, "localhost": `redirect: url host "localhost" not allowed`, "plain": `redirect from https to "http"`,
			"elsewhere": `redirect: url host "evil.example.com" not allowed`, "user": "redirect: url must not have a user", "port": `redirect: url port "8443" not allowed`,
			"file": `redirect from https to "file"`,
		} {
			_, err := get("https://" + packs + "/" + path)
			because(t, err, want)
		}
		for _, address := range n.Dialled() {
			if !strings.HasPrefix(address, "93.184.216.") {
				t.Errorf("it dialled %s", address)
			}
		}
		n.Name(cdn, []string{"10.0.0.1"})
		_, err := get("https://" + packs + "/inside")
		because(t, err, `host "cdn.example.com" leads to an address that is not allowed`)
	})
}

func TestWhereNamesLead(t *testing.T) {
	online(t, func(t *testing.T, n *fetchtest.Internet, get func(string) (string, error)) {
		for _, inside := range []string{"10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254", "::ffff:192.168.0.1", "64:ff9b::a9fe:a9fe", "0.0.0.0"} {
			n.Serve(net.JoinHostPort(strings.TrimPrefix(inside, "::ffff:"), "443"), says("secret"))
			for _, answer := range [][]string{{inside}, {"93.184.216.34", inside}, {inside, "93.184.216.34"}} {
				n.Name(packs, answer)
				_, err := get("https://" + packs)
				because(t, err, `host "packs.example.com" leads to an address that is not allowed`)
			}
		}
		if d := n.Dialled(); len(d) > 0 {
			t.Errorf("it dialled %v", d)
		}
		n.Name(packs)
		_, err := get("https://" + packs)
		because(t, err, `host "packs.example.com" not found`)
		if f, ok := errors.AsType[*net.DNSError](err); !ok || !f.IsNotFound {
			t.Errorf("the log hears of %v", err)
		}
		// The first address of several does not answer; the next one does.
		n.Serve("93.184.216.99:443", says("here"))
		n.Name(packs, []string{"2606:4700::1111", "93.184.216.98", "93.184.216.99"})
		if body, err := get("https://" + packs); err != nil || body != "here" {
			t.Error(body, err)
		}
		n.Name(packs, []string{"93.184.216.98"})
		_, err = get("https://" + packs)
		because(t, err, "connection failed")
		n.Name(cdn, []string{"93.184.216.97"})
		n.ServePlain("93.184.216.97:443", says("plain"))
		_, err = get("https://" + cdn)
		because(t, err, "connection failed")
	})
}

// A name that leads to the internet when it is looked at, and inside when it is used, is asked once for both; each hop asks anew.
func TestANameThatIsBoundAnew(t *testing.T) {
	online(t, func(t *testing.T, n *fetchtest.Internet, get func(string) (string, error)) {
		n.Serve("93.184.216.34:443", http.RedirectHandler("/again", http.StatusFound))
		n.Serve("127.0.0.1:443", says("secret"))
		n.Name(packs, []string{"93.184.216.34"}, []string{"127.0.0.1"})
		_, err := get("https://" + packs + "/")
		because(t, err, `host "packs.example.com" leads to an address that is not allowed`)
		if d := n.Dialled(); !slices.Equal(d, []string{"93.184.216.34:443"}) {
			t.Errorf("it dialled %v", d)
		}
	})
}

func TestItTakesNoLongerThan(t *testing.T) {
	online(t, func(t *testing.T, n *fetchtest.Internet, _ func(string) (string, error)) {
		mux := http.NewServeMux()
		mux.HandleFunc("/silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		mux.HandleFunc("/drips", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, ".")
				w.(http.Flusher).Flush()
				time.Sleep(time.Second)
			}
		})
		mux.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(29 * time.Second)
			_, _ = io.WriteString(w, "here")
		})
		mux.HandleFunc("/round", func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(12 * time.Second)
			w.Header().Set("Location", "/round")
			w.WriteHeader(http.StatusFound)
		})
		n.Site(packs, mux)
		c := n.Client(fetch.Allow{})
		took := func(ctx context.Context, address string, want time.Duration) error {
			t.Helper()
			begin := time.Now()
			_, err := c.Get(ctx, address, hosts, limit)
			if d := time.Since(begin); d != want {
				t.Errorf("%s took %v, want %v", address, d, want)
			}
			return err
		}
		for _, path := range []string{"silent", "drips", "round"} {
			because(t, took(t.Context(), "https://"+packs+"/"+path, web.Total), "no answer within 30s")
		}
		if err := took(t.Context(), "https://"+packs+"/slow", 29*time.Second); err != nil {
			t.Error(err)
		}
		impatient, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := took(impatient, "https://"+packs+"/silent", 3*time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller's own time: %v", err)
		}
		c.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		because(t, took(t.Context(), "https://"+packs+"/", web.Connect), "connection failed")
		c.Dial = func(context.Context, string, string) (net.Conn, error) {
			silent, _ := net.Pipe()
			return silent, nil
		}
		because(t, took(t.Context(), "https://"+packs+"/", web.Connect), "connection failed")
	})
}

// On a real machine, with its own dialer: what the operator allows is reached, and nothing else of it.
func TestOnThisMachine(t *testing.T) {
	neighbour := httptest.NewServer(says("secret"))
	t.Cleanup(neighbour.Close)
	mux := http.NewServeMux()
	mux.Handle("/", says("here"))
	mux.Handle("/next", http.RedirectHandler("/catalog.json", http.StatusFound))
	mux.Handle("/neighbour", http.RedirectHandler(neighbour.URL, http.StatusFound))
	mux.Handle("/metadata", http.RedirectHandler("http://169.254.169.254/", http.StatusFound))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c, err := web.FromEnv(func(name string) string {
		return map[string]string{"CORDUM_MARKETPLACE_ALLOW": server.URL + ",http://other.example.com"}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/catalog.json", "/next"} {
		if body, err := c.Get(t.Context(), server.URL+path, nil, limit); err != nil || string(body) != "here" {
			t.Errorf("%q, %v", body, err)
		}
	}
	for _, path := range []string{"/neighbour", "/metadata"} {
		_, err := c.Get(t.Context(), server.URL+path, nil, limit)
		because(t, err, `redirect: unsupported url scheme "http"`)
	}
	if _, err := c.Get(t.Context(), strings.Replace(server.URL, "127.0.0.1", "localhost", 1), nil, limit); err == nil {
		t.Error("another origin of the same server")
	}
	if _, err := web.FromEnv(func(string) string { return "localhost" }); err == nil {
		t.Error("a setting that is none")
	}
}

// The address is looked at once more on the socket: a dialer that is handed a good one cannot be led elsewhere.
func TestTheSocketIsLookedAt(t *testing.T) {
	check := web.Control(fetch.Target{}, packs)
	for address, good := range map[string]bool{"93.184.216.34:443": true, "127.0.0.1:443": false, "[::1]:443": false, "169.254.169.254:80": false, "x": false} {
		if err := check("tcp", address, nil); (err == nil) != good {
			t.Errorf("%s: %v", address, err)
		}
	}
}
