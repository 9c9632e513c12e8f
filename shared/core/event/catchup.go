package event

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/push"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Behind is a message of the events queue: a connection that must be brought what the log has. It says only which: how far it is stands with the
// connection.
type Behind struct {
	Connection string `json:"behind"`
}

// ParseBehind reads a message of the events queue; ok is false for one that is something else.
func ParseBehind(body string) (m Behind, ok bool) {
	err := json.Unmarshal([]byte(body), &m)
	return m, err == nil && m.Connection != ""
}

// CatchUp asks for a connection to be caught up.
func (b *Bus) CatchUp(ctx context.Context, connection string) error {
	text, err := json.Marshal(Behind{connection})
	if err != nil {
		return fmt.Errorf("event: %w", err)
	}
	again := strconv.FormatInt(b.unique.Micros(b.Clock.Now()), 10)
	return b.Queues.Send(ctx, resources.Events, queue.Message{
		Body: string(text), Group: groupID("behind", connection), Dedup: groupID("behind", connection, again),
	})
}

// Bounds of catching up.
const (
	// CatchUpAlone is how long one message catches a connection up, CatchUpBeside how long where events of others wait for it, and catchUpFrames how many
	// frames it posts; another message goes on after that.
	CatchUpAlone  = 4 * time.Second
	CatchUpBeside = 300 * time.Millisecond
	catchUpFrames = 2000
	// catchUpPost is how long one post to a connection may take for which nobody waits.
	catchUpPost = 2 * time.Second
	// catchUpMost is how many positions a client may be behind; one that is further has a gap.
	catchUpMost = 10_000
	// catchUpTries is how often a connection that cannot be reached is tried, catchUpPause the wait between.
	catchUpTries = 5
	catchUpPause = 500 * time.Millisecond
	// logPause is the wait for what is on its way into the log.
	logPause = 50 * time.Millisecond
	// openWait is how long one message waits for a connection that opens, since others wait for it meanwhile; another message goes on after that.
	// openPause is the first wait before it is looked at again; each is twice as long as the one before.
	openWait  = CatchUpBeside
	openPause = 20 * time.Millisecond
	// storyRoom is how many positions the story of a job has.
	storyRoom = 8
)

// CatchUp brings a connection what its feed has logged since it was brought the last event, and then lets it have events as they happen: none is left
// out between, and those of one job stay in their order. What other processes were just about to bring when the client was brought its last event
// comes again, under the same id. When the time that it may take is over another message goes on.
func (b *Broadcaster) CatchUp(ctx context.Context, connection string, within time.Duration) error {
	c, ok, err := b.Connections.find(ctx, connection)
	if err != nil || !ok || c.From == 0 {
		return err
	}
	f := &follower{Broadcaster: b, c: c, end: b.Clock.Now().Add(within)}
	err = f.follow(ctx)
	switch {
	case err == nil || store.Overtaken(err): // of two that catch it up, the other goes on
		return nil
	case errors.Is(err, push.ErrGone):
		b.forget(ctx, f.c)
		return nil
	case errors.Is(err, errPause):
		return f.again(ctx, 0, 0)
	case errors.Is(err, errUnreached):
		return f.failed(ctx, err)
	}
	return err
}

var (
	// errPause says that there is more to bring.
	errPause = errors.New("event: the client is not caught up yet")
	// errUnreached says that the client cannot be reached now.
	errUnreached = errors.New("event: the client cannot be reached")
)

// follower is a connection that is being caught up.
type follower struct {
	*Broadcaster

	c   Connection
	end time.Time
	// at is the position up to which it was brought everything, 0 before it is known where to begin.
	at int64
	// skip is the id of a frame that the client has, with all before it in the entry that begins at skipIn.
	skip, skipIn int64
	// story is the position of the entry that tells the job from its beginning, where the client is told that.
	story int64
	// dead says that what is not logged up to there never will be.
	dead int64
	// toldLive says that the client was told that it is caught up.
	toldLive bool
	// sent counts frames.
	sent int
}

func (f *follower) log() Log { return f.Connections.log() }

// from is what stands with the connection about how far it is. A story that was not told to its end is told anew: what the log has of it only its
// beginning leads to.
func (f *follower) from() int64 {
	switch {
	case f.at == 0:
		return f.c.From
	case f.at < f.story:
		return FromBeginning
	}
	return f.at
}

// again has another message go on, after a pause; tries is how often the client was not reached. A connection that was closed meanwhile, or that another
// message has caught up, needs none.
func (f *follower) again(ctx context.Context, tries int64, pause time.Duration) error {
	err := f.Connections.advance(ctx, f.c, f.from(), tries)
	if _, elsewhere := errors.AsType[*store.ConditionError](err); elsewhere {
		return nil
	}
	if err != nil {
		return err
	}
	if err := clock.Pause(ctx, pause); err != nil {
		return err
	}
	return f.Bus.CatchUp(ctx, f.c.ID)
}

// failed tries again later, or drops a connection that is tried in vain: the client comes back, and says how far it is.
func (f *follower) failed(ctx context.Context, why error) error {
	if f.c.Tries+1 >= catchUpTries {
		f.Log.InfoContext(ctx, "connection dropped: it cannot be caught up", "connection", f.c.ID, "tenant", f.c.Tenant, "error", why)
		return f.drop(ctx, f.c, push.Slow)
	}
	return f.again(ctx, f.c.Tries+1, catchUpPause)
}

func (f *follower) follow(ctx context.Context) error {
	feed := f.c.Feed()
	if err := f.start(ctx, feed); err != nil {
		return err
	}
	for {
		if f.Clock.Now().After(f.end) || f.sent >= catchUpFrames {
			return errPause
		}
		more, err := f.read(ctx, feed)
		if err != nil {
			return err
		}
		if more {
			continue
		}
		if done, err := f.join(ctx, feed); err != nil || done {
			return err
		}
	}
}

// read brings what the log has next; more says that it may have more yet.
func (f *follower) read(ctx context.Context, feed Feed) (more bool, err error) {
	entries, err := f.log().from(ctx, feed, f.at+1, f.Clock.Now())
	if err != nil {
		return false, err
	}
	for i, e := range entries {
		if e.first > max(f.at, f.dead)+1 { // something before it is missing yet
			f.at = max(f.at, f.dead)
			return false, nil
		}
		if err := f.bring(ctx, e); err != nil {
			return false, err
		}
		f.at, more = max(f.at, e.last), i == len(entries)-1
	}
	if !more {
		f.at = max(f.at, f.dead)
	}
	return more, nil
}

// join lets the connection have events as they happen, when it was brought all that there is. done is false when there is more, or about to be.
func (f *follower) join(ctx context.Context, feed Feed) (done bool, err error) {
	now := f.Clock.Now()
	h, ok, err := f.log().head(ctx, feed)
	if err != nil {
		return false, err
	}
	switch {
	case !ok: // it was forgotten, since nothing has happened for long
		if f.at, err = f.log().begin(ctx, feed, now); store.Overtaken(err) {
			err = nil
		}
		return false, err
	case h.last <= f.at:
		return f.live(ctx, h.last)
	case h.busy(now):
		return false, clock.Pause(ctx, logPause)
	}
	f.dead = h.last // who took the next positions is done, or dead: one look more tells which
	return false, nil
}

// live makes the connection live, unless there are events again already.
func (f *follower) live(ctx context.Context, last int64) (done bool, err error) {
	if !f.toldLive {
		if err := f.tell(ctx, "live", ""); err != nil {
			return false, err
		}
		f.toldLive = true
	}
	err = f.Connections.live(ctx, f.c, last)
	if err == nil || !store.Overtaken(err) {
		return true, err
	}
	now, ok, err := f.Connections.find(ctx, f.c.ID)
	return err != nil || !ok || now.From != f.c.From, err // it has gone, or is further behind by now, and another message catches it up
}

// start finds out where to begin.
func (f *follower) start(ctx context.Context, feed Feed) error {
	h, ok, err := f.log().head(ctx, feed)
	if err != nil {
		return err
	}
	if f.c.From == FromBeginning {
		return f.begin(ctx, feed, h)
	}
	since := f.c.From
	if ok && since >= h.since-1 && since <= h.last && h.last-since <= catchUpMost {
		whole, err := f.after(ctx, feed, h, since)
		if err != nil || whole {
			return err
		}
	}
	if err := f.tell(ctx, "gap", "what happened since then is not kept any more"); err != nil {
		return err
	}
	if feed.Job != "" {
		return f.begin(ctx, feed, h)
	}
	f.at = cmp.Or(f.c.Since, h.last)
	return nil
}

// after begins after an event: where others that were on their way with it begin. whole is false when the log does not have all since then.
func (f *follower) after(ctx context.Context, feed Feed, h head, since int64) (whole bool, err error) {
	now := f.Clock.Now()
	e, there, err := f.log().covering(ctx, feed, since, now)
	if err != nil {
		return false, err
	}
	if there {
		f.at = max(min(e.floor, e.first), h.since) - 1
		if f.at == e.first-1 {
			f.skip, f.skipIn = since, e.first
		}
		return true, nil
	}
	f.at = since
	if since == h.last {
		return true, nil
	}
	next, err := f.log().from(ctx, feed, since+1, now)
	if err != nil {
		return false, err
	}
	if len(next) == 0 {
		return h.busy(now), nil
	}
	return next[0].first == since+1, nil
}

// begin tells a job from its beginning: by what its log begins with, which is written down where it is not yet.
func (f *follower) begin(ctx context.Context, feed Feed, h head) error {
	now := f.Clock.Now()
	if h.begin != 0 {
		e, ok, err := f.log().covering(ctx, feed, h.begin, now)
		if err != nil {
			return err
		}
		if ok && e.begins && e.expires > now.Add(LogKeep/2).Unix() && h.last-h.begin <= catchUpMost {
			f.at, f.story = e.first-1, e.first
			return nil
		}
	}
	// What is logged before these positions happened before the job is read: its story has it.
	b, err := f.log().take(ctx, feed, storyRoom, f.IDs.UUID(), now)
	if err != nil {
		return err
	}
	frames, version, err := f.Story(ctx, feed.Tenant, feed.Job)
	if err != nil {
		return err
	}
	e := entry{first: b.first, last: b.last, floor: b.first, begins: true, version: version}
	if len(frames) > 0 {
		e.events = []logged{{Version: version, First: b.first, Frames: frames[:min(len(frames), storyRoom)]}}
	}
	if err := f.log().put(ctx, feed, e, now); err != nil {
		return err
	}
	if err := f.log().begins(ctx, feed, b, h.begin); err != nil {
		return err
	}
	f.at, f.story = b.first-1, b.first
	return nil
}

// bring posts what the client has not been brought of an entry.
func (f *follower) bring(ctx context.Context, e entry) error {
	if e.begins {
		if e.first != f.story {
			return nil // it was written for others; what it tells was logged before, one by one
		}
		f.c.Told = e.version
	}
	for _, l := range e.events {
		if !e.begins && f.c.knows(l.Version) {
			continue // its story has it
		}
		for i, text := range l.Frames {
			id := l.First + int64(i)
			if e.first == f.skipIn && id <= f.skip {
				continue
			}
			if err := f.say(ctx, stamped(text, id)); err != nil {
				return err
			}
		}
	}
	return nil
}

// tell says where the stream stands: a client that asked is told always, one that did not only that something is missing.
func (f *follower) tell(ctx context.Context, state, reason string) error {
	if !f.c.Asked && state != "gap" {
		return nil
	}
	text := fmt.Sprintf(`{"stream":{"state":%q}}`, state)
	if reason != "" {
		text = fmt.Sprintf(`{"stream":{"state":%q,"reason":%q}}`, state, reason)
	}
	if f.at != 0 {
		return f.say(ctx, stamped([]byte(text), f.at))
	}
	return f.say(ctx, []byte(text))
}

// say posts a frame; a connection that is opening is waited for, unless it was closed meanwhile.
func (f *follower) say(ctx context.Context, frame []byte) error {
	until := f.Clock.Now().Add(openWait)
	for pause := openPause; ; pause *= 2 {
		err := f.frame(ctx, f.c, frame, catchUpPost)
		switch now := f.Clock.Now(); {
		case err == nil:
			f.sent++
			return nil
		case errors.Is(err, push.ErrTooLarge):
			f.Log.WarnContext(ctx, "a client lost a frame", "connection", f.c.ID, "tenant", f.c.Tenant, "error", err)
			return nil
		case errors.Is(err, push.ErrGone) && f.c.Settled(now):
			return err
		case errors.Is(err, push.ErrGone) && !now.Before(until):
			return errPause
		case errors.Is(err, push.ErrGone):
			if err := clock.Pause(ctx, pause); err != nil {
				return err
			}
			if _, there, err := f.Connections.find(ctx, f.c.ID); err != nil || !there {
				return cmp.Or(err, push.ErrGone)
			}
		default:
			return fmt.Errorf("%w: %w", errUnreached, err)
		}
	}
}
