package expr

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Limits of one expression, and of what evaluating one expression or template may read and write.
const (
	MaxLength = 4 << 10 // bytes of text
	MaxDepth  = 64      // parentheses, calls and operators in one another
	MaxCost   = 8 << 20 // bytes of text made
)

// Scope is what an expression sees. A root that is nil is as one that is not there.
type Scope struct {
	// Input is the input of the run.
	Input any
	// Ctx is the context of the run, and Steps its member of that name.
	Ctx, Steps any
	// Item is that of a child of a for_each.
	Item any
	// Loop is that of an iteration of a loop.
	Loop *Loop
}

// Loop is the state of an iteration, seen under the names that its jobs have in their environment: loop_index, loop_iteration (one more)
// and loop_previous_output.
type Loop struct {
	Index    int
	Previous any
}

// Error says what is wrong with an expression, and where.
type Error struct {
	// Position is that of the byte, from 1.
	Position int
	Message  string
}

// Error reads "unexpected ) at 5".
func (e *Error) Error() string { return fmt.Sprintf("%s at %d", e.Message, e.Position) }

// ErrCost is the error of what would take more than MaxCost.
var ErrCost = fmt.Errorf("expression makes more than %d bytes of text", MaxCost)

// Expr is an expression that was read.
type Expr struct{ root node }

// String is the expression in one spelling, which reads as the same expression.
func (e *Expr) String() string { return e.root.print(0) }

// Eval gives the value.
func (e *Expr) Eval(s Scope) (any, error) {
	ev := evaluator{scope: s, left: MaxCost}
	return ev.value(e)
}

// Eval reads and evaluates an expression.
func Eval(text string, s Scope) (any, error) {
	e, err := Parse(text)
	if err != nil {
		return nil, err
	}
	return e.Eval(s)
}

// Truthy says what counts as true: nil does not; a bool is itself; a text does unless it is empty, a number unless it is 0; lists and
// objects do, empty ones too.
func Truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case json.Number:
		return float(v) != 0
	}
	return true
}

// Decode reads one JSON value into a tree with json.Number.
func Decode(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return v, nil
}
