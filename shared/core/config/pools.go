package config

import (
	"context"
	"slices"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// maxNewPools is how many pools one write may add: their queues are made while the caller waits.
const maxNewPools = 50

// EnsurePools makes the queues of the pools that the data of system/default has after a write and had not before. It comes before the write, so that no
// job is routed to a queue that is not there; the queue of a write that fails then stays behind, and costs nothing. Pools of a section that is not
// valid get none: nothing is routed by it. Before may be nil.
func EnsurePools(ctx context.Context, queues queue.Queues, before, after []byte) error {
	had, wanted := pools(before), pools(after)
	var defs []queue.Def
	for _, pool := range wanted {
		if _, there := slices.BinarySearch(had, pool); !there {
			defs = append(defs, resources.PoolQueue(pool))
		}
	}
	if len(defs) > maxNewPools {
		return fault.New(fault.Invalid, "%d new pools at once; add at most %d with one write", len(defs), maxNewPools)
	}
	if len(defs) == 0 {
		return nil
	}
	return queues.Ensure(ctx, defs...)
}

// pools are those that a document routes to, sorted.
func pools(data []byte) []string {
	settings, _ := schedule.ParseSettings(data, nil) // what is not valid routes nothing
	return settings.Topology.Pools()
}
