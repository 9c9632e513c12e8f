package embedded

import (
	"container/heap"
	"container/list"
	"fmt"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/queue"
)

// message is a message that was sent and not deleted.
type message struct {
	id                 int64
	queue              *memQueue
	body, group, dedup string
	sent               time.Time
	due                time.Time // hidden until then
	receives           int
	delivery           int64 // number of the newest delivery
	hidden             int   // position in the heap + 1; 0 is visible
	inFlight           bool  // received, and neither deleted nor visible again
	gone               bool
	age                *list.Element
}

// memQueue is one queue. Its methods are called under the mutex of Queues.
type memQueue struct {
	s      *Queues
	def    queue.Def
	byID   map[int64]*message
	hidden hiddenHeap
	ages   list.List // of *message, oldest first
	// visible are the messages of a standard queue that may be received, groups those of a FIFO queue.
	visible deque[*message]
	groups  groups
	dedup   dedup
	waiters list.List // of *waiter, longest first
	echoes  []echo
	timer   *time.Timer
	wakeAt  time.Time // when timer fires; zero when it does not
}

// waiter is a receive that waits.
type waiter struct {
	most       int
	visibility time.Duration
	got        []queue.Received
	served     chan struct{}
}

func (w *waiter) messages() []queue.Received {
	if w.got == nil {
		return []queue.Received{}
	}
	return w.got
}

func newMemQueue(s *Queues, def queue.Def) *memQueue {
	q := &memQueue{s: s, def: def, byID: map[int64]*message{}}
	q.groups.init()
	q.dedup.init()
	q.timer = time.AfterFunc(time.Hour, q.wake)
	q.timer.Stop()
	return q
}

// add takes a message in.
func (q *memQueue) add(m *message, now time.Time) {
	m.queue = q
	q.byID[m.id] = m
	m.age = q.ages.PushBack(m)
	if q.def.FIFO {
		q.groups.add(m)
		return
	}
	if m.due.After(now) {
		q.hide(m, m.due)
		return
	}
	q.visible.push(m)
}

// hide keeps a message from being received until due.
func (q *memQueue) hide(m *message, due time.Time) {
	m.due = due
	if m.hidden > 0 {
		heap.Fix(&q.hidden, m.hidden-1)
		return
	}
	heap.Push(&q.hidden, m)
}

// show makes a message visible again, or moves it to the dead-letter queue if it was received too often.
func (q *memQueue) show(m *message, now time.Time) {
	wasInFlight := m.inFlight
	if q.def.MaxReceives > 0 && m.receives >= q.def.MaxReceives {
		if dead := q.s.queues[q.def.DeadLetter]; dead != nil {
			q.remove(m)
			m.gone, m.receives, m.due = false, 0, now
			dead.add(m, now)
			q.s.journal.changed(m)
			dead.settle(now)
			return
		}
	}
	m.inFlight = false
	switch {
	case !q.def.FIFO:
		q.visible.push(m)
	case wasInFlight:
		q.groups.release(m)
	}
}

// remove takes a message out.
func (q *memQueue) remove(m *message) {
	if m.hidden > 0 {
		heap.Remove(&q.hidden, m.hidden-1)
	}
	if q.def.FIFO {
		q.groups.remove(m)
	}
	m.gone, m.inFlight = true, false
	delete(q.byID, m.id)
	q.ages.Remove(m.age)
}

// held answers the message that a receipt still stands for, or nil: after a newer delivery it does not, and on a FIFO queue not after the
// message has become visible again.
func (q *memQueue) held(receipt string) *message {
	id, delivery, ok := parseReceipt(receipt)
	m := q.byID[id]
	if !ok || m == nil || m.delivery != delivery || q.def.FIFO && !m.inFlight {
		return nil
	}
	return m
}

// settle brings the queue up to now: what is due becomes visible, what is too old goes, who waits is served.
func (q *memQueue) settle(now time.Time) {
	for len(q.hidden) > 0 && !q.hidden[0].due.After(now) {
		q.show(heap.Pop(&q.hidden).(*message), now)
	}
	for front := q.ages.Front(); front != nil; front = q.ages.Front() {
		m := front.Value.(*message)
		if m.sent.Add(q.def.Retention).After(now) {
			break
		}
		q.remove(m)
		q.s.journal.removed(m)
	}
	q.serve(now)
	q.arm(now)
}

func (q *memQueue) serve(now time.Time) {
	for front := q.waiters.Front(); front != nil; front = q.waiters.Front() {
		w := front.Value.(*waiter)
		if w.got = q.take(w.most, w.visibility, now); len(w.got) == 0 {
			return
		}
		q.waiters.Remove(front)
		close(w.served)
	}
}

// leave takes a waiter out, if it is still there.
func (q *memQueue) leave(w *waiter) {
	for e := q.waiters.Front(); e != nil; e = e.Next() {
		if e.Value == w {
			q.waiters.Remove(e)
			return
		}
	}
}

// take receives.
func (q *memQueue) take(most int, visibility time.Duration, now time.Time) []queue.Received {
	if visibility == 0 {
		visibility = q.def.Visibility
	}
	if q.s.unruly != nil {
		most = 1 + q.s.unruly.below(most)
	}
	var out []queue.Received
	if q.def.FIFO {
		for _, m := range q.groups.take(most) {
			out = append(out, q.deliver(m, now.Add(visibility)))
		}
		return out
	}
	out = q.takeEchoes(most, now)
	for len(out) < most && q.visible.len() > 0 {
		q.visible.swap(q.s.unruly.below(q.visible.len()))
		if m := q.visible.pop(); !m.gone && m.queue == q {
			out = append(out, q.deliver(m, now.Add(visibility)))
			q.echo(m, out[len(out)-1], now)
		}
	}
	return out
}

func (q *memQueue) deliver(m *message, until time.Time) queue.Received {
	q.s.deliveries++
	m.delivery = q.s.deliveries
	m.receives++
	m.inFlight = true
	q.hide(m, until)
	q.s.journal.changed(m)
	return queue.Received{
		ID: fmt.Sprintf("%016x", m.id), Body: m.body, Receipt: receipt(m), Group: m.group, Receives: m.receives, SentAt: m.sent,
	}
}

// wake is the timer's.
func (q *memQueue) wake() {
	q.s.mu.Lock()
	defer q.s.mu.Unlock()
	select {
	case <-q.s.closed:
		return
	default:
	}
	q.wakeAt = time.Time{}
	q.settle(time.Now())
}

// arm has the timer fire when something happens next by itself.
func (q *memQueue) arm(now time.Time) {
	var next time.Time
	sooner := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	if len(q.hidden) > 0 {
		sooner(q.hidden[0].due)
	}
	if front := q.ages.Front(); front != nil {
		sooner(front.Value.(*message).sent.Add(q.def.Retention))
	}
	if len(q.echoes) > 0 && q.echoes[0].due.After(now) {
		sooner(q.echoes[0].due)
	}
	if next.IsZero() || next.Equal(q.wakeAt) {
		return // a timer that fires for nothing finds nothing to do
	}
	q.wakeAt = next
	q.timer.Reset(next.Sub(now))
}

// echo is a second delivery of a message, as a standard queue may make.
type echo struct {
	m   *message
	r   queue.Received
	due time.Time
}

// echo has a message come twice, now and then.
func (q *memQueue) echo(m *message, r queue.Received, now time.Time) {
	if !q.s.unruly.oneIn(echoesIn) {
		return
	}
	due := now.Add(time.Duration(q.s.unruly.below(int(maxLag))))
	if n := len(q.echoes); n > 0 && due.Before(q.echoes[n-1].due) {
		due = q.echoes[n-1].due
	}
	q.echoes = append(q.echoes, echo{m, r, due})
}

// takeEchoes delivers second copies, also of what was deleted meanwhile, but not of what has been delivered anew.
func (q *memQueue) takeEchoes(most int, now time.Time) []queue.Received {
	var out []queue.Received
	for len(out) < most && len(q.echoes) > 0 && !q.echoes[0].due.After(now) {
		if e := q.echoes[0]; receipt(e.m) == e.r.Receipt {
			out = append(out, e.r)
		}
		q.echoes = q.echoes[1:]
	}
	return out
}

// hiddenHeap has the message on top that becomes visible first; equal ones in the order in which they were sent.
type hiddenHeap []*message

func (h *hiddenHeap) Len() int { return len(*h) }

func (h *hiddenHeap) Less(i, j int) bool {
	a, b := (*h)[i], (*h)[j]
	if a.due.Equal(b.due) {
		return a.id < b.id
	}
	return a.due.Before(b.due)
}

func (h *hiddenHeap) Swap(i, j int) {
	a, b := (*h)[i], (*h)[j]
	(*h)[i], (*h)[j] = b, a
	a.hidden, b.hidden = j+1, i+1
}

func (h *hiddenHeap) Push(x any) {
	m := x.(*message)
	*h = append(*h, m)
	m.hidden = len(*h)
}

func (h *hiddenHeap) Pop() any {
	last := len(*h) - 1
	m := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	m.hidden = 0
	return m
}

// deque is a queue in a slice.
type deque[T any] struct {
	items []T
	head  int
}

func (d *deque[T]) len() int { return len(d.items) - d.head }

func (d *deque[T]) push(x T) { d.items = append(d.items, x) }

// first is only for a deque that is not empty.
func (d *deque[T]) first() T { return d.items[d.head] }

// swap exchanges the first with the n-th.
func (d *deque[T]) swap(n int) {
	d.items[d.head], d.items[d.head+n] = d.items[d.head+n], d.items[d.head]
}

func (d *deque[T]) pop() T {
	var none T
	x := d.items[d.head]
	d.items[d.head] = none
	d.head++
	if d.head*2 > len(d.items) {
		n := copy(d.items, d.items[d.head:])
		clear(d.items[n:])
		d.items, d.head = d.items[:n], 0
	}
	return x
}
