package expr

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrEmpty is the error of an expression that says nothing.
var ErrEmpty = errors.New("empty expression")

// The levels of the grammar, from what binds least. Between equal and operand lie the comparisons, in the order of the list.
const (
	levelOr      = 0
	levelAnd     = 1
	levelEqual   = 2
	levelOperand = levelEqual + 6
)

var comparisons = []string{"==", "!=", ">=", "<=", ">", "<"}

// Parse reads an expression. Errors are ErrEmpty or an *Error.
func Parse(text string) (*Expr, error) {
	switch {
	case len(text) > MaxLength:
		return nil, errorAt(MaxLength, "expression longer than %d bytes", MaxLength)
	case !utf8.ValidString(text):
		return nil, errorAt(0, "expression is not UTF-8")
	case strings.TrimSpace(text) == "":
		return nil, ErrEmpty
	}
	tokens, err := scan(text)
	if err != nil {
		return nil, err
	}
	p := parser{tokens: tokens}
	root, err := p.or()
	if err == nil && p.peek().kind != end {
		err = p.unexpected()
	}
	if err != nil {
		return nil, err
	}
	return &Expr{root: root}, nil
}

type parser struct {
	tokens []token
	depth  int
}

func (p *parser) peek() token { return p.tokens[0] }

// next goes on; there is something to go on to.
func (p *parser) next() { p.tokens = p.tokens[1:] }

// accept takes the sign if it comes next.
func (p *parser) accept(s string) bool {
	t := p.peek()
	if t.kind != sign || t.text != s {
		return false
	}
	p.next()
	return true
}

func (p *parser) unexpected() error {
	t := p.peek()
	return errorAt(t.at, "unexpected %s", t)
}

// deeper reads something inside of something.
func (p *parser) deeper(read func() (node, error)) (node, error) {
	if p.depth++; p.depth > MaxDepth {
		return nil, errorAt(p.peek().at, "expression nested deeper than %d", MaxDepth)
	}
	defer func() { p.depth-- }()
	return read()
}

func (p *parser) or() (node, error) { return p.chain(levelOr, "||", p.and) }

func (p *parser) and() (node, error) {
	return p.chain(levelAnd, "&&", func() (node, error) { return p.compare(levelEqual) })
}

func (p *parser) chain(level int, s string, member func() (node, error)) (node, error) {
	first, err := member()
	if err != nil {
		return nil, err
	}
	c := &chain{level: level, sign: s, members: []node{first}}
	for p.accept(s) {
		n, err := member()
		if err != nil {
			return nil, err
		}
		c.members = append(c.members, n)
	}
	if len(c.members) == 1 {
		return first, nil
	}
	return c, nil
}

// compare reads what binds at least as tight as the level. A "!" in front takes all of it.
func (p *parser) compare(level int) (node, error) {
	if level == levelOperand {
		return p.operand()
	}
	again := func() (node, error) { return p.compare(level) }
	if p.accept("!") {
		n, err := p.deeper(again)
		return &not{n}, err
	}
	left, err := p.compare(level + 1)
	if err != nil {
		return nil, err
	}
	s := comparisons[level-levelEqual]
	if !p.accept(s) {
		return left, nil
	}
	right, err := p.deeper(again)
	return &comparison{level: level, sign: s, left: left, right: right}, err
}

func (p *parser) operand() (node, error) {
	t := p.peek()
	switch {
	case t.kind == quoted:
		p.next()
		return &literal{t.text}, nil
	case p.accept("("):
		return p.closed()
	case t.kind != word:
		return nil, p.unexpected()
	}
	p.next()
	if !p.accept("(") {
		return wordNode(t)
	}
	if !slices.Contains(functions, t.text) {
		return nil, errorAt(t.at, "unknown function %s", t.text)
	}
	n, err := p.closed()
	return &call{name: t.text, of: n}, err
}

// closed reads an expression and its closing parenthesis.
func (p *parser) closed() (node, error) {
	n, err := p.deeper(p.or)
	if err == nil && !p.accept(")") {
		err = p.unexpected()
	}
	return n, err
}

func wordNode(t token) (node, error) {
	switch t.text {
	case "true":
		return &literal{true}, nil
	case "false":
		return &literal{false}, nil
	}
	f, err := strconv.ParseFloat(t.text, 64)
	switch {
	case err == nil && json.Valid([]byte(t.text)):
		return &literal{json.Number(t.text)}, nil
	case err == nil:
		return &literal{number(f)}, nil
	case errors.Is(err, strconv.ErrRange):
		return nil, errorAt(t.at, "number %s is too large", t.text)
	case strings.ContainsAny(t.text[:1], "0123456789+-"):
		return nil, errorAt(t.at, "%s is no number", t.text)
	case strings.ContainsAny(t.text[:1], ":/#~[]"):
		return nil, errorAt(t.at, "unexpected %s", t.text)
	}
	keys := strings.Split(t.text, ".")
	if slices.Contains(keys, "") {
		return nil, errorAt(t.at, "path %s has an empty key", t.text)
	}
	if i := strings.IndexByte(t.text, '+'); i >= 0 {
		return nil, errorAt(t.at+i, "unexpected +")
	}
	return &path{keys}, nil
}
