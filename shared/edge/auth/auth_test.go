package auth_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
)

type env map[string]string

func (e env) get(name string) string { return e[name] }

func (e env) with(pairs ...string) env {
	out := maps.Clone(e)
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out
}

// hand is a clock that a test turns.
type hand struct{ now time.Time }

func (h *hand) Now() time.Time { return h.now }

func at() *hand { return &hand{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

func gate(t *testing.T, e env, clk *hand, providers ...auth.Provider) *auth.Gate {
	t.Helper()
	cfg, err := auth.FromEnv(e.get)
	if err != nil {
		t.Fatal(err)
	}
	g, err := auth.New(cfg, clk, silent(), providers...)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func key(k string) auth.Request { return auth.Request{APIKey: []string{k}, TenantOptional: true} }

func bearer(k string) auth.Request {
	return auth.Request{Authorization: []string{"Bearer " + k}, TenantOptional: true}
}

var (
	everyone = auth.Rule{Any: true, Roles: []identity.Role{identity.Worker}}
	anyone   = auth.Rule{Any: true}
)

// verdict is what a caller would see: "ok" or the fault.
func verdict(err error) string {
	if err == nil {
		return "ok"
	}
	var f *fault.Error
	if !errors.As(err, &f) {
		return "foreign: " + err.Error()
	}
	return f.Message
}

func admit(g *auth.Gate, r auth.Request, rule auth.Rule) (identity.Identity, string) {
	id, err := g.Admit(context.Background(), r, rule)
	return id, verdict(err)
}

func TestKeyEncodings(t *testing.T) {
	tests := []struct {
		name, variable, text string
		key                  string
		want                 identity.Identity // without KeyID
	}{
		{"single key", "CORDUM_API_KEY", "k-one", "k-one", identity.Identity{Tenant: "default", Role: "admin"}},
		{"single key with spaces", "CORDUM_API_KEY", " k-one\n", "k-one", identity.Identity{Tenant: "default", Role: "admin"}},
		{"older name", "API_KEY", "k-one", "k-one", identity.Identity{Tenant: "default", Role: "admin"}},
		{"bare", "CORDUM_API_KEYS", "k-one,k-two", "k-two", identity.Identity{Tenant: "default", Role: "admin"}},
		{"trailing comma", "CORDUM_API_KEYS", "k-one, ,", "k-one", identity.Identity{Tenant: "default", Role: "admin"}},
		{"lines", "CORDUM_API_KEYS", "k-one\r\nt1:k-two\n", "k-two", identity.Identity{Tenant: "t1", Role: "admin"}},
		{"tenant", "CORDUM_API_KEYS", "k-one,t1:k-two", "k-two", identity.Identity{Tenant: "t1", Role: "admin"}},
		{"tenant, role", "CORDUM_API_KEYS", "t1:k-one:Viewer", "k-one", identity.Identity{Tenant: "t1", Role: "viewer"}},
		{"secops", "CORDUM_API_KEYS", "t1:k-one:secops", "k-one", identity.Identity{Tenant: "t1", Role: "admin"}},
		{"tenant, role, principal", "CORDUM_API_KEYS", " t1 : k-one : user : maya ", "k-one",
			identity.Identity{Tenant: "t1", Role: "user", Principal: "maya", PrincipalFixed: true}},
		{"list", "CORDUM_API_KEYS", `[{"key":"k-one"},{"key":"k-two","tenant":"t1","role":"operator","principal_id":"bot",
			"expires_at":"2026-03-01T12:00:01Z","allow_cross_tenant":true}]`, "k-two",
			identity.Identity{Tenant: "t1", Role: "operator", Principal: "bot", PrincipalFixed: true, CrossTenant: true,
				Expires: time.Date(2026, 3, 1, 12, 0, 1, 0, time.UTC)}},
		{"list of defaults", "CORDUM_API_KEYS", `[{"key":"k-one"}]`, "k-one", identity.Identity{Tenant: "default", Role: "admin"}},
		{"object", "CORDUM_API_KEYS", `{"k-one":{"tenant":"t1","role":"user"},"k-two":{}}`, "k-one",
			identity.Identity{Tenant: "t1", Role: "user"}},
		{"object of keys", "CORDUM_API_KEYS", `{"keys":[{"key":"k-one","tenant":"t1"}]}`, "k-one", identity.Identity{Tenant: "t1", Role: "admin"}},
		{"a key called keys", "CORDUM_API_KEYS", `{"keys":{"tenant":"t1"}}`, "keys", identity.Identity{Tenant: "t1", Role: "admin"}},
		{"pools", "CORDUM_API_KEYS", `[{"key":"k-one","role":"worker","pools":["etl","gpu"]}]`, "k-one",
			identity.Identity{Tenant: "default", Role: "worker", Pools: []string{"etl", "gpu"}}},
		{"the same key twice, alike", "CORDUM_API_KEYS", `k-one,default:k-one:admin`, "k-one", identity.Identity{Tenant: "default", Role: "admin"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := gate(t, env{tt.variable: tt.text}, at())
			got, v := admit(g, key(tt.key), everyone)
			if v != "ok" {
				t.Fatalf("refused: %s", v)
			}
			if !strings.HasPrefix(got.KeyID, "key-") || strings.Contains(got.KeyID, tt.key) {
				t.Errorf("key id %q", got.KeyID)
			}
			got.KeyID, tt.want.Home = "", tt.want.Tenant
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if _, v := admit(g, key(tt.key+"x"), everyone); v != "unauthorized" {
				t.Errorf("another key: %s", v)
			}
		})
	}
}

func TestDefaultTenantOfKeys(t *testing.T) {
	g := gate(t, env{"TENANT_ID": "acme", "CORDUM_API_KEY": "k-one", "CORDUM_API_KEYS": `[{"key":"k-two"}]`}, at())
	for _, k := range []string{"k-one", "k-two"} {
		if id, v := admit(g, key(k), everyone); v != "ok" || id.Tenant != "acme" {
			t.Errorf("%s: %s %+v", k, v, id)
		}
	}
}

func TestNewNameReplacesOldName(t *testing.T) {
	g := gate(t, env{"CORDUM_API_KEY": "k-new", "API_KEY": "k-old"}, at())
	if _, v := admit(g, key("k-old"), everyone); v != "unauthorized" {
		t.Errorf("the rotated key still answers %s", v)
	}
}

func TestKeyIDsTellKeysApart(t *testing.T) {
	g := gate(t, env{"CORDUM_API_KEYS": "k-one,k-two"}, at())
	one, _ := admit(g, key("k-one"), everyone)
	two, _ := admit(g, key("k-two"), everyone)
	again, _ := admit(g, key("k-one"), everyone)
	if one.KeyID == two.KeyID || one.KeyID != again.KeyID {
		t.Errorf("%q %q %q", one.KeyID, two.KeyID, again.KeyID)
	}
}

func TestExpiredKey(t *testing.T) {
	clk := at()
	g := gate(t, env{"CORDUM_API_KEYS": `[{"key":"k-one","expires_at":"2026-03-01T13:00:00+01:00"},{"key":"k-two","expires_at":"2026-03-01T12:00:01Z"}]`}, clk)
	if _, v := admit(g, key("k-one"), everyone); v != "unauthorized" {
		t.Errorf("at its expiry: %s", v)
	}
	if _, v := admit(g, key("k-two"), everyone); v != "ok" {
		t.Errorf("before its expiry: %s", v)
	}
	clk.now = clk.now.Add(time.Second)
	if _, v := admit(g, key("k-two"), everyone); v != "unauthorized" {
		t.Errorf("after its expiry: %s", v)
	}
}

// Every malformed configuration is refused at the start, in words that help, and without the key.
func TestMalformedConfiguration(t *testing.T) {
	const secret = "SECRET-0123456789"
	tests := []struct{ name, variable, text, want string }{
		{"role", "CORDUM_API_KEYS", "t1:k:admin,default:admin:" + secret, "entry 2: the role"},
		{"anonymous role", "CORDUM_API_KEYS", "t1:" + secret + ":anonymous", "the role"},
		{"five fields", "CORDUM_API_KEYS", "a:b:admin:c:" + secret, "entry 1: an entry is"},
		{"empty field", "CORDUM_API_KEYS", "t1::" + secret, "no field is empty"},
		{"tenant", "CORDUM_API_KEYS", secret + "#:t1", "the tenant is not"},
		{"space in a key", "CORDUM_API_KEY", secret + " x", "CORDUM_API_KEY: a key is"},
		{"comma in a key", "API_KEY", secret + ",x", "API_KEY: a key is"},
		{"quote in a key", "CORDUM_API_KEY", `"` + secret + `"`, "a key is"},
		{"non-ASCII key", "CORDUM_API_KEY", secret + "é", "a key is"},
		{"no JSON", "CORDUM_API_KEYS", `[{"key":"` + secret + `"]`, "begins like JSON"},
		{"trailing JSON", "CORDUM_API_KEYS", `[{"key":"` + secret + `"}] x`, "begins like JSON"},
		{"no object JSON", "CORDUM_API_KEYS", `{"` + secret + `"}`, "begins like JSON"},
		{"list of text", "CORDUM_API_KEYS", `["` + secret + `"]`, "entry 1: a key object"},
		{"unknown member", "CORDUM_API_KEYS", `[{"key":"k"},{"key":"` + secret + `","expires":"x"}]`, "entry 2: a key object"},
		{"secret as a member", "CORDUM_API_KEYS", `[{"` + secret + `":true}]`, "a key object"},
		{"secret of a wrong type", "CORDUM_API_KEYS", `[{"key":12345678901234567890}]`, "a key object"},
		{"value of a map", "CORDUM_API_KEYS", `{"` + secret + `":"t1"}`, "entry 1 in the order of the keys"},
		{"null in a map", "CORDUM_API_KEYS", `{"` + secret + `":null}`, "a key object"},
		{"list of keys and more", "CORDUM_API_KEYS", `{"keys":[{"key":"` + secret + `"}],"more":{}}`, "a key object"},
		{"two keys in a map's entry", "CORDUM_API_KEYS", `{"k":{"key":"` + secret + `"}}`, "a key object"},
		{"empty key", "CORDUM_API_KEYS", `[{"tenant":"t1"}]`, "a key is"},
		{"expiry", "CORDUM_API_KEYS", `[{"key":"` + secret + `","expires_at":"tomorrow"}]`, "RFC 3339"},
		{"worker without pools", "CORDUM_API_KEYS", "t1:" + secret + ":worker", "names its pools"},
		{"pools without worker", "CORDUM_API_KEYS", `[{"key":"` + secret + `","pools":["etl"]}]`, "names its pools"},
		{"empty pool", "CORDUM_API_KEYS", `[{"key":"` + secret + `","role":"worker","pools":[""]}]`, "names its pools"},
		{"too many pools", "CORDUM_API_KEYS", `[{"key":"` + secret + `","role":"worker","pools":["p"` + strings.Repeat(`,"p"`, 100) + `]}]`, "at most 100 pools"},
		{"tenant header", "CORDUM_API_KEYS", `[{"key":"` + secret + `","tenant_header":"maybe"}]`, "tenant_header"},
		{"principal", "CORDUM_API_KEYS", `[{"key":"` + secret + `","principal_id":"a\u0000b"}]`, "principal_id"},
		{"flag", "CORDUM_ALLOW_INSECURE_NO_AUTH", "maybe", "CORDUM_ALLOW_INSECURE_NO_AUTH must be true or false"},
		{"tenant header setting", "CORDUM_TENANT_HEADER", "sometimes", "CORDUM_TENANT_HEADER must be one of required, optional"},
		{"echo of keys", "CORDUM_WS_ECHO_KEY", "maybe", "CORDUM_WS_ECHO_KEY must be one of on, off"},
		{"environment", "CORDUM_ENV", "producton", "CORDUM_ENV must be one of"},
		{"rate", "API_RATE_LIMIT_RPS", "0", "API_RATE_LIMIT_RPS must be"},
		{"burst", "API_PUBLIC_RATE_LIMIT_BURST", "many", "API_PUBLIC_RATE_LIMIT_BURST must be"},
		{"default tenant", "TENANT_ID", "a b", "TENANT_ID is not"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := auth.FromEnv(env{tt.variable: tt.text}.get)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.variable) {
				t.Fatalf("got %v, want %q of %s", err, tt.want, tt.variable)
			}
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "12345678901234567890") {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
}

func TestRepeatedKeyWithOtherProperties(t *testing.T) {
	cfg, err := auth.FromEnv(env{"CORDUM_API_KEY": "SECRET-1", "CORDUM_API_KEYS": "t1:SECRET-1"}.get)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = auth.New(cfg, at(), silent()); err == nil || strings.Contains(err.Error(), "SECRET-1") {
		t.Errorf("got %v", err)
	}
}

func TestCredentialPrecedence(t *testing.T) {
	sessions := fake{auth.Session, map[string]auth.Credential{"session-a": {ID: "s", Tenant: "default", Role: identity.User}}}
	tokens := fake{auth.WebToken, map[string]auth.Credential{
		"a.b.c": {ID: "j", Tenant: "default", Role: identity.Viewer}, "session-j": {ID: "sj", Tenant: "default", Role: identity.Viewer}}}
	managed := fake{auth.APIKey, map[string]auth.Credential{"m-one": {ID: "m", Tenant: "default", Role: identity.User},
		"session-key": {ID: "sk", Tenant: "default", Role: identity.User}, "a.b.c": {ID: "never", Tenant: "default", Role: identity.User}}}
	all := []auth.Provider{sessions, tokens, managed}
	e := env{"CORDUM_API_KEYS": "default:k-one:operator:static"}
	jwt := e.with("CORDUM_JWT_REQUIRED", "true")
	open := env{"CORDUM_ALLOW_INSECURE_NO_AUTH": "1", "CORDUM_API_KEY": "k-one"}
	tests := []struct {
		name      string
		env       env
		providers []auth.Provider
		req       auth.Request
		want      string // key id or principal or refusal
	}{
		{"key", e, nil, key("k-one"), "static"},
		{"key with spaces", e, nil, key("  k-one "), "static"},
		{"key in double quotes", e, nil, key(` "k-one" `), "static"},
		{"key in single quotes", e, nil, key(`'k-one'`), "static"},
		{"key in two pairs of quotes", e, nil, key(`"'k-one'"`), "unauthorized"},
		{"key in unlike quotes", e, nil, key(`"k-one'`), "unauthorized"},
		{"bearer key", e, nil, bearer("k-one"), "static"},
		{"bearer in capitals", e, nil, auth.Request{Authorization: []string{"BEARER k-one"}, TenantOptional: true}, "static"},
		{"bearer key unknown", e, nil, bearer("k-two"), "unauthorized"},
		{"bearer wins over key", e, nil, auth.Request{Authorization: []string{"Bearer nope"}, APIKey: []string{"k-one"}, TenantOptional: true}, "unauthorized"},
		{"another scheme is no credential", e, nil, auth.Request{Authorization: []string{"Basic a,b"}, APIKey: []string{"k-one"}, TenantOptional: true}, "static"},
		{"empty bearer is no credential", e, nil, auth.Request{Authorization: []string{"Bearer "}, APIKey: []string{"k-one"}, TenantOptional: true}, "static"},
		{"nothing", e, nil, auth.Request{TenantOptional: true}, "unauthorized"},
		{"empty key", e, nil, key(" "), "unauthorized"},
		{"key sent twice", e, nil, auth.Request{APIKey: []string{"k-one", "k-one"}, TenantOptional: true}, "unauthorized"},
		{"key joined twice", e, nil, key("k-one,k-one"), "unauthorized"},
		{"authorization sent twice", e, nil, auth.Request{Authorization: []string{"Bearer k-one", "Bearer k-one"}, TenantOptional: true}, "unauthorized"},
		{"JWT without validator", e, nil, bearer("a.b.c"), "unauthorized"},
		{"JWT without validator, good key", e, nil, auth.Request{Authorization: []string{"Bearer a.b.c"}, APIKey: []string{"k-one"}, TenantOptional: true}, "unauthorized"},
		{"session without store", e, nil, bearer("session-a"), "unauthorized"},
		{"session as key without store", e, nil, key("session-a"), "unauthorized"},
		{"JWT", e, all, bearer("a.b.c"), "j"},
		{"JWT is not tried as a key", e, []auth.Provider{managed}, bearer("a.b.c"), "unauthorized"},
		{"session", e, all, bearer("session-a"), "s"},
		{"unknown session is tried as JWT", e, all, bearer("session-j"), "sj"},
		{"unknown session is not tried as key", e, all, bearer("session-key"), "unauthorized"},
		{"session as key", e, all, key("session-a"), "s"},
		{"unknown session as key is tried as key", e, all, key("session-key"), "sk"},
		{"managed key", e, all, key("m-one"), "m"},
		{"static key before managed", e, all, key("k-one"), "static"},
		{"JWT required refuses keys", jwt, all, key("k-one"), "unauthorized"},
		{"JWT required refuses bearer keys", jwt, all, bearer("k-one"), "unauthorized"},
		{"JWT required takes tokens", jwt, all, bearer("a.b.c"), "j"},
		{"JWT required takes sessions", jwt, all, bearer("session-a"), "s"},
		{"JWT required refuses nobody", open.with("CORDUM_JWT_REQUIRED", "1"), all, auth.Request{TenantOptional: true}, "unauthorized"},
		{"no authentication", open, nil, auth.Request{}, "anonymous"},
		{"no authentication, bad key", open, nil, key("k-two"), "unauthorized"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, v := admit(gate(t, tt.env, at(), tt.providers...), tt.req, anyone)
			if v == "ok" {
				v = id.Principal
			}
			if v == "" {
				v = id.KeyID
			}
			if v != tt.want {
				t.Errorf("got %q, want %q", v, tt.want)
			}
		})
	}
}

type fake struct {
	kind  auth.Kind
	known map[string]auth.Credential
}

func (f fake) Kind() auth.Kind { return f.kind }

func (f fake) Lookup(_ context.Context, secret string, _ time.Time) (auth.Credential, bool, error) {
	c, ok := f.known[secret]
	return c, ok, nil
}

func (f fake) Current(_ context.Context, id string, _ time.Time) (auth.Credential, bool, error) {
	for _, c := range f.known {
		if c.ID == id {
			return c, true, nil
		}
	}
	return auth.Credential{}, false, nil
}

type down struct{ err error }

func (d down) Current(context.Context, string, time.Time) (auth.Credential, bool, error) {
	return auth.Credential{}, false, d.err
}

func (d down) Kind() auth.Kind { return auth.APIKey }

func (d down) Lookup(context.Context, string, time.Time) (auth.Credential, bool, error) {
	return auth.Credential{}, false, d.err
}

func TestCurrent(t *testing.T) {
	ctx := context.Background()
	clock := at()
	g := gate(t, env{"CORDUM_API_KEYS": `[{"key":"k-one","tenant":"a"},{"key":"k-brief","tenant":"a","expires_at":"` +
		clock.Now().Add(time.Minute).Format(time.RFC3339) + `"}]`}, clock)
	id := func(secret string) string {
		c, err := g.Identify(ctx, key(secret))
		if err != nil {
			t.Fatal(err)
		}
		return c.ID
	}
	one, brief := id("k-one"), id("k-brief")
	good := func(g *auth.Gate, id string) string {
		c, found, err := g.Current(ctx, id)
		switch {
		case err != nil:
			return "nobody knows"
		case !found:
			return "no"
		default:
			return c.Tenant
		}
	}
	for _, c := range []struct{ name, got, want string }{
		{"a key", good(g, one), "a"}, {"one that will expire", good(g, brief), "a"}, {"one that never was", good(g, "key-00000000"), "no"},
		{"a process without keys", good(gate(t, env{}, clock), one), "nobody knows"},
		{"a store that is down", good(gate(t, env{"CORDUM_API_KEY": "k-other"}, clock, down{errors.New("timeout")}), one), "nobody knows"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", c.name, c.got, c.want)
		}
	}
	clock.now = clock.now.Add(time.Minute)
	if got := good(g, brief); got != "no" {
		t.Errorf("one that has expired: %s", got)
	}
}

func TestStoreOfKeysDown(t *testing.T) {
	g := gate(t, env{"CORDUM_API_KEY": "k-one"}, at(), down{errors.New("table: timeout")})
	_, err := g.Admit(context.Background(), key("k-two"), anyone)
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v, want unavailable and not unauthorized", err)
	}
	if _, v := admit(g, key("k-one"), anyone); v != "ok" {
		t.Errorf("a static key needs no store: %s", v)
	}
}

func TestAnonymous(t *testing.T) {
	g := gate(t, env{"CORDUM_ALLOW_INSECURE_NO_AUTH": "1", "TENANT_ID": "acme"}, at())
	id, v := admit(g, auth.Request{}, anyone)
	if v != "ok" || id.Role != identity.Anonymous || id.Tenant != "acme" {
		t.Errorf("%s %+v", v, id)
	}
	if _, v := admit(g, auth.Request{Tenant: []string{"other"}}, anyone); v != "tenant access denied" {
		t.Errorf("another tenant: %s", v)
	}
	if _, v := admit(g, auth.Request{}, auth.Rule{Roles: []identity.Role{identity.Admin}}); v != "access denied" {
		t.Errorf("admin's method: %s", v)
	}
	if _, err := auth.FromEnv(env{"CORDUM_ALLOW_INSECURE_NO_AUTH": "1", "CORDUM_ENV": "production"}.get); err == nil {
		t.Error("production without authentication starts")
	}
}

func TestTenants(t *testing.T) {
	required := env{"CORDUM_API_KEYS": `[{"key":"k-a","tenant":"a"},{"key":"k-x","tenant":"a","allow_cross_tenant":true},{"key":"k-o","tenant":"a","tenant_header":"optional"}]`}
	optional := required.with("CORDUM_TENANT_HEADER", "optional")
	tests := []struct {
		name   string
		env    env
		key    string
		tenant []string
		want   string // tenant, or the refusal
	}{
		{"named", required, "k-a", []string{"a"}, "a"},
		{"named with spaces", required, "k-a", []string{" a "}, "a"},
		{"T-011: another", required, "k-a", []string{"b"}, "tenant access denied"},
		{"case matters", required, "k-a", []string{"A"}, "tenant access denied"},
		{"none", required, "k-a", nil, "tenant id required"},
		{"blank", required, "k-a", []string{" "}, "tenant id required"},
		{"none, optional for all", optional, "k-a", nil, "a"},
		{"blank, optional for all", optional, "k-a", []string{""}, "a"},
		{"another, optional for all", optional, "k-a", []string{"b"}, "tenant access denied"},
		{"none, optional for the key", required, "k-o", nil, "a"},
		{"another, optional for the key", required, "k-o", []string{"b"}, "tenant access denied"},
		{"cross-tenant", required, "k-x", []string{"b"}, "b"},
		{"cross-tenant names none", required, "k-x", nil, "tenant id required"},
		{"cross-tenant names none, optional", optional, "k-x", nil, "a"},
		{"cross-tenant names nonsense", required, "k-x", []string{"b#c"}, "tenant access denied"},
		{"sent twice", required, "k-a", []string{"a", "a"}, "tenant access denied"},
		{"joined", required, "k-x", []string{"a,b"}, "tenant access denied"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, v := admit(gate(t, tt.env, at()), auth.Request{APIKey: []string{tt.key}, Tenant: tt.tenant}, anyone)
			if v == "ok" {
				v = id.Tenant
				if id.Home != "a" {
					t.Errorf("home %q", id.Home)
				}
			}
			if v != tt.want {
				t.Errorf("got %q, want %q", v, tt.want)
			}
		})
	}
}

func TestT011_TenantNamedInBody(t *testing.T) {
	ctx := identity.With(context.Background(), identity.Identity{Tenant: "a", CrossTenant: true})
	for named, want := range map[string]string{"": "ok", " ": "ok", "a": "ok", " a ": "ok", "b": "tenant access denied"} {
		if v := verdict(auth.SameTenant(ctx, "", named)); v != want {
			t.Errorf("%q: %s", named, v)
		}
	}
}

func TestT012_HeaderPrincipal(t *testing.T) {
	e := env{"CORDUM_API_KEYS": "default:k-one,default:k-two:admin:bot"}
	production := e.with("CORDUM_ENV", "production")
	tests := []struct {
		name   string
		env    env
		key    string
		header []string
		want   string
		fixed  bool
	}{
		{"header", e, "k-one", []string{"alice"}, "alice", false},
		{"spaces", e, "k-one", []string{" alice "}, "alice", false},
		{"none", e, "k-one", nil, "", false},
		{"the key's wins", e, "k-two", []string{"alice"}, "bot", true},
		{"production ignores it", production, "k-one", []string{"alice"}, "", false},
		{"production, allowed", production.with("CORDUM_ALLOW_HEADER_PRINCIPAL", "true"), "k-one", []string{"alice"}, "alice", false},
		{"production keeps the key's", production, "k-two", nil, "bot", true},
		{"sent twice", e, "k-one", []string{"alice", "bob"}, "refused", false},
		{"joined", e, "k-one", []string{"alice,bob"}, "refused", false},
		{"control character", e, "k-one", []string{"a\x00b"}, "refused", false},
		{"not UTF-8", e, "k-one", []string{"a\xff"}, "refused", false},
		{"too long", e, "k-one", []string{strings.Repeat("a", 257)}, "refused", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := key(tt.key)
			r.Principal = tt.header
			id, err := gate(t, tt.env, at()).Admit(context.Background(), r, anyone)
			if tt.want == "refused" {
				if !fault.Is(err, fault.Invalid) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || id.Principal != tt.want || id.PrincipalFixed != tt.fixed {
				t.Errorf("got %q %v %v", id.Principal, id.PrincipalFixed, err)
			}
		})
	}
}

// One request that is wrong in every way is refused for one reason after the other, as each is put right.
func TestOrderOfRefusals(t *testing.T) {
	g := gate(t, env{"CORDUM_API_KEYS": "a:k-one:viewer,a:k-two:admin", "API_RATE_LIMIT_BURST": "6", "API_RATE_LIMIT_RPS": "1"}, at())
	rule := auth.Rule{Roles: []identity.Role{identity.Admin}}
	steps := []struct {
		req  auth.Request
		want string
	}{
		{auth.Request{APIKey: []string{"nope"}, Principal: []string{"a,b"}}, "unauthorized"},
		{auth.Request{APIKey: []string{"k-one"}, Principal: []string{"a,b"}}, "tenant id required"},
		{auth.Request{APIKey: []string{"k-one"}, Tenant: []string{"b"}, Principal: []string{"a,b"}}, "tenant access denied"},
		{auth.Request{APIKey: []string{"k-one"}, Tenant: []string{"a"}, Principal: []string{"a,b"}}, "access denied"},
		{auth.Request{APIKey: []string{"k-two"}, Tenant: []string{"a"}, Principal: []string{"a,b"}},
			"x-principal-id must be one name of at most 256 printable characters without a comma"},
		{auth.Request{APIKey: []string{"k-two"}, Tenant: []string{"a"}}, "ok"},
		{auth.Request{APIKey: []string{"k-two"}, Tenant: []string{"a"}}, "ok"},
		{auth.Request{APIKey: []string{"k-two"}}, "rate limited"},
		{auth.Request{APIKey: []string{"nope"}}, "unauthorized"},
	}
	for i, s := range steps {
		if _, v := admit(g, s.req, rule); v != s.want {
			t.Errorf("step %d: got %q, want %q", i, v, s.want)
		}
	}
}

func TestRates(t *testing.T) {
	clk := at()
	g := gate(t, env{"CORDUM_API_KEYS": `[{"key":"k-a","tenant":"a"},{"key":"k-b","tenant":"b"},{"key":"k-x","tenant":"c","allow_cross_tenant":true}]`,
		"API_RATE_LIMIT_RPS": "1", "API_RATE_LIMIT_BURST": "2", "API_PUBLIC_RATE_LIMIT_RPS": "1", "API_PUBLIC_RATE_LIMIT_BURST": "1"}, clk)
	call := func(k, tenant, want string) {
		t.Helper()
		if _, v := admit(g, auth.Request{APIKey: []string{k}, Tenant: []string{tenant}}, anyone); v != want {
			t.Errorf("%s as %s: got %q, want %q", k, tenant, v, want)
		}
	}
	call("k-x", "a", "ok") // counts for c, its own tenant
	call("k-a", "a", "ok")
	call("k-a", "b", "tenant access denied") // counts for a, whatever it claims
	call("k-a", "a", "rate limited")
	call("k-b", "b", "ok")
	clk.now = clk.now.Add(time.Second)
	call("k-a", "a", "ok")
	call("k-a", "a", "rate limited")

	public := func(address, want string) {
		t.Helper()
		if _, v := admit(g, auth.Request{Address: address}, auth.Rule{Public: true}); v != want {
			t.Errorf("%s: got %q, want %q", address, v, want)
		}
	}
	public("192.0.2.1", "ok")
	public("192.0.2.1", "rate limited")
	public("192.0.2.2", "ok")
}

// A flood of addresses holds no more memory than two generations of buckets, and who calls all the time stays limited.
func TestRateOfManyAddresses(t *testing.T) {
	g := gate(t, env{"API_PUBLIC_RATE_LIMIT_RPS": "1", "API_PUBLIC_RATE_LIMIT_BURST": "1"}, at())
	public := auth.Rule{Public: true}
	admit(g, auth.Request{Address: "busy"}, public)
	for i := range 40000 {
		admit(g, auth.Request{Address: time.Unix(int64(i), 0).String()}, public)
		if i%5000 == 0 {
			if _, v := admit(g, auth.Request{Address: "busy"}, public); v != "rate limited" {
				t.Fatalf("after %d others: %s", i, v)
			}
		}
	}
}

func TestKeysFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	write := func(text string, modified time.Time) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, modified, modified); err != nil {
			t.Fatal(err)
		}
	}
	clk := at()
	write("t1:k-one", clk.now)
	var log strings.Builder
	cfg, err := auth.FromEnv(env{"CORDUM_API_KEYS_PATH": path, "CORDUM_API_KEY": "k-env"}.get)
	if err != nil {
		t.Fatal(err)
	}
	g, err := auth.New(cfg, clk, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	expect := func(step string, want map[string]string) {
		t.Helper()
		for k, w := range want {
			if _, v := admit(g, key(k), anyone); v != w {
				t.Errorf("%s: %s: got %q, want %q", step, k, v, w)
			}
		}
	}
	expect("start", map[string]string{"k-one": "ok", "k-env": "ok", "k-two": "unauthorized"})

	write("t1:k-two", clk.now.Add(time.Minute))
	clk.now = clk.now.Add(2 * time.Second)
	expect("changed", map[string]string{"k-one": "unauthorized", "k-env": "ok", "k-two": "ok"})

	write("t1:k-three:SECRET-ROLE", clk.now.Add(2*time.Minute))
	clk.now = clk.now.Add(2 * time.Second)
	expect("malformed", map[string]string{"k-env": "ok", "k-two": "ok", "k-three": "unauthorized"})
	clk.now = clk.now.Add(2 * time.Second)
	expect("still malformed", map[string]string{"k-two": "ok"})
	if strings.Count(log.String(), "the role is not one of") != 1 || strings.Contains(log.String(), "SECRET-ROLE") {
		t.Errorf("want one line a change, without the content: %s", log.String())
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	clk.now = clk.now.Add(2 * time.Second)
	expect("gone", map[string]string{"k-env": "ok", "k-two": "ok"})

	write(`[{"key":"k-four"}]`, clk.now.Add(3*time.Minute))
	clk.now = clk.now.Add(2 * time.Second)
	expect("back", map[string]string{"k-env": "ok", "k-two": "unauthorized", "k-four": "ok"})
}

// TestTheEdgeSaysWhoTheClientIs: only a request that proves that it came through the edge is believed.
func TestTheEdgeSaysWhoTheClientIs(t *testing.T) {
	const direct, viewer, token = "192.0.2.1", "2001:db8::7", "edge-token"
	g, none := gate(t, env{"CORDUM_EDGE_TOKEN": token}, at()), gate(t, env{}, at())
	for _, tt := range []struct {
		name          string
		gate          *auth.Gate
		proof, viewer []string
		want          string
	}{
		{"through the edge", g, []string{token}, []string{viewer}, viewer},
		{"beside the edge", g, nil, []string{viewer}, direct},
		{"with a wrong token", g, []string{"edge-tokem"}, []string{viewer}, direct},
		{"with two tokens", g, []string{token, token}, []string{viewer}, direct},
		{"with two viewers", g, []string{token}, []string{viewer, viewer}, direct},
		{"without a viewer", g, []string{token}, nil, direct},
		{"with a viewer that is no address", g, []string{token}, []string{"me"}, direct},
		{"a plane without an edge", none, []string{""}, []string{viewer}, direct},
	} {
		if got := tt.gate.Address(direct, tt.proof, tt.viewer); got != tt.want {
			t.Errorf("%s: %s", tt.name, got)
		}
	}
}

// TestSecretsAreReadAgain: keys in a secret come and go while the process runs, and a secret that cannot be read locks nobody out.
func TestSecretsAreReadAgain(t *testing.T) {
	clk, secrets := at(), env{"CORDUM_API_KEY": "k-one"}
	cfg, err := auth.FromEnv(secrets.get)
	if err != nil {
		t.Fatal(err)
	}
	var broken error
	reads := 0
	cfg.Reload = func(context.Context) (func(string) string, error) {
		reads++
		return secrets.get, broken
	}
	g, err := auth.New(cfg, clk, silent())
	if err != nil {
		t.Fatal(err)
	}
	expect := func(step string, want map[string]string) {
		t.Helper()
		for k, w := range want {
			if _, v := admit(g, key(k), anyone); v != w {
				t.Errorf("%s: %s: got %q, want %q", step, k, v, w)
			}
		}
	}
	secrets = env{"CORDUM_API_KEY": "k-two"}
	expect("within a minute", map[string]string{"k-one": "ok", "k-two": "unauthorized"})
	clk.now = clk.now.Add(time.Minute)
	expect("after a minute", map[string]string{"k-one": "unauthorized", "k-two": "ok"})
	if reads != 1 {
		t.Errorf("it was read %d times in a minute", reads)
	}
	secrets, broken = env{}, errors.New("out of reach")
	clk.now = clk.now.Add(time.Minute)
	expect("out of reach", map[string]string{"k-two": "ok"})
	secrets, broken = env{"CORDUM_API_KEYS": "t:k:bad-role"}, nil
	clk.now = clk.now.Add(time.Minute)
	expect("malformed", map[string]string{"k-two": "ok"})
}

func TestKeysFileMissingAtStart(t *testing.T) {
	cfg, err := auth.FromEnv(env{"CORDUM_API_KEYS_PATH": filepath.Join(t.TempDir(), "none")}.get)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = auth.New(cfg, at(), silent()); err == nil || !strings.Contains(err.Error(), "CORDUM_API_KEYS_PATH") {
		t.Errorf("got %v", err)
	}
}

func TestOrigins(t *testing.T) {
	const host = "plane.example:8081"
	tests := []struct {
		name, list, origin string
		allowed            bool
	}{
		{"none", "", "", true},
		{"localhost", "", "http://localhost:5173", true},
		{"loopback", "", "http://127.0.0.1:3000", true},
		{"loopback v6", "", "http://[::1]:3000", true},
		{"same host, another port", "", "https://plane.example", true},
		{"same host, another case", "", "https://PLANE.example", true},
		{"foreign", "", "https://evil.example", false},
		{"prefix", "", "https://localhost.evil.example", false},
		{"user", "", "https://localhost@evil.example", false},
		{"null", "", "null", false},
		{"file", "", "file://localhost", false},
		{"listed", "https://a.example, https://b.example", "https://b.example", true},
		{"listed, exactly", "https://a.example", "https://a.example:8443", false},
		{"a list replaces the default", "https://a.example", "http://localhost", false},
		{"all", "*", "https://evil.example", true},
		{"all and one", "*,https://a.example", "https://a.example", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := auth.ParseOrigins(tt.list).Check(tt.origin, host)
			if (err == nil) != tt.allowed {
				t.Errorf("got %v", err)
			}
			if err != nil && verdict(err) != "origin not allowed" {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestOriginVariables(t *testing.T) {
	for _, names := range [][]string{
		{"CORDUM_ALLOWED_ORIGINS", "CORDUM_CORS_ALLOW_ORIGINS", "CORS_ALLOW_ORIGINS"}, {"CORDUM_CORS_ALLOW_ORIGINS", "CORS_ALLOW_ORIGINS"}, {"CORS_ALLOW_ORIGINS"},
	} {
		e := env{names[0]: "https://a.example"}
		for _, later := range names[1:] {
			e[later] = "https://b.example"
		}
		o := gate(t, e, at()).Origins()
		if err := o.Check("https://a.example", ""); err != nil {
			t.Errorf("%v: %v", names, err)
		}
		if err := o.Check("https://b.example", ""); err == nil {
			t.Errorf("%v: a later variable counts as well", names)
		}
	}
}

func TestRoleRule(t *testing.T) {
	all := []identity.Role{identity.Admin, identity.Operator, identity.User, identity.Viewer, identity.Worker, identity.Anonymous, ""}
	tests := []struct {
		name string
		rule auth.Rule
		want []identity.Role
	}{
		{"nobody", auth.Rule{}, nil},
		{"any", anyone, []identity.Role{identity.Admin, identity.Operator, identity.User, identity.Viewer, identity.Anonymous}},
		{"one", auth.Rule{Roles: []identity.Role{identity.Operator}}, []identity.Role{identity.Operator}},
		{"public", auth.Rule{Public: true}, all},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []identity.Role
			for _, role := range all {
				if tt.rule.Allows(role) {
					got = append(got, role)
				}
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func FuzzKeys(f *testing.F) {
	for _, seed := range []string{"K", "t:K", "t:K:admin:p", "a:b:K", `[{"key":"K"}]`, `{"K":{"role":"user"}}`, `{"keys":[{"key":"K"}]}`,
		`[{"key":"x","role":"K"}]`, `[{"K":1}]`, `[{"expires_at":"K","key":"k"}]`, "{", "[", "K:K:K:K:K", "\n,K\n"} {
		f.Add(seed)
	}
	const canary = "Zq7canaryZq7"
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ReplaceAll(text, "K", canary)
		cfg, err := auth.FromEnv(env{"CORDUM_API_KEYS": text}.get)
		if err == nil {
			_, err = auth.New(cfg, at(), silent())
		}
		if err != nil && strings.Contains(err.Error(), canary) {
			t.Errorf("%q: the error shows the key: %v", text, err)
		}
	})
}
