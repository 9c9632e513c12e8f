package memory_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/memory"
	"github.com/cordum-serverless/cordum/shared/platform/embedded/embeddedtest"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func newTable(t *testing.T) store.Table {
	t.Helper()
	return embeddedtest.Open(t).Table()
}

func add(t *testing.T, table store.Table, memoryID, id string, at time.Time) {
	t.Helper()
	s := &memory.Store{Table: table}
	if err := s.Append(t.Context(), "default", memoryID, id, at, memory.Event{ID: id, Text: fmt.Appendf(nil, "%q", id)}); err != nil {
		t.Error(err)
	}
}

// events are the texts of a history, the newest first.
func events(t *testing.T, table store.Table, tenant, memoryID string, at time.Time) []string {
	t.Helper()
	all, err := (&memory.Store{Table: table}).Events(t.Context(), tenant, memoryID, at)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]string, len(all))
	for i, e := range all {
		if err := json.Unmarshal(e.Text, &out[i]); err != nil {
			t.Fatal(err)
		}
		if e.ID != out[i] || i > 0 && e.Number != all[i-1].Number-1 || e.At.After(at) {
			t.Errorf("%s is %+v", out[i], e)
		}
	}
	return out
}

// stored is how many items a history has in the table.
func stored(t *testing.T, table store.Table, memoryID string) int {
	t.Helper()
	page, err := table.Query(t.Context(), store.Query{PK: "M#default#" + memoryID, Prefix: "E#"})
	if err != nil || page.Next != "" {
		t.Fatal(err, page.Next)
	}
	return len(page.Items)
}

func TestAHistoryKeepsTheNewest(t *testing.T) {
	table := newTable(t)
	var want []string
	for i := range memory.MaxEvents + 5 {
		add(t, table, "m", fmt.Sprint(i), now)
		want = append([]string{fmt.Sprint(i)}, want...)
	}
	want = want[:memory.MaxEvents]
	if got := events(t, table, "default", "m", now); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if n := stored(t, table, "m"); n != memory.MaxEvents {
		t.Errorf("%d are stored", n)
	}
	if got := events(t, table, "other", "m", now); len(got) != 0 {
		t.Errorf("another tenant remembers %v", got)
	}
	if got := events(t, table, "default", "m2", now); len(got) != 0 {
		t.Errorf("another memory has %v", got)
	}
}

// No two names share a history, whatever is in them.
func TestHistoriesAreApart(t *testing.T) {
	table := newTable(t)
	s := &memory.Store{Table: table}
	for _, of := range [][2]string{{"a", "b#c"}, {"a#b", "c"}, {"a%23b", "c"}} {
		if err := s.Append(t.Context(), of[0], of[1], "x", now, memory.Event{ID: "x", Text: []byte(`"x"`)}); err != nil {
			t.Fatal(err)
		}
		if got := events(t, table, of[0], of[1], now); len(got) != 1 {
			t.Errorf("%v has %v", of, got)
		}
	}
}

func TestEventsAtOnceAreAllThere(t *testing.T) {
	table := newTable(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() { add(t, table, "m", fmt.Sprint(i), now) })
	}
	all.Wait()
	got := events(t, table, "default", "m", now)
	if slices.Sort(got); !slices.Equal(got, []string{"0", "1", "2", "3", "4", "5", "6", "7"}) {
		t.Errorf("%v", got)
	}
}

// An event is there for 30 days. The first one after all have gone begins a new history, whatever of the old one is not removed yet.
func TestEventsAreForgotten(t *testing.T) {
	table := newTable(t)
	later := now.Add(memory.Retention - time.Hour)
	for i := range memory.MaxEvents + 1 {
		add(t, table, "m", fmt.Sprint("old ", i), now)
	}
	add(t, table, "m", "new", later)
	if got := events(t, table, "default", "m", later.Add(2*time.Hour)); !slices.Equal(got, []string{"new"}) {
		t.Errorf("%v", got)
	}
	end := later.Add(memory.Retention)
	if got := events(t, table, "default", "m", end); len(got) != 0 {
		t.Errorf("after its end: %v", got)
	}
	if err := table.Write(t.Context(), store.Delete(store.Key{PK: "M#default#m", SK: "H"})); err != nil { // as expiry may, before all else
		t.Fatal(err)
	}
	for i := range memory.MaxEvents + 10 {
		add(t, table, "m", fmt.Sprint("next ", i), end)
		if got := events(t, table, "default", "m", end); got[0] != fmt.Sprint("next ", i) || len(got) != min(i+1, memory.MaxEvents) {
			t.Fatalf("after %d: %v", i, got)
		}
	}
}

// faulty spoils writes: the n-th is answered with an error, after it took effect or instead of that.
type faulty struct {
	store.Table

	writes int
	spoil  func(n int) (err error, done bool)
	then   func()
}

func (f *faulty) Write(ctx context.Context, ops ...store.Op) error {
	failed, done := f.spoil(f.writes)
	f.writes++
	if failed == nil || done {
		if err := f.Table.Write(ctx, ops...); err != nil {
			return err
		}
	}
	if failed != nil && f.then != nil {
		f.then()
	}
	return failed
}

// An event whose answer is lost, and that is therefore tried again, is one event, also when others come after it.
func TestALostAnswerIsNoSecondEvent(t *testing.T) {
	for name, done := range map[string]bool{"it was not written": false, "it was written": true} {
		for _, others := range []int{0, 1, 2, 30} {
			t.Run(fmt.Sprintf("%s, %d others", name, others), func(t *testing.T) {
				table := newTable(t)
				add(t, table, "m", "first", now)
				spoilt := &faulty{Table: table, spoil: func(n int) (error, bool) {
					if n == 0 {
						return store.ErrConflict, done
					}
					return nil, true
				}, then: func() {
					for i := range others {
						add(t, table, "m", fmt.Sprint(i), now)
					}
				}}
				add(t, spoilt, "m", "mine", now)
				got := events(t, table, "default", "m", now)
				mine := slices.Index(got, "mine") >= 0 // if it was written first, the others have pushed it out
				if want := min(2+others, memory.MaxEvents); len(got) != want || mine != (others < memory.MaxEvents || !done) || stored(t, table, "m") != want {
					t.Errorf("%v", got)
				}
			})
		}
	}
	busy := &memory.Store{Table: &faulty{Table: newTable(t), spoil: func(int) (error, bool) { return store.ErrConflict, false }}}
	if err := busy.Append(t.Context(), "default", "m", "x", now, memory.Event{ID: "x", Text: []byte(`"x"`)}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("always too late: %v", err)
	}
}

// A history that is forgotten is gone as a whole, with what was added while it was being forgotten; what is added afterwards begins a new one.
func TestForget(t *testing.T) {
	for others := range 3 {
		t.Run(fmt.Sprint(others, " others"), func(t *testing.T) {
			table := newTable(t)
			for i := range memory.MaxEvents + 1 {
				add(t, table, "m", fmt.Sprint("old ", i), now)
			}
			add(t, table, "other", "kept", now)
			busy := &faulty{Table: table, spoil: func(n int) (error, bool) {
				if n < others {
					add(t, table, "m", fmt.Sprint(n), now)
				}
				return nil, true
			}}
			if err := (&memory.Store{Table: busy}).Forget(t.Context(), "default", "m"); err != nil {
				t.Fatal(err)
			}
			page, err := table.Query(t.Context(), store.Query{PK: "M#default#m"})
			if err != nil || len(page.Items) != 0 {
				t.Errorf("left are %v, %v", page.Items, err)
			}
			if err := (&memory.Store{Table: table}).Forget(t.Context(), "default", "m"); err != nil {
				t.Error(err)
			}
			add(t, table, "m", "new", now)
			if got := events(t, table, "default", "m", now); !slices.Equal(got, []string{"new"}) {
				t.Errorf("%v", got)
			}
			if got := events(t, table, "default", "other", now); len(got) != 1 {
				t.Errorf("another memory has %v", got)
			}
		})
	}
}

// A head that knows only the number of the next event, as those of the release before did, is taken up.
func TestAHeadOfTheReleaseBefore(t *testing.T) {
	table := newTable(t)
	old := store.Item{Key: store.Key{PK: "M#default#m", SK: "H"}, Attrs: store.Attrs{"n": int64(7)}, Expires: now.Add(memory.Retention).Unix()}
	if err := table.Write(t.Context(), store.Put(old)); err != nil {
		t.Fatal(err)
	}
	add(t, table, "m", "new", now)
	all, err := (&memory.Store{Table: table}).Events(t.Context(), "default", "m", now)
	if err != nil || len(all) != 1 || all[0].Number != 7 {
		t.Errorf("%v, %v", all, err)
	}
}

// Who read a memory before it was forgotten and begun anew, with as many writes, is told, and adds to the new one.
func TestWhoReadBeforeItWasForgotten(t *testing.T) {
	table := newTable(t)
	for i := range 3 {
		add(t, table, "m", fmt.Sprint("old ", i), now)
	}
	slow := &faulty{Table: table, spoil: func(n int) (error, bool) {
		if n == 0 {
			if err := (&memory.Store{Table: table}).Forget(t.Context(), "default", "m"); err != nil {
				t.Error(err)
			}
			for i := range 3 {
				if i < 2 {
					add(t, table, "m", fmt.Sprint("new ", i), now)
				} else if err := learn(t, table, "new", anyOf("x"), now); err != nil {
					t.Error(err)
				}
			}
		}
		return nil, true
	}}
	add(t, slow, "m", "late", now)
	if got := events(t, table, "default", "m", now); !slices.Equal(got, []string{"late", "new 1", "new 0"}) {
		t.Errorf("%v", got)
	}
}
