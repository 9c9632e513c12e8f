package install_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/canonical"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/lock"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/core/pack/install"
	"github.com/cordum-serverless/cordum/shared/core/pack/registry"
	schemas "github.com/cordum-serverless/cordum/shared/core/schema/registry"
	"github.com/cordum-serverless/cordum/shared/core/workflow"
	"github.com/cordum-serverless/cordum/shared/core/workflow/catalog"
	"github.com/cordum-serverless/cordum/shared/platform/chaos/mortal"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// in is a world that others have been in, for one test.
func in(t *testing.T) *world {
	t.Helper()
	w := settled(t, 0)
	t.Cleanup(w.close)
	return w
}

// refused fails unless an error is a fault of that code which says something, and nothing has changed since a picture.
func (w *world) refused(err error, code fault.Code, says, before string) {
	w.Helper()
	if !fault.Is(err, code) || !strings.Contains(err.Error(), says) {
		w.Errorf("%v; want %v, %q", err, code, says)
	}
	w.same("refused", before)
}

// K02: whatever else is installed, and in whatever order it came.
func TestK02_InstallingWhatIsInstalledWritesNothing(t *testing.T) {
	w := in(t)
	w.install(tides[0], upgrade)
	w.install(reef, upgrade)
	w.install(tides[1], upgrade)
	for _, p := range []release{reef, tides[1]} { // each takes back what they both set, once
		w.install(p, upgrade)
	}
	before := w.picture()
	w.hands.turn(time.Hour)
	for _, o := range []install.Options{{}, upgrade, {Force: true}} {
		w.install(tides[1], o)
		w.same("installed again", before)
	}
	apart := release{id: "apart", version: "1", pools: `{"topics":{"job.apart.a":"apart"},"pools":{"apart":{}}}`}
	w.install(apart, upgrade)
	before = w.picture()
	for _, p := range []release{tides[1], apart, tides[1]} { // the first of them lies under another one, which sets nothing that it sets
		w.install(p, install.Options{})
		w.same(p.id+" installed again", before)
	}
	_, err := w.fresh().Uninstall(t.Context(), maya, "tide", true)
	w.must(err)
	before = w.picture()
	_, err = w.fresh().Uninstall(t.Context(), maya, "tide", true)
	w.must(err)
	w.same("uninstalled again", before)
}

// What is too much for one transaction, or for a record, is refused whole.
func TestWhatIsTooMuchIsRefusedWhole(t *testing.T) {
	w := in(t)
	many := func(version, name string, n, size int) release {
		p := release{id: "many", version: version, schemas: map[string]string{}}
		for i := range n {
			p.schemas[fmt.Sprintf("%s%d", name, i)] = fmt.Sprintf(`{"title":%q}`, strings.Repeat("x", size))
		}
		return p
	}
	install := func(p release) error {
		_, err := w.fresh().Install(t.Context(), maya, p.bundle(), upgrade)
		return err
	}
	before := w.picture()
	w.refused(install(many("1", "s", 40, 120<<10)), fault.Invalid, "the files that the manifest names have", before)
	w.must(install(many("1", "s", 64, 10)))
	before = w.picture()
	w.refused(install(many("2", "t", 64, 10)), fault.Invalid, "pack many would change 133 things at once, of which 94 are possible", before)
	w.must(install(many("2", "s", 20, 10)))
	w.must(install(many("3", "t", 64, 10)))
	_, err := w.fresh().Uninstall(t.Context(), maya, "many", true)
	w.must(err)
	wide := `{"pools":{"shared":{"requires":["` + strings.Repeat("x", 70<<10) + `","%s"]}}}`
	w.edit(`{"pools":{"topics":{"job.x":"shared"},` + fmt.Sprintf(wide, "mine")[1:] + `}`)
	before = w.picture()
	w.refused(install(release{id: "wide", version: "1", pools: fmt.Sprintf(wide, "wide")}), fault.Invalid, "what is needed to take it away", before)
	for half := range 2 {
		records := map[string]any{}
		for n := range 6 * (half + 1) {
			records[fmt.Sprintf("p%d", n)] = map[string]any{"id": fmt.Sprintf("p%d", n), "note": strings.Repeat("x", 250<<10)}
		}
		w.edit(string(must(json.Marshal(map[string]any{"scope": "system", "scope_id": "packs", "data": map[string]any{"installed": records}}))))
	}
	before = w.picture()
	long := release{id: "long", version: "1", pools: `{"topics":{"job.long.a":"shared"},"pools":{"long":{"requires":["` + strings.Repeat("x", 110<<10) + `"]}}}`}
	w.refused(install(long), fault.TooLarge, "the records of all packs would have", before)
}

func TestAPackOfAnotherTenant(t *testing.T) {
	w := in(t)
	w.install(tides[0], upgrade)
	before := w.picture()
	_, err := w.fresh().Install(t.Context(), omar, tides[1].bundle(), upgrade)
	w.refused(err, fault.Denied, "tenant access denied", before)
	_, err = w.fresh().Uninstall(t.Context(), omar, "tide", true)
	w.refused(err, fault.Denied, "tenant access denied", before)
	if !w.free() {
		t.Error("who was refused holds the locks")
	}
	// When it is not installed any more it is anybody's, but for what is left of it.
	_, err = w.fresh().Uninstall(t.Context(), maya, "tide", false)
	w.must(err)
	theirs := &schemas.Store{Table: w.table, Clock: w.clock}
	w.must(theirs.Register(t.Context(), omar, "tide/Gone", json.RawMessage(tides[0].schemas["Gone"])))
	before = w.picture()
	_, err = w.fresh().Uninstall(t.Context(), omar, "tide", true)
	w.must(err)
	w.same("purged by one who had not installed it", before)
	r, err := w.fresh().Install(t.Context(), omar, tides[1].bundle(), upgrade)
	w.must(err)
	if r.Tenant != "other" {
		t.Errorf("it belongs to %q", r.Tenant)
	}
	for tenant, text := range map[string]string{"default": `{"title":"tide 1"}`, "other": `{"title":"tide 2"}`} {
		if got, err := theirs.Get(t.Context(), tenant, "tide/Other"); err != nil || string(got) != text {
			t.Errorf("%s has %s, %v", tenant, got, err)
		}
		if _, err := theirs.Get(t.Context(), tenant, "tide/Gone"); err != nil {
			t.Errorf("what %s had by itself is gone: %v", tenant, err)
		}
	}
	_, err = w.fresh().Uninstall(t.Context(), maya, "tide", false)
	if !fault.Is(err, fault.Denied) {
		t.Errorf("uninstalled by who had it before: %v", err)
	}
}

// byHand installs a pack as clients do that write the documents themselves.
func (w *world) byHand(p release) {
	w.Helper()
	ctx, i := w.Context(), w.fresh()
	parsed := must(pack.Parse(p.bundle(), pack.Options{}))
	for _, s := range parsed.Schemas {
		w.must(i.Schemas.Register(ctx, maya, s.ID, s.Text))
	}
	for _, f := range parsed.Workflows {
		_, err := i.Catalog.Save(ctx, maya, f.Workflow)
		w.must(err)
	}
	var doc, timeouts, pools map[string]map[string]json.RawMessage
	w.must(json.Unmarshal([]byte(`{"topics":{},"pools":{}}`), &pools))
	var all map[string]json.RawMessage
	w.must(json.Unmarshal([]byte(w.data()), &all))
	w.must(json.Unmarshal(all["pools"], &pools))
	for _, c := range parsed.Config {
		w.must(json.Unmarshal(c.Patch, &doc))
		into := pools
		if c.Key == "timeouts" {
			timeouts = map[string]map[string]json.RawMessage{}
			into = timeouts
		}
		for section, members := range doc {
			for name, v := range members {
				if into[section] == nil {
					into[section] = map[string]json.RawMessage{}
				}
				into[section][name] = v
			}
		}
		doc = nil
	}
	w.edit(string(must(json.Marshal(map[string]any{"pools": pools, "timeouts": timeouts}))))
	fragments := map[string]any{}
	now := must(i.Bundles.Head.Latest(ctx))
	for id, raw := range now.Content.Bundles {
		fragments[id] = raw
	}
	for _, f := range parsed.Policy {
		fragments[f.FragmentID] = map[string]any{"content": f.Content, "version": p.version, "sha256": f.SHA256, "installed_at": "2026-02-12T09:00:00Z"}
	}
	w.edit(string(must(json.Marshal(map[string]any{"scope": "system", "scope_id": "policy", "data": map[string]any{"bundles": fragments}}))))
	record := map[string]any{}
	w.must(json.Unmarshal(must(json.Marshal(parsed.Record(pack.Active, "2026-02-12T09:00:00Z", "cordumctl", parsed.Config))), &record))
	record["note"] = "of a client"
	installed := map[string]any{}
	for id, r := range must(i.Packs.All(ctx)).Records {
		installed[id] = r.JSON
	}
	installed[p.id] = record
	w.edit(string(must(json.Marshal(map[string]any{"scope": "system", "scope_id": "packs", "data": map[string]any{"installed": installed}}))))
}

// What a client has installed by the routes of documents is uninstalled, and upgraded, as everything else.
func TestWhatAClientInstalledByHand(t *testing.T) {
	byHand := release{
		id: "tide", version: "1.0.0", schemas: tides[0].schemas, workflows: tides[0].workflows, policy: tides[0].policy,
		pools: `{"topics":{"job.tide.a":"tide"},"pools":{"tide":{}}}`, timeouts: tides[0].timeouts,
	}
	for _, c := range []struct {
		name   string
		others []release
		first  func(*world)
	}{
		{"uninstalled", nil, func(*world) {}},
		{"beside another pack", []release{reef}, func(*world) {}},
		{"installed again", nil, func(w *world) { w.install(byHand, install.Options{}) }},
		{"upgraded", []release{reef}, func(w *world) { w.install(tides[1], upgrade) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := in(t)
			for _, p := range c.others {
				w.install(p, upgrade)
			}
			clean := w.data()
			w.byHand(byHand)
			c.first(w)
			r, err := w.fresh().Uninstall(t.Context(), maya, "tide", true)
			w.must(err)
			if now := w.data(); now != clean {
				t.Errorf("left over: %s\nwas: %s", now, clean)
			}
			if c.name == "uninstalled" && !strings.Contains(string(r.JSON), `"note":"of a client"`) {
				t.Errorf("the record is %s", r.JSON)
			}
			if now := w.picture(); strings.Contains(now, `"schema default tide/`) || strings.Contains(now, `"workflow default tide.`) {
				t.Errorf("left over: %s", now)
			}
			if found := must(w.fresh().Bundles.Head.Latest(t.Context())).Content.Bundles; found["tide/safety"] != nil || found["tide/gone"] != nil {
				t.Error("its policy is left")
			}
		})
	}
}

// A record that a client wrote, and that says nothing that can be read, is in nobody's way but its own.
func TestARecordThatCannotBeRead(t *testing.T) {
	for junk, readable := range map[string]bool{`{"status":7}`: false, `{"overlays":"none"}`: false, `{"overlays":{"config":[{"key":"pools","patch":7}]}}`: true} {
		w := in(t)
		packs, err := (&registry.Store{Table: w.table}).All(t.Context()) // its door refuses it today
		w.must(err)
		w.must(w.table.Write(t.Context(), registry.Put(packs, registry.Record{ID: "junk", JSON: json.RawMessage(junk), Tenant: maya.Tenant}, 1)...))
		w.install(tides[0], upgrade)
		_, err = w.fresh().Uninstall(t.Context(), maya, "tide", true)
		w.must(err)
		before := w.picture()
		if readable {
			_, err := w.fresh().Uninstall(t.Context(), maya, "junk", false)
			w.must(err)
			continue
		}
		_, err = w.fresh().Uninstall(t.Context(), maya, "junk", false)
		w.refused(err, fault.Invalid, "pack junk: its record cannot be read", before)
	}
}

// What somebody has changed since: an upgrade leaves what it would remove, and a purge takes what the record names.
func TestWhatSomebodyHasChangedSince(t *testing.T) {
	w := in(t)
	w.install(tides[0], upgrade)
	i := w.fresh()
	mine := json.RawMessage(`{"title":"mine"}`)
	for _, id := range []string{"tide/Gone", "tide/Same"} {
		w.must(i.Schemas.Register(t.Context(), maya, id, mine))
	}
	_, err := i.Catalog.Save(t.Context(), maya, must(workflow.Decode([]byte(strings.Replace(flow("mine", 0), "{", `{"id":"tide.gone",`, 1)))))
	w.must(err)
	w.edit(`{"scope":"system","scope_id":"policy","data":{"bundles":{"tide/gone":{"content":` + string(must(json.Marshal(allows("mine", 1)))) + `,"sha256":"` + canonical.Hash([]byte(tides[0].policy["gone"])) + `"},` +
		`"tide/safety":` + string(must(i.Bundles.Head.Latest(t.Context())).Content.Bundles["tide/safety"]) + `}}}`)
	before := w.picture()
	_, err = w.fresh().Install(t.Context(), maya, tides[1].bundle(), install.Options{})
	w.refused(err, fault.Invalid, "exists; rerun with upgrade", before)
	w.install(tides[1], upgrade)
	bundles := must(w.fresh().Bundles.Head.Latest(t.Context())).Content.Bundles
	if bundles["tide/gone"] == nil || bundles["tide/new"] == nil {
		t.Errorf("bundles %s", bundles)
	}
	if text := must(i.Schemas.Get(t.Context(), "default", "tide/Gone")); string(text) != string(mine) {
		t.Errorf("tide/Gone is %s", text)
	}
	if w := must(i.Catalog.Get(t.Context(), "default", "tide.gone")); w.Name != "mine" {
		t.Errorf("tide.gone is %+v", w)
	}
	if text := must(i.Schemas.Get(t.Context(), "default", "tide/Same")); string(text) != tides[1].schemas["Same"] {
		t.Errorf("an upgrade has left %s", text)
	}
	w.must(i.Schemas.Register(t.Context(), maya, "tide/New", mine))
	_, err = w.fresh().Uninstall(t.Context(), maya, "tide", true)
	w.must(err)
	if _, err := i.Schemas.Get(t.Context(), "default", "tide/New"); !errors.Is(err, schemas.ErrUnknown) {
		t.Errorf("a purge leaves what the record names: %v", err)
	}
	if _, err := i.Schemas.Get(t.Context(), "default", "tide/Gone"); err != nil {
		t.Errorf("a purge takes what the record does not name: %v", err)
	}
	if _, err := i.Catalog.Get(t.Context(), "default", "tide.gone"); err != nil {
		t.Errorf("a purge takes what the record does not name: %v", err)
	}
}

// What was there before, and is the same, is the pack's from then on, and is not written again.
func TestWhatWasThereBeforeWithTheSameContent(t *testing.T) {
	w := in(t)
	i := w.fresh()
	w.must(i.Schemas.Register(t.Context(), maya, "tide/Same", json.RawMessage(`{ "title" : "same" }`)))
	_, err := i.Catalog.Save(t.Context(), maya, must(workflow.Decode([]byte(strings.Replace(tides[0].workflows["same"], "{", `{"id":"tide.same",`, 1)))))
	w.must(err)
	flows := &catalog.Store{Table: w.table, Blobs: w.blobs, Clock: w.clock}
	revision := must(flows.Current(t.Context(), "default", "tide.same")).Hash
	w.hands.turn(time.Hour)
	w.install(tides[0], install.Options{})
	if text := must(i.Schemas.Get(t.Context(), "default", "tide/Same")); string(text) != `{ "title" : "same" }` {
		t.Errorf("written again: %s", text)
	}
	if now := must(flows.Current(t.Context(), "default", "tide.same")); now.Hash != revision {
		t.Error("the workflow was written again")
	}
	_, err = w.fresh().Uninstall(t.Context(), maya, "tide", false)
	w.must(err)
	must(i.Schemas.Get(t.Context(), "default", "tide/Same"))
	_, err = w.fresh().Uninstall(t.Context(), maya, "tide", true)
	w.must(err)
	if _, err := i.Schemas.Get(t.Context(), "default", "tide/Same"); !errors.Is(err, schemas.ErrUnknown) {
		t.Errorf("purged: %v", err)
	}
}

// sleeping is a table whose process falls asleep right before its first transaction, and does what it dreams of.
type sleeping struct {
	store.Table

	once  sync.Once
	dream func(ops []store.Op) error
}

func (s *sleeping) Write(ctx context.Context, ops ...store.Op) error {
	if len(ops) > 2 {
		var err error
		if s.once.Do(func() { err = s.dream(ops) }); err != nil {
			return err
		}
	}
	return s.Table.Write(ctx, ops...)
}

// An installer that was slower than its locks writes nothing once somebody else has had them, though nothing else has changed.
func TestAnInstallerThatSleptLongerThanItsLocks(t *testing.T) {
	for name, c := range map[string]struct {
		others func(*lock.Store, string) error
		done   bool
	}{
		"nobody has": {func(*lock.Store, string) error { return nil }, true},
		"who has it still": {func(l *lock.Store, resource string) error {
			_, err := l.Acquire(t.Context(), "default", resource, "cordumctl", lock.Exclusive, time.Minute)
			return err
		}, false},
		"who has given it back": {func(l *lock.Store, resource string) error {
			if _, err := l.Acquire(t.Context(), "default", resource, "cordumctl", lock.Exclusive, time.Minute); err != nil {
				return err
			}
			_, err := l.Release(t.Context(), "default", resource, "cordumctl")
			return err
		}, false},
	} {
		for resource, says := range map[string]string{"packs:global": "global pack lock held", "pack:tide": "pack lock held"} {
			w := in(t)
			before := w.picture()
			slow := &sleeping{Table: w.table, dream: func([]store.Op) error {
				w.unlock()
				return c.others(&lock.Store{Table: w.table, Clock: w.clock}, resource)
			}}
			_, err := w.process(slow, w.blobs, w.queues).Install(t.Context(), maya, tides[0].bundle(), install.Options{})
			if c.done {
				w.must(err)
				continue
			}
			if w.refused(err, fault.Conflict, says, before); t.Failed() {
				t.Fatalf("%s, %s", name, resource)
			}
		}
	}
}

// A lock is given back although nobody heard that it was granted.
func TestALockOfWhichNobodyHeardThatItWasGranted(t *testing.T) {
	for _, taken := range []int{2, 4} { // the calls that take the two locks
		w := in(t)
		lost, deaf := mortal.New(mortal.Outage, taken), mortal.New(mortal.OutageBefore, taken+1)
		_, err := w.process(deaf.Table(lost.Table(w.table)), w.blobs, w.queues).Install(t.Context(), maya, reef.bundle(), upgrade)
		if !errors.Is(err, store.ErrUnavailable) || !deaf.Met() {
			t.Errorf("%v", err)
		}
		if !w.free() {
			t.Error("it is held for a minute")
		}
		w.install(reef, upgrade)
	}
}

// Who is told of success has written: though the head of the policy looks just as his write would have left it.
func TestAnOutageThatLooksLikeSuccess(t *testing.T) {
	w := in(t)
	w.install(tides[0], install.Options{Inactive: true})
	out := &sleeping{Table: w.table, dream: func([]store.Op) error {
		w.edit(`{"note":"somebody else's"}`)
		return fmt.Errorf("%w: not made", store.ErrUnavailable)
	}}
	_, err := w.process(out, w.blobs, w.queues).Install(t.Context(), maya, tides[0].bundle(), install.Options{})
	if r, _, got := w.fresh().Packs.Get(t.Context(), "tide"); got != nil || !strings.Contains(string(r.JSON), `"INACTIVE"`) {
		t.Fatalf("%s, %v", r.JSON, got)
	}
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("acknowledged, and nothing happened: %v", err)
	}
}

// Whoever edits the configuration, or publishes, right before an installation is written is in it.
func TestWhatOthersDoMeanwhileStays(t *testing.T) {
	w := in(t)
	overtaken := &sleeping{Table: w.table, dream: func([]store.Op) error {
		w.edit(`{"note":"new"}`)
		w.publish("mine", 2)
		if _, err := w.queues.Depth(t.Context(), resources.Pool("tide-new")); err != nil {
			t.Errorf("jobs would be routed to a pool without a queue: %v", err)
		}
		return w.fresh().Schemas.Register(t.Context(), maya, "tide/New", json.RawMessage(`{"title":"not yet"}`))
	}}
	_, err := w.process(overtaken, w.blobs, w.queues).Install(t.Context(), maya, tides[1].bundle(), upgrade)
	w.must(err)
	now := w.picture()
	for _, says := range []string{`"note": "new"`, "job.mine.t2", `"job.tide.new"`, "tide/new"} {
		if !strings.Contains(now, says) {
			t.Errorf("%s is not there:\n%s", says, now)
		}
	}
	if strings.Contains(now, "not yet") {
		t.Error("an upgrade has left another schema")
	}
}
