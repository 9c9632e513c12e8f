package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/cordum-serverless/cordum/localdev/demoworker"
	"github.com/cordum-serverless/cordum/localdev/gateway"
	"github.com/cordum-serverless/cordum/localdev/localstack"
	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/localdev/seed"
	"github.com/cordum-serverless/cordum/localdev/stack"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// endpoint is the AWS endpoint of a command: the one it is given, or LocalStack, which it starts then.
type endpoint struct {
	Endpoint string `env:"AWS_ENDPOINT_URL" placeholder:"URL" help:"AWS endpoint; without one, LocalStack is started."`
	Port     int    `name:"localstack-port" default:"4566" help:"Port of the LocalStack that is started."`
	Dir      string `name:"localstack-dir" type:"path" help:"Where LocalStack is installed; the user's cache folder by default."`
}

// open answers the endpoint's URL, and what ends it.
func (e *endpoint) open(ctx context.Context) (url string, end func(), err error) {
	if e.Endpoint != "" {
		return strings.TrimRight(e.Endpoint, "/"), func() {}, nil
	}
	l, err := localstack.Start(ctx, localstack.Config{Dir: e.Dir, Port: e.Port, Say: func(s string) { fmt.Fprintln(os.Stderr, s) }})
	if err != nil {
		return "", nil, err
	}
	return l.URL, l.Stop, nil
}

// withAWSCmd runs another command with AWS_ENDPOINT_URL set.
type withAWSCmd struct {
	endpoint

	Command []string `arg:"" passthrough:"" help:"The command and its arguments."`
}

// Run runs the command, which ends with the endpoint that was started for it.
func (c *withAWSCmd) Run(ctx context.Context) error {
	url, end, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	args := c.Command
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return errors.New("name a command")
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = os.Environ()
	for _, d := range [][2]string{{"AWS_ACCESS_KEY_ID", "test"}, {"AWS_SECRET_ACCESS_KEY", "test"}, {"AWS_REGION", "us-east-1"}} {
		if os.Getenv(d[0]) == "" {
			cmd.Env = append(cmd.Env, d[0]+"="+d[1])
		}
	}
	cmd.Env = append(cmd.Env, "AWS_ENDPOINT_URL="+url)
	return cmd.Run()
}

type localstackCmd struct {
	endpoint

	HTTP    string        `name:"http" default:"localhost:8081" env:"GATEWAY_HTTP_ADDR" help:"Address of REST and streams."`
	GRPC    string        `name:"grpc" default:"localhost:8080" env:"GATEWAY_GRPC_ADDR" help:"Address of gRPC."`
	Name    string        `default:"cordum-local" help:"What the names of all resources begin with."`
	Policy  string        `type:"existingfile" env:"SAFETY_POLICY_PATH" help:"Policy file instead of the local plane's own."`
	Pools   string        `type:"existingfile" env:"POOL_CONFIG_PATH" help:"Pools file, used when none is stored yet."`
	Every   time.Duration `default:"5s" help:"How often what is due is looked for; on AWS it is every minute."`
	Worker  bool          `default:"true" negatable:"" help:"Run the demo workers: one with a stream, one on its pool's queue, one as a Lambda function."`
	Watch   bool          `default:"true" negatable:"" help:"Rebuild and replace what changes."`
	Verbose bool          `short:"v" help:"Show what every process logs, not only warnings and errors."`
}

// Run serves until it is told to stop.
func (c *localstackCmd) Run(ctx context.Context) error {
	url, end, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	cfg, err := c.config(url)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "building what is not current")
	s, err := stack.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() {
		fmt.Fprintln(os.Stderr, "\nstopping")
		if err := s.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "cordum-local: close:", err)
		}
	}()
	var working sync.WaitGroup
	workers, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer working.Wait()
	defer stop()
	if c.Worker {
		if err := employ(workers, s, &working, cfg.Log); err != nil {
			return err
		}
	}
	c.banner(s, url)
	if c.Watch {
		watch(ctx, s)
	}
	<-ctx.Done()
	return nil
}

func (c *localstackCmd) config(url string) (stack.Config, error) {
	var out io.Writer = os.Stderr
	if !c.Verbose {
		out = loud{os.Stderr}
	}
	cfg := stack.Config{
		Endpoint: url, Name: c.Name, HTTP: c.HTTP, GRPC: c.GRPC, Every: c.Every, Retry: 2 * time.Second, Output: out, Env: settings(),
		Keys: os.Getenv("CORDUM_API_KEYS"), Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	for path, into := range map[string]*[]byte{c.Policy: &cfg.Policy, c.Pools: &cfg.Pools} {
		if path == "" {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return cfg, err
		}
		*into = text
	}
	if c.Policy != "" {
		var err error
		if cfg.Signature, err = os.ReadFile(c.Policy + plane.SignatureSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return cfg, err
		}
	}
	if c.Worker {
		if cfg.Pools == nil {
			var err error
			if cfg.Pools, err = demoPools(); err != nil {
				return cfg, err
			}
		}
		cfg.Workers = []stack.Worker{{Name: "demo-worker", Package: "./localdev/demoworker/lambda", Pool: demoworker.PoolLambda}}
	}
	return cfg, nil
}

// demoPools are the local plane's pools, with the demo's topics spread over workers of all three kinds.
func demoPools() ([]byte, error) {
	var all map[string]any
	if err := yaml.Unmarshal(seed.Pools, &all); err != nil {
		return nil, err
	}
	topics, _ := all["topics"].(map[string]any)
	topics["job.demo.*"] = []string{demoworker.Pool, demoworker.PoolPolled, demoworker.PoolLambda}
	return yaml.Marshal(all)
}

// settings are what a person's environment says to the plane's processes.
func settings() map[string]string {
	out := map[string]string{}
	for _, e := range os.Environ() {
		name, value, _ := strings.Cut(e, "=")
		switch {
		case name == "CORDUM_API_KEYS", name == "CORDUM_GATEWAY", name == "CORDUM_API_KEY":
		case strings.HasPrefix(name, "CORDUM_"), strings.HasPrefix(name, "API_"), name == "TENANT_ID", name == "GATEWAY_MAX_JSON_BODY_BYTES":
			out[name] = value
		}
	}
	return out
}

// loud passes on the lines that a person should see: warnings and errors of the log, and whatever is no log at all.
type loud struct{ to io.Writer }

func (l loud) Write(p []byte) (int, error) {
	line := string(p)
	if strings.Contains(line, `"level":"INFO"`) || strings.Contains(line, `"level":"DEBUG"`) {
		return len(p), nil
	}
	return l.to.Write(p)
}

// employ runs the workers that are programs: one with a stream, one on its pool's queue.
func employ(ctx context.Context, s *stack.Stack, working *sync.WaitGroup, log *slog.Logger) error {
	streamer, err := demoworker.Stream(s.GRPC, localWorkerKey, "demo-worker", 8, log)
	if err != nil {
		return err
	}
	poller, err := demoworker.Polling(demoworker.Queues{
		URL: s.URL, Key: localWorkerKey, Pool: demoworker.PoolPolled, AWS: s.AWS("demo-poller"), InboxURL: s.QueueURL(resources.Inbox),
		PoolURL: s.QueueURL(resources.Pool(demoworker.PoolPolled)),
	}, log)
	if err != nil {
		return err
	}
	for _, run := range []func(context.Context) error{streamer.Run, poller.Run} {
		working.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				log.Error("demo worker ended", "error", err)
			}
		})
	}
	return nil
}

// look is how often the sources are looked at.
const look = 500 * time.Millisecond

// watch rebuilds and replaces what changes, until ctx ends.
func watch(ctx context.Context, s *stack.Stack) {
	last := s.Stamp()
	for ctx.Err() == nil {
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return
		}
		now := s.Stamp()
		if now == last {
			continue
		}
		began := time.Now()
		changed, err := s.Reload(ctx)
		last = now
		if after := s.Stamp(); err == nil {
			last = after // it knows the files of new packages by now
		}
		if err != nil && ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "\n%v\n", err)
		}
		if len(changed) > 0 {
			fmt.Fprintf(os.Stderr, "replaced after %s: %s\n", time.Since(began).Round(100*time.Millisecond), strings.Join(changed, ", "))
		}
	}
}

func (c *localstackCmd) banner(s *stack.Stack, url string) {
	fmt.Printf(`
  Cordum is running, every function as its real binary.

    REST       %s/api/v1
    gRPC       %s
    API page   %s/docs/
    key        %s   (tenant %s)
    AWS        %s   table and bucket %s
    binaries   %s

  Try it:

    curl -s %s/api/v1/jobs -H 'X-API-Key: %s' -H 'X-Tenant-ID: %s' \
      -d '{"topic":"job.demo.wordcount","prompt":"the quick brown fox jumps over the lazy dog"}'

  The label preferred_pool chooses among %s (a stream), %s (its queue, read by a program) and %s (a function behind its queue).

  Functions:

`, s.URL, s.GRPC, s.URL, localKey, localTenant, url, c.Name, filepath.Join("bin", "lambda"), s.URL, localKey, localTenant, demoworker.Pool,
		demoworker.PoolPolled, demoworker.PoolLambda)
	for _, f := range resources.Functions {
		fmt.Printf("    %-12s %s\n", f.Name, strings.Join(causes(f), "\n                 "))
	}
	fmt.Print("\n  Ctrl-C stops it.\n")
}

// causes says what makes a function run.
func causes(f resources.Function) []string {
	switch {
	case f.Service != "":
		return gateway.Routes(f.Service)
	case f.Default:
		return []string{"every other request"}
	case f.Sockets:
		return []string{"WebSocket connections"}
	case f.Every > 0:
		return []string{"every " + f.Every.String() + " on AWS"}
	case f.Setup:
		return []string{"a deployment"}
	}
	var out []string
	for _, s := range resources.SourcesOf(f.Name) {
		out = append(out, "queue "+s.Queue)
	}
	return out
}
