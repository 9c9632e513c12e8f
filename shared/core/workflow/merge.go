package workflow

import (
	"cmp"
	"strings"
	"time"
)

// Merge is what is saved when a workflow is posted that may be stored already; stored is nil when it is not. What the posted one leaves empty
// stays as it was; steps are replaced as a whole, or stay when they were not said, and a policy override that is blank, but not empty, takes the
// stored one away. The time of its making stays. Neither argument changes.
func Merge(stored, posted *Workflow, now time.Time) *Workflow {
	w := *posted
	w.UpdatedAt = now.UTC()
	w.CreatedAt = w.UpdatedAt
	if w.Steps == nil {
		w.Steps = Steps{}
	}
	if strings.TrimSpace(w.PolicyOverride) == "" {
		w.PolicyOverride = ""
	}
	if stored == nil {
		return &w
	}
	if !stored.CreatedAt.IsZero() {
		w.CreatedAt = stored.CreatedAt
	}
	w.OrgID = cmp.Or(posted.OrgID, stored.OrgID)
	w.TeamID = cmp.Or(posted.TeamID, stored.TeamID)
	w.Name = cmp.Or(posted.Name, stored.Name)
	w.Description = cmp.Or(posted.Description, stored.Description)
	w.Version = cmp.Or(posted.Version, stored.Version)
	w.TimeoutSec = cmp.Or(posted.TimeoutSec, stored.TimeoutSec)
	w.CreatedBy = cmp.Or(posted.CreatedBy, stored.CreatedBy)
	if posted.PolicyOverride == "" {
		w.PolicyOverride = stored.PolicyOverride
	}
	w.InputSchema = keep(posted.InputSchema, stored.InputSchema)
	w.Parameters = keep(posted.Parameters, stored.Parameters)
	w.Config = keep(posted.Config, stored.Config)
	if posted.Steps == nil {
		w.Steps = stored.Steps
	}
	return &w
}

// keep answers what was posted, an empty object or list too, unless it is none.
func keep(posted, stored JSON) JSON {
	if posted == nil {
		return stored
	}
	return posted
}
