package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/cordum-serverless/cordum/shared/platform/nesting"
)

// Limits of documents, in bytes.
const (
	// MaxDocument is for one document: a bundle fits into an item of the table.
	MaxDocument = 256 << 10
	// MaxPolicy is for all documents of a policy together.
	MaxPolicy = 4 << 20
)

// What a document may cost to read.
const (
	// maxNodes is for YAML: aliases count as often as they are used, so that a short document cannot stand for an endless one.
	maxNodes = 1 << 17
	maxDepth = 100
	// maxEntries bounds each list and each object: rules of a document, patterns of a rule.
	maxEntries = 10_000
	// maxBrackets bounds what the parser is given, whose time grows with the square of the nesting. Brackets inside text count too.
	maxBrackets = 2000
	// maxLine bounds a line of YAML, for the same reason. A JSON document may be one line.
	maxLine = 32 << 10
)

type kind uint8

const (
	null kind = iota
	boolean
	integer
	number // that is not a whole one
	text
	list
	object
)

// node is a value of a document and where it stands.
type node struct {
	line, column int
	kind         kind
	text         string
	integer      int64
	boolean      bool
	items        []node
	members      []member
}

type member struct {
	line, column int
	key          string
	value        node
}

func (n node) errorf(format string, args ...any) error {
	return fail(n.line, n.column, format, args...)
}

func (m member) errorf(format string, args ...any) error {
	return fail(m.line, m.column, format, args...)
}

func fail(line, column int, format string, args ...any) error {
	return &Error{Line: line, Column: column, Message: fmt.Sprintf(format, args...)}
}

// read makes the tree of one YAML or JSON document. JSON has a reader of its own, since it is many times faster.
func read(raw []byte) (node, error) {
	if len(raw) > MaxDocument {
		return node{}, fail(0, 0, "%d bytes; a policy document has at most %d (%d KiB)", len(raw), MaxDocument, MaxDocument>>10)
	}
	if json.Valid(raw) {
		return readJSON(raw)
	}
	return readYAML(raw)
}

func readYAML(raw []byte) (n node, err error) {
	if nesting.DeeperYAML(raw, maxBrackets, maxDepth) {
		return node{}, fail(0, 0, "nested deeper than %d levels", maxDepth)
	}
	line := 0
	for text := range bytes.Lines(raw) {
		if line++; len(text) > maxLine {
			return node{}, fail(line, 1, "a line of %d bytes; at most %d", len(text), maxLine)
		}
	}
	file, err := parser.ParseBytes(raw, 0)
	if wrong, ok := errors.AsType[*yaml.SyntaxError](err); ok {
		at := wrong.Token.Position
		return node{}, fail(at.Line, at.Column, "%s", wrong.Message)
	}
	if err != nil {
		return node{}, fail(0, 0, "%s", err)
	}
	y := yamlReader{anchors: map[string]anchor{}}
	seen := false
	for _, doc := range file.Docs {
		switch doc.Body.(type) {
		case nil, *ast.DirectiveNode, *ast.CommentGroupNode:
			continue
		}
		if n, err = y.node(doc.Body, 0); err != nil {
			return node{}, err
		}
		if seen {
			return node{}, n.errorf("more than one document")
		}
		seen = true
	}
	return n, nil
}

type yamlReader struct {
	anchors map[string]anchor
	nodes   int
}

// anchor is a value that has a name, and how many values it holds.
type anchor struct {
	value node
	nodes int
}

func (n node) tooLong(entries int) error {
	return n.errorf("%d entries; a list or object has at most %d", entries, maxEntries)
}

func place(n ast.Node) node {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return node{line: t.Position.Line, column: t.Position.Column}
	}
	return node{}
}

func (y *yamlReader) node(from ast.Node, depth int) (node, error) {
	n := place(from)
	if y.nodes++; y.nodes > maxNodes {
		return n, n.errorf("more than %d values", maxNodes)
	}
	if depth > maxDepth {
		return n, n.errorf("nested deeper than %d levels", maxDepth)
	}
	switch v := from.(type) {
	case *ast.MappingNode:
		if !v.IsFlowStyle && len(v.Values) > 0 { // the token of a block mapping is its first colon
			n = place(v.Values[0].Key)
		}
		if len(v.Values) > maxEntries {
			return n, n.tooLong(len(v.Values))
		}
		return y.object(n, v.Values, depth)
	case *ast.SequenceNode:
		if len(v.Values) > maxEntries {
			return n, n.tooLong(len(v.Values))
		}
		n.kind, n.items = list, make([]node, len(v.Values))
		for i, item := range v.Values {
			var err error
			if n.items[i], err = y.node(item, depth+1); err != nil {
				return n, err
			}
		}
		return n, nil
	case *ast.AnchorNode:
		before := y.nodes
		named, err := y.node(v.Value, depth+1)
		y.anchors[v.Name.GetToken().Value] = anchor{named, y.nodes - before} // afterwards: an anchor is not known inside itself
		return named, err
	case *ast.AliasNode:
		named, ok := y.anchors[v.Value.GetToken().Value]
		if !ok {
			return n, n.errorf("no anchor is called %q", v.Value.GetToken().Value)
		}
		if y.nodes += named.nodes; y.nodes > maxNodes {
			return n, n.errorf("more than %d values", maxNodes)
		}
		return named.value, nil
	default:
		return scalar(n, from)
	}
}

func (y *yamlReader) object(n node, values []*ast.MappingValueNode, depth int) (node, error) {
	n.kind, n.members = object, make([]member, 0, len(values))
	for _, v := range values {
		at := place(v.Key)
		if _, merge := v.Key.(*ast.MergeKeyNode); merge {
			return n, at.errorf("merge keys are not supported; write the members out")
		}
		key, ok := v.Key.(*ast.StringNode)
		if !ok {
			return n, at.errorf("a key must be text; quote it")
		}
		value, err := y.node(v.Value, depth+1)
		if err != nil {
			return n, err
		}
		n.members = append(n.members, member{line: at.line, column: at.column, key: key.Value, value: value})
	}
	return n, n.unique()
}

func (n node) unique() error {
	seen := make(map[string]bool, len(n.members))
	for _, m := range n.members {
		if seen[m.key] {
			return m.errorf("key %q stands here twice", m.key)
		}
		seen[m.key] = true
	}
	return nil
}

func scalar(n node, from ast.Node) (node, error) {
	switch v := from.(type) {
	case *ast.NullNode:
	case *ast.BoolNode:
		n.kind, n.boolean = boolean, v.Value
	case *ast.StringNode:
		n.kind, n.text = text, v.Value
	case *ast.LiteralNode:
		n.kind, n.text = text, v.Value.Value
	case *ast.IntegerNode:
		n.kind = number
		switch i := v.Value.(type) {
		case int64:
			n.kind, n.integer = integer, i
		case uint64:
			if i <= math.MaxInt64 {
				n.kind, n.integer = integer, int64(i)
			}
		}
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		n.kind = number
	default:
		return n, n.errorf("%s is not supported here", from.Type())
	}
	return n, nil
}

// readJSON reads a text that is known to be valid JSON.
func readJSON(raw []byte) (node, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	j := jsonReader{raw: raw, tokens: d, line: 1}
	return j.node(0)
}

type jsonReader struct {
	raw    []byte
	tokens *json.Decoder
	// offset and line of what was last placed, and where its line begins.
	offset, line, lineStart int
}

// next answers the next token and where it begins.
func (j *jsonReader) next() (json.Token, node, error) {
	start := int(j.tokens.InputOffset())
	for start < len(j.raw) && bytes.IndexByte([]byte(" \t\r\n,:"), j.raw[start]) >= 0 {
		start++
	}
	for ; j.offset < start; j.offset++ {
		if j.raw[j.offset] == '\n' {
			j.line, j.lineStart = j.line+1, j.offset+1
		}
	}
	t, err := j.tokens.Token()
	if err != nil {
		err = fail(j.line, start-j.lineStart+1, "%s", err)
	}
	return t, node{line: j.line, column: start - j.lineStart + 1}, err
}

func (j *jsonReader) node(depth int) (node, error) {
	t, n, err := j.next()
	if err != nil {
		return n, err
	}
	if depth > maxDepth {
		return n, n.errorf("nested deeper than %d levels", maxDepth)
	}
	switch v := t.(type) {
	case bool:
		n.kind, n.boolean = boolean, v
	case string:
		n.kind, n.text = text, v
	case json.Number:
		n.kind = number
		if i, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			n.kind, n.integer = integer, i
		}
	case json.Delim:
		if v == '[' {
			return j.list(n, depth)
		}
		return j.object(n, depth)
	}
	return n, nil
}

func (j *jsonReader) list(n node, depth int) (node, error) {
	n.kind = list
	for j.tokens.More() {
		item, err := j.node(depth + 1)
		if err != nil {
			return n, err
		}
		n.items = append(n.items, item)
	}
	if len(n.items) > maxEntries {
		return n, n.tooLong(len(n.items))
	}
	_, _, err := j.next()
	return n, err
}

func (j *jsonReader) object(n node, depth int) (node, error) {
	n.kind = object
	for j.tokens.More() {
		key, at, err := j.next()
		if err != nil {
			return n, err
		}
		value, err := j.node(depth + 1)
		if err != nil {
			return n, err
		}
		name, _ := key.(string)
		n.members = append(n.members, member{line: at.line, column: at.column, key: name, value: value})
	}
	if len(n.members) > maxEntries {
		return n, n.tooLong(len(n.members))
	}
	if _, _, err := j.next(); err != nil {
		return n, err
	}
	return n, n.unique()
}
