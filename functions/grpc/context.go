package grpc

import (
	"cmp"
	"context"
	"strings"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/memory"
	"github.com/cordum-serverless/cordum/shared/core/memory/window"
	"github.com/cordum-serverless/cordum/shared/edge/rpc"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
)

// ContextEngine serves cordum.v1.ContextEngine, what workers show to language models and remember of them.
type ContextEngine struct {
	cordumv1.UnimplementedContextEngineServer
	memories *memory.Store
	clock    clock.Clock
	ids      ids.Source
}

// BuildWindow makes the messages for a model.
func (e *ContextEngine) BuildWindow(ctx context.Context, req *cordumv1.BuildWindowRequest) (*cordumv1.BuildWindowResponse, error) {
	id, err := memoryID(req.GetMemoryId())
	if err != nil {
		return nil, err
	}
	q, err := window.Ask(req.GetLogicalPayload())
	if err != nil {
		return nil, err
	}
	all, err := e.recall(ctx, id, req.GetMode(), q)
	if err != nil {
		return nil, err
	}
	kept, tokens := window.Fit(append(all, q.Messages()...), int(req.GetMaxInputTokens()))
	res := &cordumv1.BuildWindowResponse{InputTokens: int32(tokens), OutputTokens: int32(window.Output(int(req.GetMaxOutputTokens())))}
	for _, m := range kept {
		res.Messages = append(res.Messages, &cordumv1.ModelMessage{Role: m.Role, Content: m.Content})
	}
	return res, nil
}

// recall answers what a memory has to say to a question.
func (e *ContextEngine) recall(ctx context.Context, id string, mode cordumv1.ContextMode, q window.Question) ([]window.Message, error) {
	if forgets(id, mode) {
		return nil, nil
	}
	tenant, now := identity.From(ctx).Tenant, e.clock.Now()
	events, err := e.memories.Events(ctx, tenant, id, now)
	if err != nil || mode != cordumv1.ContextMode_CONTEXT_MODE_RAG {
		return window.History(events), err
	}
	if q.File == "" {
		summary, err := e.memories.Summary(ctx, tenant, id, now)
		return append(window.History(events), window.Summary(summary)...), err
	}
	chunks, err := e.memories.Chunks(ctx, tenant, id, now)
	return append(window.History(events), window.Files(chunks, q.File)...), err
}

// UpdateMemory keeps a question and its answer.
func (e *ContextEngine) UpdateMemory(ctx context.Context, req *cordumv1.UpdateMemoryRequest) (*cordumv1.UpdateMemoryResponse, error) {
	id, err := memoryID(req.GetMemoryId())
	if err != nil || forgets(id, req.GetMode()) {
		return &cordumv1.UpdateMemoryResponse{}, err
	}
	now := e.clock.Now()
	events, err := window.Exchange(req.GetLogicalPayload(), req.GetModelResponse(), now)
	if err != nil || len(events) == 0 {
		return &cordumv1.UpdateMemoryResponse{}, err
	}
	for i := range events {
		events[i].ID = e.ids.UUID()
	}
	return &cordumv1.UpdateMemoryResponse{}, e.memories.Append(ctx, identity.From(ctx).Tenant, id, e.call(ctx), now, events...)
}

// StoreMemory keeps what a memory knows beside its history.
func (e *ContextEngine) StoreMemory(ctx context.Context, req *cordumv1.StoreMemoryRequest) (*cordumv1.StoreMemoryResponse, error) {
	id, err := memoryID(req.GetMemoryId())
	if err != nil {
		return nil, err
	}
	if id == "" {
		return nil, fault.New(fault.Invalid, "memory_id is required")
	}
	k := memory.Knowledge{Replace: req.GetReplaceChunks()}
	if req.Summary != nil {
		k.Summary = &req.Summary
	}
	for _, c := range req.GetChunks() {
		chunk := memory.Chunk{
			Number: memory.Next, Path: c.GetPath(), Content: c.GetContent(), Language: c.GetLanguage(), Bytes: c.GetBytes(), LOC: c.GetLoc(),
		}
		if c.Index != nil {
			if chunk.Number = c.GetIndex(); chunk.Number < 0 {
				return nil, fault.New(fault.Invalid, "an index must not be negative")
			}
		}
		chunk.Bytes = cmp.Or(chunk.Bytes, int64(len(chunk.Content)))
		k.Chunks = append(k.Chunks, chunk)
	}
	return &cordumv1.StoreMemoryResponse{}, e.memories.Learn(ctx, identity.From(ctx).Tenant, id, e.call(ctx), k, e.clock.Now())
}

// call names a call, so that it takes effect once: by the client's word, for one that asks again when it gets no answer.
func (e *ContextEngine) call(ctx context.Context) string {
	return cmp.Or(rpc.IdempotencyKey(ctx), e.ids.UUID())
}

func memoryID(id string) (string, error) {
	id = strings.TrimSpace(id)
	return id, memory.CheckID(id)
}

// forgets says that a memory takes no part: there is none, or the mode wants none.
func forgets(id string, mode cordumv1.ContextMode) bool {
	return id == "" || mode != cordumv1.ContextMode_CONTEXT_MODE_CHAT && mode != cordumv1.ContextMode_CONTEXT_MODE_RAG
}
