package store_test

import (
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

func TestSize(t *testing.T) {
	key := store.Key{PK: "P", SK: "S"} // pk P sk S: 6 bytes
	for name, c := range map[string]struct {
		item store.Item
		want int
	}{
		"key":               {store.Item{Key: key}, 6},
		"text by bytes":     {store.Item{Key: key, Attrs: store.Attrs{"ab": "żó"}}, 6 + 2 + 4},
		"bytes":             {store.Item{Key: key, Attrs: store.Attrs{"b": make([]byte, 10)}}, 6 + 1 + 10},
		"flag":              {store.Item{Key: key, Attrs: store.Attrs{"b": false}}, 6 + 1 + 1},
		"zero":              {store.Item{Key: key, Attrs: store.Attrs{"n": int64(0)}}, 6 + 1 + 1},
		"one digit":         {store.Item{Key: key, Attrs: store.Attrs{"n": int64(7)}}, 6 + 1 + 2},
		"three digits":      {store.Item{Key: key, Attrs: store.Attrs{"n": int64(123)}}, 6 + 1 + 3},
		"trailing zeros":    {store.Item{Key: key, Attrs: store.Attrs{"n": int64(120000)}}, 6 + 1 + 2},
		"negative":          {store.Item{Key: key, Attrs: store.Attrs{"n": int64(-12)}}, 6 + 1 + 3},
		"expiry":            {store.Item{Key: key, Expires: 1234567891}, 6 + 3 + 6},
		"index entry":       {store.Item{Key: key, Index: map[store.Index]store.Key{store.ByTime: {PK: "t", SK: "12"}}}, 6 + 4 + 1 + 4 + 2},
		"empty index entry": {store.Item{Key: key, Index: map[store.Index]store.Key{store.ByTime: {}}}, 6},
	} {
		if got := c.item.Size(); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}

func sized(bytes int, entries map[store.Index]store.Key) *store.Item {
	it := store.Item{Key: store.Key{PK: "P", SK: "S"}, Index: entries, Attrs: store.Attrs{"d": ""}}
	it.Attrs["d"] = strings.Repeat("x", bytes-it.Size())
	return &it
}

func TestMeterWrites(t *testing.T) {
	at := func(sk string) map[store.Index]store.Key {
		return map[store.Index]store.Key{store.ByTime: {PK: "t", SK: sk}}
	}
	for name, c := range map[string]struct {
		before, after *store.Item
		transaction   bool
		want          float64
	}{
		"small":                         {nil, sized(100, nil), false, 1},
		"one KB":                        {nil, sized(1024, nil), false, 1},
		"over one KB":                   {nil, sized(1025, nil), false, 2},
		"the larger one, before":        {sized(5000, nil), sized(100, nil), false, 5},
		"the larger one, after":         {sized(100, nil), sized(5000, nil), false, 5},
		"delete":                        {sized(2000, nil), nil, false, 2},
		"delete of nothing":             {nil, nil, false, 1},
		"refused":                       {sized(2000, nil), sized(2000, nil), false, 2},
		"in a transaction":              {nil, sized(2000, nil), true, 4},
		"check in a transaction":        {nil, nil, true, 2},
		"new entry":                     {nil, sized(100, at("1")), false, 2},
		"unchanged entry":               {sized(100, at("1")), sized(200, at("1")), false, 1},
		"moved entry":                   {sized(100, at("1")), sized(100, at("2")), false, 3},
		"entry removed":                 {sized(100, at("1")), sized(100, nil), false, 2},
		"deleted with its entry":        {sized(100, at("1")), nil, false, 2},
		"entry, in a transaction":       {nil, sized(100, at("1")), true, 3},
		"huge entry is two write units": {nil, sized(1900, at(strings.Repeat("k", 1020))), false, 4},
	} {
		var m store.Meter
		m.CountWrite(c.before, c.after, c.transaction)
		if got := m.Read().WriteUnits; got != c.want {
			t.Errorf("%s: got %v units, want %v", name, got, c.want)
		}
	}
}

func TestMeterReads(t *testing.T) {
	var m store.Meter
	used := func(count func()) store.Usage {
		before := m.Read()
		count()
		return m.Read().Since(before)
	}
	for name, c := range map[string]struct {
		count func()
		want  store.Usage
	}{
		"get":                 {func() { m.CountGet(*sized(4096, nil)) }, store.Usage{Reads: 1, ReadUnits: 1}},
		"get over 4 KB":       {func() { m.CountGet(*sized(4097, nil)) }, store.Usage{Reads: 1, ReadUnits: 2}},
		"get of nothing":      {func() { m.CountGet(store.Item{}) }, store.Usage{Reads: 1, ReadUnits: 1}},
		"batch rounds each":   {func() { m.CountBatch(3, []store.Item{*sized(100, nil), *sized(5000, nil)}) }, store.Usage{Reads: 1, ReadUnits: 4}},
		"batch of 101":        {func() { m.CountBatch(101, nil) }, store.Usage{Reads: 2, ReadUnits: 101}},
		"batch of none":       {func() { m.CountBatch(0, nil) }, store.Usage{}},
		"query sums":          {func() { m.CountQuery(store.Query{}, []store.Item{*sized(3000, nil), *sized(3000, nil)}) }, store.Usage{Reads: 1, ReadUnits: 2}},
		"eventual query":      {func() { m.CountQuery(store.Query{Eventual: true}, []store.Item{*sized(3000, nil)}) }, store.Usage{Reads: 1, ReadUnits: 0.5}},
		"index query":         {func() { m.CountQuery(store.Query{Index: store.ByDue}, nil) }, store.Usage{Reads: 1, ReadUnits: 0.5}},
		"requests that write": {func() { m.CountRequest() }, store.Usage{Writes: 1}},
	} {
		if got := used(c.count); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
	var none *store.Meter
	none.CountGet(store.Item{})
	none.CountWrite(nil, nil, false)
}
