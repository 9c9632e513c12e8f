package e2e_test

import (
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/localdev/e2e"
	"github.com/cordum-serverless/cordum/localdev/recorder"
	"github.com/cordum-serverless/cordum/localdev/stack"
	"github.com/cordum-serverless/cordum/sdk/worker/sqsqueue"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// TestStack runs the suite against the plane's real binaries on an emulator of AWS. Nothing may be missing, and what the binaries used of AWS must
// be what their roles grant: no more, and no less.
func TestStack(t *testing.T) {
	endpoint := os.Getenv("AWS_ENDPOINT_URL")
	if endpoint == "" {
		t.Skip("no AWS_ENDPOINT_URL: `make test-aws` runs the suite on an emulator (LocalStack)")
	}
	const sweep = 20 * time.Second
	log := logTo()
	s, err := stack.Open(t.Context(), stack.Config{
		Endpoint: endpoint, Name: "cordum-e2e-" + ids.Source{}.Hex(4), Keys: keys, Every: sweep, Retry: time.Second,
		Most:   24, // a slow machine has more instances busy at one time than AWS has
		Env:    map[string]string{"CORDUM_PACK_CATALOG_DEFAULT_DISABLED": "yes"},
		Output: log, Log: slog.New(slog.NewTextHandler(log, nil)),
		Workers: []stack.Worker{{Name: "e2e-worker", Package: "./localdev/e2e/lambda", Pool: e2e.PoolLambda, Key: workerKey}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	poller := s.AWS("poller")
	target := e2e.Target{
		URL: s.URL, GRPC: s.GRPC, Lambda: true, Sweep: sweep,
		Queue: func(name string) (e2e.Queue, error) { return sqsqueue.New(poller, s.QueueURL(name)), nil },
	}
	if left := e2e.Run(t, withKeys(target)); len(left) > 0 {
		t.Errorf("not applicable: %q", left)
	}
	if t.Failed() {
		return // what was not played used nothing
	}
	for _, f := range recorder.Compare(resources.Functions, resources.Container, s.Used()) {
		if f.Problem == recorder.ProvenAfter {
			t.Log(f) // whether the sweep or a wake-up does a thing differs from run to run
			continue
		}
		t.Error(f)
	}
}

// Keys of the planes that tests start. The worker's serves all pools of its tenant.
const (
	adminKey, otherKey, workerKey = "e2e-admin-key", "e2e-other-key", "e2e-worker-key"

	keys = `[{"key":"` + adminKey + `","tenant":"default","role":"admin"},{"key":"` + otherKey + `","tenant":"other","role":"admin"},` +
		`{"key":"` + workerKey + `","tenant":"default","role":"worker","pools":["*"]}]`
)

func withKeys(t e2e.Target) e2e.Target {
	t.AdminKey, t.WorkerKey, t.Tenant, t.OtherKey, t.OtherTenant = adminKey, workerKey, "default", otherKey, "other"
	return t
}

// logTo shows the plane's log only where somebody asked for it: CORDUM_TEST_LOG=1.
func logTo() io.Writer {
	if os.Getenv("CORDUM_TEST_LOG") != "" {
		return os.Stderr
	}
	return io.Discard
}
