// Package mortal is for tests of what is left when something goes wrong in the middle: the ports of a process to which one thing happens, at a call that
// the test chooses. A test that chooses each in turn has seen every line at which a process can end. Chances are for package chaos.
package mortal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Fate is what happens.
type Fate string

// What may happen.
const (
	// Death has the call made and not answered, and none made that follows. DeathBefore has not even made that one.
	Death       Fate = "death"
	DeathBefore Fate = "death before"
	// Outage has the call made, and answered with its port's ErrUnavailable, as none of the others is. OutageBefore has it not made.
	Outage       Fate = "outage"
	OutageBefore Fate = "outage before"
	// Collision has a write of the table not made, since it met another one. Only writes of the table are counted.
	Collision Fate = "collision"
	// Echo has a write of the table made twice, as a client of a database does that has lost the answer; its caller hears how the second one went. Only
	// writes of the table are counted.
	Echo Fate = "echo"
)

// Fates are all of them.
var Fates = []Fate{DeathBefore, Death, OutageBefore, Outage, Collision, Echo}

// ErrDied is what a process would hear that is no more.
var ErrDied = errors.New("mortal: the process has died")

// Process has one fate. Its ports may be used by several goroutines at once.
type Process struct {
	fate Fate
	at   int

	mu    sync.Mutex
	calls int
}

// New makes a process that meets its fate at a call, of which the first is 1.
func New(fate Fate, at int) *Process { return &Process{fate: fate, at: at} }

// Met says that it came to that call.
func (p *Process) Met() bool { return p.Calls() >= p.at }

// Calls is how many were made, or would have been.
func (p *Process) Calls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// happens counts a call, and answers what becomes of it; "" is nothing out of the ordinary.
func (p *Process) happens(write bool) Fate {
	if !write && (p.fate == Collision || p.fate == Echo) {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	switch {
	case p.calls == p.at:
		return p.fate
	case p.calls > p.at && p.fate == Death:
		return DeathBefore
	case p.calls > p.at && p.fate == DeathBefore:
		return p.fate
	}
	return ""
}

// ask makes a call.
func ask[T any](p *Process, unavailable error, write bool, do func() (T, error)) (answer T, err error) {
	var nothing T
	switch p.happens(write) {
	case DeathBefore:
		return nothing, ErrDied
	case Death:
		_, _ = do()
		return nothing, ErrDied
	case OutageBefore:
		return nothing, fmt.Errorf("%w: the call is not made", unavailable)
	case Outage:
		_, _ = do()
		return nothing, fmt.Errorf("%w: the answer is lost", unavailable)
	case Collision:
		return nothing, store.ErrConflict
	case Echo:
		_, _ = do()
	}
	return do()
}

// tell makes a call that answers nothing.
func tell(p *Process, unavailable error, write bool, do func() error) error {
	_, err := ask(p, unavailable, write, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// Table answers the process's table.
func (p *Process) Table(t store.Table) store.Table { return table{t, p} }

type table struct {
	port store.Table
	*Process
}

// Get implements store.Table.
func (t table) Get(ctx context.Context, key store.Key) (store.Item, error) {
	return ask(t.Process, store.ErrUnavailable, false, func() (store.Item, error) { return t.port.Get(ctx, key) })
}

// BatchGet implements store.Table.
func (t table) BatchGet(ctx context.Context, keys []store.Key) ([]store.Item, error) {
	return ask(t.Process, store.ErrUnavailable, false, func() ([]store.Item, error) { return t.port.BatchGet(ctx, keys) })
}

// Query implements store.Table.
func (t table) Query(ctx context.Context, q store.Query) (store.Page, error) {
	return ask(t.Process, store.ErrUnavailable, false, func() (store.Page, error) { return t.port.Query(ctx, q) })
}

// Write implements store.Table.
func (t table) Write(ctx context.Context, ops ...store.Op) error {
	return tell(t.Process, store.ErrUnavailable, true, func() error { return t.port.Write(ctx, ops...) })
}

// Update implements store.Table.
func (t table) Update(ctx context.Context, op store.Op) (store.Item, error) {
	return ask(t.Process, store.ErrUnavailable, true, func() (store.Item, error) { return t.port.Update(ctx, op) })
}

// Blobs answers the process's objects.
func (p *Process) Blobs(b blob.Store) blob.Store { return blobs{b, p} }

type blobs struct {
	port blob.Store
	*Process
}

// Put implements blob.Store.
func (b blobs) Put(ctx context.Context, key string, data []byte, opts blob.PutOptions) error {
	return tell(b.Process, blob.ErrUnavailable, false, func() error { return b.port.Put(ctx, key, data, opts) })
}

// Get implements blob.Store.
func (b blobs) Get(ctx context.Context, key string, limit int64) (data []byte, about blob.Object, err error) {
	data, err = ask(b.Process, blob.ErrUnavailable, false, func() (data []byte, err error) {
		data, about, err = b.port.Get(ctx, key, limit)
		return data, err
	})
	return data, about, err
}

// Head implements blob.Store.
func (b blobs) Head(ctx context.Context, key string) (blob.Object, error) {
	return ask(b.Process, blob.ErrUnavailable, false, func() (blob.Object, error) { return b.port.Head(ctx, key) })
}

// Delete implements blob.Store.
func (b blobs) Delete(ctx context.Context, key string) error {
	return tell(b.Process, blob.ErrUnavailable, false, func() error { return b.port.Delete(ctx, key) })
}

// PresignGet implements blob.Store.
func (b blobs) PresignGet(ctx context.Context, key string, ttl time.Duration) (string, error) {
	return ask(b.Process, blob.ErrUnavailable, false, func() (string, error) { return b.port.PresignGet(ctx, key, ttl) })
}

// PresignPut implements blob.Store.
func (b blobs) PresignPut(ctx context.Context, key string, upload blob.Upload, ttl time.Duration) (blob.Signed, error) {
	return ask(b.Process, blob.ErrUnavailable, false, func() (blob.Signed, error) { return b.port.PresignPut(ctx, key, upload, ttl) })
}

// Queues answers the process's queues.
func (p *Process) Queues(q queue.Queues) queue.Queues { return queues{q, p} }

type queues struct {
	port queue.Queues
	*Process
}

// Ensure implements queue.Queues.
func (q queues) Ensure(ctx context.Context, defs ...queue.Def) error {
	return tell(q.Process, queue.ErrUnavailable, false, func() error { return q.port.Ensure(ctx, defs...) })
}

// Send implements queue.Queues.
func (q queues) Send(ctx context.Context, name string, msgs ...queue.Message) error {
	return tell(q.Process, queue.ErrUnavailable, false, func() error { return q.port.Send(ctx, name, msgs...) })
}

// Receive implements queue.Queues.
func (q queues) Receive(ctx context.Context, name string, most int, wait, visibility time.Duration) ([]queue.Received, error) {
	return ask(q.Process, queue.ErrUnavailable, false, func() ([]queue.Received, error) { return q.port.Receive(ctx, name, most, wait, visibility) })
}

// Delete implements queue.Queues.
func (q queues) Delete(ctx context.Context, name string, receipts ...string) error {
	return tell(q.Process, queue.ErrUnavailable, false, func() error { return q.port.Delete(ctx, name, receipts...) })
}

// Extend implements queue.Queues.
func (q queues) Extend(ctx context.Context, name, receipt string, d time.Duration) error {
	return tell(q.Process, queue.ErrUnavailable, false, func() error { return q.port.Extend(ctx, name, receipt, d) })
}

// Depth implements queue.Queues.
func (q queues) Depth(ctx context.Context, name string) (int, error) {
	return ask(q.Process, queue.ErrUnavailable, false, func() (int, error) { return q.port.Depth(ctx, name) })
}
