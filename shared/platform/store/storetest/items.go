package storetest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var itemCases = []testCase{
	{"item/put_and_get", testPutGet},
	{"item/put_replaces_everything", testPutReplaces},
	{"item/get_unknown", func(s *suite) { s.wantAbsent(s.key("p", "s")) }},
	{"item/delete", testDelete},
	{"item/values_come_back_as_they_were", testValues},
	{"item/unicode_and_odd_keys", testOddKeys},
	{"item/expiry_is_kept", testExpiry},
	{"item/caller_may_reuse_what_it_gave", testNoAliasing},
	{"batch/order_duplicates_unknown", testBatchGet},
	{"batch/250_keys", testBatchGetMany},
	{"batch/large_items", testBatchGetLarge},
	{"batch/none", testBatchGetNone},
}

func testPutGet(s *suite) {
	want := store.Item{
		Key: s.key("p", "s"),
		Index: map[store.Index]store.Key{
			store.ByTime: s.key("time", "1"), store.ByDue: s.key("due", "2"), store.ByLink: s.key("link", "3"),
		},
		Expires: 4102444800,
		Attrs:   store.Attrs{"text": "word", "number": int64(42), "flag": true, "bytes": []byte("raw")},
	}
	s.mustWrite(store.Put(want))
	s.wantItem(want)
	s.wantAbsent(s.key("p", "other"))
	s.wantAbsent(s.key("other", "s"))
}

func testPutReplaces(s *suite) {
	first := store.Item{
		Key: s.key("p", "s"), Expires: 4102444800, Index: map[store.Index]store.Key{store.ByTime: s.key("t", "1")},
		Attrs: store.Attrs{"old": "x", "both": int64(1)},
	}
	s.mustWrite(store.Put(first))
	second := store.Item{Key: first.Key, Attrs: store.Attrs{"both": int64(2), "new": "y"}}
	s.mustWrite(store.Put(second))
	s.wantItem(second)
	s.mustWrite(store.Put(store.Item{Key: first.Key}))
	s.wantItem(store.Item{Key: first.Key})
}

func testDelete(s *suite) {
	key := s.key("p", "s")
	s.mustWrite(store.Delete(key))
	s.put(key, store.Attrs{"a": "b"})
	s.mustWrite(store.Delete(key))
	s.wantAbsent(key)
}

func testValues(s *suite) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	attrs := store.Attrs{
		"empty text": "", "quotes": `a"b\c'd`, "lines": "a\nb\tc\r\x00\x1fd", "unicode": "żółć 中文 😀 \u2028", "json": `{"a":[1,2,{"b":null}]}`,
		"zero": int64(0), "max": int64(1<<63 - 1), "min": int64(-1 << 63), "beyond float": int64(1<<53 + 1),
		"true": true, "false": false,
		"every byte": all, "empty bytes": []byte{}, "no bytes": []byte(nil), "text bytes": []byte(`{"k":"v"}`), "not utf8": []byte{0xff, 0xfe, 0x00},
		"a.name-with:odd#chars": "v", "näme": "v", "size": "a reserved word", "long": strings.Repeat("x", 10_000),
	}
	it := s.put(s.key("p", "s"), attrs)
	s.wantItem(it)
	got := s.mustGet(it.Key)
	for name, want := range attrs {
		if g, w := fmt.Sprintf("%T", got.Attrs[name]), fmt.Sprintf("%T", want); g != w {
			s.Errorf("%s: got a %s, want a %s", name, g, w)
		}
	}
	// Conditions and updates use the same names and values.
	for name, want := range attrs {
		s.mustWrite(store.Update(it.Key).SetAttr(name, want).If(store.Equal(name, want)))
	}
	s.wantItem(it)
}

// oddKeys are in the order of their UTF-8 bytes.
var oddKeys = []string{
	" ", "#", "%25", "'", "*", "/a//b/", "A", "[x]", "\\", "_", "a", "a b", "a\"b", "a#b", "a%", "a|b", "~", "ż", "中", "\uFF5E", "😀", "\U0010FFFF",
}

func testOddKeys(s *suite) {
	for _, k := range oddKeys {
		s.put(s.key("p", k), store.Attrs{"is": k})
		s.put(s.key("p"+k, "s"), store.Attrs{"is": k})
	}
	for _, k := range oddKeys {
		s.wantItem(store.Item{Key: s.key("p", k), Attrs: store.Attrs{"is": k}})
		s.wantItem(store.Item{Key: s.key("p"+k, "s"), Attrs: store.Attrs{"is": k}})
		s.wantSortKeys(store.Query{PK: s.key("p"+k, "").PK, Limit: 1}, "s")
	}
	s.wantSortKeys(store.Query{PK: s.key("p", "").PK, Limit: 3}, oddKeys...)
	s.wantSortKeys(store.Query{PK: s.key("p", "").PK, Prefix: "a%"}, "a%")
	s.wantSortKeys(store.Query{PK: s.key("p", "").PK, Prefix: "_"}, "_")
	s.wantSortKeys(store.Query{PK: s.key("p", "").PK, Prefix: "\U0010FFFF"}, "\U0010FFFF")
}

func testExpiry(s *suite) {
	key := s.key("p", "s")
	const soon, later = int64(4102444800), int64(4102444900) // 2100: no emulator removes it meanwhile
	s.mustWrite(store.Put(store.Item{Key: key, Expires: soon}))
	if it := s.mustGet(key); it.Expires != soon || !it.Live(soon-1) || it.Live(soon) {
		s.Fatalf("got expiry %d", it.Expires)
	}
	if it := s.mustUpdate(store.Update(key).SetAttr("a", "b")); it.Expires != soon {
		s.Fatalf("an update changed the expiry to %d", it.Expires)
	}
	if it := s.mustUpdate(store.Update(key).ExpireAt(later)); it.Expires != later {
		s.Fatalf("got expiry %d", it.Expires)
	}
	if it := s.mustUpdate(store.Update(key).ExpireAt(0)); it.Expires != 0 || !it.Live(1<<40) {
		s.Fatalf("got expiry %d", it.Expires)
	}
	s.wantItem(store.Item{Key: key, Attrs: store.Attrs{"a": "b"}})
}

func testNoAliasing(s *suite) {
	raw := []byte("before")
	it := store.Item{Key: s.key("p", "s"), Attrs: store.Attrs{"raw": raw}}
	s.mustWrite(store.Put(it))
	copy(raw, "AFTER!")
	it.Attrs["extra"] = "x"
	got := s.mustGet(it.Key)
	want := store.Item{Key: it.Key, Attrs: store.Attrs{"raw": []byte("before")}}
	s.same(got, want)
	copy(got.Attrs.Bytes("raw"), "CHANGE")
	s.wantItem(want)
}

func testBatchGet(s *suite) {
	a, b := s.put(s.key("p", "a"), store.Attrs{"n": int64(1)}), s.put(s.key("q", "b"), store.Attrs{"n": int64(2)})
	got, err := s.table.BatchGet(s.ctx(), []store.Key{b.Key, s.key("p", "unknown"), a.Key, b.Key, a.Key})
	if err != nil {
		s.Fatal(err)
	}
	if len(got) != 2 {
		s.Fatalf("got %d items, want 2: %+v", len(got), got)
	}
	s.same(got[0], b)
	s.same(got[1], a)
}

func testBatchGetMany(s *suite) {
	const n = 250
	var keys []store.Key
	for batch := range slices.Chunk(numbered(n), store.MaxTransaction) {
		var ops []store.Op
		for _, sk := range batch {
			key := s.key("p"+sk[len(sk)-1:], sk)
			keys = append(keys, key)
			ops = append(ops, store.Put(store.Item{Key: key, Attrs: store.Attrs{"is": sk}}))
		}
		s.mustWrite(ops...)
	}
	slices.Reverse(keys)
	got, err := s.table.BatchGet(s.ctx(), keys)
	if err != nil {
		s.Fatal(err)
	}
	if len(got) != n {
		s.Fatalf("got %d items, want %d", len(got), n)
	}
	for i, it := range got {
		s.same(it, store.Item{Key: keys[i], Attrs: store.Attrs{"is": keys[i].SK}})
	}
}

// numbered answers 000, 001, ...
func numbered(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%03d", i)
	}
	return out
}

// testBatchGetLarge reads more than the 16 MB that one request to DynamoDB answers.
func testBatchGetLarge(s *suite) {
	const n, size = 48, 380 * 1024
	keys := make([]store.Key, n)
	for i := range keys {
		keys[i] = s.key("p", fmt.Sprintf("%02d", i))
		s.put(keys[i], store.Attrs{"data": strings.Repeat("x", size), "n": int64(i)})
	}
	got, err := s.table.BatchGet(s.ctx(), keys)
	if err != nil {
		s.Fatal(err)
	}
	if len(got) != n {
		s.Fatalf("got %d items, want %d", len(got), n)
	}
	for i, it := range got {
		if it.Key != keys[i] || it.Attrs.Int("n") != int64(i) || len(it.Attrs.String("data")) != size {
			s.Fatalf("item %d: got %v, %d bytes", i, it.Key, len(it.Attrs.String("data")))
		}
	}
}

func testBatchGetNone(s *suite) {
	if got, err := s.table.BatchGet(s.ctx(), nil); err != nil || len(got) != 0 {
		s.Fatalf("got %v, %v", got, err)
	}
	if got, err := s.table.BatchGet(s.ctx(), []store.Key{s.key("p", "unknown")}); err != nil || len(got) != 0 {
		s.Fatalf("got %v, %v", got, err)
	}
}
