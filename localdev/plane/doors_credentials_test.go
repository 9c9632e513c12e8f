package plane_test

import (
	"encoding/base64"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"

	"github.com/cordum-serverless/cordum/shared/edge/routes"
)

// credential is something that is sent as one.
type credential struct{ name, secret string }

// badCredentials makes one of each kind that is none, or is none any more; those that once were good are tried before.
func (r *rig) badCredentials() []credential {
	r.t.Helper()
	t := r.t
	good := func(c credential) credential {
		t.Helper()
		r.as("", "GET", "/api/v1/status", nil, "Authorization", "Bearer "+c.secret).ok(200)
		return c
	}
	made := func(body map[string]any) (id, secret string) {
		t.Helper()
		var key struct {
			Key    struct{ ID string }
			Secret string
		}
		r.post(keysPath, body).ok(201).json(&key)
		return key.Key.ID, key.Secret
	}
	admin := []string{"admin"}
	_, brief := made(pairs("name", "brief", "scopes", admin, "expiresAt", time.Now().Add(5*time.Minute).UTC().Format(time.RFC3339)))
	r.user("late", "admin")
	expired := []credential{
		good(credential{"an expired key of the environment", "k-late"}),
		good(credential{"an expired managed key", brief}),
		good(credential{"an expired session", r.login("late", password)}),
		good(credential{"an expired session of a key", r.login("", "k-ada")}),
		good(credential{"an expired token", token(t, tokenSecret, time.Minute, pairs("role", "admin"))}),
	}
	time.Sleep(15 * time.Minute)

	deleted, ended := made(pairs("name", "deleted", "scopes", admin))
	behind, opener := made(pairs("name", "behind", "scopes", admin))
	leaver, changer, demoted := r.user("leaver", "admin"), r.user("changer", "admin"), r.user("demoted", "admin")
	r.user("goer", "admin")
	revoked := []credential{
		good(credential{"a deleted key", ended}),
		good(credential{"a session whose key was deleted", r.login("", opener)}),
		good(credential{"a session that was logged out", r.login("goer", password)}),
		good(credential{"a session of a user who was disabled", r.login("leaver", password)}),
		good(credential{"a session of a user with another password", r.login("changer", password)}),
		good(credential{"a session of a user with another role", r.login("demoted", password)}),
	}
	r.as("k-admin", "DELETE", keysPath+"/"+deleted, nil).ok(204)
	r.as("k-admin", "DELETE", keysPath+"/"+behind, nil).ok(204)
	r.as(revoked[2].secret, "POST", "/api/v1/auth/logout", nil).ok(204)
	r.as("k-admin", "DELETE", usersPath+"/"+leaver, nil).ok(204)
	r.post(usersPath+"/"+changer+"/password", pairs("password", another)).ok(204)
	r.as("k-admin", "PUT", usersPath+"/"+demoted, pairs("roles", []string{"viewer"})).ok(200)
	time.Sleep(known)

	claims := jwt.MapClaims{"iss": "cordum-dev", "sub": "tess", "tenant": "default", "role": "admin", "exp": time.Now().Add(time.Hour).Unix()}
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, claims).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	other, err := jwt.NewWithClaims(jwt.SigningMethodHS512, claims).SignedString([]byte(tokenSecret))
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(expired, revoked, []credential{
		{"nothing", ""}, {"an unknown key", "k-none"}, {"two words", "k-ada k-ada"}, {"half a key", "k-ad"}, {"a name of a key", "ada"}, {"quotes", `""`},
		{"a session that is none", "session-AAAA"}, {"a session of the right length", "session-" + base64.RawURLEncoding.EncodeToString(make([]byte, 32))},
		{"a managed key that is none", "ck_00000000_" + base64.RawURLEncoding.EncodeToString(make([]byte, 32))}, {"a managed key without its secret", ended[:11]},
		{"dots", "a.b.c"}, {"a forged token", token(t, "another secret, as long as that of the plane itself", time.Hour, pairs("role", "admin"))},
		{"a token of another issuer", token(t, tokenSecret, time.Hour, pairs("role", "admin", "iss", "somebody"))},
		{"a token without a signature", unsigned}, {"a token of another algorithm", other},
		{"a token that is not good yet", token(t, tokenSecret, time.Hour, pairs("role", "admin", "nbf", time.Now().Add(time.Minute).Unix()))},
	})
}

// carriers are the headers in which a secret is sent.
func (c credential) carriers() []caller {
	if c.secret == "" {
		return []caller{{"X-Tenant-ID", "default"}, {"X-Tenant-ID", "default", "Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("k-ada:"))}}
	}
	return []caller{{"X-Tenant-ID", "default", "X-API-Key", c.secret}, {"X-Tenant-ID", "default", "Authorization", "Bearer " + c.secret}}
}

const unauthorized = `{"error":"unauthorized","status":401}`

// Every route, every method of gRPC and both streams, with every credential that is none or is none any more: 401, the same words for all of them, and
// nothing changes.
func TestDoors_EveryBadCredential(t *testing.T) {
	cfg, written := house("CORDUM_JWT_HMAC_SECRET", tokenSecret, "CORDUM_AUTH_SESSION_TTL", "10m")
	cfg = set(cfg, "CORDUM_API_KEYS", doorKeys(`{"key":"k-late","tenant":"default","role":"admin","expires_at":"`+today.Add(5*time.Minute).Format(time.RFC3339)+`"}`))
	virtually(t, cfg, func(t *testing.T, r *rig) {
		w := r.mine()
		bad := r.badCredentials()
		every(t, func(_ routes.Route, d door) { d.with(t, w.fixed) })
		every(t, func(route routes.Route, d door) {
			a := d.with(t, w.fixed)
			first := ""
			changed := written.during(func() {
				for _, c := range bad {
					for _, by := range c.carriers() {
						got := r.knock(route, d, a, by)
						if route.Rule.Public {
							if got.Status == 401 {
								t.Errorf("%s with %s: %d %s", nameOf(route), c.name, got.Status, got.Body)
							}
							return // it opens sessions
						}
						if first == "" {
							first = got.whole()
						}
						if got.Status != 401 || got.Body != unauthorized || got.whole() != first || got.Header.Get("Content-Type") != "application/json" {
							t.Errorf("%s with %s: %s, and with another %s", nameOf(route), c.name, got.whole(), first)
						}
					}
				}
			})
			if len(changed) != 0 && !route.Rule.Public {
				t.Errorf("%s wrote %v", nameOf(route), changed)
			}
		})
		for _, name := range r.served() {
			body := methods[name].with(t, w.fixed).body
			changed := written.during(func() {
				for _, c := range bad {
					for _, md := range [][]string{{"x-api-key", c.secret}, {"api-key", c.secret}, {"authorization", "Bearer " + c.secret}} {
						if got := r.callMethod(name, body, md...); got != (said{codes.Unauthenticated, "unauthorized"}) {
							t.Errorf("%s with %s as %s: %v", name, c.name, md[0], got)
						}
					}
				}
			})
			if len(changed) != 0 {
				t.Errorf("%s wrote %v", name, changed)
			}
		}
		for _, path := range streams {
			path = ask{path: path}.with(t, w.fixed).path + "?tenant_id=default"
			changed := written.during(func() {
				for _, c := range bad {
					coded := base64.RawURLEncoding.EncodeToString([]byte(c.secret))
					for _, offer := range []struct {
						header    http.Header
						protocols []string
					}{
						{http.Header{"X-Api-Key": {c.secret}}, nil}, {http.Header{"Authorization": {"Bearer " + c.secret}}, nil},
						{nil, []string{"cordum-api-key", coded}}, {nil, []string{"cordum-api-key." + coded}},
					} {
						if coded == "" && offer.protocols != nil {
							continue
						}
						conn, res, err := r.open(path, offer.header, offer.protocols...)
						if err == nil {
							_ = conn.CloseNow()
							t.Errorf("%s is open to %s", path, c.name)
							continue
						}
						if text := bodyOf(t, res); res.StatusCode != 401 || text != unauthorized || res.Header.Get("Sec-WebSocket-Protocol") != "" {
							t.Errorf("%s with %s: %d %s", path, c.name, res.StatusCode, text)
						}
					}
				}
			})
			if len(changed) != 0 {
				t.Errorf("%s wrote %v", path, changed)
			}
		}
		for _, c := range bad {
			for _, by := range c.carriers() {
				r.as("", "GET", "/api/v1/nowhere", nil, by...).refused(401, "unauthorized")
				r.as("", "PATCH", "/api/v1/jobs", nil, by...).refused(401, "unauthorized")
			}
		}
	})
}
