package auth

import (
	"slices"

	"github.com/cordum-serverless/cordum/shared/core/identity"
)

// Rule is who may call a method. The zero Rule lets nobody in.
type Rule struct {
	// Public methods need no credential.
	Public bool
	// Any lets in every caller except a worker.
	Any bool
	// Roles are those that may call besides.
	Roles []identity.Role
}

// Allows says whether a role may call.
func (r Rule) Allows(role identity.Role) bool {
	return r.Public || r.Any && role != identity.Worker && role != "" || slices.Contains(r.Roles, role)
}
