// Command vulnerable reads what govulncheck says (-format json), once or several times, and fails when our code calls what is known to be vulnerable, or, where
// only packages were looked at, imports it, unless a file says why that does no harm: lines of an id and a reason. It fails for a reason that nothing needs
// any more, too.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: govulncheck -format json ./... | vulnerable accepted.txt")
		os.Exit(2)
	}
	if err := run(os.Stdin, os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(in io.Reader, path string, out io.Writer) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	reasons, err := accepted(string(text))
	if err != nil {
		return err
	}
	r, err := read(in)
	if err != nil {
		return err
	}
	return r.judge(reasons, out)
}

// accepted reads the reasons, by the ids of vulnerabilities. A line that begins with # is a remark.
func accepted(text string) (map[string]string, error) {
	reasons := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, reason, _ := strings.Cut(line, " ")
		if reasons[id] = strings.TrimSpace(reason); reasons[id] == "" {
			return nil, fmt.Errorf("%s has no reason", id)
		}
	}
	return reasons, nil
}

// message is one of the objects that govulncheck writes, as far as it is looked at.
type message struct {
	Config *struct {
		Level string `json:"scan_level"`
	} `json:"config"`
	OSV *struct {
		ID      string `json:"id"`
		Summary string `json:"summary"`
	} `json:"osv"`
	Finding *struct {
		OSV   string `json:"osv"`
		Fixed string `json:"fixed_version"`
		Trace []struct {
			Module   string `json:"module"`
			Version  string `json:"version"`
			Package  string `json:"package"`
			Function string `json:"function"`
		} `json:"trace"`
	} `json:"finding"`
}

// report is what was found: summaries of vulnerabilities, those that our code calls and in what, and those of modules that it only requires.
type report struct {
	summaries        map[string]string
	called, required map[string]string
}

var errNoReport = errors.New("govulncheck said nothing: it has failed")

func read(in io.Reader) (report, error) {
	r := report{map[string]string{}, map[string]string{}, map[string]string{}}
	began, packages := false, false
	for all := json.NewDecoder(in); ; {
		var m message
		switch err := all.Decode(&m); {
		case errors.Is(err, io.EOF) && began:
			return r, nil
		case errors.Is(err, io.EOF):
			return r, errNoReport
		case err != nil:
			return r, err
		}
		if m.Config != nil {
			began, packages = true, m.Config.Level == "package"
		}
		if m.OSV != nil {
			r.summaries[m.OSV.ID] = m.OSV.Summary
		}
		if f := m.Finding; f != nil && len(f.Trace) > 0 {
			in, at := r.required, f.Trace[0]
			if at.Function != "" || packages && at.Package != "" {
				in = r.called
			}
			in[f.OSV] = fmt.Sprintf("%s %s, better in %s", at.Module, at.Version, f.Fixed)
		}
	}
}

// judge writes what was found, and fails for what is neither mended nor accepted.
func (r report) judge(reasons map[string]string, out io.Writer) error {
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(r.called)) {
		reason, ok := reasons[id]
		if !ok {
			errs = append(errs, fmt.Errorf("%s: %s (%s)", id, r.summaries[id], r.called[id]))
			continue
		}
		fmt.Fprintf(out, "accepted %s: %s (%s): %s\n", id, r.summaries[id], r.called[id], reason)
	}
	for _, id := range slices.Sorted(maps.Keys(r.required)) {
		if r.called[id] == "" {
			fmt.Fprintf(out, "not called %s: %s (%s)\n", id, r.summaries[id], r.required[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(reasons)) {
		if r.called[id] == "" {
			errs = append(errs, fmt.Errorf("%s is accepted, and was not found: take it away", id))
		}
	}
	return errors.Join(errs...)
}
