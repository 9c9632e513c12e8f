package event

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Everybody is the tenant of connections that get the events of all tenants. No tenant can have this name.
const Everybody = "*"

// Connection is an open client connection, and what it gets.
type Connection struct {
	ID string
	// Tenant is the one whose events it gets; Everybody for cross-tenant administrators.
	Tenant string
	// Job limits it to the events of one job; "" is all.
	Job string
	// KeyID and Role are of the credential that opened it.
	KeyID, Role string
	// OpenedAt is in microseconds; so is Expires, when the credential ends by itself, 0 for never.
	OpenedAt, Expires int64
}

// Times of connections.
const (
	// MaxAge is how long a connection lives at most; the platform closes it then (API Gateway: two hours).
	MaxAge = 2 * time.Hour
	// KeepAlive is how often a connection gets a frame that says nothing, so that it is never idle for as long as the platform allows (ten minutes),
	// and how often it is asked whether its credential is still good.
	KeepAlive = 2 * time.Minute
	// settling is how long after it was opened a connection that the platform does not know may yet appear.
	settling = 10 * time.Second
	// orderRetention is how long the last delivered version of a group is remembered.
	orderRetention = time.Hour
)

// The items of streams:
//
//	STREAM#<tenant> | P        somebody listens to this tenant
//	STREAM#<tenant> | C#<id>   a connection that does
//	CONN#<id>       | C        the same by its id, due for its keep-alive
//	SEEN#<group>    | V        the last delivered version of a group
//
// Indexes:
//
//	by_due  SDUE   every connection, by its next keep-alive
func streamPartition(tenant string) string { return "STREAM#" + listing.Segment(tenant) }
func presenceKey(tenant string) store.Key {
	return store.Key{PK: streamPartition(tenant), SK: "P"}
}
func listKey(tenant, id string) store.Key {
	return store.Key{PK: streamPartition(tenant), SK: "C#" + id}
}
func connectionKey(id string) store.Key  { return store.Key{PK: "CONN#" + id, SK: "C"} }
func seenKey(tenant, g string) store.Key { return store.Key{PK: "SEEN#" + groupID(tenant, g), SK: "V"} }
func aliveKey(id string, at int64) store.Key {
	return store.Key{PK: aliveDue, SK: listing.Sortable(at) + "#" + id}
}

const aliveDue = "SDUE"

// Connections keeps who listens.
type Connections struct{ Table store.Table }

// Open records a connection. first says that nobody listened to the tenant a moment ago, so that senders may not know of it for PresenceAge.
func (c *Connections) Open(ctx context.Context, n Connection, now time.Time) (first bool, err error) {
	there, err := c.Table.BatchGet(ctx, []store.Key{presenceKey(n.Tenant)})
	if err != nil {
		return false, err
	}
	first = len(there) == 0 || there[0].Attrs.Int("at") > now.Add(-2*PresenceAge).UnixMicro()
	attrs := store.Attrs{"tn": n.Tenant, "at": n.OpenedAt, "kid": n.KeyID, "role": n.Role}
	if n.Job != "" {
		attrs["jb"] = n.Job
	}
	if n.Expires != 0 {
		attrs["exp"] = n.Expires
	}
	expires := now.Add(MaxAge + settling).Unix()
	since := now.UnixMicro()
	if len(there) > 0 {
		since = there[0].Attrs.Int("at")
	}
	return first, store.Transact(ctx, c.Table,
		store.Put(store.Item{Key: presenceKey(n.Tenant), Attrs: store.Attrs{"at": since, "last": now.UnixMicro()}, Expires: expires}),
		store.Put(store.Item{Key: listKey(n.Tenant, n.ID), Attrs: attrs, Expires: expires}),
		store.Put(store.Item{
			Key: connectionKey(n.ID), Attrs: attrs, Expires: expires,
			Index: map[store.Index]store.Key{store.ByDue: aliveKey(n.ID, n.next(now))},
		}),
	)
}

// next is when a connection is looked at again: at its keep-alive, and not later than its credential ends.
func (n Connection) next(now time.Time) int64 {
	at := now.Add(KeepAlive).UnixMicro()
	if n.Expires != 0 {
		at = min(at, n.Expires)
	}
	return at
}

// Expired says whether the credential of a connection has ended by itself.
func (n Connection) Expired(now time.Time) bool {
	return n.Expires != 0 && now.UnixMicro() >= n.Expires
}

// Close forgets a connection; one that is not known is no error.
func (c *Connections) Close(ctx context.Context, id string) error {
	it, err := c.Table.Get(ctx, connectionKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return store.Transact(ctx, c.Table, store.Delete(connectionKey(id)), store.Delete(listKey(it.Attrs.String("tn"), id)))
}

// Settled says whether a connection that the platform does not know is gone; before, it may still be opening.
func (n Connection) Settled(now time.Time) bool {
	return now.Sub(time.UnixMicro(n.OpenedAt)) >= settling
}

// Of lists the connections of a tenant, or of Everybody. When there are none any more, the presence that makes senders send is taken away.
func (c *Connections) Of(ctx context.Context, tenant string, now time.Time) ([]Connection, error) {
	var all []Connection
	var last int64
	for it, err := range store.Items(ctx, c.Table, store.Query{PK: streamPartition(tenant)}) {
		if err != nil {
			return nil, err
		}
		id, isConnection := strings.CutPrefix(it.SK, "C#")
		switch {
		case !isConnection:
			last = it.Attrs.Int("last")
		case it.Live(now.Unix()):
			all = append(all, parseConnection(id, it))
		}
	}
	if len(all) == 0 && last != 0 && now.Sub(time.UnixMicro(last)) > settling {
		err := c.Table.Write(ctx, store.Delete(presenceKey(tenant)).If(store.Equal("last", last)))
		if _, ok := errors.AsType[*store.ConditionError](err); err != nil && !ok {
			return nil, err
		}
	}
	return all, nil
}

func parseConnection(id string, it store.Item) Connection {
	a := it.Attrs
	return Connection{ID: id, Tenant: a.String("tn"), Job: a.String("jb"), KeyID: a.String("kid"), Role: a.String("role"), OpenedAt: a.Int("at"), Expires: a.Int("exp")}
}

// Due lists connections whose keep-alive is due, at most limit.
func (c *Connections) Due(ctx context.Context, limit int, now time.Time) ([]Connection, error) {
	page, err := c.Table.Query(ctx, store.Query{
		Index: store.ByDue, PK: aliveDue, To: listing.UpTo(now.UnixMicro()), Limit: limit,
	})
	if err != nil {
		return nil, err
	}
	keys := make([]store.Key, len(page.Items))
	for i, it := range page.Items {
		keys[i] = it.Key
	}
	items, err := c.Table.BatchGet(ctx, keys)
	if err != nil {
		return nil, err
	}
	var due []Connection
	for _, it := range items {
		due = append(due, parseConnection(strings.TrimPrefix(it.PK, "CONN#"), it))
	}
	return due, nil
}

// Alive files the next keep-alive of a connection.
func (c *Connections) Alive(ctx context.Context, n Connection, now time.Time) error {
	err := c.Table.Write(ctx, store.Update(connectionKey(n.ID)).If(store.Exists()).Move(store.ByDue, aliveKey(n.ID, n.next(now))))
	if _, ok := errors.AsType[*store.ConditionError](err); ok {
		return nil
	}
	return err
}

// Seen answers the last delivered version of each event's group, "" for none.
func (c *Connections) Seen(ctx context.Context, events []Event) (map[string]string, error) {
	keys := make([]store.Key, 0, len(events))
	for _, e := range events {
		keys = append(keys, seenKey(e.Tenant, e.Group))
	}
	items, err := c.Table.BatchGet(ctx, keys)
	if err != nil {
		return nil, err
	}
	seen := map[string]string{}
	for _, it := range items {
		seen[it.PK] = it.Attrs.String("v")
	}
	out := map[string]string{}
	for _, e := range events {
		out[e.Tenant+"\x00"+e.Group] = seen[seenKey(e.Tenant, e.Group).PK]
	}
	return out, nil
}

// Mark remembers that a version was delivered.
func (c *Connections) Mark(ctx context.Context, e Event, now time.Time) error {
	return store.Transact(ctx, c.Table, store.Put(store.Item{
		Key: seenKey(e.Tenant, e.Group), Attrs: store.Attrs{"v": e.Version}, Expires: now.Add(orderRetention).Unix(),
	}))
}
