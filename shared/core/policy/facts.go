package policy

import (
	"slices"
	"strings"
)

// facts are what rules ask about a request, looked up once. It lives on the stack of a decision.
type facts struct {
	request   *Request
	topic     string
	tenant    uint32
	capable   uint32
	pack      uint32
	actor     uint32
	workflow  uint32
	actorType actorTypes
	secrets   bool
	risk      idSet
	requires  idSet
	labels    idSet
	mcp       mcpRequest
}

// idSet is a set of word numbers that needs the heap only when it is large.
type idSet struct {
	n    int
	few  [12]uint32
	more []uint32
}

func (s *idSet) add(id uint32) {
	switch {
	case id == unknown:
	case s.n < len(s.few):
		s.few[s.n] = id
		s.n++
	default:
		s.more = append(s.more, id)
	}
}

func (s *idSet) has(id uint32) bool { return hasID(s.few[:s.n], id) || hasID(s.more, id) }

func hasID(ids []uint32, id uint32) bool {
	return slices.Contains(ids, id)
}

type actorTypes uint8

const (
	human actorTypes = 1 << iota
	service
)

func actorTypeOf(word string) actorTypes {
	switch {
	case sameWord("human", word):
		return human
	case sameWord("service", word):
		return service
	default:
		return 0
	}
}

// look fills in the facts. Fields that no rule asks about cost next to nothing.
func (p *Policy) look(f *facts, r *Request) {
	f.request = r
	f.tenant = p.words.tenants.find(p.tenantOf(r))
	f.capable = p.words.capabilities.find(r.Capability)
	f.pack = p.words.packs.find(r.PackID)
	f.actor = p.words.actors.find(actorOf(r))
	f.workflow = p.words.workflows.exact(strings.TrimSpace(r.WorkflowID))
	f.actorType = actorTypeOf(r.ActorType)
	f.secrets = p.asksSecrets && secretsPresent(r)
	p.words.risk.findAll(r.RiskTags, &f.risk)
	p.words.requires.findAll(r.Requires, &f.requires)
	p.words.labels.findAll(r.Labels, &f.labels)
	if p.asksMCP || r.Effective != nil {
		f.mcp.read(r.Labels)
	}
}

// tenantOf is the tenant a request is judged for.
func (p *Policy) tenantOf(r *Request) string {
	switch {
	case strings.TrimSpace(r.Tenant) != "":
		return r.Tenant
	case p.defaultTenant != "":
		return p.defaultTenant
	default:
		return "default"
	}
}

func actorOf(r *Request) string {
	if strings.TrimSpace(r.ActorID) != "" {
		return r.ActorID
	}
	return r.Principal
}

const secretsWord = "secrets"

// secretsPresent: a label can say that there are secrets, but not deny what a risk tag says.
func secretsPresent(r *Request) bool {
	for _, tag := range r.RiskTags {
		if sameWord(secretsWord, tag) {
			return true
		}
	}
	label := r.Labels["secrets_present"]
	for _, yes := range [...]string{"true", "1", "yes", "t", "y", "on"} {
		if label != "" && sameWord(yes, label) {
			return true
		}
	}
	return false
}

func (v vocabulary) findAll(words []string, to *idSet) {
	if len(v) == 0 {
		return
	}
	for _, w := range words {
		to.add(v.find(w))
	}
}

// pairs numbers the labels that rules ask for: name, value, number.
type pairs map[string]vocabulary

func (p pairs) add(name, value string, next uint32) uint32 {
	if p[name] == nil {
		p[name] = vocabulary{}
	}
	if id, ok := p[name][value]; ok {
		return id
	}
	p[name][value] = next
	return next
}

// findAll goes through the shorter of the two: the job's labels or the names that rules ask for.
func (p pairs) findAll(labels map[string]string, to *idSet) {
	if len(labels) <= len(p) {
		for name, value := range labels {
			to.add(p[name].exact(value))
		}
		return
	}
	for name, values := range p {
		if value, ok := labels[name]; ok {
			to.add(values.exact(value))
		}
	}
}
