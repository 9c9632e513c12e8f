// Package tools_test holds what the scripts of this folder do where nobody looks: when a tool that they run fails.
package tools_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	clean    = "echo PASS"
	deadline = "echo '--- FAIL: FuzzFind (1.56s)'; echo '    context deadline exceeded'; echo FAIL; echo 'exit status 1'; exit 1"
	found    = "echo '--- FAIL: FuzzFind (0.03s)'; echo '    --- FAIL: FuzzFind (0.00s)'; echo '    Failing input written to testdata/fuzz/FuzzFind/1'; echo FAIL; exit 1"
	// A target whose own message is the deadline's.
	ours   = "echo '--- FAIL: FuzzFind (0.03s)'; echo '    --- FAIL: FuzzFind (0.00s)'; echo '        context deadline exceeded'; echo FAIL; exit 1"
	broken = "echo 'find_test.go:3:1: expected declaration' >&2; exit 2"
)

// Only a run that found nothing and missed its deadline is done again, and not for ever.
func TestFuzzRepeatsWhatMissedItsDeadline(t *testing.T) {
	for name, c := range map[string]struct {
		runs   []string
		ran    int
		passes bool
	}{
		"clean":                     {[]string{clean}, 1, true},
		"a deadline missed":         {[]string{deadline, clean}, 2, true},
		"two deadlines missed":      {[]string{deadline, deadline, clean}, 3, true},
		"every deadline missed":     {[]string{deadline, deadline, deadline, clean}, 3, false},
		"an input found":            {[]string{found, clean}, 1, false},
		"an input found the second": {[]string{deadline, found, clean}, 2, false},
		"the target's own deadline": {[]string{ours, clean}, 1, false},
		"does not compile":          {[]string{broken, clean}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			script := "#!/usr/bin/env bash\necho x >>" + dir + "/ran\ncase $(wc -l <" + dir + "/ran) in\n"
			for i, run := range c.runs {
				script += string(rune('1'+i)) + ") " + run + ";;\n"
			}
			if err := os.WriteFile(filepath.Join(dir, "go"), []byte(script+"esac\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("./fuzz.sh")
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "FUZZ=./shared/edge/routes")
			out, err := cmd.CombinedOutput()
			if (err == nil) != c.passes {
				t.Errorf("the script passed: %t, want %t\n%s", err == nil, c.passes, out)
			}
			ran, err := os.ReadFile(filepath.Join(dir, "ran"))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(ran), "x"); n != c.ran {
				t.Errorf("it fuzzed %d times, want %d\n%s", n, c.ran, out)
			}
		})
	}
}
