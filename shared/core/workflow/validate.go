package workflow

import (
	"encoding/json"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/schema"
	"github.com/cordum-serverless/cordum/shared/core/workflow/expr"
)

// Limits of a definition.
const (
	MaxSteps   = 500
	MaxSize    = 1 << 20 // bytes of JSON
	MaxName    = 256     // letters
	MaxTimeout = 7 * 24 * 60 * 60
	MaxDelay   = 365 * 24 * 60 * 60
	MaxRetries = 100
	// maxMultiplier of a backoff that grows.
	maxMultiplier = 1000
	// maxProblems ends a list that nobody reads to its end.
	maxProblems = 200
)

// Forms of ids. That of a step stands in ids of jobs and in paths of expressions.
var (
	idForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	stepForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

// ValidID says whether a workflow may have the id.
func ValidID(id string) bool { return idForm.MatchString(id) }

// Validate finds everything that is wrong with a definition which has its id. What depends on other things than itself, as registered
// schemas and other workflows, is not looked at; nor is what an author may leave for the run to say, as a condition that is empty.
func Validate(w *Workflow) Problems {
	var ps Problems
	text, err := json.Marshal(w)
	switch {
	case err != nil:
		ps.add("", "", "not JSON: %v", err)
		return ps
	case len(text) > MaxSize:
		ps.add("", "", "larger than %d bytes", MaxSize)
		return ps
	}
	if len(w.Steps) > MaxSteps {
		ps.add("", "steps", "%d steps, and at most %d are allowed", len(w.Steps), MaxSteps)
		return ps
	}
	v := validator{w: w}
	v.workflow()
	for _, id := range slices.Sorted(maps.Keys(w.Steps)) {
		v.step(id, w.Steps[id])
	}
	v.claims()
	v.cycles()
	v.handlers()
	v.sort()
	v.Problems = slices.Compact(v.Problems)
	if len(v.Problems) > maxProblems {
		v.Problems = v.Problems[:maxProblems]
	}
	return v.Problems
}

type validator struct {
	Problems

	w *Workflow
}

func (v *validator) workflow() {
	w := v.w
	if !ValidID(w.ID) {
		v.add("", "id", "%q must be letters, digits, '.', '_' and '-', at most 128, and begin with a letter or digit", w.ID)
	}
	v.name("", w.Name)
	v.number("", "timeout_sec", w.TimeoutSec, MaxTimeout)
	if !w.Config.IsZero() && w.Config[0] != '{' {
		v.add("", "config", "must be an object")
	}
	var hints []map[string]any
	if !w.Parameters.IsZero() && json.Unmarshal(w.Parameters, &hints) != nil {
		v.add("", "parameters", "must be a list of objects")
	}
	v.schema("", "input_schema", w.InputSchema)
	if ValidID(w.ID) {
		if _, err := policy.CompileOverride(w.ID, []byte(w.PolicyOverride)); err != nil {
			v.add("", "policy_override", "%v", err)
		}
	}
}

func (v *validator) name(step, name string) {
	if utf8.RuneCountInString(name) > MaxName {
		v.add(step, "name", "longer than %d letters", MaxName)
	}
}

func (v *validator) number(step, field string, n, limit int64) {
	if n < 0 || n > limit {
		v.add(step, field, "%d must be from 0 to %d", n, limit)
	}
}

func (v *validator) schema(step, field string, text JSON) {
	if text.IsZero() {
		return
	}
	if _, err := schema.Compile(text, ""); err != nil {
		v.add(step, field, "%s", strings.TrimPrefix(err.Error(), "schema: "))
	}
}

func (v *validator) step(id string, s *Step) {
	if !stepForm.MatchString(id) {
		v.add(id, "id", "must be letters, digits, '_' and '-', at most 64")
	}
	v.name(id, s.Name)
	for _, on := range s.DependsOn {
		v.target(id, "depends_on", on)
	}
	if s.OnError != "" {
		v.target(id, "on_error", s.OnError)
	}
	v.expression(id, "condition", s.Condition)
	v.expression(id, "for_each", s.ForEach)
	v.numbers(id, s)
	v.schema(id, "input_schema", s.InputSchema)
	v.schema(id, "output_schema", s.OutputSchema)
	v.templates(id, s)
	v.control(id, s)
}

// target checks that a step names another.
func (v *validator) target(id, field, other string) {
	switch {
	case other == id:
		v.add(id, field, "the step names itself")
	case v.w.Steps[other] == nil:
		v.add(id, field, "there is no step %q", other)
	}
}

// expression checks one that is not left empty.
func (v *validator) expression(id, field, text string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	if _, err := expr.Parse(text); err != nil {
		if _, ok := expr.Whole(text); ok {
			v.add(id, field, "%v: an expression stands here without ${}", err)
			return
		}
		v.add(id, field, "%v", err)
	}
}

func (v *validator) numbers(id string, s *Step) {
	v.number(id, "max_parallel", int64(s.MaxParallel), math.MaxInt32)
	v.number(id, "timeout_sec", s.TimeoutSec, MaxTimeout)
	v.number(id, "delay_sec", s.DelaySec, MaxDelay)
	if s.DelayUntil != "" && !expr.IsTemplate(s.DelayUntil) {
		if _, err := time.Parse(time.RFC3339, strings.TrimSpace(s.DelayUntil)); err != nil {
			v.add(id, "delay_until", "%q must be a time as 2026-02-13T01:00:00Z", s.DelayUntil)
		}
	}
	if r := s.Retry; r != nil {
		v.number(id, "retry.max_retries", int64(r.MaxRetries), MaxRetries)
		v.number(id, "retry.initial_backoff_sec", r.InitialBackoffSec, MaxTimeout)
		v.number(id, "retry.max_backoff_sec", r.MaxBackoffSec, MaxTimeout)
		if !(r.Multiplier >= 0 && r.Multiplier <= maxMultiplier) {
			v.add(id, "retry.multiplier", "%v must be from 0 to %d", r.Multiplier, maxMultiplier)
		}
	}
}

func (v *validator) templates(id string, s *Step) {
	for _, err := range expr.Check(s.Input) {
		v.add(id, "input", "%v", err)
	}
	for _, label := range slices.Sorted(maps.Keys(s.RouteLabels)) {
		for _, err := range expr.Check(s.RouteLabels[label]) {
			v.add(id, "route_labels."+label, "%v", err)
		}
	}
	for _, err := range expr.Check(s.DelayUntil) {
		v.add(id, "delay_until", "%v", err)
	}
}

// control checks the inputs of the steps that lead to others. What is a template is for the run to say.
func (v *validator) control(id string, s *Step) {
	switch s.Kind() {
	case Switch:
		branches, err := s.Branches()
		if err != nil {
			v.add(id, "input", "%v", err)
		}
		for _, other := range branches.Targets() {
			v.target(id, "input", other)
		}
	case Parallel:
		v.parallel(id, s)
	case Loop:
		v.loop(id, s)
	case Subworkflow:
		if _, err := s.Child(); err != nil {
			v.add(id, "input", "%v", err)
		}
	default:
	}
}

func (v *validator) parallel(id string, s *Step) {
	if templated(s.Input["steps"]) {
		return
	}
	children, err := s.Children()
	if err != nil {
		v.add(id, "input", "%v", err)
		return
	}
	for _, child := range children {
		v.target(id, "input.steps", child)
	}
	if templated(s.Input["strategy"]) || templated(s.Input["required"]) || len(children) == 0 {
		return
	}
	if _, _, err := ParallelTerms(s.Input, len(children)); err != nil {
		v.add(id, "input", "%v", err)
	}
}

func (v *validator) loop(id string, s *Step) {
	body, err := s.Body()
	switch {
	case err != nil:
		v.add(id, "input", "%v", err)
	case body != id:
		v.target(id, "input.body_step", body)
	}
	if templated(s.Input["max_iterations"]) {
		return
	}
	if _, err := s.LoopTerms(); err != nil {
		v.add(id, "input", "%v", err)
	}
}

// templated says whether a value, or one in it, is a template.
func templated(v any) bool {
	switch v := v.(type) {
	case string:
		return expr.IsTemplate(v)
	case []any:
		return slices.ContainsFunc(v, templated)
	}
	return false
}

// owned are the steps that another one runs, by the steps that name them: children of a parallel, and the body of a loop.
func (s *Step) owned() []string {
	switch s.Kind() {
	case Parallel:
		if children, err := s.Children(); err == nil {
			return children
		}
	case Loop:
		if body, err := s.Body(); err == nil && body != s.ID {
			return []string{body}
		}
	default:
	}
	return nil
}

// claims finds steps that two parallels want to run.
func (v *validator) claims() {
	first := map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(v.w.Steps)) {
		s := v.w.Steps[id]
		if s.Kind() != Parallel {
			continue
		}
		for _, child := range s.owned() {
			if owner, taken := first[child]; taken {
				v.add(id, "input.steps", "step %q belongs to the parallel step %q", child, owner)
				continue
			}
			first[child] = id
		}
	}
}
