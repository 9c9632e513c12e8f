package embedded

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// expiry removes items whose time is over, as DynamoDB does: late. It passes over the whole table once an hour, in steps small enough that
// nobody waits for it.
type expiry struct {
	table  *Table
	cancel context.CancelFunc
	gone   chan struct{}
}

const (
	expiryPause = time.Hour
	expiryStep  = 500
)

func startExpiry(t *Table) *expiry {
	ctx, cancel := context.WithCancel(context.Background())
	e := &expiry{table: t, cancel: cancel, gone: make(chan struct{})}
	go e.run(ctx)
	return e
}

func (e *expiry) close() {
	e.cancel()
	<-e.gone
}

func (e *expiry) run(ctx context.Context) {
	defer close(e.gone)
	ticker := time.NewTicker(expiryPause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			e.pass(ctx)
		}
	}
}

// pass looks at every item once. An error ends it; the next one is in an hour.
func (e *expiry) pass(ctx context.Context) {
	var at store.Key
	for {
		expired, last, n, err := e.step(ctx, at, time.Now().Unix())
		if err != nil {
			return
		}
		for _, it := range expired {
			// Conditioned on nothing but the expiry itself: it may have moved since it was read.
			if err := e.table.expire(ctx, it); err != nil {
				return
			}
		}
		if n < expiryStep {
			return
		}
		at = last
	}
}

const scanItems = "SELECT pk, sk, item FROM items WHERE (pk, sk) > (?, ?) ORDER BY pk, sk LIMIT ?"

// step reads n items, and answers those that have expired.
func (e *expiry) step(ctx context.Context, from store.Key, now int64) (expired []store.Item, last store.Key, n int, err error) {
	err = e.table.db.read(ctx, func(c *conn) error {
		return c.rows(scanItems, 3, func(row []driver.Value) error {
			it, err := itemOf(row)
			if err != nil {
				return err
			}
			n, last = n+1, it.Key
			if !it.Live(now) {
				expired = append(expired, *it)
			}
			return nil
		}, from.PK, from.SK, int64(expiryStep))
	})
	return expired, last, n, err
}

func itemOf(row []driver.Value) (*store.Item, error) {
	var parts [3]string
	for i := range parts {
		var err error
		if parts[i], err = textOf(row[i]); err != nil {
			return nil, err
		}
	}
	return decode(store.Key{PK: parts[0], SK: parts[1]}, parts[2])
}

// expire removes an item unless its expiry has moved.
func (b *Table) expire(ctx context.Context, seen store.Item) error {
	return b.w.do(ctx, func(t *txn) error {
		im, err := t.load(seen.Key)
		if err != nil || im == nil {
			return err
		}
		now, err := im.decoded(seen.Key)
		if err != nil || now.Expires != seen.Expires {
			return err
		}
		return b.write(t, &change{op: store.Delete(seen.Key), before: now})
	})
}
