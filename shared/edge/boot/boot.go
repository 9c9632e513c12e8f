// Package boot turns an environment into what every door of the plane is made of. It is called by main packages, and by the local plane with
// an environment of its own.
package boot

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Ports are the adapters that a process has opened.
type Ports struct {
	Table  store.Table
	Queues queue.Queues
	Blobs  blob.Store
}

// Parts are what a function is made of.
type Parts struct {
	Edge       rest.Config
	Dispatcher *dispatch.Dispatcher
}

// Function builds the parts of a function from its environment.
func Function(getenv func(string) string, p Ports, log *slog.Logger) (Parts, error) {
	edge, err := Edge(getenv, clock.System{}, log)
	if err != nil {
		return Parts{}, err
	}
	shards, err := Shards(getenv)
	if err != nil {
		return Parts{}, err
	}
	d := dispatch.New(dispatch.Platform{
		Table: p.Table, Queues: p.Queues, Blobs: p.Blobs, Clock: clock.System{}, IDs: ids.Source{}, Log: log, Shards: shards,
	})
	return Parts{Edge: edge, Dispatcher: d}, nil
}

// Edge reads the configuration of authentication, limits and origins.
func Edge(getenv func(string) string, clk clock.Clock, log *slog.Logger) (rest.Config, error) {
	keys, err := auth.FromEnv(getenv)
	if err != nil {
		return rest.Config{}, err
	}
	gate, err := auth.New(keys, clk, log)
	if err != nil {
		return rest.Config{}, err
	}
	cfg, err := rest.FromEnv(getenv)
	cfg.Gate, cfg.Log, cfg.Clock, cfg.IDs = gate, log, clk, ids.Source{}
	return cfg, err
}

// defaultShards spreads a tenant's lists over partitions that take about 1,000 writes a second each.
const defaultShards = 4

// Shards reads CORDUM_LIST_SHARDS. It must be the same for every function of a plane, and may not shrink.
func Shards(getenv func(string) string) (job.Shards, error) {
	text := getenv("CORDUM_LIST_SHARDS")
	if text == "" {
		return defaultShards, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 64 {
		return 0, fmt.Errorf("CORDUM_LIST_SHARDS must be a whole number from 1 to 64")
	}
	return job.Shards(n), nil
}

// Log writes JSON lines that carry the id of the Lambda request they belong to.
func Log() *slog.Logger { return lambdacontext.NewLogger() }

// Must ends a process that cannot start. Its environment says why not, and so does the log.
func Must(log *slog.Logger, err error) {
	if err != nil {
		log.Error("cannot start", "error", err)
		os.Exit(1)
	}
}
