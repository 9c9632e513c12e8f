// Package listing pages through newest-first lists: several partitions of the by_time index read as one. A list's sort keys begin with 16
// digits of microseconds and a "#"; its cursor is a microsecond, inclusive.
package listing

import (
	"context"
	"strconv"
	"strings"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// How much one page looks at. What matches little answers a short page with a cursor.
const (
	// ReadLimit is the most rows that a page reads.
	ReadLimit = 2000
	// KeyLimit is the most entries of the index that a page passes over: about 100 bytes each.
	KeyLimit = 50_000
	// filteredPage is how many entries are read at once, at most, where many are passed over.
	filteredPage = 2000
)

// Entry is an entry of the index.
type Entry struct {
	// Key is the item's own key; Rest is the sort key of the index after the microseconds.
	store.Key

	Rest   string
	Micros int64
}

// List says what to list.
type List[T any] struct {
	Table store.Table
	// Partitions of by_time that are merged.
	Partitions []string
	// After and Before bound the microseconds, inclusive; 0 does not.
	After, Before int64
	// Keep says by the key alone whether an entry can match; nil keeps all.
	Keep func(Entry) bool
	// Load reads rows: one for each entry, nil for one that is gone or does not match.
	Load func(context.Context, []Entry) ([]*T, error)
}

// Page answers at most limit rows, newest first, and the cursor of the next page, 0 at the end.
//
// Rows that share a microsecond are never parted by a page: a page ends before them, or holds them all.
func (l List[T]) Page(ctx context.Context, limit int) ([]*T, int64, error) {
	m := l.merge()
	var page rows[T]
	for read := 0; ; {
		entries, more, err := m.next(ctx, min(limit+1, 100))
		if err != nil {
			return nil, 0, err
		}
		loaded, err := l.Load(ctx, entries)
		if err != nil {
			return nil, 0, err
		}
		for i, v := range loaded {
			if v != nil {
				page = append(page, row[T]{v, entries[i].Micros})
			}
		}
		read += len(entries)
		switch {
		case page.split(limit):
			out, cut := page.cut(limit)
			return out, cut, nil
		case !more:
			return page.all(), 0, nil
		case read >= ReadLimit || m.passed >= KeyLimit:
			out, cut := page.before(m.last)
			return out, cut, nil
		}
	}
}

// row is a value at the place where the index listed it.
type row[T any] struct {
	value  *T
	micros int64
}

type rows[T any] []row[T]

// split says whether a page of limit rows can be cut off these: one more is there, and not all stand in one microsecond.
func (p rows[T]) split(limit int) bool {
	return len(p) > limit && p[len(p)-1].micros != p[0].micros
}

// cut answers the page and the cursor after it. Rows of the cursor's microsecond go to the next page, unless the page would be empty:
// then it holds them all.
func (p rows[T]) cut(limit int) ([]*T, int64) {
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

func (p rows[T]) before(cut int64) ([]*T, int64) {
	for len(p) > 0 && p[len(p)-1].micros <= cut {
		p = p[:len(p)-1]
	}
	return p.all(), cut
}

func (p rows[T]) all() []*T {
	out := make([]*T, len(p))
	for i, r := range p {
		out[i] = r.value
	}
	return out
}

// merge reads several partitions as one, newest first.
type merge[T any] struct {
	list   List[T]
	parts  []*part
	seen   map[store.Key]bool // what moves while it is read may stand in two places
	passed int                // entries looked at
	last   int64              // the microsecond of the last of them
}

type part struct {
	query store.Query
	buf   []Entry
	done  bool
}

func (l List[T]) merge() *merge[T] {
	m := &merge[T]{list: l, seen: map[store.Key]bool{}}
	for _, pk := range l.Partitions {
		q := store.Query{Index: store.ByTime, PK: pk, Desc: true}
		if l.After > 0 {
			q.From = Sortable(l.After)
		}
		if l.Before > 0 {
			q.To = UpTo(l.Before)
		}
		m.parts = append(m.parts, &part{query: q})
	}
	return m
}

// Sortable writes microseconds so that their texts sort as they do.
func Sortable(micros int64) string {
	s := strconv.FormatInt(micros, 10)
	return strings.Repeat("0", max(16-len(s), 0)) + s
}

// UpTo is the bound of a query for keys that begin with Sortable and "#": it sorts after everything of the microsecond.
func UpTo(micros int64) string { return Sortable(micros) + "#\U0010FFFF" }

// Parse reads the entry of an item in ByTime.
func Parse(item store.Item) Entry { return ParseIn(store.ByTime, item) }

// ParseIn reads the entry of an item in an index whose sort keys begin with Sortable.
func ParseIn(index store.Index, item store.Item) Entry {
	micros, rest, _ := strings.Cut(item.Index[index].SK, "#")
	at, _ := strconv.ParseInt(micros, 10, 64)
	return Entry{Key: item.Key, Rest: rest, Micros: at}
}

// next answers the next n entries that may match, fewer at the end and where too many were passed over; more says whether any are left.
func (m *merge[T]) next(ctx context.Context, n int) (out []Entry, more bool, err error) {
	for len(out) < n && m.passed < KeyLimit {
		var best *part
		for _, p := range m.parts {
			if err := m.fill(ctx, p, n); err != nil {
				return nil, false, err
			}
			if len(p.buf) > 0 && (best == nil || p.buf[0].newer(best.buf[0])) {
				best = p
			}
		}
		if best == nil {
			return out, false, nil
		}
		e := best.buf[0]
		best.buf = best.buf[1:]
		m.passed++
		m.last = e.Micros
		if (m.list.Keep == nil || m.list.Keep(e)) && !m.seen[e.Key] {
			m.seen[e.Key] = true
			out = append(out, e)
		}
	}
	return out, true, nil
}

func (e Entry) newer(o Entry) bool {
	if e.Micros != o.Micros {
		return e.Micros > o.Micros
	}
	return e.Rest > o.Rest
}

func (m *merge[T]) fill(ctx context.Context, p *part, n int) error {
	for len(p.buf) == 0 && !p.done {
		switch {
		case p.query.Limit == 0 || m.list.Keep == nil:
			p.query.Limit = n
		default: // the more are passed over, the more are read: what matches much costs no more than a list of all
			p.query.Limit = min(2*p.query.Limit, filteredPage)
		}
		page, err := m.list.Table.Query(ctx, p.query)
		if err != nil {
			return err
		}
		for _, it := range page.Items {
			p.buf = append(p.buf, Parse(it))
		}
		p.query.Start, p.done = page.Next, page.Next == ""
	}
	return nil
}
