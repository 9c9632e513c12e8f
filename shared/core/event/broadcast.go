package event

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/push"
)

// Broadcaster brings events to connections.
type Broadcaster struct {
	Connections *Connections
	Push        push.Connections
	Clock       clock.Clock
	Log         *slog.Logger
	// Review says whether a connection may stay: whether its credential still opens it. An error is nobody knows. nil keeps every connection.
	Review func(context.Context, Connection) (bool, error)
}

// Bounds of a broadcast.
const (
	// postsAtOnce is how many connections are posted to at one time.
	postsAtOnce = 64
	// postTries is how often a frame is posted to a connection that cannot be reached now, and postPause the wait between, doubling.
	postTries = 3
	postPause = 50 * time.Millisecond
)

// Deliver posts events, which are of one batch and in order, to whoever listens. Each connection gets its frames in that order; a connection
// that is gone is forgotten, one that cannot be reached loses the frame, and no other waits for it. It fails only where nothing was posted
// because the store is out of reach: then the events must come again.
func (b *Broadcaster) Deliver(ctx context.Context, events []Event) error {
	now := b.Clock.Now()
	seen, err := b.Connections.Seen(ctx, events)
	if err != nil {
		return err
	}
	out := round{listeners: map[string][]Connection{}, frames: map[string][]json.RawMessage{}, targets: map[string]Connection{}}
	var delivered []Event
	for _, e := range events {
		group := e.Tenant + "\x00" + e.Group
		if e.Version != "" && e.Version <= seen[group] {
			continue
		}
		for _, tenant := range []string{e.Tenant, Everybody} {
			if _, known := out.listeners[tenant]; !known {
				if out.listeners[tenant], err = b.Connections.Of(ctx, tenant, now); err != nil {
					return err
				}
			}
		}
		if heard := out.add(e); e.Version != "" {
			seen[group] = e.Version
			if heard {
				delivered = slices.DeleteFunc(delivered, func(o Event) bool { return o.Tenant == e.Tenant && o.Group == e.Group })
				delivered = append(delivered, e)
			}
		}
	}
	b.post(ctx, out.targets, out.frames)
	for _, e := range delivered {
		if err := b.Connections.Mark(ctx, e, now); err != nil {
			b.Log.WarnContext(ctx, "it is not remembered what was delivered; it may come again", "group", e.Group, "error", err)
		}
	}
	return nil
}

// round is what one batch of events brings to whom.
type round struct {
	listeners map[string][]Connection // by tenant
	targets   map[string]Connection
	frames    map[string][]json.RawMessage // by connection
}

// add gives an event to those who listen to it, and says whether anybody does.
func (r round) add(e Event) (heard bool) {
	for _, tenant := range []string{e.Tenant, Everybody} {
		for _, c := range r.listeners[tenant] {
			if c.Job == "" || c.Job == e.Job {
				heard = true
				r.targets[c.ID] = c
				r.frames[c.ID] = append(r.frames[c.ID], e.Frames...)
			}
		}
	}
	return heard
}

// post brings each connection its frames, several connections at once.
func (b *Broadcaster) post(ctx context.Context, targets map[string]Connection, outbox map[string][]json.RawMessage) {
	slots := make(chan struct{}, postsAtOnce)
	var posting sync.WaitGroup
	for id, frames := range outbox {
		slots <- struct{}{}
		posting.Go(func() {
			defer func() { <-slots }()
			for _, f := range frames {
				if !b.frame(ctx, targets[id], f) {
					return
				}
			}
		})
	}
	posting.Wait()
}

// frame posts one frame; false when the connection is gone.
func (b *Broadcaster) frame(ctx context.Context, c Connection, frame []byte) bool {
	var err error
	for try := range postTries {
		err = b.Push.Post(ctx, c.ID, frame)
		if err == nil {
			return true
		}
		if errors.Is(err, push.ErrGone) {
			b.gone(ctx, c)
			return false
		}
		if errors.Is(err, push.ErrTooLarge) || ctx.Err() != nil || try == postTries-1 {
			break
		}
		time.Sleep(postPause << try)
	}
	b.Log.WarnContext(ctx, "a client lost a frame", "connection", c.ID, "tenant", c.Tenant, "error", err)
	return true
}

func (b *Broadcaster) gone(ctx context.Context, c Connection) {
	if !c.Settled(b.Clock.Now()) {
		return // it may be opening yet
	}
	if err := b.Connections.Close(ctx, c.ID); err != nil {
		b.Log.WarnContext(ctx, "a connection that is gone is not forgotten; the next event tries again", "connection", c.ID, "error", err)
	}
}

// quiet is a frame that says nothing; every client passes it over.
var quiet = []byte("{}")

// KeepAlive posts a frame that says nothing to connections that have had none for a while, at most limit, drops those whose credential has expired
// or was revoked, and forgets those that are gone.
func (b *Broadcaster) KeepAlive(ctx context.Context, limit int) error {
	now := b.Clock.Now()
	due, err := b.Connections.Due(ctx, limit, now)
	if err != nil {
		return err
	}
	for _, c := range due {
		if b.revoked(ctx, c) {
			err = errors.Join(err, b.Push.Drop(ctx, c.ID), b.Connections.Close(ctx, c.ID))
			continue
		}
		if b.frame(ctx, c, quiet) {
			err = errors.Join(err, b.Connections.Alive(ctx, c, now))
		}
	}
	return err
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
