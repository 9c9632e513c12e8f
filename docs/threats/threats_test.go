// Package threats holds the page docs/threat-model.md to what it names.
package threats

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	quoted = regexp.MustCompile("`([^`]+)`")
	tested = regexp.MustCompile(`^(Test|Fuzz)[A-Z]\w*$`)
	placed = regexp.MustCompile(`^(shared|functions|infra|localdev|docs|tools|sdk|proto)/[\w./-]+$`)
)

func TestEveryDefenceExists(t *testing.T) {
	page, err := os.ReadFile("../threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := functions(t)
	defended, rest, found := strings.Cut(string(page), "\n## What is not\n")
	if !found || !strings.Contains(rest, "\n- ") {
		t.Error("the page does not say what is not defended")
	}
	rows := 0
	for line := range strings.Lines(defended) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| threat |") {
			continue
		}
		rows++
		files, proofs := 0, 0
		for _, m := range quoted.FindAllStringSubmatch(line, -1) {
			switch name := m[1]; {
			case tested.MatchString(name):
				proofs++
				if !tests[name] {
					t.Errorf("there is no %s", name)
				}
			case placed.MatchString(name):
				files++
				if _, err := os.Stat(filepath.Join("../..", name)); err != nil {
					t.Error(err)
				}
			}
		}
		if files == 0 || proofs == 0 {
			t.Errorf("%d files and %d tests in: %s", files, proofs, line)
		}
	}
	if rows < 20 {
		t.Errorf("only %d threats: the page is not read as it is written", rows)
	}
}

// functions are the names of all tests and fuzz targets.
func functions(t *testing.T) map[string]bool {
	t.Helper()
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	names := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "build" && filepath.Dir(path) == "../.."):
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			names[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
