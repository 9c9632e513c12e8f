package user

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/word"
)

// ReadSettings reads CORDUM_USER_AUTH, CORDUM_AUTH_SESSION_TTL or CORDUM_SESSION_TTL, CORDUM_PASSWORD_LENGTH, CORDUM_PASSWORD_CLASSES, MAX_LOGIN_ATTEMPTS
// and LOGIN_LOCKOUT_PERIOD. A value that is none is an error: who mistypes a rule must not believe that it holds.
func ReadSettings(getenv func(string) string) (Settings, error) {
	e := env{getenv: getenv}
	ttl := "CORDUM_AUTH_SESSION_TTL"
	if e.text(ttl) == "" {
		ttl = "CORDUM_SESSION_TTL"
	}
	s := Settings{
		Passwords: e.on("CORDUM_USER_AUTH"), SessionTTL: e.duration(ttl, 24*time.Hour), Rule: e.rule(),
		Attempts: e.number("MAX_LOGIN_ATTEMPTS", 5, 1000), Lockout: e.duration("LOGIN_LOCKOUT_PERIOD", 15*time.Minute),
	}
	return s, e.err
}

// First is the first administrator of a plane.
type First struct{ Tenant, Name, Password string }

// ReadFirst reads TENANT_ID, CORDUM_ADMIN_USERNAME and CORDUM_ADMIN_PASSWORD; nil is nobody.
func ReadFirst(getenv func(string) string) (*First, error) {
	e := env{getenv: getenv}
	f := First{
		Tenant: cmp.Or(e.text("TENANT_ID"), identity.DefaultTenant), Name: e.text("CORDUM_ADMIN_USERNAME"), Password: getenv("CORDUM_ADMIN_PASSWORD"),
	}
	if (f.Name == "") != (f.Password == "") {
		return nil, fmt.Errorf("CORDUM_ADMIN_USERNAME and CORDUM_ADMIN_PASSWORD go together: one of them is not set")
	}
	if f.Name == "" || !e.on("CORDUM_USER_AUTH") {
		return nil, e.err
	}
	return &f, e.err
}

// Make makes the administrator, once, where a tenant has none. made says whether it did.
func (f *First) Make(ctx context.Context, users *Users) (made bool, err error) {
	if f == nil {
		return false, nil
	}
	made, err = users.First(ctx, f.Tenant, f.Name, f.Password)
	if err != nil {
		err = fmt.Errorf("first administrator of CORDUM_ADMIN_USERNAME and CORDUM_ADMIN_PASSWORD: %w", err)
	}
	return made, err
}

// env reads variables and keeps the first mistake.
type env struct {
	getenv func(string) string
	err    error
}

func (e *env) text(name string) string { return strings.TrimSpace(e.getenv(name)) }

func (e *env) fail(name, must string) {
	if e.err == nil {
		e.err = fmt.Errorf("%s must be %s", name, must)
	}
}

// on reads a flag that is set where nothing says otherwise.
func (e *env) on(name string) bool {
	text := e.text(name)
	if text != "" && !word.True(text) && !word.False(text) {
		e.fail(name, "true or false")
	}
	return !word.False(text)
}

func (e *env) number(name string, otherwise, most int) int {
	text := e.text(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		e.fail(name, fmt.Sprintf("a whole number from 1 to %d", most))
	}
	return n
}

// duration reads whole seconds at least: sessions end with a second.
func (e *env) duration(name string, otherwise time.Duration) time.Duration {
	text := e.text(name)
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second || d > longest {
		e.fail(name, "a duration from 1s to 8760h, such as 24h")
	}
	return d
}

const longest = 365 * 24 * time.Hour

func (e *env) rule() Rule {
	r := Rule{Length: e.number("CORDUM_PASSWORD_LENGTH", 8, 128)}
	classes := cmp.Or(e.text("CORDUM_PASSWORD_CLASSES"), "upper,digit,special")
	for class := range strings.SplitSeq(classes, ",") {
		switch fold(class) {
		case "upper":
			r.Upper = true
		case "digit":
			r.Digit = true
		case "special":
			r.Special = true
		case "none":
		default:
			e.fail("CORDUM_PASSWORD_CLASSES", "none, or some of upper, digit and special with commas between")
		}
	}
	return r
}
