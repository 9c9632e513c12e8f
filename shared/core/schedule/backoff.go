package schedule

import "time"

// MaxBackoff is the longest wait before a pending job is tried again.
const MaxBackoff = time.Minute

// Backoff is the wait before the next try: base after the first attempt, doubling with every further one, at most limit. jitter, a random
// number in [0,1), shortens it by up to half, so that what failed together is not tried again together.
func Backoff(base time.Duration, attempt int, limit time.Duration, jitter float64) time.Duration {
	d := max(min(base, limit), 0)
	for ; attempt > 1 && 0 < d && d < limit; attempt-- {
		if d > limit/2 {
			d = limit
		} else {
			d *= 2
		}
	}
	return d - time.Duration(float64(d)/2*jitter)
}
