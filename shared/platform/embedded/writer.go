package embedded

import (
	"context"
	"errors"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// writer is the one goroutine that writes. It commits all that is waiting as one SQLite transaction (group commit): the price of a commit is
// shared, and there is never a second writer to wait for.
type writer struct {
	db       *database
	requests chan *request
	closed   chan struct{} // no more requests
	gone     chan struct{} // run has returned
	// idle runs at the end of every transaction, inside it: what may be written late goes along with what must be written now.
	idle func(*txn) error
}

// maxGroup bounds how long the first of a group waits for the last.
const maxGroup = 256

// request is one caller's part of a group.
type request struct {
	apply func(*txn) error
	err   error
	done  chan struct{}
}

// txn is a group under way.
type txn struct {
	*conn
	// images are the items that this group has read or written, by key; nil is absent.
	images map[store.Key]*image
	after  []func()
	// sent are the deduplication ids of this group.
	sent map[dedupKey]bool
	// flush has the journal of the queues written as a whole.
	flush bool
}

// onCommit has f called once the group is durable, in the order of the group.
func (t *txn) onCommit(f func()) { t.after = append(t.after, f) }

func newWriter(db *database) *writer {
	return &writer{
		db: db, requests: make(chan *request, maxGroup), closed: make(chan struct{}), gone: make(chan struct{}),
		idle: func(*txn) error { return nil },
	}
}

// start begins to write.
func (w *writer) start() { go w.run() }

// do has apply run in the next group and waits until the group is durable. apply evaluates before it writes: an error of its own leaves
// nothing behind and concerns nobody else. A *storageError fails the whole group. Once handed over, a request is waited for whatever
// becomes of ctx: a group takes a millisecond, and so the outcome is always known.
func (w *writer) do(ctx context.Context, apply func(*txn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &request{apply: apply, done: make(chan struct{})}
	select {
	case w.requests <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.closed:
		return errClosed
	}
	select {
	case <-r.done:
		return r.err
	case <-w.gone: // handed over while the writer ended; whether it was served is known by now
		select {
		case <-r.done:
			return r.err
		default:
			return errClosed
		}
	}
}

func (w *writer) run() {
	defer close(w.gone)
	group := make([]*request, 0, maxGroup)
	for {
		select {
		case r := <-w.requests:
			group = append(group[:0], r)
		case <-w.closed:
			w.finish(group[:0])
			return
		}
		w.commit(w.gather(group))
	}
}

// gather adds what is waiting.
func (w *writer) gather(group []*request) []*request {
	for len(group) < maxGroup {
		select {
		case r := <-w.requests:
			group = append(group, r)
		default:
			return group
		}
	}
	return group
}

// finish commits what came before close, and what may be written late.
func (w *writer) finish(group []*request) {
	for group = w.gather(group); ; group = w.gather(group[:0]) {
		w.commit(group)
		if len(group) == 0 {
			return
		}
	}
}

func (w *writer) commit(group []*request) {
	t := &txn{images: make(map[store.Key]*image, len(group))}
	err := w.db.write(func(c *conn) error {
		t.conn = c
		return w.transact(t, group)
	})
	if err == nil {
		for _, f := range t.after {
			f()
		}
	}
	for _, r := range group {
		if err != nil {
			r.err = err
		}
		close(r.done)
	}
}

func (w *writer) transact(t *txn, group []*request) error {
	if err := t.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	for _, r := range group {
		if r.err = r.apply(t); isStorage(r.err) {
			return errors.Join(r.err, t.exec("ROLLBACK"))
		}
	}
	if err := w.idle(t); err != nil {
		return errors.Join(err, t.exec("ROLLBACK"))
	}
	if err := t.exec("COMMIT"); err != nil {
		return errors.Join(err, t.exec("ROLLBACK"))
	}
	return nil
}

// close ends the writer once everything that waits is committed.
func (w *writer) close() {
	close(w.closed)
	<-w.gone
}
