package embedded

import (
	"context"
	"database/sql/driver"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Table is the table in SQLite.
type Table struct {
	db     *database
	w      *writer
	meter  *store.Meter
	unruly *unruly
	lag    *lag
}

const (
	selectItem = "SELECT item FROM items WHERE pk = ? AND sk = ?"
	insertItem = "INSERT INTO items (pk, sk, item) VALUES (?, ?, ?)"
	updateItem = "UPDATE items SET item = ? WHERE pk = ? AND sk = ?"
	deleteItem = "DELETE FROM items WHERE pk = ? AND sk = ?"
	ascItems   = "SELECT sk, item FROM items WHERE pk = ? AND sk >= ? AND sk < ? ORDER BY sk LIMIT ?"
	descItems  = "SELECT sk, item FROM items WHERE pk = ? AND sk >= ? AND sk < ? ORDER BY sk DESC LIMIT ?"
)

// indexSQL are the statements of each index's table.
var indexSQL = func() map[store.Index]struct{ insert, remove, asc, desc string } {
	all := map[store.Index]struct{ insert, remove, asc, desc string }{}
	for _, index := range store.Indexes {
		between := fmt.Sprintf("SELECT isk, pk, sk FROM %s WHERE ipk = ? AND isk >= ? AND isk < ? AND (isk, pk, sk) ", index)
		all[index] = struct{ insert, remove, asc, desc string }{
			insert: fmt.Sprintf("INSERT OR IGNORE INTO %s (ipk, isk, pk, sk) VALUES (?, ?, ?, ?)", index),
			remove: fmt.Sprintf("DELETE FROM %s WHERE ipk = ? AND isk = ? AND pk = ? AND sk = ?", index),
			asc:    between + "> (?, ?, ?) ORDER BY isk, pk, sk LIMIT ?",
			desc:   between + "< (?, ?, ?) ORDER BY isk DESC, pk DESC, sk DESC LIMIT ?",
		}
	}
	return all
}()

// available turns what the disk says into what the port says.
func available(err error) error {
	if isStorage(err) {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}

func textOf(v driver.Value) (string, error) {
	text, ok := v.(string)
	if !ok {
		return "", storageFailed(fmt.Errorf("column of type %T, want text", v))
	}
	return text, nil
}

func (c *conn) get(key store.Key) (it *store.Item, err error) {
	err = c.rows(selectItem, 1, func(row []driver.Value) error {
		text, err := textOf(row[0])
		if err != nil {
			return err
		}
		it, err = decode(key, text)
		return err
	}, key.PK, key.SK)
	return it, err
}

// Get implements store.Table.
func (b *Table) Get(ctx context.Context, key store.Key) (store.Item, error) {
	if err := key.Check(); err != nil {
		return store.Item{}, err
	}
	var it *store.Item
	err := b.db.read(ctx, func(c *conn) (err error) {
		it, err = c.get(key)
		return err
	})
	if err != nil {
		return store.Item{}, available(err)
	}
	if it == nil {
		b.meter.CountGet(store.Item{})
		return store.Item{}, fmt.Errorf("%w: %v", store.ErrNotFound, key)
	}
	b.meter.CountGet(*it)
	return *it, nil
}

// BatchGet implements store.Table.
func (b *Table) BatchGet(ctx context.Context, keys []store.Key) ([]store.Item, error) {
	seen := make(map[store.Key]bool, len(keys))
	distinct := make([]store.Key, 0, len(keys))
	for _, key := range keys {
		if err := key.Check(); err != nil {
			return nil, err
		}
		if !seen[key] {
			seen[key] = true
			distinct = append(distinct, key)
		}
	}
	items := make([]store.Item, 0, len(distinct))
	err := b.db.read(ctx, func(c *conn) error {
		for _, key := range distinct {
			it, err := c.get(key)
			if err != nil {
				return err
			}
			if it != nil {
				items = append(items, *it)
			}
		}
		return nil
	})
	if err != nil {
		return nil, available(err)
	}
	b.meter.CountBatch(len(distinct), items)
	return items, nil
}

// pageBytes is where a page ends, as on DynamoDB.
const pageBytes = 1 << 20

// position is where a page ended. SK is the sort key in the index, Item the item's own key there.
type position struct {
	Index store.Index `json:"i,omitempty"`
	PK    string      `json:"p"`
	SK    string      `json:"s"`
	Item  *store.Key  `json:"k,omitempty"`
}

func (p position) String() string {
	raw, err := json.Marshal(p)
	if err != nil {
		panic("embedded: position: " + err.Error()) // strings always marshal
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func parsePosition(q store.Query) (*position, error) {
	if q.Start == "" {
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(q.Start)
	if err != nil {
		return nil, store.ErrBadStart
	}
	var p position
	if err := json.Unmarshal(raw, &p); err != nil || p.SK == "" {
		return nil, store.ErrBadStart
	}
	if p.Index != q.Index || p.PK != q.PK || (q.Index == "") != (p.Item == nil) {
		return nil, fmt.Errorf("%w: it belongs to another query", store.ErrBadStart)
	}
	return &p, nil
}

// afterAll is larger than any text: SQLite sorts blobs behind it.
var afterAll = []byte{}

// bounds answers the sort keys that a query reads: from lo, up to but not with hi.
func bounds(q store.Query, start *position) (lo string, hi driver.Value) {
	lo, hi = q.From, afterAll
	if q.To != "" {
		hi = q.To + "\x00" // the next text after To
	}
	if q.Prefix != "" {
		lo, hi = q.Prefix, prefixEnd(q.Prefix)
	}
	if start == nil {
		return lo, hi
	}
	// The table goes on behind the start. An index goes on at it: other items may have the same sort key there.
	first, last := start.SK+"\x00", start.SK
	if start.Item != nil {
		first, last = last, first
	}
	if !q.Desc {
		return max(lo, first), hi
	}
	if h, is := hi.(string); !is || last < h {
		hi = last
	}
	return lo, hi
}

// prefixEnd answers the first text, by bytes, after all that begin with prefix. No byte of UTF-8 is 0xff.
func prefixEnd(prefix string) string {
	end := []byte(prefix)
	end[len(end)-1]++
	return string(end)
}

// Query implements store.Table.
func (b *Table) Query(ctx context.Context, q store.Query) (store.Page, error) {
	if err := q.Check(); err != nil {
		return store.Page{}, err
	}
	start, err := parsePosition(q)
	if err != nil {
		return store.Page{}, err
	}
	limit := b.unruly.pageLimit(q.Limit)
	page := store.Page{Items: []store.Item{}}
	err = b.db.read(ctx, func(c *conn) error {
		if q.Index == "" {
			return c.queryItems(q, start, limit, &page)
		}
		return c.queryIndex(q, start, limit, &page)
	})
	if err != nil {
		return store.Page{}, available(err)
	}
	b.meter.CountQuery(q, page.Items)
	return page, nil
}

// more is the SQL limit that shows whether there is something behind a page.
func more(limit int) int64 {
	if limit == 0 {
		return -1
	}
	return int64(limit) + 1
}

func (c *conn) queryItems(q store.Query, start *position, limit int, page *store.Page) error {
	lo, hi := bounds(q, start)
	sql := ascItems
	if q.Desc {
		sql = descItems
	}
	size := 0
	return c.rows(sql, 2, func(row []driver.Value) error {
		if n := len(page.Items); n > 0 && (n == limit || size > pageBytes) {
			page.Next = position{PK: q.PK, SK: page.Items[n-1].SK}.String()
			return errStop
		}
		sk, err := textOf(row[0])
		if err != nil {
			return err
		}
		text, err := textOf(row[1])
		if err != nil {
			return err
		}
		it, err := decode(store.Key{PK: q.PK, SK: sk}, text)
		if err != nil {
			return err
		}
		size += len(text)
		page.Items = append(page.Items, *it)
		return nil
	}, q.PK, lo, hi, more(limit))
}

func (c *conn) queryIndex(q store.Query, start *position, limit int, page *store.Page) error {
	lo, hi := bounds(q, start)
	// Where a page starts, in all three parts of the entry's order.
	sql, from := indexSQL[q.Index].asc, [3]driver.Value{"", "", ""}
	if q.Desc {
		sql, from = indexSQL[q.Index].desc, [3]driver.Value{afterAll, afterAll, afterAll}
	}
	if start != nil {
		from = [3]driver.Value{start.SK, start.Item.PK, start.Item.SK}
	}
	size := 0
	return c.rows(sql, 3, func(row []driver.Value) error {
		if n := len(page.Items); n > 0 && (n == limit || size > pageBytes) {
			last := page.Items[n-1]
			page.Next = position{Index: q.Index, PK: q.PK, SK: last.Index[q.Index].SK, Item: &last.Key}.String()
			return errStop
		}
		var parts [3]string
		for i := range parts {
			var err error
			if parts[i], err = textOf(row[i]); err != nil {
				return err
			}
		}
		size += len(q.PK) + len(parts[0]) + len(parts[1]) + len(parts[2])
		page.Items = append(page.Items, store.Item{
			Key: store.Key{PK: parts[1], SK: parts[2]}, Index: map[store.Index]store.Key{q.Index: {PK: q.PK, SK: parts[0]}},
		})
		return nil
	}, q.PK, lo, hi, from[0], from[1], from[2], more(limit))
}
