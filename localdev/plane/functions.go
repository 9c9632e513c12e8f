package plane

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/cordum-serverless/cordum/functions/approvals"
	"github.com/cordum-serverless/cordum/functions/artifacts"
	"github.com/cordum-serverless/cordum/functions/auth"
	"github.com/cordum-serverless/cordum/functions/broadcast"
	"github.com/cordum-serverless/cordum/functions/bundles"
	"github.com/cordum-serverless/cordum/functions/config"
	"github.com/cordum-serverless/cordum/functions/deadletter"
	"github.com/cordum-serverless/cordum/functions/dlq"
	"github.com/cordum-serverless/cordum/functions/engine"
	"github.com/cordum-serverless/cordum/functions/fallback"
	"github.com/cordum-serverless/cordum/functions/inbox"
	"github.com/cordum-serverless/cordum/functions/jobs"
	"github.com/cordum-serverless/cordum/functions/locks"
	"github.com/cordum-serverless/cordum/functions/marketplace"
	"github.com/cordum-serverless/cordum/functions/memory"
	"github.com/cordum-serverless/cordum/functions/packs"
	"github.com/cordum-serverless/cordum/functions/policy"
	"github.com/cordum-serverless/cordum/functions/runs"
	"github.com/cordum-serverless/cordum/functions/scheduler"
	"github.com/cordum-serverless/cordum/functions/schemas"
	"github.com/cordum-serverless/cordum/functions/sealer"
	"github.com/cordum-serverless/cordum/functions/seed"
	"github.com/cordum-serverless/cordum/functions/status"
	"github.com/cordum-serverless/cordum/functions/stream"
	"github.com/cordum-serverless/cordum/functions/sweep"
	"github.com/cordum-serverless/cordum/functions/traces"
	"github.com/cordum-serverless/cordum/functions/users"
	"github.com/cordum-serverless/cordum/functions/workers"
	"github.com/cordum-serverless/cordum/functions/workflows"
	"github.com/cordum-serverless/cordum/localdev/gateway"
	"github.com/cordum-serverless/cordum/shared/core/artifact"
	"github.com/cordum-serverless/cordum/shared/core/audit/chain"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/core/user"
	workflowruns "github.com/cordum-serverless/cordum/shared/core/workflow/runs"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/fetch"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// Function is one Lambda function of the plane, in this process.
type Function struct {
	resources.Function

	// instances are warm and free. As on AWS, one runs one invocation at a time, so it may reuse its buffers.
	instances sync.Pool
}

func newFunction(def resources.Function, handler any) *Function {
	f := &Function{Function: def}
	f.instances.New = func() any { return lambda.NewHandler(handler) }
	return f
}

// Invoke runs the function on an event's bytes, in an instance that nobody else uses meanwhile.
func (f *Function) Invoke(ctx context.Context, event []byte) ([]byte, error) {
	instance := f.instances.Get().(lambda.Handler)
	defer f.instances.Put(instance)
	answer, err := instance.Invoke(ctx, event)
	return bytes.Clone(answer), err
}

// Routes lists what the function answers, "GET /api/v1/jobs"; for the fallback, the routes that no other function serves.
func (f *Function) Routes() []string { return gateway.Routes(f.Name) }

// handlers builds the handlers of the functions of package resources, by name.
var handlers = map[string]func(*dispatch.Dispatcher, rest.Config) any{
	"fallback":   func(_ *dispatch.Dispatcher, edge rest.Config) any { return fallback.Handler(edge) },
	"approvals":  answers(func(d *dispatch.Dispatcher) rest.Group { return approvals.New(d).Group() }),
	"bundles":    answers(func(d *dispatch.Dispatcher) rest.Group { return bundles.New(d).Group() }),
	"config":     answers(func(d *dispatch.Dispatcher) rest.Group { return config.New(d).Group() }),
	"dlq":        answers(func(d *dispatch.Dispatcher) rest.Group { return dlq.New(d).Group() }),
	"jobs":       answers(func(d *dispatch.Dispatcher) rest.Group { return jobs.New(d).Group() }),
	"locks":      answers(func(d *dispatch.Dispatcher) rest.Group { return locks.New(d).Group() }),
	"memory":     answers(func(d *dispatch.Dispatcher) rest.Group { return memory.New(d).Group() }),
	"policy":     answers(func(d *dispatch.Dispatcher) rest.Group { return policy.New(d).Group() }),
	"runs":       answers(func(d *dispatch.Dispatcher) rest.Group { return runs.New(d).Group() }),
	"schemas":    answers(func(d *dispatch.Dispatcher) rest.Group { return schemas.New(d).Group() }),
	"status":     answers(func(d *dispatch.Dispatcher) rest.Group { return status.New(d).Group() }),
	"traces":     answers(func(d *dispatch.Dispatcher) rest.Group { return traces.New(d).Group() }),
	"workers":    answers(func(d *dispatch.Dispatcher) rest.Group { return workers.New(d, nil).Group() }),
	"workflows":  answers(func(d *dispatch.Dispatcher) rest.Group { return workflows.New(d).Group() }),
	"broadcast":  func(d *dispatch.Dispatcher, _ rest.Config) any { return broadcast.Handler(d) },
	"deadletter": func(d *dispatch.Dispatcher, _ rest.Config) any { return deadletter.Handler(d) },
	"engine":     func(d *dispatch.Dispatcher, _ rest.Config) any { return engine.Handler(workflowruns.New(d)) },
	"inbox":      func(d *dispatch.Dispatcher, _ rest.Config) any { return inbox.Handler(d) },
	"scheduler":  func(d *dispatch.Dispatcher, _ rest.Config) any { return scheduler.Handler(d) },
	"stream":     func(d *dispatch.Dispatcher, edge rest.Config) any { return stream.Handler(d, edge) },
	"sweep":      func(d *dispatch.Dispatcher, _ rest.Config) any { return sweep.Handler(d) },
}

func answers(build func(*dispatch.Dispatcher) rest.Group) func(*dispatch.Dispatcher, rest.Config) any {
	return func(d *dispatch.Dispatcher, edge rest.Config) any { return rest.Lambda(rest.New(edge, build(d))) }
}

// apart is what single functions have of their own.
type apart struct {
	sealer    *chain.Sealer
	internet  fetch.Fetcher
	begin     seed.Beginning
	artifacts artifact.Settings
	packs     pack.Options
	accounts  *user.Accounts
}

// functions builds all of them, each with an edge of its own: on AWS they are processes, which share no memory of who may call.
func functions(d *dispatch.Dispatcher, newEdge func() (rest.Config, error), own apart) ([]*Function, error) {
	var out []*Function
	for _, def := range resources.Functions {
		edge, err := newEdge()
		if err != nil {
			return nil, err
		}
		var handler any
		switch def.Name {
		case "artifacts":
			handler = rest.Lambda(rest.New(edge, artifacts.New(d, own.artifacts).Group()))
		case "auth":
			handler = rest.Lambda(rest.New(edge, auth.New(own.accounts, edge.Gate).Group()))
		case "users":
			handler = rest.Lambda(rest.New(edge, users.New(own.accounts).Group()))
		case "marketplace":
			handler = rest.Lambda(rest.New(edge, marketplace.New(d, own.internet, own.packs).Group()))
		case "packs":
			handler = rest.Lambda(rest.New(edge, packs.New(d, own.packs).Group()))
		case "sealer":
			handler = sealer.Handler(own.sealer, d.Log)
		case "seed":
			handler = seed.Handler(d, own.begin, func(string) blob.Store { return d.Jobs.Blobs })
		default:
			handler = handlers[def.Name](d, edge)
		}
		out = append(out, newFunction(def, handler))
	}
	return out, nil
}

// router sends a request to the function of its route.
func router(fs []*Function) gateway.Router {
	return gateway.ByRoute(func(name string) gateway.Function { return byName(fs, name) })
}

// byName finds a function; the caller knows that it is there.
func byName(fs []*Function, name string) *Function {
	return fs[slices.IndexFunc(fs, func(f *Function) bool { return f.Name == name })]
}
