package embedded_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// TestUnrulyTakesEveryFreedom: a mode that misbehaves in theory alone would prove nothing.
func TestUnrulyTakesEveryFreedom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, "", embedded.Options{Unruly: 7})
		seen := map[string]int{}
		watchTable(t, p.Table(), seen)
		watchQueue(t, p.Queues(), seen)
		for _, freedom := range []string{
			"transaction conflicts", "write conflicts", "index lags", "page ends early", "receive is empty", "message comes twice", "out of order",
		} {
			if seen[freedom] == 0 {
				t.Errorf("never: %s", freedom)
			}
		}
	})
}

func watchTable(t *testing.T, table *embedded.Table, seen map[string]int) {
	t.Helper()
	ctx := t.Context()
	for i := range 300 {
		it := store.Item{Key: store.Key{PK: "p", SK: fmt.Sprintf("%03d", i)}, Index: map[store.Index]store.Key{store.ByTime: {PK: fmt.Sprint(i), SK: "s"}}}
		if err := table.Write(ctx, store.Put(it), store.Delete(store.Key{PK: "q", SK: "s"})); errors.Is(err, store.ErrConflict) {
			seen["transaction conflicts"]++
		}
		if err := table.Write(ctx, store.Put(it)); errors.Is(err, store.ErrConflict) {
			seen["write conflicts"]++
		}
		page, err := table.Query(ctx, store.Query{Index: store.ByTime, PK: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Items) == 0 {
			seen["index lags"]++
		}
		page, err = table.Query(ctx, store.Query{PK: "p", Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Items) < 10 && page.Next != "" {
			seen["page ends early"]++
		}
	}
}

func watchQueue(t *testing.T, q *embedded.Queues, seen map[string]int) {
	t.Helper()
	ensure(t, q, queue.Def{Name: "q", Visibility: time.Hour, Retention: 24 * time.Hour})
	var order []string
	for i := range 100 {
		send(t, q, "q", queue.Message{Body: fmt.Sprintf("%03d", i)})
	}
	for start := time.Now(); time.Since(start) < time.Minute; {
		msgs := receive(t, q, "q", 1)
		if len(msgs) == 0 {
			if len(order) < 100 {
				seen["receive is empty"]++
			}
			time.Sleep(time.Second)
			continue
		}
		if slices.Contains(order, msgs[0].Body) {
			seen["message comes twice"]++
			continue
		}
		order = append(order, msgs[0].Body)
	}
	if len(order) != 100 {
		t.Errorf("%d of 100 messages came", len(order))
	}
	if !slices.IsSorted(order) {
		seen["out of order"]++
	}
}
