package schedule_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/schedule"
)

const document = `{
 "pools":{"topics":{"job.etl.load":"etl"},"pools":{"etl":{"requires":["docker"]}}},
 "timeouts":{"reconciler":{"dispatch_timeout_seconds":200},"topics":{"job.etl.load":{"timeout_seconds":60,"max_retries":2}}},
 "limits":{"max_concurrent_runs":5},"rate_limits":{"concurrent_jobs":7,"queue_size":3,"requests_per_minute":100},
 "placement":{"labels":["rack"]},"safety":{"denied_topics":["x"]}}`

func settings(t *testing.T, data string, previous *schedule.Settings) *schedule.Settings {
	t.Helper()
	s, problems := schedule.ParseSettings([]byte(data), previous)
	if len(problems) != 0 {
		t.Fatalf("ParseSettings: %v", problems)
	}
	return s
}

func poolOf(t *testing.T, s *schedule.Settings, topic string) string {
	t.Helper()
	r, err := s.Topology.Route(job(topic, nil), fleet())
	if err != nil {
		return ""
	}
	return r.Pool
}

func TestParseSettings(t *testing.T) {
	s := settings(t, document, nil)
	if got := poolOf(t, s, "job.etl.load"); got != "etl" {
		t.Errorf("pool = %q", got)
	}
	if s.Timeouts.Dispatch() != 200*time.Second || s.Timeouts.Running("job.etl.load") != time.Minute {
		t.Errorf("dispatch %v, running %v", s.Timeouts.Dispatch(), s.Timeouts.Running("job.etl.load"))
	}
	if want := (schedule.Limits{MaxConcurrentJobs: 7, QueueSize: 3, MaxConcurrentRuns: 5}); s.Limits != want {
		t.Errorf("limits = %+v, want %+v", s.Limits, want)
	}
	if !slices.Equal(s.Placement, schedule.Placement{"rack"}) {
		t.Errorf("placement = %v", s.Placement)
	}
}

func TestParseSettings_WhatIsMissingHasItsDefault(t *testing.T) {
	full := settings(t, document, nil)
	for _, data := range []string{`{}`, `null`, `{"pools":null,"timeouts":null,"limits":null,"rate_limits":null,"placement":null}`} {
		s := settings(t, data, full)
		if got := poolOf(t, s, "job.etl.load"); got != "" {
			t.Errorf("%s: pool = %q, want no routing", data, got)
		}
		wantDefaults(t, s.Timeouts)
		if s.Limits != (schedule.Limits{}) || !slices.Equal(s.Placement, schedule.DefaultPlacement) {
			t.Errorf("%s: limits %+v, placement %v", data, s.Limits, s.Placement)
		}
	}
}

func TestParseSettings_NoTopicsLeftIsNoRouting(t *testing.T) {
	s := settings(t, `{"pools":{"topics":{},"pools":{"etl":{}}}}`, settings(t, document, nil))
	if got := poolOf(t, s, "job.etl.load"); got != "" {
		t.Errorf("pool = %q, want none", got)
	}
	if got := s.Topology.Pools(); !slices.Equal(got, []string{"etl"}) {
		t.Errorf("Pools = %v", got)
	}
}

func TestT098_AnInvalidSectionKeepsThePreviousOne(t *testing.T) {
	previous := settings(t, document, nil)
	tests := []struct {
		name, data string
		want       []string // the beginnings of the problems
		pool       string   // of job.etl.load
		dispatch   time.Duration
		limits     int // concurrent jobs
		placement  string
	}{
		{"pools", `{"pools":{"topics":{"job.etl.load":""}},"limits":{"max_concurrent_jobs":1}}`,
			[]string{`pools: topics["job.etl.load"]: pool name ""`}, "etl", 300 * time.Second, 1, "arch"},
		{"timeouts", `{"pools":{"topics":{"job.etl.load":"b"}},"timeouts":{"reconciler":{"running_timeout_seconds":-1}}}`,
			[]string{`timeouts: reconciler.running_timeout_seconds: must not be negative`}, "b", 200 * time.Second, 0, "arch"},
		{"limits", `{"limits":[1]}`, []string{"limits: limits: must be an object"}, "", 300 * time.Second, 7, "arch"},
		{"rate limits", `{"rate_limits":5}`, []string{"limits: rate_limits: must be an object"}, "", 300 * time.Second, 7, "arch"},
		{"placement", `{"placement":{"label":[]}}`, []string{"placement: label: unknown key"}, "", 300 * time.Second, 0, "rack"},
		{"all", `{"pools":7,"timeouts":"x","limits":false,"placement":[]}`,
			[]string{"pools: must be", "timeouts: must be", "limits: limits: must be", "placement: must be"}, "etl", 200 * time.Second, 7, "rack"},
		{"the document", `[]`, []string{"system/default: data is not a JSON object"}, "etl", 200 * time.Second, 7, "rack"},
		{"no document", ``, []string{"system/default: data is not a JSON object"}, "etl", 200 * time.Second, 7, "rack"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, problems := schedule.ParseSettings([]byte(tt.data), previous)
			if len(problems) != len(tt.want) {
				t.Fatalf("problems = %v, want %d", problems, len(tt.want))
			}
			for i, p := range problems {
				if !strings.HasPrefix(p.Error(), tt.want[i]) {
					t.Errorf("problem %d = %v, want %s", i, p, tt.want[i])
				}
			}
			if got := poolOf(t, s, "job.etl.load"); got != tt.pool {
				t.Errorf("pool = %q, want %q", got, tt.pool)
			}
			if s.Timeouts.Dispatch() != tt.dispatch || s.Limits.MaxConcurrentJobs != tt.limits || s.Placement[0] != tt.placement {
				t.Errorf("dispatch %v, limits %+v, placement %v", s.Timeouts.Dispatch(), s.Limits, s.Placement)
			}
		})
	}
}

// What is wrong with an entry of timeouts concerns that entry alone.
func TestParseSettings_AnEntryIsPassedOver(t *testing.T) {
	s, problems := schedule.ParseSettings([]byte(`{"timeouts":{"reconciler":{"dispatch_timeout_seconds":9},
		"topics":{"job.a":60,"job.[":{},"job.b":{"timeout_seconds":70}},"workflows":{"":{},"w":{"total":1},"v":-1,"u":5}}}`), nil)
	var got []string
	for _, p := range problems {
		got = append(got, p.Error())
		if !errors.As(p, new(schedule.Entry)) {
			t.Errorf("%v is no Entry", p)
		}
	}
	want := []string{
		`timeouts: topics["job.["]: not a valid glob`,
		`timeouts: topics["job.a"]: must be an object`,
		`timeouts: workflows[""]: a name is not empty and has no surrounding space`,
		`timeouts: workflows["v"]: must not be negative`,
		`timeouts: workflows["w"].total: unknown key; known here: child_timeout_seconds, total_timeout_seconds, max_retries`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("problems\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(schedule.Refused(problems)) != 0 {
		t.Errorf("refused: %v", schedule.Refused(problems))
	}
	if s.Timeouts.Dispatch() != 9*time.Second || s.Timeouts.Running("job.b") != 70*time.Second || s.Timeouts.Running("job.a") != 900*time.Second {
		t.Errorf("dispatch %v, job.b %v, job.a %v", s.Timeouts.Dispatch(), s.Timeouts.Running("job.b"), s.Timeouts.Running("job.a"))
	}
}

func TestParseSettings_InvalidFromTheStart(t *testing.T) {
	s, problems := schedule.ParseSettings([]byte(`{"pools":{"topics":[]},"timeouts":{"x":1}}`), nil)
	if len(problems) != 2 || poolOf(t, s, "job.x") != "" {
		t.Errorf("problems %v", problems)
	}
	wantDefaults(t, s.Timeouts)
}

func TestT097_WhatIsWrittenToTheDocumentIsRead(t *testing.T) {
	before := settings(t, document, nil)
	pools, err := before.Topology.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	times, err := before.Timeouts.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	after := settings(t, `{"pools":`+string(pools)+`,"timeouts":`+string(times)+`}`, nil)
	if after.Topology.Hash() != before.Topology.Hash() || after.Timeouts.Hash() != before.Timeouts.Hash() {
		t.Errorf("read again: %s %s", pools, times)
	}
}

func TestParseLimits(t *testing.T) {
	tests := []struct {
		name, data string
		want       schedule.Limits
	}{
		{"limits come before rate limits",
			`{"limits":{"max_concurrent_jobs":4,"max_concurrent_runs":2},"rate_limits":{"concurrent_jobs":9,"concurrent_workflows":8}}`,
			schedule.Limits{MaxConcurrentJobs: 4, MaxConcurrentRuns: 2}},
		{"rate limits alone", `{"rate_limits":{"concurrent_jobs":9,"concurrent_workflows":8,"queue_size":1}}`,
			schedule.Limits{MaxConcurrentJobs: 9, QueueSize: 1, MaxConcurrentRuns: 8}},
		{"numbers as text, and with a fraction", `{"limits":{"max_concurrent_jobs":" 4 ","max_concurrent_runs":2.0}}`,
			schedule.Limits{MaxConcurrentJobs: 4, MaxConcurrentRuns: 2}},
		{"what is no positive number is no limit",
			`{"limits":{"max_concurrent_jobs":"many","max_concurrent_runs":-1},"rate_limits":{"queue_size":true}}`, schedule.Limits{}},
		{"a huge number", `{"limits":{"max_concurrent_jobs":1e300}}`, schedule.Limits{MaxConcurrentJobs: 1<<31 - 1}},
		{"nothing", `{}`, schedule.Limits{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := schedule.ParseLimits([]byte(tt.data)); err != nil || got != tt.want {
				t.Errorf("ParseLimits = %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestLimits_Full(t *testing.T) {
	l := schedule.Limits{MaxConcurrentJobs: 4, QueueSize: 2, MaxConcurrentRuns: 1}
	if l.JobsFull(5) || !l.JobsFull(6) || l.RunsFull(0) || !l.RunsFull(1) {
		t.Error("4 jobs and a queue of 2 are full at 6, 1 run at 1")
	}
	var none schedule.Limits
	if none.JobsFull(1<<30) || none.RunsFull(1<<30) {
		t.Error("no limit is never reached")
	}
}

func TestLastValid(t *testing.T) {
	tests := []struct{ name, raw, before, want string }{
		{"what is valid", `{"pools":{"topics":{"job.x":"a"}},"limits":{"max_concurrent_jobs":1},"safety":{}}`, `{}`,
			`{"limits":{"max_concurrent_jobs":1},"pools":{"topics":{"job.x":"a"}}}`},
		{"a member that is not", `{"pools":{"topics":[]},"timeouts":{"reconciler":{"dispatch_timeout_seconds":9}}}`,
			`{"pools":{"topics":{"job.x":"a"}},"timeouts":{}}`,
			`{"pools":{"topics":{"job.x":"a"}},"timeouts":{"reconciler":{"dispatch_timeout_seconds":9}}}`},
		{"one of two that are read together", `{"limits":[],"rate_limits":{"queue_size":2}}`, `{"limits":{"max_concurrent_jobs":1},"rate_limits":{}}`,
			`{"limits":{"max_concurrent_jobs":1},"rate_limits":{"queue_size":2}}`},
		{"a member that was taken away", `{}`, `{"pools":{"topics":{"job.x":"a"}}}`, `{}`},
		{"an entry that is not", `{"timeouts":{"topics":{"job.a":60}}}`, `{"timeouts":{}}`, `{"timeouts":{"topics":{"job.a":60}}}`},
		{"one that never was valid", `{"timeouts":7}`, `{}`, `{}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := schedule.LastValid([]byte(tt.raw), []byte(tt.before))
			if err != nil || string(got) != tt.want {
				t.Errorf("LastValid = %s, %v; want %s", got, err, tt.want)
			}
		})
	}
	if _, err := schedule.LastValid([]byte("[]"), []byte("{}")); err == nil {
		t.Error("a list was taken for a document")
	}
}
