package routes_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/edge/routes"
)

// FuzzFind: a path leads to one route, to the methods that it has, or nowhere; no parameter is empty or holds what is another segment.
func FuzzFind(f *testing.F) {
	for _, seed := range []string{"/api/v1/jobs", "/api/v1/jobs/a%2Fb", "/api/v1/jobs//cancel", "/api/v1/schemas/a/b", "/api/v1/artifacts/redis:%2F%2Fart:1", "/%zz", ""} {
		f.Add("GET", seed)
	}
	table := routes.Default()
	f.Fuzz(func(t *testing.T, method, path string) {
		m, err := table.Find(method, path)
		if err != nil {
			if _, fine := url.PathUnescape(path); fine == nil {
				t.Errorf("%s %q: %v", method, path, err)
			}
			return
		}
		if m.Route != nil && m.Route.Method != method && (method != "HEAD" || m.Route.Method != "GET") {
			t.Errorf("%s %q leads to %s %s", method, path, m.Route.Method, m.Route.Path)
		}
		for name, value := range m.Params {
			if value == "" || !strings.Contains(m.Route.Path, "{"+name) {
				t.Errorf("%s %q: parameter %q is %q", method, path, name, value)
			}
		}
	})
}
