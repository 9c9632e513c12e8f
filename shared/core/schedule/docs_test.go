package schedule_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/schedule"
)

// The examples of docs/scheduling.md are what they say they are.
func TestGuide(t *testing.T) {
	guide, err := os.ReadFile("../../../docs/scheduling.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```(?:yaml|json)\n(.*?)```").FindAllStringSubmatch(string(guide), -1)
	if len(blocks) != 3 {
		t.Fatalf("%d examples, want pools, timeouts and limits", len(blocks))
	}
	for _, b := range blocks {
		text := b[1]
		switch {
		case strings.HasPrefix(text, "# pools.yaml"):
			got, err := topology(t, text).Eligible(job("job.code", nil, "gpu"))
			if err != nil || len(got) != 1 || got[0] != "code-gpu" {
				t.Errorf("pools: %v, %v", got, err)
			}
		case strings.HasPrefix(text, "# timeouts.yaml"):
			if n, ok := timeouts(t, text).MaxRetries("job.code"); n != 2 || !ok {
				t.Errorf("timeouts: %d retries", n)
			}
		default:
			want := schedule.Limits{MaxConcurrentJobs: 50, QueueSize: 200, MaxConcurrentRuns: 5}
			if got := settings(t, text, nil).Limits; got != want {
				t.Errorf("limits: %+v, want %+v", got, want)
			}
		}
	}
}
