package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/rate"
	"github.com/cordum-serverless/cordum/shared/core/user"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Kind is a kind of credential, told from how the secret looks and where it was sent.
type Kind uint8

// The kinds, in the order in which they are looked for.
const (
	Session  Kind = iota // "session-" and 32 random bytes
	WebToken             // a JSON web token: three segments
	APIKey               // anything else
)

// Credential is who a secret stands for.
type Credential struct {
	// ID names the credential in logs and audit entries; it reveals nothing of the secret.
	ID string
	// Tenant is the credential's own tenant, never "".
	Tenant string
	Role   identity.Role
	// Principal is the person or service that the credential itself names, "" for none.
	Principal string
	// CrossTenant lets it act for any tenant that a request names.
	CrossTenant bool
	// Pools are those that a worker may serve; "*" is all.
	Pools []string
	// TenantOptional lets its requests leave out the tenant.
	TenantOptional bool
	// User and Session are the ids of a user and of a session; "" where there is none.
	User, Session string
	// Expires is when it ends by itself; the zero time is never. What it opened is closed then.
	Expires time.Time
	// Scoped says that it opens only what Scopes do.
	Scoped bool
	Scopes []string

	// behind is the API key that a session was opened with, by its ID: the session is whatever that key is now.
	behind string
}

// Provider knows the secrets of one kind. Lookup answers found = false for a secret that it does not know, so that the next provider is
// asked. Its errors are faults: Unauthenticated for a secret that is known and no longer good, Unavailable when the store of secrets
// cannot be reached (which is never told as "unauthorized").
type Provider interface {
	Kind() Kind
	Lookup(ctx context.Context, secret string, now time.Time) (c Credential, found bool, err error)
	// Current answers a credential by its ID, as it is now; found is false for one that is unknown or no longer good. An error says that
	// nobody can tell at present.
	Current(ctx context.Context, id string, now time.Time) (c Credential, found bool, err error)
}

// Request is what a request says about its caller, whatever door it came through. Header values are given as they came, all of them.
type Request struct {
	Authorization, APIKey, Tenant, Principal []string
	// TenantOptional is set by doors that have no tenant header of their own (gRPC).
	TenantOptional bool
	// Address is the client's IP address, for the rate of public routes.
	Address string
	// ID is the request id, for logs and audit entries.
	ID string
}

// Gate admits requests.
type Gate struct {
	cfg       Config
	clock     clock.Clock
	log       *slog.Logger
	providers []Provider
	tenants   *rate.Limiter
	addresses *rate.Limiter
	edge      *[sha256.Size]byte // of the edge's token; nil: there is no edge
}

// New makes a gate. The providers are asked after the static keys, in the order given. It fails when the file of keys cannot be used, or
// when a key is configured twice with different properties.
func New(cfg Config, clk clock.Clock, log *slog.Logger, providers ...Provider) (*Gate, error) {
	keys, err := newKeyring(cfg, log, clk.Now())
	if err != nil {
		return nil, err
	}
	g := &Gate{
		cfg: cfg, clock: clk, log: log, providers: append([]Provider{keys}, providers...),
		tenants: rate.New("tenant", cfg.Protected), addresses: rate.New("address", cfg.Open),
	}
	if cfg.edgeToken != "" {
		sum := sha256.Sum256([]byte(cfg.edgeToken))
		g.edge = &sum
	}
	return g, nil
}

// Share makes the rates hold over all processes that share the table. Without it each process counts by itself.
func (g *Gate) Share(t store.Table) {
	g.tenants.Share(t)
	g.addresses.Share(t)
}

// Production says whether this is a production plane.
func (g *Gate) Production() bool { return g.cfg.Production }

// HidesKey says whether a handshake's answer must not name a subprotocol that has the key in it.
func (g *Gate) HidesKey() bool { return g.cfg.HideKey }

// Origins answers which origins may call.
func (g *Gate) Origins() Origins { return g.cfg.Origins }

// Admit decides about a request to a method with that rule and answers its identity. The faults, in this order: Unauthenticated
// ("unauthorized") or Unavailable, Limited, Denied for the tenant, Denied for the scope or the role, Invalid for the principal. A public method asks for
// no credential; its identity carries the request id alone.
func (g *Gate) Admit(ctx context.Context, r Request, rule Rule) (identity.Identity, error) {
	if rule.Public {
		return identity.Identity{RequestID: r.ID}, g.limit(ctx, g.addresses, r.Address)
	}
	c, err := g.Identify(ctx, r)
	if err != nil {
		return identity.Identity{}, err
	}
	id := identity.Identity{
		Tenant: c.Tenant, Home: c.Tenant, Role: c.Role, CrossTenant: c.CrossTenant, KeyID: c.ID, Pools: c.Pools, RequestID: r.ID,
		User: c.User, Session: c.Session, OpenedBy: c.behind, Expires: c.Expires,
	}
	tenant, err := g.tenant(c, r)
	if err != nil {
		return id, err
	}
	id.Tenant = tenant
	if err := rule.Admits(c); err != nil {
		return id, err
	}
	id.Principal, id.PrincipalFixed, err = g.principal(c, r)
	return id, err
}

// Identify answers the credential of a request and counts the request against the rate of the credential's own tenant: a tenant that is
// merely claimed cannot use up another's. It is Admit for paths that no method has.
func (g *Gate) Identify(ctx context.Context, r Request) (Credential, error) {
	c, err := g.credential(ctx, r)
	if err != nil {
		return Credential{}, g.refused(ctx, r, err)
	}
	return c, g.limit(ctx, g.tenants, c.Tenant)
}

// Current answers a credential that was admitted before, as it is now; found is false when it was revoked or has expired. What keeps somebody in
// for longer than a request asks this now and then. An error says that nobody can tell at present.
func (g *Gate) Current(ctx context.Context, id string) (Credential, bool, error) {
	if id == anonymousID {
		return g.anonymous(), g.cfg.Anonymous, nil
	}
	var unsure error
	for _, p := range g.providers {
		c, found, err := p.Current(ctx, id, g.clock.Now())
		if found && err == nil {
			return g.standing(ctx, c)
		}
		unsure = errors.Join(unsure, err)
	}
	return Credential{}, false, unsure
}

// Still says whether the credential that has opened what lasts would open it today: it is good, a rule admits it, and it fits. A web token is good until it
// expires, whatever happens, which its holder knows.
func (g *Gate) Still(ctx context.Context, id string, rule Rule, fits func(Credential) bool) (bool, error) {
	if lasting(id) {
		return true, nil
	}
	c, found, err := g.Current(ctx, id)
	if err != nil || !found {
		return false, err
	}
	return rule.Admits(c) == nil && fits(c), nil
}

// standing answers a session of an API key as what the key is now; found is false when the key is no longer good.
func (g *Gate) standing(ctx context.Context, c Credential) (as Credential, found bool, err error) {
	if c.behind == "" {
		return c, true, nil
	}
	key, found, err := g.Current(ctx, c.behind)
	if err != nil || !found {
		return Credential{}, false, err
	}
	key.ID, key.Session, key.behind = c.ID, c.Session, c.behind
	if key.Expires.IsZero() || c.Expires.Before(key.Expires) {
		key.Expires = c.Expires
	}
	return key, true, nil
}

// Key answers the credential of an API key that somebody presents in place of a password, found is false for what is none.
func (g *Gate) Key(ctx context.Context, secret string) (c Credential, found bool, err error) {
	c, err = g.byKinds(ctx, unquote(strings.TrimSpace(secret)), APIKey)
	if fault.Is(err, fault.Unauthenticated) {
		return Credential{}, false, nil
	}
	return c, err == nil, err
}

// Tenant is the tenant of those who name none.
func (g *Gate) Tenant() string { return g.cfg.DefaultTenant }

// Session answers the token of the session that a request presents, "" where it presents something else.
func (r Request) Session() string {
	key, _ := single(r.APIKey)
	for _, secret := range []string{bearer(r.Authorization), unquote(key)} {
		if strings.HasPrefix(secret, sessionPrefix) {
			return secret
		}
		if secret != "" {
			break
		}
	}
	return ""
}

func (g *Gate) limit(ctx context.Context, l *rate.Limiter, key string) error {
	if l.Allow(ctx, key, g.clock.Now()) {
		return nil
	}
	return fault.New(fault.Limited, "rate limited")
}

// refused hides why: the caller learns "unauthorized", the log the reason.
func (g *Gate) refused(ctx context.Context, r Request, err error) error {
	if !fault.Is(err, fault.Unauthenticated) {
		return err
	}
	g.log.DebugContext(ctx, "credential refused", "request_id", r.ID, "reason", err.Error())
	return fault.New(fault.Unauthenticated, "unauthorized")
}

var (
	errDoubled  = fault.New(fault.Unauthenticated, "credential header sent more than once")
	errNone     = fault.New(fault.Unauthenticated, "no credential")
	errUnknown  = fault.New(fault.Unauthenticated, "unknown credential")
	errKeyEnded = fault.New(fault.Unauthenticated, "the API key of the session is no longer good")
	errKeysOff  = fault.New(fault.Unauthenticated, "what is no bearer token is switched off by CORDUM_JWT_REQUIRED")
)

// credential takes the first credential that is present; a bad one is not passed over for the next.
func (g *Gate) credential(ctx context.Context, r Request) (Credential, error) {
	key, once := single(r.APIKey)
	if !once || len(r.Authorization) > 1 {
		return Credential{}, errDoubled
	}
	if token := bearer(r.Authorization); token != "" {
		return g.byKinds(ctx, token, bearerKinds(token)...)
	}
	if key = unquote(key); key != "" {
		if g.cfg.TokensOnly {
			return Credential{}, errKeysOff
		}
		if strings.HasPrefix(key, sessionPrefix) {
			return g.byKinds(ctx, key, Session, APIKey)
		}
		return g.byKinds(ctx, key, APIKey)
	}
	if g.cfg.Anonymous && !g.cfg.TokensOnly {
		return g.anonymous(), nil
	}
	return Credential{}, errNone
}

const anonymousID = "anonymous"

func (g *Gate) anonymous() Credential {
	return Credential{ID: anonymousID, Tenant: g.cfg.DefaultTenant, Role: identity.Anonymous, TenantOptional: true}
}

const sessionPrefix = user.TokenPrefix

// bearerKinds tells what a bearer token may be. An API key sent as a bearer token is one that can be nothing else.
func bearerKinds(token string) []Kind {
	switch {
	case strings.HasPrefix(token, sessionPrefix):
		return []Kind{Session, WebToken}
	case strings.Count(token, ".") == 2:
		return []Kind{WebToken}
	default:
		return []Kind{APIKey}
	}
}

// byKinds asks the providers of each kind in turn.
func (g *Gate) byKinds(ctx context.Context, secret string, kinds ...Kind) (Credential, error) {
	for _, kind := range kinds {
		if kind == APIKey && g.cfg.TokensOnly {
			return Credential{}, errKeysOff
		}
		for _, p := range g.providers {
			if p.Kind() != kind {
				continue
			}
			c, found, err := p.Lookup(ctx, secret, g.clock.Now())
			if err != nil {
				return Credential{}, asFault(err)
			}
			if !found {
				continue
			}
			if c, found, err = g.standing(ctx, c); err != nil {
				return Credential{}, asFault(err)
			}
			if !found {
				return Credential{}, errKeyEnded
			}
			return c, nil
		}
	}
	return Credential{}, errUnknown
}

// asFault reads a provider's foreign error as a store that is down: the answer is 503, never 401.
func asFault(err error) error {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f
	}
	return fault.Wrap(fault.Unavailable, err, "service unavailable")
}

// bearer answers the token of the Authorization header, "" for none and for another scheme.
func bearer(values []string) string {
	if len(values) == 0 {
		return ""
	}
	scheme, token, _ := strings.Cut(strings.TrimSpace(values[0]), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// unquote strips one pair of quotes, which shells and .env files leave around keys.
func unquote(key string) string {
	if n := len(key); n >= 2 && key[0] == key[n-1] && (key[0] == '"' || key[0] == '\'') {
		return key[1 : n-1]
	}
	return key
}

// PlainID says whether a request id that a client sent can stand in logs and headers: one word of printable ASCII, at most 128 long.
func PlainID(id string) bool {
	return id != "" && len(id) <= 128 && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' })
}
