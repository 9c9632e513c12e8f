package rest_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

// BenchmarkLambda is what every request costs before a service does anything: event bytes in, a small answer out, the log line written.
func BenchmarkLambda(b *testing.B) {
	env := map[string]string{"CORDUM_API_KEYS": keys, "API_RATE_LIMIT_RPS": "1000000000", "API_RATE_LIMIT_BURST": "1000000000"}
	getenv := func(name string) string { return env[name] }
	access, err := auth.FromEnv(getenv)
	if err != nil {
		b.Fatal(err)
	}
	cfg, err := rest.FromEnv(getenv)
	if err != nil {
		b.Fatal(err)
	}
	cfg.Clock, cfg.Log = clock.System{}, slog.New(slog.DiscardHandler)
	if cfg.Gate, err = auth.New(access, cfg.Clock, cfg.Log); err != nil {
		b.Fatal(err)
	}
	fn := lambda.NewHandler(rest.Lambda(rest.New(cfg, trivial())))
	in, err := json.Marshal(event(b, as("k-user", "GET", "/api/v1/status")))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := fn.Invoke(context.Background(), in); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}
