// Package reference decides as the contract is written: over documents, rule by rule, without an index, without numbers for words, and
// without a thought of speed. It shares nothing with package policy but the parser and the shapes, and is what that package is tested against.
package reference

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/policy"
)

// Policy is a base document and fragments, read but not compiled.
type Policy struct {
	snapshot                       string
	defaultTenant, defaultDecision string
	rules                          []rule
	tenants                        map[string]policy.Tenant
}

type rule struct {
	policy.Rule
	workflow string // whose jobs it is for, "" for all
	name     string // in the keys of buckets
}

// New reads what policy.Compile compiles.
func New(base *policy.Source, fragments []policy.Fragment) (*Policy, error) {
	p := &Policy{tenants: map[string]policy.Tenant{}}
	var ids []string
	if base != nil && strings.TrimSpace(string(base.Content)) != "" {
		d, err := policy.Parse(base.Name, base.Content)
		if err != nil {
			return nil, err
		}
		p.add(d, "", true)
		sum := sha256.Sum256(base.Content)
		id := hex.EncodeToString(sum[:])
		if d.Version != "" {
			id = d.Version + ":" + id
		}
		ids = append(ids, id)
	}
	fragments = slices.DeleteFunc(slices.Clone(fragments), func(f policy.Fragment) bool {
		return f.Disabled || strings.TrimSpace(string(f.Content)) == ""
	})
	slices.SortFunc(fragments, func(a, b policy.Fragment) int { return strings.Compare(a.Key, b.Key) })
	var hashed []byte
	for _, f := range fragments {
		d, err := policy.Parse(f.Key, f.Content)
		if err != nil {
			return nil, err
		}
		parts := strings.Split(f.Key, "/")
		workflow := ""
		if len(parts) == 3 && parts[0] == "workflow" {
			workflow = parts[1]
		}
		p.add(d, workflow, len(parts) == 1 || parts[0] == "secops")
		hashed = append(append(append(hashed, f.Key...), 0), f.Content...)
	}
	if len(fragments) > 0 {
		sum := sha256.Sum256(hashed)
		ids = append(ids, "cfg:"+hex.EncodeToString(sum[:]))
	}
	p.snapshot = firstOf(strings.Join(ids, "|"), "empty")
	return p, nil
}

func (p *Policy) add(d *policy.Document, workflow string, opens bool) {
	p.defaultTenant = firstOf(p.defaultTenant, d.DefaultTenant)
	if opens {
		p.defaultDecision = firstOf(p.defaultDecision, d.DefaultDecision)
	}
	for i, r := range d.Rules {
		id := firstOf(r.ID, fmt.Sprintf("#%d", i+1))
		p.rules = append(p.rules, rule{r, workflow, url.QueryEscape(d.Name) + ":" + url.QueryEscape(id)})
	}
	for name, more := range d.Tenants {
		t := p.tenants[name]
		t.AllowTopics, t.DenyTopics = append(t.AllowTopics, more.AllowTopics...), append(t.DenyTopics, more.DenyTopics...)
		if n := more.MaxConcurrentJobs; n > 0 && (t.MaxConcurrentJobs == 0 || n < t.MaxConcurrentJobs) {
			t.MaxConcurrentJobs = n
		}
		for f := range fieldsOfMCP {
			allow, deny := lists(&t.MCP, f)
			moreAllow, moreDeny := lists(&more.MCP, f)
			*allow, *deny = append(*allow, *moreAllow...), append(*deny, *moreDeny...)
		}
		p.tenants[name] = t
	}
}

// Decide answers what policy.Policy.Explain answers; effective is the effective configuration, JSON, in place of the request's.
func (p *Policy) Decide(r *policy.Request, effective []byte) (policy.Decision, []policy.TraceEntry) {
	trace := []policy.TraceEntry{}
	if reason := topicFault(r.Topic); reason != "" {
		return policy.Decision{Reason: reason}, trace
	}
	d, matched := policy.Decision{Reason: "no matching rule", Snapshot: p.snapshot}, false
	if p.defaultDecision == "allow" {
		d.Verdict = policy.Allow
	}
	for i := range p.rules {
		failed := p.failed(&p.rules[i], r)
		trace = append(trace, step(p.rules[i].ID, failed))
		if failed == "" && !matched {
			d, matched = p.answer(&p.rules[i]), true
		}
	}
	name := p.tenantOf(r)
	t, topic := p.tenants[name], strings.TrimSpace(r.Topic)
	trace = append(trace, topicTrace(name, "deny", t.DenyTopics, topic)...)
	trace = append(trace, topicTrace(name, "allow", t.AllowTopics, topic)...)
	if !matched || d.Verdict != policy.Deny {
		d = p.restrict(d, matched, name, topic)
	}
	if n := t.MaxConcurrentJobs; n > 0 && (d.MaxConcurrentJobs == 0 || n < d.MaxConcurrentJobs) {
		d.MaxConcurrentJobs = n
	}
	if !reflect.DeepEqual(t.MCP, policy.MCP{}) && asksMCP(r.Labels) {
		list, reason := mcpFault(&t.MCP, r.Labels)
		trace = append(trace, step("tenant:mcp", list))
		if list != "" {
			d = denied(d, reason)
		}
	}
	if e := readEffective(effective); e != nil {
		list, reason := e.fault(topic, r.Labels)
		trace = append(trace, step("effective_config", list))
		if list != "" {
			d = denied(d, reason)
		}
	}
	return d, trace
}

// Buckets answers what policy.Policy.Buckets answers.
func (p *Policy) Buckets(r *policy.Request) []policy.Bucket {
	if topicFault(r.Topic) != "" {
		return nil
	}
	uncounted := *r
	uncounted.Counts = nil
	var out []policy.Bucket
	for i := range p.rules {
		rule := &p.rules[i]
		switch p.failed(rule, &uncounted) {
		case "":
			return out
		case "velocity":
			out = append(out, policy.Bucket{
				RuleID: rule.ID, Key: p.bucket(rule, r), Window: time.Duration(rule.Velocity.WindowSeconds) * time.Second, Max: rule.Velocity.MaxRequests,
			})
		}
	}
	return out
}

func topicFault(topic string) string {
	topic = strings.TrimSpace(topic)
	if topic == "" {
		return "missing topic"
	}
	for _, c := range []byte(topic) {
		if c < 0x20 || c > 0x7e {
			return "unsupported topic"
		}
	}
	if len(topic) < 4 || topic[:4] != "job." {
		return "unsupported topic"
	}
	return ""
}

func (p *Policy) answer(r *rule) policy.Decision {
	d := policy.Decision{
		Verdict: r.Verdict, Reason: r.Reason, RuleID: r.ID, Snapshot: p.snapshot, Constraints: r.Constraints, Remediations: r.Remediations,
	}
	if r.Constraints != nil {
		d.MaxConcurrentJobs = r.Constraints.Budgets.MaxConcurrentJobs
	}
	switch {
	case d.Verdict == policy.Allow && r.Constraints != nil:
		d.Verdict = policy.AllowWithConstraints
	case d.Verdict == policy.RequireApproval:
		d.ApprovalRequired = true
	case d.Verdict == policy.Throttle:
		d.ThrottleFor = 5 * time.Second
		if r.Throttle > 0 {
			d.ThrottleFor = r.Throttle
		}
	}
	return d
}

func denied(d policy.Decision, reason string) policy.Decision {
	d.Verdict, d.Reason, d.ApprovalRequired, d.ThrottleFor = policy.Deny, reason, false, 0
	return d
}

func (p *Policy) restrict(d policy.Decision, matched bool, name, topic string) policy.Decision {
	t := p.tenants[name]
	if i := globIndex(t.DenyTopics, topic); i >= 0 {
		return policy.Decision{
			RuleID: legacy(name, "deny", i), Reason: `topic "` + t.DenyTopics[i] + `" denied by tenant policy`, Snapshot: p.snapshot,
		}
	}
	i := globIndex(t.AllowTopics, topic)
	switch {
	case len(t.AllowTopics) == 0 || i >= 0 && matched:
		return d
	case i >= 0:
		return policy.Decision{
			Verdict: policy.Allow, RuleID: legacy(name, "allow", i), Reason: `topic "` + t.AllowTopics[i] + `" allowed by tenant policy`, Snapshot: p.snapshot,
		}
	default:
		return denied(d, `topic "`+topic+`" not allowed by tenant policy`)
	}
}

func legacy(tenant, kind string, i int) string {
	return fmt.Sprintf("legacy:%s:%s:%d", tenant, kind, i+1)
}

func topicTrace(tenant, kind string, globs []string, topic string) (trace []policy.TraceEntry) {
	for i, glob := range globs {
		failed := ""
		if !fits(glob, topic) {
			failed = "topics"
		}
		trace = append(trace, step(legacy(tenant, kind, i), failed))
	}
	return trace
}

func step(id, failed string) policy.TraceEntry {
	return policy.TraceEntry{RuleID: id, Matched: failed == "", FirstFailedField: failed}
}

// failed answers the first member of match that a request does not fit, in the order of the contract's table.
func (p *Policy) failed(r *rule, q *policy.Request) string {
	m := &r.Match
	checks := []struct {
		name string
		ok   bool
	}{
		{"workflow_id", r.workflow == "" || strings.TrimSpace(q.WorkflowID) == r.workflow},
		{"tenants", len(m.Tenants) == 0 || among(m.Tenants, p.tenantOf(q))},
		{"topics", len(m.Topics) == 0 || globIndex(m.Topics, strings.TrimSpace(q.Topic)) >= 0},
		{"capabilities", len(m.Capabilities) == 0 || norm(q.Capability) != "" && globIndex(normed(m.Capabilities), norm(q.Capability)) >= 0},
		{"risk_tags", len(m.RiskTags) == 0 || slices.ContainsFunc(q.RiskTags, func(t string) bool { return among(m.RiskTags, t) })},
		{"requires", !slices.ContainsFunc(m.Requires, func(t string) bool { return !among(q.Requires, t) })},
		{"pack_ids", len(m.PackIDs) == 0 || among(m.PackIDs, q.PackID)},
		{"actor_ids", len(m.ActorIDs) == 0 || among(m.ActorIDs, actorOf(q))},
		{"actor_types", len(m.ActorTypes) == 0 || among(m.ActorTypes, q.ActorType)},
		{"labels", hasLabels(q.Labels, m.Labels)},
		{"secrets_present", m.SecretsPresent == nil || *m.SecretsPresent == hasSecrets(q)},
		{"mcp", reflect.DeepEqual(*m, withoutMCP(*m)) || asksMCP(q.Labels) && permits(&m.MCP, q.Labels)},
		{"velocity", r.Velocity == nil || q.Counts[p.bucket(r, q)] > r.Velocity.MaxRequests},
	}
	for _, c := range checks {
		if !c.ok {
			return c.name
		}
	}
	return ""
}

func withoutMCP(m policy.Match) policy.Match {
	m.MCP = policy.MCP{}
	return m
}

func (p *Policy) tenantOf(r *policy.Request) string {
	return firstOf(norm(r.Tenant), norm(p.defaultTenant), "default")
}

func actorOf(r *policy.Request) string { return firstOf(norm(r.ActorID), norm(r.Principal)) }

func hasLabels(have, want map[string]string) bool {
	for name, value := range want {
		if v, ok := have[name]; !ok || v != value {
			return false
		}
	}
	return true
}

func hasSecrets(r *policy.Request) bool {
	return among(r.RiskTags, "secrets") || among([]string{"true", "1", "yes", "t", "y", "on"}, r.Labels["secrets_present"])
}

func (p *Policy) bucket(r *rule, q *policy.Request) string {
	key := []string{r.name}
	for part := range strings.SplitSeq(r.Velocity.Key, ":") {
		value := map[string]string{
			"tenant": p.tenantOf(q), "topic": strings.TrimSpace(q.Topic), "actor_id": actorOf(q), "actor_type": norm(q.ActorType),
			"capability": norm(q.Capability), "pack_id": norm(q.PackID),
		}[part]
		if label, ok := strings.CutPrefix(part, "labels."); ok {
			value = q.Labels[label]
		}
		key = append(key, url.QueryEscape(value))
	}
	return strings.Join(key, ":")
}

func firstOf(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

func norm(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

func normed(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = norm(w)
	}
	return out
}

func fits(glob, name string) bool {
	ok, err := path.Match(glob, name)
	return ok && err == nil
}

func globIndex(globs []string, name string) int {
	return slices.IndexFunc(globs, func(g string) bool { return fits(g, name) })
}

// among says whether a word that is not blank is in a list, whatever the case.
func among(list []string, word string) bool {
	return norm(word) != "" && slices.Contains(normed(list), norm(word))
}
