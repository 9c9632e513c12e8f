package rest

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"net/http"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
)

// body reads the body of a request, whatever its content type says. Where it may be left out, nothing and null are {}; where not, they are
// as bad as what is no JSON, which the codec finds.
func (s *server) body(r *http.Request, route *routes.Route) ([]byte, error) {
	if !route.Body {
		return nil, nil
	}
	text, err := readAll(r, cmp.Or(route.Rule.MaxBody, s.cfg.MaxBody))
	if errors.Is(err, errLarge) {
		return nil, fault.New(fault.TooLarge, "%s", route.Rule.LargeBody)
	}
	if err != nil {
		return nil, err
	}
	text = bytes.TrimSpace(text)
	if len(text) > 0 && string(text) != "null" {
		return text, nil
	}
	if route.Rule.BodyRequired {
		return nil, badBody(route)
	}
	return []byte("{}"), nil
}

// badBody is the refusal of a body that is no such message.
func badBody(route *routes.Route) error { return fault.New(fault.Invalid, "%s", route.Rule.BadBody) }

// errLarge stands for a body over the limit until the route has its word for it.
var errLarge = errors.New("rest: the body is too large")

func readAll(r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, errLarge
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	var tooLarge *http.MaxBytesError
	switch {
	case int64(len(text)) > limit || errors.As(err, &tooLarge):
		return nil, errLarge
	case err != nil:
		return nil, fault.Wrap(fault.Invalid, err, "unreadable body")
	}
	return text, nil
}
