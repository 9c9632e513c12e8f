package artifact

import (
	"net/url"
	"strings"

	"github.com/cordum-serverless/cordum/shared/core/job"
	"github.com/cordum-serverless/cordum/shared/platform/ids"
)

const (
	scheme = "redis://"
	// collapsed is what is left of the scheme when something on the way has tidied a path.
	collapsed = "redis:/"
	kind      = "art"
)

// Pointer names an artifact to clients.
func Pointer(id string) string { return scheme + kind + ":" + id }

// ParsePointer reads redis://art:<id>, as it is, percent-encoded, however often, or with a slash less, art:<id>, or a bare UUID. It is Invalid when the
// text is none of them; an id that no artifact has is still an id.
func ParsePointer(text string) (id string, err error) {
	for strings.Contains(text, "%") { // no pointer has one of its own
		if text, err = url.PathUnescape(text); err != nil {
			return "", job.ErrPointer
		}
	}
	text = strings.TrimSpace(text)
	if id, ok := ids.ParseUUID(text); ok {
		return id, nil
	}
	name, whole := strings.CutPrefix(text, scheme)
	if !whole {
		name = strings.TrimPrefix(text, collapsed)
	}
	p, err := job.ParsePointerKey(name)
	if err != nil || p.Kind != kind {
		return "", job.ErrPointer
	}
	return p.ID, nil
}
