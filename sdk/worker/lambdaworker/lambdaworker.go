// Package lambdaworker makes a Lambda function a worker: the queue of a pool is its event source, and handlers run in it as they do in a process of
// their own.
//
// Each record of an event is a ticket. The function claims its job, runs it, and sends the result to the plane's inbox; while jobs run it tells the
// plane every 10 seconds that it lives, and learns of cancels. Set it up so:
//
//   - the event source with ReportBatchItemFailures, and a batch size of at most MaxParallel: what exceeds it waits inside the function;
//   - the function's timeout above the longest job by [DefaultReserve] and a little, at most 15 minutes;
//   - the queue's visibility timeout at least the function's timeout: AWS refuses the event source otherwise.
//
// A function cannot run longer than 15 minutes. A job that has not ended when the function's time is over fails with the code [OutOfTime], rather
// than being handed out again only to meet the same end. Jobs that may take longer than [MaxRun] belong to a pool of other workers. A record that
// finds too little time left, because others of its batch went first, is not claimed; it comes again.
package lambdaworker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/cordum-serverless/cordum/sdk/worker"
)

const (
	// MaxRun is the longest that a job may take, whatever the function's timeout.
	MaxRun = 14 * time.Minute
	// DefaultReserve is how much of the function's time is kept for what follows its jobs.
	DefaultReserve = 10 * time.Second
	// DefaultLeast is how much time a job must find to be claimed, at most: it is half of the time that there is, where that is less.
	DefaultLeast = 30 * time.Second
	// OutOfTime is the error code of a job that did not end in the function's time.
	OutOfTime = "lambda_out_of_time"
)

// Function is what lambda.Start takes.
type Function = func(context.Context, events.SQSEvent) (events.SQSEventResponse, error)

// Option is a handler, or changes what New makes.
type Option func(*function) error

// Handle runs jobs of a topic with a handler, as worker.Polling's Handle does: the topic may be a pattern, "job.etl.*"; an exact one wins, then the
// earliest. New panics on a malformed one.
func Handle(topic string, h worker.Handler) Option {
	return func(f *function) error {
		f.worker.Handle(topic, h)
		f.handlers++
		return nil
	}
}

// Reserve sets how much of the function's time is kept for what follows its jobs, instead of DefaultReserve: results are stored and sent in it.
func Reserve(d time.Duration) Option {
	return func(f *function) error {
		f.reserve = d
		return positive("Reserve", d)
	}
}

// Least sets how much time a job must find to be claimed, instead of DefaultLeast. A record that finds less comes again.
func Least(d time.Duration) Option {
	return func(f *function) error {
		f.least = d
		return positive("Least", d)
	}
}

func positive(name string, d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("lambdaworker: %s is %s; it must be above 0", name, d)
	}
	return nil
}

type function struct {
	worker         *worker.Polling
	log            *slog.Logger
	handlers       int
	reserve, least time.Duration
}

// New makes the function. cfg is that of a polling worker; Queue and DrainTimeout have no meaning here. Leave ID empty: every instance of a function is
// a worker of its own, under a random one. (Instances that share one, for a SigningKey's sake, do not get each other's jobs either; but those of an
// instance that dies wait until they time out.) There must be a handler.
//
// The function answers which records must come again. It fails, so that all do, when the plane cannot be reached or does not let it in.
func New(cfg worker.PollingConfig, options ...Option) (Function, error) {
	w, err := worker.NewPolling(cfg)
	if err != nil {
		return nil, err
	}
	f := &function{worker: w, log: cfg.Logger, reserve: DefaultReserve}
	if f.log == nil {
		f.log = slog.Default()
	}
	for _, o := range options {
		if err := o(f); err != nil {
			return nil, err
		}
	}
	if f.handlers == 0 {
		return nil, errors.New("lambdaworker: there is no handler; give New a Handle")
	}
	return f.invoke, nil
}

func (f *function) invoke(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	var none events.SQSEventResponse
	now := time.Now()
	until := now.Add(MaxRun)
	if deadline, ok := ctx.Deadline(); ok {
		if until = earlier(until, deadline.Add(-f.reserve)); !until.After(now) {
			return none, fmt.Errorf("lambdaworker: the function's timeout leaves no time for a job: %s are reserved", f.reserve)
		}
	}
	run := until.Sub(now)
	b := worker.Batch{Until: until, Least: f.least, Late: &worker.Error{Code: OutOfTime, Message: fmt.Sprintf(
		"the function's time was over before the job ended, %s after the invocation began; jobs of this pool must take less", run.Round(time.Second),
	)}}
	if b.Least == 0 {
		b.Least = min(DefaultLeast, run/2)
	}
	for _, r := range event.Records {
		b.Messages = append(b.Messages, worker.Message{ID: r.MessageId, Body: r.Body, Receipt: r.ReceiptHandle})
	}
	again, err := f.worker.RunBatch(ctx, b)
	if err != nil && len(again) == len(event.Records) {
		return none, err
	}
	if err != nil {
		f.log.ErrorContext(ctx, "batch not done in full", "again", len(again), "error", err)
	}
	res := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
	for _, id := range again {
		res.BatchItemFailures = append(res.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: id})
	}
	return res, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
