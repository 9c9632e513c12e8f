package auth_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
)

const hmacSecret = "0123456789abcdef0123456789abcdef"

// Keys are made once: it takes a while.
var (
	keyA = sync.OnceValue(newRSA)
	keyB = sync.OnceValue(newRSA)
)

func newRSA() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}

func pkix(key *rsa.PrivateKey) string {
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func pkcs1(key *rsa.PrivateKey) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&key.PublicKey)}))
}

func tokens(t testing.TB, e env, clk *hand) *auth.Tokens {
	t.Helper()
	p, err := auth.NewTokens(e.get, nil, clk, silent())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

type claims = jwt.MapClaims

// good are the claims of a token that is good for an hour.
func good(clk *hand, change claims) claims {
	c := claims{"iss": "cordum-dev", "sub": "ada", "tenant": "acme", "role": "user", "exp": clk.now.Add(time.Hour).Unix()}
	maps.Copy(c, change)
	return c
}

// sign makes a token; the key decides by which algorithm.
func sign(t testing.TB, c claims, key any, header ...any) string {
	t.Helper()
	var method jwt.SigningMethod = jwt.SigningMethodHS256
	switch k := key.(type) {
	case *rsa.PrivateKey:
		method = jwt.SigningMethodRS256
	case string:
		key = []byte(k)
	}
	token := jwt.NewWithClaims(method, c)
	for i := 0; i+1 < len(header); i += 2 {
		token.Header[header[i].(string)] = header[i+1]
	}
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// look is what a provider says of a token: "ok", "unknown", "unavailable", or why it refuses it.
func look(p *auth.Tokens, token string, now time.Time) (auth.Credential, string) {
	c, found, err := p.Lookup(context.Background(), token, now)
	switch {
	case fault.Is(err, fault.Unavailable):
		return c, "unavailable"
	case err != nil:
		if !fault.Is(err, fault.Unauthenticated) || strings.Contains(err.Error(), token) {
			return c, "a bad refusal: " + err.Error()
		}
		return c, strings.TrimPrefix(err.Error(), "web token: ")
	case !found:
		return c, "unknown"
	}
	return c, "ok"
}

func TestTokenClaims(t *testing.T) {
	clk := at()
	now := clk.now.Unix()
	e := env{"CORDUM_JWT_HMAC_SECRET": hmacSecret, "TENANT_ID": "home"}
	base := auth.Credential{Tenant: "acme", Role: identity.User, Principal: "ada", Expires: clk.now.Add(time.Hour)}
	with := func(change func(*auth.Credential)) *auth.Credential { c := base; change(&c); return &c }
	role := func(r identity.Role) *auth.Credential { return with(func(c *auth.Credential) { c.Role = r }) }
	const wrong = "a claim is of a wrong type"
	tests := []struct {
		name   string
		env    []string
		change claims
		want   *auth.Credential // nil: refused
		why    string
	}{
		{"all as it should be", nil, nil, &base, ""},
		{"no expiry", nil, claims{"exp": nil}, nil, "it has no expiry"},
		{"expiry that is text", nil, claims{"exp": fmt.Sprint(now + 60)}, nil, wrong},
		{"expiry below zero", nil, claims{"exp": -1}, nil, wrong},
		{"expiry beyond all years", nil, claims{"exp": 1e300}, nil, wrong},
		{"expiry now", nil, claims{"exp": now}, with(func(c *auth.Credential) { c.Expires = clk.now }), ""},
		{"expired", nil, claims{"exp": now - 1}, nil, "it has expired"},
		{"expired by half a second", nil, claims{"exp": float64(now) - 0.5}, nil, "it has expired"},
		{"expired within the skew", []string{"CORDUM_JWT_CLOCK_SKEW", "30s"}, claims{"exp": now - 30}, with(func(c *auth.Credential) { c.Expires = clk.now }), ""},
		{"expired beyond the skew", []string{"CORDUM_JWT_CLOCK_SKEW", "30s"}, claims{"exp": now - 31}, nil, "it has expired"},
		{"not yet", nil, claims{"nbf": now + 1}, nil, "it does not hold yet"},
		{"from now on", nil, claims{"nbf": now}, &base, ""},
		{"not yet, within the skew", []string{"CORDUM_JWT_CLOCK_SKEW", "5m"}, claims{"nbf": now + 300}, with(func(c *auth.Credential) { c.Expires = clk.now.Add(65 * time.Minute) }), ""},
		{"not yet, as text", nil, claims{"nbf": "0"}, nil, wrong},
		{"another issuer", nil, claims{"iss": "cordum"}, nil, "it is another issuer's"},
		{"no issuer", nil, claims{"iss": nil}, nil, "it is another issuer's"},
		{"issuer in a list", nil, claims{"iss": []string{"cordum-dev"}}, nil, wrong},
		{"the issuer that is named", []string{"CORDUM_JWT_ISSUER", "https://id.example.com"}, claims{"iss": "https://id.example.com"}, &base, ""},
		{"the issuer by default in production", []string{"CORDUM_ENV", "production", "CORDUM_JWT_AUDIENCE", "api"}, claims{"iss": "cordum", "aud": "api"}, &base, ""},
		{"the issuer of development in production", []string{"CORDUM_ENV", "production", "CORDUM_JWT_AUDIENCE", "api"}, claims{"aud": "api"}, nil, "it is another issuer's"},
		{"any audience where none is set", nil, claims{"aud": "other"}, &base, ""},
		{"the audience", []string{"CORDUM_JWT_AUDIENCE", "api"}, claims{"aud": "api"}, &base, ""},
		{"the audience among others", []string{"CORDUM_JWT_AUDIENCE", "api"}, claims{"aud": []string{"x", "api"}}, &base, ""},
		{"another audience", []string{"CORDUM_JWT_AUDIENCE", "api"}, claims{"aud": "api2"}, nil, "it is for another audience"},
		{"no audience", []string{"CORDUM_JWT_AUDIENCE", "api"}, nil, nil, "it is for another audience"},
		{"no audience in a list", []string{"CORDUM_JWT_AUDIENCE", "api"}, claims{"aud": []string{}}, nil, "it is for another audience"},
		{"audience that is a number", nil, claims{"aud": 7}, nil, wrong},
		{"audience of numbers", nil, claims{"aud": []int{7}}, nil, wrong},
		{"a role in capitals", nil, claims{"role": " Admin "}, role(identity.Admin), ""},
		{"secops", nil, claims{"role": "secops"}, role(identity.Admin), ""},
		{"a role that is none", nil, claims{"role": "owner"}, nil, "its role is none that a token may have"},
		{"anonymous", nil, claims{"role": "anonymous"}, nil, "its role is none that a token may have"},
		{"role of a number", nil, claims{"role": 1}, nil, wrong},
		{"the first of roles", nil, claims{"role": nil, "roles": []string{"operator", "admin"}}, role(identity.Operator), ""},
		{"role before roles", nil, claims{"roles": []string{"admin"}}, &base, ""},
		{"roles that begin with none", nil, claims{"role": "", "roles": []string{"offline_access", "admin"}}, nil, "its role is none that a token may have"},
		{"roles that are text", nil, claims{"roles": "admin"}, nil, wrong},
		{"roles of numbers", nil, claims{"roles": []any{"admin", 1}}, nil, wrong},
		{"no role", nil, claims{"role": nil}, role(identity.Viewer), ""},
		{"no role, with another default", []string{"CORDUM_JWT_DEFAULT_ROLE", "operator"}, claims{"role": nil, "roles": []string{}}, role(identity.Operator), ""},
		{"tenant_id", nil, claims{"tenant": nil, "tenant_id": "b"}, with(func(c *auth.Credential) { c.Tenant = "b" }), ""},
		{"tenant before tenant_id", nil, claims{"tenant_id": "b"}, &base, ""},
		{"no tenant", nil, claims{"tenant": ""}, with(func(c *auth.Credential) { c.Tenant = "home" }), ""},
		{"a tenant that is none", nil, claims{"tenant": "a#b"}, nil, "its tenant is not a tenant's name"},
		{"tenant of a number", nil, claims{"tenant": 1}, nil, wrong},
		{"principal_id", nil, claims{"sub": nil, "principal_id": "bot"}, with(func(c *auth.Credential) { c.Principal = "bot" }), ""},
		{"no principal", nil, claims{"sub": nil}, with(func(c *auth.Credential) { c.Principal = "" }), ""},
		{"a principal that is none", nil, claims{"sub": "a\nb"}, nil, "its subject is not a principal's name"},
		{"a long principal", nil, claims{"sub": strings.Repeat("a", 257)}, nil, "its subject is not a principal's name"},
		{"principal of a list", nil, claims{"sub": []string{"ada"}}, nil, wrong},
		{"every tenant", nil, claims{"allow_cross_tenant": true}, with(func(c *auth.Credential) { c.CrossTenant = true }), ""},
		{"every tenant, as text", nil, claims{"allow_cross_tenant": "true"}, with(func(c *auth.Credential) { c.CrossTenant = true }), ""},
		{"every tenant, as one", nil, claims{"allow_cross_tenant": "1"}, with(func(c *auth.Credential) { c.CrossTenant = true }), ""},
		{"every tenant, as a number", nil, claims{"allow_cross_tenant": 2}, with(func(c *auth.Credential) { c.CrossTenant = true }), ""},
		{"one tenant", nil, claims{"allow_cross_tenant": "false"}, &base, ""},
		{"one tenant, as a number", nil, claims{"allow_cross_tenant": 0}, &base, ""},
		{"perhaps every tenant", nil, claims{"allow_cross_tenant": "perhaps"}, nil, wrong},
		{"every tenant of a list", nil, claims{"allow_cross_tenant": []bool{true}}, nil, wrong},
		{"a claim in capitals is another", nil, claims{"ROLE": "admin", "Tenant": "b"}, &base, ""},
		{"worker", nil, claims{"role": "worker", "pools": []string{"etl"}}, nil, "its role is none that a token may have"},
		{"worker where workers may", []string{"CORDUM_JWT_WORKERS", "true"}, claims{"role": "worker", "pools": []string{"etl"}},
			with(func(c *auth.Credential) { c.Role, c.Pools = identity.Worker, []string{"etl"} }), ""},
		{"worker without pools", []string{"CORDUM_JWT_WORKERS", "true"}, claims{"role": "worker"}, nil, "a worker's token names its pools, and no other does"},
		{"pools without worker", []string{"CORDUM_JWT_WORKERS", "true"}, claims{"pools": []string{"etl"}}, nil, "a worker's token names its pools, and no other does"},
		{"a pool without a name", []string{"CORDUM_JWT_WORKERS", "true"}, claims{"role": "worker", "pools": []string{""}}, nil, "a worker's token names its pools, and no other does"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, why := look(tokens(t, e.with(tt.env...), clk), sign(t, good(clk, tt.change), hmacSecret), clk.now)
			if tt.want == nil {
				if why != tt.why || !reflect.DeepEqual(got, auth.Credential{}) {
					t.Errorf("%s, want %s (%+v)", why, tt.why, got)
				}
				return
			}
			if why != "ok" || !strings.HasPrefix(got.ID, "jwt-") || !auth.Lasting(got.ID) {
				t.Fatal(why, got.ID)
			}
			got.ID = ""
			if !got.Expires.Equal(tt.want.Expires) {
				t.Errorf("expires %v, want %v", got.Expires, tt.want.Expires)
			}
			got.Expires = tt.want.Expires
			if !reflect.DeepEqual(got, *tt.want) {
				t.Errorf("%+v, want %+v", got, *tt.want)
			}
		})
	}
}

func segment(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// A token is taken only when it is signed by a configured key with that key's own algorithm, whatever its header says.
func TestTokenSignatures(t *testing.T) {
	clk := at()
	secret, public, both := env{"CORDUM_JWT_HMAC_SECRET": hmacSecret}, env{"CORDUM_JWT_PUBLIC_KEY": pkix(keyA())}, env{"CORDUM_JWT_HMAC_SECRET": hmacSecret}
	both = both.with("CORDUM_JWT_PUBLIC_KEY", pkcs1(keyA()))
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, []byte(pkix(keyB())+"\n"+pkix(keyA())), 0o600); err != nil {
		t.Fatal(err)
	}
	hs, rs := sign(t, good(clk, nil), hmacSecret), sign(t, good(clk, nil), keyA())
	parts := strings.Split(hs, ".")
	raw := func(header string) string { // signed by the secret, whatever the header says
		head := segment(header) + "." + parts[1]
		return head + "." + base64.RawURLEncoding.EncodeToString(hmacOf(hmacSecret, head))
	}
	confused := func(key string) string { // the public key as a secret
		head := segment(`{"alg":"HS256"}`) + "." + parts[1]
		return head + "." + base64.RawURLEncoding.EncodeToString(hmacOf(key, head))
	}
	flipped := []byte(rs)
	if at := len(rs) - 10; flipped[at] == 'A' {
		flipped[at] = 'B'
	} else {
		flipped[at] = 'A'
	}
	const algorithm = "it is not signed by an algorithm that is allowed"
	tests := []struct {
		name  string
		env   env
		token string
		want  string
	}{
		{"secret", secret, hs, "ok"},
		{"secret in base64", env{"CORDUM_JWT_HMAC_SECRET": "base64:" + base64.StdEncoding.EncodeToString([]byte(hmacSecret))}, hs, "ok"},
		{"public key, PKIX", public, rs, "ok"},
		{"public key, PKCS#1", both, rs, "ok"},
		{"public key in one line", env{"CORDUM_JWT_PUBLIC_KEY": strings.ReplaceAll(pkix(keyA()), "\n", `\n`)}, rs, "ok"},
		{"public keys in a file", env{"CORDUM_JWT_PUBLIC_KEY_PATH": path}, rs, "ok"},
		{"both keys, secret", both, hs, "ok"},
		{"no key at all", env{}, hs, "unknown"},
		{"another secret", secret, sign(t, good(clk, nil), hmacSecret+"x"), jwt.ErrTokenSignatureInvalid.Error()},
		{"another private key", public, sign(t, good(clk, nil), keyB()), jwt.ErrTokenSignatureInvalid.Error()},
		{"HS256 where only RS256 is configured", public, hs, jwt.ErrTokenSignatureInvalid.Error()},
		{"RS256 where only HS256 is configured", secret, rs, jwt.ErrTokenSignatureInvalid.Error()},
		{"the public key as the secret, PKIX", public, confused(pkix(keyA())), jwt.ErrTokenSignatureInvalid.Error()},
		{"the public key as the secret, beside one", both, confused(pkcs1(keyA())), jwt.ErrTokenSignatureInvalid.Error()},
		{"none", secret, raw(`{"alg":"none"}`), jwt.ErrTokenSignatureInvalid.Error()},
		{"none without a signature", secret, segment(`{"alg":"none"}`) + "." + parts[1] + ".", jwt.ErrTokenSignatureInvalid.Error()},
		{"None", secret, raw(`{"alg":"None"}`), algorithm},
		{"hs256 in small letters", secret, raw(`{"alg":"hs256"}`), algorithm},
		{"HS512", secret, raw(`{"alg":"HS512"}`), jwt.ErrTokenSignatureInvalid.Error()},
		{"PS256", public, raw(`{"alg":"PS256"}`), jwt.ErrTokenSignatureInvalid.Error()},
		{"no algorithm", secret, raw(`{}`), algorithm},
		{"algorithm of a list", secret, raw(`{"alg":["HS256"]}`), algorithm},
		{"an extension that must be understood", secret, raw(`{"alg":"HS256","crit":["b64"],"b64":false}`), "its header asks for what is not supported"},
		{"a key id that is a number", secret, raw(`{"alg":"HS256","kid":7}`), "its header asks for what is not supported"},
		{"a key of its own", public, sign(t, good(clk, nil), keyB(), "jwk", map[string]any{"kty": "RSA"}, "jku", "https://evil.example"), jwt.ErrTokenSignatureInvalid.Error()},
		{"signature changed", public, string(flipped), jwt.ErrTokenSignatureInvalid.Error()},
		{"claims changed", secret, parts[0] + "." + segment(`{"iss":"cordum-dev","exp":9999999999}`) + "." + parts[2], jwt.ErrTokenSignatureInvalid.Error()},
		{"no signature", secret, parts[0] + "." + parts[1] + ".", jwt.ErrTokenSignatureInvalid.Error()},
		{"two segments", secret, parts[0] + "." + parts[1], "unknown"},
		{"four segments", secret, hs + ".x", "unknown"},
		{"padding", secret, hs + "=", "unknown"},
		{"the end of a line", secret, hs[:9] + "\n" + hs[9:], "unknown"},
		{"too long", secret, sign(t, good(clk, claims{"more": strings.Repeat("a", 8192)}), hmacSecret), "unknown"},
		{"header of no JSON", secret, segment(`{`) + "." + parts[1] + "." + parts[2], jwt.ErrTokenMalformed.Error()},
		{"claims of no object", secret, signedText(`[]`), jwt.ErrTokenMalformed.Error()},
		{"claims of null", secret, signedText(`null`), "it has no expiry"},
		{"nothing", secret, "..", jwt.ErrTokenMalformed.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, got := look(tokens(t, tt.env, clk), tt.token, clk.now); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func hmacOf(key, text string) []byte {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(text))
	return h.Sum(nil)
}

// signedText is a token of the secret whose claims are any text.
func signedText(text string) string {
	head := segment(`{"alg":"HS256"}`) + "." + segment(text)
	return head + "." + base64.RawURLEncoding.EncodeToString(hmacOf(hmacSecret, head))
}

func TestTokenIDs(t *testing.T) {
	clk := at()
	p := tokens(t, env{"CORDUM_JWT_HMAC_SECRET": hmacSecret}, clk)
	seen := map[string]string{}
	for name, change := range map[string]claims{
		"ada": {}, "ben": {"sub": "ben"}, "another tenant": {"tenant": "b"}, "a token with an id": {"jti": "1"}, "another": {"jti": "2"},
	} {
		c, why := look(p, sign(t, good(clk, change), hmacSecret), clk.now)
		again, _ := look(p, sign(t, good(clk, change), hmacSecret, "typ", "at+jwt"), clk.now)
		if why != "ok" || c.ID != again.ID || strings.Contains(c.ID, "ada") {
			t.Errorf("%s: %s, %s and %s", name, why, c.ID, again.ID)
		}
		if other := seen[c.ID]; other != "" {
			t.Errorf("%s and %s are both %s", name, other, c.ID)
		}
		seen[c.ID] = name
	}
	if _, found, err := p.Current(t.Context(), "jwt-0011223344556677", clk.now); found || err != nil {
		t.Error("the provider keeps tokens", found, err)
	}
}

func TestTokenSettingsThatAreWrong(t *testing.T) {
	const secret = "SECRET-SECRET"
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	private := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(keyA())}))
	for name, tt := range map[string]struct {
		env  env
		want string
	}{
		"secret of no base64":        {env{"CORDUM_JWT_HMAC_SECRET": "base64:" + secret + "%"}, "CORDUM_JWT_HMAC_SECRET begins with base64:"},
		"secret of nothing":          {env{"CORDUM_JWT_HMAC_SECRET": "base64:"}, "CORDUM_JWT_HMAC_SECRET is shorter"},
		"short secret in production": {env{"CORDUM_JWT_HMAC_SECRET": secret, "CORDUM_ENV": "production", "CORDUM_JWT_AUDIENCE": "a"}, "CORDUM_JWT_HMAC_SECRET is shorter"},
		"no audience in production":  {env{"CORDUM_JWT_HMAC_SECRET": hmacSecret, "CORDUM_ENV": "production"}, "CORDUM_JWT_AUDIENCE must be set"},
		"no key":                     {env{"CORDUM_JWT_PUBLIC_KEY": secret}, "CORDUM_JWT_PUBLIC_KEY: it is not"},
		"private key":                {env{"CORDUM_JWT_PUBLIC_KEY": private}, "CORDUM_JWT_PUBLIC_KEY: it is not"},
		"key and more":               {env{"CORDUM_JWT_PUBLIC_KEY": pkix(keyA()) + secret}, "CORDUM_JWT_PUBLIC_KEY: it is not"},
		"small key":                  {env{"CORDUM_JWT_PUBLIC_KEY": pkix(small)}, "CORDUM_JWT_PUBLIC_KEY: an RSA key has 2048 to 8192 bits"},
		"key twice":                  {env{"CORDUM_JWT_PUBLIC_KEY": pkix(keyA()), "CORDUM_JWT_PUBLIC_KEY_PATH": "x"}, "not both"},
		"no file":                    {env{"CORDUM_JWT_PUBLIC_KEY_PATH": "/nowhere"}, "CORDUM_JWT_PUBLIC_KEY_PATH: open"},
		"http":                       {env{"CORDUM_JWT_JWKS_URL": "http://id.example.com/keys"}, "CORDUM_JWT_JWKS_URL must be https"},
		"http in production": {env{"CORDUM_JWT_JWKS_URL": "http://id.example.com/keys", "CORDUM_JWT_JWKS_ALLOW_HTTP": "true", "CORDUM_ENV": "production", "CORDUM_JWT_AUDIENCE": "a"},
			"CORDUM_JWT_JWKS_URL must be https"},
		"no address":             {env{"CORDUM_JWT_JWKS_URL": "file:///etc/keys"}, "CORDUM_JWT_JWKS_URL is not an address"},
		"address with a user":    {env{"CORDUM_JWT_JWKS_URL": "https://u:" + secret + "@id.example.com"}, "CORDUM_JWT_JWKS_URL is not an address"},
		"skew of words":          {env{"CORDUM_JWT_CLOCK_SKEW": "much"}, "CORDUM_JWT_CLOCK_SKEW must be"},
		"skew too large":         {env{"CORDUM_JWT_CLOCK_SKEW": "5m1s"}, "CORDUM_JWT_CLOCK_SKEW must be"},
		"skew below zero":        {env{"CORDUM_JWT_CLOCK_SKEW": "-1s"}, "CORDUM_JWT_CLOCK_SKEW must be"},
		"default role of worker": {env{"CORDUM_JWT_DEFAULT_ROLE": "worker"}, "CORDUM_JWT_DEFAULT_ROLE must be"},
		"default role of nobody": {env{"CORDUM_JWT_DEFAULT_ROLE": "owner"}, "CORDUM_JWT_DEFAULT_ROLE must be"},
		"flag":                   {env{"CORDUM_JWT_WORKERS": "some"}, "CORDUM_JWT_WORKERS must be true or false"},
	} {
		_, err := auth.NewTokens(tt.env.get, nil, at(), silent())
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
}

// Keys are replaced while the process runs; settings that are no good leave those that there were.
func TestTokenSettingsAreReadAgain(t *testing.T) {
	clk := at()
	now := env{"CORDUM_JWT_HMAC_SECRET": hmacSecret}
	var failing error
	p, err := auth.NewTokens(now.get, func(context.Context) (func(string) string, error) { return now.get, failing }, clk, silent())
	if err != nil {
		t.Fatal(err)
	}
	old := sign(t, good(clk, nil), hmacSecret)
	next := sign(t, good(clk, nil), "another secret of the same issuer")
	check := func(when, wantOld, wantNew string) {
		t.Helper()
		_, a := look(p, old, clk.now)
		_, b := look(p, next, clk.now)
		if a != wantOld || b != wantNew {
			t.Errorf("%s: %q and %q", when, a, b)
		}
	}
	const no = "token signature is invalid"
	check("at first", "ok", no)
	now = env{"CORDUM_JWT_HMAC_SECRET": "another secret of the same issuer"}
	check("before a minute is over", "ok", no)
	clk.now = clk.now.Add(time.Minute)
	failing = errors.New("no secrets")
	check("when nobody answers", "ok", no)
	clk.now, failing = clk.now.Add(time.Minute), nil
	check("after another", no, "ok")
	clk.now, now = clk.now.Add(time.Minute), env{"CORDUM_JWT_HMAC_SECRET": "x", "CORDUM_JWT_CLOCK_SKEW": "much"}
	check("with settings that are no good", no, "ok")
	clk.now, now = clk.now.Add(time.Minute), env{}
	check("without settings", "unknown", "unknown")
}

// issuer publishes keys, and counts how often it is asked.
type issuer struct {
	*httptest.Server
	mu    sync.Mutex
	body  string
	code  int
	wait  chan struct{}
	asked atomic.Int32
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{code: 200}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		i.mu.Lock()
		body, code, wait := i.body, i.code, i.wait
		i.mu.Unlock()
		if wait != nil {
			select {
			case <-wait:
			case <-r.Context().Done():
			}
		}
		if code/100 == 3 {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) says(code int, body string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.code, i.body = code, body
}

func (i *issuer) env() env {
	return env{"CORDUM_JWT_JWKS_URL": i.URL + "/keys", "CORDUM_JWT_JWKS_ALLOW_HTTP": "true"}
}

// published is a set of keys: id, key, id, key ...
func published(pairs ...any) string {
	set := map[string][]map[string]any{"keys": {}}
	for i := 0; i+1 < len(pairs); i += 2 {
		key := pairs[i+1].(*rsa.PrivateKey)
		set["keys"] = append(set["keys"], map[string]any{"kty": "RSA", "kid": pairs[i], "use": "sig", "alg": "RS256",
			"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes())})
	}
	text, _ := json.Marshal(set)
	return string(text)
}

func TestPublishedKeys(t *testing.T) {
	clk := at()
	i := newIssuer(t)
	i.says(200, published("a", keyA()))
	p := tokens(t, i.env(), clk)
	long := good(clk, claims{"exp": clk.now.Add(100 * time.Hour).Unix()})
	a, b := sign(t, long, keyA(), "kid", "a"), sign(t, long, keyB(), "kid", "b")
	expect := func(when, token, want string, asked int32) {
		t.Helper()
		if _, got := look(p, token, clk.now); got != want || i.asked.Load() != asked {
			t.Errorf("%s: %q after %d requests, want %q after %d", when, got, i.asked.Load(), want, asked)
		}
	}
	const unknown = "its key is not known"
	if i.asked.Load() != 0 {
		t.Error("a process that starts waits for the issuer")
	}
	expect("the first token", a, "ok", 1)
	expect("the second", a, "ok", 1)
	expect("no key id", sign(t, long, keyA()), unknown, 1)
	expect("the other key's id", sign(t, long, keyB(), "kid", "a"), "token signature is invalid", 1)
	expect("a key that is not published, at once", b, unknown, 1)
	clk.now = clk.now.Add(30 * time.Second)
	expect("the same after half a minute", b, unknown, 2)
	for range 100 {
		expect("again and again", b, unknown, 2)
	}
	i.says(200, published("a", keyA(), "b", keyB()))
	clk.now = clk.now.Add(30 * time.Second)
	expect("when it is published", b, "ok", 3)
	clk.now = clk.now.Add(9 * time.Minute)
	expect("within ten minutes", a, "ok", 3)
	i.says(500, "")
	clk.now = clk.now.Add(time.Minute)
	expect("when the issuer is down, the keys stay", a, "ok", 4)
	expect("and it is left in peace", a, "ok", 4)
	expect("but nobody knows of others", sign(t, long, keyB(), "kid", "c"), "unavailable", 4)
	clk.now = clk.now.Add(time.Minute)
	expect("it is asked again", a, "ok", 5)
	clk.now = clk.now.Add(24 * time.Hour)
	expect("after a day nobody believes the old keys", a, "unavailable", 6)
	i.says(200, published("b", keyB()))
	clk.now = clk.now.Add(time.Minute)
	expect("a key that was withdrawn", a, unknown, 7)
	expect("the one that stayed", b, "ok", 7)
}

// However many ask at once, the issuer is asked once, and all of them get its answer, also when the one whose request it was has gone.
func TestPublishedKeysAreFetchedOnce(t *testing.T) {
	clk := at()
	i := newIssuer(t)
	i.says(200, published("a", keyA()))
	i.wait = make(chan struct{})
	p := tokens(t, i.env(), clk)
	token := sign(t, good(clk, nil), keyA(), "kid", "a")
	gone, leave := context.WithCancel(t.Context())
	go func() { _, _, _ = p.Lookup(gone, token, clk.now) }()
	for i.asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	leave()
	var all sync.WaitGroup
	var fine atomic.Int32
	for range 50 {
		all.Go(func() {
			if _, found, err := p.Lookup(t.Context(), token, clk.now); found && err == nil {
				fine.Add(1)
			}
		})
	}
	time.Sleep(20 * time.Millisecond) // they wait; whether they do yet changes nothing of what is expected
	close(i.wait)
	all.Wait()
	if fine.Load() != 50 || i.asked.Load() != 1 {
		t.Errorf("%d of 50 were let in, the issuer was asked %d times", fine.Load(), i.asked.Load())
	}
}

func TestPublishedKeysThatAreNoGood(t *testing.T) {
	clk := at()
	token := sign(t, good(clk, nil), keyA(), "kid", "a")
	fine := published("a", keyA())
	patch := func(old, repl string) string { return strings.Replace(fine, old, repl, 1) }
	many := make([]any, 0, 202)
	for n := range 101 {
		many = append(many, fmt.Sprint(n), keyA())
	}
	for name, tt := range map[string]struct {
		code int
		body string
		want string
	}{
		"fine":                          {200, fine, "ok"},
		"a key for encryption":          {200, patch(`"sig"`, `"enc"`), "its key is not known"},
		"a key of another algorithm":    {200, patch(`"RS256"`, `"RS512"`), "its key is not known"},
		"a key of another kind":         {200, patch(`"RSA"`, `"EC"`), "its key is not known"},
		"a symmetric key":               {200, `{"keys":[{"kty":"oct","kid":"a","k":"` + segment(hmacSecret) + `"}]}`, "its key is not known"},
		"a key that only signs":         {200, patch(`"use"`, `"key_ops":["sign"],"use"`), "its key is not known"},
		"no keys":                       {200, `{"keys":[]}`, "its key is not known"},
		"no set":                        {200, `{}`, "unavailable"},
		"no JSON":                       {200, `<html>`, "unavailable"},
		"a modulus that is none":        {200, patch(`"n":"`, `"n":"%`), "unavailable"},
		"a small modulus":               {200, `{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}]}`, "unavailable"},
		"an even exponent":              {200, patch(`"AQAB"`, `"AQAA"`), "unavailable"},
		"more keys than anybody has":    {200, published(many...), "unavailable"},
		"more bytes than anybody needs": {200, fine + strings.Repeat(" ", 256<<10), "unavailable"},
		"a redirect":                    {302, fine, "unavailable"},
		"an error with keys":            {403, fine, "unavailable"},
	} {
		i := newIssuer(t)
		i.says(tt.code, tt.body)
		if _, got := look(tokens(t, i.env(), clk), token, clk.now); got != tt.want || i.asked.Load() != 1 {
			t.Errorf("%s: %q after %d requests, want %q", name, got, i.asked.Load(), tt.want)
		}
	}
}

// A key of the configuration verifies what the published ones do not, and the other way round.
func TestPublishedKeysBesideConfiguredOnes(t *testing.T) {
	clk := at()
	i := newIssuer(t)
	i.says(200, published("b", keyB()))
	p := tokens(t, i.env().with("CORDUM_JWT_PUBLIC_KEY", pkix(keyA())), clk)
	a, b := sign(t, good(clk, nil), keyA(), "kid", "own"), sign(t, good(clk, nil), keyB(), "kid", "b")
	i.says(500, "")
	if _, got := look(p, a, clk.now); got != "ok" {
		t.Errorf("while the issuer is down: %s", got)
	}
	if _, got := look(p, b, clk.now); got != "unavailable" {
		t.Errorf("a token of the issuer's while it is down: %s", got)
	}
	i.says(200, published("b", keyB()))
	clk.now = clk.now.Add(time.Minute)
	if _, got := look(p, b, clk.now); got != "ok" {
		t.Errorf("afterwards: %s", got)
	}
}

// Keys come from nobody who cannot prove to be the issuer.
func TestPublishedKeysNeedTrust(t *testing.T) {
	clk := at()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(published("a", keyA()))) }))
	server.Config.ErrorLog = nil
	defer server.Close()
	p := tokens(t, env{"CORDUM_JWT_JWKS_URL": server.URL}, clk)
	if _, got := look(p, sign(t, good(clk, nil), keyA(), "kid", "a"), clk.now); got != "unavailable" {
		t.Errorf("keys of somebody unknown: %s", got)
	}
}

// FuzzToken: a stranger's bytes are never let in, and never a failure of the plane.
func FuzzToken(f *testing.F) {
	clk := at()
	token := sign(f, good(clk, nil), hmacSecret)
	for _, seed := range []string{token, token[:len(token)-2], "..", "a.b.c", signedText(`{"exp":1e999}`), segment(`{"alg":"none"}`) + "." + segment(`{}`) + "."} {
		f.Add(seed)
	}
	p := tokens(f, env{"CORDUM_JWT_HMAC_SECRET": hmacSecret, "CORDUM_JWT_PUBLIC_KEY": pkix(keyA())}, clk)
	f.Fuzz(func(t *testing.T, text string) {
		c, found, err := p.Lookup(context.Background(), text, clk.now)
		if found && err == nil && text != token || err != nil && !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%q: %+v %v", text, c, err)
		}
	})
}

// FuzzClaims: whatever an issuer signs is refused, or is a credential that could have been configured.
func FuzzClaims(f *testing.F) {
	clk := at()
	for _, seed := range []string{`{"iss":"cordum-dev","exp":1900000000}`, `{"iss":"cordum-dev","exp":1.9e9,"role":"worker","pools":["a"],"aud":["x"]}`, `null`, `[]`,
		`{"iss":"cordum-dev","exp":1900000000,"allow_cross_tenant":1e400}`} {
		f.Add(seed)
	}
	p := tokens(f, env{"CORDUM_JWT_HMAC_SECRET": hmacSecret, "CORDUM_JWT_WORKERS": "true"}, clk)
	f.Fuzz(func(t *testing.T, text string) {
		c, found, err := p.Lookup(context.Background(), signedText(text), clk.now)
		if err != nil && !fault.Is(err, fault.Unauthenticated) {
			t.Fatal(err)
		}
		if !found || err != nil {
			return
		}
		known, isRole := identity.ParseRole(string(c.Role))
		if !isRole || known != c.Role || c.Role == identity.Anonymous || c.Tenant == "" || (c.Role == identity.Worker) != (len(c.Pools) > 0) ||
			c.Expires.Before(clk.now) || c.Expires.Year() > 9999 {
			t.Errorf("%s: %+v", text, c)
		}
	})
}

// FuzzKeySet: what an issuer publishes, or somebody in its place, is keys or an error.
func FuzzKeySet(f *testing.F) {
	f.Add(published("a", keyA()))
	f.Add(`{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := auth.ParseKeySet([]byte(text))
		if err != nil {
			return
		}
		for kid, list := range keys {
			for _, key := range list {
				if bits := key.N.BitLen(); kid == "" || bits < 2048 || bits > 8192 || key.E < 3 {
					t.Errorf("key %q of %d bits", kid, bits)
				}
			}
		}
	})
}
