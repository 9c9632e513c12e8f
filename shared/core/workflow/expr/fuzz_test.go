package expr

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// Whatever is read prints as something that reads as the same, and gives the same.
func FuzzExpr(f *testing.F) {
	for _, text := range []string{
		"input.n == '10'", "!a == b", "(!a) == b && c || !(d || e)", "a == (b == c) == d", "(a == b) == c", "a > !b >= c", "length(first(input.items)) > 1",
		`"it's" != 'a"b'`, "steps.fan[0].output.v", ".5 < 1e3", "0x1p4", "Inf",
		strings.Repeat("(!", 30) + "a" + strings.Repeat(") == b", 30), "-0", "a && (b && c)", "((a))", "input..a", "'", "(", "!", "é.ü == 'ö'",
	} {
		f.Add(text)
	}
	s := scope(f)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := Parse(text)
		if err != nil {
			return
		}
		printed := e.String()
		if len(printed) > MaxLength {
			return
		}
		again, err := Parse(printed)
		if err != nil {
			t.Fatalf("%q prints as %q, which is not read: %v", text, printed, err)
		}
		if !reflect.DeepEqual(e, again) || again.String() != printed {
			t.Fatalf("%q prints as %q, and that as %q", text, printed, again)
		}
		a, errA := e.Eval(s)
		b, errB := again.Eval(s)
		if (errA == nil) != (errB == nil) || !reflect.DeepEqual(a, b) {
			t.Fatalf("%q: %v, %v; as %q: %v, %v", text, a, errA, printed, b, errB)
		}
	})
}

// What Check has nothing against fails only for its cost or its value.
func FuzzTemplate(f *testing.F) {
	for _, text := range []string{"${input.n}", " ${ input.obj } ", "a ${input.text} b ${input.million}", "${", "${}", "${a}}", "${NaN}", "{{x}}", "$${a}"} {
		f.Add(text)
	}
	s := scope(f)
	f.Fuzz(func(t *testing.T, text string) {
		v := map[string]any{"k": []any{text}}
		bad := Check(v)
		made, omitted, err := Template(v, s)
		if len(bad) > 0 && err == nil || len(bad) > 1 || len(omitted) > 0 {
			t.Fatalf("%q: %v, %v, %v, %v", text, bad, made, omitted, err)
		}
		var at *TemplateError
		if err != nil && (!errors.As(err, &at) || at.Path != "/k/0" || at.Template != text) {
			t.Fatalf("%q: %v", text, err)
		}
		if err == nil && !IsTemplate(text) && !reflect.DeepEqual(made, any(v)) {
			t.Fatalf("%q: %v", text, made)
		}
	})
}
