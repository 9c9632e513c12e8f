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

	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/localdev/skills"
	"github.com/cordum-serverless/cordum/sdk/worker"
)

// The keys of the local plane. They open nothing but this machine.
const (
	localKey       = "local-admin-key"
	localWorkerKey = "local-worker-key"
	localTenant    = "default"
)

// localKeys is the CORDUM_API_KEYS of a plane whose environment names no key.
var localKeys = fmt.Sprintf(`[{"key":%q,"tenant":%q,"role":"admin","principal_id":"you"},`+
	`{"key":%q,"tenant":%q,"role":"worker","pools":["*"],"allow_cross_tenant":true}]`, localKey, localTenant, localWorkerKey, localTenant)

type devCmd struct {
	HTTP    string `name:"http" default:"localhost:8081" env:"GATEWAY_HTTP_ADDR" help:"Address of REST and streams."`
	GRPC    string `name:"grpc" default:"localhost:8080" env:"GATEWAY_GRPC_ADDR" help:"Address of gRPC."`
	Data    string `default:".cordum" type:"path" help:"Folder that keeps the data."`
	Memory  bool   `help:"Keep nothing."`
	Policy  string `type:"existingfile" env:"SAFETY_POLICY_PATH" help:"Policy file instead of the local plane's own."`
	Pools   string `type:"existingfile" env:"POOL_CONFIG_PATH" help:"Pools file, used when none is stored yet."`
	Worker  bool   `default:"true" negatable:"" help:"Run the demo worker."`
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
	return nil
}

// local is a plane with its listeners and its demo worker.
type local struct {
	plane      *plane.Plane
	http, grpc net.Listener
	server     *http.Server
	stopWorker context.CancelFunc
	worker     chan struct{}
	key        string
	workerKey  string
}

func (c *devCmd) start(ctx context.Context, logTo *os.File) (_ *local, err error) {
	level := slog.LevelWarn
	if c.Verbose {
		level = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(logTo, &slog.HandlerOptions{Level: level}))
	l := &local{worker: make(chan struct{})}
	close(l.worker)
	if l.http, err = listen(c.HTTP, "--http", "GATEWAY_HTTP_ADDR"); err != nil {
		return nil, err
	}
	if l.grpc, err = listen(c.GRPC, "--grpc", "GATEWAY_GRPC_ADDR"); err != nil {
		return nil, errors.Join(err, l.http.Close())
	}
	cfg := plane.Config{Dir: c.place(), Log: log, Getenv: l.getenv}
	for path, into := range map[string]*[]byte{c.Policy: &cfg.Policy, c.Pools: &cfg.Pools} {
		if path == "" {
			continue
		}
		if *into, err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	if l.plane, err = plane.Open(ctx, cfg); err != nil {
		return nil, errors.Join(err, l.http.Close(), l.grpc.Close())
	}
	l.plane.Start()
	l.server = &http.Server{
		Handler: l.plane.HTTP, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute,
	}
	go func() { _ = l.server.Serve(l.http) }()
	go func() { _ = l.plane.GRPC.Serve(l.grpc) }()
	if c.Worker && l.workerKey != "" {
		l.startWorker(log)
	}
	return l, nil
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
		return localKeys
	}
	return os.Getenv(name)
}

func (l *local) startWorker(log *slog.Logger) {
	ctx, cancel := context.WithCancel(context.Background())
	l.stopWorker, l.worker = cancel, make(chan struct{})
	w, err := demoWorker(l.grpc.Addr().String(), l.workerKey, "demo-worker", 8, log)
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

func demoWorker(target, key, id string, parallel int, log *slog.Logger) (*worker.Worker, error) {
	w, err := worker.New(worker.Config{
		Target: target, APIKey: key, ID: id, Pool: "demo", MaxParallel: parallel, Logger: log, Labels: map[string]string{"region": "local"},
		Insecure: true,
	})
	if err != nil {
		return nil, err
	}
	skills.Register(w, skills.Options{AllowedHosts: []string{"localhost", "127.0.0.1"}})
	return w, nil
}

func (l *local) close() {
	if l.stopWorker != nil {
		l.stopWorker()
	}
	<-l.worker
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
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
	fmt.Printf(`
  Cordum is running.

    REST       %s/api/v1
    gRPC       %s
    API page   %s/docs/
    key        %s   (tenant %s)
    data       %s

  Try it:

    curl -s %s/api/v1/jobs -H 'X-API-Key: %s' -H 'X-Tenant-ID: %s' \
      -d '{"topic":"job.demo.wordcount","prompt":"the quick brown fox jumps over the lazy dog"}'

  Routes by function:

`, base, l.grpc.Addr(), base, key, localTenant, or(c.place(), "memory only"), base, key, localTenant)
	for _, f := range l.plane.Functions {
		routes := f.Routes()
		if f.Name == plane.Fallback {
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
