package describe_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/docs/api/describe"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
)

const root = "../../.."

func load(t *testing.T) *describe.Contract {
	t.Helper()
	c, err := describe.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGeneratedDocumentsAreCurrent(t *testing.T) {
	c := load(t)
	document, err := c.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"docs/api/openapi/cordum.swagger.json": string(document), "docs/api-reference.md": c.Reference()} {
		got, err := os.ReadFile(root + "/" + file)
		if err != nil || string(got) != want {
			t.Errorf("%s is not what the contract says: run `make openapi` (%v)", file, err)
		}
	}
}

func TestEveryRouteIsInTheDocument(t *testing.T) {
	text, err := load(t).OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths       map[string]map[string]json.RawMessage `json:"paths"`
		Definitions map[string]json.RawMessage            `json:"definitions"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for _, r := range routes.All() {
		if doc.Paths[strings.ReplaceAll(r.Path, "=**}", "}")][strings.ToLower(r.Method)] == nil {
			t.Errorf("%s %s is missing", r.Method, r.Path)
		}
	}
	for _, part := range strings.Split(string(text), `"$ref": "#/definitions/`)[1:] {
		if name, _, _ := strings.Cut(part, `"`); doc.Definitions[name] == nil {
			t.Errorf("definition %s is missing", name)
		}
	}
}
