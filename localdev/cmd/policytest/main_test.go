package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

// play runs the command and answers what it wrote.
func play(t *testing.T, want int, args ...string) (out, complaints string) {
	t.Helper()
	var o, c bytes.Buffer
	if code := run(args, &o, &c); code != want {
		t.Errorf("%v exits with %d, want %d\n%s%s", args, code, want, &o, &c)
	}
	return o.String(), c.String()
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || got != string(want) {
		t.Errorf("%s differs, %v; got\n%s", file, err, got)
	}
}

func TestFailingCases(t *testing.T) {
	report := filepath.Join(t.TempDir(), "report.xml")
	out, complaints := play(t, failed, "-v", "--junit", report, "testdata/failing")
	golden(t, "failing.txt", out)
	written, err := os.ReadFile(report)
	if err != nil || complaints != "" {
		t.Fatal(err, complaints)
	}
	golden(t, "failing.xml", string(written))
}

func TestExamplePolicyHolds(t *testing.T) {
	const example = "../../../docs/example-policy"
	out, _ := play(t, held, "--cover", example)
	if out != "24 of 24 cases hold; 12 of 12 rules decide one\n" {
		t.Error(out)
	}
}

// copyOf is the failing example in a directory of its own, with some files replaced or, with no text, removed.
func copyOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/failing")); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		file := filepath.Join(dir, name)
		err := os.Remove(file)
		if text != "" {
			err = os.WriteFile(file, []byte(text), 0o600)
		}
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCoverage(t *testing.T) {
	dir := copyOf(t, map[string]string{"cases/a.yaml": "cases: [{name: a, request: {topic: job.wipe}, expect: {decision: DENY}}]", "cases/b.yaml": ""})
	want := "No case is decided by:\n      policy.yaml: #2\n      secops/rules: prod\n      secops/rules: rest\n1 of 1 cases hold; 1 of 4 rules decide one\n"
	if out, _ := play(t, held, dir); out != want {
		t.Error(out)
	}
	if out, _ := play(t, failed, "--cover", dir); out != want {
		t.Error(out)
	}
}

func TestInvalid(t *testing.T) {
	const misspelt = "rules: [{id: a, decison: deny}]"
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"no directory", nil, `policytest: expected "<dir>"`},
		{"a directory that does not exist", []string{"testdata/nowhere"}, "policytest: open testdata/nowhere: no such file or directory"},
		{"an unknown flag", []string{"--verbos", "testdata/failing"}, "policytest: unknown flag --verbos"},
		{"a policy that is not valid", []string{copyOf(t, map[string]string{"policy.yaml": misspelt})}, `policytest: policy.yaml:1:17: unknown key "decison" in a rule`},
		{"cases that are not valid", []string{copyOf(t, map[string]string{"cases/b.yaml": "cases: [{nam: b}]"})}, `policytest: cases/b.yaml:1:10: unknown field "nam"`},
		{"a report that cannot be written", []string{"--junit", "testdata/nowhere/report.xml", "testdata/failing"}, "testdata/nowhere/report.xml"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, complaints := play(t, invalid, tt.args...); !strings.Contains(complaints, tt.want) {
				t.Errorf("%s, want %s", complaints, tt.want)
			}
		})
	}
	if out, _ := play(t, held, "--help"); !strings.HasPrefix(out, "Usage: policytest <dir>") {
		t.Error(out)
	}
}

func TestSignatures(t *testing.T) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte("seed"), 8))
	key := hex.EncodeToString(private.Public().(ed25519.PublicKey))
	document, err := os.ReadFile("testdata/failing/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	signature := hex.EncodeToString(ed25519.Sign(private, document))
	dir := copyOf(t, map[string]string{"policy.yaml.sig": signature, "cases/a.yaml": "cases: [{name: a, request: {topic: job.wipe}, expect: {decision: DENY}}]", "cases/b.yaml": ""})
	keyFile := filepath.Join(t.TempDir(), "policy.pub")
	if err := os.WriteFile(keyFile, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	play(t, held, "--public-key", key, dir)
	play(t, held, "--public-key", keyFile, dir)
	tests := []struct{ name, key, dir, want string }{
		{"none", key, "testdata/failing", "policytest: policy.yaml.sig: the policy has no signature"},
		{"of another document", key, copyOf(t, map[string]string{"policy.yaml.sig": signature, "policy.yaml": "rules: []"}), "policy.yaml.sig: the signature is not of this policy"},
		{"a key that is none", "policy.pub", dir, "policytest: the public key must be 32 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if out, complaints := play(t, invalid, "--public-key", tt.key, tt.dir); !strings.Contains(complaints, tt.want) || out != "" {
				t.Errorf("%s%s, want %s", out, complaints, tt.want)
			}
		})
	}
}
