package chain

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Kind is what is wrong.
type Kind string

// What may be wrong with a trail.
const (
	// Tampered is an entry that is not what was sealed.
	Tampered Kind = "tampered entry"
	// Missing is an entry that was sealed and is not in the table, though it must be kept still.
	Missing Kind = "missing entry"
	// Unsealed is an entry that no block holds, though it is old enough.
	Unsealed Kind = "entry never sealed"
	// Twice is an entry in two blocks, or in a chain that is not its own.
	Twice Kind = "entry in the wrong place"
	// Broken is a block that is gone, changed or not the one that must stand there.
	Broken Kind = "broken chain"
	// Signature is a head that nobody may have written.
	Signature Kind = "bad signature"
	// Late is an entry that was sealed long after its time: the sealer stood still, or somebody put it in then. It is no proof of either.
	Late Kind = "entry sealed late"
	// Truncated is a chain that does not go on from an earlier checkpoint.
	Truncated Kind = "truncated chain"
)

// Finding is something that is wrong.
type Finding struct {
	Kind  Kind `json:"kind"`
	Shard int  `json:"shard"`
	// Block is the number of the block in its chain, 0 for none.
	Block int64 `json:"block,omitempty"`
	// Entry is the key of an entry, "" for none.
	Entry string `json:"entry,omitempty"`
	Text  string `json:"text"`
}

func (f Finding) String() string {
	where := fmt.Sprintf("chain %d", f.Shard)
	if f.Shard < 0 {
		where = "head"
	}
	if f.Block > 0 {
		where += fmt.Sprintf(", block %d", f.Block)
	}
	if f.Entry != "" {
		where += ", " + f.Entry
	}
	return fmt.Sprintf("%s: %s: %s", f.Kind, where, f.Text)
}

// noShard is the Shard of what is wrong with the head.
const noShard = -1

// Verifier compares chains, head and table.
type Verifier struct {
	Table store.Table
	Blobs blob.Store
	// Now is when it looks.
	Now time.Time
	// Trusted are the public keys that may have signed; without any it is the key that the head names.
	Trusted []ed25519.PublicKey
	// Earlier is a checkpoint that was kept elsewhere, nil for none.
	Earlier *Head
}

// Verdict is what a verifier found, and what it looked at.
type Verdict struct {
	Findings []Finding `json:"findings"`
	// Late are entries of the kind of that name. A trail with some may be sound.
	Late []Finding `json:"late,omitempty"`
	// Head is the checkpoint that was verified, nil where nothing was ever sealed.
	Head   *Head `json:"head"`
	Blocks int   `json:"blocks"`
	// Sealed counts the entries of blocks: Compared with the table, or Expired from it. Waiting counts those that are not old enough to be sealed.
	Sealed   int `json:"sealed"`
	Compared int `json:"compared"`
	Expired  int `json:"expired"`
	Waiting  int `json:"waiting"`
}

// Run looks at everything. An error means that it could not: what it found until then is not all.
func (v *Verifier) Run(ctx context.Context) (*Verdict, error) {
	w := &verification{Verifier: v, Verdict: &Verdict{Findings: []Finding{}}}
	head, err := LoadHead(ctx, v.Table)
	if err != nil && !errors.Is(err, ErrHead) {
		return w.Verdict, err
	}
	if err != nil {
		w.found(Signature, noShard, 0, "", "%v", err)
	}
	if w.Head = head; head != nil && err == nil {
		if err := head.Check(v.Trusted...); err != nil {
			w.found(Signature, noShard, 0, "", "%v", err)
		}
	}
	w.checkEarlier()
	for shard := range audit.LogShards {
		if err := w.chain(ctx, shard, head.tip(shard)); err != nil {
			return w.Verdict, fmt.Errorf("chain %d: %w", shard, err)
		}
	}
	return w.Verdict, nil
}

type verification struct {
	*Verifier
	*Verdict
}

func (w *verification) found(kind Kind, shard int, block int64, entry, format string, args ...any) {
	w.Findings = append(w.Findings, Finding{kind, shard, block, entry, fmt.Sprintf(format, args...)})
}

func (w *verification) checkEarlier() {
	if w.Earlier == nil {
		return
	}
	if err := w.Earlier.Check(w.Trusted...); err != nil {
		w.found(Signature, noShard, 0, "", "the earlier checkpoint: %v", err)
	}
	switch {
	case w.Head == nil:
		w.found(Truncated, noShard, 0, "", "there is no head, yet checkpoint %d was written", w.Earlier.Number)
	case w.Head.Number < w.Earlier.Number:
		w.found(Truncated, noShard, 0, "", "the head is number %d, yet checkpoint %d was written", w.Head.Number, w.Earlier.Number)
	}
}

// chain walks a chain from its end to its beginning, then through the log.
func (w *verification) chain(ctx context.Context, shard int, tip Tip) error {
	c := &chained{verification: w, shard: shard, seen: map[store.Key]bool{}}
	if tip.Seq < 0 || (tip.Seq == 0) != (tip.Hash == "") {
		w.found(Broken, shard, tip.Seq, "", "the head names block %d with hash %q", tip.Seq, tip.Hash)
	}
	earlier := w.Earlier.tip(shard)
	if earlier.Seq > tip.Seq {
		w.found(Truncated, shard, tip.Seq, "", "it ends here, yet the checkpoint names block %d", earlier.Seq)
	}
	for ; tip.Seq > 0; tip.Seq-- {
		if tip.Seq == earlier.Seq && tip.Hash != earlier.Hash {
			w.found(Truncated, shard, tip.Seq, "", "it was made anew: the block has hash %.12s, in the checkpoint it is %.12s", tip.Hash, earlier.Hash)
		}
		b, err := c.block(ctx, tip)
		if err != nil {
			return err
		}
		if b == nil {
			w.found(Broken, shard, tip.Seq, "", "what lies before it cannot be found")
			break
		}
		tip.Hash = b.Prev
	}
	return c.log(ctx)
}

// chained is the verification of one chain.
type chained struct {
	*verification
	shard int
	seen  map[store.Key]bool
}

// block verifies a block and its entries, and answers it, nil when there is nothing to go on from.
func (c *chained) block(ctx context.Context, tip Tip) (*Block, error) {
	b, err := readBlock(ctx, c.Blobs, c.shard, tip)
	switch {
	case errors.Is(err, blob.ErrUnavailable) || ctx.Err() != nil:
		return nil, err
	case err != nil:
		c.found(Broken, c.shard, tip.Seq, "", "%v", err)
	}
	if b == nil {
		return nil, nil
	}
	c.Blocks++
	if b.Shard != c.shard || b.Seq != tip.Seq || (b.Seq == 1) != (b.Prev == "") {
		c.found(Broken, c.shard, tip.Seq, "", "the block says that it is block %d of chain %d, after %q", b.Seq, b.Shard, b.Prev)
	}
	for at := 0; at < len(b.Entries); at += chunk {
		if err := c.compare(ctx, tip.Seq, b.At, b.Entries[at:min(at+chunk, len(b.Entries))]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// compare compares sealed entries with their items.
func (c *chained) compare(ctx context.Context, block int64, made time.Time, sealed []Sealed) error {
	var keys []store.Key
	records := make([]Record, len(sealed))
	for i, s := range sealed {
		r, err := s.Record()
		if err != nil || hexHash(s.Content) != s.SHA256 {
			c.found(Broken, c.shard, block, r.Key().String(), "the entry does not have the hash that the block gives it")
			c.seen[r.Key()] = true
			continue
		}
		records[i] = r
		if c.seen[r.Key()] || audit.LogKey(r.Key(), r.At).PK != audit.LogPartition(c.shard) {
			c.found(Twice, c.shard, block, r.Key().String(), "it stands in another block too, or belongs into another chain")
		}
		c.seen[r.Key()] = true
		if at := time.UnixMicro(r.At); made.Sub(at) > tooLate {
			c.Late = append(c.Late, Finding{Late, c.shard, block, r.Key().String(), fmt.Sprintf("it is of %s and was sealed at %s", stamp(at), stamp(made))})
		}
		if c.live(s) {
			keys = append(keys, r.Key())
		}
	}
	items, err := c.Table.BatchGet(ctx, keys)
	if err != nil {
		return err
	}
	now := make(map[store.Key]store.Item, len(items))
	for _, it := range items {
		now[it.Key] = it
	}
	for i, s := range sealed {
		c.Sealed++
		if !c.live(s) {
			c.Expired++
			continue
		}
		c.Compared++
		r := records[i]
		switch it, there := now[r.Key()]; {
		case r.PK == "":
		case !there:
			c.found(Missing, c.shard, block, r.Key().String(), "it was sealed as %s", s.Content)
		case hexHash(content(it)) != s.SHA256:
			c.found(Tampered, c.shard, block, r.Key().String(), "it was sealed as %s, and is now %s", s.Content, content(it))
		}
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// live says whether the item of an entry must be in the table.
func (c *chained) live(s Sealed) bool { return s.Expires == 0 || s.Expires > c.Now.Unix() }

// log looks for entries that no block holds.
func (c *chained) log(ctx context.Context) error {
	late := c.Now.Add(-Lag - Overlap).UnixMicro()
	var strange []store.Key
	look := func() error {
		items, err := entries(ctx, c.Table, strange)
		for _, it := range items {
			if it.Live(c.Now.Unix()) {
				c.found(Unsealed, c.shard, 0, it.String(), "it reads %s", content(it))
			}
		}
		strange = nil
		return err
	}
	err := scan(ctx, c.Table, c.shard, 0, c.Now.Add(farAhead).UnixMicro(), func(l listed) (bool, error) {
		switch {
		case c.seen[l.Key]:
		case l.at > late:
			c.Waiting++
		default:
			if strange = append(strange, l.Key); len(strange) == chunk {
				return true, look()
			}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	return look()
}

// farAhead is how far the clock of who wrote an entry may be ahead.
const farAhead = 100 * 365 * 24 * time.Hour
