package rest

import (
	"bytes"
	"errors"
	"io"
	"net/http"

	"github.com/cordum-serverless/cordum/shared/core/fault"
	"github.com/cordum-serverless/cordum/shared/edge/routes"
)

var errTooLarge = fault.New(fault.TooLarge, "request body too large")

// body reads the body of a request, whatever its content type says. Where it may be left out, nothing and null are {}; where not, they are
// as bad as what is no JSON, which the codec finds.
func (s *server) body(r *http.Request, route *routes.Route) ([]byte, error) {
	if !route.Body {
		return nil, nil
	}
	text, err := readAll(r, s.cfg.MaxBody)
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

func readAll(r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, errTooLarge
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	var tooLarge *http.MaxBytesError
	switch {
	case int64(len(text)) > limit || errors.As(err, &tooLarge):
		return nil, errTooLarge
	case err != nil:
		return nil, fault.Wrap(fault.Invalid, err, "unreadable body")
	}
	return text, nil
}
