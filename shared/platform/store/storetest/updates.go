package storetest

import (
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var updateCases = []testCase{
	{"update/answers_the_new_image", testUpdateImage},
	{"update/creates_what_is_absent", testUpdateCreates},
	{"update/add", testUpdateAdd},
	{"update/remove", testUpdateRemove},
	{"update/leaves_the_rest_alone", testUpdateLeaves},
	{"update/changes_the_type", testUpdateType},
	{"update/add_to_what_is_no_number", testUpdateAddWrong},
	{"update/takes_updates_only", testUpdateOnly},
}

func testUpdateImage(s *suite) {
	key := s.key("p", "s")
	s.mustWrite(store.Put(store.Item{
		Key: key, Expires: 4102444800, Index: map[store.Index]store.Key{store.ByTime: s.key("t", "1"), store.ByDue: s.key("d", "1")},
		Attrs: store.Attrs{"keep": "k", "set": "old", "add": int64(40), "remove": true},
	}))
	op := store.Update(key).SetAttr("set", "new").SetAttr("more", []byte("m")).AddInt("add", 2).RemoveAttr("remove", "unknown").
		Move(store.ByDue, s.key("d", "2")).Move(store.ByTime, store.Key{}).Move(store.ByLink, s.key("l", "3")).ExpireAt(4102444801).
		If(store.Equal("set", "old"))
	want := store.Item{
		Key: key, Expires: 4102444801, Index: map[store.Index]store.Key{store.ByDue: s.key("d", "2"), store.ByLink: s.key("l", "3")},
		Attrs: store.Attrs{"keep": "k", "set": "new", "more": []byte("m"), "add": int64(42)},
	}
	s.same(s.mustUpdate(op), want)
	s.wantItem(want)
}

func testUpdateCreates(s *suite) {
	want := store.Item{
		Key: s.key("p", "s"), Expires: 4102444800, Index: map[store.Index]store.Key{store.ByTime: s.key("t", "1")},
		Attrs: store.Attrs{"a": "b"},
	}
	s.same(s.mustUpdate(store.Update(want.Key).SetAttr("a", "b").Move(store.ByTime, s.key("t", "1")).ExpireAt(want.Expires)), want)
	s.wantItem(want)
}

func testUpdateAdd(s *suite) {
	key := s.key("p", "s")
	for _, c := range []struct{ add, want int64 }{{5, 5}, {-7, -2}, {0, -2}, {1 << 60, 1<<60 - 2}} {
		if it := s.mustUpdate(store.Update(key).AddInt("n", c.add)); it.Attrs.Int("n") != c.want {
			s.Fatalf("after adding %d: got %d, want %d", c.add, it.Attrs.Int("n"), c.want)
		}
	}
	it := s.mustUpdate(store.Update(key).AddInt("n", 1).AddInt("other", -3).SetAttr("s", "x"))
	s.same(it, store.Item{Key: key, Attrs: store.Attrs{"n": int64(1<<60 - 1), "other": int64(-3), "s": "x"}})
}

func testUpdateRemove(s *suite) {
	it := s.put(s.key("p", "s"), store.Attrs{"a": "1", "b": "2", "c": int64(3)})
	s.mustWrite(store.Update(it.Key).RemoveAttr("a").RemoveAttr("c"))
	s.wantItem(store.Item{Key: it.Key, Attrs: store.Attrs{"b": "2"}})
	s.mustWrite(store.Update(it.Key).RemoveAttr("never was"))
	s.wantItem(store.Item{Key: it.Key, Attrs: store.Attrs{"b": "2"}})
	s.mustWrite(store.Check(it.Key, store.HasNot("a")))
}

func testUpdateLeaves(s *suite) {
	it := s.put(s.key("p", "s"), store.Attrs{"a": "1"})
	other := s.put(s.key("p", "t"), store.Attrs{"a": "1"})
	s.mustWrite(store.Update(it.Key).SetAttr("a", "2"))
	s.wantItem(other)
}

func testUpdateType(s *suite) {
	it := s.put(s.key("p", "s"), store.Attrs{"a": "1"})
	for _, v := range []any{int64(1), true, []byte("x"), "1"} {
		s.same(s.mustUpdate(store.Update(it.Key).SetAttr("a", v)), store.Item{Key: it.Key, Attrs: store.Attrs{"a": v}})
	}
}

func testUpdateAddWrong(s *suite) {
	it := s.put(s.key("p", "s"), store.Attrs{"a": "1"})
	_, err := s.update(store.Update(it.Key).AddInt("a", 1))
	s.wantError(err, store.ErrInvalid)
	s.wantError(s.write(store.Update(it.Key).AddInt("a", 1), store.Put(store.Item{Key: s.key("p", "t")})), store.ErrInvalid)
	s.wantItem(it)
	s.wantAbsent(s.key("p", "t"))
}

func testUpdateOnly(s *suite) {
	key := s.key("p", "s")
	for _, op := range []store.Op{store.Put(store.Item{Key: key}), store.Delete(key), store.Check(key, store.NotExists())} {
		_, err := s.table.Update(s.ctx(), op)
		s.wantError(err, store.ErrInvalid)
	}
	s.wantAbsent(key)
}
