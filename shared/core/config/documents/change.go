package documents

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
)

// Change is what a client wants of a document.
type Change struct {
	Scope, ID string
	// Data are top-level members: each replaces the stored one, null removes it, and what is not named stays.
	Data map[string]json.RawMessage
	// Meta replaces the stored notes; nil leaves them.
	Meta map[string]string
	// At is the revision at which the client has read the document, 0 for one that is not there: it changes no other. nil is whichever.
	At *int64
}

// errMoved says that a document is not at the revision that a client has read.
var errMoved = errors.New("documents: it has moved on")

// expects says whether a client has read what it changes.
func (c Change) expects(of name, revision int64) error {
	if c.At == nil || *c.At == revision {
		return nil
	}
	return fault.Wrap(fault.Conflict, errMoved, "config update conflict: %s is at revision %d, not at %d", of, revision, *c.At)
}

var errJSON = fault.New(fault.Invalid, "invalid json")

// Parse reads a change as clients send it: an envelope, which has a scope, or the bare data of system/default.
func Parse(body []byte) (Change, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return Change{}, errJSON
	}
	var c Change
	_ = json.Unmarshal(members["scope"], &c.Scope) // a scope that is no text is a member like any other
	if strings.TrimSpace(c.Scope) == "" {
		return Change{Scope: config.SystemScope, ID: config.DefaultID, Data: members}, nil
	}
	for name, into := range map[string]any{"scope_id": &c.ID, "data": &c.Data, "meta": &c.Meta} {
		if text, there := members[name]; there && json.Unmarshal(text, into) != nil {
			return Change{}, errJSON
		}
	}
	return c, nil
}

// maxMeta is the most that the notes of a document may have, in bytes.
const maxMeta = 16 << 10

func (c Change) check() error {
	size := 0
	for name, note := range c.Meta {
		size += len(name) + len(note)
	}
	if size > maxMeta {
		return fault.New(fault.Invalid, "meta has %d bytes, more than %d", size, maxMeta)
	}
	return nil
}

// name is a document, as clients name it.
type name struct{ scope, id string }

func (n name) String() string { return n.scope + "/" + n.id }

// system names a document of the system.
func system(id string) name { return name{config.SystemScope, id} }

// stored is the id under which it lies.
func (n name) stored(tenant string) string { return config.ID(n.scope, tenant, n.id) }

// resolve completes what a client calls a document.
func resolve(by identity.Identity, scope, id string) (name, error) {
	n := name{strings.TrimSpace(scope), strings.TrimSpace(id)}
	if n.scope == "" {
		n.scope = config.SystemScope
	}
	switch {
	case !slices.Contains(config.Scopes, n.scope):
		return n, fault.New(fault.Invalid, "invalid scope")
	case n.id == "" && n.scope == config.SystemScope:
		n.id = config.DefaultID
	case n.id == "" && n.scope == config.OrgScope:
		n.id = by.Tenant
	case n.id == "":
		return n, fault.New(fault.Invalid, "scope_id required for non-system scope")
	case n.scope == config.OrgScope && n.id != by.Tenant:
		return n, fault.New(fault.Denied, "tenant access denied")
	case !config.ValidID(n.id):
		return n, fault.New(fault.Invalid, "invalid scope_id: it has at most 512 bytes, and no control characters")
	}
	return n, nil
}

// merged is a document as a change leaves it, without a change of its revision.
func merged(d config.Document, c Change, mark string) (config.Document, error) {
	var data map[string]json.RawMessage
	if err := json.Unmarshal(d.Data, &data); err != nil {
		return d, fmt.Errorf("config %s/%s: stored data: %w", d.Scope, d.ID, err)
	}
	maps.Copy(data, c.Data)
	maps.DeleteFunc(data, func(_ string, v json.RawMessage) bool { return null(v) })
	var err error
	if d.Data, err = encode(data); err != nil {
		return d, fmt.Errorf("config %s/%s: %w", d.Scope, d.ID, err)
	}
	if c.Meta != nil {
		d.Meta = c.Meta
	}
	d.Mark = mark
	return d, nil
}

// encode writes an object, its members sorted, what they say as it was written.
func encode(members map[string]json.RawMessage) (json.RawMessage, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	err := e.Encode(members)
	return bytes.TrimSpace(text.Bytes()), err
}

// object reads what a member of data must be: an object of objects by name; null is an empty one.
func object(of name, member string, text json.RawMessage) (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(text, &members) != nil {
		return nil, fault.New(fault.Invalid, "config %s: %s must be an object", of, member)
	}
	return members, nil
}

func null(text json.RawMessage) bool { return string(bytes.TrimSpace(text)) == "null" }
