// Package chain seals the audit trail: it gathers the entries of the log into blocks that name each other by their hashes, and signs where the
// chains end. What was sealed cannot be changed, removed or put in later without a trace; Verifier finds the trace.
//
// The log has as many chains as partitions. A block is an object of the blob store, audit/<shard>/<number>-<hash>, that nobody changes; the head is
// one item of the table, AUDIT | head, which names the last block of every chain and is signed. Nothing of this is in the way of a mutation: blocks
// are made later, from what the log lists.
package chain

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/audit"
	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/core/listing"
	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Times of the sealer. An entry is stamped before it is written, and listed later still.
const (
	// Lag is how old an entry is when it is sealed.
	Lag = time.Minute
	// Overlap is how far back the sealer looks again for entries that came late.
	Overlap = 5 * time.Minute
)

// Record is what is sealed of an item: all that never changes of it but payloads.
type Record struct {
	PK string `json:"pk"`
	SK string `json:"sk"`
	// At is the microsecond by which the log lists it.
	At int64 `json:"at"`
	// Entry is an audit.Entry; Decision a job.Decision, with its origin. One of them is there.
	Entry    json.RawMessage `json:"entry,omitempty"`
	Decision json.RawMessage `json:"decision,omitempty"`
	// Request is the SHA-256 of the request that a submission stored, in hexadecimal.
	Request string `json:"request_sha256,omitempty"`
}

// Key addresses the item.
func (r Record) Key() store.Key { return store.Key{PK: r.PK, SK: r.SK} }

// content is the canonical text of what is sealed of an item, as it is now.
func content(it store.Item) json.RawMessage {
	r := Record{
		PK: it.PK, SK: it.SK, At: listing.Parse(it).Micros,
		Entry: text(it.Attrs.Bytes(audit.AttrEntry)), Decision: text(it.Attrs.Bytes(audit.AttrDecision)),
	}
	if request := it.Attrs.Bytes(audit.AttrRequest); request != nil {
		r.Request = hexHash(request)
	}
	return encode(r)
}

// text is JSON as it is, and anything else as a string.
func text(b []byte) json.RawMessage {
	if len(b) == 0 || json.Valid(b) {
		return b
	}
	return encode(string(b))
}

// Sealed is an entry of a block.
type Sealed struct {
	SHA256 string `json:"sha256"`
	// Expires is the Unix second until which the item is kept at least, 0 for ever.
	Expires int64 `json:"expires,omitempty"`
	// Content is a Record.
	Content json.RawMessage `json:"content"`
}

func seal(it store.Item) Sealed {
	c := content(it)
	return Sealed{SHA256: hexHash(c), Expires: it.Expires, Content: c}
}

// Record decodes the content.
func (s Sealed) Record() (r Record, err error) {
	if err = json.Unmarshal(s.Content, &r); err != nil {
		err = fmt.Errorf("sealed content: %w", err)
	}
	return r, err
}

// Block is a link of a chain.
type Block struct {
	Shard int   `json:"shard"`
	Seq   int64 `json:"seq"`
	// Prev is the hash of the block before, "" for the first.
	Prev string `json:"prev"`
	// At is when it was made; Until is the microsecond up to which the log was looked through then.
	At      time.Time `json:"at"`
	Until   int64     `json:"until"`
	Entries []Sealed  `json:"entries"`
}

// Tip is where a chain ends.
type Tip struct {
	// Seq and Hash are of the last block; 0 and "" when there is none.
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"`
	// Until is the microsecond up to which the log was looked through.
	Until int64 `json:"until"`
}

func blockKey(shard int, seq int64, hash string) string {
	return fmt.Sprintf("%s/%d/%010d-%s", resources.AuditObjects, shard, seq, hash)
}

// errTampered says that an object is not what its name says.
var errTampered = errors.New("the object's bytes do not have the hash that it is named by")

// readBlock reads the block that a tip names. With errTampered it answers what can be made of the bytes, nil for nothing.
func readBlock(ctx context.Context, blobs blob.Store, shard int, tip Tip) (*Block, error) {
	key := blockKey(shard, tip.Seq, tip.Hash)
	data, _, err := blobs.Get(ctx, key, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	b := &Block{}
	if decoded := json.Unmarshal(data, b); hexHash(data) != tip.Hash {
		if decoded != nil {
			b = nil
		}
		return b, fmt.Errorf("%s: %w", key, errTampered)
	} else if decoded != nil {
		return nil, fmt.Errorf("%s: %w", key, decoded)
	}
	return b, nil
}

// before is the tip of the chain without its last block.
func (b *Block) before() Tip { return Tip{Seq: b.Seq - 1, Hash: b.Prev} }

var headKey = store.Key{PK: "AUDIT", SK: "head"}

// Attributes of the head's item.
const (
	aHead   = "h"
	aNumber = "n"
)

// LoadHead reads the head of a plane: its newest checkpoint. It is nil where nothing was ever sealed, and comes with ErrHead when it is not as it was
// written.
func LoadHead(ctx context.Context, table store.Table) (*Head, error) {
	it, err := table.Get(ctx, headKey)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	h, err := ParseHead(it.Attrs.Bytes(aHead))
	if err == nil && h.Number != it.Attrs.Int(aNumber) {
		err = fmt.Errorf("%w: its item says that its number is %d", ErrHead, it.Attrs.Int(aNumber))
	}
	return h, err
}

// listed is an entry of the log.
type listed struct {
	store.Key

	at int64
}

// scan goes through a partition of the log, by time, from one microsecond to another, inclusive, until visit answers false.
func scan(ctx context.Context, table store.Table, shard int, from, to int64, visit func(listed) (more bool, err error)) error {
	q := store.Query{Index: store.ByTime, PK: audit.LogPartition(shard), From: listing.Sortable(max(from, 0)), To: listing.Sortable(to)}
	for it, err := range store.Items(ctx, table, q) {
		if err != nil {
			return err
		}
		if more, err := visit(listed{it.Key, listing.Parse(it).Micros}); err != nil || !more {
			return err
		}
	}
	return nil
}

// chunk is the most entries whose items are read at once.
const chunk = 100

// entries reads what stands behind at most chunk keys of the log, in their order. It leaves out what has gone, and the body of a submission that came
// to nothing.
func entries(ctx context.Context, table store.Table, keys []store.Key) ([]store.Item, error) {
	wanted := slices.Clone(keys)
	for _, key := range keys {
		if state, _, ok := job.Acknowledged(key); ok {
			wanted = append(wanted, state)
		}
	}
	items, err := table.BatchGet(ctx, wanted)
	if err != nil {
		return nil, err
	}
	found := make(map[store.Key]store.Item, len(items))
	for _, it := range items {
		found[it.Key] = it
	}
	var out []store.Item
	for _, key := range keys {
		it, ok := found[key]
		if !ok {
			continue
		}
		if state, named, isBody := job.Acknowledged(key); isBody {
			if s, there := found[state]; !there || !named(s) {
				continue
			}
		}
		out = append(out, it)
	}
	return out, nil
}

func hexHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// encode writes a value of ours, which always encodes.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	if err := enc.Encode(v); err != nil {
		panic("audit chain: encode: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
