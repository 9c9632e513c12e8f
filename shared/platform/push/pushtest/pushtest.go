// Package pushtest is what every push.Connections must do, as tests.
package pushtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/push"
)

// Client is the far end of a connection.
type Client struct {
	// ID is the connection's id, as Post takes it.
	ID string
	// Frames delivers what arrives, in order, and is closed when the connection is.
	Frames <-chan []byte
	// Close leaves.
	Close func()
}

// Endpoint is a push.Connections together with a way to connect to it.
type Endpoint struct {
	Connections push.Connections
	// Connect opens a new connection. What it starts it ends with t.Cleanup.
	Connect func(t testing.TB) Client
}

// Run tests an endpoint, the subtests in parallel. open is called once for each subtest and may answer the same endpoint every time.
func Run(t *testing.T, open func(t testing.TB) Endpoint) {
	for _, c := range []struct {
		name string
		run  func(*suite)
	}{
		{"post", testPost},
		{"frames_as_they_were", testFrames},
		{"to_the_right_connection", testApart},
		{"gone", testGone},
		{"drop", testDrop},
		{"too_large", testTooLarge},
		{"concurrent_posts", testConcurrent},
		{"ended_context", testContext},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(&suite{T: t, Endpoint: open(t)})
		})
	}
}

type suite struct {
	*testing.T
	Endpoint
}

const patience = 30 * time.Second

func (s *suite) ctx() context.Context { return s.Context() }

func (s *suite) post(c Client, frame []byte) {
	s.Helper()
	if err := s.Connections.Post(s.ctx(), c.ID, frame); err != nil {
		s.Fatalf("post: %v", err)
	}
}

func (s *suite) want(c Client, frame []byte) {
	s.Helper()
	select {
	case got, open := <-c.Frames:
		if !open || !bytes.Equal(got, frame) {
			s.Fatalf("got %.100q (open: %v), want %.100q", got, open, frame)
		}
	case <-time.After(patience):
		s.Fatalf("frame %.100q did not arrive", frame)
	}
}

func (s *suite) wantClosed(c Client) {
	s.Helper()
	timeout := time.After(patience)
	for {
		select {
		case _, open := <-c.Frames:
			if !open {
				return
			}
		case <-timeout:
			s.Fatal("the connection was not closed")
		}
	}
}

// wantGone waits until the connection is gone: it may take a moment until the service notices.
func (s *suite) wantGone(id string) {
	s.Helper()
	var err error
	for start := time.Now(); time.Since(start) < patience; time.Sleep(20 * time.Millisecond) {
		if err = s.Connections.Post(s.ctx(), id, []byte("anybody?")); errors.Is(err, push.ErrGone) {
			return
		}
	}
	s.Fatalf("got %v, want ErrGone", err)
}

func testPost(s *suite) {
	c := s.Connect(s)
	s.post(c, []byte(`{"event":"first"}`))
	s.want(c, []byte(`{"event":"first"}`))
	for i := range 20 { // one after the other: they keep their order
		s.post(c, fmt.Append(nil, i))
	}
	for i := range 20 {
		s.want(c, fmt.Append(nil, i))
	}
}

func testFrames(s *suite) {
	c := s.Connect(s)
	for _, f := range []string{"x", `{"a":"b\n\u0000"}`, "żółć 中文 😀", "a\r\nb\tc", "<&>", string(bytes.Repeat([]byte("x"), push.MaxFrame))} {
		s.post(c, []byte(f))
		s.want(c, []byte(f))
	}
	reused := []byte("before")
	s.post(c, reused)
	copy(reused, "AFTER!")
	s.want(c, []byte("before"))
}

func testApart(s *suite) {
	a, b := s.Connect(s), s.Connect(s)
	if a.ID == b.ID || a.ID == "" {
		s.Fatalf("ids %q and %q", a.ID, b.ID)
	}
	s.post(b, []byte("to b"))
	s.post(a, []byte("to a"))
	s.want(a, []byte("to a"))
	s.want(b, []byte("to b"))
}

func testGone(s *suite) {
	s.wantGone("bm9ib2R5")
	c := s.Connect(s)
	s.post(c, []byte("hello"))
	s.want(c, []byte("hello"))
	c.Close()
	s.wantGone(c.ID)
}

func testDrop(s *suite) {
	c, other := s.Connect(s), s.Connect(s)
	if err := s.Connections.Drop(s.ctx(), c.ID, push.Revoked); err != nil {
		s.Fatal(err)
	}
	s.wantClosed(c)
	s.wantGone(c.ID)
	for _, id := range []string{c.ID, "bm9ib2R5"} {
		if err := s.Connections.Drop(s.ctx(), id, push.Revoked); err != nil {
			s.Fatalf("drop of what is gone: %v", err)
		}
	}
	s.post(other, []byte("still here"))
	s.want(other, []byte("still here"))
}

func testTooLarge(s *suite) {
	c := s.Connect(s)
	if err := s.Connections.Post(s.ctx(), c.ID, make([]byte, push.MaxFrame+1)); !errors.Is(err, push.ErrTooLarge) {
		s.Fatalf("got %v, want ErrTooLarge", err)
	}
	s.post(c, []byte("next"))
	s.want(c, []byte("next"))
}

func testConcurrent(s *suite) {
	const posters, each = 4, 10
	c := s.Connect(s)
	var wg sync.WaitGroup
	for p := range posters {
		wg.Go(func() {
			for i := range each {
				if err := s.Connections.Post(s.ctx(), c.ID, fmt.Appendf(nil, "%d/%d", p, i)); err != nil {
					s.Errorf("post: %v", err)
				}
			}
		})
	}
	seen := map[string]bool{}
	for range posters * each {
		select {
		case f := <-c.Frames:
			seen[string(f)] = true
		case <-time.After(patience):
			s.Fatal("a frame did not arrive")
		}
	}
	wg.Wait()
	if len(seen) != posters*each {
		s.Fatalf("%d different frames, want %d", len(seen), posters*each)
	}
}

func testContext(s *suite) {
	c := s.Connect(s)
	ctx, cancel := context.WithCancel(s.ctx())
	cancel()
	if err := s.Connections.Post(ctx, c.ID, []byte("x")); !errors.Is(err, context.Canceled) {
		s.Fatalf("post: got %v", err)
	}
	if err := s.Connections.Drop(ctx, c.ID, push.Revoked); !errors.Is(err, context.Canceled) {
		s.Fatalf("drop: got %v", err)
	}
	s.post(c, []byte("after"))
	s.want(c, []byte("after"))
}
