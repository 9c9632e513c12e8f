package workflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/workflow/expr"
)

// Payload makes what a step works on: its input with templates filled in, or, when it has none, the whole input of the run; and the item of
// a for_each as "item", unless there is none or the payload has that member. A member that a template left out is an error when the step's
// own input_schema requires it. Schemas are not validated here.
func (s *Step) Payload(scope expr.Scope) (map[string]any, error) {
	payload, err := s.fill(scope)
	if err != nil {
		return nil, err
	}
	if _, taken := payload["item"]; !taken && scope.Item != nil {
		payload["item"] = scope.Item
	}
	return payload, nil
}

func (s *Step) fill(scope expr.Scope) (map[string]any, error) {
	if len(s.Input) == 0 {
		input, ok := scope.Input.(map[string]any)
		if !ok && scope.Input != nil {
			return nil, errors.New("the input of the run is no object")
		}
		payload := make(map[string]any, len(input)+1)
		maps.Copy(payload, input)
		return payload, nil
	}
	v, omitted, err := expr.Template(s.Input, scope)
	if err != nil {
		return nil, fmt.Errorf("input %w", err)
	}
	if err := s.required(omitted); err != nil {
		return nil, err
	}
	payload, _ := v.(map[string]any)
	return payload, nil
}

// required says which member that the schema requires a template left out.
func (s *Step) required(omitted []expr.Omitted) error {
	if len(omitted) == 0 || s.InputSchema == nil {
		return nil
	}
	var schema struct {
		Required []string `json:"required"`
	}
	_ = json.Unmarshal(s.InputSchema, &schema) // whoever compiles it says what is wrong
	names := map[string]bool{}
	for _, name := range schema.Required {
		names[expr.Pointer("", name)] = true
	}
	for _, o := range omitted {
		if names[o.Path] {
			return fmt.Errorf("input %s is required, and its template %s gives nothing", strings.TrimPrefix(o.Path, "/"), o.Template)
		}
	}
	return nil
}
