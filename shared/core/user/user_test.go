package user_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/user"
	"github.com/cordum-serverless/cordum/shared/platform/embedded/embeddedtest"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var admin = identity.Identity{Tenant: "default", Home: "default", Role: identity.Admin, Principal: "ada"}

const good = "Right-Horse-1"

// hand is a clock that stands still unless a test turns it.
type hand struct{ now atomic.Int64 }

func (h *hand) Now() time.Time       { return time.UnixMicro(h.now.Load()).UTC() }
func (h *hand) turn(d time.Duration) { h.now.Add(d.Microseconds()) }

// lossy loses the answer of every write that it is told to: it was written, and the caller hears of a conflict.
type lossy struct {
	store.Table

	lose atomic.Int64
}

func (l *lossy) Write(ctx context.Context, ops ...store.Op) error {
	err := l.Table.Write(ctx, ops...)
	if err == nil && l.lose.Add(-1) >= 0 {
		return store.ErrConflict
	}
	return err
}

type world struct {
	t     *testing.T
	table *lossy
	clock *hand
	*user.Accounts
}

func newWorld(t *testing.T) *world {
	t.Helper()
	p := embeddedtest.Open(t)
	w := &world{t: t, table: &lossy{Table: p.Table()}, clock: &hand{}}
	w.clock.now.Store(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixMicro())
	w.Accounts = w.process()
	return w
}

// process is another instance on the same table.
func (w *world) process() *user.Accounts {
	w.t.Helper()
	settings, err := user.ReadSettings(func(string) string { return "" })
	if err != nil {
		w.t.Fatal(err)
	}
	return user.Open(user.Platform{Table: w.table, Clock: w.clock, IDs: ids.Source{}, Log: slog.New(slog.DiscardHandler)}, settings)
}

func (w *world) made(name, email string) user.User {
	w.t.Helper()
	u, err := w.Users.Create(w.t.Context(), admin, user.New{Tenant: "default", Name: name, Email: email, Password: good})
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

func noKey(context.Context, string) (user.Holder, bool, error) { return user.Holder{}, false, nil }

func login(a *user.Accounts, name, password, address string) error {
	_, err := a.Login(context.Background(), user.Login{Default: "default", Name: name, Password: password, Address: address}, noKey)
	return err
}

func said(err error) string {
	if err == nil {
		return "ok"
	}
	return fault.From(err).Message
}

func (w *world) entries() (n int) {
	w.t.Helper()
	all, _, err := (&audit.Log{Table: w.table}).List(w.t.Context(), "default", 1000, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(all)
}

func TestPasswordRules(t *testing.T) {
	settings, err := user.ReadSettings(func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]string{
		"Secret1!": "ok", "Secr1!": "password must be at least 8 characters", "secret1!": "password must contain an upper-case letter",
		"Secrets!": "password must contain a digit", "Secrets1": "password must contain a special character", "Ünlock €1": "ok", "Secret 1": "password must contain a special character",
		"Aa1!" + strings.Repeat("x", 252): "ok", "Aa1!" + strings.Repeat("x", 253): "password must be text of at most 256 bytes",
		"Secret1!\xff": "password must be text of at most 256 bytes",
	} {
		if got := said(settings.Rule.Check(password)); got != want {
			t.Errorf("%q: %s, want %s", password, got, want)
		}
	}
}

func TestSettings(t *testing.T) {
	read := func(pairs ...string) (user.Settings, error) {
		return user.ReadSettings(func(name string) string {
			for i := 0; i+1 < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		})
	}
	s, err := read()
	want := user.Settings{
		Passwords: true, SessionTTL: 24 * time.Hour, Rule: user.Rule{Length: 8, Upper: true, Digit: true, Special: true}, Attempts: 5, Lockout: 15 * time.Minute,
	}
	if err != nil || s != want {
		t.Errorf("%+v, %v", s, err)
	}
	s, err = read("CORDUM_USER_AUTH", "off", "CORDUM_AUTH_SESSION_TTL", "2h", "CORDUM_SESSION_TTL", "3h", "CORDUM_PASSWORD_LENGTH", "12", "CORDUM_PASSWORD_CLASSES", "digit",
		"MAX_LOGIN_ATTEMPTS", "3", "LOGIN_LOCKOUT_PERIOD", "1h")
	want = user.Settings{SessionTTL: 2 * time.Hour, Rule: user.Rule{Length: 12, Digit: true}, Attempts: 3, Lockout: time.Hour}
	if err != nil || s != want {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := read("CORDUM_SESSION_TTL", "3h"); err != nil || s.SessionTTL != 3*time.Hour {
		t.Errorf("the older name: %v, %v", s.SessionTTL, err)
	}
	for name, bad := range map[string]string{
		"CORDUM_USER_AUTH": "maybe", "CORDUM_AUTH_SESSION_TTL": "1", "CORDUM_SESSION_TTL": "-1h", "CORDUM_PASSWORD_LENGTH": "0", "CORDUM_PASSWORD_CLASSES": "lower",
		"MAX_LOGIN_ATTEMPTS": "none", "LOGIN_LOCKOUT_PERIOD": "9000h",
	} {
		if _, err := read(name, bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, bad, err)
		}
	}
	for _, half := range []string{"CORDUM_ADMIN_USERNAME", "CORDUM_ADMIN_PASSWORD"} {
		if _, err := user.ReadFirst(func(name string) string { return map[string]string{half: "Some-Secret-1"}[name] }); err == nil || strings.Contains(err.Error(), "Some-Secret") {
			t.Errorf("%s alone: %v", half, err)
		}
	}
}

// Who asks for somebody who does not exist waits for as much as who asks for somebody who does: the same hashes are made.
func TestUnknownUsersCostAsMuch(t *testing.T) {
	w := newWorld(t)
	maya := w.made("maya", "maya@corp.test")
	gone := w.made("gone", "")
	if err := w.Users.Delete(t.Context(), admin, gone.ID); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, password, want string }{
		{"maya", good, "ok"}, {"MAYA@corp.test", good, "ok"}, {"maya", "Wrong-Horse-1", "invalid credentials"}, {"nobody", good, "invalid credentials"},
		{"nobody@corp.test", good, "invalid credentials"}, {"gone", good, "user is disabled"}, {"gone", "Wrong-Horse-1", "invalid credentials"},
	} {
		before := w.Users.Passwords.Derived()
		if got := said(login(w.Accounts, c.name, c.password, "192.0.2.1")); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if n := w.Users.Passwords.Derived() - before; n != 1 {
			t.Errorf("%s: %d hashes, want 1", c.name, n)
		}
	}
	for _, password := range []string{"", strings.Repeat("x", 257)} {
		before := w.Users.Passwords.Derived()
		if err := login(w.Accounts, maya.Name, password, "192.0.2.2"); err == nil || w.Users.Passwords.Derived() != before {
			t.Errorf("a password of %d bytes: %v", len(password), err)
		}
	}
}

// Five failures of a name and address within 15 minutes, fifty of a name; both count in the table, for all instances, and one by one.
func TestFailedLoginsAreCounted(t *testing.T) {
	w := newWorld(t)
	w.made("maya", "maya@corp.test")
	other := w.process()
	fail := func(a *user.Accounts, name, address, want string) {
		t.Helper()
		if got := said(login(a, name, "Wrong-Horse-1", address)); got != want {
			t.Errorf("%s from %s: %s, want %s", name, address, got, want)
		}
	}
	for i, name := range []string{"maya", "Maya", " maya ", "maya@corp.test"} {
		w.clock.turn(time.Minute)
		fail([]*user.Accounts{w.Accounts, other}[i%2], name, "192.0.2.1", "invalid credentials")
	}
	if err := login(w.Accounts, "maya", good, "192.0.2.1"); err != nil {
		t.Fatalf("the right password after four wrong ones: %v", err)
	}
	for range 5 { // the success has cleared the four
		w.clock.turn(time.Minute)
		fail(other, "maya", "192.0.2.1", "invalid credentials")
	}
	if got := said(login(w.Accounts, "maya", good, "192.0.2.1")); got != "rate limit exceeded" {
		t.Errorf("the right password after five wrong ones: %s", got)
	}
	fail(w.Accounts, "maya", "192.0.2.2", "invalid credentials")
	w.clock.turn(10*time.Minute + 59*time.Second) // the first of the five is 14:59 old
	fail(w.Accounts, "maya", "192.0.2.1", "rate limit exceeded")
	w.clock.turn(2 * time.Second)
	fail(w.Accounts, "maya", "192.0.2.1", "invalid credentials")
	fail(w.Accounts, "maya", "192.0.2.1", "rate limit exceeded") // the other four, and that one

	for i := range 50 {
		fail(w.Accounts, "nobody", fmt.Sprintf("198.51.100.%d", i), "invalid credentials")
	}
	fail(other, "nobody", "203.0.113.1", "rate limit exceeded")
	for i := range 5 { // one client has 64 bits of addresses
		fail(w.Accounts, "else", fmt.Sprintf("2001:db8::%d", i), "invalid credentials")
	}
	fail(w.Accounts, "else", "2001:db8::ffff", "rate limit exceeded")
	fail(w.Accounts, "else", "2001:db8:0:1::1", "invalid credentials")
	for range 5 {
		fail(w.Accounts, "", "203.0.113.9", "invalid credentials")
	}
	fail(w.Accounts, "", "203.0.113.9", "rate limit exceeded")
}

// A success clears what failed from the same address, and nothing of what a guesser did from elsewhere.
func TestASuccessHelpsNoGuesserElsewhere(t *testing.T) {
	w := newWorld(t)
	w.made("maya", "")
	for range 5 {
		_ = login(w.Accounts, "maya", "Wrong-Horse-1", "198.51.100.1")
	}
	if err := login(w.Accounts, "maya", good, "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	if got := said(login(w.Accounts, "maya", good, "198.51.100.1")); got != "rate limit exceeded" {
		t.Errorf("the guesser: %s", got)
	}
}

// Guesses at one time are no more than guesses one after the other: no more than five passwords are compared.
func TestParallelGuessesCount(t *testing.T) {
	w := newWorld(t)
	w.made("maya", "")
	instances := []*user.Accounts{w.process(), w.process(), w.process()}
	var compared int64
	var wrong, locked atomic.Int64
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			switch said(login(instances[i%3], "maya", "Wrong-Horse-1", "192.0.2.1")) {
			case "invalid credentials":
				wrong.Add(1)
			case "rate limit exceeded":
				locked.Add(1)
			}
		})
	}
	all.Wait()
	for _, a := range instances {
		compared += a.Users.Passwords.Derived()
	}
	if compared > 5 || compared != wrong.Load() || wrong.Load()+locked.Load() != 60 {
		t.Errorf("%d compared, %d wrong, %d locked out", compared, wrong.Load(), locked.Load())
	}
}

// Whatever is written, and whose answer is lost, is written once.
func TestLostAnswers(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	once := func(what string, do func() error) {
		t.Helper()
		before := w.entries()
		w.table.lose.Store(1)
		if err := do(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if n := w.entries() - before; n != 1 {
			t.Errorf("%s: %d entries in the trail", what, n)
		}
	}
	var u user.User
	once("create", func() (err error) {
		u, err = w.Users.Create(ctx, admin, user.New{Tenant: "default", Name: "maya", Email: "maya@corp.test", Password: good})
		return err
	})
	once("update", func() error {
		_, err := w.Users.Update(ctx, admin, u.ID, user.Change{Email: "m@corp.test", Role: "viewer"})
		return err
	})
	if got, err := w.Users.Get(ctx, "default", u.ID); err != nil || got.Generation != 1 || got.Email != "m@corp.test" {
		t.Errorf("updated to %+v, %v", got, err)
	}
	once("password", func() error { return w.Users.SetPassword(ctx, admin, u.ID, good+"2") })
	var k user.Key
	var secret string
	once("key", func() (err error) {
		k, secret, err = w.Keys.Create(ctx, admin, user.NewKey{Name: "ci", Scopes: []string{"jobs:read"}})
		return err
	})
	if found, err := w.Keys.Find(ctx, secret); err != nil || found.ID != k.ID {
		t.Errorf("found %+v, %v", found, err)
	}
	once("delete key", func() error { return w.Keys.Delete(ctx, admin, k.ID) })
	once("delete", func() error { return w.Users.Delete(ctx, admin, u.ID) })
	w.table.lose.Store(1)
	if got := said(login(w.Accounts, "maya", good+"2", "192.0.2.1")); got != "user is disabled" {
		t.Errorf("login: %s", got)
	}
	if err := w.Keys.Delete(ctx, admin, k.ID); !errors.Is(err, user.ErrNoKey) {
		t.Errorf("a key that is not there: %v", err)
	}
}

// Of many who want one name, or one address, one gets it.
func TestNamesAreUnique(t *testing.T) {
	w := newWorld(t)
	for _, same := range []func(i int) user.New{
		func(i int) user.New { return user.New{Name: []string{"maya", "MAYA"}[i%2]} },
		func(i int) user.New {
			return user.New{Name: fmt.Sprint("user", i), Email: []string{"a@b.c", "A@B.C"}[i%2]}
		},
	} {
		var all sync.WaitGroup
		var made atomic.Int64
		for i := range 8 {
			all.Go(func() {
				n := same(i)
				n.Tenant, n.Password = "default", good
				switch _, err := w.process().Users.Create(t.Context(), admin, n); {
				case err == nil:
					made.Add(1)
				case said(err) != "user already exists":
					t.Error(err)
				}
			})
		}
		all.Wait()
		if made.Load() != 1 {
			t.Errorf("%d were made", made.Load())
		}
	}
	if _, err := w.Users.Create(t.Context(), admin, user.New{Tenant: "other", Name: "maya", Email: "a@b.c", Password: good}); err != nil {
		t.Errorf("in another tenant: %v", err)
	}
}

// The first administrator is made once, by one of all that start, and only where there is none.
func TestTheFirstAdministrator(t *testing.T) {
	w := newWorld(t)
	w.made("boss", "")
	var all sync.WaitGroup
	var made atomic.Int64
	for range 4 {
		all.Go(func() {
			first := &user.First{Tenant: "default", Name: "root", Password: good}
			done, err := first.Make(t.Context(), w.process().Users)
			if err != nil {
				t.Error(err)
			}
			if done {
				made.Add(1)
			}
		})
	}
	all.Wait()
	if made.Load() != 1 {
		t.Errorf("%d were made", made.Load())
	}
	root, err := w.Users.Named(t.Context(), "default", "root")
	if err != nil || root.Role != identity.Admin {
		t.Fatalf("%+v, %v", root, err)
	}
	if err := w.Users.Delete(t.Context(), admin, root.ID); err != nil {
		t.Fatal(err)
	}
	if done, err := (&user.First{Tenant: "default", Name: "again", Password: good}).Make(t.Context(), w.Users); done || err != nil {
		t.Errorf("a second time: %v, %v", done, err)
	}
	_, err = (&user.First{Tenant: "other", Name: "root", Password: "weak"}).Make(t.Context(), w.Users)
	if err == nil || strings.Contains(err.Error(), "weak") || !strings.Contains(err.Error(), "CORDUM_ADMIN_PASSWORD") {
		t.Errorf("a weak password: %v", err)
	}
	if done, err := (*user.First)(nil).Make(t.Context(), w.Users); done || err != nil {
		t.Errorf("nobody: %v, %v", done, err)
	}
}

// A login that is overtaken by what ends the user's sessions opens none.
func TestALoginIsOvertaken(t *testing.T) {
	w := newWorld(t)
	u := w.made("maya", "")
	if err := w.Users.SetPassword(t.Context(), admin, u.ID, good+"2"); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := w.Sessions.Open(t.Context(), u); !errors.Is(err, user.ErrNoSession) {
		t.Errorf("with the password of before: %v", err)
	}
}
