// Package plane runs the whole control plane in one process: every function behind the bytes of the events that it gets on AWS, the gRPC
// container, the timers, on the embedded adapters.
package plane

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	grpcgo "google.golang.org/grpc"

	"github.com/cordum-serverless/cordum/functions/grpc"
	beginning "github.com/cordum-serverless/cordum/functions/seed"
	"github.com/cordum-serverless/cordum/localdev/gateway"
	"github.com/cordum-serverless/cordum/localdev/seed"
	"github.com/cordum-serverless/cordum/shared/core/audit/chain"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/job"
	coreseed "github.com/cordum-serverless/cordum/shared/core/seed"
	"github.com/cordum-serverless/cordum/shared/edge/boot"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/rpc"
	"github.com/cordum-serverless/cordum/shared/edge/stream"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/fetch"
	"github.com/cordum-serverless/cordum/shared/platform/fetch/web"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/metrics"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
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
	// PolicyPath is a policy file in place of Policy. Its signature is beside it, <file>.sig. When it changes it takes effect.
	PolicyPath string
	// Settings are further members of the document system/default, as JSON.
	Settings map[string]json.RawMessage
	Log      *slog.Logger
	Meter    *store.Meter
	// Metrics take what is measured; nil leaves the lines to Log.
	Metrics metrics.Sink
	// Wrap replaces ports of the platform, for tests that count or inject faults.
	Wrap func(dispatch.Platform) dispatch.Platform
	// Sweep is how often the plane looks for what is due; 0 is every second.
	Sweep time.Duration
	// Containers is how many gRPC containers run; 0 is one.
	Containers int
	// Internet is where catalogs of packs are read from; nil is the real one, as far as the environment allows it.
	Internet fetch.Fetcher
	// Embedded are options of the adapters. A BlobURL must lead to HTTP, at a path of its own: "http://localhost:8081/objects".
	Embedded embedded.Options
}

// Container is one gRPC container: its server, and what pulls the queues for the workers that are connected to it.
type Container struct {
	Server *grpcgo.Server

	workers *grpc.Workers
	stop    context.CancelFunc
	done    chan struct{}
}

// Plane is a running control plane, without listeners: HTTP and GRPC serve it.
type Plane struct {
	HTTP http.Handler
	// GRPC is the server of the first container.
	GRPC       *grpcgo.Server
	Containers []*Container
	Dispatcher *dispatch.Dispatcher
	Functions  []*Function
	// Sealer seals the audit trail; the function of its name runs it.
	Sealer *chain.Sealer

	platform *embedded.Platform
	policy   policyFile // without a path: none
	sockets  *gateway.Sockets
	queues   queue.Queues
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
	p := &Plane{platform: e, policy: policyFile{path: cfg.PolicyPath}, log: cfg.Log, every: cmp.Or(cfg.Sweep, defaultSweep)}
	if err := p.build(ctx, cfg); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return p, nil
}

func (p *Plane) build(ctx context.Context, cfg Config) error {
	ports := dispatch.Platform{
		Table: p.platform.Table(), Queues: p.platform.Queues(), Blobs: p.platform.Blobs(), Clock: clock.System{}, IDs: ids.Source{},
		Log: cfg.Log, Shards: listShards, Connections: p.platform.Connections(), SweepEvery: p.every,
		Metrics: cfg.Metrics,
	}
	getenv := cfg.Getenv
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	var err error
	if ports.Senders, err = boot.Senders(getenv); err != nil {
		return err
	}
	if ports.PolicyKey, err = boot.PolicyKey(getenv); err != nil {
		return err
	}
	if cfg.Wrap != nil {
		ports = cfg.Wrap(ports)
	}
	p.Dispatcher = dispatch.New(ports)
	settings := boot.With(getenv, nil)
	accounts, err := boot.Accounts(settings, ports.Table, p.Dispatcher.Events.Ended, ports.Clock, cfg.Log)
	if err != nil {
		return err
	}
	begin := beginning.Beginning{Catalog: boot.Catalog(getenv), Users: accounts.Users}
	if begin.Admin, err = boot.FirstAdmin(settings); err != nil {
		return err
	}
	if err := p.seed(ctx, cfg, begin); err != nil {
		return err
	}
	edge := func() (rest.Config, error) {
		e, err := boot.Edge(settings, ports.Table, ports.Clock, cfg.Log)
		e.Metrics = cfg.Metrics
		return e, err
	}
	sweeps, err := edge()
	if err != nil {
		return err
	}
	p.Dispatcher.Streams.Review = stream.Review(sweeps.Gate)
	secret, err := AuditSecret(cfg.Dir, getenv)
	if err != nil {
		return err
	}
	keys, err := chain.ParseKeys(secret)
	if err != nil {
		return err
	}
	p.Sealer = &chain.Sealer{Table: ports.Table, Blobs: ports.Blobs, Keys: keys, Clock: ports.Clock}
	internet := cfg.Internet
	if internet == nil {
		if internet, err = web.FromEnv(getenv); err != nil {
			return err
		}
	}
	own := apart{sealer: p.Sealer, internet: internet, begin: begin, accounts: accounts}
	if own.artifacts, err = boot.Artifacts(settings); err != nil {
		return err
	}
	if own.packs, err = boot.Packs(getenv); err != nil {
		return err
	}
	if p.Functions, err = functions(p.Dispatcher, edge, own); err != nil {
		return err
	}
	api := gateway.Handler(router(p.Functions), ports.Clock, cfg.Log)
	p.sockets = gateway.NewSockets(byName(p.Functions, "stream"), p.platform.Connections(), api, ports.Clock, cfg.Log)
	p.HTTP = gateway.WithPages(p.sockets)
	if cfg.Embedded.BlobURL != "" {
		if p.HTTP, err = withObjects(p.HTTP, cfg.Embedded.BlobURL, p.platform.Blobs()); err != nil {
			return err
		}
	}
	p.queues = ports.Queues
	secure, err := rpc.Transport(getenv, sweeps.Gate.Production(), ports.Clock, cfg.Log)
	if err != nil {
		return err
	}
	for n := range max(cfg.Containers, 1) {
		d := dispatch.New(ports)                                     // a process of its own: it shares no cache
		w := grpc.NewWorkers(d, cfg.Log, fmt.Sprintf("local-%d", n)) // one plane at a time has the data: a new one takes the old one's place
		e, err := edge()
		if err != nil {
			return err
		}
		p.Containers = append(p.Containers, &Container{Server: grpc.NewServer(d, w, e, secure, cfg.Log), workers: w, done: make(chan struct{})})
	}
	p.GRPC = p.Containers[0].Server
	return nil
}

// withObjects serves the uploads and downloads that clients do by themselves, at the path of the URL that they are told.
func withObjects(next http.Handler, address string, blobs *embedded.Blobs) (http.Handler, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	objects, under := blobs.Handler(), strings.TrimSuffix(u.Path, "/")+"/"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // no ServeMux: it would tidy paths that hold pointers
		if strings.HasPrefix(r.URL.Path, under) {
			objects.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	}), nil
}

// listShards is small: one machine has no partition to spread over.
const listShards job.Shards = 1

func (p *Plane) seed(ctx context.Context, cfg Config, begin beginning.Beginning) error {
	d := p.Dispatcher
	files := coreseed.Files{Policy: cfg.Policy, Pools: cfg.Pools, Timeouts: cfg.Timeouts, Settings: cfg.Settings, Catalog: begin.Catalog}
	if p.policy.path != "" {
		if err := p.policy.read(); err != nil {
			return err
		}
		files.Policy, files.Signature = p.policy.text, p.policy.signature
	}
	if err := seed.Apply(ctx, d.Jobs.Table, d.Queues, d.Policy, files, d.Clock.Now()); err != nil {
		return err
	}
	_, err := begin.Admin.Make(ctx, begin.Users)
	return err
}

// Start runs the timers and the pullers until Close.
func (p *Plane) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	for _, c := range p.Containers {
		running, stop := context.WithCancel(ctx)
		c.stop = stop
		p.running.Go(func() {
			defer close(c.done)
			if err := c.workers.Run(running); err != nil {
				p.log.Error("workers service ended", "error", err)
			}
		})
	}
	p.schedules(ctx)
	if p.policy.path != "" {
		p.running.Go(func() { p.watch(ctx, p.policy) })
	}
	for _, s := range resources.Sources {
		p.running.Go(func() { p.mapping(s).Run(ctx) })
	}
}

// defaultSweep is how often the local plane looks for what is due. On AWS a schedule does it every minute.
const defaultSweep = time.Second

// schedules runs what a schedule runs on AWS. A plane that sweeps less often than that does nothing of it more often.
func (p *Plane) schedules(ctx context.Context) {
	for _, f := range p.Functions {
		if f.Every == 0 {
			continue
		}
		every := max(f.Every, p.every)
		if f.Name == "sweep" {
			every = p.every
		}
		p.running.Go(func() { p.repeat(ctx, f, every) })
	}
}

func (p *Plane) repeat(ctx context.Context, f *Function, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, err := f.Invoke(ctx, []byte(`{}`)); err != nil && ctx.Err() == nil {
				p.log.Error("a scheduled function failed; it runs again", "function", f.Name, "error", err)
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
	p.sockets.Close()
	for _, c := range p.Containers {
		c.Server.Stop()
		c.workers.Close()
	}
	p.running.Wait()
	return p.platform.Close()
}

// Drain stops one container as a deployment does: it pulls no more, ends its streams, and its workers connect elsewhere.
func (p *Plane) Drain(c *Container) {
	c.stop()
	<-c.done
	c.Server.GracefulStop()
}
