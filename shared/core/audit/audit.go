// Package audit is the trail of who changed what: one entry for every mutation that a client asks for, written in the transaction of the mutation,
// never changed, never deleted. The entry of a submission is its job's decision record. Package chain seals both.
package audit

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
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
	// KeyID is the credential's id.
	KeyID string `json:"key_id,omitempty"`
	// Message is what the caller said about it.
	Message   string `json:"message,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	// Before and After are what the mutation changed, as short words: a revision, a snapshot, a state. Either may be "".
	Before    string   `json:"before,omitempty"`
	After     string   `json:"after,omitempty"`
	BundleIDs []string `json:"bundle_ids,omitempty"`
}

// OfBundles says that Before and After are copies of all bundles. What is done with a draft names the draft.
func (e *Entry) OfBundles() bool {
	drafts := e.Action == "put" || strings.HasPrefix(e.Before, "draft ")
	return e.ResourceType == "policy" || e.ResourceType == "policy_bundle" && !drafts
}

// By is an entry for what somebody does now. micros should differ between two entries of one process.
func By(id identity.Identity, micros int64, action, resourceType, resourceID string) Entry {
	return Entry{
		Tenant: id.Tenant, At: micros, Action: action, ResourceType: resourceType, ResourceID: resourceID, ActorID: actor(id), Role: string(id.Role),
		KeyID: id.KeyID, RequestID: id.RequestID,
	}
}

func actor(id identity.Identity) string { return cmp.Or(id.Principal, id.KeyID) }

// Origin is who or what caused a decision about a job: a part of the decision's record, which is the entry of a submission.
type Origin struct {
	// Cause is the action of an entry, "submit", or what moved the plane itself.
	Cause  string `json:"cause"`
	Tenant string `json:"tenant"`
	// ActorID, Role, KeyID and RequestID are those of an Entry; empty for the plane itself.
	ActorID   string `json:"actor_id,omitempty"`
	Role      string `json:"role,omitempty"`
	KeyID     string `json:"key_id,omitempty"`
	RequestID string `json:"request_id,omitempty"`
}

// Caused is the origin of a decision that somebody asked for.
func Caused(action string, id identity.Identity) *Origin {
	return &Origin{Cause: action, Tenant: id.Tenant, ActorID: actor(id), Role: string(id.Role), KeyID: id.KeyID, RequestID: id.RequestID}
}

// Where entries lie: AU#<tenant>#<shard> | <micros>#<id>, in by_time at LOG#<n>, as everything does that the sealer must see.
const (
	tenantShards = 4
	// LogShards is the number of partitions of the log in by_time: each takes about 1,000 writes a second.
	LogShards = 16
)

// LogKey is where the sealer finds an item: its place in the log by its time. name is its partition and sort key.
func LogKey(name store.Key, micros int64) store.Key {
	return store.Key{PK: LogPartition(int(listing.Hash(name.String()) % LogShards)), SK: listing.Sortable(micros)}
}

// LogPartition names a partition of the log, 0 to LogShards-1.
func LogPartition(n int) string { return fmt.Sprintf("LOG#%d", n) }

func partition(tenant string, shard uint32) string {
	return fmt.Sprintf("AU#%s#%d", listing.Segment(tenant), shard)
}

// Names of the attributes that hold what is sealed: an entry, a decision with its Origin, and the request that a submission stored.
const (
	AttrEntry    = "e"
	AttrDecision = "de"
	AttrRequest  = "rq"
)

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
	key := store.Key{PK: partition(e.Tenant, listing.Hash(e.ID)%tenantShards), SK: listing.Sortable(e.At) + "#" + e.ID}
	return store.Put(store.Item{
		Key: key, Attrs: store.Attrs{AttrEntry: text}, Index: map[store.Index]store.Key{store.ByTime: LogKey(key, e.At)},
	}).If(store.NotExists())
}

// Log reads the trail.
type Log struct{ Table store.Table }

// List answers a tenant's entries, newest first, that are not younger than a microsecond, 0 for all, and the microsecond of the next page, 0 at the
// end. A page has at most limit entries, unless more than that share its only microsecond: entries of one microsecond are never parted.
func (l *Log) List(ctx context.Context, tenant string, limit int, until int64) (entries []Entry, next int64, err error) {
	if entries, err = l.read(ctx, tenant, until, limit+1); err != nil || len(entries) <= limit {
		return entries, 0, err
	}
	next = entries[limit].At
	if end := slices.IndexFunc(entries, func(e Entry) bool { return e.At == next }); end > 0 {
		return entries[:end], next, nil
	}
	if entries, err = l.moment(ctx, tenant, next); err != nil {
		return nil, 0, err
	}
	older, err := l.read(ctx, tenant, next-1, 1)
	if err != nil || len(older) == 0 {
		return entries, 0, err
	}
	return entries, older[0].At, nil
}

// read answers the newest n entries of a tenant that are not younger than a microsecond, 0 for all.
func (l *Log) read(ctx context.Context, tenant string, until int64, n int) ([]Entry, error) {
	var entries []Entry
	for shard := range uint32(tenantShards) {
		q := store.Query{PK: partition(tenant, shard), Desc: true, Limit: n}
		if until > 0 {
			q.To = listing.UpTo(until)
		}
		some, err := l.query(ctx, q, n)
		if err != nil {
			return nil, err
		}
		entries = append(entries, some...)
	}
	newestFirst(entries)
	return entries[:min(n, len(entries))], nil
}

// moment answers all entries of a tenant that have the microsecond.
func (l *Log) moment(ctx context.Context, tenant string, micros int64) ([]Entry, error) {
	var entries []Entry
	for shard := range uint32(tenantShards) {
		some, err := l.query(ctx, store.Query{PK: partition(tenant, shard), Prefix: listing.Sortable(micros) + "#"}, math.MaxInt)
		if err != nil {
			return nil, err
		}
		entries = append(entries, some...)
	}
	newestFirst(entries)
	return entries, nil
}

// query reads n entries, or all where there are fewer.
func (l *Log) query(ctx context.Context, q store.Query, n int) ([]Entry, error) {
	var entries []Entry
	for it, err := range store.Items(ctx, l.Table, q) {
		if err != nil {
			return nil, err
		}
		var e Entry
		if err := json.Unmarshal(it.Attrs.Bytes(AttrEntry), &e); err != nil {
			return nil, fmt.Errorf("audit entry %s: %w", it.Key, err)
		}
		if entries = append(entries, e); len(entries) >= n {
			break
		}
	}
	return entries, nil
}

func newestFirst(entries []Entry) {
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(b.At, a.At), cmp.Compare(b.ID, a.ID))
	})
}
