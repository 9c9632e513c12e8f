package policy

import (
	"errors"
	"math"
	"path"
	"slices"
	"strings"
	"time"
)

// Limits of what a document may say. The wire has 32 bits for counts; ten years of run time stay far from the end of time.Duration.
const (
	maxCount   = math.MaxInt32
	maxSize    = math.MaxInt64
	maxRuntime = 10 * 365 * 24 * int64(time.Hour/time.Millisecond)
	maxWindow  = 86400
	maxExpiry  = 365 * 24 * time.Hour
)

// decisions are the words for a verdict. They are case-sensitive.
var decisions = map[string]Verdict{
	"allow": Allow, "permit": Allow,
	"deny": Deny, "block": Deny,
	"require_approval": RequireApproval, "require-approval": RequireApproval,
	"require_human": RequireApproval, "require-human": RequireApproval,
	"allow_with_constraints": AllowWithConstraints, "allow-with-constraints": AllowWithConstraints,
	"throttle": Throttle,
}

// Parse reads one document, YAML or JSON; name is what errors call it. Nothing at all is a document without rules.
//
// The format is closed: unknown keys at any level are refused, as are keys that stand twice, words in place of numbers, blank words in
// lists, rules without a decision, two rules of one id, globs that are not valid, and anything beyond the limits. The sections
// input_policy, output_policy and output_rules belong to later versions of the format; they are accepted and have no effect. Every error
// is an *Error.
//
// A name of the form workflow/<id>/policy is a bundle for one workflow, which has no sections that are about all jobs.
func Parse(name string, raw []byte) (*Document, error) {
	workflow, err := scopeOf(name)
	if err != nil {
		return nil, err
	}
	return parse(name, raw, workflow != "")
}

func parse(name string, raw []byte, scoped bool) (*Document, error) {
	d, err := parseDocument(raw, scoped)
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok {
			e.Source = name
		}
		return nil, err
	}
	d.Name = name
	return d, nil
}

func parseDocument(raw []byte, scoped bool) (*Document, error) {
	root, err := read(raw)
	if err != nil {
		return nil, err
	}
	if scoped {
		if err := root.inScope(); err != nil {
			return nil, err
		}
	}
	d := &Document{}
	later := func(node) error { return nil }
	return d, root.each("a policy", fields{
		"version":          trimmedInto(&d.Version),
		"default_tenant":   wordInto(&d.DefaultTenant),
		"default_decision": d.parseDefault,
		"rules":            d.parseRules,
		"tenants":          d.parseTenants,
		"approvals":        d.Approvals.parse,
		"input_policy":     later,
		"output_policy":    later,
		"output_rules":     later,
	})
}

func (d *Document) parseDefault(n node) error {
	if n.kind != text || n.text != "allow" && n.text != "deny" {
		return n.errorf("must be allow or deny")
	}
	d.DefaultDecision = n.text
	return nil
}

func (d *Document) parseRules(n node) error {
	ids := map[string]int{}
	d.Rules = make([]Rule, 0, len(n.items))
	return n.eachItem(func(item node) error {
		r, err := parseRule(item)
		if err != nil {
			return err
		}
		if line, twice := ids[r.ID]; twice && r.ID != "" {
			return item.errorf("rule id %q is taken by the rule at line %d", r.ID, line)
		}
		ids[r.ID] = item.line
		d.Rules = append(d.Rules, r)
		return nil
	})
}

func parseRule(n node) (r Rule, err error) {
	err = n.each("a rule", fields{
		"id":                wordInto(&r.ID),
		"match":             r.Match.parse,
		"decision":          r.parseDecision,
		"reason":            trimmedInto(&r.Reason),
		"constraints":       r.parseConstraints,
		"remediations":      r.parseRemediations,
		"velocity":          r.parseVelocity,
		"throttle_duration": r.parseThrottle,
	})
	switch {
	case err != nil:
		return r, err
	case r.Decision == "":
		return r, n.errorf("rule %q has no decision", r.ID)
	case r.Throttle > 0 && r.Verdict != Throttle:
		return r, n.errorf("rule %q: throttle_duration is for the decision throttle", r.ID)
	}
	return r, nil
}

func (r *Rule) parseDecision(n node) error {
	v, ok := decisions[n.text]
	if n.kind != text || !ok {
		return n.errorf("%q is not a decision; one of %s", n.text, strings.Join(words(decisions), ", "))
	}
	r.Decision, r.Verdict = n.text, v
	return nil
}

func (r *Rule) parseThrottle(n node) error {
	d, err := time.ParseDuration(n.text)
	if n.kind != text || err != nil || d <= 0 {
		return n.errorf("must be a duration above zero, such as 30s")
	}
	r.ThrottleDuration, r.Throttle = n.text, d
	return nil
}

func (m *Match) parse(n node) error {
	return n.each("match", fields{
		"tenants":         wordsInto(&m.Tenants),
		"topics":          globsInto(&m.Topics),
		"capabilities":    globsInto(&m.Capabilities),
		"risk_tags":       wordsInto(&m.RiskTags),
		"requires":        wordsInto(&m.Requires),
		"pack_ids":        wordsInto(&m.PackIDs),
		"actor_ids":       wordsInto(&m.ActorIDs),
		"actor_types":     m.parseActorTypes,
		"labels":          labelsInto(&m.Labels),
		"secrets_present": m.parseSecrets,
		"mcp":             m.MCP.parse,
	})
}

func (m *Match) parseActorTypes(n node) error {
	if err := wordsInto(&m.ActorTypes)(n); err != nil {
		return err
	}
	for i, word := range m.ActorTypes {
		if w := lower(word); w != "human" && w != "service" {
			return n.items[i].errorf("must be human or service")
		}
	}
	return nil
}

func (m *Match) parseSecrets(n node) error {
	if n.kind != boolean {
		return n.errorf("must be true or false")
	}
	m.SecretsPresent = &n.boolean
	return nil
}

func (m *MCP) parse(n node) error {
	return n.each("mcp", fields{
		"allow_servers": wordsInto(&m.AllowServers), "deny_servers": wordsInto(&m.DenyServers),
		"allow_tools": wordsInto(&m.AllowTools), "deny_tools": wordsInto(&m.DenyTools),
		"allow_resources": wordsInto(&m.AllowResources), "deny_resources": wordsInto(&m.DenyResources),
		"allow_actions": wordsInto(&m.AllowActions), "deny_actions": wordsInto(&m.DenyActions),
	})
}

func (d *Document) parseTenants(n node) error {
	d.Tenants = make(map[string]Tenant, len(n.members))
	return n.named("tenants", func(m member) error {
		name := lower(m.key)
		if name == "" {
			return m.errorf("a tenant needs a name")
		}
		if err := m.refuse(misread(name)); err != nil {
			return err
		}
		if _, twice := d.Tenants[name]; twice {
			return m.errorf("tenant %q stands here twice; case does not count", name)
		}
		var t Tenant
		err := m.value.each("a tenant", fields{
			"allow_topics":        globsInto(&t.AllowTopics),
			"deny_topics":         globsInto(&t.DenyTopics),
			"allowed_repo_hosts":  wordsInto(&t.AllowedRepoHosts),
			"denied_repo_hosts":   wordsInto(&t.DeniedRepoHosts),
			"max_concurrent_jobs": countInto(&t.MaxConcurrentJobs, maxCount),
			"mcp":                 t.MCP.parse,
		})
		d.Tenants[name] = t
		return err
	})
}

func (a *ApprovalTerms) parse(n node) error {
	return n.each("approvals", fields{
		"expire_after": func(n node) error {
			d, err := time.ParseDuration(n.text)
			if n.kind != text || err != nil || d < time.Second || d > maxExpiry {
				return n.errorf("must be a duration from 1s to %dh, such as 24h", maxExpiry/time.Hour)
			}
			a.ExpireAfter, a.Expiry = n.text, d
			return nil
		},
		"self_approval": func(n node) error {
			if n.kind != text || n.text != "allow" && n.text != "forbid" {
				return n.errorf("must be allow or forbid")
			}
			a.SelfApproval = n.text
			return nil
		},
	})
}

func (r *Rule) parseConstraints(n node) error {
	var c Constraints
	group := func(name string, f fields) func(node) error { return func(n node) error { return n.each(name, f) } }
	err := n.each("constraints", fields{
		"budgets": group("budgets", fields{
			"max_runtime_ms":      countInto(&c.Budgets.MaxRuntimeMS, maxRuntime),
			"max_retries":         countInto(&c.Budgets.MaxRetries, maxCount),
			"max_artifact_bytes":  countInto(&c.Budgets.MaxArtifactBytes, maxSize),
			"max_concurrent_jobs": countInto(&c.Budgets.MaxConcurrentJobs, maxCount),
		}),
		"sandbox": group("sandbox", fields{
			"isolated": func(n node) error {
				c.Sandbox.Isolated = n.boolean
				return n.must(boolean, "true or false")
			},
			"network_allowlist": textsInto(&c.Sandbox.NetworkAllowlist),
			"fs_read_only":      textsInto(&c.Sandbox.FSReadOnly),
			"fs_read_write":     textsInto(&c.Sandbox.FSReadWrite),
		}),
		"toolchain": group("toolchain", fields{
			"allowed_tools":    textsInto(&c.Toolchain.AllowedTools),
			"allowed_commands": textsInto(&c.Toolchain.AllowedCommands),
		}),
		"diff": group("diff", fields{
			"max_files":       countInto(&c.Diff.MaxFiles, maxCount),
			"max_lines":       countInto(&c.Diff.MaxLines, maxCount),
			"deny_path_globs": textsInto(&c.Diff.DenyPathGlobs),
		}),
		"redaction_level": trimmedInto(&c.RedactionLevel),
	})
	if c.set() {
		r.Constraints = &c
	}
	return err
}

// set says whether anything is constrained.
func (c *Constraints) set() bool {
	s, t, d := c.Sandbox, c.Toolchain, c.Diff
	return c.Budgets != Budgets{} || c.RedactionLevel != "" || s.Isolated || d.MaxFiles > 0 || d.MaxLines > 0 ||
		len(s.NetworkAllowlist)+len(s.FSReadOnly)+len(s.FSReadWrite)+len(t.AllowedTools)+len(t.AllowedCommands)+len(d.DenyPathGlobs) > 0
}

func (r *Rule) parseRemediations(n node) error {
	return n.eachItem(func(item node) error {
		var m Remediation
		err := item.each("a remediation", fields{
			"id":                     trimmedInto(&m.ID),
			"title":                  trimmedInto(&m.Title),
			"summary":                trimmedInto(&m.Summary),
			"replacement_topic":      plainInto(&m.ReplacementTopic),
			"replacement_capability": plainInto(&m.ReplacementCapability),
			"add_labels":             labelsInto(&m.AddLabels),
			"remove_labels":          wordsInto(&m.RemoveLabels),
		})
		r.Remediations = append(r.Remediations, m)
		return err
	})
}

func (r *Rule) parseVelocity(n node) error {
	v := Velocity{Key: "tenant"}
	err := n.each("velocity", fields{
		"max_requests":   countInto(&v.MaxRequests, maxCount),
		"window_seconds": countInto(&v.WindowSeconds, maxWindow),
		"key": func(n node) error {
			v.Key = strings.TrimSpace(n.text)
			if err := n.must(text, "text"); err != nil {
				return err
			}
			if err := n.refuse(misread(v.Key)); err != nil {
				return err
			}
			if bad, ok := v.unknownPart(); ok {
				return n.errorf("%q is not part of a job; one of %s, labels.<name>", bad, strings.Join(bucketParts, ", "))
			}
			return nil
		},
	})
	if err == nil && (v.MaxRequests == 0 || v.WindowSeconds == 0) {
		return n.errorf("velocity needs max_requests and window_seconds, both above zero")
	}
	r.Velocity = &v
	return err
}

// fields are the known keys of an object, each with what reads its value.
type fields map[string]func(node) error

// each hands every member to its reader; what is the object's name in errors. Null is an object without members, and a member that is null
// is not there.
func (n node) each(what string, known fields) error {
	return n.named(what, func(m member) error {
		read, ok := known[m.key]
		if !ok {
			return m.errorf("unknown key %q in %s; known are %s", m.key, what, strings.Join(words(known), ", "))
		}
		if m.value.kind == null {
			return nil
		}
		return read(m.value)
	})
}

func (n node) named(what string, visit func(member) error) error {
	if n.kind != object && n.kind != null {
		return n.errorf("%s must be an object", what)
	}
	for _, m := range n.members {
		if err := visit(m); err != nil {
			return err
		}
	}
	return nil
}

func (n node) eachItem(visit func(node) error) error {
	if err := n.must(list, "a list"); err != nil {
		return err
	}
	for _, item := range n.items {
		if err := visit(item); err != nil {
			return err
		}
	}
	return nil
}

func (n node) must(k kind, name string) error {
	if n.kind != k {
		return n.errorf("must be %s", name)
	}
	return nil
}

func trimmedInto(s *string) func(node) error {
	return func(n node) error {
		*s = strings.TrimSpace(n.text)
		return n.must(text, "text; quote it")
	}
}

// wordInto reads a word that is compared with others.
func wordInto(s *string) func(node) error {
	return func(n node) error {
		if err := trimmedInto(s)(n); err != nil {
			return err
		}
		return n.refuse(misread(*s))
	}
}

// plainInto reads a topic or a capability.
func plainInto(s *string) func(node) error {
	return func(n node) error {
		if err := trimmedInto(s)(n); err != nil {
			return err
		}
		return n.refuse(notPlain(*s))
	}
}

// wordsInto reads words that are compared with others.
func wordsInto(to *[]string) func(node) error {
	return func(n node) error {
		if err := textsInto(to)(n); err != nil {
			return err
		}
		for i, word := range *to {
			if err := n.items[i].refuse(misread(word)); err != nil {
				return err
			}
		}
		return nil
	}
}

func textsInto(to *[]string) func(node) error {
	return func(n node) error {
		return n.eachItem(func(item node) error {
			word := strings.TrimSpace(item.text)
			if item.kind != text || word == "" {
				return item.errorf("must be text that is not blank; quote numbers and true, false")
			}
			*to = append(*to, word)
			return nil
		})
	}
}

func globsInto(to *[]string) func(node) error {
	return func(n node) error {
		if err := textsInto(to)(n); err != nil {
			return err
		}
		for i, glob := range *to {
			if err := n.items[i].refuse(notPlain(glob)); err != nil {
				return err
			}
			if _, err := path.Match(glob, ""); err != nil {
				return n.items[i].errorf("%q is not a valid glob", glob)
			}
		}
		return nil
	}
}

func labelsInto(to *map[string]string) func(node) error {
	return func(n node) error {
		*to = make(map[string]string, len(n.members))
		return n.named("labels", func(m member) error {
			(*to)[m.key] = m.value.text
			if err := m.value.must(text, "text; quote it"); err != nil {
				return err
			}
			if err := m.refuse(misread(m.key)); err != nil {
				return err
			}
			return m.value.refuse(misread(m.value.text))
		})
	}
}

func countInto(to *int64, limit int64) func(node) error {
	return func(n node) error {
		*to = n.integer
		switch {
		case n.kind != integer:
			return n.errorf("must be a whole number")
		case n.integer < 0:
			return n.errorf("must not be negative")
		case n.integer > limit:
			return n.errorf("must be at most %d", limit)
		}
		return nil
	}
}

func words[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
