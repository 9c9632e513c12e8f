package job

import (
	"fmt"
	"strings"
)

// Document writes docs/states.md: the state machine as a diagram and a table, made from Transitions.
func Document() string {
	var b strings.Builder
	b.WriteString("<!-- Generated from shared/core/job/state.go by `make docs`. Do not edit. -->\n# The states of a job\n\n```mermaid\nstateDiagram-v2\n")
	for _, t := range Transitions {
		from := string(t.From)
		if from == "" {
			from = "[*]"
		}
		fmt.Fprintf(&b, "    %s --> %s\n", from, t.To)
	}
	for _, s := range States {
		if s.Terminal() {
			fmt.Fprintf(&b, "    %s --> [*]\n", s)
		}
	}
	b.WriteString("```\n\n| from | to | cause |\n|---|---|---|\n")
	for _, t := range Transitions {
		from := string(t.From)
		if from == "" {
			from = "new"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", from, t.To, t.Cause)
	}
	b.WriteString("\nA state may always be written to itself. SUCCEEDED, FAILED, CANCELLED, TIMEOUT and DENIED are ends: nothing leaves them.\n")
	return b.String()
}
