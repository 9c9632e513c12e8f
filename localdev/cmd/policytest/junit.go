package main

import (
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/policy/corpus"
)

type testSuites struct {
	XMLName  xml.Name    `xml:"testsuites"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Suites   []testSuite `xml:"testsuite"`
}

type testSuite struct {
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Cases    []testCase `xml:"testcase"`
}

type testCase struct {
	Name    string       `xml:"name,attr"`
	Class   string       `xml:"classname,attr"`
	File    string       `xml:"file,attr"`
	Line    int          `xml:"line,attr"`
	Failure *testFailure `xml:"failure"`
}

type testFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// junit is a report with a suite for each file of cases.
func junit(report corpus.Report) ([]byte, error) {
	var all testSuites
	for _, r := range report.Results {
		if n := len(all.Suites); n == 0 || all.Suites[n-1].Name != r.File {
			all.Suites = append(all.Suites, testSuite{Name: r.File})
		}
		suite := &all.Suites[len(all.Suites)-1]
		c := testCase{Name: r.Name, Class: r.File, File: r.File, Line: r.Line}
		if len(r.Problems) > 0 {
			c.Failure = &testFailure{Message: strings.Join(r.Problems, "; "), Text: explain(report.Rules, r)}
			suite.Failures++
			all.Failures++
		}
		suite.Tests++
		all.Tests++
		suite.Cases = append(suite.Cases, c)
	}
	text, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("junit: %w", err)
	}
	return []byte(xml.Header + string(text) + "\n"), nil
}
