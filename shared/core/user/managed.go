package user

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// KeyPrefix begins every secret of a managed key, so that whoever finds one knows what it is.
const KeyPrefix = "ck_"

// Of a secret, "ck_", eight digits and "_" are shown; the rest is what nobody can guess.
const (
	shownBytes   = 4
	shownLength  = len(KeyPrefix) + 2*shownBytes
	secretLength = shownLength + 1 + 43
)

// ScopeAdmin is the scope that opens everything.
const ScopeAdmin = "admin"

// Scopes are all scopes of managed keys. Those beside admin are an area of the contract and what may be done there.
var Scopes = []string{ScopeAdmin, "jobs:read", "jobs:write", "workflows:read", "workflows:write", "policy:read", "policy:write"}

// Key is a managed API key without its secret.
type Key struct {
	// ID is a UUID, made from the secret. Prefix are the first characters of the secret, to recognise it.
	ID, Tenant, Name, Prefix string
	Scopes                   []string
	// Expires is when it ends; the zero time is never.
	Expires time.Time
	// CreatedAt is in microseconds, and so is LastUsed, which is 0 before the first use. Uses is about how many there were.
	CreatedAt, LastUsed, Uses int64
}

// Role is what a key may be: an administrator, or a user as far as the scopes go.
func (k Key) Role() identity.Role {
	if slices.Contains(k.Scopes, ScopeAdmin) {
		return identity.Admin
	}
	return identity.User
}

// Ended says whether its time is over.
func (k Key) Ended(now time.Time) bool { return !k.Expires.IsZero() && !now.Before(k.Expires) }

// ErrNoKey says that a tenant has no such key.
var ErrNoKey = fault.New(fault.NotFound, "api key not found")

var errKeyBusy = fault.New(fault.Conflict, "api key was changed by somebody else meanwhile; retry")

const (
	attrPrefix = "px"
	attrScopes = "sc" // with spaces between
	attrUsed   = "lu"
	attrUses   = "n"
)

// Keys keeps managed keys. One is shared by everything in a process; all its methods may be called at once.
type Keys struct {
	Table store.Table
	Clock clock.Clock
	IDs   ids.Source
	Log   *slog.Logger
	Ended Ended

	micros clock.Unique
	mu     sync.Mutex
	used   map[string]uses
}

// NewKey is a key that is to be made.
type NewKey struct {
	Name   string
	Scopes []string
	// Expires is an RFC 3339 time, "" for never.
	Expires string
}

func (n NewKey) check(now time.Time) (Key, error) {
	k := Key{Name: strings.TrimSpace(n.Name), Scopes: []string{}}
	switch {
	case k.Name == "":
		return k, fault.New(fault.Invalid, "name required")
	case len(k.Name) > maxDisplay || !printable(k.Name):
		return k, fault.New(fault.Invalid, "name must be at most %d printable characters without a comma", maxDisplay)
	}
	for _, scope := range n.Scopes {
		if scope = fold(scope); !slices.Contains(Scopes, scope) {
			return k, fault.New(fault.Invalid, "a scope must be one of %s", strings.Join(Scopes, ", "))
		}
		if !slices.Contains(k.Scopes, scope) {
			k.Scopes = append(k.Scopes, scope)
		}
	}
	if n.Expires == "" {
		return k, nil
	}
	at, err := time.Parse(time.RFC3339, n.Expires)
	if err != nil || !at.After(now) {
		return k, fault.New(fault.Invalid, "expiresAt must be an RFC 3339 time in the future, such as 2030-01-31T00:00:00Z")
	}
	k.Expires = at.UTC().Truncate(time.Second)
	return k, nil
}

// Create makes a key of the caller's tenant, and answers the secret, which nobody can tell again.
//
// Faults: Invalid for what a key cannot be.
func (s *Keys) Create(ctx context.Context, by identity.Identity, n NewKey) (k Key, secret string, err error) {
	now := s.Clock.Now()
	if k, err = n.check(now); err != nil {
		return Key{}, "", err
	}
	secret = KeyPrefix + s.IDs.Hex(shownBytes) + "_" + s.IDs.Token(tokenBytes)
	id, hash := idOf("key", secret)
	k.ID, k.Tenant, k.Prefix, k.CreatedAt = id, by.Tenant, secret[:shownLength], s.micros.Micros(now)
	item := store.Item{Key: keyKey(id), Attrs: k.attrs(hash), Index: map[store.Index]store.Key{store.ByTime: listedKey(k)}}
	entry := audit.By(by, k.CreatedAt, "create", "key", id)
	entry.ResourceName, entry.After = k.Name, strings.Join(k.Scopes, " ")
	err = store.Transact(ctx, s.Table, store.Put(item).If(store.NotExists()), entry.Op())
	if _, there := errors.AsType[*store.ConditionError](err); there { // nobody else has this id: it was written, and the answer was lost
		err = nil
	}
	return k, secret, err
}

func (k Key) attrs(hash []byte) store.Attrs {
	ends := int64(0)
	if !k.Expires.IsZero() {
		ends = k.Expires.Unix()
	}
	return store.Attrs{
		attrID: k.ID, attrTenant: k.Tenant, attrName: k.Name, attrPrefix: k.Prefix, attrScopes: strings.Join(k.Scopes, " "), attrSecret: hash,
		attrExpires: ends, attrCreated: k.CreatedAt,
	}
}

func readKey(it store.Item) Key {
	a := it.Attrs
	k := Key{
		ID: a.String(attrID), Tenant: a.String(attrTenant), Name: a.String(attrName), Prefix: a.String(attrPrefix), Scopes: strings.Fields(a.String(attrScopes)),
		CreatedAt: a.Int(attrCreated), LastUsed: a.Int(attrUsed), Uses: a.Int(attrUses),
	}
	if ends := a.Int(attrExpires); ends != 0 {
		k.Expires = time.Unix(ends, 0).UTC()
	}
	return k
}

// IsSecret says whether a text has the form of a managed key's secret.
func IsSecret(text string) bool {
	return len(text) == secretLength && strings.HasPrefix(text, KeyPrefix)
}

// Find answers the key that has a secret, ended or not; ErrNoKey where there is none.
func (s *Keys) Find(ctx context.Context, secret string) (Key, error) {
	if !IsSecret(secret) {
		return Key{}, ErrNoKey
	}
	id, hash := idOf("key", secret)
	it, err := s.get(ctx, id)
	if err == nil && subtle.ConstantTimeCompare(hash, it.Attrs.Bytes(attrSecret)) != 1 {
		err = ErrNoKey
	}
	return readKey(it), err
}

// Get answers a key by its id, ended or not; ErrNoKey where there is none.
func (s *Keys) Get(ctx context.Context, id string) (Key, error) {
	it, err := s.get(ctx, id)
	return readKey(it), err
}

func (s *Keys) get(ctx context.Context, id string) (store.Item, error) {
	id, ok := ids.ParseUUID(id)
	if !ok {
		return store.Item{}, ErrNoKey
	}
	it, err := s.Table.Get(ctx, keyKey(id))
	if errors.Is(err, store.ErrNotFound) {
		err = ErrNoKey
	}
	return it, err
}

// List answers the keys of a tenant, newest first, those whose time is over among them. One that was made within the last moments may be missing.
func (s *Keys) List(ctx context.Context, tenant string) ([]Key, error) {
	items, err := listed(ctx, s.Table, store.Query{Index: store.ByTime, PK: keys(tenant), Desc: true})
	out := make([]Key, 0, len(items))
	for _, it := range items {
		out = append(out, readKey(it))
	}
	return out, err
}

// Delete ends a key of the caller's tenant.
//
// Faults: NotFound for one that the tenant has not.
func (s *Keys) Delete(ctx context.Context, by identity.Identity, id string) error {
	for try := range tries {
		k, err := s.Get(ctx, id)
		switch {
		case errors.Is(err, ErrNoKey) && try > 0: // it was deleted, and the answer was lost; or by somebody else just now
			s.Ended.tell(ctx, by.Tenant, KeyID+id, "")
			return nil
		case err != nil:
			return err
		case k.Tenant != by.Tenant:
			return ErrNoKey
		}
		entry := audit.By(by, s.micros.Micros(s.Clock.Now()), "delete", "key", k.ID)
		entry.ResourceName, entry.Before = k.Name, strings.Join(k.Scopes, " ")
		err = s.Table.Write(ctx, store.Delete(keyKey(k.ID)).If(store.Exists()), entry.Op())
		if err == nil {
			s.Ended.tell(ctx, k.Tenant, KeyID+k.ID, "")
		}
		if !store.Overtaken(err) {
			return err
		}
	}
	return errKeyBusy
}

// uses are those that are not written yet, and when the last ones were.
type uses struct {
	n  int64
	at time.Time
}

const (
	// usedEvery is how often a process writes that a key is used.
	usedEvery = time.Minute
	// usedHeld bounds of how many keys a process counts; what is not written when there are more is not counted.
	usedHeld = 4096
	// usedWait bounds the write.
	usedWait = 2 * time.Second
)

// Used counts a use of a key. It is written now and then, beside the request, which neither waits for it nor fails by it.
func (s *Keys) Used(ctx context.Context, id string, now time.Time) {
	n := s.count(id, now)
	if n == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), usedWait)
	go func() {
		defer cancel()
		op := store.Update(keyKey(id)).If(store.Exists()).AddInt(attrUses, n).SetAttr(attrUsed, now.UnixMicro())
		err := s.Table.Write(ctx, op)
		if _, gone := errors.AsType[*store.ConditionError](err); err != nil && !gone {
			s.Log.WarnContext(ctx, "the use of a key is not written", "key", id, "error", err)
		}
	}()
}

// count answers how many uses to write now.
func (s *Keys) count(id string, now time.Time) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used == nil || len(s.used) >= usedHeld {
		s.used = map[string]uses{}
	}
	u := s.used[id]
	u.n++
	if now.Sub(u.at) < usedEvery {
		s.used[id] = u
		return 0
	}
	s.used[id] = uses{at: now}
	return u.n
}
