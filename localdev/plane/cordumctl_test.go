package plane_test

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// cordumctl is the command line of January 2026, as far as packs go: it installs by itself, over the routes of locks, schemas, workflows and documents,
// and knows no route of packs. It sends no tenant, reads documents as envelopes, and writes them back whole. What it got wrong it gets wrong here, too.
type cordumctl struct {
	r    *rig
	key  string
	said []string // what it has asked for
	// applied takes back what an installation has done, the last first.
	applied []func()
}

// owner is whose its locks are.
const ctlOwner = "cordumctl:laptop:4711"

// call asks for a route. Anything but a 2xx is an error with the body, like in the client.
func (c *cordumctl) call(method, path string, body, into any) error {
	c.r.t.Helper()
	c.said = append(c.said, method+" "+strings.TrimPrefix(path, "/api/v1"))
	a := c.r.as(c.key, method, path, body, "X-Tenant-ID", "")
	switch {
	case a.Status >= 300:
		return ctlError{a.Status, a.Body}
	case into != nil:
		a.json(into)
	}
	return nil
}

type ctlError struct {
	status int
	text   string
}

func (e ctlError) Error() string { return fmt.Sprintf("request failed (%d): %s", e.status, e.text) }

func absent(err error) bool {
	e, ok := err.(ctlError)
	return ok && e.status == 404
}

// manifest is what it reads of pack.yaml.
type ctlManifest struct {
	Metadata      struct{ ID, Version, Title, Description string }
	Compatibility struct {
		ProtocolVersion int    `yaml:"protocolVersion"`
		MinCoreVersion  string `yaml:"minCoreVersion"`
		MaxCoreVersion  string `yaml:"maxCoreVersion"`
	}
	Topics []struct {
		Name       string   `json:"name"`
		Requires   []string `json:"requires"`
		RiskTags   []string `yaml:"riskTags" json:"riskTags"`
		Capability string   `json:"capability"`
	}
	Resources struct{ Schemas, Workflows []struct{ ID, Path string } }
	Overlays  struct {
		Config []struct {
			Name, Scope, Key, Path string
			ScopeID                string `yaml:"scope_id"`
		}
		Policy []struct{ Name, Path string }
	}
	Tests struct {
		PolicySimulations []struct {
			Name    string `json:"name"`
			Request struct {
				TenantID   string   `yaml:"tenantId" json:"tenantId"`
				Topic      string   `json:"topic"`
				Capability string   `json:"capability"`
				RiskTags   []string `yaml:"riskTags" json:"riskTags"`
				Requires   []string `json:"requires"`
				PackID     string   `yaml:"packId" json:"packId"`
				ActorID    string   `yaml:"actorId" json:"actorId"`
				ActorType  string   `yaml:"actorType" json:"actorType"`
			} `json:"request"`
			ExpectDecision string `yaml:"expectDecision" json:"expectDecision"`
		} `yaml:"policySimulations" json:"policySimulations"`
	}
}

// object reads a file of a pack, JSON or YAML, as JSON has it.
func (c *cordumctl) object(text string) map[string]any {
	c.r.t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		c.r.t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		c.r.t.Fatal(err)
	}
	return m
}

// ctlDigest is SHA-256 of canonical JSON, which is what the encoder of Go writes of maps.
func ctlDigest(v map[string]any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// untimed is a workflow as it is digested.
func untimed(flow map[string]any) map[string]any {
	out := maps.Clone(flow)
	delete(out, "created_at")
	delete(out, "updated_at")
	return out
}

// ctlDocument is a document as it reads and writes it.
type ctlDocument struct {
	Scope   string            `json:"scope"`
	ScopeID string            `json:"scope_id"`
	Data    map[string]any    `json:"data"`
	Meta    map[string]string `json:"meta,omitempty"`
}

// document reads one; one that is not there is empty.
func (c *cordumctl) document(scope, id string) (ctlDocument, error) {
	d := ctlDocument{Scope: scope, ScopeID: id}
	err := c.call("GET", "/api/v1/config?scope="+url.QueryEscape(scope)+"&scope_id="+url.QueryEscape(id), nil, &d)
	if absent(err) {
		err = nil
	}
	if d.Data == nil {
		d.Data = map[string]any{}
	}
	return d, err
}

func (c *cordumctl) write(d ctlDocument) error { return c.call("POST", "/api/v1/config", d, nil) }

// edit reads a document, changes it and writes it back, whole.
func (c *cordumctl) edit(scope, id string, change func(data map[string]any)) error {
	d, err := c.document(scope, id)
	if err != nil {
		return err
	}
	change(d.Data)
	return c.write(d)
}

// member is an object in an object, which is made where there is none.
func member(data map[string]any, name string) map[string]any {
	m, ok := data[name].(map[string]any)
	if !ok {
		m = map[string]any{}
		data[name] = m
	}
	return m
}

// ctlMerge is RFC 7396.
func ctlMerge(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	t, _ := target.(map[string]any)
	out := map[string]any{}
	maps.Copy(out, t)
	for name, v := range p {
		if v == nil {
			delete(out, name)
		} else {
			out[name] = ctlMerge(out[name], v)
		}
	}
	return out
}

// ctlUnpatch takes a patch's values away again, but not the objects in which they lie.
func ctlUnpatch(patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return nil
	}
	out := map[string]any{}
	for name, v := range p {
		out[name] = ctlUnpatch(v)
	}
	return out
}

// locked does something while it holds the locks of a pack.
func (c *cordumctl) locked(id string, do func() error) error {
	lock := func(action string, resources ...string) error {
		for _, resource := range resources {
			if err := c.call("POST", "/api/v1/locks/"+action, pairs("resource", resource, "owner", ctlOwner, "mode", "exclusive", "ttl_ms", 60_000), nil); err != nil {
				return err
			}
		}
		return nil
	}
	if err := lock("acquire", "packs:global"); err != nil {
		return err
	}
	defer func() { _ = lock("release", "packs:global") }() // it passes over what becomes of that
	if err := lock("acquire", "pack:"+id); err != nil {
		return err
	}
	defer func() { _ = lock("release", "pack:"+id) }()
	return do()
}

// install is `pack install [--upgrade]`.
func (c *cordumctl) install(p files, upgrade bool) error {
	var m ctlManifest
	readYAML(c.r.t, &m, p["pack.yaml"])
	var status struct{ Build struct{ Version string } }
	if err := c.call("GET", "/api/v1/status", nil, &status); err != nil {
		return err
	}
	if !regexp.MustCompile(`^v?\d+\.\d+(\.\d+)?(-.*)?$`).MatchString(status.Build.Version) {
		return fmt.Errorf("core version %q cannot be read", status.Build.Version)
	}
	return c.locked(m.Metadata.ID, func() error {
		c.applied = nil
		err := c.apply(p, m, upgrade)
		if err != nil {
			for _, back := range slices.Backward(c.applied) {
				back()
			}
		}
		return err
	})
}

// ctlResource is a schema or a workflow that is to be written.
type ctlResource struct {
	path, id     string
	body, before map[string]any
}

func (c *cordumctl) apply(p files, m ctlManifest, upgrade bool) error {
	var todo []ctlResource
	schemas, flows := map[string]string{}, map[string]string{}
	plan := func(kind, path, id string, body map[string]any, digest string, current func() (map[string]any, string, error)) error {
		before, now, err := current()
		switch {
		case absent(err):
			before = nil
		case err != nil:
			return err
		case now == digest:
			return nil
		case !upgrade:
			return fmt.Errorf("%s %s exists; rerun with --upgrade", kind, id)
		}
		todo = append(todo, ctlResource{path, id, body, before})
		return nil
	}
	for _, s := range m.Resources.Schemas {
		text := c.object(p[s.Path])
		schemas[s.ID] = ctlDigest(text)
		if err := plan("schema", "/api/v1/schemas", s.ID, pairs("id", s.ID, "schema", text), schemas[s.ID], func() (map[string]any, string, error) {
			var got struct{ Schema map[string]any }
			err := c.call("GET", "/api/v1/schemas/"+s.ID, nil, &got) // its slash is as it is
			return pairs("id", s.ID, "schema", got.Schema), ctlDigest(got.Schema), err
		}); err != nil {
			return err
		}
	}
	for _, f := range m.Resources.Workflows {
		flow := c.object(p[f.Path])
		flow["id"] = f.ID
		flows[f.ID] = ctlDigest(untimed(flow))
		if err := plan("workflow", "/api/v1/workflows", f.ID, flow, flows[f.ID], func() (got map[string]any, digest string, err error) {
			err = c.call("GET", "/api/v1/workflows/"+f.ID, nil, &got)
			return got, ctlDigest(untimed(got)), err
		}); err != nil {
			return err
		}
	}
	for _, one := range todo {
		if err := c.call("POST", one.path, one.body, nil); err != nil {
			return err
		}
		c.applied = append(c.applied, func() {
			if one.before != nil {
				_ = c.call("POST", one.path, one.before, nil)
			} else {
				_ = c.call("DELETE", one.path+"/"+one.id, nil, nil)
			}
		})
	}
	return c.overlay(p, m, schemas, flows)
}

// overlay applies configuration and policy, and writes the record.
func (c *cordumctl) overlay(p files, m ctlManifest, schemas, flows map[string]string) error {
	id, at := m.Metadata.ID, time.Now().UTC().Format(time.RFC3339)
	var configs, policies []map[string]any
	status := "INACTIVE"
	for _, o := range m.Overlays.Config {
		scope, scopeID, patch := cmp.Or(o.Scope, "system"), cmp.Or(o.ScopeID, "default"), c.object(p[o.Path])
		var before any
		var had bool
		if err := c.edit(scope, scopeID, func(data map[string]any) {
			before, had = data[o.Key]
			data[o.Key] = ctlMerge(data[o.Key], patch)
		}); err != nil {
			return err
		}
		c.applied = append(c.applied, func() {
			_ = c.edit(scope, scopeID, func(data map[string]any) {
				if delete(data, o.Key); had {
					data[o.Key] = before
				}
			})
		})
		configs = append(configs, pairs("name", o.Name, "scope", scope, "scope_id", scopeID, "key", o.Key, "patch", patch))
		if o.Key == "pools" {
			status = "ACTIVE"
		}
	}
	for _, o := range m.Overlays.Policy {
		fragment := id + "/" + cmp.Or(o.Name, "default")
		bundle := pairs("content", p[o.Path], "version", m.Metadata.Version, "sha256", digestOf([]byte(p[o.Path])), "installed_at", at)
		if err := c.edit("system", "policy", func(data map[string]any) { member(data, "bundles")[fragment] = bundle }); err != nil {
			return err
		}
		c.applied = append(c.applied, func() {
			_ = c.edit("system", "policy", func(data map[string]any) { delete(member(data, "bundles"), fragment) })
		})
		policies = append(policies, pairs("name", o.Name, "fragment_id", fragment))
	}
	record := pairs("id", id, "version", m.Metadata.Version, "status", status, "installed_at", at, "installed_by", "ada",
		"manifest", pairs(
			"metadata", pairs("ID", id, "Version", m.Metadata.Version, "Title", m.Metadata.Title, "Description", m.Metadata.Description), // it forgot how they are spelt
			"compatibility", pairs("protocolVersion", m.Compatibility.ProtocolVersion, "minCoreVersion", m.Compatibility.MinCoreVersion,
				"maxCoreVersion", m.Compatibility.MaxCoreVersion),
			"topics", m.Topics),
		"resources", pairs("schemas", schemas, "workflows", flows), "overlays", pairs("config", configs, "policy", policies), "tests", m.Tests)
	return c.edit("system", "packs", func(data map[string]any) { member(data, "installed")[id] = record })
}

// must fails the test where a command did.
func (c *cordumctl) must(err error) {
	c.r.t.Helper()
	if err != nil {
		c.r.t.Fatal(err)
	}
}

// list is `pack list`, and the records of `pack show`.
func (c *cordumctl) list() map[string]any {
	c.r.t.Helper()
	d, err := c.document("system", "packs")
	if err != nil {
		c.r.t.Fatal(err)
	}
	return member(d.Data, "installed")
}

// ctlRecord is what it reads of a record to take the pack away, and to verify it.
type ctlRecord struct {
	Resources struct{ Schemas, Workflows map[string]string }
	Overlays  struct {
		Config []struct {
			Scope, Key string
			ScopeID    string `json:"scope_id"`
			Patch      map[string]any
		}
		Policy []struct {
			FragmentID string `json:"fragment_id"`
		}
	}
	Tests struct {
		PolicySimulations []struct {
			Name           string
			Request        map[string]any
			ExpectDecision string
		}
	}
}

func (c *cordumctl) record(id string) (of ctlRecord, err error) {
	raw, there := c.list()[id]
	if !there {
		return of, fmt.Errorf("pack %s not installed", id)
	}
	text, err := json.Marshal(raw)
	if err == nil {
		err = json.Unmarshal(text, &of)
	}
	return of, err
}

// uninstall is `pack uninstall [--purge]`.
func (c *cordumctl) uninstall(id string, purge bool) error {
	return c.locked(id, func() error {
		is, err := c.record(id)
		if err != nil {
			return err
		}
		for _, o := range slices.Backward(is.Overlays.Config) {
			if err := c.edit(o.Scope, o.ScopeID, func(data map[string]any) { data[o.Key] = ctlMerge(data[o.Key], ctlUnpatch(o.Patch)) }); err != nil {
				return err
			}
		}
		for _, o := range is.Overlays.Policy {
			if err := c.edit("system", "policy", func(data map[string]any) { delete(member(data, "bundles"), o.FragmentID) }); err != nil {
				return err
			}
		}
		if purge {
			for _, f := range slices.Sorted(maps.Keys(is.Resources.Workflows)) {
				_ = c.call("DELETE", "/api/v1/workflows/"+f, nil, nil) // it passes over what becomes of that
			}
			for _, s := range slices.Sorted(maps.Keys(is.Resources.Schemas)) {
				_ = c.call("DELETE", "/api/v1/schemas/"+s, nil, nil)
			}
		}
		return c.edit("system", "packs", func(data map[string]any) {
			r, _ := member(data, "installed")[id].(map[string]any)
			r["status"] = "DISABLED"
		})
	})
}

// verify is `pack verify`: a line for each test.
func (c *cordumctl) verify(id string) (lines []string) {
	c.r.t.Helper()
	is, err := c.record(id)
	if err != nil {
		c.r.t.Fatal(err)
	}
	for _, s := range is.Tests.PolicySimulations {
		q := s.Request
		var got struct{ Decision, Reason string }
		if err := c.call("POST", "/api/v1/policy/simulate", pairs("topic", q["topic"], "tenant", cmp.Or(fmt.Sprint(q["tenantId"]), "default"), "meta", pairs(
			"tenant_id", q["tenantId"], "capability", q["capability"], "risk_tags", q["riskTags"], "requires", q["requires"],
			"pack_id", cmp.Or(fmt.Sprint(q["packId"]), id), "actor_id", q["actorId"], "actor_type", q["actorType"])), &got); err != nil {
			lines = append(lines, fmt.Sprintf("%s: %v", s.Name, err))
			continue
		}
		decision := strings.TrimPrefix(got.Decision, "DECISION_TYPE_")
		if decision == "REQUIRE_HUMAN" {
			decision = "REQUIRE_APPROVAL"
		}
		lines = append(lines, fmt.Sprintf("%s: %s, %v", s.Name, decision, decision == s.ExpectDecision))
	}
	return lines
}

// asked fails unless it has asked for that, in that order, since the last time.
func (c *cordumctl) asked(want ...string) {
	c.r.t.Helper()
	if !slices.Equal(c.said, want) {
		c.r.t.Errorf("asked for\n%s\nwant\n%s", strings.Join(c.said, "\n"), strings.Join(want, "\n"))
	}
	c.said = nil
}

// shownAlike fails unless the routes of packs show the record that the command line sees: but for how it spells metadata, and for lists of nothing.
func (c *cordumctl) shownAlike(id string) map[string]any {
	c.r.t.Helper()
	show := func(v any) string {
		text, err := json.MarshalIndent(plain(v), "", " ")
		if err != nil {
			c.r.t.Fatal(err)
		}
		return string(text)
	}
	record := c.r.get("/api/v1/packs/" + id).ok(200).object()
	if theirs, ours := show(c.list()[id]), show(record); theirs != ours {
		c.r.t.Errorf("the route of pack %s shows another record:\n%s", id, difference(theirs, ours))
	}
	for _, one := range c.r.get("/api/v1/packs").ok(200).object()["items"].([]any) {
		if m := one.(map[string]any); m["id"] == id && !equal(m, record) {
			c.r.t.Errorf("the list of packs shows another record: %v", m)
		}
	}
	return record
}

// plain is a record with its names in lower case, and without what is null or an empty list.
func plain(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		if l, ok := v.([]any); ok {
			out := make([]any, len(l))
			for i := range l {
				out[i] = plain(l[i])
			}
			return out
		}
		return v
	}
	out := map[string]any{}
	for name, v := range m {
		if l, ok := v.([]any); v == nil || ok && len(l) == 0 {
			continue
		}
		out[strings.ToLower(name)] = plain(v)
	}
	return out
}

// nothingOf fails where something of the pack of testdata is left, but for its record and what the command line is known to leave.
func (r *rig) nothingOf(id string) {
	r.t.Helper()
	for _, s := range r.schemas("k-admin", "?limit=500") {
		if strings.HasPrefix(s, id) {
			r.t.Errorf("schema %s is left", s)
		}
	}
	for _, f := range r.workflows("k-admin") {
		if strings.HasPrefix(f, id) {
			r.t.Errorf("workflow %s is left", f)
		}
	}
	if bundles := fmt.Sprint(r.get("/api/v1/policy/bundles").ok(200).object()); strings.Contains(bundles, id) {
		r.t.Errorf("bundles: %s", bundles)
	}
	if got := r.get("/api/v1/packs/" + id).ok(200).object()["status"]; got != "DISABLED" {
		r.t.Errorf("pack %s is %v", id, got)
	}
	for _, resource := range []string{"packs:global", "pack:" + id} {
		r.get("/api/v1/locks?resource="+resource).refused(404, "lock not found")
	}
}

// Checklist 2: installed by the command line, seen and taken away by the routes of packs.
func TestChecklist2_APackOfTheCommandLine(t *testing.T) {
	virtually(t, optional(), func(t *testing.T, r *rig) {
		c, clean := &cordumctl{r: r, key: "k-ada"}, r.data("system", "default")
		c.must(c.install(parcels(t), false))
		document := func(id string) []string { return []string{"GET /config?scope=system&scope_id=" + id, "POST /config"} }
		c.asked(slices.Concat(
			[]string{"GET /status", "POST /locks/acquire", "POST /locks/acquire", "GET /schemas/parcels/Parcel", "GET /schemas/parcels/Weight",
				"GET /schemas/parcels/Booking", "GET /workflows/parcels.ship", "GET /workflows/parcels.batch", "POST /schemas", "POST /schemas", "POST /schemas",
				"POST /workflows", "POST /workflows"},
			document("default"), document("default"), document("policy"), document("packs"), []string{"POST /locks/release", "POST /locks/release"})...)
		record := c.shownAlike("parcels")
		if record["status"] != "ACTIVE" || record["installed_by"] != "ada" || record["manifest"].(map[string]any)["metadata"].(map[string]any)["title"] != "Parcels" {
			t.Errorf("%v", record)
		}
		verified := []string{"weighing is allowed: ALLOW, true", "a booking waits for a human: REQUIRE_APPROVAL, true"}
		if got := c.verify("parcels"); !slices.Equal(got, verified) {
			t.Errorf("verified: %q", got)
		}
		r.verified("parcels")
		r.decides("job.parcels.weigh", "scheduled: weighing harms nobody", "capability", "parcels.weigh", "requires", deps("scales"))
		if got := r.post("/api/v1/workflows/parcels.ship/runs", pairs()).ok(200).object(); got["run_id"] == "" {
			t.Errorf("%v", got)
		}
		if got := r.uninstall("parcels", true).ok(200).object(); got["status"] != "DISABLED" || got["version"] != "1.0.0" {
			t.Errorf("%v", got)
		}
		r.nothingOf("parcels")
		if doc := r.data("system", "default"); !equal(doc, clean) {
			t.Errorf("left over: %v, was %v", doc, clean)
		}
		if got := c.list()["parcels"].(map[string]any)["status"]; got != "DISABLED" {
			t.Errorf("the command line lists it as %v", got)
		}
	})
}

// Checklist 2, the other way round: installed by the route, seen and taken away by the command line.
func TestChecklist2_APackOfTheRoute(t *testing.T) {
	virtually(t, optional(), func(t *testing.T, r *rig) {
		c, clean := &cordumctl{r: r, key: "k-ada"}, r.data("system", "default")
		r.installAs("k-ada", "pack.tgz", parcels(t).tgz()).ok(200)
		c.shownAlike("parcels")
		if got := c.verify("parcels"); !slices.Equal(got, []string{"weighing is allowed: ALLOW, true", "a booking waits for a human: REQUIRE_APPROVAL, true"}) {
			t.Errorf("verified: %q", got)
		}
		c.said = nil
		c.must(c.uninstall("parcels", true))
		document := func(id string) []string { return []string{"GET /config?scope=system&scope_id=" + id, "POST /config"} }
		c.asked(slices.Concat([]string{"POST /locks/acquire", "POST /locks/acquire", "GET /config?scope=system&scope_id=packs"},
			document("default"), document("default"), document("policy"),
			[]string{"DELETE /workflows/parcels.batch", "DELETE /workflows/parcels.ship", "DELETE /schemas/parcels/Booking", "DELETE /schemas/parcels/Parcel",
				"DELETE /schemas/parcels/Weight"},
			document("packs"), []string{"POST /locks/release", "POST /locks/release"})...)
		r.nothingOf("parcels")
		c.shownAlike("parcels")
		// The command line takes values away, and leaves the objects in which they were: it always did.
		left := r.data("system", "default")
		if equal(left, clean) {
			t.Error("the command line has learnt to tidy up")
		}
		r.uninstall("parcels", false).ok(200) // the route tidies up after it
		if doc := r.data("system", "default"); !equal(doc, clean) {
			t.Errorf("left over: %v, was %v", doc, clean)
		}
		// And what was taken away like that is installed again, by either, and taken away by the other.
		for _, purge := range []bool{true, false, true} {
			r.install(parcels(t).tgz(), "upgrade", "true").ok(200)
			r.verified("parcels")
			c.must(c.uninstall("parcels", purge))
			c.must(c.install(parcels(t), true))
			c.shownAlike("parcels")
			r.verified("parcels")
			r.uninstall("parcels", true).ok(200)
			r.nothingOf("parcels")
			if doc := r.data("system", "default"); !equal(doc, clean) {
				t.Errorf("left over: %v, was %v", doc, clean)
			}
		}
	})
}

// A stored workflow shows what its file leaves out, so that the command line never finds it unchanged, and says so: it always did. The route compares
// what both say, and finds nothing to do.
func TestChecklist2_AnUnchangedPack(t *testing.T) {
	virtually(t, optional(), func(t *testing.T, r *rig) {
		c, p := &cordumctl{r: r, key: "k-ada"}, parcels(t)
		c.must(c.install(p, false))
		before := r.picture()
		if err := c.install(p, false); err == nil || err.Error() != "workflow parcels.ship exists; rerun with --upgrade" {
			t.Errorf("%v", err)
		}
		r.same("refused", before)
		r.get("/api/v1/locks?resource=packs:global").refused(404, "lock not found")
		c.must(c.install(p, true))
		c.shownAlike("parcels")
		r.install(p.tgz()).ok(200)
		c.shownAlike("parcels")
		before = r.picture()
		time.Sleep(time.Minute)
		r.install(p.tgz()).ok(200)
		r.same("installed again", before)
		onlySchemas := p.say("pack.yaml", "  workflows:\n    - { id: parcels.ship, path: workflows/ship.yaml }\n    - { id: parcels.batch, path: workflows/batch.yaml }\n", "").
			say("pack.yaml", "1.0.0", "1.0.1")
		for range 2 { // schemas it finds unchanged
			c.said = nil
			if err := c.install(onlySchemas, false); err != nil || slices.Contains(c.said, "POST /schemas") {
				t.Errorf("%v: %q", err, c.said)
			}
		}
		r.uninstall("parcels", true).ok(200)
	})
}

// Of the command line and the plane only one installs at a time.
func TestChecklist2_TheLocksOfPacksAreTheSameForBoth(t *testing.T) {
	virtually(t, optional(), func(t *testing.T, r *rig) {
		c, before := &cordumctl{r: r, key: "k-ada"}, r.picture()
		for _, resource := range []string{"packs:global", "pack:parcels"} {
			r.acquire(resource, "api-gateway:1", "ttl_ms", 60_000).ok(200) // as an installation of the plane does
			err, _ := c.install(parcels(t), false).(ctlError)
			if err.status != 409 || !strings.Contains(err.text, "lock unavailable") {
				t.Errorf("%s: %v", resource, err)
			}
			r.same(resource, before)
			r.release(resource, "api-gateway:1").ok(200)
			r.get("/api/v1/locks?resource=packs:global").refused(404, "lock not found")
		}
		if err := c.locked("parcels", func() error {
			r.install(parcels(t).tgz()).refused(409, "global pack lock held")
			return nil
		}); err != nil {
			t.Error(err)
		}
		r.same("while the command line is at it", before)
		c.must(c.install(parcels(t), false))
	})
}

// An installation of the command line that fails on its way takes back what it has done. A member of a document that was not there before it takes
// back by leaving it out, which was a removal when a post replaced the document. It is none any more: nobody removes what a client does not know of.
func TestChecklist2_AnInstallationThatIsTakenBack(t *testing.T) {
	virtually(t, optional(), func(t *testing.T, r *rig) {
		c, broken := &cordumctl{r: r, key: "k-ada"}, parcels(t).with("overlays/safety.yaml", "rules: [{id: x, decision: perhaps}]")
		before := r.picture()
		if err, _ := c.install(broken, false).(ctlError); err.status != 400 {
			t.Errorf("%v", err)
		}
		r.same("pools and timeouts were there before", before)

		r.post("/api/v1/config", pairs("timeouts", nil)).ok(204)
		if err, _ := c.install(broken, false).(ctlError); err.status != 400 {
			t.Errorf("%v", err)
		}
		after := r.data("system", "default")
		if text := fmt.Sprint(after["pools"]); strings.Contains(text, "parcels") {
			t.Errorf("pools are left: %s", text)
		}
		if text := fmt.Sprint(after["timeouts"]); !strings.Contains(text, "job.parcels.weigh") {
			t.Errorf("the timeouts are gone, although they were only left out: %s", text)
		}
		r.get("/api/v1/packs/parcels").refused(404, "not found")
		r.post("/api/v1/config", pairs("timeouts", nil)).ok(204) // this is a removal
		c.must(c.install(parcels(t), false))
		r.uninstall("parcels", true).ok(200)
		r.nothingOf("parcels")
		if text := fmt.Sprint(r.data("system", "default")); strings.Contains(text, "parcels") {
			t.Errorf("left over: %s", text)
		}
	})
}

// What the command line has put there and taken away by itself leaves the objects in which it was, as it always did; nobody else has an account of it.
func TestChecklist2_NothingButTheCommandLine(t *testing.T) {
	virtually(t, optional(), func(t *testing.T, r *rig) {
		c := &cordumctl{r: r, key: "k-ada"}
		want := r.data("system", "default")
		c.must(c.install(parcels(t), false))
		r.decides("job.parcels.book", "approval_required: a booking costs money", "capability", "parcels.book")
		c.must(c.uninstall("parcels", true))
		r.nothingOf("parcels")
		pools, timeouts := member(member(want, "pools"), "pools"), member(want, "timeouts")
		pools["parcels"], pools["parcels-scales"] = pairs(), pairs()
		member(timeouts, "topics")["job.parcels.weigh"], timeouts["workflows"] = pairs(), pairs("parcels.ship", pairs())
		if got := r.data("system", "default"); !equal(got, want) {
			t.Errorf("left over: %v, want %v", got, want)
		}
		r.decides("job.test.gpu", "scheduled: tests may") // which disturbs nobody
		c.must(c.uninstall("parcels", true))
		if err := c.uninstall("nobody", true); err == nil || err.Error() != "pack nobody not installed" {
			t.Errorf("%v", err)
		}
	})
}

// Packs that both have installed lie in one document, and each goes without the other.
func TestChecklist2_PacksOfBothBesideEachOther(t *testing.T) {
	virtually(t, optional(), func(t *testing.T, r *rig) {
		c, clean := &cordumctl{r: r, key: "k-ada"}, r.data("system", "default")
		letters := files{}
		for name, text := range parcels(t) {
			letters[name] = strings.NewReplacer("parcels", "letters", "Parcels", "Letters").Replace(text)
		}
		for _, first := range []string{"route", "command line"} {
			install := map[string]func(files){
				"route":        func(p files) { r.installAs("k-ada", "p.tgz", p.tgz(), "upgrade", "true").ok(200) },
				"command line": func(p files) { c.must(c.install(p, true)) },
			}
			other := map[string]string{"route": "command line", "command line": "route"}[first]
			install[first](parcels(t))
			alone := r.data("system", "default")
			install[other](letters)
			r.verified("parcels")
			r.verified("letters")
			c.shownAlike("parcels")
			c.shownAlike("letters")
			r.uninstall("letters", true).ok(200)
			r.nothingOf("letters")
			if doc := r.data("system", "default"); !equal(doc, alone) {
				t.Errorf("by %s first, left over: %v, was %v", first, doc, alone)
			}
			r.verified("parcels")
			r.uninstall("parcels", true).ok(200)
			if doc := r.data("system", "default"); !equal(doc, clean) {
				t.Errorf("by %s first, left over: %v, was %v", first, doc, clean)
			}
		}
	})
}

// A pack is the tenant's who has installed it last: once it is taken away another one installs it, over whatever door, and may take it away again.
func TestChecklist2_APackThatAnotherTenantInstalls(t *testing.T) {
	virtually(t, optional(), func(t *testing.T, r *rig) {
		r.install(parcels(t).tgz()).ok(200)
		r.as("k-other", "POST", "/api/v1/packs/parcels/uninstall", pairs("purge", true)).refused(403, "tenant access denied")
		r.uninstall("parcels", true).ok(200)
		theirs := &cordumctl{r: r, key: "k-other"}
		theirs.must(theirs.install(parcels(t), false))
		r.as("k-other", "GET", "/api/v1/workflows/parcels.ship", nil).ok(200)
		r.get("/api/v1/workflows/parcels.ship").refused(404, "not found")
		r.uninstall("parcels", true).refused(403, "tenant access denied")
		r.as("k-other", "POST", "/api/v1/packs/parcels/uninstall", pairs("purge", true)).ok(200)
		r.as("k-other", "GET", "/api/v1/workflows/parcels.ship", nil).refused(404, "not found")
		if ids := r.schemas("k-other", ""); len(ids) > 0 {
			t.Errorf("left over: %v", ids)
		}
		r.install(parcels(t).tgz()).ok(200)
	})
}

// The route upgrades what the command line has installed: topics, pools and schemas that the new version has not go. Of a workflow it cannot tell whether
// somebody has changed it since, for the command line's digest is of the file and not of what is stored; so that stays, like one that was changed.
func TestChecklist2_TheRouteUpgradesWhatTheCommandLineHasInstalled(t *testing.T) {
	virtually(t, optional(), func(t *testing.T, r *rig) {
		c, clean := &cordumctl{r: r, key: "k-ada"}, r.data("system", "default")
		c.must(c.install(parcels(t), false))
		less := parcels(t).say("pack.yaml", "version: 1.0.0", "version: 2.0.0").
			say("pack.yaml", "    - { id: parcels.batch, path: workflows/batch.yaml }\n", "").
			say("pack.yaml", "    - { id: parcels/Weight, path: schemas/Weight.json }\n", "").
			say("workflows/ship.yaml", "    output_schema_id: parcels/Weight\n", "").
			with("overlays/pools.yaml", "topics: { job.parcels.weigh: parcels-scales }\npools: { parcels-scales: { requires: [scales] } }\n")
		r.installAs("k-ada", "p.tgz", less.tgz()).ok(400)
		r.installAs("k-ada", "p.tgz", less.tgz(), "upgrade", "true").ok(200)
		if text := fmt.Sprint(r.data("system", "default")["pools"]); strings.Contains(text, "job.parcels.book") || !strings.Contains(text, "job.parcels.weigh") {
			t.Errorf("pools are %s", text)
		}
		r.get("/api/v1/schemas/parcels/Weight").refused(404, "schema not found")
		r.get("/api/v1/workflows/parcels.batch").ok(200)
		c.shownAlike("parcels")
		c.must(c.uninstall("parcels", false))
		r.uninstall("parcels", true).ok(200)
		if doc := r.data("system", "default"); !equal(doc, clean) {
			t.Errorf("left over: %v, was %v", doc, clean)
		}
		if left := r.workflows("k-admin"); len(left) != 1 || left[0] != "parcels.batch" {
			t.Errorf("workflows are %v", left)
		}
	})
}

// A pack that brings policy makes what waits for people stale, whoever installs it and over whatever door; one that brings none disturbs nobody.
func TestTrap1_APackWithPolicyMakesApprovalsStale(t *testing.T) {
	virtually(t, optional(), func(t *testing.T, r *rig) {
		c, quiet := &cordumctl{r: r, key: "k-ada"}, parcels(t).
			say("pack.yaml", "  policy:\n    - { name: safety, strategy: bundle_fragment, path: overlays/safety.yaml }\n", "").
			say("pack.yaml", "expectDecision: ALLOW", "expectDecision: DENY").say("pack.yaml", "expectDecision: REQUIRE_APPROVAL", "expectDecision: DENY")
		asks := func() string { return r.submit("topic", "job.test.ask").JobID }
		waits := []string{asks(), asks()}
		r.installAs("k-ada", "p.tgz", quiet.tgz()).ok(200)
		r.approve(waits[0], nil).ok(200)
		c.must(c.install(quiet, true))
		r.approve(waits[1], nil).ok(200)
		for _, change := range []func(){
			func() { r.installAs("k-ada", "p.tgz", parcels(t).tgz(), "upgrade", "true").ok(200) }, func() { c.must(c.uninstall("parcels", true)) },
			func() { c.must(c.install(parcels(t), true)) }, func() { r.uninstall("parcels", true).ok(200) },
		} {
			id := asks()
			change()
			r.approve(id, nil).conflict("approval_stale_snapshot", "policy snapshot changed; re-evaluate before approving")
			r.approve(asks(), nil).ok(200)
		}
	})
}

// A word that is no decision would be an approval of everything: no door of the policy takes it.
func TestTrap13_NoDoorTakesAWordThatIsNoDecision(t *testing.T) {
	virtually(t, optional(), func(t *testing.T, r *rig) {
		const word = "rules: [{id: x, match: {topics: [job.test.wipe]}, decision: perhaps}]"
		before := r.picture()
		for name, a := range map[string]answer{
			"a draft":    r.put("secops~x", pairs("content", word)),
			"a document": r.change("system", "policy", pairs("bundles", pairs("core/x", pairs("content", word)))),
			"a pack":     r.installAs("k-ada", "p.tgz", parcels(t).with("overlays/safety.yaml", word).tgz()),
			"a try":      r.post("/api/v1/policy/bundles/secops~x/simulate", pairs("request", pairs("topic", "job.test.wipe"), "content", word)),
		} {
			if a.Status != 400 || !strings.Contains(a.Body, "perhaps") {
				t.Errorf("%s: %d %s", name, a.Status, a.Body)
			}
		}
		r.same("refused", before)
		r.decides("job.test.wipe", "denied: nothing may be deleted")
	})
}

// A dashboard says of itself what it is; that is no credential.
func TestTrap17_ARoleInAHeaderGrantsNothing(t *testing.T) {
	virtually(t, optional(), func(t *testing.T, r *rig) {
		before := r.picture()
		for _, route := range []string{
			"GET /packs", "GET /packs/x", "POST /packs/install", "POST /packs/x/uninstall", "POST /packs/x/verify", "GET /marketplace/packs", "POST /marketplace/install",
			"GET /config?scope=system&scope_id=packs", "POST /config", "POST /schemas", "DELETE /schemas/x", "POST /locks/acquire", "POST /locks/release",
			"POST /locks/renew", "GET /memory?key=res:x", "GET /workers",
		} {
			method, path, _ := strings.Cut(route, " ")
			for _, key := range []string{"k-viewer", "k-user"} {
				r.as(key, method, "/api/v1"+path, pairs(), "X-Tenant-ID", "", "X-Principal-Id", "ada", "X-Principal-Role", "admin").refused(403, "access denied")
			}
		}
		r.same("refused", before)
	})
}
