package worker_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/sdk/worker/internal/fakeplane"
)

// batches makes a worker for batches, and a function that runs one of tickets for first attempts.
func batches(t *testing.T, p *fakeplane.Plane, h worker.Handler, edit ...func(*worker.Batch)) func(ids ...string) ([]string, error) {
	t.Helper()
	cfg := p.Config()
	cfg.Queue, cfg.MaxParallel, cfg.Logger = nil, 2, slog.New(slog.DiscardHandler)
	w, err := worker.NewPolling(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.Handle("job.*", h)
	return func(ids ...string) ([]string, error) {
		var b worker.Batch
		for _, id := range ids {
			b.Messages = append(b.Messages, worker.Message{ID: "m-" + id, Body: fmt.Sprintf(`{"job":%q,"attempt":1}`, id)})
		}
		for _, e := range edit {
			e(&b)
		}
		return w.RunBatch(t.Context(), b)
	}
}

func TestABatchReturnsWhenItsResultsAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakeplane.New()
		run := batches(t, p, untilDone(4*time.Second))
		for _, id := range []string{"a", "b", "c"} {
			p.Submit(id)
		}
		began := time.Now()
		again, err := run("a", "b", "c", "unknown")
		if err != nil || len(again) != 0 || time.Since(began) != 8*time.Second {
			t.Errorf("again %v, %v, after %s", again, err, time.Since(began))
		}
		for _, id := range []string{"a", "b", "c"} {
			if j := p.Job(id); j.State != "SUCCEEDED" || j.Taken != 1 {
				t.Errorf("%s is %s, taken %d times", id, j.State, j.Taken)
			}
		}
		if again, err := run("a"); err != nil || len(again) != 0 { // it comes again
			t.Errorf("again %v, %v", again, err)
		}
		if p.Job("a").Taken != 1 {
			t.Error("a duplicate took effect")
		}
	})
}

func TestABatchBeatsWhileItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakeplane.New()
		run := batches(t, p, untilDone(time.Minute))
		p.Submit("a")
		p.Submit("b")
		go func() {
			time.Sleep(15 * time.Second)
			p.Cancel("b")
		}()
		if again, err := run("a", "b"); err != nil || len(again) != 0 {
			t.Errorf("again %v, %v", again, err)
		}
		if n := len(p.Seen().Beats); n < 7 || n > 8 {
			t.Errorf("%d heartbeats in a minute", n)
		}
		n := len(p.Seen().Beats)
		time.Sleep(time.Hour) // the function sleeps; it says nothing
		if len(p.Seen().Beats) != n {
			t.Error("a heartbeat between two batches")
		}
		p.Submit("c")
		p.Forget()
		if again, err := run("c"); err != nil || len(again) != 0 || p.Job("c").State != "SUCCEEDED" {
			t.Errorf("after a sleep: again %v, %v, %s", again, err, p.Job("c").State)
		}
	})
}

func TestABatchThatRunsOutOfTime(t *testing.T) {
	release := make(chan struct{})
	deaf := func(context.Context, *worker.Job) (any, error) { <-release; return nil, nil }
	for name, h := range map[string]worker.Handler{"heeds its context": untilDone(time.Hour), "does not": deaf} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release = make(chan struct{})
				defer func() { close(release) }()
				p := fakeplane.New()
				run := batches(t, p, h, func(b *worker.Batch) { b.Until, b.Least = time.Now().Add(20*time.Second), 5*time.Second })
				for _, id := range []string{"a", "b", "c"} {
					p.Submit(id)
				}
				began := time.Now()
				again, err := run("a", "b", "c")
				if err != nil || len(again) != 1 {
					t.Fatalf("again %v, %v", again, err)
				}
				if d := time.Since(began); d < 20*time.Second || d > 23*time.Second {
					t.Errorf("after %s", d)
				}
				for _, id := range []string{"a", "b", "c"} {
					j := p.Job(id)
					if slices.Contains(again, "m-"+id) {
						if j.State != "SCHEDULED" {
							t.Errorf("%s, which comes again, is %s", id, j.State)
						}
						continue
					}
					if j.State != "FAILED" || j.Result.GetErrorCode() != "out_of_time" {
						t.Errorf("%s is %s: %v", id, j.State, j.Result)
					}
				}
			})
		})
	}
}

func TestABatchWhileThePlaneIsOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakeplane.New()
		run := batches(t, p, untilDone(time.Second), func(b *worker.Batch) { b.Until = time.Now().Add(time.Minute) })
		p.Submit("a")
		p.Submit("b")
		p.Fault(func(f *fakeplane.Faults) { f.REST = true })
		if again, err := run("a", "b"); err == nil || len(again) != 2 {
			t.Errorf("again %v, %v", again, err)
		}
		p.Fault(func(f *fakeplane.Faults) { f.REST, f.ClaimAs = false, "elsewhere" })
		if again, err := run("a"); err != nil || !slices.Equal(again, []string{"m-a"}) {
			t.Errorf("for another worker: again %v, %v", again, err)
		}
		p.Fault(func(f *fakeplane.Faults) { f.ClaimAs, f.Inbox = "", true })
		go func() {
			time.Sleep(20 * time.Second)
			p.Fault(func(f *fakeplane.Faults) { f.Inbox = false })
		}()
		if again, err := run("a", "b"); err != nil || len(again) != 0 || p.Job("a").State != "SUCCEEDED" {
			t.Errorf("again %v, %v, %s", again, err, p.Job("a").State)
		}
		p.Fault(func(f *fakeplane.Faults) { f.Refuse = 403 })
		time.Sleep(time.Minute)
		if again, err := run("a"); err == nil || len(again) != 1 {
			t.Errorf("refused: again %v, %v", again, err)
		}
	})
}

func TestAClaimThatABatchGaveUpWithoutAnAnswer(t *testing.T) {
	for name, next := range map[string][]string{"its ticket comes again": {"a"}, "its ticket went to another, who found it gone": nil} {
		synctest.Test(t, func(t *testing.T) {
			p := fakeplane.New()
			run := batches(t, p, nothing, func(b *worker.Batch) { b.Until, b.Least = time.Now().Add(time.Minute), 40*time.Second })
			p.Submit("a")
			p.Fault(func(f *fakeplane.Faults) { f.LostClaims = 1000 })
			if again, err := run("a"); err != nil || !slices.Equal(again, []string{"m-a"}) || p.Job("a").State != "DISPATCHED" {
				t.Errorf("%s: again %v, %v; the job is %s", name, again, err, p.Job("a").State)
			}
			p.Fault(func(f *fakeplane.Faults) { f.LostClaims = 0 })
			again, err := run(next...)
			if j := p.Job("a"); err != nil || j.State != "SUCCEEDED" || j.Attempt != 1 || j.Taken != 1 {
				t.Errorf("%s: again %v, %v; the job is %s in attempt %d", name, again, err, j.State, j.Attempt)
			}
			claims := len(p.Seen().Claims)
			if _, err := run(); err != nil || len(p.Seen().Claims) != claims {
				t.Errorf("%s: what was answered is asked again: %v", name, err)
			}
		})
	}
}
