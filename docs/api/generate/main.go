// Command generate writes the OpenAPI document and the API reference. It runs in the root of the repository: go run ./docs/api/generate
package main

import (
	"fmt"
	"os"

	"github.com/cordum-serverless/cordum/docs/api/describe"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run() error {
	contract, err := describe.Load(".")
	if err != nil {
		return err
	}
	document, err := contract.OpenAPI()
	if err != nil {
		return err
	}
	if err := os.WriteFile("docs/api/openapi/cordum.swagger.json", document, 0o644); err != nil {
		return err
	}
	return os.WriteFile("docs/api-reference.md", []byte(contract.Reference()), 0o644)
}
