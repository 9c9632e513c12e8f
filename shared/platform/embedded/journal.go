package embedded

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/queue"
)

// journal is what the file does not know yet. Deletes go along with the next group, or soon in one of their own; how often a message was
// received, and that it moved to the dead-letter queue, is written only for messages that live on. Losing the journal in a crash means
// that messages come again. The mutex of Queues guards it.
type journal struct {
	w     *writer
	gone  []int64
	dirty map[int64]*message
	timer *time.Timer
	armed bool
	all   bool // write the dirty ones as well
}

// journalPause is how long a delete may be unwritten when nothing else is written.
const journalPause = 200 * time.Millisecond

func (j *journal) init(w *writer) {
	j.w = w
	j.dirty = map[int64]*message{}
	j.timer = time.AfterFunc(time.Hour, func() {
		// An error is one of the disk, which the next group reports, or the end, which writes everything.
		_ = j.w.do(context.Background(), func(t *txn) error {
			t.flush = true
			return nil
		})
	})
	j.timer.Stop()
}

func (j *journal) removed(m *message) {
	delete(j.dirty, m.id)
	j.gone = append(j.gone, m.id)
	j.arm()
}

func (j *journal) changed(m *message) {
	j.dirty[m.id] = m
	j.arm()
}

func (j *journal) arm() {
	if !j.armed && !j.all {
		j.armed = true
		j.timer.Reset(journalPause)
	}
}

// last has the writer's last group write everything.
func (j *journal) last() {
	j.all = true
	j.timer.Stop()
}

// row is how a message is written again.
type row struct {
	id       int64
	queue    string
	receives int
}

// take answers what the group now ending writes.
func (j *journal) take(flush bool) (gone []int64, changed []row) {
	gone, j.gone = j.gone, nil
	if flush || j.all {
		j.armed = false
		for _, m := range j.dirty {
			changed = append(changed, row{m.id, m.queue.def.Name, m.receives})
		}
		clear(j.dirty)
	}
	return gone, changed
}

// writeJournal runs at the end of every group. Should the group fail, messages may come again after a restart.
func (s *Queues) writeJournal(t *txn) error {
	s.mu.Lock()
	gone, changed := s.journal.take(t.flush)
	s.mu.Unlock()
	for _, id := range gone {
		if err := t.exec("DELETE FROM messages WHERE id = ?", id); err != nil {
			return err
		}
	}
	for _, r := range changed {
		if err := t.exec("UPDATE messages SET queue = ?, receives = ? WHERE id = ?", r.queue, int64(r.receives), r.id); err != nil {
			return err
		}
	}
	return nil
}

// load reads the queues and what they hold.
func (s *Queues) load(c *conn, now time.Time) error {
	err := c.rows("SELECT name, definition FROM queues", 2, func(row []driver.Value) error {
		text, err := textOf(row[1])
		if err != nil {
			return err
		}
		var def queue.Def
		if err := json.Unmarshal([]byte(text), &def); err != nil {
			return storageFailed(fmt.Errorf("queue %v: %w", row[0], err))
		}
		s.queues[def.Name] = newMemQueue(s, def)
		return nil
	})
	if err != nil {
		return err
	}
	err = c.rows("SELECT id, queue, body, grp, dedup, sent, due, receives FROM messages ORDER BY id", 8, func(row []driver.Value) error {
		return s.restore(row, now)
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		q.settle(now)
	}
	return nil
}

func (s *Queues) restore(row []driver.Value, now time.Time) error {
	var numbers [4]int64
	for i, column := range []int{0, 5, 6, 7} {
		n, ok := row[column].(int64)
		if !ok {
			return storageFailed(fmt.Errorf("message %v: column of type %T, want a number", row[0], row[column]))
		}
		numbers[i] = n
	}
	var texts [4]string
	for i := range texts {
		var err error
		if texts[i], err = textOf(row[i+1]); err != nil {
			return err
		}
	}
	q := s.queues[texts[0]]
	if q == nil {
		return storageFailed(fmt.Errorf("message %d is in queue %q, which does not exist", numbers[0], texts[0]))
	}
	m := &message{
		id: numbers[0], body: texts[1], group: texts[2], dedup: texts[3], sent: time.UnixMicro(numbers[1]), due: time.UnixMicro(numbers[2]),
		receives: int(numbers[3]),
	}
	s.lastID = max(s.lastID, m.id)
	if m.dedup != "" {
		q.dedup.add(m.dedup, m.sent)
	}
	q.add(m, now)
	return nil
}
