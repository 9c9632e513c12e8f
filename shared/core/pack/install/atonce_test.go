package install_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/core/pack/install"
	"github.com/cordum-serverless/cordum/shared/core/pack/registry"
	"github.com/cordum-serverless/cordum/shared/core/policy/bundles"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	schemas "github.com/cordum-serverless/cordum/shared/core/schema/registry"
	"github.com/cordum-serverless/cordum/shared/platform/chaos"
	"github.com/cordum-serverless/cordum/shared/platform/chaos/mortal"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

// TestManyAtOnceAreOneAfterTheOther: installers in processes of their own, some of which die, on a table that fails, is slow, and conflicts, so that locks end
// under those who hold them; others publish and edit meanwhile. Whoever looks sees versions that are whole, and nothing that was acknowledged is lost.
func TestManyAtOnceAreOneAfterTheOther(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for seed := uint64(1); seed <= 5; seed++ {
		synctest.Test(t, func(t *testing.T) { play(t, seed, seen) })
	}
	t.Log(seen)
	for _, what := range []string{"", "1.0.0 ACTIVE", "2.0.0 ACTIVE", "1.0.0 INACTIVE", "2.0.0 INACTIVE", "1.0.0 DISABLED", "2.0.0 DISABLED", "done", "refused", "fault", "died"} {
		if seen[what] == 0 {
			t.Errorf("%q never happened: this says little", what)
		}
	}
}

func play(t *testing.T, seed uint64, seen map[string]int) {
	w := settled(t, seed)
	w.clock = clock.System{}
	base := w.data()
	faults := chaos.New(chaos.Profile{Errors: 0.01, Cruel: 0.03, Delays: 0.1, MaxDelay: 20 * time.Second, Seed: seed})
	table, blobs, queues := faults.Table(w.table), faults.Blobs(w.blobs), faults.Queues(w.queues)
	var mu sync.Mutex
	var busy sync.WaitGroup
	for n := range 5 {
		busy.Go(func() {
			dice := rand.New(rand.NewPCG(seed, uint64(n)))
			for range 10 {
				time.Sleep(time.Duration(dice.IntN(60)) * time.Second)
				i := w.process(table, blobs, queues)
				if dice.IntN(6) == 0 {
					p := mortal.New([]mortal.Fate{mortal.DeathBefore, mortal.Death}[dice.IntN(2)], 1+dice.IntN(25))
					i = w.process(p.Table(table), p.Blobs(blobs), p.Queues(queues))
				}
				end := outcome(act(t.Context(), i, dice))
				mu.Lock()
				seen[end]++
				mu.Unlock()
			}
		})
	}
	published, edits := 0, 0
	busy.Go(func() {
		for range 12 {
			time.Sleep(20 * time.Second)
			b := w.process(table, blobs, queues).Bundles
			name := fmt.Sprintf("p%d", published)
			_, err := b.Put(t.Context(), maya, "secops/"+name, bundles.Wish{Content: allows(name, 1)})
			if err == nil {
				_, err = b.Publish(t.Context(), maya, []string{"secops/" + name}, bundles.Words{})
			}
			if err == nil {
				published++
			}
		}
	})
	busy.Go(func() {
		for n := range 12 {
			time.Sleep(25 * time.Second)
			w.edit(fmt.Sprintf(`{"note":"edit %d"}`, n))
			edits = n
		}
	})
	var over atomic.Bool
	var looking sync.WaitGroup
	looking.Go(func() {
		for !over.Load() {
			what, still := w.look()
			if still {
				mu.Lock()
				seen[what]++
				mu.Unlock()
			}
			time.Sleep(2 * time.Second)
		}
	})
	busy.Wait()
	over.Store(true)
	looking.Wait()
	time.Sleep(time.Minute)
	if what, still := w.look(); !still {
		t.Errorf("seed %d: at the end: %s", seed, what)
	}
	for _, id := range []string{"tide", "reef"} {
		if _, err := w.fresh().Uninstall(t.Context(), maya, id, true); err != nil && !errors.Is(err, install.ErrNotInstalled) {
			t.Error(err)
		}
	}
	if now, want := w.data(), edited(base, fmt.Sprintf("edit %d", edits)); now != want {
		t.Errorf("seed %d: left over: %s\nwant: %s", seed, now, want)
	}
	w.accounted(published)
	w.close()
}

// edited is a document with another note.
func edited(data, note string) string {
	var members map[string]any
	if err := json.Unmarshal([]byte(data), &members); err != nil {
		panic(err)
	}
	members["note"] = note
	return string(must(json.Marshal(members)))
}

// act makes one of the changes.
func act(ctx context.Context, i *install.Installer, dice *rand.Rand) (err error) {
	switch dice.IntN(10) {
	case 0, 1:
		_, err = i.Uninstall(ctx, maya, "tide", false)
	case 2:
		_, err = i.Uninstall(ctx, maya, "tide", true)
	case 3:
		_, err = i.Uninstall(ctx, maya, "reef", true)
	case 4:
		_, err = i.Install(ctx, maya, reef.bundle(), upgrade)
	default:
		_, err = i.Install(ctx, maya, tides[dice.IntN(2)].bundle(), install.Options{Upgrade: true, Inactive: dice.IntN(3) == 0})
	}
	return err
}

// outcome is what became of it.
func outcome(err error) string {
	switch {
	case err == nil, errors.Is(err, install.ErrNotInstalled):
		return "done"
	case errors.Is(err, mortal.ErrDied):
		return "died"
	case fault.Is(err, fault.Conflict):
		return "refused"
	case errors.Is(err, chaos.ErrInjected):
		return "fault"
	}
	return err.Error()
}

// accounted fails unless every change of packs has one entry in the trail, and every publish that was acknowledged is in force.
func (w *world) accounted(published int) {
	w.Helper()
	all := must(w.fresh().Packs.All(w.Context()))
	entries, _, err := (&audit.Log{Table: w.table}).List(w.Context(), "default", 1000, 0)
	w.must(err)
	changes := int64(0)
	for _, e := range entries {
		if e.ResourceType == "pack" {
			changes++
		}
	}
	if changes != all.Revision {
		w.Errorf("%d changes of packs, %d entries in the trail", all.Revision, changes)
	}
	now := must(w.fresh().Bundles.Head.Latest(w.Context()))
	for n := range published {
		if now.Content.Bundles[fmt.Sprintf("secops/p%d", n)] == nil {
			w.Errorf("publish %d was acknowledged, and is not in force", n)
		}
	}
}

// look says what is to be seen of the pack, and fails when that is not one version; still is false when somebody has changed something while it looked.
func (w *world) look() (what string, still bool) {
	w.Helper()
	ctx, i := w.Context(), w.fresh()
	rev := func() [2]int64 {
		all, err := i.Packs.All(ctx)
		w.must(err)
		return [2]int64{all.Revision, must(i.Bundles.Head.Revision(ctx))}
	}
	before := rev()
	record, there, err := i.Packs.Get(ctx, "tide")
	w.must(err)
	other, _, err := i.Packs.Get(ctx, "reef")
	w.must(err)
	got := map[string]string{}
	for _, p := range tides {
		for name := range p.schemas {
			text, err := i.Schemas.Get(ctx, "default", "tide/"+name)
			if !errors.Is(err, schemas.ErrUnknown) {
				w.must(err)
				got["schema "+name] = string(text)
			}
		}
		for name := range p.workflows {
			f, err := i.Catalog.Current(ctx, "default", "tide."+name)
			w.must(err)
			if f != nil {
				got["workflow "+name] = f.Name
			}
		}
	}
	d, err := i.Config.Get(ctx, config.SystemScope, config.DefaultID)
	w.must(err)
	now, err := i.Bundles.Head.Latest(ctx)
	w.must(err)
	if before != rev() {
		return "", false
	}
	for id, raw := range now.Content.Bundles {
		if name, mine := strings.CutPrefix(id, "tide/"); mine {
			b, _ := head.ParseBundle(raw)
			got["policy "+name] = b.Content
		}
	}
	what, want := "", map[string]string{}
	if there {
		r := must(pack.ReadRecord(record.JSON))
		what = r.Version + " " + r.Status
		expect(want, tides[slices.IndexFunc(tides[:], func(p release) bool { return p.version == r.Version })], r.Status, got)
	}
	sharedBy(d.Data, got, want, what, other)
	if !maps.Equal(got, want) {
		w.Errorf("%s: there is\n%s\nwant\n%s", what, must(json.MarshalIndent(got, "", " ")), must(json.MarshalIndent(want, "", " ")))
	}
	return what, true
}

// expect adds what a version brings in a state. What is uninstalled may be purged.
func expect(want map[string]string, p release, status string, got map[string]string) {
	_, kept := got["schema Other"]
	if status != pack.Disabled || kept {
		for name, text := range p.schemas {
			want["schema "+name] = text
		}
		for name, text := range p.workflows {
			var f struct{ Name string }
			if err := json.Unmarshal([]byte(text), &f); err != nil {
				panic(err)
			}
			want["workflow "+name] = f.Name
		}
	}
	if status == pack.Disabled {
		return
	}
	for name, text := range p.policy {
		want["policy "+name] = text
	}
	patched(want, "timeouts", p.timeouts)
	if status == pack.Active {
		patched(want, "pools", p.pools)
	}
}

// patched adds the members of the pack's that a section, or a patch of it, has.
func patched(to map[string]string, section, text string) {
	var patch map[string]map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &patch); err != nil {
		panic(err)
	}
	for _, kind := range []string{"topics", "pools", "workflows"} {
		for name, v := range patch[kind] {
			if strings.Contains(name, "tide") {
				to[section+" "+kind+" "+name] = string(v)
			}
		}
	}
}

// sharedBy adds what a document has of the pack, and what it should have where the two packs overlap.
func sharedBy(data []byte, got, want map[string]string, what string, other registry.Record) {
	var doc struct{ Pools, Timeouts json.RawMessage }
	var pools struct {
		Pools map[string]struct{ Requires []string }
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		panic(err)
	}
	if err := json.Unmarshal(doc.Pools, &pools); err != nil {
		panic(err)
	}
	patched(got, "pools", string(doc.Pools))
	if doc.Timeouts != nil {
		patched(got, "timeouts", string(doc.Timeouts))
	}
	got["shared"] = fmt.Sprint(pools.Pools["shared"].Requires)
	want["shared"] = "[]"
	if version, active := strings.CutSuffix(what, " ACTIVE"); active {
		want["shared"] = "[tide-" + version[:1] + "]"
	}
	if strings.Contains(string(other.JSON), `"ACTIVE"`) && (want["shared"] == "[]" || got["shared"] == "[reef]") { // whichever was installed last
		want["shared"] = "[reef]"
	}
}
