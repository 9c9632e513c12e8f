package e2e

import (
	"net/http"
	"slices"
)

// accountCases are about users, sessions and managed keys.
var accountCases = []testCase{
	{"a user logs in, is looked at everywhere, and is gone when an administrator says so", 0, func(s *story) {
		name := s.fresh()
		const first, second = "First-Horse-1", "Second-Horse-2"
		who := s.userMade(name, first)
		token := s.login(name, first)
		s.refused(s.post("/auth/login", map[string]any{"username": name, "password": second, "tenant": s.target.Tenant}), http.StatusUnauthorized, "invalid credentials")
		as := func(method, path string, body any) answer {
			s.Helper()
			return s.call(call{method: method, path: "/api/v1" + path, body: s.text(body), key: token})
		}
		var me struct {
			Token string `json:"token"`
			User  struct {
				ID    string   `json:"id"`
				Roles []string `json:"roles"`
			} `json:"user"`
		}
		if s.ok(as(http.MethodGet, "/auth/session", nil), &me); me.Token != token || me.User.ID != who || !slices.Equal(me.User.Roles, []string{"admin"}) {
			s.Errorf("session %+v", me)
		}
		kept := s.listen(token)
		s.gone(as(http.MethodPost, "/auth/password", map[string]any{"current_password": first, "new_password": second}))
		s.ok(as(http.MethodGet, "/auth/session", nil), &me) // the session that asked stays
		other := s.login(name, second)
		left := s.listen(other)
		s.gone(s.call(call{method: http.MethodPost, path: "/api/v1/auth/logout", key: other}))
		s.ends(other)
		left.closes()
		s.ok(s.call(call{method: http.MethodPut, path: "/api/v1/users/" + who, body: s.text(map[string]any{"email": name + "@e2e.test"})}), &struct{}{})
		s.eventually(s.patience(), func() (bool, string) {
			return slices.ContainsFunc(s.accounts("/users"), func(a account) bool { return a.ID == who }), "the user is not listed"
		})
		s.gone(s.call(call{method: http.MethodPost, path: "/api/v1/users/" + who + "/password", body: s.text(map[string]any{"password": first})}))
		s.ends(token)
		kept.closes()
		s.gone(s.call(call{method: http.MethodDelete, path: "/api/v1/users/" + who}))
		s.refused(s.post("/auth/login", map[string]any{"username": name, "password": first, "tenant": s.target.Tenant}), http.StatusForbidden, "user is disabled")
	}},
	{"a managed key opens what its scopes do, until it is deleted", 0, func(s *story) {
		var made struct {
			Key struct {
				ID string `json:"id"`
			} `json:"key"`
			Secret string `json:"secret"`
		}
		s.created(s.post("/auth/keys", map[string]any{"name": s.fresh(), "scopes": []string{"jobs:read"}}), &made)
		gone := call{method: http.MethodDelete, path: "/api/v1/auth/keys/" + made.Key.ID}
		s.Cleanup(func() { _, _ = s.send(gone) }) // the case has its verdict
		as := func(method, path string) answer {
			s.Helper()
			return s.call(call{method: method, path: "/api/v1" + path, key: made.Secret, body: s.text(s.body())})
		}
		if a := as(http.MethodGet, "/jobs?limit=1"); a.Status != http.StatusOK {
			s.Error(a)
		}
		s.refused(as(http.MethodPost, "/jobs"), http.StatusForbidden, "forbidden")
		var opened struct {
			Token string `json:"token"`
		}
		s.ok(s.post("/auth/login", map[string]any{"password": made.Secret}), &opened)
		s.eventually(s.patience(), func() (bool, string) {
			used := slices.ContainsFunc(s.accounts("/auth/keys"), func(a account) bool { return a.ID == made.Key.ID && a.Used != "" })
			return used, "the key is not listed as used"
		})
		s.gone(s.call(gone))
		s.ends(made.Secret)
		s.ends(opened.Token)
	}},
}

// account is what cases look at of a user or a key on a list.
type account struct {
	ID   string `json:"id"`
	Used string `json:"lastUsed"`
}

func (s *story) accounts(path string) []account {
	s.Helper()
	var all struct {
		Items []account `json:"items"`
	}
	s.ok(s.get(path), &all)
	return all.Items
}

// userMade makes an administrator and answers the id. The user is deleted in the end; the name stays taken.
func (s *story) userMade(name, password string) (id string) {
	s.Helper()
	var who account
	s.created(s.post("/users", map[string]any{"username": name, "password": password, "role": "admin"}), &who)
	s.Cleanup(func() { _, _ = s.send(call{method: http.MethodDelete, path: "/api/v1/users/" + who.ID}) }) // the case has its verdict
	return who.ID
}

func (s *story) login(name, password string) (token string) {
	s.Helper()
	var opened struct {
		Token string `json:"token"`
	}
	body := s.text(map[string]any{"username": name, "password": password, "tenant": s.target.Tenant})
	s.ok(s.call(call{method: http.MethodPost, path: "/api/v1/auth/login", body: body, keyless: true}), &opened)
	return opened.Token
}

// ends waits until a credential is refused, which takes seconds in every instance.
func (s *story) ends(credential string) {
	s.Helper()
	s.eventually(s.patience(), func() (bool, string) {
		a := s.call(call{method: http.MethodGet, path: "/api/v1/auth/session", key: credential})
		return a.Status == http.StatusUnauthorized, "a credential that was ended still opens: " + a.String()
	})
}
