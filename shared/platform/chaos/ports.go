package chaos

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/push"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Table answers a table whose calls go wrong. Its points are table.get, table.batch_get, table.query, table.write and table.update.
func (c *Chaos) Table(t store.Table) store.Table { return &table{t, c} }

type table struct {
	port  store.Table
	chaos *Chaos
}

func ofTable(method string, changes bool) point {
	return point{name: "table." + method, unavailable: store.ErrUnavailable, changes: changes}
}

var (
	tableGet    = ofTable("get", false)
	tableBatch  = ofTable("batch_get", false)
	tableQuery  = ofTable("query", false)
	tableWrite  = ofTable("write", true)
	tableUpdate = ofTable("update", true)
)

// Get implements store.Table.
func (t *table) Get(ctx context.Context, key store.Key) (it store.Item, err error) {
	err = t.chaos.through(ctx, tableGet, func() (err error) {
		it, err = t.port.Get(ctx, key)
		return err
	})
	return it, err
}

// BatchGet implements store.Table.
func (t *table) BatchGet(ctx context.Context, keys []store.Key) (items []store.Item, err error) {
	err = t.chaos.through(ctx, tableBatch, func() (err error) {
		items, err = t.port.BatchGet(ctx, keys)
		return err
	})
	return items, err
}

// Query implements store.Table.
func (t *table) Query(ctx context.Context, q store.Query) (page store.Page, err error) {
	err = t.chaos.through(ctx, tableQuery, func() (err error) {
		page, err = t.port.Query(ctx, q)
		return err
	})
	return page, err
}

// Write implements store.Table.
func (t *table) Write(ctx context.Context, ops ...store.Op) error {
	return t.chaos.through(ctx, tableWrite, func() error { return t.port.Write(ctx, ops...) })
}

// Update implements store.Table.
func (t *table) Update(ctx context.Context, op store.Op) (store.Item, error) {
	var it store.Item
	err := t.chaos.through(ctx, tableUpdate, func() (err error) {
		it, err = t.port.Update(ctx, op)
		return err
	})
	if err != nil {
		return store.Item{}, err
	}
	return it, nil
}

// Queues answers queues whose calls go wrong. Each queue has points of its own: queue.send/<name>, and so on with receive, delete, extend and
// depth; queue.ensure is for all.
func (c *Chaos) Queues(q queue.Queues) queue.Queues {
	return &queues{port: q, chaos: c, again: map[string][]queue.Received{}}
}

type queues struct {
	port  queue.Queues
	chaos *Chaos

	mu sync.Mutex
	// again are messages of standard queues that the next receive hands out once more.
	again map[string][]queue.Received
}

func ofQueue(method, name string, changes bool) point {
	if name != "" {
		method += "/" + name
	}
	return point{name: "queue." + method, unavailable: queue.ErrUnavailable, changes: changes}
}

// Ensure implements queue.Queues.
func (q *queues) Ensure(ctx context.Context, defs ...queue.Def) error {
	return q.chaos.through(ctx, ofQueue("ensure", "", true), func() error { return q.port.Ensure(ctx, defs...) })
}

// Send implements queue.Queues.
func (q *queues) Send(ctx context.Context, name string, msgs ...queue.Message) error {
	at := ofQueue("send", name, true)
	at.repeats = true
	return q.chaos.through(ctx, at, func() error { return q.port.Send(ctx, name, msgs...) })
}

// Receive implements queue.Queues.
func (q *queues) Receive(ctx context.Context, name string, most int, wait, visibility time.Duration) ([]queue.Received, error) {
	if err := queue.CheckReceive(most, wait, visibility); err != nil {
		return nil, err
	}
	at := ofQueue("receive", name, true)
	at.repeats = !queue.IsFIFO(name)
	f, err := q.chaos.enter(ctx, at)
	if err != nil {
		return nil, err
	}
	if copies := q.copies(name, most); len(copies) > 0 {
		q.chaos.count(at, func(all *Count) { all.Duplicates++ })
		return copies, nil
	}
	msgs, err := q.port.Receive(ctx, name, most, wait, visibility)
	q.received(name, msgs, f.twice)
	if err := q.chaos.leave(ctx, at, f, err); err != nil {
		return nil, err
	}
	return msgs, nil
}

// copies takes messages that come again; none while faults are off.
func (q *queues) copies(name string, most int) []queue.Received {
	if q.chaos.off.Load() {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.again[name]
	n := min(most, len(all))
	q.again[name] = all[n:]
	return all[:n:n]
}

// received keeps messages that are to come again. Copies of an earlier delivery do not come after a later one: their receipts are void.
func (q *queues) received(name string, msgs []queue.Received, twice bool) {
	if len(msgs) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	var kept []queue.Received
	for _, old := range q.again[name] {
		if !slices.ContainsFunc(msgs, func(m queue.Received) bool { return m.ID == old.ID }) {
			kept = append(kept, old)
		}
	}
	if twice {
		kept = append(kept, msgs...)
	}
	q.again[name] = kept
}

// Delete implements queue.Queues.
func (q *queues) Delete(ctx context.Context, name string, receipts ...string) error {
	return q.chaos.through(ctx, ofQueue("delete", name, true), func() error { return q.port.Delete(ctx, name, receipts...) })
}

// Extend implements queue.Queues.
func (q *queues) Extend(ctx context.Context, name, receipt string, d time.Duration) error {
	return q.chaos.through(ctx, ofQueue("extend", name, true), func() error { return q.port.Extend(ctx, name, receipt, d) })
}

// Depth implements queue.Queues.
func (q *queues) Depth(ctx context.Context, name string) (n int, err error) {
	err = q.chaos.through(ctx, ofQueue("depth", name, false), func() (err error) {
		n, err = q.port.Depth(ctx, name)
		return err
	})
	return n, err
}

// Blobs answers a store whose calls go wrong. Its points are blob.put, blob.get, blob.head, blob.delete, blob.presign_get and blob.presign_put.
func (c *Chaos) Blobs(s blob.Store) blob.Store { return &blobs{s, c} }

type blobs struct {
	port  blob.Store
	chaos *Chaos
}

func ofBlobs(method string, changes bool) point {
	return point{name: "blob." + method, unavailable: blob.ErrUnavailable, changes: changes}
}

var (
	blobPut        = ofBlobs("put", true)
	blobGet        = ofBlobs("get", false)
	blobHead       = ofBlobs("head", false)
	blobDelete     = ofBlobs("delete", true)
	blobPresignGet = ofBlobs("presign_get", false)
	blobPresignPut = ofBlobs("presign_put", false)
)

// Put implements blob.Store.
func (b *blobs) Put(ctx context.Context, key string, data []byte, opts blob.PutOptions) error {
	return b.chaos.through(ctx, blobPut, func() error { return b.port.Put(ctx, key, data, opts) })
}

// Get implements blob.Store.
func (b *blobs) Get(ctx context.Context, key string, limit int64) (data []byte, o blob.Object, err error) {
	err = b.chaos.through(ctx, blobGet, func() (err error) {
		data, o, err = b.port.Get(ctx, key, limit)
		return err
	})
	return data, o, err
}

// Head implements blob.Store.
func (b *blobs) Head(ctx context.Context, key string) (o blob.Object, err error) {
	err = b.chaos.through(ctx, blobHead, func() (err error) {
		o, err = b.port.Head(ctx, key)
		return err
	})
	return o, err
}

// Delete implements blob.Store.
func (b *blobs) Delete(ctx context.Context, key string) error {
	return b.chaos.through(ctx, blobDelete, func() error { return b.port.Delete(ctx, key) })
}

// PresignGet implements blob.Store.
func (b *blobs) PresignGet(ctx context.Context, key string, ttl time.Duration) (url string, err error) {
	err = b.chaos.through(ctx, blobPresignGet, func() (err error) {
		url, err = b.port.PresignGet(ctx, key, ttl)
		return err
	})
	return url, err
}

// PresignPut implements blob.Store.
func (b *blobs) PresignPut(ctx context.Context, key string, upload blob.Upload, ttl time.Duration) (signed blob.Signed, err error) {
	err = b.chaos.through(ctx, blobPresignPut, func() (err error) {
		signed, err = b.port.PresignPut(ctx, key, upload, ttl)
		return err
	})
	return signed, err
}

// Connections answers connections whose calls go wrong. Its points are push.post and push.drop.
func (c *Chaos) Connections(p push.Connections) push.Connections { return &connections{p, c} }

type connections struct {
	port  push.Connections
	chaos *Chaos
}

var (
	pushPost = point{name: "push.post", unavailable: push.ErrUnavailable, changes: true, repeats: true}
	pushDrop = point{name: "push.drop", unavailable: push.ErrUnavailable, changes: true}
)

// Post implements push.Connections.
func (p *connections) Post(ctx context.Context, connection string, frame []byte) error {
	return p.chaos.through(ctx, pushPost, func() error { return p.port.Post(ctx, connection, frame) })
}

// Drop implements push.Connections.
func (p *connections) Drop(ctx context.Context, connection string, why push.Reason) error {
	return p.chaos.through(ctx, pushDrop, func() error { return p.port.Drop(ctx, connection, why) })
}
