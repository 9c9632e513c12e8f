// Package boot turns an environment into what every door of the plane is made of. It is called by main packages, and by the local plane with
// an environment of its own.
package boot

import (
	"fmt"
	"log/slog"
	"strconv"

	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
)

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
