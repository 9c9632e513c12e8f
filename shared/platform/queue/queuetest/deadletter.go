package queuetest

import (
	"slices"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/queue"
)

var deadLetterCases = []testCase{
	{"dead_letter/after_max_receives", testRedrive},
	{"dead_letter/by_visibility", testRedriveVisibility},
	{"dead_letter/handled_messages_stay_out", testNoRedrive},
	{"dead_letter/fifo", testRedriveFIFO},
}

// redriven makes a queue of at most n receives, with a dead-letter queue.
func (s *suite) redriven(n int, fifo bool) (q, dead string) {
	s.Helper()
	suffix := ""
	if fifo {
		suffix = ".fifo"
	}
	q, dead = s.prefix+"q"+suffix, s.prefix+"dead"+suffix
	s.ensure(
		queue.Def{Name: dead, FIFO: fifo, Visibility: visibility, Retention: time.Hour},
		queue.Def{Name: q, FIFO: fifo, Visibility: visibility, Retention: time.Hour, MaxReceives: n, DeadLetter: dead},
	)
	return q, dead
}

// failUntilDead receives and gives back until the dead-letter queue has the message, and answers it.
func (s *suite) failUntilDead(q, dead, body string, most int, fail func(queue.Received)) queue.Received {
	s.Helper()
	for start := time.Now(); time.Since(start) < patience; {
		for _, m := range s.receive(q, 1, time.Second, time.Second) {
			if m.Body != body {
				s.Fatalf("got %+v", m)
			}
			if m.Receives > most {
				s.Fatalf("received %d times, at most %d", m.Receives, most)
			}
			fail(m)
		}
		for _, m := range s.receive(dead, 1, 0, patience) {
			if m.Body == body {
				return m
			}
		}
	}
	s.Fatal("it never came to the dead-letter queue")
	return queue.Received{}
}

func testRedrive(s *suite) {
	q, dead := s.redriven(3, false)
	s.send(q, bodies("poison")...)
	m := s.failUntilDead(q, dead, "poison", 3, func(m queue.Received) { s.extend(q, m.Receipt, 0) })
	s.delete(dead, m.Receipt)
	s.wantDepth(q, 0)
	s.wantDepth(dead, 0)
}

func testRedriveVisibility(s *suite) {
	q, dead := s.redriven(1, false)
	s.send(q, bodies("poison")...)
	s.failUntilDead(q, dead, "poison", 1, func(queue.Received) {})
	s.wantDepth(q, 0)
}

func testNoRedrive(s *suite) {
	q, dead := s.redriven(5, false)
	want := numbered(20)
	s.send(q, bodies(want...)...)
	s.drain(q, want...)
	s.wantDepth(q, 0)
	s.wantNothing(dead, time.Second)
}

func testRedriveFIFO(s *suite) {
	q, dead := s.redriven(2, true)
	s.send(q, s.grouped("a", "poison")...)
	m := s.failUntilDead(q, dead, "poison", 2, func(m queue.Received) { s.extend(q, m.Receipt, 0) })
	if m.Group != "a" {
		s.Fatalf("in the dead-letter queue it is %+v", m)
	}
	s.delete(dead, m.Receipt)
	s.send(q, s.grouped("a", "next", "last")...)
	got := s.inOrder(q, 2)
	if !slices.Equal(got["a"], []string{"next", "last"}) {
		s.Fatalf("got %q", got)
	}
}
