package job

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Filter says which jobs of a tenant a list shows. Zero values do not filter.
type Filter struct {
	State State
	Topic string
	Team  string
	Trace string
	// After and Before bound ListedAt, inclusive, in microseconds.
	After, Before int64
}

// List answers at most limit jobs of a tenant, newest first, and the cursor of the next page: the microsecond to go on from, inclusive,
// 0 at the end. A state is served by its family of partitions, topic, team and the state of an unsuccessful end by the hashes in the keys; only
// jobs that may match are read. A trace is one page, whatever limit is.
// How much a page looks at is bounded (package listing): what matches little answers short pages with a cursor.
func (s *Store) List(ctx context.Context, tenant string, f Filter, limit int, now time.Time) ([]*Record, int64, error) {
	if f.Trace != "" {
		records, err := s.Trace(ctx, tenant, f.Trace, now)
		return f.newest(records), 0, err
	}
	l := listing.List[Record]{
		Table: s.Table, Partitions: s.Shards.families(tenant, f.State), After: f.After, Before: f.Before,
		Load: func(ctx context.Context, entries []listing.Entry) ([]*Record, error) {
			return s.matching(ctx, tenant, f, entries, now)
		},
	}
	if f.Topic != "" || f.Team != "" || f.State.Unsuccessful() {
		l.Keep = f.mayMatch
	}
	return l.Page(ctx, limit)
}

// mayMatch says whether an entry can be of a job that the filter wants.
func (f Filter) mayMatch(e listing.Entry) bool {
	marks, _, _ := strings.Cut(e.Rest, "#")
	for _, want := range []string{f.Topic, f.Team, string(f.State)} {
		if len(marks) < markLength { // the key does not carry it
			return true
		}
		if want != "" && marks[:markLength] != Mark(want) {
			return false
		}
		marks = marks[markLength:]
	}
	return true
}

func (s *Store) matching(ctx context.Context, tenant string, f Filter, entries []listing.Entry, now time.Time) ([]*Record, error) {
	ids := make([]string, len(entries))
	place := make(map[string]int, len(entries))
	for i, e := range entries {
		ids[i] = strings.TrimPrefix(e.PK, "J#")
		place[ids[i]] = i
	}
	records, err := s.heads(ctx, tenant, ids, now)
	if err != nil {
		return nil, err
	}
	out := make([]*Record, len(entries))
	for _, r := range records {
		if f.matches(r) {
			out[place[r.ID]] = r
		}
	}
	return out, nil
}

func (f Filter) matches(r *Record) bool {
	return (f.State == "" || r.State == f.State) && (f.Topic == "" || r.Topic == f.Topic) && (f.Team == "" || r.Team == f.Team)
}

// newest answers those of the records that the filter wants, newest first.
func (f Filter) newest(records []*Record) []*Record {
	records = slices.DeleteFunc(records, func(r *Record) bool {
		return !f.matches(r) || r.ListedAt < f.After || f.Before > 0 && r.ListedAt > f.Before
	})
	slices.SortFunc(records, func(a, b *Record) int {
		return cmp.Or(cmp.Compare(b.ListedAt, a.ListedAt), strings.Compare(b.ID, a.ID))
	})
	return records
}

// Trace answers the jobs of a trace that the tenant has, in the order of their creation.
func (s *Store) Trace(ctx context.Context, tenant, trace string, now time.Time) ([]*Record, error) {
	linked, err := s.linked(ctx, traceLink(tenant, trace, "").PK)
	if err != nil {
		return nil, err
	}
	records, err := s.heads(ctx, tenant, append([]string{RootID(trace)}, linked...), now)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(records, func(a, b *Record) int {
		if a.CreatedAt != b.CreatedAt {
			return int(a.CreatedAt - b.CreatedAt)
		}
		return strings.Compare(a.ID, b.ID)
	})
	return records, nil
}

// HeldBy lists the jobs that a worker holds.
func (s *Store) HeldBy(ctx context.Context, tenant, worker string, now time.Time) ([]*Record, error) {
	ids, err := s.linked(ctx, holderLink(tenant, worker, "").PK)
	if err != nil {
		return nil, err
	}
	return s.heads(ctx, AnyTenant, ids, now)
}

// linked lists the jobs that stand in a partition of the index.
func (s *Store) linked(ctx context.Context, partition string) ([]string, error) {
	var ids []string
	for it, err := range store.Items(ctx, s.Table, store.Query{Index: store.ByLink, PK: partition}) {
		if err != nil {
			return nil, err
		}
		ids = append(ids, strings.TrimPrefix(it.PK, "J#"))
	}
	return ids, nil
}

// heads reads the state items, fresh, in the order given; what is gone is left out.
func (s *Store) heads(ctx context.Context, tenant string, ids []string, now time.Time) ([]*Record, error) {
	keys := make([]store.Key, len(ids))
	for i, id := range ids {
		keys[i] = stateKey(id)
	}
	items, err := s.Table.BatchGet(ctx, keys)
	if err != nil {
		return nil, err
	}
	records := make([]*Record, 0, len(items))
	for _, it := range items {
		if r, err := visible(it, tenant, now); err == nil {
			records = append(records, r)
		}
	}
	return records, nil
}
