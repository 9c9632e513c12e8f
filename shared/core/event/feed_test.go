package event

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/clock"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/push"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// world is a table with clients, of which each has all that it was sent.
type world struct {
	*Broadcaster

	t *testing.T

	mu    sync.Mutex
	heard map[string][]string
}

func inWorld(t *testing.T, test func(*testing.T, *world)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(26 * 365 * 24 * time.Hour) // microseconds have 16 digits
		p, err := embedded.Open("", embedded.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}()
		if err := p.Queues().Ensure(t.Context(), resources.Queues()...); err != nil {
			t.Fatal(err)
		}
		log := slog.New(slog.DiscardHandler)
		w := &world{t: t, heard: map[string][]string{}}
		w.Broadcaster = &Broadcaster{
			Connections: &Connections{p.Table()}, Push: w, Clock: clock.System{}, Log: log,
			Bus: &Bus{Table: p.Table(), Queues: p.Queues(), Clock: clock.System{}, Log: log},
			Story: func(context.Context, string, string) ([]json.RawMessage, string, error) {
				return []json.RawMessage{[]byte(`{"story":1}`)}, "1", nil
			},
		}
		test(t, w)
	})
}

// Post implements push.Connections.
func (w *world) Post(_ context.Context, id string, frame []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard[id] = append(w.heard[id], string(frame))
	return nil
}

// Drop implements push.Connections.
func (w *world) Drop(context.Context, string, push.Reason) error { return nil }

func (w *world) open(id string, f Feed, from int64) {
	w.t.Helper()
	now := time.Now()
	if _, err := w.Connections.Open(w.t.Context(), Connection{ID: id, Tenant: f.Tenant, Job: f.Job, From: from, Asked: true, OpenedAt: now.UnixMicro()}, now); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) deliver(n int) {
	w.t.Helper()
	e := Event{Tenant: "t", Group: "job:j", Job: "j", Version: fmt.Sprintf("%06d", n), Frames: []json.RawMessage{fmt.Appendf(nil, `{"n":%d}`, n)}}
	if err := w.Deliver(w.t.Context(), []Event{e}); err != nil {
		w.t.Fatal(err)
	}
}

// took are the numbers of the events that a client was sent.
func (w *world) took(id string) string {
	var out []string
	for _, f := range w.heard[id] {
		var m struct {
			N      int
			Stream struct{ State string }
		}
		if err := json.Unmarshal([]byte(f), &m); err != nil {
			w.t.Fatal(err)
		}
		if m.Stream.State != "" {
			out = append(out, m.Stream.State)
			continue
		}
		out = append(out, fmt.Sprint(m.N))
	}
	return strings.Join(out, " ")
}

var all = Feed{Tenant: "t"}

// Positions that a process took before it died hold nobody up for longer than it could have been alive, and are no gap.
func TestPositionsOfADeadProcess(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open("stays", all, 0)
		w.deliver(1)
		h, _, err := w.Connections.log().head(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		first := h.last
		if _, err := w.Connections.log().take(t.Context(), all, 3, "dead", time.Now()); err != nil {
			t.Fatal(err)
		}
		w.deliver(2)
		w.open("back", all, first)
		began := time.Now()
		for range 10 { // as often as it takes: each message of the queue is one
			if err := w.CatchUp(t.Context(), "back", CatchUpAlone); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(began); d > underWay+CatchUpAlone {
			t.Errorf("it took %s", d)
		}
		w.deliver(3)
		if got := w.took("back"); got != "2 live 3" {
			t.Errorf("it was sent %s", got)
		}
		h, _, err = w.Connections.log().head(t.Context(), all)
		if err != nil || len(h.working) != 0 {
			t.Errorf("the dead are remembered: %v, %v", h, err)
		}
	})
}

// What others were about to bring when a client was brought its last event is brought again.
func TestWhatWasUnderWayComesAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open("stays", all, 0)
		log := w.Connections.log()
		now := time.Now()
		slow, err := log.take(t.Context(), all, 1, "slow", now) // taken and logged, and not brought yet
		if err != nil {
			t.Fatal(err)
		}
		if err := log.append(t.Context(), all, slow, []logged{{First: slow.first, Frames: []json.RawMessage{[]byte(`{"n":1}`)}}}, now); err != nil {
			t.Fatal(err)
		}
		w.deliver(2) // overtakes it
		h, _, err := log.head(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		if err := log.done(t.Context(), all, slow); err != nil {
			t.Fatal(err)
		}
		w.deliver(3)
		w.open("back", all, h.last)
		if err := w.CatchUp(t.Context(), "back", CatchUpAlone); err != nil {
			t.Fatal(err)
		}
		if got := w.took("back"); got != "1 2 3 live" {
			t.Errorf("it was sent %s", got)
		}
	})
}

// A client that is very far behind has a gap rather than a flood.
func TestAClientThatIsVeryFarBehind(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open("stays", all, 0)
		w.deliver(1)
		h, _, err := w.Connections.log().head(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		b, err := w.Connections.log().take(t.Context(), all, catchUpMost+1, "many", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Connections.log().done(t.Context(), all, b); err != nil {
			t.Fatal(err)
		}
		w.open("back", all, h.last)
		if err := w.CatchUp(t.Context(), "back", CatchUpAlone); err != nil {
			t.Fatal(err)
		}
		if got := w.took("back"); got != "gap live" {
			t.Errorf("it was sent %s", got)
		}
	})
}

// Who has missed something misses nothing of what happens after the connection was opened, however late it is caught up.
func TestAfterAGapComesWhatHappenedSinceItOpened(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open("stays", all, 0)
		w.deliver(1)
		w.open("back", all, 1_000_000_000)
		w.deliver(2)
		w.deliver(3)
		if err := w.CatchUp(t.Context(), "back", CatchUpAlone); err != nil {
			t.Fatal(err)
		}
		w.deliver(4)
		if got := w.took("back"); got != "gap 2 3 live 4" {
			t.Errorf("it was sent %s", got)
		}
	})
}

// Much that was missed is brought in several turns.
func TestMuchIsBroughtInTurns(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open("stays", all, 0)
		w.deliver(0)
		h, _, err := w.Connections.log().head(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for n := 1; n <= catchUpFrames+500; n++ {
			w.deliver(n)
			want = append(want, fmt.Sprint(n))
		}
		w.open("back", all, h.last)
		turns := 0
		for id := "back"; id != ""; turns++ {
			if err := w.CatchUp(t.Context(), id, CatchUpAlone); err != nil {
				t.Fatal(err)
			}
			msgs, err := w.Bus.Queues.Receive(t.Context(), resources.Events, 1, 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			id = ""
			for _, m := range msgs {
				b, _ := ParseBehind(m.Body)
				id = b.Connection
				if err := w.Bus.Queues.Delete(t.Context(), resources.Events, m.Receipt); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := w.took("back"); got != strings.Join(append(want, "live"), " ") || turns < 2 {
			t.Errorf("in %d turns it was sent %d characters, not %d", turns, len(got), len(strings.Join(want, " ")))
		}
	})
}

// A batch of events that is too large for an item stands in several, and one that is too large for a message in several.
func TestLargeBatches(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.open("stays", all, 0)
		pad := strings.Repeat("x", 30_000)
		var frames []json.RawMessage
		for n := range 30 {
			frames = append(frames, fmt.Appendf(nil, `{"n":%d,"pad":%q}`, n, pad))
		}
		parts := Event{Tenant: "t", Group: "run:r", Version: "1", Frames: frames}.parts()
		if len(parts) < 2 {
			t.Fatalf("%d parts", len(parts))
		}
		for i, p := range parts {
			m, err := p.message()
			if err != nil || len(m.Body) > queue.MaxBody || i > 0 && p.Version <= parts[i-1].Version {
				t.Errorf("part %d: %d bytes, version %q, %v", i, len(m.Body), p.Version, err)
			}
		}
		h, _, err := w.Connections.log().head(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Deliver(t.Context(), parts); err != nil {
			t.Fatal(err)
		}
		w.open("back", all, h.last)
		if err := w.CatchUp(t.Context(), "back", CatchUpAlone); err != nil {
			t.Fatal(err)
		}
		if got, want := w.took("back"), w.took("stays")+" live"; got != want {
			t.Errorf("it was sent %s, not %s", got, want)
		}
	})
}

func TestStampedFramesAreJSON(t *testing.T) {
	for frame, want := range map[string]string{`{}`: `{"eventId":"7"}`, `{"a":1}`: `{"eventId":"7","a":1}`} {
		if got := string(stamped([]byte(frame), 7)); got != want {
			t.Errorf("%s is %s", frame, got)
		}
	}
	if n := len(stamped(make([]byte, MaxFrame), 1<<53)); n > push.MaxFrame {
		t.Errorf("%d bytes", n)
	}
}
