// Package corpus tests policies by cases, so that who writes a policy can say what it must decide, and have it checked before it is
// published. A directory holds:
//
//	policy.yaml              the base policy; may be missing
//	bundles/<id>.yaml        bundles by their ids: bundles/secops/rules.yaml is secops/rules
//	cases/<name>.yaml        what must be decided
//
// A file of cases is a list:
//
//	cases:
//	  - name: demo jobs run
//	    request: {topic: job.demo.echo, tenant: acme, labels: {env: prod}, meta: {risk_tags: [prod]}}
//	    expect: {decision: ALLOW, rule: demo}
//
// A request has the members of POST /api/v1/policy/evaluate. What a case does not expect is not compared.
package corpus

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/policy"
)

// Base is the name of the base policy's file.
const Base = "policy.yaml"

// Suite is a policy and its cases. It is immutable.
type Suite struct {
	policy *policy.Policy
	rules  []Rule
	cases  []testCase
}

// Rule names a rule of the policy.
type Rule struct {
	// Document is the bundle's id, or Base.
	Document string
	// ID is the rule's, or "#<n>", its place in the document, for a rule without one.
	ID string
}

// Result is what became of one case.
type Result struct {
	Name string
	// File and Line are where the case stands.
	File string
	Line int
	Got  policy.Decision
	// Problems are the expectations that do not hold, never nil; none is a case that passed.
	Problems []string
	// Trace is the way to the decision, as policy.Policy.Explain has it. Its first entries are the policy's rules, in order.
	Trace []policy.TraceEntry
}

// Report is what became of a suite.
type Report struct {
	Results []Result
	// Rules are all rules of the policy, in order; Uncovered are those that no case was decided by.
	Rules, Uncovered []Rule
}

// Load reads a directory. An error names the file, and the line where it can: a document or a file of cases that is not valid, a case
// without a name or a decision, files that are neither, no cases at all.
func Load(dir fs.FS) (*Suite, error) {
	s := &Suite{}
	base, err := s.loadBase(dir)
	if err != nil {
		return nil, err
	}
	var fragments []policy.Fragment
	err = each(dir, "bundles", func(file string, text []byte) error {
		key := strings.TrimSuffix(strings.TrimPrefix(file, "bundles/"), path.Ext(file))
		fragments = append(fragments, policy.Fragment{Key: key, Content: text})
		return nil
	})
	if err != nil {
		return nil, err
	}
	if base == nil && len(fragments) == 0 {
		return nil, errors.New("no policy: neither " + Base + " nor a file in bundles/")
	}
	if s.policy, err = policy.Compile(base, fragments); err != nil {
		return nil, err
	}
	slices.SortFunc(fragments, func(a, b policy.Fragment) int { return strings.Compare(a.Key, b.Key) })
	for _, f := range fragments {
		if err := s.addRules(f.Key, f.Content); err != nil {
			return nil, err
		}
	}
	err = each(dir, "cases", func(file string, text []byte) error {
		cases, err := parseCases(file, text)
		for i := range cases {
			err = errors.Join(err, cases[i].known(s.rules))
		}
		s.cases = append(s.cases, cases...)
		return err
	})
	if err == nil && len(s.cases) == 0 {
		err = errors.New("no cases: a file in cases/ has them")
	}
	return s, err
}

func (s *Suite) loadBase(dir fs.FS) (*policy.Source, error) {
	text, err := fs.ReadFile(dir, Base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &policy.Source{Name: Base, Content: text}, s.addRules(Base, text)
}

func (s *Suite) addRules(name string, text []byte) error {
	d, err := policy.Parse(name, text)
	if err != nil {
		return err
	}
	for i, r := range d.Rules {
		id := r.ID
		if id == "" {
			id = "#" + strconv.Itoa(i+1)
		}
		s.rules = append(s.rules, Rule{Document: name, ID: id})
	}
	return nil
}

// each visits the files of a folder in their order; a folder that does not exist has none.
func each(dir fs.FS, folder string, visit func(file string, text []byte) error) error {
	err := fs.WalkDir(dir, folder, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if ext := path.Ext(file); ext != ".yaml" && ext != ".yml" {
			return fmt.Errorf("%s: not a .yaml file, so nothing would look at it", file)
		}
		text, err := fs.ReadFile(dir, file)
		if err != nil {
			return err
		}
		return visit(file, text)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Run decides every case.
func (s *Suite) Run() Report {
	r := Report{Rules: s.rules}
	covered := map[int]bool{}
	for _, c := range s.cases {
		result := c.run(s.policy)
		r.Results = append(r.Results, result)
		if by := slices.IndexFunc(result.Trace, func(e policy.TraceEntry) bool { return e.Matched }); by >= 0 {
			covered[by] = true
		}
	}
	for i, rule := range s.rules {
		if !covered[i] {
			r.Uncovered = append(r.Uncovered, rule)
		}
	}
	return r
}
