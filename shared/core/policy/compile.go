package policy

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Source is the base policy: a document of its own, which comes before every fragment.
type Source struct {
	// Name is what errors call it.
	Name    string `json:"name"`
	Content []byte `json:"content"`
}

// Fragment is a policy bundle. Fragments are merged in the byte order of their keys.
type Fragment struct {
	// Key is the bundle's id: secops/<name>, <pack>/<overlay>, workflow/<id>/policy, or a name without a slash.
	Key     string `json:"key"`
	Content []byte `json:"content"`
	// Disabled fragments are not read and leave no trace in the snapshot; neither do blank ones.
	Disabled bool `json:"disabled,omitempty"`
}

// Empty is the snapshot of a policy without any document.
const Empty = "empty"

// Policy is a compiled policy. It is immutable, and safe for use by any number of goroutines.
type Policy struct {
	snapshot      string
	defaultTenant string
	fallback      Decision
	rules         []rule
	tenants       []*tenant // by the number of the tenant's name
	words         struct {
		tenants, capabilities, risk, requires, packs, actors, workflows vocabulary

		labels     pairs
		labelCount uint32
	}
	index    index
	velocity []uint32 // the rules that have one
	// Whether anything asks for what has to be derived from labels.
	asksSecrets, asksMCP bool
	// Whose jobs are under a limit that has to be counted: everybody's, or those of some tenants.
	countsAll bool
	counts    map[string]bool
	approvals Approvals
}

// Approvals says what holds for every approval under a policy. The zero Approvals sets no terms.
type Approvals struct {
	// ExpireAfter is how long a job may wait for a human; 0 is for ever.
	ExpireAfter time.Duration
	// SelfApprovalForbidden says that whoever submitted a job may not approve it.
	SelfApprovalForbidden bool
}

// Approvals answers the strictest of what the documents say.
func (p *Policy) Approvals() Approvals { return p.approvals }

// tighten keeps the shorter time, and forbids what either forbids.
func (a *Approvals) tighten(t ApprovalTerms) {
	if t.Expiry > 0 && (a.ExpireAfter == 0 || t.Expiry < a.ExpireAfter) {
		a.ExpireAfter = t.Expiry
	}
	a.SelfApprovalForbidden = a.SelfApprovalForbidden || t.SelfApproval == "forbid"
}

// Snapshot is the id of the policy, a pure function of the documents: <version>:<sha256> of the base document (without a version just the
// hash), cfg:<sha256> of the fragments in use, both joined by "|", or Empty.
func (p *Policy) Snapshot() string { return p.snapshot }

// CountsJobs says whether running jobs of a tenant have to be counted, because a rule or the tenant limits how many there may be.
func (p *Policy) CountsJobs(tenant string) bool {
	return p.countsAll || p.counts[lower(p.tenantOf(&Request{Tenant: tenant}))]
}

// Compile parses and merges: the base first, then the fragments. Nil and blank documents are not there. The first version, default_tenant
// and default_decision hold, but a pack's fragment has no say in default_decision. Rules are appended; those of workflow/<id>/policy match
// only jobs of that workflow. What is said about a tenant adds up, and the lowest limit holds; of the terms of approvals the strictest
// hold, whoever set them. One document that is not valid fails the whole, as do documents of more than MaxPolicy bytes together; the error
// is an *Error that names the document.
func Compile(base *Source, fragments []Fragment) (*Policy, error) {
	if base != nil && blank(base.Content) {
		base = nil
	}
	inUse, err := usable(base, fragments)
	if err != nil {
		return nil, err
	}
	p := &Policy{counts: map[string]bool{}}
	p.words.tenants, p.words.capabilities, p.words.risk = vocabulary{}, vocabulary{}, vocabulary{}
	p.words.requires, p.words.packs, p.words.actors = vocabulary{}, vocabulary{}, vocabulary{}
	p.words.workflows, p.words.labels = vocabulary{}, pairs{}
	var m merged
	if base != nil {
		d, err := parse(base.Name, base.Content, false)
		if err != nil {
			return nil, err
		}
		m.add(d, "", true)
	}
	p.snapshot = snapshot(base, m.version, inUse)
	for _, f := range inUse {
		d, err := Parse(f.Key, f.Content)
		if err != nil {
			return nil, err
		}
		workflow, _ := scopeOf(f.Key) // Parse has looked
		m.add(d, workflow, !fromPack(f.Key))
	}
	p.compile(&m)
	return p, nil
}

func usable(base *Source, fragments []Fragment) ([]Fragment, error) {
	var out []Fragment
	size := 0
	if base != nil {
		size = len(base.Content)
	}
	for _, f := range fragments {
		if !f.Disabled && !blank(f.Content) {
			out = append(out, f)
			size += len(f.Content)
		}
	}
	if size > MaxPolicy {
		return nil, fail(0, 0, "the documents of the policy have %d bytes together; at most %d", size, MaxPolicy)
	}
	slices.SortFunc(out, func(a, b Fragment) int { return strings.Compare(a.Key, b.Key) })
	for i := 1; i < len(out); i++ {
		if out[i].Key == out[i-1].Key {
			return nil, &Error{Source: out[i].Key, Message: "two fragments have this key"}
		}
	}
	return out, nil
}

func blank(content []byte) bool { return len(bytes.TrimSpace(content)) == 0 }

// fromPack: only operators' bundles, secops/<name> or a name without a slash, may open the plane.
func fromPack(key string) bool {
	return strings.Contains(key, "/") && !strings.HasPrefix(key, "secops/")
}

func snapshot(base *Source, version string, fragments []Fragment) string {
	var parts []string
	if base != nil {
		sum := sha256.Sum256(base.Content)
		id := hex.EncodeToString(sum[:])
		if version != "" {
			id = version + ":" + id
		}
		parts = append(parts, id)
	}
	if len(fragments) > 0 {
		h := sha256.New()
		for _, f := range fragments {
			h.Write([]byte(f.Key))
			h.Write([]byte{0})
			h.Write(f.Content)
		}
		parts = append(parts, "cfg:"+hex.EncodeToString(h.Sum(nil)))
	}
	if parts == nil {
		return Empty
	}
	return strings.Join(parts, "|")
}

// merged is all documents as one.
type merged struct {
	version, defaultTenant, defaultDecision string
	rules                                   []sourced
	tenants                                 map[string]Tenant
	approvals                               Approvals
}

type sourced struct {
	Rule
	name     string // of the rule within the policy
	workflow string // whose jobs the rule is for, "" for all
}

func (m *merged) add(d *Document, workflow string, opens bool) {
	m.version = cmp.Or(m.version, d.Version)
	m.defaultTenant = cmp.Or(m.defaultTenant, d.DefaultTenant)
	if opens {
		m.defaultDecision = cmp.Or(m.defaultDecision, d.DefaultDecision)
	}
	for i, r := range d.Rules {
		id := r.ID
		if id == "" {
			id = "#" + strconv.Itoa(i+1)
		}
		m.rules = append(m.rules, sourced{r, url.QueryEscape(d.Name) + ":" + url.QueryEscape(id), workflow})
	}
	m.approvals.tighten(d.Approvals)
	if m.tenants == nil {
		m.tenants = map[string]Tenant{}
	}
	for t, more := range d.Tenants {
		m.tenants[t] = m.tenants[t].with(more)
	}
}

func (t Tenant) with(o Tenant) Tenant {
	join := func(a, b []string) []string { return slices.Concat(a, b) }
	return Tenant{
		AllowTopics: join(t.AllowTopics, o.AllowTopics), DenyTopics: join(t.DenyTopics, o.DenyTopics),
		AllowedRepoHosts: join(t.AllowedRepoHosts, o.AllowedRepoHosts), DeniedRepoHosts: join(t.DeniedRepoHosts, o.DeniedRepoHosts),
		MaxConcurrentJobs: lowest(t.MaxConcurrentJobs, o.MaxConcurrentJobs),
		MCP: MCP{
			AllowServers: join(t.MCP.AllowServers, o.MCP.AllowServers), DenyServers: join(t.MCP.DenyServers, o.MCP.DenyServers),
			AllowTools: join(t.MCP.AllowTools, o.MCP.AllowTools), DenyTools: join(t.MCP.DenyTools, o.MCP.DenyTools),
			AllowResources: join(t.MCP.AllowResources, o.MCP.AllowResources), DenyResources: join(t.MCP.DenyResources, o.MCP.DenyResources),
			AllowActions: join(t.MCP.AllowActions, o.MCP.AllowActions), DenyActions: join(t.MCP.DenyActions, o.MCP.DenyActions),
		},
	}
}

func (p *Policy) compile(m *merged) {
	p.defaultTenant, p.approvals = m.defaultTenant, m.approvals
	p.fallback = Decision{Reason: reasonNoRule, Snapshot: p.snapshot}
	if m.defaultDecision == "allow" {
		p.fallback.Verdict = Allow
	}
	p.rules = make([]rule, len(m.rules))
	for i := range m.rules {
		p.rules[i] = p.compileRule(&m.rules[i])
		if p.rules[i].velocity != nil {
			p.velocity = append(p.velocity, uint32(i))
		}
	}
	for _, name := range words(m.tenants) {
		p.compileTenant(name, m.tenants[name])
	}
	p.index.build(p.rules)
}

func (p *Policy) compileRule(s *sourced) rule {
	w, m := &p.words, &s.Match
	r := rule{
		topics:   newGlobs(m.Topics),
		tenants:  w.tenants.addAll(lowered(m.Tenants)),
		risk:     w.risk.addAll(lowered(m.RiskTags)),
		requires: w.requires.addAll(lowered(m.Requires)),
		packs:    w.packs.addAll(lowered(m.PackIDs)),
		actors:   w.actors.addAll(lowered(m.ActorIDs)),
		secrets:  m.SecretsPresent,
		mcp:      newMCP(m.MCP),
		decision: p.outcome(&s.Rule),
	}
	for _, g := range newGlobs(lowered(m.Capabilities)) {
		if g.form == globLiteral {
			r.capabilities = append(r.capabilities, w.capabilities.add(g.literal))
		} else {
			r.capabilityGlobs = append(r.capabilityGlobs, g)
		}
	}
	if s.workflow != "" {
		r.workflows = []uint32{w.workflows.add(s.workflow)}
	}
	for _, word := range m.ActorTypes {
		r.actorTypes |= actorTypeOf(word)
	}
	for _, name := range words(m.Labels) {
		id := w.labels.add(name, m.Labels[name], w.labelCount)
		w.labelCount = max(w.labelCount, id+1)
		r.labels = append(r.labels, id)
	}
	if v := s.Velocity; v != nil {
		r.velocity = &bucketRule{
			ruleID: s.ID, prefix: s.name, parts: strings.Split(v.Key, ":"), limit: v.MaxRequests,
			window: time.Duration(v.WindowSeconds) * time.Second, policy: p,
		}
	}
	p.asksSecrets = p.asksSecrets || r.secrets != nil
	p.asksMCP = p.asksMCP || r.mcp != nil
	p.countJobs(r.decision.MaxConcurrentJobs, m.Tenants)
	return r
}

// outcome is what the rule answers when it matches.
func (p *Policy) outcome(r *Rule) Decision {
	d := Decision{
		Verdict: r.Verdict, Reason: r.Reason, RuleID: r.ID, Snapshot: p.snapshot, Constraints: r.Constraints, Remediations: r.Remediations,
		ApprovalRequired: r.Verdict == RequireApproval,
	}
	if r.Constraints != nil {
		d.MaxConcurrentJobs = r.Constraints.Budgets.MaxConcurrentJobs
		if d.Verdict == Allow {
			d.Verdict = AllowWithConstraints
		}
	}
	if d.Verdict == Throttle {
		d.ThrottleFor = r.Throttle
		if d.ThrottleFor == 0 {
			d.ThrottleFor = DefaultThrottle
		}
	}
	return d
}

// countJobs notes whom a limit is for.
func (p *Policy) countJobs(limit int64, tenants []string) {
	if limit == 0 {
		return
	}
	p.countsAll = p.countsAll || len(tenants) == 0
	for _, t := range tenants {
		p.counts[lower(t)] = true
	}
}

func (p *Policy) compileTenant(name string, t Tenant) {
	id := int(p.words.tenants.add(name))
	if missing := id + 1 - len(p.tenants); missing > 0 {
		p.tenants = append(p.tenants, make([]*tenant, missing)...)
	}
	c := &tenant{maxJobs: t.MaxConcurrentJobs, mcp: newMCP(t.MCP)}
	p.asksMCP = p.asksMCP || c.mcp != nil
	p.countJobs(c.maxJobs, []string{name})
	entry := func(kind, does string, verdict Verdict, n int, pattern string) topicRule {
		return topicRule{newGlob(pattern), Decision{
			Verdict: verdict, Snapshot: p.snapshot, RuleID: fmt.Sprintf("legacy:%s:%s:%d", name, kind, n+1),
			Reason: `topic "` + pattern + `" ` + does + ` by tenant policy`,
		}}
	}
	for n, pattern := range t.DenyTopics {
		c.deny = append(c.deny, entry("deny", "denied", Deny, n, pattern))
	}
	for n, pattern := range t.AllowTopics {
		c.allow = append(c.allow, entry("allow", "allowed", Allow, n, pattern))
	}
	p.tenants[id] = c
}

func (v vocabulary) addAll(words []string) []uint32 {
	var ids []uint32
	for _, w := range words {
		if id := v.add(w); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func newGlobs(patterns []string) []glob {
	globs := make([]glob, len(patterns))
	for i, pattern := range patterns {
		globs[i] = newGlob(pattern)
	}
	return globs
}
