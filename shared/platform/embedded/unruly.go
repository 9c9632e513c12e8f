package embedded

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// unruly makes use of the freedom that AWS has, by a seed. A nil *unruly behaves.
type unruly struct {
	mu  sync.Mutex
	rnd *rand.Rand
}

func newUnruly(seed uint64) *unruly {
	if seed == 0 {
		return nil
	}
	return &unruly{rnd: rand.New(rand.NewPCG(seed, 0))}
}

// oneIn answers true once in n times.
func (u *unruly) oneIn(n int) bool { return u != nil && u.below(n) == 0 }

// below answers a number from 0 to n-1; 0 when behaving.
func (u *unruly) below(n int) int {
	if u == nil {
		return 0
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.rnd.IntN(n)
}

// How often what happens.
const (
	conflictsIn     = 20  // transactions
	lonelyConflict  = 100 // single writes, which collide with somebody else's transaction
	shortPagesIn    = 3
	emptyReceivesIn = 5
	echoesIn        = 8
)

// maxLag is how far an index is behind at most, and how late the second copy of a message comes.
const maxLag = 30 * time.Millisecond

func (u *unruly) conflict(transaction bool) error {
	n := lonelyConflict
	if transaction {
		n = conflictsIn
	}
	if u.oneIn(n) {
		return store.ErrConflict
	}
	return nil
}

// pageLimit shortens a page.
func (u *unruly) pageLimit(limit int) int {
	if !u.oneIn(shortPagesIn) {
		return limit
	}
	if limit == 0 {
		limit = 20
	}
	return 1 + u.below(limit)
}

// lag holds index entries back. It keeps their order, and moves what has waited long enough into a group of its own.
type lag struct {
	w       *writer
	u       *unruly
	mu      sync.Mutex
	waiting []lateEntry
	timer   *time.Timer
}

type lateEntry struct {
	entryChange

	due time.Time
}

func newLag(w *writer, u *unruly) *lag {
	l := &lag{w: w, u: u}
	l.timer = time.AfterFunc(time.Hour, l.move)
	l.timer.Stop()
	return l
}

// add has an entry follow its item once the group is committed.
func (l *lag) add(t *txn, c entryChange) {
	t.onCommit(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		due := time.Now().Add(time.Duration(l.u.below(int(maxLag))))
		if n := len(l.waiting); n > 0 && due.Before(l.waiting[n-1].due) {
			due = l.waiting[n-1].due
		}
		l.waiting = append(l.waiting, lateEntry{c, due})
		if len(l.waiting) == 1 {
			l.timer.Reset(time.Until(due))
		}
	})
}

// take answers the entries that are due by now.
func (l *lag) take(now time.Time) []lateEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for n < len(l.waiting) && !l.waiting[n].due.After(now) {
		n++
	}
	due := l.waiting[:n:n]
	if l.waiting = l.waiting[n:]; len(l.waiting) > 0 {
		l.timer.Reset(time.Until(l.waiting[0].due))
	}
	return due
}

func (l *lag) move() { l.moveUntil(time.Now()) }

// moveUntil writes what is due. That the platform is closed meanwhile is no harm: closing writes the rest.
func (l *lag) moveUntil(now time.Time) {
	_ = l.w.do(context.Background(), func(t *txn) error {
		for _, e := range l.take(now) {
			if err := t.moveEntry(e.entryChange); err != nil {
				return err
			}
		}
		return nil
	})
}

// close writes what is still waiting.
func (l *lag) close() {
	if l == nil {
		return
	}
	l.timer.Stop()
	l.moveUntil(time.Now().Add(maxLag))
}
