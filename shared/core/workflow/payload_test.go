package workflow

import (
	"reflect"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/workflow/expr"
)

func TestPayload(t *testing.T) {
	for _, c := range []struct{ name, step, input, item, want, wrong string }{
		{"E01 templates keep types", `{"input":{"n":"${input.n}"}}`, `{"n":9007199254740993}`, ``, `{"n":9007199254740993}`, ""},
		{"E02 what is missing is left out", `{"input":{"message":"${input.message}","author":"${input.author}"}}`, `{"message":"hi"}`, ``,
			`{"message":"hi"}`, ""},
		{"E03 unless it is required", `{"input":{"a/b":"${input.author}"},"input_schema":{"required":["x","a/b"]}}`, `{}`, ``, ``,
			`input a~1b is required, and its template ${input.author} gives nothing`},
		{"E03 what others require does not matter", `{"input":{"o":{"x":"${input.x}"}},"input_schema":{"required":["x"]}}`, `{}`, ``, `{"o":{}}`, ""},
		{"E04 an error names the member", `{"input":{"m":"${input.name"}}`, `{}`, ``, ``, `input /m: ${input.name: unterminated template expression`},
		{"E06 without input", `{}`, `{"a":1}`, ``, `{"a":1}`, ""},
		{"E06 with an empty one", `{"input":{}}`, `{"a":1}`, ``, `{"a":1}`, ""},
		{"E07 nothing is merged in", `{"input":{"b":2}}`, `{"a":1}`, ``, `{"b":2}`, ""},
		{"an item", `{"input":{"b":2}}`, `{}`, `{"k":1}`, `{"b":2,"item":{"k":1}}`, ""},
		{"an item with the run's input", `{}`, `{"a":1}`, `"x"`, `{"a":1,"item":"x"}`, ""},
		{"the payload's own item", `{"input":{"item":"mine"}}`, `{}`, `"x"`, `{"item":"mine"}`, ""},
		{"no input at all", `{}`, `null`, ``, `{}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, err := Decode([]byte(`{"steps":{"s":` + c.step + `}}`))
			if err != nil {
				t.Fatal(err)
			}
			s := expr.Scope{Input: tree(t, c.input)}
			if c.item != "" {
				s.Item = tree(t, c.item)
			}
			got, err := w.Steps["s"].Payload(s)
			if c.wrong != "" {
				if err == nil || err.Error() != c.wrong {
					t.Errorf("%v, want %s", err, c.wrong)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(any(got), tree(t, c.want)) {
				t.Errorf("%v, %v; want %s", got, err, c.want)
			}
			if want := tree(t, c.input); !reflect.DeepEqual(s.Input, want) {
				t.Errorf("the input of the run is now %v", s.Input)
			}
		})
	}
}

func tree(t testing.TB, text string) any {
	t.Helper()
	v, err := expr.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}
