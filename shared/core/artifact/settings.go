package artifact

import (
	"strconv"
	"strings"
	"time"

	"github.com/cordum-serverless/cordum/shared/platform/blob"
	"github.com/cordum-serverless/cordum/shared/platform/resources"
)

// Retention is how long an artifact is kept, by the name of a class of objects.
type Retention string

// The retentions, from the shortest.
const (
	Short    Retention = "short"
	Standard Retention = "standard"
	Audit    Retention = "audit"
)

// known is the retention itself, or Standard for what is none.
func (r Retention) known() Retention {
	switch r = Retention(strings.ToLower(strings.TrimSpace(string(r)))); r {
	case Short, Audit:
		return r
	default:
		return Standard
	}
}

const (
	// MaxInline is the largest artifact whose bytes are in a request or an answer: they are in base64 there, and Lambda takes 6 MB.
	MaxInline = 4 << 20
	// defaultMaxContent is how large what is in a request may be where nothing says less.
	defaultMaxContent = 10 << 20
)

// Settings are what an operator decides about artifacts. The zero value has the defaults.
type Settings struct {
	// MaxContent is the largest artifact that comes in a request, MaxUpload the largest that a client uploads, in bytes; 0 is the default.
	MaxContent, MaxUpload int64
	// Keep is how long an artifact of a retention is kept; one that is not named is kept as long as the objects of its class.
	Keep map[Retention]time.Duration
}

// ReadSettings reads ARTIFACT_MAX_BYTES, ARTIFACT_MAX_UPLOAD_BYTES and ARTIFACT_TTL_SHORT, _STANDARD and _AUDIT. A value that is none, or not above
// zero, is as if it were not there.
func ReadSettings(getenv func(string) string) Settings {
	s := Settings{MaxContent: bytesOf(getenv("ARTIFACT_MAX_BYTES")), MaxUpload: bytesOf(getenv("ARTIFACT_MAX_UPLOAD_BYTES")), Keep: map[Retention]time.Duration{}}
	for _, r := range []Retention{Short, Standard, Audit} {
		if keep, err := time.ParseDuration(strings.TrimSpace(getenv("ARTIFACT_TTL_" + strings.ToUpper(string(r))))); err == nil && keep >= time.Second {
			s.Keep[r] = keep
		}
	}
	return s
}

// bytesOf reads a number of bytes; 0 for what is no positive one.
func bytesOf(text string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func (s Settings) maxContent() int64 { return lower(defaultMaxContent, s.MaxContent) }

func (s Settings) maxUpload() int64 { return lower(blob.MaxInline, s.MaxUpload) }

// lower answers a limit, lowered by another one; 0 does not.
func lower(limit, by int64) int64 {
	if by > 0 {
		return min(limit, by)
	}
	return limit
}

// keep answers how long an artifact is kept, and the class that its bytes have: the shortest that keeps them so long. Nothing is kept longer than the
// longest of the classes keeps it.
func (s Settings) keep(r Retention) (time.Duration, string) {
	longest := resources.Classes[len(resources.Classes)-1]
	wanted := s.Keep[r]
	for _, c := range resources.Classes {
		if c.Name == string(r) && wanted == 0 {
			wanted = c.Keep
		}
	}
	for _, c := range resources.Classes {
		if wanted <= c.Keep {
			return wanted, c.Name
		}
	}
	return longest.Keep, longest.Name
}
