package worker

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	cordumv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/v1"
)

// PollingConfig is what a worker without a stream is made of. URL, APIKey, Pool and Inbox are required, and Queue for Run.
type PollingConfig struct {
	// URL is where the plane's routes are, "https://api.example.com"; /api/v1 follows.
	URL string
	// APIKey is a key of role worker that names the pool.
	APIKey string
	Pool   string
	// Queue is the pool's queue, Inbox the plane's. sqsqueue has both.
	Queue Queue
	Inbox Sender
	// ID names the worker; "" is a random one. Every process needs another, also one that is started again: the plane takes jobs of a process
	// that is gone for those of the one that has its name, and waits for them until they time out. No job runs twice for sharing one.
	ID string
	// MaxParallel is how many jobs run at one time, at most 500; 0 is 4.
	MaxParallel int
	// Labels, Capabilities, Region and Type are announced. Jobs with placement labels go to workers with a stream, and to no others.
	Labels       map[string]string
	Capabilities []string
	Region, Type string
	// Load, when set, is asked for the machine's load in percent with every heartbeat. A worker whose CPU or GPU is at 90 or more takes no jobs.
	Load func() (cpu, gpu, memory float32)
	// Heartbeat is how often the worker tells that it lives, and learns of cancels; 0 is every 10 seconds. After 30 seconds of silence its
	// jobs go to others.
	Heartbeat time.Duration
	// DrainTimeout is how long Run waits for running jobs when it is told to stop; 0 is 30 seconds. A negative one does not even say
	// good-bye: the plane finds out by itself.
	DrainTimeout time.Duration
	// SigningKey, on P-256, signs every packet; nil signs none. A plane that was told the public key of this worker's ID drops what is not signed.
	SigningKey *ecdsa.PrivateKey
	// HTTP makes the calls; nil is a client of its own. Redirects are not followed, whatever it says.
	HTTP *http.Client
	// Logger gets what an operator should know; nil is slog.Default.
	Logger *slog.Logger
}

// Polling runs handlers for jobs whose tickets come from a queue: Run receives them itself, RunBatch takes those that somebody else received.
// Make it with NewPolling, add handlers, then call Run once, or RunBatch as often as there are batches.
//
// It claims each job over REST before it runs it, and the ticket is used up by that: what keeps the job with this worker from then on are its
// heartbeats, so a job may run for as long as it likes. Cancels come with the answers to heartbeats. Results and progress go through the
// plane's inbox queue.
type Polling struct {
	executor

	cfg  PollingConfig
	rest *rest
	// turn lets one Run or RunBatch go on at a time.
	turn    sync.Mutex
	tickets sync.WaitGroup
	room    chan struct{} // a place for each ticket at hand and each job
	news    chan struct{} // something is to be sent
	hurry   chan struct{} // the next heartbeat is wanted now
	litter  chan struct{} // messages are to be deleted

	// guarded by mu
	token  string    // what packets through the inbox carry
	beatAt time.Time // of the last heartbeat that the plane took
	deaf   bool      // the last heartbeat did not reach the plane
	busy   bool      // the machine is too loaded for more jobs
	spent  []Message // messages whose tickets are used up
	// asking are the tickets that are being claimed, unsure the keys of claims that were given up without an answer.
	asking map[ticket]struct{}
	unsure *recent[string]
}

// Times and bounds of a worker without a stream.
const (
	defaultBeat = 10 * time.Second
	maxParallel = 500
	// hidden is how long a message is kept from others while its job is claimed; it is prolonged when that takes longer.
	hidden = time.Minute
	// notHere gives a message back that another worker may use.
	notHere = 2 * time.Second
	// sayEvery is the least time between two words on a job.
	sayEvery = time.Second
	// confirmAfter is how long a result waits for the plane to have taken it before it is sent again.
	confirmAfter = 15 * time.Second
	// crowd is how many results may be unconfirmed before heartbeats, which confirm them, come faster; twice as many, and no job is received.
	crowd = 500
	// soon is the time between heartbeats that somebody waits for.
	soon = time.Second
	// queueTimeout bounds a call to a queue that does not wait for messages.
	queueTimeout = 10 * time.Second
	// gather is how long used-up messages are collected before they are deleted together.
	gather = 200 * time.Millisecond
	// overload is the load in percent at which a machine takes no more jobs.
	overload = 90
)

// NewPolling checks the configuration.
func NewPolling(cfg PollingConfig) (*Polling, error) {
	for name, missing := range map[string]bool{"APIKey": cfg.APIKey == "", "Pool": cfg.Pool == "", "Inbox": cfg.Inbox == nil} {
		if missing {
			return nil, fmt.Errorf("worker: PollingConfig.%s is required", name)
		}
	}
	if !printable(cfg.APIKey) {
		return nil, errUnprintable
	}
	if err := signable(cfg.SigningKey); err != nil {
		return nil, err
	}
	if cfg.MaxParallel < 0 || cfg.MaxParallel > maxParallel {
		return nil, fmt.Errorf("worker: PollingConfig.MaxParallel is %d; it must be 0 to %d", cfg.MaxParallel, maxParallel)
	}
	api, err := newREST(cfg.URL, cfg.APIKey, cfg.HTTP)
	if err != nil {
		return nil, err
	}
	cfg.MaxParallel = or(cfg.MaxParallel, defaultParallel)
	cfg.Heartbeat = or(cfg.Heartbeat, defaultBeat)
	cfg.DrainTimeout = or(cfg.DrainTimeout, defaultDrain)
	p := &Polling{
		cfg: cfg, rest: api, room: make(chan struct{}, cfg.MaxParallel),
		news: make(chan struct{}, 1), hurry: make(chan struct{}, 1), litter: make(chan struct{}, 1),
		asking: map[ticket]struct{}{}, unsure: newRecent[string](remembered),
	}
	p.init(profile{
		id: or(cfg.ID, uuid.NewString()), pool: cfg.Pool, region: cfg.Region, kind: cfg.Type, parallel: cfg.MaxParallel,
		labels: cfg.Labels, capabilities: cfg.Capabilities, load: cfg.Load,
	}, or(cfg.Logger, slog.Default()), p)
	return p, nil
}

// Run works until ctx ends; then it takes no more jobs and gives back what it has not claimed, finishes what runs within the drain timeout, says
// good-bye and returns nil. It returns early only when the plane will never let it in: a bad key, or a pool that the key does not name.
func (p *Polling) Run(ctx context.Context) error {
	if p.cfg.Queue == nil {
		return errors.New("worker: PollingConfig.Queue is required to Run")
	}
	p.turn.Lock()
	defer p.turn.Unlock()
	if err := p.register(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return refusedErr(err)
	}
	receiving, stop := context.WithCancel(ctx)
	defer stop()
	live, kill := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx by the drain
	defer kill()
	var serving sync.WaitGroup
	var refused error
	serving.Go(func() {
		if refused = p.pulse(live); refused != nil {
			stop()
			kill()
		}
	})
	serving.Go(func() { p.post(live) })
	serving.Go(func() { p.tidy(live) })
	p.receive(receiving)
	left := p.drain(live)
	kill()
	serving.Wait()
	p.leave(left)
	p.abandon()
	p.tickets.Wait()
	p.handling.Wait()
	if refused != nil {
		return refusedErr(refused)
	}
	return nil
}

func refusedErr(err error) error { return fmt.Errorf("worker: the plane refuses this worker: %w", err) }

// receive takes tickets off the queue, as many as there is room for, until ctx ends.
func (p *Polling) receive(ctx context.Context) {
	failures := 0
	for p.roomy(ctx) {
		n := p.reserve(ctx)
		if n == 0 {
			return
		}
		messages, err := p.cfg.Queue.Receive(ctx, n, hidden)
		for range n - len(messages) {
			<-p.room
		}
		for _, m := range messages {
			p.tickets.Go(func() {
				p.handle(ctx, m)
				<-p.room
			})
		}
		switch {
		case err == nil:
			failures = 0
		case ctx.Err() == nil:
			wait := backoff(failures)
			p.log.Warn("pool queue cannot be read", "pool", p.me.pool, "again_in", wait.String(), "error", err)
			pause(ctx, wait)
			failures++
		}
	}
}

// roomy waits while the worker had better take no jobs: the plane does not hear it, the machine is loaded, or too many results wait.
func (p *Polling) roomy(ctx context.Context) bool {
	for {
		p.mu.Lock()
		fit := !p.deaf && !p.busy && len(p.unacked) < 2*crowd
		p.mu.Unlock()
		if fit || !pause(ctx, soon) {
			return ctx.Err() == nil
		}
	}
}

// reserve waits for a free place and takes as many as one receive can use; 0 when ctx has ended.
func (p *Polling) reserve(ctx context.Context) int {
	select {
	case p.room <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	for n := 1; n < maxBatch; n++ {
		select {
		case p.room <- struct{}{}:
		default:
			return n
		}
	}
	return maxBatch
}

// handle does what a message of the pool's queue asks for.
func (p *Polling) handle(ctx context.Context, m Message) {
	p.atHand(1)
	shown := time.Now()
	packet, fate := p.claim(ctx, m, func() {
		if time.Since(shown) > hidden/3 {
			p.giveBack(m, hidden)
			shown = time.Now()
		}
	})
	var over <-chan struct{}
	switch fate {
	case taken:
		over = p.take(context.WithoutCancel(ctx), packet.GetTraceId(), packet.GetJobRequest())
		p.discard(m)
	case useless:
		p.discard(m)
	case others:
		p.giveBack(m, notHere)
	case unclaimed:
		p.giveBack(m, 0)
	}
	p.atHand(-1)
	if over != nil {
		<-over
	}
}

func (p *Polling) atHand(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claiming += n
	p.changed()
}

// drain ends the worker's life: what runs may finish, and the plane has all results. It answers how many jobs are left.
func (p *Polling) drain(live context.Context) (left int) {
	if p.cfg.DrainTimeout < 0 {
		return -1
	}
	p.startDraining()
	wake(p.hurry) // tells that there is no room
	return p.empty(live.Done(), p.cfg.DrainTimeout)
}

// leave deletes what is used up and, when nothing is left, says good-bye. A worker that holds jobs does not: its silence tells the plane.
func (p *Polling) leave(left int) {
	if left < 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), queueTimeout)
	defer cancel()
	p.sweep(ctx)
	if left > 0 {
		return
	}
	if _, _, err := p.rest.beat(ctx, p.heartbeat(), nil, true); err != nil {
		p.log.Warn("good-bye not said; the plane finds out by itself", "error", err)
	}
}

// discard has a message deleted whose ticket is used up.
func (p *Polling) discard(m Message) {
	p.mu.Lock()
	p.spent = append(p.spent, m)
	p.mu.Unlock()
	wake(p.litter)
}

// tidy deletes what is used up, several messages at once.
func (p *Polling) tidy(ctx context.Context) {
	for {
		select {
		case <-p.litter:
			pause(ctx, gather)
			p.sweep(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (p *Polling) sweep(ctx context.Context) {
	p.mu.Lock()
	spent := p.spent
	p.spent = nil
	p.mu.Unlock()
	for len(spent) > 0 {
		n := min(len(spent), maxBatch)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), queueTimeout)
		if err := p.cfg.Queue.Delete(ctx, spent[:n]...); err != nil {
			p.log.Warn("messages not deleted; they come again and are refused", "pool", p.me.pool, "error", err)
		}
		cancel()
		spent = spent[n:]
	}
}

// giveBack hides a message for a time from now on; 0 shows it to others.
func (p *Polling) giveBack(m Message, after time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), queueTimeout)
	defer cancel()
	if err := p.cfg.Queue.Return(ctx, m, after); err != nil {
		p.log.Warn("message not given back; it comes again by itself", "pool", p.me.pool, "error", err)
	}
}

// fate is what becomes of a ticket.
type fate int

const (
	taken     fate = iota // the job is this worker's; the ticket is used up
	useless               // nobody can use the ticket any more
	others                // another worker may use it
	unclaimed             // the plane could not be asked before ctx ended
)

// claim asks the plane for the job of a ticket, for as long as it takes. keep is called between two tries. An earlier try may have been heard, and
// its answer lost: the plane knows the claim by its key. Two copies of a ticket make two claims, and one of them finds the job gone.
func (p *Polling) claim(ctx context.Context, m Message, keep func()) (*agentv1.BusPacket, fate) {
	t, ok := parseTicket(m.Body)
	if !ok {
		p.log.Warn("message on a pool queue is not a ticket", "pool", p.me.pool)
		return nil, useless
	}
	if p.known(t) {
		return nil, useless
	}
	key, first := p.ask(t)
	if !first {
		return nil, others
	}
	answered := false
	defer func() { p.asked(t, key, answered) }()
	for try := 0; ctx.Err() == nil; try++ {
		outcome, packet, err := p.rest.claim(context.WithoutCancel(ctx), p.me.id, t, key)
		answered = err == nil
		switch {
		case err == nil && outcome == claimed:
			return packet, taken
		case err == nil && outcome == gone:
			return nil, useless
		case err == nil && outcome == elsewhere:
			return nil, others
		case err != nil && passing(err):
			p.log.Info("job not claimed yet", "job", t.Job, "error", err)
		default:
			p.log.Error("job cannot be claimed", "job", t.Job, "outcome", outcome, "error", err)
			return nil, others
		}
		pause(ctx, backoff(min(try, 4)))
		keep()
	}
	return nil, unclaimed
}

// ask begins the claim of a ticket, unless a copy of the ticket is being claimed. key is that of the claim which was given up without an answer, if
// there was one.
func (p *Polling) ask(t ticket) (key string, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, copied := p.asking[t]; copied {
		return "", false
	}
	p.asking[t] = struct{}{}
	if key, ok := p.unsure.take(t.String()); ok {
		return key, true
	}
	return uuid.NewString(), true
}

// asked ends the claim of a ticket. Where there was no answer, its key is kept for when the ticket comes again.
func (p *Polling) asked(t ticket, key string, answered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.asking, t)
	if !answered {
		p.unsure.put(t.String(), key)
	}
}

// known says whether a ticket's attempt runs or has run here; the result of one that has run is told again.
func (p *Polling) known(t ticket) bool {
	p.mu.Lock()
	known, again := p.repeated(t.Job, int(t.Attempt))
	p.mu.Unlock()
	p.tellAgain(again)
	return known
}

// input reads a job's input.
func (p *Polling) input(ctx context.Context, r *agentv1.JobRequest) ([]byte, error) {
	return persist(ctx, func() ([]byte, error) { return p.rest.context(ctx, r.GetJobId()) })
}

// engine is none: it is reached over gRPC alone.
func (p *Polling) engine(*agentv1.JobRequest) cordumv1.ContextEngineClient { return noEngine{} }

// output brings a payload to the plane.
func (p *Polling) output(ctx context.Context, j *Job, data []byte) (string, error) {
	pointer, err := persist(ctx, func() (string, error) { return p.rest.result(ctx, j.ID, j.Attempt, data) })
	if err != nil {
		return "", fmt.Errorf("store result: %w", err)
	}
	return pointer, nil
}

// persist calls for as long as it takes: until there is an answer that will not change, or ctx ends.
func persist[T any](ctx context.Context, call func() (T, error)) (T, error) {
	for try := 0; ; try++ {
		v, err := call()
		if err == nil || (ctx.Err() == nil && !passing(err)) {
			return v, err
		}
		if !pause(ctx, backoff(min(try, 4))) {
			return v, context.Cause(ctx)
		}
	}
}

// wake signals a channel of one place.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
