package queuetest

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/queue"
)

var refusalCases = []testCase{
	{"refused/unknown_queue", testUnknownQueue},
	{"refused/messages", testRefusedMessages},
	{"refused/receives", testRefusedReceives},
	{"refused/definitions", testRefusedDefs},
	{"refused/ended_context", testContext},
}

func (s *suite) wantErrors(want error, errs map[string]error) {
	s.Helper()
	for name, err := range errs {
		if !errors.Is(err, want) {
			s.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
}

// calls makes every call on a queue, and answers their errors.
func (s *suite) calls(ctx context.Context, q, receipt string) map[string]error {
	_, receive := s.queues.Receive(ctx, q, 1, 0, 0)
	_, depth := s.queues.Depth(ctx, q)
	return map[string]error{
		"send": s.queues.Send(ctx, q, queue.Message{Body: "m"}), "receive": receive, "depth": depth,
		"delete": s.queues.Delete(ctx, q, receipt), "extend": s.queues.Extend(ctx, q, receipt, time.Second),
	}
}

func testUnknownQueue(s *suite) {
	s.wantErrors(queue.ErrUnknownQueue, s.calls(s.ctx(), s.prefix+"unknown", "AQEB-receipt"))
}

func testContext(s *suite) {
	q := s.standard("q")
	s.send(q, bodies("m")...)
	m := s.one(q, "m", patience)
	ctx, cancel := context.WithCancel(s.ctx())
	cancel()
	errs := s.calls(ctx, q, m.Receipt)
	errs["ensure"] = s.queues.Ensure(ctx, queue.Def{Name: s.prefix + "other", Visibility: visibility, Retention: time.Hour})
	s.wantErrors(context.Canceled, errs)
	s.wantDepth(q, 1)
}

func testRefusedMessages(s *suite) {
	q, fifo := s.standard("q"), s.fifo()
	for name, c := range map[string]struct {
		queue string
		m     queue.Message
	}{
		"empty":                      {q, queue.Message{}},
		"too large":                  {q, queue.Message{Body: strings.Repeat("x", queue.MaxBody+1)}},
		"no UTF-8":                   {q, queue.Message{Body: "\xff"}},
		"control characters":         {q, queue.Message{Body: "a\x00b"}},
		"delay too long":             {q, queue.Message{Body: "m", Delay: queue.MaxDelay + time.Second}},
		"negative delay":             {q, queue.Message{Body: "m", Delay: -time.Second}},
		"fraction of a second":       {q, queue.Message{Body: "m", Delay: 1500 * time.Millisecond}},
		"group on a standard queue":  {q, queue.Message{Body: "m", Group: "a"}},
		"dedup on a standard queue":  {q, queue.Message{Body: "m", Dedup: "a"}},
		"no group":                   {fifo, queue.Message{Body: "m", Dedup: "a"}},
		"no dedup":                   {fifo, queue.Message{Body: "m", Group: "a"}},
		"delay on a FIFO queue":      {fifo, queue.Message{Body: "m", Group: "a", Dedup: "a", Delay: time.Second}},
		"group with spaces":          {fifo, queue.Message{Body: "m", Group: "a b", Dedup: "a"}},
		"dedup of 129 characters":    {fifo, queue.Message{Body: "m", Group: "a", Dedup: strings.Repeat("x", 129)}},
		"group beyond ASCII letters": {fifo, queue.Message{Body: "m", Group: "ż", Dedup: "a"}},
	} {
		good := queue.Message{Body: "good"}
		if c.queue == fifo {
			good.Group, good.Dedup = "g", name[:1]
		}
		if err := s.queues.Send(s.ctx(), c.queue, good, c.m); !errors.Is(err, queue.ErrInvalid) {
			s.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	s.wantNothing(q, time.Second)
	s.wantNothing(fifo, time.Second)
}

func testRefusedReceives(s *suite) {
	q := s.standard("q")
	s.send(q, bodies("m")...)
	receive := func(most int, wait, visibility time.Duration) error {
		_, err := s.queues.Receive(s.ctx(), q, most, wait, visibility)
		return err
	}
	m := s.one(q, "m", patience)
	s.wantErrors(queue.ErrInvalid, map[string]error{
		"none": receive(0, 0, 0), "eleven": receive(11, 0, 0), "waits too long": receive(1, 21*time.Second, 0), "negative wait": receive(1, -1, 0),
		"hides too long": receive(1, 0, queue.MaxVisibility+time.Second), "negative visibility": receive(1, 0, -1),
		"extends too long":  s.queues.Extend(s.ctx(), q, m.Receipt, queue.MaxVisibility+time.Second),
		"negative extend":   s.queues.Extend(s.ctx(), q, m.Receipt, -time.Second),
		"empty receipt":     s.queues.Extend(s.ctx(), q, "", time.Second),
		"delete of nothing": s.queues.Delete(s.ctx(), q, m.Receipt, ""),
	})
}

func testRefusedDefs(s *suite) {
	good := queue.Def{Name: s.prefix + "x", Visibility: time.Minute, Retention: time.Hour}
	s.ensure(queue.Def{Name: s.prefix + "dead", Visibility: time.Minute, Retention: time.Hour})
	for name, change := range map[string]func(*queue.Def){
		"no name":                   func(d *queue.Def) { d.Name = "" },
		"spaces in the name":        func(d *queue.Def) { d.Name = "a b" },
		"FIFO without suffix":       func(d *queue.Def) { d.FIFO = true },
		"suffix without FIFO":       func(d *queue.Def) { d.Name += ".fifo" },
		"no visibility":             func(d *queue.Def) { d.Visibility = 0 },
		"visibility too long":       func(d *queue.Def) { d.Visibility = 13 * time.Hour },
		"no retention":              func(d *queue.Def) { d.Retention = 0 },
		"retention too long":        func(d *queue.Def) { d.Retention = 15 * 24 * time.Hour },
		"receives without a queue":  func(d *queue.Def) { d.MaxReceives = 3 },
		"a queue without receives":  func(d *queue.Def) { d.DeadLetter = s.prefix + "dead" },
		"unknown dead-letter queue": func(d *queue.Def) { d.MaxReceives, d.DeadLetter = 3, s.prefix+"nowhere" },
		"its own dead-letter queue": func(d *queue.Def) { d.MaxReceives, d.DeadLetter = 3, d.Name },
		"of the other kind": func(d *queue.Def) {
			d.Name, d.FIFO, d.MaxReceives, d.DeadLetter = d.Name+".fifo", true, 3, s.prefix+"dead"
		},
	} {
		d := good
		change(&d)
		if err := s.queues.Ensure(s.ctx(), d); !errors.Is(err, queue.ErrInvalid) {
			s.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
}
