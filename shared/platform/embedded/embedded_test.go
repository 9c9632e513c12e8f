package embedded_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/push"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var (
	_ store.Table      = (*embedded.Table)(nil)
	_ queue.Queues     = (*embedded.Queues)(nil)
	_ blob.Store       = (*embedded.Blobs)(nil)
	_ push.Connections = (*embedded.Connections)(nil)
)

func TestMain(m *testing.M) {
	if childDir() != "" {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

// open opens a platform for one test.
func open(t testing.TB, dir string, opts embedded.Options) *embedded.Platform {
	t.Helper()
	p, err := embedded.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return p
}
