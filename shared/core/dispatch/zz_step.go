package dispatch

import (
	"context"
	"encoding/json"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/workflow/inbox"
	"github.com/cordum-serverless/cordum/shared/platform/store"
	"strings"
)

type StepJob struct {
	ID, RunID, WorkflowID, StepID                                        string
	Gate                                                                 bool
	Topic, Priority, Adapter, MemoryID, Tenant, Team, Principal          string
	Payload                                                              json.RawMessage
	Env, Labels                                                          map[string]string
	MetaLabels                                                           map[string]string
	ActorID, ActorType, IdempotencyKey, PackID, Capability               string
	RiskTags, Requires                                                   []string
	DeadlineMS                                                           int64
}

func (d *Dispatcher) CancelStep(ctx context.Context, tenant, jobID, reason string) error { return nil }

func (d *Dispatcher) SubmitStep(ctx context.Context, s StepJob) (Receipt, error) {
	r := &job.Record{ID: s.ID, Trace: s.RunID, Tenant: s.Tenant}
	req := &agentv1.JobRequest{JobId: s.ID, Topic: s.Topic, WorkflowId: s.WorkflowID, TenantId: s.Tenant, Env: s.Env, Labels: s.Labels, PrincipalId: s.Principal,
		ContextPtr: job.ContextPointer(s.ID), MemoryId: s.MemoryID, Meta: &agentv1.JobMetadata{TenantId: s.Tenant}}
	return d.accept(ctx, r, req, s.Payload, s.Team, nil, d.now())
}

func (d *Dispatcher) ended(r *job.Record) []store.Op {
	run, _, ok := strings.Cut(r.ID, ":")
	if !ok {
		return nil
	}
	return []store.Op{inbox.Put(run, inbox.Event{Kind: inbox.JobEnded, Job: r.ID}, d.now())}
}
