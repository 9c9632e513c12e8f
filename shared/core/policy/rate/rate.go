// Package rate counts requests in sliding windows, for the rules of a policy that have a velocity. A window is counted in slices, each an item
// that is only ever added to, so that any number of processes count together.
package rate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// slices is how many parts a window is counted in: it slides by a part at a time.
const slices = 10

// Counter keeps the counts in the table: VEL#<hash of the bucket> | <slice>.
type Counter struct{ Table store.Table }

// Window is a bucket and the length of its window.
type Window struct {
	// Key names the bucket.
	Key string
	// Length is at least a second.
	Length time.Duration
}

func (w Window) width() int64 { return max(w.Length.Microseconds()/slices, 1) }

func (w Window) partition() string {
	sum := sha256.Sum256([]byte(w.Key + "\x00" + w.Length.String()))
	return "VEL#" + hex.EncodeToString(sum[:16])
}

func sliceKey(n int64) string { return fmt.Sprintf("%020d", n) }

// Add counts one more in a window. Counts are kept for as long as a window can ask for them.
func (c *Counter) Add(ctx context.Context, w Window, now time.Time) error {
	key := store.Key{PK: w.partition(), SK: sliceKey(now.UnixMicro() / w.width())}
	return c.Table.Write(ctx, store.Update(key).AddInt("n", 1).ExpireAt(now.Add(2*w.Length+time.Minute).Unix()))
}

// Count answers how many the window that ends now has seen. A window slides by a tenth of its length, and counts a tenth more at most.
func (c *Counter) Count(ctx context.Context, w Window, now time.Time) (int64, error) {
	last := now.UnixMicro() / w.width()
	var total int64
	q := store.Query{PK: w.partition(), From: sliceKey(last - slices), To: sliceKey(last)}
	for {
		page, err := c.Table.Query(ctx, q)
		if err != nil {
			return 0, fmt.Errorf("count of a velocity: %w", err)
		}
		for _, it := range page.Items {
			total += it.Attrs.Int("n")
		}
		if page.Next == "" {
			return total, nil
		}
		q.Start = page.Next
	}
}
