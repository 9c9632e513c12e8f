package user

import (
	"context"
	"crypto/subtle"
	"errors"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// TokenPrefix begins every token of a session.
const TokenPrefix = "session-"

// tokenBytes is how much of a token, and of a key's secret, is random.
const tokenBytes = 32

// tokenLength is the length of a token: 32 bytes are 43 characters of base64url.
const tokenLength = len(TokenPrefix) + 43

// Session is what a login opens: a user's, or an API key's.
type Session struct {
	// ID is made from the token, and tells nothing of it.
	ID, Tenant string
	// User and Generation are whose it is, and which of the user's generations it holds for. Of a key's session they are empty.
	User       string
	Generation int64
	// Key is the credential of the API key that opened it; of a user's session it is empty.
	Key     string
	Expires time.Time
}

// ErrNoSession says that a session does not exist, or is over.
var ErrNoSession = fault.New(fault.Unauthenticated, "no such session")

const (
	attrUser    = "us"
	attrKey     = "ky"
	attrSecret  = "sh" // the SHA-256 of the token, or of the key's secret
	attrExpires = "ex" // the second in which it ends; 0 is never
)

// Sessions keeps sessions. All its methods may be called at once.
type Sessions struct {
	Table store.Table
	Users *Users
	IDs   ids.Source
	Clock clock.Clock
	// TTL is how long a session lasts.
	TTL   time.Duration
	Ended Ended
}

// Open opens a session of a user who has just given the password. It fails with ErrNoSession when that is not the user's any more.
func (s *Sessions) Open(ctx context.Context, u User) (token string, opened Session, after User, err error) {
	now := s.Clock.Now()
	u.LastLoginAt = now.UnixMicro()
	opened = Session{Tenant: u.Tenant, User: u.ID, Generation: u.Generation, Expires: s.end(now)}
	token, put := s.open(&opened)
	same := store.All(store.Equal(attrGeneration, u.Generation), store.Equal(attrDisabled, false))
	err = store.Transact(ctx, s.Table, put, store.Update(userKey(u.Tenant, u.ID)).If(same).SetAttr(attrLogin, u.LastLoginAt))
	if _, changed := errors.AsType[*store.ConditionError](err); changed {
		err = ErrNoSession
	}
	return token, opened, u, err
}

// OpenForKey opens a session of an API key, which ends with the key at the latest; the zero time is never.
func (s *Sessions) OpenForKey(ctx context.Context, tenant, key string, ends time.Time) (token string, opened Session, err error) {
	opened = Session{Tenant: tenant, Key: key, Expires: s.end(s.Clock.Now())}
	if !ends.IsZero() && ends.Before(opened.Expires) {
		opened.Expires = ends
	}
	token, put := s.open(&opened)
	return token, opened, s.Table.Write(ctx, put)
}

func (s *Sessions) end(now time.Time) time.Time { return now.Add(s.TTL).Truncate(time.Second) }

func (s *Sessions) open(n *Session) (token string, put store.Op) {
	token = TokenPrefix + s.IDs.Token(tokenBytes)
	id, hash := idOf("session", token)
	n.ID = id
	return token, store.Put(store.Item{Key: sessionKey(id), Expires: n.Expires.Unix(), Attrs: store.Attrs{
		attrTenant: n.Tenant, attrUser: n.User, attrGeneration: n.Generation, attrKey: n.Key, attrSecret: hash, attrExpires: n.Expires.Unix(),
	}})
}

// IsToken says whether a text has the form of a token.
func IsToken(text string) bool {
	return len(text) == tokenLength && strings.HasPrefix(text, TokenPrefix)
}

// Find answers the session of a token, and its user where it is a user's. ErrNoSession is for one that is over, whatever ended it.
func (s *Sessions) Find(ctx context.Context, token string, now time.Time) (Session, User, error) {
	if !IsToken(token) {
		return Session{}, User{}, ErrNoSession
	}
	id, hash := idOf("session", token)
	return s.find(ctx, id, hash, now)
}

// Current is Find by a session's id.
func (s *Sessions) Current(ctx context.Context, id string, now time.Time) (Session, User, error) {
	return s.find(ctx, id, nil, now)
}

func (s *Sessions) find(ctx context.Context, id string, hash []byte, now time.Time) (Session, User, error) {
	it, err := s.Table.Get(ctx, sessionKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return Session{}, User{}, ErrNoSession
	}
	if err != nil {
		return Session{}, User{}, err
	}
	a := it.Attrs
	if hash != nil && subtle.ConstantTimeCompare(hash, a.Bytes(attrSecret)) != 1 || !it.Live(now.Unix()) {
		return Session{}, User{}, ErrNoSession
	}
	n := Session{
		ID: id, Tenant: a.String(attrTenant), User: a.String(attrUser), Generation: a.Int(attrGeneration), Key: a.String(attrKey),
		Expires: time.Unix(a.Int(attrExpires), 0).UTC(),
	}
	if n.User == "" {
		return n, User{}, nil
	}
	u, err := s.Users.Get(ctx, n.Tenant, n.User)
	switch {
	case errors.Is(err, ErrUnknown), err == nil && (u.Disabled || u.Generation != n.Generation):
		return Session{}, User{}, ErrNoSession
	case err != nil:
		return Session{}, User{}, err
	}
	return n, u, nil
}

// Close ends a session of a tenant. One that is over already stays so.
func (s *Sessions) Close(ctx context.Context, tenant, id string) error {
	if err := s.Table.Write(ctx, store.Delete(sessionKey(id))); err != nil {
		return err
	}
	s.Ended.tell(ctx, tenant, SessionID+id, "")
	return nil
}

// follow keeps a session for a user's next generation, while the others end.
func follow(session string, u User) store.Op {
	return store.Update(sessionKey(session)).If(store.Equal(attrUser, u.ID)).SetAttr(attrGeneration, u.Generation)
}
