// Package lock lets clients exclude each other, and the plane itself: an owner holds a resource, alone or with others who share it, until he gives it
// back or its time is over. A tenant's locks are its own; those of packs are the plane's, and all tenants meet at them.
//
// A lock that ends by itself cannot stop an owner who does not know that it did. So each tenure of a resource has a number, its fencing token, which
// only grows: what is guarded refuses smaller ones. Inside the table no number needs to be compared: a transaction depends on a lock with StillHeld.
package lock

import (
	"maps"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
)

// Modes of a lock.
const (
	Exclusive = "exclusive"
	Shared    = "shared"
)

// Limits. An item with the most owners of the longest names has 75 KB.
const (
	// MaxName is the longest resource and the longest owner, in bytes.
	MaxName = 256
	// MaxOwners is how many may share a lock, MaxCount how often one may take it before he gives it back.
	MaxOwners = 256
	MaxCount  = 256
	// DefaultTTL is how long a lock lasts that is taken for no time; a shorter time than MinTTL is that, a longer one than MaxTTL is that.
	DefaultTTL = 30 * time.Second
	MinTTL     = time.Second
	MaxTTL     = 24 * time.Hour
)

// What may be wrong with a request. A lock that its owner does not hold is ErrNotHeld for all: an answer with the code NotFound to who renews it, and with
// Conflict to who releases another one's.
var (
	ErrUnavailable = fault.New(fault.Conflict, "lock unavailable")
	ErrNotHeld     = fault.New(fault.NotFound, "lock not held")
	ErrNotFound    = fault.New(fault.NotFound, "lock not found")

	errForeign = fault.Wrap(fault.Conflict, ErrNotHeld, "lock not held")
	errOften   = fault.New(fault.Conflict, "lock is held %d times by this owner; release it first", MaxCount)
	errCrowded = fault.New(fault.Conflict, "lock is shared by %d owners; retry later", MaxOwners)
)

// Lock is the state of a resource. The zero Lock, with the names filled in, is that of one that nobody ever held.
type Lock struct {
	// Tenant is whose it is, "" the plane's.
	Tenant   string
	Resource string
	// Mode and Owners are empty when it was given back. Owners says how often each holds it.
	Mode   string
	Owners map[string]int
	// UpdatedAt is when it was last taken, renewed or given back; ExpiresAt when it ends by itself.
	UpdatedAt, ExpiresAt time.Time
	// Token is the number of the tenure, or of the last one. A tenure begins when a free resource is taken, and when the last one who shares it makes it
	// his own. Who joins those who share it joins their tenure.
	Token int64

	// by is the owner who asked, where one did.
	by string
}

// Held says whether anybody holds the lock. What is stored of a lock outlives it.
func (l Lock) Held(now time.Time) bool { return len(l.Owners) > 0 && now.Before(l.ExpiresAt) }

// Acquire answers the lock after an owner has taken it at a time. Any mode that is not Shared is Exclusive.
//
// Faults: ErrUnavailable, Conflict when the owner holds it too often or too many do.
func (l Lock) Acquire(owner, mode string, ttl time.Duration, now time.Time) (Lock, error) {
	if mode != Shared {
		mode = Exclusive
	}
	ends := now.Add(bounded(ttl))
	alone := len(l.Owners) == 1 && l.Owners[owner] > 0
	switch {
	case !l.Held(now):
		l.Owners = nil
		l = l.begin(mode, now)
		l.ExpiresAt = ends
	case !alone && (l.Mode == Exclusive || mode == Exclusive):
		return Lock{}, ErrUnavailable
	case l.Mode == Exclusive:
		l.ExpiresAt = ends
	case mode == Exclusive:
		l = l.begin(mode, now)
		l.ExpiresAt = ends
	default: // the others were told a time: it does not become shorter
		l.ExpiresAt = later(l.ExpiresAt, ends)
	}
	switch count := l.Owners[owner]; {
	case count >= MaxCount:
		return Lock{}, errOften
	case count == 0 && len(l.Owners) >= MaxOwners:
		return Lock{}, errCrowded
	}
	l.UpdatedAt, l.by = now, owner
	return l.counted(owner, 1), nil
}

// begin begins a tenure. The clock alone would do where clocks never run backwards, the last token where it is never forgotten.
func (l Lock) begin(mode string, now time.Time) Lock {
	l.Mode, l.Token = mode, max(l.Token+1, now.UnixMicro())
	return l
}

// Release answers the lock after an owner has given it back once; one that nobody holds stays as it is.
//
// Faults: ErrNotHeld when others hold it.
func (l Lock) Release(owner string, now time.Time) (Lock, error) {
	switch {
	case !l.Held(now):
		return l, nil
	case l.Owners[owner] == 0:
		return Lock{}, errForeign
	}
	l.UpdatedAt = now
	if l = l.counted(owner, -1); len(l.Owners) == 0 {
		l.Mode, l.ExpiresAt = "", now
	}
	return l, nil
}

// Renew answers the lock after an owner has begun its time anew, which may end sooner then. While others share the lock it does not: they were told a time.
//
// Faults: ErrNotHeld.
func (l Lock) Renew(owner string, ttl time.Duration, now time.Time) (Lock, error) {
	if !l.Held(now) || l.Owners[owner] == 0 {
		return Lock{}, ErrNotHeld
	}
	ends := now.Add(bounded(ttl))
	if len(l.Owners) > 1 {
		ends = later(l.ExpiresAt, ends)
	}
	l.UpdatedAt, l.ExpiresAt, l.by = now, ends, owner
	return l, nil
}

// counted changes how often an owner holds the lock.
func (l Lock) counted(owner string, by int) Lock {
	owners := maps.Clone(l.Owners)
	if owners == nil {
		owners = map[string]int{}
	}
	if owners[owner] += by; owners[owner] == 0 {
		delete(owners, owner)
	}
	l.Owners = owners
	return l
}

func bounded(ttl time.Duration) time.Duration {
	if ttl <= 0 {
		return DefaultTTL
	}
	return min(max(ttl, MinTTL), MaxTTL)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
