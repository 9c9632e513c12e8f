// Package sim runs the whole plane, several processes of it, in virtual time on the in-memory adapters, and draws everything that happens from
// one list of numbers: what clients, workers and operators do, which call to a port comes next, which fails, which process dies between
// two steps, how far the clocks go. The same list gives the same run.
package sim

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/push"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// verdict is what becomes of a call to a port.
type verdict int

const (
	pass      verdict = iota
	refuse            // the call is not made, and fails
	cruel             // the call is made, and fails all the same
	duplicate         // what is sent is sent twice
)

// errCrashed is what the calls of a process answer that has died: it does not matter any more.
var errCrashed = errors.New("sim: the process has died")

// gate holds every call to a port until the driver lets it go on, one at a time.
type gate struct {
	mu     sync.Mutex
	parked []*call
	order  int
}

// call is a parked call.
type call struct {
	proc *process
	what string
	n    int // of equal calls, the order of their coming
	// verdict comes when the call may go on.
	verdict chan verdict
}

func (c *call) key() string { return c.proc.name + " " + c.what }

// process is one process of the plane. When it dies, another one takes its place.
type process struct {
	name string
	gate *gate
	skew *skew
	mu   sync.Mutex
	dead bool
	// died is closed when the process dies.
	died chan struct{}
	// random is where the process has its ids from.
	random *random
}

// random is a source of random bytes for goroutines that may draw at once: when a process dies, all that it was doing ends together.
type random struct {
	mu   sync.Mutex
	from *rand.ChaCha8
}

func (r *random) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.from.Read(b)
}

func newProcess(g *gate, name string, s *skew) *process {
	return &process{name: name, gate: g, skew: s, died: make(chan struct{}), random: &random{from: rand.NewChaCha8(sha256.Sum256([]byte(name)))}}
}

// yield parks a goroutine that begins, or goes on after another one.
func (p *process) yield(ctx context.Context, what string) {
	_, _ = p.enter(ctx, what) // whatever was drawn, it goes on
}

func (p *process) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// enter parks the caller until the driver decides.
func (p *process) enter(ctx context.Context, what string) (verdict, error) {
	if p.isDead() {
		return refuse, errCrashed
	}
	p.gate.mu.Lock()
	p.gate.order++
	c := &call{proc: p, what: what, n: p.gate.order, verdict: make(chan verdict, 1)}
	p.gate.parked = append(p.gate.parked, c)
	p.gate.mu.Unlock()
	select {
	case v := <-c.verdict:
		return v, nil
	case <-p.died:
		p.gate.remove(c)
		return refuse, errCrashed
	case <-ctx.Done():
		p.gate.remove(c)
		return refuse, ctx.Err()
	}
}

func (g *gate) remove(c *call) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.parked = slices.DeleteFunc(g.parked, func(o *call) bool { return o == c })
}

// waiting lists the parked calls in an order that does not depend on the scheduler of goroutines.
func (g *gate) waiting() []*call {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := slices.Clone(g.parked)
	slices.SortStableFunc(all, func(a, b *call) int { return cmp.Or(strings.Compare(a.key(), b.key()), cmp.Compare(a.n, b.n)) })
	return all
}

func (g *gate) release(c *call, v verdict) {
	g.remove(c)
	c.verdict <- v
}

// skew is the clock of a process: the bubble's, some time off.
type skew struct {
	mu  sync.Mutex
	off time.Duration
}

func (s *skew) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.off)
}

func (s *skew) jump(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = d
}

// made runs a call that changes something.
func made[T any](ctx context.Context, p *process, what string, unavailable error, do func(again bool) (T, error)) (T, error) {
	var none T
	v, err := p.enter(ctx, what)
	if err != nil {
		return none, err
	}
	switch v {
	case refuse:
		return none, unavailable
	case cruel:
		if _, err := do(false); err != nil {
			return none, err
		}
		return none, fmt.Errorf("%w: the answer is lost", unavailable)
	case duplicate:
		if _, err := do(true); err != nil {
			return none, err
		}
	}
	return do(false)
}

// table is the store port of a process.
type table struct {
	store.Table
	p *process
	w *world
}

func keysOf(ops []store.Op) string {
	var b strings.Builder
	for _, op := range ops {
		fmt.Fprintf(&b, " %d:%s", op.Kind, op.Key)
	}
	return b.String()
}

func (t table) Get(ctx context.Context, key store.Key) (store.Item, error) {
	if v, err := t.p.enter(ctx, "table.get "+key.String()); err != nil || v == refuse || v == cruel {
		return store.Item{}, cmp.Or(err, store.ErrUnavailable)
	}
	return t.Table.Get(ctx, key)
}

func (t table) BatchGet(ctx context.Context, keys []store.Key) ([]store.Item, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	if v, err := t.p.enter(ctx, fmt.Sprint("table.batch ", keys)); err != nil || v == refuse || v == cruel {
		return nil, cmp.Or(err, store.ErrUnavailable)
	}
	return t.Table.BatchGet(ctx, keys)
}

func (t table) Query(ctx context.Context, q store.Query) (store.Page, error) {
	if v, err := t.p.enter(ctx, fmt.Sprint("table.query ", q.Index, q.PK, q.Prefix)); err != nil || v == refuse || v == cruel {
		return store.Page{}, cmp.Or(err, store.ErrUnavailable)
	}
	return t.Table.Query(ctx, q)
}

func (t table) Write(ctx context.Context, ops ...store.Op) error {
	ops = t.w.weak.apply(ops)
	_, err := made(ctx, t.p, "table.write"+keysOf(ops), store.ErrUnavailable, func(again bool) (struct{}, error) {
		if again {
			return struct{}{}, nil
		}
		err := t.Table.Write(ctx, ops...)
		if err == nil {
			t.w.wrote(t.p, ops)
		}
		return struct{}{}, err
	})
	return err
}

func (t table) Update(ctx context.Context, op store.Op) (store.Item, error) {
	op = t.w.weak.apply([]store.Op{op})[0]
	return made(ctx, t.p, "table.update"+keysOf([]store.Op{op}), store.ErrUnavailable, func(again bool) (store.Item, error) {
		if again {
			return store.Item{}, nil
		}
		it, err := t.Table.Update(ctx, op)
		if err == nil {
			t.w.wrote(t.p, []store.Op{op})
		}
		return it, err
	})
}

// queues is the queue port of a process.
type queues struct {
	queue.Queues
	p *process
	w *world
}

func (q queues) Send(ctx context.Context, name string, msgs ...queue.Message) error {
	bodies := make([]string, len(msgs))
	for i, m := range msgs {
		bodies[i] = m.Body
	}
	_, err := made(ctx, q.p, "queue.send "+name+" "+strings.Join(bodies, ","), queue.ErrUnavailable, func(bool) (struct{}, error) {
		return struct{}{}, q.Queues.Send(ctx, name, msgs...)
	})
	return err
}

func (q queues) Receive(ctx context.Context, name string, most int, wait, visibility time.Duration) ([]queue.Received, error) {
	if v, err := q.p.enter(ctx, "queue.receive "+name); err != nil || v == refuse {
		return nil, cmp.Or(err, queue.ErrUnavailable)
	}
	got, err := q.Queues.Receive(ctx, name, most, wait, visibility)
	if len(got) > 0 {
		q.w.got(got)
		for _, m := range got {
			q.w.begin(q.p, m.Body)
		}
		q.p.yield(ctx, "queue.received "+name) // it may have waited, and who sent or gave back goes on too
	}
	return got, err
}

// got notes which messages receipts are of: receipts are random.
func (w *world) got(msgs []queue.Received) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range msgs {
		w.received[m.Receipt] = m.Body
	}
}

// body says what message a receipt is of.
func (q queues) body(receipt string) string {
	q.w.mu.Lock()
	defer q.w.mu.Unlock()
	return q.w.received[receipt]
}

func (q queues) Delete(ctx context.Context, name string, receipts ...string) error {
	what := []string{"queue.delete", name}
	for _, r := range receipts {
		what = append(what, q.body(r))
	}
	_, err := made(ctx, q.p, strings.Join(what, " "), queue.ErrUnavailable, func(bool) (struct{}, error) {
		return struct{}{}, q.Queues.Delete(ctx, name, receipts...)
	})
	return err
}

func (q queues) Extend(ctx context.Context, name, receipt string, d time.Duration) error {
	_, err := made(ctx, q.p, "queue.extend "+name+" "+q.body(receipt), queue.ErrUnavailable, func(bool) (struct{}, error) {
		return struct{}{}, q.Queues.Extend(ctx, name, receipt, d)
	})
	return err
}

// blobs is the blob port of a process.
type blobs struct {
	blob.Store
	p *process
}

func (b blobs) Put(ctx context.Context, key string, data []byte, o blob.PutOptions) error {
	_, err := made(ctx, b.p, "blob.put "+key, blob.ErrUnavailable, func(bool) (struct{}, error) {
		return struct{}{}, b.Store.Put(ctx, key, data, o)
	})
	return err
}

// connections is the push port of a process. Posts do not park: a broadcast makes several at once, and their order means nothing.
type connections struct {
	push.Connections
	p *process
}

func (c connections) Post(ctx context.Context, id string, frame []byte) error {
	if c.p.isDead() {
		return errCrashed
	}
	return c.Connections.Post(ctx, id, frame)
}
