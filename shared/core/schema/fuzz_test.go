package schema

import (
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/workflow/expr"
)

// FuzzCompile: a schema is compiled or refused, and one that is compiled answers about any value within its budget of work.
func FuzzCompile(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"type":"object","properties":{"a":{"type":"integer","minimum":1}},"required":["a"]}`, `{"a":0}`}, {`{"$ref":"#"}`, `1`},
		{`{"$ref":"file:///etc/passwd"}`, `1`}, {`{"pattern":"(a+)+$"}`, `"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"`}, {`{"anyOf":[{"$ref":"#"},{"$ref":"#"}]}`, `[]`}, {`true`, `1`},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, raw, value []byte) {
		s, err := Compile(raw, "fuzz")
		if err != nil {
			return
		}
		var v any
		if v, err = expr.Decode(value); err != nil {
			return
		}
		if first, second := s.Validate(v), s.Validate(v); (first == nil) != (second == nil) {
			t.Errorf("%s of %s: %v, then %v", raw, value, first, second)
		}
	})
}
