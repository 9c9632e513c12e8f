package overlay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// Undo is what it takes to take a patch back.
type Undo struct {
	// Patch is what was applied, an object.
	Patch json.RawMessage `json:"patch"`
	// Leaves are the values that it set or removed, in the order in which that was done.
	Leaves []Leaf `json:"leaves,omitempty"`
	// Maps are the objects that it made, each before those in it.
	Maps []Leaf `json:"maps,omitempty"`
}

// Leaf is a place in the document and what was there before; nil is that nothing was.
type Leaf struct {
	Path   []string        `json:"path"`
	Before json.RawMessage `json:"before,omitempty"`
}

// object is a JSON object as a tree, its numbers json.Number.
type object = map[string]any

// Apply merges a patch into a document by RFC 7396. Both are objects; a document that is not there is an empty one.
func Apply(document, patch json.RawMessage) (after json.RawMessage, undo Undo, err error) {
	doc, err := read(document)
	if err != nil {
		return nil, Undo{}, err
	}
	undo, err = apply(doc, patch, nil)
	if err != nil {
		return nil, Undo{}, err
	}
	after, err = write(doc)
	return after, undo, err
}

// TakeBack takes a patch out of a document. later are those that were applied after it, the oldest first: they are taken out before it and put back after it, so
// that what they set stays, and what they found there is now what was there without it: they are changed. What somebody else has changed since stays as it is,
// and is no patch's any more.
func TakeBack(document json.RawMessage, undo Undo, later ...*Undo) (json.RawMessage, error) {
	doc, err := read(document)
	if err != nil {
		return nil, err
	}
	kept := make([]claims, len(later))
	for i := len(later) - 1; i >= 0; i-- {
		if kept[i], err = later[i].revert(doc); err != nil {
			return nil, err
		}
	}
	if _, err := undo.revert(doc); err != nil {
		return nil, err
	}
	for i, u := range later {
		again, err := apply(doc, u.Patch, &kept[i])
		if err != nil {
			return nil, err
		}
		*u = again
	}
	return write(doc)
}

// claims are what is still a patch's own after it was taken out: the places that were as it had left them, and the objects that it had made and that could not
// go, since something of others lies in them.
type claims struct {
	places map[string]bool
	maps   []Leaf
}

// objects claims the objects that a patch reaches into, whoever made them.
func (c *claims) objects(doc, patch object, path []string) {
	for key, v := range patch {
		part, deeper := v.(object)
		child, there := doc[key].(object)
		if deeper && there {
			at := append(slices.Clone(path), key)
			c.places[name(at)] = true
			c.objects(child, part, at)
		}
	}
}

// apply merges a patch into a document. With claims it touches only the values that are claimed.
func apply(doc object, patch json.RawMessage, only *claims) (Undo, error) {
	p, err := read(patch)
	if err != nil {
		return Undo{}, fmt.Errorf("patch: %w", err)
	}
	m := merger{only: only, undo: Undo{Patch: patch}}
	if only != nil {
		m.undo.Maps = only.maps
	}
	err = m.merge(doc, p, nil)
	return m.undo, err
}

type merger struct {
	only *claims
	undo Undo
}

func (m *merger) merge(doc, patch object, path []string) error {
	for _, key := range slices.Sorted(maps.Keys(patch)) {
		at := append(slices.Clone(path), key)
		before, was, err := valueAt(doc, key)
		if err != nil {
			return err
		}
		part, deeper := patch[key].(object)
		if !deeper {
			if m.only == nil || m.only.places[name(at)] {
				m.undo.Leaves = append(m.undo.Leaves, Leaf{at, before})
				put(doc, key, patch[key])
			}
			continue
		}
		child, there := was.(object)
		if there {
			if err := m.merge(child, part, at); err != nil {
				return err
			}
			continue
		}
		if m.only != nil && !m.only.places[name(at)] { // somebody else has put something in the place of the object, or has taken it away
			continue
		}
		m.undo.Maps = append(m.undo.Maps, Leaf{at, before})
		child = object{}
		doc[key] = child
		if err := m.merge(child, part, at); err != nil {
			return err
		}
	}
	return nil
}

// revert takes a patch out of a document.
func (u *Undo) revert(doc object) (claims, error) {
	kept := claims{places: map[string]bool{}}
	patch, err := read(u.Patch)
	if err != nil {
		return kept, fmt.Errorf("patch: %w", err)
	}
	kept.objects(doc, patch, nil)
	for _, l := range slices.Backward(u.Leaves) {
		parent := walk(doc, l.Path)
		key := l.Path[len(l.Path)-1]
		if parent == nil || !same(parent, key, walk(patch, l.Path)[key]) {
			continue // it is somebody else's now
		}
		kept.places[name(l.Path)] = true
		if err := restore(parent, key, l.Before); err != nil {
			return kept, err
		}
	}
	for _, l := range slices.Backward(u.Maps) {
		parent := walk(doc, l.Path)
		key := l.Path[len(l.Path)-1]
		made, there := parent[key].(object)
		switch {
		case !there:
		case len(made) > 0:
			kept.maps = slices.Insert(kept.maps, 0, l)
		default:
			if err := restore(parent, key, l.Before); err != nil {
				return kept, err
			}
		}
	}
	return kept, nil
}

// walk answers the object in which the last part of a path lies, nil when there is none.
func walk(doc object, path []string) object {
	for _, key := range path[:len(path)-1] {
		doc, _ = doc[key].(object)
	}
	return doc
}

// same says whether a value is what a patch sets it to; null removes.
func same(parent object, key string, set any) bool {
	v, there := parent[key]
	if set == nil {
		return !there
	}
	return there && equal(v, set)
}

func equal(a, b any) bool {
	left, errA := json.Marshal(a)
	right, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(left, right)
}

func put(doc object, key string, v any) {
	if v == nil {
		delete(doc, key)
		return
	}
	doc[key] = v
}

func restore(doc object, key string, before json.RawMessage) error {
	if before == nil {
		delete(doc, key)
		return nil
	}
	v, err := decode(before)
	doc[key] = v
	return err
}

// valueAt answers a member, as text and as it is.
func valueAt(doc object, key string) (text json.RawMessage, v any, err error) {
	v, there := doc[key]
	if !there {
		return nil, nil, nil
	}
	text, err = json.Marshal(v)
	return text, v, err
}

// name is a path as the key of a map.
func name(path []string) string {
	text, err := json.Marshal(path)
	if err != nil {
		panic("overlay: encode: " + err.Error()) // texts always encode
	}
	return string(text)
}

// read reads an object; nothing, or null, is an empty one.
func read(raw json.RawMessage) (object, error) {
	if len(raw) == 0 {
		return object{}, nil
	}
	v, err := decode(raw)
	if err != nil {
		return nil, err
	}
	m, ok := v.(object)
	if !ok && v != nil {
		return nil, errors.New("must be a JSON object")
	}
	if m == nil {
		m = object{}
	}
	return m, nil
}

func decode(raw []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return v, nil
}

func write(doc object) (json.RawMessage, error) {
	return json.Marshal(doc)
}
