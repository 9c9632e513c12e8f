package embedded

import (
	"slices"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/queue"
)

// groups are the messages of a FIFO queue. While messages of a group are in flight, the rest of the group waits.
type groups struct {
	byName map[string]*group
	// free are the groups with messages and none in flight, in the order in which they became so.
	free deque[*group]
}

type group struct {
	name     string
	messages []*message // in the order in which they were sent, those in flight included
	inFlight int
	queued   bool // in free
}

func (g *groups) init() { g.byName = map[string]*group{} }

func (g *groups) add(m *message) {
	one := g.byName[m.group]
	if one == nil {
		one = &group{name: m.group}
		g.byName[m.group] = one
	}
	one.messages = append(one.messages, m)
	g.offer(one)
}

// offer makes a group receivable if it is.
func (g *groups) offer(one *group) {
	if one.inFlight == 0 && len(one.messages) > 0 && !one.queued {
		one.queued = true
		g.free.push(one)
	}
}

// take answers messages that may be delivered now, in order within each group; they are in flight from now on.
func (g *groups) take(most int) []*message {
	var out []*message
	for len(out) < most && g.free.len() > 0 {
		one := g.free.pop()
		one.queued = false
		if len(one.messages) == 0 {
			delete(g.byName, one.name)
			continue
		}
		n := min(most-len(out), len(one.messages))
		out = append(out, one.messages[:n]...)
		one.inFlight = n
	}
	return out
}

// release gives a message in flight back to its place.
func (g *groups) release(m *message) {
	one := g.byName[m.group]
	one.inFlight--
	g.offer(one)
}

func (g *groups) remove(m *message) {
	one := g.byName[m.group]
	if i := slices.Index(one.messages, m); i == 0 {
		one.messages = one.messages[1:] // keeps the rest where it is
	} else {
		one.messages = slices.Delete(one.messages, i, i+1)
	}
	if m.inFlight {
		one.inFlight--
	}
	if len(one.messages) == 0 && !one.queued {
		delete(g.byName, m.group)
		return
	}
	g.offer(one)
}

// dedup remembers the deduplication ids of a FIFO queue for as long as they count.
type dedup struct {
	at    map[string]time.Time
	order deque[string]
}

// dedupKey is an id that a group under way has sent.
type dedupKey struct {
	queue *memQueue
	id    string
}

func (d *dedup) init() { d.at = map[string]time.Time{} }

func (d *dedup) has(id string, now time.Time) bool {
	at, known := d.at[id]
	return known && now.Sub(at) < queue.DedupWindow
}

func (d *dedup) add(id string, now time.Time) {
	for d.order.len() > 0 && !d.has(d.order.first(), now) {
		delete(d.at, d.order.pop())
	}
	d.at[id] = now
	d.order.push(id)
}
