package overlay_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cordum-serverless/cordum/shared/core/canonical"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/core/pack/overlay"
)

func raw(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func same(t failer, got, want json.RawMessage, when string) {
	t.Helper()
	a, err := canonical.JSON(got)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := canonical.JSON(want); err != nil || string(a) != string(b) {
		t.Fatalf("%s: %s, want %s", when, a, b)
	}
}

// stored is what comes back of layers that were stored.
func stored(t failer, l overlay.Layers) (out overlay.Layers) {
	t.Helper()
	if err := json.Unmarshal(raw(l), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func on(key, patch string) pack.ConfigOverlay {
	return pack.ConfigOverlay{Name: key, Scope: "system", ScopeID: "default", Key: key, Patch: json.RawMessage(patch)}
}

// plane is a document and what lies in it.
type plane struct {
	t      failer
	doc    json.RawMessage
	layers overlay.Layers
}

func (p *plane) install(id string, overlays ...pack.ConfigOverlay) {
	p.t.Helper()
	var err error
	if p.doc, p.layers, err = p.layers.Install(p.doc, id, overlays); err != nil {
		p.t.Fatal(err)
	}
	p.layers = stored(p.t, p.layers)
}

func (p *plane) uninstall(id string) {
	p.t.Helper()
	before := string(raw(p.layers)) + string(p.doc)
	doc, layers, err := p.layers.Uninstall(p.doc, id)
	if err != nil {
		p.t.Fatal(err)
	}
	if string(raw(p.layers))+string(p.doc) != before {
		p.t.Fatal("what was given was changed")
	}
	p.doc, p.layers = doc, stored(p.t, layers)
}

func TestK17_NothingIsLeftOfAPack(t *testing.T) {
	for _, before := range []string{`{}`, `{"safety":{}}`, `{"pools":{"topics":{},"pools":{}},"timeouts":{}}`, `{"pools":{"topics":{"job.x":"a"},"pools":{"a":{}}}}`} {
		p := &plane{t: t, doc: json.RawMessage(before)}
		p.install("etl", on("pools", `{"topics":{"job.etl.load":"etl"},"pools":{"etl":{"requires":["docker"]}}}`),
			on("timeouts", `{"topics":{"job.etl.load":{"timeout_seconds":60}}}`))
		if !strings.Contains(string(p.doc), `"job.etl.load":"etl"`) || !strings.Contains(string(p.doc), `"timeout_seconds":60`) {
			t.Fatalf("not installed: %s", p.doc)
		}
		p.uninstall("etl")
		same(t, p.doc, json.RawMessage(before), "after the pack")
		if len(p.layers) != 0 {
			t.Errorf("layers are left: %s", raw(p.layers))
		}
		p.uninstall("etl") // again, harmlessly
		same(t, p.doc, json.RawMessage(before), "after the pack")
	}
}

func TestK18_AnUpgradeDropsWhatTheNewVersionHasNot(t *testing.T) {
	p := &plane{t: t, doc: json.RawMessage(`{}`)}
	p.install("etl", on("pools", `{"topics":{"job.etl.load":"etl","job.etl.old":"etl-old"},"pools":{"etl":{},"etl-old":{"requires":["gpu"]}}}`))
	p.install("etl", on("pools", `{"topics":{"job.etl.load":"etl"},"pools":{"etl":{}}}`))
	same(t, p.doc, json.RawMessage(`{"pools":{"topics":{"job.etl.load":"etl"},"pools":{"etl":{}}}}`), "upgraded")
	p.uninstall("etl")
	same(t, p.doc, json.RawMessage(`{}`), "uninstalled")
}

func TestWhatAPackFoundComesBack(t *testing.T) {
	const shared = `{"pools":{"pools":{"gpu":{"requires":["cuda"]}},"topics":{"job.x":"gpu"}}}`
	tests := []struct{ name, before, patch, with string }{
		{"a value that it overwrote", shared, `{"pools":{"gpu":{"requires":["cuda","net"]}}}`, `{"pools":{"pools":{"gpu":{"requires":["cuda","net"]}},"topics":{"job.x":"gpu"}}}`},
		{"a value that it removed", shared, `{"pools":{"gpu":{"requires":null}}}`, `{"pools":{"pools":{"gpu":{}},"topics":{"job.x":"gpu"}}}`},
		{"an object that it removed", shared, `{"pools":{"gpu":null}}`, `{"pools":{"pools":{},"topics":{"job.x":"gpu"}}}`},
		{"an object in whose place it put a value", shared, `{"pools":{"gpu":1}}`, `{"pools":{"pools":{"gpu":1},"topics":{"job.x":"gpu"}}}`},
		{"a value in whose place it put an object", shared, `{"topics":{"job.x":{"a":1}}}`, `{"pools":{"pools":{"gpu":{"requires":["cuda"]}},"topics":{"job.x":{"a":1}}}}`},
		{"null", `{"pools":{"topics":null}}`, `{"topics":{"job.a":"b"}}`, `{"pools":{"topics":{"job.a":"b"}}}`},
		{"a section that is a text", `{"pools":"none"}`, `{"topics":{"job.a":"b"}}`, `{"pools":{"topics":{"job.a":"b"}}}`},
		{"a value that was there already", shared, `{"topics":{"job.x":"gpu"}}`, shared},
		{"a number as it was written", `{"pools":{"n":1.50}}`, `{"n":2}`, `{"pools":{"n":2}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := &plane{t: t, doc: json.RawMessage(tt.before)}
			p.install("etl", on("pools", tt.patch))
			same(t, p.doc, json.RawMessage(tt.with), "installed")
			p.uninstall("etl")
			same(t, p.doc, json.RawMessage(tt.before), "uninstalled")
		})
	}
}

func TestPacksThatSetTheSameValue(t *testing.T) {
	needs := on("pools", `{"pools":{"shared":{"requires":["net"]}}}`)
	const without, with = `{"pools":{"pools":{"shared":{}}}}`, `{"pools":{"pools":{"shared":{"requires":["net"]}}}}`
	for _, order := range []string{"ab", "ba"} {
		p := &plane{t: t, doc: json.RawMessage(without)}
		p.install("a", needs)
		p.install("b", needs)
		p.uninstall(order[:1])
		same(t, p.doc, json.RawMessage(with), "the other one needs it still")
		p.uninstall(order[1:])
		same(t, p.doc, json.RawMessage(without), "both gone")
	}
}

func TestWhatSomebodyChangedSinceStays(t *testing.T) {
	const patch = `{"topics":{"job.etl.a":"etl","job.etl.b":"etl"},"pools":{"etl":{"requires":["net"]}}}`
	tests := []struct{ name, edited, left string }{
		{"a value", `{"pools":{"topics":{"job.etl.a":"mine","job.etl.b":"etl"},"pools":{"etl":{"requires":["net"]}}}}`, `{"pools":{"topics":{"job.etl.a":"mine"}}}`},
		{"a member beside", `{"pools":{"topics":{"job.etl.a":"etl","job.etl.b":"etl"},"pools":{"etl":{"requires":["net"],"note":1}}}}`, `{"pools":{"pools":{"etl":{"note":1}}}}`},
		{"a section that was taken away", `{}`, `{}`},
		{"a section that became a text", `{"pools":"none"}`, `{"pools":"none"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := &plane{t: t, doc: json.RawMessage(`{}`)}
			p.install("etl", on("pools", patch))
			p.install("other", on("pools", `{"topics":{"job.other.a":"other"}}`))
			p.doc = json.RawMessage(tt.edited)
			p.uninstall("other") // is not in the document any more, and disturbs nothing
			same(t, p.doc, json.RawMessage(tt.edited), "without the other one")
			p.uninstall("etl")
			same(t, p.doc, json.RawMessage(tt.left), "uninstalled")
		})
	}
}

// A pack that lies over another one does not undo what somebody has changed since when that one goes.
func TestAnEditOverTwoPacksStays(t *testing.T) {
	p := &plane{t: t, doc: json.RawMessage(`{"pools":{"pools":{"shared":{"requires":["x"]}}}}`)}
	p.install("a", on("pools", `{"pools":{"shared":{"requires":["a"]}}}`))
	p.install("b", on("pools", `{"pools":{"shared":{"requires":["b"]}},"topics":{"job.b.t":"shared"}}`))
	p.doc = json.RawMessage(strings.Replace(string(p.doc), `["b"]`, `["edited"]`, 1))
	p.uninstall("a")
	same(t, p.doc, json.RawMessage(`{"pools":{"pools":{"shared":{"requires":["edited"]}},"topics":{"job.b.t":"shared"}}}`), "without a")
	p.uninstall("b")
	same(t, p.doc, json.RawMessage(`{"pools":{"pools":{"shared":{"requires":["edited"]}}}}`), "without b")
}

func TestClaim(t *testing.T) {
	o := on("pools", `{"topics":{"job.etl.a":"etl"},"pools":{"etl":{"requires":[]}}}`)
	l, err := overlay.Claim("etl", o)
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{t: t, layers: overlay.Layers{l}}
	p.doc = json.RawMessage(`{"pools":{"topics":{"job.etl.a":"etl","job.x":"main"},"pools":{"etl":{"requires":["edited"]}}}}`)
	p.uninstall("etl")
	same(t, p.doc, json.RawMessage(`{"pools":{"topics":{"job.x":"main"},"pools":{"etl":{"requires":["edited"]}}}}`), "uninstalled")
}

func TestNoObjectIsRefused(t *testing.T) {
	for _, bad := range []string{`[]`, `1`, `{`, `{} {}`} {
		if _, _, err := overlay.Apply(json.RawMessage(bad), json.RawMessage(`{}`)); err == nil {
			t.Errorf("document %s", bad)
		}
		if _, _, err := overlay.Apply(json.RawMessage(`{}`), json.RawMessage(bad)); err == nil {
			t.Errorf("patch %s", bad)
		}
	}
}

func TestValidate(t *testing.T) {
	const there = `{"pools":{"topics":{"job.x":"main"},"pools":{"main":{},"gpu":{"requires":["cuda"]},"git-hub":{}}},"safety":{}}`
	pools := func(patch string) []pack.ConfigOverlay { return []pack.ConfigOverlay{on("pools", patch)} }
	tests := []struct {
		name, document string
		overlays       []pack.ConfigOverlay
		want           string
	}{
		{"K10 a pool of its own", there, pools(`{"topics":{"job.git.a":"git"},"pools":{"git":{}}}`), ""},
		{"K10 pools that begin with its id", there, pools(`{"pools":{"git-fast":{},"git_slow":{}}}`), ""},
		{"K10 an existing shared pool", there, pools(`{"topics":{"job.git.a":"gpu"},"pools":{"gpu":{"requires":["cuda","net"]}}}`), ""},
		{"K10 neither its own nor existing", there, pools(`{"pools":{"other":{}}}`),
			`pool "other" is not there, and the name of a new one must be git or begin with git- or git_`},
		{"K10 a name that only begins alike", there, pools(`{"pools":{"github":{}}}`),
			`pool "github" is not there, and the name of a new one must be git or begin with git- or git_`},
		{"K10 on a plane without a document", ``, pools(`{"topics":{"job.git.a":"git"},"pools":{"git":{}}}`), ""},
		{"K10 a topic that leads to neither", there, pools(`{"topics":{"job.git.a":"github"}}`),
			`pool "github" is not there, and the name of a new one must be git or begin with git- or git_`},
		{"K10 one of a topic's pools", there, pools(`{"topics":{"job.git.a":["git","other"]}}`),
			`pool "other" is not there, and the name of a new one must be git or begin with git- or git_`},
		{"K10 a pool that only a topic names", `{"pools":{"topics":{"job.x":["main","lone"]}}}`, pools(`{"topics":{"job.git.a":"lone"},"pools":{"main":{}}}`), ""},
		{"somebody's pool removed", there, pools(`{"pools":{"gpu":null}}`), `pool "gpu" is not the pack's, and it must not remove it`},
		{"the pool of a pack whose id begins alike removed", there, pools(`{"pools":{"git-hub":null}}`), `pool "git-hub" is not the pack's, and it must not remove it`},
		{"a pool of its own that is not there removed", there, pools(`{"pools":{"git":null}}`), ""},
		{"K09 a topic without pools", there, pools(`{"topics":{"job.git.a":[]}}`),
			`the configuration would not be valid with this pack: pools: topics["job.git.a"]: at least one pool is required`},
		{"K09 requires that are no list", there, pools(`{"pools":{"git":{"requires":"net"}}}`),
			`the configuration would not be valid with this pack: pools: pools["git"].requires: must be a list`},
		{"K09 no topics at all", `{}`, pools(`{"pools":{"git":{}}}`),
			`the configuration would not be valid with this pack: pools: topics: required, an object of topic to pool`},
		{"K09 a negative timeout", there, []pack.ConfigOverlay{on("timeouts", `{"topics":{"job.git.a":{"timeout_seconds":-1}}}`)},
			`the configuration would not be valid with this pack: timeouts: topics["job.git.a"].timeout_seconds: must not be negative`},
		{"what is wrong elsewhere is not the pack's", `{"pools":{"Topics":{}},"limits":7}`, []pack.ConfigOverlay{on("timeouts", `{"topics":{"job.git.a":{}}}`)}, ""},
		{"an entry of somebody else", `{"timeouts":{"workflows":{"x":{"total":1}},"topics":{"job.y":60}}}`,
			[]pack.ConfigOverlay{on("timeouts", `{"workflows":{"git.a":{"total_timeout_seconds":60}}}`)}, ""},
		{"a bare number of somebody else", `{"timeouts":{"workflows":{"x":120}}}`,
			[]pack.ConfigOverlay{on("timeouts", `{"workflows":{"git.a":{"total_timeout_seconds":60}}}`)}, ""},
		{"an entry of its own beside one of somebody else", `{"timeouts":{"topics":{"job.y":60}}}`,
			[]pack.ConfigOverlay{on("timeouts", `{"topics":{"job.git.a":{"timeout_seconds":-1}}}`)},
			`the configuration would not be valid with this pack: timeouts: topics["job.git.a"].timeout_seconds: must not be negative`},
		{"a section that was wrong before", `{"pools":{"Topics":{}}}`, pools(`{"topics":{"job.git.a":"git"}}`),
			`the configuration would not be valid with this pack: pools: Topics: unknown key; known here: topics, pools`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := overlay.Validate("git", tt.overlays, json.RawMessage(tt.document))
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (!fault.Is(err, fault.Invalid) || err.Error() != tt.want):
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}

// merged is RFC 7396 as it is written there.
func merged(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	t, ok := target.(map[string]any)
	out := map[string]any{}
	if ok {
		maps.Copy(out, t)
	}
	for k, v := range p {
		if v == nil {
			delete(out, k)
			continue
		}
		out[k] = merged(out[k], v)
	}
	return out
}

var (
	scalars = rapid.SampledFrom([]any{nil, true, "a", "b", 1, []any{}, []any{"a", nil}, []any{map[string]any{"a": nil}}})
	keys    = rapid.SampledFrom([]string{"a", "b", "c"})
)

func objects(depth int) *rapid.Generator[map[string]any] {
	value := scalars
	if depth > 0 {
		value = rapid.OneOf(scalars, rapid.Map(objects(depth-1), func(m map[string]any) any { return m }), rapid.Map(objects(depth-1), func(m map[string]any) any { return m }))
	}
	return rapid.MapOfN(keys, value, 0, 3)
}

func TestApplyThenTakeBackIsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc, patch := objects(3).Draw(t, "document"), objects(3).Draw(t, "patch")
		after, undo, err := overlay.Apply(raw(doc), raw(patch))
		if err != nil {
			t.Fatal(err)
		}
		same(t, after, raw(merged(doc, patch)), "applied")
		var again overlay.Undo
		if err := json.Unmarshal(raw(undo), &again); err != nil {
			t.Fatal(err)
		}
		before, err := overlay.TakeBack(after, again)
		if err != nil {
			t.Fatal(err)
		}
		same(t, before, raw(doc), "taken back")
	})
}

// In whatever order packs come, are upgraded and go, what is there is at any time what the patches of those that are installed make of the beginning.
func TestAnyOrderOfPacks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := objects(3).Draw(t, "document")
		p := &plane{t: t, doc: raw(base)}
		type installed struct {
			id      string
			patches []pack.ConfigOverlay
		}
		var model []installed
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			id := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "pack")
			model = slices.DeleteFunc(model, func(i installed) bool { return i.id == id })
			if rapid.Bool().Draw(t, "install") {
				var patches []pack.ConfigOverlay
				for range rapid.IntRange(0, 2).Draw(t, "overlays") {
					patches = append(patches, on(keys.Draw(t, "key"), string(raw(objects(2).Draw(t, "patch")))))
				}
				model = append(model, installed{id, patches})
				p.install(id, patches...)
			} else {
				p.uninstall(id)
			}
			var want any = base
			for _, i := range model {
				for _, o := range i.patches {
					var patch any
					if err := json.Unmarshal(o.Patch, &patch); err != nil {
						t.Fatal(err)
					}
					want = merged(want, map[string]any{o.Key: patch})
				}
			}
			same(t, p.doc, raw(want), "after a step")
		}
		for _, id := range []string{"y", "x", "z"} {
			p.uninstall(id)
		}
		same(t, p.doc, raw(base), "at the end")
	})
}

// What somebody else writes beside and over the patches of packs survives whatever becomes of them.
func TestEditsOfOthersSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &plane{t: t, doc: raw(objects(2).Draw(t, "document"))}
		edits := map[string]any{}
		for n := range rapid.IntRange(2, 12).Draw(t, "steps") {
			id := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "pack")
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				p.install(id, on(keys.Draw(t, "key"), string(raw(objects(2).Draw(t, "patch")))))
				edits = map[string]any{} // a pack that is installed writes over what is there
			case 1:
				p.uninstall(id)
			case 2:
				var doc map[string]any
				if err := json.Unmarshal(p.doc, &doc); err != nil {
					t.Fatal(err)
				}
				key, mine := keys.Draw(t, "where"), fmt.Sprintf("edit %d", n)
				doc[key] = mine // a value that no pack ever sets
				edits[key] = mine
				p.doc = raw(doc)
			}
			var doc map[string]any
			if err := json.Unmarshal(p.doc, &doc); err != nil {
				t.Fatal(err)
			}
			for key, mine := range edits {
				if doc[key] != mine {
					t.Fatalf("%s is %v, want %v", key, doc[key], mine)
				}
			}
		}
	})
}
