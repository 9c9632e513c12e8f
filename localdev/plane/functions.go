package plane

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/cordum-serverless/cordum/functions/fallback"
	"github.com/cordum-serverless/cordum/functions/jobs"
	"github.com/cordum-serverless/cordum/functions/memory"
	"github.com/cordum-serverless/cordum/functions/status"
	"github.com/cordum-serverless/cordum/functions/sweep"
	"github.com/cordum-serverless/cordum/functions/traces"
	"github.com/cordum-serverless/cordum/localdev/gateway"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/edge/rest"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
)

// Function is one Lambda function of the plane, in this process.
type Function struct {
	Name string
	// Services are the route groups that it serves, by their full names; empty for one that events drive.
	Services []string
	// instances are warm and free. As on AWS, one runs one invocation at a time, so it may reuse its buffers.
	instances sync.Pool
}

func newFunction(name string, services []string, handler any) *Function {
	f := &Function{Name: name, Services: services}
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

// Routes lists what the function answers, "GET /api/v1/jobs".
func (f *Function) Routes() []string {
	var out []string
	for _, r := range routes.All() {
		if slices.Contains(f.Services, r.Service()) {
			out = append(out, fmt.Sprintf("%-6s %s", r.Method, r.Path))
		}
	}
	return out
}

// groups builds the functions behind the gateway, by the name of their folder. A test compares it with the folders.
var groups = map[string]struct {
	service string
	build   func(*dispatch.Dispatcher) rest.Group
}{
	"jobs":   {cordumv1.Jobs_ServiceDesc.ServiceName, func(d *dispatch.Dispatcher) rest.Group { return jobs.New(d).Group() }},
	"memory": {cordumv1.Memory_ServiceDesc.ServiceName, func(d *dispatch.Dispatcher) rest.Group { return memory.New(d).Group() }},
	"status": {cordumv1.Status_ServiceDesc.ServiceName, func(d *dispatch.Dispatcher) rest.Group { return status.New(d).Group() }},
	"traces": {cordumv1.Traces_ServiceDesc.ServiceName, func(d *dispatch.Dispatcher) rest.Group { return traces.New(d).Group() }},
}

// handlers builds the functions that events drive.
var handlers = map[string]func(*dispatch.Dispatcher) any{
	"sweep": func(d *dispatch.Dispatcher) any { return sweep.Handler(d) },
}

// Fallback is the function of what no other serves.
const Fallback = "fallback"

// functions builds all of them. What no function serves goes to the fallback: unknown paths, wrong methods, routes that are not built.
func functions(d *dispatch.Dispatcher, edge rest.Config) []*Function {
	var out []*Function
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		g := groups[name]
		out = append(out, newFunction(name, []string{g.service}, rest.Lambda(rest.New(edge, g.build(d)))))
	}
	for _, name := range slices.Sorted(maps.Keys(handlers)) {
		out = append(out, newFunction(name, nil, handlers[name](d)))
	}
	last := newFunction(Fallback, nil, fallback.Handler(edge))
	for _, r := range routes.All() {
		served := slices.ContainsFunc(out, func(f *Function) bool { return slices.Contains(f.Services, r.Service()) })
		if !served && !slices.Contains(last.Services, r.Service()) {
			last.Services = append(last.Services, r.Service())
		}
	}
	return append(out, last)
}

// router sends a request to the function of its route.
func router(fs []*Function) gateway.Router {
	byService := map[string]*Function{}
	fallback := fs[len(fs)-1]
	for _, f := range fs {
		for _, s := range f.Services {
			byService[s] = f
		}
	}
	table := routes.Default()
	return func(method, path string) gateway.Function {
		if match, err := table.Find(method, path); err == nil && match.Route != nil {
			if f := byService[match.Route.Service()]; f != nil {
				return f
			}
		}
		return fallback
	}
}

// byName finds a function; the caller knows that it is there.
func byName(fs []*Function, name string) *Function {
	return fs[slices.IndexFunc(fs, func(f *Function) bool { return f.Name == name })]
}
