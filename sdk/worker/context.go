package worker

import (
	"context"
	"fmt"
	"math"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
)

// ContextMode is what the job's submitter wants a model to see besides the input: the job's context_mode. What is not known is RAW, nothing.
func (j *Job) ContextMode() cordumv1.ContextMode {
	switch j.Env["context_mode"] {
	case "chat":
		return cordumv1.ContextMode_CONTEXT_MODE_CHAT
	case "rag":
		return cordumv1.ContextMode_CONTEXT_MODE_RAG
	default:
		return cordumv1.ContextMode_CONTEXT_MODE_RAW
	}
}

// Window answers the messages for a language model: what the job's memory holds, by the mode, and what its input asks, within the job's budget of tokens.
func (j *Job) Window(ctx context.Context, mode cordumv1.ContextMode) (*cordumv1.BuildWindowResponse, error) {
	input, err := j.Context(ctx)
	if err != nil {
		return nil, err
	}
	budget := j.Request.GetBudget()
	res, err := j.engine.BuildWindow(ctx, &cordumv1.BuildWindowRequest{
		MemoryId: j.Request.GetMemoryId(), Mode: mode, LogicalPayload: input,
		MaxInputTokens: tokens(budget.GetMaxInputTokens()), MaxOutputTokens: tokens(budget.GetMaxOutputTokens()),
	})
	if err != nil {
		return nil, fmt.Errorf("build window: %w", err)
	}
	return res, nil
}

func tokens(n int64) int32 { return int32(min(n, math.MaxInt32)) }

// Remember adds what the job's input asks, and the model's answer, to the history of the job's memory, once for each call of it. In mode RAW it does
// nothing. A question or an answer of more than 64 KiB is refused.
func (j *Job) Remember(ctx context.Context, mode cordumv1.ContextMode, answer []byte) error {
	input, err := j.Context(ctx)
	if err != nil {
		return err
	}
	_, err = j.engine.UpdateMemory(ctx, &cordumv1.UpdateMemoryRequest{
		MemoryId: j.Request.GetMemoryId(), Mode: mode, LogicalPayload: input, ModelResponse: answer,
	})
	if err != nil {
		return fmt.Errorf("update memory: %w", err)
	}
	return nil
}

// ContextEngine answers the plane's context engine, for the job's tenant. Like all that a job asks, a call lasts until the plane answers or ctx ends, and
// takes effect once. Only workers with a stream reach it: for others every call is UNIMPLEMENTED.
func (j *Job) ContextEngine() cordumv1.ContextEngineClient { return j.engine }

// UseContextEngine gives the job another one, for tests of handlers.
func (j *Job) UseContextEngine(e cordumv1.ContextEngineClient) { j.engine = e }

// engine is the context engine for the tenant of a job.
func (w *Worker) engine(r *agentv1.JobRequest) cordumv1.ContextEngineClient {
	return engine{w, r.GetTenantId()}
}

type engine struct {
	w      *Worker
	tenant string
}

// call makes a call, over and over under one key.
func call[Q proto.Message, A any](
	ctx context.Context, e engine, req Q, opts []grpc.CallOption, method func(cordumv1.ContextEngineClient, context.Context, Q, ...grpc.CallOption) (A, error),
) (A, error) {
	if size := proto.Size(req); size > maxMessage {
		var none A
		return none, status.Errorf(codes.InvalidArgument, "request of %d bytes is too large (max %d)", size, maxMessage)
	}
	ctx = metadata.AppendToOutgoingContext(e.w.credentials(ctx), "x-tenant-id", e.tenant, "idempotency-key", uuid.NewString())
	return ask(ctx, e.w, func(l *link) (A, error) { return method(l.engine, ctx, req, opts...) })
}

func (e engine) BuildWindow(ctx context.Context, in *cordumv1.BuildWindowRequest, opts ...grpc.CallOption) (*cordumv1.BuildWindowResponse, error) {
	return call(ctx, e, in, opts, cordumv1.ContextEngineClient.BuildWindow)
}

func (e engine) UpdateMemory(ctx context.Context, in *cordumv1.UpdateMemoryRequest, opts ...grpc.CallOption) (*cordumv1.UpdateMemoryResponse, error) {
	return call(ctx, e, in, opts, cordumv1.ContextEngineClient.UpdateMemory)
}

func (e engine) StoreMemory(ctx context.Context, in *cordumv1.StoreMemoryRequest, opts ...grpc.CallOption) (*cordumv1.StoreMemoryResponse, error) {
	return call(ctx, e, in, opts, cordumv1.ContextEngineClient.StoreMemory)
}

// noEngine is that of a job which reaches none.
type noEngine struct{}

var errNoEngine = status.Error(codes.Unimplemented, "only a worker with a stream reaches the context engine")

func (noEngine) BuildWindow(context.Context, *cordumv1.BuildWindowRequest, ...grpc.CallOption) (*cordumv1.BuildWindowResponse, error) {
	return nil, errNoEngine
}

func (noEngine) UpdateMemory(context.Context, *cordumv1.UpdateMemoryRequest, ...grpc.CallOption) (*cordumv1.UpdateMemoryResponse, error) {
	return nil, errNoEngine
}

func (noEngine) StoreMemory(context.Context, *cordumv1.StoreMemoryRequest, ...grpc.CallOption) (*cordumv1.StoreMemoryResponse, error) {
	return nil, errNoEngine
}
