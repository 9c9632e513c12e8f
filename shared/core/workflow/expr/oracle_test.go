package expr

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// original evaluates as the original did: it cuts a text at the first operator of a list, whatever stands around it. Where its rules make
// sense, which is without parentheses, && and ||, and with nothing like an operator in quotes, ours must say the same.
func original(text string, s Scope) (any, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, errors.New("empty")
	}
	if rest, ok := strings.CutPrefix(text, "!"); ok {
		v, err := original(rest, s)
		return !Truthy(v), err
	}
	for _, op := range []string{"==", "!=", ">=", "<=", ">", "<"} {
		left, right, found := strings.Cut(text, op)
		if !found {
			continue
		}
		a, err := original(left, s)
		if err != nil {
			return nil, err
		}
		b, err := original(right, s)
		return originalCompare(a, b, op), err
	}
	for _, name := range functions {
		if inner, ok := strings.CutPrefix(text, name+"("); ok && strings.HasSuffix(inner, ")") {
			v, err := original(strings.TrimSuffix(inner, ")"), s)
			return originalCall(name, v), err
		}
	}
	switch {
	case text[0] == '\'' || text[0] == '"':
		return strings.Trim(text, text[:1]), nil
	case text == "true" || text == "false":
		return text == "true", nil
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return json.Number(text), nil
	}
	keys := strings.Split(text, ".")
	v := map[string]any{"input": s.Input, "ctx": s.Ctx, "steps": s.Steps, "item": s.Item}[keys[0]]
	for _, key := range keys[1:] {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v, nil
}

func originalCall(name string, v any) any {
	list, _ := v.([]any)
	switch {
	case name == "first" && len(list) > 0:
		return list[0]
	case name == "first":
		return nil
	}
	switch rv := reflect.ValueOf(v); {
	case rv.IsValid() && rv.Type() == reflect.TypeFor[json.Number]():
	case rv.IsValid() && (rv.Kind() == reflect.Slice || rv.Kind() == reflect.Map || rv.Kind() == reflect.String):
		return json.Number(strconv.Itoa(rv.Len()))
	}
	return json.Number("0")
}

func originalCompare(a, b any, op string) bool {
	order := func(less, equal bool) bool {
		switch op {
		case "==":
			return equal
		case "!=":
			return !equal
		case ">=":
			return !less
		case "<=":
			return less || equal
		case ">":
			return !less && !equal
		}
		return less
	}
	if n, ok := a.(json.Number); ok {
		x, _ := n.Float64()
		y := 0.0
		switch b := b.(type) {
		case json.Number:
			y, _ = b.Float64()
		case string:
			if f, err := strconv.ParseFloat(b, 64); err == nil {
				y = f
			}
		}
		return order(x < y, x == y)
	}
	x, first := a.(string)
	y, second := b.(string)
	if first && second {
		return order(x < y, x == y)
	}
	switch op {
	case "==":
		return fmt.Sprint(a) == fmt.Sprint(b)
	case "!=":
		return fmt.Sprint(a) != fmt.Sprint(b)
	}
	return false
}

var operands = []string{
	"input", "input.n", "input.zero", "input.text", "input.empty", "input.flag", "input.yes", "input.items", "input.none", "input.obj", "input.nothing",
	"input.missing.x", "input.items.0", "input.items[0]", "steps.fan[0].output.v", "steps.a-b.output", "ctx.decision.allowed", "item.k", "nil", "True",
	"0", "10", "-3", "0.5", "true", "false", "'abc'", `"abc"`, "''", "'10'", "'0'", "'true'", "'it s'",
}

func drawOperand(t *rapid.T, depth int) string {
	if depth > 0 && rapid.IntRange(0, 5).Draw(t, "call") == 0 {
		bang := rapid.SampledFrom([]string{"", "", "!"}).Draw(t, "bang")
		return rapid.SampledFrom(functions).Draw(t, "function") + "(" + bang + drawOperand(t, depth-1) + ")"
	}
	return rapid.SampledFrom(operands).Draw(t, "operand")
}

func drawText(t *rapid.T) string {
	var b strings.Builder
	space := rapid.SampledFrom([]string{"", " ", "\t "})
	for i := range rapid.IntRange(1, 5).Draw(t, "operands") {
		if i > 0 {
			b.WriteString(" " + rapid.SampledFrom(comparisons).Draw(t, "operator") + space.Draw(t, "space"))
		}
		b.WriteString(rapid.SampledFrom([]string{"", "", "", "!", "!!", "! "}).Draw(t, "bang") + drawOperand(t, 2))
	}
	return b.String()
}

func TestE08_ComparisonsAreTheOriginals(t *testing.T) {
	s := scope(t)
	rapid.Check(t, func(t *rapid.T) {
		text := drawText(t)
		got, err := Eval(text, s)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		want, err := original(text, s)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s = %v, the original says %v", text, got, want)
		}
	})
}
