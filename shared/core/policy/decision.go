package policy

import "time"

// Verdict is what may become of a job. The zero Verdict denies.
type Verdict uint8

// The verdicts.
const (
	Deny Verdict = iota
	Allow
	RequireApproval
	Throttle
	AllowWithConstraints
)

var verdictNames = [...]string{
	Deny: "DENY", Allow: "ALLOW", RequireApproval: "REQUIRE_APPROVAL", Throttle: "THROTTLE", AllowWithConstraints: "ALLOW_WITH_CONSTRAINTS",
}

// String is the verdict as it is stored: DENY, ALLOW, REQUIRE_APPROVAL, THROTTLE or ALLOW_WITH_CONSTRAINTS.
func (v Verdict) String() string {
	if int(v) >= len(verdictNames) {
		return verdictNames[Deny]
	}
	return verdictNames[v]
}

// DefaultThrottle is how long a throttled job waits when its rule does not say.
const DefaultThrottle = 5 * time.Second

// Request is a job to be judged. It need not exist.
type Request struct {
	// JobID names the job for the caller; nothing is decided by it.
	JobID string
	// Topic must begin with "job.".
	Topic string
	// Tenant "" is the policy's default_tenant, and without one "default".
	Tenant    string
	Principal string
	// ActorID "" is the principal.
	ActorID string
	// ActorType is "human", "service" or "", which no rule with actor_types matches.
	ActorType  string
	Capability string
	RiskTags   []string
	Requires   []string
	PackID     string
	Labels     map[string]string
	// WorkflowID is the workflow whose step the job is, "" for none; the case of its letters counts.
	WorkflowID string
	// Override are the rules of the workflow itself; nil is none.
	Override *Override
	// Effective are the restrictions of the effective configuration; nil is none.
	Effective *Effective
	// Counts holds, by Bucket.Key, how many requests the window of a bucket has seen. A rule with velocity whose bucket is not in here does
	// not fire.
	Counts map[string]int64
}

// Decision is what a policy says about a job. What its pointers and slices lead to belongs to the Policy and must not be changed.
type Decision struct {
	Verdict Verdict
	// Reason is for people: the rule's, "no matching rule", or the restriction that denied.
	Reason string
	// RuleID is the rule that matched, also when a restriction denied afterwards; "" when none did.
	RuleID string
	// Snapshot is the policy's id; "" for a job whose topic is not acceptable.
	Snapshot string
	// Constraints and Remediations are the matched rule's, whatever the verdict.
	Constraints  *Constraints
	Remediations []Remediation
	// ApprovalRequired is true exactly for RequireApproval.
	ApprovalRequired bool
	// MaxConcurrentJobs is the lower of the rule's and the tenant's limit; 0 is no limit.
	MaxConcurrentJobs int64
	// ThrottleFor is how long the job waits before it is judged again; 0 unless the verdict is Throttle.
	ThrottleFor time.Duration
}
