// Package store is the port to the one table that holds the state of the plane.
//
// Items are addressed by a partition key and a sort key and may stand in three secondary indexes. A change of state is one conditional
// write that needs no read before it; several writes together are one transaction. The semantics are DynamoDB's, and only those: index
// entries may lag behind their items, pages may end early, transactions may conflict. Adapters are in platform/aws and
// platform/embedded; both pass storetest.
package store

import (
	"context"
	"errors"
	"fmt"
)

// Limits of an adapter's input, as DynamoDB has them.
const (
	// MaxTransaction is the most operations that one Write takes.
	MaxTransaction = 100
	// MaxTransactionBytes is the most that the operations of one Write carry together.
	MaxTransactionBytes = 4 << 20
	// MaxItemBytes is the largest item, names and values together.
	MaxItemBytes = 400 * 1024
	// MaxPK and MaxSK are the longest keys, in bytes, of the table and of an index.
	MaxPK = 2048
	MaxSK = 1024
	// MaxOneOf is the most values of a OneOf.
	MaxOneOf = 100
)

// Key addresses an item: partition and sort key, both non-empty.
type Key struct{ PK, SK string }

func (k Key) String() string { return k.PK + "|" + k.SK }

// Index names a secondary index. The zero Index is the table itself.
type Index string

// The secondary indexes of the table. All project keys only: a query on them answers Key and Index of an item, no attributes.
const (
	// ByTime serves newest-first lists.
	ByTime Index = "by_time"
	// ByDue is sparse: whatever has a deadline puts itself there.
	ByDue Index = "by_due"
	// ByLink serves "all of": the jobs of a trace, the jobs held by a worker.
	ByLink Index = "by_link"
)

// Attrs are the attributes of an item. Values are string, int64, bool or []byte; anything else is refused by Write. Structured values
// are encoded by their domain.
type Attrs map[string]any

// String answers the named string, "" when absent.
func (a Attrs) String(name string) string { s, _ := a[name].(string); return s }

// Int answers the named number, 0 when absent.
func (a Attrs) Int(name string) int64 { n, _ := a[name].(int64); return n }

// Bool answers the named flag, false when absent.
func (a Attrs) Bool(name string) bool { b, _ := a[name].(bool); return b }

// Bytes answers the named bytes, nil when absent.
func (a Attrs) Bytes(name string) []byte { b, _ := a[name].([]byte); return b }

// Item is what is stored under a Key.
type Item struct {
	Key

	// Index holds the item's entries in secondary indexes; an index that is not named does not list the item.
	Index map[Index]Key
	// Expires is when the item may be deleted, in Unix seconds; 0 is never. Deletion comes late (days, on AWS): readers compare it
	// themselves, see Live.
	Expires int64
	Attrs   Attrs
}

// Live says whether an item is still there for a reader at the given Unix second.
func (i Item) Live(unix int64) bool { return i.Expires == 0 || i.Expires > unix }

// Query reads items of one partition in the order of their sort keys.
type Query struct {
	Index Index // the table, or a secondary index
	PK    string
	// Prefix limits the sort key to what begins with it. It excludes From and To.
	Prefix string
	// From and To are inclusive bounds of the sort key; "" is unbounded.
	From, To string
	// Desc reads from the largest sort key down.
	Desc bool
	// Limit is the most items of a page; 0 leaves it to the adapter. A page may hold fewer and still have a Next.
	Limit int
	// Start continues after an earlier page: its Next.
	Start string
	// Eventual allows a read that may miss the newest writes at half the price. Index queries are always eventual.
	Eventual bool
}

// Page is one answer to a Query.
type Page struct {
	Items []Item
	// Next is the opaque position after this page, "" at the end of the partition.
	Next string
}

// Table is the port. All methods may fail with ErrUnavailable (retry later), and with the context's error.
type Table interface {
	// Get reads one item, strongly consistent. An unknown key is ErrNotFound.
	Get(ctx context.Context, key Key) (Item, error)
	// BatchGet reads any number of items, strongly consistent, in the order of the keys; unknown keys are left out, duplicates are
	// answered once.
	BatchGet(ctx context.Context, keys []Key) ([]Item, error)
	// Query reads a page. A Start that no page of this index and partition has answered is ErrBadStart. From after To is an empty page.
	Query(ctx context.Context, q Query) (Page, error)
	// Write applies one operation, or several as one transaction: all or none. A condition that does not hold is a
	// *ConditionError; a collision with a concurrent transaction is ErrConflict and may be tried again. What CheckOps refuses is
	// ErrInvalid or ErrTooLarge; so are adding to what is no number, and an update that makes an item too large. One item may appear only
	// once in a transaction.
	Write(ctx context.Context, ops ...Op) error
	// Update applies one Update operation and answers the item as it is afterwards. Errors are those of Write.
	Update(ctx context.Context, op Op) (Item, error)
}

// What may go wrong beside a *ConditionError.
var (
	ErrNotFound    = errors.New("store: no such item")
	ErrConflict    = errors.New("store: transaction conflict")
	ErrBadStart    = errors.New("store: malformed start of a page")
	ErrInvalid     = errors.New("store: invalid request")
	ErrTooLarge    = errors.New("store: item too large")
	ErrUnavailable = errors.New("store: not available")
)

// ConditionError says that the condition of an operation did not hold; nothing was written.
type ConditionError struct {
	// Op is the position of the first operation whose condition failed.
	Op int
	// Old is that operation's item as it is, nil when there is none.
	Old *Item
}

func (e *ConditionError) Error() string {
	return fmt.Sprintf("store: condition of operation %d does not hold", e.Op)
}
