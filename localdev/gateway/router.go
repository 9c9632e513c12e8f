package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	docs "github.com/cordum-serverless/cordum/docs/api"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// ByRoute sends a request to the function that answers its route, which named answers by its name. The path is decoded, as the function will get it.
func ByRoute(named func(name string) Function) Router {
	table := routes.Default()
	return func(method, path string) Function {
		service := ""
		if match, err := table.Find(method, (&url.URL{Path: path}).EscapedPath()); err == nil && match.Route != nil {
			service = match.Route.Service()
		}
		return named(resources.Serves(service).Name)
	}
}

// Routes lists what a function answers, "GET    /api/v1/jobs"; for the one that answers everything else, the routes that no other serves.
func Routes(function string) []string {
	var out []string
	for _, r := range routes.All() {
		if resources.Serves(r.Service()).Name == function {
			out = append(out, fmt.Sprintf("%-6s %s", r.Method, r.Path))
		}
	}
	return out
}

// WithPages serves the documentation beside the API.
func WithPages(api http.Handler) http.Handler {
	pages := http.StripPrefix("/docs", docs.Handler())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // no ServeMux: it would tidy paths that hold pointers
		if strings.HasPrefix(r.URL.Path, "/docs/") {
			pages.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}
