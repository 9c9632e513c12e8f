package infra

import "strings"

// pathOf spells a template of the table of routes as Swagger does and as API Gateway does, and describes its parameters. For API Gateway a greedy parameter is
// the last segment: what is literal after it is for the function's own table.
func pathOf(template string) (swagger, gateway string, parameters []any) {
	segments := strings.Split(template, "/")
	plain, end := make([]string, len(segments)), len(segments)
	for i, s := range segments {
		plain[i] = s
		inner, ok := strings.CutPrefix(s, "{")
		if !ok {
			continue
		}
		name, greedy := strings.CutSuffix(strings.TrimSuffix(inner, "}"), "=**")
		plain[i] = "{" + name + "}"
		segments[i] = plain[i]
		if greedy {
			end = i + 1
			segments[i] = "{" + name + "+}"
			name += "+"
		}
		parameters = append(parameters, map[string]any{
			"name": name, "in": "path", "required": true, "schema": map[string]any{"type": "string"},
		})
	}
	return strings.Join(plain, "/"), strings.Join(segments[:end], "/"), parameters
}

func lower(method string) string { return strings.ToLower(method) }
