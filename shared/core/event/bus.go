package event

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Bus sends events. One is shared by everything in a process.
type Bus struct {
	Table  store.Table
	Queues queue.Queues
	Clock  clock.Clock
	Log    *slog.Logger

	unique clock.Unique

	mu     sync.Mutex
	listen map[string]presence
}

type presence struct {
	somebody bool
	read     time.Time
}

// PresenceAge is how old the knowledge may be that nobody listens. A client that connects waits that long before its connection opens, so
// that it gets every event from then on.
const PresenceAge = 500 * time.Millisecond

// Listened says whether anybody listens to a tenant's events. An error reads as nobody: events are not worth failing for.
func (b *Bus) Listened(ctx context.Context, tenant string) bool {
	now := b.Clock.Now()
	b.mu.Lock()
	known, ok := b.listen[tenant]
	b.mu.Unlock()
	if ok && now.Sub(known.read) < PresenceAge {
		return known.somebody
	}
	items, err := b.Table.BatchGet(ctx, []store.Key{presenceKey(tenant), presenceKey(Everybody)})
	if err != nil {
		b.Log.WarnContext(ctx, "it is not known who listens; live events are left out", "tenant", tenant, "error", err)
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listen == nil || len(b.listen) > 10_000 {
		b.listen = map[string]presence{}
	}
	somebody := slices.ContainsFunc(items, func(it store.Item) bool { return it.Live(now.Unix()) })
	b.listen[tenant] = presence{somebody, now}
	return somebody
}

// Job announces packets about a job, in this order, to whoever listens. The record is the job as it is after what happened; step orders
// events of one moment. It never fails: what cannot be sent is logged.
func (b *Bus) Job(ctx context.Context, r *job.Record, step int, packets ...*agentv1.BusPacket) {
	if b.Listened(ctx, r.Tenant) {
		b.send(ctx, Event{Tenant: r.Tenant, Group: "job:" + r.ID, Job: r.ID, Version: Version(r, step)}, packets)
	}
}

// Run announces frames about a run, in this order; version orders those of one run.
func (b *Bus) Run(ctx context.Context, tenant, run, version string, frames []json.RawMessage) {
	if len(frames) > 0 && b.Listened(ctx, tenant) {
		b.frames(ctx, Event{Tenant: tenant, Group: "run:" + run, Version: version, Frames: frames})
	}
}

// Worker announces a heartbeat to a tenant.
func (b *Bus) Worker(ctx context.Context, tenant, worker string, packet *agentv1.BusPacket) {
	if b.Listened(ctx, tenant) {
		b.send(ctx, Event{Tenant: tenant, Group: "worker:" + worker, Passing: true}, []*agentv1.BusPacket{packet})
	}
}

// Alert announces what operators of a tenant should know; group is what it is about.
func (b *Bus) Alert(ctx context.Context, tenant, group string, packet *agentv1.BusPacket) {
	if b.Listened(ctx, tenant) {
		b.send(ctx, Event{Tenant: tenant, Group: "alert:" + group}, []*agentv1.BusPacket{packet})
	}
}

func (b *Bus) send(ctx context.Context, e Event, packets []*agentv1.BusPacket) {
	var err error
	for _, p := range packets {
		frame, e1 := Frame(p)
		if e1 != nil {
			err = errors.Join(err, e1)
			continue
		}
		e.Frames = append(e.Frames, frame)
	}
	if err != nil {
		b.Log.WarnContext(ctx, "live event not sent", "group", e.Group, "error", err)
	}
	if len(e.Frames) > 0 {
		b.frames(ctx, e)
	}
}

// frames sends an event that has its frames, in as many messages as it takes.
func (b *Bus) frames(ctx context.Context, e Event) {
	for _, part := range e.parts() {
		m, err := part.message()
		if err == nil {
			err = b.Queues.Send(ctx, resources.Events, m)
		}
		if err != nil {
			b.Log.WarnContext(ctx, "live event not sent", "group", e.Group, "error", err)
			return
		}
	}
}

// groupID makes an id for a FIFO queue, which takes 128 characters.
func groupID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}
