package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Feed is what a stream shows: everything of a tenant, everything of all tenants (Everybody), or what is about one job. Each feed has positions of
// its own, which are the ids of its events, and a log, which is written while somebody listens to the feed, and for Linger after.
type Feed struct {
	Tenant string
	Job    string // "" is everything
}

// The items of feeds:
//
//	FEED#<tenant>#<job> | H             the last position that was given out, and the batches that are on their way
//	FEED#<tenant>#<job> | E#<position>  what was logged at that position and those that follow
func (f Feed) partition() string {
	return "FEED#" + listing.Segment(f.Tenant) + "#" + listing.Segment(f.Job)
}
func (f Feed) headKey() store.Key { return store.Key{PK: f.partition(), SK: "H"} }
func (f Feed) entryKey(position int64) store.Key {
	return store.Key{PK: f.partition(), SK: entryPrefix + listing.Sortable(position)}
}

const entryPrefix = "E#"

// Times of logs.
const (
	// LogKeep is how long an event can be read again.
	LogKeep = time.Hour
	// headKeep is how long the positions of a feed go on where they were although nothing happens. A feed begins at the microsecond of its beginning,
	// so that one that begins again gives out no position twice.
	headKeep = 7 * 24 * time.Hour
	// underWay is how long a batch of events may be on its way: what began longer ago has died with its process.
	underWay = 15 * time.Second
	// takeTries is how often positions are asked for while others do so.
	takeTries = 20
	takePause = 5 * time.Millisecond
)

// head is the state of a feed.
type head struct {
	// last is the last position that was given out.
	last int64
	// since is the first position from which on everything was logged: somebody has listened all the time.
	since int64
	// begin is the position of the entry that begins the log of a job, 0 for none.
	begin int64
	// working are the batches that are on their way, by their tokens.
	working map[string]work
}

// work is a batch on its way: when it began, in microseconds, and a position after which its own are.
type work struct{ at, after int64 }

func (w work) dead(now time.Time) bool { return now.Sub(time.UnixMicro(w.at)) > underWay }

const workPrefix = "w:"

func (w work) String() string { return fmt.Sprintf("%d:%d", w.at, w.after) }

func parseHead(it store.Item) head {
	h := head{last: it.Attrs.Int("n"), since: it.Attrs.Int("s"), begin: it.Attrs.Int("b"), working: map[string]work{}}
	for name := range it.Attrs {
		if token, ok := strings.CutPrefix(name, workPrefix); ok {
			var w work
			at, after, _ := strings.Cut(it.Attrs.String(name), ":")
			w.at, _ = strconv.ParseInt(at, 10, 64) // work.String has written both
			w.after, _ = strconv.ParseInt(after, 10, 64)
			h.working[token] = w
		}
	}
	return h
}

// busy says whether a batch that may yet be logged is on its way.
func (h head) busy(now time.Time) bool {
	for _, w := range h.working {
		if !w.dead(now) {
			return true
		}
	}
	return false
}

// floor is the first position that a batch on its way may have: everything before was brought to those who listened.
func (h head) floor(now time.Time) int64 {
	floor := h.last + 1
	for _, w := range h.working {
		if !w.dead(now) {
			floor = min(floor, w.after+1)
		}
	}
	return floor
}

// Log keeps what feeds have shown.
type Log struct{ Table store.Table }

// head reads the state of a feed; ok is false for one that has none.
func (l Log) head(ctx context.Context, f Feed) (h head, ok bool, err error) {
	it, err := l.Table.Get(ctx, f.headKey())
	if errors.Is(err, store.ErrNotFound) {
		return head{}, false, nil
	}
	if err != nil {
		return head{}, false, err
	}
	return parseHead(it), true, nil
}

// begin makes a feed begin anew: what was before is not whole, since nobody has listened meanwhile. It answers the last position before, which no event
// has: who saw the last event has missed something.
func (l Log) begin(ctx context.Context, f Feed, now time.Time) (last int64, err error) {
	h, ok, err := l.head(ctx, f)
	if err != nil {
		return 0, err
	}
	if !ok {
		last = now.UnixMicro()
		return last, l.Table.Write(ctx, store.Put(store.Item{
			Key: f.headKey(), Attrs: store.Attrs{"n": last, "s": last + 1}, Expires: now.Add(headKeep).Unix(),
		}).If(store.NotExists()))
	}
	last = h.last + 1
	return last, l.Table.Write(ctx, store.Update(f.headKey()).If(store.Equal("n", h.last)).SetAttrs(store.Attrs{"n": last, "s": last + 1}).
		RemoveAttr("b").ExpireAt(now.Add(headKeep).Unix()))
}

// batch are positions that were given out.
type batch struct {
	first, last int64
	// floor is where somebody begins to read who was brought one of them last and misses nothing.
	floor int64
	token string
	dead  []string
}

// take gives out the next n positions, and notes that they are on their way until done.
func (l Log) take(ctx context.Context, f Feed, n int64, token string, now time.Time) (batch, error) {
	var err error
	for try := range takeTries {
		if try > 0 {
			if err := clock.Pause(ctx, takePause); err != nil {
				return batch{}, err
			}
		}
		h, ok, err1 := l.head(ctx, f)
		if err1 != nil {
			return batch{}, err1
		}
		if !ok {
			if _, err = l.begin(ctx, f, now); err != nil && !store.Overtaken(err) {
				return batch{}, err
			}
			continue
		}
		own := work{at: now.UnixMicro(), after: h.last}
		var it store.Item
		it, err = l.Table.Update(ctx, store.Update(f.headKey()).If(store.Exists()).AddInt("n", n).SetAttr(workPrefix+token, own.String()).
			ExpireAt(now.Add(headKeep).Unix()))
		if err == nil {
			h = parseHead(it)
			b := batch{first: h.last - n + 1, last: h.last, floor: h.floor(now), token: token}
			for t, w := range h.working {
				if w.dead(now) {
					b.dead = append(b.dead, t)
				}
			}
			return b, nil
		}
		if !store.Overtaken(err) {
			return batch{}, err
		}
	}
	return batch{}, err
}

// done says that a batch was brought to those who listen. A batch of which this is not known is taken for dead after a while.
func (l Log) done(ctx context.Context, f Feed, b batch) error {
	names := []string{workPrefix + b.token}
	for _, t := range b.dead {
		names = append(names, workPrefix+t)
	}
	slices.Sort(names)
	return store.Transact(ctx, l.Table, store.Update(f.headKey()).If(store.Exists()).RemoveAttr(names...))
}

// begins notes that the log of a job begins with a batch, unless it was begun meanwhile; and that the batch is done.
func (l Log) begins(ctx context.Context, f Feed, b batch, before int64) error {
	op := store.Update(f.headKey()).If(store.Exists())
	if before == 0 {
		op = op.If(store.HasNot("b"))
	} else {
		op = op.If(store.Equal("b", before))
	}
	err := ifThere(store.Transact(ctx, l.Table, op.SetAttr("b", b.first)))
	return errors.Join(err, l.done(ctx, f, b))
}

// logged is one event as a feed has shown it.
type logged struct {
	Version string            `json:"v,omitempty"`
	First   int64             `json:"i"` // the id of its first frame
	Frames  []json.RawMessage `json:"f"`
}

func (e logged) size() int {
	n := 64 + len(e.Version)
	for _, f := range e.Frames {
		n += len(f) + 1
	}
	return n
}

// entry is what stands at a position of a log, and at those that follow up to its last.
type entry struct {
	first, last int64
	floor       int64
	// version is of the job that the entry tells from its beginning; "" for what was shown as it happened.
	version string
	begins  bool
	expires int64
	events  []logged
}

// maxEntry bounds what one item carries.
const maxEntry = 256 * 1024

// append logs events at the positions of a batch, in as many items as it takes.
func (l Log) append(ctx context.Context, f Feed, b batch, events []logged, now time.Time) error {
	at := b.first
	for len(events) > 0 {
		n, size, frames := 0, 0, 0
		for n < len(events) && (n == 0 || size+events[n].size() <= maxEntry) {
			size += events[n].size()
			frames += len(events[n].Frames)
			n++
		}
		last := at + int64(frames) - 1
		if n == len(events) {
			last = b.last
		}
		if err := l.put(ctx, f, entry{first: at, last: last, floor: b.floor, events: events[:n]}, now); err != nil {
			return err
		}
		at, events = last+1, events[n:]
	}
	return nil
}

func (l Log) put(ctx context.Context, f Feed, e entry, now time.Time) error {
	text, err := json.Marshal(e.events)
	if err != nil {
		return fmt.Errorf("event: %w", err)
	}
	attrs := store.Attrs{"l": e.last, "f": e.floor, "e": text}
	if e.begins {
		attrs["bv"] = e.version
	}
	return store.Transact(ctx, l.Table, store.Put(store.Item{Key: f.entryKey(e.first), Attrs: attrs, Expires: now.Add(LogKeep).Unix()}))
}

func parseEntry(it store.Item) (entry, error) {
	first, err := strconv.ParseInt(strings.TrimPrefix(it.SK, entryPrefix), 10, 64)
	if err != nil {
		return entry{}, fmt.Errorf("event: entry %s: %w", it.Key, err)
	}
	e := entry{first: first, last: it.Attrs.Int("l"), floor: it.Attrs.Int("f"), expires: it.Expires}
	if v, ok := it.Attrs["bv"].(string); ok {
		e.begins, e.version = true, v
	}
	if err := json.Unmarshal(it.Attrs.Bytes("e"), &e.events); err != nil {
		return entry{}, fmt.Errorf("event: entry %s: %w", it.Key, err)
	}
	return e, nil
}

// covering answers the entry that has a position; ok is false where none has, any more.
func (l Log) covering(ctx context.Context, f Feed, position int64, now time.Time) (e entry, ok bool, err error) {
	for it, err := range store.Items(ctx, l.Table, store.Query{PK: f.partition(), From: entryPrefix, To: f.entryKey(position).SK, Desc: true, Limit: 1}) {
		if err != nil || !it.Live(now.Unix()) {
			return entry{}, false, err
		}
		e, err = parseEntry(it)
		return e, err == nil && e.last >= position, err
	}
	return entry{}, false, nil
}

// pageOf is how many entries of a log are read at once.
const pageOf = 50

// from reads entries that stand at a position or after it, in their order, pageOf at most.
func (l Log) from(ctx context.Context, f Feed, position int64, now time.Time) ([]entry, error) {
	var out []entry
	q := store.Query{PK: f.partition(), From: f.entryKey(position).SK, To: entryPrefix + "\U0010FFFF", Limit: pageOf}
	for it, err := range store.Items(ctx, l.Table, q) {
		if err != nil {
			return nil, err
		}
		if !it.Live(now.Unix()) {
			continue
		}
		e, err := parseEntry(it)
		if err != nil {
			return nil, err
		}
		if out = append(out, e); len(out) == pageOf {
			break
		}
	}
	return out, nil
}
