package rest

import (
	"context"
	"maps"
	"net/http"
)

const (
	corsMethods = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
	corsHeaders = "Content-Type, Authorization, X-API-Key, X-Tenant-ID, X-Principal-Id, X-Principal-Role, X-Request-Id, " +
		"Idempotency-Key, X-Idempotency-Key, X-Max-Artifact-Bytes, If-Match"
	corsExposed = "X-Request-Id, X-Trace-Id"
)

// guards keep a browser from doing anything with an answer but hand it to the page that asked for it, and every cache from keeping it: it is one tenant's.
var guards = map[string]string{
	"X-Content-Type-Options":  "nosniff",
	"X-Frame-Options":         "DENY",
	"Referrer-Policy":         "no-referrer",
	"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
	"Cache-Control":           "no-store",
}

// Guards are the headers that every answer of every door carries.
func Guards() map[string]string { return maps.Clone(guards) }

// headers are on every answer.
func (s *server) headers(h http.Header, r *http.Request, requestID string) {
	h["X-Request-Id"] = []string{requestID}
	for name, value := range guards {
		h[name] = []string{value}
	}
	h["Vary"] = []string{"Origin"}
	if s.cfg.Gate.Production() && (r.TLS != nil || throughGateway(r.Context())) {
		h["Strict-Transport-Security"] = []string{"max-age=63072000; includeSubDomains"}
	}
}

// cors refuses a foreign origin and tells the browser of an allowed one what it may send and read. Credentials of the browser's own are among it, since
// dashboards fetch with them: the plane sets no cookie and reads none, so that they are worth nothing to a page that "*" lets in.
func (s *server) cors(h http.Header, r *http.Request) error {
	origin := r.Header.Get("Origin")
	if err := s.cfg.Gate.Origins().Check(origin, r.Host); err != nil {
		return err
	}
	if origin != "" {
		h["Access-Control-Allow-Origin"] = []string{origin}
		h["Access-Control-Expose-Headers"] = []string{corsExposed}
		h["Access-Control-Allow-Credentials"] = []string{"true"}
	}
	if r.Method == http.MethodOptions {
		h["Access-Control-Allow-Methods"] = []string{corsMethods}
		h["Access-Control-Allow-Headers"] = []string{corsHeaders}
	}
	return nil
}

type gatewayKey struct{}

// throughGateway says that the request came through API Gateway, which speaks TLS only.
func throughGateway(ctx context.Context) bool { return ctx.Value(gatewayKey{}) != nil }
