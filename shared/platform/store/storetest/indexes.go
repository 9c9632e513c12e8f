package storetest

import (
	"fmt"
	"slices"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var indexCases = []testCase{
	{"index/lists_keys_only", testIndexKeysOnly},
	{"index/move", testIndexMove},
	{"index/take_out_and_put_in", testIndexOut},
	{"index/put_replaces_entries", testIndexPut},
	{"index/delete", testIndexDelete},
	{"index/each_of_its_own", testIndexSeparate},
	{"index/equal_entries", testIndexEqual},
	{"index/order_bounds_and_pages", testIndexQuery},
	{"index/failed_write_changes_nothing", testIndexFailed},
}

func (s *suite) indexed(sk string, entries map[store.Index]store.Key) store.Item {
	s.Helper()
	it := store.Item{Key: s.key("p", sk), Index: entries, Expires: 4102444800, Attrs: store.Attrs{"a": sk}}
	s.mustWrite(store.Put(it))
	return it
}

func (s *suite) in(index store.Index, pk string) store.Query {
	return store.Query{Index: index, PK: s.key(pk, "").PK}
}

func testIndexKeysOnly(s *suite) {
	it := s.indexed("1", map[store.Index]store.Key{store.ByTime: s.key("t", "9"), store.ByLink: s.key("l", "8")})
	s.wantIndex(s.in(store.ByTime, "t"), it)
	s.wantIndex(s.in(store.ByLink, "l"), it)
	s.wantIndex(s.in(store.ByDue, "t"))
	got := s.all(s.in(store.ByTime, "t"))
	if len(got) != 1 || len(got[0].Attrs) != 0 || got[0].Expires != 0 {
		s.Fatalf("an entry carries more than keys: %+v", got)
	}
}

func testIndexMove(s *suite) {
	it := s.indexed("1", map[store.Index]store.Key{store.ByTime: s.key("t", "1")})
	other := s.indexed("2", map[store.Index]store.Key{store.ByTime: s.key("t", "2")})
	s.wantIndex(s.in(store.ByTime, "t"), it, other)

	moved := s.mustUpdate(store.Update(it.Key).Move(store.ByTime, s.key("t", "3")))
	s.wantIndex(s.in(store.ByTime, "t"), other, moved)

	elsewhere := s.mustUpdate(store.Update(it.Key).Move(store.ByTime, s.key("u", "3")))
	s.wantIndex(s.in(store.ByTime, "t"), other)
	s.wantIndex(s.in(store.ByTime, "u"), elsewhere)
}

func testIndexOut(s *suite) {
	it := s.indexed("1", map[store.Index]store.Key{store.ByDue: s.key("d", "1"), store.ByTime: s.key("t", "1")})
	s.wantIndex(s.in(store.ByDue, "d"), it)
	out := s.mustUpdate(store.Update(it.Key).Move(store.ByDue, store.Key{}))
	s.wantIndex(s.in(store.ByDue, "d"))
	s.wantIndex(s.in(store.ByTime, "t"), out)
	in := s.mustUpdate(store.Update(it.Key).Move(store.ByDue, s.key("d", "2")))
	s.wantIndex(s.in(store.ByDue, "d"), in)
	s.mustUpdate(store.Update(s.key("p", "2")).SetAttr("a", "b").Move(store.ByDue, store.Key{})) // out of what it was never in
	s.wantIndex(s.in(store.ByDue, "d"), in)
}

func testIndexPut(s *suite) {
	it := s.indexed("1", map[store.Index]store.Key{store.ByTime: s.key("t", "1"), store.ByDue: s.key("d", "1")})
	s.wantIndex(s.in(store.ByTime, "t"), it)
	next := s.indexed("1", map[store.Index]store.Key{store.ByTime: s.key("t", "5"), store.ByLink: s.key("l", "1"), store.ByDue: {}})
	s.wantIndex(s.in(store.ByTime, "t"), next)
	s.wantIndex(s.in(store.ByLink, "l"), next)
	s.wantIndex(s.in(store.ByDue, "d"))
}

func testIndexDelete(s *suite) {
	it := s.indexed("1", map[store.Index]store.Key{store.ByTime: s.key("t", "1"), store.ByDue: s.key("d", "1"), store.ByLink: s.key("l", "1")})
	s.wantIndex(s.in(store.ByLink, "l"), it)
	s.mustWrite(store.Delete(it.Key))
	for index, pk := range map[store.Index]string{store.ByTime: "t", store.ByDue: "d", store.ByLink: "l"} {
		s.wantIndex(s.in(index, pk))
	}
}

func testIndexSeparate(s *suite) {
	same := s.key("same", "1")
	it := s.indexed("1", map[store.Index]store.Key{store.ByTime: same, store.ByDue: same, store.ByLink: same})
	for _, index := range []store.Index{store.ByTime, store.ByDue, store.ByLink} {
		s.wantIndex(s.in(index, "same"), it)
	}
	out := s.mustUpdate(store.Update(it.Key).Move(store.ByDue, store.Key{}))
	s.wantIndex(s.in(store.ByDue, "same"))
	s.wantIndex(s.in(store.ByTime, "same"), out)
}

// testIndexEqual has many items under one index key: the index is no map.
func testIndexEqual(s *suite) {
	const n = 25
	q := s.in(store.ByLink, "l")
	q.Limit = 4
	want := map[store.Key]bool{}
	for i := range n {
		it := s.indexed(fmt.Sprintf("%02d", i), map[store.Index]store.Key{store.ByLink: s.key("l", "same")})
		want[it.Key] = true
	}
	for _, desc := range []bool{false, true} {
		q.Desc = desc
		s.eventually(func() string {
			got, err := s.readAll(q)
			if err != nil {
				return err.Error()
			}
			seen := map[store.Key]bool{}
			for _, it := range got {
				if seen[it.Key] {
					return fmt.Sprintf("%v came twice", it.Key)
				}
				seen[it.Key] = want[it.Key]
			}
			if len(seen) != n {
				return fmt.Sprintf("got %d of %d", len(seen), n)
			}
			return ""
		})
	}
}

func testIndexQuery(s *suite) {
	var items []store.Item
	for _, n := range numbered(20) {
		items = append(items, s.indexed("x"+n, map[store.Index]store.Key{store.ByTime: s.key("t", n)}))
	}
	q := s.in(store.ByTime, "t")
	s.wantIndex(q, items...)
	q.Limit, q.Desc = 3, true
	newest := slices.Clone(items)
	slices.Reverse(newest)
	s.wantIndex(q, newest...)
	q.From, q.To, q.Desc = "005", "010", false
	s.wantIndex(q, items[5:11]...)
	q.Desc, q.From = true, ""
	s.wantIndex(q, newest[9:]...)
	q.To, q.Prefix = "", "01"
	s.wantIndex(q, newest[:10]...)
}

func testIndexFailed(s *suite) {
	it := s.indexed("1", map[store.Index]store.Key{store.ByTime: s.key("t", "1")})
	s.wantFailed(s.write(store.Update(it.Key).Move(store.ByTime, s.key("t", "2")).If(store.NotExists())), 0, &it)
	s.wantFailed(s.write(store.Update(it.Key).Move(store.ByTime, s.key("t", "2")), store.Check(s.key("p", "9"), store.Exists())), 1, nil)
	s.wantIndex(s.in(store.ByTime, "t"), it)
}
