package reference

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/policy"
)

// Draw answers a number from 0 to n-1, n being at most 256. All that is random comes from it: a source of random numbers, or the bytes of a
// fuzzer. Where it answers only zeros, what is made is as small as it can be.
type Draw func(n int) int

// Bytes draws from bytes, and zeros when they are used up.
func Bytes(from []byte) Draw {
	return func(n int) int {
		if len(from) == 0 {
			return 0
		}
		b := int(from[0])
		from = from[1:]
		return b % n
	}
}

// The words are few, so that rules overlap and requests match several; among them are those that are equal though they look different, and
// different though they look equal.
var (
	globs = []string{
		"job.a", "job.*", "job.a.*", "job.a*", "*", "job.?", "job.[ab]", "job.a.b", "job.b/*", "job.*.b", "job.[^a]*", "j*", `job.\*`, "job.a.b*", "*b",
	}
	topics      = []string{"job.a", "job.a.b", "job.ab", "job.a.b.c", "job.b", "job.b/c", "job.", "job.é", "job.\u0430", " job.a ", "job.c", "sys.a", "", "job.*"}
	words       = []string{"a", "A", "b", "B ", "c", "é", "É", "\u212a", "k", "secrets", "default"}
	patterns    = []string{"a", "A.*", "*", "?.b", "a.[A-C]", "k", "K*"}
	capables    = []string{"", "a", "A.b", "a.C", "b/c", "É.a", "k", "\u212a"}
	workflows   = []string{"", "", "w1", " w1", "W1", "w.2"}
	labelNames  = []string{"x", "y", "z", "secrets_present", "mcp.server", "mcp_tool", "mcpAction", "mcp.tool", "mcp.resource"}
	labelValues = []string{"a", "A", "É", "true", "", "b", "secrets", " Y "}
	decisions   = []string{"allow", "deny", "require_approval", "throttle", "allow_with_constraints", "permit", "block"}
	keys        = []string{"tenant", "tenant:topic", "labels.x", "actor_id:labels.y:pack_id", "capability:actor_type"}
	configs     = []string{
		`{}`, `{"safety":{}}`, `{"safety":null,"data":{"safety":{"denied_topics":["job.a.*"]}}}`, `{"safety":{"denied_topics":["job.b*","job.?"]}}`,
		`{"safety":{"allowed_topics":["job.a*"],"denied_topics":["job.*.b"]}}`, `{"safety":{"allowed_topics":["job.["]}}`, `{"safety":`,
		`{"safety":{"denied_topics":["job.\u00e9"]}}`, `{"data":{"safety":{"mcp":{"deny_tools":["A"],"allow_servers":["a","b"]}}}}`,
		`{"safety":{"mcp":{"deny_actions":["a"],"allow_resources":["É"]}}}`,
	}
)

func one[T any](draw Draw, of []T) T { return of[draw(len(of))] }

// some is nothing in three cases of four, and else one to three.
func some(draw Draw, of []string) (out []string) {
	if draw(4) < 3 {
		return nil
	}
	for range 1 + draw(3) {
		out = append(out, one(draw, of))
	}
	return out
}

// Documents makes a base policy and bundles of every kind; Document makes one.
func Documents(draw Draw) (base *policy.Source, fragments []policy.Fragment) {
	base = &policy.Source{Name: "base", Content: encode(Document(draw, "base"))}
	for _, key := range []string{"workflow/w1/policy", "secops/x", "core", "a/pack", "workflow/w.2/policy"} {
		if draw(3) > 0 {
			continue
		}
		d := Document(draw, key)
		if strings.HasPrefix(key, "workflow/") {
			d.DefaultDecision, d.DefaultTenant, d.Tenants = "", "", nil
		}
		fragments = append(fragments, policy.Fragment{Key: key, Content: encode(d), Disabled: draw(12) == 11})
	}
	return base, fragments
}

func encode(d *policy.Document) []byte {
	text, err := json.Marshal(d)
	if err != nil {
		panic(err) // strings and numbers are always JSON
	}
	return text
}

// Document makes a document whose JSON is valid.
func Document(draw Draw, name string) *policy.Document {
	d := &policy.Document{Name: name, Tenants: map[string]policy.Tenant{}}
	d.DefaultDecision, d.DefaultTenant = one(draw, []string{"", "allow", "deny"}), one(draw, []string{"", "", "A", "b"})
	if draw(4) == 3 {
		d.Version = "v1"
	}
	for i := range draw(12) {
		d.Rules = append(d.Rules, makeRule(draw, fmt.Sprintf("%s-%d", name, i)))
	}
	for _, tenant := range some(draw, []string{"a", "b", "default", "é"}) {
		d.Tenants[tenant] = policy.Tenant{
			AllowTopics: some(draw, globs), DenyTopics: some(draw, globs), MaxConcurrentJobs: int64(draw(4)), MCP: makeMCP(draw),
		}
	}
	return d
}

func makeRule(draw Draw, id string) policy.Rule {
	r := policy.Rule{ID: id, Match: makeMatch(draw), Decision: one(draw, decisions), Reason: "because of " + id}
	if draw(8) == 7 {
		r.ID = ""
	}
	if n := draw(8); n > 4 {
		r.Constraints = &policy.Constraints{Budgets: policy.Budgets{MaxConcurrentJobs: int64(n - 5), MaxRetries: int64(draw(2))}}
		if n == 5 {
			r.Constraints.RedactionLevel = one(draw, []string{"", "high"})
		}
	}
	if draw(6) == 5 {
		r.Remediations = []policy.Remediation{{ID: "other", ReplacementTopic: "job.a"}}
	}
	if draw(8) == 7 {
		r.Velocity = &policy.Velocity{MaxRequests: int64(1 + draw(3)), WindowSeconds: int64(1 + draw(200)), Key: one(draw, keys)}
	}
	if r.Decision == "throttle" && draw(2) == 1 {
		r.ThrottleDuration = "7s"
	}
	return r
}

func makeMatch(draw Draw) (m policy.Match) {
	m.Tenants, m.Topics, m.Capabilities = some(draw, words), some(draw, globs), some(draw, patterns)
	m.RiskTags, m.Requires, m.PackIDs, m.ActorIDs = some(draw, words), some(draw, words), some(draw, words), some(draw, words)
	m.ActorTypes = some(draw, []string{"human", "service", "Human"})
	if draw(4) == 3 {
		m.Labels = map[string]string{}
		for range 1 + draw(2) {
			m.Labels[one(draw, []string{"x", "y", "z"})] = one(draw, []string{"a", "A", ""})
		}
	}
	if n := draw(8); n > 5 {
		yes := n == 6
		m.SecretsPresent = &yes
	}
	if draw(3) == 2 {
		m.MCP = makeMCP(draw)
	}
	return m
}

func makeMCP(draw Draw) (m policy.MCP) {
	for f := range fieldsOfMCP {
		allow, deny := lists(&m, f)
		*allow, *deny = some(draw, words), some(draw, words)
	}
	return m
}

// Request makes a request and its effective configuration, which is nil half of the time.
func Request(draw Draw) (r *policy.Request, config []byte) {
	r = &policy.Request{
		JobID: "j", Topic: one(draw, topics), Tenant: one(draw, []string{"", "a", "A", " b ", "c", "É"}), Principal: one(draw, words),
		ActorID: one(draw, []string{"", "a", "B", " "}), ActorType: one(draw, []string{"", "human", "Service"}), Capability: one(draw, capables),
		PackID: one(draw, []string{"", "a", "B"}), WorkflowID: one(draw, workflows), Labels: map[string]string{},
	}
	for range draw(5) {
		r.RiskTags = append(r.RiskTags, one(draw, words))
	}
	for range draw(5) {
		r.Requires = append(r.Requires, one(draw, words))
	}
	for range draw(5) {
		r.Labels[one(draw, labelNames)] = one(draw, labelValues)
	}
	if draw(2) == 1 {
		config = []byte(one(draw, configs))
		r.Effective = policy.ParseEffective(config)
	}
	return r, config
}
