package e2e_test

import (
	"cmp"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/cordum-serverless/cordum/localdev/e2e"
	"github.com/cordum-serverless/cordum/sdk/worker/sqsqueue"
)

// given is a variable of `make e2e`. README.md lists them.
func given(name string) string { return os.Getenv("E2E_" + name) }

// TestDeployment runs the suite against a plane that is somewhere: `make e2e URL=... KEY=...`.
func TestDeployment(t *testing.T) {
	target := e2e.Target{
		URL: given("URL"), AdminKey: given("KEY"), WorkerKey: given("WORKER_KEY"), GRPC: given("GRPC"),
		Tenant: cmp.Or(given("TENANT"), "default"), OtherKey: given("OTHER_KEY"), OtherTenant: cmp.Or(given("OTHER_TENANT"), "other"),
		Lambda: given("LAMBDA") != "", Sweep: time.Minute,
	}
	if target.URL == "" || target.AdminKey == "" {
		t.Skip("no deployment: `make e2e URL=https://... KEY=...` runs the suite against one")
	}
	if prefix := given("QUEUES"); prefix != "" {
		cfg, err := config.LoadDefaultConfig(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		target.Queue = func(name string) (e2e.Queue, error) { return sqsqueue.New(cfg, prefix+name), nil }
	}
	e2e.Run(t, target)
}
