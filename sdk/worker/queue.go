package worker

import (
	"context"
	"encoding/json"
	"time"
)

// Message is a message of a pool's queue: a ticket that stands for one attempt of one job.
type Message struct {
	// ID names the message in what RunBatch answers. Queues that Run reads need not set it.
	ID string
	// Body is the ticket, {"job": "…", "attempt": 1}.
	Body string
	// Receipt is the queue's own word for this delivery of the message.
	Receipt string
}

// Queue is the queue of a pool, as a polling worker reads it: messages may come twice and in any order. Package sqsqueue has it on SQS. All methods
// are called from several goroutines at once.
type Queue interface {
	// Receive answers up to most messages, 1 to 10, and hides each from others for a time. It waits for the first one for a while, seconds,
	// not minutes; none is no error. Fractions of a second may be rounded up, here and in Return.
	Receive(ctx context.Context, most int, hidden time.Duration) ([]Message, error)
	// Delete takes messages out for good, at most 10. One that is not there any more, or that came to somebody else since, is no error. An
	// error means that some may come again, which harms nobody.
	Delete(ctx context.Context, messages ...Message) error
	// Return hides a received message for a time from now on; 0 gives it back at once.
	Return(ctx context.Context, m Message, hidden time.Duration) error
}

// Sender is the way into the plane's inbox queue. Package sqsqueue has it on SQS.
type Sender interface {
	// Send stores bodies durably, at most 10, each shorter than 64 KB. An error means that some may not be stored: they are sent again, and of
	// two that are the same the plane takes one.
	Send(ctx context.Context, bodies ...string) error
}

// maxBatch is how many messages one call to a queue takes.
const maxBatch = 10

// ticket is the body of a message of a pool's queue.
type ticket struct {
	Job     string `json:"job"`
	Attempt int64  `json:"attempt"`
}

// String is the ticket as a message's body.
func (t ticket) String() string {
	body, err := json.Marshal(t)
	if err != nil {
		panic("worker: ticket: " + err.Error()) // a text and a number
	}
	return string(body)
}

func parseTicket(body string) (t ticket, ok bool) {
	err := json.Unmarshal([]byte(body), &t)
	return t, err == nil && t.Job != "" && t.Attempt > 0
}
