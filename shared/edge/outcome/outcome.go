// Package outcome is the one place where a fault becomes what a caller sees: an HTTP status, a gRPC code, a message.
package outcome

import (
	"context"
	"errors"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Outcome is a failed request as its caller sees it.
type Outcome struct {
	HTTP int
	GRPC codes.Code
	// Message is safe to show: of the plane's own failures it says no more than their kind, or what is out of reach.
	Message string
	// Details are additional members of the JSON body, nil for none.
	Details map[string]any
	// Cause is the whole story of a failure of the plane (5xx), for the log; nil for refusals.
	Cause error
}

type row struct {
	http    int
	grpc    codes.Code
	generic string // replaces the message when it is the plane that failed
}

var table = [...]row{
	fault.Internal:        {http.StatusInternalServerError, codes.Internal, "internal error"},
	fault.Invalid:         {http.StatusBadRequest, codes.InvalidArgument, ""},
	fault.Unauthenticated: {http.StatusUnauthorized, codes.Unauthenticated, ""},
	fault.Denied:          {http.StatusForbidden, codes.PermissionDenied, ""},
	fault.NotFound:        {http.StatusNotFound, codes.NotFound, ""},
	fault.Conflict:        {http.StatusConflict, codes.AlreadyExists, ""},
	fault.TooLarge:        {http.StatusRequestEntityTooLarge, codes.InvalidArgument, ""},
	fault.Limited:         {http.StatusTooManyRequests, codes.ResourceExhausted, ""},
	fault.Upstream:        {http.StatusBadGateway, codes.Unavailable, "upstream service error"},
	fault.Unavailable:     {http.StatusServiceUnavailable, codes.Unavailable, "service unavailable"},
	fault.Unimplemented:   {http.StatusNotImplemented, codes.Unimplemented, "not implemented"},
	fault.Method:          {http.StatusMethodNotAllowed, codes.Unimplemented, ""},
}

// Of reads an error, which must not be nil. An error that is neither a fault nor one of the few below is internal.
func Of(err error) Outcome {
	var f *fault.Error
	if !errors.As(err, &f) {
		f = foreign(err)
	}
	r := table[f.Code]
	o := Outcome{HTTP: r.http, GRPC: r.grpc, Message: f.Message, Details: f.Details}
	if r.generic != "" && !f.Told {
		o.Message = r.generic
	}
	if r.generic != "" && f.Code != fault.Unimplemented {
		o.Cause = err
	}
	if errors.Is(err, context.Canceled) {
		o.GRPC = codes.Canceled
	}
	if errors.Is(err, context.DeadlineExceeded) {
		o.GRPC = codes.DeadlineExceeded
	}
	return o
}

// Left says whether a request failed of nothing but that its caller has gone, as every worker does in the end: nothing for an operator to look at.
func Left(ctx context.Context, err error) bool {
	return errors.Is(err, context.Canceled) && errors.Is(ctx.Err(), context.Canceled)
}

// foreign reads errors that are no faults: a generated method that nobody has built, a request whose time or caller is gone, and what the plane
// stands on when it does not answer: whoever asks again may be lucky.
func foreign(err error) *fault.Error {
	switch {
	case status.Code(err) == codes.Unimplemented:
		return fault.New(fault.Unimplemented, "not implemented")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, store.ErrUnavailable),
		errors.Is(err, queue.ErrUnavailable), errors.Is(err, blob.ErrUnavailable):
		return fault.Wrap(fault.Unavailable, err, "service unavailable")
	}
	return fault.From(err)
}
