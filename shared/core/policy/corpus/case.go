package corpus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/cordum-serverless/cordum/shared/core/policy"
)

type testCase struct {
	Name    title   `yaml:"name"`
	Request request `yaml:"request"`
	// Counts are how many requests the window of a rule with velocity has seen, by the rule's id.
	Counts map[string]int64 `yaml:"counts"`
	Expect expect           `yaml:"expect"`

	file      string
	effective *policy.Effective
}

// title is a case's name and where it stands.
type title struct {
	text string
	line int
}

// UnmarshalYAML is called by the reader of YAML.
func (t *title) UnmarshalYAML(n ast.Node) error {
	t.line = n.GetToken().Position.Line
	return yaml.NodeToValue(n, &t.text)
}

// request has all members of a request to evaluate, so that one can be copied from where it was made; no rule asks for some of them.
type request struct {
	JobID           string            `yaml:"job_id"`
	Topic           string            `yaml:"topic"`
	Tenant          string            `yaml:"tenant"`
	OrgID           string            `yaml:"org_id"`
	TeamID          any               `yaml:"team_id"`
	WorkflowID      string            `yaml:"workflow_id"`
	StepID          any               `yaml:"step_id"`
	PrincipalID     string            `yaml:"principal_id"`
	Priority        any               `yaml:"priority"`
	EstimatedCost   any               `yaml:"estimated_cost"`
	Budget          any               `yaml:"budget"`
	Labels          map[string]string `yaml:"labels"`
	MemoryID        any               `yaml:"memory_id"`
	EffectiveConfig any               `yaml:"effective_config"`
	Meta            meta              `yaml:"meta"`
}

type meta struct {
	TenantID       any      `yaml:"tenant_id"`
	ActorID        string   `yaml:"actor_id"`
	ActorType      string   `yaml:"actor_type"`
	IdempotencyKey any      `yaml:"idempotency_key"`
	Capability     string   `yaml:"capability"`
	RiskTags       []string `yaml:"risk_tags"`
	Requires       []string `yaml:"requires"`
	PackID         string   `yaml:"pack_id"`
	Labels         any      `yaml:"labels"`
}

type expect struct {
	Decision string  `yaml:"decision"`
	Rule     *string `yaml:"rule"`
	Reason   *string `yaml:"reason"`
	// Constraints is whether there are any, or those that must be among them.
	Constraints any `yaml:"constraints"`
	// Remediations is whether there are any, or their ids.
	Remediations     any   `yaml:"remediations"`
	ApprovalRequired *bool `yaml:"approval_required"`
	// Limit is how many jobs may run at once, 0 for no limit.
	Limit *int64 `yaml:"limit"`
	// Throttle is how long the job waits.
	Throttle *time.Duration `yaml:"throttle"`
}

// decisions are the words for a verdict, as the API has them.
var decisions = []string{"ALLOW", "DENY", "REQUIRE_APPROVAL", "THROTTLE", "ALLOW_WITH_CONSTRAINTS"}

func parseCases(file string, text []byte) ([]testCase, error) {
	var content struct {
		Cases []testCase `yaml:"cases"`
	}
	d := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict())
	if err := d.Decode(&content); err != nil && !errors.Is(err, io.EOF) {
		return nil, placed(file, err)
	}
	if err := d.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: more than one document", file)
	}
	for i := range content.Cases {
		c := &content.Cases[i]
		if err := c.prepare(file); err != nil {
			return nil, err
		}
	}
	return content.Cases, nil
}

func (c *testCase) prepare(file string) error {
	c.file = file
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%s:%d: case %q %s", file, c.Name.line, c.Name.text, fmt.Sprintf(format, args...))
	}
	switch {
	case strings.TrimSpace(c.Name.text) == "":
		return fmt.Errorf("%s: a case has no name", file)
	case c.Expect.Decision == "":
		return refuse("expects no decision")
	case !slices.Contains(decisions, c.Expect.Decision):
		return refuse("expects the decision %q; one of %s", c.Expect.Decision, strings.Join(decisions, ", "))
	}
	switch c.Expect.Constraints.(type) {
	case nil, bool, map[string]any:
	default:
		return refuse("expects constraints that are neither true, false nor an object")
	}
	switch c.Expect.Remediations.(type) {
	case nil, bool, []any:
	default:
		return refuse("expects remediations that are neither true, false nor a list of ids")
	}
	if c.Request.EffectiveConfig != nil {
		raw, err := json.Marshal(c.Request.EffectiveConfig)
		if err != nil {
			return refuse("has an effective_config that is no JSON: %v", err)
		}
		c.effective = policy.ParseEffective(raw)
	}
	return nil
}

// known says whether the rules exist whose windows are counted.
func (c *testCase) known(rules []Rule) error {
	for id := range c.Counts {
		if !slices.ContainsFunc(rules, func(r Rule) bool { return r.ID == id }) {
			return fmt.Errorf("%s:%d: case %q counts for %q, which is no rule", c.file, c.Name.line, c.Name.text, id)
		}
	}
	return nil
}

// placed makes what the reader of YAML says one line that begins with the place.
func placed(file string, err error) error {
	var e interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if errors.As(err, &e) && e.GetToken() != nil {
		at := e.GetToken().Position
		return fmt.Errorf("%s:%d:%d: %s", file, at.Line, at.Column, e.GetMessage())
	}
	return fmt.Errorf("%s: %w", file, err)
}

func (c *testCase) run(p *policy.Policy) Result {
	q := c.Request.policy()
	q.Effective = c.effective
	q.Counts = map[string]int64{}
	for _, b := range p.Buckets(q) {
		q.Counts[b.Key] = c.Counts[b.RuleID]
	}
	got, trace := p.Explain(q)
	return Result{Name: c.Name.text, File: c.file, Line: c.Name.line, Got: got, Problems: c.Expect.compare(got), Trace: trace}
}

func (r *request) policy() *policy.Request {
	tenant := r.Tenant
	if tenant == "" {
		tenant = r.OrgID
	}
	return &policy.Request{
		JobID: r.JobID, Topic: r.Topic, Tenant: tenant, Principal: r.PrincipalID, ActorID: r.Meta.ActorID, ActorType: r.Meta.ActorType,
		Capability: r.Meta.Capability, RiskTags: r.Meta.RiskTags, Requires: r.Meta.Requires, PackID: r.Meta.PackID, Labels: r.Labels,
		WorkflowID: r.WorkflowID,
	}
}

func (e *expect) compare(got policy.Decision) []string {
	problems := []string{}
	differs := func(what string, want, have any) {
		if want != have {
			problems = append(problems, fmt.Sprintf("%s is %s, want %s", what, shown(have), shown(want)))
		}
	}
	differs("decision", e.Decision, got.Verdict.String())
	if e.Rule != nil {
		differs("rule", *e.Rule, got.RuleID)
	}
	if e.Reason != nil {
		differs("reason", *e.Reason, got.Reason)
	}
	if e.ApprovalRequired != nil {
		differs("approval_required", *e.ApprovalRequired, got.ApprovalRequired)
	}
	if e.Limit != nil {
		differs("limit", *e.Limit, got.MaxConcurrentJobs)
	}
	if e.Throttle != nil {
		differs("throttle", *e.Throttle, got.ThrottleFor)
	}
	switch want := e.Constraints.(type) {
	case bool:
		differs("constraints", want, got.Constraints != nil)
	case map[string]any:
		problems = append(problems, missing("constraints", want, asAny(got.Constraints))...)
	}
	ids := []any{}
	for _, r := range got.Remediations {
		ids = append(ids, r.ID)
	}
	switch want := e.Remediations.(type) {
	case bool:
		differs("remediations", want, len(ids) > 0)
	case []any:
		if !reflect.DeepEqual(want, ids) {
			problems = append(problems, fmt.Sprintf("remediations are %v, want %v", ids, want))
		}
	}
	return problems
}

// shown is a value as people write it; text stands in quotes where it could be taken for nothing.
func shown(v any) string {
	if s, ok := v.(string); ok && (s == "" || strings.TrimSpace(s) != s) {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprint(v)
}

// missing compares what stands in want, member by member.
func missing(what string, want, got any) (problems []string) {
	members, ok := want.(map[string]any)
	if !ok {
		if w, g := asAny(want), got; !reflect.DeepEqual(w, g) {
			problems = append(problems, fmt.Sprintf("%s is %s, want %s", what, asJSON(g), asJSON(w)))
		}
		return problems
	}
	have, _ := got.(map[string]any)
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		problems = append(problems, missing(what+"."+name, members[name], have[name])...)
	}
	return problems
}

// asAny is a value as JSON reads it back: numbers of one kind, lists of any.
func asAny(v any) (out any) {
	if err := json.Unmarshal([]byte(asJSON(v)), &out); err != nil {
		return nil
	}
	return out
}

func asJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}
