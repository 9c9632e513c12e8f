package install_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cordum-serverless/cordum/shared/core/canonical"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/core/pack/install"
	"github.com/cordum-serverless/cordum/shared/core/pack/registry"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	"github.com/cordum-serverless/cordum/shared/core/workflow"
)

// drawn is a version of a pack, one of few: all of them use the pool shared, and most are about the same things in different words.
func drawn(t *rapid.T, id string, n int) *pack.Pack {
	some := func(of, kind string, text func(string) string) map[string]string {
		out := map[string]string{}
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"one", "two"}), 0, 2, rapid.ID[string]).Draw(t, of) {
			out[name] = text(fmt.Sprintf("%s %s %d", kind, name, rapid.IntRange(1, 2).Draw(t, "content")))
		}
		return out
	}
	p := release{
		id: id, version: fmt.Sprint(n),
		schemas:   some("schemas", "schema", func(s string) string { return fmt.Sprintf(`{"title":%q}`, s) }),
		workflows: some("workflows", "workflow", func(s string) string { return flow(s, 0) }),
		policy: some("bundles", id, func(s string) string {
			return fmt.Sprintf("rules: [{id: %q, match: {topics: [job.%s.x]}, decision: deny}]", s, id)
		}),
	}
	needs := rapid.SampledFrom([]string{`["x"]`, `["y"]`, `[]`, `null`})
	switch rapid.IntRange(0, 3).Draw(t, "pools") {
	case 0:
	case 1:
		p.pools = fmt.Sprintf(`{"topics":{"job.%s.a":"shared"},"pools":{"shared":{"requires":%s}}}`, id, needs.Draw(t, "needs"))
	default:
		p.pools = fmt.Sprintf(`{"topics":{"job.%s.a":%q,"job.%[1]s.b":"shared"},"pools":{%[2]q:{"requires":%s},"shared":{"requires":%s}}}`,
			id, id, needs.Draw(t, "needs"), needs.Draw(t, "needs"))
	}
	if rapid.Bool().Draw(t, "timeouts") {
		p.timeouts = fmt.Sprintf(`{"topics":{"job.%s.a":{"timeout_seconds":%d}}}`, id, rapid.IntRange(1, 2).Draw(t, "seconds"))
	}
	parsed, err := pack.Parse(p.bundle(), pack.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// edits are what people may change, by paths, to what no pack ever sets.
var edits = [][]string{{"note"}, {"pools", "topics", "job.x"}, {"pools", "topics", "job.a.a"}, {"timeouts", "topics", "job.b.a"}, {"pools", "pools", "a"}}

// plane is a State, and what is known of it.
type plane struct {
	install.State

	// base is the document with what people have changed, as if no pack had ever been.
	base map[string]any
	// theirs are schemas and workflows that people have changed since.
	theirs map[string]bool
	off    map[string]bool
}

func (p *plane) edit(t *rapid.T) {
	path, value := rapid.SampledFrom(edits).Draw(t, "path"), any("own")
	switch path[0] + path[len(path)-1] {
	case "timeoutsjob.b.a":
		value = map[string]any{"timeout_seconds": 77}
	case "poolsa":
		value = map[string]any{"requires": []any{"own"}}
	}
	var doc map[string]any
	if err := json.Unmarshal(p.Document, &doc); err != nil {
		t.Fatal(err)
	}
	put(doc, path, value)
	put(p.base, path, value)
	p.Document = must(json.Marshal(doc))
}

func put(doc map[string]any, path []string, v any) {
	for _, key := range path[:len(path)-1] {
		if doc[key] == nil {
			doc[key] = map[string]any{}
		}
		doc = doc[key].(map[string]any)
	}
	doc[path[len(path)-1]] = v
}

// check fails when a record says what is not so.
func (p *plane) check(t *rapid.T) {
	for id, stored := range p.Records {
		r, err := pack.ReadRecord(stored.JSON)
		if err != nil {
			t.Fatal(err)
		}
		mine := slices.DeleteFunc(slices.Sorted(maps.Keys(p.Bundles)), func(bundle string) bool { return !strings.HasPrefix(bundle, id+"/") })
		var named []string
		if r.Status == pack.Disabled {
			if len(stored.Undo) > 0 {
				t.Fatalf("%s is uninstalled, and keeps %s", id, stored.Undo)
			}
		} else {
			for _, f := range r.Overlays.Policy {
				named = append(named, f.FragmentID)
			}
			for name, digest := range r.Resources.Schemas {
				if got := digestOf(p.Schemas[name], pack.SchemaDigest); got != digest && !p.theirs[name] {
					t.Fatalf("schema %s is %s", name, p.Schemas[name])
				}
			}
			for name, digest := range r.Resources.Workflows {
				if f := p.Workflows[name]; (f == nil || must(pack.WorkflowDigest(f)) != digest) && !p.theirs[name] {
					t.Fatalf("workflow %s is %+v", name, f)
				}
			}
		}
		if slices.Sort(named); !slices.Equal(named, mine) {
			t.Fatalf("%s %s names the bundles %v; there are %v", id, r.Status, named, mine)
		}
		for _, bundle := range mine {
			if b, _ := head.ParseBundle(p.Bundles[bundle]); b.Version != r.Version || b.Enabled == p.off[bundle] {
				t.Fatalf("bundle %s is %s", bundle, p.Bundles[bundle])
			}
		}
	}
}

func digestOf(text json.RawMessage, of func(json.RawMessage) (string, error)) string {
	if text == nil {
		return ""
	}
	return must(of(text))
}

// Whatever packs come, change and go in whatever order, and whatever people do meanwhile: records say what is there, what is installed is not installed again,
// and when all are gone there is what people made, and nothing else.
func TestAnyOrderOfPacksLeavesWhatPeopleMade(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		versions := map[string][]*pack.Pack{}
		for _, id := range []string{"a", "b"} {
			versions[id] = []*pack.Pack{drawn(t, id, 1), drawn(t, id, 2)}
		}
		p := &plane{theirs: map[string]bool{}, off: map[string]bool{}}
		p.State = install.State{
			Records: map[string]registry.Record{}, Schemas: map[string]json.RawMessage{"mine": []byte(`{}`)}, Workflows: map[string]*workflow.Workflow{},
			Bundles:  map[string]json.RawMessage{"secops/mine": []byte(`"rules: []"`)},
			Document: []byte(`{"pools":{"topics":{"job.x":"shared"},"pools":{"shared":{"requires":["z"]},"own":{}}}}`),
		}
		if err := json.Unmarshal(p.Document, &p.base); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 14).Draw(t, "steps") {
			p.step(t, versions)
			p.check(t)
		}
		for _, id := range rapid.Permutation([]string{"a", "b"}).Draw(t, "the end") {
			if _, err := p.Uninstall(maya, id, true); p.Records[id].JSON != nil && err != nil {
				t.Fatal(err)
			}
		}
		p.check(t)
		if now, want := must(canonical.JSON(p.Document)), must(canonical.JSON(must(json.Marshal(p.base)))); string(now) != string(want) {
			t.Fatalf("left over: %s\nwant: %s", now, want)
		}
		left := slices.Concat(slices.Sorted(maps.Keys(p.Schemas)), slices.Sorted(maps.Keys(p.Workflows)), slices.Sorted(maps.Keys(p.Bundles)))
		for _, id := range left {
			if id != "mine" && id != "secops/mine" && !p.theirs[id] {
				t.Fatalf("left over: %s", left)
			}
		}
	})
}

func (p *plane) step(t *rapid.T, versions map[string][]*pack.Pack) {
	id := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "pack")
	switch rapid.SampledFrom([]string{"off", "install", "edit", "uninstall", "theirs", "install", "install"}).Draw(t, "what") {
	case "install":
		v := rapid.SampledFrom(versions[id]).Draw(t, "version")
		o := install.Options{Upgrade: true, Inactive: rapid.IntRange(0, 3).Draw(t, "inactive") == 0}
		if _, err := p.Install(maya, v, o); err != nil {
			t.Fatal(err)
		}
		for _, s := range v.Schemas {
			delete(p.theirs, s.ID)
		}
		if changed, err := p.Install(maya, v, install.Options{Inactive: o.Inactive}); changed || err != nil {
			t.Fatalf("installed again: %v, %v", changed, err)
		}
		maps.DeleteFunc(p.off, func(bundle string, _ bool) bool { return p.Bundles[bundle] == nil })
	case "uninstall":
		if _, err := p.Uninstall(maya, id, rapid.Bool().Draw(t, "purge")); err != nil && p.Records[id].JSON != nil {
			t.Fatal(err)
		}
		maps.DeleteFunc(p.off, func(bundle string, _ bool) bool { return p.Bundles[bundle] == nil })
	case "edit":
		p.edit(t)
	case "off":
		for bundle, raw := range p.Bundles {
			if strings.HasPrefix(bundle, id+"/") {
				var members map[string]any
				if err := json.Unmarshal(raw, &members); err != nil {
					t.Fatal(err)
				}
				members["enabled"], p.off[bundle] = false, true
				p.Bundles[bundle] = must(json.Marshal(members))
			}
		}
	case "theirs":
		name := id + "/" + rapid.SampledFrom([]string{"one", "two"}).Draw(t, "schema")
		p.theirs[name] = true
		if p.Schemas[name] = []byte(`{"title":"theirs"}`); rapid.Bool().Draw(t, "deleted") {
			delete(p.Schemas, name)
		}
	}
}
