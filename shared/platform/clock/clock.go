// Package clock is the port to the time of day.
package clock

import (
	"context"
	"sync/atomic"
	"time"
)

// Clock answers the time. Everything that decides by time is given one.
type Clock interface {
	Now() time.Time
}

// System is the machine's clock (the bubble's, inside testing/synctest).
type System struct{}

// Now answers time.Now.
func (System) Now() time.Time { return time.Now() }

// Unique hands out microseconds since the epoch that never repeat and never run backwards within a process, so that what is sorted by
// them has a total order.
type Unique struct{ last atomic.Int64 }

// Micros answers now in microseconds, or the next free one after it.
func (u *Unique) Micros(now time.Time) int64 {
	want := now.UnixMicro()
	for {
		last := u.last.Load()
		if want <= last {
			want = last + 1
		}
		if u.last.CompareAndSwap(last, want) {
			return want
		}
	}
}

// Pause waits, at most until ctx ends; its error is then that of ctx.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
