package storetest

import (
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var conditionCases = []testCase{
	{"condition/on_an_item", testConditionsPresent},
	{"condition/on_no_item", testConditionsAbsent},
	{"condition/every_kind_of_write", testConditionsEveryOp},
	{"condition/failure_shows_the_item", testConditionOld},
	{"condition/several_ifs_must_all_hold", testConditionIfs},
	{"condition/many_alternatives", testConditionMany},
}

// stored is what testConditionsPresent holds against.
var stored = store.Attrs{"s": "m", "n": int64(5), "yes": true, "no": false, "b": []byte{1, 2}, "empty": ""}

type conditionCase struct {
	name string
	cond store.Cond
	want bool
}

var conditionsPresent = []conditionCase{
	{"none", store.Cond{}, true},
	{"exists", store.Exists(), true},
	{"not exists", store.NotExists(), false},
	{"equal string", store.Equal("s", "m"), true},
	{"equal other string", store.Equal("s", "M"), false},
	{"equal empty string", store.Equal("empty", ""), true},
	{"equal number", store.Equal("n", int64(5)), true},
	{"equal other number", store.Equal("n", int64(6)), false},
	{"equal true", store.Equal("yes", true), true},
	{"equal false", store.Equal("no", false), true},
	{"equal wrong flag", store.Equal("yes", false), false},
	{"equal bytes", store.Equal("b", []byte{1, 2}), true},
	{"equal other bytes", store.Equal("b", []byte{1}), false},
	{"equal of another type", store.Equal("n", "5"), false},
	{"equal bytes and string", store.Equal("b", "\x01\x02"), false},
	{"equal absent attribute", store.Equal("none", "m"), false},
	{"equal absent attribute and empty", store.Equal("none", ""), false},
	{"one of", store.OneOf("s", "a", "m", "z"), true},
	{"one of numbers", store.OneOf("n", int64(1), int64(5)), true},
	{"none of", store.OneOf("s", "a", "z"), false},
	{"one of, absent attribute", store.OneOf("none", "a", "m"), false},
	{"one of a single value", store.OneOf("s", "m"), true},
	{"less number", store.Less("n", int64(6)), true},
	{"less equal number", store.Less("n", int64(5)), false},
	{"less negative number", store.Less("n", int64(-6)), false},
	{"less number by value, not digits", store.Less("n", int64(10)), true},
	{"less string", store.Less("s", "n"), true},
	{"less equal string", store.Less("s", "m"), false},
	{"less of another type", store.Less("n", "9"), false},
	{"less absent attribute", store.Less("none", int64(1)), false},
	{"greater number", store.Greater("n", int64(4)), true},
	{"greater equal number", store.Greater("n", int64(5)), false},
	{"greater string", store.Greater("s", "l"), true},
	{"greater smaller string", store.Greater("s", "z"), false},
	{"greater of another type", store.Greater("s", int64(0)), false},
	{"greater absent attribute", store.Greater("none", ""), false},
	{"has", store.Has("s"), true},
	{"has empty", store.Has("empty"), true},
	{"has absent", store.Has("none"), false},
	{"has not", store.HasNot("none"), true},
	{"has not, but has", store.HasNot("s"), false},
	{"all", store.All(store.Exists(), store.Equal("s", "m"), store.Less("n", int64(9))), true},
	{"not all", store.All(store.Equal("s", "m"), store.Equal("n", int64(0))), false},
	{"all of one", store.All(store.Equal("s", "m")), true},
	{"all of none", store.All(), true},
	{"any", store.Any(store.Equal("s", "x"), store.Equal("n", int64(5))), true},
	{"not any", store.Any(store.NotExists(), store.Equal("s", "x")), false},
	{"any of one", store.Any(store.Equal("s", "x")), false},
	{
		"nested", store.All(
			store.Any(store.NotExists(), store.Less("n", int64(6))), store.Any(store.HasNot("none"), store.Equal("none", int64(1))), store.Exists(),
		), true,
	},
	{"nested, not", store.Any(store.All(store.Exists(), store.Equal("n", int64(0))), store.All(store.HasNot("s"), store.Exists())), false},
	{"nested, all of none inside", store.Any(store.Equal("s", "x"), store.All()), true},
}

func testConditionsPresent(s *suite) {
	it := s.put(s.key("p", "s"), stored)
	for _, c := range conditionsPresent {
		err := s.write(store.Put(it).If(c.cond))
		s.wantHolds(c, err, &it)
	}
	s.wantItem(it)
}

func (s *suite) wantHolds(c conditionCase, err error, old *store.Item) {
	s.Helper()
	if c.want {
		if err != nil {
			s.Errorf("%s: got %v, want it to hold", c.name, err)
		}
		return
	}
	if err == nil {
		s.Errorf("%s: it holds, and should not", c.name)
		return
	}
	s.wantFailed(err, 0, old)
}

func testConditionsAbsent(s *suite) {
	key := s.key("p", "s")
	for _, c := range []conditionCase{
		{"none", store.Cond{}, true},
		{"exists", store.Exists(), false},
		{"not exists", store.NotExists(), true},
		{"equal", store.Equal("s", ""), false},
		{"one of", store.OneOf("s", ""), false},
		{"less", store.Less("n", int64(1)), false},
		{"greater", store.Greater("n", int64(-1)), false},
		{"has", store.Has("s"), false},
		{"has not", store.HasNot("s"), true},
		{"all", store.All(store.NotExists(), store.HasNot("s")), true},
		{"not all", store.All(store.NotExists(), store.Has("s")), false},
		{"any", store.Any(store.NotExists(), store.Less("n", int64(1))), true},
		{"not any", store.Any(store.Exists(), store.Equal("s", "")), false},
	} {
		err := s.write(store.Put(store.Item{Key: key}).If(c.cond))
		s.wantHolds(c, err, nil)
		s.mustWrite(store.Delete(key))
	}
}

func testConditionsEveryOp(s *suite) {
	it := s.put(s.key("p", "s"), store.Attrs{"v": int64(1)})
	right, wrong := store.Equal("v", int64(1)), store.Equal("v", int64(9))

	s.wantFailed(s.write(store.Put(store.Item{Key: it.Key}).If(wrong)), 0, &it)
	s.wantFailed(s.write(store.Update(it.Key).SetAttr("v", int64(2)).If(wrong)), 0, &it)
	s.wantFailed(s.write(store.Delete(it.Key).If(wrong)), 0, &it)
	s.wantFailed(s.write(store.Check(it.Key, wrong)), 0, &it)
	_, err := s.update(store.Update(it.Key).AddInt("v", 1).If(wrong))
	s.wantFailed(err, 0, &it)
	s.wantItem(it)

	s.mustWrite(store.Check(it.Key, right))
	s.wantItem(it)
	s.mustWrite(store.Update(it.Key).SetAttr("w", "x").If(right))
	s.mustWrite(store.Put(it).If(right))
	s.wantItem(it)
	s.mustWrite(store.Delete(it.Key).If(right))
	s.wantAbsent(it.Key)
	s.mustWrite(store.Check(it.Key, store.NotExists()))
	s.wantFailed(s.write(store.Check(it.Key, store.Exists())), 0, nil)
	s.wantFailed(s.write(store.Delete(it.Key).If(store.Exists())), 0, nil)
	s.wantFailed(s.write(store.Update(it.Key).SetAttr("v", "x").If(store.Exists())), 0, nil)
	s.wantAbsent(it.Key)
}

func testConditionOld(s *suite) {
	it := store.Item{
		Key: s.key("p", "s"), Expires: 4102444800, Index: map[store.Index]store.Key{store.ByLink: s.key("l", "1")},
		Attrs: store.Attrs{"a": "b", "raw": []byte{0, 255}},
	}
	s.mustWrite(store.Put(it))
	s.wantFailed(s.write(store.Put(store.Item{Key: it.Key}).If(store.NotExists())), 0, &it)
	_, err := s.update(store.Update(it.Key).SetAttr("a", "c").If(store.Equal("a", "x")))
	s.wantFailed(err, 0, &it)
}

func testConditionIfs(s *suite) {
	it := s.put(s.key("p", "s"), store.Attrs{"a": "1", "b": "2"})
	op := store.Update(it.Key).SetAttr("c", "3")
	s.wantFailed(s.write(op.If(store.Equal("a", "1")).If(store.Equal("b", "x"))), 0, &it)
	s.wantFailed(s.write(op.If(store.Equal("a", "x")).If(store.Equal("b", "2"))), 0, &it)
	s.mustWrite(op.If(store.Equal("a", "1")).If(store.Equal("b", "2")))
}

func testConditionMany(s *suite) {
	it := s.put(s.key("p", "s"), store.Attrs{"n": int64(99)})
	values := make([]int64, 100)
	for i := range values {
		values[i] = int64(i)
	}
	s.mustWrite(store.Put(it).If(store.OneOf("n", values...)))
	s.wantFailed(s.write(store.Put(it).If(store.OneOf("n", values[:99]...))), 0, &it)
}
