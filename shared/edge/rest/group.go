package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
	"github.com/cordum-serverless/cordum/shared/edge/rpc"
	"github.com/cordum-serverless/cordum/shared/edge/wire"
)

// Group is a part of the REST surface: Service, Plain, or several Together.
type Group interface {
	// Service is the full name of the service whose routes these are.
	Service() string

	bind(b *binder) error
}

// Service is one generated service: register is its Register...HandlerServer with the implementation filled in,
//
//	rest.Service("cordum.v1.Jobs", func(ctx context.Context, mux *runtime.ServeMux) error {
//		return cordumv1.RegisterJobsHandlerServer(ctx, mux, jobs)
//	})
//
// All its routes are then served. name is the service's full name.
func Service(name string, register func(context.Context, *runtime.ServeMux) error) Group {
	return service{name, register}
}

// Plain serves the route of one method by hand, for what does not fit a message, such as a multipart body. It wins over the generated
// code of the same method. The request has an identity and no credentials, and its body is not read; params are the path's parameters.
// An error is answered like a service's.
func Plain(rpc string, h func(w http.ResponseWriter, r *http.Request, params map[string]string) error) Group {
	return plainRoute{rpc, h}
}

// Together serves several groups of one service as one: the routes that are served by hand come first.
func Together(groups ...Group) Group { return together(groups) }

type together []Group

func (t together) Service() string { return t[0].Service() }

func (t together) bind(b *binder) error {
	for _, g := range t {
		if err := g.bind(b); err != nil {
			return err
		}
	}
	return nil
}

// Answer writes a message as a generated handler does, for a route that is served by hand.
func Answer(w http.ResponseWriter, m proto.Message) error {
	text, err := wire.Append(nil, m)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(text)
	return err
}

// Fits says whether a message is not too large for an answer.
func Fits(m proto.Message) (bool, error) {
	text, err := wire.Append(nil, m)
	return delivered(text), err
}

type action func(c *call, r *http.Request) error

// binder collects the handlers that generated code registers and finds out which route each is for.
type binder struct {
	s        *server
	mux      *runtime.ServeMux
	captured []runtime.HandlerFunc
}

// parseQueries has all multiplexers read queries as wire does: the generated code keeps the parser in a variable of its package, not in the
// multiplexer, so that it must not be set while another one serves.
var parseQueries = sync.OnceFunc(func() { runtime.NewServeMux(runtime.SetQueryParameterParser(wire.Query{})) })

func bind(s *server, groups []Group) {
	parseQueries()
	b := &binder{s: s}
	b.mux = runtime.NewServeMux(
		runtime.WithMiddlewares(func(next runtime.HandlerFunc) runtime.HandlerFunc {
			b.captured = append(b.captured, next)
			return next
		}),
		runtime.WithMetadata(annotate),
		runtime.WithMarshalerOption(runtime.MIMEWildcard, wire.Marshaler{}),
		runtime.WithErrorHandler(keepError),
		runtime.WithIncomingHeaderMatcher(func(name string) (string, bool) { return strings.ToLower(name), true }),
		runtime.WithOutgoingHeaderMatcher(func(key string) (string, bool) { return "X-Trace-Id", key == rpc.TraceHeader }),
	)
	for _, g := range groups {
		if err := g.bind(b); err != nil {
			panic("rest: " + err.Error())
		}
	}
}

type service struct {
	name     string
	register func(context.Context, *runtime.ServeMux) error
}

func (g service) Service() string { return g.name }

func (g service) bind(b *binder) error {
	b.captured = nil
	if err := g.register(context.Background(), b.mux); err != nil {
		return fmt.Errorf("%s: %w", g.name, err)
	}
	for _, h := range b.captured {
		p := discover(h)
		route := find(func(r *routes.Route) bool { return r.RPC == p.rpc && r.Path == p.pattern })
		switch {
		case route == nil || route.Service() != g.name:
			return fmt.Errorf("%s: %s %s is no route of it in the table", g.name, p.rpc, p.pattern)
		case b.s.bound[route] == nil:
			b.s.bound[route] = b.s.generated(h)
		}
	}
	return nil
}

type plainRoute struct {
	rpc string
	h   func(w http.ResponseWriter, r *http.Request, params map[string]string) error
}

func (g plainRoute) Service() string { return routes.Route{RPC: g.rpc}.Service() }

func (g plainRoute) bind(b *binder) error {
	route := find(func(r *routes.Route) bool { return r.RPC == g.rpc })
	if route == nil {
		return fmt.Errorf("%s is no route in the table", g.rpc)
	}
	b.s.bound[route] = func(c *call, r *http.Request) error {
		r.Header = r.Header.Clone()
		for _, name := range []string{"Authorization", "X-Api-Key", "Cookie"} {
			r.Header.Del(name)
		}
		return g.h(c.rec, r, c.params)
	}
	return nil
}

func find(is func(*routes.Route) bool) *routes.Route {
	all := routes.All()
	for i := range all {
		if is(&all[i]) {
			return &all[i]
		}
	}
	return nil
}

// probe asks a generated handler which route it is for. grpc-gateway tells nobody but the annotators, which run before the service is
// called; a panic is the only way back out of generated code from there.
type probe struct{ rpc, pattern string }

type probeKey struct{}

func discover(h runtime.HandlerFunc) (p *probe) {
	p = &probe{}
	defer func() {
		if cause := recover(); cause != nil && cause != any(p) {
			panic(cause)
		}
	}()
	r, err := http.NewRequestWithContext(context.WithValue(context.Background(), probeKey{}, p), http.MethodGet, "/", nil)
	if err != nil {
		panic(err)
	}
	h(&recorder{}, r, nil)
	return p
}

// annotate gives a service the metadata that it may read of an HTTP request.
func annotate(ctx context.Context, _ *http.Request) metadata.MD {
	if p, ok := ctx.Value(probeKey{}).(*probe); ok {
		p.rpc, _ = runtime.RPCMethod(ctx)
		p.pattern, _ = runtime.HTTPPathPattern(ctx)
		panic(p)
	}
	return nil
}

// generated runs grpc-gateway's handler of a route. Beside the message it sees only the headers that a service may read, so that none can
// make it do something else than the route says: no content type, method override, timeout or trailers.
func (s *server) generated(h runtime.HandlerFunc) action {
	return func(c *call, r *http.Request) error {
		body, err := s.body(r, c.route)
		if err != nil {
			return err
		}
		query, _ := url.ParseQuery(r.URL.RawQuery) // what is malformed in it is left out
		if r.Header, err = forwarded(r.Header, query); err != nil {
			return err
		}
		r.Form, r.PostForm = query, url.Values{}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		h(c.rec, r, c.params)
		if errors.Is(c.rec.err, errBody) {
			return badBody(c.route)
		}
		return c.rec.err
	}
}

// forwarded picks the headers that a service reads, by the names of package rpc.
func forwarded(h http.Header, query url.Values) (http.Header, error) {
	out := http.Header{}
	for _, key := range []string{
		joined(h["Idempotency-Key"]), joined(h["X-Idempotency-Key"]), query.Get("idempotency_key"), query.Get("idempotency-key"),
	} {
		if key = strings.TrimSpace(key); key == "" {
			continue
		}
		if len(key) > 256 || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
			return nil, fault.New(fault.Invalid, "an idempotency key is at most 256 printable ASCII characters")
		}
		out["Idempotency-Key"] = []string{key}
		break
	}
	for _, name := range []string{"X-Max-Artifact-Bytes", "If-Match"} {
		if text := joined(h[name]); text != "" {
			out[name] = []string{text}
		}
	}
	return out, nil
}

// joined undoes what the Lambda adapter does to a header with commas, in the same way at every door.
func joined(values []string) string {
	parts := strings.Split(strings.Join(values, ","), ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return strings.Join(parts, ",")
}

// keepError hands an error of a generated handler to the server. Of grpc-gateway's own errors only one can happen here: a body, or a
// parameter, that is no such message.
func keepError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error) {
	if status.Code(err) == codes.InvalidArgument {
		err = errBody
	}
	w.(*recorder).err = err
}
