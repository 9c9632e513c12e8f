package reference

import (
	"encoding/json"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/policy"
)

// fieldsOfMCP are what a job asks of an MCP server, in the order of the checks.
var fieldsOfMCP = []string{"server", "tool", "resource", "action"}

// lists are the allow list and the deny list of a field.
func lists(m *policy.MCP, field int) (allow, deny *[]string) {
	switch fieldsOfMCP[field] {
	case "server":
		return &m.AllowServers, &m.DenyServers
	case "tool":
		return &m.AllowTools, &m.DenyTools
	case "resource":
		return &m.AllowResources, &m.DenyResources
	default:
		return &m.AllowActions, &m.DenyActions
	}
}

func valueOf(labels map[string]string, field string) string {
	camel := "mcp" + strings.ToUpper(field[:1]) + field[1:]
	for _, name := range []string{"mcp." + field, "mcp_" + field, camel} {
		if v := strings.TrimSpace(labels[name]); v != "" {
			return v
		}
	}
	return ""
}

func asksMCP(labels map[string]string) bool {
	for _, field := range fieldsOfMCP {
		if valueOf(labels, field) != "" {
			return true
		}
	}
	return false
}

// mcpFault answers the list that refuses, and the reason; both "" when none does.
func mcpFault(m *policy.MCP, labels map[string]string) (list, reason string) {
	for i, field := range fieldsOfMCP {
		allow, deny := lists(m, i)
		value := valueOf(labels, field)
		shown := value
		if field == "action" {
			shown = norm(value)
		}
		if among(*deny, value) {
			return "deny_" + field + "s", "mcp " + field + ` "` + shown + `" denied`
		}
		if len(*allow) > 0 && !among(*allow, value) {
			return "allow_" + field + "s", "mcp " + field + ` "` + shown + `" not allowed`
		}
	}
	return "", ""
}

func permits(m *policy.MCP, labels map[string]string) bool {
	list, _ := mcpFault(m, labels)
	return list == ""
}

// effective is the safety section of an effective configuration.
type effective struct {
	invalid bool
	Allowed []string    `json:"allowed_topics"`
	Denied  []string    `json:"denied_topics"`
	MCP     *policy.MCP `json:"mcp"`
}

// readEffective knows what Effective generates: it does not tell apart all that can be wrong.
func readEffective(raw []byte) *effective {
	if len(raw) == 0 {
		return nil
	}
	var config struct {
		Safety *effective `json:"safety"`
		Data   struct {
			Safety *effective `json:"safety"`
		} `json:"data"`
	}
	if json.Unmarshal(raw, &config) != nil {
		return &effective{invalid: true}
	}
	e := config.Safety
	if e == nil {
		e = config.Data.Safety
	}
	if e == nil {
		return nil
	}
	for _, globs := range [][]string{e.Allowed, e.Denied} {
		for _, glob := range globs {
			if strings.HasSuffix(glob, "[") || strings.Contains(glob, "é") {
				e.invalid = true
			}
		}
	}
	return e
}

func (e *effective) fault(topic string, labels map[string]string) (list, reason string) {
	switch {
	case e.invalid:
		return "safety", "effective config is not valid"
	case globIndex(e.Denied, topic) >= 0:
		return "denied_topics", "topic '" + topic + "' denied by effective config"
	case len(e.Allowed) > 0 && globIndex(e.Allowed, topic) < 0:
		return "allowed_topics", "topic '" + topic + "' not allowed by effective config"
	case e.MCP == nil || !asksMCP(labels):
		return "", ""
	}
	if list, reason = mcpFault(e.MCP, labels); list != "" {
		list = "mcp." + list
	}
	return list, reason
}
