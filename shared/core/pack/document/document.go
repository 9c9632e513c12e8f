// Package document reads the files of a pack, JSON or YAML, into a tree: map[string]any, []any, string, bool, nil and json.Number. What a file may cost to read
// is bounded, however short it is.
package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/cordum-serverless/cordum/shared/platform/nesting"
)

// Limits of files.
const (
	// MaxYAML is for one in YAML, in bytes. Larger ones are written as JSON, whose parser takes a hundredth of the memory.
	MaxYAML  = 256 << 10
	MaxLines = 10_000 // of YAML
	// MaxDepth is how deep objects and lists may lie in one another.
	MaxDepth = 64

	// maxSize is what the values of a file may take when aliases count as often as they are used: so many bytes of text, and so many for each value.
	maxSize   = 4 << 20
	valueSize = 8
	// maxBrackets, maxLine and MaxLines keep the parser of YAML from nesting, and from lines and mappings, for which its time grows with the square.
	maxBrackets = 2000
	maxLine     = 32 << 10
)

// Object reads a file that is an object. Errors name the line where they can.
func Object(raw []byte) (map[string]any, error) {
	v, err := Read(raw)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("must be an object")
	}
	return m, nil
}

// Read reads one value. A text that is JSON is read as JSON, everything else as YAML. Keys are text, and none stands twice in an object.
func Read(raw []byte) (any, error) {
	switch {
	case !utf8.Valid(raw):
		return nil, errors.New("not UTF-8")
	case json.Valid(raw):
		return readJSON(raw)
	case len(raw) > MaxYAML:
		return nil, fmt.Errorf("not JSON, and %d bytes of YAML are more than %d (%d KiB)", len(raw), MaxYAML, MaxYAML>>10)
	}
	return readYAML(raw)
}

var errDeep = fmt.Errorf("nested deeper than %d levels", MaxDepth)

// readJSON reads a text that is known to be valid.
func readJSON(raw []byte) (any, error) {
	if nesting.Deeper(raw, MaxDepth) {
		return nil, errDeep
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return jsonReader{d}.value()
}

type jsonReader struct{ *json.Decoder }

func (j jsonReader) value() (any, error) {
	t, err := j.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('['):
		list := []any{}
		for j.More() {
			v, err := j.value()
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := j.Token()
		return list, err
	case json.Delim('{'):
		return j.object()
	}
	return t, nil
}

func (j jsonReader) object() (any, error) {
	m := map[string]any{}
	for j.More() {
		t, err := j.Token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string)
		if _, twice := m[key]; twice {
			return nil, fmt.Errorf("key %q stands twice in an object", key)
		}
		if m[key], err = j.value(); err != nil {
			return nil, err
		}
	}
	_, err := j.Token()
	return m, err
}

func readYAML(raw []byte) (v any, err error) {
	if nesting.DeeperYAML(raw, maxBrackets, MaxDepth) {
		return nil, errDeep
	}
	line := 0
	for text := range bytes.Lines(raw) {
		if line++; len(text) > maxLine {
			return nil, fmt.Errorf("line %d: %d bytes; at most %d", line, len(text), maxLine)
		}
	}
	if line > MaxLines {
		return nil, fmt.Errorf("%d lines of YAML; at most %d", line, MaxLines)
	}
	file, err := parser.ParseBytes(raw, 0)
	if wrong, ok := errors.AsType[*yaml.SyntaxError](err); ok {
		return nil, fmt.Errorf("line %d: %s", wrong.Token.Position.Line, wrong.Message)
	}
	if err != nil {
		return nil, err
	}
	y := yamlReader{anchors: map[string]anchor{}}
	seen := false
	for _, doc := range file.Docs {
		switch doc.Body.(type) {
		case nil, *ast.DirectiveNode, *ast.CommentGroupNode:
			continue
		}
		if seen {
			return nil, wrong(doc.Body, "more than one document")
		}
		if v, err = y.value(doc.Body, 0); err != nil {
			return nil, err
		}
		seen = true
	}
	return v, nil
}

func wrong(n ast.Node, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if t := n.GetToken(); t != nil && t.Position != nil {
		return fmt.Errorf("line %d: %s", t.Position.Line, text)
	}
	return errors.New(text)
}

type yamlReader struct {
	anchors map[string]anchor
	size    int
}

// anchor is a value that has a name, and what it takes.
type anchor struct {
	value any
	size  int
	depth int
}

func (y *yamlReader) spend(n ast.Node, size int) error {
	if y.size += size; y.size > maxSize {
		return wrong(n, "the values are more than %d bytes, aliases counted as often as they are used", maxSize)
	}
	return nil
}

func (y *yamlReader) value(n ast.Node, depth int) (any, error) {
	if depth > MaxDepth {
		return nil, errDeep
	}
	if err := y.spend(n, valueSize); err != nil {
		return nil, err
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return y.object(n.Values, depth)
	case *ast.SequenceNode:
		list := make([]any, len(n.Values))
		for i, item := range n.Values {
			var err error
			if list[i], err = y.value(item, depth+1); err != nil {
				return nil, err
			}
		}
		return list, nil
	case *ast.AnchorNode:
		before := y.size
		v, err := y.value(n.Value, depth)
		y.anchors[n.Name.GetToken().Value] = anchor{v, y.size - before, depthOf(v)} // afterwards: an anchor is not known inside itself
		return v, err
	case *ast.AliasNode:
		named, ok := y.anchors[n.Value.GetToken().Value]
		switch {
		case !ok:
			return nil, wrong(n, "no anchor is called %q", n.Value.GetToken().Value)
		case depth+named.depth > MaxDepth:
			return nil, errDeep
		}
		return named.value, y.spend(n, named.size)
	}
	return y.scalar(n)
}

// depthOf is how deep a value is nested, 0 for a scalar. Values that were read are no deeper than MaxDepth.
func depthOf(v any) int {
	depth := 0
	switch v := v.(type) {
	case map[string]any:
		for _, child := range v {
			depth = max(depth, 1+depthOf(child))
		}
	case []any:
		for _, child := range v {
			depth = max(depth, 1+depthOf(child))
		}
	}
	return depth
}

func (y *yamlReader) object(values []*ast.MappingValueNode, depth int) (any, error) {
	m := make(map[string]any, len(values))
	for _, v := range values {
		if _, merge := v.Key.(*ast.MergeKeyNode); merge {
			return nil, wrong(v.Key, "merge keys are not supported; write the members out")
		}
		key, ok := v.Key.(*ast.StringNode)
		if !ok {
			return nil, wrong(v.Key, "a key must be text; quote it")
		}
		if _, twice := m[key.Value]; twice {
			return nil, wrong(key, "key %q stands twice in an object", key.Value)
		}
		if err := y.spend(key, len(key.Value)); err != nil {
			return nil, err
		}
		var err error
		if m[key.Value], err = y.value(v.Value, depth+1); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (y *yamlReader) scalar(n ast.Node) (any, error) {
	switch n := n.(type) {
	case *ast.NullNode:
		return nil, nil
	case *ast.BoolNode:
		return n.Value, nil
	case *ast.StringNode:
		return n.Value, y.spend(n, len(n.Value))
	case *ast.LiteralNode:
		return n.Value.Value, y.spend(n, len(n.Value.Value))
	case *ast.IntegerNode:
		switch i := n.Value.(type) {
		case int64:
			return json.Number(strconv.FormatInt(i, 10)), nil
		case uint64:
			return json.Number(strconv.FormatUint(i, 10)), nil
		}
	case *ast.FloatNode:
		if text := n.Token.Value; json.Valid([]byte(text)) {
			return json.Number(text), y.spend(n, len(text)) // as it was written: a version of 1.10 is not 1.1
		}
		if !math.IsInf(n.Value, 0) && !math.IsNaN(n.Value) {
			return json.Number(strconv.FormatFloat(n.Value, 'g', -1, 64)), nil
		}
	}
	return nil, wrong(n, "%s is not supported here", n.Type())
}
