// Package plane runs the whole control plane in one process: every function behind the bytes of the events that it gets on AWS, the gRPC
// container, the timers, on the embedded adapters.
package plane

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/goccy/go-yaml"
	grpcgo "google.golang.org/grpc"

	"github.com/cordum-serverless/cordum/functions/grpc"
	"github.com/cordum-serverless/cordum/localdev/gateway"
	"github.com/cordum-serverless/cordum/localdev/seed"
	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/rpc"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
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
	// Settings are further members of the document system/default, as JSON.
	Settings map[string]json.RawMessage
	Log      *slog.Logger
	Meter    *store.Meter
	// Platform replaces the embedded adapters' ports, for tests that inject faults.
	Wrap func(dispatch.Platform) dispatch.Platform
	// Options of the embedded adapters.
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
	stop     context.CancelFunc
	running  sync.WaitGroup
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
	p := &Plane{platform: e, log: cfg.Log}
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
	p.Dispatcher = dispatch.New(ports)
	if err := p.seed(ctx, cfg); err != nil {
		return err
	}
	edge, err := edgeConfig(cfg, ports)
	if err != nil {
		return err
	}
	if p.Functions, err = functions(p.Dispatcher, ports, edge); err != nil {
		return err
	}
	p.HTTP = front(gateway.Handler(router(p.Functions), cfg.Log))
	p.workers = grpc.NewWorkers(p.Dispatcher, cfg.Log)
	p.GRPC = grpcServer(p, edge)
	return nil
}

// listShards is small: one machine has no partition to spread over.
const listShards job.Shards = 1

func edgeConfig(cfg Config, ports dispatch.Platform) (rest.Config, error) {
	getenv := cfg.Getenv
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	keys, err := auth.FromEnv(getenv)
	if err != nil {
		return rest.Config{}, err
	}
	gate, err := auth.New(keys, ports.Clock, cfg.Log)
	if err != nil {
		return rest.Config{}, err
	}
	edge, err := rest.FromEnv(getenv)
	edge.Gate, edge.Log, edge.Clock, edge.IDs = gate, cfg.Log, ports.Clock, ports.IDs
	return edge, err
}
