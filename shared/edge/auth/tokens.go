package auth

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

// Tokens is the provider of JSON web tokens. Nothing is stored of a token: whoever holds one that an allowed key has signed is who its claims say,
// until it expires. So a token cannot be revoked by itself; its key can, and everybody with it.
type Tokens struct {
	reload func(context.Context) (getenv func(string) string, err error)
	clock  clock.Clock
	log    *slog.Logger

	settings atomic.Pointer[tokenSettings]
	reading  sync.Mutex // held by who reads the settings again
	reloadAt atomic.Int64
}

// maxToken is the largest token: API Gateway takes headers of 10 KiB in all.
const maxToken = 8 << 10

// NewTokens makes the provider of the settings CORDUM_JWT_* of an environment. They are read again every minute, out of what reload answers unless that
// is nil, so that keys can be replaced while the process runs. Without such settings it knows no token.
func NewTokens(getenv func(string) string, reload func(context.Context) (func(string) string, error), clk clock.Clock, log *slog.Logger) (*Tokens, error) {
	t := &Tokens{reload: reload, clock: clk, log: log}
	if reload == nil {
		t.reload = func(context.Context) (func(string) string, error) { return getenv, nil }
	}
	if err := t.read(getenv); err != nil {
		return nil, err
	}
	t.reloadAt.Store(clk.Now().Add(reloadEvery).UnixNano())
	return t, nil
}

// read takes the settings of an environment. The keys that were fetched stay when they are of the same address.
func (t *Tokens) read(getenv func(string) string) error {
	s, err := readTokenSettings(getenv)
	if err != nil {
		return err
	}
	if s.url != "" {
		s.remote = newKeySet(s.url, t.clock, t.log)
		if before := t.settings.Load(); before != nil && before.url == s.url {
			s.remote = before.remote
		}
	}
	t.settings.Store(s)
	return nil
}

// refresh reads the settings again when it is time. One caller does, the others go on with those that there are; so does everybody when the new ones
// are no good.
func (t *Tokens) refresh(ctx context.Context, now time.Time) {
	if now.UnixNano() < t.reloadAt.Load() || !t.reading.TryLock() {
		return
	}
	defer t.reading.Unlock()
	t.reloadAt.Store(now.Add(reloadEvery).UnixNano())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reloadWait)
	defer cancel()
	getenv, err := t.reload(ctx)
	if err == nil {
		err = t.read(getenv)
	}
	if err != nil {
		t.log.ErrorContext(ctx, "settings of web tokens stay as they were", "error", err)
	}
}

// Kind says what these are.
func (t *Tokens) Kind() Kind { return WebToken }

// Current knows no token by its id. What keeps somebody in goes by Credential.Expires.
func (t *Tokens) Current(context.Context, string, time.Time) (Credential, bool, error) {
	return Credential{}, false, nil
}

// Lookup answers who a token stands for. One that cannot be verified, or whose claims say anything that does not hold, is refused.
func (t *Tokens) Lookup(ctx context.Context, token string, now time.Time) (Credential, bool, error) {
	t.refresh(ctx, now)
	s := t.settings.Load()
	if len(s.algorithms) == 0 || !tokenShaped(token) {
		return Credential{}, false, nil
	}
	var unsure error // why keys are missing that might have verified it
	claims := jwt.MapClaims{}
	_, err := s.parser.ParseWithClaims(token, claims, func(parsed *jwt.Token) (keys any, err error) {
		keys, unsure, err = s.keys(ctx, parsed.Header, now)
		return keys, err
	})
	switch {
	case err != nil && unsure != nil:
		return Credential{}, true, fault.Wrap(fault.Unavailable, unsure, "service unavailable")
	case err != nil:
		return Credential{}, true, fault.New(fault.Unauthenticated, "web token: %s", tokenFault(err))
	}
	c, err := s.credential(claims, now)
	if err != nil {
		return Credential{}, true, fault.New(fault.Unauthenticated, "web token: %s", err.Error())
	}
	return c, true, nil
}

// tokenShaped says whether a text can be a token: three segments of base64url without padding, and not too long. The decoder would pass over
// the ends of lines.
func tokenShaped(text string) bool {
	dots := 0
	for _, r := range text {
		switch {
		case r == '.':
			dots++
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
		default:
			return false
		}
	}
	return dots == 2 && len(text) <= maxToken
}

// tokenFault is why a token was not read, in words that repeat nothing of it.
func tokenFault(err error) string {
	for _, known := range []error{errTokenHeader, errTokenKey, jwt.ErrTokenMalformed, jwt.ErrTokenSignatureInvalid} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "it is not signed by an algorithm that is allowed"
}

var (
	errTokenHeader = errors.New("its header asks for what is not supported")
	errTokenKey    = errors.New("its key is not known")
)

// keys answers what may have signed a token with that header: a key serves one algorithm alone, and the parser has looked at the algorithm. unsure is why
// some keys are missing.
func (s *tokenSettings) keys(ctx context.Context, header map[string]any, now time.Time) (keys any, unsure, err error) {
	if _, critical := header["crit"]; critical { // extensions that must be understood, and are not
		return nil, nil, errTokenHeader
	}
	kid, text := header["kid"].(string)
	if _, sent := header["kid"]; sent && !text {
		return nil, nil, errTokenHeader
	}
	if header["alg"] == algorithmSecret {
		return s.secret, nil, nil
	}
	var set jwt.VerificationKeySet
	for _, key := range s.public {
		set.Keys = append(set.Keys, key)
	}
	if s.remote != nil && kid != "" {
		var found []*rsa.PublicKey
		found, unsure = s.remote.find(ctx, kid, now)
		for _, key := range found {
			set.Keys = append(set.Keys, key)
		}
	}
	if len(set.Keys) == 0 {
		return nil, unsure, errTokenKey
	}
	return set, unsure, nil
}

// Why claims are refused.
var (
	errClaimType    = errors.New("a claim is of a wrong type")
	errNoExpiry     = errors.New("it has no expiry")
	errExpired      = errors.New("it has expired")
	errNotYet       = errors.New("it does not hold yet")
	errIssuer       = errors.New("it is another issuer's")
	errAudience     = errors.New("it is for another audience")
	errClaimRole    = errors.New("its role is none that a token may have")
	errClaimTenant  = errors.New("its tenant is not a tenant's name")
	errClaimSubject = errors.New("its subject is not a principal's name")
	errClaimPools   = errors.New("a worker's token names its pools, and no other does")
)

// credential reads the claims of a token that is signed as it should be.
func (s *tokenSettings) credential(claims jwt.MapClaims, now time.Time) (Credential, error) {
	c := reader{claims: claims}
	expires := c.moment("exp")
	before := c.moment("nbf")
	issuer, id := c.text("iss"), c.text("jti")
	audience := c.texts("aud", true)
	role := c.role(s.role)
	tenant, principal := c.first("tenant", "tenant_id"), c.first("sub", "principal_id")
	cross := c.flag("allow_cross_tenant")
	pools := c.texts("pools", false)
	if tenant == "" {
		tenant = s.tenant
	}
	switch {
	case c.wrong:
		return Credential{}, errClaimType
	case expires.IsZero():
		return Credential{}, errNoExpiry
	case now.After(expires.Add(s.skew)):
		return Credential{}, errExpired
	case now.Add(s.skew).Before(before):
		return Credential{}, errNotYet
	case issuer != s.issuer:
		return Credential{}, errIssuer
	case s.audience != "" && !slices.Contains(audience, s.audience):
		return Credential{}, errAudience
	case role == "" || role == identity.Anonymous || role == identity.Worker && !s.workers:
		return Credential{}, errClaimRole
	case !validTenant(tenant):
		return Credential{}, errClaimTenant
	case !validPrincipal(principal):
		return Credential{}, errClaimSubject
	case (role == identity.Worker) != (len(pools) > 0), len(pools) > maxPools, slices.Contains(pools, ""):
		return Credential{}, errClaimPools
	}
	return Credential{
		ID: tokenID(issuer, tenant, principal, id), Tenant: tenant, Role: role, Principal: principal, CrossTenant: cross, Pools: pools,
		Expires: expires.Add(s.skew),
	}, nil
}

// tokenPrefix begins the id of every token.
const tokenPrefix = "jwt-"

// tokenID names a token in logs: a hash of whose it is, which says nothing of the signature.
func tokenID(parts ...string) string {
	h := sha256.New()
	h.Write([]byte("cordum token id"))
	for _, part := range parts {
		sum := sha256.Sum256([]byte(part)) // each of the same length, so that no two lists of parts are alike
		h.Write(sum[:])
	}
	return tokenPrefix + hex.EncodeToString(h.Sum(nil)[:8])
}

// lasting says whether a credential's id is of one that holds until it expires, whatever happens: a web token.
func lasting(id string) bool { return strings.HasPrefix(id, tokenPrefix) }

// reader takes claims, and notes when one is of a wrong type. A claim that is null is absent.
type reader struct {
	claims jwt.MapClaims
	wrong  bool
}

func (r *reader) text(name string) string {
	v, there := r.claims[name]
	text, ok := v.(string)
	r.wrong = r.wrong || there && v != nil && !ok
	return text
}

// first answers the first of two claims that is not empty; both must be texts.
func (r *reader) first(name, other string) string {
	a, b := r.text(name), r.text(other)
	if a != "" {
		return a
	}
	return b
}

// texts answers a list; alone says that one text stands for a list of it.
func (r *reader) texts(name string, alone bool) []string {
	var out []string
	switch v := r.claims[name].(type) {
	case nil:
	case string:
		r.wrong = r.wrong || !alone
		out = []string{v}
	case []any:
		for _, item := range v {
			text, ok := item.(string)
			r.wrong = r.wrong || !ok
			out = append(out, text)
		}
	default:
		r.wrong = true
	}
	return out
}

// role answers the claim role, or the first of roles, or what is the rule without either; "" is a word that is no role.
func (r *reader) role(otherwise identity.Role) identity.Role {
	word, list := r.text("role"), r.texts("roles", false)
	switch {
	case word != "":
	case len(list) > 0:
		word = list[0]
	default:
		return otherwise
	}
	role, _ := identity.ParseRole(word)
	return role
}

// lastMoment is the end of the year 9999.
const lastMoment = 253402300799

// moment answers a time in seconds since the epoch, which may have a fraction.
func (r *reader) moment(name string) time.Time {
	v, there := r.claims[name]
	if !there || v == nil {
		return time.Time{}
	}
	number, ok := v.(json.Number)
	seconds, err := number.Float64()
	if !ok || err != nil || seconds < 0 || seconds > lastMoment {
		r.wrong = true
		return time.Time{}
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9))
}

// flag reads a yes or no: true, "true", "1", or a number that is not zero.
func (r *reader) flag(name string) bool {
	switch v := r.claims[name].(type) {
	case nil:
		return false
	case bool:
		return v
	case json.Number:
		n, err := v.Float64()
		r.wrong = r.wrong || err != nil
		return err == nil && n != 0
	case string:
		switch strings.ToLower(strings.TrimSpace(v)) {
		case "true", "1":
			return true
		case "false", "0", "":
			return false
		}
	}
	r.wrong = true
	return false
}
