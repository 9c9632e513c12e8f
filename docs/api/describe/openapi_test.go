package describe_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/edge/rest"
)

type schema struct {
	Ref        string            `json:"$ref"`
	AllOf      []schema          `json:"allOf"`
	Required   []string          `json:"required"`
	Properties map[string]schema `json:"properties"`
	Items      *schema           `json:"items"`
	Values     *schema           `json:"additionalProperties"`
	Nullable   bool              `json:"x-nullable"`
	MinLength  int               `json:"minLength"`
}

type response struct {
	Ref     string                             `json:"$ref"`
	Schema  *schema                            `json:"schema"`
	Headers map[string]struct{ Enum []string } `json:"headers"`
	Links   map[string]link                    `json:"x-links"`
}

type link struct {
	OperationID string            `json:"operationId"`
	Parameters  map[string]string `json:"parameters"`
	RequestBody map[string]string `json:"requestBody"`
}

type parameter struct {
	Name, In string
	Required bool
	Schema   *schema
}

type operation struct {
	ID         string `json:"operationId"`
	Verb, Path string
	Parameters []parameter
	Responses  map[string]response
}

type openAPI struct {
	Paths       map[string]map[string]*operation
	Definitions map[string]schema
	Responses   map[string]response
}

func document(t *testing.T) (doc openAPI, operations map[string]*operation) {
	t.Helper()
	text, err := load(t).OpenAPI()
	if err == nil {
		err = json.Unmarshal(text, &doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	operations = map[string]*operation{}
	for path, verbs := range doc.Paths {
		for verb, op := range verbs {
			op.Verb, op.Path = strings.ToUpper(verb), path
			operations[op.ID] = op
		}
	}
	return doc, operations
}

// What a client may leave out of a request, an answer always says; so the two have schemas of their own.
func TestRequestsAndAnswersAreDescribedApart(t *testing.T) {
	doc, _ := document(t)
	for name, want := range map[string][]string{
		"CreateJobRequest":          {"prompt"},
		"AcquireLockRequest":        {"resource", "owner"},
		"StepInput":                 nil,
		"Step":                      {"id", "name", "type"},
		"Lock":                      {"resource", "mode", "updated_at", "expires_at", "fencing_token"},
		"agent.PolicyCheckResponse": {"decision", "reason"},
	} {
		have := doc.Definitions[name]
		if have.Properties == nil {
			t.Errorf("%s is not described", name)
		}
		for _, member := range want {
			if !slices.Contains(have.Required, member) {
				t.Errorf("%s need not have %s", name, member)
			}
		}
		if want == nil && len(have.Required) > 0 {
			t.Errorf("%s must have %v", name, have.Required)
		}
	}
	if p := doc.Definitions["AcquireLockRequest"].Properties; p["resource"].Nullable || p["resource"].MinLength != 1 || !p["ttl_ms"].Nullable {
		t.Errorf("of a request: %+v", p)
	}
	if p := doc.Definitions["Lock"].Properties; p["resource"].Nullable || p["resource"].MinLength != 0 || slices.Contains(doc.Definitions["Lock"].Required, "owners") {
		t.Errorf("of an answer: %+v", p)
	}
}

// Of what belongs to requests nothing is in an answer, nor the other way round.
func TestSidesDoNotMix(t *testing.T) {
	doc, operations := document(t)
	asked := map[string]bool{}
	for _, g := range load(t).Groups {
		for _, m := range g.Methods {
			asked[string(m.Input().Name())] = m.Verb != ""
		}
	}
	isRequest := func(name string) bool { return strings.HasSuffix(name, "Input") || asked[name] }
	refs := 0
	var walk func(of string, in bool, s schema)
	walk = func(of string, in bool, s schema) {
		if name, ok := strings.CutPrefix(s.Ref, "#/definitions/"); ok {
			refs++
			if isRequest(name) != in {
				t.Errorf("%s has %s", of, name)
			}
		}
		for _, part := range s.AllOf {
			walk(of, in, part)
		}
		for _, part := range s.Properties {
			walk(of, in, part)
		}
		for _, part := range []*schema{s.Items, s.Values} {
			if part != nil {
				walk(of, in, *part)
			}
		}
	}
	for name, s := range doc.Definitions {
		walk(name, isRequest(name), s)
	}
	for id, op := range operations {
		for _, p := range op.Parameters {
			if p.Schema != nil {
				walk(id, true, *p.Schema)
			}
		}
		for _, r := range op.Responses {
			if r.Schema != nil {
				walk(id, false, *r.Schema)
			}
		}
	}
	if refs < 100 {
		t.Errorf("only %d references were looked at", refs)
	}
}

// Every answer has its headers, every error the one shape; what is refused for its size, or for a credential, is so wherever that can be.
func TestAnswersAreDescribedWhole(t *testing.T) {
	doc, operations := document(t)
	for id, op := range operations {
		hasBody := slices.ContainsFunc(op.Parameters, func(p parameter) bool { return p.In == "body" || p.In == "formData" })
		protected := slices.ContainsFunc(op.Parameters, func(p parameter) bool { return p.Name == "X-Tenant-ID" && p.Required })
		for code, want := range map[string]bool{"400": true, "401": true, "403": true, "413": hasBody, "429": true, "500": true, "503": true} {
			if _, ok := op.Responses[code]; want && !ok && (protected || code != "401") {
				t.Errorf("%s does not answer %s", id, code)
			}
		}
		for code, r := range op.Responses {
			if r.Ref != "" {
				r = doc.Responses[strings.TrimPrefix(r.Ref, "#/responses/")]
			}
			status, err := strconv.Atoi(code)
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range rest.Guards() {
				if !slices.Equal(r.Headers[name].Enum, []string{value}) {
					t.Errorf("%s %s: header %s is %v", id, code, name, r.Headers[name])
				}
			}
			if _, ok := r.Headers["X-Request-Id"]; !ok {
				t.Errorf("%s %s has no X-Request-Id", id, code)
			}
			if _, ok := r.Headers["Retry-After"]; ok != (status == http.StatusTooManyRequests) {
				t.Errorf("%s %s: Retry-After: %v", id, code, ok)
			}
			if (r.Schema == nil) != (status == http.StatusNoContent) || status >= 400 && r.Schema.Ref != "#/definitions/Error" {
				t.Errorf("%s %s answers %+v", id, code, r.Schema)
			}
		}
	}
	for _, id := range []string{"Jobs.CreateJob", "Jobs.RemediateJob", "Runs.StartRun", "Runs.RerunRun", "DeadLetters.RetryDeadLetter"} {
		if _, ok := operations[id].Responses["200"].Headers["X-Trace-Id"]; !ok {
			t.Errorf("%s has no X-Trace-Id", id)
		}
	}
}

func TestLinks(t *testing.T) {
	_, operations := document(t)
	for _, test := range []struct{ from, code, to, want string }{
		{"Jobs.CreateJob", "200", "Jobs.GetJob", "path.id=$response.body#/job_id"},
		{"Jobs.CreateJob", "200", "Jobs.CancelJob", "path.id=$response.body#/job_id"},
		{"Jobs.CreateJob", "200", "Approvals.ApproveJob", "path.job_id=$response.body#/job_id"},
		{"Jobs.CreateJob", "200", "DeadLetters.RetryDeadLetter", "path.job_id=$response.body#/job_id"},
		{"Jobs.CreateJob", "200", "Traces.GetTrace", "path.id=$response.body#/trace_id"},
		{"Jobs.CreateJob", "200", "Workers.ClaimJob", "body.job_id=$response.body#/job_id"},
		{"Workflows.CreateWorkflow", "201", "Runs.StartRun", "path.id=$response.body#/id"},
		{"Runs.StartRun", "200", "Runs.GetRun", "path.id=$response.body#/run_id"},
		{"Runs.StartRun", "200", "Runs.CancelRun", "path.id=$request.path.id path.run_id=$response.body#/run_id"},
		{"Runs.StartRun", "200", "Runs.ApproveStep", "path.id=$request.path.id path.run_id=$response.body#/run_id"},
		{"Schemas.RegisterSchema", "204", "Schemas.GetSchema", "path.id=$request.body#/id"},
		{"Users.CreateUser", "201", "Users.DeleteUser", "path.id=$response.body#/id"},
		{"Users.CreateApiKey", "201", "Users.DeleteApiKey", "path.id=$response.body#/key/id"},
		{"Artifacts.CreateArtifact", "200", "Artifacts.GetArtifact", "path.ptr=$response.body#/artifact_ptr"},
		{"Bundles.PutBundle", "200", "Bundles.DeleteBundle", "path.id=$request.path.id"},
		{"Bundles.CreateBundleSnapshot", "200", "Bundles.Rollback", "body.snapshot_id=$response.body#/id"},
		{"Packs.InstallPack", "200", "Packs.VerifyPack", "path.id=$response.body#/id"},
		{"Marketplace.InstallMarketplacePack", "200", "Packs.GetPack", "path.id=$response.body#/id"},
		{"Locks.AcquireLock", "200", "Locks.ReleaseLock", "body.owner=$request.body#/owner body.resource=$response.body#/resource"},
		{"Locks.AcquireLock", "200", "Locks.GetLock", "query.resource=$response.body#/resource"},
		{"Workflows.CreateWorkflow", "201", "Runs.CancelRun", ""}, // of which run is not known
		{"Jobs.GetJob", "200", "Jobs.CancelJob", ""},              // it makes nothing
		{"Policy.Evaluate", "200", "Policy.Explain", ""},
	} {
		t.Run(test.from+" "+test.to, func(t *testing.T) {
			l := operations[test.from].Responses[test.code].Links[test.to]
			var have []string
			for name, value := range l.Parameters {
				have = append(have, name+"="+value)
			}
			for name, value := range l.RequestBody {
				have = append(have, "body."+name+"="+value)
			}
			slices.Sort(have)
			if strings.Join(have, " ") != test.want {
				t.Errorf("%v, want %s", have, test.want)
			}
		})
	}
}

// Whatever a link names is there, and whatever a POST or PUT makes leads to the routes that take it.
func TestLinksLeadSomewhere(t *testing.T) {
	doc, operations := document(t)
	expression := regexp.MustCompile(`^\$(response\.body#/|request\.body#/|request\.path\.)(.+)$`)
	reached := map[string]bool{}
	for id, op := range operations {
		for code, r := range op.Responses {
			for name, l := range r.Links {
				to := operations[l.OperationID]
				if to == nil || name != l.OperationID {
					t.Fatalf("%s leads to %s, which is no operation", id, l.OperationID)
				}
				reached[name] = true
				for at, value := range l.Parameters {
					in, parameterName, _ := strings.Cut(at, ".")
					if !slices.ContainsFunc(to.Parameters, func(p parameter) bool { return p.In == in && p.Name == parameterName }) {
						t.Errorf("%s %s: %s has no %s", id, code, name, at)
					}
					where := expression.FindStringSubmatch(value)
					if where == nil {
						t.Fatalf("%s %s: %s", id, code, value)
					}
					var s *schema
					switch where[1] {
					case "response.body#/":
						s = r.Schema
					case "request.body#/":
						s = op.Parameters[slices.IndexFunc(op.Parameters, func(p parameter) bool { return p.In == "body" })].Schema
					default:
						if !strings.Contains(op.Path, "{"+where[2]+"}") {
							t.Errorf("%s has no {%s}", op.Path, where[2])
						}
						continue
					}
					for part := range strings.SplitSeq(where[2], "/") {
						next, ok := doc.resolve(s).Properties[part]
						if !ok {
							t.Errorf("%s %s: nothing at %s", id, code, value)
						}
						s = &next
					}
				}
			}
		}
	}
	reached["Bundles.PutBundle"] = true // it makes what its path names
	for _, id := range slices.Sorted(maps.Keys(operations)) {
		if op := operations[id]; strings.Contains(op.Path, "{") && !reached[id] {
			t.Errorf("no link leads to %s (%s %s)", id, op.Verb, op.Path)
		}
	}
}

func (doc openAPI) resolve(s *schema) schema {
	switch {
	case s.Ref != "":
		return doc.Definitions[strings.TrimPrefix(s.Ref, "#/definitions/")]
	case len(s.AllOf) > 0:
		return doc.resolve(&s.AllOf[0])
	default:
		return *s
	}
}
