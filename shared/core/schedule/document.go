package schedule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// node is a value of a parsed document and the place where it stands, so that every refusal names the key.
type node struct {
	path  string
	value any
}

func at(section, key string) node { return node{path: section + "[" + strconv.Quote(key) + "]"} }

func (n node) errorf(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if n.path == "" {
		return errors.New(text)
	}
	return errors.New(n.path + ": " + text)
}

// parse reads one YAML or JSON document. JSON has a parser of its own since its string escapes are not all YAML's.
func parse(raw []byte) (node, error) {
	var v any
	if json.Valid(raw) {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			return node{}, err
		}
		return node{value: v}, nil
	}
	d := yaml.NewDecoder(bytes.NewReader(raw))
	if err := d.Decode(&v); err != nil && !errors.Is(err, io.EOF) {
		return node{}, errors.New(yaml.FormatError(err, false, false))
	}
	var second any
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return node{}, errors.New("more than one document")
	}
	return node{value: v}, nil
}

// members answers the members of an object whose only keys are the known ones. Nothing at all is an object without members.
func (n node) members(known ...string) (map[string]node, error) {
	all, err := n.entries()
	if err != nil {
		return nil, err
	}
	for _, k := range sortedKeys(all) {
		if !slices.Contains(known, k) {
			return nil, all[k].errorf("unknown key; known here: %s", strings.Join(known, ", "))
		}
	}
	return all, nil
}

// entries answers the members of an object whatever its keys are.
func (n node) entries() (map[string]node, error) {
	return n.children(func(k string) string { return strings.TrimPrefix(n.path+"."+k, ".") })
}

// named answers the entries of an object whose keys are names: none is blank or begins or ends with space.
func (n node) named() (map[string]node, error) {
	all, err := n.children(func(k string) string { return at(n.path, k).path })
	if err != nil {
		return nil, err
	}
	for _, k := range sortedKeys(all) {
		if err := checkName(k, all[k]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func checkName(name string, n node) error {
	if strings.TrimSpace(name) != name || name == "" {
		return n.errorf("a name is not empty and has no surrounding space")
	}
	return nil
}

func (n node) children(path func(key string) string) (map[string]node, error) {
	object, ok := n.value.(map[string]any)
	if !ok && n.value != nil {
		return nil, n.errorf("must be an object")
	}
	children := make(map[string]node, len(object))
	for k, v := range object {
		children[k] = node{path: path(k), value: v}
	}
	return children, nil
}

func (n node) list() ([]node, error) {
	values, ok := n.value.([]any)
	if !ok && n.value != nil {
		return nil, n.errorf("must be a list")
	}
	nodes := make([]node, len(values))
	for i, v := range values {
		nodes[i] = node{path: n.path + "[" + strconv.Itoa(i) + "]", value: v}
	}
	return nodes, nil
}

func (n node) text() (string, error) {
	s, ok := n.value.(string)
	if !ok {
		return "", n.errorf("must be text")
	}
	return s, nil
}

// texts answers a list of texts, never nil.
func (n node) texts() ([]string, error) {
	nodes, err := n.list()
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(nodes))
	for i, item := range nodes {
		if texts[i], err = item.text(); err != nil {
			return nil, err
		}
	}
	return texts, nil
}

// count answers a whole number from 0 to limit; nil when nothing stands here.
func (n node) count(limit int64) (*int64, error) {
	if n.value == nil {
		return nil, nil
	}
	f, ok := number(n.value)
	switch {
	case !ok || f != math.Trunc(f):
		return nil, n.errorf("must be a whole number")
	case f < 0:
		return nil, n.errorf("must not be negative")
	case f > float64(limit):
		return nil, n.errorf("must be at most %d", limit)
	}
	i := int64(f)
	return &i, nil
}

// number answers the value of a JSON or YAML number. No number that is used here needs more than the 53 bits of a float64.
func number(v any) (f float64, ok bool) {
	switch x := v.(type) {
	case json.Number:
		f, err := x.Float64()
		return f, err == nil
	case uint64:
		return float64(x), true
	case int64:
		return float64(x), true
	case float64:
		return x, !math.IsNaN(x)
	}
	return 0, false
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
