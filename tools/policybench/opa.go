package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

type opa struct {
	ctx   context.Context
	query rego.PreparedEvalQuery
}

func (e *opa) load(ctx context.Context, rules []rule) (err error) {
	var b strings.Builder
	b.WriteString("package cordum\n\ndefault decision := false\n\ndecision if {\n\tallow\n\tnot deny\n}\n")
	for _, r := range rules {
		fmt.Fprintf(&b, "\n%s if {\n%s}\n", map[bool]string{true: "allow", false: "deny"}[r.allow], r.rego())
	}
	e.query, err = rego.New(rego.Query("data.cordum.decision"), rego.Module("policy.rego", b.String())).PrepareForEval(ctx)
	return err
}

// rego puts what OPA's index knows, equality, before what it does not.
func (r rule) rego() string {
	var b strings.Builder
	add := func(form, value string) {
		if value != "" {
			fmt.Fprintf(&b, "\t"+form+"\n", value)
		}
	}
	add("input.topic == %q", r.topic)
	add("input.labels.team == %q", r.team)
	add("input.capability == %q", r.capability)
	add("startswith(input.topic, %q)", r.prefix)
	add("%q in input.risk_tags", r.tag)
	return b.String()
}

// ask parses the request beforehand, which costs OPA some microseconds that are not counted here.
func (e *opa) ask(r request) func() (bool, error) {
	tags := make([]any, len(r.tags))
	for i, t := range r.tags {
		tags[i] = t
	}
	input := ast.MustInterfaceToValue(map[string]any{
		"topic": r.topic, "capability": r.capability, "risk_tags": tags, "labels": map[string]any{"team": r.team},
	})
	return func() (bool, error) {
		results, err := e.query.Eval(e.ctx, rego.EvalParsedInput(input))
		if err != nil {
			return false, err
		}
		if len(results) != 1 {
			return false, errors.New("no result")
		}
		allowed, _ := results[0].Expressions[0].Value.(bool)
		return allowed, nil
	}
}
