package embedded_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// jobItem is of the size and shape of a job's state: some 600 bytes, a list entry, a due entry.
func jobItem(n int64) store.Item {
	// Ids are random, times are not.
	pk, at := jobKey(n), fmt.Sprintf("%016d#", 1764000000000000+n)
	return store.Item{
		Key: store.Key{PK: pk, SK: "S"}, Expires: 1893456000,
		Index: map[store.Index]store.Key{
			store.ByTime: {PK: "J#acme#0", SK: at + pk}, store.ByDue: {PK: "DUE#3", SK: at + pk},
		},
		Attrs: store.Attrs{
			"st": "SCHEDULED", "tn": "acme", "tp": "job.demo.echo", "tr": "2f0e8f0b-4d57-9d5e-3d1a-1c8a7b52aa00", "at": int64(0), "pl": "default",
			"cr": int64(1764000000000000), "up": int64(1764000000000000), "pr": "BATCH", "dc": []byte(`{"decision":"ALLOW","rule":"allow-demo"}`),
			"lb": []byte(`{"team":"core","env":"prod"}`), "no": strings.Repeat("n", 120),
		},
	}
}

func jobKey(n int64) string { return "JOB#" + ids.Named(fmt.Sprint(n)) }

// measured runs f in some goroutines until the benchmark is over, and reports the median and the 99th percentile of its time.
func measured(b *testing.B, goroutines int, f func(n int64) error) {
	b.Helper()
	var next atomic.Int64
	took := make([]time.Duration, b.N)
	var wg sync.WaitGroup
	b.ResetTimer()
	for range goroutines {
		wg.Go(func() {
			for {
				n := next.Add(1) - 1
				if n >= int64(b.N) {
					return
				}
				start := time.Now()
				if err := f(n); err != nil {
					b.Error(err)
					return
				}
				took[n] = time.Since(start)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-us")
	b.ReportMetric(0, "ns/op")
}

func bench(b *testing.B) *embedded.Platform { return open(b, b.TempDir(), embedded.Options{}) }

func BenchmarkPut(b *testing.B) {
	for _, goroutines := range []int{1, 16, 64} {
		b.Run(fmt.Sprint("goroutines=", goroutines), func(b *testing.B) {
			table := bench(b).Table()
			measured(b, goroutines, func(n int64) error {
				return table.Write(context.Background(), store.Put(jobItem(n)).If(store.NotExists()))
			})
		})
	}
}

// BenchmarkUpdate moves a job on: four attributes and its due entry, on a condition.
func BenchmarkUpdate(b *testing.B) {
	for _, goroutines := range []int{1, 16} {
		b.Run(fmt.Sprint("goroutines=", goroutines), func(b *testing.B) {
			table := bench(b).Table()
			const items = 5000
			fill(b, table, items)
			b.ResetTimer()
			measured(b, goroutines, func(n int64) error {
				op := store.Update(store.Key{PK: jobKey(n % items), SK: "S"}).If(store.Equal("tn", "acme")).
					SetAttr("st", "RUNNING").SetAttr("up", n).SetAttr("wk", "worker-1").AddInt("at", 1).
					Move(store.ByDue, store.Key{PK: "DUE#3", SK: fmt.Sprintf("%016d", n)})
				return table.Write(context.Background(), op)
			})
		})
	}
}

func BenchmarkTransaction(b *testing.B) {
	table := bench(b).Table()
	measured(b, 16, func(n int64) error {
		return table.Write(context.Background(), store.Put(jobItem(n)).If(store.NotExists()),
			store.Update(store.Key{PK: fmt.Sprintf("COUNT#%d", n%8), SK: "active"}).AddInt("n", 1))
	})
}

func fill(b *testing.B, table *embedded.Table, items int) {
	b.Helper()
	for chunk := range slices.Chunk(slices.Collect(func(yield func(store.Op) bool) {
		for n := range int64(items) {
			if !yield(store.Put(jobItem(n))) {
				return
			}
		}
	}), store.MaxTransaction) {
		if err := table.Write(context.Background(), chunk...); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	for _, goroutines := range []int{1, 16} {
		b.Run(fmt.Sprint("goroutines=", goroutines), func(b *testing.B) {
			table := bench(b).Table()
			const items = 20000
			fill(b, table, items)
			measured(b, goroutines, func(n int64) error {
				_, err := table.Get(context.Background(), store.Key{PK: jobKey(n * 7919 % items), SK: "S"})
				return err
			})
		})
	}
}

// BenchmarkQuery reads the newest 50 of a list.
func BenchmarkQuery(b *testing.B) {
	table := bench(b).Table()
	fill(b, table, 20000)
	measured(b, 1, func(int64) error {
		page, err := table.Query(context.Background(), store.Query{Index: store.ByTime, PK: "J#acme#0", Desc: true, Limit: 50})
		if err == nil && len(page.Items) != 50 {
			return fmt.Errorf("%d items", len(page.Items))
		}
		return err
	})
}

// BenchmarkHandOver is the time from the call of Send until a receiver that waits has the message.
func BenchmarkHandOver(b *testing.B) {
	q := benchQueue(b)
	ctx := context.Background()
	arrived := make(chan error)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for range b.N {
			msgs, err := q.Receive(ctx, "q", 1, queue.MaxWait, 0)
			if err == nil && len(msgs) == 1 {
				err = q.Delete(ctx, "q", msgs[0].Receipt)
			}
			arrived <- err
		}
	})
	measured(b, 1, func(int64) error {
		if err := q.Send(ctx, "q", queue.Message{Body: `{"job":"0123456789","attempt":1}`}); err != nil {
			return err
		}
		return <-arrived
	})
}

func BenchmarkSend(b *testing.B) {
	for _, goroutines := range []int{1, 16} {
		b.Run(fmt.Sprint("goroutines=", goroutines), func(b *testing.B) {
			q := benchQueue(b)
			measured(b, goroutines, func(int64) error {
				return q.Send(context.Background(), "q", queue.Message{Body: `{"job":"0123456789","attempt":1}`})
			})
		})
	}
}

func benchQueue(b *testing.B) *embedded.Queues {
	b.Helper()
	q := bench(b).Queues()
	if err := q.Ensure(context.Background(), queue.Def{Name: "q", Visibility: time.Minute, Retention: time.Hour}); err != nil {
		b.Fatal(err)
	}
	return q
}
