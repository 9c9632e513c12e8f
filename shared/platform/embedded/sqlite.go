package embedded

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"runtime"

	"modernc.org/sqlite"
)

// The driver is used without database/sql: one connection writes, few read, each holds its statements prepared, and no value goes through
// reflection. That halves the time of a Get.

// conn is one SQLite connection with the statements that were prepared on it. It is used by one goroutine at a time.
type conn struct {
	c     driver.Conn
	stmts map[string]*stmt
}

// stmt is a prepared statement with room for its arguments.
type stmt struct {
	exec  driver.StmtExecContext
	query driver.StmtQueryContext
	close func() error
	args  []driver.NamedValue
}

// storageError is an error of SQLite or of the disk, in contrast to one that an operation deserves.
type storageError struct{ err error }

func (e *storageError) Error() string { return "embedded: " + e.err.Error() }
func (e *storageError) Unwrap() error { return e.err }

// storageFailed marks an error of the driver.
func storageFailed(err error) error {
	if err == nil {
		return nil
	}
	return &storageError{err}
}

func isStorage(err error) bool {
	var failed *storageError
	return errors.As(err, &failed)
}

// bind prepares, or finds prepared, and binds.
func (c *conn) bind(sql string, args []driver.Value) (*stmt, error) {
	s := c.stmts[sql]
	if s == nil {
		prepared, err := c.c.Prepare(sql)
		if err != nil {
			return nil, storageFailed(fmt.Errorf("%s: %w", sql, err))
		}
		s = &stmt{close: prepared.Close}
		s.exec, _ = prepared.(driver.StmtExecContext)
		s.query, _ = prepared.(driver.StmtQueryContext)
		c.stmts[sql] = s
	}
	s.args = s.args[:0]
	for i, v := range args {
		s.args = append(s.args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return s, nil
}

// exec runs a statement. Contexts stay outside: cancelling one would cost the driver a goroutine for each call.
func (c *conn) exec(sql string, args ...driver.Value) error {
	s, err := c.bind(sql, args)
	if err != nil {
		return err
	}
	_, err = s.exec.ExecContext(context.Background(), s.args)
	return storageFailed(err)
}

// errStop ends rows early without an error.
var errStop = errors.New("enough")

// rows hands each row of a query to f, which may keep the values but not the slice. f ends it with errStop.
func (c *conn) rows(sql string, columns int, f func(row []driver.Value) error, args ...driver.Value) (err error) {
	s, err := c.bind(sql, args)
	if err != nil {
		return err
	}
	rows, err := s.query.QueryContext(context.Background(), s.args)
	if err != nil {
		return storageFailed(err)
	}
	defer func() {
		if e := rows.Close(); err == nil {
			err = storageFailed(e)
		}
	}()
	row := make([]driver.Value, columns)
	for {
		if err := rows.Next(row); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return storageFailed(err)
		}
		if err := f(row); errors.Is(err, errStop) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.close())
	}
	return storageFailed(errors.Join(append(errs, c.c.Close())...))
}

// Sizes of SQLite's caches: pages of what is read often, and how far the log grows before it is moved into the file, in pages of 4 KB.
const (
	writerCacheKB  = 64 << 10
	readerCacheKB  = 16 << 10
	checkpointSize = 8192
)

// open opens a connection; file "" is a database in memory of its own.
func open(file, sync string, cacheKB int) (*conn, error) {
	dsn := ":memory:"
	if file != "" {
		dsn = (&url.URL{Scheme: "file", Path: filepath.ToSlash(file)}).String()
	}
	raw, err := (&sqlite.Driver{}).Open(dsn)
	if err != nil {
		return nil, storageFailed(err)
	}
	c := &conn{c: raw, stmts: map[string]*stmt{}}
	for _, pragma := range []string{
		"busy_timeout = 5000", "journal_mode = WAL", "synchronous = " + sync, fmt.Sprintf("cache_size = -%d", cacheKB),
		fmt.Sprintf("wal_autocheckpoint = %d", checkpointSize), "temp_store = MEMORY",
	} {
		// journal_mode answers a row, which exec passes over.
		if err := c.exec("PRAGMA " + pragma); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
}

// database is the writer's connection and those of the readers. In memory they are one and the same, and take turns.
type database struct {
	writer  *conn
	readers chan *conn
	opened  int // readers
	closed  chan struct{}
}

// schema: items hold their attributes as one JSON object, the way DynamoDB would show them; entries of an index are rows of their own, in
// the order that queries read them. Items have a rowid: their keys are random, and spreading whole items over the file by key made a put
// twice as dear as spreading an index of keys.
var schema = []string{
	`CREATE TABLE IF NOT EXISTS items (pk TEXT NOT NULL, sk TEXT NOT NULL, item TEXT NOT NULL, PRIMARY KEY (pk, sk))`,
	`CREATE TABLE IF NOT EXISTS by_time (ipk TEXT, isk TEXT, pk TEXT, sk TEXT, PRIMARY KEY (ipk, isk, pk, sk)) WITHOUT ROWID`,
	`CREATE TABLE IF NOT EXISTS by_due (ipk TEXT, isk TEXT, pk TEXT, sk TEXT, PRIMARY KEY (ipk, isk, pk, sk)) WITHOUT ROWID`,
	`CREATE TABLE IF NOT EXISTS by_link (ipk TEXT, isk TEXT, pk TEXT, sk TEXT, PRIMARY KEY (ipk, isk, pk, sk)) WITHOUT ROWID`,
	`CREATE TABLE IF NOT EXISTS queues (name TEXT PRIMARY KEY, definition TEXT NOT NULL) WITHOUT ROWID`,
	`CREATE TABLE IF NOT EXISTS messages (
		id INTEGER PRIMARY KEY, queue TEXT NOT NULL, body TEXT NOT NULL, grp TEXT NOT NULL, dedup TEXT NOT NULL,
		sent INTEGER NOT NULL, due INTEGER NOT NULL, receives INTEGER NOT NULL)`,
}

func openDatabase(file, sync string) (*database, error) {
	w, err := open(file, sync, writerCacheKB)
	if err != nil {
		return nil, err
	}
	for _, sql := range schema {
		if err := w.exec(sql); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	n := max(2, min(runtime.GOMAXPROCS(0), 8))
	db := &database{writer: w, readers: make(chan *conn, n), closed: make(chan struct{})}
	if file == "" {
		db.readers <- w
		db.opened = 1
		return db, nil
	}
	for range n {
		r, err := open(file, sync, readerCacheKB)
		if err != nil {
			return nil, errors.Join(err, db.close())
		}
		db.readers <- r
		db.opened++
	}
	return db, nil
}

// errClosed is a storageError, so that callers see ErrUnavailable.
var errClosed = &storageError{errors.New("closed")}

// read lends a connection to f.
func (db *database) read(ctx context.Context, f func(*conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case c := <-db.readers:
		defer func() { db.readers <- c }()
		return f(c)
	case <-ctx.Done():
		return ctx.Err()
	case <-db.closed:
		return errClosed
	}
}

// write lends the writer's connection to f.
func (db *database) write(f func(*conn) error) error {
	if db.opened == 1 { // in memory
		c := <-db.readers
		defer func() { db.readers <- c }()
	}
	return f(db.writer)
}

// close waits for readers. The writer has ended before.
func (db *database) close() error {
	close(db.closed)
	var errs []error
	for range db.opened {
		if c := <-db.readers; c != db.writer {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(append(errs, db.writer.close())...)
}
