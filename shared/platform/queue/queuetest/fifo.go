package queuetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/queue"
)

var fifoCases = []testCase{
	{"fifo/order_of_a_group", testGroupOrder},
	{"fifo/a_received_message_blocks_its_group", testGroupBlocked},
	{"fifo/part_of_a_batch_deleted", testGroupPart},
	{"fifo/a_failed_message_comes_before_the_rest", testGroupRetry},
	{"fifo/deduplication", testDedup},
	{"fifo/large_batches_keep_their_order", testGroupLarge},
	{"fifo/stale_receipts", testFIFOStale},
}

// longCases wait for minutes or days, in virtual time.
var longCases = []testCase{
	{"long/deduplication_ends_after_five_minutes", testDedupWindow},
	{"long/retention", testRetention},
	{"long/longest_delay", testLongestDelay},
	{"long/longest_visibility", testLongestVisibility},
}

func (s *suite) grouped(group string, texts ...string) []queue.Message {
	msgs := bodies(texts...)
	for i := range msgs {
		msgs[i].Group, msgs[i].Dedup = group, group+"/"+texts[i]
	}
	return msgs
}

// inOrder receives and deletes until n messages have come, and answers the bodies of each group as they came.
func (s *suite) inOrder(q string, n int) map[string][]string {
	s.Helper()
	got := map[string][]string{}
	s.until(q, patience, fmt.Sprintf("%d messages", n), func(m queue.Received) bool {
		got[m.Group] = append(got[m.Group], m.Body)
		s.delete(q, m.Receipt)
		n--
		return n == 0
	})
	return got
}

func (s *suite) wantOrder(got map[string][]string, group string, want ...string) {
	s.Helper()
	if !slices.Equal(got[group], want) {
		s.Fatalf("group %s:\ngot  %q\nwant %q", group, got[group], want)
	}
}

func testGroupOrder(s *suite) {
	q := s.fifo()
	a, b := numbered(14), numbered(9)
	for i := range a { // one by one and interleaved
		s.send(q, s.grouped("a", a[i])...)
		if i < len(b) {
			s.send(q, s.grouped("b", b[i])...)
		}
	}
	got := s.inOrder(q, len(a)+len(b))
	s.wantOrder(got, "a", a...)
	s.wantOrder(got, "b", b...)
	s.wantDepth(q, 0)
}

func testGroupBlocked(s *suite) {
	q := s.fifo()
	s.send(q, s.grouped("a", "a1", "a2")...)
	var first queue.Received
	for start := time.Now(); first.ID == "" && time.Since(start) < patience; {
		for _, m := range s.receive(q, 1, time.Second, patience) {
			first = m
		}
	}
	if first.Body != "a1" || first.Group != "a" {
		s.Fatalf("got %+v", first)
	}
	s.send(q, s.grouped("a", "a3")...)
	s.send(q, s.grouped("b", "b1")...)
	s.until(q, patience, "the other group", func(m queue.Received) bool {
		if m.Group != "b" {
			s.Fatalf("%s came while a1 was being handled", m.Body)
		}
		s.delete(q, m.Receipt)
		return true
	})
	s.wantNothing(q, time.Second)
	s.delete(q, first.Receipt)
	s.wantOrder(s.inOrder(q, 2), "a", "a2", "a3")
}

// testGroupPart: a group goes on when all that were received of it are answered, not earlier.
func testGroupPart(s *suite) {
	q := s.fifo()
	want := numbered(12)
	s.send(q, s.grouped("a", want...)...)
	var batch []queue.Received
	for start := time.Now(); len(batch) == 0 && time.Since(start) < patience; {
		batch = s.receive(q, 5, time.Second, patience)
	}
	for i, m := range batch {
		if m.Body != want[i] {
			s.Fatalf("message %d: got %s", i, m.Body)
		}
		if i > 0 {
			s.wantNothing(q, 200*time.Millisecond)
		}
		s.delete(q, m.Receipt)
	}
	s.wantOrder(s.inOrder(q, len(want)-len(batch)), "a", want[len(batch):]...)
}

func testGroupRetry(s *suite) {
	q := s.fifo()
	want := numbered(5)
	s.send(q, s.grouped("a", want...)...)
	var order []string
	failed := false
	for start := time.Now(); len(order) < len(want) && time.Since(start) < patience; {
		batch := s.receive(q, queue.MaxBatch, time.Second, patience)
		for i, m := range batch {
			if m.Body == want[1] && !failed {
				failed = true
				for _, rest := range slices.Backward(batch[i:]) { // a batch answers with the rest of the group after a failure
					s.extend(q, rest.Receipt, 0)
				}
				break
			}
			order = append(order, m.Body)
			s.delete(q, m.Receipt)
		}
	}
	if !slices.Equal(order, want) || !failed {
		s.Fatalf("got %q", order)
	}
}

func testDedup(s *suite) {
	q := s.fifo()
	s.send(q, queue.Message{Body: "first", Group: "a", Dedup: "1"})
	s.send(q, queue.Message{Body: "same id", Group: "a", Dedup: "1"})
	s.send(q, queue.Message{Body: "same id, other group", Group: "b", Dedup: "1"}, queue.Message{Body: "second", Group: "a", Dedup: "2"})
	s.wantOrder(s.inOrder(q, 2), "a", "first", "second")
	s.send(q, queue.Message{Body: "same id, after the first is gone", Group: "a", Dedup: "1"})
	s.wantNothing(q, time.Second)
	s.wantDepth(q, 0)
}

func testGroupLarge(s *suite) {
	q := s.fifo()
	var msgs []queue.Message
	want := numbered(64)
	for i, text := range want {
		group := string(rune('a' + i%3))
		msgs = append(msgs, queue.Message{Body: text, Group: group, Dedup: text})
	}
	s.send(q, msgs...)
	got := s.inOrder(q, len(want))
	for group, order := range got {
		if !slices.IsSorted(order) {
			s.Errorf("group %s: got %q", group, order)
		}
	}
}

func testFIFOStale(s *suite) {
	q := s.fifo()
	s.send(q, s.grouped("a", "m")...)
	first := s.one(q, "m", time.Second)
	second := s.one(q, "m", patience)
	if second.ID != first.ID || second.Receives != first.Receives+1 {
		s.Fatalf("got %+v after %+v", second, first)
	}
	s.delete(q, second.Receipt)
	s.delete(q, first.Receipt)
	s.delete(q, second.Receipt)
	s.extend(q, first.Receipt, time.Second)
	s.wantDepth(q, 0)
}

func testDedupWindow(s *suite) {
	q := s.fifo()
	m := queue.Message{Body: "m", Group: "a", Dedup: "1"}
	s.send(q, m)
	s.inOrder(q, 1)
	time.Sleep(queue.DedupWindow - time.Minute)
	s.send(q, m)
	s.wantNothing(q, time.Second)
	time.Sleep(2 * time.Minute)
	s.send(q, m)
	s.inOrder(q, 1)
}

func testRetention(s *suite) {
	q := s.standard("q") // keeps for an hour
	s.send(q, bodies("old")...)
	time.Sleep(59 * time.Minute)
	s.send(q, bodies("new")...)
	s.wantDepth(q, 2)
	time.Sleep(2 * time.Minute)
	s.wantDepth(q, 1)
	s.drain(q, "new")
}

func testLongestDelay(s *suite) {
	q := s.standard("q")
	s.send(q, queue.Message{Body: "m", Delay: queue.MaxDelay})
	s.wantNothing(q, queue.MaxDelay-10*time.Second)
	s.drain(q, "m")
}

func testLongestVisibility(s *suite) {
	def := queue.Def{Name: s.prefix + "days.fifo", FIFO: true, Visibility: visibility, Retention: 24 * time.Hour}
	s.ensure(def)
	s.send(def.Name, s.grouped("a", "m")...)
	first := s.one(def.Name, "m", queue.MaxVisibility)
	time.Sleep(queue.MaxVisibility - time.Minute)
	s.wantNothing(def.Name, time.Second)
	time.Sleep(time.Minute)
	if m := s.one(def.Name, "m", patience); m.Receives != first.Receives+1 {
		s.Fatalf("got %+v", m)
	}
}
