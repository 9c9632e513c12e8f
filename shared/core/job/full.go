package job

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Full is everything about one job.
type Full struct {
	*Record
	Body *Body
	// Decisions are newest first.
	Decisions []Decision
	// Approval is the last that was resolved, nil for none.
	Approval *Approval
	// Remediations are the jobs that were made as remediations of this one, oldest first.
	Remediations []string
	// ResultData is the payload of the last attempt, or the placeholder; nil when there is none.
	ResultData []byte
}

// Full reads everything about a job in one query of its partition.
func (s *Store) Full(ctx context.Context, tenant, id string, now time.Time) (*Full, error) {
	if id == "" {
		return nil, ErrUnknown
	}
	items, err := s.partition(ctx, id, "")
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(items, func(it store.Item) bool { return it.SK == stateSK })
	if at < 0 {
		return nil, ErrUnknown
	}
	r, err := visible(items[at], tenant, now)
	if err != nil {
		return nil, err
	}
	f := &Full{Record: r, ResultData: Placeholder(r)}
	f.Remediations = remediations(items)
	result := resultKey(id, r.Attempts).SK
	for _, it := range items {
		switch {
		case it.SK == bodyPrefix+r.Body:
			if f.Body, err = s.body(ctx, r, it, now); err != nil {
				return nil, err
			}
			f.Decisions = append(f.Decisions, f.Body.First)
		case strings.HasPrefix(it.SK, decisionPrefix):
			var d Decision
			decode(it.Attrs.Bytes(aDecision), &d)
			f.Decisions = append(f.Decisions, d)
		case strings.HasPrefix(it.SK, approvalPrefix): // in the order of their time
			f.Approval = &Approval{}
			decode(it.Attrs.Bytes(aApproval), f.Approval)
		case it.SK == result:
			if f.ResultData, err = s.result(ctx, r, it, now); err != nil {
				return nil, err
			}
		}
	}
	if f.Body == nil {
		return nil, ErrUnknown
	}
	newestFirst(f.Decisions)
	return f, nil
}

func newestFirst(ds []Decision) {
	slices.SortStableFunc(ds, func(a, b Decision) int { return int(b.CheckedAt - a.CheckedAt) })
}

// Decisions answers at most limit decisions of a job, newest first; none for a job that the tenant does not have.
func (s *Store) Decisions(ctx context.Context, tenant, id string, limit int, now time.Time) ([]Decision, error) {
	f, err := s.Full(ctx, tenant, id, now)
	if errors.Is(err, ErrUnknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return f.Decisions[:min(limit, len(f.Decisions))], nil
}

// DecisionOp records a decision made after the first; it takes part in the transaction that acts on it. The decision's By says what caused it.
func DecisionOp(r *Record, d Decision) store.Op {
	key := decisionKey(r.ID, d.CheckedAt)
	return store.Put(store.Item{
		Key: key, Attrs: store.Attrs{aDecision: encode(d)}, Expires: r.ExpiresAt,
		Index: map[store.Index]store.Key{store.ByTime: audit.LogKey(key, d.CheckedAt)},
	}).If(store.NotExists())
}

func (s *Store) partition(ctx context.Context, id, prefix string) ([]store.Item, error) {
	var items []store.Item
	for page, err := range store.Pages(ctx, s.Table, store.Query{PK: Partition(id), Prefix: prefix}) {
		if err != nil {
			return nil, err
		}
		items = append(items, page...)
	}
	return items, nil
}

// Keep gives everything of a job that is not at its end more time: half of its retention before it would go. It answers the record as it is
// then.
func (s *Store) Keep(ctx context.Context, r *Record, now time.Time) (*Record, error) {
	until := NewExpiry(now.UnixMicro())
	items, err := s.partition(ctx, r.ID, "")
	if err != nil {
		return nil, err
	}
	for _, it := range items {
		if it.SK == stateSK || it.Expires == 0 {
			continue
		}
		if key := it.Attrs.String(aContextBlob); key != "" && it.SK == bodyPrefix+r.Body {
			data, _, err := s.Blobs.Get(ctx, key, 0)
			if err == nil {
				err = s.Blobs.Put(ctx, key, data, contextOptions)
			}
			if err != nil && !errors.Is(err, blob.ErrNotFound) {
				return nil, err
			}
		}
		if err := s.write(ctx, []store.Op{store.Update(it.Key).If(store.Exists()).ExpireAt(until)}); err != nil {
			return nil, err
		}
	}
	return s.Touch(ctx, r, func(n *Record) { n.ExpiresAt = until })
}

// childItem says in the partition of a job's parent that the job is its child, and whether it is a remediation.
func childItem(r *Record) store.Item {
	it := store.Item{Key: childKey(r.Parent, r.ID), Expires: r.ExpiresAt}
	if r.Remedy != "" {
		it.Attrs = store.Attrs{aRemedy: r.Remedy, aCreated: r.CreatedAt}
	}
	return it
}

// remediations lists the jobs that are remediations, of the items of a partition, oldest first.
func remediations(items []store.Item) []string {
	var found []store.Item
	for _, it := range items {
		if strings.HasPrefix(it.SK, childPrefix) && it.Attrs.String(aRemedy) != "" {
			found = append(found, it)
		}
	}
	slices.SortStableFunc(found, func(a, b store.Item) int { return int(a.Attrs.Int(aCreated) - b.Attrs.Int(aCreated)) })
	var ids []string
	for _, it := range found {
		ids = append(ids, strings.TrimPrefix(it.SK, childPrefix))
	}
	return ids
}

// Children lists the jobs that a job asked for: those whose parent it is and that are no remediation of it.
func (s *Store) Children(ctx context.Context, id string) ([]string, error) {
	items, err := s.partition(ctx, id, childPrefix)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, it := range items {
		if it.Attrs.String(aRemedy) == "" {
			ids = append(ids, strings.TrimPrefix(it.SK, childPrefix))
		}
	}
	return ids, nil
}

// NotCancelled makes a transaction depend on a job that was not cancelled: the parent of a new one.
func NotCancelled(id string) store.Op {
	var states []string
	for _, s := range States {
		if s != Cancelled {
			states = append(states, string(s))
		}
	}
	return store.Check(stateKey(id), store.OneOf(aState, states...))
}
