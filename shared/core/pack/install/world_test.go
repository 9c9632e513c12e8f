package install_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/canonical"
	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/config/documents"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/lock"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/core/pack/archive"
	"github.com/cordum-serverless/cordum/shared/core/pack/install"
	"github.com/cordum-serverless/cordum/shared/core/pack/registry"
	"github.com/cordum-serverless/cordum/shared/core/policy/bundles"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	"github.com/cordum-serverless/cordum/shared/core/policy/override"
	schemas "github.com/cordum-serverless/cordum/shared/core/schema/registry"
	"github.com/cordum-serverless/cordum/shared/core/workflow/catalog"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var (
	maya = identity.Identity{Tenant: "default", Home: "default", Role: identity.Admin, Principal: "maya"}
	omar = identity.Identity{Tenant: "other", Home: "other", Role: identity.Admin, Principal: "omar"}
)

// failer is a test, or one case of a property.
type failer interface {
	Helper()
	Context() context.Context
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// hands are a clock that somebody turns.
type hands struct{ micros atomic.Int64 }

func (h *hands) Now() time.Time { return time.UnixMicro(h.micros.Load()).UTC() }

func (h *hands) turn(d time.Duration) { h.micros.Add(d.Microseconds()) }

// world is a platform, and what stands on it.
type world struct {
	failer

	platform *embedded.Platform
	meter    *store.Meter
	table    store.Table
	blobs    blob.Store
	queues   queue.Queues
	hands    *hands
	clock    clock.Clock
}

func newWorld(t failer, unruly uint64) *world {
	t.Helper()
	w := &world{failer: t, meter: &store.Meter{}, hands: &hands{}}
	w.hands.micros.Store(time.Date(2026, 2, 12, 9, 0, 0, 0, time.UTC).UnixMicro())
	w.clock = w.hands
	var err error
	w.platform, err = embedded.Open("", embedded.Options{Memory: true, Unruly: unruly, Meter: w.meter})
	w.must(err)
	w.table, w.blobs, w.queues = w.platform.Table(), w.platform.Blobs(), w.platform.Queues()
	w.must(w.queues.Ensure(w.Context(), resources.Queues()...))
	return w
}

func (w *world) close() { w.must(w.platform.Close()) }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// process is another process: it shares nothing with others but the platform.
func (w *world) process(table store.Table, blobs blob.Store, queues queue.Queues) *install.Installer {
	i := install.New(&dispatch.Dispatcher{
		Jobs: &job.Store{Table: table, Blobs: blobs}, Policy: &head.Store{Table: table, Blobs: blobs}, Queues: queues, Clock: w.clock,
	}, pack.Options{CoreVersion: "0.9.0"})
	i.Changed = func(context.Context, string, string) {} // nobody listens
	return i
}

// fresh is another process, a second later: entries of the trail are in the order of their times.
func (w *world) fresh() *install.Installer {
	w.hands.turn(time.Second)
	return w.process(w.table, w.blobs, w.queues)
}

func (w *world) documents() *documents.Store {
	i := w.fresh()
	return &documents.Store{
		Config: i.Config, Bundles: i.Bundles, Packs: i.Packs, Audit: &audit.Log{Table: w.table}, Queues: w.queues, Clock: w.clock,
	}
}

// edit changes a document as clients do.
func (w *world) edit(body string) {
	w.Helper()
	c, err := documents.Parse([]byte(body))
	w.must(err)
	_, err = w.documents().Set(w.Context(), maya, c)
	w.must(err)
}

func (w *world) install(p release, o install.Options) registry.Record {
	w.Helper()
	r, err := w.fresh().Install(w.Context(), maya, p.bundle(), o)
	w.must(err)
	return r
}

// upgrade replaces what is in the way.
var upgrade = install.Options{Upgrade: true}

// release is a version of a pack.
type release struct {
	id, version string
	// schemas and workflows are JSON by the last part of their ids, policy YAML by its name; pools and timeouts are patches, "" for none.
	schemas, workflows, policy map[string]string
	pools, timeouts            string
}

func (r release) bundle() []byte {
	type entry map[string]string
	files := map[string][]byte{}
	file := func(path, text string) string {
		files[path] = []byte(text)
		return path
	}
	listed := map[string][]entry{"schemas": {}, "workflows": {}}
	for name, text := range r.schemas {
		listed["schemas"] = append(listed["schemas"], entry{"id": r.id + "/" + name, "path": file("schemas/"+name+".json", text)})
	}
	for name, text := range r.workflows {
		listed["workflows"] = append(listed["workflows"], entry{"id": r.id + "." + name, "path": file("workflows/"+name+".json", text)})
	}
	over := map[string][]entry{}
	for _, one := range [][2]string{{"pools", r.pools}, {"timeouts", r.timeouts}} {
		if one[1] != "" {
			over["config"] = append(over["config"], entry{"name": one[0], "key": one[0], "path": file("overlays/"+one[0]+".json", one[1])})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.policy)) {
		over["policy"] = append(over["policy"], entry{"name": name, "path": file("policy/"+name+".yaml", r.policy[name])})
	}
	manifest, err := json.Marshal(map[string]any{
		"metadata": entry{"id": r.id, "version": r.version}, "compatibility": map[string]int{"protocolVersion": 1}, "resources": listed, "overlays": over,
	})
	if err != nil {
		panic(err)
	}
	file("pack.yaml", string(manifest))
	bundle, err := archive.Write(files)
	if err != nil {
		panic(err)
	}
	return bundle
}

// tides are two versions of a pack that has everything: what is changed, what is new and what is gone, and a text so large that it lies in the blob store.
var tides = [2]release{{
	id: "tide", version: "1.0.0",
	schemas:   map[string]string{"Same": `{"title":"same"}`, "Other": `{"title":"tide 1"}`, "Gone": `{"title":"gone"}`},
	workflows: map[string]string{"flow": flow("tide 1", 0), "same": flow("same", 0), "gone": flow("gone", 0)},
	policy:    map[string]string{"safety": allows("tide", 1), "gone": allows("tide", 9)},
	pools:     `{"topics":{"job.tide.a":"tide","job.tide.gone":"tide-gone"},"pools":{"tide":{},"tide-gone":{},"shared":{"requires":["tide-1"]}}}`,
	timeouts:  `{"topics":{"job.tide.a":{"timeout_seconds":60}},"workflows":{"tide.flow":{"total_timeout_seconds":60}}}`,
}, {
	id: "tide", version: "2.0.0",
	schemas:   map[string]string{"Same": `{"title":"same"}`, "Other": `{"title":"tide 2"}`, "New": `{"title":"new"}`},
	workflows: map[string]string{"flow": flow("tide 2", 40<<10), "same": flow("same", 0), "new": flow("new", 0)},
	policy:    map[string]string{"safety": allows("tide", 2), "new": allows("tide", 8)},
	pools:     `{"topics":{"job.tide.a":"tide","job.tide.new":"tide-new"},"pools":{"tide":{"requires":["two"]},"tide-new":{},"shared":{"requires":["tide-2"]}}}`,
	timeouts:  `{"topics":{"job.tide.a":{"timeout_seconds":120}}}`,
}}

// reef is another pack, which overlaps with it.
var reef = release{
	id: "reef", version: "1.0.0", schemas: map[string]string{"A": `{"title":"reef"}`}, policy: map[string]string{"safety": allows("reef", 1)},
	pools: `{"topics":{"job.reef.a":"shared"},"pools":{"shared":{"requires":["reef"]}}}`,
}

// flow is a workflow that has rules of its own and is as large as asked for.
func flow(name string, size int) string {
	return fmt.Sprintf(`{"name":%q,"description":%q,"policy_override":"rules: [{id: own, match: {topics: [job.tide.*]}, decision: allow, reason: %s}]",`+
		`"steps":{"a":{"type":"approval"}}}`, name, strings.Repeat("x", size), name)
}

// allows is a policy with one rule.
func allows(id string, n int) string {
	return fmt.Sprintf("rules: [{id: %s-%d, match: {topics: [job.%s.t%d]}, decision: allow}]\n", id, n, id, n)
}

// settled is a world in which others have been, and another pack is.
func settled(t failer, unruly uint64) *world {
	t.Helper()
	w := newWorld(t, unruly)
	w.edit(`{"pools":{"topics":{"job.x":"shared"},"pools":{"shared":{"requires":[]}}},"note":` + string(must(json.Marshal(strings.Repeat("x", 33<<10)))) + `}`)
	w.publish("mine", 1)
	return w
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// publish puts a bundle of an operator in force.
func (w *world) publish(name string, n int) {
	w.Helper()
	b := w.fresh().Bundles
	_, err := b.Put(w.Context(), maya, "secops/"+name, bundles.Wish{Content: allows(name, n)})
	w.must(err)
	_, err = b.Publish(w.Context(), maya, []string{"secops/" + name}, bundles.Words{})
	w.must(err)
}

// unlock ends the locks of those who are gone, as their time does.
func (w *world) unlock() { w.hands.turn(61 * time.Second) }

var (
	times = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
	names = regexp.MustCompile(`draft [0-9a-f]{16}`)
)

// picture is everything that a change of a pack may touch, as text, but for the time of day; a name that is in it twice has an entry twice.
func (w *world) picture() string {
	w.Helper()
	ctx, i := w.Context(), w.fresh()
	shown := map[string]any{}
	packs, err := i.Packs.All(ctx)
	w.must(err)
	shown["packs, revision"] = packs.Revision
	for id, r := range packs.Records {
		shown["pack "+id] = map[string]any{"json": r.JSON, "undo": json.RawMessage(orNull(r.Undo)), "tenant": r.Tenant, "revision": r.Revision}
	}
	d, err := i.Config.Get(ctx, config.SystemScope, config.DefaultID)
	w.must(err)
	shown["config"], shown["config, revision"] = d.Data, d.Revision
	settings, problems, err := i.Config.Compile(ctx, config.Document{Data: []byte(`{"pools":1,"timeouts":1}`)}, nil)
	w.must(err)
	shown["last valid"] = fmt.Sprint(settings.Topology.Pools(), len(problems))
	now, err := i.Bundles.Head.Latest(ctx)
	w.must(err)
	shown["head"], shown["head, revision"] = now.Content.Bundles, now.Revision
	if shown["policies"], err = i.Bundles.Head.History(ctx); err != nil {
		w.Fatal(err)
	}
	if shown["bundles, revision"], err = i.Bundles.Revision(ctx); err != nil {
		w.Fatal(err)
	}
	for _, tenant := range []string{"default", "other"} {
		w.must(w.owned(ctx, tenant, shown))
	}
	text, err := json.MarshalIndent(shown, "", " ")
	w.must(err)
	return names.ReplaceAllString(times.ReplaceAllString(string(text), "TIME"), "draft NAME")
}

func orNull(text []byte) []byte {
	if text == nil {
		return []byte("null")
	}
	return text
}

// owned adds what a tenant has to a picture.
func (w *world) owned(ctx context.Context, tenant string, shown map[string]any) error {
	sc := &schemas.Store{Table: w.table, Clock: w.clock}
	ids, err := sc.List(ctx, tenant, 500)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if shown["schema "+tenant+" "+id], err = sc.Get(ctx, tenant, id); err != nil {
			return err
		}
	}
	flows, err := (&catalog.Store{Table: w.table, Blobs: w.blobs, Clock: w.clock}).List(ctx, tenant)
	if err != nil {
		return err
	}
	for _, f := range flows {
		shown["workflow "+tenant+" "+f.ID] = f
	}
	for _, id := range []string{"tide.flow", "tide.same", "tide.gone", "tide.new"} {
		if it, err := w.table.Get(ctx, override.Key(tenant, id)); err == nil {
			shown["rules "+tenant+" "+id] = it.Attrs
		}
	}
	entries, _, err := (&audit.Log{Table: w.table}).List(ctx, tenant, 500, 0)
	for n, e := range slices.Backward(entries) {
		e.ID, e.At = "", 0
		shown[fmt.Sprintf("audit %s %03d", tenant, len(entries)-n)] = e
	}
	return err
}

// same fails when a picture is not as it was.
func (w *world) same(what, before string) {
	w.Helper()
	if now := w.picture(); now != before {
		w.Errorf("%s: something has changed:\n%s", what, difference(before, now))
	}
}

// difference are the lines that only one of two texts has.
func difference(before, after string) string {
	var out strings.Builder
	for _, side := range []struct{ sign, of, than string }{{"-", before, after}, {"+", after, before}} {
		for line := range strings.Lines(side.of) {
			if !strings.Contains(side.than, line) {
				fmt.Fprintf(&out, "%s %.300s\n", side.sign, strings.TrimSuffix(line, "\n"))
			}
		}
	}
	return out.String()
}

// free says whether nobody holds a lock of packs.
func (w *world) free() bool {
	w.Helper()
	locks := &lock.Store{Table: w.table, Clock: w.clock}
	for _, resource := range []string{"packs:global", "pack:tide", "pack:reef"} {
		if _, err := locks.Get(w.Context(), "default", resource); err == nil {
			return false
		}
	}
	return true
}

// data is that of system/default, in canonical form.
func (w *world) data() string {
	w.Helper()
	d, err := w.fresh().Config.Get(w.Context(), config.SystemScope, config.DefaultID)
	w.must(err)
	return string(must(canonical.JSON(d.Data)))
}

var _ failer = (*testing.T)(nil)
