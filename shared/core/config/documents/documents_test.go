package documents_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/config/documents"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/pack/registry"
	"github.com/cordum-serverless/cordum/shared/core/policy/bundles"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/chaos/mortal"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/embedded/embeddedtest"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var maya = identity.Identity{Tenant: "default", Home: "default", Role: identity.Admin, Principal: "maya"}

// world is a platform, and what stands on it.
type world struct {
	*testing.T

	table  store.Table
	blobs  blob.Store
	queues queue.Queues
}

func newWorld(t *testing.T) *world {
	t.Helper()
	p := embeddedtest.Open(t)
	w := &world{t, p.Table(), p.Blobs(), p.Queues()}
	w.must(w.queues.Ensure(t.Context(), resources.Queues()...))
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// process is another process: it shares no cache.
func process(table store.Table, blobs blob.Store, queues queue.Queues) *documents.Store {
	return &documents.Store{
		Config:  &config.Store{Table: table, Blobs: blobs},
		Bundles: &bundles.Store{Table: table, Head: &head.Store{Table: table, Blobs: blobs}, Clock: clock.System{}},
		Packs:   &registry.Store{Table: table}, Audit: &audit.Log{Table: table}, Queues: queues, Clock: clock.System{},
	}
}

func (w *world) fresh() *documents.Store { return process(w.table, w.blobs, w.queues) }

// changes are one of each kind: a document that is all in its place, and large; one that decides, with a pool that is new; and those that are put together.
var changes = map[string]string{
	"org":    `{"scope":"org","data":{"n":1,"long":"` + strings.Repeat("x", 40<<10) + `"}}`,
	"system": `{"pools":{"topics":{"job.a":"fresh"}},"n":1}`,
	"policy": `{"scope":"system","scope_id":"policy","data":{"n":1,"bundles":{"a/b":{"content":"rules: [{id: r, match: {topics: [job.a]}, decision: allow}]"}}}}`,
	"packs":  `{"scope":"system","scope_id":"packs","data":{"n":1,"installed":{"a":{"id":"a"},"b":{"id":"b"}}}}`,
}

func parse(t *testing.T, body string) documents.Change {
	t.Helper()
	c, err := documents.Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// picture is everything that a change may write, as text: the document, its revision, what decides, and the trail.
func (w *world) picture(c documents.Change) string {
	w.Helper()
	ctx, s := w.Context(), w.fresh()
	d, err := s.Get(ctx, maya, c.Scope, c.ID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		w.Fatal(err)
	}
	h, err := s.Bundles.Head.Current(ctx)
	w.must(err)
	entries, _, err := s.Audit.List(ctx, "default", 100, 0)
	w.must(err)
	text, err := json.Marshal(map[string]any{
		"data": d.Data, "revision": d.Revision, "policy": h.Policy.Snapshot(), "head": h.Revision, "audit": entries,
	})
	w.must(err)
	return string(text)
}

// TestACrashAtAnyLineLeavesEverythingOrNothing: a process dies at each call that a change makes, before it takes effect and after.
func TestACrashAtAnyLineLeavesEverythingOrNothing(t *testing.T) {
	for name, body := range changes {
		t.Run(name, func(t *testing.T) {
			c := parse(t, body)
			survived, calls := false, 0
			for at := 1; !survived; at++ {
				calls = at
				for _, fate := range []mortal.Fate{mortal.DeathBefore, mortal.Death} {
					w := newWorld(t)
					before := w.picture(c)
					p := mortal.New(fate, at)
					_, failed := process(p.Table(w.table), p.Blobs(w.blobs), p.Queues(w.queues)).Set(t.Context(), maya, c)
					survived = failed == nil && !p.Met()
					switch now := w.picture(c); {
					case now == before && failed == nil:
						t.Fatalf("%s at call %d: acknowledged, and nothing happened", fate, at)
					case now != before && (strings.Count(now, `"action":"set"`) != 1 || !strings.Contains(now, `"n":1`) || !strings.Contains(now, `"revision":1}`)):
						t.Fatalf("%s at call %d: half a change: %v\n%.2000s", fate, at, failed, now)
					}
					if d, err := w.fresh().Get(t.Context(), maya, c.Scope, c.ID); err == nil && d.Revision == 1 && name == "system" {
						_, err := w.queues.Depth(t.Context(), resources.Pool("fresh"))
						w.must(err)
					}
				}
			}
			if calls < 4 {
				t.Errorf("only %d calls were made", calls-1)
			}
		})
	}
}

// TestAWriteWhoseAnswerWasLostCountsOnce: it is known again by its mark.
func TestAWriteWhoseAnswerWasLostCountsOnce(t *testing.T) {
	for name, body := range changes {
		w, c := newWorld(t), parse(t, body)
		_, err := process(mortal.New(mortal.Echo, 1).Table(w.table), w.blobs, w.queues).Set(t.Context(), maya, c)
		w.must(err)
		now := w.picture(c)
		if strings.Count(now, `"action":"set"`) != 1 || !strings.Contains(now, `"revision":1}`) {
			t.Errorf("%s: %.2000s", name, now)
		}
	}
}

// overtaking has somebody else write first, each time.
type overtaking struct {
	store.Table

	first func()
}

func (o *overtaking) Write(ctx context.Context, ops ...store.Op) error {
	o.first()
	return o.Table.Write(ctx, ops...)
}

// TestWhoIsAlwaysOvertakenHearsOfIt: after bounded tries, with the fault of the contract.
func TestWhoIsAlwaysOvertakenHearsOfIt(t *testing.T) {
	for name, body := range changes {
		w, c := newWorld(t), parse(t, body)
		n := 0
		others := func() {
			n++
			other := documents.Change{Scope: c.Scope, ID: c.ID, Data: map[string]json.RawMessage{"m": json.RawMessage(fmt.Sprint(n))}}
			_, err := w.fresh().Set(t.Context(), maya, other)
			w.must(err)
		}
		_, err := process(&overtaking{w.table, others}, w.blobs, w.queues).Set(t.Context(), maya, c)
		if !fault.Is(err, fault.Conflict) || !strings.HasPrefix(fault.From(err).Message, "config update conflict") {
			t.Errorf("%s: %v", name, err)
		}
		if d, err := w.fresh().Get(t.Context(), maya, c.Scope, c.ID); err != nil || strings.Contains(string(d.Data), `"n"`) || !strings.Contains(string(d.Data), fmt.Sprintf(`"m":%d`, n)) {
			t.Errorf("%s: %s, %v", name, d.Data, err)
		}
	}
}

// TestWhatMovesMeanwhileIsNotWhatWasRead: also where it is the part of a document that the change leaves alone.
func TestWhatMovesMeanwhileIsNotWhatWasRead(t *testing.T) {
	for name, body := range changes {
		w, c := newWorld(t), parse(t, body)
		_, err := w.fresh().Set(t.Context(), maya, c)
		w.must(err)
		var once sync.Once
		others := func() {
			once.Do(func() {
				other := parse(t, strings.NewReplacer("job.a", "job.b", `{"id":"b"}`, `{"id":"b","x":1}`, `"long":"`, `"long":"y`).Replace(body))
				delete(other.Data, "n")
				_, err := w.fresh().Set(t.Context(), maya, other)
				w.must(err)
			})
		}
		at := int64(1)
		mine := documents.Change{Scope: c.Scope, ID: c.ID, Data: map[string]json.RawMessage{"n": json.RawMessage("2")}, At: &at}
		_, err = process(&overtaking{w.table, others}, w.blobs, w.queues).Set(t.Context(), maya, mine)
		if !fault.Is(err, fault.Conflict) || !strings.HasSuffix(fault.From(err).Message, "is at revision 2, not at 1") {
			t.Errorf("%s: %v", name, err)
		}
		if d, err := w.fresh().Get(t.Context(), maya, c.Scope, c.ID); err != nil || !strings.Contains(string(d.Data), `"n":1`) || d.Revision != 2 {
			t.Errorf("%s: %.200s at %d, %v", name, d.Data, d.Revision, err)
		}
		at = 2
		_, err = process(mortal.New(mortal.Echo, 1).Table(w.table), w.blobs, w.queues).Set(t.Context(), maya, mine) // its answer is lost: what it finds is its own
		w.must(err)
	}
}

// TestAProcessWithoutObjectsSaysSo instead of taking a large document for nothing.
func TestAProcessWithoutObjectsSaysSo(t *testing.T) {
	w := newWorld(t)
	_, err := w.fresh().Set(t.Context(), maya, parse(t, changes["org"]))
	w.must(err)
	if _, err := process(w.table, nil, w.queues).Get(t.Context(), maya, "org", ""); err == nil || fault.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
}
