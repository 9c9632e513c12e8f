package job_test

import (
	"strings"
	"testing"

	"github.com/cordum-serverless/cordum/shared/core/job"
)

// FuzzParsePointer: a pointer is written again as it was read.
func FuzzParsePointer(f *testing.F) {
	for _, seed := range []string{"redis://res:a", "redis://art:", "redis://:x", "redis://ctx:a:b/c", "http://res:a", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := job.ParsePointer(text)
		if err == nil && (p.Kind == "" || p.ID == "" || strings.Contains(p.Kind, ":") || "redis://"+p.Key() != text) {
			t.Errorf("%q: %+v", text, p)
		}
	})
}

// FuzzBounds: a cursor or a time filter of any form is a moment or nothing, and an upper bound is not below the lower one of the same text.
func FuzzBounds(f *testing.F) {
	for _, seed := range []string{"1700000000", "1700000000000", "1.7e15", "-1", "9223372036854775807", "1e400", "NaN", "0x10", " 7 ", "1e18"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		low, high := job.LowerBound(text), job.UpperBound(text)
		if low < 0 || high < low || (low == 0) != (high == 0) {
			t.Errorf("%q: from %d to %d", text, low, high)
		}
	})
}
