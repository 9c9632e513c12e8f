// Package rate counts requests in sliding windows, for the rules of a policy that have a velocity. A window is counted in slices, each an item
// that is only ever added to, so that any number of processes count together.
package rate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/policy"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// slices is how many parts a window is counted in: it slides by a part at a time.
const slices = 10

// Counter keeps the counts in the table: VEL#<hash of the bucket> | <slice>.
type Counter struct{ Table store.Table }

// Asked answers, by key, how many requests the windows of buckets hold: Seen or Count.
type Asked func(ctx context.Context, buckets []policy.Bucket, now time.Time) (map[string]int64, error)

// Seen looks only.
func (c *Counter) Seen(ctx context.Context, buckets []policy.Bucket, now time.Time) (map[string]int64, error) {
	return c.each(buckets, func(b policy.Bucket) (int64, error) { return c.count(ctx, b, now) })
}

// Count counts a request, and answers how many there are beside it.
func (c *Counter) Count(ctx context.Context, buckets []policy.Bucket, now time.Time) (map[string]int64, error) {
	return c.each(buckets, func(b policy.Bucket) (int64, error) {
		if err := c.add(ctx, b, now); err != nil {
			return 0, err
		}
		n, err := c.count(ctx, b, now)
		return max(n-1, 0), err
	})
}

// Beside looks at the windows of a request that was counted before, at some time, and answers how many there are beside it.
func (c *Counter) Beside(counted time.Time) Asked {
	return func(ctx context.Context, buckets []policy.Bucket, now time.Time) (map[string]int64, error) {
		return c.each(buckets, func(b policy.Bucket) (int64, error) {
			n, err := c.count(ctx, b, now)
			if first(b, now) <= slice(b, counted) {
				n--
			}
			return max(n, 0), err
		})
	}
}

func (*Counter) each(buckets []policy.Bucket, of func(policy.Bucket) (int64, error)) (map[string]int64, error) {
	if len(buckets) == 0 {
		return nil, nil
	}
	counts := make(map[string]int64, len(buckets))
	for _, b := range buckets {
		n, err := of(b)
		if err != nil {
			return nil, fmt.Errorf("velocity of rule %s: %w", b.RuleID, err)
		}
		counts[b.Key] = n
	}
	return counts, nil
}

// add counts are kept for as long as a window can ask for them.
func (c *Counter) add(ctx context.Context, b policy.Bucket, now time.Time) error {
	key := store.Key{PK: partition(b), SK: sliceKey(slice(b, now))}
	return store.Transact(ctx, c.Table, store.Update(key).AddInt("n", 1).ExpireAt(now.Add(2*b.Window+time.Minute).Unix()))
}

// count answers how many the window that ends now has seen. A window slides by a tenth of its length, and counts a tenth more at most.
func (c *Counter) count(ctx context.Context, b policy.Bucket, now time.Time) (int64, error) {
	var total int64
	q := store.Query{PK: partition(b), From: sliceKey(first(b, now)), To: sliceKey(slice(b, now))}
	for it, err := range store.Items(ctx, c.Table, q) {
		if err != nil {
			return 0, err
		}
		total += it.Attrs.Int("n")
	}
	return total, nil
}

// slice is the number of the slice that a time falls into, first that of the oldest slice that a window which ends now counts.
func slice(b policy.Bucket, at time.Time) int64 {
	return at.UnixMicro() / max(b.Window.Microseconds()/slices, 1)
}

func first(b policy.Bucket, now time.Time) int64 { return slice(b, now) - slices }

func partition(b policy.Bucket) string {
	sum := sha256.Sum256([]byte(b.Key + "\x00" + b.Window.String()))
	return "VEL#" + hex.EncodeToString(sum[:16])
}

func sliceKey(n int64) string { return fmt.Sprintf("%020d", n) }
