package expr

import (
	"encoding/json"
	"strings"
)

// node is a part of an expression. print answers it as it may stand where the level is wanted, in parentheses if it binds less.
type node interface {
	eval(ev *evaluator) (any, error)
	print(level int) string
}

type (
	literal struct{ value any }
	path    struct{ keys []string }
	call    struct {
		name string
		of   node
	}
	not        struct{ of node }
	comparison struct {
		level       int
		sign        string
		left, right node
	}
	// chain is two or more members between && or ||.
	chain struct {
		level   int
		sign    string
		members []node
	}
)

var functions = []string{"length", "first"}

func (n *literal) print(int) string {
	switch v := n.value.(type) {
	case string:
		return quote(v)
	case json.Number:
		return v.String()
	case bool:
		if v {
			return "true"
		}
	}
	return "false"
}

func (n *path) print(int) string { return strings.Join(n.keys, ".") }

func (n *call) print(int) string { return n.name + "(" + n.of.print(levelOr) + ")" }

func (n *not) print(level int) string {
	if level == levelOperand {
		return "(" + n.print(levelEqual) + ")"
	}
	return "!" + n.of.print(max(level, levelEqual))
}

func (n *comparison) print(level int) string {
	wanted := n.level + 1
	if _, negated := n.left.(*not); negated {
		wanted = levelOperand
	}
	return within(level, n.level, n.left.print(wanted)+" "+n.sign+" "+n.right.print(n.level))
}

func (n *chain) print(level int) string {
	parts := make([]string, len(n.members))
	for i, m := range n.members {
		parts[i] = m.print(n.level + 1)
	}
	return within(level, n.level, strings.Join(parts, " "+n.sign+" "))
}

func within(wanted, has int, text string) string {
	if has < wanted {
		return "(" + text + ")"
	}
	return text
}

func (n *literal) eval(*evaluator) (any, error) { return n.value, nil }

func (n *path) eval(ev *evaluator) (any, error) {
	v := ev.scope.root(n.keys[0])
	for _, key := range n.keys[1:] {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v, nil
}

func (n *call) eval(ev *evaluator) (any, error) {
	v, err := n.of.eval(ev)
	if err != nil {
		return nil, err
	}
	if n.name == "first" {
		if list, ok := v.([]any); ok && len(list) > 0 {
			return list[0], nil
		}
		return nil, nil
	}
	switch v := v.(type) {
	case []any:
		return Number(int64(len(v))), nil
	case map[string]any:
		return Number(int64(len(v))), nil
	case string:
		return Number(int64(len(v))), nil
	}
	return Number(0), nil
}

func (n *not) eval(ev *evaluator) (any, error) {
	v, err := n.of.eval(ev)
	return !Truthy(v), err
}

func (n *comparison) eval(ev *evaluator) (any, error) {
	left, err := n.left.eval(ev)
	if err != nil {
		return nil, err
	}
	right, err := n.right.eval(ev)
	if err != nil {
		return nil, err
	}
	return ev.compare(n.sign, left, right)
}

// eval answers a bool, and stops at the member that decides.
func (n *chain) eval(ev *evaluator) (any, error) {
	decides := n.level == levelOr
	for _, m := range n.members {
		v, err := m.eval(ev)
		if err != nil {
			return nil, err
		}
		if Truthy(v) == decides {
			return decides, nil
		}
	}
	return !decides, nil
}
