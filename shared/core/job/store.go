package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Store keeps jobs in the table, and what is too large for it in the blob store.
type Store struct {
	Table  store.Table
	Blobs  blob.Store
	Shards Shards
	// Moved, when given, hears of every change of state that was written: from is "" for a new job.
	Moved func(ctx context.Context, from State, r *Record)
	// Ended, when given, answers what else is written in the transaction in which a job comes to its end.
	Ended func(*Record) []store.Op
}

// ended are the operations that belong to a change of state.
func (s *Store) ended(from State, r *Record) []store.Op {
	if s.Ended == nil || from.Terminal() || !r.State.Terminal() {
		return nil
	}
	return s.Ended(r)
}

func (s *Store) moved(ctx context.Context, from State, r *Record) {
	if s.Moved != nil && from != r.State {
		s.Moved(ctx, from, r)
	}
}

// AnyTenant lets an internal caller load a job whose tenant it does not know. It is never a caller's own word.
const AnyTenant = "\x00any"

// ErrUnknown is the answer for a job that does not exist, has expired or belongs to another tenant.
var ErrUnknown = fault.New(fault.NotFound, "job not found")

// ErrLimit says that the tenant has as many active jobs as it may.
var ErrLimit = errors.New("job: concurrency limit reached")

// StaleError says that a job is not in the state that a change needs; nothing was written.
type StaleError struct {
	// Current is the job as it is, nil when it does not exist.
	Current *Record
}

func (e *StaleError) Error() string {
	if e.Current == nil {
		return "job: does not exist"
	}
	return fmt.Sprintf("job %s: is %s", e.Current.ID, e.Current.State)
}

// Load reads a job's state item. A job of another tenant is ErrUnknown.
func (s *Store) Load(ctx context.Context, tenant, id string, now time.Time) (*Record, error) {
	if id == "" {
		return nil, ErrUnknown
	}
	it, err := s.Table.Get(ctx, stateKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrUnknown
	}
	if err != nil {
		return nil, err
	}
	return visible(it, tenant, now)
}

func visible(it store.Item, tenant string, now time.Time) (*Record, error) {
	r := parse(it)
	if !it.Live(now.Unix()) || (tenant != AnyTenant && r.Tenant != tenant) {
		return nil, ErrUnknown
	}
	return r, nil
}

// Create stores a new job: its body, then the state item that acknowledges it. limit > 0 counts it against its tenant's active jobs when
// its state is an active one. A job of that id that is there already is a *StaleError; ErrLimit when the limit is reached.
func (s *Store) Create(ctx context.Context, r *Record, b *Body, limit int64, extra ...store.Op) error {
	if err := s.putBody(ctx, r, b); err != nil {
		return err
	}
	free := store.Any(store.NotExists(), store.Less(aExpires, r.CreatedAt/1e6))
	ops := []store.Op{store.Put(s.item(r)).If(free)}
	ops = append(ops, count(&Record{Tenant: r.Tenant}, r, limit)...)
	if r.Parent != "" {
		ops = append(ops, store.Put(childItem(r)))
	}
	ops = append(append(ops, extra...), s.ended("", r)...)
	if err := s.write(ctx, ops); err != nil {
		return err
	}
	s.moved(ctx, "", r)
	return nil
}

func (s *Store) item(r *Record) store.Item {
	it := store.Item{
		Key: stateKey(r.ID), Attrs: r.attrs(), Expires: r.ExpiresAt,
		Index: map[store.Index]store.Key{store.ByTime: s.Shards.listKey(r)},
	}
	if r.DueAt != 0 {
		it.Index[store.ByDue] = dueKey(r.ID, r.DueAt)
	}
	if r.Held() {
		it.Index[store.ByLink] = holderLink(r.WorkerTenant, r.Worker, r.ID)
	}
	return it
}

// Move is one conditional write that takes a job from where the caller last saw it to another state. change edits a copy of the record
// (its State is set already); what it leaves alone is not written. The write holds only while the job is in a state that may move to
// that one, in the same attempt, with the same worker: otherwise it is a *StaleError. extra operations take part in the same
// transaction. limit is for a job that change makes Counted.
func (s *Store) Move(ctx context.Context, r *Record, to State, limit int64, change func(*Record), extra ...store.Op) (*Record, error) {
	return s.move(ctx, r, append(From(to), to), to, limit, change, extra)
}

// Touch changes a record without changing its state, under the condition that the state is still the same.
func (s *Store) Touch(ctx context.Context, r *Record, change func(*Record)) (*Record, error) {
	return s.move(ctx, r, []State{r.State}, r.State, 0, change, nil)
}

func (s *Store) move(
	ctx context.Context, r *Record, from []State, to State, limit int64, change func(*Record), extra []store.Op,
) (*Record, error) {
	if !May(r.State, to) || (r.State.Terminal() && to != r.State) {
		return nil, &StaleError{Current: r}
	}
	next := *r
	next.State = to
	change(&next)
	if to.Terminal() {
		next.DueAt = 0
	}
	next.Counted = next.Counted && active(to)
	next.Queued = next.Queued && to == Pending
	ops := []store.Op{s.update(r, &next).If(s.unchanged(r, live(from)))}
	ops = append(ops, count(r, &next, limit)...)
	ops = append(append(ops, extra...), s.ended(r.State, &next)...)
	if err := s.write(ctx, ops); err != nil {
		return nil, err
	}
	s.moved(ctx, r.State, &next)
	return &next, nil
}

// unchanged is the condition that nobody else moved the job on since it was read.
func (s *Store) unchanged(r *Record, from []State) store.Cond {
	words := make([]string, len(from))
	for i, f := range from {
		words[i] = string(f)
	}
	conds := []store.Cond{
		store.OneOf(aState, words...), same(aAttempts, r.Attempts), same(aWorker, r.Worker), same(aWorkerTenant, r.WorkerTenant),
		same(aCounted, r.Counted), same(aQueued, r.Queued),
	}
	if r.once {
		conds = append(conds, same(aDue, r.DueAt))
	}
	if r.unmoved {
		conds = append(conds, store.Equal(aState, string(r.State)), same(aUpdated, r.UpdatedAt))
	}
	return store.All(conds...)
}

// same holds while an attribute has the value, the zero value being an absent attribute.
func same[T comparable](attr string, v T) store.Cond {
	var zero T
	if v == zero {
		return store.HasNot(attr)
	}
	return store.Equal(attr, v)
}

// update writes what differs between two records of one job.
func (s *Store) update(r, next *Record) store.Op {
	op := store.Update(stateKey(r.ID))
	was, is := r.attrs(), next.attrs()
	set := store.Attrs{}
	for name, v := range is {
		if !equal(was[name], v) {
			set[name] = v
		}
	}
	op = op.SetAttrs(set)
	for name := range was {
		if _, ok := is[name]; !ok {
			op = op.RemoveAttr(name)
		}
	}
	if next.ExpiresAt != r.ExpiresAt {
		op = op.ExpireAt(next.ExpiresAt)
	}
	before, after := s.item(r).Index, s.item(next).Index
	for _, index := range []store.Index{store.ByTime, store.ByDue, store.ByLink} {
		if before[index] != after[index] {
			op = op.Move(index, after[index])
		}
	}
	return op
}

func equal(a, b any) bool {
	x, ok := a.([]byte)
	if !ok {
		return a == b
	}
	y, ok := b.([]byte)
	return ok && string(x) == string(y)
}

// The attributes of a tenant's counter: its counted jobs that are active, and those that wait for a place among them.
const (
	aActive = "n"
	aQueue  = "w"
)

// count is the change of the tenant's counter when a job goes from one record to the next, none where it stays as it is; a job becomes an active
// one only below the limit.
func count(r, next *Record, limit int64) []store.Op {
	op := store.Update(counterKey(r.Tenant))
	if next.Counted && !r.Counted {
		op = op.If(store.Any(store.NotExists(), store.Less(aActive, limit)))
	}
	changed := false
	for _, c := range []struct {
		attr    string
		was, is bool
	}{{aActive, r.Counted, next.Counted}, {aQueue, r.Queued, next.Queued}} {
		switch {
		case c.is && !c.was:
			op, changed = op.AddInt(c.attr, 1), true
		case c.was && !c.is:
			op, changed = op.AddInt(c.attr, -1), true
		}
	}
	if !changed {
		return nil
	}
	return []store.Op{op}
}

// Counts answers how many counted jobs of the tenant are active, and how many wait for a place among them.
func (s *Store) Counts(ctx context.Context, tenant string) (active, queued int64, err error) {
	it, err := s.Table.Get(ctx, counterKey(tenant))
	if errors.Is(err, store.ErrNotFound) {
		return 0, 0, nil
	}
	return it.Attrs.Int(aActive), it.Attrs.Int(aQueue), err
}

func (s *Store) write(ctx context.Context, ops []store.Op) error {
	err := store.Transact(ctx, s.Table, ops...)
	var failed *store.ConditionError
	if !errors.As(err, &failed) {
		return err
	}
	if failed.Op == 1 && len(ops) > 1 && ops[1].Key.SK == "active" {
		return ErrLimit
	}
	stale := &StaleError{}
	if failed.Old != nil && failed.Op == 0 {
		stale.Current = parse(*failed.Old)
	}
	return stale
}

func active(s State) bool {
	return slices.Contains(Active, s)
}

// live leaves out the ends, which nothing leaves.
func live(states []State) []State {
	out := states[:0:0]
	for _, s := range states {
		if !s.Terminal() {
			out = append(out, s)
		}
	}
	return out
}
