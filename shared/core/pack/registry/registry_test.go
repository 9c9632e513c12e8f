package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/pack/registry"
	"github.com/cordum-serverless/cordum/shared/platform/embedded/embeddedtest"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

func table(t *testing.T) store.Table {
	t.Helper()
	return embeddedtest.Open(t).Table()
}

func all(t *testing.T, tb store.Table) registry.Snapshot {
	t.Helper()
	s, err := (&registry.Store{Table: tb}).All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestARecordComesBackAsItWasWritten(t *testing.T) {
	tb := table(t)
	s := &registry.Store{Table: tb}
	if now := all(t, tb); now.Revision != 0 || len(now.Records) != 0 || !now.UpdatedAt.IsZero() {
		t.Errorf("nothing is %+v", now)
	}
	r := registry.Record{ID: "etl", JSON: json.RawMessage(`{ "id":"etl", "x":"<1>" }`), Tenant: "acme", Undo: []byte{0, 1}}
	if err := tb.Write(t.Context(), registry.Put(all(t, tb), r, 1_700_000_000_000_001)...); err != nil {
		t.Fatal(err)
	}
	r.Revision = 1
	got, ok, err := s.Get(t.Context(), "etl")
	if err != nil || !ok || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", r) {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
	if now := all(t, tb); now.Revision != 1 || fmt.Sprintf("%+v", now.Records["etl"]) != fmt.Sprintf("%+v", r) || now.UpdatedAt.UnixMicro() != 1_700_000_000_000_001 {
		t.Errorf("%+v", now)
	}
	for _, id := range []string{"none", "", "A", strings.Repeat("a", 64), "a#b"} {
		if _, ok, err := s.Get(t.Context(), id); ok || err != nil {
			t.Errorf("%q: %v, %v", id, ok, err)
		}
	}
}

// Of two who have read the same one hears that the other was first.
func TestWritersAreOneAfterTheOther(t *testing.T) {
	tb := table(t)
	const writers = 16
	var writing sync.WaitGroup
	for i := range writers {
		writing.Go(func() {
			for {
				now, err := (&registry.Store{Table: tb}).All(t.Context())
				if fault.Is(err, fault.Conflict) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				r := registry.Record{ID: fmt.Sprintf("p%d", i), JSON: json.RawMessage(`{}`)}
				if err := tb.Write(t.Context(), registry.Put(now, r, 1)...); !store.Overtaken(err) {
					if err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	writing.Wait()
	if now := all(t, tb); now.Revision != writers || len(now.Records) != writers {
		t.Errorf("%d records at revision %d", len(now.Records), now.Revision)
	}
}

// between does something after the first query.
type between struct {
	store.Table

	once sync.Once
	do   func()
}

func (b *between) Query(ctx context.Context, q store.Query) (store.Page, error) {
	p, err := b.Table.Query(ctx, q)
	b.once.Do(b.do)
	return p, err
}

func TestASnapshotIsOfOneTime(t *testing.T) {
	tb := table(t)
	s := &registry.Store{Table: &between{Table: tb, do: func() {
		ops := registry.Change(registry.Snapshot{}, []registry.Record{{ID: "a", JSON: json.RawMessage(`{}`)}, {ID: "b", JSON: json.RawMessage(`{}`)}}, nil, 1)
		if err := tb.Write(t.Context(), ops...); err != nil {
			t.Error(err)
		}
	}}}
	now, err := s.All(t.Context())
	if err != nil || now.Revision != 1 || len(now.Records) != 2 {
		t.Errorf("%+v, %v", now, err)
	}
}

func TestWhatIsNoRecord(t *testing.T) {
	long := json.RawMessage(`{"x":"` + strings.Repeat("x", 200<<10) + `"}`)
	for name, r := range map[string]registry.Record{
		"no id": {JSON: json.RawMessage(`{}`)}, "a capital": {ID: "A", JSON: json.RawMessage(`{}`)}, "no object": {ID: "a", JSON: json.RawMessage(`[]`)},
		"nothing": {ID: "a"}, "no JSON": {ID: "a", JSON: json.RawMessage(`{`)}, "a large undo": {ID: "a", JSON: json.RawMessage(`{}`), Undo: make([]byte, 121<<10)},
		"a version that is a number": {ID: "a", JSON: json.RawMessage(`{"version":1}`)}, "topics that are no list": {ID: "a", JSON: json.RawMessage(`{"manifest":{"topics":{}}}`)},
		"a large record": {ID: "a", JSON: append(json.RawMessage(`{}`), make([]byte, 256<<10)...)},
	} {
		if err := r.Check(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (registry.Record{ID: "a-1", JSON: long, Undo: make([]byte, 100<<10)}).Check(); err != nil {
		t.Error(err)
	}
	full := registry.Snapshot{Records: map[string]registry.Record{}}
	for i := range 15 {
		id := fmt.Sprintf("p%d", i)
		full.Records[id] = registry.Record{ID: id, JSON: long}
	}
	if err := full.Fits(registry.Record{ID: "p3", JSON: long}); err != nil { // it replaces one
		t.Error(err)
	}
	if err := full.Fits(registry.Record{ID: "new", JSON: long}); !fault.Is(err, fault.TooLarge) {
		t.Errorf("%v", err)
	}
}
