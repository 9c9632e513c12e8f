package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A small schema can ask for a lot of work: branches that refer to each other double it with every level of a value. The library has no
// bound, so each schema gets a format that counts, as formats come first of what it evaluates.

var errWork = errors.New("validation takes more work than is allowed")

// work counts the steps of the validation that runs.
type work struct{ left int }

// bounded runs a validation, and ends it when it takes too long.
func (w *work) bounded(validate func() error) (err error) {
	w.left = MaxWork
	defer func() {
		w.left = 0
		if r := recover(); r == errWork { //nolint:errorlint // it is this very value or it is not ours
			err = errWork
		} else if r != nil {
			panic(r)
		}
	}()
	return validate()
}

func (w *work) spend(n int) {
	if w.left -= n; w.left < 0 {
		panic(errWork)
	}
}

// bind makes every schema that the root leads to count, after it has made sure that none lies outside.
func (w *work) bind(root *jsonschema.Schema) error {
	all := map[*jsonschema.Schema]bool{}
	if err := collect(root, all); err != nil {
		return err
	}
	for s := range all {
		w.count(s)
	}
	return nil
}

func collect(s *jsonschema.Schema, all map[*jsonschema.Schema]bool) error {
	if s == nil || all[s] {
		return nil
	}
	if location, _, _ := strings.Cut(s.Location, "#"); location != base {
		return &outsideError{location}
	}
	if s.DynamicRef != nil || s.RecursiveRef != nil {
		return errors.New("$dynamicRef and $recursiveRef are not supported")
	}
	all[s] = true
	here, children := parts(s)
	for _, part := range append(here, children...) {
		if err := collect(part, all); err != nil {
			return err
		}
	}
	return nil
}

// parts are the schemas that a schema applies to the same value, and those that it applies to members and items.
func parts(s *jsonschema.Schema) (here, children []*jsonschema.Schema) {
	here = append(here, s.AllOf...)
	here = append(here, s.AnyOf...)
	here = append(here, s.OneOf...)
	here = append(here, s.Ref, s.Not, s.If, s.Then, s.Else)
	for _, dep := range s.Dependencies {
		if d, ok := dep.(*jsonschema.Schema); ok {
			here = append(here, d)
		}
	}
	for _, d := range s.DependentSchemas {
		here = append(here, d)
	}
	for _, p := range s.Properties {
		children = append(children, p)
	}
	for _, p := range s.PatternProperties {
		children = append(children, p)
	}
	children = append(children, s.PrefixItems...)
	children = append(children, s.PropertyNames, s.UnevaluatedProperties, s.Contains, s.Items2020, s.UnevaluatedItems, s.ContentSchema)
	for _, v := range []any{s.AdditionalProperties, s.Items, s.AdditionalItems} {
		switch v := v.(type) {
		case *jsonschema.Schema:
			children = append(children, v)
		case []*jsonschema.Schema:
			children = append(children, v...)
		}
	}
	return here, children
}

// count puts the counter in front of the schema's format.
func (w *work) count(s *jsonschema.Schema) {
	here, _ := parts(s)
	branches := 0
	for _, part := range here {
		if part != nil {
			branches++
		}
	}
	format := jsonschema.Format{Validate: func(any) error { return nil }}
	if s.Format != nil {
		format = *s.Format
	}
	inner := format.Validate
	format.Validate = func(v any) error {
		n := size(v)
		w.spend(1 + branches*(1+n) + n*(1+len(s.PatternProperties)))
		if s.UniqueItems {
			w.spend(weigh(v))
		}
		if text, ok := v.(string); ok {
			w.spend(len(text) / 64)
			if format.Name == "regex" {
				w.spend(len(text) * 64) // the text is compiled
			}
		}
		return inner(v)
	}
	s.Format = &format
}

// size is the number of members or items.
func size(v any) int {
	switch v := v.(type) {
	case map[string]any:
		return len(v)
	case []any:
		return len(v)
	}
	return 0
}

// weigh is the number of values in a value.
func weigh(v any) int {
	n := 1
	switch v := v.(type) {
	case map[string]any:
		for _, item := range v {
			n += weigh(item)
		}
	case []any:
		for _, item := range v {
			n += weigh(item)
		}
	}
	return n
}

// patterns compiles the regular expressions of one schema.
type patterns struct {
	work *work
	size int
}

// pattern is a regular expression whose matching counts as work.
type pattern struct {
	*regexp.Regexp
	work *work
	cost int // steps for 16 bytes
}

func (p *patterns) compile(text string) (jsonschema.Regexp, error) {
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	if p.size += len(prog.Inst); p.size > MaxPatterns {
		return nil, errors.New("the regular expressions of the schema are too large")
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	return &pattern{re, p.work, 4 + len(prog.Inst)}, nil
}

// MatchString matches, and counts.
func (p *pattern) MatchString(text string) bool {
	p.work.spend(1 + len(text)*p.cost/16)
	return p.Regexp.MatchString(text)
}

// inspect refuses values that are deep, large in number, or hold numbers that take long to read.
func inspect(v any) error {
	left := MaxWork
	var walk func(v any, depth int) error
	walk = func(v any, depth int) error {
		if depth > 2*MaxDepth {
			return fmt.Errorf("nested deeper than %d", 2*MaxDepth)
		}
		if left--; left < 0 {
			return errWork
		}
		switch v := v.(type) {
		case json.Number:
			return checkNumber(v)
		case map[string]any:
			for _, item := range v {
				if err := walk(item, depth+1); err != nil {
					return err
				}
			}
		case []any:
			for _, item := range v {
				if err := walk(item, depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return walk(v, 0)
}

// checkNumber refuses what a float64 cannot come near to: 1e400000 takes long to compare.
func checkNumber(n json.Number) error {
	text := string(n)
	if _, exponent, ok := strings.Cut(strings.ToLower(text), "e"); ok {
		if e, err := strconv.Atoi(exponent); err != nil || e < -400 || e > 400 {
			return fmt.Errorf("number %s is out of range", cut(text))
		}
	}
	if len(text) > 400 {
		return fmt.Errorf("number %s is too long", cut(text))
	}
	return nil
}
