// Package demoworker makes workers with the demo's skills, one for each of the three ways to jobs: a stream, the pool's queue, and a function behind
// that queue.
package demoworker

import (
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/cordum-serverless/cordum/localdev/skills"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/sdk/worker/lambdaworker"
	"github.com/cordum-serverless/cordum/sdk/worker/sqsqueue"
)

// The demo's pools.
const (
	Pool       = "demo"
	PoolPolled = "demo-polled"
	PoolLambda = "demo-lambda"
)

var options = skills.Options{AllowedHosts: []string{"localhost", "127.0.0.1"}}

// Stream makes a worker of the pool that connects over gRPC.
func Stream(target, key, id string, parallel int, log *slog.Logger) (*worker.Worker, error) {
	w, err := worker.New(worker.Config{
		Target: target, APIKey: key, ID: id, Pool: Pool, MaxParallel: parallel, Logger: log, Labels: map[string]string{"region": "local"},
		Insecure: true,
	})
	if err != nil {
		return nil, err
	}
	skills.Register(w, options)
	return w, nil
}

// Queues say where the plane is for a worker without a stream.
type Queues struct {
	// URL is the plane's, Key a key of role worker, Pool the pool that it serves.
	URL, Key, Pool string
	// AWS reaches SQS. PoolURL is the pool's queue, which a function does not need, InboxURL the plane's.
	AWS               aws.Config
	PoolURL, InboxURL string
}

func (q Queues) config(log *slog.Logger) worker.PollingConfig {
	return worker.PollingConfig{URL: q.URL, APIKey: q.Key, Pool: q.Pool, Inbox: sqsqueue.New(q.AWS, q.InboxURL), Logger: log}
}

// Polling makes a worker that reads the pool's queue.
func Polling(q Queues, log *slog.Logger) (*worker.Polling, error) {
	cfg := q.config(log)
	cfg.Queue = sqsqueue.New(q.AWS, q.PoolURL)
	w, err := worker.NewPolling(cfg)
	if err != nil {
		return nil, err
	}
	skills.Register(w, options)
	return w, nil
}

// Function makes a function that has the pool's queue as its event source.
func Function(q Queues, log *slog.Logger) (lambdaworker.Function, error) {
	var handlers []lambdaworker.Option
	for topic, h := range skills.Handlers(options) {
		handlers = append(handlers, lambdaworker.Handle(topic, h))
	}
	return lambdaworker.New(q.config(log), handlers...)
}
