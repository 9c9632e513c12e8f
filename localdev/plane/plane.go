// Package plane runs the whole control plane in one process: every function behind the bytes of the events that it gets on AWS, the gRPC
// container, the timers, on the embedded adapters.
package plane

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	grpcgo "google.golang.org/grpc"

	docs "github.com/cordum-serverless/cordum/docs/api"
	"github.com/cordum-serverless/cordum/functions/grpc"
	"github.com/cordum-serverless/cordum/localdev/gateway"
	"github.com/cordum-serverless/cordum/localdev/seed"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/edge/boot"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Config says how a plane is set up. The zero value of everything but Keys works.
type Config struct {
	// Dir keeps the data; "" keeps it in memory.
	Dir string
	// Getenv is the environment that functions read: keys, limits, origins.
	Getenv func(string) string
	// Policy, Pools and Timeouts are YAML texts; nil is the local plane's own.
	Policy, Pools, Timeouts []byte
	// Settings are further members of the document system/default, as JSON.
	Settings map[string]json.RawMessage
	Log      *slog.Logger
	Meter    *store.Meter
	// Wrap replaces ports of the platform, for tests that count or inject faults.
	Wrap func(dispatch.Platform) dispatch.Platform
	// Sweep is how often the plane looks for what is due; 0 is every second.
	Sweep time.Duration
	// Embedded are options of the adapters.
	Embedded embedded.Options
}

// Plane is a running control plane, without listeners: HTTP and GRPC serve it.
type Plane struct {
	HTTP       http.Handler
	GRPC       *grpcgo.Server
	Dispatcher *dispatch.Dispatcher
	Functions  []*Function

	platform *embedded.Platform
	workers  *grpc.Workers
	log      *slog.Logger
	every    time.Duration
	stop     context.CancelFunc
	running  sync.WaitGroup
	closing  sync.Once
	closed   error
}

// Open sets a plane up, on stored data when there is any.
func Open(ctx context.Context, cfg Config) (*Plane, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	opts := cfg.Embedded
	opts.Meter = cfg.Meter
	e, err := embedded.Open(cfg.Dir, opts)
	if err != nil {
		return nil, err
	}
	p := &Plane{platform: e, log: cfg.Log, every: cmp.Or(cfg.Sweep, defaultSweep)}
	if err := p.build(ctx, cfg); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return p, nil
}

func (p *Plane) build(ctx context.Context, cfg Config) error {
	ports := dispatch.Platform{
		Table: p.platform.Table(), Queues: p.platform.Queues(), Blobs: p.platform.Blobs(), Clock: clock.System{}, IDs: ids.Source{},
		Log: cfg.Log, Shards: listShards,
	}
	if cfg.Wrap != nil {
		ports = cfg.Wrap(ports)
	}
	getenv := cfg.Getenv
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	p.Dispatcher = dispatch.New(ports)
	if err := p.seed(ctx, cfg); err != nil {
		return err
	}
	edge, err := boot.Edge(getenv, ports.Clock, cfg.Log)
	if err != nil {
		return err
	}
	p.Functions = functions(p.Dispatcher, edge)
	p.HTTP = front(gateway.Handler(router(p.Functions), ports.Clock, cfg.Log))
	p.workers = grpc.NewWorkers(p.Dispatcher, cfg.Log)
	p.GRPC = grpcServer(p, edge)
	return nil
}

// listShards is small: one machine has no partition to spread over.
const listShards job.Shards = 1

func (p *Plane) seed(ctx context.Context, cfg Config) error {
	d := p.Dispatcher
	files := seed.Files{Policy: cfg.Policy, Pools: cfg.Pools, Timeouts: cfg.Timeouts, Settings: cfg.Settings}
	return seed.Apply(ctx, d.Jobs.Table, d.Queues, d.Policy, files, d.Clock.Now())
}

// front serves what is beside the API: the documentation, and what stands before the gateway.
func front(api http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/docs/", http.StripPrefix("/docs", docs.Handler()))
	mux.Handle("/", api)
	return mux
}

func grpcServer(p *Plane, edge rest.Config) *grpcgo.Server {
	return grpc.NewServer(p.Dispatcher, p.workers, edge, p.log)
}

// Start runs the timers and the pullers until Close.
func (p *Plane) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	p.running.Go(func() {
		if err := p.workers.Run(ctx); err != nil {
			p.log.Error("workers service ended", "error", err)
		}
	})
	p.running.Go(func() { p.sweep(ctx) })
}

// defaultSweep is how often the local plane looks for what is due. On AWS a schedule does it every minute.
const defaultSweep = time.Second

func (p *Plane) sweep(ctx context.Context) {
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, err := byName(p.Functions, "sweep").Invoke(ctx, []byte(`{}`)); err != nil && ctx.Err() == nil {
				p.log.Error("sweep failed; it runs again", "error", err)
			}
		}
	}
}

// Close ends the streams, waits for what is under way, and closes the data. Closing again does nothing.
func (p *Plane) Close() error {
	p.closing.Do(func() { p.closed = p.close() })
	return p.closed
}

func (p *Plane) close() error {
	if p.stop != nil {
		p.stop()
	}
	p.GRPC.Stop()
	p.workers.Close()
	p.running.Wait()
	return p.platform.Close()
}
