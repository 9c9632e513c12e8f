package chaos_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/blob/blobtest"
	"github.com/cordum-serverless/cordum/shared/platform/chaos"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/push"
	"github.com/cordum-serverless/cordum/shared/platform/push/pushtest"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/queue/queuetest"
	"github.com/cordum-serverless/cordum/shared/platform/store"
	"github.com/cordum-serverless/cordum/shared/platform/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens a platform in memory for one test.
func open(t testing.TB, opts embedded.Options) *embedded.Platform {
	t.Helper()
	p, err := embedded.Open("", opts)
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

// harmless are profiles under which a port does all that its suite asks for.
var harmless = map[string]chaos.Profile{
	"no faults": {},
	"delays":    {Delays: 0.3, MaxDelay: 5 * time.Millisecond, Seed: 1},
}

func TestTableConforms(t *testing.T) {
	for name, p := range harmless {
		t.Run(name, func(t *testing.T) {
			storetest.RunVirtual(t, func(t testing.TB) store.Table { return chaos.New(p).Table(open(t, embedded.Options{}).Table()) })
		})
	}
}

func TestQueuesConform(t *testing.T) {
	for name, p := range harmless {
		t.Run(name, func(t *testing.T) {
			queuetest.RunVirtual(t, func(t testing.TB) queue.Queues { return chaos.New(p).Queues(open(t, embedded.Options{}).Queues()) })
		})
	}
}

func TestBlobsConform(t *testing.T) {
	for name, p := range harmless {
		t.Run(name, func(t *testing.T) {
			blobtest.Run(t, func(t testing.TB) blob.Store {
				server := httptest.NewUnstartedServer(nil)
				platform := open(t, embedded.Options{BlobURL: "http://" + server.Listener.Addr().String() + "/blobs"})
				server.Config.Handler = platform.Blobs().Handler()
				server.Start()
				t.Cleanup(server.Close)
				return chaos.New(p).Blobs(platform.Blobs())
			}, blobtest.Options{})
		})
	}
}

func TestConnectionsConform(t *testing.T) {
	for name, p := range harmless {
		t.Run(name, func(t *testing.T) {
			pushtest.Run(t, func(t testing.TB) pushtest.Endpoint {
				c := open(t, embedded.Options{}).Connections()
				return pushtest.Endpoint{
					Connections: chaos.New(p).Connections(c), Connect: func(testing.TB) pushtest.Client { return connect(c) },
				}
			})
		})
	}
}

// connect registers a client, as localdev does.
func connect(c *embedded.Connections) pushtest.Client {
	id := ids.Source{}.UUID()
	frames := make(chan []byte, 100)
	var mu sync.Mutex
	closed := false
	send := func(_ context.Context, frame []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if closed {
			return errors.New("closed")
		}
		frames <- frame
		return nil
	}
	drop := func() {
		mu.Lock()
		defer mu.Unlock()
		if !closed {
			closed = true
			close(frames)
		}
	}
	unregister := c.Register(id, send, func(push.Reason) { drop() })
	return pushtest.Client{ID: id, Frames: frames, Close: func() {
		unregister()
		drop()
	}}
}
