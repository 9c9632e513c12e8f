package job

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Grant is leave that a human gave to a job, for one request under one policy. It stays until the job's end: whatever the plane does with the
// job meanwhile, the policy's rules are not asked again while both are the same.
type Grant struct {
	Snapshot string `json:"s"`
	JobHash  string `json:"h"`
	// RuleID and Constraints are those of the decision that asked for approval.
	RuleID      string              `json:"u,omitempty"`
	Constraints *policy.Constraints `json:"c,omitempty"`
	// Reason and Note are the approver's words.
	Reason string `json:"r,omitempty"`
	Note   string `json:"n,omitempty"`
	// Message is the id of the approval on the bus, "approval:<uuid>".
	Message string `json:"m,omitempty"`
}

// NewGrant is leave for what a decision asks approval for.
func NewGrant(d Decision, reason, note, message string) *Grant {
	return &Grant{
		Snapshot: d.Snapshot, JobHash: d.JobHash, RuleID: d.RuleID, Constraints: d.Constraints, Reason: reason, Note: note, Message: message,
	}
}

// ReasonGranted is the reason of the decision that a grant makes.
const ReasonGranted = "approval granted"

// Decision is what the grant makes of a decision under its policy about its request: allowed, under the rule and the constraints that asked
// for approval.
func (g *Grant) Decision(of Decision) Decision {
	granted := Decision{
		Verdict: policy.Allow.String(), Reason: ReasonGranted, RuleID: g.RuleID, Snapshot: g.Snapshot, JobHash: g.JobHash, Constraints: g.Constraints,
		CheckedAt: of.CheckedAt,
	}
	if of.RuleID == g.RuleID {
		granted.Remediations = of.Remediations
	}
	return granted
}

// The labels that an approval puts on a request.
const (
	LabelGranted = "approval_granted"
	LabelReason  = "approval_reason"
	LabelNote    = "approval_note"
	LabelMessage = "cordum.bus_msg_id"
)

// Labels are those that the approval under which the job runs adds to its request; nil when it runs under none.
func (r *Record) Labels() map[string]string {
	if r.Grant == nil || r.Decision.Reason != ReasonGranted || r.Decision.Snapshot != r.Grant.Snapshot {
		return nil
	}
	labels := map[string]string{LabelGranted: "true", LabelMessage: r.Grant.Message}
	for name, v := range map[string]string{LabelReason: r.Grant.Reason, LabelNote: r.Grant.Note} {
		if v != "" {
			labels[name] = v
		}
	}
	return labels
}

// The ways in which a wait for approval is resolved.
const (
	Approve = "approve"
	Reject  = "reject"
	Expire  = "expire"
)

// Approval is the record of a wait for approval that was resolved, and of what it was about. Nothing changes it.
type Approval struct {
	// Resolution is Approve, Reject or Expire.
	Resolution string `json:"v"`
	// By is the principal, else the credential's id; "" for one that expired. Role is that of the credential.
	By     string `json:"by,omitempty"`
	Role   string `json:"ro,omitempty"`
	Reason string `json:"re,omitempty"`
	Note   string `json:"no,omitempty"`
	// At is when, in microseconds.
	At int64 `json:"at"`
	// Message is the id on the bus, "" unless it was approved.
	Message string `json:"m,omitempty"`
	// Decision is the one that asked for approval; Revision says for the how manieth time.
	Decision Decision `json:"d"`
	Revision int64    `json:"rv,omitempty"`
}

const (
	approvalPrefix = "A#"
	aApproval      = "av"
)

func resolvedFamily(tenant string) string { return "JR#" + listing.Segment(tenant) }

// Op stores the approval of a job; it takes part in the transaction that resolves it.
func (a Approval) Op(r *Record) store.Op {
	at := sortable(a.At)
	return store.Put(store.Item{
		Key: store.Key{PK: Partition(r.ID), SK: approvalPrefix + at}, Attrs: store.Attrs{aApproval: encode(a)}, Expires: r.ExpiresAt,
		Index: map[store.Index]store.Key{store.ByTime: {PK: resolvedFamily(r.Tenant), SK: at + "#" + r.ID}},
	})
}

// Approvable is a job of a list of approvals.
type Approvable struct {
	*Record
	// Resolved is nil for a job that waits.
	Resolved *Approval
	// Context is the job's input where it lies in the table; HasContext says that there is one anywhere, HadContext that there was one.
	Context                []byte
	HasContext, HadContext bool
	RequestLabels          map[string]string
	WorkflowID             string
}

// Approvals answers at most limit jobs of a tenant that wait for approval, newest first, with resolved also the approvals that were resolved
// in between, and the cursor of the next page, 0 at the end: see List. before, unless 0, bounds the microsecond, inclusive.
func (s *Store) Approvals(
	ctx context.Context, tenant string, resolved bool, before int64, limit int, now time.Time,
) ([]*Approvable, int64, error) {
	l := listing.List[Approvable]{
		Table: s.Table, Partitions: s.Shards.families(tenant, ApprovalRequired), Before: before,
		Load: func(ctx context.Context, entries []listing.Entry) ([]*Approvable, error) {
			return s.approvables(ctx, tenant, entries, now)
		},
	}
	if resolved {
		l.Partitions = append(l.Partitions, resolvedFamily(tenant))
	}
	return l.Page(ctx, limit)
}

// approvables reads the jobs, the resolved approvals, and then the requests of some entries.
func (s *Store) approvables(ctx context.Context, tenant string, entries []listing.Entry, now time.Time) ([]*Approvable, error) {
	keys := make([]store.Key, 0, 2*len(entries))
	for _, e := range entries {
		keys = append(keys, stateKey(strings.TrimPrefix(e.PK, "J#")))
		if e.SK != stateSK {
			keys = append(keys, e.Key)
		}
	}
	items, err := s.Table.BatchGet(ctx, keys)
	if err != nil {
		return nil, err
	}
	records, approvals := map[string]*Record{}, map[store.Key]*Approval{}
	for _, it := range items {
		if it.SK != stateSK {
			a := &Approval{}
			decode(it.Attrs.Bytes(aApproval), a)
			approvals[it.Key] = a
		} else if r, err := visible(it, tenant, now); err == nil {
			records[it.PK] = r
		}
	}
	out := make([]*Approvable, len(entries))
	bodies := make([]store.Key, 0, len(entries))
	for i, e := range entries {
		r := records[e.PK]
		if r == nil || (e.SK == stateSK && r.State != ApprovalRequired) || (e.SK != stateSK && approvals[e.Key] == nil) {
			continue
		}
		out[i] = &Approvable{Record: r, Resolved: approvals[e.Key]}
		bodies = append(bodies, bodyKey(r.ID, r.Body))
	}
	return out, s.describe(ctx, out, bodies, now)
}

// describe reads the requests of jobs.
func (s *Store) describe(ctx context.Context, jobs []*Approvable, keys []store.Key, now time.Time) error {
	items, err := s.Table.BatchGet(ctx, keys)
	if err != nil {
		return err
	}
	bodies := make(map[string]store.Item, len(items))
	for _, it := range items {
		bodies[it.PK] = it
	}
	for _, a := range jobs {
		if a == nil {
			continue
		}
		it, ok := bodies[Partition(a.ID)]
		if !ok {
			continue
		}
		request, err := requestOf(a.ID, it)
		if err != nil {
			return err
		}
		a.RequestLabels, a.WorkflowID = request.GetLabels(), request.GetWorkflowId()
		a.HadContext = it.Attrs.Bytes(aContext) != nil || it.Attrs.String(aContextBlob) != ""
		if a.HasContext = a.HadContext && a.hasPayloads(now); a.HasContext {
			a.Context = it.Attrs.Bytes(aContext)
		}
	}
	return nil
}

// hasPayloads says whether the job's context is still there to be read.
func (r *Record) hasPayloads(now time.Time) bool {
	return !r.State.Terminal() || now.Unix() < expiry(r.UpdatedAt, PayloadRetention)
}

// ErrNoRequest is the answer for a job whose request has gone.
var ErrNoRequest = errors.New("job: its request is not there")

// MaxArtifactBytes is the largest payload that the job may store as its result, or as an artifact; 0 is no limit.
func (r *Record) MaxArtifactBytes() int64 {
	if c := r.Decision.Constraints; c != nil {
		return c.Budgets.MaxArtifactBytes
	}
	return 0
}

// Prompt is what a context payload of a submission asks for; "" when that is none.
func Prompt(payload []byte) string {
	var p struct {
		Prompt string `json:"prompt"`
	}
	_ = json.Unmarshal(payload, &p) // what is no submission has no prompt
	return p.Prompt
}
