// Package schema compiles JSON Schemas and validates values against them, within bounds and without ever reading anything else: a schema is
// complete in itself.
//
// The dialect is what $schema says, draft-04 to 2020-12, and 2020-12 when it says nothing. Formats are checked, except where $schema names
// 2019-09 or 2020-12, which make them annotations.
package schema

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/cordum-serverless/cordum/shared/core/workflow/expr"
	"github.com/cordum-serverless/cordum/shared/platform/nesting"
)

// Limits of schemas and of values.
const (
	MaxSize     = 128 << 10 // bytes of a schema
	MaxDepth    = 64        // objects and lists in one another, of schemas; of values twice as many
	MaxObjects  = 4000      // objects in a schema
	MaxPatterns = 64 << 10  // instructions of all regular expressions of a schema
	MaxWork     = 1 << 20   // steps of one validation; about a second
)

// Schema is a compiled schema. It may be shared; validations by one schema take turns.
type Schema struct {
	id   string
	root *jsonschema.Schema

	mu   sync.Mutex
	work *work
}

// Compile reads a schema, a JSON object; id is what errors call it. Whatever refers to something outside of the schema is refused, and
// nothing is read.
func Compile(raw []byte, id string) (*Schema, error) {
	s, err := compile(raw)
	if err != nil {
		if id == "" {
			return nil, fmt.Errorf("schema: %w", err)
		}
		return nil, fmt.Errorf("schema %q: %w", id, err)
	}
	s.id = id
	return s, nil
}

// base is where a schema stands for the compiler; nothing is there.
const base = "schema://registry/schema"

func compile(raw []byte) (*Schema, error) {
	if len(raw) > MaxSize {
		return nil, fmt.Errorf("larger than %d bytes", MaxSize)
	}
	if nesting.Deeper(raw, MaxDepth) {
		return nil, fmt.Errorf("nested deeper than %d", MaxDepth)
	}
	doc, err := expr.Decode(raw)
	if err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	m, ok := doc.(map[string]any)
	if !ok {
		return nil, errors.New("must be an object")
	}
	if err := inspect(doc); err != nil {
		return nil, err
	}
	if bytes.Count(raw, []byte{'{'}) > MaxObjects {
		return nil, fmt.Errorf("more than %d objects", MaxObjects)
	}
	s := &Schema{work: &work{}}
	c := jsonschema.NewCompiler()
	c.UseLoader(closed{})
	c.UseRegexpEngine((&patterns{work: s.work}).compile)
	if dialect, _ := m["$schema"].(string); dialect == "" {
		c.AssertFormat()
	}
	if err := c.AddResource(base, doc); err != nil {
		return nil, err
	}
	err = s.work.bounded(func() error {
		s.root, err = c.Compile(base)
		return err
	})
	if err != nil {
		return nil, explain(err)
	}
	return s, s.work.bind(s.root)
}

// closed loads nothing.
type closed struct{}

// outsideError is the error of a reference that leaves the schema.
type outsideError struct{ to string }

func (e *outsideError) Error() string {
	return fmt.Sprintf("refers to %s, and only references within the schema (#...) are allowed", e.to)
}

func (closed) Load(location string) (any, error) {
	if u, err := url.Parse(location); err == nil && u.Scheme == "schema" {
		location = strings.TrimPrefix(u.Path, "/") // a relative reference, as it was written
	}
	return nil, &outsideError{location}
}

// explain makes an error of the compiler short: which part is wrong, and why.
func explain(err error) error {
	if load, ok := errors.AsType[*jsonschema.LoadURLError](err); ok {
		return load.Err
	}
	if invalid, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		if v, ok := errors.AsType[*jsonschema.ValidationError](invalid.Err); ok {
			return errors.New("not a JSON Schema: " + describe(v))
		}
	}
	return errors.New(cut(strings.ReplaceAll(err.Error(), base, "")))
}

// Validate says what is wrong with a value, a tree as package expr describes: "schema validation failed: '/author' does not validate with
// #/properties/author/type: expected string, but got null". nil when nothing is.
func (s *Schema) Validate(value any) error {
	if err := inspect(value); err != nil {
		return fmt.Errorf("schema validation failed: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.work.bounded(func() error { return s.root.Validate(value) })
	if v, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
		err = errors.New(describe(v))
	}
	if err != nil {
		return fmt.Errorf("schema validation failed: %w", err)
	}
	return nil
}
