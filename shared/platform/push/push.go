// Package push is the port to open client connections (WebSocket): frames go out by connection id. Adapters pass pushtest.
package push

import (
	"context"
	"errors"
)

// MaxFrame is the largest frame, in bytes (API Gateway's limit of a frame).
const MaxFrame = 32 * 1024

// Connections is the port. All methods may fail with ErrUnavailable and with the context's error.
type Connections interface {
	// Post sends one text frame. ErrGone: the connection does not exist (any more).
	Post(ctx context.Context, connection string, frame []byte) error
	// Drop closes a connection; one that is gone is no error. The reason reaches the client where the platform takes one (API Gateway takes none).
	Drop(ctx context.Context, connection string, why Reason) error
}

// Reason is why a connection is dropped.
type Reason uint8

// The reasons.
const (
	// Revoked: the credential that opened it is not good any more. Close code 1008.
	Revoked Reason = iota
	// Slow: it does not take what it is sent. Close code 1013.
	Slow
)

// String is what the client is told.
func (r Reason) String() string {
	if r == Slow {
		return "too slow"
	}
	return "credential revoked"
}

// What may go wrong.
var (
	ErrGone        = errors.New("push: connection is gone")
	ErrTooLarge    = errors.New("push: frame too large")
	ErrUnavailable = errors.New("push: not available")
)
