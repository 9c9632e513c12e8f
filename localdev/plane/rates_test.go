package plane_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/cordum-serverless/cordum/localdev/cost"
	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/edge/auth"
	"github.com/cordum-serverless/cordum/shared/edge/boot"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/store"

	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
)

// rated is a plane with these rates; "" is the default.
func rated(perSecond, burst string) plane.Config {
	return having("API_RATE_LIMIT_RPS", perSecond, "API_PUBLIC_RATE_LIMIT_RPS", perSecond, "API_RATE_LIMIT_BURST", burst, "API_PUBLIC_RATE_LIMIT_BURST", burst)
}

// api.md 1.7 and 6.4 (19): a tenant's rate holds over all instances and doors, by the tenant of the credential, whatever a request claims.
func TestTrap19_RatesHoldOverAllInstances(t *testing.T) {
	cfg := rated("1", "9")
	virtually(t, cfg, func(t *testing.T, r *rig) {
		edge, err := boot.Edge(boot.With(cfg.Getenv, nil), r.plane.Dispatcher.Jobs.Table, clock.System{}, cfg.Log) // another instance
		if err != nil {
			t.Fatal(err)
		}
		anyone := auth.Rule{Any: true}
		ask := auth.Request{APIKey: []string{"k-user"}, Tenant: []string{"default"}}
		for range 4 {
			if _, err := edge.Gate.Admit(t.Context(), ask, anyone); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			r.get("/api/v1/jobs").ok(200)
		}
		for range 5 { // it claims another tenant, and uses up its own
			r.as("k-other", "GET", "/api/v1/jobs", nil, "X-Tenant-ID", "default").refused(403, "tenant access denied")
		}
		api := cordumv1.NewCordumApiClient(r.conn())
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", "k-admin")
		for range 2 {
			if _, err := api.GetJobStatus(ctx, &cordumv1.GetJobStatusRequest{JobId: "none"}); status.Code(err) == codes.ResourceExhausted {
				t.Fatal(err)
			}
		}
		a := r.get("/api/v1/jobs")
		a.refused(429, "rate limited")
		if got := a.Header.Get("Retry-After"); got != "1" {
			t.Errorf("Retry-After is %q", got)
		}
		if _, err := api.GetJobStatus(ctx, &cordumv1.GetJobStatusRequest{JobId: "none"}); status.Code(err) != codes.ResourceExhausted || status.Convert(err).Message() != "rate limited" {
			t.Errorf("over gRPC: %v", err)
		}
		if _, err := edge.Gate.Admit(t.Context(), ask, anyone); err == nil {
			t.Error("another instance lets it in")
		}
		for range 4 {
			r.as("k-other", "GET", "/api/v1/jobs", nil).ok(200)
		}
		time.Sleep(2 * time.Second)
		r.get("/api/v1/jobs").ok(200)
		// addresses likewise, on public routes
		public := auth.Rule{Public: true}
		second, err := boot.Edge(boot.With(cfg.Getenv, nil), r.plane.Dispatcher.Jobs.Table, clock.System{}, cfg.Log)
		if err != nil {
			t.Fatal(err)
		}
		let := map[string]int{}
		for i := range 20 {
			for _, address := range []string{"192.0.2.1", "192.0.2.2"} {
				gate := []*auth.Gate{edge.Gate, second.Gate}[i%2]
				if _, err := gate.Admit(t.Context(), auth.Request{Address: address}, public); err == nil {
					let[address]++
				}
			}
		}
		if let["192.0.2.1"] != 9 || let["192.0.2.2"] != 9 {
			t.Errorf("of addresses %v were let in", let)
		}
	})
}

// TestCostOfRates holds the limits to the budget of a job: with those of a plane as it comes, a job costs what it costs without.
func TestCostOfRates(t *testing.T) {
	cfg := rated("", "")
	meter := &store.Meter{}
	cfg.Meter = meter
	virtually(t, cfg, func(t *testing.T, r *rig) {
		r.work(map[string]worker.Handler{"job.test.*": succeed})
		edge, err := boot.Edge(boot.With(cfg.Getenv, nil), r.plane.Dispatcher.Jobs.Table, clock.System{}, cfg.Log)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name  string
			every time.Duration
			most  float64 // dollars for a million requests, with what a plane reads meanwhile that idles
		}{{"rates_10_a_second", 100 * time.Millisecond, 0.2}, {"rates_500_a_second", 2 * time.Millisecond, 0.05}} {
			const requests = 2000
			before := meter.Read()
			for range requests {
				if _, err := edge.Gate.Admit(context.Background(), auth.Request{APIKey: []string{"k-user"}, Tenant: []string{identity.DefaultTenant}}, auth.Rule{Any: true}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(c.every)
			}
			l := cost.Life{Usage: meter.Read().Since(before)}.Divide(requests)
			l.Print(os.Stdout, c.name)
			if d := l.Dollars(); d > c.most {
				t.Errorf("%s: a million requests cost %s dollars more", c.name, fmt.Sprintf("%.3f", d))
			}
		}
	})
}
