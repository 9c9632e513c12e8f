// Package locks is the function of the routes of locks.
package locks

import (
	"context"
	"math"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/lock"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
)

// Service serves cordum.v1.Locks.
type Service struct {
	cordumv1.UnimplementedLocksServer
	locks *lock.Store
}

// New makes the service.
func New(d *dispatch.Dispatcher) *Service {
	return &Service{locks: &lock.Store{Table: d.Jobs.Table, Clock: d.Clock, IDs: d.IDs}}
}

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Service(cordumv1.Locks_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterLocksHandlerServer(ctx, mux, s)
	})
}

// defaultPage is how many locks a list has when the request does not say.
const defaultPage = 100

// GetLock answers who holds a lock.
func (s *Service) GetLock(ctx context.Context, req *cordumv1.GetLockRequest) (*cordumv1.Lock, error) {
	return shown(s.locks.Get(ctx, identity.From(ctx).Tenant, req.GetResource()))
}

// ListLocks lists locks.
func (s *Service) ListLocks(ctx context.Context, req *cordumv1.ListLocksRequest) (*cordumv1.ListLocksResponse, error) {
	found, err := s.locks.List(ctx, identity.From(ctx).Tenant, req.GetPrefix(), job.Limit(req.GetLimit(), defaultPage))
	if err != nil {
		return nil, err
	}
	res := &cordumv1.ListLocksResponse{}
	for _, l := range found {
		res.Items = append(res.Items, show(l))
	}
	return res, nil
}

// AcquireLock takes a lock.
func (s *Service) AcquireLock(ctx context.Context, req *cordumv1.AcquireLockRequest) (*cordumv1.Lock, error) {
	return shown(s.locks.Acquire(ctx, identity.From(ctx).Tenant, req.GetResource(), req.GetOwner(), req.GetMode(), duration(req.GetTtlMs())))
}

// ReleaseLock gives a lock back.
func (s *Service) ReleaseLock(ctx context.Context, req *cordumv1.ReleaseLockRequest) (*cordumv1.ReleaseLockResponse, error) {
	left, err := s.locks.Release(ctx, identity.From(ctx).Tenant, req.GetResource(), req.GetOwner())
	if err != nil {
		return nil, err
	}
	res := &cordumv1.ReleaseLockResponse{Released: true}
	if left != nil {
		res.Lock = show(*left)
	}
	return res, nil
}

// RenewLock begins the time of a lock anew.
func (s *Service) RenewLock(ctx context.Context, req *cordumv1.RenewLockRequest) (*cordumv1.Lock, error) {
	return shown(s.locks.Renew(ctx, identity.From(ctx).Tenant, req.GetResource(), req.GetOwner(), duration(req.GetTtlMs())))
}

// duration reads milliseconds, of which a Duration cannot hold all: what is too many is as many as it can.
func duration(ms int64) time.Duration {
	return time.Duration(max(0, min(ms, math.MaxInt64/int64(time.Millisecond)))) * time.Millisecond
}

func shown(l lock.Lock, err error) (*cordumv1.Lock, error) {
	if err != nil {
		return nil, err
	}
	return show(l), nil
}

func show(l lock.Lock) *cordumv1.Lock {
	out := &cordumv1.Lock{
		Resource: l.Resource, Mode: l.Mode, Owners: make(map[string]int32, len(l.Owners)),
		UpdatedAt: l.UpdatedAt.Format(time.RFC3339), ExpiresAt: l.ExpiresAt.Format(time.RFC3339), FencingToken: l.Token,
	}
	for owner, count := range l.Owners {
		out.Owners[owner] = int32(count)
	}
	return out
}
