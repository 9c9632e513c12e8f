package lambdahost

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// API is the emulated Runtime API, one for any number of functions: each instance knows it by an address of its own,
// AWS_LAMBDA_RUNTIME_API=127.0.0.1:PORT/<function>/<instance>.
type API struct {
	listener net.Listener
	server   *http.Server

	mu    sync.Mutex
	hosts map[string]*Host
}

// Listen opens the API on a free port of this machine.
func Listen() (*API, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is there or it fails, at once
	if err != nil {
		return nil, err
	}
	a := &API{listener: l, hosts: map[string]*Host{}}
	a.server = &http.Server{Handler: a, ReadHeaderTimeout: time.Minute}
	go func() { _ = a.server.Serve(l) }() // until Close
	return a, nil
}

// Host makes the host of a function.
func (a *API) Host(cfg Config) *Host {
	cfg.Most = cmp.Or(cfg.Most, defaultMost)
	cfg.Idle = cmp.Or(cfg.Idle, defaultIdle)
	cfg.Init = cmp.Or(cfg.Init, maxInit)
	cfg.Timeout = cmp.Or(cfg.Timeout, 3*time.Second) // AWS's own
	h := &Host{cfg: cfg, api: a.listener.Addr().String(), binary: cfg.Binary, instances: map[string]*instance{}}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hosts[cfg.Name] = h
	return h
}

// Close closes all hosts, then the API, to which what is busy reports until then.
func (a *API) Close() error {
	a.mu.Lock()
	hosts := slices.Collect(maps.Values(a.hosts))
	a.mu.Unlock()
	var closing sync.WaitGroup
	for _, h := range hosts {
		closing.Go(h.Close)
	}
	closing.Wait()
	return a.server.Close()
}

// ServeHTTP is /<function>/<instance>/2018-06-01/runtime/...
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) < 6 || parts[2] != "2018-06-01" || parts[3] != "runtime" {
		refuse(w, http.StatusNotFound, "NotFound", "there is no such path in the Runtime API: "+r.URL.Path)
		return
	}
	a.mu.Lock()
	h := a.hosts[parts[0]]
	a.mu.Unlock()
	if h == nil {
		refuse(w, http.StatusForbidden, "InvalidFunction", "no function "+parts[0])
		return
	}
	what := strings.Join(parts[4:], "/")
	switch {
	case r.Method == http.MethodGet && what == "invocation/next":
		h.serveNext(w, r, parts[1])
	case r.Method == http.MethodPost && what == "init/error":
		h.serveInitError(w, r, parts[1])
	case r.Method == http.MethodPost && len(parts) == 7 && parts[4] == "invocation" && parts[6] == "response":
		h.serveAnswer(w, r, parts[1], parts[5], false)
	case r.Method == http.MethodPost && len(parts) == 7 && parts[4] == "invocation" && parts[6] == "error":
		h.serveAnswer(w, r, parts[1], parts[5], true)
	default:
		refuse(w, http.StatusNotFound, "NotFound", r.Method+" "+r.URL.Path)
	}
}

func refuse(w http.ResponseWriter, status int, kind, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errorType":%q,"errorMessage":%q}`, kind, text) // whoever asked may have ended
}

func accept(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"status":"OK"}`) // likewise
}

func (h *Host) serveNext(w http.ResponseWriter, r *http.Request, id string) {
	inst, _ := h.find(id, "")
	if inst == nil {
		refuse(w, http.StatusForbidden, "InvalidInstance", "no instance "+id)
		return
	}
	inv := h.asks(r.Context(), inst)
	if inv == nil {
		return
	}
	region := cmp.Or(h.cfg.Env["AWS_REGION"], "us-east-1")
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
	header.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(inv.deadline.UnixMilli(), 10))
	header.Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:"+region+":000000000000:function:"+h.cfg.Name)
	header.Set("Lambda-Runtime-Trace-Id", fmt.Sprintf("Root=1-%08x-%s;Sampled=0", time.Now().Unix(), strings.ReplaceAll(inv.id, "-", "")[:24]))
	_, _ = w.Write(inv.event) // an instance that has ended is seen by its host
}

func (h *Host) serveInitError(w http.ResponseWriter, r *http.Request, id string) {
	inst, _ := h.find(id, "")
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxPayload))
	if inst == nil || err != nil {
		refuse(w, http.StatusForbidden, "InvalidInstance", "no instance "+id)
		return
	}
	inst.mu.Lock()
	inst.initFail = body
	inst.mu.Unlock()
	accept(w)
}

func (h *Host) serveAnswer(w http.ResponseWriter, r *http.Request, id, request string, failed bool) {
	_, inv := h.find(id, request)
	if inv == nil {
		refuse(w, http.StatusBadRequest, "InvalidRequestID", "the instance is not busy with "+request)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxPayload))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		text := fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", MaxPayload)
		inv.say(nil, h.failure(request, TooLarge, text))
		refuse(w, http.StatusRequestEntityTooLarge, TooLarge, text)
	case err != nil:
		refuse(w, http.StatusBadRequest, "InvalidRequest", err.Error())
	case failed:
		inv.say(nil, h.own(body))
		accept(w)
	default:
		inv.say(body, nil)
		accept(w)
	}
}
