// Package fault is the one kind of error that reaches a caller: a code that the edge maps to HTTP and gRPC, and a message that says what
// happened, to which thing, and what to do. Every other error is internal: it is logged, and the caller sees "internal error".
package fault

import (
	"errors"
	"fmt"
	"maps"
)

// Code is the class of a fault.
type Code uint8

// The classes. Their HTTP and gRPC codes are in shared/edge.
const (
	Internal Code = iota // anything foreign
	Invalid              // the request is malformed or not valid
	Unauthenticated
	Denied   // role, tenant, origin
	NotFound // unknown, or another tenant's
	Conflict // the state of the object does not allow it
	TooLarge
	Limited       // a rate or a quota
	Upstream      // something that the plane asked answered wrongly
	Unavailable   // a dependency cannot be reached now
	Unimplemented // the route exists and is not built
	Method        // the path exists, not for this method
)

// Error is a fault. Message is for people and may be shown to the caller; Details are additional members of the JSON body.
type Error struct {
	Code    Code
	Message string
	Details map[string]any
	// Told says that the caller may read the message although it is the plane that failed.
	Told  bool
	cause error
}

func (e *Error) Error() string {
	if e.cause != nil {
		return e.Message + ": " + e.cause.Error()
	}
	return e.Message
}

// Unwrap answers the cause, which is never shown to a caller.
func (e *Error) Unwrap() error { return e.cause }

// New makes a fault with a message that the caller will read.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap makes a fault that hides a cause from the caller and keeps it for the log.
func Wrap(code Code, cause error, format string, args ...any) *Error {
	e := New(code, format, args...)
	e.cause = cause
	return e
}

// Aloud lets the caller read the message although it is the plane that failed. It names no more than what is out of reach.
func (e *Error) Aloud() *Error {
	aloud := *e
	aloud.Told = true
	return &aloud
}

// With adds a member to the JSON body.
func (e *Error) With(name string, value any) *Error {
	d := make(map[string]any, len(e.Details)+1)
	maps.Copy(d, e.Details)
	d[name] = value
	more := *e
	more.Details = d
	return &more
}

// From answers the fault in err's chain; a foreign error becomes an internal fault that hides it. From(nil) is nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*Error](err); ok {
		return f
	}
	return &Error{Code: Internal, Message: "internal error", cause: err}
}

// Is says whether err is a fault of that class.
func Is(err error, code Code) bool {
	var f *Error
	return errors.As(err, &f) && f.Code == code
}
