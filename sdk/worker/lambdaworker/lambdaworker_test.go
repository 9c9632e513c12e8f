package lambdaworker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"

	"github.com/cordum-serverless/cordum/sdk/worker"
	"github.com/cordum-serverless/cordum/sdk/worker/internal/fakeplane"
	"github.com/cordum-serverless/cordum/sdk/worker/lambdaworker"
)

// function makes a worker function on a fake plane and answers what invokes it with tickets for first attempts, by the bytes of the event and
// with the deadline that a Lambda of that timeout has.
func function(t *testing.T, p *fakeplane.Plane, h worker.Handler, options ...lambdaworker.Option) func(timeout time.Duration, ids ...string) ([]string, error) {
	t.Helper()
	cfg := p.Config()
	cfg.Queue, cfg.Logger = nil, slog.New(slog.DiscardHandler)
	f, err := lambdaworker.New(cfg, append(options, lambdaworker.Handle("job.*", h))...)
	if err != nil {
		t.Fatal(err)
	}
	handler := lambda.NewHandler(f)
	return func(timeout time.Duration, ids ...string) ([]string, error) {
		var e events.SQSEvent
		for _, id := range ids {
			e.Records = append(e.Records, events.SQSMessage{MessageId: "m-" + id, Body: fmt.Sprintf(`{"job":%q,"attempt":1}`, id)})
		}
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		if timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		answer, err := handler.Invoke(ctx, raw)
		if err != nil {
			return nil, err
		}
		var res events.SQSEventResponse
		if err := json.Unmarshal(answer, &res); err != nil {
			t.Fatal(err)
		}
		var again []string
		for _, f := range res.BatchItemFailures {
			again = append(again, f.ItemIdentifier)
		}
		return again, nil
	}
}

func working(d time.Duration) worker.Handler {
	return func(ctx context.Context, j *worker.Job) (any, error) {
		select {
		case <-time.After(d):
			return j.ID, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func TestEachRecordIsAJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakeplane.New()
		invoke := function(t, p, working(2*time.Minute))
		p.Submit("a")
		p.Submit("b")
		if again, err := invoke(5*time.Minute, "a", "b", "gone"); err != nil || len(again) != 0 {
			t.Errorf("again %v, %v", again, err)
		}
		for _, id := range []string{"a", "b"} {
			if j := p.Job(id); j.State != "SUCCEEDED" || string(j.Output) != `"`+id+`"` {
				t.Errorf("%s is %s: %s", id, j.State, j.Output)
			}
		}
		if n := len(p.Seen().Beats); n < 12 || n > 14 {
			t.Errorf("%d heartbeats in two minutes", n)
		}
		p.Submit("c")
		p.Fault(func(f *fakeplane.Faults) { f.ClaimAs = "elsewhere" })
		if again, err := invoke(5*time.Minute, "c"); err != nil || len(again) != 1 || again[0] != "m-c" {
			t.Errorf("one for another worker: again %v, %v", again, err)
		}
	})
}

func TestJobsThatDoNotEndInTheFunctionsTime(t *testing.T) {
	for name, c := range map[string]struct {
		timeout, want time.Duration
		text          string
	}{
		"a short timeout":  {time.Minute, 50 * time.Second, "the function's time was over before the job ended, 50s after the invocation began; jobs of this pool must take less"},
		"the longest":      {15 * time.Minute, 14 * time.Minute, "the function's time was over before the job ended, 14m0s after the invocation began; jobs of this pool must take less"},
		"no timeout known": {0, 14 * time.Minute, "the function's time was over before the job ended, 14m0s after the invocation began; jobs of this pool must take less"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := fakeplane.New()
				invoke := function(t, p, working(time.Hour))
				p.Submit("a")
				began := time.Now()
				if again, err := invoke(c.timeout, "a"); err != nil || len(again) != 0 || time.Since(began) != c.want {
					t.Errorf("again %v, %v, after %s", again, err, time.Since(began))
				}
				j := p.Job("a")
				if j.State != "FAILED" || j.Result.GetErrorCode() != lambdaworker.OutOfTime || j.Result.GetErrorMessage() != c.text {
					t.Errorf("%s: %v", j.State, j.Result)
				}
			})
		})
	}
}

func TestRecordsThatFindTooLittleTimeComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakeplane.New()
		invoke := function(t, p, working(40*time.Second), lambdaworker.Least(20*time.Second), lambdaworker.Reserve(5*time.Second))
		var ids []string
		for i := range 9 { // four at once: those of the third round would find 10 seconds
			ids = append(ids, fmt.Sprint("j", i))
			p.Submit(ids[i])
		}
		again, err := invoke(95*time.Second, ids...)
		if err != nil || len(again) != 1 || p.Job(again[0][2:]).State != "SCHEDULED" {
			t.Errorf("again %v, %v", again, err)
		}
		if again, err = invoke(3*time.Second, "j0"); err == nil {
			t.Errorf("a timeout below the reserve: again %v", again)
		}
	})
}

func TestTheFunctionFailsWhenThePlaneIsOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fakeplane.New()
		invoke := function(t, p, working(time.Second))
		p.Submit("a")
		p.Fault(func(f *fakeplane.Faults) { f.REST = true })
		if again, err := invoke(time.Minute, "a"); err == nil {
			t.Errorf("again %v", again)
		}
	})
}

func TestFunctionsThatAreRefused(t *testing.T) {
	h := lambdaworker.Handle("job.*", working(0))
	if _, err := lambdaworker.New(worker.PollingConfig{}, h); err == nil {
		t.Error("an empty configuration was accepted")
	}
	for name, options := range map[string][]lambdaworker.Option{
		"no handler": nil, "no reserve": {h, lambdaworker.Reserve(0)}, "nothing at least": {h, lambdaworker.Least(-1)},
	} {
		if _, err := lambdaworker.New(fakeplane.New().Config(), options...); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
