// Command policytest checks that a policy decides what its cases say. docs/policy.md describes the directory that it reads.
//
// It exits with 0 when every case holds, with 1 when one does not, and with 2 when the policy, the cases, its signature or the command line
// are not valid.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/cordum-serverless/cordum/shared/core/policy/corpus"
	"github.com/cordum-serverless/cordum/shared/core/policy/signed"
)

type cli struct {
	Dir     string `arg:"" help:"Directory with policy.yaml, bundles/ and cases/."`
	Verbose bool   `short:"v" help:"Show the cases that hold, too."`
	Cover   bool   `help:"Fail when a rule decides no case."`
	JUnit   string `name:"junit" help:"Write the results to this file, as JUnit's XML." placeholder:"FILE"`
	Key     string `name:"public-key" help:"Ed25519 public key, in hex, base64 or PEM, or a file that has it: policy.yaml.sig must be its signature of policy.yaml." placeholder:"KEY"`
}

const (
	held = iota
	failed
	invalid
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, complaints io.Writer) int {
	var c cli
	helped := false
	k := kong.Must(&c, kong.Name("policytest"), kong.Description("Checks that a policy decides what its cases say."), kong.Writers(out, complaints),
		kong.Exit(func(int) { helped = true }))
	_, err := k.Parse(args)
	if helped {
		return held
	}
	code := invalid
	if err == nil {
		code, err = c.run(out)
	}
	if err != nil {
		fmt.Fprintln(complaints, "policytest:", err)
	}
	return code
}

func (c *cli) run(out io.Writer) (int, error) {
	if _, err := os.ReadDir(c.Dir); err != nil {
		return invalid, err
	}
	dir := os.DirFS(c.Dir)
	if c.Key != "" {
		if err := c.verify(dir); err != nil {
			return invalid, err
		}
	}
	suite, err := corpus.Load(dir)
	if err != nil {
		return invalid, err
	}
	report := suite.Run()
	for i := range report.Results {
		report.Results[i].File = filepath.ToSlash(filepath.Join(c.Dir, report.Results[i].File))
	}
	code := c.print(out, report)
	if c.JUnit != "" {
		text, err := junit(report)
		if err == nil {
			err = os.WriteFile(c.JUnit, text, 0o644)
		}
		if err != nil {
			return invalid, err
		}
	}
	return code, nil
}

func (c *cli) verify(dir fs.FS) error {
	text := c.Key
	if raw, err := os.ReadFile(c.Key); err == nil {
		text = string(raw)
	}
	key, err := signed.ParseKey(text)
	if err != nil {
		return err
	}
	document, err := fs.ReadFile(dir, corpus.Base)
	if err != nil {
		return err
	}
	signature, err := fs.ReadFile(dir, corpus.Base+".sig")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := key.Verify(document, signature); err != nil {
		return fmt.Errorf("%s: %w", corpus.Base+".sig", err)
	}
	return nil
}

func (c *cli) print(out io.Writer, report corpus.Report) int {
	failures := 0
	for _, r := range report.Results {
		if len(r.Problems) > 0 {
			failures++
			fmt.Fprintf(out, "FAIL  %s:%d  %s\n", r.File, r.Line, r.Name)
			fmt.Fprint(out, explain(report.Rules, r))
		} else if c.Verbose {
			fmt.Fprintf(out, "ok    %s:%d  %s: %s%s\n", r.File, r.Line, r.Name, r.Got.Verdict, by(r.Got.RuleID))
		}
	}
	if n := len(report.Uncovered); n > 0 {
		fmt.Fprintln(out, "No case is decided by:")
		for _, rule := range report.Uncovered {
			fmt.Fprintf(out, "      %s: %s\n", rule.Document, rule.ID)
		}
	}
	fmt.Fprintf(out, "%d of %d cases hold; %d of %d rules decide one\n", len(report.Results)-failures, len(report.Results),
		len(report.Rules)-len(report.Uncovered), len(report.Rules))
	if failures > 0 || c.Cover && len(report.Uncovered) > 0 {
		return failed
	}
	return held
}

func by(rule string) string {
	if rule == "" {
		return ""
	}
	return " by " + rule
}

// explain says what of a case does not hold, and how the decision came about: each rule up to the first that matched, and what restricts.
func explain(rules []corpus.Rule, r corpus.Result) string {
	var b strings.Builder
	for _, problem := range r.Problems {
		fmt.Fprintf(&b, "      %s\n", problem)
	}
	fmt.Fprintf(&b, "      the decision is %s%s: %s\n", r.Got.Verdict, by(r.Got.RuleID), r.Got.Reason)
	decided := false
	for i, step := range r.Trace {
		name := step.RuleID
		if i < len(rules) {
			if decided {
				continue
			}
			name, decided = rules[i].Document+": "+rules[i].ID, step.Matched
		}
		says := "fits"
		if !step.Matched {
			says = "does not fit: " + step.FirstFailedField
		}
		fmt.Fprintf(&b, "        %-40s %s\n", name, says)
	}
	return b.String()
}
