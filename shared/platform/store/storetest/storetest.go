// Package storetest is what every store.Table must do, as tests: two lines per adapter. It asserts what DynamoDB guarantees and no more:
// index entries may lag, pages may end early, a write may collide with a transaction and be tried again.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// Run tests a table in real time. open is called once for each subtest, in parallel, and may answer the same table every time: the subtests
// use partitions of their own. What open starts it ends with t.Cleanup.
func Run(t *testing.T, open func(t testing.TB) store.Table) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(newSuite(t, open(t)))
		})
	}
}

// RunVirtual tests a table in virtual time: every subtest runs in a testing/synctest bubble of its own, open inside it.
func RunVirtual(t *testing.T, open func(t testing.TB) store.Table) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.run(newSuite(t, open(t))) })
		})
	}
}

type testCase struct {
	name string
	run  func(*suite)
}

func cases() []testCase {
	return slices.Concat(itemCases, conditionCases, updateCases, transactionCases, indexCases, queryCases, limitCases, concurrentCases)
}

// suite is one subtest on a table, in partitions of its own.
type suite struct {
	*testing.T

	table  store.Table
	prefix string
}

func newSuite(t *testing.T, table store.Table) *suite {
	return &suite{T: t, table: table, prefix: "test-" + ids.Source{}.Hex(8) + "-"}
}

func (s *suite) ctx() context.Context { return s.Context() }

// key answers a key in one of the subtest's partitions.
func (s *suite) key(pk, sk string) store.Key { return store.Key{PK: s.prefix + pk, SK: sk} }

// conflictTries is how often a write that collided is tried again; adapters may collide now and then, not always.
const conflictTries = 50

// write tries again what collided.
func (s *suite) write(ops ...store.Op) error {
	var err error
	for n := range conflictTries {
		if err = s.table.Write(s.ctx(), ops...); !errors.Is(err, store.ErrConflict) {
			return err
		}
		time.Sleep(time.Duration(n) * time.Millisecond)
	}
	return err
}

func (s *suite) mustWrite(ops ...store.Op) {
	s.Helper()
	if err := s.write(ops...); err != nil {
		s.Fatalf("write: %v", err)
	}
}

// update tries again what collided.
func (s *suite) update(op store.Op) (store.Item, error) {
	for n := range conflictTries {
		it, err := s.table.Update(s.ctx(), op)
		if !errors.Is(err, store.ErrConflict) {
			return it, err
		}
		time.Sleep(time.Duration(n) * time.Millisecond)
	}
	return store.Item{}, store.ErrConflict
}

func (s *suite) mustUpdate(op store.Op) store.Item {
	s.Helper()
	it, err := s.update(op)
	if err != nil {
		s.Fatalf("update: %v", err)
	}
	return it
}

// put stores an item with attributes alone.
func (s *suite) put(key store.Key, attrs store.Attrs) store.Item {
	s.Helper()
	it := store.Item{Key: key, Attrs: attrs}
	s.mustWrite(store.Put(it))
	return it
}

func (s *suite) mustGet(key store.Key) store.Item {
	s.Helper()
	it, err := s.table.Get(s.ctx(), key)
	if err != nil {
		s.Fatalf("get %v: %v", key, err)
	}
	return it
}

func (s *suite) wantAbsent(key store.Key) {
	s.Helper()
	if it, err := s.table.Get(s.ctx(), key); !errors.Is(err, store.ErrNotFound) {
		s.Fatalf("get %v: got %+v, %v; want ErrNotFound", key, it, err)
	}
}

func (s *suite) wantItem(want store.Item) {
	s.Helper()
	s.same(s.mustGet(want.Key), want)
}

// same compares items as a reader sees them: absent and empty maps are one, and so are nil and empty bytes.
func (s *suite) same(got, want store.Item) {
	s.Helper()
	if diff := difference(got, want); diff != "" {
		s.Fatal(diff)
	}
}

func difference(got, want store.Item) string {
	got, want = normal(got), normal(want)
	if reflect.DeepEqual(got, want) {
		return ""
	}
	return fmt.Sprintf("got  %#v\nwant %#v", got, want)
}

func normal(it store.Item) store.Item {
	attrs := store.Attrs{}
	for name, v := range it.Attrs {
		if b, ok := v.([]byte); ok {
			v = append([]byte{}, b...)
		}
		attrs[name] = v
	}
	it.Attrs = attrs
	index := map[store.Index]store.Key{}
	for name, k := range it.Index {
		if k != (store.Key{}) {
			index[name] = k
		}
	}
	it.Index = index
	return it
}

// wantError checks that nothing was written and why.
func (s *suite) wantError(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("got %v, want %v", err, want)
	}
}

// wantFailed checks a *ConditionError; old is nil when the item must be absent.
func (s *suite) wantFailed(err error, op int, old *store.Item) {
	s.Helper()
	var failed *store.ConditionError
	if !errors.As(err, &failed) {
		s.Fatalf("got %v, want a ConditionError", err)
	}
	if failed.Op != op {
		s.Fatalf("failed operation: got %d, want %d", failed.Op, op)
	}
	switch {
	case old == nil && failed.Old == nil:
	case old == nil || failed.Old == nil:
		s.Fatalf("old item: got %+v, want %+v", failed.Old, old)
	default:
		s.same(*failed.Old, *old)
	}
}

// lag is how long an index may take; real ones take milliseconds.
const lag = 30 * time.Second

// eventually tries check until it answers "".
func (s *suite) eventually(check func() string) {
	s.Helper()
	var problem string
	pause := time.Millisecond
	for start := time.Now(); time.Since(start) < lag; {
		if problem = check(); problem == "" {
			return
		}
		time.Sleep(pause)
		pause = min(2*pause, 200*time.Millisecond)
	}
	s.Fatalf("still so after %v: %s", lag, problem)
}

// all reads a query to its end, and checks on the way that no page is larger than its limit.
func (s *suite) all(q store.Query) []store.Item {
	s.Helper()
	items, err := s.readAll(q)
	if err != nil {
		s.Fatalf("query %+v: %v", q, err)
	}
	return items
}

// maxPages ends a query that never ends.
const maxPages = 10_000

func (s *suite) readAll(q store.Query) ([]store.Item, error) {
	var items []store.Item
	for range maxPages {
		page, err := s.table.Query(s.ctx(), q)
		if err != nil {
			return nil, err
		}
		if q.Limit > 0 && len(page.Items) > q.Limit {
			return nil, fmt.Errorf("page of %d items, limit %d", len(page.Items), q.Limit)
		}
		items = append(items, page.Items...)
		if page.Next == "" {
			return items, nil
		}
		q.Start = page.Next
	}
	return nil, errors.New("query without end")
}

func sortKeys(items []store.Item) []string {
	keys := make([]string, len(items))
	for i, it := range items {
		keys[i] = it.SK
	}
	return keys
}

func (s *suite) wantSortKeys(q store.Query, want ...string) {
	s.Helper()
	if got := sortKeys(s.all(q)); !slices.Equal(got, want) {
		s.Fatalf("query %+v:\ngot  %q\nwant %q", q, got, want)
	}
}

// wantIndex waits until an index partition lists exactly these items in this order, each with its entry.
func (s *suite) wantIndex(q store.Query, want ...store.Item) {
	s.Helper()
	s.eventually(func() string {
		got, err := s.readAll(q)
		if err != nil {
			return err.Error()
		}
		if len(got) != len(want) {
			return fmt.Sprintf("got %d entries, want %d: %v", len(got), len(want), got)
		}
		for i := range want {
			entry := store.Item{Key: want[i].Key, Index: maps.Clone(want[i].Index)}
			maps.DeleteFunc(entry.Index, func(i store.Index, _ store.Key) bool { return i != q.Index })
			if diff := difference(got[i], entry); diff != "" {
				return diff
			}
		}
		return ""
	})
}
