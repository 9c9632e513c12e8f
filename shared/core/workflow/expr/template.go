package expr

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// ErrUnterminated is the error of a ${ without its }.
var ErrUnterminated = errors.New("unterminated template expression")

// Omitted is a member that a template left out, because its expression gave nil.
type Omitted struct {
	// Path is a JSON pointer: /author.
	Path string
	// Template is the text that was there: ${input.author}.
	Template string
}

// TemplateError says where in a template something is wrong.
type TemplateError struct {
	// Path is a JSON pointer, "" for the template as a whole.
	Path     string
	Template string
	Err      error
}

// Error reads "/message: ${input.name: unterminated template expression".
func (e *TemplateError) Error() string {
	text := e.Template
	if len(text) > 80 {
		text = strings.ToValidUTF8(text[:80], "") + "…"
	}
	if e.Path == "" {
		return fmt.Sprintf("%s: %v", text, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", e.Path, text, e.Err)
}

// Unwrap answers what is wrong.
func (e *TemplateError) Unwrap() error { return e.Err }

// Template replaces ${expression} in every text of a value; keys of objects stay as they are. A text that is one expression and nothing
// else becomes its value, of any type; as a member of an object it is left out when that is nil, and reported, sorted by path. In any other
// text an expression becomes what Text says. The first } ends an expression. The error is a *TemplateError.
func Template(v any, s Scope) (any, []Omitted, error) {
	t := templater{evaluator: evaluator{scope: s, left: MaxCost}}
	v, err := t.value("", v)
	return v, t.omitted, err
}

// Check finds what cannot be read in a template, sorted by path.
func Check(v any) []*TemplateError {
	var found []*TemplateError
	check("", v, &found)
	return found
}

func check(path string, v any, found *[]*TemplateError) {
	switch v := v.(type) {
	case string:
		if err := eachPart(v, func(string) error { return nil }, func(text string) error {
			_, err := Parse(text)
			return err
		}); err != nil {
			*found = append(*found, &TemplateError{path, v, err})
		}
	case []any:
		for i, item := range v {
			check(path+"/"+strconv.Itoa(i), item, found)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			check(Pointer(path, key), v[key], found)
		}
	}
}

// IsTemplate says whether a text holds an expression.
func IsTemplate(text string) bool { return strings.Contains(text, "${") }

// Whole answers the expression that a text is, if it is one ${…} and nothing else.
func Whole(text string) (string, bool) {
	text = strings.TrimSpace(text)
	inner, ok := strings.CutPrefix(text, "${")
	if !ok || strings.Contains(inner, "${") || strings.IndexByte(inner, '}') != len(inner)-1 {
		return "", false
	}
	return strings.TrimSuffix(inner, "}"), true
}

// eachPart calls literal with what stands between expressions, and expression with each of them.
func eachPart(text string, literal, expression func(string) error) error {
	for {
		before, after, found := strings.Cut(text, "${")
		if err := literal(before); err != nil || !found {
			return err
		}
		inner, rest, closed := strings.Cut(after, "}")
		if !closed {
			return ErrUnterminated
		}
		if err := expression(inner); err != nil {
			return err
		}
		text = rest
	}
}

type templater struct {
	evaluator
	omitted []Omitted
}

func (t *templater) value(path string, v any) (any, error) {
	switch v := v.(type) {
	case string:
		made, err := t.fill(v)
		if err != nil {
			return nil, &TemplateError{path, v, err}
		}
		return made, nil
	case []any:
		made := make([]any, len(v))
		for i, item := range v {
			var err error
			if made[i], err = t.value(path+"/"+strconv.Itoa(i), item); err != nil {
				return nil, err
			}
		}
		return made, nil
	case map[string]any:
		return t.object(path, v)
	}
	return v, nil
}

func (t *templater) object(path string, m map[string]any) (any, error) {
	made := make(map[string]any, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		at := Pointer(path, key)
		v, err := t.value(at, m[key])
		if err != nil {
			return nil, err
		}
		if text, ok := m[key].(string); ok && v == nil {
			t.omitted = append(t.omitted, Omitted{at, text})
			continue
		}
		made[key] = v
	}
	return made, nil
}

func (t *templater) fill(text string) (any, error) {
	if !IsTemplate(text) {
		return text, nil
	}
	if inner, ok := Whole(text); ok {
		v, err := t.eval(inner)
		if err != nil {
			return nil, err
		}
		return v, t.weigh(v)
	}
	var b strings.Builder
	err := eachPart(text, func(part string) error {
		b.WriteString(part)
		return t.spend(len(part))
	}, func(inner string) error {
		v, err := t.eval(inner)
		if err != nil {
			return err
		}
		part, err := t.text(v)
		b.WriteString(part)
		return err
	})
	return b.String(), err
}

func (t *templater) eval(inner string) (any, error) {
	e, err := Parse(inner)
	if err != nil {
		return nil, err
	}
	return t.evaluator.value(e)
}

// Pointer is a JSON pointer one key longer.
func Pointer(path, key string) string {
	return path + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}
