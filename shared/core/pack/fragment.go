package pack

import (
	"cmp"
	"strconv"

	"github.com/cordum-serverless/cordum/shared/core/policy"
)

// ownPolicy says whether a fragment is about the pack's own jobs and nobody else's. All fragments are one policy, in the order of their ids, in which the first
// rule that matches decides: one about the topics of others would go before what their operators have published. What a document says of tenants and of
// approvals holds for everybody's jobs.
func ownPolicy(id string, d *policy.Document) error {
	switch {
	case len(d.Tenants) > 0:
		return invalid("tenants: they would reach beyond the pack; a fragment has rules for job.%s.* only", id)
	case d.Approvals != policy.ApprovalTerms{}:
		return invalid("approvals: they would reach beyond the pack; a fragment has rules for job.%s.* only", id)
	}
	for i, r := range d.Rules {
		name := cmp.Or(r.ID, "#"+strconv.Itoa(i+1))
		if len(r.Match.Topics) == 0 {
			return invalid("rule %q must name topics: without any it would be for everybody's jobs", name)
		}
		for _, topic := range r.Match.Topics {
			if err := ownTopic(id, topic); err != nil {
				return invalid("rule %q: %s", name, err.Error())
			}
		}
	}
	return nil
}
