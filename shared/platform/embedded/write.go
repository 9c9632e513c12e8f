package embedded

import (
	"context"
	"database/sql/driver"
	"fmt"
	"maps"
	"math"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// image is an item inside a group: as text, and decoded once somebody needs it.
type image struct {
	text string
	item *store.Item
}

// load reads an item as the group has left it so far, nil when absent.
func (t *txn) load(key store.Key) (*image, error) {
	if im, known := t.images[key]; known {
		return im, nil
	}
	var im *image
	err := t.rows(selectItem, 1, func(row []driver.Value) error {
		text, err := textOf(row[0])
		im = &image{text: text}
		return err
	}, key.PK, key.SK)
	if err != nil {
		return nil, err
	}
	t.images[key] = im
	return im, nil
}

// decoded answers the image's item, nil for a nil image.
func (im *image) decoded(key store.Key) (*store.Item, error) {
	if im == nil {
		return nil, nil
	}
	if im.item == nil {
		it, err := decode(key, im.text)
		if err != nil {
			return nil, err
		}
		im.item = it
	}
	return im.item, nil
}

// give hands the decoded item to a caller, who may do with it what it likes: the image decodes another one when it is needed again.
func (im *image) give(key store.Key) (*store.Item, error) {
	it, err := im.decoded(key)
	if im != nil {
		im.item = nil
	}
	return it, err
}

// change is one evaluated operation.
type change struct {
	op     store.Op
	text   string // of a put, encoded by the caller's goroutine
	before *store.Item
	after  *store.Item // nil: the item is gone afterwards
	same   bool        // nothing to write
}

// prepare does before the group what does not need the item.
func prepare(ops []store.Op) []change {
	changes := make([]change, len(ops))
	for i, op := range ops {
		changes[i].op = op
		if op.Kind == store.OpPut {
			changes[i].text = string(encode(make([]byte, 0, 256), &op.Item))
		}
	}
	return changes
}

// apply evaluates all operations, then writes all: an operation that is refused leaves nothing behind.
func (b *Table) apply(t *txn, changes []change) error {
	transaction := len(changes) > 1
	for i := range changes {
		if err := t.evaluate(&changes[i], i); err != nil {
			if !isStorage(err) {
				b.meterRefused(changes[:i+1], transaction)
			}
			return err
		}
	}
	for i := range changes {
		c := &changes[i]
		b.meter.CountWrite(c.before, c.after, transaction)
		if c.same {
			continue
		}
		if err := b.write(t, c); err != nil {
			return err
		}
	}
	return nil
}

// meterRefused counts a write that was refused: as if every operation up to there had written its item unchanged.
func (b *Table) meterRefused(seen []change, transaction bool) {
	for i := range seen {
		before := seen[i].before
		b.meter.CountWrite(before, before, transaction)
	}
}

// evaluate finds out what an operation does.
func (t *txn) evaluate(c *change, position int) error {
	im, err := t.load(c.op.Key)
	if err != nil {
		return err
	}
	if c.before, err = im.decoded(c.op.Key); err != nil {
		return err
	}
	if !holds(c.op.Cond, c.before) {
		old, err := im.give(c.op.Key)
		if err != nil {
			return err
		}
		return &store.ConditionError{Op: position, Old: old}
	}
	switch c.op.Kind {
	case store.OpPut:
		c.after = &c.op.Item
	case store.OpUpdate:
		if c.after, err = updated(c.op, c.before); err != nil {
			return fmt.Errorf("operation %d: %w", position, err)
		}
		c.text = string(encode(make([]byte, 0, 256), c.after))
	case store.OpDelete:
		c.same = im == nil
	case store.OpCheck:
		c.after, c.same = c.before, true
	}
	return nil
}

// updated answers a new item, changed as the operation says.
func updated(op store.Op, old *store.Item) (*store.Item, error) {
	it := &store.Item{Key: op.Key, Attrs: make(store.Attrs, len(op.Set)+len(op.Add))}
	if old != nil {
		it.Expires, it.Index = old.Expires, old.Index
		maps.Copy(it.Attrs, old.Attrs)
	}
	maps.Copy(it.Attrs, op.Set)
	for name, n := range op.Add {
		value, has := it.Attrs[name]
		number, is := value.(int64)
		if has && !is {
			return nil, fmt.Errorf("%w: attribute %q of %v is no number to add to", store.ErrInvalid, name, op.Key)
		}
		if n > 0 && number > math.MaxInt64-n || n < 0 && number < math.MinInt64-n {
			return nil, fmt.Errorf("%w: attribute %q of %v would leave 64 bits", store.ErrInvalid, name, op.Key)
		}
		it.Attrs[name] = number + n
	}
	for _, name := range op.Remove {
		delete(it.Attrs, name)
	}
	if len(op.SetIndex) > 0 {
		index := maps.Clone(it.Index)
		if index == nil {
			index = make(map[store.Index]store.Key, len(op.SetIndex))
		}
		maps.Copy(index, op.SetIndex)
		it.Index = index
	}
	if op.SetExpires != nil {
		it.Expires = *op.SetExpires
	}
	if size := it.Size(); size > store.MaxItemBytes {
		return nil, fmt.Errorf("%w: %v would have %d bytes, at most %d", store.ErrTooLarge, op.Key, size, store.MaxItemBytes)
	}
	return it, nil
}

// write stores what evaluate found.
func (b *Table) write(t *txn, c *change) error {
	key := c.op.Key
	var err error
	switch {
	case c.after == nil:
		t.images[key] = nil
		err = t.exec(deleteItem, key.PK, key.SK)
	case c.before == nil:
		t.images[key] = &image{text: c.text}
		err = t.exec(insertItem, key.PK, key.SK, c.text)
	default:
		t.images[key] = &image{text: c.text}
		err = t.exec(updateItem, c.text, key.PK, key.SK)
	}
	if err != nil {
		return err
	}
	for _, index := range store.Indexes {
		if err := b.writeEntry(t, index, key, entryOf(c.before, index), entryOf(c.after, index)); err != nil {
			return err
		}
	}
	return nil
}

func entryOf(it *store.Item, index store.Index) store.Key {
	if it == nil {
		return store.Key{}
	}
	return it.Index[index]
}

func (b *Table) writeEntry(t *txn, index store.Index, key, before, after store.Key) error {
	if before == after {
		return nil
	}
	if b.unruly != nil {
		b.lag.add(t, entryChange{index: index, key: key, before: before, after: after})
		return nil
	}
	return t.moveEntry(entryChange{index: index, key: key, before: before, after: after})
}

// entryChange moves an item's entry in an index; a zero Key is none.
type entryChange struct {
	index         store.Index
	key           store.Key
	before, after store.Key
}

func (t *txn) moveEntry(c entryChange) error {
	if c.before != (store.Key{}) {
		if err := t.exec(indexSQL[c.index].remove, c.before.PK, c.before.SK, c.key.PK, c.key.SK); err != nil {
			return err
		}
	}
	if c.after == (store.Key{}) {
		return nil
	}
	return t.exec(indexSQL[c.index].insert, c.after.PK, c.after.SK, c.key.PK, c.key.SK)
}

// Write implements store.Table.
func (b *Table) Write(ctx context.Context, ops ...store.Op) error {
	if err := store.CheckOps(ops); err != nil {
		return err
	}
	if err := b.unruly.conflict(len(ops) > 1); err != nil {
		return err
	}
	b.meter.CountRequest()
	changes := prepare(ops)
	return available(b.w.do(ctx, func(t *txn) error { return b.apply(t, changes) }))
}

// Update implements store.Table.
func (b *Table) Update(ctx context.Context, op store.Op) (store.Item, error) {
	if op.Kind != store.OpUpdate {
		return store.Item{}, fmt.Errorf("%w: Update takes an update", store.ErrInvalid)
	}
	ops := []store.Op{op}
	if err := store.CheckOps(ops); err != nil {
		return store.Item{}, err
	}
	if err := b.unruly.conflict(false); err != nil {
		return store.Item{}, err
	}
	b.meter.CountRequest()
	changes := prepare(ops)
	if err := b.w.do(ctx, func(t *txn) error { return b.apply(t, changes) }); err != nil {
		return store.Item{}, available(err)
	}
	it, err := decode(op.Key, changes[0].text) // a copy of its own: the operation's values belong to the caller
	if err != nil {
		return store.Item{}, available(err)
	}
	return *it, nil
}
