// Package worker is the registry of worker processes: one item each, renewed by heartbeats. A worker belongs to the tenant of its
// credential; one with a cross-tenant credential serves every tenant.
package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
	"github.com/cordum-serverless/cordum/shared/platform/store"
	"github.com/cordum-serverless/cordum/shared/platform/turn"
)

// Limits of what a heartbeat may say.
const (
	// MaxID is the longest worker id, in bytes.
	MaxID = 128
	// MaxHeartbeat is the largest heartbeat, in bytes.
	MaxHeartbeat = 16 * 1024
)

// retention is how long the registry remembers a worker that fell silent.
const retention = time.Hour

// Worker is a registered worker.
type Worker struct {
	Tenant      string
	CrossTenant bool
	Beat        *agentv1.Heartbeat
	// SeenAt is the time of the last heartbeat, in microseconds.
	SeenAt int64
	// Delivery names the queue of the container that holds the worker's stream, "" when it has none.
	Delivery string
	// Token is what packets of a worker without a stream carry, "" for one with a stream.
	Token string
}

// Watchers is the tenant whose clients see the worker's heartbeats: the worker's own, or, of a cross-tenant worker, the one that it names in its label
// tenant or tenant_id.
func (w Worker) Watchers() string {
	if w.CrossTenant {
		for _, label := range []string{"tenant", "tenant_id"} {
			if t := w.Beat.GetLabels()[label]; t != "" {
				return t
			}
		}
	}
	return w.Tenant
}

// ID is the worker's own name.
func (w Worker) ID() string { return w.Beat.GetWorkerId() }

// Candidate is the worker as scheduling sees it.
func (w Worker) Candidate() schedule.Worker {
	b := w.Beat
	return schedule.Worker{
		ID: b.GetWorkerId(), Pool: b.GetPool(), Tenant: w.Tenant, CrossTenant: w.CrossTenant, PullOnly: w.Delivery == "", Region: b.GetRegion(), Type: b.GetType(),
		ActiveJobs: int(b.GetActiveJobs()), MaxParallelJobs: int(b.GetMaxParallelJobs()),
		CPULoad: float64(b.GetCpuLoad()), GPUUtilization: float64(b.GetGpuUtilization()), MemoryLoad: float64(b.GetMemoryLoad()),
		Capabilities: b.GetCapabilities(), Labels: b.GetLabels(), LastHeartbeat: time.UnixMicro(w.SeenAt),
	}
}

// Validate says what is wrong with a heartbeat.
func Validate(b *agentv1.Heartbeat) error {
	id := b.GetWorkerId()
	switch {
	case strings.TrimSpace(id) == "":
		return fault.New(fault.Invalid, "worker_id is required")
	case len(id) > MaxID:
		return fault.New(fault.Invalid, "worker_id is longer than %d bytes", MaxID)
	case strings.TrimSpace(b.GetPool()) == "":
		return fault.New(fault.Invalid, "heartbeat of worker %q names no pool", id)
	case proto.Size(b) > MaxHeartbeat:
		return fault.New(fault.Invalid, "heartbeat of worker %q is larger than %d bytes", id, MaxHeartbeat)
	}
	return nil
}

// The registry's items: W#<tenant>#<worker> | W, and in
//
//	by_link  WS#<tenant>   the workers of a tenant, by id
//	         WX            those that serve every tenant
//	by_due   WDUE          every worker, by when it is lost unless it was heard since; early, never late
func key(tenant, id string) store.Key {
	return store.Key{PK: "W#" + listing.Segment(tenant) + "#" + id, SK: "W"}
}

const (
	crossPartition = "WX"
	duePartition   = "WDUE"
)

func dueKey(tenant, id string, micros int64) store.Key {
	return store.Key{PK: duePartition, SK: listing.Sortable(micros) + "#" + listing.Segment(tenant) + "#" + id}
}

func homePartition(tenant string) string { return "WS#" + listing.Segment(tenant) }

// Registry keeps workers in the table.
type Registry struct {
	Table store.Table
	// Turn is taken to list workers.
	Turn turn.Turn

	cache map[string]roll
}

type roll struct {
	workers []Worker
	read    time.Time
}

// Put records a heartbeat. The first of a connection registers the worker, and so does one of a worker that was forgotten: from then on it is
// due to be looked at. Later ones leave that entry where it is, which may be early; Look files it again.
func (r *Registry) Put(ctx context.Context, w Worker, first bool) (registered bool, err error) {
	if err := Validate(w.Beat); err != nil {
		return false, err
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(w.Beat)
	if err != nil {
		return false, fault.Wrap(fault.Invalid, err, "malformed heartbeat")
	}
	link := store.Key{PK: homePartition(w.Tenant), SK: w.ID()}
	if w.CrossTenant {
		link = store.Key{PK: crossPartition, SK: listing.Segment(w.Tenant) + "#" + w.ID()}
	}
	op := store.Update(key(w.Tenant, w.ID())).
		SetAttrs(store.Attrs{"tn": w.Tenant, "x": w.CrossTenant, "hb": raw, "at": w.SeenAt, "dq": w.Delivery, "tk": w.Token}).
		Move(store.ByLink, link).ExpireAt(w.SeenAt/1e6 + int64(retention/time.Second))
	if !first {
		err := r.Table.Write(ctx, op.If(store.Has("du")))
		if !gone(err) {
			return false, err
		}
	}
	op = op.SetAttr("du", LostAt(w)).Move(store.ByDue, dueKey(w.Tenant, w.ID(), LostAt(w)))
	return true, store.Transact(ctx, r.Table, op)
}

// LostAt is when a worker is lost unless it is heard again, in microseconds.
func LostAt(w Worker) int64 { return w.SeenAt + schedule.WorkerTTL.Microseconds() + 1 }

// Ref names a worker.
type Ref struct{ Tenant, Worker string }

// Due lists workers whose entry in the due index is at or before now, at most limit: those that may have fallen silent.
func (r *Registry) Due(ctx context.Context, limit int, now time.Time) ([]Ref, error) {
	page, err := r.Table.Query(ctx, store.Query{
		Index: store.ByDue, PK: duePartition, To: listing.UpTo(now.UnixMicro()), Limit: limit,
	})
	if err != nil {
		return nil, err
	}
	refs := make([]Ref, 0, len(page.Items))
	for _, it := range page.Items {
		tenant, id, _ := strings.Cut(strings.TrimPrefix(it.PK, "W#"), "#")
		refs = append(refs, Ref{Tenant: listing.Unsegment(tenant), Worker: id})
	}
	return refs, nil
}

// Contact is what a look at a worker found.
type Contact int

// What a look may find.
const (
	// NotDue: the worker is not known, or somebody else looked at it.
	NotDue Contact = iota
	// Refiled: it was heard since, and is due again when it would be lost.
	Refiled
	// LostContact: it has not been heard for longer than a worker lives.
	LostContact
)

// Look sees after a worker that is due.
func (r *Registry) Look(ctx context.Context, tenant, id string, now time.Time) (Worker, Contact, error) {
	it, err := r.Table.Get(ctx, key(tenant, id))
	if errors.Is(err, store.ErrNotFound) {
		return Worker{}, NotDue, nil
	}
	if err != nil {
		return Worker{}, NotDue, err
	}
	w, err := parse(it)
	if err != nil {
		return w, NotDue, err
	}
	filed := it.Attrs.Int("du")
	if filed > now.UnixMicro() {
		return w, NotDue, nil
	}
	if !schedule.Live(w.Candidate(), now) {
		return w, LostContact, nil
	}
	again := store.Update(it.Key).If(store.Equal("du", filed)).SetAttr("du", LostAt(w)).Move(store.ByDue, dueKey(w.Tenant, w.ID(), LostAt(w)))
	if err := r.Table.Write(ctx, again); err != nil {
		if gone(err) {
			return w, NotDue, nil
		}
		return w, NotDue, err
	}
	return w, Refiled, nil
}

// Forget takes a silent worker out, unless it was heard meanwhile.
func (r *Registry) Forget(ctx context.Context, w Worker) error {
	err := r.Table.Write(ctx, store.Delete(key(w.Tenant, w.ID())).If(store.Equal("at", w.SeenAt)))
	if gone(err) {
		return nil
	}
	return err
}

func gone(err error) bool {
	var failed *store.ConditionError
	return errors.As(err, &failed)
}

// Remove takes a worker out that said good-bye.
func (r *Registry) Remove(ctx context.Context, tenant, id string) error {
	return r.Table.Write(ctx, store.Delete(key(tenant, id)))
}

// Known reads a worker, live or not; known is false when there is none.
func (r *Registry) Known(ctx context.Context, tenant, id string) (w Worker, known bool, err error) {
	items, err := r.Table.BatchGet(ctx, []store.Key{key(tenant, id)})
	if err != nil || len(items) == 0 {
		return Worker{}, false, err
	}
	w, err = parse(items[0])
	return w, err == nil, err
}

// Get reads one worker; ok is false when it is unknown or silent for longer than a worker lives.
func (r *Registry) Get(ctx context.Context, tenant, id string, now time.Time) (w Worker, ok bool, err error) {
	w, known, err := r.Known(ctx, tenant, id)
	if err != nil || !known {
		return Worker{}, false, err
	}
	return w, schedule.Live(w.Candidate(), now), nil
}

// List answers the live workers of a tenant, by id. Those of other tenants are not among them, even when they serve this one.
func (r *Registry) List(ctx context.Context, tenant string, now time.Time) ([]Worker, error) {
	own, err := r.partition(ctx, homePartition(tenant), "", now)
	if err != nil {
		return nil, err
	}
	cross, err := r.partition(ctx, crossPartition, listing.Segment(tenant)+"#", now)
	if err != nil {
		return nil, err
	}
	workers := slices.Concat(own, cross)
	slices.SortFunc(workers, func(a, b Worker) int { return strings.Compare(a.ID(), b.ID()) })
	return workers, nil
}

// servingAge is how old the answer of Serving may be.
const servingAge = 2 * time.Second

// Serving answers the live workers that may take a tenant's jobs, its own and the cross-tenant ones, as of at most two seconds ago.
func (r *Registry) Serving(ctx context.Context, tenant string, now time.Time) ([]Worker, error) {
	if err := r.Turn.Take(ctx); err != nil {
		return nil, err
	}
	defer r.Turn.Give()
	if l, ok := r.cache[tenant]; ok && now.Sub(l.read) < servingAge {
		return l.workers, nil
	}
	own, err := r.partition(ctx, homePartition(tenant), "", now)
	if err != nil {
		return nil, err
	}
	cross, err := r.partition(ctx, crossPartition, "", now)
	if err != nil {
		return nil, err
	}
	if r.cache == nil || len(r.cache) > 1000 {
		r.cache = map[string]roll{}
	}
	l := roll{workers: slices.Concat(own, cross), read: now}
	r.cache[tenant] = l
	return l.workers, nil
}

func (r *Registry) partition(ctx context.Context, pk, prefix string, now time.Time) ([]Worker, error) {
	var keys []store.Key
	for it, err := range store.Items(ctx, r.Table, store.Query{Index: store.ByLink, PK: pk, Prefix: prefix}) {
		if err != nil {
			return nil, err
		}
		keys = append(keys, it.Key)
	}
	items, err := r.Table.BatchGet(ctx, keys)
	if err != nil {
		return nil, err
	}
	var workers []Worker
	for _, it := range items {
		w, err := parse(it)
		if err != nil {
			return nil, err
		}
		if schedule.Live(w.Candidate(), now) {
			workers = append(workers, w)
		}
	}
	return workers, nil
}

func parse(it store.Item) (Worker, error) {
	a := it.Attrs
	w := Worker{
		Tenant: a.String("tn"), CrossTenant: a.Bool("x"), SeenAt: a.Int("at"), Delivery: a.String("dq"), Token: a.String("tk"), Beat: &agentv1.Heartbeat{},
	}
	if err := proto.Unmarshal(a.Bytes("hb"), w.Beat); err != nil {
		return w, fmt.Errorf("worker %s: stored heartbeat: %w", it.PK, err)
	}
	return w, nil
}
