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
	// Drop closes a connection; one that is gone is no error.
	Drop(ctx context.Context, connection string) error
}

// What may go wrong.
var (
	ErrGone        = errors.New("push: connection is gone")
	ErrTooLarge    = errors.New("push: frame too large")
	ErrUnavailable = errors.New("push: not available")
)
