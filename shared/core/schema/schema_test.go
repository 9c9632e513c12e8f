package schema

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/workflow/expr"
)

func tree(t testing.TB, text string) any {
	t.Helper()
	v, err := expr.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestValidate(t *testing.T) {
	for _, c := range []struct{ name, schema, value, wrong string }{
		{"valid", `{"type":"object","required":["x"]}`, `{"x":1}`, ""},
		{"null for a text", `{"properties":{"author":{"type":"string"}}}`, `{"author":null}`,
			"'/author' does not validate with #/properties/author/type: expected string, but got null"},
		{"missing", `{"required":["b","a"]}`, `{}`, "'' does not validate with #/required: missing properties: 'a', 'b'"},
		{"two faults", `{"properties":{"a":{"type":"string"},"b":{"minimum":3}}}`, `{"a":1,"b":2}`,
			"'/a' does not validate with #/properties/a/type: expected string, but got number (and 1 more)"},
		{"a key with a slash", `{"properties":{"a/b":{"type":"null"}}}`, `{"a/b":1}`,
			"'/a~1b' does not validate with #/properties/a~1b/type: expected null, but got number"},
		{"more than allowed", `{"additionalProperties":false}`, `{"b":1,"a":1}`,
			"'' does not validate with #/additionalProperties: additional properties 'a', 'b' not allowed"},
		{"a reference within", `{"properties":{"a":{"$ref":"#/$defs/n"}},"$defs":{"n":{"type":"integer"}}}`, `{"a":"x"}`,
			"'/a' does not validate with #/$defs/n/type: expected integer, but got string"},
		{"an anchor", `{"properties":{"a":{"$ref":"#n"}},"$defs":{"n":{"$anchor":"n","type":"integer"}}}`, `{"a":1}`, ""},
		{"a part with an id of its own", `{"$id":"https://example.com/a","properties":{"a":{"$ref":"b"}},"$defs":{"n":{"$id":"b","type":"integer"}}}`,
			`{"a":1}`, ""},
		{"3.0 is whole", `{"type":"integer"}`, `3.0`, ""},
		{"all digits", `{"const":9007199254740993}`, `9007199254740992`, "'' does not validate with #/const: value must be 9007199254740993"},
		{"recursion over values", `{"properties":{"next":{"$ref":"#"}},"required":["v"]}`, `{"v":1,"next":{"next":{"v":1}}}`,
			"'/next' does not validate with #/required: missing properties: 'v'"},
		{"pattern", `{"pattern":"^a+$"}`, `"b"`, "'' does not validate with #/pattern: 'b' does not match pattern '^a+$'"},
		{"draft-04", `{"$schema":"http://json-schema.org/draft-04/schema#","minimum":3,"exclusiveMinimum":true}`, `3`,
			"'' does not validate with #/exclusiveMinimum: exclusiveMinimum: got 3, want 3"},
		{"F13 draft-07 checks formats", `{"$schema":"http://json-schema.org/draft-07/schema#","format":"date-time"}`, `"yesterday"`,
			"'' does not validate with #/format: 'yesterday' is not valid date-time: less than 20 characters long"},
		{"F13 2020-12 does not when it is named", `{"$schema":"https://json-schema.org/draft/2020-12/schema","format":"date-time"}`, `"yesterday"`, ""},
		{"F13 and does when it is not", `{"format":"date-time"}`, `"yesterday"`,
			"'' does not validate with #/format: 'yesterday' is not valid date-time: less than 20 characters long"},
		{"F13 a good one", `{"format":"date-time"}`, `"2026-02-13T01:00:00.1Z"`, ""},
		{"a number that takes long", `{"type":"integer"}`, `1e400000`, "number 1e400000 is out of range"},
		{"an unknown format", `{"format":"frobnicate"}`, `"x"`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Compile([]byte(c.schema), "test/Schema")
			if err != nil {
				t.Fatal(err)
			}
			err = s.Validate(tree(t, c.value))
			if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || err.Error() != "schema validation failed: "+c.wrong) {
				t.Errorf("%v, want %s", err, c.wrong)
			}
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, c := range []struct{ name, schema, want string }{
		{"F11 an unknown type", `{"type":"objekt"}`, "not a JSON Schema: '/type' does not validate with "},
		{"F11 null", `null`, "must be an object"},
		{"F11 true", `true`, "must be an object"},
		{"F11 a list", `[]`, "must be an object"},
		{"F11 nothing", ``, "not JSON: "},
		{"F11 two values", `{}{}`, "not JSON: "},
		{"F11 a wrong keyword deeper", `{"properties":{"a":{"minimum":"x"}}}`, "not a JSON Schema: '/properties/a/minimum' does not validate with "},
		{"F11 a regular expression", `{"pattern":"("}`, "not a JSON Schema: '/pattern' does not validate with "},
		{"F11 a reference to nothing", `{"$ref":"#/$defs/x"}`, "\"#/$defs/x\" not found"},
		{"F14 a file", `{"$ref":"file:///etc/hostname"}`, ": refers to file:///etc/hostname, and only references within the schema (#...) are allowed"},
		{"F14 http", `{"properties":{"a":{"$ref":"http://localhost:1/x.json#/y"}}}`, ": refers to http://localhost:1/x.json, and only"},
		{"F14 a name beside", `{"$ref":"other.json"}`, ": refers to other.json, and only"},
		{"F14 a urn", `{"$ref":"urn:x:y"}`, ": refers to urn:x:y, and only"},
		{"F14 relative to an id", `{"$id":"file:///etc/","$ref":"hostname"}`, ": refers to file:///etc/hostname, and only"},
		{"F14 a dialect elsewhere", `{"$schema":"http://localhost:1/dialect"}`, ": refers to http://localhost:1/dialect, and only"},
		{"F14 a metaschema", `{"$ref":"http://json-schema.org/draft-07/schema#"}`, ": refers to http://json-schema.org/draft-07/schema, and only"},
		{"dynamic references", `{"$dynamicAnchor":"a","items":{"$dynamicRef":"#a"}}`, "$dynamicRef and $recursiveRef are not supported"},
		{"too large", `{"title":"` + strings.Repeat("x", MaxSize) + `"}`, "larger than 131072 bytes"},
		{"too deep", strings.Repeat(`{"not":`, 70) + `{}` + strings.Repeat(`}`, 70), "nested deeper than 64"},
		{"too many", `{"allOf":[` + strings.Repeat(`{},`, MaxObjects) + `{}]}`, "more than 4000 objects"},
		{"too many regular expressions", `{"allOf":[` + strings.Repeat(`{"pattern":"(a{1000})"},`, 100) + `{}]}`, "the regular expressions of the schema are too large"},
		{"a number that takes long", `{"minimum":1e400000}`, "number 1e400000 is out of range"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Compile([]byte(c.schema), "test/Schema")
			if err == nil || !strings.HasPrefix(err.Error(), `schema "test/Schema": `) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

// What a reference names is there, and would be valid: still nobody reads it.
func TestF14_NothingIsRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "schema.json")
	if err := os.WriteFile(file, []byte(`{"type":"string"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	called := make(chan struct{}, 10)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			called <- struct{}{}
			conn.Close()
		}
	}()
	for _, ref := range []string{"file://" + file, file, "http://" + l.Addr().String() + "/schema.json"} {
		for _, schema := range []string{`{"$ref":%q}`, `{"$schema":%q}`, `{"$id":%q,"items":{"$ref":"?x"}}`} {
			if _, err := Compile(fmt.Appendf(nil, schema, ref), ""); err == nil {
				t.Errorf(schema+" is accepted", ref)
			}
		}
	}
	select {
	case <-called:
		t.Error("somebody called")
	default:
	}
}

func TestWorkIsBounded(t *testing.T) {
	double := `{"properties":{"a":{"$ref":"#"}},"allOf":[{"properties":{"a":{"$ref":"#"}}}]}`
	deep := any(map[string]any{})
	for range 60 {
		deep = map[string]any{"a": deep}
	}
	var chain strings.Builder
	for i := range 40 {
		fmt.Fprintf(&chain, `"d%d":{"allOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]},`, i, i+1, i+1)
	}
	long := make([]any, MaxWork)
	for _, c := range []struct {
		name, schema string
		value        any
	}{
		{"branches that double with each level", double, deep},
		{"references that double", `{"$ref":"#/$defs/d0","$defs":{` + chain.String() + `"d40":{}}}`, "x"},
		{"a long text and a large expression", `{"pattern":"(x{500}y|x{500}z)$"}`, strings.Repeat("x", 1<<20)},
		{"a long list", `{"items":{"type":"string"}}`, long},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Compile([]byte(c.schema), "")
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			err = s.Validate(c.value)
			if err == nil || !strings.Contains(err.Error(), errWork.Error()) {
				t.Errorf("%v", err)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestWorkIsCountedForEachValidation(t *testing.T) {
	s, err := Compile([]byte(`{"items":{"type":"null"}}`), "")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.Validate(make([]any, MaxWork/3)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestManyValuesAreFine(t *testing.T) {
	s, err := Compile([]byte(`{"type":"array","uniqueItems":true,"items":{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}}}`), "")
	if err != nil {
		t.Fatal(err)
	}
	list := make([]any, 20_000)
	for i := range list {
		list[i] = map[string]any{"id": expr.Number(int64(i)), "name": "x"}
	}
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			if err := s.Validate(list); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}
