package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var limitCases = []testCase{
	{"limit/101_operations", testLimitOps},
	{"limit/400_KB_item", testLimitItem},
	{"limit/400_KB_by_update", testLimitUpdate},
	{"limit/4_MB_transaction", testLimitTransaction},
	{"limit/refused_requests", testRefused},
	{"limit/ended_context", testContext},
}

func testLimitOps(s *suite) {
	ops := make([]store.Op, store.MaxTransaction+1)
	for i := range ops {
		ops[i] = store.Put(store.Item{Key: s.key("p", fmt.Sprintf("%03d", i))})
	}
	s.wantError(s.write(ops...), store.ErrInvalid)
	s.wantSortKeys(store.Query{PK: s.key("p", "").PK})
}

const (
	fits    = store.MaxItemBytes - 1024
	tooMany = store.MaxItemBytes + 1
)

func testLimitItem(s *suite) {
	it := s.put(s.key("p", "s"), store.Attrs{"data": strings.Repeat("x", fits)})
	s.wantItem(it)
	for name, attrs := range map[string]store.Attrs{
		"text":    {"data": strings.Repeat("x", tooMany)},
		"bytes":   {"data": make([]byte, tooMany)},
		"several": {"a": strings.Repeat("x", tooMany/2+1), "b": make([]byte, tooMany/2+1)},
	} {
		if err := s.write(store.Put(store.Item{Key: it.Key, Attrs: attrs})); !errors.Is(err, store.ErrTooLarge) {
			s.Errorf("%s: got %v, want ErrTooLarge", name, err)
		}
		if err := s.write(store.Put(store.Item{Key: it.Key, Attrs: attrs}), store.Delete(s.key("p", "t"))); !errors.Is(err, store.ErrTooLarge) {
			s.Errorf("%s, in a transaction: got %v, want ErrTooLarge", name, err)
		}
	}
	s.wantItem(it)
}

func testLimitUpdate(s *suite) {
	it := s.put(s.key("p", "s"), store.Attrs{"data": strings.Repeat("x", fits)})
	_, err := s.update(store.Update(it.Key).SetAttr("more", strings.Repeat("y", 4096)))
	s.wantError(err, store.ErrTooLarge)
	s.wantError(s.write(store.Update(it.Key).SetAttr("more", strings.Repeat("y", 4096)), store.Delete(s.key("p", "t"))), store.ErrTooLarge)
	s.wantItem(it)
	s.mustUpdate(store.Update(it.Key).SetAttr("more", strings.Repeat("y", 4096)).SetAttr("data", "short"))
}

func testLimitTransaction(s *suite) {
	ops := make([]store.Op, store.MaxTransactionBytes/fits+1)
	for i := range ops {
		ops[i] = store.Put(store.Item{Key: s.key("p", fmt.Sprintf("%03d", i)), Attrs: store.Attrs{"data": strings.Repeat("x", fits)}})
	}
	s.wantError(s.write(ops...), store.ErrTooLarge)
	s.wantSortKeys(store.Query{PK: s.key("p", "").PK})
}

func testRefused(s *suite) {
	key := s.key("p", "s")
	value := func(v any) store.Op { return store.Put(store.Item{Key: key, Attrs: store.Attrs{"a": v}}) }
	indexed := func(i store.Index, k store.Key) store.Op {
		return store.Put(store.Item{Key: key, Index: map[store.Index]store.Key{i: k}})
	}
	many := make([]int64, 101)
	for name, ops := range map[string][]store.Op{
		"no operation":                       {},
		"zero operation":                     {{}},
		"no partition key":                   {store.Put(store.Item{Key: store.Key{SK: "s"}})},
		"no sort key":                        {store.Put(store.Item{Key: store.Key{PK: key.PK}})},
		"delete without key":                 {store.Delete(store.Key{})},
		"partition key too long":             {store.Put(store.Item{Key: store.Key{PK: strings.Repeat("x", 2049), SK: "s"}})},
		"sort key too long":                  {store.Put(store.Item{Key: store.Key{PK: key.PK, SK: strings.Repeat("x", 1025)}})},
		"key that is no UTF-8":               {store.Put(store.Item{Key: store.Key{PK: key.PK, SK: "\xff"}})},
		"half an index key":                  {indexed(store.ByTime, store.Key{PK: "x"})},
		"other half of an index key":         {indexed(store.ByTime, store.Key{SK: "x"})},
		"unknown index":                      {indexed("by_nothing", key)},
		"index is the table":                 {indexed("", key)},
		"move to half a key":                 {store.Update(key).Move(store.ByDue, store.Key{PK: "x"})},
		"float":                              {value(1.5)},
		"int":                                {value(1)},
		"nil":                                {value(nil)},
		"list":                               {value([]string{"a"})},
		"text that is no UTF-8":              {value("\xff")},
		"set to a float":                     {store.Update(key).SetAttr("a", 1.5)},
		"condition on a float":               {store.Put(store.Item{Key: key}).If(store.Equal("a", 1.5))},
		"less of a flag":                     {store.Put(store.Item{Key: key}).If(store.Less("a", true))},
		"greater of bytes":                   {store.Put(store.Item{Key: key}).If(store.Greater("a", []byte("x")))},
		"one of none":                        {store.Put(store.Item{Key: key}).If(store.OneOf[string]("a"))},
		"one of 101":                         {store.Put(store.Item{Key: key}).If(store.OneOf("a", many...))},
		"any of none":                        {store.Put(store.Item{Key: key}).If(store.Any())},
		"condition without attribute":        {store.Put(store.Item{Key: key}).If(store.Has(""))},
		"check without condition":            {store.Check(key, store.Cond{})},
		"attribute without name":             {store.Put(store.Item{Key: key, Attrs: store.Attrs{"": "x"}})},
		"attribute named like a key":         {store.Put(store.Item{Key: key, Attrs: store.Attrs{"pk": "x"}})},
		"attribute named like an index's":    {store.Update(key).SetAttr("g1sk", "x")},
		"attribute named like the expiry":    {store.Update(key).AddInt("ttl", 1)},
		"attribute set and added":            {store.Update(key).SetAttr("a", "x").AddInt("a", 1)},
		"attribute set and removed":          {store.Update(key).SetAttr("a", "x").RemoveAttr("a")},
		"negative expiry":                    {store.Put(store.Item{Key: key, Expires: -1})},
		"item twice":                         {store.Put(store.Item{Key: key}), store.Check(key, store.NotExists())},
		"one good and one bad in one":        {store.Put(store.Item{Key: key}), store.Put(store.Item{Key: store.Key{PK: key.PK}})},
		"good one and value that is refused": {store.Put(store.Item{Key: s.key("p", "t")}), value(1)},
	} {
		if err := s.write(ops...); !errors.Is(err, store.ErrInvalid) {
			s.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	s.wantSortKeys(store.Query{PK: key.PK})
	for _, k := range []store.Key{{}, {PK: key.PK}, {SK: "s"}} {
		if _, err := s.table.Get(s.ctx(), k); !errors.Is(err, store.ErrInvalid) {
			s.Errorf("get %q: got %v, want ErrInvalid", k, err)
		}
		if _, err := s.table.BatchGet(s.ctx(), []store.Key{key, k}); !errors.Is(err, store.ErrInvalid) {
			s.Errorf("batch get %q: got %v, want ErrInvalid", k, err)
		}
	}
}

func testContext(s *suite) {
	ctx, cancel := context.WithCancel(s.ctx())
	cancel()
	key := s.key("p", "s")
	_, get := s.table.Get(ctx, key)
	_, batch := s.table.BatchGet(ctx, []store.Key{key})
	_, query := s.table.Query(ctx, store.Query{PK: key.PK})
	write := s.table.Write(ctx, store.Put(store.Item{Key: key}))
	_, update := s.table.Update(ctx, store.Update(key).SetAttr("a", "b"))
	for name, err := range map[string]error{"get": get, "batch get": batch, "query": query, "write": write, "update": update} {
		if !errors.Is(err, context.Canceled) {
			s.Errorf("%s: got %v, want context.Canceled", name, err)
		}
	}
	s.wantAbsent(key)
}
