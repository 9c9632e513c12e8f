package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/workflow"
	"github.com/cordum-serverless/cordum/shared/core/workflow/expr"
)

// choose answers the target of the first case whose value has the same text, and that text; else the default and "default"; else "".
func choose(b workflow.Branches, value any) (step, matched string, err error) {
	text, err := expr.Text(value)
	if err != nil {
		return "", "", err
	}
	for _, c := range b.Cases {
		of, err := expr.Text(c.Value)
		if err != nil {
			return "", "", err
		}
		if of == text && (c.Value == nil) == (value == nil) {
			return c.Target, of, nil
		}
	}
	if b.Default == "" {
		return "", "", nil
	}
	return b.Default, "default", nil
}

// operation is what a storage step does with the context of the run: read, write or delete at a path.
type operation struct {
	op    string
	key   string
	keys  []string
	value any
}

func readOperation(input map[string]any) (operation, error) {
	op, _ := input["operation"].(string)
	key, _ := input["key"].(string)
	o := operation{op: strings.ToLower(strings.TrimSpace(op)), key: strings.TrimSpace(key), value: input["value"]}
	o.keys = strings.Split(o.key, ".")
	switch {
	case o.op != "read" && o.op != "write" && o.op != "delete":
		return o, fmt.Errorf("operation %q must be read, write or delete", op)
	case slices.Contains(o.keys, ""):
		return o, errors.New("key must be a path with dots")
	case o.op != "read" && o.keys[0] == "steps":
		return o, errors.New("storage cannot change steps")
	}
	return o, nil
}
