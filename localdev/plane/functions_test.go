package plane_test

import (
	"os"
	"os/exec"
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

// maxFunction is the largest a Lambda's binary may be, in bytes: its size is its cold start.
const maxFunction = 24 << 20

func TestFunctionsStaySmall(t *testing.T) {
	doors, err := filepath.Glob("../../functions/*/lambda")
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	for _, d := range doors {
		name := filepath.Base(filepath.Dir(d))
		bin := filepath.Join(out, name)
		cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-tags=lambda.norpc,grpcnotrace", "-o", bin, "./"+filepath.ToSlash(d))
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		info, err := os.Stat(bin)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.1f MB", name, float64(info.Size())/(1<<20))
		if info.Size() > maxFunction {
			t.Errorf("%s has %d bytes, at most %d", name, info.Size(), maxFunction)
		}
	}
}
