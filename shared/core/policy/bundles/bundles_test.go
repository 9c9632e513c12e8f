package bundles_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/bundles"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/chaos/mortal"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var maya = identity.Identity{Tenant: "default", Home: "default", Role: identity.Admin, Principal: "maya"}

// world is a platform, and what stands on it.
type world struct {
	*testing.T

	table store.Table
	blobs blob.Store
}

func newWorld(t *testing.T, unruly uint64) *world {
	t.Helper()
	p, err := embedded.Open("", embedded.Options{Memory: true, Unruly: unruly})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{t, p.Table(), p.Blobs()}
}

// process is another process: it shares no cache.
func (w *world) process(table store.Table, blobs blob.Store) *bundles.Store {
	return &bundles.Store{Table: table, Head: &head.Store{Table: table, Blobs: blobs}, Clock: clock.System{}}
}

func (w *world) fresh() *bundles.Store { return w.process(w.table, w.blobs) }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) put(id, content string) {
	w.Helper()
	_, err := w.fresh().Put(w.Context(), maya, id, bundles.Wish{Content: content})
	w.must(err)
}

// decides answers what the policy in force says about a topic: "ALLOW by r1".
func (w *world) decides(topic string) string {
	w.Helper()
	h, err := w.fresh().Head.Current(w.Context())
	w.must(err)
	d := h.Policy.Decide(&policy.Request{Topic: topic, Tenant: "default"})
	return fmt.Sprintf("%s by %s", d.Verdict, d.RuleID)
}

// picture is everything that a change of bundles may write, as text.
func (w *world) picture() string {
	w.Helper()
	ctx, s := w.Context(), w.fresh()
	now, err := s.Head.Latest(ctx)
	w.must(err)
	all, _, err := s.List(ctx)
	w.must(err)
	kept, err := s.Copies(ctx)
	w.must(err)
	entries, _, err := (&audit.Log{Table: w.table}).List(ctx, "default", 100, 0)
	w.must(err)
	history, err := s.Head.History(ctx)
	w.must(err)
	text, err := json.MarshalIndent(map[string]any{
		"revision": now.Revision, "in force": now.Content.Bundles, "seen": all, "copies": kept, "audit": entries, "history": history,
	}, "", " ")
	w.must(err)
	return string(text)
}

func allows(topic, rule string) string {
	return fmt.Sprintf("rules: [{id: %s, match: {topics: [%s]}, decision: allow}]", rule, topic)
}

// TestACrashAtAnyLineLeavesEverythingOrNothing: a process dies at each call that a change makes, before it takes effect and after.
func TestACrashAtAnyLineLeavesEverythingOrNothing(t *testing.T) {
	for name, change := range map[string]func(context.Context, *bundles.Store) error{
		"publish": func(ctx context.Context, s *bundles.Store) error {
			_, err := s.Publish(ctx, maya, nil, bundles.Words{Note: "n", Message: "m"})
			return err
		},
		"rollback": func(ctx context.Context, s *bundles.Store) error {
			kept, err := s.Copies(ctx)
			if err == nil {
				_, err = s.Rollback(ctx, maya, kept[len(kept)-1].ID, bundles.Words{})
			}
			return err
		},
		"delete":         func(ctx context.Context, s *bundles.Store) error { return s.Delete(ctx, maya, "secops/b") },
		"delete a draft": func(ctx context.Context, s *bundles.Store) error { return s.Delete(ctx, maya, "secops/c") },
		"put": func(ctx context.Context, s *bundles.Store) error {
			_, err := s.Put(ctx, maya, "secops/b", bundles.Wish{Content: allows("job.z", "z")})
			return err
		},
		"capture": func(ctx context.Context, s *bundles.Store) error { _, err := s.Capture(ctx, maya, "n"); return err },
	} {
		t.Run(name, func(t *testing.T) {
			survived := false
			for at := 1; !survived; at++ {
				for _, fate := range []mortal.Fate{mortal.DeathBefore, mortal.Death} {
					w := newWorld(t, 0)
					w.put("secops/a", allows("job.a", "a"))
					w.put("secops/b", allows("job.b", "b"))
					_, err := w.fresh().Publish(t.Context(), maya, nil, bundles.Words{})
					w.must(err)
					w.put("secops/b", allows("job.b2", "b2"))
					w.put("secops/c", allows("job.c", "c"))
					before := w.picture()
					p := mortal.New(fate, at)
					failed := change(t.Context(), w.process(p.Table(w.table), p.Blobs(w.blobs)))
					survived = failed == nil && !p.Met()
					now := w.picture()
					if now == before {
						if failed == nil {
							t.Fatalf("%s at call %d: acknowledged, and nothing happened", fate, at)
						}
						continue
					}
					if name != "put" && name != "capture" && name != "delete a draft" && strings.Count(now, `"action"`) != strings.Count(before, `"action"`)+1 {
						t.Fatalf("%s at call %d: %v\n%s", fate, at, failed, now)
					}
					whole := map[string]func() bool{
						"publish": func() bool {
							return w.decides("job.b2") == "ALLOW by b2" && w.decides("job.c") == "ALLOW by c" && !strings.Contains(now, `"Draft": true`)
						},
						"rollback": func() bool { return w.decides("job.a") == "DENY by " && strings.Count(now, `"Draft": true`) == 2 },
						"delete":   func() bool { return w.decides("job.b") == "DENY by " && strings.Count(now, `"Draft": true`) == 1 },
					}[name]
					if whole != nil && !whole() {
						t.Fatalf("%s at call %d: half a change: %v\n%s", fate, at, failed, now)
					}
				}
			}
		})
	}
}

// TestConcurrentPublishesAreAllInForce: 20 of different bundles, on a platform whose writes conflict; nobody's is lost, and each was copied before and
// after.
func TestConcurrentPublishesAreAllInForce(t *testing.T) {
	for _, unruly := range []uint64{0, 7} {
		w := newWorld(t, unruly)
		const n = 20
		for i := range n {
			w.put(fmt.Sprintf("secops/p%02d", i), allows(fmt.Sprintf("job.p%02d", i), fmt.Sprintf("r%02d", i)))
		}
		var publishing sync.WaitGroup
		failed := make([]error, n)
		for i := range n {
			publishing.Go(func() {
				id := fmt.Sprintf("secops/p%02d", i)
				for { // a client that hears of a conflict asks again
					_, failed[i] = w.fresh().Publish(t.Context(), maya, []string{id}, bundles.Words{})
					if !fault.Is(failed[i], fault.Conflict) {
						return
					}
				}
			})
		}
		publishing.Wait()
		w.must(errors.Join(failed...))
		for i := range n {
			if got, want := w.decides(fmt.Sprintf("job.p%02d", i)), fmt.Sprintf("ALLOW by r%02d", i); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		all, _, err := w.fresh().List(t.Context())
		w.must(err)
		if len(all) != n || slices.ContainsFunc(all, func(v bundles.View) bool { return v.Draft || !v.Enabled }) {
			t.Errorf("%+v", all)
		}
		entries, _, err := (&audit.Log{Table: w.table}).List(t.Context(), "default", 100, 0)
		w.must(err)
		publishes := map[string]bool{}
		for _, e := range entries {
			if e.Action == "publish" {
				publishes[strings.Join(e.BundleIDs, ",")] = true
			}
		}
		if len(publishes) != n {
			t.Errorf("%d publishes in the audit trail", len(publishes))
		}
	}
}

// between does something right before a publish writes.
type between struct {
	store.Table

	once sync.Once
	do   func()
}

func (b *between) Write(ctx context.Context, ops ...store.Op) error {
	if len(ops) > 2 {
		b.once.Do(b.do)
	}
	return b.Table.Write(ctx, ops...)
}

// TestADraftThatIsPutWhileItsPublishRuns is not lost: the publish takes up the newer one.
func TestADraftThatIsPutWhileItsPublishRuns(t *testing.T) {
	w := newWorld(t, 0)
	w.put("secops/a", allows("job.old", "old"))
	racing := &between{Table: w.table, do: func() { w.put("secops/a", allows("job.new", "new")) }}
	_, err := w.process(racing, w.blobs).Publish(t.Context(), maya, nil, bundles.Words{})
	w.must(err)
	if got := w.decides("job.new"); got != "ALLOW by new" {
		t.Errorf("the newer draft: %s", got)
	}
	if got := w.decides("job.old"); got != "DENY by " {
		t.Errorf("the older draft: %s", got)
	}
}

// TestACaptureWhileAPublishRuns: neither takes the other's copy away.
func TestACaptureWhileAPublishRuns(t *testing.T) {
	w := newWorld(t, 0)
	w.put("secops/a", allows("job.a", "a"))
	racing := &between{Table: w.table, do: func() {
		_, err := w.fresh().Capture(t.Context(), maya, "in between")
		w.must(err)
	}}
	c, err := w.process(racing, w.blobs).Publish(t.Context(), maya, nil, bundles.Words{})
	w.must(err)
	kept, err := w.fresh().Copies(t.Context())
	w.must(err)
	found := map[string]bool{}
	for _, k := range kept {
		found[k.ID], found[k.Note] = true, true
	}
	if !found[c.Before] || !found[c.After] || !found["in between"] {
		t.Errorf("%+v after %+v", kept, c)
	}
}

// TestEdit is the door of the configuration document and of packs: in force at once, validated, together with what the caller writes.
func TestEdit(t *testing.T) {
	w := newWorld(t, 0)
	w.put("secops/a", allows("job.a", "a"))
	mark := store.Key{PK: "TEST", SK: "X"}
	install := func(content, note string) error {
		return w.fresh().Edit(t.Context(), func(bs map[string]json.RawMessage) error {
			bs["db/safety"] = json.RawMessage(content)
			return nil
		}, func(before, after head.Version) []store.Op {
			return []store.Op{store.Put(store.Item{Key: mark, Attrs: store.Attrs{"note": note, "from": before.Revision, "to": after.Revision}})}
		})
	}
	w.must(install(`{"content":"rules: [{id: p, match: {topics: [job.db]}, decision: allow}]","version":"1.2.0","installed_at":"2026-01-01T00:00:00Z"}`, "good"))
	if got := w.decides("job.db"); got != "ALLOW by p" {
		t.Errorf("%s", got)
	}
	if got := w.decides("job.a"); got != "DENY by " {
		t.Errorf("a draft came into force with it: %s", got)
	}
	before := w.picture()
	for content, want := range map[string]string{
		`{"content":"rules: 7"}`: `invalid policy bundle "db/safety": 1:8 must be a list`,
		`7`:                      `invalid policy bundle "db/safety": a bundle must be an object with content, or a text`,
	} {
		if err := install(content, "bad"); !fault.Is(err, fault.Invalid) || fault.From(err).Message != want {
			t.Errorf("%s: %v, want %s", content, err, want)
		}
	}
	err := w.fresh().Edit(t.Context(), func(bs map[string]json.RawMessage) error { bs["a\x00b"] = json.RawMessage(`""`); return nil }, nil)
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("an id with a NUL: %v", err)
	}
	it, err := w.table.Get(t.Context(), mark)
	w.must(err)
	if it.Attrs.String("note") != "good" || it.Attrs.Int("to") != it.Attrs.Int("from")+1 || w.picture() != before {
		t.Errorf("%+v\n%s", it, w.picture())
	}
	if kept, err := w.fresh().Copies(t.Context()); err != nil || len(kept) != 0 {
		t.Errorf("an edit keeps copies: %+v, %v", kept, err)
	}
	w.must(w.fresh().Edit(t.Context(), func(bs map[string]json.RawMessage) error {
		maps.DeleteFunc(bs, func(string, json.RawMessage) bool { return true })
		return nil
	}, nil))
	if got := w.decides("job.db"); got != "DENY by " {
		t.Errorf("uninstalled: %s", got)
	}
}

// TestIDsOfCopies: they are made of the time and of the bundles alone.
func TestIDsOfCopies(t *testing.T) {
	w := newWorld(t, 0)
	c, err := w.fresh().Capture(t.Context(), maya, "")
	w.must(err)
	if _, hash, _ := strings.Cut(c.ID, "Z-"); hash != "44136fa355" { // of {}
		t.Errorf("no bundles at all: %s", c.ID)
	}
	w.must(w.fresh().Edit(t.Context(), func(bs map[string]json.RawMessage) error {
		bs["core"] = json.RawMessage(`{"b":1.0, "content":"version: \"<1>\"",  "a":[]}`)
		return nil
	}, nil))
	if c, err = w.fresh().Capture(t.Context(), maya, ""); err != nil {
		t.Fatal(err)
	}
	again, err := w.fresh().Copy(t.Context(), c.ID)
	w.must(err)
	const want = `{"core":{"b":1.0,"content":"version: \"\u003c1\u003e\"","a":[]}}` // the members in their order, as they were written
	if text, err := json.Marshal(again.Bundles); err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}
