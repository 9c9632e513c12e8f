package schedule_test

import (
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/schedule"
)

// FuzzParseTimeouts: YAML of timeouts is read or refused, and no time of them is nothing or less.
func FuzzParseTimeouts(f *testing.F) {
	for _, seed := range []string{"topics:\n  job.a: { timeout_seconds: 60, max_retries: 0 }\n", "topics: []", "a: &a [*a]", "workflows: {x: {}}", "reconciler: {}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := schedule.ParseTimeouts(text)
		if n, _ := got.MaxRetries("job.a"); n < 0 || got.Dispatch() <= 0 || got.Running("job.a") <= 0 || got.Scan() <= 0 || got.Pending() <= 0 {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	})
}
