package e2e_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/localdev/e2e"
	"github.com/cordum-serverless/cordum/localdev/plane"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
)

// TestEmbedded runs the suite against a plane in this process, with listeners as `make dev` has them. Nothing may be missing.
func TestEmbedded(t *testing.T) {
	target, queues := embedded(t)
	serveLambda(t, queues("pool-"+e2e.PoolLambda), worker.PollingConfig{
		URL: target.URL, APIKey: target.WorkerKey, Pool: e2e.PoolLambda, Inbox: queues("inbox"), Logger: slog.New(slog.DiscardHandler),
	})
	if left := e2e.Run(t, target); len(left) > 0 {
		t.Errorf("not applicable: %q", left)
	}
}

func embedded(t *testing.T) (e2e.Target, func(string) e2e.Queue) {
	t.Helper()
	env := map[string]string{"CORDUM_API_KEYS": keys, "CORDUM_PACK_CATALOG_DEFAULT_DISABLED": "yes"}
	web, rpc := listen(t), listen(t)
	cfg := plane.Config{
		Getenv: func(name string) string { return env[name] }, Log: slog.New(slog.NewTextHandler(logTo(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	cfg.Embedded.BlobURL = "http://" + web.Addr().String() + "/objects"
	p, err := plane.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	server := &http.Server{Handler: p.HTTP, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second}
	go func() { _ = server.Serve(web) }()
	go func() { _ = p.GRPC.Serve(rpc) }()
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		_ = server.Close()
	})
	queues := func(name string) e2e.Queue { return planeQueue{p.Dispatcher.Queues, name} }
	return withKeys(e2e.Target{
		URL: "http://" + web.Addr().String(), GRPC: rpc.Addr().String(), Lambda: true, Sweep: time.Second,
		Queue: func(name string) (e2e.Queue, error) { return queues(name), nil },
	}), queues
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// planeQueue is a queue of the plane in this process as the SDK wants it.
type planeQueue struct {
	queues queue.Queues
	name   string
}

func (q planeQueue) Receive(ctx context.Context, most int, hidden time.Duration) ([]worker.Message, error) {
	received, err := q.queues.Receive(ctx, q.name, most, 20*time.Second, hidden)
	var out []worker.Message
	for _, m := range received {
		out = append(out, worker.Message{ID: m.ID, Body: m.Body, Receipt: m.Receipt})
	}
	return out, err
}

func (q planeQueue) Delete(ctx context.Context, ms ...worker.Message) error {
	var receipts []string
	for _, m := range ms {
		receipts = append(receipts, m.Receipt)
	}
	return q.queues.Delete(ctx, q.name, receipts...)
}

func (q planeQueue) Return(ctx context.Context, m worker.Message, hidden time.Duration) error {
	return q.queues.Extend(ctx, q.name, m.Receipt, hidden)
}

func (q planeQueue) Send(ctx context.Context, bodies ...string) error {
	var ms []queue.Message
	for _, b := range bodies {
		ms = append(ms, queue.Message{Body: b})
	}
	return q.queues.Send(ctx, q.name, ms...)
}
