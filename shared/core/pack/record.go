package pack

import (
	"encoding/json"
	"fmt"
)

// The states of an installed pack.
const (
	Active   = "ACTIVE"
	Inactive = "INACTIVE"
	Disabled = "DISABLED"
)

// Record is what the registry says of an installed pack.
type Record struct {
	ID          string    `json:"id"`
	Version     string    `json:"version"`
	Status      string    `json:"status"`
	InstalledAt string    `json:"installed_at,omitempty"`
	InstalledBy string    `json:"installed_by,omitempty"`
	Manifest    Manifest  `json:"manifest"`
	Resources   Resources `json:"resources"`
	Overlays    Overlays  `json:"overlays"`
	Tests       Tests     `json:"tests"`
}

// Resources are the digests of what the pack brought, by id.
type Resources struct {
	Schemas   map[string]string `json:"schemas,omitempty"`
	Workflows map[string]string `json:"workflows,omitempty"`
}

// Overlays are what was applied.
type Overlays struct {
	Config []ConfigOverlay `json:"config,omitempty"`
	Policy []Fragment      `json:"policy,omitempty"`
}

// Fragment names the bundle that a policy overlay became.
type Fragment struct {
	Name       string `json:"name"`
	FragmentID string `json:"fragment_id"`
}

// Record is what the registry says of the pack once it is installed; applied are the overlays of its configuration that were applied.
func (p *Pack) Record(status, installedAt, installedBy string, applied []ConfigOverlay) Record {
	r := Record{
		ID: p.Metadata.ID, Version: p.Metadata.Version, Status: status, InstalledAt: installedAt, InstalledBy: installedBy,
		Manifest: p.Manifest, Overlays: Overlays{Config: applied}, Tests: p.Tests,
		Resources: Resources{Schemas: map[string]string{}, Workflows: map[string]string{}},
	}
	for _, s := range p.Schemas {
		r.Resources.Schemas[s.ID] = s.Digest
	}
	for _, w := range p.Workflows {
		r.Resources.Workflows[w.ID] = w.Digest
	}
	for _, o := range p.Policy {
		r.Overlays.Policy = append(r.Overlays.Policy, Fragment{o.Name, o.FragmentID})
	}
	return r
}

// ReadRecord reads a record, also one that the original's cordumctl wrote: the case of members does not count, and unknown ones are passed over.
func ReadRecord(raw []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(raw, &r); err != nil {
		return Record{}, fmt.Errorf("pack record: %w", err)
	}
	return r, nil
}
