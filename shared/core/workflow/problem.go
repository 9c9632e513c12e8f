package workflow

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/fault"
)

// Problem is something that is wrong with a definition.
type Problem struct {
	// Step is the id of the step, "" for the workflow itself.
	Step string `json:"step"`
	// Field is the member that is wrong.
	Field   string `json:"field"`
	Message string `json:"message"`
}

// String reads `step "load": depends_on: there is no step "lod"`.
func (p Problem) String() string {
	text := p.Message
	if p.Field != "" {
		text = p.Field + ": " + text
	}
	if p.Step != "" {
		text = fmt.Sprintf("step %q: %s", p.Step, text)
	}
	return text
}

// Problems are what is wrong, those of the workflow first, then by step and member.
type Problems []Problem

func (ps *Problems) add(step, field, format string, args ...any) {
	*ps = append(*ps, Problem{step, field, fmt.Sprintf(format, args...)})
}

func (ps Problems) sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Step, b.Step), strings.Compare(a.Field, b.Field), strings.Compare(a.Message, b.Message))
	})
}

// shown is how many problems a message tells; all of them are in its details.
const shown = 10

// Fault says all of it to a caller, nil when there is nothing. Its detail "problems" has step, field and message of each.
func (ps Problems) Fault() *fault.Error {
	if len(ps) == 0 {
		return nil
	}
	texts := make([]string, 0, shown+1)
	for _, p := range ps[:min(shown, len(ps))] {
		texts = append(texts, p.String())
	}
	if more := len(ps) - shown; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return fault.New(fault.Invalid, "invalid workflow: %s", strings.Join(texts, "; ")).With("problems", []Problem(ps))
}
