package policy

import (
	"regexp"
	"slices"
	"strings"
)

// workflowKeys is what the ids of bundles begin with whose rules are for the jobs of one workflow: workflow/<id>/policy.
const workflowKeys = "workflow/"

// workflowKey has the form of a workflow's id in it, which has no slash.
var workflowKey = regexp.MustCompile(`^workflow/([A-Za-z0-9][A-Za-z0-9._-]{0,127})/policy$`)

// scopeOf answers the workflow that a bundle is for, "" for a bundle that is for every job. What begins as a workflow's bundle and is none is
// an error: a misspelt id must not widen whom its rules are for.
func scopeOf(key string) (workflow string, err error) {
	if !strings.HasPrefix(key, workflowKeys) {
		return "", nil
	}
	parts := workflowKey.FindStringSubmatch(key)
	if parts == nil {
		return "", &Error{Source: key, Message: "a bundle of a workflow is called workflow/<id>/policy; the id is letters, digits, '.', '_' and '-'"}
	}
	return parts[1], nil
}

// outOfScope are the sections that a document for one workflow must not have, since they are about all jobs.
var outOfScope = []string{"approvals", "default_decision", "default_tenant", "tenants"}

func (n node) inScope() error {
	for _, m := range n.members {
		if slices.Contains(outOfScope, m.key) {
			return m.errorf("%q would reach beyond the workflow; a bundle of a workflow has rules only", m.key)
		}
	}
	return nil
}
