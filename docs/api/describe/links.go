package describe

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// The links of the document say how what one route makes is used by others: a job that was submitted is looked at, cancelled, claimed. They follow
// from names alone, so that a new route has its links as soon as it exists:
//
//   - A parameter is of a kind: {job_id} and {id} behind jobs are a job, {ptr} behind artifacts an artifact.
//   - POST to a list makes one of its kind: POST /users a user, whose id the answer has, or else the request. So does what answers a thing of a kind.
//     PUT makes what its path names.
//   - job_id in an answer is a job, wherever it is.
//   - A word that an answer says and another method of the service requires is the same thing: the resource of a lock.

// linksOf answers the links of all methods, by the name of the method that they lead from.
func linksOf(c *Contract) map[string]map[string]any {
	methods, kinds, made := c.routed(), map[string]bool{}, map[string]bool{}
	for _, m := range methods {
		for _, kind := range m.params() {
			kinds[kind] = true
		}
	}
	for _, m := range methods {
		for kind := range m.made(kinds) {
			made[kind] = true
		}
	}
	all := map[string]map[string]any{}
	for _, from := range methods {
		links := object{}
		for _, to := range methods {
			if link := from.linkTo(to, kinds, made); link != nil && to.FullName() != from.FullName() {
				links[to.FullName()] = link
			}
		}
		if len(links) > 0 {
			all[from.FullName()] = links
		}
	}
	return all
}

// routed lists the methods that have a route.
func (c *Contract) routed() []Method {
	var out []Method
	for _, g := range c.Groups {
		for _, m := range g.Methods {
			if m.Verb != "" {
				out = append(out, m)
			}
		}
	}
	return out
}

// linkTo answers how a method is called with what this one has made, nil when it is not. What its path names must be known, unless nobody makes such.
func (m Method) linkTo(to Method, kinds, somewhere map[string]bool) object {
	made, known := m.made(kinds), m.known()
	parameters, body := object{}, object{}
	uses := false
	for name, kind := range to.params() {
		switch {
		case made[kind] != "":
			parameters["path."+name], uses = made[kind], true
		case known[kind] != "":
			parameters["path."+name] = known[kind]
		case somewhere[kind]:
			return nil
		}
	}
	for _, fd := range to.required() {
		name := memberName(fd)
		value := made[strings.TrimSuffix(name, "_id")]
		if !strings.HasSuffix(name, "_id") {
			value = m.said(to, name)
		}
		switch {
		case value == "":
			continue
		case to.Body == "":
			parameters["query."+name] = value
		default:
			body[name] = value
		}
		uses = true
	}
	if !uses {
		return nil
	}
	for _, fd := range to.required() { // who holds a lock may give it back
		if name := memberName(fd); len(body) > 0 && body[name] == nil && slices.ContainsFunc(m.required(), named(name)) {
			body[name] = "$request.body#/" + name
		}
	}
	link := object{"operationId": to.FullName()}
	if len(parameters) > 0 {
		link["parameters"] = parameters
	}
	if len(body) > 0 {
		link["requestBody"] = body
	}
	return link
}

// made answers where the ids of what a method makes stand, by their kinds.
func (m Method) made(kinds map[string]bool) map[string]string {
	made := map[string]string{}
	switch m.Verb {
	case "PUT":
		return m.known()
	case "POST":
	default:
		return made
	}
	own := m.makes(kinds)
	for i := range m.Output().Fields().Len() {
		fd := m.Output().Fields().Get(i)
		name := memberName(fd)
		kind, isID := strings.CutSuffix(name, "_id")
		if !isID {
			kind, isID = strings.CutSuffix(name, "_ptr")
		}
		switch {
		case fd.IsList() || fd.IsMap() || !always(fd):
		case isID && kinds[kind]:
			made[kind] = "$response.body#/" + name
		case name == "id" && own != "":
			made[own] = "$response.body#/id"
		case name == own && fd.Message() != nil && fd.Message().Fields().ByName("id") != nil:
			made[own] = "$response.body#/" + name + "/id"
		}
	}
	if own != "" && made[own] == "" && slices.ContainsFunc(m.required(), named("id")) {
		made[own] = "$request.body#/id"
	}
	return made
}

// makes is the kind of the list that a method posts to, verbs behind it aside (packs/install makes a pack), or of what it answers.
func (m Method) makes(kinds map[string]bool) string {
	parts := strings.Split(m.Path, "/")
	for _, part := range slices.Backward(parts[max(0, len(parts)-2):]) {
		if strings.HasPrefix(part, "{") {
			break
		}
		if kind := kindOf(part); kinds[kind] {
			return kind
		}
	}
	if kind := strings.ToLower(string(m.Output().Name())); kinds[kind] {
		return kind
	}
	return ""
}

// known answers what a method's own path names, by kind.
func (m Method) known() map[string]string {
	known := map[string]string{}
	for name, kind := range m.params() {
		known[kind] = "$request.path." + name
	}
	return known
}

// said answers a word of the answer that a method of the same service requires.
func (m Method) said(to Method, name string) string {
	fd := m.Output().Fields().ByName(protoreflect.Name(name))
	if m.Verb != "POST" || m.Parent() != to.Parent() || m.ResponseBody != "" || fd == nil || fd.Kind() != protoreflect.StringKind || fd.IsList() {
		return ""
	}
	return "$response.body#/" + name
}

// params answers the parameters of the path and their kinds.
func (m Method) params() map[string]string {
	kinds := map[string]string{}
	before := ""
	for part := range strings.SplitSeq(m.Path, "/") {
		name, ok := strings.CutPrefix(part, "{")
		if !ok {
			before = part
			continue
		}
		name, _, _ = strings.Cut(strings.TrimSuffix(name, "}"), "=")
		if kind, ok := strings.CutSuffix(name, "_id"); ok {
			kinds[name] = kind
		} else {
			kinds[name] = kindOf(before)
		}
	}
	return kinds
}

// required lists the fields, outside the path, that a request must have. A body that is a field counts as what it holds.
func (m Method) required() []protoreflect.FieldDescriptor {
	in := m.Input()
	if fd := in.Fields().ByName(protoreflect.Name(m.Body)); fd != nil && fd.Message() != nil {
		in = fd.Message()
	}
	var out []protoreflect.FieldDescriptor
	for i := range in.Fields().Len() {
		if fd := in.Fields().Get(i); jsonOf(fd).GetRequired() && !slices.Contains(m.Params(), string(fd.Name())) {
			out = append(out, fd)
		}
	}
	return out
}

func named(name string) func(protoreflect.FieldDescriptor) bool {
	return func(fd protoreflect.FieldDescriptor) bool { return memberName(fd) == name }
}

// kindOf is one of a list: a run of workflow-runs, a job of jobs.
func kindOf(list string) string {
	return strings.TrimSuffix(list[strings.LastIndexByte(list, '-')+1:], "s")
}
