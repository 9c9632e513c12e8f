package chain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// How much one run does; the rest is for the next.
const (
	// blockEntries and blockBytes bound a block.
	blockEntries = 1000
	blockBytes   = 4 << 20
	// rounds is the most blocks that a run adds to each chain; none begins after roundsTime.
	rounds     = 100
	roundsTime = 30 * time.Second
	// tooLate is how far behind a sealer may be when its run ends.
	tooLate = 15 * time.Minute
)

// Sealer adds blocks to the chains.
type Sealer struct {
	Table store.Table
	Blobs blob.Store
	Keys  Keys
	Clock clock.Clock
}

// Report is what a run did.
type Report struct {
	Blocks  int `json:"blocks"`
	Entries int `json:"entries"`
	// Head is the number of the last head that it wrote, 0 when it wrote none; Digest is its SHA-256 and Key the public key that it is signed with.
	Head   int64  `json:"head,omitempty"`
	Digest string `json:"digest,omitempty"`
	Key    string `json:"key,omitempty"`
}

// ErrBehind says that a run has left entries unsealed that are older than they may be.
var ErrBehind = errors.New("the sealer of the audit trail is behind")

// Run seals what the log lists and no block has. Of several that run at one time each adds what it can, and one of them wins; what the others made
// is named by nothing. Where nothing is to be sealed nothing is written. An error means that something is unsealed still; the next run finds it.
func (s *Sealer) Run(ctx context.Context) (Report, error) {
	var did Report
	began := s.Clock.Now()
	head, err := LoadHead(ctx, s.Table)
	if err != nil {
		return did, err
	}
	if head == nil {
		head = &Head{Tips: make([]Tip, audit.LogShards)}
	} else if err := head.Check(s.Keys.Public()...); err != nil { // to go on from it would make it good
		return did, fmt.Errorf("%w: %w", ErrHead, err)
	}
	for range rounds {
		next, more, err := s.round(ctx, head, &did)
		if err != nil {
			return did, err
		}
		if next != head {
			did.Head, did.Digest, did.Key = next.Number, hexHash(next.Encode()), SpellKey(next.Key)
		}
		head = next
		if !more {
			return did, nil
		}
		if s.Clock.Now().Sub(began) > roundsTime {
			break
		}
	}
	for shard, tip := range head.Tips {
		if late := s.Clock.Now().Sub(time.UnixMicro(tip.Until)); tip.Seq > 0 && late > tooLate {
			return did, fmt.Errorf("%w: chain %d by %v", ErrBehind, shard, late.Round(time.Second))
		}
	}
	return did, nil
}

// round adds at most one block to every chain. It answers the head as it is then, and whether there is more to seal.
func (s *Sealer) round(ctx context.Context, head *Head, did *Report) (next *Head, more bool, err error) {
	now := s.Clock.Now()
	next = &Head{Number: head.Number + 1, At: now.UTC(), Tips: make([]Tip, len(head.Tips))}
	blocks, sealed, changed := 0, 0, false
	looked := make([]int64, len(head.Tips))
	for shard, tip := range head.Tips {
		n, err := s.extend(ctx, shard, tip, now)
		if err != nil {
			return nil, false, fmt.Errorf("chain %d: %w", shard, err)
		}
		next.Tips[shard], looked[shard] = n.tip, n.looked
		changed, more = changed || n.tip != tip, more || n.more
		if n.tip.Seq != tip.Seq {
			blocks, sealed = blocks+1, sealed+n.sealed
		}
	}
	if !changed {
		return head, false, nil
	}
	for shard := range next.Tips { // it is written anyhow: no entry of a time that was looked through can be put into any chain later
		next.Tips[shard].Until = looked[shard]
	}
	s.Keys.sign(next)
	free := store.NotExists()
	if head.Number > 0 {
		free = store.Equal(aNumber, head.Number)
	}
	it := store.Item{Key: headKey, Attrs: store.Attrs{aHead: next.Encode(), aNumber: next.Number}}
	err = s.Table.Write(ctx, store.Put(it).If(free))
	if _, lost := errors.AsType[*store.ConditionError](err); lost { // another run was first, and does the rest
		return head, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	did.Blocks, did.Entries = did.Blocks+blocks, did.Entries+sealed
	return next, more, nil
}

// extended is a chain with its new block.
type extended struct {
	tip    Tip
	sealed int
	more   bool
	looked int64 // the microsecond up to which the log was looked through
}

// extend stores the next block of a chain, which nothing names yet, and answers where the chain ends with it.
func (s *Sealer) extend(ctx context.Context, shard int, tip Tip, now time.Time) (extended, error) {
	end := now.Add(-Lag).UnixMicro()
	g := gathering{sealer: s, shard: shard, tip: tip, from: tip.Until - Overlap.Microseconds()}
	err := scan(ctx, s.Table, shard, g.from, end, func(l listed) (bool, error) { return g.add(ctx, l) })
	if err == nil && !g.full() {
		err = g.flush(ctx)
	}
	if err != nil {
		return extended{}, err
	}
	until := end
	if g.full() {
		until = g.last
	}
	until = max(until, tip.Until)
	if len(g.items) == 0 {
		if g.found && until-tip.Until > Overlap.Microseconds() { // so that what was looked at is not looked at for ever
			tip.Until = until
		}
		return extended{tip: tip, looked: until}, nil
	}
	data := encode(Block{Shard: shard, Seq: tip.Seq + 1, Prev: tip.Hash, At: now.UTC(), Until: until, Entries: g.items})
	x := extended{tip: Tip{Seq: tip.Seq + 1, Hash: hexHash(data), Until: until}, sealed: len(g.items), more: g.full(), looked: until}
	err = s.Blobs.Put(ctx, blockKey(shard, x.tip.Seq, x.tip.Hash), data, blob.PutOptions{ContentType: "application/json", IfAbsent: true})
	if errors.Is(err, blob.ErrExists) {
		err = nil
	}
	return x, err
}

// gathering collects what a block shall hold.
type gathering struct {
	sealer *Sealer
	shard  int
	tip    Tip
	from   int64

	// seen is what blocks hold, or this one will; it is read when there is something to look up.
	seen    map[store.Key]bool
	pending []store.Key
	items   []Sealed
	size    int
	last    int64 // the microsecond of the last entry that was looked at
	found   bool
}

func (g *gathering) full() bool { return len(g.items) >= blockEntries || g.size >= blockBytes }

func (g *gathering) add(ctx context.Context, l listed) (more bool, err error) {
	if !g.found {
		if g.seen, err = sealedSince(ctx, g.sealer.Blobs, g.shard, g.tip, g.from); err != nil {
			return false, err
		}
	}
	g.found, g.last = true, l.at
	if g.seen[l.Key] {
		return true, nil
	}
	g.seen[l.Key] = true
	if g.pending = append(g.pending, l.Key); len(g.pending) == chunk {
		err = g.flush(ctx)
	}
	return !g.full(), err
}

// flush reads what is pending.
func (g *gathering) flush(ctx context.Context) error {
	items, err := entries(ctx, g.sealer.Table, g.pending)
	for _, it := range items {
		e := seal(it)
		g.items, g.size = append(g.items, e), g.size+len(e.Content)
	}
	g.pending = nil
	return err
}

// sealedSince answers which entries from a microsecond on are in blocks.
func sealedSince(ctx context.Context, blobs blob.Store, shard int, tip Tip, from int64) (map[store.Key]bool, error) {
	seen := map[store.Key]bool{}
	for tip.Seq > 0 {
		b, err := readBlock(ctx, blobs, shard, tip)
		if err != nil {
			return nil, err
		}
		if b.Until < from {
			break
		}
		for _, e := range b.Entries {
			r, err := e.Record()
			if err != nil {
				return nil, err
			}
			seen[r.Key()] = true
		}
		tip = b.before()
	}
	return seen, nil
}
