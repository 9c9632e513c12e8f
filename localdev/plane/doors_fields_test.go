package plane_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/cordum-serverless/cordum/shared/edge/routes"
)

// made are the messages that a route makes or changes, where neither its answer nor what shows it is that message.
var made = map[string][]string{
	"Config.SetConfig":         {"cordum.v1.ConfigDocument"},
	"Artifacts.CreateArtifact": {"cordum.v1.ArtifactMetadata"},
	"Runs.StartRun":            {"cordum.v1.Run"},
}

// free are the routes whose body is JSON of the caller's own; it is shown in these members, and nowhere else.
var free = map[string][]string{"Runs.StartRun": {"input", "context", "job_input"}}

// outputOf is a method's answer.
func outputOf(t *testing.T, name string) protoreflect.MessageDescriptor {
	t.Helper()
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		t.Fatal(err)
	}
	return d.(protoreflect.MethodDescriptor).Output()
}

// fieldsOf adds the fields of a message and of whatever is in it, by their names in JSON.
func fieldsOf(m protoreflect.MessageDescriptor, into map[string]protoreflect.FieldDescriptor, seen map[protoreflect.FullName]bool) {
	if seen[m.FullName()] || m.Name() == "Json" || m.ParentFile().Package() == "google.protobuf" {
		return
	}
	seen[m.FullName()] = true
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		into[memberOf(f)] = f
		switch {
		case f.IsMap():
			if v := f.MapValue(); v.Kind() == protoreflect.MessageKind {
				fieldsOf(v.Message(), into, seen)
			}
		case f.Kind() == protoreflect.MessageKind:
			fieldsOf(f.Message(), into, seen)
		}
	}
}

// shown are all members that answers show of what a route makes: those of its own answer, and of the GETs of its case.
func shown(t *testing.T, route routes.Route, d door) map[string]protoreflect.FieldDescriptor {
	t.Helper()
	into, seen := map[string]protoreflect.FieldDescriptor{}, map[protoreflect.FullName]bool{}
	fieldsOf(outputOf(t, "cordum.v1."+nameOf(route)), into, seen)
	for _, path := range d.shows {
		path, _, _ = strings.Cut(path, "?")
		match, err := routes.Default().Find("GET", answered.ReplaceAllString(places.ReplaceAllString(path, "x"), "x"))
		if err != nil || match.Route == nil {
			t.Fatalf("%s shows nothing", path)
		}
		fieldsOf(outputOf(t, "cordum.v1."+nameOf(*match.Route)), into, seen)
	}
	for _, name := range made[nameOf(route)] {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			t.Fatal(err)
		}
		fieldsOf(d.(protoreflect.MessageDescriptor), into, seen)
	}
	return into
}

// forged is a value for a member that is the server's.
func forged(f protoreflect.FieldDescriptor, depth int) any {
	if f.IsMap() {
		return map[string]any{"forged": "forged"}
	}
	var v any
	switch f.Kind() {
	case protoreflect.StringKind:
		if v = meaning[string(f.Name())]; v == nil {
			v = "forged"
		}
	case protoreflect.BoolKind:
		v = true
	case protoreflect.BytesKind:
		v = "Zm9yZ2Vk"
	case protoreflect.MessageKind:
		inner := map[string]any{"forged": "forged"}
		if m := f.Message(); m.Name() != "Json" && depth < 2 {
			for i := range m.Fields().Len() {
				inner[memberOf(m.Fields().Get(i))] = forged(m.Fields().Get(i), depth+1)
			}
		}
		v = inner
	case protoreflect.EnumKind:
		v = string(f.Enum().Values().Get(f.Enum().Values().Len() - 1).Name())
	default:
		v = 424242
	}
	if f.IsList() {
		return []any{v}
	}
	return v
}

// meaning are words that would mean something.
var meaning = map[string]any{
	"state": "SUCCEEDED", "status": "SUCCEEDED", "tenant": "other", "role": "admin", "decision": "ALLOW", "safety_decision": "ALLOW", "approval_status": "approved", "approval_decision": "approve",
	"created_at": "2001-01-01T00:00:00Z", "updated_at": "2001-01-01T00:00:00Z", "source": "api_key",
}

// reserved are labels that only the plane sets.
var reserved = map[string]any{"approval_granted": "true", "approval_reason": "forged", "cordum.bus_msg_id": "forged", "_forged": "forged", "approval_forged": "forged"}

// poison adds the server's members to every object of a body, as far as the request has none of that name.
func poison(v any, m protoreflect.MessageDescriptor, server map[string]any) {
	body, ok := v.(map[string]any)
	if !ok {
		return
	}
	own := map[string]protoreflect.FieldDescriptor{}
	if m != nil {
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			own[string(f.Name())], own[f.JSONName()], own[memberOf(f)] = f, f, f
		}
	}
	for name, v := range body {
		switch f := own[name]; {
		case f == nil:
		case f.IsMap() && f.MapValue().Kind() == protoreflect.MessageKind:
			if members, ok := v.(map[string]any); ok {
				for _, v := range members {
					poison(v, f.MapValue().Message(), server)
				}
			}
		case f.IsMap():
			if labels, ok := v.(map[string]any); ok && strings.Contains(string(f.Name()), "label") && f.Parent().Name() != "ArtifactContent" { // whose labels decide nothing
				maps.Copy(labels, reserved)
			}
		case f.Kind() == protoreflect.MessageKind && f.Message().Name() != "Json":
			poison(v, f.Message(), server)
		}
	}
	for name, v := range server {
		if _, has := body[name]; !has && own[name] == nil {
			body[name] = v
		}
	}
}

var answered = regexp.MustCompile(`<-([a-z_.]+)>`)

// effect is a request's answer and what the GETs of its case show afterwards, without what is different between two such requests anyhow.
func (w *world) effect(route routes.Route, d door, a ask, of func(string) called, more ...string) (status int, text string) {
	w.t.Helper()
	got := w.knock(route, d, a, w.natural(d), more...)
	if got.Status/100 != 2 {
		return got.Status, got.Body
	}
	var answer map[string]any
	_ = json.Unmarshal([]byte(got.Body), &answer) // a list, or nothing, has no members
	texts := []string{got.whole()}
	ids := called{}
	time.Sleep(time.Second) // lists come from indexes, and runs go on
	for _, show := range d.shows {
		path := answered.ReplaceAllStringFunc(show, func(place string) string {
			name := answered.FindStringSubmatch(place)[1]
			id, found := answer[name].(string)
			if !found {
				w.t.Fatalf("%s: there is no %s in %s", nameOf(route), name, got.Body)
			}
			ids[strings.ReplaceAll(name, "_", "-")] = id
			return url.PathEscape(id)
		})
		seen := w.as(w.admin, "GET", ask{path: path}.with(w.t, of).path, nil).ok(200)
		texts = append(texts, w.about(seen.Body, free[nameOf(route)], func(text string) string { return w.plain(text, d, of, ids) }))
	}
	text = strings.Join(texts, "\n")
	for _, mark := range []string{"forged", "Zm9yZ2Vk", "424242", "2001-01-01"} { // which a mask could hide
		if strings.Contains(text, mark) {
			w.t.Errorf("%s shows %s: %s", nameOf(route), mark, text)
		}
	}
	return got.Status, w.plain(text, d, of, ids)
}

// plain masks the things of a request and of its answer.
func (w *world) plain(text string, d door, of func(string) called, answer called) string {
	for part, id := range answer {
		text = strings.ReplaceAll(text, id, "<-"+part+">")
	}
	text = masked(text, of, d.named())
	for _, shown := range d.shows {
		text = masked(text, of, ask{path: shown}.named())
	}
	return numbered.ReplaceAllString(text, "$1-#")
}

// numbered are names that the world gives, one after the other.
var numbered = regexp.MustCompile(`((?:quokka|default)(?:-team)?)-\d+`)

// about leaves of a list what is of the request's things, and of everything the members that the server answers for.
func (w *world) about(text string, without []string, plain func(string) string) string {
	w.t.Helper()
	var all any
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		w.t.Fatalf("%v in %s", err, text)
	}
	list, isList := all.([]any)
	if m, ok := all.(map[string]any); ok {
		for _, name := range without {
			delete(m, name)
		}
		list, isList = m["items"].([]any)
	}
	if !isList {
		return mustJSON(w.t, all)
	}
	var out []string
	for _, item := range list {
		if one := mustJSON(w.t, item); len(list) == 1 || regexp.MustCompile(`<[a-z-]`).MatchString(plain(one)) {
			out = append(out, one)
		}
	}
	return strings.Join(out, "\n")
}

// byMembers is a text of JSON with a line for each member.
func byMembers(text string) string { return strings.ReplaceAll(text, ",\"", "\n\"") }

// Members of a request's body that are the server's are not the caller's to set: all that answers show of a thing, and no request has, are sent in every
// object of the body and as parameters, and nothing comes of them.
func TestDoors_WhatIsTheServers(t *testing.T) {
	cfg, _ := house()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		w := r.mine()
		sent := 0
		every(t, func(route routes.Route, d door) {
			if !route.Body || d.form {
				return
			}
			server := map[string]any{}
			for name, f := range shown(t, route, d) {
				server[name] = forged(f, 0)
				server[string(f.Name())], server[f.JSONName()] = server[name], server[name]
			}
			for i, input := 0, requestOf(t, "cordum.v1."+nameOf(route)); i < input.Fields().Len(); i++ { // what the request has beside its body is its own
				f := input.Fields().Get(i)
				delete(server, string(f.Name()))
				delete(server, f.JSONName())
			}
			sent += len(server)
			of := w.fresh()
			status, plain := w.effect(route, d, d.with(t, of), of)
			if status != route.Rule.Status {
				t.Fatalf("%s: %d %s", nameOf(route), status, plain)
			}
			for way, change := range map[string]func(a ask) ask{
				"in the body": func(a ask) ask {
					var body any
					if err := json.Unmarshal([]byte(a.body), &body); err != nil {
						t.Fatal(err)
					}
					poison(body, bodyOfRoute(t, route), server)
					return ask{a.path, mustJSON(t, body)}
				},
				"in the query": func(a ask) ask {
					query := url.Values{}
					for name, v := range server {
						if slices.Contains([]string{"org_id", "tenant_id", "tenant"}, name) { // a foreign tenant is refused: TestListParameters
							continue
						}
						query.Set(name, strings.Trim(fmt.Sprint(v), "[]"))
					}
					sep := map[bool]string{true: "&", false: "?"}[strings.Contains(a.path, "?")]
					return ask{a.path + sep + query.Encode(), a.body}
				},
			} {
				of := w.fresh()
				status, got := w.effect(route, d, change(d.with(t, of)), of, "X-Principal-Role", "viewer")
				if status != 400 && got != plain {
					t.Errorf("%s with the server's members %s (%d of them), and without: %d\n%s", nameOf(route), way, len(server), status, difference(byMembers(plain), byMembers(got)))
				}
			}
		})
		for _, d := range []door{doors["Packs.InstallPack"]} { // a form has parts in place of members
			var fields []string
			pack := map[string]protoreflect.FieldDescriptor{}
			fieldsOf(outputOf(t, "cordum.v1.Packs.InstallPack"), pack, map[protoreflect.FullName]bool{})
			for name, f := range pack {
				fields = append(fields, name, fmt.Sprint(forged(f, 0)))
			}
			of := w.fresh()
			id := d.with(t, of).body
			plain := w.as(w.admin, "POST", "/api/v1/packs/install", form(w.everybodys("plain"), "1.0.0"), "Content-Type", "multipart/form-data; boundary=x").ok(200).Body
			got := w.installAs(w.admin, "p.tgz", small(id, "1.0.0"), fields...)
			if text := got.Body + w.get("/api/v1/packs/"+id).Body; got.Status != 400 && (strings.Contains(text, "forged") || strings.Contains(text, "424242") ||
				strings.ReplaceAll(masked(got.Body, of, d.named()), "<title.>", "#") != regexp.MustCompile(`plain-default-\d+`).ReplaceAllString(masked(plain, of, nil), "#")) {
				t.Errorf("an installation with the server's members: %s, without %s", got.Body, plain)
			}
		}
		if sent < 500 {
			t.Errorf("only %d were sent", sent)
		}
	})
}

// owned are names that look like the server's.
var owned = regexp.MustCompile(`^(id|tenant|tenant_id|org_id|state|status|role|roles|scopes|principal_id|actor_id|actor_type|created_by|author|attempts?|version|revision|` +
	`hash|sha256|size_bytes|generation|decision|approved|disabled|source|fencing_token|installed_by|.*_at|.*_hash|approval_.*|safety_.*)$`)

// chosen are members of requests with such a name, and why they are the caller's to choose.
var chosen = map[string]string{
	"LoginRequest.tenant":     "who logs in says where",
	"UpdateUserRequest.roles": manages, "CreateUserRequest.role": manages, "CreateApiKeyRequest.scopes": manages, "CreateApiKeyRequest.expires_at": manages,
	"CreateUserRequest.tenant": named, "CreateJobRequest.org_id": named, "CreateJobRequest.tenant_id": named, "CreateWorkflowRequest.org_id": named,
	"PolicyRequest.tenant": named, "PolicyRequest.org_id": named, "PolicyMeta.tenant_id": named,
	"CreateJobRequest.principal_id": submits, "CreateJobRequest.actor_id": submits, "CreateJobRequest.actor_type": submits,
	"StepMeta.actor_id": submits, "StepMeta.actor_type": submits,
	"PolicyRequest.principal_id": asks, "PolicyMeta.actor_id": asks, "PolicyMeta.actor_type": asks, "DeadLetterFilter.status": "it says which are meant",
	"CreateWorkflowRequest.id": calls, "CreateWorkflowRequest.version": calls, "Step.id": calls, "RegisterSchemaRequest.id": calls,
	"CreateWorkflowRequest.created_by": notes, "BundleDraft.author": notes, "PublishRequest.author": notes, "RollbackRequest.author": notes,
	"ApproveStepRequest.approved":           "it is the answer that is asked for",
	"PostChatRequest.role":                  "an administrator speaks for agents, an operator does not: TestH01_H02_H03_Chat",
	"InstallMarketplacePackRequest.version": "it says which is meant", "InstallMarketplacePackRequest.sha256": "it says which is meant",
	"ArtifactContent.size_bytes": "it says what will be uploaded, and the upload is held to it", "ArtifactContent.sha256": "it says what will be uploaded",
	"WriteResultRequest.attempt": "another than the present one is refused", "ClaimJobRequest.attempt": "another than the next one is refused",
}

const (
	manages = "only administrators get here"
	named   = "another than the caller's is refused: TestDoors_ATenantThatIsNamed"
	submits = "a service says for whom it submits; the principal of a credential stays: TestAJobOfATokenIsItsSubjects"
	asks    = "it asks what would be, of somebody"
	calls   = "a tenant's own name for its own thing"
	notes   = "a note beside the trail, which has the caller"
)

// A member of a request that looks as if it were the server's says why it is not.
func TestDoors_WhatIsTheCallers(t *testing.T) {
	seen := map[string]bool{}
	every(t, func(route routes.Route, d door) {
		m := bodyOfRoute(t, route)
		if m == nil {
			return
		}
		all := map[string]protoreflect.FieldDescriptor{}
		visited := map[protoreflect.FullName]bool{}
		fieldsOf(m, all, visited)
		for name := range visited {
			d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
			if err != nil {
				t.Fatal(err)
			}
			fields := d.(protoreflect.MessageDescriptor).Fields()
			for i := range fields.Len() {
				f := fields.Get(i)
				member := string(f.Parent().Name()) + "." + string(f.Name())
				if !owned.MatchString(string(f.Name())) || strings.Contains(route.Path, "{"+string(f.Name())+"}") || strings.Contains(route.Path, "{"+string(f.Name())+"=") {
					continue
				}
				if chosen[member] == "" && !seen[member] {
					t.Errorf("%s: %s looks like the server's: say in chosen why the caller may set it, or take it out of the request", nameOf(route), member)
				}
				seen[member] = true
			}
		}
	})
	for member := range chosen {
		if !seen[member] {
			t.Errorf("no request has %s", member)
		}
	}
}

// Labels that only the plane sets do not come with a step of a workflow either: its job waits for its human all the same.
func TestDoors_LabelsOfStepsBringNoApproval(t *testing.T) {
	cfg, _ := house()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		labels := pairs("zone", "a", "Approval_Forged", "forged")
		maps.Copy(labels, reserved)
		r.saved("flow", "steps", pairs("s", pairs("type", "worker", "topic", "job.test.ask", "route_labels", labels, "meta", pairs("labels", labels))))
		run := r.start("flow", nil)
		time.Sleep(time.Second)
		j := r.job(run + ":s@1")
		if text := mustJSON(t, j); j["state"] != "APPROVAL_REQUIRED" || strings.Contains(text, "forged") || strings.Contains(text, "approval_granted") {
			t.Errorf("the job is %s", text)
		}
		if got, _ := j["labels"].(map[string]any); got["zone"] != "a" {
			t.Errorf("labels %v", got)
		}
	})
}
