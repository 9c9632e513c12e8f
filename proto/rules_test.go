package proto_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	optionsv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/options/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
)

// linked keeps the generated packages, whose descriptors these tests read from the registry.
var linked = []protoreflect.FileDescriptor{agentv1.File_cordum_agent_v1_packet_proto, cordumv1.File_cordum_v1_jobs_proto}

func methods() map[string]protoreflect.MethodDescriptor {
	all := map[string]protoreflect.MethodDescriptor{}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(file.Path(), "cordum/") {
			for s := range each(file.Services()) {
				for m := range each(s.Methods()) {
					all[string(m.FullName())] = m
				}
			}
		}
		return true
	})
	return all
}

func ruleOf(m protoreflect.MethodDescriptor) *optionsv1.MethodRule {
	rule, _ := proto.GetExtension(m.Options(), optionsv1.E_Rule).(*optionsv1.MethodRule)
	return rule
}

func roles(m protoreflect.MethodDescriptor) string {
	names := make([]string, 0, len(ruleOf(m).GetRoles()))
	for _, r := range ruleOf(m).GetRoles() {
		names = append(names, strings.ToLower(strings.TrimPrefix(r.String(), "ROLE_")))
	}
	return strings.Join(names, " ")
}

func TestEveryMethodHasARule(t *testing.T) {
	if len(linked) != 2 {
		t.Fatal("the contract is not linked")
	}
	for name, m := range methods() {
		t.Run(name, func(t *testing.T) {
			rule := ruleOf(m)
			if len(rule.GetRoles()) == 0 {
				t.Fatal("nobody may call it")
			}
			known := optionsv1.Role(0).Descriptor().Values()
			for _, r := range rule.GetRoles() {
				if r == optionsv1.Role_ROLE_UNSPECIFIED || known.ByNumber(r.Number()) == nil {
					t.Errorf("%v is not a role", r)
				}
			}
			if len(rule.GetRoles()) > 1 && (slices.Contains(rule.GetRoles(), optionsv1.Role_ROLE_ANY) ||
				slices.Contains(rule.GetRoles(), optionsv1.Role_ROLE_PUBLIC)) {
				t.Error("public and any stand alone")
			}
			if !slices.Contains([]int32{0, 201, 204}, rule.GetStatus()) {
				t.Errorf("status %d", rule.GetStatus())
			}
			if empty := m.Output().FullName() == "google.protobuf.Empty"; empty != (rule.GetStatus() == 204) {
				t.Errorf("status %d with answer %s", rule.GetStatus(), m.Output().FullName())
			}
			if !slices.IsSorted(rule.GetErrors()) {
				t.Errorf("errors %v are not in order", rule.GetErrors())
			}
			for _, status := range rule.GetErrors() {
				public := slices.Contains(rule.GetRoles(), optionsv1.Role_ROLE_PUBLIC)
				if status < 400 || status > 599 || !public && slices.Contains([]int32{401, 403, 429, 500}, status) {
					t.Errorf("error %d goes without saying, or is none", status)
				}
			}
		})
	}
}

// What is not in the table of routes is for gRPC alone; workers may call nothing else.
func TestRolesOfGRPC(t *testing.T) {
	want := map[string]string{
		"cordum.v1.CordumApi.SubmitJob":              "admin operator user",
		"cordum.v1.CordumApi.GetJobStatus":           "any",
		"cordum.v1.ContextEngine.BuildWindow":        "admin worker",
		"cordum.v1.ContextEngine.UpdateMemory":       "admin worker",
		"cordum.v1.ContextEngine.StoreMemory":        "admin worker",
		"cordum.v1.Workers.Connect":                  "worker admin",
		"cordum.agent.v1.SafetyKernel.Check":         "any",
		"cordum.agent.v1.SafetyKernel.Evaluate":      "any",
		"cordum.agent.v1.SafetyKernel.Explain":       "any",
		"cordum.agent.v1.SafetyKernel.Simulate":      "any",
		"cordum.agent.v1.SafetyKernel.ListSnapshots": "any",
	}
	bound := map[string]bool{}
	for _, r := range table(t) {
		bound[r.Selector] = true
	}
	all := methods()
	for name, m := range all {
		switch {
		case bound[name] && want[name] != "":
			t.Errorf("%s has an HTTP route", name)
		case bound[name] && strings.Contains(roles(m), "worker") && !strings.HasPrefix(name, "cordum.v1.Workers."):
			t.Errorf("%s lets workers in", name)
		case !bound[name] && want[name] != roles(m):
			t.Errorf("%s is for %q, want %q", name, roles(m), want[name])
		}
	}
	for name := range want {
		if all[name] == nil {
			t.Errorf("%s does not exist", name)
		}
	}
}

// auditForm is what an annotation says: a verb and a resource, or a reason for none.
var auditForm = regexp.MustCompile(`^([a-z]+(_[a-z]+)* [a-z]+(_[a-z]+)*|none: .{8,})$`)

// Every route that changes something says what its audit entry is, or why it leaves none; so does what changes something over gRPC alone.
func TestEveryMutatingRouteSaysWhatItsAuditEntryIs(t *testing.T) {
	all := methods()
	mutating := map[string]bool{
		"cordum.v1.CordumApi.SubmitJob": true, "cordum.v1.ContextEngine.UpdateMemory": true, "cordum.v1.Workers.Connect": true,
		"cordum.v1.ContextEngine.StoreMemory": true,
	}
	for _, b := range table(t) {
		mutating[b.Selector] = b.Get == ""
	}
	for name, m := range all {
		said := ruleOf(m).GetAudit()
		switch {
		case !mutating[name] && said != "":
			t.Errorf("%s changes nothing, yet says %q", name, said)
		case mutating[name] && !auditForm.MatchString(said):
			t.Errorf("%s says %q of its audit entry: it must be a verb and a resource, or \"none: <why>\"", name, said)
		}
	}
}

// Options of fields say something that can be: CAP messages are protobuf JSON and have none, and no two members of an object share a name.
func TestJSONOptions(t *testing.T) {
	seen := 0
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(file.Path(), "cordum/") {
			return true
		}
		for m := range each(file.Messages()) {
			names := map[string]bool{}
			for f := range each(m.Fields()) {
				name := string(f.Name())
				if option, _ := proto.GetExtension(f.Options(), optionsv1.E_Json).(*optionsv1.FieldJson); option != nil {
					seen++
					if option.GetObject() && (f.Message() == nil || f.Message().FullName() != "cordum.v1.Json" || f.IsList()) {
						t.Errorf("%s is not any JSON", f.FullName())
					}
					if file.Package() != "cordum.v1" {
						t.Errorf("%s has a JSON option", f.FullName())
					}
					if option.GetName() != "" {
						name = option.GetName()
					}
				}
				if names[name] {
					t.Errorf("%s has two members %s", m.FullName(), name)
				}
				names[name] = true
			}
		}
		return true
	})
	if seen == 0 {
		t.Error("no field has an option")
	}
}

// What a comment calls required is so by its option, which the OpenAPI document is made from, and the other way round; a path has its parameters anyway.
func TestWhatIsRequiredIsSaidOnce(t *testing.T) {
	seen := 0
	for f, comment := range commented(t) {
		option := &optionsv1.FieldJson{}
		options := &descriptorpb.FieldOptions{}
		raw, err := proto.Marshal(f.Options())
		if err == nil {
			err = proto.Unmarshal(raw, options)
		}
		if err != nil {
			t.Fatal(err)
		}
		if set, ok := proto.GetExtension(options, optionsv1.E_Json).(*optionsv1.FieldJson); ok && set != nil {
			option = set
		}
		if said := strings.Contains(comment, "Required"); said != option.GetRequired() {
			t.Errorf("%s: required is %v, its comment is %q", f.FullName(), option.GetRequired(), comment)
		}
		if option.GetRequired() {
			seen++
			if option.GetPresence() != 0 || f.IsList() || f.IsMap() {
				t.Errorf("%s cannot be required", f.FullName())
			}
		}
	}
	if seen == 0 {
		t.Error("nothing is required")
	}
}

// Pages end with null, except the chat's, whose next_cursor is left out.
func TestNextCursor(t *testing.T) {
	want := map[string]optionsv1.Presence{
		"ListJobsResponse":        optionsv1.Presence_PRESENCE_NULL_EMPTY,
		"ListRunsResponse":        optionsv1.Presence_PRESENCE_NULL_EMPTY,
		"ListApprovalsResponse":   optionsv1.Presence_PRESENCE_NULL_EMPTY,
		"ListAuditResponse":       optionsv1.Presence_PRESENCE_NULL_EMPTY,
		"PageDeadLettersResponse": optionsv1.Presence_PRESENCE_NULL_EMPTY,
		"ListChatResponse":        optionsv1.Presence_PRESENCE_OMIT_EMPTY,
	}
	have := map[string]optionsv1.Presence{}
	for _, m := range methods() {
		if f := m.Output().Fields().ByName("next_cursor"); f != nil {
			option, _ := proto.GetExtension(f.Options(), optionsv1.E_Json).(*optionsv1.FieldJson)
			have[string(m.Output().Name())] = option.GetPresence()
			if f.Kind() != protoreflect.Int64Kind {
				t.Errorf("%s is a %s", f.FullName(), f.Kind())
			}
		}
	}
	for name, presence := range want {
		if have[name] != presence {
			t.Errorf("next_cursor of %s: %s, want %s", name, have[name], presence)
		}
	}
	if len(have) != len(want) {
		t.Errorf("pages: %v", have)
	}
}
