package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// childDir is where the child of the crash test writes; "" in the test itself.
func childDir() string { return os.Getenv("CORDUM_TEST_CRASH_DIR") }

const crashQueue = "crash"

func ensureCrashQueue(q queue.Queues) error {
	return q.Ensure(context.Background(), queue.Def{Name: crashQueue, Visibility: time.Minute, Retention: time.Hour})
}

// child writes as fast as it can, and says on standard output what was acknowledged, until it is killed.
func child() {
	p, err := embedded.Open(childDir(), embedded.Options{})
	if err == nil {
		err = ensureCrashQueue(p.Queues())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format, args...)
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%d-%d-%d", os.Getpid(), worker, i)
				if err := writeAll(p, name); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				say("%s\n", name)
			}
		})
	}
	wg.Wait()
}

// writeAll puts an item with an index entry, two more in a transaction, a message and a blob.
func writeAll(p *embedded.Platform, name string) error {
	ctx := context.Background()
	key := store.Key{PK: "item", SK: name}
	pair := []store.Op{store.Put(store.Item{Key: store.Key{PK: "left", SK: name}}), store.Put(store.Item{Key: store.Key{PK: "right", SK: name}})}
	return errors.Join(
		p.Table().Write(ctx, store.Put(store.Item{
			Key: key, Index: map[store.Index]store.Key{store.ByTime: {PK: "all", SK: name}}, Attrs: store.Attrs{"n": int64(0)},
		}).If(store.NotExists())),
		p.Table().Write(ctx, store.Update(key).AddInt("n", 1)),
		p.Table().Write(ctx, pair...),
		p.Queues().Send(ctx, crashQueue, queue.Message{Body: name}),
		p.Blobs().Put(ctx, "crash/"+name, []byte(name), blob.PutOptions{}),
	)
}

// killMidWrite runs a child until it has acknowledged n rounds, kills it, and answers all that it acknowledged.
func killMidWrite(t *testing.T, dir string, n int) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CORDUM_TEST_CRASH_DIR="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged []string
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // killed; an unfinished line was not acknowledged
		}
		if acknowledged = append(acknowledged, strings.TrimSpace(line)); len(acknowledged) == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || len(acknowledged) < n {
		t.Fatalf("child ended by itself: %v, after %d rounds", err, len(acknowledged))
	}
	return acknowledged
}

func TestKilledMidWrite(t *testing.T) {
	dir := t.TempDir()
	var acknowledged []string
	for round := range 4 {
		acknowledged = append(acknowledged, killMidWrite(t, dir, 50+150*round)...)
		checkSurvivors(t, dir, acknowledged)
	}
}

func checkSurvivors(t *testing.T, dir string, acknowledged []string) {
	t.Helper()
	p, err := embedded.Open(dir, embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx := t.Context()
	indexed, lefts, rights := keys(t, p, store.Query{Index: store.ByTime, PK: "all"}), keys(t, p, store.Query{PK: "left"}), keys(t, p, store.Query{PK: "right"})
	depth, err := p.Queues().Depth(ctx, crashQueue)
	if err != nil || depth < len(acknowledged) {
		t.Fatalf("%d messages of %d, %v", depth, len(acknowledged), err)
	}
	for _, name := range acknowledged {
		it, err := p.Table().Get(ctx, store.Key{PK: "item", SK: name})
		if err != nil || it.Attrs.Int("n") != 1 {
			t.Fatalf("item %s: %+v, %v", name, it, err)
		}
		if !indexed[name] || !lefts[name] || !rights[name] {
			t.Fatalf("%s: in the index %v, left %v, right %v", name, indexed[name], lefts[name], rights[name])
		}
		if data, _, err := p.Blobs().Get(ctx, "crash/"+name, 0); err != nil || string(data) != name {
			t.Fatalf("blob %s: %q, %v", name, data, err)
		}
	}
	if len(lefts) != len(rights) {
		t.Fatalf("half a transaction: %d and %d", len(lefts), len(rights))
	}
}

// keys answers the sort keys of the items of a query.
func keys(t *testing.T, p *embedded.Platform, q store.Query) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for {
		page, err := p.Table().Query(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range page.Items {
			found[it.SK] = true
		}
		if page.Next == "" {
			return found
		}
		q.Start = page.Next
	}
}
