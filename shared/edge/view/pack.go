package view

import (
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/core/pack/registry"
)

// Pack shows the record of a pack. What a client has put into it beside what records have is not shown here, but with the document system/packs.
func Pack(stored registry.Record) (*cordumv1.Pack, error) {
	r, err := pack.ReadRecord(stored.JSON)
	if err != nil {
		return nil, err
	}
	about, needs := r.Manifest.Metadata, r.Manifest.Compatibility
	out := &cordumv1.Pack{
		Id: stored.ID, Version: r.Version, Status: r.Status, InstalledAt: r.InstalledAt, InstalledBy: r.InstalledBy,
		Manifest: &cordumv1.PackManifest{
			Metadata: &cordumv1.PackMetadata{Id: about.ID, Version: about.Version, Title: about.Title, Description: about.Description, Image: about.Image},
			Compatibility: &cordumv1.PackCompatibility{
				ProtocolVersion: int32(needs.ProtocolVersion), MinCoreVersion: needs.MinCoreVersion, MaxCoreVersion: needs.MaxCoreVersion,
			},
		},
		Resources: &cordumv1.PackResources{Schemas: r.Resources.Schemas, Workflows: r.Resources.Workflows},
		Overlays:  &cordumv1.PackOverlays{},
		Tests:     &cordumv1.PackTests{},
	}
	for _, t := range r.Manifest.Topics {
		out.Manifest.Topics = append(out.Manifest.Topics, &cordumv1.PackTopic{
			Name: t.Name, Requires: t.Requires, RiskTags: t.RiskTags, Capability: t.Capability,
		})
	}
	for _, c := range r.Overlays.Config {
		out.Overlays.Config = append(out.Overlays.Config, &cordumv1.ConfigOverlay{
			Name: c.Name, Scope: c.Scope, ScopeId: c.ScopeID, Key: c.Key, Patch: JSON(c.Patch),
		})
	}
	for _, f := range r.Overlays.Policy {
		out.Overlays.Policy = append(out.Overlays.Policy, &cordumv1.PolicyOverlay{Name: f.Name, FragmentId: f.FragmentID})
	}
	for _, s := range r.Tests.PolicySimulations {
		q := s.Request
		out.Tests.PolicySimulations = append(out.Tests.PolicySimulations, &cordumv1.PolicySimulation{
			Name: s.Name, ExpectDecision: s.ExpectDecision, Request: &cordumv1.SimulationRequest{
				TenantId: q.TenantID, Topic: q.Topic, Capability: q.Capability, RiskTags: q.RiskTags, Requires: q.Requires, PackId: q.PackID,
				ActorId: q.ActorID, ActorType: q.ActorType,
			},
		})
	}
	return out, nil
}
