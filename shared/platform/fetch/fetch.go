// Package fetch is the port to addresses that others name: the one way in which the plane reads from the internet. Whoever writes such an address is
// not trusted with what the plane itself can reach, so the port says what an address may be, and where the name in it may lead.
package fetch

import "context"

// Fetcher is the port. All its methods may be called at once.
type Fetcher interface {
	// Get answers what is at an address: all of it, as it was sent, at most limit bytes. The address, and every one that it redirects to, must be on one of
	// the hosts, or on what the operator allows besides. What went wrong is an *Error, or the context's error.
	Get(ctx context.Context, address string, hosts []string, limit int64) ([]byte, error)
}

// Error is why nothing was fetched, in words for who asked. They say nothing of where a name leads.
type Error struct {
	Reason string
	// Refused says that it was not tried: the address itself is none to fetch from.
	Refused bool
	cause   error
}

func (e *Error) Error() string {
	if e.cause != nil {
		return e.Reason + ": " + e.cause.Error()
	}
	return e.Reason
}

// Unwrap answers the cause, for the log.
func (e *Error) Unwrap() error { return e.cause }

// Failed is an Error of what was tried.
func Failed(cause error, reason string) *Error { return &Error{Reason: reason, cause: cause} }
