package install_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/pack/install"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/chaos/mortal"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// change is one that something goes wrong with, and what was before it.
type change struct {
	before func(*world)
	do     func(context.Context, *install.Installer) error
}

func installs(p release, o install.Options) func(context.Context, *install.Installer) error {
	bundle := p.bundle()
	return func(ctx context.Context, i *install.Installer) error {
		_, err := i.Install(ctx, maya, bundle, o)
		return err
	}
}

func uninstalls(purge bool) func(context.Context, *install.Installer) error {
	return func(ctx context.Context, i *install.Installer) error {
		_, err := i.Uninstall(ctx, maya, "tide", purge)
		return err
	}
}

var changes = map[string]change{
	"install":     {func(w *world) { w.install(reef, upgrade) }, installs(tides[0], install.Options{})},
	"upgrade":     {func(w *world) { w.install(tides[0], upgrade); w.install(reef, upgrade) }, installs(tides[1], upgrade)},
	"activate":    {func(w *world) { w.install(tides[0], install.Options{Inactive: true}) }, installs(tides[0], install.Options{})},
	"uninstall":   {func(w *world) { w.install(tides[0], upgrade); w.install(reef, upgrade) }, uninstalls(false)},
	"and a purge": {func(w *world) { w.install(tides[0], upgrade); w.install(reef, upgrade) }, uninstalls(true)},
}

// TestWhateverHappensAtACallAnInstallationIsWholeOrNotAtAll: at each call of the table, of the objects and of the queues, one after the other, the process dies,
// or the call fails, or its answer is lost. All is as it was then, or as it was to be; who is told of success finds it, and who tries again gets it, once.
func TestWhateverHappensAtACallAnInstallationIsWholeOrNotAtAll(t *testing.T) {
	for name, c := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := settled(t, 0)
			defer w.close()
			c.before(w)
			kept := &keeping{Table: w.table}
			w.table = kept
			w.must(c.do(t.Context(), w.fresh()))
			after := w.picture()
			kept.restore(w)
			for _, fate := range mortal.Fates {
				calls := 0
				for met := true; met; calls++ {
					p := mortal.New(fate, calls+1)
					failed := c.do(t.Context(), w.process(p.Table(w.table), p.Blobs(w.blobs), p.Queues(w.queues)))
					if met = p.Met(); !met && !w.free() {
						t.Error("the locks are not given back")
					}
					w.judge(kept, c, fmt.Sprintf("%s at call %d: %v", fate, calls+1, failed), fate, failed, after)
				}
				if least := map[bool]int{false: 20, true: 5}[fate == mortal.Collision || fate == mortal.Echo]; calls <= least {
					t.Errorf("%s: only %d calls were made", fate, calls-1)
				}
			}
		})
	}
}

// judge says what is wrong with a world in which something has happened at a call of a change; it is as before that change then.
func (w *world) judge(kept *keeping, c change, at string, fate mortal.Fate, failed error, after string) {
	w.Helper()
	touched := kept.touched(w)
	if touched {
		if now := w.picture(); now != after {
			w.Fatalf("%s: half a change, or two:\n%s", at, difference(after, now))
		}
	}
	switch {
	case failed == nil && !touched:
		w.Fatalf("%s: acknowledged, and nothing happened", at)
	case failed == nil:
	case fate == mortal.Collision, fate == mortal.Echo:
		w.Fatalf("%s: not made anew", at)
	case !errors.Is(failed, mortal.ErrDied) && !errors.Is(failed, store.ErrUnavailable) && !errors.Is(failed, blob.ErrUnavailable) && !errors.Is(failed, queue.ErrUnavailable):
		w.Fatalf("%s: it does not say what happened", at)
	}
	if !w.free() { // whoever comes next is kept out until their time is over
		if err := c.do(w.Context(), w.fresh()); !fault.Is(err, fault.Conflict) {
			w.Fatalf("%s: the locks of one who is gone do not keep out: %v", at, err)
		}
		w.unlock()
	}
	if touched {
		if failed != nil {
			w.must(c.do(w.Context(), w.fresh()))
			w.same(at+": made again", after)
		}
		kept.restore(w)
	}
}

// keeping is a table that remembers how everything was before it was first written.
type keeping struct {
	store.Table

	before map[store.Key]*store.Item
}

func (k *keeping) get(ctx context.Context, key store.Key) (*store.Item, error) {
	it, err := k.Table.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return &it, err
}

func (k *keeping) Write(ctx context.Context, ops ...store.Op) error {
	for _, op := range ops {
		if _, known := k.before[op.Key]; known {
			continue
		}
		it, err := k.get(ctx, op.Key)
		if err != nil {
			return err
		}
		if k.before == nil {
			k.before = map[store.Key]*store.Item{}
		}
		k.before[op.Key] = it
	}
	return k.Table.Write(ctx, ops...)
}

// touched says whether anything is not as it was, but for locks.
func (k *keeping) touched(w *world) bool {
	w.Helper()
	for key, before := range k.before {
		now, err := k.get(w.Context(), key)
		w.must(err)
		if !strings.HasPrefix(key.PK, "LK#") && !reflect.DeepEqual(before, now) {
			return true
		}
	}
	return false
}

// restore makes everything as it was.
func (k *keeping) restore(w *world) {
	w.Helper()
	for key, before := range k.before {
		op := store.Delete(key)
		if before != nil {
			op = store.Put(*before)
		}
		w.must(k.Table.Write(w.Context(), op))
	}
	k.before = nil
}
