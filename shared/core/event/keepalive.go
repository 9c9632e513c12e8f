package event

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cordum-serverless/cordum/shared/platform/push"
)

// quiet is a frame that says nothing; every client passes it over.
var quiet = []byte("{}")

// KeepAlive posts a frame that says nothing to connections that have had none for a while, at most limit, drops those whose credential has
// expired or was revoked, has those caught up that are behind for longer than that takes, and forgets those that are gone.
func (b *Broadcaster) KeepAlive(ctx context.Context, limit int) error {
	due, err := b.Connections.Due(ctx, limit, b.Clock.Now())
	if err != nil {
		return err
	}
	slots := make(chan struct{}, postsAtOnce)
	errs := make([]error, len(due))
	var keeping sync.WaitGroup
	for i, c := range due {
		slots <- struct{}{}
		keeping.Go(func() {
			defer func() { <-slots }()
			b.Yield.At(ctx, "keep-alive "+c.ID)
			errs[i] = b.keepAlive(ctx, c)
		})
	}
	keeping.Wait()
	return errors.Join(errs...)
}

func (b *Broadcaster) keepAlive(ctx context.Context, c Connection) error {
	now := b.Clock.Now()
	if b.revoked(ctx, c) {
		return b.drop(ctx, c, push.Revoked)
	}
	err := b.frame(ctx, c, quiet, catchUpPost)
	if errors.Is(err, push.ErrGone) && c.Settled(now) {
		b.forget(ctx, c)
		return nil
	}
	if c.From != 0 {
		err = errors.Join(err, b.Bus.CatchUp(ctx, c.ID))
	}
	return errors.Join(err, b.Connections.Alive(ctx, c, now))
}

// drop closes a connection and forgets it. A client whose platform names no reason reads it in the last frame.
func (b *Broadcaster) drop(ctx context.Context, c Connection, why push.Reason) error {
	if err := b.frame(ctx, c, fmt.Appendf(nil, `{"stream":{"state":"closed","reason":%q}}`, why.String()), catchUpPost); err != nil {
		b.Log.DebugContext(ctx, "a client is not told why its connection is dropped", "connection", c.ID, "error", err)
	}
	return errors.Join(b.Push.Drop(ctx, c.ID, why), b.Connections.Close(ctx, c.ID, b.Clock.Now()))
}

// revoked says whether a connection must not stay.
func (b *Broadcaster) revoked(ctx context.Context, c Connection) bool {
	if c.Expired(b.Clock.Now()) {
		b.Log.InfoContext(ctx, "connection dropped: its credential has expired", "connection", c.ID, "tenant", c.Tenant, "key", c.KeyID)
		return true
	}
	if b.Review == nil {
		return false
	}
	good, err := b.Review(ctx, c)
	if err != nil {
		b.Log.WarnContext(ctx, "a connection stays until it is known whether its credential is good", "connection", c.ID, "error", err)
		return false
	}
	if !good {
		b.Log.InfoContext(ctx, "connection dropped: its credential is not good any more", "connection", c.ID, "tenant", c.Tenant, "key", c.KeyID)
	}
	return !good
}
