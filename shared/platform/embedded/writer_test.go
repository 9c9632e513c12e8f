package embedded

import (
	"database/sql/driver"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// TestStorageFailureFailsTheGroup has SQLite refuse a statement in the middle of a group.
func TestStorageFailureFailsTheGroup(t *testing.T) {
	p, err := Open("", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx := t.Context()
	key := func(sk string) store.Key { return store.Key{PK: "p", SK: sk} }

	// The first request holds the writer until the others wait behind it, so that they are one group.
	holding, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.w.do(ctx, func(*txn) error { close(holding); <-release; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-holding
	wg.Go(func() {
		if err := p.Table().Write(ctx, store.Put(store.Item{Key: key("in the group")})); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	})
	wg.Go(func() {
		err := p.w.do(ctx, func(tx *txn) error {
			return errors.Join(tx.exec(insertItem, "p", "half done", "{}"), tx.exec("INSERT INTO nowhere VALUES (1)"))
		})
		if !isStorage(err) {
			t.Errorf("got %v, want a storageError", err)
		}
	})
	for len(p.w.requests) < 2 {
		runtime.Gosched()
	}
	close(release)
	wg.Wait()

	for _, sk := range []string{"in the group", "half done"} {
		if it, err := p.Table().Get(ctx, key(sk)); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: got %+v, %v", sk, it, err)
		}
	}
	if err := p.Table().Write(ctx, store.Put(store.Item{Key: key("afterwards")})); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestIndexQueriesAreSearches: a page deep in a partition costs what the first one does.
func TestIndexQueriesAreSearches(t *testing.T) {
	db, err := openDatabase("", "NORMAL")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.close(); err != nil {
			t.Error(err)
		}
	}()
	statements := []string{ascItems, descItems, selectItem, scanItems}
	for _, sql := range indexSQL {
		statements = append(statements, sql.asc, sql.desc)
	}
	for _, sql := range statements {
		for _, step := range plan(t, db.writer, sql) {
			if !strings.HasPrefix(step, "SEARCH") {
				t.Errorf("%s: %s", sql, step)
			}
		}
	}
}

// plan answers how SQLite runs a statement.
func plan(t *testing.T, c *conn, sql string) []string {
	t.Helper()
	var steps []string
	args := make([]driver.Value, strings.Count(sql, "?"))
	err := c.rows("EXPLAIN QUERY PLAN "+sql, 4, func(row []driver.Value) error {
		step, err := textOf(row[3])
		steps = append(steps, step)
		return err
	}, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(sql, steps)
	return steps
}
