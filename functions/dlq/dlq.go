// Package dlq is the function of the dead letters' routes: list, page, delete, retry, one by one and many at once.
package dlq

import (
	"context"
	"slices"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/types/known/emptypb"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/dlq"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/rpc"
)

// Service serves cordum.v1.DeadLetters.
type Service struct {
	cordumv1.UnimplementedDeadLettersServer
	d *dispatch.Dispatcher
}

// New makes the service.
func New(d *dispatch.Dispatcher) *Service { return &Service{d: d} }

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Service(cordumv1.DeadLetters_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterDeadLettersHandlerServer(ctx, mux, s)
	})
}

// The size of a page when the request does not say, and the most entries of one bulk request.
const (
	defaultPage = 100
	maxBulk     = 100
)

// ListDeadLetters answers the newest.
func (s *Service) ListDeadLetters(ctx context.Context, req *cordumv1.ListDeadLettersRequest) (*cordumv1.ListDeadLettersResponse, error) {
	entries, _, err := s.list(ctx, dlq.Filter{}, job.Limit(req.GetLimit(), defaultPage))
	return &cordumv1.ListDeadLettersResponse{Entries: shown(entries)}, err
}

// PageDeadLetters answers a page.
func (s *Service) PageDeadLetters(ctx context.Context, req *cordumv1.PageDeadLettersRequest) (*cordumv1.PageDeadLettersResponse, error) {
	f := dlq.Filter{ReasonCode: req.GetReasonCode(), Topic: req.GetTopic(), Status: req.GetStatus(), Before: job.UpperBound(req.GetCursor())}
	entries, next, err := s.list(ctx, f, job.Limit(req.GetLimit(), defaultPage))
	return &cordumv1.PageDeadLettersResponse{Items: shown(entries), NextCursor: next}, err
}

func (s *Service) list(ctx context.Context, f dlq.Filter, limit int) ([]*dlq.Entry, int64, error) {
	return s.d.Letters().List(ctx, identity.From(ctx).Tenant, f, limit, s.d.Clock.Now())
}

func shown(entries []*dlq.Entry) []*cordumv1.DeadLetter {
	out := make([]*cordumv1.DeadLetter, len(entries))
	for i, e := range entries {
		out[i] = &cordumv1.DeadLetter{
			JobId: e.JobID, Topic: e.Topic, Status: e.Status, Reason: e.Reason, ReasonCode: e.ReasonCode, LastState: string(e.LastState),
			Attempts: int32(e.Attempts), CreatedAt: moment(e.CreatedAt), LastWorker: e.LastWorker, FirstFailureAt: moment(e.FirstAt),
			LastFailureAt: moment(e.CreatedAt), Queue: e.Queue,
		}
	}
	return out
}

func moment(micros int64) string { return time.UnixMicro(micros).UTC().Format(time.RFC3339Nano) }

// DeleteDeadLetter removes an entry.
func (s *Service) DeleteDeadLetter(ctx context.Context, req *cordumv1.DeleteDeadLetterRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.d.DeleteLetter(ctx, identity.From(ctx), req.GetJobId())
}

// RetryDeadLetter submits the job again.
func (s *Service) RetryDeadLetter(ctx context.Context, req *cordumv1.RetryDeadLetterRequest) (*cordumv1.SubmitJobResponse, error) {
	r, err := s.d.Retry(ctx, identity.From(ctx), req.GetJobId())
	if err != nil {
		return nil, err
	}
	if err := rpc.SetTraceID(ctx, r.TraceID); err != nil {
		s.d.Log.WarnContext(ctx, "trace id not sent beside the answer", "job", r.JobID, "error", err)
	}
	return &cordumv1.SubmitJobResponse{JobId: r.JobID, TraceId: r.TraceID, Status: dispatch.StatusWord(r.State), Reason: r.Reason}, nil
}

// RetryDeadLetters submits many jobs again, the oldest of what matches first.
func (s *Service) RetryDeadLetters(
	ctx context.Context, req *cordumv1.RetryDeadLettersRequest,
) (*cordumv1.BulkDeadLettersResponse, error) {
	return s.each(ctx, req, func(item *cordumv1.DeadLetterResult) error {
		r, err := s.d.Retry(ctx, identity.From(ctx), item.GetJobId())
		if err == nil {
			item.NewJobId, item.TraceId, item.Status, item.Reason = r.JobID, r.TraceID, dispatch.StatusWord(r.State), r.Reason
		}
		return err
	})
}

// DeleteDeadLetters removes many entries.
func (s *Service) DeleteDeadLetters(
	ctx context.Context, req *cordumv1.DeleteDeadLettersRequest,
) (*cordumv1.BulkDeadLettersResponse, error) {
	return s.each(ctx, req, func(item *cordumv1.DeadLetterResult) error {
		return s.d.DeleteLetter(ctx, identity.From(ctx), item.GetJobId())
	})
}

// bulk is a request that means many entries.
type bulk interface {
	GetJobIds() []string
	GetFilter() *cordumv1.DeadLetterFilter
	GetLimit() int32
}

// each does something with every entry that a request means, and answers what became of each.
func (s *Service) each(ctx context.Context, req bulk, do func(*cordumv1.DeadLetterResult) error) (*cordumv1.BulkDeadLettersResponse, error) {
	ids, more, err := s.meant(ctx, req.GetJobIds(), req.GetFilter(), req.GetLimit())
	if err != nil {
		return nil, err
	}
	res := &cordumv1.BulkDeadLettersResponse{More: more}
	for _, id := range ids {
		item := &cordumv1.DeadLetterResult{JobId: id}
		err := do(item)
		if item.Ok = err == nil; !item.GetOk() {
			item.Error = s.told(ctx, id, err)
		}
		res.Items = append(res.Items, item)
	}
	return res, nil
}

// told is what the caller hears of an entry that failed.
func (s *Service) told(ctx context.Context, id string, err error) string {
	f := fault.From(err)
	if f.Code == fault.Internal || f.Code == fault.Unavailable {
		s.d.Log.ErrorContext(ctx, "dead letter not handled", "job", id, "error", err)
		return "service unavailable"
	}
	return f.Message
}

// meant answers the jobs whose entries a bulk request means.
func (s *Service) meant(ctx context.Context, ids []string, f *cordumv1.DeadLetterFilter, limit int32) (jobs []string, more bool, err error) {
	switch {
	case len(ids) > maxBulk:
		return nil, false, fault.New(fault.Invalid, "at most %d job_ids", maxBulk)
	case len(ids) > 0:
		return ids, false, nil
	case f == nil:
		return nil, false, fault.New(fault.Invalid, "job_ids or filter is required; the filter {} means all")
	}
	if limit < 1 || limit > maxBulk {
		limit = maxBulk
	}
	filter := dlq.Filter{
		ReasonCode: f.GetReasonCode(), Topic: f.GetTopic(), Status: f.GetStatus(),
		After: job.LowerBound(f.GetCreatedAfter()), Before: job.UpperBound(f.GetCreatedBefore()),
	}
	entries, next, err := s.list(ctx, filter, int(limit))
	for _, e := range slices.Backward(entries) {
		jobs = append(jobs, e.JobID)
	}
	return jobs, next != 0, err
}
