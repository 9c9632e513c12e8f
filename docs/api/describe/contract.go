// Package describe writes the documents of the API from the contract: its descriptors with their comments and options, and the table of
// routes.
package describe

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"

	"github.com/goccy/go-yaml"
	gproto "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	contract "github.com/cordum-serverless/cordum/proto"
	optionsv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/options/v1"
)

// Contract is everything that the documents say.
type Contract struct {
	Groups []Group
}

// Group is a service.
type Group struct {
	Name    string
	Comment string
	Methods []Method
}

// Method is a method, with the route that it answers in REST, if any.
type Method struct {
	protoreflect.MethodDescriptor
	Comment string
	Rule    *optionsv1.MethodRule
	// Verb and Path are of its route, "" for one that only gRPC has. Body and ResponseBody name fields: "*" is the whole message.
	Verb, Path, Body, ResponseBody string
}

// FullName is Service.Method, without the package.
func (m Method) FullName() string { return string(m.Parent().Name()) + "." + string(m.Name()) }

// Params lists the fields that the path holds.
func (m Method) Params() []string {
	var names []string
	for part := range strings.SplitSeq(m.Path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			name, _, _ = strings.Cut(strings.TrimSuffix(name, "}"), "=")
			names = append(names, name)
		}
	}
	return names
}

// Load builds the contract below root, the folder of the repository. It runs buf, from proto/tools.mod.
func Load(root string) (*Contract, error) {
	cmd := exec.Command("go", "tool", "-modfile=proto/tools.mod", "buf", "build", "proto", "--as-file-descriptor-set", "-o", "-#format=binpb")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	image, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("buf build: %w: %s", err, stderr.Bytes())
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := gproto.Unmarshal(image, set); err != nil {
		return nil, fmt.Errorf("buf build: %w", err)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, err
	}
	routes, err := routes()
	if err != nil {
		return nil, err
	}
	c := &Contract{}
	for _, path := range order(files, routes) {
		f, err := files.FindFileByPath(path)
		if err != nil {
			return nil, err
		}
		for i := range f.Services().Len() {
			c.Groups = append(c.Groups, group(f.Services().Get(i), routes))
		}
	}
	return c, nil
}

type route struct{ verb, path, body, responseBody string }

// order lists the files with services: in the order of the table of routes, then those that only gRPC has, by name.
func order(files *protoregistry.Files, routes []namedRoute) []string {
	var paths []string
	seen := map[string]bool{}
	add := func(path string) {
		if !seen[path] {
			seen[path] = true
			paths = append(paths, path)
		}
	}
	for _, r := range routes {
		if d, err := files.FindDescriptorByName(protoreflect.FullName(r.selector)); err == nil {
			add(d.ParentFile().Path())
		}
	}
	for _, path := range []string{
		"cordum/v1/cordum_api.proto", "cordum/v1/workers.proto", "cordum/v1/context_engine.proto", "cordum/agent/v1/safety_kernel.proto",
	} {
		add(path)
	}
	return paths
}

type namedRoute struct {
	selector string
	route
}

func routes() ([]namedRoute, error) {
	var doc struct {
		HTTP struct {
			Rules []map[string]string `yaml:"rules"`
		} `yaml:"http"`
	}
	if err := yaml.Unmarshal(contract.RoutesYAML, &doc); err != nil {
		return nil, fmt.Errorf("routes.yaml: %w", err)
	}
	var out []namedRoute
	for _, rule := range doc.HTTP.Rules {
		r := namedRoute{selector: rule["selector"], route: route{body: rule["body"], responseBody: rule["response_body"]}}
		for _, verb := range []string{"get", "post", "put", "delete", "patch"} {
			if path := rule[verb]; path != "" {
				r.verb, r.path = strings.ToUpper(verb), path
			}
		}
		out = append(out, r)
	}
	return out, nil
}

func group(s protoreflect.ServiceDescriptor, routes []namedRoute) Group {
	g := Group{Name: string(s.Name()), Comment: comment(s)}
	for i := range s.Methods().Len() {
		d := s.Methods().Get(i)
		m := Method{MethodDescriptor: d, Comment: comment(d), Rule: ruleOf(d)}
		for _, r := range routes {
			if r.selector == string(d.FullName()) {
				m.Verb, m.Path, m.Body, m.ResponseBody = r.verb, r.path, r.body, r.responseBody
			}
		}
		g.Methods = append(g.Methods, m)
	}
	return g
}

// ruleOf and jsonOf read our options; those of a descriptor that was built at run time are still bytes.
func ruleOf(d protoreflect.MethodDescriptor) *optionsv1.MethodRule {
	o := &descriptorpb.MethodOptions{}
	reread(d.Options(), o)
	rule, _ := gproto.GetExtension(o, optionsv1.E_Rule).(*optionsv1.MethodRule)
	return rule
}

func jsonOf(d protoreflect.FieldDescriptor) *optionsv1.FieldJson {
	o := &descriptorpb.FieldOptions{}
	reread(d.Options(), o)
	option, _ := gproto.GetExtension(o, optionsv1.E_Json).(*optionsv1.FieldJson)
	return option
}

func reread(from, into gproto.Message) {
	raw, err := gproto.Marshal(from)
	if err == nil {
		err = gproto.Unmarshal(raw, into)
	}
	if err != nil {
		panic("describe: options: " + err.Error()) // they were read from such bytes
	}
}

// comment is the text before a declaration.
func comment(d protoreflect.Descriptor) string {
	text := d.ParentFile().SourceLocations().ByDescriptor(d).LeadingComments
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}

// memberName is how a field is spelled in JSON.
func memberName(fd protoreflect.FieldDescriptor) string {
	switch {
	case jsonOf(fd).GetName() != "":
		return jsonOf(fd).GetName()
	case isAgent(fd.Parent()):
		return fd.JSONName()
	default:
		return string(fd.Name())
	}
}

func isAgent(d protoreflect.Descriptor) bool { return d.ParentFile().Package() == "cordum.agent.v1" }

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// roles are the words for who may call.
func roles(rule *optionsv1.MethodRule) []string {
	var out []string
	for _, r := range rule.GetRoles() {
		word := strings.ToLower(strings.TrimPrefix(r.String(), "ROLE_"))
		if r == optionsv1.Role_ROLE_ANY {
			word = "any authenticated"
		}
		out = append(out, word)
	}
	return out
}

func success(rule *optionsv1.MethodRule) int {
	if s := rule.GetStatus(); s != 0 {
		return int(s)
	}
	return 200
}
