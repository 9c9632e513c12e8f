// Package overlay puts patches of packs into a configuration document and takes them out again, so that what is there afterwards is what would be there had
// the pack never been installed. The document is the data of system/default: an object with the members pools and timeouts, and others that no pack touches.
package overlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
)

// Layers are the patches that lie in a document, the oldest first. They are stored as JSON, and written in the transaction that writes the document. nil is
// none.
type Layers []Layer

// Layer is a patch of a pack.
type Layer struct {
	Pack string `json:"pack"`
	Name string `json:"name"`
	Undo Undo   `json:"undo"`
}

// Is says whether a layer is that of an overlay: of its name, with its patch.
func (l Layer) Is(o pack.ConfigOverlay) bool {
	patch, err := read(l.Undo.Patch)
	if err != nil || l.Name != o.Name {
		return false
	}
	wanted, err := decode(o.Patch)
	return err == nil && len(patch) == 1 && patch[o.Key] != nil && equal(patch[o.Key], wanted)
}

// Install puts the overlays of a pack over everything that lies in a document, and takes out whatever of that pack lay in it before. Neither l nor the document
// is changed.
func (l Layers) Install(document json.RawMessage, id string, overlays []pack.ConfigOverlay) (json.RawMessage, Layers, error) {
	after, all, err := l.Uninstall(document, id)
	if err != nil {
		return nil, nil, err
	}
	for _, o := range overlays {
		patch, err := json.Marshal(map[string]json.RawMessage{o.Key: o.Patch})
		if err != nil {
			return nil, nil, fmt.Errorf("overlay %s of pack %s: %w", o.Name, id, err)
		}
		layer := Layer{Pack: id, Name: o.Name}
		if after, layer.Undo, err = Apply(after, patch); err != nil {
			return nil, nil, fmt.Errorf("overlay %s of pack %s: %w", o.Name, id, err)
		}
		all = append(all, layer)
	}
	return after, all, nil
}

// Uninstall takes what lies of a pack out of a document. What another pack set too stays, and so does what somebody has changed since. Neither l nor the document
// is changed.
func (l Layers) Uninstall(document json.RawMessage, id string) (json.RawMessage, Layers, error) {
	rest := slices.Clone(l)
	for i, layer := range slices.Backward(l) {
		if layer.Pack != id {
			continue
		}
		later := make([]*Undo, 0, len(rest)-i-1)
		for n := i + 1; n < len(rest); n++ {
			later = append(later, &rest[n].Undo)
		}
		var err error
		if document, err = TakeBack(document, layer.Undo, later...); err != nil {
			return nil, nil, fmt.Errorf("overlay %s of pack %s: %w", layer.Name, id, err)
		}
		rest = slices.Delete(rest, i, i+1)
	}
	return document, rest, nil
}

// Claim is the layer of an overlay that somebody else's installer has put into a document, who kept no account of what was there before: whatever is as the patch
// says is the pack's.
func Claim(id string, o pack.ConfigOverlay) (Layer, error) {
	patch, err := json.Marshal(map[string]json.RawMessage{o.Key: o.Patch})
	if err != nil {
		return Layer{}, fmt.Errorf("overlay %s of pack %s: %w", o.Name, id, err)
	}
	_, undo, err := Apply(nil, patch)
	if err != nil {
		return Layer{}, fmt.Errorf("overlay %s of pack %s: %w", o.Name, id, err)
	}
	return Layer{Pack: id, Name: o.Name, Undo: undo}, nil
}

// Validate says what is wrong with overlays of a pack for a document in which nothing of that pack lies: pools, also those that topics lead to, that are neither
// there nor its own, and a section that would not be valid any more. It reads the document as it is and as it would be.
//
// Faults: Invalid.
func Validate(id string, overlays []pack.ConfigOverlay, document json.RawMessage) error {
	before, err := members(document)
	if err != nil {
		return err
	}
	for _, o := range overlays {
		if o.Key == "pools" {
			if err := ownPools(id, o.Patch, before[o.Key]); err != nil {
				return err
			}
		}
	}
	merged, _, err := Layers(nil).Install(document, id, overlays)
	if err != nil {
		return err
	}
	after, err := members(merged)
	if err != nil {
		return err
	}
	patched := map[string]json.RawMessage{} // what is wrong elsewhere is not the pack's
	for _, o := range overlays {
		patched[o.Key] = after[o.Key]
	}
	text, err := json.Marshal(patched)
	if err != nil {
		return err
	}
	_, problems := schedule.ParseSettings(text, nil)
	if len(problems) == 0 {
		return nil
	}
	_, old := schedule.ParseSettings(document, nil)
	for _, p := range problems {
		same := func(o error) bool { return errors.As(p, new(schedule.Entry)) && o.Error() == p.Error() }
		if !slices.ContainsFunc(old, same) { // an entry of somebody else is passed over, now as before
			return fault.New(fault.Invalid, "the configuration would not be valid with this pack: %s", p.Error())
		}
	}
	return nil
}

func members(document json.RawMessage) (m map[string]json.RawMessage, err error) {
	if len(document) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(document, &m); err != nil {
		return nil, fmt.Errorf("system/default: %w", err)
	}
	return m, nil
}

// ownPools says whether a patch names pools that are there or whose names are the pack's. Since nothing of the pack lies in the document, those that are there
// are of others, whatever they are called, and it must not remove them: of the packs git and git-hub each has pools that begin with "git-".
func ownPools(id string, patch, section json.RawMessage) error {
	named, err := read(patch)
	if err != nil {
		return err
	}
	there, _ := read(section) // a section that cannot be read has no pools, and is refused as a whole afterwards
	existing, _ := there["pools"].(object)
	known := targets(there["topics"])
	maps.Copy(known, existing)
	pools, _ := named["pools"].(object)
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		if _, exists := existing[name]; exists && pools[name] == nil {
			return fault.New(fault.Invalid, "pool %q is not the pack's, and it must not remove it", name)
		}
	}
	wanted := targets(named["topics"])
	maps.Copy(wanted, pools)
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if _, exists := known[name]; !exists && name != id && !strings.HasPrefix(name, id+"-") && !strings.HasPrefix(name, id+"_") {
			return fault.New(fault.Invalid, "pool %q is not there, and the name of a new one must be %s or begin with %s- or %s_", name, id, id, id)
		}
	}
	return nil
}

// targets are the pools that topics lead to, which are there without being described. What is no name is for the section's own check.
func targets(topics any) object {
	found := object{}
	all, _ := topics.(object)
	for _, to := range all {
		names, many := to.([]any)
		if !many {
			names = []any{to}
		}
		for _, name := range names {
			if text, ok := name.(string); ok && text != "" {
				found[text] = object{}
			}
		}
	}
	return found
}
