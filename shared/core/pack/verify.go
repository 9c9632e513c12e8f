package pack

import (
	"cmp"
	"strings"
)

// Failed is what a simulation got whose request could not be decided.
const Failed = "ERROR"

// Result is what became of a simulation.
type Result struct {
	Name     string `json:"name"`
	Expected string `json:"expected"`
	Got      string `json:"got"`
	Reason   string `json:"reason"`
	OK       bool   `json:"ok"`
}

// Judge says whether a decision is the one that the simulation expects. One that expects nothing, and one that could not be decided, as that of a request without
// a topic, does not hold.
func (s Simulation) Judge(got, reason string) Result {
	r := Result{Name: s.Name, Expected: Decision(s.ExpectDecision), Got: Decision(got), Reason: reason}
	if s.Request.Topic == "" {
		r.Got, r.Reason = Failed, cmp.Or(reason, "missing topic")
	}
	r.OK = r.Expected != "" && r.Expected == r.Got && r.Got != Failed
	return r
}

// Decision is the one spelling of a decision: ALLOW, DENY, REQUIRE_APPROVAL, ALLOW_WITH_CONSTRAINTS or THROTTLE. What is none stays as it is, in capitals.
func Decision(word string) string {
	word = strings.TrimPrefix(strings.ReplaceAll(strings.ToUpper(strings.TrimSpace(word)), "-", "_"), "DECISION_TYPE_")
	if word == "REQUIRE_HUMAN" {
		return "REQUIRE_APPROVAL"
	}
	return word
}
