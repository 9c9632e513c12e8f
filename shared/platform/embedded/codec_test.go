package embedded

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var texts = rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune("\\\"{}:,\x00\x1f\n\t\r a😀\u2028"))))

var values = rapid.OneOf(
	rapid.Map(texts, func(s string) any { return s }), rapid.Map(rapid.Int64(), func(n int64) any { return n }),
	rapid.Map(rapid.Bool(), func(b bool) any { return b }), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) any { return b }),
	rapid.Map(texts, func(s string) any { return []byte(s) }),
)

func TestCodecRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := store.Item{Key: store.Key{PK: "p", SK: "s"}, Expires: rapid.Int64Min(0).Draw(t, "expires"), Attrs: store.Attrs{}}
		for name, v := range rapid.MapOf(texts, values).Draw(t, "attributes") {
			if utf8.ValidString(name) && name != "" {
				want.Attrs["a"+name] = v
			}
		}
		if rapid.Bool().Draw(t, "indexed") {
			want.Index = map[store.Index]store.Key{store.ByDue: {PK: "d" + texts.Draw(t, "pk"), SK: "s" + texts.Draw(t, "sk")}}
		}
		text := string(encode(nil, &want))
		if !json.Valid([]byte(text)) {
			t.Fatalf("no JSON: %s", text)
		}
		got, err := decode(want.Key, text)
		if err != nil {
			t.Fatal(err)
		}
		if string(encode(nil, got)) != text || got.Expires != want.Expires || len(got.Attrs) != len(want.Attrs) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		for name, v := range want.Attrs {
			if !equal(got.Attrs[name], v) {
				t.Fatalf("%q: got %#v, want %#v", name, got.Attrs[name], v)
			}
		}
	})
}

// TestCodecDamage: whatever happens to the text, decoding ends, and what it takes is an item.
func TestCodecDamage(t *testing.T) {
	it := store.Item{Index: map[store.Index]store.Key{store.ByTime: {PK: "a", SK: "b"}}, Expires: 7, Attrs: store.Attrs{
		"s": "a\"\x01", "n": int64(-1), "t": true, "f": false, "b": []byte{255}, "x": []byte("text"),
	}}
	text := string(encode(nil, &it))
	for i := range len(text) {
		if _, err := decode(store.Key{}, text[:i]); err == nil {
			t.Errorf("cut after %d: taken", i)
		}
		for _, c := range `"\{}:,x0-` {
			_, _ = decode(store.Key{}, text[:i]+string(c)+text[i+1:]) // must not panic
		}
	}
	for _, bad := range []string{"", "x", "null", "[]", "{}x", `{"a":1.5}`, `{"a":{"other":"x"}}`, `{"a":{"base64":"!"}}`, `{"a"`, `{"ttl":"x"}`} {
		if _, err := decode(store.Key{}, bad); err == nil {
			t.Errorf("%s: taken", bad)
		}
	}
}

func benchItem() store.Item {
	return store.Item{
		Key: store.Key{PK: "JOB#1", SK: "S"}, Expires: 1893456000, Index: map[store.Index]store.Key{store.ByTime: {PK: "J#acme#0", SK: "1764#1"}},
		Attrs: store.Attrs{
			"st": "SCHEDULED", "tn": "acme", "tp": "job.demo.echo", "tr": "2f0e8f0b-4d57-9d5e-3d1a-1c8a7b52aa00", "at": int64(0), "pl": "default",
			"cr": int64(1764000000000000), "up": int64(1764000000000000), "pr": "BATCH", "dc": []byte(`{"decision":"ALLOW","rule":"allow-demo"}`),
			"lb": []byte(`{"team":"core","env":"prod"}`), "no": strings.Repeat("n", 120),
		},
	}
}

func BenchmarkEncode(b *testing.B) {
	it := benchItem()
	buf := make([]byte, 0, 1024)
	for b.Loop() {
		buf = encode(buf[:0], &it)
	}
}

func BenchmarkDecode(b *testing.B) {
	it := benchItem()
	text := string(encode(nil, &it))
	for b.Loop() {
		if _, err := decode(it.Key, text); err != nil {
			b.Fatal(err)
		}
	}
}
