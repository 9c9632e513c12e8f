// Package identity is who a request acts for: what authentication found, bound to a tenant. Services read it from the context and never
// see a credential.
package identity

import (
	"context"
	"slices"
	"strings"
	"time"
)

// Role is what an identity may do.
type Role string

// The roles. Anonymous exists only where authentication is switched off.
const (
	Admin     Role = "admin"
	Operator  Role = "operator"
	User      Role = "user"
	Viewer    Role = "viewer"
	Worker    Role = "worker"
	Anonymous Role = "anonymous"
)

// ParseRole reads a role's name in any case; "secops" is admin. ok is false for a word that is not a role.
func ParseRole(word string) (role Role, ok bool) {
	switch r := Role(strings.ToLower(strings.TrimSpace(word))); r {
	case "secops":
		return Admin, true
	case Admin, Operator, User, Viewer, Worker, Anonymous:
		return r, true
	default:
		return "", false
	}
}

// DefaultTenant is the tenant of a plane that has only one.
const DefaultTenant = "default"

// Identity is an authenticated caller.
type Identity struct {
	// Tenant is the tenant that the request is for: every object it reads or writes belongs to it.
	Tenant string
	// Home is the credential's own tenant; it differs from Tenant only for cross-tenant credentials.
	Home string
	Role Role
	// Principal is the end user or service, "" when unknown.
	Principal string
	// PrincipalFixed says that the credential itself names the principal, so that nothing in the request may replace it.
	PrincipalFixed bool
	// CrossTenant credentials may act for any tenant that they name.
	CrossTenant bool
	// KeyID identifies the credential in logs and audit entries; it reveals nothing of it.
	KeyID string
	// User is the id of the user who calls, and Session that of the session in which; "" where there is none.
	User, Session string
	// OpenedBy is the KeyID of the API key that opened the session; "" where none did.
	OpenedBy string
	// Expires is when the credential ends by itself; the zero time is never. Whatever it keeps open is closed then.
	Expires time.Time
	// Pools are the pools that a worker's credential may serve; empty is none, "*" is all.
	Pools []string
	// RequestID is the id that logs and audit entries of this request carry.
	RequestID string
}

// MayServe says whether a worker's credential covers a pool.
func (i Identity) MayServe(pool string) bool {
	return slices.Contains(i.Pools, pool) || slices.Contains(i.Pools, "*")
}

type key struct{}

// With puts the identity into the context.
func With(ctx context.Context, id Identity) context.Context { return context.WithValue(ctx, key{}, id) }

// From answers the context's identity. Code behind the edge always has one; the zero Identity has no tenant and no role, so it reads and
// may do nothing.
func From(ctx context.Context) Identity {
	id, _ := ctx.Value(key{}).(Identity)
	return id
}
