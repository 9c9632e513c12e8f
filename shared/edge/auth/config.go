package auth

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/rate"
	"github.com/cordum-serverless/cordum/shared/core/word"
)

// Config is what the environment says about authentication. Only FromEnv makes one: the static keys in it are hashes already.
type Config struct {
	// Production refuses header principals and the anonymous mode.
	Production bool
	// DefaultTenant is the tenant of keys that name none.
	DefaultTenant string
	// KeysPath is a file of further static keys, read again when it changes; "" is none.
	KeysPath string
	// Anonymous lets requests without any credential in, with the role anonymous and the default tenant.
	Anonymous bool
	// TokensOnly refuses API keys: CORDUM_JWT_REQUIRED.
	TokensOnly bool
	// HeaderPrincipal believes X-Principal-Id where the credential names no principal.
	HeaderPrincipal bool
	// TenantOptional lets a request that names no tenant act for its credential's tenant.
	TenantOptional bool
	// HideKey names no subprotocol that has the key in it in a handshake's answer.
	HideKey bool
	// Origins are the browsers' origins that may call.
	Origins Origins
	// Protected is the rate of one tenant, Open the rate of one client address on public routes.
	Protected, Open rate.Rate
	// Reload answers the environment as it is now; nil for one that does not change. It is asked once a minute for the static keys, so that keys
	// in a secret come and go while the process runs.
	Reload func(context.Context) (getenv func(string) string, err error)

	keys []staticKey
	// edgeToken is CORDUM_EDGE_TOKEN: what the edge proves itself with.
	edgeToken string
}

// FromEnv reads the configuration. Its errors name the variable and the entry, and never repeat a value that may be a key.
func FromEnv(getenv func(string) string) (Config, error) {
	e := env{getenv: getenv}
	c := Config{
		Production:     e.word("CORDUM_ENV", "", "production", "development") == "production",
		DefaultTenant:  e.text("TENANT_ID", identity.DefaultTenant),
		KeysPath:       e.text("CORDUM_API_KEYS_PATH", ""),
		Anonymous:      e.flag("CORDUM_ALLOW_INSECURE_NO_AUTH"),
		TokensOnly:     e.flag("CORDUM_JWT_REQUIRED"),
		TenantOptional: e.word("CORDUM_TENANT_HEADER", "required", "required", "optional") == "optional",
		HideKey:        e.word("CORDUM_WS_ECHO_KEY", "on", "on", "off") == "off",
		Origins:        ParseOrigins(e.first("CORDUM_ALLOWED_ORIGINS", "CORDUM_CORS_ALLOW_ORIGINS", "CORS_ALLOW_ORIGINS")),
		Protected:      rate.Rate{PerSecond: e.number("API_RATE_LIMIT_RPS", 2000), Burst: e.number("API_RATE_LIMIT_BURST", 4000)},
		Open:           rate.Rate{PerSecond: e.number("API_PUBLIC_RATE_LIMIT_RPS", 20), Burst: e.number("API_PUBLIC_RATE_LIMIT_BURST", 40)},
	}
	c.edgeToken = e.text("CORDUM_EDGE_TOKEN", "")
	c.HeaderPrincipal = e.flag("CORDUM_ALLOW_HEADER_PRINCIPAL") || !c.Production
	if e.err == nil && c.Anonymous && c.Production {
		e.err = fmt.Errorf("CORDUM_ALLOW_INSECURE_NO_AUTH is set in production: unset it, or unset CORDUM_ENV=production")
	}
	if e.err == nil && !validTenant(c.DefaultTenant) {
		e.err = fmt.Errorf("TENANT_ID is not a tenant's name: %s", tenantSyntax)
	}
	if e.err == nil {
		c.keys, e.err = envKeys(getenv, c.DefaultTenant)
	}
	return c, e.err
}

// envKeys reads the single key (or its older name, which a newer one replaces) and the list.
func envKeys(getenv func(string) string, tenant string) ([]staticKey, error) {
	var keys []staticKey
	for _, name := range []string{"CORDUM_API_KEY", "API_KEY"} {
		secret := strings.TrimSpace(getenv(name))
		if secret == "" {
			continue
		}
		key, err := keySpec{Key: secret}.parse(tenant)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		keys = append(keys, key)
		break
	}
	list, err := parseKeys(getenv("CORDUM_API_KEYS"), tenant)
	if err != nil {
		return nil, fmt.Errorf("CORDUM_API_KEYS: %w", err)
	}
	return append(keys, list...), nil
}

// env reads variables and keeps the first mistake.
type env struct {
	getenv func(string) string
	err    error
}

func (e *env) text(name, otherwise string) string {
	if v := strings.TrimSpace(e.getenv(name)); v != "" {
		return v
	}
	return otherwise
}

func (e *env) first(names ...string) string {
	for _, name := range names {
		if v := e.text(name, ""); v != "" {
			return v
		}
	}
	return ""
}

func (e *env) word(name, otherwise string, allowed ...string) string {
	v := strings.ToLower(e.text(name, otherwise))
	if slices.Contains(append(allowed, otherwise), v) {
		return v
	}
	e.fail("%s must be one of %s", name, strings.Join(allowed, ", "))
	return otherwise
}

func (e *env) flag(name string) bool {
	text := e.text(name, "")
	if text != "" && !word.True(text) && !word.False(text) {
		e.fail("%s must be true or false", name)
	}
	return word.True(text)
}

func (e *env) number(name string, otherwise int) int {
	v := e.text(name, "")
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil || n <= 0 {
		e.fail("%s must be a whole number above zero", name)
	}
	return n
}

func (e *env) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf(format, args...)
	}
}
