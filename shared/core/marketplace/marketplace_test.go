package marketplace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/pack/registry"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

func TestCatalogsOfADocument(t *testing.T) {
	for data, want := range map[string][]Catalog{
		`{}`: nil, `{"catalogs":null}`: nil, `{"catalogs":[]}`: nil, `{"catalogs":"none"}`: nil, `{"catalogs":{"id":"a"}}`: nil, `{"catalogs":7}`: nil, `[]`: nil,
		`{"catalogs":[{"id":" a ","title":"A","url":" https://a.example.com/c "},{"url":"u","enabled":false},7,null,{"id":7,"url":["x"],"enabled":"false"},{"enabled":null}]}`: {
			{"a", "A", "https://a.example.com/c", true}, {"catalog-2", "", "u", false}, {"catalog-5", "", "", false}, {"catalog-6", "", "", true},
		},
	} {
		if got := Catalogs(json.RawMessage(data)); !slices.Equal(got, want) {
			t.Errorf("%s: %+v", data, got)
		}
	}
}

var sha = strings.Repeat("0f", 32)

func TestWhatACatalogHas(t *testing.T) {
	entry := func(members string) string {
		return `{"id":"a","version":"1.0.0","url":"https://a.example.com/a.tgz","sha256":"` + sha + `"` + members + `}`
	}
	at, entries, err := Parse([]byte(` {"updated_at":"2026-02-10T00:00:00Z","other":{"x":[1]},"packs":[` + strings.Join([]string{
		entry(`,"title":"A","description":"d","author":"me","homepage":"h","source":"s","image":"i","license":"l","capabilities":["c"],"requires":["r"],"risk_tags":["t"],"tags":["x"]`),
		strings.ToUpper(entry(``)), `{"id":"b"}`, `null`, entry(`,"sha256":""`), entry(`,"sha256":"abc"`), entry(`,"url":" "`), entry(`,"version":null,"version":""`), entry(`,"id":"\t"`),
	}, ",") + `]}`))
	want := Entry{
		ID: "a", Version: "1.0.0", Title: "A", Description: "d", Author: "me", Homepage: "h", Source: "s", Image: "i", License: "l",
		URL: "https://a.example.com/a.tgz", SHA256: sha, Capabilities: []string{"c"}, Requires: []string{"r"}, RiskTags: []string{"t"},
	}
	if err != nil || at != "2026-02-10T00:00:00Z" || len(entries) != 2 || !reflect.DeepEqual(entries[0], want) || entries[1].SHA256 != sha {
		t.Errorf("%s %+v %v", at, entries, err)
	}
	if _, entries, err := Parse([]byte(`{"packs":[` + entry(``) + `],"packs":[` + entry(``) + `]}`)); err != nil || len(entries) != 1 {
		t.Errorf("two lists: %d, %v", len(entries), err)
	}
	for text, want := range map[string]string{
		``: "invalid catalog: it is no JSON object", `[]`: "invalid catalog: it is no JSON object", `{`: "invalid catalog: it is no JSON", `<html>`: "invalid catalog: it is no JSON object",
		`{"packs":[]}x`: "invalid catalog: it is no JSON", `{"packs":{}}`: "invalid catalog: packs must be a list", `{"packs":"x"}`: "invalid catalog: packs must be a list",
		`{"updated_at":7}`: "invalid catalog: updated_at must not be a number", `{"packs":[{},{"version":1}]}`: "invalid catalog: packs[1]: version must not be a number",
		`{"packs":["a"]}`: "invalid catalog: packs[0]: must not be a string", `{"packs":[{"requires":"a"}]}`: "invalid catalog: packs[0]: requires must not be a string",
		`{"packs":[` + strings.Repeat("{},", maxEntries) + `{}]}`: "invalid catalog: more than 10000 packs",
	} {
		if _, _, err := Parse([]byte(text)); !fault.Is(err, fault.Invalid) || fault.From(err).Message != want {
			t.Errorf("%.40s: %v", text, err)
		}
	}
	if _, entries, err := Parse([]byte(`{"packs":[` + strings.Repeat("{},", maxEntries-1) + `{}]}`)); err != nil || len(entries) != 0 {
		t.Error(err)
	}
}

// A catalog is a stranger's, and many are read at once: what is kept of one is little more than its file, and what is shown of it has an end.
func TestACatalogTakesLittleMemory(t *testing.T) {
	entry := func(i int, words string) string {
		return fmt.Sprintf(`{"id":"p%d","version":"1","url":"u","sha256":"%s","requires":[%s"a"]}`, i, sha, words)
	}
	many := func(n int, words string) string {
		all := make([]string, n)
		for i := range all {
			all[i] = entry(i, words)
		}
		return `{"packs":[` + strings.Join(all, ",") + `]}`
	}
	for name, test := range map[string]struct {
		text, want string
		most       uint64 // bytes, all in all
	}{
		"one with a million words":    {`{"packs":[` + entry(0, strings.Repeat(`"a",`, 1<<20)) + `]}`, "invalid catalog: packs[0]: 4194432 bytes; at most 65536 (64 KiB)", 48 << 20},
		"all of them with many words": {many(maxEntries, strings.Repeat(`"a",`, 150)), "invalid catalog: its packs take more than 12582912 bytes (12 MiB) of memory", 64 << 20},
		"a time that is a book":       {`{"updated_at":"` + strings.Repeat("x", 65) + `"}`, "invalid catalog: updated_at is longer than 64 bytes", 1 << 20},
		"as many as there may be":     {many(maxEntries, ""), "", 64 << 20},
		"those that cannot be had":    {`{"packs":[` + strings.Repeat(`{"requires":["a","a","a"]},`, maxEntries-1) + entry(0, "") + `]}`, "", 64 << 20},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, entries, err := Parse([]byte(test.text))
		runtime.ReadMemStats(&after)
		if test.want == "" && (err != nil || len(entries) == 0) || test.want != "" && (!fault.Is(err, fault.Invalid) || err.Error() != test.want) {
			t.Errorf("%s: %v", name, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > test.most {
			t.Errorf("%s: %d bytes", name, used)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"updated_at":"x","packs":[{"id":"a","version":"1","url":"u","sha256":"` + sha + `"},null]}`))
	f.Add([]byte(`{"packs":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, entries, err := Parse(text)
		if err != nil && (!fault.Is(err, fault.Invalid) || len(entries) > 0) {
			t.Fatalf("%v", err)
		}
		for _, e := range entries {
			if e.ID == "" || e.Version == "" || e.URL == "" || !digest.MatchString(e.SHA256) {
				t.Fatalf("%+v", e)
			}
		}
	})
}

func entry(id, version, name string) Entry {
	return Entry{ID: id, Version: version, URL: "https://a.example.com/" + name, SHA256: fmt.Sprintf("%064x", len(name))}
}

func TestM10_TheHighestOfAllCatalogs(t *testing.T) {
	have := []shelf{
		{Catalog: Catalog{ID: "one"}, entries: []Entry{entry("b", "1.0.0-rc1", "x"), entry("a", "1.2.0", "x"), entry("a", "1.10.0", "x")}},
		{Catalog: Catalog{ID: "two"}, entries: []Entry{entry("b", "1.0.0", "x"), entry("a", "v1.10", "x"), entry("c", "nightly", "x")}},
		{Catalog: Catalog{ID: "three"}, entries: []Entry{entry("c", "0.0.1", "x"), entry("c", "weekly", "x"), entry("b", "1.0.0+build", "x")}},
	}
	var got []string
	for _, i := range highest(have) {
		got = append(got, i.ID+" "+i.Version+" "+i.Catalog.ID)
	}
	if want := []string{"a 1.10.0 one", "b 1.0.0 two", "c 0.0.1 three"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// A list that no answer holds is cut short, and says where.
func TestAListHasAnEnd(t *testing.T) {
	large := strings.Repeat("d", maxList/4)
	for name, fill := range map[string]func(*Item){
		"entries": func(i *Item) { i.Description = large }, "the titles of catalogs": func(i *Item) { i.Catalog.Title = large },
		"what is installed": func(i *Item) { i.Installed.Version = large },
	} {
		var items []Item
		for i := range 10 {
			item := Item{Entry: entry(fmt.Sprint(i), "1", "x"), shelf: i % 2}
			fill(&item)
			items = append(items, item)
		}
		if fit, left := fitting(items); len(fit) != 3 || !maps.Equal(left, map[int]int{0: 3, 1: 4}) {
			t.Errorf("%s: %d, %v", name, len(fit), left)
		}
	}
}

func TestWhatIsChosen(t *testing.T) {
	first := entry("a", "1.0.0", "a1")
	second := Entry{ID: "a", Version: "1.0.0", URL: first.URL, SHA256: fmt.Sprintf("%064x", 99)} // another catalog says something else of the same address
	newer, candidate, other := entry("a", "2.0.0", "a2.."), entry("a", "3.0.0-rc1", "a3..."), entry("b", "9", "b9....")
	have := []shelf{{entries: []Entry{first, newer}}, {entries: []Entry{second, candidate, other}}, {Catalog: Catalog{ID: "gone"}, problem: "404 Not Found"}}
	for name, test := range map[string]struct {
		order Order
		want  Entry
		fails string
	}{
		"the highest":                  {order: Order{CatalogID: "x", PackID: "a"}, want: candidate},
		"a version":                    {order: Order{CatalogID: "x", PackID: "a", Version: "2.0.0"}, want: newer},
		"of equal ones the first":      {order: Order{CatalogID: "x", PackID: "a", Version: "1.0.0"}, want: first},
		"a version that is not there":  {order: Order{CatalogID: "x", PackID: "a", Version: "2.0"}, fails: "marketplace pack not found"},
		"a pack that is not there":     {order: Order{CatalogID: "x", PackID: "c"}, fails: "marketplace pack not found"},
		"its digest":                   {order: Order{CatalogID: "x", PackID: "a", SHA256: candidate.SHA256}, want: candidate},
		"another digest":               {order: Order{CatalogID: "x", PackID: "a", SHA256: newer.SHA256}, fails: "sha256 mismatch"},
		"an address":                   {order: Order{URL: newer.URL, SHA256: newer.SHA256}, want: newer},
		"an address by its digest":     {order: Order{URL: first.URL, SHA256: second.SHA256}, want: second},
		"an address, another digest":   {order: Order{URL: first.URL, SHA256: sha}, fails: "sha256 mismatch"},
		"an address that is not there": {order: Order{URL: first.URL + "/", SHA256: first.SHA256}, fails: "marketplace pack not found"},
		"an address of another pack":   {order: Order{URL: first.URL, SHA256: first.SHA256, PackID: "b"}, fails: "marketplace pack not found"},
	} {
		got, err := choose(have, test.order)
		if test.fails == "" && (err != nil || !reflect.DeepEqual(got, test.want)) || test.fails != "" && (err == nil || err.Error() != test.fails) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if f := fault.From(err); fault.Is(err, fault.NotFound) && !reflect.DeepEqual(f.Details["catalog_errors"], map[string]string{"gone": "404 Not Found"}) {
			t.Errorf("%s: %v", name, f.Details)
		}
	}
	if _, err := choose(have[:1], Order{PackID: "c"}); len(fault.From(err).Details) > 0 {
		t.Error("all catalogs were read")
	}
}

// memory is a table of documents alone.
type memory struct {
	store.Table

	mu    sync.Mutex
	items map[store.Key]store.Item
}

func (m *memory) Get(_ context.Context, k store.Key) (store.Item, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	it, ok := m.items[k]
	if !ok {
		return it, store.ErrNotFound
	}
	return it, nil
}

func (m *memory) set(catalogs string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := store.Key{PK: "CFG#system#" + DocumentID, SK: "D"}
	m.items = map[store.Key]store.Item{k: {Key: k, Attrs: store.Attrs{"data": []byte(`{"catalogs":` + catalogs + `}`), "rev": int64(1), "up": int64(1)}}}
}

// shops are catalogs by their address.
type shops struct {
	asked atomic.Int64
	get   func(ctx context.Context, address string) ([]byte, error)
}

func (s *shops) Get(ctx context.Context, address string, _ []string, _ int64) ([]byte, error) {
	s.asked.Add(1)
	return s.get(ctx, address)
}

func market(table *memory, get func(ctx context.Context, address string) ([]byte, error)) (*Market, *shops) {
	s := &shops{get: get}
	return &Market{
		Config: &config.Store{Table: table}, Fetch: s, Clock: clock.System{}, Log: slog.New(slog.DiscardHandler),
		Installed: func(context.Context) (registry.Snapshot, error) { return registry.Snapshot{}, nil },
	}, s
}

// Many requests at once read a catalog once; who has gone spoils nothing for the others; half a minute later it is read anew, and at once when the
// configuration has changed.
func TestCatalogsAreReadOnceForManyRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := &memory{}
		table.set(`[{"url":"https://a.example.com/"}]`)
		m, s := market(table, func(ctx context.Context, _ string) ([]byte, error) {
			return []byte(`{}`), clock.Pause(ctx, time.Second)
		})
		gone, cancel := context.WithCancel(t.Context())
		go func() { time.Sleep(time.Second / 2); cancel() }()
		if _, err := m.List(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("who has gone: %v", err)
		}
		var all sync.WaitGroup
		var cached atomic.Int64
		for range 20 {
			all.Go(func() {
				l, err := m.List(t.Context())
				if err != nil || len(l.Catalogs) != 1 || l.Catalogs[0].Problem != "" {
					t.Errorf("%+v, %v", l, err)
				}
				if l.Cached {
					cached.Add(1)
				}
			})
		}
		all.Wait()
		if s.asked.Load() != 2 || cached.Load() != 19 {
			t.Errorf("read %d times, %d answers from memory", s.asked.Load(), cached.Load())
		}
		time.Sleep(fresh - 2*time.Second)
		if l, _ := m.List(t.Context()); !l.Cached {
			t.Error("read again too soon")
		}
		time.Sleep(2 * time.Second)
		if l, _ := m.List(t.Context()); l.Cached || s.asked.Load() != 3 {
			t.Error("not read again")
		}
		table.set(`[{"url":"https://a.example.com/"},{"url":"https://b.example.com/"}]`)
		if l, _ := m.List(t.Context()); l.Cached || len(l.Catalogs) != 2 {
			t.Error("the configuration has changed")
		}
	})
}

// One catalog that does not answer costs the others nothing, and all of them together have eight seconds.
func TestCatalogsAreReadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := &memory{}
		var list []string
		for i := range 20 {
			list = append(list, fmt.Sprintf(`{"url":"https://%d.example.com/"}`, i))
		}
		table.set("[" + strings.Join(list, ",") + "]")
		m, s := market(table, func(ctx context.Context, address string) ([]byte, error) {
			if strings.HasPrefix(address, "https://3.") {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return []byte(`{"updated_at":"now"}`), clock.Pause(ctx, 5*time.Second)
		})
		begin := time.Now()
		l, err := m.List(t.Context())
		if took := time.Since(begin); err != nil || took != catalogsWait {
			t.Errorf("%v, %v", took, err)
		}
		for i, c := range l.Catalogs {
			want := ""
			switch {
			case i == 3:
				want = "no answer within 8s"
			case i >= maxCatalogs:
				want = "not read: there are too many catalogs"
			}
			if c.Problem != want || (c.UpdatedAt == "now") != (want == "") {
				t.Errorf("%d: %+v", i, c)
			}
		}
		if s.asked.Load() != maxCatalogs {
			t.Errorf("%d were read", s.asked.Load())
		}
	})
}

// What the plane cannot read is not shown as not there.
func TestWhatIsOutOfReachIsAnError(t *testing.T) {
	table := &memory{}
	table.set(`[]`)
	m, _ := market(table, nil)
	m.Installed = func(context.Context) (registry.Snapshot, error) { return registry.Snapshot{}, store.ErrUnavailable }
	if _, err := m.List(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the registry: %v", err)
	}
	if _, err := m.Install(t.Context(), identity.Identity{}, Order{CatalogID: "a", PackID: "b"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("without catalogs: %v", err)
	}
}

// The guide's documents are read as it says.
func TestTheGuide(t *testing.T) {
	text, err := os.ReadFile("../../../docs/marketplace.md")
	if err != nil {
		t.Fatal(err)
	}
	var documents []string
	for _, block := range strings.Split(string(text), "```json\n")[1:] {
		document, _, _ := strings.Cut(block, "```")
		documents = append(documents, strings.ReplaceAll(document, "<64 hexadecimal digits>", sha))
	}
	if len(documents) != 2 {
		t.Fatalf("%d documents", len(documents))
	}
	if got := Catalogs(json.RawMessage(documents[0])); !slices.Equal(got, []Catalog{{OfficialID, OfficialTitle, OfficialURL, true}}) {
		t.Errorf("%+v", got)
	}
	at, entries, err := Parse([]byte(documents[1]))
	if err != nil || at == "" || len(entries) != 1 {
		t.Fatalf("%+v, %v", entries, err)
	}
	for i, v := 0, reflect.ValueOf(entries[0]); i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("the guide does not show %s", v.Type().Field(i).Name)
		}
	}
}
