package asking

import (
	"context"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	"github.com/cordum-serverless/cordum/shared/core/policy/rate"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

// Kernel answers questions by the policy in force. Whenever that, or the configuration in force, is out of reach the answer is the Unavailable
// fault "safety kernel unavailable".
type Kernel struct {
	Policy *head.Store
	Config *config.Resolver
	Rates  *rate.Counter
	Clock  clock.Clock
}

// NewKernel makes the kernel that asks what a dispatcher goes by.
func NewKernel(d *dispatch.Dispatcher) *Kernel {
	return &Kernel{Policy: d.Policy, Config: d.Config, Rates: &rate.Counter{Table: d.Jobs.Table}, Clock: d.Clock}
}

// Decide answers what would become of a job.
func (k *Kernel) Decide(ctx context.Context, q *Question) (*agentv1.PolicyCheckResponse, error) {
	return k.decide(ctx, q, k.Rates.Seen)
}

// Verdict is Decide in the words of package policy.
func (k *Kernel) Verdict(ctx context.Context, q *Question) (policy.Decision, error) {
	h, err := k.prepare(ctx, q, k.Rates.Seen)
	if err != nil {
		return policy.Decision{}, err
	}
	return h.Policy.Decide(&q.Request), nil
}

// Count decides, and counts the job in the windows of the velocities that ask for it. It does not count against itself.
func (k *Kernel) Count(ctx context.Context, q *Question) (*agentv1.PolicyCheckResponse, error) {
	return k.decide(ctx, q, k.Rates.Count)
}

func (k *Kernel) decide(ctx context.Context, q *Question, seen rate.Asked) (*agentv1.PolicyCheckResponse, error) {
	h, err := k.prepare(ctx, q, seen)
	if err != nil {
		return nil, err
	}
	return Answer(h.Policy.Decide(&q.Request), q.Request.JobID), nil
}

// Explain decides, and answers the way to the decision.
func (k *Kernel) Explain(ctx context.Context, q *Question) (*agentv1.ExplainResponse, error) {
	h, err := k.prepare(ctx, q, k.Rates.Seen)
	if err != nil {
		return nil, err
	}
	d, trace := h.Policy.Explain(&q.Request)
	return explanation(d, trace, q.Request.JobID), nil
}

// Snapshots answers the ids of the policies that are and were in force, the present one first, at most 10.
func (k *Kernel) Snapshots(ctx context.Context) ([]string, error) {
	snapshots, err := k.Policy.History(ctx)
	if err != nil {
		return nil, unavailable(err)
	}
	if len(snapshots) > 0 {
		return snapshots, nil
	}
	h, err := k.Policy.Current(ctx) // nothing was ever published, or by a release that kept no history
	if err != nil {
		return nil, unavailable(err)
	}
	return []string{h.Policy.Snapshot()}, nil
}

// prepare completes a question for the policy in force.
func (k *Kernel) prepare(ctx context.Context, q *Question, seen rate.Asked) (head.Head, error) {
	h, err := k.Policy.Current(ctx)
	if err != nil {
		return h, unavailable(err)
	}
	return h, k.complete(ctx, h.Policy, h.Revision, q, seen)
}

// Complete adds to a question what a policy asks beside the job itself: the effective configuration at a revision of the head, unless the
// question has its own, the rules of its workflow, and the present counts of velocities.
func (k *Kernel) Complete(ctx context.Context, p *policy.Policy, revision int64, q *Question) error {
	return k.complete(ctx, p, revision, q, k.Rates.Seen)
}

func (k *Kernel) complete(ctx context.Context, p *policy.Policy, revision int64, q *Question, seen rate.Asked) error {
	if q.Config == nil || q.Subject.Workflow != "" { // the rules of a workflow hold whatever configuration the question has
		effective, err := k.Config.At(ctx, revision, q.Subject)
		if err != nil {
			return unavailable(err)
		}
		q.Request.Effective, q.Request.Override = effective.Safety, effective.Override
	}
	if q.Config != nil {
		q.Request.Effective = policy.ParseEffective(q.Config)
	}
	counts, err := seen(ctx, p.Buckets(&q.Request), k.Clock.Now())
	if err != nil {
		return unavailable(err)
	}
	q.Request.Counts = counts
	return nil
}

func unavailable(cause error) error {
	return fault.Wrap(fault.Unavailable, cause, "safety kernel unavailable").Aloud()
}
