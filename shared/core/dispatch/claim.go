package dispatch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
)

// ErrRefused says that a job is not to be had: claimed by somebody else, cancelled, ended, past its deadline, or not this worker's.
var ErrRefused = errors.New("dispatch: claim refused")

// Refusal tells why a claim was refused, and whether the ticket is of any use to another worker.
type Refusal struct {
	// Keep says that another worker may still claim with the same ticket: the job waits, but not for this worker.
	Keep bool
	// Tenant is the job's, "" when there is none.
	Tenant string
	// Pool and Target are the job's, when Keep is set: who may claim it.
	Pool, Target string
}

func (*Refusal) Error() string { return ErrRefused.Error() }

// Is makes errors.Is(err, ErrRefused) hold.
func (*Refusal) Is(target error) bool { return target == ErrRefused }

// Claimed is a job handed to a worker.
type Claimed struct {
	Record  *job.Record
	Request *agentv1.JobRequest
	// Before says that an earlier call made the claim.
	Before bool
}

// Claimant is who claims a job.
type Claimant struct {
	Worker string
	// Delivery names the queue of the container that holds the worker's stream; "" when it has none.
	Delivery string
	// Key names the claim: of two of one worker for one attempt, with different keys, one is refused. "" for none.
	Key string
}

// Claim hands a job to a worker for one attempt. Pools and tenant are those of the worker's credential. Where the claim is not possible
// it is a *Refusal. After any other error the job may be the worker's or not: who asks again for the same attempt, as the same claimant, is told.
func (d *Dispatcher) Claim(ctx context.Context, id identity.Identity, by Claimant, t Ticket) (*Claimed, error) {
	if len(id.Pools) == 0 { // an administrator's key, say
		return nil, fault.New(fault.Denied, "this credential may serve no pool")
	}
	now := d.now()
	revision, err := d.Policy.Revision(ctx)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "%s", reasonUnavailable)
	}
	claim := job.Claim{
		ID: t.Job, Attempt: t.Attempt, Worker: by.Worker, WorkerTenant: id.Home, CrossTenant: id.CrossTenant, Pools: id.Pools,
		Delivery: by.Delivery, Key: by.Key, Within: schedule.DefaultDispatch.Microseconds(), PolicyRevision: revision,
	}
	var timeouts schedule.Timeouts
	if settings, err := d.Settings.Current(ctx); err == nil {
		timeouts = settings.Timeouts
		claim.Within = timeouts.HeldUsually().Microseconds()
	}
	r, err := d.claim(ctx, claim, timeouts, now)
	_, before := errors.AsType[*job.StaleError](err)
	if err != nil {
		if r, err = d.hasAlready(ctx, claim, err); err != nil {
			return nil, err
		}
	}
	body, err := d.Jobs.Body(ctx, r, now)
	if err != nil {
		return nil, fmt.Errorf("claimed job %s: %w", t.Job, err)
	}
	return d.claimed(ctx, r, body, revision, before)
}

// claim is the write, once more where the job's entry in the due index has to be moved, and after a new decision where the policy has moved since
// the last.
func (d *Dispatcher) claim(ctx context.Context, claim job.Claim, timeouts schedule.Timeouts, now time.Time) (*job.Record, error) {
	micros := d.micros.Micros(now)
	r, err := d.Jobs.Claim(ctx, claim, micros)
	stale, ok := errors.AsType[*job.StaleError](err)
	if !ok || stale.Current == nil || !stale.Current.MayClaim(claim, micros) {
		return r, err
	}
	current := stale.Current
	if current.PolicyRevision != claim.PolicyRevision {
		if current, err = d.reconsider(ctx, current, now); err != nil {
			return nil, err
		}
		if !current.MayClaim(claim, micros) {
			return nil, &job.StaleError{Current: current}
		}
		claim.PolicyRevision = current.PolicyRevision
	}
	claim.DueBy = due(current, now.Add(timeouts.Held(current.Topic)))
	if r, err = d.Jobs.Claim(ctx, claim, micros); err == nil {
		d.wake(ctx, r)
	}
	return r, err
}

// claimed is a job with all that its worker gets.
func (d *Dispatcher) claimed(ctx context.Context, r *job.Record, b *job.Body, revision int64, before bool) (*Claimed, error) {
	effective, err := d.Config.At(ctx, revision, subject(r, b.Request))
	if err != nil {
		return nil, fmt.Errorf("claimed job %s: %w", r.ID, err)
	}
	request := packet(r, b)
	if effective.Workers != nil {
		request.Env[EnvEffectiveConfig] = string(effective.Workers)
	}
	return &Claimed{Record: r, Request: request, Before: before}, nil
}

// hasAlready answers the job where a claim failed although it was made: by a call before, or by this one, whose answer was lost.
func (d *Dispatcher) hasAlready(ctx context.Context, c job.Claim, failed error) (*job.Record, error) {
	if stale, ok := errors.AsType[*job.StaleError](failed); ok {
		if stale.Current != nil && stale.Current.Has(c) {
			return stale.Current, nil
		}
		return nil, refusal(stale.Current, Ticket{Job: c.ID, Attempt: c.Attempt})
	}
	if r, err := d.Jobs.Load(ctx, job.AnyTenant, c.ID, d.now()); err == nil && r.Has(c) {
		return r, nil
	}
	return nil, failed
}

// Packet is the job as it goes to its worker.
func (c *Claimed) Packet(now time.Time) *agentv1.BusPacket {
	return envelope(c.Record, senderScheduler, now, &agentv1.BusPacket{Payload: &agentv1.BusPacket_JobRequest{JobRequest: c.Request}})
}

// CancelPacket asks the worker of a job to stop.
func CancelPacket(r *job.Record, now time.Time) *agentv1.BusPacket {
	return cancelPacket(r, senderGateway, now)
}

// Again makes the packet of a job once more for the worker that holds it.
func (d *Dispatcher) Again(ctx context.Context, r *job.Record) (*Claimed, error) {
	revision, err := d.Policy.Revision(ctx)
	if err != nil {
		return nil, err
	}
	body, err := d.Jobs.Body(ctx, r, d.now())
	if err != nil {
		return nil, err
	}
	return d.claimed(ctx, r, body, revision, false)
}

// Release gives back a claimed job that could not be brought to its worker: its next attempt, with another.
func (d *Dispatcher) Release(ctx context.Context, r *job.Record) error {
	return d.again(ctx, r, d.now())
}

// Reroute finds another worker for a targeted job whose worker is not where it was. While its worker is still on record there, the job is
// not sent there at once, only after the usual wait.
func (d *Dispatcher) Reroute(ctx context.Context, r *job.Record) error {
	to, err := d.routeAgain(ctx, r, d.now())
	if err != nil || to == nil || to.Delivery == r.Delivery {
		return err
	}
	return d.send(ctx, to)
}

func refusal(r *job.Record, t Ticket) *Refusal {
	if r == nil {
		return &Refusal{}
	}
	if r.State != job.Scheduled || r.Attempts != t.Attempt-1 {
		return &Refusal{Tenant: r.Tenant}
	}
	return &Refusal{Keep: true, Tenant: r.Tenant, Pool: r.Pool, Target: r.Target}
}

// Environment names that only the plane sets; a worker reads its constraints from them.
const (
	EnvAttempt           = "CORDUM_ATTEMPT"
	EnvEffectiveConfig   = "CORDUM_EFFECTIVE_CONFIG"
	EnvConstraints       = "CORDUM_POLICY_CONSTRAINTS"
	EnvRedactionLevel    = "CORDUM_REDACTION_LEVEL"
	EnvMaxArtifactBytes  = "CORDUM_MAX_ARTIFACT_BYTES"
	EnvMaxConcurrentJobs = "CORDUM_MAX_CONCURRENT_JOBS"
	EnvMaxRetries        = "CORDUM_MAX_RETRIES"
)

// packet is the request as the worker gets it: the stored one, with the attempt and what the decision adds.
func packet(r *job.Record, b *job.Body) *agentv1.JobRequest {
	request := proto.CloneOf(approved(r, b.Request))
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

// approved is a request with the labels of the approval that its job runs under; the request itself when it runs under none.
func approved(r *job.Record, request *agentv1.JobRequest) *agentv1.JobRequest {
	labels := r.Labels()
	if labels == nil {
		return request
	}
	request = proto.CloneOf(request)
	if request.Labels == nil {
		request.Labels = map[string]string{}
	}
	maps.Copy(request.GetLabels(), labels)
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
