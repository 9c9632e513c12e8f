package catalog_test

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
	"github.com/cordum-serverless/cordum/shared/core/policy/override"
	"github.com/cordum-serverless/cordum/shared/core/workflow"
	"github.com/cordum-serverless/cordum/shared/core/workflow/catalog"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/embedded/embeddedtest"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var maya = identity.Identity{Tenant: "default", Home: "default", Role: identity.Admin, Principal: "maya"}

// faulty spoils writes: the n-th is answered with an error, after it took effect or instead of that. Of each read it tells onRead first.
type faulty struct {
	store.Table

	mu     sync.Mutex
	writes int
	spoil  func(n int) (err error, done bool)
	onRead func()
}

func (f *faulty) Get(ctx context.Context, k store.Key) (store.Item, error) {
	it, err := f.Table.Get(ctx, k)
	if f.onRead != nil {
		f.onRead()
	}
	return it, err
}

func (f *faulty) Write(ctx context.Context, ops ...store.Op) error {
	f.mu.Lock()
	n := f.writes
	f.writes++
	f.mu.Unlock()
	failed, done := f.spoil(n)
	if failed == nil || done {
		if err := f.Table.Write(ctx, ops...); err != nil {
			return err
		}
	}
	return failed
}

func never(int) (error, bool) { return nil, false }

type world struct {
	t     *testing.T
	table store.Table
	blobs blob.Store
}

func newWorld(t *testing.T) *world {
	t.Helper()
	p := embeddedtest.Open(t)
	return &world{t, p.Table(), p.Blobs()}
}

func (w *world) process(table store.Table) *catalog.Store {
	return &catalog.Store{Table: table, Blobs: w.blobs, Clock: clock.System{}}
}

func (w *world) saved(table store.Table, posted *workflow.Workflow) {
	w.t.Helper()
	if _, err := w.process(table).Save(w.t.Context(), maya, posted); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) get(id string) *workflow.Workflow {
	w.t.Helper()
	got, err := w.process(w.table).Get(w.t.Context(), "default", id)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

func (w *world) entries() []audit.Entry {
	w.t.Helper()
	entries, _, err := (&audit.Log{Table: w.table}).List(w.t.Context(), "default", 1000, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return entries
}

// A save whose answer is lost, and that is therefore tried again, is one save.
func TestALostAnswerIsNoSecondSave(t *testing.T) {
	for name, spoil := range map[string]func(int) (error, bool){
		"it was not written": func(n int) (error, bool) { return conflict(n == 0), false },
		"it was written":     func(n int) (error, bool) { return conflict(n == 0), true },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.saved(&faulty{Table: w.table, spoil: spoil}, &workflow.Workflow{ID: "w", Name: "n"})
			if got, entries := w.get("w"), w.entries(); got.Name != "n" || len(entries) != 1 || entries[0].After == "" {
				t.Errorf("%+v, entries %+v", got, entries)
			}
		})
	}
}

func conflict(yes bool) error {
	if yes {
		return store.ErrConflict
	}
	return nil
}

// What another process stores between the read and the write of a save is merged, not lost; what it deletes is not brought back.
func TestWhatOthersDoMeanwhileCounts(t *testing.T) {
	big := strings.Repeat("x", 100_000)
	for _, test := range []struct {
		name      string
		meanwhile func(*world)
		want      string
	}{
		{"nothing", func(*world) {}, "team 1, ours, small"},
		{"saved", func(w *world) { w.saved(w.table, &workflow.Workflow{ID: "w", TeamID: "2"}) }, "team 2, ours, small"},
		{"saved large", func(w *world) { w.saved(w.table, &workflow.Workflow{ID: "w", Description: big}) }, "team 1, ours, large"},
		{"deleted", func(w *world) {
			if err := w.process(w.table).Delete(w.t.Context(), maya, "w"); err != nil {
				w.t.Error(err)
			}
		}, "team , ours, small"},
		{"deleted and made anew", func(w *world) {
			if err := w.process(w.table).Delete(w.t.Context(), maya, "w"); err != nil {
				w.t.Error(err)
			}
			w.saved(w.table, &workflow.Workflow{ID: "w", TeamID: "3"})
		}, "team 3, ours, small"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.saved(w.table, &workflow.Workflow{ID: "w", Name: "first", TeamID: "1"})
			w.saved(&faulty{Table: w.table, spoil: never, onRead: sync.OnceFunc(func() { test.meanwhile(w) })}, &workflow.Workflow{ID: "w", Name: "ours"})
			got, size := w.get("w"), "small"
			if got.Description == big {
				size = "large"
			}
			if text := fmt.Sprintf("team %s, %s, %s", got.TeamID, got.Name, size); text != test.want {
				t.Errorf("%s, want %s", text, test.want)
			}
			before := ""
			entries := w.entries()
			for i := range entries {
				e := entries[len(entries)-1-i]
				if e.Before != before {
					t.Errorf("%s %s begins with %q, and before it was %q", e.Action, e.ResourceName, e.Before, before)
				}
				before = e.After
			}
		})
	}
}

// Who is always too late hears of it, and nothing is written.
func TestASaveGivesUp(t *testing.T) {
	w := newWorld(t)
	w.saved(w.table, &workflow.Workflow{ID: "w", Name: "first"})
	busy := w.process(&faulty{Table: w.table, spoil: func(int) (error, bool) { return conflict(true), false }})
	_, err := busy.Save(t.Context(), maya, &workflow.Workflow{ID: "w", Name: "ours"})
	if !fault.Is(err, fault.Conflict) || !fault.Is(busy.Delete(t.Context(), maya, "w"), fault.Conflict) {
		t.Error(err)
	}
	down := w.process(&faulty{Table: w.table, spoil: func(int) (error, bool) { return store.ErrUnavailable, false }})
	_, err = down.Save(t.Context(), maya, &workflow.Workflow{ID: "w", Name: "ours"})
	if !errors.Is(err, store.ErrUnavailable) || !errors.Is(down.Delete(t.Context(), maya, "w"), store.ErrUnavailable) {
		t.Error(err)
	}
	if got, entries := w.get("w"), w.entries(); got.Name != "first" || len(entries) != 1 {
		t.Errorf("%+v, entries %+v", got, entries)
	}
}

// inForce are the rules that decisions about jobs of a workflow go by.
func (w *world) inForce(id string) string {
	w.t.Helper()
	it, err := w.table.Get(w.t.Context(), override.Key("default", id))
	if errors.Is(err, store.ErrNotFound) {
		return ""
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return it.Attrs.String("rules")
}

// Whatever others do meanwhile and whatever becomes of answers, the rules in force are those of the definition, and there are none without one.
func TestTheRulesInForceAreThoseOfTheDefinition(t *testing.T) {
	const mine, theirs = "rules: [{id: mine, decision: deny}]", "rules: [{id: theirs, decision: deny}]"
	saves := func(rules string) func(*world, *catalog.Store) error {
		return func(w *world, s *catalog.Store) error {
			_, err := s.Save(w.t.Context(), maya, &workflow.Workflow{ID: "w", PolicyOverride: rules})
			return err
		}
	}
	deletes := func(w *world, s *catalog.Store) error { return s.Delete(w.t.Context(), maya, "w") }
	ours := map[string]func(*world, *catalog.Store) error{"saved": saves(""), "saved with rules": saves(mine), "saved blank": saves(" "), "deleted": deletes}
	meanwhile := map[string]func(*world, *catalog.Store) error{
		"nothing": func(*world, *catalog.Store) error { return nil }, "saved": saves(""), "other rules": saves(theirs), "taken away": saves(" "), "deleted": deletes,
		"deleted and made anew": func(w *world, s *catalog.Store) error { return errors.Join(deletes(w, s), saves(theirs)(w, s)) },
	}
	answers := map[string]func(int) (error, bool){
		"all arrive": never, "one is lost": func(n int) (error, bool) { return conflict(n == 0), true },
		"one write is lost": func(n int) (error, bool) { return conflict(n == 0), false }, "the store goes": func(int) (error, bool) { return store.ErrUnavailable, true },
	}
	for did, do := range ours {
		for others, theyDo := range meanwhile {
			for how, spoil := range answers {
				for _, before := range []string{"", "rules: [{id: first, decision: deny}]"} {
					w := newWorld(t)
					w.saved(w.table, &workflow.Workflow{ID: "w", PolicyOverride: before})
					interrupt := sync.OnceFunc(func() {
						if err := theyDo(w, w.process(w.table)); err != nil {
							t.Error(err)
						}
					})
					_ = do(w, w.process(&faulty{Table: w.table, spoil: spoil, onRead: interrupt})) // it may not know what has become of it
					kept, err := w.process(w.table).Get(t.Context(), "default", "w")
					if errors.Is(err, catalog.ErrUnknown) {
						kept, err = &workflow.Workflow{}, nil
					}
					if err != nil || kept.PolicyOverride != w.inForce("w") {
						t.Errorf("%s, meanwhile %s, %s: defined %q, in force %q, %v", did, others, how, kept.PolicyOverride, w.inForce("w"), err)
					}
				}
			}
		}
	}
}
