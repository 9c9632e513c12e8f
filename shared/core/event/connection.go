package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	// KeyID and Role are of the credential that opened it; OpenedBy is the API key whose session that is, and User whose, "" for none.
	KeyID, Role, OpenedBy, User string
	// OpenedAt is in microseconds; so is Expires, when the credential ends by itself, 0 for never.
	OpenedAt, Expires int64
	// From says that the connection is brought what the log of its feed has after that position before anything else: the id of the last event that
	// the client has seen, FromNow, or FromBeginning; 0 is nothing of the log.
	From int64
	// Asked says that the client asked for that, and so is told where it stands.
	Asked bool
	// Since is the position at which it was opened, where it comes back: what happened after that comes, even when it has missed something before. 0 is that it
	// was brought something since.
	Since int64
	// Tries counts how often it could not be brought what the log has.
	Tries int64
	// Told is the version of its job up to which it was told the story; "" for none. What is announced of that later is no news to it.
	Told string
}

// knows says whether the client was told of an event by the story of its job.
func (n Connection) knows(version string) bool { return version != "" && version <= n.Told }

// Where to begin in a log, beside after a position.
const (
	// FromBeginning is with all that has happened to the job.
	FromBeginning int64 = -1
	// FromNow is after what was logged when the connection was opened.
	FromNow int64 = -2
)

// Feed is what the connection shows.
func (n Connection) Feed() Feed { return Feed{n.Tenant, n.Job} }

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
	// Linger is how long the events of a feed are logged after the last client has left, so that one that comes back has missed nothing.
	Linger = 5 * time.Minute
	// lingerSlack is how much sooner it is not believed any more that they are.
	lingerSlack = 5 * time.Second
)

// The items of streams:
//
//	STREAM#<tenant> | P        somebody listens to this tenant, or did a moment ago
//	STREAM#<tenant> | C#<id>   a connection that does
//	STREAM#<tenant> | L#<job>  a feed that is logged for those who left it; L# is the tenant's own
//	CONN#<id>       | C        the connection by its id, due for its keep-alive
//	SEEN#<group>    | V        the last version of a group, and the ids that its last events were given
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
func lingerKey(f Feed) store.Key {
	return store.Key{PK: streamPartition(f.Tenant), SK: lingerPrefix + listing.Segment(f.Job)}
}
func connectionKey(id string) store.Key  { return store.Key{PK: "CONN#" + id, SK: "C"} }
func seenKey(tenant, g string) store.Key { return store.Key{PK: "SEEN#" + groupID(tenant, g), SK: "V"} }
func aliveKey(id string, at int64) store.Key {
	return store.Key{PK: aliveDue, SK: listing.Sortable(at) + "#" + id}
}

const (
	aliveDue         = "SDUE"
	connectionPrefix = "C#"
	lingerPrefix     = "L#"
)

// Connections keeps who listens.
type Connections struct{ Table store.Table }

func (c *Connections) log() Log { return Log{c.Table} }

// openTries is how often a connection is recorded while others are.
const openTries = 10

// Open records a connection. first says that nobody listened to its feed a moment ago, so that senders may not know of it for PresenceAge.
func (c *Connections) Open(ctx context.Context, n Connection, now time.Time) (first bool, err error) {
	for range openTries {
		if first, err = c.open(ctx, n, now); !store.Overtaken(err) {
			break
		}
	}
	return first, err
}

func (c *Connections) open(ctx context.Context, n Connection, now time.Time) (first bool, err error) {
	there, err := c.listing(ctx, n.Tenant, now)
	if err != nil {
		return false, err
	}
	known, settled := there.logs(n.Feed(), now)
	var last int64
	if !known || n.From == FromNow || n.From > 0 {
		if last, err = c.position(ctx, n.Feed(), known, now); err != nil {
			return false, err
		}
	}
	switch {
	case n.From == FromNow:
		n.From = last
	case n.From > 0:
		n.Since = last
	}
	since := now.UnixMicro()
	if there.at != 0 {
		since = there.at
	}
	expires := now.Add(MaxAge + settling).Unix()
	stays := now.Add(MaxAge + settling + Linger).Unix() // longer than what is logged for those who leave
	attrs := n.attrs()
	return !settled || there.at == 0, store.Transact(ctx, c.Table,
		store.Put(store.Item{Key: presenceKey(n.Tenant), Attrs: store.Attrs{"at": since, "last": now.UnixMicro()}, Expires: stays}),
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

// position answers the last position of a feed, which begins anew where it was not logged until now.
func (c *Connections) position(ctx context.Context, f Feed, logged bool, now time.Time) (int64, error) {
	if logged {
		if h, ok, err := c.log().head(ctx, f); err != nil || ok {
			return h.last, err
		}
	}
	return c.log().begin(ctx, f, now)
}

func (n Connection) attrs() store.Attrs {
	attrs := store.Attrs{"tn": n.Tenant, "at": n.OpenedAt, "kid": n.KeyID, "role": n.Role}
	for name, of := range map[string]string{"jb": n.Job, "by": n.OpenedBy, "us": n.User, aTold: n.Told} {
		if of != "" {
			attrs[name] = of
		}
	}
	if n.Expires != 0 {
		attrs["exp"] = n.Expires
	}
	if n.From != 0 {
		attrs["fr"] = n.From
	}
	if n.Since != 0 {
		attrs["si"] = n.Since
	}
	if n.Asked {
		attrs["ask"] = true
	}
	return attrs
}

// Close forgets a connection; one that is not known is no error. Its feed is logged for a while yet.
func (c *Connections) Close(ctx context.Context, id string, now time.Time) error {
	n, ok, err := c.find(ctx, id)
	if err != nil || !ok {
		return err
	}
	until := now.Add(Linger).Unix()
	return store.Transact(ctx, c.Table, store.Delete(connectionKey(id)), store.Delete(listKey(n.Tenant, id)),
		store.Put(store.Item{Key: lingerKey(n.Feed()), Expires: until}))
}

// find answers a connection by its id; ok is false for one that is not there.
func (c *Connections) find(ctx context.Context, id string) (n Connection, ok bool, err error) {
	it, err := c.Table.Get(ctx, connectionKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return Connection{}, false, nil
	}
	if err != nil {
		return Connection{}, false, err
	}
	return parseConnection(id, it), true, nil
}

// Behind says that a connection was not brought what was logged at a position, or before, and must be.
func (c *Connections) Behind(ctx context.Context, n Connection, from int64) error {
	lower := store.Any(store.HasNot("fr"), store.Greater("fr", from))
	return ifThere(store.Transact(ctx, c.Table,
		store.Update(connectionKey(n.ID)).If(store.All(store.Exists(), lower)).SetAttr("fr", from),
		store.Update(listKey(n.Tenant, n.ID)).If(store.Exists()).SetAttr("fr", from),
	))
}

// advance notes how far a connection was brought what the log has, and the version up to which it was told a story; tries is how often in vain.
func (c *Connections) advance(ctx context.Context, n Connection, from, tries int64) error {
	note := store.Update(connectionKey(n.ID)).If(store.Equal("fr", n.From)).SetAttrs(store.Attrs{"fr": from, "try": tries})
	if from != n.From {
		note = note.RemoveAttr("si")
	}
	return store.Transact(ctx, c.Table, n.withTold(note), n.withTold(store.Update(listKey(n.Tenant, n.ID)).If(store.Exists()).SetAttr("fr", from)))
}

const aTold = "td"

// withTold notes up to which version a connection was told the story of its job, if it was.
func (n Connection) withTold(op store.Op) store.Op {
	if n.Told == "" {
		return op
	}
	return op.SetAttr(aTold, n.Told)
}

// live lets a connection have events as they happen, from the one after the last position on, and later than what it was told. It is overtaken when there are
// others already.
func (c *Connections) live(ctx context.Context, n Connection, last int64) error {
	return c.Table.Write(ctx,
		store.Check(n.Feed().headKey(), store.Equal("n", last)),
		n.withTold(store.Update(connectionKey(n.ID)).If(store.Equal("fr", n.From)).RemoveAttr("fr", "si", "ask", "try")),
		n.withTold(store.Update(listKey(n.Tenant, n.ID)).If(store.Exists()).RemoveAttr("fr", "ask")))
}

// ifThere takes it that what is not there, or is so already, need not be changed.
func ifThere(err error) error {
	if _, ok := errors.AsType[*store.ConditionError](err); ok {
		return nil
	}
	return err
}

// Settled says whether a connection that the platform does not know is gone; before, it may still be opening.
func (n Connection) Settled(now time.Time) bool {
	return now.Sub(time.UnixMicro(n.OpenedAt)) >= settling
}

// audience is who listens to a tenant, or to Everybody.
type audience struct {
	all []Connection
	// lingering are the jobs whose feeds are logged for those who left ("" is the tenant's own), and until when, in Unix seconds.
	lingering map[string]int64
	// at is since when somebody listens, last when somebody began to, in microseconds; 0 for nobody.
	at, last int64
}

// logs says whether a feed is logged, and whether everybody who sends events knows.
func (a audience) logs(f Feed, now time.Time) (logged, known bool) {
	if a.lingering[f.Job] > now.Add(lingerSlack).Unix() {
		return true, true
	}
	for _, n := range a.all {
		if n.Job == f.Job {
			logged = true
			known = known || now.Sub(time.UnixMicro(n.OpenedAt)) > 2*PresenceAge
		}
	}
	return logged, known
}

// jobs are the feeds that are logged, by their jobs.
func (a audience) jobs(now time.Time) map[string]bool {
	jobs := map[string]bool{}
	for job, until := range a.lingering {
		if until > now.Unix() {
			jobs[job] = true
		}
	}
	for _, n := range a.all {
		jobs[n.Job] = true
	}
	return jobs
}

// listing reads who listens to a tenant, or to Everybody.
func (c *Connections) listing(ctx context.Context, tenant string, now time.Time) (audience, error) {
	a := audience{lingering: map[string]int64{}}
	for it, err := range store.Items(ctx, c.Table, store.Query{PK: streamPartition(tenant)}) {
		if err != nil {
			return audience{}, err
		}
		if !it.Live(now.Unix()) {
			continue
		}
		if id, ok := strings.CutPrefix(it.SK, connectionPrefix); ok {
			a.all = append(a.all, parseConnection(id, it))
		} else if job, ok := strings.CutPrefix(it.SK, lingerPrefix); ok {
			a.lingering[listing.Unsegment(job)] = it.Expires
		} else {
			a.at, a.last = it.Attrs.Int("at"), it.Attrs.Int("last")
		}
	}
	return a, nil
}

// vacate takes away the presence that makes senders send, where nobody listens and nothing is logged any more.
func (c *Connections) vacate(ctx context.Context, tenant string, a audience, now time.Time) error {
	if len(a.jobs(now)) > 0 || a.last == 0 || now.Sub(time.UnixMicro(a.last)) <= settling {
		return nil
	}
	return ifThere(c.Table.Write(ctx, store.Delete(presenceKey(tenant)).If(store.Equal("last", a.last))))
}

func parseConnection(id string, it store.Item) Connection {
	a := it.Attrs
	return Connection{
		ID: id, Tenant: a.String("tn"), Job: a.String("jb"), KeyID: a.String("kid"), Role: a.String("role"),
		OpenedBy: a.String("by"), User: a.String("us"), OpenedAt: a.Int("at"), Expires: a.Int("exp"),
		From: a.Int("fr"), Since: a.Int("si"), Asked: a.Bool("ask"), Tries: a.Int("try"), Told: a.String(aTold),
	}
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
	return ifThere(c.Table.Write(ctx, store.Update(connectionKey(n.ID)).If(store.Exists()).Move(store.ByDue, aliveKey(n.ID, n.next(now)))))
}

// The feeds that an event may stand in.
const (
	ofTenant = iota
	ofEverybody
	ofJob
	feeds
)

// eventIDs are those of the first frame of an event, by the feed; 0 where it stands in none.
type eventIDs [feeds]int64

// group is what is remembered of the events of a group.
type group struct {
	// version is the last that was delivered, or is on its way.
	version string
	// last are the last events, the oldest first. What comes again has the ids that it had.
	last []remembered
}

type remembered struct {
	Event string   `json:"h"` // its hash
	IDs   eventIDs `json:"i"`
}

// rememberedOf is how many events are remembered of a group: more than come in one batch.
const rememberedOf = 16

func (g group) ids(event string) (eventIDs, bool) {
	for _, r := range g.last {
		if r.Event == event {
			return r.IDs, true
		}
	}
	return eventIDs{}, false
}

func (g *group) add(event string, of eventIDs) {
	for i, r := range g.last {
		if r.Event == event {
			g.last[i].IDs = of
			return
		}
	}
	if g.last = append(g.last, remembered{event, of}); len(g.last) > rememberedOf {
		g.last = g.last[1:]
	}
}

// seen answers what is remembered of the groups of events, by Event.group.
func (c *Connections) seen(ctx context.Context, events []Event) (map[string]*group, error) {
	keys := make([]store.Key, 0, len(events))
	groups := map[string]*group{}
	for _, e := range events {
		keys = append(keys, seenKey(e.Tenant, e.Group))
		groups[e.group()] = &group{}
	}
	items, err := c.Table.BatchGet(ctx, keys)
	if err != nil {
		return nil, err
	}
	stored := map[string]store.Attrs{}
	for _, it := range items {
		stored[it.PK] = it.Attrs
	}
	for _, e := range events {
		a, ok := stored[seenKey(e.Tenant, e.Group).PK]
		if !ok {
			continue
		}
		g := &group{version: a.String("v")}
		if text := a.Bytes("r"); len(text) > 0 {
			if err := json.Unmarshal(text, &g.last); err != nil {
				return nil, fmt.Errorf("event: group %s: %w", e.Group, err)
			}
		}
		groups[e.group()] = g
	}
	return groups, nil
}

// remember keeps what a group has had.
func (c *Connections) remember(ctx context.Context, e Event, g *group, now time.Time) error {
	text, err := json.Marshal(g.last)
	if err != nil {
		return fmt.Errorf("event: %w", err)
	}
	return store.Transact(ctx, c.Table, store.Put(store.Item{
		Key: seenKey(e.Tenant, e.Group), Attrs: store.Attrs{"v": g.version, "r": text}, Expires: now.Add(orderRetention).Unix(),
	}))
}
