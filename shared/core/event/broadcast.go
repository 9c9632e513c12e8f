package event

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/push"
	"github.com/cordum-serverless/cordum/shared/platform/turn"
)

// Broadcaster brings events to connections. One is shared by everything in a process.
type Broadcaster struct {
	Connections *Connections
	Push        push.Connections
	// Bus has connections caught up that are behind.
	Bus   *Bus
	Clock clock.Clock
	IDs   ids.Source
	Log   *slog.Logger
	// Review says whether a connection may stay: whether its credential still opens it. An error is nobody knows. nil keeps every connection.
	Review func(context.Context, Connection) (bool, error)
	// Story tells what has happened to a job, as frames, and the version of the job that they tell of. Of a job that is not there it tells nothing.
	Story func(ctx context.Context, tenant, job string) (frames []json.RawMessage, version string, err error)
	// Yield is for simulations.
	Yield turn.Yield

	mu   sync.Mutex
	logs map[string]logging // by tenant
}

// logging are the feeds of a tenant that are logged, by their jobs, and when that was read.
type logging struct {
	jobs map[string]bool
	read time.Time
}

// Bounds of a broadcast.
const (
	// postsAtOnce is how many connections are posted to at one time.
	postsAtOnce = 64
	// postWithin is how long one post may take, and bringWithin how long all of a batch may. Who cannot be reached in that time is caught up later, by
	// itself, so that nobody waits for a slow one for longer than that, once.
	postWithin  = time.Second
	bringWithin = 5 * time.Second
	// postTries is how often a frame is posted to a connection that cannot be reached now, and postPause the wait between, doubling.
	postTries = 3
	postPause = 50 * time.Millisecond
)

// outgoing is an event on its way.
type outgoing struct {
	Event

	hash string
	ids  eventIDs
	// feeds says in which feeds it stands.
	feeds [feeds]bool
}

// Deliver logs events, which are of one batch and in order, and posts them to whoever listens. Each connection gets its frames in that order; one that
// cannot be reached is caught up from the log, one that is gone is forgotten, and none waits for another. It fails where the store is out of reach: then
// the events must come again. What comes again has the ids that it had.
func (b *Broadcaster) Deliver(ctx context.Context, events []Event) error {
	now := b.Clock.Now()
	heard := make([]*outgoing, 0, len(events))
	for _, e := range events {
		o := &outgoing{Event: e}
		for kind := range feeds {
			f, ok := e.feed(kind)
			if !ok {
				continue
			}
			logs, err := b.logged(ctx, f.Tenant, now)
			if err != nil {
				return err
			}
			o.feeds[kind] = logs[f.Job]
		}
		if o.feeds != [feeds]bool{} {
			heard = append(heard, o)
		}
	}
	heard, groups, err := b.fresh(ctx, heard)
	if err != nil || len(heard) == 0 {
		return err
	}
	batches, err := b.number(ctx, heard, now)
	if err != nil {
		return err
	}
	if err := b.keep(ctx, heard, groups, batches, now); err != nil {
		return err
	}
	parcels, err := b.parcels(ctx, heard, batches, now)
	if err == nil {
		err = b.post(ctx, parcels)
	}
	if err != nil {
		return err
	}
	for _, t := range batches {
		if err := b.Connections.log().done(ctx, t.feed, t.batch); err != nil {
			b.Log.WarnContext(ctx, "it is not known that events were brought; who comes back gets them again", "tenant", t.feed.Tenant, "error", err)
		}
	}
	return nil
}

// logged answers the feeds of a tenant, or of Everybody, that are logged, by their jobs. What it knows may be PresenceAge old: a connection waits for
// that long before it opens.
func (b *Broadcaster) logged(ctx context.Context, tenant string, now time.Time) (map[string]bool, error) {
	b.mu.Lock()
	known, ok := b.logs[tenant]
	b.mu.Unlock()
	if ok && now.Sub(known.read) < PresenceAge {
		return known.jobs, nil
	}
	a, err := b.Connections.listing(ctx, tenant, now)
	if err != nil {
		return nil, err
	}
	if err := b.Connections.vacate(ctx, tenant, a, now); err != nil {
		return nil, err
	}
	jobs := a.jobs(now)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.logs == nil || len(b.logs) > 10_000 {
		b.logs = map[string]logging{}
	}
	b.logs[tenant] = logging{jobs, now}
	return jobs, nil
}

// fresh leaves out what comes too late: after a later event of its group. What came before has its ids again.
func (b *Broadcaster) fresh(ctx context.Context, heard []*outgoing) ([]*outgoing, map[string]*group, error) {
	var lasting []Event
	for _, o := range heard {
		if !o.Passing {
			lasting = append(lasting, o.Event)
		}
	}
	if len(lasting) == 0 {
		return heard, nil, nil
	}
	groups, err := b.Connections.seen(ctx, lasting)
	if err != nil {
		return nil, nil, err
	}
	out := heard[:0]
	for _, o := range heard {
		if o.Passing {
			out = append(out, o)
			continue
		}
		o.hash = o.Event.hash()
		g := groups[o.group()]
		known, again := g.ids(o.hash)
		if o.ids = known; !again && o.Version != "" {
			if o.Version <= g.version {
				continue
			}
			g.version = o.Version
		}
		out = append(out, o)
	}
	return out, groups, nil
}

// place is a feed in whose log an event stands, and which kind of feed it is.
type place struct {
	Feed

	kind int
}

// places are the feeds in whose logs the event stands.
func (o *outgoing) places() []place {
	var in []place
	for kind, stands := range o.feeds {
		if f, ok := o.feed(kind); ok && stands && !o.Passing {
			in = append(in, place{f, kind})
		}
	}
	return in
}

// number gives events their positions in each feed, and those that have none yet their ids. The batches are in the order of the events.
func (b *Broadcaster) number(ctx context.Context, heard []*outgoing, now time.Time) ([]*taken, error) {
	var all []*taken
	of := map[Feed]*taken{}
	for _, o := range heard {
		for _, in := range o.places() {
			t := of[in.Feed]
			if t == nil {
				t = &taken{feed: in.Feed}
				of[in.Feed] = t
				all = append(all, t)
			}
			t.n += int64(len(o.Frames))
		}
	}
	for _, t := range all {
		var err error
		if t.batch, err = b.Connections.log().take(ctx, t.feed, t.n, b.IDs.UUID(), now); err != nil {
			return nil, err
		}
		t.next = t.first
	}
	for _, o := range heard {
		for _, in := range o.places() {
			t := of[in.Feed]
			o.ids[in.kind] = cmp.Or(o.ids[in.kind], t.next)
			t.next += int64(len(o.Frames))
			t.events = append(t.events, logged{Version: o.Version, First: o.ids[in.kind], Frames: o.Frames})
		}
	}
	return all, nil
}

// taken are the positions of a batch of events in one feed.
type taken struct {
	batch

	feed    Feed
	n, next int64
	events  []logged
}

// keep writes down which ids events have, and then logs them: what was logged never gets others.
func (b *Broadcaster) keep(ctx context.Context, heard []*outgoing, groups map[string]*group, batches []*taken, now time.Time) error {
	var last []Event // of each group
	for _, o := range heard {
		if o.Passing {
			continue
		}
		groups[o.group()].add(o.hash, o.ids)
		if !slices.ContainsFunc(last, func(e Event) bool { return e.group() == o.group() }) {
			last = append(last, o.Event)
		}
	}
	err := b.each(ctx, len(last), func(i int) error {
		return b.Connections.remember(ctx, last[i], groups[last[i].group()], now)
	})
	if err != nil {
		return err
	}
	return b.each(ctx, len(batches), func(i int) error {
		t := batches[i]
		return b.Connections.log().append(ctx, t.feed, t.batch, t.events, now)
	})
}

// each does something n times at once.
func (b *Broadcaster) each(ctx context.Context, n int, do func(int) error) error {
	errs := make([]error, n)
	var doing sync.WaitGroup
	for i := range n {
		doing.Go(func() {
			b.Yield.At(ctx, "event "+strconv.Itoa(i))
			errs[i] = do(i)
		})
	}
	doing.Wait()
	return errors.Join(errs...)
}

// parcel is what a batch of events brings to a connection.
type parcel struct {
	to     Connection
	frames []stampedFrame
	// from is where to begin in the log when it cannot be brought. alone says that nothing else is on its way, so that it can begin after the last frame
	// that was brought.
	from  int64
	alone bool
}

type stampedFrame struct {
	text []byte
	id   int64
	// version is that of the event in its group.
	version string
	// passing frames may be lost.
	passing bool
}

// parcels reads who listens, after all was logged: who is not among them yet finds it in the log.
func (b *Broadcaster) parcels(ctx context.Context, heard []*outgoing, batches []*taken, now time.Time) ([]parcel, error) {
	order, frames := shown(heard)
	from, first := map[Feed]int64{}, map[Feed]int64{}
	for _, t := range batches {
		from[t.feed], first[t.feed] = t.floor-1, t.first
	}
	listeners := map[string][]Connection{}
	var out []parcel
	for _, f := range order {
		if _, read := listeners[f.Tenant]; !read {
			a, err := b.Connections.listing(ctx, f.Tenant, now)
			if err != nil {
				return nil, err
			}
			listeners[f.Tenant] = a.all
		}
		for _, c := range listeners[f.Tenant] {
			if c.Job == f.Job && c.From == 0 {
				news := frames[f]
				if c.Told != "" {
					news = slices.DeleteFunc(slices.Clone(news), func(s stampedFrame) bool { return c.knows(s.version) })
				}
				out = append(out, parcel{c, news, from[f], from[f] == first[f]-1})
			}
		}
	}
	return out, nil
}

// shown are the frames that each feed shows.
func shown(heard []*outgoing) (order []Feed, frames map[Feed][]stampedFrame) {
	frames = map[Feed][]stampedFrame{}
	for _, o := range heard {
		for kind, stands := range o.feeds {
			f, ok := o.feed(kind)
			if !ok || !stands {
				continue
			}
			if frames[f] == nil {
				order = append(order, f)
			}
			for i, text := range o.Frames {
				id := o.ids[kind] + int64(i)
				if !o.Passing {
					text = stamped(text, id)
				}
				frames[f] = append(frames[f], stampedFrame{text, id, o.Version, o.Passing})
			}
		}
	}
	return order, frames
}

// post brings each connection its frames, several connections at once. Who does not get all of them is behind from then on.
func (b *Broadcaster) post(ctx context.Context, parcels []parcel) error {
	end := b.Clock.Now().Add(bringWithin)
	slots := make(chan struct{}, postsAtOnce)
	errs := make([]error, len(parcels))
	var posting sync.WaitGroup
	for i, p := range parcels {
		slots <- struct{}{}
		posting.Go(func() {
			defer func() { <-slots }()
			errs[i] = b.bring(ctx, p, end)
		})
	}
	posting.Wait()
	return errors.Join(errs...)
}

func (b *Broadcaster) bring(ctx context.Context, p parcel, end time.Time) error {
	for _, f := range p.frames {
		err := errLate
		if b.Clock.Now().Before(end) {
			err = b.frame(ctx, p.to, f.text, postWithin)
		}
		switch {
		case err == nil:
			if p.alone && !f.passing && f.id == p.from+1 {
				p.from = f.id
			}
		case f.passing && !errors.Is(err, push.ErrGone):
		case errors.Is(err, push.ErrTooLarge):
			b.Log.WarnContext(ctx, "a client lost a frame", "connection", p.to.ID, "tenant", p.to.Tenant, "error", err)
		case errors.Is(err, push.ErrGone) && p.to.Settled(b.Clock.Now()):
			b.forget(ctx, p.to)
			return nil
		case f.passing:
		default:
			return b.behind(ctx, p, err)
		}
	}
	return nil
}

var errLate = errors.New("event: there was no time for it")

// behind has a connection caught up from the log. When that cannot be noted the whole batch comes again.
func (b *Broadcaster) behind(ctx context.Context, p parcel, why error) error {
	b.Log.InfoContext(ctx, "a client is behind", "connection", p.to.ID, "tenant", p.to.Tenant, "error", why)
	if err := b.Connections.Behind(ctx, p.to, p.from); err != nil {
		return err
	}
	return b.Bus.CatchUp(ctx, p.to.ID)
}

// frame posts one frame, and tries again where the connection cannot be reached now.
func (b *Broadcaster) frame(ctx context.Context, c Connection, frame []byte, within time.Duration) error {
	for try := 0; ; try++ {
		posting, cancel := context.WithTimeout(ctx, within)
		err := b.Push.Post(posting, c.ID, frame)
		cancel()
		if err == nil || errors.Is(err, push.ErrGone) || errors.Is(err, push.ErrTooLarge) || errors.Is(err, context.DeadlineExceeded) ||
			try == postTries-1 {
			return err
		}
		if err := clock.Pause(ctx, postPause<<try); err != nil {
			return err
		}
	}
}

func (b *Broadcaster) forget(ctx context.Context, c Connection) {
	if err := b.Connections.Close(ctx, c.ID, b.Clock.Now()); err != nil {
		b.Log.WarnContext(ctx, "a connection that is gone is not forgotten; the next event tries again", "connection", c.ID, "error", err)
	}
}
