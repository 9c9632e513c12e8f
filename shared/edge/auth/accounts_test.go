package auth_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/user"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// shelf is a table of what is read by key, which counts and may be out of reach.
type shelf struct {
	store.Table

	items map[store.Key]store.Item
	reads atomic.Int64
	down  bool
}

func (s *shelf) Get(_ context.Context, key store.Key) (store.Item, error) {
	s.reads.Add(1)
	if s.down {
		return store.Item{}, errors.New("timeout")
	}
	it, ok := s.items[key]
	if !ok {
		return store.Item{}, store.ErrNotFound
	}
	return it, nil
}

// Write takes puts and deletions, without conditions.
func (s *shelf) Write(_ context.Context, ops ...store.Op) error {
	for _, op := range ops {
		switch op.Kind {
		case store.OpPut:
			s.items[op.Key] = op.Item
		case store.OpDelete:
			delete(s.items, op.Key)
		case store.OpUpdate, store.OpCheck:
			return fmt.Errorf("not on a shelf: %v", op)
		}
	}
	return nil
}

func onShelf(t *testing.T, vars env) (*shelf, *user.Accounts, *auth.Gate, *hand) {
	t.Helper()
	clk := at()
	table := &shelf{items: map[store.Key]store.Item{}}
	settings, err := user.ReadSettings(func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	a := user.Open(user.Platform{Table: table, Clock: clk, IDs: ids.Source{}, Log: silent()}, settings)
	return table, a, gate(t, vars, clk, auth.Accounts(a)...), clk
}

// What a process remembers of who may call is two seconds old at most, of yes and of no, and is nothing where the table could not be asked.
func TestWhatIsRemembered(t *testing.T) {
	table, a, g, clk := onShelf(t, env{"CORDUM_API_KEY": "k-one"})
	one, err := g.Identify(context.Background(), key("k-one"))
	if err != nil {
		t.Fatal(err)
	}
	token, opened, err := a.Sessions.OpenForKey(context.Background(), "default", one.ID, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	nobody := user.TokenPrefix + ids.Source{}.Token(32)
	reads := func(secret, want string, most int64) {
		t.Helper()
		before := table.reads.Load()
		for range 10 {
			if _, v := admit(g, key(secret), anyone); v != want {
				t.Errorf("%s, want %s", v, want)
			}
		}
		if n := table.reads.Load() - before; n > most {
			t.Errorf("%d reads, want %d at most", n, most)
		}
	}
	reads(token, "ok", 1)
	reads(nobody, "unauthorized", 1)
	reads("session-short", "unauthorized", 0)
	reads("ck_short", "unauthorized", 0)
	if err := a.Sessions.Close(context.Background(), opened.Tenant, opened.ID); err != nil {
		t.Fatal(err)
	}
	reads(token, "ok", 0)
	clk.now = clk.now.Add(2 * time.Second)
	reads(token, "unauthorized", 1)
	table.down = true
	reads(token, "unauthorized", 0)
	clk.now = clk.now.Add(2 * time.Second)
	reads(token, "service unavailable", 10)
	if _, _, err := g.Current(context.Background(), "ses-"+opened.ID); !fault.Is(err, fault.Unavailable) {
		t.Errorf("current: %v", err)
	}
	table.down = false
	reads(token, "unauthorized", 1)
}

// Many unknown tokens make a process remember no more than it may.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	table, _, g, _ := onShelf(t, env{})
	for range 3 * 4096 {
		if _, v := admit(g, key(user.TokenPrefix+ids.Source{}.Token(32)), anyone); v != "unauthorized" {
			t.Fatal(v)
		}
	}
	if n := table.reads.Load(); n != 3*4096 {
		t.Errorf("%d reads", n)
	}
	if held := auth.Remembered(g); held > 2*4096 {
		t.Errorf("%d are remembered", held)
	}
}

// A session is whatever the key behind it is, and ends with it; one whose key nobody can ask about is neither good nor bad.
func TestSessionsOfKeys(t *testing.T) {
	table, a, g, clk := onShelf(t, env{"CORDUM_API_KEYS": `[{"key":"k-brief","tenant":"acme","role":"viewer","principal_id":"ci",
		"expires_at":"` + at().Now().Add(time.Hour).Format(time.RFC3339) + `"}]`})
	ctx := context.Background()
	c, found, err := g.Key(ctx, " k-brief ")
	if err != nil || !found {
		t.Fatal(found, err)
	}
	token, _, err := a.Sessions.OpenForKey(ctx, c.Tenant, c.ID, c.Expires)
	if err != nil {
		t.Fatal(err)
	}
	request := key(token)
	request.Tenant = []string{"acme"}
	id, v := admit(g, request, anyone)
	if v != "ok" || id.Tenant != "acme" || id.Role != identity.Viewer || id.Principal != "ci" || id.OpenedBy != c.ID || !id.Expires.Equal(c.Expires) {
		t.Errorf("%s %+v", v, id)
	}
	if now, found, err := g.Current(ctx, id.KeyID); err != nil || !found || now.Role != identity.Viewer || now.ID != id.KeyID {
		t.Errorf("%+v %v %v", now, found, err)
	}
	clk.now = clk.now.Add(time.Hour)
	if _, v := admit(g, request, anyone); v != "unauthorized" {
		t.Errorf("after the key: %s", v)
	}
	k, secret, err := a.Keys.Create(ctx, identity.Identity{Tenant: "acme", Home: "acme"}, user.NewKey{Name: "ci", Scopes: []string{"jobs:read"}})
	if err != nil {
		t.Fatal(err)
	}
	if c, found, err = g.Key(ctx, secret); err != nil || !found || c.ID != "ck-"+k.ID {
		t.Fatal(c, found, err)
	}
	if token, _, err = a.Sessions.OpenForKey(ctx, c.Tenant, c.ID, c.Expires); err != nil {
		t.Fatal(err)
	}
	if c, err = g.Identify(ctx, key(token)); err != nil || !c.Scoped || fmt.Sprint(c.Scopes) != "[jobs:read]" {
		t.Fatal(c, err)
	}
	if _, found, err := g.Key(ctx, token); found || err != nil {
		t.Errorf("a token is taken for a key: %v", err)
	}
	clk.now = clk.now.Add(2 * time.Second)
	table.down = true
	if _, err := g.Identify(ctx, key(token)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("the table is down: %v", err)
	}
	if _, _, err := g.Key(ctx, secret); !fault.Is(err, fault.Unavailable) {
		t.Errorf("the table is down: %v", err)
	}
}

func TestScopes(t *testing.T) {
	scoped := func(scopes ...string) auth.Credential {
		return auth.Credential{Role: identity.User, Scoped: true, Scopes: scopes}
	}
	reads := auth.Rule{Any: true, Area: "jobs"}
	writes := auth.Rule{Any: true, Area: "jobs", Writes: true}
	admins := auth.Rule{Roles: []identity.Role{identity.Admin}, Area: "jobs"}
	for _, c := range []struct {
		name string
		rule auth.Rule
		by   auth.Credential
		want string
	}{
		{"reads", reads, scoped("jobs:read"), "ok"}, {"writes", writes, scoped("jobs:write"), "ok"}, {"no scope", reads, scoped(), "forbidden"},
		{"to write is not to read", reads, scoped("jobs:write"), "forbidden"}, {"to read is not to write", writes, scoped("jobs:read"), "forbidden"},
		{"another area", reads, scoped("policy:read"), "forbidden"}, {"no area", auth.Rule{Any: true}, scoped("jobs:read"), "forbidden"},
		{"open", auth.Rule{Any: true, Open: true}, scoped(), "ok"}, {"public", auth.Rule{Public: true}, scoped(), "ok"},
		{"a role that it has not", admins, scoped("jobs:read"), "access denied"}, {"not scoped", reads, auth.Credential{Role: identity.Viewer}, "ok"},
		{"no rule", auth.Rule{}, auth.Credential{Role: identity.Admin}, "access denied"},
	} {
		if got := verdict(c.rule.Admits(c.by)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// The token is told only to who presents a session, whichever header wins.
func TestThePresentedToken(t *testing.T) {
	for _, c := range []struct{ authorization, key, want string }{
		{"", "", ""}, {"", "k-one", ""}, {"", `"session-a"`, "session-a"}, {"Bearer session-a", "k-one", "session-a"}, {"Bearer k-one", "session-a", ""},
		{"Basic x", "session-a", "session-a"},
	} {
		r := auth.Request{APIKey: []string{c.key}}
		if c.authorization != "" {
			r.Authorization = []string{c.authorization}
		}
		if got := r.Session(); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
