// Package workers is the function of the routes for workers without a stream: claim, heartbeat, input and output.
package workers

import (
	"context"
	"errors"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/worker"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
)

// Service serves the methods of cordum.v1.Workers that have routes. The stream is the container's.
type Service struct {
	cordumv1.UnimplementedWorkersServer
	d *dispatch.Dispatcher
	// known answers what this process remembers of a job that a worker of the credential holds, nil for nothing: it saves a read.
	known func(id identity.Identity, jobID string) *job.Record
}

// New makes the service. known may be nil.
func New(d *dispatch.Dispatcher, known func(id identity.Identity, jobID string) *job.Record) *Service {
	if known == nil {
		known = func(identity.Identity, string) *job.Record { return nil }
	}
	return &Service{d: d, known: known}
}

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Service(cordumv1.Workers_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterWorkersHandlerServer(ctx, mux, s)
	})
}

// The outcomes of a claim.
const (
	claimed   = "claimed"
	gone      = "gone"
	elsewhere = "elsewhere"
)

// maxKey is the longest name of a claim, in bytes.
const maxKey = 64

// ClaimJob hands a job to the worker that has its ticket.
func (s *Service) ClaimJob(ctx context.Context, req *cordumv1.ClaimJobRequest) (*cordumv1.ClaimJobResponse, error) {
	name := req.GetWorkerId()
	switch {
	case strings.TrimSpace(name) == "" || len(name) > worker.MaxID:
		return nil, fault.New(fault.Invalid, "worker_id is required, at most %d bytes", worker.MaxID)
	case len(req.GetKey()) > maxKey:
		return nil, fault.New(fault.Invalid, "key has %d bytes; it must have at most %d", len(req.GetKey()), maxKey)
	case req.GetJobId() == "" || req.GetAttempt() < 1:
		return nil, fault.New(fault.Invalid, "job_id and attempt are required, as the ticket says")
	}
	id := identity.From(ctx)
	c, err := s.d.Claim(ctx, id, dispatch.Claimant{Worker: name, Key: req.GetKey()}, dispatch.Ticket{Job: req.GetJobId(), Attempt: req.GetAttempt()})
	if refused, ok := errors.AsType[*dispatch.Refusal](err); ok {
		if refused.Keep || !id.CrossTenant && refused.Tenant != id.Home { // nobody learns whether another tenant has such a job
			return &cordumv1.ClaimJobResponse{Outcome: elsewhere}, nil
		}
		return &cordumv1.ClaimJobResponse{Outcome: gone}, nil
	}
	if err != nil {
		return nil, err
	}
	if c.Before && req.GetKey() == "" { // a second copy of the ticket, as far as anybody can tell
		return &cordumv1.ClaimJobResponse{Outcome: gone}, nil
	}
	return &cordumv1.ClaimJobResponse{Outcome: claimed, Packet: c.Packet(s.d.Clock.Now())}, nil
}

// Beat takes a worker's heartbeat.
func (s *Service) Beat(ctx context.Context, req *cordumv1.BeatRequest) (*cordumv1.BeatResponse, error) {
	id, beat := identity.From(ctx), req.GetHeartbeat()
	if beat == nil {
		beat = &agentv1.Heartbeat{}
	}
	if req.GetLeaving() {
		if err := worker.Validate(beat); err != nil {
			return nil, err
		}
		return &cordumv1.BeatResponse{}, s.d.Discharge(ctx, id, beat.GetWorkerId())
	}
	e, err := s.d.Enlist(ctx, id, beat, req.GetJobs())
	if err != nil {
		return nil, err
	}
	return &cordumv1.BeatResponse{Cancels: e.Cancels, SessionToken: e.Token}, nil
}

// ReadContext answers the context of a job that a worker of this credential holds.
func (s *Service) ReadContext(ctx context.Context, req *cordumv1.ReadContextRequest) (*cordumv1.ReadContextResponse, error) {
	jobID, err := pointed(req)
	if err != nil {
		return nil, err
	}
	id := identity.From(ctx)
	data, err := s.d.ReadContext(ctx, dispatch.Holder{Identity: id}, jobID, s.known(id, jobID))
	if err != nil {
		return nil, err
	}
	return &cordumv1.ReadContextResponse{Data: data}, nil
}

// pointed answers the job whose context is asked for.
func pointed(req *cordumv1.ReadContextRequest) (string, error) {
	if req.GetPointer() == "" {
		return req.GetJobId(), nil
	}
	p, err := job.ParsePointer(strings.TrimSpace(req.GetPointer()))
	if err != nil {
		return "", err
	}
	if p.Kind != "ctx" || (req.GetJobId() != "" && req.GetJobId() != p.ID) {
		return "", job.ErrUnknown
	}
	return p.ID, nil
}

// WriteResult stores the payload that a worker made for a job that it holds.
func (s *Service) WriteResult(ctx context.Context, req *cordumv1.WriteResultRequest) (*cordumv1.WriteResultResponse, error) {
	by := dispatch.Holder{Identity: identity.From(ctx), Attempt: int64(req.GetAttempt())}
	ptr, err := s.d.WriteResult(ctx, by, req.GetJobId(), req.GetData(), req.GetContentType(), s.known(by.Identity, req.GetJobId()))
	if err != nil {
		return nil, err
	}
	return &cordumv1.WriteResultResponse{ResultPtr: ptr}, nil
}
