package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/cordum-serverless/cordum/localdev/demoworker"
	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/localdev/prometheus"
	"github.com/cordum-serverless/cordum/localdev/seed"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/platform/chaos"
	"github.com/cordum-serverless/cordum/shared/platform/metrics"
)

// The keys of the local plane.
const (
	localKey       = seed.AdminKey
	localWorkerKey = seed.WorkerKey
	localTenant    = seed.Tenant
)

type devCmd struct {
	HTTP    string `name:"http" default:"localhost:8081" env:"GATEWAY_HTTP_ADDR" help:"Address of REST and streams."`
	GRPC    string `name:"grpc" default:"localhost:8080" env:"GATEWAY_GRPC_ADDR" help:"Address of gRPC."`
	Metrics string `default:"localhost:9092" env:"GATEWAY_METRICS_ADDR" help:"Address of /metrics, for Prometheus; empty for none."`
	Data    string `default:".cordum" type:"path" help:"Folder that keeps the data."`
	Memory  bool   `help:"Keep nothing."`
	Policy  string `type:"existingfile" env:"SAFETY_POLICY_PATH" help:"Policy file instead of the local plane's own; when it changes it takes effect."`
	Pools   string `type:"existingfile" env:"POOL_CONFIG_PATH" help:"Pools file, used when none is stored yet."`
	Worker  bool   `default:"true" negatable:"" help:"Run the demo worker."`
	Chaos   string `placeholder:"PROFILE" help:"Make the platform fail now and then: mild, rough, cruel, or rates such as errors=0.02,delays=0.1."`
	Verbose bool   `short:"v" help:"Log every request."`
}

// Run serves until it is told to stop.
func (c *devCmd) Run(ctx context.Context) error {
	p, err := c.start(ctx, os.Stderr)
	if err != nil {
		return err
	}
	defer p.close()
	c.banner(p)
	<-ctx.Done()
	fmt.Fprintln(os.Stderr, "\nstopping; the data stays in", c.place())
	p.endFaults()
	return nil
}

// local is a plane with its listeners and its demo worker.
type local struct {
	plane      *plane.Plane
	http, grpc net.Listener
	metrics    net.Listener // nil: none
	server     *http.Server
	stopWorker context.CancelFunc
	worker     chan struct{}
	key        string
	workerKey  string
	faults     *chaos.Chaos // nil: none
}

func (c *devCmd) start(ctx context.Context, logTo *os.File) (_ *local, err error) {
	level := slog.LevelWarn
	if c.Verbose {
		level = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(logTo, &slog.HandlerOptions{Level: level}))
	l := &local{worker: make(chan struct{})}
	close(l.worker)
	if l.faults, err = c.faults(); err != nil {
		return nil, err
	}
	if l.http, err = listen(c.HTTP, "--http", "GATEWAY_HTTP_ADDR"); err != nil {
		return nil, err
	}
	if l.grpc, err = listen(c.GRPC, "--grpc", "GATEWAY_GRPC_ADDR"); err != nil {
		return nil, errors.Join(err, l.http.Close())
	}
	figures := prometheus.New(metrics.Lines{Log: log})
	if l.metrics, err = listen(c.Metrics, "--metrics", "GATEWAY_METRICS_ADDR"); err != nil { // nobody's job needs them
		fmt.Fprintln(os.Stderr, "cordum-local: no metrics:", err)
		l.metrics = nil
	}
	cfg := plane.Config{Dir: c.place(), Log: log, Getenv: l.getenv, Wrap: l.wrap, Metrics: figures, PolicyPath: c.Policy}
	cfg.Embedded.BlobURL = "http://" + l.http.Addr().String() + "/objects"
	if c.Pools != "" {
		if cfg.Pools, err = os.ReadFile(c.Pools); err != nil {
			return nil, err
		}
	}
	if l.plane, err = plane.Open(ctx, cfg); err != nil {
		return nil, errors.Join(err, l.http.Close(), l.grpc.Close())
	}
	l.plane.Start()
	if l.faults != nil {
		l.faults.On()
	}
	l.server = &http.Server{
		Handler: l.plane.HTTP, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute,
	}
	go func() { _ = l.server.Serve(l.http) }()
	go func() { _ = l.plane.GRPC.Serve(l.grpc) }()
	if l.metrics != nil {
		page := http.NewServeMux()
		page.Handle("GET /metrics", figures.Handler())
		go func() { _ = (&http.Server{Handler: page, ReadHeaderTimeout: 5 * time.Second}).Serve(l.metrics) }()
	}
	switch {
	case !c.Worker || l.workerKey == "":
	case l.getenv("GRPC_TLS_CERT") != "":
		fmt.Fprintln(os.Stderr, "cordum-local: no demo worker: gRPC asks for TLS, and it has no certificate to trust or to show")
	default:
		l.startWorker(log)
	}
	return l, nil
}

// faults reads the profile; what it answers is off, so that a plane can be set up.
func (c *devCmd) faults() (*chaos.Chaos, error) {
	if c.Chaos == "" {
		return nil, nil
	}
	profile, err := chaos.Parse(c.Chaos)
	if err != nil {
		return nil, fmt.Errorf("--chaos: %w", err)
	}
	faults := chaos.New(profile)
	faults.Off()
	return faults, nil
}

func (l *local) wrap(p dispatch.Platform) dispatch.Platform {
	if l.faults != nil {
		p.Table, p.Queues = l.faults.Table(p.Table), l.faults.Queues(p.Queues)
		p.Blobs, p.Connections = l.faults.Blobs(p.Blobs), l.faults.Connections(p.Connections)
	}
	return p
}

// endFaults lets the plane stop in peace, and says what it went through.
func (l *local) endFaults() {
	if l.faults == nil {
		return
	}
	l.faults.Off()
	fmt.Fprintf(os.Stderr, "\nfaults of %s:\n", l.faults.Profile())
	for _, n := range l.faults.Counts() {
		if n.Faults() > 0 {
			fmt.Fprintln(os.Stderr, " ", n)
		}
	}
}

// getenv is the environment of the functions: the process's own, with the local keys where it names none.
func (l *local) getenv(name string) string {
	for _, v := range []string{"CORDUM_API_KEYS", "CORDUM_API_KEY", "CORDUM_API_KEYS_PATH", "API_KEY"} {
		if os.Getenv(v) != "" {
			return os.Getenv(name)
		}
	}
	l.key, l.workerKey = localKey, localWorkerKey
	if name == "CORDUM_API_KEYS" {
		return seed.Keys
	}
	return os.Getenv(name)
}

func (l *local) startWorker(log *slog.Logger) {
	ctx, cancel := context.WithCancel(context.Background())
	l.stopWorker, l.worker = cancel, make(chan struct{})
	w, err := demoworker.Stream(l.grpc.Addr().String(), l.workerKey, "demo-worker", 8, log)
	if err != nil {
		log.Error("demo worker not started", "error", err)
		close(l.worker)
		return
	}
	go func() {
		defer close(l.worker)
		if err := w.Run(ctx); err != nil && ctx.Err() == nil {
			log.Error("demo worker ended", "error", err)
		}
	}()
}

func (l *local) close() {
	if l.stopWorker != nil {
		l.stopWorker()
	}
	<-l.worker
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if l.metrics != nil {
		_ = l.metrics.Close() // nothing is lost with it
	}
	_ = l.server.Shutdown(ctx) // what is still open after that is closed with the plane
	if err := l.plane.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "cordum-local: close:", err)
	}
}

func (c *devCmd) place() string {
	if c.Memory {
		return ""
	}
	return c.Data
}

// listen says what to do when a port is taken.
func listen(addr, flag, env string) (net.Listener, error) {
	if addr == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use by another program; stop it, or choose another address with %s or %s", addr, flag, env)
	}
	return l, err
}

func (c *devCmd) banner(l *local) {
	base := "http://" + l.http.Addr().String()
	key := l.key
	if key == "" {
		key = "$YOUR_KEY"
	}
	figures := "none"
	if l.metrics != nil {
		figures = "http://" + l.metrics.Addr().String() + "/metrics"
	}
	faults := ""
	if l.faults != nil {
		faults = fmt.Sprintf("    faults     on: %s\n", l.faults.Profile())
	}
	fmt.Printf(`
  Cordum is running.

    REST       %s/api/v1
    gRPC       %s
    API page   %s/docs/
    metrics    %s
    key        %s   (tenant %s)
    data       %s
%s
  Try it:

    curl -s %s/api/v1/jobs -H 'X-API-Key: %s' -H 'X-Tenant-ID: %s' \
      -d '{"topic":"job.demo.wordcount","prompt":"the quick brown fox jumps over the lazy dog"}'

  Routes by function:

`, base, l.grpc.Addr(), base, figures, key, localTenant, or(c.place(), "memory only"), faults, base, key, localTenant)
	for _, f := range l.plane.Functions {
		routes := f.Routes()
		if f.Default && len(routes) > 0 {
			routes = append([]string{"not built yet, 501:"}, routes...)
		}
		if len(routes) > 0 {
			fmt.Printf("    %-12s %s\n", f.Name, strings.Join(routes, "\n                 "))
		}
	}
	fmt.Print("\n  Ctrl-C stops it.\n")
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
