package dispatch

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"strings"

	"google.golang.org/protobuf/proto"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
)

// Remediate submits what the last decision about a job suggests instead: a new job in the same trace, whose parent is the first, with its input,
// decided and routed like any submission. Every call makes one, unless it has a key that was used before for the same job: then it answers
// the first. remedy may be "" where there is one suggestion.
//
// Faults: NotFound for the job or the remediation, Conflict when there is none, Invalid when one must be named, Limited (queue full), Unavailable
// (nothing was stored).
func (d *Dispatcher) Remediate(ctx context.Context, id identity.Identity, jobID, remedy, key string) (Receipt, error) {
	now := d.now()
	of, err := d.Jobs.Full(ctx, id.Tenant, jobID, now)
	if err != nil {
		return Receipt{}, err
	}
	chosen, err := remediation(of.Decisions, strings.TrimSpace(remedy))
	if err != nil {
		return Receipt{}, err
	}
	r := &job.Record{ID: d.IDs.UUID(), Trace: of.Trace, Tenant: id.Tenant, Submitter: id.KeyID, Remedy: cmp.Or(chosen.ID, "unnamed")}
	if key = strings.TrimSpace(key); key != "" {
		r.ID = ids.Named("remediation", id.Tenant, of.ID, key)
		first, err := d.Jobs.Load(ctx, id.Tenant, r.ID, now)
		if err == nil {
			return receipt(first), nil
		}
		if !fault.Is(err, fault.NotFound) {
			return Receipt{}, fault.Wrap(fault.Internal, err, "idempotency reservation failed")
		}
	}
	entry := audit.By(id, d.micros.Micros(now), "remediate", "job", of.ID)
	entry.ResourceName, entry.Message, entry.Before, entry.After = of.Topic, "remediation "+chosen.ID, string(of.State), "job "+r.ID
	rc, err := d.accept(ctx, r, remedied(of, chosen, r.ID), of.Body.Context, of.Team, audit.Caused("remediate", id), now, entry.Op())
	if errors.Is(err, errExtra) { // an entry of that id is there: written by this call, whose answer was lost
		return Receipt{}, fault.Wrap(fault.Unavailable, err, "failed to persist job")
	}
	return rc, err
}

// remediation answers the one that is asked for, of those of the newest decision.
func remediation(decisions []job.Decision, id string) (policy.Remediation, error) {
	var all []policy.Remediation
	if len(decisions) > 0 {
		all = decisions[0].Remediations
	}
	switch {
	case len(all) == 0:
		return policy.Remediation{}, fault.New(fault.Conflict, "no remediations available")
	case id == "" && len(all) == 1:
		return all[0], nil
	case id == "":
		return policy.Remediation{}, fault.New(fault.Invalid, "remediation_id required")
	}
	for _, r := range all {
		if r.ID == id {
			return r, nil
		}
	}
	return policy.Remediation{}, fault.New(fault.NotFound, "remediation not found")
}

// remedied makes the request of a remediation.
func remedied(of *job.Full, r policy.Remediation, id string) *agentv1.JobRequest {
	request := proto.CloneOf(of.Body.Request)
	request.JobId, request.ParentJobId, request.ContextPtr = id, of.ID, ""
	if of.Body.Context != nil {
		request.ContextPtr = job.ContextPointer(id)
	}
	if request.GetMeta() == nil {
		request.Meta = &agentv1.JobMetadata{TenantId: of.Tenant}
	}
	request.Meta.IdempotencyKey = ""
	if topic := strings.TrimSpace(r.ReplacementTopic); topic != "" {
		request.Topic = topic
	}
	if capability := strings.TrimSpace(r.ReplacementCapability); capability != "" {
		request.Meta.Capability = capability
	}
	labels := relabel(request.GetLabels(), map[string]string{"remediation_of": of.ID, "remediation_id": r.ID})
	for name, v := range r.AddLabels {
		if name = strings.TrimSpace(name); name != "" && !reservedLabel(name) {
			labels[name] = v
		}
	}
	for _, name := range r.RemoveLabels {
		delete(labels, strings.TrimSpace(name))
	}
	request.Labels, request.Meta.Labels = labels, maps.Clone(labels)
	if request.GetMemoryId() == "mem:"+of.ID {
		request.MemoryId = "mem:" + id
		request.Env = maps.Clone(request.GetEnv())
		if request.Env == nil {
			request.Env = map[string]string{}
		}
		request.Env["memory_id"] = request.GetMemoryId()
	}
	return request
}
