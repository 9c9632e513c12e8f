package auth

import (
	"cmp"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1" // its methods have rules
	optionsv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/options/v1"
	_ "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1" // its methods have rules
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/user"
)

// Rule is the row of one method in the table of the API: who may call it, and how HTTP treats it. It comes from the method's option in the
// contract and nowhere else. The zero Rule lets nobody in.
type Rule struct {
	// Public methods need no credential.
	Public bool
	// Any lets in every caller except a worker.
	Any bool
	// Roles are those that may call besides.
	Roles []identity.Role
	// Area is where the scopes of a managed key must lead: jobs, workflows, policy; "" is nowhere, which leaves it to the scope admin. Open methods ask
	// for no scope.
	Area string
	Open bool
	// Writes says that it changes something, which wants the scope to write.
	Writes bool
	// Status is the HTTP status of success.
	Status int
	// BodyRequired refuses a request without a JSON body.
	BodyRequired bool
	// BadBody is what the caller hears of a body that is no such message.
	BadBody string
	// MaxBody is the largest body in bytes; 0 is the plane's limit. LargeBody is what the caller hears of a larger one.
	MaxBody   int64
	LargeBody string
	// Errors are the HTTP statuses of the method's own refusals, for documents.
	Errors []int
}

// Allows says whether a role may call.
func (r Rule) Allows(role identity.Role) bool {
	return r.Public || r.Any && role != identity.Worker && role != "" || slices.Contains(r.Roles, role)
}

// scope is what a method asks of a credential that has scopes; "" is nothing.
func (r Rule) scope() string {
	switch {
	case r.Public || r.Open:
		return ""
	case r.Area == "":
		return user.ScopeAdmin
	case r.Writes:
		return r.Area + ":write"
	}
	return r.Area + ":read"
}

// Admits refuses a credential whose scopes or whose role do not let it call: a Denied fault.
func (r Rule) Admits(c Credential) error {
	if wanted := r.scope(); c.Scoped && wanted != "" && !slices.Contains(c.Scopes, wanted) {
		return fault.New(fault.Denied, "forbidden").With("reason", "key_scope_insufficient").
			With("details", map[string]any{"required": wanted, "granted": c.Scopes})
	}
	if !r.Allows(c.Role) {
		return fault.New(fault.Denied, "access denied")
	}
	return nil
}

// RuleOf answers the rule of a method by its gRPC name, such as "/cordum.v1.Jobs/SubmitJob". ok is false when the contract has no rule for
// it: then nobody may call it.
func RuleOf(method string) (rule Rule, ok bool) {
	rule, ok = rules()[method]
	return rule, ok
}

var rules = sync.OnceValue(func() map[string]Rule {
	all := map[string]Rule{}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			area, _ := proto.GetExtension(service.Options(), optionsv1.E_Area).(optionsv1.Area)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				if option, ok := proto.GetExtension(method.Options(), optionsv1.E_Rule).(*optionsv1.MethodRule); ok && option != nil {
					all["/"+string(service.FullName())+"/"+string(method.Name())] = readRule(option, area)
				}
			}
		}
		return true
	})
	return all
})

var roles = map[optionsv1.Role]identity.Role{
	optionsv1.Role_ROLE_ADMIN:    identity.Admin,
	optionsv1.Role_ROLE_OPERATOR: identity.Operator,
	optionsv1.Role_ROLE_USER:     identity.User,
	optionsv1.Role_ROLE_VIEWER:   identity.Viewer,
	optionsv1.Role_ROLE_WORKER:   identity.Worker,
}

var areas = map[optionsv1.Area]string{optionsv1.Area_AREA_JOBS: "jobs", optionsv1.Area_AREA_WORKFLOWS: "workflows", optionsv1.Area_AREA_POLICY: "policy"}

// readRule reads the options of a method. Whatever is not GET says something of its audit entry, and so does what changes something over gRPC alone.
func readRule(option *optionsv1.MethodRule, area optionsv1.Area) Rule {
	rule := Rule{
		Area: areas[area], Open: area == optionsv1.Area_AREA_OPEN, Writes: option.GetAudit() != "",
		Status: 200, BodyRequired: option.GetBody() == optionsv1.BodyRule_BODY_RULE_REQUIRED,
		BadBody: cmp.Or(option.GetBadBody(), "invalid json"), MaxBody: option.GetMaxBody(), LargeBody: cmp.Or(option.GetLargeBody(), "request body too large"),
	}
	if s := option.GetStatus(); s != 0 {
		rule.Status = int(s)
	}
	for _, role := range option.GetRoles() {
		switch role {
		case optionsv1.Role_ROLE_PUBLIC:
			rule.Public = true
		case optionsv1.Role_ROLE_ANY:
			rule.Any = true
		default:
			if known, ok := roles[role]; ok {
				rule.Roles = append(rule.Roles, known)
			}
		}
	}
	for _, status := range option.GetErrors() {
		rule.Errors = append(rule.Errors, int(status))
	}
	return rule
}
