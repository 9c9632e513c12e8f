package schedule_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/schedule"
)

const someTimeouts = `
topics:
  job.etl.load: {timeout_seconds: 60, max_retries: 2}
  job.etl.*: {timeout_seconds: 120}
  job.once: {max_retries: 0}
  job.zero: {timeout_seconds: 0}
workflows:
  nightly: {child_timeout_seconds: 30, total_timeout_seconds: 3600, max_retries: 1}
  other: {}
reconciler: {running_timeout_seconds: 600}
`

func timeouts(t testing.TB, text string) schedule.Timeouts {
	t.Helper()
	got, err := schedule.ParseTimeouts([]byte(text))
	if err != nil {
		t.Fatalf("ParseTimeouts: %v", err)
	}
	return got
}

func wantDefaults(t *testing.T, got schedule.Timeouts) {
	t.Helper()
	if got.Dispatch() != 300*time.Second || got.Running("job.x") != 900*time.Second || got.Scan() != 30*time.Second {
		t.Errorf("dispatch %v, running %v, scan %v; want 300 s, 900 s, 30 s", got.Dispatch(), got.Running("job.x"), got.Scan())
	}
}

func TestT041_WhatIsMissingKeepsItsDefault(t *testing.T) {
	got := timeouts(t, "reconciler: {dispatch_timeout_seconds: 10}")
	if got.Dispatch() != 10*time.Second || got.Running("job.x") != 900*time.Second || got.Scan() != 30*time.Second {
		t.Errorf("dispatch %v, running %v, scan %v; want 10 s, 900 s, 30 s", got.Dispatch(), got.Running("job.x"), got.Scan())
	}
	for _, nothing := range []string{"", "{}", "reconciler:", "reconciler: {running_timeout_seconds: 0}"} {
		wantDefaults(t, timeouts(t, nothing))
	}
	wantDefaults(t, schedule.Timeouts{})
}

// Packs have bare numbers there (contract/workflows.md 4.4, trap 2; core.md says that the original refused them): ADR 0025.
func TestT042_ABareNumberIsTheTotalOfAWorkflow(t *testing.T) {
	for _, text := range []string{"workflows: {a: 180}", `{"workflows":{"a":180}}`} {
		got, err := json.Marshal(timeouts(t, text))
		if err != nil || !strings.Contains(string(got), `"workflows":{"a":{"total_timeout_seconds":180}}`) {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
}

func TestParseTimeouts_Refusals(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"a workflow that is a negative number", "workflows: {a: -180}", `timeouts: workflows["a"]: must not be negative`},
		{"a workflow that is text", "workflows: {a: 180s}", `timeouts: workflows["a"]: must be an object`},
		{"a topic that is a bare number", "topics: {job.x: 60}", `timeouts: topics["job.x"]: must be an object`},
		{"T043 negative running timeout", "reconciler: {running_timeout_seconds: -1}",
			"timeouts: reconciler.running_timeout_seconds: must not be negative"},
		{"T043 negative timeout of a topic", "topics: {job.x: {timeout_seconds: -5}}",
			`timeouts: topics["job.x"].timeout_seconds: must not be negative`},
		{"T043 negative retries of a workflow", `{"workflows":{"a":{"max_retries":-1}}}`,
			`timeouts: workflows["a"].max_retries: must not be negative`},
		{"text", "topics: {job.x: {timeout_seconds: 60s}}", `timeouts: topics["job.x"].timeout_seconds: must be a whole number`},
		{"a fraction", `{"topics":{"job.x":{"timeout_seconds":1.5}}}`, `timeouts: topics["job.x"].timeout_seconds: must be a whole number`},
		{"more than a duration holds", `{"topics":{"job.x":{"timeout_seconds":99999999999}}}`,
			`timeouts: topics["job.x"].timeout_seconds: must be at most 315360000`},
		{"more than a number holds", `{"topics":{"job.x":{"timeout_seconds":1e999}}}`,
			`timeouts: topics["job.x"].timeout_seconds: must be a whole number`},
		{"too many retries", `{"topics":{"job.x":{"max_retries":2147483648}}}`,
			`timeouts: topics["job.x"].max_retries: must be at most 2147483647`},
		{"unknown section", "topic: {}", "timeouts: topic: unknown key; known here: topics, workflows, reconciler"},
		{"unknown key of a topic", "topics: {job.x: {timeout: 5}}", `timeouts: topics["job.x"].timeout: unknown key`},
		{"unknown key of the reconciler", "reconciler: {dispatch: 5}", "timeouts: reconciler.dispatch: unknown key"},
		{"bad glob", "topics: {'job.[': {}}", `timeouts: topics["job.["]: not a valid glob`},
		{"empty name", "workflows: {'': {}}", `timeouts: workflows[""]: a name is not empty`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := schedule.ParseTimeouts([]byte(tt.text))
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("error = %v, want %s", err, tt.want)
			}
			wantDefaults(t, got)
		})
	}
}

func TestTimeouts_OfTopics(t *testing.T) {
	got := timeouts(t, someTimeouts)
	tests := []struct {
		topic   string
		running time.Duration
		retries int
		limited bool
	}{
		{"job.etl.load", time.Minute, 2, true},
		{"job.etl.other", 2 * time.Minute, 0, false},
		{"job.once", 10 * time.Minute, 0, true},
		{"job.zero", 10 * time.Minute, 0, false},
		{"job.unknown", 10 * time.Minute, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.topic, func(t *testing.T) {
			if d := got.Running(tt.topic); d != tt.running {
				t.Errorf("Running = %v, want %v", d, tt.running)
			}
			if n, ok := got.MaxRetries(tt.topic); n != tt.retries || ok != tt.limited {
				t.Errorf("MaxRetries = %d, %t; want %d, %t", n, ok, tt.retries, tt.limited)
			}
		})
	}
}

func TestTimeouts_OfWorkflows(t *testing.T) {
	got := timeouts(t, someTimeouts)
	w := got.Workflow("nightly")
	if w.Child != 30*time.Second || w.Total != time.Hour || w.MaxRetries == nil || *w.MaxRetries != 1 {
		t.Errorf("nightly = %+v", w)
	}
	for _, id := range []string{"other", "unknown"} {
		if w := got.Workflow(id); w != (schedule.WorkflowTimeouts{}) {
			t.Errorf("%s = %+v, want no limits", id, w)
		}
	}
}

func TestT097_TimeoutsRoundTrip(t *testing.T) {
	written, err := json.Marshal(timeouts(t, someTimeouts))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"topics":{"job.etl.*":{"timeout_seconds":120},"job.etl.load":{"timeout_seconds":60,"max_retries":2},` +
		`"job.once":{"max_retries":0},"job.zero":{"timeout_seconds":0}},` +
		`"workflows":{"nightly":{"child_timeout_seconds":30,"total_timeout_seconds":3600,"max_retries":1},"other":{}},` +
		`"reconciler":{"dispatch_timeout_seconds":300,"running_timeout_seconds":600,"scan_interval_seconds":30,"pending_timeout_seconds":86400}}`
	if string(written) != want {
		t.Errorf("written\n %s\nwant\n %s", written, want)
	}
	if timeouts(t, string(written)).Hash() != timeouts(t, someTimeouts).Hash() {
		t.Error("what was written has another hash when it is read")
	}
	if timeouts(t, "").Hash() == timeouts(t, someTimeouts).Hash() {
		t.Error("two contents have one hash")
	}
}
