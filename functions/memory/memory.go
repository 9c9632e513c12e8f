// Package memory is the function that shows what lies behind a pointer.
package memory

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/memory"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
)

// Service serves cordum.v1.Memory.
type Service struct {
	cordumv1.UnimplementedMemoryServer
	d        *dispatch.Dispatcher
	memories *memory.Store
}

// New makes the service.
func New(d *dispatch.Dispatcher) *Service {
	return &Service{d: d, memories: &memory.Store{Table: d.Jobs.Table}}
}

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Service(cordumv1.Memory_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterMemoryHandlerServer(ctx, mux, s)
	})
}

// kinds are the pointers that may be read here, and what they are called.
var kinds = map[string]string{"ctx": "context", "res": "result", "mem": "memory"}

var errNotFound = fault.New(fault.NotFound, "not found")

// GetMemory answers the bytes behind a pointer of the tenant's.
func (s *Service) GetMemory(ctx context.Context, req *cordumv1.GetMemoryRequest) (*cordumv1.MemoryEntry, error) {
	p, err := pointer(req)
	if err != nil {
		return nil, err
	}
	data, err := s.read(ctx, p)
	if err != nil {
		return nil, err
	}
	res := &cordumv1.MemoryEntry{
		Pointer: "redis://" + p.Key(), Key: p.Key(), Kind: kinds[p.Kind], SizeBytes: int64(len(data)),
		Base64: base64.StdEncoding.EncodeToString(data),
	}
	if utf8.Valid(data) {
		res.Text = string(data)
	}
	if json.Valid(data) {
		res.Json = &cordumv1.Json{Raw: data}
	}
	// The same bytes three times may be too much for an answer.
	for _, leave := range []func(){func() { res.Text = "" }, func() { res.Json = nil }} {
		if fits, err := rest.Fits(res); err != nil || fits {
			return res, err
		}
		leave()
	}
	return res, nil
}

// pointer reads ptr, else key; key may be a whole pointer too. Clients that took one from JSON text leave its quotes on.
func pointer(req *cordumv1.GetMemoryRequest) (job.Pointer, error) {
	text := unquoted(req.GetPtr())
	bare := text == ""
	if bare {
		text = unquoted(req.GetKey())
	}
	if text == "" {
		return job.Pointer{}, fault.New(fault.Invalid, "missing ptr or key")
	}
	key, whole := strings.CutPrefix(text, "redis://")
	if key == "" || !whole && !bare {
		return job.Pointer{}, job.ErrPointer
	}
	if kind, _, ok := strings.Cut(key, ":"); !ok || kinds[kind] == "" {
		return job.Pointer{}, fault.New(fault.Invalid, "unsupported pointer key (only ctx:*, res:*, or mem:*)")
	}
	return job.ParsePointerKey(key)
}

func unquoted(s string) string { return strings.TrimSpace(strings.Trim(strings.TrimSpace(s), `"'`)) }

// read answers a job's payloads, and the values of memories.
func (s *Service) read(ctx context.Context, p job.Pointer) ([]byte, error) {
	tenant, now := identity.From(ctx).Tenant, s.d.Clock.Now()
	if p.Kind == "mem" {
		doc, err := s.memories.Document(ctx, tenant, p.ID, now)
		if err == nil && doc == nil {
			err = errNotFound
		}
		return doc, err
	}
	f, err := s.d.Jobs.Full(ctx, tenant, p.ID, now)
	if fault.Is(err, fault.NotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	data := f.Body.Context
	if p.Kind == "res" {
		data = f.ResultData
	}
	if data == nil {
		return nil, errNotFound
	}
	return data, nil
}
