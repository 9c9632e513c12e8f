package runs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/memory"
	"github.com/cordum-serverless/cordum/shared/core/schema/registry"
	"github.com/cordum-serverless/cordum/shared/core/workflow/catalog"
	"github.com/cordum-serverless/cordum/shared/core/workflow/engine"
	"github.com/cordum-serverless/cordum/shared/core/workflow/inbox"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Runs keeps runs and gets them on. One is shared by everything in a process; all its methods may be called at once.
type Runs struct {
	Table   store.Table
	Blobs   blob.Store
	Shards  job.Shards
	Jobs    *dispatch.Dispatcher
	Catalog *catalog.Store
	Schemas *registry.Store
	Memory  *memory.Store

	micros clock.Unique
	plans  plans
}

// New makes them on what moves jobs.
func New(d *dispatch.Dispatcher) *Runs {
	c := &catalog.Store{Table: d.Jobs.Table, Blobs: d.Jobs.Blobs, Clock: d.Clock, IDs: d.IDs}
	return &Runs{
		Table: d.Jobs.Table, Blobs: d.Jobs.Blobs, Shards: d.Jobs.Shards, Jobs: d, Catalog: c, Schemas: &registry.Store{Table: d.Jobs.Table, Clock: d.Clock},
		Memory: &memory.Store{Table: d.Jobs.Table},
	}
}

// What callers hear.
var (
	ErrUnknown  = fault.New(fault.NotFound, "run not found")
	ErrWorkflow = fault.New(fault.NotFound, "workflow not found")
	errBusy     = fault.New(fault.Conflict, "workflow run is busy, retry")
	errChanging = fault.New(fault.Conflict, "workflow is being changed, retry")
)

// now is the time, and no two are the same in one process, so that lists have an order.
func (r *Runs) now() time.Time { return time.UnixMicro(r.micros.Micros(r.Jobs.Clock.Now())).UTC() }

// How long things are kept, and how soon they are looked at again.
const (
	// Retention is how long a run is kept after its end.
	Retention = 30 * 24 * time.Hour
	// OnceFor is how long an idempotency key stands for its run.
	OnceFor = 7 * 24 * time.Hour
	// patience is how long what is to be sent, or to be done, may lie before somebody else does it.
	patience = 30 * time.Second
	// crowdedFor is how long a job waits that found its tenant's queue full, as one that is over its tenant's limit does.
	crowdedFor = 2 * time.Second
)

// maxID is the longest id, in bytes, that is looked for: ids of runs are UUIDs, and a key has its limit.
const maxID = 256

// find reads the header of a tenant's run; one that does not exist, or was deleted, is ErrUnknown.
func (r *Runs) find(ctx context.Context, tenant, id string) (*header, error) {
	if id == "" || len(id) > maxID {
		return nil, ErrUnknown
	}
	it, err := r.Table.Get(ctx, inbox.Header(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrUnknown
	}
	if err != nil {
		return nil, err
	}
	h, err := parseHeader(it)
	if err != nil {
		return nil, err
	}
	if !h.visible(tenant, r.Jobs.Clock.Now()) {
		return nil, ErrUnknown
	}
	return h, nil
}

// visible says whether a tenant sees the run.
func (h *header) visible(tenant string, now time.Time) bool {
	return h.OrgID == tenant && !h.deleted && !h.over(now)
}

// over says whether the run was kept as long as runs are.
func (h *header) over(now time.Time) bool {
	return h.Status.Terminal() && !h.CompletedAt.IsZero() && !now.Before(h.CompletedAt.Add(Retention))
}

// settled says that nothing of a run that has ended is left to be done.
func (h *header) settled() bool {
	return h.Status.Terminal() && len(h.Outbox) == 0 && len(h.Sweeps) == 0
}

// next is when somebody must look at the header: sooner when a pass has left something to do.
func (h *header) next(now time.Time, more bool) int64 {
	switch {
	case len(h.Outbox) > 0 || more || len(h.Sweeps) > 0:
		return now.Add(patience).UnixMicro()
	case h.deleted:
		return now.UnixMicro()
	case h.Status.Terminal():
		return h.CompletedAt.Add(Retention).UnixMicro()
	case !h.Deadline.IsZero():
		return h.Deadline.UnixMicro()
	}
	return 0
}

// plans are the compiled definitions that a process remembers.
type plans struct {
	mu    sync.Mutex
	known map[planKey]*engine.Plan
}

type planKey struct{ tenant, workflow, fingerprint, schemas string }

// remembered is how many plans a process keeps.
const remembered = 256

func (p *plans) get(k planKey) *engine.Plan {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[k]
}

func (p *plans) put(k planKey, plan *engine.Plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil || len(p.known) >= remembered {
		p.known = map[planKey]*engine.Plan{}
	}
	p.known[k] = plan
}

// plan answers what a run keeps to: the definition that it began with, and the registered schemas as they were then.
func (r *Runs) plan(ctx context.Context, h *header) (*engine.Plan, error) {
	kept, err := r.Catalog.Kept(ctx, h.OrgID, h.WorkflowID, h.Plan)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", h.ID, err)
	}
	if ids := kept.SchemaIDs(); kept.Schemas == nil && len(ids) > 0 { // it began under a release that went by the schemas of the day
		named, err := r.Schemas.Named(ctx, h.OrgID, ids)
		if err != nil {
			return nil, err
		}
		return engine.Compile(kept.Workflow, named.Compiled, "")
	}
	return r.planned(h.OrgID, kept.Version, kept.Schemas, func() (registry.Set, error) { return r.Schemas.Kept(ctx, h.OrgID, kept.Schemas) })
}

// planned answers the plan of a definition and schemas, which it asks for when it does not remember it.
func (r *Runs) planned(tenant string, v *catalog.Version, hashes map[string]string, schemas func() (registry.Set, error)) (*engine.Plan, error) {
	k := planKey{tenant: tenant, workflow: v.ID, fingerprint: v.Hash, schemas: registry.Revision(hashes)}
	if plan := r.plans.get(k); plan != nil {
		return plan, nil
	}
	named, err := schemas()
	if err != nil {
		return nil, err
	}
	plan, err := engine.Compile(v.Workflow, named.Compiled, k.schemas)
	if err == nil {
		r.plans.put(k, plan)
	}
	return plan, err
}

// sorted answers the distinct texts of a list in their order.
func sorted(of []string) []string {
	of = slices.Clone(of)
	slices.Sort(of)
	return slices.Compact(of)
}
