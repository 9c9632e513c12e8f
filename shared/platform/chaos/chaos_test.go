package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/chaos"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/push"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

const (
	standard = "work"
	fifo     = "events.fifo"
)

// rig is a platform behind faults, in virtual time, and the same platform without them.
type rig struct {
	*testing.T

	real   *embedded.Platform
	faults *chaos.Chaos
	table  store.Table
	queues queue.Queues
	blobs  blob.Store
	push   push.Connections
}

func virtually(t *testing.T, p chaos.Profile, run func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t, real: open(t, embedded.Options{BlobURL: "http://localhost/blobs"}), faults: chaos.New(p)}
		r.must(r.real.Queues().Ensure(t.Context(),
			queue.Def{Name: standard, Visibility: time.Minute, Retention: time.Hour},
			queue.Def{Name: fifo, FIFO: true, Visibility: time.Minute, Retention: time.Hour},
		))
		r.table, r.queues = r.faults.Table(r.real.Table()), r.faults.Queues(r.real.Queues())
		r.blobs, r.push = r.faults.Blobs(r.real.Blobs()), r.faults.Connections(r.real.Connections())
		run(r)
	})
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

var key = store.Key{PK: "p", SK: "s"}

func put() store.Op { return store.Put(store.Item{Key: key, Attrs: store.Attrs{"n": int64(1)}}) }

// call is one method of a port.
type call struct {
	point       string
	unavailable error
	changes     bool
	make        func(ctx context.Context) error
}

// calls are all methods of all ports.
func (r *rig) calls() []call {
	return []call{
		{"table.get", store.ErrUnavailable, false, func(ctx context.Context) error { _, err := r.table.Get(ctx, key); return err }},
		{"table.batch_get", store.ErrUnavailable, false, func(ctx context.Context) error {
			_, err := r.table.BatchGet(ctx, []store.Key{key})
			return err
		}},
		{"table.query", store.ErrUnavailable, false, func(ctx context.Context) error {
			_, err := r.table.Query(ctx, store.Query{PK: "p"})
			return err
		}},
		{"table.write", store.ErrUnavailable, true, func(ctx context.Context) error { return r.table.Write(ctx, put()) }},
		{"table.update", store.ErrUnavailable, true, func(ctx context.Context) error {
			_, err := r.table.Update(ctx, store.Update(key).AddInt("n", 1))
			return err
		}},
		{"queue.ensure", queue.ErrUnavailable, true, func(ctx context.Context) error { return r.queues.Ensure(ctx) }},
		{"queue.send/work", queue.ErrUnavailable, true, func(ctx context.Context) error {
			return r.queues.Send(ctx, standard, queue.Message{Body: "m"})
		}},
		{"queue.receive/work", queue.ErrUnavailable, true, func(ctx context.Context) error {
			_, err := r.queues.Receive(ctx, standard, 1, 0, 0)
			return err
		}},
		{"queue.delete/work", queue.ErrUnavailable, true, func(ctx context.Context) error { return r.queues.Delete(ctx, standard, "x") }},
		{"queue.extend/work", queue.ErrUnavailable, true, func(ctx context.Context) error { return r.queues.Extend(ctx, standard, "x", 0) }},
		{"queue.depth/work", queue.ErrUnavailable, false, func(ctx context.Context) error { _, err := r.queues.Depth(ctx, standard); return err }},
		{"blob.put", blob.ErrUnavailable, true, func(ctx context.Context) error {
			return r.blobs.Put(ctx, "k", []byte("x"), blob.PutOptions{})
		}},
		{"blob.get", blob.ErrUnavailable, false, func(ctx context.Context) error { _, _, err := r.blobs.Get(ctx, "k", 0); return err }},
		{"blob.head", blob.ErrUnavailable, false, func(ctx context.Context) error { _, err := r.blobs.Head(ctx, "k"); return err }},
		{"blob.presign_get", blob.ErrUnavailable, false, func(ctx context.Context) error {
			_, err := r.blobs.PresignGet(ctx, "k", time.Minute)
			return err
		}},
		{"blob.presign_put", blob.ErrUnavailable, false, func(ctx context.Context) error {
			_, err := r.blobs.PresignPut(ctx, "k", blob.Upload{ContentType: "text/plain", Size: 1}, time.Minute)
			return err
		}},
		{"blob.delete", blob.ErrUnavailable, true, func(ctx context.Context) error { return r.blobs.Delete(ctx, "k") }},
		{"push.post", push.ErrUnavailable, true, func(ctx context.Context) error { return r.push.Post(ctx, "c", []byte("x")) }},
		{"push.drop", push.ErrUnavailable, true, func(ctx context.Context) error { return r.push.Drop(ctx, "c", push.Revoked) }},
	}
}

// register makes a connection "c" known, which counts its frames.
func (r *rig) register() *int {
	frames := 0
	r.real.Connections().Register("c", func(context.Context, []byte) error { frames++; return nil }, func(push.Reason) {})
	return &frames
}

func (r *rig) counted(point string) chaos.Count {
	for _, n := range r.faults.Counts() {
		if n.Point == point {
			return n
		}
	}
	return chaos.Count{}
}

func TestAnErrorIsACallThatIsNotMade(t *testing.T) {
	virtually(t, chaos.Profile{Errors: 1, Delays: 0, Duplicates: 1, Cruel: 1}, func(r *rig) {
		frames := r.register()
		for _, c := range r.calls() {
			err := c.make(r.Context())
			if !errors.Is(err, c.unavailable) || !errors.Is(err, chaos.ErrInjected) || errors.Is(err, os.ErrDeadlineExceeded) {
				r.Errorf("%s: %v", c.point, err)
			}
			if n, want := r.counted(c.point), (chaos.Count{Point: c.point, Calls: 1, Errors: 1}); n != want {
				r.Errorf("got %+v, want %+v", n, want)
			}
		}
		if n := len(r.faults.Counts()); n != len(r.calls()) {
			r.Errorf("%d points were counted, %d called", n, len(r.calls()))
		}
		if _, err := r.real.Table().Get(r.Context(), key); !errors.Is(err, store.ErrNotFound) {
			r.Errorf("the item: %v", err)
		}
		if n, err := r.real.Queues().Depth(r.Context(), standard); n != 0 || err != nil {
			r.Errorf("the queue holds %d, %v", n, err)
		}
		if _, err := r.real.Blobs().Head(r.Context(), "k"); !errors.Is(err, blob.ErrNotFound) {
			r.Errorf("the object: %v", err)
		}
		if *frames != 0 {
			r.Errorf("%d frames came", *frames)
		}
	})
}

func TestACruelCallIsMadeAndItsAnswerIsLost(t *testing.T) {
	virtually(t, chaos.Profile{Cruel: 1}, func(r *rig) {
		frames := r.register()
		for _, c := range r.calls() {
			err := c.make(r.Context())
			lost := errors.Is(err, c.unavailable) && errors.Is(err, chaos.ErrInjected) && errors.Is(err, os.ErrDeadlineExceeded)
			switch {
			case c.changes && !lost:
				r.Errorf("%s: %v", c.point, err)
			case !c.changes && errors.Is(err, chaos.ErrInjected):
				r.Errorf("%s changes nothing, and fails: %v", c.point, err)
			case errors.Is(err, context.DeadlineExceeded):
				r.Errorf("%s says that its caller's context has ended", c.point)
			}
			switch c.point {
			case "table.write", "table.update":
				want := map[string]int64{"table.write": 1, "table.update": 2}[c.point]
				if it, err := r.real.Table().Get(r.Context(), key); err != nil || it.Attrs.Int("n") != want {
					r.Errorf("after %s: %v, %v", c.point, it, err)
				}
			case "queue.send/work":
				if n, err := r.real.Queues().Depth(r.Context(), standard); n != 1 || err != nil {
					r.Errorf("the queue holds %d, %v", n, err)
				}
			case "queue.receive/work": // nobody has it, and it is hidden
				if msgs, err := r.real.Queues().Receive(r.Context(), standard, 1, 0, 0); len(msgs) != 0 || err != nil {
					r.Errorf("received %v, %v", msgs, err)
				}
			case "blob.delete":
				if _, err := r.real.Blobs().Head(r.Context(), "k"); !errors.Is(err, blob.ErrNotFound) {
					r.Errorf("the object: %v", err)
				}
			}
		}
		if *frames != 1 {
			r.Errorf("%d frames came", *frames)
		}
		msgs, err := r.real.Queues().Receive(r.Context(), standard, 1, queue.MaxWait, 0)
		for len(msgs) == 0 && err == nil {
			msgs, err = r.real.Queues().Receive(r.Context(), standard, 1, queue.MaxWait, 0)
		}
		if err != nil || msgs[0].Receives != 2 {
			r.Errorf("the message whose receive was lost comes again as %+v, %v", msgs, err)
		}
	})
}

func TestALostAnswerNeverLooksLikeARefusal(t *testing.T) {
	virtually(t, chaos.Profile{Cruel: 1}, func(r *rig) {
		r.must(r.real.Table().Write(r.Context(), put()))
		r.must(r.real.Blobs().Put(r.Context(), "k", []byte("x"), blob.PutOptions{}))
		var refused *store.ConditionError
		for _, n := range []int64{7, 1} { // what does not hold, and what does
			it, err := r.table.Update(r.Context(), store.Update(key).SetAttr("n", int64(9)).If(store.Equal("n", n)))
			if !errors.Is(err, store.ErrUnavailable) || errors.As(err, &refused) || it.Attrs != nil {
				r.Errorf("update where n is %d: %v, %v", n, it, err)
			}
		}
		if err := r.table.Write(r.Context(), put().If(store.NotExists())); !errors.Is(err, store.ErrUnavailable) || errors.As(err, &refused) {
			r.Errorf("write: %v", err)
		}
		err := r.blobs.Put(r.Context(), "k", []byte("y"), blob.PutOptions{IfAbsent: true})
		if !errors.Is(err, blob.ErrUnavailable) || errors.Is(err, blob.ErrExists) {
			r.Errorf("put: %v", err)
		}
	})
}

// TestConditionsHoldUnderFaults counts up with conditional writes: whoever reads again after an error knows where it stands.
func TestConditionsHoldUnderFaults(t *testing.T) {
	for seed := range uint64(5) {
		virtually(t, chaos.Profile{Errors: 0.2, Delays: 0.2, Duplicates: 0.2, Cruel: 0.3, MaxDelay: time.Second, Seed: seed}, func(r *rig) {
			r.must(r.real.Table().Write(r.Context(), store.Put(store.Item{Key: key, Attrs: store.Attrs{"n": int64(0)}})))
			var mu sync.Mutex
			sure, unsure := int64(0), int64(0)
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for range 25 {
						it, err := r.table.Get(r.Context(), key)
						if err != nil {
							continue
						}
						n := it.Attrs.Int("n")
						err = r.table.Write(r.Context(), store.Update(key).SetAttr("n", n+1).If(store.Equal("n", n)))
						var refused *store.ConditionError
						mu.Lock()
						switch {
						case err == nil:
							sure++
						case errors.As(err, &refused):
							if refused.Old == nil || refused.Old.Attrs.Int("n") == n {
								r.Errorf("refused at %d, although it is %v", n, refused.Old)
							}
						case errors.Is(err, store.ErrUnavailable):
							unsure++
						default:
							r.Error(err)
						}
						mu.Unlock()
					}
				})
			}
			all.Wait()
			it, err := r.real.Table().Get(r.Context(), key)
			r.must(err)
			if n := it.Attrs.Int("n"); n < sure || n > sure+unsure || unsure == 0 {
				r.Errorf("seed %d: it is %d after %d writes, and %d whose end is not known", seed, n, sure, unsure)
			}
		})
	}
}

func TestADelayTakesUpToItsLongest(t *testing.T) {
	const longest = time.Second
	virtually(t, chaos.Profile{Delays: 1, MaxDelay: longest}, func(r *rig) {
		seen := map[time.Duration]bool{}
		for range 50 {
			start := time.Now()
			_, err := r.real.Table().Query(r.Context(), store.Query{PK: "p"})
			r.must(err)
			alone := time.Since(start)
			start = time.Now()
			_, err = r.table.Query(r.Context(), store.Query{PK: "p"})
			r.must(err)
			took := time.Since(start) - alone
			if took <= 0 || took > longest {
				r.Fatalf("it took %v", took)
			}
			seen[took] = true
		}
		if n := r.counted("table.query"); n.Calls != 50 || n.Delays != 50 || len(seen) < 40 {
			r.Errorf("%v, %d different delays", n, len(seen))
		}
	})
}

func TestTheContextEndsADelay(t *testing.T) {
	virtually(t, chaos.Profile{Delays: 1, Errors: 1, MaxDelay: 1000 * time.Hour}, func(r *rig) {
		for _, c := range r.calls() {
			ctx, cancel := context.WithTimeout(r.Context(), time.Second)
			start := time.Now()
			err := c.make(ctx)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, c.unavailable) || time.Since(start) != time.Second {
				r.Errorf("%s: %v after %v", c.point, err, time.Since(start))
			}
			before := r.counted(c.point)
			if err := c.make(ctx); !errors.Is(err, context.DeadlineExceeded) && c.point != "queue.ensure" {
				r.Errorf("%s, with a context that has ended: %v", c.point, err)
			}
			if n := r.counted(c.point); n != before || n.Delays != 1 || n.Errors != 0 {
				r.Errorf("%+v after %+v", n, before)
			}
		}
		if _, err := r.real.Table().Get(r.Context(), key); !errors.Is(err, store.ErrNotFound) {
			r.Errorf("the item: %v", err)
		}
	})
}

func TestACallThatItsContextEndedSaysSo(t *testing.T) {
	virtually(t, chaos.Profile{Cruel: 1}, func(r *rig) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if _, err := r.queues.Receive(ctx, standard, 1, queue.MaxWait, 0); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, chaos.ErrInjected) {
			r.Errorf("got %v", err)
		}
	})
}

// bodies receives until nothing more comes.
func (r *rig) bodies(name string) (all []string, receipts []string) {
	r.Helper()
	for {
		msgs, err := r.queues.Receive(r.Context(), name, queue.MaxBatch, 0, 0)
		r.must(err)
		if len(msgs) == 0 {
			return all, receipts
		}
		for _, m := range msgs {
			all, receipts = append(all, m.Body), append(receipts, m.Receipt)
			if m.Group != "" { // so that its group goes on
				r.must(r.queues.Delete(r.Context(), name, m.Receipt))
			}
		}
	}
}

func TestASendIsDoneTwice(t *testing.T) {
	virtually(t, chaos.Profile{Duplicates: 1}, func(r *rig) {
		r.must(r.queues.Send(r.Context(), standard, queue.Message{Body: "a"}, queue.Message{Body: "b"}))
		if n, err := r.real.Queues().Depth(r.Context(), standard); n != 4 || err != nil {
			r.Errorf("the queue holds %d, %v", n, err)
		}
		if n := r.counted("queue.send/work"); n.Calls != 1 || n.Duplicates != 1 {
			r.Errorf("%+v", n)
		}
		frames := r.register()
		r.must(r.push.Post(r.Context(), "c", []byte("x")))
		if *frames != 2 {
			r.Errorf("%d frames came", *frames)
		}
	})
}

func TestAFailedSendIsNotRepeated(t *testing.T) {
	virtually(t, chaos.Profile{Duplicates: 1}, func(r *rig) {
		if err := r.queues.Send(r.Context(), "nowhere", queue.Message{Body: "a"}); !errors.Is(err, queue.ErrUnknownQueue) {
			r.Errorf("got %v", err)
		}
		if n := r.counted("queue.send/nowhere"); n.Faults() != 0 {
			r.Errorf("%+v", n)
		}
	})
}

func TestAMessageComesAgain(t *testing.T) {
	virtually(t, chaos.Profile{Duplicates: 1}, func(r *rig) {
		r.must(r.real.Queues().Send(r.Context(), standard, queue.Message{Body: "a"}, queue.Message{Body: "b"}, queue.Message{Body: "c"}))
		first, err := r.queues.Receive(r.Context(), standard, 3, 0, 0)
		r.must(err)
		again, err := r.queues.Receive(r.Context(), standard, 2, 0, 0)
		r.must(err)
		rest, err := r.queues.Receive(r.Context(), standard, 2, 0, 0)
		r.must(err)
		if !slices.Equal(slices.Concat(again, rest), first) || len(again) != 2 {
			r.Errorf("first %v\nthen %v\nand %v", first, again, rest)
		}
		r.must(r.queues.Delete(r.Context(), standard, again[0].Receipt, again[1].Receipt, rest[0].Receipt))
		if more, _ := r.bodies(standard); len(more) != 0 {
			r.Errorf("without end: %v", more)
		}
		if n, err := r.queues.Depth(r.Context(), standard); n != 0 || err != nil {
			r.Errorf("the queue holds %d, %v", n, err)
		}
	})
}

func TestACopyIsForgottenWhenItsMessageIsDeliveredAnew(t *testing.T) {
	virtually(t, chaos.Profile{Duplicates: 1}, func(r *rig) {
		r.must(r.real.Queues().Send(r.Context(), standard, queue.Message{Body: "a"}))
		_, err := r.queues.Receive(r.Context(), standard, 1, 0, time.Minute)
		r.must(err)
		r.faults.Off() // the next receives hand out no copies
		var second []queue.Received
		for len(second) == 0 {
			second, err = r.queues.Receive(r.Context(), standard, 1, queue.MaxWait, time.Hour)
			r.must(err)
		}
		r.faults.On()
		if second[0].Receives != 2 {
			r.Errorf("a copy came while faults were off: %+v", second)
		}
		if more, _ := r.bodies(standard); len(more) != 0 {
			r.Errorf("a copy with a void receipt came: %v", more)
		}
	})
}

func TestAFIFOQueueKeepsItsPromises(t *testing.T) {
	virtually(t, chaos.Profile{Duplicates: 1, Delays: 0.5, MaxDelay: time.Second}, func(r *rig) {
		var want []string
		for i := range 20 {
			body := fmt.Sprintf("%02d", i)
			want = append(want, body)
			r.must(r.queues.Send(r.Context(), fifo, queue.Message{Body: body, Group: "g", Dedup: body}))
		}
		if n, err := r.queues.Depth(r.Context(), fifo); n != len(want) || err != nil {
			r.Errorf("the queue holds %d, %v", n, err)
		}
		if got, _ := r.bodies(fifo); !slices.Equal(got, want) {
			r.Errorf("got %v", got)
		}
		if n := r.counted("queue.receive/" + fifo); n.Duplicates != 0 {
			r.Errorf("%+v", n)
		}
	})
}

// fates calls a point n times, and answers what became of each call.
func (r *rig) fates(n int, between func()) string {
	var b strings.Builder
	for range n {
		start := time.Now()
		err := r.table.Write(r.Context(), put())
		letter := "."
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			letter = "c"
		case err != nil:
			letter = "e"
		}
		fmt.Fprintf(&b, "%s%d ", letter, time.Since(start).Milliseconds())
		between()
	}
	return b.String()
}

func TestASeedReplays(t *testing.T) {
	profile := func(seed uint64) chaos.Profile {
		return chaos.Profile{Errors: 0.2, Delays: 0.3, Duplicates: 0.3, Cruel: 0.2, MaxDelay: 10 * time.Second, Seed: seed}
	}
	runs := map[string]string{}
	run := func(name string, seed uint64, between func(*rig) func()) {
		virtually(t, profile(seed), func(r *rig) { runs[name] = r.fates(200, between(r)) })
	}
	quiet := func(*rig) func() { return func() {} }
	run("first", 7, quiet)
	run("same seed", 7, quiet)
	run("same seed, other points busy", 7, func(r *rig) func() {
		return func() {
			_, _ = r.table.Get(r.Context(), key)
			_ = r.queues.Send(r.Context(), standard, queue.Message{Body: "m"})
			_ = r.blobs.Delete(r.Context(), "k")
		}
	})
	run("same seed, off now and then", 7, func(r *rig) func() {
		return func() {
			r.faults.Off()
			r.must(r.table.Write(r.Context(), put()))
			r.faults.On()
		}
	})
	run("other seed", 8, quiet)
	first := runs["first"]
	for _, name := range []string{"same seed", "same seed, other points busy", "same seed, off now and then"} {
		if runs[name] != first {
			t.Errorf("%s:\ngot  %s\nwant %s", name, runs[name], first)
		}
	}
	if runs["other seed"] == first {
		t.Error("another seed, the same faults")
	}
	for _, letter := range []string{".", "c", "e"} {
		if !strings.Contains(first, letter) {
			t.Errorf("never %q in %s", letter, first)
		}
	}
}

func TestPointsAreDrawnApart(t *testing.T) {
	virtually(t, chaos.Profile{Errors: 0.5, Seed: 3}, func(r *rig) {
		var get, query strings.Builder
		for range 100 {
			_, err := r.table.BatchGet(r.Context(), nil)
			fmt.Fprint(&get, err != nil, " ")
			_, err = r.table.Query(r.Context(), store.Query{PK: "p"})
			fmt.Fprint(&query, err != nil, " ")
		}
		if get.String() == query.String() {
			r.Error("two points have the same faults")
		}
	})
}

func TestFaultsComeAsOftenAsTheyShould(t *testing.T) {
	virtually(t, chaos.Profile{Errors: 0.1, Delays: 0.3, Duplicates: 0.2, Cruel: 0.05, MaxDelay: time.Millisecond, Seed: 1}, func(r *rig) {
		const n = 4000
		for range n {
			_ = r.push.Drop(r.Context(), "c", push.Revoked)
			_ = r.queues.Send(r.Context(), standard, queue.Message{Body: "m"})
		}
		sent, dropped := r.counted("queue.send/work"), r.counted("push.drop")
		near := func(what string, got int, rate float64) {
			if want := rate * n; float64(got) < 0.8*want || float64(got) > 1.2*want {
				r.Errorf("%s: %d, want about %.0f", what, got, want)
			}
		}
		near("errors", sent.Errors, 0.1)
		near("delays", sent.Delays, 0.3)
		near("duplicates", sent.Duplicates, 0.9*0.2)
		near("cruel", dropped.Cruel, 0.9*0.05)
		if sent.Calls != n || dropped.Duplicates != 0 {
			r.Errorf("%+v, %+v", sent, dropped)
		}
	})
}

func TestOff(t *testing.T) {
	virtually(t, chaos.Profile{Errors: 1}, func(r *rig) {
		r.faults.Off()
		r.must(r.table.Write(r.Context(), put()))
		if n := r.faults.Counts(); len(n) != 0 {
			r.Errorf("counted %v", n)
		}
		r.faults.On()
		if err := r.table.Write(r.Context(), put()); !errors.Is(err, store.ErrUnavailable) {
			r.Errorf("got %v", err)
		}
	})
}

func TestCountsReadAsText(t *testing.T) {
	for want, n := range map[string]chaos.Count{
		"table.get: 3 calls": {Point: "table.get", Calls: 3},
		"queue.send/work: 120 calls, 2 errors, 9 delays, 3 duplicates, 1 cruel": {
			Point: "queue.send/work", Calls: 120, Errors: 2, Delays: 9, Duplicates: 3, Cruel: 1,
		},
	} {
		if n.String() != want {
			t.Errorf("got %q, want %q", n, want)
		}
	}
}
