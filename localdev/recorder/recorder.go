// Package recorder stands between the plane's processes and the AWS endpoint. It knows each process by its access key, which is the function's
// name, and notes every action and resource that it uses; on demand it throttles, delays and fails requests, or loses their answers.
package recorder

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/localdev/gateway"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// Config says what a recorder stands between.
type Config struct {
	// Endpoint is where AWS, or its emulator, answers.
	Endpoint string
	Names    Names
	// Management answers requests to the WebSocket API's management API.
	Management http.Handler
}

// Use is an action that was used on a resource, how often.
type Use struct {
	// Caller is the access key: the function's name.
	Caller, Action string
	On             resources.Target
	Times          int
}

func (u Use) String() string { return fmt.Sprintf("%s: %s on %s", u.Caller, u.Action, describe(u.On)) }

func describe(t resources.Target) string {
	if t.Name == "" {
		return string(t.Kind)
	}
	return string(t.Kind) + " " + t.Name
}

// Recorder is the proxy. URL is what AWS_ENDPOINT_URL must be for the processes behind it.
type Recorder struct {
	URL string

	cfg      Config
	upstream *httputil.ReverseProxy
	server   *http.Server

	mu     sync.Mutex
	uses   map[Use]int // Times is 0 in the keys
	faults []*fault
}

// Open starts a recorder on a free port of this machine.
func Open(cfg Config) (*Recorder, error) {
	target, err := url.Parse(cfg.Endpoint)
	if err != nil || target.Host == "" {
		return nil, fmt.Errorf("recorder: %q is no endpoint", cfg.Endpoint)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is there or it fails, at once
	if err != nil {
		return nil, err
	}
	// localhost, since S3's clients take an address of numbers for one that wants its buckets in the path
	_, port, _ := net.SplitHostPort(l.Addr().String())
	r := &Recorder{URL: "http://localhost:" + port, cfg: cfg, uses: map[Use]int{}}
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
	transport.Proxy, transport.MaxIdleConnsPerHost, transport.DisableCompression = nil, 256, true
	r.upstream = &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.Out.Host = p.In.Host // it is signed
		},
		ErrorLog: log.New(io.Discard, "", 0), // the caller sees the error and says so
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = r.server.Serve(l) }() // until Close
	return r, nil
}

// Close ends the recorder and whatever is under way through it.
func (r *Recorder) Close() error { return r.server.Close() }

// largest is the largest body that is read to be understood; only S3's objects are larger, and their bodies say nothing.
const largest = 32 << 20

// ServeHTTP notes a request and hands it on.
func (r *Recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	caller, service := credential(req)
	var body []byte
	if service != "s3" {
		var err error
		if body, err = io.ReadAll(io.LimitReader(req.Body, largest)); err != nil {
			return // the caller has gone
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	accesses := r.cfg.Names.understand(service, req, body)
	r.note(caller, accesses)
	f := r.next(caller, accesses, body)
	if f != nil && f.Before != nil {
		f.Before()
	}
	if f != nil && f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-req.Context().Done():
			return
		}
	}
	switch {
	case f != nil && f.Throttle:
		throttle(w, service)
	case f != nil && f.Fail:
		w.WriteHeader(http.StatusInternalServerError)
	case f != nil && f.Lose:
		r.handle(&nobody{}, req)
		panic(http.ErrAbortHandler) // the connection ends without an answer
	default:
		r.handle(w, req)
	}
	if f != nil && f.After != nil {
		f.After()
	}
}

func (r *Recorder) handle(w http.ResponseWriter, req *http.Request) {
	if strings.Contains(req.URL.Path, gateway.ManagementPath) && r.cfg.Management != nil {
		r.cfg.Management.ServeHTTP(w, req)
		return
	}
	r.upstream.ServeHTTP(w, req)
}

// nobody takes an answer that is to be lost.
type nobody struct{ header http.Header }

func (n *nobody) Header() http.Header {
	if n.header == nil {
		n.header = http.Header{}
	}
	return n.header
}

func (n *nobody) Write(p []byte) (int, error) { return len(p), nil }

func (n *nobody) WriteHeader(int) {}

func (r *Recorder) note(caller string, accesses []access) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range accesses {
		r.uses[Use{Caller: caller, Action: a.action, On: a.on}]++
	}
}

// Used answers all that was used so far, in a fixed order.
func (r *Recorder) Used() []Use {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Use, 0, len(r.uses))
	for u, n := range r.uses {
		u.Times = n
		out = append(out, u)
	}
	slices.SortFunc(out, order)
	return out
}

func order(a, b Use) int {
	return cmp.Or(cmp.Compare(a.Caller, b.Caller), cmp.Compare(a.Action, b.Action), cmp.Compare(describe(a.On), describe(b.On)))
}

// Fault is what goes wrong, and for whom.
type Fault struct {
	// Caller is the function that it hits; "" is every one. Actions are IAM actions, which may end in a star; none is all. On is the resource; the
	// zero value is all of them.
	Caller  string
	Actions []string
	On      resources.Target
	// Contains is a text in the request's body, "" is any. It is not looked for in requests to S3.
	Contains string
	// Times is how often it strikes; 0 is until it is lifted. Every is how many requests there are to each strike; 0 and 1 are all. The last of
	// them is struck.
	Times, Every int

	// Delay comes first. Throttle answers what the service says of too many requests, Fail an internal error. Lose hands the request on, and then
	// breaks the connection instead of answering. None of them lets the request through.
	Delay                time.Duration
	Throttle, Fail, Lose bool
	// Before is called before the request is handed on, After when its answer has been given.
	Before, After func()
}

type fault struct {
	Fault

	struck, seen int
}

// Inject makes requests go wrong. struck says how many it has hit, lift ends it.
func (r *Recorder) Inject(f Fault) (struck func() int, lift func()) {
	one := &fault{Fault: f}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, one)
	struck = func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return one.struck
	}
	lift = func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.faults = slices.DeleteFunc(r.faults, func(o *fault) bool { return o == one })
	}
	return struck, lift
}

// next answers the fault that hits a request; nil for most.
func (r *Recorder) next(caller string, accesses []access, body []byte) *fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.faults {
		if f.Caller != "" && f.Caller != caller || !slices.ContainsFunc(accesses, f.hits) || f.Times > 0 && f.struck >= f.Times ||
			f.Contains != "" && !bytes.Contains(body, []byte(f.Contains)) {
			continue
		}
		if f.seen++; f.Every > 1 && f.seen%f.Every != 0 {
			continue
		}
		f.struck++
		return f
	}
	return nil
}

func (f *fault) hits(a access) bool {
	return matches(f.Actions, a.action) && (f.On == resources.Target{} || f.On == a.on)
}

// throttle answers as a service does that has too many requests.
func throttle(w http.ResponseWriter, service string) {
	status, kind, text := http.StatusBadRequest, "ThrottlingException", "Rate exceeded"
	switch service {
	case "dynamodb":
		kind = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"
		text = "The level of configured provisioned throughput for the table was exceeded."
	case "sqs":
		kind = "com.amazonaws.sqs#RequestThrottled"
	case "s3":
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`)
		return
	case "execute-api":
		status, kind = http.StatusTooManyRequests, "LimitExceededException"
		w.Header().Set("X-Amzn-Errortype", kind)
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"__type":%q,"message":%q}`, kind, text) // a caller that has gone hears nothing
}
