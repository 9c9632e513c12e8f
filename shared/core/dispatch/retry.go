package dispatch

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"
	"time"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/dlq"
	"github.com/cordum-serverless/cordum/shared/core/event"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/workflow/inbox"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Letters answers the dead letters.
func (d *Dispatcher) Letters() *dlq.Store {
	return &dlq.Store{Table: d.Jobs.Table, Shards: d.Jobs.Shards}
}

// Retry submits a dead job again: a new job with the input, the labels and the metadata of the old one, without its approval and its idempotency
// key, decided and routed like any submission. The dead letter goes in the transaction that makes the new job, so that of several retries one
// succeeds. A message that could not be handled is put back into its queue; it answers without a job.
//
// Faults: NotFound for no dead letter, Invalid when nobody knows the topic, Limited (queue full): the dead letter stays.
func (d *Dispatcher) Retry(ctx context.Context, id identity.Identity, jobID string) (Receipt, error) {
	now := d.now()
	letter, err := d.Letters().Get(ctx, id.Tenant, jobID, now)
	if err != nil {
		return Receipt{}, err
	}
	if letter.Queue != "" {
		return Receipt{}, d.putBack(ctx, id, letter)
	}
	request, payload, err := d.retried(ctx, letter, now)
	if err != nil {
		return Receipt{}, err
	}
	if strings.TrimSpace(request.GetTopic()) == "" {
		return Receipt{}, fault.New(fault.Invalid, "missing topic for retry")
	}
	r := &job.Record{ID: retryID(letter), Trace: "dlq-retry-" + letter.JobID, Tenant: letter.Tenant, FailedAt: letter.FirstAt, Submitter: id.KeyID}
	request.JobId = r.ID
	request.ContextPtr = ""
	if payload != nil {
		request.ContextPtr = job.ContextPointer(r.ID)
	}
	entry := d.letterEntry(id, "retry", letter)
	entry.After = r.ID
	rc, err := d.accept(ctx, r, request, payload, letter.Team, audit.Caused("retry", id), now, letter.Delete(), entry.Op())
	if errors.Is(err, errExtra) {
		return Receipt{}, dlq.ErrUnknown
	}
	return rc, err
}

// DeleteLetter removes a tenant's dead letter of a job; one that is not there is no error, and nothing happens.
func (d *Dispatcher) DeleteLetter(ctx context.Context, id identity.Identity, jobID string) error {
	return d.Letters().Remove(ctx, id.Tenant, jobID, d.now(), func(e dlq.Entry) store.Op { return d.letterEntry(id, "delete", e).Op() })
}

// letterEntry is the audit entry of what somebody does with a dead letter.
func (d *Dispatcher) letterEntry(id identity.Identity, action string, e dlq.Entry) audit.Entry {
	entry := audit.By(id, d.micros.Micros(d.now()), action, "dlq", e.JobID)
	entry.Before = e.Status
	return entry
}

// retryID is the same for every retry of one dead letter.
func retryID(e dlq.Entry) string {
	return e.JobID + "-retry-" + job.Mark(e.JobID+"\x00"+strconv.FormatInt(e.CreatedAt, 10))
}

// retried makes the request of a retry: the stored one, or, when the job has gone, what the dead letter knows. payload is nil when the input
// has gone.
func (d *Dispatcher) retried(ctx context.Context, e dlq.Entry, now time.Time) (request *agentv1.JobRequest, payload []byte, err error) {
	request = &agentv1.JobRequest{
		Topic: e.Topic, TenantId: e.Tenant, PrincipalId: e.Principal, Env: map[string]string{"tenant_id": e.Tenant, "team_id": e.Team},
		Meta: &agentv1.JobMetadata{TenantId: e.Tenant, ActorId: e.Principal},
	}
	old, err := d.Jobs.Load(ctx, e.Tenant, e.JobID, now)
	switch {
	case fault.Is(err, fault.NotFound):
	case err != nil:
		return nil, nil, err
	default:
		body, err := d.Jobs.Body(ctx, old, now)
		if err != nil {
			return nil, nil, err
		}
		request, payload = body.Request, body.Context
	}
	retryLabels := map[string]string{"retry": "true", "dlq_entry": e.JobID, "retry_of_job": e.JobID}
	request.Labels = relabel(request.GetLabels(), retryLabels)
	if request.GetMeta() == nil {
		request.Meta = &agentv1.JobMetadata{TenantId: e.Tenant}
	}
	request.Meta.Labels = relabel(request.GetMeta().GetLabels(), retryLabels)
	request.Meta.IdempotencyKey = ""
	if request.GetEnv() == nil {
		request.Env = map[string]string{}
	}
	request.Env["retry_of_job"] = e.JobID
	if request.GetMemoryId() == "mem:"+e.JobID {
		request.MemoryId = "mem:" + retryID(e)
		request.Env["memory_id"] = request.GetMemoryId()
	}
	return request, payload, nil
}

// relabel keeps a job's labels but for what only the plane sets, such as the traces of an approval, and adds others.
func relabel(labels, more map[string]string) map[string]string {
	out := make(map[string]string, len(labels)+len(more))
	for name, v := range labels {
		if !reservedLabel(name) {
			out[name] = v
		}
	}
	maps.Copy(out, more)
	return out
}

// putBack sends a message that could not be handled to its queue again.
func (d *Dispatcher) putBack(ctx context.Context, id identity.Identity, e dlq.Entry) error {
	m := queue.Message{Body: e.Message}
	if e.Queue == resources.Events || e.Queue == resources.Runs {
		m.Group, m.Dedup = e.JobID, e.JobID+strconv.FormatInt(e.CreatedAt, 10)
	}
	if err := d.Queues.Send(ctx, e.Queue, m); err != nil {
		return fault.Wrap(fault.Unavailable, err, "queue %s is not available", e.Queue)
	}
	return d.Letters().Remove(ctx, e.Tenant, e.JobID, d.now(), func(e dlq.Entry) store.Op {
		entry := d.letterEntry(id, "retry", e)
		entry.After = e.Queue
		return entry.Op()
	})
}

// replaceAfter is how long a ticket waits that takes the place of one that was received too often.
const replaceAfter = 30 * time.Second

// replace sends a ticket anew, one for one, while its job waits for that attempt.
func (d *Dispatcher) replace(ctx context.Context, t Ticket) error {
	r, err := d.Jobs.Load(ctx, job.AnyTenant, t.Job, d.now())
	switch {
	case fault.Is(err, fault.NotFound):
		return nil
	case err != nil:
		return err
	case t.Cancel || r.State != job.Scheduled || r.Attempts != t.Attempt-1 || r.Targeted: // a targeted job is routed anew when it is due
		return nil
	}
	m := t.message()
	m.Delay = replaceAfter
	return d.Queues.Send(ctx, resources.Pool(r.Pool), m)
}

// Unhandled takes a message that was received too often on its queue. What it asks for is done by other means where that is possible; the rest
// becomes a dead letter, which an operator can retry or delete.
func (d *Dispatcher) Unhandled(ctx context.Context, messageID, body string) error {
	if t, ok := ParseTicket(body); ok {
		d.Log.WarnContext(ctx, "a ticket was received too often; its job is sent again if it still waits", "job", t.Job)
		return d.replace(ctx, t)
	}
	if w, ok := ParseWake(body); ok { // the sweep finds what is due
		d.Log.WarnContext(ctx, "a wake-up was received too often; the sweep does it", "job", w.Job, "worker", w.Worker)
		return nil
	}
	if w, ok := inbox.ParseWake(body); ok { // likewise
		d.Log.WarnContext(ctx, "a wake-up of a run was received too often; the sweep does it", "run", w.Run)
		return nil
	}
	if m, ok := event.ParseBehind(body); ok { // likewise
		d.Log.WarnContext(ctx, "a connection could not be caught up; the sweep does it", "connection", m.Connection)
		return nil
	}
	e := dlq.Entry{
		JobID: dlq.MessageID(messageID), Tenant: identity.DefaultTenant, Status: job.WireStatus(job.Failed), ReasonCode: dlq.Undeliverable,
		Reason: "a message could not be handled and was received too often", LastState: job.Failed, CreatedAt: d.micros.Micros(d.now()),
		Queue: resources.Inbox, Message: body,
	}
	if ev, ok := event.ParseEvent(body); ok {
		e.Queue, e.Tenant = resources.Events, ev.Tenant
	} else if p, err := ParsePacket(body); err == nil {
		if tenant, _, ok := parseToken(p.Packet.GetAuthToken()); ok {
			e.Tenant = tenant
		}
	}
	e.FirstAt = e.CreatedAt
	d.Log.ErrorContext(ctx, "a message could not be handled and is a dead letter now", "letter", e.JobID, "queue", e.Queue)
	return d.Letters().Add(ctx, e)
}
