package job

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Claim is a worker's wish to take a job for one attempt.
type Claim struct {
	ID      string
	Attempt int64
	Worker  string
	// WorkerTenant is the tenant of the worker's credential; only jobs of that tenant may be claimed, unless it is CrossTenant.
	WorkerTenant string
	CrossTenant  bool
	// Pools are those that the credential may serve; "*" is any.
	Pools []string
	// Key names the claim: it tells one that is asked again from another of the same worker; "" for none.
	Key string
	// Delivery names the queue of the container that holds the worker's stream.
	Delivery string
	// Within is how long, in microseconds, a worker usually may hold a job before it must be looked at. The claim is one write when the job's
	// entry in the due index comes sooner, or when DueBy says where it shall be.
	Within int64
	// PolicyRevision is that of the policy's head as it is now: a job that was decided at another one must be decided again first.
	PolicyRevision int64
	// DueBy, when not 0, is the microsecond by which the job must be looked at again.
	DueBy int64
}

// Has says whether the job is in the claimer's hands by this claim already.
func (r *Record) Has(c Claim) bool {
	return r.Held() && r.Attempts == c.Attempt && r.Worker == c.Worker && r.WorkerTenant == c.WorkerTenant && r.ClaimKey == c.Key
}

// MayClaim says whether the claim fits the job, the due index and the policy's revision aside.
func (r *Record) MayClaim(c Claim, micros int64) bool {
	return r.State == Scheduled && r.Attempts == c.Attempt-1 && (r.DeadlineAt == 0 || r.DeadlineAt > micros) &&
		(!r.Targeted || r.Target == c.Worker) && (c.CrossTenant || r.Tenant == c.WorkerTenant) &&
		(slices.Contains(c.Pools, "*") || slices.Contains(c.Pools, r.Pool))
}

// Claim hands a scheduled job over: one conditional write, no read. A job that may not be claimed so is a *StaleError.
//
// Its entry in the due index stays where it is when that is early enough: the sweep files it again. So a job that ends within the time of a
// resend costs no write to that index for being claimed. Where the entry would come too late, the answer is a *StaleError with a record
// that MayClaim: claim again with DueBy. So it is when the policy has moved since the job was decided: decide again, then claim again.
func (s *Store) Claim(ctx context.Context, c Claim, micros int64) (*Record, error) {
	conds := []store.Cond{
		store.Equal(aState, string(Scheduled)), same(aAttempts, c.Attempt-1), same(aPolicyRevision, c.PolicyRevision),
		store.Any(store.HasNot(aDeadline), store.Greater(aDeadline, micros)),
		store.Any(store.HasNot(aTargeted), store.Equal(aTarget, c.Worker)),
	}
	if !c.CrossTenant {
		conds = append(conds, store.Equal(aTenant, c.WorkerTenant))
	}
	if !slices.Contains(c.Pools, "*") {
		conds = append(conds, store.OneOf(aPool, c.Pools...))
	}
	if c.DueBy == 0 {
		conds = append(conds, store.HasNot(aHold), store.Any(store.HasNot(aDue), store.Less(aDue, micros+c.Within)))
	}
	op := store.Update(stateKey(c.ID)).If(store.All(conds...)).
		SetAttrs(store.Attrs{
			aState: string(Dispatched), aAttempts: c.Attempt, aWorker: c.Worker, aWorkerTenant: c.WorkerTenant, aHeld: micros,
			aUpdated: micros,
		}).
		Move(store.ByLink, holderLink(c.WorkerTenant, c.Worker, c.ID))
	for _, a := range [][2]string{{aDelivery, c.Delivery}, {aClaimKey, c.Key}} {
		if a[1] != "" {
			op = op.SetAttr(a[0], a[1])
		} else {
			op = op.RemoveAttr(a[0])
		}
	}
	if c.DueBy != 0 {
		op = op.SetAttr(aDue, c.DueBy).Move(store.ByDue, dueKey(c.ID, c.DueBy))
	}
	it, err := s.Table.Update(ctx, op.RemoveAttr(aReason, aProgress, aWaiting))
	if failed, ok := errors.AsType[*store.ConditionError](err); ok {
		stale := &StaleError{}
		if failed.Old != nil {
			stale.Current = parse(*failed.Old)
		}
		return nil, stale
	}
	if err != nil {
		return nil, err
	}
	r := parse(it)
	s.moved(ctx, Scheduled, r)
	return r, nil
}

// DueEntry is an entry of the due index: a job, and the microsecond at which it must be looked at.
type DueEntry struct {
	ID string
	At int64
}

// Due lists the entries of one shard of the due index up to a time, the oldest first, a page at a time: at most limit, from start, "" for the
// first page. next is "" at the end.
func (s *Store) Due(ctx context.Context, shard, limit int, until time.Time, start string) (entries []DueEntry, next string, err error) {
	page, err := s.Table.Query(ctx, store.Query{
		Index: store.ByDue, PK: DuePartition(shard), To: listing.UpTo(until.UnixMicro()), Limit: limit, Start: start,
	})
	if err != nil {
		return nil, "", err
	}
	for _, it := range page.Items {
		entries = append(entries, DueEntry{ID: it.PK[len("J#"):], At: listing.ParseIn(store.ByDue, it).Micros})
	}
	return entries, page.Next, nil
}

// Heads reads the records of jobs of any tenant, in the order given; those that do not exist any more are left out.
func (s *Store) Heads(ctx context.Context, ids []string, now time.Time) ([]*Record, error) {
	return s.heads(ctx, AnyTenant, ids, now)
}
