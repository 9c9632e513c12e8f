package workflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/workflow/expr"
)

// What the inputs of those steps say that the engine does itself. Validation reads them as they are stored, the engine with templates
// filled in; what must be known before a run begins (targets of a switch, children of a parallel, the body of a loop) is no template.

// DefaultIterations is how often a loop goes round at most when it does not say.
const DefaultIterations = 100

// MaxIterations bounds what a loop may say.
const MaxIterations = 1000

// Branches are the targets of a switch.
type Branches struct {
	Cases []Case
	// Default is the target when no case matches; "" when there is none.
	Default string
}

// Case leads from a value to a step.
type Case struct {
	Value  any
	Target string
}

// Branches reads a switch: input.cases, an object from values to steps or a list of {value or match, step}; and input.default.
func (s *Step) Branches() (Branches, error) {
	var b Branches
	var err error
	switch cases := s.Input["cases"].(type) {
	case nil:
	case map[string]any:
		for _, value := range slices.Sorted(maps.Keys(cases)) {
			c := Case{Value: value}
			if c.Target, err = target(cases[value], "cases."+value); err != nil {
				return b, err
			}
			b.Cases = append(b.Cases, c)
		}
	case []any:
		for i, item := range cases {
			c, err := readCase(item, "cases["+strconv.Itoa(i)+"]")
			if err != nil {
				return b, err
			}
			b.Cases = append(b.Cases, c)
		}
	default:
		return b, errors.New("cases must be an object from values to steps, or a list of {value, step}")
	}
	if d, ok := s.Input["default"]; ok && d != nil {
		if b.Default, err = target(d, "default"); err != nil {
			return b, err
		}
	}
	if len(b.Cases) == 0 && b.Default == "" {
		return b, errors.New("a switch needs cases or a default")
	}
	return b, nil
}

func readCase(item any, where string) (Case, error) {
	m, ok := item.(map[string]any)
	if !ok {
		return Case{}, fmt.Errorf("%s must be {value, step}", where)
	}
	c := Case{}
	if c.Value, ok = m["value"]; !ok {
		if c.Value, ok = m["match"]; !ok {
			return c, fmt.Errorf("%s has no value", where)
		}
	}
	var err error
	c.Target, err = target(m["step"], where+".step")
	return c, err
}

func target(v any, where string) (string, error) {
	id, ok := v.(string)
	if id = strings.TrimSpace(id); !ok || id == "" || expr.IsTemplate(id) {
		return "", fmt.Errorf("%s must be the id of a step", where)
	}
	return id, nil
}

// Targets are the steps that may be chosen, sorted, each once.
func (b Branches) Targets() []string {
	ids := make([]string, 0, len(b.Cases)+1)
	for _, c := range b.Cases {
		ids = append(ids, c.Target)
	}
	if b.Default != "" {
		ids = append(ids, b.Default)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Strategy is when a parallel step is done.
type Strategy string

// The strategies.
const (
	All    Strategy = "all"
	Any    Strategy = "any"
	NOfM   Strategy = "n_of_m"
	notSet Strategy = ""
)

var strategies = map[string]Strategy{
	"": All, "all": All, "any": Any, "n_of_m": NOfM, "n-of-m": NOfM, "nofm": NOfM,
}

// Children reads the steps of a parallel: input.steps, a list or a text with commas, each once, in order.
func (s *Step) Children() ([]string, error) {
	var words []any
	switch v := s.Input["steps"].(type) {
	case nil:
	case string:
		for word := range strings.SplitSeq(v, ",") {
			words = append(words, word)
		}
	case []any:
		words = v
	default:
		return nil, errors.New("steps must be a list of step ids, or a text with commas")
	}
	ids := []string{}
	for i, word := range words {
		if text, ok := word.(string); ok && strings.TrimSpace(text) == "" {
			continue
		}
		id, err := target(word, "steps["+strconv.Itoa(i)+"]")
		if err != nil {
			return nil, err
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// ParallelTerms reads input.strategy and input.required of a parallel of so many children. What must have succeeded is required: all of
// them, one, or as many as n_of_m says.
func ParallelTerms(input map[string]any, children int) (strategy Strategy, required int, err error) {
	text, ok := input["strategy"].(string)
	if !ok && input["strategy"] != nil {
		return notSet, 0, errors.New("strategy must be all, any or n_of_m")
	}
	if strategy, ok = strategies[strings.ToLower(strings.TrimSpace(text))]; !ok {
		return notSet, 0, fmt.Errorf("strategy %q must be all, any or n_of_m", text)
	}
	switch strategy {
	case All:
		return strategy, children, nil
	case Any:
		return strategy, min(1, children), nil
	}
	n, ok := count(input["required"])
	if !ok || n < 1 || n > children {
		return notSet, 0, fmt.Errorf("required must be a whole number from 1 to %d, the number of children", children)
	}
	return strategy, n, nil
}

// count reads a whole number, as number or as text.
func count(v any) (int, bool) {
	var text string
	switch v := v.(type) {
	case json.Number:
		text = v.String()
	case string:
		text = strings.TrimSpace(v)
	}
	if n, err := strconv.Atoi(text); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f != float64(int32(f)) {
		return 0, false
	}
	return int(f), true
}

// Body is the step that a loop repeats; itself when it names none.
func (s *Step) Body() (string, error) {
	for _, key := range []string{"body_step", "body"} {
		if v, ok := s.Input[key]; ok && v != nil {
			return target(v, key)
		}
	}
	return s.ID, nil
}

// LoopTerms say how long a loop goes on.
type LoopTerms struct {
	// Max iterations, from 1 to MaxIterations.
	Max int
	// Condition must be true for another iteration, and Until must not be; nil when there is none.
	Condition, Until *expr.Expr
}

// LoopTerms reads input.max_iterations (100 when there is none), input.condition and input.until, expressions with or without ${}.
func (s *Step) LoopTerms() (LoopTerms, error) {
	t := LoopTerms{Max: DefaultIterations}
	if v, ok := s.Input["max_iterations"]; ok && v != nil {
		if t.Max, ok = count(v); !ok || t.Max < 1 || t.Max > MaxIterations {
			return t, fmt.Errorf("max_iterations must be a whole number from 1 to %d", MaxIterations)
		}
	}
	var err error
	if t.Condition, err = s.loopExpr("condition"); err != nil {
		return t, err
	}
	t.Until, err = s.loopExpr("until")
	return t, err
}

func (s *Step) loopExpr(key string) (*expr.Expr, error) {
	v, ok := s.Input[key]
	if !ok || v == nil {
		return nil, nil
	}
	text, ok := v.(string)
	if !ok {
		return nil, fmt.Errorf("%s must be an expression", key)
	}
	if inner, ok := expr.Whole(text); ok {
		text = inner
	}
	e, err := expr.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return e, nil
}

// Child is the workflow that a subworkflow step runs.
type Child struct {
	WorkflowID string
	// Input is a template for the input of its run; nil is nothing.
	Input map[string]any
	// Output is a template for the output of the step; nil is the context of the child.
	Output map[string]any
}

// Child reads a subworkflow: input.workflow_id, input.input (or input_mapping) and input.output_mapping.
func (s *Step) Child() (Child, error) {
	var c Child
	id, ok := s.Input["workflow_id"].(string)
	if c.WorkflowID = strings.TrimSpace(id); !ok || c.WorkflowID == "" {
		return c, errors.New("workflow_id must be the id of a workflow")
	}
	for _, key := range []string{"input_mapping", "input", "output_mapping"} {
		v, ok := s.Input[key]
		if !ok || v == nil {
			continue
		}
		m, ok := v.(map[string]any)
		if !ok {
			return c, fmt.Errorf("%s must be an object", key)
		}
		if key == "output_mapping" {
			c.Output = m
		} else {
			c.Input = m
		}
	}
	return c, nil
}
