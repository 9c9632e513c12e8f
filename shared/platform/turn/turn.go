// Package turn is about who goes first. A Turn lets one caller at a time through where the work takes a call to a port: unlike a mutex it
// can be given up waiting for. A Yield marks the points where goroutines begin, or go on after each other, so that a simulation can say
// which one is next; nothing may come to hang on that.
package turn

import (
	"context"
	"sync"
)

// Yield is called where another goroutine might as well go first; what names the caller's work. A nil Yield does nothing.
type Yield func(ctx context.Context, what string)

// At yields.
func (y Yield) At(ctx context.Context, what string) {
	if y != nil {
		y(ctx, what)
	}
}

// Turn is taken by one at a time. The zero Turn is free.
type Turn struct {
	// Yield is called by who had to wait, with the turn taken; Name says at what.
	Yield Yield
	Name  string

	once  sync.Once
	taken chan struct{}
}

func (t *Turn) slot() chan struct{} {
	t.once.Do(func() { t.taken = make(chan struct{}, 1) })
	return t.taken
}

// Take waits for the turn, at most until ctx ends; its error is then that of ctx.
func (t *Turn) Take(ctx context.Context) error {
	select {
	case t.slot() <- struct{}{}:
		return nil
	default:
	}
	select {
	case t.slot() <- struct{}{}:
		t.Yield.At(ctx, "turn at "+t.Name)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Give hands the turn on. Only who has taken it may.
func (t *Turn) Give() { <-t.slot() }
