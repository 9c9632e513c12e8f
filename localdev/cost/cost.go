// Package cost turns counted requests and capacity units into dollars.
package cost

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// PricesOf is the date on which the prices were read, for us-east-1, on demand, without a free tier.
const PricesOf = "2026-11-23"

// Prices in dollars per million. Source: the public price pages of DynamoDB (on-demand), SQS, Lambda (arm64) and API Gateway (HTTP API).
const (
	WriteUnit   = 0.625
	ReadUnit    = 0.125
	QueueCall   = 0.40
	Invocation  = 0.20
	HTTPRequest = 1.00
	// GBSecond is dollars for one gigabyte-second.
	GBSecond = 0.0000133334
)

// Size and time of a function, for its share of compute: 512 MB for 8 ms is what a warm submit is budgeted.
const (
	functionGB      = 0.5
	functionSeconds = 0.008
)

// Life is what one job, or a part of its life, uses.
type Life struct {
	store.Usage
	QueueCalls   float64
	HTTPRequests float64
	Invocations  float64
}

// Dollars is the price of a million such lives.
func (l Life) Dollars() float64 {
	compute := l.Invocations * functionGB * functionSeconds * GBSecond * 1e6
	return l.WriteUnits*WriteUnit + l.ReadUnits*ReadUnit + l.QueueCalls*QueueCall + l.Invocations*Invocation +
		l.HTTPRequests*HTTPRequest + compute
}

// Add adds another part.
func (l *Life) Add(o Life) {
	l.Reads, l.Writes = l.Reads+o.Reads, l.Writes+o.Writes
	l.ReadUnits, l.WriteUnits = l.ReadUnits+o.ReadUnits, l.WriteUnits+o.WriteUnits
	l.QueueCalls, l.HTTPRequests, l.Invocations = l.QueueCalls+o.QueueCalls, l.HTTPRequests+o.HTTPRequests, l.Invocations+o.Invocations
}

// Divide is the share of one of n; requests are left out where they are no whole number.
func (l Life) Divide(n float64) Life {
	return Life{
		Usage:      store.Usage{ReadUnits: l.ReadUnits / n, WriteUnits: l.WriteUnits / n},
		QueueCalls: l.QueueCalls / n, HTTPRequests: l.HTTPRequests / n, Invocations: l.Invocations / n,
	}
}

// Print writes the line of a part.
func (l Life) Print(w io.Writer, name string) {
	fmt.Fprintf(w, "cost %-15s %5.1f writes %5.1f write_units %5.1f reads %6.2f read_units %5.2f queue_calls %5.2f http %7.2f usd_per_million\n",
		name, float64(l.Writes), l.WriteUnits, float64(l.Reads), l.ReadUnits, l.QueueCalls, l.HTTPRequests, l.Dollars())
}

// Queues counts the calls of a queue port as SQS bills them: one for each batch of at most ten messages, and one for each receive.
type Queues struct {
	queue.Queues
	Calls atomic.Int64
	// Empty counts receives that brought nothing: the price of waiting, which does not belong to a job.
	Empty atomic.Int64
}

// Send counts the batches.
func (q *Queues) Send(ctx context.Context, name string, msgs ...queue.Message) error {
	q.Calls.Add(batches(len(msgs)))
	return q.Queues.Send(ctx, name, msgs...)
}

// Receive counts one call.
func (q *Queues) Receive(ctx context.Context, name string, limit int, wait, visibility time.Duration) ([]queue.Received, error) {
	msgs, err := q.Queues.Receive(ctx, name, limit, wait, visibility)
	if len(msgs) == 0 {
		q.Empty.Add(1)
	} else {
		q.Calls.Add(1)
	}
	return msgs, err
}

// Delete counts the batches.
func (q *Queues) Delete(ctx context.Context, name string, receipts ...string) error {
	q.Calls.Add(batches(len(receipts)))
	return q.Queues.Delete(ctx, name, receipts...)
}

// Extend counts one call.
func (q *Queues) Extend(ctx context.Context, name, receipt string, d time.Duration) error {
	q.Calls.Add(1)
	return q.Queues.Extend(ctx, name, receipt, d)
}

func batches(n int) int64 { return int64((n + queue.MaxBatch - 1) / queue.MaxBatch) }
