// Package audit is the trail of who changed what: one entry for every mutation that a client asks for, written in the transaction of the mutation,
// never changed, never deleted. The entry of a submission is its job's decision record.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Entry is one mutation.
type Entry struct {
	// ID is the time and a hash of the entry: 2026-02-12T09:06:00Z-7ce4a10b95d8.
	ID     string `json:"id"`
	Tenant string `json:"tenant"`
	// At is when, in microseconds.
	At int64 `json:"at"`
	// Action is a verb: approve, cancel, publish. ResourceType and ResourceID say of what: job, policy, dlq.
	Action       string `json:"action"`
	ResourceType string `json:"resource_type"`
	ResourceID   string `json:"resource_id,omitempty"`
	ResourceName string `json:"resource_name,omitempty"`
	// ActorID is the principal, else the credential's id.
	ActorID string `json:"actor_id,omitempty"`
	Role    string `json:"role,omitempty"`
	// Message is what the caller said about it.
	Message   string `json:"message,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	// Before and After are what the mutation changed, as short words: a revision, a snapshot, a state. Either may be "".
	Before    string   `json:"before,omitempty"`
	After     string   `json:"after,omitempty"`
	BundleIDs []string `json:"bundle_ids,omitempty"`
}

// By is an entry for what somebody does now. micros should differ between two entries of one process.
func By(id identity.Identity, micros int64, action, resourceType, resourceID string) Entry {
	actor := id.Principal
	if actor == "" {
		actor = id.KeyID
	}
	return Entry{
		Tenant: id.Tenant, At: micros, Action: action, ResourceType: resourceType, ResourceID: resourceID, ActorID: actor, Role: string(id.Role),
		RequestID: id.RequestID,
	}
}

// Where entries lie: AU#<tenant>#<shard> | <micros>#<id>, in by_time at LOG#<n>, as everything does that the sealer must see.
const (
	tenantShards = 4
	// LogShards is the number of partitions of the log in by_time: each takes about 1,000 writes a second.
	LogShards = 16
)

// LogKey is where the sealer finds an item: its place in the log by its time. name is its partition and sort key.
func LogKey(name store.Key, micros int64) store.Key {
	return store.Key{PK: LogPartition(int(hash(name.String()) % LogShards)), SK: listing.Sortable(micros)}
}

// LogPartition names a partition of the log, 0 to LogShards-1.
func LogPartition(n int) string { return fmt.Sprintf("LOG#%d", n) }

func hash(s string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return h.Sum32()
}

func partition(tenant string, shard uint32) string {
	return fmt.Sprintf("AU#%s#%d", segments.Replace(tenant), shard)
}

var segments = strings.NewReplacer("%", "%25", "#", "%23")

// Op writes the entry, as a part of the mutation's transaction.
func (e Entry) Op() store.Op {
	text, err := json.Marshal(e)
	if err != nil {
		panic("audit: encode: " + err.Error()) // an Entry always encodes
	}
	sum := sha256.Sum256(text)
	if e.ID == "" {
		e.ID = time.UnixMicro(e.At).UTC().Format(time.RFC3339) + "-" + hex.EncodeToString(sum[:6])
		if text, err = json.Marshal(e); err != nil {
			panic("audit: encode: " + err.Error())
		}
	}
	key := store.Key{PK: partition(e.Tenant, hash(e.ID)%tenantShards), SK: listing.Sortable(e.At) + "#" + e.ID}
	return store.Put(store.Item{
		Key: key, Attrs: store.Attrs{"e": text}, Index: map[store.Index]store.Key{store.ByTime: LogKey(key, e.At)},
	}).If(store.NotExists())
}

// Log reads the trail.
type Log struct{ Table store.Table }

// List answers at most limit entries of a tenant, newest first, that are not younger than a microsecond, 0 for all, and the microsecond of the next page, 0
// at the end. Entries of one microsecond are never parted.
func (l *Log) List(ctx context.Context, tenant string, limit int, until int64) (entries []Entry, next int64, err error) {
	for shard := range uint32(tenantShards) {
		q := store.Query{PK: partition(tenant, shard), Desc: true, Limit: limit + 1}
		if until > 0 {
			q.To = listing.Sortable(until) + "#\U0010FFFF"
		}
		for n := 0; n <= limit; {
			page, err := l.Table.Query(ctx, q)
			if err != nil {
				return nil, 0, err
			}
			for _, it := range page.Items {
				var e Entry
				if err := json.Unmarshal(it.Attrs.Bytes("e"), &e); err != nil {
					return nil, 0, fmt.Errorf("audit entry %s: %w", it.Key, err)
				}
				entries = append(entries, e)
			}
			n += len(page.Items)
			if q.Start = page.Next; page.Next == "" {
				break
			}
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		if a.At != b.At {
			return int(b.At - a.At)
		}
		return strings.Compare(b.ID, a.ID)
	})
	if len(entries) <= limit {
		return entries, 0, nil
	}
	return cut(entries, limit)
}

// cut ends a page before the entries whose microsecond does not fit on it, unless that is its only one.
func cut(entries []Entry, limit int) ([]Entry, int64, error) {
	end := limit
	for end > 0 && entries[end-1].At == entries[limit].At {
		end--
	}
	if end == 0 {
		for end = limit; end < len(entries) && entries[end].At == entries[0].At; {
			end++
		}
	}
	if end == len(entries) {
		return entries, 0, nil
	}
	return entries[:end], entries[end].At, nil
}
