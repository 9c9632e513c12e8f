package queue

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxWait is the longest that a receive waits.
const MaxWait = 20 * time.Second

// DedupWindow is how long a FIFO queue remembers a deduplication id.
const DedupWindow = 5 * time.Minute

// IsFIFO says whether a queue of that name is FIFO.
func IsFIFO(name string) bool { return strings.HasSuffix(name, ".fifo") }

var (
	// names leaves room for the prefix that a deployment puts in front; SQS takes 80.
	names = regexp.MustCompile(`^[A-Za-z0-9_-]{1,60}(\.fifo)?$`)
	// tokens are what SQS takes as group and deduplication ids.
	tokens = regexp.MustCompile("^[A-Za-z0-9!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]{1,128}$")
)

// Check answers ErrInvalid, with the reason, for what no adapter accepts.
func (d Def) Check() error {
	switch {
	case !names.MatchString(d.Name):
		return invalid("name %q: 1 to 60 letters, digits, _ and -", d.Name)
	case d.FIFO != IsFIFO(d.Name):
		return invalid("name %q: a FIFO queue's name ends in .fifo, and no other's", d.Name)
	case d.Visibility < time.Second || d.Visibility > MaxVisibility || !wholeSeconds(d.Visibility):
		return invalid("queue %s: visibility %v", d.Name, d.Visibility)
	case d.Retention < time.Minute || d.Retention > 14*24*time.Hour || !wholeSeconds(d.Retention):
		return invalid("queue %s: retention %v is not 1 minute to 14 days", d.Name, d.Retention)
	case d.MaxReceives < 0 || d.MaxReceives > 1000 || (d.MaxReceives == 0) != (d.DeadLetter == ""):
		return invalid("queue %s: %d receives and dead-letter queue %q do not belong together", d.Name, d.MaxReceives, d.DeadLetter)
	case d.DeadLetter != "" && IsFIFO(d.DeadLetter) != d.FIFO:
		return invalid("queue %s: dead-letter queue %s is of the other kind", d.Name, d.DeadLetter)
	case d.DeadLetter == d.Name:
		return invalid("queue %s is its own dead-letter queue", d.Name)
	}
	return nil
}

// Check answers ErrInvalid, with the reason, for a message that the queue does not take.
func (m Message) Check(queue string) error {
	switch fifo := IsFIFO(queue); {
	case m.Body == "":
		return invalid("empty body")
	case len(m.Body) > MaxBody:
		return invalid("body of %d bytes; at most %d", len(m.Body), MaxBody)
	case !carried(m.Body):
		return invalid("body has characters that SQS does not carry")
	case m.Delay < 0 || m.Delay > MaxDelay || !wholeSeconds(m.Delay):
		return invalid("delay %v; whole seconds, at most %v", m.Delay, MaxDelay)
	case fifo && m.Delay != 0:
		return invalid("FIFO queue %s takes no delay", queue)
	case fifo && (!tokens.MatchString(m.Group) || !tokens.MatchString(m.Dedup)):
		return invalid("FIFO queue %s needs a group and a deduplication id, got %q and %q", queue, m.Group, m.Dedup)
	case !fifo && (m.Group != "" || m.Dedup != ""):
		return invalid("standard queue %s takes no group and no deduplication id", queue)
	}
	return nil
}

// CheckReceive answers ErrInvalid for what Receive does not take.
func CheckReceive(most int, wait, visibility time.Duration) error {
	switch {
	case most < 1 || most > MaxBatch:
		return invalid("receive of %d messages", most)
	case wait < 0 || wait > MaxWait:
		return invalid("wait %v", wait)
	}
	return CheckVisibility(visibility)
}

// CheckVisibility answers ErrInvalid for what Receive and Extend do not take.
func CheckVisibility(d time.Duration) error {
	if d < 0 || d > MaxVisibility {
		return invalid("visibility %v", d)
	}
	return nil
}

// carried says whether a body arrives as it was sent: SQS refuses control characters but tab, newline and carriage return.
func carried(body string) bool {
	if !utf8.ValidString(body) {
		return false
	}
	for _, r := range body {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == '\uFFFE' || r == '\uFFFF' {
			return false
		}
	}
	return true
}

func wholeSeconds(d time.Duration) bool { return d%time.Second == 0 }

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}
