package outcome_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/edge/outcome"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

func TestOf(t *testing.T) {
	secret := errors.New("dial 10.0.0.7: password wrong")
	tests := []struct {
		name    string
		err     error
		http    int
		grpc    codes.Code
		message string
		logged  bool
	}{
		{"invalid", fault.New(fault.Invalid, "prompt is required"), 400, codes.InvalidArgument, "prompt is required", false},
		{"unauthenticated", fault.New(fault.Unauthenticated, "unauthorized"), 401, codes.Unauthenticated, "unauthorized", false},
		{"denied", fault.New(fault.Denied, "access denied"), 403, codes.PermissionDenied, "access denied", false},
		{"not found", fault.New(fault.NotFound, "job not found"), 404, codes.NotFound, "job not found", false},
		{"method", fault.New(fault.Method, "method not allowed"), 405, codes.Unimplemented, "method not allowed", false},
		{"conflict", fault.New(fault.Conflict, "idempotency key already used"), 409, codes.AlreadyExists, "idempotency key already used", false},
		{"too large", fault.New(fault.TooLarge, "request body too large"), 413, codes.InvalidArgument, "request body too large", false},
		{"limited", fault.New(fault.Limited, "rate limited"), 429, codes.ResourceExhausted, "rate limited", false},
		{"wrapped in words", fmt.Errorf("approve: %w", fault.New(fault.Conflict, "stale")), 409, codes.AlreadyExists, "stale", false},
		{"refusal with a cause", fault.Wrap(fault.Invalid, secret, "invalid schema"), 400, codes.InvalidArgument, "invalid schema", false},
		{"internal", fault.New(fault.Internal, "table broke"), 500, codes.Internal, "internal error", true},
		{"foreign", secret, 500, codes.Internal, "internal error", true},
		{"unimplemented", fault.New(fault.Unimplemented, "later"), 501, codes.Unimplemented, "not implemented", false},
		{"generated method", status.Error(codes.Unimplemented, "method X not implemented"), 501, codes.Unimplemented, "not implemented", false},
		{"another status", status.Error(codes.NotFound, "secret"), 500, codes.Internal, "internal error", true},
		{"upstream", fault.Wrap(fault.Upstream, secret, "kernel"), 502, codes.Unavailable, "upstream service error", true},
		{"unavailable", fault.Wrap(fault.Unavailable, secret, "store"), 503, codes.Unavailable, "service unavailable", true},
		{"deadline", fmt.Errorf("get: %w", context.DeadlineExceeded), 503, codes.DeadlineExceeded, "service unavailable", true},
		{"throttled", fmt.Errorf("load job: %w: %w", store.ErrUnavailable, secret), 503, codes.Unavailable, "service unavailable", true},
		{"no queue", fmt.Errorf("send: %w", queue.ErrUnavailable), 503, codes.Unavailable, "service unavailable", true},
		{"no objects", fmt.Errorf("put: %w", blob.ErrUnavailable), 503, codes.Unavailable, "service unavailable", true},
		{"said otherwise", fault.Wrap(fault.Internal, store.ErrUnavailable, "idempotency reservation failed"), 500, codes.Internal, "internal error", true},
		{"canceled", context.Canceled, 503, codes.Canceled, "service unavailable", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := outcome.Of(tt.err)
			if o.HTTP != tt.http || o.GRPC != tt.grpc || o.Message != tt.message || (o.Cause != nil) != tt.logged {
				t.Errorf("got %+v", o)
			}
		})
	}
}

func TestEveryCodeHasARow(t *testing.T) {
	for code := fault.Internal; code <= fault.Method; code++ {
		if o := outcome.Of(fault.New(code, "x")); o.HTTP < 400 || o.GRPC == codes.OK || o.Message == "" {
			t.Errorf("code %d: %+v", code, o)
		}
	}
}

func TestDetails(t *testing.T) {
	o := outcome.Of(fault.New(fault.Limited, "run limit").With("limit", 5))
	if o.Details["limit"] != 5 {
		t.Errorf("got %+v", o)
	}
}
