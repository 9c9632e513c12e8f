package config_test

import (
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/config"
)

func TestMemories(t *testing.T) {
	for name, c := range map[string]struct {
		context string
		want    map[string]bool
	}{
		"nothing said":      {`{}`, map[string]bool{"a": true}},
		"null":              {`{"context":null}`, map[string]bool{"a": true}},
		"others said":       {`{"context":{"max_context_tokens":5}}`, map[string]bool{"a": true}},
		"denied":            {`{"context":{"denied_memory_ids":["a","x:*"]}}`, map[string]bool{"a": false, "ab": true, "x:1": false, "y:1": true}},
		"allowed":           {`{"context":{"allowed_memory_ids":["a","x:*"]}}`, map[string]bool{"a": true, "ab": false, "x:1": true, "y:1": false}},
		"both":              {`{"context":{"allowed_memory_ids":["x:*"],"denied_memory_ids":["x:1"]}}`, map[string]bool{"x:1": false, "x:2": true}},
		"no list":           {`{"context":{"denied_memory_ids":"a"}}`, map[string]bool{"a": false, "b": false}},
		"not of texts":      {`{"context":{"denied_memory_ids":[7]}}`, map[string]bool{"b": false}},
		"no object":         {`{"context":7}`, map[string]bool{"b": false}},
		"no glob":           {`{"context":{"allowed_memory_ids":["a","["]}}`, map[string]bool{"a": false}},
		"empty allow lists": {`{"context":{"allowed_memory_ids":[]}}`, map[string]bool{"a": true}},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := config.Merge([]config.Document{{Scope: "system", ID: "default", Data: []byte(c.context), Revision: 1}})
			if err != nil {
				t.Fatal(err)
			}
			for id, want := range c.want {
				if got := e.Memories.Allow(id); got != want {
					t.Errorf("%s is allowed: %t", id, got)
				}
			}
		})
	}
}
