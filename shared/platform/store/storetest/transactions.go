package storetest

import (
	"fmt"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var transactionCases = []testCase{
	{"transaction/all", testTransactionAll},
	{"transaction/or_none", testTransactionNone},
	{"transaction/names_the_first_failure", testTransactionFirst},
	{"transaction/check", testTransactionCheck},
	{"transaction/100_operations", testTransactionMany},
	{"transaction/across_partitions", testTransactionPartitions},
}

func testTransactionAll(s *suite) {
	changed, gone := s.put(s.key("p", "changed"), store.Attrs{"n": int64(1)}), s.put(s.key("p", "gone"), nil)
	guard := s.put(s.key("p", "guard"), store.Attrs{"open": true})
	added := store.Item{Key: s.key("p", "added"), Attrs: store.Attrs{"a": "b"}}
	s.mustWrite(
		store.Put(added).If(store.NotExists()), store.Update(changed.Key).AddInt("n", 1).SetAttr("s", "x").If(store.Exists()),
		store.Delete(gone.Key).If(store.Exists()), store.Check(guard.Key, store.Equal("open", true)),
	)
	s.wantItem(added)
	s.wantItem(store.Item{Key: changed.Key, Attrs: store.Attrs{"n": int64(2), "s": "x"}})
	s.wantAbsent(gone.Key)
	s.wantItem(guard)
}

func testTransactionNone(s *suite) {
	there := s.put(s.key("p", "there"), store.Attrs{"n": int64(1)})
	last := s.put(s.key("p", "last"), store.Attrs{"n": int64(1)})
	fresh := s.key("p", "fresh")
	// The failing operation at every place of the transaction.
	for place := range 4 {
		ops := []store.Op{
			store.Put(store.Item{Key: fresh}), store.Update(there.Key).AddInt("n", 1), store.Delete(last.Key),
			store.Check(s.key("p", "other"), store.NotExists()),
		}
		ops[place] = ops[place].If(store.Has("nothing has this"))
		err := s.write(ops...)
		old := map[int]*store.Item{1: &there, 2: &last}[place]
		s.wantFailed(err, place, old)
		s.wantAbsent(fresh)
		s.wantItem(there)
		s.wantItem(last)
	}
}

func testTransactionFirst(s *suite) {
	a, c := s.put(s.key("p", "a"), store.Attrs{"v": "a"}), s.put(s.key("p", "c"), store.Attrs{"v": "c"})
	err := s.write(
		store.Check(a.Key, store.Exists()), store.Put(store.Item{Key: s.key("p", "b")}),
		store.Update(c.Key).SetAttr("v", "x").If(store.Equal("v", "no")), store.Delete(a.Key).If(store.Exists()),
	)
	s.wantError(err, store.ErrInvalid) // a appears twice
	err = s.write(
		store.Check(a.Key, store.Exists()), store.Put(store.Item{Key: s.key("p", "b")}),
		store.Update(c.Key).SetAttr("v", "x").If(store.Equal("v", "no")), store.Delete(s.key("p", "d")).If(store.Exists()),
	)
	s.wantFailed(err, 2, &c)
	s.wantAbsent(s.key("p", "b"))
}

func testTransactionCheck(s *suite) {
	guard := s.put(s.key("p", "guard"), store.Attrs{"rev": int64(3)})
	key := s.key("q", "s")
	err := s.write(store.Put(store.Item{Key: key}), store.Check(guard.Key, store.Equal("rev", int64(4))))
	s.wantFailed(err, 1, &guard)
	s.wantAbsent(key)
	s.mustWrite(store.Put(store.Item{Key: key}), store.Check(guard.Key, store.Equal("rev", int64(3))))
	s.mustGet(key)
	s.wantItem(guard)
}

func testTransactionMany(s *suite) {
	ops := make([]store.Op, store.MaxTransaction)
	for i := range ops {
		ops[i] = store.Put(store.Item{Key: s.key("p", fmt.Sprintf("%03d", i))}).If(store.NotExists())
	}
	s.mustWrite(ops...)
	s.wantSortKeys(store.Query{PK: s.key("p", "").PK}, numbered(store.MaxTransaction)...)
	old := s.mustGet(s.key("p", "000"))
	s.wantFailed(s.write(ops...), 0, &old)
}

func testTransactionPartitions(s *suite) {
	a, b := s.key("a", "s"), s.key("b", "s")
	s.mustWrite(store.Update(a).AddInt("n", -5), store.Update(b).AddInt("n", 5))
	s.wantItem(store.Item{Key: a, Attrs: store.Attrs{"n": int64(-5)}})
	s.wantItem(store.Item{Key: b, Attrs: store.Attrs{"n": int64(5)}})
}
