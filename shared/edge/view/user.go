package view

import (
	"time"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/user"
)

// User shows a user.
func User(u user.User) *cordumv1.User {
	return &cordumv1.User{
		Id: u.ID, Username: u.Name, Tenant: u.Tenant, Email: u.Email, DisplayName: u.Display, Roles: []string{string(u.Role)}, Disabled: u.Disabled,
		Source: "user", CreatedAt: micros(u.CreatedAt), UpdatedAt: micros(u.UpdatedAt), LastLoginAt: micros(u.LastLoginAt),
	}
}

// APIKey shows a managed key.
func APIKey(k user.Key) *cordumv1.ApiKey {
	return &cordumv1.ApiKey{
		Id: k.ID, Name: k.Name, Prefix: k.Prefix, Scopes: k.Scopes, CreatedAt: micros(k.CreatedAt), LastUsed: micros(k.LastUsed), UsageCount: k.Uses,
		ExpiresAt: Second(k.Expires),
	}
}

// micros writes a time to the second, "" for none.
func micros(n int64) string {
	if n == 0 {
		return ""
	}
	return Second(time.UnixMicro(n))
}

// Second writes a time to the second in RFC 3339, "" for none.
func Second(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
