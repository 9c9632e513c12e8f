package user

import "context"

// The ids of credentials that lie in the table begin with their kind: identity.KeyID is one of these, or else the id of a key of the configuration.
const (
	SessionID = "ses-"
	KeyID     = "ck-"
)

// Ended is told what opens nothing any more, after it is written and before anybody is told that it is done, so that what it opened is closed at once: of
// is the id of a credential, or of a user all of whose sessions are over but the one whose credential is except.
type Ended func(ctx context.Context, tenant, of, except string)

func (e Ended) tell(ctx context.Context, tenant, of, except string) {
	if e != nil {
		e(ctx, tenant, of, except)
	}
}
