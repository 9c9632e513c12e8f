package expr

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func tree(t testing.TB, text string) any {
	t.Helper()
	v, err := Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func scope(t testing.TB) Scope {
	t.Helper()
	ctx := tree(t, `{"decision":{"allowed":true},"steps":{
		"plan":{"output":{"v":"x","n":3},"result_ptr":"redis://res:r:plan@1"},
		"fan[0]":{"output":{"v":1}}, "a-b":{"output":"dash"}}}`)
	return Scope{
		Input: tree(t, `{"n":10,"flag":false,"yes":true,"zero":0,"empty":"","text":"abc","false":"false","nothing":null,"obj":{"b":1,"a":[true,null]},
			"items":["x","y"],"none":[],"big":9007199254740993,"million":1000000,"half":0.5,"e":1e6,"née":1,"xmlns:a":2,"a b":3,"héé":"héé","html":{"a":"<&>"}}`),
		Ctx: ctx, Steps: ctx.(map[string]any)["steps"], Item: tree(t, `{"k":"v"}`), Loop: &Loop{Index: 4, Previous: tree(t, `{"done":true}`)},
	}
}

func TestEval(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"path", "input.obj.a", `[true,null]`},
		{"missing path", "input.nope.deeper", `null`},
		{"path over a text", "input.text.x", `null`},
		{"no index with a dot", "input.items.0", `null`},
		{"no index with brackets", "input.items[0]", `null`},
		{"brackets are part of a key", "steps.fan[0].output.v", `1`},
		{"dash", "steps.a-b.output", `"dash"`},
		{"letters of other scripts", "input.née", `1`},
		{"colon", "input.xmlns:a", `2`},
		{"ctx", "ctx.decision.allowed", `true`},
		{"steps in ctx", "ctx.steps.plan.output.n", `3`},
		{"item", "item.k", `"v"`},
		{"loop", "loop_index == 4 && loop_iteration == 5 && loop_previous_output.done", `true`},
		{"unknown root", "env.HOME", `null`},
		{"capitals are another name", "True", `null`},
		{"white space around", "  input.n\t", `10`},
		{"single quotes", `'it is'`, `"it is"`},
		{"double quotes", `"it's"`, `"it's"`},
		{"E12 an operator in quotes", `'a>b'`, `"a>b"`},
		{"E12 in a comparison", `'a==b' == "a==b"`, `true`},
		{"&& in quotes", `'a && b'`, `"a && b"`},
		{"number", "1e3", `1e3`},
		{"numbers that JSON spells otherwise", ".5", `0.5`},
		{"hexadecimal", "0x1p4", `16`},
		{"plus", "+5", `5`},
		{"all digits", "input.big", `9007199254740993`},
		{"all digits compare", "input.big == 9007199254740992", `false`},
		{"E08 a number and its text", "input.n == '10'", `true`},
		{"E08 a text and its number", "'0' == 0", `true`},
		{"text that is no number counts as 0", "0 == 'abc'", `true`},
		{"a bool is no number", "1 == true", `false`},
		{"nil as a number", "0 == missing", `true`},
		{"texts by their bytes", "'10' < '9'", `true`},
		{"numbers by size", "10 < 9", `false`},
		{"exponent and digits", "input.e == 1000000", `true`},
		{"text of a number", "'1000000' == input.e", `true`},
		{"text and number have no order", "'5' > 3", `false`},
		{"bool and text", "true == 'true'", `true`},
		{"bool and number", "true == 1", `false`},
		{"missing is nil", "missing == nil", `true`},
		{"missing is not empty", "missing == ''", `false`},
		{"nil has no order", "missing < 5", `false`},
		{"nil differs", "input.text != nil", `true`},
		{"objects by their JSON", "input.obj == input.obj", `true`},
		{"infinity", "input.n < Inf", `true`},
		{"no number equals nothing", "NaN == NaN", `false`},
		{"! is of the comparison", "!input.n == 10", `false`},
		{"! of a false one", "!input.n == 11", `true`},
		{"! stops at &&", "!input.n == 11 && input.yes", `true`},
		{"! twice", "!!input.n", `true`},
		{"! on the right", "input.yes == !input.flag", `true`},
		{"! in parentheses", "(!input.flag) == true", `true`},
		{"E10 parentheses", "(input.n == 10)", `true`},
		{"E10 parentheses, false", "(input.n == 11)", `false`},
		{"E11 &&", "input.n > 50 && input.flag", `false`},
		{"E11 the first half is false", "input.n > 50 && input.yes", `false`},
		{"E11 both", "input.n > 5 && input.yes", `true`},
		{"&& binds tighter", "true || false && false", `true`},
		{"parentheses first", "(true || false) && false", `false`},
		{"&& answers a bool", "'x' && 1", `true`},
		{"|| answers a bool", "0 || ''", `false`},
		{"chain to the right", "1 == 1 == true", `false`},
		{"E13 length of a list", "length(input.items)", `2`},
		{"E13 length of a text in bytes", "length('héé')", `5`},
		{"E13 length of an object", "length(input.obj)", `2`},
		{"E13 length of nothing", "length(input.missing)", `0`},
		{"E13 length of a number", "length(input.n)", `0`},
		{"E13 first", "first(input.items)", `"x"`},
		{"E13 first of none", "first(input.none)", `null`},
		{"E13 first of no list", "first(input.text)", `null`},
		{"E13 in a comparison", "length(input.items) >= 2", `true`},
		{"functions in one another", "length(first(input.items))", `1`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Eval(c.text, scope(t))
			if err != nil {
				t.Fatal(err)
			}
			if want := tree(t, c.want); !reflect.DeepEqual(got, want) {
				t.Errorf("%s = %#v, want %#v", c.text, got, want)
			}
		})
	}
}

func TestEvalRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "empty expression",
		" \t ":                    "empty expression",
		"input.x ==":              "unexpected end at 11",
		"== 1":                    "unexpected == at 1",
		"a = b":                   "unexpected '=' at 3",
		"a === b":                 "unexpected '=' at 5",
		"(a":                      "unexpected end at 3",
		"a)":                      "unexpected ) at 2",
		"a b":                     "unexpected b at 3",
		"input . a":               "unexpected . at 7",
		"'a":                      "text without its closing ' at 1",
		`'a' 'b'`:                 "unexpected text 'b' at 5",
		"input..a":                "path input..a has an empty key at 1",
		"input.":                  "path input. has an empty key at 1",
		"a & b":                   "unexpected '&' at 3",
		"a ? b : c":               "unexpected '?' at 3",
		"input.a * 2":             "unexpected '*' at 9",
		"input.a+1":               "unexpected + at 8",
		"a in b":                  "unexpected in at 3",
		"max(a)":                  "unknown function max at 1",
		"length()":                "unexpected ) at 8",
		"length(a, b)":            "unexpected ',' at 9",
		"5abc":                    "5abc is no number at 1",
		"-x":                      "-x is no number at 1",
		"1e999":                   "number 1e999 is too large at 1",
		"[0]":                     "unexpected [0] at 1",
		"a!b":                     "unexpected ! at 2",
		"\xff":                    "expression is not UTF-8 at 1",
		"NaN":                     "NaN is no value in JSON",
		strings.Repeat("a", 5000): "expression longer than 4096 bytes at 4097",
		strings.Repeat("(", 100):  "expression nested deeper than 64 at 66",
		strings.Repeat("!", 100):  "expression nested deeper than 64 at 66",
		strings.Repeat("a==", 99): "expression nested deeper than 64 at 196",
	} {
		if _, err := Eval(text, scope(t)); err == nil || err.Error() != want {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

func TestTruthy(t *testing.T) {
	s := scope(t)
	for text, want := range map[string]bool{
		"input.nothing": false, "input.zero": false, "input.empty": false, "input.false": true, "input.flag": false, "input.yes": true,
		"input.none": true, "item": true, "input.half": true, "input.missing": false,
	} {
		v, err := Eval(text, s)
		if err != nil || Truthy(v) != want {
			t.Errorf("E09 %s: %v, %v", text, v, err)
		}
	}
	if !Truthy(map[string]any{}) {
		t.Error("E09 an empty object is true")
	}
}

func TestCost(t *testing.T) {
	big := map[string]any{"text": strings.Repeat("x", MaxCost/2)}
	s := Scope{Input: map[string]any{"a": big, "b": map[string]any{}}}
	if _, err := Eval("input.a == input.b", s); err != nil {
		t.Errorf("one text: %v", err)
	}
	if _, err := Eval("input.a == input.a", s); !errors.Is(err, ErrCost) {
		t.Errorf("two texts: %v", err)
	}
	one := map[string]any{"one": "${input.a}"}
	if _, _, err := Template(one, s); err != nil {
		t.Errorf("one copy: %v", err)
	}
	one["two"] = "${input.a}"
	if _, _, err := Template(one, s); !errors.Is(err, ErrCost) {
		t.Errorf("two copies: %v", err)
	}
	if _, _, err := Template("a ${input.a} b ${input.a}", s); !errors.Is(err, ErrCost) {
		t.Errorf("two copies in a text: %v", err)
	}
}
