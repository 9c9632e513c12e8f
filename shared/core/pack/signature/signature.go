// Package signature says who made a pack. The signature lies in the bundle, beside the manifest: Ed25519 over the manifest and every file that it names, each with
// its path, its size and its SHA-256. What the manifest does not name is not covered, and is not read either.
package signature

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/canonical"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/pack/document"
	"github.com/cordum-serverless/cordum/shared/core/policy/signed"
)

// The words of a signature.
const (
	apiVersion = "cordum.io/v1alpha1"
	kind       = "PackSignature"
	algorithm  = "ed25519"
	// domain begins what is signed, so that no signature of a pack is one of anything else.
	domain = "cordum.pack.v1"
	// version is that of the statement.
	version = 1
)

// Kinds of files.
const (
	Manifest = "manifest"
	Schema   = "schema"
	Workflow = "workflow"
	Overlay  = "overlay"
)

// Statement is what is signed. The order of its members is that of the signed JSON.
type Statement struct {
	Version     int    `json:"version"`
	PackID      string `json:"pack_id"`
	PackVersion string `json:"pack_version"`
	SignedAt    string `json:"signed_at"`
	Algorithm   string `json:"algorithm"`
	Files       []File `json:"files"`
}

// File is a file of the pack; its path is relative to the manifest.
type File struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size_bytes"`
	Kind   string `json:"kind"`
}

// Add adds a file.
func (s *Statement) Add(path, kind string, content []byte) {
	s.Files = append(s.Files, File{path, canonical.Hash(content), int64(len(content)), kind})
}

// text is what is signed.
func (s *Statement) text() []byte {
	sorted := *s
	sorted.Files = slices.SortedFunc(slices.Values(s.Files), func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	text, err := json.Marshal(sorted)
	if err != nil {
		panic("signature: encode: " + err.Error()) // texts and numbers always encode
	}
	return append([]byte(domain+"\n"), text...)
}

// envelope is the file.
type envelope struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Metadata   metadata  `json:"metadata"`
	Signature  value     `json:"signature"`
	Manifest   Statement `json:"manifest"`
}

type metadata struct {
	PackID      string `json:"pack_id"`
	PackVersion string `json:"pack_version"`
	SignedAt    string `json:"signed_at"`
}

type value struct {
	KeyID     string `json:"key_id"`
	Algorithm string `json:"algorithm"`
	Value     string `json:"value"`
	Domain    string `json:"domain"`
}

// Sign answers the text of a signature, JSON.
func Sign(s Statement, keyID string, key ed25519.PrivateKey, at time.Time) ([]byte, error) {
	s.Version, s.Algorithm, s.SignedAt = version, algorithm, at.UTC().Format(time.RFC3339)
	e := envelope{
		APIVersion: apiVersion, Kind: kind, Metadata: metadata{s.PackID, s.PackVersion, s.SignedAt}, Manifest: s,
		Signature: value{KeyID: keyID, Algorithm: algorithm, Domain: domain, Value: base64.StdEncoding.EncodeToString(ed25519.Sign(key, s.text()))},
	}
	text, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("signature: encode: %w", err)
	}
	return append(text, '\n'), nil
}

// Keys are the public keys that are trusted, by their ids. Two ids for one author is how a key is replaced.
type Keys map[string]signed.Key

// ParseKeys reads {"<key id>": "<public key in hex, base64 or PEM>"}; "" is no keys.
func ParseKeys(text string) (Keys, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var spelled map[string]string
	if err := json.Unmarshal([]byte(text), &spelled); err != nil {
		return nil, fmt.Errorf(`keys of packs: it is not {"<key id>": "<public key>"}: %w`, err)
	}
	keys := Keys{}
	for _, id := range slices.Sorted(maps.Keys(spelled)) {
		if strings.TrimSpace(id) == "" {
			return nil, errors.New("keys of packs: a key has no id")
		}
		key, err := signed.ParseKey(spelled[id])
		if err != nil {
			return nil, fmt.Errorf("keys of packs: %q: %w", id, err)
		}
		keys[id] = key
	}
	return keys, nil
}

func refuse(format string, args ...any) error {
	return fault.New(fault.Invalid, "pack signature: %s", fmt.Sprintf(format, args...))
}

// Verify answers the id of the trusted key whose signature of a pack this text is, JSON or YAML; found is what is in the pack.
//
// Faults: Invalid.
func (k Keys) Verify(text []byte, found Statement) (string, error) {
	e, err := read(text)
	if err != nil {
		return "", err
	}
	key, known := k[e.Signature.KeyID]
	raw, err := base64.StdEncoding.DecodeString(e.Signature.Value)
	switch {
	case e.Signature.Algorithm != algorithm || e.Manifest.Algorithm != algorithm:
		return "", refuse("algorithm must be %s", algorithm)
	case e.Signature.Domain != domain || e.Manifest.Version != version:
		return "", refuse("it must be of %s, version %d", domain, version)
	case !known:
		return "", refuse("key %q is not trusted here", e.Signature.KeyID)
	case err != nil || len(raw) != ed25519.SignatureSize || !ed25519.Verify(key[:], e.Manifest.text(), raw):
		return "", refuse("it was not made by the key %q of this manifest", e.Signature.KeyID)
	case e.Metadata != metadata{e.Manifest.PackID, e.Manifest.PackVersion, e.Manifest.SignedAt}:
		return "", refuse("its metadata is not what was signed")
	case e.Manifest.PackID != found.PackID || e.Manifest.PackVersion != found.PackVersion:
		return "", refuse("it is of %s %s, and this is %s %s", e.Manifest.PackID, e.Manifest.PackVersion, found.PackID, found.PackVersion)
	}
	return e.Signature.KeyID, compare(e.Manifest.Files, found.Files)
}

func read(text []byte) (e envelope, err error) {
	object, err := document.Object(text)
	if err == nil {
		text, err = json.Marshal(object)
	}
	if err == nil {
		err = json.NewDecoder(bytes.NewReader(text)).Decode(&e)
	}
	if err != nil {
		return e, refuse("%s", err.Error())
	}
	if e.APIVersion != apiVersion || e.Kind != kind {
		return e, refuse("it must be a %s of %s", kind, apiVersion)
	}
	return e, nil
}

// compare says how the files that were signed differ from those that are there.
func compare(covered, found []File) error {
	byPath := map[string]File{}
	for _, f := range covered {
		if _, twice := byPath[f.Path]; twice {
			return refuse("it covers %s twice", f.Path)
		}
		byPath[f.Path] = f
	}
	for _, f := range slices.SortedFunc(slices.Values(found), func(a, b File) int { return strings.Compare(a.Path, b.Path) }) {
		c, ok := byPath[f.Path]
		switch {
		case !ok:
			return refuse("it does not cover %s", f.Path)
		case !strings.EqualFold(c.SHA256, f.SHA256) || c.Size != f.Size:
			return refuse("%s is not as it was signed", f.Path)
		}
		delete(byPath, f.Path)
	}
	for _, path := range slices.Sorted(maps.Keys(byPath)) {
		return refuse("it covers %s, which the manifest does not name", path)
	}
	return nil
}
