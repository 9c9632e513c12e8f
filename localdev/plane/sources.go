package plane

import (
	"time"

	"github.com/cordum-serverless/cordum/localdev/eventsource"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// How the local plane drives functions by queues.
const (
	// pollers is how many invocations of a function one queue drives at one time.
	pollers = 2
	// retryPause hides a message whose handling failed before it comes again.
	retryPause = 2 * time.Second
)

func (p *Plane) mapping(s resources.Source) eventsource.Mapping {
	return eventsource.Mapping{
		Queues: p.queues, Queue: s.Queue, Batch: s.Batch, Function: byName(p.Functions, s.Function), Name: s.Function, Pollers: pollers,
		Retry: retryPause, Region: "local", Account: "000000000000", Log: p.log,
	}
}
