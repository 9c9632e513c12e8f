package pack

// Manifest is what pack.yaml says, as the record spells it.
type Manifest struct {
	Metadata      Metadata      `json:"metadata"`
	Compatibility Compatibility `json:"compatibility"`
	Topics        []Topic       `json:"topics,omitempty"`
	// Tests are not part of the record's manifest: they are beside it.
	Tests Tests `json:"-"`
}

// Metadata says which pack it is.
type Metadata struct {
	ID          string `json:"id"`
	Version     string `json:"version"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Image       string `json:"image,omitempty"`
}

// Compatibility says which planes the pack is for; "" is any version.
type Compatibility struct {
	ProtocolVersion int    `json:"protocolVersion"`
	MinCoreVersion  string `json:"minCoreVersion"`
	MaxCoreVersion  string `json:"maxCoreVersion"`
}

// Topic describes the jobs of a topic. Nothing is routed by it.
type Topic struct {
	Name       string   `json:"name"`
	Requires   []string `json:"requires"`
	RiskTags   []string `json:"riskTags"`
	Capability string   `json:"capability"`
}

// Tests are what a pack expects of the policy that holds where it is installed.
type Tests struct {
	PolicySimulations []Simulation `json:"policySimulations"`
}

// Simulation is a request, and what is to be decided of it: "" is nothing that could ever be decided.
type Simulation struct {
	Name           string            `json:"name"`
	Request        SimulationRequest `json:"request"`
	ExpectDecision string            `json:"expectDecision"`
}

// SimulationRequest is what the policy is asked about.
type SimulationRequest struct {
	TenantID   string   `json:"tenantId"`
	Topic      string   `json:"topic"`
	Capability string   `json:"capability"`
	RiskTags   []string `json:"riskTags"`
	Requires   []string `json:"requires"`
	PackID     string   `json:"packId"`
	ActorID    string   `json:"actorId"`
	ActorType  string   `json:"actorType"`
}
