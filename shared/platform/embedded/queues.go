package embedded

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/queue"
)

// Queues are the queues of the platform. Memory is the truth for who may receive what and when, so that a waiting receiver has a message
// within microseconds of its commit; SQLite keeps what was sent. After a crash everything that was not deleted is there again, and what was
// in somebody's hands is delivered once more.
//
// One mutex guards all queues: what happens under it takes a microsecond, and a message may move from one queue to another.
type Queues struct {
	w      *writer
	unruly *unruly

	mu         sync.Mutex
	queues     map[string]*memQueue
	lastID     int64
	deliveries int64
	journal    journal
	closed     chan struct{}
}

const insertMessage = "INSERT INTO messages (id, queue, body, grp, dedup, sent, due, receives) VALUES (?, ?, ?, ?, ?, ?, ?, 0)"

func newQueues(db *database, w *writer, u *unruly) (*Queues, error) {
	now := time.Now()
	// Ids and receipts go on from the time of day, so that those of an earlier process never mean something else.
	s := &Queues{
		w: w, unruly: u, queues: map[string]*memQueue{}, lastID: now.UnixMicro(), deliveries: now.UnixMicro(), closed: make(chan struct{}),
	}
	s.journal.init(w)
	w.idle = s.writeJournal
	if err := db.write(func(c *conn) error { return s.load(c, now) }); err != nil {
		return nil, err
	}
	return s, nil
}

func unavailable(err error) error {
	if isStorage(err) {
		return fmt.Errorf("%w: %w", queue.ErrUnavailable, err)
	}
	return err
}

// find answers a queue. The caller holds s.mu.
func (s *Queues) find(ctx context.Context, name string) (*memQueue, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case <-s.closed:
		return nil, unavailable(errClosed)
	default:
	}
	q := s.queues[name]
	if q == nil {
		return nil, fmt.Errorf("%w: %s", queue.ErrUnknownQueue, name)
	}
	return q, nil
}

// Ensure implements queue.Queues.
func (s *Queues) Ensure(ctx context.Context, defs ...queue.Def) error {
	known := map[string]bool{}
	var missing []queue.Def
	for _, def := range defs {
		if err := def.Check(); err != nil {
			return err
		}
		s.mu.Lock()
		there := s.queues[def.Name] != nil
		if def.DeadLetter != "" && !known[def.DeadLetter] && s.queues[def.DeadLetter] == nil {
			s.mu.Unlock()
			return fmt.Errorf("%w: queue %s: there is no dead-letter queue %s", queue.ErrInvalid, def.Name, def.DeadLetter)
		}
		s.mu.Unlock()
		if !there && !known[def.Name] {
			missing = append(missing, def)
		}
		known[def.Name] = true
	}
	return unavailable(s.w.do(ctx, func(t *txn) error { return s.create(t, missing) }))
}

func (s *Queues) create(t *txn, defs []queue.Def) error {
	for _, def := range defs {
		raw, err := json.Marshal(def)
		if err != nil {
			return err
		}
		if err := t.exec("INSERT OR IGNORE INTO queues (name, definition) VALUES (?, ?)", def.Name, string(raw)); err != nil {
			return err
		}
	}
	t.onCommit(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, def := range defs {
			if s.queues[def.Name] == nil {
				s.queues[def.Name] = newMemQueue(s, def)
			}
		}
	})
	return nil
}

// Send implements queue.Queues. All messages are committed together; there is no PartialError.
func (s *Queues) Send(ctx context.Context, name string, msgs ...queue.Message) error {
	for i, m := range msgs {
		if err := m.Check(name); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
	}
	s.mu.Lock()
	q, err := s.find(ctx, name)
	s.mu.Unlock()
	if err != nil || len(msgs) == 0 {
		return err
	}
	return unavailable(s.w.do(ctx, func(t *txn) error { return s.send(t, q, msgs) }))
}

func (s *Queues) send(t *txn, q *memQueue, msgs []queue.Message) error {
	now := time.Now()
	sent := make([]*message, 0, len(msgs))
	for _, in := range msgs {
		s.mu.Lock()
		known := in.Dedup != "" && (q.dedup.has(in.Dedup, now) || t.sent[dedupKey{q, in.Dedup}])
		if !known {
			s.lastID++
		}
		m := &message{id: s.lastID, queue: q, body: in.Body, group: in.Group, dedup: in.Dedup, sent: now, due: now.Add(in.Delay)}
		s.mu.Unlock()
		if known {
			continue
		}
		if in.Dedup != "" {
			if t.sent == nil {
				t.sent = map[dedupKey]bool{}
			}
			t.sent[dedupKey{q, in.Dedup}] = true
		}
		err := t.exec(insertMessage, m.id, q.def.Name, m.body, m.group, m.dedup, m.sent.UnixMicro(), m.due.UnixMicro())
		if err != nil {
			return err
		}
		sent = append(sent, m)
	}
	t.onCommit(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, m := range sent {
			if m.dedup != "" {
				q.dedup.add(m.dedup, now)
			}
			q.add(m, now)
		}
		q.settle(now)
	})
	return nil
}

// Receive implements queue.Queues.
func (s *Queues) Receive(ctx context.Context, name string, most int, wait, visibility time.Duration) ([]queue.Received, error) {
	if err := queue.CheckReceive(most, wait, visibility); err != nil {
		return nil, err
	}
	s.mu.Lock()
	q, err := s.find(ctx, name)
	if err != nil || s.unruly.oneIn(emptyReceivesIn) {
		s.mu.Unlock()
		return []queue.Received{}, err
	}
	w := &waiter{most: most, visibility: visibility, served: make(chan struct{})}
	q.waiters.PushBack(w)
	q.settle(time.Now())
	if len(w.got) > 0 || wait == 0 {
		q.leave(w)
		s.mu.Unlock()
		return w.messages(), nil
	}
	s.mu.Unlock()
	return s.wait(ctx, q, w, wait)
}

func (s *Queues) wait(ctx context.Context, q *memQueue, w *waiter, d time.Duration) ([]queue.Received, error) {
	timeout := time.NewTimer(d)
	defer timeout.Stop()
	var err error
	select {
	case <-w.served:
		return w.messages(), nil
	case <-timeout.C:
	case <-ctx.Done():
		err = ctx.Err()
	case <-s.closed:
		err = unavailable(errClosed)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q.leave(w)
	if len(w.got) > 0 { // served at the last moment
		return w.messages(), nil
	}
	return w.messages(), err
}

// Delete implements queue.Queues.
func (s *Queues) Delete(ctx context.Context, name string, receipts ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(ctx, name)
	if err != nil {
		return err
	}
	if slices.Contains(receipts, "") {
		return fmt.Errorf("%w: empty receipt", queue.ErrInvalid)
	}
	for _, r := range receipts {
		if m := q.held(r); m != nil {
			q.remove(m)
			s.journal.removed(m)
		}
	}
	q.settle(time.Now())
	return nil
}

// Extend implements queue.Queues.
func (s *Queues) Extend(ctx context.Context, name, receipt string, d time.Duration) error {
	if err := queue.CheckVisibility(d); err != nil {
		return err
	}
	if receipt == "" {
		return fmt.Errorf("%w: empty receipt", queue.ErrInvalid)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(ctx, name)
	if err != nil {
		return err
	}
	if m := q.held(receipt); m != nil && m.inFlight {
		now := time.Now()
		q.hide(m, now.Add(d))
		q.settle(now)
	}
	return nil
}

// Depth implements queue.Queues.
func (s *Queues) Depth(ctx context.Context, name string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(ctx, name)
	if err != nil {
		return 0, err
	}
	q.settle(time.Now())
	return q.ages.Len(), nil
}

// close ends waiting receives and timers. The writer, which ends afterwards, writes the rest of the journal.
func (s *Queues) close() {
	close(s.closed)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal.last()
	for _, q := range s.queues {
		q.timer.Stop()
	}
}

// receipt names a delivery: the message and the how-manieth delivery of this process it was.
func receipt(m *message) string {
	return strconv.FormatInt(m.id, 36) + "." + strconv.FormatInt(m.delivery, 36)
}

func parseReceipt(r string) (id, delivery int64, ok bool) {
	left, right, _ := strings.Cut(r, ".")
	id, err := strconv.ParseInt(left, 36, 64)
	if err != nil {
		return 0, 0, false
	}
	delivery, err = strconv.ParseInt(right, 36, 64)
	return id, delivery, err == nil
}
