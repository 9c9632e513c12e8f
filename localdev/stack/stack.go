// Package stack runs the whole control plane as it runs on AWS, on one machine and any AWS endpoint: real resources made of the shared definitions,
// every function's real binary behind an emulated Runtime API, the gRPC container's binary behind a balancer, and what LocalStack has not: API
// Gateway's HTTP and WebSocket APIs, event source mappings, the schedule. Every AWS request of every process passes a recorder.
package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/cordum-serverless/cordum/localdev/build"
	"github.com/cordum-serverless/cordum/localdev/gateway"
	"github.com/cordum-serverless/cordum/localdev/lambdahost"
	"github.com/cordum-serverless/cordum/localdev/process"
	"github.com/cordum-serverless/cordum/localdev/recorder"
	"github.com/cordum-serverless/cordum/localdev/seed"
	"github.com/cordum-serverless/cordum/shared/platform/aws"
	"github.com/cordum-serverless/cordum/shared/platform/aws/whole"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// Config says what to run. Endpoint is required; the zero value of everything else works.
type Config struct {
	// Endpoint is AWS_ENDPOINT_URL: where AWS, or its emulator, answers.
	Endpoint string
	// Region is "us-east-1" by default.
	Region string
	// Name begins the names of all resources; "" is "cordum-local". What is there already under that name is used.
	Name string
	// Root is the module's folder; "" is the one that holds the current folder. Binaries is where they are built; "" is bin/lambda in it.
	Root, Binaries string
	// HTTP and GRPC are the addresses to listen on; "" is a free port of this machine.
	HTTP, GRPC string
	// Keys is the CORDUM_API_KEYS of the plane's secret; "" is seed.Keys.
	Keys string
	// Env is further environment of the functions and the container.
	Env map[string]string
	// Policy, Pools and Timeouts are the files that the plane begins with; nil is the local plane's own.
	Policy, Pools, Timeouts []byte
	// Signature is the policy's; nil for none.
	Signature []byte
	// Every replaces the interval of functions that a schedule runs; 0 leaves it.
	Every time.Duration
	// Retry is when a message that was not handled comes again; 0 leaves that to the queue's visibility timeout, as on AWS.
	Retry time.Duration
	// Containers is how many gRPC containers run; 0 is one.
	Containers int
	// Workers are Lambda workers beside the plane.
	Workers []Worker
	// Most is how many instances of a function may be at one time; 0 is 10.
	Most int
	// Output gets what all processes print, each line after its function's name; nil is nobody. Log gets what the harness itself says.
	Output io.Writer
	Log    *slog.Logger
}

// Worker is a function that is not the plane's own: a pool's queue is its event source. Its environment has CORDUM_URL, CORDUM_API_KEY, CORDUM_POOL
// and CORDUM_INBOX_URL.
type Worker struct {
	Name string
	// Package is that of its main function, "./localdev/demoworker/lambda".
	Package string
	Pool    string
	// Key is a key of role worker; "" is seed.WorkerKey.
	Key string
	// Batch is the most messages of one invocation; 0 is 4.
	Batch int
	// Timeout must not exceed the visibility timeout of a pool's queue; 0 is a minute.
	Timeout time.Duration
	Env     map[string]string
}

// account is the one that emulators know.
const account = "000000000000"

// Stack is a running plane.
type Stack struct {
	// URL is where REST, streams and the documentation are, GRPC the address of the containers.
	URL, GRPC string
	// Platform are the adapters to what the plane stands on, with credentials of the harness.
	Platform whole.Platform
	// Recorder knows what every function used, and makes its requests fail on demand.
	Recorder *recorder.Recorder

	cfg        Config
	log        *slog.Logger
	output     io.Writer
	aws        sdk.Config
	queueURL   string
	secret     string
	auditKey   string // the name of the secret that signs the audit trail
	builder    *build.Builder
	api        *lambdahost.API
	hosts      map[string]*lambdahost.Host
	sockets    *gateway.Sockets
	server     *http.Server
	web        net.Listener
	containers *containers
	stop       context.CancelFunc
	running    sync.WaitGroup
	closing    sync.Once
	closed     error
}

// Open builds what is not current, creates what is missing, and runs the plane. Close ends it; what is stored stays.
func Open(ctx context.Context, cfg Config) (_ *Stack, err error) {
	if cfg.Endpoint == "" {
		return nil, errors.New("stack: Config.Endpoint is required: AWS_ENDPOINT_URL, for example http://localhost:4566 (LocalStack)")
	}
	if cfg.Root == "" {
		if cfg.Root, err = build.Root("."); err != nil {
			return nil, err
		}
	}
	cfg.Name, cfg.Region = cmp.Or(cfg.Name, "cordum-local"), cmp.Or(cfg.Region, "us-east-1")
	cfg.Binaries = cmp.Or(cfg.Binaries, filepath.Join(cfg.Root, "bin", "lambda"))
	cfg.HTTP, cfg.GRPC = cmp.Or(cfg.HTTP, "127.0.0.1:0"), cmp.Or(cfg.GRPC, "127.0.0.1:0")
	cfg.Keys, cfg.Containers = cmp.Or(cfg.Keys, seed.Keys), max(cfg.Containers, 1)
	s := &Stack{cfg: cfg, log: cfg.Log, output: io.Discard, hosts: map[string]*lambdahost.Host{}, secret: cfg.Name + "/env", auditKey: cfg.Name + "/audit"}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if cfg.Output != nil {
		s.output = process.Serial(cfg.Output)
	}
	s.queueURL = strings.TrimRight(cfg.Endpoint, "/") + "/" + account + "/" + cfg.Name + "-"
	s.builder = build.New(cfg.Root, cfg.Binaries, s.targets()...)
	if _, err := s.builder.Build(ctx); err != nil {
		return nil, err
	}
	s.aws = s.credentials("harness", cfg.Endpoint)
	s.Platform = whole.Open(s.aws, aws.Names{Table: cfg.Name, Bucket: cfg.Name, QueueURL: s.queueURL}, nil)
	if err := s.create(ctx); err != nil {
		return nil, err
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// credentials is a configuration of the SDK for a caller by that name.
func (s *Stack) credentials(caller, endpoint string) sdk.Config {
	env := s.awsEnv(caller, endpoint)
	return aws.FromEnv(func(name string) string { return env[name] })
}

// awsEnv is what a process needs to use AWS under a name: its access key, by which the recorder knows it.
func (s *Stack) awsEnv(caller, endpoint string) map[string]string {
	return map[string]string{
		"AWS_REGION": s.cfg.Region, "AWS_DEFAULT_REGION": s.cfg.Region, "AWS_ACCESS_KEY_ID": caller, "AWS_SECRET_ACCESS_KEY": "local",
		"AWS_SESSION_TOKEN": "", "AWS_ENDPOINT_URL": endpoint,
	}
}

// containerName is the gRPC service's, among the functions.
const containerName = recorder.Container

func (s *Stack) targets() []build.Target {
	out := append(build.Functions(), build.Target{Name: containerName, Package: "./functions/grpc/container"})
	for _, w := range s.cfg.Workers {
		out = append(out, build.Target{Name: w.Name, Package: w.Package})
	}
	return out
}

func (s *Stack) start(ctx context.Context) (err error) {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	if s.web, err = listen(ctx, s.cfg.HTTP); err != nil {
		return err
	}
	s.URL = "http://" + s.web.Addr().String()
	if s.api, err = lambdahost.Listen(); err != nil {
		return err
	}
	names := recorder.Names{
		Table: s.cfg.Name, Bucket: s.cfg.Name, SeedBucket: s.seedBucket(), QueuePrefix: s.cfg.Name + "-", Secret: s.secret, AuditKey: s.auditKey,
	}
	s.Recorder, err = recorder.Open(recorder.Config{
		Endpoint: s.cfg.Endpoint, Names: names,
		Management: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.sockets.ServeManagement(w, r) }),
	})
	if err != nil {
		return err
	}
	for _, f := range resources.Functions {
		s.host(f.Name, f.Memory, f.Timeout, s.environment(f.Name, f.Grants))
	}
	if err := s.setUp(ctx); err != nil {
		return err
	}
	s.front()
	for _, src := range resources.Sources {
		s.drive(running, src)
	}
	for _, w := range s.cfg.Workers {
		s.employ(running, w)
	}
	for _, f := range resources.Functions {
		if f.Every > 0 {
			s.running.Go(func() { s.schedule(running, f) })
		}
	}
	s.containers, err = s.startContainers(ctx)
	if err == nil {
		s.GRPC = s.containers.balancer.addr()
	}
	return err
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("stack: %w", err)
	}
	return l, nil
}

// environment is what a deployment puts into the environment of a function with these grants.
func (s *Stack) environment(name string, grants []resources.Grant) map[string]string {
	env := s.awsEnv(name, s.Recorder.URL)
	env["CORDUM_TABLE"], env["CORDUM_BUCKET"], env["CORDUM_QUEUE_URL"] = s.cfg.Name, s.cfg.Name, s.queueURL
	for _, g := range grants {
		switch g.On.Kind {
		case resources.TheAuditKey:
			env["CORDUM_SECRET"] = s.auditKey
		case resources.TheSecret:
			env["CORDUM_SECRET"] = s.secret
		case resources.Connections:
			env["CORDUM_PUSH_ENDPOINT"] = s.Recorder.URL + "/" + stage
		}
	}
	maps.Copy(env, s.cfg.Env)
	return env
}

// stage is the WebSocket API's.
const stage = "local"

func (s *Stack) host(name string, memory int, timeout time.Duration, env map[string]string) {
	s.hosts[name] = s.api.Host(lambdahost.Config{
		Name: name, Binary: s.builder.Binary(name), Memory: memory, Timeout: timeout, Env: env, Most: s.cfg.Most,
		Output: process.Lines(s.output, fmt.Sprintf("%-12s ", name)),
	})
}

// front serves HTTP and WebSocket by invoking functions.
func (s *Stack) front() {
	sockets := slices.IndexFunc(resources.Functions, func(f resources.Function) bool { return f.Sockets })
	api := gateway.Handler(gateway.ByRoute(func(name string) gateway.Function { return s.hosts[name] }), clock.System{}, s.log)
	s.sockets = gateway.NewSockets(s.hosts[resources.Functions[sockets].Name], embedded.NewConnections(), api, clock.System{}, s.log)
	s.server = &http.Server{
		Handler: gateway.WithPages(s.sockets), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute,
	}
	go func() { _ = s.server.Serve(s.web) }() // until Close
}

// Function answers the host of a function, of the plane or of a worker; nil when there is none of that name.
func (s *Stack) Function(name string) *lambdahost.Host { return s.hosts[name] }

// Functions answers the names of all functions that are hosted.
func (s *Stack) Functions() []string { return slices.Sorted(maps.Keys(s.hosts)) }

// Used answers every AWS action and resource that the plane's processes used so far.
func (s *Stack) Used() []recorder.Use { return s.Recorder.Used() }

// QueueURL answers the URL of a queue by its short name, "inbox" or "pool-demo".
func (s *Stack) QueueURL(name string) string { return s.queueURL + name }

// AWS answers a configuration of the SDK for whoever uses the plane's queues from outside, such as SQS workers, under a name of its own. Its
// requests are recorded too.
func (s *Stack) AWS(caller string) sdk.Config { return s.credentials(caller, s.Recorder.URL) }

// Stamp changes when any file changes that a binary is made of; it is quick.
func (s *Stack) Stamp() string { return s.builder.Stamp() }

// Reload builds what has changed, and has it run in the place of what ran before, which finishes what it does. It answers the names of what it
// replaced. When something does not build, everything else is replaced.
func (s *Stack) Reload(ctx context.Context) ([]string, error) {
	changed, err := s.builder.Build(ctx)
	for _, name := range changed {
		if name == containerName {
			err = errors.Join(err, s.containers.replace(ctx))
			continue
		}
		s.hosts[name].Swap(s.builder.Binary(name))
	}
	return changed, err
}

// shutdown is how long open requests may take to end.
const shutdown = 5 * time.Second

// Close ends all processes. Closing again does nothing.
func (s *Stack) Close() error {
	s.closing.Do(func() { s.closed = s.close() })
	return s.closed
}

func (s *Stack) close() error {
	if s.stop != nil {
		s.stop()
	}
	if s.containers != nil {
		s.containers.close()
	}
	s.running.Wait()
	var errs []error
	if s.sockets != nil {
		s.sockets.Close()
	}
	if s.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), shutdown)
		defer cancel()
		_ = s.server.Shutdown(ctx) // what is still open after that is closed with it
		_ = s.server.Close()
	} else if s.web != nil {
		errs = append(errs, s.web.Close())
	}
	if s.api != nil {
		errs = append(errs, s.api.Close())
	}
	if s.Recorder != nil {
		errs = append(errs, s.Recorder.Close())
	}
	return errors.Join(errs...)
}
