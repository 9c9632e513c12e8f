package install

import (
	"encoding/json"

	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/core/pack/registry"
	schemas "github.com/cordum-serverless/cordum/shared/core/schema/registry"
	"github.com/cordum-serverless/cordum/shared/core/workflow"
	"github.com/cordum-serverless/cordum/shared/core/workflow/catalog"
)

// State is all that changes of packs are about, without a platform: for tests of what they make of it.
type State struct {
	Records   map[string]registry.Record
	Document  json.RawMessage
	Bundles   map[string]json.RawMessage
	Schemas   map[string]json.RawMessage
	Workflows map[string]*workflow.Workflow
	at        int64
}

// Install makes of it what an installation makes, and says whether that is anything.
func (s *State) Install(by identity.Identity, p *pack.Pack, o Options) (bool, error) {
	return s.change(by, p.Metadata.ID, p, func(w *world) (*wish, error) { return install(w, p, o) })
}

// Uninstall is Install of the other way.
func (s *State) Uninstall(by identity.Identity, id string, purge bool) (bool, error) {
	return s.change(by, id, nil, func(w *world) (*wish, error) { return uninstall(w, purge) })
}

func (s *State) change(by identity.Identity, id string, p *pack.Pack, plan func(*world) (*wish, error)) (bool, error) {
	s.at += 1e6
	w := &world{
		id: id, by: by, tenant: by.Tenant, micros: s.at, packs: registry.Snapshot{Records: s.Records}, bundles: s.Bundles,
		document: config.Document{Data: s.Document}, schemas: map[string]schemas.Registered{}, workflows: map[string]*catalog.Version{},
	}
	if old, there := s.Records[id]; there {
		if err := w.know(old); err != nil {
			return false, err
		}
	}
	schemaIDs, workflowIDs := w.resources(p)
	for _, id := range schemaIDs {
		w.schemas[id] = schemas.Registered{ID: id, Text: s.Schemas[id]}
	}
	for _, id := range workflowIDs {
		if f := s.Workflows[id]; f != nil {
			w.workflows[id] = &catalog.Version{Workflow: f}
		}
	}
	x, err := plan(w)
	if err != nil || x.nothing(w) {
		return false, err
	}
	s.apply(x)
	return true, nil
}

func (s *State) apply(x *wish) {
	x.into(s.Bundles)
	for id, text := range x.schemas {
		if s.Schemas[id] = text; text == nil {
			delete(s.Schemas, id)
		}
	}
	for id, f := range x.workflows {
		if s.Workflows[id] = f; f == nil {
			delete(s.Workflows, id)
		}
	}
	if x.document != nil {
		s.Document = x.document
	}
	for _, r := range append(x.others, x.record) {
		s.Records[r.ID] = r
	}
}
