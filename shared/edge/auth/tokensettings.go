package auth

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cordum-serverless/cordum/shared/core/identity"
)

// The algorithms. A token is read by one only where a key for it is configured, so that no public key ever serves as a secret.
const (
	algorithmSecret = "HS256"
	algorithmPublic = "RS256"
)

// Bounds of keys and clocks.
const (
	maxSkew      = 5 * time.Minute
	minSecret    = 32 // bytes, in production: what RFC 7518 asks of HS256
	minModulus   = 2048
	maxModulus   = 8192
	maxTokenKeys = 16
)

// tokenSettings is what the environment says about web tokens. Without algorithms none is taken.
type tokenSettings struct {
	algorithms       []string
	secret           []byte
	public           []*rsa.PublicKey
	url              string
	remote           *keySet // of url
	issuer, audience string
	tenant           string
	role             identity.Role // of tokens that name none
	workers          bool
	skew             time.Duration
	parser           *jwt.Parser
}

// readTokenSettings reads CORDUM_JWT_*. Its errors never repeat a value that may be a secret.
func readTokenSettings(getenv func(string) string) (*tokenSettings, error) {
	e := env{getenv: getenv}
	production := e.word("CORDUM_ENV", "", "production", "development") == "production"
	issuer := "cordum-dev"
	if production {
		issuer = "cordum"
	}
	s := &tokenSettings{
		issuer: e.text("CORDUM_JWT_ISSUER", issuer), audience: e.text("CORDUM_JWT_AUDIENCE", ""), tenant: e.text("TENANT_ID", identity.DefaultTenant),
		workers: e.flag("CORDUM_JWT_WORKERS"), url: e.text("CORDUM_JWT_JWKS_URL", ""),
	}
	near := e.flag("CORDUM_JWT_JWKS_ALLOW_HTTP")
	if e.err != nil {
		return nil, e.err
	}
	for _, read := range []func() error{
		func() error { return s.readSecret(e.text("CORDUM_JWT_HMAC_SECRET", ""), production) },
		func() error {
			return s.readPublic(e.text("CORDUM_JWT_PUBLIC_KEY", ""), e.text("CORDUM_JWT_PUBLIC_KEY_PATH", ""))
		},
		func() error { return s.readURL(near, production) },
		func() error { return s.readSkew(e.text("CORDUM_JWT_CLOCK_SKEW", "0")) },
		func() error { return s.readRole(e.text("CORDUM_JWT_DEFAULT_ROLE", string(identity.Viewer))) },
	} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	if s.secret != nil {
		s.algorithms = append(s.algorithms, algorithmSecret)
	}
	if s.public != nil || s.url != "" {
		s.algorithms = append(s.algorithms, algorithmPublic)
	}
	if len(s.algorithms) > 0 && s.audience == "" && production {
		return nil, errors.New("CORDUM_JWT_AUDIENCE must be set in production: without it a token that the issuer made for another service is taken")
	}
	s.parser = jwt.NewParser(jwt.WithValidMethods(s.algorithms), jwt.WithStrictDecoding(), jwt.WithJSONNumber(), jwt.WithoutClaimsValidation())
	return s, nil
}

func (s *tokenSettings) readSecret(text string, production bool) error {
	if text == "" {
		return nil
	}
	s.secret = []byte(text)
	if encoded, ok := strings.CutPrefix(text, "base64:"); ok {
		secret, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			secret, err = base64.RawURLEncoding.DecodeString(encoded)
		}
		if err != nil {
			return errors.New("CORDUM_JWT_HMAC_SECRET begins with base64: and what follows is not base64")
		}
		s.secret = secret
	}
	if len(s.secret) == 0 || production && len(s.secret) < minSecret {
		return fmt.Errorf("CORDUM_JWT_HMAC_SECRET is shorter than %d bytes: it can be guessed", minSecret)
	}
	return nil
}

func (s *tokenSettings) readPublic(text, path string) error {
	name := "CORDUM_JWT_PUBLIC_KEY"
	switch {
	case text != "" && path != "":
		return errors.New("set CORDUM_JWT_PUBLIC_KEY or CORDUM_JWT_PUBLIC_KEY_PATH, not both")
	case path != "":
		name = "CORDUM_JWT_PUBLIC_KEY_PATH"
		file, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		text = string(file)
	case text == "":
		return nil
	}
	var err error
	if s.public, err = parsePublicKeys([]byte(strings.ReplaceAll(text, `\n`, "\n"))); err != nil { // how lines end in a .env file
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

var errPublicKey = errors.New("it is not one or more RSA public keys in PEM, PKIX (PUBLIC KEY) or PKCS#1 (RSA PUBLIC KEY)")

// parsePublicKeys reads keys one after the other, so that an issuer's next key can stand beside the present one.
func parsePublicKeys(text []byte) ([]*rsa.PublicKey, error) {
	var keys []*rsa.PublicKey
	for text = bytes.TrimSpace(text); len(text) > 0; text = bytes.TrimSpace(text) {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil || len(keys) == maxTokenKeys {
			return nil, errPublicKey
		}
		key, err := parsePublicKey(block)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errPublicKey
	}
	return keys, nil
}

func parsePublicKey(block *pem.Block) (*rsa.PublicKey, error) {
	var key *rsa.PublicKey
	switch block.Type {
	case "PUBLIC KEY":
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if key, _ = parsed.(*rsa.PublicKey); err != nil || key == nil {
			return nil, errPublicKey
		}
	case "RSA PUBLIC KEY":
		var err error
		if key, err = x509.ParsePKCS1PublicKey(block.Bytes); err != nil {
			return nil, errPublicKey
		}
	default:
		return nil, errPublicKey
	}
	return key, checkModulus(key)
}

func checkModulus(key *rsa.PublicKey) error {
	if bits := key.N.BitLen(); bits < minModulus || bits > maxModulus || key.E < 3 || key.E%2 == 0 {
		return fmt.Errorf("an RSA key has %d to %d bits and an odd exponent of 3 or more", minModulus, maxModulus)
	}
	return nil
}

// readURL takes https, and plain http where that is allowed by name, which it never is in production.
func (s *tokenSettings) readURL(near, production bool) error {
	if s.url == "" {
		return nil
	}
	u, err := url.Parse(s.url)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("CORDUM_JWT_JWKS_URL is not an address such as https://issuer.example.com/.well-known/jwks.json")
	case u.Scheme == "http" && (!near || production):
		return errors.New("CORDUM_JWT_JWKS_URL must be https: over http anybody on the way can name the keys. On a laptop CORDUM_JWT_JWKS_ALLOW_HTTP=true allows it")
	}
	return nil
}

func (s *tokenSettings) readSkew(text string) error {
	var err error
	if text == "0" {
		return nil
	}
	if s.skew, err = time.ParseDuration(text); err != nil || s.skew < 0 || s.skew > maxSkew {
		return fmt.Errorf("CORDUM_JWT_CLOCK_SKEW must be a duration such as 30s, at most %v", maxSkew)
	}
	return nil
}

func (s *tokenSettings) readRole(text string) error {
	role, ok := identity.ParseRole(text)
	if !ok || role == identity.Anonymous || role == identity.Worker {
		return errors.New("CORDUM_JWT_DEFAULT_ROLE must be one of admin, operator, user, viewer")
	}
	s.role = role
	return nil
}
