package stack

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"time"

	"github.com/google/uuid"

	"github.com/cordum-serverless/cordum/localdev/eventsource"
	"github.com/cordum-serverless/cordum/localdev/seed"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// What makes functions run beside HTTP and WebSocket: queues, and the time.

// pollers is how many batches of a queue are under way at one time.
const pollers = 2

func (s *Stack) drive(ctx context.Context, src resources.Source) {
	m := eventsource.Mapping{
		Queues: s.Platform.Queues, Queue: src.Queue, Batch: src.Batch, Function: s.hosts[src.Function], Name: src.Function, Pollers: pollers,
		Retry: s.cfg.Retry, Region: s.cfg.Region, Account: account, Log: s.log,
	}
	s.running.Go(func() { m.Run(ctx) })
}

// Defaults of a Lambda worker.
const (
	workerMemory  = 256
	workerBatch   = 4
	workerTimeout = time.Minute
)

func (s *Stack) employ(ctx context.Context, w Worker) {
	env := s.awsEnv(w.Name, s.Recorder.URL)
	env["CORDUM_URL"], env["CORDUM_API_KEY"] = s.URL, cmp.Or(w.Key, seed.WorkerKey)
	env["CORDUM_POOL"], env["CORDUM_INBOX_URL"] = w.Pool, s.QueueURL(resources.Inbox)
	maps.Copy(env, w.Env)
	s.host(w.Name, workerMemory, cmp.Or(w.Timeout, workerTimeout), env)
	s.drive(ctx, resources.Source{Queue: resources.Pool(w.Pool), Function: w.Name, Batch: cmp.Or(w.Batch, workerBatch)})
}

// schedule runs a function again and again, as a rule of EventBridge does.
func (s *Stack) schedule(ctx context.Context, f resources.Function) {
	tick := time.NewTicker(cmp.Or(s.cfg.Every, f.Every))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		event, err := json.Marshal(map[string]any{
			"version": "0", "id": uuid.NewString(), "detail-type": "Scheduled Event", "source": "aws.events", "account": account,
			"time": time.Now().UTC().Format(time.RFC3339), "region": s.cfg.Region, "detail": map[string]any{},
			"resources": []string{"arn:aws:events:" + s.cfg.Region + ":" + account + ":rule/" + s.cfg.Name + "-" + f.Name},
		})
		if err == nil {
			_, err = s.hosts[f.Name].Invoke(context.WithoutCancel(ctx), event)
		}
		if err != nil {
			s.log.Error("scheduled function failed; it runs again", "function", f.Name, "error", err)
		}
	}
}
