package expr

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Number is a whole number as a value.
func Number(n int64) json.Number { return json.Number(strconv.FormatInt(n, 10)) }

func number(f float64) json.Number { return json.Number(decimal(f)) }

// decimal is a number without exponent where that is readable.
func decimal(f float64) string {
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) || math.IsInf(f, 0) || math.IsNaN(f) {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

// float is a number as it may be compared; beyond what a float64 holds it is infinite.
func float(n json.Number) float64 {
	f, _ := strconv.ParseFloat(string(n), 64)
	return f
}

func (s *Scope) root(name string) any {
	switch name {
	case "input":
		return s.Input
	case "ctx":
		return s.Ctx
	case "steps":
		return s.Steps
	case "item":
		return s.Item
	}
	if s.Loop == nil {
		return nil
	}
	switch name {
	case "loop_index":
		return Number(int64(s.Loop.Index))
	case "loop_iteration":
		return Number(int64(s.Loop.Index) + 1)
	case "loop_previous_output":
		return s.Loop.Previous
	}
	return nil
}

// evaluator carries the scope, and how many bytes of text may still be made.
type evaluator struct {
	scope Scope
	left  int
}

func (ev *evaluator) spend(n int) error {
	if ev.left -= n; ev.left < 0 {
		return ErrCost
	}
	return nil
}

// value evaluates an expression whose result leaves the language.
func (ev *evaluator) value(e *Expr) (any, error) {
	v, err := e.root.eval(ev)
	if n, ok := v.(json.Number); ok && (math.IsInf(float(n), 0) || math.IsNaN(float(n))) && !json.Valid([]byte(n)) {
		return nil, errors.New(string(n) + " is no value in JSON")
	}
	return v, err
}

// compare compares as the package says.
func (ev *evaluator) compare(sign string, left, right any) (bool, error) {
	if n, ok := left.(json.Number); ok {
		return compareNumbers(sign, n, right), nil
	}
	a, texts := left.(string)
	b, second := right.(string)
	if texts = texts && second; !texts {
		if sign != "==" && sign != "!=" {
			return false, nil
		}
		if left == nil || right == nil {
			return (left == nil && right == nil) == (sign == "=="), nil
		}
		var err error
		if a, err = ev.text(left); err != nil {
			return false, err
		}
		if b, err = ev.text(right); err != nil {
			return false, err
		}
	}
	return holds(sign, cmp.Compare(a, b)), ev.spend(min(len(a), len(b)))
}

func compareNumbers(sign string, left json.Number, right any) bool {
	text := "0"
	switch r := right.(type) {
	case json.Number:
		text = string(r)
	case string:
		if _, err := strconv.ParseFloat(r, 64); err == nil {
			text = r
		}
	}
	a, errA := strconv.ParseInt(string(left), 10, 64)
	b, errB := strconv.ParseInt(text, 10, 64)
	if errA == nil && errB == nil {
		return holds(sign, cmp.Compare(a, b))
	}
	x, y := float(left), float(json.Number(text))
	if math.IsNaN(x) || math.IsNaN(y) {
		return sign == "!="
	}
	return holds(sign, cmp.Compare(x, y))
}

// holds says whether the order of two values, below, at or above 0, is what the sign claims.
func holds(sign string, order int) bool {
	switch sign {
	case "==":
		return order == 0
	case "!=":
		return order != 0
	case ">=":
		return order >= 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	}
	return order < 0
}

// Text is how a value looks inside of a text: nothing for nil, whole numbers without exponent, lists and objects as compact JSON with
// sorted keys. ErrCost when it is longer than MaxCost.
func Text(v any) (string, error) {
	ev := evaluator{left: MaxCost}
	return ev.text(v)
}

func (ev *evaluator) text(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, ev.spend(len(v))
	case json.Number:
		return numberText(v), nil
	}
	var b bytes.Buffer
	err := ev.write(&b, v)
	return b.String(), err
}

func numberText(n json.Number) string {
	f := float(n)
	if !strings.ContainsAny(string(n), ".eE") || math.IsInf(f, 0) {
		return string(n)
	}
	return decimal(f)
}

// write appends compact JSON.
func (ev *evaluator) write(b *bytes.Buffer, v any) error {
	before := b.Len()
	switch v := v.(type) {
	case []any:
		return ev.writeList(b, v)
	case map[string]any:
		return ev.writeObject(b, v)
	default:
		e := json.NewEncoder(b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			return err
		}
		b.Truncate(b.Len() - 1) // the line feed that ends a value
	}
	return ev.spend(b.Len() - before)
}

func (ev *evaluator) writeList(b *bytes.Buffer, list []any) error {
	b.WriteByte('[')
	for i, item := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := ev.write(b, item); err != nil {
			return err
		}
	}
	b.WriteByte(']')
	return ev.spend(len(list) + 1)
}

func (ev *evaluator) writeObject(b *bytes.Buffer, m map[string]any) error {
	b.WriteByte('{')
	for i, key := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := ev.write(b, key); err != nil {
			return err
		}
		b.WriteByte(':')
		if err := ev.write(b, m[key]); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return ev.spend(2*len(m) + 1)
}

// weigh spends about what a value is as JSON.
func (ev *evaluator) weigh(v any) error {
	switch v := v.(type) {
	case string:
		return ev.spend(len(v) + 2)
	case json.Number:
		return ev.spend(len(v))
	case []any:
		if err := ev.spend(len(v) + 1); err != nil {
			return err
		}
		for _, item := range v {
			if err := ev.weigh(item); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		if err := ev.spend(2*len(v) + 1); err != nil {
			return err
		}
		for key, item := range v {
			if err := ev.spend(len(key) + 2); err != nil {
				return err
			}
			if err := ev.weigh(item); err != nil {
				return err
			}
		}
		return nil
	}
	return ev.spend(4)
}
