// Package documents is the configuration as clients see it: documents that they read whole and change member by member. Some of the system's are put
// together from what lies elsewhere, so that no document is larger than an item may be, and the routes that are made for it show the same: the bundles
// of system/policy, their copies, the trail of changes, the records of packs.
package documents

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/pack/registry"
	"github.com/cordum-serverless/cordum/shared/core/policy/bundles"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Store reads and changes documents. One is shared by everything in a process; all its methods may be called at once.
type Store struct {
	Config  *config.Store
	Bundles *bundles.Store
	Packs   *registry.Store
	Audit   *audit.Log
	// Queues gets those of new pools.
	Queues queue.Queues
	Clock  clock.Clock
	IDs    ids.Source

	micros clock.Unique
}

// The documents of the system that are put together.
const (
	policyID    = "policy"
	snapshotsID = "policy_snapshots"
	auditID     = "policy_audit"
	packsID     = "packs"
)

// The members that are kept elsewhere.
const (
	bundlesMember   = "bundles"
	installedMember = "installed"
)

// elsewhere says of documents that cannot be written what writes what is in them.
var elsewhere = map[name]string{
	system(snapshotsID): "POST /api/v1/policy/bundles/snapshots, /policy/publish and /policy/rollback",
	system(auditID):     "every change",
}

var errUnknown = fault.New(fault.NotFound, "config not found")

// Get answers a document by what a client calls it; "" are the defaults. Its ID is the client's, its Revision what clients count.
//
// Faults: Invalid for a scope or an id that is none, Denied for another tenant's, and for the system's unless an administrator asks, NotFound. The
// document system/default is always there.
func (s *Store) Get(ctx context.Context, by identity.Identity, scope, id string) (config.Document, error) {
	n, err := resolve(by, scope, id)
	if err != nil {
		return config.Document{}, err
	}
	if n.scope == config.SystemScope && by.Role != identity.Admin {
		return config.Document{}, fault.New(fault.Denied, "access denied")
	}
	d, err := s.read(ctx, by, n)
	if err != nil {
		return config.Document{}, err
	}
	if d.Revision == 0 && n != system(config.DefaultID) {
		return config.Document{}, errUnknown
	}
	d.ID = n.id
	return d, nil
}

func (s *Store) read(ctx context.Context, by identity.Identity, n name) (config.Document, error) {
	switch n {
	case system(policyID):
		return s.policy(ctx)
	case system(packsID):
		return s.packs(ctx)
	case system(snapshotsID):
		return s.snapshots(ctx)
	case system(auditID):
		return s.trail(ctx, by.Tenant)
	}
	return s.Config.Get(ctx, n.scope, n.stored(by.Tenant))
}

// tries is how often a change that collided with another is made anew.
const tries = 20

// Set changes a document, leaves an entry in the trail, and answers its scope and id.
//
// Faults: Invalid, Denied and TooLarge, and Conflict when others keep changing it, or it is not what the client has read.
func (s *Store) Set(ctx context.Context, by identity.Identity, c Change) (changed string, err error) {
	n, err := resolve(by, c.Scope, c.ID)
	if err != nil {
		return "", err
	}
	if writer, ok := elsewhere[n]; ok {
		return "", fault.New(fault.Invalid, "config %s is not written through this route, but by %s", n, writer)
	}
	if err := c.check(); err != nil {
		return "", err
	}
	w := write{Store: s, by: by, name: n, change: c, mark: s.IDs.Hex(8)}
	change := w.setPlain
	switch n {
	case system(policyID):
		change = w.setPolicy
	case system(packsID):
		change = w.setPacks
	case system(config.DefaultID):
		if _, there := c.Data[bundlesMember]; there {
			return "", fault.New(fault.Invalid, "bundles go to config %s", system(policyID))
		}
	}
	for range tries {
		err := change(ctx)
		if !errors.Is(err, config.ErrConflict) || ctx.Err() != nil {
			return n.String(), err
		}
	}
	return "", config.ErrConflict
}

// write is one change on its way.
type write struct {
	*Store

	by     identity.Identity
	name   name
	change Change
	// mark is how the write is known again.
	mark string
}

// load reads the stored document. done says that this write has made it what it is: it was made, and its answer was lost.
func (w *write) load(ctx context.Context) (d config.Document, done bool, err error) {
	d, err = w.Config.Get(ctx, w.name.scope, w.name.stored(w.by.Tenant))
	return d, err == nil && d.Mark == w.mark, err
}

// entry is what the trail says of it: the revisions that clients see.
func (w *write) entry(before int64, now time.Time) store.Op {
	e := audit.By(w.by, w.micros.Micros(now), "set", "config", w.name.String())
	e.After = strconv.FormatInt(before+1, 10)
	if before > 0 {
		e.Before = strconv.FormatInt(before, 10)
	}
	return e.Op()
}

// setPlain changes a document that is all in its place.
func (w *write) setPlain(ctx context.Context) error {
	d, done, err := w.load(ctx)
	if err != nil || done {
		return err
	}
	if err := w.change.expects(w.name, d.Revision); err != nil {
		return err
	}
	next, err := merged(d, w.change, w.mark)
	if err != nil {
		return err
	}
	if w.name == system(config.DefaultID) {
		if err := config.EnsurePools(ctx, w.Queues, d.Data, next.Data); err != nil {
			return err
		}
	}
	now := w.Clock.Now()
	_, err = w.Config.Put(ctx, next, now, w.entry(d.Revision, now))
	return err
}

// part is a member that is kept elsewhere, with a revision of its own.
type part struct {
	member   string
	value    any
	revision int64
	at       time.Time
}

// with is a document as clients see it: with a part of it. What changed with the part is counted there.
func with(d config.Document, p part) (config.Document, error) {
	var data map[string]json.RawMessage
	if err := json.Unmarshal(d.Data, &data); err != nil {
		return d, err
	}
	var err error
	if data[p.member], err = json.Marshal(p.value); err != nil {
		return d, err
	}
	if d.Data, err = encode(data); err != nil {
		return d, err
	}
	d.Revision += p.revision - d.Beside
	if p.at.After(d.UpdatedAt) {
		d.UpdatedAt = p.at.UTC()
	}
	return d, nil
}

// rest is the change of what is not kept elsewhere.
func (w *write) rest(member string) Change {
	c := w.change
	c.Data = map[string]json.RawMessage{}
	for name, v := range w.change.Data {
		if name != member {
			c.Data[name] = v
		}
	}
	return c
}

// beside writes the stored part of a document whose other part is at a revision. counted says that the same transaction changes that other part, so
// that its revision counts the change for clients.
func (w *write) beside(ctx context.Context, d config.Document, member string, revision int64, counted bool, now time.Time) ([]store.Op, error) {
	before := d.Revision - d.Beside + revision
	if err := w.change.expects(w.name, before); err != nil {
		return nil, err
	}
	next, err := merged(d, w.rest(member), w.mark)
	if err != nil {
		return nil, err
	}
	if counted {
		next.Beside++
	}
	ops, err := w.Config.Ops(ctx, next, now)
	return append(ops, w.entry(before, now)), err
}

// commit writes operations that hold while what they were made of is as it was.
func (w *write) commit(ctx context.Context, ops []store.Op) error {
	err := w.Config.Table.Write(ctx, ops...)
	if store.Overtaken(err) {
		return config.ErrConflict
	}
	return err
}

// listed is what documents of lists are: read only, counted by the newest that is in them.
func listed(id, member string, items any, newest time.Time) (config.Document, error) {
	d := config.Document{Scope: config.SystemScope, ID: id, UpdatedAt: newest.UTC()}
	text, err := json.Marshal(items)
	if err != nil || newest.IsZero() {
		return d, err
	}
	d.Revision = newest.UnixMicro()
	d.Data, err = encode(map[string]json.RawMessage{member: text})
	return d, err
}

// maxListed is the most that a document of a list shows, in bytes.
const maxListed = 2 << 20

// snapshot is a copy of the bundles, as their routes show it.
type snapshot struct {
	ID        string                     `json:"id"`
	CreatedAt string                     `json:"created_at"`
	Note      string                     `json:"note,omitempty"`
	Bundles   map[string]json.RawMessage `json:"bundles"`
}

// snapshots puts system/policy_snapshots together: the copies of bundles, the newest first.
func (s *Store) snapshots(ctx context.Context) (config.Document, error) {
	copies, err := s.Bundles.Newest(ctx, maxListed)
	if err != nil {
		return config.Document{}, err
	}
	shown := make([]snapshot, len(copies))
	var newest time.Time
	for i, c := range copies {
		shown[i] = snapshot{c.ID, c.CreatedAt, c.Note, c.Bundles}
		if at, err := time.Parse(time.RFC3339, c.CreatedAt); err == nil && at.After(newest) {
			newest = at
		}
	}
	return listed(snapshotsID, "snapshots", shown, newest)
}

// trailLength is how many entries of the trail the document shows.
const trailLength = 100

// entry is one of the trail, with the names that clients know from the route of the trail.
type entry struct {
	ID             string   `json:"id"`
	Action         string   `json:"action"`
	CreatedAt      string   `json:"created_at"`
	ActorID        string   `json:"actor_id,omitempty"`
	Role           string   `json:"role,omitempty"`
	BundleIDs      []string `json:"bundle_ids,omitempty"`
	Message        string   `json:"message,omitempty"`
	SnapshotBefore string   `json:"snapshot_before,omitempty"`
	SnapshotAfter  string   `json:"snapshot_after,omitempty"`
	ResourceType   string   `json:"resource_type,omitempty"`
	ResourceID     string   `json:"resource_id,omitempty"`
	ResourceName   string   `json:"resource_name,omitempty"`
}

// trail puts system/policy_audit together: the tenant's entries, the newest first.
func (s *Store) trail(ctx context.Context, tenant string) (config.Document, error) {
	entries, _, err := s.Audit.List(ctx, tenant, trailLength, 0)
	if err != nil || len(entries) == 0 {
		return config.Document{}, err
	}
	shown := make([]entry, len(entries))
	for i, e := range entries {
		shown[i] = entry{
			ID: e.ID, Action: e.Action, CreatedAt: time.UnixMicro(e.At).UTC().Format(time.RFC3339), ActorID: e.ActorID, Role: e.Role, BundleIDs: e.BundleIDs,
			Message: e.Message, ResourceType: e.ResourceType, ResourceID: e.ResourceID, ResourceName: e.ResourceName,
		}
		if e.OfBundles() {
			shown[i].SnapshotBefore, shown[i].SnapshotAfter = e.Before, e.After
		}
	}
	return listed(auditID, "entries", shown, time.UnixMicro(entries[0].At))
}
