package policy

import (
	"slices"
	"strings"
)

// mcpField is one of what a job asks of an MCP server, in the order of the checks.
type mcpField uint8

const (
	mcpServer mcpField = iota
	mcpTool
	mcpResource
	mcpAction
	mcpFields
)

var mcpNames = [mcpFields]string{"server", "tool", "resource", "action"}

// mcpLabels are the labels that carry each field; the first that is not blank counts.
var mcpLabels = [mcpFields][3]string{
	{"mcp.server", "mcp_server", "mcpServer"},
	{"mcp.tool", "mcp_tool", "mcpTool"},
	{"mcp.resource", "mcp_resource", "mcpResource"},
	{"mcp.action", "mcp_action", "mcpAction"},
}

// mcpRequest is what a job asks of an MCP server, trimmed; all blank is a job that has nothing to do with MCP.
type mcpRequest [mcpFields]string

func (m *mcpRequest) read(labels map[string]string) {
	if len(labels) == 0 {
		return
	}
	for field, names := range mcpLabels {
		for _, name := range names {
			if v := strings.TrimSpace(labels[name]); v != "" {
				m[field] = v
				break
			}
		}
	}
}

func (m *mcpRequest) any() bool { return *m != mcpRequest{} }

// mcpLists are compiled lists, in lower case.
type mcpLists struct{ allow, deny [mcpFields][]string }

func newMCP(m MCP) *mcpLists {
	l := &mcpLists{
		allow: [mcpFields][]string{m.AllowServers, m.AllowTools, m.AllowResources, m.AllowActions},
		deny:  [mcpFields][]string{m.DenyServers, m.DenyTools, m.DenyResources, m.DenyActions},
	}
	empty := true
	for f := range mcpFields {
		l.allow[f], l.deny[f] = lowered(l.allow[f]), lowered(l.deny[f])
		empty = empty && len(l.allow[f])+len(l.deny[f]) == 0
	}
	if empty {
		return nil
	}
	return l
}

func lowered(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = lower(w)
	}
	return out
}

// mcpFault is the first field that lists refuse.
type mcpFault struct {
	field  mcpField
	denied bool // by the deny list, else missing from the allow list
	value  string
}

// check answers the first fault, in the order of the fields. Nil lists, and a job that has nothing to do with MCP, have none.
func (l *mcpLists) check(m *mcpRequest) (mcpFault, bool) {
	if l == nil || !m.any() {
		return mcpFault{}, false
	}
	for f := range mcpFields {
		v := m[f]
		if v != "" && holds(l.deny[f], v) {
			return mcpFault{f, true, v}, true
		}
		if len(l.allow[f]) > 0 && (v == "" || !holds(l.allow[f], v)) {
			return mcpFault{f, false, v}, true
		}
	}
	return mcpFault{}, false
}

func holds(words []string, v string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return sameWord(w, v) })
}

func (f mcpFault) reason() string {
	value := f.value
	if f.field == mcpAction {
		value = lower(value)
	}
	if f.denied {
		return "mcp " + mcpNames[f.field] + ` "` + value + `" denied`
	}
	return "mcp " + mcpNames[f.field] + ` "` + value + `" not allowed`
}

// list is the name of the list that refused, as documents spell it.
func (f mcpFault) list() string {
	if f.denied {
		return "deny_" + mcpNames[f.field] + "s"
	}
	return "allow_" + mcpNames[f.field] + "s"
}
