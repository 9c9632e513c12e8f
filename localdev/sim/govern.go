package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/policy"
)

// rules are what decides from one revision of the head on.
type rules struct {
	revision int64
	policy   *policy.Policy
	// restricted are tenants whose configuration denies job.work.
	restricted map[string]bool
}

// verdicts are what operators make of the rule that most jobs fall under.
var verdicts = []string{"allow", "deny", "require_approval", "throttle", "allow"}

// restriction is a configuration that denies what most jobs are.
const restriction = `{"safety":{"denied_topics":["job.work"]}}`

// publish has an operator change what decides: the policy, or the configuration of a tenant. Both are acknowledged before anything else happens.
func (w *world) publish() {
	restricted := maps.Clone(w.rules[len(w.rules)-1].restricted)
	var err error
	if w.draw(3) == 0 {
		t := tenants[w.draw(len(tenants))]
		restricted[t] = !restricted[t]
		err = w.configure(t, restricted[t])
	} else {
		err = w.rule(verdicts[w.draw(len(verdicts))], w.draw(2) == 0)
	}
	if err != nil {
		w.violated("publish: %v", err)
	}
	w.govern(restricted)
}

// rule puts another verdict in force; renamed gives the policy another name, also where its rules stay.
func (w *world) rule(verdict string, renamed bool) error {
	w.trace("publish: rest is %s", verdict)
	w.met("publish")
	text := strings.Replace(simPolicy, "decision: allow, reason: fine", "decision: "+verdict+", reason: fine", 1)
	if renamed {
		text += fmt.Sprintf("# %d\n", len(w.rules))
	}
	_, err := w.heads.SetBase(context.Background(), policy.Source{Content: []byte(text)}, nil, time.Now())
	return err
}

// configure restricts a tenant, or lifts that.
func (w *world) configure(tenant string, restricted bool) error {
	w.trace("configure %s, restricted: %t", tenant, restricted)
	w.met("configuration")
	documents := &config.Store{Table: w.platform.Table(), Blobs: w.platform.Blobs()}
	d, err := documents.Get(context.Background(), config.OrgScope, tenant)
	if err != nil {
		return err
	}
	if d.Data = json.RawMessage("{}"); restricted {
		d.Data = json.RawMessage(restriction)
	}
	_, err = documents.Put(context.Background(), d, time.Now())
	return err
}

// govern notes what decides from now on.
func (w *world) govern(restricted map[string]bool) {
	h, err := w.heads.Current(context.Background())
	if err != nil {
		w.violated("policy: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rules = append(w.rules, rules{h.Revision, h.Policy, restricted})
}

// begin notes that a process is about to claim with a message of a queue, if it is a ticket.
func (w *world) begin(p *process, body string) {
	t, ok := dispatch.ParseTicket(body)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	key := fmt.Sprintf("%s %s/%d", p.name, t.Job, t.Attempt)
	if _, there := w.began[key]; !there {
		w.began[key] = w.rules[len(w.rules)-1].revision
	}
}

// judgeClaim looks at a job that was just claimed: by a decision of a policy that was in force when the claim began, or later, and which allows it,
// or asks for the approval that the job has.
func (w *world) judgeClaim(p *process, r *job.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ticket := fmt.Sprintf("%s/%d", r.ID, r.Attempts)
	if began := w.began[p.name+" "+ticket]; r.PolicyRevision < began {
		w.violations = append(w.violations, fmt.Sprintf("%s was claimed by a decision of revision %d, when %d was in force", ticket, r.PolicyRevision, began))
	}
	for _, in := range w.rules {
		if in.revision != r.PolicyRevision {
			continue
		}
		q := &policy.Request{Topic: r.Topic, Tenant: r.Tenant}
		if in.restricted[r.Tenant] {
			q.Effective = policy.ParseEffective([]byte(restriction))
		}
		granted := r.Grant != nil && r.Grant.Snapshot == in.policy.Snapshot()
		v := in.policy.Decide(q).Verdict
		if v != policy.Allow && v != policy.AllowWithConstraints && (v != policy.RequireApproval || !granted) {
			w.violations = append(w.violations, fmt.Sprintf("%s was claimed under revision %d, which says %s", ticket, r.PolicyRevision, v))
		}
	}
}
