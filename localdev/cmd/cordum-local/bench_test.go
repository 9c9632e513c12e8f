package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/localdev/client"
)

// asProgram makes this binary the program itself: benchmarks start it again as a plane or as a worker.
const asProgram = "CORDUM_LOCAL_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestBench runs the benchmarks in short: each must come to its figures, and no client may miss a frame.
func TestBench(t *testing.T) {
	t.Setenv(asProgram, "1")
	for name, figures := range map[string][]string{
		"roundtrip": {"plane_memory_idle", "roundtrip_c1_rate", "roundtrip_c16_p99", "plane_memory_after"},
		"submit":    {"submit_c1_rate", "submit_c16_p99"},
		"get_job":   {"get_job_c16_rate"},
		"status":    {"status_c16_rate"},
		"evaluate":  {"evaluate_c16_rate"},
		"workflows": {"run_chain3_rate", "run_chain10_p50", "run_fan100_p99", "step_overhead_p50", "step_overhead_p99"},
		"events":    {"event_latency_p50", "event_latency_p99"},
		"sockets":   {"socket_frames_rate", "socket_frames_missing 0.00", "socket_frames_wrong 0.00"},
		"crowd":     {"crowd_frames_rate", "crowd_frames_missing 0.00", "crowd_frames_wrong 0.00"},
		"sweep":     {"sweep_send_again_rate", "sweep_deadline_rate"},
		"letters":   {"list_dead_letters_300_p99"},
		"lists": {
			"fill_jobs_1000", "list_jobs_1000_p99", "fill_jobs_3000", "list_jobs_3000_p99", "list_rare_topic_3000",
			"list_rare_ended_state_3000", "list_rare_waiting_state_3000",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := &benchCmd{Duration: 100 * time.Millisecond, Only: name, Jobs: 3000, Dead: 300, Due: 300, Sockets: 5, Events: 40, Crowd: 20}
			var out bytes.Buffer
			if err := c.measure(t.Context(), &out); err != nil {
				t.Fatalf("%v\n%s", err, out.String())
			}
			for _, f := range figures {
				if !strings.Contains(out.String(), "bench "+f+" ") {
					t.Errorf("%s is missing in\n%s", f, out.String())
				}
			}
		})
	}
}

func TestBenchKnowsItsNames(t *testing.T) {
	c := &benchCmd{Only: "nothing of that name", Jobs: 1, Dead: 1, Due: 1, Sockets: 1, Events: 1, Crowd: 1}
	if err := c.measure(t.Context(), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "sockets, crowd, sweep, letters, lists") {
		t.Errorf("an unknown name: %v", err)
	}
}

// TestAudience: each thing that may happen to a frame is found, and named.
func TestAudience(t *testing.T) {
	request, result := client.Frame{Kind: "jobRequest", JobID: "j"}, client.Frame{Kind: "jobResult", JobID: "j"}
	for name, c := range map[string]struct {
		heard          []client.Frame
		missing, wrong int
	}{
		"all":          {[]client.Frame{{}, request, {Kind: "heartbeat"}, result}, 0, 0},
		"nothing":      {nil, 2, 0},
		"no result":    {[]client.Frame{request}, 1, 0},
		"no request":   {[]client.Frame{result}, 2, 1},
		"twice":        {[]client.Frame{request, request, result}, 0, 1},
		"ends twice":   {[]client.Frame{request, result, result}, 0, 1},
		"out of order": {[]client.Frame{result, request}, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			a := &audience{heard: make([]tally, 2)}
			for _, f := range []client.Frame{request, result} {
				a.heard[0].add(f)
			}
			for _, f := range c.heard {
				a.heard[1].add(f)
			}
			missing, wrong := a.judge([]string{"j"})
			if len(missing) != c.missing || len(wrong) != c.wrong {
				t.Errorf("missing %v, wrong %v", missing, wrong)
			}
			for _, err := range slices.Concat(missing, wrong) {
				if !strings.Contains(err.Error(), "client 1: job j") {
					t.Errorf("it does not name whom and what: %v", err)
				}
			}
		})
	}
	a := &audience{heard: []tally{{wrong: []error{fmt.Errorf("its stream ended: %w", errors.ErrUnsupported)}}}}
	if _, wrong := a.judge(nil); len(wrong) != 1 {
		t.Errorf("a stream that ended: %v", wrong)
	}
}
