package infra

import (
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/edge/routes"
)

func TestOpenAPIRefusesWhatDiffers(t *testing.T) {
	const document = `{"info":{"version":"1"},"paths":{"/a/{id}":{"get":{"operationId":"A.Get"}}}}`
	tests := []struct {
		name, document string
		table          []routes.Route
		want           string
	}{
		{"a route more", document, []routes.Route{{Method: "GET", Path: "/a/{id}"}, {Method: "POST", Path: "/a/{id}"}},
			"POST /a/{id} is not in the contract's document"},
		{"a route less", document, nil, "get /a/{id} of the contract's document is not in the table"},
		{"two of one path for API Gateway", `{"paths":{"/a/{id}/b":{"get":{}},"/a/{id}/c":{"get":{}}}}`,
			[]routes.Route{{Method: "GET", Path: "/a/{id=**}/b"}, {Method: "GET", Path: "/a/{id=**}/c"}}, "GET /a/{id=**}/c: API Gateway has this path already"},
		{"no document", "{", nil, "the contract's document"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := openAPI("t", []byte(tt.document), tt.table, served, func(f string) string { return f })
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestPathOf(t *testing.T) {
	for template, want := range map[string][3]string{
		"/a":               {"/a", "/a", ""},
		"/a/{id}/b/{c}":    {"/a/{id}/b/{c}", "/a/{id}/b/{c}", "id c"},
		"/schemas/{id=**}": {"/schemas/{id}", "/schemas/{id+}", "id+"},
		"/b/{id=**}/ask":   {"/b/{id}/ask", "/b/{id+}", "id+"},
	} {
		swagger, gateway, parameters := pathOf(template)
		var names []string
		for _, p := range parameters {
			names = append(names, p.(map[string]any)["name"].(string))
		}
		if swagger != want[0] || gateway != want[1] || strings.Join(names, " ") != want[2] {
			t.Errorf("%s: %s %s %v", template, swagger, gateway, names)
		}
	}
}
