package lock_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/core/lock"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// do does what a line says at a second after noon: "0 acquire a shared 60".
func do(t *testing.T, l lock.Lock, line string) (lock.Lock, error) {
	t.Helper()
	var at, ttl int
	var what, owner, mode string
	if _, err := fmt.Sscan(line, &at, &what, &owner, &mode, &ttl); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	now := noon.Add(time.Duration(at) * time.Second)
	switch what {
	case "acquire":
		return l.Acquire(owner, mode, time.Duration(ttl)*time.Second, now)
	case "renew":
		return l.Renew(owner, time.Duration(ttl)*time.Second, now)
	}
	return l.Release(owner, now)
}

// show writes a lock as at a second after noon, and the tenure by its second, and what was added to be the next.
func show(l lock.Lock, at int) string {
	if !l.Held(noon.Add(time.Duration(at) * time.Second)) {
		return "free"
	}
	var who []string
	for _, o := range slices.Sorted(maps.Keys(l.Owners)) {
		who = append(who, fmt.Sprint(o, l.Owners[o]))
	}
	token := l.Token - noon.UnixMicro()
	return fmt.Sprintf("%s %s until %v, token %d.%d", l.Mode, strings.Join(who, " "), l.ExpiresAt.Sub(noon).Seconds(), token/1e6, token%1e6)
}

// The table of core.md 6, with what it recommends.
func TestTableOfStates(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		want  string // what the last line leaves, or its refusal
	}{
		{"free, exclusive", []string{"0 acquire a exclusive 30"}, "exclusive a1 until 30, token 0.0"},
		{"free, shared", []string{"0 acquire a shared 30"}, "shared a1 until 30, token 0.0"},
		{"free, another word", []string{"0 acquire a write 30"}, "exclusive a1 until 30, token 0.0"},
		{"free, no time", []string{"0 acquire a exclusive 0"}, "exclusive a1 until 30, token 0.0"},
		{"free, negative time", []string{"0 acquire a exclusive -9"}, "exclusive a1 until 30, token 0.0"},
		{"free, more than a day", []string{"0 acquire a exclusive 86401"}, "exclusive a1 until 86400, token 0.0"},
		{"exclusive by self, exclusive", []string{"0 acquire a exclusive 30", "5 acquire a exclusive 10"}, "exclusive a2 until 15, token 0.0"},
		{"exclusive by self, shared", []string{"0 acquire a exclusive 30", "5 acquire a shared 10"}, "exclusive a2 until 15, token 0.0"},
		{"exclusive by another, exclusive", []string{"0 acquire a exclusive 30", "5 acquire b exclusive 10"}, "lock unavailable"},
		{"exclusive by another, shared", []string{"0 acquire a exclusive 30", "5 acquire b shared 10"}, "lock unavailable"},
		{"exclusive by another until now", []string{"0 acquire a exclusive 30", "30 acquire b shared 10"}, "shared b1 until 40, token 30.0"},
		{"shared, by another", []string{"0 acquire a shared 30", "5 acquire b shared 10"}, "shared a1 b1 until 30, token 0.0"},
		{"shared, by another for longer", []string{"0 acquire a shared 30", "5 acquire b shared 60"}, "shared a1 b1 until 65, token 0.0"},
		{"shared, by self", []string{"0 acquire a shared 30", "5 acquire a shared 10"}, "shared a2 until 30, token 0.0"},
		{"shared by self alone, exclusive", []string{"0 acquire a shared 30", "5 acquire a exclusive 10"}, "exclusive a2 until 15, token 5.0"},
		{"shared with others, exclusive", []string{"0 acquire a shared 30", "0 acquire b shared 30", "5 acquire a exclusive 10"}, "lock unavailable"},
		{"shared with others until now, exclusive", []string{"0 acquire a shared 30", "0 acquire b shared 30", "30 acquire a exclusive 10"}, "exclusive a1 until 40, token 30.0"},
		{"released once of two", []string{"0 acquire a exclusive 30", "0 acquire a exclusive 30", "9 release a - 0"}, "exclusive a1 until 30, token 0.0"},
		{"released by one of two", []string{"0 acquire a shared 30", "0 acquire b shared 30", "9 release a - 0"}, "shared b1 until 30, token 0.0"},
		{"released by the last", []string{"0 acquire a exclusive 30", "9 release a - 0"}, "free"},
		{"released by another", []string{"0 acquire a exclusive 30", "9 release b - 0"}, "lock not held"},
		{"released when free", []string{"9 release b - 0"}, "free"},
		{"released when over", []string{"0 acquire a exclusive 30", "30 release b - 0"}, "free"},
		{"renewed for longer", []string{"0 acquire a exclusive 30", "9 renew a - 60"}, "exclusive a1 until 69, token 0.0"},
		{"renewed for a shorter time", []string{"0 acquire a exclusive 30", "9 renew a - 5"}, "exclusive a1 until 14, token 0.0"},
		{"renewed for a shorter time, with others", []string{"0 acquire a shared 30", "0 acquire b shared 30", "9 renew a - 5"}, "shared a1 b1 until 30, token 0.0"},
		{"renewed by another", []string{"0 acquire a exclusive 30", "9 renew b - 5"}, "lock not held"},
		{"renewed when free", []string{"9 renew b - 5"}, "lock not held"},
		{"renewed when over", []string{"0 acquire a exclusive 30", "30 renew a - 5"}, "lock not held"},
		{"taken again at once", []string{"0 acquire a exclusive 30", "0 release a - 0", "0 acquire a exclusive 30"}, "exclusive a1 until 30, token 0.1"},
		{"taken by a clock that is behind", []string{"50 acquire a exclusive 30", "50 release a - 0", "10 acquire a exclusive 30"}, "exclusive a1 until 40, token 50.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l lock.Lock
			for i, line := range c.lines {
				before := show(l, 0)
				after, err := do(t, l, line)
				switch got := show(after, 29); {
				case i < len(c.lines)-1 && err != nil:
					t.Fatalf("%s: %v", line, err)
				case i == len(c.lines)-1 && err != nil && c.want == err.Error(), i < len(c.lines)-1, got == c.want:
				case i == len(c.lines)-1:
					if got = show(after, after.ExpiresAt.Second()-1); err != nil || got != c.want {
						t.Errorf("%s, %v; want %s", got, err, c.want)
					}
				}
				if got := show(l, 0); got != before {
					t.Errorf("what was given has changed: %s was %s", got, before)
				}
				l = after
			}
		})
	}
}
