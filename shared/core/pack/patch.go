package pack

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/canonical"
	"github.com/cordum-serverless/cordum/shared/core/pack/document"
)

// Keys of the configuration that packs may patch.
const (
	poolsKey    = "pools"
	timeoutsKey = "timeouts"
)

// sections are what a patch of a key may be about, and whose its names must be. Which pools a pack may name depends on the document that is patched: package
// overlay says it.
var sections = map[string]map[string]func(id, name string) error{
	poolsKey:    {"topics": ownTopic, "pools": func(_, _ string) error { return nil }},
	timeoutsKey: {"topics": ownTopic, "workflows": ownWorkflow},
}

func ownWorkflow(id, name string) error {
	if rest, ok := strings.CutPrefix(name, id+"."); !ok || rest == "" {
		return invalid("workflow %q must be namespaced under %s.", name, id)
	}
	return nil
}

// readPatch reads the file of an overlay.
func readPatch(id string, o overlay, raw []byte) (ConfigOverlay, error) {
	out := ConfigOverlay{Name: o.name, Scope: o.scope, ScopeID: o.scopeID, Key: o.key}
	patch, err := document.Object(raw)
	if err != nil {
		return out, invalid("%s: %s", o.path, err.Error())
	}
	known := sections[o.key]
	for _, name := range slices.Sorted(maps.Keys(patch)) {
		own, ok := known[name]
		if !ok {
			return out, invalid("%s: unsupported key %q in a patch of %s; known are %s", o.path, name, o.key,
				strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		entries, ok := patch[name].(map[string]any)
		if !ok { // null would take everybody's
			return out, invalid("%s: %s must be an object", o.path, name)
		}
		for _, entry := range slices.Sorted(maps.Keys(entries)) {
			if err := own(id, entry); err != nil {
				return out, err
			}
		}
		if o.key == timeoutsKey && name == "workflows" {
			spellOut(entries)
		}
	}
	text, err := json.Marshal(patch)
	if err == nil {
		out.Patch, err = canonical.JSON(text)
	}
	return out, err
}

// spellOut writes the limit of a workflow that is a bare number, as many packs have it, as what it means.
func spellOut(workflows map[string]any) {
	for id, v := range workflows {
		if n, ok := v.(json.Number); ok {
			workflows[id] = map[string]any{"total_timeout_seconds": n}
		}
	}
}
