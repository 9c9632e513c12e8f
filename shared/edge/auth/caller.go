package auth

import "context"

// Caller is what the service that opens and closes sessions must know of a request, and no other service may: where it comes from, and the token of the
// session that it presents, "" where it presents something else.
type Caller struct{ Address, Token string }

type callerKey struct{}

// WithCaller puts the caller into the context.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf answers the context's caller.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}
