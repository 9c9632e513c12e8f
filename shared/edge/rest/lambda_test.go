package rest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
)

// What no HTTP client sends is a 400 in our shape and never an error of the function, which would be a 504 or a bare 500.
func TestLambdaOddEvents(t *testing.T) {
	f := &fake{}
	p := newPlane(t, plainEnv(), f.groups()...)
	fn := lambda.NewHandler(rest.Lambda(p.handler))
	good := func() events.APIGatewayV2HTTPRequest { return event(t, as("k-admin", "GET", "/api/v1/jobs/a")) }
	tests := []struct {
		name   string
		spoil  func(e *events.APIGatewayV2HTTPRequest)
		status int
		got    string
	}{
		{"as it is", func(*events.APIGatewayV2HTTPRequest) {}, 200, "get a"},
		{"percent sign in the decoded path", func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "/api/v1/jobs/100%" }, 200, "get 100%"},
		{"what looks like an escape", func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "/api/v1/jobs/a%2Fb" }, 200, "get a%2Fb"},
		{"what is no escape", func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "/api/v1/jobs/a%zz" }, 200, "get a%zz"},
		{"question mark in the decoded path", func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "/api/v1/jobs/a?b" }, 200, "get a?b"},
		{"control character in the decoded path", func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "/api/v1/jobs/a\nb" }, 200, "get a\nb"},
		{"path in the context alone", func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "" }, 200, "get a"},
		{"path without a slash", func(e *events.APIGatewayV2HTTPRequest) { e.RawPath = "api/v1/jobs/a" }, 200, "get a"},
		{"no path", func(e *events.APIGatewayV2HTTPRequest) { e.RawPath, e.RequestContext.HTTP.Path = "", "" }, 404, ""},
		{"nothing at all", func(e *events.APIGatewayV2HTTPRequest) { *e = events.APIGatewayV2HTTPRequest{} }, 404, ""},
		{"method", func(e *events.APIGatewayV2HTTPRequest) { e.RequestContext.HTTP.Method = "G T" }, 400, ""},
		{"control character in the query", func(e *events.APIGatewayV2HTTPRequest) { e.RawQueryString = "a=\x01" }, 400, ""},
		{"hash in the query", func(e *events.APIGatewayV2HTTPRequest) { e.RawQueryString = "a=#%" }, 200, "get a"},
		{"body that is no base64", func(e *events.APIGatewayV2HTTPRequest) { e.Body, e.IsBase64Encoded = "***", true }, 400, ""},
		{"host", func(e *events.APIGatewayV2HTTPRequest) { e.RequestContext.DomainName = "a b/c" }, 400, ""},
		{"port", func(e *events.APIGatewayV2HTTPRequest) { e.RequestContext.DomainName = "localhost:8081" }, 200, "get a"},
		{"port that is none", func(e *events.APIGatewayV2HTTPRequest) { e.RequestContext.DomainName = "localhost:x" }, 400, ""},
		{"no headers", func(e *events.APIGatewayV2HTTPRequest) { e.Headers = nil }, 401, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := good()
			tt.spoil(&e)
			r := invoke(t, fn, e)
			if r.status != tt.status {
				t.Fatalf("got %d %s, want %d", r.status, r.body, tt.status)
			}
			if _, got := f.last(); r.status == 200 && got != tt.got {
				t.Errorf("the service got %q, want %q", got, tt.got)
			}
			if r.status != 200 {
				r.message(t)
			}
		})
	}
}

func TestLambdaBase64Body(t *testing.T) {
	f := &fake{}
	p := newPlane(t, plainEnv(), f.groups()...)
	e := event(t, as("k-admin", "POST", "/api/v1/jobs"))
	e.Body, e.IsBase64Encoded = base64.StdEncoding.EncodeToString([]byte(`{"prompt":"p,é"}`)), true
	if r := invoke(t, lambda.NewHandler(rest.Lambda(p.handler)), e); r.status != 200 {
		t.Errorf("got %d %s", r.status, r.body)
	}
	if _, got := f.last(); got != "submit p,é" {
		t.Errorf("the service got %q", got)
	}
}

// The client's address is API Gateway's word; what a client says in X-Forwarded-For counts for nothing.
func TestLambdaClientAddress(t *testing.T) {
	f := &fake{}
	p := newPlane(t, map[string]string{"API_PUBLIC_RATE_LIMIT_RPS": "1", "API_PUBLIC_RATE_LIMIT_BURST": "1"}, f.groups()...)
	fn := lambda.NewHandler(rest.Lambda(p.handler))
	for _, step := range []struct {
		address, forwarded string
		status             int
	}{{"192.0.2.1", "198.51.100.1", 200}, {"192.0.2.1", "198.51.100.2", 429}, {"192.0.2.2", "198.51.100.1", 200}, {"2001:db8::1", "", 200}, {"2001:db8::1", "", 429}} {
		e := event(t, ask{method: "GET", target: "/api/v1/auth/config"})
		e.RequestContext.HTTP.SourceIP, e.Headers["x-forwarded-for"] = step.address, step.forwarded
		if r := invoke(t, fn, e); r.status != step.status {
			t.Errorf("%+v: got %d", step, r.status)
		}
	}
}

// Whatever the event, the function answers: a status, one JSON value or nothing, and no error.
func FuzzLambda(f *testing.F) {
	for _, path := range []string{"/api/v1/jobs/a", "/api/v1/jobs/100%", "/api/v1/schemas/redis://art:x", "//", "", "/api/v1/jobs/\x00", "/api/v1/jobs/a?b#c", "*"} {
		f.Add("GET", path, "limit=1", "plane.example", "", false)
	}
	f.Add("POST", "/api/v1/jobs", "a=%zz;#", "localhost:1", `{"prompt":"p"}`, false)
	f.Add("POST", "/api/v1/jobs", "", "", "e30=", true)
	f.Add("B AD", "/api/v1/jobs", "\x7f", "[::1]:80", "{", false)
	services := &fake{}
	p := newPlane(f, map[string]string{"API_RATE_LIMIT_RPS": "1000000000", "API_RATE_LIMIT_BURST": "1000000000"}, services.groups()...)
	fn := rest.Lambda(p.handler)
	f.Fuzz(func(t *testing.T, method, path, query, host, body string, encoded bool) {
		e := events.APIGatewayV2HTTPRequest{RawPath: path, RawQueryString: query, Body: body, IsBase64Encoded: encoded,
			Headers: map[string]string{"x-api-key": "k-admin", "x-tenant-id": "default"}}
		e.RequestContext.DomainName, e.RequestContext.HTTP.Method, e.RequestContext.HTTP.Path = host, method, path
		answer, err := fn(context.Background(), e)
		if err != nil || answer.StatusCode < 200 || answer.StatusCode > 599 {
			t.Fatalf("got %+v %v", answer, err)
		}
		if answer.StatusCode >= 500 && answer.StatusCode != 501 {
			t.Errorf("got %d %s, log %s", answer.StatusCode, answer.Body, p.log.take())
		}
		if answer.Body != "" && answer.Body != "ok" && !json.Valid([]byte(answer.Body)) {
			t.Errorf("no JSON: %s", answer.Body)
		}
		if id, found := strings.CutPrefix(path, "/api/v1/jobs/"); found && method == "GET" && answer.StatusCode == 200 && !strings.Contains(id, "/") {
			if _, got := services.last(); got != "get "+id {
				t.Errorf("the service got %q for %q", got, id)
			}
		}
	})
}

// TestLambdaDeliversEveryAnswer: one that Lambda would not take is refused in our shape, before it has begun.
func TestLambdaDeliversEveryAnswer(t *testing.T) {
	f := &fake{}
	p := newPlane(t, plainEnv(), f.groups()...)
	fn := lambda.NewHandler(rest.Lambda(p.handler))
	const most = 6291556 // Lambda's own words: "Exceeded maximum allowed payload size (6291556 bytes)"
	for name, c := range map[string]struct {
		of     string
		length int
		fits   bool
	}{
		"plain": {"x", 6_250_000, true}, "too long": {"x", 6_280_000, false}, "much too long": {"x", 20_000_000, false},
		"quotes": {`"`, 1_560_000, true}, "too many quotes": {`"`, 1_570_000, false}, // four bytes each: two in JSON, which both are quoted once more
		"separators": {"\u2028", 1_040_000, true}, "too many separators": {"\u2028", 1_050_000, false},
	} {
		f.job = &cordumv1.Job{Id: strings.Repeat(c.of, c.length)}
		for _, method := range []string{"GET", "HEAD"} {
			text, err := json.Marshal(event(t, as("k-admin", method, "/api/v1/jobs/a")))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := fn.Invoke(t.Context(), text)
			if err != nil || len(answer) > most {
				t.Fatalf("%s: %d bytes, %v", name, len(answer), err)
			}
			var r events.APIGatewayV2HTTPResponse
			if err := json.Unmarshal(answer, &r); err != nil {
				t.Fatal(err)
			}
			const refusal = `{"error":"the answer is too large (max 6 MB); ask for less","status":413}`
			if (r.StatusCode == 200) != c.fits || !c.fits && (r.StatusCode != 413 || method == "GET" && r.Body != refusal) {
				t.Errorf("%s %s: %d %.200s", method, name, r.StatusCode, r.Body)
			}
			if logged := p.log.take(); !strings.Contains(logged, fmt.Sprintf("status=%d", r.StatusCode)) {
				t.Errorf("%s: the log has another status: %s", name, logged)
			}
		}
	}
}
