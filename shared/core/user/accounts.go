package user

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Settings are what an operator decides about identities.
type Settings struct {
	// Passwords says that users log in with passwords. Without it there are keys and their sessions.
	Passwords bool
	// SessionTTL is how long a session lasts.
	SessionTTL time.Duration
	// Rule is for new passwords.
	Rule Rule
	// Attempts is how many failed logins a name may have from one address within Lockout.
	Attempts int
	Lockout  time.Duration
}

// attemptsOfName is how many failed logins a name may have from everywhere, where more are not allowed from one address.
const attemptsOfName = 50

// Accounts is all of it: what a process has of users, sessions, keys and failures.
type Accounts struct {
	Settings

	Users    *Users
	Sessions *Sessions
	Keys     *Keys
	Failures *Failures
}

// Platform is what it stands on.
type Platform struct {
	Table store.Table
	Clock clock.Clock
	IDs   ids.Source
	Log   *slog.Logger
	// Ended is told of what is over; nil is nobody.
	Ended Ended
}

// Open makes the accounts of a process.
func Open(p Platform, s Settings) *Accounts {
	users := &Users{Table: p.Table, Clock: p.Clock, IDs: p.IDs, Passwords: &Passwords{}, Rule: s.Rule, Ended: p.Ended}
	return &Accounts{
		Settings: s, Users: users,
		Sessions: &Sessions{Table: p.Table, Users: users, IDs: p.IDs, Clock: p.Clock, TTL: s.SessionTTL, Ended: p.Ended},
		Keys:     &Keys{Table: p.Table, Clock: p.Clock, IDs: p.IDs, Log: p.Log, Ended: p.Ended},
		Failures: &Failures{
			Table: p.Table, Clock: p.Clock, IDs: p.IDs, Log: p.Log, Most: s.Attempts, MostOfName: max(s.Attempts, attemptsOfName), Period: s.Lockout,
		},
	}
}

// Login is somebody who wants in.
type Login struct {
	// Tenant is the one that is named, Default the one of who names none.
	Tenant, Default string
	// Name is a name or an e-mail address, "" with an API key; Password is a password or an API key.
	Name, Password string
	// Address is the client's.
	Address string
}

// Holder is whom an API key stands for.
type Holder struct {
	// Key names the key; it reveals nothing of it.
	Key, Tenant string
	CrossTenant bool
	Expires     time.Time
}

// Opened is an open session. User is the zero User where an API key opened it.
type Opened struct {
	Session

	Token string
	User  User
}

var (
	errNoPassword  = fault.New(fault.Unauthenticated, "password required")
	errCredentials = fault.New(fault.Unauthenticated, "invalid credentials")
	errDisabled    = fault.New(fault.Denied, "user is disabled")
)

// Login opens a session with a password, or else with an API key; key answers whom one stands for, found is false for what is none. Who named somebody
// waits for one hash, whether that somebody exists or not.
//
// Faults: Unauthenticated, Denied for a disabled user's password, Limited after too many failures.
func (a *Accounts) Login(ctx context.Context, l Login, key func(ctx context.Context, secret string) (h Holder, found bool, err error)) (Opened, error) {
	if l.Password == "" {
		return Opened{}, errNoPassword
	}
	tenant := l.Tenant
	if tenant == "" {
		tenant = l.Default
	}
	u, err := a.named(ctx, tenant, l.Name)
	if err != nil {
		return Opened{}, err
	}
	name := l.Name
	if u.ID != "" {
		name = u.Name // by whichever of the two it is called
	}
	attempt, err := a.Failures.Take(ctx, tenant, name, l.Address)
	if err != nil {
		return Opened{}, err
	}
	opened, err := a.open(ctx, l, u, key)
	if err == nil || errors.Is(err, errDisabled) { // the password was right
		attempt.Succeeded(ctx)
	}
	return opened, err
}

// named answers who is meant, the zero User for nobody.
func (a *Accounts) named(ctx context.Context, tenant, name string) (User, error) {
	if !a.Passwords || strings.TrimSpace(name) == "" {
		return User{}, nil
	}
	u, err := a.Users.Named(ctx, tenant, name)
	if errors.Is(err, ErrUnknown) {
		return User{}, nil
	}
	return u, err
}

func (a *Accounts) open(ctx context.Context, l Login, u User, key func(context.Context, string) (Holder, bool, error)) (Opened, error) {
	right, err := a.right(ctx, l, u)
	if err != nil {
		return Opened{}, err
	}
	if !right {
		return a.openForKey(ctx, l, key)
	}
	if u.Disabled {
		return Opened{}, errDisabled
	}
	token, session, u, err := a.Sessions.Open(ctx, u)
	if errors.Is(err, ErrNoSession) { // it has just been changed
		err = errCredentials
	}
	return Opened{session, token, u}, err
}

// right says whether the password is the user's.
func (a *Accounts) right(ctx context.Context, l Login, u User) (bool, error) {
	switch {
	case !a.Passwords || strings.TrimSpace(l.Name) == "" || len(l.Password) > MaxPassword:
		return false, nil
	case u.ID == "":
		return false, a.Users.Passwords.Nobody(ctx, l.Password)
	}
	return a.Users.Passwords.Matches(ctx, u.hash, l.Password)
}

func (a *Accounts) openForKey(ctx context.Context, l Login, key func(context.Context, string) (Holder, bool, error)) (Opened, error) {
	h, found, err := key(ctx, l.Password)
	switch {
	case err != nil:
		return Opened{}, err
	case !found, l.Tenant != "" && l.Tenant != h.Tenant && !h.CrossTenant:
		return Opened{}, errCredentials
	}
	token, session, err := a.Sessions.OpenForKey(ctx, h.Tenant, h.Key, h.Expires)
	return Opened{Session: session, Token: token}, err
}

var (
	errOff         = fault.New(fault.Invalid, "user authentication not enabled")
	errCurrent     = fault.New(fault.Unauthenticated, "invalid current password")
	errNeedCurrent = fault.New(fault.Invalid, "current_password required")
	errNeedNew     = fault.New(fault.Invalid, "new_password required")
)

// On refuses what needs users where there are none: an Invalid fault.
func (a *Accounts) On() error {
	if !a.Passwords {
		return errOff
	}
	return nil
}

// ChangePassword replaces the caller's own password and ends the caller's sessions, but for the one that asks. Guesses at the old one count as failed
// logins.
//
// Faults: Invalid, Unauthenticated for a wrong password, NotFound for a caller who is no user, Limited after too many failures, Conflict.
func (a *Accounts) ChangePassword(ctx context.Context, by identity.Identity, current, next, address string) error {
	if err := a.On(); err != nil {
		return err
	}
	switch {
	case current == "":
		return errNeedCurrent
	case next == "":
		return errNeedNew
	case by.User == "":
		return ErrUnknown
	}
	own := by
	own.Tenant = by.Home // whatever tenant the request is for
	u, err := a.Users.Get(ctx, own.Tenant, by.User)
	if err != nil {
		return err
	}
	attempt, err := a.Failures.Take(ctx, u.Tenant, u.Name, address)
	if err != nil {
		return err
	}
	right, err := a.Users.Passwords.Matches(ctx, u.hash, current)
	if err != nil || !right {
		return orElse(err, errCurrent)
	}
	attempt.Succeeded(ctx)
	if err := a.Users.Rule.Check(next); err != nil {
		return err
	}
	hash, err := a.Users.Passwords.Hash(ctx, next)
	if err != nil {
		return err
	}
	_, err = a.Users.change(ctx, own, u.ID, "change_password", SessionID+by.Session, func(now User) (User, []store.Op, error) {
		if now.hash != u.hash {
			return now, nil, errCurrent
		}
		now.hash = hash
		now.Generation++
		return now, []store.Op{follow(by.Session, now)}, nil
	})
	return err
}

func orElse(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}
