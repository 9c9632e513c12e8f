package mortal_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/chaos/mortal"
	"github.com/cordum-serverless/cordum/shared/platform/embedded"
	"github.com/cordum-serverless/cordum/shared/platform/embedded/embeddedtest"
	"github.com/cordum-serverless/cordum/shared/platform/queue"
	"github.com/cordum-serverless/cordum/shared/platform/store"
)

// A process that counts to four; what it hears, and what is there afterwards.
func TestFates(t *testing.T) {
	for fate, want := range map[mortal.Fate]string{
		mortal.DeathBefore:  "1 ok, 2 died, 3 died, 4 died: 1",
		mortal.Death:        "1 ok, 2 died, 3 died, 4 died: 2",
		mortal.OutageBefore: "1 ok, 2 unavailable, 3 ok, 4 ok: 3",
		mortal.Outage:       "1 ok, 2 unavailable, 3 ok, 4 ok: 4",
		mortal.Collision:    "1 ok, 2 conflict, 3 ok, 4 ok: 3",
		mortal.Echo:         "1 ok, 2 ok, 3 ok, 4 ok: 5",
	} {
		p, err := embedded.Open("", embedded.Options{Memory: true})
		if err != nil {
			t.Fatal(err)
		}
		key := store.Key{PK: "p", SK: "s"}
		process := mortal.New(fate, 2)
		table, got := process.Table(p.Table()), ""
		for n := 1; n <= 4; n++ {
			said := "ok"
			switch err := table.Write(t.Context(), store.Update(key).AddInt("n", 1)); {
			case errors.Is(err, mortal.ErrDied):
				said = "died"
			case errors.Is(err, store.ErrUnavailable):
				said = "unavailable"
			case errors.Is(err, store.ErrConflict):
				said = "conflict"
			case err != nil:
				t.Fatal(err)
			}
			got += fmt.Sprintf("%d %s, ", n, said)
		}
		it, err := p.Table().Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if got = got[:len(got)-2] + fmt.Sprintf(": %d", it.Attrs.Int("n")); got != want {
			t.Errorf("%s: %s; want %s", fate, got, want)
		}
		if !process.Met() || process.Calls() != 4 {
			t.Errorf("%s: %d calls", fate, process.Calls())
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// All ports of a process are counted together, and each fails with its own error.
func TestPortsShareOneFate(t *testing.T) {
	p := embeddedtest.Open(t)
	for at, want := range []error{1: store.ErrUnavailable, 2: blob.ErrUnavailable, 3: queue.ErrUnavailable} {
		if want == nil {
			continue
		}
		m := mortal.New(mortal.OutageBefore, at)
		_, get := m.Table(p.Table()).Get(t.Context(), store.Key{PK: "p", SK: "s"})
		_, _, read := m.Blobs(p.Blobs()).Get(t.Context(), "k", 0)
		ensure := m.Queues(p.Queues()).Ensure(t.Context())
		for n, err := range []error{1: get, 2: read, 3: ensure} {
			if is := errors.Is(err, want); is != (n == at) {
				t.Errorf("at call %d, call %d says %v", at, n, err)
			}
		}
	}
	m := mortal.New(mortal.Echo, 1)
	if _, err := m.Table(p.Table()).Get(t.Context(), store.Key{PK: "p", SK: "s"}); !errors.Is(err, store.ErrNotFound) || m.Calls() != 0 {
		t.Errorf("a read was counted: %v", err)
	}
}
