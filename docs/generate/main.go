// Command generate writes the documents that are made from code, below the folder that it is given.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/cordum-serverless/cordum/docs/licences"
	"github.com/cordum-serverless/cordum/shared/core/job"
)

// documents are made from what they describe; a test beside each says when one is old.
var documents = map[string]func() (string, error){
	"states.md":   func() (string, error) { return job.Document(), nil },
	"licences.md": func() (string, error) { return licences.Document(".") },
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate FOLDER")
		os.Exit(2)
	}
	for name, write := range documents {
		text, err := write()
		if err == nil {
			err = os.WriteFile(filepath.Join(os.Args[1], name), []byte(text), 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
