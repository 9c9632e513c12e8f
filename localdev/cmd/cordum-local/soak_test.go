package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestSoak is a soak in short: who listens misses nothing, and no job is lost.
func TestSoak(t *testing.T) {
	t.Setenv(asProgram, "1")
	c := &soakCmd{Duration: 6 * time.Second, Sockets: 20, Share: 0.8, Restart: 2 * time.Second, Growth: 3}
	var out bytes.Buffer
	if err := c.soak(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, figure := range []string{"capacity", "load", "jobs", "events", "events_missed 0.00", "gaps 0.00", "heap_after_warm_up", "heap_at_the_end"} {
		if !strings.Contains(out.String(), "soak "+figure+" ") {
			t.Errorf("%s is missing in\n%s", figure, out.String())
		}
	}
}

// What a clerk notes: each event once, in whatever order, and what is missing.
func TestAClerkSeesWhatIsMissing(t *testing.T) {
	frame := func(id int, rest string) []byte {
		return fmt.Appendf(nil, `{"eventId":"17954352010%05d",%s}`, id, rest)
	}
	k := &clerk{}
	k.note(frame(10, `"stream":{"state":"live"}`))
	for _, id := range []int{11, 12, 12, 14, 200, 13, 9} {
		k.note(frame(id, `"jobResult":{}`))
	}
	k.note(frame(201, `"stream":{"state":"gap"}`))
	k.note([]byte(`{"heartbeat":{}}`))
	if k.n != 5 || k.again != 1 || k.gaps != 1 || k.last != "1795435201000200" {
		t.Errorf("%+v", k)
	}
	for id, want := range map[int64]bool{10: false, 11: true, 12: true, 13: true, 14: true, 15: false, 200: true, 201: false, 9: false} {
		if got := k.has(1795435201000000 + id); got != want {
			t.Errorf("event %d: %v", id, got)
		}
	}
}
