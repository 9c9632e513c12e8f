package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	agentv1 "github.com/cordum-serverless/cordum/sdk/gen/go/cordum/agent/v1"
	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/sdk/worker/internal/fakeplane"
)

// poll tests a polling worker in virtual time. stop tells it to drain and waits.
func poll(t *testing.T, h worker.Handler, test func(t *testing.T, p *fakeplane.Plane, stop func()), edit ...func(*worker.PollingConfig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := fakeplane.New()
		cfg := p.Config()
		cfg.MaxParallel, cfg.Logger = 2, slog.New(slog.DiscardHandler)
		for _, e := range edit {
			e(&cfg)
		}
		w, err := worker.NewPolling(cfg)
		if err != nil {
			t.Fatal(err)
		}
		w.Handle("job.*", h)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		stopped := false
		stop := func() {
			if !stopped {
				stopped = true
				cancel()
				if err := <-done; err != nil {
					t.Errorf("run: %v", err)
				}
			}
		}
		defer stop()
		test(t, p, stop)
	})
}

// await waits until a job is in a state.
func await(t *testing.T, p *fakeplane.Plane, id, state string) fakeplane.Job {
	t.Helper()
	for range 6000 {
		if j := p.Job(id); j.State == state {
			return j
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("job %s is %s, not %s", id, p.Job(id).State, state)
	return fakeplane.Job{}
}

// untilDone runs until the context ends, or for a time.
func untilDone(d time.Duration) worker.Handler {
	return func(ctx context.Context, _ *worker.Job) (any, error) {
		select {
		case <-time.After(d):
			return "done", nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func nothing(context.Context, *worker.Job) (any, error) { return nil, nil }

func TestT145_WhatAHandlerAnswersWithoutAStream(t *testing.T) {
	cases := map[string]struct {
		h                 worker.Handler
		state, code, text string
		output            string
	}{
		"a value": {func(context.Context, *worker.Job) (any, error) { return map[string]int{"n": 1}, nil }, "SUCCEEDED", "", "", `{"n":1}`},
		"nil":     {nothing, "SUCCEEDED", "", "", ""},
		"its input": {func(ctx context.Context, j *worker.Job) (any, error) {
			var in struct{ Prompt string }
			err := j.DecodeContext(ctx, &in)
			return in.Prompt, err
		}, "SUCCEEDED", "", "", `"p of a/b"`},
		"an error":      {func(context.Context, *worker.Job) (any, error) { return nil, errors.New("broken") }, "FAILED", "", "broken", ""},
		"a coded error": {func(context.Context, *worker.Job) (any, error) { return nil, &worker.Error{Code: "C", Message: "m"} }, "FAILED", "C", "m", ""},
		"a panic":       {func(context.Context, *worker.Job) (any, error) { panic("ouch") }, "FAILED", "panic", "handler panicked: ouch", ""},
		"its goroutine's end": {func(context.Context, *worker.Job) (any, error) { runtime.Goexit(); return nil, nil },
			"FAILED", "panic", "handler ended its goroutine", ""},
		"no JSON":  {func(context.Context, *worker.Job) (any, error) { return func() {}, nil }, "FAILED", "invalid_result", "", ""},
		"no UTF-8": {func(context.Context, *worker.Job) (any, error) { return nil, errors.New("a\xff\uFFFFb") }, "FAILED", "", "ab", ""},
		"too long": {func(context.Context, *worker.Job) (any, error) { return nil, errors.New(strings.Repeat("é", 9999)) },
			"FAILED", "", strings.Repeat("é", 2048), ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			poll(t, c.h, func(t *testing.T, p *fakeplane.Plane, _ func()) {
				p.Submit("a/b")
				j := await(t, p, "a/b", c.state)
				if j.Result.GetErrorCode() != c.code || (c.text != "" && j.Result.GetErrorMessage() != c.text) || j.Result.GetWorkerId() != "w" {
					t.Errorf("result %v", j.Result)
				}
				if string(j.Output) != c.output || (j.Result.GetResultPtr() != "") != (c.output != "") {
					t.Errorf("output %s, pointer %q", j.Output, j.Result.GetResultPtr())
				}
				if s := p.Seen(); s.Ignored != 0 {
					t.Errorf("%d packets were ignored", s.Ignored)
				}
			})
		})
	}
}

func TestT145_CancelAndDeadlineWithoutAStream(t *testing.T) {
	var ended atomic.Value
	h := func(ctx context.Context, j *worker.Job) (any, error) {
		<-ctx.Done()
		ended.Store(j.ID)
		return nil, ctx.Err()
	}
	poll(t, h, func(t *testing.T, p *fakeplane.Plane, _ func()) {
		p.Submit("a")
		await(t, p, "a", "RUNNING")
		p.Cancel("a")
		began := time.Now()
		for ended.Load() != "a" {
			time.Sleep(100 * time.Millisecond)
		}
		if d := time.Since(began); d > 10200*time.Millisecond {
			t.Errorf("the handler heard of it after %s", d)
		}
		began = time.Now()
		p.Request(&agentv1.JobRequest{JobId: "c", Topic: "job.t", Env: map[string]string{}, Budget: &agentv1.Budget{DeadlineMs: 2000}})
		j := await(t, p, "c", "TIMEOUT")
		if d := time.Since(began); j.Result.GetErrorCode() != "deadline_exceeded" || d < 2*time.Second || d > 3*time.Second {
			t.Errorf("after %s: %v", d, j.Result)
		}
	})
}

func TestT146_NoMoreThanMaxParallelWithoutAStream(t *testing.T) {
	var running, most atomic.Int32
	h := func(context.Context, *worker.Job) (any, error) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer running.Add(-1)
		time.Sleep(7 * time.Second)
		return nil, nil
	}
	poll(t, h, func(t *testing.T, p *fakeplane.Plane, _ func()) {
		for i := range 9 {
			p.Submit(fmt.Sprint(i))
		}
		for i := range 9 {
			await(t, p, fmt.Sprint(i), "SUCCEEDED")
		}
		if most.Load() != 2 {
			t.Errorf("%d ran at once", most.Load())
		}
		for _, b := range p.Seen().Beats {
			if b.GetActiveJobs() > 2 || b.GetMaxParallelJobs() != 2 || b.GetWorkerId() != "w" || b.GetPool() != "main" {
				t.Errorf("heartbeat %v", b)
			}
		}
	})
}

func TestT149_ATicketThatComesAgain(t *testing.T) {
	var runs atomic.Int32
	h := func(context.Context, *worker.Job) (any, error) {
		time.Sleep(5 * time.Second)
		return map[string]int32{"run": runs.Add(1)}, nil
	}
	poll(t, h, func(t *testing.T, p *fakeplane.Plane, _ func()) {
		p.Submit("j")
		p.Ticket("j", 1) // while it waits
		await(t, p, "j", "DISPATCHED")
		p.Ticket("j", 1) // while it runs
		await(t, p, "j", "SUCCEEDED")
		before := p.Seen()
		p.Ticket("j", 1) // after its end: the result is told again
		time.Sleep(time.Minute)
		after := p.Seen()
		if j := p.Job("j"); runs.Load() != 1 || j.Taken != 1 || string(j.Output) != `{"run":1}` {
			t.Errorf("%d runs, taken %d times, %s", runs.Load(), j.Taken, j.Output)
		}
		if after.Waiting != 0 || after.Ignored != before.Ignored+1 {
			t.Errorf("%d messages left, %d packets without effect", after.Waiting, after.Ignored-before.Ignored)
		}
		p.Again("j")
		for runs.Load() < 2 {
			time.Sleep(time.Second)
		}
	})
}

func TestAnAttemptThatWasGivenToTheSameWorkerAnew(t *testing.T) {
	attempts := make(chan int, 10)
	h := func(ctx context.Context, j *worker.Job) (any, error) {
		attempts <- j.Attempt
		if j.Attempt == 1 {
			<-ctx.Done()
			time.Sleep(time.Second) // its CANCELLED comes while the second runs
			return nil, ctx.Err()
		}
		time.Sleep(5 * time.Second)
		return j.Attempt, nil
	}
	poll(t, h, func(t *testing.T, p *fakeplane.Plane, _ func()) {
		p.Submit("j")
		<-attempts
		p.Again("j")
		<-attempts
		if j := await(t, p, "j", "SUCCEEDED"); string(j.Output) != "2" || p.Seen().Ignored != 0 {
			t.Errorf("%s, %d packets ignored", j.Output, p.Seen().Ignored)
		}
	})
}

func TestTicketsThatAreNotForThisWorker(t *testing.T) {
	poll(t, nothing, func(t *testing.T, p *fakeplane.Plane, _ func()) {
		p.Ticket("unknown", 1)
		p.Put("not a ticket")
		p.Put(`{"job":"j"}`)
		time.Sleep(5 * time.Second)
		if s := p.Seen(); s.Waiting != 0 || len(s.Returns) != 0 || !slices.Equal(s.Claims, []string{"gone"}) {
			t.Errorf("what is of no use: %+v", s)
		}
		p.Fault(func(f *fakeplane.Faults) { f.ClaimAs = "elsewhere" })
		p.Submit("j")
		time.Sleep(5 * time.Second)
		s := p.Seen()
		if s.Waiting != 1 || len(s.Returns) < 2 || s.Returns[0].Hidden != 2*time.Second {
			t.Errorf("what is for another: %+v", s)
		}
		p.Fault(func(f *fakeplane.Faults) { f.ClaimAs = "" })
		await(t, p, "j", "SUCCEEDED")
	})
}

func TestRESTDownThenUp(t *testing.T) {
	poll(t, untilDone(100*time.Second), func(t *testing.T, p *fakeplane.Plane, _ func()) {
		p.Submit("running")
		await(t, p, "running", "RUNNING")
		p.Fault(func(f *fakeplane.Faults) { f.REST = true })
		p.Submit("waiting") // it is received, and cannot be claimed
		time.Sleep(70 * time.Second)
		s := p.Seen()
		if len(s.Returns) < 2 || s.Waiting != 1 {
			t.Errorf("the message was not kept from others: %+v", s.Returns)
		}
		for _, r := range s.Returns {
			if r.Hidden != time.Minute {
				t.Errorf("it was hidden for %s", r.Hidden)
			}
		}
		p.Submit("later") // nothing is received while the plane does not hear the worker
		time.Sleep(time.Second)
		p.Fault(func(f *fakeplane.Faults) { f.REST = false })
		for _, id := range []string{"running", "waiting", "later"} {
			if j := await(t, p, id, "SUCCEEDED"); j.Attempt != 1 || j.Taken != 1 {
				t.Errorf("%s: attempt %d, taken %d times", id, j.Attempt, j.Taken)
			}
		}
		if got := p.Seen().Claims; len(got) != 3 {
			t.Errorf("claims %v", got)
		}
	})
}

func TestAClaimWhoseAnswerIsLost(t *testing.T) {
	var runs atomic.Int32
	h := func(context.Context, *worker.Job) (any, error) { time.Sleep(time.Second); return runs.Add(1), nil }
	poll(t, h, func(t *testing.T, p *fakeplane.Plane, _ func()) {
		p.Fault(func(f *fakeplane.Faults) { f.LostClaims = 2 })
		p.Submit("j")
		began := time.Now()
		if j := await(t, p, "j", "SUCCEEDED"); j.Attempt != 1 || time.Since(began) > 5*time.Second {
			t.Errorf("done after %s in attempt %d", time.Since(began), j.Attempt)
		}
		time.Sleep(time.Minute)
		if s := p.Seen(); runs.Load() != 1 || s.Waiting != 0 || !slices.Equal(s.Claims, []string{"claimed", "claimed", "claimed"}) {
			t.Errorf("%d runs, %+v", runs.Load(), s)
		}
	})
}

func TestTwoCopiesOfATicketWhoseClaimIsNotAnswered(t *testing.T) {
	var runs atomic.Int32
	h := func(context.Context, *worker.Job) (any, error) { time.Sleep(time.Second); return runs.Add(1), nil }
	poll(t, h, func(t *testing.T, p *fakeplane.Plane, _ func()) {
		p.Fault(func(f *fakeplane.Faults) { f.LostClaims = 6 })
		p.Submit("j")
		p.Ticket("j", 1)
		await(t, p, "j", "SUCCEEDED")
		p.Ticket("j", 1)
		time.Sleep(time.Minute)
		s := p.Seen()
		if j := p.Job("j"); runs.Load() != 1 || j.Attempt != 1 || j.Taken != 1 || s.Waiting != 0 || len(s.Claims) != 7 {
			t.Errorf("%d runs, attempt %d, taken %d times, %+v", runs.Load(), j.Attempt, j.Taken, s)
		}
	})
}

func TestTwoProcessesOfOneNameNeverRunOneJob(t *testing.T) {
	var runs atomic.Int32
	h := func(context.Context, *worker.Job) (any, error) { runs.Add(1); time.Sleep(time.Minute); return nil, nil }
	poll(t, h, func(t *testing.T, p *fakeplane.Plane, _ func()) {
		p.Submit("j")
		await(t, p, "j", "RUNNING")
		cfg := p.Config() // the same ID
		cfg.Logger = slog.New(slog.DiscardHandler)
		w, err := worker.NewPolling(cfg)
		if err != nil {
			t.Fatal(err)
		}
		w.Handle("job.*", h)
		p.Fault(func(f *fakeplane.Faults) { f.LostClaims = 1 })
		again, err := w.RunBatch(t.Context(), worker.Batch{Messages: []worker.Message{{ID: "copy", Body: `{"job":"j","attempt":1}`}}})
		if err != nil || len(again) != 0 {
			t.Errorf("again %v, %v", again, err)
		}
		await(t, p, "j", "SUCCEEDED")
		if s := p.Seen(); runs.Load() != 1 || !slices.Equal(s.Claims, []string{"claimed", "gone", "gone"}) {
			t.Errorf("%d runs, claims %v", runs.Load(), s.Claims)
		}
	})
}

func TestTheQueueDownThenUp(t *testing.T) {
	poll(t, nothing, func(t *testing.T, p *fakeplane.Plane, _ func()) {
		p.Fault(func(f *fakeplane.Faults) { f.Queue = true })
		p.Submit("j")
		time.Sleep(time.Minute)
		p.Fault(func(f *fakeplane.Faults) { f.Queue = false })
		await(t, p, "j", "SUCCEEDED")
	})
}

func TestTheInboxDownThenUp(t *testing.T) {
	poll(t, nothing, func(t *testing.T, p *fakeplane.Plane, _ func()) {
		p.Fault(func(f *fakeplane.Faults) { f.Inbox = true })
		for i := range 30 {
			p.Submit(fmt.Sprint(i))
		}
		time.Sleep(3 * time.Minute)
		if s := p.Seen(); s.Sends != 0 || len(s.Claims) != 30 {
			t.Errorf("%+v", s)
		}
		p.Fault(func(f *fakeplane.Faults) { f.Inbox = false })
		for i := range 30 {
			if j := await(t, p, fmt.Sprint(i), "SUCCEEDED"); j.Taken != 1 {
				t.Errorf("taken %d times", j.Taken)
			}
		}
		if s := p.Seen(); s.Sends > 6 {
			t.Errorf("30 results took %d sends", s.Sends)
		}
	})
}

// picky refuses batches with a certain job in them.
type picky struct {
	worker.Sender
	refused string
}

func (p picky) Send(ctx context.Context, bodies ...string) error {
	for _, b := range bodies {
		if strings.Contains(b, p.refused) {
			return errors.New("refused")
		}
	}
	return p.Sender.Send(ctx, bodies...)
}

func TestAResultThatCannotBeSentHoldsUpNoOther(t *testing.T) {
	poll(t, nothing, func(t *testing.T, p *fakeplane.Plane, _ func()) {
		for _, id := range []string{"poison", "a", "b", "c"} {
			p.Submit(id)
		}
		for _, id := range []string{"a", "b", "c"} {
			await(t, p, id, "SUCCEEDED")
		}
	}, func(c *worker.PollingConfig) { c.Inbox, c.DrainTimeout = picky{c.Inbox, "poison"}, time.Second })
}

func TestAResultThatThePlaneDidNotTakeIsSentAgain(t *testing.T) {
	var runs atomic.Int32
	h := func(context.Context, *worker.Job) (any, error) { time.Sleep(3 * time.Second); return runs.Add(1), nil }
	poll(t, h, func(t *testing.T, p *fakeplane.Plane, _ func()) {
		p.Submit("j")
		await(t, p, "j", "DISPATCHED")
		p.Forget() // what the worker says with its old token has no effect
		j := await(t, p, "j", "SUCCEEDED")
		if runs.Load() != 1 || j.Taken != 1 || p.Seen().Ignored != 1 {
			t.Errorf("%d runs, taken %d times, %d ignored", runs.Load(), j.Taken, p.Seen().Ignored)
		}
		sends := p.Seen().Sends
		time.Sleep(5 * time.Minute)
		if s := p.Seen(); s.Sends != sends || len(s.Beats[len(s.Beats)-1].Jobs) != 0 {
			t.Errorf("a result that was taken is not forgotten: %d sends, jobs %v", s.Sends-sends, s.Beats[len(s.Beats)-1].Jobs)
		}
	})
}

func TestHeartbeatsNameTheJobs(t *testing.T) {
	poll(t, untilDone(25*time.Second), func(t *testing.T, p *fakeplane.Plane, _ func()) {
		p.Submit("j")
		began := time.Now()
		await(t, p, "j", "RUNNING") // without a word of the handler
		if d := time.Since(began); d > 11*time.Second {
			t.Errorf("RUNNING after %s", d)
		}
		await(t, p, "j", "SUCCEEDED")
		beats := p.Seen().Beats
		for i, b := range beats[1:] {
			if d := b.At.Sub(beats[i].At); d != 10*time.Second {
				t.Errorf("%s between two heartbeats", d)
			}
			if !slices.Equal(b.Jobs, []string{"j"}) || b.GetActiveJobs() != 1 {
				t.Errorf("heartbeat %v of jobs %v", b.Heartbeat, b.Jobs)
			}
		}
		if len(beats) != 3 || len(p.Job("j").Words) != 0 {
			t.Errorf("%d heartbeats, words %v", len(beats), p.Job("j").Words)
		}
	})
}

func TestProgressGoesOutOnceASecond(t *testing.T) {
	h := func(_ context.Context, j *worker.Job) (any, error) {
		for i := range 100 {
			j.Progress(i, fmt.Sprint("step ", i))
			time.Sleep(99 * time.Millisecond)
		}
		return nil, nil
	}
	poll(t, h, func(t *testing.T, p *fakeplane.Plane, _ func()) {
		p.Submit("j")
		j := await(t, p, "j", "SUCCEEDED")
		if n := len(j.Words); n < 9 || n > 11 || j.Words[0].GetPercent() != 0 || j.Words[5].GetPercent() < 48 || j.Words[5].GetMessage() == "" {
			t.Errorf("%d words: %v", n, j.Words)
		}
	})
}

func TestDrainWithoutAStream(t *testing.T) {
	poll(t, untilDone(8*time.Second), func(t *testing.T, p *fakeplane.Plane, stop func()) {
		p.Submit("j")
		await(t, p, "j", "DISPATCHED")
		p.Fault(func(f *fakeplane.Faults) { f.REST = true })
		p.Submit("unclaimed")
		time.Sleep(time.Second)
		p.Fault(func(f *fakeplane.Faults) { f.REST = false })
		began := time.Now()
		go func() { // it comes after the worker was told to stop
			time.Sleep(time.Second)
			p.Submit("late")
		}()
		stop()
		if d := time.Since(began); d > 15*time.Second {
			t.Errorf("it took %s", d)
		}
		s := p.Seen()
		if j := p.Job("j"); j.State != "SUCCEEDED" {
			t.Errorf("what ran is %s", j.State)
		}
		if u := p.Job("unclaimed"); u.State != "SCHEDULED" && u.State != "SUCCEEDED" {
			t.Errorf("what was at hand is %s", u.State)
		}
		if l := p.Job("late"); l.State != "SCHEDULED" {
			t.Errorf("what came later is %s", l.State)
		}
		last := s.Beats[len(s.Beats)-1]
		if !last.Leaving || slices.ContainsFunc(s.Beats[:len(s.Beats)-1], func(b fakeplane.Beat) bool { return b.Leaving }) {
			t.Errorf("good-bye: %+v", s.Beats)
		}
		full := slices.ContainsFunc(s.Beats, func(b fakeplane.Beat) bool { return !b.Leaving && b.GetActiveJobs() == b.GetMaxParallelJobs() })
		if !full {
			t.Error("no heartbeat told that there is no room")
		}
	})
}

func TestDrainGivesBackWhatIsNotClaimed(t *testing.T) {
	poll(t, nothing, func(t *testing.T, p *fakeplane.Plane, stop func()) {
		time.Sleep(time.Second)
		p.Fault(func(f *fakeplane.Faults) { f.REST = true })
		p.Submit("a")
		p.Submit("b")
		time.Sleep(3 * time.Second)
		stop()
		s := p.Seen()
		if len(s.Returns) != 2 || s.Returns[0].Hidden != 0 || s.Returns[1].Hidden != 0 || s.Waiting != 2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhatDrainCannotWaitForGoesToOthers(t *testing.T) {
	ended := make(chan error, 1)
	h := func(ctx context.Context, _ *worker.Job) (any, error) {
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return nil, ctx.Err()
	}
	poll(t, h, func(t *testing.T, p *fakeplane.Plane, stop func()) {
		p.Submit("j")
		await(t, p, "j", "RUNNING")
		began := time.Now()
		stop()
		if d := time.Since(began); d < 30*time.Second || d > 31*time.Second {
			t.Errorf("it waited for %s", d)
		}
		if err := <-ended; err == nil || err.Error() != "worker: stopped" {
			t.Errorf("the handler ended with %v", err)
		}
		if s := p.Seen(); p.Job("j").State != "RUNNING" || s.Sends != 0 || s.Beats[len(s.Beats)-1].Leaving {
			t.Errorf("%s, %d sends; a worker with jobs must leave by silence", p.Job("j").State, s.Sends)
		}
	})
}

func TestAPollingWorkerThatVanishes(t *testing.T) {
	poll(t, untilDone(time.Hour), func(t *testing.T, p *fakeplane.Plane, stop func()) {
		p.Submit("j")
		await(t, p, "j", "RUNNING")
		before, began := p.Seen(), time.Now()
		stop()
		if s := p.Seen(); len(s.Beats) != len(before.Beats) || s.Sends != 0 || time.Since(began) > time.Second {
			t.Errorf("it said something: %+v", s)
		}
	}, func(c *worker.PollingConfig) { c.DrainTimeout = -1 })
}

// slow takes its time for claims.
type slow struct{ http.RoundTripper }

func (s slow) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := s.RoundTripper.RoundTrip(r)
	if strings.HasSuffix(r.URL.Path, "/claim") {
		time.Sleep(5 * time.Second)
	}
	return res, err
}

func TestAClaimThatIsAnsweredAfterTheEnd(t *testing.T) {
	poll(t, untilDone(time.Hour), func(t *testing.T, p *fakeplane.Plane, stop func()) {
		p.Submit("j")
		time.Sleep(time.Second)
		began := time.Now()
		stop()
		if d := time.Since(began); d > 5*time.Second || p.Job("j").State != "DISPATCHED" {
			t.Errorf("after %s the job is %s", d, p.Job("j").State)
		}
	}, func(c *worker.PollingConfig) {
		c.DrainTimeout, c.HTTP = time.Second, &http.Client{Transport: slow{c.HTTP.Transport}}
	})
}

// front answers in the plane's place for a while.
type front struct {
	http.RoundTripper
	status int
	left   atomic.Int32
}

func (f *front) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.left.Add(-1) < 0 {
		return f.RoundTripper.RoundTrip(r)
	}
	rec := httptest.NewRecorder()
	rec.Header().Set("Location", "http://elsewhere.test/")
	rec.WriteHeader(f.status)
	_, _ = rec.WriteString("<html>")
	return rec.Result(), nil
}

func TestWhatStandsInFrontOfThePlaneIsNotThePlane(t *testing.T) {
	for _, status := range []int{200, 301, 403, 404, 502} {
		f := &front{status: status}
		f.left.Store(3)
		poll(t, nothing, func(t *testing.T, p *fakeplane.Plane, _ func()) {
			p.Submit("j")
			await(t, p, "j", "SUCCEEDED")
		}, func(c *worker.PollingConfig) {
			f.RoundTripper = c.HTTP.Transport
			c.HTTP = &http.Client{Transport: f}
		})
	}
}

func TestALoadedWorkerTakesNoJobs(t *testing.T) {
	var load atomic.Int32
	load.Store(95)
	poll(t, nothing, func(t *testing.T, p *fakeplane.Plane, _ func()) {
		p.Submit("j")
		time.Sleep(time.Minute)
		if s := p.Seen(); len(s.Claims) != 0 || s.Beats[0].GetCpuLoad() != 95 {
			t.Errorf("%+v", s)
		}
		load.Store(20)
		await(t, p, "j", "SUCCEEDED")
	}, func(c *worker.PollingConfig) {
		c.Load = func() (cpu, gpu, memory float32) { return float32(load.Load()), 0, 0 }
	})
}

func TestManyJobsOfManyAtOnce(t *testing.T) {
	poll(t, nothing, func(t *testing.T, p *fakeplane.Plane, _ func()) {
		const n = 3000
		for i := range n {
			p.Submit(fmt.Sprint(i))
		}
		for i := range n {
			await(t, p, fmt.Sprint(i), "SUCCEEDED")
		}
		time.Sleep(time.Minute)
		s := p.Seen()
		if s.Waiting != 0 || s.Ignored != 0 || len(s.Claims) != n || len(s.Beats[len(s.Beats)-1].Jobs) != 0 {
			t.Errorf("%d waiting, %d ignored, %d claims, the last heartbeat names %d", s.Waiting, s.Ignored, len(s.Claims), len(s.Beats[len(s.Beats)-1].Jobs))
		}
		for _, b := range s.Beats {
			if len(b.Jobs) > 1000 {
				t.Errorf("a heartbeat names %d jobs", len(b.Jobs))
			}
		}
	}, func(c *worker.PollingConfig) { c.MaxParallel = 100 })
}

func TestRunReturnsWhenThePlaneRefusesThePollingWorker(t *testing.T) {
	run := func(p *fakeplane.Plane, edit func(*worker.PollingConfig)) (*worker.Polling, error) {
		cfg := p.Config()
		cfg.Logger = slog.New(slog.DiscardHandler)
		edit(&cfg)
		w, err := worker.NewPolling(cfg)
		if err != nil {
			t.Fatal(err)
		}
		w.Handle("job.*", untilDone(time.Hour))
		return w, nil
	}
	for name, edit := range map[string]func(*worker.PollingConfig){
		"a bad key": func(c *worker.PollingConfig) { c.APIKey = "x" }, "another's pool": func(c *worker.PollingConfig) { c.Pool = "gpu" },
		"no queue": func(c *worker.PollingConfig) { c.Queue = nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			w, _ := run(fakeplane.New(), edit)
			if err := w.Run(t.Context()); err == nil {
				t.Errorf("%s: Run did not fail", name)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // a key that is taken away while jobs run
		p := fakeplane.New()
		w, _ := run(p, func(*worker.PollingConfig) {})
		p.Submit("j")
		done := make(chan error)
		go func() { done <- w.Run(t.Context()) }()
		await(t, p, "j", "RUNNING")
		p.Fault(func(f *fakeplane.Faults) { f.Refuse = 401 })
		if err := <-done; err == nil || !strings.Contains(err.Error(), "HTTP 401: refused") {
			t.Errorf("run: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // what comes and goes
		p := fakeplane.New()
		w, _ := run(p, func(*worker.PollingConfig) {})
		p.Fault(func(f *fakeplane.Faults) { f.Refuse = 503 })
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := w.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func TestPollingConfigurationsThatAreRefused(t *testing.T) {
	for name, edit := range map[string]func(*worker.PollingConfig){
		"no address": func(c *worker.PollingConfig) { c.URL = "" }, "no key": func(c *worker.PollingConfig) { c.APIKey = "" },
		"a key with the end of its line": func(c *worker.PollingConfig) { c.APIKey += "\n" },
		"no pool":                        func(c *worker.PollingConfig) { c.Pool = "" }, "no inbox": func(c *worker.PollingConfig) { c.Inbox = nil },
		"an address of another kind": func(c *worker.PollingConfig) { c.URL = "plane:8080" },
		"negative parallelism":       func(c *worker.PollingConfig) { c.MaxParallel = -1 },
		"more than a heartbeat says": func(c *worker.PollingConfig) { c.MaxParallel = 501 },
	} {
		c := fakeplane.New().Config()
		edit(&c)
		if _, err := worker.NewPolling(c); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
