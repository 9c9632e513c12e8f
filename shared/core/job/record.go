package job

import (
	"encoding/json"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// How long things are kept (TTL, also checked on read).
const (
	// Retention is for jobs, decisions and bodies.
	Retention = 7 * 24 * time.Hour
	// PayloadRetention is for contexts and results.
	PayloadRetention = 24 * time.Hour
)

// InlineLimit is the largest payload kept inside the table; larger ones go to the blob store.
const InlineLimit = 32 * 1024

// Record is a job's state item. Times ending in At are microseconds since the epoch; 0 is "not".
type Record struct {
	ID        string
	State     State
	Tenant    string
	Trace     string
	Topic     string
	Pool      string // "" until routed
	Team      string
	Principal string
	ActorID   string
	ActorType string // human, service or ""
	IdemKey   string
	// Capability, PackID, RiskTags and Requires are the job's metadata, as the policy saw it.
	Capability string
	PackID     string
	RiskTags   []string
	Requires   []string
	Parent     string
	// Body names the body item.
	Body      string
	CreatedAt int64
	UpdatedAt int64
	// ListedAt is the microsecond that orders the job in lists: of its submission, then of its end. No two jobs that one process
	// handles share it.
	ListedAt   int64
	DeadlineAt int64
	// DueAt is when the due index lists the job; it may be early, never late.
	DueAt int64
	// ExpiresAt is the Unix second at which the record may go. While a job is not at its end it is moved on in time.
	ExpiresAt int64
	// WaitingSince is when the job began to wait for its decision, its turn or a worker; 0 is since CreatedAt.
	WaitingSince int64
	// HoldLimit is how long, in microseconds, a worker may hold the job before it must be looked at, where that is less than usual; 0 otherwise.
	HoldLimit int64
	// FailedAt is when an attempt failed for the first time, also one of the job that this one retries.
	FailedAt int64
	// Sends counts how often the job was put into its pool's queue for the present attempt.
	Sends int64
	// Tries counts how often a pending job was decided again.
	Tries int64
	// Attempts counts hand-overs to a worker. Worker, WorkerTenant and HeldAt say who holds the job, and since when.
	Attempts     int64
	Worker       string
	WorkerTenant string
	HeldAt       int64
	// Targeted says that one certain worker must take the job: Target, or, while that is "", one that is not there yet.
	Targeted bool
	Target   string
	// ClaimKey is the name that the Worker gave to its claim of the present attempt; "" when it gave none.
	ClaimKey string
	// Delivery names the queue of the container whose stream the Target, later the Worker, is on; "" when it has none.
	Delivery string
	// Decision is the last one.
	Decision Decision
	// PolicyRevision is the revision of the policy's head that it was made at. A claim goes by it only while the head has not moved.
	PolicyRevision int64
	// ApproveBy is when the wait for an approval ends, in microseconds; 0 is never, or that the job does not wait.
	ApproveBy int64
	// Asked counts how often a human was asked for.
	Asked int64
	// Grant is the approval that the job has, nil for none.
	Grant *Grant
	// Counted says that the job stands in its tenant's counter of active jobs.
	Counted bool
	// Queued says that it waits for a place there, and is counted as one that does.
	Queued bool
	// Reason says why a job pends or failed, where the policy's reason does not.
	Reason string
	// ErrorCode and ErrorMessage are of an unsuccessful end.
	ErrorCode    string
	ErrorMessage string
	// ResultPtr is the pointer that the worker reported; Artifacts likewise.
	ResultPtr   string
	Artifacts   []string
	ExecutionMS int64
	Progress    *Progress
	// CancelReason is the text that the worker is told.
	CancelReason string
	// Submitter is the id of the credential that submitted the job.
	Submitter string
	// Gate says that the job is an approval step of a run: it waits for a human, and nobody carries it out.
	Gate bool
	// Remedy says which remediation of its parent the job is; "" for one that is none.
	Remedy string

	// once makes every change depend on DueAt too, unmoved on the state and when that last changed.
	once, unmoved bool
}

// Once is the record for a change that is due: of several that look at it at one time, one makes the change.
func (r *Record) Once() *Record {
	o := *r
	o.once = true
	return &o
}

// Unmoved is the record for a change that only holds while the job is as it was read: of several that resolve one wait for approval at one
// time, one makes the change.
func (r *Record) Unmoved() *Record {
	o := *r
	o.unmoved = true
	return &o
}

// Progress is the last word of a worker on its job.
type Progress struct {
	Percent int32  `json:"percent"`
	Message string `json:"message,omitempty"`
	StepID  string `json:"step_id,omitempty"`
	At      int64  `json:"at"`
}

// attribute names of the state item: short, since they are billed with every write.
const (
	aState, aTenant, aTrace, aTopic, aPool       = "st", "tn", "tr", "tp", "pl"
	aTeam, aPrincipal, aActor, aActorType        = "tm", "pr", "ai", "at"
	aIdem, aCapability, aPack, aRisk, aRequires  = "ik", "cp", "pi", "rt", "rq"
	aParent, aBody, aCreated, aUpdated, aListed  = "pa", "bd", "cr", "up", "li"
	aDeadline, aDue, aSends, aTries, aAttempts   = "dl", "du", "sd", "ty", "n"
	aWorker, aWorkerTenant, aHeld, aTarget       = "wk", "wt", "hd", "tg"
	aDelivery, aTargeted, aClaimKey              = "dq", "tt", "ck"
	aDecision, aCounted, aReason                 = audit.AttrDecision, "ct", "re"
	aErrCode, aErrText, aResult, aArtifacts, aMS = "ec", "em", "rp", "af", "ms"
	aProgress, aCancel, aExpires                 = "pg", "cx", "ex"
	aWaiting, aHold, aFailed                     = "ws", "hl", "ff"
	aPolicyRevision, aGrant, aApproveBy, aAsked  = "pv", "gr", "ab", "as"
	aSubmitter, aRemedy, aGate, aQueued          = "sb", "rm", "gt", "qd"
)

func (r *Record) attrs() store.Attrs {
	a := store.Attrs{aState: string(r.State), aTenant: r.Tenant, aTrace: r.Trace, aTopic: r.Topic, aBody: r.Body}
	for name, v := range map[string]string{
		aPool: r.Pool, aTeam: r.Team, aPrincipal: r.Principal, aActor: r.ActorID, aActorType: r.ActorType, aIdem: r.IdemKey,
		aCapability: r.Capability, aPack: r.PackID, aRisk: joined(r.RiskTags), aRequires: joined(r.Requires), aParent: r.Parent,
		aWorker: r.Worker, aWorkerTenant: r.WorkerTenant, aTarget: r.Target, aDelivery: r.Delivery, aClaimKey: r.ClaimKey, aReason: r.Reason,
		aErrCode: r.ErrorCode, aErrText: r.ErrorMessage, aResult: r.ResultPtr, aArtifacts: joined(r.Artifacts), aCancel: r.CancelReason,
		aSubmitter: r.Submitter, aRemedy: r.Remedy,
	} {
		if v != "" {
			a[name] = v
		}
	}
	for name, v := range map[string]int64{
		aCreated: r.CreatedAt, aUpdated: r.UpdatedAt, aListed: r.ListedAt, aDeadline: r.DeadlineAt, aDue: r.DueAt, aSends: r.Sends,
		aTries: r.Tries, aAttempts: r.Attempts, aHeld: r.HeldAt, aMS: r.ExecutionMS, aExpires: r.ExpiresAt,
		aWaiting: r.WaitingSince, aHold: r.HoldLimit, aFailed: r.FailedAt, aPolicyRevision: r.PolicyRevision, aApproveBy: r.ApproveBy,
		aAsked: r.Asked,
	} {
		if v != 0 {
			a[name] = v
		}
	}
	if r.Decision.Verdict != "" {
		a[aDecision] = encode(r.Decision)
	}
	if r.Progress != nil {
		a[aProgress] = encode(r.Progress)
	}
	if r.Grant != nil {
		a[aGrant] = encode(r.Grant)
	}
	if r.Counted {
		a[aCounted] = true
	}
	if r.Queued {
		a[aQueued] = true
	}
	if r.Targeted {
		a[aTargeted] = true
	}
	if r.Gate {
		a[aGate] = true
	}
	return a
}

// parse reads a state item.
func parse(it store.Item) *Record {
	a := it.Attrs
	r := &Record{
		ID: it.PK[len("J#"):], State: State(a.String(aState)), Tenant: a.String(aTenant), Trace: a.String(aTrace),
		Topic: a.String(aTopic), Pool: a.String(aPool), Team: a.String(aTeam), Principal: a.String(aPrincipal),
		ActorID: a.String(aActor), ActorType: a.String(aActorType), IdemKey: a.String(aIdem), Capability: a.String(aCapability),
		PackID: a.String(aPack), RiskTags: split(a.String(aRisk)), Requires: split(a.String(aRequires)), Parent: a.String(aParent),
		Body: a.String(aBody), CreatedAt: a.Int(aCreated), UpdatedAt: a.Int(aUpdated), ListedAt: a.Int(aListed),
		DeadlineAt: a.Int(aDeadline), DueAt: a.Int(aDue), Sends: a.Int(aSends), Tries: a.Int(aTries), Attempts: a.Int(aAttempts),
		Worker: a.String(aWorker), WorkerTenant: a.String(aWorkerTenant), HeldAt: a.Int(aHeld), Target: a.String(aTarget), Delivery: a.String(aDelivery),
		ClaimKey: a.String(aClaimKey), Counted: a.Bool(aCounted), Targeted: a.Bool(aTargeted), Reason: a.String(aReason), ErrorCode: a.String(aErrCode), ErrorMessage: a.String(aErrText),
		ResultPtr: a.String(aResult), Artifacts: split(a.String(aArtifacts)), ExecutionMS: a.Int(aMS), CancelReason: a.String(aCancel),
		ExpiresAt: a.Int(aExpires), WaitingSince: a.Int(aWaiting), HoldLimit: a.Int(aHold), FailedAt: a.Int(aFailed),
		PolicyRevision: a.Int(aPolicyRevision), ApproveBy: a.Int(aApproveBy), Asked: a.Int(aAsked),
		Submitter: a.String(aSubmitter), Remedy: a.String(aRemedy), Gate: a.Bool(aGate), Queued: a.Bool(aQueued),
	}
	decode(a.Bytes(aDecision), &r.Decision)
	if b := a.Bytes(aProgress); b != nil {
		r.Progress = &Progress{}
		decode(b, r.Progress)
	}
	if b := a.Bytes(aGrant); b != nil {
		r.Grant = &Grant{}
		decode(b, r.Grant)
	}
	return r
}

// Waited is how long the job has waited for its decision, its turn or a worker.
func (r *Record) Waited(now time.Time) time.Duration {
	return now.Sub(time.UnixMicro(r.waitingSince()))
}

func (r *Record) waitingSince() int64 {
	if r.WaitingSince != 0 {
		return r.WaitingSince
	}
	return r.CreatedAt
}

// WaitsUntil is when a wait of that length ends, in microseconds.
func (r *Record) WaitsUntil(limit time.Duration) int64 {
	return r.waitingSince() + limit.Microseconds()
}

// KeepAt is when the record of a job that is not at its end must be given more time, in microseconds: half of its retention before it goes.
func (r *Record) KeepAt() int64 { return (r.ExpiresAt - int64(Retention/time.Second)/2) * 1e6 }

// NewExpiry is the Unix second until which a record that is written now is kept.
func NewExpiry(micros int64) int64 { return expiry(micros, Retention) }

// expiry is the Unix second at which something made at a microsecond ends.
func expiry(micros int64, ttl time.Duration) int64 { return micros/1e6 + int64(ttl/time.Second) }

// joined and split keep a list of words in one attribute, whatever the words are.
func joined(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return string(encode(words))
}

func split(s string) []string {
	var words []string
	decode([]byte(s), &words)
	return words
}

// encode writes a value of ours; it cannot fail for the types of this package.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("job: encode: " + err.Error())
	}
	return b
}

func decode(b []byte, v any) {
	if len(b) > 0 {
		_ = json.Unmarshal(b, v)
	}
}
