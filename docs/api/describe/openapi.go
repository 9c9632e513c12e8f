package describe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	optionsv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/options/v1"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
)

// object is a JSON object; encoding/json writes its members in the order of their names, so that the document is always the same.
type object = map[string]any

// OpenAPI writes the REST surface as an OpenAPI 2 document.
func (c *Contract) OpenAPI() ([]byte, error) {
	w := &writer{definitions: object{"Error": errorSchema}, responses: object{}, links: linksOf(c), asked: map[protoreflect.FullName]bool{}}
	for _, m := range c.routed() {
		w.asked[m.Input().FullName()] = true
	}
	paths, tags := object{}, []any{}
	for _, g := range c.Groups {
		used := false
		for _, m := range g.Methods {
			if m.Verb == "" {
				continue
			}
			used = true
			path := strings.ReplaceAll(m.Path, "=**}", "}")
			if paths[path] == nil {
				paths[path] = object{}
			}
			paths[path].(object)[strings.ToLower(m.Verb)] = w.operation(g, m)
		}
		if used {
			tags = append(tags, object{"name": g.Name, "description": g.Comment})
		}
	}
	doc := object{
		"swagger": "2.0", "schemes": []string{"http", "https"}, "consumes": []string{"application/json"}, "produces": []string{"application/json"},
		"info": object{
			"title": "Cordum", "version": "0.9.0",
			"description": "The control plane for the jobs of AI agents. Generated from proto/ by `make openapi`; do not edit.",
		},
		"tags": tags, "paths": paths, "definitions": w.definitions, "responses": w.responses,
		"securityDefinitions": object{"ApiKey": object{"type": "apiKey", "in": "header", "name": "X-API-Key"}},
		"security":            []any{object{"ApiKey": []string{}}},
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(doc)
	return b.Bytes(), err
}

var errorSchema = object{
	"type": "object", "required": []string{"error", "status"},
	"description": "The shape of every error. Some have more members, which their routes describe.",
	"properties": object{
		"error":  object{"type": "string", "description": "What happened, to which thing, and what to do."},
		"status": object{"type": "integer", "format": "int32", "description": "The HTTP status."},
	},
}

type writer struct {
	definitions, responses object
	links                  map[string]object              // by the name of the method that they lead from
	asked                  map[protoreflect.FullName]bool // what methods are asked with, which nobody answers
}

// side says who writes a message. The two have schemas of their own: what a client may leave out, the plane always says.
type side int

const (
	answer side = iota
	request
)

func (w *writer) operation(g Group, m Method) object {
	op := object{
		"operationId": m.FullName(), "tags": []string{g.Name}, "summary": firstSentence(m.Comment),
		"description": m.Comment + "\n\nRoles: " + strings.Join(roles(m.Rule), ", ") + ".",
		"parameters":  w.parameters(m), "responses": w.answers(m),
	}
	if isPublic(m.Rule) {
		op["security"] = []any{}
	}
	if m.Rule.GetBody() == optionsv1.BodyRule_BODY_RULE_MULTIPART {
		op["consumes"] = []string{"multipart/form-data"}
	}
	return op
}

func isPublic(rule *optionsv1.MethodRule) bool {
	return slices.Contains(rule.GetRoles(), optionsv1.Role_ROLE_PUBLIC)
}

func (w *writer) parameters(m Method) []any {
	out := []any{}
	if !isPublic(m.Rule) {
		out = append(out, object{
			"name": "X-Tenant-ID", "in": "header", "required": true, "type": "string",
			"description": "The tenant that the request is for. A plane, or a key, can be set up so that it may be left out.",
		})
	}
	in := m.Params()
	fields := m.Input().Fields()
	for _, name := range in {
		p := w.parameter(fields.ByName(protoreflect.Name(name)))
		p["in"], p["required"] = "path", true
		out = append(out, p)
	}
	for i := range fields.Len() {
		fd := fields.Get(i)
		name := string(fd.Name())
		switch {
		case slices.Contains(in, name):
		case m.Rule.GetBody() == optionsv1.BodyRule_BODY_RULE_MULTIPART:
			if name == "filename" {
				continue // of the file itself
			}
			p := w.parameter(fd)
			p["in"] = "formData"
			if fd.Kind() == protoreflect.BytesKind {
				p["type"] = "file"
				delete(p, "format")
			}
			out = append(out, p)
		case m.Body == name:
			out = append(out, w.body(m, w.member(fd, request)))
		case m.Body != "*" && fd.Message() == nil:
			p := w.parameter(fd)
			p["in"] = "query"
			out = append(out, p)
		}
	}
	if m.Body == "*" && m.Rule.GetBody() != optionsv1.BodyRule_BODY_RULE_MULTIPART {
		out = append(out, w.body(m, w.without(m.Input(), in)))
	}
	return out
}

func (w *writer) body(m Method, schema object) object {
	required := m.Rule.GetBody() == optionsv1.BodyRule_BODY_RULE_REQUIRED
	if ref, ok := schema["$ref"]; ok && !required {
		schema = object{"allOf": []any{object{"$ref": ref}}}
	}
	if required {
		delete(schema, "x-nullable")
	} else {
		schema["x-nullable"] = true
	}
	return object{"name": "body", "in": "body", "required": required, "schema": schema}
}

// without is a request's schema less the fields that are in the path.
func (w *writer) without(d protoreflect.MessageDescriptor, names []string) object {
	if len(names) == 0 {
		return w.ref(d, request)
	}
	return w.object(d, request, names)
}

// object is a message's schema, less some fields.
func (w *writer) object(d protoreflect.MessageDescriptor, s side, less []string) object {
	properties, required := object{}, []string{}
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		if slices.Contains(less, string(fd.Name())) {
			continue
		}
		properties[memberName(fd)] = w.member(fd, s)
		if s == answer && always(fd) || s == request && jsonOf(fd).GetRequired() {
			required = append(required, memberName(fd))
		}
	}
	out := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

// always says whether an answer has a member whatever its value.
func always(fd protoreflect.FieldDescriptor) bool {
	if isAgent(fd.Parent()) {
		return fd.ContainingOneof() == nil
	}
	return jsonOf(fd).GetPresence() != optionsv1.Presence_PRESENCE_OMIT_EMPTY
}

func (w *writer) parameter(fd protoreflect.FieldDescriptor) object {
	p := w.scalar(fd)
	p["name"], p["description"] = memberName(fd), comment(fd)
	if jsonOf(fd).GetRequired() {
		p["required"] = true
	}
	if fd.IsList() {
		delete(p, "format")
		p["type"], p["items"], p["collectionFormat"] = "array", object{"type": "string"}, "multi"
	}
	return p
}

// answers lists what a route can answer: its success, what any route answers that is asked like it, and the refusals that are its own.
func (w *writer) answers(m Method) object {
	status := success(m.Rule)
	ok := object{"description": http.StatusText(status), "headers": headers()}
	if status != http.StatusNoContent {
		ok["schema"] = w.success(m)
	}
	if out := m.Output().Name(); out == "SubmitJobResponse" || out == "StartRunResponse" {
		ok["headers"].(object)["X-Trace-Id"] = header("The trace, or the run, that has begun.", nil)
	}
	if links := w.links[m.FullName()]; links != nil {
		ok["x-links"] = links
	}
	out := object{strconv.Itoa(status): ok}
	for _, code := range refusals(m) {
		out[strconv.Itoa(code)] = w.refusal(code)
	}
	return out
}

// refusals are the statuses of the errors of a route.
func refusals(m Method) []int {
	codes := []int{400, 403, 429, 431, 500, 503} // 403 is for a page of another origin, too
	if !isPublic(m.Rule) {
		codes = append(codes, 401)
	}
	if m.Body != "" || grows(m.Output()) { // a body that is too large, or an answer
		codes = append(codes, 413)
	}
	for _, e := range m.Rule.GetErrors() {
		codes = append(codes, int(e))
	}
	return codes
}

// grows says whether nothing limits how long a message may be but what can be answered at all.
func grows(d protoreflect.MessageDescriptor) bool {
	for i := range d.Fields().Len() {
		if fd := d.Fields().Get(i); fd.IsList() || fd.IsMap() || fd.Message() != nil || fd.Kind() == protoreflect.BytesKind {
			return true
		}
	}
	return false
}

// refusal names the response of an error, which is the same on all routes.
func (w *writer) refusal(code int) object {
	name := strings.ReplaceAll(http.StatusText(code), " ", "")
	if w.responses[name] == nil {
		headers := headers()
		if code == http.StatusTooManyRequests {
			headers["Retry-After"] = header("Seconds to wait.", object{"type": "integer", "minimum": 1})
		}
		w.responses[name] = object{
			"description": http.StatusText(code), "schema": object{"$ref": "#/definitions/Error"}, "headers": headers,
		}
	}
	return object{"$ref": "#/responses/" + name}
}

// headers are those of every answer.
func headers() object {
	out := object{"X-Request-Id": header("What the request is called in logs: the client's own X-Request-Id, or a new one.", nil)}
	for name, value := range rest.Guards() {
		out[name] = header("The same on every answer.", object{"type": "string", "enum": []string{value}})
	}
	return out
}

func header(description string, schema object) object {
	out := object{"type": "string", "description": description, "x-required": true}
	maps.Copy(out, schema)
	return out
}

func (w *writer) success(m Method) object {
	if m.ResponseBody == "" {
		return w.ref(m.Output(), answer)
	}
	return w.member(m.Output().Fields().ByName(protoreflect.Name(m.ResponseBody)), answer)
}

const anyJSON = "cordum.v1.Json"

// ref names a message's definition and writes it when it is new.
func (w *writer) ref(d protoreflect.MessageDescriptor, s side) object {
	if d.FullName() == anyJSON {
		return object{"description": "Any JSON value."}
	}
	if d.FullName() == "google.protobuf.Timestamp" {
		return object{"type": "string", "format": "date-time"}
	}
	name := w.definition(d, s)
	if w.definitions[name] == nil {
		w.definitions[name] = object{} // it may name itself
		schema := w.object(d, s, nil)
		schema["description"] = comment(d)
		w.definitions[name] = schema
	}
	return object{"$ref": "#/definitions/" + name}
}

// definition is the name of a message's schema on one side.
func (w *writer) definition(d protoreflect.MessageDescriptor, s side) string {
	name := string(d.Name())
	if isAgent(d) {
		name = "agent." + name
	}
	if s == request && !w.asked[d.FullName()] {
		name += "Input"
	}
	return name
}

// member is the schema of a field. In a request null is as good as nothing.
func (w *writer) member(fd protoreflect.FieldDescriptor, s side) object {
	var out object
	switch {
	case fd.IsMap():
		out = object{"type": "object", "additionalProperties": w.value(fd.MapValue(), s)}
	case fd.IsList():
		out = object{"type": "array", "items": w.value(fd, s)}
	default:
		out = w.value(fd, s)
	}
	if jsonOf(fd).GetObject() {
		out = object{"type": "object"}
	}
	if ref, ok := out["$ref"]; ok { // nothing may stand beside a $ref
		out = object{"allOf": []any{object{"$ref": ref}}}
	}
	if text := comment(fd); text != "" {
		out["description"] = text
	}
	nullable := fd.Message() != nil && !fd.IsMap() && !fd.IsList() || fd.HasPresence() ||
		jsonOf(fd).GetPresence() == optionsv1.Presence_PRESENCE_NULL_EMPTY
	if s == request {
		nullable = !jsonOf(fd).GetRequired()
	}
	switch {
	case nullable:
		out["x-nullable"] = true
	case s == request && fd.Kind() == protoreflect.StringKind && !fd.IsList():
		out["minLength"] = 1
	}
	return out
}

func (w *writer) value(fd protoreflect.FieldDescriptor, s side) object {
	if fd.Message() != nil {
		return w.ref(fd.Message(), s)
	}
	return w.scalar(fd)
}

func (w *writer) scalar(fd protoreflect.FieldDescriptor) object {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		if isAgent(fd.Parent()) {
			return object{"type": "string", "format": "int64"}
		}
		return object{"type": "integer", "format": "int64"}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind, protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return object{"type": "integer", "format": "int32"}
	case protoreflect.FloatKind:
		return object{"type": "number", "format": "float"}
	case protoreflect.DoubleKind:
		return object{"type": "number", "format": "double"}
	case protoreflect.BytesKind:
		return object{"type": "string", "format": "byte"}
	case protoreflect.EnumKind:
		values := []string{}
		for i := range fd.Enum().Values().Len() {
			values = append(values, string(fd.Enum().Values().Get(i).Name()))
		}
		return object{"type": "string", "enum": values}
	case protoreflect.StringKind:
		return object{"type": "string"}
	default:
		panic(fmt.Sprintf("describe: field %s has kind %s", fd.FullName(), fd.Kind()))
	}
}

func firstSentence(text string) string {
	text = oneLine(text)
	if i := strings.Index(text, ". "); i >= 0 {
		return text[:i+1]
	}
	return text
}
