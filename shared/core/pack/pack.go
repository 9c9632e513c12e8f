// Package pack reads bundles: what a stranger wrote and an admin wants to install. It says everything that is wrong with one that can be said without
// looking at the plane, and reads nothing that the manifest does not name. Nothing in a bundle is ever executed.
package pack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cordum-serverless/cordum/shared/core/canonical"
	"github.com/cordum-serverless/cordum/shared/core/pack/archive"
	"github.com/cordum-serverless/cordum/shared/core/pack/document"
	"github.com/cordum-serverless/cordum/shared/core/pack/signature"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/schema"
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

// maxRecord is how large the record of a pack may be, in bytes: it is one item, and what it takes to undo an installation is beside it.
const maxRecord = 192 << 10

// SignatureName is the file that has the signature, beside the manifest. It is called so beside pack.yml, too.
const SignatureName = "pack.yaml.sig"

// Parse reads a bundle.
//
// Faults: Invalid, and TooLarge for a bundle that is larger than archive.MaxBundle.
func Parse(bundle []byte, o Options) (*Pack, error) {
	s, err := open(bundle, o)
	if err != nil {
		return nil, err
	}
	p := &Pack{Manifest: s.Manifest}
	if p.SignedBy, err = s.verify(o); err != nil {
		return nil, err
	}
	for _, read := range []func(*Pack) error{s.readSchemas, s.readWorkflows, s.readConfig, s.readPolicy} {
		if err := read(p); err != nil {
			return nil, err
		}
	}
	record, err := json.Marshal(p.Record(Active, "", "", p.Config))
	if err != nil {
		return nil, fmt.Errorf("pack %s: encode: %w", p.Metadata.ID, err)
	}
	if len(record) > maxRecord {
		return nil, invalid("manifest and patches are %d bytes as they are recorded; at most %d (%d KiB)", len(record), maxRecord, maxRecord>>10)
	}
	return p, nil
}

// Statement is what a signature of a bundle has to say: its manifest and every file that it names. The bundle is valid but for its signature.
func Statement(bundle []byte, o Options) (signature.Statement, error) {
	o.Keys, o.RequireSignature = nil, false
	if _, err := Parse(bundle, o); err != nil {
		return signature.Statement{}, err
	}
	s, err := open(bundle, o)
	if err != nil {
		return signature.Statement{}, err
	}
	return s.statement(), nil
}

// source is a bundle whose manifest was read.
type source struct {
	*manifest

	// name is the manifest's, files the contents of all that it names, its own and its signature's too.
	name  string
	files map[string][]byte
	// objects are those of the schemas and workflows that were read.
	objects int
}

func open(bundle []byte, o Options) (*source, error) {
	a, err := archive.Read(bundle)
	if err != nil {
		return nil, err
	}
	first, err := a.Files(a.Manifest)
	if err != nil {
		return nil, err
	}
	m, err := readManifest(a.Manifest, first[a.Manifest], o)
	if err != nil {
		return nil, err
	}
	s := &source{manifest: m, name: a.Manifest}
	paths := slices.Collect(maps.Keys(s.kinds()))
	if a.Has(SignatureName) {
		paths = append(paths, SignatureName)
	}
	slices.Sort(paths) // of several files that are missing it is always the same that is told
	if s.files, err = a.Files(paths...); err != nil {
		return nil, err
	}
	return s, s.bounded()
}

// maxObjects is for all schemas and workflows of a pack: the compiler of schemas takes half a second for as many as one schema may have.
const maxObjects = 4 * schema.MaxObjects

// bounded refuses more than can be read while somebody waits; a file counts as often as the manifest names it. The parser of YAML takes a second or two for what
// a single file may have.
func (s *source) bounded() error {
	all, size, lines := 0, 0, 0
	for _, path := range s.uses() {
		raw := s.files[path]
		all += len(raw)
		if !json.Valid(raw) {
			size, lines = size+len(raw), lines+bytes.Count(raw, []byte("\n"))
		}
	}
	switch {
	case all > archive.MaxTexts:
		return invalid("the files that the manifest names have %d bytes, counted as often as it names them, and at most %d together", all, archive.MaxTexts)
	case size > document.MaxYAML || lines > document.MaxLines:
		return invalid("the files of the pack are %d bytes and %d lines of YAML; at most %d (%d KiB) and %d together: write the large ones as JSON",
			size, lines, document.MaxYAML, document.MaxYAML>>10, document.MaxLines)
	}
	return nil
}

// uses are the paths of the files, as often as they are read.
func (s *source) uses() []string {
	paths := []string{s.name}
	for _, o := range slices.Concat(s.config, s.policy) {
		paths = append(paths, o.path)
	}
	for _, r := range slices.Concat(s.schemas, s.workflows) {
		paths = append(paths, r.path)
	}
	if _, signed := s.files[SignatureName]; signed {
		paths = append(paths, SignatureName)
	}
	return paths
}

// kinds are the files that a signature covers, by their paths.
func (s *source) kinds() map[string]string {
	kinds := map[string]string{}
	for _, o := range slices.Concat(s.config, s.policy) {
		kinds[o.path] = signature.Overlay
	}
	for _, r := range s.workflows {
		kinds[r.path] = signature.Workflow
	}
	for _, r := range s.schemas {
		kinds[r.path] = signature.Schema
	}
	kinds[s.name] = signature.Manifest
	return kinds
}

func (s *source) statement() signature.Statement {
	st := signature.Statement{PackID: s.Metadata.ID, PackVersion: s.Metadata.Version}
	for path, kind := range s.kinds() {
		st.Add(path, kind, s.files[path])
	}
	return st
}

// verify answers the id of the key that signed the pack, "" for none.
func (s *source) verify(o Options) (string, error) {
	text, signed := s.files[SignatureName]
	switch {
	case !signed && o.RequireSignature:
		return "", invalid("pack is not signed: %s not found in archive", SignatureName)
	case !signed || len(o.Keys) == 0 && !o.RequireSignature:
		return "", nil
	}
	return o.Keys.Verify(text, s.statement())
}

func (s *source) readSchemas(p *Pack) error {
	for _, r := range s.schemas {
		text, err := s.json(r.path)
		if err != nil {
			return err
		}
		if _, err := schema.Compile(text, r.id); err != nil {
			return invalid("%s: invalid schema: %s", r.path, err.Error())
		}
		digest, err := SchemaDigest(text)
		if err != nil {
			return err
		}
		p.Schemas = append(p.Schemas, Schema{ID: r.id, Path: r.path, Text: text, Digest: digest})
	}
	return nil
}

// json answers a file that is an object: as it is when it is JSON.
func (s *source) json(path string) (json.RawMessage, error) {
	raw := s.files[path]
	object, err := document.Object(raw)
	if err != nil {
		return nil, invalid("%s: %s", path, err.Error())
	}
	if s.objects += objectsOf(object); s.objects > maxObjects {
		return nil, invalid("%s: the schemas and workflows of the pack have more than %d objects together", path, maxObjects)
	}
	if json.Valid(raw) {
		return bytes.TrimSpace(raw), nil
	}
	text, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("%s: encode: %w", path, err)
	}
	return canonical.JSON(text)
}

// objectsOf counts the objects in a value, itself included.
func objectsOf(v any) (n int) {
	switch v := v.(type) {
	case map[string]any:
		n = 1
		for _, child := range v {
			n += objectsOf(child)
		}
	case []any:
		for _, child := range v {
			n += objectsOf(child)
		}
	}
	return n
}

func (s *source) readWorkflows(p *Pack) error {
	for _, r := range s.workflows {
		text, err := s.json(r.path)
		if err != nil {
			return err
		}
		w, err := workflow.Decode(text)
		if err != nil {
			return invalid("%s: %s", r.path, err.Error())
		}
		w.ID, w.OrgID, w.CreatedAt, w.UpdatedAt = r.id, "", time.Time{}, time.Time{}
		if problems := workflow.Validate(w); len(problems) > 0 {
			f := problems.Fault()
			f.Message = r.path + ": " + f.Message
			return f
		}
		digest, err := WorkflowDigest(w)
		if err != nil {
			return err
		}
		p.Workflows = append(p.Workflows, Workflow{ID: r.id, Path: r.path, Workflow: w, Digest: digest})
	}
	return nil
}

func (s *source) readConfig(p *Pack) error {
	for _, o := range s.config {
		c, err := readPatch(s.Metadata.ID, o, s.files[o.path])
		if err != nil {
			return err
		}
		p.Config = append(p.Config, c)
	}
	return nil
}

func (s *source) readPolicy(p *Pack) error {
	for _, o := range s.policy {
		raw := s.files[o.path]
		out := PolicyOverlay{Name: o.name, FragmentID: s.Metadata.ID + "/" + o.name, Content: string(raw), SHA256: canonical.Hash(raw)}
		switch {
		case !utf8.Valid(raw):
			return invalid("%s: not UTF-8", o.path)
		case strings.TrimSpace(out.Content) == "":
			return invalid("%s: a policy fragment must not be empty", o.path)
		}
		d, err := policy.Parse(out.FragmentID, raw)
		if err != nil {
			return invalid("%s: invalid policy content: %s", o.path, err.Error())
		}
		if err := ownPolicy(s.Metadata.ID, d); err != nil {
			return invalid("%s: %s", o.path, err.Error())
		}
		p.Policy = append(p.Policy, out)
	}
	return nil
}

// SchemaDigest identifies what a schema says: the SHA-256 of its canonical JSON.
func SchemaDigest(text json.RawMessage) (string, error) {
	form, err := canonical.JSON(text)
	if err != nil {
		return "", fmt.Errorf("schema: %w", err)
	}
	return canonical.Hash(form), nil
}

// WorkflowDigest identifies what a definition says, whoever owns it and whenever it was saved: that of a stored workflow is that of the pack that
// brought it.
func WorkflowDigest(w *workflow.Workflow) (string, error) {
	same := *workflow.Merge(nil, w, time.Time{})
	same.OrgID, same.CreatedAt, same.UpdatedAt = "", time.Time{}, time.Time{}
	text, err := json.Marshal(&same)
	if err != nil {
		return "", fmt.Errorf("workflow %s: %w", w.ID, err)
	}
	form, err := canonical.JSON(text)
	if err != nil {
		return "", fmt.Errorf("workflow %s: %w", w.ID, err)
	}
	return canonical.Hash(form), nil
}
