package embedded

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/cordum-serverless/cordum/shared/platform/push"
)

// Connections is the registry of open client connections. Whoever accepts them (localdev) registers each with the functions that reach it.
type Connections struct {
	mu   sync.RWMutex
	open map[string]connection
}

type connection struct {
	send func(ctx context.Context, frame []byte) error
	drop func(push.Reason)
}

// NewConnections makes an empty registry.
func NewConnections() *Connections { return &Connections{open: map[string]connection{}} }

// Register makes a connection known under an id that nobody else has. send delivers one frame, which it may keep; its error means that the
// client has gone, except for the error of its context. drop closes the connection; it may be called after unregister and more than once.
// unregister, which the caller owes when the client leaves, makes it unknown again.
func (c *Connections) Register(id string, send func(ctx context.Context, frame []byte) error, drop func(push.Reason)) (unregister func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[id] = connection{send, drop}
	return func() { c.forget(id) }
}

func (c *Connections) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, id)
}

func (c *Connections) find(id string) (connection, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	one, there := c.open[id]
	return one, there
}

// Post implements push.Connections.
func (c *Connections) Post(ctx context.Context, id string, frame []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(frame) > push.MaxFrame {
		return fmt.Errorf("%w: %d bytes, at most %d", push.ErrTooLarge, len(frame), push.MaxFrame)
	}
	one, there := c.find(id)
	if !there {
		return push.ErrGone
	}
	err := one.send(ctx, bytes.Clone(frame))
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	c.forget(id)
	return fmt.Errorf("%w: %w", push.ErrGone, err)
}

// Drop implements push.Connections.
func (c *Connections) Drop(ctx context.Context, id string, why push.Reason) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if one, there := c.find(id); there {
		c.forget(id)
		one.drop(why)
	}
	return nil
}
