// Package auth decides who a request acts for and whether it may: the credential, the rate, the tenant, the role and the principal, always
// in that order, for REST, WebSocket and gRPC alike. What it finds is an identity.Identity; nothing behind the edge sees a credential.
//
// Kinds of credentials are Providers. Static API keys come with the configuration; other kinds (sessions and managed keys: Accounts, JSON web tokens)
// are further providers given to New. A kind without a provider is refused, never skipped.
package auth
