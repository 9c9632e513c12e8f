package job

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Filter says which jobs of a tenant a list shows. Zero values do not filter.
type Filter struct {
	State State
	Topic string
	Team  string
	// After and Before bound ListedAt, inclusive, in microseconds.
	After, Before int64
}

// ScanLimit is the most jobs that one page looks at. A filter that matches few of them answers a short page with a cursor.
const ScanLimit = 2000

// List answers at most limit jobs of a tenant, newest first, and the cursor of the next page: the microsecond to go on from, inclusive,
// 0 at the end. The states by_time families serve are FAILED, DENIED, TIMEOUT and CANCELLED together, and APPROVAL_REQUIRED; other
// filters look at the heads.
//
// Jobs that different processes listed in the same microsecond are never parted by a page: a page ends before them, or holds them all.
func (s *Store) List(ctx context.Context, tenant string, f Filter, limit int, now time.Time) ([]*Record, int64, error) {
	m := newMerge(s, s.Shards.families(tenant, f.State), f.After, f.Before)
	var page rows
	for scanned := 0; ; {
		entries, more, err := m.next(ctx, min(limit+1, 100))
		if err != nil {
			return nil, 0, err
		}
		if page, err = s.matching(ctx, tenant, f, entries, page, now); err != nil {
			return nil, 0, err
		}
		scanned += len(entries)
		switch {
		case page.split(limit):
			records, cut := page.cut(limit)
			return records, cut, nil
		case !more:
			return page.all(), 0, nil
		case scanned >= ScanLimit:
			records, cut := page.before(entries[len(entries)-1].micros)
			return records, cut, nil
		}
	}
}

func (s *Store) matching(ctx context.Context, tenant string, f Filter, entries []listed, page rows, now time.Time) (rows, error) {
	records, err := s.heads(ctx, tenant, entries, now)
	if err != nil {
		return nil, err
	}
	at := make(map[string]int64, len(entries))
	for _, e := range entries {
		at[e.id] = e.micros
	}
	for _, r := range records {
		if f.matches(r) {
			page = append(page, row{r, at[r.ID]})
		}
	}
	return page, nil
}

// row is a job at the place where the index listed it.
type row struct {
	*Record
	micros int64
}

type rows []row

// split says whether a page of limit rows can be cut off these: one more is there, and not all stand in one microsecond.
func (p rows) split(limit int) bool {
	return len(p) > limit && p[len(p)-1].micros != p[0].micros
}

// cut answers the page and the cursor after it. Rows of the cursor's microsecond go to the next page, unless the page would be empty:
// then it holds them all.
func (p rows) cut(limit int) ([]*Record, int64) {
	cut := p[limit].micros
	if cut != p[0].micros {
		return p.before(cut)
	}
	for i, r := range p {
		if r.micros != cut {
			return p[:i].all(), r.micros
		}
	}
	return p.all(), 0
}

func (p rows) before(cut int64) ([]*Record, int64) {
	for len(p) > 0 && p[len(p)-1].micros <= cut {
		p = p[:len(p)-1]
	}
	return p.all(), cut
}

func (p rows) all() []*Record {
	out := make([]*Record, len(p))
	for i, r := range p {
		out[i] = r.Record
	}
	return out
}

func (f Filter) matches(r *Record) bool {
	return (f.State == "" || r.State == f.State) && (f.Topic == "" || r.Topic == f.Topic) && (f.Team == "" || r.Team == f.Team)
}

// Trace answers the jobs of a trace that the tenant has, in the order of their creation.
func (s *Store) Trace(ctx context.Context, tenant, trace string, now time.Time) ([]*Record, error) {
	var refs []listed
	q := store.Query{Index: store.ByLink, PK: traceLink(tenant, trace, "").PK}
	for {
		p, err := s.Table.Query(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, it := range p.Items {
			refs = append(refs, listed{id: strings.TrimPrefix(it.PK, "J#")})
		}
		if p.Next == "" {
			break
		}
		q.Start = p.Next
	}
	records, err := s.heads(ctx, tenant, refs, now)
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
	var refs []listed
	q := store.Query{Index: store.ByLink, PK: holderLink(tenant, worker, "").PK}
	for {
		p, err := s.Table.Query(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, it := range p.Items {
			refs = append(refs, listed{id: strings.TrimPrefix(it.PK, "J#")})
		}
		if p.Next == "" {
			break
		}
		q.Start = p.Next
	}
	return s.heads(ctx, AnyTenant, refs, now)
}

// heads reads the state items, fresh, in the order given; what is gone is left out.
func (s *Store) heads(ctx context.Context, tenant string, refs []listed, now time.Time) ([]*Record, error) {
	keys := make([]store.Key, len(refs))
	for i, ref := range refs {
		keys[i] = stateKey(ref.id)
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

// listed is an entry of the by_time index.
type listed struct {
	id     string
	micros int64
}

// merge reads several partitions of by_time as one, newest first.
type merge struct {
	s     *Store
	parts []*part
	seen  map[string]bool // a job that moves while it is read may stand in two places
}

type part struct {
	query store.Query
	buf   []listed
	done  bool
}

func newMerge(s *Store, families []string, after, before int64) *merge {
	m := &merge{s: s, seen: map[string]bool{}}
	for _, pk := range families {
		q := store.Query{Index: store.ByTime, PK: pk, Desc: true}
		if after > 0 {
			q.From = sortable(after)
		}
		if before > 0 {
			q.To = sortable(before) + "#\U0010FFFF"
		}
		m.parts = append(m.parts, &part{query: q})
	}
	return m
}

// next answers the next n entries, fewer at the end; more says whether any are left.
func (m *merge) next(ctx context.Context, n int) (out []listed, more bool, err error) {
	for len(out) < n {
		var best *part
		for _, p := range m.parts {
			if err := m.fill(ctx, p, n); err != nil {
				return nil, false, err
			}
			if len(p.buf) > 0 && (best == nil || p.buf[0].before(best.buf[0])) {
				best = p
			}
		}
		if best == nil {
			return out, false, nil
		}
		entry := best.buf[0]
		best.buf = best.buf[1:]
		if !m.seen[entry.id] {
			m.seen[entry.id] = true
			out = append(out, entry)
		}
	}
	return out, true, nil
}

func (l listed) before(other listed) bool {
	if l.micros != other.micros {
		return l.micros > other.micros
	}
	return l.id > other.id
}

func (m *merge) fill(ctx context.Context, p *part, n int) error {
	for len(p.buf) == 0 && !p.done {
		p.query.Limit = n
		page, err := m.s.Table.Query(ctx, p.query)
		if err != nil {
			return err
		}
		for _, it := range page.Items {
			micros, id, _ := strings.Cut(it.Index[store.ByTime].SK, "#")
			at, _ := strconv.ParseInt(micros, 10, 64)
			p.buf = append(p.buf, listed{id: id, micros: at})
		}
		p.query.Start, p.done = page.Next, page.Next == ""
	}
	return nil
}
