package cost_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"

	"github.com/cordum-serverless/cordum/localdev/cost"
	"github.com/cordum-serverless/cordum/localdev/seed"
	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	coreseed "github.com/cordum-serverless/cordum/shared/core/seed"
	"github.com/cordum-serverless/cordum/shared/platform/aws"
	"github.com/cordum-serverless/cordum/shared/platform/aws/whole"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// wire counts the requests that the SDK makes, by service and operation.
type wire struct {
	mu    sync.Mutex
	calls map[string]int
}

func (w *wire) count(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("count", func(
		ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
	) (middleware.InitializeOutput, middleware.Metadata, error) {
		w.mu.Lock()
		w.calls[awsmiddleware.GetServiceID(ctx)+"."+awsmiddleware.GetOperationName(ctx)]++
		w.mu.Unlock()
		return next.HandleInitialize(ctx, in)
	}), middleware.After)
}

// of answers the requests to a service so far.
func (w *wire) of(service string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, calls := range w.calls {
		if strings.HasPrefix(name, service+".") {
			n += calls
		}
	}
	return n
}

func (w *wire) print() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(w.calls)) {
		fmt.Printf("cost calls %-28s %d\n", name, w.calls[name])
	}
}

// still is a clock that stands: what is remembered for half a second is remembered however slow the emulator is.
type still struct{ at time.Time }

func (s still) Now() time.Time { return s.at }

// life takes one job from its submission to its end, as the plane's doors do, and answers what that used.
func life(t *testing.T, p dispatch.Platform, meter *store.Meter, queues *cost.Queues, measured func()) cost.Life {
	t.Helper()
	queues.Queues = p.Queues
	p.Clock, p.IDs, p.Log, p.Shards, p.Queues = still{time.Now()}, ids.Source{}, slog.New(slog.DiscardHandler), 4, queues
	d := dispatch.New(p)
	if err := seed.Apply(t.Context(), p.Table, p.Queues, d.Policy, coreseed.Files{}, d.Clock.Now()); err != nil {
		t.Fatal(err)
	}
	one(t, d) // what is read once in a while: settings, policy, who listens
	measured()
	before, calls := meter.Read(), queues.Calls.Load()
	one(t, d)
	return cost.Life{Usage: meter.Read().Since(before), QueueCalls: float64(queues.Calls.Load() - calls)}
}

func one(t *testing.T, d *dispatch.Dispatcher) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	user := identity.Identity{Tenant: "default", Home: "default", Role: identity.User}
	rc, err := d.Submit(ctx, user, dispatch.Submission{Prompt: "abc", Topic: "job.demo.hash"})
	must(err)
	pool := resources.Pool("demo")
	var got []queue.Received
	for begin := time.Now(); len(got) == 0 && time.Since(begin) < 30*time.Second; {
		got, err = d.Queues.Receive(ctx, pool, 1, time.Second, 0)
		must(err)
	}
	if len(got) == 0 {
		t.Fatal("no ticket came")
	}
	ticket, ok := dispatch.ParseTicket(got[0].Body)
	if !ok || ticket.Job != rc.JobID {
		t.Fatalf("ticket %q", got[0].Body)
	}
	who := identity.Identity{Tenant: "default", Home: "default", Role: identity.Worker, Pools: []string{"*"}}
	c, err := d.Claim(ctx, who, dispatch.Claimant{Worker: "w"}, ticket)
	must(err)
	must(d.Queues.Delete(ctx, pool, got[0].Receipt))
	by := dispatch.Holder{Identity: who, Worker: "w", Attempt: ticket.Attempt}
	_, err = d.ReadContext(ctx, by, rc.JobID, c.Record)
	must(err)
	running, err := d.Progress(ctx, by, &agentv1.JobProgress{JobId: rc.JobID, Percent: 50}, c.Record)
	must(err)
	ptr, err := d.WriteResult(ctx, by, rc.JobID, []byte(`{"digest":"ba7816bf8f01cfea"}`), "application/json", running)
	must(err)
	_, err = d.Result(ctx, by, &agentv1.JobResult{JobId: rc.JobID, Status: agentv1.JobStatus_JOB_STATUS_SUCCEEDED, ResultPtr: ptr}, running)
	must(err)
}

// TestCostOnAWS: what DynamoDB says it bills for a job, and what the SDK sends, is what the ports count and the budget is held by.
func TestCostOnAWS(t *testing.T) {
	if os.Getenv("AWS_ENDPOINT_URL") == "" {
		t.Skip("no AWS_ENDPOINT_URL: `make cost` and `make test-aws` run it on LocalStack")
	}
	meter := &store.Meter{}
	e, err := embedded.Open("", embedded.Options{Meter: meter})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	ports := life(t, dispatch.Platform{Table: e.Table(), Queues: e.Queues(), Blobs: e.Blobs()}, meter, &cost.Queues{}, func() {})

	cfg, requests, billed := aws.FromEnv(os.Getenv), &wire{calls: map[string]int{}}, &store.Meter{}
	cfg.APIOptions = append(cfg.APIOptions, requests.count)
	name := "cordum-cost-" + ids.Source{}.Hex(4)
	p := whole.Open(cfg, aws.Names{Table: name, Bucket: name, QueueURL: os.Getenv("AWS_ENDPOINT_URL") + "/000000000000/" + name + "-"}, billed)
	if err := p.Create(t.Context(), resources.Queues("demo")...); err != nil {
		t.Fatal(err)
	}
	queues := &cost.Queues{}
	amazon := life(t, dispatch.Platform{Table: p.Table, Queues: p.Queues, Blobs: p.Blobs}, billed, queues, func() {
		requests.mu.Lock()
		clear(requests.calls)
		requests.mu.Unlock()
		queues.Empty.Store(0)
	})
	ports.Print(os.Stdout, "job-by-ports")
	amazon.Print(os.Stdout, "job-on-aws")
	requests.print()
	if ports != amazon {
		t.Errorf("by the ports %+v, on AWS %+v", ports, amazon)
	}
	if sent, counted := requests.of("DynamoDB"), int(amazon.Reads+amazon.Writes); sent != counted {
		t.Errorf("the SDK sent DynamoDB %d requests, the port counted %d", sent, counted)
	}
	if sent, counted := requests.of("SQS"), int(amazon.QueueCalls)+int(queues.Empty.Load()); sent != counted {
		t.Errorf("the SDK sent SQS %d requests, the port counted %d", sent, counted)
	}
}
