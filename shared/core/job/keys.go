package job

import (
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Everything of one job lies in one partition, J#<job>:
//
//	S           the state item: small, the only one that changes, what acknowledges the job
//	B#<nonce>   the body: the request as submitted, its context, its first decision; immutable
//	D#<micros>  a later decision
//	R#<attempt> the payload that a worker stored as the result of an attempt; immutable
//	C#<child>   a job whose parent this is
//	X           the dead letter (package dlq)
//
// Indexes:
//
//	by_time  JT#<tenant>#<shard>   jobs of a tenant, by the microsecond of their submission or end
//	         JA#<tenant>           those that wait for approval
//	         JX#<tenant>#<shard>   those that ended without success; a list of all jobs merges the three families
//	by_due   DUE#<shard>           every job that is not at its end, by when it must be looked at again
//	by_link  T#<tenant>#<trace>    the bodies of a trace
//	         H#<tenant>#<worker>   the jobs that a worker holds
const (
	stateSK        = "S"
	bodyPrefix     = "B#"
	decisionPrefix = "D#"
	resultPrefix   = "R#"
)

// DueShards is the number of partitions of the due index.
const DueShards = 4

// Partition names the partition of a job.
func Partition(id string) string         { return "J#" + id }
func stateKey(id string) store.Key       { return store.Key{PK: Partition(id), SK: stateSK} }
func bodyKey(id, nonce string) store.Key { return store.Key{PK: Partition(id), SK: bodyPrefix + nonce} }
func decisionKey(id string, micros int64) store.Key {
	return store.Key{PK: Partition(id), SK: decisionPrefix + sortable(micros)}
}
func resultKey(id string, attempt int64) store.Key {
	return store.Key{PK: Partition(id), SK: fmt.Sprintf("%s%06d", resultPrefix, attempt)}
}

func traceLink(tenant, trace, id string) store.Key {
	return store.Key{PK: "T#" + Segment(tenant) + "#" + trace, SK: id}
}

func holderLink(tenant, worker, id string) store.Key {
	return store.Key{PK: "H#" + Segment(tenant) + "#" + worker, SK: id}
}

// counterKey is the item that counts a tenant's active jobs; it exists only where a limit exists.
func counterKey(tenant string) store.Key { return store.Key{PK: "C#" + Segment(tenant), SK: "active"} }

func dueKey(id string, micros int64) store.Key {
	return store.Key{PK: DuePartition(int(hash(id) % DueShards)), SK: sortable(micros) + "#" + id}
}

// DuePartition names a partition of the due index, 0 to DueShards-1.
func DuePartition(shard int) string { return fmt.Sprintf("DUE#%d", shard) }

// Segment makes a name safe inside a key, so that no two tenants share one.
func Segment(name string) string { return segments.Replace(name) }

var segments = strings.NewReplacer("%", "%25", "#", "%23")

// sortable writes microseconds so that their texts sort as they do.
func sortable(micros int64) string { return fmt.Sprintf("%016d", micros) }

func hash(id string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return h.Sum32()
}

// Shards is the number of partitions that a tenant's newest-first lists are spread over: each takes about 1,000 writes a second.
type Shards int

// Of answers the shard of a job.
func (n Shards) Of(id string) int { return int(hash(id) % uint32(max(n, 1))) }

// listKey is where a job stands in its tenant's lists.
func (n Shards) listKey(tenant, id string, s State, micros int64) store.Key {
	return store.Key{PK: n.family(tenant, id, s), SK: sortable(micros) + "#" + id}
}

func (n Shards) family(tenant, id string, s State) string {
	switch {
	case s == ApprovalRequired:
		return "JA#" + Segment(tenant)
	case s.Unsuccessful():
		return fmt.Sprintf("JX#%s#%d", Segment(tenant), n.Of(id))
	default:
		return fmt.Sprintf("JT#%s#%d", Segment(tenant), n.Of(id))
	}
}

// families lists the partitions that may hold jobs in the state; "" is any state.
func (n Shards) families(tenant string, s State) []string {
	var out []string
	if s == "" || s == ApprovalRequired {
		out = append(out, "JA#"+tenant)
	}
	for i := range max(int(n), 1) {
		if s == "" || s.Unsuccessful() {
			out = append(out, fmt.Sprintf("JX#%s#%d", Segment(tenant), i))
		}
		if s == "" || (s != ApprovalRequired && !s.Unsuccessful()) {
			out = append(out, fmt.Sprintf("JT#%s#%d", Segment(tenant), i))
		}
	}
	return out
}
