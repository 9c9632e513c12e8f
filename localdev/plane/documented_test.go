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

// described is the OpenAPI document: paths, verbs, and what each can answer.
var described = sync.OnceValue(func() map[string]map[string]struct{ Responses map[string]json.RawMessage } {
	var doc struct {
		Paths map[string]map[string]struct{ Responses map[string]json.RawMessage }
	}
	if err := json.Unmarshal(api.Document, &doc); err != nil {
		panic(err)
	}
	return doc.Paths
})

// documented fails a test when a route answers what the OpenAPI document does not say, whatever the test is about: whoever made a client from the
// document would not know what to do with it.
func (r *rig) documented(method, target string, status int) {
	r.t.Helper()
	at, err := url.Parse(target)
	if err != nil {
		return
	}
	match, malformed := routes.Default().Find(method, at.EscapedPath())
	if malformed != nil || match.Route == nil {
		return // no route's
	}
	path := strings.ReplaceAll(match.Route.Path, "=**}", "}")
	if _, ok := described()[path][strings.ToLower(match.Route.Method)].Responses[strconv.Itoa(status)]; !ok {
		r.t.Errorf("%s %s answers %d, which the OpenAPI document does not say", match.Route.Method, path, status)
	}
}
