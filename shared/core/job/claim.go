package job

import (
	"context"
	"errors"
	"slices"
	"time"

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
	// Delivery names the queue of the container that holds the worker's stream.
	Delivery string
}

// Claim hands a scheduled job over: one conditional write, no read. A job that may not be claimed so is a *StaleError.
//
// Its entry in the due index stays where it is: that may be early, and the sweep files it again. So a job that ends within the time of a
// resend costs no write to that index for being claimed.
func (s *Store) Claim(ctx context.Context, c Claim, micros int64) (*Record, error) {
	conds := []store.Cond{
		store.Equal(aState, string(Scheduled)), same(aAttempts, c.Attempt-1),
		store.Any(store.HasNot(aDeadline), store.Greater(aDeadline, micros)),
		store.Any(store.HasNot(aTargeted), store.Equal(aTarget, c.Worker)),
	}
	if !c.CrossTenant {
		conds = append(conds, store.Equal(aTenant, c.WorkerTenant))
	}
	if !slices.Contains(c.Pools, "*") {
		conds = append(conds, store.OneOf(aPool, c.Pools...))
	}
	op := store.Update(stateKey(c.ID)).If(store.All(conds...)).
		SetAttrs(store.Attrs{
			aState: string(Dispatched), aAttempts: c.Attempt, aWorker: c.Worker, aWorkerTenant: c.WorkerTenant, aHeld: micros,
			aUpdated: micros,
		}).
		Move(store.ByLink, holderLink(c.WorkerTenant, c.Worker, c.ID))
	if c.Delivery != "" {
		op = op.SetAttr(aDelivery, c.Delivery)
	} else {
		op = op.RemoveAttr(aDelivery)
	}
	it, err := s.Table.Update(ctx, op.RemoveAttr(aReason, aProgress))
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
	return parse(it), nil
}

// Due lists jobs whose entry in the due index is at or before now, at most limit of one shard, the oldest first.
func (s *Store) Due(ctx context.Context, shard, limit int, now time.Time) ([]*Record, error) {
	var refs []listed
	q := store.Query{Index: store.ByDue, PK: DuePartition(shard), To: sortable(now.UnixMicro()) + "#\U0010FFFF", Limit: limit}
	for len(refs) < limit {
		page, err := s.Table.Query(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, it := range page.Items {
			refs = append(refs, listed{id: it.PK[len("J#"):]})
		}
		if page.Next == "" {
			break
		}
		q.Start = page.Next
	}
	return s.heads(ctx, AnyTenant, refs[:min(limit, len(refs))], now)
}
