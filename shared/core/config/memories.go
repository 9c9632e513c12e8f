package config

import (
	"encoding/json"
	"path"
	"slices"
)

// Memories says which memories jobs may name. The zero Memories allows every one.
type Memories struct {
	invalid         bool
	allowed, denied []string
}

// parseMemories reads the lists allowed_memory_ids and denied_memory_ids, of ids or globs, of the member context. What cannot be understood allows none: a
// misspelt list must not open anything.
func parseMemories(member json.RawMessage) Memories {
	var lists struct {
		Allowed []string `json:"allowed_memory_ids"`
		Denied  []string `json:"denied_memory_ids"`
	}
	if len(member) == 0 {
		return Memories{}
	}
	if err := json.Unmarshal(member, &lists); err != nil {
		return Memories{invalid: true}
	}
	for _, glob := range slices.Concat(lists.Allowed, lists.Denied) {
		if _, err := path.Match(glob, ""); err != nil {
			return Memories{invalid: true}
		}
	}
	return Memories{allowed: lists.Allowed, denied: lists.Denied}
}

// Allow says whether a job may name a memory: it is not in the list of denied ones, and in that of allowed ones if there is any.
func (m Memories) Allow(id string) bool {
	listed := func(globs []string) bool {
		return slices.ContainsFunc(globs, func(glob string) bool {
			matched, _ := path.Match(glob, id) // all of them are valid
			return matched
		})
	}
	return !m.invalid && !listed(m.denied) && (len(m.allowed) == 0 || listed(m.allowed))
}
