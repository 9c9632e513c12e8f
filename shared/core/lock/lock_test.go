package lock_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/lock"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// do does what a line says at a second after noon: "0 acquire a shared 60".
func do(t *testing.T, l lock.Lock, line string) (lock.Lock, time.Time, error) {
	t.Helper()
	var at, ttl int
	var what, owner, mode string
	if _, err := fmt.Sscan(line, &at, &what, &owner, &mode, &ttl); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	now := noon.Add(time.Duration(at) * time.Second)
	var err error
	switch what {
	case "acquire":
		l, err = l.Acquire(owner, mode, time.Duration(ttl)*time.Second, now)
	case "renew":
		l, err = l.Renew(owner, time.Duration(ttl)*time.Second, now)
	case "release":
		l, err = l.Release(owner, now)
	}
	return l, now, err
}

// show writes a lock: until which second after noon it lasts, and when its tenure began; its token is as many microseconds later as it must be to grow.
func show(l lock.Lock, now time.Time) string {
	if !l.Held(now) {
		return "free"
	}
	var who []string
	for _, o := range slices.Sorted(maps.Keys(l.Owners)) {
		who = append(who, fmt.Sprint(o, l.Owners[o]))
	}
	token := l.Token - noon.UnixMicro()
	return fmt.Sprintf("%s %s until %v, token %d.%d", l.Mode, strings.Join(who, " "), l.ExpiresAt.Sub(noon).Seconds(), token/1e6, token%1e6)
}

// The table of core.md 6, with what it recommends.
func TestTableOfStates(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		want  string // what the last line leaves, or its refusal
	}{
		{"free, exclusive", []string{"0 acquire a exclusive 30"}, "exclusive a1 until 30, token 0.0"},
		{"free, shared", []string{"0 acquire a shared 30"}, "shared a1 until 30, token 0.0"},
		{"free, another word", []string{"0 acquire a write 30"}, "exclusive a1 until 30, token 0.0"},
		{"free, no time", []string{"0 acquire a exclusive 0"}, "exclusive a1 until 30, token 0.0"},
		{"free, negative time", []string{"0 acquire a exclusive -9"}, "exclusive a1 until 30, token 0.0"},
		{"free, more than a day", []string{"0 acquire a exclusive 86401"}, "exclusive a1 until 86400, token 0.0"},
		{"exclusive by self, exclusive", []string{"0 acquire a exclusive 30", "5 acquire a exclusive 10"}, "exclusive a2 until 15, token 0.0"},
		{"exclusive by self, shared", []string{"0 acquire a exclusive 30", "5 acquire a shared 10"}, "exclusive a2 until 15, token 0.0"},
		{"exclusive by another, exclusive", []string{"0 acquire a exclusive 30", "5 acquire b exclusive 10"}, "lock unavailable"},
		{"exclusive by another, shared", []string{"0 acquire a exclusive 30", "5 acquire b shared 10"}, "lock unavailable"},
		{"exclusive by another until now", []string{"0 acquire a exclusive 30", "30 acquire b shared 10"}, "shared b1 until 40, token 30.0"},
		{"shared, by another", []string{"0 acquire a shared 30", "5 acquire b shared 10"}, "shared a1 b1 until 30, token 0.0"},
		{"shared, by another for longer", []string{"0 acquire a shared 30", "5 acquire b shared 60"}, "shared a1 b1 until 65, token 0.0"},
		{"shared, by self", []string{"0 acquire a shared 30", "5 acquire a shared 10"}, "shared a2 until 30, token 0.0"},
		{"shared by self alone, exclusive", []string{"0 acquire a shared 30", "5 acquire a exclusive 10"}, "exclusive a2 until 15, token 5.0"},
		{"shared with others, exclusive", []string{"0 acquire a shared 30", "0 acquire b shared 30", "5 acquire a exclusive 10"}, "lock unavailable"},
		{"shared with others until now, exclusive", []string{"0 acquire a shared 30", "0 acquire b shared 30", "30 acquire a exclusive 10"}, "exclusive a1 until 40, token 30.0"},
		{"released once of two", []string{"0 acquire a exclusive 30", "0 acquire a exclusive 30", "9 release a - 0"}, "exclusive a1 until 30, token 0.0"},
		{"released by one of two", []string{"0 acquire a shared 30", "0 acquire b shared 30", "9 release a - 0"}, "shared b1 until 30, token 0.0"},
		{"released by the last", []string{"0 acquire a exclusive 30", "9 release a - 0"}, "free"},
		{"released by another", []string{"0 acquire a exclusive 30", "9 release b - 0"}, "lock not held"},
		{"released when free", []string{"9 release b - 0"}, "free"},
		{"released when over", []string{"0 acquire a exclusive 30", "30 release b - 0"}, "free"},
		{"renewed for longer", []string{"0 acquire a exclusive 30", "9 renew a - 60"}, "exclusive a1 until 69, token 0.0"},
		{"renewed for a shorter time", []string{"0 acquire a exclusive 30", "9 renew a - 5"}, "exclusive a1 until 14, token 0.0"},
		{"renewed for a shorter time, with others", []string{"0 acquire a shared 30", "0 acquire b shared 30", "9 renew a - 5"}, "shared a1 b1 until 30, token 0.0"},
		{"renewed by another", []string{"0 acquire a exclusive 30", "9 renew b - 5"}, "lock not held"},
		{"renewed when free", []string{"9 renew b - 5"}, "lock not held"},
		{"renewed when over", []string{"0 acquire a exclusive 30", "30 renew a - 5"}, "lock not held"},
		{"taken again at once", []string{"0 acquire a exclusive 30", "0 release a - 0", "0 acquire a exclusive 30"}, "exclusive a1 until 30, token 0.1"},
		{"taken by a clock that is behind", []string{"50 acquire a exclusive 30", "50 release a - 0", "10 acquire a exclusive 30"}, "exclusive a1 until 40, token 50.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l lock.Lock
			got := ""
			for _, line := range c.lines {
				before := fmt.Sprint(l)
				after, now, err := do(t, l, line)
				if fmt.Sprint(l) != before {
					t.Errorf("%s: what was given has changed: %v was %s", line, l, before)
				}
				if l, got = after, show(after, now); err != nil {
					got = fault.From(err).Message
				}
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// spoilt is a table on which writes go wrong: those that have a number here, from 0, as is said there.
type spoilt struct {
	store.Table

	writes int
	spoil  map[int]func(write func() error) error
}

func (s *spoilt) Write(ctx context.Context, ops ...store.Op) error {
	n := s.writes
	s.writes++
	write := func() error { return s.Table.Write(ctx, ops...) }
	if spoil := s.spoil[n]; spoil != nil {
		return spoil(write)
	}
	return write()
}

// at is a clock that stands.
type at struct{ time.Time }

func (a *at) Now() time.Time { return a.Time }

type world struct {
	t     *testing.T
	table store.Table
	clock *at
}

// virtually runs a test in virtual time.
func virtually(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p, err := embedded.Open("", embedded.Options{Memory: true})
		if err != nil {
			t.Fatal(err)
		}
		test(t, &world{t, p.Table(), &at{noon}})
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (w *world) process() *lock.Store { return &lock.Store{Table: w.table, Clock: w.clock} }

// acquired takes the lock x.
func (w *world) acquired(owner, mode string) lock.Lock {
	w.t.Helper()
	l, err := w.process().Acquire(w.t.Context(), "default", "x", owner, mode, time.Minute)
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

func (w *world) released(owner string) {
	w.t.Helper()
	if _, err := w.process().Release(w.t.Context(), "default", "x", owner); err != nil {
		w.t.Fatal(err)
	}
}

// owners are who holds x.
func (w *world) owners() string {
	w.t.Helper()
	l, err := w.process().Get(w.t.Context(), "default", "x")
	if err != nil && !errors.Is(err, lock.ErrNotFound) {
		w.t.Fatal(err)
	}
	return fmt.Sprint(l.Owners)
}

// A write whose answer was lost counts once: whether it was made or not, whatever the answer says instead, and whoever writes before anybody looks.
func TestALostAnswerCountsOnce(t *testing.T) {
	for name, lost := range map[string]error{"not available": store.ErrUnavailable, "refused": &store.ConditionError{}, "conflict": store.ErrConflict} {
		for _, made := range []bool{true, false} {
			for others := range 15 {
				t.Run(fmt.Sprintf("%s, made %v, %d others", name, made, others), func(t *testing.T) {
					virtually(t, func(t *testing.T, w *world) {
						w.acquired("a", lock.Shared)
						s := w.process()
						s.Table = &spoilt{Table: w.table, spoil: map[int]func(func() error) error{0: func(write func() error) error {
							if made {
								if err := write(); err != nil {
									t.Error(err)
								}
							}
							for range others {
								w.acquired("b", lock.Shared)
							}
							return lost
						}}}
						l, err := s.Acquire(t.Context(), "default", "x", "a", lock.Shared, time.Minute)
						if err != nil || l.Owners["a"] != 2 {
							t.Errorf("acquired: %v, %v", l, err)
						}
						want := map[string]int{"a": 2}
						if others > 0 {
							want["b"] = others
						}
						if got := w.owners(); got != fmt.Sprint(want) {
							t.Errorf("held by %s, want %v", got, want)
						}
					})
				})
			}
		}
	}
}

// When so many wrote since that nobody can tell, nobody claims to: the answer is that the store does not answer, and nothing is written.
func TestWhatNobodyCanTellIsNotClaimed(t *testing.T) {
	for name, before := range map[string]bool{"of a lock that was": true, "of a new one": false} {
		t.Run(name, func(t *testing.T) {
			virtually(t, func(t *testing.T, w *world) {
				if before {
					w.acquired("b", lock.Shared)
				}
				table := &spoilt{Table: w.table, spoil: map[int]func(func() error) error{0: func(func() error) error {
					for range 16 {
						w.acquired("b", lock.Shared)
					}
					return store.ErrUnavailable
				}}}
				s := w.process()
				s.Table = table
				if l, err := s.Acquire(t.Context(), "default", "x", "a", lock.Shared, time.Minute); !errors.Is(err, store.ErrUnavailable) || table.writes != 1 {
					t.Errorf("acquired: %v, %v after %d writes", l, err, table.writes)
				}
			})
		})
	}
}

// A store that is away is not asked without end, nor is one where others are always first.
func TestAnOperationEnds(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		away, first := map[int]func(func() error) error{}, map[int]func(func() error) error{}
		for n := range 1000 {
			away[n] = func(func() error) error { return store.ErrUnavailable }
			first[n] = func(write func() error) error {
				if _, err := w.process().Renew(t.Context(), "default", "x", "b", time.Minute); err != nil {
					t.Error(err)
				}
				return write()
			}
		}
		w.acquired("b", lock.Shared)
		for _, c := range []struct {
			spoil map[int]func(func() error) error
			is    func(error) bool
		}{
			{away, func(err error) bool { return errors.Is(err, store.ErrUnavailable) }},
			{first, func(err error) bool { return fault.Is(err, fault.Conflict) && !errors.Is(err, lock.ErrUnavailable) }},
		} {
			s := w.process()
			s.Table = &spoilt{Table: w.table, spoil: c.spoil}
			start := time.Now()
			if _, err := s.Acquire(t.Context(), "default", "x", "a", lock.Shared, time.Minute); !c.is(err) || time.Since(start) > 5*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			if got := w.owners(); got != "map[b:1]" {
				t.Errorf("held by %s", got)
			}
		}
	})
}

// Tokens grow over a release, an end, a clock that is behind, and the day on which what was remembered of the lock is deleted.
func TestTokensGrow(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		last := int64(0)
		grown := func(name string) {
			t.Helper()
			if l := w.acquired("a", lock.Exclusive); l.Token <= last {
				t.Errorf("%s: token %d after %d", name, l.Token, last)
			} else {
				last = l.Token
			}
		}
		grown("new")
		w.released("a")
		grown("released")
		w.released("a")
		w.clock.Time = noon.Add(-time.Hour)
		grown("released, and a clock that is behind")
		w.clock.Time = noon.Add(time.Hour)
		grown("over")
		w.clock.Time = noon.Add(100 * 24 * time.Hour)
		grown("by a clock that is ahead")
		w.released("a")
		w.clock.Time = noon.Add(time.Hour)
		grown("by one that is not")
		key := store.Key{PK: "LK#default#x", SK: "L"}
		it, err := w.table.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		w.released("a")
		if err := w.table.Write(t.Context(), store.Delete(key)); err != nil { // as DynamoDB does, when its time is over
			t.Fatal(err)
		}
		w.clock.Time = time.Unix(it.Expires, 0).Add(-29 * 24 * time.Hour) // whoever is 29 days behind at that time
		grown("deleted")
	})
}

// A transaction that depends on a lock is refused as soon as the tenure, or the owner's part in it, is over.
func TestStillHeld(t *testing.T) {
	for _, c := range []struct {
		name, mode string
		then       func(w *world)
		want       bool
	}{
		{"nothing happened", lock.Exclusive, func(*world) {}, true},
		{"taken again", lock.Exclusive, func(w *world) { w.acquired("a", lock.Exclusive) }, true},
		{"taken again and released once", lock.Exclusive, func(w *world) { w.acquired("a", lock.Exclusive); w.released("a") }, true},
		{"renewed", lock.Exclusive, func(w *world) { _, _ = w.process().Renew(w.t.Context(), "default", "x", "a", time.Hour) }, true},
		{"over", lock.Exclusive, func(w *world) { w.clock.Time = noon.Add(time.Hour) }, true},
		{"released", lock.Exclusive, func(w *world) { w.released("a") }, false},
		{"released and taken", lock.Exclusive, func(w *world) { w.released("a"); w.acquired("a", lock.Exclusive) }, false},
		{"over and taken", lock.Exclusive, func(w *world) { w.clock.Time = noon.Add(time.Hour); w.acquired("b", lock.Exclusive) }, false},
		{"over and taken by the same", lock.Exclusive, func(w *world) { w.clock.Time = noon.Add(time.Hour); w.acquired("a", lock.Exclusive) }, false},
		{"shared with another", lock.Shared, func(w *world) { w.acquired("b", lock.Shared) }, true},
		{"shared, and another left", lock.Shared, func(w *world) { w.acquired("b", lock.Shared); w.released("b") }, true},
		{"shared, and left to another", lock.Shared, func(w *world) { w.acquired("b", lock.Shared); w.released("a") }, false},
		{"upgraded", lock.Shared, func(w *world) { w.acquired("a", lock.Exclusive) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtually(t, func(t *testing.T, w *world) {
				l := w.acquired("a", c.mode)
				c.then(w)
				item := store.Item{Key: store.Key{PK: "test", SK: "x"}}
				if err := w.table.Write(t.Context(), l.StillHeld(), store.Put(item)); (err == nil) != c.want || err != nil && !store.Overtaken(err) {
					t.Errorf("written: %v", err)
				}
			})
		})
	}
}

// counted counts what is read through an index.
type counted struct {
	store.Table

	read int
}

func (c *counted) BatchGet(ctx context.Context, keys []store.Key) ([]store.Item, error) {
	c.read += len(keys)
	return c.Table.BatchGet(ctx, keys)
}

// However many locks have ended and were never given back, a list reads a bounded number of them, and a prefix leads past them.
func TestAListEnds(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		for i := range 2500 {
			if _, err := w.process().Acquire(t.Context(), "default", fmt.Sprintf("pack:%04d", i), "a", "", time.Second); err != nil {
				t.Fatal(err)
			}
		}
		w.clock.Time = noon.Add(time.Minute)
		if _, err := w.process().Acquire(t.Context(), "default", "pack:z", "a", "", time.Second); err != nil {
			t.Fatal(err)
		}
		table := &counted{Table: w.table}
		s := w.process()
		s.Table = table
		if got, err := s.List(t.Context(), "default", "pack:", 500); len(got) != 0 || err != nil || table.read < 2000 || table.read > 2500 {
			t.Errorf("%d listed, %v, after %d were read", len(got), err, table.read)
		}
		if got, err := s.List(t.Context(), "default", "pack:z", 500); len(got) != 1 || err != nil {
			t.Errorf("%v, %v", got, err)
		}
	})
}

// The largest lock is an item that the table takes.
func TestTheLargestLock(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		resource := strings.Repeat("#", lock.MaxName)
		var l lock.Lock
		for i := range lock.MaxOwners {
			var err error
			if l, err = w.process().Acquire(t.Context(), strings.Repeat("#", 256), resource, fmt.Sprintf("%0*d", lock.MaxName, i), lock.Shared, lock.MaxTTL); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := w.process().Get(t.Context(), strings.Repeat("#", 256), resource); err != nil || !maps.Equal(got.Owners, l.Owners) || len(l.Owners) != lock.MaxOwners {
			t.Errorf("%d owners, %v", len(got.Owners), err)
		}
	})
}
