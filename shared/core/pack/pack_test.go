package pack_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/core/pack/archive"
	"github.com/cordum-serverless/cordum/shared/core/pack/overlay"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
	"github.com/cordum-serverless/cordum/shared/core/workflow"
)

// files are those of a folder by their paths.
func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	all, root := map[string][]byte{}, os.DirFS(dir)
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all[path], err = fs.ReadFile(root, path)
		}
		return err
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("%s: %d files, %v", dir, len(all), err)
	}
	return all
}

func bundle(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	b, err := archive.Write(files)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var plane = pack.Options{CoreVersion: "0.9.0"}

func parse(t testing.TB, files map[string][]byte) *pack.Pack {
	t.Helper()
	p, err := pack.Parse(bundle(t, files), plane)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestParse(t *testing.T) {
	all := files(t, "testdata/harbour")
	p := parse(t, all)
	if got := encode(p.Manifest.Metadata); got != `{"id":"harbour","version":"1.10","title":"Harbour","description":"Ships are weighed, and unloaded once somebody has said so.","image":"https://img.example/harbour.svg"}` {
		t.Errorf("metadata %s", got)
	}
	if len(p.Schemas) != 2 || string(p.Schemas[0].Text) != strings.TrimSpace(string(all["schemas/Ship.json"])) ||
		string(p.Schemas[1].Text) != `{"properties":{"tonnes":{"minimum":0.50,"type":"number"}},"required":["tonnes"],"type":"object"}` {
		t.Errorf("schemas %+v", p.Schemas)
	}
	if len(p.Workflows) != 2 || p.Workflows[0].ID != "harbour.unload" || p.Workflows[1].Path != "workflows/weigh.json" {
		t.Fatalf("workflows %+v", p.Workflows)
	}
	w := p.Workflows[0].Workflow
	if w.ID != "harbour.unload" || w.OrgID != "" || !w.CreatedAt.IsZero() || encode(w.Steps["weigh"].Input) != `{"name":"${input.name}","precision":0.10}` {
		t.Errorf("workflow %s", encode(w))
	}
	want := `[{"name":"pools","scope":"system","scope_id":"default","key":"pools","patch":{"pools":{"harbour":{"requires":[]},"harbour-cranes":{"requires":["crane:big"]}},` +
		`"topics":{"job.harbour.*":["harbour-cranes","harbour"],"job.harbour.weigh":"harbour"}}},` +
		`{"name":"timeouts","scope":"system","scope_id":"default","key":"timeouts","patch":{"topics":{"job.harbour.weigh":{"max_retries":2,"timeout_seconds":60}},` +
		`"workflows":{"harbour.unload":{"total_timeout_seconds":900},"harbour.weigh":{"child_timeout_seconds":30}}}}]`
	if got := encode(p.Config); got != want {
		t.Errorf("config\n%s, want\n%s", got, want)
	}
	sum := sha256.Sum256(all["overlays/policy.yaml"])
	if len(p.Policy) != 2 || p.Policy[0].FragmentID != "harbour/safety" || p.Policy[0].Content != string(all["overlays/policy.yaml"]) ||
		p.Policy[0].SHA256 != hex.EncodeToString(sum[:]) || p.Policy[1].FragmentID != "harbour/default" {
		t.Errorf("policy %+v", p.Policy)
	}
	if p.SignedBy != "" {
		t.Error("signed")
	}
}

// What a pack brings can be put into an empty plane, and works there.
func TestWhatAPackBringsWorks(t *testing.T) {
	p := parse(t, files(t, "testdata/harbour"))
	if err := overlay.Validate(p.Metadata.ID, p.Config, nil); err != nil {
		t.Fatal(err)
	}
	document, _, err := overlay.Layers(nil).Install(nil, p.Metadata.ID, p.Config)
	if err != nil {
		t.Fatal(err)
	}
	settings, problems := schedule.ParseSettings(document, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if pools, err := settings.Topology.Eligible(schedule.Job{Topic: "job.harbour.unload", Requires: []string{"crane:big"}}); err != nil || !slices.Equal(pools, []string{"harbour-cranes"}) {
		t.Errorf("pools %v, %v", pools, err)
	}
	if total := settings.Timeouts.Workflow("harbour.unload").Total.Seconds(); total != 900 {
		t.Errorf("total %v", total)
	}
}

func TestWorkflowDigestIsOfWhatItSays(t *testing.T) {
	one := parse(t, files(t, "testdata/harbour")).Workflows[0]
	stored := *one.Workflow
	stored.OrgID, stored.CreatedAt, stored.UpdatedAt = "acme", stored.CreatedAt.AddDate(2020, 1, 1), stored.UpdatedAt.AddDate(2021, 1, 1)
	text, err := json.Marshal(&stored)
	if err != nil {
		t.Fatal(err)
	}
	read, err := workflow.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if digest, err := pack.WorkflowDigest(read); err != nil || digest != one.Digest || len(digest) != 64 {
		t.Errorf("stored and read: %s, want %s, %v", digest, one.Digest, err)
	}
	read.Steps["weigh"].TimeoutSec = 1
	if digest, _ := pack.WorkflowDigest(read); digest == one.Digest {
		t.Error("another definition has the same digest")
	}
}

func TestSchemaDigestIsOfWhatItSays(t *testing.T) {
	a, errA := pack.SchemaDigest(json.RawMessage(`{"type":"object","minimum":1.0}`))
	b, errB := pack.SchemaDigest(json.RawMessage("{ \"minimum\": 1.0,\n\"type\": \"object\" }"))
	c, errC := pack.SchemaDigest(json.RawMessage(`{"type":"object","minimum":1}`))
	sum := sha256.Sum256([]byte(`{"minimum":1.0,"type":"object"}`))
	if errA != nil || errB != nil || errC != nil || a != b || a == c || a != hex.EncodeToString(sum[:]) {
		t.Errorf("%s %s %s", a, b, c)
	}
}

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// edit changes files of the pack: old is replaced by new in the file; without old the file is new, without both it is gone.
type edit struct{ file, old, new string }

func edited(t testing.TB, edits ...edit) map[string][]byte {
	t.Helper()
	all := files(t, "testdata/harbour")
	for _, e := range edits {
		switch {
		case e.old != "" && !strings.Contains(string(all[e.file]), e.old):
			t.Fatalf("%s has no %q", e.file, e.old)
		case e.old != "":
			all[e.file] = []byte(strings.Replace(string(all[e.file]), e.old, e.new, 1))
		case e.new != "":
			all[e.file] = []byte(e.new)
		default:
			delete(all, e.file)
		}
	}
	return all
}

// refusals are what is wrong with a pack, and what its installer is told.
func refusals() []struct {
	name  string
	edits []edit
	want  string
} {
	in := func(old, other string) []edit { return []edit{{"pack.yaml", old, other}} }
	const (
		pools    = "overlays/pools.patch.yaml"
		timeouts = "overlays/timeouts.patch.json"
		policies = "overlays/policy.yaml"
		unload   = "workflows/unload.yaml"
		ship     = "schemas/Ship.json"
	)
	return []struct {
		name  string
		edits []edit
		want  string
	}{
		{"no id", in("  id: harbour\n", ""), "metadata.id required"},
		{"a blank id", in("id: harbour\n", "id: ' '\n"), "metadata.id required"},
		{"K05 an id with a space", in("id: harbour\n", "id: Bad ID\n"), "metadata.id must match ^[a-z0-9-]+$"},
		{"K05 an id with two lines", in("id: harbour\n", "id: \"har\\nbour\"\n"), "metadata.id must match ^[a-z0-9-]+$"},
		{"an id that begins with a dash", in("id: harbour\n", "id: -harbour\n"), "metadata.id must not begin or end with a dash"},
		{"an id that ends with a dash", in("id: harbour\n", "id: harbour-\n"), "metadata.id must not begin or end with a dash"},
		{"a reserved id", in("id: harbour\n", "id: secops\n"), `metadata.id "secops" is reserved`},
		{"the id of bundles of workflows", in("id: harbour\n", "id: workflow\n"), `metadata.id "workflow" is reserved`},
		{"an id of 64 letters", in("id: harbour\n", "id: "+strings.Repeat("a", 64)+"\n"), "metadata.id is longer than 63 letters"},
		{"an id that is a list", in("id: harbour\n", "id: [harbour]\n"), "pack.yaml.metadata.id: must be text"},
		{"K05 no version", in("  version: 1.10\n", ""), "metadata.version required"},
		{"K05 no protocol", in("  protocolVersion: 1\n", ""), "compatibility.protocolVersion required"},
		{"K05 protocol 0", in("protocolVersion: 1", "protocolVersion: 0"), "compatibility.protocolVersion required"},
		{"K05 protocol 2", in("protocolVersion: 1", "protocolVersion: 2"), "protocolVersion 2 not supported (expected 1)"},
		{"a protocol that is no number", in("protocolVersion: 1", "protocolVersion: one"), "pack.yaml.compatibility.protocolVersion: must be a whole number"},
		{"K06 a newer plane needed", in("minCoreVersion: 0.6.0", "minCoreVersion: 0.10.0"), "core version 0.9.0 does not satisfy minCoreVersion 0.10.0"},
		{"K06 no version", in("minCoreVersion: 0.6.0", "minCoreVersion: bad"), `invalid minCoreVersion "bad"`},
		{"an older plane needed", in("minCoreVersion: 0.6.0", "maxCoreVersion: 0.8.9"), "core version 0.9.0 does not satisfy maxCoreVersion 0.8.9"},
		{"no version at most", in("minCoreVersion: 0.6.0", "maxCoreVersion: bad"), `invalid maxCoreVersion "bad"`},
		{"a topic without a name", in("name: job.harbour.weigh", "name: ''"), "topic name required"},
		{"K05 a topic outside", in("name: job.harbour.weigh", "name: job.other.weigh"), `topic "job.other.weigh" must be namespaced under job.harbour.*`},
		{"K05 a topic that begins alike", in("name: job.harbour.weigh", "name: job.harbours.weigh"), `topic "job.harbours.weigh" must be namespaced under job.harbour.*`},
		{"a topic that is the namespace", in("name: job.harbour.weigh", "name: job.harbour."), `topic "job.harbour." must be namespaced under job.harbour.*`},
		{"a schema without a path", in("      path: schemas/Ship.json\n", ""), "schema id and path required"},
		{"K05 a schema outside", in("id: harbour/Ship", "id: other/Ship"), `schema id "other/Ship" must be namespaced under harbour/`},
		{"K05 a schema without a name", in("id: harbour/Ship", "id: harbour/"), `schema id "harbour/" must be namespaced under harbour/`},
		{"a schema twice", in("id: harbour/Weight", "id: harbour/Ship"), `schema id "harbour/Ship" stands twice in the manifest`},
		{"a schema with a long id", in("id: harbour/Ship", "id: harbour/"+strings.Repeat("x", 249)), `schema id "harbour/` + strings.Repeat("x", 249) + `" is longer than 256 bytes`},
		{"a workflow without an id", in("    - id: harbour.unload\n      path:", "    - path:"), "workflow id and path required"},
		{"K05 a workflow outside", in("id: harbour.unload", "id: other.unload"), `workflow id "other.unload" must be namespaced under harbour.`},
		{"a workflow twice", in("id: harbour.weigh", "id: harbour.unload"), `workflow id "harbour.unload" stands twice in the manifest`},
		{"a workflow whose id is none", in("id: harbour.unload", "id: harbour.un load"),
			"workflows/unload.yaml: invalid workflow: id: \"harbour.un load\" must be letters, digits, '.', '_' and '-', at most 128, and begin with a letter or digit"},
		{"65 schemas and workflows", many("schemas", "harbour/x", 61), "65 schemas and workflows; a pack has at most 64"},
		{"65 schemas", many("schemas", "harbour/x", 65), "pack.yaml.resources.schemas: 67 entries; at most 64"},
		{"K09 an unknown key", in("key: Pools", "key: safety"), `unsupported config overlay key "safety"`},
		{"K09 no key", in("      key: Pools\n", ""), `unsupported config overlay key ""`},
		{"K09 an unknown strategy", in("strategy: json_merge_patch", "strategy: replace"),
			`pack.yaml.overlays.config[0].strategy: unsupported config overlay strategy "replace"; it must be json_merge_patch`},
		{"an unknown strategy of a policy", in("strategy: bundle_fragment", "strategy: replace"),
			`pack.yaml.overlays.policy[0].strategy: unsupported policy overlay strategy "replace"; it must be bundle_fragment`},
		{"an overlay that nobody would read", in("scope: system", "scope: team"), "config overlay of timeouts in team/default: the plane reads it in system/default only"},
		{"an overlay without a path", in("      path: overlays/timeouts.patch.json\n", ""), `config overlay "timeouts": path required`},
		{"two overlays of one name", in("    - scope: system\n", "    - name: pools\n"), `config overlay "pools" stands twice in the manifest`},
		{"two fragments of one name", in("    - path: overlays/limits.yaml", "    - path: overlays/limits.yaml\n      name: safety"), `policy overlay "safety" stands twice in the manifest`},
		{"a fragment whose name is none", in("name: safety", "name: a/b"), `policy overlay name "a/b" must be letters, digits, '.', '_' and '-', at most 64`},
		{"33 overlays", many("policy", "x", 33), "pack.yaml.overlays.policy: 35 entries; at most 32"},
		{"33 overlays together", many("policy", "x", 29), "33 overlays; a pack has at most 32"},
		{"101 tests", many("policySimulations", "x", 99), "pack.yaml.tests.policySimulations: 101 entries; at most 100"},
		{"a long capability", in("capability: harbour.weigh", "capability: "+strings.Repeat("c", 257)), `"` + strings.Repeat("c", 40) + `"... is longer than 256 bytes`},
		{"a long title", in("title: Harbour", "title: "+strings.Repeat("t", 4097)), `"` + strings.Repeat("t", 40) + `"... is longer than 4096 bytes`},
		{"K12 a path to above", in("path: schemas/Ship.json", "path: ../../etc/passwd"), "invalid archive path: ../../etc/passwd"},
		{"K12 an absolute path", in("path: schemas/Ship.json", "path: /etc/passwd"), "absolute archive path: /etc/passwd"},
		{"a path that is a folder", in("path: schemas/Ship.json", "path: schemas"), "file not found in archive: schemas"},
		{"a path that is the root", in("path: schemas/Ship.json", "path: ."), "invalid archive path: ."},
		{"a schema that is missing", []edit{{ship, "", ""}}, "file not found in archive: schemas/Ship.json"},
		{"two files that are missing", []edit{{ship, "", ""}, {pools, "", ""}}, "file not found in archive: overlays/pools.patch.yaml"},
		{"a manifest that is a list", []edit{{"pack.yaml", "", "[]"}}, "pack.yaml: must be an object"},
		{"an empty manifest", []edit{{"pack.yaml", "", " "}}, "pack.yaml: must be an object"},
		{"a manifest that is none", []edit{{"pack.yaml", "", "a: ]"}}, "pack.yaml: line 1: could not find '[' character corresponding to ']'"},
		{"a key twice", in("kind: Pack\n", "kind: Pack\nkind: Pack\n"), `pack.yaml: line 3: mapping key "kind" already defined at [2:1]`},
		{"a large manifest", in("kind: Pack\n", "kind: Pack\n"+strings.Repeat("# large\n", 20000)), "pack.yaml: 161575 bytes; at most 131072 (128 KiB)"},
		{"metadata that is a text", []edit{{"pack.yaml", "", "metadata: harbour"}}, "pack.yaml.metadata: must be an object"},
		{"topics that are no list", in("topics:\n", "topics: {a: b}\nothers:\n"), "pack.yaml.topics: must be a list"},
		{"a schema that is no schema", []edit{{ship, `"type": "object"`, `"type": "ship"`}},
			`schemas/Ship.json: invalid schema: schema "harbour/Ship": not a JSON Schema: '/type' does not validate with #/$defs/simpleTypes/enum: `},
		{"a schema that refers to elsewhere", []edit{{ship, `"type": "string"`, `"$ref": "file:///etc/passwd"`}},
			`schemas/Ship.json: invalid schema: schema "harbour/Ship": refers to file:///etc/passwd, and only references within the schema (#...) are allowed`},
		{"a schema that is null", []edit{{ship, "", "null"}}, "schemas/Ship.json: must be an object"},
		{"a large schema", []edit{{ship, `"type": "string"`, `"description": "` + strings.Repeat("x", 128<<10) + `"`}}, `schemas/Ship.json: invalid schema: schema "harbour/Ship": larger than 131072 bytes`},
		{"a workflow with a missing step", []edit{{unload, "depends_on: [weigh]", "depends_on: [weight]"}},
			`workflows/unload.yaml: invalid workflow: step "unload": depends_on: there is no step "weight"`},
		{"a workflow that is none", []edit{{unload, "timeout_sec: 600", "timeout_sec: long"}},
			"workflows/unload.yaml: workflow: json: cannot unmarshal string into Go struct field Workflow.timeout_sec of type int64"},
		{"a key twice in a workflow", []edit{{"workflows/weigh.json", `"name": "Weigh"`, `"name": "Weigh", "name": "Way"`}}, `workflows/weigh.json: key "name" stands twice in an object`},
		{"K09 a patch with another key", []edit{{timeouts, `"topics"`, `"reconciler": {}, "topics"`}},
			`overlays/timeouts.patch.json: unsupported key "reconciler" in a patch of timeouts; known are topics, workflows`},
		{"K09 a patch that takes everybody's topics", []edit{{pools, "", "topics: null"}}, "overlays/pools.patch.yaml: topics must be an object"},
		{"a patch that is a list", []edit{{pools, "", "[]"}}, "overlays/pools.patch.yaml: must be an object"},
		{"a patch of another topic", []edit{{pools, "job.harbour.weigh", "job.*"}}, `topic "job.*" must be namespaced under job.harbour.*`},
		{"a patch that removes another topic", []edit{{timeouts, `"job.harbour.weigh"`, `"job.other.x": null, "job.harbour.weigh"`}}, `topic "job.other.x" must be namespaced under job.harbour.*`},
		{"a patch of another workflow", []edit{{timeouts, `"harbour.unload"`, `"other.unload"`}}, `workflow "other.unload" must be namespaced under harbour.`},
		{"K11 a fragment that is no YAML", []edit{{policies, "", "rules: ]"}}, "overlays/policy.yaml: invalid policy content: harbour/safety:1:8: "},
		{"K11 an unknown key", []edit{{policies, "decision: allow", "decision: allow\n    colour: red"}}, `overlays/policy.yaml: invalid policy content: harbour/safety:6:5: unknown key "colour" in a rule; known are `},
		{"K11 no decision", []edit{{policies, "    decision: allow\n", ""}}, `overlays/policy.yaml: invalid policy content: harbour/safety:3:5: rule "harbour-weigh" has no decision`},
		{"a rule for everybody's jobs", []edit{{policies, "topics: [job.harbour.unload]", "pack_ids: [harbour]"}},
			`overlays/policy.yaml: rule "harbour-unload" must name topics: without any it would be for everybody's jobs`},
		{"a rule without an id and topics", []edit{{policies, "", "rules: [{decision: deny}]"}}, `overlays/policy.yaml: rule "#1" must name topics: `},
		{"a rule for topics of others", []edit{{policies, "topics: [job.harbour.weigh]", "topics: [job.harbour.weigh, 'job.*']"}},
			`overlays/policy.yaml: rule "harbour-weigh": topic "job.*" must be namespaced under job.harbour.*`},
		{"a rule for topics that begin alike", []edit{{policies, "topics: [job.harbour.weigh]", "topics: ['job.harbour*']"}},
			`overlays/policy.yaml: rule "harbour-weigh": topic "job.harbour*" must be namespaced under job.harbour.*`},
		{"a rule for a glob that could be anything", []edit{{policies, "topics: [job.harbour.weigh]", "topics: ['job.[a-z]*.*']"}},
			`overlays/policy.yaml: rule "harbour-weigh": topic "job.[a-z]*.*" must be namespaced under job.harbour.*`},
		{"a fragment about tenants", []edit{{policies, "version: v1", "tenants: {acme: {allow_topics: [job.harbour.*]}}"}},
			"overlays/policy.yaml: tenants: they would reach beyond the pack; a fragment has rules for job.harbour.* only"},
		{"a fragment about approvals", []edit{{policies, "version: v1", "approvals: {expire_after: 1s}"}},
			"overlays/policy.yaml: approvals: they would reach beyond the pack; a fragment has rules for job.harbour.* only"},
		{"an empty fragment", []edit{{policies, "", " \n"}}, "overlays/policy.yaml: a policy fragment must not be empty"},
		{"a fragment that is not UTF-8", []edit{{policies, "", "# \xff"}}, "overlays/policy.yaml: not UTF-8"},
		{"a lot of YAML", []edit{{policies, "", strings.Repeat("#"+strings.Repeat(" ", 99)+"\n", 1500)}, {unload, "", strings.Repeat("#"+strings.Repeat(" ", 99)+"\n", 1500)}},
			"the files of the pack are 304902 bytes"},
		{"a lot of lines of YAML", []edit{{policies, "", strings.Repeat("#\n", 6000)}, {unload, "", strings.Repeat("#\n", 5000)}}, "the files of the pack are 23902 bytes and 11075 lines"},
		{"one file of YAML for many schemas", append(many("schemas", "harbour/x", 50), edit{ship, "", "type: object\n" + strings.Repeat("#\n", 300)}), "the files of the pack are 37456 bytes and 15506 lines of YAML"},
		{"one file for many schemas", append(many("schemas", "harbour/x", 50), edit{ship, "", `{"description": "` + strings.Repeat("x", 100<<10) + `"}`}),
			"the files that the manifest names have 52"},
		{"a lot of objects", []edit{{"workflows/weigh.json", `"name": "Weigh"`, `"config": {"a": [` + strings.Repeat("{}, ", 16000) + `{}]}`}},
			"workflows/weigh.json: the schemas and workflows of the pack have more than 16000 objects together"},
		{"a record that is too large", []edit{{pools, "", "topics: {job.harbour.x: &a [" + strings.Repeat("harbour, ", 2000) + "harbour], job.harbour.y: *a, job.harbour.z: *a}" +
			"\npools: {harbour-1: {requires: *a}, harbour-2: {requires: *a}, harbour-3: {requires: *a}, harbour-4: {requires: *a}, harbour-5: {requires: *a}, harbour-6: {requires: *a}, harbour-7: {requires: *a}}"}},
			"manifest and patches are "},
	}
}

// many adds entries to a list of the manifest.
func many(list, id string, n int) []edit {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "\n    - {id: %s%d, name: %s%d, path: schemas/Ship.json}", id, i, id, i)
	}
	return []edit{{"pack.yaml", "  " + list + ":", "  " + list + ":" + b.String()}}
}

func TestK05_Refusals(t *testing.T) {
	for _, tt := range refusals() {
		t.Run(tt.name, func(t *testing.T) {
			p, err := pack.Parse(bundle(t, edited(t, tt.edits...)), plane)
			if !fault.Is(err, fault.Invalid) || !strings.HasPrefix(err.Error(), tt.want) || tt.want == "" || p != nil {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}

func TestProblemsOfAWorkflowAreListed(t *testing.T) {
	_, err := pack.Parse(bundle(t, edited(t, edit{"workflows/unload.yaml", "depends_on: [weigh]", "depends_on: [weight]"})), plane)
	if problems, ok := fault.From(err).Details["problems"].([]workflow.Problem); !ok || len(problems) != 1 || problems[0].Step != "unload" {
		t.Errorf("%+v", fault.From(err).Details)
	}
}

func TestK06_VersionsOfThePlane(t *testing.T) {
	tests := []struct {
		name, core, asks string
		force            bool
		want             string
	}{
		{"as asked", "0.6.0", "minCoreVersion: 0.6.0", false, ""},
		{"a newer plane", "0.10.0", "minCoreVersion: 0.9.9", false, ""},
		{"an older plane", "0.5.9", "minCoreVersion: 0.6", false, "core version 0.5.9 does not satisfy minCoreVersion 0.6"},
		{"an older plane, forced", "0.5.9", "minCoreVersion: 0.6", true, ""},
		{"no version, forced", "0.5.9", "minCoreVersion: bad", true, ""},
		{"a development build", "dev", "minCoreVersion: 99.0.0", false, ""},
		{"no version at all", "", "minCoreVersion: 99.0.0", false, ""},
		{"no version, on a development build", "dev", "minCoreVersion: bad", false, `invalid minCoreVersion "bad"`},
		{"a v and a suffix", "v0.6.0-rc1", "minCoreVersion: v0.6.0-beta", false, ""},
		{"one number", "0.6.0", "minCoreVersion: 1", false, `invalid minCoreVersion "1"`},
		{"at most", "0.9.0", "maxCoreVersion: 0.9", false, ""},
		{"more than at most", "0.9.1", "maxCoreVersion: 0.9.0", false, "core version 0.9.1 does not satisfy maxCoreVersion 0.9.0"},
		{"more than at most, forced", "0.9.1", "maxCoreVersion: 0.9.0", true, ""},
		{"no version at most, on a development build", "dev", "maxCoreVersion: x", false, `invalid maxCoreVersion "x"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := bundle(t, edited(t, edit{"pack.yaml", "minCoreVersion: 0.6.0", tt.asks}))
			_, err := pack.Parse(b, pack.Options{CoreVersion: tt.core, Force: tt.force})
			if tt.want == "" && err != nil || tt.want != "" && (!fault.Is(err, fault.Invalid) || err.Error() != tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}

func TestAcceptedManifests(t *testing.T) {
	tests := []struct {
		name  string
		edits []edit
		holds func(*pack.Pack) bool
	}{
		{"apiVersion and kind are not looked at", []edit{{"pack.yaml", "apiVersion: cordum.io/v1alpha1\nkind: Pack\n", "apiVersion: 7\n"}}, func(*pack.Pack) bool { return true }},
		{"an id of 63 letters, and nothing else", []edit{{"pack.yaml", "", "metadata: {id: " + strings.Repeat("a", 63) + ", version: x}\ncompatibility: {protocolVersion: '1'}"}},
			func(p *pack.Pack) bool {
				return len(p.Metadata.ID) == 63 && p.Topics == nil && p.Tests.PolicySimulations == nil
			}},
		{"the manifest in JSON", []edit{{"pack.yaml", "", `{"metadata":{"id":"a","version":"1"},"compatibility":{"protocolVersion":1},"unknown":[1]}`}}, func(p *pack.Pack) bool { return p.Metadata.ID == "a" }},
		{"two overlays without a name", []edit{{"pack.yaml", "    - name: pools\n      key: Pools", "    - key: timeouts"}, {"overlays/pools.patch.yaml", "", "topics: {}"}},
			func(p *pack.Pack) bool { return p.Config[0].Name == "timeouts" && p.Config[1].Name == "timeouts-2" }},
		{"64 schemas and workflows", many("schemas", "harbour/x", 60), func(p *pack.Pack) bool { return len(p.Schemas) == 62 }},
		{"32 overlays", many2(28), func(p *pack.Pack) bool { return len(p.Policy) == 30 }},
		{"100 tests", many("policySimulations", "x", 98), func(p *pack.Pack) bool { return len(p.Tests.PolicySimulations) == 100 }},
		{"a fragment that says which tenant and what else is usual", []edit{{"overlays/policy.yaml", "version: v1", "default_tenant: default\ndefault_decision: allow"}},
			func(p *pack.Pack) bool { return len(p.Policy) == 2 }},
		{"a fragment without rules", []edit{{"overlays/policy.yaml", "", "version: v1\n"}}, func(p *pack.Pack) bool { return len(p.Policy) == 2 }},
		{"one file for two schemas", []edit{{"pack.yaml", "schemas/Weight.yaml", "schemas/Ship.json"}}, func(p *pack.Pack) bool { return p.Schemas[0].Digest == p.Schemas[1].Digest }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if p := parse(t, edited(t, tt.edits...)); !tt.holds(p) {
				t.Errorf("%s", encode(p))
			}
		})
	}
}

// many2 adds fragments to the manifest.
func many2(n int) []edit {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "\n    - {name: x%d, path: overlays/limits.yaml}", i)
	}
	return []edit{{"pack.yaml", "  policy:", "  policy:" + b.String()}}
}

// The packs in the folder that PACKS names can be read, go together into an empty plane, and leave nothing there (`make try-packs`).
func TestPacks(t *testing.T) {
	dirs := []string{"testdata"}
	if more := os.Getenv("PACKS"); more != "" {
		dirs = append(dirs, more)
	}
	for _, dir := range dirs {
		found, err := filepath.Glob(filepath.Join(dir, "*", "pack.yaml"))
		if err != nil || len(found) == 0 {
			t.Fatalf("no pack in %s: %v", dir, err)
		}
		var document json.RawMessage
		var layers overlay.Layers
		for _, file := range found {
			p := parse(t, files(t, filepath.Dir(file)))
			if err := overlay.Validate(p.Metadata.ID, p.Config, document); err != nil {
				t.Fatalf("%s: %v", p.Metadata.ID, err)
			}
			if document, layers, err = layers.Install(document, p.Metadata.ID, p.Config); err != nil {
				t.Fatal(err)
			}
			if record, err := pack.ReadRecord([]byte(encode(p.Record(pack.Active, "", "", p.Config)))); err != nil || record.ID != p.Metadata.ID {
				t.Errorf("%s: record %+v, %v", p.Metadata.ID, record, err)
			}
			for _, o := range p.Policy {
				if _, err := policy.Parse(o.FragmentID, []byte(o.Content)); err != nil {
					t.Errorf("%s: %v", o.FragmentID, err)
				}
			}
			t.Logf("%-20s %-6s %d schemas, %d workflows, %d+%d overlays, %d tests", p.Metadata.ID, p.Metadata.Version, len(p.Schemas), len(p.Workflows), len(p.Config), len(p.Policy),
				len(p.Tests.PolicySimulations))
		}
		for _, file := range found {
			p := parse(t, files(t, filepath.Dir(file)))
			if document, layers, err = layers.Uninstall(document, p.Metadata.ID); err != nil {
				t.Fatal(err)
			}
		}
		if string(document) != "{}" || len(layers) != 0 {
			t.Errorf("left: %s", document)
		}
	}
}

// FuzzParse changes one file of a pack that is valid.
func FuzzParse(f *testing.F) {
	all := files(f, "testdata/harbour")
	names := slices.Sorted(maps.Keys(all))
	for i, name := range names {
		f.Add(i, all[name])
	}
	for _, tt := range refusals() {
		for _, e := range tt.edits {
			if changed := edited(f, e)[e.file]; len(changed) < 8<<10 {
				f.Add(slices.Index(names, e.file), changed)
			}
		}
	}
	f.Fuzz(func(t *testing.T, which int, content []byte) {
		changed := maps.Clone(all)
		changed[names[uint(which)%uint(len(names))]] = content
		p, err := pack.Parse(bundle(t, changed), plane)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
			return
		}
		text := encode(p.Record(pack.Active, "", "", p.Config))
		if r, err := pack.ReadRecord([]byte(text)); err != nil || encode(r) != text {
			t.Fatalf("%s becomes %s, %v", text, encode(r), err)
		}
		document, layers, err := overlay.Layers(nil).Install(nil, p.Metadata.ID, p.Config)
		if err != nil {
			t.Fatal(err)
		}
		if document, _, err = layers.Uninstall(document, p.Metadata.ID); err != nil || string(document) != "{}" {
			t.Fatalf("left: %s, %v", document, err)
		}
	})
}
