package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/user"
)

// Accounts are the providers of what lies in the table: sessions and managed keys.
func Accounts(a *user.Accounts) []Provider {
	return []Provider{&sessions{store: a.Sessions, users: a.Passwords}, &managed{store: a.Keys}}
}

// sessions is the provider of sessions.
type sessions struct {
	store *user.Sessions
	users bool // users may log in
	known memory
}

// Kind says that these are sessions.
func (*sessions) Kind() Kind { return Session }

// Lookup answers whose session a token is of.
func (s *sessions) Lookup(ctx context.Context, secret string, now time.Time) (Credential, bool, error) {
	if !user.IsToken(secret) {
		return Credential{}, false, nil
	}
	return s.known.ask(ctx, digest(secret), now, func() (Credential, error) {
		n, u, err := s.store.Find(ctx, secret, now)
		return s.credential(n, u, err)
	})
}

// Current finds a session by its id.
func (s *sessions) Current(ctx context.Context, id string, now time.Time) (Credential, bool, error) {
	own, ok := strings.CutPrefix(id, user.SessionID)
	if !ok {
		return Credential{}, false, nil
	}
	return s.known.ask(ctx, id, now, func() (Credential, error) {
		n, u, err := s.store.Current(ctx, own, now)
		return s.credential(n, u, err)
	})
}

func (s *sessions) credential(n user.Session, u user.User, err error) (Credential, error) {
	if err != nil {
		return Credential{}, err
	}
	c := Credential{ID: user.SessionID + n.ID, Session: n.ID, Tenant: n.Tenant, Expires: n.Expires, behind: n.Key}
	if n.User == "" {
		return c, nil
	}
	if !s.users {
		return Credential{}, user.ErrNoSession
	}
	c.User, c.Role, c.Principal = u.ID, u.Role, u.Name
	return c, nil
}

// managed is the provider of managed keys.
type managed struct {
	store *user.Keys
	known memory
}

// Kind says that these are API keys.
func (*managed) Kind() Kind { return APIKey }

// Lookup answers the key that has a secret, and counts the use.
func (m *managed) Lookup(ctx context.Context, secret string, now time.Time) (Credential, bool, error) {
	if !user.IsSecret(secret) {
		return Credential{}, false, nil
	}
	c, found, err := m.known.ask(ctx, digest(secret), now, func() (Credential, error) {
		k, err := m.store.Find(ctx, secret)
		return managedCredential(k, err)
	})
	if found && err == nil {
		m.store.Used(ctx, strings.TrimPrefix(c.ID, user.KeyID), now)
	}
	return c, found, err
}

// Current finds a key by its id.
func (m *managed) Current(ctx context.Context, id string, now time.Time) (Credential, bool, error) {
	own, ok := strings.CutPrefix(id, user.KeyID)
	if !ok {
		return Credential{}, false, nil
	}
	return m.known.ask(ctx, id, now, func() (Credential, error) {
		k, err := m.store.Get(ctx, own)
		return managedCredential(k, err)
	})
}

func managedCredential(k user.Key, err error) (Credential, error) {
	if err != nil {
		return Credential{}, err
	}
	return Credential{
		ID: user.KeyID + k.ID, Tenant: k.Tenant, Role: k.Role(), Expires: k.Expires,
		Scoped: !slices.Contains(k.Scopes, user.ScopeAdmin), Scopes: k.Scopes,
	}, nil
}

func (c Credential) ended(now time.Time) bool { return !c.Expires.IsZero() && !now.Before(c.Expires) }

// Anew is a context in which nothing is remembered: what lies in the table is read there.
func Anew(ctx context.Context) context.Context { return context.WithValue(ctx, anewKey{}, true) }

type anewKey struct{}

func anew(ctx context.Context) bool { return ctx.Value(anewKey{}) != nil }

// ask answers what is remembered of a secret, or else what the table says. Nothing is remembered of a table that cannot be asked. A session or a key
// that is over is one that does not exist.
func (m *memory) ask(ctx context.Context, name string, now time.Time, look func() (Credential, error)) (Credential, bool, error) {
	k, ok := m.get(name, now)
	if !ok || anew(ctx) {
		c, err := look()
		if err != nil && !errors.Is(err, user.ErrNoSession) && !errors.Is(err, user.ErrNoKey) {
			return Credential{}, false, asFault(err)
		}
		k = known{credential: c, found: err == nil, at: now}
		m.put(name, k)
	}
	return k.credential, k.found && !k.credential.ended(now), nil
}

// digest is what a secret is remembered by: no process keeps one.
func digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return string(sum[:])
}
