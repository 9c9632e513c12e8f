// Package dispatch takes a job from its submission to its end: decide, route, store, send; hand over to a worker; take its word on
// progress and result; cancel; and look again at whatever is due. Every step is one conditional write, so that any of them may be done
// twice, by anybody, and takes effect once.
package dispatch

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/config"
	"github.com/cordum-serverless/cordum/shared/core/event"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/policy/head"
	"github.com/cordum-serverless/cordum/shared/core/policy/signed"
	"github.com/cordum-serverless/cordum/shared/core/signature"
	"github.com/cordum-serverless/cordum/shared/core/worker"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/metrics"
	"github.com/cordum-serverless/cordum/shared/platform/push"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
	"github.com/cordum-serverless/cordum/shared/platform/turn"
)

// Dispatcher moves jobs. One is shared by everything in a process; all its methods may be called at once.
type Dispatcher struct {
	Jobs     *job.Store
	Queues   queue.Queues
	Policy   *head.Store
	Settings *config.Settings
	// Config answers the effective configuration of jobs.
	Config  *config.Resolver
	Workers *worker.Registry
	Clock   clock.Clock
	IDs     ids.Source
	Log     *slog.Logger
	// Events tells clients what happens.
	Events *event.Bus
	// Streams are the clients' connections; its Push is nil in processes that push nothing.
	Streams *event.Broadcaster
	// SweepEvery is how often the plane looks for what is due. What is due sooner wakes somebody by a delayed message.
	SweepEvery time.Duration
	// Senders are the public keys of those who sign their packets; without any nobody has to.
	Senders signature.Keys
	// Yield is called where goroutines begin.
	Yield turn.Yield

	micros clock.Unique
}

// Platform is what a plane stands on: the ports, the time and the source of ids.
type Platform struct {
	Table  store.Table
	Queues queue.Queues
	Blobs  blob.Store
	Clock  clock.Clock
	IDs    ids.Source
	Log    *slog.Logger
	Shards job.Shards
	// Connections reach clients; nil for processes that push nothing.
	Connections push.Connections
	// SweepEvery is how often the plane looks for what is due; 0 is every minute.
	SweepEvery time.Duration
	// Senders are the public keys of those who sign their packets; without any nobody has to.
	Senders signature.Keys
	// PolicyKey is whose signature the base policy must carry; nil looks at none.
	PolicyKey *signed.Key
	// Yield is for simulations.
	Yield turn.Yield
	// Metrics take what is measured; nil for nowhere.
	Metrics metrics.Sink
}

// New builds a dispatcher on a platform.
func New(p Platform) *Dispatcher {
	documents := &config.Store{Table: p.Table, Blobs: p.Blobs}
	d := &Dispatcher{
		Jobs:     &job.Store{Table: p.Table, Blobs: p.Blobs, Shards: p.Shards},
		Queues:   p.Queues,
		Policy:   &head.Store{Table: p.Table, Blobs: p.Blobs, Key: p.PolicyKey},
		Settings: config.NewSettings(documents, p.Clock, p.Log),
		Config:   &config.Resolver{Store: documents},
		Workers:  &worker.Registry{Table: p.Table},
		Clock:    p.Clock, IDs: p.IDs, Log: p.Log,
		Events: &event.Bus{Table: p.Table, Queues: p.Queues, Clock: p.Clock, Log: p.Log},
		Streams: &event.Broadcaster{
			Connections: &event.Connections{Table: p.Table}, Push: p.Connections, Clock: p.Clock, IDs: p.IDs, Log: p.Log, Yield: p.Yield,
		},
		SweepEvery: cmp.Or(p.SweepEvery, DefaultSweep), Senders: p.Senders, Yield: p.Yield,
	}
	for name, t := range map[string]*turn.Turn{"policy": &d.Policy.Turn, "config": &d.Config.Turn, "settings": &d.Settings.Turn, "workers": &d.Workers.Turn} {
		t.Yield, t.Name = p.Yield, name
	}
	d.Streams.Bus, d.Streams.Story = d.Events, d.story
	counted := func(context.Context, job.State, *job.Record) {}
	if p.Metrics != nil {
		counted = measure(p.Metrics)
	}
	d.Jobs.Ended = d.ended
	d.Jobs.Moved = func(ctx context.Context, from job.State, r *job.Record) {
		counted(ctx, from, r)
		if run, ok := job.RunOf(r.ID); ok && r.State.Terminal() {
			d.WakeRun(ctx, run, "", time.Time{})
		}
	}
	return d
}

// DefaultSweep is how often a schedule looks for what is due.
const DefaultSweep = time.Minute

func (d *Dispatcher) now() time.Time { return d.Clock.Now() }

// Ticket is a message of a pool's or a delivery queue: which job, for which attempt. It carries nothing of the tenant's.
type Ticket struct {
	Job     string `json:"job"`
	Attempt int64  `json:"attempt"`
	// Cancel asks the container that holds the job to tell its worker. Only on delivery queues.
	Cancel bool `json:"cancel,omitempty"`
}

// ParseTicket reads a message's body; ok is false for one that is not a ticket.
func ParseTicket(body string) (t Ticket, ok bool) {
	err := json.Unmarshal([]byte(body), &t)
	return t, err == nil && t.Job != ""
}

func (t Ticket) message() queue.Message {
	b, err := json.Marshal(t)
	if err != nil {
		panic("dispatch: ticket: " + err.Error())
	}
	return queue.Message{Body: string(b)}
}

// send puts a scheduled job where a worker will find it.
func (d *Dispatcher) send(ctx context.Context, r *job.Record) error {
	name := resources.Pool(r.Pool)
	if r.Targeted {
		name = r.Delivery
	}
	if name == "" { // its worker is not there yet: the sweep looks again soon
		return nil
	}
	return d.Queues.Send(ctx, name, Ticket{Job: r.ID, Attempt: r.Attempts + 1}.message())
}

// Times of the due index.
const (
	// resendAfter is when a scheduled job that nobody claimed is sent again; then at doubling intervals.
	resendAfter = 30 * time.Second
	resendMax   = time.Hour
	// retargetAfter and retargetMax are the same for a job that waits for one certain worker, which may connect any time.
	retargetAfter = 2 * time.Second
	retargetMax   = time.Minute
	// retryUnreachable, retryLimit and retryMax are for pending jobs: doubling from the first, up to the last.
	retryUnreachable = 2 * time.Second
	retryLimit       = 2 * time.Second
	retryMax         = time.Minute
)

// due is the earliest of a time, the job's deadline and the end of its record's retention, in microseconds.
func due(r *job.Record, at time.Time) int64 {
	micros := min(at.UnixMicro(), r.KeepAt())
	if r.DeadlineAt != 0 && r.DeadlineAt < micros {
		return r.DeadlineAt
	}
	return micros
}

// waitDue is due for a job that waits: the end of its patience counts too.
func waitDue(r *job.Record, at time.Time, patience time.Duration) int64 {
	micros := due(r, at)
	if r.DeadlineAt == 0 && patience > 0 {
		return min(micros, r.WaitsUntil(patience))
	}
	return micros
}
