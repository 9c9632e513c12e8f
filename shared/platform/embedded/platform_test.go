package embedded_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	_ "modernc.org/sqlite" // any client reads the file

	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/push"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

func put(t testing.TB, table *embedded.Table, it store.Item) {
	t.Helper()
	if err := table.Write(t.Context(), store.Put(it)); err != nil {
		t.Fatal(err)
	}
}

// reopen closes and opens again.
func reopen(t *testing.T, p *embedded.Platform, dir string) *embedded.Platform {
	t.Helper()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := embedded.Open(dir, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func openDir(t *testing.T) (*embedded.Platform, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "made", "as needed?#%")
	p, err := embedded.Open(dir, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p, dir
}

func TestDirectoryBelongsToOneProcess(t *testing.T) {
	p, dir := openDir(t)
	_, err := embedded.Open(dir, embedded.Options{})
	if !errors.Is(err, embedded.ErrInUse) {
		t.Fatalf("got %v, want ErrInUse", err)
	}
	for _, part := range []string{dir, strconv.Itoa(os.Getpid()), "another directory"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not name %q", err, part)
		}
	}
	p = reopen(t, p, dir)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "cordum.db"), []byte(strings.Repeat("this is no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir  string
		opts embedded.Options
	}{
		"unknown sync":        {"", embedded.Options{Sync: "sometimes"}},
		"URL without host":    {"", embedded.Options{BlobURL: "/blobs"}},
		"directory is a file": {file, embedded.Options{}},
		"not a database":      {broken, embedded.Options{}},
	} {
		if p, err := embedded.Open(c.dir, c.opts); err == nil {
			t.Errorf("%s: opened; closing: %v", name, p.Close())
		}
	}
}

func TestEverythingSurvivesReopening(t *testing.T) {
	p, dir := openDir(t)
	ctx := t.Context()
	want := store.Item{
		Key: store.Key{PK: "p\x00ż", SK: "s"}, Expires: 4102444800, Index: map[store.Index]store.Key{store.ByDue: {PK: "d", SK: "1"}},
		Attrs: store.Attrs{"a": "b", "raw": []byte{0, 255}},
	}
	put(t, p.Table(), want)
	if err := p.Blobs().Put(ctx, "a/b", []byte("blob"), blob.PutOptions{Class: "audit"}); err != nil {
		t.Fatal(err)
	}
	p = reopen(t, p, dir)
	defer p.Close()
	got, err := p.Table().Get(ctx, want.Key)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %+v, %v", got, err)
	}
	page, err := p.Table().Query(ctx, store.Query{Index: store.ByDue, PK: "d"})
	if err != nil || len(page.Items) != 1 || page.Items[0].Key != want.Key {
		t.Fatalf("got %+v, %v", page, err)
	}
	if data, o, err := p.Blobs().Get(ctx, "a/b", 0); err != nil || string(data) != "blob" || o.Class != "audit" {
		t.Fatalf("got %q %+v, %v", data, o, err)
	}
}

// TestAnyClientReadsTheFile reads an attribute as the documentation says.
func TestAnyClientReadsTheFile(t *testing.T) {
	p, dir := openDir(t)
	put(t, p.Table(), store.Item{Key: store.Key{PK: "JOB#1", SK: "S"}, Attrs: store.Attrs{"st": "RUNNING", "labels": []byte(`{"a":"b"}`)}})
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: filepath.Join(dir, "cordum.db")}).String())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var state, labels string
	err = db.QueryRow(`SELECT item ->> 'st', item ->> '$.labels.text' FROM items WHERE pk = 'JOB#1'`).Scan(&state, &labels)
	if err != nil || state != "RUNNING" || labels != `{"a":"b"}` {
		t.Fatalf("got %q %q, %v", state, labels, err)
	}
}

func ensure(t testing.TB, q *embedded.Queues, defs ...queue.Def) {
	t.Helper()
	if err := q.Ensure(t.Context(), defs...); err != nil {
		t.Fatal(err)
	}
}

func send(t testing.TB, q *embedded.Queues, name string, msgs ...queue.Message) {
	t.Helper()
	if err := q.Send(t.Context(), name, msgs...); err != nil {
		t.Fatal(err)
	}
}

func receive(t testing.TB, q *embedded.Queues, name string, most int) []queue.Received {
	t.Helper()
	msgs, err := q.Receive(t.Context(), name, most, 0, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return msgs
}

func TestQueuesSurviveReopening(t *testing.T) {
	p, dir := openDir(t)
	ctx := t.Context()
	ensure(
		t, p.Queues(), queue.Def{Name: "dead", Visibility: time.Minute, Retention: time.Hour},
		queue.Def{Name: "q", Visibility: time.Minute, Retention: time.Hour, MaxReceives: 3, DeadLetter: "dead"},
		queue.Def{Name: "f.fifo", FIFO: true, Visibility: time.Minute, Retention: time.Hour},
	)
	send(t, p.Queues(), "q", queue.Message{Body: "handled"}, queue.Message{Body: "held"}, queue.Message{Body: "waits"})
	send(t, p.Queues(), "q", queue.Message{Body: "delayed", Delay: queue.MaxDelay})
	for i := range 5 {
		send(t, p.Queues(), "f.fifo", queue.Message{Body: fmt.Sprint(i), Group: "g", Dedup: fmt.Sprint(i)})
	}
	held := receive(t, p.Queues(), "q", 2)
	if err := p.Queues().Delete(ctx, "q", held[0].Receipt); err != nil {
		t.Fatal(err)
	}

	p = reopen(t, p, dir)
	defer p.Close()
	if n, err := p.Queues().Depth(ctx, "q"); err != nil || n != 3 {
		t.Fatalf("got %d messages, %v", n, err)
	}
	if err := p.Queues().Delete(ctx, "q", held[1].Receipt); err != nil { // of another life: it stands for nothing
		t.Fatal(err)
	}
	again := receive(t, p.Queues(), "q", 10)
	if len(again) != 2 || again[0].Body != "held" || again[0].Receives != 2 || again[0].ID != held[1].ID || again[1].Body != "waits" {
		t.Fatalf("got %+v", again)
	}
	send(t, p.Queues(), "f.fifo", queue.Message{Body: "known already", Group: "g", Dedup: "3"})
	order := receive(t, p.Queues(), "f.fifo", 10)
	if len(order) != 5 || order[0].Body != "0" || order[4].Body != "4" {
		t.Fatalf("got %+v", order)
	}
}

func TestDeadLettersSurviveReopening(t *testing.T) {
	p, dir := openDir(t)
	ensure(
		t, p.Queues(), queue.Def{Name: "dead", Visibility: time.Minute, Retention: time.Hour},
		queue.Def{Name: "q", Visibility: time.Minute, Retention: time.Hour, MaxReceives: 1, DeadLetter: "dead"},
	)
	send(t, p.Queues(), "q", queue.Message{Body: "poison"})
	m := receive(t, p.Queues(), "q", 1)[0]
	if err := p.Queues().Extend(t.Context(), "q", m.Receipt, 0); err != nil {
		t.Fatal(err)
	}
	p = reopen(t, p, dir)
	defer p.Close()
	if got := receive(t, p.Queues(), "dead", 1); len(got) != 1 || got[0].Body != "poison" {
		t.Fatalf("got %+v", got)
	}
	if got := receive(t, p.Queues(), "q", 1); len(got) != 0 {
		t.Fatalf("got %+v", got)
	}
}

// TestOneRefusalConcernsNobodyElse has writes that are refused in the same groups as writes that are not.
func TestOneRefusalConcernsNobodyElse(t *testing.T) {
	table := open(t, t.TempDir(), embedded.Options{}).Table()
	ctx := t.Context()
	put(t, table, store.Item{Key: store.Key{PK: "there", SK: "s"}, Attrs: store.Attrs{"text": "x"}})
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := range 50 {
				good := store.Put(store.Item{Key: store.Key{PK: "good", SK: fmt.Sprintf("%d-%d", worker, i)}})
				var failed *store.ConditionError
				var err error
				switch i % 4 {
				case 0:
					err = table.Write(ctx, good, store.Check(store.Key{PK: "there", SK: "s"}, store.NotExists()))
					if !errors.As(err, &failed) || failed.Op != 1 {
						t.Errorf("got %v, want a ConditionError", err)
					}
				case 1:
					err = table.Write(ctx, good, store.Update(store.Key{PK: "there", SK: "s"}).AddInt("text", 1))
					if !errors.Is(err, store.ErrInvalid) {
						t.Errorf("got %v, want ErrInvalid", err)
					}
				default:
					if err = table.Write(ctx, good); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	n, q := 0, store.Query{PK: "good", Limit: 100}
	for {
		page, err := table.Query(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		n += len(page.Items)
		if q.Start = page.Next; q.Start == "" {
			break
		}
	}
	if n != 16*24 { // of 50, those numbered 2 or 3 modulo 4
		t.Fatalf("%d items, want %d", n, 16*24)
	}
}

func TestCloseEndsWhatWaits(t *testing.T) {
	p, err := embedded.Open("", embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ensure(t, p.Queues(), queue.Def{Name: "q", Visibility: time.Minute, Retention: time.Hour})
	ended := make(chan error)
	go func() {
		_, err := p.Queues().Receive(context.Background(), "q", 1, queue.MaxWait, 0)
		ended <- err
	}()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, queue.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	ctx := t.Context()
	key := store.Key{PK: "p", SK: "s"}
	_, get := p.Table().Get(ctx, key)
	_, query := p.Table().Query(ctx, store.Query{PK: "p"})
	for name, err := range map[string]error{"get": get, "query": query, "write": p.Table().Write(ctx, store.Delete(key))} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", name, err)
		}
	}
	if err := p.Queues().Send(ctx, "q", queue.Message{Body: "m"}); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("send: got %v, want ErrUnavailable", err)
	}
}

func TestExpiredItemsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := open(t, "", embedded.Options{}).Table()
		now := time.Now()
		const n = 1200 // several steps
		for i := range n {
			it := store.Item{Key: store.Key{PK: fmt.Sprint(i % 7), SK: fmt.Sprint(i)}, Index: map[store.Index]store.Key{store.ByLink: {PK: "l", SK: "s"}}}
			switch i % 3 {
			case 0:
				it.Expires = now.Add(30 * time.Minute).Unix()
			case 1:
				it.Expires = now.Add(30 * time.Hour).Unix()
			}
			put(t, table, it)
		}
		count := func() int {
			total := 0
			for pk := range 7 {
				page, err := table.Query(t.Context(), store.Query{PK: fmt.Sprint(pk)})
				if err != nil {
					t.Fatal(err)
				}
				total += len(page.Items)
			}
			return total
		}
		time.Sleep(59 * time.Minute)
		if got := count(); got != n {
			t.Fatalf("%d items before the first pass, want %d: deletion comes late", got, n)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := count(); got != n*2/3 {
			t.Fatalf("%d items, want %d", got, n*2/3)
		}
		page, err := table.Query(t.Context(), store.Query{Index: store.ByLink, PK: "l"})
		if err != nil || len(page.Items) != n*2/3 {
			t.Fatalf("%d entries, %v", len(page.Items), err)
		}
		time.Sleep(31 * time.Hour)
		synctest.Wait()
		if got := count(); got != n/3 {
			t.Fatalf("%d items, want %d", got, n/3)
		}
	})
}

func TestMeter(t *testing.T) {
	m := &store.Meter{}
	table := open(t, "", embedded.Options{Meter: m}).Table()
	ctx := t.Context()
	key := store.Key{PK: "p", SK: "s"}
	entry := func(sk string) map[store.Index]store.Key {
		return map[store.Index]store.Key{store.ByTime: {PK: "t", SK: sk}}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		do   func()
		want store.Usage
	}{
		{"put with an entry", func() { must(table.Write(ctx, store.Put(store.Item{Key: key, Index: entry("1")}))) }, store.Usage{Writes: 1, WriteUnits: 2}},
		{"update", func() { must(table.Write(ctx, store.Update(key).SetAttr("a", "b"))) }, store.Usage{Writes: 1, WriteUnits: 1}},
		{"grow", func() { must(table.Write(ctx, store.Update(key).SetAttr("a", strings.Repeat("x", 3000)))) }, store.Usage{Writes: 1, WriteUnits: 3}},
		{"move", func() { must(table.Write(ctx, store.Update(key).Move(store.ByTime, store.Key{PK: "t", SK: "2"}))) }, store.Usage{Writes: 1, WriteUnits: 5}},
		{"refused", func() { _ = table.Write(ctx, store.Update(key).SetAttr("b", "c").If(store.NotExists())) }, store.Usage{Writes: 1, WriteUnits: 3}},
		{"refused as invalid", func() { _ = table.Write(ctx, store.Update(store.Key{})) }, store.Usage{}},
		{"transaction", func() {
			must(table.Write(ctx, store.Check(key, store.Exists()), store.Put(store.Item{Key: store.Key{PK: "p", SK: "t"}})))
		}, store.Usage{Writes: 1, WriteUnits: 8}},
		{"get", func() { _, err := table.Get(ctx, key); must(err) }, store.Usage{Reads: 1, ReadUnits: 1}},
		{"get of nothing", func() { _, _ = table.Get(ctx, store.Key{PK: "p", SK: "none"}) }, store.Usage{Reads: 1, ReadUnits: 1}},
		{"query", func() { _, err := table.Query(ctx, store.Query{PK: "p"}); must(err) }, store.Usage{Reads: 1, ReadUnits: 1}},
		{"index query", func() { _, err := table.Query(ctx, store.Query{Index: store.ByTime, PK: "t"}); must(err) }, store.Usage{Reads: 1, ReadUnits: 0.5}},
		{"batch", func() { _, err := table.BatchGet(ctx, []store.Key{key, {PK: "p", SK: "t"}}); must(err) }, store.Usage{Reads: 1, ReadUnits: 2}},
		{"delete", func() { must(table.Write(ctx, store.Delete(key))) }, store.Usage{Writes: 1, WriteUnits: 4}},
	} {
		before := m.Read()
		c.do()
		if got := m.Read().Since(before); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestWithoutBlobURLNothingIsPresigned(t *testing.T) {
	blobs := open(t, "", embedded.Options{}).Blobs()
	if url, err := blobs.PresignGet(t.Context(), "a", time.Minute); !errors.Is(err, blob.ErrUnavailable) {
		t.Fatalf("got %q, %v; want ErrUnavailable", url, err)
	}
}

// TestPagesMayUseTheirURLs: a browser asks before it uploads.
func TestPagesMayUseTheirURLs(t *testing.T) {
	blobs := open(t, "", embedded.Options{BlobURL: "http://localhost/blobs"}).Blobs()
	for method, status := range map[string]int{http.MethodOptions: http.StatusNoContent, http.MethodPut: http.StatusForbidden} {
		w := httptest.NewRecorder()
		blobs.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "/blobs/a", nil))
		if w.Code != status || w.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %v", method, w.Code, w.Header())
		}
	}
}

func TestConnectionThatFailsIsGone(t *testing.T) {
	c := open(t, "", embedded.Options{}).Connections()
	calls := 0
	c.Register("a", func(context.Context, []byte) error {
		calls++
		return errors.New("broken pipe")
	}, func(push.Reason) {})
	for range 2 {
		if err := c.Post(t.Context(), "a", []byte("x")); !errors.Is(err, push.ErrGone) {
			t.Fatalf("got %v, want ErrGone", err)
		}
	}
	if calls != 1 {
		t.Fatalf("sent %d times to a connection that is gone", calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.Register("slow", func(ctx context.Context, _ []byte) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}, func(push.Reason) {})
	if err := c.Post(ctx, "slow", []byte("x")); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context.Canceled", err)
	}
}
