package plane_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/cordum-serverless/cordum/localdev/plane"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Identities of api.md 2.1 and 2.2: users, sessions, managed keys.

const (
	password  = "Right-Horse-1"
	another   = "Other-Horse-2"
	usersPath = "/api/v1/users"
	keysPath  = "/api/v1/auth/keys"
	loginPath = "/api/v1/auth/login"
	session   = "/api/v1/auth/session"
)

// known is longer than any process remembers who may call.
const known = 3 * time.Second

// user makes a user of the default tenant and answers the id.
func (r *rig) user(name, role string, fields ...any) string {
	r.t.Helper()
	id, _ := r.post(usersPath, pairs(append(fields, "username", name, "password", password, "role", role)...)).ok(201).object()["id"].(string)
	return id
}

// try logs in, with name, value pairs beside the name and the password.
func (r *rig) try(name, password string, fields ...any) answer {
	r.t.Helper()
	return r.as("", "POST", loginPath, pairs(append(fields, "username", name, "password", password)...), "X-Tenant-ID", "")
}

// login answers a token.
func (r *rig) login(name, password string) string {
	r.t.Helper()
	token, _ := r.try(name, password).ok(200).object()["token"].(string)
	return token
}

// key makes a managed key and answers its id and its secret.
func (r *rig) key(name string, scopes ...string) (id, secret string) {
	r.t.Helper()
	var made struct {
		Key    struct{ ID string }
		Secret string
	}
	r.post(keysPath, pairs("name", name, "scopes", scopes)).ok(201).json(&made)
	return made.Key.ID, made.Secret
}

func TestHowOneLogsIn(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  plane.Config
		want string
	}{
		"as it comes": {config(), `"user_auth_enabled":true,"saml_enabled":false,"saml_enterprise":true,"saml_login_url":"","saml_metadata_url":"","session_ttl":"24h"`},
		"without users": {having("CORDUM_USER_AUTH", "false", "CORDUM_SESSION_TTL", "90m"),
			`"user_auth_enabled":false,"saml_enabled":false,"saml_enterprise":true,"saml_login_url":"","saml_metadata_url":"","session_ttl":"1h30m"`},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, c.cfg, func(t *testing.T, r *rig) {
				want := `{"password_enabled":true,` + c.want + `,"require_rbac":true,"require_principal":false,"default_tenant":"default","oidc_enabled":false}`
				if got := r.as("", "GET", "/api/v1/auth/config", nil, "X-Tenant-ID", "").ok(200).Body; got != want {
					t.Errorf("%s, want %s", got, want)
				}
			})
		})
	}
}

func TestLoginWithAPassword(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		id := r.user("Maya", "operator", "email", "Maya@Corp.test")
		time.Sleep(time.Minute)
		want := fmt.Sprintf(`{"id":%q,"username":"Maya","tenant":"default","email":"Maya@Corp.test","roles":["operator"],"source":"user",`+
			`"created_at":"2026-11-23T12:00:00Z","updated_at":"2026-11-23T12:00:00Z","last_login_at":"2026-11-23T12:01:00Z"}`, id)
		tokens := map[string]bool{}
		for _, name := range []string{"Maya", "maya", " MAYA ", "maya@corp.TEST"} {
			var got struct {
				Token   string
				Expires string `json:"expires_at"`
				User    json.RawMessage
			}
			r.try(name, password).ok(200).json(&got)
			if !regexp.MustCompile(`^session-[A-Za-z0-9_-]{43}$`).MatchString(got.Token) || got.Expires != "2026-11-24T12:01:00Z" || string(got.User) != want {
				t.Errorf("%q: %+v %s", name, got, got.User)
			}
			tokens[got.Token] = true
		}
		if len(tokens) != 4 {
			t.Errorf("%d sessions", len(tokens))
		}
		for token := range tokens {
			for _, header := range [][]string{{"X-API-Key", token}, {"X-API-Key", "", "Authorization", "Bearer " + token}} {
				got := r.as("", "GET", session, nil, header...).ok(200).Body
				if got != fmt.Sprintf(`{"token":%q,"expires_at":"2026-11-24T12:01:00Z","user":%s}`, token, want) {
					t.Errorf("session %s", got)
				}
			}
			r.as(token, "GET", "/api/v1/config?scope=org", nil).refused(404, "config not found") // an operator may
			r.as(token, "GET", usersPath, nil).refused(403, "access denied")
			r.as(token, "GET", "/api/v1/jobs", nil, "X-Tenant-ID", "other").refused(403, "tenant access denied")
			r.as(token, "GET", "/api/v1/jobs", nil, "X-Tenant-ID", "").refused(403, "tenant id required")
		}
		r.try("maya", "").refused(401, "password required")
		r.try("maya", "wrong").refused(401, "invalid credentials")
		r.try("nobody", password).refused(401, "invalid credentials")
		r.try("", password).refused(401, "invalid credentials")
		r.try("maya", password, "tenant", "other").refused(401, "invalid credentials")
		r.try("maya", password, "tenant", "default").ok(200)
		for _, bad := range []string{"", "null", "[]", `{"password":7}`, "{"} {
			r.as("", "POST", loginPath, bad, "X-Tenant-ID", "").refused(400, "invalid request body")
		}
		r.as("", "GET", session, nil).refused(401, "unauthorized")
	})
}

func TestASessionEndsByItself(t *testing.T) {
	virtually(t, having("CORDUM_AUTH_SESSION_TTL", "10m"), func(t *testing.T, r *rig) {
		r.user("maya", "admin")
		token := r.login("maya", password)
		time.Sleep(10*time.Minute - time.Second)
		r.as(token, "GET", session, nil).ok(200)
		time.Sleep(time.Second)
		r.as(token, "GET", session, nil).refused(401, "unauthorized")
		w := r.watch(r.login("maya", password), "/api/v1/stream")
		time.Sleep(10 * time.Minute)
		began := time.Now()
		if code := <-w.closed; code != websocket.StatusPolicyViolation || time.Since(began) > 125*time.Second {
			t.Errorf("closed with %d after %s", code, time.Since(began))
		}
	})
}

// A login with an API key opens a session that is whatever the key is, as long as the key is.
func TestLoginWithAnAPIKey(t *testing.T) {
	cfg := having("CORDUM_API_KEYS", strings.TrimSuffix(keys, "]")+`,{"key":"k-brief","tenant":"default","role":"viewer","expires_at":"2026-11-23T13:00:00Z"}]`)
	virtually(t, cfg, func(t *testing.T, r *rig) {
		_, managed := r.key("ci", "jobs:read")
		_, other := r.key("to be deleted", "admin")
		opens := func(secret string, fields ...any) (token, expires string, who map[string]any) {
			t.Helper()
			got := r.try("", secret, fields...).ok(200)
			m := got.object()
			if token, _ = m["token"].(string); !strings.HasPrefix(token, "session-") || strings.Contains(got.Body, secret) {
				t.Errorf("login %s", got.Body)
			}
			expires, _ = m["expires_at"].(string)
			who = m["user"].(map[string]any)
			tenant, _ := who["tenant"].(string)
			if again := r.as(token, "GET", session, nil, "X-Tenant-ID", tenant).ok(200); again.Body != got.Body {
				t.Errorf("session %s, and the login was %s", again.Body, got.Body)
			}
			return token, expires, who
		}
		_, expires, who := opens("k-ada")
		if fmt.Sprint(who) != "map[id:ada roles:[admin] source:api_key tenant:default username:ada]" || expires != "2026-11-24T12:00:00Z" {
			t.Errorf("%v until %s", who, expires)
		}
		_, expires, who = opens("k-brief")
		if id, _ := who["id"].(string); !regexp.MustCompile(`^user-[0-9a-f]{8}$`).MatchString(id) || who["username"] != "api-user" || expires != "2026-11-23T13:00:00Z" {
			t.Errorf("%v until %s", who, expires)
		}
		scoped, _, who := opens(managed)
		if fmt.Sprint(who["roles"]) != "[user]" {
			t.Errorf("%v", who)
		}
		r.as(scoped, "GET", "/api/v1/jobs", nil).ok(200)
		r.as(scoped, "POST", "/api/v1/jobs", body()).refused(403, "forbidden")
		opens("k-other") // its own tenant, where none is named
		opens("k-other", "tenant", "other")
		opens("k-cross", "tenant", "other")
		r.try("", "k-other", "tenant", "default").refused(401, "invalid credentials")
		r.try("", "k-worker").refused(401, "invalid credentials")
		r.try("anybody", "k-nobody").refused(401, "invalid credentials")
		r.user("maya", "viewer")
		r.try("maya", "k-admin").ok(200) // in place of the password
		token, _, _ := opens(other)
		w := r.watch(token, "/api/v1/stream")
		for _, k := range r.keys() {
			if k["name"] == "to be deleted" {
				r.as("k-admin", "DELETE", keysPath+"/"+k["id"].(string), nil).ok(204)
			}
		}
		time.Sleep(known)
		r.as(token, "GET", session, nil).refused(401, "unauthorized")
		r.as(other, "GET", session, nil).refused(401, "unauthorized")
		r.try("", other).refused(401, "invalid credentials")
		began := time.Now()
		if code := <-w.closed; code != websocket.StatusPolicyViolation || time.Since(began) > 125*time.Second {
			t.Errorf("closed with %d after %s", code, time.Since(began))
		}
	})
}

func (r *rig) keys() []map[string]any {
	r.t.Helper()
	time.Sleep(time.Second) // the list comes from an index
	var list struct{ Items []map[string]any }
	r.get(keysPath).ok(200).json(&list)
	return list.Items
}

// GET session answers for whatever is presented.
func TestWhoIAm(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		for key, want := range map[string]string{
			"k-ada":    `{"user":{"id":"ada","username":"ada","tenant":"default","roles":["admin"],"source":"api_key"}}`,
			"k-viewer": `{"user":{"id":"user-%s","username":"api-user","tenant":"default","roles":["viewer"],"source":"api_key"}}`,
		} {
			got := r.as(key, "GET", session, nil, "X-Principal-Id", "somebody").ok(200).Body
			if got != strings.Replace(want, "%s", regexp.MustCompile(`user-([0-9a-f]{8})`).FindString(got + "user-00000000")[5:], 1) {
				t.Errorf("%s: %s", key, got)
			}
		}
		if got := r.as("k-cross", "GET", session, nil, "X-Tenant-ID", "other").ok(200).object()["user"].(map[string]any)["tenant"]; got != "default" {
			t.Errorf("the key's tenant is %v", got)
		}
		r.as("k-worker-default", "GET", session, nil).refused(403, "access denied")
	})
}

func TestLogoutEndsTheSession(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.user("maya", "admin")
		first, second := r.login("maya", password), r.login("maya", password)
		w := r.watch(first, "/api/v1/stream")
		if got := r.as("", "POST", "/api/v1/auth/logout", nil, "Authorization", "Bearer "+first).ok(204).Body; got != "" {
			t.Errorf("body %q", got)
		}
		time.Sleep(known)
		r.as(first, "GET", session, nil).refused(401, "unauthorized")
		r.as(second, "GET", session, nil).ok(200)
		r.post("/api/v1/auth/logout", nil).ok(204) // a key stays
		r.get("/api/v1/jobs").ok(200)
		if code := w.ended(); code != websocket.StatusPolicyViolation {
			t.Errorf("closed with %d", code)
		}
	})
}

// What somebody opened closes with 1008 within seconds of the end of what opened it, for whatever tenants it is; everything else stays.
func TestStreamsEndWithinSecondsOfARevocation(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		job := r.submit("topic", "job.test.ask").JobID
		maya := r.user("maya", "admin")
		asks, elsewhere, namesake := r.login("maya", password), r.login("maya", password), r.user("maya-2", "admin")
		other := r.login("maya-2", password)
		key := r.as("k-admin", "POST", keysPath, pairs("name", "ci", "scopes", []string{"admin"})).ok(201).object()
		secret := key["secret"].(string)
		opened := r.as("", "POST", "/api/v1/auth/login", pairs("password", secret)).ok(200).object()["token"].(string)
		cross := r.as("", "POST", "/api/v1/auth/login", pairs("password", "k-cross")).ok(200).object()["token"].(string)
		streams := map[string]*watcher{}
		for name, credential := range map[string]string{
			"asks": asks, "elsewhere": elsewhere, "namesake": other, "key": secret, "session of the key": opened, "configured": "k-admin", "cross": cross,
		} {
			streams[name] = r.watch(credential, "/api/v1/stream")
			streams[name+", one job"] = r.watch(credential, "/api/v1/jobs/"+job+"/stream")
		}
		ends := func(deed string, names ...string) {
			t.Helper()
			for _, name := range names {
				for _, of := range []string{name, name + ", one job"} {
					if code := streams[of].ended(); code != websocket.StatusPolicyViolation {
						t.Errorf("%s: %q closed with %d", deed, of, code)
					}
					delete(streams, of)
				}
			}
			time.Sleep(5 * time.Second)
			for name, w := range streams {
				if !w.open() {
					t.Errorf("%s: %q is closed", deed, name)
				}
			}
		}
		r.as(asks, "POST", "/api/v1/auth/password", pairs("current_password", password, "new_password", another)).ok(204)
		ends("own password", "elsewhere")
		r.as("k-admin", "PUT", usersPath+"/"+maya, pairs("email", "maya@corp.test")).ok(200)
		ends("nothing of rights") // nobody's
		r.as("k-admin", "DELETE", keysPath+"/"+key["key"].(map[string]any)["id"].(string), nil).ok(204)
		ends("key", "key", "session of the key")
		r.as(cross, "POST", "/api/v1/auth/logout", nil).ok(204)
		ends("logout", "cross")
		r.as("k-admin", "DELETE", usersPath+"/"+maya, nil).ok(204)
		ends("user", "asks")
		r.as("k-admin", "PUT", usersPath+"/"+namesake, pairs("roles", []string{"viewer"})).ok(200)
		ends("role", "namesake")
	})
}

// A stream that is opened while its session is ended does not outlive it, whichever comes first.
func TestAStreamThatIsOpenedWhileItsSessionEnds(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.user("maya", "admin")
		for after := time.Duration(0); after < 1200*time.Millisecond; after += 100 * time.Millisecond {
			token := r.login("maya", password)
			r.as(token, "GET", session, nil).ok(200)
			result := make(chan *watcher, 1)
			go func() {
				conn, res, err := r.open("/api/v1/stream", http.Header{"X-Api-Key": {token}, "X-Tenant-Id": {"default"}})
				if err != nil {
					if res == nil || res.StatusCode != 401 {
						t.Errorf("after %s: %v", after, err)
					}
					result <- nil
					return
				}
				result <- r.listen(conn)
			}()
			time.Sleep(after)
			r.as(token, "POST", "/api/v1/auth/logout", nil).ok(204)
			if w := <-result; w != nil {
				if code := w.ended(); code != websocket.StatusPolicyViolation {
					t.Errorf("after %s: closed with %d", after, code)
				}
			}
			time.Sleep(15 * time.Second) // nobody listens any more
		}
	})
}

func TestOnesOwnPassword(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		id := r.user("maya", "viewer")
		mine, elsewhere := r.login("maya", password), r.login("maya", password)
		change := func(key, current, next string) answer {
			t.Helper()
			return r.as(key, "POST", "/api/v1/auth/password", pairs("current_password", current, "new_password", next))
		}
		change(mine, "", another).refused(400, "current_password required")
		change(mine, password, "").refused(400, "new_password required")
		change("k-admin", password, another).refused(404, "user not found")
		change(mine, another, another).refused(401, "invalid current password")
		change(mine, password, "short").refused(400, "password must be at least 8 characters")
		r.as("", "POST", "/api/v1/auth/password", pairs("current_password", password, "new_password", another)).refused(401, "unauthorized")
		change(mine, password, another).ok(204)
		time.Sleep(known)
		r.as(mine, "GET", session, nil).ok(200)
		r.as(elsewhere, "GET", session, nil).refused(401, "unauthorized")
		r.try("maya", password).refused(401, "invalid credentials")
		r.login("maya", another)
		e := r.entries("default")[0]
		if e.Action != "change_password" || e.ResourceType != "user" || e.ResourceID != id || e.ActorID != "maya" || e.Role != "viewer" {
			t.Errorf("entry %+v", e)
		}
		for range 5 { // guesses at the present one count as failed logins
			change(mine, "Wrong-Horse-3", password).refused(401, "invalid current password")
		}
		change(mine, another, password).refused(429, "rate limit exceeded")
		r.try("maya", another).refused(429, "rate limit exceeded")
	})
}

func TestUsersAreManaged(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		if got := r.get(usersPath).ok(200).Body; got != `{"items":[]}` {
			t.Errorf("nobody is %s", got)
		}
		got := r.post(usersPath, pairs("username", " lee ", "email", "lee@corp.test", "password", password)).ok(201)
		id, _ := got.object()["id"].(string)
		want := fmt.Sprintf(`{"id":%q,"username":"lee","tenant":"default","email":"lee@corp.test","roles":["user"],"source":"user",`+
			`"created_at":"2026-11-23T12:00:00Z","updated_at":"2026-11-23T12:00:00Z"}`, id)
		if got.Body != want {
			t.Errorf("%s, want %s", got.Body, want)
		}
		for text, fields := range map[string][]any{
			"username required":                            {"password", password},
			"password required":                            {"username", "x"},
			"password must contain a digit":                {"username", "x", "password", "Right-Horse"},
			"role must be admin, operator, user or viewer": {"username", "x", "password", password, "role", "worker"},
			"email is not an address":                      {"username", "x", "password", password, "email", "nobody"},
			"username must be at most 128 printable characters without a comma": {"username", "a,b", "password", password},
		} {
			r.post(usersPath, pairs(fields...)).refused(400, text)
		}
		r.post(usersPath, pairs("username", "x", "password", password, "role", "king")).refused(400, "role must be admin, operator, user or viewer")
		r.post(usersPath, "").refused(400, "invalid json")
		r.post(usersPath, pairs("username", "LEE", "password", password)).refused(409, "user already exists")
		r.post(usersPath, pairs("username", "x", "password", password, "email", "LEE@corp.test")).refused(409, "user already exists")
		boss := r.user("Boss", "secops")
		r.user("abe", "viewer")
		time.Sleep(time.Second)
		var list struct{ Items []map[string]any }
		r.get(usersPath).ok(200).json(&list)
		var names []string
		for _, u := range list.Items {
			names = append(names, fmt.Sprint(u["username"], u["roles"]))
		}
		if fmt.Sprint(names) != "[abe[viewer] Boss[admin] lee[user]]" {
			t.Errorf("users %v", names)
		}

		update := func(fields ...any) answer { return r.as("k-admin", "PUT", usersPath+"/"+id, pairs(fields...)) }
		time.Sleep(time.Minute)
		changed := update("email", "l@corp.test", "display_name", "Lee", "roles", []string{"operator", "admin"}).ok(200).object()
		if changed["email"] != "l@corp.test" || changed["display_name"] != "Lee" || fmt.Sprint(changed["roles"]) != "[operator]" || changed["updated_at"] != "2026-11-23T12:01:01Z" {
			t.Errorf("changed to %v", changed)
		}
		if kept := update().ok(200).object(); kept["email"] != "l@corp.test" || kept["display_name"] != "Lee" || fmt.Sprint(kept["roles"]) != "[operator]" {
			t.Errorf("what is empty is not kept: %v", kept)
		}
		update("roles", []string{"anonymous"}).refused(400, "role must be admin, operator, user or viewer")
		r.user("heir", "viewer", "email", "lee@corp.test") // freed by the change
		update("email", "LEE@corp.test").refused(409, "user already exists")

		for _, unknown := range []string{"0d1c0d1c-0d1c-4d1c-8d1c-0d1c0d1c0d1c", "x", "U#", strings.Repeat("x", 3000)} {
			path := usersPath + "/" + url.PathEscape(unknown)
			r.as("k-admin", "PUT", path, pairs("email", "z@corp.test")).refused(404, "user not found")
			r.as("k-admin", "DELETE", path, nil).refused(404, "user not found")
			r.as("k-admin", "POST", path+"/password", pairs("password", another)).refused(404, "user not found")
		}
		own := r.login("boss", password)
		for _, spelled := range []string{boss, strings.ToUpper(boss)} {
			r.as(own, "DELETE", usersPath+"/"+spelled, nil).refused(400, "cannot delete your own account")
		}
		r.as(own, "DELETE", usersPath+"/"+id, nil).ok(204)
		r.as(own, "DELETE", usersPath+"/"+id, nil).refused(404, "user not found")
		update("email", "z@corp.test").refused(404, "user not found")
		r.try("lee", password).refused(403, "user is disabled")
		r.try("lee", another).refused(401, "invalid credentials")
		r.try("l@corp.test", password).refused(401, "invalid credentials")
		r.user("next", "user", "email", "l@corp.test")
		r.post(usersPath, pairs("username", "lee", "password", password)).refused(409, "user already exists")
		time.Sleep(time.Second)
		if text := r.get(usersPath).ok(200).Body; strings.Contains(text, id) {
			t.Errorf("who is disabled is listed: %s", text)
		}
		for _, role := range []string{"k-operator", "k-user", "k-viewer"} {
			r.as(role, "GET", usersPath, nil).refused(403, "access denied")
			r.as(role, "GET", keysPath, nil).refused(403, "access denied")
		}
	})
}

// What an administrator does to a user ends the user's sessions and streams, in every function and container, within seconds.
func TestRevocationHoldsEverywhereWithinSeconds(t *testing.T) {
	cfg := config()
	cfg.Containers = 2
	virtually(t, cfg, func(t *testing.T, r *rig) {
		deeds := map[string]func(id string){
			"deleted": func(id string) { r.as("k-admin", "DELETE", usersPath+"/"+id, nil).ok(204) },
			"another password": func(id string) {
				r.as("k-admin", "POST", usersPath+"/"+id+"/password", pairs("password", another)).ok(204)
			},
			"another role": func(id string) { r.as("k-admin", "PUT", usersPath+"/"+id, pairs("roles", []string{"viewer"})).ok(200) },
		}
		for name, deed := range deeds {
			who := strings.ReplaceAll(name, " ", "-")
			id := r.user(who, "admin")
			token := r.login(who, password)
			good := func() (out []string) {
				for _, path := range []string{session, usersPath, "/api/v1/jobs", "/api/v1/workflows", "/api/v1/status", "/api/v1/nowhere"} {
					if got := r.as(token, "GET", path, nil); got.Status != 401 {
						out = append(out, path)
					}
				}
				for i := range r.listeners {
					ctx := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", token)
					_, err := cordumv1.NewCordumApiClient(r.connTo(r.dialer(i))).GetJobStatus(ctx, &cordumv1.GetJobStatusRequest{JobId: "x"})
					if status.Code(err) != codes.Unauthenticated {
						out = append(out, fmt.Sprint("container ", i))
					}
				}
				return out
			}
			if got := good(); len(got) != 8 {
				t.Errorf("%s: before it opens only %v", name, got)
			}
			w := r.watch(token, "/api/v1/stream")
			deed(id)
			time.Sleep(known)
			if got := good(); len(got) != 0 {
				t.Errorf("%s: it still opens %v", name, got)
			}
			if _, res, err := r.open("/api/v1/stream", http.Header{"X-Api-Key": {token}, "X-Tenant-Id": {"default"}}); err == nil || res.StatusCode != 401 {
				t.Errorf("%s: a stream is opened: %v", name, err)
			}
			if code := w.ended(); code != websocket.StatusPolicyViolation {
				t.Errorf("%s: closed with %d", name, code)
			}
		}
		r.login("another-password", another)
	})
}

// A login of either dashboard, a reload with what it has stored, and its streams, as each asks for them.
func TestChecklist3_BothDashboardsLogIn(t *testing.T) {
	virtually(t, having("CORDUM_TENANT_HEADER", "optional"), func(t *testing.T, r *rig) {
		r.user("maya", "admin")
		job := r.submit("topic", "job.test.ask").JobID
		for _, secret := range []struct{ name, password string }{{"maya", password}, {"", "k-admin"}, {"maya", "k-ada"}} {
			token := r.login(secret.name, secret.password)
			// the older one: the token as key, and no tenant; the newer one: with the tenant
			for _, tenant := range []string{"", "default"} {
				me := r.as(token, "GET", session, nil, "X-Tenant-ID", tenant, "X-Principal-Id", "somebody", "X-Principal-Role", "admin").ok(200).object()
				if who := me["user"].(map[string]any); me["token"] != token || who["tenant"] != "default" || fmt.Sprint(who["roles"]) != "[admin]" {
					t.Errorf("after a reload: %v", me)
				}
				r.as(token, "GET", "/api/v1/approvals?limit=200", nil, "X-Tenant-ID", tenant).ok(200)
			}
			coded := base64.RawURLEncoding.EncodeToString([]byte(token))
			for _, offer := range []struct {
				protocols []string
				echo      string
			}{{[]string{"cordum-api-key", coded}, "cordum-api-key"}, {[]string{"cordum-api-key." + coded}, "cordum-api-key." + coded}} {
				for _, path := range []string{"/api/v1/stream", "/api/v1/jobs/" + job + "/stream"} {
					conn, res, err := r.open(path, http.Header{"Origin": {"http://localhost:3000"}}, offer.protocols...)
					if err != nil {
						t.Errorf("%s with %v: %v", path, offer.protocols, err)
						continue
					}
					if got := res.Header.Get("Sec-WebSocket-Protocol"); got != offer.echo {
						t.Errorf("%s: protocol %q", path, got)
					}
					_ = conn.CloseNow()
				}
			}
			r.as(token, "POST", "/api/v1/auth/logout", nil).ok(204)
			time.Sleep(known)
			r.as(token, "GET", session, nil).refused(401, "unauthorized")
		}
	})
}

func TestManagedKeys(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		if got := r.get(keysPath).ok(200).Body; got != `{"items":[]}` {
			t.Errorf("no key is %s", got)
		}
		made := r.post(keysPath, pairs("name", " ci ", "scopes", []string{"jobs:read", "JOBS:WRITE", "jobs:read"}, "expiresAt", "2026-11-23T14:00:00+01:00")).ok(201)
		secret, _ := made.object()["secret"].(string)
		id, _ := made.object()["key"].(map[string]any)["id"].(string)
		if !regexp.MustCompile(`^ck_[0-9a-f]{8}_[A-Za-z0-9_-]{43}$`).MatchString(secret) {
			t.Errorf("secret %q", secret)
		}
		want := fmt.Sprintf(`{"id":%q,"name":"ci","prefix":%q,"scopes":["jobs:read","jobs:write"],"createdAt":"2026-11-23T12:00:00Z","usageCount":0,"expiresAt":"2026-11-23T13:00:00Z"}`,
			id, secret[:11])
		if made.Body != fmt.Sprintf(`{"key":%s,"secret":%q}`, want, secret) {
			t.Errorf("made %s", made.Body)
		}
		time.Sleep(time.Second)
		if got := r.get(keysPath).ok(200).Body; got != `{"items":[`+want+`]}` {
			t.Errorf("list %s", got)
		}
		time.Sleep(time.Minute)
		for _, header := range [][]string{{"X-API-Key", secret}, {"Authorization", "Bearer " + secret}, {"X-API-Key", `"` + secret + `"`}} {
			r.as("", "GET", "/api/v1/jobs", nil, header...).ok(200)
		}
		if k := r.keys()[0]; k["usageCount"] != 1.0 || k["lastUsed"] != "2026-11-23T12:01:01Z" {
			t.Errorf("after three uses at once: %v", k)
		}
		time.Sleep(time.Minute)
		r.as(secret, "GET", "/api/v1/jobs", nil).ok(200)
		if k := r.keys()[0]; k["usageCount"] != 4.0 || k["lastUsed"] != "2026-11-23T12:02:02Z" {
			t.Errorf("a minute later: %v", k)
		}
		for text, fields := range map[string][]any{
			"name required": {"scopes", []string{"admin"}},
			"a scope must be one of admin, jobs:read, jobs:write, workflows:read, workflows:write, policy:read, policy:write": {"name", "x", "scopes", []string{"jobs:*"}},
			"expiresAt must be an RFC 3339 time in the future, such as 2030-01-31T00:00:00Z":                                  {"name", "x", "expiresAt", "2026-11-23T12:00:00Z"},
		} {
			r.post(keysPath, pairs(fields...)).refused(400, text)
		}
		second, admin := r.key("second", "admin")
		r.as(admin, "GET", usersPath, nil).ok(200)
		if got := r.keys(); len(got) != 2 || got[0]["id"] != second || got[1]["id"] != id {
			t.Errorf("list %v", got)
		}
		for _, unknown := range []string{"x", "0d1c0d1c-0d1c-4d1c-8d1c-0d1c0d1c0d1c", secret} {
			r.as("k-admin", "DELETE", keysPath+"/"+unknown, nil).refused(404, "api key not found")
		}
		r.as(admin, "DELETE", keysPath+"/"+second, nil).ok(204) // its own
		time.Sleep(known)
		r.as(admin, "GET", usersPath, nil).refused(401, "unauthorized")
		r.as("k-admin", "DELETE", keysPath+"/"+second, nil).refused(404, "api key not found")
		time.Sleep(time.Until(today.Add(time.Hour)))
		r.as(secret, "GET", "/api/v1/jobs", nil).refused(401, "unauthorized")
		if got := r.keys(); len(got) != 1 {
			t.Errorf("a key that has ended is shown until it is deleted: %v", got)
		}
	})
}

// scopes are all scopes, and "" for a key without any.
var scopes = []string{"", "admin", "jobs:read", "jobs:write", "workflows:read", "workflows:write", "policy:read", "policy:write"}

// areas are the services that scopes beside admin open; "-" is opened by every key.
var areas = map[string]string{
	"Jobs": "jobs", "Traces": "jobs", "Artifacts": "jobs", "Workflows": "workflows", "Runs": "workflows", "Schemas": "workflows", "Policy": "policy",
	"Bundles": "policy", "Auth": "-", "Status": "-",
}

// wanted is the scope that a route asks for, "" for none.
func wanted(route routes.Route) string {
	switch area := areas[strings.TrimPrefix(route.Service(), "cordum.v1.")]; {
	case area == "-":
		return ""
	case area == "":
		return "admin"
	case route.Method == "GET":
		return area + ":read"
	default:
		return area + ":write"
	}
}

// scoped makes a key of each scope.
func (r *rig) scoped() map[string]string {
	r.t.Helper()
	secrets := map[string]string{}
	for _, scope := range scopes {
		granted := []string{scope}
		if scope == "" {
			granted = nil
		}
		_, secrets[scope] = r.key("key "+scope, granted...)
	}
	return secrets
}

// Every route asks a key for the scope of its area: reading for GET, writing for what is more; without an area it is for administrators.
func TestScopesOfEveryRoute(t *testing.T) {
	parameters := regexp.MustCompile(`\{[^}]*\}`)
	virtually(t, config(), func(t *testing.T, r *rig) {
		secrets := r.scoped()
		tried := 0
		for _, route := range routes.All() {
			want := wanted(route)
			if route.Rule.Public || route.Service() == "cordum.v1.Workers" || want == "" {
				continue
			}
			for _, scope := range scopes {
				if scope == "admin" || scope == want {
					continue
				}
				tried++
				granted := strings.ReplaceAll(fmt.Sprintf("[%q]", scope), `""`, "")
				told := fmt.Sprintf(`{"error":"forbidden","status":403,"details":{"granted":%s,"required":%q},"reason":"key_scope_insufficient"}`, granted, want)
				got := r.as(secrets[scope], route.Method, parameters.ReplaceAllString(route.Path, "x"), "{}")
				if got.Status != 403 || got.Body != told {
					t.Errorf("%s %s with %q: %d %s, want %s", route.Method, route.Path, scope, got.Status, got.Body, told)
				}
			}
		}
		if tried < 400 {
			t.Errorf("only %d were tried", tried)
		}
	})
}

func TestWhatScopesOpen(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		secrets := r.scoped()
		for scope, paths := range map[string][]string{
			"jobs:read": {"/api/v1/jobs", "/api/v1/traces/x"}, "workflows:read": {"/api/v1/workflows", "/api/v1/workflow-runs", "/api/v1/schemas"},
			"policy:read": {"/api/v1/policy/snapshots"}, "": {"/api/v1/status", session}, "admin": {usersPath, "/api/v1/dlq"},
		} {
			for _, path := range paths {
				r.as(secrets[scope], "GET", path, nil).ok(200)
			}
		}
		id := r.submitAs(secrets["jobs:write"]).JobID
		r.as(secrets["jobs:write"], "POST", "/api/v1/jobs/"+id+"/cancel", nil).refused(403, "access denied") // as any user
		r.as(secrets["policy:write"], "POST", "/api/v1/policy/evaluate", pairs("topic", "job.test.work")).ok(200)
		one := "/api/v1/jobs/" + id + "/stream"
		r.watch(secrets["jobs:read"], one)
		for path, scope := range map[string]string{one: "jobs:write", "/api/v1/stream": "jobs:read"} {
			if _, res, err := r.open(path, http.Header{"X-Api-Key": {secrets[scope]}, "X-Tenant-Id": {"default"}}); err == nil || res.StatusCode != 403 {
				t.Errorf("%s: %v", path, err)
			}
		}
		api := cordumv1.NewCordumApiClient(r.conn())
		for scope, want := range map[string]struct{ submit, read codes.Code }{
			"jobs:write": {codes.OK, codes.PermissionDenied}, "jobs:read": {codes.PermissionDenied, codes.OK}, "policy:read": {codes.PermissionDenied, codes.PermissionDenied},
		} {
			ctx := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", secrets[scope])
			_, submitted := api.SubmitJob(ctx, &cordumv1.SubmitJobRequest{Prompt: "p", Topic: "job.test.work"})
			_, read := api.GetJobStatus(ctx, &cordumv1.GetJobStatusRequest{JobId: id})
			if status.Code(submitted) != want.submit || status.Code(read) != want.read {
				t.Errorf("%s over gRPC: %v, %v", scope, submitted, read)
			}
		}
	})
}

// Users and keys of another tenant are as if they did not exist; a cross-tenant administrator makes users where it says.
func TestIdentitiesAreOfATenant(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		id := r.user("maya", "admin", "email", "maya@corp.test")
		key, secret := r.key("ours", "admin")
		token := r.login("maya", password)
		foreign := func(method, path string, body any, status int, text string) {
			t.Helper()
			r.as("k-other", method, path, body).refused(status, text)
		}
		foreign("PUT", usersPath+"/"+id, pairs("email", "x@corp.test"), 404, "user not found")
		foreign("DELETE", usersPath+"/"+id, nil, 404, "user not found")
		foreign("POST", usersPath+"/"+id+"/password", pairs("password", another), 404, "user not found")
		foreign("DELETE", keysPath+"/"+key, nil, 404, "api key not found")
		foreign("POST", usersPath, pairs("username", "x", "password", password, "tenant", "default"), 403, "tenant access denied")
		time.Sleep(known)
		for _, path := range []string{usersPath, keysPath} {
			if got := r.as("k-other", "GET", path, nil).ok(200).Body; got != `{"items":[]}` {
				t.Errorf("%s: %s", path, got)
			}
		}
		r.as(token, "GET", session, nil).ok(200)
		r.as(secret, "GET", session, nil).ok(200)
		r.as("k-other", "POST", usersPath, pairs("username", "maya", "email", "maya@corp.test", "password", another, "role", "admin")).ok(201)
		theirs, _ := r.try("maya", another, "tenant", "other").ok(200).object()["token"].(string)
		r.as(theirs, "GET", session, nil).refused(403, "tenant access denied")
		r.as(theirs, "GET", session, nil, "X-Tenant-ID", "other").ok(200)
		r.as(theirs, "DELETE", usersPath+"/"+id, nil, "X-Tenant-ID", "other").refused(404, "user not found")
		got := r.as("k-cross", "POST", usersPath, pairs("username", "far", "password", password, "tenant", "third")).ok(201).object()
		if got["tenant"] != "third" {
			t.Errorf("made %v", got)
		}
		r.as("k-cross", "POST", usersPath, pairs("username", "far", "password", password, "tenant", "no tenant")).ok(400)
		r.as("k-cross", "PUT", usersPath+"/"+id, pairs("display_name", "M"), "X-Tenant-ID", "other").refused(404, "user not found")
		r.as("k-cross", "PUT", usersPath+"/"+id, pairs("display_name", "M")).ok(200)
	})
}

func TestWithoutUsers(t *testing.T) {
	virtually(t, having("CORDUM_USER_AUTH", "off", "CORDUM_ADMIN_USERNAME", "root", "CORDUM_ADMIN_PASSWORD", password), func(t *testing.T, r *rig) {
		for route, body := range map[string]any{
			"POST " + usersPath: pairs("username", "x", "password", password), "GET " + usersPath: nil, "PUT " + usersPath + "/x": pairs(), "DELETE " + usersPath + "/x": nil,
			"POST " + usersPath + "/x/password": pairs("password", password), "POST /api/v1/auth/password": pairs("current_password", password, "new_password", another),
		} {
			method, path, _ := strings.Cut(route, " ")
			r.as("k-admin", method, path, body).refused(400, "user authentication not enabled")
		}
		r.try("root", password).refused(401, "invalid credentials")
		r.as(r.login("root", "k-admin"), "GET", session, nil).ok(200)
		_, secret := r.key("ci", "jobs:read")
		r.as(secret, "GET", "/api/v1/jobs", nil).ok(200)
	})
}

// Sessions of users end where users are switched off.
func TestUsersAreSwitchedOff(t *testing.T) {
	cfg := config()
	cfg.Dir = t.TempDir()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		r.user("maya", "admin")
		token, ofKey := r.login("maya", password), r.login("", "k-admin")
		off := having("CORDUM_USER_AUTH", "off")
		off.Dir = cfg.Dir
		r.hibernate(off, time.Second)
		r.as(token, "GET", session, nil).refused(401, "unauthorized")
		r.as(ofKey, "GET", session, nil).ok(200)
	})
}

func TestTheFirstAdministratorOfAPlane(t *testing.T) {
	cfg := having("CORDUM_ADMIN_USERNAME", "root", "CORDUM_ADMIN_PASSWORD", password)
	cfg.Dir = t.TempDir()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		token := r.login("root", password)
		me := r.as(token, "GET", session, nil).ok(200).object()["user"].(map[string]any)
		if fmt.Sprint(me["roles"]) != "[admin]" {
			t.Errorf("%v", me)
		}
		r.as(token, "POST", "/api/v1/auth/password", pairs("current_password", password, "new_password", another)).ok(204)
		r.hibernate(cfg, time.Second) // it is not made again
		r.try("root", password).refused(401, "invalid credentials")
		r.login("root", another)
		if e := r.entries("default"); len(e) != 2 || e[1].Action != "create" || e[1].KeyID != "seed" {
			t.Errorf("entries %+v", e)
		}
	})
	for _, bad := range []plane.Config{
		having("CORDUM_ADMIN_USERNAME", "root"), having("CORDUM_ADMIN_USERNAME", "root", "CORDUM_ADMIN_PASSWORD", "Weak-Secret"),
	} {
		if p, err := plane.Open(t.Context(), bad); err == nil || strings.Contains(err.Error(), "Weak-Secret") || !strings.Contains(err.Error(), "CORDUM_ADMIN_PASSWORD") {
			t.Errorf("opened: %v", err)
			if p != nil {
				_ = p.Close()
			}
		}
	}
}

// unreached is a table that cannot be reached while it is told so.
type unreached struct {
	store.Table

	down *atomic.Bool
}

func (a unreached) Get(ctx context.Context, key store.Key) (store.Item, error) {
	if a.down.Load() {
		return store.Item{}, store.ErrUnavailable
	}
	return a.Table.Get(ctx, key)
}

func (a unreached) BatchGet(ctx context.Context, keys []store.Key) ([]store.Item, error) {
	if a.down.Load() {
		return nil, store.ErrUnavailable
	}
	return a.Table.BatchGet(ctx, keys)
}

func (a unreached) Write(ctx context.Context, ops ...store.Op) error {
	if a.down.Load() {
		return store.ErrUnavailable
	}
	return a.Table.Write(ctx, ops...)
}

// A table that is out of reach is 503, never 401, and closes no stream.
func TestATableOutOfReachIsNoRefusal(t *testing.T) {
	var down atomic.Bool
	cfg := config()
	cfg.Wrap = func(p dispatch.Platform) dispatch.Platform {
		p.Table = unreached{p.Table, &down}
		return p
	}
	virtually(t, cfg, func(t *testing.T, r *rig) {
		r.user("maya", "admin")
		token := r.login("maya", password)
		_, secret := r.key("ci", "admin")
		w := r.watch(token, "/api/v1/stream")
		down.Store(true)
		time.Sleep(known)
		for _, credential := range []string{token, secret, "session-" + strings.Repeat("x", 43)} {
			r.as(credential, "GET", session, nil).refused(503, "service unavailable")
		}
		r.try("maya", password).refused(503, "service unavailable")
		r.try("", secret).refused(503, "service unavailable")
		r.as("k-nobody", "GET", session, nil).refused(401, "unauthorized")
		r.as("session-of-nobody", "GET", session, nil).refused(401, "unauthorized")
		time.Sleep(5 * time.Minute)
		select {
		case code := <-w.closed:
			t.Errorf("closed with %d", code)
		default:
		}
		down.Store(false)
		r.as(token, "GET", session, nil).ok(200)
		r.as(secret, "GET", session, nil).ok(200)
	})
}

// Five wrong passwords of a name and an address lock out, whatever instance they reach, and a quarter of an hour later no more.
func TestLockOut(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.user("maya", "admin", "email", "maya@corp.test")
		for i := range 5 {
			r.try([]string{"maya", "MAYA@corp.test"}[i%2], another).refused(401, "invalid credentials")
			r.try("nobody", another).refused(401, "invalid credentials")
		}
		for _, name := range []string{"maya", "maya@corp.test", "nobody"} { // nobody learns who exists
			got := r.try(name, password)
			got.refused(429, "rate limit exceeded")
			if got.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		}
		r.try("", "k-admin").ok(200) // who names nobody is not locked out by what was tried on somebody
		time.Sleep(15*time.Minute + time.Second)
		r.login("maya", password)
	})
	virtually(t, having("MAX_LOGIN_ATTEMPTS", "2", "LOGIN_LOCKOUT_PERIOD", "1m"), func(t *testing.T, r *rig) {
		r.user("maya", "admin")
		for range 2 {
			r.try("maya", another).refused(401, "invalid credentials")
		}
		r.try("maya", password).refused(429, "rate limit exceeded")
		time.Sleep(time.Minute + time.Second)
		r.login("maya", password)
	})
}
