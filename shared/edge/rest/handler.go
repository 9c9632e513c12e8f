package rest

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
	"github.com/cordum-serverless/cordum/shared/edge/stream"
	"github.com/cordum-serverless/cordum/shared/platform/metrics"
)

// server is the whole HTTP surface of one process.
type server struct {
	cfg   Config
	table *routes.Table
	bound map[*routes.Route]action
}

// New makes the handler of some groups of routes. It knows the table of all routes: one that no group serves answers 501, an unknown path
// 404, a wrong method 405. It panics when a group cannot be registered, or binds a route that the table does not have: these are mistakes
// of a program, not of its environment.
func New(cfg Config, groups ...Group) http.Handler {
	if cfg.Metrics == nil {
		cfg.Metrics = metrics.Lines{Log: cfg.Log}
	}
	s := &server{cfg: cfg, table: routes.Default(), bound: map[*routes.Route]action{}}
	bind(s, groups)
	return s
}

// call is one request on its way.
type call struct {
	id     identity.Identity
	caller auth.Caller
	route  *routes.Route
	params map[string]string
	rec    *recorder
	began  time.Time
}

// ServeHTTP answers a request and writes its line to the log.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{rec: &recorder{w: w, head: r.Method == http.MethodHead, success: http.StatusOK}, began: s.cfg.Clock.Now()}
	c.id.RequestID = s.cfg.RequestID(r.Header.Values("X-Request-Id"))
	defer s.finish(r, c)
	s.headers(c.rec.Header(), r, c.id.RequestID)
	if err := s.serve(c, r); err != nil {
		s.fail(r.Context(), c, err)
	}
}

// finish ends every request the same way: a panic is a failure like another, a status is always written, the log gets its line.
func (s *server) finish(r *http.Request, c *call) {
	if cause := recover(); cause != nil {
		s.fail(r.Context(), c, fault.New(fault.Internal, "panic: %v\n%s", cause, debug.Stack()))
	}
	c.rec.end()
	route := "-"
	if c.route != nil {
		route = c.route.Path
	}
	took := s.cfg.Clock.Now().Sub(c.began)
	s.cfg.Metrics.Record(r.Context(), "request", []slog.Attr{
		slog.String("request_id", c.id.RequestID), slog.String("tenant", c.id.Tenant), slog.String("method", r.Method),
		slog.String("route", route), slog.Int("status", c.rec.status), slog.Float64("ms", float64(took.Microseconds())/1000),
	}, metrics.Sample{Metric: metrics.HTTPRequests, Value: 1}, metrics.Sample{Metric: metrics.HTTPDuration, Value: took.Seconds()})
}

// serve is the order of refusals.
func (s *server) serve(c *call, r *http.Request) error {
	if headerBytes(r.Header) > MaxHeaderBytes {
		return errHeaders
	}
	if err := s.cors(c.rec.Header(), r); err != nil {
		return err
	}
	if r.Method == http.MethodOptions {
		c.rec.success = http.StatusNoContent
		return nil
	}
	path := r.URL.EscapedPath()
	if path == "/health" {
		return health(c.rec, r)
	}
	if !strings.HasPrefix(path, "/api/") {
		return errNotFound
	}
	match, malformed := s.table.Find(r.Method, path)
	if err := s.admit(c, r, match.Route); err != nil {
		return err
	}
	switch {
	case malformed != nil || !utf8.ValidString(r.URL.Path):
		return fault.New(fault.Invalid, "invalid path")
	case match.Route == nil && match.Allow == nil:
		return s.nowhere(c, r)
	case match.Route == nil:
		c.rec.Header().Set("Allow", strings.Join(match.Allow, ", "))
		return fault.New(fault.Method, "method not allowed")
	}
	c.params = match.Params
	act, ok := s.bound[match.Route]
	if !ok {
		return fault.New(fault.Unimplemented, "not implemented")
	}
	c.rec.success = match.Route.Rule.Status
	ctx := identity.With(r.Context(), c.id)
	if err := sameTenant(ctx, r, match.Route); err != nil {
		return err
	}
	if match.Route.Service() == sessionsService {
		ctx = auth.WithCaller(ctx, c.caller)
	}
	return act(c, r.WithContext(ctx))
}

// sameTenant refuses a request whose query names a tenant that it is not for, by whichever of their names: also one that the route does not read,
// since who sends it means that tenant.
func sameTenant(ctx context.Context, r *http.Request, route *routes.Route) error {
	if route.Rule.Public || r.URL.RawQuery == "" {
		return nil
	}
	query := r.URL.Query()
	return auth.SameTenant(ctx, slices.Concat(query["org_id"], query["tenant_id"], query["tenant"])...)
}

// sessionsService is the one service that is told where a request comes from, and with which session.
const sessionsService = "cordum.v1.Auth"

var errNotFound = fault.New(fault.NotFound, "not found")

// nowhere answers what is no route; a stream is one to who upgrades to it.
func (s *server) nowhere(c *call, r *http.Request) error {
	if _, ok := stream.JobOf(r.URL.Path); !ok {
		return errNotFound
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		c.rec.Header().Set("Allow", "GET, HEAD, OPTIONS")
		return fault.New(fault.Method, "method not allowed")
	}
	return fault.New(fault.Invalid, "this is a WebSocket: upgrade to it")
}

// admit asks the gate. A path that is nobody's needs a credential too, so that paths cannot be probed without one.
func (s *server) admit(c *call, r *http.Request, route *routes.Route) error {
	req := auth.Request{
		Authorization: r.Header.Values("Authorization"), APIKey: r.Header.Values("X-Api-Key"),
		Tenant: r.Header.Values("X-Tenant-Id"), Principal: r.Header.Values("X-Principal-Id"),
		Address: s.cfg.Gate.Address(address(r), r.Header.Values(auth.EdgeHeader), r.Header.Values(auth.ViewerHeader)), ID: c.id.RequestID,
	}
	if route == nil {
		credential, err := s.cfg.Gate.Identify(r.Context(), req)
		c.id.Tenant = credential.Tenant
		return err
	}
	c.route = route
	c.caller = auth.Caller{Address: req.Address, Token: req.Session()}
	id, err := s.cfg.Gate.Admit(r.Context(), req, route.Rule)
	id.RequestID = req.ID
	c.id = id
	return err
}

// address is the client's: API Gateway's word inside Lambda, the connection's otherwise.
func address(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return r.RemoteAddr
}

func health(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		return fault.New(fault.Method, "method not allowed")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := w.Write([]byte("ok"))
	return err
}

func headerBytes(h http.Header) int {
	n := 0
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(v)
		}
	}
	return n
}
