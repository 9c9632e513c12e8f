package build_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/localdev/build"
)

// module writes a small module of two programs, which share one package, and one of them another.
func module(t *testing.T) (root string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/m\n\ngo 1.26\n", "go.sum": "",
		"a/main.go":      "package main\n\nimport \"example.com/m/shared\"\n\nfunc main() { println(shared.Text) }\n",
		"b/main.go":      "package main\n\nimport (\n\t\"example.com/m/only\"\n\t\"example.com/m/shared\"\n)\n\nfunc main() { println(shared.Text, only.Text) }\n",
		"shared/s.go":    "package shared\n\nvar Text = \"one\"\n",
		"only/o.go":      "package only\n\nimport _ \"embed\"\n\n//go:embed text.txt\nvar Text string\n",
		"only/text.txt":  "first",
		"only/o_test.go": "package only\n",
	} {
		write(t, filepath.Join(root, name), text)
	}
	return root
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestBuild(t *testing.T) {
	root, out := module(t), t.TempDir()
	targets := []build.Target{{Name: "a", Package: "./a"}, {Name: "b", Package: "./b"}}
	b := build.New(root, out, targets...)
	step := func(what string, change func(), want []string, fails bool) {
		t.Helper()
		before := b.Stamp()
		if change != nil {
			change()
		}
		if moved := b.Stamp() != before; what != "at first" && moved != (change != nil) {
			t.Errorf("%s: stamp moved: %v", what, moved)
		}
		changed, err := b.Build(t.Context())
		if !slices.Equal(changed, want) || (err != nil) != fails {
			t.Errorf("%s: changed %v, want %v; %v", what, changed, want, err)
		}
	}
	says := func(name, want string) {
		t.Helper()
		text, err := exec.Command(b.Binary(name)).CombinedOutput()
		if err != nil || string(text) != want+"\n" {
			t.Errorf("%s says %q, %v", name, text, err)
		}
	}
	edit := func(path, text string) func() { return func() { write(t, filepath.Join(root, path), text) } }
	step("at first", nil, []string{"a", "b"}, false)
	says("a", "one")
	says("b", "one first")
	step("nothing", nil, nil, false)
	step("what one needs", edit("only/text.txt", "second"), []string{"b"}, false)
	says("b", "one second")
	step("what both need", edit("shared/s.go", "package shared\n\nvar Text = \"two\"\n"), []string{"a", "b"}, false)
	step("a comment", edit("shared/s.go", "package shared\n\nvar Text = \"two\" // is said\n"), nil, false)
	step("a mistake", edit("only/o.go", "package only\n\nvar Text = 7 +\n"), nil, true)
	says("b", "two second")
	step("one works, one does not", edit("a/main.go", "package main\n\nfunc main() { println(\"three\") }\n"), []string{"a"}, true)
	says("a", "three")
	step("mended", edit("only/o.go", "package only\n\nvar Text = \"third\"\n"), []string{"b"}, false)
	step("a new file", edit("only/p.go", "package only\n\nfunc init() { Text = \"fourth\" }\n"), []string{"b"}, false)
	says("b", "two fourth")
	again := build.New(root, out, targets...)
	if changed, err := again.Build(t.Context()); len(changed) != 0 || err != nil {
		t.Errorf("built again: %v, %v", changed, err)
	}
	info, _ := os.Stat(b.Binary("a"))
	if time.Since(info.ModTime()) > time.Minute {
		t.Error("it is old")
	}
	if _, err := build.New(root, out, build.Target{Name: "c", Package: "./c"}).Build(t.Context()); err == nil {
		t.Error("a package that does not exist was built")
	}
}

func TestRoot(t *testing.T) {
	root := module(t)
	if got, err := build.Root(filepath.Join(root, "only")); err != nil || got != root {
		t.Error(got, err)
	}
	if got, err := build.Root("/"); err == nil {
		t.Error(got)
	}
}
