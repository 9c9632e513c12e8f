package dispatch

import (
	"context"
	"strings"
	"time"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	"github.com/cordum-serverless/cordum/shared/core/policy/rate"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
)

// terms are the policy and the configuration in force for a job.
type terms struct {
	head      head.Head
	settings  *schedule.Settings
	effective *config.Effective
	// limits are those of the effective configuration; where that has none that can be read, the last valid ones of system/default.
	limits schedule.Limits
}

// ruling is what the policy says about a job, and what it says it by.
type ruling struct {
	*terms
	verdict  policy.Decision
	decision job.Decision
}

// terms answers what is in force. An error means that no decision can be made now.
func (d *Dispatcher) terms(ctx context.Context, r *job.Record, request *agentv1.JobRequest) (*terms, error) {
	settings, err := d.Settings.Current(ctx)
	if err != nil {
		return nil, err
	}
	h, err := d.Policy.Current(ctx)
	if err != nil {
		return nil, err
	}
	effective, err := d.Config.At(ctx, h.Revision, subject(r, request))
	if err != nil {
		return nil, err
	}
	t := &terms{head: h, settings: settings, effective: effective, limits: settings.Limits}
	if effective.Limits != nil {
		t.limits = *effective.Limits
	}
	return t, nil
}

// judge asks the policy about a job. An error means that no decision can be made now.
func (d *Dispatcher) judge(ctx context.Context, t *terms, r *job.Record, request *agentv1.JobRequest, now time.Time) (*ruling, error) {
	h := t.head
	asked := policyRequest(r, request)
	asked.Effective, asked.Override = t.effective.Safety, t.effective.Override
	var err error
	if asked.Counts, err = d.counted(r)(ctx, h.Policy.Buckets(asked), now); err != nil {
		return nil, err
	}
	j := &ruling{terms: t, verdict: h.Policy.Decide(asked)}
	j.decision = decision(j.verdict, request, now)
	if g := r.Grant; g != nil && g.Snapshot == h.Policy.Snapshot() && g.JobHash == job.Hash(request) && !restricted(h.Policy, asked, j.verdict) {
		j.decision = g.Decision(j.decision)
		j.verdict.Verdict = policy.Allow
		if g.Constraints != nil {
			j.verdict.MaxConcurrentJobs = lowest(g.Constraints.Budgets.MaxConcurrentJobs, j.verdict.MaxConcurrentJobs)
		}
	}
	return j, nil
}

// restricted says whether it is the effective configuration that denies, or the workflow, and not the rules of the policy. Those have been asked
// once, before the approval, and may answer otherwise by now: where they count jobs.
func restricted(p *policy.Policy, asked *policy.Request, v policy.Decision) bool {
	if asked.Effective == nil && asked.Override == nil || v.Verdict != policy.Deny {
		return false
	}
	rules := *asked
	rules.Effective, rules.Override = nil, nil
	byRules := p.Decide(&rules)
	return byRules.Verdict != policy.Deny || byRules.Reason != v.Reason
}

// allows says whether the job may run.
func (j *ruling) allows() bool {
	return j.verdict.Verdict == policy.Allow || j.verdict.Verdict == policy.AllowWithConstraints
}

// limit is how many active jobs the tenant may have with this one; 0 is no limit.
func (j *ruling) limit() int64 {
	return lowest(j.verdict.MaxConcurrentJobs, int64(j.limits.MaxConcurrentJobs))
}

// counts says whether a job that may run is one of its tenant's that are counted.
func (j *ruling) counts(tenant string) bool { return j.limit() > 0 || j.head.Policy.CountsJobs(tenant) }

// counted answers what the velocities of the policy ask for. A job is counted once, when it is judged for the first time; it does not count
// against itself.
func (d *Dispatcher) counted(r *job.Record) rate.Asked {
	counter := &rate.Counter{Table: d.Jobs.Table}
	if r.PolicyRevision == 0 {
		return counter.Count
	}
	return counter.Beside(time.UnixMicro(r.CreatedAt))
}

// subject is whose configuration holds for a job.
func subject(r *job.Record, request *agentv1.JobRequest) config.Subject {
	step, _, _ := strings.Cut(request.GetEnv()["step_id"], "[") // a child of a step is of that step
	return config.Subject{Tenant: r.Tenant, Team: r.Team, Workflow: request.GetWorkflowId(), Step: step}
}
