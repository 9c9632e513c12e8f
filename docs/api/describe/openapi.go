package describe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	optionsv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/options/v1"
)

// object is a JSON object; encoding/json writes its members in the order of their names, so that the document is always the same.
type object = map[string]any

// OpenAPI writes the REST surface as an OpenAPI 2 document.
func (c *Contract) OpenAPI() ([]byte, error) {
	w := &writer{definitions: object{"Error": errorSchema}}
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
		"tags": tags, "paths": paths, "definitions": w.definitions,
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

type writer struct{ definitions object }

func (w *writer) operation(g Group, m Method) object {
	op := object{
		"operationId": m.FullName(), "tags": []string{g.Name}, "summary": firstSentence(m.Comment),
		"description": m.Comment + "\n\nRoles: " + strings.Join(roles(m.Rule), ", ") + ".",
		"parameters":  w.parameters(m), "responses": w.responses(m),
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
			"name": "X-Tenant-ID", "in": "header", "type": "string",
			"description": "The tenant that the request is for. Required, unless the plane or the key makes it optional.",
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
				p["type"], p["required"] = "file", true
				delete(p, "format")
			}
			out = append(out, p)
		case m.Body == name:
			out = append(out, w.body(m, w.field(fd)))
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
	return object{"name": "body", "in": "body", "required": m.Rule.GetBody() == optionsv1.BodyRule_BODY_RULE_REQUIRED, "schema": schema}
}

// without is a request's schema less the fields that are in the path.
func (w *writer) without(d protoreflect.MessageDescriptor, names []string) object {
	if len(names) == 0 {
		return w.ref(d)
	}
	properties := object{}
	for i := range d.Fields().Len() {
		if fd := d.Fields().Get(i); !slices.Contains(names, string(fd.Name())) {
			properties[memberName(fd)] = w.field(fd)
		}
	}
	return object{"type": "object", "properties": properties}
}

func (w *writer) parameter(fd protoreflect.FieldDescriptor) object {
	p := w.scalar(fd)
	p["name"], p["description"] = memberName(fd), comment(fd)
	if fd.IsList() {
		delete(p, "format")
		p["type"], p["items"], p["collectionFormat"] = "array", object{"type": "string"}, "multi"
	}
	return p
}

func (w *writer) responses(m Method) object {
	out := object{}
	status := success(m.Rule)
	ok := object{"description": http.StatusText(status)}
	if status != http.StatusNoContent {
		ok["schema"] = w.answer(m)
	}
	out[strconv.Itoa(status)] = ok
	codes := []int{400, 429, 500, 503}
	if !isPublic(m.Rule) {
		codes = append(codes, 401, 403)
	}
	for _, e := range m.Rule.GetErrors() {
		codes = append(codes, int(e))
	}
	for _, code := range codes {
		out[strconv.Itoa(code)] = object{"description": http.StatusText(code), "schema": object{"$ref": "#/definitions/Error"}}
	}
	return out
}

func (w *writer) answer(m Method) object {
	if m.ResponseBody == "" {
		return w.ref(m.Output())
	}
	return w.field(m.Output().Fields().ByName(protoreflect.Name(m.ResponseBody)))
}

const anyJSON = "cordum.v1.Json"

// ref names a message's definition and writes it when it is new.
func (w *writer) ref(d protoreflect.MessageDescriptor) object {
	if d.FullName() == anyJSON {
		return object{"description": "Any JSON value."}
	}
	if d.FullName() == "google.protobuf.Timestamp" {
		return object{"type": "string", "format": "date-time"}
	}
	name := string(d.Name())
	if isAgent(d) {
		name = "agent." + name
	}
	if w.definitions[name] == nil {
		properties := object{}
		w.definitions[name] = object{"type": "object", "description": comment(d), "properties": properties}
		for i := range d.Fields().Len() {
			fd := d.Fields().Get(i)
			properties[memberName(fd)] = w.field(fd)
		}
	}
	return object{"$ref": "#/definitions/" + name}
}

func (w *writer) field(fd protoreflect.FieldDescriptor) object {
	var s object
	switch {
	case fd.IsMap():
		s = object{"type": "object", "additionalProperties": w.value(fd.MapValue())}
	case fd.IsList():
		s = object{"type": "array", "items": w.value(fd)}
	default:
		s = w.value(fd)
	}
	nullable := fd.Message() != nil && !fd.IsMap() && !fd.IsList() || fd.HasPresence() ||
		jsonOf(fd).GetPresence() == optionsv1.Presence_PRESENCE_NULL_EMPTY
	if ref, ok := s["$ref"]; ok { // nothing may stand beside a $ref
		s = object{"allOf": []any{object{"$ref": ref}}}
	}
	if text := comment(fd); text != "" {
		s["description"] = text
	}
	if nullable {
		s["x-nullable"] = true
	}
	return s
}

func (w *writer) value(fd protoreflect.FieldDescriptor) object {
	if fd.Message() != nil {
		return w.ref(fd.Message())
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
