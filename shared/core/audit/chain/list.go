package chain

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Listed is an entry, and where it is sealed.
type Listed struct {
	Record

	Shard int `json:"shard"`
	// Block is the number of the block, 0 while the entry waits to be sealed.
	Block  int64  `json:"block"`
	SHA256 string `json:"sha256"`
}

// String says who did what, on one line.
func (l Listed) String() string {
	var e audit.Entry
	if l.Entry != nil && json.Unmarshal(l.Entry, &e) == nil {
		change := strings.TrimSpace(e.Before + " -> " + e.After)
		return fmt.Sprintf("%s %s %s %s (%s) by %s (%s) %s", e.Tenant, e.Action, e.ResourceType, e.ResourceID, change, e.ActorID, e.Role, e.RequestID)
	}
	var d job.Decision
	by := &audit.Origin{Cause: "?"}
	if l.Decision != nil && json.Unmarshal(l.Decision, &d) == nil && d.By != nil {
		by = d.By
	}
	id := strings.TrimPrefix(l.PK, job.Partition(""))
	if by.ActorID == "" {
		return fmt.Sprintf("%s decide job %s (%s) since %s", by.Tenant, id, d.Verdict, by.Cause)
	}
	return fmt.Sprintf("%s %s job %s (%s) by %s (%s) %s", by.Tenant, by.Cause, id, d.Verdict, by.ActorID, by.Role, by.RequestID)
}

// List goes through all that was ever recorded and is kept, newest first: what waits to be sealed, then the chains. An entry that came late stands
// where it came. Verified is nothing of it but the hashes of blocks.
func List(ctx context.Context, table store.Table, blobs blob.Store, now time.Time) iter.Seq2[Listed, error] {
	return func(yield func(Listed, error) bool) {
		head, err := LoadHead(ctx, table)
		if err != nil {
			yield(Listed{}, err)
			return
		}
		chains := make([]*reader, audit.LogShards)
		for shard := range chains {
			r := &reader{blobs: blobs, shard: shard, tip: head.tip(shard)}
			if r.buffer, err = waiting(ctx, table, blobs, shard, r.tip, now); err == nil {
				err = r.fill(ctx)
			}
			if err != nil {
				yield(Listed{}, err)
				return
			}
			chains[shard] = r
		}
		for {
			newest := slices.MaxFunc(chains, func(a, b *reader) int { return cmp.Compare(a.peek(), b.peek()) })
			if len(newest.buffer) == 0 {
				return
			}
			if !yield(newest.buffer[len(newest.buffer)-1], nil) {
				return
			}
			newest.buffer = newest.buffer[:len(newest.buffer)-1]
			if err := newest.fill(ctx); err != nil {
				yield(Listed{}, err)
				return
			}
		}
	}
}

// reader reads a chain from its end, a block at a time.
type reader struct {
	blobs blob.Store
	shard int
	tip   Tip // of what is still to be read
	// buffer is what was read; its last is next.
	buffer []Listed
}

// peek answers the microsecond of the next entry, -1 at the end.
func (r *reader) peek() int64 {
	if len(r.buffer) == 0 {
		return -1
	}
	return r.buffer[len(r.buffer)-1].At
}

func (r *reader) fill(ctx context.Context) error {
	for len(r.buffer) == 0 && r.tip.Seq > 0 {
		b, err := readBlock(ctx, r.blobs, r.shard, r.tip)
		if err != nil {
			return err
		}
		for _, e := range b.Entries {
			record, err := e.Record()
			if err != nil {
				return err
			}
			r.buffer = append(r.buffer, Listed{record, r.shard, b.Seq, e.SHA256})
		}
		r.tip = b.before()
	}
	return nil
}

// waiting answers the entries of a partition that no block holds yet, the oldest first.
func waiting(ctx context.Context, table store.Table, blobs blob.Store, shard int, tip Tip, now time.Time) ([]Listed, error) {
	from := tip.Until - Overlap.Microseconds()
	seen, err := sealedSince(ctx, blobs, shard, tip, from)
	if err != nil {
		return nil, err
	}
	var keys []store.Key
	err = scan(ctx, table, shard, from, now.Add(farAhead).UnixMicro(), func(l listed) (bool, error) {
		if !seen[l.Key] {
			keys = append(keys, l.Key)
		}
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	var out []Listed
	for some := range slices.Chunk(keys, chunk) {
		items, err := entries(ctx, table, some)
		if err != nil {
			return nil, err
		}
		for _, it := range items {
			s := seal(it)
			record, err := s.Record()
			if err != nil {
				return nil, err
			}
			out = append(out, Listed{record, shard, 0, s.SHA256})
		}
	}
	return out, nil
}
