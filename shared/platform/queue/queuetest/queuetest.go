// Package queuetest is what every queue.Queues must do, as tests: two lines per adapter. It asserts what SQS guarantees and no more: a
// message of a standard queue may come twice and out of order, and a receive may come back empty although there is something.
package queuetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/ids"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
)

// Run tests queues in real time, the subtests in parallel; it takes about half a minute. open is called once for each subtest and may answer
// the same Queues every time: the subtests make queues of their own, all named "test-...". What open starts it ends with t.Cleanup.
func Run(t *testing.T, open func(t testing.TB) queue.Queues) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(newSuite(t, open(t)))
		})
	}
}

// RunVirtual tests queues in virtual time: every subtest runs in a testing/synctest bubble of its own, open inside it. What takes minutes or
// days is tested too.
func RunVirtual(t *testing.T, open func(t testing.TB) queue.Queues) {
	for _, c := range slices.Concat(cases(), longCases) {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.run(newSuite(t, open(t))) })
		})
	}
}

type testCase struct {
	name string
	run  func(*suite)
}

func cases() []testCase {
	return slices.Concat(standardCases, fifoCases, deadLetterCases, refusalCases)
}

// suite is one subtest, with queues of its own.
type suite struct {
	*testing.T

	queues queue.Queues
	prefix string
	sent   map[string]bool // queue and body of every message
}

func newSuite(t *testing.T, queues queue.Queues) *suite {
	return &suite{T: t, queues: queues, prefix: "test-" + ids.Source{}.Hex(8) + "-", sent: map[string]bool{}}
}

func (s *suite) ctx() context.Context { return s.Context() }

// patience is how long something may take that must happen.
const patience = 30 * time.Second

// visibility is that of the suite's queues: short, since tests wait for it, and long enough to answer a batch in.
const visibility = 2 * time.Second

func (s *suite) ensure(defs ...queue.Def) {
	s.Helper()
	if err := s.queues.Ensure(s.ctx(), defs...); err != nil {
		s.Fatalf("ensure: %v", err)
	}
}

// standard makes a standard queue without a dead-letter queue.
func (s *suite) standard(name string) string {
	s.Helper()
	def := queue.Def{Name: s.prefix + name, Visibility: visibility, Retention: time.Hour}
	s.ensure(def)
	return def.Name
}

// fifo makes a FIFO queue without a dead-letter queue.
func (s *suite) fifo() string {
	s.Helper()
	def := queue.Def{Name: s.prefix + "q.fifo", FIFO: true, Visibility: visibility, Retention: time.Hour}
	s.ensure(def)
	return def.Name
}

func (s *suite) send(q string, msgs ...queue.Message) {
	s.Helper()
	if err := s.queues.Send(s.ctx(), q, msgs...); err != nil {
		s.Fatalf("send: %v", err)
	}
	for _, m := range msgs {
		s.sent[q+" "+m.Body] = true
	}
}

// bodies makes messages of a standard queue.
func bodies(texts ...string) []queue.Message {
	msgs := make([]queue.Message, len(texts))
	for i, t := range texts {
		msgs[i].Body = t
	}
	return msgs
}

func numbered(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("m%03d", i)
	}
	return out
}

func (s *suite) receive(q string, most int, wait, visibility time.Duration) []queue.Received {
	s.Helper()
	msgs, err := s.queues.Receive(s.ctx(), q, most, wait, visibility)
	if err != nil {
		s.Fatalf("receive: %v", err)
	}
	if len(msgs) > most {
		s.Fatalf("receive of %d answered %d", most, len(msgs))
	}
	return msgs
}

func (s *suite) delete(q string, receipts ...string) {
	s.Helper()
	if err := s.queues.Delete(s.ctx(), q, receipts...); err != nil {
		s.Fatalf("delete: %v", err)
	}
}

func (s *suite) extend(q, receipt string, d time.Duration) {
	s.Helper()
	if err := s.queues.Extend(s.ctx(), q, receipt, d); err != nil {
		s.Fatalf("extend: %v", err)
	}
}

// until receives until done answers true for what came.
func (s *suite) until(q string, visibility time.Duration, what string, done func(queue.Received) bool) {
	s.Helper()
	for start := time.Now(); time.Since(start) < patience; {
		if slices.ContainsFunc(s.receive(q, queue.MaxBatch, time.Second, visibility), done) {
			return
		}
	}
	s.Fatalf("not within %v: %s", patience, what)
}

// one receives the message of that body, hidden for visibility.
func (s *suite) one(q, body string, visibility time.Duration) queue.Received {
	s.Helper()
	var got queue.Received
	s.until(q, visibility, "message "+body, func(m queue.Received) bool {
		got = m
		return m.Body == body
	})
	return got
}

// drain receives and deletes until every body has come. Others may come too: a deleted message may come once more.
func (s *suite) drain(q string, want ...string) {
	s.Helper()
	missing := map[string]bool{}
	for _, body := range want {
		missing[body] = true
	}
	s.until(q, patience, fmt.Sprintf("%d messages", len(want)), func(m queue.Received) bool {
		if !s.sent[q+" "+m.Body] {
			s.Errorf("message %.100q was not sent", m.Body)
		}
		s.delete(q, m.Receipt)
		delete(missing, m.Body)
		return len(missing) == 0
	})
}

// wantDepth waits until the queue holds about n messages.
func (s *suite) wantDepth(q string, n int) {
	s.Helper()
	var got int
	for start := time.Now(); time.Since(start) < patience; time.Sleep(100 * time.Millisecond) {
		var err error
		if got, err = s.queues.Depth(s.ctx(), q); err != nil {
			s.Fatalf("depth: %v", err)
		}
		if got == n {
			return
		}
	}
	s.Fatalf("depth: got %d, want %d", got, n)
}

// wantNothing checks that nothing comes for a while.
func (s *suite) wantNothing(q string, d time.Duration) {
	s.Helper()
	for start := time.Now(); time.Since(start) < d; {
		if msgs := s.receive(q, queue.MaxBatch, min(d, time.Second), visibility); len(msgs) > 0 {
			s.Fatalf("%d messages came that should not, first %+v", len(msgs), msgs[0])
		}
	}
}

// together runs f in n goroutines.
func together(n int, f func(int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
