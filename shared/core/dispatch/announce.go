package dispatch

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// Who packets are from, as clients know it.
const (
	senderGateway   = "api-gateway"
	senderSubmit    = "api-gateway-http"
	senderScheduler = "cordum-scheduler"
	senderEngine    = "workflow-engine"
)

const protocolVersion = 1

// announce tells clients of a job that was submitted, or that a decision has moved since.
func (d *Dispatcher) announce(ctx context.Context, r *job.Record, request *agentv1.JobRequest) {
	p := &agentv1.BusPacket{Payload: &agentv1.BusPacket_JobRequest{JobRequest: approved(r, request)}}
	d.Events.Job(ctx, r, 0, envelope(r, senderSubmit, d.now(), p))
}

// Alert tells the operators of a tenant what happened; component says to what, and code to which of it.
func (d *Dispatcher) Alert(ctx context.Context, tenant, message, component, code string) {
	d.Events.Alert(ctx, tenant, component+"/"+code, &agentv1.BusPacket{
		SenderId: senderGateway, CreatedAt: timestamppb.New(d.now()), ProtocolVersion: protocolVersion,
		Payload: &agentv1.BusPacket_Alert{Alert: &agentv1.SystemAlert{Level: "INFO", Message: message, Component: component, Code: code}},
	})
}

// ConfigChanged tells the operators of a tenant that a document of the configuration, "team/blue", is another one; of the system's, those of the default tenant,
// whose the plane is.
func (d *Dispatcher) ConfigChanged(ctx context.Context, tenant, document string) {
	if strings.HasPrefix(document, config.SystemScope+"/") {
		tenant = identity.DefaultTenant
	}
	d.Alert(ctx, tenant, "config changed", "config", document)
}

// bury sends the end of a job without success to the dead-letter queue. The dead letter itself is stored already: what follows, such as the
// live event, may come late or, if the queue is out of reach, never.
func (d *Dispatcher) bury(ctx context.Context, r *job.Record) {
	if err := d.Queues.Send(ctx, resources.DeadLetters, DeadNotice{Dead: r.ID}.message()); err != nil {
		d.Log.WarnContext(ctx, "dead letter not announced", "job", r.ID, "error", err)
	}
}

// DeadNotice is a message of the dead-letter queue that the plane itself sends: this job ended without success.
type DeadNotice struct {
	Dead string `json:"dead"`
}

// ParseDeadNotice reads a message of the dead-letter queue; ok is false for one that is something else: a message that was received too often.
func ParseDeadNotice(body string) (n DeadNotice, ok bool) {
	err := json.Unmarshal([]byte(body), &n)
	return n, err == nil && n.Dead != ""
}

func (n DeadNotice) message() queue.Message {
	b, err := json.Marshal(n)
	if err != nil {
		panic("dispatch: dead notice: " + err.Error())
	}
	return queue.Message{Body: string(b)}
}

// Buried tells clients of a job that ended without success.
func (d *Dispatcher) Buried(ctx context.Context, r *job.Record) {
	p := &agentv1.BusPacket{Payload: &agentv1.BusPacket_JobResult{JobResult: resultOf(r)}}
	d.Events.Job(ctx, r, 1, envelope(r, senderScheduler, d.now(), p))
}

// resultOf is the end of a job in the words of the wire.
func resultOf(r *job.Record) *agentv1.JobResult {
	return &agentv1.JobResult{
		JobId: r.ID, Status: agentv1.JobStatus(agentv1.JobStatus_value[job.WireStatus(r.State)]), ResultPtr: r.ResultPtr, WorkerId: r.Worker,
		ExecutionMs: r.ExecutionMS, ErrorCode: r.ErrorCode, ErrorMessage: r.ErrorMessage, ArtifactPtrs: r.Artifacts,
	}
}

func cancelPacket(r *job.Record, by string, now time.Time) *agentv1.BusPacket {
	return envelope(r, by, now, &agentv1.BusPacket{Payload: &agentv1.BusPacket_JobCancel{JobCancel: &agentv1.JobCancel{
		JobId: r.ID, Reason: r.CancelReason, RequestedBy: by,
	}}})
}

// envelope fills in what every packet about a job has: the trace of its submission, whoever sends it.
func envelope(r *job.Record, sender string, now time.Time, p *agentv1.BusPacket) *agentv1.BusPacket {
	p.TraceId, p.SenderId, p.CreatedAt, p.ProtocolVersion = r.Trace, sender, timestamppb.New(now), protocolVersion
	return p
}

// fromWorker is a packet as if the job's worker had sent it to clients.
func (d *Dispatcher) fromWorker(r *job.Record, p *agentv1.BusPacket) *agentv1.BusPacket {
	return envelope(r, r.Worker, d.now(), p)
}

// Beating tells a tenant's clients of a worker's heartbeat.
func (d *Dispatcher) Beating(ctx context.Context, tenant string, beat *agentv1.Heartbeat) {
	d.Events.Worker(ctx, tenant, beat.GetWorkerId(), &agentv1.BusPacket{
		SenderId: beat.GetWorkerId(), CreatedAt: timestamppb.New(d.now()), ProtocolVersion: protocolVersion,
		Payload: &agentv1.BusPacket_Heartbeat{Heartbeat: beat},
	})
}
