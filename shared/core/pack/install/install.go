// Package install brings packs to the plane and takes them away again. An installation is one transaction: the pools and timeouts, the policy, the
// schemas and workflows, the record and the entry in the audit trail, or nothing of all that. What is to be written is a pure function of what there is
// (plan.go), and it does not hold when anything of that has changed meanwhile.
package install

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/identity"
	"github.com/cordum-serverless/cordum/shared/core/lock"
	"github.com/cordum-serverless/cordum/shared/core/pack"
	"github.com/cordum-serverless/cordum/shared/core/pack/registry"
	"github.com/cordum-serverless/cordum/shared/core/policy/bundles"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	schemas "github.com/cordum-serverless/cordum/shared/core/schema/registry"
	"github.com/cordum-serverless/cordum/shared/core/workflow/catalog"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Installer installs packs. One is shared by everything in a process; all its methods may be called at once.
type Installer struct {
	Packs   *registry.Store
	Config  *config.Store
	Bundles *bundles.Store
	Schemas *schemas.Store
	Catalog *catalog.Store
	Locks   *lock.Store
	Queues  queue.Queues
	Clock   clock.Clock
	IDs     ids.Source
	// Changed hears which document of the configuration has changed.
	Changed func(ctx context.Context, tenant, document string)
	// Asks is what the plane asks of packs: its own version, and whose signatures it trusts.
	Asks pack.Options

	micros clock.Unique
}

// New makes an installer on what moves jobs. asks is what the plane asks of packs.
func New(d *dispatch.Dispatcher, asks pack.Options) *Installer {
	table, blobs := d.Jobs.Table, d.Jobs.Blobs
	return &Installer{
		Packs: &registry.Store{Table: table}, Config: &config.Store{Table: table, Blobs: blobs},
		Bundles: &bundles.Store{Table: table, Head: d.Policy, Clock: d.Clock, IDs: d.IDs}, Schemas: &schemas.Store{Table: table, Clock: d.Clock},
		Catalog: &catalog.Store{Table: table, Blobs: blobs, Clock: d.Clock, IDs: d.IDs}, Locks: &lock.Store{Table: table, Clock: d.Clock},
		Queues: d.Queues, Clock: d.Clock, IDs: d.IDs, Changed: d.ConfigChanged, Asks: asks,
	}
}

// Options are what the caller of an installation wants.
type Options struct {
	// Force passes over the versions of the plane that the pack asks for.
	Force bool
	// Upgrade replaces schemas and workflows that are there and different.
	Upgrade bool
	// Inactive leaves the pools out, so that no job is routed to the pack's workers.
	Inactive bool
	// ID and Version are what the pack must be; "" is any.
	ID, Version string
}

// What callers hear.
var (
	ErrNotInstalled = fault.New(fault.NotFound, "pack not installed")
	errGlobalLock   = fault.New(fault.Conflict, "global pack lock held")
	errPackLock     = fault.New(fault.Conflict, "pack lock held")
	errForeign      = fault.New(fault.Denied, "tenant access denied")
)

// Install installs a bundle for the caller's tenant, which its schemas and workflows belong to, and answers its record. What is installed already, and
// as it is, changes nothing.
//
// Faults: Invalid for whatever is wrong with the bundle, or in its way; Conflict when somebody else holds the locks of packs; Denied for a pack that is
// installed for another tenant.
func (i *Installer) Install(ctx context.Context, by identity.Identity, bundle []byte, o Options) (registry.Record, error) {
	asks := i.Asks
	asks.Force = o.Force
	p, err := pack.Parse(bundle, asks)
	if err != nil {
		return registry.Record{}, err
	}
	if is := p.Metadata; o.ID != "" && is.ID != o.ID || o.Version != "" && is.Version != o.Version {
		return registry.Record{}, fault.New(fault.Invalid, "the bundle is %s %s, not %s %s", is.ID, is.Version, o.ID, o.Version)
	}
	return i.change(ctx, by, p.Metadata.ID, p, func(w *world) (*wish, error) { return install(w, p, o) })
}

// Uninstall takes a pack's pools, timeouts and policy away again, and with purge its schemas and workflows too, and answers its record, which stays, as
// DISABLED. Runs that have begun go on by what they began with, until their workflow is deleted.
//
// Faults: NotFound for a pack that never was installed, Conflict and Denied as for Install.
func (i *Installer) Uninstall(ctx context.Context, by identity.Identity, id string, purge bool) (registry.Record, error) {
	if _, err := i.Installed(ctx, id); err != nil {
		return registry.Record{}, err
	}
	return i.change(ctx, by, id, nil, func(w *world) (*wish, error) { return uninstall(w, purge) })
}

// Installed answers the record of a pack that is or was installed; ErrNotInstalled for another.
func (i *Installer) Installed(ctx context.Context, id string) (registry.Record, error) {
	r, there, err := i.Packs.Get(ctx, id)
	if err == nil && !there {
		err = ErrNotInstalled
	}
	return r, err
}

// The locks of packs. Clients that install over the routes of documents take them, too.
const (
	globalLock = "packs:global"
	packLock   = "pack:"
	lockFor    = time.Minute
)

// packsDocument is where clients of the configuration see packs.
const packsDocument = config.SystemScope + "/packs"

// mostOps is how many operations a change may have, beside those that put the policy in force.
const mostOps = store.MaxTransaction - bundles.MaxEditOps

// change makes one change of a pack under its locks: plan says what there is to be, of what there is now. p is the bundle that it is about, nil for none.
func (i *Installer) change(ctx context.Context, by identity.Identity, id string, p *pack.Pack, plan func(*world) (*wish, error)) (registry.Record, error) {
	held, err := i.hold(ctx, by, id)
	if err != nil {
		return registry.Record{}, err
	}
	defer held.release(ctx)
	var out registry.Record
	var ops []store.Op
	tries := 0
	err = i.Bundles.Edit(ctx, func(inForce map[string]json.RawMessage) error {
		if tries++; tries > 1 { // something has changed since: perhaps the locks
			if err := held.check(ctx); err != nil {
				return err
			}
		}
		w, err := i.read(ctx, by, id, p, inForce)
		if err != nil {
			return err
		}
		x, err := plan(w)
		if err != nil {
			return err
		}
		if out = x.record; x.nothing(w) {
			return errUnchanged
		}
		if ops, err = i.operations(ctx, w, x); err != nil {
			return err
		}
		if ops = append(ops, held.ops()...); len(ops) > mostOps {
			return fault.New(fault.Invalid, "pack %s would change %d things at once, of which %d are possible; install it in smaller steps", id, len(ops), mostOps)
		}
		x.into(inForce)
		return nil
	}, func(head.Version, head.Version) []store.Op { return ops })
	switch {
	case errors.Is(err, errUnchanged):
		return out, nil
	case errors.Is(err, store.ErrTooLarge):
		return registry.Record{}, fault.New(fault.Invalid, "pack %s is too large to be installed at once", id)
	case err != nil:
		return out, err
	}
	i.Changed(ctx, by.Tenant, packsDocument)
	return out, nil
}

// read answers what there is.
func (i *Installer) read(ctx context.Context, by identity.Identity, id string, p *pack.Pack, inForce map[string]json.RawMessage) (*world, error) {
	w := &world{id: id, by: by, tenant: by.Tenant, micros: i.micros.Micros(i.Clock.Now()), bundles: inForce}
	var err error
	if w.packs, err = i.Packs.All(ctx); err != nil {
		return nil, err
	}
	if old, there := w.packs.Records[id]; there {
		if err := w.know(old); err != nil {
			return nil, err
		}
	}
	if w.document, err = i.Config.Get(ctx, config.SystemScope, config.DefaultID); err != nil {
		return nil, err
	}
	schemaIDs, workflowIDs := w.resources(p)
	registered, err := i.Schemas.Registered(ctx, w.tenant, schemaIDs)
	if err != nil {
		return nil, err
	}
	w.schemas = make(map[string]schemas.Registered, len(registered))
	for _, s := range registered {
		w.schemas[s.ID] = s
	}
	w.workflows = make(map[string]*catalog.Version, len(workflowIDs))
	for _, id := range workflowIDs {
		if w.workflows[id], err = i.Catalog.Current(ctx, w.tenant, id); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// operations make the world as it is wished, but for the bundles.
func (i *Installer) operations(ctx context.Context, w *world, x *wish) ([]store.Op, error) {
	var ops []store.Op
	for _, id := range slices.Sorted(maps.Keys(x.schemas)) {
		ops = append(ops, w.schemas[id].Replace(w.tenant, x.schemas[id], w.micros))
	}
	for _, id := range slices.Sorted(maps.Keys(x.workflows)) {
		if x.workflows[id] == nil {
			ops = append(ops, catalog.Remove(w.workflows[id])...)
			continue
		}
		_, more, err := i.Catalog.Replace(ctx, w.workflows[id], x.workflows[id])
		if err != nil {
			return nil, err
		}
		ops = append(ops, more...)
	}
	if x.document != nil {
		d := w.document
		d.Data = x.document
		if err := config.EnsurePools(ctx, i.Queues, w.document.Data, d.Data); err != nil {
			return nil, err
		}
		more, err := i.Config.Ops(ctx, d, time.UnixMicro(w.micros))
		if err != nil {
			return nil, err
		}
		ops = append(ops, more...)
	}
	written := slices.Concat(x.others, []registry.Record{x.record})
	if err := w.fits(written); err != nil {
		return nil, err
	}
	ops = append(ops, registry.Change(w.packs, written, nil, w.micros)...)
	entry := audit.By(w.by, w.micros, x.action, "pack", w.id)
	entry.Before, entry.After, entry.BundleIDs = state(w.record), x.state, slices.Sorted(maps.Keys(x.bundles))
	return append(ops, entry.Op()), nil
}

// fits says what is wrong with records that are to be written.
func (w *world) fits(written []registry.Record) error {
	for _, r := range written {
		if err := r.Check(); err != nil {
			return err
		}
	}
	return w.packs.Fits(written...)
}

// resources are the schemas and workflows that a change looks at: those of the record, and those of the bundle, nil for none.
func (w *world) resources(p *pack.Pack) (schemaIDs, workflowIDs []string) {
	if w.record != nil {
		schemaIDs, workflowIDs = slices.Collect(maps.Keys(w.record.Resources.Schemas)), slices.Collect(maps.Keys(w.record.Resources.Workflows))
	}
	if p != nil {
		for _, s := range p.Schemas {
			schemaIDs = append(schemaIDs, s.ID)
		}
		for _, f := range p.Workflows {
			workflowIDs = append(workflowIDs, f.ID)
		}
	}
	slices.Sort(schemaIDs)
	slices.Sort(workflowIDs)
	return slices.Compact(schemaIDs), slices.Compact(workflowIDs)
}

// held are the locks of one change.
type held struct {
	i     *Installer
	by    identity.Identity
	owner string
	locks []lock.Lock
}

// lost is what the caller hears when somebody else holds a lock.
func lost(resource string) error {
	if resource == globalLock {
		return errGlobalLock
	}
	return errPackLock
}

// hold takes the locks of a pack, in the order in which everybody takes them. Where nobody knows whether one was taken it is given back, too.
func (i *Installer) hold(ctx context.Context, by identity.Identity, id string) (*held, error) {
	h := &held{i: i, by: by, owner: "api-gateway:" + i.IDs.UUID()}
	for _, resource := range []string{globalLock, packLock + id} {
		l, err := i.Locks.Acquire(ctx, by.Tenant, resource, h.owner, lock.Exclusive, lockFor)
		if errors.Is(err, lock.ErrUnavailable) {
			h.release(ctx)
			return nil, lost(resource)
		}
		l.Resource = resource
		if h.locks = append(h.locks, l); err != nil {
			h.release(ctx)
			return nil, err
		}
	}
	return h, nil
}

// check says that somebody else has got a lock, or may have.
func (h *held) check(ctx context.Context) error {
	for _, l := range h.locks {
		now, err := h.i.Locks.Get(ctx, h.by.Tenant, l.Resource)
		if err != nil && !errors.Is(err, lock.ErrNotFound) {
			return err
		}
		if err != nil || now.Token != l.Token {
			return lost(l.Resource)
		}
	}
	return nil
}

// ops make a transaction depend on the locks.
func (h *held) ops() []store.Op {
	ops := make([]store.Op, len(h.locks))
	for n, l := range h.locks {
		ops[n] = l.StillHeld()
	}
	return ops
}

// release gives the locks back, whatever has become of the caller. One that cannot be given back ends by itself.
func (h *held) release(ctx context.Context) {
	for _, l := range slices.Backward(h.locks) {
		_, _ = h.i.Locks.Release(context.WithoutCancel(ctx), h.by.Tenant, l.Resource, h.owner)
	}
}
