package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var queryCases = []testCase{
	{"query/bounds_prefix_direction", testQueryBounds},
	{"query/pages", testQueryPages},
	{"query/partitions_are_apart", testQueryPartitions},
	{"query/empty_partition", func(s *suite) { s.wantSortKeys(store.Query{PK: s.key("none", "").PK}) }},
	{"query/whole_items", testQueryItems},
	{"query/sees_what_was_written", testQueryStrong},
	{"query/eventual", testQueryEventual},
	{"query/start_outlives_its_item", testQueryStartDeleted},
	{"query/start_is_kept_by_inserts", testQueryStartInsert},
	{"query/bad_start", testQueryBadStart},
	{"query/large_items", testQueryLarge},
	{"query/refused", testQueryRefused},
}

func (s *suite) fill(pk string, sks ...string) {
	s.Helper()
	for batch := range slices.Chunk(sks, store.MaxTransaction) {
		ops := make([]store.Op, len(batch))
		for i, sk := range batch {
			ops[i] = store.Put(store.Item{Key: s.key(pk, sk), Attrs: store.Attrs{"is": sk}})
		}
		s.mustWrite(ops...)
	}
}

func testQueryBounds(s *suite) {
	s.fill("p", "a", "a#1", "a#2", "a#3", "b", "b#1", "c")
	pk := s.key("p", "").PK
	for _, c := range []struct {
		name string
		q    store.Query
		want []string
	}{
		{"all", store.Query{}, []string{"a", "a#1", "a#2", "a#3", "b", "b#1", "c"}},
		{"prefix", store.Query{Prefix: "a#"}, []string{"a#1", "a#2", "a#3"}},
		{"whole key as prefix", store.Query{Prefix: "b"}, []string{"b", "b#1"}},
		{"prefix of nothing", store.Query{Prefix: "z"}, nil},
		{"from", store.Query{From: "a#3"}, []string{"a#3", "b", "b#1", "c"}},
		{"to", store.Query{To: "a#2"}, []string{"a", "a#1", "a#2"}},
		{"from to", store.Query{From: "a#1", To: "b"}, []string{"a#1", "a#2", "a#3", "b"}},
		{"between keys", store.Query{From: "a#11", To: "azzz"}, []string{"a#2", "a#3"}},
		{"one", store.Query{From: "b", To: "b"}, []string{"b"}},
		{"from after to", store.Query{From: "c", To: "a"}, nil},
		{"from after the end", store.Query{From: "d"}, nil},
	} {
		for _, limit := range []int{0, 1, 2, 100} {
			q := c.q
			q.PK, q.Limit = pk, limit
			s.wantSortKeys(q, c.want...)
			q.Desc = true
			want := slices.Clone(c.want)
			slices.Reverse(want)
			s.wantSortKeys(q, want...)
		}
	}
}

func testQueryPages(s *suite) {
	const n = 130
	s.fill("p", numbered(n)...)
	for _, limit := range []int{0, 1, 7, 64, n, n + 1} {
		s.wantSortKeys(store.Query{PK: s.key("p", "").PK, Limit: limit}, numbered(n)...)
	}
	want := numbered(n)
	slices.Reverse(want)
	s.wantSortKeys(store.Query{PK: s.key("p", "").PK, Limit: 7, Desc: true}, want...)
	s.wantSortKeys(store.Query{PK: s.key("p", "").PK, Limit: 7, From: "010", To: "099"}, numbered(100)[10:]...)
}

func testQueryPartitions(s *suite) {
	s.fill("p", "1", "2")
	s.fill("p2", "3")
	s.fill("P", "4")
	s.wantSortKeys(store.Query{PK: s.key("p", "").PK}, "1", "2")
}

func testQueryItems(s *suite) {
	want := store.Item{
		Key: s.key("p", "s"), Expires: 4102444800, Index: map[store.Index]store.Key{store.ByLink: s.key("l", "1")},
		Attrs: store.Attrs{"s": "x", "n": int64(-1), "b": []byte{0}, "f": false},
	}
	s.mustWrite(store.Put(want))
	got := s.all(store.Query{PK: want.PK})
	if len(got) != 1 {
		s.Fatalf("got %d items", len(got))
	}
	s.same(got[0], want)
}

func testQueryStrong(s *suite) {
	q := store.Query{PK: s.key("p", "").PK}
	var want []string
	for _, n := range numbered(20) {
		s.put(s.key("p", n), nil)
		want = append(want, n)
		s.wantSortKeys(q, want...)
	}
	for len(want) > 0 {
		s.mustWrite(store.Delete(s.key("p", want[0])))
		want = want[1:]
		s.wantSortKeys(q, want...)
	}
}

func testQueryEventual(s *suite) {
	s.fill("p", "1", "2", "3")
	s.eventually(func() string {
		got, err := s.readAll(store.Query{PK: s.key("p", "").PK, Eventual: true})
		if err != nil {
			return err.Error()
		}
		if keys := sortKeys(got); !slices.Equal(keys, []string{"1", "2", "3"}) {
			return fmt.Sprintf("got %q", keys)
		}
		return ""
	})
}

// first reads on until a page has items, and answers it.
func (s *suite) first(q store.Query) store.Page {
	s.Helper()
	for range maxPages {
		page, err := s.table.Query(s.ctx(), q)
		if err != nil {
			s.Fatal(err)
		}
		if len(page.Items) > 0 || page.Next == "" {
			return page
		}
		q.Start = page.Next
	}
	s.Fatal("no items")
	return store.Page{}
}

func testQueryStartDeleted(s *suite) {
	s.fill("p", numbered(10)...)
	for _, desc := range []bool{false, true} {
		q := store.Query{PK: s.key("p", "").PK, Limit: 2, Desc: desc}
		page := s.first(q)
		last := page.Items[len(page.Items)-1]
		s.mustWrite(store.Delete(last.Key))
		q.Start = page.Next
		got := slices.Concat(sortKeys(page.Items), sortKeys(s.all(q)))
		s.mustWrite(store.Put(last))
		want := numbered(10)
		if desc {
			slices.Reverse(want)
		}
		if !slices.Equal(got, want) {
			s.Fatalf("desc %v: got %q", desc, got)
		}
	}
}

func testQueryStartInsert(s *suite) {
	s.fill("p", "b", "d", "f", "h")
	q := store.Query{PK: s.key("p", "").PK, Limit: 2}
	page := s.first(q)
	s.fill("p", "a", "i")
	q.Start = page.Next
	got := slices.Concat(sortKeys(page.Items), sortKeys(s.all(q)))
	if want := []string{"b", "d", "f", "h", "i"}; !slices.Equal(got, want) {
		s.Fatalf("got %q, want %q", got, want)
	}
}

func testQueryBadStart(s *suite) {
	s.fill("p", numbered(5)...)
	s.fill("q", numbered(5)...)
	pk := s.key("p", "").PK
	for _, start := range []string{"x", "!", "ÿ", "e30", "bnVsbA", "AAAA", strings.Repeat("A", 5000), "{}", "null", "\x00"} {
		_, err := s.table.Query(s.ctx(), store.Query{PK: pk, Start: start})
		s.wantError(err, store.ErrBadStart)
	}
	elsewhere := s.first(store.Query{PK: s.key("q", "").PK, Limit: 2})
	_, err := s.table.Query(s.ctx(), store.Query{PK: pk, Start: elsewhere.Next})
	s.wantError(err, store.ErrBadStart)
	_, err = s.table.Query(s.ctx(), store.Query{Index: store.ByTime, PK: s.key("q", "").PK, Start: elsewhere.Next})
	s.wantError(err, store.ErrBadStart)
}

// testQueryLarge reads more than the 1 MB that one request to DynamoDB answers.
func testQueryLarge(s *suite) {
	const n, size = 8, 300 * 1024
	for _, sk := range numbered(n) {
		s.put(s.key("p", sk), store.Attrs{"data": strings.Repeat("x", size)})
	}
	items := s.all(store.Query{PK: s.key("p", "").PK})
	if got := sortKeys(items); !slices.Equal(got, numbered(n)) {
		s.Fatalf("got %q", got)
	}
	for _, it := range items {
		if len(it.Attrs.String("data")) != size {
			s.Fatalf("%v: %d bytes", it.Key, len(it.Attrs.String("data")))
		}
	}
}

func testQueryRefused(s *suite) {
	pk := s.key("p", "").PK
	for name, q := range map[string]store.Query{
		"no partition":     {},
		"prefix and bound": {PK: pk, Prefix: "a", From: "b"},
		"prefix and to":    {PK: pk, Prefix: "a", To: "b"},
		"negative limit":   {PK: pk, Limit: -1},
		"unknown index":    {PK: pk, Index: "by_nothing"},
	} {
		if page, err := s.table.Query(s.ctx(), q); !errors.Is(err, store.ErrInvalid) {
			s.Errorf("%s: got %+v, %v; want ErrInvalid", name, page, err)
		}
	}
}
