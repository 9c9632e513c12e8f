package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/workflow/engine"
	"github.com/cordum-serverless/cordum/shared/core/workflow/inbox"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// What may come of a commit beside an error of the table.
var (
	// errOvertaken says that somebody else has got the run on; who advances it must read it again.
	errOvertaken = errors.New("runs: overtaken")
	// errTooMuch says that a pass has more to write than a transaction takes.
	errTooMuch = errors.New("runs: the pass is too large for a transaction")
)

// state is a run in the hands of who gets it on.
type state struct {
	head *header
	plan *engine.Plan
	src  *loaded
	news []news
	// full says that there may be more news than were read.
	full bool
}

// news is something of the inbox.
type news struct {
	key   store.Key
	event inbox.Event
	due   time.Time
}

// read loads the header of a run and what has happened to it; head is nil for a run that does not exist.
func (r *Runs) read(ctx context.Context, run string) (*state, error) {
	st := &state{src: newLoaded()}
	q := inbox.News(run)
	page, err := r.Table.Query(ctx, q)
	for err == nil && len(page.Items) == 0 && page.Next != "" {
		q.Start = page.Next
		page, err = r.Table.Query(ctx, q)
	}
	if err != nil {
		return nil, err
	}
	for _, it := range page.Items {
		if inbox.IsHeader(it) {
			if st.head, err = parseHeader(it); err != nil {
				return nil, err
			}
			continue
		}
		n := news{key: it.Key}
		if n.event, n.due, err = inbox.Parse(it); err != nil {
			return nil, err
		}
		st.news = append(st.news, n)
	}
	st.full = page.Next != ""
	if st.head != nil {
		st.plan, err = r.plan(ctx, st.head)
	}
	return st, err
}

// advance gets the run on by some events, in memory.
func (r *Runs) advance(ctx context.Context, st *state, events []engine.Event, now time.Time) (*engine.Result, error) {
	var missing []string
	for _, id := range engine.Needs(st.plan, st.head.Run, events) {
		if _, ok := st.src.records[id]; !ok {
			missing = append(missing, id)
		}
	}
	if err := r.load(ctx, st.head.ID, st.src, missing, nil); err != nil {
		return nil, err
	}
	var res *engine.Result
	err := r.filled(ctx, st.head.ID, st.src, func() (err error) {
		res, err = engine.Advance(st.plan, st.head.Run, st.src, events, now)
		return err
	})
	return res, err
}

// part is what takes part in a commit beside what the engine says.
type part struct {
	// taken are the news that are taken in, ops what else is written, if anything is.
	taken []store.Key
	ops   []store.Op
	// remove has the run deleted.
	remove bool
	// due is when somebody must look at the header at the latest, in microseconds; 0 for as late as it says.
	due int64
}

// commit writes what a pass has made of a run; the state is the run as it is then. It is errOvertaken when somebody else was first.
func (r *Runs) commit(ctx context.Context, st *state, res *engine.Result, p part, now time.Time) error {
	next := *st.head
	next.Run, next.deleted = res.Run, next.deleted || p.remove
	next.due = next.next(now, res.More)
	if len(next.Outbox) > 0 && len(st.head.Outbox) > 0 && st.head.due > now.UnixMicro() {
		next.due = min(next.due, st.head.due) // what waits to be sent again does not wait longer because the run goes on
	}
	if p.due != 0 {
		next.due = min(next.due, p.due)
	}
	if !res.Changed {
		if len(p.ops) == 0 && !p.remove && next.due == st.head.due {
			return r.forget(ctx, p.taken)
		}
		changed := *res.Run
		changed.Version++
		next.Run = &changed
	}
	ops, values, err := r.ops(ctx, &next, res, store.Equal(attrVersion, st.head.Version))
	if err != nil {
		return err
	}
	for _, key := range p.taken {
		ops = append(ops, store.Delete(key))
	}
	if ops = append(ops, p.ops...); len(ops) > store.MaxTransaction {
		return errTooMuch
	}
	if err := r.write(ctx, &next, ops); err != nil {
		return err
	}
	for _, rec := range res.Records {
		st.src.records[rec.ID] = rec
	}
	for _, v := range values {
		st.src.values[v.ref] = v.tree
	}
	st.head = &next
	return nil
}

// forget removes news that changed nothing.
func (r *Runs) forget(ctx context.Context, taken []store.Key) error {
	ops := make([]store.Op, len(taken))
	for i, key := range taken {
		ops[i] = store.Delete(key)
	}
	if len(ops) == 0 {
		return nil
	}
	return store.Transact(ctx, r.Table, ops...)
}

// ops are the header, which comes first, the records, the timeline and the counter of a commit; the values that these refer to are stored already.
func (r *Runs) ops(ctx context.Context, next *header, res *engine.Result, unchanged store.Cond) ([]store.Op, []value, error) {
	values, err := r.putApart(ctx, next, res.Records)
	if err != nil {
		return nil, nil, err
	}
	ended := next.counted && next.Status.Terminal()
	next.counted = next.counted && !ended
	next.commit = r.Jobs.IDs.Hex(6)
	head, err := next.item(r.Shards)
	if err != nil {
		return nil, nil, err
	}
	ops := []store.Op{store.Put(head).If(unchanged)}
	for _, rec := range res.Records {
		it, err := recordItem(next, rec)
		if err != nil {
			return nil, nil, err
		}
		ops = append(ops, store.Put(it))
	}
	told, err := timelineOps(next.ID, next.Version, res.Timeline)
	if err != nil {
		return nil, nil, err
	}
	if ops = append(ops, told...); ended {
		ops = append(ops, store.Update(counterKey(next.OrgID)).AddInt(attrCount, -1))
	}
	return ops, values, nil
}

// putApart stores the large values of what is about to be written.
func (r *Runs) putApart(ctx context.Context, next *header, records []*engine.Record) ([]value, error) {
	head := *next.Run
	values, err := apart(&head, []*engine.Value{&head.Input}, headerBytes)
	if err != nil {
		return nil, err
	}
	next.Run = &head
	for _, rec := range records {
		more, err := apart(rec, rec.Values(), recordBytes)
		if err != nil {
			return nil, err
		}
		values = append(values, more...)
	}
	return values, r.putValues(ctx, next.ID, values)
}

// recordItem is a record as it is stored: in by_due while its run may want its timer.
func recordItem(h *header, rec *engine.Record) (store.Item, error) {
	text, err := json.Marshal(rec)
	if err != nil {
		return store.Item{}, fmt.Errorf("run %s: record %s: %w", h.ID, rec.ID, err)
	}
	it := store.Item{Key: inbox.Record(h.ID, rec.ID), Attrs: store.Attrs{attrRecord: text}}
	if !rec.Due.IsZero() && !h.Status.Terminal() {
		it.Index = map[store.Index]store.Key{store.ByDue: inbox.Due(h.ID, rec.Due.UnixMicro())}
	}
	return it, nil
}

// write commits; the first operation is the header's. What was written though its answer was lost is known by the nonce.
func (r *Runs) write(ctx context.Context, next *header, ops []store.Op) error {
	err := store.Transact(ctx, r.Table, ops...)
	failed, refused := errors.AsType[*store.ConditionError](err)
	switch {
	case err == nil:
		return nil
	case refused && failed.Op > 0:
		return err
	case refused && failed.Old != nil && failed.Old.Attrs.String(attrCommit) == next.commit:
		return nil
	case refused || errors.Is(err, store.ErrConflict):
		return errOvertaken
	}
	if it, unknown := r.Table.Get(ctx, inbox.Header(next.ID)); unknown == nil && it.Attrs.String(attrCommit) == next.commit {
		return nil
	}
	return err
}
