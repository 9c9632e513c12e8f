package rest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"go.uber.org/goleak"

	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const keys = `[{"key":"k-admin","role":"admin"},{"key":"k-operator","role":"operator"},{"key":"k-user","role":"user"},{"key":"k-viewer","role":"viewer"},
	{"key":"k-worker","role":"worker","pools":["*"]},{"key":"k-b","tenant":"b"},{"key":"k-x","allow_cross_tenant":true},
	{"key":"k-bot","principal_id":"bot"},{"key":"k-lax","tenant_header":"optional"}]`

// hand is a clock that stands still unless a test turns it.
type hand struct {
	mu  sync.Mutex
	now time.Time
}

func (h *hand) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hand) turn(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

// plane is a handler with its log and clock.
type plane struct {
	handler http.Handler
	clock   *hand
	log     *lockedLog
}

type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lockedLog) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

func newPlane(t testing.TB, env map[string]string, groups ...rest.Group) *plane {
	t.Helper()
	if env["CORDUM_API_KEYS"] == "" {
		env["CORDUM_API_KEYS"] = keys
	}
	getenv := func(name string) string { return env[name] }
	p := &plane{clock: &hand{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, log: &lockedLog{}}
	access, err := auth.FromEnv(getenv)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := rest.FromEnv(getenv)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Log, cfg.Clock = slog.New(slog.NewTextHandler(p.log, nil)), p.clock
	if cfg.Gate, err = auth.New(access, p.clock, cfg.Log); err != nil {
		t.Fatal(err)
	}
	p.handler = rest.New(cfg, groups...)
	return p
}

// ask is a request as a client writes it.
type ask struct {
	method, target string // the target as on the request line
	header         []string
	body           string
}

func (a ask) with(header ...string) ask {
	a.header = append(append([]string(nil), a.header...), header...)
	return a
}

func as(key, method, target string) ask {
	return ask{method: method, target: target, header: []string{"X-API-Key", key, "X-Tenant-ID", "default"}}
}

func (a ask) send(body string) ask {
	a.body = body
	return a
}

// reply is what the client gets.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) message(t testing.TB) string {
	t.Helper()
	var e struct {
		Error  string
		Status int
	}
	if err := json.Unmarshal([]byte(r.body), &e); err != nil || e.Status != r.status || r.header.Get("Content-Type") != "application/json" {
		t.Errorf("not the error shape: %d %q %v", r.status, r.body, r.header)
	}
	return e.Error
}

// door is a way in. Both ways must answer alike.
type door struct {
	name string
	open func(t testing.TB, p *plane) func(ask) reply
}

var doors = []door{{"http", overHTTP}, {"lambda", overLambda}}

func overHTTP(t testing.TB, p *plane) func(ask) reply {
	server := httptest.NewServer(p.handler)
	t.Cleanup(server.Close)
	client := server.Client()
	return func(a ask) reply {
		t.Helper()
		path, query, _ := strings.Cut(a.target, "?")
		u, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		if u.Path, err = url.PathUnescape(path); err != nil {
			t.Fatal(err)
		}
		u.RawPath, u.RawQuery = path, query
		r, err := http.NewRequest(a.method, server.URL, strings.NewReader(a.body))
		if err != nil {
			t.Fatal(err)
		}
		r.URL = u
		for i := 0; i < len(a.header); i += 2 {
			r.Header.Add(a.header[i], a.header[i+1])
			if a.header[i] == "Host" {
				r.Host = a.header[i+1]
			}
		}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return reply{answer.StatusCode, answer.Header, string(body)}
	}
}

func overLambda(t testing.TB, p *plane) func(ask) reply {
	fn := lambda.NewHandler(rest.Lambda(p.handler))
	return func(a ask) reply {
		t.Helper()
		return invoke(t, fn, event(t, a))
	}
}

// event is the request as API Gateway passes it on: the path decoded, repeated headers joined, names in lower case.
func event(t testing.TB, a ask) events.APIGatewayV2HTTPRequest {
	t.Helper()
	path, query, _ := strings.Cut(a.target, "?")
	decoded, err := url.PathUnescape(path)
	if err != nil {
		t.Fatal(err)
	}
	headers := map[string]string{"host": "plane.example", "x-forwarded-for": "192.0.2.9", "x-forwarded-proto": "https", "user-agent": "test/1 (a, b)"}
	seen := map[string]bool{}
	for i := 0; i < len(a.header); i += 2 {
		name := strings.ToLower(a.header[i])
		if seen[name] {
			headers[name] += "," + a.header[i+1]
		} else {
			headers[name] = a.header[i+1]
		}
		seen[name] = true
	}
	e := events.APIGatewayV2HTTPRequest{Version: "2.0", RouteKey: "$default", RawPath: decoded, RawQueryString: query, Headers: headers, Body: a.body}
	e.RequestContext.DomainName, e.RequestContext.Stage = headers["host"], "$default"
	e.RequestContext.HTTP = events.APIGatewayV2HTTPRequestContextHTTPDescription{Method: a.method, Path: decoded, SourceIP: "192.0.2.9"}
	if !utf8.ValidString(a.body) {
		e.Body, e.IsBase64Encoded = base64.StdEncoding.EncodeToString([]byte(a.body)), true
	}
	return e
}

func invoke(t testing.TB, fn lambda.Handler, e events.APIGatewayV2HTTPRequest) reply {
	t.Helper()
	in, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	out, err := fn.Invoke(context.Background(), in)
	if err != nil {
		t.Fatalf("the function failed: %v", err)
	}
	var answer events.APIGatewayV2HTTPResponse
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatal(err)
	}
	header := http.Header{}
	for name, value := range answer.Headers {
		header.Set(name, value)
	}
	return reply{answer.StatusCode, header, answer.Body}
}

// through runs a test at every door, each with a plane of its own.
func through(t *testing.T, env func() map[string]string, groups func() []rest.Group, test func(t *testing.T, p *plane, do func(ask) reply)) {
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			p := newPlane(t, env(), groups()...)
			test(t, p, d.open(t, p))
		})
	}
}

func plainEnv() map[string]string { return map[string]string{} }

func noGroups() []rest.Group { return nil }
