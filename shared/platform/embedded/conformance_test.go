package embedded_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/blob/blobtest"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/push"
	"github.com/cordum-serverless/cordum/shared/platform/push/pushtest"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/queue/queuetest"
	"github.com/cordum-serverless/cordum/shared/platform/store"
	"github.com/cordum-serverless/cordum/shared/platform/store/storetest"
)

// modes are the ways to run that every suite passes.
var modes = map[string]struct {
	file bool
	opts embedded.Options
}{
	"memory":         {},
	"file":           {file: true},
	"unruly":         {opts: embedded.Options{Unruly: 1}},
	"unruly on file": {file: true, opts: embedded.Options{Unruly: 2}},
	"full sync":      {file: true, opts: embedded.Options{Sync: "full", Meter: &store.Meter{}}},
}

func eachMode(t *testing.T, run func(t *testing.T, open func(t testing.TB) *embedded.Platform)) {
	for name, m := range modes {
		t.Run(name, func(t *testing.T) {
			run(t, func(t testing.TB) *embedded.Platform {
				dir := ""
				if m.file {
					dir = t.TempDir()
				}
				return open(t, dir, m.opts)
			})
		})
	}
}

func TestTable(t *testing.T) {
	eachMode(t, func(t *testing.T, open func(t testing.TB) *embedded.Platform) {
		storetest.Run(t, func(t testing.TB) store.Table { return open(t).Table() })
	})
}

func TestTableInVirtualTime(t *testing.T) {
	eachMode(t, func(t *testing.T, open func(t testing.TB) *embedded.Platform) {
		storetest.RunVirtual(t, func(t testing.TB) store.Table { return open(t).Table() })
	})
}

// TestQueues is in real time on a file alone: the other modes differ in nothing that has to do with time.
func TestQueues(t *testing.T) {
	queuetest.Run(t, func(t testing.TB) queue.Queues { return open(t, t.TempDir(), embedded.Options{}).Queues() })
}

func TestQueuesInVirtualTime(t *testing.T) {
	eachMode(t, func(t *testing.T, open func(t testing.TB) *embedded.Platform) {
		queuetest.RunVirtual(t, func(t testing.TB) queue.Queues { return open(t).Queues() })
	})
}

func TestBlobs(t *testing.T) {
	for _, dir := range []bool{false, true} {
		t.Run(map[bool]string{false: "memory", true: "folder"}[dir], func(t *testing.T) {
			blobtest.Run(t, func(t testing.TB) blob.Store {
				server := httptest.NewUnstartedServer(nil)
				folder := ""
				if dir {
					folder = t.TempDir()
				}
				p := open(t, folder, embedded.Options{BlobURL: "http://" + server.Listener.Addr().String() + "/some/blobs"})
				server.Config.Handler = p.Blobs().Handler()
				server.Start()
				t.Cleanup(server.Close)
				return p.Blobs()
			}, blobtest.Options{})
		})
	}
}

func TestConnections(t *testing.T) {
	pushtest.Run(t, func(t testing.TB) pushtest.Endpoint {
		c := open(t, "", embedded.Options{}).Connections()
		return pushtest.Endpoint{Connections: c, Connect: func(testing.TB) pushtest.Client { return connect(c) }}
	})
}

// connect registers a client as localdev does.
func connect(c *embedded.Connections) pushtest.Client {
	id := uuid.NewString()
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
