// Command generate writes the document of the job's state machine to the file that it is given.
package main

import (
	"fmt"
	"os"

	"github.com/cordum-serverless/cordum/shared/core/job"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate FILE")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], []byte(job.Document()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
