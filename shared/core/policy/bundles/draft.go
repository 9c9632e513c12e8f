package bundles

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// draft is a bundle that was put and not published. Its content is a policy document, which fits into an item.
type draft struct {
	ID                                    string
	Content                               string
	Enabled                               bool
	Author, Message, CreatedAt, UpdatedAt string
	// version is another one after every write, so that nothing takes up, or takes away, what it has not read.
	version string
}

// draftsPartition lists all drafts by id.
const draftsPartition = "POLICY#DRAFTS"

func draftKey(id string) store.Key { return store.Key{PK: draftsPartition, SK: id} }

func (d *draft) item() store.Item {
	return store.Item{Key: draftKey(d.ID), Attrs: store.Attrs{
		"content": d.Content, "enabled": d.Enabled, "author": d.Author, "message": d.Message, "created": d.CreatedAt, "updated": d.UpdatedAt,
		"version": d.version,
	}}
}

func readDraft(it store.Item) *draft {
	a := it.Attrs
	return &draft{
		ID: it.SK, Content: a.String("content"), Enabled: a.Bool("enabled"), Author: a.String("author"), Message: a.String("message"),
		CreatedAt: a.String("created"), UpdatedAt: a.String("updated"), version: a.String("version"),
	}
}

// unchanged holds while the draft is as it was read; nil was not there.
func (d *draft) unchanged() store.Cond {
	if d == nil {
		return store.NotExists()
	}
	return store.Equal("version", d.version)
}

func (d *draft) delete() store.Op { return store.Delete(draftKey(d.ID)).If(d.unchanged()) }

// over is the draft as a client sees it, in place of what is in force, which may be nil.
func (d *draft) over(raw json.RawMessage) View {
	v := view(d.ID, d.onto(raw))
	v.Draft = true
	return v
}

// onto makes the draft the bundle: what else was stored of it stays.
func (d *draft) onto(raw json.RawMessage) json.RawMessage {
	m := members(raw)
	if before := view(d.ID, raw); before.Content != strings.TrimSpace(d.Content) {
		delete(m, "sha256") // it was of the other content
	}
	m.set("content", d.Content)
	m.set("enabled", d.Enabled)
	m.say("author", d.Author)
	m.say("message", d.Message)
	m.say("created_at", d.CreatedAt)
	m.say("updated_at", d.UpdatedAt)
	return m.raw()
}

// object is a bundle's JSON.
type object map[string]json.RawMessage

// members reads a bundle's JSON. Bare text becomes an object with that as content; nothing is an empty one.
func members(raw json.RawMessage) object {
	m := object{}
	if json.Unmarshal(raw, &m) == nil && m != nil {
		return m
	}
	m = object{}
	var content string
	if json.Unmarshal(raw, &content) == nil && raw != nil {
		m.set("content", content)
	}
	return m
}

func (m object) set(name string, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		panic("bundles: encode: " + err.Error()) // a text or a flag always encodes
	}
	m[name] = text
}

// say sets a text that is not empty.
func (m object) say(name, value string) {
	if value != "" {
		m.set(name, value)
	}
}

func (m object) raw() json.RawMessage {
	text, err := json.Marshal(m)
	if err != nil {
		panic("bundles: encode: " + err.Error()) // its values were read from JSON
	}
	return text
}

// draft answers nil for a bundle without one.
func (s *Store) draft(ctx context.Context, id string) (*draft, error) {
	if !editable(id) {
		return nil, nil
	}
	it, err := s.Table.Get(ctx, draftKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return readDraft(it), nil
}

func (s *Store) drafts(ctx context.Context) (map[string]*draft, error) {
	all := map[string]*draft{}
	for it, err := range store.Items(ctx, s.Table, store.Query{PK: draftsPartition}) {
		if err != nil {
			return nil, err
		}
		all[it.SK] = readDraft(it)
	}
	return all, nil
}

// Wish is what a client wants a bundle to be.
type Wish struct {
	Content string
	// Enabled nil keeps what is, or enables what is new; author and message stay where these are empty.
	Enabled         *bool
	Author, Message string
}

// The longest author and message of a bundle, in bytes: with the content they fit into an item.
const maxWords = 16 << 10

// Put saves a draft and answers when.
func (s *Store) Put(ctx context.Context, by identity.Identity, id string, w Wish) (updatedAt string, err error) {
	if err := checkEditable(id); err != nil {
		return "", err
	}
	if strings.TrimSpace(w.Content) == "" {
		return "", fault.New(fault.Invalid, "content required")
	}
	if len(w.Author)+len(w.Message) > maxWords {
		return "", fault.New(fault.Invalid, "author and message are longer than %d bytes", maxWords)
	}
	if _, err := policy.Parse(id, []byte(strings.TrimSpace(w.Content))); err != nil {
		bad, ok := errors.AsType[*policy.Error](err)
		if !ok {
			return "", err
		}
		return "", fault.New(fault.Invalid, "invalid policy content: %s", where(bad))
	}
	err = again(ctx, func() error {
		updatedAt, err = s.put(ctx, by, id, w)
		return err
	})
	return updatedAt, err
}

func (s *Store) put(ctx context.Context, by identity.Identity, id string, w Wish) (string, error) {
	before, err := s.draft(ctx, id)
	if err != nil {
		return "", err
	}
	now, err := s.Head.Latest(ctx)
	if err != nil {
		return "", err
	}
	at := s.Clock.Now()
	d := &draft{
		ID: id, Content: w.Content, Enabled: true, Author: w.Author, Message: w.Message, CreatedAt: stamp(at), UpdatedAt: stamp(at), version: s.IDs.Hex(8),
	}
	if w.Enabled != nil {
		d.Enabled = *w.Enabled
	}
	if raw, ok := now.Content.Bundles[id]; ok {
		d.keep(view(id, raw), w)
	}
	if before != nil {
		d.keep(before.over(nil), w)
	}
	entry := s.entry(by, at.UTC(), "put", "policy_bundle", id)
	entry.Message, entry.BundleIDs, entry.Before, entry.After = w.Message, []string{id}, before.revision(), d.revision()
	return d.UpdatedAt, s.Table.Write(ctx, store.Put(d.item()).If(before.unchanged()), entry.Op())
}

// revision is what the audit trail calls the draft; "" for none.
func (d *draft) revision() string {
	if d == nil {
		return ""
	}
	return "draft " + d.version
}

// keep takes over of a bundle what a wish does not say.
func (d *draft) keep(of View, w Wish) {
	if w.Enabled == nil {
		d.Enabled = of.Enabled
	}
	for _, m := range []struct {
		mine    *string
		wished  string
		already string
	}{{&d.Author, w.Author, of.Author}, {&d.Message, w.Message, of.Message}, {&d.CreatedAt, "", of.CreatedAt}} {
		if m.wished == "" && m.already != "" {
			*m.mine = m.already
		}
	}
}
