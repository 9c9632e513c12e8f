package routes

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Table finds the route of a path. What is literal in a template beats a parameter, whatever the order of the routes.
type Table struct{ root node }

// node is what may follow one segment of a path.
type node struct {
	literal map[string]*node
	param   *node
	rest    *node // a greedy parameter: everything that is left, or all of it before what is literal there
	routes  map[string]*bound
}

// bound is a route with the names of its parameters, in the order of the path.
type bound struct {
	route *Route
	names []string
}

// NewTable makes a table. It refuses a template that it cannot read, and two routes for one method and path.
func NewTable(all []Route) (*Table, error) {
	t := &Table{}
	for i := range all {
		if err := t.add(&all[i]); err != nil {
			return nil, fmt.Errorf("%s %s: %w", all[i].Method, all[i].Path, err)
		}
	}
	return t, nil
}

func (t *Table) add(r *Route) error {
	path, ok := strings.CutPrefix(r.Path, "/")
	if !ok {
		return fmt.Errorf("the path does not begin with /")
	}
	at, names, wide := &t.root, []string(nil), false
	for segment := range strings.SplitSeq(path, "/") {
		name, greedy, err := parameter(segment)
		switch {
		case err != nil:
			return err
		case name != "" && wide:
			return fmt.Errorf("{%s} follows a greedy parameter", name)
		case name != "":
			names = append(names, name)
		}
		wide = wide || greedy
		at = at.grow(segment, name, greedy)
	}
	if at.routes == nil {
		at.routes = map[string]*bound{}
	}
	if other := at.routes[r.Method]; other != nil {
		return fmt.Errorf("it is also the path of %s", other.route.RPC)
	}
	at.routes[r.Method] = &bound{r, names}
	return nil
}

func (n *node) grow(segment, name string, greedy bool) *node {
	place := &n.param
	switch {
	case greedy:
		place = &n.rest
	case name == "":
		if n.literal == nil {
			n.literal = map[string]*node{}
		}
		if n.literal[segment] == nil {
			n.literal[segment] = &node{}
		}
		return n.literal[segment]
	}
	if *place == nil {
		*place = &node{}
	}
	return *place
}

// parameter reads a segment of a template: literal, {name} or {name=**}.
func parameter(segment string) (name string, greedy bool, err error) {
	inner, ok := strings.CutPrefix(segment, "{")
	if !ok {
		if segment == "" || strings.ContainsAny(segment, "{}*:") {
			return "", false, fmt.Errorf("segment %q is neither a word nor a parameter", segment)
		}
		return "", false, nil
	}
	inner, ok = strings.CutSuffix(inner, "}")
	name, greedy = strings.CutSuffix(inner, "=**")
	if !ok || name == "" || strings.ContainsAny(name, "{}*=:") {
		return "", false, fmt.Errorf("parameter %q is neither {name} nor {name=**}", segment)
	}
	return name, greedy, nil
}

// Match is what a table knows about a path.
type Match struct {
	// Route is nil when no route has the path, or none with the method.
	Route *Route
	// Params are the path's parameters, decoded.
	Params map[string]string
	// Allow are the methods that the path has, sorted; nil when no route has the path.
	Allow []string
}

// Find matches a path in its escaped form, as it stood on the request line. HEAD is answered by the route of GET. A slash that is escaped
// belongs to its segment; no segment of a match is empty, so that a trailing or doubled slash makes another path (the text of a greedy
// parameter is the caller's own, slashes included). It fails when an escape is malformed.
func (t *Table) Find(method, escaped string) (Match, error) {
	path, ok := strings.CutPrefix(escaped, "/")
	if !ok {
		return Match{}, nil
	}
	var buffer [8]string
	values := buffer[:0]
	at, err := t.root.find(path, &values)
	if err != nil || at == nil {
		return Match{}, err
	}
	if method == http.MethodHead {
		method = http.MethodGet
	}
	b := at.routes[method]
	if b == nil {
		return Match{Allow: at.allow()}, nil
	}
	m := Match{Route: b.route, Params: make(map[string]string, len(b.names))}
	for i, name := range b.names {
		m.Params[name] = values[i]
	}
	return m, nil
}

// find descends along the path and answers the node of its end; nil when there is none. The values of parameters are appended in order.
func (n *node) find(path string, values *[]string) (*node, error) {
	segment, rest, more := strings.Cut(path, "/")
	decoded, err := url.PathUnescape(segment)
	if err != nil {
		return nil, err
	}
	taken := len(*values)
	if next := n.literal[decoded]; next != nil {
		if end, err := next.descend(rest, more, values); end != nil || err != nil {
			return end, err
		}
	}
	if n.param != nil && decoded != "" {
		*values = append((*values)[:taken], decoded)
		if end, err := n.param.descend(rest, more, values); end != nil || err != nil {
			return end, err
		}
	}
	if n.rest != nil && path != "" {
		*values = (*values)[:taken]
		return n.rest.greedy(path, values)
	}
	return nil, nil
}

// greedy takes a path up to what is literal at its end, if a route has that, and else whole.
func (n *node) greedy(path string, values *[]string) (*node, error) {
	for i := 1; i < len(path); i++ {
		if path[i] != '/' {
			continue
		}
		end, err := n.find(path[i+1:], values)
		if err != nil {
			return nil, err
		}
		if end != nil {
			before, err := url.PathUnescape(path[:i])
			*values = append(*values, before)
			return end, err
		}
	}
	if n.routes == nil {
		return nil, nil
	}
	whole, err := url.PathUnescape(path)
	*values = append(*values, whole)
	return n, err
}

func (n *node) descend(rest string, more bool, values *[]string) (*node, error) {
	if more {
		return n.find(rest, values)
	}
	if n.routes == nil {
		return nil, nil
	}
	return n, nil
}

// allow lists the methods of a path; OPTIONS and, beside GET, HEAD are always among them.
func (n *node) allow() []string {
	methods := []string{http.MethodOptions}
	for m := range n.routes {
		methods = append(methods, m)
		if m == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	slices.Sort(methods)
	return methods
}
