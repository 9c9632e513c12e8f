package plane_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	optionsv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/options/v1"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
	"github.com/cordum-serverless/cordum/shared/edge/stream"
)

// naming are the fields of requests that can name something that somebody has.
var naming = regexp.MustCompile(`(^|_)(id|ids|ptr|pointer|key|jobs|owner|resource|prefix|from_step|snapshot)$`)

// unnamed are such fields that name nothing of a tenant's, and why.
var unnamed = map[string]string{
	"org_id": aTenant, "tenant_id": aTenant,
	"adapter_id": aWord, "project_id": aWord, "principal_id": aWord, "actor_id": aWord, "agent_id": aWord, "component_id": aWord, "trace_id": aWord,
	"pack_id":        "packs are everybody's",
	"remediation_id": "it names one of the job's that the path names", "from_step": aStep, "step_id": aStep,
	"StepMeta.idempotency_key": aWord, "PolicyMeta.idempotency_key": aWord, "JobMetadata.idempotency_key": aWord, "Step.worker_id": aWord,
	"CreateWorkflowRequest.team_id": aWord,
	"InstallPackRequest.bundle_ptr": "a form has a part for it, not a member: TestDoors_APackOfAnotherTenantsUpload",
}

const (
	aTenant = "a tenant that is named is refused: TestDoors_ATenantThatIsNamed"
	aWord   = "a word of the caller's own, by which nothing is found"
	aStep   = "it names a step of the run that the path names"
)

// references are the fields of a request that name something, by the message that has them and their names.
func references(m protoreflect.MessageDescriptor) (fields []string) {
	seen := map[protoreflect.FullName]bool{}
	var walk func(m protoreflect.MessageDescriptor)
	walk = func(m protoreflect.MessageDescriptor) {
		if seen[m.FullName()] {
			return
		}
		seen[m.FullName()] = true
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			switch {
			case f.IsMap():
				if v := f.MapValue(); v.Kind() == protoreflect.MessageKind {
					walk(v.Message())
				}
			case f.Kind() == protoreflect.MessageKind:
				walk(f.Message())
			case f.Kind() == protoreflect.StringKind && naming.MatchString(string(f.Name())):
				fields = append(fields, string(m.Name())+"."+string(f.Name()))
			}
		}
	}
	walk(m)
	return fields
}

// tried are the names of parameters and members in which the requests of a door name a thing.
func (d door) tried(t *testing.T, route routes.Route) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, a := range d.all() {
		path, query, _ := strings.Cut(a.path, "?")
		if route.Method != "" {
			template := strings.Split(route.Path, "/")
			for i, segment := range strings.Split(path, "/") {
				if strings.Contains(segment, "<") && i < len(template) {
					out[strings.Trim(strings.TrimSuffix(template[i], "=**}"), "{}")] = true
				}
			}
		}
		for pair := range strings.SplitSeq(query, "&") {
			if name, value, _ := strings.Cut(pair, "="); strings.Contains(value, "<") {
				out[name] = true
			}
		}
		var body any
		if a.body == "" || d.form {
			continue
		}
		if err := json.Unmarshal([]byte(a.body), &body); err != nil {
			t.Fatalf("%s: %v", a.body, err)
		}
		var walk func(name string, v any)
		walk = func(name string, v any) {
			switch v := v.(type) {
			case map[string]any:
				for name, v := range v {
					walk(name, v)
				}
			case []any:
				for _, v := range v {
					walk(name, v)
				}
			case string:
				if strings.Contains(v, "<") {
					out[snake(name)] = true
				}
			}
		}
		walk("", body)
	}
	return out
}

// snake is a member's name as the contract writes it: CAP messages are protobuf JSON.
func snake(name string) string {
	return regexp.MustCompile(`[A-Z]`).ReplaceAllStringFunc(name, func(s string) string { return "_" + strings.ToLower(s) })
}

func requestOf(t *testing.T, name string) protoreflect.MessageDescriptor {
	t.Helper()
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		t.Fatal(err)
	}
	return d.(protoreflect.MethodDescriptor).Input()
}

// Every field of a request that can name something is tried with another tenant's, or says why it need not be.
func TestDoors_EveryNameIsTried(t *testing.T) {
	used := map[string]bool{}
	check := func(name string, d door, route routes.Route) {
		tried := d.tried(t, route)
		for _, field := range references(requestOf(t, name)) {
			_, leaf, _ := strings.Cut(field, ".")
			if tried[leaf] {
				continue
			}
			excuse := field
			if _, whole := unnamed[field]; !whole {
				excuse = leaf
			}
			used[excuse] = true
			if unnamed[excuse] == "" {
				t.Errorf("%s: no request of its case names a thing in %s: put one there (also in doors), or say in unnamed why it names nothing of a tenant's", name, field)
			}
		}
	}
	every(t, func(route routes.Route, d door) { check("cordum.v1."+nameOf(route), d, route) })
	for name, d := range methods {
		check(name, d, routes.Route{})
	}
	for field := range unnamed {
		if !used[field] {
			t.Errorf("no request has %s", field)
		}
	}
}

// volatile is what differs between two answers to the same: times, ids that are made, what is derived from them.
var volatile = regexp.MustCompile(strings.Join([]string{
	uuids.String(), `\d{4}-\d\d-\d\dT[0-9:.]+Z(-[0-9a-f]{10,12})?\b`, `session-[\w-]{43}`, `ck_[0-9a-f]{8}(_[\w-]{43})?\b`, `"request_id":"[0-9a-f]{16}"`, `\b1[67]\d{14}\b`, `\b[0-9a-f]{64}\b`, `"(uptime_seconds|fencing_token)":\d+`, `"session_?[tT]oken":"[^"]*"`, `X-Amz[^"]*`, `-retry-[0-9a-f]{8}\b`,
}, "|"))

// masked is a text without the things that were named, and without what is volatile.
func masked(text string, of func(string) called, names []string) string {
	var pairs [][2]string
	for _, name := range names {
		for part, id := range of(name) {
			pairs = append(pairs, [2]string{id, "<" + name + "." + part + ">"}, [2]string{url.PathEscape(id), "<" + name + "." + part + ">"})
		}
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return len(b[0]) - len(a[0]) })
	for _, p := range pairs {
		text = strings.ReplaceAll(text, p[0], p[1])
	}
	return volatile.ReplaceAllString(text, "<*>")
}

// whole is all of an answer but the ids of the request.
func (a answer) whole() string {
	h := a.Header.Clone()
	for _, name := range []string{"X-Request-Id", "X-Trace-Id"} {
		if h.Get(name) != "" {
			h.Set(name, "is there")
		}
	}
	return fmt.Sprint(a.Status, " ", h, " ", a.Body)
}

// owned are the things in a request that are a tenant's.
func (a ask) owned() (names []string) {
	for _, name := range a.named() {
		if !everybodys[name] && !strings.HasPrefix(name, "my:") {
			names = append(names, name)
		}
	}
	return names
}

// looks are all GETs of somebody's, as they answer now.
func (w *world) looks(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	every(t, func(route routes.Route, d door) {
		if route.Method != "GET" {
			return
		}
		for _, a := range d.all() {
			a = a.with(t, w.fixed)
			out[a.path] = w.look(route, d, a)
		}
	})
	return out
}

// passing is what changes in an answer while nothing does.
var passing = regexp.MustCompile(`"uptime_seconds":\d+|"time":"[^"]*"|,"cached":true|X-Amz[^"]*`)

func (w *world) look(route routes.Route, d door, a ask) string {
	w.t.Helper()
	c := keyed(w.admin, w.tenant)
	if d.by == byWorker {
		c = keyed(w.worker, w.tenant)
	}
	got := w.knock(route, d, a, c)
	return passing.ReplaceAllString(fmt.Sprint(got.Status, got.Body), "")
}

// silent are the GETs that say nothing of any tenant's, and why.
var silent = map[string]string{
	"Auth.GetAuthConfig": "it is the plane's", "Auth.GetSession": "it is the caller's own", "Status.GetStatus": "it has numbers",
	"Policy.ListPolicySnapshots": "policies are the plane's", "Bundles.ListBundleSnapshots": "the same", "Bundles.GetBundleSnapshot": "the same", "Bundles.ListBundles": "the same",
	"Bundles.GetBundle": "the same", "Bundles.ListRules": "the same", "Packs.ListPacks": "packs are the plane's", "Packs.GetPack": "the same", "Marketplace.ListMarketplacePacks": "the same",
}

// unproved are the requests whose owner is answered as if the thing were not there; what another tenant is answered proves nothing more.
var unproved = []string{
	"/api/v1/worker/jobs/<job>/context", "/api/v1/worker/jobs/<done>/context", "/api/v1/worker/jobs/<held>/context?pointer=redis://ctx:<job>", // it does not hold the job
	"/api/v1/worker/jobs/<my:held>/context?pointer=redis://ctx:<job>", "/api/v1/worker/jobs/<my:held>/context?pointer=redis://res:<done>", // nor is it a part of it
	"/api/v1/config?scope=system&scope_id=packs", "/api/v1/config?scope=system&scope_id=policy", "/api/v1/config?scope=system&scope_id=policy_snapshots", // which are the plane's
	"/api/v1/worker/jobs/<my:held>/context?pointer=<artifact>", "/api/v1/worker/jobs/<my:held>/context?pointer=redis://mem:<memory>:events",
}

// stranger tries the doors of another tenant.
type stranger struct {
	*world

	of      *world
	session string
	// own are the ids that the other tenant has, and its mark.
	own map[string]bool
}

func (s *stranger) at(d door) caller {
	switch d.by {
	case byWorker:
		return keyed(s.worker, s.tenant)
	case byUser:
		return keyed(s.session, s.tenant)
	}
	return keyed(s.admin, s.tenant)
}

// learns says that something that the stranger was told has an id or the mark of the other tenant.
func (s *stranger) learns(what, text string) {
	s.t.Helper()
	for id := range s.own {
		if strings.Contains(text, id) {
			s.t.Errorf("%s shows %s: %s", what, id, text)
		}
	}
}

// lists reads all that is to be read without a name.
func (s *stranger) lists() {
	s.t.Helper()
	every(s.t, func(route routes.Route, d door) {
		for _, a := range d.all() {
			if route.Method == "GET" && len(a.owned()) == 0 {
				s.learns(nameOf(route), s.knock(route, d, a.with(s.t, s.of.fixed), s.at(d)).whole())
			}
		}
	})
}

// compares checks that a thing of the other tenant's is as one of nobody's.
func (s *stranger) compares(what string, names []string, do func(of func(string) called) string) {
	s.t.Helper()
	of := func(theirs func(string) called) func(string) called {
		return func(thing string) called {
			if strings.HasPrefix(thing, "my:") {
				return s.fixed(thing)
			}
			return theirs(thing)
		}
	}
	unknown, foreign := masked(do(of(s.of.unknown)), s.of.unknown, names), masked(do(of(s.of.fixed)), s.of.fixed, names)
	if foreign != unknown {
		s.t.Errorf("%s:\n of another tenant %s\n of nobody         %s", what, foreign, unknown)
	}
	s.learns(what, foreign)
}

// planes are the services whose things are the whole plane's: administrators of all tenants change them.
var planes = []string{"cordum.v1.Bundles", "cordum.v1.Packs", "cordum.v1.Marketplace"}

// rattles tries every route with the other tenant's things, those that name nothing as they are, and answers how many requests there were.
func (s *stranger) rattles() (tried int) {
	s.t.Helper()
	every(s.t, func(route routes.Route, d door) {
		if route.Rule.Public { // who knows a user's password is the user
			return
		}
		for _, a := range d.all() {
			if names := a.owned(); len(names) > 0 {
				tried++
				s.compares(fmt.Sprint(nameOf(route), " ", a), names, func(of func(string) called) string {
					return s.knock(route, d, a.with(s.t, of), s.at(d)).whole()
				})
			} else if len(names) == 0 && route.Method != "GET" && !slices.Contains(planes, route.Service()) {
				s.knock(route, d, a.with(s.t, s.fresh()), s.at(d))
			}
		}
		if got := s.knock(route, d, d.with(s.t, s.of.fixed), caller{"X-API-Key", s.admin, "X-Tenant-ID", s.of.tenant}); got.Status != 403 || got.Body != refusedTenant {
			s.t.Errorf("%s for another tenant: %d %s", nameOf(route), got.Status, got.Body)
		}
	})
	for _, name := range sorted(methods) {
		d := methods[name]
		key := map[bool]string{true: s.worker, false: s.admin}[d.by == byWorker]
		for _, a := range d.all() {
			if names := a.owned(); len(names) > 0 && name != connect { // TestDoors_AWorkerOfAnotherTenant
				tried++
				s.compares(name+" "+a.body, names, func(of func(string) called) string {
					return fmt.Sprint(s.callMethod(name, a.with(s.t, of).body, "x-api-key", key))
				})
			}
		}
		if got := s.callMethod(name, d.with(s.t, s.of.fixed).body, "x-api-key", key, "x-tenant-id", s.of.tenant); got != (said{codes.PermissionDenied, "tenant access denied"}) {
			s.t.Errorf("%s for another tenant: %v", name, got)
		}
	}
	s.compares(streams[1], []string{"job"}, func(of func(string) called) string {
		_, res, err := s.open(ask{path: streams[1]}.with(s.t, of).path, s.at(door{}).header())
		if err == nil {
			s.t.Error("a stream is opened")
			return ""
		}
		return fmt.Sprint(res.StatusCode, bodyOf(s.t, res))
	})
	for _, path := range streams {
		path = ask{path: path}.with(s.t, s.of.fixed).path + "?tenant_id=" + s.of.tenant
		if _, res, err := s.open(path, http.Header{"X-Api-Key": {s.admin}}); err == nil || bodyOf(s.t, res) != refusedTenant {
			s.t.Errorf("%s: %v", path, err)
		}
	}
	return tried
}

const connect = "cordum.v1.Workers.Connect"

// Another tenant's ids are as unknown ones, byte for byte, through every door that takes one; no list, stream or trail shows a thing of it, and none
// of its things changes.
func TestDoors_AnotherTenant(t *testing.T) {
	cfg, _ := house()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		w, s := r.mine(), &stranger{world: r.theirs()}
		s.of, s.session = w, s.world.session()
		heard, told := r.watch(s.maker, stream.Path), r.watch(w.maker, stream.Path)
		for _, thing := range sorted(things()) {
			w.fixed(thing)
		}
		numbers := func() string {
			status := r.as(s.admin, "GET", "/api/v1/status", nil).ok(200).object()
			return fmt.Sprint(status["workers"], status["pipeline"])
		}
		none := numbers()
		every(t, func(route routes.Route, d door) { // a day of the owner's
			r.knock(route, d, d.with(t, w.fresh()), w.natural(d)).ok(route.Rule.Status)
		})
		told.said()
		before := w.looks(t)
		s.own = map[string]bool{w.mark: true}
		for _, text := range before {
			for _, id := range uuids.FindAllString(text, -1) {
				s.own[id] = true
			}
		}
		if told.texts.Len() < 1000 || len(s.own) < 50 {
			t.Errorf("the owner heard %d bytes and has %d ids", told.texts.Len(), len(s.own))
		}
		every(t, func(route routes.Route, d door) {
			for _, a := range d.all() {
				if route.Method != "GET" || silent[nameOf(route)] != "" || slices.Contains(unproved, a.path) {
					continue
				}
				text := before[a.with(t, w.fixed).path]
				if names := a.owned(); len(names) > 0 && masked(text, w.fixed, names) == masked(w.look(route, d, a.with(t, w.unknown)), w.unknown, names) {
					t.Errorf("%s: %s answers its owner as it answers of nobody's, which proves nothing: %s", nameOf(route), a.path, text)
				} else if len(names) == 0 && !slices.ContainsFunc(sorted(s.own), func(id string) bool { return strings.Contains(text, id) }) {
					t.Errorf("%s: %s shows its owner nothing, which proves nothing: %s", nameOf(route), a.path, text)
				}
			}
		})
		if some := numbers(); some != none {
			t.Errorf("the stranger counts %s, before a day of the owner's %s", some, none)
		}
		s.lists()
		s.learns("the stream", heard.texts.String())
		if tried := s.rattles(); tried < 90 {
			t.Errorf("only %d were tried", tried)
		}
		after := w.looks(t)
		for path, was := range before {
			if is := after[path]; is != was {
				t.Errorf("%s was\n%s\nand is\n%s", path, was, is)
			}
		}
		for _, things := range w.kept { // what the stranger has named himself he may hear of
			for _, id := range things {
				for _, part := range uuids.FindAllString(id, -1) {
					delete(s.own, part)
				}
			}
		}
		delete(s.own, w.mark)
		heard.said()
		s.learns("the stream", heard.texts.String())
		if !strings.Contains(heard.texts.String(), `"tenantId":"other"`) || strings.Contains(heard.texts.String(), `"tenantId":"default"`) {
			t.Error("the stranger does not hear what is his own, or hears what is not")
		}
	})
}

const refusedTenant = `{"error":"tenant access denied","status":403}`

// place is a member of a body, by the names on the way to it, and the field that it is.
type place struct {
	way   []string
	field protoreflect.FieldDescriptor
}

// placesOf are the members of a message and of the messages in it, but for those that are in lists and maps.
func placesOf(m protoreflect.MessageDescriptor, in ...string) (all []place) {
	if m == nil || len(in) > 4 {
		return nil
	}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		way := append(slices.Clone(in), memberOf(f))
		all = append(all, place{way, f})
		if f.Kind() == protoreflect.MessageKind && !f.IsList() && !f.IsMap() {
			all = append(all, placesOf(f.Message(), way...)...)
		}
	}
	return all
}

// memberOf is a field's name in JSON.
func memberOf(f protoreflect.FieldDescriptor) string {
	if option, _ := proto.GetExtension(f.Options(), optionsv1.E_Json).(*optionsv1.FieldJson); option.GetName() != "" {
		return option.GetName()
	}
	if f.ParentFile().Package() == "cordum.v1" {
		return string(f.Name())
	}
	return f.JSONName()
}

// put puts a value into a body, at a place.
func (p place) put(t *testing.T, body string, v any) string {
	t.Helper()
	var whole map[string]any
	if err := json.Unmarshal([]byte(body), &whole); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	at := whole
	for _, name := range p.way[:len(p.way)-1] {
		next, _ := at[name].(map[string]any)
		if next == nil {
			next = map[string]any{}
			at[name] = next
		}
		at = next
	}
	at[p.way[len(p.way)-1]] = v
	return mustJSON(t, whole)
}

// overwritten are the members that name a tenant and are not looked at: the caller's stands there.
var overwritten = []string{"PolicyMeta.tenant_id", "JobMetadata.tenant_id"}

func (p place) tenant() bool {
	return slices.Contains([]protoreflect.Name{"tenant", "tenant_id", "org_id"}, p.field.Name()) && p.field.Kind() == protoreflect.StringKind
}

func (p place) String() string { return string(p.field.Parent().Name()) + "." + string(p.field.Name()) }

// A tenant that a body or a query names, and that is not the caller's, is refused; where the caller's is put in its place nothing comes of it.
func TestDoors_ATenantThatIsNamed(t *testing.T) {
	cfg, _ := house()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		w := r.mine()
		tried := 0
		check := func(what string, p place, denied bool, got, plain string) {
			tried++
			if overwrites := slices.Contains(overwritten, p.String()); overwrites && got != plain || !overwrites && !denied {
				t.Errorf("%s with %v of another tenant: %s; without it %s", what, p, got, plain)
			}
		}
		every(t, func(route routes.Route, d door) {
			if route.Rule.Public {
				return
			}
			a := d.with(t, w.fixed)
			for _, p := range placesOf(bodyOfRoute(t, route)) {
				if p.tenant() {
					plain := r.knock(route, d, a, w.natural(d))
					got := r.knock(route, d, ask{a.path, p.put(t, a.body, "other")}, w.natural(d))
					check(nameOf(route), p, got.Body == refusedTenant && got.Status == 403, masked(got.whole(), w.fixed, nil), masked(plain.whole(), w.fixed, nil))
				}
			}
			if bodyMember()[nameOf(route)] == "*" {
				return
			}
			for _, p := range placesOf(requestOf(t, "cordum.v1."+nameOf(route))) {
				if p.tenant() && len(p.way) == 1 {
					sep := map[bool]string{true: "&", false: "?"}[strings.Contains(a.path, "?")]
					got := r.knock(route, d, ask{a.path + sep + p.way[0] + "=other", a.body}, w.natural(d))
					check(nameOf(route), p, got.Body == refusedTenant && got.Status == 403, got.Body, "")
				}
			}
		})
		for _, name := range r.served() {
			if name == connect { // a worker's packets are not read for a tenant
				continue
			}
			d := methods[name]
			key := map[bool]string{true: w.worker, false: w.admin}[d.by == byWorker]
			a := d.with(t, w.fixed)
			for _, p := range placesOf(requestOf(t, name)) {
				if p.tenant() {
					plain := r.callMethod(name, a.body, "x-api-key", key)
					got := r.callMethod(name, p.put(t, a.body, "other"), "x-api-key", key)
					check(name, p, got == said{codes.PermissionDenied, "tenant access denied"}, fmt.Sprint(got), fmt.Sprint(plain))
				}
			}
		}
		for _, label := range []string{"tenant_id"} { // an artifact's label of that name is its tenant
			r.as(w.admin, "POST", "/api/v1/artifacts", pairs("content", "x", "labels", pairs(label, "other"))).refused(403, "tenant access denied")
		}
		if r.as(w.admin, "GET", "/api/v1/config?scope=org&scope_id=other", nil).refused(403, "tenant access denied"); tried < 25 {
			t.Errorf("only %d were tried", tried)
		}
	})
}

// A worker of another tenant gets no job, and what it says of one is answered as what it says of nothing.
func TestDoors_AWorkerOfAnotherTenant(t *testing.T) {
	cfg, _ := house()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		w, s := r.mine(), r.theirs()
		spy := r.connect(s.worker, "spy", "main", 4)
		for _, thing := range []string{"job", "held", "done", "memory", "flow"} {
			w.fixed(thing)
		}
		heard := func() (texts []string) {
			time.Sleep(time.Second)
			synctest.Wait()
			for len(spy.in) > 0 {
				p := <-spy.in
				p.CreatedAt = nil
				texts = append(texts, mustJSON(t, p))
			}
			select {
			case err := <-spy.end:
				t.Errorf("the stream ended: %v", err)
			default:
			}
			return texts
		}
		if got := strings.Join(heard(), " "); strings.Contains(got, w.mark) || strings.Contains(got, "JobRequest") {
			t.Errorf("the spy gets %s", got)
		}
		jobs := []string{w.fixed("job")[""], w.fixed("held")[""], w.fixed("done")[""]}
		var before []string
		for _, id := range jobs {
			before = append(before, r.get("/api/v1/jobs/"+id).ok(200).Body)
		}
		for _, a := range methods[connect].also {
			var answers []string
			for _, of := range []func(string) called{w.unknown, w.fixed} {
				p := &agentv1.BusPacket{}
				if err := protojson.Unmarshal([]byte(a.with(t, of).body), p); err != nil {
					t.Fatal(err)
				}
				spy.send(p)
				answers = append(answers, masked(fmt.Sprint(heard()), of, a.named()))
			}
			if answers[0] != answers[1] {
				t.Errorf("%s:\n of nobody         %s\n of another tenant %s", a.body, answers[0], answers[1])
			}
		}
		for i, id := range jobs {
			if is := r.get("/api/v1/jobs/" + id).ok(200).Body; is != before[i] {
				t.Errorf("the job was\n%s\nand is\n%s", before[i], is)
			}
		}
	})
}

// A pack is not installed from another tenant's upload.
func TestDoors_APackOfAnotherTenantsUpload(t *testing.T) {
	cfg, _ := house()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		w, s := r.mine(), r.theirs()
		ptr := w.fixed("artifact")[""]
		install := func(ptr string) string {
			text, kind := formOf("", nil, "bundle_ptr", ptr, "filename", "p.tgz")
			return fmt.Sprint(r.as(s.admin, "POST", "/api/v1/packs/install", text, "Content-Type", kind).whole())
		}
		foreign, unknown := install(ptr), install(w.unknown("artifact")[""])
		if masked(foreign, w.fixed, []string{"artifact"}) != masked(unknown, w.unknown, []string{"artifact"}) {
			t.Errorf("another tenant's upload is %s, nobody's %s", foreign, unknown)
		}
		text, kind := formOf("", nil, "bundle_ptr", ptr, "filename", "p.tgz")
		if own := r.as(w.admin, "POST", "/api/v1/packs/install", text, "Content-Type", kind).whole(); own == foreign {
			t.Errorf("one's own is %s, which proves nothing", own)
		}
	})
}

// What a worker says of its own job can point at another tenant's payloads; nobody sees them by it, in the job, in its run or in what comes after.
func TestDoors_PointersOfAnotherTenant(t *testing.T) {
	cfg, _ := house()
	virtually(t, cfg, func(t *testing.T, r *rig) {
		w, s := r.mine(), r.theirs()
		theirs := r.connect(s.worker, "spy", "main", 8)
		s.does("POST", "/api/v1/workflows", pairs("id", "spying", "steps", pairs("a", pairs("type", "worker", "topic", "job.test.work"),
			"b", pairs("type", "worker", "topic", "job.test.work", "depends_on", []string{"a"}, "input", pairs("from", "${steps.a.output}"))))).ok(201)
		for _, pointer := range []string{"redis://res:<done>", "redis://ctx:<done>", "redis://ctx:<job>", "<artifact>", "redis://mem:<memory>:events", "redis://res:<run.gate>"} {
			var answers []string
			for _, of := range []func(string) called{w.unknown, w.fixed} {
				ptr := ask{body: pointer}.with(t, of).body
				run, _ := s.does("POST", "/api/v1/workflows/spying/runs", nil).ok(200).object()["run_id"].(string)
				id := theirs.job().GetJobId()
				theirs.send(&agentv1.BusPacket{Payload: &agentv1.BusPacket_JobProgress{JobProgress: &agentv1.JobProgress{JobId: id, Percent: 1, ResultPtr: ptr, ArtifactPtrs: []string{ptr}}}})
				theirs.send(&agentv1.BusPacket{Payload: &agentv1.BusPacket_JobResult{JobResult: &agentv1.JobResult{
					JobId: id, Status: ok, WorkerId: "spy", ResultPtr: ptr, ArtifactPtrs: []string{ptr},
				}}})
				code := theirs.answer(id)
				time.Sleep(time.Second)
				seen := []string{code}
				for _, path := range []string{"/api/v1/jobs/" + id, runPath(run), runPath(run) + "/timeline", "/api/v1/memory?key=res:" + id, "/api/v1/dlq"} {
					seen = append(seen, s.as(s.admin, "GET", path, nil).Body)
				}
				s.does("POST", "/api/v1/workflows/spying/runs/"+run+"/cancel", nil)
				text := strings.Join(seen, "\n")
				if strings.Contains(text, w.mark+`"`) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(w.mark))) {
					t.Errorf("by %s the stranger sees %s", pointer, text)
				}
				answers = append(answers, masked(text, of, ask{body: pointer}.named()))
			drain:
				for {
					select {
					case <-theirs.in:
					case <-time.After(time.Second):
						break drain
					}
				}
			}
			if answers[0] != answers[1] {
				t.Errorf("by a pointer of nobody's, %s, the stranger sees, and by one of another tenant:\n%s", pointer, difference(byMembers(answers[0]), byMembers(answers[1])))
			}
		}
	})
}
