package plane_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"mime/multipart"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// files are what is in a bundle, by path.
type files map[string]string

// tgz packs them as the builder of packs does: no folders, no leading "./".
func (f files) tgz() []byte {
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	w := tar.NewWriter(gz)
	for _, name := range slices.Sorted(maps.Keys(f)) {
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(f[name]))}) // a buffer takes everything
		_, _ = w.Write([]byte(f[name]))
	}
	_, _ = w.Close(), gz.Close()
	return out.Bytes()
}

// with is another pack: some files are different, or not there ("").
func (f files) with(changes ...string) files {
	out := maps.Clone(f)
	for i := 0; i+1 < len(changes); i += 2 {
		if out[changes[i]] = changes[i+1]; changes[i+1] == "" {
			delete(out, changes[i])
		}
	}
	return out
}

// say is another pack: in a file, a text stands in place of another one.
func (f files) say(file, old, text string) files {
	if !strings.Contains(f[file], old) {
		panic(old + " is not in " + file)
	}
	return f.with(file, strings.ReplaceAll(f[file], old, text))
}

// folder reads a pack that lies in a folder.
func folder(t *testing.T, dir string) files {
	t.Helper()
	out := files{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		out[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// parcels is the example pack.
func parcels(t *testing.T) files { return folder(t, "../../docs/example-packs/parcels") }

// install uploads a bundle as a form; fields are name, value pairs.
func (r *rig) install(bundle []byte, fields ...string) answer {
	r.t.Helper()
	return r.installAs("k-ada", "pack.tgz", bundle, fields...)
}

func (r *rig) installAs(key, filename string, bundle []byte, fields ...string) answer {
	r.t.Helper()
	form, kind := formOf(filename, bundle, fields...)
	return r.as(key, "POST", "/api/v1/packs/install", form, "Content-Type", kind)
}

// formOf is a form with a bundle in it, unless its name is "", and its content type.
func formOf(filename string, bundle []byte, fields ...string) (form, contentType string) {
	var text bytes.Buffer // which takes everything
	w := multipart.NewWriter(&text)
	if filename != "" {
		part, _ := w.CreateFormFile("bundle", filename)
		_, _ = part.Write(bundle)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		_ = w.WriteField(fields[i], fields[i+1])
	}
	_ = w.Close()
	return text.String(), w.FormDataContentType()
}

func (r *rig) uninstall(id string, purge bool) answer {
	r.t.Helper()
	return r.post("/api/v1/packs/"+id+"/uninstall", pairs("purge", purge))
}

// data is the data of a configuration document.
func (r *rig) data(scope, id string) map[string]any {
	r.t.Helper()
	return r.get("/api/v1/config?envelope=false&scope=" + scope + "&scope_id=" + id).ok(200).object()
}

// picture is everything that a change of a pack may touch, as text; what an entry of the trail or a time would tell apart is not in it.
func (r *rig) picture() string {
	r.t.Helper()
	at := func(path string) any {
		var v any
		r.get(path).ok(200).json(&v)
		return v
	}
	shown := map[string]any{
		"config": r.data("system", "default"), "packs": at("/api/v1/packs"), "bundles": at("/api/v1/policy/bundles").(map[string]any)["bundles"],
		"rules": at("/api/v1/policy/rules"), "workflows": at("/api/v1/workflows"),
	}
	for _, id := range r.schemas("k-admin", "?limit=500") {
		shown["schema "+id] = at("/api/v1/schemas/" + id)
	}
	text, err := json.MarshalIndent(shown, "", " ")
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

// same fails when a picture is not as it was.
func (r *rig) same(what, before string) {
	r.t.Helper()
	if after := r.picture(); after != before {
		r.t.Errorf("%s: something has changed:\n%s", what, difference(before, after))
	}
}

// difference are the lines that only one of two texts has.
func difference(before, after string) string {
	var out strings.Builder
	in := func(text string) map[string]bool {
		all := map[string]bool{}
		for line := range strings.Lines(text) {
			all[line] = true
		}
		return all
	}
	old, now := in(before), in(after)
	for line := range strings.Lines(before) {
		if !now[line] {
			out.WriteString("- " + line)
		}
	}
	for line := range strings.Lines(after) {
		if !old[line] {
			out.WriteString("+ " + line)
		}
	}
	return out.String()
}

func TestK01_K02_K04_K08_APackIsInstalledOnceAndBelongsToItsTenant(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		first := r.install(parcels(t).tgz()).ok(200).object()
		if first["id"] != "parcels" || first["version"] != "1.0.0" || first["status"] != "ACTIVE" || first["installed_by"] != "ada" {
			t.Errorf("record %v", first)
		}
		if got := r.get("/api/v1/packs/parcels").ok(200).object(); !equal(got, first) {
			t.Errorf("another record: %v", got)
		}
		flow := r.get("/api/v1/workflows/parcels.ship").ok(200).object()
		if flow["org_id"] != "default" {
			t.Errorf("the workflow belongs to %v", flow["org_id"])
		}
		r.as("k-other", "GET", "/api/v1/workflows/parcels.ship", nil).ok(404)
		before := r.picture()
		time.Sleep(time.Minute)
		r.install(parcels(t).tgz()).ok(200)
		r.same("installed again", before)
		r.install(parcels(t).tgz(), "upgrade", "true").ok(200)
		r.same("upgraded to itself", before)
		if n := len(r.get("/api/v1/policy/audit").ok(200).object()["items"].([]any)); n != 1 {
			t.Errorf("%d entries in the trail, want one", n)
		}
		small := files{"pack.yaml": "metadata: { id: small, version: 1 }\ncompatibility: { protocolVersion: 1 }\n"}
		if got := r.install(small.tgz()).ok(200).object(); got["status"] != "INACTIVE" {
			t.Errorf("a pack without pools is %v", got["status"])
		}
	})
}

// equal compares what JSON says.
func equal(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

func TestK03_WhatIsDifferentIsNotReplacedUnlessAsked(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.install(parcels(t).tgz()).ok(200)
		before := r.picture()
		heavier := parcels(t).say("schemas/Weight.json", `"minimum": 1`, `"minimum": 2`).say("pack.yaml", "1.0.0", "1.1.0")
		r.install(heavier.tgz()).refused(400, "schema parcels/Weight exists; rerun with upgrade")
		slower := parcels(t).say("workflows/ship.yaml", "timeout_sec: 3600", "timeout_sec: 7200")
		r.install(slower.tgz()).refused(400, "workflow parcels.ship exists; rerun with upgrade")
		r.same("refused", before)
		for _, word := range []string{"1", "TRUE", "yes", "Y", "on"} {
			r.install(heavier.tgz(), "upgrade", word).ok(200)
		}
		if got := r.get("/api/v1/schemas/parcels/Weight").ok(200).Body; !strings.Contains(got, `"minimum": 2`) && !strings.Contains(got, `"minimum":2`) {
			t.Errorf("not replaced: %s", got)
		}
		if got := r.get("/api/v1/packs/parcels").ok(200).object(); got["version"] != "1.1.0" {
			t.Errorf("version %v", got["version"])
		}
	})
}

func TestK06_K07_TheVersionOfThePlaneAndInactivePacks(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		before := r.picture()
		newer := parcels(t).say("pack.yaml", "{ protocolVersion: 1 }", "{ protocolVersion: 1, minCoreVersion: 99.0.0 }")
		r.install(newer.tgz()).refused(400, "core version 0.9.0 does not satisfy minCoreVersion 99.0.0")
		r.same("refused", before)
		r.install(newer.tgz(), "force", "yes", "inactive", "yes").ok(200)
		got := r.get("/api/v1/packs/parcels").ok(200).object()
		if got["status"] != "INACTIVE" {
			t.Errorf("status %v", got["status"])
		}
		doc := r.data("system", "default")
		if text := fmt.Sprint(doc["pools"]); strings.Contains(text, "parcels") {
			t.Errorf("pools of an inactive pack: %s", text)
		}
		if text := fmt.Sprint(doc["timeouts"]); !strings.Contains(text, "job.parcels.weigh") {
			t.Errorf("an inactive pack has no timeouts: %s", text)
		}
		r.get("/api/v1/workflows/parcels.ship").ok(200)
		r.get("/api/v1/policy/bundles/parcels~safety").ok(200)
		r.install(newer.tgz(), "force", "yes").ok(200)
		if got := r.get("/api/v1/packs/parcels").ok(200).object(); got["status"] != "ACTIVE" {
			t.Errorf("activated: %v", got["status"])
		}
	})
}

func TestK05_K09_K10_K11_K12_K14_K21_WhatIsRefusedChangesNothing(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		before := r.picture()
		p := parcels(t)
		for name, test := range map[string]struct {
			bundle files
			says   string
		}{
			"a bad id":          {p.say("pack.yaml", "id: parcels,", "id: Bad ID,"), "metadata.id must match ^[a-z0-9-]+$"},
			"no version":        {p.say("pack.yaml", "version: 1.0.0, ", ""), "metadata.version required"},
			"no protocol":       {p.say("pack.yaml", "protocolVersion: 1", "protocolVersion: 0"), "compatibility.protocolVersion required"},
			"another protocol":  {p.say("pack.yaml", "protocolVersion: 1", "protocolVersion: 2"), "protocolVersion 2 not supported (expected 1)"},
			"a topic outside":   {p.say("pack.yaml", "name: job.parcels.weigh", "name: job.other.weigh"), `topic "job.other.weigh" must be namespaced under job.parcels.*`},
			"a schema outside":  {p.say("pack.yaml", "id: parcels/Weight", "id: Weight"), `schema id "Weight" must be namespaced under parcels/`},
			"a flow outside":    {p.say("pack.yaml", "id: parcels.ship", "id: ship"), "namespaced under parcels."},
			"another key":       {p.say("pack.yaml", "key: timeouts", "key: safety"), `unsupported config overlay key "safety"`},
			"another strategy":  {p.say("pack.yaml", "strategy: json_merge_patch", "strategy: replace"), "strategy"},
			"a foreign pool":    {p.say("overlays/pools.yaml", "parcels-scales", "gpu-farm"), "gpu-farm"},
			"a foreign topic":   {p.say("overlays/pools.yaml", "job.parcels.weigh", "job.other.weigh"), "job.other.weigh"},
			"a broken policy":   {p.with("overlays/safety.yaml", "rules: [{id: x"), "safety"},
			"a missing file":    {p.with("schemas/Weight.json", ""), "schemas/Weight.json"},
			"no manifest":       {p.with("pack.yaml", ""), "pack.yaml not found in archive"},
			"a path upwards":    {p.with("../x", "x"), "invalid archive path: ../x"},
			"an absolute path":  {p.with("/etc/x", "x"), "absolute archive path: /etc/x"},
			"a broken workflow": {p.say("workflows/ship.yaml", "depends_on: [weigh]", "depends_on: [nobody]"), "workflows/ship.yaml: invalid workflow"},
			"a broken schema":   {p.with("schemas/Weight.json", `{"type":"objekt"}`), "parcels/Weight"},
		} {
			got := r.install(test.bundle.tgz()).ok(400).object()
			if text := fmt.Sprint(got["error"]); !strings.Contains(text, test.says) {
				t.Errorf("%s: %q does not say %q", name, text, test.says)
			}
		}
		r.installAs("k-ada", "x.zip", p.tgz()).refused(400, "bundle must be .tgz")
		r.installAs("k-ada", "", nil, "force", "1").refused(400, "bundle file required")
		r.as("k-ada", "POST", "/api/v1/packs/install", `{"bundle":"x"}`).refused(400, "invalid multipart form")
		r.as("k-ada", "POST", "/api/v1/packs/install", "--x\r\nbroken", "Content-Type", "multipart/form-data; boundary=x").refused(400, "invalid multipart form")
		r.install([]byte("no archive")).ok(400)
		r.install(p.tgz()[:400]).ok(400)
		r.same("refused", before)
		nested := files{}
		for name, text := range p {
			nested["parcels-1.0.0/"+name] = text
		}
		r.install(nested.tgz()).ok(200)
	})
}

func TestK13_AnUploadThatIsTooLarge(t *testing.T) {
	r := open(t, config())
	if got := r.install(bytes.Repeat([]byte("x"), 65<<20)); got.Status != 413 {
		t.Errorf("HTTP %d", got.Status)
	}
}

func TestK15_LocksOfOthersKeepInstallationsOut(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		lock := func(resource string) {
			r.post("/api/v1/locks/acquire", pairs("resource", resource, "owner", "cordumctl:host:1", "ttl_ms", 60_000)).ok(200)
		}
		lock("packs:global")
		r.install(parcels(t).tgz()).refused(409, "global pack lock held")
		r.as("k-other", "POST", "/api/v1/packs/parcels/uninstall", nil).refused(404, "pack not installed")
		r.post("/api/v1/locks/release", pairs("resource", "packs:global", "owner", "cordumctl:host:1")).ok(200)
		lock("pack:parcels")
		r.install(parcels(t).tgz()).refused(409, "pack lock held")
		time.Sleep(61 * time.Second)
		r.install(parcels(t).tgz()).ok(200)
		r.as("k-admin", "GET", "/api/v1/locks?resource=packs:global", nil).refused(404, "lock not found")
	})
}

func TestK16_K17_Uninstall(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		clean := r.data("system", "default")
		r.install(parcels(t).tgz()).ok(200)
		got := r.uninstall("parcels", false).ok(200).object()
		if got["status"] != "DISABLED" || got["version"] != "1.0.0" {
			t.Errorf("record %v", got)
		}
		if doc := r.data("system", "default"); !equal(doc, clean) {
			t.Errorf("left over: %v, was %v", doc, clean)
		}
		r.get("/api/v1/policy/bundles/parcels~safety").ok(404)
		r.get("/api/v1/workflows/parcels.ship").ok(200)
		r.get("/api/v1/schemas/parcels/Weight").ok(200)
		r.uninstall("parcels", false).ok(200)
		r.as("k-admin", "POST", "/api/v1/packs/parcels/uninstall", "no json").ok(400)
		r.uninstall("parcels", true).ok(200)
		r.get("/api/v1/workflows/parcels.ship").ok(404)
		r.get("/api/v1/schemas/parcels/Weight").ok(404)
		r.uninstall("parcels", true).ok(200)
		r.uninstall("nobody", true).refused(404, "pack not installed")
		r.get("/api/v1/packs/nobody").refused(404, "not found")
		if n := len(r.get("/api/v1/packs").ok(200).object()["items"].([]any)); n != 1 {
			t.Errorf("%d packs are listed", n)
		}
		r.install(parcels(t).tgz()).ok(200)
		if got := r.get("/api/v1/packs/parcels").ok(200).object(); got["status"] != "ACTIVE" {
			t.Errorf("installed again: %v", got["status"])
		}
	})
}

func TestK18_AnUpgradeTakesAwayWhatTheNewVersionHasNot(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.install(parcels(t).tgz()).ok(200)
		less := parcels(t).say("pack.yaml", "1.0.0", "2.0.0").
			say("pack.yaml", "    - { id: parcels.batch, path: workflows/batch.yaml }\n", "").
			with("overlays/pools.yaml", "topics: { job.parcels.weigh: parcels-scales }\npools: { parcels-scales: { requires: [scales] } }\n")
		r.install(less.tgz(), "upgrade", "true").ok(200)
		if text := fmt.Sprint(r.data("system", "default")["pools"]); strings.Contains(text, "job.parcels.book") || !strings.Contains(text, "job.parcels.weigh") {
			t.Errorf("pools are %s", text)
		}
		r.get("/api/v1/workflows/parcels.batch").ok(404)
		r.get("/api/v1/workflows/parcels.ship").ok(200)
		r.uninstall("parcels", true).ok(200)
		if text := fmt.Sprint(r.data("system", "default")); strings.Contains(text, "parcels") {
			t.Errorf("left over: %s", text)
		}
	})
}

func TestK20_K22_VerifyAndWhatAnOperatorHasSwitchedOff(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.post("/api/v1/packs/parcels/verify", nil).refused(404, "pack not installed")
		manifest, _, _ := strings.Cut(parcels(t)["pack.yaml"], "\ntests:")
		p := parcels(t).with("pack.yaml", manifest+`
tests:
  policySimulations:
    - { name: weighs, request: { topic: job.parcels.weigh, capability: parcels.weigh }, expectDecision: allow }
    - { name: wrong, request: { topic: job.parcels.book, tenantId: other }, expectDecision: DENY }
    - { name: says nothing, request: { topic: job.parcels.weigh } }
    - { name: no topic, request: { capability: parcels.weigh }, expectDecision: ALLOW }
`)
		r.install(p.tgz()).ok(200)
		var got struct {
			PackID  string `json:"pack_id"`
			Results []struct {
				Name, Expected, Got, Reason string
				OK                          bool
			}
		}
		r.post("/api/v1/packs/parcels/verify", nil).ok(200).json(&got)
		var lines []string
		for _, res := range got.Results {
			lines = append(lines, fmt.Sprintf("%s: %s, expected %s, %v", res.Name, res.Got, res.Expected, res.OK))
		}
		want := []string{
			"weighs: ALLOW, expected ALLOW, true", "wrong: REQUIRE_APPROVAL, expected DENY, false", "says nothing: ALLOW, expected , false",
			"no topic: ERROR, expected ALLOW, false",
		}
		if got.PackID != "parcels" || !slices.Equal(lines, want) {
			t.Errorf("%s", strings.Join(lines, "\n"))
		}
		bundles := r.get("/api/v1/policy/bundles").ok(200).object()["bundles"].(map[string]any)
		bundles["parcels/safety"].(map[string]any)["enabled"] = false
		r.post("/api/v1/config", pairs("scope", "system", "scope_id", "policy", "data", pairs("bundles", bundles))).ok(204)
		r.install(p.say("pack.yaml", "1.0.0", "1.0.1").tgz()).ok(200)
		if got := r.get("/api/v1/policy/bundles/parcels~safety").ok(200).object(); got["enabled"] != false {
			t.Error("what an operator has switched off is on again")
		}
	})
}

// Two who install at once: one is done, or both are, and what is there is one of the two, whole.
func TestInstallationsAtOnceAreNeverMixed(t *testing.T) {
	r := open(t, config())
	one, two := parcels(t), parcels(t).say("pack.yaml", "1.0.0", "2.0.0").say("schemas/Weight.json", `"minimum": 1`, `"minimum": 2`).
		say("overlays/safety.yaml", "id: parcels-weigh", "id: parcels-weigh-2").say("workflows/ship.yaml", "timeout_sec: 3600", "timeout_sec: 7200")
	r.install(one.tgz()).ok(200)
	bundle := "rules: [{id: mine, match: {topics: [job.mine.*]}, decision: allow}]"
	for round := range 8 {
		var done sync.WaitGroup
		for n := range 4 {
			done.Go(func() {
				got := r.install([]files{one, two}[n%2].tgz(), "upgrade", "yes")
				if got.Status != 200 && got.Status != 409 {
					t.Errorf("HTTP %d: %s", got.Status, got.Body)
				}
			})
		}
		done.Go(func() {
			id := fmt.Sprintf("secops~%d", round)
			r.as("k-admin", "PUT", "/api/v1/policy/bundles/"+id, pairs("content", bundle)).ok(200)
			r.post("/api/v1/policy/publish", pairs()).ok(200)
		})
		done.Wait()
		version := r.get("/api/v1/packs/parcels").ok(200).object()["version"]
		weight := r.get("/api/v1/schemas/parcels/Weight").ok(200).Body
		policy := r.get("/api/v1/policy/bundles/parcels~safety").ok(200).Body
		flow := r.get("/api/v1/workflows/parcels.ship").ok(200).object()["timeout_sec"]
		second := version == "2.0.0"
		if strings.Contains(policy, "parcels-weigh-2") != second || strings.Contains(weight, `"minimum": 2`) != second || (flow == 7200.0) != second {
			t.Fatalf("version %v with %v, %s and %s", version, flow, weight, policy)
		}
	}
	if n := len(r.get("/api/v1/policy/bundles").ok(200).object()["items"].([]any)); n != 9 {
		t.Errorf("%d bundles, a publish or an installation was lost", n)
	}
}
