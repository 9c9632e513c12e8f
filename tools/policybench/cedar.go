package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/cedar-policy/cedar-go"
)

type cedarEngine struct{ policies *cedar.PolicySet }

func (e *cedarEngine) load(_ context.Context, rules []rule) (err error) {
	var b strings.Builder
	for _, r := range rules {
		fmt.Fprintf(&b, "%s (principal, action == Action::\"submit\", resource) when { %s };\n", map[bool]string{true: "permit", false: "forbid"}[r.allow], r.cedar())
	}
	e.policies, err = cedar.NewPolicySetFromBytes("policy.cedar", []byte(b.String()))
	return err
}

func (r rule) cedar() string {
	var m []string
	add := func(form, value string) {
		if value != "" {
			m = append(m, fmt.Sprintf(form, value))
		}
	}
	if r.prefix != "" {
		add("context.topic like %q", r.prefix+"*")
	}
	add("context.topic == %q", r.topic)
	add("context.labels.team == %q", r.team)
	add("context.capability == %q", r.capability)
	add("context.risk_tags.contains(%q)", r.tag)
	return strings.Join(m, " && ")
}

func (e *cedarEngine) ask(r request) func() (bool, error) {
	tags := make([]cedar.Value, len(r.tags))
	for i, t := range r.tags {
		tags[i] = cedar.String(t)
	}
	q := cedar.Request{
		Principal: cedar.NewEntityUID("User", "maya"), Action: cedar.NewEntityUID("Action", "submit"), Resource: cedar.NewEntityUID("Job", "j"),
		Context: cedar.NewRecord(cedar.RecordMap{
			"topic": cedar.String(r.topic), "capability": cedar.String(r.capability), "risk_tags": cedar.NewSet(tags...),
			"labels": cedar.NewRecord(cedar.RecordMap{"team": cedar.String(r.team)}),
		}),
	}
	return func() (bool, error) {
		decision, diagnostic := cedar.Authorize(e.policies, cedar.EntityMap{}, q)
		if len(diagnostic.Errors) > 0 {
			return false, fmt.Errorf("%s", diagnostic.Errors[0].Message)
		}
		return decision == cedar.Allow, nil
	}
}
