package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	began    = `{"config":{"scan_level":"symbol"}}`
	packages = `{"config":{"scan_level":"package"}}`
	imported = `{"finding":{"osv":"GO-2","fixed_version":"v3","trace":[{"module":"example.com/m","version":"v1","package":"example.com/m/p"}]}}`
	known    = `{"osv":{"id":"GO-1","summary":"it falls over"}}{"osv":{"id":"GO-2","summary":"it leaks"}}`
	called   = `{"finding":{"osv":"GO-1","fixed_version":"v2","trace":[{"module":"example.com/m","version":"v1","function":"F"}]}}`
	required = `{"finding":{"osv":"GO-2","fixed_version":"v3","trace":[{"module":"example.com/m","version":"v1"}]}}`
)

func TestWhatIsCalledMustBeMendedOrArgued(t *testing.T) {
	for _, tt := range []struct{ name, said, accepted, err, out string }{
		{"clean", began, "# nothing\n", "", ""},
		{"called", began + known + called, "", "GO-1: it falls over (example.com/m v1, better in v2)", ""},
		{"called, with a reason", began + known + required + called, "GO-1 it is never given what it falls over\n", "", "never given"},
		{"only required", began + known + required, "", "", "not called GO-2: it leaks (example.com/m v1, better in v3)"},
		{"imported", began + known + imported, "", "", "not called GO-2"},
		{"imported, where only packages are looked at", began + known + packages + imported, "", "GO-2: it leaks", ""},
		{"a reason too many", began + known + required, "GO-2 so what\n", "GO-2 is accepted, and was not found", ""},
		{"no reason", began, "GO-1\n", "GO-1 has no reason", ""},
		{"nothing was said", "", "", errNoReport.Error(), ""},
		{"cut off", began + `{"osv":`, "", "unexpected EOF", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "accepted.txt")
			if err := os.WriteFile(file, []byte(tt.accepted), 0o600); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			err := run(strings.NewReader(tt.said), file, &out)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if !strings.Contains(out.String(), tt.out) {
				t.Errorf("said %q, want %q", out.String(), tt.out)
			}
		})
	}
}
