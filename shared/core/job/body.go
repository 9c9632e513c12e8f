package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Body is what never changes of a job: the request as a worker will get it (without what a decision adds), and the context payload.
type Body struct {
	Request *agentv1.JobRequest
	// Context is the JSON text behind redis://ctx:<job>; nil when there is none or it has expired.
	Context []byte
	// First is the decision made when the job was submitted.
	First Decision
}

const (
	aRequest, aContext, aContextBlob, aPayload, aPayloadBlob, aContentType = audit.AttrRequest, "cx", "cb", "pl", "pb", "ty"
)

func (s *Store) putBody(ctx context.Context, r *Record, b *Body) error {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(b.Request)
	if err != nil {
		return fmt.Errorf("job %s: encode request: %w", r.ID, err)
	}
	a := store.Attrs{aRequest: raw, aDecision: encode(b.First), aCreated: r.CreatedAt}
	if err := s.payload(ctx, a, aContext, aContextBlob, "ctx/"+objectName(r.ID)+"/"+r.Body, b.Context, contextOptions); err != nil {
		return err
	}
	key := bodyKey(r.ID, r.Body)
	index := map[store.Index]store.Key{store.ByTime: audit.LogKey(key, r.CreatedAt)}
	if r.ID != RootID(r.Trace) { // who knows the trace knows its root
		index[store.ByLink] = traceLink(r.Tenant, r.Trace, r.ID)
	}
	return store.Transact(ctx, s.Table, store.Put(store.Item{Key: key, Attrs: a, Expires: r.ExpiresAt, Index: index}))
}

// payload puts bytes into an attribute, or, when there are many, into the blob store.
func (s *Store) payload(
	ctx context.Context, a store.Attrs, inline, large, key string, data []byte, options blob.PutOptions,
) error {
	switch {
	case data == nil:
		return nil
	case len(data) <= InlineLimit:
		a[inline] = data
		return nil
	}
	err := s.Blobs.Put(ctx, key, data, options)
	a[large] = key
	return err
}

// A context is kept as long as its job, and read for a day after its end; a result for a day.
var (
	contextOptions = blob.PutOptions{ContentType: "application/json", Class: "standard"}
	resultOptions  = blob.PutOptions{ContentType: "application/json", Class: "short"}
)

func (s *Store) readPayload(ctx context.Context, a store.Attrs, inline, large string) ([]byte, error) {
	if data := a.Bytes(inline); data != nil {
		return data, nil
	}
	key := a.String(large)
	if key == "" {
		return nil, nil
	}
	data, _, err := s.Blobs.Get(ctx, key, 0)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, nil
	}
	return data, err
}

// Body reads a job's body.
func (s *Store) Body(ctx context.Context, r *Record, now time.Time) (*Body, error) {
	it, err := s.Table.Get(ctx, bodyKey(r.ID, r.Body))
	if err != nil {
		return nil, fmt.Errorf("job %s: read body: %w", r.ID, err)
	}
	return s.body(ctx, r, it, now)
}

// Request reads a job's request alone. ErrNoRequest when it has gone.
func (s *Store) Request(ctx context.Context, r *Record) (*agentv1.JobRequest, error) {
	it, err := s.Table.Get(ctx, bodyKey(r.ID, r.Body))
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNoRequest
	}
	if err != nil {
		return nil, fmt.Errorf("job %s: read request: %w", r.ID, err)
	}
	return requestOf(r.ID, it)
}

// requestOf reads the request of a body item.
func requestOf(id string, it store.Item) (*agentv1.JobRequest, error) {
	request := &agentv1.JobRequest{}
	if err := proto.Unmarshal(it.Attrs.Bytes(aRequest), request); err != nil {
		return nil, fmt.Errorf("job %s: decode request: %w", id, err)
	}
	return request, nil
}

func (s *Store) body(ctx context.Context, r *Record, it store.Item, now time.Time) (*Body, error) {
	request, err := requestOf(r.ID, it)
	if err != nil {
		return nil, err
	}
	b := &Body{Request: request}
	decode(it.Attrs.Bytes(aDecision), &b.First)
	if r.hasPayloads(now) {
		if b.Context, err = s.readPayload(ctx, it.Attrs, aContext, aContextBlob); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// PutResult stores what a worker made in an attempt, once: what is there already is kept. It answers the pointer.
func (s *Store) PutResult(ctx context.Context, id string, attempt int64, data []byte, contentType string, now time.Time) (string, error) {
	a := store.Attrs{aContentType: contentType}
	if data == nil {
		data = []byte{}
	}
	if err := s.payload(ctx, a, aPayload, aPayloadBlob, fmt.Sprintf("res/%s/%d", objectName(id), attempt), data, resultOptions); err != nil {
		return "", err
	}
	it := store.Item{Key: resultKey(id, attempt), Attrs: a, Expires: now.Add(PayloadRetention).Unix()}
	err := store.Transact(ctx, s.Table, store.Put(it).If(store.NotExists()))
	if _, ok := errors.AsType[*store.ConditionError](err); ok {
		err = nil
	}
	return ResultPointer(id), err
}

// Result reads the payload of the job's last attempt; nil when there is none (any more). A job that ended without one of its own has the
// placeholder.
func (s *Store) Result(ctx context.Context, r *Record, now time.Time) ([]byte, error) {
	it, err := s.Table.Get(ctx, resultKey(r.ID, r.Attempts))
	if errors.Is(err, store.ErrNotFound) {
		return Placeholder(r), nil
	}
	if err != nil {
		return nil, err
	}
	return s.result(ctx, r, it, now)
}

func (s *Store) result(ctx context.Context, r *Record, it store.Item, now time.Time) ([]byte, error) {
	if !it.Live(now.Unix()) {
		return Placeholder(r), nil
	}
	return s.readPayload(ctx, it.Attrs, aPayload, aPayloadBlob)
}

// Placeholder is the result of a job that ended without success and without a payload of its worker's; nil for any other.
func Placeholder(r *Record) []byte {
	if !r.State.Unsuccessful() || r.ErrorMessage == "" && r.ErrorCode == "" {
		return nil
	}
	b, err := json.Marshal(map[string]any{
		"job_id": r.ID, "status": WireStatus(r.State), "error": map[string]string{"message": r.ErrorMessage},
		"processed_by": "cordum-scheduler", "completed_at": time.UnixMicro(r.UpdatedAt).UTC().Format(time.RFC3339),
	})
	if err != nil {
		panic("job: placeholder: " + err.Error())
	}
	return b
}

// WireStatus is the CAP name of a state: JOB_STATUS_FAILED for FAILED. APPROVAL_REQUIRED has none and reads as pending.
func WireStatus(s State) string {
	if s == ApprovalRequired {
		s = Pending
	}
	return "JOB_STATUS_" + string(s)
}

// Pointers. The scheme is part of the contract; clients treat the rest as opaque.
const pointerScheme = "redis://"

// ContextPointer names a job's context payload.
func ContextPointer(id string) string { return pointerScheme + "ctx:" + id }

// ResultPointer names a job's result payload.
func ResultPointer(id string) string { return pointerScheme + "res:" + id }

// Pointer is a parsed pointer to a payload.
type Pointer struct {
	// Kind is ctx, res, mem or art.
	Kind string
	// ID is what follows the kind: a job's id, a memory key, an artifact's id.
	ID string
}

// Key is the pointer without its scheme: "res:<job>".
func (p Pointer) Key() string { return p.Kind + ":" + p.ID }

// ErrPointer is the answer for a text that is not a pointer.
var ErrPointer = fault.New(fault.Invalid, "invalid pointer")

// ParsePointer reads redis://<kind>:<id>.
func ParsePointer(text string) (Pointer, error) {
	key, ok := strings.CutPrefix(text, pointerScheme)
	if !ok {
		return Pointer{}, ErrPointer
	}
	return ParsePointerKey(key)
}

// ParsePointerKey reads <kind>:<id>.
func ParsePointerKey(key string) (Pointer, error) {
	kind, id, ok := strings.Cut(key, ":")
	if !ok || kind == "" || id == "" {
		return Pointer{}, ErrPointer
	}
	return Pointer{Kind: kind, ID: id}, nil
}
