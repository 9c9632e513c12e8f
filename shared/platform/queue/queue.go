// Package queue is the port to message queues: at least once, in no order (standard) or in order per group (FIFO). The semantics are
// SQS's, and only those: a message may come twice, a receive may come back empty. Adapters pass queuetest.
package queue

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Limits of SQS that hold on every adapter.
const (
	// MaxDelay is the longest delay of a message.
	MaxDelay = 15 * time.Minute
	// MaxVisibility is the longest a received message stays hidden.
	MaxVisibility = 12 * time.Hour
	// MaxBody is the largest body, in bytes.
	MaxBody = 256 * 1024
	// MaxBatch is the most messages of one receive.
	MaxBatch = 10
)

// Def defines a queue.
type Def struct {
	// Name is the queue's name on every adapter; a FIFO queue's name ends in ".fifo".
	Name string
	FIFO bool
	// Visibility is how long a received message stays hidden unless the receive says otherwise.
	Visibility time.Duration
	// Retention is how long an unconsumed message is kept.
	Retention time.Duration
	// MaxReceives is how often a message is received before it moves to DeadLetter; 0 is without end.
	MaxReceives int
	// DeadLetter names the queue for messages that were received too often; "" when there is none.
	DeadLetter string
}

// Message is what a sender gives.
type Message struct {
	Body string
	// Delay hides the message at first; whole seconds, at most MaxDelay. Not on FIFO queues.
	Delay time.Duration
	// Group orders messages of a FIFO queue; required there, and empty elsewhere.
	Group string
	// Dedup makes a FIFO queue accept one message of that id within five minutes; required there, and empty elsewhere.
	Dedup string
}

// Received is what a consumer gets.
type Received struct {
	ID      string
	Body    string
	Receipt string // for Delete and Extend; valid for this receive only
	Group   string // FIFO only
	// Receives counts deliveries, this one included.
	Receives int
	SentAt   time.Time
}

// Queues is the port. All methods may fail with ErrUnavailable, with ErrUnknownQueue, and with the context's error.
type Queues interface {
	// Ensure creates what is missing of the queues; what is there already is left as it is. A dead-letter queue comes before the
	// queues that name it.
	Ensure(ctx context.Context, defs ...Def) error
	// Send stores messages durably. Any number is taken; they are sent in batches. When one of them does not pass Message.Check, none is
	// sent (ErrInvalid). A *PartialError names what was not sent.
	Send(ctx context.Context, queue string, msgs ...Message) error
	// Receive answers up to most (1 to 10) messages, waiting at most wait (0 to 20 s) for the first, and hides them for visibility
	// (0: the queue's own). Fractions of a second may be rounded up.
	Receive(ctx context.Context, queue string, most int, wait, visibility time.Duration) ([]Received, error)
	// Delete acknowledges messages. Receipts that are no longer valid are ignored.
	Delete(ctx context.Context, queue string, receipts ...string) error
	// Extend hides a received message for d from now; 0 gives it back at once. A receipt that is no longer valid is ignored.
	Extend(ctx context.Context, queue, receipt string, d time.Duration) error
	// Depth answers about how many messages wait, hidden and delayed ones included.
	Depth(ctx context.Context, queue string) (int, error)
}

// What may go wrong.
var (
	ErrUnknownQueue = errors.New("queue: no such queue")
	ErrInvalid      = errors.New("queue: invalid request")
	ErrUnavailable  = errors.New("queue: not available")
)

// PartialError says which messages of a Send were not sent; all others were.
type PartialError struct {
	// Failed holds positions in the messages given.
	Failed []int
	Err    error
}

func (e *PartialError) Error() string {
	return fmt.Sprintf("queue: %d messages not sent: %v", len(e.Failed), e.Err)
}

// Unwrap answers the cause.
func (e *PartialError) Unwrap() error { return e.Err }
