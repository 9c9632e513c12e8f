package plane_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const schemasPath = "/api/v1/schemas"

func (r *rig) register(id string, schema any) answer {
	r.t.Helper()
	return r.post(schemasPath, pairs("id", id, "schema", schema))
}

// schemas are the ids on the list.
func (r *rig) schemas(key, query string) []string {
	r.t.Helper()
	var list struct{ Schemas []string }
	r.as(key, "GET", schemasPath+query, nil).ok(200).json(&list)
	return list.Schemas
}

// Whatever is in an id, its path is raw, as far as a path can be, or escaped.
func TestF10_IDsOfSchemasInPaths(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		for _, id := range []string{"a", "hello-pack/HelloInput", "a/b/c", "a#b", "a?b=c", "a%2Fb", "ż ó/中", "redis://x", "a~1b", strings.Repeat("x", 256)} {
			r.register(id, pairs("title", id)).ok(204)
			want, err := json.Marshal(map[string]any{"id": id, "schema": map[string]any{"title": id}})
			if err != nil {
				t.Fatal(err)
			}
			raw := (&url.URL{Path: id}).EscapedPath()
			for _, path := range []string{url.PathEscape(id), raw} {
				if got := r.get(schemasPath + "/" + path).ok(200).Body; got != string(want) {
					t.Errorf("%s: %s", path, got)
				}
			}
			r.as("k-admin", "DELETE", schemasPath+"/"+raw, nil).ok(204)
			r.get(schemasPath+"/"+url.PathEscape(id)).refused(404, "schema not found")
		}
		r.register(" a ", pairs()).ok(204)
		if got := r.get(schemasPath + "/%20a%20").ok(200).Body; got != `{"id":"a","schema":{}}` {
			t.Errorf("ids are trimmed: %s", got)
		}
		r.register(strings.Repeat("x", 257), pairs()).refused(400, "schema id too long (max 256 bytes)")
		r.get(schemasPath+"/"+strings.Repeat("x", 3000)).refused(404, "schema not found")
		r.as("k-admin", "DELETE", schemasPath+"/"+strings.Repeat("x", 3000), nil).ok(204)
	})
}

func TestF11_F14_WhatIsNoSchemaIsRefused(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.register("a", pairs("type", "object")).ok(204)
		for name, bad := range map[string]any{
			"null": nil, "true": true, "a list": []any{}, "a text": "object", "an unknown type": pairs("type", "objekt"),
			"a file": pairs("$ref", "file:///etc/hostname"), "a page": pairs("$ref", "http://localhost/x.json"), "a neighbour": pairs("$ref", "b"),
		} {
			if got := r.register("a", bad).ok(400).object(); !strings.HasPrefix(fmt.Sprint(got["error"]), "invalid schema: ") {
				t.Errorf("%s: %v", name, got)
			}
		}
		r.post(schemasPath, pairs("id", "a")).ok(400)
		r.post(schemasPath, "[]").refused(400, "invalid json")
		r.register("a", pairs("title", strings.Repeat("x", 128<<10))).ok(413)
		if got := r.get(schemasPath + "/a").ok(200).Body; got != `{"id":"a","schema":{"type":"object"}}` {
			t.Errorf("what was refused has changed it: %s", got)
		}
		large := pairs("title", strings.Repeat("x", 120<<10))
		r.register("large", large).ok(204)
		if got := r.get(schemasPath + "/large").ok(200).object()["schema"]; fmt.Sprint(got) != fmt.Sprint(large) {
			t.Error("a large schema is not answered as it was saved")
		}
	})
}

func TestTheListOfSchemas(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		if got := r.get(schemasPath).ok(200).Body; got != `{"schemas":[]}` {
			t.Errorf("nothing is %s", got)
		}
		var want []string
		for i := range 120 {
			id := fmt.Sprintf("p/%03d", i)
			r.register(id, pairs()).ok(204)
			want = append([]string{id}, want...)
		}
		r.register("p/000", pairs()).ok(204) // the same once more is the newest
		r.as("k-admin", "DELETE", schemasPath+"/p/050", nil).ok(204)
		time.Sleep(time.Second)
		want = slices.DeleteFunc(want, func(id string) bool { return id == "p/000" || id == "p/050" })
		want = append([]string{"p/000"}, want...)
		for query, n := range map[string]int{"": 100, "?limit=3": 3, "?limit=500": 119, "?limit=9999": 119, "?limit=0": 100, "?limit=x": 100} {
			if got := r.schemas("k-viewer", query); !slices.Equal(got, want[:n]) {
				t.Errorf("%q: %d ids: %v", query, len(got), got)
			}
		}
		if got := r.schemas("k-other", ""); len(got) != 0 {
			t.Errorf("another tenant lists %v", got)
		}
	})
}

// A schema is its tenant's: another one registers the same id for itself, and deletes its own.
func TestSchemasAreOfATenant(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		r.register("a/B", pairs("title", "ours")).ok(204)
		r.as("k-other", "POST", schemasPath, pairs("id", "a/B", "schema", pairs("title", "theirs"))).ok(204)
		if got := r.as("k-other", "GET", schemasPath+"/a/B", nil).ok(200).Body; !strings.Contains(got, "theirs") {
			t.Errorf("theirs is %s", got)
		}
		r.as("k-other", "DELETE", schemasPath+"/a/B", nil).ok(204)
		if got := r.get(schemasPath + "/a/B").ok(200).Body; !strings.Contains(got, "ours") {
			t.Errorf("ours is %s", got)
		}
		for _, key := range []string{"k-operator", "k-user", "k-viewer"} {
			r.as(key, "GET", schemasPath+"/a/B", nil).ok(200)
			r.as(key, "DELETE", schemasPath+"/a/B", nil).refused(403, "access denied")
			r.as(key, "POST", schemasPath, pairs("id", "a/B", "schema", pairs())).refused(403, "access denied")
		}
	})
}

// Of registrations and deletions at once each is answered, and each entry in the trail begins where the one before ended.
func TestRegistrationsAtOnceDoNotMix(t *testing.T) {
	virtually(t, config(), func(t *testing.T, r *rig) {
		const writers = 8
		var all sync.WaitGroup
		for i := range writers {
			all.Go(func() { r.register("a/B", pairs("title", fmt.Sprint(i))).ok(204) })
		}
		all.Go(func() { r.as("k-admin", "DELETE", schemasPath+"/a/B", nil).ok(204) })
		all.Wait()
		before, registered := "", 0
		for _, e := range slices.Backward(r.entries("default")) {
			if e.Before != before || e.ResourceType != "schema" || e.ResourceID != "a/B" {
				t.Errorf("entry %+v, before it was %q", e, before)
			}
			if before = e.After; e.Action == "register" {
				registered++
			}
		}
		if registered != writers {
			t.Errorf("%d entries of registrations", registered)
		}
	})
}
