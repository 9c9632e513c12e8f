package describe

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	optionsv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/options/v1"
)

// Reference writes the whole API, REST and gRPC, for people.
func (c *Contract) Reference() string {
	w := &reference{types: map[string]protoreflect.MessageDescriptor{}, enums: map[string]protoreflect.EnumDescriptor{}}
	w.line("<!-- Generated from proto/ by `make openapi`. Do not edit. -->\n# API reference\n")
	w.line("Every route needs a credential and names its tenant ([authentication.md](authentication.md)), unless its roles say public. Errors have one " +
		"shape, `{\"error\":\"…\",\"status\":404}`; beside what a route names, each may answer 400, 401 (unless it is public), 403, 429, 431, 500 and 503, and 413 where a body or an answer may be too large. Methods without a route are gRPC only.\n")
	for _, g := range c.Groups {
		w.line("- [%s](#%s): %s", g.Name, strings.ToLower(g.Name), firstSentence(g.Comment))
	}
	w.line("- [Types](#types)")
	for _, g := range c.Groups {
		w.line("\n## %s\n\n%s", g.Name, oneLine(g.Comment))
		for _, m := range g.Methods {
			w.method(m)
		}
	}
	w.line("\n## Types")
	for shown := map[string]bool{}; ; { // showing a type names others
		name := next(w.types, shown)
		if name == "" {
			break
		}
		shown[name] = true
		w.line("\n### %s\n\n%s", name, oneLine(comment(w.types[name])))
		w.fields(w.types[name], nil)
	}
	for _, name := range sorted(w.enums) {
		w.line("\n### %s\n\n%s\n\n| value | |\n|---|---|", name, oneLine(comment(w.enums[name])))
		for i := range w.enums[name].Values().Len() {
			v := w.enums[name].Values().Get(i)
			w.line("| `%s` = %d | %s |", v.Name(), v.Number(), cell(comment(v)))
		}
	}
	return w.b.String()
}

type reference struct {
	b     strings.Builder
	types map[string]protoreflect.MessageDescriptor
	enums map[string]protoreflect.EnumDescriptor
}

func (w *reference) line(format string, args ...any) { fmt.Fprintf(&w.b, format+"\n", args...) }

func (w *reference) method(m Method) {
	title := fmt.Sprintf("gRPC %s", m.FullName())
	if m.Verb != "" {
		title = fmt.Sprintf("%s %s", m.Verb, m.Path)
	}
	w.line("\n### %s\n\n%s\n", title, oneLine(m.Comment))
	facts := []string{"`" + string(m.Parent().FullName()) + "/" + string(m.Name()) + "`", "roles: " + strings.Join(roles(m.Rule), ", ")}
	if m.Verb != "" {
		facts = append(facts, "success: "+strconv.Itoa(success(m.Rule)))
		if body := bodyWord[m.Rule.GetBody()]; body != "" && m.Verb != "GET" {
			facts = append(facts, "body: "+body)
		}
		if errs := m.Rule.GetErrors(); len(errs) > 0 {
			facts = append(facts, "errors: "+strings.Trim(fmt.Sprint(errs), "[]"))
		}
	}
	if said := m.Rule.GetAudit(); said != "" {
		facts = append(facts, "audit: "+said)
	}
	w.line("%s", strings.Join(facts, " · "))
	if m.Input().Fields().Len() > 0 && !m.IsStreamingClient() {
		w.line("\nRequest:\n")
		w.fields(m.Input(), m.Params())
	}
	switch {
	case m.IsStreamingServer():
		w.line("\nA stream of %s in both directions.", w.typeName(m.Output()))
	case success(m.Rule) == 204:
	case m.ResponseBody != "":
		w.line("\nAnswer: %s, a bare array.", w.fieldType(m.Output().Fields().ByName(protoreflect.Name(m.ResponseBody))))
	default:
		w.line("\nAnswer: %s", w.typeName(m.Output()))
	}
}

var bodyWord = map[optionsv1.BodyRule]string{
	optionsv1.BodyRule_BODY_RULE_REQUIRED: "required", optionsv1.BodyRule_BODY_RULE_OPTIONAL: "optional",
	optionsv1.BodyRule_BODY_RULE_MULTIPART: "multipart form",
}

func (w *reference) fields(d protoreflect.MessageDescriptor, inPath []string) {
	if d.Fields().Len() == 0 {
		return
	}
	w.line("\n| member | # | type | |\n|---|---|---|---|")
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		note := ""
		switch jsonOf(fd).GetPresence() {
		case optionsv1.Presence_PRESENCE_OMIT_EMPTY:
			note = " *Left out when empty.*"
		case optionsv1.Presence_PRESENCE_NULL_EMPTY:
			note = " *null when empty.*"
		}
		if slices.Contains(inPath, string(fd.Name())) {
			note = " *In the path.*"
		}
		w.line("| `%s` | %d | %s | %s%s |", memberName(fd), fd.Number(), w.fieldType(fd), cell(comment(fd)), note)
	}
}

func cell(text string) string { return strings.ReplaceAll(oneLine(text), "|", `\|`) }

func (w *reference) fieldType(fd protoreflect.FieldDescriptor) string {
	switch {
	case fd.IsMap():
		return "map of string to " + w.valueType(fd.MapValue())
	case fd.IsList():
		return "list of " + w.valueType(fd)
	default:
		return w.valueType(fd)
	}
}

func (w *reference) valueType(fd protoreflect.FieldDescriptor) string {
	switch {
	case fd.Message() != nil:
		return w.typeName(fd.Message())
	case fd.Enum() != nil:
		name := string(fd.Enum().Name())
		w.enums[name] = fd.Enum()
		return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(name))
	default:
		return fd.Kind().String()
	}
}

func (w *reference) typeName(d protoreflect.MessageDescriptor) string {
	switch d.FullName() {
	case anyJSON:
		return "any JSON"
	case "google.protobuf.Timestamp":
		return "timestamp"
	case "google.protobuf.Empty":
		return "nothing"
	}
	name := string(d.Name())
	if isAgent(d) {
		name = "agent." + name
	}
	w.types[name] = d
	return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(strings.ReplaceAll(name, ".", "")))
}

func sorted[T any](m map[string]T) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func next(types map[string]protoreflect.MessageDescriptor, shown map[string]bool) string {
	for _, name := range sorted(types) {
		if !shown[name] {
			return name
		}
	}
	return ""
}
