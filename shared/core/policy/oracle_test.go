package policy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"pgregory.net/rapid"

	"github.com/cordum-serverless/cordum/shared/core/policy"
)

// oracle decides as the contract is written: over documents, rule by rule, without an index and without numbers for words.
type oracle struct {
	defaultTenant, defaultDecision string
	rules                          []policy.Rule
	tenants                        map[string]policy.Tenant
}

func newOracle(documents []*policy.Document) *oracle {
	o := &oracle{tenants: map[string]policy.Tenant{}}
	for i, d := range documents {
		if o.defaultTenant == "" {
			o.defaultTenant = d.DefaultTenant
		}
		if o.defaultDecision == "" && (i == 0 || strings.HasPrefix(d.Name, "secops/") || !strings.Contains(d.Name, "/")) {
			o.defaultDecision = d.DefaultDecision
		}
		o.rules = append(o.rules, d.Rules...)
		for name, t := range d.Tenants {
			u := o.tenants[name]
			u.AllowTopics, u.DenyTopics = append(u.AllowTopics, t.AllowTopics...), append(u.DenyTopics, t.DenyTopics...)
			if n := t.MaxConcurrentJobs; n > 0 && (u.MaxConcurrentJobs == 0 || n < u.MaxConcurrentJobs) {
				u.MaxConcurrentJobs = n
			}
			u.MCP.DenyTools = append(u.MCP.DenyTools, t.MCP.DenyTools...)
			u.MCP.AllowServers = append(u.MCP.AllowServers, t.MCP.AllowServers...)
			o.tenants[name] = u
		}
	}
	return o
}

type answer struct {
	verdict      policy.Verdict
	rule, reason string
	limit        int64
}

func (o *oracle) decide(r *policy.Request) answer {
	topic := strings.TrimSpace(r.Topic)
	switch {
	case topic == "":
		return answer{reason: "missing topic"}
	case !strings.HasPrefix(topic, "job."):
		return answer{reason: "unsupported topic"}
	}
	tenant := cmpFirst(norm(r.Tenant), norm(o.defaultTenant), "default")
	a, matched := answer{reason: "no matching rule"}, false
	if o.defaultDecision == "allow" {
		a.verdict = policy.Allow
	}
	for _, rule := range o.rules {
		if matches(rule.Match, tenant, topic, r) {
			matched = true
			a = answer{verdict: rule.Verdict, rule: rule.ID, reason: rule.Reason}
			if rule.Constraints != nil {
				a.limit = rule.Constraints.Budgets.MaxConcurrentJobs
				if a.verdict == policy.Allow {
					a.verdict = policy.AllowWithConstraints
				}
			}
			break
		}
	}
	t := o.tenants[tenant]
	if !(matched && a.verdict == policy.Deny) {
		a = o.lists(a, matched, tenant, t, topic)
	}
	if n := t.MaxConcurrentJobs; n > 0 && (a.limit == 0 || n < a.limit) {
		a.limit = n
	}
	if reason := mcpReason(t.MCP, r.Labels); reason != "" {
		a.verdict, a.reason = policy.Deny, reason
	}
	return a
}

func (o *oracle) lists(a answer, matched bool, name string, t policy.Tenant, topic string) answer {
	if i := globIndex(t.DenyTopics, topic); i >= 0 {
		return answer{policy.Deny, fmt.Sprintf("legacy:%s:deny:%d", name, i+1), `topic "` + t.DenyTopics[i] + `" denied by tenant policy`, 0}
	}
	i := globIndex(t.AllowTopics, topic)
	switch {
	case len(t.AllowTopics) == 0 || i >= 0 && matched:
	case i >= 0:
		return answer{policy.Allow, fmt.Sprintf("legacy:%s:allow:%d", name, i+1), `topic "` + t.AllowTopics[i] + `" allowed by tenant policy`, 0}
	default:
		a.verdict, a.reason = policy.Deny, `topic "`+topic+`" not allowed by tenant policy`
	}
	return a
}

func cmpFirst(words ...string) string {
	return words[slices.IndexFunc(words, func(w string) bool { return w != "" })]
}

func norm(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

func globIndex(globs []string, name string) int {
	return slices.IndexFunc(globs, func(g string) bool { ok, _ := path.Match(g, name); return ok })
}

func among(list []string, v string) bool {
	return v != "" && slices.ContainsFunc(list, func(w string) bool { return norm(w) == v })
}

func matches(m policy.Match, tenant, topic string, r *policy.Request) bool {
	actor := r.ActorID
	if actor == "" {
		actor = r.Principal
	}
	tag := func(t string) bool {
		return slices.ContainsFunc(r.RiskTags, func(x string) bool { return norm(x) == norm(t) })
	}
	need := func(t string) bool {
		return slices.ContainsFunc(r.Requires, func(x string) bool { return norm(x) == norm(t) })
	}
	missing := func(t string) bool { return !need(t) }
	if len(m.Tenants) > 0 && !among(m.Tenants, tenant) || len(m.Topics) > 0 && globIndex(m.Topics, topic) < 0 ||
		len(m.RiskTags) > 0 && !slices.ContainsFunc(m.RiskTags, tag) || slices.ContainsFunc(m.Requires, missing) ||
		len(m.PackIDs) > 0 && !among(m.PackIDs, norm(r.PackID)) || len(m.ActorIDs) > 0 && !among(m.ActorIDs, norm(actor)) ||
		len(m.ActorTypes) > 0 && !among(m.ActorTypes, norm(r.ActorType)) {
		return false
	}
	if capability := norm(r.Capability); len(m.Capabilities) > 0 {
		fits := func(g string) bool { ok, _ := path.Match(norm(g), capability); return ok }
		if capability == "" || !slices.ContainsFunc(m.Capabilities, fits) {
			return false
		}
	}
	for name, value := range m.Labels {
		if v, ok := r.Labels[name]; !ok || v != value {
			return false
		}
	}
	if m.SecretsPresent != nil && *m.SecretsPresent != (tag("secrets") || norm(r.Labels["secrets_present"]) == "true") {
		return false
	}
	if !reflect.DeepEqual(m.MCP, policy.MCP{}) {
		return norm(r.Labels["mcp.server"]+r.Labels["mcp.tool"]) != "" && mcpReason(m.MCP, r.Labels) == ""
	}
	return true
}

// mcpReason knows the lists that the generator makes.
func mcpReason(m policy.MCP, labels map[string]string) string {
	server, tool := labels["mcp.server"], labels["mcp.tool"]
	switch {
	case server == "" && tool == "":
		return ""
	case len(m.AllowServers) > 0 && !among(m.AllowServers, norm(server)):
		return `mcp server "` + server + `" not allowed`
	case among(m.DenyTools, norm(tool)):
		return `mcp tool "` + tool + `" denied`
	default:
		return ""
	}
}

// The vocabulary is small, so that rules overlap, and requests match several.
var (
	genTopic = rapid.SampledFrom([]string{
		"job.a", "job.a.b", "job.ab", "job.a.b.c", "job.b", "job.b/c", "job.", "job.é", " job.a ", "sys.a", "", "job.*",
	})
	genGlob = rapid.SampledFrom([]string{
		"job.a", "job.*", "job.a.*", "job.a*", "*", "job.?", "job.[ab]", "job.a.b", "job.b/*", "job.*.b", "job.[^a]*", "j*", `job.\*`, "job.a.b*", "*b",
	})
	genWord   = rapid.SampledFrom([]string{"a", "A", "b", "B ", "c", "é", "É", "K", "k", "secrets", "default"})
	genCap    = rapid.SampledFrom([]string{"", "a", "A.b", "a.C", "b/c", "É.a", "k"})
	genCapPat = rapid.SampledFrom([]string{"a", "A.*", "*", "?.b", "a.[A-C]", "é*", "É.?", "K", "K*"})
	genActor  = rapid.SampledFrom([]string{"human", "service", "Human"})
	genLabels = rapid.MapOfN(rapid.SampledFrom([]string{"x", "y", "z", "secrets_present", "mcp.server", "mcp.tool"}),
		rapid.SampledFrom([]string{"a", "A", "É", "true", ""}), 0, 4)
)

func some(t *rapid.T, of *rapid.Generator[string], name string) []string {
	if rapid.IntRange(0, 3).Draw(t, name+"?") > 0 {
		return nil
	}
	return rapid.SliceOfN(of, 1, 3).Draw(t, name)
}

func genMatch(t *rapid.T) (m policy.Match) {
	m.Tenants, m.Topics = some(t, genWord, "tenants"), some(t, genGlob, "topics")
	m.Capabilities, m.RiskTags = some(t, genCapPat, "capabilities"), some(t, genWord, "tags")
	m.Requires, m.PackIDs = some(t, genWord, "requires"), some(t, genWord, "packs")
	m.ActorIDs, m.ActorTypes = some(t, genWord, "actors"), some(t, genActor, "types")
	if rapid.IntRange(0, 3).Draw(t, "labels?") == 0 {
		m.Labels = rapid.MapOfN(rapid.SampledFrom([]string{"x", "y", "z"}), rapid.SampledFrom([]string{"a", "A", ""}), 1, 2).Draw(t, "labels")
	}
	if rapid.IntRange(0, 4).Draw(t, "secrets?") == 0 {
		yes := rapid.Bool().Draw(t, "secrets")
		m.SecretsPresent = &yes
	}
	m.MCP.AllowServers, m.MCP.DenyTools = some(t, genWord, "servers"), some(t, genWord, "tools")
	return m
}

func genDocument(t *rapid.T, name string) *policy.Document {
	d := &policy.Document{Name: name, Tenants: map[string]policy.Tenant{}}
	d.DefaultDecision = rapid.SampledFrom([]string{"", "allow", "deny"}).Draw(t, "default")
	d.DefaultTenant = rapid.SampledFrom([]string{"", "", "A", "b"}).Draw(t, "default tenant")
	decisions := rapid.SampledFrom([]string{"allow", "deny", "require_approval", "throttle", "allow_with_constraints"})
	for i := range rapid.IntRange(0, 12).Draw(t, "rules") {
		r := policy.Rule{ID: fmt.Sprintf("%s-%d", name, i), Match: genMatch(t), Decision: decisions.Draw(t, "decision"), Reason: "r"}
		if n := rapid.Int64Range(-3, 3).Draw(t, "limit"); n > 0 {
			r.Constraints = &policy.Constraints{Budgets: policy.Budgets{MaxConcurrentJobs: n}}
		}
		d.Rules = append(d.Rules, r)
	}
	for _, tenant := range some(t, rapid.SampledFrom([]string{"a", "b", "default"}), "tenant") {
		d.Tenants[tenant] = policy.Tenant{
			AllowTopics: some(t, genGlob, "allow"), DenyTopics: some(t, genGlob, "deny"), MaxConcurrentJobs: rapid.Int64Range(0, 3).Draw(t, "jobs"),
			MCP: policy.MCP{DenyTools: some(t, genWord, "deny tools"), AllowServers: some(t, genWord, "allow servers")},
		}
	}
	return d
}

func genRequest(t *rapid.T) *policy.Request {
	return &policy.Request{
		Topic: genTopic.Draw(t, "topic"), Tenant: rapid.SampledFrom([]string{"", "a", "A", " b ", "c", "É"}).Draw(t, "tenant"),
		Principal: genWord.Draw(t, "principal"), ActorID: rapid.SampledFrom([]string{"", "a", "B"}).Draw(t, "actor"),
		ActorType:  rapid.SampledFrom([]string{"", "human", "Service"}).Draw(t, "type"),
		Capability: genCap.Draw(t, "capability"), RiskTags: rapid.SliceOfN(genWord, 0, 4).Draw(t, "tags"),
		Requires: rapid.SliceOfN(genWord, 0, 4).Draw(t, "requires"), PackID: rapid.SampledFrom([]string{"", "a", "B"}).Draw(t, "pack"),
		Labels: genLabels.Draw(t, "labels"),
	}
}

// The index finds what reading every rule finds.
func TestT102_DecideAgreesWithReadingEveryRule(t *testing.T) {
	matched := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		var written, read []*policy.Document
		for _, name := range []string{"base", "a/pack", "core", "secops/x"} {
			written = append(written, genDocument(t, name))
		}
		var fragments []policy.Fragment
		var base *policy.Source
		for i, d := range written {
			text, err := json.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := policy.Parse(d.Name, text)
			if err != nil {
				t.Fatal(err)
			}
			read = append(read, parsed)
			if i == 0 {
				base = &policy.Source{Name: d.Name, Content: text}
			} else {
				fragments = append([]policy.Fragment{{Key: d.Name, Content: text}}, fragments...)
			}
		}
		p, err := policy.Compile(base, fragments)
		if err != nil {
			t.Fatal(err)
		}
		o := newOracle(read)
		for range 5 {
			r := genRequest(t)
			want, got := o.decide(r), p.Decide(r)
			matched[got.RuleID != ""]++
			if (answer{got.Verdict, got.RuleID, got.Reason, got.MaxConcurrentJobs}) != want {
				t.Fatalf("%+v\ngot  %+v\nwant %+v", *r, got, want)
			}
			explained, trace := p.Explain(r)
			if !reflect.DeepEqual(explained, got) {
				t.Fatalf("explained as %+v, decided as %+v", explained, got)
			}
			first := slices.IndexFunc(trace, func(e policy.TraceEntry) bool { return e.Matched })
			if first >= 0 && first < len(o.rules) && got.Verdict != policy.Deny && trace[first].RuleID != got.RuleID {
				t.Fatalf("the trace says %+v, the decision %+v", trace[first], got)
			}
		}
	})
	if matched[true] < 50 || matched[false] < 50 {
		t.Errorf("of the requests %d matched a rule and %d did not: the generator is too one-sided", matched[true], matched[false])
	}
}

// A document is the same as YAML and as JSON.
func TestYAMLAndJSONAreTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, err := json.Marshal(genDocument(t, "d"))
		if err != nil {
			t.Fatal(err)
		}
		asYAML, err := yaml.JSONToYAML(text)
		if err != nil {
			t.Fatal(err)
		}
		fromJSON, err := policy.Parse("d", text)
		if err != nil {
			t.Fatal(err)
		}
		fromYAML, err := policy.Parse("d", asYAML)
		if err != nil {
			t.Fatalf("%v\n%s", err, asYAML)
		}
		if !reflect.DeepEqual(fromJSON, fromYAML) {
			t.Fatalf("JSON %+v\nYAML %+v\n%s", fromJSON, fromYAML, asYAML)
		}
	})
}

// Large requests use more words than fit on the stack, and many rules use every facet of the index.
func TestT102_LargeRequestsAgreeToo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("W%d", rapid.IntRange(0, 60).Draw(t, "n")) })
		topic := rapid.Custom(func(t *rapid.T) string {
			return "job" + strings.Repeat(".x", rapid.IntRange(1, 4).Draw(t, "depth")) + rapid.SampledFrom([]string{"", ".y", "y"}).Draw(t, "end")
		})
		d := &policy.Document{Name: "base"}
		for i := range rapid.IntRange(20, 80).Draw(t, "rules") {
			r := policy.Rule{ID: fmt.Sprintf("r%d", i), Decision: "allow"}
			switch rapid.IntRange(0, 4).Draw(t, "by") {
			case 0:
				r.Match.RiskTags = rapid.SliceOfN(word, 1, 3).Draw(t, "tags")
			case 1:
				r.Match.Requires = rapid.SliceOfN(word, 1, 1).Draw(t, "requires")
			case 2:
				r.Match.Labels = map[string]string{word.Draw(t, "label"): "1"}
			case 3:
				r.Match.Topics = []string{topic.Draw(t, "topic") + rapid.SampledFrom([]string{"", "*", ".*", "?*"}).Draw(t, "star")}
			case 4:
				r.Match.Topics = []string{"job.*"}
				r.Match.MCP.AllowServers = rapid.SliceOfN(word, 1, 2).Draw(t, "servers")
			}
			d.Rules = append(d.Rules, r)
		}
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		p, err := policy.Compile(&policy.Source{Name: "base", Content: text}, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := &policy.Request{
			Topic: topic.Draw(t, "topic"), RiskTags: rapid.SliceOfN(word, 0, 60).Draw(t, "tags"), Requires: rapid.SliceOfN(word, 0, 60).Draw(t, "requires"),
			Labels: map[string]string{},
		}
		for _, name := range rapid.SliceOfN(word, 0, 60).Draw(t, "labels") {
			r.Labels[name] = "1"
		}
		r.Labels["mcp.server"] = word.Draw(t, "server")
		o := &oracle{rules: d.Rules}
		for i := range o.rules {
			o.rules[i].Verdict = policy.Allow
		}
		if want, got := o.decide(r), p.Decide(r); got.RuleID != want.rule || got.Verdict != want.verdict {
			t.Fatalf("%v: got %s by %q, want %s by %q", slices.Sorted(maps.Keys(r.Labels)), got.Verdict, got.RuleID, want.verdict, want.rule)
		}
	})
}
