package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Metadata keys that a service reads and writes beside its messages, by their gRPC names. Over HTTP they are headers of the same name.
const (
	TraceHeader       = "x-trace-id"
	IdempotencyHeader = "idempotency-key"
	MaxArtifactHeader = "x-max-artifact-bytes"
	IfMatchHeader     = "if-match"
)

// SetTraceID sends the id of the trace (or run) that a call has begun beside its answer. A service calls it in its handler, whichever door
// the call came through.
func SetTraceID(ctx context.Context, id string) error {
	return grpc.SetHeader(ctx, metadata.Pairs(TraceHeader, id))
}

// IdempotencyKey answers the key that the caller sent beside the message, "" for none. Over HTTP it is the first of the headers
// Idempotency-Key and X-Idempotency-Key and the query's idempotency_key and idempotency-key that is not empty.
func IdempotencyKey(ctx context.Context) string { return beside(ctx, IdempotencyHeader) }

// MaxArtifactBytes answers the limit that the caller set for an artifact in the header X-Max-Artifact-Bytes, as text, "" for none.
func MaxArtifactBytes(ctx context.Context) string { return beside(ctx, MaxArtifactHeader) }

// IfMatch answers the revision at which the caller has read what it changes, as the text of the header If-Match, "" for none.
func IfMatch(ctx context.Context) string { return beside(ctx, IfMatchHeader) }

func beside(ctx context.Context, key string) string {
	if values := metadata.ValueFromIncomingContext(ctx, key); len(values) > 0 {
		return values[0]
	}
	return ""
}
