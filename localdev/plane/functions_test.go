package plane_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/cordum-serverless/cordum/localdev/plane"
)

// TestTheLocalPlaneRunsEveryFunction: a folder with a Lambda's door is a function; there is no other list.
func TestTheLocalPlaneRunsEveryFunction(t *testing.T) {
	doors, err := filepath.Glob("../../functions/*/lambda/main.go")
	if err != nil || len(doors) == 0 {
		t.Fatal(doors, err)
	}
	var folders, running []string
	for _, d := range doors {
		folders = append(folders, filepath.Base(filepath.Dir(filepath.Dir(d))))
	}
	p, err := plane.Open(t.Context(), config())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, f := range p.Functions {
		running = append(running, f.Name)
	}
	slices.Sort(running)
	if !slices.Equal(folders, running) {
		t.Errorf("folders %v, the local plane runs %v", folders, running)
	}
}
