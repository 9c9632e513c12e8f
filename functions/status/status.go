// Package status is the function that tells how the plane is, and which workers it has.
package status

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	"github.com/cordum-serverless/cordum/shared/core/release"
	"github.com/cordum-serverless/cordum/shared/core/worker"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// Service serves cordum.v1.Status.
type Service struct {
	cordumv1.UnimplementedStatusServer
	d     *dispatch.Dispatcher
	since time.Time

	mu     sync.Mutex
	probed time.Time
	health health
}

type health struct {
	store, bus, unknown error
	// policy is nothing when it is unknown.
	policy head.State
}

// New makes the service.
func New(d *dispatch.Dispatcher) *Service { return &Service{d: d, since: d.Clock.Now()} }

// Group is the service's routes.
func (s *Service) Group() rest.Group {
	return rest.Service(cordumv1.Status_ServiceDesc.ServiceName, func(ctx context.Context, mux *runtime.ServeMux) error {
		return cordumv1.RegisterStatusHandlerServer(ctx, mux, s)
	})
}

// GetStatus answers how the plane is; it does so even when everything that it asks is out of reach.
func (s *Service) GetStatus(ctx context.Context, _ *cordumv1.GetStatusRequest) (*cordumv1.GetStatusResponse, error) {
	id, now := identity.From(ctx), s.d.Clock.Now()
	h := s.probe(ctx, now)
	res := &cordumv1.GetStatusResponse{
		Time: now.UTC().Format(time.RFC3339), UptimeSeconds: int64(now.Sub(s.since).Seconds()), Build: build(),
		Nats: &cordumv1.BusHealth{Connected: h.bus == nil, Status: connected[h.bus == nil]}, Redis: &cordumv1.StoreHealth{Ok: h.store == nil},
		Workers: &cordumv1.WorkerCount{},
	}
	if workers, err := s.d.Workers.Serving(ctx, id.Tenant, now); err == nil {
		for _, w := range workers {
			if w.Tenant == id.Tenant {
				res.Workers.Count++
			}
		}
	}
	if id.Role == identity.Admin && h.store != nil {
		res.Redis.Error = "state store is not reachable"
	}
	if h.unknown == nil {
		res.Policy = policyState(h.policy, id.Role == identity.Admin)
	}
	return res, nil
}

func policyState(s head.State, admin bool) *cordumv1.PolicyState {
	moment := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	out := &cordumv1.PolicyState{
		Snapshot: s.Snapshot, Revision: s.Revision, Signature: string(s.Signature), LoadedAt: moment(s.LoadedAt), LastErrorAt: moment(s.LastErrorAt),
	}
	if admin {
		out.LastError = s.LastError
	}
	return out
}

var connected = map[bool]string{true: "CONNECTED", false: "DISCONNECTED"}

// probeAge is how old the answer about a dependency may be; probeTimeout is how long each is asked, all at once.
const (
	probeAge     = time.Second
	probeTimeout = time.Second
)

func (s *Service) probe(ctx context.Context, now time.Time) health {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.probed.IsZero() && now.Sub(s.probed) < probeAge {
		return s.health
	}
	var asking sync.WaitGroup
	ask := func(what string, of func(context.Context) error, into *error) {
		asking.Go(func() {
			s.d.Yield.At(ctx, "probe "+what)
			ctx, cancel := context.WithTimeout(ctx, probeTimeout)
			defer cancel()
			*into = of(ctx)
		})
	}
	ask("store", func(ctx context.Context) error {
		_, _, err := s.d.Jobs.Counts(ctx, identity.DefaultTenant)
		return err
	}, &s.health.store)
	s.health.policy = head.State{}
	ask("policy", func(ctx context.Context) (err error) { s.health.policy, err = s.d.Policy.State(ctx); return err }, &s.health.unknown)
	ask("bus", func(ctx context.Context) error { _, err := s.d.Queues.Depth(ctx, resources.Dispatch); return err }, &s.health.bus)
	asking.Wait()
	s.probed = now
	return s.health
}

var build = sync.OnceValue(func() *cordumv1.BuildInfo {
	b := &cordumv1.BuildInfo{Version: release.Version}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Commit = setting.Value
		case "vcs.time":
			b.Date = setting.Value
		}
	}
	return b
})

// ListWorkers answers the workers of the tenant that are alive.
func (s *Service) ListWorkers(ctx context.Context, _ *cordumv1.ListWorkersRequest) (*cordumv1.ListWorkersResponse, error) {
	workers, err := s.d.Workers.List(ctx, identity.From(ctx).Tenant, s.d.Clock.Now())
	if err != nil {
		return nil, err
	}
	rows := make([]*cordumv1.Worker, len(workers))
	for i, w := range workers {
		rows[i] = row(w)
	}
	return &cordumv1.ListWorkersResponse{Workers: rows}, nil
}

func row(w worker.Worker) *cordumv1.Worker {
	b := w.Beat
	seen := time.UnixMicro(w.SeenAt).UTC().Format(time.RFC3339)
	return &cordumv1.Worker{
		WorkerId: b.GetWorkerId(), Region: b.GetRegion(), Type: b.GetType(), CpuLoad: b.GetCpuLoad(), GpuUtilization: b.GetGpuUtilization(),
		ActiveJobs: b.GetActiveJobs(), Capabilities: b.GetCapabilities(), Pool: b.GetPool(), MaxParallelJobs: b.GetMaxParallelJobs(),
		Labels: b.GetLabels(), MemoryLoad: b.GetMemoryLoad(), UpdatedAt: seen, LastHeartbeat: seen,
	}
}
