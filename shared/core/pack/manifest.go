package pack

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/pack/archive"
	"github.com/cordum-serverless/cordum/shared/core/pack/document"
)

// Manifest is what pack.yaml says, as the record spells it.
type Manifest struct {
	Metadata      Metadata      `json:"metadata"`
	Compatibility Compatibility `json:"compatibility"`
	Topics        []Topic       `json:"topics,omitempty"`
	// Tests are not part of the record's manifest: they are beside it.
	Tests Tests `json:"-"`
}

// Metadata says which pack it is.
type Metadata struct {
	ID          string `json:"id"`
	Version     string `json:"version"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Image       string `json:"image,omitempty"`
}

// Compatibility says which planes the pack is for; "" is any version.
type Compatibility struct {
	ProtocolVersion int    `json:"protocolVersion"`
	MinCoreVersion  string `json:"minCoreVersion"`
	MaxCoreVersion  string `json:"maxCoreVersion"`
}

// Topic describes the jobs of a topic. Nothing is routed by it.
type Topic struct {
	Name       string   `json:"name"`
	Requires   []string `json:"requires"`
	RiskTags   []string `json:"riskTags"`
	Capability string   `json:"capability"`
}

// Tests are what a pack expects of the policy that holds where it is installed.
type Tests struct {
	PolicySimulations []Simulation `json:"policySimulations"`
}

// Simulation is a request, and what is to be decided of it: "" is nothing that could ever be decided.
type Simulation struct {
	Name           string            `json:"name"`
	Request        SimulationRequest `json:"request"`
	ExpectDecision string            `json:"expectDecision"`
}

// SimulationRequest is what the policy is asked about.
type SimulationRequest struct {
	TenantID   string   `json:"tenantId"`
	Topic      string   `json:"topic"`
	Capability string   `json:"capability"`
	RiskTags   []string `json:"riskTags"`
	Requires   []string `json:"requires"`
	PackID     string   `json:"packId"`
	ActorID    string   `json:"actorId"`
	ActorType  string   `json:"actorType"`
}

// Limits of manifests. What a pack brings is installed in one transaction of at most 100 writes, and its record is one item.
const (
	maxManifest  = 128 << 10 // bytes
	maxText      = 4096      // bytes of a title, a description and the like
	maxWord      = 256       // bytes of a name, a topic, a version
	maxWords     = 64        // of a list
	maxTopics    = 128
	maxResources = 64 // schemas and workflows
	maxOverlays  = 32
	maxTests     = 100
	maxID        = 63
	protocol     = 1
)

var (
	idForm = regexp.MustCompile(`^[a-z0-9-]+$`)
	// reserved begin the ids of bundles that are no packs', or are what other parts of the plane call themselves.
	reserved = []string{"core", "secops", "system", "velocity", "workflow"}
)

// manifest is what pack.yaml says, with the files that it names.
type manifest struct {
	Manifest

	schemas, workflows []resource
	config, policy     []overlay
}

// resource is a file that becomes a schema or a workflow.
type resource struct{ id, path string }

// overlay is a file that is put over something.
type overlay struct{ name, scope, scopeID, key, path string }

// readManifest reads what pack.yaml says, and whether it may.
func readManifest(name string, raw []byte, o Options) (*manifest, error) {
	if len(raw) > maxManifest {
		return nil, invalid("%s: %d bytes; at most %d (%d KiB)", name, len(raw), maxManifest, maxManifest>>10)
	}
	object, err := document.Object(raw)
	if err != nil {
		return nil, invalid("%s: %s", name, err.Error())
	}
	m, err := decode(name, object)
	if err != nil {
		return nil, err
	}
	for _, check := range []func() error{m.identity, func() error { return m.Compatibility.check(o) }, m.resources, m.overlays, m.lengths} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func decode(name string, object map[string]any) (*manifest, error) {
	var wrong error
	root := reader{name, object, &wrong}
	m := &manifest{}
	meta, compatibility := root.at("metadata"), root.at("compatibility")
	m.Metadata = Metadata{
		ID: meta.at("id").text(), Version: meta.at("version").text(), Title: meta.at("title").text(),
		Description: meta.at("description").text(), Image: meta.at("image").text(),
	}
	m.Compatibility = Compatibility{
		ProtocolVersion: compatibility.at("protocolVersion").whole(),
		MinCoreVersion:  compatibility.at("minCoreVersion").text(), MaxCoreVersion: compatibility.at("maxCoreVersion").text(),
	}
	for _, t := range root.at("topics").list(maxTopics) {
		m.Topics = append(m.Topics, Topic{t.at("name").text(), t.at("requires").texts(), t.at("riskTags").texts(), t.at("capability").text()})
	}
	resources := func(kind string) (all []resource) {
		for _, r := range root.at("resources").at(kind).list(maxResources) {
			all = append(all, resource{r.at("id").text(), r.at("path").text()})
		}
		return all
	}
	overlays := func(kind, strategy string) (all []overlay) {
		for _, v := range root.at("overlays").at(kind).list(maxOverlays) {
			if given := v.at("strategy").text(); given != "" && given != strategy {
				v.at("strategy").fail("unsupported %s overlay strategy %q; it must be %s", kind, given, strategy)
			}
			all = append(all, overlay{v.at("name").text(), v.at("scope").text(), v.at("scope_id").text(), v.at("key").text(), v.at("path").text()})
		}
		return all
	}
	m.schemas, m.workflows = resources("schemas"), resources("workflows")
	m.config, m.policy = overlays("config", "json_merge_patch"), overlays("policy", "bundle_fragment")
	for _, s := range root.at("tests").at("policySimulations").list(maxTests) {
		m.Tests.PolicySimulations = append(m.Tests.PolicySimulations, simulation(s))
	}
	return m, wrong
}

func simulation(s reader) Simulation {
	r := s.at("request")
	return Simulation{
		Name: s.at("name").text(), ExpectDecision: s.at("expectDecision").text(),
		Request: SimulationRequest{
			TenantID: r.at("tenantId").text(), Topic: r.at("topic").text(), Capability: r.at("capability").text(),
			RiskTags: r.at("riskTags").texts(), Requires: r.at("requires").texts(),
			PackID: r.at("packId").text(), ActorID: r.at("actorId").text(), ActorType: r.at("actorType").text(),
		},
	}
}

// identity checks which pack it is, and that its topics are its own.
func (m *manifest) identity() error {
	id := m.Metadata.ID
	switch {
	case id == "":
		return invalid("metadata.id required")
	case !idForm.MatchString(id):
		return invalid("metadata.id must match %s", idForm)
	case len(id) > maxID:
		return invalid("metadata.id is longer than %d letters", maxID)
	case strings.Trim(id, "-") != id:
		return invalid("metadata.id must not begin or end with a dash")
	case slices.Contains(reserved, id):
		return invalid("metadata.id %q is reserved", id)
	case m.Metadata.Version == "":
		return invalid("metadata.version required")
	}
	for _, t := range m.Topics {
		if t.Name == "" {
			return invalid("topic name required")
		}
		if err := ownTopic(id, t.Name); err != nil {
			return err
		}
	}
	return nil
}

// ownTopic says whether a topic, or a glob of topics, is of a pack.
func ownTopic(id, topic string) error {
	if rest, ok := strings.CutPrefix(topic, "job."+id+"."); !ok || rest == "" {
		return invalid("topic %q must be namespaced under job.%s.*", topic, id)
	}
	return nil
}

// check says whether the pack is for this plane.
func (c Compatibility) check(o Options) error {
	switch {
	case c.ProtocolVersion == 0:
		return invalid("compatibility.protocolVersion required")
	case c.ProtocolVersion != protocol:
		return invalid("protocolVersion %d not supported (expected %d)", c.ProtocolVersion, protocol)
	case o.Force:
		return nil
	}
	core, known := coreVersion(o.CoreVersion)
	if c.MinCoreVersion != "" {
		least, ok := coreVersion(c.MinCoreVersion)
		switch {
		case !ok:
			return invalid("invalid minCoreVersion %q", c.MinCoreVersion)
		case known && slices.Compare(core[:], least[:]) < 0:
			return invalid("core version %s does not satisfy minCoreVersion %s", o.CoreVersion, c.MinCoreVersion)
		}
	}
	if c.MaxCoreVersion != "" {
		most, ok := coreVersion(c.MaxCoreVersion)
		switch {
		case !ok:
			return invalid("invalid maxCoreVersion %q", c.MaxCoreVersion)
		case known && slices.Compare(core[:], most[:]) > 0:
			return invalid("core version %s does not satisfy maxCoreVersion %s", o.CoreVersion, c.MaxCoreVersion)
		}
	}
	return nil
}

// resources checks what becomes schemas and workflows, and cleans the paths.
func (m *manifest) resources() error {
	if n := len(m.schemas) + len(m.workflows); n > maxResources {
		return invalid("%d schemas and workflows; a pack has at most %d", n, maxResources)
	}
	if err := each("schema", m.Metadata.ID+"/", m.schemas); err != nil {
		return err
	}
	return each("workflow", m.Metadata.ID+".", m.workflows)
}

func each(kind, prefix string, resources []resource) (err error) {
	seen := map[string]bool{}
	for i, r := range resources {
		switch {
		case r.id == "" || r.path == "":
			return invalid("%s id and path required", kind)
		case !strings.HasPrefix(r.id, prefix) || len(r.id) == len(prefix):
			return invalid("%s id %q must be namespaced under %s", kind, r.id, prefix)
		case len(r.id) > maxWord:
			return invalid("%s id %q is longer than %d bytes", kind, r.id, maxWord)
		case seen[r.id]:
			return invalid("%s id %q stands twice in the manifest", kind, r.id)
		}
		seen[r.id] = true
		if resources[i].path, err = archive.Clean(r.path); err != nil {
			return err
		}
	}
	return nil
}

// The one document that the plane reads pools and timeouts from.
const (
	scopeSystem  = "system"
	scopeDefault = "default"
)

// overlays checks what is put over the configuration and the policy. Every overlay has a name then.
func (m *manifest) overlays() error {
	if n := len(m.config) + len(m.policy); n > maxOverlays {
		return invalid("%d overlays; a pack has at most %d", n, maxOverlays)
	}
	names := map[string]bool{}
	for i := range m.config {
		o := &m.config[i]
		if err := o.configuration(names); err != nil {
			return err
		}
	}
	clear(names)
	for i := range m.policy {
		o := &m.policy[i]
		o.name = cmp.Or(o.name, scopeDefault)
		switch {
		case names[o.name]:
			return invalid("policy overlay %q stands twice in the manifest", o.name)
		case !overlayName.MatchString(o.name):
			return invalid("policy overlay name %q must be letters, digits, '.', '_' and '-', at most 64", o.name)
		}
		names[o.name] = true
		if err := o.cleanPath("policy"); err != nil {
			return err
		}
	}
	return nil
}

// overlayName is a segment of the id of a bundle, which stands in paths.
var overlayName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (o *overlay) configuration(names map[string]bool) error {
	key := strings.ToLower(o.key)
	if key != poolsKey && key != timeoutsKey {
		return invalid("unsupported config overlay key %q", o.key)
	}
	o.key, o.scope, o.scopeID = key, cmp.Or(o.scope, scopeSystem), cmp.Or(o.scopeID, scopeDefault)
	if o.scope != scopeSystem || o.scopeID != scopeDefault {
		return invalid("config overlay of %s in %s/%s: the plane reads it in %s/%s only", key, o.scope, o.scopeID, scopeSystem, scopeDefault)
	}
	if o.name == "" { // what has no name is recorded and taken back as everything else is
		o.name = key
		for n := 2; names[o.name]; n++ {
			o.name = fmt.Sprintf("%s-%d", key, n)
		}
	}
	if names[o.name] {
		return invalid("config overlay %q stands twice in the manifest", o.name)
	}
	names[o.name] = true
	return o.cleanPath("config")
}

func (o *overlay) cleanPath(kind string) (err error) {
	if o.path == "" {
		return invalid("%s overlay %q: path required", kind, o.name)
	}
	o.path, err = archive.Clean(o.path)
	return err
}

// lengths bounds what becomes part of the record.
func (m *manifest) lengths() error {
	words := []string{m.Metadata.Version, m.Compatibility.MinCoreVersion, m.Compatibility.MaxCoreVersion}
	for _, t := range m.Topics {
		words = append(append(append(words, t.Name, t.Capability), t.Requires...), t.RiskTags...)
	}
	for _, s := range m.Tests.PolicySimulations {
		r := s.Request
		words = append(append(append(words, s.Name, s.ExpectDecision, r.TenantID, r.Topic, r.Capability, r.PackID, r.ActorID, r.ActorType), r.RiskTags...), r.Requires...)
	}
	for _, o := range m.config {
		words = append(words, o.name)
	}
	if i := slices.IndexFunc(words, func(w string) bool { return len(w) > maxWord }); i >= 0 {
		return invalid("%.40q... is longer than %d bytes", words[i], maxWord)
	}
	texts := []string{m.Metadata.Title, m.Metadata.Description, m.Metadata.Image}
	if i := slices.IndexFunc(texts, func(t string) bool { return len(t) > maxText }); i >= 0 {
		return invalid("%.40q... is longer than %d bytes", texts[i], maxText)
	}
	return nil
}
