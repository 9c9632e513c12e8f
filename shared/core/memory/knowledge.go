package memory

import (
	"context"
	"errors"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Limits of what a memory knows beside its history. The first two are of one write, which is one transaction.
const (
	MaxAtOnce      = 90
	MaxAtOnceBytes = 3 << 20
	// MaxChunks and MaxSize are how many chunks a memory holds, and their bytes: all are looked at for a window.
	MaxChunks = 1000
	MaxSize   = 4 << 20

	maxPath     = 1024
	maxLanguage = 64
	maxNumber   = 999_999_999
)

// Chunk is a part of a file.
type Chunk struct {
	// Number is its place among the chunks; Next is the next one that no chunk has had.
	Number   int64
	Path     string
	Content  []byte
	Language string
	// Bytes and LOC are those of the file, where they are known.
	Bytes, LOC int64
}

// Next is the number of a chunk that is to get one.
const Next = -1

func (c Chunk) size() int64 { return int64(len(c.Path) + len(c.Content) + len(c.Language)) }

// Knowledge is what is stored at once beside the history.
type Knowledge struct {
	// Summary is the new one, empty for none; nil leaves it as it is.
	Summary *[]byte
	Chunks  []Chunk
	// Replace says that all chunks that are there before go.
	Replace bool
}

// check says what is wrong with it.
func (k Knowledge) check() error {
	if k.Summary == nil && len(k.Chunks) == 0 && !k.Replace {
		return fault.New(fault.Invalid, "neither a summary nor chunks are given")
	}
	if len(k.Chunks) > MaxAtOnce {
		return fault.New(fault.TooLarge, "%d chunks are too many at once (max %d); store them one part after the other", len(k.Chunks), MaxAtOnce)
	}
	size := int64(0)
	if k.Summary != nil {
		if size = int64(len(*k.Summary)); size > MaxText {
			return fault.New(fault.TooLarge, "summary too long (max %d bytes)", MaxText)
		}
	}
	seen := map[int64]bool{}
	for i, c := range k.Chunks {
		if err := c.check(); err != nil {
			return fault.New(err.Code, "chunk %d: %s", i, err.Message)
		}
		if c.Number != Next && seen[c.Number] {
			return fault.New(fault.Invalid, "chunk %d: index %d appears twice", i, c.Number)
		}
		seen[c.Number] = true
		size += c.size()
	}
	if size > MaxAtOnceBytes {
		return fault.New(fault.TooLarge, "%d bytes are too many at once (max %d); store them one part after the other", size, MaxAtOnceBytes)
	}
	return nil
}

func (c Chunk) check() *fault.Error {
	switch {
	case c.Number < Next || c.Number > maxNumber:
		return fault.New(fault.Invalid, "index must be from 0 to %d", maxNumber)
	case len(c.Path) > maxPath:
		return fault.New(fault.TooLarge, "path too long (max %d bytes)", maxPath)
	case len(c.Language) > maxLanguage:
		return fault.New(fault.TooLarge, "language too long (max %d bytes)", maxLanguage)
	case len(c.Content) > MaxText:
		return fault.New(fault.TooLarge, "content too long (max %d bytes)", MaxText)
	case c.Bytes < 0 || c.LOC < 0:
		return fault.New(fault.Invalid, "bytes and loc must not be negative")
	case !utf8.ValidString(c.Path) || !utf8.ValidString(c.Language):
		return fault.New(fault.Invalid, "path and language must be UTF-8")
	}
	return nil
}

// Learn stores a summary and chunks, all or nothing, once for each call.
func (s *Store) Learn(ctx context.Context, tenant, memory, call string, k Knowledge, now time.Time) error {
	if err := k.check(); err != nil {
		return err
	}
	pk := partition(tenant, memory)
	var current int64
	err := s.change(ctx, pk, "knowledge "+call, now, func(h *head) ([]store.Op, error) {
		if k.Replace {
			h.generation, h.nextChunk, h.chunks, h.size = h.generation+1, 0, 0, 0
		}
		current = h.generation
		chunks := numbered(h, k.Chunks)
		if err := s.count(ctx, pk, h, chunks, now); err != nil {
			return nil, err
		}
		expires := now.Add(Retention).Unix()
		var ops []store.Op
		for _, c := range chunks {
			ops = append(ops, store.Put(store.Item{Key: chunkKey(pk, current, c.Number), Expires: expires, Attrs: store.Attrs{
				attrPath: c.Path, attrText: c.Content, attrLanguage: c.Language, attrBytes: c.Bytes, attrLOC: c.LOC,
			}}))
		}
		switch {
		case k.Summary == nil:
		case len(*k.Summary) == 0:
			ops = append(ops, store.Delete(summaryKey(pk)))
		default:
			ops = append(ops, store.Put(store.Item{Key: summaryKey(pk), Attrs: store.Attrs{attrText: *k.Summary}, Expires: expires}))
		}
		return ops, nil
	})
	if err == nil && k.Replace && current > 0 {
		// Nobody sees the chunks of older generations. What is left of them goes with the next replacement, or when its time is over.
		_ = s.clear(ctx, store.Query{PK: pk, From: chunkPrefix, To: generation(current)})
	}
	return err
}

// numbered gives their numbers to chunks that have none.
func numbered(h *head, chunks []Chunk) []Chunk {
	out := slices.Clone(chunks)
	for _, c := range out {
		h.nextChunk = max(h.nextChunk, c.Number+1)
	}
	for i := range out {
		if out[i].Number == Next {
			out[i].Number = h.nextChunk
			h.nextChunk++
		}
	}
	return out
}

// count adds chunks to what the head counts, and refuses what is too much. Chunks whose time is over are counted until the room is needed.
func (s *Store) count(ctx context.Context, pk string, h *head, chunks []Chunk, now time.Time) error {
	keys := make([]store.Key, len(chunks))
	for i, c := range chunks {
		keys[i] = chunkKey(pk, h.generation, c.Number)
	}
	old, err := s.Table.BatchGet(ctx, keys)
	if err != nil {
		return err
	}
	more, size := int64(len(chunks)), int64(0)
	for _, c := range chunks {
		size += c.size()
	}
	h.chunks, h.size = h.chunks+more, h.size+size
	for _, it := range old {
		if it.Live(now.Unix()) { // others may be counted or not
			h.chunks, h.size = h.chunks-1, h.size-chunk(it, 0).size()
		}
	}
	if h.chunks <= MaxChunks && h.size <= MaxSize {
		return nil
	}
	h.chunks, h.size = more, size
	there, err := s.chunksOf(ctx, pk, h.generation, now)
	if err != nil {
		return err
	}
	for _, c := range there {
		if !slices.Contains(keys, chunkKey(pk, h.generation, c.Number)) {
			h.chunks, h.size = h.chunks+1, h.size+c.size()
		}
	}
	if h.chunks > MaxChunks || h.size > MaxSize {
		return fault.New(fault.TooLarge, "the memory would hold %d chunks of %d bytes (max %d of %d)", h.chunks, h.size, MaxChunks, MaxSize)
	}
	return nil
}

// Summary answers the summary, nil for none.
func (s *Store) Summary(ctx context.Context, tenant, memory string, now time.Time) ([]byte, error) {
	it, err := s.live(ctx, summaryKey(partition(tenant, memory)), now)
	return it.Attrs.Bytes(attrText), err
}

// Chunk answers a chunk; ok is false when it is not there.
func (s *Store) Chunk(ctx context.Context, tenant, memory string, n int64, now time.Time) (c Chunk, ok bool, err error) {
	pk := partition(tenant, memory)
	h, err := s.head(ctx, pk, now)
	if err != nil {
		return Chunk{}, false, err
	}
	it, err := s.live(ctx, chunkKey(pk, h.generation, n), now)
	return chunk(it, n), it.SK != "", err
}

// live reads an item whose time is not over; the zero Item when there is none.
func (s *Store) live(ctx context.Context, key store.Key, now time.Time) (store.Item, error) {
	it, err := s.Table.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) || err == nil && !it.Live(now.Unix()) {
		return store.Item{}, nil
	}
	return it, err
}

// Chunks answers all chunks by their numbers. Those of one generation: one that is replaced while they are read is read again.
func (s *Store) Chunks(ctx context.Context, tenant, memory string, now time.Time) ([]Chunk, error) {
	pk := partition(tenant, memory)
	before, err := s.head(ctx, pk, now)
	if err != nil {
		return nil, err
	}
	for range tries {
		all, err := s.chunksOf(ctx, pk, before.generation, now)
		if err != nil {
			return nil, err
		}
		after, err := s.head(ctx, pk, now)
		if err != nil {
			return nil, err
		}
		if before.generation == after.generation {
			return all, nil
		}
		before = after
	}
	return nil, errBusy
}

func (s *Store) chunksOf(ctx context.Context, pk string, of int64, now time.Time) ([]Chunk, error) {
	var out []Chunk
	prefix := generation(of)
	for it, err := range store.Items(ctx, s.Table, store.Query{PK: pk, Prefix: prefix}) {
		if err != nil {
			return nil, err
		}
		if !it.Live(now.Unix()) {
			continue
		}
		n, err := number(it, prefix)
		if err != nil {
			return nil, err
		}
		out = append(out, chunk(it, n))
	}
	return out, nil
}

func chunk(it store.Item, n int64) Chunk {
	a := it.Attrs
	return Chunk{Number: n, Path: a.String(attrPath), Content: a.Bytes(attrText), Language: a.String(attrLanguage), Bytes: a.Int(attrBytes), LOC: a.Int(attrLOC)}
}
