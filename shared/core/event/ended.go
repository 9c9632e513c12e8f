package event

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/cordum-serverless/cordum/shared/platform/push"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// Ending is a message of the events queue: of a tenant's credential, or user, that opens nothing any more. What it opened must close.
type Ending struct {
	Tenant string `json:"tenant"`
	Of     string `json:"ended"`
	// Except is a credential of that user that is still good; "" for none.
	Except string `json:"except,omitempty"`
}

// ParseEnding reads a message of the events queue; ok is false for one that is something else.
func ParseEnding(body string) (e Ending, ok bool) {
	err := json.Unmarshal([]byte(body), &e)
	return e, err == nil && e.Tenant != "" && e.Of != ""
}

// Ended has the connections closed that a credential, or a user, has opened. It never fails: what cannot be sent is logged, and those connections are
// closed when they are looked at for their keep-alive.
func (b *Bus) Ended(ctx context.Context, tenant, of, except string) {
	if !b.Listened(ctx, tenant) {
		return
	}
	text, err := json.Marshal(Ending{tenant, of, except})
	if err == nil {
		once := strconv.FormatInt(b.unique.Micros(b.Clock.Now()), 10)
		err = b.Queues.Send(ctx, resources.Events, queue.Message{Body: string(text), Group: groupID("ended", tenant, of), Dedup: groupID("ended", tenant, of, once)})
	}
	if err != nil {
		b.Log.WarnContext(ctx, "streams stay open until they are looked at", "tenant", tenant, "of", of, "error", err)
	}
}

// End closes the connections that somebody has opened who may open none any more. Who opens one at this moment has written it before the credential is
// looked at for the last time, so that either is seen.
func (b *Broadcaster) End(ctx context.Context, e Ending) error {
	var errs []error
	for _, tenant := range []string{e.Tenant, Everybody} {
		a, err := b.Connections.listing(ctx, tenant, b.Clock.Now())
		if err != nil {
			return err
		}
		for _, c := range a.all {
			if c.openedBy(e) {
				b.Log.InfoContext(ctx, "connection dropped: its credential has ended", "connection", c.ID, "tenant", c.Tenant, "key", c.KeyID)
				errs = append(errs, b.drop(ctx, c, push.Revoked))
			}
		}
	}
	return errors.Join(errs...)
}

func (n Connection) openedBy(e Ending) bool {
	return n.KeyID != e.Except && (n.KeyID == e.Of || n.OpenedBy == e.Of || n.User == e.Of)
}
