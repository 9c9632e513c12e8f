package queuetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/queue"
)

var standardCases = []testCase{
	{"standard/send_receive_delete", testSendReceiveDelete},
	{"standard/any_number_of_messages", testMany},
	{"standard/bodies_come_back_as_they_were", testBodies},
	{"standard/largest_body", testLargest},
	{"standard/delay", testDelay},
	{"standard/comes_again_after_visibility", testVisibility},
	{"standard/hidden_while_received", testHidden},
	{"standard/extend", testExtend},
	{"standard/given_back", testGiveBack},
	{"standard/part_of_a_batch_deleted", testPartialBatch},
	{"standard/stale_receipts", testStaleReceipts},
	{"standard/waiting_receive_is_woken", testWoken},
	{"standard/waiting_receive_is_woken_when_a_message_appears", testWokenLate},
	{"standard/waiting_receive_ends_with_its_context", testWaitEnds},
	{"standard/empty", testEmpty},
	{"standard/several_consumers", testConsumers},
	{"standard/queues_are_apart", testApart},
	{"standard/depth", testDepth},
	{"standard/ensure_leaves_what_is_there", testEnsureAgain},
}

func testSendReceiveDelete(s *suite) {
	q := s.standard("q")
	before := time.Now()
	s.send(q, queue.Message{Body: "hello"})
	m := s.one(q, "hello", patience)
	if m.ID == "" || m.Receipt == "" || m.Group != "" || m.Receives < 1 {
		s.Fatalf("got %+v", m)
	}
	if d := m.SentAt.Sub(before); d < -time.Minute || d > time.Minute {
		s.Fatalf("sent at %v, which is %v after it was sent", m.SentAt, d)
	}
	s.delete(q, m.Receipt)
	s.wantDepth(q, 0)
}

func testMany(s *suite) {
	q := s.standard("q")
	want := numbered(57)
	s.send(q, bodies(want...)...)
	s.wantDepth(q, len(want))
	s.drain(q, want...)
	s.wantDepth(q, 0)
	s.send(q) // none is no error
	s.delete(q)
}

func testBodies(s *suite) {
	q := s.standard("q")
	want := []string{
		"x", " ", "\t\n\r", `{"job":"j1","attempt":1}`, `a"b\c'd`, "<a>&amp;</a>", "żółć 中文 😀", "a+b=c&d%20e", strings.Repeat("long ", 2000),
	}
	s.send(q, bodies(want...)...)
	s.drain(q, want...)
}

func testLargest(s *suite) {
	q := s.standard("q")
	var want []string
	for i := range 4 { // together more than one request to SQS carries
		want = append(want, fmt.Sprint(i)+strings.Repeat("x", queue.MaxBody-1))
	}
	s.send(q, bodies(want...)...)
	s.drain(q, want...)
}

func testDelay(s *suite) {
	q := s.standard("q")
	start := time.Now()
	s.send(q, queue.Message{Body: "late", Delay: 4 * time.Second}, queue.Message{Body: "now"})
	s.drain(q, "now")
	s.drain(q, "late")
	if took := time.Since(start); took < 2*time.Second {
		s.Fatalf("a message delayed by 4 s came after %v", took)
	}
}

func testVisibility(s *suite) {
	q := s.standard("q")
	s.send(q, bodies("m")...)
	first := s.one(q, "m", time.Second)
	s.until(q, patience, "the message, again", func(m queue.Received) bool {
		if m.ID != first.ID {
			s.Errorf("it came again as %s, and was %s", m.ID, first.ID)
		}
		return m.Receives > first.Receives
	})
}

// testHidden allows for the duplicates that a standard queue may deliver; what is hidden is rarely seen.
func testHidden(s *suite) {
	q := s.standard("q")
	want := numbered(30)
	s.send(q, bodies(want...)...)
	seen := map[string]int{}
	deliveries := 0
	s.until(q, patience, "all messages", func(m queue.Received) bool {
		seen[m.Body]++
		deliveries++
		return len(seen) == len(want)
	})
	for _, m := range s.receive(q, queue.MaxBatch, time.Second, patience) {
		seen[m.Body]++
		deliveries++
	}
	if deliveries > 2*len(want) {
		s.Fatalf("%d deliveries of %d hidden messages", deliveries, len(want))
	}
}

func testExtend(s *suite) {
	q := s.standard("q")
	s.send(q, bodies("m")...)
	m := s.one(q, "m", 3*time.Second)
	s.extend(q, m.Receipt, patience)
	s.extend(q, m.Receipt, time.Second)
	s.until(q, patience, "the message, again", func(again queue.Received) bool { return again.ID == m.ID })
}

func testGiveBack(s *suite) {
	q := s.standard("q")
	s.send(q, bodies("m")...)
	start := time.Now()
	m := s.one(q, "m", queue.MaxVisibility)
	s.extend(q, m.Receipt, 0)
	again := s.one(q, "m", patience)
	if took := time.Since(start); took > patience {
		s.Fatalf("it took %v", took)
	}
	s.delete(q, again.Receipt)
	s.wantDepth(q, 0)
}

func testPartialBatch(s *suite) {
	q := s.standard("q")
	want := numbered(10)
	s.send(q, bodies(want...)...)
	failed := map[string]bool{}
	handled := map[string]bool{}
	s.until(q, time.Second, "all messages, the failed ones again", func(m queue.Received) bool {
		if odd := m.Body[len(m.Body)-1]%2 == 1; odd && !failed[m.Body] {
			failed[m.Body] = true // not deleted: it comes again
			return false
		}
		s.delete(q, m.Receipt)
		handled[m.Body] = true
		return len(handled) == len(want)
	})
	if len(failed) != len(want)/2 {
		s.Fatalf("%d failed once, want %d", len(failed), len(want)/2)
	}
	s.wantDepth(q, 0)
}

func testStaleReceipts(s *suite) {
	q := s.standard("q")
	s.send(q, bodies("m")...)
	first := s.one(q, "m", time.Second)
	second := s.one(q, "m", patience)
	s.delete(q, second.Receipt)
	s.wantDepth(q, 0)
	s.delete(q, second.Receipt)
	s.delete(q, first.Receipt, second.Receipt)
	s.extend(q, first.Receipt, time.Second)
	s.extend(q, second.Receipt, 0)
	s.wantDepth(q, 0)
}

func testWoken(s *suite) {
	q := s.standard("q")
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		time.Sleep(time.Second)
		if err := s.queues.Send(s.ctx(), q, queue.Message{Body: "m"}); err != nil {
			s.Errorf("send: %v", err)
		}
	})
	s.wantSoon(q)
}

func testWokenLate(s *suite) {
	q := s.standard("q")
	s.send(q, queue.Message{Body: "m", Delay: 2 * time.Second})
	s.wantSoon(q)
	s.wantSoon(q) // once more, when its visibility ends
}

// wantSoon waits as long as a receive may, and wants a message long before that.
func (s *suite) wantSoon(q string) {
	s.Helper()
	start := time.Now()
	for time.Since(start) < patience {
		if msgs := s.receive(q, 1, queue.MaxWait, visibility); len(msgs) > 0 {
			if took := time.Since(start); took > 15*time.Second {
				s.Fatalf("the message came after %v", took)
			}
			return
		}
	}
	s.Fatal("the message did not come")
}

func testWaitEnds(s *suite) {
	q := s.standard("q")
	ctx, cancel := context.WithTimeout(s.ctx(), time.Second)
	defer cancel()
	start := time.Now()
	for {
		_, err := s.queues.Receive(ctx, q, 1, queue.MaxWait, 0)
		if took := time.Since(start); took > 10*time.Second {
			s.Fatalf("it waited for %v", took)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return
		}
		if err != nil {
			s.Fatalf("got %v, want context.DeadlineExceeded", err)
		}
	}
}

func testEmpty(s *suite) {
	q := s.standard("q")
	if msgs := s.receive(q, 10, 0, 0); len(msgs) != 0 {
		s.Fatalf("got %+v", msgs)
	}
	s.wantNothing(q, time.Second)
	s.wantDepth(q, 0)
}

func testConsumers(s *suite) {
	const n, consumers = 120, 4
	q := s.standard("q")
	want := numbered(n)
	var mu sync.Mutex
	seen := map[string]bool{}
	all := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == n
	}
	ctx, cancel := context.WithTimeout(s.ctx(), patience)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for i := range n / 30 {
			if err := s.queues.Send(ctx, q, bodies(want[i*30:(i+1)*30]...)...); err != nil {
				s.Errorf("send: %v", err)
			}
		}
	})
	together(consumers, func(int) {
		for !all() {
			msgs, err := s.queues.Receive(ctx, q, queue.MaxBatch, time.Second, patience)
			if err != nil {
				s.Errorf("receive: %v", err)
				return
			}
			for _, m := range msgs {
				mu.Lock()
				seen[m.Body] = true
				mu.Unlock()
				if err := s.queues.Delete(ctx, q, m.Receipt); err != nil {
					s.Errorf("delete: %v", err)
				}
			}
		}
	})
	s.wantDepth(q, 0)
}

func testApart(s *suite) {
	a, b := s.standard("a"), s.standard("b")
	s.send(a, bodies("in a")...)
	s.send(b, bodies("in b")...)
	s.drain(a, "in a")
	s.drain(b, "in b")
}

func testDepth(s *suite) {
	q := s.standard("q")
	s.send(q, bodies("a", "b", "c")...)
	s.send(q, queue.Message{Body: "d", Delay: queue.MaxDelay})
	s.wantDepth(q, 4)
	m := s.one(q, "a", patience)
	s.wantDepth(q, 4)
	s.delete(q, m.Receipt)
	s.wantDepth(q, 3)
}

func testEnsureAgain(s *suite) {
	q := s.standard("q")
	s.send(q, bodies("m")...)
	s.ensure(queue.Def{Name: q, Visibility: visibility, Retention: time.Hour})
	s.ensure()
	s.drain(q, "m")
}
