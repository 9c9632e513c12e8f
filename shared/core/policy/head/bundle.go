package head

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/word"
)

// Bundle is what the plane reads of a policy bundle. Clients may keep more in it: what is stored is the JSON that they wrote.
type Bundle struct {
	// Content is the document, YAML: the member content, else policy, else data.
	Content string
	// Enabled is true unless the member enabled says otherwise: a bool, or a number or text that means one.
	Enabled                                                     bool
	Author, Message, CreatedAt, UpdatedAt, Version, InstalledAt string
	// SHA256 is the hash that the writer stored, "" for none.
	SHA256 string
	// Bare says that the bundle is a text, the content alone, and no object.
	Bare bool
}

// ParseBundle reads a bundle's JSON: an object, or the content as a string. Members of another type than they should have are as if absent; ok is
// false for anything else.
func ParseBundle(raw json.RawMessage) (b Bundle, ok bool) {
	b.Enabled = true
	if err := json.Unmarshal(raw, &b.Content); err == nil {
		b.Bare = true
		return b, !bytes.Equal(bytes.TrimSpace(raw), []byte("null"))
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return Bundle{}, false
	}
	for _, name := range []string{"content", "policy", "data"} {
		if b.Content = text(members[name]); strings.TrimSpace(b.Content) != "" {
			break
		}
	}
	if said, ok := members["enabled"]; ok {
		b.Enabled = truthy(said)
	}
	for name, to := range map[string]*string{
		"author": &b.Author, "message": &b.Message, "created_at": &b.CreatedAt, "updated_at": &b.UpdatedAt, "version": &b.Version,
		"installed_at": &b.InstalledAt, "sha256": &b.SHA256,
	} {
		*to = text(members[name])
	}
	return b, true
}

func text(raw json.RawMessage) string {
	var s string
	_ = json.Unmarshal(raw, &s) // what is no text is as if absent
	return s
}

// truthy reads a bool, or a number or a text that means one: 1, true, yes, y, on.
func truthy(raw json.RawMessage) bool {
	return word.True(strings.Trim(strings.TrimSpace(string(raw)), `"`))
}

// Source is the class of a bundle by its id: secops, pack or core.
func Source(id string) string {
	switch {
	case strings.HasPrefix(id, Editable):
		return "secops"
	case strings.Contains(id, "/"):
		return "pack"
	default:
		return "core"
	}
}

// Editable is the prefix of the ids that the routes of bundles may change.
const Editable = "secops/"

// fragments are the bundles as the compiler takes them. A bundle that is neither an object nor text is not valid.
func (c *Content) fragments() ([]policy.Fragment, error) {
	out := make([]policy.Fragment, 0, len(c.Bundles))
	for id, raw := range c.Bundles {
		b, ok := ParseBundle(raw)
		if !ok {
			return nil, &policy.Error{Source: id, Message: "a bundle must be an object with content, or a text"}
		}
		out = append(out, policy.Fragment{Key: id, Content: []byte(strings.TrimSpace(b.Content)), Disabled: !b.Enabled})
	}
	return out, nil
}

// Compile makes the policy that the content means. An error is a *policy.Error.
func (c *Content) Compile() (*policy.Policy, error) {
	fragments, err := c.fragments()
	if err != nil {
		return nil, err
	}
	return policy.Compile(c.Base, fragments)
}
