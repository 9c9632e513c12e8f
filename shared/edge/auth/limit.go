package auth

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rate is a token bucket: PerSecond requests a second, and Burst at once after a pause.
type Rate struct{ PerSecond, Burst int }

// bucketsHeld bounds each of the two generations of buckets.
const bucketsHeld = 8192

// limiter keeps one bucket per key, for this process. Buckets live in two generations: when the younger is full, the older one is
// forgotten. Who is forgotten was quiet for thousands of other keys and starts with a full bucket.
type limiter struct {
	rate Rate

	mu           sync.Mutex
	young, older map[string]*rate.Limiter
}

func newLimiter(r Rate) *limiter {
	return &limiter{rate: r, young: map[string]*rate.Limiter{}}
}

func (l *limiter) allow(key string, now time.Time) bool { return l.bucket(key).AllowN(now, 1) }

func (l *limiter) bucket(key string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.young[key]
	if ok {
		return b
	}
	if b, ok = l.older[key]; !ok {
		b = rate.NewLimiter(rate.Limit(l.rate.PerSecond), l.rate.Burst)
	}
	if len(l.young) >= bucketsHeld {
		l.young, l.older = make(map[string]*rate.Limiter, bucketsHeld), l.young
	}
	l.young[key] = b
	return b
}
