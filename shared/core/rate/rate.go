// Package rate limits how often something may be done, over all the processes that let it be done. A Lambda function runs as many instances as there
// are requests at one time, so a bucket in each of them limits nothing. Here the bucket is one item of the table, and a process takes its tokens in
// blocks: as many as it is about to use in a fraction of a second, so that a busy process writes once for many requests. A quiet one writes nothing at
// all: it has a small share of its own.
//
// What holds: in any time t, over n processes, at most Burst + PerSecond × t + n × (the share, and the largest block) are let through, and those that
// are refused although there was room are at most the tokens in blocks that nobody used. The share is a four-hundredth of the burst, the largest block a
// fortieth, and both are reached by busy processes only. Where the table is out of reach each process lets a tenth of the rate through.
package rate

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Rate is a token bucket: PerSecond a second, and Burst at once after a pause.
type Rate struct{ PerSecond, Burst int }

// Parts of a rate, and times.
const (
	// sharePart of the burst is what a process lets through by itself, refilled by refillPart of the rate.
	sharePart  = 400
	refillPart = 10_000
	// smallPart and largePart of the burst are the smallest and the largest block at first; a process that uses little of its blocks takes smaller ones.
	smallPart = 400
	largePart = 40
	// alonePart of the rate is what a process lets through while the table is out of reach.
	alonePart = 10

	// blockKeep is how long the tokens of a block are good.
	blockKeep = 10 * time.Second
	// soon and late are when a block was used up fast, so that the next is larger, and slowly.
	soon = 250 * time.Millisecond
	late = blockKeep / 2
	// strictFor is how long a process that has found the bucket half empty uses no share of its own.
	strictFor = 10 * time.Second
	// aloneFor is how long the table is left alone after it was out of reach.
	aloneFor = time.Second
	// waitLeast is how long a process that has found nothing refuses without looking again; twice as long each time, up to waitMost.
	waitLeast = 100 * time.Millisecond
	waitMost  = time.Second
	// itemKeep is how long a bucket is kept that is full.
	itemKeep = time.Hour
)

// Limiter keeps one bucket for each key. A kind names what the keys are of, and so keeps limiters apart.
type Limiter struct {
	rate Rate
	kind string

	mu           sync.Mutex
	table        store.Table // nil: this process is alone
	young, older map[string]*bucket
}

// held bounds each of the two generations of buckets. When the younger is full the older is forgotten: who is forgotten was quiet for thousands of
// other keys.
const held = 8192

// New makes a limiter for this process alone.
func New(kind string, r Rate) *Limiter {
	return &Limiter{rate: r, kind: kind, young: map[string]*bucket{}}
}

// Share makes the limiter hold over all processes that share the table.
func (l *Limiter) Share(t store.Table) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.table = t
}

// Allow takes one token of a key; false when there is none.
func (l *Limiter) Allow(ctx context.Context, key string, now time.Time) bool {
	b, table := l.bucket(key, now)
	b.mu.Lock()
	defer b.mu.Unlock()
	if table == nil {
		return b.whole.take(now)
	}
	switch {
	case now.Before(b.refuseUntil):
		return false
	case b.block > 0 && now.Before(b.blockUntil):
		b.block--
		return true
	case !now.Before(b.strictUntil) && b.share.take(now):
		return true
	case now.Before(b.aloneUntil):
		return b.alone.take(now)
	}
	return l.lease(ctx, table, key, b, now)
}

// bucket is what a process knows of a key.
type bucket struct {
	mu sync.Mutex
	// whole is the bucket of a process that is alone, share that of one that is not, alone that of one that cannot reach the others.
	whole, share, alone local
	// block is what is left of the last block, blockUntil how long it is good, size how large it was, and at when it was taken.
	block, size    int
	blockUntil, at time.Time
	refuseUntil    time.Time
	wait           time.Duration
	strictUntil    time.Time
	aloneUntil     time.Time
	// fullAt is when the shared bucket was to be full, in nanoseconds, as far as this process knows: a guess at which write will do.
	fullAt int64
}

func (l *Limiter) bucket(key string, now time.Time) (*bucket, store.Table) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.young[key]
	if ok {
		return b, l.table
	}
	if b, ok = l.older[key]; !ok {
		r := l.rate
		b = &bucket{
			whole: newLocal(float64(r.PerSecond), r.Burst, now),
			share: newLocal(float64(r.PerSecond)/refillPart, r.Burst/sharePart, now),
			alone: newLocal(max(float64(r.PerSecond)/alonePart, 0.1), max(r.Burst/alonePart, 1), now),
			size:  max(r.Burst/smallPart, 1),
		}
	}
	if len(l.young) >= held {
		l.young, l.older = make(map[string]*bucket, held), l.young
	}
	l.young[key] = b
	return b, l.table
}

// local is a token bucket in this process.
type local struct {
	perSecond, burst, tokens float64
	at                       time.Time
}

func newLocal(perSecond float64, burst int, now time.Time) local {
	return local{perSecond, float64(burst), float64(burst), now}
}

func (b *local) take(now time.Time) bool {
	if d := now.Sub(b.at); d > 0 {
		b.tokens, b.at = min(b.burst, b.tokens+b.perSecond*d.Seconds()), now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// lease takes a block out of the bucket that all share, and one token out of the block.
func (l *Limiter) lease(ctx context.Context, table store.Table, key string, b *bucket, now time.Time) bool {
	n := b.next(l.rate, now)
	err := l.take(ctx, table, key, b, n, now)
	if short, ok := errors.AsType[*shortError](err); ok && short.left > 0 && n > 1 {
		n = min(short.left, n)
		err = l.take(ctx, table, key, b, n, now)
	}
	if _, ok := errors.AsType[*shortError](err); ok {
		b.block, b.strictUntil = 0, now.Add(strictFor)
		b.wait = min(max(2*b.wait, waitLeast), waitMost)
		b.refuseUntil = now.Add(b.wait)
		return false
	}
	if err != nil {
		b.aloneUntil = now.Add(aloneFor)
		return b.alone.take(now)
	}
	if half := int64(l.rate.Burst) * l.token() / 2; b.fullAt-now.UnixNano() > half {
		b.strictUntil = now.Add(strictFor)
	}
	b.block, b.size, b.at, b.blockUntil, b.wait = n-1, n, now, now.Add(blockKeep), 0
	return true
}

// next is how large the next block is: one that is used up within a fraction of a second, so that little is held by those who do not need it.
func (b *bucket) next(r Rate, now time.Time) int {
	most := max(r.Burst/largePart, 1)
	switch used := now.Sub(b.at); {
	case b.at.IsZero():
		return b.size
	case b.block > 0: // it went bad
		return max(b.size-b.block, 1)
	case used < soon:
		return min(b.size*2, most)
	case used > late:
		return max(b.size/2, 1)
	}
	return b.size
}

// shortError says that the bucket has fewer tokens than were asked for: how many.
type shortError struct{ left int }

func (*shortError) Error() string { return "rate: the bucket is empty" }

// The items of rates:
//
//	RATE#<kind>#<key> | T  the nanosecond at which the bucket is full again
func (l *Limiter) itemKey(key string) store.Key {
	return store.Key{PK: resources.RatePrefix + l.kind + "#" + listing.Segment(key), SK: "T"}
}

const attrFullAt = "f"

// takeTries is how often a block is asked for while others change the bucket between full and not.
const takeTries = 4

// token is the time in which one token comes back, in nanoseconds.
func (l *Limiter) token() int64 { return time.Second.Nanoseconds() / int64(l.rate.PerSecond) }

// take takes n tokens out of the shared bucket by one conditional write without a read. A bucket is one number, the time at which it is full again: n
// tokens move it by the time in which they come back.
func (l *Limiter) take(ctx context.Context, table store.Table, key string, b *bucket, n int, now time.Time) (err error) {
	token := l.token()
	whole := int64(l.rate.Burst) * token
	cost, at := int64(n)*token, now.UnixNano()
	op := store.Update(l.itemKey(key)).ExpireAt(now.Add(itemKeep).Unix())
	for range takeTries {
		take := op.If(store.Any(store.NotExists(), store.Less(attrFullAt, at))).SetAttr(attrFullAt, at+cost) // full, or not there
		if b.fullAt >= at {
			take = op.If(store.All(store.Greater(attrFullAt, at-1), store.Less(attrFullAt, at+whole-cost+1))).AddInt(attrFullAt, cost)
		}
		it, err1 := table.Update(ctx, take)
		if err = err1; err == nil {
			b.fullAt = it.Attrs.Int(attrFullAt)
			return nil
		}
		failed, ok := errors.AsType[*store.ConditionError](err)
		if !ok {
			return err
		}
		b.fullAt = 0
		if failed.Old != nil {
			b.fullAt = failed.Old.Attrs.Int(attrFullAt)
		}
		if b.fullAt > at+whole-cost {
			return &shortError{int(max((at+whole-b.fullAt)/token, 0))}
		}
	}
	return err
}
