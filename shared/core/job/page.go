package job

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// The units that a client's time filter may have; the magnitude of the number tells which.
const (
	secondsBelow = 1e12
	millisBelow  = 1e15
	microsBelow  = 1e18
)

// LowerBound reads a lower bound in seconds, milliseconds, microseconds or nanoseconds and answers microseconds, the start of that unit.
// What is not a positive number is 0: no bound.
func LowerBound(text string) int64 {
	n, ok := number(text)
	switch {
	case !ok:
		return 0
	case n < secondsBelow:
		return n * 1e6
	case n < millisBelow:
		return n * 1e3
	case n < microsBelow:
		return n
	default:
		return n / 1e3
	}
}

// UpperBound reads an upper bound, or a cursor, likewise; seconds and milliseconds reach to their end.
func UpperBound(text string) int64 {
	n, ok := number(text)
	low := LowerBound(text)
	switch {
	case !ok:
		return 0
	case n < secondsBelow:
		return low + time.Second.Microseconds() - 1
	case n < millisBelow:
		return low + time.Millisecond.Microseconds() - 1
	default:
		return low
	}
}

// number reads a positive whole number; a client may send the float that it got as JSON.
func number(text string) (int64, bool) {
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, n > 0
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || f < 1 || f > math.MaxInt64/2 {
		return 0, false
	}
	return int64(f), true
}

// Limit reads the size of a page: what is not a positive number is the default, and no page is larger than 500.
func Limit(text string, otherwise int) int {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || n <= 0 {
		return otherwise
	}
	return min(n, MaxPage)
}

// MaxPage is the largest page of any list.
const MaxPage = 500
