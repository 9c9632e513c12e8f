package config

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cordum-serverless/cordum/shared/core/canonical"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/override"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
	"github.com/cordum-serverless/cordum/shared/platform/store"
	"github.com/cordum-serverless/cordum/shared/platform/turn"
)

// The scopes of documents beside system, in the order in which they override each other.
const (
	OrgScope      = "org"
	TeamScope     = "team"
	WorkflowScope = "workflow"
	StepScope     = "step"
)

// Scopes are all scopes, in that order.
var Scopes = []string{SystemScope, OrgScope, TeamScope, WorkflowScope, StepScope}

// ID is the id under which a document of a scope lies. Teams, workflows and steps are of a tenant, so that equal names of two tenants are two
// documents.
func ID(scope, tenant, id string) string {
	if id == "" || scope == SystemScope || scope == OrgScope {
		return id
	}
	return url.QueryEscape(tenant) + "/" + id
}

// decides says whether decisions depend on a document: it has a part in the effective configuration of some job.
func decides(scope, id string) bool { return scope != SystemScope || id == DefaultID }

// Subject is whose effective configuration is asked for: a tenant, and what a job of it belongs to; "" is none.
type Subject struct{ Tenant, Team, Workflow, Step string }

func (s Subject) id(scope string) string {
	id := map[string]string{SystemScope: DefaultID, OrgScope: s.Tenant, TeamScope: s.Team, WorkflowScope: s.Workflow, StepScope: s.Step}[scope]
	if len(id) > maxID { // nobody could write such a document
		return ""
	}
	return ID(scope, s.Tenant, id)
}

// maxID is the longest id of a document, in bytes, as clients name it; maxKey the longest with its tenant before it.
const (
	maxID  = 512
	maxKey = 3*128 + 1 + maxID
)

// ValidID says whether a document may have an id.
func ValidID(id string) bool {
	return id != "" && len(id) <= maxID && utf8.ValidString(id) && !strings.ContainsFunc(id, unicode.IsControl)
}

// Effective is the configuration of a job: of the documents of its scopes, each top-level member as the last document has it. It is immutable.
type Effective struct {
	// Version names the revisions: system:<rev>|org:<rev>|team:<rev>|workflow:<rev>|step:<rev>, 0 for what is not there.
	Version string
	// Hash is the SHA-256, in hexadecimal, of Data.
	Hash string
	// Data is a JSON object, its members sorted, without white space.
	Data json.RawMessage
	// Safety restricts decisions; nil is no restriction.
	Safety *policy.Effective
	// Limits are those of its members limits and rate_limits; nil where one of them is not of their form.
	Limits *schedule.Limits
	// Memories are those that jobs may name.
	Memories Memories
	// Override are the rules of the subject's workflow; nil is none. They are no part of Data: workers have no use for them.
	Override *policy.Override
	// Workers is Data without what is only for the plane, how jobs find their pools and how long they may take; nil when that leaves nothing, or
	// more than a packet has room for.
	Workers json.RawMessage
}

// maxForWorkers is the most of a configuration that travels with a job, in bytes: packets have limits, and it is quoted in them.
const maxForWorkers = 1 << 20

// planeOnly are the members of system/default that are no business of workers.
var planeOnly = []string{"pools", "timeouts"}

// Merge makes the effective configuration of documents in the order of Scopes; a document with Revision 0 says nothing.
func Merge(documents []Document) (*Effective, error) {
	merged, versions := map[string]json.RawMessage{}, make([]string, 0, len(documents))
	for _, d := range documents {
		versions = append(versions, fmt.Sprintf("%s:%d", d.Scope, d.Revision))
		if d.Revision == 0 {
			continue
		}
		var data map[string]json.RawMessage
		if err := json.Unmarshal(d.Data, &data); err != nil {
			return nil, fmt.Errorf("config %s/%s: stored data: %w", d.Scope, d.ID, err)
		}
		maps.Copy(merged, data)
	}
	text, err := canonical.Object(merged)
	if err != nil {
		return nil, fmt.Errorf("config: encode: %w", err)
	}
	e := &Effective{
		Version: strings.Join(versions, "|"), Hash: canonical.Hash(text), Data: text, Safety: policy.ParseEffective(text), Memories: parseMemories(merged["context"]),
	}
	if limits, err := schedule.ParseLimits(text); err == nil {
		e.Limits = &limits
	}
	for _, name := range planeOnly {
		delete(merged, name)
	}
	if len(merged) == 0 {
		return e, nil
	}
	if text, err = canonical.Object(merged); err != nil {
		return nil, fmt.Errorf("config: encode: %w", err)
	}
	if len(text) <= maxForWorkers {
		e.Workers = text
	}
	return e, nil
}

// Resolver answers effective configurations, and remembers the documents, and the rules of workflows, for as long as the head's revision stays.
// One is shared by everything in a process.
type Resolver struct {
	Store *Store
	// Turn is taken to look at what is remembered.
	Turn turn.Turn

	revision  int64
	documents map[[2]string]Document
	overrides map[store.Key]*policy.Override
	merged    map[Subject]*Effective
	size      int
}

// remembered is how many documents, and how many effective configurations, a process keeps, and maxRemembered how large they may be together, in bytes: each
// tenant decides how large its own are.
const (
	remembered    = 4096
	maxRemembered = 32 << 20
)

// At answers the effective configuration of a subject as it is at the head's revision, which the caller has just read. A document that cannot be read is an
// error: restrictions may stand in it, as in the rules of a workflow.
func (r *Resolver) At(ctx context.Context, revision int64, s Subject) (*Effective, error) {
	if err := r.Turn.Take(ctx); err != nil {
		return nil, err
	}
	defer r.Turn.Give()
	if r.documents == nil || revision > r.revision || len(r.documents) > remembered || len(r.merged) > remembered || r.size > maxRemembered {
		r.revision, r.documents, r.merged = max(r.revision, revision), map[[2]string]Document{}, map[Subject]*Effective{}
		r.overrides, r.size = map[store.Key]*policy.Override{}, 0
	}
	if e, ok := r.merged[s]; ok {
		return e, nil
	}
	if err := r.load(ctx, s); err != nil {
		return nil, err
	}
	documents := make([]Document, len(Scopes))
	for i, scope := range Scopes {
		documents[i] = r.documents[[2]string{scope, s.id(scope)}]
		documents[i].Scope = scope
	}
	e, err := Merge(documents)
	if err != nil {
		return nil, err
	}
	e.Override = r.overrides[s.override()]
	r.merged[s] = e
	r.size += len(e.Data) + len(e.Workers)
	return e, nil
}

// override is where the rules of the subject's workflow lie, the zero key for none.
func (s Subject) override() store.Key {
	if s.Workflow == "" || len(s.Workflow) > maxID {
		return store.Key{}
	}
	return override.Key(s.Tenant, s.Workflow)
}

// load reads what is not remembered of a subject: its documents, and the rules of its workflow.
func (r *Resolver) load(ctx context.Context, s Subject) error {
	found := map[[2]string]Document{}
	var keys []store.Key
	for _, scope := range Scopes {
		name := [2]string{scope, s.id(scope)}
		if _, ok := r.documents[name]; ok || name[1] == "" {
			continue
		}
		found[name] = Document{Scope: scope, ID: name[1]}
		keys = append(keys, key(scope, name[1]))
	}
	rules, asked := s.override(), false
	if _, ok := r.overrides[rules]; !ok && rules != (store.Key{}) {
		keys, asked = append(keys, rules), true
	}
	if len(keys) == 0 {
		return nil
	}
	items, err := r.Store.Table.BatchGet(ctx, keys)
	if err != nil {
		return fmt.Errorf("effective config: %w", err)
	}
	for name := range found {
		i := slices.IndexFunc(items, func(it store.Item) bool { return it.Key == key(name[0], name[1]) })
		if i < 0 {
			continue
		}
		if found[name], err = r.Store.document(ctx, name[0], name[1], items[i]); err != nil {
			return fmt.Errorf("effective config: %w", err)
		}
	}
	if asked {
		if err := r.learn(s.Workflow, rules, items); err != nil {
			return err
		}
	}
	for name, d := range found {
		r.documents[name] = d
		r.size += len(d.Data)
	}
	return nil
}

// learn remembers the rules of a workflow, or that there are none.
func (r *Resolver) learn(workflow string, rules store.Key, items []store.Item) error {
	var o *policy.Override
	if i := slices.IndexFunc(items, func(it store.Item) bool { return it.Key == rules }); i >= 0 {
		var err error
		if o, err = override.Read(workflow, items[i]); err != nil {
			return err
		}
	}
	r.overrides[rules] = o
	return nil
}
