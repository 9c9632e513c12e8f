package grpc

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/dispatch"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/schedule"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// Times of the queues.
const (
	// pollWait is how long a receive waits for a message.
	pollWait = 20 * time.Second
	// claimTime hides a message while it is claimed.
	claimTime = 30 * time.Second
	// notHere gives a message back that another container, or the same one a little later, may use.
	notHere = 2 * time.Second
	// outOfReach gives one back whose job could not be looked at.
	outOfReach = time.Second
	// pollPause follows a receive that failed.
	pollPause = time.Second
)

// puller pulls the queue of one pool while workers of it are connected.
type puller struct {
	w    *Workers
	pool string
}

// pull starts the puller of a pool. The caller holds w.mu.
func (w *Workers) pull(pool string) {
	if w.pools[pool] != nil {
		return
	}
	p := &puller{w: w, pool: pool}
	w.pools[pool] = p
	w.handing.Go(p.run)
}

// wake tells the pullers that a slot may be free. The caller holds w.mu.
func (w *Workers) wake() {
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *Workers) notify() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wake()
}

// serving answers the sessions of a pool and how many jobs they take together; changed is closed when that may be different.
func (w *Workers) serving(pool string) (all []*session, free int, changed chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sessions {
		if s.pool() == pool {
			all = append(all, s)
			free += s.free()
		}
	}
	return all, free, w.changed
}

func (p *puller) run() {
	for {
		p.w.d.Yield.At(p.w.pulling, "slots of "+p.pool)
		sessions, free, changed := p.w.serving(p.pool)
		if len(sessions) == 0 && p.retire() {
			return
		}
		if free == 0 {
			select {
			case <-changed:
				continue
			case <-p.w.pulling.Done():
				return
			}
		}
		if p.w.pulling.Err() != nil {
			return
		}
		p.receive(min(free, queue.MaxBatch))
	}
}

// retire ends the puller unless a worker came meanwhile.
func (p *puller) retire() bool {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	for _, s := range p.w.sessions {
		if s.pool() == p.pool {
			return false
		}
	}
	delete(p.w.pools, p.pool)
	return true
}

func (p *puller) receive(n int) {
	name := resources.Pool(p.pool)
	msgs, err := p.w.d.Queues.Receive(p.w.pulling, name, n, pollWait, claimTime)
	if err != nil {
		if p.w.pulling.Err() == nil {
			p.w.log.Error("pool queue cannot be read", "pool", p.pool, "error", err)
			_ = clock.Pause(p.w.pulling, pollPause)
		}
		return
	}
	for _, m := range msgs {
		t, ok := dispatch.ParseTicket(m.Body)
		if !ok {
			p.w.log.Warn("message on a pool queue is not a ticket", "pool", p.pool, "message", m.ID)
			p.w.discard(name, m)
			continue
		}
		s := p.w.choose(p.pool, nil)
		if s == nil {
			p.w.giveBack(name, m, 0)
			continue
		}
		p.w.handing.Go(func() { p.hand(s, name, m, t) })
	}
}

// hand claims a job for a session, which has a slot promised, or for another one where the job is not for the first.
func (p *puller) hand(s *session, name string, m queue.Received, t dispatch.Ticket) {
	p.w.d.Yield.At(p.w.pulling, "hand "+s.name+" "+m.ID)
	tried := map[*session]bool{}
	for s != nil {
		refused := p.w.claim(s, t)
		switch {
		case refused == nil: // handed over, or of no use to anybody
			p.w.discard(name, m)
			return
		case refused.Tenant == "": // the store cannot be reached now
			p.w.giveBack(name, m, outOfReach)
			return
		}
		tried[s] = true
		s = p.w.choose(p.pool, func(o *session) bool {
			return !tried[o] && (o.id.CrossTenant || o.id.Home == refused.Tenant)
		})
	}
	p.w.giveBack(name, m, notHere)
}

// choose promises a slot of the best session of a pool; nil when none has room.
func (w *Workers) choose(pool string, allowed func(*session) bool) *session {
	w.mu.Lock()
	defer w.mu.Unlock()
	var best *session
	var bestScore float64
	for _, s := range w.sessions {
		if s.pool() != pool || s.free() == 0 || (allowed != nil && !allowed(s)) {
			continue
		}
		c, _ := s.candidate()
		score := schedule.Score(c)
		if best == nil || score < bestScore || (score == bestScore && s.name < best.name) {
			best, bestScore = s, score
		}
	}
	if best != nil {
		best.reserve(1)
	}
	return best
}

// promise promises a slot of a session; false when it has none.
func (w *Workers) promise(s *session) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.free() == 0 {
		return false
	}
	s.reserve(1)
	return true
}

// claim hands the job to the session's worker, in the slot that was promised, or frees the slot. nil means that the ticket is used up. A
// Refusal without a tenant means: try again later.
func (w *Workers) claim(s *session, t dispatch.Ticket) *dispatch.Refusal {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.base), storeTimeout)
	defer cancel()
	filled := false
	defer func() {
		if !filled {
			s.reserve(-1)
			w.notify() // not before: a puller that is told looks at once, and is not told again
		}
	}()
	if !s.claim(t.Job) {
		return nil // a second copy of the ticket
	}
	defer s.claimed(t.Job)
	w.mu.Lock()
	delivery := w.delivery
	w.mu.Unlock()
	c, err := w.d.Claim(ctx, s.id, dispatch.Claimant{Worker: s.name, Delivery: delivery}, t)
	var refused *dispatch.Refusal
	switch {
	case errors.As(err, &refused) && refused.Keep:
		return refused
	case errors.As(err, &refused):
		return nil
	case err != nil:
		w.log.Error("job cannot be claimed", "job", t.Job, "worker", s.name, "error", err)
		s.wonder()
		return &dispatch.Refusal{Keep: true}
	}
	s.fill(c.Record)
	filled = true
	if !s.send(w.request(c)) {
		s.release(t.Job)
		w.log.Warn("worker left while a job was handed to it", "job", t.Job, "worker", s.name)
		if err := w.d.Release(ctx, c.Record); err != nil {
			w.log.Error("job not released; its lease will end", "job", t.Job, "error", err)
		}
	}
	return nil
}

func (w *Workers) discard(name string, m queue.Received) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.base), storeTimeout)
	defer cancel()
	if err := w.d.Queues.Delete(ctx, name, m.Receipt); err != nil {
		w.log.Warn("message not deleted; it comes again and is refused", "queue", name, "error", err)
	}
}

func (w *Workers) giveBack(name string, m queue.Received, after time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.base), storeTimeout)
	defer cancel()
	if err := w.d.Queues.Extend(ctx, name, m.Receipt, after); err != nil {
		w.log.Warn("message not given back; it comes again by itself", "queue", name, "error", err)
	}
}

// Run keeps the container's place among those that serve workers: it leases a delivery queue and handles what comes on it, jobs for one
// certain worker and cancels. It returns when ctx ends, after what was unclaimed is given back.
func (w *Workers) Run(ctx context.Context) error {
	defer w.Close()
	for ctx.Err() == nil {
		lease, ok, err := w.d.Workers.Lease(ctx, w.owner, w.d.Clock.Now())
		if err != nil || !ok {
			w.log.Warn("no delivery queue to be had; jobs for one certain worker wait", "error", err)
			_ = clock.Pause(ctx, pollPause*5)
			continue
		}
		w.mu.Lock()
		w.delivery = resources.Delivery(lease)
		w.mu.Unlock()
		w.moved(ctx)
		w.deliver(ctx, lease)
	}
	return nil
}

// moved writes the delivery queue into the records of workers that connected before it was there.
func (w *Workers) moved(ctx context.Context) {
	w.mu.Lock()
	all := maps.Clone(w.sessions)
	w.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if err := w.storeBeat(ctx, all[key], false); err != nil {
			w.log.WarnContext(ctx, "a worker's record names no delivery queue; its next heartbeat does", "worker", all[key].name, "error", err)
		}
	}
}

// deliver handles the delivery queue while the lease holds.
func (w *Workers) deliver(ctx context.Context, lease int) {
	name := resources.Delivery(lease)
	ctx, cancel := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	defer renewing.Wait()
	defer cancel()
	renewing.Go(func() {
		defer cancel()
		for {
			if clock.Pause(ctx, leaseRenew) != nil {
				return
			}
			if ok, err := w.d.Workers.Renew(ctx, w.owner, lease, w.d.Clock.Now()); err != nil || !ok {
				w.log.Error("delivery queue lost", "queue", name, "error", err)
				return
			}
		}
	})
	for ctx.Err() == nil {
		msgs, err := w.d.Queues.Receive(ctx, name, queue.MaxBatch, pollWait, claimTime)
		if err != nil {
			if ctx.Err() == nil {
				w.log.Error("delivery queue cannot be read", "queue", name, "error", err)
				_ = clock.Pause(ctx, pollPause)
			}
			continue
		}
		for _, m := range msgs {
			w.delivered(ctx, name, m)
		}
	}
}

// leaseRenew is how often the lease of a delivery queue is renewed.
const leaseRenew = 10 * time.Second

func (w *Workers) delivered(ctx context.Context, name string, m queue.Received) {
	t, ok := dispatch.ParseTicket(m.Body)
	if !ok {
		w.log.Warn("message on a delivery queue is not a ticket", "queue", name, "message", m.ID)
		w.discard(name, m)
		return
	}
	r, err := w.d.Jobs.Load(ctx, job.AnyTenant, t.Job, w.d.Clock.Now())
	if err != nil {
		w.giveBack(name, m, outOfReach)
		return
	}
	if t.Cancel {
		w.cancel(r)
		w.discard(name, m)
		return
	}
	s := w.session(r)
	switch {
	case r.State != job.Scheduled || r.Attempts != t.Attempt-1:
		w.discard(name, m)
	case s == nil:
		if err := w.d.Reroute(ctx, r); err != nil {
			w.log.Warn("targeted job not routed again; the sweep does it", "job", r.ID, "error", err)
		}
		w.discard(name, m)
	case w.promise(s) && w.claim(s, t) == nil:
		w.discard(name, m)
	default:
		w.giveBack(name, m, notHere)
	}
}

// session finds the stream of the worker that a targeted job is for.
func (w *Workers) session(r *job.Record) *session {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sessions {
		if s.name == r.Target && s.id.MayServe(r.Pool) && (s.id.CrossTenant || s.id.Home == r.Tenant) {
			return s
		}
	}
	return nil
}

// cancel tells the worker that holds a job to stop. The job itself is cancelled, or timed out, already.
func (w *Workers) cancel(r *job.Record) {
	w.mu.Lock()
	s := w.sessions[sessionKey(r.WorkerTenant, r.Worker)]
	w.mu.Unlock()
	if s != nil && s.find(r.ID) != nil {
		s.send(dispatch.CancelPacket(r, w.d.Clock.Now()))
	}
}

// Close stops pulling, has what was pulled handed over, and ends all streams. Workers connect to another container and keep their jobs.
func (w *Workers) Close() {
	w.mu.Lock()
	w.stopping = true
	w.mu.Unlock()
	w.stopPulls()
	w.handing.Wait()
	w.stop()
}
