package plane_test

import (
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
	"github.com/cordum-serverless/cordum/shared/edge/stream"
)

// Every route, with every kind of answer that it has for whom it lets in and for whom it does not, is guarded; so is what is no route.
func TestEveryAnswerIsGuarded(t *testing.T) {
	virtually(t, having("CORDUM_ENV", "production", "GRPC_PLAINTEXT", "private"), func(t *testing.T, r *rig) {
		type target struct{ method, path string }
		targets := []target{{"GET", "/health"}, {"POST", "/health"}, {"GET", "/"}, {"GET", "/api/v1/nothing"}, {"PUT", "/api/v1/jobs"}, {"GET", "/api/v1/jobs/%zz"},
			{"GET", stream.Path}, {"POST", stream.Path}, {"OPTIONS", "/api/v1/jobs"}}
		for _, route := range routes.All() {
			path := strings.NewReplacer("{", "", "}", "", "=**", "", "...", "").Replace(route.Path)
			targets = append(targets, target{route.Method, path})
			if route.Method == "GET" {
				targets = append(targets, target{"HEAD", path})
			}
		}
		for _, to := range targets {
			for _, key := range []string{"", "k-none", "k-viewer", "k-admin"} {
				a := r.as(key, to.method, strings.ReplaceAll(to.path, "%zz", "%25"), `{"`)
				for name, want := range rest.Guards() {
					if got := a.Header.Values(name); len(got) != 1 || got[0] != want {
						t.Errorf("%s %s with %q answers %d with %s %q", to.method, to.path, key, a.Status, name, got)
					}
				}
				if got := a.Header.Get("Strict-Transport-Security"); got == "" && strings.HasPrefix(to.path, "/api/") && !strings.HasSuffix(to.path, "/stream") {
					t.Errorf("%s %s with %q answers %d without Strict-Transport-Security", to.method, to.path, key, a.Status)
				}
				if to.method != "HEAD" && a.Status >= 400 && a.Header.Get("Content-Type") != "application/json" {
					t.Errorf("%s %s with %q answers %d as %q", to.method, to.path, key, a.Status, a.Header.Get("Content-Type"))
				}
			}
		}
	})
}
