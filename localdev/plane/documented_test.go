package plane_test

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/cordum-serverless/cordum/docs/api"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
)

// described answers the statuses of the OpenAPI document, by path and verb.
var described = sync.OnceValue(func() map[string]map[string]struct {
	Responses map[string]json.RawMessage `json:"responses"`
} {
	var doc struct {
		Paths map[string]map[string]struct {
			Responses map[string]json.RawMessage `json:"responses"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(api.Document, &doc); err != nil {
		panic(err)
	}
	return doc.Paths
})

// documented fails the test when a route answers what the OpenAPI document does not say, whatever the test is about: a client that is made from the
// document knows no other.
func (r *rig) documented(method, target string, status int) {
	r.t.Helper()
	at, err := url.Parse(target)
	if err != nil {
		return
	}
	match, malformed := routes.Default().Find(method, at.EscapedPath())
	if malformed != nil || match.Route == nil {
		return // nobody's path
	}
	path := strings.ReplaceAll(match.Route.Path, "=**}", "}")
	if _, ok := described()[path][strings.ToLower(match.Route.Method)].Responses[strconv.Itoa(status)]; !ok {
		r.t.Errorf("%s %s answers %d, which the OpenAPI document does not say", match.Route.Method, path, status)
	}
}
