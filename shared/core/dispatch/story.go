package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/event"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/job"
)

// story tells what has happened to a job until now, as a client would have heard it: its request, the last word on its progress, its end. It is for who
// listens to a job to which nobody has listened before. The version is of the job as it is told.
func (d *Dispatcher) story(ctx context.Context, tenant, id string) (frames []json.RawMessage, version string, err error) {
	r, err := d.Jobs.Load(ctx, tenant, id, d.now())
	if fault.Is(err, fault.NotFound) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	var packets []*agentv1.BusPacket
	request, err := d.Jobs.Request(ctx, r)
	switch {
	case err == nil:
		p := &agentv1.BusPacket{Payload: &agentv1.BusPacket_JobRequest{JobRequest: approved(r, request)}}
		packets = append(packets, envelope(r, senderSubmit, time.UnixMicro(r.CreatedAt), p))
	case !errors.Is(err, job.ErrNoRequest):
		return nil, "", err
	}
	if g := r.Progress; g != nil {
		p := &agentv1.BusPacket{Payload: &agentv1.BusPacket_JobProgress{JobProgress: &agentv1.JobProgress{
			JobId: r.ID, StepId: g.StepID, Percent: g.Percent, Message: g.Message, Status: agentv1.JobStatus_JOB_STATUS_RUNNING,
		}}}
		packets = append(packets, envelope(r, r.Worker, time.UnixMicro(g.At), p))
	}
	if r.State.Terminal() {
		sender, ended := r.Worker, time.UnixMicro(r.UpdatedAt)
		switch {
		case r.State == job.Cancelled:
			sender = senderGateway
		case sender == "":
			sender = senderScheduler
		}
		packets = append(packets, envelope(r, sender, ended, &agentv1.BusPacket{Payload: &agentv1.BusPacket_JobResult{JobResult: resultOf(r)}}))
		if r.State == job.Cancelled {
			packets = append(packets, cancelPacket(r, senderGateway, ended))
		}
	}
	for _, p := range packets {
		frame, err := event.Frame(p)
		if err != nil {
			return nil, "", err
		}
		frames = append(frames, frame)
	}
	return frames, event.Version(r, lastStep), nil
}

// lastStep comes after all that happen to a job in one moment.
const lastStep = 9
