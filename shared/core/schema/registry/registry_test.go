package registry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/schema/registry"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/embedded/embeddedtest"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var maya = identity.Identity{Tenant: "default", Home: "default", Role: identity.Admin, Principal: "maya"}

// faulty spoils writes: the n-th is answered with an error, after it took effect or instead of that. Before the first write it does what others do
// meanwhile.
type faulty struct {
	store.Table

	mu        sync.Mutex
	writes    int
	spoil     func(n int) (err error, done bool)
	meanwhile func()
}

func (f *faulty) Write(ctx context.Context, ops ...store.Op) error {
	f.mu.Lock()
	n := f.writes
	f.writes++
	f.mu.Unlock()
	if n == 0 && f.meanwhile != nil {
		f.meanwhile()
	}
	failed, done := error(nil), true
	if f.spoil != nil {
		failed, done = f.spoil(n)
	}
	if failed == nil || done {
		if err := f.Table.Write(ctx, ops...); err != nil {
			return err
		}
	}
	return failed
}

type world struct {
	t     *testing.T
	table store.Table
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t, embeddedtest.Open(t).Table()}
}

func process(table store.Table) *registry.Store {
	return &registry.Store{Table: table, Clock: clock.System{}}
}

// titled is a schema that differs from others.
func titled(title string) []byte { return fmt.Appendf(nil, `{"title":%q}`, title) }

func (w *world) registered(id string, text []byte) {
	w.t.Helper()
	if err := process(w.table).Register(w.t.Context(), maya, id, text); err != nil {
		w.t.Fatal(err)
	}
}

// text is what is registered, "" for nothing.
func (w *world) text(id string) string {
	w.t.Helper()
	text, err := process(w.table).Get(w.t.Context(), "default", id)
	if err != nil && !errors.Is(err, registry.ErrUnknown) {
		w.t.Fatal(err)
	}
	return string(text)
}

// chained checks that each entry begins where the one before ended, and answers how many there are.
func (w *world) chained() int {
	w.t.Helper()
	entries, _, err := (&audit.Log{Table: w.table}).List(w.t.Context(), "default", 1000, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	before := ""
	for i := range entries {
		e := entries[len(entries)-1-i]
		if e.Before != before {
			w.t.Errorf("%s %s begins with %.8q, and before it was %.8q", e.Action, e.ResourceID, e.Before, before)
		}
		before = e.After
	}
	return len(entries)
}

func always(err error) func(int) (error, bool) {
	return func(int) (error, bool) { return err, false }
}

// A change whose answer is lost, and that is therefore tried again, is one change.
func TestALostAnswerIsNoSecondChange(t *testing.T) {
	for name, done := range map[string]bool{"it was not written": false, "it was written": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.registered("a/B", titled("before"))
			lost := func(n int) (error, bool) {
				if n == 0 {
					return store.ErrConflict, done
				}
				return nil, true
			}
			if err := process(&faulty{Table: w.table, spoil: lost}).Register(t.Context(), maya, "a/B", titled("after")); err != nil {
				t.Error(err)
			}
			if got, n := w.text("a/B"), w.chained(); got != string(titled("after")) || n != 2 {
				t.Errorf("registered %s, %d entries", got, n)
			}
			if err := process(&faulty{Table: w.table, spoil: lost}).Delete(t.Context(), maya, "a/B"); err != nil {
				t.Error(err)
			}
			if got, n := w.text("a/B"), w.chained(); got != "" || n != 3 {
				t.Errorf("deleted, and there is %q, %d entries", got, n)
			}
		})
	}
}

// What another process does between the read and the write of a change is in the trail before it.
func TestWhatOthersDoMeanwhileIsInTheTrail(t *testing.T) {
	for name, meanwhile := range map[string]func(*world){
		"nothing":              func(*world) {},
		"registered":           func(w *world) { w.registered("a/B", titled("theirs")) },
		"registered as it was": func(w *world) { w.registered("a/B", titled("before")) },
		"deleted": func(w *world) {
			if err := process(w.table).Delete(w.t.Context(), maya, "a/B"); err != nil {
				w.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.registered("a/B", titled("before"))
			busy := process(&faulty{Table: w.table, meanwhile: func() { meanwhile(w) }})
			if err := busy.Register(t.Context(), maya, "a/B", titled("ours")); err != nil {
				t.Fatal(err)
			}
			if got := w.text("a/B"); got != string(titled("ours")) {
				t.Errorf("registered is %s", got)
			}
			w.chained()
			busy = process(&faulty{Table: w.table, meanwhile: func() { meanwhile(w) }})
			if err := busy.Delete(t.Context(), maya, "a/B"); err != nil {
				t.Fatal(err)
			}
			if got := w.text("a/B"); got != "" {
				t.Errorf("deleted, and there is %s", got)
			}
			w.chained()
		})
	}
}

// Who is always too late hears of it, and nothing is changed.
func TestAChangeGivesUp(t *testing.T) {
	w := newWorld(t)
	w.registered("a/B", titled("before"))
	for _, test := range []struct {
		err  error
		told func(error) bool
	}{
		{store.ErrConflict, func(err error) bool { return fault.Is(err, fault.Conflict) }},
		{store.ErrUnavailable, func(err error) bool { return errors.Is(err, store.ErrUnavailable) }},
	} {
		s := process(&faulty{Table: w.table, spoil: always(test.err)})
		if err := s.Register(t.Context(), maya, "a/B", titled("ours")); !test.told(err) {
			t.Errorf("register: %v", err)
		}
		if err := s.Delete(t.Context(), maya, "a/B"); !test.told(err) {
			t.Errorf("delete: %v", err)
		}
	}
	if got, n := w.text("a/B"), w.chained(); got != string(titled("before")) || n != 1 {
		t.Errorf("registered is %s, %d entries", got, n)
	}
}

func TestRegistrationsAtOnceAreChained(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	const writers = 8
	for i := range writers {
		all.Go(func() { w.registered("a/B", titled(fmt.Sprint(i))) })
	}
	all.Wait()
	if n := w.chained(); n != writers {
		t.Errorf("%d entries", n)
	}
}

// A schema of a release that did not keep the time of registration is changed like any other.
func TestSchemasOfOlderReleases(t *testing.T) {
	w := newWorld(t)
	for i, change := range []func() error{
		func() error { return process(w.table).Register(t.Context(), maya, "a/B", titled("x")) },
		func() error { return process(w.table).Register(t.Context(), maya, "a/B", titled("y")) },
		func() error { return process(w.table).Delete(t.Context(), maya, "a/B") },
	} {
		w.registered("a/B", titled("x"))
		if err := w.table.Write(t.Context(), store.Update(store.Key{PK: "SC#default#a/B", SK: "D"}).If(store.Exists()).RemoveAttr("at")); err != nil {
			t.Fatal(err)
		}
		if err := change(); err != nil {
			t.Error(err)
		}
		if n := w.chained(); n != 2*(i+1) {
			t.Errorf("%d entries", n)
		}
	}
}

// Large schemas take turns in what a process remembers.
func TestLargeSchemasAreNamedToo(t *testing.T) {
	w := newWorld(t)
	s := process(w.table)
	for range 2 {
		for i := range 25 {
			id := fmt.Sprint(i)
			w.registered(id, titled(id+strings.Repeat("x", 100<<10)))
			if found, err := s.Named(t.Context(), "default", []string{id}); err != nil || found.Compiled[id] == nil {
				t.Fatal(found, err)
			}
		}
	}
}

func TestNamedAnswersWhatIsThere(t *testing.T) {
	w := newWorld(t)
	w.registered("a/B", []byte(`{"type":"string"}`))
	s := process(w.table)
	named := func(ids ...string) (there int, revision string) {
		t.Helper()
		found, err := s.Named(t.Context(), "default", ids)
		if err != nil {
			t.Fatal(err)
		}
		return len(found.Compiled), registry.Revision(found.Hashes)
	}
	n, first := named("a/B", "none", "", strings.Repeat("x", 3000), "a/B")
	if n != 1 {
		t.Errorf("%d found", n)
	}
	if _, again := named("a/B"); again != first {
		t.Error("the same schemas have another revision")
	}
	before, err := s.Named(t.Context(), "default", []string{"a/B"})
	if err != nil {
		t.Fatal(err)
	}
	w.registered("a/B", []byte(`{"type":"number"}`))
	found, err := s.Named(t.Context(), "default", []string{"a/B"})
	if err != nil || registry.Revision(found.Hashes) == first || found.Compiled["a/B"].Validate("text") == nil {
		t.Errorf("what was registered anew is as before: %v", err)
	}
	if others, err := s.Named(t.Context(), "other", []string{"a/B"}); err != nil || len(others.Compiled) != 0 {
		t.Errorf("another tenant has %v, %v", others, err)
	}
	if _, err := s.Kept(t.Context(), "default", before.Hashes); err == nil {
		t.Error("what nobody kept is there")
	}
	if err := s.Keep(t.Context(), "default", before); err != nil {
		t.Fatal(err)
	}
	if kept, err := process(w.table).Kept(t.Context(), "default", before.Hashes); err != nil || kept.Compiled["a/B"].Validate("text") != nil {
		t.Errorf("what was kept is not as it was: %v", err)
	}
}

// torn answers half of a batch, and the other half after something has happened, as a batch may be read.
type torn struct {
	store.Table

	meanwhile func()
}

func (t *torn) BatchGet(ctx context.Context, keys []store.Key) ([]store.Item, error) {
	first, err := t.Table.BatchGet(ctx, keys[:len(keys)/2])
	if err != nil {
		return nil, err
	}
	t.meanwhile()
	rest, err := t.Table.BatchGet(ctx, keys[len(keys)/2:])
	return append(first, rest...), err
}

// Schemas that are always changed together are never named in a mixture, also when they become again what they were before.
func TestNamedIsOfOneTime(t *testing.T) {
	w, ids := newWorld(t), []string{"a", "b"}
	changes := 0
	change := func() {
		version := titled(fmt.Sprint(changes % 2))
		changes++
		before, err := process(w.table).Registered(t.Context(), "default", ids)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.table.Write(t.Context(), before[0].Replace("default", version, int64(changes)), before[1].Replace("default", version, int64(changes))); err != nil {
			t.Fatal(err)
		}
	}
	change()
	left := 3
	s := process(&torn{w.table, func() {
		if left--; left >= 0 {
			change()
		}
	}})
	found, err := s.Named(t.Context(), "default", ids)
	if err != nil || len(found.Hashes) != 2 || found.Hashes["a"] != found.Hashes["b"] {
		t.Errorf("%v, %v", found.Hashes, err)
	}
	left = 1000
	if found, err := s.Named(t.Context(), "default", ids); !fault.Is(err, fault.Conflict) {
		t.Errorf("%v, %v", found.Hashes, err)
	}
}
