package auth

import (
	"context"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
)

const tenantSyntax = "1 to 128 letters, digits, dots, underscores and hyphens"

func validTenant(name string) bool {
	return name != "" && len(name) <= 128 && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	})
}

func validPrincipal(name string) bool {
	return len(name) <= 256 && utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool {
		return r == ',' || !unicode.IsPrint(r)
	})
}

// TenantNamed answers a tenant's name that a cross-tenant caller gives, or the Invalid fault that says what a name is.
func TenantNamed(name string) (string, error) {
	if !validTenant(name) {
		return "", fault.New(fault.Invalid, "a tenant is %s", tenantSyntax)
	}
	return name, nil
}

// single answers the value of a header that may be sent once. API Gateway joins repeated headers with commas and the Lambda adapter splits
// at every comma, so that nobody can tell a value with a comma from two values: no key, tenant or principal may hold one.
func single(values []string) (value string, ok bool) {
	if len(values) == 0 {
		return "", true
	}
	return strings.TrimSpace(values[0]), len(values) == 1
}

func denied() error { return fault.New(fault.Denied, "tenant access denied") }

// tenant settles which tenant the request acts for.
func (g *Gate) tenant(c Credential, r Request) (string, error) {
	named, ok := single(r.Tenant)
	switch {
	case !ok:
		return "", denied()
	case named == "" && (g.cfg.TenantOptional || c.TenantOptional || r.TenantOptional || c.Role == identity.Worker):
		return c.Tenant, nil
	case named == "":
		return "", fault.New(fault.Denied, "tenant id required")
	case !validTenant(named), named != c.Tenant && !c.CrossTenant:
		return "", denied()
	}
	return named, nil
}

// SameTenant refuses a tenant that a body or a query names and the request is not for: the Denied fault "tenant access denied". Names that
// are empty name none. Services call it before they look at any object.
func SameTenant(ctx context.Context, named ...string) error {
	own := identity.From(ctx).Tenant
	for _, name := range named {
		if name = strings.TrimSpace(name); name != "" && name != own {
			return denied()
		}
	}
	return nil
}

// principal settles who acts: the credential's own principal, else the header's where that is believed.
func (g *Gate) principal(c Credential, r Request) (name string, fixed bool, err error) {
	if c.Principal != "" {
		return c.Principal, true, nil
	}
	if !g.cfg.HeaderPrincipal {
		return "", false, nil
	}
	name, ok := single(r.Principal)
	if !ok || !validPrincipal(name) {
		return "", false, fault.New(fault.Invalid, "x-principal-id must be one name of at most 256 printable characters without a comma")
	}
	return name, false, nil
}
