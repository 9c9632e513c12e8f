package policy

import "time"

// Document is one policy document as it was written. Members that were absent are empty; the lists are as written, trimmed.
type Document struct {
	// Name is the file or bundle that the document came from; errors carry it.
	Name          string `json:"-"`
	Version       string `json:"version,omitempty"`
	DefaultTenant string `json:"default_tenant,omitempty"`
	// DefaultDecision is "allow", "deny" or "" when the document does not say.
	DefaultDecision string `json:"default_decision,omitempty"`
	Rules           []Rule `json:"rules,omitempty"`
	// Tenants is keyed by tenant name in lower case.
	Tenants   map[string]Tenant `json:"tenants,omitempty"`
	Approvals ApprovalTerms     `json:"approvals,omitzero"`
}

// ApprovalTerms is what a document says about approvals.
type ApprovalTerms struct {
	// ExpireAfter is how long a job may wait for a human, as written; Expiry is the same as a duration, 0 when absent.
	ExpireAfter string        `json:"expire_after,omitempty"`
	Expiry      time.Duration `json:"-"`
	// SelfApproval is "allow", "forbid" or "" when the document does not say.
	SelfApproval string `json:"self_approval,omitempty"`
}

// Rule is one rule. Its JSON form is that of the document.
type Rule struct {
	// ID is "" for a rule without one.
	ID    string `json:"id,omitempty"`
	Match Match  `json:"match"`
	// Decision is the word of the document; Verdict is what it means.
	Decision string  `json:"decision"`
	Verdict  Verdict `json:"-"`
	Reason   string  `json:"reason,omitempty"`
	// Constraints is nil when none is set.
	Constraints  *Constraints  `json:"constraints,omitempty"`
	Remediations []Remediation `json:"remediations,omitempty"`
	Velocity     *Velocity     `json:"velocity,omitempty"`
	// ThrottleDuration is how long a throttled job waits, as written; Throttle is the same as a duration, 0 when absent.
	ThrottleDuration string        `json:"throttle_duration,omitempty"`
	Throttle         time.Duration `json:"-"`
}

// Match says which jobs a rule is for: those that fit every member that is set. The zero Match fits every job.
type Match struct {
	Tenants      []string          `json:"tenants,omitempty"`
	Topics       []string          `json:"topics,omitempty"`
	Capabilities []string          `json:"capabilities,omitempty"`
	RiskTags     []string          `json:"risk_tags,omitempty"`
	Requires     []string          `json:"requires,omitempty"`
	PackIDs      []string          `json:"pack_ids,omitempty"`
	ActorIDs     []string          `json:"actor_ids,omitempty"`
	ActorTypes   []string          `json:"actor_types,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	// SecretsPresent is nil when it does not matter.
	SecretsPresent *bool `json:"secrets_present,omitempty"`
	MCP            MCP   `json:"mcp,omitzero"`
}

// MCP restricts what a job may ask of MCP servers. A value in a deny list is refused; a value, or its absence, that is not in an allow
// list that has entries is refused too.
type MCP struct {
	AllowServers   []string `json:"allow_servers,omitempty"`
	DenyServers    []string `json:"deny_servers,omitempty"`
	AllowTools     []string `json:"allow_tools,omitempty"`
	DenyTools      []string `json:"deny_tools,omitempty"`
	AllowResources []string `json:"allow_resources,omitempty"`
	DenyResources  []string `json:"deny_resources,omitempty"`
	AllowActions   []string `json:"allow_actions,omitempty"`
	DenyActions    []string `json:"deny_actions,omitempty"`
}

// Tenant is what a document says about one tenant, beside its rules.
type Tenant struct {
	AllowTopics []string `json:"allow_topics,omitempty"`
	DenyTopics  []string `json:"deny_topics,omitempty"`
	// Repository hosts are carried, not evaluated.
	AllowedRepoHosts []string `json:"allowed_repo_hosts,omitempty"`
	DeniedRepoHosts  []string `json:"denied_repo_hosts,omitempty"`
	// MaxConcurrentJobs is 0 when there is no limit.
	MaxConcurrentJobs int64 `json:"max_concurrent_jobs,omitempty"`
	MCP               MCP   `json:"mcp,omitzero"`
}

// Velocity makes a rule fire only for a bucket of jobs that has already seen more than MaxRequests in the window.
type Velocity struct {
	MaxRequests   int64 `json:"max_requests"`
	WindowSeconds int64 `json:"window_seconds"`
	// Key names the members of a job that make its bucket, joined by colons: tenant, topic, actor_id, actor_type, capability, pack_id,
	// labels.<name>.
	Key string `json:"key"`
}

// Constraints are the limits a job runs under. A zero member is no limit. All groups are written, so that readers need not ask for them.
type Constraints struct {
	Budgets        Budgets   `json:"budgets"`
	Sandbox        Sandbox   `json:"sandbox"`
	Toolchain      Toolchain `json:"toolchain"`
	Diff           Diff      `json:"diff"`
	RedactionLevel string    `json:"redaction_level,omitempty"`
}

// Budgets are limits that the plane enforces, except for artifacts, which the uploader names. Retries and jobs fit into 32 bits.
type Budgets struct {
	MaxRuntimeMS      int64 `json:"max_runtime_ms,omitempty"`
	MaxRetries        int64 `json:"max_retries,omitempty"`
	MaxArtifactBytes  int64 `json:"max_artifact_bytes,omitempty"`
	MaxConcurrentJobs int64 `json:"max_concurrent_jobs,omitempty"`
}

// Sandbox is advice to workers.
type Sandbox struct {
	Isolated         bool     `json:"isolated,omitempty"`
	NetworkAllowlist []string `json:"network_allowlist,omitempty"`
	FSReadOnly       []string `json:"fs_read_only,omitempty"`
	FSReadWrite      []string `json:"fs_read_write,omitempty"`
}

// Toolchain is advice to workers.
type Toolchain struct {
	AllowedTools    []string `json:"allowed_tools,omitempty"`
	AllowedCommands []string `json:"allowed_commands,omitempty"`
}

// Diff is advice to workers. The numbers fit into 32 bits.
type Diff struct {
	MaxFiles      int64    `json:"max_files,omitempty"`
	MaxLines      int64    `json:"max_lines,omitempty"`
	DenyPathGlobs []string `json:"deny_path_globs,omitempty"`
}

// Remediation is what a denied job could become.
type Remediation struct {
	ID                    string            `json:"id,omitempty"`
	Title                 string            `json:"title,omitempty"`
	Summary               string            `json:"summary,omitempty"`
	ReplacementTopic      string            `json:"replacement_topic,omitempty"`
	ReplacementCapability string            `json:"replacement_capability,omitempty"`
	AddLabels             map[string]string `json:"add_labels,omitempty"`
	RemoveLabels          []string          `json:"remove_labels,omitempty"`
}
