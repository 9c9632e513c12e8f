package dispatch

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/worker"
)

// Packet is a message of the inbox queue: what a worker without a stream says.
type Packet struct {
	// Attempt is the one that it speaks of, 0 when it does not say.
	Attempt int64
	Packet  *agentv1.BusPacket
}

// ParsePacket reads {"attempt": n, "packet": {...}}, or a bare packet, both with the packet as protobuf JSON.
func ParsePacket(body string) (Packet, error) {
	var m struct {
		Attempt int64           `json:"attempt"`
		Packet  json.RawMessage `json:"packet"`
	}
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		return Packet{}, fmt.Errorf("dispatch: not a packet: %w", err)
	}
	if m.Packet == nil {
		m.Packet = json.RawMessage(body)
	}
	p := Packet{Attempt: m.Attempt, Packet: &agentv1.BusPacket{}}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(m.Packet, p.Packet); err != nil {
		return Packet{}, fmt.Errorf("dispatch: not a packet: %w", err)
	}
	return p, nil
}

// NewToken makes the token of a worker without a stream: who it is, and a secret that its record has too.
func (d *Dispatcher) NewToken(tenant, workerID string) string {
	enc := base64.RawURLEncoding
	return strings.Join([]string{tokenKind, enc.EncodeToString([]byte(tenant)), enc.EncodeToString([]byte(workerID)), d.IDs.Hex(16)}, ".")
}

const tokenKind = "wt1"

// parseToken says whom a token names; whether it is theirs, only their record knows.
func parseToken(token string) (tenant, workerID string, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 4 || parts[0] != tokenKind {
		return "", "", false
	}
	t, err1 := base64.RawURLEncoding.DecodeString(parts[1])
	w, err2 := base64.RawURLEncoding.DecodeString(parts[2])
	return string(t), string(w), err1 == nil && err2 == nil && len(t) > 0 && len(w) > 0
}

// Received takes what a worker without a stream says. What has no effect is an *Ignored; any other error means that it must come again.
func (d *Dispatcher) Received(ctx context.Context, p Packet) error {
	if p.Packet.GetProtocolVersion() != protocolVersion {
		return ignored("protocol_version is %d, not %d", p.Packet.GetProtocolVersion(), protocolVersion)
	}
	if err := d.Senders.Check(p.Packet); err != nil {
		return ignored("%v", err)
	}
	w, err := d.speaker(ctx, p.Packet)
	if err != nil {
		return err
	}
	by := Holder{
		Identity: identity.Identity{Tenant: w.Tenant, Home: w.Tenant, Role: identity.Worker, CrossTenant: w.CrossTenant, Pools: []string{"*"}},
		Worker:   w.ID(), Attempt: p.Attempt,
	}
	switch payload := p.Packet.GetPayload().(type) {
	case *agentv1.BusPacket_JobResult:
		_, err = d.Result(ctx, by, payload.JobResult, nil)
	case *agentv1.BusPacket_JobProgress:
		_, err = d.Progress(ctx, by, payload.JobProgress, nil)
	case *agentv1.BusPacket_Heartbeat:
		if payload.Heartbeat.GetWorkerId() != w.ID() || payload.Heartbeat.GetPool() != w.Beat.GetPool() {
			return ignored("worker_id and pool of worker %s are fixed", w.ID())
		}
		w.Beat, w.SeenAt = payload.Heartbeat, d.now().UnixMicro()
		if err = d.Beat(ctx, w, false); fault.Is(err, fault.Invalid) {
			err = ignored("heartbeat of worker %s: %v", w.ID(), err)
		}
	default:
		return ignored("the packet has no payload that is known here")
	}
	return err
}

// speaker finds the worker whose token the packet carries.
func (d *Dispatcher) speaker(ctx context.Context, p *agentv1.BusPacket) (worker.Worker, error) {
	tenant, id, ok := parseToken(p.GetAuthToken())
	if !ok || p.GetSenderId() != id {
		return worker.Worker{}, ignored("its auth_token is none of a worker, or not the sender's")
	}
	w, known, err := d.Workers.Known(ctx, tenant, id)
	if err != nil {
		return w, err
	}
	if !known || w.Token == "" || subtle.ConstantTimeCompare([]byte(w.Token), []byte(p.GetAuthToken())) != 1 {
		return w, ignored("its auth_token is not that of worker %s", id)
	}
	return w, nil
}

// Enlisted is what a worker without a stream learns from its heartbeat.
type Enlisted struct {
	Token   string
	Cancels []*agentv1.JobCancel
}

// Enlist takes the heartbeat of a worker without a stream. running are the jobs that it says it runs: those become RUNNING, and those that are
// not its own any more are answered as cancels.
func (d *Dispatcher) Enlist(ctx context.Context, id identity.Identity, beat *agentv1.Heartbeat, running []string) (Enlisted, error) {
	if err := worker.Validate(beat); err != nil {
		return Enlisted{}, err
	}
	if !id.MayServe(beat.GetPool()) {
		return Enlisted{}, fault.New(fault.Denied, "this credential may not serve pool %q", beat.GetPool())
	}
	if len(running) > maxRunning {
		return Enlisted{}, fault.New(fault.Invalid, "a worker runs at most %d jobs", maxRunning)
	}
	was, known, err := d.Workers.Known(ctx, id.Home, beat.GetWorkerId())
	if err != nil {
		return Enlisted{}, err
	}
	w := worker.Worker{Tenant: id.Home, CrossTenant: id.CrossTenant, Beat: beat, SeenAt: d.now().UnixMicro(), Token: was.Token}
	if w.Token == "" {
		w.Token = d.NewToken(id.Home, beat.GetWorkerId())
	}
	if err := d.Beat(ctx, w, !known); err != nil {
		return Enlisted{}, err
	}
	cancels, err := d.Revoked(ctx, id, beat.GetWorkerId(), running)
	return Enlisted{Token: w.Token, Cancels: cancels}, err
}

const maxRunning = 1000

// Discharge takes a worker out of the registry that stops. One that still holds jobs stays until they have ended or it is silent for too long:
// its results may be on their way.
func (d *Dispatcher) Discharge(ctx context.Context, id identity.Identity, workerID string) error {
	held, err := d.Jobs.HeldBy(ctx, id.Home, workerID, d.now())
	if err != nil || len(held) > 0 {
		return err
	}
	return d.Workers.Remove(ctx, id.Home, workerID)
}

// Revoked looks at the jobs that a worker says it runs: those that it holds become RUNNING, the others are answered as cancels.
func (d *Dispatcher) Revoked(ctx context.Context, id identity.Identity, workerID string, running []string) ([]*agentv1.JobCancel, error) {
	if len(running) == 0 {
		return nil, nil
	}
	records, err := d.Jobs.Heads(ctx, running, d.now())
	if err != nil {
		return nil, err
	}
	byID := make(map[string]*job.Record, len(records))
	for _, r := range records {
		byID[r.ID] = r
	}
	var cancels []*agentv1.JobCancel
	for _, jobID := range running {
		r := byID[jobID]
		if r == nil || !r.Held() || r.Worker != workerID || r.WorkerTenant != id.Home {
			c := &agentv1.JobCancel{JobId: jobID, RequestedBy: senderScheduler}
			if r != nil && r.Worker == workerID && r.WorkerTenant == id.Home {
				c.Reason = r.CancelReason
			}
			cancels = append(cancels, c)
			continue
		}
		if r.State == job.Dispatched {
			micros := d.micros.Micros(d.now())
			_, err := d.Jobs.Move(ctx, r, job.Running, 0, func(n *job.Record) { n.UpdatedAt = micros })
			if _, stale := errors.AsType[*job.StaleError](err); err != nil && !stale {
				return nil, err
			}
		}
	}
	return cancels, nil
}
