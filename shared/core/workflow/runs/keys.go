package runs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/core/workflow/engine"
	"github.com/cordum-serverless/cordum/shared/core/workflow/inbox"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Everything of one run lies in one partition, R#<run>:
//
//	E#<event>        what has happened and is not taken in (package inbox)
//	H                the header: what every commit changes, under the condition that nobody else has
//	P#<record>       a step or a child that was reached, or a root of the context
//	T#<version>#<n>  what a commit has to tell: entries of the timeline, in order
//	V#<hash>         a value too large for where it is used; its text is here or, when it is larger than job.InlineLimit, in the blob store
//
// Elsewhere:
//
//	RK#<tenant>#<hash>  the run that an idempotency key has started, for a week
//	RC#<tenant>         how many runs of a tenant have not ended; only where they are limited
//
// Indexes:
//
//	by_time  RL#<tenant>#<shard>     runs of a tenant, by the microsecond of their last change. The sort key also carries hashes of status,
//	                                 workflow and team, so that a filter passes over keys without reading runs
//	by_link  RW#<tenant>#<workflow>  runs of a workflow, by the microsecond of their creation
//	by_due   DR#<shard>              headers, events and records that somebody must look at (package inbox)
//
// A run is kept for 30 days after its end: then its header is due, and whoever looks removes the partition. That is exact, and also what deleting a
// run does; a TTL on each item would need each to be written once more.
const (
	timelinePrefix = "T#"
	valuePrefix    = "V#"
)

func timelineKey(run string, version int64, n int) store.Key {
	return store.Key{PK: inbox.Partition(run), SK: fmt.Sprintf("%s%010d#%03d", timelinePrefix, version, n)}
}

func valueKey(run, ref string) store.Key {
	return store.Key{PK: inbox.Partition(run), SK: valuePrefix + ref}
}

// object names a value in the blob store.
func object(run, ref string) string { return resources.RunObjects + "/" + run + "/" + ref }

func onceKey(tenant, key string) store.Key {
	sum := sha256.Sum256([]byte(key))
	return store.Key{PK: "RK#" + listing.Segment(tenant) + "#" + hex.EncodeToString(sum[:16]), SK: "K"}
}

func counterKey(tenant string) store.Key {
	return store.Key{PK: "RC#" + listing.Segment(tenant), SK: "active"}
}

func listPartition(tenant string, shard int) string {
	return fmt.Sprintf("RL#%s#%d", listing.Segment(tenant), shard)
}

func workflowPartition(tenant, workflow string) string {
	return "RW#" + listing.Segment(tenant) + "#" + workflow
}

// entries are where the header stands in the indexes.
func (h *header) entries(shards job.Shards) map[store.Index]store.Key {
	at := map[store.Index]store.Key{}
	if h.due != 0 {
		at[store.ByDue] = inbox.Due(h.ID, h.due)
	}
	if !h.deleted {
		at[store.ByTime] = store.Key{
			PK: listPartition(h.OrgID, shards.Of(h.ID)),
			SK: listing.Sortable(h.UpdatedAt.UnixMicro()) + "#" + marks(h.Status, h.WorkflowID, h.TeamID) + "#" + h.ID,
		}
		at[store.ByLink] = store.Key{PK: workflowPartition(h.OrgID, h.WorkflowID), SK: listing.Sortable(h.CreatedAt.UnixMicro()) + "#" + h.ID}
	}
	return at
}

// marks are the hashes that a filter compares; "" in a filter matches everything.
func marks(status engine.Status, workflow, team string) string {
	return job.Mark(string(status)) + job.Mark(workflow) + job.Mark(team)
}
