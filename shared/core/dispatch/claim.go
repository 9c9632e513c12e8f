package dispatch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/policy"
)

// ErrRefused says that a job is not to be had: claimed by somebody else, cancelled, ended, past its deadline, or not this worker's.
var ErrRefused = errors.New("dispatch: claim refused")

// Refusal tells why a claim was refused, and whether the ticket is of any use to another worker.
type Refusal struct {
	// Keep says that another worker may still claim with the same ticket: the job waits, but not for this worker.
	Keep bool
	// Tenant, Pool and Target are the job's, when Keep is set: who may claim it.
	Tenant, Pool, Target string
}

func (*Refusal) Error() string { return ErrRefused.Error() }

// Is makes errors.Is(err, ErrRefused) hold.
func (*Refusal) Is(target error) bool { return target == ErrRefused }

// Claimed is a job handed to a worker.
type Claimed struct {
	Record  *job.Record
	Request *agentv1.JobRequest
}

// Claim hands a job to a worker for one attempt. Pools and tenant are those of the worker's credential. Where the claim is not possible
// it is a *Refusal; any other error leaves everything as it was, and the ticket good.
func (d *Dispatcher) Claim(ctx context.Context, id identity.Identity, workerID, delivery string, t Ticket) (*Claimed, error) {
	now := d.now()
	r, err := d.Jobs.Claim(ctx, job.Claim{
		ID: t.Job, Attempt: t.Attempt, Worker: workerID, WorkerTenant: id.Home, CrossTenant: id.CrossTenant, Pools: id.Pools,
		Delivery: delivery,
	}, d.micros.Micros(now))
	if stale, ok := errors.AsType[*job.StaleError](err); ok {
		return nil, refusal(stale.Current, t)
	}
	if err != nil {
		return nil, err
	}
	body, err := d.Jobs.Body(ctx, r, now)
	if err != nil {
		return nil, fmt.Errorf("claimed job %s: %w", t.Job, err)
	}
	return &Claimed{Record: r, Request: packet(r, body)}, nil
}

// Again makes the packet of a job once more for the worker that holds it.
func (d *Dispatcher) Again(ctx context.Context, r *job.Record) (*Claimed, error) {
	body, err := d.Jobs.Body(ctx, r, d.now())
	if err != nil {
		return nil, err
	}
	return &Claimed{Record: r, Request: packet(r, body)}, nil
}

// Release gives back a claimed job that could not be brought to its worker: its next attempt, with another.
func (d *Dispatcher) Release(ctx context.Context, r *job.Record) error {
	return d.again(ctx, r, d.now())
}

// Reroute finds another worker for a targeted job whose worker is not where it was.
func (d *Dispatcher) Reroute(ctx context.Context, r *job.Record) error {
	return d.sendAgain(ctx, r, d.now())
}

func refusal(r *job.Record, t Ticket) *Refusal {
	if r == nil || r.State != job.Scheduled || r.Attempts != t.Attempt-1 {
		return &Refusal{}
	}
	return &Refusal{Keep: true, Tenant: r.Tenant, Pool: r.Pool, Target: r.Target}
}

// Environment names that only the plane sets; a worker reads its constraints from them.
const (
	EnvAttempt           = "CORDUM_ATTEMPT"
	EnvConstraints       = "CORDUM_POLICY_CONSTRAINTS"
	EnvRedactionLevel    = "CORDUM_REDACTION_LEVEL"
	EnvMaxArtifactBytes  = "CORDUM_MAX_ARTIFACT_BYTES"
	EnvMaxConcurrentJobs = "CORDUM_MAX_CONCURRENT_JOBS"
	EnvMaxRetries        = "CORDUM_MAX_RETRIES"
)

// packet is the request as the worker gets it: the stored one, with the attempt and what the decision adds.
func packet(r *job.Record, b *job.Body) *agentv1.JobRequest {
	request := proto.CloneOf(b.Request)
	if request.Env == nil {
		request.Env = map[string]string{}
	}
	request.Env[EnvAttempt] = strconv.FormatInt(r.Attempts, 10)
	if c := r.Decision.Constraints; c != nil {
		maps.Copy(request.GetEnv(), constraintEnv(c))
		if ms := c.Budgets.MaxRuntimeMS; ms > 0 {
			if request.GetBudget() == nil {
				request.Budget = &agentv1.Budget{}
			}
			request.Budget.DeadlineMs = lowest(request.GetBudget().GetDeadlineMs(), ms)
		}
	}
	return request
}

func constraintEnv(c *policy.Constraints) map[string]string {
	env := map[string]string{}
	text, err := protojson.Marshal(WireConstraints(c))
	if err == nil {
		env[EnvConstraints] = string(text)
	}
	for name, n := range map[string]int64{
		EnvMaxArtifactBytes: c.Budgets.MaxArtifactBytes, EnvMaxConcurrentJobs: c.Budgets.MaxConcurrentJobs,
		EnvMaxRetries: c.Budgets.MaxRetries,
	} {
		if n > 0 {
			env[name] = strconv.FormatInt(n, 10)
		}
	}
	if c.RedactionLevel != "" {
		env[EnvRedactionLevel] = c.RedactionLevel
	}
	return env
}

// WireConstraints is the CAP form of constraints; nil for none.
func WireConstraints(c *policy.Constraints) *agentv1.PolicyConstraints {
	if c == nil {
		return nil
	}
	return &agentv1.PolicyConstraints{
		Budgets: &agentv1.BudgetConstraints{
			MaxRuntimeMs: c.Budgets.MaxRuntimeMS, MaxRetries: int32(c.Budgets.MaxRetries),
			MaxArtifactBytes: c.Budgets.MaxArtifactBytes, MaxConcurrentJobs: int32(c.Budgets.MaxConcurrentJobs),
		},
		Sandbox: &agentv1.SandboxProfile{
			Isolated: c.Sandbox.Isolated, NetworkAllowlist: c.Sandbox.NetworkAllowlist,
			FsReadOnly: c.Sandbox.FSReadOnly, FsReadWrite: c.Sandbox.FSReadWrite,
		},
		Toolchain: &agentv1.ToolchainConstraints{AllowedTools: c.Toolchain.AllowedTools, AllowedCommands: c.Toolchain.AllowedCommands},
		Diff: &agentv1.DiffConstraints{
			MaxFiles: int32(c.Diff.MaxFiles), MaxLines: int32(c.Diff.MaxLines), DenyPathGlobs: c.Diff.DenyPathGlobs,
		},
		RedactionLevel: c.RedactionLevel,
	}
}
