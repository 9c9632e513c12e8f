// Package routes is the table of the REST surface: which method of the contract answers which HTTP method and path, by which rule. It is
// read from the contract's own table (proto/routes.yaml) and the methods' options; there is no other list of routes.
package routes

import (
	"fmt"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"

	"github.com/cordum-serverless/cordum/proto"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
)

// Route is one HTTP method and path.
type Route struct {
	// Method is the HTTP method, in capitals.
	Method string
	// Path is the template: literal segments, {name} for one segment, {name=**} at the end for all that is left.
	Path string
	// RPC is the gRPC name of the method that answers, "/cordum.v1.Jobs/SubmitJob".
	RPC string
	// Body says that the request's body is JSON for the method; without it a body is not read.
	Body bool
	// Rule is who may call and what is answered.
	Rule auth.Rule
}

// Service answers the full name of the service, "cordum.v1.Jobs".
func (r Route) Service() string {
	service, _, _ := strings.Cut(strings.TrimPrefix(r.RPC, "/"), "/")
	return service
}

// All answers every route, in the order of the contract's table. The slice is the caller's to keep and not to change. It panics when the
// table and the options contradict each other, which a test of this package excludes.
func All() []Route { return load().routes }

// Default answers the table of all routes.
func Default() *Table { return load().table }

type loaded struct {
	routes []Route
	table  *Table
}

var load = sync.OnceValue(func() loaded {
	all, err := Parse(proto.RoutesYAML, auth.RuleOf)
	if err != nil {
		panic("proto/routes.yaml: " + err.Error())
	}
	table, err := NewTable(all)
	if err != nil {
		panic("proto/routes.yaml: " + err.Error())
	}
	return loaded{all, table}
})

// document is a google.api.Service, as far as it speaks of HTTP.
type document struct {
	HTTP struct {
		Rules []rule `yaml:"rules"`
	} `yaml:"http"`
}

type rule struct {
	Selector string `yaml:"selector"`
	Get      string `yaml:"get"`
	Put      string `yaml:"put"`
	Post     string `yaml:"post"`
	Delete   string `yaml:"delete"`
	Patch    string `yaml:"patch"`
	Body     string `yaml:"body"`
	More     []rule `yaml:"additional_bindings"`
}

// Parse reads a google.api.Service document and joins each of its rules with the rule of its method. It refuses a rule without a path, with
// two, or for a method that ruleOf does not know.
func Parse(text []byte, ruleOf func(rpc string) (auth.Rule, bool)) ([]Route, error) {
	var doc document
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	var all []Route
	for _, r := range doc.HTTP.Rules {
		dot := strings.LastIndexByte(r.Selector, '.')
		if dot <= 0 {
			return nil, fmt.Errorf("selector %q is not a method's full name", r.Selector)
		}
		rpc := "/" + r.Selector[:dot] + "/" + r.Selector[dot+1:]
		access, ok := ruleOf(rpc)
		if !ok {
			return nil, fmt.Errorf("%s has no rule option", r.Selector)
		}
		for _, binding := range append([]rule{r}, r.More...) {
			route, err := binding.route()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.Selector, err)
			}
			route.RPC, route.Rule = rpc, access
			all = append(all, route)
		}
	}
	return all, nil
}

func (r rule) route() (Route, error) {
	var found []Route
	for _, b := range [...]struct{ method, path string }{
		{"GET", r.Get}, {"PUT", r.Put}, {"POST", r.Post}, {"DELETE", r.Delete}, {"PATCH", r.Patch},
	} {
		if b.path != "" {
			found = append(found, Route{Method: b.method, Path: b.path, Body: r.Body != ""})
		}
	}
	if len(found) != 1 {
		return Route{}, fmt.Errorf("a binding has exactly one of get, put, post, delete, patch")
	}
	return found[0], nil
}
