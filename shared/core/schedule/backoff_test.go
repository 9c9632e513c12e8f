package schedule_test

import (
	"testing"
	"time"

	"github.com/cordum-serverless/cordum/shared/core/schedule"
)

func TestBackoff(t *testing.T) {
	tests := []struct {
		name    string
		base    time.Duration
		attempt int
		limit   time.Duration
		jitter  float64
		want    time.Duration
	}{
		{"T099 store error", time.Second, 1, schedule.MaxBackoff, 0, time.Second},
		{"T099 lock contention", 500 * time.Millisecond, 1, schedule.MaxBackoff, 0, 500 * time.Millisecond},
		{"T099 publish error", 2 * time.Second, 1, schedule.MaxBackoff, 0, 2 * time.Second},
		{"no attempt yet", time.Second, 0, schedule.MaxBackoff, 0, time.Second},
		{"doubles", time.Second, 4, schedule.MaxBackoff, 0, 8 * time.Second},
		{"up to the limit", time.Second, 7, schedule.MaxBackoff, 0, time.Minute},
		{"and stays there", time.Second, 1 << 40, schedule.MaxBackoff, 0, time.Minute},
		{"a base above the limit", time.Hour, 1, schedule.MaxBackoff, 0, time.Minute},
		{"jitter shortens by up to half", 4 * time.Second, 1, schedule.MaxBackoff, 0.5, 3 * time.Second},
		{"at the limit too", time.Second, 100, schedule.MaxBackoff, 0.5, 45 * time.Second},
		{"no overflow", time.Hour, 1000, 1<<63 - 1, 0, 1<<63 - 1},
		{"no base", 0, 1 << 40, schedule.MaxBackoff, 0.5, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := schedule.Backoff(tt.base, tt.attempt, tt.limit, tt.jitter); got != tt.want {
				t.Errorf("Backoff = %v, want %v", got, tt.want)
			}
		})
	}
}
