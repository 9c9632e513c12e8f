package policy

import "slices"

// rule is a compiled rule: its words are numbers of the policy's vocabularies.
type rule struct {
	workflows                                            []uint32 // the one that the rule's document is for
	topics                                               []glob
	tenants, capabilities, risk, requires, packs, actors []uint32
	capabilityGlobs                                      []glob
	labels                                               []uint32
	actorTypes                                           actorTypes
	secrets                                              *bool
	mcp                                                  *mcpLists
	velocity                                             *bucketRule
	decision                                             Decision // what a match answers
}

// field is what a rule asks about; its name is that of the document.
type field uint8

const (
	noField       field = iota
	fieldWorkflow       // of the document
	fieldTenants
	fieldTopics
	fieldCapabilities
	fieldRiskTags
	fieldRequires
	fieldPackIDs
	fieldActorIDs
	fieldActorTypes
	fieldLabels
	fieldSecrets
	fieldMCP
	fieldVelocity
)

var fieldNames = [...]string{
	noField: "", fieldWorkflow: "workflow_id", fieldTenants: "tenants", fieldTopics: "topics", fieldCapabilities: "capabilities", fieldRiskTags: "risk_tags",
	fieldRequires: "requires", fieldPackIDs: "pack_ids", fieldActorIDs: "actor_ids", fieldActorTypes: "actor_types",
	fieldLabels: "labels", fieldSecrets: "secrets_present", fieldMCP: "mcp", fieldVelocity: "velocity",
}

// mismatch answers the first field that does not fit; noField is a match.
func (r *rule) mismatch(f *facts) field {
	switch {
	case len(r.workflows) > 0 && !hasID(r.workflows, f.workflow):
		return fieldWorkflow
	case len(r.tenants) > 0 && !hasID(r.tenants, f.tenant):
		return fieldTenants
	case len(r.topics) > 0 && !matchAny(r.topics, f.topic):
		return fieldTopics
	case !r.fitsCapability(f):
		return fieldCapabilities
	case len(r.risk) > 0 && !anyOf(r.risk, &f.risk):
		return fieldRiskTags
	case !allOf(r.requires, &f.requires):
		return fieldRequires
	case len(r.packs) > 0 && !hasID(r.packs, f.pack):
		return fieldPackIDs
	case len(r.actors) > 0 && !hasID(r.actors, f.actor):
		return fieldActorIDs
	case r.actorTypes != 0 && r.actorTypes&f.actorType == 0:
		return fieldActorTypes
	case !allOf(r.labels, &f.labels):
		return fieldLabels
	case r.secrets != nil && *r.secrets != f.secrets:
		return fieldSecrets
	case r.mcp != nil && !r.fitsMCP(f):
		return fieldMCP
	case r.velocity != nil && !r.velocity.exceeded(f):
		return fieldVelocity
	default:
		return noField
	}
}

func (r *rule) fitsCapability(f *facts) bool {
	if len(r.capabilities)+len(r.capabilityGlobs) == 0 || hasID(r.capabilities, f.capable) {
		return true
	}
	if isBlank(f.request.Capability) {
		return false
	}
	for i := range r.capabilityGlobs {
		if r.capabilityGlobs[i].matchFolded(f.request.Capability) {
			return true
		}
	}
	return false
}

// fitsMCP: a clause about MCP is only for jobs that have to do with it, or a deny rule with nothing else would deny every job.
func (r *rule) fitsMCP(f *facts) bool {
	_, refused := r.mcp.check(&f.mcp)
	return f.mcp.any() && !refused
}

func anyOf(ids []uint32, of *idSet) bool {
	return slices.ContainsFunc(ids, of.has)
}

func allOf(ids []uint32, of *idSet) bool {
	for _, id := range ids {
		if !of.has(id) {
			return false
		}
	}
	return true
}
