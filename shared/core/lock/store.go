package lock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Store keeps locks. Each operation is a strongly consistent read and one conditional write; one that changes nothing is the read alone. So operations
// are linearizable, whatever the processes' clocks say: a clock that is ahead ends a lock early, and the token says so.
type Store struct {
	Table store.Table
	Clock clock.Clock
	// IDs name operations.
	IDs ids.Source
}

// Acquire takes a lock. See Lock.Acquire.
//
// Faults: Invalid for names that are none, ErrUnavailable, Conflict when the owner holds it too often, too many do, or others keep changing it.
func (s *Store) Acquire(ctx context.Context, tenant, resource, owner, mode string, ttl time.Duration) (Lock, error) {
	return s.change(ctx, tenant, resource, owner, func(l Lock, owner string, now time.Time) (Lock, error) { return l.Acquire(owner, mode, ttl, now) })
}

// Release gives a lock back once, and answers it when it is still held, nil when it is not. One that nobody holds may be released.
//
// Faults: Invalid for names that are none, ErrNotHeld for another owner's lock, Conflict when others keep changing it.
func (s *Store) Release(ctx context.Context, tenant, resource, owner string) (*Lock, error) {
	l, err := s.change(ctx, tenant, resource, owner, Lock.Release)
	if err != nil || l.Mode == "" {
		return nil, err
	}
	return &l, nil
}

// Renew begins the time of a lock anew. See Lock.Renew.
//
// Faults: Invalid for names that are none, ErrNotHeld, Conflict when others keep changing it.
func (s *Store) Renew(ctx context.Context, tenant, resource, owner string, ttl time.Duration) (Lock, error) {
	return s.change(ctx, tenant, resource, owner, func(l Lock, owner string, now time.Time) (Lock, error) { return l.Renew(owner, ttl, now) })
}

// Get answers a lock that somebody holds, as it is. One that nobody does is ErrNotFound.
func (s *Store) Get(ctx context.Context, tenant, resource string) (Lock, error) {
	if resource = strings.TrimSpace(resource); resource == "" {
		return Lock{}, fault.New(fault.Invalid, "resource required")
	}
	if !named(resource) {
		return Lock{}, ErrNotFound
	}
	r, err := s.read(ctx, owned(tenant, resource))
	if err == nil && !r.Held(s.now()) {
		err = ErrNotFound
	}
	return r.Lock, err
}

func named(name string) bool { return name != "" && len(name) <= MaxName && utf8.ValidString(name) }

func (s *Store) read(ctx context.Context, l Lock) (record, error) {
	it, err := s.Table.Get(ctx, l.key())
	switch {
	case errors.Is(err, store.ErrNotFound):
		return record{Lock: l}, nil
	case err != nil:
		return record{}, err
	}
	return parse(it)
}

// now is the time as it is stored.
func (s *Store) now() time.Time { return time.UnixMicro(s.Clock.Now().UnixMicro()).UTC() }

// tries is how often an operation that was overtaken is made anew, resends how often a write of which nobody knows what became is sent again.
const (
	tries   = 20
	resends = 3
)

var errBusy = fault.New(fault.Conflict, "others keep changing the lock; retry")

// change makes an operation of an owner take effect once, and answers the lock after it; one that is free before and after it is left alone.
func (s *Store) change(ctx context.Context, tenant, resource, owner string, what func(Lock, string, time.Time) (Lock, error)) (Lock, error) {
	resource, owner = strings.TrimSpace(resource), strings.TrimSpace(owner)
	switch {
	case resource == "" || owner == "":
		return Lock{}, fault.New(fault.Invalid, "resource and owner required")
	case !named(resource) || !named(owner):
		return Lock{}, fault.New(fault.Invalid, "resource and owner must be UTF-8 of at most %d bytes", MaxName)
	}
	operation := s.IDs.Hex(8)
	for try := range tries {
		if err := pause(ctx, operation, try); err != nil {
			return Lock{}, err
		}
		before, err := s.read(ctx, owned(tenant, resource))
		if err != nil {
			return Lock{}, err
		}
		now := s.now()
		after, err := what(before.Lock, owner, now)
		if err != nil {
			return Lock{}, err
		}
		if !before.Held(now) && !after.Held(now) {
			return owned(tenant, resource), nil
		}
		written, err := s.write(ctx, before, after, operation)
		if written || err != nil {
			return after, err
		}
	}
	return Lock{}, errBusy
}

// write writes what an operation made of a lock, and says whether it did: not when others wrote first. The answer to a write may be lost, and AWS's SDK sends
// it again then, so that even a refusal may be of what was written. So whoever is not told of success looks what became of it; where nothing has, yet, the
// same write goes out again, of which one at most can take effect.
func (s *Store) write(ctx context.Context, before record, after Lock, operation string) (bool, error) {
	op := before.put(after, operation)
	for resend := 0; ; resend++ {
		if err := pause(ctx, operation, resend); err != nil {
			return false, err
		}
		failed := s.Table.Write(ctx, op)
		if failed == nil {
			return true, nil
		}
		if !store.Overtaken(failed) && !errors.Is(failed, store.ErrUnavailable) {
			return false, failed
		}
		now, err := s.read(ctx, after)
		if err != nil {
			return false, fmt.Errorf("%w, after %w", err, failed)
		}
		switch now.fate(before, operation) {
		case done:
			return true, nil
		case overtaken:
			return false, nil
		case unknown:
			return false, fmt.Errorf("%w: nobody knows whether %s was written: %w", store.ErrUnavailable, op.Key, failed)
		case open:
			switch {
			case resend < resends:
			case store.Overtaken(failed):
				return false, errBusy
			default:
				return false, failed
			}
		}
	}
}

// pause lets those go first who are at the same lock, each time for longer, up to 64 ms, and each operation for another time.
func pause(ctx context.Context, operation string, try int) error {
	if try == 0 {
		return nil
	}
	most := uint32(1) << min(try, 6)
	return clock.Pause(ctx, time.Duration(listing.Hash(operation+strconv.Itoa(try))%(most*1000))*time.Microsecond)
}

// StillHeld makes a transaction depend on the lock: it holds while the tenure that the lock was granted in goes on and the owner who asked for it is among
// its owners. A lock whose time is over, and that nobody has taken since, is still held: nobody has seen anything in between.
func (l Lock) StillHeld() store.Op {
	holds := []store.Cond{store.Equal(attrToken, l.Token), store.Has(attrMode)}
	if l.by != "" {
		holds = append(holds, store.Has(ownerAttr(l.by)))
	}
	return store.Check(l.key(), store.All(holds...))
}

// List answers at most limit of the locks that are held, by resource: those of a tenant and the plane's that begin with a prefix. What it answers of a lock is
// strongly consistent, which locks there are comes from an index: one that was taken within the last moments may be missing. Of each partition of the index it
// reads a bounded number of entries, those of locks that have ended among them.
func (s *Store) List(ctx context.Context, tenant, prefix string, limit int) ([]Lock, error) {
	found := []Lock{}
	if len(prefix) > MaxName || !utf8.ValidString(prefix) {
		return found, nil
	}
	now := s.now()
	for _, pk := range partitions(tenant, prefix, now) {
		some, err := s.held(ctx, store.Query{Index: store.ByLink, PK: pk, Prefix: prefix, Limit: max(limit, 100)}, limit, now)
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
		slices.SortFunc(found, func(a, b Lock) int { return cmp.Compare(a.Resource, b.Resource) })
		found = slices.CompactFunc(found, func(a, b Lock) bool { return a.Resource == b.Resource }) // on its way from a day to another it may be in both
		found = found[:min(limit, len(found))]
	}
	return found, nil
}

// partitions answers where locks lie that are held at a time, which end at most a day later.
func partitions(tenant, prefix string, now time.Time) (pks []string) {
	space := func(tenant string) {
		for shard := range shards(tenant) {
			pks = append(pks, partition(tenant, shard, day(now)), partition(tenant, shard, day(now)+1))
		}
	}
	begins := func(text string) func(string) bool { return func(p string) bool { return strings.HasPrefix(text, p) } }
	if slices.ContainsFunc(common, func(p string) bool { return begins(p)(prefix) || begins(prefix)(p) }) {
		space("")
	}
	if !slices.ContainsFunc(common, begins(prefix)) {
		space(tenant)
	}
	return pks
}

// held answers the first n locks of a query that are held.
func (s *Store) held(ctx context.Context, q store.Query, n int, now time.Time) (found []Lock, err error) {
	passed := 0
	for page, err := range store.Pages(ctx, s.Table, q) {
		if err != nil {
			return nil, err
		}
		keys := make([]store.Key, len(page))
		for i, it := range page {
			keys[i] = it.Key
		}
		items, err := s.Table.BatchGet(ctx, keys)
		if err != nil {
			return nil, err
		}
		for _, it := range items {
			r, err := parse(it)
			if err != nil {
				return nil, err
			}
			if r.Held(now) {
				found = append(found, r.Lock)
			}
		}
		if passed += len(page); len(found) >= n || passed >= listing.ReadLimit {
			break
		}
	}
	return found, nil
}
