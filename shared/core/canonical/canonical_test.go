package canonical_test

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"

	"github.com/cordum-serverless/cordum/shared/core/canonical"
)

func TestJSON(t *testing.T) {
	tests := []struct{ name, raw, want string }{
		{"members are sorted, at every level", `{"b":1,"a":{"d":[{"z":0,"y":0}],"c":2}}`, `{"a":{"c":2,"d":[{"y":0,"z":0}]},"b":1}`},
		{"white space goes", " [ 1 ,\n2 ] ", `[1,2]`},
		{"numbers stay as they were written", `[1.0,1e2,12345678901234567890,-0]`, `[1.0,1e2,12345678901234567890,-0]`},
		{"the escapes of encoding/json", `"<a> & \u2028 \/ é"`, `"\u003ca\u003e \u0026 \u2028 / é"`},
		{"nothing", `{}`, `{}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := canonical.JSON([]byte(tt.raw)); err != nil || string(got) != tt.want {
				t.Errorf("%s, %v; want %s", got, err, tt.want)
			}
		})
	}
	for _, bad := range []string{``, `{`, `{} {}`, `[1,]`, `{"a":1}x`} {
		if got, err := canonical.JSON([]byte(bad)); err == nil {
			t.Errorf("%s: %s", bad, got)
		}
	}
}

// What 4.3 of the contract says of nothing at all.
func TestHash(t *testing.T) {
	text, err := canonical.Object(nil)
	if err != nil || canonical.Hash(text) != "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" {
		t.Errorf("%s: %s, %v", text, canonical.Hash(text), err)
	}
}

func TestObjectIsJSONOfTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := map[string]json.RawMessage{}
		for name, n := range rapid.MapOf(rapid.String(), rapid.Int()).Draw(t, "members") {
			members[name] = json.RawMessage(mustEncode(t, map[string]any{name: n, "": []any{name, nil}}))
		}
		parts, err := canonical.Object(members)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := canonical.JSON(mustEncode(t, members))
		if err != nil || string(whole) != string(parts) {
			t.Fatalf("%s and %s, %v", whole, parts, err)
		}
		if again, err := canonical.JSON(whole); err != nil || string(again) != string(whole) {
			t.Fatalf("%s becomes %s, %v", whole, again, err)
		}
	})
}

func mustEncode(t *rapid.T, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
