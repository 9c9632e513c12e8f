package eventsource_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/cordum-serverless/cordum/localdev/eventsource"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
)

type function func(events.SQSEvent) (string, error)

func (f function) Invoke(_ context.Context, event []byte) ([]byte, error) {
	var e events.SQSEvent
	if err := json.Unmarshal(event, &e); err != nil {
		return nil, err
	}
	answer, err := f(e)
	return []byte(answer), err
}

// run drives a function by a queue with these messages for two minutes of virtual time, and answers the depths of the queue and of its dead-letter
// queue afterwards.
func run(t *testing.T, fifo bool, f function, msgs ...queue.Message) (left, dead int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p, err := embedded.Open("", embedded.Options{})
		if err != nil {
			t.Fatal(err)
		}
		suffix := ""
		if fifo {
			suffix = ".fifo"
		}
		q := p.Queues()
		err = q.Ensure(t.Context(), queue.Def{Name: "dead" + suffix, FIFO: fifo, Visibility: time.Minute, Retention: time.Hour}, queue.Def{
			Name: "q" + suffix, FIFO: fifo, Visibility: 10 * time.Second, Retention: time.Hour, MaxReceives: 3, DeadLetter: "dead" + suffix,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Send(t.Context(), "q"+suffix, msgs...); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			eventsource.Mapping{
				Queues: q, Queue: "q" + suffix, Batch: 10, Function: f, Name: "f", Pollers: 2, Region: "r", Account: "a",
				Log: slog.New(slog.DiscardHandler),
			}.Run(ctx)
		})
		time.Sleep(2 * time.Minute)
		stop()
		running.Wait()
		left, _ = q.Depth(t.Context(), "q"+suffix)
		dead, _ = q.Depth(t.Context(), "dead"+suffix)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return left, dead
}

func bodies(bs ...string) []queue.Message {
	var ms []queue.Message
	for _, b := range bs {
		ms = append(ms, queue.Message{Body: b})
	}
	return ms
}

// failing answers that the messages with these bodies failed.
func failing(e events.SQSEvent, which ...string) string {
	var res events.SQSEventResponse
	for _, r := range e.Records {
		if slices.Contains(which, r.Body) {
			res.BatchItemFailures = append(res.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: r.MessageId})
		}
	}
	text, _ := json.Marshal(res)
	return string(text)
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name       string
		answer     func(e events.SQSEvent) (string, error)
		left, dead int
	}{
		{"nothing failed", func(e events.SQSEvent) (string, error) { return failing(e), nil }, 0, 0},
		{"no answer", func(events.SQSEvent) (string, error) { return "", nil }, 0, 0},
		{"null", func(events.SQSEvent) (string, error) { return "null", nil }, 0, 0},
		{"one failed", func(e events.SQSEvent) (string, error) { return failing(e, "b"), nil }, 0, 1},
		{"an error", func(events.SQSEvent) (string, error) { return "", errors.New("no") }, 0, 3},
		{"no batch response", func(events.SQSEvent) (string, error) { return `"done"`, nil }, 0, 3},
		{"an empty id", func(events.SQSEvent) (string, error) { return `{"batchItemFailures":[{"itemIdentifier":""}]}`, nil }, 0, 3},
		{"a foreign id", func(events.SQSEvent) (string, error) { return `{"batchItemFailures":[{"itemIdentifier":"x"}]}`, nil }, 0, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			if left, dead := run(t, false, c.answer, bodies("a", "b", "c")...); left != c.left || dead != c.dead {
				t.Errorf("%d left, %d dead", left, dead)
			}
		})
	}
}

// TestVisibility: what was not handled stays hidden for as long as its queue says.
func TestVisibility(t *testing.T) {
	var at []time.Time
	run(t, false, func(e events.SQSEvent) (string, error) {
		if e.Records[0].Attributes["ApproximateReceiveCount"] != []string{"1", "2", "3"}[len(at)] || e.Records[0].EventSourceARN != "arn:aws:sqs:r:a:q" {
			t.Errorf("%+v", e.Records[0])
		}
		at = append(at, time.Now())
		return "", errors.New("no")
	}, bodies("a")...)
	if len(at) != 3 || at[1].Sub(at[0]) < 10*time.Second || at[1].Sub(at[0]) > 12*time.Second {
		t.Errorf("%v", at)
	}
}

// TestFIFO: a group waits behind the message that failed, other groups go on.
func TestFIFO(t *testing.T) {
	var mu sync.Mutex
	handled := map[string][]string{}
	tries := 0
	var ms []queue.Message
	for _, b := range []string{"x1", "y1", "x2", "y2", "x3"} {
		ms = append(ms, queue.Message{Body: b, Group: b[:1], Dedup: b})
	}
	left, dead := run(t, true, func(e events.SQSEvent) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		var again []string
		stuck := map[string]bool{}
		for _, r := range e.Records {
			g := r.Attributes["MessageGroupId"]
			if r.Body == "x1" {
				if tries++; tries < 3 {
					stuck[g] = true
				}
			}
			if stuck[g] {
				again = append(again, r.Body)
				continue
			}
			handled[g] = append(handled[g], r.Body)
		}
		return failing(e, again...), nil
	}, ms...)
	if left != 0 || dead != 0 || !slices.Equal(handled["x"], []string{"x1", "x2", "x3"}) || !slices.Equal(handled["y"], []string{"y1", "y2"}) {
		t.Errorf("%d left, %d dead, %v", left, dead, handled)
	}
}
