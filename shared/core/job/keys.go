package job

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Everything of one job lies in one partition, J#<job>:
//
//	S           the state item: small, the only one that changes, what acknowledges the job
//	B#<nonce>   the body: the request as submitted, its context, its first decision; immutable
//	D#<micros>  a later decision
//	R#<attempt> the payload that a worker stored as the result of an attempt; immutable
//	A#<micros>  an approval that was resolved; immutable
//	C#<child>   a job whose parent this is (written with the child)
//	I#<tenant>#<worker> a result of a worker that did not have the job was noted in the audit trail
//	X           the dead letter (package dlq)
//
// Indexes:
//
//	by_time  JW#<tenant>#<shard>   jobs of a tenant that are not at their end, by the microsecond of their submission
//	         JA#<tenant>           those of them that wait for approval
//	         JR#<tenant>           approvals that were resolved, by the microsecond of that
//	         JT#<tenant>#<shard>   those that succeeded, by the microsecond of their end
//	         JX#<tenant>#<shard>   those that ended without success, likewise; a list of all jobs merges the four families. The sort
//	                               key also carries hashes of topic and team, and in JX of the state, so that a filter passes over keys
//	                               without reading jobs
//	by_due   DUE#<shard>           every job that is not at its end, by when it must be looked at again
//	         LOG#<n>               bodies and later decisions, by their microsecond, where the sealer of the audit trail finds them
//	by_link  T#<tenant>#<trace>    the bodies of a trace, but for its root's
//	         H#<tenant>#<worker>   the jobs that a worker holds
const (
	stateSK        = "S"
	bodyPrefix     = "B#"
	decisionPrefix = "D#"
	resultPrefix   = "R#"
	childPrefix    = "C#"
	suspectPrefix  = "I#"
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

func childKey(parent, id string) store.Key {
	return store.Key{PK: Partition(parent), SK: childPrefix + id}
}

// stepForm is the id of the job of a step: "<run>:<step>@<attempt>", of a child of one "<run>:<step>[<index>]@<attempt>".
var stepForm = regexp.MustCompile(`^([0-9a-f-]{36}):([A-Za-z0-9_-]+(?:\[[0-9]+\])?)@[0-9]+$`)

// RunOf answers the run whose step a job is; ok is false for any other job.
func RunOf(id string) (run string, ok bool) {
	m := stepForm.FindStringSubmatch(id)
	if m == nil {
		return "", false
	}
	return m[1], true
}

// objectName is a job's id in the key of an object, which takes no brackets.
func objectName(id string) string { return brackets.Replace(id) }

var brackets = strings.NewReplacer("[", "~5B", "]", "~5D")

// RootID is the id of the job that begins a trace, when nothing else settles it: it needs no entry in the index to be found.
func RootID(trace string) string { return ids.Named("root", trace) }

// Acknowledged answers for the key of a body the key of the state item that must name it: one that none names is of a submission that came to
// nothing. ok is false for another key.
func Acknowledged(body store.Key) (state store.Key, named func(store.Item) bool, ok bool) {
	nonce, ok := strings.CutPrefix(body.SK, bodyPrefix)
	if !ok || !strings.HasPrefix(body.PK, Partition("")) {
		return store.Key{}, nil, false
	}
	return store.Key{PK: body.PK, SK: stateSK}, func(it store.Item) bool { return it.Attrs.String(aBody) == nonce }, true
}

func traceLink(tenant, trace, id string) store.Key {
	return store.Key{PK: "T#" + listing.Segment(tenant) + "#" + trace, SK: id}
}

func holderLink(tenant, worker, id string) store.Key {
	return store.Key{PK: "H#" + listing.Segment(tenant) + "#" + worker, SK: id}
}

// Suspected marks that a result of a worker which did not have the job is noted; its condition fails when it is already. It takes part in the
// transaction that notes it.
func Suspected(r *Record, tenant, worker string) store.Op {
	key := store.Key{PK: Partition(r.ID), SK: suspectPrefix + listing.Segment(tenant) + "#" + worker}
	return store.Put(store.Item{Key: key, Expires: r.ExpiresAt}).If(store.NotExists())
}

// counterKey is the item that counts a tenant's active jobs; it exists only where a limit exists.
func counterKey(tenant string) store.Key {
	return store.Key{PK: "C#" + listing.Segment(tenant), SK: "active"}
}

func dueKey(id string, micros int64) store.Key {
	return store.Key{PK: DuePartition(int(listing.Hash(id) % DueShards)), SK: sortable(micros) + "#" + id}
}

// DuePartition names a partition of the due index, 0 to DueShards-1.
func DuePartition(shard int) string { return fmt.Sprintf("DUE#%d", shard) }

func sortable(micros int64) string { return listing.Sortable(micros) }

// Shards is the number of partitions that a tenant's newest-first lists are spread over: each takes about 1,000 writes a second.
type Shards int

// Of answers the shard of a job.
func (n Shards) Of(id string) int { return int(listing.Hash(id) % uint32(max(n, 1))) }

// listKey is where a job stands in its tenant's lists.
func (n Shards) listKey(r *Record) store.Key {
	marks := Mark(r.Topic) + Mark(r.Team)
	if r.State.Unsuccessful() { // for good: elsewhere a change of state leaves the entry where it is
		marks += Mark(string(r.State))
	}
	return store.Key{PK: n.family(r.Tenant, r.ID, r.State), SK: sortable(r.ListedAt) + "#" + marks + "#" + r.ID}
}

// markLength is the length of a Mark.
const markLength = 8

// Mark is a hash of a word that lists filter by.
func Mark(word string) string { return fmt.Sprintf("%08x", listing.Hash(word)) }

func (n Shards) family(tenant, id string, s State) string {
	switch {
	case s == ApprovalRequired:
		return "JA#" + listing.Segment(tenant)
	case s.Unsuccessful():
		return fmt.Sprintf("JX#%s#%d", listing.Segment(tenant), n.Of(id))
	case s == Succeeded:
		return fmt.Sprintf("JT#%s#%d", listing.Segment(tenant), n.Of(id))
	default:
		return fmt.Sprintf("JW#%s#%d", listing.Segment(tenant), n.Of(id))
	}
}

// families lists the partitions that may hold jobs in the state; "" is any state.
func (n Shards) families(tenant string, s State) []string {
	var out []string
	if s == "" || s == ApprovalRequired {
		out = append(out, "JA#"+listing.Segment(tenant))
	}
	for i := range max(int(n), 1) {
		if s == "" || s.Unsuccessful() {
			out = append(out, fmt.Sprintf("JX#%s#%d", listing.Segment(tenant), i))
		}
		if s == "" || s == Succeeded {
			out = append(out, fmt.Sprintf("JT#%s#%d", listing.Segment(tenant), i))
		}
		if s == "" || !s.Terminal() && s != ApprovalRequired {
			out = append(out, fmt.Sprintf("JW#%s#%d", listing.Segment(tenant), i))
		}
	}
	return out
}
