package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestCrash is the trial in short: the real program, killed three times.
func TestCrash(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it kills processes for some ten seconds; `make test` runs it")
	}
	program := filepath.Join(t.TempDir(), "cordum-local")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), program, "crash", "--rounds", "3", "--brief", "--settle", "20s").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "the plane kept what it acknowledged") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("\n%s", out)
}

// sound are facts in which nothing is wrong, one job for each way to end.
func sound() *facts {
	readings := map[string]reading{
		"well":      {State: "SUCCEEDED", UpdatedAt: 1, Key: "k", Result: json.RawMessage(`{"digest": "d1"}`)},
		"badly":     {State: "FAILED", Code: "on_purpose", UpdatedAt: 2},
		"deleted":   {State: "FAILED", Code: "on_purpose", UpdatedAt: 3},
		"retried":   {State: "FAILED", Code: "worker_lost", UpdatedAt: 4},
		"late":      {State: "TIMEOUT", Code: "deadline_exceeded", UpdatedAt: 5},
		"cancelled": {State: "CANCELLED", UpdatedAt: 6},
		"denied":    {State: "DENIED", Code: "safety_denied", UpdatedAt: 7},
		"retried-retry-1": {
			State: "SUCCEEDED", UpdatedAt: 8, Result: json.RawMessage(`{"digest": "d2"}`),
		},
		"unanswered": {State: "SUCCEEDED", UpdatedAt: 9},
	}
	f := &facts{
		submits: []submitted{
			{"well", order{key: "k", ends: endsWell, want: `"digest":"d1"`}},
			{"well", order{key: "k", ends: endsWell, want: `"digest":"d1"`}},
			{"badly", order{ends: endsBadly}},
			{"deleted", order{ends: endsBadly}},
			{"retried", order{ends: endsWell, want: `"digest":"d2"`}},
			{"late", order{ends: endsWell, deadline: true}},
			{"cancelled", order{ends: endsWell}},
			{"denied", order{ends: endsDenied}},
			{"retried-retry-1", order{ends: endsWell, want: `"digest":"d2"`}},
		},
		told:       []ending{{"denied", "DENIED", "the answer"}, {"well", "SUCCEEDED", "a live event"}},
		results:    []ending{{"well", "SUCCEEDED", "w"}, {"badly", "FAILED", "w"}},
		cancels:    []ending{{"cancelled", "CANCELLED", "c"}, {"badly", "FAILED", "c"}},
		removed:    []removal{{"deleted", ""}, {"retried", "retried-retry-1"}},
		cancelling: map[string]bool{"cancelled": true, "badly": true},
		removing:   map[string]bool{"deleted": true, "retried": true},
		first:      map[string]reading{}, second: map[string]reading{},
		letters: []letter{{"badly", "JOB_STATUS_FAILED"}, {"late", "JOB_STATUS_TIMEOUT"}, {"denied", "JOB_STATUS_DENIED"}},
	}
	for id, r := range readings {
		f.first[id], f.second[id] = r, r
		f.listed = append(f.listed, listed{ID: id, State: r.State, Key: r.Key})
	}
	return f
}

// set changes what the second reading says of a job.
func (f *facts) set(id string, change func(*reading)) {
	r := f.second[id]
	change(&r)
	f.second[id] = r
}

// TestJudge makes up one wrong after another. Each must be found under its rule, and every rule must be able to find something.
func TestJudge(t *testing.T) {
	cases := []struct {
		name, rule, job string
		spoil           func(*facts)
	}{
		{"lost job", "what was acknowledged exists", "badly", func(f *facts) { delete(f.first, "badly"); delete(f.second, "badly") }},
		{"job that vanishes later", "what was acknowledged exists", "badly", func(f *facts) { delete(f.second, "badly") }},
		{"job that never ends", "every job has ended", "unanswered", func(f *facts) {
			f.first["unanswered"] = reading{State: "RUNNING"}
			f.set("unanswered", func(r *reading) { r.State = "RUNNING" })
		}},
		{"job that ends twice", "an end stays as it is", "unanswered", func(f *facts) {
			f.first["unanswered"] = reading{State: "FAILED", Code: "worker_lost", UpdatedAt: 9}
		}},
		{"job that ends twice in the same way", "an end stays as it is", "badly", func(f *facts) {
			f.set("badly", func(r *reading) { r.UpdatedAt++ })
		}},
		{"job that ended otherwise before", "an end that somebody was told of holds", "unanswered", func(f *facts) {
			f.told = append(f.told, ending{"unanswered", "TIMEOUT", "a live event"})
		}},
		{"lost result", "an acknowledged result holds", "late", func(f *facts) {
			f.results = append(f.results, ending{"late", "SUCCEEDED", "w"})
		}},
		{"undone cancel", "an acknowledged cancel holds", "well", func(f *facts) {
			f.cancels = append(f.cancels, ending{"well", "CANCELLED", "c"})
		}},
		{"cancel without effect", "an acknowledged cancel holds", "unanswered", func(f *facts) {
			f.cancels = append(f.cancels, ending{"unanswered", "RUNNING", "c"})
		}},
		{"failure from nowhere", "a job ends in a way that it may", "badly", func(f *facts) {
			f.set("badly", func(r *reading) { r.Code = "store_failed" })
		}},
		{"timeout without a deadline", "a job ends in a way that it may", "late", func(f *facts) { f.submits[5].deadline = false }},
		{"cancel that nobody asked for", "a job ends in a way that it may", "cancelled", func(f *facts) { delete(f.cancelling, "cancelled") }},
		{"success without a result", "a success has its result", "well", func(f *facts) { f.set("well", func(r *reading) { r.Result = nil }) }},
		{"result of another job", "a success has its result", "well", func(f *facts) {
			f.set("well", func(r *reading) { r.Result = json.RawMessage(`{"digest":"d2"}`) })
		}},
		{"lost dead letter", "what failed has a dead letter, what succeeded none", "late", func(f *facts) {
			f.letters = slices.Delete(f.letters, 1, 2)
		}},
		{"dead letter of a success", "what failed has a dead letter, what succeeded none", "well", func(f *facts) {
			f.letters = append(f.letters, letter{JobID: "well"})
		}},
		{"resurrected dead letter", "a dead letter that was removed stays away", "deleted", func(f *facts) {
			f.letters = append(f.letters, letter{JobID: "deleted"})
		}},
		{"dead letter that outlives its retry", "a dead letter that was removed stays away", "retried", func(f *facts) {
			f.letters = append(f.letters, letter{JobID: "retried"})
		}},
		{"dead letter retried twice", "a dead letter is retried once", "retried", func(f *facts) {
			f.removed = append(f.removed, removal{"retried", "retried-retry-2"})
		}},
		{"dead letter retried twice, unanswered", "a dead letter is retried once", "retried", func(f *facts) {
			f.listed = append(f.listed, listed{ID: "retried-retry-2"})
		}},
		{"key with two jobs", "a key is one job", "unanswered", func(f *facts) {
			f.submits = append(f.submits, submitted{"unanswered", order{key: "k"}})
			f.set("unanswered", func(r *reading) { r.Key = "k" })
		}},
		{"key with two jobs, one unanswered", "a key is one job", "unanswered", func(f *facts) {
			f.listed = append(f.listed, listed{ID: "unanswered", Key: "k"})
		}},
		{"job that forgot its key", "a key is one job", "well", func(f *facts) { f.set("well", func(r *reading) { r.Key = "" }) }},
		{"job in no list", "a job is listed once, as it is", "badly", func(f *facts) {
			f.listed = slices.DeleteFunc(f.listed, func(l listed) bool { return l.ID == "badly" })
		}},
		{"job twice in a list", "a job is listed once, as it is", "badly", func(f *facts) {
			f.listed = append(f.listed, listed{ID: "badly", State: "FAILED"})
		}},
		{"job listed in an old state", "a job is listed once, as it is", "late", func(f *facts) {
			for i, l := range f.listed {
				if l.ID == "late" {
					f.listed[i].State = "SCHEDULED"
				}
			}
		}},
		{"two dead letters of a job", "a job is listed once, as it is", "late", func(f *facts) {
			f.letters = append(f.letters, letter{JobID: "late"})
		}},
	}
	for _, v := range judge(sound()) {
		if len(v.violations) > 0 || v.looked == 0 {
			t.Errorf("sound facts: rule %q looked at %d and says %v", v.rule, v.looked, v.violations)
		}
	}
	found := map[string]bool{}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := sound()
			c.spoil(f)
			for _, v := range judge(f) {
				if v.rule == c.rule && slices.ContainsFunc(v.violations, func(x violation) bool { return x.job == c.job }) {
					found[c.rule] = true
					return
				}
			}
			t.Errorf("not found under %q of job %s: %v", c.rule, c.job, judge(f))
		})
	}
	for _, r := range rules {
		if !found[r.name] {
			t.Errorf("rule %q has found nothing", r.name)
		}
	}
}
