// Package secret is the port to what must not stand in an environment: API keys, and the keys of tokens.
package secret

import "context"

// Source answers the present secrets: environment variables and their values, which win over those of the environment. It may be called at any
// time, also to learn what has changed since.
type Source func(ctx context.Context) (map[string]string, error)

// Over answers an environment in which the secrets win.
func Over(getenv func(string) string, secrets map[string]string) func(string) string {
	return func(name string) string {
		if v := secrets[name]; v != "" {
			return v
		}
		return getenv(name)
	}
}
