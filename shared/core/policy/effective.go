package policy

import (
	"bytes"
	"encoding/json"
	"path"
)

// Effective are the restrictions that the effective configuration puts on a job. They can only deny. It is immutable.
type Effective struct {
	invalid        bool
	denied, allows []glob
	mcp            *mcpLists
}

// ParseEffective reads the safety section of an effective configuration, JSON: the member safety, else data.safety, with allowed_topics
// and denied_topics (lists of globs) and mcp (the lists of MCP). Other members are not for policy. Nothing, null and an object without
// such a section restrict nothing: nil. What cannot be understood is an Effective that denies every job.
func ParseEffective(raw []byte) *Effective {
	section, ok := safetySection(raw)
	if !ok {
		return &Effective{invalid: true}
	}
	if section == nil {
		return nil
	}
	var allowed, denied []string
	var lists MCP
	ok = decode(section["allowed_topics"], &allowed) && decode(section["denied_topics"], &denied) && decodeMCP(section["mcp"], &lists)
	if !ok || !validTopics(allowed) || !validTopics(denied) || !lists.valid() {
		return &Effective{invalid: true}
	}
	return &Effective{denied: newGlobs(denied), allows: newGlobs(allowed), mcp: newMCP(lists)}
}

// safetySection answers nil when there is none, and false when it is not an object, or stands in something that is not one.
func safetySection(raw []byte) (map[string]json.RawMessage, bool) {
	var top, data, section map[string]json.RawMessage
	if !decode(raw, &top) {
		return nil, false
	}
	found := top["safety"]
	if absent(found) {
		if !decode(top["data"], &data) {
			return nil, false
		}
		found = data["safety"]
	}
	return section, decode(found, &section)
}

func absent(raw []byte) bool {
	raw = bytes.TrimSpace(raw)
	return len(raw) == 0 || string(raw) == "null"
}

func decode(raw []byte, to any) bool { return absent(raw) || json.Unmarshal(raw, to) == nil }

// decodeMCP refuses unknown members: a misspelt deny list must not open anything.
func decodeMCP(raw []byte, to *MCP) bool {
	if absent(raw) {
		return true
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(to) == nil
}

func validTopics(patterns []string) bool {
	for _, pattern := range patterns {
		_, err := path.Match(pattern, "")
		if err != nil || notPlain(pattern) != "" {
			return false
		}
	}
	return len(patterns) <= maxEntries
}

func (m *MCP) valid() bool {
	for _, words := range [][]string{
		m.AllowServers, m.DenyServers, m.AllowTools, m.DenyTools, m.AllowResources, m.DenyResources, m.AllowActions, m.DenyActions,
	} {
		for _, word := range words {
			if misread(word) != "" {
				return false
			}
		}
		if len(words) > maxEntries {
			return false
		}
	}
	return true
}

// check answers why a job is refused, and by which member of the section.
func (e *Effective) check(f *facts) (reason, member string, refused bool) {
	switch {
	case e == nil:
		return "", "", false
	case e.invalid:
		return "effective config is not valid", "safety", true
	case matchAny(e.denied, f.topic):
		return "topic '" + f.topic + "' denied by effective config", "denied_topics", true
	case len(e.allows) > 0 && !matchAny(e.allows, f.topic):
		return "topic '" + f.topic + "' not allowed by effective config", "allowed_topics", true
	}
	if fault, ok := e.mcp.check(&f.mcp); ok {
		return fault.reason(), "mcp." + fault.list(), true
	}
	return "", "", false
}

func matchAny(globs []glob, topic string) bool {
	for i := range globs {
		if globs[i].match(topic) {
			return true
		}
	}
	return false
}
