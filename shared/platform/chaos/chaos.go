// Package chaos makes the ports fail, as the services behind them do now and then: a call is not made, or late, or twice, or it is made and
// its answer is lost. What happens to a call is drawn from the seed, the name of the point and the number of the call there, and from
// nothing else: a seed gives the n-th call at a point the same fault, whatever happens at other points meanwhile.
//
// No fault breaks what a port promises. All of a port's methods may fail with its ErrUnavailable, which says nothing about whether the call
// was made: that, and never a refused condition, is what the caller of a call gets whose answer is lost. Only what may come twice does:
// messages and frames that are sent, and messages of standard queues that are received. A FIFO queue gets the second copy of a message under the
// same deduplication id, and takes it for what it is. No write of a table is made twice, since a second one may mean something else. Waiting
// ends with the caller's context, and a call whose context has ended already is left alone.
package chaos

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/clock"
)

// ErrInjected is in every error that a Chaos makes, beside the ErrUnavailable of the port. Where the answer is lost, os.ErrDeadlineExceeded is
// in it too.
var ErrInjected = errors.New("chaos: injected")

// Chaos injects faults into the ports that it wraps. It may be used by several goroutines at once.
type Chaos struct {
	profile Profile
	off     atomic.Bool

	mu     sync.Mutex
	points map[string]*Count
}

// New makes a Chaos, which is on.
func New(p Profile) *Chaos { return &Chaos{profile: p, points: map[string]*Count{}} }

// Profile answers what it was made with.
func (c *Chaos) Profile() Profile { return c.profile }

// On lets faults happen.
func (c *Chaos) On() { c.off.Store(false) }

// Off lets every call pass. Calls that pass are not counted, so that the faults go on where they were when it is turned on again.
func (c *Chaos) Off() { c.off.Store(true) }

// Count says what happened at one point.
type Count struct {
	// Point is the port and the method, "table.write"; with the queue where there is one, "queue.send/inbox".
	Point string
	// Calls counts all calls, with and without faults.
	Calls int
	// Errors counts calls that were not made; Delays those that waited; Duplicates those that were made twice, or whose messages came again;
	// Cruel those that were made and whose answer was lost.
	Errors, Delays, Duplicates, Cruel int
}

// Faults is how many faults happened.
func (n Count) Faults() int { return n.Errors + n.Delays + n.Duplicates + n.Cruel }

// String is one line, such as "table.write: 120 calls, 2 errors, 9 delays".
func (n Count) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d calls", n.Point, n.Calls)
	for _, kind := range []struct {
		name string
		n    int
	}{{"errors", n.Errors}, {"delays", n.Delays}, {"duplicates", n.Duplicates}, {"cruel", n.Cruel}} {
		if kind.n > 0 {
			fmt.Fprintf(&b, ", %d %s", kind.n, kind.name)
		}
	}
	return b.String()
}

// Counts answers what happened so far at every point that was called, by name.
func (c *Chaos) Counts() []Count {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Count, 0, len(c.points))
	for _, name := range slices.Sorted(maps.Keys(c.points)) {
		out = append(out, *c.points[name])
	}
	return out
}

// point is where a fault may happen.
type point struct {
	name string
	// unavailable is the port's error.
	unavailable error
	// changes says that the call changes something, so that it matters whether it was made; repeats that it may be made twice.
	changes, repeats bool
}

// fate is what becomes of a call.
type fate struct {
	refused, twice, lost bool
	delay                time.Duration
}

// draw answers the fate of the n-th call at a point.
func (p Profile) draw(at point, n int) fate {
	dice := rand.New(rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "%d %d %s", p.Seed, n, at.name))))
	happens := func(rate float64) bool { return dice.Float64() < rate }
	f := fate{refused: happens(p.Errors)}
	f.twice = happens(p.Duplicates) && at.repeats
	f.lost = happens(p.Cruel) && at.changes
	if happens(p.Delays) && p.MaxDelay > 0 {
		f.delay = 1 + time.Duration(dice.Int64N(int64(p.MaxDelay)))
	}
	return f
}

// passes says that a call is left alone. The port has its own word on a context that has ended.
func (c *Chaos) passes(ctx context.Context) bool { return c.off.Load() || ctx.Err() != nil }

// enter counts a call, and answers its fate when it is to be made: what comes before it has happened.
func (c *Chaos) enter(ctx context.Context, at point) (fate, error) {
	if c.passes(ctx) {
		return fate{}, nil
	}
	var n int
	c.count(at, func(all *Count) {
		all.Calls++
		n = all.Calls
	})
	f := c.profile.draw(at, n)
	if f.delay > 0 {
		c.count(at, func(all *Count) { all.Delays++ })
		if err := clock.Pause(ctx, f.delay); err != nil {
			return fate{}, err
		}
	}
	if f.refused {
		c.count(at, func(all *Count) { all.Errors++ })
		return fate{}, fmt.Errorf("%w: %w: %s is not made", at.unavailable, ErrInjected, at.name)
	}
	return f, nil
}

// leave answers what the caller gets to see of a call that was made, which ended with err.
func (c *Chaos) leave(ctx context.Context, at point, f fate, err error) error {
	if !f.lost || ctx.Err() != nil {
		return err
	}
	c.count(at, func(all *Count) { all.Cruel++ })
	return fmt.Errorf("%w: %w: the answer of %s is lost: %w", at.unavailable, ErrInjected, at.name, os.ErrDeadlineExceeded)
}

// through makes a call. What it answers beside an error counts only where there is none.
func (c *Chaos) through(ctx context.Context, at point, do func() error) error {
	f, err := c.enter(ctx, at)
	if err != nil {
		return err
	}
	err = do()
	if f.twice && err == nil {
		c.count(at, func(all *Count) { all.Duplicates++ })
		_ = do() // nobody hears how the second one went
	}
	return c.leave(ctx, at, f, err)
}

func (c *Chaos) count(at point, change func(*Count)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.points[at.name]
	if all == nil {
		all = &Count{Point: at.name}
		c.points[at.name] = all
	}
	change(all)
}
