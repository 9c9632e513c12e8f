package policy

import (
	"fmt"
	"strings"
)

// Error says what is wrong with a policy document, and where.
type Error struct {
	// Source is the name of the document: a file or a bundle.
	Source string
	// Line and Column count from 1; 0 when the fault has no place.
	Line, Column int
	Message      string
}

// Error reads "policy.yaml:3:5: unknown key …".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Source)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	b.WriteString(e.Message)
	return b.String()
}
